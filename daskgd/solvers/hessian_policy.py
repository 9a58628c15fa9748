"""What becomes of a sample's Hessian after a step, and how wrong the model was along it."""

from __future__ import annotations

from enum import Enum

from daskgd.solvers.sampled_state import MAX_SLOW_STEPS, SampledState


class HessianPolicy(Enum):
    """What becomes of the Hessian after a step."""

    KEEP = "keep"
    RENEW = "take the sample's anew where the fit stands"
    RENEW_AND_FORGET = "the same, and forget all pairs but the last"
    GIVE_UP = "give it up"


def next_hessian_policy(s: SampledState, far: bool) -> HessianPolicy:
    """The policy for the Hessian after the step that led to `s`; `far` is whether that step began far from
    the minimum.

    The first steps after a Hessian are judged by their gap: far away, curvature changes along a step, and the
    Hessian is that of the new point, from where older pairs say nothing. Later steps, corrected by pairs, are
    judged by how fast the gap falls.
    """
    if far and not (s.plain or s.exact) and s.slow_steps < MAX_SLOW_STEPS:
        return HessianPolicy.RENEW_AND_FORGET
    if s.slow_steps == MAX_SLOW_STEPS and not s.plain:
        return HessianPolicy.GIVE_UP if s.exact else HessianPolicy.RENEW
    return HessianPolicy.KEEP


def model_error(promised: float, t: float, gained: float, met: float, rounding: float) -> float:
    """The factor, at least 1, by which a quadratic model was wrong along a step.

    Of the whole step it had promised a gain of half the curvature along it, ``promised = d'Hd / 2``; a step
    of ``t d`` gained `gained` and met the curvature ``met = s'y``. Gains that are lost in `rounding` say
    nothing.

    >>> model_error(promised=1.0, t=1.0, gained=3.0, met=1.0, rounding=0.0)
    3.0
    """
    if not promised > rounding:
        return 1.0
    expected = 2 * promised * t * t
    return max(1.0, gained / promised, expected / met if met > 0 else 1.0)
