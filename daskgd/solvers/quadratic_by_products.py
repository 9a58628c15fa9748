"""Quadratics with an L1 norm and signs, minimised by products with their matrix: what proximal steps of many
parameters come down to.

The counterpart of :mod:`daskgd.solvers.quadratic` for matrices that are not formed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.solvers.base import least_subgradient
from daskgd.solvers.hessian_free import LinearSolution, conjugate_gradients

Array = NDArray[Any]

ROUNDS = 100
"""Most faces on which a step is taken."""

FACE_RTOL = 0.1
"""Relative residual of a step on one face: another face is likely to come."""

FACE_PRODUCTS = 25
"""Most products for one of them."""

CERTAIN = 0.2
"""Relative residual of the system on a face that is to confirm that the minimum is near."""

DAMPING, LEAST_DAMPING, MOST_DAMPING = 4.0, 1e-9, 0.3
"""What is added to H for a step, in units of the diagonal: a share of the L1 strengths over the size of the
coefficients, within limits."""

TRIALS, SHORT = (1.0, 0.5, 0.25, 0.0625), tuple(4.0**-i for i in range(12))
"""Shares that are tried of a step on a face, and, should none of them do, of a step along the gradient."""

ROUNDING = 1e-12
SUFFICIENT = 1e-4


@dataclass(frozen=True, slots=True)
class Quadratic:
    """The model ``r'(v - w) + (v - w)'H(v - w) / 2 + sum_j l1_j |v_j|`` of v ``(d,)``, with ``v_j >= 0``
    where `positive`.

    Attributes
    ----------
    product : callable
        The product of H, positive semidefinite, with a vector ``(d,)``.
    diagonal : (d,)
        That of H, all above 0.
    l1 : (d,)
        Strengths >= 0; 0 for what is not penalised.
    positive : (d,) of bool
    shared : int
        The number of outputs k, where the model does not change when the same number is added to the k
        coefficients of a feature, which lie one after the other; 0 where it does.
    """

    product: Callable[[Array], Array]
    diagonal: Array
    l1: Array
    positive: Array
    shared: int = 0

    def face(self, v: Array, m: Array) -> Array:
        """The coordinates ``(d,)`` of bool that are not 0 at v, or would leave 0 along the subgradient m.

        Where the k coefficients of a feature only count relative to one another, one that is 0 stays so.
        """
        face = (v != 0) | (m != 0)
        if self.shared:
            n = int(np.count_nonzero(self.l1))
            of_feature, zero = face[:n].reshape(-1, self.shared), (v[:n] == 0).reshape(-1, self.shared)
            whole = of_feature.all(axis=1)
            of_feature[whole, zero.argmax(axis=1)[whole]] = False
        return face

    def centred(self, v: Array) -> Array:
        """The point of least L1 norm ``(d,)`` where the model without it is the same as at v: a median of the
        coefficients of each feature is 0, or with signs to keep the least of them."""
        k, n = self.shared, int(np.count_nonzero(self.l1)) if self.shared else 0
        if not n:
            return v
        V = v[:n].reshape(-1, k)
        shift = V.min(axis=1) if self.positive[0] else np.partition(V, k // 2, axis=1)[:, k // 2]
        return np.append(V - shift[:, None], v[n:])

    def subgradient(self, v: Array, r: Array) -> Array:
        """The subgradient of least norm ``(d,)`` at v, where the gradient without the L1 norm is r."""
        return least_subgradient(v, r, self.l1, self.positive)


@dataclass(frozen=True, slots=True)
class Minimum:
    """Where the search for a minimum ended.

    Attributes
    ----------
    v : (d,)
    gain : float
        How far the model is lower there than where the search began.
    left : float
        An estimate of how far it is above its minimum.
    products : int
    """

    v: Array
    gain: float
    left: float
    products: int


def minimise(model: Quadratic, w: Array, r: Array, rtol: float, most: int, tol: float = 0.0) -> Minimum:
    """Minimise a quadratic model from w, where its gradient without the L1 norm is r, both ``(d,)``.

    Rounds of two halves (Moré & Toraldo 1991): conjugate gradients in the coordinates that are not 0 or would
    leave 0, with their signs as they are; then a search along that step, on which coordinates whose sign
    would change stop at 0. Ends when the subgradient, in the metric of the diagonal, is `rtol` of the first,
    or after `most` products.

    That metric sees little of flat directions, of which correlated features have many. So where w seems to be
    within `tol` of the minimum, the Newton system on the face is solved, whose remainder counts; and the
    search goes on where that bears it out not to be so.
    """
    v, r = model.centred(w.copy()), r.copy()
    gain, products = float(model.l1 @ (np.abs(w) - np.abs(v))), 0
    first = size = 0.0
    for _ in range(ROUNDS):
        m = model.subgradient(v, r)
        size = float(m @ (m / model.diagonal))
        first = first or size
        face = model.face(v, m)
        signs = np.where(v != 0, np.sign(v), -np.sign(m))
        if size == 0 or products >= most:
            break
        if size <= rtol * rtol * first:
            left = gain * size / first
            if gain + left > tol:
                break
            found_on_face = _newton_on_face(model, face, m, most)
            products, left = products + found_on_face.products, found_on_face.squared / 2
            if gain + left <= tol or products >= most:
                return Minimum(v, gain, left, products)
            x, used, first = found_on_face.x, 0, size
        else:
            x, used = _step_on_face(model, v, face, m)
        products += used
        wrong = face & (v == 0) & (x * signs < 0)  # these would leave 0 the other way, once all others move
        if wrong.any():
            face &= ~wrong
            x, used = _step_on_face(model, v, face, m)
            products += used
        for direction, shares in ((x, TRIALS), (-m / model.diagonal, SHORT)):
            found, used = _search(model, v, r, m, signs, direction, shares)
            products += used
            if found is not None:
                break
        else:
            return Minimum(v, gain, max(gain, size / 2), products)
        u, r, change = found
        v = model.centred(u)
        gain += float(model.l1 @ (np.abs(u) - np.abs(v))) - change
    # What is left of the subgradient promises as much for its size as what is gone.
    return Minimum(v, gain, gain * size / first if first > 0 else 0.0, products)


def _newton_on_face(model: Quadratic, face: Array, m: Array, most: int) -> LinearSolution:
    """The solution x ``(d,)`` of ``H x = -m`` in the coordinates of a face, and how far the model is above
    its minimum there: half of ``squared``."""
    return conjugate_gradients(
        lambda x: np.where(face, model.product(x), 0.0),
        lambda q: q / model.diagonal,
        np.where(face, -m, 0.0),
        CERTAIN,
        most,
    )


def _search(
    model: Quadratic, v: Array, r: Array, m: Array, signs: Array, x: Array, shares: Sequence[float]
) -> tuple[tuple[Array, Array, float] | None, int]:
    """The first point along x from v, coordinates stopping at 0 where their sign would change, that lowers
    the model enough: the point, the gradient there and the change of the model, or None; and the products
    that it took."""
    kinks = (model.l1 > 0) | model.positive
    for used, t in enumerate(shares):
        u = v + t * x
        u[kinks & (u * signs <= ROUNDING * np.abs(t * x))] = 0.0
        step = u - v
        slope = float(m @ step)
        if not slope < 0:
            continue
        Hs = model.product(step)
        change = float(r @ step) + 0.5 * float(step @ Hs) + float(model.l1 @ (np.abs(u) - np.abs(v)))
        if change <= SUFFICIENT * slope:
            return (u, r + Hs, change), used + 1
    return None, len(shares)


def _step_on_face(model: Quadratic, v: Array, face: Array, m: Array) -> tuple[Array, int]:
    """The step x ``(d,)`` from v in the coordinates of a face that solves ``H x = -m`` there, by conjugate
    gradients with the diagonal, and the products that it took.

    Along a flat direction the L1 norm falls without end on the face. A multiple of the diagonal is added to
    H, so small that along such directions the step goes about as far as the coefficients are large, where
    their signs change.
    """
    root = np.sqrt(model.diagonal)
    kinks = model.l1[face] / root[face]
    size = float(np.abs(v * root).max(initial=0.0)) or float(np.abs(m / root).max(initial=0.0))
    damping = float(np.median(kinks[kinks > 0])) / size if size > 0 and np.any(kinks > 0) else 0.0
    damping = float(np.clip(DAMPING * damping, LEAST_DAMPING, MOST_DAMPING))
    x, q = np.zeros_like(m), np.where(face, -m, 0.0)
    z = q / model.diagonal
    p, rz = z, float(q @ z)
    target = FACE_RTOL * FACE_RTOL * rz
    used = 0
    while used < FACE_PRODUCTS:
        used += 1
        Hp = np.where(face, model.product(p) + damping * model.diagonal * p, 0.0)
        step = rz / float(p @ Hp)
        if not (np.isfinite(step) and step > 0):
            break
        x += step * p
        q = q - step * Hp
        z = q / model.diagonal
        new = float(q @ z)
        if new <= target:
            break
        p, rz = z + (new / rz) * p, new
    return x if x.any() else z, used
