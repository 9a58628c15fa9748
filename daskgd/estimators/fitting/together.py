"""Fitting many estimators on the same data in the same sweeps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

from daskgd.estimators.base import Estimator
from daskgd.estimators.fitting.empty_features import on_occurring_features
from daskgd.estimators.fitting.run import run_fits
from daskgd.estimators.pipeline import Pipeline, pipelines_together
from daskgd.monitoring.events import Watcher, watchers_of
from daskgd.training.checkpoint import Checkpoint


def together(
    estimators: Sequence[Estimator | Pipeline],
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    every: int | str = 1,
    watch: Watcher | Sequence[Watcher] | None = None,
) -> list[Any]:
    """Fit many estimators on the same data, sharing every sweep.

    While several are unfinished, each read of the data answers what all of them ask next: a grid of penalties
    or losses costs as many sweeps as its slowest member.

    Parameters
    ----------
    estimators : sequence of estimators
        Each with settings of its own; they share one engine, so that `engine` and `memory`
        must be equal. Pipelines, all of them, whose encoders are the same: these are fitted once.
    X, y, sample_weight :
        As for ``fit``.
    checkpoint, every :
        As for ``fit``: one checkpoint for all of them, which are resumed together.
    watch :
        As for ``fit``: called with the events of each of them, by names such as ``"Ridge-0"``.

    Returns
    -------
    list
        The same estimators, fitted. `n_sweeps_` of each counts the shared sweeps it took part in.

    Examples
    --------
    >>> import daskgd, numpy as np
    >>> X, y = np.arange(20.0).reshape(10, 2) % 7, np.arange(10) % 2
    >>> a, b = daskgd.together([daskgd.LogisticRegression(C=1.0), daskgd.LogisticRegression(C=0.1)], X, y)
    >>> bool(np.linalg.norm(a.coef_) > np.linalg.norm(b.coef_))
    True
    """
    kept, watchers = Checkpoint.of(checkpoint, every), watchers_of(watch)
    estimators = list(estimators)
    if any(isinstance(estimator, Pipeline) for estimator in estimators):
        fit = partial(together, checkpoint=checkpoint, every=every, watch=watch)
        return pipelines_together(estimators, fit, X, y, sample_weight)
    if not estimators:
        raise ValueError("together: expected at least one estimator, got none")
    if len({id(e) for e in estimators}) < len(estimators):
        raise ValueError(
            "together: expected distinct estimators, got the same object twice; use sklearn.clone"
        )
    for estimator in estimators:
        if not isinstance(estimator, Estimator):
            raise TypeError(f"together: expected estimators of daskgd, got {type(estimator).__name__}")
        estimator._check_parameters()
        estimator._draw_seed()
        if estimator.engine != estimators[0].engine:
            raise ValueError(
                f"together: expected one engine for all, got {estimators[0].engine!r} and "
                f"{estimator.engine!r}"
            )
        if estimator.memory != estimators[0].memory:
            raise ValueError(
                f"together: expected one memory for all, got {estimators[0].memory!r} and "
                f"{estimator.memory!r}"
            )
    dataset = estimators[0]._dataset(X, y, sample_weight)
    for estimator in estimators[1:]:
        estimator._admit(dataset, estimator._validate(X, y, reset=True), reset=True)
    own = []
    for estimator in estimators:
        rows, mine = estimator._prepare_rows(dataset)
        if rows is not dataset:
            raise ValueError(
                f"together: expected early_stopping=False, got {estimator.early_stopping!r} of "
                f"{type(estimator).__name__}: which rows to set aside, all fits must agree on; split "
                "them before, and pass watch=daskgd.EarlyStopping(...)"
            )
        own.append(mine)
    with on_occurring_features(estimators, dataset) as some:
        run_fits(estimators, some, (X, y, sample_weight), kept, watchers, own)
    for estimator in estimators:
        estimator._look_back(dataset)
    return estimators
