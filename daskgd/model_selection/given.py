"""What searches and validations are given: data to fit, data to score on, and scikit-learn's jobs, of which there
are none. Knows data sets; no estimators."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from daskgd.data.convert import as_dataset
from daskgd.data.dataset import Dataset, open_dataset


@dataclass(frozen=True, slots=True)
class GivenData:
    """The rows to fit, and to score on.

    Attributes
    ----------
    dataset : Dataset
    scored : Dataset
        The same rows; without weights where these were given beside the rows, as in scikit-learn.
    """

    dataset: Dataset
    scored: Dataset

    @classmethod
    def of(cls, X: Any, y: Any, params: Mapping[str, Any], name: str) -> GivenData:
        """Those of what was passed to a search or function of this name. Raises ValueError for `params` other
        than ``sample_weight``."""
        others = set(params) - {"sample_weight"}
        if others:
            raise ValueError(f"{name}: expected params of sample_weight alone, got {sorted(others)}")
        weight = params.get("sample_weight")
        if isinstance(X, str | os.PathLike):
            X = open_dataset(X)
        dataset = as_dataset(X, y, weight)
        if weight is None:
            return cls(dataset, dataset)
        return cls(dataset, dataset.replace(dataset.columns._replace(sample_weight=None)))


def refuse_jobs(name: str, n_jobs: Any, pre_dispatch: Any, default: str) -> None:
    """Raise ValueError for jobs that would not be made."""
    if n_jobs not in (None, -1):
        raise ValueError(
            f"{name}: expected n_jobs=None or -1, got {n_jobs!r}: fits share the reads of the data, and their blocks "
            "run on the engine, on as many threads as that has"
        )
    if pre_dispatch != default:
        raise ValueError(
            f"{name}: expected pre_dispatch to be left out, as there are no jobs to dispatch, got {pre_dispatch!r}"
        )
