"""What a fit tells Dask's dashboard: a few numbers per sweep, as events of the scheduler.

Monitoring never fails a fit, nor makes it wait: a thread tells, which spends one percent of its time on that,
so that where sweeps are short several of them go in one event. No rows, labels, coefficients or addresses of
data are told.
"""

from __future__ import annotations

import logging
import pickle
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import distributed
from distributed.diagnostics.plugin import SchedulerPlugin

from daskgd.config import setting
from daskgd.engines.timing import Timing
from daskgd.monitoring import dashboard
from daskgd.monitoring.dashboard.fits import COLUMNS, TOPIC
from daskgd.monitoring.dashboard.plugin import TrainingMonitor
from daskgd.monitoring.events import Began, Event, Iterated
from daskgd.monitoring.history import KEYS

logger = logging.getLogger("daskgd.monitor")

SHARE, PAUSE = 0.01, 1.0
"""Of the time of a fit that may go into telling; and even so, most seconds from one event to the next."""

WORKERS = 64
"""Most workers of a sweep that are told of: the slowest."""

FLUSH_SECONDS = 2.0
"""Seconds for which a fit waits at its end until all has been told, and the first of a client until the page
is there."""


class Travelling(SchedulerPlugin):
    """Stands for the plugin where it is sent: there it is made of the code that goes along, not of a daskgd
    that may not be installed."""

    name = TrainingMonitor.name
    idempotent = True

    def __reduce__(self) -> Any:
        return pickle.loads, (self.payload,)

    def __init__(self) -> None:
        import cloudpickle

        cloudpickle.register_pickle_by_value(dashboard)
        try:
            self.payload = cloudpickle.dumps(TrainingMonitor())
        finally:
            cloudpickle.unregister_pickle_by_value(dashboard)


class Monitor:
    """Sends events of one fit, or of several that share their sweeps, to the scheduler.

    Parameters
    ----------
    client : distributed.Client
    token : str
        Of the engine: what keys of tasks end with.
    name : str
    n_rows, n_features : int
    """

    def __init__(self, client: Any, token: str, name: str, n_rows: int = 0, n_features: int = 0) -> None:
        self.client, self.token, self.name = client, token, name
        self.n_sent, self.seconds = 0, 0.0
        self._began = time.perf_counter()
        self._more, self._over = threading.Condition(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="daskgd-monitor", daemon=True)
        begin = {"kind": "begin", "name": name, "client": client.id, "began": time.time()}
        self._items: list[dict[str, Any]] = [{**begin, "n_rows": n_rows, "n_features": n_features}]
        self._thread.start()

    def sweep(self, swept: Timing) -> None:
        """Send the times and counts of a sweep."""
        workers = {
            address: (s.rows, round(s.read, 6), round(s.compute, 6), s.read_blocks, s.kept_blocks)
            for address, s in swept.workers.items()
        }
        if len(workers) > WORKERS:
            slow = sorted(workers, key=lambda a: workers[a][0] / max(sum(workers[a][1:3]), 1e-9))
            workers = {address: workers[address] for address in slow[:WORKERS]}
        item = {key: getattr(swept, key) for key in COLUMNS if hasattr(swept, key)}
        self._tell(
            {
                "kind": "sweep",
                **item,
                "at": time.perf_counter() - self._began,
                "asked": swept.asked,
                "workers": workers,
                "n_workers": len(swept.workers),
            }
        )

    def candidates(self, rows: Sequence[Sequence[Any]]) -> None:
        """Send the candidates of a search: of each its settings, state, score, spread and rank."""
        self._tell({"kind": "candidates", "rows": [list(row) for row in rows]})

    def __call__(self, event: Event) -> None:
        """Watches: a fit that goes on tells what its history holds, and every fit of its iterations."""
        for row in event.rows if isinstance(event, Began) else ():
            self._row(event.fit, row)
        if isinstance(event, Iterated):
            self._row(event.fit, event.row)

    def _row(self, member: str, row: Mapping[str, Any]) -> None:
        self._tell({"kind": "row", "member": member, **{key: row.get(key) for key in KEYS}})

    def close(self, status: str) -> None:
        """Send whatever has not been sent yet, and how the fit ended."""
        with self._more:
            self._items.append({"kind": "end", "status": status})
            self._over.set()
            self._more.notify()
        self._thread.join(FLUSH_SECONDS)

    def _tell(self, item: dict[str, Any]) -> None:
        with self._more:
            if not self._thread.is_alive():
                return
            self._items.append(item)
            self._more.notify()

    def _work(self) -> None:
        """Send items as they come, until the fit is over or sending fails."""
        try:
            while True:
                with self._more:
                    self._more.wait_for(lambda: self._items)
                    items, self._items = self._items, []
                began = time.perf_counter()
                self.client.log_event(TOPIC, {"fit": self.token, "items": items})
                took = time.perf_counter() - began
                self.n_sent, self.seconds = self.n_sent + 1, self.seconds + took
                if items[-1]["kind"] == "end":
                    return
                self._over.wait(min(took / SHARE, PAUSE))
        except Exception:
            logger.info("daskgd: the dashboard hears no more of this fit", exc_info=True)


@contextmanager
def report_to_dashboard(
    engine: Any, runs: Sequence[Any], n_rows: int = 0, n_features: int = 0
) -> Iterator[None]:
    """Within it, what `engine` does for `runs` is told to the dashboard of its cluster, if it has one.

    Parameters
    ----------
    engine : Engine
        One with a `client`, a `token` and a hook `on_sweep`; others are left alone.
    runs : sequence of RunningFit
        Each with `name`, `estimator`, `watchers` and `result`.
    n_rows, n_features : int
    """
    monitor = page = None
    status = "failed"
    with ExitStack() as stack:
        with suppress_errors():
            client = getattr(engine, "client", None)
            kinds = list(dict.fromkeys(type(run.estimator).__name__ for run in runs))
            if client is not None:
                stack.enter_context(distributed.span(f"daskgd-{'-'.join(kinds)}"))
            if client is not None and setting("dashboard"):
                name = ", ".join(kinds) if len(runs) == 1 else f"{len(runs)} x {', '.join(kinds)}"
                monitor = Monitor(client, engine.token, name, n_rows, n_features)
                engine.on_sweep = silence_after_failure(monitor.sweep)
                for run in runs:
                    run.watchers.append(silence_after_failure(monitor))
                page = install_page(client)
        try:
            yield
            status = "done"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            with suppress_errors():
                if monitor is not None:
                    engine.on_sweep = None
                    outcomes = {run.result.outcome for run in runs if run.result is not None}
                    monitor.close(", ".join(sorted(outcomes)) if status == "done" and outcomes else status)
                if page is not None and status == "done":
                    page.join(FLUSH_SECONDS)


@contextmanager
def report_search(client: Any, name: str, n_rows: int, n_features: int) -> Iterator[Callable[..., None]]:
    """Within it, what the function that it gives is called with is told to the dashboard of a client, where
    there is one: the candidates of a search, as :meth:`Monitor.candidates` takes them."""
    monitor = None
    status = "failed"
    with suppress_errors():
        if client is not None and setting("dashboard"):
            monitor = Monitor(client, f"search-{uuid.uuid4().hex[:8]}", name, n_rows, n_features)
            install_page(client)
    try:
        yield (lambda rows: None) if monitor is None else silence_after_failure(monitor.candidates)
        status = "done"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        with suppress_errors():
            if monitor is not None:
                monitor.close(status)


PAGES: WeakKeyDictionary[Any, threading.Thread] = WeakKeyDictionary()
"""By client, who asks its scheduler to show the page, or did so."""


def install_page(client: Any) -> threading.Thread | None:
    """Install the page on the scheduler of a client, in a thread, which is returned; None if it is there."""
    if client in PAGES:
        return None

    def install() -> None:
        with suppress_errors():
            client.register_plugin(Travelling())

    PAGES[client] = threading.Thread(target=install, name="daskgd-dashboard", daemon=True)
    PAGES[client].start()
    return PAGES[client]


def silence_after_failure(call: Callable[..., None]) -> Callable[..., None]:
    """Wrap a callable: its errors are logged, and after the first it is not called again."""
    broken = False

    def safe(*args: Any) -> None:
        nonlocal broken
        if broken:
            return
        broken = True
        with suppress_errors():
            call(*args)
            broken = False

    return safe


@contextmanager
def suppress_errors() -> Iterator[None]:
    """Log errors of the block instead of raising them, so that monitoring never fails a fit."""
    try:
        yield
    except Exception:
        logger.info("daskgd: monitoring failed; the fit goes on", exc_info=True)
