"""FISTA reaches scikit-learn's answers, says how far it is, and asks one sweep an iteration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import ElasticNet as SkElasticNet
from sklearn.linear_model import Lasso, LogisticRegression

from daskgd.engines.serial import Serial
from daskgd.losses import Hinge, Logistic, Poisson, Squared
from daskgd.models import Linear
from daskgd.penalties import L1, L2, ElasticNet, Penalty
from daskgd.problems import Problem
from daskgd.queries import Ask, Curvature, Gradient
from daskgd.rows.tiles import Rows
from daskgd.solvers.base import downhill
from daskgd.solvers.fista import FISTA
from daskgd.testing import ArraySource, Example, check_solver, run
from daskgd.training.loop import Meter, Result, Stop, loop
from daskgd.training.together import together


def correlated(rng: np.random.Generator, n: int = 120, p: int = 8) -> np.ndarray:
    return rng.standard_normal((n, p)) + rng.standard_normal((n, 1))


def regression(penalty: Penalty, intercept: bool = True) -> Example:
    rng = np.random.default_rng(1)
    X = correlated(rng)
    y = X[:, 0] - 2 * X[:, 1] + 3 + rng.standard_normal(len(X))
    return Example("regression", Problem(Squared(), Linear(8, 1, intercept), penalty), Rows(X, y, None, 0))


def classification(penalty: Penalty, intercept: bool = True) -> Example:
    rng = np.random.default_rng(2)
    X = correlated(rng)
    y = (X[:, 0] - 2 * X[:, 1] + 1 + rng.logistic(size=len(X)) > 0).astype(int)
    problem = Problem(Logistic(), Linear(8, 1, intercept), penalty, np.array([0, 1]))
    return Example("classification", problem, Rows(X, y, None, 0))


def objective(example: Example, w: np.ndarray) -> float:
    engine = Serial(ArraySource.of(example.rows, 1000))
    return float(engine.sweep([Ask(example.problem, Gradient(w))])[0][0])


def test_contract() -> None:
    check_solver(FISTA())
    check_solver(FISTA(step=100.0))


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_scikit_learns_elastic_net(ratio: float, intercept: bool, positive: bool) -> None:
    penalty = ElasticNet(0.3 * ratio, 0.3 * (1 - ratio), positive)
    example = regression(L1(0.3, positive) if ratio == 1 else penalty, intercept)
    result, _ = run(FISTA(), example, Stop(tol=1e-12, max_iter=5000))
    X, y = example.rows.X, example.rows.y
    reference = SkElasticNet(
        alpha=0.3, l1_ratio=ratio, fit_intercept=intercept, positive=positive, tol=1e-14, max_iter=10**6
    ).fit(X, y)
    assert result.outcome in ("converged", "stalled")
    assert np.allclose(result.w[:8], reference.coef_, rtol=0, atol=1e-5)
    assert np.array_equal(result.w[:8] == 0, reference.coef_ == 0)
    best = np.append(reference.coef_, reference.intercept_)[: len(result.w)]
    assert objective(example, result.w) <= objective(example, best) * (1 + 1e-10)


def test_scikit_learns_lasso_of_two_targets() -> None:
    example = regression(L1(0.3))
    y = np.stack([example.rows.y, -2 * example.rows.X.toarray()[:, 2]], axis=1)
    both = Example("two", replace(example.problem, model=Linear(8, 2)), replace(example.rows, y=y))
    result, _ = run(FISTA(), both, Stop(tol=1e-12, max_iter=5000))
    reference = Lasso(alpha=0.3, tol=1e-14, max_iter=10**6).fit(example.rows.X, y)
    assert np.allclose(both.problem.model.coefficients(result.w), reference.coef_, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("intercept", [False, True])
def test_scikit_learns_logistic_regression(intercept: bool) -> None:
    C, strength = 0.1, 1 / (0.1 * 120)
    example = classification(L1(strength), intercept)
    result, _ = run(FISTA(), example, Stop(tol=1e-11, max_iter=5000))
    reference = LogisticRegression(
        l1_ratio=1.0, C=C, solver="saga", tol=1e-10, max_iter=10**6, fit_intercept=intercept, random_state=0
    ).fit(example.rows.X, example.rows.y)
    best = np.append(reference.coef_[0], reference.intercept_)[: len(result.w)]
    assert objective(example, result.w) <= objective(example, best) * (1 + 1e-9)
    assert np.array_equal(result.w[:8] == 0, reference.coef_[0] == 0)


def test_smooth_penalties_too() -> None:
    example = classification(L2(0.01))
    result, _ = run(FISTA(), example, Stop(tol=1e-10, max_iter=5000))
    assert result.outcome == "converged"
    engine = Serial(ArraySource.of(example.rows, 1000))
    _, g = engine.sweep([Ask(example.problem, Gradient(result.w))])[0]
    assert np.abs(g).max() < 1e-5


def test_intercepts_are_left_alone() -> None:
    """By scalar strengths, and by signs."""
    example = regression(L1(1e6, positive=True))
    assert example.rows.y is not None
    rows = replace(example.rows, y=example.rows.y - 100)
    result, _ = run(FISTA(), Example("", example.problem, rows), Stop(tol=1e-12, max_iter=500))
    assert not result.w[:-1].any()
    assert np.isclose(result.w[-1], rows.y.mean(), rtol=1e-6)


@pytest.mark.parametrize("make", [regression, classification])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("penalty", [L1(0.02), ElasticNet(0.01, 0.01), L2(0.01)], ids=repr)
def test_gaps_are_honest(make: Any, intercept: bool, penalty: Penalty) -> None:
    """Against the minimum, at three tolerances."""
    example = make(penalty, intercept)
    least = objective(example, run(FISTA(), example, Stop(tol=1e-13, max_iter=10000))[0].w)
    for tol in (1e-2, 1e-4, 1e-6):
        result, _ = run(FISTA(), example, Stop(tol, max_iter=5000))
        f = objective(example, result.w)
        assert result.outcome == "converged"
        assert f - least <= 3 * tol * f


# -- scripts without data -----------------------------------------------------------------------


class Toy:
    """An engine without data: ``sum_j curves_j (w_j - 1)**2 / 2`` and the penalty; it writes down what it was
    asked."""

    nbytes = 8

    def __init__(self, *curves: float) -> None:
        self.curves, self.script = np.array(curves), []

    def sweep(self, asks: Sequence[Ask]) -> list[Any]:
        self.script.append("+".join(type(ask.query).__name__ for ask in asks))
        return [self.answer(ask.problem, ask.query) for ask in asks]

    def answer(self, problem: Problem, query: Any) -> tuple[Any, ...]:
        w = query.w
        f = float(self.curves @ (w - 1) ** 2) / 2 + problem.penalty_value(w)
        g = self.curves * (w - 1) + problem.penalty_gradient(w)
        if isinstance(query, Curvature):
            return f, g, np.diag(self.curves + problem.penalty_hessian(w))
        return f, g


def script(solver: FISTA, toy: Toy, penalty: Penalty, stop: Stop) -> tuple[list[str], Result]:
    d = len(toy.curves)
    problem = Problem(Squared(), Linear(d, intercept=False), penalty)
    (result,) = together([loop(solver, problem, np.zeros(d), stop)], [Meter()], toy)
    return toy.script, result


def test_one_sweep_an_iteration() -> None:
    asked, result = script(FISTA(), Toy(1.0, 8.0, 0.5), L1(0.1), Stop(1e-10, 1000))
    assert result.outcome == "converged"
    assert asked[:3] == ["Gradient", "Gradient", "Gradient"]  # the start, the probe, a step without momentum
    assert "Gradient+Gradient" in asked
    assert len(asked) <= 2 + 1.3 * result.n_iter
    assert np.allclose(result.w, 1 - 0.1 / np.array([1.0, 8.0, 0.5]), rtol=0, atol=1e-4)


def test_it_is_beck_and_teboulles_recurrence() -> None:
    """With a step that is right, before any restart."""
    a = np.array([1.0, 0.01])
    toy = Toy(*a)
    _, result = script(FISTA(step=1.0), toy, L1(0.001), Stop(0, 8))
    w = y = np.zeros(2)
    theta = 1.0
    for _ in range(8):
        u = y - a * (y - 1)
        new = u - np.clip(u, -0.001, 0.001)
        later = (1 + np.sqrt(1 + 4 * theta**2)) / 2
        w, y, theta = new, new + (theta - 1) / later * (new - w), later
    assert np.allclose(result.w, w, rtol=1e-12)
    assert toy.script == ["Gradient"] * 2 + ["Gradient+Gradient"] * 7


def test_a_step_too_long_is_shortened() -> None:
    asked, result = script(FISTA(step=1e6), Toy(1.0, 2.0), L1(0.1), Stop(1e-10, 200))
    assert result.outcome == "converged"
    assert len(asked) < 20 + 1.3 * result.n_iter


def test_a_solution_costs_the_first_sweep_and_the_probe() -> None:
    asked, result = script(FISTA(), Toy(1.0, 2.0), L1(5.0), Stop(1e-6, 50))
    assert asked == ["Gradient", "Gradient"]
    assert (result.outcome, result.n_iter) == ("converged", 0)
    assert not result.w.any()


def test_overflow_is_no_end() -> None:
    """Counts of large features: exp overflows at the first extrapolations."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 3)) * np.array([1.0, 5.0, 20.0])
    y = rng.poisson(np.exp(X @ np.array([0.3, 0.1, 0.05])))
    example = Example("counts", Problem(Poisson(), Linear(3), L1(0.01)), Rows(X, y.astype(float), None, 0))
    result, _ = run(FISTA(), example, Stop(tol=1e-8, max_iter=3000))
    assert result.outcome == "converged"
    engine = Serial(ArraySource.of(example.rows, 1000))
    _, g = engine.sweep([Ask(example.problem, Gradient(result.w))])[0]
    assert np.abs(downhill(example.problem, result.w, g)).max() < 1e-2


def test_needs_and_settings() -> None:
    with pytest.raises(ValueError, match="FISTA needs a smooth loss"):
        FISTA().check(Problem(Hinge(), Linear(1), L1(1.0)))
    FISTA().check(Problem(Logistic(), Linear(1), L1(1.0)))
    assert not FISTA(step=1.0).fixes_step
    for step in (0.0, -1.0, np.nan, True, "auto"):
        with pytest.raises(ValueError, match="FISTA: expected step > 0 or None"):
            FISTA(step=step)
