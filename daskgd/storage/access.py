"""Whether a process sees the rows that another has opened: on its machine a path may lead nowhere, or to an
older copy, and an object store may turn it away.

A column that came from another process is checked before its first read here: one small object of metadata
is read and compared, once for each process and dataset. Who has opened a dataset has seen it. Knows arrays
and their stores; no clusters.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import socket
from collections.abc import Sequence
from pathlib import Path

import zarr
from zarr.storage import FsspecStore, LocalStore, StorePath

from daskgd.storage.checksums import (
    StoreError,
    ZarrArray,
    dataset_around,
    location_of,
    read_object,
    storage_options_of,
)
from daskgd.storage.redaction import redacted, redacted_message
from daskgd.storage.retry import is_denied, is_transient

SAID = {
    "missing": (
        "{who} cannot see {path}: {cause}",
        "Workers read the data themselves: mount them at this path on each worker's machine, or put them in "
        "an object store and pass its URL",
    ),
    "other": (
        "{path} is not the same data for {who}: {cause}",
        "A machine with a copy of its own needs the same one: write it there again, or mount one file system "
        "on all machines",
    ),
    "denied": (
        "{who} may not read {path}: {cause}",
        "Let the user of the workers read it; where it is an object store, give them credentials: in their "
        "environment or profile, or as storage_options of daskgd.open_dataset",
    ),
    "target": (
        "{who} cannot write to {path}: {cause}",
        "Workers write the data themselves: give a path that is mounted on each worker's machine, or the URL "
        "of an object store; for the temporary store of a fit, as dask.config's daskgd.temporary-directory",
    ),
    "library": (
        "{who} cannot open {path}: {cause}",
        "Install there what is installed here",
    ),
}
"""What is wrong, by its kind, and what to do."""

Process = tuple[str, str]
"""The address of a worker, "" where the process is none, and the name of its machine."""


class AccessError(StoreError):
    """Processes cannot read a dataset that another has opened. `args`: path, kind, cause, processes.

    >>> print(AccessError("/data/a.zarr", "missing", "nothing is there", [("tcp://10.0.0.2:40001", "node7")]))
    worker tcp://10.0.0.2:40001 on node7 cannot see /data/a.zarr: nothing is there. Workers read the data ...
    """

    def __init__(self, path: str, kind: str, cause: str, processes: Sequence[Process] = ()) -> None:
        ValueError.__init__(self, redacted(path), kind, redacted(cause), tuple(processes))

    @property
    def path(self) -> str:
        return str(self.args[0])

    @property
    def kind(self) -> str:
        return str(self.args[1])

    @property
    def processes(self) -> tuple[Process, ...]:
        found: tuple[Process, ...] = self.args[3]
        return found

    def of(self, processes: Sequence[Process]) -> AccessError:
        """The same error of other processes."""
        path, kind, cause, _ = self.args
        return AccessError(path, kind, cause, processes)

    def __str__(self) -> str:
        path, kind, cause, processes = self.args
        who = [
            f"worker {address} on {host}" if address else f"a process on {host}"
            for address, host in processes
        ]
        who = [*who[:3], f"{len(who) - 3} more"] if len(who) > 3 else who
        what, advice = SAID[kind]
        words = " and ".join(filter(None, [", ".join(who[:-1]), *who[-1:]]))
        return f"{what.format(who=words, path=path, cause=cause)}. {advice}"


_seen: set[tuple[str, str]] = set()
"""Places that this process has looked at, with what was found there."""


def remember(array: ZarrArray, mark: str | None) -> None:
    """Note that this process has opened an array, or the dataset of this mark around it: it sees them."""
    _seen.add((location_of(_place_of(array, mark)), mark or _describe(array)))


def check_access(array: ZarrArray, mark: str | None) -> None:
    """Raise AccessError unless this process finds the dataset of this mark around an array, or, where daskgd
    did not write it, an array of the same shape, type and chunks.

    An error that may pass is raised as it is. Stores that travel with their rows are not checked.
    """
    if not isinstance(array.store_path.store, LocalStore | FsspecStore):
        return
    there = _place_of(array, mark)
    expected = mark or _describe(array)
    known = location_of(there), expected
    if known in _seen:
        return
    try:
        found = _describe(_open_again(array)) if mark is None else _stored_mark(there)
    except Exception as error:  # file systems raise all kinds
        if is_transient(error):
            raise
        raise _access_error(there, error) from None
    if found != expected:
        what = "" if mark is None else "fingerprint "
        raise AccessError(known[0], "other", f"expected {what}{expected}, got {found}", [this_process()])
    _seen.add(known)


def _place_of(array: ZarrArray, mark: str | None) -> StorePath:
    """Where the metadata lie that are compared."""
    return array.store_path if mark is None else dataset_around(array)


def _access_error(place: StorePath, error: Exception) -> AccessError:
    path, options = location_of(place), storage_options_of(place.store)
    kind, cause = "other", redacted_message(error, options)
    if is_denied(error):
        kind = "denied"
    elif isinstance(error, FileNotFoundError | NotADirectoryError):
        kind, cause = "missing", "no dataset is there"
    return AccessError(path, kind, cause, [this_process()])


def _stored_mark(group: StorePath) -> str | None:
    """The mark of a group as it is stored now; None where there is none."""
    place = group / "zarr.json"
    if isinstance(place.store, LocalStore):  # which does not tell what is missing from what is forbidden
        data = Path(place.store.root, place.path).read_bytes()
    else:
        data = read_object(place)
    mark = json.loads(data).get("attributes", {}).get("daskgd", {}).get("complete")
    return None if mark is None else str(mark)


def _open_again(array: ZarrArray) -> ZarrArray:
    return zarr.open_array(array.store_path, mode="r", zarr_format=array.metadata.zarr_format)


def _describe(array: ZarrArray) -> str:
    """What every version of zarr makes of the metadata of an array."""
    return f"shape {array.shape} of {array.dtype} in chunks of {array.shards or array.chunks}"


def this_process() -> Process:
    """The address of the worker that runs this, and the name of this machine."""
    from daskgd._compat.distributed import worker_address  # not at the top: to read needs no cluster

    return worker_address(), socket.gethostname()


async def look(columns: bytes) -> AccessError | None:
    """The error by which this process cannot read pickled columns; None where it can, or it is not known.

    Run on workers, beside their tasks: the event loop goes on meanwhile.
    """

    def found() -> AccessError | None:
        try:
            for column in pickle.loads(columns):
                if hasattr(column, "check_access"):  # kinds of columns that others define may lack it
                    column.check_access()
        except AccessError as error:
            return error
        except ImportError as error:
            return AccessError("the data", "library", f"{type(error).__name__}: {error}", [this_process()])
        except Exception:  # the tasks will say, if it does not pass
            return None
        return None

    return await asyncio.to_thread(found)
