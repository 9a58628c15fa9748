"""The kink ``max(0, u)`` and its smoothing, of which the losses with kinks are made.

Smoothed it is the hyperbola ``(u + sqrt(u**2 + h**2)) / 2`` with asymptotes along the kink's sides: convex,
smooth, and of positive curvature everywhere, so that every row adds to the Hessian. The plain kink is h = 0.
Smoothing adds at most ``h / 2``, at u = 0, and ``h**2 / (4 |u|)`` far from it.
"""

from __future__ import annotations

import numpy as np

from daskgd.losses.base import Array


def kink(u: Array, width: float) -> Array:
    """``max(0, u)``, smoothed over `width`."""
    out: Array = np.maximum(u, 0)
    return out + excess(u, width) if width else out


def ramp(u: Array, width: float) -> Array:
    """The derivative of `kink`, from 0 to 1."""
    if not width:
        return (u > 0).astype(u.dtype)
    s, beyond = _hyperbola(u, width)
    beyond /= 2 * s  # h^2 / (2 s (s + |u|)), the distance of the derivative to 0 or 1
    return np.where(u > 0, 1 - beyond, beyond)


def bump(u: Array, width: float) -> Array:
    """The derivative of `ramp`."""
    if not width:
        return np.zeros_like(u)
    s, _ = _hyperbola(u, width)
    out: Array = u.dtype.type(width) / s
    out *= out
    out /= 2 * s
    return out


def excess(u: Array, width: float) -> Array:
    """The amount ``h**2 / (2 (s + |u|))`` that smoothing adds to ``max(0, u)``, without cancellation."""
    if not width:
        return np.zeros_like(u)
    out = _hyperbola(u, width)[1]
    out /= 2
    return out


def _hyperbola(u: Array, width: float) -> tuple[Array, Array]:
    """``s = sqrt(u**2 + h**2)``, and ``s - |u| = h**2 / (s + |u|)``."""
    h = u.dtype.type(width)
    far = np.abs(u)
    s: Array = np.sqrt(u * u + h * h)
    return s, h * (h / (s + far))


def check_width(name: str, width: float, squared: bool = False) -> None:
    """Raise ValueError for a width that the loss `name` cannot have."""
    if not 0 <= width < np.inf:
        raise ValueError(f"{name}: expected a finite width >= 0, got width={width!r}")
    if width and squared:
        raise ValueError(f"{name}: expected width=0 with squared=True, which has no kink, got {width!r}")
