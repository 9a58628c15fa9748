"""Checkpoints: the progress of fits on disk, written after sweeps, read when the fit is started again.

A checkpoint is one file: the State of every fit, the answers received since, what the survey found, what
partitions remember, the history, and what all of it belongs to, settings and data. Large arrays, such as the
sample of rows, lie beside it in files named by their content, so that each is written once. Files are
:mod:`daskgd.storage.records`: no pickle. This file knows solvers as dataclasses of arrays; it must not
know how engines read, nor any estimator.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from importlib.metadata import version
from sys import modules
from typing import Any

import numpy as np
from dask.utils import parse_timedelta
from numpy.typing import NDArray

from daskgd import losses, models, penalties, problems, queries, solvers
from daskgd._compat.caller import warn
from daskgd.engines.base import PartitionMemory
from daskgd.queries import sample as sampling
from daskgd.queries import sums
from daskgd.solvers.base import is_count
from daskgd.storage.atomic_files import UNFINISHED, AtomicFiles
from daskgd.storage.paths import locate
from daskgd.storage.records import RecordError, Types, pack, types_of, unpack
from daskgd.storage.redaction import redacted

Array = NDArray[Any]

logger = logging.getLogger("daskgd")

PREFIX, APART, SUFFIX = "checkpoint-", "array-", ".dgd"

FOLDERS = ("daskgd.losses.", "daskgd.models.", "daskgd.queries.", "daskgd.solvers.")
"""Packages whose modules define the dataclasses that a checkpoint may hold."""

FREE = frozenset({"max_iter", "tol", "memory", "verbose", "engine", "warm_start"})
"""Parameters that may differ between a fit and the one that resumes it."""


RENAMED = {
    "doubt": "model_error_ratio",
    "found": "first_sweep_answers",
    "here": "gap_at",
    "poor": "slow_steps",
    "trail": "objective_history",
}
"""The fields of states and progress, by the names that files of version 0.1.0 have for them."""


class CheckpointError(ValueError):
    """A checkpoint is of another fit, of other data, or cannot be read."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where the progress of a fit is saved, and how often.

    Parameters
    ----------
    path : str or PathLike
        A directory for this fit alone, or a URL that fsspec knows. A local path is made absolute here, so
        that it holds whatever the working directory is later.
    every : int or str
        Sweeps between two files, or seconds, such as "30 s": a fit that is killed repeats no more than those.
    keep : int
        Files to keep: should the newest be damaged, the one before is taken.
    storage_options : mapping, optional
        For fsspec, if `path` is a URL. Never stored.

    Examples
    --------
    >>> import daskgd, tempfile
    >>> X, y = np.arange(20.0).reshape(10, 2) % 7, np.arange(10) % 2
    >>> there = daskgd.Checkpoint(tempfile.mkdtemp(), every="10 s")
    >>> first = daskgd.LogisticRegression().fit(X, y, checkpoint=there)
    >>> again = daskgd.LogisticRegression().fit(X, y, checkpoint=there)  # finds it finished
    >>> bool((first.coef_ == again.coef_).all())
    True
    """

    path: str | os.PathLike[str]
    every: int | str = 1
    keep: int = 3
    storage_options: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike):
            raise TypeError(f"checkpoint: expected a path, a URL or a Checkpoint, got {self.path!r:.80}")
        object.__setattr__(self, "path", locate(self.path, "checkpoint"))
        if not is_count(self.every):
            try:
                ok = isinstance(self.every, str) and parse_timedelta(self.every) > 0
            except (ValueError, KeyError):
                ok = False
            if not ok or str(self.every).strip().replace(".", "").isdigit():
                raise ValueError(
                    f'every: expected a number of sweeps >= 1, or seconds such as "30 s", got {self.every!r}'
                )
        if not is_count(self.keep):
            raise ValueError(f"keep: expected a whole number >= 1, got {self.keep!r}")

    @classmethod
    def of(cls, given: Any, every: int | str = 1) -> Checkpoint | None:
        """The Checkpoint that users mean by a path, a URL or a Checkpoint; None where they pass none."""
        if given is not None and not isinstance(given, Checkpoint):
            return cls(given, every)
        if every != 1:
            where = "which has its own" if given is not None else "which is None"
            raise ValueError(f"every: expected none beside checkpoint={given!r}, {where}, got {every!r}")
        return given

    def __repr__(self) -> str:  # without secrets: no storage_options
        return f"Checkpoint({redacted(os.fspath(self.path))!r}, every={self.every!r}, keep={self.keep!r})"


# -- what is kept ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of one fit, between two sweeps.

    Attributes
    ----------
    first_sweep_answers : list or None
        What the first sweep answered.
    start : (d,) or None
        The parameters it began with.
    tol : float
        The tolerance it began with.
    state, iteration, entries, first, best :
        Of its :class:`~daskgd.training.journal.Journal`.
    rows : list of mappings
        Of its history.
    sweeps, bytes, seconds, wire_bytes :
        Of its :class:`~daskgd.training.loop.Meter`.
    watchers : list
        What each of its watchers remembers, None where that is nothing.
    separation : tuple or None
        The digest of the query about directions without a minimum, asked when it had ended, and the answer.
    """

    first_sweep_answers: list[Any] | None
    start: Array | None
    tol: float
    state: Any
    iteration: int
    entries: list[tuple[str, list[Any]]]
    first: float
    best: Any
    rows: list[dict[str, Any]]
    sweeps: float
    bytes: int
    seconds: float
    wire_bytes: int
    watchers: list[Any]
    separation: tuple[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The progress of all fits that share sweeps, and what partition queries remember."""

    fits: list[Progress]
    memory: PartitionMemory


@dataclass(frozen=True, slots=True)
class Identity:
    """What a checkpoint belongs to: the names and settings of its fits, and the data."""

    estimators: list[dict[str, str]]
    data: dict[str, str]

    @classmethod
    def of(cls, estimators: Sequence[Any], data: dict[str, str]) -> Identity:
        """The identity of a fit of these estimators to the data whose ``Dataset.identity()`` this is."""
        return cls([settings(e) for e in estimators], data)

    def differences(self, other: Identity) -> list[str]:
        """How another identity, read from a file, differs from this one, in words."""
        out = []
        if len(self.estimators) != len(other.estimators):
            out.append(f"{len(other.estimators)} estimators, now {len(self.estimators)}")
        for i, (mine, its) in enumerate(zip(self.estimators, other.estimators, strict=False)):
            which = f" of estimator {i}" if len(self.estimators) > 1 else ""
            out += [f"{name}{which} was {a}, now {b}" for name, a, b in _unlike(its, mine)]
        return out + [f"{name} was {a}, now {b}" for name, a, b in _unlike(other.data, self.data)]


def _numbered(sweeps: float) -> str:
    """A number of sweeps as text that sorts as the number does, also before a suffix with a dot."""
    rest = round(sweeps % 1 * 1e6)
    return f"{int(sweeps):08d}" + (f"_{rest:06d}" if rest else "")


def _unlike(before: Mapping[str, str], now: Mapping[str, str]) -> list[tuple[str, str, str]]:
    names = dict.fromkeys((*before, *now))
    return [
        (name, before.get(name, "absent"), now.get(name, "absent"))
        for name in names
        if before.get(name) != now.get(name)
    ]


def settings(estimator: Any) -> dict[str, str]:
    """The class and the parameters of an estimator as text, without parameters that may change."""
    values = {name: v for name, v in estimator.get_params(deep=False).items() if name not in FREE}
    subset = getattr(estimator, "_subset", None)
    rows = {} if subset is None else {"rows": str(subset)}
    return {"estimator": type(estimator).__name__, **rows, **{name: _said(v) for name, v in values.items()}}


def _said(value: Any) -> str:
    if isinstance(value, np.random.RandomState):
        _, key, position, *rest = value.get_state()
        return f"a RandomState with digest {content(np.asarray(key))}, {position}, {rest}"
    if isinstance(value, np.ndarray):
        return f"an array {value.shape} of {value.dtype} with digest {content(value)}"
    return repr(value.item() if isinstance(value, np.generic) else value)


def content(array: Array) -> str:
    """Sixteen hex digits of an array's dtype, shape, order and values."""
    order = "C" if array.flags.c_contiguous or not array.flags.f_contiguous else "F"
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}{order}".encode())
    digest.update(np.ascontiguousarray(array if order == "C" else array.T).tobytes())
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """The versions of all that the bits of a fit depend on."""
    named = {name: version(name) for name in ("daskgd", "numpy", "scipy")}
    return {**named, "python": platform.python_version(), "machine": platform.machine()}


def known_types(of: Iterable[object]) -> Types:
    """The dataclasses that states and answers consist of: ours, and those in the modules of these solvers."""
    rooms = [losses, models, penalties, problems, queries, sampling, solvers, sums]
    names = [room.__name__ for room in rooms] + [type(solver).__module__ for solver in of]
    names += [name for name in modules if name.startswith(FOLDERS)]
    found = {
        kind
        for name in names
        for kind in vars(modules[name]).values()
        if isinstance(kind, type) and is_dataclass(kind) and not issubclass(kind, queries.Query)
    }
    return types_of([*found, Progress, Snapshot, Identity])


# -- on disk -------------------------------------------------------------------------------------


class Saver:
    """Writes snapshots of a fit to its checkpoint, and finds the newest that is whole.

    Parameters
    ----------
    where : Checkpoint
    identity : Identity
        What the fit is; a checkpoint of another is refused.
    types : mapping
        Of the dataclasses that a snapshot holds.
    clock : callable
        Seconds, for ``every="30 s"``.
    """

    def __init__(
        self,
        where: Checkpoint,
        identity: Identity,
        types: Types,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.where, self.identity, self.types, self.clock = where, identity, types, clock
        self.folder = AtomicFiles(where.path, where.storage_options)
        self._written: set[str] = set()
        self._arrays: dict[int, tuple[Array, str]] = {}
        self._holds: dict[str, set[str]] = {}  # by file, the arrays that it refers to
        self._unsaved: Snapshot | None = None
        self._last: float = 0
        self._saved_at = clock()

    # -- reading --------------------------------------------------------------------------------

    def latest(self) -> Snapshot | None:
        """The newest snapshot that can be read, past damaged ones with a warning; None where there is none.

        Raises
        ------
        CheckpointError : it is of another fit or of other data; or there are files, and none can be read.
        """
        names = self.folder.names()
        self.folder.remove(n for n in names if n.startswith(UNFINISHED[0]) and n.endswith(UNFINISHED[1]))
        files = sorted((n for n in names if n.startswith(PREFIX) and n.endswith(SUFFIX)), reverse=True)
        damaged: list[str] = []
        for name in files:
            try:
                said, snapshot = self._read(name)
            except (RecordError, OSError) as cause:
                damaged.append(f"{name}: {cause}")
                continue
            for one in damaged:
                warn(f"{self}: a checkpoint is damaged and passed over: {one}")
            self._check(said)
            self._written = {n for n in names if n.startswith(PREFIX)} | self._holds[name]
            self._last = max(fit.sweeps for fit in snapshot.fits)
            return snapshot
        if damaged:
            raise CheckpointError(
                f"{self}: expected a checkpoint that can be read, found none: {'; '.join(damaged)}. Restore "
                "one from a copy, or remove them all to start anew"
            )
        return None

    def _read(self, name: str) -> tuple[dict[str, Any], Snapshot]:
        holds: set[str] = set()
        read: dict[str, Array] = {}  # fits share arrays, such as rows of the sample

        def fetch(apart: str) -> Array:
            if apart in read:
                return read[apart]
            if not apart.startswith(APART) or "/" in apart:
                raise RecordError(f"it refers to {apart!r:.80}")
            array = unpack(self.folder.read(apart))
            if not isinstance(array, np.ndarray) or _name(array) != apart:
                raise RecordError(f"{apart} holds another array than its name says")
            self._arrays[id(array)] = array, apart
            holds.add(apart)
            read[apart] = array
            return array

        said = unpack(self.folder.read(name), self.types, fetch, RENAMED)
        if not isinstance(said, dict) or said.get("kind") != "checkpoint":
            raise RecordError("it is no checkpoint")
        self._holds[name] = holds
        memory = {(run, query, partition): value for run, query, partition, value in said["memory"]}
        return said, Snapshot(said["fits"], memory)

    def _check(self, said: Mapping[str, Any]) -> None:
        if unlike := self.identity.differences(said["identity"]):
            raise CheckpointError(
                f"{self}: expected a checkpoint of this fit, got one of another: {'; '.join(unlike)}. Fit "
                "with the same settings and data to resume it, or choose another directory"
            )
        if changed := _unlike(said["versions"], versions()):
            text = ", ".join(f"{name} was {a}, is {b}" for name, a, b in changed)
            logger.warning("%s: resumed with other versions, the last bits may differ: %s", self, text)

    # -- writing --------------------------------------------------------------------------------

    def offer(self, snapshot: Snapshot) -> None:
        """Take a snapshot after a sweep, and write it if it is time. A failed write costs a warning."""
        self._unsaved = snapshot
        every = self.where.every
        sweeps = max(fit.sweeps for fit in snapshot.fits)
        due = (
            sweeps - self._last >= every
            if isinstance(every, int)
            else self.clock() - self._saved_at >= parse_timedelta(every)
        )
        if due:
            self.flush()

    def flush(self) -> None:
        """Write the last snapshot, unless that is done."""
        if self._unsaved is None:
            return
        sweeps = max(fit.sweeps for fit in self._unsaved.fits)
        self._last, self._saved_at = sweeps, self.clock()
        try:
            self._write(f"{PREFIX}{_numbered(sweeps)}{SUFFIX}", self._unsaved)
        except Exception as cause:  # whatever a file system raises: the fit goes on
            if isinstance(cause, TypeError):
                raise
            warn(
                f"{self}: sweep {sweeps} was not saved ({type(cause).__name__}: {cause}); the fit goes on, "
                "and earlier checkpoints stay as they are",
                RuntimeWarning,
            )
        else:
            self._unsaved = None

    def _write(self, name: str, snapshot: Snapshot) -> None:
        holds: set[str] = set()

        def apart(array: Array) -> str:
            known = self._arrays.get(id(array))
            named = known[1] if known is not None else _name(array)
            if named not in self._written:
                self.folder.write(named, pack(array))
                self._written.add(named)
            self._arrays[id(array)] = array, named
            holds.add(named)
            return named

        memory = [(*key, value) for key, value in snapshot.memory.items()]
        said = {
            "kind": "checkpoint",
            "versions": versions(),
            "identity": self.identity,
            "fits": snapshot.fits,
            "memory": memory,
        }
        data = pack(said, self.types, apart)
        self.folder.write(name, data)
        self._written.add(name)
        self._holds[name] = holds
        self._prune(name)

    def _prune(self, newest: str) -> None:
        """Remove all but the last few files and the arrays they refer to."""
        files = sorted((n for n in self._written if n.startswith(PREFIX)), reverse=True)
        kept = [n for n in files if n <= newest][: self.where.keep]
        gone = set(files) - set(kept)  # also later ones, which were passed over as damaged
        if all(n in self._holds for n in kept):  # else some may need arrays that are not known here
            needed = set().union(*(self._holds[n] for n in kept))
            gone |= {n for n in self._written if n.startswith(APART)} - needed
            self._arrays = {i: (a, n) for i, (a, n) in self._arrays.items() if n in needed}
        self.folder.remove(gone)
        self._written -= gone

    def __str__(self) -> str:
        return redacted(str(self.where.path))


def _name(array: Array) -> str:
    return f"{APART}{content(array)}{SUFFIX}"
