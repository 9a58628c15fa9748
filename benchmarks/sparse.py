"""A click log and hashed text, sparse, beside other programs: ``python -m benchmarks sparse``.

* Seconds and sweeps to a relative gap of 1e-2 to 1e-5 and held-out log loss, logistic regression with an L2
  penalty, as in `peers`: each program in a process and an environment of its own, killed at ``--limit``, its
  parameters judged here, in float64 and by one evaluator. f* is where a Newton step leads from the best
  parameters that any program found, or these. Held-out rows are a tenth as many more.
* Value and gradient of the logistic loss, in ns for every stored entry on one core: rows in memory, and rows
  that are read from the store and decoded, beside scipy's two products ``X @ w`` and ``X.T @ r``, which are
  the least that any program does.

``--data text`` takes the hashed text for the first; the second is of both. The data are of
:mod:`benchmarks.wide`.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, cg
from scipy.special import expit

import daskgd
from benchmarks.common import Bench, command, timed
from benchmarks.peers import Program, curves, race, tables
from benchmarks.wide import DATA, SIZES, clicks
from daskgd._compat.blas import one_blas_thread
from daskgd.data.convert import as_dataset
from daskgd.engines.walk import walk
from daskgd.losses import Logistic
from daskgd.models import Linear
from daskgd.penalties import L2
from daskgd.problems import Problem
from daskgd.queries import Ask, Gradient

GAPS = (1e-2, 1e-3, 1e-4, 1e-5)
HELD_OUT, ENTRIES = 7, 2_000_000_000
"""The stream of rows that no program sees; and entries that the products of a Newton step may go through."""

PROGRAMS = {
    "daskgd, streamed": Program("fit_daskgd_sparse", "0", threads=1),
    "daskgd, memory=auto": Program("fit_daskgd_sparse", "auto", threads=1),
    "daskgd, one process, streamed": Program("fit_daskgd_sparse", "process", threads=1),
    "daskgd, one process, OneHot": Program("fit_daskgd_sparse", "codes", threads=1),
    "scikit-learn, lbfgs": Program("fit_sklearn", "lbfgs", "scikit-learn"),
    "scikit-learn, newton-cg": Program("fit_sklearn", "newton-cg", "scikit-learn"),
    "scikit-learn, liblinear": Program("fit_sklearn", "liblinear", "scikit-learn"),
    "scikit-learn, liblinear, dual": Program("fit_sklearn", "liblinear, dual", "scikit-learn"),
    "scikit-learn, saga": Program("fit_sklearn", "saga", "scikit-learn"),
    "SGDClassifier.partial_fit": Program("fit_sgd", needs="scikit-learn"),
    "glum, lbfgs": Program("fit_glum", "lbfgs", "glum"),
    "Vowpal Wabbit, bfgs": Program("fit_vw", "bfgs", "vowpalwabbit", converts=True),
    "Vowpal Wabbit, online": Program("fit_vw", "sgd", "vowpalwabbit", converts=True),
}


# -- judging ------------------------------------------------------------------------------------


def log_loss(z: Any, y: Any) -> float:
    """Summed over rows of margins z and labels 0 and 1."""
    return float(np.logaddexp(0, np.where(y == 1, -z, z)).sum())


@dataclass
class Objective:
    """The mean logistic loss of rows in memory with a penalty, in float64; intercepts last and free."""

    X: Any
    y: Any
    l2: float

    @classmethod
    def of(cls, dataset: Any, l2: float) -> Objective:
        X, y = dataset.X.compute(scheduler="synchronous"), dataset.y.compute(scheduler="synchronous")
        return cls(csr_array(X, dtype=np.float64), y, l2)

    def value(self, w: Any) -> float:
        return log_loss(self.X @ w[:-1] + w[-1], self.y) / len(self.y) + self.l2 / 2 * float(w[:-1] @ w[:-1])

    def newton(self, w: Any) -> Any:
        """One Newton step from w, by conjugate gradients that the diagonal of the Hessian preconditions."""
        products = int(np.clip(ENTRIES // self.X.nnz, 10, 100))
        X, n, l2 = self.X, len(self.y), np.append(np.full(len(w) - 1, self.l2), 0)
        p = expit(X @ w[:-1] + w[-1])
        c = p * (1 - p)

        def back(r: Any) -> Any:
            return np.append(X.T @ r, r.sum()) / n

        def product(v: Any) -> Any:
            return back(c * (X @ v[:-1] + v[-1])) + l2 * v

        diagonal = np.append(X.power(2).T @ c, c.sum()) / n + l2 + 1e-15
        shape = (len(w), len(w))
        hessian, inverse = LinearOperator(shape, product), LinearOperator(shape, lambda r: r / diagonal)
        return w + cg(hessian, -(back(p - self.y) + l2 * w), rtol=1e-3, maxiter=products, M=inverse)[0]


def judge(objective: Objective, held: list[Any], points: dict[str, list[Any]]) -> float:
    """Give every point its true gap and its log loss on the held-out rows; returns the least objective."""

    def read(point: dict[str, Any]) -> Any:
        w = np.load(point["w"]) if isinstance(point["w"], str) else point["w"]
        return np.append(w, point["b"]).astype(float)

    every = [point for found in points.values() for point in found]
    for point in every:
        w = read(point)
        point["value"] = objective.value(w)
        lost = sum(log_loss(X @ w[:-1] + w[-1], y) for X, y in held)
        point["held-out"] = lost / sum(len(y) for _, y in held)
    leader = min((point for point in every if np.isfinite(point["value"])), key=lambda point: point["value"])
    best = min(leader["value"], objective.value(objective.newton(read(leader))))
    for point in every:
        point["gap"] = (point["value"] - best) / best
        del point["w"]
    for found in points.values():
        found.sort(key=lambda point: point["seconds"])
    return best


# -- kernels ------------------------------------------------------------------------------------


def sweep(source: Any, w: Any) -> None:
    """Objective and gradient of all rows, on this thread."""
    problem = Problem(Logistic(), Linear(source.columns.X.shape[1]), L2(1e-6), labels=np.array([0, 1]))
    walk(source, [Ask(problem, Gradient(w))], 0, source.layout.n_blocks, {})


def bare_products(X: Any, w: Any, r: Any) -> None:
    """The two that a gradient needs, and nothing else."""
    X @ w, X.T @ r


def kernels(bench: Bench, rows: int) -> list[dict[str, Any]]:
    """ns for every stored entry of rows of each kind."""
    table = []
    for kind in DATA:
        n = rows if kind == "clicks" else rows // 2
        dataset = store(bench, kind, n)
        X, y = (part.compute(scheduler="synchronous") for part in (dataset.X, dataset.y))
        w = np.full(X.shape[1] + 1, 0.01)
        kept, held = as_dataset(X, y).source, X.astype(np.float32)
        measures = {
            "scipy": partial(timed, bare_products, held, w[:-1].astype(np.float32), y.astype(np.float32)),
            "resident": partial(timed, sweep, kept, w),
            "decoded": partial(timed, sweep, dataset.source, w),
        }
        if kind == "clicks":
            parts = list(clicks(n))
            numbers, codes = (
                np.concatenate([getattr(part, k) for part in parts]) for k in ("numbers", "codes")
            )
            coded = as_dataset(daskgd.OneHot(codes, SIZES.tolist(), numbers), y).source
            measures["codes"] = partial(timed, sweep, coded, w)
        with one_blas_thread():
            times = bench.rounds(**measures)
        names = {
            "scipy": "scipy's two products",
            "resident": "value and gradient, rows in memory",
            "codes": "value and gradient, codes in memory (OneHot)",
            "decoded": "value and gradient, streamed and decoded",
        }
        table += [
            {
                "rows": kind,
                "what": names[name],
                "ns an entry": times.median(name) / X.nnz * 1e9,
                "times scipy": 1 / times.share(name, "scipy"),
            }
            for name in measures
        ]
    return table


# -- the command --------------------------------------------------------------------------------


def store(bench: Bench, kind: str, n: int) -> Any:
    """The dataset, written if it is not there yet; of clicks also a file of the codes."""
    path = bench.scratch / f"{kind}-{n}.zarr"
    if not path.exists():
        daskgd.write_dataset(path, DATA[kind](n))
    codes = path.with_suffix(".npz")
    if kind == "clicks" and not codes.exists():
        parts = [np.concatenate(part) for part in zip(*clicks(n), strict=True)]
        np.savez(codes, sizes=SIZES, **dict(zip(("numbers", "codes", "y"), parts, strict=True)))
    return daskgd.open_dataset(path)


def summary(outcomes: dict[str, Any], points: dict[str, list[Any]]) -> dict[str, list[dict[str, Any]]]:
    """The tables of `peers`, and seconds as multiples of those of daskgd, streamed."""
    made = tables(outcomes, points, GAPS)
    seconds = {row["program"]: row for row in made["Seconds to a gap"]}
    for row in made["Programs"]:
        found = points[row["program"]]
        row["held-out log loss"] = min(found, key=lambda point: point["value"])["held-out"] if found else None
    ours = seconds.get("daskgd, streamed")
    if ours is not None:
        columns = [f"{gap:.0e}" for gap in GAPS]
        made["Seconds, as multiples of those of daskgd, streamed"] = [
            {"program": name, **{c: row[c] and ours[c] and row[c] / ours[c] for c in columns}}
            for name, row in seconds.items()
        ]
    return made


@command
@click.option("--rows", default=500_000, show_default=True, help="Before --scale.")
@click.option("--data", "kind", type=click.Choice(list(DATA)), default="clicks", show_default=True)
@click.option("--penalty", default=1e-6, show_default=True, help="In the mean objective.")
@click.option("--limit", default=15, show_default=True, help="Seconds for each program.")
@click.option("--environments", type=click.Path(path_type=Path), help="Keep the peers' environments here.")
@click.option("--only", multiple=True, type=click.Choice(list(PROGRAMS)), help="Only these.")
def main(
    bench: Bench,
    rows: int,
    kind: str,
    penalty: float,
    limit: int,
    environments: Path | None,
    only: tuple[str, ...],
) -> None:
    """Click logs and hashed text, sparse: seconds to a true gap beside other programs, and kernels."""
    n = bench.rows(rows)
    dataset = store(bench, kind, n)
    programs = {
        name: PROGRAMS[name]
        for name in only or PROGRAMS
        if kind == "clicks" or PROGRAMS[name].variant != "codes"
    }
    with tempfile.TemporaryDirectory(dir=bench.scratch) as folder:
        outcomes = race(bench, programs, dataset, penalty, limit, environments, Path(folder))
        points = {name: outcome.points() for name, outcome in outcomes.items()}
        held = [(X.astype(float), y) for X, y in DATA[kind](n // 10, HELD_OUT)]
        best = judge(Objective.of(dataset, penalty), held, points)
    page = summary(outcomes, points)
    page["Value and gradient, ns for every stored entry on one core"] = kernels(bench, min(n, 200_000))
    positive = float(np.mean(dataset.y.compute(scheduler="synchronous")))
    about = (
        f"Logistic regression, {n:,} x {dataset.n_features:,} sparse float32 ({kind}, "
        f"{dataset.info()['n_stored'] / n:.0f} entries a row, {positive:.1%} positive), L2 penalty "
        f"{penalty:g} in the mean objective; at most {limit} s for each program on {os.cpu_count()} cores. "
        "Seconds include loading; a dash is a gap not reached. *it.*: iterations, where sweeps are not known."
    )
    bench.publish("sparse", about, page, lambda axes: curves(axes, points), points=points, best=best)
