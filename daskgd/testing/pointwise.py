"""Checks of the pointwise maths: losses in margin space, penalties on coefficients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from daskgd.losses import Hinge, Logistic, Loss, Perceptron, Softmax, Squared, TargetSummary
from daskgd.penalties import L2, Penalty
from daskgd.testing.laws import require

Array = NDArray[Any]

LOSSES: tuple[Loss, ...] = (Squared(), Logistic(), Softmax(), Hinge(), Hinge(squared=True), Perceptron())
"""Every loss of daskgd."""

PENALTIES: tuple[Penalty, ...] = (L2(), L2(2.0), L2(np.array([0.0, 0.5, 1.0, 2.0, 10.0])))
"""Every penalty of daskgd; those with a strength per coefficient are for five of them."""

STEP = 1e-5
FAR = 1e4


def check_loss(loss: Loss, y: Array | None = None) -> None:
    """Check that a loss keeps its contract.

    The slope is a subgradient of the value everywhere, kinks included, and its derivative where there is
    one; the curve is the derivative of the slope; the value is convex; nothing overflows at margins of
    +-1e4; float32 stays float32; `value_and_slope` agrees with both; no rows are no trouble; inputs are left
    alone and not returned; and `baseline` is the least mean loss over constants.

    Parameters
    ----------
    loss : Loss
    y : (n,) or (n, k), optional
        Targets to use, for a regression loss that does not take all numbers.

    Examples
    --------
    >>> from daskgd.losses import Logistic
    >>> check_loss(Logistic())
    """
    rng = np.random.default_rng(0)
    n = 60 if y is None else len(y)
    cases: list[tuple[Array, int]]
    if loss.kind == "classification":
        codes = np.arange(n) * (np.arange(n) % 5 > 0)
        cases = [(codes % k, outputs) for k in (2, 3) if (outputs := _outputs(loss, k))]
        require(cases, f"{loss!r}: expected a loss for two classes or more, it refuses both")
    elif y is None:
        cases = [(rng.standard_normal(n), 1), (rng.standard_normal((n, 2)), 2)]
    else:
        cases = [(y, 1 if y.ndim == 1 else y.shape[1])]
    for raw, k in cases:
        z = rng.standard_normal((n, k)) * 3
        z[:6] = np.array([0.0, 1.0, -1.0, 2.0, -30.0, 30.0])[:, None]
        if k == 1:
            z = z[:, 0]
        name = f"{loss!r} with {k} output{'s' * (k > 1)}"
        targets = loss.targets(raw, k, z.dtype)
        _check_slope(loss, z, targets, name)
        _check_extremes(loss, raw, z, k, name)
        _check_plumbing(loss, raw, z, targets, k, name)
        _check_baseline(loss, raw, k, name)


def _outputs(loss: Loss, n_classes: int) -> int:
    """Margins per row, 0 if the loss refuses so many classes."""
    try:
        return loss.outputs(n_classes)
    except ValueError:
        return 0


def _directions(z: Array) -> list[Array]:
    """One direction per output."""
    if z.ndim == 1:
        return [np.ones_like(z)]
    return [np.broadcast_to(row, z.shape) for row in np.eye(z.shape[1])]


def _along(a: Array, d: Array) -> Array:
    """Row-wise inner product of slopes with a direction."""
    return a * d if a.ndim == 1 else (a * d).sum(axis=1)


def _check_slope(loss: Loss, z: Array, y: Array, name: str) -> None:
    value, slope, curve = loss.value(z, y), loss.slope(z, y), loss.curve(z, y)
    require(value.shape == (len(z),), f"{name}: expected value of shape (n,), got {value.shape}")
    require(slope.shape == z.shape, f"{name}: expected slope of shape {z.shape}, got {slope.shape}")
    shapes = (z.shape, (*z.shape, z.shape[-1])) if z.ndim == 2 else (z.shape,)
    require(curve.shape in shapes, f"{name}: expected curve of shape {' or '.join(map(str, shapes))}")
    for d in _directions(z):
        after, before = loss.value(z + STEP * d, y), loss.value(z - STEP * d, y)
        right, left = (after - value) / STEP, (value - before) / STEP
        # f(z) - f(z - h) <= h slope(z) <= f(z + h) - f(z): a convex function and its subgradient, no other.
        m, slack = _along(slope, d), 1e-9 * (1 + np.abs(value)) / STEP * 1e-2
        require(
            np.all((left <= m + slack) & (m <= right + slack)),
            f"{name}: slope is not the derivative of value, or value is not convex, near "
            f"z={z[np.argmax((left > m + slack) | (m > right + slack))]}",
        )
        up, down = loss.slope(z + STEP * d, y), loss.slope(z - STEP * d, y)
        if loss.smooth:
            jump = np.abs(up - down).max(axis=None)
            require(jump < 1e-2, f"{name}: declared smooth, but its slope jumps by {jump:.2g}")
        c = curve * d if curve.ndim == z.ndim else curve @ d[0]
        sides = (up - slope) / STEP, (slope - down) / STEP
        low, high = np.minimum(*sides), np.maximum(*sides)
        if not loss.smooth:  # at a kink there is no curve
            high = np.where(high > 1 / STEP / 10, np.inf, high)
        require(
            np.all((low - 1e-4 <= c) & (c <= high + 1e-4)), f"{name}: curve is not the derivative of slope"
        )
    other = np.roll(z, 7, axis=0)
    bound = value + _along(slope, other - z)
    require(
        np.all(loss.value(other, y) >= bound - 1e-9 * (1 + np.abs(bound))), f"{name}: value is not convex"
    )


def _check_extremes(loss: Loss, raw: Array, z: Array, k: int, name: str) -> None:
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        y = loss.targets(raw, k, dtype)
        signs = [np.sign(z)] if k == 1 else [np.sign(z), np.ones_like(z), np.eye(k)[np.arange(len(z)) % k]]
        for far in [sign * FAR for sign in signs] + [-sign * FAR for sign in signs]:
            try:
                with np.errstate(over="raise", invalid="raise", divide="raise", under="ignore"):
                    margins = far.astype(dtype)
                    found = [loss.value(margins, y), *loss.value_and_slope(margins, y)]
                    found.append(loss.curve(margins, y))
            except FloatingPointError as error:
                raise AssertionError(f"{name}: {error} in {dtype} at margins of +-{FAR:g}") from None
            require(all(np.isfinite(a).all() for a in found), f"{name}: not finite at margins of +-{FAR:g}")


def _check_plumbing(loss: Loss, raw: Array, z: Array, y: Array, k: int, name: str) -> None:
    value, slope = loss.value_and_slope(z, y)
    require(
        np.allclose(value, loss.value(z, y), rtol=1e-12, atol=1e-12)
        and np.allclose(slope, loss.slope(z, y), rtol=1e-12, atol=1e-12),
        f"{name}: value_and_slope disagrees with value and slope",
    )
    single = np.dtype(np.float32)
    z4, y4 = z.astype(single), loss.targets(raw, k, single)
    for what in (loss.value, loss.slope, loss.curve):
        out, exact = what(z4, y4), what(z4.astype(float), loss.targets(raw, k, np.dtype(float)))
        require(out.dtype == single, f"{name}: {what.__name__} turns float32 into {out.dtype}")
        require(
            np.allclose(out, exact, rtol=1e-4, atol=1e-4), f"{name}: {what.__name__} is inexact in float32"
        )
    kept_z, kept_y = z.copy(), y.copy()
    for out in (loss.value(z, y), *loss.value_and_slope(z, y), loss.slope(z, y), loss.curve(z, y)):
        alias = np.shares_memory(out, z) or np.shares_memory(out, y)
        require(not alias and out.flags.writeable, f"{name}: returns its input, which callers overwrite")
    require(np.array_equal(z, kept_z) and np.array_equal(y, kept_y), f"{name}: changes its input")
    none = loss.targets(raw[:0], k, z.dtype)
    value, slope = loss.value_and_slope(z[:0], none)
    require(
        value.shape == (0,) and slope.shape == z[:0].shape and len(loss.curve(z[:0], none)) == 0,
        f"{name}: expected empty answers for no rows",
    )


def _check_baseline(loss: Loss, raw: Array, k: int, name: str) -> None:
    s = 0.5 + np.arange(len(raw)) % 4
    if loss.kind == "classification":
        summary = TargetSummary(shares=np.bincount(raw, s) / s.sum())
    else:
        mean = np.average(raw, axis=0, weights=s)
        summary = TargetSummary(variance=float(np.sum(np.average((raw - mean) ** 2, axis=0, weights=s))))
    y = loss.targets(raw, k, np.dtype(float))

    def mean_loss(b: Array) -> float:
        z = np.full(len(raw), b[0]) if k == 1 else np.tile(b, (len(raw), 1))
        return float(s @ loss.value(z, y) / s.sum())

    b, least = np.zeros(k), mean_loss(np.zeros(k))
    for _ in range(5):  # a simplex may collapse at a kink: start it again from there
        found = minimize(mean_loss, b, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
        b, least = found.x, min(least, float(found.fun))
    got = loss.baseline(summary)
    require(
        abs(got - least) <= 1e-6 * (1 + least),
        f"{name}: expected a baseline of {least:.8g}, the least mean loss of a constant, got {got:.8g}",
    )


def check_penalty(penalty: Penalty, size: int = 5) -> None:
    """Check that a convex penalty keeps its contract, on vectors of `size` coefficients.

    It is a float >= 0; its gradient, where declared smooth, is its derivative; ``p = prox(w, step)``
    minimises ``step value(v) + |v - w|**2 / 2``, which has curvature of at least 1, so that every other v is
    higher by at least ``|v - p|**2 / 2``; the prox is firmly non-expansive; a step of 0 moves nothing; inputs
    are left alone.

    Examples
    --------
    >>> from daskgd.penalties import L2
    >>> check_penalty(L2(0.5))
    """
    rng = np.random.default_rng(0)
    name = repr(penalty)
    W = rng.standard_normal((20, size)) * 10.0 ** rng.integers(-3, 3, (20, 1))
    W[0], W[1, ::2] = 0.0, 0.0
    for w, other in zip(W, np.roll(W, 1, axis=0), strict=True):
        kept, f = w.copy(), penalty.value(w)
        require(isinstance(f, float) and f >= 0, f"{name}: expected a value that is a float >= 0, got {f!r}")
        if penalty.smooth:
            h = 1e-4 * (1 + np.abs(w).max())
            numeric = [(penalty.value(w + h * e) - penalty.value(w - h * e)) / (2 * h) for e in np.eye(size)]
            g = penalty.gradient(w)
            scale = 1e-5 * (1 + np.abs(g).max() + f / np.abs(w).max(initial=1))
            require(np.allclose(g, numeric, rtol=0, atol=scale), f"{name}: gradient is not that of value")
        require(np.array_equal(penalty.prox(w, 0.0), w), f"{name}: a prox of step 0 moves the coefficients")
        for step in (0.1, 1.0, 20.0):
            p = penalty.prox(w, step)
            least = step * penalty.value(p) + np.sum((p - w) ** 2) / 2
            for v in (*(p + t * rng.standard_normal(size) for t in (1e-2, 1.0, 100.0)), w, 0 * w, other):
                here = step * penalty.value(v) + np.sum((v - w) ** 2) / 2
                bound = least + np.sum((v - p) ** 2) / 2
                require(
                    here >= bound - 1e-10 * (1 + here), f"{name}: prox at step {step} is not the minimiser"
                )
            apart = p - penalty.prox(other, step)
            require(
                apart @ apart <= apart @ (w - other) * (1 + 1e-9) + 1e-12,
                f"{name}: prox is not non-expansive",
            )
        require(np.array_equal(w, kept), f"{name}: changes its input")
