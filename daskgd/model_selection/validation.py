"""Cross-validation and curves: scikit-learn's functions, whose fits share the reads of the data."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.utils import check_random_state

from daskgd._compat.dask import meta_of
from daskgd.data.convert import is_in_memory
from daskgd.estimators.base import Estimator
from daskgd.estimators.fitting.run import FirstSweepAnswers
from daskgd.estimators.pipeline import Pipeline
from daskgd.model_selection.fits import Member, fit_members
from daskgd.model_selection.given import refuse_jobs, table_of, weighted_and_not
from daskgd.model_selection.scores import named_scorers, try_candidates
from daskgd.model_selection.search import SharedSearch
from daskgd.model_selection.searched import SearchedEstimator
from daskgd.model_selection.splitters import row_numbers, splits_of, subsets_of
from daskgd.monitoring.events import Watcher, watchers_of
from daskgd.training.checkpoint import Checkpoint

Array = NDArray[Any]


def cross_validate(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    groups: Any = None,
    scoring: Any = None,
    cv: Any = None,
    n_jobs: int | None = None,
    verbose: int = 0,
    params: Mapping[str, Any] | None = None,
    pre_dispatch: str = "2*n_jobs",
    return_train_score: bool = False,
    return_estimator: bool = False,
    return_indices: bool = False,
    error_score: Any = np.nan,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    every: int | str = 1,
    watch: Watcher | Sequence[Watcher] | None = None,
) -> dict[str, Any]:
    """Fit an estimator on the training rows of each split, and score it on the others, in shared reads.

    Parameters
    ----------
    estimator : estimator of daskgd's, or a :class:`daskgd.Pipeline`
    X, y :
        As of the estimator's ``fit``.
    groups, scoring, cv, error_score, return_train_score :
        As of :class:`GridSearchCV`.
    n_jobs, pre_dispatch :
        As of :class:`GridSearchCV`: no jobs are made.
    verbose : int
    params : mapping, optional
        ``{"sample_weight": ...}``, for the fits; of a pipeline also by the name of its last step, as
        ``"ridge__sample_weight"``. Scores count each row once, as in scikit-learn.
        Weights that a Dataset holds count in both.
    return_estimator, return_indices : bool
        Whether the result holds the fitted estimators, and the row positions of the splits.
    checkpoint, every, watch :
        As of the estimator's ``fit``.

    Returns
    -------
    dict
        ``test_score`` or ``test_<name>`` ``(n_splits,)``, ``train_...``, ``fit_time``, ``score_time``,
        ``estimator``, ``indices``, as scikit-learn's.

    Examples
    --------
    >>> import daskgd
    >>> from daskgd.model_selection import cross_validate
    >>> X = np.arange(40.0).reshape(20, 2) % 7
    >>> cross_validate(daskgd.LinearRegression(), X, X @ [1.0, -2.0])["test_score"].round(6)
    array([1., 1., 1., 1., 1.])
    """
    refuse_jobs("cross_validate", n_jobs, pre_dispatch, "2*n_jobs")
    kept, watchers = Checkpoint.of(checkpoint, every), watchers_of(watch)
    _refuse_others(estimator, "cross_validate")
    with weighted_and_not(estimator, X, y, params, "cross_validate") as (dataset, scored):
        scorers, _ = named_scorers(scoring, estimator)
        splits = splits_of(cv, dataset, is_classifier(estimator), groups)
        if verbose > 0:
            print(f"Fitting {len(splits)} folds")
        (trials,) = try_candidates(
            [partial(clone, estimator)],
            splits,
            dataset,
            scorers,
            scored=scored,
            known=FirstSweepAnswers(),
            checkpoint=kept,
            watch=watchers,
            return_train_score=return_train_score,
            error_score=error_score,
        )
        out: dict[str, Any] = {
            "fit_time": np.array([trial.member.seconds for trial in trials]),
            "score_time": np.array([trial.seconds for trial in trials]),
        }
        if return_estimator:
            out["estimator"] = [trial.member.estimator for trial in trials]
        if return_indices:
            rows = row_numbers(dataset)
            out["indices"] = {
                side: [np.flatnonzero(getattr(split, side).mask(rows)) for split in splits]
                for side in ("train", "test")
            }
        for name in scorers:
            out[f"test_{name}"] = np.array([trial.test[name] for trial in trials])
            if return_train_score:
                out[f"train_{name}"] = np.array([trial.train[name] for trial in trials])
        return out


def cross_val_score(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    groups: Any = None,
    scoring: Any = None,
    cv: Any = None,
    n_jobs: int | None = None,
    verbose: int = 0,
    params: Mapping[str, Any] | None = None,
    pre_dispatch: str = "2*n_jobs",
    error_score: Any = np.nan,
) -> Array:
    """Score an estimator by cross-validation, in shared reads.

    Parameters
    ----------
    estimator, X, y, groups, scoring, cv, n_jobs, verbose, params, pre_dispatch, error_score :
        As of :func:`cross_validate`; one scorer.

    Returns
    -------
    array (n_splits,)

    Examples
    --------
    >>> import daskgd
    >>> from daskgd.model_selection import cross_val_score
    >>> X = np.arange(40.0).reshape(20, 2) % 7
    >>> cross_val_score(daskgd.LinearRegression(), X, X @ [1.0, -2.0], cv=3).round(6)
    array([1., 1., 1.])
    """
    found: Array = cross_validate(
        estimator,
        X,
        y,
        groups=groups,
        scoring=_one(scoring, "cross_val_score"),
        cv=cv,
        n_jobs=n_jobs,
        verbose=verbose,
        params=params,
        pre_dispatch=pre_dispatch,
        error_score=error_score,
    )["test_score"]
    return found


def cross_val_predict(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    groups: Any = None,
    cv: Any = None,
    n_jobs: int | None = None,
    verbose: int = 0,
    params: Mapping[str, Any] | None = None,
    pre_dispatch: str = "2*n_jobs",
    method: str = "predict",
) -> Any:
    """Predict each row by the fit of the split that tests on it.

    Parameters
    ----------
    estimator, X, y, groups, cv, n_jobs, verbose, params, pre_dispatch :
        As of :func:`cross_validate`. Each row has to be tested on once.
    method : str
        "predict", "predict_proba", "predict_log_proba" or "decision_function".

    Returns
    -------
    array ``(n,)`` or ``(n, k)``
        numpy for rows in memory; else a lazy dask array, one read of the data.

    Raises
    ------
    ValueError
        Where splits are no partition of the rows, and where a fit fails.

    Examples
    --------
    >>> import daskgd
    >>> from daskgd.model_selection import cross_val_predict
    >>> X = np.arange(12.0).reshape(6, 2) % 7
    >>> cross_val_predict(daskgd.LinearRegression(), X, X @ [1.0, -2.0], cv=2).round(6) + 0.0
    array([-2. , -4. , -6. , -4.5, -3. , -5. ])
    """
    refuse_jobs("cross_val_predict", n_jobs, pre_dispatch, "2*n_jobs")
    _refuse_others(estimator, "cross_val_predict")
    with table_of(estimator, X, y, params, "cross_val_predict") as dataset:
        splits = splits_of(cv, dataset, is_classifier(estimator), groups)
        members = np.array([split.test.members for split in splits])
        if (
            any(split.test.cells is not splits[0].test.cells for split in splits)
            or (members.sum(axis=0) != 1).any()
        ):
            raise ValueError(
                "cross_val_predict only works for partitions: expected splits that test each row once; take "
                "KFold or another splitter of folds"
            )
        fits = [Member(clone(estimator), split.train) for split in splits]
        if verbose > 0:
            print(f"Fitting {len(splits)} folds")
        fit_members(fits, dataset)
        for member in fits:
            if member.error is not None:
                raise member.error
        tested = members.argmax(axis=0)  # of each cell, which split
        rows = row_numbers(dataset)
        if is_in_memory(X):
            split = tested[splits[0].test.cells.of(rows)]
            parts = [np.asarray(getattr(m.estimator, method)(X)) for m in fits]
            _check_alike(parts)
            out: Array = np.empty(parts[0].shape, np.result_type(*parts))
            for i, part in enumerate(parts):
                out[split == i] = part[split == i]
            return out
        if hasattr(X, "to_dask_array") and dataset.path is not None:  # a store that is gone afterwards
            frame = X.drop(columns=y) if isinstance(y, str) else X
            lazy = _with_rows([getattr(m.estimator, method)(frame) for m in fits], frame)
        else:
            lazy = [getattr(m.estimator, method)(dataset) for m in fits]
        _check_alike(lazy)
        chunks = lazy[0].chunks[0]
        ends = np.cumsum((0, *chunks))
        cells = splits[0].test.cells
        blocks = [da.from_array(tested[cells.of(rows[a:b])], chunks=-1) for a, b in pairwise(ends.tolist())]
        which = da.concatenate(blocks)
        return da.map_blocks(
            _of_split,
            which[:, None] if lazy[0].ndim == 2 else which,
            *lazy,
            dtype=lazy[0].dtype,
            chunks=lazy[0].chunks,
        )


def _with_rows(arrays: Sequence[da.Array], frame: Any) -> list[da.Array]:
    """Predictions for a frame of dask, with the rows of its partitions, which are counted."""
    rows = tuple(frame.map_partitions(len).compute().tolist())
    return [da.Array(one.dask, one.name, (rows, *one.chunks[1:]), meta=meta_of(one)) for one in arrays]


def _of_split(which: Array, *parts: Array) -> Array:
    """Of each row the prediction of its split."""
    out = np.array(parts[0])
    for i, part in enumerate(parts):
        np.copyto(out, part, where=which == i)
    return out


def _check_alike(parts: Sequence[Any]) -> None:
    if len({part.shape[1:] for part in parts}) > 1:
        raise ValueError(
            "cross_val_predict: expected the same classes in the training rows of every split, got "
            f"predictions of {[part.shape[1:] for part in parts]} columns; take StratifiedKFold"
        )


def learning_curve(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    groups: Any = None,
    train_sizes: Any = (0.1, 0.325, 0.55, 0.775, 1.0),
    cv: Any = None,
    scoring: Any = None,
    exploit_incremental_learning: bool = False,
    n_jobs: int | None = None,
    pre_dispatch: str = "all",
    verbose: int = 0,
    shuffle: bool = False,
    random_state: Any = None,
    error_score: Any = np.nan,
    return_times: bool = False,
    params: Mapping[str, Any] | None = None,
) -> tuple[Array, ...]:
    """Score an estimator fitted to more and more of the training rows of each split, in shared reads.

    Parameters
    ----------
    estimator, X, y, groups, cv, scoring, error_score, verbose, params :
        As of :func:`cross_val_score`.
    train_sizes : array of float or int
        Shares of the training rows of the first split, or numbers of rows; the first ones are taken, or with
        `shuffle` random ones.
    exploit_incremental_learning : bool
        False: all sizes share the reads.
    n_jobs, pre_dispatch :
        No jobs are made.
    shuffle : bool
    random_state : int, RandomState or None
    return_times : bool

    Returns
    -------
    (sizes, train_scores, test_scores[, fit_times, score_times])
        ``(m,)``, and ``(m, n_splits)`` each.

    Examples
    --------
    >>> import daskgd
    >>> from daskgd.model_selection import learning_curve
    >>> X = np.arange(40.0).reshape(20, 2) % 7
    >>> learning_curve(daskgd.LinearRegression(), X, X @ [1.0, -2.0], train_sizes=[5, 10])[0]
    array([ 5, 10])
    """
    refuse_jobs("learning_curve", n_jobs, pre_dispatch, "all")
    if exploit_incremental_learning:
        raise ValueError(
            "learning_curve: expected exploit_incremental_learning=False, got True: the fits of all sizes "
            "share the reads of the data"
        )
    _refuse_others(estimator, "learning_curve")
    with weighted_and_not(estimator, X, y, params, "learning_curve") as (dataset, scored):
        scorer = _one(scoring, "learning_curve")
        splits = splits_of(cv, dataset, is_classifier(estimator), groups)
        rows = row_numbers(dataset)
        rng = check_random_state(random_state)
        trains = [np.flatnonzero(split.train.mask(rows)) for split in splits]
        sizes = _sizes(train_sizes, len(trains[0]))
        if shuffle:
            trains = [rng.permutation(train) for train in trains]
        tests = [np.flatnonzero(split.test.mask(rows)) for split in splits]
        pairs = [(train[:size], test) for train, test in zip(trains, tests, strict=True) for size in sizes]
        if verbose > 0:
            print(f"[learning_curve] Training set sizes: {sizes}")
        (found,) = try_candidates(
            [partial(clone, estimator)],
            subsets_of(pairs, dataset),
            dataset,
            named_scorers(scorer, estimator)[0],
            scored=scored,
            known=FirstSweepAnswers(),
            return_train_score=True,
            error_score=error_score,
        )

        def table(values: Iterable[float]) -> Array:
            return np.array(list(values)).reshape(len(splits), len(sizes)).T

        out = (
            sizes,
            table(trial.train["score"] for trial in found),
            table(trial.test["score"] for trial in found),
        )
        if return_times:
            out += (table(t.member.seconds for t in found), table(t.seconds for t in found))  # type: ignore[assignment]
        return out


def _sizes(train_sizes: Any, most: int) -> Array:
    """Numbers of rows, ascending and distinct, of shares or numbers, as in scikit-learn."""
    sizes = np.asarray(train_sizes)
    if np.issubdtype(sizes.dtype, np.floating):
        if not (len(sizes) and sizes.min() > 0 and sizes.max() <= 1):
            raise ValueError(f"train_sizes: expected shares in (0, 1], or whole numbers, got {sizes}")
        sizes = np.clip((sizes * most).astype(int), 1, most)
    elif not (len(sizes) and sizes.min() > 0 and sizes.max() <= most):
        raise ValueError(f"train_sizes: expected numbers of rows from 1 to {most}, got {sizes}")
    return np.unique(sizes)


def validation_curve(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    param_name: str,
    param_range: Sequence[Any],
    groups: Any = None,
    cv: Any = None,
    scoring: Any = None,
    n_jobs: int | None = None,
    pre_dispatch: str = "all",
    verbose: int = 0,
    error_score: Any = np.nan,
    params: Mapping[str, Any] | None = None,
) -> tuple[Array, Array]:
    """Score an estimator with each of some values of a parameter by cross-validation, in shared reads.

    Parameters
    ----------
    estimator, X, y, groups, cv, scoring, error_score, verbose, params :
        As of :func:`cross_val_score`.
    param_name : str
    param_range : sequence
    n_jobs, pre_dispatch :
        No jobs are made.

    Returns
    -------
    (train_scores, test_scores)
        ``(m, n_splits)`` each.

    Examples
    --------
    >>> import daskgd
    >>> from daskgd.model_selection import validation_curve
    >>> X = np.arange(40.0).reshape(20, 2) % 7
    >>> y = X @ [1.0, -2.0]
    >>> train, test = validation_curve(daskgd.Ridge(), X, y, param_name="alpha", param_range=[0.01, 100.0])
    >>> bool((test[0] > test[1]).all())
    True
    """
    refuse_jobs("validation_curve", n_jobs, pre_dispatch, "all")
    _refuse_others(estimator, "validation_curve")
    with weighted_and_not(estimator, X, y, params, "validation_curve") as (dataset, scored):
        scorer = _one(scoring, "validation_curve")
        splits = splits_of(cv, dataset, is_classifier(estimator), groups)
        if verbose > 0:
            print(f"Fitting {len(splits)} folds for each of {len(param_range)} values of {param_name}")
        found = try_candidates(
            [partial(_with, estimator, param_name, value) for value in param_range],
            splits,
            dataset,
            named_scorers(scorer, estimator)[0],
            scored=scored,
            known=FirstSweepAnswers(),
            return_train_score=True,
            error_score=error_score,
        )
        train, test = (
            np.array([[getattr(t, side)["score"] for t in row] for row in found])
            for side in ("train", "test")
        )
        return train, test


def _with(estimator: Any, name: str, value: Any) -> Any:
    return clone(estimator).set_params(**{name: clone(value, safe=False)})


def _one(scoring: Any, name: str) -> Any:
    """The one scorer that is meant, None for the estimator's own."""
    if scoring is None or isinstance(scoring, str) or not isinstance(scoring, Iterable):
        return scoring
    raise ValueError(
        f"{name}: expected one scorer, a name or an object, got {scoring!r}; take cross_validate"
    )


def _refuse_others(estimator: Any, name: str) -> None:
    if not isinstance(estimator, Estimator | Pipeline | SearchedEstimator | SharedSearch):
        raise TypeError(
            f"{name}: expected an estimator of daskgd's or a daskgd.Pipeline, got "
            f"{type(estimator).__name__}; for "
            f"others take sklearn.model_selection.{name}"
        )
