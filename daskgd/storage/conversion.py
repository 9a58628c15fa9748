"""What is given as X, y, weights and offsets, as arrays that can be stored: checked, and labels as codes.

Each is an array, a frame or a block of rows in memory; errors name the argument or the block. Knows no zarr.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from daskgd.rows.categorical import Categorical
from daskgd.rows.dictionaries import Dictionaries
from daskgd.rows.features import is_sparse_array
from daskgd.rows.sparse import Sparse
from daskgd.rows.stacked import Stacked
from daskgd.storage.categorical_writing import split_parts
from daskgd.storage.objects import (
    EXACT,
    convert_numbers,
    convert_objects,
    holds_numbers,
    objects_of,
    refuse_rounded,
)


def _to_plain(value: Any, name: str, first_row: int = 0) -> np.ndarray:
    """A numpy array in the byte order of this machine. Raises TypeError for sparse and masked arrays,
    ValueError for integers of a frame that floats round."""
    if is_sparse_array(value):
        raise TypeError(f"{name}: expected a dense array, got {type(value).__name__}; pass {name}.toarray()")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: numpy.ma is not supported; pass blocks of rows as plain arrays")
    array = np.asarray(value)
    _refuse_rounded_columns(value, array, name, first_row)
    if array.dtype.kind == "T":  # text of any length, which has no byte order
        return array.astype(object)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _check_numbers(array: Any, name: str, kinds: str) -> Any:
    """Return the array. Raises TypeError unless it is of one of the `kinds` of dtypes, in at most 64 bits."""
    if array.dtype.kind not in kinds or array.dtype.itemsize > 8:
        raise TypeError(f"{name}: expected real numbers of at most 64 bits or bool, got dtype {array.dtype}")
    return array


def is_sparse_in_memory(value: Any) -> bool:
    """Whether a value holds sparse rows in this process: a matrix or an array of scipy.sparse or of pydata's
    sparse, or a pandas frame all of whose columns are sparse."""
    return isinstance(value, Sparse) or is_sparse_array(value) or is_sparse_frame(value)


def is_sparse_frame(value: Any) -> bool:
    dtypes: Any = getattr(value, "dtypes", None)
    if not hasattr(value, "sparse") or not hasattr(dtypes, "items") or hasattr(value, "to_dask_array"):
        return False
    return len(dtypes) > 0 and all(type(dtype).__name__ == "SparseDtype" for dtype in dtypes)


def as_sparse(value: Any, name: str = "X") -> Sparse:
    """Sparse features of whatever :func:`is_sparse_in_memory`; ValueError for numbers that are none."""
    if isinstance(value, Sparse):
        return value
    if hasattr(value, "dtypes"):  # pandas
        fills = {dtype.fill_value for dtype in value.dtypes}
        if any(fill != 0 for fill in fills):  # NaN too
            raise ValueError(
                f"{name}: expected sparse columns whose fill value is 0, got {sorted(map(str, fills))}; "
                f"pass {name}.sparse.to_dense() if it fits in memory"
            )
        value = value.sparse.to_coo()
    if value.ndim != 2:
        raise ValueError(f"{name}: expected shape (n, p), got {value.shape}; reshape it to rows")
    if value.dtype.kind not in "fiub":
        note = ". Complex data not supported" if value.dtype.kind == "c" else ""
        raise ValueError(
            f"{name}: expected real numbers or bool, got dtype {value.dtype}; convert or encode it "
            f"first{note}"
        )
    return Sparse.of(value)


def is_categorical(value: Any) -> bool:
    """Whether a value holds categorical rows in this process: :class:`daskgd.OneHot`, told without importing
    that room, which is above this one, or such features."""
    return isinstance(getattr(value, "features", value), Categorical | Stacked)


def dictionaries_of(value: Any) -> Dictionaries:
    """What categorical rows stand for, as far as it is known."""
    found: Any = getattr(value, "dictionaries", None)
    if isinstance(found, Dictionaries):
        return found
    numbers, categories = split_parts(getattr(value, "features", value))
    sizes = np.diff(categories.offsets).tolist()
    return Dictionaries.unnamed(sizes, 0 if numbers is None else numbers.shape[1])


def convert_X(value: Any, name: str = "X", first_row: int = 0) -> np.ndarray | Sparse | Categorical | Stacked:
    """A block of features ``(n, p)``: an array of numbers, sparse, or categorical; bool as uint8, objects as
    float64."""
    rows: Any = None
    if is_categorical(value):
        rows = getattr(value, "features", value)
        split_parts(rows)
    elif is_sparse_in_memory(value):
        rows = as_sparse(value, name)
    if rows is not None:
        kind = _check_numbers(rows, name, "iufb").dtype
        return rows.astype(np.dtype(np.uint8) if kind.kind == "b" else kind.newbyteorder("="))
    if hasattr(value, "iloc") and value.ndim == 2:
        value = _frame_to_numbers(value, name, first_row)
    array = _to_plain(value, name, first_row)
    if array.ndim != 2:
        raise ValueError(
            f"{name}: expected 2 dimensions (rows, features), got {array.ndim}, shape {array.shape}"
        )
    if array.dtype == object:
        array = convert_numbers(array, name, first_row)
    array = _check_numbers(array, name, "iufb")
    return array.astype(np.uint8) if array.dtype.kind == "b" else array


def _frame_to_numbers(frame: Any, name: str, first_row: int) -> np.ndarray:
    """The columns of a frame in the dtype that holds all of them; of objects, decimals say, float64."""
    labels, dtypes, objects = list(map(str, frame.columns)), [], {}
    for at, dtype in enumerate(frame.dtypes):
        plain = getattr(dtype, "numpy_dtype", dtype)
        if getattr(dtype, "kind", "O") not in "iufb":
            values = frame.iloc[:, at].to_numpy(object) if plain == np.dtype(object) else None
            if values is not None and holds_numbers(values):
                objects[at] = convert_numbers(values, f"{name}, column {labels[at]!r}", first_row)
            plain = np.dtype(np.float64) if at in objects else None
        dtypes.append(plain)
    bad = [label for label, dtype in zip(labels, dtypes, strict=True) if dtype is None]
    if bad:
        raise TypeError(
            f"{name}: expected numeric columns, got others: {', '.join(bad[:5])}; encode or drop them"
        )
    # pandas makes objects of mixed numbers and bool unless told the dtype that holds them all
    common = np.result_type("?", *dtypes)
    if objects:
        frame = frame.set_axis(range(len(labels)), axis=1)
        for at, values in objects.items():
            frame[at] = values
    nullable = [at for at, dtype in enumerate(frame.dtypes) if not isinstance(dtype, np.dtype)]
    if common.kind == "f":
        found = frame.to_numpy(common, **({"na_value": np.nan} if nullable else {}))
        _refuse_rounded_columns(frame.set_axis(labels, axis=1), found, name, first_row)
        return found
    for at in nullable:
        missing = frame.iloc[:, at].isna().to_numpy()
        if missing.any():
            raise ValueError(
                f"{name}: expected no missing numbers among integers, got NA in row "
                f"{first_row + int(missing.argmax())} of column {labels[at]!r}; fill them, or take "
                "astype(float), where they are NaN"
            )
    return frame.to_numpy(common)


def _refuse_rounded_columns(frame: Any, found: np.ndarray, name: str, first_row: int) -> None:
    """Raise ValueError for integers of a frame, be it of pandas, polars or pyarrow, that are others in the
    array that was made of it; of what is no frame there are none."""
    if found.dtype != np.float64 or found.ndim != 2 or not (names := frame_names(frame)):
        return
    for at in np.flatnonzero((np.abs(found) >= EXACT).any(axis=0)).tolist():
        column = frame.iloc[:, at] if hasattr(frame, "iloc") else frame[names[at]]
        kind = str(getattr(column, "type", getattr(column, "dtype", ""))).lower()
        if kind.startswith(("int64", "uint64")):
            known = column.fillna(0) if hasattr(frame, "iloc") else column.fill_null(0)
            whole = np.asarray(known).astype(kind.partition("[")[0])
            refuse_rounded(whole, name, first_row, f", column {names[at]!r}")


def convert_y(value: Any, name: str = "y", first_row: int = 0) -> np.ndarray:
    """A block of targets ``(n,)`` or ``(n, k)``: numbers as they are, bool as bool, str as objects; objects
    as what all of them are."""
    objects = objects_of(value)
    array = (
        _to_plain(value, name, first_row) if objects is None else convert_objects(objects, name, first_row)
    )
    if array.ndim not in (1, 2):
        raise ValueError(f"{name}: expected 1 or 2 dimensions, got {array.ndim}, shape {array.shape}")
    if array.dtype.kind not in "bOU":
        return _check_numbers(array, name, "iuf")
    if array.ndim == 2:
        raise TypeError(
            f"{name}: expected labels of shape (n,), or numbers, got shape {array.shape}, dtype {array.dtype}"
        )
    return array if array.dtype.kind == "b" else array.astype(object, copy=False)


def convert_sample_weight(value: Any, name: str = "sample_weight", first_row: int = 0) -> np.ndarray:
    """A block of weights ``(n,)`` as floats, finite and at least 0."""
    return _convert_floats(value, name, first_row, "finite weights >= 0", least=0)


def convert_offset(value: Any, name: str = "offset", first_row: int = 0) -> np.ndarray:
    """A block of offsets ``(n,)`` as finite floats."""
    return _convert_floats(value, name, first_row, "finite numbers")


def _convert_floats(
    value: Any, name: str, first_row: int, expected: str, least: float = -np.inf
) -> np.ndarray:
    """A block of finite floats ``(n,)``, none below `least`."""
    array = _to_plain(value, name, first_row)
    if array.ndim != 1:
        raise ValueError(f"{name}: expected 1 dimension, got {array.ndim}, shape {array.shape}")
    if array.dtype == object:
        array = convert_numbers(array, name, first_row)
    array = _check_numbers(array, name, "iufb")
    array = array if array.dtype.kind == "f" else array.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(array) & (array >= least)))
    if bad.size:
        raise ValueError(f"{name}: expected {expected}, got {array[bad[0]]} at row {first_row + bad[0]}")
    return array


def frame_names(value: Any) -> list[Any]:
    """What the columns of a frame are called, be it of pandas, polars, pyarrow or dask; nothing of what is
    none."""
    columns = getattr(value, "column_names", None)  # pyarrow, whose `columns` are values
    columns = getattr(value, "columns", []) if columns is None else columns
    return [] if callable(columns) or hasattr(value, "dims") else list(columns)


def column_names(X: Any) -> list[str] | None:
    """The names of the columns of a frame, if they are strings."""
    names = frame_names(X)
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
