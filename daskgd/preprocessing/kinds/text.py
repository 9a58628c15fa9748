"""Text as hashed words: each distinct text of a column is taken apart once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from sklearn.base import clone

from daskgd.preprocessing.columns import Category, Column, Lookup
from daskgd.preprocessing.facts import Asking
from daskgd.preprocessing.kinds.base import Input, Kind

WHO = "HashingVectorizer"


class Hashing(Kind):
    """HashingVectorizer, of one column of text."""

    def fit(self, transformer: Any, given: Input) -> Asking:
        if np.ndim(given.head) != 1:
            raise ValueError(
                f"{WHO}: expected one column of text, got a table; name it alone, as in "
                f"ColumnTransformer([('words', {WHO}(), 'comment')]), not in a list"
            )
        (column,) = given.columns
        if not isinstance(column, Category) or column.is_numeric:
            raise ValueError(f"{WHO}: expected a column of text, got numbers")
        (found,) = yield from given.facts.distinct_values(given.columns)
        values = [] if found.values is None else found.values.tolist()
        if any(v != v and w > 0 for v, w in zip(values, found.weights, strict=True)):
            raise ValueError(
                f"{WHO}: expected text in all rows of column {column.name!r}, got missing values; fill them "
                'first, as with SimpleImputer(strategy="constant", fill_value="")'
            )
        return clone(transformer).fit([])

    def columns(self, fitted: Any, of: Sequence[Column], names: Any) -> list[Column] | None:
        (column,) = of
        if not isinstance(column, Category) or column.is_numeric:
            return None
        texts = [value for value in column.values.tolist() if value == value]
        whole = len(texts) == len(column.values)  # what stands for a missing one was filled
        made = fitted.transform(texts if whole else column.values[:-1].tolist())
        return [Lookup(column, csr_array(made))]
