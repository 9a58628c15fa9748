"""A gap that is certain: what solvers that guess from their path may not say less than."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.exceptions import ConvergenceWarning

import daskgd
from daskgd.losses import (
    EpsilonInsensitive,
    Hinge,
    HuberResidual,
    Logistic,
    LogisticOneVsRest,
    ModifiedHuber,
    MultilabelLogistic,
    Softmax,
    Squared,
)
from daskgd.models import Linear
from daskgd.penalties import L1, L2, ElasticNet
from daskgd.problems import Problem
from daskgd.queries import Gradient
from daskgd.queries.base import on
from daskgd.rows.statistics import Moments
from daskgd.rows.tiles import Rows
from daskgd.solvers.base import certain_gap
from daskgd.testing import LOSSES

BOUNDED = [
    Logistic(),
    MultilabelLogistic(),
    LogisticOneVsRest(),
    Softmax(),
    Squared(),
    Hinge(squared=True),
    ModifiedHuber(),
    HuberResidual(0.5),
    EpsilonInsensitive(0.1, squared=True),
]
PENALTIES = [L2(0.0), L2(0.3), L1(0.2), ElasticNet(0.1, 0.2)]


def targets(loss: Any, n: int, rng: Any) -> tuple[Any, Any]:
    """Stored targets, and the labels."""
    if loss.kind != "classification":
        return rng.integers(0, 2, n).astype(float) if loss.indicator else rng.normal(size=n), None
    k = 3 if isinstance(loss, Softmax | LogisticOneVsRest) else 2
    return rng.integers(0, k, n).astype(np.int8), np.arange(k)


def test_losses_with_a_bound_are_all_here():
    assert {type(loss) for loss in LOSSES if np.isfinite(loss.lipschitz)} == {type(loss) for loss in BOUNDED}


@pytest.mark.parametrize("loss", BOUNDED, ids=repr)
def test_slopes_rise_no_faster_than_a_loss_says(loss, rng):
    y, labels = targets(loss, 500, rng)
    k = len(labels) if labels is not None and len(labels) > 2 else 1
    y = loss.targets(y, k, np.dtype(float))
    shape = (500, k) if k > 1 else (500,)
    z = rng.normal(size=shape) * rng.choice([0.1, 1.0, 10.0], size=shape)
    for j in range(k):
        step = np.zeros(k)
        step[j] = 0.5
        a, b = (loss.gradient(v, y).reshape(500, -1)[:, j] for v in (z, z + (step if k > 1 else step[0])))
        assert (b - a <= 0.5 * loss.lipschitz * (1 + 1e-9) + 1e-12).all()


@given(
    st.sampled_from(BOUNDED), st.sampled_from(PENALTIES), st.integers(0, 10**6), st.booleans(), st.booleans()
)
def test_no_gap_is_less_than_what_is_certain(loss, penalty, seed, standardised, class_weights):
    """Some move along one parameter gains as much; hence the minimum does."""
    rng = np.random.default_rng(seed)
    n, p = 60, 3
    X = rng.normal(rng.normal(size=p), 1.0, size=(n, p)) * 10.0 ** rng.integers(-3, 4, p)
    y, labels = targets(loss, n, rng)
    s = rng.random(n) + 0.1
    moments = Moments.of(X, s)
    center, scale = (moments.mean, np.sqrt(moments.variance)) if standardised else (None, None)
    outputs = len(labels) if labels is not None and len(labels) > 2 else 1
    weight = rng.random(len(labels)) + 0.1 if class_weights and labels is not None else None
    problem = Problem(loss, Linear(p, outputs, True, center, scale), penalty, labels, weight)
    shares = None if labels is None else np.bincount(y, s, len(labels)) / s.sum()
    lipschitz = problem.lipschitz_bounds(moments.mean, moments.variance, shares)
    assert lipschitz is not None
    rows = Rows(X, y, s, 0)
    size = 1.0 if standardised else np.repeat(np.append(1 / np.sqrt(moments.variance), 1.0), outputs)
    w = rng.normal(size=problem.model.size) * size * rng.integers(0, 2, problem.model.size)

    f, g = on(rows, problem, Gradient(w))
    certain = certain_gap(problem, lipschitz, w, g)
    least = f
    for j in range(len(w)):

        def along(t: float, j: int = j) -> float:
            at = w.copy()
            at[j] += t
            return on(rows, problem, Gradient(at))[0]

        reach = 2 * (abs(g[j]) + 1) / lipschitz[j] + abs(w[j])
        least = min(
            least, minimize_scalar(along, bounds=(-reach, reach), options={"xatol": 1e-9 * reach}).fun
        )
    assert certain <= (f - least) * (1 + 1e-6) + 1e-12 * abs(f)


ROWS = 1500


def unlike() -> tuple[Any, Any]:
    """Features of sizes from 1e-3 to 1e6, all of which tell."""
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(ROWS, 5))
    y = (Z @ [1.0, -1.0, 1.0, 1.0, 1.0] + rng.normal(size=ROWS) > 0).astype(int)
    return Z * [1.0, 1.0, 1e3, 1e6, 1e-3], y


@pytest.mark.parametrize("same", [False, True], ids=["unlike", "all large"])
@pytest.mark.parametrize("solver", ["lbfgs", "gradient_descent", "fista"])
def test_features_of_unlike_size_do_not_pass_for_converged(solver, same):
    """Without standardisation, where steps follow the large features only."""
    X, y = unlike()
    if same:
        X = X / X.std(axis=0) * 1e6
    best = daskgd.LogisticRegression(tol=1e-10).fit(X, y)

    def objective(est: Any) -> float:
        z = X @ est.coef_[0] + est.intercept_[0]
        return float(np.logaddexp(0, np.where(y == 1, -z, z)).mean() + (est.coef_**2).sum() / (2 * ROWS))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        est = daskgd.LogisticRegression(solver=solver, scale=False, max_iter=500, tol=1e-6).fit(X, y)
    gap = objective(est) / objective(best) - 1
    assert gap < 5e-6 or est.outcome_ != "converged"
    if solver == "lbfgs" and same:
        assert est.outcome_ == "converged"
