"""The line search of all solvers that move along a direction: a generator of queries, like a solver.

It bets on the trial step, whose gradient the next iteration needs anyway: accepted, as it nearly always is,
the search costs that one sweep. Refused, cubic interpolation proposes another, which nearly always will do;
only then is a whole line of steps asked. (A line asked along with every trial would save a sweep in the rare
refusal, at the price of as much arithmetic as the gradient in every sweep.)
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.queries import Gradient, Line, Query

Array = NDArray[Any]

Accept = Callable[[float, float, float], bool]
"""``accept(t, f, slope)``: whether a step of t, with this value and slope along the line, will do."""

Found = tuple[float, float, Array]
"""The step, and objective and gradient there."""

SUFFICIENT, CURVATURE, FLAT_CURVATURE = 1e-4, 0.9, 0.1
"""Share of the decrease that the slope promises, which a step must bring; and share of the slope that it may
leave: little where the loss is flat, as Newton's model knows nothing of the rows to come."""

NOISE = float(np.finfo(np.float32).eps)
"""Relative error of an objective whose rows are float32."""

WIDE = 100.0 ** np.arange(-4.0, 3.0)
FACTORS = np.array([1e-4, 1e-3, 0.01, 0.03, 0.1, 0.25, 0.5, 2.0, 4.0, 8.0, 16.0])


def search(
    w: Array, d: Array, f: float, slope: float, trial: float | None, accept: Accept
) -> Generator[tuple[Query, ...], Sequence[Any], Found | None]:
    """Find a step along d from w, where the objective is f and its slope along d is `gradient` < 0.

    Parameters
    ----------
    trial : float, optional
        The step to try first; None looks along the whole line for the order of magnitude.
    accept :
        The caller's rule.

    Returns
    -------
    (t, f, g) or None
        None if no step on the line lowers the objective.
    """
    if trial is None:
        trial = yield from _first_trial(w, d, f, slope)
    if trial is None:
        return None
    ((new, g),) = yield (Gradient(w + trial * d),)
    if accept(trial, new, float(g @ d)):
        return trial, new, g
    guess = cubic(f, slope, trial, new, float(g @ d))
    ((new, g),) = yield (Gradient(w + guess * d),)
    if accept(guess, new, float(g @ d)):
        return guess, new, g
    steps = trial * FACTORS
    ((values, slopes),) = yield (Line(w, d, steps),)
    t = _best(f, slope, steps, values, slopes, accept)
    if t is None:
        return None
    ((new, g),) = yield (Gradient(w + t * d),)
    return t, new, g


def _first_trial(
    w: Array, d: Array, f: float, slope: float
) -> Generator[tuple[Query, ...], Sequence[Any], float | None]:
    """A trial step of the right order of magnitude: a look at the whole line, then between the points that
    bracket the minimum."""
    size = float(np.linalg.norm(d))
    if not size > 0:
        return None
    # Lengths in the units of the parameters, and multiples of d itself, whose units may be far from them.
    steps = np.unique(np.concatenate([WIDE / size, 10.0 ** np.arange(-6.0, 3.0)]))
    ((values, slopes),) = yield (Line(w, d, steps),)
    lower = np.isfinite(values) & (values < f)
    if not lower.any():
        return None
    j = int(np.argmin(np.where(lower, values, np.inf)))
    if slopes[j] < 0 and j + 1 < len(steps) and np.isfinite(values[j + 1]) and np.isfinite(slopes[j + 1]):
        near, far = j, j + 1
    else:
        near, far = j - 1, j
    if near < 0:
        return float(steps[j])
    span = float(steps[far] - steps[near])
    return float(steps[near]) + cubic(values[near], slopes[near], span, values[far], slopes[far], 1e-3)


def cubic(f0: float, slope0: float, t: float, f: float, slope: float, least: float = 0.05) -> float:
    """The minimiser of the cubic through both ends (Nocedal & Wright 2006, eq. 3.59), within least * t .. 10
    t.

    >>> cubic(1.0, -2.0, 2.0, 1.0, 2.0)
    1.0
    """
    if not (np.isfinite(f) and np.isfinite(slope)):
        return 0.1 * t
    d1 = slope0 + slope - 3 * (f0 - f) / (0 - t)
    square = d1 * d1 - slope0 * slope
    if square < 0:
        return 0.5 * t
    d2 = np.sqrt(square)
    denominator = slope - slope0 + 2 * d2
    if denominator == 0:
        return 0.5 * t
    return float(np.clip(t - t * (slope + d2 - d1) / denominator, least * t, 10 * t))


def wolfe(f0: float, slope0: float, t: float, f: float, slope: float, curvature: float = CURVATURE) -> bool:
    """Whether a step meets the weak Wolfe conditions: sufficient decrease, and no longer as steep downhill as
    at the start.

    Where f0 and f agree to the rounding of float32 rows, their difference says nothing, and the slope alone
    decides (Hager & Zhang 2005, approximate Wolfe conditions; they allow 1e-6).
    """
    floor = NOISE * abs(f0)
    decrease = f <= f0 + SUFFICIENT * t * slope0
    decrease = decrease or (f <= f0 + floor and slope <= (2 * SUFFICIENT - 1) * slope0)
    return bool(decrease and slope >= curvature * slope0)


BACK = 10.0 ** np.array([-0.15, -0.3, -0.6, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0])


def backtrack(
    w: Array, d: Array, f: float, decrease: float
) -> Generator[tuple[Query, ...], Sequence[Any], float | None]:
    """A step t < 1 along d with ``f(w + t d) <= f - SUFFICIENT t decrease``: the one of least objective.

    For objectives with kinks, of which `decrease` > 0 bounds the slope by -decrease: no slopes are used.
    None if there is none. The step itself is not evaluated again.
    """
    ((values, _),) = yield (Line(w, d, BACK),)
    good = np.isfinite(values) & (values <= f - SUFFICIENT * BACK * decrease)
    return float(BACK[good][np.argmin(values[good])]) if good.any() else None


def _best(f: float, slope: float, steps: Array, values: Array, slopes: Array, accept: Accept) -> float | None:
    """The acceptable step of least objective; if there is none, the best of those that lower it; else
    None."""
    finite = np.isfinite(values) & np.isfinite(slopes)
    good = [finite[j] and accept(t, values[j], slopes[j]) for j, t in enumerate(steps)]
    lower = finite & (values < f + 1e-4 * steps * slope)
    for candidates in (np.array(good), lower):
        if candidates.any():
            return float(steps[candidates][np.argmin(values[candidates])])
    return None
