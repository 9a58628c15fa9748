"""Offsets beside the targets, for sweeps that need both. Knows columns; no estimator."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from numpy.typing import NDArray

from daskgd.data.columns import Column, in_this_process
from daskgd.data.convert import as_column, as_dataset
from daskgd.data.dataset import Dataset

Array = NDArray[Any]


def with_offset(dataset: Dataset, offset: Any, subtract: bool) -> Dataset:
    """Put the offset beside the target, ``(n, 2)``, or `subtract` it, which is the same for losses that are
    shift invariant. A column is of all rows, also those that a split does not select."""
    y, at_hand, n = dataset.columns.y, offset, dataset.layout.n_rows
    extra_sweeps = 0
    if not isinstance(offset, Column):
        try:
            beside = as_dataset(dataset, None, offset)  # it is what weights are: numbers, one a row
        except (TypeError, ValueError) as cause:
            raise type(cause)(str(cause).replace("sample_weight", "offset")) from None
        at_hand, extra_sweeps = beside.columns.sample_weight, beside.extra_sweeps
    assert y is not None
    made: Any
    if in_this_process(y) and in_this_process(at_hand):
        t, o = y.read(0, n).reshape(n).astype(np.float64), at_hand.read(0, n)
        made = t - o if subtract else np.column_stack([t, o])
    else:
        height = (dataset.layout.block_rows,)
        target = y.to_dask((*height, *y.shape[1:]), "y", dataset.fingerprint)
        more = at_hand.to_dask(height, "offset", dataset.fingerprint).astype(np.float64)
        target = (target if target.ndim == 1 else target[:, 0]).astype(np.float64)
        whole = dataset.replace(offset=at_hand).identity()
        token = tokenize(whole["y"], whole["offset"], subtract, dataset.layout)  # the same in any process
        shape = {} if subtract else {"new_axis": 1, "chunks": (target.chunks[0], (2,))}
        made = da.map_blocks(
            np.subtract if subtract else _stack, target, more, name=f"y-{token}", dtype=float, **shape
        )
    return dataset.replace(
        dataset.columns._replace(y=as_column(made)), extra_sweeps=dataset.extra_sweeps + extra_sweeps
    )


def _stack(y: Array, offset: Array) -> Array:
    return np.stack([y, offset], axis=1)
