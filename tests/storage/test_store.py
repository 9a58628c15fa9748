"""Round trips for every input, every refusal, every way to lose or alter a chunk."""

from __future__ import annotations

import asyncio
import errno
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs.numcodecs import Delta
from zarr.core import codec_pipeline
from zarr.storage import LocalStore

from daskgd import write_dataset
from daskgd.data.convert import as_dataset, zarr_behind
from daskgd.storage import writing
from daskgd.storage.checksums import StoreError
from daskgd.storage.commit import verify_store
from daskgd.storage.opening import NAMES, open_column, open_store
from daskgd.storage.reading import ChunkError, StoredColumn
from tests.tiers import slow_but_every

N, P = 103, 5
ROWS = 10  # rows per chunk of float32 in most tests below
BYTES = ROWS * P * 4
PIPELINES = ["zarr.core.codec_pipeline.BatchedCodecPipeline"]
PIPELINES += [f"zarr.core.codec_pipeline.{n}" for n in ("FusedCodecPipeline",) if hasattr(codec_pipeline, n)]
PIPELINES += ["zarrs.ZarrsCodecPipeline"] if find_spec("zarrs") else []


def data(dtype: str = "f4", n: int = N) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((n, P)) * 10).astype(dtype)
    return X, rng.integers(0, 3, n).astype("i4"), rng.random(n)


def everything(column: StoredColumn | None) -> np.ndarray:
    assert column is not None
    return column.read(0, column.shape[0])


def chunk(path: Path, array: str, i: int) -> Path:
    return path / array / "c" / str(i) / ("0" if array == "X" else "")


def blocks(sizes: list[int], *columns: np.ndarray) -> Iterator[Any]:
    start = 0
    for size in sizes:
        parts = tuple(column[start : start + size] for column in columns)
        start += size
        yield parts if len(parts) > 1 else parts[0]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "d", *data(), chunk_bytes=BYTES, codec="lz4")
    return tmp_path / "d"


# -- round trips ----------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["lz4", "zstd", "none"])
@pytest.mark.parametrize("dtype", ["f2", "f8", "i1", "u8", "?", ">f4"])
def test_every_dtype_and_codec(tmp_path: Path, dtype: str, codec: str) -> None:
    X, y, w = data()
    X = np.abs(X).astype(dtype)
    write_dataset(tmp_path / "d", X, y, w, chunk_bytes=300, codec=codec)
    stored = open_store(tmp_path / "d")
    expected = X.astype("u1") if dtype == "?" else X
    np.testing.assert_array_equal(everything(stored.X), expected)
    assert stored.X.dtype == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(everything(stored.y), y)
    np.testing.assert_array_equal(everything(stored.sample_weight), w)
    assert stored.codec == ("crc32c" if codec == "none" else f"blosc {codec} bitshuffle, crc32c")
    verify_store(tmp_path / "d")


def test_layout_is_plain_zarr(written: Path) -> None:
    X, y, w = data()
    group = zarr.open_group(written, mode="r")
    assert group.metadata.zarr_format == 3
    chunks = {name: array.chunks for name, array in group.arrays()}
    assert chunks == {"X": (ROWS, P), "y": (ROWS,), "sample_weight": (ROWS,)}
    np.testing.assert_array_equal(da.from_zarr(str(written), component="y").compute(), y)
    with xr.open_zarr(written, consolidated=False) as ds:
        np.testing.assert_array_equal(ds["X"].values, X)
        np.testing.assert_array_equal(ds["sample_weight"].values, w)
        assert (ds["X"].dims, ds["y"].dims) == (("row", "feature"), ("row",))


def test_what_open_says(written: Path) -> None:
    stored = open_store(written)
    assert stored.path == str(written)
    assert (stored.feature_names, stored.classes, stored.shuffled) == (None, None, False)
    assert stored.fingerprint is not None
    assert len(stored.fingerprint) == 32
    X = stored.X
    assert (X.shape, X.ndim, X.chunk_rows, X.nbytes) == ((N, P), 2, ROWS, N * P * 4)
    assert X.path == str(written / "X")


@pytest.mark.parametrize("shards", [None, 4])
def test_all_writers_agree(tmp_path: Path, shards: int | None) -> None:
    X, y, w = data()
    k = np.array(["b", "c", "a"], dtype=object)[y]
    names = list("pqrst")
    frame = pd.DataFrame(X, columns=names)
    inputs: dict[str, tuple[Any, ...]] = {
        "numpy": (X, k, w),
        "fortran": (np.asfortranarray(X), list(k), w),
        "dask": tuple(da.from_array(a, chunks=17) for a in (X, k, w)),
        "dask and numpy": (da.from_array(X, chunks=(40, 2)), k, w),
        "iterator": (blocks([1, 37, 0, 2, 60, 3], X, k, w),),
        "list": (list(blocks([1, 37, 0, 2, 60, 3], X, k, w)),),
        "frame": (frame, pd.Series(k), pd.Series(w)),
        "frames": (((frame[a : a + 20], k[a : a + 20], w[a : a + 20]) for a in range(0, N, 20)),),
        "zarr": (zarr.array(X, chunks=(33, 3)), k, w),
    }
    fingerprints = {}
    for name, args in inputs.items():
        write_dataset(tmp_path / name, *args, feature_names=names, chunk_bytes=BYTES, shards=shards)
        stored = open_store(tmp_path / name)
        np.testing.assert_array_equal(everything(stored.X), X)
        assert stored.classes is not None
        np.testing.assert_array_equal(stored.classes[everything(stored.y)], k)
        assert (stored.classes.tolist(), stored.feature_names) == (["a", "b", "c"], tuple(names))
        verify_store(tmp_path / name)
        fingerprints[name] = stored.fingerprint
    assert len(set(fingerprints.values())) == 1, fingerprints


@settings(max_examples=10, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) > 0),
    rows=st.integers(1, 40),
    shards=st.sampled_from([None, 1, 3]),
)
def test_any_blocks_are_the_same_dataset(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], rows: int, shards: int | None
) -> None:
    folder = tmp_path_factory.mktemp("law")
    X, y, w = data(n=sum(sizes))
    for name, args in (("a", (X, y, w)), ("b", (blocks(sizes, X, y, w),))):
        write_dataset(folder / name, *args, chunk_bytes=rows * P * 4, shards=shards)
    a, b = open_store(folder / "a"), open_store(folder / "b")
    np.testing.assert_array_equal(everything(b.X), X)
    assert a.fingerprint == b.fingerprint
    shutil.rmtree(folder)


def test_fingerprint_sees_the_data(tmp_path: Path) -> None:
    # With codec "none" all shards have equal sizes, so equal indices: their checksums are not enough.
    X, y, _ = data()
    Z = X.copy()
    Z[50, 2] += 1
    seen = set()
    for i, (values, names) in enumerate([(X, None), (Z, None), (X, list("abcde"))]):
        for shards in (None, 4):
            path = tmp_path / f"{i}{shards}"
            write_dataset(
                path, values, y, codec="none", chunk_bytes=BYTES, shards=shards, feature_names=names
            )
            seen.add(open_store(path).fingerprint)
    assert len(seen) == 6


@pytest.mark.parametrize("how", ["memory", "dask", "stream"])
@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (np.array([True, False] * 6), [False, True]),
        (np.array(["z", "é", "a"] * 4), ["a", "z", "é"]),
        (np.array(["z", "é", "a"] * 4, dtype=object), ["a", "z", "é"]),
        (np.array([True, False] * 6, dtype=object), [False, True]),
        (pd.Series(["x", "y"] * 6, dtype="category"), ["x", "y"]),
    ],
)
def test_labels(tmp_path: Path, y: Any, classes: list[Any], how: str) -> None:
    X = np.arange(24.0).reshape(12, 2)
    values = np.asarray(y)
    args: dict[str, tuple[Any, ...]] = {
        "memory": (X, y),
        "dask": (X, da.from_array(values, chunks=5)),
        "stream": (blocks([5, 5, 2], X, values),),
    }
    write_dataset(tmp_path / "d", *args[how], chunk_bytes=64)
    stored = open_store(tmp_path / "d")
    assert stored.classes is not None
    assert stored.classes.tolist() == classes
    assert stored.classes.dtype.kind == ("b" if isinstance(classes[0], bool) else "U")
    assert stored.y is not None
    assert stored.y.dtype == np.int32
    np.testing.assert_array_equal(stored.classes[everything(stored.y)], values)


@pytest.mark.parametrize("shape", [(12,), (12, 1), (12, 3)])
def test_numeric_targets_keep_shape_and_dtype(tmp_path: Path, shape: tuple[int, ...]) -> None:
    y = np.arange(np.prod(shape)).reshape(shape).astype("i8")
    write_dataset(tmp_path / "d", np.ones((12, 2)), y, chunk_bytes=64)
    stored = open_store(tmp_path / "d")
    assert stored.y is not None
    assert (stored.y.dtype, stored.y.chunk_rows) == (y.dtype, 4)
    np.testing.assert_array_equal(everything(stored.y), y)


def test_frames(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2, 3], "b": [True, False, True], "c": [0.5, 1.5, 2.5]})
    frame["d"] = pd.array([1, 2, 3], dtype="Float64")
    write_dataset(tmp_path / "d", frame)
    stored = open_store(tmp_path / "d")
    assert stored.feature_names == ("a", "b", "c", "d")
    np.testing.assert_array_equal(everything(stored.X), [[1, 1, 0.5, 1], [2, 0, 1.5, 2], [3, 1, 2.5, 3]])
    write_dataset(tmp_path / "n", frame, feature_names=np.array(list("wxyz")))
    assert open_store(tmp_path / "n").feature_names == ("w", "x", "y", "z")
    write_dataset(tmp_path / "e", [frame.rename(columns={"a": 0})])
    assert open_store(tmp_path / "e").feature_names is None


def test_lists_are_rows(tmp_path: Path) -> None:
    X, y, w = data("f8")
    write_dataset(tmp_path / "a", X, y.astype(int), w)
    for i, lists in enumerate([X.tolist(), tuple(map(tuple, X.tolist())), list(map(tuple, X))]):
        write_dataset(tmp_path / str(i), lists, y.tolist(), w.tolist())
        assert open_store(tmp_path / str(i)).fingerprint == open_store(tmp_path / "a").fingerprint


@pytest.mark.parametrize("size", [float(BYTES), f"{BYTES} B", f"{BYTES / 1000} kB"])
def test_sizes_in_words(tmp_path: Path, size: Any) -> None:
    write_dataset(tmp_path / "d", data()[0], chunk_bytes=size)
    assert open_store(tmp_path / "d").X.chunk_rows == ROWS


def test_dask_of_unknown_chunks(tmp_path: Path) -> None:
    X, y, w = data()
    reads = []

    def load(block: np.ndarray) -> np.ndarray:
        reads.append(len(block))
        return block

    full = da.from_array(np.column_stack([X, y, w]), chunks=(17, -1))
    full = full.map_blocks(load, meta=np.empty((0, 0)))
    kept = full[full[:, 0] > 0]
    write_dataset(tmp_path / "d", kept[:, :P], kept[:, P].astype("i4"), kept[:, P + 1], chunk_bytes=BYTES)
    stored = open_store(tmp_path / "d")
    np.testing.assert_array_equal(everything(stored.X), X[X[:, 0] > 0])
    np.testing.assert_array_equal(everything(stored.y), y[X[:, 0] > 0])
    assert np.isnan(kept.shape[0])  # the user's array is left as it was
    assert sorted(reads) == [1] + [17] * 12  # to count, and to write: the last row is not kept
    columns = full[:, full[0] != np.inf]
    write_dataset(tmp_path / "c", columns)
    np.testing.assert_array_equal(everything(open_store(tmp_path / "c").X), np.column_stack([X, y, w]))


def test_dask_graph_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def load(block: np.ndarray) -> np.ndarray:
        calls.append(len(block))
        return block

    monkeypatch.setattr(writing, "TASK_BYTES", 3 * BYTES)  # so that tasks hold several chunks, not all
    values = np.column_stack(data()[:2])
    both = da.from_array(values, chunks=(25, -1)).map_blocks(load, meta=np.empty((0, 0)))
    with dask.config.set(scheduler="synchronous"):
        write_dataset(tmp_path / "d", both[:, :P], both[:, P], chunk_bytes=BYTES)
    assert sorted(calls) == [3, 25, 25, 25, 25]
    np.testing.assert_array_equal(everything(open_store(tmp_path / "d").X), data()[0])


@pytest.mark.usefixtures("client")
def test_on_a_cluster(tmp_path: Path) -> None:
    X, y, w = data()
    write_dataset(tmp_path / "lazy", da.from_array(X, chunks=20), y, w, chunk_bytes=BYTES)
    write_dataset(tmp_path / "memory", X, y, w, chunk_bytes=BYTES)
    a, b = open_store(tmp_path / "lazy"), open_store(tmp_path / "memory")
    np.testing.assert_array_equal(everything(a.X), X)
    assert a.fingerprint == b.fingerprint


@pytest.mark.parametrize("shards", [None, 3])
def test_url(shards: int | None) -> None:
    url = f"memory://daskgd-{shards}/data"
    X, y, w = data("i4")
    write_dataset(url, X, y, w, chunk_bytes=BYTES, shards=shards)
    np.testing.assert_array_equal(everything(open_store(url).X), X)
    verify_store(url)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_dataset(url, X, y, w)
    write_dataset(url, X + 1, y, w, chunk_bytes=BYTES, shards=shards, overwrite=True)
    stored = open_store(url)
    np.testing.assert_array_equal(everything(stored.X), X + 1)

    fs = fsspec.filesystem("memory")
    fs.rm(f"/daskgd-{shards}/data/X/c/1/0")
    with pytest.raises(ChunkError, match="missing"):
        stored.X.read(stored.X.chunk_rows, stored.X.chunk_rows + 1)
    with pytest.raises(StoreError, match="X: 1 chunks are missing, the first is c/1/0"):
        open_store(url)
    fs.pipe("/daskgd-other/file", b"mine")
    with pytest.raises(FileExistsError, match="no zarr group"):
        write_dataset("memory://daskgd-other", X, overwrite=True)

    def dies() -> Iterator[np.ndarray]:
        yield X
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="source broke"):
        write_dataset(url, dies(), chunk_bytes=BYTES, overwrite=True)
    with pytest.raises(StoreError, match="half-written"):
        open_store(url)


# -- columns --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [None, 3])
def test_column_reads_and_pickles(tmp_path: Path, shards: int | None) -> None:
    X, y, w = data()
    write_dataset(tmp_path / "d", X, y, w, chunk_bytes=BYTES, shards=shards)
    column = open_store(tmp_path / "d").X
    assert column.chunk_rows == ROWS * (shards or 1)
    text = pickle.dumps(column)
    assert len(text) < 4000
    for path in (tmp_path / "d" / "X" / "zarr.json", tmp_path / "d" / "zarr.json"):
        path.unlink()  # unpickling reads no metadata
    other = pickle.loads(text)
    assert other.complete
    for start, stop in [(0, N), (0, 30), (30, 60), (5, 17), (100, N), (60, 60), (29, 31)]:
        for c in (column, other):
            x = c.read(start, stop)
            np.testing.assert_array_equal(x, X[start:stop])
            assert x.flags.c_contiguous
            assert x.flags.aligned
            assert x.flags.writeable
    for start, stop in [(-1, 3), (3, 2), (0, N + 1)]:
        with pytest.raises(IndexError, match=rf"got {start}:{stop}"):
            column.read(start, stop)


def test_a_column_is_indexed_like_numpy(written: Path) -> None:
    X, column = data()[0], open_store(written).X
    for where in [
        *(
            np.s_[7],
            np.s_[-1, 2],
            np.s_[3:25],
            np.s_[25:3],
            np.s_[:, 1:3],
            np.s_[::7, 2],
            np.s_[60:3:-7, ::-1],
        ),
        *(np.s_[-200:200], np.s_[:]),
    ]:
        np.testing.assert_array_equal(column[where], X[where])
    with pytest.raises(IndexError):
        column[N]


def test_reads_do_not_share_memory(written: Path) -> None:
    column = open_store(written).X
    first = column.read(0, ROWS)
    column.read(ROWS, 2 * ROWS)
    np.testing.assert_array_equal(first, data()[0][:ROWS])


# -- faults ---------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("fault", "dtype", "shards"),
    slow_but_every(2, [Path.unlink, truncate, empty, flip], ["f4", "i4"], [None, 2]),
)
def test_a_bad_chunk_is_never_data(
    tmp_path: Path, fault: Callable[[Path], None], dtype: str, shards: int | None
) -> None:
    path = tmp_path / "d"
    arrays = (*data(dtype), np.log(data(dtype)[2] + 1))
    write_dataset(path, *arrays[:3], offset=arrays[3], chunk_bytes=BYTES, shards=shards)
    for array, values in zip(NAMES, arrays, strict=True):
        column = getattr(open_store(path), array)
        unit = column.chunk_rows
        for i in (1, (N - 1) // unit):
            keep = chunk(path, array, i).read_bytes()
            fault(chunk(path, array, i))
            start, stop = i * unit, min((i + 1) * unit, N)
            cause = ""
            if shards and fault is flip:  # which only one chunk of the shard feels
                stop, cause = min(start + ROWS, N), "inner chunk 0 of the shard: "
            for a, b in [(start, stop), (start - 1, stop), (0, N)]:
                message = f"{array}, chunk c/{i}.*: rows {start}:{stop} cannot be read: {cause}"
                with pytest.raises(ChunkError, match=message) as error:
                    column.read(a, b)
                assert str(path) in str(error.value)
                again = pickle.loads(pickle.dumps(error.value))
                assert (type(again), str(again)) == (ChunkError, str(error.value))
            column.read(0, unit)
            with pytest.raises((ChunkError, StoreError), match=f"{array}.*c/{i}"):
                verify_store(path)
            chunk(path, array, i).write_bytes(keep)
        np.testing.assert_array_equal(everything(column), values)
    verify_store(path)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_flipped_bit_is_found(tmp_path: Path, pipeline: str) -> None:
    X = np.ones((ROWS + 3, P), dtype="f4")
    write_dataset(tmp_path / "d", X, codec="none", chunk_bytes=BYTES)
    with zarr.config.set({"codec_pipeline.path": pipeline}):
        column = open_store(tmp_path / "d").X
    for i, parts in enumerate([[(0, ROWS), (0, 1), (3, 7)], [(ROWS, ROWS + 3), (ROWS, ROWS + 1)]]):
        file = chunk(tmp_path / "d", "X", i)
        good = file.read_bytes()
        for byte in range(0, len(good), 13):
            bad = bytearray(good)
            bad[byte] ^= 1 << byte % 8
            file.write_bytes(bad)
            for a, b in parts:
                with pytest.raises(ChunkError, match="checksum"):
                    column.read(a, b)
        file.write_bytes(good)


# -- foreign arrays -------------------------------------------------------------------------------

CHECKED: dict[str, Any] = {"crc32c": zarr.codecs.Crc32cCodec(), "zstd": zarr.codecs.ZstdCodec(checksum=True)}
FOREIGN = (2 * ROWS + 3, P)


def foreign(path: Path, dtype: str = "f4", **options: Any) -> tuple[zarr.Array, np.ndarray]:
    """An array that daskgd did not write, and what is in it."""
    X = np.random.default_rng(0).standard_normal(FOREIGN).astype(dtype)
    array = zarr.create_array(path, shape=FOREIGN, chunks=(ROWS, P), dtype=dtype, **options)
    array[:] = X
    return array, X


needs_zarrs = pytest.mark.skipif(find_spec("zarrs") is None, reason="zarrs is not installed")


@needs_zarrs
@pytest.mark.parametrize(
    "options",
    [{}, {"zarr_format": 2}, {"compressors": None}, {"shards": (2 * ROWS, P)}],
    ids=["v3", "v2", "raw", "shards"],
)
def test_foreign_arrays_are_read_by_zarrs(tmp_path: Path, options: dict[str, Any]) -> None:
    before = pickle.dumps(zarr.config.config)
    array, X = foreign(tmp_path / "d", **options)
    for column in (StoredColumn(array), pickle.loads(pickle.dumps(StoredColumn(array)))):
        assert column.reader == "ZarrsCodecPipeline"
        for a, b in [(0, len(X)), (0, ROWS), (ROWS, 2 * ROWS), (3, ROWS), (ROWS, ROWS), (2 * ROWS, len(X))]:
            x = column.read(a, b)
            np.testing.assert_array_equal(x, X[a:b])
            assert x.flags.c_contiguous
            assert x.flags.aligned
    assert pickle.dumps(zarr.config.config) == before
    assert type(zarr.open_array(tmp_path / "d").async_array.codec_pipeline).__name__ == "BatchedCodecPipeline"


@pytest.mark.parametrize("codec", CHECKED)
@pytest.mark.parametrize("shards", [None, (2 * ROWS, P)], ids=["chunks", "shards"])
def test_no_flipped_bit_is_read_from_foreign_arrays(
    tmp_path: Path, codec: str, shards: tuple[int, int] | None
) -> None:
    array, X = foreign(tmp_path / "d", compressors=CHECKED[codec], shards=shards)
    column = StoredColumn(array)
    step, caught = column.chunk_rows, 0
    for i in range(-(-len(X) // step)):
        start, stop = i * step, min((i + 1) * step, len(X))
        file = tmp_path / "d" / "c" / str(i) / "0"
        good = file.read_bytes()
        for byte in range(0, len(good), 7):
            bad = bytearray(good)
            bad[byte] ^= 1 << byte % 8
            file.write_bytes(bad)
            for a, b in [(start, stop), (start, start + 1), (start + 1, stop), (0, len(X))]:
                try:  # a bit of what is not needed may be passed over
                    np.testing.assert_array_equal(column.read(a, b), X[a:b])
                except ChunkError:
                    caught += (a, b) == (start, stop)
        file.write_bytes(good)
    assert caught > 50


@needs_zarrs
@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr")
def test_where_zarrs_does_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on disk, another byte order, a codec it does not know, by choice, where it is not installed."""
    array, X = foreign(tmp_path / "d")
    memory = zarr.array(X, chunks=(ROWS, P))
    swapped, Y = foreign(tmp_path / "swapped", ">f4")
    odd, _ = foreign(tmp_path / "odd", filters=Delta(dtype="<f4"))  # which rounds
    for there, values in [(memory, X), (swapped, Y), (odd, np.asarray(odd[:]))]:
        column = StoredColumn(there)
        assert column.reader == "BatchedCodecPipeline"
        np.testing.assert_array_equal(everything(column), values)
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        chosen = zarr.open_array(tmp_path / "d", mode="r")
        assert StoredColumn(array).reader == "BatchedCodecPipeline"  # which this one was opened with
    assert StoredColumn(chosen).reader == "ZarrsCodecPipeline"
    assert StoredColumn(chosen)._by_zarrs is None
    monkeypatch.setattr("daskgd.storage.reading.find_spec", lambda name: None)
    assert StoredColumn(array).reader == "BatchedCodecPipeline"
    np.testing.assert_array_equal(everything(StoredColumn(array)), X)


def test_chunks_of_several_sizes_are_refused(tmp_path: Path) -> None:
    """They would be read at the wrong rows, if at all."""
    try:
        setting = zarr.config.set({"array.rectilinear_chunks": True})
        with setting:
            group = zarr.open_group(tmp_path / "d", mode="w")
            X = group.create_array("X", shape=(9, 2), chunks=[[2, 3, 4], [2]], dtype="f4")
    except (TypeError, ValueError):
        pytest.skip("this zarr has regular chunks only")
    with zarr.config.set({"array.rectilinear_chunks": True}):
        for opened in (lambda: open_store(tmp_path / "d"), lambda: as_dataset(X)):
            with pytest.raises(StoreError, match="expected chunks of one size, got a rectilinear"):
                opened()


def test_a_chunk_of_another_size(tmp_path: Path, written: Path) -> None:
    shutil.rmtree(written / "survey")
    write_dataset(tmp_path / "other", data()[0], chunk_bytes=BYTES // 2, codec="lz4")
    column = open_store(written).X
    shutil.copy(chunk(tmp_path / "other", "X", 3), chunk(written, "X", 3))
    with pytest.raises(ChunkError, match=r"decodes to 100 bytes, expected 200"):
        column.read(30, 40)


@pytest.mark.parametrize("shards", [None, 2])
def test_data_equal_to_the_fill_value_is_data(tmp_path: Path, shards: int | None) -> None:
    X = np.full((30, 2), np.nan, dtype="f4")
    y = np.full(30, np.iinfo("i4").min, dtype="i4")
    write_dataset(tmp_path / "d", X, y, np.zeros(30), chunk_bytes=80, shards=shards)
    stored = open_store(tmp_path / "d")
    assert np.isnan(everything(stored.X)).all()
    np.testing.assert_array_equal(everything(stored.y), y)
    verify_store(tmp_path / "d")


def test_chunk_missing_at_open(written: Path) -> None:
    chunk(written, "y", 4).unlink()
    chunk(written, "y", 7).unlink()
    with pytest.raises(StoreError, match="array y: 2 chunks are missing, the first is c/4"):
        open_store(written)


def test_altered_metadata(written: Path) -> None:
    group = zarr.open_group(written, mode="r+")
    mark: Any = group.attrs.asdict()["daskgd"]
    for change, message in [
        ({"feature_names": list("abcde")}, "altered"),
        ({"format": 3}, "expected format 1 or 2, got 3"),
        ({"format": 2}, "expected an array codes, found none"),
        ({"complete": None}, "half-written"),
    ]:
        group.attrs["daskgd"] = {**mark, **change}
        with pytest.raises(StoreError, match=message):
            open_store(written)
    group.attrs["daskgd"] = mark
    open_store(written)
    for name, message in [
        ("X", "X has 98 rows, y has 103"),
        ("y", "sample_weight has"),
        ("sample_weight", "altered"),
    ]:
        array: Any = group[name]
        array.resize((98, *array.shape[1:]))
        with pytest.raises(StoreError, match=message):
            open_store(written)


def test_a_sound_chunk_in_the_wrong_place(written: Path) -> None:
    shutil.copy(chunk(written, "X", 2), chunk(written, "X", 3))
    open_store(written)
    with pytest.raises(ChunkError, match=r"X, chunk c/3/0: .*not the one that was written"):
        verify_store(written)
    shutil.rmtree(written / "survey")
    with pytest.raises(StoreError, match="expected fingerprint"):
        verify_store(written)


def test_verify_tells_progress(written: Path) -> None:
    seen: list[tuple[int, int]] = []
    verify_store(written, lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, 33) for i in range(33)]


# -- opening --------------------------------------------------------------------------------------


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such file"):
        open_store(tmp_path / "none")
    (tmp_path / "file").write_text("hello")
    (tmp_path / "folder").mkdir()
    zarr.create_array(tmp_path / "array", shape=(3, 2), dtype="f4")
    for name in ("file", "folder", "array"):
        with pytest.raises(StoreError, match="expected a zarr group"):
            open_store(tmp_path / name)
    group = zarr.open_group(tmp_path / "group", mode="w")
    with pytest.raises(StoreError, match="expected an array X"):
        open_store(tmp_path / "group")
    group.create_array("X", shape=(3,), dtype="f4")
    with pytest.raises(StoreError, match=r"array X: expected 2 dimensions of numbers, got shape"):
        open_store(tmp_path / "group")
    with pytest.raises(TypeError, match="path: expected str"):
        open_store(b"bytes")  # type: ignore[arg-type]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_foreign_groups(tmp_path: Path, zarr_format: Any, caplog: pytest.LogCaptureFixture) -> None:
    group = zarr.open_group(tmp_path / "g", mode="w", zarr_format=zarr_format)
    X = np.arange(40.0).reshape(20, 2)
    group.create_array("X", data=X, chunks=(6, 1))
    group.create_array("y", data=np.arange(20) // 12, chunks=(6,))
    with caplog.at_level("WARNING"):
        stored = open_store(tmp_path / "g")
    assert stored.fingerprint is None
    np.testing.assert_array_equal(stored.X.read(3, 17), X[3:17])
    np.testing.assert_array_equal(everything(stored.y), np.arange(20) // 12)  # chunks of zeros
    assert "array y: 2 chunks are not stored" in caplog.text
    assert "array X" not in caplog.text
    verify_store(tmp_path / "g")
    for path in (tmp_path / "g" / "X").rglob("*[0-9]"):
        if path.is_file():
            path.write_bytes(b"junk")
    with pytest.raises(ChunkError, match="rows 0:6 cannot be read"):
        stored.X.read(0, 6)


# -- writing goes wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("stream", RuntimeError),
        ("stream", KeyboardInterrupt),
        ("threads", RuntimeError),
        ("synchronous", RuntimeError),
        ("synchronous", KeyboardInterrupt),
    ],
)
@pytest.mark.parametrize("existing", [False, True])
def test_failure_leaves_nothing(tmp_path: Path, how: str, error: type[BaseException], existing: bool) -> None:
    X, y, _ = data()
    path = tmp_path / "d"
    if existing:
        write_dataset(path, X, y)
    before = sorted(tmp_path.rglob("*"))

    def broken(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        if block_info and block_info[0]["chunk-location"][0] == 3:
            raise error("the source broke")
        return block

    def stream() -> Iterator[np.ndarray]:
        yield from blocks([50, 50], X)
        raise error("the source broke")

    lazy = da.from_array(X, chunks=(10, -1)).map_blocks(broken, meta=X[:0])
    scheduler = "threads" if how == "stream" else how
    with pytest.raises(error, match="source broke"), dask.config.set(scheduler=scheduler):
        write_dataset(path, stream() if how == "stream" else lazy, chunk_bytes=99, overwrite=existing)
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(ValueError, match="2 dimensions"):
        write_dataset(tmp_path / "new" / "er" / "d", iter([X[0]]))
    assert sorted(tmp_path.rglob("*")) == before  # no new folders either
    if existing:
        np.testing.assert_array_equal(everything(open_store(path).X), X)


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("at", ["create", "X/c/4", "y/c/0", "seal"])
def test_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, lazy: bool, existing: bool
) -> None:
    X, y, w = data()
    if existing:
        write_dataset(tmp_path / "d", X, y, w, chunk_bytes=BYTES)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    put, calls = LocalStore.set, []

    async def full(self: LocalStore, key: str, value: Any, **settings: Any) -> None:
        calls.append(key)
        root = key == "zarr.json"
        if at in key or (root and at == "create") or (root and at == "seal" and calls.count(key) > 1):
            (self.root / key).parent.mkdir(parents=True, exist_ok=True)
            (self.root / key).write_bytes(b"torn")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.root / key))
        await put(self, key, value, **settings)

    monkeypatch.setattr(LocalStore, "set", full)
    args = tuple(da.from_array(a, chunks=25) for a in (X, y, w)) if lazy else (X, y, w)
    with pytest.raises(OSError, match="No space left") as error:
        write_dataset(tmp_path / "d", *args, chunk_bytes=BYTES, overwrite=existing)
    assert error.value.errno == errno.ENOSPC
    assert f"{tmp_path / 'd'}: no room to write the dataset" in error.value.__notes__[0]
    monkeypatch.undo()
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == (["d"] if existing else [])
    if existing:
        verify_store(tmp_path / "d")


def test_writes_that_go_on_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zarr raises what the first of many writes raises; the others end later, here long after."""
    put, late, began, failed = LocalStore.set, [], asyncio.Event(), asyncio.Event()

    async def one_fails(self: LocalStore, key: str, value: Any, **settings: Any) -> None:
        if key == "X/c/0/0":
            await began.wait()  # of another: those that begin after the failure are refused
            asyncio.get_running_loop().call_later(0.2, failed.set)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if key.startswith("X/c/"):
            began.set()
            await failed.wait()
            late.append(key)
        await put(self, key, value, **settings)

    monkeypatch.setattr(LocalStore, "set", one_fails)
    with pytest.raises(OSError, match="No space left"):
        write_dataset(tmp_path / "d", da.from_array(data()[0], chunks=-1), chunk_bytes=BYTES)
    assert late
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
import numpy as np
import daskgd

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

def blocks():
    yield np.full((50, 2), 7.0)
    if sys.argv[2] == "stream":
        die()

if sys.argv[2] == "rename":
    rename, calls = os.rename, []
    def killed(a, b):
        die() if calls else calls.append(rename(a, b))
    os.rename = killed
daskgd.write_dataset(sys.argv[1], blocks(), chunk_bytes=160, overwrite=True)
"""


@pytest.mark.parametrize("how", ["stream", "rename"])
def test_a_killed_write(tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "daskgd")
    path = tmp_path / "d[1]"  # which glob would take for a pattern
    X = data()[0]
    write_dataset(path, X)
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), how])
    assert done.returncode == -signal.SIGKILL
    if how == "stream":
        np.testing.assert_array_equal(everything(open_store(path).X), X)
    else:
        with pytest.raises(
            StoreError, match=r"before an interrupted overwrite is .*\.partial\.old: rename it"
        ):
            open_store(path)
        (old,) = tmp_path.glob("*.old")
        np.testing.assert_array_equal(everything(open_store(old).X), X)
    (partial,) = tmp_path.glob(".*.partial")
    if how == "stream":
        with pytest.raises(StoreError, match="half-written"):
            open_store(partial)
    write_dataset(path, X + 1, overwrite=True)
    assert "beside it lies what earlier writes left" in caplog.text
    assert partial.name in caplog.text
    np.testing.assert_array_equal(everything(open_store(path).X), X + 1)
    assert partial.exists()  # another may be writing there


@pytest.mark.parametrize("failing", [1, 2])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_rename_that_fails(
    tmp_path: Path, written: Path, monkeypatch: pytest.MonkeyPatch, failing: int, error: type[BaseException]
) -> None:
    rename, calls = os.rename, []

    def fails(a: str, b: str) -> None:
        calls.append(a)
        if len(calls) == failing:
            raise error("the disk broke")
        rename(a, b)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(error, match="the disk broke"):
        write_dataset(written, data()[0] + 1, overwrite=True)
    assert list(tmp_path.iterdir()) == [written]
    np.testing.assert_array_equal(everything(open_store(written).X), data()[0])


def test_existing_paths(tmp_path: Path, written: Path) -> None:
    X = data()[0]
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        write_dataset(written, X)
    write_dataset(written, X + 1, overwrite=True)
    np.testing.assert_array_equal(everything(open_store(written).X), X + 1)
    assert open_store(written).y is None
    write_dataset(written, da.from_zarr(str(written), component="X") * 2, overwrite=True)  # by itself
    np.testing.assert_array_equal(everything(open_store(written).X), (X + 1) * 2)
    assert list(tmp_path.iterdir()) == [written]
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("x")
    for place in (home, tmp_path / "file"):
        with pytest.raises(FileExistsError, match="no zarr group"):
            write_dataset(place, X, overwrite=True)
    assert (home / "thesis.tex").exists()
    write_dataset(f"file://{tmp_path}/deep/er/url", X)
    open_store(tmp_path / "deep" / "er" / "url")


A = np.ones((4, 2))
LABELS = np.array(["a", "b", "c", "d"], dtype=object)
MIXED = np.array(["a", 1, "b", "c"], dtype=object)
FRAME = pd.DataFrame(A)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((A, np.ones(3)), ValueError, "y has 3 rows, X has 4"),
        ((da.ones((4, 2)), None, np.ones(5)), ValueError, "sample_weight has 5 rows, X has 4"),
        ((np.ones(4),), ValueError, "X: expected 2 dimensions"),
        ((da.ones(4),), ValueError, "X: expected 2 dimensions"),
        ((da.ones((0, 2)),), ValueError, "at least one row"),
        ((np.ones((4, 0)),), ValueError, "at least one column"),
        (([np.ones((0, 2))],), ValueError, "at least one row"),
        (([np.ones((2, 0))],), ValueError, "at least one column"),
        ((A, None, [1, 1, np.nan, 1]), ValueError, "finite weights >= 0, got nan at row 2"),
        ((da.ones((4, 2)), None, da.from_array([1, 1, -1, 1.0])), ValueError, "got -1.0 at row 2"),
        (([(A, A[:, 0], -A[:, 0])],), ValueError, "block 0 of sample_weight: .* got -1.0 at row 0"),
        ((A, None, A), ValueError, "sample_weight: expected 1 dimension, got 2"),
        ((A * 1j,), TypeError, "X: expected real numbers .* got dtype complex128"),
        ((A.astype("M8[s]"),), TypeError, "X: expected real numbers .* got dtype datetime64"),
        ((np.array([[1, "2"]], object),), TypeError, "X: .* got dtype object, and in row 0 '2'"),
        ((A.astype(np.longdouble),), TypeError, "X: expected real numbers of at most 64 bits"),
        ((da.ones((4, 2), dtype=complex),), TypeError, "X: expected real numbers"),
        ((A, scipy.sparse.csr_array(np.eye(4))), TypeError, r"y: expected a dense array, .* y.toarray"),
        (([A, scipy.sparse.csr_array(A)],), ValueError, "block 1 of X: expected all blocks sparse, or none"),
        ((scipy.sparse.csr_array(A * 1j),), ValueError, "X: expected real numbers or bool, got"),
        ((scipy.sparse.csr_array((0, 4)),), ValueError, "at least one row"),
        ((np.ma.masked_array(A, mask=A > 0),), TypeError, "X: numpy.ma is not supported"),
        (([FRAME.assign(s="text")],), TypeError, "expected numeric columns, got others: s"),
        (
            ([pd.DataFrame({"i": pd.array([1, None], dtype="Int64")})],),
            ValueError,
            "NA in row 1 of column 'i'",
        ),
        ((A, dd.from_pandas(FRAME, npartitions=2)), TypeError, r"to_dask_array\(lengths=True\)"),
        ((A, A[:, 0] * 1j), TypeError, "y: expected real numbers"),
        ((A, ["a", "b", None, "c"]), ValueError, r"y: expected labels .* got none \(None\) in row 2"),
        ((A, MIXED), ValueError, "y: expected labels .* got text in row 0 and int in row 1"),
        ((A, da.from_array(MIXED, chunks=2)), ValueError, "y: .* got text in row 0 and int in row 1"),
        ((A, np.column_stack([LABELS, LABELS])), TypeError, r"y: expected labels of shape \(n,\)"),
        ((A, np.ones((4, 1, 1))), ValueError, "y: expected 1 or 2 dimensions"),
        (([A, np.ones((4, 3))],), ValueError, r"block 1 of X: expected rows of shape \(2,\)"),
        (([A, A.astype("f4")],), ValueError, "block 1 of X: .* dtype float64, .* float32"),
        (([(A, LABELS), (A, A[:, 0] > 0)],), ValueError, "block 1 of y: .* dtype object, .* bool"),
        (([A, A[0]],), ValueError, "block 1 of X: expected 2 dimensions"),
        (([(A, A[:, 0]), A],), ValueError, "block 1: expected X, y"),
        (([(A, A[:3, 0])],), ValueError, "y has 3 rows, X has 4 in block 0"),
        (([(None, A[:, 0])],), ValueError, "block 0: .* got no X"),
        (([(A, A, None, None, A)],), ValueError, "block 0: .* got 5 parts"),
        (([(A, A, None, A[:, 0] * np.nan)],), ValueError, "block 0 of offset: .* finite numbers, got nan at"),
        (([A], A[:, 0]), ValueError, "X is an iterable of blocks"),
        (([],), ValueError, "X: expected 2 dimensions"),
        (([1.0, 2.0],), ValueError, "X: expected 2 dimensions"),
        ((as_dataset(A), A[:, 0]), ValueError, "y, sample_weight, offset: expected None beside a Dataset"),
        (
            (as_dataset(A), None, A[:, 0]),
            ValueError,
            "y, sample_weight, offset: expected None beside a Dataset",
        ),
        (("text",), TypeError, "X: expected a 2-d array"),
        ((None,), TypeError, "X: expected a 2-d array"),
    ],
)
def test_refused_data(tmp_path: Path, args: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        write_dataset(tmp_path / "d", *args)
    assert list(tmp_path.iterdir()) == []


def tables(*frames: pd.DataFrame) -> list[pa.Table]:
    return [pa.Table.from_pandas(frame, preserve_index=False) for frame in frames]


NAMED = pd.DataFrame(A, columns=["a", "b"])
SWAPPED = NAMED[["b", "a"]]
WIDE = pd.DataFrame(np.ones((2, 20))).add_prefix("x")
SPARSE = pd.SparseDtype(float, 0.0)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([NAMED, SWAPPED], "block 1 of X: expected the columns a, b, as in block 0, got b, a; give"),
        ([A, NAMED, NAMED[:0], A, NAMED.rename(columns={"b": "z"})], "in block 1, got a, z;"),
        ([NAMED, NAMED[["a"]]], "block 1 of X: expected the columns a, b, as in block 0, got a;"),
        ([FRAME, FRAME[[1, 0]]], "block 1 of X: expected the columns 0, 1, as in block 0, got 1, 0;"),
        (tables(NAMED, SWAPPED), "block 1 of X: expected the columns a, b, .* got b, a;"),
        ([NAMED.astype(SPARSE), SWAPPED.astype(SPARSE)], "block 1 of X: .* got b, a;"),
        ([(NAMED, NAMED), (NAMED, SWAPPED)], "block 1 of y: expected the columns a, b, .* got b, a;"),
        (
            [WIDE, WIDE.rename(columns={"x7": "z"})],
            "expected from column 7 on the columns x7, .*, x14, [.]{3}, as .*, got z, .*, [.]{3};",
        ),
        ([WIDE, WIDE.iloc[:, :19]], "expected from column 19 on the columns x19, as in block 0, got none;"),
    ],
)
def test_blocks_with_other_names_are_refused(tmp_path: Path, blocks: list[Any], message: str) -> None:
    for items in (blocks, iter(blocks)):
        with pytest.raises(ValueError, match=message):
            write_dataset(tmp_path / "d", items)
    assert list(tmp_path.iterdir()) == []


def test_names_of_blocks_are_kept(tmp_path: Path) -> None:
    for i, blocks in enumerate(([NAMED, A, NAMED], tables(NAMED, NAMED))):
        write_dataset(tmp_path / str(i), iter(blocks))
        assert open_store(tmp_path / str(i)).feature_names == ("a", "b")


def test_frames_with_a_name_twice_are_refused(tmp_path: Path) -> None:
    frame = NAMED.set_axis(["a", "a"], axis=1)
    for X in (frame, [frame], frame.astype(SPARSE)):
        with pytest.raises(ValueError, match="expected columns of different names, got 'a' twice; rename"):
            write_dataset(tmp_path / "d", X)
        write_dataset(tmp_path / "d", X, feature_names=["a", "b"])
        shutil.rmtree(tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"feature_names": ["a"]}, ValueError, "feature_names: expected 2 names, .* got 1"),
        ({"feature_names": ["a", 1]}, TypeError, "feature_names: expected a sequence of str"),
        ({"feature_names": "ab"}, TypeError, "feature_names: expected a sequence of str"),
        ({"chunk_bytes": 0}, ValueError, "chunk_bytes: expected 1 to"),
        ({"chunk_bytes": "many"}, ValueError, "chunk_bytes: expected bytes, or a size .*, got 'many'"),
        ({"chunk_bytes": None}, ValueError, "chunk_bytes: expected bytes, or a size .*, got None"),
        ({"chunk_bytes": np.inf}, ValueError, "chunk_bytes: expected bytes, or a size .*, got inf"),
        ({"feature_names": ["a", "a"]}, ValueError, "expected columns of different names, got 'a' twice"),
        ({"chunk_bytes": 2**31}, ValueError, "chunk_bytes: expected 1 to"),
        ({"codec": "gzip"}, ValueError, "codec: expected one of auto, lz4, zstd, none, got 'gzip'"),
        ({"shards": 0}, ValueError, "shards: expected None"),
        ({"shards": 1.5}, ValueError, "shards: expected None"),
    ],
)
def test_refused_arguments(tmp_path: Path, arguments: Any, error: type[Exception], message: str) -> None:
    for X in (A, [A], da.ones((4, 2))):
        with pytest.raises(error, match=message):
            write_dataset(tmp_path / "d", X, **arguments)
    assert list(tmp_path.iterdir()) == []


# -- zarr behind dask -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read",
    [
        da.from_zarr,
        lambda z: da.from_zarr(z, chunks=(25, 2)),
        lambda z: da.from_zarr(z, inline_array=True),
        lambda z: da.from_array(z, chunks=-1, lock=True),
        lambda z: da.from_array(z, chunks=(50, 5), inline_array=True),
        lambda z: da.from_array(z, fancy=False, name=False),
    ],
)
def test_zarr_behind_a_read(written: Path, read: Callable[[Any], da.Array]) -> None:
    x = read(zarr.open_array(written / "X", mode="r"))
    found = zarr_behind(x)
    assert found is not None
    np.testing.assert_array_equal(StoredColumn(found).read(0, N), x.compute())


@pytest.mark.parametrize(
    "read",
    [
        lambda place: zarr.open_array(f"{place}/X", mode="r"),
        lambda place: zarr.open_array(place, path="X"),
        lambda place: zarr.open_group(place)["X"],
        lambda place: da.from_zarr(place, component="X"),
        lambda place: da.from_zarr(f"{place}/X"),
    ],
)
@pytest.mark.parametrize("remote", [False, True])
def test_our_mark_is_seen_from_an_array(tmp_path: Path, read: Callable[[str], Any], remote: bool) -> None:
    place = f"memory://{tmp_path.name}/d" if remote else str(tmp_path / "d")
    write_dataset(place, *data("i4"), chunk_bytes=BYTES)
    (found, *_) = as_dataset(read(place)).columns
    assert isinstance(found, StoredColumn)
    assert found.complete
    zarr.open_group(place)["X"].update_attributes({"altered": True})
    (found, *_) = as_dataset(read(place)).columns
    assert isinstance(found, StoredColumn)
    assert not found.complete


def test_no_mark_no_completeness(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "g", mode="w")
    X = data()[0]
    for array in (
        zarr.array(X),
        group.create_array("X", data=X),
        zarr.create_array(tmp_path / "X", data=X),
        zarr.create_array(tmp_path / "other", data=X),
    ):
        assert not open_column(array).complete


def test_no_zarr_behind_anything_else(written: Path) -> None:
    z = zarr.open_array(written / "X", mode="r")
    x = da.from_zarr(z)
    square = da.from_array(zarr.array(np.ones((4, 4))))
    changed = [
        *(x[:10], x[::-1], x[:, ::-1], x[:, :1], x[x[:, 0] > 0], x.T, square.T),
        *(x + 1, -x, x.astype("f8"), x.view("i4"), x.map_blocks(np.sort), x.rechunk((50, 5))),
        *(da.concatenate([x, x]), da.concatenate([x[:50], x[50:]]), da.stack([x])),
        *(x.persist(), dask.optimize(x + 1)[0], da.blockwise(np.negative, "ij", x, "ij", dtype="f4")),
        da.from_array(z, getitem=lambda a, b, asarray=True, lock=None: a[b] * 2),
        *(da.from_array(data()[0]), da.from_array(data()[0], chunks=10), da.ones((3, 2))),
    ]
    for i, array in enumerate(changed):
        assert zarr_behind(array) is None, i
