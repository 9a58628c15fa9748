"""What searches and validations are given: data, and scikit-learn's jobs, of which there are none. Knows data
sets; estimators by what they can do."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from daskgd.data.convert import as_dataset, is_in_memory, is_sparse_in_memory
from daskgd.data.dataset import Dataset, open_dataset


def dataset_of(X: Any, y: Any, params: Mapping[str, Any] | None, name: str) -> Dataset:
    """The rows that were passed to a search or function of this name, as a data set. Raises ValueError for
    `params` other than ``sample_weight``."""
    weight = _weight_of(params, name)
    if isinstance(X, str | os.PathLike):
        X = open_dataset(X)
    return as_dataset(X, y, weight)


def _weight_of(params: Mapping[str, Any] | None, name: str, pipeline: Any = None) -> Any:
    """The weights among `params`, which may be named as those of the last step of a pipeline."""
    given, names, hint = dict(params or {}), ["sample_weight"], ""
    if pipeline is not None:
        names.append(f"{pipeline.steps[-1][0]}__sample_weight")
        hint = f", or {names[1]}, as encoders count each row once"
    others = sorted(set(given) - set(names))
    if others:
        raise ValueError(f"{name}: expected params of sample_weight alone{hint}, got {others}")
    if len(given) > 1:
        raise ValueError(f"{name}: expected sample weights once in params, got {' and '.join(names)}")
    return next(iter(given.values()), None)


@contextmanager
def table_of(
    estimator: Any, X: Any, y: Any, params: Mapping[str, Any] | None, name: str
) -> Iterator[Dataset]:
    """As :func:`dataset_of`, for fits of an estimator. The columns of frames keep their types for a pipeline,
    in a temporary store that is removed at the end."""
    pipeline = pipeline_within(estimator)
    weight = _weight_of(params, name, pipeline)
    if pipeline is None or (is_in_memory(X) and not _has_types(X)):
        yield dataset_of(X, y, {"sample_weight": weight}, name)
        return
    with pipeline._opened(X, y, weight) as table:
        yield table


def pipeline_within(estimator: Any) -> Any:
    """The pipeline that an estimator is, or that a search is over; None where there is none."""
    while not hasattr(estimator, "_opened"):
        estimator = getattr(estimator, "estimator", None)
        if estimator is None:
            return None
    return estimator


def _has_types(X: Any) -> bool:
    """Whether X is a frame in memory, not all of whose columns are plain numbers."""
    if not (hasattr(X, "columns") and hasattr(X, "dtypes")) or is_sparse_in_memory(X):
        return False
    return not all(isinstance(dtype, np.dtype) and dtype.kind in "fiub" for dtype in X.dtypes)


@contextmanager
def weighted_and_not(
    estimator: Any, X: Any, y: Any, params: Mapping[str, Any] | None, name: str
) -> Iterator[tuple[Dataset, Dataset | None]]:
    """The rows as of :func:`table_of`, and without the weights that `params` gave them, if it did."""
    with table_of(estimator, X, y, params, name) as dataset:
        if all(value is None for value in (params or {}).values()):
            yield dataset, None
        else:
            yield dataset, dataset.replace(dataset.columns._replace(sample_weight=None))


def refuse_jobs(name: str, n_jobs: Any, pre_dispatch: Any, default: str) -> None:
    """Raise ValueError for jobs that would not be made."""
    if n_jobs not in (None, -1):
        raise ValueError(
            f"{name}: expected n_jobs=None or -1, got {n_jobs!r}: fits share the reads of the data, and "
            "their blocks run on the engine, on as many threads as that has"
        )
    if pre_dispatch != default:
        raise ValueError(
            f"{name}: expected pre_dispatch to be left out, as there are no jobs to dispatch, got "
            f"{pre_dispatch!r}"
        )
