"""Penalties on the coefficients.

A penalty sees a vector of coefficients from which unpenalised entries (intercepts) were already
taken out, on the driver, once per answer; it knows no data. Its strength is in the units of the mean
objective ``(1 / W) sum_i s_i loss_i + penalty``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Penalty:
    """A penalty. What it offers is declared, and solvers check it before the first sweep.

    A smooth one has `gradient`; to add one, subclass and list an instance in
    ``daskgd.testing.PENALTIES``.
    """

    smooth: ClassVar[bool] = True

    def value(self, w: Array) -> float:
        """The penalty of w, ``(d,)``."""
        raise NotImplementedError

    def gradient(self, w: Array) -> Array:
        """The gradient at w, ``(d,)``."""
        raise NotImplementedError

    def curve(self, w: Array) -> Array:
        """The diagonal of the Hessian at w, ``(d,)``; penalties are sums over coefficients."""
        raise NotImplementedError

    def prox(self, w: Array, step: float) -> Array:
        """``argmin_v step * value(v) + |v - w|**2 / 2``, ``(d,)``."""
        raise NotImplementedError


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
        low = np.min(self.strength)
        if not low >= 0 or not np.all(np.isfinite(self.strength)):
            raise ValueError(f"L2: expected a finite strength >= 0, got {self.strength!r}")

    def value(self, w: Array) -> float:
        return 0.5 * float(np.sum(self.strength * w * w))

    def gradient(self, w: Array) -> Array:
        out: Array = self.strength * w
        return out

    def curve(self, w: Array) -> Array:
        return np.broadcast_to(np.asarray(self.strength, dtype=float), w.shape)

    def prox(self, w: Array, step: float) -> Array:
        out: Array = w / (1 + step * np.asarray(self.strength))
        return out
