"""What watching a fit costs: events to the dashboard, and the records that come with the sums."""

from __future__ import annotations

import pickle
import statistics
from functools import reduce
from itertools import pairwise
from typing import Any, ClassVar
from unittest.mock import patch

import click

from benchmarks.common import Bench, cluster, command, descent
from daskgd.engines.base import Partial
from daskgd.engines.timing import Spent, Timed, Timing, added
from daskgd.monitoring import reporter as monitor
from daskgd.queries.sums import Sums

RUN = 10
"""Sweeps that are told of, or not, in a row."""


class Alternating(monitor.Monitor):
    """Tells of `RUN` sweeps, and not of the next, so that both are measured in one fit."""

    made: ClassVar[list[Alternating]] = []
    sweeps = 0

    def sweep(self, swept: Timing) -> None:
        if not self.sweeps:
            self.made.append(self)
        self.sweeps += 1
        super().sweep(swept)

    def _tell(self, item: dict[str, Any]) -> None:
        if self.on(self.sweeps):
            super()._tell(item)

    @staticmethod
    def on(sweep: int) -> bool:
        return sweep // RUN % 2 == 0


def compared(dataset: Any, sweeps: int, memory: Any, name: str) -> dict[str, Any]:
    """Sweeps of one fit that are told of, and sweeps that are not."""
    with patch.object(monitor, "Monitor", Alternating):
        history = descent(sweeps, memory).fit(dataset).history_
    told = Alternating.made[-1]
    at = [(row["sweeps"], row["seconds"]) for row in history]
    took: dict[bool, list[float]] = {True: [], False: []}
    for (_, before), (sweep, after) in pairwise(at):
        if sweep % RUN and sweep > RUN:  # the first of a run ends what was told in the run before
            took[Alternating.on(sweep)].append(after - before)
    on, off = statistics.median(took[True]), statistics.median(took[False])
    quarters = statistics.quantiles(took[False])
    return {
        "rows": name,
        "sweeps": sweeps,
        "ms a sweep, not told": off * 1e3,
        "told": on * 1e3,
        "difference": f"{on / off - 1:+.1%}",
        "middle half, not told": f"{quarters[0] * 1e3:.3g} to {quarters[2] * 1e3:.3g}",
        "ms an event": told.seconds / max(told.n_sent, 1) * 1e3,
        "events a told sweep": told.n_sent / (told.sweeps / 2),
        "telling, of the fit": f"{told.seconds / at[-1][1]:.2%}",
    }


class Nothing:
    """A source that takes no time."""

    layout = None

    def read(self, start: int, stop: int) -> None:
        return None


def records(bench: Bench) -> list[dict[str, Any]]:
    """What telling who spent what adds to tasks and merges."""
    bare, n = Nothing(), 100_000

    def reads(source: Any) -> float:
        def work() -> None:
            for _ in range(n):
                source.read(0, 1)

        return bench.seconds(work) / n

    cost = reads(Timed(Timed(bare))) - reads(bare)
    alone, told = (len(pickle.dumps(p)) for p in (Partial([Sums(n=1)], {}), partial(1, 0)))
    table: list[dict[str, Any]] = [
        {"what": "two clocks around a block's read", "microseconds": cost * 1e6, "bytes": None},
        {
            "what": "a record beside a task's sums",
            "microseconds": bench.seconds(lambda: [partial(1, 0) for _ in range(1000)]) * 1e3,
            "bytes": told - alone,
        },
    ]
    for workers in (10, 100, 1000):
        # What the last eight tasks of the tree return, each from half of the workers.
        ledgers = [partial(workers // 2, i * workers // 16).spent for i in range(8)]
        table.append(
            {
                "what": f"records of {workers} workers, merged by the driver",
                "microseconds": bench.seconds(lambda them=ledgers: reduce(added, them)) * 1e6,
                "bytes": len(pickle.dumps(ledgers)),
            }
        )
    return table


def partial(workers: int, first: int) -> Partial:
    """Sums with records of so many workers."""
    found = Partial([Sums(n=1)], {})
    for i in range(first, first + workers):
        found = found.by(f"tcp://10.0.{i // 256}.{i % 256}:40000", Spent(1, 10, 1, 1, 0.1, 0.1, 0.1))
    return found


@command
@click.option("--rows", default=1_000_000, show_default=True, help="Before --scale.")
def main(bench: Bench, rows: int) -> None:
    """Sweeps that the dashboard is told of, against sweeps of the same fit that it is not."""
    small, large = bench.store("rounded", 10_000), bench.store("rounded", bench.rows(rows))
    with cluster():
        descent(1).fit(small)  # the page is put there
        table = [
            compared(small, 600, "auto", "10,000, in memory"),
            compared(large, 200, "auto", f"{large.n_rows:,}, in memory"),
            compared(large, 100, 0, f"{large.n_rows:,}, streamed"),
        ]
    about = (
        "Sweeps of logistic gradients over 50 float32 features, two single-threaded workers; in every fit "
        f"the dashboard is told of {RUN} sweeps, and not of the next {RUN}. A thread tells, and spends "
        f"{monitor.SHARE:.0%} of its time on it: where sweeps are short, several go in one event. Records of "
        "who read and computed what come with the sums either way: the second table is what they cost."
    )
    bench.publish("monitoring", about, {"": table, "Records": records(bench)})
