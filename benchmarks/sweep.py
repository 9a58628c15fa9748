"""How close a sweep comes to the storage, and to the memory: ``python -m benchmarks sweep``.

One sweep of a logistic gradient over float32 rows, on two single-threaded workers and a warm page cache.
What is compared is measured in turn, in several rounds; seconds and ratios are medians over rounds:

* floor: two bare processes read the files of all chunks into one reused buffer each and ``blosc.decompress``
  them into one reused array, nothing else;
* dask: ``dask.array.from_zarr`` of the same store with a task per chunk that touches it, on the cluster;
* streamed: a fit with ``memory=0`` and ``GradientDescent(step=...)``, one pure gradient per sweep;
* resident: the same with ``memory="auto"``, the rows in the memory of the workers;
* kernel: two bare processes walk rows in their own memory with the same query, tile by tile;
* bandwidth: two bare processes read those rows once, by a dot product of each block with itself.

Faults are minor page faults of the workers in streamed sweeps, per block, once they have settled.
"""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import click
import dask.array as da
import numpy as np

import daskgd
from benchmarks.common import (
    PROCESSES,
    Bench,
    bare_read,
    bars,
    cluster,
    command,
    descent,
    processes,
    sweep_seconds,
    timed,
)
from daskgd._compat.blas import one_blas_thread
from daskgd.data.columns import Columns, ColumnSource, MemoryColumn
from daskgd.engines.walk import walk
from daskgd.losses import Logistic
from daskgd.models import Linear
from daskgd.penalties import L2
from daskgd.problems import Problem
from daskgd.queries import Ask, Gradient
from daskgd.rows.layout import Layout

HELD: dict[str, ColumnSource] = {}
"""Of this process: the rows that it keeps in memory."""


def hold(path: str, which: int, n: int) -> None:
    """Keep the `which`-th of n shares of the rows, whole blocks, in this process."""
    one_blas_thread().__enter__()
    whole = daskgd.open_dataset(path).source
    blocks, size = whole.layout.n_blocks, whole.layout.block_rows
    start, stop = (min(blocks * i // n * size, whole.layout.n_rows) for i in (which, which + 1))
    X = np.empty((stop - start, whole.columns.X.shape[1]), whole.columns.X.dtype)
    y = np.empty(stop - start, np.int8)
    for a in range(start, stop, size):
        rows = whole.read(a, min(a + size, stop))
        X[a - start : a - start + len(rows)], y[a - start : a - start + len(rows)] = rows.X, rows.y
    HELD["rows"] = ColumnSource(Layout(stop - start, size, 1), Columns(MemoryColumn(X), MemoryColumn(y)))


def kernel() -> None:
    """The gradient of the rows that are held."""
    source = HELD["rows"]
    model = Linear(source.columns.X.shape[1])
    problem = Problem(Logistic(), model, L2(1e-6), labels=np.array([0, 1]))
    ask = Ask(problem, Gradient(np.full(model.size, 0.01)))
    walk(source, [ask], 0, source.layout.n_blocks, {})


def read_once() -> float:
    """Every number of the rows that are held, used once."""
    source, total = HELD["rows"], 0.0
    for i in range(source.layout.n_blocks):
        x = source.columns.X.read(*source.layout.rows(i, i + 1)).ravel()
        total += float(x @ x)
    return total


def faults() -> int:
    """Minor page faults of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def faults_per_block(client: Any, dataset: Any, sweeps: int = 5) -> float:
    """In the workers, in a streamed fit; they have streamed before."""
    before = sum(client.run(faults).values())
    n = descent(sweeps).fit(dataset).n_sweeps_
    return (sum(client.run(faults).values()) - before) / (n * dataset.source.layout.n_blocks)


@command
@click.option("--rows", default=20_000_000, show_default=True, help="Before --scale.")
@click.option("--features", default=50, show_default=True)
def main(bench: Bench, rows: int, features: int) -> None:
    """A gradient sweep against the bare read of the same chunks, and against the same rows in memory."""
    dataset = bench.store("rounded", bench.rows(rows), features)
    path = str(dataset.path)
    with cluster() as client, processes() as each:
        bare = bare_read(each, dataset)
        chunk_rows = dataset.info()["chunk_rows"]
        X = da.from_zarr(Path(path, "X"), chunks=(chunk_rows, features))
        touched = X.map_blocks(lambda block: block[:1, :1], chunks=((1,) * X.numblocks[0], (1,)))
        stored = bench.rounds(
            floor=lambda: timed(bare),
            dask=lambda: timed(touched.compute),
            streamed=lambda: sweep_seconds(dataset),
        )
        per_block = faults_per_block(client, dataset)
        loaded = timed(descent(0, "auto").fit, dataset)
        each(hold, [(path, i, PROCESSES) for i in range(PROCESSES)])
        kept = bench.rounds(
            kernel=lambda: timed(each, kernel, [()] * PROCESSES),
            resident=lambda: sweep_seconds(dataset, 20, "auto"),
            bandwidth=lambda: timed(each, read_once, [()] * PROCESSES),
        )
    of = {"dask": "floor", "streamed": "floor", "resident": "kernel", "kernel": "bandwidth"}
    table = [
        {
            "what": name,
            "seconds": times.median(name),
            "GB/s decoded": dataset.n_rows * features * 4 / times.median(name) / 1e9,
            "share of": f"{times.share(name, of[name]):.0%} of the {of[name]}" if name in of else None,
            "faults per block": per_block if name == "streamed" else None,
        }
        for times in (stored, kept)
        for name in times
    ]
    about = (
        f"One sweep of a logistic gradient over {dataset.n_rows:,} x {features} float32, two "
        "single-threaded workers, warm page cache. *floor*: two bare processes only read and decompress the "
        "chunks. *kernel*: two bare processes ask the same of rows in their own memory. *bandwidth*: they "
        f'read those once. A fit of two sweeps with memory="auto", loading included, took {loaded:.2f} s.'
    )
    bench.publish("sweep", about, {"": table}, lambda axes: bars(axes, table, "what", "GB/s decoded"))
