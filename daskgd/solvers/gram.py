"""Least squares from second moments: exact, and no read of the data beyond the survey's.

Of ``(y - X W)`` squared the data enter through the products of their columns alone, which one sweep adds up.
Products square the condition number of X. Where it is so high that moments cannot vouch for the answer, the
solver says so and corrects it with residuals of the data, a sweep each.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, qr, solve_triangular
from scipy.linalg.lapack import dpocon, dpotrf, dpotrs

from daskgd.losses import Loss, Squared
from daskgd.penalties import L2
from daskgd.problems import Problem
from daskgd.queries import Query, Residuals, SecondMoments, SecondMomentsAnswer
from daskgd.rows.layout import Shape
from daskgd.solvers.base import Solver, State, Steps, SweepEstimate
from daskgd.solvers.quadratic import minimise

Array = NDArray[Any]

EPS = float(np.finfo(float).eps)
SAFE = 1e-9
"""Least eigenvalue of the scaled moments, relative to the largest, at which they vouch for the answer: their
rounding then moves the objective by less than 1e-10 of itself."""

NOISE = 4.0
"""Eigenvalues of p scaled columns are lost in rounding below ``NOISE max(p, 16) EPS`` of the largest."""


def _empty(*shape: int) -> Array:
    return np.zeros(shape)


@dataclass(frozen=True, slots=True)
class GramState(State):
    """Where least squares stand: the second moments; and once residuals were asked for, the parameters where
    they were, and the step from there to w.

    Attributes
    ----------
    n_rows : int
    center, target : (p,), (k,)
        What features and targets are taken about: means, or without intercept 0 and the problem's offset.
    A, B, yy : (p, p), (p, k), (k,)
        ``X'X / W``, ``X'y / W`` and ``y'y / W`` about them.
    phase : int
        0 before the first iteration, 1 where moments alone were used, 2 afterwards.
    at : (d,)
        In phase 2: the parameters at which `f` and `g` were measured.
    G, F : (p, k), (k,)
        Gradient in the units of X, and objective of each output, there; without the L1 norm.
    T : (p, k)
        The step from there to w, in the units of X.
    live : (p, k) of bool
        Directions lost in the rounding of the moments in which the data have a slope all the same.
    slopes : (k,)
        ``G' P G`` with the moments' inverse P.
    """

    n_rows: int = 0
    center: Array = field(default_factory=lambda: _empty(0))
    target: Array = field(default_factory=lambda: _empty(0))
    A: Array = field(default_factory=lambda: _empty(0, 0))
    B: Array = field(default_factory=lambda: _empty(0, 0))
    yy: Array = field(default_factory=lambda: _empty(0))
    phase: int = 0
    at: Array = field(default_factory=lambda: _empty(0))
    G: Array = field(default_factory=lambda: _empty(0, 0))
    F: Array = field(default_factory=lambda: _empty(0))
    T: Array = field(default_factory=lambda: _empty(0, 0))
    live: Array = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))
    slopes: Array = field(default_factory=lambda: _empty(0))

    @property
    def point(self) -> Array:
        return self.at if self.phase == 2 else self.w


@dataclass(slots=True)
class Gram(Solver):
    """Exact least squares from the second moments of features and targets, which are asked along with the
    survey.

    For the squared loss with an L2 penalty (ridge; none: the solution of least norm in the units of X), an
    L1 penalty or both. Moments are taken about the mean, so that features far from 0 cost no digits, and
    solved on a unit diagonal by Cholesky; where that is nearly singular by eigenvectors, those below rounding
    left out.

    One iteration and no sweep, unless the scaled moments are conditioned worse than 1e9, that is X worse than
    some 3e4. Then `gap` is infinite, and each further iteration measures residuals in one sweep, in float64,
    and takes a step of conjugate gradients, with the moments' inverse as preconditioner (Golub & Van Loan
    2013, section 11.5; its first step is iterative refinement), or for L1 penalties a proximal Newton step.

    Needs (p + k)^2 numbers, and (p + k)^2 / 2 operations a row: for up to some thousands of features.

    Examples
    --------
    >>> Gram()
    Gram()
    """

    needs_smooth = False
    needs_linear = True

    def check(self, problem: Problem) -> None:
        if not isinstance(problem.loss, Squared) or problem.labels is not None:
            raise ValueError(
                f"Gram needs the squared loss on numeric targets, which moments determine; {problem.loss} is "
                "not, or its targets are labels. Use LBFGS() or Newton()"
            )
        Solver.check(self, replace(problem, penalty=L2()))  # whose kinks it can do

    def first_sweep_queries(self, shape: Shape) -> tuple[Query, ...]:
        return (SecondMoments(),)

    def result_numbers(self, parameters: int, shape: Shape | None = None) -> int:
        return parameters**2

    def driver_numbers(self, shape: Shape, problem: Problem) -> int:
        return 4 * (shape.n_features + problem.model.outputs) ** 2

    def expected_sweeps(
        self, shape: Shape, loss: Loss | None = None, parameters: int | None = None
    ) -> SweepEstimate:
        return SweepEstimate(1, 1)

    def start(self, problem: Problem, w: Array, *first_sweep_answers: Any) -> Steps:
        moments: SecondMomentsAnswer = (
            first_sweep_answers[0] if first_sweep_answers else (yield (SecondMoments(),))[0]
        )
        p, k = problem.model.n_features, problem.model.outputs
        if len(moments.mean) != p + k:
            raise ValueError(
                f"Gram: expected moments of {p} features and {k} targets, got {len(moments.mean)} columns"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            C = moments.matrix / moments.weight
            center, target = moments.mean[:p], moments.mean[p:]
            if not problem.linear.intercept:
                target = np.zeros(k) if problem.offset is None else np.asarray(problem.offset, dtype=float)
                mean = moments.mean - np.concatenate([np.zeros(p), target])
                C += np.outer(mean, mean)
                center = np.zeros(p)
        return GramState(
            w,
            np.inf,
            np.zeros_like(w),
            n_rows=moments.n_rows,
            center=center,
            target=target,
            A=np.ascontiguousarray(C[:p, :p]),
            B=np.ascontiguousarray(C[:p, p:]),
            yy=np.diagonal(C)[p:].copy(),
        )

    def iterate(self, problem: Problem, state: GramState) -> Steps:
        pull = _Pull.of(problem)
        if not (np.isfinite(state.A).all() and np.isfinite(state.B).all() and np.isfinite(state.yy).all()):
            return replace(state, phase=1, stalled=True)  # products that overflow
        if state.phase == 0:
            return _from_moments(problem, state, pull)
        W = _coefficients(problem, state.w)
        ((mean, square, cross),) = yield (Residuals(W, state.center, state.target),)
        if not problem.linear.intercept:
            mean = np.zeros_like(mean)
        loss = np.maximum(square - mean**2, 0.0) / 2
        seen = _Seen(W, cross + pull.l2 * W, loss + pull.quadratic(W), mean)
        step = _proximal_step if pull.bent else _conjugate_step
        return step(problem, state, pull, seen)


@dataclass(frozen=True, slots=True)
class _Pull:
    """The penalty in the units of X: ``l2 / 2 w**2 + l1 |w|`` per coefficient, ``(p, k)`` each."""

    l2: Array
    l1: Array
    positive: bool

    @classmethod
    def of(cls, problem: Problem) -> _Pull:
        model, penalty = problem.linear, problem.penalty
        p, k = model.n_features, model.outputs
        zero = np.zeros(model.size)
        s = np.ones((p, 1)) if model.scale is None else model.scale[:, None]
        l2 = problem.penalty_hessian(zero).reshape(-1, k)[:p] * s**2
        l1 = problem.penalty_l1(zero) if hasattr(penalty, "l1") else zero
        return cls(l2, l1.reshape(-1, k)[:p] * s, bool(getattr(penalty, "positive", False)))

    @property
    def bent(self) -> bool:
        """Whether the penalty is more than a quadratic."""
        return self.positive or bool(self.l1.any())

    def quadratic(self, W: Array) -> Array:
        """The quadratic part of the penalty, of each output ``(k,)``."""
        out: Array = (self.l2 * W * W).sum(axis=0) / 2
        return out

    def norm(self, W: Array) -> Array:
        """The L1 norm of the penalty, of each output ``(k,)``."""
        out: Array = (self.l1 * np.abs(W)).sum(axis=0)
        return out

    def subgradient(self, G: Array, W: Array) -> Array:
        """The subgradient of least norm ``(p, k)``, from the gradient of the smooth part."""
        kink = np.sign(G) * np.maximum(np.abs(G) - self.l1, 0.0)
        if self.positive:
            kink = np.minimum(G + self.l1, 0.0)
        return np.where(W != 0, G + self.l1 * np.sign(W), kink)

    def gap(self, G: Array, F: Array, W: Array) -> Array:
        """The duality gap of each output ``(k,)``, from gradient and value of the smooth part at W.

        With the L2 penalty as rows of the data, r the residual and ``G = -X'r``, ``t r`` is feasible in the
        dual where ``t |G| <= l1`` (Kim, Koh, Lustig, Boyd & Gorinevsky 2007, section III). Every coefficient
        must bear an L1 norm.
        """
        slope = np.maximum(-G, 0.0) if self.positive else np.abs(G)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.min(np.where(slope > self.l1, self.l1 / slope, 1.0), axis=0, initial=1.0)
        rr = 2 * F
        ry = rr - (W * G).sum(axis=0)
        t = np.where(rr > 0, np.clip(ry / np.where(rr > 0, rr, 1.0), 0.0, t), t)
        # F + norm - (t ry - t t rr / 2), without the cancellation of F against itself
        out: Array = self.norm(W) + rr * (1 - t) ** 2 / 2 + t * (W * G).sum(axis=0)
        return np.maximum(out, 0.0)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The smooth part of the objective at W ``(p, k)``, measured by residuals: gradient ``(p, k)``, value
    ``(k,)``, and mean residual, which the intercept takes up."""

    W: Array
    G: Array
    F: Array
    mean: Array


class _Factor:
    """The factors of ``A + diag(l2)`` on a unit diagonal, and the directions that are lost in its
    rounding."""

    def __init__(self, A: Array, l2: Array) -> None:
        diagonal = A.diagonal() + l2
        self.used = np.flatnonzero(diagonal > 0)
        self.root = np.sqrt(diagonal[self.used])
        H = A[np.ix_(self.used, self.used)] / self.root[:, None] / self.root
        np.fill_diagonal(H, 1.0)
        self.cholesky: Array | None = None
        self.safe = True
        self.lost = np.zeros((len(H), 0))
        self.floor = NOISE * max(len(H), 16) * EPS
        self.least = 1.0
        if len(H) == 0:
            self.vectors, self.values = H, np.zeros(0)
            return
        size = float(np.abs(H).sum(axis=0).max())
        factor, failed = dpotrf(H, lower=1, clean=0)
        if not failed and dpocon(factor, size, uplo="L")[0] >= SAFE:
            self.cholesky = factor
            return
        values, vectors = eigh(H, check_finite=False)
        self.floor *= float(values[-1])
        kept = values > self.floor
        self.values, self.vectors, self.lost = values[kept], vectors[:, kept], vectors[:, ~kept]
        self.least = float(self.values[0])
        self.safe = self.least >= SAFE * float(values[-1])
        if len(self.values) < len(H):
            # w of least norm with (D V)' w given is Q R^-T times that, where D V = Q R. Large rows first,
            # and columns pivoted: stable row by row (Higham 2002, section 19.4), whatever the scales in D.
            self.order = np.argsort(-self.root, kind="stable")
            M = self.root[self.order, None] * self.vectors[self.order]
            self.Q, self.R, self.pivots = qr(M, mode="economic", pivoting=True, check_finite=False)

    def solve(self, B: Array, p: int) -> Array:
        """The solution of least norm ``(p, c)`` for right-hand sides ``(p, c)``."""
        out = np.zeros((p, B.shape[1]))
        if len(self.used) == 0:
            return out
        b = B[self.used] / self.root[:, None]
        if self.cholesky is not None:
            out[self.used] = dpotrs(self.cholesky, b, lower=1)[0] / self.root[:, None]
            return out
        along = (self.vectors.T @ b) / self.values[:, None]
        if self.lost.shape[1] == 0:
            out[self.used] = (self.vectors @ along) / self.root[:, None]
            return out
        w = self.Q @ solve_triangular(self.R, along[self.pivots], trans="T", check_finite=False)
        out[self.used[self.order]] = w
        return out

    def stray(self, B: Array) -> Array:
        """The components ``(m, c)`` of B along the directions lost in rounding."""
        return self.lost.T @ (B[self.used] / self.root[:, None])

    def push(self, stray: Array, p: int) -> Array:
        """A step ``(p, c)`` along the lost directions, as if they were as steep as rounding hides."""
        out = np.zeros((p, stray.shape[1]))
        out[self.used] = (self.lost @ stray) / (self.floor * self.root[:, None])
        return out


def _factors(A: Array, l2: Array) -> list[tuple[Array, _Factor]]:
    """The factors for each distinct column of L2 strengths, with the outputs that share it."""
    columns, group = np.unique(l2, axis=1, return_inverse=True)
    group = group.reshape(-1)
    return [(np.flatnonzero(group == i), _Factor(A, columns[:, i])) for i in range(columns.shape[1])]


def _coefficients(problem: Problem, w: Array) -> Array:
    """The coefficients W ``(p, k)`` in the units of X."""
    model = problem.linear
    V = w.reshape(-1, model.outputs)[: model.n_features]
    return V.copy() if model.scale is None else V / model.scale[:, None]


def _flat(problem: Problem, state: GramState, W: Array, mean: Array | float = 0.0) -> Array:
    """The flat parameters of W in the units of X, with the best intercept for it."""
    model = problem.linear
    V = W if model.scale is None else W * model.scale[:, None]
    if not model.intercept:
        return V.ravel().copy()
    shift = state.center if model.center is None else state.center - model.center
    offset = 0.0 if problem.offset is None else problem.offset
    return np.vstack([V, (state.target - offset) - mean - shift @ W]).ravel()


def _gradient(problem: Problem, G: Array) -> Array:
    """The flat gradient, from one in the units of X; it is 0 along intercepts."""
    model = problem.linear
    V = G if model.scale is None else G / model.scale[:, None]
    return np.vstack([V, np.zeros((int(model.intercept), model.outputs))]).ravel()


def _value(problem: Problem, w: Array, F: Array, pull: _Pull, W: Array) -> float:
    """The objective at flat parameters w, from the smooth part F ``(k,)`` at W."""
    return float(np.maximum(F - pull.quadratic(W), 0.0).sum()) + problem.penalty_value(w)


def _smooth(state: GramState, pull: _Pull, W: Array) -> tuple[Array, Array]:
    """The gradient ``(p, k)`` and value ``(k,)`` of the smooth part at W, by the moments."""
    left = state.B - state.A @ W
    square = (state.yy - (state.B * W).sum(axis=0)) - (W * left).sum(axis=0)
    return pull.l2 * W - left, np.maximum(square, 0.0) / 2 + pull.quadratic(W)


def _from_moments(problem: Problem, state: GramState, pull: _Pull) -> GramState:
    """The State after the first iteration: the solution by moments, and whether they can vouch for it."""
    p = len(state.A)
    W = np.zeros_like(state.B)
    certain = True
    decrement = np.zeros(W.shape[1])
    for columns, factor in _factors(state.A, pull.l2):
        B, l2 = state.B[:, columns], pull.l2[:, columns[:1]]
        stray = np.abs(factor.stray(B))
        certain &= (
            factor.safe and not (stray > factor.floor * np.sqrt(state.yy[columns] / factor.least)).any()
        )
        if pull.bent:
            for j in columns:
                W[:, j] = _least(state, pull, j, None)
            continue
        v = factor.solve(B, p)
        v += factor.solve(B - (state.A @ v + l2 * v), p)  # one step of refinement
        W[:, columns] = v
        g = state.A @ v + l2 * v - B
        decrement[columns] = np.maximum((g * factor.solve(g, p)).sum(axis=0), 0.0) / 2
    G, F = _smooth(state, pull, W)
    if pull.bent:
        decrement = _bent_gap(state, pull, G, F, W)
        G = pull.subgradient(G, W)
    w = _flat(problem, state, W)
    f = _value(problem, w, F, pull, W)
    gap = float(decrement.sum()) if certain else np.inf
    return replace(state, w=w, f=f, g=_gradient(problem, G), gap=gap, phase=1)


# -- L2: conjugate gradients ----------------------------------------------------------------------


def _conjugate_step(problem: Problem, state: GramState, pull: _Pull, seen: _Seen) -> GramState:
    """The State after one step of preconditioned conjugate gradients, for each output its own.

    The curvature along the last step is the difference of the gradients at its ends, so that the product with
    the Hessian costs no sweep of its own: ``w`` is always a bet on the full step.
    """
    W, G, F = seen.W, seen.G, seen.F
    p, k = W.shape
    t, kept = np.ones(k), np.zeros(k, dtype=bool)
    worse = np.zeros(k, dtype=bool)
    gained = np.inf
    if state.phase == 2:
        slope = (state.G * state.T).sum(axis=0)
        lipschitz = G - state.G
        curve = (lipschitz * state.T).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            best = -slope / curve
        kept = (curve > 0) & (best > 1e-3) & (best < 1e8) & (-slope > 4 * EPS * state.F)
        t = np.where(kept & (np.abs(best - 1) > 1e-6), best, 1.0)
        worse = ~kept & (F > state.F)
        t[worse] = 0.0
        gained = float(np.where(kept, -slope * t, 0.0).sum()) / 2
        W = W + (t - 1) * state.T
        F = F + (t - 1) * (G * state.T).sum(axis=0) + (t - 1) ** 2 * curve / 2
        F = np.where(worse, state.F, F)
        G = np.where(t == 1, G, state.G + t * lipschitz)

    PG = np.zeros_like(W)
    live = state.live if state.phase == 2 else np.zeros((p, k), dtype=bool)
    for columns, factor in _factors(state.A, pull.l2):
        g = G[:, columns]
        PG[:, columns] = factor.solve(g, p)
        m = factor.lost.shape[1]
        if m == 0:
            continue
        stray = factor.stray(g)
        if state.phase == 1:
            # Rounding of the residuals, in units of the targets', averaged over rows (if not without end).
            size = np.linalg.norm(factor.root[:, None] * W[factor.used][:, columns], axis=0)
            size = size + np.sqrt(state.yy[columns])
            live[:m, columns] = np.abs(stray) > 8 * EPS * size / np.sqrt(min(max(state.n_rows, 1), 10_000))
        PG[:, columns] += factor.push(np.where(live[:m, columns], stray, 0.0), p)

    slopes = np.maximum((G * PG).sum(axis=0), 0.0)
    T = -PG
    if state.phase == 2:
        beta = np.where(kept & (state.slopes > 0), ((G - state.G) * PG).sum(axis=0), 0.0)
        beta = np.maximum(beta / np.where(state.slopes > 0, state.slopes, 1.0), 0.0)
        along = beta * state.T - PG
        T = np.where((G * along).sum(axis=0) < 0, along, T)
    still = slopes <= EPS * F
    T[:, still] = 0.0
    # A step that made it worse is taken back, and the next begins anew; one that had just done so ends it.
    spent = worse & (T == state.T).all(axis=0) if state.phase == 2 else worse
    # Along directions that the moments lost, the last step knows how much flatter they are than assumed; and
    # what is left may well be what that step gained.
    gap = float((slopes * np.maximum(t, 1.0)).sum()) / 2
    if live.any() and not still.all():
        gap = max(gap, gained)
    at = _flat(problem, state, W, seen.mean)
    return replace(
        state,
        w=_flat(problem, state, W + T, seen.mean),
        f=_value(problem, at, F, pull, W),
        g=_gradient(problem, G),
        gap=gap,
        stalled=bool((still | spent).all()),
        phase=2,
        at=at,
        G=G,
        F=F,
        T=T,
        live=live,
        slopes=slopes,
    )


# -- L1: proximal Newton --------------------------------------------------------------------------


def _least(state: GramState, pull: _Pull, j: int, seen: _Seen | None) -> Array:
    """The minimum ``(p,)`` of the moments' quadratic of output j with the L1 norm: by moments alone, or with
    the gradient that residuals measured and the curvature that rounding may hide."""
    H = state.A.copy()
    diagonal = np.einsum("ii->i", H)
    diagonal += pull.l2[:, j]
    b, start = state.B[:, j], None
    if seen is not None:
        diagonal *= 1 + NOISE * max(len(H), 16) * EPS
        start = seen.W[:, j]
        b = H @ start - seen.G[:, j]
    v = minimise(H, b, pull.l1[:, j], start, pull.positive)
    # Once more about where that ended, for the last digits.
    return v if seen is not None else minimise(H, b, pull.l1[:, j], v, pull.positive)


def _bent_gap(state: GramState, pull: _Pull, G: Array, F: Array, W: Array) -> Array:
    """The duality gap of each output ``(k,)``; where a coefficient bears no L1 norm, which alone bounds the
    dual, what one more minimisation of the moments' quadratic would gain."""
    if (pull.l1 > 0).all():
        return pull.gap(G, F, W)
    out = np.zeros(W.shape[1])
    seen = _Seen(W, G, F, np.zeros_like(F))
    for j in range(len(out)):
        v = _least(state, pull, j, seen)
        d = v - W[:, j]
        model = G[:, j] @ d + d @ (state.A @ d) / 2 + (pull.l2[:, j] * d * d).sum() / 2
        model += (pull.l1[:, j] * (np.abs(v) - np.abs(W[:, j]))).sum()
        out[j] = max(-float(model), 0.0)
    return out


def _proximal_step(problem: Problem, state: GramState, pull: _Pull, seen: _Seen) -> GramState:
    """The State after a Newton step on the smooth part with the moments' Hessian, the L1 norm kept as it is
    (Lee, Sun & Saunders 2014); a step that went up is taken back, and the solver stalls."""
    total = float((seen.F + pull.norm(seen.W)).sum())
    if state.phase == 2:
        W0 = seen.W - state.T
        if total > float((state.F + pull.norm(W0)).sum()):
            return replace(state, w=state.at, T=np.zeros_like(state.T), stalled=True)
    W = np.column_stack([_least(state, pull, j, seen) for j in range(seen.W.shape[1])])
    at = _flat(problem, state, seen.W, seen.mean)
    return replace(
        state,
        w=_flat(problem, state, W, seen.mean),
        f=_value(problem, at, seen.F, pull, seen.W),
        g=_gradient(problem, pull.subgradient(seen.G, seen.W)),
        gap=float(_bent_gap(state, pull, seen.G, seen.F, seen.W).sum()),
        stalled=bool((W == seen.W).all()),
        phase=2,
        at=at,
        G=seen.G,
        F=seen.F,
        T=W - seen.W,
    )
