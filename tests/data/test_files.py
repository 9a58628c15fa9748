"""Files by paths, folders, patterns and URLs: the same ones on disk and in an object store."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from dask.utils import natural_sort_key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daskgd.data.formats.files import File, find_files
from tests.vault import OPTIONS, SECRETS, break_vault, vault_at

SUFFIXES = (".csv", ".csv.gz")
TREE = {
    "part.10.csv": 1,
    "part.2.csv": 2,
    "part.1.CSV.gz": 3,
    "README.md": 4,
    "deep/er/part.3.csv": 5,
    "deep/part.0.csv": 6,
    "_SUCCESS": 0,
    "_metadata": 7,
    "empty.csv": 0,
    ".hidden.csv": 8,
    "_temporary/0/part.4.csv": 9,
    ".ipynb_checkpoints/part.2-checkpoint.csv": 10,
}


@pytest.fixture(params=["disk", "memory", "cached"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty folder, on disk or at a URL."""
    memory = fsspec.filesystem("memory")
    if request.param == "disk":
        yield str(tmp_path)
    else:
        yield f"{'simplecache::' * (request.param == 'cached')}memory://{tmp_path.name}"
        memory.rm("/", recursive=True)


def fill(root: str, sizes: dict[str, int]) -> None:
    for name, size in sizes.items():
        fs, path = fsspec.core.url_to_fs(f"{root.removeprefix('simplecache::')}/{name}")
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        fs.pipe_file(path, b"x" * size)


def names(found: list[File], root: str) -> list[str]:
    """Paths below the root."""
    top = root.rpartition("/")[2]
    return [str(file).replace(os.sep, "/").partition(f"/{top}/")[2] for file in found]


# -- folders and patterns -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "expected", "skipped"),
    [
        (
            "",
            ["deep/er/part.3.csv", "deep/part.0.csv", "part.1.CSV.gz", "part.2.csv", "part.10.csv"],
            {"hidden": 5, "empty": 1, "other": 1},
        ),
        ("*.csv", ["part.2.csv", "part.10.csv"], {"hidden": 1, "empty": 1}),
        ("part.?.csv", ["part.2.csv"], {}),
        ("part.[13]*", ["part.1.CSV.gz", "part.10.csv"], {}),
        ("**/part.[023].csv", ["deep/er/part.3.csv", "deep/part.0.csv", "part.2.csv"], {}),
        ("d*", ["deep/er/part.3.csv", "deep/part.0.csv"], {}),
        ("deep/**", ["deep/er/part.3.csv", "deep/part.0.csv"], {}),
        ("_temp*/0/*.csv", ["_temporary/0/part.4.csv"], {}),
        (".hid*", [".hidden.csv"], {}),
        ("part.10.csv", ["part.10.csv"], {}),
        ("_metadata", ["_metadata"], {}),
    ],
)
def test_what_is_named_is_found(root: str, asked: str, expected: list[str], skipped: dict[str, int]) -> None:
    fill(root, TREE)
    found = find_files(f"{root}/{asked}".rstrip("/"), SUFFIXES)
    assert names(found, root) == expected
    if not asked.startswith("**"):
        assert dict(found.skipped) == skipped
    assert [file.size for file in found] == [TREE[name] for name in expected]
    for file in found:
        assert file.name == expected[found.index(file)].rpartition("/")[2]
        with pickle.loads(pickle.dumps(file)).open() as opened:
            assert opened.read() == b"x" * file.size


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.from_regex(r"[a-c]{0,2}[0-9]{1,3}(/p\.[0-9]{1,2})?", fullmatch=True), min_size=1))
def test_a_folder_its_pattern_and_the_list_of_its_files_are_the_same(stems: set[str]) -> None:
    """In the order that dask has, whether they lie on disk or not."""
    fs = fsspec.filesystem("memory")
    try:
        for stem in stems:
            fs.pipe_file(f"/law/{stem}.csv", b"1")
        found = find_files("memory://law", SUFFIXES)
        paths = [file.path for file in found]
        assert paths == sorted(paths, key=natural_sort_key)
        assert len(paths) == len(stems)
        assert [file.path for file in find_files("memory://law/**", SUFFIXES)] == paths
        assert find_files(paths, ()) == find_files("memory://law", ())
        assert [file.path for file in find_files(paths[::-1], SUFFIXES)] == paths[::-1]
    finally:
        fs.rm("/law", recursive=True)


def test_without_endings_all_visible_files_count(root: str) -> None:
    fill(root, {"part-00001": 1, "part-00000": 1, "_SUCCESS": 1})
    assert names(find_files(root, ()), root) == ["part-00000", "part-00001"]


def test_lists_keep_their_order_and_may_hold_all_kinds(root: str, tmp_path: Path) -> None:
    fill(root, {"b/2.csv": 1, "b/1.csv": 1, "a.csv": 1, "c1.csv": 1})
    (tmp_path / "here.csv").write_text("1")
    found = find_files([f"{root}/c*.csv", f"{root}/b", tmp_path / "here.csv", f"{root}/a.csv"], SUFFIXES)
    assert [file.name for file in found] == ["c1.csv", "1.csv", "2.csv", "here.csv", "a.csv"]


# -- columns in the names of folders --------------------------------------------------------------

HIVE = {
    "s/year=2013/kind=a%2Fb/1.csv": {"year": "2013", "kind": "a/b"},
    "s/year=2014/kind=__HIVE_DEFAULT_PARTITION__/1.csv": {"year": "2014", "kind": None},
}


def test_names_of_folders_are_columns_however_they_are_named(root: str) -> None:
    fill(root, dict.fromkeys(HIVE, 1))
    lists = [f"{root}/{name}" for name in HIVE]
    for asked in (f"{root}/s", f"{root}/s/**/*.csv", f"{root}/s/year=*", root, lists):
        assert [file.partitions for file in find_files(asked, SUFFIXES)] == list(HIVE.values())
    years = [f"{root}/s/year={year}" for year in (2014, 2013)]
    assert [file.partitions for file in find_files(years, SUFFIXES)] == list(HIVE.values())[::-1]


def test_a_folder_that_holds_all_is_no_column(root: str) -> None:
    fill(root, dict.fromkeys(HIVE, 1))
    (found,) = find_files(f"{root}/s/year=2013", SUFFIXES)
    assert found.partitions == {"kind": "a/b"}
    (found,) = find_files(f"{root}/{next(iter(HIVE))}", SUFFIXES)
    assert found.partitions == {}


def test_columns_that_differ_are_refused(root: str) -> None:
    fill(root, {"a=1/0.csv": 1, "b=1/0.csv": 1})
    with pytest.raises(ValueError, match=r"b=1/0\.csv: expected the columns .*a=1/0\.csv hold, a, got b"):
        find_files(root, SUFFIXES)
    fill(root, {"c/d=1/d=2/0.csv": 1})
    with pytest.raises(ValueError, match=r"expected each column once among the folders"):
        find_files(f"{root}/c", SUFFIXES)


# -- what is not there ----------------------------------------------------------------------------


def test_errors_say_what_was_looked_for_and_what_was_found(root: str) -> None:
    fill(root, {"a.parquet": 1, "b.parquet": 1, "c": 1, "e/empty.csv": 0, "e/_x.csv": 1})
    for asked, said in {
        "": r"expected files that end in \.csv, \.csv\.gz, found only .*: \.parquet \(2\), none \(1\)",
        "e": r"expected files that end in .*, found none but 1 [a-z]*, 1 [a-z]*, all skipped",
        "*.npy": r"\*\.npy: expected files that end in .*, found none$",
        "missing.csv": r"missing\.csv: no such file or directory$",
    }.items():
        with pytest.raises(FileNotFoundError, match=said):
            find_files(f"{root}/{asked}".rstrip("/"), SUFFIXES)
    with pytest.raises(ValueError, match=r"empty\.csv: expected rows, got an empty file; leave it out"):
        find_files(f"{root}/e/empty.csv", SUFFIXES)
    with pytest.raises(ValueError, match=r"paths: expected at least one file, got none"):
        find_files([], SUFFIXES)


# -- disk -----------------------------------------------------------------------------------------


def test_home_and_working_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "[odd]").mkdir()
    (tmp_path / "[odd]" / "a.csv").write_text("1")
    (tmp_path / "[odd]" / "b?.csv").write_text("1")
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.chdir(tmp_path / "[odd]")
    for asked in ("~/[odd]/*.csv", "*.csv", ".", (tmp_path / "[odd]").as_uri()):
        assert [file.name for file in find_files(asked, SUFFIXES)] == ["a.csv", "b?.csv"]
    assert [file.name for file in find_files("b?.csv", SUFFIXES)] == ["b?.csv"]


@pytest.mark.posix
def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.csv").write_text("1")
    (tmp_path / "data" / "to").symlink_to(tmp_path / "other")
    (tmp_path / "data" / "b.csv").symlink_to(tmp_path / "other" / "a.csv")
    (tmp_path / "data" / "up").symlink_to(tmp_path)
    (tmp_path / "data" / "self").symlink_to(tmp_path / "data")
    found = find_files(tmp_path / "data", SUFFIXES)
    assert [(file.name, file.size) for file in found] == [("b.csv", 1), ("a.csv", 1)]
    (tmp_path / "data" / "gone.csv").symlink_to(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"gone\.csv"):
        find_files(tmp_path / "data", SUFFIXES)


@pytest.mark.posix
def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ValueError, match=r"expected a file or a folder, got a pipe"):
        find_files(tmp_path / "pipe.csv", SUFFIXES)


# -- servers --------------------------------------------------------------------------------------


def test_what_lists_nothing_takes_files_only(monkeypatch: pytest.MonkeyPatch) -> None:
    http = pytest.importorskip("fsspec.implementations.http").HTTPFileSystem
    sizes = {"https://host/a.csv?sig=s": None, "https://host/[b]*.csv": 3}

    def info(self: Any, path: str) -> dict[str, Any]:
        if path not in sizes:
            raise FileNotFoundError(path)
        return {"name": path, "size": sizes[path], "type": "file"}

    monkeypatch.setattr(http, "info", info)
    monkeypatch.setattr(http, "_cache", {})  # else other tests get what is made here
    found = find_files(list(sizes), SUFFIXES)
    assert [(file.name, file.size, str(file)) for file in found] == [
        ("a.csv", 0, "https://host/a.csv"),
        ("[b]*.csv", 3, "https://host/[b]*.csv"),
    ]
    with pytest.raises(FileNotFoundError, match=r"host/\*\.csv: no such file .*; name every file") as error:
        find_files("https://host/*.csv?sig=s", SUFFIXES)
    assert "sig" not in str(error.value)


@pytest.mark.parametrize("broken", ["info", "find", "open", "read"])
def test_no_secret_is_shown(broken: str, tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "a.csv").write_text("12")
    vault = vault_at(tmp_path / "v")
    found = find_files(vault, SUFFIXES, OPTIONS)
    with found[0].open() as file:
        assert file.read() == b"12"
    break_vault(tmp_path, broken)
    with pytest.raises(PermissionError, match=r"^vault:///.*: cannot be read: PermissionError: ") as error:
        find_files(vault, SUFFIXES, OPTIONS)[0].open().read()
    for text in (f"{found} {found[0]} {found[0].name}", *traceback.format_exception(error.value)):
        assert not any(secret in text for secret in SECRETS), text


def test_a_library_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match=r"^nowhere://a: cannot be read: .*Protocol not known"):
        find_files("nowhere://me:secret@a", SUFFIXES)
