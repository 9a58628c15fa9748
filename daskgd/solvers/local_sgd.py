"""Local SGD: partitions train copies by mini-batches, and the copies are averaged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.queries import Dispersion, GradientOnly, Local, Query, Share, Spread
from daskgd.rows.layout import Shape
from daskgd.rows.tiles import Rows
from daskgd.solvers.base import (
    Solver,
    State,
    Steps,
    check_whole,
    in_unit_interval,
    is_count,
    is_positive,
    require,
    secant_gap,
)
from daskgd.solvers.sampled_start import begin, sample_of, solve
from daskgd.solvers.schedules import RULES, Rule, Schedule, check_steps

Array = NDArray[Any]

RISEN = 0.1
"""Rise of the objective above the best so far, relative to it, at which a round is taken back."""

HALVINGS = 40
"""Times that the step is halved at most; then the fit has stalled."""


@dataclass(frozen=True, slots=True)
class LocalSGDState(State):
    """Where local SGD stands: `w` is where the next round begins; f and g were measured at `at`, where the
    last one did.

    Attributes
    ----------
    at : (d,)
    round : int
    buffer : (d,)
        Momentum of the outer optimiser.
    known : (d,)
        The gradient of all rows at the point where partitions remember their own.
    controlled : bool
        Whether control variates are on.
    shrink : float
        Factor on the step: halved when a round was taken back.
    best, least : (d,), float
        Parameters of the least objective so far, and that.
    metric : (d, d)
        The sample's Hessian, if there is one.
    partitions, between, expected :
        Of the first round's :class:`~daskgd.queries.Dispersion`.
    moments : (m, d)
        What the inner rule remembers, where it is kept from round to round.
    made : float
        Steps of a partition so far, on average, where they are kept.
    fallen : bool
        Whether the objective was ever below that of the first round.
    false_starts : int
        Rounds that were taken back before that.
    """

    at: Array | None = None
    round: int = 0
    buffer: Array = field(default_factory=lambda: np.zeros(0))
    known: Array = field(default_factory=lambda: np.zeros(0))
    controlled: bool = False
    shrink: float = 1.0
    best: Array = field(default_factory=lambda: np.zeros(0))
    least: float = np.inf
    metric: Array = field(default_factory=lambda: np.zeros((0, 0)))
    partitions: int = 0
    between: float = 0.0
    expected: float = 0.0
    moments: Array = field(default_factory=lambda: np.zeros((0, 0)))
    made: float = 0.0
    fallen: bool = False
    false_starts: int = 0

    @property
    def point(self) -> Array:
        return self.w if self.at is None else self.at

    @property
    def dispersion(self) -> Dispersion:
        return Dispersion(self.partitions, self.between, self.expected)


@dataclass(frozen=True, slots=True, eq=False)
class Epochs:
    """The work of one partition in one round: `epochs` passes over its rows in mini-batches.

    Their order is a permutation drawn from (seed, round, first row), anew for each pass; without `shuffle`
    batches are of `batch_size` rows in order, the last of what is left. With the gradient c of all rows, each
    batch's gradient is corrected by ``c - c_i``, c_i being the partition's own that it remembers (SCAFFOLD);
    with `proximal` mu, by ``mu (v - w)`` (FedProx). `inverse` is a metric to step in. Returns how far it
    went; where the rule's `moments` are kept, with these and the number of steps after it in one vector.
    """

    rule: Rule
    schedule: Schedule
    batch_size: int
    epochs: int
    seed: int
    round: int
    began: float
    control: Array | None = None
    proximal: float = 0.0
    inverse: Array | None = None
    shuffle: bool = True
    moments: Array | None = None
    made: float = 0.0

    def __call__(self, problem: Problem, rows: Rows, w: Array, g: Array, memory: Any) -> tuple[Array, Any]:
        shift = np.zeros_like(w)
        if self.control is not None and memory is not None:
            shift = self.control - memory
        v, i = w, 0
        known = self.rule.begin(len(w)) if self.moments is None else self.moments
        n = -(-len(rows) // self.batch_size)
        for epoch in range(self.epochs):
            for batch in self._batches(rows, n, epoch):
                query = GradientOnly(v)
                sums = query.tile(problem, batch.tile())
                if not sums["weight"] > 0:
                    continue
                slope = query.answer(problem, sums) + shift + self.proximal * (v - w)
                d, known = self.rule.move(slope, known, self.made + i)
                if self.inverse is not None:
                    d = self.inverse @ d
                v = v - self.schedule.rate(self.began + i / n) * d
                i += 1
        if self.moments is None:
            return v - w, g
        return np.concatenate([v - w, known.ravel(), [self.made + i]]), g

    def _batches(self, rows: Rows, n: int, epoch: int) -> Iterator[Rows]:
        """The batches of one pass, n of them."""
        if not self.shuffle:
            for a in range(0, len(rows), self.batch_size):
                yield rows.slice(a, a + self.batch_size)
            return
        draw = np.random.Philox(key=[self.seed, rows.start], counter=[0, 0, self.round, epoch])
        order = np.random.Generator(draw).permutation(len(rows))
        for batch in np.array_split(order, n):
            yield rows.select(np.sort(batch))


@dataclass(slots=True)
class LocalSGD(Solver):
    """Rounds of mini-batch steps in every partition, and averaging (local SGD: Stich 2019).

    One round is one sweep: every partition starts from the shared parameters, makes `sync_every` passes over
    its rows, and the moves are averaged with the weight of the rows, D. The next round starts at ``w + D``,
    or with ``outer="nesterov"`` the average moves are steps of Nesterov's method (DiLoCo: Douillard et al.
    2023)

        b <- outer_momentum b + D,    w <- w + outer_step (D + outer_momentum b).

    A sample of the rows comes with the first sweep: rounds start from its solution, and the inner rules "sgd"
    and "momentum" step in the metric of its Hessian, in which 1 is Newton's step, whatever the features. With
    ``sample_bytes=0``, or with more than 1,500 parameters, steps are in the units of the parameters.

    Where partitions are unlike, their copies drift apart, and their average need not be near the minimum. The
    first round measures how far the partitions' gradients lie apart. With ``control="auto"`` a first round of
    partitions that differ beyond chance is taken back, and each keeps its drift in check by control variates
    from then on (SCAFFOLD: Karimireddy et al. 2020). A round after which the objective is a tenth above the
    best so far is taken back too, and with it, first, variates that were switched on, then half of the step:
    fits do not diverge.

    The gap is half the decrement in the sample's metric, or by the curvature met along the last round.

    Parameters
    ----------
    step : float
        Length of the first steps.
    inner : "sgd", "momentum", "nesterov", "adam" or "adagrad"
        What a step is made of: see :mod:`daskgd.solvers.schedules`.
    momentum : float
        Of the inner rule, in [0, 1).
    second, epsilon : float
        For "adam": the weight of past squares, in [0, 1), and what is added to their root.
    epsilon_hat : bool
        Whether it is added before the bias of the squares is taken out, as scikit-learn does.
    batch_size : int
        Rows per step.
    schedule : "constant", "invscaling" or "cosine"
    decay : float
        For "invscaling": steps shrink with ``(1 + t)**decay``, t in passes over the data.
    period : float
        For "cosine": passes until steps are small.
    sync_every : int or float
        Passes over a partition's rows in one round and read: a whole number, or one over a whole number. Of
        0.25, a round reads a quarter of each partition's blocks, and four of them are a sweep.
    outer : "average" or "nesterov"
    outer_step, outer_momentum : float
        For "nesterov".
    control : "auto", True or False
        Control variates. They need whole passes.
    proximal : float
        Strength of ``|v - w|**2 / 2`` in what partitions minimise (FedProx: Li et al. 2020).
    wire : "float64", "float32", "float16" or "int8"
        How sums travel: coded where a partition ends, rounded at random (see ``docs/distributed.md``).
    sample_bytes : int
        Bytes of X in the sample; 0 for none.
    shuffle : bool
        Whether batches are drawn anew in every pass; else they are rows in order.
    keep_moments : bool
        Whether what the inner rule remembers goes on from round to round, averaged over the partitions as the
        moves are; else each round begins with none. The sums have as many times the numbers as it remembers.
    seed : int, optional
        None takes the estimator's `random_state`.

    Examples
    --------
    >>> LocalSGD(step=0.05, inner="adam", sample_bytes=0).batch_size
    256
    """

    regime: ClassVar[str] = "distributed"
    needs_smooth: ClassVar[bool] = False
    needs_partitions: ClassVar[bool] = True
    approximate: ClassVar[bool] = True

    step: float = 0.1
    inner: str = "sgd"
    momentum: float = 0.9
    second: float = 0.999
    epsilon: float = 1e-8
    batch_size: int = 256
    schedule: str = "invscaling"
    decay: float = 1.0
    period: float = 10.0
    sync_every: float = 1
    outer: str = "average"
    outer_step: float = 1.0
    outer_momentum: float = 0.5
    control: bool | str = "auto"
    proximal: float = 0.0
    wire: str = "float64"
    sample_bytes: int = 16_000_000
    shuffle: bool = True
    keep_moments: bool = False
    epsilon_hat: bool = False
    seed: int | None = None

    def __post_init__(self) -> None:
        check_steps(self)
        require(self.inner in RULES, self, "inner", f"one of {', '.join(RULES)}", self.inner)
        require(in_unit_interval(self.momentum), self, "momentum", "in [0, 1)", self.momentum)
        require(in_unit_interval(self.second), self, "second", "in [0, 1)", self.second)
        require(is_positive(self.epsilon), self, "epsilon", "> 0", self.epsilon)
        require(is_count(self.batch_size), self, "batch_size", "a whole number >= 1", self.batch_size)
        part = is_positive(self.sync_every) and (
            1 / self.sync_every if self.sync_every < 1 else self.sync_every
        )
        whole = bool(part) and abs(part - round(part)) < 1e-6
        require(whole, self, "sync_every", "a whole number or one over a whole number", self.sync_every)
        require(self.outer in ("average", "nesterov"), self, "outer", "average or nesterov", self.outer)
        require(is_positive(self.outer_step), self, "outer_step", "> 0", self.outer_step)
        ok = in_unit_interval(self.outer_momentum)
        require(ok, self, "outer_momentum", "in [0, 1)", self.outer_momentum)
        require(self.control in ("auto", True, False), self, "control", "auto, True or False", self.control)
        ok = self.proximal == 0 or is_positive(self.proximal)
        require(ok, self, "proximal", ">= 0", self.proximal)
        check_whole(self, "sample_bytes")
        for name in ("shuffle", "keep_moments", "epsilon_hat"):
            require(isinstance(getattr(self, name), bool), self, name, "True or False", getattr(self, name))
        if self.keep_moments and self.wire != "float64":
            raise ValueError(
                f'LocalSGD: expected wire="float64" with keep_moments=True, got {self.wire!r}: moves and '
                "squares of gradients are of other sizes, and would be rounded together"
            )
        if self.control is True and self.sync_every < 1:
            raise ValueError(
                f"LocalSGD: expected sync_every >= 1 with control=True, got {self.sync_every}: control "
                "variates are of whole partitions"
            )

    @property
    def needs_linear(self) -> bool:  # type: ignore[override]
        return bool(self.sample_bytes)  # which is solved by Newton's method

    @property
    def fixes_step(self) -> bool:  # type: ignore[override]
        return not self.sample_bytes

    def first_sweep_queries(self, shape: Shape) -> tuple[Query, ...]:
        return sample_of(shape, self.sample_bytes, self.seed or 0)

    def start(self, problem: Problem, w: Array, *first_sweep_answers: Any) -> Steps:
        metric = np.zeros((0, 0))
        if problem.loss.smooth:
            begun = yield from begin(problem, w, first_sweep_answers)
            w, metric = begun.w, begun.metric
        zero = np.zeros_like(w)
        return LocalSGDState(
            w,
            np.inf,
            zero,
            buffer=zero,
            known=zero,
            controlled=self.control is True,
            best=w,
            metric=metric,
            moments=self._no_moments(len(w)),
            step=self.step,
        )

    def _no_moments(self, d: int) -> Array:
        return self.rule.begin(d) if self.keep_moments else np.zeros((0, 0))

    @property
    def rule(self) -> Rule:
        """What makes a move of a gradient."""
        return Rule(self.inner, self.momentum, self.second, self.epsilon, self.epsilon_hat)

    def iterate(self, problem: Problem, state: LocalSGDState) -> Steps:
        s = state
        first, parts = s.at is None, max(round(1 / self.sync_every), 1)
        share = Share(self.seed or 0, s.round // parts, s.round % parts, parts, within=True)
        size = len(s.w) * (1 + len(s.moments)) + 1 if self.keep_moments else None
        local = Local(s.w, self._epochs(s), size, share=share, wire=self.wire, key=s.round)
        if first:
            answer, dispersion = yield (local, Spread(s.w, share))
        else:
            (answer,) = yield (local,)
        s = replace(s, round=s.round + 1)
        if answer is None:  # a share without a block
            return s
        f, g, move = answer
        moments, made = s.moments, s.made
        if self.keep_moments:
            d = len(s.w)
            move, moments, made = move[:d], move[d:-1].reshape(moments.shape), float(move[-1])
        if first:
            s = replace(
                s,
                partitions=dispersion.partitions,
                between=dispersion.between,
                expected=dispersion.expected,
            )
            if dispersion.differ and self.control == "auto" and parts == 1 and not s.controlled:
                s, move = replace(s, controlled=True), np.zeros_like(move)
                moments, made = s.moments, s.made
        s = replace(s, known=g)
        if not f <= s.least + RISEN * abs(s.least):
            return self._rollback(s)
        gap = self._gap(problem, s, f, g)
        at, buffer = s.w, s.buffer
        if self.outer == "nesterov":
            buffer = self.outer_momentum * buffer + move
            move = self.outer_step * (move + self.outer_momentum * buffer)
        repeated = s.repeated and f == s.least  # where one that was taken back had begun
        if f < s.least:
            s = replace(s, best=at, least=f, fallen=np.isfinite(s.least))
        return replace(
            s,
            w=at + move,
            at=at,
            f=f,
            g=g,
            gap=gap,
            buffer=buffer,
            moments=moments,
            made=made,
            repeated=repeated,
        )

    def _epochs(self, s: LocalSGDState) -> Epochs:
        """The work of the partitions in the round that begins at s."""
        first = s.at is None
        scaled = len(s.metric) > 0 and self.inner in ("sgd", "momentum", "nesterov")
        return Epochs(
            rule=self.rule,
            schedule=Schedule(self.schedule, self.step * s.shrink, self.decay, self.period),
            batch_size=self.batch_size,
            # The first round of control variates only learns them.
            epochs=0 if first and s.controlled else max(round(self.sync_every), 1),
            seed=self.seed or 0,
            round=s.round,
            began=s.round * self.sync_every,
            control=s.known if s.controlled and not first else None,
            proximal=self.proximal,
            inverse=np.linalg.inv(s.metric) if scaled else None,
            shuffle=self.shuffle,
            moments=s.moments if self.keep_moments else None,
            made=s.made,
        )

    def _rollback(self, s: LocalSGDState) -> LocalSGDState:
        """The State back at the best parameters so far: without the control variates that were switched on,
        else with half the step."""
        # Variates aim every copy at a Newton step of its own, which may be far too long.
        shrink = s.shrink if s.controlled and self.control == "auto" else s.shrink / 2
        return replace(
            s,
            w=s.best,
            buffer=np.zeros_like(s.w),
            controlled=self.control is True,
            shrink=shrink,
            step=self.step * shrink,
            stalled=shrink < 0.5**HALVINGS,
            moments=self._no_moments(len(s.w)),
            made=0.0,
            false_starts=s.false_starts + (not s.fallen),
            repeated=True,
        )

    def slower(self, state: LocalSGDState, factor: float) -> LocalSGDState:
        shrink = state.shrink / factor
        return replace(state, shrink=shrink, step=self.step * shrink)

    def _gap(self, problem: Problem, s: LocalSGDState, f: float, g: Array) -> float:
        """The gap at the point of f and g: half the decrement in the sample's metric, else by the curvature
        met."""
        if not g.any():
            return 0.0
        if not (problem.loss.smooth and problem.model.linear) or not np.isfinite(g).all():
            return np.inf
        if len(s.metric):
            return float(g @ solve(s.metric, g)) / 2
        return np.inf if s.at is None else secant_gap(g, s.w - s.at, g - s.g)

    def remark(self, state: LocalSGDState) -> str | None:
        if not state.dispersion.differ:
            return None
        return f"{state.dispersion}. " + (
            "Control variates keep them together; GIANT and ADMM go further, and shuffled rows need none"
            if state.controlled
            else "Their average leans towards their own minima: shuffle the rows, set control=True, or use "
            "GIANT or ADMM"
        )
