"""The queries of what encoders know of the target: its distinct values, and its moments within categories.

Know no problem and no encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.queries.base import Query
from daskgd.queries.sums import Sums
from daskgd.rows.features import Features
from daskgd.rows.random_numbers import row_folds
from daskgd.rows.summaries import DistinctValues, GroupMoments
from daskgd.rows.tiles import Rows

Array = NDArray[Any]


def _targets(rows: Rows) -> Array:
    """The one target of each row ``(n,)``. Raises ValueError where there is none, or several."""
    y = rows.y
    if y is None or (y.ndim == 2 and y.shape[1] != 1):
        raise ValueError(
            "TargetEncoder: expected a table with one target per row, got "
            f"{'none' if y is None else f'{y.shape[1]} targets'}"
        )
    return y.reshape(len(y))


@dataclass(frozen=True, slots=True, eq=False)
class TargetValues(Query):
    """The distinct targets and how many rows have each: answers
    :class:`~daskgd.rows.summaries.DistinctValues`, of which the values are None where some are no whole
    numbers, or where there are more than a million.

    Attributes
    ----------
    weighted : bool
        Whether rows count by their weights; else each counts once.
    """

    scope: ClassVar[str] = "block"
    name: ClassVar[str] = "columns"
    weighted: bool = False

    def block(self, problem: Problem | None, rows: Rows) -> Sums:
        y, s = _targets(rows), rows.sample_weight if self.weighted else None
        if s is not None:
            y, s = y[s > 0], s[s > 0]
        if y.dtype.kind == "f" and not (np.floor(y) == y).all():
            return Sums(values=DistinctValues(None, np.zeros(0)))
        return Sums(values=DistinctValues.of(y, s))

    def answer(self, problem: Problem | None, sums: Sums) -> DistinctValues:
        found: DistinctValues = sums["values"]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class TargetMoments(Query):
    """The moments of the target within categories and folds: answers a list of
    :class:`~daskgd.rows.summaries.GroupMoments` ``(folds, size, outputs)``, one for each column of
    categories, and last one for all rows, of size 1.

    Attributes
    ----------
    positions : tuple of (callable, int)
        Functions of the rows ``(n, p)`` that tell the category of each ``(n,)``, -1 where it has none; and of
        how many.
    folds, seed : int
        Which fold a row is in is a hash of its number.
    classes : (k,), optional
        The labels, sorted, of which each is an output: 1 where the target is that label, else 0; of two
        labels, one output alone, for the second. None for targets that are numbers.
    """

    scope: ClassVar[str] = "block"
    name: ClassVar[str] = "columns"
    by_row_number: ClassVar[bool] = True
    positions: tuple[tuple[Callable[[Features], Array], int], ...]
    folds: int = 1
    seed: int = 0
    classes: Array | None = None
    weighted: bool = False

    @property
    def outputs(self) -> int:
        """The number of outputs."""
        return len(self.classes) if self.classes is not None and len(self.classes) > 2 else 1

    def result_nbytes(self, problem: Problem | None, n_features: int) -> int:
        return 24 * self.folds * self.outputs * sum(size + 1 for _, size in self.positions)

    def block(self, problem: Problem | None, rows: Rows) -> Sums:
        folds, s = (
            row_folds(rows.numbers, self.folds, self.seed),
            rows.sample_weight if self.weighted else None,
        )
        outputs = self._outputs(_targets(rows))
        positions = [(f"column{i}", find(rows.X), size) for i, (find, size) in enumerate(self.positions)]
        whole = "all", np.zeros(len(rows), np.intp), 1
        return Sums(
            **{name: self._moments(outputs, folds, at, size, s) for name, at, size in [*positions, whole]}
        )

    def _outputs(self, y: Array) -> list[Array]:
        """The outputs, ``(n,)`` each, as floats."""
        if self.classes is None:
            return [y.astype(np.float64)]
        chosen = self.classes if self.outputs > 1 else self.classes[-1:]
        return [(y == label).astype(np.float64) for label in chosen]

    def _moments(
        self, outputs: list[Array], folds: Array, at: Array, size: int, s: Array | None
    ) -> GroupMoments:
        known = at >= 0
        groups, s = folds[known] * size + at[known], None if s is None else s[known]
        each = [GroupMoments.of(y[known], groups, self.folds * size, s) for y in outputs]
        stacked = (np.stack([getattr(m, name) for m in each], axis=-1) for name in GroupMoments.__slots__)
        return GroupMoments(*stacked).reshape(self.folds, size, len(outputs))

    def answer(self, problem: Problem | None, sums: Sums) -> list[GroupMoments]:
        return [*(sums[f"column{i}"] for i in range(len(self.positions))), sums["all"]]
