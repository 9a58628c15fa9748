"""How the size of chunks matters: ``python -m benchmarks chunks``.

* A streamed sweep over the same rows in chunks of 64 KB to 64 MB, against the floor of each store, and the
  tasks that a sweep takes.
* 100,000 tiny chunks: a streamed sweep against one read of the whole, in two bare processes, by
  ``zarr.Array[a:b]`` with zarr's own pipeline and by the reader that daskgd has for what it wrote; and
  against a sweep over the same rows in chunks of the default size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import zarr

import daskgd
from benchmarks.common import (
    PROCESSES,
    Bench,
    cluster,
    command,
    floor,
    processes,
    sweep_seconds,
    tasks_per_sweep,
)

TINY_ROWS = 64


def by_zarr(path: str, which: int, n: int) -> None:
    """One share of the rows in one call."""
    X = zarr.open_array(path + "/X", mode="r")
    rows = X.shape[0]
    X[rows * which // n : rows * (which + 1) // n]


def by_daskgd(path: str, which: int, n: int) -> None:
    """One share of the rows, block by block."""
    source = daskgd.open_dataset(path).source
    blocks = source.layout.n_blocks
    for i in range(blocks * which // n, blocks * (which + 1) // n):
        source.columns.X.read(*source.layout.rows(i, i + 1))


@command
@click.option("--rows", default=10_000_000, show_default=True, help="Before --scale.")
@click.option("--tiny", default=100_000, show_default=True, help="Tiny chunks, before --scale.")
def main(bench: Bench, rows: int, tiny: int) -> None:
    """Sweeps over chunks from 64 KB to 64 MB, and over 100,000 tiny ones."""
    sizes = []
    for chunk_bytes in (64_000 * 4**i for i in range(6)):
        dataset = bench.store("rounded", bench.rows(rows), chunk_bytes=chunk_bytes)
        bare = floor(bench, dataset)
        with cluster() as client:
            seconds = bench.median(lambda dataset=dataset: sweep_seconds(dataset))
            tasks = tasks_per_sweep(client, dataset)
        sizes.append(
            {
                "chunk, KB": chunk_bytes // 1000,
                "chunks": -(-dataset.n_rows // int(dataset.info()["chunk_rows"])),
                "sweep, seconds": seconds,
                "GB/s decoded": dataset.n_rows * 200 / seconds / 1e9,
                "floor, seconds": bare,
                "of the floor": f"{bare / seconds:.0%}",
                "tasks per sweep": tasks,
            }
        )

    n = TINY_ROWS * max(int(tiny * bench.scale), 100)
    small = bench.store("rounded", n, chunk_bytes=TINY_ROWS * 200)
    usual = bench.store("rounded", n)
    table: list[dict[str, Any]] = []
    with cluster() as client:
        for name, dataset in (("sweep, tiny chunks", small), ("sweep, default chunks", usual)):
            seconds = bench.median(lambda dataset=dataset: sweep_seconds(dataset, 2))
            table.append(
                {"what": name, "seconds": seconds, "tasks per sweep": tasks_per_sweep(client, dataset, 2)}
            )
    with processes() as each:
        shares = [(str(Path(small.path)), i, PROCESSES) for i in range(PROCESSES)]
        for name, read in (
            ("bare read by zarr, tiny chunks", by_zarr),
            ("bare read by daskgd, tiny chunks", by_daskgd),
        ):
            seconds = bench.seconds(lambda read=read: each(read, shares))
            table.append({"what": name, "seconds": seconds})
    for row in table:
        row["times the sweep of tiny chunks"] = row["seconds"] / table[0]["seconds"]

    def plot(axes: Any) -> None:
        x = [row["chunk, KB"] for row in sizes]
        axes.loglog(x, [row["sweep, seconds"] for row in sizes], "o-", label="sweep")
        axes.loglog(x, [row["floor, seconds"] for row in sizes], "x--", label="floor")
        axes.set(xlabel="chunk, KB decoded", ylabel="seconds")
        axes.legend()

    about = (
        f"Streamed sweeps of a logistic gradient over {bench.rows(rows):,} x 50 float32, and over "
        f"{n // TINY_ROWS:,} chunks of {TINY_ROWS} rows."
    )
    tables = {"Size of chunks": sizes, f"{n // TINY_ROWS:,} tiny chunks": table}
    bench.publish("chunks", about, tables, plot)
