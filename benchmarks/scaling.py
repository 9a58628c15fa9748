"""How sweeps speed up with workers: ``python -m benchmarks scaling``.

Streamed sweeps of a gradient over 1 and 2 single-threaded workers: strong scaling, the same rows; weak
scaling, rows in proportion to workers. The floor, as many bare processes that only read and decompress the
same chunks, says what the machine itself gives.
"""

from __future__ import annotations

from typing import Any

import click

from benchmarks.common import Bench, cluster, command, floor, sweep_seconds


@command
@click.option("--rows", default=10_000_000, show_default=True, help="For all workers, before --scale.")
@click.option("--workers", multiple=True, type=int, default=(1, 2), show_default=True)
def main(bench: Bench, rows: int, workers: tuple[int, ...]) -> None:
    """Strong and weak scaling of a sweep over workers, beside that of the bare read."""
    n, most = bench.rows(rows), max(workers)
    sizes = {"strong": dict.fromkeys(workers, n), "weak": {w: n * w // most for w in workers}}
    tables: dict[str, list[dict[str, Any]]] = {}
    for kind, rows_of in sizes.items():
        table = tables[kind] = []
        for w in workers:
            dataset = bench.store("rounded", rows_of[w])
            with cluster(w):
                seconds = bench.median(lambda dataset=dataset: sweep_seconds(dataset))
            bare = floor(bench, dataset, w)
            table.append({"workers": w, "rows": rows_of[w], "seconds": seconds, "floor, seconds": bare})
        for row in table:
            gain = row["rows"] / table[0]["rows"]
            row["speed-up"] = gain * table[0]["seconds"] / row["seconds"]
            row["speed-up of the floor"] = gain * table[0]["floor, seconds"] / row["floor, seconds"]

    def plot(axes: Any) -> None:
        for kind, table in tables.items():
            for column, style in (("speed-up", "o-"), ("speed-up of the floor", "x--")):
                axes.plot(workers, [row[column] for row in table], style, label=f"{kind}: {column}")
        axes.set(xlabel="workers", ylabel="rows per second, relative to the first", xticks=workers)
        axes.legend()

    about = "Streamed sweeps of a logistic gradient, 50 float32 features; rows per second against one worker."
    bench.publish("scaling", about, tables, plot)
