"""What it costs to choose a model, beside one fit and other programs: ``python -m benchmarks selection``.

1. *One fit and searches*: searches by cross-validation on 5 folds, the refit included, beside one fit of the
   weakest penalty, which is the hardest, of the same estimator to the same rows: logistic regression with 16
   strengths, least squares with 100. And ten metrics of ten models by ``daskgd.metrics.evaluate`` beside one
   metric of one model. All streamed, on two single-threaded workers.
2. *Beside other programs*, on as many rows as ``--peer-rows`` says: scikit-learn in memory, dask-ml, and the
   CrossValidator of Spark, which needs Java. Scores of the same folds are compared, strength by strength;
   what a search of logistic regressions chose is judged here, by its mean log loss over all rows.

Rows are 50 float32 with singular values from 1 to 1e-3, and labels of a logistic model, or a linear target.
Every program runs in a process and an environment of its own, in rounds of all programs on the same rows, as
in `peers`; ``--repeats`` is the number of rounds, and seconds are the least of them: to search, without the
start of processes and clusters, and without loading, which is told apart for programs that hold all rows.
Reads are sweeps of the engine. Memory is the most that the process and its children had resident together.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.common import Bench, bars, command
from benchmarks.peers import Outcome, Program, objectives, race
from benchmarks.peers.search_grid import FOLDS, STRONGEST, WEAKEST

LABELS, NUMBERS = "correlated", "linear"
"""Kinds of stores."""


def ours(variant: str) -> Program:
    return Program("search_daskgd", variant, threads=1)


def theirs(variant: str, threads: int = 2) -> Program:
    return Program("search_sklearn", variant, "scikit-learn", threads)


def dask_ml(variant: str) -> Program:
    return Program("search_dask_ml", variant, "dask-ml", threads=1)


FULL: dict[str, tuple[str, dict[str, Program]]] = {
    "Logistic regression": (
        LABELS,
        {
            "LogisticRegression, one fit": ours("LogisticRegression"),
            "LogisticRegression, GridSearchCV": ours("LogisticRegression, GridSearchCV"),
            "LogisticRegressionCV": ours("LogisticRegression, LogisticRegressionCV"),
        },
    ),
    "Ridge": (
        NUMBERS,
        {
            "Ridge, one fit": ours("Ridge"),
            "Ridge, GridSearchCV": ours("Ridge, GridSearchCV"),
            "RidgeCV": ours("Ridge, RidgeCV"),
            "RidgeCV, leave-one-out": ours("Ridge, RidgeCV, leave-one-out"),
        },
    ),
    "Lasso": (
        NUMBERS,
        {
            "Lasso, one fit": ours("Lasso"),
            "Lasso, GridSearchCV": ours("Lasso, GridSearchCV"),
            "LassoCV": ours("Lasso, LassoCV"),
        },
    ),
    "Elastic net": (
        NUMBERS,
        {
            "ElasticNet, one fit": ours("ElasticNet"),
            "ElasticNet, GridSearchCV": ours("ElasticNet, GridSearchCV"),
        },
    ),
    "Metrics": (
        LABELS,
        {
            "accuracy of one model": ours("metrics, one"),
            "ten metrics of ten models": ours("metrics, ten"),
        },
    ),
}
"""Of each table the kind of rows, and its programs: the first is what the others are compared with."""

PEERS: dict[str, tuple[str, dict[str, Program]]] = {
    "Logistic regression, beside other programs": (
        LABELS,
        {
            "daskgd, GridSearchCV": ours("LogisticRegression, GridSearchCV"),
            "scikit-learn, LogisticRegressionCV": theirs("LogisticRegressionCV"),
            "dask-ml, GridSearchCV, newton-cholesky": dask_ml("GridSearchCV, newton-cholesky"),
            "dask-ml, GridSearchCV, SGDClassifier": dask_ml("GridSearchCV, SGDClassifier"),
            "dask-ml, HyperbandSearchCV, SGDClassifier": dask_ml("HyperbandSearchCV, SGDClassifier"),
            "Spark, CrossValidator": Program("search_spark", needs="spark", converts=True),
        },
    ),
    "Lasso, beside scikit-learn": (
        NUMBERS,
        {
            "daskgd, LassoCV": ours("Lasso, LassoCV"),
            "scikit-learn, LassoCV": theirs("LassoCV"),
        },
    ),
    "Ridge, beside scikit-learn": (
        NUMBERS,
        {
            "daskgd, RidgeCV": ours("Ridge, RidgeCV"),
            "scikit-learn, RidgeCV": theirs("RidgeCV"),
        },
    ),
    "Ridge, leave-one-out, beside scikit-learn": (
        NUMBERS,
        {
            "daskgd, RidgeCV, leave-one-out": ours("Ridge, RidgeCV, leave-one-out"),
            "scikit-learn, RidgeCV, leave-one-out": theirs("RidgeCV, leave-one-out"),
        },
    ),
}
NAMES = [name for _, programs in (*FULL.values(), *PEERS.values()) for name in programs]


def least(outcome: Outcome, kind: str) -> float | None:
    """The least seconds of an event over the rounds."""
    return min((event["seconds"] for event in outcome.told(kind)), default=None)


def found(outcome: Outcome) -> dict[str, Any]:
    """What a search told; nothing, if it did not get there."""
    events = outcome.told("search")
    return events[-1] if events else {}


def of_first(outcomes: dict[str, Outcome], groups: dict[str, tuple[str, dict[str, Program]]]) -> Outcome:
    """The outcome of the first program of their group; one without events, where it was left out."""
    firsts = {next(iter(programs)) for _, programs in groups.values()}
    return next((outcome for name, outcome in outcomes.items() if name in firsts), Outcome())


def ratio(value: float | None, to: float | None) -> float | None:
    return value / to if value is not None and to is not None else None


def difference(outcome: Outcome, from_: Outcome) -> float | None:
    """The largest difference between the mean scores of two searches of the same grid."""
    a, b = (found(one).get("scores") for one in (outcome, from_))
    return None if a is None or b is None else float(np.max(np.abs(np.subtract(a, b))))


def beside_one(outcomes: dict[str, Outcome]) -> list[dict[str, Any]]:
    """A line for each program, its seconds as a multiple of the first one's."""
    one = least(of_first(outcomes, FULL), "search")
    lines = []
    for name, outcome in outcomes.items():
        seconds = least(outcome, "search")
        lines.append(
            {
                "what": name,
                "status": outcome.status,
                "rounds": outcome.runs,
                "seconds": seconds,
                "times one": ratio(seconds, one),
                "reads": found(outcome).get("reads"),
                "peak memory, GB": outcome.peak / 1e9,
                "best mean score": digits(found(outcome).get("score")),
            }
        )
    return lines


def beside_peers(outcomes: dict[str, Outcome], dataset: Any) -> list[dict[str, Any]]:
    """A line for each program, its seconds as a multiple of daskgd's, the first one's."""
    first = of_first(outcomes, PEERS)
    losses = log_losses(outcomes, dataset)
    lines = []
    for name, outcome in outcomes.items():
        seconds, loading = least(outcome, "search"), least(outcome, "load")
        line = {
            "program": name,
            "status": outcome.status,
            "rounds": outcome.runs,
            "load, s": loading,
            "seconds": seconds,
            "times daskgd": ratio(seconds, least(first, "search")),
            "reads": found(outcome).get("reads"),
            "peak memory, GB": outcome.peak / 1e9,
            "chosen": found(outcome).get("chosen"),
            "best mean score": digits(found(outcome).get("score")),
            "scores differ by": None if outcome is first else difference(outcome, first),
        }
        if losses:
            line["log loss of the chosen"] = digits(losses.get(name))
        lines.append(line)
    return lines


def digits(value: float | None) -> str | None:
    """As many as tell scores apart."""
    return None if value is None else f"{value:.6g}"


def log_losses(outcomes: dict[str, Outcome], dataset: Any) -> dict[str, float]:
    """The mean log loss, over all rows, of what each search of classifiers chose."""
    at = {name: found(one) for name, one in outcomes.items() if "w" in found(one)}
    if not at:
        return {}
    W = np.array([[*one["w"], one["b"]] for one in at.values()]).T
    return dict(zip(at, objectives(dataset, W, 0.0).tolist(), strict=True))


def measure(
    bench: Bench,
    groups: dict[str, tuple[str, dict[str, Program]]],
    rows: int,
    only: Iterable[str],
    raced: dict[str, Any],
    lines: Callable[[dict[str, Outcome], Any], list[dict[str, Any]]],
) -> dict[str, list[dict[str, Any]]]:
    """The table of each group, of programs that are not left out."""
    tables = {}
    for title, (kind, every) in groups.items():
        programs = {name: program for name, program in every.items() if name in only}
        if not programs:
            continue
        dataset = bench.store(kind, rows)
        with tempfile.TemporaryDirectory() as folder:
            outcomes = race(bench, programs, dataset, WEAKEST, folder=Path(folder), **raced)
        tables[f"{title}, {rows:,} rows"] = lines(outcomes, dataset)
    return tables


@command
@click.option("--rows", default=10_000_000, show_default=True, help="Before --scale.")
@click.option(
    "--peer-rows",
    default=1_000_000,
    show_default=True,
    help="Beside other programs, before --scale; 0 leaves them out.",
)
@click.option("--limit", default=600, show_default=True, help="Seconds for each program.")
@click.option("--environments", type=click.Path(path_type=Path), help="Keep the peers' environments here.")
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="Only these.")
def main(
    bench: Bench, rows: int, peer_rows: int, limit: int, environments: Path | None, only: tuple[str, ...]
) -> None:
    """Searches, and metrics of many models, beside one fit, one metric and other programs."""
    raced = {"limit": limit, "environments": environments}
    chosen = only or NAMES
    page = measure(bench, FULL, bench.rows(rows), chosen, raced, lambda all_, _: beside_one(all_))
    if peer_rows:
        page |= measure(bench, PEERS, bench.rows(peer_rows), chosen, raced, beside_peers)
    about = (
        f"Rows of 50 float32, condition 1e3; {FOLDS} folds; penalties from {WEAKEST:g} to {STRONGEST:g} in "
        "the mean objective, 16 of logistic regressions and 100 of least squares. daskgd is streamed, on "
        f"two workers. Seconds are the least of the rounds; at most {limit} s for each program on "
        f"{os.cpu_count()} cores. Scores are negative log losses and negative mean squared errors, and of "
        "metrics the accuracy."
    )
    every = [
        {"what": line.get("what", line.get("program")), "seconds": line["seconds"]}
        for lines in page.values()
        for line in lines
        if line["seconds"] is not None
    ]
    bench.publish("selection", about, page, lambda axes: bars(axes, every, "what", "seconds"))
