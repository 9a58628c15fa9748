"""Solvers keep their contract; and the questions they ask, without data."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from daskgd.losses import Hinge, Logistic, Squared
from daskgd.models import Linear
from daskgd.penalties import L1, L2
from daskgd.problems import Problem
from daskgd.queries import Ask, Curvature, Gradient, Line, Local
from daskgd.solvers import (
    ADMM,
    FISTA,
    GIANT,
    LBFGS,
    NAMES,
    SGD,
    AveragedSGD,
    GradientDescent,
    LocalGD,
    LocalSGD,
    Newton,
    NewtonCG,
    PreconditionedLBFGS,
    ProximalNewton,
    Solver,
    SubsampledNewton,
)
from daskgd.solvers.lbfgs import remember, two_loop
from daskgd.solvers.line_search import search, wolfe
from daskgd.solvers.local_gd import LocalSteps
from daskgd.testing import SOLVERS, check_solver, examples, run
from daskgd.training.loop import Meter, Result, Stop, loop
from daskgd.training.together import together
from tests.tiers import slow_but

OTHERS = {
    GradientDescent: ("step=0.3", "nesterov=False, line_search=True", "momentum=0.8, nesterov=False"),
    LBFGS: ("memory=10",),
    PreconditionedLBFGS: ("sample_bytes=64000000",),
    LocalGD: ("batch_size=None",),
    LocalSGD: ("step=0.3", "step=0.1", "epsilon_hat=True", "inner='adagrad'"),
    ADMM: ("rho=0.3", "sample_bytes=16000000"),
    GIANT: ("sample_bytes=16000000", "sample_bytes=1,"),
    AveragedSGD: ("step=None",),
    SGD: ("step=0.05",),
}
"""Settings of solvers that are in the table with settings that have more to them: the default tier leaves
their contracts out."""


def is_one_of_the_others(solver: Solver) -> bool:
    return any(setting in repr(solver) for setting in OTHERS.get(type(solver), ()))


@pytest.mark.parametrize(
    "solver", slow_but(SOLVERS, *itertools.filterfalse(is_one_of_the_others, SOLVERS)), ids=repr
)
def test_contract(solver: Solver) -> None:
    check_solver(solver)


def test_every_named_solver_is_in_the_table() -> None:
    assert set(NAMES.values()) == {type(solver) for solver in SOLVERS}


# -- scripts without data -----------------------------------------------------------------------

Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]


@dataclass
class Toy:
    """An engine without data: it answers from a formula and writes down what it was asked."""

    f: Objective
    script: list[str]
    nbytes: int = 8

    def sweep(self, asks: Sequence[Ask]) -> list[Any]:
        self.script.append("+".join(type(ask.query).__name__ for ask in asks))
        return [self.answer(ask.query) for ask in asks]

    def answer(self, query: Any) -> Any:
        if isinstance(query, Gradient):
            return self.f(query.w)
        if isinstance(query, Line):
            at = [self.f(query.w + t * query.d) for t in query.steps]
            return np.array([f for f, _ in at]), np.array([g @ query.d for _, g in at])
        if isinstance(query, Curvature):
            f, g = self.f(query.w)
            return f, g, np.array([self.f(query.w + step)[1] - g for step in np.eye(len(g))])
        assert isinstance(query, Local)
        f, g = self.f(query.w)
        return f, g, -0.1 * g


def quadratic(*curvatures: float) -> Objective:
    a = np.array(curvatures)
    return lambda w: (float(a @ (w - 1) ** 2 / 2), a * (w - 1))


def script(
    solver: Solver, f: Objective, stop: Stop, start: tuple[float, ...] = (0.0, 0.0)
) -> tuple[list[str], Result]:
    toy = Toy(f, [])
    problem = Problem(Squared(), Linear(1), L2())
    (result,) = together([loop(solver, problem, np.array(start), stop)], [Meter()], toy)
    return toy.script, result


def test_gradient_descent_asks_one_gradient_an_iteration() -> None:
    asked, result = script(GradientDescent(step=0.5), quadratic(1.0, 1.0), Stop(0, 7))
    assert asked == ["Gradient"] * 8
    assert np.allclose(result.w, 1 - 0.5**7, rtol=1e-15)


def test_momentum_is_polyaks_and_nesterovs() -> None:
    """Against the recurrences as the papers write them."""
    a, eta, mu = np.array([1.0, 10.0]), 0.05, 0.9
    _, result = script(GradientDescent(step=eta, momentum=mu), quadratic(*a), Stop(0, 9))
    w, before = np.zeros(2), np.zeros(2)
    for _ in range(9):  # Polyak: w + mu (w - w_before) - eta g(w)
        w, before = w + mu * (w - before) - eta * a * (w - 1), w
    assert np.allclose(result.w, w, rtol=1e-13)
    _, result = script(GradientDescent(step=eta, momentum=mu, nesterov=True), quadratic(*a), Stop(0, 9))
    theta, v = np.zeros(2), np.zeros(2)
    for _ in range(9):  # Nesterov: the gradient at theta + mu v
        v = mu * v - eta * a * (theta + mu * v - 1)
        theta = theta + v
    assert np.allclose(result.w, theta + mu * v, rtol=1e-13)


def test_searched_descent_looks_far_once_and_bets_afterwards() -> None:
    asked, result = script(GradientDescent(), quadratic(1.0, 8.0), Stop(1e-12, 200))
    assert asked[:3] == ["Gradient", "Line", "Gradient"]
    assert "Line" not in asked[3:]
    assert result.outcome == "converged"
    assert np.allclose(result.w, 1, rtol=1e-5)
    # The trial step is nearly always taken: hardly more sweeps than iterations.
    assert len(asked) <= 2 + 1.3 * result.n_iter


def test_searched_descent_shortens_a_step_that_is_too_long() -> None:
    """The trial of 10 overshoots; the cubic through both ends of a quadratic is the quadratic."""
    asked, result = script(GradientDescent(step=10.0, line_search=True), quadratic(1.0, 1.0), Stop(0, 1))
    assert asked == ["Gradient", "Gradient", "Gradient"]
    assert np.allclose(result.w, 1, rtol=1e-12)


def test_lbfgs_asks_one_gradient_an_iteration() -> None:
    """The first looks along the whole line; then unit steps are taken."""
    asked, result = script(LBFGS(), quadratic(1.0, 3.0, 10.0), Stop(0, 7), start=(0.0, 0.0, 0.0))
    assert asked == ["Gradient", "Line", "Gradient", *["Gradient"] * 6]
    assert np.allclose(result.w, 1, atol=1e-3)


def test_lbfgs_pays_more_only_where_the_unit_step_fails() -> None:
    def exponential(w: np.ndarray) -> tuple[float, np.ndarray]:
        """Steep on one side, flat on the other: secants mislead."""
        e = np.exp(np.minimum(w, 300))
        return float(np.sum(e - w)), e - 1

    asked, result = script(LBFGS(), exponential, Stop(1e-12, 50), start=(-20.0, 5.0))
    assert result.outcome == "converged"
    assert np.allclose(result.w, 0, atol=1e-5)
    assert asked.count("Line") > 1  # a unit step did fail, and so did the cubic's
    assert len(asked) <= 3 + 3 * result.n_iter  # at most: trial, cubic, line, the best of the line


def test_a_line_that_nowhere_goes_down_stalls() -> None:
    """A gradient that is wrong, as rounding makes it near the floor of the data's precision."""

    def uphill(w: np.ndarray) -> tuple[float, np.ndarray]:
        f, g = quadratic(1.0, 2.0)(w)
        return f, -g

    for solver in (LBFGS(), GradientDescent()):
        asked, result = script(solver, uphill, Stop(1e-6, 50))
        assert asked == ["Gradient", "Line", "Curvature"], solver  # the last measures how far it is
        assert (result.outcome, result.n_iter) == ("stalled", 1), solver
        assert not result.w.any(), solver


def test_search_costs_what_its_outcome_does() -> None:
    """Trial taken: a sweep. Refused: the cubic's proposal. Refused again: a line, and the best step on it."""
    f, g = quadratic(1.0)(np.zeros(1))

    def sweeps(trial: float | None, accept: Callable[[float, float, float], bool]) -> tuple[list[str], Any]:
        toy = Toy(quadratic(1.0), [])
        steps = search(np.zeros(1), -g, f, -float(g @ g), trial, accept)
        answers: Any = None
        while True:
            try:
                queries = steps.send(answers)
            except StopIteration as end:
                return toy.script, end.value
            answers = toy.sweep([Ask(None, query) for query in queries])

    def lower(t: float, value: float, slope: float) -> bool:
        return value < f

    asked, (t, value, gradient) = sweeps(0.5, lower)
    assert (asked, t) == (["Gradient"], 0.5)
    assert (value, gradient.tolist()) == (0.125, [-0.5])
    asked, (t, value, gradient) = sweeps(4.0, lower)
    assert asked == ["Gradient", "Gradient"]
    assert np.isclose(t, 1.0, rtol=1e-12)
    assert value < 1e-20
    assert np.abs(gradient) < 1e-10
    asked, (t, _, _) = sweeps(4.0, lambda t, value, slope: t == 0.4)
    assert (asked, t) == (["Gradient", "Gradient", "Line", "Gradient"], 0.4)
    asked, (t, _, _) = sweeps(4.0, lambda t, value, slope: False)
    assert (asked, t) == (["Gradient", "Gradient", "Line", "Gradient"], 1.0)  # merely the lowest
    asked, (t, _, _) = sweeps(None, lower)
    assert (asked, t) == (["Line", "Gradient"], 1.0)


def test_lbfgs_two_loop_is_the_dense_recursion(rng: np.random.Generator) -> None:
    """Algorithm 7.4 against equation (7.16), products of dense matrices."""
    A = rng.standard_normal((5, 5))
    A = A @ A.T + np.eye(5)
    S = rng.standard_normal((3, 5))
    Y, g = S @ A, rng.standard_normal(5)
    H = np.eye(5) * (S[-1] @ Y[-1]) / (Y[-1] @ Y[-1])
    for s, y in zip(S, Y, strict=True):
        V = np.eye(5) - np.outer(y, s) / (s @ y)
        H = V.T @ H @ V + np.outer(s, s) / (s @ y)
    assert np.allclose(two_loop(g, S, Y), H @ g, rtol=1e-10)
    assert np.array_equal(two_loop(g, S[:0], Y[:0]), g)


def test_lbfgs_remembers_the_last_pairs_of_positive_curvature() -> None:
    S = Y = np.zeros((0, 2))
    for i in range(1, 6):
        pair = np.array([float(i), 1.0])
        S, Y = remember(S, Y, pair, pair, memory=3)
    assert S[:, 0].tolist() == [3.0, 4.0, 5.0]
    assert remember(S, Y, np.array([1.0, 0.0]), np.array([-1.0, 0.0]), 3)[0] is S
    assert remember(S, Y, np.array([1.0, 0.0]), np.array([1e-12, 1.0]), 3)[0] is S


def test_wolfe() -> None:
    # f(t) = (t - 1)**2 from f(0) = 1 with slope -2
    def value(t: float) -> float:
        return (t - 1) ** 2

    assert wolfe(1, -2, 1.0, value(1.0), 0.0)
    assert not wolfe(1, -2, 2.5, value(2.5), 3.0)  # higher
    assert not wolfe(1, -2, 0.01, value(0.01), -1.98)  # still as steep


def test_local_gd_asks_one_local_a_round_and_nothing_first() -> None:
    asked, result = script(LocalGD(step=0.1), quadratic(1.0, 1.0), Stop(0, 5))
    assert asked == ["Local"] * 5
    assert np.allclose(result.w, 1 - 0.9**5, rtol=1e-14)


def test_local_gd_with_one_partition_takes_its_steps_in_one_sweep() -> None:
    """One partition that holds all rows: five local steps are five steps of gradient descent."""
    example, stop = examples()[0], Stop(0, 3)
    local, sweeps = run(LocalGD(step=0.1, local_steps=5), example, stop, blocks=1)
    plain, plain_sweeps = run(GradientDescent(step=0.1), example, replace(stop, max_iter=15), blocks=1)
    assert np.allclose(local.w, plain.w, rtol=1e-12)
    assert (sweeps, plain_sweeps) == (3, 16)


def test_local_gd_batches_follow_the_seed() -> None:
    example, stop = examples()[2], Stop(0, 3)

    def fit(seed: int | None) -> np.ndarray:
        return run(LocalGD(step=0.1, local_steps=4, batch_size=7, seed=seed), example, stop)[0].w

    assert np.array_equal(fit(3), fit(3))
    assert not np.array_equal(fit(3), fit(4))
    rows, w = example.rows, np.ones(4)
    twins = [replace(rows, start=start) for start in (0, 0, 500)]  # partitions of equal rows
    work = [LocalSteps(0.1, 3, 7, 0, 0)(example.problem, twin, w, w, None)[0] for twin in twins]
    assert np.array_equal(work[0], work[1])
    assert not np.array_equal(work[0], work[2])
    later = LocalSteps(0.1, 3, 7, 0, round=1)(example.problem, rows, w, w, None)[0]
    assert not np.array_equal(work[0], later)
    whole = LocalGD(step=0.1, local_steps=4, batch_size=10**6)
    full = LocalGD(step=0.1, local_steps=4)
    assert np.array_equal(run(whole, example, stop)[0].w, run(full, example, stop)[0].w)


def test_a_solution_costs_the_first_sweep_only() -> None:
    for solver in (LBFGS(), GradientDescent()):
        asked, result = script(solver, quadratic(1.0, 2.0), Stop(1e-6, 50), start=(1.0, 1.0))
        assert asked == ["Gradient"], solver
        assert result.outcome == "converged", solver
        assert result.n_iter <= 1


def test_gaps_are_honest() -> None:
    """The gap at the end against the true one, which a quadratic knows."""

    def f(w: np.ndarray) -> tuple[float, np.ndarray]:
        value, g = quadratic(1.0, 10.0)(w)
        return value + 1.0, g

    for solver in (LBFGS(), GradientDescent(), GradientDescent(step=0.05)):
        _, result = script(solver, f, Stop(1e-4, 10_000))
        true = (f(result.w)[0] - 1) / f(result.w)[0]
        assert result.outcome == "converged"
        assert true <= 2e-4, solver


# -- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: GradientDescent(step=0.0), "expected step > 0"),
        (lambda: GradientDescent(step=np.nan), "expected step > 0"),
        (lambda: GradientDescent(step=True), "expected step > 0"),
        (lambda: GradientDescent(momentum=1.0), r"expected momentum in \[0, 1\)"),
        (lambda: GradientDescent(step=0.1, nesterov=True), "needs momentum > 0"),
        (lambda: GradientDescent(momentum=0.5, nesterov=True), "needs a given step"),
        (lambda: GradientDescent(line_search=False), "needs a step"),
        (lambda: GradientDescent(line_search="yes"), "expected line_search"),
        (lambda: LBFGS(memory=0), "expected memory a whole number >= 1"),
        (lambda: LBFGS(memory=1.5), "expected memory"),
        (lambda: LocalGD(step=-1), "expected step > 0"),
        (lambda: LocalGD(local_steps=0), "expected local_steps"),
        (lambda: LocalGD(batch_size=0), "expected batch_size"),
        (lambda: LocalGD(seed=-1), "expected seed"),
        (lambda: LBFGS().set_params(memory=-1), "expected memory"),
        (lambda: GradientDescent(step=0.1).set_params(nesterov=True), "needs momentum"),
    ],
)
def test_settings_are_checked(make: Callable[[], Solver], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


def test_a_refused_setting_changes_nothing() -> None:
    solver = LocalGD(step=0.1)
    with pytest.raises(ValueError, match="local_steps"):
        solver.set_params(step=0.2, local_steps=-1)
    assert solver == LocalGD(step=0.1)


def test_needs_are_declared() -> None:
    hinge = Problem(Hinge(), Linear(1), L2())
    for solver in (LBFGS(), GradientDescent(), GradientDescent(step=1.0, line_search=True)):
        with pytest.raises(ValueError, match=r"needs a smooth loss; Hinge.*Use GradientDescent\(step="):
            next(loop(solver, hinge, np.zeros(2), Stop(0, 1)))
        solver.check(Problem(Logistic(), Linear(1), L2()))
    for solver in (GradientDescent(step=0.1), LocalGD()):
        solver.check(hinge)
    lasso = Problem(Logistic(), Linear(1), L1(0.1))
    for refused in (LBFGS(), GradientDescent(step=0.1), SubsampledNewton(), NewtonCG(), LocalGD()):
        with pytest.raises(ValueError, match=r"needs a smooth penalty; L1 is not. Use ProximalNewton"):
            refused.check(lasso)
    for accepted in (ProximalNewton(), FISTA(), Newton()):
        accepted.check(lasso)


# -- the check notices --------------------------------------------------------------------------


@dataclass(slots=True)
class Broken(GradientDescent):
    defect: str = ""

    def iterate(self, problem: Problem, state: Any) -> Any:
        if self.defect == "changes state":
            state.g[:] = 0
        if self.defect == "forgets" and np.random.default_rng().random() < 2:
            state = replace(state, w=state.w + 1e-9 * np.random.default_rng().random(len(state.w)))
        new = yield from GradientDescent.iterate(self, problem, state)
        if self.defect == "list":
            return replace(new, objective_history=list(new.objective_history))
        if self.defect == "optimist":
            return replace(new, gap=0.0)
        return new


@pytest.mark.parametrize(
    ("defect", "sentence"),
    [
        ("changes state", "changes the state"),
        ("forgets", "killed at sweep"),
        ("list", "no array or scalar"),
        ("optimist", "expected the minimum"),
    ],
)
def test_check_notices(defect: str, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_solver(Broken(step=0.3, defect=defect))
