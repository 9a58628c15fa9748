"""The query that measures what smoothing a loss adds to the objective. Knows smoothed losses; no solver."""

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


NEAR = 0.2
"""Share of the width that smoothing adds within about one width of a kink, where the curvature is."""


@dataclass(frozen=True, slots=True, eq=False)
class Excess(Query):
    """What smoothing adds to the mean loss at `w` ``(d,)``: answers ``(mean, rows)``, the latter counting
    those close enough to the kink for curvature."""

    name: ClassVar[str] = "excess"
    w: Array

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        y, s = tile.targets(problem)
        z = problem.margins(self.w, tile.X)
        s = np.ones(len(z)) if s is None else s
        added = problem.loss.excess(z, y)
        near = int(np.count_nonzero(added > NEAR * problem.loss.width))  # type: ignore[attr-defined]
        return Sums(added=float(s @ added), rows=near, weight=float(s.sum()))

    def answer(self, problem: Problem, sums: Sums) -> tuple[float, int]:
        return sums["added"] / sums["weight"], sums["rows"]
