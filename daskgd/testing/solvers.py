"""Checks of solvers: that they reach the minimum, and take the same path when killed and resumed."""

from __future__ import annotations

import pickle
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from daskgd.engines.serial import Serial
from daskgd.problems import Problem
from daskgd.queries import Ask, Gradient
from daskgd.rows.features import Dense, prepare
from daskgd.rows.layout import Shape
from daskgd.rows.tiles import Rows
from daskgd.solvers import (
    ADMM,
    FISTA,
    GIANT,
    LBFGS,
    SGD,
    Adam,
    AveragedSGD,
    GradientDescent,
    Gram,
    LocalGD,
    LocalSGD,
    Newton,
    NewtonCG,
    NewtonSchur,
    PreconditionedLBFGS,
    ProximalNewton,
    Solver,
    SubsampledNewton,
)
from daskgd.solvers.base import LocalQuery
from daskgd.testing.laws import (
    ArraySource,
    Example,
    examples,
    hard_examples,
    require,
    same,
    sparse_rows,
    start,
    thin_rows,
)
from daskgd.training.journal import Journal, ReplayError, digest
from daskgd.training.loop import Fit, Meter, Result, Stop, loop
from daskgd.training.together import answer_local_queries, together

Array = NDArray[Any]

SOLVERS: tuple[Solver, ...] = (
    GradientDescent(step=0.3),
    GradientDescent(step=0.1, momentum=0.8),
    GradientDescent(step=0.1, momentum=0.8, nesterov=True),
    GradientDescent(),
    GradientDescent(step=1.0, line_search=True),
    LBFGS(),
    LBFGS(memory=2),
    Newton(),
    NewtonCG(),
    NewtonSchur(),
    NewtonSchur(rows_per_parameter=8, sample_bytes=1),
    SubsampledNewton(),
    SubsampledNewton(rows_per_parameter=8, sample_bytes=1),
    ProximalNewton(),
    ProximalNewton(rows_per_parameter=12, sample_bytes=1, seed=3),
    PreconditionedLBFGS(),
    PreconditionedLBFGS(sample_bytes=1, seed=3),
    FISTA(),
    Gram(),
    LocalGD(step=0.2, local_steps=3),
    LocalGD(step=0.05, local_steps=4, batch_size=5, seed=1),
    LocalSGD(step=0.3, batch_size=8),
    LocalSGD(step=0.05, inner="momentum", batch_size=8, sync_every=2, outer="nesterov", sample_bytes=1),
    LocalSGD(step=0.05, inner="adam", batch_size=8, schedule="cosine", control=True, sample_bytes=0),
    LocalSGD(step=0.2, inner="adagrad", batch_size=4, proximal=0.1, wire="int8", sample_bytes=0),
    LocalSGD(step=0.1, batch_size=4, schedule="constant", sync_every=0.5, control=False, sample_bytes=0),
    LocalSGD(
        step=0.05,
        inner="adam",
        batch_size=8,
        schedule="constant",
        shuffle=False,
        keep_moments=True,
        epsilon_hat=True,
        control=False,
        sample_bytes=0,
    ),
    ADMM(),
    ADMM(sample_bytes=1),
    ADMM(rho=0.3, newton_steps=2, sample_bytes=0),
    GIANT(),
    GIANT(sample_bytes=1, seed=2),
    GIANT(sample_bytes=0),
    AveragedSGD(),
    AveragedSGD(step=0.02, decay=0.2, batch_size=4, average=False, shuffle=False, seed=2),
    SGD(step=0.05, steps=3),
    SGD(step=0.3, steps=4, momentum=0.0, accumulate=2, schedule="invscaling", wire="float16"),
    Adam(step=0.1, steps=2, schedule="cosine"),
)
"""Every solver of daskgd."""


def check_solver(solver: Solver, gap: float = 1e-6) -> None:
    """Check that a solver keeps its contract, on a table of small problems: those its `check` accepts.

    It reaches the minimum that scipy finds, to a relative `gap`, with an outcome of "converged" (if it is
    `approximate`, or the loss is not smooth: it gets below the start); its State holds arrays and scalars;
    settings make a round trip and unknown ones are refused; killed at any sweep and resumed from the
    journal, it ends with the same numbers and repeats no sweep; a journal that does not fit is refused. On
    sparse rows it takes the steps that it takes on the same rows as dense ones. With
    one local step, if it has `local_steps`, it equals gradient descent.

    Examples
    --------
    >>> from daskgd.solvers import LBFGS
    >>> check_solver(LBFGS(memory=5))
    """
    name = repr(solver)
    _check_settings(solver)
    table = [example for example in (*examples(), *hard_examples()) if _accepts(solver, example.problem)]
    require(table, f"{name}: refuses every problem of the table")
    for example in table:
        _check_minimum(solver, example, gap)
    for example in table[:1] + table[-1:]:
        _check_replay(solver, example)
    if "local_steps" in solver.get_params():
        _check_one_local_step(solver, table[0])
    for example in table[::2]:
        _check_sparse(solver, example)


def run(
    solver: Solver, example: Example, stop: Stop, blocks: int = 4, **options: Any
) -> tuple[Result, float]:
    """Fit the example with Serial, in some blocks, a partition each; the result and the number of sweeps.

    >>> from daskgd.testing import examples
    >>> run(LBFGS(), examples()[0], Stop(tol=1e-6, max_iter=50))[0].outcome
    'converged'
    """
    meter, engine = Meter(), _engine(example.rows, blocks)
    answers = first_sweep_answers(solver, example, engine)
    fit = loop(solver, example.problem, start(example.problem), stop, first_sweep_answers=answers, **options)
    return together([fit], [meter], engine)[0], meter.sweeps


def first_sweep_answers(solver: Solver, example: Example, engine: Serial) -> list[Any]:
    """The answers to what a solver has ride on the survey; `run` does not count that sweep."""
    X = example.rows.X
    shape = Shape(len(X), X.shape[1], X.dtype.itemsize, example.problem.labels is not None)
    queries = solver.first_sweep_queries(shape)
    return engine.sweep([Ask(None, query) for query in queries]) if queries else []


def reference(problem: Problem, rows: Rows) -> tuple[float, Array]:
    """The minimum ``(f, w)`` of a problem with a smooth loss, found with scipy in float64.

    From a formula of its own."""
    X, model = prepare(rows.X.toarray(), np.dtype(float)), problem.linear
    X = (X - (0 if model.center is None else model.center)) / (1 if model.scale is None else model.scale)
    y = rows.y if problem.labels is None else np.searchsorted(problem.labels, np.asarray(rows.y))
    s = np.ones(len(X)) if rows.sample_weight is None else rows.sample_weight
    if problem.class_weight is not None:
        s = s * problem.class_weight[y]
    targets = problem.loss.targets(np.asarray(y), model.outputs, X.dtype)
    A = np.hstack([X, np.ones((len(X), 1))]) if model.intercept else X

    def f(w: Array) -> tuple[float, Any]:
        W = w[: A.shape[1] * model.outputs].reshape(A.shape[1], model.outputs)
        z = A @ (W[:, 0] if model.outputs == 1 else W)
        if model.scales:
            z = np.stack([z, np.full(len(z), w[-1])], axis=1)
        value, slope = problem.loss.value(z, targets), problem.loss.gradient(z, targets)
        slope = s[:, None] * slope.reshape(len(X), -1) / s.sum()
        g = A.T @ slope[:, : model.outputs]
        bare = W.copy()
        bare[X.shape[1] :] = 0
        smooth = problem.penalty.value(bare.ravel()) - problem.penalty.l1(bare.ravel()) @ np.abs(bare.ravel())
        pull = problem.penalty.gradient(bare.ravel())
        extra = slope[:, model.outputs :].sum(axis=0)
        return float(s @ value / s.sum() + smooth), np.append(g.ravel() + pull, extra)

    if problem.penalty.smooth:
        low: list[tuple[float | None, None]] = [(None, None)] * model.size
        if model.scales:
            low[-1] = (1e-6, None)
        found = minimize(
            f, start(problem), jac=True, bounds=low, method="L-BFGS-B", options={"gtol": 1e-10, "ftol": 1e-16}
        )
        return float(found.fun), found.x
    # Kinks, as differences of two parts that are not negative.
    kinks = np.zeros(model.size)
    kinks[model.penalised] = problem.penalty.l1(np.ones(model.size))[model.penalised]
    negative = (0, 0) if problem.penalty.positive else (0, None)
    bounds = [(0, None)] * model.size + [negative if p else (0, None) for p in model.penalised]

    def halves(u: Array) -> tuple[float, Array]:
        value, g = f(u[: model.size] - u[model.size :])
        return value + float(kinks @ (u[: model.size] + u[model.size :])), np.append(g + kinks, kinks - g)

    found = minimize(
        halves,
        np.zeros(2 * model.size),
        jac=True,
        bounds=bounds,
        method="L-BFGS-B",
        options={"gtol": 1e-10, "ftol": 1e-16, "maxiter": 10**5, "maxfun": 10**6},
    )
    return float(found.fun), found.x[: model.size] - found.x[model.size :]


def _accepts(solver: Solver, problem: Problem) -> bool:
    try:
        solver.check(problem)
    except ValueError:
        return False
    return True


def _copy(solver: Solver, **changed: Any) -> Solver:
    return type(solver)(**{**solver.get_params(), **changed})


def _engine(rows: Rows, blocks: int = 4) -> Serial:
    return Serial(ArraySource.of(rows, -(-len(rows) // blocks)))


def _check_settings(solver: Solver) -> None:
    name, settings = type(solver).__name__, solver.get_params()
    twin = _copy(solver)
    require(
        twin.get_params() == settings
        and twin.set_params(**settings) is twin
        and twin.get_params() == settings,
        f"{name}: its settings {settings} do not survive a copy",
    )
    require(pickle.loads(pickle.dumps(solver)).get_params() == settings, f"{name}: does not pickle")
    try:
        twin.set_params(no_such_setting=1)
    except ValueError as error:
        require("no_such_setting" in str(error), f"{name}: refuses an unknown setting without naming it")
    else:
        raise AssertionError(f"{name}: expected ValueError for an unknown setting, it was accepted")


def _check_minimum(solver: Solver, example: Example, gap: float) -> None:
    where = f"{solver!r} on {example.name}"
    smooth = example.problem.loss.smooth
    approximate = solver.approximate or not smooth
    states: list[Any] = []
    watched = _Watching(solver, states)
    stop = Stop(tol=0.0, max_iter=30) if approximate else Stop(tol=gap / 100, max_iter=5000)
    result, _ = run(watched, example, stop)
    for state in states:
        for field in fields(state):
            value = getattr(state, field.name)
            plain = value is None or isinstance(value, np.ndarray | np.generic | float | int | bool | Dense)
            require(plain, f"{where}: State.{field.name} is a {type(value).__name__}, no array or scalar")
    f = _objective(example, result.w)
    if approximate:
        require(
            f < _objective(example, start(example.problem)), f"{where}: ends at {f}, no better than it began"
        )
        return
    require(result.outcome == "converged", f"{where}: expected to converge, got {result.outcome}")
    least, _ = reference(example.problem, example.rows)
    require(
        f - least <= gap * least,
        f"{where}: expected the minimum {least:.10g} to a relative gap of {gap:g}, got {f:.10g}",
    )


def _objective(example: Example, w: Array) -> float:
    return float(_engine(example.rows).sweep([Ask(example.problem, Gradient(w))])[0][0])


class _Watching(Solver):
    """A solver that does what another does, and keeps its states."""

    def __init__(self, solver: Solver, states: list[Any]) -> None:
        self.solver, self.states = solver, states

    def check(self, problem: Problem) -> None:
        self.solver.check(problem)

    def first_sweep_queries(self, shape: Shape) -> tuple[Any, ...]:
        return self.solver.first_sweep_queries(shape)

    def start(self, problem: Problem, w: Array, *first_sweep_answers: Any) -> Any:
        state = yield from self.solver.start(problem, w, *first_sweep_answers)
        self.states.append(state)
        require(
            is_dataclass(state), f"{self.solver!r}: expected a State that is a dataclass, got {state!r:.80}"
        )
        return state

    def iterate(self, problem: Problem, state: Any) -> Any:
        kept = pickle.dumps(state)
        new = yield from self.solver.iterate(problem, state)
        require(pickle.dumps(state) == kept, f"{self.solver!r}: iterate changes the state it was given")
        self.states.append(new)
        return new


def _check_replay(solver: Solver, example: Example) -> None:
    """Kill before and after every sweep's answer reaches the journal; resume each time."""
    where, problem = f"{solver!r} on {example.name}", example.problem
    engine, stop = _engine(example.rows), Stop(tol=0.0, max_iter=6)
    answers = first_sweep_answers(solver, example, engine)

    def fit(journal: Journal) -> Fit:
        return loop(
            _copy(solver), problem, start(problem), stop, journal=journal, first_sweep_answers=answers
        )

    whole = Journal()
    expected, sweeps = _drive(fit(whole), engine, whole)
    for k, (saved, entry) in enumerate(sweeps):
        for known in ([], [entry]):
            journal, memory = pickle.loads(saved)
            journal.entries += [pair[0] for pair in known]
            engine.memory = dict(known[0][1] if known else memory)
            result, more = _drive(fit(journal), engine, journal)
            require(
                len(more) == len(sweeps) - k - len(known),
                f"{where}: killed at sweep {k} of {len(sweeps)} and resumed, it took {len(more)} more",
            )
            require(
                same(journal.state, whole.state) and same(result.w, expected.w),
                f"{where}: killed at sweep {k} and resumed, it ends at {result.w}, not at {expected.w}",
            )
        stale, _ = pickle.loads(saved)
        if stale.state is None:
            continue
        stale.entries.append(entry[0])
        points = {name: getattr(stale.state, name, None) for name in ("w", "at", "z")}
        moved = {name: point + 1 for name, point in points.items() if point is not None}
        stale.state = replace(stale.state, **moved)
        try:
            next(fit(stale))
        except ReplayError:
            continue
        raise AssertionError(f"{where}: replays answers that belong to another state")


def _check_sparse(solver: Solver, example: Example) -> None:
    thin, stop = example._replace(rows=thin_rows(example.rows)), Stop(tol=0.0, max_iter=3)
    few = thin._replace(rows=sparse_rows(thin.rows))
    expected, found = (run(_copy(solver), one, stop)[0].w for one in (thin, few))
    where = f"{solver!r} on {example.name}"
    # Solvers that begin at a sample's solution stop there at some gap: parameters are known to its root.
    near = np.abs(found - expected).max() <= 1e-8 * (1 + np.abs(expected).max())
    if example.problem.model.outputs > 1:  # where rounding may shift what no margin's difference sees
        f, least = _objective(thin, found), _objective(thin, expected)
        near = abs(f - least) <= 1e-10 * least
    require(near, f"{where}: ends at {found} on sparse rows, at {expected} on the same rows as dense ones")


Sweep = tuple[bytes, tuple[tuple[str, list[Any]], Any]]
"""The journal and the partitions' memory before a sweep; the entry that the sweep adds, and the memory
after."""


def _drive(fit: Fit, engine: Serial, journal: Journal) -> tuple[Result, list[Sweep]]:
    sweeps: list[Sweep] = []
    answers: list[Any] | None = None
    while True:
        try:
            asks = fit.send(answers)  # type: ignore[arg-type]
        except StopIteration as end:
            return end.value, sweeps
        saved = pickle.dumps((journal, engine.memory))
        apart = isinstance(asks[0].query, LocalQuery)
        answers = answer_local_queries([(None, asks)])[0] if apart else engine.sweep(asks)
        sweeps.append((saved, ((digest([ask.query for ask in asks]), answers), dict(engine.memory))))


def _check_one_local_step(solver: Solver, example: Example) -> None:
    local = _copy(solver, local_steps=1, step=0.1, batch_size=None)
    stop = Stop(tol=0.0, max_iter=8)
    got, _ = run(local, example, stop)
    expected, _ = run(GradientDescent(step=0.1), example, stop)
    require(
        np.allclose(got.w, expected.w, rtol=1e-12, atol=1e-12),
        f"{local!r}: with one local step, expected gradient descent's {expected.w}, got {got.w}",
    )
