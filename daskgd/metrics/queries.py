"""The query by which many metrics of many models are found in one sweep. Knows responses and metrics; no
estimator, no engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.metrics.kinds.base import Metric, statistic_of
from daskgd.metrics.statistics import Predicted, Targets
from daskgd.models import Linear, Model
from daskgd.models.base import margins
from daskgd.models.responses import Response
from daskgd.queries.base import Query
from daskgd.queries.sums import Sums
from daskgd.queries.survey import no_label, refuse
from daskgd.rows.features import Features
from daskgd.rows.invalid_rows import InvalidRows
from daskgd.rows.subsets import Subset
from daskgd.rows.tiles import Rows

Array = NDArray[Any]

STACKED = 64
"""Most columns of coefficients that rows are multiplied with at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Failed:
    """The error that a metric has met instead of a statistic; it stays one whatever is added."""

    error: Exception

    def __add__(self, other: Any) -> Failed:
        return self

    __radd__ = __add__


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Statistics, each of which adds; None where there were no rows yet. Without any it is the zero."""

    parts: tuple[Any, ...] = ()

    def __add__(self, other: Parts) -> Parts:
        if not self.parts or not other.parts:
            return other if not self.parts else self
        return Parts(tuple(_sum(a, b) for a, b in zip(self.parts, other.parts, strict=True)))


def _sum(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return b if a is None else a
    if isinstance(a, Failed) or isinstance(b, Failed):
        return a if isinstance(a, Failed) else b
    try:
        return a + b
    except Exception as error:  # the metric's own, which is answered in its place
        return Failed(error)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a metric is shown of the response of a model.

    Attributes
    ----------
    model : int
        The position of the model, -1 for a function of rows.
    response : Response or callable
        A function of dense rows where there is no model.
    dtype : dtype or None
        In which predictions are compared; None leaves them as they are.
    column : int or None
        Of several columns the one to show; None for all.
    sign : int
        -1 turns the sign.
    takes_offset : bool
        Whether the offset of the rows is added to margins.
    """

    model: int
    response: Any
    dtype: Any = None
    column: int | None = None
    sign: int = 1
    takes_offset: bool = False

    def of(self, z: Array, targets: Targets) -> Predicted:
        """The predictions that margins z become, computed in float32 where they are float32."""
        response: Response = self.response
        if response.labels is not None:
            return Predicted(targets, None, (response.labels, response.codes(z)))
        if self.dtype != np.float32:
            z = z.astype(np.float64)
        values = response.respond(z) if self.column is None else response.column(z, self.column)
        return Predicted(targets, self._shown(values))

    def of_rows(self, X: Any, targets: Targets) -> Predicted:
        """The predictions of a function of rows."""
        values = np.asarray(self.response(X))
        return Predicted(targets, self._shown(values if self.column is None else values[:, self.column]))

    def _shown(self, values: Array) -> Array:
        values = values if self.dtype is None else values.astype(self.dtype, copy=False)
        return -values if self.sign < 0 else values


@dataclass(frozen=True, slots=True)
class Evaluation(Query):
    """Metrics of models, each of all rows or of a subset: answers their values in the order of `questions`,
    and in the place of one that cannot be computed the exception.

    Margins of linear models are columns of one product; each model's serve all its views, and each view all
    its statistics. Rows of weight 0 are absent.

    Attributes
    ----------
    models : tuple of (Model, (d,))
    views : tuple of :class:`View`
        Those of the same model one after the other.
    subsets : tuple of Subset
    parts : tuple of (int, int, Metric)
        What is summed up: the position of the view, of the subset, -1 for all rows, and a metric that tells
        how.
    questions : tuple of (int, Metric)
        The values that are asked: the position of the part, and the metric.
    classes : (k,), optional
        The labels that targets are codes of.
    has_offset : bool
        Whether targets are ``(n, 2)``, targets and offsets.
    """

    scope: ClassVar[str] = "block"
    name: ClassVar[str] = "evaluation"

    models: tuple[tuple[Model, Array], ...] = field(compare=False)
    views: tuple[View, ...] = field(compare=False)
    subsets: tuple[Subset, ...]
    parts: tuple[tuple[int, int, Any], ...] = field(compare=False)
    questions: tuple[tuple[int, Any], ...] = field(compare=False)
    classes: Array | None = None
    has_offset: bool = False

    @property
    def by_row_number(self) -> bool:  # type: ignore[override]
        return bool(self.subsets)

    def result_nbytes(self, problem: Any, n_features: int) -> int:
        return len(self.parts) << 19  # about what a distribution of two kinds takes

    def block(self, problem: Any, rows: Rows) -> Sums:
        assert rows.y is not None
        numbers = rows.start if rows.kept is None else rows.kept
        n_rows, s = len(rows), rows.sample_weight
        bad_s = InvalidRows.weights(s, numbers)
        if s is not None and not bad_s.rows and not s.all():
            rows = rows.select(np.asarray(s) > 0)
        y, offset = rows.y, None
        assert y is not None
        y = y[:, 0] if y.ndim == 2 and (y.shape[1] == 1 or self.has_offset) else y
        if self.has_offset:
            offset = rows.y[:, 1].astype(np.float64)  # type: ignore[index]
        numbers = rows.start if rows.kept is None else rows.kept
        bad_y = InvalidRows.nonfinite(y, numbers)
        if y.ndim == 1 and y.dtype.kind != "f":
            bad_y = bad_y + InvalidRows.of(no_label(y), y, numbers)
        if offset is not None:
            bad_y = bad_y + InvalidRows.nonfinite(offset, numbers)
        tile, bad_X = rows.tile(), InvalidRows()
        weight = float(len(rows) if rows.sample_weight is None else rows.sample_weight.sum())
        found = {"n_rows": n_rows, "weight": weight, "bad_y": bad_y, "bad_s": bad_s}
        if not len(rows) or bad_y.rows or bad_s.rows:
            bad_X = tile.X.nonfinite(tile.numbers)
            return Sums(**found, bad_X=bad_X, parts=Parts())
        targets = Targets(y, tile.sample_weight, self.classes)
        parts: list[Any] = [None] * len(self.parts)
        chosen = self._chosen(rows)
        known = {-1: targets}
        if any(view.model < 0 for view in self.views) or any(not model.linear for model, _ in self.models):
            bad_X = tile.X.nonfinite(tile.numbers)
        alone = self._of_one_subset()
        for subset in () if bad_X.rows else (-1, *range(len(self.subsets))):
            models = alone.get(subset, [])
            at = None if subset < 0 else chosen[subset]
            if not models or (at is not None and not len(at)):
                continue
            X = tile.X if at is None or 2 * len(at) > len(rows) else tile.X.select(at)
            for of_view, positions in self._responses(X, targets, models):
                if of_view is None:
                    bad_X = tile.X.nonfinite(tile.numbers)
                    break
                respond = of_view if X is tile.X or at is None else _OfSelected(of_view, at)
                shown: dict[int, Predicted] = {}
                for position in positions:
                    _, its, metric = self.parts[position]
                    if its < 0 or len(chosen[its]):
                        parts[position] = _statistic(metric, respond, its, chosen, known, shown, offset)
        if bad_X.rows:
            parts = []
        return Sums(**found, bad_X=bad_X, parts=Parts(tuple(parts)))

    def _chosen(self, rows: Rows) -> list[Array]:
        """The positions of the rows of each subset; cells are found once."""
        codes: dict[Any, Array] = {}
        out = []
        for subset in self.subsets:
            if subset.cells not in codes:
                codes[subset.cells] = subset.cells.of(rows.numbers)
            out.append(np.flatnonzero(subset.among(codes[subset.cells])))
        return out

    def _of_one_subset(self) -> dict[int, list[int]]:
        """The models, -1 for functions of rows, by the subset that alone is asked of them; by -1 the
        others."""
        asked: dict[int, set[int]] = {}
        for view, subset, _ in self.parts:
            asked.setdefault(self.views[view].model, set()).add(subset)
        out: dict[int, list[int]] = {}
        for model, subsets in asked.items():
            only = next(iter(subsets)) if len(subsets) == 1 and model >= 0 else -1
            out.setdefault(only, []).append(model)
        return out

    def _responses(self, X: Features, targets: Targets, models: list[int]) -> Iterator[tuple[Any, list[int]]]:
        """What each view of some models makes of rows with targets, as a function of positions and targets,
        and the positions of its parts; None where rows are not finite."""
        by_view: dict[int, list[int]] = {}
        for position, part in enumerate(self.parts):
            by_view.setdefault(part[0], []).append(position)
        by_model: dict[int, list[int]] = {}
        for position, view in enumerate(self.views):
            if view.model in models:
                by_model.setdefault(view.model, []).append(position)
        dense: Any = None
        for position in by_model.pop(-1, ()):
            dense = _as_given(X) if dense is None else dense
            yield _OfRows(self.views[position], dense), by_view.get(position, [])
        for model, z in self._margins(X, sorted(by_model)):
            if z is None:
                yield None, []
                return
            for position in by_model[model]:
                yield _OfMargins(self.views[position], z), by_view.get(position, [])

    def _margins(self, X: Features, wanted: list[int]) -> Iterator[tuple[int, Array | None]]:
        """The margins of each model; None where X is not finite. ValueError where they overflow."""
        stacks: dict[Any, list[tuple[int, Array]]] = {}
        for i in wanted:
            model, w = self.models[i]
            if type(model) is not Linear:
                yield i, _finite(margins(model, w, X), model, w, X)
                continue
            W = model.factors(w, X.dtype)
            W = W.reshape(len(W), -1)
            stack = stacks.setdefault((W.dtype, model.intercept), [])
            stack.append((i, W))
            if sum(W.shape[1] for _, W in stack) >= STACKED:
                yield from self._stacked(X, stacks.pop((W.dtype, model.intercept)))
        for stack in stacks.values():
            yield from self._stacked(X, stack)

    def _stacked(self, X: Features, stack: list[tuple[int, Array]]) -> Iterator[tuple[int, Array | None]]:
        """The margins of some linear models, by one product."""
        W = np.concatenate([one for _, one in stack], axis=1)
        p = X.shape[1]
        with np.errstate(over="ignore", invalid="ignore"):
            Z = X.dot(W[:p] if W.shape[1] > 1 else W[:p, 0]).reshape(len(X), -1)
            if len(W) > p:
                Z += W[-1]
            Z = Z.astype(X.dtype, copy=False)
        finite = bool(np.isfinite(Z).all())
        # Each model's margins lie together, as they are read many times.
        columns = np.ascontiguousarray(Z.T)
        start = 0
        for i, one in stack:
            model, w = self.models[i]
            stop = start + one.shape[1]
            z = columns[start] if model.outputs == 1 else Z[:, start:stop]
            yield i, z if finite else _finite(z, model, w, X)
            start = stop

    def answer(self, problem: Any, sums: Sums) -> tuple[Any, ...]:
        refuse(sums)
        return tuple(_value(metric, sums["parts"].parts[part]) for part, metric in self.questions)


@dataclass(frozen=True, slots=True, eq=False)
class _OfMargins:
    """The response of a model to the rows of a block, or some of them."""

    view: View
    z: Array

    def __call__(self, at: Array | None, targets: Targets, offset: Array | None) -> Predicted:
        z = self.z if at is None else self.z[at]
        if offset is not None and self.view.takes_offset:
            o = offset if at is None else offset[at]
            z = z + o.reshape(-1, *[1] * (z.ndim - 1))
        return self.view.of(z, targets)


@dataclass(frozen=True, slots=True, eq=False)
class _OfSelected:
    """The response to rows of a block at positions ``(n,)``, from margins of these alone."""

    respond: Callable[..., Predicted]
    at: Array

    def __call__(self, at: Array | None, targets: Targets, offset: Array | None) -> Predicted:
        return self.respond(None, targets, None if offset is None else offset[self.at])


@dataclass(slots=True, eq=False)
class _OfRows:
    """The same of a function of rows."""

    view: View
    X: Any
    _known: Predicted | None = None

    def __call__(self, at: Array | None, targets: Targets, offset: Array | None) -> Predicted:
        if self._known is None:
            self._known = self.view.of_rows(self.X, targets)
        values = self._known.values
        return Predicted(targets, values if at is None else values[at])


def _statistic(
    metric: Metric,
    respond: Callable[..., Predicted],
    subset: int,
    chosen: list[Array],
    known: dict[int, Targets],
    shown: dict[int, Predicted],
    offset: Array | None,
) -> Any:
    """The statistic of a metric of the rows of a subset; targets and predictions are made once for it."""
    try:
        if subset not in known:
            known[subset] = known[-1].select(chosen[subset])
        if subset not in shown:
            shown[subset] = respond(None if subset < 0 else chosen[subset], known[subset], offset)
        return statistic_of(metric, shown[subset])
    except Exception as error:  # the metric's own, which is answered in its place
        return Failed(error)


def _finite(z: Array, model: Model, w: Array, X: Features) -> Array | None:
    """Finite margins; None where X is not. ValueError where they overflow."""
    if not np.isfinite(z).all():  # float32 may have overflowed
        if X.nonfinite(0).first is not None:
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            z = margins(model, w, X.astype(np.float64))
        if not np.isfinite(z).all():
            raise ValueError(
                "Input X contains numbers too large for this model: its prediction overflows; rescale the "
                "rows, or drop them"
            )
    return z


def _as_given(X: Features) -> Any:
    """Rows as estimators of other libraries take them: an array, or a sparse matrix."""
    return X.matrix if hasattr(X, "matrix") else X.toarray()


def _value(metric: Metric, statistic: Any) -> Any:
    if statistic is None:
        return ValueError("expected rows in the subset, got none of positive weight")
    if isinstance(statistic, Failed):
        return statistic.error
    try:
        return metric.value(statistic)
    except Exception as error:  # the caller decides
        return error
