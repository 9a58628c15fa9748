"""Evaluating models: many metrics of many models in one sweep over the data.

Of daskgd's estimators margins are asked, and what they make of them; others are called block by block. Knows
estimators by what they can do.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from daskgd.data.convert import as_dataset
from daskgd.data.dataset import Dataset
from daskgd.data.offsets import with_offset
from daskgd.engines.select import Choice, open_engine
from daskgd.metrics.kinds.base import key_of
from daskgd.metrics.queries import Evaluation, View
from daskgd.metrics.scorers import Scorer, scorers_of
from daskgd.models import Model
from daskgd.models.responses import ResponseProbe
from daskgd.preprocessing.encoded import EncodedView
from daskgd.preprocessing.encoding import encoded_view
from daskgd.queries import Ask
from daskgd.rows.dtypes import compute_dtype
from daskgd.rows.subsets import Subset

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Item:
    """A fitted estimator, or a Pipeline, with the scorers of it that are asked, by name; of all rows, or of
    those of a subset."""

    estimator: Any
    scorers: Mapping[str, Scorer]
    subset: Subset | None = None


def evaluate_items(
    dataset: Dataset, items: Sequence[Item], engine: Choice = "auto"
) -> list[dict[str, float | Exception]]:
    """Evaluate all items in one sweep.

    Parameters
    ----------
    dataset : Dataset
        With targets.
    items : sequence of Item
    engine : as that of estimators
        ``"auto"`` is the `engine` of the first estimator.

    Returns
    -------
    list of dict
        Of each item the value of each scorer, greater being better; or the exception of one that has none,
        such as the area under the ROC curve of rows with one label.

    Raises
    ------
    ValueError
        For rows that are none or bad, as in ``fit``, and estimators that do not fit them.
    """
    if dataset.columns.y is None:
        raise ValueError("y: expected targets, got None: pass y, or a dataset with one")
    if engine == "auto":
        last = (item.estimator.steps[-1][1] if _has_encoders(item) else item.estimator for item in items)
        engine = next((one.engine for one in last if hasattr(one, "engine")), None)
    out: list[dict[str, float | Exception]] = [{} for _ in items]
    groups = _groups(dataset, items, out)
    offset = dataset.offset_column is not None
    if len(groups) == 1 or (offset and len({group.takes_offset for group in groups}) > 1):
        for group in groups:
            _evaluate_one(dataset, group, out, engine)
        return out
    try:
        _evaluate_groups(dataset, groups, out, engine)
    except ValueError:  # whose it is, they tell one by one
        for group in groups:
            _evaluate_one(dataset, group, out, engine)
    return out


@dataclass(slots=True)
class _Group:
    """Items whose estimators see the same features.

    Attributes
    ----------
    view : EncodedView or None
        What makes them; None where they are stored.
    members : list of (int, Item, estimator)
        The position of each item, and its estimator, the last step of a pipeline.
    """

    view: EncodedView | None
    members: list[tuple[int, Item, Any]]

    @property
    def takes_offset(self) -> bool:
        """Whether all of the estimators take an offset."""
        return all(getattr(estimator, "_takes_offset", False) for _, _, estimator in self.members)

    def narrowed(self) -> EncodedView | None:
        """The view of the rows that any of the items asks for."""
        subsets = [item.subset for _, item, _ in self.members]
        if self.view is None or any(one is None or one.cells != subsets[0].cells for one in subsets):  # type: ignore[union-attr]
            return self.view
        wanted = np.logical_or.reduce([one.members for one in subsets if one is not None])
        assert subsets[0] is not None
        return replace(self.view, subset=Subset(subsets[0].cells, tuple(wanted.tolist())))


def _has_encoders(item: Item) -> bool:
    return hasattr(item.estimator, "_encoders") and hasattr(item.estimator, "steps")


def _groups(
    dataset: Dataset, items: Sequence[Item], out: Sequence[dict[str, float | Exception]]
) -> list[_Group]:
    """The items in groups of the same features. Of one whose rows cannot be encoded the error is the answer,
    into `out`."""
    views: dict[Any, EncodedView | ValueError] = {}
    groups: dict[str, _Group] = {}  # by what they do
    for i, item in enumerate(items):
        estimator, view = item.estimator, None
        if _has_encoders(item):
            check_is_fitted(estimator)
            encoders = estimator._encoders()
            if encoders is not None:
                found = _view_of_item(encoders, item.subset, dataset, views)
                if isinstance(found, ValueError):
                    out[i].update(dict.fromkeys(item.scorers, found))
                    continue
                view = found
            estimator = estimator.steps[-1][1]
        key = "" if view is None else view.digest
        groups.setdefault(key, _Group(view, [])).members.append((i, item, estimator))
    return list(groups.values())


def _view_of_item(
    encoders: Any, subset: Subset | None, dataset: Dataset, views: dict[Any, EncodedView | ValueError]
) -> EncodedView | ValueError:
    """How encoders see the table, or why they cannot encode the rows of a subset. It is seen by the first
    rows of all, which may be others than these: where they cannot be encoded, by the first of the subset.
    `views` has what is known, by the encoders, which fits of the same rows may share."""
    same = tuple(id(step) for _, step in encoders.steps)
    for key, rows in ((same, dataset), ((same, subset), dataset.of_subset(subset))):
        if key not in views:
            try:
                views[key] = encoded_view(encoders, rows)
            except ValueError as error:
                views[key] = error
        if not isinstance(views[key], ValueError):
            break
    return views[key]


def _evaluate_one(
    dataset: Dataset, group: _Group, out: Sequence[dict[str, float | Exception]], engine: Choice
) -> None:
    """Evaluate a group alone. That the rows of an item cannot be encoded, or make no sound features, is its
    answer: whose they are, the subsets tell one by one."""
    try:
        _evaluate_groups(dataset, [group], out, engine)
    except ValueError as error:
        if group.view is None:
            raise
        by_subset: dict[Subset | None, list[tuple[int, Item, Any]]] = {}
        for member in group.members:
            by_subset.setdefault(member[1].subset, []).append(member)
        if len(by_subset) > 1:
            for members in by_subset.values():
                _evaluate_one(dataset, _Group(group.view, members), out, engine)
            return
        for i, item, _ in group.members:
            out[i].update(dict.fromkeys(item.scorers, error))


def _evaluate_groups(
    dataset: Dataset, groups: Sequence[_Group], out: Sequence[dict[str, float | Exception]], engine: Choice
) -> None:
    """Evaluate the items of some groups in one sweep, into `out`."""
    plain, offset = dataset, dataset.offset_column
    if takes := offset is not None and all(group.takes_offset for group in groups):
        assert offset is not None
        plain = dataset.replace(offset=None)
        dataset = with_offset(plain, offset, False)
    plans = [_plan(plain, group) for group in groups]
    views = [group.narrowed() for group in groups]
    bytes_ = max(0 if view is None else view.row_bytes for view in views)
    with open_engine(dataset, engine, view_row_bytes=bytes_) as (running, ready):
        asks = [
            Ask(None, plan.query(ready.classes, takes), view=view)
            for plan, view in zip(plans, views, strict=True)
            if plan.questions
        ]
        answers = iter(running.sweep(asks) if asks else ())
    for plan, group in zip(plans, groups, strict=True):
        found = iter(next(answers) if plan.questions else ())
        for (i, _, _), asked in zip(group.members, plan.asked, strict=True):
            for name, sign, error in asked:
                value = next(found) if error is None else error
                out[i][name] = value if isinstance(value, Exception) else _signed(value, sign)


def _plan(dataset: Dataset, group: _Group) -> _Plan:
    """What is to be summed up for a group. Raises ValueError for estimators that do not fit its features."""
    rows = dataset if group.view is None else group.view.encode(dataset)
    plan = _Plan(compute_dtype(rows.columns.X.dtype), rows.columns.X.dtype)
    checked = set()
    for _, item, estimator in group.members:
        if id(estimator) not in checked:
            checked.add(id(estimator))
            check_is_fitted(estimator)
            if _is_ours(estimator):  # features and targets are those of the fit
                estimator._dataset(rows, None, None, reset=False)
        plan.add(item, estimator)
    return plan


def _signed(value: Any, sign: int) -> Any:
    if isinstance(value, tuple | str | dict):  # curves and reports
        return value
    return sign * (float(value) if np.ndim(value) == 0 else value)


def _is_ours(estimator: Any) -> bool:
    return hasattr(estimator, "_map_rows") and hasattr(estimator, "_dataset")


class _Plan:
    """What one sweep is to sum up, each statistic once."""

    def __init__(self, dtype: np.dtype[Any], stored: np.dtype[Any]) -> None:
        self.dtype, self.stored = dtype, stored
        self.models: list[tuple[Model, Array]] = []
        self.views: list[View] = []
        self.subsets: list[Subset] = []
        self.parts: list[tuple[int, int, Any]] = []
        self.questions: list[tuple[int, Any]] = []
        self.asked: list[list[tuple[str, int, Exception | None]]] = []
        self._at: dict[Any, int] = {}
        self._kept: list[Any] = []

    def query(self, classes: Array | None, has_offset: bool) -> Evaluation:
        return Evaluation(
            tuple(self.models),
            tuple(self.views),
            tuple(self.subsets),
            tuple(self.parts),
            tuple(self.questions),
            classes,
            has_offset,
        )

    def _position(self, key: Any, value: Any, among: list[Any]) -> int:
        """The position of the value with this key, which is added where it is new."""
        if key not in self._at:
            among.append(value)
            self._at[key] = len(among) - 1
        return self._at[key]

    def add(self, item: Item, estimator: Any) -> None:
        """Add an item whose estimator, the last step of a pipeline, is given."""
        asked: list[tuple[str, int, Exception | None]] = []
        self.asked.append(asked)
        self._kept.append(estimator)  # as long as its id is a key
        subset = -1
        if item.subset is not None:
            subset = self._position(("subset", item.subset), item.subset, self.subsets)
        for name, scorer in item.scorers.items():
            try:
                view = self._view(estimator, scorer)
            except (AttributeError, ValueError, TypeError) as error:
                asked.append((name, scorer.sign, error))
                continue
            metric = scorer.metric
            part = self._position(("part", view, subset, key_of(metric)), (view, subset, metric), self.parts)
            self.questions.append((part, metric))
            asked.append((name, scorer.sign, None))

    def _view(self, estimator: Any, scorer: Scorer) -> int:
        """The view of an estimator that a scorer takes, by scikit-learn's rules."""
        method = next((name for name in scorer.methods if hasattr(estimator, name)), None)
        if method is None:
            raise AttributeError(f"{type(estimator).__name__} has none of {', '.join(scorer.methods)}")
        column, sign = None, 1
        classes = getattr(estimator, "classes_", None) if is_classifier(estimator) else None
        several = classes is not None and getattr(estimator, "_labels_of_model", None) is not None
        if classes is not None and len(classes) <= 2 and not several:
            known = np.asarray(classes).tolist()
            if scorer.pos_label is not None and scorer.pos_label not in known:
                raise ValueError(
                    f"pos_label={scorer.pos_label} is not a valid label: It should be one of {classes}"
                )
            at = len(known) - 1 if scorer.pos_label is None else known.index(scorer.pos_label)
            if method == "decision_function":
                sign = -1 if at == 0 and len(known) == 2 else 1
            elif method != "predict":
                column = at
        key = "view", id(estimator), method, column, sign
        if key not in self._at:
            self._position(key, self._make(estimator, method, column, sign), self.views)
        return self._at[key]

    def _make(self, estimator: Any, method: str, column: int | None, sign: int) -> View:
        if not _is_ours(estimator):
            return View(-1, OfRows(estimator, method), None, column, sign)
        response, dtype = getattr(estimator, method)(ResponseProbe(self.stored))
        content = pickle.dumps((response.model, response.w))
        model = self._position(("model", content), (response.model, response.w), self.models)
        takes = getattr(estimator, "_takes_offset", False)
        dtype = dtype if np.dtype(dtype).kind in "fi" and response.labels is None else None
        return View(model, response, dtype, column, sign, takes)


@dataclass(frozen=True)
class OfRows:
    """The predictions of an estimator of another library for dense rows."""

    estimator: Any
    method: str

    def __call__(self, X: Any) -> Array:
        names = getattr(self.estimator, "feature_names_in_", None)
        if names is not None and isinstance(X, np.ndarray):
            import pandas

            X = pandas.DataFrame(X, columns=names)
        return np.asarray(getattr(self.estimator, self.method)(X))


def evaluate(models: Any, X: Any, y: Any = None, *, scoring: Any = None, sample_weight: Any = None) -> Any:
    """Evaluate fitted models by one or several metrics, in one sweep over the data.

    Parameters
    ----------
    models : estimator, or a sequence or mapping of them
        Fitted: of daskgd, also pipelines, or others with ``predict``.
    X, y, sample_weight :
        As for ``fit``: a Dataset, path, dask or numpy arrays. Rows of weight 0 are absent.
    scoring : str, list of str, mapping, or scorer, optional
        Names as those of :func:`daskgd.metrics.get_scorer_names`, which are scikit-learn's; in a mapping by
        names of your own, also what ``make_scorer`` of scikit-learn or of this module gives. By default what
        ``score`` is: accuracy, R2, or D2 of generalised linear models.

    Returns
    -------
    dict, or a list or dict of dicts, as `models`
        The value of each metric by its name, ``"score"`` where none was named: greater is better, so that
        losses are negative.

    Raises
    ------
    ValueError
        For rows that are none or bad, as in ``fit``; for metrics that are not known, or have no value here,
        such as the area under the ROC curve of rows with a single label.

    Examples
    --------
    >>> import daskgd
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 3))
    >>> y = np.where(X[:, 0] + rng.normal(size=500) > 0, "yes", "no")
    >>> models = {C: daskgd.LogisticRegression(C=C).fit(X, y) for C in (1e-3, 1.0)}
    >>> found = evaluate(models, X, y, scoring=["accuracy", "roc_auc", "neg_log_loss"])
    >>> {name: round(value, 2) for name, value in found[1.0].items()}
    {'accuracy': 0.74, 'roc_auc': 0.82, 'neg_log_loss': -0.51}
    """
    named = isinstance(models, Mapping)
    several = named or (isinstance(models, Sequence) and not hasattr(models, "predict"))
    chosen = list(models.values()) if named else list(models) if several else [models]
    if not chosen:
        raise ValueError("models: expected at least one fitted model, got none")
    items = [Item(one, scorers_of(scoring, one)) for one in chosen]
    with _opened(chosen, X, y, sample_weight) as dataset:
        found = evaluate_items(dataset, items)
    for one in found:
        for name, value in one.items():
            if isinstance(value, Exception):
                value.add_note(f"in the metric {name!r}")
                raise value
    if named:
        return dict(zip(models, found, strict=True))
    return found if several else found[0]


@contextmanager
def _opened(models: Sequence[Any], X: Any, y: Any, sample_weight: Any) -> Iterator[Dataset]:
    """The rows as a dataset. Of pipelines these are the table that they open."""
    opening = next((one._opened for one in models if hasattr(one, "_opened")), None)
    if opening is None:
        yield as_dataset(X, y, sample_weight)
        return
    with opening(X, y, sample_weight) as table:
        yield table
