"""Hessians that are not formed: products, preconditioners, conjugate gradients, proximal steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import random_array

from daskgd.losses import Huber, Logistic, Loss, Poisson, Softmax, Squared
from daskgd.models import Linear
from daskgd.models.linear import LinearWithScale
from daskgd.penalties import L1, L2
from daskgd.problems import Problem
from daskgd.queries import Gradient, Hessian, on
from daskgd.rows.tiles import Rows
from daskgd.solvers import quadratic, working_sets
from daskgd.solvers.hessian_free import (
    Diagonal,
    HessianOperator,
    SharedMoments,
    ShiftApart,
    conjugate_gradients,
    precondition,
)
from daskgd.solvers.newton_system import (
    DrawStep,
    SolveNewtonSystem,
    SolveProximalSystem,
    stage,
)
from daskgd.solvers.quadratic_by_products import Quadratic, minimise
from daskgd.solvers.working_sets import minimise as minimise_by_working_sets

CASES = {
    "logistic": (Logistic(), 1),
    "softmax": (Softmax(), 4),
    "squared": (Squared(), 3),
    "poisson": (Poisson(), 1),
    "huber": (Huber(), 1),
}


def example(loss: Loss, k: int, n: int = 400, p: int = 6, dtype: str = "f8", weights: bool = True) -> tuple:
    rng = np.random.default_rng(3)
    X = (rng.standard_normal((n, p)) * rng.uniform(0.5, 2, p) + rng.uniform(-1, 1, p)).astype(dtype)
    labels = None
    if loss.kind == "classification":
        labels = np.arange(max(k, 2))
        y = rng.integers(0, len(labels), n)
    else:
        y = rng.poisson(2.0, (n, k)).astype(float) if k > 1 else rng.poisson(2.0, n).astype(float)
    mean, scale = X.mean(axis=0).astype(float), X.std(axis=0).astype(float)
    kind = LinearWithScale if loss.scales else Linear
    model = kind(p, k, True, mean, scale)
    strength = np.where(model.penalised, 0.01, 0.0)
    problem = Problem(loss, model, L2(strength), labels)
    w = 0.3 * rng.standard_normal(model.size)
    if loss.scales:
        w[-1] = 1.5
    s = rng.integers(0, 3, n).astype(float) if weights else None
    return problem, Rows(X, y, s, 0), w


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("weights", [True, False])
def test_products_and_diagonal_are_those_of_the_matrix(name: str, weights: bool) -> None:
    problem, rows, w = example(*CASES[name], weights=weights)
    H = on(rows, problem, Hessian(w))
    operator = HessianOperator(problem, rows, w)
    products = np.stack([operator.product(e) for e in np.eye(len(w))], axis=1)
    np.testing.assert_allclose(products, H, atol=1e-12 * np.abs(H).max())
    np.testing.assert_allclose(operator.diagonal(), np.diag(H), rtol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_threads_and_what_is_kept_change_no_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, rows, w = example(*CASES[name], n=30_000)
    v = np.random.default_rng(0).standard_normal(len(w))
    first = HessianOperator(problem, rows, w).product(v)
    np.testing.assert_array_equal(HessianOperator(problem, rows, w, threads=3).product(v), first)
    monkeypatch.setattr("daskgd.solvers.hessian_free.FACTOR_BYTES", 0)
    np.testing.assert_array_equal(HessianOperator(problem, rows, w, threads=2).product(v), first)


@pytest.mark.parametrize("name", CASES)
def test_the_system_is_solved(name: str) -> None:
    problem, rows, w = example(*CASES[name])
    H = on(rows, problem, Hessian(w))
    q = np.random.default_rng(1).standard_normal(len(w))
    if problem.loss.common_shift:  # along which the Hessian is flat
        q[-4:] -= q[-4:].mean()
    found = SolveNewtonSystem(problem, rows, w, q, rtol=1e-10).compute(1)
    np.testing.assert_allclose(H @ found.x, q, atol=1e-7)
    assert found.squared == pytest.approx(q @ np.linalg.lstsq(H, q, rcond=1e-12)[0], rel=1e-6)


@pytest.mark.parametrize("rtol", [0.1, 0.03, 0.01])
def test_what_a_residual_leaves_open_is_counted(rtol: float) -> None:
    rng = np.random.default_rng(0)
    for condition in (1e1, 1e3, 1e5):
        H = np.diag(np.geomspace(1, 1 / condition, 60))
        q = np.sqrt(np.diag(H)) * rng.standard_normal(60)
        found = conjugate_gradients(lambda v, H=H: H @ v, lambda r: r, q, rtol, 200)
        exact = float(q @ np.linalg.solve(H, q))
        assert 0.6 * exact < found.squared < 30 * exact


def test_the_preconditioner_follows_cost() -> None:
    for name, (loss, k) in CASES.items():
        problem, rows, w = example(loss, k)
        found = precondition(HessianOperator(problem, rows, w))
        found = found.inner if isinstance(found, ShiftApart) else found
        assert isinstance(found, Diagonal if name == "huber" else SharedMoments), name
    problem, rows, w = example(Logistic(), 1, n=40, p=300)
    assert isinstance(precondition(HessianOperator(problem, rows, w)), Diagonal)


def test_preconditioned_systems_take_few_products_whatever_the_features() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3000, 40)) @ (rng.standard_normal((40, 40)) * np.geomspace(1, 1e-3, 40))
    y = rng.integers(0, 10, 3000)
    model = Linear(40, 10, True, X.mean(axis=0), X.std(axis=0))
    problem = Problem(Softmax(), model, L2(np.where(model.penalised, 1e-6, 0.0)), np.arange(10))
    w = 0.1 * rng.standard_normal(model.size)
    q = HessianOperator(problem, Rows(X, y, None, 0), w).product(rng.standard_normal(model.size))
    found = SolveNewtonSystem(problem, Rows(X, y, None, 0), w, q, rtol=0.01).compute(1)
    assert found.products <= 40


def test_drawn_steps_have_the_inverse_hessian_for_their_covariance() -> None:
    for loss, k in ((Logistic(), 1), (Softmax(), 3)):
        problem, rows, w = example(loss, k, n=300, p=2)
        H = on(rows, problem, Hessian(w))
        drawn = np.array([DrawStep(problem, rows, w, seed).compute(1) for seed in range(600)])
        curved = np.linalg.eigh(H)[1][:, int(k > 1) :]  # but along the common shift of intercepts
        inside = curved.T @ H @ curved
        covariance = np.cov(drawn @ curved, rowvar=False, bias=True)
        np.testing.assert_allclose(inside @ covariance, np.eye(len(inside)), atol=0.35)
    again = DrawStep(problem, rows, w, 5).compute(2)
    np.testing.assert_array_equal(again, drawn[5])


@given(
    counts=st.lists(st.integers(0, 50), min_size=2, max_size=6),
    share=st.integers(2, 5),
    weights=st.booleans(),
)
def test_a_stage_has_rows_of_every_class_and_their_weights(
    counts: list[int], share: int, weights: bool
) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    rng = np.random.default_rng(0)
    rng.shuffle(y)
    if not len(y):
        return
    problem = Problem(Softmax(), Linear(1, len(counts)), L2(0.0), np.arange(len(counts)))
    s = np.ones(len(y)) if weights else None
    part = stage(problem, Rows(rng.standard_normal((len(y), 1)), y, s, 0), share)
    for label, n in enumerate(counts):
        mine = part.y == label
        assert mine.sum() == -(-n // share)
        assert part.sample_weight is not None
        assert part.sample_weight[mine].sum() == pytest.approx(n)


# -- proximal steps -----------------------------------------------------------------------------


@st.composite
def quadratics(draw: st.DrawFn) -> tuple:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    d = draw(st.integers(1, 40))
    flat = draw(st.booleans())
    X = rng.standard_normal((draw(st.integers(1, d)) if flat else 4 * d, d))
    H = X.T @ X / len(X)
    b = H @ rng.standard_normal(d)
    l1 = np.full(d, np.abs(b).max() * 10.0 ** draw(st.integers(-3, 0)))
    l1 *= rng.random(d) < draw(st.sampled_from([0.5, 1.0, 1.0]))
    positive = (rng.random(d) < draw(st.sampled_from([0.0, 0.0, 0.5]))) & (l1 > 0)
    start = np.where(rng.random(d) < 0.5, rng.standard_normal(d), 0.0)
    return H, b, l1, positive, np.where(positive, np.abs(start), start), flat


@given(case=quadratics())
def test_minimum_by_products_is_that_of_the_matrix(case: tuple) -> None:
    H, b, l1, positive, start, flat = case

    def value(v: np.ndarray) -> float:
        return float(v @ H @ v / 2 - b @ v + l1 @ np.abs(v))

    diagonal = np.maximum(np.diag(H), 1e-10)
    model = Quadratic(lambda v: H @ v, diagonal, l1, positive)
    found = minimise(model, start, H @ start - b, 1e-8, 5000)
    best = value(quadratic.minimise(H, b, l1, positive=positive))
    assert found.gain == pytest.approx(value(start) - value(found.v), rel=1e-6, abs=1e-9)
    # Along flat directions the subgradient says little of how far there is to go.
    rtol = 0.2 if flat else 1e-7
    assert value(found.v) <= best + rtol * max(value(start) - best, 1e-12) + 2 * found.left + 1e-12
    assert not np.any(found.v[positive] < 0)


@pytest.mark.parametrize("k", [3, 4])
def test_softmax_with_l1_has_no_flat_direction_to_fall_along(k: int) -> None:
    problem, rows, w = example(Softmax(), k, n=300, p=8)
    l1 = np.where(problem.model.penalised, 0.003, 0.0)
    problem = replace(problem, penalty=L1(l1))
    H = on(rows, problem, Hessian(w))
    _, g = on(rows, problem, Gradient(w))
    found = SolveProximalSystem(problem, rows, w, w, g, rtol=1e-8).compute(1)
    best = quadratic.minimise(H + 1e-12 * np.eye(len(H)), H @ w - g, l1, start=w)

    def value(v: np.ndarray) -> float:
        d = v - w
        return float(g @ d + d @ H @ d / 2 + l1 @ np.abs(v))

    assert value(found.v) <= value(best) + 1e-6 * abs(value(best))
    medians = np.sort(found.v[: 8 * k].reshape(8, k), axis=1)
    assert np.all((medians == 0).any(axis=1))


@pytest.mark.parametrize("features", [[0, 1, 2, 3, 4, 5], [1, 4], []])
@pytest.mark.parametrize("name", ["logistic", "softmax", "squared"])
def test_the_hessian_of_some_features_is_that_of_the_matrix(name: str, features: list[int]) -> None:
    problem, rows, w = example(*CASES[name])
    at = problem.parameters_of(np.array(features, dtype=int))
    H = on(rows, problem, Hessian(w))[np.ix_(at, at)]
    assert np.allclose(HessianOperator(problem, rows, w).matrix(np.array(features, dtype=int)), H, rtol=1e-9)


@pytest.mark.parametrize("most", [3, 8, 40])
@pytest.mark.parametrize(
    ("name", "rho"), [("logistic", 0.0), ("logistic", 0.999), ("softmax", 0.9), ("squared", 0.99)]
)
def test_working_sets_end_at_the_minimum_of_the_matrix(name: str, rho: float, most: int) -> None:
    problem, rows, w = example(*CASES[name], p=40)
    rng = np.random.default_rng(0)
    X = np.asarray(rows.X.toarray())
    rows = replace(rows, X=(1 - rho) * X + rho * rng.standard_normal((len(X), 1)))
    k = problem.model.outputs
    l1 = np.where(problem.model.penalised, 0.02, 0.0)
    problem = replace(problem, penalty=L1(l1))
    operator = HessianOperator(problem, rows, 0 * w)
    H, (_, g) = on(rows, problem, Hessian(0 * w)), on(rows, problem, Gradient(0 * w))
    model = Quadratic(operator.product, np.diag(H), l1, np.zeros(len(w), dtype=bool), 0)
    found = minimise_by_working_sets(operator, model, 0 * w, g, 1e-9, 1.0, most, 500)
    best = quadratic.minimise(H + 1e-13 * np.eye(len(H)), -g, l1)

    def value(v: np.ndarray) -> float:
        return float(g @ v + v @ H @ v / 2 + l1 @ np.abs(v))

    assert value(best) < 0
    assert value(found.v) <= value(best) + 1e-6 * abs(value(best)), k
    assert found.gain == pytest.approx(-value(found.v), rel=1e-6)


@pytest.mark.parametrize("most", [1, 4, 500])
@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_products_in_place_of_a_hessian_end_at_the_minimum_too(
    monkeypatch: pytest.MonkeyPatch, rho: float, most: int
) -> None:
    """Where they suffice nothing is formed; where they do not, working sets go on from where they led."""
    rng, (p, l1) = np.random.default_rng(0), (60, 0.02)
    X = (1 - rho) * rng.standard_normal((300, p)) + rho * rng.standard_normal((300, 1))
    y = X[:, 0] - X[:, 1] + rng.standard_normal(300)
    problem = Problem(Squared(), Linear(p, 1, False), L1(np.full(p, l1)))
    operator = HessianOperator(problem, Rows(X, y, None, 0), np.zeros(p))
    H, b = X.T @ X / 300, X.T @ y / 300
    model = Quadratic(operator.product, np.diag(H), np.full(p, l1), np.zeros(p, dtype=bool))
    monkeypatch.setattr(working_sets, "LEAST_ATTEMPT", 1)
    monkeypatch.setattr(working_sets, "products_for_hessian", lambda operator, features: most)
    formed: list[int] = []
    matrix = operator.matrix
    monkeypatch.setattr(
        operator, "matrix", lambda features: (formed.append(len(features)), matrix(features))[1]
    )
    found = minimise_by_working_sets(operator, model, np.zeros(p), -b, 1e-6, 0.0, p * 2, 500)
    best = quadratic.minimise(H, b, np.full(p, l1))

    def value(v: np.ndarray) -> float:
        return float(-b @ v + v @ H @ v / 2 + l1 * np.abs(v).sum())

    assert bool(formed) == (most < 500)
    assert value(found.v) <= value(best) + 1e-9 * abs(value(best))
    assert found.gain == pytest.approx(-value(found.v), rel=1e-9)


def test_products_are_tried_where_rows_are_sparse_and_a_hessian_is_large() -> None:
    rng = np.random.default_rng(0)
    X = random_array((2000, 3000), density=0.01, random_state=rng, format="csr")
    problem = Problem(Squared(), Linear(3000, 1, False), L1(np.full(3000, 0.1)))

    def tried(X: object, features: int) -> int:
        rows = Rows(X, np.zeros(2000), None, 0)  # type: ignore[arg-type]
        operator = HessianOperator(problem, rows, np.zeros(3000))
        return working_sets.products_for_hessian(operator, np.arange(features))

    assert tried(X, 100) == tried(X.toarray(), 1000) == 0
    assert 0 < tried(X, 400) < tried(X, 800) / 4 < 2000


@pytest.mark.parametrize("rho", [0.9, 0.99, 0.9999])
def test_a_small_gap_by_products_is_confirmed(rho: float) -> None:
    rng = np.random.default_rng(1)
    X = np.sqrt(1 - rho) * rng.standard_normal((300, 60)) + np.sqrt(rho) * rng.standard_normal((300, 1))
    H, b, l1 = X.T @ X / 300, X.T @ (X[:, 0] - X[:, 1] + rng.standard_normal(300)) / 300, np.full(60, 1e-3)
    model = Quadratic(lambda v: H @ v, np.diag(H), l1, np.zeros(60, dtype=bool))
    best = quadratic.minimise(H, b, l1)

    def value(v: np.ndarray) -> float:
        return float(-b @ v + v @ H @ v / 2 + l1 @ np.abs(v))

    found = minimise(model, np.zeros(60), -b, 0.3, 10_000, tol=10.0)
    assert value(found.v) - value(best) <= 2 * found.left + 1e-12


def test_a_quadratic_is_solved_until_little_is_hidden() -> None:
    rng = np.random.default_rng(2)
    Q, _ = np.linalg.qr(rng.standard_normal((80, 80)))
    H = (Q * np.geomspace(1, 1e4, 80)) @ Q.T
    q = rng.standard_normal(80)
    found = conjugate_gradients(lambda v: H @ v, lambda r: r, q, 0.0, 500, hidden=1e-6)
    best = np.linalg.solve(H, q)
    assert q @ best - (2 * q @ found.x - found.x @ H @ found.x) <= 1e-6
    assert found.least == pytest.approx(1.0, rel=0.1)
    again = conjugate_gradients(
        lambda v: H @ v, lambda r: r, q - H @ found.x, 0.0, 500, hidden=1e-6, least=found.least
    )
    assert again.products == 1
    assert again.squared <= 1.2e-6
