"""The loop: when it stops and why, what it records, resuming, and sharing sweeps."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from daskgd.engines.serial import Serial
from daskgd.losses import Logistic, Squared
from daskgd.models import Linear
from daskgd.monitoring.history import KEYS, History
from daskgd.penalties import L2
from daskgd.problems import Problem
from daskgd.queries import LANES, Ask, Gradient, Gradients, Hessian, Line, Query, Survey
from daskgd.rows.tiles import Rows
from daskgd.solvers import LBFGS, GradientDescent, LocalGD, Solver, State
from daskgd.solvers.base import EvaluateInMemory, halved
from daskgd.testing import ArraySource, examples, run
from daskgd.training.journal import Journal, ReplayError, digest
from daskgd.training.loop import Meter, Result, Stop, loop
from daskgd.training.together import answer_local_queries, together

PROBLEM = Problem(Squared(), Linear(1), L2())
RIDGE = examples()[0]
TWELVE = Stop(0, 12)


@dataclass(slots=True)
class Scripted(Solver):
    """Goes through given states, a sweep each."""

    states: list[State]

    def start(self, problem: Problem, w: np.ndarray) -> Any:
        yield (Gradient(w),)
        return self.states[0]

    def iterate(self, problem: Problem, state: State) -> Any:
        yield (Gradient(state.w),)
        return self.states[next(i for i, s in enumerate(self.states) if s is state) + 1]


def state(f: float, gap: float = np.inf, stalled: bool = False) -> State:
    return State(np.array([f]), f, np.ones(1), gap, stalled)


class Counting:
    """An engine that answers nothing and counts sweeps and asks."""

    nbytes = 100

    def __init__(self) -> None:
        self.asked: list[list[Ask]] = []

    def sweep(self, asks: Sequence[Ask]) -> list[Any]:
        self.asked.append(list(asks))
        return [self.answer(ask.query) for ask in asks]

    def answer(self, query: Query) -> Any:
        if isinstance(query, Gradients):
            return [self.answer(one) for one in query.queries]
        return len(self.asked), query


def drive(solver: Solver, stop: Stop, **options: Any) -> Result:
    return together([loop(solver, PROBLEM, np.zeros(1), stop, **options)], [Meter()], Counting())[0]


# -- stopping -----------------------------------------------------------------------------------

DOWN = [state(1.0, 1e-1), state(0.5, 1e-2), state(0.25, 1e-4), state(0.2, 1e-6), state(0.2, 0.0)]


@pytest.mark.parametrize(
    ("states", "stop", "outcome", "n_iter", "w"),
    [
        (DOWN, Stop(1e-3, 99), "converged", 2, 0.25),
        (DOWN, Stop(0.2, 99), "converged", 0, 1.0),
        (DOWN, Stop(1e-3, 2), "converged", 2, 0.25),  # at the last iteration, too
        (DOWN, Stop(1e-3, 1), "budget_spent", 1, 0.5),
        (DOWN, Stop(0.0, 4), "budget_spent", 4, 0.2),  # a gap of 0 is no reason at tol=0
        (DOWN, Stop(1e-3, 99, baseline=2e5), "converged", 0, 1.0),  # 0.1 / (1e-3 * 2e5)
        ([state(1.0), state(0.9, stalled=True)], Stop(1e-3, 99), "stalled", 1, 0.9),
        ([state(1.0), state(0.9, 1e-9, stalled=True)], Stop(1e-3, 99), "converged", 1, 0.9),
        ([state(1.0), state(0.9, stalled=True), state(0.8)], Stop(0.0, 2), "budget_spent", 2, 0.8),
        ([state(1.0), state(0.5), state(np.nan)], Stop(1e-3, 99), "diverged", 2, 0.5),
        ([state(1.0), state(0.5), state(np.inf)], Stop(0.0, 99), "diverged", 2, 0.5),
        ([state(1.0), state(0.5), state(900.0), state(2e3)], Stop(1e-3, 99), "diverged", 3, 0.5),
        ([state(1.0), state(0.5), state(1e9), state(2e10)], Stop(0.0, 99), "diverged", 3, 0.5),  # asked for
        ([state(1e-3), state(900.0)], Stop(1e-3, 1, baseline=1.0), "budget_spent", 1, 900.0),
        ([state(1.0), State(np.array([np.nan]), 0.5, np.ones(1))], Stop(1e-3, 1), "diverged", 1, 1.0),
        ([state(np.nan), state(0.5), state(np.nan)], Stop(1e-3, 9), "diverged", 2, 0.5),
    ],
)
def test_outcomes(states: list[State], stop: Stop, outcome: str, n_iter: int, w: float) -> None:
    result = drive(Scripted(states), stop)
    assert (result.outcome, result.n_iter, float(result.w[0])) == (outcome, n_iter, w)


def test_the_gap_is_relative_to_the_objective_or_the_scale_of_the_problem() -> None:
    assert Stop(0, 1).relative(state(0.5, 0.1)) == 0.2
    assert Stop(0, 1, baseline=1e4).relative(state(0.5, 0.1)) == 0.01
    assert Stop(0, 1).relative(state(0.0, 0.0)) == 0.0
    assert Stop(0, 1).relative(state(0.0, 0.1)) == np.inf


@pytest.mark.parametrize("solver", [LBFGS(), GradientDescent(), GradientDescent(step=0.3), LocalGD()])
def test_tol_0_runs_exactly_max_iter(solver: Solver) -> None:
    """Also long after nothing is left to gain."""
    history = History()
    result, _ = run(solver, RIDGE, Stop(0.0, 60), watch=history)
    assert (result.outcome, result.n_iter, len(history)) == ("budget_spent", 60, 60)


TOO_LONG = [
    GradientDescent(step=3.0),
    GradientDescent(step=1e200),
    GradientDescent(step=50.0, momentum=0.9),
    GradientDescent(step=1e9, momentum=0.5, nesterov=True),
    LocalGD(step=1e6, local_steps=3),
]


@pytest.mark.parametrize("solver", TOO_LONG, ids=repr)
def test_a_step_too_long_is_halved_until_it_works(solver: Solver) -> None:
    history = History()
    result, _ = run(solver, RIDGE, Stop(1e-6, 2000), blocks=1, watch=history)
    assert result.outcome == "converged"
    assert result.halvings >= 1
    assert result.step == solver.get_params()["step"] / 2**result.halvings
    np.testing.assert_allclose(result.w, run(LBFGS(), RIDGE, Stop(1e-12, 99))[0].w, atol=5e-3)
    # The history shows both: what it cost, and from which iteration on the step was another.
    steps, losses = history.column("step"), np.array(history.column("loss"))
    assert steps == sorted(steps, reverse=True)
    assert len(set(steps)) == result.halvings + 1
    assert losses[-1] < losses[0] or len(losses) > result.halvings
    assert not losses[: steps.index(steps[-1])].max() <= 1e3 * losses[-1]


@pytest.mark.parametrize("solver", TOO_LONG, ids=repr)
def test_with_tol_0_a_step_too_long_diverges_and_keeps_the_best(solver: Solver) -> None:
    """Exact runs have the steps that were asked for."""
    result, _ = run(solver, RIDGE, Stop(0.0, 1000), blocks=1)
    assert (result.outcome, result.halvings) == ("diverged", 0)
    assert result.n_iter < 100
    assert not result.w.any()  # where it began, before it got worse


def test_a_step_is_not_halved_forever() -> None:
    """Where the gradient itself is not finite, no step helps."""

    @dataclass(slots=True)
    class Lost(Scripted):
        def retreat(self, best: State, lost: State) -> State | None:
            return halved(best, lost)

    start = State(np.zeros(1), 1.0, np.full(1, np.nan), step=1.0)
    lost = State(np.ones(1), np.inf, np.ones(1), step=1.0)
    assert drive(Lost([start, lost]), Stop(1e-3, 99)).outcome == "diverged"


@pytest.mark.parametrize("solver", [GradientDescent(), GradientDescent(step=1e12, line_search=True), LBFGS()])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_searched_step_is_never_one_without_a_finite_value(solver: Solver, bad: float) -> None:
    """The objective is finite within a ball around the start only."""

    class Walled(Recording):
        def sweep(self, asks: Sequence[Ask]) -> list[Any]:
            return [self.behind(ask, answer) for ask, answer in zip(asks, super().sweep(asks), strict=True)]

        def behind(self, ask: Ask, answer: Any) -> Any:
            if isinstance(ask.query, Line):
                far = np.array(
                    [np.linalg.norm(ask.query.w + t * ask.query.d) > 1e-3 for t in ask.query.steps]
                )
                return tuple(np.where(far, bad, part) for part in answer)
            return (bad, answer[1] * bad) if np.linalg.norm(ask.query.w) > 1e-3 else answer  # type: ignore[attr-defined]

    history = History()
    fit = loop(solver, RIDGE.problem, np.zeros(4), Stop(1e-6, 20), watch=history)
    (result,) = together([fit], [Meter()], Walled(Serial(ArraySource.of(RIDGE.rows, 20))))
    assert np.isfinite(history.column("loss")).all()
    assert np.isfinite(result.w).all()
    assert result.outcome in ("stalled", "budget_spent")


def test_a_loop_checks_the_problem_before_it_asks() -> None:
    class Refuses(Scripted):
        def check(self, problem: Problem) -> None:
            raise ValueError("not this one")

    with pytest.raises(ValueError, match="not this one"):
        next(loop(Refuses(DOWN), PROBLEM, np.zeros(1), Stop(0, 1)))


# -- records ------------------------------------------------------------------------------------


def test_history_has_a_row_per_iteration_and_counts_what_was_read() -> None:
    history, meter = History(), Meter()
    fit = loop(Scripted(DOWN), PROBLEM, np.zeros(1), Stop(0, 3), meter=meter, watch=history)
    together([fit], [meter], Counting())
    assert [tuple(row) for row in history] == [KEYS] * 3
    assert history.column("iteration") == [1, 2, 3]
    assert history.column("loss") == [0.5, 0.25, 0.2]
    assert history.column("gap") == [1e-2 / 0.5, 1e-4 / 0.25, 1e-6 / 0.2]
    assert history.column("sweeps") == [2, 3, 4]
    assert history.column("bytes") == [200, 300, 400]
    assert history.column("gradient_norm") == [1.0] * 3
    assert sorted(history.column("seconds")) == history.column("seconds")
    assert all(type(value) in (int, float) for row in history for value in row.values())
    assert "3 iterations, loss 0.2, 4 sweeps" in repr(history)


def test_progress_holds_the_best_for_whoever_is_interrupted() -> None:
    def interrupt(row: Any) -> None:
        if row["iteration"] == 4:
            raise KeyboardInterrupt

    progress = Result(np.zeros(4))
    with pytest.raises(KeyboardInterrupt):
        run(GradientDescent(step=0.1), RIDGE, Stop(0, 9), watch=interrupt, progress=progress)
    expected, _ = run(GradientDescent(step=0.1), RIDGE, Stop(0, 4))
    assert np.array_equal(progress.w, expected.w)
    assert (progress.n_iter, progress.outcome) == (4, "interrupted")


# -- the journal --------------------------------------------------------------------------------


def killed(solver: Solver, sweeps: int, stop: Stop = TWELVE) -> Journal:
    """The journal of a fit that died while it waited for one sweep more than these."""
    journal = Journal()
    fit = loop(solver, RIDGE.problem, np.zeros(4), stop, journal=journal)
    engine = Serial(ArraySource.of(RIDGE.rows, 10))
    asks = next(fit)
    for _ in range(sweeps):
        asks = fit.send(engine.sweep(asks))
    return pickle.loads(pickle.dumps(journal))


def test_the_journal_holds_the_answers_since_the_last_state() -> None:
    journal = killed(LBFGS(), 2)  # the start's gradient, then the first line
    assert (journal.iteration, len(journal.entries)) == (0, 1)
    first = next(LBFGS().iterate(RIDGE.problem, killed(LBFGS(), 1).state))
    assert isinstance(first[0], Line)
    assert journal.entries[0][0] == digest(first)
    journal = killed(LBFGS(), 3)
    assert (journal.iteration, journal.entries) == (1, [])


@pytest.mark.parametrize(
    ("solver", "other", "sweeps"),
    [
        (GradientDescent(momentum=0.9), GradientDescent(step=0.25, line_search=True), 1),
        (GradientDescent(step=0.1), GradientDescent(step=0.2), 3),
        (LocalGD(step=0.1), LocalGD(step=0.2), 2),
        (LocalGD(step=0.1, batch_size=5), LocalGD(step=0.1, batch_size=5, seed=1), 2),
        (LBFGS(), GradientDescent(), 0),
    ],
)
def test_a_replay_with_other_settings_fails_loudly(solver: Solver, other: Solver, sweeps: int) -> None:
    journal = killed(solver, sweeps)
    fit = loop(solver, RIDGE.problem, np.zeros(4), TWELVE, journal=journal)
    engine, asks = Serial(ArraySource.of(RIDGE.rows, 10)), next(fit)
    journal.entries.append((digest([ask.query for ask in asks]), engine.sweep(asks)))
    start = np.zeros(4) if sweeps else np.ones(4)
    with pytest.raises(ReplayError, match=r"does not fit the solver: iteration .* start the fit anew"):
        next(loop(other, RIDGE.problem, start, TWELVE, journal=journal))
    fit.close()


@pytest.mark.parametrize("tol", [0.0, 1e-3])
@pytest.mark.parametrize(
    "solver", [GradientDescent(step=3.0, momentum=0.5), LocalGD(step=8.0, local_steps=3)]
)
def test_a_diverging_fit_resumed_ends_as_if_never_killed(solver: Solver, tol: float) -> None:
    """What counts as diverged, the best parameters so far and the halved step must survive the kill."""
    stop = Stop(tol, 1000)
    expected, sweeps = run(solver, RIDGE, stop, blocks=9)
    assert expected.outcome == ("converged" if tol else "diverged")
    assert bool(expected.halvings) == bool(tol)
    for kill in range(1, sweeps):
        result, rest = run(solver, RIDGE, stop, blocks=9, journal=killed(solver, kill, stop))
        assert (result.outcome, result.n_iter) == (expected.outcome, expected.n_iter), kill
        assert (result.step, result.halvings, kill + rest) == (expected.step, expected.halvings, sweeps), kill
        assert np.array_equal(result.w, expected.w), kill


@pytest.mark.parametrize(
    "change",
    [
        lambda q: replace(q, w=q.w + 1e-300),
        lambda q: replace(q, d=-q.d),
        lambda q: replace(q, steps=q.steps[:1]),
        lambda q: replace(q, w=q.w.astype("f4")),
        lambda q: replace(q, w=q.w.reshape(2, 1)),
        lambda q: Gradient(q.w),
    ],
)
def test_digests_tell_queries_apart(change: Any) -> None:
    line = Line(np.zeros(2), np.ones(2), np.array([1.0, 2.0]))
    assert digest((line,)) == digest((pickle.loads(pickle.dumps(line)),))
    assert digest((line,)) != digest((change(line),))
    assert digest((line, line)) != digest((line,))


# -- together -----------------------------------------------------------------------------------


def fit_of(n: int, log: list[str] | None = None, ask: Any = None, fail: int = -1) -> Iterator[Any]:
    """A fit of n sweeps that returns what it received; it notes when it is closed."""
    got = []
    try:
        for i in range(n):
            if i == fail:
                raise RuntimeError("member failed")
            got += yield [ask or Ask(PROBLEM, Gradient(np.full(1, float(i))), "")]
    finally:
        if log is not None:
            log.append(f"closed after {len(got)}")
    return got


def test_together_takes_as_many_sweeps_as_the_longest() -> None:
    engine, meters = Counting(), [Meter() for _ in range(4)]
    results = together([fit_of(n) for n in (3, 1, 5, 0)], meters, engine)
    assert len(engine.asked) == 5
    assert [[len(ask.query.queries) for ask in asks] for asks in engine.asked] == [[3], [2], [2], [1], [1]]
    assert [meter.sweeps for meter in meters] == [3, 1, 5, 0]
    assert [meter.bytes for meter in meters] == [300, 100, 500, 0]
    assert [[sweep for sweep, _ in result] for result in results] == [[1, 2, 3], [1], [1, 2, 3, 4, 5], []]
    assert all(query.w[0] == sweep - 1 for result in results for sweep, query in result)


def test_together_asks_equal_surveys_once() -> None:
    engine = Counting()
    one, other = Ask(None, Survey(classification=True)), Ask(None, Survey())
    fits = [fit_of(1, ask=ask) for ask in (one, Ask(None, Survey(classification=True)), other, one)]
    results = together([*fits, fit_of(1), fit_of(1)], [Meter() for _ in range(6)], engine)
    assert [ask.query for ask in engine.asked[0][:2]] == [one.query, other.query]
    assert [len(ask.query.queries) for ask in engine.asked[0][2:]] == [2]
    assert [result[0][1] for result in results[:4]] == [one.query, one.query, other.query, one.query]


def test_together_equals_alone() -> None:
    """Members at very different speeds, one that needs two sweeps an iteration among them."""
    solvers = [LBFGS(), GradientDescent(step=0.3), GradientDescent(), LocalGD(step=0.1)]
    stop, meters = Stop(1e-8, 25), [Meter() for _ in solvers]
    engine = Recording(Serial(ArraySource.of(RIDGE.rows, -(-len(RIDGE.rows) // 4))))
    fits = [loop(solver, RIDGE.problem, np.zeros(4), stop) for solver in solvers]
    shared = together(fits, meters, engine)
    for solver, result, meter in zip(solvers, shared, meters, strict=True):
        alone, sweeps = run(solver, RIDGE, stop)
        np.testing.assert_allclose(result.w, alone.w, rtol=1e-10, atol=0, err_msg=repr(solver))
        assert (result.n_iter, result.outcome, meter.sweeps) == (alone.n_iter, alone.outcome, sweeps)
    assert engine.sweeps == max(meter.sweeps for meter in meters) < sum(meter.sweeps for meter in meters)


def test_a_member_keeps_its_bits_whoever_the_others_are() -> None:
    """As one of many, as one of three, and last of a second stack: its place is what counts."""
    stop = Stop(1e-9, 25)

    def fits(strengths: Sequence[float]) -> list[Result]:
        made = [
            loop(LBFGS(), replace(RIDGE.problem, penalty=L2(strength)), np.zeros(4), stop)
            for strength in strengths
        ]
        return together(made, [Meter() for _ in made], Serial(ArraySource.of(RIDGE.rows, 20)))

    many = fits(np.geomspace(1e-3, 10, LANES + 2))
    few = fits(np.geomspace(1e-3, 10, LANES + 2)[:3])
    other = fits([*np.ones(LANES), 1e-3, 10])
    assert all(np.array_equal(a.w, b.w) for a, b in zip(few, many[:3], strict=True))
    assert np.array_equal(other[-1].w, many[-1].w)


def test_a_members_hessian_does_not_depend_on_the_others(rng: np.random.Generator) -> None:
    X = rng.standard_normal((300, 3)).astype("f4")
    rows = Rows(X, (rng.random(300) < 0.5).astype("i1"), None, 0, dtype=np.dtype(float))
    models = [Linear(3), Linear(3, center=X.mean(axis=0, dtype=float))]
    problems = [Problem(Logistic(), model, L2(), np.array([0, 1])) for model in models * 2]
    points = rng.standard_normal((4, 4))

    def asked(lane: int | None, i: int) -> tuple[int | None, list[Ask]]:
        evaluate_in_memory = (
            EvaluateInMemory(problems[i], rows, query) for query in (Gradient(points[i]), Hessian(points[i]))
        )
        return lane, [Ask(None, query) for query in evaluate_in_memory]

    many = answer_local_queries([asked(i, i) for i in range(4)])
    for i in range(4):
        (((f, g), H),) = answer_local_queries([asked(None, i)])
        assert many[i][0][0] == f
        assert np.array_equal(many[i][0][1], g)
        assert np.allclose(many[i][1], H, rtol=1e-5, atol=1e-7)
        assert np.array_equal(answer_local_queries([asked(i, i)])[0][1], many[i][1])


class Recording:
    nbytes = 0

    def __init__(self, inner: Serial) -> None:
        self.inner, self.sweeps = inner, 0

    def sweep(self, asks: Sequence[Ask]) -> list[Any]:
        self.sweeps += 1
        return self.inner.sweep(asks)


@pytest.mark.parametrize("fail", [0, 2])
def test_a_member_that_fails_closes_the_others(fail: int) -> None:
    log: list[str] = []
    fits = [fit_of(9, log), fit_of(9, log, fail=fail), fit_of(9, log), fit_of(1, log)]
    with pytest.raises(RuntimeError, match="member failed"):
        together(fits, [Meter() for _ in fits], Counting())
    assert all(fit.gi_frame is None for fit in fits)  # type: ignore[attr-defined]
    if fail:
        assert sorted(log) == ["closed after 1", "closed after 1", "closed after 2", "closed after 2"]


def test_an_engine_that_fails_closes_all() -> None:
    class Fails(Counting):
        def sweep(self, asks: Sequence[Ask]) -> list[Any]:
            raise OSError("disk is gone")

    log: list[str] = []
    with pytest.raises(OSError, match="disk is gone"):
        together([fit_of(2, log), fit_of(2, log)], [Meter(), Meter()], Fails())
    assert log == ["closed after 0"] * 2


def test_nothing_to_fit_reads_nothing() -> None:
    engine = Counting()
    assert together([], [], engine) == []
    assert not engine.asked
