"""Columns of text, dates and bool are stored with their types, and come back as they were."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import distributed
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from sklearn.preprocessing import OneHotEncoder

import daskgd
from daskgd.data.formats import csv, json_lines, parquet
from daskgd.data.schema import Schema


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with dask.config.set(scheduler="sync"):
        yield


def flights(n: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    times = pd.date_range("2013-01-01 05:15", periods=n, freq="77min")
    frame = pd.DataFrame(
        {
            "distance": rng.integers(80, 5000, n),
            "carrier": rng.choice(["UA", "B6", "é, \n"], n),
            "when": times.as_unit("s"),
            "temp": np.where(rng.random(n) < 0.1, np.nan, rng.normal(10, 5, n).round(2)),
            "night": rng.random(n) < 0.3,
            "tail": [None if i % 7 == 0 else f"N{i % 40}" for i in range(n)],
            "day": [time.date() for time in times],
            "late": rng.choice(["no", "yes"], n),
        }
    )
    frame.loc[4, "when"] = pd.NaT
    return frame


def write(frame: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False, row_group_size=50)
    elif path.suffix == ".feather":
        pa.feather.write_feather(pa.Table.from_pandas(frame, preserve_index=False), path)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True, date_format="iso", date_unit="s")
    else:
        frame.to_csv(path, index=False)
    return path


def test_a_dictionary_that_has_a_category_twice(tmp_path: Path) -> None:
    twice = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 2, None, 1]), pa.array(["b", "a", "b"]))
    for name, parts in {"one": [twice], "three": [twice, twice, twice]}.items():
        table = pa.table({"x": pa.chunked_array(parts)})
        pa.parquet.write_table(table, tmp_path / f"{name}.parquet", row_group_size=6)
        pa.feather.write_feather(table, tmp_path / f"{name}.feather", chunksize=6)
        for source in (table, tmp_path / f"{name}.parquet", tmp_path / f"{name}.feather"):
            write = (
                daskgd.ingest
                if isinstance(source, Path)
                else lambda rows, out: daskgd.write_dataset(out, rows)
            )
            out = tmp_path / f"{name}-{getattr(source, 'suffix', 'table')}"
            write(source, out)
            dataset = daskgd.open_dataset(out)
            found = [None if pd.isna(one) else one for one in dataset.frame.compute()["x"]]
            assert found == ["b", "a", "b", "b", None, "a"] * len(parts)
            assert dataset.dictionaries is not None
            (column,) = dataset.dictionaries.columns
            assert (list(column.categories), list(column.counts or ())) == (
                ["a", "b"],
                [2 * len(parts), 3 * len(parts)],
            )


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("pages", ["by a dictionary", "by one that was full", "as it is"])
def test_text_is_the_same_however_parquet_stores_it(tmp_path: Path, kind: Any, pages: str) -> None:
    text = [None if i % 7 == 0 else f"tail {i * 31 % 400}, é" for i in range(1000)]
    table = pa.table({"a.b": pa.array(text, kind), "y": pa.array(["no", "yes"] * 500, kind)})
    full = {"dictionary_pagesize_limit": 400, "data_page_size": 400, "write_batch_size": 20}
    options = {"by a dictionary": {}, "by one that was full": full, "as it is": {"use_dictionary": False}}
    rows = tmp_path / "rows.parquet"
    pa.parquet.write_table(table, rows, row_group_size=300, **options[pages])
    daskgd.ingest(rows, tmp_path / "out", target="y")
    frame = daskgd.open_dataset(tmp_path / "out").frame.compute()
    assert [None if pd.isna(one) else one for one in frame["a.b"]] == text
    assert frame["y"].tolist() == ["no", "yes"] * 500


def plain(values: pd.Series[Any]) -> list[Any]:
    """Values as those of Python, None where one is missing, dates as of pandas."""
    found = [None if pd.isna(value) else value for value in values.astype(object)]
    return [pd.Timestamp(v) if isinstance(v, dt.date | np.datetime64) else v for v in found]


def check_same(frame: Any, expected: pd.DataFrame) -> None:
    assert list(frame) == list(expected)
    for name in expected:
        assert plain(frame[name]) == plain(expected[name]), name


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".feather", ".jsonl"])
def test_columns_come_back_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    frame = flights()
    if ending == ".jsonl":  # which pandas writes days to as times
        frame = frame.drop(columns="day")
    place, out = write(frame, tmp_path / f"a{ending}"), tmp_path / "out"
    marks = set()
    for size in (1 << 20, 700):  # all at once, and in many pieces, none of which has all categories
        for module in (csv, json_lines, parquet):
            monkeypatch.setattr(module, "PIECE_BYTES", size)
        daskgd.ingest(place, out, target="late", chunk_bytes=500, overwrite=True)
        marks.add(daskgd.open_dataset(out).fingerprint)
    assert len(marks) == 1
    dataset = daskgd.open_dataset(out)
    check_same(dataset.frame.compute(), frame)
    kinds = {name: column.kind for name, column in dataset.schema.items()}
    assert (
        kinds.items()
        >= {
            **{"distance": "number", "carrier": "category", "when": "date", "temp": "number"},
            **{"night": "bool", "tail": "category"},
        }.items()
    )
    assert dataset.schema["carrier"].counts == frame["carrier"].value_counts().to_dict()
    assert dataset.schema["tail"].n_missing == 43
    assert dataset.schema["temp"].n_missing == int(frame["temp"].isna().sum())
    assert dataset.schema["distance"].maximum == frame["distance"].max()
    when = dataset.schema["when"]
    assert when.values([when.minimum, np.nan]).tolist()[1] is None
    assert pd.Timestamp(when.values([when.minimum])[0]) == frame["when"].min()
    assert dataset.schema.target == "late"
    assert {place.name for place in out.iterdir()} == {
        "X",
        "y",
        "codes",
        "categories",
        "survey",
        "zarr.json",
    }
    dataset.verify()


def test_files_with_other_units_are_alike(tmp_path: Path) -> None:
    days = [dt.datetime(2020, 1, 1), None]
    for i, kind in enumerate([pa.timestamp("ms"), pa.timestamp("us"), pa.date32(), pa.timestamp("ns")]):
        table = pa.table({"x": pa.array(days, pa.timestamp("us")).cast(kind)})
        pa.parquet.write_table(table, tmp_path / f"{i}.parquet")
    daskgd.ingest(tmp_path, tmp_path / "out")
    dataset = daskgd.open_dataset(tmp_path / "out")
    assert dataset.schema["x"].dtype == "datetime64[us]"
    assert plain(dataset.frame.compute()["x"]) == [pd.Timestamp("2020-01-01"), None] * 4


def test_text_in_names_of_folders_is_a_category(tmp_path: Path) -> None:
    for name in ("EWR", "JFK", "__HIVE_DEFAULT_PARTITION__"):
        place = tmp_path / f"in/from={name}/a.csv"
        place.parent.mkdir(parents=True)
        place.write_text("x\n1\n2\n")
    daskgd.ingest(tmp_path / "in", tmp_path / "out")
    frame = daskgd.open_dataset(tmp_path / "out").frame.compute()
    assert plain(frame["from"]) == ["EWR"] * 2 + ["JFK"] * 2 + [None] * 2


def test_categories_of_pandas_stay_categories(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": pd.Categorical([3, 1, None]), "y": pd.Categorical(["b", "a", "b"])})
    frame.to_parquet(tmp_path / "a.parquet")
    daskgd.ingest(tmp_path / "a.parquet", tmp_path / "out")
    assert daskgd.open_dataset(tmp_path / "out").categories == {"x": [1, 3], "y": ["a", "b"]}


def test_categories_are_those_of_one_hot_encoder(tmp_path: Path) -> None:
    frame = flights()[["carrier", "tail", "late"]]
    daskgd.ingest(write(frame, tmp_path / "a.csv"), tmp_path / "out", target="late")
    dataset = daskgd.open_dataset(tmp_path / "out")
    known = frame.loc[:, ["carrier", "tail"]].fillna("?")
    encoder = OneHotEncoder(categories=[[c for c in sorted(set(known[n])) if c != "?"] for n in known],
                            handle_unknown="ignore")  # fmt: skip
    expected = encoder.fit_transform(known).toarray()
    assert (dataset.X.compute().toarray() == expected).all()
    assert list(dataset.feature_names or ()) == encoder.get_feature_names_out().tolist()
    model = daskgd.LogisticRegression().fit(dataset)
    twin = daskgd.LogisticRegression().fit(expected, frame["late"])
    np.testing.assert_allclose(model.coef_, twin.coef_, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("text", "options", "kind", "dtype", "values"),
    [
        ("2020-02-29\n1969-12-31", {}, "date", "datetime64[D]", ["2020-02-29", "1969-12-31"]),
        ("2020-02-29\nNA\n2020-01-01 12:30:01", {}, "date", "datetime64[s]",
         ["2020-02-29", None, "2020-01-01T12:30:01"]),
        ("2020-01-01 00:00:00.000001", {}, "date", "datetime64[us]", ["2020-01-01T00:00:00.000001"]),
        ("31.1.2020\n\n1.2.2020", {"dates": {"x": "%d.%m.%Y"}}, "date", "datetime64[s]",
         ["2020-01-31", None, "2020-02-01"]),
        ("2020-01-01", {"dtypes": {"x": "datetime64[s]"}}, "date", "datetime64[s]", ["2020-01-01"]),
        ("2020-01-01", {"dtypes": {"x": "string"}}, "category", "str", ["2020-01-01"]),
        ("2020.01.01", {"thousands": "'"}, "category", "str", ["2020.01.01"]),
        ("01\n1", {"dtypes": {"x": "category"}}, "category", "str", ["01", "1"]),
        ("NA\na\n", {}, "category", "str", ["NA", "a", None]),
        ("True\n\nfalse", {}, "bool", "bool", [True, None, False]),
        ("12:30:00", {}, "time", "timedelta64[s]", ["12:30:00"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("n_bytes", [1, 1 << 20])
def test_text_of_many_kinds(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    n_bytes: int,
    text: str,
    options: Any,
    kind: str,
    dtype: str,
    values: list[Any],
) -> None:
    monkeypatch.setattr(csv, "PIECE_BYTES", n_bytes)
    rows = "".join(f"{line},1\n" for line in text.split("\n"))
    (tmp_path / "a.csv").write_text(f"x,y\n{rows}")
    daskgd.ingest(tmp_path / "a.csv", tmp_path / "out", target="y", **options)
    dataset = daskgd.open_dataset(tmp_path / "out")
    column = dataset.schema["x"]
    assert (column.kind, column.dtype, column.n_missing) == (kind, dtype, values.count(None))
    found = plain(dataset.frame.compute()["x"])
    if kind == "date":
        values = [None if value is None else pd.Timestamp(value) for value in values]
    if kind == "time":
        values = [pd.Timedelta(value) for value in values]
    assert found == values


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"x": pa.array([1, 1000, 1001], pa.timestamp("ns"))},
            "a.parquet: expected whole microseconds in column 'x', .*got 1 ns in row 0",
        ),
        (
            {"x": pa.array([0, 2**53 + 1], pa.timestamp("us"))},
            "a.parquet: expected dates and times that float64 holds in column 'x', .* row 1",
        ),
        ({"x": pa.array([b"a"])}, "expected numbers, text, dates or bool in column 'x', got binary"),
        ({"x": pa.array([[1]])}, "expected numbers, text, dates or bool in column 'x', got list"),
    ],
)
def test_what_cannot_be_stored_is_refused(tmp_path: Path, table: Any, message: str) -> None:
    n = len(table["x"])
    made = pa.table(table | {"gap": pa.array([None] * n, pa.float64()), "c": ["a"] * n})
    pa.parquet.write_table(made, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=message):
        daskgd.ingest(tmp_path / "a.parquet", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (["2020-01-01"] * 40 + ["soon"], {}, "expected .*dates.* in column 'x', .*'soon' in row 40"),
        (["3"] * 40 + ["soon"], {}, "expected numbers.* in column 'x', .*got 'soon' in row 40"),
        (["1.2.2020", "2020-02-01"], {"dates": {"x": "%d.%m.%Y"}},
         "expected '%d.%m.%Y' in column 'x', as dates says, got '2020-02-01' in row 1"),
        (["1"], {"dates": {"z": "%Y"}}, "dates: expected columns of .*a.csv, which has x, y, got 'z'"),
        (["1"], {"dates": {"x": "Y"}}, "dates: expected a format such as '%d.%m.%Y' for 'x', got 'Y'"),
        (["a", "b"], {"dtype": "int64"}, ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("n_bytes", [16, 1 << 20])
def test_text_that_does_not_fit_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    n_bytes: int,
    lines: list[str],
    options: Any,
    message: str,
) -> None:
    monkeypatch.setattr(csv, "PIECE_BYTES", n_bytes)
    monkeypatch.setattr(csv, "HEAD_BYTES", n_bytes)
    (tmp_path / "a.csv").write_text("x,y\n" + "".join(f"{line},1\n" for line in lines))
    if message:
        with pytest.raises(ValueError, match=message):
            daskgd.ingest(tmp_path / "a.csv", tmp_path / "out", target="y", **options)
    else:
        daskgd.ingest(tmp_path / "a.csv", tmp_path / "out", target="y", **options)
        assert daskgd.open_dataset(tmp_path / "out").categories == {"x": ["a", "b"]}


def test_too_many_categories_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n" + "".join(f"word {i},1\n" for i in range(2000)))
    with (
        dask.config.set({"daskgd.dictionary-bytes": "100 kB"}),
        pytest.raises(ValueError, match=r"column 'x': expected categories of 97.66 kiB together"),
    ):
        daskgd.ingest(tmp_path / "a.csv", tmp_path / "out", target="y")
    assert not (tmp_path / "out").exists()
    daskgd.ingest(tmp_path / "a.csv", tmp_path / "out", target="y")  # a dictionary of its own arrays
    column = daskgd.open_dataset(tmp_path / "out").schema["x"]
    assert (column.n_categories, set((column.counts or {}).values())) == (2000, {1})


def test_a_split_knows_no_numbers_of_rows_and_a_copy_does(tmp_path: Path) -> None:
    daskgd.ingest(write(flights(), tmp_path / "a.csv"), tmp_path / "out", target="late")
    dataset = daskgd.open_dataset(tmp_path / "out")
    daskgd.write_dataset(tmp_path / "copy", dataset)
    copy = daskgd.open_dataset(tmp_path / "copy")
    assert repr(copy.schema) == repr(dataset.schema)
    check_same(copy.frame.compute(), dataset.frame.compute())
    train, _ = dataset.train_test_split(0.3, random_state=0)
    assert (train.schema["carrier"].counts, train.schema["temp"].n_missing) == (None, None)
    daskgd.write_dataset(tmp_path / "part", train)
    part = daskgd.open_dataset(tmp_path / "part")
    assert (part.schema["carrier"].counts, part.schema["when"].kind) == (None, "date")
    check_same(part.frame.compute().reset_index(drop=True), train.frame.compute().reset_index(drop=True))


def test_what_a_schema_says(tmp_path: Path) -> None:
    daskgd.ingest(write(flights(), tmp_path / "a.csv"), tmp_path / "out", target="late")
    dataset = daskgd.open_dataset(tmp_path / "out")
    for text in (repr(dataset.schema), dataset._repr_html_()):
        assert all(word in text for word in ("3 categories: ", "2013-01-01T05:15:00 to", "target: late"))
    with pytest.raises(KeyError, match=r"'nowhere'; the columns are distance"):
        dataset.schema["nowhere"]
    bare = daskgd.as_dataset(np.zeros((2, 100), "float32")).schema
    assert (bare["x7"].kind, bare["x7"].dtype) == ("number", "float32")
    assert "and 40 more columns" in repr(bare)
    with pytest.raises(ValueError, match=r"schema: expected columns with names"):
        Schema.from_json({"columns": [{"colour": 1}]}, None)


def test_a_frame_of_sparse_rows_and_of_several_targets() -> None:
    X = np.eye(4)[:, :3]
    from scipy.sparse import csr_array

    frame = daskgd.as_dataset(csr_array(X), np.arange(8.0).reshape(4, 2), np.ones(4)).frame.compute()
    assert list(frame) == ["x0", "x1", "x2", "y_0", "y_1", "sample_weight"]
    assert (frame[["x0", "x1", "x2"]].to_numpy() == X).all()


def test_the_store_is_the_same_by_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: distributed.Client, caplog: Any
) -> None:
    for i in range(4):
        write(flights(100 + 50 * i), tmp_path / f"in/{i}.csv") if i else (tmp_path / "in").mkdir()
    daskgd.ingest(tmp_path / "in", tmp_path / "out", target="late", chunk_bytes=500)
    expected = daskgd.open_dataset(tmp_path / "out")
    with dask.config.set(scheduler=None), caplog.at_level(logging.WARNING):
        daskgd.ingest(tmp_path / "in", tmp_path / "other", target="late", chunk_bytes=500)
    assert daskgd.open_dataset(tmp_path / "other").fingerprint == expected.fingerprint
    with dask.config.set(scheduler="threads", num_workers=3):
        daskgd.ingest(tmp_path / "in", tmp_path / "third", target="late", chunk_bytes=500)
    assert daskgd.open_dataset(tmp_path / "third").fingerprint == expected.fingerprint
