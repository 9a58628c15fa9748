"""Views of rows: what a query sees in the place of the rows of a block as they are stored. One read serves
queries that see different views. Knows rows and subsets; not what is computed from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from daskgd.rows.subsets import Subset
from daskgd.rows.tiles import Rows


class View(Protocol):
    """Some of the rows of a block, or others that are made of them one by one. Hashable; queries that see the
    same view have equal ones."""

    @property
    def n_features(self) -> int | None:
        """The features that its rows have; None for those that are stored."""
        ...

    def of(self, rows: Rows) -> Rows:
        """What it makes of some rows as they are stored. Each row keeps its number."""
        ...


@dataclass(frozen=True, slots=True)
class SubsetView:
    """The rows of a subset, as they are stored.

    >>> import numpy as np
    >>> from daskgd.rows.features import Dense
    >>> from daskgd.rows.subsets import HashedCells
    >>> rows = Rows(Dense(np.arange(6.0)[:, None]), None, None, 0)
    >>> SubsetView(Subset(HashedCells(3), (True, False, False))).of(rows).numbers
    array([0, 4, 5])
    """

    subset: Subset

    @property
    def n_features(self) -> None:
        return None

    def of(self, rows: Rows) -> Rows:
        inside = self.subset.mask(rows.numbers)
        return rows if inside.all() else rows.select(inside)
