"""The demo: its rows are a function of seed and number, its datasets are nobody else's, and it runs."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import dask
import numpy as np
import pytest
from click.testing import CliRunner

import daskgd
from daskgd.cli import demo_fit as demo
from daskgd.cli import main

ROOT = Path(__file__).parents[2]
ROWS = 20_000


@pytest.fixture(scope="module")
def expansion():
    digits = demo.Digits.load()
    return demo.Expansion(digits.X, digits.y, seed=7)


def invoke(*arguments):
    return CliRunner().invoke(main, ["demo", *map(str, arguments)])


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Scratch goes to an empty folder, and training, which needs a cluster, is left out."""
    root = tmp_path / "scratch"
    root.mkdir()

    def no_cluster():
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "small_cluster", no_cluster)
    with dask.config.set({"temporary-directory": str(root)}):
        yield root


# -- the rows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 1000, 2500])
def test_rows_do_not_depend_on_blocks(expansion, size):
    X, y = expansion.rows(0, 2500)
    for start in range(0, 2500, size)[:20]:
        a, b = expansion.rows(start, min(start + size, 2500))
        np.testing.assert_array_equal(a, X[start : start + size])
        np.testing.assert_array_equal(b, y[start : start + size])


def test_rows_far_out_are_reached_without_those_before(expansion):
    X, _ = expansion.rows(10**12, 10**12 + 5)
    assert X.shape == (5, 64)


def test_blocks_are_all_rows_once(expansion, monkeypatch):
    monkeypatch.setattr(demo, "BLOCK_ROWS", 300)
    X, y = (np.concatenate(parts) for parts in zip(*expansion.blocks(1000), strict=True))
    np.testing.assert_array_equal(X, expansion.rows(0, 1000)[0])
    np.testing.assert_array_equal(y, expansion.rows(0, 1000)[1])


def test_pixels_and_labels_are_those_of_digits(expansion):
    X, y = expansion.rows(0, 10_000)
    assert X.dtype == y.dtype == np.uint8
    assert (X.min(), X.max()) == (0, 16)
    assert np.unique(y).tolist() == list(range(10))
    # clipping at 0 lifts the dark background by the noise
    assert abs(X.mean() - expansion.X.mean()) < 0.5


def test_seeds_give_other_rows(expansion):
    other = demo.Expansion(expansion.X, expansion.y, seed=8)
    assert (other.rows(0, 100)[0] != expansion.rows(0, 100)[0]).mean() > 0.3


def test_one_row_in_twenty_is_shifted(expansion, monkeypatch):
    monkeypatch.setattr(demo, "NOISE", np.zeros(256, np.int8))
    X, _ = expansion.rows(0, 4000)
    centred = {row.tobytes() for row in expansion.variants[-1]}
    share = np.mean([row.tobytes() not in centred for row in X])
    assert 0.03 < share < 0.07


def test_variants_hold_the_images_themselves_and_shift_them(expansion):
    n = len(expansion.X)
    upright = demo.ANGLES.index(0)
    centred = expansion.variants[-1, upright * n : (upright + 1) * n]
    np.testing.assert_array_equal(centred, expansion.X)
    down = expansion.variants[demo.SHIFTS.index((1, 0)), upright * n].reshape(8, 8)
    np.testing.assert_array_equal(down[1:], expansion.X[0].reshape(8, 8)[:-1])
    assert not down[0].any()


def test_held_out_digits_are_not_trained_on():
    digits = demo.Digits.load()
    assert (len(digits.X), len(digits.X_test)) == (1347, 450)
    assert not {row.tobytes() for row in digits.X} & {row.tobytes() for row in digits.X_test}


# -- where the dataset is --------------------------------------------------------------------------


def test_scratch_is_removed_when_interrupted(scratch):
    result = invoke("--rows", 1000)
    assert result.exit_code == 1
    assert "Aborted" in result.output
    assert list(scratch.iterdir()) == []


def test_keep_keeps_scratch_and_says_where(scratch):
    result = invoke("--rows", 1000, "--keep")
    (path,) = scratch.glob("daskgd-demo-*/digits.zarr")
    assert f"Kept: {path}" in result.output
    assert daskgd.open_dataset(path).n_rows == 1000


def test_data_is_removed_if_it_was_written_here(scratch, tmp_path):
    invoke("--rows", 1000, "--data", tmp_path / "new.zarr")
    assert not (tmp_path / "new.zarr").exists()
    assert list(scratch.iterdir()) == []


def test_data_is_kept_on_demand_and_then_used_again(scratch, tmp_path):
    path = tmp_path / "new.zarr"
    invoke("--rows", 1000, "--data", path, "--keep", "--seed", 3)
    fingerprint = daskgd.open_dataset(path).fingerprint
    result = invoke("--rows", 1000, "--data", path, "--seed", 3)
    assert "Using the dataset" in result.output.replace("\n", "")
    assert daskgd.open_dataset(path).fingerprint == fingerprint


def test_an_interrupted_write_leaves_nothing(scratch, tmp_path, monkeypatch):
    def broken(self, rows):
        yield self.rows(0, 500)
        raise KeyboardInterrupt

    monkeypatch.setattr(demo.Expansion, "blocks", broken)
    invoke("--rows", 1000, "--keep")
    invoke("--rows", 1000, "--data", tmp_path / "new.zarr", "--keep")
    assert list(scratch.iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scratch"]


# -- refusals --------------------------------------------------------------------------------------


def refused(*arguments):
    result = invoke(*arguments)
    assert result.exit_code != 0
    assert not isinstance(result.exception, KeyboardInterrupt)
    return " ".join(result.output.split())


@pytest.mark.parametrize("arguments", [("--rows", 0), ("--rows", "many"), ("--seed", -1)])
def test_bad_numbers_are_refused(scratch, arguments):
    assert "Error: Invalid value for '--" in refused(*arguments)
    assert list(scratch.iterdir()) == []


def test_another_number_of_rows_is_refused(scratch, tmp_path):
    invoke("--rows", 1000, "--data", tmp_path / "a.zarr", "--keep")
    text = refused("--rows", 2000, "--data", tmp_path / "a.zarr")
    assert "expected 2,000 rows" in text
    assert "pass --rows 1000" in text
    assert (tmp_path / "a.zarr").exists()


def test_another_seed_is_refused(scratch, tmp_path):
    invoke("--rows", 1000, "--data", tmp_path / "a.zarr", "--keep")
    assert "expected the rows of --seed 1" in refused(
        "--rows", 1000, "--data", tmp_path / "a.zarr", "--seed", 1
    )
    assert (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize("kind", ["file", "folder", "other"])
def test_a_path_that_is_something_else_is_refused(scratch, tmp_path, kind):
    path = tmp_path / "a"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        daskgd.write_dataset(path, np.ones((1000, 3)), np.arange(1000) % 2)
    before = sorted(tmp_path.rglob("*"))
    assert "Error: --data: expected" in refused("--rows", 1000, "--data", path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_folder_is_refused(scratch, tmp_path):
    assert "existing folder" in refused("--rows", 1000, "--data", tmp_path / "no" / "a.zarr")
    assert not (tmp_path / "no").exists()


def test_more_rows_than_the_disk_holds_are_refused(scratch):
    assert "--rows: expected at most" in refused("--rows", 10**15)
    assert list(scratch.iterdir()) == []


# -- the whole of it -------------------------------------------------------------------------------


def test_demo_runs_and_leaves_nothing_behind(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-m", "daskgd.cli", "demo", "--rows", str(ROWS)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "http://127.0.0.1:" in done.stdout
    lines = dict(line.strip("│ ").split("│", 1) for line in done.stdout.splitlines() if line.startswith("│"))
    table = {name.strip(): value.strip() for name, value in lines.items()}
    assert table["rows"].startswith("20,000 of 64 pixels")
    assert table["ended"].startswith("converged")
    assert "0 MB spilled" in table["peak memory"]
    assert float(table["accuracy"].split("%")[0]) > 94
    assert float(table["scikit-learn"].split("%")[0]) > 94
    assert list(tmp_path.iterdir()) == []


def test_the_dashboard_opens_after_a_plain_install():
    """bokeh, and what the pages of Dask's dashboard need beside it, are among the dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "bokeh" in {name.partition(">")[0] for name in project["dependencies"]}
