"""Paths hold in every folder and process, however they are spelled, wherever they come in."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from click.testing import CliRunner

import daskgd
from daskgd.cli import main
from daskgd.storage.paths import locate, shorten

pytestmark = pytest.mark.posix

SPELLINGS: dict[str, Callable[[str], str]] = {
    "relative": lambda name: name,
    "home": lambda name: f"~/{name}",
    "file URL": lambda name: Path(name).absolute().as_uri(),
}


@pytest.fixture(params=SPELLINGS)
def spell(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A way to spell names in a folder of the test, which is the home directory and the current one."""
    folder = tmp_path / "a b"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    return SPELLINGS[request.param]


@pytest.fixture
def leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Go to another folder, and from home: the folder of before."""

    def go() -> Path:
        before = Path.cwd()
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / "elsewhere")
        monkeypatch.setenv("HOME", str(tmp_path / "elsewhere"))
        return before

    return go


def rows(n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    return X, (X[:, 0] + rng.normal(size=n) > 0).astype(int)


# -- the one function ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("rows.zarr", "{cwd}/rows.zarr"),
        (Path("deep/rows.zarr"), "{cwd}/deep/rows.zarr"),
        ("./rows.zarr/", "{cwd}/rows.zarr"),
        ("../rows.zarr", "{cwd}/../rows.zarr"),  # what that is, is for links to say
        (".", "{cwd}"),
        ("/data/rows.zarr", "/data/rows.zarr"),
        ("~", "{home}"),
        ("~/rows.zarr", "{home}/rows.zarr"),
        ("~nobody-of-this-name/rows.zarr", "{cwd}/~nobody-of-this-name/rows.zarr"),
        ("rows~.zarr", "{cwd}/rows~.zarr"),
        ("file:///data/rows.zarr", "/data/rows.zarr"),
        ("file:///data/a%20b.zarr", "/data/a b.zarr"),
        ("file://localhost/data/rows.zarr", "/data/rows.zarr"),
        ("file:/data/rows.zarr", "/data/rows.zarr"),
        ("file://rows.zarr", "{cwd}/rows.zarr"),
        ("file://~/rows.zarr", "{home}/rows.zarr"),
        ("local:///data/rows.zarr", "/data/rows.zarr"),
        ("file.zarr", "{cwd}/file.zarr"),
        ("a%20b.zarr", "{cwd}/a%20b.zarr"),
        *(
            (url, url)
            for url in (
                "s3://bucket/rows.zarr",
                "memory://rows.zarr/",
                "https://me:key@host:81/a%20b.zarr?sig=x#y",
                "simplecache::s3://bucket/rows.zarr",
            )
        ),
    ],
)
def test_a_path_is_absolute_and_a_url_stays(path, expected, tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    found = locate(path)
    assert found == expected.format(cwd=tmp_path, home=tmp_path / "home")
    assert locate(found) == found


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("", ValueError),
        (b"rows.zarr", TypeError),
        (3, TypeError),
        (Path("s3://bucket/rows.zarr"), ValueError),
        (Path("file:///rows.zarr"), ValueError),
    ],
)
def test_what_is_no_path_is_refused(path, error):
    with pytest.raises(error):
        locate(path)


def test_a_path_is_shown_as_short_as_it_holds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    daskgd.write_dataset("d.zarr", *rows())
    assert repr(daskgd.open_dataset("d.zarr")).endswith(" at d.zarr>")
    assert daskgd.open_dataset("d.zarr").info()["path"] == f"{tmp_path}/d.zarr"
    assert shorten(f"{tmp_path}/deep/d.zarr") == "deep/d.zarr"
    for path in (f"{tmp_path.parent}/d.zarr", f"{tmp_path}.zarr", "s3://bucket/d.zarr"):
        assert shorten(path) == path


# -- where paths come in, in Python -------------------------------------------------------------


def test_datasets(spell, leave):
    daskgd.write_dataset(spell("d.zarr"), *rows(), chunk_bytes=1000)
    data = daskgd.open_dataset(spell("d.zarr"))
    given = daskgd.as_dataset(spell("d.zarr"))
    model = daskgd.LogisticRegression(C=np.inf, engine="serial").fit(spell("d.zarr"))
    before = leave()
    assert (before / "d.zarr" / "zarr.json").exists()
    assert data.path == given.path == str(before / "d.zarr")
    again = pickle.loads(pickle.dumps(data))
    for one in (data, again, given):
        np.testing.assert_array_equal(one.X.compute(scheduler="sync"), rows()[0])
    data.verify()
    data.check_unchanged()
    assert np.isfinite(model.summary().standard_errors).all()  # which opens the rows of the fit again
    (before / "d.zarr/X/c/0/0").unlink()
    with pytest.raises(daskgd.ChunkError, match=f"^{before}/d.zarr/X"):
        again.X.compute(scheduler="sync")
    with pytest.raises(daskgd.StoreError, match=f"^{before.parent}/elsewhere/no.zarr: no such file"):
        daskgd.open_dataset("no.zarr")


def test_zarr_arrays_and_dask_arrays_that_read_them(tmp_path, monkeypatch, leave):
    monkeypatch.chdir(tmp_path)
    X, y = rows()
    daskgd.write_dataset("ours.zarr", X, y)
    zarr.save("theirs.zarr", X)
    arrays = [zarr.open_array("theirs.zarr", mode="r"), zarr.open_group("ours.zarr", mode="r")["X"]]
    given = [daskgd.as_dataset(array, y) for array in (*arrays, da.from_zarr("theirs.zarr"))]
    leave()
    for one in given:
        assert str(tmp_path) in str(one.columns.X.path)
        np.testing.assert_array_equal(one.columns.X.read(0, 200), X)


def test_checkpoints_and_models(spell, leave):
    X, y = rows()
    settings: dict[str, Any] = {"solver": "lbfgs", "tol": 1e-9}
    there = daskgd.Checkpoint(spell("ck"))
    first = daskgd.LogisticRegression(**settings).fit(X, y, checkpoint=spell("ck"))
    first.save(spell("m.dgd"))
    assert np.array_equal(daskgd.load_model(spell("m.dgd")).coef_, first.coef_)
    before = leave()
    assert there.path == pickle.loads(pickle.dumps(there)).path == str(before / "ck")
    again = daskgd.LogisticRegression(**settings).fit(X, y, checkpoint=there)
    assert np.array_equal(again.coef_, first.coef_)
    assert sorted(path.name for path in before.iterdir()) == ["ck", "m.dgd"]
    (before / "m.dgd").write_bytes(b"cut")
    with pytest.raises(daskgd.ModelError, match=f"^{before}/m.dgd: "):
        daskgd.load_model(before / "m.dgd")


def test_the_end_of_a_path_to_a_model_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="expected that of a file, got 'models/'"):
        daskgd.load_model("models/")


def test_files_of_other_formats(spell, leave):
    X, y = rows()
    np.save("X.npy", X)
    np.save("y.npy", y)
    daskgd.ingest(spell("X.npy"), spell("d.zarr"), target=spell("y.npy"))
    before = leave()
    data = daskgd.open_dataset(before / "d.zarr")
    np.testing.assert_array_equal(data.y.compute(scheduler="sync"), y)
    with pytest.raises(FileNotFoundError, match=f"^{before.parent}/elsewhere/no.csv: "):
        daskgd.ingest("no.csv", "d.zarr")


def test_logs(spell, leave):
    watch = [daskgd.JSONLines(spell("fit.jsonl")), daskgd.CSVLog(spell("fit.csv"))]
    before = leave()
    daskgd.LogisticRegression().fit(*rows(), watch=watch)
    assert sorted(path.name for path in before.iterdir()) == ["fit.csv", "fit.jsonl"]


def test_the_temporary_store(spell, leave, monkeypatch):
    import dask

    Path("scratch").mkdir()
    seen = []
    X, y = (da.from_array(array, chunks=100) for array in rows())
    settings = {"daskgd.temporary-directory": spell("scratch"), "daskgd.hold-fraction": 0.0}
    with dask.config.set(settings):
        lazy = X.map_blocks(lambda block: (seen.append(os.listdir("scratch")), block)[1], dtype=X.dtype)
        daskgd.LogisticRegression().fit(lazy, y)
    assert any(found and found[0].startswith("daskgd-") for found in seen)


# -- on the command line ------------------------------------------------------------------------


def invoke(*arguments: Any) -> Any:
    done = CliRunner().invoke(main, [*map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done


def test_every_command(spell, leave):
    X, y = rows()
    np.save("X.npy", X)
    np.save("y.npy", y)
    invoke("ingest", spell("X.npy"), "--target", spell("y.npy"), f"--out={spell('d.zarr')}")
    assert str(Path.cwd() / "d.zarr") in invoke("info", spell("d.zarr"), "--json").stdout
    invoke("verify", spell("d.zarr"))
    invoke("plan", "logistic", spell("d.zarr"))
    options = [f"--{name}={spell(file)}" for name, file in (("checkpoint", "ck"), ("log", "l"), ("out", "m"))]
    invoke("train", "logistic", spell("d.zarr"), "--quiet", *options)
    first = daskgd.load_model("m").coef_
    invoke("predict", spell("m"), spell("d.zarr"), f"--out={spell('p.npy')}")
    assert np.load("p.npy").shape == y.shape
    invoke("score", spell("m"), spell("d.zarr"))
    Path("job.toml").write_text(f'estimator = "logistic"\ndata = "{spell("d.zarr")}"\nout = "{spell("n")}"\n')
    invoke("train", "--job", spell("job.toml"), "--quiet")
    before = leave()
    (before / "m").unlink()
    invoke("resume", before / "ck", "--quiet")  # from another folder, to where the job was asked to write
    assert np.array_equal(daskgd.load_model(before / "m").coef_, first)
    assert np.array_equal(daskgd.load_model(before / "n").coef_, first)
    assert json.loads((before / "ck" / "job.json").read_text())["data"] == str(before / "d.zarr")
    assert not list(Path.cwd().iterdir())
