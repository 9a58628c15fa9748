"""Arrays, frames and streams of blocks become a dataset: checked, cut into whole chunks of rows, written.

Two routes give the same bytes. Dask arrays, and what is read piece by piece like them, are cut into tasks of
whole chunks that write side by side; blocks of rows, be they slices of arrays in memory or what an iterable
yields, are regrouped into whole chunks and written one after another. Knows what may be stored and
how it is cut; of zarr only what `commit` and `opening` offer.
"""

from __future__ import annotations

import errno
import glob
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.system import CPU_COUNT
from dask.utils import parse_bytes

from daskgd._compat.dask import meta_of
from daskgd.storage.checksums import ZarrArray
from daskgd.storage.commit import abandon, commit, create_array, create_group, holds_group
from daskgd.storage.conversion import (
    column_names,
    convert_sample_weight,
    convert_X,
    convert_y,
    distinct_labels,
    encode_labels,
    is_labels,
)
from daskgd.storage.opening import KEY, NAMES, locate
from daskgd.storage.redaction import redacted

CODECS = ("lz4", "zstd", "none")
TASK_BYTES = 64_000_000
"""Decoded bytes of X that a task writes, about."""

Block = dict[str, np.ndarray]
"""Rows of each array by its name."""

logger = logging.getLogger(KEY)


def write_dataset(
    path: str | os.PathLike[str],
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    feature_names: Iterable[str] | None = None,
    chunk_bytes: int | float | str = 8_000_000,
    codec: str = "lz4",
    shards: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write a dataset as one zarr v3 group; it becomes valid last.

    Parameters
    ----------
    path : local path, or a URL that zarr understands. A local dataset is written beside `path`, in a hidden
        directory ``.NAME.*.partial``, and renamed at the end, so that a failure, be it a full disk, leaves
        nothing behind and what was at `path` whole. A process that is killed leaves that directory; as
        another may be writing there, later writes do not remove it, but log a warning. At a URL a failure
        leaves what `open_store` refuses.
    X : (n, p) numpy, dask or zarr array, pandas DataFrame or list of rows; or an iterable of blocks of rows,
        each of them `X_block`, `(X_block, y_block)` or `(X_block, y_block, weight_block)`, which is streamed:
        memory stays a few chunks. A list or tuple holds blocks if its items are arrays or tuples of them.
        Real numbers of at most 64 bits, stored in their dtype; bool is stored as uint8. Unknown chunk sizes
        of dask arrays are computed first, which reads them all once more. Or a :class:`daskgd.Dataset`, or a
        split of one, by itself: its rows, weights, feature names and classes, streamed.
    y : (n,) or (n, k). Numbers are stored as they are; bool and str, (n,), as int32 codes of sorted classes.
    sample_weight : (n,), finite, >= 0.
    feature_names : p strings; by default the columns of a DataFrame, if they are strings.
    chunk_bytes : bytes, or a size like "8 MB", per chunk of X before compression; sets the rows per chunk of
        all arrays.
    codec : "lz4" or "zstd" (Blosc with bitshuffle), or "none". Each chunk ends with a crc32c in any case.
    shards : chunks per stored object, None for one.
    overwrite : replace an existing zarr group, once the new one is complete (at a URL: at once).

    Raises
    ------
    FileExistsError : `path` exists and `overwrite` is false, or it holds something that is no zarr group.
    TypeError, ValueError : a dtype, shape or value that cannot be stored; names the argument and the block.

    >>> import tempfile
    >>> from daskgd.storage.opening import open_store
    >>> path = tempfile.mkdtemp() + "/data.zarr"
    >>> blocks = ((np.full((3, 2), i), np.full(3, i % 2 == 0)) for i in range(4))
    >>> write_dataset(path, blocks, feature_names=["a", "b"])
    >>> stored = open_store(path)
    >>> stored.X.shape, stored.y.shape, stored.classes.tolist()
    ((12, 2), (12,), [False, True])
    """
    chunking = _Chunking(int(parse_bytes(chunk_bytes)), codec, shards)
    if isinstance(feature_names, str):
        raise TypeError(f"feature_names: expected a sequence of str, got {feature_names!r:.80}")
    names = None if feature_names is None else list(feature_names)
    classes: list[Any] | None = None
    if _is_dataset(X):
        if y is not None or sample_weight is not None:
            raise ValueError("y, sample_weight: expected None beside a Dataset, which holds its own")
        names = list(X.feature_names) if names is None and X.feature_names is not None else names
        classes = None if X.classes is None else X.classes.tolist()
        X, y, sample_weight = X.X, X.y, X.sample_weight
    elif _is_rows(X):
        X = np.asarray(X)
    given = {name: v for name, v in zip(NAMES, (X, y, sample_weight), strict=True) if v is not None}
    if hasattr(X, "shape"):
        names = column_names(X) if names is None else names
        arrays = _to_arrays(given)
        _check_shapes(arrays, names)
        with _new_group(path, overwrite) as group:
            if any(isinstance(array, da.Array) for array in arrays.values()):
                found = _write_arrays(group, chunking, arrays)
            else:
                found = _write_blocks(
                    group, chunking, _slice_rows(arrays, chunking.rows(arrays["X"])[1]), names
                )[1]
            commit(group, names, classes or found)
        return
    if not isinstance(X, Iterable) or isinstance(X, str | bytes | dict):
        raise TypeError(
            f"X: expected a 2-d array, a DataFrame or an iterable of blocks, got {type(X).__name__}"
        )
    if len(given) > 1:
        raise ValueError(
            "X is an iterable of blocks: expected y and sample_weight in its items, got arguments"
        )
    with _new_group(path, overwrite) as group:
        names, classes = _write_blocks(group, chunking, X, names)
        commit(group, names, classes)


def _is_dataset(X: Any) -> bool:
    """Whether X is a Dataset, told without importing that room, which is above this one."""
    return not hasattr(X, "shape") and all(hasattr(X, name) for name in (*NAMES, "feature_names", "classes"))


def _is_rows(X: Any) -> bool:
    """Whether X is a list of rows, not of blocks."""
    if not isinstance(X, list | tuple):
        return False
    parts = (part for item in X for part in (item if isinstance(item, tuple) else (item,)))
    return not any(getattr(part, "ndim", 0) for part in parts)


@dataclass(frozen=True, slots=True)
class _Chunking:
    """How rows are cut into chunks, and how chunks are stored."""

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

    def rows(self, X: Any) -> tuple[int, int]:
        """Rows per chunk and per stored object."""
        rows = max(1, self.chunk_bytes // (X.shape[1] * X.dtype.itemsize))
        return rows, rows * (self.shards or 1)

    def create(self, group: Any, name: str, like: Any, rows: int, n: int) -> ZarrArray:
        """Create an array of no rows yet, with the dtype and width of `like`.

        Its chunks (shards) have at most `n` rows, the dataset's number: zarr stores whole chunks.
        """
        rows = min(rows, n)
        shards = None if self.shards is None else min(self.shards, -(-n // rows))
        shape = (0, *like.shape[1:])
        return create_array(group, name, shape, like.dtype, chunk_rows=rows, shards=shards, codec=self.codec)


# -- where it goes --------------------------------------------------------------------------------


@contextmanager
def _new_group(path: str | os.PathLike[str], overwrite: bool) -> Iterator[Any]:
    """A new group, which is renamed to `path` only if the body succeeds; at a URL it is there at once."""
    location = locate(path)
    remote = "://" in location
    target = location if remote else os.path.realpath(location)
    if holds_group(target) and not overwrite:
        raise FileExistsError(
            f"{redacted(location)} exists; pass overwrite=True to replace it, or choose another path"
        )
    if remote:
        yield create_group(target)
        return
    parent, name = os.path.split(target)
    made = _make_folders(parent)
    left = glob.glob(f".{glob.escape(name)}.*.partial*", root_dir=parent, include_hidden=True)
    if left:
        logger.warning(
            f"{target}: beside it lies what earlier writes left as they were killed, or what others are "
            f"writing now: {', '.join(sorted(left)[:5])}; remove it if nobody is"
        )
    partial = os.path.join(parent, f".{name}.{uuid.uuid4().hex}.partial")
    group = None
    try:
        group = create_group(partial)
        yield group
        _rename_into_place(partial, target)
    except BaseException as error:
        if group is not None:
            abandon(group)
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            error.add_note(f"{location}: no room to write the dataset; what was written is removed")
        with suppress(OSError):  # not empty: another has put something there
            for folder in made:
                os.rmdir(folder)
        raise


def _make_folders(folder: str) -> list[str]:
    """Make a folder and those above it, and return the new ones, the deepest first."""
    made, above = [], folder
    while not os.path.exists(above):
        made.append(above)
        above = os.path.dirname(above)
    os.makedirs(folder, exist_ok=True)
    return made


def _rename_into_place(partial: str, target: str) -> None:
    """Rename `partial` to `target`; what was there before is there again if that fails."""
    old = f"{partial}.old"
    try:
        if os.path.lexists(target):
            os.rename(target, old)
        os.rename(partial, target)
    finally:
        if os.path.lexists(target):
            shutil.rmtree(old, ignore_errors=True)
        elif os.path.lexists(old):
            os.rename(old, target)


# -- dask arrays: one graph -----------------------------------------------------------------------


def with_known_chunks(arrays: dict[str, da.Array]) -> dict[str, da.Array]:
    """The arrays with the sizes of their chunks, which are counted for all of them in one read.

    The graphs are not optimised, for that would rename, array by array, what they share.
    """
    unknown: dict[tuple[str, int], list[Any]] = {}
    for name, array in arrays.items():
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


def _to_array(name: str, value: Any) -> np.ndarray | da.Array:
    """An array or frame as a numpy array, or a dask array of known shape. Refuses what cannot be stored."""
    if dask.is_dask_collection(value):
        if not isinstance(value, da.Array):
            raise TypeError(
                f"{name}: expected a dask array, got a dask {type(value).__name__}; pass "
                f"{name}.to_dask_array(lengths=True)"
            )
    elif hasattr(value, "chunks"):  # zarr and its like, read piece by piece
        value = da.from_array(value)
    else:
        return _CONVERTERS[name](value)
    dtype = _CONVERTERS[name](np.empty((0, *value.shape[1:]), value.dtype)).dtype
    # Labels of type object may turn out to be str or bool; either becomes codes.
    return value.map_blocks(_CONVERTERS[name], dtype=dtype, meta=np.empty((0,) * value.ndim, dtype))


def _check_shapes(arrays: dict[str, Any], names: list[str] | None, where: str = "") -> None:
    n, p = arrays["X"].shape
    for name, array in arrays.items():
        if len(array) != n:
            raise ValueError(f"{name} has {len(array)} rows, X has {n}{where}; they must be equal")
    if n == 0 or p == 0:
        raise ValueError(f"X: expected at least one row and at least one column, got shape {(n, p)}")
    if names is not None and not all(isinstance(name, str) for name in names):
        raise TypeError(f"feature_names: expected a sequence of str, got {names!s:.80}")
    if names is not None and len(names) != p:
        raise ValueError(f"feature_names: expected {p} names, one per column, got {len(names)}")


def _write_arrays(group: Any, chunking: _Chunking, given: dict[str, Any]) -> list[Any] | None:
    """Write from tasks of whole chunks (shards), all arrays in one graph; return the classes."""
    X = given["X"]
    rows, unit = chunking.rows(X)
    task_rows = unit * max(1, TASK_BYTES // (unit * X.shape[1] * X.dtype.itemsize))
    arrays: dict[str, da.Array] = {}
    targets: dict[str, Any] = {}
    for name, array in given.items():
        lazy = array if isinstance(array, da.Array) else da.from_array(array, chunks=-1, name=False)
        arrays[name] = lazy.rechunk((task_rows, *array.shape[1:]))
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
        for name, array in arrays.items():
            targets[name] = chunking.create(group, name, array, rows, len(X))
            targets[name].resize(array.shape)
        da.store(list(arrays.values()), list(targets.values()), lock=False)
    return None if index is None else list(index)


# -- streams: block after block -------------------------------------------------------------------


def _write_blocks(
    group: Any, chunking: _Chunking, items: Iterable[Any], names: list[str] | None
) -> tuple[list[str] | None, list[Any] | None]:
    """Write whole chunks (shards) as blocks come; return the feature names and the classes."""
    blocks = _check_blocks(items)
    first, own = next(blocks, (None, None))
    if first is None:
        raise ValueError("X: expected at least one row, got none")
    names = own if names is None else names
    _check_shapes(first, names)
    rows, unit = chunking.rows(first["X"])
    arrays: dict[str, ZarrArray] = {}
    index: dict[Any, int] = {}
    for part in _regroup(chain([first], (block for block, _ in blocks)), unit):
        if "y" in part and is_labels(part["y"]):
            part["y"] = encode_labels(part["y"], index, grow=True)
        for name, values in part.items():
            if name not in arrays:
                arrays[name] = chunking.create(group, name, values, rows, len(values))
            arrays[name].append(values)
    if not index:
        return names, None
    # Codes were given in order of appearance, as later blocks may bring new labels.
    classes = sorted(index)
    table = np.empty(len(classes), np.int32)
    table[[index[label] for label in classes]] = np.arange(len(classes))
    if classes != list(index):
        y = arrays["y"]
        for start in range(0, y.shape[0], unit):
            y[start : start + unit] = table[np.asarray(y[start : start + unit])]
    return names, classes


def _slice_rows(arrays: dict[str, Any], rows: int) -> Iterator[tuple[Any, ...]]:
    """Blocks of `rows` rows of arrays in memory, as a caller would stream them."""
    for start in range(0, len(arrays["X"]), rows):
        yield tuple(arrays[name][start : start + rows] if name in arrays else None for name in NAMES)


def _check_blocks(items: Iterable[Any]) -> Iterator[tuple[Block, list[str] | None]]:
    """Blocks that have rows, with the names of their columns: checked to have the same arrays and dtypes."""
    first: Block = {}
    for number, item in enumerate(items):
        parts = item if isinstance(item, tuple) else (item,)
        if not 1 <= len(parts) <= 3 or parts[0] is None:
            got = "no X" if len(parts) <= 3 else f"{len(parts)} parts"
            raise ValueError(f"block {number}: expected X, (X, y) or (X, y, sample_weight), got {got}")
        block = {
            name: _CONVERTERS[name](part, f"block {number} of {name}")
            for name, part in zip(NAMES, parts, strict=False)
            if part is not None
        }
        if not any(map(len, block.values())):
            continue
        _check_shapes(block, None, f" in block {number}")
        first = first or {name: np.empty((0, *a.shape[1:]), a.dtype) for name, a in block.items()}
        if set(block) != set(first):
            raise ValueError(
                f"block {number}: expected {', '.join(first)}, as in block 0, got {', '.join(block)}"
            )
        for name, array in block.items():
            if (array.shape[1:], array.dtype) != (first[name].shape[1:], first[name].dtype):
                raise ValueError(
                    f"block {number} of {name}: expected rows of shape {first[name].shape[1:]} and dtype "
                    f"{first[name].dtype}, as in block 0, got {array.shape[1:]} and {array.dtype}; make all "
                    "blocks alike"
                )
        yield block, column_names(parts[0])


def _regroup(blocks: Iterable[Block], unit: int) -> Iterator[Block]:
    """The same rows in blocks of a multiple of `unit` rows; the last block may have any number."""
    pending: list[Block] = []
    for block in blocks:
        pending.append(block)
        waiting = sum(len(part["X"]) for part in pending)
        if waiting >= unit:
            whole, stop = _concatenate(pending), waiting - waiting % unit
            yield {name: array[:stop] for name, array in whole.items()}
            # a copy, so that a remainder does not keep its whole block alive
            pending = [{name: array[stop:].copy() for name, array in whole.items()}] if waiting > stop else []
    if pending:
        yield _concatenate(pending)


def _concatenate(parts: list[Block]) -> Block:
    """One block of the rows of all, in order."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


_CONVERTERS: dict[str, Callable[..., np.ndarray]] = {
    "X": convert_X,
    "y": convert_y,
    "sample_weight": convert_sample_weight,
}
