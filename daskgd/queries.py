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

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from daskgd.losses import TargetSummary
from daskgd.problems import Problem, Rows, Tile
from daskgd.sums import Bad, Labels, Maybe, Moments, Sums

Array = NDArray[Any]


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
        bad_X = bad_y = Bad()
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
            if y.dtype.kind == "f":
                bad_y = Bad.of(~np.isfinite(y) | (y != np.floor(y)), y, tile.numbers)
            labels = None if bad_y.rows else Labels.of(y, s)
        elif y is not None:
            bad_y = Bad.nonfinite(y, tile.numbers)
            target = Moments.of(_columns(np.where(np.isfinite(y), y, 0.0)), s)
        return Sums(
            n_rows=len(X),
            weight=float(len(X) if s is None else s.sum()),
            X=moments,
            y=Maybe(target),
            labels=Maybe(labels),
            bad_X=bad_X,
            bad_y=bad_y,
            bad_s=bad_s,
        )

    def answer(self, problem: Problem | None, sums: Sums) -> SurveyAnswer:
        _refuse(sums)
        return SurveyAnswer(sums["n_rows"], sums["weight"], sums["X"], sums["y"].value, sums["labels"].value)


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
    out: Array = values * s.reshape(-1, *[1] * (values.ndim - 1))
    return out


def _total(values: Array, s: Array | None) -> Any:
    """Weighted sum over rows, in float64."""
    return (np.ones(len(values)) if s is None else s) @ values.astype(np.float64)


def _mass(tile: Tile, s: Array | None) -> float:
    return float(len(tile.X)) if s is None else float(s.sum())


@dataclass(frozen=True, slots=True, eq=False)
class Gradient(Query):
    """Objective and gradient at `w` ``(d,)``: answers ``(f, g)``, a float and ``(d,)``."""

    name: ClassVar[str] = "gradient"
    w: Array

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        return self.at(problem.model.margins(self.w, tile.X), problem, tile)

    def at(self, z: Array, problem: Problem, tile: Tile) -> Sums:
        """The contribution of a tile whose margins are known."""
        y, s = tile.targets(problem)
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
class Curvature(Query):
    """Objective, gradient and Hessian at `w` ``(d,)``: answers ``(f, g, H)``, H ``(d, d)``."""

    name: ClassVar[str] = "curvature"
    w: Array

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        y, s = tile.targets(problem)
        z = problem.model.margins(self.w, tile.X)
        curve = _weighted(problem.loss.curve(z, y), s)
        curvature = problem.model.curvature(tile.X, curve)
        return Sums(curvature=curvature, **Gradient(self.w).at(z, problem, tile))

    def answer(self, problem: Problem, sums: Sums) -> tuple[float, Array, Array]:
        f, g = Gradient(self.w).answer(problem, sums)
        H = sums["curvature"] / sums["weight"]
        H[np.diag_indices_from(H)] += problem.penalty_curve(self.w)
        return f, g, H


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
        z, y, s = problem.model.margins(self.w, tile.X), tile.y, tile.sample_weight
        bad_X = Bad() if np.isfinite(z).all() else Bad.nonfinite(tile.X, tile.numbers)
        bad_y, bad_s = Bad.nonfinite(y, tile.numbers), Bad.weights(s, tile.numbers)
        found = {"n_rows": len(z), "bad_X": bad_X, "bad_y": bad_y, "bad_s": bad_s}
        if bad_s.rows:
            s = None
        if problem.labels is not None:
            codes = z > 0 if z.ndim == 1 else z.argmax(axis=1)
            hit = problem.labels[codes.astype(np.intp)] == _one_column(y)
            return Sums(hit=_total(hit, s), weight=_mass(tile, s), **found)
        y = _columns(y).astype(np.float64)
        if problem.offset is not None:
            y = y - problem.offset
        miss = (z.reshape(y.shape) - y) ** 2
        return Sums(miss=_total(miss, s), y=Moments.of(y, s), weight=_mass(tile, s), **found)

    def answer(self, problem: Problem, sums: Sums) -> float:
        _refuse(sums)
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
