"""Perceptrons out of core, beside scikit-learn's: ``python -m benchmarks neural [--scale S]``.

A million rows made of three quarters of scikit-learn's digits (:mod:`daskgd.cli.demo_fit`), stored as uint8,
in partitions of 16 MB, and a network of 100 hidden units with Adam's mini-batches of 200 rows: ten sweeps of
:class:`daskgd.MLPClassifier` on two single-threaded workers, the survey included, and ten passes of
scikit-learn's ``partial_fit`` over the same stored blocks, read one after the other, in one thread. Both are
judged, pass by pass, by the quarter of the digits that was set aside.

The floor is scikit-learn's: one pass of its own. A sweep of daskgd computes the objective of all rows too, a
third of the work. Seconds per pass are medians over the passes of one fit, reading included; the two take
turns as whole fits, so that a machine that is busy with other work tells against either.
"""

from __future__ import annotations

import statistics
import time
import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

import daskgd
from benchmarks.common import Bench, cluster, command
from daskgd.cli.demo_fit import Digits, Expansion

PASSES = 10
ROWS = 1_000_000


def ours(dataset: Any, digits: Digits) -> list[dict[str, Any]]:
    """A row for every sweep: seconds, and accuracy on the digits set aside."""
    found: list[dict[str, Any]] = []
    judging = 0.0

    def judge(event: Any) -> None:
        nonlocal judging
        if hasattr(event, "model"):
            began = time.perf_counter()
            accuracy = event.model().score(digits.X_test, digits.y_test)
            found.append(
                {"at": event.row["seconds"] - judging, "loss": event.row["loss"], "accuracy": accuracy}
            )
            judging += time.perf_counter() - began

    est = daskgd.MLPClassifier(solver="adam", max_iter=PASSES - 1, tol=0)
    est.fit(dataset, watch=judge)
    found[-1]["accuracy"] = est.score(digits.X_test, digits.y_test)  # after the last average
    assert est.n_sweeps_ == PASSES
    return found


def theirs(dataset: Any, digits: Digits) -> list[dict[str, Any]]:
    """The same of scikit-learn: blocks as they are stored, in float32."""
    est, found, began, judging = MLPClassifier(), [], time.perf_counter(), 0.0
    for _ in range(PASSES):
        for i in range(dataset.X.numblocks[0]):
            X = dataset.X.blocks[i].compute(scheduler="synchronous").astype(np.float32)
            est.partial_fit(X, dataset.y.blocks[i].compute(scheduler="synchronous"), classes=np.arange(10))
        now = time.perf_counter()
        accuracy = est.score(digits.X_test.astype(np.float32), digits.y_test)
        found.append({"at": now - began - judging, "accuracy": accuracy})
        judging += time.perf_counter() - now
    return found


def per_pass(found: list[dict[str, Any]]) -> float:
    at = [row["at"] for row in found]
    return statistics.median(np.diff(at).tolist())


@command
def main(bench: Bench) -> None:
    """Seconds per pass and accuracy of perceptrons, beside scikit-learn's partial_fit."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    digits, n = Digits.load(), bench.rows(ROWS)
    path = bench.scratch / f"digits-{n}.zarr"
    if not path.exists():
        blocks = Expansion(digits.X, digits.y).blocks(n)
        daskgd.write_dataset(path, blocks, chunk_bytes=1_000_000)
    dataset = daskgd.open_dataset(path, partition_bytes=16_000_000)
    table, passes = [], []
    with cluster():
        for _ in range(bench.repeats):
            mine, other = ours(dataset, digits), theirs(dataset, digits)
            row = {
                "rows": n,
                "daskgd, s per sweep": per_pass(mine),
                "scikit-learn, s per pass": per_pass(other),
                "times faster": per_pass(other) / per_pass(mine),
                "sweeps": PASSES,
                "daskgd, accuracy": mine[-1]["accuracy"],
                "scikit-learn, accuracy": other[-1]["accuracy"],
            }
            table.append(row)
            passes = [
                {"pass": i + 2, "daskgd": a["accuracy"], "scikit-learn": b["accuracy"]}
                for i, (a, b) in enumerate(zip(mine, other[1:], strict=False))
            ]
    about = (
        "A perceptron of 100 hidden units on digits expanded, out of core: two workers against "
        "scikit-learn's partial_fit in one thread, judged by digits that were set aside."
    )
    bench.publish("neural", about, {"": table, "Accuracy by pass": passes})
