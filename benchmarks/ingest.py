"""Files become a dataset: ``python -m benchmarks ingest``.

A table of 20 numeric columns, half of them integers, as CSV and as Parquet. The floor is two bare processes
that each parse one half of it with pyarrow, lay it in rows, and compress chunks of 8 MB by the codec of the
dataset; nothing is written. Ingested on two threads of this process, and by a cluster of two workers.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click
import dask
import numpy as np

import daskgd
from benchmarks.common import PROCESSES, Bench, bars, cluster, command, processes, timed

COLUMNS, CHUNK_ROWS, GROUP_ROWS = 20, 50_000, 100_000


@command
@click.option("--rows", default=3_000_000, show_default=True, help="Before --scale.")
def main(bench: Bench, rows: int) -> None:
    """CSV and Parquet to a dataset, against bare parsing and compression."""
    table = []
    n = bench.rows(rows)
    files = {kind: make(bench.scratch / f"table-{n}.{kind}", n) for kind in ("csv", "parquet")}
    for kind, path in files.items():
        with processes() as each, cluster() as client:
            bare = partial(each, FLOORS[kind], [(str(path), part) for part in range(PROCESSES)])
            rounds = bench.rounds(
                floor=partial(timed, bare),
                threads=partial(timed, ingest, path, bench.scratch, "threads"),
                cluster=partial(timed, ingest, path, bench.scratch, client),
            )
        size = path.stat().st_size
        table += [
            {
                "files": kind,
                "by": name,
                "MB": round(size / 1e6),
                "seconds": rounds.median(name),
                "MB/s": size / rounds.median(name) / 1e6,
                "of the floor": f"{rounds.share(name, 'floor'):.0%}",
            }
            for name in rounds
        ]
    about = f"{n:,} rows of {COLUMNS} numeric columns and a target become a dataset."
    shown = [{**row, "name": f"{row['files']}, {row['by']}"} for row in table]
    bench.publish("ingest", about, {"": table}, lambda axes: bars(axes, shown, "name", "MB/s"))


def ingest(path: Path, scratch: Path, scheduler: Any) -> None:
    """Make a dataset of a file, in place of the one before."""
    with dask.config.set(scheduler=scheduler, num_workers=PROCESSES):
        daskgd.ingest(path, scratch / "ingested.zarr", target="y", overwrite=True)


def make(path: Path, n: int) -> Path:
    """Write a table, block by block, unless it is there."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    if path.exists():
        return path
    rng = np.random.default_rng(0)
    names = [*(f"c{i}" for i in range(COLUMNS)), "y"]
    kinds = [*(pa.float64() if i % 2 else pa.int64() for i in range(COLUMNS)), pa.int64()]
    schema = pa.schema(list(zip(names, kinds, strict=True)))
    unfinished = path.with_suffix(".partial")
    writers = {".csv": pa.csv.CSVWriter, ".parquet": pa.parquet.ParquetWriter}
    with writers[path.suffix](unfinished, schema) as writer:
        for start in range(0, n, GROUP_ROWS):
            m = min(GROUP_ROWS, n - start)
            columns = [
                np.round(rng.normal(size=m), 4) if i % 2 else rng.integers(0, 1000, m) for i in range(COLUMNS)
            ]
            writer.write_table(pa.table([*columns, rng.integers(0, 2, m)], schema=schema))
    unfinished.rename(path)
    return path


def compress(columns: list[Any]) -> None:
    """Lay columns in rows, and compress these chunk by chunk."""
    from numcodecs import blosc

    blosc.set_nthreads(1)
    rows = np.column_stack(columns)
    for start in range(0, len(rows), CHUNK_ROWS):
        blosc.compress(np.ascontiguousarray(rows[start : start + CHUNK_ROWS]), b"lz4", 5, blosc.BITSHUFFLE, 0)


def parse_csv(path: str, part: int) -> None:
    """Parse and compress one part of a CSV file, 32 MB at a time."""
    import pyarrow as pa
    import pyarrow.csv

    size = Path(path).stat().st_size
    with open(path, "rb") as file:
        file.seek(size * part // PROCESSES)
        file.readline()
        stop = size * (part + 1) // PROCESSES
        while (at := file.tell()) < stop:
            text = file.read(min(32 << 20, stop - at)) + file.readline()
            table = pa.csv.read_csv(
                pa.BufferReader(text),
                pa.csv.ReadOptions(
                    use_threads=False,
                    autogenerate_column_names=True,
                    block_size=len(text) + 1,
                ),
            )
            compress([table.column(i).to_numpy() for i in range(COLUMNS)])


def parse_parquet(path: str, part: int) -> None:
    """Read and compress one part of the row groups of a Parquet file."""
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(path)
    for group in range(part, file.num_row_groups, PROCESSES):
        table = file.read_row_group(group, use_threads=False)
        compress([table.column(i).to_numpy() for i in range(COLUMNS)])


FLOORS = {"csv": parse_csv, "parquet": parse_parquet}
