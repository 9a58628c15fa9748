"""The text format of LIBSVM and SVMlight, read by scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from daskgd.data.formats.base import (
    Array,
    Block,
    ColumnRoles,
    Format,
    NamedBlocks,
    Progress,
    rows_per_block,
)

PARSED_BYTES = 4 << 20
"""Bytes of text that are parsed at a time: of sparse rows, a block of dense ones may be few."""

MAX_FEATURES = 2**31 - 2
"""Most features that scikit-learn's reader takes."""


def read_libsvm(places: Sequence[Path], roles: ColumnRoles, progress: Progress) -> NamedBlocks:
    """Rows of ``label index:value ...``, a line each; the files are read twice, first to count features."""
    from sklearn.datasets import load_svmlight_file

    for name, value in (
        ("target", roles.target),
        ("weight", roles.weight),
        ("drop", roles.drop or None),
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
    for X, y in pieces(PARSED_BYTES, MAX_FEATURES):
        n_rows += len(y)
        whole = whole and bool((y == np.floor(y)).all())
        if X.nnz:
            low, high = min(low, int(X.indices.min())), max(high, int(X.indices.max()))
    if high < 0:
        raise ValueError(f"{places[0]}: expected rows such as '1 3:0.5', got none with a feature")
    first = 1 if low >= 1 else 0  # indices count from 1, unless there is a 0
    width = high + 1
    row_bytes = (roles.dtype or np.dtype(float)).itemsize * width
    length = max(int(rows_per_block(row_bytes) * sum(size.values()) / max(n_rows, 1)), 1)

    def blocks() -> Iterator[Block]:
        done = 0
        for X, y in pieces(min(length, PARSED_BYTES), width):
            if not len(y):
                continue
            dense = X[:, first:].toarray().astype(roles.dtype or np.dtype(float), copy=False)
            yield dense, y.astype(np.int64) if whole else y
            done += len(y)
            if progress is not None:
                progress(done, n_rows)

    return None, blocks()


LIBSVM = Format("libsvm", (".libsvm", ".svm", ".svmlight"), read_libsvm)
