"""Evaluating models: many metrics of many models in one sweep over the data.

Of daskgd's estimators margins are asked, and what they make of them; others are called block by block. Knows
estimators by what they can do.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from daskgd.data.convert import as_dataset
from daskgd.data.dataset import Dataset
from daskgd.data.offsets import with_offset
from daskgd.engines.select import Choice, open_engine
from daskgd.metrics.kinds import key_of
from daskgd.metrics.queries import Evaluation, View
from daskgd.metrics.scorers import Scorer, scorers_of
from daskgd.models import Model
from daskgd.models.responses import ResponseProbe
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
    """Evaluate all items in one sweep, or one for each distinct encoder of pipelines.

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
    groups: dict[Any, tuple[Dataset, list[tuple[int, Any]]]] = {}
    encoded: dict[int, Dataset] = {}
    for i, item in enumerate(items):
        estimator, rows, key = item.estimator, dataset, None
        if hasattr(estimator, "_encoded") and hasattr(estimator, "steps"):
            if id(estimator) not in encoded:
                encoded[id(estimator)] = estimator._encoded(dataset)
            rows, estimator = encoded[id(estimator)], estimator.steps[-1][1]
            key = None if rows is dataset else rows.columns.X.identity()
        groups.setdefault(key, (rows, []))[1].append((i, estimator))
    out: list[dict[str, float | Exception]] = [{} for _ in items]
    for rows, members in groups.values():
        _evaluate_group(rows, [(items[i], estimator, out[i]) for i, estimator in members], engine)
    return out


def _evaluate_group(
    dataset: Dataset, members: Sequence[tuple[Item, Any, dict[str, float | Exception]]], engine: Choice
) -> None:
    """Evaluate estimators of the same features in one sweep."""
    if engine == "auto":
        engine = next((one.engine for _, one, _ in members if hasattr(one, "engine")), None)
    takes = [getattr(estimator, "_takes_offset", False) for _, estimator, _ in members]
    plain, offset = dataset, dataset.offset_column
    if offset is not None and all(takes):
        plain = dataset.replace(offset=None)
        dataset = with_offset(plain, offset, False)
    plan = _Plan(compute_dtype(plain.columns.X.dtype), plain.columns.X.dtype)
    checked = set()
    for item, estimator, _ in members:
        if id(estimator) not in checked:
            checked.add(id(estimator))
            check_is_fitted(estimator)
            if _is_ours(estimator):  # features and targets are those of the fit
                estimator._dataset(plain, None, None, reset=False)
        plan.add(item, estimator)
    with open_engine(dataset, engine) as (running, ready):
        values: tuple[Any, ...] = ()
        if plan.questions:
            query = plan.query(ready.classes, offset is not None and all(takes))
            values = running.sweep([Ask(None, query)])[0]
    found = iter(values)
    for (_, _, out), asked in zip(members, plan.asked, strict=True):
        for name, sign, error in asked:
            value = next(found) if error is None else error
            out[name] = value if isinstance(value, Exception) else _signed(value, sign)


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
