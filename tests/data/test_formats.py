"""Formats of files: each is one declaration, which :func:`daskgd.ingest` reads."""

from __future__ import annotations

import gzip
import lzma
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

import daskgd
from daskgd.data.formats import FORMATS, libsvm
from daskgd.data.formats.base import ColumnRoles, Format, NamedBlocks, Progress, make_block


def test_no_two_formats_have_an_ending_in_common() -> None:
    endings = Counter(suffix for format in FORMATS.values() for suffix in format.suffixes)
    assert set(endings.values()) == {1}
    assert all(name == format.name for name, format in FORMATS.items())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", "csv"),
        ("A.CSV", "csv"),
        ("a.tsv.gz", "csv"),
        ("a.pq", "parquet"),
        ("a.npy", "npy"),
        ("a.npy.gz", None),
        ("a.parquet.gz", None),
        ("a.svm", "libsvm"),
        ("a.libsvm.bz2", "libsvm"),
        ("a", None),
    ],
)
def test_endings_tell_formats(name: str, expected: str | None) -> None:
    found = [format.name for format in FORMATS.values() if format.matches(name)]
    assert found == ([] if expected is None else [expected])


def test_another_format_is_one_declaration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(places: Sequence[Path], roles: ColumnRoles, progress: Progress) -> NamedBlocks:
        assert roles.target == "first"
        rows = [np.loadtxt(place, dtype=roles.dtype, ndmin=2) for place in places]
        names = [f"v{j}" for j in range(1, rows[0].shape[1])]
        return names, (
            make_block(a[:, 1:], a[:, 0], None, place) for a, place in zip(rows, places, strict=True)
        )

    monkeypatch.setitem(FORMATS, "words", Format("words", (".words",), read))
    for i in range(2):
        (tmp_path / f"{i}.words").write_text(f"{i} 2 3\n{i} 5 6\n")
    files = [tmp_path / "0.words", tmp_path / "1.words"]
    daskgd.ingest(files, tmp_path / "out.zarr", target="first", dtype="float32")
    dataset = daskgd.open_dataset(tmp_path / "out.zarr")
    assert (dataset.n_rows, dataset.feature_names) == (4, ("v1", "v2"))
    assert dataset.y is not None
    assert dataset.y.compute(scheduler="sync").tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match=r"expected one of \.npy, .*\.words, or format="):
        daskgd.ingest(__file__, tmp_path / "other.zarr")


# -- libsvm ---------------------------------------------------------------------------------------

LINES = b"# rows\n1 1:0.5 7:2\n-1 2:1.5 # qid:3\n\n1\n1 3:1"
DENSE = np.zeros((4, 7))
DENSE[[0, 0, 1, 3], [0, 6, 1, 2]] = 0.5, 2, 1.5, 1


@pytest.mark.parametrize("parsed", [1, 5, 1 << 20])
def test_libsvm_rows_stay_sparse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parsed: int) -> None:
    """Also where only the last of several files has the last feature, and some are compressed."""
    monkeypatch.setattr(libsvm, "PARSED_BYTES", parsed)
    (tmp_path / "0.svm").write_bytes(b"1 1:3\n")
    (tmp_path / "1.svm.gz").write_bytes(gzip.compress(LINES))
    (tmp_path / "2.svm.xz").write_bytes(lzma.compress(LINES))
    daskgd.ingest([tmp_path / f"{name}" for name in ("0.svm", "1.svm.gz", "2.svm.xz")], tmp_path / "out")
    dataset = daskgd.open_dataset(tmp_path / "out")
    found = dataset.X.compute(scheduler="sync")
    assert isinstance(found, scipy.sparse.csr_array)
    np.testing.assert_array_equal(found.toarray(), np.vstack([[3, 0, 0, 0, 0, 0, 0], DENSE, DENSE]))
    assert dataset.y is not None
    assert dataset.y.compute(scheduler="sync").tolist() == [1, 1, -1, 1, 1, 1, -1, 1, 1]
    assert dataset.y.dtype == np.int64


@pytest.mark.parametrize(
    ("options", "width", "first"),
    [
        ({}, 7, 0),
        ({"n_features": 20, "dtype": "float32"}, 20, 0),
        ({"zero_based": True}, 8, 1),
        ({"zero_based": False, "n_features": 7}, 7, 0),
    ],
)
def test_libsvm_features_are_numbered(
    tmp_path: Path, options: dict[str, Any], width: int, first: int
) -> None:
    (tmp_path / "a.svm").write_bytes(LINES)
    daskgd.ingest(tmp_path / "a.svm", tmp_path / "out", **options)
    X = daskgd.open_dataset(tmp_path / "out").X
    assert (X.shape, X.dtype) == ((4, width), options.get("dtype", "float64"))
    np.testing.assert_array_equal(X.compute(scheduler="sync").toarray()[:, first : first + 7], DENSE)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (LINES, {"n_features": 3}, "n_features: expected at least 7, got 3: there is a feature 7, counted"),
        (LINES, {"n_features": 0}, "n_features: expected a whole number >= 1, got 0"),
        (b"1 0:3\n", {"zero_based": False}, "zero_based: expected True or None, got False: .* a feature 0"),
        (b"1 qid:3 1:2\n", {}, r"a.svm, from byte 0 on: expected no qid, .* remove them, as with sed"),
        (b"1 2:1 1:3\n", {}, "from byte 0 on: .*sorted"),
        (b"1 -1:3\n", {}, "from byte 0 on: Invalid index -1"),
        (b"1\n", {}, "expected rows such as '1 3:0.5', got none with a feature; say n_features"),
        (b"", {}, "expected rows, got an empty file"),
    ],
)
def test_libsvm_that_is_refused(tmp_path: Path, text: bytes, options: dict[str, Any], message: str) -> None:
    (tmp_path / "a.svm").write_bytes(text)
    with pytest.raises(ValueError, match=message):
        daskgd.ingest(tmp_path / "a.svm", tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_libsvm_in_zstd_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.svm.zst").write_bytes(b"1 1:2")
    with pytest.raises(ValueError, match=r"expected text, or \.gz, \.bz2 or \.xz, got \.zst"):
        daskgd.ingest(tmp_path / "a.svm.zst", tmp_path / "out")


# -- dtypes that do not hold the numbers ----------------------------------------------------------


@pytest.mark.parametrize("kind", ["npy", "npy with a target", "npz", "libsvm"])
@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (
            300,
            "uint8",
            r"uint8 holds, 0 to 255, got 300(\.0)? in row 5, column 2; take dtype='(int64|float64)'",
        ),
        (-1, "uint8", "uint8 holds, 0 to 255, got -1"),
        (1.7, "int16", r"int16 holds, -32768 to 32767, got 1\.7 in row 5, column 2; take dtype='float64'"),
        (
            1e39,
            "float32",
            r"float32 holds, to 3\.4e\+38, got 1e\+39 in row 5, column 2; take dtype='float64'",
        ),
    ],
)
def test_a_dtype_that_changes_values_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, value: float, dtype: str, message: str
) -> None:
    """In the second file, and in a later block of it."""
    monkeypatch.setattr("daskgd.data.formats.base.BLOCK_BYTES", 100)
    monkeypatch.setattr(libsvm, "PARSED_BYTES", 8)
    files = []
    for name in ("good", "bad"):
        X = np.ones((8, 3), dtype=type(value))
        if name == "bad":
            X[5, 2] = value
        if kind == "libsvm":
            files.append(tmp_path / f"{name}.svm")
            lines = (f"1 {' '.join(f'{j}:{v!r}' for j, v in enumerate(row))}\n" for row in X.tolist())
            files[-1].write_text("# rows\n\n" + "".join(lines))
        elif kind == "npz":
            files.append(tmp_path / f"{name}.npz")
            np.savez(files[-1], X=X)
        else:
            files.append(tmp_path / f"{name}.npy")
            np.save(files[-1], X)
    options: dict[str, Any] = {"target": "1"} if kind == "npy with a target" else {}
    with pytest.raises(ValueError, match=rf"bad\.[a-z]+(, X)?: expected numbers that {message}"):
        daskgd.ingest(files, tmp_path / "out", dtype=dtype, **options)
    assert not (tmp_path / "out").exists()
    daskgd.ingest(files[0], tmp_path / "out", dtype=dtype, **options)
    assert daskgd.open_dataset(tmp_path / "out").X.dtype == dtype


def test_labels_of_libsvm_that_are_no_integers_of_64_bits_stay_floats(tmp_path: Path) -> None:
    (tmp_path / "a.svm").write_text("1e300 1:1\n2 1:1\n")
    daskgd.ingest(tmp_path / "a.svm", tmp_path / "out")
    y = daskgd.open_dataset(tmp_path / "out").y
    assert y is not None
    assert y.compute(scheduler="sync").tolist() == [1e300, 2.0]
