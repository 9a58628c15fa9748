"""Quadratic models with L1 and many features, minimised over working sets of them, whose Hessian is formed.

Few coefficients of the minimum are not 0: on those the model is a small matrix, whose minimum is exact.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.rows.sparse import SPARSE_PRODUCT
from daskgd.solvers.hessian_free import HessianOperator
from daskgd.solvers.newton import newton_step
from daskgd.solvers.quadratic_by_products import Minimum, Quadratic
from daskgd.solvers.quadratic_by_products import minimise as minimise_by_products
from daskgd.solvers.sampled_hessian import MATRIX_L1

Array = NDArray[Any]

FORMING_WORK = 5e10
"""Rows times squared parameters up to which the Hessian over a working set is formed: seconds on one core."""

LEAST_JOINING = 100
"""Coefficients that join a working set at a time, at least; and as many as have joined before."""

NOISE = 64
"""Rounding units of a gradient below which a subgradient is none."""

ROOM = 0.1
"""Share of a working set that is to be left for features that join the support."""

ATTEMPT, LEAST_ATTEMPT, LARGE = 2.0, 25, 256
"""Work on products that are to spare a Hessian, as a multiple of the work on it; the least number of them
that is worth a try, and of parameters of the Hessian."""


def most_features(n_rows: int, outputs: int) -> int:
    """The most features of a working set, for so many rows and outputs: 0 where none is worth its Hessian."""
    return min(MATRIX_L1, int(np.sqrt(FORMING_WORK / max(n_rows, 1)))) // outputs


def minimise(
    operator: HessianOperator,
    model: Quadratic,
    w: Array,
    r: Array,
    rtol: float,
    tol: float,
    most: int,
    products: int,
) -> Minimum:
    """Minimise the quadratic model of a problem from w, where its gradient without the L1 norm is r.

    Over a working set of features, at most `most`, the Hessian is formed, and the minimum is that to
    rounding. A product with the whole Hessian shows what else would leave 0, which joins them: the largest
    first. Ends where nothing would, or nothing is gained any more; or, where w is farther than `tol` from the
    minimum, where the subgradient in the metric of the diagonal is `rtol` of the first. A support that is too
    large for a working set is left to :func:`~daskgd.solvers.quadratic_by_products.minimise`, as is what
    would take more than so many `products`. Once, where the next Hessian costs as much as many products,
    these are tried in its place.
    """
    problem, k = operator.problem, operator.problem.linear.outputs
    n = problem.linear.n_features
    noise = NOISE * float(np.finfo(operator.dtype).eps)
    v, gain, gained, first, rounds = w.copy(), 0.0, np.inf, 0.0, 0
    working, seen, stay = (np.zeros(n, dtype=bool) for _ in range(3))
    tried = False

    def of_features(values: Array) -> Array:
        return values[: n * k].reshape(n, k)

    while True:
        m = model.subgradient(v, r)
        m[np.abs(m) <= noise * np.maximum(model.l1, np.abs(r))] = 0.0
        each = m * m / model.diagonal
        violated, size = np.where(working, 0.0, of_features(each).sum(axis=1)), float(each.sum())
        if rounds and (not violated.any() or not gained > 0 or (gain > tol and size <= rtol * rtol * first)):
            return Minimum(v, gain, size / 2, rounds)
        support = of_features(v).any(axis=1)
        room = most - int(support.sum())
        if room < max(ROOM * most, 1) or rounds >= products:
            found = minimise_by_products(model, v, r, rtol, products, tol)
            return replace(found, gain=gain + found.gain, products=rounds + found.products)
        first = first or size
        few = min(room, max(LEAST_JOINING // k, int(support.sum()), 1))
        joining = np.argsort(-violated, kind="stable")[:few]
        joining = joining[violated[joining] > 0]
        stay[joining] = seen[joining]  # what comes back goes no more, so that sets do not alternate
        seen[joining] = True
        working = support | stay
        if working.sum() + len(joining) > most:
            working = support
        working[joining] = True
        features = np.flatnonzero(working)
        most_tried = 0 if tried else min(products_for_hessian(operator, features), products)
        if most_tried >= LEAST_ATTEMPT:
            tried = True
            found = minimise_by_products(model, v, r, rtol, most_tried, tol)
            gain, rounds = gain + found.gain, rounds + found.products
            if found.products < most_tried and found.left <= max(tol, rtol * found.gain):
                return replace(found, gain=gain, products=rounds)
            r, v = r + operator.product(found.v - v), found.v
            working, gained = np.zeros_like(working), np.inf
            continue
        at = problem.parameters_of(features)
        d, gained, _ = newton_step(problem.on_features(features), v[at], r[at], operator.matrix(features))
        step = np.zeros_like(v)
        step[at] = d
        r, rounds = r + operator.product(step), rounds + 1
        u = v + step
        v = model.centred(u)
        gained += float(model.l1 @ (np.abs(u) - np.abs(v)))
        gain += gained


def products_for_hessian(operator: HessianOperator, features: Array) -> int:
    """How many products with the whole Hessian may be tried before that of these features is formed: 0 where
    features are dense, as matrix products are the fastest that there is."""
    X, size = operator.rows.X, len(features) * operator.problem.linear.outputs
    n, p = X.shape
    if size < LARGE or X.n_stored > SPARSE_PRODUCT * n * p:
        return 0
    entries = float(X.counts()[features].sum())
    forming = min(entries * entries / n, n * size * size / 16)  # entry by entry, or made dense
    solving = size**3 / 8
    return int(ATTEMPT * (forming + solving) / (2 * max(X.n_stored, 1)))
