"""How close a sweep comes to the storage: ``python -m benchmarks.sweep [--rows N] [--features P]``.

Writes float32 rows to a scratch dataset, then measures in one run, on two single-threaded worker processes
and a warm page cache, as medians over repeats:

* floor: two bare processes read the files of all chunks into one reused buffer each and ``blosc.decompress``
  them into one reused array, nothing else;
* dask: ``dask.array.from_zarr`` of the same store with a task per chunk that touches it, on the cluster;
* gradient: a fit with ``GradientDescent(step=...)``, one pure gradient of logistic loss per sweep.

Machines are noisy: the ratios to the floor of the same run are the figures, GB/s (decoded) their context.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from numcodecs import blosc
from rich.console import Console
from rich.table import Table

import daskgd

PROCESSES = 2


def rows_of(n_rows: int, n_features: int, block: int = 40_000) -> Iterator[tuple[Any, Any]]:
    """Blocks of normal features rounded to two decimals, as measured data often is, and noisy labels."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal(n_features, dtype=np.float32)
    for start in range(0, n_rows, block):
        X = np.round(rng.standard_normal((min(block, n_rows - start), n_features), dtype=np.float32), 2)
        yield X, (X @ w + 3 * rng.standard_normal(len(X)) > 0).astype(np.int8)


def decode_all(files: list[str], chunk_bytes: int) -> None:
    """Read and decompress chunk files into two reused buffers: the floor."""
    stored, decoded = bytearray(2 * chunk_bytes), bytearray(chunk_bytes)
    for name in files:
        with open(name, "rb") as file:
            size = file.readinto(stored)
        blosc.decompress(memoryview(stored)[: size - 4], decoded)  # the last four bytes are the checksum


def seconds_of(work: Callable[[], Any], repeats: int) -> float:
    """Median seconds, after one run to warm up."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


@click.command()
@click.option("--rows", type=click.IntRange(min=10_000), default=10_000_000, show_default=True)
@click.option("--features", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
def main(rows: int, features: int, repeats: int) -> None:
    """Measure a sweep against the bare read of the same chunks."""
    with tempfile.TemporaryDirectory(prefix="daskgd-benchmark-") as folder:
        path = Path(folder) / "rows.zarr"
        daskgd.write_dataset(path, rows_of(rows, features))
        dataset = daskgd.open_dataset(path)
        chunk_bytes = int(dataset.info()["chunk_rows"]) * features * 4
        files = [str(file) for file in sorted((path / "X" / "c").rglob("*")) if file.is_file()]
        X_bytes = rows * features * 4

        with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:

            def floor() -> None:
                shares = [files[i::PROCESSES] for i in range(PROCESSES)]
                list(pool.map(decode_all, shares, [chunk_bytes] * PROCESSES))

            found = {"floor": seconds_of(floor, repeats)}

        with (
            LocalCluster(n_workers=PROCESSES, threads_per_worker=1, dashboard_address=":0") as cluster,
            Client(cluster),
        ):
            X = da.from_zarr(path / "X", chunks=(dataset.info()["chunk_rows"], features))
            touched = X.map_blocks(lambda block: block[:1, :1], chunks=((1,) * X.numblocks[0], (1,)))
            found["dask"] = seconds_of(touched.compute, repeats)
            sweeps = 5
            solver = daskgd.GradientDescent(step=0.1)
            est = daskgd.LogisticRegression(solver=solver, max_iter=sweeps + 1, tol=0)

            def sweep() -> float:
                at = est.fit(dataset).history_.column("seconds")
                return (at[-1] - at[0]) / sweeps

            found["gradient"] = statistics.median(sweep() for _ in range(repeats))

        table = Table("", "seconds", "GB/s decoded", "of the floor", title=repr(dataset))
        for name, seconds in found.items():
            rate = f"{X_bytes / seconds / 1e9:.2f}"
            table.add_row(name, f"{seconds:.3f}", rate, f"{found['floor'] / seconds:.0%}")
        Console().print(table)


if __name__ == "__main__":
    main()
