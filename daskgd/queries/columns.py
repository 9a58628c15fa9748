"""The query of what encoders are fitted by: summaries of columns as they are stored, or as others see them.

Knows no problem and no encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.queries.base import Query
from daskgd.queries.sums import Sums
from daskgd.rows.categorical import Categorical
from daskgd.rows.dtypes import compute_dtype
from daskgd.rows.features import Dense, Features
from daskgd.rows.group_sums import group_sums
from daskgd.rows.stacked import Stacked
from daskgd.rows.summaries import DistinctValues, NumberSummary
from daskgd.rows.tiles import Rows

Array = NDArray[Any]


def numbers_at(X: Features, columns: Sequence[int]) -> Array:
    """Some of the columns of numbers ``(n, q)``, by their positions before all categories, as floats."""
    part = X.parts[0] if isinstance(X, Stacked) else X
    at = np.asarray(columns, dtype=np.intp)
    if isinstance(part, Dense) and at.max(initial=0) < part.shape[1]:
        dense = part.values[:, at]
    else:
        dense = X.columns(at).toarray()
    return np.asarray(dense, dtype=compute_dtype(dense.dtype))


def codes_of(X: Features) -> Categorical | None:
    """The categorical part, None where there is none."""
    if isinstance(X, Categorical):
        return X
    last = X.parts[-1] if isinstance(X, Stacked) else None
    return last if isinstance(last, Categorical) else None


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """What is known of columns.

    Attributes
    ----------
    numbers : dict of int to NumberSummary
        By the position of a column among those of numbers; each of one column.
    codes : dict of int to (categories + 1,)
        The weight of each code of a categorical column, by its position among them, and last of the rows
        where it is missing.
    distinct : dict of int to DistinctValues
        Of columns of numbers.
    views : list
        Of each view its summary, or the distinct values of each of its columns.
    """

    numbers: dict[int, NumberSummary]
    codes: dict[int, Array]
    distinct: dict[int, DistinctValues]
    views: list[Any]


@dataclass(frozen=True, slots=True, eq=False)
class ColumnStatistics(Query):
    """Summaries of columns, some of whose values may be missing: answers :class:`ColumnFacts`.

    Attributes
    ----------
    numbers, codes, distinct : tuple of int
        The columns of each kind to tell of, by their position.
    views : tuple of (callable, bool)
        Functions of the rows ``(n, p)`` and their numbers ``(n,)`` that give arrays ``(n, q)``, each with
        whether their distinct values are asked for, and not a summary of numbers.
    weighted : bool
        Whether rows count by their weights; else each counts once.
    """

    scope: ClassVar[str] = "block"
    name: ClassVar[str] = "columns"
    numbers: tuple[int, ...] = ()
    codes: tuple[int, ...] = ()
    distinct: tuple[int, ...] = ()
    views: tuple[tuple[Callable[[Features, Array], Any], bool], ...] = ()
    weighted: bool = False

    def result_nbytes(self, problem: Problem | None, n_features: int) -> int:
        return 8 * n_features + 48 * len(self.numbers)

    def block(self, problem: Problem | None, rows: Rows) -> Sums:
        s = rows.sample_weight if self.weighted else None
        sums: dict[str, Any] = {}
        if self.numbers:
            sums["numbers"] = NumberSummary.of(numbers_at(rows.X, self.numbers), s)
        if self.codes:
            sums |= {f"codes{j}": counts for j, counts in self._counts(rows.X, s)}
        for j in self.distinct:
            sums[f"distinct{j}"] = DistinctValues.of(numbers_at(rows.X, [j])[:, 0], s)
        for i, (view, distinct) in enumerate(self.views):
            values = view(rows.X, rows.numbers)
            if not distinct:
                sums[f"view{i}"] = NumberSummary.of(np.asarray(values, dtype=np.float64), s)
                continue
            for j in range(values.shape[1]):
                sums[f"view{i}_{j}"] = DistinctValues.of(values[:, j], s)
        return Sums(**sums)

    def _counts(self, X: Features, s: Array | None) -> list[tuple[int, Array]]:
        part = codes_of(X)
        assert part is not None
        sizes = np.diff(part.offsets)
        found = []
        for j in self.codes:
            own = part.indices[:, j].astype(np.intp) - int(part.offsets[j]) + 1
            np.maximum(own, 0, out=own)
            counts = group_sums(own, s, sizes[j] + 1)
            found.append((j, np.append(counts[1:], counts[0])))
        return found

    def answer(self, problem: Problem | None, sums: Sums) -> ColumnFacts:
        numbers = {j: sums["numbers"][[i]] for i, j in enumerate(self.numbers)}
        views: list[Any] = []
        for i, (_, distinct) in enumerate(self.views):
            own = [sums[name] for name in sums if name.startswith(f"view{i}_")]
            views.append(own if distinct else sums[f"view{i}"])
        return ColumnFacts(
            numbers,
            {j: sums[f"codes{j}"] for j in self.codes},
            {j: sums[f"distinct{j}"] for j in self.distinct},
            views,
        )
