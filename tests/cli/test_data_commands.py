"""`daskgd verify` and `daskgd info`; and that no message, repr or log holds what grants access to data."""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import subprocess
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from click.testing import CliRunner

import daskgd
from daskgd.cli import main
from daskgd.storage.opening import open_store
from daskgd.storage.redaction import redacted, redacted_error, redacted_message
from tests.sparse_rows import sparse_array
from tests.vault import OPTIONS, SECRETS, break_vault, vault_at


def invoke(*arguments: Any) -> Any:
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    y = np.array(["no", "yes"])[rng.integers(0, 2, 100)]
    daskgd.write_dataset(tmp_path / "d.zarr", rng.normal(size=(100, 2)), y, chunk_bytes=160)
    return tmp_path / "d.zarr"


# -- commands -------------------------------------------------------------------------------------


def test_a_sound_dataset(stored: Path) -> None:
    done = invoke("verify", stored)
    assert (done.exit_code, done.stderr) == (0, "")
    fingerprint = daskgd.open_dataset(stored).fingerprint
    assert done.stdout == (
        f"{stored}: 100 rows, 2,000 bytes decoded: "
        f"every chunk is as it was written, fingerprint {fingerprint}\n"
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda file: file.write_bytes(file.read_bytes()[:-1]),
            "chunk c/3/0: rows 30:40 cannot be read: the",
        ),
        (lambda file: file.unlink(), "1 chunks are missing, the first is c/3/0, rows 30:40;"),
        (
            lambda file: file.write_bytes((file.parents[1] / "4" / "0").read_bytes()),
            "chunk c/3/0: rows 30:40 cannot be read: the chunk is not the one that was written",
        ),
        (
            lambda file: (file.parents[2] / "zarr.json").write_text("[" * 10**5),
            "array X: its metadata cannot",
        ),
        (lambda file: (file.parents[3] / "zarr.json").unlink(), "expected a zarr group that holds X"),
    ],
)
def test_a_damaged_dataset(stored: Path, damage: Any, message: str) -> None:
    damage(stored / "X" / "c" / "3" / "0")
    done = invoke("verify", stored)
    assert (done.exit_code, done.stdout) == (65, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: {stored}")
    assert f"{stored}: {stored}" not in line
    assert re.search(message, line), line


def test_no_dataset(tmp_path: Path) -> None:
    for command in ("verify", "info"):
        done = invoke(command, tmp_path / "none")
        assert (done.exit_code, done.stdout) == (65, "")
        assert done.stderr == (
            f"Error: {tmp_path / 'none'}: no such file or directory; expected a zarr group that holds X\n"
        )


def test_arrays_of_others_have_nothing_to_compare(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "g", mode="w").create_array("X", data=np.ones((30, 2)), chunks=(10, 2))
    done = invoke("verify", tmp_path / "g")
    assert done.exit_code == 0
    assert "every chunk that is stored can be read, but there is no mark" in done.stdout
    (tmp_path / "g" / "X" / "c" / "1" / "0").write_bytes(b"junk")
    done = invoke("verify", tmp_path / "g")
    assert done.exit_code == 65
    assert "g/X, chunk c/1/0: rows 10:20 cannot be read" in done.stderr


def test_sparse_rows(tmp_path: Path) -> None:
    X = sparse_array(100, 30, 0.2, np.random.default_rng(0))
    daskgd.write_dataset(tmp_path / "d", X, chunk_bytes=1600)
    facts = json.loads(invoke("info", tmp_path / "d", "--json").stdout)
    assert (facts["n_stored"], facts["n_features"], facts["reader"]) == (X.nnz, 30, "daskgd")
    assert invoke("verify", tmp_path / "d").exit_code == 0
    (tmp_path / "d" / "X" / "data" / "c" / "0").write_bytes(b"junk")
    done = invoke("verify", tmp_path / "d")
    assert done.exit_code == 65
    assert re.search(r"X/data, chunk c/0: rows 0:\d cannot be read", done.stderr)


def test_categories(tmp_path: Path) -> None:
    X = daskgd.OneHot([[0, 1], [-1, 0]], [["red", "blue"], 1200], [[1.0], [2.0]], columns=["colour", "shop"])
    daskgd.write_dataset(tmp_path / "d", X)
    done = invoke("info", tmp_path / "d")
    assert re.search(r"^n_categories +colour: 2, shop: 1,200$", done.stdout, re.MULTILINE)
    facts = json.loads(invoke("info", tmp_path / "d", "--json").stdout)
    assert (facts["n_features"], facts["n_categories"]) == (1203, {"colour": 2, "shop": 1200})
    assert invoke("verify", tmp_path / "d").exit_code == 0
    (tmp_path / "d" / "codes" / "c" / "0" / "0").write_bytes(b"junk")
    done = invoke("verify", tmp_path / "d")
    assert done.exit_code == 65
    assert "codes, chunk c/0/0: rows 0:2 cannot be read" in done.stderr


def test_info(stored: Path) -> None:
    done = invoke("info", stored)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "path         " in lines[0]
    start = lines[0].index(str(stored))
    assert all(line[start - 1] == " " and line[start] != " " for line in lines)
    assert dict(line.split(maxsplit=1) for line in lines)["classes"] == "no, yes"
    done = invoke("info", stored, "--json")
    assert json.loads(done.stdout) == daskgd.open_dataset(stored).info()


def test_the_real_entry_point(stored: Path) -> None:
    run = [sys.executable, "-m", "daskgd.cli", "verify", str(stored)]
    done = subprocess.run(run, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    (stored / "y" / "c" / "9").write_bytes(b"")
    done = subprocess.run(run, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (65, "")
    assert done.stderr.count("\n") == 1
    assert "y, chunk c/9: rows 90:100 cannot be read" in done.stderr


def seen_in_a_terminal(arguments: list[str]) -> tuple[str, str]:
    """What a command writes on its standard error, where that is a terminal, and on its standard output."""
    ours, theirs = os.openpty()
    run = [sys.executable, "-m", "daskgd.cli", *arguments]
    with subprocess.Popen(
        run, stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    ) as child:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the end of a terminal, on Linux
                break
            seen += part
        assert child.stdout is not None
        said = child.stdout.read()
    os.close(ours)
    assert child.returncode == 0
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode()), said.decode()


def test_a_terminal_sees_a_bar(stored: Path) -> None:
    seen, said = seen_in_a_terminal(["verify", str(stored)])
    assert said.startswith(str(stored))
    assert re.search(r"20/20 +chunks", seen)


def test_a_terminal_sees_bytes_while_rows_are_counted_and_then_rows(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("a,y\n" + "\n".join(f"{i}.5,{i % 2}" for i in range(250_000)))
    seen, _ = seen_in_a_terminal(["ingest", str(rows), "--out", str(tmp_path / "out"), "--target", "y"])
    assert seen.index("counting rows") < seen.index("ingesting")
    assert re.search(r"3/3 +MB", seen)
    assert re.search(r"250000/250000 +rows", seen)


# -- secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/a/b.zarr", "s3://bucket/a/b.zarr"),
        ("https://me:pass@host:8080/a.zarr", "https://host:8080/a.zarr"),
        ("https://me@host/a.zarr", "https://host/a.zarr"),
        ("https://host/a.zarr?sv=1&sig=abc%2F", "https://host/a.zarr"),
        ("https://host/a.zarr#token", "https://host/a.zarr"),
        ("https://me:p@ss@host/a.zarr?x#y", "https://host/a.zarr"),
        ("s3://KEY:se/cr+et@bucket/a.zarr", "s3://bucket/a.zarr"),
        ("simplecache::https://me:pass@host/a.zarr?sig=abc", "simplecache::https://host/a.zarr"),
        ("zip://x?sig=abc::https://me:pass@host/a.zip?sig=abc", "zip://x::https://host/a.zip"),
        ("http://me:pass@[::1]:80/a.zarr?sig=abc", "http://[::1]:80/a.zarr"),
        ("tcp://host:8786/who@where", "tcp://host:8786/who@where"),
        ("/data/what?.zarr", "/data/what?.zarr"),
        ("me@host:/data#1", "me@host:/data#1"),
        ("C:\\data", "C:\\data"),
        ("", ""),
        (
            "GET https://a:b@h/x?sig=c: 403, url='https://h/y?sig=d'",
            "GET https://h/x: 403, url='https://h/y'",
        ),
        ("see (https://h/x?sig=c).", "see (https://h/x)."),
    ],
)
def test_redacted(url: str, shown: str) -> None:
    assert redacted(url) == shown
    assert redacted(shown) == shown


def test_what_is_told_of_errors() -> None:
    options = {"key": "AKIA1234", "client": {"token": ["hunter2!"]}, "anon": False, "region": "eu"}
    text = redacted_message(OSError("AKIA1234 with hunter2! refused in eu"), options)
    assert text == "OSError: *** with *** refused in eu"
    assert len(redacted_message(ValueError("x" * 10**6))) < 600


def test_causes_keep_their_types() -> None:
    class Lost(ConnectionError):
        def __init__(self, url: str, status: int) -> None:
            super().__init__(url, status)

    try:
        raise Lost("https://me:hunter2@h/x", 503) from TimeoutError("https://h/x?sig=hunter2 timed out")
    except Lost as error:
        other = redacted_error(error)
    assert isinstance(other, Lost)
    assert (type(other).__name__, type(other).__module__) == ("Lost", Lost.__module__)
    assert isinstance(other.__cause__, TimeoutError)
    assert str(other.__cause__) == "https://h/x timed out"
    assert "hunter2" not in "".join(traceback.format_exception(other)) + repr(other)
    again = pickle.loads(
        pickle.dumps(redacted_error(FileNotFoundError(2, "no", "https://h/x?sig=hunter2"), None, "there"))
    )
    assert isinstance(again, FileNotFoundError)
    assert str(again) == "there: [Errno 2] no: 'https://h/x'"


def test_secrets_are_shown_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vault, shown = vault_at(tmp_path / "d"), f"vault://{tmp_path.as_posix()}/d"
    caplog.set_level(logging.INFO, "daskgd")
    said: list[str] = []
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 2))
    daskgd.write_dataset(vault, X, X[:, 0], chunk_bytes=160, storage_options=OPTIONS)
    dataset = daskgd.open_dataset(vault, storage_options=OPTIONS)
    dataset.verify()
    said += [repr(dataset), dataset._repr_html_(), json.dumps(dataset.info()), repr(dataset.source)]
    said += [repr(open_store(vault, storage_options=OPTIONS)), str(dataset.fingerprint)]
    np.testing.assert_array_equal(dataset.X.compute(scheduler="synchronous"), X)
    fitted = daskgd.LinearRegression(engine="serial").fit(dataset)
    said.append(repr(pickle.dumps(fitted)))

    def fails(call: Any, kind: type[Exception], message: str) -> None:
        with pytest.raises(kind, match=message) as error:
            call()
        said.extend([str(error.value), repr(error.value), repr(pickle.dumps(error.value))])
        said.extend(traceback.format_exception(error.value))

    fails(lambda: daskgd.write_dataset(vault, X, storage_options=OPTIONS), FileExistsError, f"{shown} exists")
    break_vault(tmp_path, "chunk")
    lazy = da.from_array(X, chunks=(7, 2))
    for number, rows in enumerate((X, lazy, iter([X]), sparse_array(9, 3, 0.5, rng))):
        write = partial(daskgd.write_dataset, storage_options=OPTIONS, chunk_bytes=160)
        chunk_name = rf"^vault://{tmp_path.as_posix()}/{number}/X/\w.*: .* may not chunk"
        fails(partial(write, vault_at(tmp_path / f"{number}"), rows), PermissionError, chunk_name)
        with pytest.raises(daskgd.StoreError, match="half-written"):
            daskgd.open_dataset(vault_at(tmp_path / f"{number}"))
    (tmp_path / ".broken").unlink()
    chunk = tmp_path / "d" / "X" / "c" / "1" / "0"
    chunk.rename(tmp_path / "chunk")
    missing = f"{shown}/X, chunk c/1/0: rows 10:20 cannot be read: .* is missing"
    fails(lambda: daskgd.LinearRegression(engine="serial").fit(dataset), daskgd.ChunkError, missing)
    fails(lambda: daskgd.open_dataset(vault), daskgd.StoreError, f"{shown}, array X: 1 chunks are missing")
    (tmp_path / "chunk").rename(chunk)
    break_vault(tmp_path, "open")
    fails(lambda: dataset.columns.X.read(0, 3), daskgd.ChunkError, r"PermissionError: .* 'key': '\*\*\*'")
    fails(lambda: daskgd.open_dataset(vault, storage_options=OPTIONS), daskgd.StoreError, "PermissionError")
    nowhere = vault.replace("vault:", "nowhere:")
    fails(lambda: daskgd.open_dataset(nowhere), daskgd.StoreError, "nowhere://.*/d: .*")
    for command in ("verify", "info"):
        done = invoke(command, vault)
        assert done.exit_code == 65
        said.append(done.output)
    done = invoke("plan", "ridge", vault)
    said += [done.output, caplog.text]
    for text in said:
        assert not any(secret in text for secret in SECRETS), text


def test_foreign_arrays_keep_secrets_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vault, shown = vault_at(tmp_path / "d"), f"vault://{tmp_path.as_posix()}/d"
    caplog.set_level(logging.WARNING, "daskgd")
    group = zarr.open_group(vault, mode="w", storage_options=OPTIONS)
    group.create_array("X", data=np.ones((30, 2)), chunks=(10, 2))
    (tmp_path / "d" / "X" / "c" / "1" / "0").unlink()
    dataset = daskgd.open_dataset(vault, storage_options=OPTIONS)
    assert f"{shown}, array X: 1 chunks are not stored" in caplog.text
    daskgd.as_dataset(zarr.open_array(vault.replace("/d?", "/d/X?"), mode="r", storage_options=OPTIONS))
    break_vault(tmp_path, "open")
    with pytest.raises(daskgd.ChunkError, match=rf"{shown}/X, chunk c/0/0: rows 0:3 .*") as error:
        dataset.columns.X.read(0, 3)
    assert isinstance(error.value.__cause__, PermissionError)
    for text in (caplog.text, *traceback.format_exception(error.value)):
        assert not any(secret in text for secret in SECRETS), text


def test_the_types_of_columns_are_shown(tmp_path: Path) -> None:
    place, out = tmp_path / "a.csv", tmp_path / "a.zarr"
    place.write_text("day,from,late\n1.2.2013,EWR,no\n2.2.2013,JFK,yes\n")
    arguments = ("ingest", place, "--out", out, "--target", "late")
    done = invoke(*arguments, "--dry-run", "--date", "day=%d.%m.%Y")
    assert (done.exit_code, done.stdout.splitlines()[0].split()) == (0, ["column", "kind", "type"])
    assert "from    category  str\n" in done.stdout
    assert not out.exists()
    done = invoke(*arguments, "--date", "day=%d.%m.%Y")
    assert (
        "day     date      datetime64[s]  0        2013-02-01T00:00:00 to 2013-02-02T00:00:00" in done.stdout
    )
    done = invoke("info", out)
    assert (
        "from    category  str            0        2 categories: EWR 1, JFK 1\ntarget: late\n" in done.stdout
    )
    assert json.loads(invoke("info", out, "--json").stdout)["schema"][1] == {
        "name": "from",
        "kind": "category",
        "dtype": "str",
        "n_missing": 0,
    }
    for text in ("day", "day=", "=x"):
        done = invoke(*arguments, "--date", text)
        assert (done.exit_code, done.stderr) == (2, f"Error: --date: expected COLUMN=FORMAT, got {text}\n")
    daskgd.LogisticRegression().fit(daskgd.open_dataset(out)).save(tmp_path / "m.dgd")
    done = invoke("predict", tmp_path / "m.dgd", out, "--id", "from", "--out", tmp_path / "p.csv")
    assert (done.exit_code, done.stderr) == (0, "")
    assert [row.split(",")[0] for row in (tmp_path / "p.csv").read_text().split()] == ["from", "EWR", "JFK"]
    done = invoke(*arguments, "--overwrite", "--date", "night=%d")
    assert (done.exit_code, "dates: expected columns of" in " ".join(done.stderr.split())) == (2, True)
    done = invoke("ingest", tmp_path / "b.npz", "--out", out, "--dry-run")
    assert done.exit_code == 2
