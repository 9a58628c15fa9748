"""The rows of a dataset as a dask frame: numbers, dates and categories with their own types."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import dask
import numpy as np

from daskgd.data.schema import ColumnSchema, Schema
from daskgd.rows.categorical import Categorical
from daskgd.rows.features import Dense
from daskgd.rows.stacked import Stacked


def to_frame(dataset: Any) -> Any:
    """The dask frame of :attr:`daskgd.Dataset.frame`, a partition for each block."""
    try:
        import dask.dataframe as dd
        import pandas  # noqa: F401
    except ImportError as cause:
        raise ImportError(
            "frame: expected pandas and dask's frames; pip install 'dask[dataframe]'"
        ) from cause
    schema, others = dataset.schema, _others(dataset)
    taken = [name for name in others if name in schema]
    if taken:
        raise ValueError(
            f"frame: expected other names of features than {taken[0]!r}, which is that of a target"
        )
    make: Callable[..., Any] = partial(_frame, schema, tuple(others), dataset.classes)
    parts = [dataset.feature_blocks.to_delayed().ravel(), *(a.to_delayed().ravel() for a in others.values())]
    lengths = dataset.feature_blocks.chunks[0]
    bounds = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    made = [
        dask.delayed(make, pure=True)(start, X, *rest)
        for start, X, *rest in zip(bounds[:-1], *parts, strict=True)
    ]
    empty = [np.empty((0, *a.shape[1:]), a.dtype) for a in others.values()]
    meta = make(0, dataset.columns.X.read(0, 0), *empty)
    return dd.from_delayed(
        made, meta=meta, divisions=(*bounds[:-1], max(bounds[-1] - 1, 0)), verify_meta=False
    )


def to_objects(dataset: Any, name: str) -> Any:
    """A column of :attr:`daskgd.Dataset.frame` as a dask array of objects ``(n,)``, None where a value is
    missing."""
    import dask.array as da

    blocks, lengths = dataset.feature_blocks.to_delayed().ravel(), dataset.feature_blocks.chunks[0]
    make = dask.delayed(partial(_objects, dataset.schema, name), pure=True)
    parts = [da.from_delayed(make(X), (n,), object) for X, n in zip(blocks, lengths, strict=True)]
    return da.concatenate(parts)


def _objects(schema: Schema, name: str, X: Any) -> np.ndarray:
    values = _frame(schema, (), None, 0, X)[name]
    found: np.ndarray = values.astype(object).where(values.notna(), None).to_numpy()
    return found


def _others(dataset: Any) -> dict[str, Any]:
    """Targets, weights and offset by the names that they have in a frame."""
    schema, found = dataset.schema, {}
    if dataset.y is not None:
        found[schema.target or "y"] = dataset.y
    if dataset.sample_weight is not None:
        found[schema.weight or "sample_weight"] = dataset.sample_weight
    if dataset.offset is not None:
        found["offset"] = dataset.offset
    return found


def _frame(schema: Schema, others: tuple[str, ...], classes: Any, start: int, X: Any, *rest: Any) -> Any:
    """A frame of the rows of a block, which are counted from `start`."""
    import pandas as pd

    parts = X.parts if isinstance(X, Stacked) else (X,)
    codes: Any = next((part.codes for part in parts if isinstance(part, Categorical)), None)
    numbers: Any = next((part for part in parts if not isinstance(part, Categorical)), None)
    if isinstance(numbers, Dense):
        numbers = numbers.values
    is_sparse = hasattr(numbers, "tocsr")
    if is_sparse:
        sparse_frames: Any = pd.DataFrame.sparse
        numbers = sparse_frames.from_spmatrix(numbers.tocsr())
    columns: dict[str, Any] = {}
    for j, column in enumerate(schema.numbers):
        columns[column.name] = numbers[j] if is_sparse else plain_values(column, numbers[:, j])
    for j, column in enumerate(schema.categorical):
        columns[column.name] = _categories(column, codes[:, j])
    columns = {name: columns[name] for name in schema}
    for name, values in zip(others, rest, strict=True):
        values = np.asarray(values)
        if classes is not None and name == others[0]:
            values = pd.Categorical.from_codes(values, classes)
        if values.ndim == 1:
            columns[name] = values
        else:
            columns |= {f"{name}_{j}": values[:, j] for j in range(values.shape[1])}
    return pd.DataFrame(columns, index=pd.RangeIndex(start, start + X.shape[0]))


def _categories(column: ColumnSchema, codes: np.ndarray) -> Any:
    import pandas as pd

    known: Any = column.categories
    if isinstance(known, int):
        known = range(known)
    return pd.Categorical.from_codes(codes.astype(np.int64), known)


def plain_values(column: ColumnSchema, stored: np.ndarray) -> Any:
    """Numbers as they are stored, as a column of a frame: an array, of pandas where there is a time zone."""
    import pandas as pd

    values = column.values(stored)
    if column.timezone is None:
        return values
    return pd.Series(values).dt.tz_localize("UTC").dt.tz_convert(column.timezone).array
