"""What is given as X, y and sample_weight, as arrays that can be stored: checked, and labels as codes.

Each is an array, a frame or a block of rows in memory; errors name the argument or the block. Knows no zarr.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def _to_plain(value: Any, name: str) -> np.ndarray:
    """A numpy array in the byte order of this machine. Raises TypeError for sparse and masked arrays."""
    for kind in ("scipy.sparse", "numpy.ma"):
        if type(value).__module__.startswith(kind):
            raise TypeError(f"{name}: {kind} is not supported; pass blocks of rows as plain arrays")
    array = np.asarray(value)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _check_numbers(array: np.ndarray, name: str, kinds: str) -> np.ndarray:
    """Return the array. Raises TypeError unless it is of one of the `kinds` of dtypes, in at most 64 bits."""
    if array.dtype.kind not in kinds or array.dtype.itemsize > 8:
        raise TypeError(f"{name}: expected real numbers of at most 64 bits or bool, got dtype {array.dtype}")
    return array


def convert_X(value: Any, name: str = "X") -> np.ndarray:
    """A block of features as an array ``(n, p)`` of numbers, bool as uint8."""
    if hasattr(value, "iloc") and value.ndim == 2:
        bad = [str(c) for c, t in value.dtypes.items() if getattr(t, "kind", "O") not in "iufb"]
        if bad:
            raise TypeError(
                f"{name}: expected numeric columns, got others: {', '.join(bad[:5])}; encode or drop them"
            )
        # pandas makes objects of mixed numbers and bool unless told the dtype that holds them all
        value = value.to_numpy(np.result_type("?", *(getattr(t, "numpy_dtype", t) for t in value.dtypes)))
    array = _to_plain(value, name)
    if array.ndim != 2:
        raise ValueError(
            f"{name}: expected 2 dimensions (rows, features), got {array.ndim}, shape {array.shape}"
        )
    array = _check_numbers(array, name, "iufb")
    return array.astype(np.uint8) if array.dtype.kind == "b" else array


def convert_y(value: Any, name: str = "y") -> np.ndarray:
    """A block of targets ``(n,)`` or ``(n, k)``: numbers as they are, bool as bool, str as objects."""
    array = _to_plain(value, name)
    if array.ndim not in (1, 2):
        raise ValueError(f"{name}: expected 1 or 2 dimensions, got {array.ndim}, shape {array.shape}")
    if array.dtype.kind not in "bOUT":
        return _check_numbers(array, name, "iuf")
    if array.ndim == 2:
        raise TypeError(
            f"{name}: expected labels of shape (n,), or numbers, got shape {array.shape}, dtype {array.dtype}"
        )
    if array.dtype.kind == "b":
        return array
    types = set(map(type, array.tolist()))
    if types - {str} and types - {bool}:
        raise TypeError(
            f"{name}: expected labels that are all numbers, all bool or all str, got "
            f"{', '.join(sorted(t.__name__ for t in types))} in dtype {array.dtype}; fill or drop missing "
            "labels, convert numbers to a number dtype"
        )
    return array.astype(bool if types == {bool} else object)


def convert_sample_weight(value: Any, name: str = "sample_weight") -> np.ndarray:
    """A block of weights ``(n,)`` as floats, finite and at least 0."""
    array = _to_plain(value, name)
    if array.ndim != 1:
        raise ValueError(f"{name}: expected 1 dimension, got {array.ndim}, shape {array.shape}")
    array = _check_numbers(array, name, "iufb")
    array = array if array.dtype.kind == "f" else array.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
    if bad.size:
        raise ValueError(f"{name}: expected finite weights >= 0, got {array[bad[0]]} at row {bad[0]}")
    return array


def column_names(X: Any) -> list[str] | None:
    """The names of the columns of a frame, if they are strings."""
    names = list(getattr(X, "columns", []))
    return names if names and all(isinstance(name, str) for name in names) else None


def is_labels(array: Any) -> bool:
    """Whether a target is stored as codes of classes: bool, and text as objects."""
    return array.dtype.kind in "bO"


def distinct_labels(labels: np.ndarray) -> set[Any]:
    """The labels that occur."""
    return set(np.unique(labels).tolist())


def encode_labels(labels: np.ndarray, index: dict[Any, int], grow: bool = False) -> np.ndarray:
    """Codes (int32) of labels by `index`; with `grow`, labels that are not in it are added."""
    values, inverse = np.unique(labels, return_inverse=True)
    if grow:
        for value in values.tolist():
            index.setdefault(value, len(index))
    return np.array([index[value] for value in values.tolist()], np.int32)[inverse]
