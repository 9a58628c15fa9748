"""Local queries of the Newton system over rows in memory, solved without forming the Hessian."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.rows.random_numbers import PROBE, row_random_numbers
from daskgd.rows.tiles import Rows
from daskgd.solvers.base import ComputeInMemory
from daskgd.solvers.hessian_free import (
    HessianOperator,
    LinearSolution,
    Preconditioner,
    conjugate_gradients,
    precondition,
)
from daskgd.solvers.quadratic_by_products import Minimum, Quadratic
from daskgd.solvers.working_sets import minimise, most_features

Array = NDArray[Any]

LOOSEST, TIGHTEST = 0.3, 0.01
"""Relative residuals of a Newton system, far from the minimum and close to it."""

SCREENED = 0.75
"""Share of its L1 strength below which the gradient of a coefficient of 0 keeps its feature out of a step."""

RESTRICTED = 0.6
"""Share of the features up to which a step is worth a copy of their columns."""

PROBES = 10
"""Products in a random direction, for what the preconditioner does not see of the Hessian."""

PRODUCTS = 500
"""Most products with the Hessian for one system."""


@dataclass(frozen=True, slots=True, eq=False)
class SolveNewtonSystem(ComputeInMemory):
    """Work in memory: the system ``H x = q`` with the Hessian over `rows` at w; answers a
    :class:`~daskgd.solvers.hessian_free.LinearSolution`.

    Attributes
    ----------
    w, q : (d,)
    rtol : float
        Relative residual, in the metric of the preconditioner, at which to stop.
    scale : float
        The objective, where q is its gradient and rtol is to depend on how far away the minimum is: the
        residual is then a fourth root of the gap's share of it (Dembo, Eisenstat & Steihaug 1982), within
        ``LOOSEST`` and `rtol`; 0 for rtol as it is.
    metric : Preconditioner, optional
        Made anew where it is not given.
    hidden, least, value, far : float
        As those of :func:`~daskgd.solvers.hessian_free.conjugate_gradients`.
    """

    w: Array
    q: Array
    rtol: float = TIGHTEST
    scale: float = 0.0
    metric: Preconditioner | None = field(default=None, compare=False)
    hidden: float = 0.0
    least: float = np.inf
    value: float = np.inf
    far: float = np.inf

    def compute(self, threads: int) -> LinearSolution:
        operator = HessianOperator(self.problem, self.rows, self.w, threads)
        inverse = self.metric or precondition(operator)
        rtol, least = self.rtol, self.least
        if np.isinf(least) and not inverse.sees_all:
            # A gradient may have next to nothing in the flat directions, in which most of the gap lies.
            any_direction = row_random_numbers(np.arange(len(self.q)), 0, PROBE) - 0.5
            least = conjugate_gradients(operator.product, inverse, any_direction, 0.0, PROBES).least
        if self.scale > 0:
            away = float(self.q @ inverse(self.q)) / self.scale
            rtol = max(min(LOOSEST, away**0.25), rtol)
        return conjugate_gradients(
            operator.product, inverse, self.q, rtol, PRODUCTS, self.hidden, least, self.value, self.far
        )


@dataclass(frozen=True, slots=True, eq=False)
class MakeMetric(ComputeInMemory):
    """Work in memory: a preconditioner for the Hessian over `rows` at w ``(d,)``; answers a
    :class:`~daskgd.solvers.hessian_free.Preconditioner`, a dataclass of arrays."""

    w: Array

    def compute(self, threads: int) -> Preconditioner:
        return precondition(HessianOperator(self.problem, self.rows, self.w, threads))


@dataclass(frozen=True, slots=True, eq=False)
class SolveProximalSystem(ComputeInMemory):
    """Work in memory: the minimum of the quadratic model of the loss at w with the penalty as it is, where
    the Hessian is that over `rows` at `base`; answers a
    :class:`~daskgd.solvers.quadratic_by_products.Minimum`.

    Features whose coefficients are 0 and whose gradients are well below their L1 strengths stay at 0: the
    gradient over all rows shows in the next iteration whether that was right (strong rules: Tibshirani et al.
    2012). Of the others the Hessian is formed where they are few, and the minimum is that to rounding.

    Attributes
    ----------
    base, w, g : (d,)
        g is the gradient of all but the L1 norm.
    rtol, scale :
        As those of :class:`SolveNewtonSystem`.
    tol : float
        How close to the minimum w must seem to be for that to be confirmed.
    """

    base: Array
    w: Array
    g: Array
    rtol: float = TIGHTEST
    scale: float = 0.0
    tol: float = 0.0

    def compute(self, threads: int) -> Minimum:
        problem, model = self.problem, self.problem.linear
        k, p = model.outputs, model.n_features
        l1, positive = problem.penalty_l1(self.w), problem.positive
        near = (self.w != 0) | (np.abs(self.g) >= SCREENED * l1)
        features = np.flatnonzero(near[: p * k].reshape(p, k).any(axis=1))
        if len(features) > RESTRICTED * p:
            features = np.arange(p)
        at = problem.parameters_of(features)
        rows, base = self.rows, self.base[at]
        if len(features) < p:
            # The margins at `base` come from all features, but those left out have coefficients of 0 there,
            # or nearly so.
            problem, rows = problem.on_features(features), replace(rows, X=rows.X.columns(features))
        operator = HessianOperator(problem, rows, base, threads)
        diagonal = operator.diagonal()
        least = 1e-10 * float(diagonal.max(initial=0.0))
        l1, positive = l1[at], positive[at]
        shifts = (
            problem.loss.common_shift and not operator.penalty.any() and bool(l1[: len(features) * k].all())
        )
        quadratic = Quadratic(
            operator.product, np.maximum(diagonal, least or 1.0), l1, positive, k if shifts else 0
        )
        w, g = self.w[at], self.g[at]
        rtol = self.rtol
        if self.scale > 0:
            m = quadratic.subgradient(w, g)
            rtol = max(min(LOOSEST, (float(m @ (m / quadratic.diagonal)) / self.scale) ** 0.25), rtol)
        found = minimise(operator, quadratic, w, g, rtol, self.tol, most_features(len(rows), k), PRODUCTS)
        v = self.w.copy()
        v[at] = found.v
        return replace(found, v=v)


@dataclass(frozen=True, slots=True, eq=False)
class DrawStep(ComputeInMemory):
    """Work in memory: a random vector ``(d,)`` whose covariance is the inverse of the Hessian over `rows` at
    w: ``H^-1 v``, where that of v is the Hessian itself.

    Attributes
    ----------
    w : (d,)
    seed : int
    """

    w: Array
    seed: int

    def compute(self, threads: int) -> Array:
        operator = HessianOperator(self.problem, self.rows, self.w, threads)
        inverse, drawn = precondition(operator), operator.draw(self.seed)
        return conjugate_gradients(operator.product, inverse, drawn, 0.1, PRODUCTS).x


def stage(problem: Problem, rows: Rows, share: int) -> Rows:
    """Every `share`-th of the rows, as a copy, in float32 where features are standardised and do not need
    more; where targets are labels, every `share`-th of each class, and one at least."""
    exact = problem.linear.needs_float64 or problem.linear.scale is None
    dtype = None if exact else np.dtype(np.float32)
    if problem.labels is None:
        return rows.select(np.arange(0, len(rows), share), dtype)
    assert rows.y is not None
    codes = problem.codes(rows.y, rows.start if rows.kept is None else rows.kept)
    counts = np.bincount(codes, minlength=len(problem.labels))
    order, first = np.argsort(codes, kind="stable"), np.cumsum(counts) - counts
    at = np.sort(np.concatenate([order[a : a + n : share] for a, n in zip(first, counts, strict=True)]))
    # A class of few rows has a larger share of this part than of all rows: weights set that right.
    scale = (counts / np.maximum(np.bincount(codes[at], minlength=len(counts)), 1))[codes[at]]
    s = None if rows.sample_weight is None else rows.sample_weight[at]
    return replace(rows.select(at, dtype), sample_weight=scale if s is None else s * scale)
