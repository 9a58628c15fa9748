"""What goes wrong with files that people have: each is stored right, or refused with what to do."""

from __future__ import annotations

import gzip
import http.server
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import dask
import distributed
import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

import daskgd
from daskgd.data.formats import csv, json_lines, parquet
from tests.tiers import slow_but

Content = str | bytes | pa.Table


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with dask.config.set(scheduler="sync"):
        yield


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make pieces, and what types are inferred of, so many bytes."""

    def set_bytes(n: int) -> None:
        for module in (csv, json_lines, parquet):
            monkeypatch.setattr(module, "PIECE_BYTES", n)
        for module in (csv, json_lines):
            monkeypatch.setattr(module, "HEAD_BYTES", n)

    return set_bytes


def write(place: Path, content: Content) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, pa.Table):
        if place.suffix == ".parquet":
            pa.parquet.write_table(content, place)
        else:
            pa.feather.write_feather(content, place)
    else:
        place.write_bytes(content.encode() if isinstance(content, str) else content)
    return place


def stored(path: Path) -> tuple[list[str], list[Any], list[Any] | None]:
    """The names of the features, their rows, and the targets, labels as such."""
    dataset = daskgd.open_dataset(path)
    y = None if dataset.y is None else dataset.y.compute(scheduler="sync")
    if dataset.classes is not None:
        y = dataset.classes[y]
    X = dataset.X.compute(scheduler="sync")
    rows = np.where(np.isnan(X), None, X.astype(object)).tolist()
    return list(dataset.feature_names or ()), rows, None if y is None else y.tolist()


def table(**columns: Any) -> pa.Table:
    return pa.table(columns)


CATEGORIES = pa.DictionaryArray.from_arrays(pa.array([2, 0, 2]), pa.array(["b", "unused", "a"]))
ENDS_WITH_SEPARATOR = "y,A,B,C\n0,10,20,30,\n1,11,21,31,\n0,12,22,32,\n"
INDEX = pd.DataFrame({"x": [0.3, 0.1, 0.4], "y": [0, 0, 1]})


@pytest.mark.parametrize(
    ("name", "content", "options", "expected"),
    [
        # B1: names that reach to the end of the rows
        (
            "a.csv",
            ENDS_WITH_SEPARATOR,
            {
                "names": ["y", "A", "B", "C", "end"],
                "skip_rows": 1,
                "header": False,
                "drop": ["C", "end"],
                "target": "y",
            },
            (["A", "B"], [[10, 20], [11, 21], [12, 22]], [0, 1, 0]),
        ),
        # B2: an index is no feature
        (
            "a.parquet",
            pa.Table.from_pandas(INDEX[INDEX.x > 0.2]),
            {"target": "y"},
            (["x"], [[0.3], [0.4]], [0, 1]),
        ),
        ("a.feather", pa.Table.from_pandas(INDEX.set_index("x")), {}, (["y"], [[0], [0], [1]], None)),
        ("a.parquet", table(__null_dask_index__=[5, 6], x=[1, 2]), {}, (["x"], [[1], [2]], None)),
        ("a.csv", INDEX.to_csv(), {"target": "y"}, (["x"], [[0.3], [0.1], [0.4]], [0, 0, 1])),
        # B5: labels are what they say
        ("a.csv", "x,y\n1,NA\n2,NA\n8,DE\n", {"target": "y"}, (["x"], [[1], [2], [8]], ["NA", "NA", "DE"])),
        (
            "a.csv",
            "x,y\n1,no\n2,\n8,yes\n",
            {"target": "y", "missing_target": "drop"},
            (["x"], [[1], [8]], ["no", "yes"]),
        ),
        (
            "a.parquet",
            table(x=[1, 2, 3], y=[True, None, False]),
            {"target": "y", "missing_target": "drop"},
            (["x"], [[1], [3]], [True, False]),
        ),
        (
            "a.parquet",
            table(x=[1.0, 2, 3], y=[0.5, np.nan, 1]),
            {"target": "y", "missing_target": "drop"},
            (["x"], [[1], [3]], [0.5, 1]),
        ),
        (
            "a.feather",
            table(x=[1, 2, 3], y=CATEGORIES),
            {"target": "y"},
            (["x"], [[1], [2], [3]], ["a", "b", "a"]),
        ),
        # B8: a type that changes late
        (
            "a.csv",
            "x,y\n1,1\n2,2\n,3.5\n1e3,4\n",
            {"target": "y"},
            (["x"], [[1], [2], [None], [1000]], [1, 2, 3.5, 4]),
        ),
        (
            "a.csv",
            "x,y\n,1\n,2\n,3\n4,4\n",
            {"target": "y"},
            (["x"], [[None], [None], [None], [4]], [1, 2, 3, 4]),
        ),
        (
            "a.jsonl",
            '{"x":1,"y":2}\n{"x":2,"y":2.5}\n{"y":3}\n',
            {"target": "y"},
            (["x"], [[1], [2], [None]], [2, 2.5, 3]),
        ),
        ("a.parquet", table(x=pa.array([1, None], pa.int8())), {}, (["x"], [[1], [None]], None)),
        # B9: spaces after separators
        (
            "a.csv",
            "a, b, y\n1, -9, yes\n3, NA, no\n",
            {"target": "y", "na_values": ["-9"]},
            (["a", "b"], [[1, None], [3, None]], ["yes", "no"]),
        ),
        (
            "a.csv",
            "1, yes\n3, no\n",
            {"target": "y", "header": False, "names": ["a", "y"]},  # as pandas: no header tells of spaces
            (["a"], [[1], [3]], [" yes", " no"]),
        ),
        ("a.csv", "a, b\n1, True\n3, FALSE\n", {}, (["a", "b"], [[1, 1], [3, 0]], None)),
        # B12: what cannot be known is said
        (
            "a.csv",
            "1;2,5\n3;4\n",
            {"sep": ";", "decimal": ",", "header": False},
            (["0", "1"], [[1, 2.5], [3, 4]], None),
        ),
        (
            "a.csv",
            'a,b\n"1,234,567",2\n"1,000.5",3\n',
            {"thousands": ","},
            (["a", "b"], [[1234567, 2], [1000.5, 3]], None),
        ),
        (
            "a.csv",
            "a|y\n1|ボ\n2|表\n".encode("shift_jis"),
            {"sep": "|", "encoding": "shift_jis", "target": "y"},
            (["a"], [[1], [2]], ["ボ", "表"]),
        ),
        (
            "a.csv",
            "a,y\n1,あ\n2,意味\n".encode("iso2022_jp"),
            {"encoding": "iso2022_jp", "target": "y"},
            (["a"], [[1], [2]], ["あ", "意味"]),
        ),
        (
            "a.csv",
            "a,y\n1,é\n2,n\n".encode("utf-16"),
            {"encoding": "utf-16", "target": "y"},
            (["a"], [[1], [2]], ["é", "n"]),
        ),
        ("a.csv", "a,b\n-9.0,1\n2,-9\n", {"na_values": ["-9"]}, (["a", "b"], [[None, 1], [2, None]], None)),
        (
            "a.csv",
            'a,y\n1,5" pipe\n2,6"\n',
            {"quotechar": "", "target": "y"},
            (["a"], [[1], [2]], ['5" pipe', '6"']),
        ),
        (
            "a.csv",
            "zip,y\n1,01\n2,1\n",
            {"dtypes": {"y": "string"}, "target": "y"},
            (["zip"], [[1], [2]], ["01", "1"]),
        ),
        (
            "a.tsv.gz",
            gzip.compress(b"a\tb\n1\t2\n", mtime=0) + gzip.compress(b"3\t4\n", mtime=0),
            {},
            (["a", "b"], [[1, 2], [3, 4]], None),
        ),
        (
            "a.parquet",
            table(x=pa.array([Decimal(2**53 + 1)], pa.decimal128(20, 0))),
            {"dtype": "int64"},
            (["x"], [[2**53 + 1]], None),
        ),
        # B13: decimals are the nearest floats
        (
            "a.parquet",
            table(x=pa.array([Decimal("999999.9999997"), None], pa.decimal128(20, 7))),
            {},
            (["x"], [[999999.9999997], [None]], None),
        ),
    ],
)
@pytest.mark.parametrize("n_bytes", [4, 1 << 20])
def test_stored(
    tmp_path: Path, cut: Any, n_bytes: int, name: str, content: Content, options: Any, expected: Any
) -> None:
    cut(n_bytes)
    daskgd.ingest(write(tmp_path / name, content), tmp_path / "out", **options)
    assert stored(tmp_path / "out") == expected


LARGE = 10**17 + 1
"""An integer that float64 rounds."""


@pytest.mark.parametrize(
    ("files", "options"),
    [
        ({"a.csv": f"id,x\n1,2\n{LARGE},3\n"}, {}),
        ({"a.csv": f"id,x\n{LARGE},3\n1.5,3\n"}, {}),
        ({"a.csv": "id,x\n1,2\n", "b.csv": f"id,x\n0.5,2\n{LARGE},2\n"}, {}),
        ({"a.csv": f"id,x\n0.5,2\n{LARGE}000,2\n"}, {}),
        ({"a.csv": f"id,x\n1,2\n{LARGE}000,2\n"}, {"target": "id"}),
        (
            {"a.csv": f"id,x\n1,2\n{LARGE:,},2\n".replace(",", ";").replace("0;0", "0,0")},
            {"sep": ";", "thousands": ","},
        ),
        ({"a.jsonl": f'{{"id":1,"x":2}}\n{{"id":{LARGE},"x":2}}\n'}, {}),
        ({"a.jsonl": f'{{"id":1.5,"x":2}}\n\n{{"id":{LARGE},"x":2}}\n'}, {}),
        ({"a.jsonl": f'{{"id":1,"x":2}}\n{{"id":{LARGE}000,"x":2}}\n'}, {}),
        ({"a.parquet": table(id=[1, LARGE], x=[0.5, 1])}, {}),
        ({"a.parquet": table(id=[1, LARGE], x=["a", "b"])}, {}),
        ({"a.parquet": table(id=[1, LARGE, None], x=[1, 2, 3])}, {}),
        ({"a.parquet": table(id=pa.array([1, LARGE], pa.uint64()), x=[1, 2])}, {}),
        ({"a.parquet": table(id=pa.array([1, LARGE], pa.decimal128(20, 0)), x=[1, 2])}, {}),
        ({"a.parquet": table(id=[1, LARGE], x=[1, 2]), "b.parquet": table(id=[0.5], x=[1])}, {}),
        ({"a.feather": table(id=[1, LARGE], x=[0.5, 1])}, {}),
        ({"id=0.5/a.csv": "x\n1\n", f"id={LARGE}/a.csv": "x\n1\n"}, {}),
    ],
)
@pytest.mark.parametrize("n_bytes", [4, 1 << 20])
def test_integers_that_floats_round_are_refused(
    tmp_path: Path, cut: Any, n_bytes: int, files: dict[str, Content], options: Any
) -> None:
    cut(n_bytes)
    for name, content in files.items():
        write(tmp_path / "in" / name, content)
    message = f"all to 9007199254740992, got {LARGE}(000)? in row [01], column 'id'; .*leave the column out"
    with pytest.raises(ValueError, match=message):
        daskgd.ingest(tmp_path / "in", tmp_path / "out", **options)
    assert [place.name for place in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("a.csv", f"id,x\n1,2\n{LARGE},3\n", {"dtype": "int64"}),
        ("a.csv", f"id,x\n1,2\n{LARGE},3\n", {"drop": ["id"]}),
        ("a.csv", f"id,x\n1,2\n{LARGE},3\n", {"target": "id"}),
        ("a.csv", f"id,x\n1,2\n{LARGE},3\n", {"dtypes": {"id": "string"}}),
        ("a.csv", f"id,x\n1,2\n{LARGE},3\n", {"dtypes": {"id": "float64"}}),
        ("a.csv", f"id,x\n{2**53},2\n{2**60},3\n", {}),
        ("a.csv", f"id,x\n1e300,2\n{LARGE}.0,3\n1.2345678901234567e20,1\n123456789012345670000,1\n", {}),
        ("a.csv", f"id,x\n1.5,2\n{LARGE},3\n", {"na_values": [f"{LARGE}"]}),
        ("a.jsonl", '{"x":0.5}\n{"x":1e20}\n{"x":123456789012345670000}\n', {}),
        ("a.parquet", table(id=[1, LARGE], x=[2, 3]), {}),
    ],
)
def test_integers_that_are_stored_as_they_are(
    tmp_path: Path, name: str, content: Content, options: Any
) -> None:
    daskgd.ingest(write(tmp_path / name, content), tmp_path / "out", **options)
    dataset = daskgd.open_dataset(tmp_path / "out")
    if options.get("dtype") or name == "a.parquet":
        assert dataset.X.compute().tolist() == [[1, 2], [LARGE, 3]]
    elif "target" in options:
        assert dataset.y is not None
        assert dataset.y.compute().tolist() == [1, LARGE]
    elif options.get("dtypes") == {"id": "string"}:
        assert dataset.categories == {"id": ["1", str(LARGE)]}


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        # B1
        (
            {"a.csv": ENDS_WITH_SEPARATOR},
            {"target": "y"},
            "a.csv: expected 4 fields in row 0, got 5: '0,10,20,30,'; rows end with a separator: pass names",
        ),
        # B5
        (
            {"a.csv": "x,y\n1,no\n2,no\n3,\n8,yes\n"},
            {"target": "y"},
            "a.csv: expected a target 'y' in every row, got none in row 2; fill it, .*missing_target='drop'",
        ),
        ({"a.parquet": table(x=[1.0, 2, 3], y=[True, None, None])}, {"target": "y"}, "got none in rows 1, 2"),
        (
            {
                "a.feather": table(
                    x=[1, 2], y=pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["a", None]))
                )
            },
            {"target": "y"},
            "got none in row 1",
        ),
        (
            {"a.csv": "x,y\n1,\n"},
            {"target": "y", "missing_target": "drop"},
            "expected some in column 'y', got none",
        ),
        (
            {
                "a.parquet": table(
                    x=pa.array([None, None], pa.string()), z=pa.array([None, None], pa.string()), y=[0, 1]
                )
            },
            {"target": "y"},
            r"a.parquet: expected a column of features that has values, got none in 'x', 'z'",
        ),
        # B7
        (
            {"a.csv": "age\n44\n300\n"},
            {"dtype": "uint8"},
            "a.csv: expected numbers that uint8 holds, 0 to 255, got 300 in row 1, column 'age'",
        ),
        (
            {"a.parquet": table(x=[1, 2, -1], y=[None, 1.0, 2])},
            {"dtype": "uint8", "target": "y", "missing_target": "drop"},
            "got -1 in row 2, column 'x'",
        ),
        ({"a.csv": "x\n1.7\n"}, {"dtype": "uint8"}, "got 1.7 in row 0, column 'x'"),
        (
            {"a.csv": "x,y\n1,2\n,3\n"},
            {"dtype": "int64"},
            "expected int64 in column 'x', got missing values; take dtype='float64', or fill them",
        ),
        # B8
        (
            {"a.csv": "x,y\n1,2\n", "b.csv": "x,z\n1,2\n"},
            {},
            "b.csv: expected the columns of .*a.csv, got none of the name 'y'",
        ),
        (
            {"a.csv": "x,y\n1,2\n", "b.csv": "x,y,z\n1,2,3\n"},
            {},
            "a.csv: expected the columns of .*b.csv, .*'z'",
        ),
        (
            {"a.parquet": table(x=[1]), "b.parquet": table(x=["a"])},
            {},
            "b.parquet: expected int64 in column 'x', as .*a.parquet has, got string",
        ),
        (
            {"a.csv": "x,y\n1,2\n", "b.csv": "x,y\n1,2\n2,u\n"},
            {},
            "b.csv: expected int64 in column 'y', as .*a.csv has, got 'u' in row 1; leave",
        ),
        ({"a.csv": "x,y\n"}, {}, "a.csv: expected at least one row, got none"),
        ({"a.csv": "x,y\n1,2\n"}, {"header": 0}, "header: expected True or False, got 0"),
        ({"a.csv": "x,y\n1,2\n"}, {"header": None}, "header: expected True or False, got None"),
        ({"a.csv": "x,y\n1,2\n"}, {"skip_rows": -1}, "skip_rows: expected lines to skip, >= 0, got -1"),
        (
            {"a.csv": "x,y\n1,2\n2,3\n3,4\n4,1.x\n"},
            {},
            "a.csv: expected numbers or dates in column 'y', as most of it is, got '1.x' in row 3; say",
        ),
        (
            {"a.csv": "x,y\n1,2\n2,3\n3\n"},
            {},
            "a.csv: expected 2 fields in row 2, got 1: '3'; check the separator",
        ),
        # B10
        (
            {"a.csv": "zip,y\n" + "94103,1\n" * 999 + "94103-2585,1\n"},
            {"target": "y"},
            "'94103-2585' in row 999",
        ),
        # B12
        (
            {"a.csv": "x,y\n1,é\n".encode("latin-1")},
            {"target": "y"},
            "a.csv: expected text in utf-8.*encoding='latin-1'",
        ),
        (
            {"a.csv": "é,y\n1,2\n".encode("latin-1")},
            {},
            "a.csv: expected text in utf-8, .* in the first line",
        ),
        ({"a.csv": "x;y\n1,5;2\n1.5;2\n"}, {"decimal": ",", "sep": ";"}, "got '1.5' in row 1"),
        ({"a.csv": "x,x\n1,2\n"}, {}, "a.csv: expected columns of different names, got 'x' twice; .*names="),
        # quotes and ends of lines
        ({"a.csv": 'x,y\n1,"a\n2,b\n3,"c\n'}, {"target": "y"}, "a.csv: expected quotes around .*at byte 16"),
        (
            {"a.csv": 'x,y\n1,5" pipe\n'},
            {"target": "y"},
            "a.csv: expected quotes around whole fields, .*at byte 7",
        ),
        (
            {"a.csv": 'x,y\n1,a\n2,"b\n3,c\n'},
            {"target": "y"},
            "a.csv: expected quotes in pairs, .*in row 1, at byte 8",
        ),
        ({"a.csv": "x,y\r1,2\n3,4\n"}, {}, r"a.csv: expected a first line of fields that ends with \\n"),
        (
            {"a.csv": "x,y\n1,2\r3,4\n"},
            {},
            r"a.csv: expected 1 rows from byte 4 on, got 2; lines have to end with",
        ),
        # dtypes
        (
            {"a.csv": "x,y\n1,2\n"},
            {"dtypes": {"z": "int8"}},
            "dtypes: expected columns of .*a.csv, which has x, y, got 'z'",
        ),
        (
            {"a.csv": "x,y\n1,2\n3,4.5\n"},
            {"dtypes": {"y": "int64"}},
            "a.csv: expected int64 in column 'y', as dtypes says, got '4.5' in row 1",
        ),
        (
            {"a.csv": "x,y\n1,2\n"},
            {"dtypes": {"y": "float16"}},
            "dtypes: expected one such as .* for 'y', got 'float16'",
        ),
        # files that are no such files
        (
            {"a.csv.gz": gzip.compress(b"x,y\n1,2\n" * 99, mtime=0)[:-9]},
            {},
            "a.csv.gz: expected text, compressed as its ending",
        ),
        (
            {"a.csv.gz": gzip.compress(bytes(range(200)), mtime=0)[:30] + b"\xff" * 300},
            {},
            "a.csv.gz: expected text, compressed",
        ),
        ({"a.csv.zst": b"x,y\n1,2\n"}, {}, "a.csv.zst: expected text, compressed"),
        ({"a.parquet": b"x,y\n1,2\n"}, {}, "a.parquet: expected a Parquet file"),
        ({"a.feather": b"x,y\n1,2\n"}, {}, "a.feather: expected a Feather file of version 2"),
        (
            {"a.jsonl": b'{"x":1,"y":"\xe9"}\n'},
            {"target": "y"},
            "a.jsonl: expected text in UTF-8 in column 'y'",
        ),
        (
            {"a.parquet": table(x=[["a"]])},
            {},
            "a.parquet: expected numbers, text, dates or bool in column 'x', got list<.*; leave it out",
        ),
        ({"a.jsonl": "[1,2]\n"}, {}, "a.jsonl: expected a JSON object a line"),
        ({"a.jsonl": '{"x":1}{"x":2}\n'}, {}, "a.jsonl.*: expected a row a line, got 2 rows"),
        (
            {"a.parquet": pa.Table.from_arrays([pa.array([1])] * 2, ["x", "x"])},
            {},
            "a.parquet: expected .*'x' twice",
        ),
        # folders that hold a column
        (
            {"y=1/a.csv": "x,y\n1,2\n"},
            {},
            "a.csv: expected a column 'y' in the file or in the name of its folder",
        ),
        (
            {"y=1/a.csv": "x\n1\n"},
            {"drop": ["x"]},
            "a.csv: expected a column of the file .*only those of folders: y",
        ),
        # roles
        (
            {"a.csv": "x,y\n1,2\n"},
            {"missing_target": "drop"},
            "missing_target: expected 'refuse' without a target",
        ),
        (
            {"a.csv": ",\n1,2\n"},
            {},
            "a.csv: expected at least one feature, got none but Unnamed: 0, Unnamed: 1",
        ),
        (
            {"a.csv": "x,y\n1,2\n"},
            {"target": "z"},
            "target: expected a column of .*a.csv, which has x, y, got 'z'",
        ),
        (
            {"a.csv": "x,y\n1,2\n"},
            {"target": "y", "drop": ["y"]},
            "drop: expected another column than target, got 'y'",
        ),
        (
            {"a.csv": "x,y,w\n1,0,-2\n"},
            {"target": "y", "weight": "w"},
            "a.csv: expected finite weights >= 0 in column 'w', got -2.0 in row 0",
        ),
    ],
)
def test_refused(tmp_path: Path, files: dict[str, Content], options: Any, message: str) -> None:
    for name, content in files.items():
        write(tmp_path / "in" / name, content)
    with pytest.raises(ValueError, match=message) as raised:
        daskgd.ingest(tmp_path / "in", tmp_path / "out", **options)
    assert type(raised.value) is ValueError
    assert [place.name for place in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("name", ["a.parquet", "a.feather"])
def test_damaged_pages_are_named(tmp_path: Path, name: str) -> None:
    place = write(tmp_path / name, table(x=np.arange(1000.0), y=np.arange(1000)))
    content = bytearray(place.read_bytes())
    content[600:900] = b"\xff" * 300
    place.write_bytes(content)
    with pytest.raises((OSError, ValueError), match=name):
        daskgd.ingest(place, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "x,7",
            "a.csv: expected numbers in column 'a', as before, got 'x' in row 40; .*drop.*na_values.*dtypes",
        ),
        ("1,7,8", "a.csv: expected 2 fields in row 40, got 3: '1,7,8'"),
        ('1,"7', "a.csv: expected quotes in pairs, .*in row 40"),
        ("1,é", "a.csv: expected text in utf-8"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_errors_of_late_pieces_leave_what_was_there(
    tmp_path: Path, cut: Any, line: str, message: str, overwrite: bool
) -> None:
    cut(16)
    out = tmp_path / "out"
    if overwrite:
        daskgd.write_dataset(out, np.arange(6.0).reshape(3, 2))
        before = stored(out)
    content = ("a,b\n" + "1,2\n" * 40 + line + "\n").encode("latin-1")
    with pytest.raises(ValueError, match=message):
        daskgd.ingest(write(tmp_path / "a.csv", content), out, overwrite=overwrite)
    assert out.exists() == overwrite
    if overwrite:
        assert stored(out) == before
    assert {place.name for place in tmp_path.iterdir()} == {"a.csv", *(["out"] if overwrite else [])}


@pytest.mark.parametrize("n_bytes", [4, 1 << 20])
def test_a_mark_of_byte_order_within_a_file_is_text(tmp_path: Path, cut: Any, n_bytes: int) -> None:
    """As in files that were put together; pyarrow skips one where a piece begins."""
    cut(n_bytes)
    place = write(tmp_path / "a.csv", "\ufeffx,y\n1,a\n\ufeff3,a\n")
    with pytest.raises(ValueError, match=r"expected numbers.* in column 'x', .*ufeff3' in row 1"):
        daskgd.ingest(place, tmp_path / "out", target="y")
    daskgd.ingest(write(place, "\ufeffx,y\na,1\n\ufeffa,2\n"), tmp_path / "out", target="x")
    assert stored(tmp_path / "out")[2] == ["a", "\ufeffa"]


def test_text_in_json_lines_stays_text_where_another_column_becomes_wider(tmp_path: Path, cut: Any) -> None:
    """What a file infers of a column is not asked where the column reads as it is known."""
    place = write(tmp_path / "a.jsonl", '{"x":0,"y":"a"}\n{"x":0.5,"y":"2020-01-01"}\n')
    cut(5)
    daskgd.ingest(place, tmp_path / "out", target="y")
    assert stored(tmp_path / "out")[1:3] == ([[0.0], [0.5]], ["a", "2020-01-01"])


def test_a_late_name_in_json_lines_is_not_lost(tmp_path: Path, cut: Any) -> None:
    cut(30)
    text = '{"x":1,"z":null}\n' * 30 + '{"x":2,"z":"text"}\n{"x":2,"z":3}\n'
    place = write(tmp_path / "a.jsonl", text)
    daskgd.ingest(place, tmp_path / "out", drop=["z"])
    assert stored(tmp_path / "out")[1] == [[1]] * 30 + [[2], [2]]
    write(place, text + '{"x":1,"w":2}\n')
    with pytest.raises(ValueError, match=r"a.jsonl, rows 31 to 32: .*first rows, x, z, got 'w' as well"):
        daskgd.ingest(place, tmp_path / "other", drop=["z"])


# -- which files, in what order -------------------------------------------------------------------


def test_folders_hold_columns_and_files_that_are_not_read(tmp_path: Path, caplog: Any) -> None:
    """B3, B4, B11: folders tell years, side files are skipped, the second comes before the tenth."""
    for year, part, x in ((2013, 2, 1), (2013, 10, 2), (2014, 1, 3)):
        write(tmp_path / f"in/year={year}/part.{part}.parquet", table(x=[x], y=["a"]))
    write(tmp_path / "in/year=__HIVE_DEFAULT_PARTITION__/part.0.parquet", table(x=[4], y=["b"]))
    for side in (
        "_temporary/0/part.1.parquet",
        "_SUCCESS",
        ".ipynb_checkpoints/part.1.parquet",
        "._part.parquet",
    ):
        write(tmp_path / "in" / side, b"no rows")
    write(tmp_path / "in/year=2014/part.7.parquet", b"")
    with caplog.at_level(logging.INFO, "daskgd"):
        daskgd.ingest(tmp_path / "in", tmp_path / "out", target="y")
    names, rows, y = stored(tmp_path / "out")
    assert names == ["x", "year"]
    assert rows[:3] == [[1, 2013], [2, 2013], [3, 2014]]
    assert (rows[3], y) == ([4, None], ["a", "a", "a", "b"])
    assert "hidden files, 1 empty files" in caplog.text


def test_a_column_of_folders_may_be_the_target(tmp_path: Path) -> None:
    for label in ("cat", "dog", "__HIVE_DEFAULT_PARTITION__"):
        write(tmp_path / f"in/is={label}/a.csv", "x\n1\n2\n")
    daskgd.ingest(tmp_path / "in", tmp_path / "out", target="is", missing_target="drop")
    assert stored(tmp_path / "out") == (["x"], [[1], [2]] * 2, ["cat", "cat", "dog", "dog"])
    with pytest.raises(ValueError, match="got none in rows 0, 1"):
        daskgd.ingest(tmp_path / "in", tmp_path / "other", target="is")


def test_files_of_other_types_and_orders_are_alike(tmp_path: Path) -> None:
    """B8: promoted where that loses nothing; columns are found by name; a file may have only a header."""
    write(tmp_path / "in/a.parquet", table(x=pa.array([1], pa.int8()), y=pa.array([2], pa.float32())))
    write(tmp_path / "in/b.parquet", table(y=pa.array([4], pa.int16()), x=pa.array([300], pa.int16())))
    daskgd.ingest(tmp_path / "in", tmp_path / "out")
    assert stored(tmp_path / "out") == (["x", "y"], [[1, 2], [300, 4]], None)
    assert daskgd.open_dataset(tmp_path / "out").X.dtype == np.float32
    write(tmp_path / "csv/a.csv", "x,y\n")
    write(tmp_path / "csv/b.csv", "y,x\n1,2\n")
    daskgd.ingest(tmp_path / "csv", tmp_path / "other", target="y")
    assert stored(tmp_path / "other") == (["x"], [[2]], [1])


def test_patterns_and_urls(tmp_path: Path) -> None:
    """B15"""
    for i in range(3):
        write(tmp_path / f"{i}.csv", f"x,y\n{i},2\n")
    write(tmp_path / "other.txt", "no rows")
    daskgd.ingest(tmp_path / "*.csv", tmp_path / "out", target="y")
    assert stored(tmp_path / "out")[1] == [[0], [1], [2]]
    daskgd.ingest([(tmp_path / f"{i}.csv").as_uri() for i in (2, 0)], tmp_path / "two", target="y")
    assert stored(tmp_path / "two")[1] == [[2], [0]]
    memory = fsspec.filesystem("memory")
    memory.pipe("/tables/a.csv", b"x,y\n1,2\n")
    memory.pipe("/tables/b.csv.gz", gzip.compress(b"x,y\n3,4\n"))
    daskgd.ingest("memory://tables", tmp_path / "memory", target="y")
    assert stored(tmp_path / "memory") == (["x"], [[1], [3]], [2, 4])
    with pytest.raises(FileNotFoundError, match=r"memory://bucket/x.csv: no such file"):
        daskgd.ingest("memory://bucket/x.csv", tmp_path / "none")


class Unsized(http.server.BaseHTTPRequestHandler):
    """Says of no file how long it is."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"x,y\n1,2\n3,4\n")

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


def test_a_file_of_unknown_size_is_whole(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Unsized) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/a.csv"
            daskgd.ingest(url, tmp_path / "out", target="y")
        finally:
            server.shutdown()
            thread.join()
    assert stored(tmp_path / "out") == (["x"], [[1], [3]], [2, 4])


# -- the same whatever reads it -------------------------------------------------------------------


def many_files(folder: Path) -> Path:
    rng, letters = np.random.default_rng(0), "bc\n"
    for i in range(3):
        rows = [
            f'{a},{b:.6g},"{letters[k]}{k}"'
            for a, b, k in zip(
                rng.integers(0, 9, 60), rng.normal(size=60), rng.integers(0, 3, 60), strict=True
            )
        ]
        write(folder / f"{i}.csv", "a,b,y\n" + "\n".join(rows) + "\n0.5,,b0\n")
    return folder


def fingerprint(folder: Path, out: Path) -> str | None:
    counted: list[tuple[int, int]] = []
    read: list[tuple[int, int]] = []
    daskgd.ingest(
        folder, out, target="y", chunk_bytes=160, overwrite=True,
        progress=lambda *done: counted.append(done), counting=lambda *done: read.append(done),
    )  # fmt: skip
    assert read == sorted(set(read))
    assert read[-1][0] == read[-1][1] > 183  # bytes
    assert counted[-1] == (183, 183)
    done = [rows for rows, _ in counted]
    restarts = [i for i, (a, b) in enumerate(itertools.pairwise(done), 1) if a >= b]  # with wider types
    last = done[restarts[-1] :] if restarts else done
    assert last == sorted(set(last))
    return daskgd.open_dataset(out).fingerprint


@pytest.mark.parametrize("n_bytes", slow_but([16, 100, 1 << 20], 100, 1 << 20))
def test_the_store_is_the_same_by_threads_and_pieces(tmp_path: Path, cut: Any, n_bytes: int) -> None:
    folder = many_files(tmp_path / "in")
    expected = fingerprint(folder, tmp_path / "out")
    names, rows, y = stored(tmp_path / "out")
    assert (names, rows[60], y is not None and set(y)) == (["a", "b"], [0.5, None], {"b0", "c1", "\n2"})
    cut(n_bytes)
    assert fingerprint(folder, tmp_path / "out") == expected
    with dask.config.set(scheduler="threads", num_workers=3):
        assert fingerprint(folder, tmp_path / "out") == expected


def test_the_store_is_the_same_by_a_cluster(tmp_path: Path, client: distributed.Client) -> None:
    folder = many_files(tmp_path / "in")
    with dask.config.set(scheduler="sync"):
        expected = fingerprint(folder, tmp_path / "out")
    with dask.config.set(scheduler=None):
        assert fingerprint(folder, tmp_path / "out") == expected
        write(folder / "3.csv", "a,b,y\n" + "1,2.5,b\n" * 150_000 + "1,x,b\n")
        with pytest.raises(ValueError, match=r"3.csv: expected numbers in column 'b', .*'x' in row 150000"):
            daskgd.ingest(folder, tmp_path / "out", target="y", overwrite=True)
    assert daskgd.open_dataset(tmp_path / "out").fingerprint == expected
    assert {place.name for place in tmp_path.iterdir()} == {"in", "out"}
