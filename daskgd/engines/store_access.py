"""Which workers of a cluster can read the stored rows of a fit.

They are asked before the first sweep, where one that cannot ends the fit, and those that join are asked
before each later sweep: one that cannot is left out, and where no other is left, one is waited for. What is
found is remembered per client. Workers that were not asked, or gave no answer, find out in their first task.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from weakref import WeakKeyDictionary

import dask
import distributed

from daskgd._compat.distributed import wire_pickle
from daskgd.data.dataset import Dataset
from daskgd.engines.cluster import Cluster
from daskgd.engines.preflight import ask_workers
from daskgd.storage.access import AccessError, look

logger = logging.getLogger("daskgd")

_known: WeakKeyDictionary[distributed.Client, set[tuple[str, str]]] = WeakKeyDictionary()
"""Digests of columns, and addresses of workers that can read them."""


class StoreAccess:
    """The workers of a cluster that can read the stored columns of a dataset.

    Parameters
    ----------
    cluster : Cluster
    dataset : Dataset

    Attributes
    ----------
    has_read : bool
        Whether workers have read the rows in this fit: if none is left that can, one is waited for.
    """

    def __init__(self, cluster: Cluster, dataset: Dataset) -> None:
        self.cluster, self.dataset = cluster, dataset
        columns = [column for column in dataset.columns.present.values() if column.path is not None]
        self._columns = wire_pickle(columns) if columns else b""
        self._name = hashlib.sha256(self._columns).hexdigest()
        self._left_out: dict[str, AccessError] = {}
        self._able: set[str] = set()
        self.has_read = False

    def check(self, addresses: Iterable[str]) -> None:
        """Raise AccessError, which names them, if workers cannot read."""
        if found := self._ask(addresses):
            raise _joined(found)

    def threads(self, tasks: int = 1) -> dict[str, int]:
        """Wait for workers as the cluster does: the threads by address of those that can read.

        Those that cannot are named in a warning, once; AccessError if there never were others.
        """
        while True:
            threads = self.cluster.threads(tasks)
            found = self._ask(threads)
            for address, error in found.items():
                self._note(address, error)
            self._able = set(threads) - set(found)
            if self._able:
                return {address: n for address, n in threads.items() if address in self._able}
            if not self.has_read:
                raise _joined(self._left_out)

    def leave_out(self, error: AccessError) -> None:
        """Leave out the workers that a task's error names; it is raised where it names none that is new, or
        there never were others."""
        self._check_unchanged([error])
        named = [address for address, _ in error.processes if address]
        if not named or set(named) & set(self._left_out):
            raise error
        for address in named:
            self._note(address, error)
        if not self.has_read and self._able.issubset(self._left_out):
            raise error

    def _ask(self, addresses: Iterable[str]) -> dict[str, AccessError]:
        """What is wrong at workers that cannot read, by address; asks those that are new.

        None where the user has chosen workers with ``dask.annotate``: others need not be able to.
        """
        if not self._columns or "workers" in dask.get_annotations():
            return {}
        known = _known.setdefault(self.cluster.client, set())
        new = [a for a in addresses if (self._name, a) not in known and a not in self._left_out]
        answers = ask_workers(self.cluster, look, new, self._columns) if new else {}
        found = {}
        for address, answer in answers.items():
            if isinstance(answer, AccessError):
                ((_, host),) = answer.processes
                found[address] = answer.of([(address, host)])
        known.update((self._name, address) for address in new if address not in found)
        self._check_unchanged(found.values())
        return found

    def _check_unchanged(self, errors: Iterable[AccessError]) -> None:
        """Raise StoreError where workers see other data, as this process does by now."""
        if any(error.kind == "other" for error in errors):
            self.dataset.check_unchanged()

    def _note(self, address: str, error: AccessError) -> None:
        self._left_out[address] = error
        self.cluster.left_out.add(address)
        logger.warning("a worker is left out of the fit: %s", error)


def _joined(errors: dict[str, AccessError]) -> AccessError:
    """One error for the workers that have the same trouble as the first."""
    first = next(iter(errors.values()))
    alike = [error for error in errors.values() if (error.path, error.kind) == (first.path, first.kind)]
    return first.of([process for error in alike for process in error.processes])
