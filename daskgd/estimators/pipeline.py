"""Pipelines: scikit-learn's, which also take tables that do not fit in memory.

Encoders are fitted by sums (:mod:`daskgd.preprocessing`), and the estimator at the end sees the table encoded
block by block. Rows in memory go scikit-learn's own way.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Self, TypeVar

import dask
import dask.array as da
import numpy as np
from numpy.typing import NDArray
from sklearn import pipeline
from sklearn.base import BaseEstimator, clone
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from daskgd._compat.dask import example_rows
from daskgd._compat.sklearn import check_steps
from daskgd.data.by_columns import temporary_root
from daskgd.data.convert import as_dataset, is_in_memory
from daskgd.data.dataset import Dataset, open_dataset
from daskgd.data.writing import write_dataset
from daskgd.estimators.base import Estimator
from daskgd.estimators.files import save_pipeline
from daskgd.monitoring.events import Watcher
from daskgd.preprocessing.encoding import digest_of_encoder, encode
from daskgd.preprocessing.facts import Facts
from daskgd.preprocessing.fitting import fit_encoder
from daskgd.preprocessing.missing import knows_none, with_nan
from daskgd.training.checkpoint import Checkpoint

Array = NDArray[Any]


Method = TypeVar("Method", bound=Callable[..., Any])


def if_last_has(name: str) -> Callable[[Method], Method]:
    """Make a method be there only where the last step has one of that name, or passes what it would
    transform."""

    def check(self: Any) -> bool:
        last = self.steps[-1][1]
        return (name == "transform" and last in (None, "passthrough")) or bool(getattr(last, name))

    found: Callable[[Method], Method] = available_if(check)
    return found


class Pipeline(pipeline.Pipeline):
    """Encoders and an estimator, one after the other: scikit-learn's ``Pipeline`` for tables of any size.

    ``fit``, ``predict``, ``score`` and the others also take what :func:`daskgd.ingest` and
    :func:`daskgd.write_dataset` wrote, by path or opened, and lazy frames and arrays of dask. The encoders
    are scikit-learn's own, unfitted; sums over the data, made in as few sweeps as there are encoders that
    build on each other, fit them as scikit-learn would; no encoded copy of the data is made. Rows in memory
    go scikit-learn's own way.

    Parameters
    ----------
    steps : list of (str, transformer or estimator)
        The last one is an estimator of daskgd's. Before it `ColumnTransformer`, `FeatureUnion`, `Pipeline`
        and the transformers that :func:`daskgd.preprocessing.kinds.table.kind_of` knows; others as
        ``sklearn.frozen.FrozenEstimator`` of one that was fitted on a sample.
    transform_input : list of str, optional
        As scikit-learn's; only for rows in memory.
    memory : optional
        As scikit-learn's, where to keep fitted transformers; only for rows in memory.
    verbose : bool
        Whether to print how long each step took.

    Attributes
    ----------
    named_steps : Bunch
        The steps by name, fitted after ``fit``.
    classes_, n_features_in_, feature_names_in_ :
        As scikit-learn's.

    Examples
    --------
    >>> import daskgd, tempfile
    >>> from pathlib import Path
    >>> from sklearn.compose import make_column_transformer
    >>> from sklearn.preprocessing import OneHotEncoder, StandardScaler
    >>> folder = Path(tempfile.mkdtemp())
    >>> rows = ["from,miles,late", "EWR,200,no", "JFK,900,yes", "EWR,700,yes", "JFK,300,no"] * 5
    >>> _ = (folder / "a.csv").write_text(chr(10).join([rows[0], *(r for r in rows if "late" not in r)]))
    >>> daskgd.ingest(folder / "a.csv", folder / "a.zarr", target="late")
    >>> encode = make_column_transformer((OneHotEncoder(), ["from"]), (StandardScaler(), ["miles"]))
    >>> model = daskgd.make_pipeline(encode, daskgd.LogisticRegression()).fit(folder / "a.zarr")
    >>> model.get_feature_names_out().tolist()
    ['onehotencoder__from_EWR', 'onehotencoder__from_JFK', 'standardscaler__miles']
    >>> model.score(folder / "a.zarr")
    1.0
    """

    steps: list[tuple[str, Any]]

    # -- fitting --------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
        every: int | str = 1,
        watch: Watcher | Sequence[Watcher] | None = None,
        **params: Any,
    ) -> Self:
        """Fit the encoders, then the estimator.

        Parameters
        ----------
        X : Dataset, path, dask frame or array; or whatever scikit-learn takes, in memory
        y : array ``(n,)`` or ``(n, k)``, optional
            None where X is a Dataset or path that holds its own target; beside a dask frame also the name
            of a column.
        sample_weight : array ``(n,)``, optional
            Of the estimator alone: encoders count each row once, as those of scikit-learn do.
        checkpoint, every, watch :
            As of the estimator's ``fit``. A fit that is resumed fits the encoders again, to the same bits.
        **params : dict
            ``step__name=value``: further arguments of the ``fit`` of a step, the last one alone for a table.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            For a transformer that sums cannot fit, with what to do, and for a last step that is not of
            daskgd's.
        ValueError
            For columns that an encoder cannot take, by name.
        """
        name = self.steps[-1][0]
        own: dict[str, Any] = {"checkpoint": checkpoint, "watch": watch, "sample_weight": sample_weight}
        own = {key: value for key, value in own.items() if value is not None}
        if checkpoint is not None:
            own["every"] = every
        if is_in_memory(X):
            own = {f"{name}__{key}": value for key, value in own.items()}
            super().fit(self._plain(X), y, **own, **params)
            return self
        check_steps(self)
        estimator = self._estimator()
        own |= self._of_last_step(params)
        self._check_settings(estimator)
        with _table(X, y, own.pop("sample_weight", None)) as table:
            encoded = self._fit_encoders(table, estimator.engine)
            started = time.perf_counter()
            estimator.fit(encoded, **own)
            if encoded is not table:  # names that messages use; rows to predict for are arrays
                estimator.__dict__.pop("feature_names_in_", None)
            self._say(len(self.steps) - 1, started)
        return self

    def _estimator(self) -> Estimator:
        estimator = self.steps[-1][1]
        if not isinstance(estimator, Estimator):
            name, over = type(estimator).__name__, getattr(estimator, "_searched", None)
            instead = "take daskgd's of the same name"
            if over is not None:
                instead = (
                    f"take {over} as the last step and search over the pipeline, as with GridSearchCV, or "
                    f"fit {name} to encoded rows, without a pipeline"
                )
            raise TypeError(
                "Pipeline: expected an estimator of daskgd as the last step, to fit a table, got "
                f"{name}; {instead}"
            )
        return estimator

    def _specification(self) -> Any:
        """The encoders, unfitted."""
        return pipeline.Pipeline([(name, clone(step, safe=False)) for name, step in self.steps[:-1]])

    def _of_last_step(self, params: dict[str, Any]) -> dict[str, Any]:
        """The arguments for the estimator. Raises ValueError for others."""
        last, own = self.steps[-1][0], {}
        for key, value in params.items():
            step, _, name = key.partition("__")
            if step != last or not name:
                raise ValueError(
                    f"Pipeline.fit: expected arguments of the last step, as {last}__sample_weight, where X "
                    f"is a table, got {key!r}; encoders are fitted with all rows, each counted once"
                )
            own[name] = value
        return own

    def _check_settings(self, estimator: Estimator) -> None:
        for name in ("memory", "transform_input"):
            if getattr(self, name, None) is not None:
                raise ValueError(
                    f"Pipeline: expected {name}=None where X is a table, got {getattr(self, name)!r}; leave "
                    "it out"
                )
        estimator._check_parameters()

    @property
    def _has_encoders(self) -> bool:
        """Whether a step before the last one does anything."""
        return any(step not in (None, "passthrough") for _, step in self.steps[:-1])

    def _take_encoders(self, fitted: Any) -> None:
        """Take the fitted encoders of this specification."""
        self.steps = [*fitted.steps, self.steps[-1]]

    def _fit_encoders(self, table: Dataset, engine: Any) -> Dataset:
        """Fit all steps but the last, which replace those of the specification; the encoded table."""
        before = self.steps[:-1]
        if not self._has_encoders:
            return table
        started = time.perf_counter()
        facts = Facts.of(table.schema)
        fitted = fit_encoder(pipeline.Pipeline(before), table, engine, facts)
        self._take_encoders(fitted)
        self._say(len(before) - 1, started)
        return encode(table, fitted, named=True, facts=facts)

    def _say(self, step: int, started: float) -> None:
        if self.verbose:
            seconds = time.perf_counter() - started
            which = f"(step {step + 1} of {len(self.steps)}) {self.steps[step][0]}"
            print(f"[Pipeline] {which}, total={seconds:6.1f}s")

    def plan(self, X: Any, y: Any = None) -> Any:
        """Plan what the estimator's ``fit`` would do with the encoded table: see
        :meth:`LogisticRegression.plan`. The encoders are fitted for it, in their sweeps; the pipeline stays
        as it is."""
        with _table(X, y) as table:
            return self._plan_of(table)[0]

    def _plan_of(self, table: Dataset) -> tuple[Any, int]:
        """The plan of the estimator's fit to the encoded table, and the sweeps that fitted the encoders."""
        estimator, facts = self._estimator(), Facts.of(table.schema)
        if self.steps[:-1]:
            fitted = fit_encoder(pipeline.Pipeline(self.steps[:-1]), table, estimator.engine, facts)
            table = encode(table, fitted, facts=facts)
        return estimator.plan(table), facts.n_sweeps

    # -- using ----------------------------------------------------------------------------------

    def _encoders(self) -> Any:
        return pipeline.Pipeline(self.steps[:-1]) if len(self.steps) > 1 else None

    def _encoded(self, X: Any) -> Dataset:
        """The table, encoded by the fitted encoders."""
        check_is_fitted(self)
        table = _open(X)
        encoders = self._encoders()
        return table if encoders is None else encode(table, encoders)

    def _encoded_rows(self, X: Any) -> Any:
        """Rows in memory, encoded by the fitted encoders."""
        encoders = self._encoders()
        return X if encoders is None else encoders.transform(self._plain(X))

    @contextmanager
    def _opened(self, X: Any, y: Any = None, sample_weight: Any = None) -> Iterator[Dataset]:
        """Rows as a dataset to evaluate; those in memory are written to a temporary store, with their
        types."""
        if not is_in_memory(X):
            with _table(X, y, sample_weight) as table:
                yield table
            return
        with tempfile.TemporaryDirectory(prefix="daskgd-", dir=temporary_root()) as folder:
            write_dataset(f"{folder}/table.zarr", X, y, sample_weight)
            yield open_dataset(f"{folder}/table.zarr")

    def _plain(self, X: Any) -> Any:
        """Rows in memory with NaN where text is missing, as in tables, unless an encoder says None itself."""
        return X if knows_none(self) else with_nan(X)

    def _of_rows(self, name: str, X: Any, **params: Any) -> Any:
        if is_in_memory(X):
            return getattr(super(), name)(self._plain(X), **params)
        if hasattr(X, "to_delayed") and hasattr(X, "to_dask_array"):
            return _of_partitions(getattr(self, name), X, params, self._no_predictions(name, X, params))
        return getattr(self.steps[-1][1], name)(self._encoded(X), **params)

    def _no_predictions(self, name: str, frame: Any, params: dict[str, Any]) -> Array:
        """An empty array as the predictions for a frame of dask are."""
        try:
            found = getattr(self, name)(example_rows(frame), **params)
        except ValueError:  # an encoder that knows none of the categories there
            last = self.steps[-1][1]
            found = getattr(last, name)(np.zeros((1, last.n_features_in_)), **params)
        return np.asarray(found)[:0]

    @if_last_has("predict")
    def predict(self, X: Any, **params: Any) -> Any:
        """Predict labels or numbers: a numpy array for rows in memory, a lazy dask array for a table."""
        return self._of_rows("predict", X, **params)

    @if_last_has("predict_proba")
    def predict_proba(self, X: Any, **params: Any) -> Any:
        """Predict the probability of each class ``(n, k)``, as :meth:`predict`."""
        return self._of_rows("predict_proba", X, **params)

    @if_last_has("predict_log_proba")
    def predict_log_proba(self, X: Any, **params: Any) -> Any:
        """Predict the logarithm of the probability of each class ``(n, k)``, as :meth:`predict`."""
        return self._of_rows("predict_log_proba", X, **params)

    @if_last_has("decision_function")
    def decision_function(self, X: Any, **params: Any) -> Any:
        """The margins ``(n,)`` or ``(n, k)``, as :meth:`predict`."""
        return self._of_rows("decision_function", X, **params)

    @if_last_has("score")
    def score(self, X: Any, y: Any = None, sample_weight: Any = None, **params: Any) -> float:
        """Score the model in one sweep: see :meth:`LogisticRegression.score`.

        Parameters
        ----------
        X, y, sample_weight :
            As of ``fit``.

        Returns
        -------
        float
        """
        if is_in_memory(X):
            return float(super().score(self._plain(X), y, sample_weight, **params))
        with _table(X, y, sample_weight) as table:
            return float(self.steps[-1][1].score(self._encoded(table), **params))

    @if_last_has("transform")
    def transform(self, X: Any, **params: Any) -> Any:
        """Encode rows in memory by steps without an estimator at the end, as ``pipeline[:-1]`` has them."""
        return super().transform(self._plain(X), **params)

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """The names of the features that the estimator sees."""
        encoders = self._encoders()
        if encoders is None or not isinstance(self.steps[-1][1], BaseEstimator):
            return np.asarray(super().get_feature_names_out(input_features))
        return np.asarray(encoders.get_feature_names_out(input_features))

    # -- telling --------------------------------------------------------------------------------

    def to_sklearn(self) -> Any:
        """Make a fitted ``sklearn.pipeline.Pipeline``, which predicts the same without daskgd.

        Returns
        -------
        sklearn.pipeline.Pipeline
        """
        check_is_fitted(self)
        name, estimator = self.steps[-1]
        last = estimator.to_sklearn() if hasattr(estimator, "to_sklearn") else estimator
        return pipeline.Pipeline([*self.steps[:-1], (name, last)], memory=self.memory, verbose=self.verbose)

    def save(self, path: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None) -> None:
        """Write the fitted pipeline to one file, whole or not at all; :func:`daskgd.load_model` reads it.

        The encoders are in it by their classes and attributes, those of this release of scikit-learn; no
        pickle.

        Parameters
        ----------
        path : str or PathLike
            Or a URL that fsspec knows. A file that is there is replaced.
        storage_options : mapping, optional
            For fsspec.

        Raises
        ------
        sklearn.exceptions.NotFittedError
        TypeError
            For steps of other libraries, and functions of your own.
        """
        save_pipeline(self, path, storage_options)


def make_pipeline(
    *steps: Any, memory: Any = None, transform_input: Any = None, verbose: bool = False
) -> Pipeline:
    """Make a :class:`daskgd.Pipeline` of steps that are named after their classes, as scikit-learn does.

    Parameters
    ----------
    *steps : transformers, and an estimator at the end
    memory, transform_input, verbose :
        As of :class:`daskgd.Pipeline`.

    Returns
    -------
    Pipeline

    Examples
    --------
    >>> import daskgd
    >>> from sklearn.preprocessing import StandardScaler
    >>> [name for name, _ in daskgd.make_pipeline(StandardScaler(), daskgd.Ridge()).steps]
    ['standardscaler', 'ridge']
    """
    named = pipeline.make_pipeline(*steps).steps
    return Pipeline(named, transform_input=transform_input, memory=memory, verbose=verbose)


def pipelines_together(
    pipelines: Sequence[Any], fit: Callable[..., Any], X: Any, y: Any, sample_weight: Any
) -> list[Any]:
    """Fit pipelines whose encoders are the same to one table: the encoders once, then with `fit` all
    estimators.

    Raises TypeError for what is no pipeline, ValueError for encoders that differ and for rows in memory.
    """
    for one in pipelines:
        if not isinstance(one, Pipeline):
            raise TypeError(
                f"together: expected pipelines alone, or estimators alone, got a {type(one).__name__} among "
                "pipelines"
            )
    if is_in_memory(X):
        raise ValueError(
            "together: expected a table for pipelines, a path, a Dataset or a frame of dask, got rows in "
            "memory; write them with daskgd.write_dataset"
        )
    first, *others = pipelines
    for one in pipelines:
        one._check_settings(one._estimator())
    for one in others:
        if digest_of_encoder(one._specification()) != digest_of_encoder(first._specification()):
            raise ValueError(
                "together: expected the same encoders in all pipelines, which are then fitted once, got "
                f"{one._specification()} beside {first._specification()}"
            )
    last = [one._estimator() for one in pipelines]
    with _table(X, y, sample_weight) as table:
        encoded = first._fit_encoders(table, last[0].engine)
        for one in others:
            one._take_encoders(deepcopy(pipeline.Pipeline(first.steps[:-1])))
        fit(last, encoded)
    if encoded is not table:
        for estimator in last:
            estimator.__dict__.pop("feature_names_in_", None)
    return list(pipelines)


def _open(X: Any, y: Any = None, sample_weight: Any = None) -> Dataset:
    if isinstance(X, str | os.PathLike):
        X = open_dataset(X)
    return as_dataset(X, y, sample_weight)


def _of_partitions(predict: Callable[..., Any], frame: Any, params: dict[str, Any], empty: Array) -> da.Array:
    """The predictions for a frame of dask, whose partitions are frames in memory: a lazy array of as many
    chunks."""
    parts = [dask.delayed(predict)(part, **params) for part in frame.to_delayed()]
    shape = (np.nan, *empty.shape[1:])
    arrays = [da.from_delayed(part, shape, meta=empty) for part in parts]
    return da.concatenate(arrays, allow_unknown_chunksizes=True)


@contextmanager
def _table(X: Any, y: Any = None, sample_weight: Any = None) -> Iterator[Dataset]:
    """The table that was passed, as a dataset. Frames of dask with text go to a temporary store, by their
    workers, which is removed at the end."""
    if not hasattr(X, "to_dask_array") or not _has_types(X, y):
        yield _open(X, y, sample_weight)
        return
    with tempfile.TemporaryDirectory(prefix="daskgd-", dir=temporary_root()) as folder:
        write_dataset(f"{folder}/table.zarr", X, y, sample_weight)
        yield open_dataset(f"{folder}/table.zarr")


def _has_types(X: Any, y: Any) -> bool:
    """Whether a frame of dask has columns that are no numbers, or the target among them."""
    kinds = {getattr(dtype, "kind", "O") for dtype in getattr(X, "_meta", X).dtypes}
    return isinstance(y, str) or not kinds <= set("fiub")
