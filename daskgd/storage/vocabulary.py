"""The labels of a column from all parts of its rows: gathered as parts come, sorted at the end.

The order in which parts come changes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat
from typing import Any

import numpy as np
from dask.utils import format_bytes

from daskgd.config import setting
from daskgd.rows.dictionaries import Dictionary

ENTRY_BYTES = 104
"""Bytes that a label takes in a dictionary of Python's, beside its own, about."""


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a column in some of its rows, and how many of these have each."""

    values: Sequence[Any]
    counts: np.ndarray


@dataclass
class Vocabulary:
    """The labels of a column, from all parts of its rows.

    >>> found = Vocabulary("colour")
    >>> found.add(1, Labels(["red", "blue"], np.array([1, 2])))
    >>> found.add(0, Labels(["green"], np.array([3])))
    >>> found.labels, found.counts.tolist(), found.table(1).tolist()
    (['blue', 'green', 'red'], [2, 3, 1], [2, 0, -1])
    """

    column: str
    _index: dict[Any, int] = field(default_factory=dict, repr=False)
    _tables: dict[int, np.ndarray] = field(default_factory=dict, repr=False)
    _counts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)
    _nbytes: int = 0

    def add(self, part: int, labels: Labels) -> None:
        """Take the labels of a part, among which one may be twice. Raises ValueError where they are more by
        now than ``daskgd.dictionary-bytes`` hold."""
        index, values = self._index, labels.values
        table = np.fromiter(map(index.get, values, repeat(-1)), np.int32, len(values))
        for i in np.flatnonzero(table < 0).tolist():
            known = len(index)
            table[i] = index.setdefault(values[i], known)
            if len(index) > known:
                self._nbytes += sys.getsizeof(values[i]) + ENTRY_BYTES
        if len(index) > len(self._counts):
            self._counts = np.concatenate([self._counts, np.zeros(len(index), np.int64)])
        np.add.at(self._counts, table, labels.counts)
        self._tables[part] = table
        most = int(setting("dictionary-bytes"))
        if self._nbytes > most:
            raise ValueError(
                f"column {self.column!r}: expected categories of {format_bytes(most)} together, got more "
                f"than {len(index):,} different ones; leave the column out (drop), or raise the setting "
                "daskgd.dictionary-bytes if this process has the memory"
            )

    @property
    def is_used(self) -> bool:
        """Whether parts have labels, be there none."""
        return bool(self._tables)

    @cached_property
    def labels(self) -> list[Any]:
        """All labels, sorted."""
        return sorted(self._index)

    @cached_property
    def _ranks(self) -> np.ndarray:
        """The place of each label, in the order in which they came, among those that are sorted."""
        ranks = np.empty(len(self._index), np.int32)
        ranks[[self._index[label] for label in self.labels]] = np.arange(len(ranks), dtype=np.int32)
        return ranks

    @property
    def counts(self) -> np.ndarray:
        """The rows of each label."""
        counts = np.empty(len(self._index), np.int64)
        counts[self._ranks] = self._counts[: len(counts)]
        return counts

    def table(self, part: int) -> np.ndarray:
        """The codes for those that a part has, and at the end -1 for -1."""
        return np.append(self._ranks[self._tables[part]], np.int32(-1))

    @property
    def is_sorted(self) -> bool:
        """Whether the codes of every part are those of all labels."""
        tables = (self.table(i)[:-1] for i in self._tables)
        return all(np.array_equal(table, np.arange(len(table))) for table in tables)

    def dictionary(self) -> Dictionary:
        """The labels as categories."""
        return Dictionary(self.column, self.labels, self.counts.tolist())
