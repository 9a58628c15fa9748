"""What `ingest` stores of a table is what pandas, pyarrow or Python read in it, or it is refused by name.

Files are generated: their marks, gaps, types, encodings and cuts. The pieces of a few bytes make that every
border between them is met. Where a file is refused that ought to be read, or stored otherwise, hypothesis
prints the smallest one, with its text.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from csv import QUOTE_ALL, QUOTE_MINIMAL, reader, writer
from dataclasses import dataclass, field
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import daskgd
from daskgd.data.formats import csv, json_lines, parquet

SIZES = st.sampled_from([5, 20, 80, 1 << 20])
CASES = int(os.environ.get("DASKGD_CASES", "200"))
"""Cases of the slow tier; 2,000 take some five minutes."""

TIERS = [20, pytest.param(CASES, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
DEFAULT_NA = ["", "NA", "nan", "null", "n/a", "None", "#N/A"]
LABELS = ["yes", "no", "NA", "None", "n/a", "a,b", "a;b", 'say "x"', "two\nlines", " lead", "trail ", "1a"]
FOREIGN = ["é", "naïve"]


@dataclass
class Case:
    """Files by their names, what to pass, and how to cut them."""

    files: dict[str, bytes]
    options: dict[str, Any]
    head_bytes: int = 1 << 20
    piece_bytes: int = 1 << 20
    read: dict[str, Any] = field(default_factory=dict)
    """Of pandas."""
    has_labels: bool = False
    """Whether the target is text."""
    is_right: bool = True
    """Whether it has to be stored."""


@dataclass
class Stored:
    names: tuple[str, ...]
    X: np.ndarray
    y: np.ndarray | None
    weights: np.ndarray | None
    columns: dict[str, list[Any]]
    """Of the frame: text, bool and numbers as they are, dates and times as numbers of their unit."""


def columns_of(dataset: daskgd.Dataset) -> dict[str, list[Any]]:
    frame, found = dataset.frame.compute(), {}
    for name, column in dataset.schema.items():
        values = frame[name]
        if column.unit is not None:
            if column.timezone is not None:
                values = values.dt.tz_convert("UTC").dt.tz_localize(None)
            per_day = 86400 if column.unit == "D" else 1
            whole = values.to_numpy(dtype=column.dtype.replace("D", "s")).view(np.int64) // per_day
            found[name] = [
                None if is_na else n for n, is_na in zip(whole.tolist(), values.isna(), strict=True)
            ]
        else:
            found[name] = [None if pd.isna(v) else v for v in values.astype(object)]
    return found


def ingest(case: Case) -> Stored | str:
    """What is stored, or the message. An error of another type is a failure."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for module in (csv, json_lines, parquet):
            patch.setattr(module, "PIECE_BYTES", case.piece_bytes)
        for module in (csv, json_lines):
            patch.setattr(module, "HEAD_BYTES", case.head_bytes)
        for name, content in case.files.items():
            place = Path(folder, "in", name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        out, refused = Path(folder, "out.zarr"), None
        try:
            with dask.config.set(scheduler="sync"):
                daskgd.ingest(Path(folder, "in"), out, **case.options)
        except ValueError as error:
            refused = error
        if refused is not None:
            assert not out.exists()
            assert type(refused) is ValueError, f"{type(refused)}: {refused}"
            message = str(refused).replace(folder, "")
            assert any(name in message for name in case.files) or "column '" in message, message
            return message
        dataset = daskgd.open_dataset(out)
        with dask.config.set(scheduler="sync"):
            y = None if dataset.y is None else dataset.y.compute()
            weights = None if dataset.sample_weight is None else dataset.sample_weight.compute()
            X = dataset.X.compute()
            columns = columns_of(dataset)
            if hasattr(X, "toarray"):
                X = X.toarray()
    if dataset.classes is not None:
        assert y is not None
        assert set(y.tolist()) == set(range(len(dataset.classes))), "a class without rows"
        assert dataset.classes.tolist() == sorted(dataset.classes.tolist())
        y = dataset.classes[y]
    return Stored(dataset.feature_names or (), X, y, weights, columns)


def check(
    case: Case, names: Sequence[str], X: np.ndarray, y: Sequence[Any] | None, weights: Sequence[Any] | None
) -> None:
    """Ingest a case and compare."""
    found = ingest(case)
    if isinstance(found, str):
        assert not case.is_right, found
        return
    assert list(found.names) == list(names)
    assert found.X.dtype == X.dtype
    np.testing.assert_array_equal(found.X, X)
    for name, one, other in (("y", found.y, y), ("weights", found.weights, weights)):
        assert (one is None) == (other is None), name
        if one is not None:
            assert other is not None
            assert one.tolist() == list(other), name


def rounds(values: Iterable[Any], is_text: bool = False) -> bool:
    """Whether float64 makes another number of an integer. Text may be the shortest digits of a float, with
    zeros for the others."""
    for value in values:
        if isinstance(value, int) and abs(value) > 2**53:
            same = {int(float(value))} | ({int(Decimal(repr(float(value))))} if is_text else set())
            if value not in same:
                return True
    return False


def run(n: int, cases: st.SearchStrategy[Any], check_one: Callable[[Any], None]) -> None:
    phases = [Phase.generate, Phase.shrink]  # to explain takes long
    settings(max_examples=n, phases=phases)(given(cases)(check_one))()


# -- CSV ------------------------------------------------------------------------------------------

INTS = st.integers(-2000, 2000) | st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def numbers(draw: st.DrawFn, kind: str, n: int, options: dict[str, Any]) -> list[str]:
    """Text of a column of numbers that may become fractions late."""
    late = draw(st.integers(0, n)) if kind == "late" else n if kind == "int" else 0
    found = []
    for i in range(n):
        if i < late:
            value = draw(INTS)
            text = f"{value:,}" if options["thousands"] and draw(st.booleans()) else str(value)
        else:
            value = draw(FLOATS)
            text = draw(st.sampled_from([repr(value), f"{value:.3e}", f"{value:.17g}"]))
        marks = {",": options["thousands"] or "", ".": options["decimal"]}
        found.append("".join(marks.get(letter, letter) for letter in text))
    return found


def quoted(text: str, options: dict[str, Any], always: bool) -> str:
    quote = options["quotechar"]
    special = [options["sep"], "\n", "\r", *([quote] if quote else [])]
    if not quote or not (always or any(mark in text for mark in special)):
        return text
    return quote + text.replace(quote, quote * 2) + quote


@st.composite
def csv_cases(draw: st.DrawFn) -> Case:
    sep = draw(st.sampled_from([",", ";", "\t", "|"]))
    decimal = draw(st.sampled_from([".", ","]))
    marks = {
        "sep": sep,
        "decimal": decimal if decimal != sep else ".",
        "thousands": draw(st.none() | st.sampled_from(["'", "_"])),
        "quotechar": draw(st.sampled_from(['"', '"', "~", ""])),
    }
    na_values = draw(st.sampled_from([(), ("?",), ("-9", "?")]))
    keep_default_na = draw(st.booleans())
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16"]))
    kinds = draw(st.lists(st.sampled_from(["int", "late", "float", "bool"]), min_size=1, max_size=3))
    target = draw(st.sampled_from([None, "text", "int", "float", "bool"]))
    has_weight = target is not None and draw(st.booleans())
    columns = [f"x {j}" for j in range(len(kinds))] + ["y"] * (target is not None) + ["w"] * has_weight
    if len(columns) < 2:
        kinds, columns = ["int", *kinds], ["x 0", "x 1"]
    order = draw(st.permutations(columns))
    header, has_names = draw(st.booleans()), draw(st.booleans())
    gaps = [*(DEFAULT_NA if keep_default_na else ()), *na_values]
    drops = target is not None and draw(st.booleans())
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    skip_rows = draw(st.integers(0, 2))
    labels = [label for label in LABELS if marks["quotechar"] or not set(label) & {sep, "\n"}]
    labels += FOREIGN if draw(st.booleans()) else []
    files: dict[str, bytes] = {}
    for i in range(draw(st.integers(1, 3))):
        n = draw(st.integers(1, 8))
        table: dict[str, list[str]] = {}
        for name, kind in zip(columns, [*kinds, target, "weight"], strict=False):
            if name == "w":
                table[name] = [str(draw(st.integers(0, 9)) / 4) for _ in range(n)]
                table[name] = [text.replace(".", marks["decimal"]) for text in table[name]]
                continue
            if kind == "text":
                table[name] = draw(st.lists(st.sampled_from(labels), min_size=n, max_size=n))
            elif kind == "bool":
                words = st.sampled_from(["True", "False", "true", "false", "TRUE", "FALSE"])
                table[name] = draw(st.lists(words, min_size=n, max_size=n))
            else:
                table[name] = draw(numbers(kind, n, marks))
            own = [gap for gap in gaps if kind != "text" or gap in ("", *na_values)]
            if own and draw(st.booleans()):
                for at in draw(st.sets(st.integers(0, n - 1), max_size=n)):
                    table[name][at] = draw(st.sampled_from(own))
        if target == "text" and keep_default_na:
            table["y"][0] = "yes"  # of a first piece of NA alone nothing says that it is text: refused
        always = draw(st.booleans()) and bool(marks["quotechar"])
        lines = ["# skipped"] * skip_rows
        if header:
            lines.append(sep.join(quoted(name, marks, always) for name in order))
        for row in range(n):
            lines.append(sep.join(quoted(table[name][row], marks, always) for name in order))
            lines += [""] * draw(st.sampled_from([0, 0, 0, 1, 2]))
        text = newline.join(lines) + draw(st.sampled_from(["", newline]))
        packing = draw(st.sampled_from(["", "", "", ".gz", ".bz2", ".xz"]))
        pack: Callable[[bytes], bytes] = {
            "": bytes,
            ".gz": gzip.compress,
            ".bz2": bz2.compress,
            ".xz": lzma.compress,
        }[packing]
        files[f"{i}.csv{packing}"] = pack(text.encode(encoding))
    names = [f"v{name}" for name in order] if has_names or not header else None
    spell = dict(zip(order, names or order, strict=True))
    options: dict[str, Any] = marks | {
        "encoding": "utf-8" if encoding == "utf-8-sig" and draw(st.booleans()) else encoding,
        "header": header, "names": names, "na_values": na_values, "keep_default_na": keep_default_na,
        "skip_rows": skip_rows,
    }  # fmt: skip
    if target is not None:
        options |= {"target": spell["y"], "missing_target": "drop" if drops else "refuse"}
    if has_weight:
        options["weight"] = spell["w"]
    defaults = list(csv.MISSING) if keep_default_na else []
    of_text = [""] if keep_default_na else []
    na = {
        spell[name]: [*(of_text if name == "y" and target == "text" else defaults), *na_values]
        for name in order
    }
    read = {
        "sep": sep, "decimal": marks["decimal"], "thousands": marks["thousands"],
        "encoding": encoding, "header": 0 if header else None, "names": names, "skiprows": skip_rows,
        "quotechar": marks["quotechar"] or '"', "quoting": 0 if marks["quotechar"] else 3,
        "na_values": na, "keep_default_na": False, "index_col": False, "dtype": str,
    }  # fmt: skip
    return Case(files, options, draw(SIZES), draw(SIZES), read, target == "text")


def number(text: Any, options: dict[str, Any]) -> float | int | bool | None:
    """What text of a number means; None for what is missing."""
    if not isinstance(text, str):
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    plain = text.replace(options["thousands"] or " ", "").replace(options["decimal"], ".")
    value = int(plain) if plain.removeprefix("-").isdigit() else float(plain)
    return None if "-9" in options["na_values"] and value == -9 else value


def check_csv(case: Case) -> None:
    """Pandas tells the fields and what is missing, Python what their text means as numbers."""
    with tempfile.TemporaryDirectory() as folder:
        frames = []
        for name, content in case.files.items():
            Path(folder, name).write_bytes(content)
            frames.append(pd.read_csv(Path(folder, name), **case.read))
    whole = pd.concat(frames, ignore_index=True)
    target, weight = case.options.get("target"), case.options.get("weight")
    columns = {
        name: [None if pd.isna(v) else v for v in whole[name]]
        if name == target and case.has_labels
        else [number(v, case.options) for v in whole[name]]
        for name in whole
    }
    if target is not None:
        kept = [i for i, value in enumerate(columns[target]) if value is not None]
        if len(kept) < len(whole):
            case.is_right = case.options["missing_target"] == "drop" and bool(kept)
        columns = {name: [values[i] for i in kept] for name, values in columns.items()}
        if case.has_labels and set(columns[target]) <= set(csv.MISSING) and case.options["keep_default_na"]:
            case.is_right = False  # nothing says that this is text
    features = [name for name in columns if name not in (target, weight)]
    if any(rounds(columns[name], is_text=True) for name in features):
        case.is_right = False
    if not case.is_right:
        assert isinstance(ingest(case), str)
        return
    X = np.array([[np.nan if v is None else float(v) for v in columns[name]] for name in features]).T
    check(case, features, X, *(None if name is None else columns[name] for name in (target, weight)))


@pytest.mark.parametrize("n", TIERS)
def test_csv_is_stored_as_pandas_reads_it(n: int) -> None:
    run(n, csv_cases(), check_csv)


FIELDS = st.sampled_from(
    ["1", "-2.5", "", '""', '"1"', '"a,\n"', 'a""b', '"a"b', '"a""', " 1", "a", '"', '""""']
)
ROWS = st.tuples(FIELDS, FIELDS, st.sampled_from(["\n", "\r\n", "\n\n", "\r", "", ",\n"]))
TEXTS = st.lists(ROWS.map(lambda row: f"{row[0]},{row[1]}{row[2]}"), min_size=1, max_size=5).map("".join)


@st.composite
def any_text(draw: st.DrawFn) -> Case:
    """Two fields a row, now and then."""
    text = draw(TEXTS | st.text('1a,"\n\r ', min_size=3, max_size=12))
    options = {"header": False, "names": ["x", "y"], "dtypes": {"y": "string"}, "target": "y"}
    return Case({"a.csv": text.encode()}, options, draw(SIZES), draw(SIZES))


def check_any_text(case: Case) -> None:
    """What is stored is what Python's csv reads; most is refused."""
    found = ingest(case)
    if isinstance(found, str):
        return
    text = case.files["a.csv"].decode()
    rows = [row for row in reader(io.StringIO(text, newline="")) if row]
    is_text = any(isinstance(x, str) for x in found.columns["x"])
    expected = [x or None if is_text else float(x or "nan") for x, _ in rows]
    assert found.columns["x"] == [None if x != x else x for x in expected]
    assert found.y is not None
    assert found.y.tolist() == [y for _, y in rows]


@pytest.mark.parametrize("n", [100, *TIERS[1:]])
def test_any_text_is_stored_as_python_reads_it_or_refused(n: int) -> None:
    run(n, any_text(), check_any_text)


# -- typed columns --------------------------------------------------------------------------------

INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
KINDS = [INTEGERS, ["float16", "float32", "float64"], [*INTEGERS, "float32", "decimal"], ["bool"]]
INDEX = {b"pandas": json.dumps({"index_columns": ["row"]}).encode()}


@st.composite
def typed_columns(draw: st.DrawFn, kind: str, n: int) -> pa.Array:
    """A column of a kind, perhaps with gaps."""
    values: st.SearchStrategy[Any]
    if kind == "decimal":
        values = st.decimals(-(10**9), 10**9, places=draw(st.integers(0, 7)))
        of_type = draw(st.sampled_from([pa.decimal128(30, 7), pa.decimal256(40, 8)]))
    elif kind == "bool":
        values, of_type = st.booleans(), pa.bool_()
    else:
        dtype = np.dtype(kind)
        of_type = pa.from_numpy_dtype(dtype)
        if dtype.kind == "f":
            values = st.floats(width=dtype.itemsize * 8).map(dtype.type)  # type: ignore[arg-type]
        else:
            values = st.integers(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    values = draw(st.sampled_from([values, values | st.none()]))
    return pa.array(draw(st.lists(values, min_size=n, max_size=n)), of_type)


@st.composite
def label_columns(draw: st.DrawFn, kind: str, n: int) -> pa.Array:
    """Labels, perhaps as codes of categories some of which have no row."""
    names = ["a", "b", "", "NA"]
    labels = draw(
        st.lists(st.sampled_from([*names, draw(st.sampled_from(["a", None]))]), min_size=n, max_size=n)
    )
    if kind == "text" or draw(st.booleans()):
        return pa.array(labels, draw(st.sampled_from([pa.string(), pa.large_string()])))
    names = draw(st.permutations(["unused", *names]))
    codes = [None if label is None else names.index(label) for label in labels]
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), pa.array(names))


@st.composite
def typed_cases(draw: st.DrawFn) -> tuple[Case, list[pa.Table]]:
    """A case, and what is in its files, with the columns of their folders."""
    ending = draw(st.sampled_from(["parquet", "feather"]))
    alike = [draw(st.sampled_from(KINDS)) for _ in range(draw(st.integers(1, 3)))]
    target = draw(st.sampled_from([None, "text", "dictionary", "bool", "int32", "float64", "decimal"]))
    has_folders, has_index = draw(st.booleans()), draw(st.booleans())
    files, tables = {}, []
    for i in range(draw(st.integers(1, 3))):
        n = draw(st.integers(1, 10))
        columns = {
            f"x.{j}": draw(typed_columns(draw(st.sampled_from(kinds)), n)) for j, kinds in enumerate(alike)
        }
        if target is not None:
            made = label_columns if target in ("text", "dictionary") else typed_columns
            columns["y"] = draw(made(target, n))
        stored = columns | ({"row": pa.array(range(n))} if has_index else {})
        table = pa.table({name: stored[name] for name in draw(st.permutations(list(stored)))})
        out, rows = io.BytesIO(), draw(st.integers(1, 5))
        table = table.replace_schema_metadata(INDEX if has_index else None)
        if ending == "parquet":
            pa.parquet.write_table(table, out, row_group_size=rows, use_dictionary=draw(st.booleans()))
        else:
            pa.feather.write_feather(table, out, chunksize=rows)
        part = draw(st.sampled_from(["7", "-1", "__HIVE_DEFAULT_PARTITION__"]))
        files[f"{i}/part={part}/{i}.{ending}" if has_folders else f"{i}.{ending}"] = out.getvalue()
        if has_folders:
            columns["part"] = pa.array([int(part) if len(part) < 3 else None] * n, pa.int64())
        tables.append(
            pa.table({name: columns[name] for name in table.column_names if name != "row"} | columns)
        )
    options: dict[str, Any] = {}
    if target is not None:
        options = {"target": "y", "missing_target": draw(st.sampled_from(["refuse", "drop"]))}
    return Case(files, options, piece_bytes=draw(SIZES)), tables


def plain_dtype(kind: pa.DataType) -> np.dtype[Any]:
    if pa.types.is_boolean(kind):
        return np.dtype(np.uint8)
    return np.dtype(float if pa.types.is_decimal(kind) else kind.to_pandas_dtype())


def check_typed(made: tuple[Case, list[pa.Table]]) -> None:
    """Values are what pyarrow says as objects of Python, in the dtype that numpy promotes those of all to."""
    case, tables = made
    names = tables[0].column_names
    y = None
    if "y" in names:
        found = [[v if v == v else None for v in table["y"].to_pylist()] for table in tables]
        keep = [[v is not None for v in values] for values in found]
        y = [v for values in found for v in values if v is not None]
        if not all(map(all, keep)):
            case.is_right = case.options["missing_target"] == "drop" and bool(y)
        tables = [table.filter(pa.array(mask)) for table, mask in zip(tables, keep, strict=True)]
        if isinstance(y[0] if y else None, Decimal):
            y = [float(v) for v in y]
    if not case.is_right:
        assert isinstance(ingest(case), str)
        return
    features = [name for name in names if name != "y"]
    of_columns = [
        reduce(np.promote_types, [plain_dtype(table[name].type) for table in tables]) for name in features
    ]
    dtype = np.result_type(*of_columns)
    if dtype.kind != "f" and any(table[name].null_count for table in tables for name in features):
        dtype = np.dtype(float)
    columns = []
    for name in features:
        parts = []
        for table in tables:
            own = plain_dtype(table[name].type)
            values = [0 if v is None else float(v) if own.kind == "f" else v for v in table[name].to_pylist()]
            if dtype.kind == "f" and rounds(values):
                case.is_right = False
                assert isinstance(ingest(case), str)
                return
            part = np.array(values, own).astype(dtype)
            part[np.array([v is None for v in table[name].to_pylist()], bool)] = (
                np.nan if dtype.kind == "f" else 0
            )
            parts.append(part)
        columns.append(np.concatenate(parts))
    check(case, features, np.column_stack(columns), y, None)


@pytest.mark.parametrize("n", TIERS)
def test_typed_columns_are_stored_as_pyarrow_reads_them(n: int) -> None:
    run(n, typed_cases(), check_typed)


# -- features of many types -----------------------------------------------------------------------

TEMPORAL = [
    *(pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "Europe/Paris")),
    *(pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
    *(pa.duration("s"), pa.duration("us"), pa.duration("ns")),
]


@st.composite
def temporal_columns(draw: st.DrawFn, kind: pa.DataType, n: int) -> pa.Array:
    """Dates, times and durations, perhaps with gaps; nanoseconds that are whole microseconds."""
    most, step = 2**33, 1
    if pa.types.is_time(kind):
        most = 86399
    elif pa.types.is_date(kind):
        most, step = (60_000, 1) if kind == pa.date32() else (60_000, 86_400_000)
    elif getattr(kind, "unit", "") == "ns":
        step = 1000
    if str(kind) == "time64[ns]":
        step = 1000
    low = 0 if pa.types.is_time(kind) else -most
    values = st.integers(low, most).map(lambda v: v * step)
    values = draw(st.sampled_from([values, values | st.none()]))
    small = pa.int32() if kind.bit_width == 32 else pa.int64()
    return pa.array(draw(st.lists(values, min_size=n, max_size=n)), small).cast(kind)


@st.composite
def mixed_cases(draw: st.DrawFn) -> tuple[Case, list[pa.Table]]:
    """Files with columns of all types."""
    ending = draw(st.sampled_from(["parquet", "feather"]))
    kinds = draw(
        st.lists(
            st.sampled_from(["text", "dictionary", "bool", "int32", "float32", "int64"])
            | st.sampled_from(TEMPORAL),
            min_size=1,
            max_size=4,
        )
    )
    files, tables = {}, []
    for i in range(draw(st.integers(1, 3))):
        n = draw(st.integers(1, 10))
        columns = {}
        for j, kind in enumerate(kinds):
            if not isinstance(kind, str):
                columns[f"x{j}"] = draw(temporal_columns(kind, n))
            elif kind in ("text", "dictionary"):
                columns[f"x{j}"] = draw(label_columns(kind, n))
            else:
                columns[f"x{j}"] = draw(typed_columns("int32" if kind == "int64" else kind, n))
        table, out, rows = pa.table(columns), io.BytesIO(), draw(st.integers(1, 5))
        if ending == "parquet":
            pa.parquet.write_table(table, out, row_group_size=rows)
            out.seek(0)
            table = pa.parquet.read_table(out)  # which has no seconds
        else:
            pa.feather.write_feather(table, out, chunksize=rows)
        files[f"{i}.{ending}"] = out.getvalue()
        tables.append(table)
    return Case(files, {}, piece_bytes=draw(SIZES)), tables


def plain_values(column: pa.ChunkedArray) -> list[Any]:
    """Values as they are, dates and times as numbers, in microseconds where there are nanoseconds."""
    kind = column.type
    if pa.types.is_temporal(kind):
        numbers = column.cast(pa.int32() if kind.bit_width == 32 else pa.int64()).to_pylist()
        step = 1000 if getattr(kind, "unit", "") == "ns" else 1
        return [None if v is None else v // step for v in numbers]
    return [None if v is None or v != v else v for v in column.to_pylist()]


def check_mixed(made: tuple[Case, list[pa.Table]]) -> None:
    case, tables = made
    found = ingest(case)
    assert not isinstance(found, str), found
    expected: dict[str, list[Any]] = {name: [] for name in tables[0].column_names}
    for table in tables:
        for name in expected:
            expected[name] += plain_values(table[name])
    assert found.columns == expected


@pytest.mark.parametrize("n", TIERS)
def test_columns_of_all_types_come_back(n: int) -> None:
    run(n, mixed_cases(), check_mixed)


# -- text and dates in CSV ------------------------------------------------------------------------

DATES = st.dates().map(str)
TIMES = st.datetimes().map(lambda time: time.replace(microsecond=0).isoformat(" "))
WORDS = st.sampled_from([*LABELS, *FOREIGN])


@st.composite
def text_cases(draw: st.DrawFn) -> tuple[Case, dict[str, list[Any]]]:
    """Files with columns of text, of dates and of times, some without a value, and what they hold."""
    kinds = draw(st.lists(st.sampled_from([WORDS, DATES, TIMES]), min_size=1, max_size=3))
    expected: dict[str, list[Any]] = {f"x{j}": [] for j in range(len(kinds))}
    files = {}
    for i in range(draw(st.integers(1, 3))):
        n = draw(st.integers(1, 8))
        columns = [draw(st.lists(kind | st.just(""), min_size=n, max_size=n)) for kind in kinds]
        out = io.StringIO(newline="")
        table = writer(out, quoting=QUOTE_ALL if draw(st.booleans()) else QUOTE_MINIMAL, lineterminator="\n")
        table.writerow([*expected, "n"])
        table.writerows(zip(*columns, [1] * n, strict=True))
        files[f"{i}.csv"] = out.getvalue().encode()
        for name, kind, values in zip(expected, kinds, columns, strict=True):
            epoch = np.datetime64(0, "D" if kind is DATES else "s")
            expected[name] += [
                (v or None) if kind is WORDS or not v else int((np.datetime64(v) - epoch).astype(int))
                for v in values
            ]
    missing = [name for name, kind in zip(expected, kinds, strict=True)
               if kind is WORDS and set(expected[name]) <= {None, *DEFAULT_NA}]  # fmt: skip
    for name in missing:  # nothing says that this is text
        expected[name] = [None] * len(expected[name])
    expected["n"] = [1] * len(expected["x0"])
    return Case(files, {}, draw(SIZES), draw(SIZES)), expected


def check_text(made: tuple[Case, dict[str, list[Any]]]) -> None:
    case, expected = made
    found = ingest(case)
    assert not isinstance(found, str), found
    assert found.columns == expected


@pytest.mark.parametrize("n", TIERS)
def test_text_and_dates_come_back(n: int) -> None:
    run(n, text_cases(), check_text)


# -- JSON lines -----------------------------------------------------------------------------------


@st.composite
def json_cases(draw: st.DrawFn) -> Case:
    numbers = {"int": INTS, "float": FLOATS, "bool": st.booleans(), "late": INTS | FLOATS}
    kinds = draw(st.lists(st.sampled_from(list(numbers)), min_size=1, max_size=3))
    has_target, has_other = draw(st.booleans()), draw(st.booleans())
    files = {}
    for i in range(draw(st.integers(1, 3))):
        lines = []
        for at in range(draw(st.integers(1, 8))):
            row: dict[str, Any] = {f"x{j}": draw(numbers[kind] | st.none()) for j, kind in enumerate(kinds)}
            if has_target:
                row["y"] = draw(st.sampled_from(["a", "é", "NA", "", "2020-01-01", 'say "x"\n']))
            if has_other:
                row["other"] = draw(st.sampled_from(["text", None]))
            names = draw(st.permutations(list(row)))
            row = {
                name: row[name] for name in names if not at or row[name] is not None or draw(st.booleans())
            }
            lines.append(json.dumps(row, ensure_ascii=draw(st.booleans())))
            lines += [""] * draw(st.sampled_from([0, 0, 1]))
        newline = draw(st.sampled_from(["\n", "\r\n"]))
        text = (newline.join(lines) + draw(st.sampled_from(["", newline]))).encode()
        packing = draw(st.sampled_from(["", "", ".gz"]))
        files[f"{i}.jsonl{packing}"] = gzip.compress(text) if packing else text
    options: dict[str, Any] = ({"target": "y"} if has_target else {}) | (
        {"drop": ["other"]} if has_other else {}
    )
    return Case(files, options, draw(SIZES), draw(SIZES))


def check_json(case: Case) -> None:
    """Every line is what Python's json says."""
    rows = []
    for name, content in case.files.items():
        text = gzip.decompress(content) if name.endswith(".gz") else content
        rows += [json.loads(line) for line in text.splitlines() if line]
    others = ("y", "other")
    names = [name for name in rows[0] if name not in others]
    if any(rounds((row.get(name) for row in rows), is_text=True) for name in names):
        case.is_right = False
        assert isinstance(ingest(case), str)
        return
    y = [row["y"] for row in rows] if "target" in case.options else None
    check(case, names, np.array([[row.get(name) for name in names] for row in rows], float), y, None)


@pytest.mark.parametrize("n", TIERS)
def test_json_lines_are_stored_as_python_reads_them(n: int) -> None:
    run(n, json_cases(), check_json)
