"""The text format of LIBSVM and SVMlight, read by scikit-learn, some lines at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from daskgd.data.formats.base import (
    COMPRESSED,
    Array,
    Block,
    ColumnRoles,
    Format,
    NamedBlocks,
    Progress,
    import_library,
)
from daskgd.data.formats.casts import cast_refusal, changed_by_cast

PARSED_BYTES = 4 << 20
"""Bytes of text that are parsed at a time, to the end of a line."""

MAX_FEATURES = 2**31 - 2
"""Most features that scikit-learn's reader takes."""


def read_libsvm(places: Sequence[Path], roles: ColumnRoles, progress: Progress) -> NamedBlocks:
    """Sparse rows of ``label index:value ...``, a line each; the files are read twice, first to count
    features."""
    for name, value in (
        ("target", roles.target),
        ("weight", roles.weight),
        ("drop", roles.drop or None),
    ):
        if value is not None:
            raise ValueError(f"{name}: expected none for libsvm files, which say themselves, got {value!r}")
    n_rows, low, high, whole = 0, 1, -1, True
    for place, first_row, X, y in _parse(places):
        if roles.dtype is not None:
            _check_cast(X, roles.dtype, place, first_row)
        n_rows += len(y)
        whole = whole and changed_by_cast(y, np.dtype(np.int64)) is None
        if X.nnz:
            low, high = min(low, int(X.indices.min())), max(high, int(X.indices.max()))
    first = _first_index(places[0], roles.zero_based, low)
    width = high + 1 - first
    if roles.n_features is not None:
        if width > roles.n_features:
            raise ValueError(
                f"n_features: expected at least {width}, got {roles.n_features}: there is a feature {high}, "
                f"counted from {first}"
            )
        width = roles.n_features
    if width < 1:
        raise ValueError(
            f"{places[0]}: expected rows such as '1 3:0.5', got none with a feature; say n_features if there "
            "are none"
        )

    def blocks() -> Iterator[Block]:
        from scipy.sparse import csr_array

        done = 0
        for _, _, X, y in _parse(places):
            values = X.data.astype(roles.dtype or np.dtype(float), copy=False)
            rows: Any = csr_array((values, X.indices - first, X.indptr), shape=(len(y), width))
            yield rows, y.astype(np.int64) if whole else y
            done += len(y)
            if progress is not None:
                progress(done, n_rows)

    return None, blocks()


def _first_index(place: Path, zero_based: bool | None, low: int) -> int:
    """The index of the first feature: by default 1, unless there is a 0."""
    if zero_based is None:
        return 1 if low >= 1 else 0
    if not zero_based and low < 1:
        raise ValueError(
            f"zero_based: expected True or None, got False: {place} or a file after it has a feature 0"
        )
    return 0 if zero_based else 1


def _check_cast(X: Any, dtype: np.dtype[Any], place: Path, first_row: int) -> None:
    """Raise ValueError for an entry that would be another number in a dtype, by its row and feature."""
    changed = changed_by_cast(X.data, dtype)
    if changed is not None:
        at = int(np.argmax(changed))
        row = first_row + int(np.searchsorted(X.indptr, at, side="right")) - 1
        raise cast_refusal(place, row, int(X.indices[at]), X.data[at], dtype)


def _parse(places: Sequence[Path]) -> Iterator[tuple[Path, int, Any, Array]]:
    """Rows and labels of some lines at a time, with their file and the number of the first row there;
    features are numbered as they are in the text."""
    from sklearn.datasets import load_svmlight_file

    for place in places:
        with _open(place) as file:
            offset, n_rows, text = 0, 0, b""
            while True:
                more = file.read(PARSED_BYTES)
                text += more
                stop = text.rfind(b"\n") + 1 if more else len(text)
                if stop:
                    lines, text = text[:stop], text[stop:]
                    where = f"{place}, from byte {offset} on"
                    try:
                        X, y, groups = load_svmlight_file(
                            BytesIO(lines), n_features=MAX_FEATURES, zero_based=True, query_id=True
                        )
                    except (ValueError, IndexError) as cause:
                        raise ValueError(f"{where}: {cause}") from cause
                    if len(groups):
                        raise ValueError(
                            f"{where}: expected no qid, got rows with one: query groups are for ranking, for "
                            "which daskgd has no loss; remove them, as with sed 's/ qid:[0-9]*//'"
                        )
                    offset += stop
                    if len(y):
                        yield place, n_rows, X, y
                        n_rows += len(y)
                if not more:
                    break


def _open(place: Path) -> Any:
    """A file of bytes, decompressed as its ending says."""
    library = COMPRESSED.get(place.suffix)
    if library is None:
        return place.open("rb")
    if library == "zstd":
        raise ValueError(f"{place}: expected text, or .gz, .bz2 or .xz, got .zst; decompress it first")
    return import_library({"xz": "lzma"}.get(library, library), place.suffix).open(place, "rb")


LIBSVM = Format("libsvm", (".libsvm", ".svm", ".svmlight"), read_libsvm, compressed=True, numbered=True)
