"""Every estimator against scikit-learn on the data that trips solvers up, and on what data comes in."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from scipy.special import log_softmax, xlogy
from sklearn import linear_model, svm

import daskgd
from tests.tiers import slow_but_rows

# -- objectives, by the formulas of scikit-learn's documentation, in float64 ----------------------


def coded(est: Any, y: Any) -> Any:
    """-1 and 1: one column for two classes, else one for each."""
    classes = est.classes_[1:] if len(est.classes_) == 2 else est.classes_
    return np.where(np.asarray(y)[:, None] == classes, 1.0, -1.0)


def log_loss(est: Any, z: Any, y: Any) -> Any:
    if z.shape[1] == 1:
        return np.logaddexp(0, -coded(est, y) * z)[:, 0]
    return -log_softmax(z, axis=1)[np.arange(len(y)), np.searchsorted(est.classes_, y)]


def hinge(est: Any, z: Any, y: Any) -> Any:
    short = np.maximum(1 - coded(est, y) * z, 0)
    return (short**2 if est.loss == "squared_hinge" else short).sum(axis=1)


def half_squares(est: Any, z: Any, y: Any) -> Any:
    return (y - z[:, 0]) ** 2 / 2


def half_deviance(est: Any, z: Any, y: Any) -> Any:
    p = {"PoissonRegressor": 1, "GammaRegressor": 2}.get(type(est).__name__) or est.power
    m = np.exp(z[:, 0])
    if p == 1:
        return xlogy(y, y / m) - y + m
    if p == 2:
        return y / m - 1 + np.log(m / y)
    return y ** (2 - p) / ((1 - p) * (2 - p)) - y * m ** (1 - p) / (1 - p) + m ** (2 - p) / (2 - p)


def huber(est: Any, z: Any, y: Any) -> Any:
    u = np.abs(y - z[:, 0]) / est.scale_
    return est.scale_ * (1 + np.where(u <= est.epsilon, u**2, 2 * est.epsilon * u - est.epsilon**2))


def pinball(est: Any, z: Any, y: Any) -> Any:
    r = y - z[:, 0]
    return np.maximum(est.quantile * r, (est.quantile - 1) * r)


def insensitive(est: Any, z: Any, y: Any) -> Any:
    beyond = np.maximum(np.abs(y - z[:, 0]) - est.epsilon, 0)
    return beyond**2 if est.loss.startswith("squared") else beyond


def floor(y: Any, case: Case) -> float:
    """Objectives of models that fit every row are rounding up to it."""
    return 1e-20 * float(np.mean(np.square(y))) if case.loss is half_squares else 0.0


def objective(case: Case, est: Any, X: Any, y: Any, s: Any) -> float:
    """The mean loss and, as `case` says of the total weight, the strengths of ``|w|_1`` and ``|w|^2/2``."""
    w = np.atleast_2d(est.coef_)
    s = np.ones(len(y)) if s is None else s
    l1, l2 = case.strengths(est, s.sum())
    mean = s @ case.loss(est, X @ w.T + np.ravel(est.intercept_), y) / s.sum()
    return float(mean + l1 * np.abs(w).sum() + l2 / 2 * np.sum(w**2))


# -- estimators -----------------------------------------------------------------------------------


def no_penalty(est: Any, W: float) -> tuple[float, float]:
    return 0.0, 0.0


def inverse_c(est: Any, W: float) -> tuple[float, float]:
    share = float(getattr(est, "l1_ratio", 0.0) or 0.0)
    if getattr(est, "penalty", None) == "l1":
        share = 1.0
    return share / (est.C * W), (1 - share) / (est.C * W)


def mixed(est: Any, W: float) -> tuple[float, float]:
    share = getattr(est, "l1_ratio", 1.0)
    return share * est.alpha, (1 - share) * est.alpha


@dataclass
class Case:
    kind: str
    target: str
    loss: Callable[..., Any]
    strengths: Callable[..., Any]
    settings: dict[str, Any]
    theirs: dict[str, Any]
    value: float = 1e-8
    coefficients: float = 1e-4
    unique: bool = True
    """Whether there is one minimum where features are more than rows."""

    minimum: bool = True
    """Whether there is a minimum where a plane separates the classes."""

    tol: float = 1e-10
    """Losses with kinks are smoothed by less than 1e-9, which is as close as they get."""

    def pair(self) -> tuple[Any, Any]:
        home = svm if self.kind.startswith("LinearSV") else linear_model
        ours = getattr(daskgd, self.kind)(**self.settings, tol=self.tol)
        return ours, getattr(home, self.kind)(**{**self.settings, **self.theirs})


NEWTON = {"solver": "newton-cholesky", "tol": 1e-12, "max_iter": 1000}
SAGA = {"solver": "saga", "tol": 1e-12, "max_iter": 3000, "random_state": 0}
LIBLINEAR = {"intercept_scaling": 100, "tol": 1e-12, "max_iter": 3000, "random_state": 0}
LASSO = {"tol": 1e-14, "max_iter": 100_000}
LBFGS = {"tol": 1e-12, "max_iter": 20_000}

CASES = {
    "LinearRegression": Case("LinearRegression", "numbers", half_squares, no_penalty, {}, {}, unique=False),
    "Ridge": Case(
        "Ridge", "numbers", half_squares, lambda e, W: (0, e.alpha / W), {"alpha": 3.0}, {"solver": "svd"}
    ),
    "Lasso": Case("Lasso", "numbers", half_squares, mixed, {"alpha": 0.3}, LASSO),
    "ElasticNet": Case("ElasticNet", "numbers", half_squares, mixed, {"alpha": 0.3, "l1_ratio": 0.7}, LASSO),
    "logistic, l2": Case("LogisticRegression", "labels", log_loss, inverse_c, {"C": 0.5}, NEWTON),
    "logistic, l1": Case(
        "LogisticRegression",
        "labels",
        log_loss,
        inverse_c,
        {"C": 0.5, "l1_ratio": 1.0},
        SAGA,
    ),
    "logistic, elastic net": Case(
        "LogisticRegression", "labels", log_loss, inverse_c, {"C": 0.5, "l1_ratio": 0.4}, SAGA
    ),
    "logistic, none": Case(
        "LogisticRegression",
        "labels",
        log_loss,
        inverse_c,
        {"C": np.inf},
        NEWTON,
        unique=False,
        minimum=False,
    ),
    "svc, squared hinge": Case(
        "LinearSVC", "labels", hinge, inverse_c, {"C": 0.05}, {**LIBLINEAR, "dual": False}, 1e-8, 1e-2
    ),
    "svc, l1": Case(
        "LinearSVC",
        "labels",
        hinge,
        lambda e, W: (1 / (e.C * W), 0),
        {"C": 0.05, "penalty": "l1"},
        {**LIBLINEAR, "dual": False},
        1e-8,
        1e-2,
    ),
    "svc, hinge": Case(
        "LinearSVC", "labels", hinge, inverse_c, {"C": 0.05, "loss": "hinge"}, LIBLINEAR, 1e-8, 1e-2, tol=1e-6
    ),
    "svr": Case(
        "LinearSVR",
        "outliers",
        insensitive,
        inverse_c,
        {"epsilon": 0.5, "C": 0.1},
        LIBLINEAR,
        1e-8,
        1e-2,
        tol=1e-6,
    ),
    "svr, squared": Case(
        "LinearSVR",
        "outliers",
        insensitive,
        inverse_c,
        {"loss": "squared_epsilon_insensitive", "C": 0.1},
        {**LIBLINEAR, "dual": False},
        1e-8,
        1e-2,
    ),
    "huber": Case(
        "HuberRegressor",
        "outliers",
        huber,
        lambda e, W: (0, 2 * e.alpha / W),
        {"alpha": 0.1},
        LBFGS,
        unique=False,
    ),
    "quantile": Case(
        "QuantileRegressor",
        "outliers",
        pinball,
        mixed,
        {"alpha": 0.05},
        {},
        1e-4,
        1e-2,
        tol=1e-6,
    ),
    "poisson": Case(
        "PoissonRegressor", "counts", half_deviance, lambda e, W: (0, e.alpha), {"alpha": 1e-2}, NEWTON
    ),
    "gamma": Case(
        "GammaRegressor", "amounts", half_deviance, lambda e, W: (0, e.alpha), {"alpha": 1e-2}, NEWTON
    ),
    "tweedie": Case(
        "TweedieRegressor",
        "claims",
        half_deviance,
        lambda e, W: (0, e.alpha),
        {"power": 1.5, "alpha": 1e-2},
        NEWTON,
    ),
}

# -- traps ----------------------------------------------------------------------------------------

N, P = 240, 5


def target(kind: str, rng: Any, z: Any) -> Any:
    """Of rows with the latent score z, of standard deviation about 1."""
    n = len(z)
    if kind == "labels":
        return np.where(z + 0.6 * rng.logistic(size=n) > 0, "yes", "no")
    numbers = 10 * z + 3 + rng.normal(size=n)
    amounts = np.exp(z / 2) * rng.gamma(2.0, size=n) + 1e-3
    return {
        "numbers": numbers,
        "outliers": numbers + 30 * (rng.random(n) < 0.1),
        "counts": rng.poisson(np.exp(z / 2 + 1)).astype(float),
        "amounts": amounts,
        "claims": amounts * (rng.random(n) < 0.6),
    }[kind]


def three(rng: Any, z: Any) -> Any:
    noisy = z + 0.6 * rng.logistic(size=len(z))
    return np.array(["low", "middle", "rare"])[np.digitize(noisy, [0.0, np.quantile(noisy, 0.97)])]


def made(trap: str, kind: str) -> tuple[Any, Any, Any]:
    """X, y and weights or None, in memory."""
    rng = np.random.default_rng(11)
    n, p = {"n < p": (40, 60), "0.1 % positives": (3000, P)}.get(trap, (N, P))
    X = rng.normal(size=(n, p))
    X[:, 1] += X[:, 0]
    z = X[:, :3] @ [0.7, -0.4, 0.3]
    y = target(kind, rng, z)
    if trap == "signs":
        y = np.where(y == "yes", 1, -1)
    elif trap == "three classes" or trap == "three classes, weights":
        y = three(rng, z)
    elif trap == "0.1 % positives":
        y = np.zeros(n)
        y[np.argsort(z + rng.normal(size=n))[-3:]] = 1
    elif trap == "separable":
        y = z > 0.1
    elif trap == "a constant column":
        X[:, 3] = 7.7
    elif trap == "scales":
        X = X * np.logspace(-3, 4, p) + [0, 1, 0, 100, 0]
    elif trap == "float32":
        X = X.astype(np.float32)
    elif trap == "uint8":
        X = np.clip(np.round(20 * X + 100), 0, 255).astype(np.uint8)
    elif trap == "sorted on disk":
        order = np.argsort(y, kind="stable")
        X, y = X[order], y[order]
    s = rng.integers(0, 4, n).astype(float) if trap.endswith("weights") else None
    return X, y, s


def given(trap: str, X: Any, y: Any, s: Any, folder: Path) -> tuple[tuple[Any, ...], tuple[Any, Any, Any]]:
    """What our `fit` is called with, and the same rows in memory."""
    if trap == "columns in chunks":
        return (da.from_array(X, chunks=(77, 2)), da.from_array(y, chunks=50)), (X, y, s)
    if trap == "an empty chunk":
        lazy = da.from_array(X, chunks=((0, 90, 0, N - 90, 0), (P,)))
        return (lazy, da.from_array(y, chunks=70)), (X, y, s)
    if trap == "sorted on disk":
        daskgd.write_dataset(folder / "d.zarr", X, y, chunk_bytes=800)
        stored = daskgd.open_dataset(folder / "d.zarr", block_bytes=800, partition_bytes=1600)
        assert len(stored.X.chunks[0]) > 8
        return (stored,), (X, y, s)
    if trap == "an empty block":
        daskgd.write_dataset(folder / "d.zarr", X, y, chunk_bytes=160)
        stored = daskgd.open_dataset(folder / "d.zarr", block_bytes=160, partition_bytes=320)
        train, _ = stored.train_test_split(0.6, random_state=3)
        rows, labels = np.asarray(train.X), np.asarray(train.y)
        assert 0 in train.X.chunks[0]
        return (train,), (rows, labels if stored.classes is None else stored.classes[labels], s)
    return (X, y, s), (X, y, s)


ANY = [
    "a constant column",
    "scales",
    "n < p",
    "float32",
    "uint8",
    "columns in chunks",
    "sorted on disk",
    "an empty chunk",
    "an empty block",
    "weights",
]
LABELLED = [
    "signs",
    "three classes",
    "three classes, weights",
    "0.1 % positives",
    "separable",
]
TABLE = [
    (name, trap)
    for name, case in CASES.items()
    for trap in ANY + (LABELLED if case.target == "labels" else [])
    if (case.minimum or trap not in ("separable", "n < p"))
    and (name, trap) != ("huber", "n < p")  # its scale tends to 0: there is no minimum
]


MANY_CHUNKS = [case for case in TABLE if case[1] == "an empty block"]
FEW = [case for case in MANY_CHUNKS if case[0] in ("Ridge", "logistic, l1", "svc, hinge", "huber", "poisson")]


@pytest.mark.parametrize(("name", "trap"), slow_but_rows(TABLE, *(set(TABLE) - set(MANY_CHUNKS)), *FEW))
def test_answers_are_scikit_learns(name, trap, tmp_path):
    case = CASES[name]
    ours, theirs = case.pair()
    if trap == "separable":
        for est in (ours, theirs):
            est.set_params(C=100.0)
    data, (X, y, s) = given(trap, *made(trap, case.target), tmp_path)
    X = np.asarray(X, dtype=float)
    ours.fit(*data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whoever is not converged is judged by the objective
        theirs.fit(X, y, s)
    assert ours.outcome_ == "converged"
    f, reference = (objective(case, est, X, y, s) for est in (ours, theirs))
    assert f <= reference * (1 + case.value) + floor(y, case)
    assert np.shape(ours.coef_) == np.shape(theirs.coef_)
    if case.target == "labels":
        assert np.shape(ours.intercept_) == np.shape(theirs.intercept_)
        assert (ours.classes_ == theirs.classes_).all()
    else:
        assert np.ndim(ours.intercept_) == 0
    if reference > f * (1 + case.value) or (trap == "n < p" and not case.unique):
        return  # theirs is not converged or penalises its intercept; or many models are as good
    spread = X.std(axis=0)
    a, b = ours.coef_ * spread, theirs.coef_ * spread
    assert (
        np.abs(a - b).max() <= case.coefficients * np.abs(b).max() + 1e-8
    )  # what is 0 there is nearly so here
