"""The text format of LIBSVM and SVMlight, by scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from daskgd.data.formats.base import Array, Block, Columns, Progress, Read, rows_per_block

PIECE_BYTES = 4 << 20
"""Of text, that is parsed at a time."""

MOST_FEATURES = 2**31 - 2
"""That scikit-learn's reader takes."""


def libsvm(places: Sequence[Path], columns: Columns, progress: Progress) -> Read:
    """``label index:value ...``, a row a line; two reads, the first to know how many features there are."""
    from sklearn.datasets import load_svmlight_file

    for name, value in (
        ("target", columns.target),
        ("weight", columns.weight),
        ("drop", columns.drop or None),
    ):
        if value is not None:
            raise ValueError(f"{name}: expected none for libsvm files, which say themselves, got {value!r}")
    size = {place: place.stat().st_size for place in places}

    def pieces(length: int, width: int) -> Iterator[tuple[Any, Array]]:
        for place in places:
            with place.open("rb") as file:
                for offset in range(0, size[place], length):
                    try:
                        yield load_svmlight_file(
                            file, n_features=width, zero_based=True, offset=offset, length=length
                        )
                    except (ValueError, IndexError) as cause:
                        raise ValueError(f"{place}, from byte {offset} on: {cause}") from cause

    n_rows, low, high, whole = 0, 1, -1, True
    for X, y in pieces(PIECE_BYTES, MOST_FEATURES):
        n_rows += len(y)
        whole = whole and bool((y == np.floor(y)).all())
        if X.nnz:
            low, high = min(low, int(X.indices.min())), max(high, int(X.indices.max()))
    if high < 0:
        raise ValueError(f"{places[0]}: expected rows such as '1 3:0.5', got none with a feature")
    first = 1 if low >= 1 else 0  # indices count from 1, unless there is a 0
    width = high + 1
    row_bytes = (columns.dtype or np.dtype(float)).itemsize * width
    length = max(int(rows_per_block(row_bytes) * sum(size.values()) / max(n_rows, 1)), 1)

    def blocks() -> Iterator[Block]:
        done = 0
        for X, y in pieces(min(length, PIECE_BYTES), width):
            if not len(y):
                continue
            dense = X[:, first:].toarray().astype(columns.dtype or np.dtype(float), copy=False)
            yield dense, y.astype(np.int64) if whole else y
            done += len(y)
            if progress is not None:
                progress(done, n_rows)

    return None, blocks()
