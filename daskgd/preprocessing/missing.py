"""What is missing in rows in memory: NaN, as encoders that were fitted to a table know it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import frozen

from daskgd.storage.objects import is_missing

Array = NDArray[Any]


def with_nan(X: Any) -> Any:
    """Rows in memory with NaN in the place of whatever else says that text is missing: None, NA and NaT among
    objects, NA of pandas' text, nulls of other frames. Others as they are.

    >>> with_nan([["a", 1.0], [None, 2.0]]).tolist()
    [['a', 1.0], [nan, 2.0]]
    """
    if hasattr(X, "iloc"):
        return _of_pandas(X) if X.ndim == 2 else X
    if hasattr(X, "__arrow_c_stream__"):
        return _of_arrow(X)
    if isinstance(X, list | tuple):
        return _of_lists(X)
    is_table = isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 2
    return _of_objects(X) if is_table else X


def _of_pandas(X: Any) -> Any:
    columns = {j: X.iloc[:, j] for j in range(X.shape[1])}
    others = {j: _in_objects(column) for j, column in columns.items() if _has_other_gaps(column)}
    return type(X)(columns | others, index=X.index).set_axis(X.columns, axis=1) if others else X


def _has_other_gaps(column: Any) -> bool:
    """Whether a column of objects or text says with something else than NaN that a value is missing."""
    if column.dtype.kind not in "OU" or column.dtype.name == "category":
        return False
    return any(not isinstance(value, float) for value in column[column.isna()].tolist())


def _in_objects(column: Any) -> Any:
    values = np.array(column, dtype=object)
    values[column.isna().to_numpy(dtype=bool)] = np.nan
    return type(column)(values, index=column.index, dtype=object)


def _of_arrow(X: Any) -> Any:
    """A frame of another library, as one of pandas where text is missing in it; tables of pyarrow always, as
    scikit-learn takes none."""
    try:
        pa: Any = import_module("pyarrow")
    except ImportError:
        return X
    table, types = pa.table(X), pa.types
    kinds = (types.is_string, types.is_large_string, types.is_string_view, types.is_dictionary)
    gaps = (c.null_count and any(is_kind(c.type) for is_kind in kinds) for c in table.columns)
    return _of_pandas(table.to_pandas()) if isinstance(X, pa.Table) or any(gaps) else X


def _of_lists(X: Sequence[Any]) -> Any:
    rows = [row for row in X if isinstance(row, list | tuple)]
    if len(rows) < len(X) or len(set(map(len, rows))) != 1:
        return X
    objects = np.empty((len(rows), len(rows[0])), dtype=object)
    objects[:] = rows
    found = _of_objects(objects)
    return X if found is objects else found


def _of_objects(X: Array) -> Array:
    gaps = np.frompyfunc(is_missing, 1, 1)(X).astype(bool)
    return np.where(gaps, np.nan, X) if gaps.any() else X


def knows_none(step: Any) -> bool:
    """Whether an encoder, or one in a container, has None itself for what is missing: as a category, or as
    what to fill."""
    if any(map(knows_none, _parts(step))) or getattr(step, "missing_values", np.nan) is None:
        return True
    known = getattr(step, "categories_", getattr(step, "categories", None))
    each = known if isinstance(known, list | tuple) else ()
    return any(value is None for values in each for value in np.asarray(values, dtype=object).ravel())


def _parts(step: Any) -> list[Any]:
    """What is in a container, as far as it goes fitted."""
    for name in ("steps", "transformer_list", "transformers_"):
        if hasattr(step, name):
            return [part[1] for part in getattr(step, name)]
    if hasattr(step, "transformers"):
        return [*(part[1] for part in step.transformers), step.remainder]
    return [step.estimator] if isinstance(step, frozen.FrozenEstimator) else []
