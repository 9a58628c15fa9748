"""The plugin of the scheduler: it listens to the events of fits, and serves what they say."""

from __future__ import annotations

import json
import logging
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin

from daskgd.monitoring.dashboard._compat import add_handler, add_page, dashboard_prefix
from daskgd.monitoring.dashboard.fits import (
    FITS,
    SWEEPS,
    TOPIC,
    Fit,
    as_message,
    name,
    resident,
    speed,
    token_of,
)
from daskgd.monitoring.dashboard.page import show

logger = logging.getLogger("daskgd.dashboard")


class TrainingMonitor(SchedulerPlugin):
    """Listens on a scheduler and serves the page. A second one registered is ignored.

    Without bokeh, or with a dashboard that is off, there is no page; the numbers are still served.
    """

    name = "daskgd-monitor"
    idempotent = True

    async def start(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.fits: OrderedDict[str, Fit] = OrderedDict()
        self.changes = 0
        self.collector: Any = None
        self.paged = False
        for _, message in scheduler.get_events(TOPIC):  # of fits that began before
            self.log_event(TOPIC, message)
        for serve in (_serve_numbers, _serve_page, _serve_gauges):
            try:
                serve(self)
            except Exception:  # not public API of Dask, and parts of it may be missing
                logger.info("daskgd: %s failed; training goes on without", serve.__name__, exc_info=True)

    async def close(self) -> None:
        if self.collector is not None:
            import prometheus_client

            prometheus_client.REGISTRY.unregister(self.collector)
            self.collector = None

    def log_event(self, topic: str, msg: Any) -> None:
        """Every event that anyone logs passes here: nothing in one may raise."""
        if topic not in (TOPIC, "all") or not isinstance(msg, Mapping):
            return
        try:
            if topic == TOPIC:
                self._take(msg)
            elif msg.get("action") == "remove-worker":
                self._lose(msg)
        except Exception:
            logger.debug("daskgd: an event that is not understood", exc_info=True)

    def remove_client(self, scheduler: Any, client: str) -> None:
        for fit in self.fits.values():
            if fit.status == "running" and fit.client == client:
                fit.status, self.changes = "client gone", self.changes + 1

    def _take(self, message: Mapping[str, Any]) -> None:
        token = name(message["fit"])
        fit = self.fits.get(token)
        if fit is None:
            fit = self.fits[token] = Fit(token)
            while len(self.fits) > FITS:
                ended = [t for t, f in self.fits.items() if f.status != "running"]
                del self.fits[(ended or list(self.fits))[0]]
        self.changes += 1
        for item in message["items"]:
            fit.update(item)

    def _lose(self, message: Mapping[str, Any]) -> None:
        keys = [*message.get("processing-tasks", ()), *message.get("lost-computed-tasks", ())]
        for token, fit in self.fits.items():
            if fit.status == "running":
                self.changes += 1
                fit.lose([key for key in keys if token_of(key) == token], bool(message.get("expected")))

    def metrics(self, token: str | None = None, most: int = 200) -> dict[str, Any]:
        """What ``metrics.json`` holds: for each fit, or the one of that token, its last sweeps."""
        fits = [fit for fit in self.fits.values() if token in (None, fit.token)]
        return {"version": 1, "fits": [as_message(fit, most) for fit in fits]}


# -- numbers ------------------------------------------------------------------------------------


def _serve_numbers(monitor: TrainingMonitor) -> None:
    from tornado.web import RequestHandler

    class Numbers(RequestHandler):
        def get(self) -> None:
            last = self.get_query_argument("last", "200")
            most = min(int(last), SWEEPS) if last.isdecimal() else 200
            self.set_header("Content-Type", "application/json")
            self.set_header("Cache-Control", "no-store")
            self.write(json.dumps(monitor.metrics(self.get_query_argument("fit", None), most)))

    add_handler(monitor.scheduler, r"/daskgd/metrics\.json", Numbers)


def _serve_gauges(monitor: TrainingMonitor) -> None:
    try:
        import prometheus_client
        from prometheus_client.core import GaugeMetricFamily
    except ImportError:
        return

    class Collector:
        def describe(self) -> list[Any]:
            return []

        def collect(self) -> Iterator[Any]:
            labels = ["fit", "estimator"]
            now = [fit for fit in monitor.fits.values() if fit.status == "running"]
            now = now or [fit for fit in list(monitor.fits.values())[-1:]]
            for key, about, value in GAUGES:
                gauge = GaugeMetricFamily(f"daskgd_{key}", about, labels=labels)
                for fit in now:
                    found = value(fit)
                    if found is not None and math.isfinite(found):
                        gauge.add_metric([fit.token, fit.name], found)
                yield gauge
            parts = GaugeMetricFamily(
                "daskgd_sweep_part_seconds",
                "Seconds of the last sweep by what an average thread did",
                labels=[*labels, "part"],
            )
            for fit in now:
                for part in ("read", "compute", "merge", "wait"):
                    found = fit.last().get(part, math.nan)
                    if math.isfinite(found):
                        parts.add_metric([fit.token, fit.name, part], found)
            yield parts

    monitor.collector = Collector()
    prometheus_client.REGISTRY.register(monitor.collector)


GAUGES: tuple[tuple[str, str, Any], ...] = (
    ("loss", "Objective after the last iteration", lambda fit: fit.last_row().get("loss")),
    ("gap", "Estimated relative gap to the minimum", lambda fit: fit.last_row().get("gap")),
    ("gradient_norm", "Norm of the gradient", lambda fit: fit.last_row().get("gradient_norm")),
    ("iterations", "Iterations so far", lambda fit: fit.last_row().get("iteration")),
    ("sweeps", "Reads of the data so far", lambda fit: fit.n_sweeps),
    ("sweep_seconds", "Seconds of the last sweep", lambda fit: fit.last().get("seconds")),
    ("bytes_per_second", "Decoded bytes per second of the last sweep", lambda fit: speed(fit.last())),
    ("floor_bytes_per_second", "The best rate of reading alone", lambda fit: fit.floor),
    ("resident_share", "Share of blocks that were in memory", lambda fit: resident(fit.last())),
    ("workers_lost", "Workers that went while the fit ran", lambda fit: fit.lost),
    ("tasks_again", "Tasks that ran again for it", lambda fit: fit.again_tasks),
    ("blocks_again", "Blocks that were read again for it", lambda fit: fit.again_blocks),
    ("tasks_speculated", "Late tasks that another worker did as well", lambda fit: fit.speculated),
    ("running", "Whether the fit is running", lambda fit: float(fit.status == "running")),
)


def _serve_page(monitor: TrainingMonitor) -> None:
    if dashboard_prefix(monitor.scheduler) is None:
        return  # the dashboard is off
    try:
        add_page(monitor.scheduler, "daskgd", partial(show, monitor))
    except ImportError:
        logger.info("daskgd: no training page on the dashboard, as the scheduler has no bokeh")
        return
    monitor.paged = True
