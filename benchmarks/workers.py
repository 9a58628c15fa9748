"""What a sweep costs on 10, 100 and 1,000 workers: ``python -m benchmarks workers``.

A simulation on one machine. The scheduler has a process of its own, the driver is this process, and the
workers, single-threaded and real but for their nannies, dashboards and profilers, share a few processes.
Blocks are tiny, so that next to nothing is read. All share the processors of the machine, so the seconds of a
sweep are those of a machine that plays a whole cluster. What carries over is the processor time of the driver
and of the scheduler, of which a cluster has one each, whatever its size; that of the workers it divides by
their number.

* cost: sweeps of a logistic gradient, streamed and resident, beside the serial engine;
* saturation: how many tasks a second one scheduler manages, and what a sweep must read to be worth it;
* tree: tasks, depth and bytes, of the graphs that the engine sends, run here one task after the other;
* reading: streamed sweeps where every block takes a while, asleep, so that all workers read at once.

Results are explained in docs/scaling.md.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import pickle
import resource
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import dask
import numpy as np
import psutil
from dask._task_spec import Task
from distributed import Client, Scheduler, Worker

import daskgd
from benchmarks.common import Bench, command, descent
from daskgd.data.columns import ColumnSource

Clocks = Any

CROWD = 250
"""Most workers in one process."""

MODES = ("streamed", "streamed, saturation inf", "resident")

BACKGROUND = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1 h",
    "distributed.admin.system-monitor.interval": "1 h",
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
}
"""What a worker does all the time, and a crowd of them in one process must not."""


# -- a cluster ----------------------------------------------------------------------------------


def schedule(pipe: Connection) -> None:
    """A scheduler with its usual settings, but for the dashboard, until the pipe closes."""

    async def run() -> None:
        async with Scheduler(host="127.0.0.1", port=0, dashboard=False, dashboard_address=":0") as made:
            pipe.send(made.address)
            await until_closed(pipe)

    alone()
    asyncio.run(run())


def crowd(pipe: Connection, address: str, n: int, folder: str) -> None:
    """n single-threaded workers, until the pipe closes."""

    async def run() -> None:
        made = [
            Worker(
                address,
                nthreads=1,
                memory_limit="1 GB",
                local_directory=folder,
                dashboard=False,
                dashboard_address=None,
                connection_limit=16,
            )
            for _ in range(n)
        ]
        for first in range(0, n, 25):
            await asyncio.gather(*made[first : first + 25])
        pipe.send(n)
        await until_closed(pipe)
        os._exit(0)  # closing each of them in turn takes minutes

    alone()
    gc.disable()
    with dask.config.set(BACKGROUND):
        asyncio.run(run())


def alone() -> None:
    """In a process of a scheduler or of workers: few words, and as many open files as the system allows."""
    logging.disable(logging.ERROR)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def until_closed(pipe: Connection) -> None:
    """Return once the other end has gone."""
    while not pipe.poll():
        await asyncio.sleep(0.2)


class Recorder(Client):
    """A client that notes when each graph of gradients was sent, or runs graphs here to measure them.

    Attributes
    ----------
    sent : clocks at which graphs of gradients were sent, see :meth:`now`.
    here : whether graphs are run in this process instead, and what they carry kept in `carried`.
    """

    def __init__(self, address: str) -> None:
        self.sent: list[Clocks] = []
        self.n_tasks = 0
        self.n_workers = 0
        self.here = False
        self.carried: dict[str, Any] = {}
        self.scheduler_process = psutil.Process()
        self.crowds: list[psutil.Process] = []
        super().__init__(address)  # type: ignore[no-untyped-call]

    def get(self, dsk: Any, keys: Any, **options: Any) -> Any:  # type: ignore[override]
        if any(kind(key) == "span" for key in dsk):
            self.sent.append(self.now())
            self.n_tasks = sum(map(is_task, dsk.values()))
        if self.here:
            results, self.carried = run_here(dict(dsk), keys, self.n_workers)
            return results
        return super().get(dsk, keys, **options)  # type: ignore[no-untyped-call]

    def now(self) -> Clocks:
        """Seconds: of the clock; of processor time of the driver, of the scheduler, of all workers."""
        spent = (used(self.scheduler_process), sum(map(used, self.crowds)))
        return np.array([time.perf_counter(), time.process_time(), *spent])


def used(process: psutil.Process) -> float:
    """Seconds of processor time of a process so far."""
    times = process.cpu_times()
    return times.user + times.system


@contextmanager
def simulated(n: int, folder: Path) -> Iterator[Recorder]:
    """n workers, and a client that is the current one."""
    spawn = get_context("spawn")
    with ExitStack() as stack:

        def start(function: Any, *arguments: Any) -> tuple[Connection, psutil.Process]:
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=function, args=(theirs, *arguments), daemon=True)
            process.start()
            stack.callback(process.join, 10)
            stack.callback(ours.close)
            theirs.close()
            return ours, psutil.Process(process.pid)

        pipe, scheduler = start(schedule)
        address = pipe.recv()
        shares = [len(part) for part in np.array_split(range(n), -(-n // CROWD))]
        crowds = [start(crowd, address, share, str(folder)) for share in shares]
        for ready, _ in crowds:
            ready.recv()
        with Recorder(address) as client:
            client.wait_for_workers(n, timeout=300)
            client.n_workers = n
            client.scheduler_process, client.crowds = scheduler, [process for _, process in crowds]
            yield client


def saturate(client: Recorder, limit: float) -> None:
    """Set ``distributed.scheduler.worker-saturation`` in the scheduler."""

    def set_it(dask_scheduler: Any = None) -> None:
        dask_scheduler.WORKER_SATURATION = limit

    client.run_on_scheduler(set_it)  # type: ignore[no-untyped-call]


def take_a_while(seconds: float) -> None:
    """Let every read of a block in this process take so many seconds more."""
    read = getattr(ColumnSource, "bare_read", ColumnSource.read)

    def slow(self: ColumnSource, start: int, stop: int) -> Any:
        time.sleep(seconds)
        return read(self, start, stop)

    setattr(ColumnSource, "bare_read", read)  # noqa: B010
    setattr(ColumnSource, "read", slow if seconds else read)  # noqa: B010


# -- measuring ----------------------------------------------------------------------------------


def dataset_of(bench: Bench, blocks: int, features: int) -> Any:
    """So many blocks of few rows."""
    rows = max(400 // features, 1)
    made = bench.store("rounded", rows * blocks, features, chunk_bytes=rows * features * 4)
    return daskgd.open_dataset(str(made.path), block_bytes=1)


def clocks_of_sweep(client: Recorder, dataset: Any, sweeps: int, memory: Any = 0) -> Clocks:
    """The mean over sweeps of a gradient, the first left out."""
    client.sent.clear()
    descent(sweeps, memory).fit(dataset)
    mean: Clocks = (client.sent[-1] - client.sent[1]) / (len(client.sent) - 2)
    return mean


def serial_seconds(dataset: Any, sweeps: int) -> float:
    """Of a sweep by the serial engine, in one thread."""
    at = descent(sweeps).set_params(engine="serial").fit(dataset).history_.column("seconds")
    return float(at[-1] - at[0]) / sweeps


def idle(client: Recorder, seconds: float = 5.0) -> float:
    """Share of a processor that the scheduler takes while nothing is asked of it."""
    before = client.now()
    time.sleep(seconds)
    clock, _, scheduler, _ = client.now() - before
    return float(scheduler / clock)


def is_task(node: Any) -> bool:
    """Whether a node of a graph runs something: futures and aliases do not."""
    return isinstance(node, Task)


def kind(key: Any) -> str:
    """Of a task of a gradient sweep, by its key."""
    names = {"daskgd-gradient": "span", "daskgd-merge": "merge", "daskgd-ask": "ask"}
    name = str(key[0]) if isinstance(key, tuple) else ""
    return next((value for start, value in names.items() if name.startswith(start)), "other")


def weight(value: Any) -> int:
    """Bytes of a value on its way."""
    return len(pickle.dumps(value, protocol=5))


def run_here(graph: dict[Any, Any], wanted: list[Any], n_workers: int) -> tuple[list[Any], dict[str, Any]]:
    """Results, and the tasks, depth and bytes of a sweep; each task is run here, what it needs first."""
    tasks = {key: node for key, node in graph.items() if is_task(node)}
    uses = Counter(key for task in tasks.values() for key in task.dependencies)
    kinds = Counter(map(kind, tasks))
    depth, results = dict.fromkeys(tasks, 0), dict[Any, Any]()
    between = nodes = 0
    left = set(tasks)
    while left:
        for key in [key for key in left if not left & tasks[key].dependencies]:
            needs = tasks[key].dependencies
            results[key] = tasks[key]({need: results[need] for need in needs})
            depth[key] = max((depth[need] for need in needs), default=0) + (kind(key) == "merge")
            nodes += len(results[key]) if kind(key) == "span" else 0
            between += weight(results[key]) * min(uses[key], n_workers)
            left.discard(key)
    carried = {
        "span tasks": kinds["span"],
        "merge tasks": kinds["merge"],
        "ask tasks": kinds["ask"],
        "merge levels": max(depth.values()),
        "parts to driver": len(wanted),
        "nodes per span task": nodes / max(kinds["span"], 1),
        "MB driver to scheduler": weight(list(tasks.values())) / 1e6,
        "MB scheduler to workers": sum(map(weight, tasks.values())) / 1e6,
        "MB between workers": between / 1e6,
        "MB to driver": sum(weight(results[key]) for key in wanted) / 1e6,
    }
    return [results[key] for key in wanted], carried


# -- the command --------------------------------------------------------------------------------

Table = list[dict[str, Any]]


def costs(bench: Bench, client: Recorder, n: int) -> Iterator[dict[str, Any]]:
    """Rows of the table of costs, for n workers."""
    sweeps = max(bench.repeats, 200 // n)
    resting = idle(client)
    cases: list[tuple[str, int, int, Any, float]] = [
        ("streamed", 4, 50, 0, 1.1),
        ("streamed", 16, 50, 0, 1.1),
        ("streamed, saturation inf", 4, 50, 0, math.inf),
        ("resident", 4, 50, "auto", 1.1),
    ]
    if n <= 100:
        cases += [("streamed", 4, 4_000, 0, 1.1), ("streamed", 4, 10_000, 0, 1.1)]
    for mode, blocks, features, memory, limit in cases:
        dataset = dataset_of(bench, n * blocks, features)
        saturate(client, limit)
        seconds, driver, scheduler, workers = clocks_of_sweep(client, dataset, sweeps, memory)
        busy = max(scheduler - resting * seconds, 0.0)
        yield {
            "workers": n,
            "rows are": mode,
            "blocks per worker": blocks,
            "features": features,
            "tasks": client.n_tasks,
            "seconds, simulated": seconds,
            "seconds, serial engine": serial_seconds(dataset, 3),
            "driver, s": driver,
            "scheduler, s": busy,
            "workers, s": workers,
            "scheduler, ms per task": 1e3 * busy / client.n_tasks,
            "driver, ms per task": 1e3 * driver / client.n_tasks,
            "scheduler at rest": f"{resting:.1%}",
        }
    saturate(client, 1.1)


def trees(bench: Bench, client: Recorder, n: int) -> Iterator[dict[str, Any]]:
    """Rows of the table of merge trees, for n workers."""
    client.here = True
    for features, blocks in ((50, 4), (50, 23), (4_000, 4), (10_000, 4)):
        descent(0).fit(dataset_of(bench, n * blocks, features))
        yield {"workers": n, "features": features, "blocks per worker": blocks, **client.carried}
    client.here = False


def readings(bench: Bench, client: Recorder, n: int, blocks: int = 4) -> Iterator[dict[str, Any]]:
    """Rows of the table of sweeps that read for a while, for n workers."""
    dataset = dataset_of(bench, n * blocks, 50)
    for reading in (0.03 * n, 0.1 * n):
        client.run(take_a_while, reading / blocks)
        for mode, limit in zip(MODES, (1.1, math.inf), strict=False):
            saturate(client, limit)
            seconds = float(clocks_of_sweep(client, dataset, bench.repeats)[0])
            yield {
                "workers": n,
                "rows are": mode,
                "reading alone, s": reading,
                "sweep, s": seconds,
                "share of reading": f"{reading / seconds:.0%}",
            }
    saturate(client, 1.1)
    client.run(take_a_while, 0.0)


@command
@click.option("--workers", multiple=True, type=int, default=(10, 100, 1000), help="Before --scale.")
@click.option("--reading", default=100, show_default=True, help="Most workers for which reads take a while.")
def main(bench: Bench, workers: tuple[int, ...], reading: int) -> None:
    """What a sweep costs on many workers, simulated: tasks, bytes, and where the scheduler saturates."""
    cost: Table = []
    tree: Table = []
    slow: Table = []
    for n in sorted({max(round(n * bench.scale), 2) for n in workers}):
        with simulated(n, bench.scratch / "workers") as client:
            cost += costs(bench, client, n)
            tree += trees(bench, client, n)
            if n <= reading:
                slow += readings(bench, client, n)
        print(f"{n} workers: done", flush=True)
    plain = [row for row in cost if row["blocks per worker"] == 4 and row["features"] == 50]
    saturated: Table = [
        {
            "workers": row["workers"],
            "rows are": row["rows are"],
            "tasks": row["tasks"],
            "tasks a second": row["tasks"] / row["scheduler, s"],
            "shortest sweep, s": row["driver, s"] + row["scheduler, s"],
            "reading for 90 %, s": 9 * (row["driver, s"] + row["scheduler, s"]),
        }
        for row in plain
        if row["scheduler, s"]
    ]

    def plot(axes: Any) -> None:
        of = {
            mode: [row for row in cost if (row["rows are"], row["features"]) == (mode, 50)] for mode in MODES
        }
        for mode, rows in of.items():
            rows = [row for row in rows if row["blocks per worker"] == 4]
            for part, style in (("scheduler, s", "o-"), ("driver, s", "x--")):
                label = f"{part.removesuffix(', s')}, {mode}"
                axes.plot([r["workers"] for r in rows], [r[part] for r in rows], style, label=label)
        axes.set(xscale="log", yscale="log", xlabel="single-threaded workers")
        axes.set_ylabel("seconds of processor time per sweep")
        axes.legend()

    about = (
        "Sweeps of a logistic gradient over tiny blocks, on real single-threaded workers that share this "
        "machine, over TCP. *driver*, *scheduler*, *workers*: processor seconds of a sweep, those of the "
        "scheduler less what it takes at rest; *saturation inf*: with `distributed.scheduler."
        "worker-saturation: inf`. *shortest sweep*: driver and scheduler one after the other, which no "
        "number of workers shortens; *reading for 90 %*: seconds that a sweep must read "
        "for the rest to be a tenth."
    )
    tables = {"cost": cost, "saturation": saturated, "tree": tree, "reading": slow}
    bench.publish("workers", about, tables, plot)
