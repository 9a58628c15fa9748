"""TODO storage.conversion."""

from __future__ import annotations

from typing import Any

import numpy as np


def _plain(value: Any, name: str) -> np.ndarray:
    for kind in ("scipy.sparse", "numpy.ma"):
        if type(value).__module__.startswith(kind):
            raise TypeError(f"{name}: {kind} is not supported; pass blocks of rows as plain arrays")
    array = np.asarray(value)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _numbers(array: np.ndarray, name: str, kinds: str) -> np.ndarray:
    if array.dtype.kind not in kinds or array.dtype.itemsize > 8:
        raise TypeError(f"{name}: expected real numbers of at most 64 bits or bool, got dtype {array.dtype}")
    return array


def _matrix(value: Any, name: str = "X") -> np.ndarray:
    """Any block of X as a 2-d array of numbers."""
    if hasattr(value, "iloc") and value.ndim == 2:
        bad = [str(c) for c, t in value.dtypes.items() if getattr(t, "kind", "O") not in "iufb"]
        if bad:
            raise TypeError(
                f"{name}: expected numeric columns, got others: {', '.join(bad[:5])}; encode or drop them"
            )
        # pandas makes objects of mixed numbers and bool unless told the dtype that holds them all
        value = value.to_numpy(np.result_type("?", *(getattr(t, "numpy_dtype", t) for t in value.dtypes)))
    array = _plain(value, name)
    if array.ndim != 2:
        raise ValueError(
            f"{name}: expected 2 dimensions (rows, features), got {array.ndim}, shape {array.shape}"
        )
    array = _numbers(array, name, "iufb")
    return array.astype(np.uint8) if array.dtype.kind == "b" else array


def _targets(value: Any, name: str = "y") -> np.ndarray:
    """Any block of y: numbers as they are, bool as bool, str as objects."""
    array = _plain(value, name)
    if array.ndim not in (1, 2):
        raise ValueError(f"{name}: expected 1 or 2 dimensions, got {array.ndim}, shape {array.shape}")
    if array.dtype.kind not in "bOUT":
        return _numbers(array, name, "iuf")
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


def _weights(value: Any, name: str = "sample_weight") -> np.ndarray:
    array = _plain(value, name)
    if array.ndim != 1:
        raise ValueError(f"{name}: expected 1 dimension, got {array.ndim}, shape {array.shape}")
    array = _numbers(array, name, "iufb")
    array = array if array.dtype.kind == "f" else array.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
    if bad.size:
        raise ValueError(f"{name}: expected finite weights >= 0, got {array[bad[0]]} at row {bad[0]}")
    return array


def _names(X: Any) -> list[str] | None:
    """Column names of a frame, if they are strings."""
    names = list(getattr(X, "columns", []))
    return names if names and all(isinstance(name, str) for name in names) else None


def _is_labels(array: Any) -> bool:
    return array.dtype.kind in "bO"


def _distinct(labels: np.ndarray) -> set[Any]:
    return set(np.unique(labels).tolist())


def _codes(labels: np.ndarray, index: dict[Any, int], grow: bool = False) -> np.ndarray:
    """Labels as int32 codes; with `grow`, labels not seen before join `index`."""
    values, inverse = np.unique(labels, return_inverse=True)
    if grow:
        for value in values.tolist():
            index.setdefault(value, len(index))
    return np.array([index[value] for value in values.tolist()], np.int32)[inverse]
