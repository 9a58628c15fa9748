"""What 32 penalty strengths cost beside one: ``python -m benchmarks penalties``.

``daskgd.together`` fits all of them with one read of the data per sweep, streamed from storage; against one
fit of the weakest penalty by itself, which is the hardest. Default solver and tolerance for all.
"""

from __future__ import annotations

from typing import Any

import click
import numpy as np

import daskgd
from benchmarks.common import Bench, bars, cluster, command


@command
@click.option("--rows", default=4_000_000, show_default=True, help="Before --scale.")
@click.option("--strengths", default=32, show_default=True)
def main(bench: Bench, rows: int, strengths: int) -> None:
    """Many penalty strengths in shared sweeps, against one fit."""
    dataset = bench.store("correlated", bench.rows(rows))

    def models(n: int) -> list[Any]:
        lams = np.geomspace(1e-6, 1e-1, strengths)[:n]
        return [daskgd.LogisticRegression(C=1 / (lam * dataset.n_rows), memory=0) for lam in lams]

    table = []
    with cluster():
        for n in (1, strengths):
            fitted: list[Any] = []

            def fit(n: int = n, fitted: list[Any] = fitted) -> None:
                fitted[:] = daskgd.together(models(n), dataset)

            seconds = bench.seconds(fit)
            sweeps = max(model.n_sweeps_ for model in fitted)
            gaps = max(model.gap_ for model in fitted)
            table.append({"strengths": n, "seconds": seconds, "sweeps": sweeps, "largest gap_": float(gaps)})
    for row in table:
        row["times one fit"] = row["seconds"] / table[0]["seconds"]
    about = (
        f"Logistic regression, {dataset.n_rows:,} x 50 float32, condition 1e3, streamed: penalties from 1e-6 "
        "to 1e-1 in the mean objective, in shared sweeps, against the weakest by itself."
    )
    bench.publish("penalties", about, {"": table}, lambda axes: bars(axes, table, "strengths", "seconds"))
