"""Sparse rows on disk: AnnData's layout, every source alike, every damage found and named by its rows."""

from __future__ import annotations

import asyncio
import itertools
import pickle
import shutil
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import fsspec
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import files, flipped, restored

import daskgd
from daskgd.rows.sparse import Sparse
from daskgd.storage import access, reading, sparse_writing
from daskgd.storage.checksums import SPARSE_PARTS
from daskgd.storage.commit import create_array, verify_store
from daskgd.storage.opening import open_store
from daskgd.storage.sparse_reading import StoredSparseColumn
from tests.sparse_rows import sparse_array
from tests.tiers import slow_but, slow_but_every

N, P = 90, 12
BYTES = 800
"""Of a chunk: eight entries of float32 are 64 bytes, of which there are some 300."""


def data(dtype: str = "f4") -> tuple[scipy.sparse.csr_array, np.ndarray, np.ndarray]:
    """Rows of no entries up to all; some of them, the first and the last among them, have none."""
    rng = np.random.default_rng(0)
    dense = rng.integers(1, 100, (N, P)) * (rng.random((N, P)) < rng.random((N, 1)) * 0.6)
    dense[[0, 1, 40, 41, 42, N - 1]] = 0
    X = scipy.sparse.csr_array(dense.astype(dtype))
    return X, dense[:, 0] + rng.normal(size=N), rng.random(N)


def write(path: Path, dtype: str = "f4", **settings: Any) -> daskgd.Dataset:
    """A dataset of several blocks."""
    daskgd.write_dataset(path, *data(dtype), **{"chunk_bytes": BYTES, **settings})
    return daskgd.open_dataset(path, block_bytes=1)


def column(path: Path) -> StoredSparseColumn:
    found = open_store(path).X
    assert isinstance(found, StoredSparseColumn)
    return found


def check_equal(found: Sparse, expected: Any) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    for a, name in zip(found.arrays, ("data", "indices", "indptr"), strict=True):
        np.testing.assert_array_equal(a, getattr(expected, name))


# -- round trips ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "codec", "shards"),
    slow_but_every(3, ["f8", "i1", "u8", "?"], ["lz4", "zstd", "none"], [None, 2]),
)
def test_every_dtype_and_codec(tmp_path: Path, dtype: str, codec: str, shards: int | None) -> None:
    X, y, w = data(dtype)
    write(tmp_path / "d", dtype, codec=codec, shards=shards)
    stored = open_store(tmp_path / "d")
    expected = X.astype("u1" if dtype == "?" else dtype)
    found = stored.X
    check_equal(found.read(0, N), expected)
    for a, b in itertools.combinations(range(0, N + 1, 9), 2):
        check_equal(found.read(a, b), expected[a:b])
    assert found.read(5, 5).shape == (0, P)
    np.testing.assert_array_equal(stored.y.read(0, N), y)
    np.testing.assert_array_equal(stored.sample_weight.read(0, N), w)
    verify_store(tmp_path / "d")


def test_layout_is_that_of_anndata(tmp_path: Path) -> None:
    X, _, _ = data()
    write(tmp_path / "d")
    group = zarr.open_group(tmp_path / "d", mode="r")
    attributes = group["X"].attrs.asdict()
    assert attributes == {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": [N, P]}
    parts = [group[f"X/{name}"] for name in ("data", "indices", "indptr")]
    found = scipy.sparse.csr_array(tuple(part[:] for part in parts), shape=(N, P))
    assert (found != X).nnz == 0
    assert [part.chunks for part in parts[:2]] == [(BYTES // 64,)] * 2
    assert parts[2].chunks == group["y"].chunks
    assert all(not 0 <= part.fill_value < np.inf for part in parts)  # a lost chunk is never an entry


def test_values_are_shuffled_as_suits_them(tmp_path: Path) -> None:
    """By the first chunk alone: in whatever blocks rows come, the same bytes are stored."""
    rng, ends = np.random.default_rng(0), np.arange(0, 4001, 10)
    recurring = rng.choice(1 / np.arange(2.0, 9), 4000)
    for name, values in (("shuffle", rng.random(4000)), ("noshuffle", recurring)):
        X = scipy.sparse.csr_array((values, np.tile(np.arange(10), 400), ends))
        blocks = [(X[a : a + 80],) for a in range(0, 400, 80)]
        stored = []
        for path, rows in ((tmp_path / f"{name}-1", X), (tmp_path / f"{name}-2", blocks)):
            daskgd.write_dataset(path, rows, chunk_bytes=24_000)
            assert open_store(path).codec == f"blosc lz4 {name}, crc32c"
            check_equal(column(path).read(0, 400), X)
            stored.append({file.relative_to(path): file.read_bytes() for file in files(path / "X")})
        assert stored[0] == stored[1]


def test_stores_whose_bits_are_shuffled_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were written before."""
    monkeypatch.setattr(
        sparse_writing, "create_array", lambda *where, shuffle, **how: create_array(*where, **how)
    )
    write(tmp_path / "d")
    assert open_store(tmp_path / "d").codec == "blosc lz4 bitshuffle, crc32c"
    check_equal(column(tmp_path / "d").read(0, N), data()[0])
    verify_store(tmp_path / "d")


def test_what_it_says_of_itself(tmp_path: Path) -> None:
    X = data()[0]
    dataset = write(tmp_path / "d")
    facts = dataset.info()
    assert (facts["n_stored"], facts["reader"], facts["dtype"]) == (X.nnz, "daskgd", "float32")
    assert dataset.columns.X.nbytes == X.data.nbytes + X.indices.nbytes + X.indptr.nbytes
    assert "sparse features of float32" in repr(dataset)
    found = column(tmp_path / "d")
    assert repr(found) == f"<StoredSparseColumn: float32 {(N, P)}, {X.nnz} stored, at {tmp_path}/d/X>"
    again = pickle.loads(pickle.dumps(found))
    check_equal(again.read(3, 30), X[3:30])
    assert again.identity() == found.identity()
    write(tmp_path / "other", "f8")
    assert column(tmp_path / "other").identity() != found.identity()


def test_large_columns_travel_as_metadata(tmp_path: Path) -> None:
    rows = scipy.sparse.csr_array((300_000, 5), dtype="f4")
    daskgd.write_dataset(tmp_path / "d", rows)
    assert len(pickle.dumps(column(tmp_path / "d"))) < 10_000


def test_another_process_knows_whose_rows_they_are(tmp_path: Path) -> None:
    write(tmp_path / "d")
    sent = pickle.dumps(column(tmp_path / "d"))
    access._seen.clear()
    check_equal(pickle.loads(sent).read(3, 30), data()[0][3:30])
    write(tmp_path / "d", "f8", overwrite=True)
    access._seen.clear()
    with pytest.raises(access.AccessError, match=f"{tmp_path}/d is not the same .* expected fingerprint"):
        pickle.loads(sent).read(3, 30)
    (tmp_path / "d").rename(tmp_path / "elsewhere")
    with pytest.raises(access.AccessError, match=f"cannot see {tmp_path}/d: no dataset is there"):
        pickle.loads(sent).check_access()


def sources(compiled: bool) -> dict[str, tuple[Any, ...]]:
    """The same rows in many guises; with those for which numba compiles some seconds first."""
    X, y, w = data()
    lazy = da.from_array(X, chunks=(20, 5), asarray=False)
    frame = pd.DataFrame.sparse.from_spmatrix(X).rename(columns=str)
    found: dict[str, tuple[Any, ...]] = {
        "csr array": (X, y, w),
        "csr matrix": (scipy.sparse.csr_matrix(X), y, w),
        "csc": (X.tocsc(), y, w),
        "coo": (X.tocoo(), y, w),
        "pandas": (frame, y, w),
        "blocks": ([(X[a : a + 7], y[a : a + 7], w[a : a + 7]) for a in range(0, N, 7)],),
        "blocks of frames": ([(frame[a : a + 7], y[a : a + 7], w[a : a + 7]) for a in range(0, N, 7)],),
        "dask": (lazy, da.from_array(y, chunks=33), w),
        "dask beside csr": (X, da.from_array(y, chunks=33), da.from_array(w, chunks=50)),
        "dask, lengths unknown": (unknown(lazy), unknown(da.from_array(y, chunks=20)), None),
        "a dataset": (daskgd.as_dataset(X, y, w),),
    }
    if find_spec("sparse") is not None:
        import sparse

        found["pydata"] = pydata = (sparse.COO.from_scipy_sparse(X), y, w)
    if find_spec("sparse") is not None and compiled:
        found["pydata by rows"] = (sparse.GCXS.from_scipy_sparse(X), y, w)
        found["dask of pydata"] = (da.from_array(pydata[0], chunks=(40, 6), asarray=False), y, w)
    return found


def unknown(x: da.Array) -> da.Array:
    return da.Array(x.dask, x.name, ((np.nan,) * x.numblocks[0], *x.chunks[1:]), meta=x._meta)


@pytest.mark.parametrize("shards", slow_but([None, 3], None))
def test_all_sources_agree(tmp_path: Path, shards: int | None) -> None:
    found = {}
    for name, (X, *others) in sources(compiled=shards is not None).items():
        daskgd.write_dataset(
            tmp_path / name,
            X,
            *others,
            chunk_bytes=BYTES,
            shards=shards,
            feature_names=[f"f{i}" for i in range(P)],
        )
        found[name] = open_store(tmp_path / name).fingerprint
        check_equal(column(tmp_path / name).read(0, N), data()[0])
    without = found.pop("dask, lengths unknown")  # of weights
    assert len(set(found.values())) == 1
    assert without not in found.values()


@settings(max_examples=6, deadline=None)
@given(sizes=st.lists(st.integers(0, 40), max_size=8), chunk_bytes=st.integers(200, 5000))
def test_any_blocks_are_the_same_dataset(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], chunk_bytes: int
) -> None:
    X, y, _ = data()
    folder = tmp_path_factory.mktemp("blocks")
    ends = [0, *np.minimum(np.cumsum(sizes), N).tolist(), N] if sizes else [0, N]
    blocks = [(X[a:b], y[a:b]) for a, b in itertools.pairwise(ends)]
    daskgd.write_dataset(folder / "a", iter(blocks), chunk_bytes=chunk_bytes)
    daskgd.write_dataset(folder / "b", X, y, chunk_bytes=chunk_bytes)
    assert open_store(folder / "a").fingerprint == open_store(folder / "b").fingerprint
    verify_store(folder / "a")


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (2_000_000, 2)])
def test_rows_without_any_entry(tmp_path: Path, shape: tuple[int, int]) -> None:
    daskgd.write_dataset(tmp_path / "d", scipy.sparse.csr_array(shape, dtype="f8"), np.zeros(shape[0]))
    dataset = daskgd.open_dataset(tmp_path / "d")
    assert dataset.X.compute(scheduler="sync").nnz == 0
    assert dataset.n_rows == shape[0]
    assert dataset.layout.block_rows <= 1 << 20
    dataset.verify()


def test_first_rows_that_are_empty_do_not_make_huge_chunks(tmp_path: Path) -> None:
    dense = scipy.sparse.csr_array(np.ones((2000, 50), "f4"))
    X = scipy.sparse.vstack([scipy.sparse.csr_array((200_000, 50), dtype="f4"), dense]).tocsr()
    daskgd.write_dataset(tmp_path / "d", X, chunk_bytes="4 MB")
    group = zarr.open_group(tmp_path / "d", mode="r")
    assert group["X/indptr"].chunks == (1 << 17,)
    check_equal(column(tmp_path / "d").read(199_000, 202_000), X[199_000:202_000])


def test_reads_decode_little_beside_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X = sparse_array(20_000, 300, 0.05, np.random.default_rng(0), "f4")
    daskgd.write_dataset(tmp_path / "d", X, chunk_bytes=100_000)
    dataset = daskgd.open_dataset(tmp_path / "d", block_bytes=1)
    read: list[int] = []
    kind = type(column(tmp_path / "d").data)
    decode = kind.decode
    monkeypatch.setattr(kind, "decode", lambda self, i, *args: (read.append(i), decode(self, i, *args))[1])
    layout = dataset.layout
    assert layout.n_blocks > 10
    for block in range(layout.n_blocks):
        dataset.columns.X.read(*layout.rows(block, block + 1))
    parts = column(tmp_path / "d").parts
    stored = sum(-(-part.shape[0] // part.chunk_rows) for part in parts)
    assert len(read) < 1.35 * stored


def test_one_graph_computes_blocks_of_all_arrays(tmp_path: Path) -> None:
    """What X and y share is computed once."""
    calls: list[int] = []

    def block(i: int) -> Any:
        calls.append(i)
        return data()[0][10 * i : 10 * i + 10]

    parts = [dask.delayed(block)(i) for i in range(9)]
    lazy = da.concatenate([da.from_delayed(p, (10, P), meta=data()[0][:0]) for p in parts])
    y = lazy.map_blocks(lambda b: np.asarray(b.sum(axis=1)), drop_axis=1, dtype="f4", meta=np.empty(0, "f4"))
    with dask.config.set(scheduler="sync"):
        daskgd.write_dataset(tmp_path / "d", lazy, y, chunk_bytes=BYTES)
    assert sorted(calls) == list(range(9))
    np.testing.assert_array_equal(open_store(tmp_path / "d").y.read(0, N), data()[0].sum(axis=1))


# -- views and fits ---------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["serial", "threads"])
def test_fits_are_those_of_the_same_rows_in_memory(tmp_path: Path, engine: str) -> None:
    X, y, w = data("f8")
    dataset = write(tmp_path / "d", "f8")
    labels = y > np.median(y)
    daskgd.write_dataset(tmp_path / "labels", X, np.where(labels, "up", "down"), w, chunk_bytes=BYTES)
    stored = daskgd.open_dataset(tmp_path / "labels", block_bytes=1)
    for est, a, b in [
        (daskgd.Ridge(), (dataset,), (X, y, w)),
        (daskgd.LogisticRegression(), (stored,), (X, np.where(labels, "up", "down"), w)),
        (daskgd.LogisticRegression(solver="lbfgs"), (stored,), (X, np.where(labels, "up", "down"), w)),
    ]:
        here = est.set_params(engine=engine, tol=1e-12).fit(*a)
        expected = type(est)(**{**est.get_params(), "engine": "serial"}).fit(*b)
        np.testing.assert_allclose(here.coef_, expected.coef_, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(np.asarray(here.predict(a[0])), np.asarray(here.predict(X)))


def test_dask_arrays_of_it_are_read_as_it_is(tmp_path: Path) -> None:
    X, y, _ = data()
    dataset = write(tmp_path / "d")
    lazy = dataset.X
    assert isinstance(lazy.compute(scheduler="sync"), scipy.sparse.csr_array)
    assert (lazy[3:50].compute(scheduler="sync") != X[3:50]).nnz == 0
    assert (lazy[:, 2:5].compute(scheduler="sync") != X[:, 2:5]).nnz == 0
    again = daskgd.as_dataset(lazy, y)
    assert isinstance(again.columns.X, StoredSparseColumn)


def test_splits(tmp_path: Path) -> None:
    dataset = write(tmp_path / "d")
    train, test = dataset.train_test_split(0.3, random_state=1)
    assert train.n_rows + test.n_rows == N
    daskgd.write_dataset(tmp_path / "test", test)
    check_equal(column(tmp_path / "test").read(0, test.n_rows), test.X.compute(scheduler="sync"))
    daskgd.Ridge(engine="serial").fit(train).score(test)
    assert "sweeps" in str(daskgd.Ridge(engine="serial").plan(train))


# -- damage -----------------------------------------------------------------------------------------

Fault = Callable[[Path], None]


def lose(file: Path) -> None:
    file.unlink()


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[2] ^= 4
    file.write_bytes(content)


def rows_of(part: str, first: int, stop: int) -> tuple[int, int]:
    """The rows that elements first:stop of an array belong to, found one by one."""
    X = data()[0]
    if part == "indptr":
        at = [i for i in range(N) if first <= i < stop or first <= i + 1 < stop]
    else:
        at = [i for i in range(N) if set(range(X.indptr[i], X.indptr[i + 1])) & set(range(first, stop))]
    return at[0], at[-1] + 1


@pytest.mark.parametrize(
    ("fault", "codec", "shards"),
    slow_but_every(3, [lose, truncate, empty, flip], ["lz4", "zstd", "none"], [None, 2]),
)
def test_every_fault_is_found_and_named(tmp_path: Path, fault: Fault, codec: str, shards: int | None) -> None:
    path = tmp_path / "d"
    dataset = write(path, codec=codec, shards=shards, chunk_bytes=BYTES // 2)
    expected = daskgd.Ridge(engine="serial").fit(dataset).coef_
    found = column(path)
    for name in SPARSE_PARTS:
        part = getattr(found, name)
        unit, n = part.chunk_rows, part.shape[0]
        for i in {0, 1, (n - 1) // unit} & set(range(-(-n // unit))):
            with restored(path / "X" / name / "c" / str(i)):
                fault(path / "X" / name / "c" / str(i))
                start, stop = i * unit, min((i + 1) * unit, n)
                if shards and fault is flip:  # which only one chunk of the shard feels
                    stop = min(start + unit // (part.array.shards[0] // part.array.chunks[0]), n)
                a, b = rows_of(name, start, stop)
                message = rf"X/{name}, chunk c/{i}: rows {a}:{b} cannot be read: \w+"
                with pytest.raises(daskgd.ChunkError, match=message) as error:
                    found.read(0, N)
                assert str(path) in str(error.value)
                with pytest.raises(daskgd.ChunkError, match=message):
                    found.read(a, b)
                with pytest.raises(daskgd.ChunkError, match=rf"X/{name}, chunk c/{i}: rows \d+:\d+ cannot"):
                    daskgd.Ridge(engine="serial").fit(dataset)
                if fault is lose:
                    with pytest.raises(daskgd.StoreError, match=f"X/{name}: 1 chunks .*c/{i}, rows {a}:{b}"):
                        daskgd.open_dataset(path)
                else:
                    with pytest.raises(daskgd.ChunkError, match=rf"X/{name}, chunk c/{i}"):
                        verify_store(path)
    np.testing.assert_array_equal(daskgd.Ridge(engine="serial").fit(dataset).coef_, expected)
    verify_store(path)


def test_workers_notice(tmp_path: Path, client: Any) -> None:
    """Also of integers, which have no value that cannot be data; and fits have the same bits everywhere."""
    dataset = write(tmp_path / "d", "i4")
    alone = daskgd.Ridge(engine="serial").fit(dataset)
    np.testing.assert_array_equal(daskgd.Ridge().fit(dataset).coef_, alone.coef_)
    for name, fault in zip(SPARSE_PARTS, (flip, lose, flip), strict=True):
        file = tmp_path / "d" / "X" / name / "c" / "1"
        with restored(file):
            fault(file)
            for engine in (None, "threads", "serial"):
                message = rf"{tmp_path}/d/X/{name}, chunk c/1: rows \d+:\d+ cannot be read"
                with pytest.raises(daskgd.ChunkError, match=message):
                    daskgd.Ridge(engine=engine).fit(dataset)
    np.testing.assert_array_equal(daskgd.Ridge().fit(dataset).coef_, alone.coef_)


@pytest.mark.parametrize("part", SPARSE_PARTS)
def test_every_bit_of_a_chunk_counts(tmp_path: Path, part: str) -> None:
    write(tmp_path / "d", codec="none")
    found = column(tmp_path / "d")
    file = tmp_path / "d" / "X" / part / "c" / "1"
    with restored(file) as content:
        for at in range(len(content)):
            damaged = bytearray(content)
            damaged[at] ^= 1 << at % 8
            file.write_bytes(damaged)
            with pytest.raises(daskgd.ChunkError, match=rf"X/{part}, chunk c/1: .*checksum"):
                found.read(0, N)


def model(path: Path) -> list[Any]:
    est = daskgd.LogisticRegression(engine="serial").fit(path)
    return [est.coef_.tobytes(), est.intercept_.tobytes(), est.classes_.tolist(), est.n_features_in_]


def test_no_flip_changes_a_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    X, y, w = data()
    daskgd.write_dataset(tmp_path / "d", X, np.where(y > np.median(y), "yes", "no"), w, chunk_bytes=8000)
    expected = model(tmp_path / "d")
    found = files(tmp_path / "d")
    metadata = [file for file in found if file.name == "zarr.json"]
    assert len(metadata) == 7
    caught = dict.fromkeys(found, 0)
    for _ in range(150):
        file = found[rng.integers(len(found))] if rng.random() < 0.5 else metadata[rng.integers(7)]
        with restored(file) as content:
            file.write_bytes(flipped(content, rng))
            try:
                assert model(tmp_path / "d") == expected, (file, content, file.read_bytes())
            except (daskgd.StoreError, daskgd.ChunkError):
                caught[file] += 1
    assert all(caught.values()), caught  # each file is read
    assert model(tmp_path / "d") == expected


def test_a_sound_chunk_in_the_wrong_place(tmp_path: Path) -> None:
    write(tmp_path / "d")
    indices = tmp_path / "d" / "X" / "indices" / "c"
    (indices / "1").write_bytes((indices / "0").read_bytes())
    with pytest.raises(daskgd.ChunkError, match=r"indices, chunk c/1: .*not the one that was written"):
        daskgd.open_dataset(tmp_path / "d").verify()
    shutil.rmtree(tmp_path / "d" / "survey")
    with pytest.raises(daskgd.StoreError, match="some are not those that were written"):
        daskgd.open_dataset(tmp_path / "d").verify()


@pytest.mark.parametrize("part", SPARSE_PARTS)
def test_a_lost_array_is_missed(tmp_path: Path, part: str) -> None:
    write(tmp_path / "d")
    (tmp_path / "d" / "X" / part).rename(tmp_path / "elsewhere")
    with pytest.raises(daskgd.StoreError, match=f"group X: expected an array {part}, found none"):
        daskgd.open_dataset(tmp_path / "d")


def test_a_changed_shape_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "d")
    file = tmp_path / "d" / "X" / "zarr.json"
    for change, message in [
        ((b"12", b"13"), "altered after"),
        ((b"90", b"91"), "expected 92 numbers"),
        ((b"csr_matrix", b"csr_mytrix"), "encoding-type csr_matrix or csc_matrix, got one with 'csr_mytrix'"),
    ]:
        with restored(file) as content:
            assert change[0] in content
            file.write_bytes(content.replace(*change))
            with pytest.raises(daskgd.StoreError, match=message):
                daskgd.open_dataset(tmp_path / "d")


def test_a_lost_mark_is_missed(tmp_path: Path) -> None:
    write(tmp_path / "d")
    file = tmp_path / "d" / "zarr.json"
    file.write_bytes(file.read_bytes().replace(b'"daskgd"', b'"daskge"'))
    with pytest.raises(daskgd.StoreError, match="the mark of their group is gone"):
        daskgd.open_dataset(tmp_path / "d")


KILLED = """
import os, signal, sys
import numpy as np, scipy.sparse
import daskgd

def blocks():
    for i in range(100):
        if i == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        yield scipy.sparse.csr_array(np.tril(np.ones((50, 30)), -i % 20)), np.zeros(50)

daskgd.write_dataset(sys.argv[1], blocks(), chunk_bytes=2000, overwrite=True)
"""


def test_a_killed_write_leaves_what_was_there(tmp_path: Path) -> None:
    before = write(tmp_path / "d").fingerprint
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "d")], check=False)
    assert ended.returncode == -signal.SIGKILL
    dataset = daskgd.open_dataset(tmp_path / "d")
    assert dataset.fingerprint == before
    dataset.verify()
    (partial,) = tmp_path.glob(".d.*.partial")
    with pytest.raises(daskgd.StoreError, match="half-written"):
        daskgd.open_dataset(partial)


@pytest.mark.parametrize("existing", [False, True])
def test_failure_leaves_nothing(tmp_path: Path, existing: bool) -> None:
    if existing:
        write(tmp_path / "d")

    def blocks() -> Iterator[Any]:
        for a in range(0, N, 10):
            if a == 50:
                raise RuntimeError("no more")
            yield data()[0][a : a + 10]

    with pytest.raises(RuntimeError, match="no more"):
        daskgd.write_dataset(tmp_path / "d", blocks(), chunk_bytes=BYTES, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == (["d"] if existing else [])


def test_at_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a block needs of an array is asked for at once."""
    url = f"memory://{tmp_path.name}/d"
    write(url)  # type: ignore[arg-type]
    write(tmp_path / "d")
    asked: Counter[str] = Counter()
    ask, all_asked = reading.ask_for_object, defaultdict(asyncio.Event)

    async def ask_and_wait(array: Any, i: int) -> Any:
        name = array.basename
        asked[name] += 1
        if asked[name] == -(-array.shape[0] // array.chunks[0]):
            all_asked[name].set()
        await asyncio.wait_for(all_asked[name].wait(), 10)  # what is asked for one by one waits for ever
        return await ask(array, i)

    monkeypatch.setattr(reading, "ask_for_object", ask_and_wait)
    found = column(url)  # type: ignore[arg-type]
    check_equal(found.read(0, N), data()[0])
    assert asked == {part.array.basename: -(-part.shape[0] // part.chunk_rows) for part in found.parts}
    assert found.path.endswith(f"{tmp_path.name}/d/X")
    verify_store(url)
    files = fsspec.filesystem("memory")
    name = f"/{tmp_path.name}/d/X/indices/c/1"
    content = files.cat_file(name)
    files.pipe_file(name, content[:-1] + b"x")
    with pytest.raises(daskgd.ChunkError, match=r"X/indices, chunk c/1: rows \d+:\d+ cannot .*checksum"):
        found.read(0, N)
    files.rm_file(name)
    with pytest.raises(daskgd.ChunkError, match=r"X/indices, chunk c/1: .*FileNotFoundError.*missing"):
        found.read(0, N)
    with pytest.raises(daskgd.StoreError, match=r"X/indices: 1 chunks are missing, the first is c/1, rows"):
        daskgd.open_dataset(url)


# -- stores of others -------------------------------------------------------------------------------


def foreign(path: Path, *, zarr_format: Any = 3, encoding: str = "csr_matrix", **changes: Any) -> zarr.Group:
    X = data("f8")[0]
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format, attributes={"encoding-type": "anndata"})
    inner = group.create_group(
        "X", attributes={"encoding-type": encoding, "encoding-version": "0.1.0", "shape": [N, P]}
    )
    for name in SPARSE_PARTS:
        inner.create_array(name, data=changes.get(name, getattr(X, name)), chunks=(50,))
    return group


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("index", "dtype"), [("i4", "f8"), ("i8", "f4"), ("u2", ">f4"), (">i4", "i8")])
def test_stores_of_anndata(tmp_path: Path, zarr_format: Any, index: str, dtype: str) -> None:
    X, y, _ = data(np.dtype(dtype).newbyteorder("=").str)
    foreign(
        tmp_path / "d",
        zarr_format=zarr_format,
        data=X.data.astype(dtype),
        indices=X.indices.astype(index),
        indptr=X.indptr.astype(index),
    )
    dataset = daskgd.open_dataset(tmp_path / "d", block_bytes=1)
    found = dataset.columns.X
    for a, b in itertools.combinations(range(0, N + 1, 30), 2):
        check_equal(found.read(a, b), X[a:b])
        assert found.read(a, b).indices.dtype == found.read(a, b).indptr.dtype == np.int32
    assert (dataset.fingerprint, dataset.y) == (None, None)
    assert dataset.identity()["X"].count("metadata") == 3
    dataset.verify()
    a, b = (daskgd.Ridge(engine="serial").fit(rows, y) for rows in (dataset, X))
    np.testing.assert_allclose(a.coef_, b.coef_, rtol=1e-5)


def test_entries_of_the_same_place_are_added(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "d", mode="w")
    inner = group.create_group("X", attributes={"encoding-type": "csr_matrix", "shape": [2, 3]})
    for name, values in [("data", [1.0, 2.0, 4.0]), ("indices", [2, 0, 2]), ("indptr", [0, 3, 3])]:
        inner.create_array(name, data=np.array(values))
    found = daskgd.open_dataset(tmp_path / "d").columns.X.read(0, 2)
    assert found.toarray().tolist() == [[2.0, 0.0, 5.0], [0.0, 0.0, 0.0]]
    assert found.n_stored == 2


def changed(part: str, at: int, value: int) -> np.ndarray:
    array: np.ndarray = getattr(data("f8")[0], part).astype("i8").copy()
    array[at] = value
    return array


@pytest.mark.parametrize(
    ("part", "at", "value", "message"),
    [
        ("indices", 100, P, "X/indices: rows .* expected columns from 0 to 11, got 12"),
        ("indices", 100, -1, "X/indices: rows .* expected columns from 0 to 11, got -1"),
        ("indptr", 0, 1, "X/indptr: rows 0:90 .* bounds that rise from 0"),
        ("indptr", 20, 10**9, "X/indptr: rows 0:90 .* bounds that rise"),
        ("indptr", 20, -5, "X/indptr: rows 0:90 .* bounds that rise"),
        ("indptr", N, 3, "X/indptr: rows 0:90 .* bounds that rise"),
    ],
)
def test_what_is_no_rows_is_not_read(tmp_path: Path, part: str, at: int, value: int, message: str) -> None:
    foreign(tmp_path / "d", **{part: changed(part, at, value)})
    found = daskgd.open_dataset(tmp_path / "d").columns.X
    with pytest.raises(daskgd.ChunkError, match=message):
        found.read(0, N)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoding": "csc_matrix"}, "X/indptr: expected 13 numbers, whole ones, got shape"),
        ({"encoding": "dataframe"}, "encoding-type csr_matrix or csc_matrix, got one with 'dataframe'"),
        ({"indptr": np.arange(N)}, "X/indptr: expected 91 numbers, whole ones, got shape"),
        ({"indices": np.zeros(7, "i4")}, r"X/indices: expected \d+ numbers, whole ones, got shape \(7,\)"),
        ({"indices": data()[0].indices.astype("f8")}, "X/indices: .* whole ones, got .* float64"),
        ({"data": data()[0].data.astype("c16")}, "X/data: expected .* got .* complex128"),
        ({"data": data()[0].data.astype("f2")}, "X/data: expected .* got .* float16"),
    ],
)
def test_refused_groups(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    foreign(tmp_path / "d", **changes)
    with pytest.raises(daskgd.StoreError, match=message):
        daskgd.open_dataset(tmp_path / "d")


# -- targets of AnnData -----------------------------------------------------------------------------


def categorical(table: zarr.Group, name: str, codes: Any, categories: Any) -> None:
    column = table.create_group(name, attributes={"encoding-type": "categorical", "ordered": False})
    column.create_array("codes", data=np.asarray(codes))
    kind: Any = str if isinstance(categories[0], str) else "i8"
    values = column.create_array("categories", shape=len(categories), dtype=kind)
    values[:] = np.asarray(categories)


@pytest.fixture
def observed(tmp_path: Path) -> Path:
    group = foreign(tmp_path / "d")
    table = group.create_group("obs", attributes={"encoding-type": "dataframe"})
    codes = (np.arange(N) % 3).astype("i1")
    categorical(table, "kind", codes, ["b", "c", "a"])
    categorical(table, "number", codes, [30, 10, 20])
    categorical(table, "some missing", np.where(np.arange(N) == 77, -1, codes), ["b", "c", "a"])
    categorical(table, "wrong", np.where(np.arange(N) == 5, 9, codes), ["b", "c", "a"])
    table.create_array("age", data=np.arange(N, dtype="f4"))
    table.create_array("short", data=np.arange(3))
    table.create_array("text", shape=N, dtype=str)
    masked = table.create_group("masked", attributes={"encoding-type": "nullable-integer"})
    masked.create_array("values", data=np.arange(N))
    return tmp_path / "d"


@pytest.mark.filterwarnings("ignore:The data type")  # zarr, of text
def test_columns_of_obs_as_targets(observed: Path) -> None:
    X = data("f8")[0]
    for target, labels in [("kind", np.array(["b", "c", "a"])), ("number", np.array([30, 10, 20]))]:
        y = labels[np.arange(N) % 3]
        dataset = daskgd.open_dataset(observed, target=target, block_bytes=1)
        assert dataset.classes.tolist() == sorted(labels.tolist())
        np.testing.assert_array_equal(dataset.classes[dataset.y.compute(scheduler="sync")], y)
        dataset = pickle.loads(pickle.dumps(dataset)) if target == "kind" else dataset
        found = daskgd.LogisticRegression(engine="serial").fit(dataset)
        expected = daskgd.LogisticRegression(engine="serial").fit(X, y)
        np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-4, atol=1e-6)
        assert found.classes_.tolist() == expected.classes_.tolist()
    age = daskgd.open_dataset(observed, target="age")
    assert (age.classes, age.y.compute(scheduler="sync").tolist()) == (None, list(range(N)))
    age.verify()


@pytest.mark.filterwarnings("ignore:The data type")  # zarr, of text
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("absent", r"target as a column of obs \(age, kind, .*\), got 'absent'"),
        ("short", "X has 90 rows, short has 3"),
        ("text", r'obs/text: expected numbers or categories, .* make it categorical, .*astype\("category"\)'),
        ("masked", "obs/masked: expected numbers or categories, got encoding 'nullable-integer'"),
    ],
)
def test_refused_targets(observed: Path, target: str, message: str) -> None:
    with pytest.raises(daskgd.StoreError, match=message):
        daskgd.open_dataset(observed, target=target)


@pytest.mark.parametrize(
    ("target", "message"), [("some missing", "none in row 77"), ("wrong", "9 of 3 in row 5")]
)
def test_rows_without_a_category_are_named(observed: Path, target: str, message: str) -> None:
    dataset = daskgd.open_dataset(observed, target=target)
    with pytest.raises(ValueError, match=f"expected a category in each row, got .*{message}"):
        daskgd.LogisticRegression(engine="serial").fit(dataset)


def test_targets_are_of_stores_of_others(tmp_path: Path) -> None:
    write(tmp_path / "ours")
    with pytest.raises(daskgd.StoreError, match="target=None, got 'kind': daskgd wrote this dataset"):
        daskgd.open_dataset(tmp_path / "ours", target="kind")
    foreign(tmp_path / "d")
    with pytest.raises(daskgd.StoreError, match="target=None, got 'kind': it is a column of obs"):
        daskgd.open_dataset(tmp_path / "d", target="kind")
