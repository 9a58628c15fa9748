"""The encoder of a table for which none is given, in Python and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import daskgd
from daskgd.cli import main


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """A table with text, numbers with gaps, dates with and without time, durations, bools and identifiers."""
    rng, n = np.random.default_rng(0), 600
    at = pd.to_datetime("2013-01-01") + pd.to_timedelta(rng.integers(0, 86_400 * 365, n), unit="s")
    table = pd.DataFrame(
        {
            "id": [f"row {i}" for i in range(n)],
            "carrier": rng.choice(["AA", "UA", "WN"], n, p=[0.6, 0.39, 0.01]),
            "wind": np.where(rng.random(n) < 0.2, np.nan, rng.gamma(3, 4, n)),
            "at": at,
            "day": at.floor("D"),
            "took": pd.to_timedelta(rng.integers(60, 7200, n), unit="s"),
            "flag": rng.random(n) < 0.5,
        }
    )
    table.loc[::50, "at"] = pd.NaT
    z = (table.carrier == "UA") + table.wind.fillna(12) / 6 + (at.hour > 12) - 3
    return table.assign(late=np.where(z + rng.logistic(size=n) > 0, "yes", "no"))


@pytest.fixture(scope="module")
def path(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("default")
    frame.to_parquet(folder / "a.parquet")
    daskgd.ingest(folder / "a.parquet", folder / "a.zarr", target="late")
    return folder / "a.zarr"


def test_it_suits_every_column(path: Path, frame: pd.DataFrame) -> None:
    encoder = daskgd.default_encoder(path)
    assert [(name, columns) for name, _, columns in encoder.transformers] == [
        ("numbers", ["wind", "flag"]),
        ("days", ["at", "day", "took"]),
        ("categories", ["carrier"]),
        ("calendar", ["at", "day"]),
    ]
    model = daskgd.make_pipeline(encoder, daskgd.LogisticRegression(tol=1e-10)).fit(path)
    names = model.get_feature_names_out().tolist()
    assert {"wind", "missingindicator_wind", "flag", "carrier_AA", "carrier_infrequent_sklearn"} <= set(names)
    assert {"at_days", "took_days", "at_month_1.0", "at_day_of_week_6.0", "at_hour_23.0"} <= set(names)
    rows = frame.drop(columns="late")
    here = daskgd.make_pipeline(daskgd.default_encoder(path), daskgd.LogisticRegression(tol=1e-10))
    here.fit(rows, frame.late)
    np.testing.assert_array_equal(here.get_feature_names_out(), model.get_feature_names_out())
    np.testing.assert_allclose(model[-1].coef_, here[-1].coef_, atol=1e-4)
    stored = model.predict_proba(path).compute()
    np.testing.assert_allclose(model.to_sklearn().predict_proba(rows), stored, atol=1e-9)
    assert model.score(path) > 0.7


def test_it_is_in_model_files(path: Path, tmp_path: Path) -> None:
    model = daskgd.make_pipeline(daskgd.default_encoder(path), daskgd.LogisticRegression()).fit(path)
    model.save(tmp_path / "a.dgd")
    back = daskgd.load_model(tmp_path / "a.dgd")
    np.testing.assert_array_equal(back.predict(path).compute(), model.predict(path).compute())


def test_limits_are_honoured_and_nothing_is_refused(path: Path, tmp_path: Path) -> None:
    few = daskgd.default_encoder(path, min_frequency=1, max_categories=2)
    (encoder,) = [part for name, part, _ in few.transformers if name == "categories"]
    assert (encoder.min_frequency, encoder.max_categories) == (1, 2)
    daskgd.write_dataset(
        tmp_path / "a.zarr", pd.DataFrame({"id": [f"row {i}" for i in range(99)]}), np.arange(99) % 2
    )
    with pytest.raises(ValueError, match=r"a column that is not an identifier, got id; give an encoder"):
        daskgd.default_encoder(tmp_path / "a.zarr")


def invoke(*words: Any) -> Any:
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == 0, done.output
    return done


def test_the_command_line_takes_it_and_says_so(path: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "a.dgd", tmp_path / "out.csv"
    done = invoke("train", "logistic", path, "--test-size", 0.2, "--out", model, "--json", "--quiet")
    told = [line for line in done.stderr.splitlines() if line.startswith("encoder: ")]
    assert told == [
        "encoder: gaps filled with the mean and indicated, standardised: wind, flag",
        "encoder: days since 1970, standardised: at, day, took",
        "encoder: zeros and ones, rare categories together: carrier",
        "encoder: month, day of the week and hour as zeros and ones: at, day",
        "encoder: left out, as most rows have a value of their own: id",
    ]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["estimator"] == "LogisticRegression"
    assert said["outcome"] == "converged"
    assert said["score"] > 0.65
    invoke("predict", model, path, "--out", out, "--id", "id")
    rows = pd.read_csv(out)
    assert rows.columns.tolist() == ["id", "prediction"]
    assert rows.id.tolist()[:2] == ["row 0", "row 1"]
    assert float(invoke("score", model, path).stdout) > 0.7
    plan = invoke("plan", "logistic", path)
    assert "encoder: zeros and ones" in plan.stderr
    assert "LogisticRegression" in plan.stdout


def test_the_command_line_does_without_where_it_is_told_to(path: Path, tmp_path: Path) -> None:
    rows = pd.DataFrame({"carrier": ["AA", "UA"] * 30, "wind": np.arange(60.0)})
    daskgd.write_dataset(tmp_path / "a.zarr", rows, np.arange(60) // 30)
    done = invoke(
        "train", "logistic", tmp_path / "a.zarr", "--encoder", "none", "--out", tmp_path / "a.dgd", "--quiet"
    )
    assert "encoder:" not in done.stderr
    assert type(daskgd.load_model(tmp_path / "a.dgd")) is daskgd.LogisticRegression
    done = CliRunner().invoke(main, ["train", "logistic", str(path), "--encoder", "none", "--quiet"])
    assert done.exit_code == 65
    assert "NaN" in done.output


def test_a_job_with_an_encoder_is_resumed(path: Path, tmp_path: Path) -> None:
    folder, model = tmp_path / "ck", tmp_path / "a.dgd"
    words = ["--set", "solver=gradient_descent", "--set", "max_iter=2", "--set", "tol=0", "--quiet"]
    invoke("train", "logistic", path, *words, "--checkpoint", folder, "--out", model)
    first = daskgd.load_model(model)
    model.unlink()
    invoke("resume", folder, "--quiet")
    again = daskgd.load_model(model)
    assert type(again) is daskgd.Pipeline
    np.testing.assert_array_equal(again[-1].coef_, first[-1].coef_)
