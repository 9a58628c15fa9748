"""Categories on disk: codes as codes, every source alike, every damage found and named by its rows."""

from __future__ import annotations

import itertools
import json
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import fsspec
import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import files, flipped, restored

import daskgd
from daskgd.monitoring.events import Swept
from daskgd.rows.categorical import Categorical
from daskgd.rows.dictionaries import Dictionary
from daskgd.rows.features import Features
from daskgd.rows.layout import Layout
from daskgd.rows.stacked import Stacked
from daskgd.storage import access
from daskgd.storage.categorical_reading import StoredCategoricalColumn
from daskgd.storage.commit import verify_store
from daskgd.storage.opening import open_store
from tests.sparse_rows import sparse_array
from tests.tiers import slow_but, slow_but_every

N, Q = 90, 2
SIZES = [4, 6, 400, 3]
COLUMNS = ["colour", "size", "word", "level"]
CATEGORIES: list[Any] = [
    ["red", "blue", "grün", ""],  # of which the last never occurs
    6,
    [f"word-{i:03d}-\N{SNOWMAN}" for i in range(400)],  # too long for the attributes
    np.array([0.1, np.nan, 2.5], "f4"),
]
NUMBERS = ("none", "dense", "sparse")
ROW_BYTES = 4 * len(SIZES) + 4 * Q
BYTES = 16 * ROW_BYTES
"""Of a chunk: 16 rows, of float32 and indices of 32 bits."""


def codes() -> np.ndarray:
    """Codes of which a tenth is missing, those of one row all."""
    rng = np.random.default_rng(0)
    found = np.stack([rng.integers(0, m, N) for m in SIZES], axis=1)
    found[:, 0] %= 3
    found[rng.random(found.shape) < 0.1] = -1
    found[40] = -1
    return found


def rows(numbers: str = "dense", dtype: str = "f4", **changes: Any) -> daskgd.OneHot:
    rng = np.random.default_rng(1)
    beside: Any = {
        "none": None,
        "dense": pd.DataFrame(rng.integers(-9, 9, (N, Q)).astype(dtype), columns=["a", "b"]),
        "sparse": sparse_array(N, Q, 0.5, rng, dtype),
    }[numbers]
    given = {"categories": CATEGORIES, "columns": COLUMNS, "numeric": beside, "dtype": dtype}
    return daskgd.OneHot(codes(), **given | changes)


def targets() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    return (codes()[:, 0] + rng.normal(size=N) > 0).astype(int) + rng.normal(size=N), rng.random(N)


def write(path: Any, numbers: str = "dense", dtype: str = "f4", **storing: Any) -> daskgd.Dataset:
    """A dataset of several chunks."""
    daskgd.write_dataset(path, rows(numbers, dtype), *targets(), **{"chunk_bytes": BYTES, **storing})
    return daskgd.open_dataset(path)


def in_blocks(dataset: daskgd.Dataset) -> daskgd.Dataset:
    """The same in blocks of a chunk, which as wide as this would be larger."""
    return dataset.replace(layout=Layout(dataset.layout.n_rows, 16, 2))


def column(path: Any) -> StoredCategoricalColumn:
    found = open_store(path).X
    assert isinstance(found, StoredCategoricalColumn)
    return found


def in_memory(dataset: daskgd.Dataset, X: daskgd.OneHot, *others: Any) -> daskgd.Dataset:
    """The same rows in memory, in the same blocks."""
    return daskgd.as_dataset(X, *others).replace(layout=dataset.layout)


def check_equal(found: Features, expected: Features) -> None:
    assert (type(found), found.dtype, found.shape) == (type(expected), expected.dtype, expected.shape)
    for a, b in zip(found.arrays, expected.arrays, strict=True):
        assert a.dtype == b.dtype
        if isinstance(found, Categorical) or a.ndim == 2:
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(found.toarray(), expected.toarray())


# -- round trips ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "dtype", "codec", "shards"),
    slow_but_every(8, NUMBERS, ["f8", "f4", "i1", "?"], ["lz4", "zstd", "none"], [None, 2]),
)
def test_every_kind_dtype_and_codec(
    tmp_path: Path, numbers: str, dtype: str, codec: str, shards: int | None
) -> None:
    dataset = write(tmp_path / "d", numbers, dtype, codec=codec, shards=shards)
    X = rows(numbers, dtype)
    expected = X.features.astype(np.dtype("u1" if dtype == "?" else dtype))
    found = column(tmp_path / "d")
    assert isinstance(found.read(0, N), Categorical if numbers == "none" else Stacked)
    for a, b in itertools.combinations(range(0, N + 1, 9), 2):
        check_equal(found.read(a, b), expected.slice(a, b))
    check_equal(found.read(5, 5), expected.slice(5, 5))
    assert found.nbytes == expected.nbytes
    assert dataset.feature_names == tuple(X.feature_names or ())
    assert list(dataset.categories or {}) == COLUMNS
    np.testing.assert_array_equal(dataset.y.compute(), targets()[0])
    dataset.verify()
    again = daskgd.OneHot(codes(), list((dataset.categories or {}).values()), columns=COLUMNS)
    assert again.feature_names == list(dataset.feature_names or ())[Q if numbers != "none" else 0 :]


def test_what_is_on_disk(tmp_path: Path) -> None:
    write(tmp_path / "d")
    group = zarr.open_group(tmp_path / "d", mode="r")
    stored = group["codes"]
    assert (stored.shape, stored.dtype, stored.chunks) == ((N, 4), np.int16, (16, 4))
    np.testing.assert_array_equal(stored[:], codes())
    assert stored.fill_value == -(2**15)  # a lost chunk is never a code, nor one that is missing
    np.testing.assert_array_equal(group["X"][:], rows().features.toarray()[:, :Q])
    assert group["X"].chunks[0] == group["y"].chunks[0] == 16
    said: Any = group["categories"].attrs.asdict()
    assert said["dtype"] == "float32"
    assert said["columns"] == [
        {"name": "colour", "n_categories": 4, "categories": CATEGORIES[0]},
        {"name": "size", "n_categories": 6},
        {"name": "word", "n_categories": 400, "stored": ["ends", "text"]},
        {"name": "level", "n_categories": 3, "stored": ["values"]},
    ]
    text = group["categories/2/text"][:].tobytes().decode()
    assert text == "".join(CATEGORIES[2])
    assert group["categories/2/ends"][-1] == len(text.encode())
    assert group.attrs["daskgd"]["format"] == 2  # earlier versions of daskgd refuse it
    assert group.attrs["daskgd"]["feature_names"] == ["a", "b"]


@pytest.mark.parametrize(("most", "dtype"), [(128, "i1"), (129, "i2"), (2**15, "i2"), (2**15 + 1, "i4")])
def test_codes_take_the_smallest_integers(tmp_path: Path, most: int, dtype: str) -> None:
    given = np.array([[0, most - 1], [-1, -1], [2, 0]])
    daskgd.write_dataset(tmp_path / "d", daskgd.OneHot(given, [3, most]))
    assert zarr.open_array(tmp_path / "d" / "codes", mode="r").dtype == dtype
    np.testing.assert_array_equal(column(tmp_path / "d").read(0, 3).codes, given)
    assert daskgd.open_dataset(tmp_path / "d").feature_names is None  # nothing was named


def test_many_categories_are_no_json(tmp_path: Path) -> None:
    n = 200_000
    X = daskgd.OneHot([[0], [n - 1]], [[str(i) for i in range(n)]], columns=["id"])
    daskgd.write_dataset(tmp_path / "d", X, chunk_bytes=1_000_000)
    assert sum(f.stat().st_size for f in files(tmp_path / "d") if f.name == "zarr.json") < 20_000
    dataset = daskgd.open_dataset(tmp_path / "d")
    assert dataset.feature_names is not None
    assert dataset.feature_names[:: n - 1] == ("id_0", "id_199999")
    assert len(pickle.dumps(dataset.columns)) < 10_000
    assert dataset.info()["n_categories"] == {"id": n}
    dataset.verify()


@pytest.mark.parametrize(
    "values",
    [[1, 2, 3], [True, False], [2**70, -5, 0], np.arange(5000), np.linspace(0, 1, 3), [], ["\ud800", "a\0"]],
)
def test_categories_come_back(tmp_path: Path, values: Any) -> None:
    X = daskgd.OneHot([[-1, 0]], [values, 2], columns=["u", "v"])
    daskgd.write_dataset(tmp_path / "d", X)
    dataset = daskgd.open_dataset(tmp_path / "d")
    assert dataset.categories == {"u": list(values), "v": 2}
    assert dataset.feature_names == tuple(X.feature_names or ())


def test_what_it_says_of_itself(tmp_path: Path) -> None:
    dataset = write(tmp_path / "d")
    facts = dataset.info()
    assert (facts["n_stored"], facts["reader"], facts["dtype"]) == (N * (4 + Q), "daskgd", "float32")
    assert facts["n_categories"] == dict(zip(COLUMNS, SIZES, strict=True))
    assert json.loads(json.dumps(facts))["nbytes"] == N * (ROW_BYTES + 16)
    assert "90 rows x 415 features of float32, " in repr(dataset)
    assert ", 4 categorical columns, y float64, weighted at " in repr(dataset)
    assert "colour: 4, size: 6, word: 400" in dataset._repr_html_()
    found = column(tmp_path / "d")
    assert repr(found) == f"<StoredCategoricalColumn: float32 {(N, 415)}, 4 of codes, at {tmp_path}/d/codes>"
    again = pickle.loads(pickle.dumps(found))
    check_equal(again.read(3, 30), rows().features.slice(3, 30))
    assert again.identity() == found.identity()
    assert dataset.identity()["X"] == f"fingerprint {dataset.fingerprint}"
    write(tmp_path / "other", dtype="f8")
    assert column(tmp_path / "other").identity() != found.identity()


def test_another_process_knows_whose_rows_they_are(tmp_path: Path) -> None:
    dataset = write(tmp_path / "d")
    sent, all_of_it = pickle.dumps(column(tmp_path / "d")), pickle.dumps(dataset)
    access._seen.clear()
    check_equal(pickle.loads(sent).read(3, 30), rows().features.slice(3, 30))
    access._seen.clear()
    assert pickle.loads(all_of_it).feature_names == tuple(rows().feature_names or ())
    write(tmp_path / "d", dtype="f8", overwrite=True)
    access._seen.clear()
    for read in (pickle.loads(sent).check_access, lambda: pickle.loads(all_of_it).feature_names):
        with pytest.raises(access.AccessError, match=f"{tmp_path}/d is not the same .* expected fingerprint"):
            read()


def sources(numbers: str) -> dict[str, tuple[Any, ...]]:
    """The same rows in many guises."""
    X, (y, w) = rows(numbers), targets()
    stored = X[:0], y[:0], w[:0]
    return {
        "in memory": (X, y, w),
        "blocks": ([(X[a : a + 7], y[a : a + 7], w[a : a + 7]) for a in range(0, N, 7)],),
        "blocks, some of them empty": (iter([stored, (X[:50], y[:50], w[:50]), (X[50:], y[50:], w[50:])]),),
        "dask beside it": (X, da.from_array(y, chunks=33), da.from_array(w, chunks=50)),
        "a dataset": (daskgd.as_dataset(X, y, w),),
        "a lazy dataset": (daskgd.as_dataset(X, da.from_array(y, chunks=33), w),),
    }


@pytest.mark.parametrize("numbers", slow_but(NUMBERS, "sparse"))
@pytest.mark.parametrize("shards", slow_but([None, 3], None))
def test_all_sources_agree(tmp_path: Path, shards: int | None, numbers: str) -> None:
    found = set()
    for name, (X, *others) in sources(numbers).items():
        daskgd.write_dataset(tmp_path / name, X, *others, chunk_bytes=BYTES, shards=shards)
        found.add(open_store(tmp_path / name).fingerprint)
        check_equal(column(tmp_path / name).read(0, N), rows(numbers).features)
    daskgd.write_dataset(
        tmp_path / "copy", daskgd.open_dataset(tmp_path / "blocks"), chunk_bytes=BYTES, shards=shards
    )
    found.add(open_store(tmp_path / "copy").fingerprint)
    assert len(found) == 1


@settings(max_examples=6, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 40), max_size=8),
    chunk_bytes=st.integers(100, 3000),
    numbers=st.sampled_from(NUMBERS),
)
def test_any_blocks_are_the_same_dataset(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], chunk_bytes: int, numbers: str
) -> None:
    X, (y, _) = rows(numbers), targets()
    folder = tmp_path_factory.mktemp("blocks")
    ends = [0, *np.minimum(np.cumsum(sizes), N).tolist(), N] if sizes else [0, N]
    blocks = [(X[a:b], y[a:b]) for a, b in itertools.pairwise(ends)]
    daskgd.write_dataset(folder / "a", iter(blocks), chunk_bytes=chunk_bytes)
    daskgd.write_dataset(folder / "b", X, y, chunk_bytes=chunk_bytes)
    assert open_store(folder / "a").fingerprint == open_store(folder / "b").fingerprint
    verify_store(folder / "a")


X0 = rows("none")[:4]


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (
            ([X0, rows("none", categories=[5, *CATEGORIES[1:]])],),
            ValueError,
            "block 1 of X: .* categories",
        ),
        (([X0, np.eye(4)],), ValueError, "block 1 of X: expected the columns and categories of block 0"),
        (([np.eye(4), X0],), ValueError, "block 1 of X: expected the columns and categories of block 0"),
        (([rows("sparse", columns=None), rows("sparse")],), ValueError, "block 1 of X: .* categories"),
        (([X0, rows("none", "f8")],), ValueError, "block 1 of X: expected rows of .* float32, .* float64"),
        (
            (rows(columns=["a", "a", "b", "c"]),),
            ValueError,
            "columns: .* distinct names .* 'a' twice",
        ),
        (
            (daskgd.OneHot([[0]], [["a", 1]]),),
            TypeError,
            "'x0' to be all text .* and whole numbers",
        ),
        (
            (daskgd.OneHot([[0]], [["a", None]]),),
            TypeError,
            r"numbers or bool in column 'x0', got None",
        ),
        ((daskgd.OneHot([[0]], [pd.to_datetime(["2020"])]),), TypeError, r"Timestamp; .*astype\(str\)"),
        ((X0[:0],), ValueError, "at least one row"),
        ((X0, np.zeros(3)), ValueError, "y has 3 rows, X has 4"),
        ((daskgd.OneHot([[-1]], [0]),), ValueError, "at least one column"),
    ],
)
def test_what_is_refused(tmp_path: Path, given: tuple[Any, ...], kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        daskgd.write_dataset(tmp_path / "d", *given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("X", [X0, [X0], daskgd.as_dataset(X0)], ids=["rows", "blocks", "a dataset"])
def test_names_are_those_of_the_columns(tmp_path: Path, X: Any) -> None:
    with pytest.raises(ValueError, match=r"feature_names: expected None beside categories, .*columns=\)"):
        daskgd.write_dataset(tmp_path / "d", X, feature_names=["a"] * 413)


# -- views and fits ---------------------------------------------------------------------------------

FITS: list[Callable[[], Any]] = [
    daskgd.Ridge,
    daskgd.LogisticRegression,
    lambda: daskgd.LogisticRegression(solver="lbfgs", max_iter=5, tol=0),
]


@pytest.mark.parametrize("engine", ["serial", "threads"])
@pytest.mark.parametrize("numbers", NUMBERS)
def test_fits_have_the_bits_of_rows_in_memory(tmp_path: Path, engine: str, numbers: str) -> None:
    X, (y, w) = rows(numbers, "f8"), targets()
    labels = np.where(y > np.median(y), "up", "down")
    daskgd.write_dataset(tmp_path / "d", X, labels, w, chunk_bytes=2 * BYTES)
    daskgd.write_dataset(tmp_path / "numbers", X, y, w, chunk_bytes=2 * BYTES)
    for make in FITS:
        name, target = ("numbers", y) if make is daskgd.Ridge else ("d", labels)
        dataset = in_blocks(daskgd.open_dataset(tmp_path / name))
        here = make().set_params(engine=engine).fit(dataset)
        there = make().set_params(engine="serial").fit(in_memory(dataset, X, target, w))
        np.testing.assert_array_equal(here.coef_, there.coef_)
        np.testing.assert_array_equal(here.intercept_, there.intercept_)
        assert here.n_sweeps_ == there.n_sweeps_
        assert here.feature_names_in_.tolist() == X.feature_names
        assert here.score(dataset) == there.score(in_memory(dataset, X, target, w))
        found = here.predict(dataset)
        assert isinstance(found, da.Array)
        np.testing.assert_array_equal(found.compute(scheduler="sync"), np.asarray(there.predict(X)))
        assert "sweep" in str(here.plan(dataset))


def test_nothing_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = in_blocks(write(tmp_path / "d"))
    tocsr = Categorical.tocsr

    def check_empty(self: Categorical) -> Any:
        assert not len(self), "expanded"
        return tocsr(self)

    monkeypatch.setattr(Categorical, "tocsr", check_empty)
    monkeypatch.setattr(Categorical, "toarray", check_empty)
    model = daskgd.Ridge(engine="serial").fit(dataset)
    model.score(dataset)
    model.predict(dataset).compute(scheduler="sync")
    daskgd.write_dataset(tmp_path / "e", dataset.train_test_split(0.5)[0])
    with pytest.raises(AssertionError, match="expanded"):
        dataset.X.compute(scheduler="sync")


@pytest.mark.parametrize("numbers", NUMBERS)
def test_dask_arrays_of_it_are_read_as_it_is(tmp_path: Path, numbers: str) -> None:
    X, (y, _) = rows(numbers), targets()
    dataset = write(tmp_path / "d", numbers)
    lazy, expected = dataset.X, X.tocsr().toarray()
    for index in (np.s_[:], np.s_[3:50], np.s_[:, 1:300], np.s_[::2, 3:]):
        np.testing.assert_array_equal(lazy[index].compute(scheduler="sync").toarray(), expected[index])
    again = daskgd.as_dataset(lazy, y)
    assert isinstance(again.columns.X, StoredCategoricalColumn)


@pytest.mark.parametrize("numbers", NUMBERS)
def test_splits(tmp_path: Path, numbers: str) -> None:
    dataset = write(tmp_path / "d", numbers)
    train, test = dataset.train_test_split(0.3, random_state=1)
    assert train.n_rows + test.n_rows == N
    daskgd.write_dataset(tmp_path / "test", test)
    found = daskgd.open_dataset(tmp_path / "test")
    assert (found.feature_names, found.n_rows) == (dataset.feature_names, test.n_rows)
    assert (found.X.compute(scheduler="sync") != test.X.compute(scheduler="sync")).nnz == 0
    model = daskgd.Ridge(engine="serial").fit(train)
    like, other = in_memory(dataset, rows(numbers), *targets()).train_test_split(0.3, random_state=1)
    np.testing.assert_array_equal(model.coef_, daskgd.Ridge(engine="serial").fit(like).coef_)
    assert model.score(test) == model.score(other)
    daskgd.write_dataset(tmp_path / "test", test, overwrite=True)
    assert "sweeps" in str(daskgd.Ridge(engine="serial").plan(train))


def test_fits_are_resumed(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(event: Any) -> None:
        if isinstance(event, Swept) and event.sweeps == 3:
            raise Killed

    def fit(codec: str = "lz4", **settings: Any) -> Any:
        X, y = rows(dtype="f8"), targets()[0] > 0
        daskgd.write_dataset(tmp_path / "d", X, y, chunk_bytes=BYTES, codec=codec, overwrite=True)
        dataset = in_blocks(daskgd.open_dataset(tmp_path / "d"))
        return daskgd.LogisticRegression(solver="lbfgs", engine="serial", tol=1e-8).fit(dataset, **settings)

    expected = fit()
    assert expected.n_sweeps_ > 4
    with pytest.raises(Killed):
        fit(checkpoint=tmp_path / "c", watch=kill)
    with pytest.raises(ValueError, match="got one of another: X was fingerprint"):
        fit("zstd", checkpoint=tmp_path / "c")
    found = fit(checkpoint=tmp_path / "c")
    np.testing.assert_array_equal(found.coef_, expected.coef_)
    assert found.n_sweeps_ == expected.n_sweeps_


def test_blocks_decode_their_own_chunks(tmp_path: Path) -> None:
    write(tmp_path / "d")
    for array in ("X", "codes"):
        chunk_of(tmp_path / "d", array, 1)[0].write_bytes(b"")
    found = column(tmp_path / "d")
    check_equal(found.read(0, 16), rows().features.slice(0, 16))
    check_equal(found.read(32, N), rows().features.slice(32, N))
    with pytest.raises(daskgd.ChunkError, match="codes, chunk c/1/0: rows 20:30"):
        found.read(20, 30)


# -- damage -----------------------------------------------------------------------------------------

Fault = Callable[[Path], Any]


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


def chunk_of(path: Path, array: str, i: int) -> tuple[Path, str]:
    key = f"c/{i}/0" if array in ("X", "codes") else f"c/{i}"
    return path / array / key, key


@pytest.mark.parametrize(
    ("fault", "codec", "shards"),
    slow_but_every(6, [lose, truncate, empty, flip], ["lz4", "zstd", "none"], [None, 2]),
)
def test_every_fault_is_found_and_named(tmp_path: Path, fault: Fault, codec: str, shards: int | None) -> None:
    path = tmp_path / "d"
    dataset = write(path, codec=codec, shards=shards)
    expected = daskgd.Ridge(engine="serial").fit(dataset).coef_
    unit = 16 * (shards or 1)
    for array, i in itertools.product(("X", "codes"), (0, 1, (N - 1) // unit)):
        file, key = chunk_of(path, array, i)
        with restored(file):
            fault(file)
            a, b = i * unit, min((i + 1) * unit, N)
            if shards and fault is flip:  # which only one chunk of the shard feels
                b = min(a + 16, N)
            message = rf"{path}/{array}, chunk {key}: rows {a}:{b} cannot be read: \w+"
            for read in (
                lambda: column(path).read(0, N) if fault is not lose else dataset.columns.X.read(0, N),
                lambda: daskgd.Ridge(engine="serial").fit(dataset),
                lambda: dataset.X.compute(scheduler="sync"),
            ):
                with pytest.raises(daskgd.ChunkError, match=message):
                    read()
            found_missing(path, array, key, (a, b), fault, message)
    for array in ("categories/2/text", "categories/2/ends", "categories/3/values"):
        file, key = chunk_of(path, array, 0)
        opened = daskgd.open_dataset(path)
        with restored(file):
            fault(file)
            message = rf"{path}/{array}, chunk {key}: rows 0:{N} cannot be read: \w+"
            with pytest.raises(daskgd.ChunkError, match=message):  # else the model would have no names
                daskgd.Ridge(engine="serial").fit(opened)
            found_missing(path, array, key, (0, N), fault, message)
    np.testing.assert_array_equal(daskgd.Ridge(engine="serial").fit(dataset).coef_, expected)
    verify_store(path)


def found_missing(path: Path, array: str, key: str, at: tuple[int, int], fault: Fault, message: str) -> None:
    if fault is lose:
        lost = f"array {array}: 1 chunks are missing, the first is {key}, rows {at[0]}:{at[1]}"
        with pytest.raises(daskgd.StoreError, match=lost):
            daskgd.open_dataset(path)
    else:
        with pytest.raises(daskgd.ChunkError, match=message):
            verify_store(path)


def test_sparse_numbers_beside_codes_are_named_by_their_rows(tmp_path: Path) -> None:
    dataset = write(tmp_path / "d", "sparse", chunk_bytes=300)
    for array in ("X/data", "X/indices", "X/indptr", "codes"):
        file, key = chunk_of(tmp_path / "d", array, 1)
        for fault in (flip, lose):
            with restored(file):
                fault(file)
                with pytest.raises(daskgd.ChunkError, match=rf"{array}, chunk {key}: rows \d+:\d+ cannot"):
                    daskgd.Ridge(engine="serial").fit(dataset)
                where = rf"{array}(: 1 chunks are missing, the first is|, chunk) {key}.* rows \d+:\d+"
                with pytest.raises((daskgd.ChunkError, daskgd.StoreError), match=where):
                    verify_store(tmp_path / "d")


@pytest.mark.cluster
def test_workers_notice(tmp_path: Path, client: Any) -> None:
    """And fits have the same bits everywhere."""
    dataset = write(tmp_path / "d")
    alone = daskgd.Ridge(engine="serial").fit(dataset)
    np.testing.assert_array_equal(daskgd.Ridge().fit(dataset).coef_, alone.coef_)
    for array, fault in (("codes", flip), ("codes", lose), ("X", flip)):
        file, key = chunk_of(tmp_path / "d", array, 1)
        with restored(file):
            fault(file)
            for engine in (None, "threads", "serial"):
                with pytest.raises(daskgd.ChunkError, match=f"{array}, chunk {key}: rows 16:32 cannot be"):
                    daskgd.Ridge(engine=engine).fit(dataset)
    np.testing.assert_array_equal(daskgd.Ridge().fit(dataset).coef_, alone.coef_)


@pytest.mark.parametrize("array", ["codes", "categories/2/ends"])
def test_every_bit_of_a_chunk_counts(tmp_path: Path, array: str) -> None:
    write(tmp_path / "d", codec="none")
    file, key = chunk_of(tmp_path / "d", array, 0)
    parts = open_store(tmp_path / "d").parts
    (part,) = (part for _, part in parts.values() if part.path == f"{tmp_path}/d/{array}")
    with restored(file) as content:
        for at in range(len(content)):
            damaged = bytearray(content)
            damaged[at] ^= 1 << at % 8
            file.write_bytes(damaged)
            with pytest.raises(daskgd.ChunkError, match=rf"{array}, chunk {key}: .*checksum"):
                part.read(0, part.shape[0])


def model(path: Path) -> list[Any]:
    est = daskgd.LogisticRegression(engine="serial").fit(path)
    names = est.feature_names_in_.tolist()
    return [est.coef_.tobytes(), est.intercept_.tobytes(), est.classes_.tolist(), names, est.n_features_in_]


def test_no_flip_changes_a_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    y, w = targets()
    labels = np.where(y > np.median(y), "yes", "no")
    daskgd.write_dataset(tmp_path / "d", rows(), labels, w, chunk_bytes=8000)
    expected = model(tmp_path / "d")
    found = files(tmp_path / "d")
    metadata = [file for file in found if file.name == "zarr.json"]
    assert len(metadata) == 11
    caught = dict.fromkeys(found, 0)
    for _ in range(150):
        file = found[rng.integers(len(found))] if rng.random() < 0.5 else metadata[rng.integers(11)]
        with restored(file) as content:
            file.write_bytes(flipped(content, rng))
            try:
                assert model(tmp_path / "d") == expected, (file, content, file.read_bytes())
            except (daskgd.StoreError, daskgd.ChunkError):
                caught[file] += 1
    assert all(caught.values()), caught  # each file is read
    assert model(tmp_path / "d") == expected


@pytest.mark.parametrize("array", ["codes", "categories/2/text"])
def test_a_sound_chunk_of_another_dataset(tmp_path: Path, array: str) -> None:
    write(tmp_path / "d")
    shutil.rmtree(tmp_path / "d" / "survey")
    other = [*CATEGORIES[:2], [word[::-1] for word in CATEGORIES[2]], CATEGORIES[3]]
    daskgd.write_dataset(tmp_path / "other", rows(categories=other)[::-1], chunk_bytes=BYTES)
    file, _ = chunk_of(tmp_path / "d", array, 0)
    file.write_bytes(chunk_of(tmp_path / "other", array, 0)[0].read_bytes())
    with pytest.raises(daskgd.StoreError, match="some are not those that were written"):
        daskgd.open_dataset(tmp_path / "d").verify()


def test_codes_of_no_category_are_not_read(tmp_path: Path) -> None:
    """A sound chunk of another store: products would read and write wherever a code points."""
    X = daskgd.OneHot(codes()[:, 1:2], [6])
    daskgd.write_dataset(tmp_path / "d", X, chunk_bytes=64)
    daskgd.write_dataset(tmp_path / "other", daskgd.OneHot(codes()[:, 1:2] + 1, [7]), chunk_bytes=64)
    file, _ = chunk_of(tmp_path / "d", "codes", 1)
    file.write_bytes(chunk_of(tmp_path / "other", "codes", 1)[0].read_bytes())
    with pytest.raises(daskgd.ChunkError, match=r"d/codes, chunk c/1/0: .*not the one that was written"):
        column(tmp_path / "d").read(0, N)
    shutil.rmtree(tmp_path / "d" / "survey")  # of which every chunk is known
    row = 16 + int(np.argmax(codes()[16:, 1] == 5))
    message = f"d/codes: rows {row}:{row + 1} cannot be read: .* 0 <= code < 6 in column 0, or -1 .* got 6"
    with pytest.raises(daskgd.ChunkError, match=message):
        column(tmp_path / "d").read(0, N)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("codes", "expected an array codes, found none"),
        ("categories", "expected a group categories, found none"),
        ("categories/2", "expected a group categories/2, found none"),
        ("categories/2/text", "group categories/2: expected an array text, found none"),
        ("X", "the metadata of codes, .* were altered"),
    ],
)
def test_what_is_lost_is_missed(tmp_path: Path, name: str, message: str) -> None:
    write(tmp_path / "d")
    (tmp_path / "d" / name).rename(tmp_path / "elsewhere")
    with pytest.raises(daskgd.StoreError, match=message):
        daskgd.open_dataset(tmp_path / "d")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((b'"red"', b'"rad"'), "altered after"),
        ((b'"colour"', b'"color"'), "altered after"),
        ((b'"float32"', b'"float64"'), "altered after"),
        ((b'"n_categories": 400', b'"n_categories": -40'), "expected a name and a number of categories"),
        ((b'"ends"', b'"end2"'), "expected a name and a number of categories"),
        ((b'"columns"', b'"columnz"'), "expected an attribute columns, a list, got None"),
    ],
)
def test_changed_dictionaries_are_noticed(tmp_path: Path, change: tuple[bytes, bytes], message: str) -> None:
    write(tmp_path / "d")
    file = tmp_path / "d" / "categories" / "zarr.json"
    content = file.read_bytes()
    assert change[0] in content
    file.write_bytes(content.replace(*change))
    with pytest.raises(daskgd.StoreError, match=message):
        daskgd.open_dataset(tmp_path / "d")


def test_a_lost_mark_is_missed(tmp_path: Path) -> None:
    write(tmp_path / "d")
    file = tmp_path / "d" / "zarr.json"
    file.write_bytes(file.read_bytes().replace(b'"daskgd"', b'"daskge"'))
    with pytest.raises(daskgd.StoreError, match="the mark of their group is gone"):
        daskgd.open_dataset(tmp_path / "d")  # whose numbers would be all there is


def test_codes_of_others_are_not_taken_for_features(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "d", mode="w")
    group.create_array("X", data=np.ones((4, 2)))
    group.create_array("codes", data=np.zeros((4, 2), int))
    assert daskgd.open_dataset(tmp_path / "d").n_features == 2


KILLED = """
import os, signal, sys
import numpy as np
import daskgd

def blocks():
    for i in range(100):
        if i == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        yield daskgd.OneHot(np.full((50, 2), i % 3), [3, [*"abc"]], np.ones((50, 1))), np.zeros(50)

daskgd.write_dataset(sys.argv[1], blocks(), chunk_bytes=2000, overwrite=True)
"""


@pytest.mark.posix
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
            yield rows()[a : a + 10]

    with pytest.raises(RuntimeError, match="no more"):
        daskgd.write_dataset(tmp_path / "d", blocks(), chunk_bytes=BYTES, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == (["d"] if existing else [])


def test_at_a_url(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/d"
    expected = write(tmp_path / "d").fingerprint
    dataset = write(url)
    assert dataset.fingerprint == expected
    check_equal(column(url).read(0, N), rows().features)
    assert dataset.feature_names == tuple(rows().feature_names or ())
    verify_store(url)
    store, name = fsspec.filesystem("memory"), f"/{tmp_path.name}/d/codes/c/1/0"
    store.pipe_file(name, store.cat_file(name)[:-1] + b"x")
    with pytest.raises(daskgd.ChunkError, match=r"codes, chunk c/1/0: rows 16:32 cannot .*checksum"):
        column(url).read(0, N)
    store.rm_file(name)
    with pytest.raises(daskgd.StoreError, match=r"codes: 1 chunks are missing, the first is c/1/0, rows 16"):
        daskgd.open_dataset(url)


def test_dictionaries_are_compared_as_they_are() -> None:
    nan = Dictionary("a", [float("nan"), 1.0])
    assert nan == Dictionary("a", [float("nan"), 1.0])
    for other in (Dictionary("b", nan.categories), Dictionary("a", [1.0, 1.0]), Dictionary("a", range(2)), 3):
        assert nan != other
    assert Dictionary("a", range(2)) == Dictionary("a", range(2))
