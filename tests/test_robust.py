"""Random problems through the estimators: every fit reaches its tolerance or says that it did not."""

from __future__ import annotations

import warnings
from typing import Any

import dask
import dask.array as da
import numpy as np
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, xlogy
from sklearn.exceptions import ConvergenceWarning

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


def of_constants(p: dict[str, Any], est: Any) -> float:
    """Objective of the best constant model, or without an intercept of zero."""
    zero = np.zeros_like(est.coef_)

    def f(b: Any) -> float:
        if p["loss"] == "huber":
            est.scale_, b = np.exp(b[-1]), b[:-1]
        return objective(p, est, zero, b if p["intercept"] else np.zeros_like(b))

    s, y = p["s"], p["y"]
    if p["loss"] == "multinomial":
        return f(np.log([s[y == c].sum() for c in est.classes_]))
    if p["loss"] == "huber":
        kept = est.scale_
        start = [np.median(y), np.log(np.std(y))]
        best = float(minimize(f, start, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-14}).fun)
        est.scale_ = kept
        return best
    if p["loss"] == "least squares":
        return f(np.array([s @ y / s.sum()]))
    if p["loss"] == "poisson":
        return f(np.log([s @ y / s.sum()]))
    if p["loss"] == "quantile":
        return min(f(np.array([b])) for b in y)
    if p["loss"] == "logistic":
        return f(np.log([s[y == est.classes_[1]].sum() / s[y == est.classes_[0]].sum()]))
    return float(minimize_scalar(lambda b: f(np.array([b])), options={"xtol": 1e-12}).fun)


# -- random problems ------------------------------------------------------------------------------


@st.composite
def problems(draw: Any) -> dict[str, Any]:
    loss = draw(st.sampled_from(sorted(LOSSES)))
    penalty = draw(st.sampled_from(LOSSES[loss][1]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sampled = loss != "quantile" and draw(st.booleans())
    p = draw(st.integers(1, 8 if loss == "multinomial" else 12))
    n = draw(st.integers(20 * p + 100, 3000)) if sampled else draw(st.integers(10, 800))
    correlation = draw(st.sampled_from([0.0, 0.9, 0.999]))
    X = rng.normal(size=(n, p))
    X += correlation / max(1 - correlation, 1e-3) ** 0.5 * rng.normal(size=(n, 1))
    if draw(st.booleans()):
        X *= 10 ** rng.uniform(-3, 4, p)
    if draw(st.booleans()):
        X += X.std(axis=0) * rng.normal(scale=10, size=p)
    if draw(st.booleans()):  # heavy tails, rare values
        j = rng.integers(p)
        X[:, j] = X[:, j] * (rng.random(n) < 0.02) * 20
    X = X.astype(draw(st.sampled_from([np.float64, np.float64, np.float32])))
    Z = np.asarray(X, dtype=float)
    spread = np.where(Z.std(axis=0) > 0, Z.std(axis=0), 1)
    z = (Z - Z.mean(axis=0)) / spread @ rng.normal(size=p)
    z *= draw(st.sampled_from([0.0, 0.5, 1.0, 3.0])) / max(z.std(), 1e-12)
    shift = draw(st.sampled_from([0.0, 0.0, -3.0, -5.0]))
    y: Any = None
    if loss in ("logistic", "squared hinge"):
        y = (z + shift + rng.logistic(size=n) > 0).astype(int)
        y[:2] = 0, 1
    elif loss == "multinomial":
        y = np.digitize(z + rng.logistic(size=n), [shift, 3.0])
        y[:3] = 0, 1, 2
    elif loss == "poisson":
        y = rng.poisson(np.exp(np.clip(z + shift / 2, -8, 8))).astype(float)
        y[0] += 1
    else:
        y = 10 ** (shift + 2) * (z + 5 + rng.standard_t(2, size=n))
    s = rng.integers(0, 3, n).astype(float) if draw(st.booleans()) else np.ones(n)
    s[:3] = 1
    return {
        "loss": loss,
        "penalty": penalty,
        "strength": 10 ** draw(st.floats(-6, -0.5)) if penalty != "none" else 0.0,
        "intercept": draw(st.sampled_from([True, True, True, False])),
        "given": X,
        "X": Z,
        "y": y,
        "s": s,
        "tol": draw(st.sampled_from([1e-3, 1e-6, 1e-6, 1e-8])),
        "rows": draw(st.integers(20, 60)) if sampled else None,
        "blocks": draw(st.integers(2, 9)),
    }


def fitted(p: dict[str, Any], **settings: Any) -> tuple[Any, bool]:
    """Our estimator, and whether it warned."""
    solver = "auto"
    if p["rows"]:
        kind = daskgd.ProximalNewton if p["penalty"] == "l1" else daskgd.SubsampledNewton
        solver = kind(rows_per_parameter=p["rows"], sample_bytes=1, most_bytes=1 << 30)
    rest = {"tol": p["tol"], "solver": solver, "engine": "serial", "fit_intercept": p["intercept"], **settings}
    est = estimator(p["loss"], p["penalty"], p["strength"], p["s"].sum(), **rest)
    X = p["X"] if settings else p["given"]
    rows = -(-len(X) // p["blocks"])
    lazy = da.from_array(X, chunks=(rows, -1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with dask.config.set({"daskgd.block-bytes": 1, "daskgd.partition-bytes": 1}):
            est.fit(lazy, p["y"], p["s"])
    return est, any(issubclass(w.category, ConvergenceWarning) for w in caught)


def least(p: dict[str, Any]) -> float:
    """The least objective that another way finds: Newton with the Hessian of all rows in float64; for
    quantiles a linear program."""
    if p["loss"] == "quantile":
        from sklearn.linear_model import QuantileRegressor

        lp = QuantileRegressor(quantile=0.3, alpha=p["strength"], fit_intercept=p["intercept"])
        spread = np.where(p["X"].std(axis=0) > 0, p["X"].std(axis=0), 1)
        if p["penalty"] == "none":
            lp.fit(p["X"] / spread, p["y"], p["s"])
            return objective(p, lp, lp.coef_ / spread, lp.intercept_)
        lp.fit(p["X"], p["y"], p["s"])
        return objective(p, lp, lp.coef_, lp.intercept_)
    est, _ = fitted(p, solver="newton", tol=1e-12)
    return objective(p, est, est.coef_, est.intercept_)


def describe(p: dict[str, Any]) -> str:
    return ", ".join(
        f"{k}={np.shape(v) if isinstance(v, np.ndarray) else v}" for k, v in p.items() if k != "X"
    )


def check(p: dict[str, Any]) -> str:
    """The outcome of the fit; AssertionError where it is not an honest one."""
    est, warned = fitted(p)
    note(describe(p))
    note(f"{est.outcome_}, gap {est.gap_:.1e}, {est.n_sweeps_} sweeps")
    assert np.isfinite(est.coef_).all()
    assert np.isfinite(est.intercept_).all()
    assert est.outcome_ in ("converged", "stalled", "budget_spent")
    assert warned == (est.outcome_ != "converged")
    f, start = objective(p, est, est.coef_, est.intercept_), of_constants(p, est)
    rounding = 1e-5 if p["given"].dtype == np.float32 else 1e-9
    assert f <= start * (1 + max(rounding, p["tol"] if p["loss"] == "quantile" else 0))
    if est.outcome_ != "converged":
        return str(est.outcome_)
    excess = f - min(f, least(p))
    note(f"objective {f:.10g}, excess {excess:.1e}, of the best constant {start:.10g}")
    allowed = 5 * p["tol"] * max(f, 1e-3 * start)
    assert excess <= allowed
    return "converged"


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(problems())
def test_every_fit_is_converged_or_says_that_it_is_not(p):
    outcome = check(p)
    event(f"{outcome}, {p['loss']}, {'sampled' if p['rows'] else 'whole'}")
