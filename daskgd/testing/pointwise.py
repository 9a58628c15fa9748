"""Checks of the pointwise maths: losses in margin space, penalties on coefficients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import softmax

from daskgd.losses import (
    EpsilonInsensitive,
    Gamma,
    Hinge,
    Huber,
    HuberAt,
    HuberResidual,
    IdentityLink,
    Logistic,
    LogisticOneVsRest,
    Loss,
    ModifiedHuber,
    MultilabelLogistic,
    Perceptron,
    Poisson,
    Quantile,
    Shifted,
    Softmax,
    Squared,
    TargetSummary,
    Tweedie,
)
from daskgd.penalties import L1, L2, ElasticNet, Penalty
from daskgd.testing.laws import require

Array = NDArray[Any]

LOSSES: tuple[Loss, ...] = (
    Squared(),
    Logistic(),
    LogisticOneVsRest(),
    MultilabelLogistic(),
    Softmax(),
    Hinge(),
    Hinge(squared=True),
    Hinge(width=0.1),
    Hinge(width=3.0),
    ModifiedHuber(),
    Perceptron(),
    Quantile(),
    Quantile(0.1),
    Quantile(0.9, width=0.1),
    EpsilonInsensitive(),
    EpsilonInsensitive(0.1, squared=True),
    EpsilonInsensitive(0.1, width=0.2),
    Huber(),
    HuberAt(1.1, 0.5),
    HuberResidual(0.7),
    Poisson(),
    Gamma(),
    Tweedie(1.2),
    Tweedie(1.9),
    Tweedie(2.5),
    Tweedie(3.0),
    Tweedie(0.0),
    Tweedie(0.5),
    Tweedie(-0.1),
    IdentityLink(Poisson()),
    IdentityLink(Tweedie(1.5)),
    IdentityLink(Gamma()),
    IdentityLink(Tweedie(-0.5)),
    Shifted(Squared()),
    Shifted(Logistic()),
    Shifted(Poisson()),
    Shifted(Quantile(0.3, width=0.1)),
)
"""Every loss of daskgd."""

_FIVE = np.array([0.0, 0.5, 1.0, 2.0, 10.0])

PENALTIES: tuple[Penalty, ...] = (
    L2(),
    L2(2.0),
    L2(_FIVE),
    L1(),
    L1(0.3),
    L1(_FIVE),
    L1(0.3, positive=True),
    L1(positive=True),
    ElasticNet(0.3, 0.5),
    ElasticNet(0.0, 0.5),
    ElasticNet(_FIVE, 0.5),
    ElasticNet(0.3, _FIVE),
    ElasticNet(_FIVE, _FIVE[::-1].copy(), positive=True),
)
"""Every penalty of daskgd; those with a strength per coefficient are for five of them."""

STEP = 1e-5
EXTREME_MARGIN = 1e4


def check_loss(loss: Loss, y: Array | None = None) -> None:
    """Check that a loss keeps its contract.

    The gradient is a subgradient of the value everywhere, kinks included, and its derivative where there is
    one; the hessian is the derivative of the gradient, and its products, diagonal and root agree; the value
    is convex, where declared so; nothing overflows at margins of +-1e4; float32 stays float32;
    `value_and_gradient` agrees with both; no rows are no trouble; inputs are left alone and not returned;
    `baseline` is the least mean loss over constants, or within a factor of 10 of it where not declared exact;
    a deviance is linear in the targets but for a term without margins, and least at `constant`; smoothing
    kinks adds what `excess` says; `inverse_link`, `variance_power`, `shift_invariant` and `positive_margins`
    are true.

    Parameters
    ----------
    loss : Loss
    y : (n,) or (n, k), optional
        Targets to use; drawn from those that the loss declares it takes if absent.

    Examples
    --------
    >>> from daskgd.losses import Logistic
    >>> check_loss(Logistic())
    """
    rng = np.random.default_rng(0)
    for raw, k in _cases(loss, y, rng):
        z = rng.standard_normal((len(raw), k)) * 3
        z[:6] = np.array([0.0, 1.0, -1.0, 2.0, -30.0, 30.0])[:, None]
        if loss.positive_margins:
            z = 0.1 + np.abs(z)
        if loss.scales:
            z = np.hstack([z, rng.uniform(0.2, 4, (len(raw), loss.scales))])
        if z.shape[1] == 1:
            z = z[:, 0]
        name = f"{loss!r} with {k} output{'s' * (k > 1)}"
        targets = loss.targets(raw, k, z.dtype)
        _check_derivatives(loss, z, targets, name)
        _check_extremes(loss, raw, z, k, name)
        _check_plumbing(loss, raw, z, targets, k, name)
        _check_baseline(loss, raw, k, name)
        _check_declared(loss, raw, z, k, name)
        _check_prediction(loss, raw, z, k, name)


def _cases(loss: Loss, y: Array | None, rng: np.random.Generator) -> list[tuple[Array, int]]:
    """Targets or codes, and for how many outputs they are."""
    n = 60 if y is None else len(y)
    cases: list[tuple[Array, int]]
    if loss.kind == "classification":
        codes = np.arange(n) * (np.arange(n) % 5 > 0)
        cases = [(codes % k, outputs) for k in (2, 3) if (outputs := _outputs(loss, k))]
        require(cases, f"{loss!r}: expected a loss for two classes or more, it refuses both")
    elif y is not None:
        return [(y, 1 if y.ndim == 1 else y.shape[1] - loss.offsets)]
    else:
        cases = [(_draw(loss, (n,), rng), 1), (_draw(loss, (n, 2), rng), 2)]
    if loss.offsets:
        offsets = rng.standard_normal((n, loss.offsets)) / 2
        return [(np.column_stack([raw, offsets]), 1) for raw, k in cases if k == 1]
    return [(raw, k) for raw, k in cases if k == 1 or _takes(loss, raw, k)]


def _draw(loss: Loss, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Numbers that the loss declares it takes, the least among them."""
    if loss.indicator:
        return rng.integers(0, 2, shape).astype(float)
    if not np.isfinite(loss.low):
        return rng.standard_normal(shape)
    y: Array = loss.low + rng.gamma(2.0, 1.0, shape)
    if loss.low_included:
        y[::5] = loss.low
    return y


def _takes(loss: Loss, raw: Array, k: int) -> bool:
    """Whether the loss takes so many outputs."""
    try:
        loss.targets(raw, k, np.dtype(float))
    except ValueError:
        return False
    return True


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
    """Row-wise inner product of gradients with a direction."""
    return a * d if a.ndim == 1 else (a * d).sum(axis=1)


def _check_derivatives(loss: Loss, z: Array, y: Array, name: str) -> None:
    value, gradient, hessian = loss.value(z, y), loss.gradient(z, y), loss.hessian(z, y)
    require(value.shape == (len(z),), f"{name}: expected value of shape (n,), got {value.shape}")
    require(gradient.shape == z.shape, f"{name}: expected gradient of shape {z.shape}, got {gradient.shape}")
    shapes = (z.shape, (*z.shape, z.shape[-1])) if z.ndim == 2 else (z.shape,)
    require(hessian.shape in shapes, f"{name}: expected hessian of shape {' or '.join(map(str, shapes))}")
    for d in _directions(z):
        after, before = loss.value(z + STEP * d, y), loss.value(z - STEP * d, y)
        right, left = (after - value) / STEP, (value - before) / STEP
        # f(z) - f(z - h) <= h g(z) <= f(z + h) - f(z): a convex function f and its subgradient g, no other.
        m, slack = _along(gradient, d), 1e-9 * (1 + np.abs(value)) / STEP * 1e-2
        if not loss.convex:
            left, right = np.minimum(left, right), np.maximum(left, right)
        require(
            np.all((left <= m + slack) & (m <= right + slack)),
            f"{name}: gradient is not the derivative of value, or value is not convex, near "
            f"z={z[np.argmax((left > m + slack) | (m > right + slack))]}",
        )
        up, down = loss.gradient(z + STEP * d, y), loss.gradient(z - STEP * d, y)
        if loss.smooth:
            jump = (np.abs(up - down) / (1 + np.abs(up) + np.abs(down))).max(axis=None)
            require(jump < 1e-2, f"{name}: declared smooth, but its gradient jumps by {jump:.2g}")
        c = hessian * d if hessian.ndim == z.ndim else hessian @ d[0]
        sides = (up - gradient) / STEP, (gradient - down) / STEP
        low, high = np.minimum(*sides), np.maximum(*sides)
        if not loss.smooth:  # at a kink there is no second derivative
            high = np.where(high > 1 / STEP / 10, np.inf, high)
        near = 1e-4 * (1 + np.abs(c) * (np.abs(c) > 1e3))
        require(
            np.all((low - near <= c) & (c <= high + near)),
            f"{name}: hessian is not the derivative of gradient",
        )
    _check_hessian_parts(loss, z, y, hessian, name)
    if not loss.convex:
        return
    other = np.roll(z, 7, axis=0)
    bound = value + _along(gradient, other - z)
    require(
        np.all(loss.value(other, y) >= bound - 1e-9 * (1 + np.abs(bound))), f"{name}: value is not convex"
    )


def _check_hessian_parts(loss: Loss, z: Array, y: Array, hessian: Array, name: str) -> None:
    """Check that products with the second derivative, its diagonal and its root are those of `hessian`."""
    full = hessian
    if hessian.ndim < 3:
        columns = hessian.reshape(len(z), -1)
        full = columns[:, :, None] * np.eye(columns.shape[1])
    factor, k = loss.hessian_factor(z, y), full.shape[1]
    scale = 1e-10 * (1 + np.abs(full).max(axis=(1, 2)))
    products = np.stack(
        [loss.hessian_product(factor, np.broadcast_to(e, (len(z), k)).reshape(z.shape)) for e in np.eye(k)],
        axis=-1,
    ).reshape(full.shape)
    error = np.abs(products - full).max(axis=(1, 2))
    require(np.all(error <= scale), f"{name}: hessian_product is not the product with hessian")
    diagonal = loss.hessian_diagonal(factor).reshape(len(z), k)
    error = np.abs(diagonal - np.einsum("ijj->ij", full)).max(axis=1)
    require(np.all(error <= scale), f"{name}: hessian_diagonal is not the diagonal of hessian")
    roots = np.stack(
        [
            loss.hessian_root_product(factor, np.broadcast_to(e, (len(z), k)).reshape(z.shape))
            for e in np.eye(k)
        ],
        axis=-1,
    ).reshape(full.shape)
    values, vectors = np.linalg.eigh(full)
    absolute = (vectors * np.abs(values)[:, None, :]) @ vectors.transpose(0, 2, 1)
    error = np.abs(roots @ roots.transpose(0, 2, 1) - absolute).max(axis=(1, 2))
    require(np.all(error <= 10 * scale), f"{name}: hessian_root_product is not that of a root of |hessian|")


def _check_extremes(loss: Loss, raw: Array, z: Array, k: int, name: str) -> None:
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        y = loss.targets(raw, k, dtype)
        signs = [np.sign(z)]
        if z.ndim == 2:
            signs += [np.ones_like(z), np.eye(z.shape[1])[np.arange(len(z)) % z.shape[1]]]
        for far in [sign * EXTREME_MARGIN for sign in signs] + [-sign * EXTREME_MARGIN for sign in signs]:
            try:
                with np.errstate(over="raise", invalid="raise", divide="raise", under="ignore"):
                    margins = far.astype(dtype)
                    found = [loss.value(margins, y), *loss.value_and_gradient(margins, y)]
                    found.append(loss.hessian(margins, y))
            except FloatingPointError as error:
                raise AssertionError(
                    f"{name}: {error} in {dtype} at margins of +-{EXTREME_MARGIN:g}"
                ) from None
            if loss.scales:  # scales are positive: elsewhere values are infinite, gradients are not
                inside = (far[:, k:] > 0).all(axis=1)
                require(np.all(found[0][~inside] == np.inf), f"{name}: finite where a scale is not positive")
                found[0], found[1] = found[0][inside], found[1][inside]
            if loss.positive_margins:
                inside = far > 0 if far.ndim == 1 else (far > 0).all(axis=1)
                require(np.all(found[0][~inside] == np.inf), f"{name}: finite where a margin is not positive")
                found[0], found[1] = found[0][inside], found[1][inside]
            require(
                all(np.isfinite(a).all() for a in found),
                f"{name}: not finite at margins of +-{EXTREME_MARGIN:g}",
            )


def _check_plumbing(loss: Loss, raw: Array, z: Array, y: Array, k: int, name: str) -> None:
    value, gradient = loss.value_and_gradient(z, y)
    require(
        np.allclose(value, loss.value(z, y), rtol=1e-12, atol=1e-12)
        and np.allclose(gradient, loss.gradient(z, y), rtol=1e-12, atol=1e-12),
        f"{name}: value_and_gradient disagrees with value and gradient",
    )
    single = np.dtype(np.float32)
    z4, y4 = z.astype(single), loss.targets(raw, k, single)
    for what in (loss.value, loss.gradient, loss.hessian):
        out, exact = what(z4, y4), what(z4.astype(float), loss.targets(raw, k, np.dtype(float)))
        require(out.dtype == single, f"{name}: {what.__name__} turns float32 into {out.dtype}")
        require(
            np.allclose(out, exact, rtol=1e-4, atol=1e-4), f"{name}: {what.__name__} is inexact in float32"
        )
    kept_z, kept_y = z.copy(), y.copy()
    for out in (loss.value(z, y), *loss.value_and_gradient(z, y), loss.gradient(z, y), loss.hessian(z, y)):
        alias = np.shares_memory(out, z) or np.shares_memory(out, y)
        require(not alias and out.flags.writeable, f"{name}: returns its input, which callers overwrite")
    require(np.array_equal(z, kept_z) and np.array_equal(y, kept_y), f"{name}: changes its input")
    none = loss.targets(raw[:0], k, z.dtype)
    value, gradient = loss.value_and_gradient(z[:0], none)
    require(
        value.shape == (0,) and gradient.shape == z[:0].shape and len(loss.hessian(z[:0], none)) == 0,
        f"{name}: expected empty answers for no rows",
    )


def _check_baseline(loss: Loss, raw: Array, k: int, name: str) -> None:
    s = 0.5 + np.arange(len(raw)) % 4
    target = raw[:, :-1] if loss.offsets else raw
    if loss.kind == "classification":
        summary = TargetSummary(shares=np.bincount(target.ravel().astype(int), s) / s.sum())
    else:
        mean = np.average(target, axis=0, weights=s)
        variance = float(np.sum(np.average((target - mean) ** 2, axis=0, weights=s)))
        summary = TargetSummary(variance=variance, mean=mean)
    y = loss.targets(raw, k, np.dtype(float))

    def mean_loss(b: Array) -> float:
        z = np.full(len(raw), b[0]) if len(b) == 1 else np.tile(b, (len(raw), 1))
        return float(s @ loss.value(z, y) / s.sum())

    b = np.append(np.full(k, float(loss.positive_margins)), np.ones(loss.scales))
    least = mean_loss(b)
    for _ in range(5):  # a simplex may collapse at a kink: start it again from there
        found = minimize(mean_loss, b, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
        b, least = found.x, min(least, float(found.fun))
    got, near = loss.baseline(summary), 1e-6 * (1 + least)
    require(
        abs(got - least) <= near or (not loss.exact_baseline and least / 10 <= got <= least * 10),
        f"{name}: expected a baseline of {least:.8g}, the least mean loss of a constant, got {got:.8g}",
    )
    constant = loss.constant(summary)
    require(
        constant.shape == b.shape and np.isfinite(constant).all() and np.isfinite(mean_loss(constant)),
        f"{name}: expected {len(b)} finite margins as constant, got {constant!r}",
    )
    if loss.deviance and not loss.offsets:
        require(
            mean_loss(constant) <= least + near,
            f"{name}: expected the constant {b}, of a mean loss of {least:.8g}, got {constant}",
        )


def _check_declared(loss: Loss, raw: Array, z: Array, k: int, name: str) -> None:
    """Deviances are linear in the targets; smoothing adds what it says."""
    y = loss.targets(raw, k, z.dtype)
    if loss.deviance and loss.kind == "regression":
        w, base = np.clip(z, -5, 5), np.full_like(z, float(loss.positive_margins))
        t = [a * raw + (1 - a) * raw[::-1] for a in (0.0, 0.3, 1.0)]
        if loss.offsets:
            for a in t:
                a[:, -1] = raw[:, -1]
        t = [loss.targets(a, k, z.dtype) for a in t]
        first, at, last = (loss.value(w, a) - loss.value(base, a) for a in t)
        require(
            np.allclose(at, 0.3 * last + 0.7 * first, rtol=1e-8, atol=1e-8),
            f"{name}: declared a deviance, but not linear in the targets",
        )
    soft, sharp = loss.smoothed(0.05), loss.smoothed(0.0)
    require(
        soft.smooth if loss.nonsmooth else soft == loss == sharp,
        f"{name}: expected smoothed to smooth kinks, if there are any, got {soft!r}",
    )
    added = soft.excess(z, y)
    require(
        added.shape == (len(z),) and np.all(added >= 0) and not sharp.excess(z, y).any(),
        f"{name}: expected an excess >= 0 of shape (n,), and none without smoothing",
    )
    difference = soft.value(z, y) - sharp.value(z, y)
    require(np.allclose(added, difference, rtol=1e-9, atol=1e-12), f"{name}: excess is not what is added")


def _check_prediction(loss: Loss, raw: Array, z: Array, k: int, name: str) -> None:
    """The inverse link gives what is predicted, the variance is a power of it, and shifts change nothing."""
    link, w = loss.inverse_link, np.clip(z, -5, 5)

    def targets_at(y: Array) -> Array:
        if loss.offsets:
            y = np.column_stack([y, np.zeros((len(z), loss.offsets))])
        return loss.targets(y, k, z.dtype)

    if loss.kind == "classification":
        if link not in ("logistic", "softmax"):
            require(
                link == "identity", f"{name}: expected inverse_link identity, logistic or softmax: {link!r}"
            )
            return
        n_classes = 2 if w.ndim == 1 else w.shape[1]
        p = softmax(np.stack([0 * w, w], axis=1) if w.ndim == 1 else w, axis=1)
        expected = sum(
            (p[:, c] if w.ndim == 1 else p[:, [c]]) * loss.gradient(w, targets_at(np.full(len(w), c)))
            for c in range(n_classes)
        )
        require(
            np.allclose(expected, 0, atol=1e-12),
            f"{name}: declared inverse_link {link!r}, but those probabilities are not its least",
        )
        return
    mean, of_mean = loss.mean(w), w[:, 0] if loss.scales else w
    known = {"identity": of_mean, "exp": np.exp(of_mean)}.get(link, mean)
    require(np.allclose(mean, known), f"{name}: declared inverse_link {link!r}, but mean is another function")
    if loss.deviance:
        target = (raw[:, 0] if loss.offsets else raw).astype(float)
        if link == "identity" and not loss.positive_margins:
            w = target  # margins whose means may be targets
        mean = loss.mean(w)
        y = targets_at(mean)
        require(np.allclose(loss.gradient(w, y), 0, atol=1e-9), f"{name}: not least at the target's mean")
        if loss.variance_power is not None:
            rate = (loss.mean(w + STEP) - loss.mean(w - STEP)) / (2 * STEP)
            require(
                np.allclose(loss.hessian(w, y), rate**2 / mean**loss.variance_power, rtol=1e-4),
                f"{name}: its variance is not the mean to the power {loss.variance_power}",
            )
    if loss.shift_invariant:
        shift = np.append(np.full(k, 2.0), np.zeros(loss.scales)) if z.ndim == 2 else 2.0
        moved = raw + (np.append(np.full(k, 2.0), np.zeros(loss.offsets)) if loss.offsets else 2.0)
        before = loss.value(z, loss.targets(raw, k, z.dtype))
        require(
            np.allclose(loss.value(z + shift, loss.targets(moved, k, z.dtype)), before, rtol=1e-9, atol=1e-9),
            f"{name}: declared shift_invariant, but its value changes with a shift of targets and margins",
        )


def check_penalty(penalty: Penalty, size: int = 5) -> None:
    """Check that a convex penalty keeps its contract, on vectors of `size` coefficients.

    It is a float >= 0; less `l1` times ``|w|`` it is smooth, with `gradient` and `hessian` as derivatives,
    and declared smooth if that is all there is; ``p = prox(w, step)`` minimises ``value(v) + |v - w|**2 / (2
    step)``, so that every other v is higher by at least ``|v - p|**2 / (2 step)``, for one step and for one
    per coefficient; the prox is firmly non-expansive; a step of 0 moves nothing, but for signs; `gap`
    is at least how far a point is above the minimum, and 0 there, or infinite; inputs are left alone.

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
        _check_parts(penalty, w, name)
        _check_prox(penalty, w, other, rng, name)
        require(np.array_equal(w, kept), f"{name}: changes its input")
    for trial in range(10):
        _check_gap(penalty, size, np.random.default_rng(trial), name)


def _check_parts(penalty: Penalty, w: Array, name: str) -> None:
    """The smooth part and its derivatives."""
    l1, g, hessian = penalty.l1(w), penalty.gradient(w), penalty.hessian(w)
    require(
        l1.shape == g.shape == hessian.shape == w.shape,
        f"{name}: expected l1, gradient and hessian of shape {w.shape}, "
        f"got {l1.shape}, {g.shape} and {hessian.shape}",
    )
    require(
        np.all(l1 >= 0) and np.all(hessian >= 0),
        f"{name}: expected l1 and hessian >= 0, got {l1} and {hessian}",
    )
    require(
        penalty.smooth == (not (penalty.positive or l1.any())),
        f"{name}: declared smooth={penalty.smooth}, with positive={penalty.positive} and l1 {l1}",
    )

    def rest(v: Array) -> float:
        return penalty.value(v) - float(penalty.l1(v) @ np.abs(v))

    h = 1e-4 * (1 + np.abs(w).max())
    steps = h * np.eye(len(w))
    differences = np.array([(rest(w + e) - rest(w - e)) / (2 * h) for e in steps])
    scale = 1e-5 * (1 + np.abs(g).max() + penalty.value(w) / np.abs(w).max(initial=1))
    require(
        np.allclose(g, differences, rtol=0, atol=scale),
        f"{name}: gradient is not that of value, less its L1 norm",
    )
    H = np.array([(penalty.gradient(w + e) - penalty.gradient(w - e)) / (2 * h) for e in steps])
    require(
        np.allclose(np.diag(hessian), H, rtol=0, atol=1e-5 * (1 + np.abs(H).max())),
        f"{name}: hessian is not the derivative of gradient",
    )


def _check_prox(penalty: Penalty, w: Array, other: Array, rng: np.random.Generator, name: str) -> None:
    """The prox minimises, for one step and for one per coefficient, and is non-expansive."""
    allowed = np.maximum(w, 0.0) if penalty.positive else w
    require(np.array_equal(penalty.prox(w, 0.0), allowed), f"{name}: a prox of step 0 moves the coefficients")
    for step in (0.1, 1.0, 20.0, 10.0 ** rng.uniform(-1, 1, len(w))):
        p = penalty.prox(w, step)
        require(not penalty.positive or np.all(p >= 0), f"{name}: prox leaves coefficients negative")
        least = penalty.value(p) + np.sum((p - w) ** 2 / step) / 2
        for v in (*(p + t * rng.standard_normal(len(w)) for t in (1e-2, 1.0, 100.0)), w, 0 * w, other):
            v = np.maximum(v, 0.0) if penalty.positive else v
            here = penalty.value(v) + np.sum((v - w) ** 2 / step) / 2
            bound = least + np.sum((v - p) ** 2 / step) / 2
            require(here >= bound - 1e-10 * (1 + here), f"{name}: prox at step {step} is not the minimiser")
        apart = p - penalty.prox(other, step)
        require(
            np.sum(apart * apart / step) <= np.sum(apart * (w - other) / step) * (1 + 1e-9) + 1e-12,
            f"{name}: prox is not non-expansive",
        )


def _check_gap(penalty: Penalty, size: int, rng: np.random.Generator, name: str) -> None:
    """The certificate, beside a convex quadratic >= 0 whose minimum with the penalty is found by its prox."""
    A = rng.standard_normal((3 * size, size)) / np.sqrt(3 * size)
    H, c = A.T @ A + 0.1 * np.eye(size), 3 * rng.standard_normal(size)
    step = 1 / np.linalg.eigvalsh(H)[-1]

    def f(w: Array) -> float:
        return float((w - c) @ H @ (w - c)) / 2 + penalty.value(w)

    best = np.zeros(size)
    for _ in range(1000):
        best = penalty.prox(best - step * (H @ (best - c)), step)
    least = f(best)
    at_best = penalty.gap(best, H @ (best - c), least)
    require(
        isinstance(at_best, float) and (at_best <= 1e-9 * (1 + least) or np.isinf(at_best)),
        f"{name}: expected a gap of 0 at the minimum, got {at_best!r}",
    )
    for scale in (1e-6, 1e-3, 0.1, 1.0, 10.0):
        for near in (best, np.zeros(size)):
            w = near + scale * rng.standard_normal(size)
            w = np.maximum(w, 0.0) if penalty.positive else w
            gap, true = penalty.gap(w, H @ (w - c), f(w)), f(w) - least
            require(
                gap >= 0 and gap >= true - 1e-10 * (1 + f(w)),
                f"{name}: expected a gap of at least {true:.6g}, how far w={w} is above the minimum, "
                f"got {gap:.6g}",
            )
