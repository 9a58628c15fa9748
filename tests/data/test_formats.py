"""Formats of files: each is one declaration, which :func:`daskgd.ingest` reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import daskgd
from daskgd.data.formats import FORMATS
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
        ("a", None),
    ],
)
def test_endings_tell_formats(name: str, expected: str | None) -> None:
    found = [format.name for format in FORMATS.values() if format.matches(Path(name))]
    assert found == ([] if expected is None else [expected])


def test_a_folder_is_of_the_format_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "0.parquet").touch()
    assert [format.name for format in FORMATS.values() if format.matches(tmp_path)] == ["parquet"]


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
