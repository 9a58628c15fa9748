"""Frames whose columns have types are written as tables in files are, wherever their rows lie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import distributed
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import daskgd
from daskgd.data import frames
from tests.data.test_typed_columns import check_same, flights


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with dask.config.set(scheduler="sync"):
        yield


def typed() -> pd.DataFrame:
    frame = flights().drop(columns="day")
    frame["hour"] = pd.Categorical(np.arange(len(frame)) % 24)
    frame["seats"] = pd.array([None if i % 9 == 0 else i for i in range(len(frame))], "Int64")
    return frame.set_index(np.arange(7, 7 + len(frame)))[[*frame.columns.drop("late"), "late"]]


class Stream:
    """A frame of another library: all that is known of it is its stream."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)


FRAMES: dict[str, Any] = {
    "pandas": lambda frame: frame,
    "pyarrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
    "stream": lambda frame: Stream(pa.Table.from_pandas(frame, preserve_index=False)),
    "dask": lambda frame: dd.from_pandas(frame, npartitions=5),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_all_frames_are_the_same_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    frame = typed()
    daskgd.write_dataset(tmp_path / "expected", frame, "late", chunk_bytes=2000)
    expected = daskgd.open_dataset(tmp_path / "expected")
    check_same(expected.frame.compute(), frame)
    assert {name: column.kind for name, column in expected.schema.items()}["hour"] == "category"
    monkeypatch.setattr(frames, "PART_BYTES", 1000)
    daskgd.write_dataset(tmp_path / "out", FRAMES[kind](frame), "late", chunk_bytes=2000)
    assert daskgd.open_dataset(tmp_path / "out").fingerprint == expected.fingerprint
    with dask.config.set(scheduler="threads", num_workers=3):
        daskgd.write_dataset(tmp_path / "out", FRAMES[kind](frame), "late", chunk_bytes=2000, overwrite=True)
    assert daskgd.open_dataset(tmp_path / "out").fingerprint == expected.fingerprint


def test_a_cluster_writes_a_frame_of_dask(tmp_path: Path, client: distributed.Client) -> None:
    frame = typed()
    daskgd.write_dataset(tmp_path / "expected", frame, "late", chunk_bytes=2000)
    expected = daskgd.open_dataset(tmp_path / "expected").fingerprint
    with dask.config.set(scheduler=None):
        for name in ("dask", "pandas"):
            daskgd.write_dataset(tmp_path / name, FRAMES[name](frame), "late", chunk_bytes=2000)
            assert daskgd.open_dataset(tmp_path / name).fingerprint == expected


def test_targets_weights_and_offsets_beside_a_frame(tmp_path: Path) -> None:
    frame = typed()
    n, rng = len(frame), np.random.default_rng(1)
    features, late = frame.drop(columns="late"), frame["late"]
    weights, offset, pair = rng.random(n), rng.normal(size=n), rng.normal(size=(n, 2))
    daskgd.write_dataset(tmp_path / "a", features, late, weights, offset=offset)
    found = daskgd.open_dataset(tmp_path / "a").frame.compute()
    assert found["y"].tolist() == late.tolist()
    assert (found["sample_weight"].tolist(), found["offset"].tolist()) == (weights.tolist(), offset.tolist())
    daskgd.write_dataset(tmp_path / "b", features, pair)
    assert (daskgd.open_dataset(tmp_path / "b").y.compute() == pair).all()
    lazy, lazy_late = (dd.from_pandas(one, npartitions=3) for one in (features, late))
    daskgd.write_dataset(tmp_path / "c", lazy, lazy_late)
    daskgd.write_dataset(tmp_path / "d", lazy.assign(w=weights[0], late=lazy_late), "late", "w")
    for name in ("c", "d"):
        dataset = daskgd.open_dataset(tmp_path / name)
        assert dataset.classes is not None
        assert dataset.classes[dataset.y.compute()].tolist() == late.tolist()
    numbers = pd.DataFrame({"x": [1, 2], "z": [0.5, 1], "y": ["a", "b"]})
    daskgd.write_dataset(tmp_path / "e", numbers, "y", "z")
    dataset = daskgd.open_dataset(tmp_path / "e")
    assert (dataset.feature_names, dataset.X.compute().tolist()) == (("x",), [[1], [2]])


def test_a_dask_frame_of_numbers_is_the_array_that_it_is(tmp_path: Path) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 3)).astype("float32"), columns=list("abc"))
    daskgd.write_dataset(tmp_path / "a", dd.from_pandas(frame, npartitions=4))
    dataset = daskgd.open_dataset(tmp_path / "a")
    assert dataset.X.dtype == np.float32
    assert (dataset.X.compute() == frame.to_numpy()).all()


def test_rows_that_change_meanwhile_are_refused(tmp_path: Path) -> None:
    calls: list[int] = []

    def grow(frame: pd.DataFrame) -> pd.DataFrame:
        calls.append(len(frame))
        return pd.concat([frame] * (1 + len(calls) // 5))

    lazy = dd.from_pandas(typed(), npartitions=3).map_partitions(grow, meta=typed()[:0])
    with pytest.raises(ValueError, match=r"as were counted, got .*; the data must not change"):
        daskgd.write_dataset(tmp_path / "out", lazy, "late")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("X", "options", "message"),
    [
        (typed(), {"y": "nowhere"}, "y: expected a column of X, which has distance, .*, got 'nowhere'"),
        (typed(), {"y": "late", "sample_weight": "late"}, "sample_weight: expected another column than y"),
        (typed(), {"y": "when"}, "expected numbers or labels in column 'when', got timestamp"),
        (typed(), {"y": "tail"}, "expected a target 'tail' in every row, got none in rows 0, 7, 14"),
        (typed(), {"y": np.zeros(3)}, "y has 3 rows, X has 300"),
        (typed(), {"offset": np.zeros(3)}, "offset has 3 rows, X has 300"),
        (typed(), {"feature_names": ["a"]}, "feature_names: expected None beside a frame"),
        (typed()[["late"]], {"y": "late"}, "expected at least one feature"),
        (typed()[:0], {}, "expected at least one row"),
        (pd.DataFrame({"x": ["a", 1]}), {}, "X: expected columns of one type each"),
        (pd.DataFrame({"x": ["a"], "z": [[1]]}), {}, "numbers, text, dates or bool in column 'z', got list"),
        (pd.DataFrame([["a", "b"]], columns=["x", "x"]), {}, "columns of different names, got 'x' twice"),
        (np.eye(3), {"y": "x"}, "y, sample_weight: expected arrays beside X of ndarray, got a name"),
        (dd.from_pandas(typed(), npartitions=2), {"offset": np.zeros(300)}, "offset: expected None beside"),
        (dd.from_pandas(typed(), npartitions=2), {"y": np.zeros(300)}, "y: expected the name of a column"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_refused(tmp_path: Path, X: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        daskgd.write_dataset(tmp_path / "out", X, **options)
    assert not list(tmp_path.iterdir())


LARGE = 10**17 + 1
"""An integer that float64 rounds."""


def beside(ids: Any, others: Any = (0.5, 1.5)) -> pd.DataFrame:
    return pd.DataFrame({"id": ids, "x": list(others)})


@pytest.mark.parametrize(
    "X",
    [
        beside([1, LARGE]),
        beside(pd.array([1, LARGE], "Int64")),
        beside(pd.array([None, LARGE], "Int64")),
        beside(pd.array([None, LARGE], "int64[pyarrow]")),
        beside(np.array([1, LARGE], "u8")),
        beside(np.array([1, LARGE], "u8"), [1, 2]),
        beside(np.array([1, LARGE], object)),
        beside([1, LARGE], ["a", "b"]),
        [beside([1, LARGE])],
        [pa.Table.from_pandas(beside([1, LARGE]))],
        pa.Table.from_pandas(beside([1, LARGE])),
        dd.from_pandas(beside([1, LARGE]), npartitions=2),
        dd.from_delayed(
            [dask.delayed(beside)([1, LARGE]), dask.delayed(beside)([0.5, 1])],
            meta=beside([0.5, 1])[:0],
            verify_meta=False,
        ),
        da.from_delayed(dask.delayed(np.array)([[1], [LARGE]]), (2, 1), float),
        [[1, 0.5], [LARGE, 1]],
    ],
)
def test_integers_that_floats_round_are_refused(tmp_path: Path, X: Any) -> None:
    message = f"X.*: expected numbers that float64 .* all to 9007199254740992, got {LARGE} in row [01].*; "
    with pytest.raises(ValueError, match=message):
        daskgd.write_dataset(tmp_path / "out", X)
    assert not list(tmp_path.iterdir())


def test_targets_that_floats_round_are_refused(tmp_path: Path) -> None:
    for y in (beside([1, LARGE]), np.array([0.5, LARGE], object)):
        with pytest.raises(
            ValueError, match=f"^y: expected numbers that float64 holds, .*, got {LARGE} in row 1"
        ):
            daskgd.write_dataset(tmp_path / "out", np.eye(2), y)


def test_integers_are_kept_where_none_is_a_float(tmp_path: Path) -> None:
    for i, X in enumerate((beside([1, LARGE], [1, 2]), beside([1, LARGE], ["a", "b"]).astype({"id": str}))):
        daskgd.write_dataset(tmp_path / str(i), X)
    assert daskgd.open_dataset(tmp_path / "0").X.compute().tolist() == [[1, 1], [LARGE, 2]]
    assert daskgd.open_dataset(tmp_path / "1").categories["id"] == ["1", str(LARGE)]


def test_partitions_of_dask_are_read_by_the_names_of_columns(tmp_path: Path) -> None:
    parts = [dask.delayed(frame) for frame in (beside([1, 2]), beside([3, 4])[["x", "id"]])]
    daskgd.write_dataset(tmp_path / "out", dd.from_delayed(parts, meta=beside([1, 2])[:0], verify_meta=False))
    assert daskgd.open_dataset(tmp_path / "out").X.compute()[:, 0].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("kind", "values", "found", "expected"),
    [
        ("Int64", [1, None, 2], ("number", "int64"), [1, np.nan, 2]),
        ("UInt8", [None, 3, 2], ("number", "uint8"), [np.nan, 3, 2]),
        ("int64[pyarrow]", [1, None, 2], ("number", "int64"), [1, np.nan, 2]),
        ("boolean", [True, None, False], ("bool", "bool"), [1, np.nan, 0]),
        ("bool[pyarrow]", [True, None, False], ("bool", "bool"), [1, np.nan, 0]),
        ("Int64", [None, None, None], ("number", "int64"), [np.nan] * 3),
    ],
)
def test_types_with_gaps_need_no_text_beside_them(
    tmp_path: Path, kind: str, values: Any, found: Any, expected: Any
) -> None:
    frame = pd.DataFrame({"x": pd.array(values, dtype=kind), "y": [1, 2, 3]})
    for name, X, y in (("a", frame, "y"), ("b", frame[["x"]], frame["y"]), ("c", frame, None)):
        daskgd.write_dataset(tmp_path / name, X, y)
        dataset = daskgd.open_dataset(tmp_path / name)
        column = dataset.schema["x"]
        assert (column.kind, column.dtype) == found
        np.testing.assert_array_equal(dataset.X[:, 0].compute(), expected)
    assert daskgd.open_dataset(tmp_path / "b").fingerprint == daskgd.open_dataset(tmp_path / "a").fingerprint


def test_types_with_place_for_gaps_that_have_none_are_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": pd.array([1, 2], "Int64"), "z": pd.array([True, False], "boolean")})
    daskgd.write_dataset(tmp_path / "out", frame, feature_names=["a", "b"])
    dataset = daskgd.open_dataset(tmp_path / "out")
    assert (dataset.X.dtype, dataset.feature_names) == (np.dtype("int64"), ("a", "b"))


def test_text_of_arrow_in_a_frame_of_pandas(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": pd.array(["u", None], pd.ArrowDtype(pa.string())), "z": [1, 2]})
    daskgd.write_dataset(tmp_path / "out", frame)
    assert daskgd.open_dataset(tmp_path / "out").categories == {"x": ["u"]}
