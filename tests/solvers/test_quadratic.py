"""Small quadratics with an L1 norm: the minimum to rounding, whatever the conditioning."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls
from sklearn.linear_model import ElasticNet, Lasso

from daskgd.solvers.quadratic import minimise, violation

EPS = np.finfo(float).eps


class Quadratic(NamedTuple):
    H: np.ndarray
    b: np.ndarray
    l1: np.ndarray
    positive: np.ndarray

    def value(self, v: np.ndarray) -> float:
        return float(v @ self.H @ v / 2 - self.b @ v + self.l1 @ np.abs(v))

    def rounding(self, v: np.ndarray) -> float:
        """What rounding alone makes of the violation at v."""
        size = (np.abs(self.b) + np.abs(self.H) @ np.abs(v)).max()
        return 16 * EPS * float(size) / (np.abs(self.b).max() or 1.0)


@st.composite
def quadratics(draw: st.DrawFn) -> Quadratic:
    """Moments of rows, few or many, their features correlated, of any scale, equal, or zero."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    d = draw(st.one_of(st.integers(1, 12), st.integers(1, 300)))
    X = rng.standard_normal((draw(st.integers(1, 2 * d + 1)), d))
    condition = draw(st.sampled_from([0, 0, 1, 3, 5]))
    if condition:
        U, s, Vt = np.linalg.svd(X, full_matrices=False)
        X = U * np.logspace(0, -condition, len(s)) @ Vt
    if draw(st.booleans()):
        X *= 10.0 ** rng.uniform(-6, 6, d)
    if draw(st.booleans()):
        X[:, rng.integers(0, d, d // 3)] = X[:, [0]]
    if draw(st.booleans()):
        X[:, rng.integers(0, d)] = 0
    y = X @ rng.standard_normal(d) + draw(st.sampled_from([0, 1])) * rng.standard_normal(len(X))
    H, b = X.T @ X / len(X), X.T @ y / len(X)
    l1 = np.full(d, np.abs(b).max() * 10.0 ** draw(st.integers(-7, 0)))
    l1 *= rng.random(d) < draw(st.sampled_from([0.0, 0.5, 1.0, 1.0]))
    if draw(st.booleans()):
        l1 *= rng.random(d)
    positive = rng.random(d) < draw(st.sampled_from([0.0, 0.0, 0.5, 1.0]))
    return Quadratic(H, b, l1, positive)


@given(q=quadratics())
def test_conditions_of_a_minimum(q: Quadratic) -> None:
    v = minimise(*q[:3], positive=q.positive)
    assert np.isfinite(v).all()
    assert violation(*q[:3], v, q.positive) <= max(1e-13, q.rounding(v))
    assert q.value(v) <= 0
    assert np.array_equal(v, minimise(*q[:3], positive=q.positive))


@given(q=quadratics(), seed=st.integers(0, 99))
def test_the_start_does_not_matter(q: Quadratic, seed: int) -> None:
    """Not to the conditions, nor to the value beyond what they leave open."""
    rng = np.random.default_rng(seed)
    expected = minimise(*q[:3], positive=q.positive)
    for start in (expected, expected * rng.random(len(q.b)), rng.standard_normal(len(q.b))):
        v = minimise(*q[:3], start=start, positive=q.positive)
        assert not np.any(q.positive & (v < 0))
        assert violation(*q[:3], v, q.positive) <= max(1e-13, q.rounding(v))
        reach = np.abs(q.b).max() * (np.abs(v) + np.abs(expected)).sum()
        assert abs(q.value(v) - q.value(expected)) <= 4 * max(1e-13, q.rounding(v)) * reach


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("share", [0.5, 0.05, 1e-3])
@pytest.mark.parametrize("n", [200, 30])
def test_scikit_learns_lasso(n: int, share: float, positive: bool, rng: np.random.Generator) -> None:
    X = rng.standard_normal((n, 40)) + rng.standard_normal((n, 1))
    y = X[:, :5].sum(axis=1) - X[:, 5] + rng.standard_normal(n)
    H, b = X.T @ X / n, X.T @ y / n
    alpha = share * np.abs(b).max()
    q = Quadratic(H, b, np.full(40, alpha), np.full(40, positive))
    v = minimise(*q[:3], positive=positive)
    reference = Lasso(alpha=alpha, fit_intercept=False, positive=positive, tol=1e-14, max_iter=10**6).fit(
        X, y
    )
    assert q.value(v) <= q.value(reference.coef_) + 1e-14 * abs(q.value(v))
    assert np.allclose(v, reference.coef_, rtol=0, atol=1e-6)
    assert violation(*q[:3], v, positive) < 1e-14


def test_ridge_is_part_of_the_matrix(rng: np.random.Generator) -> None:
    X, y = rng.standard_normal((50, 10)), rng.standard_normal(50)
    H, b = X.T @ X / 50 + 0.05 * np.eye(10), X.T @ y / 50
    v = minimise(H, b, np.full(10, 0.05))
    reference = ElasticNet(alpha=0.1, l1_ratio=0.5, fit_intercept=False, tol=1e-14, max_iter=10**6).fit(X, y)
    assert np.allclose(v, reference.coef_, rtol=0, atol=1e-8)


def test_without_l1_it_solves(rng: np.random.Generator) -> None:
    X, y = rng.standard_normal((50, 10)), rng.standard_normal(50)
    scale = np.logspace(-5, 5, 10)
    A = X * scale
    v = minimise(A.T @ A, A.T @ y, np.zeros(10))
    assert np.allclose(v * scale, np.linalg.lstsq(X, y)[0], rtol=1e-10)
    w = minimise(A.T @ A, A.T @ y, np.zeros(10), positive=True)
    assert np.allclose(w * scale, nnls(X, y)[0], rtol=1e-10)


def test_intercepts_may_be_mixed_in(rng: np.random.Generator) -> None:
    """A column of ones, not penalised and of any sign, among coefficients that must not be negative."""
    X = rng.standard_normal((80, 6)) + 3
    y = X @ np.array([1.0, 0.5, 0, 0, -1, 0]) - 20 + rng.standard_normal(80)
    A = np.hstack([X, np.ones((80, 1))])
    penalised = np.arange(7) < 6
    v = minimise(A.T @ A / 80, A.T @ y / 80, np.where(penalised, 0.1, 0.0), positive=penalised)
    reference = Lasso(alpha=0.1, positive=True, tol=1e-14, max_iter=10**6).fit(X, y)
    assert np.allclose(v, np.append(reference.coef_, reference.intercept_), rtol=0, atol=1e-8)
    assert v[-1] < -10


def test_columns_of_zeros_stay_out() -> None:
    H, b = np.diag([0.0, 2.0, -1e-20]), np.array([0.0, 4.0, 1e-18])
    assert np.allclose(minimise(H, b, np.zeros(3)), [0.0, 2.0, 0.0], rtol=1e-15, atol=0)
    assert np.allclose(minimise(H, b, np.ones(3), start=np.ones(3)), [0.0, 1.5, 0.0], rtol=1e-15, atol=0)
    assert minimise(np.zeros((2, 2)), np.zeros(2), np.ones(2)).tolist() == [0.0, 0.0]
    assert minimise(np.zeros((0, 0)), np.zeros(0), np.zeros(0)).shape == (0,)


def test_equal_columns_share_no_more_than_one_of_them_had(rng: np.random.Generator) -> None:
    x = rng.standard_normal(30)
    X = np.stack([x, x, -x], axis=1)
    v = minimise(X.T @ X, 2 * X.T @ x, np.full(3, 0.1))
    alone = minimise(np.array([[x @ x]]), np.array([2 * x @ x]), np.array([0.1]))
    assert np.isclose(v[0] + v[1] - v[2], alone[0], rtol=1e-12)
    assert np.isclose(np.abs(v).sum(), alone[0], rtol=1e-12)


def test_too_strong_a_norm_leaves_nothing(rng: np.random.Generator) -> None:
    X = rng.standard_normal((20, 7))
    b = X.T @ rng.standard_normal(20)
    l1 = np.full(7, np.abs(b).max())
    assert not minimise(X.T @ X, b, l1).any()
    assert np.count_nonzero(minimise(X.T @ X, b, 0.999 * l1)) == 1


def test_signs_that_trap_coordinate_descent(rng: np.random.Generator) -> None:
    """Neighbours in a random walk: cycles of coordinate descent by the hundred thousand would be needed."""
    X = np.cumsum(rng.standard_normal((150, 60)), axis=1)
    y = X @ (rng.standard_normal(60) * (rng.random(60) < 0.3)) + rng.standard_normal(150)
    H, b = X.T @ X / 150, X.T @ y / 150
    for share in (1e-2, 1e-4, 1e-6):
        l1 = np.full(60, share * np.abs(b).max())
        v = minimise(H, b, l1)
        assert violation(H, b, l1, v) < 1e-13


def test_no_minimum_is_no_hang() -> None:
    """Flat directions that b leans on, a matrix that is not semidefinite, numbers that are none."""
    one = np.ones((2, 2))
    for H in (one, np.array([[1.0, 2.0], [2.0, 1.0]]), 1e300 * one, 1e-300 * one):
        for l1 in (0.0, 1.0):
            for positive in (False, True):
                v = minimise(H, np.array([1e3, -5e2]), np.full(2, l1), positive=positive)
                assert np.isfinite(v).all()
    start = np.array([1.0, np.inf])
    assert minimise(np.full((2, 2), np.nan), np.ones(2), np.ones(2), start).tolist() == [1.0, 0.0]
    assert minimise(np.eye(2), np.array([np.inf, 1.0]), np.ones(2)).tolist() == [0.0, 0.0]


def test_inputs_are_left_alone(rng: np.random.Generator) -> None:
    X = rng.standard_normal((20, 5))
    arguments = X.T @ X, X.T @ rng.standard_normal(20), np.full(5, 0.1), rng.standard_normal(5)
    kept = [a.copy() for a in arguments]
    minimise(*arguments)
    assert all(np.array_equal(a, b) for a, b in zip(arguments, kept, strict=True))


def test_violation() -> None:
    H, b, l1 = np.eye(3), np.array([4.0, -0.5, 0.0]), np.ones(3)
    assert violation(H, b, l1, np.array([3.0, 0.0, 0.0])) == 0
    assert violation(H, b, l1, np.array([2.0, 0.0, 0.0])) == 0.25
    assert violation(H, b, l1, np.array([3.0, 0.0, 0.1])) == 1.1 / 4
    assert violation(H, -b, 0 * l1, np.zeros(3)) == 1
    assert violation(H, -b, 0 * l1, np.zeros(3), positive=True) == 0.5 / 4
    assert violation(H, b, l1, np.array([3.0, -0.1, 0.0]), positive=True) == np.inf
    assert violation(H, 0 * b, l1, np.zeros(3)) == 0
