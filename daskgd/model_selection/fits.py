"""Fits of many estimators to subsets of the same rows, which share every sweep where they can.

An estimator of daskgd's whose solver asks about rows one by one is fitted to a subset as to rows of which the
others have no weight; what the data alone determine is summed cell by cell. Pipelines share the reads in
which their encoders are fitted, and those in which each split's rows are encoded for the fits to it. Others,
such as solvers that work on whole partitions, are fitted to views, split by split.
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
from daskgd.preprocessing.encoded import EncodedView
from daskgd.preprocessing.encoding import digest_of_encoder, encoded_view
from daskgd.preprocessing.fitting import EncoderFit, fit_encoders
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
    encoded: list[Member] = []
    alone: dict[Any, list[Member]] = defaultdict(list)
    for member in members:
        try:
            if shares_sweeps(member.estimator, dataset):
                shared.append(member)
            elif shares_encoded_sweeps(member.estimator, dataset):
                encoded.append(member)
            else:
                alone[member.subset].append(member)
        except Exception as error:
            member.error = error
    for i, group in enumerate(_of_one_engine(shared)):
        with _timed(group):
            _fit_shared(group, dataset, within(checkpoint, "shared", i), watch, known)
    for i, group in enumerate(_of_one_engine(encoded)):
        with _timed(group):
            for member in _fit_encoded(group, dataset, within(checkpoint, "encoded", i), watch):
                alone[member.subset].append(member)
    for i, (subset, group) in enumerate(alone.items()):
        for j, some in enumerate(_alike(group)):
            with _timed(some):
                _fit_to_view(some, subset, dataset, within(checkpoint, f"split-{i}", j), watch)


def _of_one_engine(members: Sequence[Member]) -> list[list[Member]]:
    """The members in groups of the same engine and memory."""
    groups: dict[tuple[str, str], list[Member]] = defaultdict(list)
    for member in members:
        last = _last(member.estimator)
        groups[repr(last.engine), repr(last.memory)].append(member)
    return list(groups.values())


def _last(estimator: Any) -> Any:
    """The estimator itself, or the last step of a pipeline."""
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


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
    """Whether an estimator can be fitted to a subset of the rows in sweeps over all of them. Those of rows
    with an offset cannot, which each fit puts beside its targets."""
    if not isinstance(estimator, Estimator) or dataset.offset_column is not None:
        return False
    estimator._check_parameters()
    estimator._draw_seed()
    if getattr(estimator, "early_stopping", False):
        return False
    return not estimator._choice(estimator._shape(dataset)).solver.needs_partitions


def shares_encoded_sweeps(estimator: Any, dataset: Dataset) -> bool:
    """Whether an estimator is a pipeline that is fitted to subsets of the rows, each encoded in its own way,
    in sweeps over all of them."""
    if not isinstance(estimator, Pipeline) or not estimator._has_encoders:
        return False
    if dataset.offset_column is not None:
        return False
    last = estimator._estimator()
    estimator._check_settings(last)
    last._draw_seed()
    return not getattr(last, "early_stopping", False)


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
        size = _sample_nbytes(member.estimator, rows)
        sizes[member.subset] = max(sizes.get(member.subset, 0.0), size)
    needed = round(sum(sizes.values()) + max(sizes.values(), default=0.0))
    check_driver_memory(needed, f"samples of {len(sizes)} subsets of the rows")


def _sample_nbytes(estimator: Estimator, rows: Dataset) -> float:
    """The bytes of the sample of some rows that a fit to them collects."""
    shape = estimator._shape(rows)
    return estimator._choice(shape).solver.sample_share(shape) * shape.n_rows * shape.row_bytes


def _fit_encoded(
    members: Sequence[Member], dataset: Dataset, checkpoint: Checkpoint | None, watch: Sequence[Watcher]
) -> list[Member]:
    """Fit pipelines in shared sweeps: the encoders of all splits first, then to each split, as its encoders
    make it, its estimators. Returns those that have to be fitted alone to tell which of them cannot be."""
    fits: dict[Any, EncoderFit] = {}
    of_member: list[tuple[Member, EncoderFit]] = []
    for member in members:
        encoder = member.estimator._specification()
        key = digest_of_encoder(encoder), member.subset
        of_member.append((member, fits.setdefault(key, EncoderFit(encoder, member.subset))))
    try:
        fit_encoders(list(fits.values()), dataset, _last(members[0].estimator).engine)
        ready = _encoded_fits(of_member, dataset)
        for i, group in enumerate(_with_room(ready)):
            _fit_to_encoded_views(group, dataset, within(checkpoint, i), watch)
    except ENDS_ALL:
        raise
    except (ValueError, TypeError):
        return [member for member in members if member.error is None]
    return []


@dataclass(slots=True)
class _EncodedFit:
    """A fit of the last step of a pipeline to encoded rows; `size` are the bytes of its sample."""

    member: Member
    encoders: Any
    view: EncodedView
    size: float

    @property
    def estimator(self) -> Estimator:
        last: Estimator = self.member.estimator.steps[-1][1]
        return last


def _encoded_fits(of_member: Sequence[tuple[Member, EncoderFit]], dataset: Dataset) -> list[_EncodedFit]:
    """What is to be fitted to encoded rows, view by view; members of which that cannot be keep the error."""
    views: dict[int, tuple[EncodedView, Dataset] | Exception] = {}
    found: list[_EncodedFit] = []
    for member, fit in of_member:
        try:
            if id(fit) not in views:
                views[id(fit)] = _view_of(fit, dataset)
            seen = views[id(fit)]
            if isinstance(seen, Exception):
                raise seen
            view, rows = seen
            last = _last(member.estimator)
            last._dataset(rows, None, None)
            found.append(_EncodedFit(member, fit.fitted, view, _sample_nbytes(last, rows)))
        except Exception as error:
            member.error = error
    return found


def _view_of(fit: EncoderFit, dataset: Dataset) -> tuple[EncodedView, Dataset] | Exception:
    """The rows of a fit of an encoder, as it encodes them, also as a dataset; or why there are none."""
    if fit.error is not None:
        return fit.error
    rows = dataset.of_subset(fit.subset)
    try:
        view = encoded_view(fit.fitted, rows, True, fit.facts, fit.subset)
    except (ValueError, TypeError) as error:
        return error
    return view, view.encode(rows)


MOST_SAMPLE_BYTES = 2 << 30
"""Bytes of samples up to which fits to different views share sweeps: this process holds all of them."""


def _with_room(fits: Sequence[_EncodedFit]) -> list[list[_EncodedFit]]:
    """The fits in groups that can share sweeps, those to one view together."""
    by_view: dict[EncodedView, list[_EncodedFit]] = defaultdict(list)
    for fit in fits:
        by_view[fit.view].append(fit)
    groups: list[list[_EncodedFit]] = []
    room = 0.0
    for group in by_view.values():
        size = max(fit.size for fit in group)
        if not groups or size > room:
            groups.append([])
            room = MOST_SAMPLE_BYTES
        groups[-1] += group
        room -= size
    return groups


def _fit_to_encoded_views(
    fits: Sequence[_EncodedFit], dataset: Dataset, checkpoint: Checkpoint | None, watch: Sequence[Watcher]
) -> None:
    """Fit estimators to encoded rows in shared sweeps."""
    sizes: dict[EncodedView, float] = {}
    for fit in fits:
        sizes[fit.view] = max(sizes.get(fit.view, 0.0), fit.size)
    needed = round(sum(sizes.values()) + max(sizes.values(), default=0.0))
    check_driver_memory(needed, f"samples of {len(sizes)} subsets of the rows")
    errors = run_fits(
        [fit.estimator for fit in fits],
        dataset,
        (dataset, None, None),
        checkpoint,
        shown_as_one(watch, len(fits)),
        may_fail=True,
        names=[fit.member.name for fit in fits] if all(fit.member.name for fit in fits) else None,
        views=[fit.view for fit in fits],
    )
    for fit, error in zip(fits, errors, strict=True):
        fit.member.error = error
        fit.member.estimator._take_encoders(fit.encoders)
        fit.estimator.__dict__.pop("feature_names_in_", None)
        if error is None:
            fit.estimator._look_back(fit.view.dataset(dataset))


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
    if len(members) > 1 and dataset.offset_column is None:
        rows, shown = dataset.of_subset(subset), shown_as_one(watch, len(members))
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
        member.estimator.fit(dataset.of_subset(subset), **params)
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
