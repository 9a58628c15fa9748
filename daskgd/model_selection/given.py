"""What searches and validations are given: data, and scikit-learn's jobs, of which there are none. Knows data
sets; no estimators."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from daskgd.data.convert import as_dataset
from daskgd.data.dataset import Dataset, open_dataset


def dataset_of(X: Any, y: Any, params: Mapping[str, Any] | None, name: str) -> Dataset:
    """The rows that were passed to a search or function of this name, as a data set. Raises ValueError for
    `params` other than ``sample_weight``."""
    others = set(params or {}) - {"sample_weight"}
    if others:
        raise ValueError(f"{name}: expected params of sample_weight alone, got {sorted(others)}")
    if isinstance(X, str | os.PathLike):
        X = open_dataset(X)
    return as_dataset(X, y, (params or {}).get("sample_weight"))


def weighted_and_not(
    X: Any, y: Any, params: Mapping[str, Any] | None, name: str
) -> tuple[Dataset, Dataset | None]:
    """The rows as a data set, and without the weights that `params` gave them, if it did."""
    dataset = dataset_of(X, y, params, name)
    if (params or {}).get("sample_weight") is None:
        return dataset, None
    return dataset, dataset.replace(dataset.columns._replace(sample_weight=None))


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
