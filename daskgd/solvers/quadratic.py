"""Quadratics in memory with an L1 norm and signs, minimised to rounding: what proximal steps come down to.

Everything is in memory, ``(d, d)`` and dense, and nothing here knows where the quadratic comes from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.linalg.blas import daxpy

Array = NDArray[Any]

EPS = float(np.finfo(float).eps)
RIDGE = 1e-12
"""Added to the unit diagonal before it is factorised. Directions flatter than this count as flat: along them
only the L1 norm pulls, and the step ends where a sign changes."""

ROUNDS = 500
BATCH = 8
PATH, STEPS = 2.0, 30
"""Factor by which strengths fall on the way to those asked, and the most steps of it: then it is larger."""

SHORTER = 0.5 ** np.arange(8)


def minimise(
    H: Array,
    b: Array,
    l1: Array,
    start: Array | None = None,
    positive: bool | Array = False,
) -> Array:
    """The minimum of a quadratic with an L1 norm: ``argmin_v v'Hv/2 - b'v + sum_j l1_j |v_j|``, subject to
    ``v_j >= 0`` where `positive`.

    An active-set method (Nocedal & Wright 2006, section 16.5). Newton's step on the support ends at its
    minimum at once, however correlated the features; where a sign would change it is cut or projected. What
    then violates its condition the most joins by coordinate descent (Friedman, Hastie & Tibshirani 2010,
    section 2.2), ``b - Hv`` kept by rows of H: as many at a time as lately came without throwing others out,
    and from strengths that leave all at 0 down to those asked, so that the support grows from below. Each
    move lowers the objective, and a support once solved never returns. Works on a unit diagonal, so that the
    scales of features do not matter.

    Parameters
    ----------
    H : (d, d)
        Symmetric, positive semidefinite; it holds any ridge. Where ``H_jj <= 0``, v_j stays 0.
    b : (d,)
    l1 : (d,)
        Strengths >= 0; 0 for what is not penalised.
    start : (d,), optional
        Where to begin, unless 0 is lower; zeros by default.
    positive : bool or (d,) of bool

    Returns
    -------
    v : (d,)
        Finite; at the minimum to rounding, see :func:`violation`. Where there is none (flat directions that
        `b` leans on), a point as low as was found; where the input is not finite, the start.

    Examples
    --------
    >>> minimise(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([3.0, 0.5]), np.ones(2))
    array([1., 0.])
    """
    b = np.asarray(b, dtype=float)
    d = len(b)
    at = np.zeros(d) if start is None else np.array(start, dtype=float)
    signed = np.broadcast_to(np.asarray(positive, dtype=bool), (d,))
    diagonal = np.diagonal(H)
    used = diagonal > 0
    at[~np.isfinite(at) | (signed & ~(at > 0))] = 0.0
    if not (np.isfinite(H).all() and np.isfinite(b).all() and np.isfinite(l1).all()):
        return at
    at[~used] = 0.0
    if not used.any():
        return at
    root = np.sqrt(diagonal[used])
    with np.errstate(all="ignore"):
        scaled = np.ascontiguousarray(H[np.ix_(used, used)] / np.outer(root, root))
    if not np.isfinite(scaled).all():
        return at
    np.fill_diagonal(scaled, 1.0)
    strengths = np.broadcast_to(np.asarray(l1, dtype=float), (d,))[used] / root
    descent = _Descent(scaled, b[used] / root, strengths, signed[used], at[used] * root)
    with np.errstate(over="ignore", invalid="ignore"):
        found = descent.run() / root
    at[used] = np.where(np.isfinite(found), found, at[used])
    return at


def violation(H: Array, b: Array, l1: Array, v: Array, positive: bool | Array = False) -> float:
    """The violation of the conditions of a minimum at v, relative to ``max |b|``.

    With ``r = b - Hv``: the largest of ``|r_j - l1_j sign(v_j)|`` where v_j is not 0, and of the excess of
    ``|r_j|`` over l1_j where it is (of r_j alone where `positive`). Infinity where a sign is wrong.

    >>> H, b, l1 = np.eye(2), np.array([3.0, 0.5]), np.ones(2)
    >>> violation(H, b, l1, np.array([2.0, 0.0])), violation(H, b, l1, np.array([2.0, 0.3]))
    (0.0, 0.26666666666666666)
    """
    if np.any(positive & (v < 0)):
        return np.inf
    scale = float(np.abs(b).max(initial=0))
    excess = _excess(b - H @ v, l1, v, np.broadcast_to(positive, v.shape))
    return float(excess.max(initial=0)) / (scale or 1.0)


def _excess(r: Array, l1: Array, v: Array, positive: Array) -> Array:
    """The violation of each coordinate, ``(d,)``."""
    out: Array = np.where(
        v != 0, np.abs(r - l1 * np.sign(v)), np.maximum(np.where(positive, r, np.abs(r)) - l1, 0.0)
    )
    return out


class _Descent:
    """The state of one minimisation on a unit diagonal: v, and ``r = b - Hv``."""

    __slots__ = ("A", "H", "b", "batch", "factor", "free", "l1", "positive", "r", "scale", "support", "v")

    def __init__(self, H: Array, b: Array, l1: Array, positive: Array, v: Array) -> None:
        self.H, self.b, self.l1, self.positive, self.v = H, b, l1, positive, v
        self.free = (l1 == 0) & ~positive
        self.r = b - H @ v
        self.scale = float(np.abs(b).max(initial=0))
        self.batch = BATCH
        self.support: Array = np.zeros(0, dtype=np.intp)
        self.A: Array = np.zeros((0, 0))
        self.factor: Any = None

    def run(self) -> Array:
        """Move v to the minimum, and return it."""
        if not self.value() < 0:
            self.v, self.r = np.zeros_like(self.v), self.b.copy()
            self.descend()
        best, least, lowest, idle = self.v.copy(), np.inf, np.inf, 0
        for _ in range(ROUNDS):
            self.newton()
            worst, f = float(self.excess().max()), self.value()
            if not (np.isfinite(worst) and np.isfinite(f)):
                break
            # Rounds that bring nothing: what is left is rounding.
            lower = not np.isfinite(lowest) or f < lowest - 4 * EPS * abs(lowest)
            idle = 0 if lower or worst < least / 2 else idle + 1
            if worst < least:
                best, least = self.v.copy(), worst
            lowest = min(f, lowest)
            if worst <= EPS * self.scale or idle == 3:
                break
            self.join()
        return best

    def descend(self) -> None:
        """Solve for L1 strengths that fall from those that leave all of v at 0 to the true ones."""
        true = self.l1
        self.newton()
        pulled = true > 0
        pull = np.where(self.positive, self.r, np.abs(self.r))[pulled]
        c = float(np.max(pull / true[pulled], initial=0.0))
        if c > 1 and np.isfinite(c):
            steps = min(int(np.ceil(np.log(c) / np.log(PATH))), STEPS)
            for k in range(1, steps):
                if self.v.all():
                    break
                self.l1 = true * c ** (1 - k / steps)
                self.join()
                self.newton()
        self.l1 = true

    def value(self) -> float:
        """The objective at v; it is 0 at 0."""
        return float(self.l1 @ np.abs(self.v) - (self.b + self.r) @ self.v / 2)

    def excess(self) -> Array:
        """The violation of each coordinate."""
        return _excess(self.r, self.l1, self.v, self.positive)

    def join(self) -> None:
        """Let the `batch` zeros of the worst violations leave 0, each in turn by coordinate descent."""
        excess = np.where(self.v == 0, self.excess(), 0.0)
        count = min(self.batch, np.count_nonzero(excess > EPS * self.scale))
        self.sweep(np.argsort(-excess, kind="stable")[:count])

    def sweep(self, order: Array) -> None:
        """Minimise along each of the coordinates in `order`, once."""
        H, r, v, l1, positive = self.H, self.r, self.v, self.l1, self.positive
        for j in order:
            old, strength = v[j], l1[j]
            z = r[j] + old
            if z > strength:
                new = z - strength
            elif z < -strength and not positive[j]:
                new = z + strength
            else:
                new = 0.0
            if new != old:
                daxpy(H[j], r, a=old - new)
                v[j] = new

    def newton(self) -> None:
        """Take Newton steps on the support until its minimum; a coordinate that would change sign leaves
        it."""
        cuts, previous = 0, np.inf
        self.r = self.b - self.H @ self.v
        while True:
            support = np.flatnonzero((self.v != 0) | self.free)
            if len(support) == 0:
                break
            if not np.array_equal(support, self.support):
                self.factorise(support)
            signs = np.sign(self.v[support])
            g = self.b[support] - self.A @ self.v[support] - self.l1[support] * signs
            size = float(np.abs(g).max())
            if size == 0 or not np.isfinite(size) or size > previous / 2:
                break
            previous = size
            if self.step(support, signs, g):
                cuts, previous = cuts + 1, np.inf
                # Signs that one cut shows to be wrong are rarely alone, and cheaper found this way.
                self.r = self.b - self.H @ self.v
                self.sweep(np.flatnonzero(self.v))
        self.r = self.b - self.H @ self.v
        # As many join next time as came without others being thrown out.
        self.batch = (
            max(BATCH, self.batch // 4) if 4 * cuts > self.batch else min(2 * self.batch, len(self.v))
        )

    def factorise(self, support: Array) -> None:
        """Factorise H on the support by Cholesky."""
        self.support, self.A = support, self.H[np.ix_(support, support)]
        ridge = RIDGE
        while True:
            A = self.A.copy()
            A[np.diag_indices_from(A)] += ridge
            try:
                self.factor = cho_factor(A, lower=True, overwrite_a=True, check_finite=False)
                return
            except LinAlgError:
                ridge *= 10

    def step(self, support: Array, signs: Array, g: Array) -> bool:
        """Take one step towards the minimum on the support; return whether some of it fell to 0."""
        d = cho_solve(self.factor, g, check_finite=False)
        slope, curve = float(g @ d), float(d @ (self.A @ d))
        if not (slope > 0 and np.isfinite(curve)):
            return False
        t = min(1.0, slope / curve) if curve > 0 else 1.0
        bound, old = ~self.free[support], self.v[support]
        new = old + t * d
        crosses = bound & (new * signs <= 0)
        if crosses.any():
            # Cut at the first sign to change; or project, which drops many, if that goes lower.
            reach = np.full(len(d), np.inf)
            reach[crosses] = -old[crosses] / d[crosses]
            near = old + reach.min() * d
            near[reach <= reach.min() * (1 + 4 * EPS)] = 0.0
            ends = np.vstack([near, old + t * SHORTER[:, None] * d])
            ends[:, bound] = np.where(ends[:, bound] * signs[bound] > 0, ends[:, bound], 0.0)
            moves = ends - old
            falls = 0.5 * np.einsum("ij,ij->i", moves @ self.A, moves) - moves @ g
            new = ends[int(np.argmin(falls))]
        self.v[support] = new
        return bool(np.any(bound & (new == 0)))
