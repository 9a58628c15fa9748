"""The query that asks another one of each cell of the rows, so that the answer for any union of cells is a
sum: what the data alone determine of all folds is made in one read, each row once. Knows queries; no
solver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.queries.base import Query
from daskgd.queries.sample import SampleAnswer
from daskgd.queries.sums import Sums
from daskgd.rows.subsets import Cells, Subset
from daskgd.rows.tiles import Rows

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class CellSums:
    """The sums of each cell that has rows, by its number; two add cell by cell."""

    parts: dict[int, Sums]

    def __add__(self, other: Self) -> Self:
        parts = dict(self.parts)
        for cell, sums in other.parts.items():
            parts[cell] = parts[cell] + sums if cell in parts else sums
        return type(self)(dict(sorted(parts.items())))


class CellAnswers(Mapping[int, Any]):
    """What a query about the data alone answers for the rows of each cell, by its number, and of any subset
    of the cells."""

    __slots__ = ("_known", "_nothing", "_query", "_sums", "_then")

    def __init__(
        self, query: Query, sums: dict[int, Sums], nothing: Sums, then: Callable[[Any], Any] | None = None
    ) -> None:
        self._query, self._sums, self._nothing, self._then = query, sums, nothing, then
        self._known: dict[tuple[bool, ...] | None, Any] = {}

    def __getitem__(self, cell: int) -> Any:
        return self._answer(self._sums[cell])

    def __iter__(self) -> Iterator[int]:
        return iter(self._sums)

    def __len__(self) -> int:
        return len(self._sums)

    def of(self, subset: Subset | None) -> Any:
        """The answer for a subset, for all rows where it is None. Made once for each."""
        members = None if subset is None else subset.members
        if members not in self._known:
            wanted = [sums for cell, sums in self._sums.items() if members is None or members[cell]]
            whole = reduce(lambda a, b: a + b, wanted, self._nothing)
            self._known[members] = self._answer(whole)
        return self._known[members]

    def with_each(self, then: Callable[[Any], Any]) -> CellAnswers:
        """The same, with what a function makes of each answer in its place."""
        return CellAnswers(self._query, self._sums, self._nothing, then)

    def _answer(self, sums: Sums) -> Any:
        found = self._query.answer(None, sums)  # type: ignore[arg-type]
        return found if self._then is None else self._then(found)


@dataclass(frozen=True, slots=True)
class ByCell(Query):
    """A query of scope "block" about the data alone, asked of the rows of each cell: answers
    :class:`CellAnswers`."""

    scope: ClassVar[str] = "block"
    name: ClassVar[str] = "survey"
    by_row_number: ClassVar[bool] = True
    query: Query
    cells: Cells

    def result_nbytes(self, problem: Problem | None, n_features: int) -> int:
        return self.cells.n_cells * self.query.result_nbytes(problem, n_features)

    def block(self, problem: Problem | None, rows: Rows) -> Sums:
        cells = self.cells.of(rows.numbers)
        there = np.unique(cells)
        some = (rows if len(there) == 1 else rows.select(cells == cell) for cell in there)
        parts = {int(cell): self.query.block(None, part) for cell, part in zip(there, some, strict=True)}  # type: ignore[arg-type]
        return Sums(cells=CellSums(parts), nothing=_First(self.query.block(None, rows.slice(0, 0))))  # type: ignore[arg-type]

    def answer(self, problem: Problem | None, sums: Sums) -> CellAnswers:
        answers = CellAnswers(self.query, sums["cells"].parts, sums["nothing"].value)
        answers.of(None)  # which refuses rows that are invalid, whichever cell they are in
        return answers


@dataclass(frozen=True, slots=True)
class _First:
    """A part of which the first is as good as the sum: the sums of no rows."""

    value: Any

    def __add__(self, other: _First) -> _First:
        return self


def sample_of_subset(found: SampleAnswer, subset: Subset) -> SampleAnswer:
    """The sample of the rows of a subset, selected from one of all."""
    inside = subset.mask(found.rows.numbers)
    rows = found.rows if inside.all() else found.rows.select(inside)
    if found.moments is None:
        return SampleAnswer(rows, found.complete, None)
    moments = reduce(lambda a, b: a + b, (tile.X.moments(tile.sample_weight) for tile in rows.tiles()))
    return SampleAnswer(rows, found.complete, moments)
