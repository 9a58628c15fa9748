"""Objects are what all of them are; what is missing, or of another kind, is refused by its row, whichever the
way in."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import daskgd
from daskgd.storage.objects import convert_numbers, convert_objects

N, BAD = 12, 7
X = np.random.default_rng(0).normal(size=(N, 2))


def objects(values: Any) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def fit(y: Any, path: Path) -> list[Any]:
    return list(daskgd.LogisticRegression().fit(X, y).classes_.tolist())


def write(y: Any, path: Path) -> list[Any] | None:
    daskgd.write_dataset(path, X, y)
    classes = daskgd.open_dataset(path).classes
    return None if classes is None else list(classes.tolist())


def write_blocks(y: Any, path: Path) -> list[Any] | None:
    daskgd.write_dataset(path, [(X[:5], y[:5]), (X[5:], y[5:])])
    classes = daskgd.open_dataset(path).classes
    return None if classes is None else list(classes.tolist())


WAYS: dict[str, tuple[Callable[[Any, Path], Any], Callable[[list[Any]], Any]]] = {
    "fit, list": (fit, list),
    "fit, objects": (fit, objects),
    "fit, series": (fit, lambda y: pd.Series(y, dtype=object)),
    "fit, category": (fit, lambda y: pd.Series(y, dtype="category")),
    "fit, dask": (fit, lambda y: da.from_array(objects(y), chunks=5)),
    "fit, dask series": (fit, lambda y: dd.from_pandas(pd.Series(y, dtype=object), npartitions=2)),
    "write, list": (write, list),
    "write, objects": (write, objects),
    "write, series": (write, lambda y: pd.Series(y, dtype=object)),
    "write, category": (write, lambda y: pd.Series(y, dtype="category")),
    "write, dask": (write, lambda y: da.from_array(objects(y), chunks=5)),
    "write, blocks": (write_blocks, list),
    "write, blocks of objects": (write_blocks, objects),
}
MISSING = [None, float("nan"), np.float64("nan"), pd.NA, pd.NaT, Decimal("NaN")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("labels", [["a", "b"], [True, False]], ids=["text", "bool"])
def test_missing_labels_are_refused_by_row(way: str, labels: list[Any], tmp_path: Path) -> None:
    call, of = WAYS[way]
    for value in MISSING:
        y = labels * (N // 2)
        y[BAD] = value
        row = f"row {BAD - 5 if 'blocks' in way else BAD}\\b"
        if way.startswith("write, blocks") and isinstance(value, float) and labels[0] is True:
            row += "|block 1 of y"
        with pytest.raises(ValueError, match=row):
            call(of(y), tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("way", WAYS)
def test_labels_named_as_if_missing_are_kept(way: str, tmp_path: Path) -> None:
    call, of = WAYS[way]
    assert call(of(["NA", "None", "nan", "NaT"] * (N // 4)), tmp_path / "out") == ["NA", "NaT", "None", "nan"]


@pytest.mark.parametrize("way", [way for way in WAYS if "category" not in way and "series" not in way])
def test_labels_of_another_kind_are_refused_by_row(way: str, tmp_path: Path) -> None:
    call, of = WAYS[way]
    for labels, value in ((["a", "b"], 1), (["a", "b"], True), ([True, False], "a"), ([0, 1], "a")):
        y = labels * (N // 2)
        y[BAD] = value
        with pytest.raises((TypeError, ValueError), match=r"row \d|block 1 of y"):
            call(of(y), tmp_path / "out")


@pytest.mark.parametrize("na", [None, np.nan, "x"], ids=str)
def test_text_of_any_length(na: Any, tmp_path: Path) -> None:
    """numpy's StringDType, which may have a value for what is missing."""
    y = np.array(["a", "bcd"] * (N // 2), dtype=np.dtypes.StringDType(na_object=na))
    for i, given in enumerate((y, da.from_array(y, chunks=5))):
        assert fit(given, tmp_path) == write(given, tmp_path / str(i)) == ["a", "bcd"]
    if na != "x":
        y[BAD] = na
        for given in (y, da.from_array(y, chunks=5)):
            for call in (fit, write):
                with pytest.raises(ValueError, match=f"row {BAD}"):
                    call(given, tmp_path / "out")


# -- numbers --------------------------------------------------------------------------------------

DECIMALS = [Decimal(i) / 4 for i in range(N)]


@pytest.mark.parametrize("of", [list, objects, pd.Series], ids=lambda of: of.__name__)
def test_decimals_are_numbers(of: Any, tmp_path: Path) -> None:
    floats = np.arange(N) / 4
    expected = daskgd.LinearRegression().fit(X, floats, floats)
    found = daskgd.LinearRegression().fit(X, of(DECIMALS), of(DECIMALS))
    assert np.array_equal(found.coef_, expected.coef_)
    daskgd.write_dataset(tmp_path / "a", X, of(DECIMALS), of(DECIMALS))
    dataset = daskgd.open_dataset(tmp_path / "a")
    assert np.array_equal(dataset.y.compute(), floats)
    assert np.array_equal(dataset.sample_weight.compute(), floats)


FRAMES = {
    "objects": pd.Series(DECIMALS, dtype=object),
    "arrow": pd.Series(DECIMALS, dtype=pd.ArrowDtype(pa.decimal128(6, 2))),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_decimals_in_frames_are_numbers(kind: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"i": np.arange(N), "d": FRAMES[kind]})
    plain = np.column_stack([np.arange(N), np.arange(N) / 4])
    with dask.config.set({"dataframe.convert-string": False}):  # else they are text already
        lazy = dd.from_pandas(frame, npartitions=2).to_dask_array(lengths=True)
    for i, given in enumerate((frame, [frame[:5], frame[5:]], lazy, frame.to_numpy(object))):
        daskgd.write_dataset(tmp_path / str(i), given)
        assert np.array_equal(daskgd.open_dataset(tmp_path / str(i)).X.compute(), plain)
    assert frame["d"].dtype == FRAMES[kind].dtype
    weights = np.ones(N)
    expected = daskgd.Ridge().fit(plain, weights).coef_
    assert np.array_equal(daskgd.Ridge().fit(frame, weights).coef_, expected)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([*DECIMALS[:-1], "x"], "others: d|row 11 'x'"),
        (np.arange(N) * 1j, "others: d|complex"),
        (pd.Series([1, None] * 6, dtype="Int64"), "NA in row 1 of column 'd'|chunks of"),
        (pd.Series([True, None] * 6, dtype="boolean"), "NA in row 1 of column 'd'|chunks of"),
        (
            pd.Series([1, None] * 6, dtype=pd.ArrowDtype(pa.int32())),
            "NA in row 1 of column 'd'|chunks of int32",
        ),
        ([10**400] * N, "at most 64 bits, got 1000"),
    ],
    ids=["text", "complex", "Int64", "boolean", "arrow", "huge"],
)
def test_columns_that_are_no_numbers_are_refused(column: Any, message: str, tmp_path: Path) -> None:
    try:
        frame = pd.DataFrame({"d": column})
    except OverflowError:
        pytest.skip("this pandas holds no such integers")
    has_gaps = bool(frame["d"].isna().any())  # a frame of these keeps its types, a block is numbers
    for given in ([frame],) if has_gaps else (frame, [frame]):
        with pytest.raises((TypeError, ValueError), match=message):
            daskgd.write_dataset(tmp_path / "out", given)
    lazy = dd.from_pandas(frame, npartitions=2, sort=False).to_dask_array(lengths=True)
    if np.dtype(lazy.dtype).kind != "f":
        try:
            daskgd.write_dataset(tmp_path / "lazy", lazy)
        except (TypeError, ValueError):
            return
        found = daskgd.open_dataset(tmp_path / "lazy").X.compute().ravel()
        np.testing.assert_array_equal(found, frame["d"].astype(float).to_numpy(na_value=np.nan))


def test_chunks_of_another_dtype_than_the_array_says_are_refused(tmp_path: Path) -> None:
    def lazy(declared: str, actual: Any) -> da.Array:
        chunk = np.asarray(actual)
        return da.from_array(X, chunks=5).map_blocks(
            lambda block: np.broadcast_to(chunk, block.shape).copy(),
            dtype=declared,
            meta=np.empty((0, 0), declared),
        )

    for declared, actual in (("int32", np.nan), ("int8", 300), ("uint8", -1), ("int64", 1.5)):
        with pytest.raises(
            ValueError, match=f"X: expected chunks of {declared}, as the dask array says, got"
        ):
            daskgd.write_dataset(tmp_path / "out", lazy(declared, actual))
    for i, (declared, actual) in enumerate(
        (("float64", np.int8(3)), ("float32", 0.5), ("int64", np.int8(3)))
    ):
        daskgd.write_dataset(tmp_path / str(i), lazy(declared, actual))
        found = daskgd.open_dataset(tmp_path / str(i)).X.compute()
        assert found.dtype == declared
        assert (found == actual).all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, np.int8(2)], np.array([1, 2])),
        ([1, Fraction(1, 2), Decimal("0.25"), np.float32(2)], np.array([1, 0.5, 0.25, 2])),
        ([True, np.bool_(False)], np.array([True, False])),
        (["a", np.str_("b")], np.array(["a", "b"], object)),
    ],
    ids=str,
)
def test_objects_are_what_all_of_them_are(values: list[Any], expected: np.ndarray) -> None:
    found = convert_objects(objects(values), "y")
    assert found.dtype == expected.dtype
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2**64], "y: expected numbers of at most 64 bits, got 18446744073709551616 in row 101"),
        ([datetime.date(2000, 1, 1)], "all str, got date in row 100; convert them, as in y.astype"),
        ([b"a"], "got bytes in row 100"),
        ([1.0, None], "got none (None) in row 101"),
        ([1, True], "got numbers in row 100 and bool in row 101"),
    ],
    ids=str,
)
def test_rows_are_named(values: list[Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        convert_objects(objects(values), "y", 100)
    assert message in str(caught.value)


def test_missing_numbers_are_nan_and_text_is_none() -> None:
    np.testing.assert_array_equal(
        convert_numbers(objects([1, None, pd.NA, True]), "X"), [1, np.nan, np.nan, 1]
    )
    with pytest.raises(TypeError, match="in row 3 '1'"):
        convert_numbers(objects([1, "1"]), "X", 2)
