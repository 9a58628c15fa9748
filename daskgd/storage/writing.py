"""Arrays, frames and streams of blocks become a dataset: checked, cut into whole chunks of rows, written.

Two routes give the same bytes. Dask arrays, and what is read piece by piece like them, are cut into tasks of
whole chunks that write side by side; blocks of rows, be they slices of arrays in memory or what an iterable
yields, are regrouped into whole chunks and written one after another. Sparse rows all go by blocks: where one
of them lies depends on how many entries come before. Knows what may be stored and
how it is cut; of zarr only what `commit` and `opening` offer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
from dask.system import CPU_COUNT
from dask.utils import parse_bytes

from daskgd._compat.dask import is_only_read, meta_of, with_new_keys
from daskgd.rows.dictionaries import Dictionaries
from daskgd.rows.features import Dense, is_sparse_array
from daskgd.rows.sparse import Sparse
from daskgd.storage.blocks import (
    CONVERTERS,
    Block,
    Labels,
    check_blocks,
    check_shapes,
    choose_labels,
    concatenate,
    labels_of,
    regroup,
    without_attributes,
)
from daskgd.storage.categorical_writing import (
    CategoricalWriter,
    Writer,
    codes_dtype,
    other_row_bytes,
    sparse_numbers,
    split_parts,
)
from daskgd.storage.checksums import ZarrArray
from daskgd.storage.codec import choose_codec
from daskgd.storage.commit import commit, create_array
from daskgd.storage.conversion import (
    column_names,
    convert_X,
    distinct_labels,
    encode_labels,
    is_categorical,
    is_labels,
    is_sparse_in_memory,
)
from daskgd.storage.dictionaries import CODES, write_dictionaries
from daskgd.storage.objects import EXACT, convert_numbers, refuse_rounded
from daskgd.storage.opening import CATEGORICAL_FORMAT, FORMAT, NAMES, open_column
from daskgd.storage.replacing import Finish, new_group
from daskgd.storage.sparse_writing import SparseWriter, rows_missing, rows_that_fill

CODECS = ("auto", "lz4", "zstd", "none")
TASK_BYTES = 64_000_000
"""Decoded bytes of X that a task writes, about."""

COMPUTED_BLOCKS = 2 * CPU_COUNT
"""Blocks of a dask array of sparse rows that are computed at a time, and held."""


def write_arrays(
    path: str | os.PathLike[str],
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    offset: Any = None,
    feature_names: Iterable[str] | None = None,
    chunk_bytes: int | float | str = 8_000_000,
    codec: str = "auto",
    shards: int | None = None,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    finish: Callable[[bool], Finish] | None = None,
) -> None:
    """Write arrays, streams of blocks or a dataset: what :func:`daskgd.write_dataset` takes but for frames
    whose columns have types of their own; see there. ``finish(lazy)`` is called once it is written, where
    `lazy` is whether tasks of dask have written it.

    >>> import tempfile
    >>> from daskgd.storage.opening import open_store
    >>> path = tempfile.mkdtemp() + "/data.zarr"
    >>> blocks = ((np.full((3, 2), i), np.full(3, i % 2 == 0)) for i in range(4))
    >>> write_arrays(path, blocks, feature_names=["a", "b"])
    >>> stored = open_store(path)
    >>> stored.X.shape, stored.y.shape, stored.classes.tolist()
    ((12, 2), (12,), [False, True])
    """
    chunking = Chunking.of(chunk_bytes, codec, shards)
    if isinstance(feature_names, str):
        raise TypeError(f"feature_names: expected a sequence of str, got {feature_names!r:.80}")
    labels: Labels = None if feature_names is None else list(feature_names)
    classes: list[Any] | None = None
    schema: Any = None
    if _is_dataset(X):
        if any(v is not None for v in (y, sample_weight, offset)):
            raise ValueError("y, sample_weight, offset: expected None beside a Dataset, which holds its own")
        own = X.dictionaries if X.dictionaries is not None else X.feature_names
        labels = choose_labels(labels, list(own) if isinstance(own, tuple) else own)
        classes = None if X.classes is None else X.classes.tolist()
        schema = X.stored_schema if feature_names is None else None
        if (blocks := X.transposed_blocks()) is not None:
            X, y, sample_weight, offset = blocks, None, None, None
        else:
            rows = X.X if X.dictionaries is None else X.feature_blocks
            X, y, sample_weight, offset = rows, X.y, X.sample_weight, X.offset
    elif _is_rows(X):
        X = _stack_rows(X)
    elif is_categorical(X) or is_sparse_in_memory(X):
        labels = choose_labels(labels, labels_of(X))
        X = convert_X(X)
    arguments = dict(zip(NAMES, (X, y, sample_weight, offset), strict=True))
    given = {name: v for name, v in arguments.items() if v is not None}
    if hasattr(X, "shape"):
        labels = column_names(X) if labels is None else labels
        read = {name for name, v in given.items() if not isinstance(v, da.Array) or is_only_read(v)}
        arrays = _to_arrays(given)
        check_shapes(arrays, labels)
        lazy = any(isinstance(array, da.Array) for array in arrays.values())
        tasks = lazy and _is_dense(arrays["X"])
        with new_group(path, overwrite, storage_options, finish and finish(tasks)) as group:
            if tasks:
                found = _write_arrays(group, chunking, arrays, read)
            else:
                blocks = _compute_rows(arrays, chunking) if lazy else _slice_rows(arrays, chunking)
                labels, found = _write_blocks(group, chunking, blocks, labels)
            _commit(group, labels, classes or found, schema)
        return
    if not isinstance(X, Iterable) or isinstance(X, str | bytes | dict):
        raise TypeError(
            f"X: expected a 2-d array, a DataFrame or an iterable of blocks, got {type(X).__name__}"
        )
    if len(given) > 1:
        raise ValueError(
            "X is an iterable of blocks: expected y, sample_weight and offset in its items, got arguments"
        )
    with new_group(path, overwrite, storage_options, finish and finish(False)) as group:
        labels, found = _write_blocks(group, chunking, X, labels)
        _commit(group, labels, classes or found, schema)


def _commit(group: Any, labels: Labels, classes: list[Any] | None, schema: Any) -> None:
    if isinstance(labels, Dictionaries):
        commit(group, list(labels.numeric) if labels.named else None, classes, CATEGORICAL_FORMAT, schema)
    else:
        commit(group, labels, classes, FORMAT, schema)


def _is_dataset(X: Any) -> bool:
    """Whether X is a Dataset, told without importing that room, which is above this one."""
    return not hasattr(X, "shape") and all(hasattr(type(X), name) for name in (*NAMES, "transposed_blocks"))


def _is_rows(X: Any) -> bool:
    """Whether X is a list of rows, not of blocks."""
    if not isinstance(X, list | tuple):
        return False
    parts = (part for item in X for part in (item if isinstance(item, tuple) else (item,)))
    return not any(len(getattr(part, "shape", ())) for part in parts)


def _stack_rows(rows: Any) -> Any:
    """A list of rows as an array. Raises ValueError for integers that are others among floats."""
    found = np.asarray(rows)
    if found.dtype == np.float64 and (np.abs(found) >= EXACT).any():
        return convert_numbers(np.asarray(rows, object), "X")
    return found


@dataclass(frozen=True, slots=True)
class Chunking:
    """How rows are cut into chunks, and how chunks are stored: with the codec "auto" as suits the first rows
    of each array."""

    chunk_bytes: int
    codec: str
    shards: int | None

    def __post_init__(self) -> None:
        if not 1 <= self.chunk_bytes <= 2**30:  # Blosc cannot compress buffers of 2 GiB
            raise ValueError(f"chunk_bytes: expected 1 to {2**30} bytes, got {self.chunk_bytes}")
        if self.codec not in CODECS:
            raise ValueError(f"codec: expected one of {', '.join(CODECS)}, got {self.codec!r}")
        if self.shards is not None and (type(self.shards) is not int or self.shards < 1):
            raise ValueError(f"shards: expected None or chunks per shard, an int >= 1, got {self.shards!r}")

    @classmethod
    def of(cls, chunk_bytes: int | float | str, codec: str, shards: int | None) -> Chunking:
        """The same of bytes as users say them, perhaps in words. Raises ValueError for what is no size."""
        try:
            size = int(parse_bytes(chunk_bytes))
        except (ValueError, TypeError, AttributeError, OverflowError):
            raise ValueError(
                f"chunk_bytes: expected bytes, or a size such as '8 MB', got {chunk_bytes!r}"
            ) from None
        return cls(size, codec, shards)

    @property
    def known_codec(self) -> str:
        """The codec of arrays of which no rows are at hand to choose it by: lz4 for "auto"."""
        return "lz4" if self.codec == "auto" else self.codec

    def rows(self, X: Any) -> tuple[int, int]:
        """Rows per chunk and per stored object; where X is sparse, whose rows differ, by the first ones."""
        sparse = sparse_numbers(X)
        if sparse is None:
            return self.rows_of(other_row_bytes(X))
        rows = rows_that_fill(self.chunk_bytes, sparse, other_row_bytes(X))
        return rows, rows * (self.shards or 1)

    def rows_of(self, row_bytes: int) -> tuple[int, int]:
        """The same, where every row takes so many bytes."""
        rows = max(1, self.chunk_bytes // row_bytes)
        return rows, rows * (self.shards or 1)

    def create(self, group: Any, name: str, like: Any, rows: int, n: int) -> ZarrArray:
        """Create an array of no rows yet, with the dtype and width of `like`.

        Its chunks (shards) have at most `n` rows, the dataset's number: zarr stores whole chunks. The codec
        "auto" is chosen by the rows of `like`, where these are at hand.
        """
        rows = min(rows, n)
        shards = None if self.shards is None else min(self.shards, -(-n // rows))
        shape, codec = (0, *like.shape[1:]), self.codec
        if codec == "auto":
            codec = choose_codec(like[:rows]) if isinstance(like, np.ndarray) else "lz4"
        return create_array(group, name, shape, like.dtype, chunk_rows=rows, shards=shards, codec=codec)

    def create_writer(self, group: Any, name: str, first: Any, rows: int, whole: bool) -> Writer:
        """Create what rows of the kind of the first are appended to; these are all there are unless they are
        `whole` chunks."""
        if isinstance(first, np.ndarray):
            return self.create(group, name, first, rows, len(first))
        if isinstance(first, Sparse):
            n = None if whole else len(first)
            return SparseWriter.create(
                group,
                name,
                first,
                rows,
                n,
                chunk_bytes=self.chunk_bytes,
                shards=self.shards,
                codec=self.known_codec,
            )
        numbers, categories = split_parts(first)
        before = numbers.values if isinstance(numbers, Dense) else numbers
        writer = None if before is None else self.create_writer(group, name, before, rows, whole)
        like = np.empty((0, categories.indices.shape[1]), codes_dtype(categories))
        codes = self.create(group, CODES, like, rows, len(first))
        return CategoricalWriter(codes, like.dtype, writer)

    def create_values(self, group: Any, name: str, values: np.ndarray) -> ZarrArray:
        """Create an array of one dimension for values that are at hand."""
        most = max(min(self.chunk_bytes // values.dtype.itemsize, len(values)), 1)
        return create_array(
            group, name, values.shape, values.dtype, chunk_rows=most, shards=None, codec=self.known_codec
        )


# -- dask arrays: one graph -----------------------------------------------------------------------


def with_known_chunks(arrays: dict[str, da.Array]) -> dict[str, da.Array]:
    """The arrays with the sizes of their chunks, which are counted for all of them in one read.

    The graphs are not optimised, for that would rename, array by array, what they share. Their keys are new
    ones: optimised and not, dask gives the same key to tasks of other dependencies, and where a cluster holds
    some of these rows already, the scheduler would keep what it then takes for needed by nobody.
    """
    unknown: dict[tuple[str, int], list[Any]] = {}
    for name, array in with_new_keys(arrays).items():
        blocks = array.to_delayed(optimize_graph=False)
        for axis in np.flatnonzero(np.isnan(array.shape)).tolist():
            edge = np.moveaxis(blocks, axis, 0).reshape(blocks.shape[axis], -1)
            unknown[name, axis] = [block.shape[axis] for block in edge[:, 0]]
    (counts,) = dask.compute(unknown)
    chunks = {name: list(array.chunks) for name, array in arrays.items()}
    for (name, axis), sizes in counts.items():
        chunks[name][axis] = tuple(map(int, sizes))
    return {
        name: da.Array(array.dask, array.name, tuple(chunks[name]), meta=meta_of(array))
        for name, array in arrays.items()
    }


def _to_arrays(given: dict[str, Any]) -> dict[str, Any]:
    """Arrays and frames by name as numpy arrays, or dask arrays of known shape."""
    unknown = {n: v for n, v in given.items() if isinstance(v, da.Array) and np.isnan(v.shape).any()}
    given = given | (with_known_chunks(unknown) if unknown else {})
    return {name: _to_array(name, value) for name, value in given.items()}


def _is_dense(X: Any) -> bool:
    """Whether rows, or the chunks of a dask array, are plain arrays."""
    return not (is_categorical(X) or is_sparse_in_memory(meta_of(X)))


def _to_array(name: str, value: Any) -> Any:
    """An array or frame as a numpy array, or a dask array of known shape. Refuses what cannot be stored."""
    value = without_attributes(value, name)
    if dask.is_dask_collection(value):
        if not isinstance(value, da.Array):
            raise TypeError(
                f"{name}: expected a dask array, got a dask {type(value).__name__}; pass "
                f"{name}.to_dask_array(lengths=True)"
            )
    elif hasattr(value, "store_path"):  # zarr
        column = open_column(value)
        unit = column.chunk_rows
        rows = unit * max(1, TASK_BYTES // max(unit * column.nbytes // max(column.shape[0], 1), 1))
        value = column.to_dask((rows, *column.shape[1:]), name)
    elif hasattr(value, "chunks"):  # zarr's like, read piece by piece
        value = da.from_array(value)
    else:
        return CONVERTERS[name](value)
    if name == "X" and is_sparse_array(meta_of(value)):
        return value  # converted as it is computed
    dtype = CONVERTERS[name](np.empty((0, *value.shape[1:]), value.dtype)).dtype
    # Labels of type object may turn out to be str or bool; either becomes codes.
    meta = np.empty((0,) * value.ndim, dtype)
    return value.map_blocks(_convert_chunk, column=name, declared=dtype, dtype=dtype, meta=meta)


def _convert_chunk(chunk: Any, column: str, declared: np.dtype[Any], block_info: Any = None) -> Any:
    """What a chunk of a dask array holds of one of the arrays, to be stored. Raises ValueError where its
    dtype is not the one that the array says, and numbers would become others."""
    first_row = block_info[0]["array-location"][0][0] if block_info else 0
    found = CONVERTERS[column](chunk, column, first_row)
    kept = np.can_cast(found.dtype, declared, "safe") or found.dtype.kind == declared.kind == "f"
    if found.dtype.kind in "iu" and found.dtype.itemsize == 8 and declared == np.float64:
        refuse_rounded(found, column, first_row)
    if not (found.dtype.kind in "bO" if declared.kind == "O" else kept):
        raise ValueError(
            f"{column}: expected chunks of {declared}, as the dask array says, got {found.dtype} from row "
            f"{first_row} on; convert it first, as in {column}.astype({str(found.dtype)!r})"
        )
    return found


def _write_arrays(group: Any, chunking: Chunking, given: dict[str, Any], read: Set[str]) -> list[Any] | None:
    """Write from tasks of whole chunks (shards), all arrays in one graph; return the classes. Arrays of the
    names in `read` are not computed, only read."""
    X = given["X"]
    rows, unit = chunking.rows(X)
    task_rows = unit * max(1, TASK_BYTES // (unit * X.shape[1] * X.dtype.itemsize))
    arrays: dict[str, da.Array] = {}
    targets: dict[str, Any] = {}
    heads: dict[str, da.Array] = {}
    for name, array in given.items():
        lazy = array if isinstance(array, da.Array) else da.from_array(array, chunks=-1, name=False)
        arrays[name] = lazy.rechunk((task_rows, *array.shape[1:]))
        if name in read and chunking.codec == "auto":
            heads[name] = lazy[:rows]
    # Dask's threads go on with their tasks after one has failed, and would write into the directory that is
    # being removed. A pool of our own is waited for; other schedulers do not use it.
    workers = dask.config.get("num_workers", None) or CPU_COUNT
    with ThreadPoolExecutor(workers) as pool, dask.config.set(pool=pool):
        index: dict[Any, int] | None = None
        if "y" in arrays and is_labels(arrays["y"]):
            parts = [dask.delayed(distinct_labels)(part) for part in arrays["y"].to_delayed().ravel()]
            labels = set().union(*dask.compute(*parts))
            index = {label: i for i, label in enumerate(sorted(labels))}
            arrays["y"] = da.map_blocks(encode_labels, arrays["y"], index, dtype="i4", meta=np.empty(0, "i4"))
            heads.pop("y", None)
        first = dict(zip(heads, dask.compute(*heads.values()), strict=True))
        for name, array in arrays.items():
            targets[name] = chunking.create(group, name, first.get(name, array), rows, len(X))
            targets[name].resize(array.shape)
        da.store(list(arrays.values()), list(targets.values()), lock=False)
    return None if index is None else list(index)


# -- streams: block after block -------------------------------------------------------------------


def _write_blocks(
    group: Any, chunking: Chunking, items: Iterable[Any], labels: Labels
) -> tuple[Labels, list[Any] | None]:
    """Write whole chunks (shards) as blocks come; return what features stand for, and the classes."""
    blocks = check_blocks(items)
    first, own = next(blocks, (None, None))
    if first is None:
        raise ValueError("X: expected at least one row, got none")
    labels = choose_labels(labels, own)
    check_shapes(first, labels)
    others = (block for block, _ in blocks)
    head, whole = _take_chunk(first, others, chunking)
    rows, unit = chunking.rows(head["X"])
    arrays: dict[str, Any] = {}
    index: dict[Any, int] = {}
    for part in regroup(chain([head], others), unit):
        if "y" in part and is_labels(part["y"]):
            part["y"] = encode_labels(part["y"], index, grow=True)
        for name, values in part.items():
            if name not in arrays:
                arrays[name] = chunking.create_writer(group, name, values, rows, whole)
            arrays[name].append(values)
    if isinstance(arrays["X"], SparseWriter | CategoricalWriter):
        arrays["X"].finish()
    if isinstance(labels, Dictionaries):
        write_dictionaries(group, labels, first["X"].dtype, chunking.create_values)
    if not index:
        return labels, None
    # Codes were given in order of appearance, as later blocks may bring new labels.
    classes = sorted(index)
    table = np.empty(len(classes), np.int32)
    table[[index[label] for label in classes]] = np.arange(len(classes))
    if classes != list(index):
        y = arrays["y"]
        for start in range(0, y.shape[0], unit):
            y[start : start + unit] = table[np.asarray(y[start : start + unit])]
    return labels, classes


def _take_chunk(first: Block, others: Iterator[Block], chunking: Chunking) -> tuple[Block, bool]:
    """The first block, of sparse rows with as many of the others as tell how many fill a chunk; and whether
    they do, as there may be no more."""
    parts, missing = [first], None
    other_bytes = other_row_bytes(first["X"])
    while sparse_numbers(parts[-1]["X"]) is not None:
        sparse = [rows for part in parts if (rows := sparse_numbers(part["X"])) is not None]
        missing = rows_missing(chunking.chunk_bytes, sparse, other_bytes)
        found = next(others, None) if missing else None
        if found is None:
            break
        parts.append(found)
    return concatenate(parts), not missing


def _slice_rows(arrays: dict[str, Any], chunking: Chunking) -> Iterator[tuple[Any, ...]]:
    """Blocks of whole chunks of arrays in memory, as a caller would stream them."""
    X = arrays["X"]
    rows = chunking.rows(X)[1]
    for start in range(0, len(X), rows):
        stop = start + rows
        others = (arrays[name][start:stop] if name in arrays else None for name in NAMES[1:])
        yield (X[start:stop] if isinstance(X, np.ndarray) else X.slice(start, stop), *others)


def _compute_rows(arrays: dict[str, Any], chunking: Chunking) -> Iterator[tuple[Any, ...]]:
    """Blocks of rows that are not dense of dask arrays, computed a few at a time, by the chunks of X."""
    X = arrays["X"]
    if not isinstance(X, da.Array):
        X = _as_dask(X, chunking.rows(X)[1])
    X = X if X.numblocks[1] == 1 else X.rechunk({1: -1})
    lazy = [X]
    for name in NAMES[1:]:
        if name in arrays:
            array = arrays[name]
            array = array if isinstance(array, da.Array) else da.from_array(array, chunks=-1, name=False)
            lazy.append(array.rechunk({0: X.chunks[0]}))
    at = [i for i, name in enumerate(NAMES) if name in arrays]
    for first in range(0, X.numblocks[0], COMPUTED_BLOCKS):
        numbers = range(first, min(first + COMPUTED_BLOCKS, X.numblocks[0]))
        for parts in dask.compute(*([array.blocks[i] for array in lazy] for i in numbers)):
            block: list[Any] = [None] * len(NAMES)
            for i, part in zip(at, parts, strict=True):
                block[i] = part
            yield tuple(block)


def _as_dask(X: Any, rows: int) -> da.Array:
    """Features in memory as a dask array of so many rows a block."""
    name, starts = f"rows-{uuid4().hex}", range(0, len(X), rows)
    blocks = {(name, i, 0): X.slice(a, a + rows) for i, a in enumerate(starts)}
    lengths = tuple(min(rows, len(X) - a) for a in starts)
    return da.Array(blocks, name, (lengths, X.shape[1:]), meta=X.slice(0, 0).tocsr())
