"""Newton's method by products with the Hessian: for rows in memory and too many parameters for a matrix."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.queries import Gradient, Product, Query
from daskgd.solvers.base import Solver, State, Steps, is_count, require
from daskgd.solvers.line_search import search, wolfe

Array = NDArray[Any]

TIGHT = 0.05
"""Relative residual of conjugate gradients that leaves nothing open."""


@dataclass(slots=True)
class NewtonCG(Solver):
    """Truncated Newton: the step solves ``H d = -g`` by conjugate gradients (Nocedal & Wright 2006, 7.1).

    Every product with the Hessian is a sweep: cheap on rows in memory, dear on rows that are not. The
    residual is made small as the gradient becomes small, so that convergence is quadratic in the end. The gap
    is half the squared decrement, ``-g'd / 2``, less what the residual leaves open.

    Parameters
    ----------
    products : int
        Most products an iteration.

    Examples
    --------
    >>> NewtonCG(products=50)
    NewtonCG(products=50)
    """

    needs_linear = True
    extrapolates = True

    products: int = 500

    def __post_init__(self) -> None:
        require(is_count(self.products), self, "products", "a whole number >= 1", self.products)

    def start(self, problem: Problem, w: Array, *first_sweep_answers: Any) -> Steps:
        ((f, g),) = yield (Gradient(w),)
        return State(w, f, g, gap=np.inf if g.any() else 0.0, objective_history=np.array([np.linalg.norm(g)]))

    def iterate(self, problem: Problem, state: State) -> Steps:
        s = state
        size = float(np.linalg.norm(s.g))
        forcing = min(0.1, size / max(float(s.objective_history[0]), 1e-300))
        d, left, _ = yield from conjugate_gradients(s.w, s.g, forcing, self.products)
        slope = float(s.g @ d)
        if not slope < 0:
            return replace(s, gap=0.0 if size == 0 else s.gap, stalled=size > 0)

        def accept(t: float, f: float, slope_t: float) -> bool:
            return wolfe(s.f, slope, t, f, slope_t)

        found = yield from search(s.w, d, s.f, slope, 1.0, accept)
        if found is None:
            return replace(s, gap=-slope / 2 * (1 + left), stalled=True)
        t, f, g = found
        # The decrement at the new point would cost its own products; in the metric just used it is at most
        # the old one shrunk as the gradient did.
        shrunk = min(1.0, float(np.linalg.norm(g)) / size)
        return State(
            s.w + t * d, f, g, gap=-slope / 2 * (1 + left) * shrunk, objective_history=s.objective_history
        )


def conjugate_gradients(
    w: Array,
    g: Array,
    forcing: float,
    most: int,
    metric: Callable[[Array], Array] | None = None,
    enough: Callable[[Array], bool] = lambda gains: True,
) -> Generator[tuple[Query, ...], Sequence[Any], tuple[Array, float, Array]]:
    """The step d ``(d,)`` with ``|H d + g| <= forcing |g|``, in the metric of a preconditioner, if there is
    one; the relative residual that was reached; and by how much each of m products has lowered the quadratic
    model ``(m,)``. `enough` may ask for more products by these gains, down to a residual of ``TIGHT``."""
    d, r = np.zeros_like(g), g.copy()
    z = r if metric is None else metric(r)
    p, rr = -z, float(r @ z)
    first, gains = rr, np.zeros(0)
    for _ in range(most):
        if rr <= forcing * forcing * first and (rr <= TIGHT * TIGHT * first or enough(gains)):
            break
        (Hp,) = yield (Product(w, p),)
        lipschitz = float(p @ Hp)
        if not lipschitz > 1e-14 * float(p @ p) * max(float(np.abs(Hp).max()), 1e-300):
            break  # flat, or rounding: what was found so far is a way down
        step = rr / lipschitz
        gains = np.append(gains, step * rr / 2)
        d += step * p
        r += step * Hp
        z = r if metric is None else metric(r)
        new = float(r @ z)
        p = -z + (new / rr) * p
        rr = new
    if not d.any():
        d = -g
    return d, float(np.sqrt(rr / first)) if first > 0 else 0.0, gains
