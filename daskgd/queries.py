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
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from daskgd.losses import TargetSummary
from daskgd.problems import Problem, Rows, Tile

Array = NDArray[Any]


class Sums(Mapping[str, Any]):
    """A record of things that add: arrays add element by element, the rest by its own ``+``.

    >>> (Sums(a=np.array([1.0, 2.0])) + Sums(a=np.array([3.0, 4.0])))["a"]
    array([4., 6.])
    """

    __slots__ = ("_parts",)

    def __init__(self, **parts: Any) -> None:
        self._parts = parts

    def __getitem__(self, name: str) -> Any:
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __add__(self, other: Sums) -> Sums:
        return Sums(**{name: part + other._parts[name] for name, part in self._parts.items()})

    def __reduce__(self) -> tuple[Any, ...]:
        return _sums, (self._parts,)


def _sums(parts: dict[str, Any]) -> Sums:
    return Sums(**parts)


class Query:
    """A question to the data; frozen dataclasses all."""

    scope: ClassVar[str] = "tile"
    name: ClassVar[str] = "query"
    """How tasks that answer it are called on the Dask dashboard: ``daskgd-<name>``."""

    memory: ClassVar[str | None] = None
    """For partition scope: under which name to keep what `partition` returns, if anything."""

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


# -- parts that add in their own way -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Moments:
    """Weight, mean and sum of squared deviations per column, in float64.

    Two add by the pairwise update of Chan, Golub & LeVeque (1979), which never subtracts large
    numbers: exact where plain sums of squares lose all digits (mean / std of 1e4 and beyond).
    """

    weight: float
    mean: Array
    deviation: Array

    @classmethod
    def of(cls, X: Array, s: Array | None) -> Moments:
        """The moments of the columns of X ``(n, p)`` with weights ``(n,)`` or None."""
        weight = float(len(X) if s is None else s.sum())
        if not weight > 0:
            zero = np.zeros(X.shape[1])
            return cls(0.0, zero, zero)
        # About a row of the tile itself, so that the sums below are of the size of the spread.
        shift = X[0].astype(np.float64)
        D = np.subtract(X, shift, dtype=np.float64)
        first = D.sum(axis=0) if s is None else s @ D
        np.square(D, out=D)
        second = D.sum(axis=0) if s is None else s @ D
        offset = first / weight
        return cls(weight, shift + offset, np.maximum(second - offset * first, 0.0))

    def __add__(self, other: Moments) -> Moments:
        if self.weight == 0 or other.weight == 0:
            return self if other.weight == 0 else other
        weight = self.weight + other.weight
        delta = other.mean - self.mean
        return Moments(
            weight,
            self.mean + delta * (other.weight / weight),
            self.deviation + other.deviation + delta * delta * (self.weight * other.weight / weight),
        )

    @property
    def variance(self) -> Array:
        """Population variance per column, ``(p,)``."""
        return self.deviation / self.weight if self.weight else self.deviation


MAX_LABELS = 10_000


@dataclass(frozen=True, slots=True)
class Labels:
    """Distinct labels, sorted, with the number and the weight of their rows."""

    values: Array
    counts: Array
    weights: Array

    @classmethod
    def of(cls, y: Array, s: Array | None) -> Labels:
        values, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
        weights = counts.astype(float) if s is None else np.bincount(codes, s, len(values))
        return cls(values, counts, weights)

    def __add__(self, other: Labels) -> Labels:
        if np.array_equal(self.values, other.values):
            return Labels(self.values, self.counts + other.counts, self.weights + other.weights)
        both = np.concatenate([self.values, other.values])
        values, at = np.unique(both, return_inverse=True)
        counts = np.zeros(len(values), dtype=np.int64)
        weights = np.zeros(len(values))
        for part, where in ((self, at[: len(self.values)]), (other, at[len(self.values) :])):
            counts[where] += part.counts
            weights[where] += part.weights
        if len(values) > MAX_LABELS:
            raise ValueError(
                f"y: expected class labels, got more than {MAX_LABELS} distinct values; "
                "for a continuous target use a regressor"
            )
        return Labels(values, counts, weights)


class Place(NamedTuple):
    """A row, a column (-1 where there is none) and what stands there."""

    row: int
    column: int
    value: Any


@dataclass(frozen=True, slots=True)
class Bad:
    """How many rows break a rule, and the first of them."""

    rows: int = 0
    first: Place | None = None

    def __add__(self, other: Bad) -> Bad:
        firsts = [place for place in (self.first, other.first) if place is not None]
        return Bad(self.rows + other.rows, min(firsts, key=lambda place: place.row, default=None))

    @classmethod
    def of(cls, wrong: Array, values: Array, start: int) -> Bad:
        """From a mask of the wrong entries of `values`, ``(n,)`` or ``(n, p)``."""
        rows = wrong.any(axis=1) if wrong.ndim == 2 else wrong
        if not rows.any():
            return cls()
        row = int(np.argmax(rows))
        column = int(np.argmax(wrong[row])) if wrong.ndim == 2 else -1
        value = values[row, column] if wrong.ndim == 2 else values[row]
        return cls(int(rows.sum()), Place(start + row, column, value))

    @classmethod
    def nonfinite(cls, values: Array, start: int) -> Bad:
        """NaN and infinity, at the price of one sum where there are none."""
        if values.dtype.kind != "f" or np.isfinite(values.sum(dtype=np.float64)):
            return cls()
        return cls.of(~np.isfinite(values), values, start)


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

    def target_summary(self, class_weight: Array | None = None) -> TargetSummary:
        """The target as :meth:`daskgd.losses.Loss.baseline` takes it."""
        if self.labels is not None:
            weights = self.labels.weights if class_weight is None else self.labels.weights * class_weight
            return TargetSummary(shares=weights / weights.sum())
        assert self.y is not None
        return TargetSummary(variance=float(self.y.variance.sum()))


@dataclass(frozen=True, slots=True)
class Survey(Query):
    """The first look at the data: rows, weight, moments, labels, and whether all of it is fit to use.

    ``answer`` raises ValueError for NaN, infinity, negative weights, weights that are all zero and
    rows that are none, naming the first offending row (counted from 0) and column.
    """

    name: ClassVar[str] = "survey"
    classification: bool = False

    def tile(self, problem: Problem | None, tile: Tile) -> Sums:
        X, y, s = tile.X, tile.y, tile.sample_weight
        bad_y = bad_s = Bad()
        labels = target = None
        bad_X = Bad.nonfinite(X, tile.start)
        if bad_X.rows:
            X = np.where(np.isfinite(X), X, 0)
        if y is not None:
            bad_y = Bad.nonfinite(y, tile.start)
            if not bad_y.rows and self.classification:
                if y.dtype.kind == "f":
                    bad_y = Bad.of(y != np.floor(y), y, tile.start)
                labels = Labels.of(_one_column(y), s)
            elif not self.classification:
                target = Moments.of(np.where(np.isfinite(y), y, 0.0).reshape(len(y), -1), s)
        if s is not None:
            bad_s = Bad.of(~np.isfinite(s) | (s < 0), s, tile.start)
        return Sums(
            n_rows=len(X),
            weight=float(len(X) if s is None else s.sum()),
            X=Moments.of(X, s if not bad_s.rows else None),
            y=_Optional(target),
            labels=_Optional(labels),
            bad_X=bad_X,
            bad_y=bad_y,
            bad_s=bad_s,
        )

    def answer(self, problem: Problem | None, sums: Sums) -> SurveyAnswer:
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
        return SurveyAnswer(sums["n_rows"], sums["weight"], sums["X"], sums["y"].value, sums["labels"].value)


@dataclass(frozen=True, slots=True)
class _Optional:
    """Something that adds, or nothing yet."""

    value: Any = None

    def __add__(self, other: _Optional) -> _Optional:
        if self.value is None or other.value is None:
            return other if self.value is None else self
        return _Optional(self.value + other.value)


def _one_column(y: Array) -> Array:
    if y.ndim == 2 and y.shape[1] != 1:
        raise ValueError(
            f"y: expected one label per row for classification, got shape (n, {y.shape[1]}); "
            "multi-label targets are not supported"
        )
    return y.reshape(len(y))


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


# -- the objective -------------------------------------------------------------------------------


def _weighted(values: Array, s: Array | None) -> Array:
    """values times weights, in the dtype of `values`."""
    if s is None:
        return values
    s = s.astype(values.dtype)
    out: Array = values * (s if values.ndim == 1 else s[:, None])
    return out


def _total(values: Array, s: Array | None) -> Any:
    """Weighted sum over rows, in float64."""
    if s is None:
        return values.sum(axis=0, dtype=np.float64)
    return s @ values.astype(np.float64)


def _mass(tile: Tile, s: Array | None) -> float:
    return float(len(tile.X)) if s is None else float(s.sum())


@dataclass(frozen=True, slots=True, eq=False)
class Gradient(Query):
    """Objective and gradient at `w` ``(d,)``: answers ``(f, g)``, a float and ``(d,)``."""

    name: ClassVar[str] = "gradient"
    w: Array

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        y, s = tile.targets(problem)
        z = problem.model.margins(self.w, tile.X)
        value, slope = problem.loss.value_and_slope(z, y)
        return Sums(
            value=_total(value, s),
            gradient=problem.model.adjoint(tile.X, _weighted(slope, s)),
            weight=_mass(tile, s),
        )

    def answer(self, problem: Problem, sums: Sums) -> tuple[float, Array]:
        W = sums["weight"]
        f = float(sums["value"]) / W + problem.penalty_value(self.w)
        return f, sums["gradient"] / W + problem.penalty_gradient(self.w)


@dataclass(frozen=True, slots=True, eq=False)
class Line(Query):
    """The objective along ``w + t d`` for all t in `steps` ``(m,)``: a whole line search in one sweep.

    Answers ``(values, slopes)``, both ``(m,)``: f and its derivative by t. Margins are linear in t, so
    that any number of steps costs two products with X.
    """

    name: ClassVar[str] = "line"
    w: Array
    d: Array
    steps: Array

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        y, s = tile.targets(problem)
        z = problem.model.margins(self.w, tile.X)
        dz = problem.model.margins(self.d, tile.X)
        values, slopes = np.empty(len(self.steps)), np.empty(len(self.steps))
        for j, t in enumerate(self.steps):
            value, slope = problem.loss.value_and_slope(z + z.dtype.type(t) * dz, y)
            slope *= dz
            values[j] = _total(value, s)
            slopes[j] = np.sum(_total(slope, s))
        return Sums(values=values, slopes=slopes, weight=_mass(tile, s))

    def answer(self, problem: Problem, sums: Sums) -> tuple[Array, Array]:
        W = sums["weight"]
        at = [self.w + t * self.d for t in self.steps]
        values = sums["values"] / W + [problem.penalty_value(w) for w in at]
        slopes = sums["slopes"] / W + [problem.penalty_gradient(w) @ self.d for w in at]
        return values, slopes


@dataclass(frozen=True, slots=True, eq=False)
class Score(Query):
    """How good predictions at `w` are: answers the weighted accuracy, or R2 averaged over targets."""

    name: ClassVar[str] = "score"
    w: Array

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        assert tile.y is not None
        s = tile.sample_weight
        z = problem.model.margins(self.w, tile.X)
        if problem.labels is not None:
            codes = z > 0 if z.ndim == 1 else z.argmax(axis=1)
            hit = problem.labels[codes.astype(np.intp)] == _one_column(tile.y)
            return Sums(hit=_total(hit, s), weight=_mass(tile, s))
        y = tile.y.reshape(len(z), -1).astype(np.float64)
        miss = (z.reshape(y.shape) - y) ** 2
        return Sums(miss=_total(miss, s), y=Moments.of(y, s))

    def answer(self, problem: Problem, sums: Sums) -> float:
        if "hit" in sums:
            return float(sums["hit"]) / sums["weight"]
        miss, total = sums["miss"], sums["y"].deviation
        # scikit-learn's convention for a constant target: 1 if predicted perfectly, else 0.
        r2 = np.where(total > 0, 1 - miss / np.where(total > 0, total, 1), np.where(miss > 0, 0.0, 1.0))
        return float(np.mean(r2))


# -- local work ----------------------------------------------------------------------------------

Work = Callable[[Problem, Rows, Array, Array, Any], tuple[Array, Any]]
"""``work(problem, rows, w, g, memory) -> (parameters (d,), memory)``, picklable and pure; g is the
gradient at w of the objective over the partition's own rows, penalty included."""


@dataclass(frozen=True, slots=True, eq=False)
class Local(Query):
    """Each partition starts from `w` and works on its own rows; the results are averaged by weight.

    Answers ``(f, g, v)``: the objective and gradient at `w`, and the average of the partitions'
    parameters, each weighted with the weight of its rows.
    """

    name: ClassVar[str] = "local"
    scope: ClassVar[str] = "partition"
    w: Array
    work: Work

    def partition(self, problem: Problem, rows: Rows, memory: Any) -> tuple[Sums, Any]:
        gradient = Gradient(self.w)
        sums = total(gradient.tile(problem, tile) for tile in rows.tiles())
        v = self.w
        if sums["weight"] > 0:
            _, g = gradient.answer(problem, sums)
            v, memory = self.work(problem, rows, self.w, g, memory)
        return Sums(w=v * sums["weight"], **sums), memory

    def answer(self, problem: Problem, sums: Sums) -> tuple[float, Array, Array]:
        f, g = Gradient(self.w).answer(problem, sums)
        return f, g, sums["w"] / sums["weight"]


def total(parts: Iterator[Sums]) -> Sums:
    """The sum of one or more, in order."""
    out = next(parts)
    for part in parts:
        out = out + part
    return out
