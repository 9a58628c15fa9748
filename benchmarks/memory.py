"""Three promises about the memory of workers: ``python -m benchmarks memory``.

A whole fit of the default solver, on a fresh cluster for every line, of 20 GB of rows and of a tenth of them:

1. streamed (``memory=0``), the most memory of a worker grows by less than 10 % for ten times the data;
2. with ``memory="auto"`` it never passes the plan: a worker's share of the rows that ``plan`` says will stay,
   and what the choice of them leaves to the process beside (``engines.residency.reserve``: the interpreter,
   libraries, and blocks on their way); nor its limit;
3. 20 GB train in less than the 1 GB that two workers of 500 MB have, each counted at its most, and none is
   lost.

Memory is the high-water mark of the resident set of each worker process (VmHWM, which counts the interpreter
and all libraries). A worker that its nanny restarted is counted as lost.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Any

import click
from dask.utils import parse_bytes

import daskgd
from benchmarks.common import PROCESSES, Bench, bars, cluster, command

GROWTH = 0.1
"""Most that the memory of a worker may grow by for ten times the data."""


def peak_bytes() -> tuple[int, int]:
    """Of this process: its number, and the most memory it ever had resident."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return os.getpid(), int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return os.getpid(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure(dataset: Any, memory: Any, limit: str) -> dict[str, Any]:
    """A fit on a cluster of its own: what its workers had at most, and what the plan says of it."""
    # Not above: workers import this file for `peak_bytes`, and of daskgd no more than their tasks need.
    from daskgd.engines.cache_manager import reserve

    with cluster(memory_limit=limit) as client:
        est = daskgd.LogisticRegression(memory=memory)
        plan = est.plan(dataset)
        before = dict(client.run(peak_bytes).values())
        est.fit(dataset)
        after = dict(client.run(peak_bytes).values())
    kept, beside = plan.resident_bytes // PROCESSES, reserve(plan.block_bytes, threads=1)
    return {
        "case": f"memory={memory!r}, {dataset.n_rows:,} rows",
        "data, MB": round(dataset.nbytes / 1e6),
        "worker at start, MB": round(max(before.values()) / 1e6),
        "rows that stay, MB": round(kept / 1e6),
        "beside them, MB": round(beside / 1e6),
        "planned, MB": round((kept + beside) / 1e6),
        "worker at most, MB": round(max(after.values()) / 1e6),
        "both at most, MB": round(sum(after.values()) / 1e6),
        "limit, MB": round(plan.limit / 1e6),
        "workers lost": len(before.keys() - after.keys()),
        "outcome": est.outcome_,
        "sweeps": est.n_sweeps_,
        "seconds": float(est.history_[-1]["seconds"]),
    }


@command
@click.option("--limit", default="500 MB", show_default=True, help="Memory limit of a worker.")
@click.option("--size", default="20 GB", show_default=True, help="Of the data, before --scale.")
@click.option("--features", default=50, show_default=True)
def main(bench: Bench, limit: str, size: str, features: int) -> None:
    """Three promises about memory: flat when streamed, within the plan, 20 GB in 1 GB."""
    large = bench.rows(parse_bytes(size) / (4 * features))
    found: dict[Any, list[dict[str, Any]]] = {0: [], "auto": []}
    for rows in (large // 10, large):
        dataset = bench.store("rounded", rows, features)
        for memory, lines in found.items():
            lines.append(measure(dataset, memory, limit))
            click.echo("  ".join(f"{name}: {value}" for name, value in lines[-1].items()), err=True)

    small, big = (line["worker at most, MB"] for line in found[0])
    auto = max(found["auto"], key=lambda line: line["worker at most, MB"] / line["planned, MB"])
    most = max((lines[-1] for lines in found.values()), key=lambda line: line["both at most, MB"])
    room = PROCESSES * parse_bytes(limit) / 1e6
    lost = sum(line["workers lost"] for lines in found.values() for line in lines)
    ended = all(line["outcome"] == "converged" for lines in found.values() for line in lines)
    within = auto["worker at most, MB"] <= min(auto["planned, MB"], auto["limit, MB"])
    table = [
        promise(
            f"memory=0: a worker for {found[0][0]['data, MB']:,} and {found[0][1]['data, MB']:,} MB",
            f"{small} and {big} MB, {big / small - 1:+.1%}",
            f"less than {GROWTH:+.0%}",
            big < small * (1 + GROWTH),
        ),
        promise(
            f'memory="auto": a worker against its plan, {auto["data, MB"]:,} MB',
            f"{auto['worker at most, MB']} MB",
            f"{auto['planned, MB']} MB planned, limit {auto['limit, MB']} MB",
            within,
        ),
        promise(
            f"{most['data, MB']:,} MB on {PROCESSES} workers of {limit}",
            f"{most['both at most, MB']} MB, {lost} workers lost, {'all' if ended else 'not all'} converged",
            f"less than {room:,.0f} MB",
            most["both at most, MB"] < room and not lost and ended,
        ),
    ]
    about = f"Most resident memory of worker processes in fits of the default solver, limit {limit} each."
    lines = [*found[0], *found["auto"]]
    bench.publish(
        "memory", about, {"": table}, lambda axes: bars(axes, lines, "case", "worker at most, MB"), fits=lines
    )
    if not all(row["holds"] == "pass" for row in table):
        raise SystemExit(1)


def promise(what: str, measured: str, allowed: str, holds: bool) -> dict[str, str]:
    """A line of the table."""
    return {"promise": what, "measured": measured, "allowed": allowed, "holds": "pass" if holds else "FAIL"}
