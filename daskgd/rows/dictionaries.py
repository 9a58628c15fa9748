"""What features of categorical rows stand for: names of the columns of numbers, then dictionaries of codes.

Knows no rows: what kernels compute needs no names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True, eq=False)
class Dictionary:
    """The categories of a categorical column, one for each code from 0 on.

    `categories` is a range where they are known by their number alone; it may be a sequence that is read when
    it is looked at. `counts` are the rows of each, if they are known; they make no difference to what codes
    stand for.
    """

    name: str
    categories: Sequence[Any]
    counts: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.categories)

    def __eq__(self, other: object) -> bool:
        """Whether name and categories are the same, NaN being the same as NaN."""
        if not isinstance(other, Dictionary) or self.name != other.name or len(self) != len(other):
            return False
        if self.is_known != other.is_known or self.categories == other.categories:
            return self.is_known == other.is_known
        both = zip(self.categories, other.categories, strict=True)
        return all(a == b or (a != a and b != b) for a, b in both)

    __hash__ = None  # type: ignore[assignment]

    @property
    def is_known(self) -> bool:
        """Whether categories are known by their values."""
        return not isinstance(self.categories, range)

    @property
    def given(self) -> int | list[Any]:
        """The categories as :class:`daskgd.OneHot` takes them."""
        return list(self.categories) if self.is_known else len(self)


@dataclass(frozen=True, slots=True)
class Dictionaries:
    """The dictionaries of the columns of codes, and the names of the columns of numbers before them.

    `named` is whether a model is to remember names.

    >>> columns = Dictionary("colour", ["blue", "red"]), Dictionary("size", range(2))
    >>> Dictionaries(columns, ("price",)).feature_names()
    ['price', 'colour_blue', 'colour_red', 'size_0', 'size_1']
    """

    columns: tuple[Dictionary, ...]
    numeric: tuple[str, ...] = ()
    named: bool = True

    @classmethod
    def unnamed(cls, sizes: Sequence[int], n_numeric: int) -> Dictionaries:
        """Those of columns of so many categories, of which no more is known.

        >>> Dictionaries.unnamed([2], 1).feature_names()
        ['x0', 'x1_0', 'x1_1']
        """
        columns = [Dictionary(f"x{n_numeric + j}", range(size)) for j, size in enumerate(sizes)]
        return cls(tuple(columns), tuple(f"x{j}" for j in range(n_numeric)), named=False)

    def without_counts(self) -> Dictionaries:
        """Those of some of the rows, of which no counts are known."""
        return replace(self, columns=tuple(replace(column, counts=None) for column in self.columns))

    def feature_names(self) -> list[str]:
        """The names of all features: those of the columns of numbers, then ``column_category``."""
        names = list(self.numeric)
        for column in self.columns:
            names += [f"{column.name}_{category}" for category in column.categories]
        return names
