"""What users pass where rows are asked for becomes a :class:`Dataset`: arrays, frames, paths.

Nothing is read but the lengths of chunks that are not known. Knows the kinds of arrays and frames there are;
no solvers, no engines.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import dask
import dask.array as da
import numpy as np
from numpy.typing import NDArray

from daskgd._compat.dask import meta_of, plain_reads
from daskgd.data.columns import Column, Columns, FeaturesColumn, LazyColumn, MemoryColumn
from daskgd.data.dataset import Dataset, open_dataset
from daskgd.data.one_hot import OneHot
from daskgd.rows.categorical import Categorical
from daskgd.rows.features import Features, as_features, is_sparse_array
from daskgd.rows.sparse import Sparse
from daskgd.rows.stacked import Stacked
from daskgd.storage import conversion
from daskgd.storage.conversion import as_sparse
from daskgd.storage.objects import convert_objects, objects_of
from daskgd.storage.opening import open_column
from daskgd.storage.packing import check_unpacked
from daskgd.storage.writing import with_known_chunks

Array = NDArray[Any]


def as_dataset(X: Any, y: Any = None, sample_weight: Any = None) -> Dataset:
    """Make a Dataset of whatever holds rows, without computing more than unknown chunk sizes.

    Parameters
    ----------
    X : Dataset, path, dask array or frame, zarr, numpy or xarray array, pandas frame, sparse array or
        :class:`daskgd.OneHot`; ``(n, p)``
    y : the same kinds, but dense, ``(n,)`` or ``(n, k)``, optional
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
    dictionaries = X.dictionaries if isinstance(X, OneHot) else None
    names = None if dictionaries else feature_names(X)
    given = {"X": X, "y": y, "sample_weight": sample_weight}
    columns, extra = _to_columns(given)
    return Dataset(*Columns(**columns), feature_names=names, dictionaries=dictionaries, extra_sweeps=extra)


def _to_columns(given: dict[str, Any]) -> tuple[dict[str, Column], int]:
    """The columns of what was given, by name, and how many reads that took."""
    arrays = {name: _to_array(value, name) for name, value in given.items() if value is not None}
    n_entries, extra = _count(arrays)
    columns = {name: as_column(array) for name, array in arrays.items() if n_entries is None or name != "X"}
    if n_entries is not None:
        columns["X"] = LazyColumn(arrays["X"], sparse_nbytes=sparse_nbytes(arrays["X"], n_entries))
    return columns, extra


def _replace_columns(dataset: Dataset, y: Any, sample_weight: Any) -> Dataset:
    """The dataset with the target and the weights that are given, if any. Raises ValueError for a split."""
    if y is None and sample_weight is None:
        return dataset
    if dataset.selections:
        raise ValueError(
            "y, sample_weight: expected None beside a split of a dataset, whose rows are chosen by number; "
            "store them with the dataset (daskgd.write_dataset) before splitting it"
        )
    new, extra = _to_columns({"y": y, "sample_weight": sample_weight})
    return dataset.replace(
        Columns(**{**dataset.columns.present, **new}),
        classes=dataset.classes if y is None else None,
        extra_sweeps=extra,
    )


def _to_array(value: Any, name: str) -> Any:
    """A dask, zarr or numpy array of whatever was given."""
    if value is None:
        return None
    if name != "X" and (is_sparse(value) or is_sparse_in_memory(value)):
        raise TypeError(
            f"{name}: expected a dense array, got {type(value).__module__}.{type(value).__name__}; pass "
            f"{name}.toarray()"
        )
    if name == "X" and is_sparse_in_memory(value):
        return as_stored(value)
    check_plain(value, name)
    if isinstance(value, da.Array):
        if hasattr(value.dtype, "na_object"):  # text some of which is missing, which numpy cannot sort
            value = value.astype(object)
        behind = zarr_behind(value) if is_sparse(value) else None  # whose entries need not be counted
        return value if behind is None else behind
    if hasattr(value, "to_dask_array"):  # dask frames and series; lengths are counted with the others
        if name == "X" and _is_lazy_sparse_frame(value):
            return _rows_of_sparse_frame(value)
        if name != "y":  # whose nullable numbers may be labels
            value = in_floats(value)
        with warnings.catch_warnings():  # strings arrive as objects, which is what labels may be
            warnings.filterwarnings("ignore", "Dask currently has limited support", UserWarning)
            return value.to_dask_array()
    if is_zarr(value):
        return value
    if hasattr(value, "dims") and hasattr(value, "data"):  # xarray
        return _to_array(value.data, name) if isinstance(value.data, da.Array) else np.asarray(value.data)
    array = np.asarray(target_at_hand(value) if name == "y" else value)
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


def target_at_hand(y: Any) -> Any:
    """A target in memory, of objects as what all of them are. Raises ValueError, with the row, for one that
    is missing, or of another kind: numpy would make text of it, "nan" of what is missing.

    >>> target_at_hand(["a", None])
    Traceback (most recent call last):
        ...
    ValueError: y: expected labels of one type, or numbers, got none (None) in row 1; ...
    """
    objects = objects_of(y)
    if objects is None:
        return y
    found = convert_objects(objects, "y")
    return found.astype(str) if found.dtype == object else found


def _convert_objects(array: Array, name: str) -> Array:
    """Objects as float64; an error names those that are no numbers."""
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as cause:
        error = TypeError if isinstance(cause, TypeError) else ValueError
        raise error(f"{name}: expected numbers, got objects: {cause}{_locate_object(array)}") from None


def _locate_object(array: Array) -> str:
    """Words on where the first entry stands that is no number; "" if there is none."""
    for at, value in np.ndenumerate(array):
        try:
            float(value)
        except (TypeError, ValueError, OverflowError):
            return f" (row {at[0]}{f', column {at[1]}' if len(at) > 1 else ''})"
    return ""


def check_plain(value: Any, name: str) -> None:
    """Raise TypeError for masked arrays, whose masks would be ignored, and ValueError for packed numbers and
    for columns at hand that are neither numbers nor objects that might be."""
    check_unpacked(value, name)
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
    """Whether a value, or the chunks of a dask array, are of scipy.sparse or of pydata's sparse."""
    return any(map(is_sparse_array, (value, meta_of(value))))


NOT_DENSE = (Sparse, Categorical, Stacked)
"""Kinds of features that are not dense."""


def is_sparse_in_memory(value: Any) -> bool:
    """Whether a value holds rows in this process that are not dense: a matrix or an array of scipy.sparse or
    of pydata's sparse, a pandas frame all of whose columns are sparse, :class:`OneHot`, or such features."""
    return isinstance(value, (*NOT_DENSE, OneHot)) or conversion.is_sparse_in_memory(value)


def as_stored(value: Any) -> Features:
    """Features of whatever :func:`is_sparse_in_memory`; ValueError for numbers that are none."""
    if isinstance(value, NOT_DENSE):
        return value
    return value.features if isinstance(value, OneHot) else as_sparse(value)


def _is_lazy_sparse_frame(value: Any) -> bool:
    return hasattr(value, "to_dask_array") and conversion.is_sparse_frame(meta_of(value))


def _rows_of_sparse_frame(frame: Any) -> da.Array:
    """The rows of a dask frame all of whose columns are sparse, as a dask array of scipy.sparse."""
    meta = _matrix(meta_of(frame))
    matrix = dask.delayed(_matrix)
    parts = [
        da.from_delayed(matrix(part), (np.nan, meta.shape[1]), meta=meta)
        for part in frame.to_delayed(optimize_graph=False)
    ]
    return da.concatenate(parts, allow_unknown_chunksizes=True)


def _matrix(part: Any) -> Any:
    """The rows of a pandas frame as a matrix of scipy.sparse."""
    return as_sparse(part).matrix


def feature_names(X: Any) -> list[str] | None:
    """The names of the columns of a frame, if all are strings, or those that :class:`OneHot` has."""
    if isinstance(X, OneHot):
        return X.feature_names
    columns = getattr(X, "columns", None)
    if columns is None or callable(columns):
        return None
    names = list(columns)
    return names if names and all(isinstance(name, str) for name in names) else None


def _count(arrays: dict[str, Any]) -> tuple[int | None, int]:
    """Count rows where chunk sizes are unknown, and the entries of X where its blocks are sparse, all in one
    read: the entries, None where all are stored; and 1 if there was a read, else 0."""
    lazy_arrays = {name: a for name, a in arrays.items() if isinstance(a, da.Array)}
    X = lazy_arrays.get("X")
    if X is not None and is_sparse(X):
        if X.ndim != 2:
            raise ValueError(f"X: expected shape (n, p), got {X.shape}; reshape it to rows")
        arrays["X"] = X = X.rechunk({1: -1}) if X.numblocks[1] > 1 else X
        lengths = (np.nan,) * X.numblocks[0]
        entries = da.map_blocks(_entries, X, chunks=(lengths, (1,)), meta=np.empty((0, 1)))
        lazy_arrays |= {"X": X, "entries": entries}
    unknown = {name: a for name, a in lazy_arrays.items() if np.isnan(a.shape).any()}
    if not unknown:
        return None, 0
    known = with_known_chunks(unknown)
    counted = known.pop("entries", None)
    arrays |= known
    return None if counted is None else len(counted), 1


def _entries(block: Any) -> Array:
    """A number for each entry that is stored, ``(m, 1)``."""
    return as_features(block).values.reshape(-1, 1)  # type: ignore[attr-defined]


def sparse_nbytes(X: Any, n_entries: int) -> int:
    """The bytes of rows of the shape and dtype of X, of which so many entries are stored."""
    place = 4 if max(X.shape[1], n_entries) <= np.iinfo(np.int32).max else 8
    return n_entries * (X.dtype.itemsize + place) + (X.shape[0] + 1) * place


def as_column(array: Any) -> Column:
    """The column of a numpy, dask or zarr array, or of what a dask array plainly reads from zarr."""
    if isinstance(array, np.ndarray):
        return MemoryColumn(array)
    if isinstance(array, NOT_DENSE):
        return FeaturesColumn(array)
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
    if isinstance(X, np.ndarray) or is_sparse_in_memory(X):
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
    check_unpacked(X, "X")
    if isinstance(X, da.Array):
        return X, None
    if hasattr(X, "to_dask_array"):
        array = _rows_of_sparse_frame(X) if _is_lazy_sparse_frame(X) else X.to_dask_array()
        return array, [str(name) for name in X.columns] if hasattr(X, "columns") else None
    inner = getattr(X, "data", None)  # xarray
    if isinstance(inner, da.Array):
        return inner, None
    dataset = as_dataset(X)
    return dataset.feature_blocks, dataset.feature_names
