"""Penalties on the coefficients.

A penalty sees a vector of coefficients from which unpenalised entries (intercepts) were already
taken out, on the driver, once per answer; it knows no data. Its strength is in the units of the mean
objective ``(1 / W) sum_i s_i loss_i + penalty``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from daskgd._compat.renamed import accept_old_names

Array = NDArray[Any]


class Penalty:
    """A convex penalty: a smooth part, an L1 norm with strengths of its own, and perhaps a sign to keep.

    What it offers is declared, and solvers check it before the first sweep. To add one, subclass and list an
    instance in ``daskgd.testing.PENALTIES``.
    """

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        accept_old_names(cls, {"curve": "hessian", "take": "restrict"})

    smooth: ClassVar[bool] = True
    """Whether the penalty has no L1 part and no sign to keep."""

    positive: bool = False
    """Whether coefficients must not be negative. `value` is finite all the same: `prox` projects."""

    def value(self, w: Array) -> float:
        """The whole penalty at w, ``(d,)``: a float >= 0."""
        raise NotImplementedError

    def gradient(self, w: Array) -> Array:
        """The gradient of the smooth part at w, ``(d,)``."""
        return np.zeros_like(w, dtype=float)

    def hessian(self, w: Array) -> Array:
        """The diagonal of the smooth part's Hessian at w, ``(d,)``: penalties are sums over coefficients."""
        return np.zeros_like(w, dtype=float)

    def l1(self, w: Array) -> Array:
        """The strengths of ``|w_j|`` in the penalty, ``(d,)``."""
        return np.zeros_like(w, dtype=float)

    def restrict(self, at: Array) -> Self:
        """The penalty on the coefficients at these positions of ``(d,)``."""
        each = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return replace(self, **{n: v[at] if np.ndim(v) else v for n, v in each.items()})  # type: ignore[type-var]

    def prox(self, w: Array, step: float | Array) -> Array:
        """``argmin_v value(v) + sum_j (v_j - w_j)**2 / (2 step_j)``, ``(d,)``, among v >= 0 if `positive`.

        `step` is one for all, or ``(d,)``.
        """
        raise NotImplementedError

    def gap(self, w: Array, g: Array, bound: float) -> float:
        """A bound of the gap between the objective at w and its minimum; infinity where there is none.

        With g ``(d,)`` the gradient of the convex rest of the objective at w, and `bound` an upper bound of
        the penalty at the minimum, a bound of

            sup { g'(w - u) + value(w) - value(u)  over u with value(u) <= bound }.

        For a rest that is never negative the objective at w is such a `bound`.
        """
        return np.inf


@dataclass(frozen=True, slots=True, eq=False)
class L2(Penalty):
    """Ridge: ``strength / 2 * |w|**2``; a `strength` of shape ``(d,)`` is one per coefficient.

    >>> L2(2.0).value(np.array([1.0, 2.0]))
    5.0
    >>> L2(2.0).prox(np.array([3.0]), step=1.0)
    array([1.])
    """

    strength: float | Array = field(default=0.0)

    def __post_init__(self) -> None:
        _check_strength(self, "strength")

    def value(self, w: Array) -> float:
        return 0.5 * float(np.sum(self.strength * w * w))

    def gradient(self, w: Array) -> Array:
        out: Array = self.strength * w
        return out

    def hessian(self, w: Array) -> Array:
        return _each(self.strength, w)

    def prox(self, w: Array, step: float | Array) -> Array:
        out: Array = w / (1 + step * np.asarray(self.strength))
        return out

    def gap(self, w: Array, g: Array, bound: float) -> float:
        return _fenchel_gap(w, g, bound, np.zeros_like(w), _each(self.strength, w), False)


@dataclass(frozen=True, slots=True, eq=False)
class L1(Penalty):
    """Lasso: ``sum_j strength_j |w_j|``, among coefficients >= 0 if `positive` (Tibshirani 1996).

    >>> L1(2.0).value(np.array([1.0, -2.0]))
    6.0
    >>> L1(2.0).prox(np.array([3.0, -1.0]), step=1.0)
    array([1., 0.])
    """

    strength: float | Array = field(default=0.0)
    positive: bool = False

    def __post_init__(self) -> None:
        _check_strength(self, "strength")

    @property
    def smooth(self) -> bool:  # type: ignore[override]
        return not (self.positive or np.any(self.strength))

    def value(self, w: Array) -> float:
        return float(np.sum(self.strength * np.abs(w)))

    def l1(self, w: Array) -> Array:
        return _each(self.strength, w)

    def prox(self, w: Array, step: float | Array) -> Array:
        return _shrink(w, step * np.asarray(self.strength), self.positive)

    def gap(self, w: Array, g: Array, bound: float) -> float:
        return _fenchel_gap(w, g, bound, _each(self.strength, w), np.zeros_like(w), self.positive)


@dataclass(frozen=True, slots=True, eq=False)
class ElasticNet(Penalty):
    """Elastic net: ``sum_j l1_strength_j |w_j| + l2_strength_j / 2 * w_j**2``, among coefficients >= 0 if
    `positive` (Zou & Hastie 2005).

    >>> ElasticNet(1.0, 2.0).value(np.array([1.0, -2.0]))
    8.0
    >>> ElasticNet(1.0, 2.0).prox(np.array([4.0]), step=1.0)
    array([1.])
    """

    l1_strength: float | Array = field(default=0.0)
    l2_strength: float | Array = field(default=0.0)
    positive: bool = False

    def __post_init__(self) -> None:
        _check_strength(self, "l1_strength")
        _check_strength(self, "l2_strength")

    @property
    def smooth(self) -> bool:  # type: ignore[override]
        return not (self.positive or np.any(self.l1_strength))

    def value(self, w: Array) -> float:
        return float(np.sum(self.l1_strength * np.abs(w) + 0.5 * self.l2_strength * w * w))

    def gradient(self, w: Array) -> Array:
        out: Array = self.l2_strength * w
        return out

    def hessian(self, w: Array) -> Array:
        return _each(self.l2_strength, w)

    def l1(self, w: Array) -> Array:
        return _each(self.l1_strength, w)

    def prox(self, w: Array, step: float | Array) -> Array:
        shrunk = _shrink(w, step * np.asarray(self.l1_strength), self.positive)
        out: Array = shrunk / (1 + step * np.asarray(self.l2_strength))
        return out

    def gap(self, w: Array, g: Array, bound: float) -> float:
        l1, l2 = _each(self.l1_strength, w), _each(self.l2_strength, w)
        return _fenchel_gap(w, g, bound, l1, l2, self.positive)


def _check_strength(penalty: Penalty, name: str) -> None:
    strength = getattr(penalty, name)
    if not np.min(strength, initial=0.0) >= 0 or not np.all(np.isfinite(strength)):
        raise ValueError(f"{type(penalty).__name__}: expected a finite {name} >= 0, got {strength!r}")


def _each(strength: float | Array, w: Array) -> Array:
    """Broadcast a strength to one per coefficient, ``(d,)``."""
    return np.broadcast_to(np.asarray(strength, dtype=float), w.shape)


def _shrink(w: Array, by: Array, positive: bool) -> Array:
    """Soft thresholding ``sign(w) max(|w| - by, 0)``, or with `positive` ``max(w - by, 0)``."""
    out: Array = np.maximum(w - by, 0.0) if positive else w - np.clip(w, -by, by)
    return out


def _fenchel_gap(w: Array, g: Array, bound: float, l1: Array, l2: Array, positive: bool) -> float:
    """The duality gap of ``sum_j l1_j |w_j| + l2_j w_j**2 / 2``: see ``Penalty.gap``.

    With ``e_j = max(0, |g_j| - l1_j)``, the supremum of ``-g_j u - l1_j |u| - l2_j u**2 / 2`` is
    ``e_j**2 / (2 l2_j)``; and as ``sum_j l1_j |u_j| <= bound``, the sum of any of them is at most
    ``bound max_j e_j / l1_j``. Either will do for every coordinate: those of large ``e_j / l1_j`` go the
    first way, the rest the second, split where the total is least. Each term below is >= 0 by itself.
    """
    if not (np.isfinite(w).all() and np.isfinite(g).all() and np.isfinite(bound)):
        return np.inf
    if positive and np.any(w < 0):
        return np.inf
    if len(w) == 0:
        return 0.0
    z = -g
    e = np.maximum((z if positive else np.abs(z)) - l1, 0.0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        conjugate = np.where(e > 0, e * (e / (2 * l2)), 0.0)
        excess = np.where(e > 0, e / l1, 0.0)
    order = np.argsort(-excess, kind="stable")
    before = np.concatenate([[0.0], np.cumsum(conjugate[order])])
    rest = np.append(excess[order], 0.0)
    finite = np.isfinite(rest)
    cost = before + np.where(finite, max(bound, 0.0) * np.where(finite, rest, 0.0), np.inf)
    split = int(np.argmin(cost))
    if not np.isfinite(cost[split]):
        return np.inf
    first, second, m = order[:split], order[split:], float(rest[split])
    # -g = s + l2 u with u where the supremum is and s a subgradient of the L1 norm there.
    v, a, b = w[first], l1[first], l2[first]
    u = np.sign(z[first]) * e[first] / np.where(b > 0, b, 1.0)
    s = np.minimum(z[first], a) if positive else np.clip(z[first], -a, a)
    one = np.sum(a * np.abs(v) - s * v + 0.5 * b * (v - u) ** 2)
    v, a, b = w[second], l1[second], l2[second]
    held = np.maximum((1 + m) * a * np.abs(v) - z[second] * v, 0.0)
    two = np.sum(held + 0.5 * b * v * v) + m * max(bound - float(np.sum(a * np.abs(v))), 0.0)
    return float(one + two)
