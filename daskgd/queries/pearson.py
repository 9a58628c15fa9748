"""The query of Pearson's statistic, from which the dispersion of counts and amounts is estimated. Knows no
estimator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.queries.base import Query
from daskgd.queries.sums import Sums
from daskgd.rows.tiles import Tile

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Pearson(Query):
    """Pearson's statistic ``sum_i s_i (y_i - m_i)**2 / m_i**power`` at `w`, in float64: answers a float."""

    name: ClassVar[str] = "pearson"
    w: Array
    power: float

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        y, s = tile.targets(problem)
        z = problem.margins(self.w, tile.X).astype(np.float64)
        if problem.loss.offsets:
            z, y = z + y[:, 1], y[:, 0]
        m = problem.loss.mean(z)
        square = (y - m) ** 2 / m**self.power
        return Sums(square=float(square.sum() if s is None else s @ square))

    def answer(self, problem: Problem, sums: Sums) -> float:
        return float(sums["square"])
