"""What each codec costs: ``python -m benchmarks codecs``.

A streamed sweep of a gradient over the same rows (rounded to two decimals) stored with every codec of
``write_dataset``, against the floor of the same store: two bare processes that read, and decompress if
there is anything to, from a warm page cache. On slow storage fewer bytes win.
"""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.common import Bench, bars, cluster, command, floor, sweep_seconds


@command
@click.option("--rows", default=10_000_000, show_default=True, help="Before --scale.")
def main(bench: Bench, rows: int) -> None:
    """A streamed sweep with lz4, zstd and no compression, against the bare read."""
    table = []
    for codec in ("lz4", "zstd", "none"):
        dataset = bench.store("rounded", bench.rows(rows), codec=codec)
        stored = sum(f.stat().st_size for f in Path(dataset.path, "X").rglob("*") if f.is_file())
        decoded = dataset.n_rows * dataset.n_features * 4
        bare = floor(bench, dataset)
        with cluster():
            seconds = bench.median(lambda dataset=dataset: sweep_seconds(dataset))
        table.append(
            {
                "codec": codec,
                "stored, MB": round(stored / 1e6),
                "ratio": decoded / stored,
                "sweep, seconds": seconds,
                "GB/s decoded": decoded / seconds / 1e9,
                "floor, seconds": bare,
                "of the floor": f"{bare / seconds:.0%}",
            }
        )
    about = f"A streamed sweep over {dataset.n_rows:,} x 50 float32, rounded to two decimals."
    bench.publish("codecs", about, {"": table}, lambda axes: bars(axes, table, "codec", "GB/s decoded"))
