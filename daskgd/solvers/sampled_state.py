"""The State of sub-sampled Newton: where it stands, the sample, and what it knows of the Hessian."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.rows.features import Dense, Features, as_features
from daskgd.rows.tiles import Rows
from daskgd.solvers.base import State

Array = NDArray[Any]

MAX_SLOW_STEPS = 2
"""Slow steps in a row after which the Hessian is taken anew where the fit stands."""

MISLED = 2 * MAX_SLOW_STEPS
"""Slow steps in a row after which the sample's Hessian is given up for that of all rows, or for none."""


class WithSample:
    """What States have in common that hold a sample of the rows, as X, y and s."""

    __slots__ = ()

    def __post_init__(self: Any) -> None:
        object.__setattr__(self, "X", as_features(self.X))

    @property
    def sample(self: Any) -> Rows:
        """The rows of the sample; kernels run on them in float64."""
        return Rows(self.X, self.y, self.s, 0, dtype=np.dtype(float))


@dataclass(frozen=True, slots=True)
class SampledState(WithSample, State):
    """Where sub-sampled Newton stands: `w` is where to end if this is the end; f and g were measured at `at`.

    Attributes
    ----------
    at : (d,)
    d : (d,)
        The next step, from `at`.
    gap_at : float
        The gap at `at`; `gap` is that at `w`, or `gap_at` where the model is not trusted so far.
    error : float
        By which factor a step of the model shrinks the gap, at worst; 1 where it is not to be trusted.
    X, y, s :
        The sample; ``complete`` if it is all rows.
    metric : Preconditioner or None
        Where all rows are in memory: of the Hessian, at some point on the way.
    metric_f : float
        The objective there.
    least : float
        The least Ritz value of the Hessian in the metric, where a system has been solved; infinity before.
    lacking : (p,)
        By how much each feature varies less in the sample than in the data.
    values (d,), vectors (d, d) :
        Eigenvalues and eigenvectors of the sample's Hessian at ``base``; none where it is not formed.
    S, Y : (<=20, d)
        Steps and differences of gradients.
    model_error_ratio : float
        By which factor the model was wrong along the last step, at least 1; infinity before the first.
    floor : float
        The least gap to believe in: one that has shrunk faster than a sample of this size can explain is
        luck.
    slow_steps : int
        Slow steps in a row; ``MISLED`` of them, or that number put here, give the sample's Hessian up.
    exact : bool
        Whether the Hessian is that of all rows, which was asked because the sample's misled.
    plain : bool
        Whether the sample was found to be of no use, and a Hessian of all rows is too much: L-BFGS.
    """

    at: Array = field(default_factory=lambda: np.zeros(0))
    d: Array = field(default_factory=lambda: np.zeros(0))
    gap_at: float = np.inf
    error: float = 1.0
    X: Features = field(default_factory=lambda: Dense(np.zeros((0, 0))))
    y: Array | None = None
    s: Array | None = None
    complete: bool = False
    metric: Any = None
    metric_f: float = np.inf
    least: float = np.inf
    lacking: Array = field(default_factory=lambda: np.zeros(0))
    values: Array = field(default_factory=lambda: np.zeros(0))
    vectors: Array = field(default_factory=lambda: np.zeros((0, 0)))
    base: Array = field(default_factory=lambda: np.zeros(0))
    S: Array = field(default_factory=lambda: np.zeros((0, 0)))
    Y: Array = field(default_factory=lambda: np.zeros((0, 0)))
    model_error_ratio: float = np.inf
    floor: float = 0.0
    slow_steps: int = 0
    exact: bool = False
    plain: bool = False

    @property
    def point(self) -> Array:
        return self.at

    @property
    def misled(self) -> bool:
        """Whether the sample's Hessian has been found to mislead, and not been replaced yet."""
        return self.slow_steps >= MISLED and not self.plain

    def give_up_sample(self) -> SampledState:
        """The State in which the sample's Hessian is known to mislead."""
        return replace(self, slow_steps=MISLED)

    def end_after_step(self, error: float) -> SampledState:
        """The State that ends after the next step, which leaves the factor `error` of the gap; unchanged
        where `error` is not below 1."""
        error = min(error, 1.0)
        if error == 1.0:
            return replace(self, error=error)
        return replace(self, w=self.at + self.d, gap=self.gap_at * error, error=error)
