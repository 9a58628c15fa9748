"""The query of directions of recession: those along which no row loses. Knows problems; no solver and no
estimator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.queries.base import Query, check_finite
from daskgd.queries.sums import Largest, Sums
from daskgd.rows.tiles import Tile

Array = NDArray[Any]

NEAR = 0.02
"""Change of a margin up to which a row counts as one that a direction of unit length leaves where it is."""

STEP = 0.3
"""Change of a margin by Newton's step, from which on a fit that has ended is not at a minimum."""

FLAT = 1e-13
"""Curvature along a direction, relative to that of all rows by their margins, below which the rows that move
are so certain that their slopes are lost in rounding."""

OPPOSED, OPPOSES = 0.2, 0.05
"""Loss of rows along a direction, relative to the gain of others, and loss of a single row, relative to the
largest gain of one, from which on it is no direction of recession."""


@dataclass(frozen=True, slots=True)
class RecessionAnswer:
    """What rows say of directions, each number ``(m,)``, with weights.

    Attributes
    ----------
    slope, curvature : (m,)
        Of the loss along the direction, summed over all rows.
    gains, losses : (m,)
        Sums of how fast the losses of rows that move fall along it, and rise.
    gain, loss : (m,)
        The largest of a single row, without its weight.
    reach : (m,)
        The largest change of a margin.
    total : float
        The sum over rows of the largest second derivative by a margin.
    """

    slope: Array
    curvature: Array
    gains: Array
    losses: Array
    gain: Array
    loss: Array
    reach: Array
    total: float

    @property
    def recedes(self) -> Array:
        """A mask ``(m,)`` of the directions in which, or against which, the objective falls without end where
        a fit has ended: Newton's step is large all the same, as rows move that are all on one side."""
        slope, net = np.abs(self.slope), np.abs(self.gains - self.losses)
        moves = (slope * self.reach > STEP * self.curvature) & (0.5 * slope <= net) & (net <= 2 * slope)
        out: Array = self.flat | self.one_sided & moves
        return out

    @property
    def flat(self) -> Array:
        """A mask ``(m,)`` of the directions in which rows that move are so certain that slopes are lost."""
        most = FLAT * self.total * self.reach
        out: Array = (self.curvature < most * self.reach) & (np.maximum(self.gains, self.losses) < most)
        return out

    @property
    def one_sided(self) -> Array:
        """A mask ``(m,)`` of the directions in which rows move that are all on one side. A single row on the
        other would have the larger slope, as it is on the wrong one."""
        gains, losses = np.maximum(self.gains, self.losses), np.minimum(self.gains, self.losses)
        along = self.gains >= self.losses
        gain, loss = np.where(along, self.gain, self.loss), np.where(along, self.loss, self.gain)
        matters = (gains - losses) * self.reach > STEP * self.curvature
        out: Array = matters & (losses < OPPOSED * gains) & (loss < OPPOSES * gain)
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Recession(Query):
    """Whether the objective falls without end from `w` ``(d,)`` along directions, or against them: answers a
    :class:`RecessionAnswer`.

    Along a direction of recession (Rockafellar 1970, section 8; Geyer 2009) no row's loss rises, however far
    one goes. Rows whose margin changes by no more than :data:`NEAR` are left out: a direction is known but to
    some digits.

    Attributes
    ----------
    directions : (d, m)
        Along which margins change by about 1.
    """

    name: ClassVar[str] = "recession"
    compute_bound: ClassVar[bool] = True
    w: Array
    directions: Array

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        y, s = tile.targets(problem)
        loss, k, m = problem.loss, problem.linear.outputs, self.directions.shape[1]
        z = problem.margins(self.w, tile.X).astype(np.float64)
        weight = np.ones(len(z)) if s is None else s
        weighs = (weight > 0)[:, None]
        D = self.directions.reshape(-1, k * m)
        Z = np.concatenate([A @ D for _, A in tile.designs(problem.linear)]).reshape(len(z), k, m)
        reach = np.where(weighs, np.abs(Z[:, 0]) if k == 1 else np.ptp(Z, axis=1), 0.0)
        slopes = np.einsum("ik,ikm->im", loss.gradient(z, y).reshape(len(z), k), Z)
        factor = loss.hessian_factor(z, y)
        each = np.abs(loss.hessian_diagonal(factor)).reshape(len(z), k).max(axis=1)
        curvature = np.empty(m)
        for j in range(m):
            u = np.ascontiguousarray(Z[:, :, j]).reshape(z.shape)
            curvature[j] = weight @ (loss.hessian_product(factor, u) * u).reshape(len(z), k).sum(axis=1)
        slope, far = weight @ slopes, np.where(reach > NEAR, slopes, 0.0)
        check_finite(tile, slope, curvature)
        gain, loss_ = np.maximum(-far, 0.0), np.maximum(far, 0.0)
        return Sums(
            slope=slope,
            curvature=curvature,
            gains=weight @ gain,
            losses=weight @ loss_,
            gain=Largest(gain.max(axis=0, initial=0.0)),
            loss=Largest(loss_.max(axis=0, initial=0.0)),
            reach=Largest(reach.max(axis=0, initial=0.0)),
            total=weight @ each,
        )

    def answer(self, problem: Problem, sums: Sums) -> RecessionAnswer:
        parts = {name: part.value if isinstance(part, Largest) else part for name, part in sums.items()}
        return RecessionAnswer(**parts)
