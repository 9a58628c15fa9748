"""Random problems through the estimators: every fit reaches its tolerance or says that it did not."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import dask
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, event, given, note, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax, xlogy
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import QuantileRegressor

import daskgd

# -- objectives in float64, of a matrix of margins ------------------------------------------------


def logistic(z: Any, y: Any, est: Any) -> Any:
    return np.logaddexp(0, -np.where(y == est.classes_[1], 1, -1) * z[:, 0])


def multinomial(z: Any, y: Any, est: Any) -> Any:
    return -log_softmax(z, axis=1)[np.arange(len(y)), np.searchsorted(est.classes_, y)]


def squared_hinge(z: Any, y: Any, est: Any) -> Any:
    return np.maximum(1 - np.where(y == est.classes_[1], 1, -1) * z[:, 0], 0) ** 2


def poisson(z: Any, y: Any, est: Any) -> Any:
    return np.exp(z[:, 0]) - y * z[:, 0] + xlogy(y, y) - y


def squares(z: Any, y: Any, est: Any) -> Any:
    return (y - z[:, 0]) ** 2 / 2


def huber(z: Any, y: Any, est: Any) -> Any:
    c = est.scale_
    r = np.abs(y - z[:, 0])
    return c + np.where(r <= 1.35 * c, r**2 / c, 2 * 1.35 * r - 1.35**2 * c)


def pinball(z: Any, y: Any, est: Any) -> Any:
    return np.maximum(est.quantile * (y - z[:, 0]), (est.quantile - 1) * (y - z[:, 0]))


LOSSES = {
    "logistic": (logistic, ("none", "l2", "l1")),
    "multinomial": (multinomial, ("none", "l2", "l1")),
    "squared hinge": (squared_hinge, ("none", "l2", "l1")),
    "poisson": (poisson, ("none", "l2")),
    "huber": (huber, ("none", "l2")),
    "least squares": (squares, ("none", "l2", "l1")),
    "quantile": (pinball, ("none", "l1")),
}


def estimator(loss: str, penalty: str, strength: float, total: float, **rest: Any) -> Any:
    """The estimator whose mean objective has ``strength |w|_1`` or ``strength |w|**2 / 2``, for data of this
    total weight."""
    C = np.inf if penalty == "none" else 1 / (strength * total)
    alpha = 0.0 if penalty == "none" else strength
    if loss in ("logistic", "multinomial"):
        return daskgd.LogisticRegression(C=C, l1_ratio=float(penalty == "l1"), **rest)
    if loss == "squared hinge":
        return daskgd.LinearSVC(C=C, penalty="l1" if penalty == "l1" else "l2", **rest)
    if loss == "poisson":
        return daskgd.PoissonRegressor(alpha=alpha, **rest)
    if loss == "huber":
        return daskgd.HuberRegressor(alpha=alpha * total / 2, **rest)
    if loss == "quantile":
        return daskgd.QuantileRegressor(quantile=0.3, alpha=alpha, **rest)
    if penalty == "l1":
        return daskgd.Lasso(alpha, **rest)
    return daskgd.Ridge(alpha * total, **rest) if penalty == "l2" else daskgd.LinearRegression(**rest)


def objective(p: dict[str, Any], est: Any, coef: Any, intercept: Any) -> float:
    w = np.atleast_2d(coef)
    with np.errstate(over="ignore", invalid="ignore"):
        rows = LOSSES[p["loss"]][0](p["X"] @ w.T + np.ravel(intercept), p["y"], est)
    f = p["s"] @ rows / p["s"].sum()
    size = {"none": 0.0, "l1": np.abs(w).sum(), "l2": (w**2).sum() / 2}[p["penalty"]]
    return float(f + p["strength"] * size)


def of_constants(p: dict[str, Any], est: Any) -> tuple[float, float]:
    """Objectives of the best constant model and of the one where fits start, which knows no more of the
    target than its moments; without an intercept of zero."""
    zero, s, y = np.zeros_like(est.coef_), p["s"], p["y"]
    est = copy.copy(est)

    def f(*b: float) -> float:
        if p["loss"] == "huber":
            est.scale_, b = np.exp(b[-1]), b[:-1]
        return objective(p, est, zero, b if p["intercept"] else 0.0)

    if p["loss"] == "multinomial":
        best = start = f(*np.log([s[y == c].sum() for c in est.classes_]))
    elif p["loss"] == "logistic":
        best = start = f(np.log(s[y == 1].sum() / s[y == 0].sum()))
    elif p["loss"] == "squared hinge":
        share = s @ y / s.sum()
        best = start = f(2 * share - 1)
    elif p["loss"] == "poisson":
        best = start = f(np.log(s @ y / s.sum()))
    else:
        mean = s @ y / s.sum()
        deviation = np.sqrt(s @ (y - mean) ** 2 / s.sum())
        if p["loss"] == "huber":
            first = [mean, np.log(deviation)]
            start = f(*first)
            best = float(minimize(lambda b: f(*b), first, method="Nelder-Mead").fun)
        elif p["loss"] == "quantile":
            start = f(mean + norm.ppf(est.quantile) * deviation)
            best = min(f(b) for b in y)
        else:
            best = start = f(mean)
    return best, start


# -- random problems ------------------------------------------------------------------------------


SPECS = st.fixed_dictionaries(
    {
        "loss": st.sampled_from(sorted(LOSSES)),
        "penalty": st.sampled_from(["none", "l2", "l1"]),
        "strength": st.sampled_from([1e-6, 1e-4, 1e-2, 0.3]),
        "intercept": st.sampled_from([True, True, True, False]),
        "seed": st.integers(0, 2**32 - 1),
        "rows": st.sampled_from([None, None, None, 20, 35, 60]),
        "n": st.integers(10, 2000),
        "p": st.integers(1, 12),
        "correlation": st.sampled_from([0.0, 0.9, 0.999]),
        "scaled": st.booleans(),
        "shifted": st.booleans(),
        "rare": st.booleans(),
        "weighted": st.booleans(),
        "single": st.sampled_from([False, False, True]),
        "signal": st.sampled_from([0.0, 0.5, 1.0, 3.0]),
        "imbalance": st.sampled_from([0.0, 0.0, -3.0, -5.0]),
        "tol": st.sampled_from([1e-3, 1e-6, 1e-6, 1e-8]),
        "blocks": st.integers(2, 6),
    }
)
"""`rows` of the sample for each parameter; None lets the fit have all of them."""


def problem(spec: dict[str, Any]) -> dict[str, Any]:
    """Data and settings of a problem; what its loss cannot have is replaced."""
    loss, n, p = spec["loss"], spec["n"], spec["p"]
    penalty = spec["penalty"] if spec["penalty"] in LOSSES[loss][1] else "none"
    rows = spec["rows"] if loss != "quantile" else None
    if rows:
        n = max(n, 3 * rows * (p + 1))
    elif loss == "quantile":
        n = min(n, 300)
    rng = np.random.default_rng(spec["seed"])
    X = rng.normal(size=(n, p))
    X += (1 / (1 - spec["correlation"]) - 1) ** 0.5 * rng.normal(size=(n, 1))
    if spec["scaled"]:
        X *= 10 ** rng.uniform(-3, 4, p)
    if spec["shifted"]:
        X += X.std(axis=0) * rng.normal(scale=10, size=p)
    if spec["rare"]:  # a column that is nearly always 0
        X[:, rng.integers(p)] *= 20 * (rng.random(n) < 0.02)
    X = X.astype(np.float32 if spec["single"] else np.float64)
    Z = np.asarray(X, dtype=float)
    z = (Z - Z.mean(axis=0)) / spreads(Z) @ rng.normal(size=p)
    z *= spec["signal"] / max(z.std(), 1e-12)
    shift = spec["imbalance"]
    if loss in ("logistic", "squared hinge"):
        y = (z + shift + rng.logistic(size=n) > 0).astype(float)
        y[:2] = 0, 1
    elif loss == "multinomial":
        y = np.digitize(z + rng.logistic(size=n), [shift, 3.0]).astype(float)
        y[:3] = 0, 1, 2
    elif loss == "poisson":
        y = rng.poisson(np.exp(np.clip(z + shift / 2, -8, 8))).astype(float)
        y[0] += 1
    else:
        y = 10 ** (shift + 2) * (z + 5 + rng.standard_t(2, size=n))
    s = rng.integers(0, 3, n).astype(float) if spec["weighted"] else np.ones(n)
    s[:3] = 1
    strength = spec["strength"] if penalty != "none" else 0.0
    return {
        **spec,
        # Far from its minimum a piecewise quadratic bends more than it will: the decrement says little.
        "tol": min(spec["tol"], 1e-6) if loss == "squared hinge" else spec["tol"],
        "penalty": penalty,
        "strength": strength,
        "rows": rows,
        "given": X,
        "X": Z,
        "y": y,
        "s": s,
    }


def spreads(X: Any) -> Any:
    """Deviations of the columns; 1 for constant ones."""
    spread = X.std(axis=0)
    return np.where(spread > 1e-12 * np.abs(X).max(axis=0), spread, 1.0)


def fitted(p: dict[str, Any], **settings: Any) -> tuple[Any, bool]:
    """Our estimator, and whether it warned."""
    solver = "auto"
    if p["rows"]:
        kind = daskgd.ProximalNewton if p["penalty"] == "l1" else daskgd.SubsampledNewton
        solver = kind(rows_per_parameter=p["rows"], sample_bytes=1, most_bytes=1 << 30)
    rest = {
        "tol": p["tol"],
        "solver": solver,
        "engine": "serial",
        "fit_intercept": p["intercept"],
        **settings,
    }
    est = estimator(p["loss"], p["penalty"], p["strength"], p["s"].sum(), **rest)
    X = p["X"] if settings else p["given"]
    block = X[: -(-len(X) // p["blocks"])].nbytes
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with dask.config.set({"daskgd.block-bytes": block, "daskgd.partition-bytes": block}):
            est.fit(X, p["y"], p["s"])
    return est, any(issubclass(w.category, ConvergenceWarning) for w in caught)


def least(p: dict[str, Any]) -> float:
    """The least objective that another way finds: Newton with the Hessian of all rows in float64; for
    quantiles a linear program."""
    if p["loss"] == "quantile":
        lp = QuantileRegressor(quantile=0.3, alpha=p["strength"], fit_intercept=p["intercept"])
        spread = spreads(p["X"])
        if p["penalty"] == "none":
            lp.fit(p["X"] / spread, p["y"], p["s"])
            return objective(p, lp, lp.coef_ / spread, lp.intercept_)
        lp.fit(p["X"], p["y"], p["s"])
        return objective(p, lp, lp.coef_, lp.intercept_)
    est, _ = fitted(p, solver="newton", tol=1e-12)
    return objective(p, est, est.coef_, est.intercept_)


def check(p: dict[str, Any]) -> str:
    """The outcome of the fit; AssertionError where it is not an honest one."""
    est, warned = fitted(p)
    note(f"{est.outcome_}, gap {est.gap_:.1e}, {est.n_sweeps_} sweeps")
    assert np.isfinite(est.coef_).all()
    assert np.isfinite(est.intercept_).all()
    assert est.outcome_ in ("converged", "stalled", "budget_spent")
    endless = est._separated() or len(est._separating) > 0  # there is no minimum
    assert warned == (est.outcome_ != "converged" or endless)
    f = objective(p, est, est.coef_, est.intercept_)
    best, start = of_constants(p, est)
    assert f <= start * (1 + (1e-5 if p["given"].dtype == np.float32 else 1e-9))
    if est.outcome_ != "converged":
        return str(est.outcome_)
    excess = f - min(f, least(p))
    note(f"objective {f:.10g}, excess {excess:.1e}, of the best constant {best:.10g}")
    allowed = 5 * p["tol"] * max(f, 1e-3 * best)
    assert excess <= allowed
    return "converged"


@pytest.mark.slow
@settings(max_examples=200, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(SPECS)
def test_every_fit_is_converged_or_says_that_it_is_not(spec):
    p = problem(spec)
    outcome = check(p)
    event(f"{outcome}, {p['loss']}, {'sampled' if p['rows'] else 'whole'}")


def test_huber_converges_on_targets_that_a_model_meets_exactly():
    X = np.random.default_rng(0).normal(size=(200, 3))
    for y in (np.full(200, 5.0), np.zeros(200), X @ [1.0, 2.0, 3.0] + 1):
        est = daskgd.HuberRegressor().fit(X, y)
        assert est.outcome_ == "converged"
        assert est.gap_ <= est.tol
        np.testing.assert_allclose(est.predict(X), y, atol=1e-9)
