"""What an object store far away costs: ``python -m benchmarks objects``.

One sweep over float32 rows by the threads of one process, from local disk and from a server of S3 on this
machine (`s3_server`), which answers at once, or after 50 ms. All are measured in turn, in several rounds;
ratios are medians over rounds. Two kinds of sweep:

* gradient: a logistic gradient. It and the server share the processors of this machine, and what s3fs or
  obstore take to receive bytes comes on top of what a sweep from disk takes: the ratio to local says what
  that is, the ratio of the store far away to the one nearby says whether its latency is hidden.
* waiting: a query that waits 30 ms on each of small blocks, as if each reader had a processor of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import click
import dask
import fsspec
import numpy as np

import daskgd
from benchmarks.common import Bench, command
from benchmarks.s3_server import move_away, obstore_options, s3fs_options, serving
from daskgd.engines.select import open_engine
from daskgd.losses import Logistic
from daskgd.models import Linear
from daskgd.penalties import L2
from daskgd.problems import Problem
from daskgd.queries import Ask, Gradient, Query
from daskgd.queries.sums import Sums
from daskgd.rows.tiles import Rows

FAR = 0.05
"""Seconds."""

SMALL = np.zeros((64, 64), np.float32)
"""A small block."""


@dataclass(frozen=True)
class Wait(Query):
    """Counts rows, and takes its time."""

    seconds: float = 0.03
    scope: ClassVar[str] = "block"
    name: ClassVar[str] = "wait"

    def block(self, problem: Any, rows: Rows) -> Sums:
        time.sleep(self.seconds)
        return Sums(n=np.array(len(rows), dtype=np.float64))

    def answer(self, problem: Any, sums: Sums) -> float:
        return float(sums["n"])


def gradient(n_features: int) -> Ask:
    model = Linear(n_features)
    problem = Problem(Logistic(), model, L2(1e-6), labels=np.array([0, 1]))
    return Ask(problem, Gradient(np.full(model.size, 0.01)))


def seconds_of_sweep(dataset: Any, ask: Ask, readers: int) -> float:
    """Seconds of a sweep by so many threads of this process."""
    with dask.config.set(num_workers=readers), open_engine(dataset, "threads") as (engine, _):
        began = time.perf_counter()
        engine.sweep([ask])
        return time.perf_counter() - began


@contextmanager
def by_obstore() -> Iterator[None]:
    """Have fsspec take obstore for S3."""
    from obstore.fsspec import register

    before = fsspec.get_filesystem_class("s3")
    register("s3", asynchronous=True)
    try:
        yield
    finally:
        fsspec.register_implementation("s3", before, clobber=True)


@command
@click.option("--rows", default=5_000_000, show_default=True, help="Before --scale.")
@click.option("--features", default=50, show_default=True)
@click.option("--readers", default="2,8", show_default=True, help="Threads that read, several by commas.")
def main(bench: Bench, rows: int, features: int, readers: str) -> None:
    """Sweeps over rows in an object store that answers after 50 ms, against local disk; s3fs and obstore."""
    local = {"gradient": bench.store("rounded", bench.rows(rows), features)}
    n_small = max(round(800 * bench.scale), 32) * SMALL.shape[0]
    small = np.resize(SMALL, (n_small, SMALL.shape[1]))
    path = bench.scratch / "small.zarr"
    daskgd.write_dataset(path, small, chunk_bytes=SMALL.nbytes, overwrite=True)
    local["waiting"] = daskgd.open_dataset(path, block_bytes=SMALL.nbytes)
    asks = {"gradient": gradient(features), "waiting": Ask(None, Wait())}
    table = []
    with serving(bench.scratch) as port:
        for kind, dataset in local.items():
            url = f"s3://bucket/{Path(dataset.path).name}"
            block_bytes = SMALL.nbytes if kind == "waiting" else None
            stores = {
                "s3fs": daskgd.open_dataset(url, storage_options=s3fs_options(port), block_bytes=block_bytes)
            }
            try:
                with by_obstore():
                    stores["obstore"] = daskgd.open_dataset(
                        url, storage_options=obstore_options(port), block_bytes=block_bytes
                    )
            except ImportError:
                click.echo("obstore is not installed", err=True)
            threads = sorted(map(int, readers.split(",")))
            for n in threads if kind == "gradient" else threads[-1:]:

                def measure(dataset: Any, away: float = 0.0, kind: str = kind, n: int = n) -> float:
                    move_away(port, away)
                    return seconds_of_sweep(dataset, asks[kind], n)

                measures: Any = {"local": lambda d=dataset, m=measure: m(d)}
                for name, store in stores.items():
                    measures[f"{name}, nearby"] = lambda d=store, m=measure: m(d)
                    measures[f"{name}, 50 ms"] = lambda d=store, m=measure: m(d, FAR)
                times = bench.rounds(**measures)
                for name in times:
                    near = name.replace("50 ms", "nearby")
                    table.append(
                        {
                            "sweep": kind,
                            "readers": n,
                            "store": name,
                            "seconds": times.median(name),
                            "GB/s decoded": dataset.nbytes / times.median(name) / 1e9,
                            "of local": f"{times.share(name, 'local'):.0%}",
                            "of nearby": f"{times.share(name, near):.0%}" if name != near else None,
                        }
                    )
            move_away(port, 0)
    rows_text = f"{local['gradient'].n_rows:,} x {features} float32 in chunks of 8 MB"
    about = (
        f"One sweep of a logistic gradient over {rows_text}, and one over small blocks that waits 30 ms on "
        "each, by threads of one process. The server of S3 runs on the same machine; *50 ms* is what it "
        "waits before it answers, *nearby* it does not wait."
    )
    bench.publish("objects", about, {"": table})
