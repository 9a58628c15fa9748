"""Waiting for a cluster while a fit runs on it: it says what it waits for, and never hangs.

The driver waits for workers, which an adaptive cluster starts when it sees tasks; it names those that are
late, and raises :class:`ClusterLost` where no answer will come any more. Tasks of lost workers are computed
again by the scheduler, with the same bits: that takes no code of ours. The file knows clients and addresses;
it must not know graphs, rows or solvers.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import dask
import distributed
from dask.system import CPU_COUNT
from dask.utils import format_bytes, parse_timedelta
from distributed.comm import CommClosedError

from daskgd._compat.distributed import scheduler_address, worker_processing, worker_threads, workers_info
from daskgd.config import setting
from daskgd.storage.redaction import redacted

logger = logging.getLogger("daskgd")

THIS_PROCESS = "here"
"""The address of this process, where it computes in place of workers."""

TICK = 1.0
"""Seconds between two looks at the cluster while results are awaited."""

POLL = 0.2
"""Seconds between two looks for a first worker."""

ANSWER = 10.0
"""Seconds within which a scheduler that still runs has answered."""

SLOW, SLOW_SECONDS = 5.0, 10.0
"""A slow sweep takes so many times the median of those before it, and at least so many seconds."""

SILENT_SECONDS = 10.0
"""Seconds after the last heartbeat from which a worker is silent; workers send one every 0.5 s, a cluster of
1,000 one every 6 s."""


class ClusterLost(RuntimeError):
    """The cluster of a fit is gone, or has had no workers for too long.

    Attributes
    ----------
    reason : str
        What happened.
    checkpoint : str or None
        Where the fit has saved its progress.

    Examples
    --------
    >>> lost = ClusterLost("the connection to the scheduler at tcp://10.0.0.1:8786 was lost")
    >>> print(lost)
    the connection to the scheduler at tcp://10.0.0.1:8786 was lost; fit again on a new cluster
    >>> print(lost.with_checkpoint("run-7"))
    the connection ... was lost; fit again on a new cluster with checkpoint='run-7' to go on from there
    """

    def __init__(self, reason: str, checkpoint: str | None = None) -> None:
        super().__init__(reason, checkpoint)

    @property
    def reason(self) -> str:
        return str(self.args[0])

    @property
    def checkpoint(self) -> str | None:
        found: str | None = self.args[1]
        return found

    def with_checkpoint(self, path: str) -> ClusterLost:
        """The same loss, of a fit that has saved its progress at `path`."""
        other = ClusterLost(self.reason, path)
        other.__cause__ = self.__cause__
        return other.with_traceback(self.__traceback__)

    def __str__(self) -> str:
        there = ""
        if self.checkpoint:
            there = f" with checkpoint={redacted(self.checkpoint)!r} to go on from there"
        return f"{self.reason}; fit again on a new cluster{there}"


class Stranded(Exception):
    """Tasks wait for workers that have left, and are given to no others: see :meth:`Cluster.gather`."""


_LOST = "the connection to the scheduler at {} was lost"


@contextmanager
def reaching(client: distributed.Client | None, describe: Callable[[Any], str] = str) -> Iterator[None]:
    """A context in which all errors by which dask says that a cluster is lost become :class:`ClusterLost`.

    `describe` says in words what the task of a key does, "" for tasks of others.
    """
    if client is None:
        yield
        return
    lost = _LOST.format(scheduler_address(client))
    try:
        yield
    except ClusterLost:
        raise
    except distributed.KilledWorker as error:
        raise ClusterLost(_of_killed(error, describe(error.task))) from error
    except (CancelledError, asyncio.CancelledError, CommClosedError) as error:
        if client.status == "running" and not isinstance(error, CommClosedError):
            reason = getattr(error, "reason", None) or "unknown"
            lost = f"the fit's work on the cluster was cancelled by others than the fit ({reason})"
        raise ClusterLost(lost) from error
    except Exception as error:
        if client.status == "running":
            raise
        raise ClusterLost(lost) from error


def _of_killed(error: distributed.KilledWorker, what: str) -> str:
    last, n = error.last_worker, error.allowed_failures + 1
    limit = f"memory limit {format_bytes(last.memory_limit)}" if last.memory_limit else "no memory limit"
    return (
        f"{what}: {n} workers ended one after the other while they had this to do, the last was "
        f"{last.address} ({limit}). Its log says why. If memory was short, give workers more or fewer "
        "threads, or write the data in smaller chunks; where workers come and go by themselves, raise "
        f"dask.config's distributed.scheduler.allowed-failures (now {error.allowed_failures})"
    )


@contextmanager
def stepped_aside() -> Iterator[None]:
    """A context in which a fit that is a task itself leaves its worker's thread to the tasks it waits for."""
    try:
        distributed.get_worker().get_current_task()
        distributed.secede()
        away = True
    except Exception:  # this is no task, or its thread has left already
        away = False
    try:
        yield
    finally:
        if away:
            distributed.rejoin()


@contextmanager
def demand(client: distributed.Client, tasks: int = 1) -> Iterator[None]:
    """A context in which the scheduler has so many tasks that do nothing.

    They show to a cluster that starts workers by the work there is, as after ``cluster.adapt(...)``, how much
    of it will come. The first worker runs them in no time; none is left behind.
    """
    name = f"daskgd-start-{uuid4().hex[:8]}"
    futures = client.map(bool, range(tasks), key=[(name, i) for i in range(tasks)])
    try:
        yield
    finally:
        release(futures)


def release(futures: Iterable[Any]) -> None:
    """Give up results, also those that are not there yet: an exception may keep their futures in its frames,
    and with these the tasks, for which an adaptive cluster keeps workers."""
    for future in futures:
        future.release()


class Cluster:
    """The cluster of a client during one fit: its workers, waiting for them, and waiting for results.

    Parameters
    ----------
    client : distributed.Client
    left_out : collection of str
        Addresses of workers that are not to be used. Where the user has chosen some with
        ``dask.annotate(workers=...)``, the others are added.

    Attributes
    ----------
    n_workers : int
        Workers at the last look, those that cannot be used among them.
    silent : set of str
        Workers that did not answer a question before the first sweep.
    """

    def __init__(self, client: distributed.Client, left_out: Collection[str] = ()) -> None:
        self.client = client
        self.left_out = set(left_out)
        self.n_workers = 0
        self.silent: set[str] = set()
        self.address = scheduler_address(client)
        self._alone_since: float | None = None
        self._said_alone = False
        self._named: set[str] = set()
        self._past: defaultdict[str, list[float]] = defaultdict(list)

    def threads(self, tasks: int = 1) -> dict[str, int]:
        """Wait until there is a worker that can be used: the threads of each by its address.

        Meanwhile the cluster is shown that there will be so many `tasks`: see :func:`demand`.
        Raises ClusterLost after ``daskgd.no-workers-timeout`` without one, or if there is no scheduler.
        """
        if found := self._workers():
            return found
        with demand(self.client, tasks):
            while not (found := self._workers()):
                time.sleep(POLL)
        return found

    def gather(
        self,
        futures: Any,
        name: str,
        describe: Callable[[Any], str] = str,
        part: Callable[[float], None] = lambda share: None,
        late: Callable[[Mapping[str, Any]], Any] = lambda processing: None,
        meant_for: Collection[str] = (),
    ) -> Any:
        """Wait for the results of `futures`, of a sweep of this name.

        Meanwhile `part` is called with the share of them that is done, and `late` with the keys of the tasks
        that each worker has to do: it may answer with other futures of the same results, and those count
        that are there first. `describe` is as for :func:`reaching`.

        Raises what a task raised; ClusterLost as `threads` does, where workers leave and none comes; Stranded
        if workers that tasks were `meant_for` have left, and the scheduler does not give the tasks to others:
        it does so while one is running, but what is there when all have left it keeps for those that left,
        though they are a mere preference.
        """
        began, look_at = time.monotonic(), SLOW_SECONDS
        races, all_futures = [], [*futures]
        try:
            self._check()
            races.append(self._results(futures))
            while (first := self._first(races)) is None:
                elapsed = time.monotonic() - began
                part(sum(future.done() for future in futures) / len(futures))
                processing = self.ask(lambda: worker_processing(self.client))
                self._note(processing)
                if processing and (others := late(processing)) is not None:
                    races.append(self._results(others))
                    all_futures += others
                elif processing and self._are_stranded(all_futures, processing, describe, meant_for):
                    raise Stranded
                if elapsed > look_at:
                    self._name_the_late(name, elapsed, describe)
                    look_at = 1.5 * elapsed
            self._past[name].append(time.monotonic() - began)
            return first.result()
        finally:
            release(all_futures)  # which ends the gathering that is left behind

    @staticmethod
    def _are_stranded(
        futures: Sequence[Any],
        processing: Mapping[str, Collection[Any]],
        describe: Callable[[Any], str],
        meant_for: Collection[str],
    ) -> bool:
        """Whether workers that tasks were meant for have left, and no worker has any of the tasks to do."""
        if all(address in processing for address in meant_for):
            return False
        busy = any(describe(key) for keys in processing.values() for key in keys)
        return not busy and not all(future.done() for future in futures)

    def _results(self, futures: Any) -> Any:
        """Begin to gather the results of some futures."""
        coming = self.client.gather(futures, asynchronous=True)  # in this thread, whose worker it looks for
        return self._begin(lambda: coming)

    @staticmethod
    def _first(races: list[Any]) -> Any:
        """Who of those that gather is done within a tick, None if nobody is. One that began later may have
        found that what it builds on had gone: it is out."""
        wait(races, TICK, FIRST_COMPLETED)
        for race in [race for race in races[1:] if race.done()]:
            if race.cancelled() or isinstance(race.exception(), CancelledError):
                races.remove(race)
        return next((race for race in races if race.done()), None)

    # -- asking the scheduler ---------------------------------------------------------------------

    def _check(self) -> None:
        if self.client.status != "running":
            raise ClusterLost(_LOST.format(self.address))

    def _begin(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Start a call of the client in its event loop: what concurrent.futures calls a Future."""

        loop: Any = self.client.loop

        async def called() -> Any:
            return await call()

        return asyncio.run_coroutine_threadsafe(called(), loop.asyncio_loop)

    def ask(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Ask the scheduler: its answer, or None if there is none within some seconds."""
        self._check()
        asked = self._begin(call)
        try:
            return asked.result(timeout=ANSWER)
        except (TimeoutError, OSError):
            asked.cancel()
            return None
        except BaseException:
            asked.cancel()
            raise

    def _workers(self) -> dict[str, int]:
        """The threads by address of each worker that can be used; none if the scheduler did not answer, or
        see `_note`."""
        found = self.ask(lambda: worker_threads(self.client))
        chosen = dask.get_annotations().get("workers")
        if found and chosen is not None and not callable(chosen):
            info = (self.ask(lambda: workers_info(self.client)) or {}).get("workers", {})
            self.left_out |= (set(found) & set(info)) - chosen_workers(chosen, info)
        self._note(found)
        self.n_workers = len(found or {})
        return {address: n for address, n in (found or {}).items() if address not in self.left_out}

    def _note(self, workers: Mapping[str, Any] | None) -> None:
        """Warn, and later raise ClusterLost, when there have been no workers that can be used for long.

        `workers` are None if the scheduler did not answer.
        """
        now = time.monotonic()
        if workers and not self.left_out.issuperset(workers):
            self._alone_since, self._said_alone = None, False
            return
        if self._alone_since is None:
            self._alone_since = now
        waited = now - self._alone_since
        state = "has no workers" if workers is not None else "does not answer"
        if workers:
            state += " that can be used, but others,"
        most = parse_timedelta(setting("no-workers-timeout"))
        if most is not None and waited >= most:
            raise ClusterLost(
                f"the scheduler at {self.address} {state} since {waited:.0f} s (daskgd.no-workers-timeout)"
            )
        if not self._said_alone and waited >= (parse_timedelta(setting("no-workers-warning")) or 0):
            self._said_alone = True
            until = "" if most is None else f"; the fit ends after {most:.0f} s"
            where = f"the scheduler at {self.address} {state}"
            logger.warning("waiting for workers since %.0f s: %s%s", waited, where, until)

    def is_new(self, address: str) -> bool:
        """Whether this fit's log has not named a worker yet; from now on it has."""
        new = address not in self._named
        self._named.add(address)
        return new

    def _name_the_late(self, name: str, elapsed: float, describe: Callable[[Any], str]) -> None:
        """Log which workers a sweep waits for, each once: all if the sweep is slow, else silent ones."""
        past = self._past[name]
        usual = statistics.median(past) if past else None
        slow = usual is not None and elapsed > SLOW * usual
        todo = self.ask(lambda: worker_processing(self.client)) or {}
        info = (self.ask(lambda: workers_info(self.client)) or {}).get("workers", {})
        latest = max((w["last_seen"] for w in info.values()), default=0.0)
        late = []
        for address, keys in todo.items():
            mine = [what for key in keys if (what := describe(key))]
            silence = latest - info[address]["last_seen"] if address in info else 0.0
            silent = silence > SILENT_SECONDS
            if mine and (slow or silent) and self.is_new(address):
                more = f" and {len(mine) - 2} more" if len(mine) > 2 else ""
                heard = f", not heard from for {silence:.0f} s" if silent else ""
                late.append(f"{address} ({', '.join(mine[:2])}{more}{heard})")
        if late:
            more = f" and {len(late) - 3} more workers" if len(late) > 3 else ""
            logger.warning(
                "a sweep (%s) has taken %.0f s%s: waiting for %s%s. A worker that hangs is given up after "
                "dask.config's distributed.scheduler.worker-ttl; its tasks are then done by others",
                name,
                elapsed,
                f", {elapsed / usual:.0f} times the median" if usual else "",
                ", ".join(late[:3]),
                more,
            )


def chosen_workers(chosen: Any, info: Mapping[str, Any]) -> set[str]:
    """The addresses of the workers that a user means by addresses, names and hosts, of what the scheduler
    knows of each.

    >>> info = {"tcp://10.0.0.1:1": {"name": 0, "host": "10.0.0.1"}, "tcp://n2:1": {"name": 1, "host": "n2"}}
    >>> sorted(chosen_workers(["10.0.0.1:1", 1], info)), chosen_workers("n2", info)
    (['tcp://10.0.0.1:1', 'tcp://n2:1'], {'tcp://n2:1'})
    """
    meant = set(chosen) if isinstance(chosen, list | tuple | set) else {chosen}
    return {
        address
        for address, worker in info.items()
        if meant & {address, address.rpartition("://")[2], worker["name"], worker["host"]}
    }


def n_threads(client: distributed.Client | None) -> int:
    """The number of threads that compute at this moment."""
    return sum(threads_of(client).values())


def threads_of(client: distributed.Client | None) -> dict[str, int]:
    """The threads of each worker by address; without a cluster those of this process, as ``THIS_PROCESS``."""
    if client is None:
        return {THIS_PROCESS: int(dask.config.get("num_workers", None) or CPU_COUNT)}
    return dict(client.nthreads())
