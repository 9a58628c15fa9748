"""Local solvers, sweep by sweep: ``python -m benchmarks local [--scale S] [--order NAME]... [--solver
NAME]...``.

Logistic regression, 10,000,000 x 50 float32 of condition 1e3 with an L2 penalty of 1e-6 in the mean
objective, in 16 partitions, on two single-threaded workers: the same rows shuffled, sorted by label, and
sorted by a feature. The gap of a sweep is that of the objective it measured over all rows, relative to the
minimum, which two Newton steps in float64 find; sweeps count the survey. A last table gives what fewer bits
on the wire cost local SGD.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import click
import numpy as np

import daskgd
from benchmarks.common import BLOCK, Bench, cluster, command, correlated
from benchmarks.sweeps import logistic, minimum

ROWS, FEATURES, PARTITIONS, BLOCKS = 10_000_000, 50, 16, 256
GAPS = (1e-2, 1e-3, 1e-4, 1e-6)


def shuffled(n: int) -> Iterator[tuple[Any, Any]]:
    return correlated(n, FEATURES, 1e3)


def by_label(n: int) -> Iterator[tuple[Any, Any]]:
    for label in (0, 1):
        for X, y in correlated(n, FEATURES, 1e3):
            yield X[y == label], y[y == label]


def by_feature(n: int) -> Iterator[tuple[Any, Any]]:
    X, y = np.empty((n, FEATURES), np.float32), np.empty(n, np.int8)
    at = 0
    for part, target in correlated(n, FEATURES, 1e3):
        X[at : at + len(part)], y[at : at + len(part)] = part, target
        at += len(part)
    order = np.argsort(X[:, 0], kind="stable")
    for start in range(0, n, BLOCK):
        some = order[start : start + BLOCK]
        yield X[some], y[some]


ORDERS = {"shuffled": shuffled, "by label": by_label, "by feature": by_feature}

SOLVERS: dict[str, tuple[Callable[[], Any], int]] = {
    "GIANT": (lambda: daskgd.GIANT(), 6),
    "GIANT, no sample": (lambda: daskgd.GIANT(sample_bytes=0), 9),
    "ADMM": (lambda: daskgd.ADMM(), 6),
    "ADMM, no sample": (lambda: daskgd.ADMM(sample_bytes=0), 9),
    "LocalSGD": (lambda: daskgd.LocalSGD(), 4),
    "LocalSGD, nesterov": (lambda: daskgd.LocalSGD(outer="nesterov"), 4),
    "LocalSGD, nesterov, no sample": (
        lambda: daskgd.LocalSGD(
            step=0.5, sample_bytes=0, outer="nesterov", outer_momentum=0.3, schedule="constant"
        ),
        5,
    ),
    "LocalSGD, plain averaging": (
        lambda: daskgd.LocalSGD(step=0.5, sample_bytes=0, control=False, schedule="constant"),
        5,
    ),
    "Adam": (lambda: daskgd.Adam(step=0.05, steps=32), 6),
    "SubsampledNewton": (lambda: daskgd.SubsampledNewton(), 6),
}
"""Solvers, and iterations that they are given."""


def path_of(solver: Any, iterations: int, n: int, dataset: Any, least: float) -> dict[str, Any]:
    """Sweeps to each gap, as measured by the sweeps of one fit."""
    tol = 1e-10 if isinstance(solver, daskgd.SubsampledNewton) else 0
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        est = logistic(n, solver=solver, tol=tol, max_iter=iterations, scale=True).fit(dataset)
    losses = np.array(est.history_.column("loss"))
    sweeps = np.array(est.history_.column("sweeps"))
    row: dict[str, Any] = {}
    for gap in GAPS:
        there = np.flatnonzero(losses - least <= gap * least)
        row[f"{gap:g}"] = f"{sweeps[there[0]]:g}" if len(there) else None
    row["last"] = f"{(losses[-1] - least) / least:.0e} after {sweeps[-1]:g}"
    row["highest"] = f"{losses.max() / losses[0]:.3g}"
    row["warns"] = "yes" if any(w.category is daskgd.PartitionsDiffer for w in caught) else "no"
    row["KB on the wire"] = (est.history_[-1]["wire_bytes"] - est.history_[0]["wire_bytes"]) / 1e3
    row["seconds"] = time.perf_counter() - began
    return row


@command
@click.option("--order", "orders", multiple=True, type=click.Choice(list(ORDERS)), help="Only these.")
@click.option("--solver", "names", multiple=True, type=click.Choice(list(SOLVERS)), help="Only these.")
def main(bench: Bench, orders: tuple[str, ...], names: tuple[str, ...]) -> None:
    """Sweeps that local solvers take to a gap, on shuffled and on sorted rows."""
    n = bench.rows(ROWS)
    chunk = -(-n // BLOCKS) * FEATURES * 4
    partition = -(-n // PARTITIONS) * (FEATURES * 4 + 4)  # with the labels, and some room
    tables: dict[str, list[dict[str, Any]]] = {}
    least = None
    with cluster():
        for order in orders or ORDERS:
            path = bench.scratch / f"local-{order.replace(' ', '-')}-{n}.zarr"
            if not path.exists():
                daskgd.write_dataset(path, ORDERS[order](n), chunk_bytes=chunk)
            dataset = daskgd.open_dataset(path, block_bytes=1, partition_bytes=partition)
            if least is None:
                tight = logistic(n, tol=1e-10).fit(dataset)
                least = minimum(tight, dataset, lambda: None)[1]
            rows = []
            for name in names or SOLVERS:
                row = {"solver": name, **path_of(SOLVERS[name][0](), SOLVERS[name][1], n, dataset, least)}
                click.echo(f"{order}: " + "  ".join(map(str, row.values())))
                rows.append(row)
            tables[f"{order}, {dataset.layout.n_partitions} partitions"] = rows
            if order == "shuffled" and not names:
                wires = []
                for wire in ("float64", "float32", "float16", "int8"):
                    solver = daskgd.LocalSGD(wire=wire)
                    wires.append({"wire": wire, **path_of(solver, 4, n, dataset, least)})
                tables["fewer bits on the wire, LocalSGD, shuffled"] = wires
    about = (
        "Sweeps, the survey included, until the objective over all rows was measured within a gap of the "
        "minimum, relative to it. `highest` is the highest objective of the path over the first, "
        "`KB on the wire` what follows the first iteration, `last` the gap where the path ends."
    )
    bench.publish("local", about, tables)
