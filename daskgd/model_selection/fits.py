"""Fits of many estimators to subsets of the same rows, which share every sweep where they can.

An estimator of daskgd's whose solver asks about rows one by one is fitted to a subset as to rows of which the
others have no weight; what the data alone determine is summed cell by cell. Solvers that work on whole
partitions, and pipelines, are fitted to views, split by split, those of one split together where they can.
Knows estimators and subsets; no scores.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

from sklearn.utils.validation import check_is_fitted

from daskgd.data.columns import SubsetSelection
from daskgd.data.dataset import Dataset
from daskgd.engines.cluster import ClusterLost
from daskgd.engines.worker_memory import check_driver_memory
from daskgd.estimators.base import Estimator
from daskgd.estimators.fitting.empty_features import on_occurring_features
from daskgd.estimators.fitting.run import FirstSweepAnswers, run_fits
from daskgd.estimators.fitting.together import together
from daskgd.estimators.pipeline import Pipeline
from daskgd.monitoring.events import Watcher
from daskgd.monitoring.watchers import AsOneFit, Lines, ProgressBar
from daskgd.preprocessing.encoding import digest_of_encoder
from daskgd.rows.subsets import Subset
from daskgd.storage.checksums import StoreError
from daskgd.storage.reading import ChunkError
from daskgd.training.checkpoint import Checkpoint, CheckpointError


@dataclass(slots=True)
class Member:
    """One of many fits.

    Attributes
    ----------
    estimator :
        Not fitted yet, its own.
    subset : Subset or None
        The rows to fit it to; None for all.
    name : str
        Of the fit, in what watchers are told.
    error : Exception or None
        With which the fit failed.
    seconds : float
        Of the fit: what fits that share sweeps took, divided by their number.
    """

    estimator: Any
    subset: Subset | None
    name: str = ""
    error: Exception | None = None
    seconds: float = 0.0


def fit_members(
    members: Sequence[Member],
    dataset: Dataset,
    *,
    checkpoint: Checkpoint | None = None,
    watch: Sequence[Watcher] = (),
    known: FirstSweepAnswers | None = None,
) -> None:
    """Fit all members, each to its rows, in as few sweeps as they allow. One that fails keeps its error, and
    the others go on.

    Raises
    ------
    Exception
        What ends all fits: data that cannot be read or used, a cluster that is lost.
    """
    shared: list[Member] = []
    alone: dict[Any, list[Member]] = defaultdict(list)
    for member in members:
        try:
            if shares_sweeps(member.estimator, dataset):
                shared.append(member)
            else:
                alone[member.subset].append(member)
        except Exception as error:
            member.error = error
    groups: dict[tuple[str, str], list[Member]] = defaultdict(list)
    for member in shared:
        groups[repr(member.estimator.engine), repr(member.estimator.memory)].append(member)
    for i, group in enumerate(groups.values()):
        with _timed(group):
            _fit_shared(group, dataset, within(checkpoint, "shared", i), watch, known)
    for i, (subset, group) in enumerate(alone.items()):
        for j, some in enumerate(_alike(group)):
            with _timed(some):
                _fit_to_view(some, subset, dataset, within(checkpoint, f"split-{i}", j), watch)


def view(dataset: Dataset, subset: Subset | None) -> Dataset:
    """The rows of a subset, as a view."""
    if subset is None:
        return dataset
    return dataset.replace(selections=(*dataset.selections, SubsetSelection(subset)))


ENDS_ALL = (ClusterLost, StoreError, ChunkError, CheckpointError, OSError)
"""Errors that are not of one fit, and end all: what cannot be read, and a cluster that is gone."""

MOST_BARS = 8
"""Fits up to which each has a bar, or lines, of its own."""


def shown_as_one(watch: Sequence[Watcher], n: int) -> Sequence[Watcher]:
    """The watchers of n fits that share sweeps, of which those that print show many as one."""
    if n <= MOST_BARS:
        return watch
    return [AsOneFit(one, f"{n} fits") if isinstance(one, ProgressBar | Lines) else one for one in watch]


def shares_sweeps(estimator: Any, dataset: Dataset) -> bool:
    """Whether an estimator can be fitted to a subset of the rows in sweeps over all of them."""
    if not isinstance(estimator, Estimator):
        return False
    estimator._check_parameters()
    estimator._draw_seed()
    if getattr(estimator, "early_stopping", False):
        return False
    return not estimator._choice(estimator._shape(dataset)).solver.needs_partitions


def _fit_shared(
    members: Sequence[Member],
    dataset: Dataset,
    checkpoint: Checkpoint | None,
    watch: Sequence[Watcher],
    known: FirstSweepAnswers | None,
) -> None:
    prepared: Dataset | None = None
    fits: list[Member] = []
    for member in members:
        try:
            if prepared is None:
                prepared = member.estimator._dataset(dataset, None, None)
            else:
                member.estimator._admit(prepared, dataset, reset=True)
            fits.append(member)
        except Exception as error:
            member.error = error
    if prepared is None:
        return
    estimators = [member.estimator for member in fits]
    try:
        for member in fits:
            member.estimator._subset = member.subset
        with on_occurring_features(estimators, prepared) as rows:
            _check_samples(fits, rows)
            errors = run_fits(
                estimators,
                rows,
                (dataset, None, None),
                checkpoint,
                shown_as_one(watch, len(fits)),
                known=known,
                may_fail=True,
                names=[member.name for member in fits] if all(member.name for member in fits) else None,
            )
        for member, failed in zip(fits, errors, strict=True):
            member.error = failed
    finally:
        for member in fits:
            vars(member.estimator).pop("_subset", None)


def _check_samples(members: Sequence[Member], rows: Dataset) -> None:
    """Refuse fits whose samples, the one of all rows and one of each subset, have no room in this process."""
    sizes: dict[Any, float] = {}
    for member in members:
        shape = member.estimator._shape(rows)
        share = member.estimator._choice(shape).solver.sample_share(shape)
        sizes[member.subset] = max(sizes.get(member.subset, 0.0), share * shape.n_rows * shape.row_bytes)
    needed = round(sum(sizes.values()) + max(sizes.values(), default=0.0))
    check_driver_memory(needed, f"samples of {len(sizes)} subsets of the rows")


def _alike(members: Sequence[Member]) -> list[list[Member]]:
    """Members that can be fitted together to the same view: pipelines with the same encoders, and estimators,
    of the same engine and memory."""
    groups: dict[Any, list[Member]] = defaultdict(list)
    for i, member in enumerate(members):
        one = member.estimator
        last = one.steps[-1][1] if isinstance(one, Pipeline) else one
        key: Any = i
        if isinstance(last, Estimator) and not getattr(last, "early_stopping", False):
            encoders = digest_of_encoder(one._specification()) if isinstance(one, Pipeline) else ""
            key = encoders, repr(last.engine), repr(last.memory)
        groups[key].append(member)
    return list(groups.values())


def _fit_to_view(
    members: Sequence[Member],
    subset: Subset | None,
    dataset: Dataset,
    checkpoint: Checkpoint | None,
    watch: Sequence[Watcher],
) -> None:
    """Fit members to a view, together; where that fails, one by one, each with its own error."""
    if len(members) > 1:
        rows, shown = view(dataset, subset), shown_as_one(watch, len(members))
        try:
            together([m.estimator for m in members], rows, checkpoint=within(checkpoint, "all"), watch=shown)
            return
        except ENDS_ALL:
            raise
        except (ValueError, TypeError):
            pass
    for i, member in enumerate(members):
        _fit_alone(member, subset, dataset, within(checkpoint, i), watch)


def _fit_alone(
    member: Member,
    subset: Subset | None,
    dataset: Dataset,
    checkpoint: Checkpoint | None,
    watch: Sequence[Watcher],
) -> None:
    params: dict[str, Any] = {}
    if "watch" in signature(member.estimator.fit).parameters:
        params["watch"] = watch
        if checkpoint is not None:
            params |= {"checkpoint": checkpoint}
    try:
        member.estimator.fit(view(dataset, subset), **params)
        check_is_fitted(member.estimator)
    except ENDS_ALL:
        raise
    except Exception as error:
        member.error = error


@contextmanager
def _timed(members: Sequence[Member]) -> Iterator[None]:
    """A context whose seconds are divided among the members."""
    started = time.perf_counter()
    yield
    each = (time.perf_counter() - started) / len(members)
    for member in members:
        member.seconds = each


def within(checkpoint: Checkpoint | None, *names: Any) -> Checkpoint | None:
    """A checkpoint in a folder within that of another."""
    if checkpoint is None:
        return None
    return replace(checkpoint, path=f"{checkpoint.path}/{'-'.join(map(str, names))}")
