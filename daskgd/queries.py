"""What one sweep over the data may answer.

A query has two halves. One runs on a worker, is pure numpy, and returns :class:`Sums`, which add; the
other, ``answer``, runs on the driver and turns the grand total into what the solver asked for, dividing
by the total weight and adding the penalty there, once. Queries know no engine, no dask and no storage.

Scope. ``"tile"``: ``tile(problem, tile)`` sees cache-sized tiles one after the other while they are hot.
``"partition"``: ``partition(problem, rows, memory)`` needs a whole partition in memory for a while, and
may keep something about it from one sweep to the next: it *returns* that memory, and never mutates it.

To add a query: write both halves and list it in ``daskgd.testing.QUERIES``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from daskgd.draws import HALF, row_hash
from daskgd.losses import TargetSummary
from daskgd.models import Back
from daskgd.problems import Problem, Rows, Tile, compute_dtype
from daskgd.sums import CUT, Bad, Comoments, Labels, Maybe, Moments, Sums, coded, decoded, mixed

Array = NDArray[Any]


class Query:
    """A question to the data; frozen dataclasses all."""

    scope: ClassVar[str] = "tile"
    name: ClassVar[str] = "query"
    """How tasks that answer it are called on the Dask dashboard: ``daskgd-<name>``."""

    memory: ClassVar[str | None] = None
    """For partition scope: under which name to keep what `partition` returns, if anything."""

    heavy: ClassVar[bool] = False
    """Whether a tile takes as many multiplications for each number of X as there are features."""

    @property
    def bulk(self) -> int:
        """Bytes of the grand total, about, where sums hold rows and grow as they merge; else 0."""
        return 0

    def blocks(self, n_blocks: int, partition_blocks: int) -> Array | None:
        """Which blocks it wants to see, ``(n_blocks,)`` of bool; None for all. An engine reads no block that
        nobody wants; the answer is None where it wants none at all."""
        return None

    def heft(self, problem: Problem | None, n_features: int) -> int:
        """Bytes of its sums, about, for X of so many features; leaving rows out."""
        arrays = (np.size(getattr(self, f.name)) for f in fields(self))  # type: ignore[arg-type]
        return 8 * max(8 * n_features, *arrays, 0)

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        """The contribution of some rows."""
        raise NotImplementedError

    def partition(self, problem: Problem, rows: Rows, memory: Any) -> tuple[Sums, Any]:
        """The contribution of a whole partition, and what to remember of it."""
        raise NotImplementedError

    def answer(self, problem: Problem, sums: Sums) -> Any:
        """From the grand total to the answer."""
        raise NotImplementedError


class Ask(NamedTuple):
    """One question of one fit: `run` names the fit, so that partition memories do not mix."""

    problem: Any
    query: Query
    run: str = ""


# -- the survey ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SurveyAnswer:
    """What a survey found.

    Attributes
    ----------
    n_rows : int
        Rows read.
    weight : float
        Sum of the sample weights.
    X : Moments
        Of the features.
    y : Moments or None
        Of a numeric target, for regression.
    labels : Labels or None
        For classification.
    """

    n_rows: int
    weight: float
    X: Moments
    y: Moments | None
    labels: Labels | None

    def target_summary(self, class_weight: Array | None = None, offsets: int = 0) -> TargetSummary:
        """The target as :meth:`daskgd.losses.Loss.baseline` takes it; `offsets` last columns left out."""
        if self.labels is not None:
            weights = self.labels.weights if class_weight is None else self.labels.weights * class_weight
            return TargetSummary(shares=weights / weights.sum())
        assert self.y is not None
        k = len(self.y.mean) - offsets
        return TargetSummary(variance=float(self.y.variance[:k].sum()), mean=self.y.mean[:k])


@dataclass(frozen=True, slots=True)
class Survey(Query):
    """The first look at the data: rows, weight, moments, labels, and whether all of it is fit to use.

    ``answer`` raises ValueError for NaN, infinity, negative weights, weights that are all zero and
    rows that are none, naming the first offending row (counted from 0) and column. Numeric targets (the first
    of several) must not be below `low`, or not reach it unless `low_included`.
    """

    name: ClassVar[str] = "survey"
    classification: bool = False
    low: float = -np.inf
    low_included: bool = True

    def tile(self, problem: Problem | None, tile: Tile) -> Sums:
        X, y, s = tile.X, tile.y, tile.sample_weight
        bad_X = bad_y = low_y = Bad()
        labels = target = None
        bad_s = Bad.weights(s, tile.numbers)
        s = None if bad_s.rows else s
        moments = Moments.of(X, s)
        # Moments are finite where X is, so that finite data pays nothing for the check. Without any weight
        # there are no moments to go by.
        if not (moments.weight > 0 and np.isfinite(moments.deviation).all()):
            bad_X = Bad.nonfinite(X, tile.numbers)
            moments = Moments.of(np.where(np.isfinite(X), X, 0), s)
        if y is not None and self.classification:
            y = _one_column(y)
            bad_y = Bad.of(_no_label(y), y, tile.numbers)
            labels = None if bad_y.rows else Labels.of(*tile.labels, s)
        elif y is not None:
            bad_y = Bad.nonfinite(y, tile.numbers)
            target = Moments.of(_columns(np.where(np.isfinite(y), y, 0.0)), s)
            first = _columns(y)[:, 0]
            wrong = first < self.low if self.low_included else first <= self.low
            low_y = Bad.of(wrong, first, tile.numbers)
        return Sums(
            n_rows=len(X),
            weight=float(len(X) if s is None else s.sum()),
            X=moments,
            y=Maybe(target),
            labels=Maybe(labels),
            bad_X=bad_X,
            bad_y=bad_y,
            low_y=low_y,
            bad_s=bad_s,
        )

    def answer(self, problem: Problem | None, sums: Sums) -> SurveyAnswer:
        _refuse(sums)
        if (first := sums["low_y"].first) is not None:
            raise ValueError(
                f"y: expected targets {'>=' if self.low_included else '>'} {self.low:g} for this loss, got "
                f"{first.value} in row {first.row} ({sums['low_y'].rows} of {sums['n_rows']} rows); use "
                "another loss, or drop those rows"
            )
        _refuse_huge("X", sums["X"])
        _refuse_huge("y", sums["y"].value)
        return SurveyAnswer(sums["n_rows"], sums["weight"], sums["X"], sums["y"].value, sums["labels"].value)


HEAVY = 1e200
"""Total weight that squares may be multiplied with."""


def _refuse_huge(name: str, moments: Moments | None) -> None:
    """Raise ValueError for numbers whose squares overflow when they are summed."""
    if moments is None:
        return
    with np.errstate(invalid="ignore", over="ignore"):
        huge = ~np.isfinite(moments.mean**2 + moments.deviation)
    if huge.any():
        raise ValueError(
            f"Input {name} contains numbers too large to be squared and summed in float64 (1e150 and "
            f"beyond), first in column {int(np.argmax(huge))} ({int(huge.sum())} of {len(huge)} columns); "
            "divide them by a power of ten, or drop the rows that hold them"
        )


def _columns(y: Array) -> Array:
    """Targets as ``(n, k)``, where there are none of them too."""
    return y[:, None] if y.ndim == 1 else y


def _one_column(y: Array) -> Array:
    if y.ndim == 2 and y.shape[1] != 1:
        raise ValueError(
            f"y: expected one label per row for classification, got shape (n, {y.shape[1]}); "
            "multi-label targets are not supported"
        )
    return y.reshape(len(y))


def _no_label(y: Array) -> Array:
    """Rows ``(n,)`` whose y cannot be a label: missing, or no whole number."""
    if y.dtype.kind == "f":
        return ~np.isfinite(y) | (y != np.floor(y))
    if y.dtype.kind in "mM":
        return np.isnat(y)
    if y.dtype == object:
        return np.array([isinstance(v, float) and v != v for v in y], dtype=bool)
    return np.zeros(len(y), dtype=bool)


def _same_kind(labels: Array, y: Array) -> None:
    """Raise ValueError for text where the fit has seen numbers, and the like: all of them would be misses."""

    def kind(values: Array) -> str:
        if values.dtype == object and len(values):
            values = np.asarray(values.tolist()[0])
        kinds = {"b": "numbers", "i": "numbers", "u": "numbers", "f": "numbers", "U": "text", "T": "text"}
        return kinds.get(values.dtype.kind, str(values.dtype))

    if len(y) and kind(labels) != kind(y):
        raise ValueError(
            f"y: expected labels like those of the fit, {kind(labels)} such as {labels.tolist()[0]!r}, got "
            f"{kind(y)} such as {y.tolist()[0]!r}; convert them first"
        )


def _refuse(sums: Sums) -> None:
    """Raise ValueError for rows that are none or bad, naming the first."""
    if sums["n_rows"] == 0:
        raise ValueError("X: expected at least one row, got 0 (no row passed the selection)")
    for name in ("X", "y"):
        bad: Bad = sums[f"bad_{name}"]
        if bad.first is not None:
            raise ValueError(_bad_message(name, bad, sums["n_rows"]))
    if sums["bad_s"].first is not None:
        row, _, value = sums["bad_s"].first
        raise ValueError(
            f"sample_weight: expected finite weights >= 0, got {value} in row {row} "
            f"({sums['bad_s'].rows} such rows)"
        )
    if not sums["weight"] > 0:
        raise ValueError("sample_weight: expected a positive total, got weights that are all zero")
    if not 1 / HEAVY <= sums["weight"] <= HEAVY:
        raise ValueError(
            f"sample_weight: expected a total from {1 / HEAVY:g} to {HEAVY:g}, got {sums['weight']:g}; "
            "divide the weights by their mean"
        )


def _bad_message(name: str, bad: Bad, n_rows: int) -> str:
    assert bad.first is not None
    row, column, value = bad.first
    where = f"row {row}" + (f", column {column}" if column >= 0 else "")
    if np.isfinite(value):
        return (
            f"Unknown label type: continuous. y: expected class labels, got {value} in {where} "
            f"({bad.rows} of {n_rows} rows are not whole numbers); for a continuous target use a regressor"
        )
    what = "NaN" if np.isnan(value) else "infinity"
    return (
        f"Input {name} contains {what}: expected finite numbers, got {value} in {where} "
        f"({bad.rows} of {n_rows} rows hold NaN or infinity); impute or drop those rows first"
    )


# -- second moments ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SecondMomentsAnswer:
    """Second moments of the columns ``[X | y]``, q of them.

    Attributes
    ----------
    n_rows : int
        Rows read.
    weight : float
        Sum of the sample weights W.
    mean : (q,)
        Weighted means.
    matrix : (q, q)
        ``sum_i s_i (z_i - mean) (z_i - mean)'``, not divided by W.
    """

    n_rows: int
    weight: float
    mean: Array
    matrix: Array


@dataclass(frozen=True, slots=True)
class SecondMoments(Query):
    """Means and products of deviations of features and numeric targets, in float64: answers a
    :class:`SecondMomentsAnswer`.

    Targets are taken as stored. Needs q x q numbers, and q^2 / 2 operations a row. What is not finite, and
    weights that are negative, it leaves for a :class:`Survey` in the same sweep to refuse.
    """

    name: ClassVar[str] = "second-moments"

    def heft(self, problem: Problem | None, n_features: int) -> int:
        return 8 * n_features**2

    def tile(self, problem: Problem | None, tile: Tile) -> Sums:
        return Sums(n_rows=len(tile.X), moments=Comoments.of(tile.X, tile.y, tile.sample_weight))

    def answer(self, problem: Problem | None, sums: Sums) -> SecondMomentsAnswer:
        moments: Comoments = sums["moments"]
        return SecondMomentsAnswer(sums["n_rows"], moments.weight, moments.mean, moments.full)


@dataclass(frozen=True, slots=True, eq=False)
class Residuals(Query):
    """Residuals of the targets as stored, in float64: ``r = (x - center) W - (y - target)``.

    Answers ``(mean (k,), square (k,), cross (p, k))``: the weighted means over rows of r, of ``r**2`` and of
    ``(x - center) r'``. The gradient of least squares, with the digits that float32 kernels lack: X is
    converted and centred a cut at a time.

    Attributes
    ----------
    W : (p, k)
    center : (p,)
    target : (k,)
    """

    name: ClassVar[str] = "residuals"
    W: Array
    center: Array
    target: Array

    def tile(self, problem: Problem | None, tile: Tile) -> Sums:
        assert tile.y is not None
        p, k = self.W.shape
        W = np.require(self.W, np.float64, ["C", "A"])
        y = tile.y.reshape(len(tile.X), k)
        total, square, cross = np.zeros(k), np.zeros(k), np.zeros((p, k))
        height = max(128, CUT // max(p, 1))
        for a in range(0, len(y), height):
            cut = slice(a, a + height)
            D = np.subtract(tile.X[cut], self.center, dtype=np.float64)
            R = D @ W - (y[cut].astype(np.float64) - self.target)
            S = R if tile.sample_weight is None else R * tile.sample_weight[cut][:, None]
            total += np.ones(len(S)) @ S
            square += np.einsum("ij,ij->j", R, S)
            cross += D.T @ S
        _told(tile, total, square, cross)
        return Sums(total=total, square=square, cross=cross, weight=_mass(tile, tile.sample_weight))

    def answer(self, problem: Problem | None, sums: Sums) -> tuple[Array, Array, Array]:
        weight = sums["weight"]
        return sums["total"] / weight, sums["square"] / weight, sums["cross"] / weight


# -- the objective -------------------------------------------------------------------------------


def _weighted(values: Array, s: Array | None) -> Array:
    """values times weights, in the dtype of `values`."""
    if s is None:
        return values
    s = s.astype(values.dtype)
    out: Array = values * s.reshape(-1, *[1] * (values.ndim - 1))
    return out


def _total(values: Array, s: Array | None) -> Any:
    """Weighted sum over rows, in float64."""
    if s is not None:
        return s @ values.astype(np.float64)
    return np.add.reduce(values, axis=0, dtype=np.float64)


def _told(tile: Tile, *sums: Any) -> None:
    """Raise ValueError for NaN and infinity in rows that may be why `sums` are not finite: sound rows pay
    nothing. Sums of sound rows may overflow, which is for stop rules to judge.

    The survey has refused such rows before: here they are those that have changed since, and those of
    questions asked without one.
    """
    if all(np.isfinite(part).all() for part in sums):
        return
    assert tile.y is not None
    bads = {
        "X": Bad.nonfinite(tile.X, tile.numbers),
        "y": Bad.nonfinite(tile.y, tile.numbers),
        "sample_weight": Bad.weights(tile.sample_weight, tile.numbers),
    }
    for name, bad in bads.items():
        if bad.first is not None:
            row, column, value = bad.first
            where = f"row {row}" + (f", column {column}" if column >= 0 else "")
            raise ValueError(
                f"Input {name} contains {'NaN' if np.isnan(value) else 'infinity'}: expected finite numbers, "
                f"got {value} in {where}; impute or drop such rows, and if an earlier sweep let them pass, "
                "do not change the data while it is fitted"
            )


def _mass(tile: Tile, s: Array | None) -> float:
    return float(len(tile.X)) if s is None else float(s.sum())


@dataclass(frozen=True, slots=True, eq=False)
class Gradient(Query):
    """Objective and gradient at `w` ``(d,)``: answers ``(f, g)``, a float and ``(d,)``."""

    name: ClassVar[str] = "gradient"
    w: Array

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        return self.at(*problem.model.forward(self.w, tile.X), problem, tile)

    def at(self, z: Array, back: Back, problem: Problem, tile: Tile) -> Sums:
        """The contribution of a tile whose margins are known, and the way back from there."""
        y, s = tile.targets(problem)
        value, slope = problem.loss.value_and_slope(z, y)
        total, gradient = _total(value, s), back(_weighted(slope, s))
        _told(tile, total, gradient)
        return Sums(value=total, gradient=gradient, weight=_mass(tile, s))

    def answer(self, problem: Problem, sums: Sums) -> tuple[float, Array]:
        W = sums["weight"]
        f = float(sums["value"]) / W + problem.penalty_value(self.w)
        return f, sums["gradient"] / W + problem.penalty_gradient(self.w)


@dataclass(frozen=True, slots=True, eq=False)
class Slope(Gradient):
    """The gradient at `w` ``(d,)`` and nothing else: answers ``(d,)``. Half the loss's work, about."""

    def at(self, z: Array, back: Back, problem: Problem, tile: Tile) -> Sums:
        y, s = tile.targets(problem)
        slope = problem.loss.slope(z, y)
        gradient = back(_weighted(slope, s))
        _told(tile, gradient)
        return Sums(gradient=gradient, weight=_mass(tile, s))

    def answer(self, problem: Problem, sums: Sums) -> Any:
        return sums["gradient"] / sums["weight"] + problem.penalty_gradient(self.w)


LANES = 16
"""Columns in the one product of :class:`Gradients`."""


@dataclass(frozen=True, slots=True, eq=False)
class Gradients(Query):
    """The :class:`Gradient` of many problems over the same rows, or the :class:`Slope` of all: answers a list
    of ``(f, g)``, or of g.

    Their products with X are one of LANES columns, several times faster than one after the other. Each has
    a lane of its own there, whoever else is in the others, so that its bits do not depend on them.

    Attributes
    ----------
    problems : (m,) of Problem
        Whose models have one column, all of them :attr:`~daskgd.models.Linear.far` or none.
    queries : (m,) of Gradient
        Where each looks; all of one type.
    lanes : (m,) of int
        From 0 to LANES - 1, distinct.
    alike : tuple of tuples
        Positions of problems that see the same targets.
    W : (p + 1, LANES)
        Coefficients over intercepts as they multiply X, a column for each lane.
    """

    name: ClassVar[str] = "gradient"
    problems: tuple[Problem, ...]
    queries: tuple[Gradient, ...]
    lanes: tuple[int, ...]
    alike: tuple[tuple[int, ...], ...]
    W: Array

    @classmethod
    def of(cls, asked: Mapping[int, tuple[Problem, Gradient]]) -> Gradients:
        """From problems and queries by lane."""
        problems = tuple(problem for problem, _ in asked.values())
        queries = tuple(query for _, query in asked.values())
        W = np.zeros((problems[0].model.n_features + 1, LANES))
        alike: list[list[int]] = []
        for i, (lane, problem, query) in enumerate(zip(asked, problems, queries, strict=True)):
            column = problem.linear.in_units_of_X(query.w)[:, 0]
            W[: len(column), lane] = column
            group = next((known for known in alike if problem.looks_alike(problems[known[0]])), None)
            if group is None:
                alike.append(group := [])
            group.append(i)
        return cls(problems, queries, tuple(asked), tuple(map(tuple, alike)), W)

    def heft(self, problem: Problem | None, n_features: int) -> int:
        return 8 * LANES * (n_features + 3)

    def tile(self, problem: Problem | None, tile: Tile) -> Sums:
        far = self.problems[0].linear.far
        X = tile.X.astype(np.float64, copy=False) if far else tile.X
        W = np.require(self.W, X.dtype, ["C", "A"])
        Z = X @ W[:-1]
        Z += W[-1]
        Z = np.ascontiguousarray(Z.T, dtype=tile.X.dtype)
        R = np.zeros(Z.shape, Z.dtype)
        m = len(self.lanes)
        value, total, weight = np.empty(m), np.empty(m), np.empty(m)
        valued = type(self.queries[0]) is not Slope
        for group in self.alike:
            at, lanes = list(group), [self.lanes[i] for i in group]
            first = self.problems[group[0]]
            y, s = tile.targets(first)
            # Losses are pointwise: all margins of the group as if they were the rows of one.
            z, y = Z[lanes].ravel(), np.concatenate([y] * len(at))
            if valued:
                values, slopes = (v.reshape(len(at), -1) for v in first.loss.value_and_slope(z, y))
                if s is None:
                    value[at] = np.add.reduce(values, axis=1, dtype=np.float64)
                else:
                    value[at] = [one @ s for one in values.astype(np.float64)]
            else:
                slopes = first.loss.slope(z, y).reshape(len(at), -1)
            if s is not None:
                slopes = slopes * s.astype(slopes.dtype)
            R[lanes] = slopes
            total[at] = np.add.reduce(slopes, axis=1, dtype=np.float64)
            weight[at] = _mass(tile, s)
        cross = (R.astype(X.dtype, copy=False) @ X)[list(self.lanes)].astype(np.float64)
        _told(tile, total, cross, *([value] if valued else []))
        if not valued:
            return Sums(total=total, cross=cross, weight=weight)
        return Sums(value=value, total=total, cross=cross, weight=weight)

    def answer(self, problem: Problem | None, sums: Sums) -> list[Any]:
        return [
            query.answer(
                one,
                Sums(
                    value=sums["value"][i] if "value" in sums else 0.0,
                    gradient=one.linear.from_units_of_X(sums["cross"][i][:, None], sums["total"][i]),
                    weight=sums["weight"][i],
                ),
            )
            for i, (one, query) in enumerate(zip(self.problems, self.queries, strict=True))
        ]


@dataclass(frozen=True, slots=True, eq=False)
class Hessian(Query):
    """The Hessian at `w` ``(d,)`` and nothing else: answers ``(d, d)``."""

    name: ClassVar[str] = "hessian"
    heavy: ClassVar[bool] = True
    w: Array

    def heft(self, problem: Problem | None, n_features: int) -> int:
        return 8 * len(self.w) ** 2

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        s = tile.targets(problem)[1]
        z = problem.model.margins(self.w, tile.X)
        return Sums(curvature=self.at(z, problem, tile), weight=_mass(tile, s))

    def at(self, z: Array, problem: Problem, tile: Tile) -> Array:
        """The sum over the rows of a tile whose margins are known."""
        y, s = tile.targets(problem)
        curve = _weighted(problem.loss.curve(z, y), s)
        return problem.linear.curvature(tile.design(problem.linear), curve)

    def answer(self, problem: Problem, sums: Sums) -> Array:
        H: Array = sums["curvature"] / sums["weight"]
        H[np.diag_indices_from(H)] += problem.penalty_curve(self.w)
        return H


@dataclass(frozen=True, slots=True, eq=False)
class Curvature(Query):
    """Objective, gradient and Hessian at `w` ``(d,)``: answers ``(f, g, H)``, H ``(d, d)``."""

    name: ClassVar[str] = "curvature"
    heavy: ClassVar[bool] = True
    w: Array

    def heft(self, problem: Problem | None, n_features: int) -> int:
        return 8 * len(self.w) ** 2

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        z, back = problem.model.forward(self.w, tile.X)
        curvature = Hessian(self.w).at(z, problem, tile)
        return Sums(curvature=curvature, **Gradient(self.w).at(z, back, problem, tile))

    def answer(self, problem: Problem, sums: Sums) -> tuple[float, Array, Array]:
        return *Gradient(self.w).answer(problem, sums), Hessian(self.w).answer(problem, sums)


BASIS_ROWS = 10_000
"""Rows that the basis of :class:`Hessians` is made from, about."""


@dataclass(frozen=True, slots=True, eq=False)
class Hessians(Query):
    """The :class:`Hessian` of many problems over the same rows of float32, by products in float32: answers a
    list of ``(d, d)``.

    Such products lose what tells collinear features apart, but not in a basis R in which the second moments
    of the features A are about the identity. With D = A R, in float64, rounded to float32,

        H = R^-T (D' diag(c) D) R^-1,

    where sums over tiles are in float64: relative to H the error is that of float32 products of well
    conditioned columns, some 1e-7. The product with R is made once for all problems, and pays from a few on.

    Attributes
    ----------
    problems : (m,) of Problem
        Whose models have one column, and the same design.
    points : (m,) of (d,)
        Where to look.
    basis, inverse : (d, d)
        R and its inverse.
    """

    name: ClassVar[str] = "hessian"
    heavy: ClassVar[bool] = True
    problems: tuple[Problem, ...]
    points: tuple[Array, ...]
    basis: Array
    inverse: Array

    @staticmethod
    def suit(problem: Problem, rows: Rows) -> bool:
        """Whether the Hessian of a problem over these rows may go with others."""
        return problem.model.one_column and compute_dtype(rows.X.dtype) == np.float32

    @classmethod
    def of(cls, problems: tuple[Problem, ...], points: tuple[Array, ...], rows: Rows) -> Hessians:
        """With the basis that suits the rows."""
        every = max(len(rows) // BASIS_ROWS, 1)
        A = problems[0].linear.design(rows.X[::every])
        values, vectors = np.linalg.eigh(A.T @ A / max(len(A), 1))
        root = np.sqrt(np.maximum(values, 1e-12 * max(values[-1], np.finfo(float).tiny)))
        return cls(problems, points, vectors / root, (vectors * root).T)

    def heft(self, problem: Problem | None, n_features: int) -> int:
        return 8 * len(self.points) * len(self.basis) ** 2

    def tile(self, problem: Problem | None, tile: Tile) -> Sums:
        D = (self.problems[0].linear.design(tile.X) @ self.basis).astype(np.float32)
        found, weight = np.empty((len(self.points), *self.basis.shape)), np.empty(len(self.points))
        for i, (one, w) in enumerate(zip(self.problems, self.points, strict=True)):
            y, s = tile.targets(one)
            curve = _weighted(one.loss.curve(one.model.margins(w, tile.X), y), s)
            found[i] = one.linear.curvature(D, curve.astype(np.float32))
            weight[i] = _mass(tile, s)
        return Sums(curvature=found, weight=weight)

    def answer(self, problem: Problem | None, sums: Sums) -> list[Array]:
        return [
            Hessian(w).answer(one, Sums(curvature=self.inverse.T @ found @ self.inverse, weight=weight))
            for one, w, found, weight in zip(
                self.problems, self.points, sums["curvature"], sums["weight"], strict=True
            )
        ]


@dataclass(frozen=True, slots=True, eq=False)
class Product(Query):
    """The Hessian at `w` ``(d,)`` times `v` ``(d,)``, without the Hessian: answers ``(d,)``."""

    name: ClassVar[str] = "product"
    w: Array
    v: Array

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        y, s = tile.targets(problem)
        model = problem.linear
        curve = problem.loss.curve(model.margins(self.w, tile.X), y)
        dz = model.margins(self.v, tile.X)
        bent = curve * dz if curve.ndim == dz.ndim else (curve @ dz[:, :, None])[:, :, 0]
        product = model.adjoint(tile.X, _weighted(bent, s))
        _told(tile, product)
        return Sums(product=product, weight=_mass(tile, s))

    def answer(self, problem: Problem, sums: Sums) -> Array:
        out: Array = sums["product"] / sums["weight"] + problem.penalty_curve(self.w) * self.v
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Line(Query):
    """The objective along ``w + t d`` for all t in `steps` ``(m,)``: a whole line search in one sweep.

    Answers ``(values, slopes)``, both ``(m,)``: f and its derivative by t. Where margins are linear in t, any
    number of steps costs two products with X; other models go forward and back for each.
    """

    name: ClassVar[str] = "line"
    w: Array
    d: Array
    steps: Array

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        if not problem.model.linear:
            return self._bent(problem, tile)
        y, s = tile.targets(problem)
        z = problem.model.margins(self.w, tile.X)
        dz = problem.model.margins(self.d, tile.X)
        values, slopes = np.empty(len(self.steps)), np.empty(len(self.steps))
        for j, t in enumerate(self.steps):
            value, slope = problem.loss.value_and_slope(z + z.dtype.type(t) * dz, y)
            slope *= dz
            values[j] = _total(value, s)
            slopes[j] = np.sum(_total(slope, s))
        _told(tile, values, slopes)
        return Sums(values=values, slopes=slopes, weight=_mass(tile, s))

    def _bent(self, problem: Problem, tile: Tile) -> Sums:
        found = [Gradient(self.w + t * self.d).tile(problem, tile) for t in self.steps]
        values = np.array([one["value"] for one in found], dtype=float)
        slopes = np.array([one["gradient"] @ self.d for one in found], dtype=float)
        return Sums(values=values, slopes=slopes, weight=_mass(tile, tile.targets(problem)[1]))

    def answer(self, problem: Problem, sums: Sums) -> tuple[Array, Array]:
        W = sums["weight"]
        at = [self.w + t * self.d for t in self.steps]
        values = sums["values"] / W + [problem.penalty_value(w) for w in at]
        slopes = sums["slopes"] / W + [problem.penalty_gradient(w) @ self.d for w in at]
        return values, slopes


@dataclass(frozen=True, slots=True, eq=False)
class Score(Query):
    """How good predictions at `w` are: answers the weighted accuracy, R2 averaged over targets, or where
    `deviance` D2, the share of the null model's deviance that is explained.

    The null model predicts the mean target m at every row. As ``value(z, y) - value(0, y)`` is linear in y,
    its deviance needs no second sweep: ``sum_i s_i value(0, y_i) + W (value(z0, m) - value(0, m))``, z0 the
    best constant margin.
    """

    name: ClassVar[str] = "score"
    w: Array
    deviance: bool = False

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        assert tile.y is not None
        z, y, s = problem.model.margins(self.w, tile.X), tile.y, tile.sample_weight
        bad_X = Bad()
        if not np.isfinite(z).all():  # float32 may have overflowed
            z = problem.model.margins(self.w, tile.X.astype(np.float64))
            bad_X = Bad.nonfinite(tile.X, tile.numbers)
        elif not problem.model.linear:  # units saturate: margins may be finite where X is not
            bad_X = Bad.nonfinite(tile.X, tile.numbers)
        bad_y, bad_s = Bad.nonfinite(y, tile.numbers), Bad.weights(s, tile.numbers)
        found = {"n_rows": len(z), "bad_X": bad_X, "bad_y": bad_y, "bad_s": bad_s}
        if bad_s.rows:
            s = None
        if problem.labels is not None:
            y = _one_column(y)
            found["bad_y"] = Bad.of(_no_label(y), y, tile.numbers)
            _same_kind(problem.labels, y)
            codes = z > 0 if z.ndim == 1 else z.argmax(axis=1)
            hit = problem.labels[codes.astype(np.intp)] == y
            return Sums(hit=_total(hit, s), weight=_mass(tile, s), **found)
        y = _columns(y).astype(np.float64)
        offset = 0.0 if problem.offset is None else problem.offset
        if self.deviance:
            z = z.reshape(y.shape).astype(np.float64) + offset
            value, plain = (_deviance(problem, at, y) for at in (z, np.zeros(y.shape)))
            return Sums(
                value=_total(value, s),
                plain=_total(plain, s),
                y=Moments.of(y, s),
                weight=_mass(tile, s),
                **found,
            )
        y = y - offset
        with np.errstate(over="ignore"):
            miss = (z.reshape(y.shape) - y) ** 2
        return Sums(miss=_total(miss, s), y=Moments.of(y, s), weight=_mass(tile, s), **found)

    def answer(self, problem: Problem, sums: Sums) -> float:
        _refuse(sums)
        weight = float(sums["weight"])
        if "hit" in sums:
            return float(sums["hit"]) / weight
        # scikit-learn's convention for a constant target: 1 if predicted perfectly, else 0.
        if "plain" in sums:
            mean = sums["y"].mean[None, :]
            best = problem.loss.constant(TargetSummary(mean=sums["y"].mean))[None, :]
            gain = _deviance(problem, best, mean) - _deviance(problem, np.zeros(mean.shape), mean)
            miss, total = sums["value"], sums["plain"] + weight * float(gain[0])
            rounding = 64 * np.finfo(float).eps * (abs(sums["plain"]) + weight)
            total, miss = (0.0 if abs(v) <= rounding else v for v in (total, miss))
        else:
            miss, total = sums["miss"], sums["y"].deviation
        r2 = np.where(total > 0, 1 - miss / np.where(total > 0, total, 1), np.where(miss > 0, 0.0, 1.0))
        return float(np.mean(r2))


def _deviance(problem: Problem, z: Array, y: Array) -> Array:
    """Half the deviance of each row ``(n,)``, of margins and targets ``(n, k)`` in float64."""
    k = z.shape[1]
    y = problem.loss.targets(y, k, np.dtype(float))
    out: Array = problem.loss.value(z if k > 1 else z[:, 0], y)
    return out


# -- a share of the blocks -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Share:
    """Part `part` of `parts` of the blocks, about equal, in an order drawn from (seed, epoch): the parts of
    an epoch are all blocks, once.

    Attributes
    ----------
    seed, epoch, part, parts : int
    within : bool
        Whether every partition is cut into parts by itself, so that all of them have work in each.
    """

    seed: int
    epoch: int
    part: int
    parts: int
    within: bool = False

    def blocks(self, n_blocks: int, partition_blocks: int) -> Array | None:
        """``(n_blocks,)`` of bool; None where the share is all."""
        if self.parts == 1:
            return None
        out = np.zeros(n_blocks, dtype=bool)
        size = partition_blocks if self.within else max(n_blocks, 1)
        for first in range(0, n_blocks, size):
            draw = np.random.Philox(key=[self.seed, first], counter=[0, 0, self.epoch, BLOCKS])
            order = np.random.Generator(draw).permutation(min(size, n_blocks - first))
            out[first + order[self.part :: self.parts]] = True
        return out


BLOCKS = 0x626C6F636B73
"""Counter that keeps the order of blocks apart from the order of rows."""


@dataclass(frozen=True, slots=True, eq=False)
class Part(Query):
    """A tile query asked of a share of the blocks: answers ``(its answer, the weight of the rows seen)``, or
    None where the share holds no block.

    With a `wire` other than float64 its sums are coded where a partition ends, by draws from `key`, and
    travel so; the rows of a partition are then in memory together.
    """

    query: Query
    share: Share
    wire: str = "float64"
    key: int = 0

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.query.name

    @property
    def scope(self) -> str:  # type: ignore[override]
        return "tile" if self.wire == "float64" else "partition"

    @property
    def heavy(self) -> bool:  # type: ignore[override]
        return self.query.heavy

    def heft(self, problem: Problem | None, n_features: int) -> int:
        return self.query.heft(problem, n_features)

    def blocks(self, n_blocks: int, partition_blocks: int) -> Array | None:
        return self.share.blocks(n_blocks, partition_blocks)

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        return self.query.tile(problem, tile)

    def partition(self, problem: Problem, rows: Rows, memory: Any) -> tuple[Sums, Any]:
        sums = total(self.query.tile(problem, tile) for tile in rows.tiles())
        return coded(sums, self.wire, mixed(self.key, rows.start)), None

    def answer(self, problem: Problem, sums: Sums) -> tuple[Any, float]:
        sums = decoded(sums)
        return self.query.answer(problem, sums), float(sums["weight"])


# -- local work ----------------------------------------------------------------------------------

Work = Callable[[Problem, Rows, Array, Array, Any], tuple[Array, Any]]
"""``work(problem, rows, w, g, memory) -> (vector (k,), memory)``, picklable and pure; g is the gradient at w
of the objective over the partition's own rows, penalty included, and memory what the last round returned."""


@dataclass(frozen=True, slots=True, eq=False)
class Local(Query):
    """Each partition starts from `w`, works on its own rows and returns a vector, such as how far it went.

    Answers ``(f, g, v)``: the objective and gradient at `w`, and the average of the vectors, each weighted
    with the weight of its rows. A partition's memory is kept for `w`'s next round.

    Attributes
    ----------
    w : (d,)
    work : Work
    size : int or None
        Length k of the vectors; None is d.
    share : Share or None
        Of the blocks of every partition.
    wire : str
        How sums travel; they are coded where a partition ends, by draws from `key`.
    """

    name: ClassVar[str] = "local"
    scope: ClassVar[str] = "partition"
    memory: ClassVar[str | None] = "local"
    w: Array
    work: Work
    size: int | None = None
    share: Share | None = None
    wire: str = "float64"
    key: int = 0

    def blocks(self, n_blocks: int, partition_blocks: int) -> Array | None:
        return None if self.share is None else self.share.blocks(n_blocks, partition_blocks)

    def partition(self, problem: Problem, rows: Rows, memory: Any) -> tuple[Sums, Any]:
        gradient = Gradient(self.w)
        sums = total(gradient.tile(problem, tile) for tile in rows.tiles())
        v = np.zeros(self.size or len(self.w))
        if sums["weight"] > 0:
            _, g = gradient.answer(problem, sums)
            v, memory = self.work(problem, rows, self.w, g, memory)
        key = mixed(self.key, rows.start)
        return coded(Sums(vector=v * sums["weight"], **sums), self.wire, key), memory

    def answer(self, problem: Problem, sums: Sums) -> tuple[float, Array, Array]:
        sums = decoded(sums)
        f, g = Gradient(self.w).answer(problem, sums)
        return f, g, sums["vector"] / sums["weight"]


@dataclass(frozen=True, slots=True)
class Dispersion:
    """How far the partitions' own gradients at one point lie apart.

    Attributes
    ----------
    partitions : int
        Those with rows.
    between : float
        ``sum_i (W_i / W) |g_i - g|**2``.
    expected : float
        What the sampling of rows alone would make of it.
    """

    partitions: int
    between: float
    expected: float

    @property
    def ratio(self) -> float:
        """Times as much as expected; 1 where there is nothing to compare."""
        return self.between / self.expected if self.expected > 0 else 1.0

    @property
    def differ(self) -> bool:
        """Whether the partitions' rows are unlike, beyond chance.

        Between few partitions chance reaches far: the ratio is about one of F's, with a degree of freedom or
        more for each partition.
        """
        return self.partitions > 1 and self.ratio > UNLIKE * (1 + 4 / self.partitions)

    def __str__(self) -> str:
        return (
            f"partitions differ: the squared distance of their gradients from the mean is {self.ratio:.3g} "
            f"times what chance explains (the rows of {self.partitions} partitions seem to be sorted)"
        )


UNLIKE = 10.0
"""Dispersion, in what chance explains, from which on partitions are said to differ."""


@dataclass(frozen=True, slots=True, eq=False)
class Spread(Query):
    """How far the partitions' gradients at `w` lie apart: answers a :class:`Dispersion`.

    Each partition's rows are halved at random. With weights A and B, gradients a and b of the halves differ
    by chance alone, and ``|a - b|**2 A B / (A + B)**2`` is on average the squared error of the whole's,
    whatever the model.
    """

    name: ClassVar[str] = "spread"
    scope: ClassVar[str] = "partition"
    w: Array
    share: Share | None = None

    def blocks(self, n_blocks: int, partition_blocks: int) -> Array | None:
        return None if self.share is None else self.share.blocks(n_blocks, partition_blocks)

    def partition(self, problem: Problem, rows: Rows, memory: Any) -> tuple[Sums, Any]:
        gradient, halves = Gradient(self.w), []
        numbers = rows.start + np.arange(len(rows)) if rows.kept is None else rows.kept
        first = row_hash(numbers, 0, HALF) < 0.5
        for half in (first, ~first):
            at = np.array_split(np.flatnonzero(half), max(len(rows) // 10_000, 1))
            halves.append(total(gradient.tile(problem, rows.take(some)) for some in at))
        A, B = (half["weight"] for half in halves)
        W = A + B
        square = noise = 0.0
        g = halves[0]["gradient"] + halves[1]["gradient"]
        if A > 0 and B > 0:
            apart = halves[0]["gradient"] / A - halves[1]["gradient"] / B
            square, noise = float(g @ g) / W, float(apart @ apart) * A * B / W
        return Sums(square=square, noise=noise, gradient=g, weight=W, heavy=W * W, n=int(W > 0)), None

    def answer(self, problem: Problem, sums: Sums) -> Dispersion:
        W = sums["weight"]
        g = sums["gradient"] / W
        between = max(sums["square"] / W - float(g @ g), 0.0)
        return Dispersion(sums["n"], between, sums["noise"] / W * (1 - sums["heavy"] / W**2))


def on(rows: Rows, problem: Problem, query: Query) -> Any:
    """The answer of a tile query from rows in memory, here and now: no sweep."""
    return query.answer(problem, total(query.tile(problem, tile) for tile in rows.tiles()))


def total(parts: Iterator[Sums]) -> Sums:
    """The sum of one or more, in order."""
    out = next(parts)
    for part in parts:
        out = out + part
    return out
