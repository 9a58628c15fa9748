"""How much memory a worker needs: ``python -m benchmarks memory``.

The high-water mark of the resident set of each worker process (VmHWM, which counts the interpreter and all
libraries), a fresh cluster for every line, a whole fit of the default solver. The larger dataset is `times`
as large as the limits of all workers together, the smaller a tenth of it. Streamed, memory must not grow with
the rows; with ``memory="auto"`` it must stay within the limit. A worker that its nanny restarted is counted
as lost.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import click
from dask.utils import parse_bytes

import daskgd
from benchmarks.common import PROCESSES, Bench, bars, cluster, command


def peak_bytes() -> tuple[int, int]:
    """Of this process: its number, and the most memory it ever had resident."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return os.getpid(), int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return os.getpid(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@command
@click.option("--limit", default="400 MB", show_default=True, help="Memory limit of a worker.")
@click.option("--times", default=20.0, show_default=True, help="Data in units of all limits together.")
@click.option("--features", default=50, show_default=True)
def main(bench: Bench, limit: str, times: float, features: int) -> None:
    """Peak memory of a worker for n and 10 n rows, streamed and resident, against its limit."""
    most = parse_bytes(limit)
    large = bench.rows(times * PROCESSES * most / (4 * features))
    table = []
    for rows in (large // 10, large):
        dataset = bench.store("rounded", rows, features)
        for memory in (0, "auto"):
            with cluster(memory_limit=limit) as client:
                before = dict(client.run(peak_bytes).values())
                model = daskgd.LogisticRegression(memory=memory).fit(dataset)
                after = dict(client.run(peak_bytes).values())
            peak = max(after.values())
            table.append(
                {
                    "case": f"memory={memory!r}, {rows:,} rows",
                    "data, MB": round(dataset.nbytes / 1e6),
                    "all limits, MB": round(PROCESSES * most / 1e6),
                    "worker at start, MB": round(max(before.values()) / 1e6),
                    "worker at most, MB": round(peak / 1e6),
                    "of its limit": f"{peak / most:.0%}",
                    "workers lost": len(before.keys() - after.keys()),
                    "sweeps": model.n_sweeps_,
                    "seconds": float(model.history_[-1]["seconds"]),
                }
            )
    about = f"Most resident memory of a worker process in a fit of the default solver, limit {limit} each."
    bench.publish("memory", about, {"": table}, lambda axes: bars(axes, table, "case", "worker at most, MB"))
