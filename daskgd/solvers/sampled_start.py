"""A start for local solvers: the solution on a sample of the rows, and its Hessian as a metric.

The sample comes with the first sweep, so that it costs no sweep; it is uniform however the rows are sorted,
which no partition is.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from daskgd.problems import Problem
from daskgd.queries import Curvature, Query, total
from daskgd.queries.sample import Sample, SampleAnswer
from daskgd.rows.layout import Shape
from daskgd.rows.tiles import Rows
from daskgd.solvers.base import EvaluateInMemory, SolveInMemory
from daskgd.solvers.newton import DENSE, FLAT_STEP, Newton, decrement, raise_flat
from daskgd.solvers.newton_cg import NewtonCG

Array = NDArray[Any]

HESSIAN_ROWS = 200
"""Rows for each parameter on which a Hessian is taken, where there are as many."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin: parameters w ``(d,)``, and the Hessian there ``(d, d)``, positive definite; of shape
    ``(0, 0)`` where there is no sample or there are too many parameters."""

    w: Array
    metric: Array


def sample_of(shape: Shape, nbytes: int, seed: int) -> tuple[Query, ...]:
    """The query of a sample of about `nbytes`, and of twenty rows for each feature at least; none for 0
    bytes."""
    if not nbytes:
        return ()
    rows = max(nbytes / shape.row_bytes, 20 * (shape.n_features + 1))
    return (Sample.of(shape, rows, int(min(20 * (shape.n_features + 1), rows / 10)), seed),)


def begin(
    problem: Problem, w: Array, first_sweep_answers: Sequence[SampleAnswer]
) -> Generator[tuple[Query, ...], Sequence[Any], Start]:
    """The :class:`Start` at the solution on the sample; costs no sweep."""
    none = np.zeros((0, 0))
    if not first_sweep_answers or not len(first_sweep_answers[0].rows):
        return Start(w, none)
    rows = replace(first_sweep_answers[0].rows, kept=None, dtype=np.dtype(float))
    small = len(w) <= DENSE
    if small or problem.penalty.smooth:
        solver = Newton() if small else NewtonCG()
        tol = max(1e-3 * len(w) / len(rows), 1e-12)  # closer than the sample's own error is in vain
        (solved,) = yield (SolveInMemory(problem, rows, solver, w, tol),)
        if np.isfinite(solved.w).all() and solved.f <= solved.first:
            w = solved.w
    if not small:
        return Start(w, none)
    ((_, _, H),) = yield (EvaluateInMemory(problem, rows, Curvature(w)),)
    return Start(w, definite(H) if np.isfinite(H).all() else none)


def definite(H: Array) -> Array:
    """The positive definite matrix |H|: H with its absolute eigenvalues, and a modest one where H is flat.

    >>> definite(np.diag([2.0, 0.0])).round(3).tolist()
    [[2.0, 0.0], [0.0, 0.02]]
    """
    values, vectors = np.linalg.eigh(H)
    values = raise_flat(values, FLAT_STEP, without_any=FLAT_STEP * np.finfo(float).tiny)
    out: Array = (vectors * values) @ vectors.T
    return (out + out.T) / 2


def some(rows: Rows, most: int) -> Rows:
    """About `most` of the rows that have weight, evenly spread; all rows where these are not many more."""
    at = np.arange(len(rows)) if rows.sample_weight is None else np.flatnonzero(rows.sample_weight)
    k = len(at) // max(most, 1)
    return rows if k < 2 else rows.select(at[::k])


def hessian(problem: Problem, rows: Rows, w: Array) -> Array:
    """The Hessian ``(d, d)`` of the partition's own objective, on as many of its rows as that takes."""
    query = Curvature(w)
    sums = total(query.of_tile(problem, tile) for tile in some(rows, HESSIAN_ROWS * len(w)).tiles())
    if not sums["weight"] > 0:  # class weights of 0
        return np.eye(len(w))
    H: Array = query.answer(problem, sums)[2]
    return H if np.isfinite(H).all() else np.eye(len(w))


def solve(H: Array, q: Array) -> Array:
    """The product ``|H|^-1 q`` ``(d,)``."""
    try:
        factor = cho_factor(H, lower=True)
    except LinAlgError:
        return -decrement(H, q)[0]
    out: Array = cho_solve(factor, q)
    return out
