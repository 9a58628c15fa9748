"""Record the bits of fits, to show that a change of the code which should change no result changes none.

    python tests/recorded_fits.py before.json        # with the code as it was
    python tests/recorded_fits.py after.json         # with the code as it is
    cmp before.json after.json

Every solver, both regimes, each engine, weights, splits, several fits in the same sweeps, and fits that are
killed and resumed; data from a fixed seed. Only public names are used. Bits depend on the processor, on BLAS
and on the versions of numpy and scipy: compare within one environment and machine only.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy is loaded

import hashlib
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import dask.array as da
import distributed
import numpy as np

import daskgd

N_ROWS = 6_000


def digest(*arrays: Any) -> str:
    """Sixteen hex digits of the dtypes, shapes and bytes of arrays."""
    h = hashlib.sha256()
    for array in map(np.ascontiguousarray, arrays):
        h.update(f"{array.dtype.str}{array.shape}".encode())
        h.update(array.tobytes())
    return h.hexdigest()[:16]


def described(estimator: Any, X: Any) -> dict[str, Any]:
    """What a fit found, and the way there."""
    names = ("coef_", "intercept_", "scale_", "coefs_", "intercepts_", "w_")
    found = [value for name in names if (value := getattr(estimator, name, None)) is not None]
    arrays = [array for value in found for array in (value if isinstance(value, list) else [value])]
    history = estimator.history_
    return {
        "parameters": digest(*arrays),
        "predictions": digest(np.asarray(estimator.predict(X))),
        "history": digest(
            *(np.array(history.column(key), float) for key in ("loss", "gradient_norm", "gap"))
        ),
        "n_iter": int(np.max(estimator.n_iter_)),
        "n_sweeps": float(estimator.n_sweeps_),
        "solver": history.solver,
        "outcome": estimator.outcome_,
    }


def make_data() -> dict[str, Any]:
    rng = np.random.default_rng(20)
    X = rng.standard_normal((N_ROWS, 7)).astype(np.float32) * np.array([1, 5, 0.1, 1, 2, 1, 30], np.float32)
    X[:, 6] += 100
    w = rng.standard_normal(7)
    z = (X - X.mean(axis=0)) / X.std(axis=0) @ w
    return {
        "X": X,
        "X64": X.astype(np.float64),
        "two": np.where(z + rng.standard_normal(N_ROWS) > 0, "yes", "no"),
        "four": np.digitize(z + rng.standard_normal(N_ROWS), [-2, 0, 2]),
        "numbers": z + rng.standard_normal(N_ROWS),
        "targets": np.stack([z, -2 * z + 1], axis=1) + rng.standard_normal((N_ROWS, 2)),
        "counts": rng.poisson(np.exp(np.clip(0.4 * z, -3, 3))).astype(float),
        "weights": rng.uniform(0.5, 2.0, N_ROWS),
    }


class Killed(Exception):
    """Ends a fit from within."""


def killed_after(n: int) -> Callable[[Any], None]:
    """A watcher that ends a fit after so many sweeps."""
    seen = []

    def watch(event: Any) -> None:
        if type(event).__name__ == "Swept":
            seen.append(event)
            if len(seen) == n:
                raise Killed

    return watch


def fits(folder: str) -> Iterator[tuple[str, Any, Any]]:
    """Name, fitted estimator, and rows to predict."""
    data = make_data()
    X, X64, two, four, numbers = (data[name] for name in ("X", "X64", "two", "four", "numbers"))
    s = data["weights"]
    stored = {}
    for name, target in (("two", two), ("four", four), ("numbers", numbers), ("counts", data["counts"])):
        stored[name] = f"{folder}/{name}.zarr"
        daskgd.write_dataset(stored[name], X, target, chunk_bytes=20_000)
    stored["weighted"] = f"{folder}/weighted.zarr"
    daskgd.write_dataset(stored["weighted"], X64, two, s, chunk_bytes=50_000)

    def opened(name: str) -> Any:
        return daskgd.open_dataset(stored[name], block_bytes=20_000, partition_bytes=90_000)

    def logistic(**settings: Any) -> Any:
        return daskgd.LogisticRegression(**settings)

    solvers = {
        "subsampled newton, a small sample": daskgd.SubsampledNewton(sample_bytes=30_000),
        "newton": "newton",
        "newton-cg": "newton_cg",
        "lbfgs": "lbfgs",
        "gradient descent": daskgd.GradientDescent(),
        "fista": "fista",
        "sgd": "sgd",
        "proximal newton": daskgd.ProximalNewton(sample_bytes=30_000),
        "giant": daskgd.GIANT(),
        "admm": daskgd.ADMM(),
        "local sgd": daskgd.LocalSGD(),
        "local gd": daskgd.LocalGD(),
    }
    for name, solver in solvers.items():
        yield name, logistic(solver=solver, max_iter=15).fit(opened("two")), X
    for engine in ("serial", "threads"):
        yield f"engine {engine}", logistic(C=0.1, engine=engine).fit(opened("two")), X
        distributed_ = logistic(regime="distributed", engine=engine, max_iter=10)
        yield f"engine {engine}, distributed regime", distributed_.fit(opened("two")), X
    yield "memory 0", logistic(memory=0).fit(opened("two")), X
    yield "four classes", logistic().fit(opened("four")), X
    yield "four classes, L1", logistic(l1_ratio=1.0, C=0.05, max_iter=30).fit(opened("four")), X
    yield "no penalty", logistic(C=np.inf).fit(opened("two")), X
    yield "weights", logistic(class_weight="balanced").fit(opened("weighted")), X64
    yield "weights, local", logistic(solver="local_sgd", max_iter=5).fit(opened("weighted")), X64
    yield "weights in memory", daskgd.Ridge(alpha=3.0).fit(X64, numbers, s), X64
    yield "two targets", daskgd.LinearRegression().fit(X, data["targets"]), X
    yield "lasso", daskgd.Lasso(alpha=0.1).fit(opened("numbers")), X
    yield "elastic net, positive", daskgd.ElasticNet(alpha=0.1, positive=True).fit(opened("numbers")), X
    yield "poisson", daskgd.PoissonRegressor(alpha=0.1).fit(opened("counts")), X
    yield "tweedie", daskgd.TweedieRegressor(power=1.5, alpha=0.1).fit(opened("counts")), X
    yield "huber", daskgd.HuberRegressor().fit(opened("numbers")), X
    yield "quantile", daskgd.QuantileRegressor(alpha=0.01, quantile=0.7).fit(opened("numbers")), X
    yield "hinge", daskgd.LinearSVC(loss="hinge").fit(opened("two")), X
    yield "perceptron", daskgd.Perceptron(max_iter=5).fit(opened("two")), X
    net = daskgd.MLPClassifier((5,), max_iter=3, random_state=1)
    yield "mlp", net.fit(opened("four")), X
    yield (
        "mlp, distributed",
        daskgd.MLPRegressor(hidden_layer_sizes=(4,), regime="distributed", max_iter=3).fit(opened("numbers")),
        X,
    )
    train, _ = opened("two").train_test_split(0.3, random_state=2)
    yield "a split", logistic().fit(train), X
    yield (
        "a split of it",
        daskgd.Ridge().fit(opened("numbers").train_test_split(0.3)[1].train_test_split()[0]),
        X,
    )
    lazy = da.from_array(X, chunks=(1_000, 3))
    yield "a dask array", logistic().fit(lazy * 2, da.from_array(two, chunks=700)), X
    grid = [logistic(C=c) for c in (0.01, 1.0, 100.0)] + [daskgd.LinearSVC(C=0.5)]
    for i, one in enumerate(daskgd.together(grid, opened("two"))):
        yield f"together {i}", one, X
    settings: list[tuple[str, Any, str]] = [
        ("newton", logistic(solver="newton", max_iter=15), "two"),
        ("subsampled newton", logistic(solver=daskgd.SubsampledNewton(sample_bytes=30_000), tol=1e-9), "two"),
        ("admm", logistic(solver="admm", max_iter=15), "two"),
        ("mlp", daskgd.MLPClassifier((5,), max_iter=3, random_state=1), "four"),
    ]
    for name, one, which in settings:
        place = f"{folder}/checkpoint-{name}"
        try:
            one.fit(opened(which), checkpoint=place, watch=killed_after(2))
            raise AssertionError(f"{name}: the fit ended before it was killed")
        except Killed:
            pass
        yield f"resumed {name}", one.fit(opened(which), checkpoint=place), X
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
        ) as cluster,
        distributed.Client(cluster),
    ):
        yield "cluster", logistic(solver=solvers["subsampled newton, a small sample"]).fit(opened("two")), X
        yield "cluster, admm", logistic(solver="admm", max_iter=10).fit(opened("two")), X
        yield "cluster, local sgd", logistic(solver="local_sgd", max_iter=5).fit(opened("two")), X
        yield "cluster, lbfgs of four classes", logistic(solver="lbfgs", max_iter=8).fit(opened("four")), X
        yield "cluster, a lasso", daskgd.Lasso(alpha=0.1).fit(opened("numbers")), X
        yield "cluster, arrays", logistic(class_weight="balanced").fit(X64, two, s), X64
        yield "cluster, a dask array", logistic().fit(lazy * 2, da.from_array(two, chunks=700)), X


def main(path: str) -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="daskgd-recorded-") as folder:
        found = {name: described(estimator, X) for name, estimator, X in fits(folder)}
    with open(path, "w") as file:
        json.dump(found, file, indent=1)
    print(f"{len(found)} fits recorded in {path}")


if __name__ == "__main__":
    main(sys.argv[1])
