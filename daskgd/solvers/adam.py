"""Adam: mini-batch steps on shares of the blocks, scaled by past gradients."""

from __future__ import annotations

from dataclasses import dataclass

from daskgd.solvers.base import in_unit_interval, require
from daskgd.solvers.schedules import Rule
from daskgd.solvers.sgd import SGD


@dataclass(slots=True)
class Adam(SGD):
    """Mini-batch descent whose steps are scaled by the size of past gradients (Kingma & Ba 2015).

    As :class:`~daskgd.SGD`: every step reads its share of the blocks. With m and v the averages of gradients
    and of their squares, free of their bias towards 0: ``w <- w - rate m / (sqrt(v) + 1e-8)``.

    Parameters
    ----------
    step, steps, accumulate, schedule, decay, period, wire, seed :
        As there; a step is about how far each parameter moves.
    momentum, second : float
        Of the averages of gradients and squares, in [0, 1).

    Examples
    --------
    >>> Adam(step=0.01).second
    0.999
    """

    step: float = 0.01
    second: float = 0.999

    def __post_init__(self) -> None:
        SGD.__post_init__(self)
        require(in_unit_interval(self.second), self, "second", "in [0, 1)", self.second)

    @property
    def rule(self) -> Rule:
        return Rule("adam", self.momentum, self.second)
