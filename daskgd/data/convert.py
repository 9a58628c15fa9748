"""What users pass where rows are asked for becomes a :class:`Dataset`: arrays, frames, paths.

Nothing is read but the lengths of chunks that are not known. Knows the kinds of arrays and frames there are;
no solvers, no engines.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from daskgd._compat.dask import meta_of, plain_reads
from daskgd.data.columns import Column, Columns, LazyColumn, MemoryColumn
from daskgd.data.dataset import Dataset, open_dataset
from daskgd.storage.opening import open_column
from daskgd.storage.writing import with_known_chunks

Array = NDArray[Any]


def as_dataset(X: Any, y: Any = None, sample_weight: Any = None) -> Dataset:
    """Make a Dataset of whatever holds rows, without computing more than unknown chunk sizes.

    Parameters
    ----------
    X : Dataset, path, dask array or frame, zarr, numpy or xarray array, or pandas frame; ``(n, p)``
    y : the same kinds, ``(n,)`` or ``(n, k)``, optional
        Beside a Dataset or path, stands in for its own target.
    sample_weight : the same kinds, ``(n,)``, optional

    Returns
    -------
    Dataset
        Its `extra_sweeps` is 1 if chunk sizes were unknown and had to be counted, else 0.

    Examples
    --------
    >>> as_dataset([[1.0, 2.0], [3.0, 4.0]], [0, 1])
    <Dataset: 2 rows x 2 features of float64, 48 B in 1 block, y int64>
    """
    if isinstance(X, str | os.PathLike):
        X = open_dataset(X)
    if isinstance(X, Dataset):
        return _replace_columns(X, y, sample_weight)
    if X is None:
        raise ValueError("X: expected rows, got None; see daskgd.as_dataset for what may hold them")
    names = _feature_names(X)
    given = {"X": X, "y": y, "sample_weight": sample_weight}
    arrays = {name: _to_array(value, name) for name, value in given.items()}
    extra = _count_rows(arrays)
    columns = {name: as_column(array) for name, array in arrays.items() if array is not None}
    return Dataset(*Columns(**columns), feature_names=names, extra_sweeps=extra)


def _replace_columns(dataset: Dataset, y: Any, sample_weight: Any) -> Dataset:
    """The dataset with the target and the weights that are given, if any. Raises ValueError for a split."""
    if y is None and sample_weight is None:
        return dataset
    if dataset.selections:
        raise ValueError(
            "y, sample_weight: expected None beside a split of a dataset, whose rows are chosen by number; "
            "store them with the dataset before splitting it"
        )
    new = as_dataset(dataset.X, y, sample_weight)
    columns = {**dataset.columns.present, **new.columns.present, "X": dataset.columns.X}
    return dataset.replace(
        Columns(**columns),
        classes=dataset.classes if y is None else None,
        extra_sweeps=new.extra_sweeps,
    )


def _to_array(value: Any, name: str) -> Any:
    """A dask, zarr or numpy array of whatever was given."""
    if value is None:
        return None
    if is_sparse(value):
        raise TypeError(
            f"{name}: expected a dense array, got scipy.sparse; sparse data is not supported yet: pass "
            f"{name}.toarray() if it fits in memory, or fewer (hashed) columns"
        )
    check_plain(value, name)
    if isinstance(value, da.Array):
        return value
    if hasattr(value, "to_dask_array"):  # dask frames and series; lengths are counted with the others
        if name != "y":  # whose nullable numbers may be labels
            value = in_floats(value)
        with warnings.catch_warnings():  # strings arrive as objects, which is what labels may be
            warnings.filterwarnings("ignore", "Dask currently has limited support", UserWarning)
            return value.to_dask_array()
    if is_zarr(value):
        return value
    if hasattr(value, "dims") and hasattr(value, "data"):  # xarray
        return _to_array(value.data, name) if isinstance(value.data, da.Array) else np.asarray(value.data)
    if name == "y":
        check_one_kind(value)
    array = np.asarray(value)
    if array.dtype == object:
        array = _convert_objects(array, name)
    return array


def in_floats(value: Any) -> Any:
    """A dask frame or series as float64, where numpy would make objects of its numbers: of nullable columns,
    or of bool beside other numbers. NA becomes NaN, which the first sweep finds. Others as they are."""
    meta: Any = getattr(value, "_meta", None)
    if not hasattr(meta, "dtypes"):
        return value
    dtypes = list(meta.dtypes) if hasattr(meta, "columns") else [meta.dtypes]
    kinds = {getattr(dtype, "kind", "O") for dtype in dtypes}
    numbers = bool(kinds) and kinds <= set("fiub")
    plain = all(isinstance(dtype, np.dtype) for dtype in dtypes) and ("b" not in kinds or len(kinds) == 1)
    if plain or not numbers:
        return value
    return value.map_partitions(_floats, meta=_floats(meta))


def _floats(part: Any) -> Any:
    """A pandas frame or series as float64, NA as NaN."""
    values = part.to_numpy(dtype=np.float64, na_value=np.nan)
    around = {"columns": part.columns} if hasattr(part, "columns") else {"name": part.name}
    return type(part)(values, index=part.index, **around)


def check_one_kind(y: Any) -> None:
    """Raise ValueError, with the row, for text among which something else stands: numpy would make text of
    it, "nan" of what is missing."""
    flat = y if isinstance(y, list | tuple) else np.asarray(y).ravel() if _holds_objects(y) else ()
    if not any(isinstance(v, str) for v in flat):
        return
    row = next((i for i, v in enumerate(flat) if not isinstance(v, str)), None)
    if row is not None and not isinstance(flat[row], list | tuple | np.ndarray):
        raise ValueError(
            f"y: expected labels of one type, got text, and in row {row} {flat[row]!r}; drop rows without a "
            "label, and convert others, as in y.astype(str)"
        )


def _holds_objects(y: Any) -> bool:
    """Whether y is at hand, as objects."""
    dtype = getattr(y, "dtype", None)
    return is_in_memory(y) and not (isinstance(dtype, np.dtype) and dtype.kind != "O")


def _convert_objects(array: Array, name: str) -> Array:
    """Objects as float64 where they are numbers, as text where they are labels; an error names others."""
    if name == "y" and all(isinstance(v, str) for v in array.flat):
        return array.astype(str)
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as cause:
        what = (
            f"{name}: expected numbers{' or labels of one type' if name == 'y' else ''}, got objects: {cause}"
        )
        raise type(cause)(f"{what}{_locate_object(array)}") from None


def _locate_object(array: Array) -> str:
    """Words on where the first entry stands that is no number; "" if there is none."""
    for at, value in np.ndenumerate(array):
        try:
            float(value)
        except (TypeError, ValueError):
            return f" (row {at[0]}{f', column {at[1]}' if len(at) > 1 else ''})"
    return ""


def check_plain(value: Any, name: str) -> None:
    """Raise TypeError for masked arrays, whose masks would be ignored, and ValueError for columns at hand
    that are neither numbers nor objects that might be."""
    if isinstance(meta_of(value), np.ma.MaskedArray):
        raise TypeError(
            f"{name}: expected a plain array, got a masked one, whose masked entries have no value here; "
            "fill them, as in numpy.ma.filled(array, 0), or drop their rows"
        )
    if name != "X" or not is_in_memory(value):
        return
    dtypes: Any = getattr(value, "dtypes", None)  # of the columns of a frame
    each = dtypes.items() if hasattr(dtypes, "items") else [(None, getattr(value, "dtype", None))]
    for label, dtype in each:
        kind = getattr(dtype, "kind", "O")
        if kind not in "fiubO":
            what = f"dtype {dtype}" + ("" if label is None else f" in column {label!r}")
            note = ". Complex data not supported" if kind == "c" else ""
            raise ValueError(
                f"X: expected real numbers or bool, got {what}; convert or encode it first{note}"
            )


def is_sparse(value: Any) -> bool:
    """Whether a value, or the chunks of a dask array, are of scipy.sparse."""
    return any(type(v).__module__.startswith("scipy.sparse") for v in (value, meta_of(value)))


def _feature_names(X: Any) -> list[str] | None:
    """The names of the columns of a frame, if all are strings."""
    columns = getattr(X, "columns", None)
    if columns is None:
        return None
    names = list(columns)
    return names if names and all(isinstance(name, str) for name in names) else None


def _count_rows(arrays: dict[str, Any]) -> int:
    """Count rows where chunk sizes are unknown, all in one read; 1 if there were any, else 0."""
    unknown = {
        name: a for name, a in arrays.items() if isinstance(a, da.Array) and any(np.isnan(n) for n in a.shape)
    }
    if not unknown:
        return 0
    arrays |= with_known_chunks(unknown)
    return 1


def as_column(array: Any) -> Column:
    """The column of a numpy, dask or zarr array, or of what a dask array plainly reads from zarr."""
    if isinstance(array, np.ndarray):
        return MemoryColumn(array)
    if isinstance(array, da.Array):
        behind = zarr_behind(array)
        if behind is None:
            return LazyColumn(array)
        array = behind
    return array if isinstance(array, Column) else open_column(array)


def zarr_behind(x: da.Array) -> Any:
    """The zarr array or column that `x` reads whole and unchanged, whatever its dask chunks; else None.

    True of `dask.array.from_zarr(...)`, `dask.array.from_array(zarr_array)` and `Dataset.X` as they come, and
    of nothing computed from them: those can be read past dask, chunk by chunk.

    >>> import zarr
    >>> z = zarr.array(np.arange(6.0).reshape(3, 2))
    >>> zarr_behind(da.from_zarr(z)) is z, zarr_behind(da.from_zarr(z)[:2])
    (True, None)
    """
    source: Any = None
    for held, part, place in plain_reads(x) or ():
        if part != place or (source is not None and held is not source):
            return None
        source = held
    readable = isinstance(source, Column) or is_zarr(source)
    same = readable and (source.shape, source.dtype) == (x.shape, x.dtype)
    return source if same else None


def is_zarr(value: Any) -> bool:
    """Whether a value is a zarr array, told without importing zarr."""
    return type(value).__module__.partition(".")[0] == "zarr"


def is_in_memory(X: Any) -> bool:
    """Whether X holds its rows in this process: numpy, lists, pandas, numpy-backed xarray, scipy.sparse."""
    if isinstance(X, np.ndarray):
        return True
    if isinstance(X, Dataset | str | os.PathLike | da.Array) or hasattr(X, "to_dask_array"):
        return False
    return not isinstance(getattr(X, "data", None), da.Array) and not is_zarr(X)


def numeric(X: Array) -> Array:
    """Numbers of a type that kernels know; objects and the like as float64."""
    if X.dtype.kind in "fiub":
        return X
    if X.dtype != object:
        raise ValueError(f"X: expected real numbers or bool, got dtype {X.dtype}; convert or encode it first")
    return _convert_objects(X, "X")


def lazy(X: Any) -> tuple[da.Array, Sequence[str] | None]:
    """A dask array of rows, and the names of its features if it has any; nothing is read."""
    if isinstance(X, da.Array):
        return X, None
    if hasattr(X, "to_dask_array"):
        return X.to_dask_array(), [str(name) for name in X.columns] if hasattr(X, "columns") else None
    inner = getattr(X, "data", None)  # xarray
    if isinstance(inner, da.Array):
        return inner, None
    dataset = as_dataset(X)
    return dataset.X, dataset.feature_names
