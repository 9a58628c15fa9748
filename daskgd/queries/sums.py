"""Sums: the records that travel from workers to the driver, and add.

Sums travel, means never do. A record of sums, :class:`Sums`, may hold anything with a ``+`` that is
associative up to rounding: arrays and numbers, and the parts below, which merge moments, labels and findings.
Knows no queries, no problems and no data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Sums(Mapping[str, Any]):
    """A record of parts that add: arrays add element by element, other parts by their own ``+``.

    >>> (Sums(a=np.array([1.0, 2.0])) + Sums(a=np.array([3.0, 4.0])))["a"]
    array([4., 6.])
    """

    __slots__ = ("_parts",)

    def __init__(self, **parts: Any) -> None:
        self._parts = parts

    def __getitem__(self, name: str) -> Any:
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __add__(self, other: Sums) -> Sums:
        return Sums(**{name: part + other._parts[name] for name, part in self._parts.items()})

    def __reduce__(self) -> tuple[Any, ...]:
        return _sums, (self._parts,)

    @property
    def nbytes(self) -> int:
        """The bytes of all its numbers."""
        return sum(map(_nbytes, self._parts.values()))


def _sums(parts: dict[str, Any]) -> Sums:
    return Sums(**parts)


def _nbytes(part: Any) -> int:
    if isinstance(part, np.ndarray):
        return part.nbytes
    if is_dataclass(part):
        return sum(_nbytes(getattr(part, f.name)) for f in fields(part))
    if isinstance(part, Mapping):
        return sum(map(_nbytes, part.values()))
    if isinstance(part, list | tuple):
        return sum(map(_nbytes, part))
    return 0 if part is None else 8


@dataclass(frozen=True, slots=True)
class Maybe:
    """A part that adds, or None where there is nothing to add yet."""

    value: Any = None

    def __add__(self, other: Maybe) -> Maybe:
        if self.value is None or other.value is None:
            return other if self.value is None else self
        return Maybe(self.value + other.value)


@dataclass(frozen=True, slots=True)
class Largest:
    """A part of numbers, of each of which the sum is the largest."""

    value: Any

    def __add__(self, other: Largest) -> Largest:
        return Largest(np.maximum(self.value, other.value))
