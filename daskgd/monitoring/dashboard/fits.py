"""What the scheduler keeps of fits: what events say of them, within limits."""

from __future__ import annotations

import math
import time
from array import array
from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import Any

TOPIC = "daskgd"
"""Of the events."""

FITS, SWEEPS, MEMBERS, NAME = 20, 5000, 64, 60
"""Most fits, sweeps of each, fits that share their sweeps, and characters of a name, that are kept."""

COLUMNS = (
    "sweep",
    "at",
    "seconds",
    "read",
    "compute",
    "merge",
    "wait",
    "before",
    "nbytes",
    "floor",
    "threads",
    "tasks",
    "home_tasks",
    "blocks",
    "read_blocks",
    "kept_blocks",
    "resident_blocks",
    "again_blocks",
    "speculated",
    "lost",
)
"""Of a sweep, as :class:`daskgd.engines.timing.Timing`; `at`, seconds since the fit began; `lost`, workers
that went after the sweep before it ended."""

ROW = ("iteration", "loss", "gradient_norm", "gap", "seconds", "bytes", "sweeps")
"""Of an iteration, as a row of the history."""

CANDIDATE = ("candidate", "state", "score", "spread", "rank")
"""Of a candidate of a search: its settings, where it is, the mean of its scores, their standard deviation,
and its rank."""

CANDIDATES = 500
"""Most candidates that are kept, the best of them."""

WORKER = ("rows", "read", "compute", "read_blocks", "kept_blocks")
"""Of a worker in the last sweep."""


def number(value: Any) -> float:
    """Whatever an event holds as a float, NaN where it is no number."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def name(value: Any) -> str:
    """Whatever an event holds as a short name of one line."""
    return "".join(c for c in str(value) if c.isprintable())[:NAME]


def whole(value: float) -> int:
    """A number of things; 0 where an event told of none."""
    return int(value) if math.isfinite(value) else 0


class Fit:
    """What is known of one fit, or of several that share their sweeps."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.name = "fit"
        self.client = ""
        self.began = time.time()
        self.status = "running"
        self.n_rows = self.n_features = 0
        self.sweeps: deque[array[float]] = deque(maxlen=SWEEPS)
        self.n_sweeps = 0
        self.rows: dict[str, deque[array[float]]] = {}
        self.n_rows_of: dict[str, int] = {}
        self.asked = ""
        self.workers: dict[str, array[float]] = {}
        self.n_workers = 0
        self.floor = math.nan
        self.lost = self.again_tasks = self.again_blocks = self.speculated = 0
        self.candidates: list[tuple[str, str, float, float, int]] = []
        self._losses: list[
            tuple[float, int, int]
        ] = []  # when; workers; blocks of tasks that were to run again

    def update(self, item: Mapping[str, Any]) -> None:
        """One item of an event."""
        kind = item.get("kind")
        if kind == "begin":
            self.name, self.client = name(item.get("name", "fit")), name(item.get("client", ""))
            self.began = number(item.get("began", self.began))
            self.n_rows, self.n_features = (int(item.get(k, 0)) for k in ("n_rows", "n_features"))
        elif kind == "sweep":
            self._sweep(item)
        elif kind == "row":
            self._row(item)
        elif kind == "candidates":
            self.candidates = [
                (name(what), name(state), number(score), number(spread), whole(number(rank)))
                for what, state, score, spread, rank in islice(item.get("rows", ()), CANDIDATES)
            ]
        elif kind == "end":
            self.status = name(item.get("status", "ended"))

    def _sweep(self, item: Mapping[str, Any]) -> None:
        ended = self.began + number(item.get("at"))
        now = [loss for loss in self._losses if not loss[0] > ended]
        self._losses = [loss for loss in self._losses if loss[0] > ended]
        lost, again = sum(loss[1] for loss in now), sum(loss[2] for loss in now)
        missed = max(int(number(item.get("again_blocks", 0))), 0)
        self.again_blocks += missed
        self.speculated += max(int(finite(number(item.get("speculated", 0))) or 0), 0)
        counted = {**item, "lost": lost, "again_blocks": missed + again}
        self.sweeps.append(array("d", [number(counted.get(column)) for column in COLUMNS]))
        self.n_sweeps += 1
        floor = number(item.get("floor"))
        if math.isfinite(floor) and not floor < self.floor:
            self.floor = floor
        self.asked = ", ".join(name(asked) for asked in item.get("asked", ())[:8])
        workers = item.get("workers", {})
        self.n_workers = int(item.get("n_workers", len(workers)))
        self.workers = {
            name(address): array("d", [number(value) for value in values[: len(WORKER)]])
            for address, values in islice(workers.items(), 256)
        }

    def _row(self, item: Mapping[str, Any]) -> None:
        member = name(item.get("member", self.name))
        if member not in self.rows:
            if len(self.rows) >= MEMBERS:
                return
            self.rows[member], self.n_rows_of[member] = deque(maxlen=SWEEPS), 0
        self.rows[member].append(array("d", [number(item.get(column)) for column in ROW]))
        self.n_rows_of[member] += 1
        while len(self.rows) > 1 and sum(map(len, self.rows.values())) > 2 * SWEEPS:
            max(self.rows.values(), key=len).popleft()

    def lose(self, keys: Any, expected: bool) -> None:
        """A worker went, with these tasks of the fit computing there or their results."""
        self.lost += not expected
        reads = [key for key in keys if kind_of(key) not in ("ask", "merge", "cache")]
        self.again_tasks += len(reads)
        last, blocks = self.last(), 0
        if last:
            # Of rows that were in memory the next sweep tells how many were read again; of others, about.
            # A key is longer where a late task is done once more, which reads.
            at_cache = [key for key in reads if isinstance(key, tuple) and key[-1] < last["home_tasks"]]
            streamed = len(reads) - sum(len(key) == 3 for key in at_cache)
            each = (last["blocks"] - last["resident_blocks"]) / max(last["tasks"] - last["home_tasks"], 1)
            blocks = round(streamed * each)
        self.again_blocks += blocks
        self._losses.append((time.time(), int(not expected), blocks))

    def last(self) -> dict[str, float]:
        """The last sweep by column."""
        return dict(zip(COLUMNS, self.sweeps[-1], strict=True)) if self.sweeps else {}

    def last_row(self) -> dict[str, float]:
        """The last iteration of the first member that has one."""
        for rows in self.rows.values():
            return dict(zip(ROW, rows[-1], strict=True))
        return {}

    def worker_rates(self) -> dict[str, float]:
        """Rows per second of each worker while it was at work, the slowest first."""
        rates = {
            address: values[0] / (values[1] + values[2])
            for address, values in self.workers.items()
            if len(values) == len(WORKER) and values[1] + values[2] > 0
        }
        return dict(sorted(rates.items(), key=lambda pair: pair[1]))


def kind_of(key: Any) -> str:
    """What the task of a key does: "gradient" of ``("daskgd-gradient-1a2b3c4d", 3, 7)``; "" if not ours.

    >>> kind_of(("daskgd-gradient-1a2b3c4d", 3, 7)), token_of("daskgd-merge-1a2b3c4d"), kind_of("sum-12")
    ('gradient', '1a2b3c4d', '')
    """
    head = key[0] if isinstance(key, tuple) and key else key
    parts = head.split("-") if isinstance(head, str) else []
    return "-".join(parts[1:-1]) if len(parts) > 2 and parts[0] == "daskgd" else ""


def token_of(key: Any) -> str:
    """The token of the fit that a key belongs to; "" if none."""
    head = key[0] if isinstance(key, tuple) and key else key
    return head.rpartition("-")[2] if kind_of(head) else ""


def speed(sweep: Mapping[str, float]) -> float:
    """Decoded bytes per second of a sweep."""
    return sweep["nbytes"] / sweep["seconds"] if sweep and sweep["seconds"] > 0 else math.nan


def resident(sweep: Mapping[str, float]) -> float:
    """Share of the blocks of a sweep that were in memory."""
    return sweep["kept_blocks"] / sweep["blocks"] if sweep and sweep["blocks"] > 0 else math.nan


# -- as JSON ------------------------------------------------------------------------------------


def as_message(fit: Fit, most: int) -> dict[str, Any]:
    def rows(columns: tuple[str, ...], values: deque[array[float]]) -> list[dict[str, Any]]:
        return [_plain(columns, row) for row in islice(values, max(len(values) - most, 0), None)]

    return {
        "fit": fit.token,
        "name": fit.name,
        "status": fit.status,
        "began": fit.began,
        "n_rows": fit.n_rows,
        "n_features": fit.n_features,
        "n_sweeps": fit.n_sweeps,
        "asked": fit.asked,
        "floor": finite(fit.floor),
        "workers_lost": fit.lost,
        "tasks_again": fit.again_tasks,
        "blocks_again": fit.again_blocks,
        "tasks_speculated": fit.speculated,
        "n_workers": fit.n_workers,
        "workers": {address: _plain(WORKER, values) for address, values in fit.workers.items()},
        "sweeps": rows(COLUMNS, fit.sweeps),
        "iterations": {member: rows(ROW, values) for member, values in fit.rows.items()},
        "candidates": [
            {key: finite(v) if isinstance(v, float) else v for key, v in zip(CANDIDATE, row, strict=True)}
            for row in fit.candidates[:most]
        ],
    }


COUNTS = (
    "sweep",
    "nbytes",
    "threads",
    "tasks",
    "home_tasks",
    "speculated",
    "lost",
    "iteration",
    "bytes",
    "sweeps",
    "rows",
)
"""Columns of whole numbers, and those of blocks."""


def _plain(columns: tuple[str, ...], values: Any) -> dict[str, Any]:
    return {
        column: None if not math.isfinite(value) else int(value) if _whole(column) else value
        for column, value in zip(columns, values, strict=False)
    }


def _whole(column: str) -> bool:
    return column in COUNTS or column.endswith("blocks")


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
