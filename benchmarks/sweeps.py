"""How many reads of the data a fit takes: ``python -m benchmarks sweeps [--scale S] [--case NAME]...``.

Each case is written once to a scratch dataset of float32 rows, in blocks, and fitted with default settings on
two single-threaded workers. Sweeps are counted by the engine, the survey included; the relative gap is not
the estimator's own but measured: the objective is evaluated in float64, in a loop over the stored chunks, at
the fitted parameters and at the minimum, to which two Newton steps (or, with L1, a fit to a tolerance of
1e-10) lead from there. ``--scale 0.1`` takes a tenth of the rows. The floor is one bare read: the time of the
survey sweep alone is not it, see ``benchmarks.sweep``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click
import numpy as np
from scipy.special import expit, log_softmax, softmax
from sklearn.datasets import load_digits

import daskgd
from benchmarks.common import BLOCK, Bench, bars, cluster, command, correlated


def digits(n: int) -> Iterator[tuple[Any, Any]]:
    """scikit-learn's digits over and over, with noise on every pixel."""
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    for start in range(0, n, BLOCK):
        at = rng.integers(0, len(X), min(BLOCK, n - start))
        yield (X[at] + 2 * rng.standard_normal((len(at), X.shape[1]))).astype(np.float32), y[at]


@dataclass(frozen=True)
class Case:
    """Rows, an estimator for that many of them, and the sweeps it may take."""

    rows: int
    blocks: Callable[[int], Iterator[tuple[Any, Any]]]
    estimator: Callable[[int], Any]
    most: int


def logistic(n: int, **settings: Any) -> Any:
    """A penalty of 1e-6 in the mean objective."""
    return daskgd.LogisticRegression(C=1 / (1e-6 * n), **settings)


CASES = {
    "logistic, 50 features": Case(10_000_000, lambda n: correlated(n, 50, 1e3), logistic, 4),
    "logistic, 2.6 % positive": Case(10_000_000, lambda n: correlated(n, 50, 1e3, 0.026), logistic, 5),
    "logistic, 200 features": Case(1_000_000, lambda n: correlated(n, 200, 1e3), logistic, 4),
    "logistic, 500 features": Case(400_000, lambda n: correlated(n, 500, 1e3), logistic, 5),
    "multinomial, digits": Case(1_000_000, digits, lambda n: daskgd.LogisticRegression(C=1 / (1e-3 * n)), 5),
    "multinomial, nearly separable": Case(1_000_000, digits, logistic, 5),
    "logistic, L1": Case(
        4_000_000,
        lambda n: correlated(n, 50, 1e2, used=0.1),
        lambda n: daskgd.LogisticRegression(C=1 / (1e-2 * n), l1_ratio=1.0),
        5,
    ),
    "least squares": Case(
        4_000_000,
        lambda n: correlated(n, 50, 1e3, noise=True),
        lambda n: daskgd.LinearRegression(),
        1,
    ),
    "ridge": Case(
        4_000_000, lambda n: correlated(n, 50, 1e3, noise=True), lambda n: daskgd.Ridge(alpha=1e-3 * n), 1
    ),
    "lasso": Case(
        4_000_000, lambda n: correlated(n, 50, 1e3, noise=True), lambda n: daskgd.Lasso(alpha=1e-2), 1
    ),
    "elastic net": Case(
        4_000_000, lambda n: correlated(n, 50, 1e3, noise=True), lambda n: daskgd.ElasticNet(alpha=1e-2), 1
    ),
}


def chunks(dataset: Any) -> Iterator[tuple[Any, Any]]:
    """The rows in float64, with a column of ones, and the target."""
    for i in range(dataset.X.numblocks[0]):
        X = np.asarray(dataset.X.blocks[i].compute(scheduler="synchronous"), float)
        yield np.hstack([X, np.ones((len(X), 1))]), dataset.y.blocks[i].compute(scheduler="synchronous")


def parameters(est: Any) -> Any:
    """``(p + 1, k)``, the intercepts last."""
    return np.vstack([np.atleast_2d(est.coef_).T, np.ravel(est.intercept_)])


def objective(est: Any, dataset: Any, W: Any, curvature: bool = False) -> tuple[float, Any, Any]:
    """The mean objective in float64, its gradient, and if asked its Hessian, at W ``(p + 1, k)``."""
    n, k, f = dataset.n_rows, W.shape[1], 0.0
    G, H = np.zeros_like(W), np.zeros((W.size, W.size))
    l1, l2 = est._strengths(float(n), k)
    for A, y in chunks(dataset):
        z = A @ W
        if isinstance(est, daskgd.LogisticRegression) and k > 1:
            P, at = softmax(z, axis=1), np.arange(len(y))
            f -= log_softmax(z, axis=1)[at, y].sum()
            R = P.copy()
            R[at, y] -= 1
            for a in range(k if curvature else 0):
                for b in range(k):
                    c = P[:, a] * ((a == b) - P[:, b])
                    H[a::k, b::k] += (A * c[:, None]).T @ A
        elif isinstance(est, daskgd.LogisticRegression):
            p = expit(z)
            f += np.sum(np.logaddexp(0, z[:, 0]) - y * z[:, 0])
            R = p - y[:, None]
            if curvature:
                H += (A * (p * (1 - p))).T @ A
        else:
            R = z - y[:, None]
            f += float(np.sum(R * R)) / 2
            if curvature:
                H += A.T @ A
        G += A.T @ R
    bare = W[:-1]
    f = f / n + float(np.sum(np.asarray(l2) * bare**2)) / 2 + float(np.sum(np.asarray(l1) * np.abs(bare)))
    G, H = G / n, H / n
    G[:-1] += np.asarray(l2) * bare
    H[np.diag_indices(bare.size)] += float(np.max(l2))
    return f, G, H


def minimum(est: Any, dataset: Any, tight: Callable[[], Any]) -> tuple[float, float]:
    """The objective at the fit, and the least: two Newton steps from there or, with L1, at a tighter fit."""
    W = parameters(est)
    f, G, H = objective(est, dataset, W, curvature=True)
    if float(np.max(est._strengths(1.0, 1)[0])) > 0:
        best = objective(est, dataset, parameters(tight()))[0]
    else:
        for _ in range(2):
            W = W - (np.linalg.lstsq(H, G.ravel(), rcond=1e-13)[0]).reshape(W.shape)
            best, G, _ = objective(est, dataset, W)
    return f, min(best, f)


@command
@click.option("--case", "names", multiple=True, type=click.Choice(list(CASES)), help="Only these.")
def main(bench: Bench, names: tuple[str, ...]) -> None:
    """Sweeps and true gaps of fits with default settings, one line a case."""
    table = []
    with cluster():
        for name in names or CASES:
            case = CASES[name]
            n = bench.rows(case.rows)
            path = bench.scratch / "case.zarr"
            daskgd.write_dataset(path, case.blocks(n), overwrite=True)
            dataset = daskgd.open_dataset(path)
            began = time.perf_counter()
            est = case.estimator(n).fit(dataset)
            seconds = time.perf_counter() - began

            def tight(case: Case = case, n: int = n, dataset: Any = dataset) -> Any:
                return case.estimator(n).set_params(tol=1e-10).fit(dataset)

            f, best = minimum(est, dataset, tight)
            row = {
                "case": name,
                "rows": n,
                "solver": est.history_.solver.partition("(")[0],
                "sweeps": est.n_sweeps_,
                "may take": case.most,
                "true gap": f"{(f - best) / best:.0e}",
                "gap_": f"{est.gap_:.0e}",
                "seconds": seconds,
            }
            click.echo("  ".join(map(str, row.values())))
            table.append(row)
    about = (
        "Reads of the data by a fit with default settings, the survey included, and how far its objective, "
        "evaluated in float64, is above the minimum."
    )
    bench.publish("sweeps", about, {"": table}, lambda axes: bars(axes, table, "case", "sweeps"))
