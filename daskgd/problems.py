"""The objective over rows, and the rows themselves as a query sees them.

:class:`Problem` joins a loss, a model and a penalty into

    f(w) = (1 / W) sum_i s_i loss(z_i(w), y_i) + penalty(w),    W = sum_i s_i,

and turns stored labels into the targets of the loss. :class:`Rows` is a run of rows in memory, a block or a
whole partition; :class:`Tile` a cache-sized run of it, ready for kernels. Nothing here knows where rows come
from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.losses import Loss
from daskgd.models import Linear, Model
from daskgd.penalties import Penalty

Array = NDArray[Any]

TILE_BYTES = 1 << 20
"""Bytes of X in one tile: small enough for the second-level cache, large enough to keep the
interpreter out of the way (in steps of two from 256 KB to 8 MB it was the fastest)."""


def compute_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which kernels run: float32 and float64 as they are; what float32 holds exactly
    (float16, integers of up to 16 bits, bool) in float32; everything else in float64.

    >>> compute_dtype(np.dtype("uint8")), compute_dtype(np.dtype("int64"))
    (dtype('float32'), dtype('float64'))
    """
    small = dtype.kind in "fiub" and (dtype.itemsize <= 2 or dtype == np.float32)
    return np.dtype(np.float32 if small else np.float64)


def tile_rows(n_features: int, dtype: np.dtype[Any]) -> int:
    """Rows per tile: a function of the width and dtype of X only, so that bits depend on nothing else."""
    return max(16, TILE_BYTES // (max(n_features, 1) * compute_dtype(dtype).itemsize))


@dataclass(frozen=True, slots=True)
class Shape:
    """What is known of a dataset before it is read.

    Attributes
    ----------
    n_rows, n_features : int
    itemsize : int
        Bytes of a number of X, as stored.
    classification : bool
        Whether the targets are labels.
    """

    n_rows: int
    n_features: int
    itemsize: int = 8
    classification: bool = False

    @property
    def row_bytes(self) -> int:
        return max(self.n_features * self.itemsize, 1)


@dataclass(frozen=True, slots=True)
class Problem:
    """One objective.

    Attributes
    ----------
    loss, model, penalty :
        The three parts.
    labels : (k,) or None
        For classification: the stored labels in sorted order; a label's position is its code.
    class_weight : (k,) or None
        Factor on the weight of the rows of each class.
    offset : (k,) or None
        For regression: taken from the targets in float64, before they take the dtype of X; intercepts
        are relative to it. Targets far from 0 keep the digits that tell them apart.
    """

    loss: Loss
    model: Model
    penalty: Penalty
    labels: Array | None = None
    class_weight: Array | None = None
    offset: Array | None = None

    @property
    def linear(self) -> Linear:
        """The model, where it is linear; solvers that need that have said so."""
        assert isinstance(self.model, Linear)
        return self.model

    def looks_alike(self, other: Problem) -> bool:
        """Whether both make the same targets and weights of the rows, for the same loss."""
        same = (
            np.array_equal(getattr(self, name), getattr(other, name))
            if getattr(self, name) is not None and getattr(other, name) is not None
            else getattr(self, name) is getattr(other, name)
            for name in ("labels", "class_weight", "offset")
        )
        return self.loss == other.loss and self.model.outputs == other.model.outputs and all(same)

    def codes(self, y: Array, numbers: int | Array = 0) -> Array:
        """Stored labels to codes 0..k-1; ValueError for one that is not among `labels`, with its row.

        `numbers` as those of a :class:`Tile`.
        """
        labels = self.labels
        assert labels is not None
        y = y.reshape(len(y))
        if len(labels) == 2:
            hit = y == labels[1]
            out = hit.view(np.int8)
            known = np.count_nonzero(hit) + np.count_nonzero(y == labels[0]) == len(y)
        elif labels.dtype.kind in "iu" and np.array_equal(labels, np.arange(len(labels))):
            out = y.astype(np.intp)
            known = not len(out) or bool(out.min() >= 0 and out.max() < len(labels))
        else:
            out = np.minimum(np.searchsorted(labels, y), len(labels) - 1)
            known = bool((labels[out] == y).all())
        if not known:
            i = int(np.argmin(np.isin(y, labels)))
            row = numbers[i] if isinstance(numbers, np.ndarray) else numbers + i
            raise ValueError(
                f"y: expected labels among {labels.tolist()[:20]}, as the first sweep found them, got "
                f"{y[i : i + 1].tolist()[0]!r} in row {row}; the data must not change while it is fitted"
            )
        return out

    def output(self, j: int, rows: Rows) -> tuple[Problem, Rows]:
        """Output j as a problem of its own, and rows that suit it; for losses whose outputs are separate."""
        at = np.arange(self.model.size).reshape(-1, self.model.outputs)[:, j]
        model, penalty = replace(self.linear, outputs=1), self.penalty.take(at)
        y, s = rows.y, rows.sample_weight
        assert y is not None
        if self.labels is None:
            offset = None if self.offset is None else self.offset[j : j + 1]
            return replace(self, model=model, penalty=penalty, offset=offset), replace(rows, y=y[:, j])
        codes = self.codes(y, rows.start if rows.kept is None else rows.kept)
        if self.class_weight is not None:
            c = self.class_weight[codes]
            s = c if s is None else s * c
        one = Problem(self.loss, model, penalty, np.array([0, 1]))
        return one, replace(rows, y=(codes == j).astype(np.int8), sample_weight=s)

    def penalty_value(self, w: Array) -> float:
        """The penalty of the parameters, intercepts left out."""
        return self.penalty.value(np.where(self.model.penalised, w, 0.0))

    def penalty_gradient(self, w: Array) -> Array:
        """The gradient of its smooth part, ``(d,)``, zero at intercepts."""
        mask = self.model.penalised
        return np.where(mask, self.penalty.gradient(np.where(mask, w, 0.0)), 0.0)

    def penalty_curve(self, w: Array) -> Array:
        """The diagonal of its Hessian, ``(d,)``, zero at intercepts."""
        mask = self.model.penalised
        return np.where(mask, self.penalty.curve(np.where(mask, w, 0.0)), 0.0)

    def penalty_l1(self, w: Array) -> Array:
        """The strength of ``|w_j|`` in it, ``(d,)``, zero at intercepts."""
        mask = self.model.penalised
        return np.where(mask, self.penalty.l1(np.where(mask, w, 0.0)), 0.0)

    def bends(self, mean: Array, variance: Array, shares: Array | None = None) -> Array | None:
        """Most that the objective's slope along each parameter rises for one unit of it ``(d,)``, kinks of
        the penalty left out; None where the loss has no such bound, or the model is not just linear.

        That is the loss's own bound times the mean square of what the parameter multiplies, from the `mean`
        and `variance` of the features ``(p,)``, and the penalty's curvature. `shares` ``(k,)`` are those of
        the classes in the total weight, for class weights.
        """
        model = self.model
        if type(model) is not Linear or not np.isfinite(self.loss.bend):
            return None
        squares = variance + (mean - (0.0 if model.center is None else model.center)) ** 2
        if model.scale is not None:
            squares = squares / model.scale**2
        each = np.append(squares, 1.0) if model.intercept else squares
        most = self.loss.bend
        if self.class_weight is not None and shares is not None:
            most *= float(self.class_weight.max() / (self.class_weight @ shares))
        bend = most * np.repeat(each, model.outputs)
        return bend + self.penalty_curve(np.zeros(model.size))

    @property
    def positive(self) -> Array:
        """``(d,)`` of bool: which parameters must not be negative."""
        return self.model.penalised & self.penalty.positive


@dataclass(slots=True)
class Tile:
    """Some rows, ready for kernels.

    Attributes
    ----------
    X : (n, p)
        In the compute dtype, C-contiguous and aligned.
    y : (n,) or (n, k), or None
        As stored.
    sample_weight : (n,) or None
        float64; None where all weigh 1.
    numbers : int or (n,)
        Number of the first row within its dataset, or of each where a selection leaves some out.
    """

    X: Array
    y: Array | None
    sample_weight: Array | None
    numbers: int | Array
    _known: dict[int, tuple[Problem, Array, Array | None]] = field(default_factory=dict, repr=False)
    _labels: tuple[Array, Array] | None = field(default=None, repr=False)
    _designs: list[tuple[Linear, Array]] = field(default_factory=list, repr=False)

    @property
    def labels(self) -> tuple[Array, Array]:
        """Distinct targets, sorted, and the position of each row's among them; found once per tile."""
        if self._labels is None:
            assert self.y is not None
            y = self.y.reshape(len(self.y))
            try:
                self._labels = distinct(y)
            except TypeError:  # they cannot be sorted
                raise ValueError(self._unlike(y)) from None
        return self._labels

    def _unlike(self, y: Array) -> str:
        """What is wrong with labels that cannot be sorted, and where."""
        types = [type(v).__name__ for v in y]
        i = next((i for i, name in enumerate(types) if name != types[0]), 0)
        at = self.numbers if isinstance(self.numbers, np.ndarray) else self.numbers + np.arange(len(y))
        return (
            f"y: expected labels of one type that can be sorted, got {types[0]} in row {at[0]} and "
            f"{types[i]} in row {at[i]}; drop rows without a label, and convert others, as in y.astype(str)"
        )

    def targets(self, problem: Problem) -> tuple[Array, Array | None]:
        """Targets for the loss, and float64 weights or None; made once per tile and problem."""
        known = self._known.get(id(problem))
        if known is None:
            known = (problem, *self._make_targets(problem))
            self._known[id(problem)] = known
        return known[1], known[2]

    def design(self, model: Linear) -> Array:
        """The model's :meth:`~daskgd.models.Linear.design` of these rows; made once per tile, for all models
        that have the same. Not to be written to."""
        for known, A in self._designs:
            if known.designs_alike(model):
                return A
        A = model.design(self.X)
        self._designs.append((model, A))
        return A

    def _make_targets(self, problem: Problem) -> tuple[Array, Array | None]:
        assert self.y is not None
        s = self.sample_weight
        y = self.y
        if problem.labels is not None:
            y = problem.codes(y, self.numbers)
            if problem.class_weight is not None:
                c = problem.class_weight[y]
                s = c if s is None else s * c
        elif problem.offset is not None:
            y = y.reshape(len(y), len(problem.offset)) - problem.offset
        return problem.loss.targets(y, problem.model.outputs, self.X.dtype), s


def distinct(y: Array) -> tuple[Array, Array]:
    """Distinct values of y ``(n,)``, sorted, and the position ``(n,)`` of each among them: without sorting
    where they are few whole numbers.

    >>> distinct(np.array([7, 5, 7]))
    (array([5, 7]), array([1, 0, 1]))
    """
    if y.dtype.kind in "iu" and len(y):
        low, high = int(y.min()), int(y.max())
        if high - low < len(y) and high < 2**63:
            at = y.astype(np.intp)
            at -= low
            found = np.flatnonzero(np.bincount(at))
            if len(found) <= high - low:
                place = np.zeros(high - low + 1, dtype=np.intp)
                place[found] = np.arange(len(found))
                at = place[at]
            return (found + low).astype(y.dtype), at
    return np.unique(y, return_inverse=True)


def prepare(X: Array, dtype: np.dtype[Any] | None = None) -> Array:
    """X in the compute dtype, C-contiguous and aligned: the one door to the kernels.

    Arrays that crossed a network or came back from disk may lie at odd addresses, where the same
    product is 2-10 times slower and gives other bits.
    """
    return np.require(X, dtype=dtype or compute_dtype(X.dtype), requirements=["C", "A"])


@dataclass(frozen=True, slots=True)
class Rows:
    """A run of rows in memory, as stored: a block, or a whole partition.

    X ``(n, p)``, y ``(n,)`` or ``(n, k)`` or None, sample_weight ``(n,)`` or None; `start` is the number of
    the block's or partition's first row within the dataset, and `kept` ``(n,)`` that of each row here, where
    a selection leaves some out. Kernels run in `dtype`, by default what suits that of X.
    """

    X: Array
    y: Array | None
    sample_weight: Array | None
    start: int
    kept: Array | None = None
    dtype: np.dtype[Any] | None = None

    def __len__(self) -> int:
        return len(self.X)

    def tiles(self) -> Iterator[Tile]:
        """The rows in order, tile by tile; an empty run is one empty tile."""
        height = tile_rows(self.X.shape[1], self.dtype or self.X.dtype)
        for a in range(0, max(len(self.X), 1), height):
            yield self._tile(slice(a, a + height), self.start + a)

    def part(self, start: int, stop: int) -> Rows:
        """A run of them, as a view."""
        y, s, kept = (None if c is None else c[start:stop] for c in (self.y, self.sample_weight, self.kept))
        return replace(self, X=self.X[start:stop], y=y, sample_weight=s, kept=kept, start=self.start + start)

    def take(self, rows: Array) -> Tile:
        """The rows with these positions, as one tile."""
        return self._tile(rows, self.start)

    def _tile(self, rows: slice | Array, start: int) -> Tile:
        y, s = self.y, self.sample_weight
        return Tile(
            prepare(self.X[rows], self.dtype),
            None if y is None else np.require(y[rows], requirements=["C", "A"]),
            None if s is None else np.require(s[rows], np.float64, ["C", "A"]),
            start if self.kept is None else self.kept[rows],
        )
