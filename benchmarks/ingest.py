"""Files become a dataset: ``python -m benchmarks ingest``.

A table of 20 numeric columns, half of them integers, as CSV and as Parquet; and one of 10 such columns and 10
of text, of 20 to 20,000 categories. The floor is two bare processes that each parse one half of it with
pyarrow, lay it in rows, text as codes of its dictionary, and compress chunks of 8 MB by the codec of the
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
    files = {
        kind + ", categories" * typed: make(bench.scratch / f"table-{n}{'-typed' * typed}.{kind}", n, typed)
        for typed in (False, True)
        for kind in ("csv", "parquet")
    }
    for kind, path in files.items():
        floor = FLOORS[path.suffix]
        with processes() as each, cluster() as client:
            bare = partial(each, floor, [(str(path), part) for part in range(PROCESSES)])
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
    about = (
        f"{n:,} rows of {COLUMNS} numeric columns and a target become a dataset; with categories half of the "
        "columns are text."
    )
    shown = [{**row, "name": f"{row['files']}, {row['by']}"} for row in table]
    bench.publish("ingest", about, {"": table}, lambda axes: bars(axes, shown, "name", "MB/s"))


def ingest(path: Path, scratch: Path, scheduler: Any) -> None:
    """Make a dataset of a file, in place of the one before."""
    with dask.config.set(scheduler=scheduler, num_workers=PROCESSES):
        daskgd.ingest(path, scratch / "ingested.zarr", target="y", overwrite=True)


def make(path: Path, n: int, typed: bool) -> Path:
    """Write a table, block by block, unless it is there; `typed` makes half of its columns text."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    if path.exists():
        return path
    rng = np.random.default_rng(0)
    names = [*(f"c{i}" for i in range(COLUMNS)), "y"]
    numbers = COLUMNS // 2 if typed else COLUMNS
    kinds = [*(pa.float64() if i % 2 else pa.int64() for i in range(numbers))]
    kinds += [pa.string()] * (COLUMNS - numbers) + [pa.int64()]
    sizes = [20 * 1000 ** (i / max(COLUMNS - numbers - 1, 1)) for i in range(COLUMNS - numbers)]
    words = [np.array([f"category {j}" for j in range(round(size))], object) for size in sizes]
    schema = pa.schema(list(zip(names, kinds, strict=True)))
    unfinished = path.with_suffix(".partial")
    writers = {".csv": pa.csv.CSVWriter, ".parquet": pa.parquet.ParquetWriter}
    with writers[path.suffix](unfinished, schema) as writer:
        for start in range(0, n, GROUP_ROWS):
            m = min(GROUP_ROWS, n - start)
            columns: list[Any] = [
                np.round(rng.normal(size=m), 4) if i % 2 else rng.integers(0, 1000, m) for i in range(numbers)
            ]
            columns += [known[(len(known) * rng.random(m) ** 3).astype(int)] for known in words]
            writer.write_table(pa.table([*columns, rng.integers(0, 2, m)], schema=schema))
    unfinished.rename(path)
    return path


def compress(table: Any) -> None:
    """Lay columns in rows, text as codes, and compress these chunk by chunk."""
    import pyarrow as pa
    from numcodecs import blosc

    blosc.set_nthreads(1)
    columns: dict[bool, list[Any]] = {False: [], True: []}
    for i in range(COLUMNS):
        column = table.column(i)
        is_text = pa.types.is_string(column.type)
        codes = column.combine_chunks().dictionary_encode().indices if is_text else column
        columns[is_text].append(codes.to_numpy())
    for found in filter(None, columns.values()):
        rows = np.column_stack(found)
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = np.ascontiguousarray(rows[start : start + CHUNK_ROWS])
            blosc.compress(chunk, b"lz4", 5, blosc.BITSHUFFLE, 0)


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
            compress(table)


def parse_parquet(path: str, part: int) -> None:
    """Read and compress one part of the row groups of a Parquet file."""
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(path)
    for group in range(part, file.num_row_groups, PROCESSES):
        table = file.read_row_group(group, use_threads=False)
        compress(table)


FLOORS = {".csv": parse_csv, ".parquet": parse_parquet}
