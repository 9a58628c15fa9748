"""Packed numbers are what xarray says they are, wherever an array comes in, or refused by name."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

import daskgd
from daskgd.data.convert import as_dataset
from daskgd.storage.opening import open_column

N = 40


def meant() -> dict[str, np.ndarray]:
    """Rows that packing rounds a little, with nothing missing."""
    rng = np.random.default_rng(0)
    X = rng.integers(-300, 300, (N, 2)) / 100
    return {"X": X, "y": np.round(X @ [1.0, -2.0] + 3, 2), "sample_weight": rng.integers(1, 5, N) / 2}


OLD_XARRAY = tuple(map(int, xr.__version__.split(".")[:2])) < (2025, 7)

PACKED = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 1.0, "_FillValue": -9999}


def write(path: Path, rows: dict[str, np.ndarray], encoding: Any = None, zarr_format: int = 3) -> Path:
    if zarr_format == 3 and OLD_XARRAY:
        pytest.skip("this xarray does not read the fill values of this zarr")
    encoding = dict.fromkeys(rows, PACKED) if encoding is None else encoding
    dimensions = {"X": ("row", "feature"), "y": ("row",), "sample_weight": ("row",)}
    dataset = xr.Dataset({name: (dimensions[name], values) for name, values in rows.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are both variables and parts of version 3
        dataset.chunk({"row": 16}).to_zarr(
            path, encoding=encoding, zarr_format=zarr_format, consolidated=False
        )
    return path


def decoded(path: Path) -> xr.Dataset:
    return xr.open_zarr(path, consolidated=False)


@pytest.fixture(scope="module", params=[2, 3], ids=["zarr 2", "zarr 3"])
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("packed") / "rows.zarr", meant(), zarr_format=request.param)


def arrays(path: Path) -> list[zarr.Array]:
    group = zarr.open_group(path, mode="r")
    return [group[name] for name in ("X", "y", "sample_weight")]


@pytest.mark.parametrize("how", ["path", "arrays", "xarray", "written", "written from xarray", "blocks"])
def test_what_is_packed_is_fitted_as_it_is_meant(packed: Path, how: str, tmp_path: Path) -> None:
    rows = decoded(packed)
    inputs: dict[str, Callable[[], tuple[Any, ...]]] = {
        "path": lambda: (packed,),
        "arrays": lambda: tuple(arrays(packed)),
        "xarray": lambda: (rows.X, rows.y, rows.sample_weight),
    }
    if how not in inputs:
        stored = inputs["xarray" if "xarray" in how else "arrays"]()
        daskgd.write_dataset(tmp_path / "out", *([[stored]] if how == "blocks" else stored))
        inputs[how] = lambda: (tmp_path / "out",)
    given = inputs[how]()
    dataset = as_dataset(*given)
    for name, values in meant().items():
        found = getattr(dataset, name).compute(scheduler="sync")
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, values, rtol=0, atol=1e-9)
        np.testing.assert_array_equal(found, rows[name].to_numpy())
    est = daskgd.LinearRegression().fit(*given)
    np.testing.assert_allclose(est.coef_, [1, -2], rtol=1e-6)
    predictions = est.predict(given[0] if how != "path" else packed)
    np.testing.assert_allclose(predictions.compute(scheduler="sync"), meant()["y"], atol=0.02)
    assert est.score(*given) > 0.999


READS: dict[str, Callable[[Any], Any]] = {
    "from_zarr": da.from_zarr,
    "from_array": da.from_array,
    "in slices": lambda z: da.from_zarr(z)[: N // 2],
    "in other chunks and another dtype": lambda z: da.from_zarr(z).rechunk(7).astype(float),
    "beside others": lambda z: da.concatenate([da.zeros(z.shape), da.from_zarr(z)]),
    "chosen rows": lambda z: da.from_zarr(z)[da.arange(N, chunks=16) % 2 == 0],
    "of xarray, not decoded": lambda z: xr.open_zarr(z.store.root, consolidated=False, mask_and_scale=False)[
        z.name[1:]
    ],
    "of xarray, loaded": lambda z: READS["of xarray, not decoded"](z).load(),
}


@pytest.mark.parametrize("read", READS)
def test_what_is_read_past_its_attributes_is_refused(packed: Path, read: str, tmp_path: Path) -> None:
    X, y, s = map(READS[read], arrays(packed))
    words = r"expected numbers as they are meant, got .*scale_factor"
    good = meant()
    for name, given in {
        "X": (X, good["y"]),
        "y": (good["X"], y),
        "sample_weight": (good["X"], good["y"], s),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}: {words}"):
            daskgd.LinearRegression().fit(*given)
        with pytest.raises(ValueError, match=f"^{name}: {words}"):
            daskgd.write_dataset(tmp_path / "out", *given)
        with pytest.raises(ValueError, match=f"^block 0 of {name}: {words}"):
            daskgd.write_dataset(tmp_path / "out", iter([given]))
    with pytest.raises(ValueError, match=f"^X: {words}"):
        daskgd.LinearRegression().fit(good["X"], good["y"]).predict(X)


def test_what_was_decoded_by_hand_is_taken(packed: Path) -> None:
    X, y, _ = (0.01 * da.from_zarr(a) + 1 for a in arrays(packed))
    np.testing.assert_allclose(daskgd.LinearRegression().fit(X, y).coef_, [1, -2], rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "encoding"),
    [
        ("float64", {"dtype": "int8", "_FillValue": -1}),
        ("float64", {"dtype": "int32", "_FillValue": -1}),
        ("float64", {"dtype": "int16", "missing_value": -1, "scale_factor": 0.5}),
        ("float64", {"dtype": "uint8", "add_offset": -3.0, "_FillValue": 255}),
        ("float64", {"dtype": "int8", "_Unsigned": "true", "_FillValue": np.int8(-1)}),
        ("float32", {"dtype": "float32", "_FillValue": 1e20}),
        ("float32", {"_FillValue": np.nan}),
        ("float64", {"dtype": "float32", "scale_factor": 2.0}),
        ("int64", {}),
    ],
    ids=str,
)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_numbers_and_dtypes_are_those_of_xarray(
    tmp_path: Path, zarr_format: int, dtype: str, encoding: dict[str, Any]
) -> None:
    X = np.arange(2 * N).reshape(N, 2).astype(dtype)
    if dtype != "int64" and "scale_factor" not in encoding:
        X[3, 1] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = write(tmp_path / "a.zarr", {"X": X}, {"X": encoding}, zarr_format)
        expected = decoded(path).X
    dataset = daskgd.open_dataset(path)
    found = dataset.X.compute(scheduler="sync")
    wide = "scale_factor" in encoding  # of xarray float32, where it has written a fill value by itself
    assert found.dtype == dataset.X.dtype == (np.float64 if wide else expected.dtype)
    np.testing.assert_array_equal(found, expected.to_numpy())
    np.testing.assert_array_equal(found, X)
    if np.isnan(X).any():
        with pytest.raises(ValueError, match=r"Input X contains NaN.*row 3, column 1"):
            daskgd.LinearRegression().fit(path, np.arange(N))


def test_chunks_that_are_not_stored_are_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.zarr", {"X": meant()["X"]}, zarr_format=2)
    (path / "X" / "1.0").unlink()
    X = daskgd.open_dataset(path).X.compute(scheduler="sync")
    assert np.isnan(X[16:32]).all()
    assert not np.isnan(X[:16]).any()
    assert not caplog.records


def test_a_packed_column_travels_and_has_an_identity(packed: Path) -> None:
    column = open_column(arrays(packed)[0])
    other = pickle.loads(pickle.dumps(column))
    np.testing.assert_array_equal(other.read(3, 20), column.read(3, 20))
    assert column.read(3, 3).dtype == column.dtype == np.float64
    assert other.identity() == column.identity()
    assert (
        daskgd.open_dataset(packed).info()["decoded"]
        == [name for name in ("scale_factor", "add_offset", "_FillValue") if name in column.array.attrs]
        or column.array.metadata.zarr_format == 2
    )
    plain = zarr.open_group(store={}, mode="w").create_array("X", data=np.zeros((2, 2), "i2"))
    before = open_column(plain).identity()
    plain.attrs["scale_factor"] = 2.0
    assert open_column(plain).identity() != before


def foreign(path: Path, values: Any, **attributes: Any) -> Path:
    group = zarr.open_group(path, mode="w")
    group.create_array("X", data=np.asarray(values)).attrs.update(attributes)
    return path


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        (
            {"units": "days since 2000-01-01", "calendar": "standard"},
            "expected numbers, got dates, days since 2000-01-01",
        ),
        ({"units": "ns", "dtype": "timedelta64[ns]"}, "expected numbers, got timedelta64 in ns"),
        ({"scale_factor": "x"}, "expected the attribute scale_factor as a number, got 'x'"),
        ({"scale_factor": [1.0, 2.0]}, "expected scale_factor as a number"),
        ({"_FillValue": [[]], "missing_value": {}}, "expected the attribute missing_value as a number"),
        ({"_Unsigned": "maybe"}, "expected _Unsigned as 'true' or 'false', got 'maybe'"),
        ({"valid_range": [1, 2, 3]}, "expected valid_range as two numbers"),
    ],
    ids=str,
)
def test_what_cannot_be_understood_is_refused(tmp_path: Path, attributes: dict[str, Any], words: str) -> None:
    path = foreign(tmp_path / "a.zarr", np.zeros((3, 2), "i4"), **attributes)
    with pytest.raises(daskgd.StoreError, match=f"a.zarr/X: {words}"):
        daskgd.open_dataset(path)
    with pytest.raises(ValueError, match=words):
        daskgd.write_dataset(tmp_path / "out", zarr.open_group(path, mode="r")["X"])


@pytest.mark.parametrize(
    ("values", "attributes", "words"),
    [
        ([[1], [9], [5]], {"valid_range": [0, 8]}, "0 to 8 as valid_range say, got 9 in row 1, column 0"),
        ([[1], [9], [5]], {"valid_max": 8, "_FillValue": 9}, None),
        ([[1], [-9], [5]], {"valid_min": 0, "scale_factor": -1.0}, "as valid_min say, got -9 in row 1"),
        ([[1], [9], [5]], {"valid_max": 0.85, "scale_factor": 0.1}, r"to 0\.85 as valid_max say, got 0\.9"),
        ([[1], [-1], [5]], {"valid_range": [0, -56], "_Unsigned": "true"}, "0 to 200 .*, got 255 in row 1"),
        ([[1], [-2], [5]], {"valid_range": [0, -1], "_Unsigned": "true"}, None),
    ],
    ids=str,
)
def test_numbers_that_are_not_valid_are_refused(
    tmp_path: Path, values: Any, attributes: dict[str, Any], words: str | None
) -> None:
    X = daskgd.open_dataset(foreign(tmp_path / "a.zarr", np.array(values, "i1"), **attributes)).X
    if words is None:
        X.compute(scheduler="sync")
    else:
        with pytest.raises(ValueError, match=words), dask.config.set(scheduler="sync"):
            X.compute()


def test_dates_are_never_a_target(tmp_path: Path) -> None:
    """Neither raw nor as datetime64, by any way in."""
    X, days = meant()["X"], np.datetime64("2000-01-01", "ns") + np.arange(N) * np.timedelta64(1, "D")
    path = write(tmp_path / "a.zarr", {"X": X, "y": days}, {})
    with pytest.raises(daskgd.StoreError, match=r"a\.zarr/y: expected numbers, got dates, nanoseconds since"):
        daskgd.open_dataset(path)
    raw = xr.open_zarr(path, consolidated=False, decode_times=False).y
    for y in (zarr.open_group(path, mode="r")["y"], raw, raw.load(), da.from_zarr(str(path), "y")):
        with pytest.raises(ValueError, match="expected numbers, got dates"):
            daskgd.LinearRegression().fit(X, y)
    for y in (days, da.from_array(days), decoded(path).y, days.astype("m8[ns]") - days.astype("m8[ns]")[0]):
        with pytest.raises((TypeError, ValueError), match=r"(datetime64|timedelta64)"):
            daskgd.LinearRegression().fit(X, y)
        with pytest.raises((TypeError, ValueError), match=r"y: .*(datetime64|timedelta64)"):
            daskgd.write_dataset(tmp_path / "out", X, y)
