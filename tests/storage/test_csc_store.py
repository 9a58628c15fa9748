"""Stores whose X is a csc_matrix: rows of the csr twin, in planned memory, damage found and named."""

from __future__ import annotations

import gc
import logging
import pickle
import signal
import subprocess
import sys
import tracemalloc
from io import FileIO
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import restored

import daskgd
from daskgd.data.by_columns import ColumnsFirst
from daskgd.rows.sparse import Sparse
from daskgd.storage import transposition
from daskgd.storage.csc_reading import StoredCsc
from daskgd.storage.opening import open_store
from daskgd.storage.reading import StoredColumn
from daskgd.storage.transposition import all_rows, row_blocks, rows_nbytes, transposition_nbytes
from tests.sparse_rows import sparse_array
from tests.tiers import slow_but, slow_but_every

N, P, CHUNK = 90, 12, 50


def rows(dtype: str = "f8", n: int = N, p: int = P, density: float = 0.3) -> sp.csr_array:
    """Rows and columns of which some, the first and the last among them, have no entries."""
    X = sparse_array(n, p, density, np.random.default_rng(0)).toarray()
    X[[0, 5, n - 1]] = X[:, [0, 3, p - 1]] = 0
    return sp.csr_array((X * 100).astype(dtype))


def store(path: Path, X: Any, *, zarr_format: Any = 3, chunk: int = CHUNK, **changes: Any) -> zarr.Group:
    """X as AnnData writes it, a csr or a csc array; `changes` are other arrays than its own."""
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format, attributes={"encoding-type": "anndata"})
    kind = {"encoding-type": f"{X.format}_matrix", "encoding-version": "0.1.0", "shape": list(X.shape)}
    inner = group.create_group("X", attributes=kind)
    for name in ("data", "indices", "indptr"):
        inner.create_array(name, data=np.asarray(changes.get(name, getattr(X, name))), chunks=(chunk,))
    return group


def stored(path: Path) -> StoredCsc:
    found = open_store(path).X
    assert isinstance(found, StoredCsc)
    return found


def twins(folder: Path, chunk: int = 5) -> tuple[daskgd.Dataset, daskgd.Dataset]:
    """The same rows, targets and weights in both encodings."""
    X, rng = rows(), np.random.default_rng(1)
    y, w = (X.sum(axis=1) + rng.normal(size=N) > np.median(X.sum(axis=1))).astype("i8"), rng.random(N)
    for kind in ("csr", "csc"):
        group = store(folder / kind, X.asformat(kind), chunk=chunk)
        group.create_array("y", data=y)
        group.create_array("sample_weight", data=w)
    csr, csc = (daskgd.open_dataset(folder / kind, block_bytes=1000) for kind in ("csr", "csc"))
    return csr, csc


def joined(blocks: Any) -> Sparse:
    first, *others = blocks
    return first.concat(*others)


def check_equal(found: Sparse, expected: sp.csr_array) -> None:
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    for a, name in zip(found.arrays, ("data", "indices", "indptr"), strict=True):
        np.testing.assert_array_equal(a, getattr(expected, name))


# -- the rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zarr_format", "index", "dtype"),
    slow_but_every(3, [2, 3], ["i4", "i8", "u2", ">i4"], ["f8", ">f4", "?"]),
)
def test_rows_are_those_of_the_csr_twin(tmp_path: Path, zarr_format: Any, index: str, dtype: str) -> None:
    X = rows(np.dtype(dtype).newbyteorder("=").str)
    C = X.tocsc()
    parts = {name: getattr(C, name).astype(index) for name in ("indices", "indptr")}
    store(tmp_path / "d", C, zarr_format=zarr_format, data=C.data.astype(dtype), **parts)
    found = stored(tmp_path / "d")
    check_equal(all_rows(found), X)
    for most_bytes in (1, 3000, rows_nbytes(found)):
        check_equal(joined(row_blocks(found, most_bytes, str(tmp_path))), X)
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
    daskgd.open_dataset(tmp_path / "d").verify()


@settings(max_examples=12, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 8)),
    places=st.lists(st.integers(0, 319), max_size=80),
    most_bytes=st.integers(1, 4000),
    chunk=st.integers(1, 60),
    dtype=st.sampled_from(["f4", "f8", "i2", "?"]),
)
def test_entries_in_any_order_and_twice_are_taken_as_scipy_does(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int],
    places: list[int],
    most_bytes: int,
    chunk: int,
    dtype: str,
) -> None:
    n, p = shape
    rng = np.random.default_rng(len(places))
    columns = np.sort(np.array(places, "i8") % p)
    indices = rng.integers(0, min(n, 3 + most_bytes % n), len(places))  # few rows: many entries of a place
    values = (rng.normal(size=len(places)) * 10.0 ** rng.integers(-3, 4, len(places))).astype(dtype)
    indptr = np.searchsorted(columns, np.arange(p + 1))
    path = tmp_path_factory.mktemp("csc") / "d"
    store(path, sp.csc_array(shape, dtype=dtype), chunk=chunk, data=values, indices=indices, indptr=indptr)
    expected = sp.csc_array((values, indices, indptr), shape=shape).tocsr()
    expected.sum_duplicates()
    found = stored(path)
    for some in (joined(row_blocks(found, most_bytes)), all_rows(found)):
        check_equal(some, expected)


def test_many_rows_are_counted_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transposition, "MOST_GROUPS", 7)
    X = rows()
    store(tmp_path / "d", X.tocsc())
    check_equal(joined(row_blocks(stored(tmp_path / "d"), 2000)), X)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (2000, 2)])
def test_no_entries(tmp_path: Path, shape: tuple[int, int]) -> None:
    X = sp.csr_array(shape)
    store(tmp_path / "d", X.tocsc())
    for most_bytes in (1, 10**8):
        check_equal(joined(row_blocks(stored(tmp_path / "d"), most_bytes)), X)


@pytest.mark.parametrize("chunks", [(50, 50), (30, 70), (7, 1000)])
def test_chunks_are_read_once_and_those_of_row_numbers_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunks: tuple[int, int]
) -> None:
    C = rows().tocsc()
    group = store(tmp_path / "d", C)
    for name, size in zip(("indices", "data"), chunks, strict=True):
        group["X"].create_array(name, data=getattr(C, name), chunks=(size,), overwrite=True)
    found, read = stored(tmp_path / "d"), []
    monkeypatch.setattr(
        StoredColumn,
        "read",
        lambda part, a, b, plain=StoredColumn.read: (
            read.extend((part.path[-4:], i) for i in range(a // part.chunk_rows, -(-b // part.chunk_rows))),
            plain(part, a, b),
        )[1],
    )
    for most_bytes, times in ((1, 2), (rows_nbytes(found) // 3, 2), (rows_nbytes(found), 1)):
        read.clear()
        joined(row_blocks(found, most_bytes))
        assert {i for name, i in read if name == "data"} == set(range(-(-C.nnz // chunks[1])))
        assert all(read.count(one) == (times if one[0] == "ices" else 1) for one in read)


def test_memory_is_what_was_planned(tmp_path: Path) -> None:
    n, p, per = 200_000, 100, 8000
    rng = np.random.default_rng(0)
    indices = np.concatenate([np.sort(rng.choice(n, per, replace=False)) for _ in range(p)]).astype("i4")
    C = sp.csc_array((np.ones(p * per, "f4"), indices, np.arange(0, p * per + 1, per)), shape=(n, p))
    store(tmp_path / "d", C, chunk=10_000)
    found, most_bytes = stored(tmp_path / "d"), 4_000_000
    planned = transposition_nbytes(found, most_bytes)
    assert planned < rows_nbytes(found) / 2
    next(row_blocks(found, most_bytes))  # imports
    tracemalloc.start()
    try:
        stored_entries = sum(block.n_stored for block in row_blocks(found, most_bytes))
        assert tracemalloc.get_traced_memory()[1] < planned
    finally:
        tracemalloc.stop()
    assert stored_entries == C.nnz


# -- datasets -----------------------------------------------------------------------------------------

HELD, SPOOLED = "512 MB", "2 kB"


@pytest.fixture(params=slow_but([HELD, SPOOLED], SPOOLED))
def scratch(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A folder of temporary stores, with enough memory to make all rows at once, or with too little."""
    (tmp_path / "scratch").mkdir()
    config = {
        "daskgd.transpose-bytes": request.param,
        "daskgd.temporary-directory": str(tmp_path / "scratch"),
    }
    with dask.config.set(config):
        yield tmp_path / "scratch"


BOTH = pytest.mark.parametrize("scratch", slow_but([HELD, SPOOLED], SPOOLED), indirect=True)


FITS = {
    "newton": daskgd.LogisticRegression(),
    "lbfgs": daskgd.LogisticRegression(solver="lbfgs"),
    "gram": daskgd.Ridge(),
}


@BOTH
@pytest.mark.parametrize("name", slow_but(FITS, "newton"))
def test_fits_have_the_bits_of_the_csr_twin(name: str, tmp_path: Path, scratch: Path) -> None:
    est = FITS[name]
    csr, csc = twins(tmp_path)
    assert csr.layout == csc.layout
    assert csr.layout.n_blocks > 2
    parts = [(csr, csc), *zip(csr.train_test_split(0.3), csc.train_test_split(0.3), strict=True)]
    for engine in ("serial", "threads"):
        for a, b in parts:
            expected, found = (type(est)(**{**est.get_params(), "engine": engine}).fit(d) for d in (a, b))
            np.testing.assert_array_equal(found.coef_, expected.coef_)
            assert found.score(b) == expected.score(a)
            np.testing.assert_array_equal(found.predict(b), expected.predict(a))
    assert len(list(scratch.iterdir())) == (dask.config.get("daskgd.transpose-bytes") == SPOOLED)


def test_and_on_a_cluster(tmp_path: Path, scratch: Path, client: Any) -> None:
    csr, csc = twins(tmp_path)
    alone = daskgd.LogisticRegression(engine="serial").fit(csr)
    for travel_bytes in ("64 MB", 0):
        with dask.config.set({"daskgd.travel-bytes": travel_bytes}):
            found = daskgd.LogisticRegression().fit(csc)
            np.testing.assert_array_equal(found.coef_, alone.coef_)
    assert found.score(csc) == alone.score(csr)
    np.testing.assert_array_equal(found.predict(csc), alone.predict(csr))


@BOTH
def test_rows_are_made_once_and_it_is_said(
    tmp_path: Path, scratch: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "daskgd")
    _, csc = twins(tmp_path, 20)
    held = dask.config.get("daskgd.transpose-bytes") == HELD
    model = daskgd.LogisticRegression(engine="serial").fit(csc)
    train = csc.train_test_split(0.5)[0]
    model.fit(train).score(csc)
    lazy = csc.X
    (message,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"{tmp_path}/csc/X: stored by columns (csc_matrix)" in message
    assert ("in memory" if held else f"in the temporary store {scratch}/daskgd-") in message
    assert f"daskgd.write_dataset(path, daskgd.open_dataset('{tmp_path}/csc'))" in message
    del csc, train, model
    gc.collect()
    assert (lazy.compute(scheduler="sync") != rows()).nnz == 0  # which keeps them
    del lazy
    gc.collect()
    assert not list(scratch.iterdir())


def test_converting_is_the_same_dataset(
    tmp_path: Path, scratch: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "daskgd")
    csr, csc = twins(tmp_path)
    some = [dataset.train_test_split(0.4)[0] for dataset in (csr, csc)]
    for name, a, b in [("all", csr, csc), ("some", *some)]:
        found = []
        for kind, dataset in (("csr", a), ("csc", b)):
            daskgd.write_dataset(tmp_path / name / kind, dataset, chunk_bytes=800)
            found.append(daskgd.open_dataset(tmp_path / name / kind).fingerprint)
        assert found[0] == found[1]
    lazy = daskgd.as_dataset(tmp_path / "csc", csr.y + 0.5)
    daskgd.write_dataset(tmp_path / "other", lazy, chunk_bytes=800)
    np.testing.assert_array_equal(daskgd.open_dataset(tmp_path / "other").y, csr.y + 0.5)
    assert "stored by columns" not in caplog.text
    assert not list(scratch.iterdir())


def test_what_it_says_of_itself(tmp_path: Path, scratch: Path) -> None:
    csr, csc = twins(tmp_path)
    assert repr(csc) == repr(csr).replace("/csr>", "/csc>")
    a, b = csr.info(), csc.info()
    assert b.pop("encoding") == "csc_matrix"
    assert {**a, "path": None} == {**b, "path": None}
    assert csc.identity()["X"].startswith(f"by columns, {N} columns; metadata ")
    assert csc.identity()["blocks"] == csr.identity()["blocks"]
    X = pickle.loads(pickle.dumps(csc)).columns.X
    assert isinstance(X, ColumnsFirst)
    assert X.identity() == csc.columns.X.identity()
    plan = daskgd.LogisticRegression().plan(csc)
    held = dask.config.get("daskgd.transpose-bytes") == HELD
    assert plan.placement == ("held in memory" if held else "spooled to a temporary store")
    twin = daskgd.LogisticRegression().plan(csr)
    assert plan.driver_bytes == twin.driver_bytes + csc.columns.X.transposition_nbytes
    assert (plan.n_blocks, plan.task_bytes) == (twin.n_blocks, twin.task_bytes)
    assert not csc.columns.X.has_rows


def test_resumed(tmp_path: Path, scratch: Path) -> None:
    csr, csc = twins(tmp_path)
    folder, est = tmp_path / "run", daskgd.LogisticRegression(solver="lbfgs", engine="serial", tol=1e-9)
    expected = est.fit(csr)
    short = daskgd.LogisticRegression(**{**est.get_params(), "max_iter": 3})
    with pytest.warns(match="max_iter"):
        short.fit(csc, checkpoint=folder)
    again = daskgd.open_dataset(tmp_path / "csc", block_bytes=1000)
    found = daskgd.LogisticRegression(**est.get_params()).fit(again, checkpoint=folder)
    np.testing.assert_array_equal(found.coef_, expected.coef_)


def test_targets_of_obs(tmp_path: Path, scratch: Path) -> None:
    group = store(tmp_path / "d", rows().tocsc())
    table = group.create_group("obs", attributes={"encoding-type": "dataframe"})
    table.create_array("age", data=np.arange(N, dtype="f4"))
    found = daskgd.Ridge(engine="serial").fit(daskgd.open_dataset(tmp_path / "d", target="age"))
    expected = daskgd.Ridge(engine="serial").fit(rows(), np.arange(N, dtype="f4"))
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-9)


def test_too_little_memory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, csc = twins(tmp_path)
    monkeypatch.setattr("daskgd.engines.placement.free_memory", lambda client: 1024)
    with pytest.raises(ValueError, match=r"transpose-bytes: making rows of .*csc/X.* 1.00 kiB are free"):
        daskgd.Ridge(engine="serial").fit(csc)
    with (
        dask.config.set({"daskgd.transpose-bytes": 0}),
        pytest.raises(ValueError, match=r"daskgd.transpose-bytes: expected at least 1 byte, got 0"),
    ):
        daskgd.Ridge(engine="serial").fit(csc)


# -- damage -------------------------------------------------------------------------------------------


def columns_with(first: int, stop: int) -> tuple[int, int]:
    """The columns that have some of the entries, found one by one."""
    indptr = rows().tocsc().indptr
    at = [j for j in range(P) if set(range(indptr[j], indptr[j + 1])) & set(range(first, stop))]
    return at[0], at[-1] + 1


@pytest.mark.parametrize("part", ["data", "indices", "indptr"])
def test_a_chunk_that_is_cut_is_named(tmp_path: Path, scratch: Path, part: str) -> None:
    _, csc = twins(tmp_path, CHUNK)
    chunk = 0 if part == "indptr" else 1
    a, b = (0, P) if part == "indptr" else columns_with(CHUNK, 2 * CHUNK)
    file = tmp_path / "csc" / "X" / part / "c" / str(chunk)
    message = rf"csc/X/{part}, chunk c/{chunk}: columns {a}:{b} cannot be read: "
    with restored(file) as content:
        file.write_bytes(content[: len(content) // 2])
        for call in (daskgd.Ridge(engine="serial").fit, daskgd.Ridge(engine="threads").fit):
            with pytest.raises(daskgd.ChunkError, match=message):
                call(csc)
        with pytest.raises(daskgd.ChunkError, match=message):
            daskgd.write_dataset(tmp_path / "out", csc)
        with pytest.raises(daskgd.ChunkError, match=message):
            csc.verify()
    assert not list(scratch.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["csc", "csr", "scratch"]
    daskgd.Ridge(engine="serial").fit(csc)


def test_a_lost_chunk_of_row_numbers_is_named(
    tmp_path: Path, scratch: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """zarr reads 0 there, which would be several entries of the first row."""
    caplog.set_level(logging.WARNING, "daskgd")
    twins(tmp_path, CHUNK)
    (tmp_path / "csc" / "X" / "indices" / "c" / "1").unlink()
    csc = daskgd.open_dataset(tmp_path / "csc")
    assert "X/indices: 1 chunks are not stored (the first is c/1)" in caplog.text
    a, b = columns_with(CHUNK, 2 * CHUNK)
    message = rf"X/indices, chunk c/1: columns {a}:{b} cannot be read: the chunk is missing"
    with pytest.raises(daskgd.ChunkError, match=message):
        daskgd.Ridge(engine="serial").fit(csc)


def test_a_lost_chunk_of_bounds_is_named(tmp_path: Path, scratch: Path) -> None:
    twins(tmp_path, 5)
    (tmp_path / "csc" / "X" / "indptr" / "c" / "1").unlink()
    message = "X/indptr, chunk c/1: columns 4:10 cannot be read: the chunk is missing"
    with pytest.raises(daskgd.ChunkError, match=message):
        daskgd.Ridge(engine="serial").fit(daskgd.open_dataset(tmp_path / "csc"))


def changed(part: str, at: int, value: int) -> np.ndarray:
    array: np.ndarray = getattr(rows().tocsc(), part).astype("i8")
    array[at] = value
    return array


@pytest.mark.parametrize(
    ("part", "at", "value", "message"),
    [
        ("indices", 100, N, r"X/indices: columns \d+:\d+ .* expected rows from 0 to 89, got 90"),
        ("indices", 100, -1, r"X/indices: columns \d+:\d+ .* expected rows from 0 to 89, got -1"),
        ("indptr", 0, 1, "X/indptr: columns 0:12 .* bounds that rise from 0"),
        ("indptr", 5, 10**9, "X/indptr: columns 0:12 .* bounds that rise"),
        ("indptr", 5, -5, "X/indptr: columns 0:12 .* bounds that rise"),
        ("indptr", P, 3, "X/indptr: columns 0:12 .* bounds that rise"),
    ],
)
def test_what_is_no_columns_is_not_read(
    tmp_path: Path, scratch: Path, part: str, at: int, value: int, message: str
) -> None:
    store(tmp_path / "d", rows().tocsc(), **{part: changed(part, at, value)})
    with pytest.raises(daskgd.ChunkError, match=message):
        daskgd.Ridge(engine="serial").fit(daskgd.open_dataset(tmp_path / "d"), np.zeros(N))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"indptr": np.arange(N + 1)}, "X/indptr: expected 13 numbers, whole ones, got shape"),
        ({"indices": np.zeros(7, "i4")}, r"X/indices: expected \d+ numbers, whole ones, got shape \(7,\)"),
        ({"data": np.zeros(7)}, r"X/indices: expected 7 numbers, whole ones, got shape"),
        ({"data": rows().tocsc().data.astype("f2")}, "X/data: expected .* got .* float16"),
    ],
)
def test_lengths_and_kinds_that_do_not_match(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    store(tmp_path / "d", rows().tocsc(), **changes)
    with pytest.raises(daskgd.StoreError, match=message):
        daskgd.open_dataset(tmp_path / "d")


def test_the_temporary_file_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(tmp_path / "d", rows().tocsc())
    read = transposition._Ranges.read

    def damaged(ranges: Any, i: int) -> Any:
        ranges.file.seek(40)
        ranges.file.write(b"x")
        return read(ranges, i)

    monkeypatch.setattr(transposition._Ranges, "read", damaged)
    with pytest.raises(daskgd.ChunkError, match="the temporary file does not hold what was written"):
        joined(row_blocks(stored(tmp_path / "d"), 2000))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_a_full_disk_is_named(tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, csc = twins(tmp_path)
    monkeypatch.setattr(transposition.tempfile, "TemporaryFile", lambda **_: FileIO("/dev/full", "r+"))
    if dask.config.get("daskgd.transpose-bytes") == SPOOLED:
        with pytest.raises(OSError, match="No space left") as error:
            daskgd.Ridge(engine="serial").fit(csc)
        assert f"{scratch}: a temporary file of 3.42 kiB" in "".join(error.value.__notes__)
        assert not list(scratch.iterdir())


KILLED = """
import os, signal, sys
import dask, numpy as np
import daskgd
from daskgd.storage import transposition

read, left = transposition._Ranges.read, int(sys.argv[3])

def killing(ranges, i):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(ranges, i)

transposition._Ranges.read = killing
config = {"daskgd.transpose-bytes": 2000, "daskgd.temporary-directory": f"{sys.argv[1]}/scratch"}
with dask.config.set(config):
    csc = daskgd.open_dataset(f"{sys.argv[1]}/csc")
    if sys.argv[2] == "write":
        daskgd.write_dataset(f"{sys.argv[1]}/out", csc, chunk_bytes=100)
    else:
        daskgd.Ridge(engine="serial").fit(csc)
"""


@pytest.mark.parametrize("what", slow_but(["write", "fit"], "write"))
def test_a_killed_transposition_leaves_nothing_that_can_be_read(tmp_path: Path, what: str) -> None:
    twins(tmp_path)
    (tmp_path / "scratch").mkdir()
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), what, "2"], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    left = [*tmp_path.glob(".out.*"), *(tmp_path / "scratch").glob("*/*")]
    assert left
    for path in left:
        with pytest.raises(daskgd.StoreError, match="half-written"):
            daskgd.open_dataset(path)


def test_a_read_that_fails_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(tmp_path / "d", rows().tocsc())
    read, failed = StoredColumn.read, []

    def failing(part: StoredColumn, a: int, b: int) -> Any:
        if part.path not in failed:
            failed.append(part.path)
            raise OSError(5, "Input/output error")
        return read(part, a, b)

    monkeypatch.setattr(StoredColumn, "read", failing)
    monkeypatch.setattr("daskgd.storage.retry.FIRST_WAIT", 0.0)
    check_equal(joined(row_blocks(stored(tmp_path / "d"), 2000)), rows())
    assert len(failed) == 3
