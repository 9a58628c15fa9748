"""The base of kinds of transformers, and helpers to make fitted ones of scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from daskgd.preprocessing.columns import Column
from daskgd.preprocessing.facts import Asking, Facts

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Input:
    """What a transformer is given to be fitted with.

    Attributes
    ----------
    columns : list of columns
    head : frame or array
        The first rows, as scikit-learn would be given them.
    facts : Facts
    """

    columns: list[Column]
    head: Any
    facts: Facts

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the columns, None where they have none."""
        return names_of(self.head)

    def label(self, j: int) -> str:
        """The name of a column, or its position."""
        return repr(self.names[j]) if self.names is not None else str(j)

    def dtype(self, j: int) -> np.dtype[Any]:
        """The dtype of a column; that of objects for those of pandas."""
        dtype = self.head.dtype if self.names is None else self.head.dtypes.iloc[j]
        return dtype if isinstance(dtype, np.dtype) else np.dtype(object)

    def like(self, values: Sequence[Any]) -> Any:
        """A frame, or an array, of the columns of the input with these values: an array for each."""
        if self.names is None:
            objects = any(np.asarray(v).dtype == object for v in values)
            return np.column_stack([np.asarray(v, dtype=object if objects else None) for v in values])
        import pandas as pd

        return pd.DataFrame(dict(zip(self.names, values, strict=True)))


def names_of(head: Any) -> tuple[str, ...] | None:
    """The names of the columns of a frame; None of an array."""
    return tuple(map(str, head.columns)) if hasattr(head, "columns") else None


class Kind:
    """A kind of transformers."""

    def fit(self, transformer: Any, given: Input) -> Asking:
        """Ask for what the transformer has to know, and return a fitted one."""
        raise NotImplementedError

    def columns(
        self, fitted: Any, of: Sequence[Column], names: tuple[str, ...] | None
    ) -> list[Column] | None:
        """The columns that a fitted transformer makes; None where it has to be called itself."""
        return None


class ByShape(Kind):
    """Transformers that know no more of the data than how many columns there are."""

    def fit(self, transformer: Any, given: Input) -> Asking:
        fitted = clone(transformer).fit(given.head)
        return fitted
        yield


class BySample(Kind):
    """Transformers that are fitted with a sample of the rows, which are all of them where they are few."""

    def fit(self, transformer: Any, given: Input) -> Asking:
        rows = yield from given.facts.sampled(given.columns, given.names)
        return clone(transformer).fit(rows)


def check_numeric(summary: Any, given: Input, who: str) -> None:
    """Raise ValueError where numbers are infinite."""
    wrong = ~(np.isfinite(summary.minimum) & np.isfinite(summary.maximum)) & (summary.weight > 0)
    if wrong.any():
        j = int(np.argmax(wrong))
        raise ValueError(
            f"{who}: Input X contains infinity or a value too large for float64 in column {given.label(j)}; "
            "clip it, or leave those rows out"
        )
