"""Watchers: what they are told, what they write, and that they stop a fit where they say."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import daskgd
from daskgd.monitoring.events import Began, Ended, Iterated, Sweeping, Swept
from daskgd.monitoring.history import KEYS, History
from tests.training.test_checkpoint import Killed, dying

X = np.random.default_rng(1).normal(size=(300, 4))
Y = (X @ [1.0, -1.0, 0.5, 0.0] + np.random.default_rng(2).normal(size=300) > 0).astype(int)


def descent(**settings: Any) -> daskgd.LogisticRegression:
    return daskgd.LogisticRegression(**{"solver": "gradient_descent", "max_iter": 6, "tol": 0, **settings})


def test_what_a_watcher_is_told() -> None:
    told: list[Any] = []
    est = descent(max_iter=2, engine="serial").fit(X, Y, watch=told.append)
    began, ended = told[0], told[-1]
    assert isinstance(began, Began)
    assert (began.max_iter, began.tol, began.nbytes, began.rows) == (2, 0.0, X.nbytes + Y.nbytes, ())
    assert began.solver == est.history_.solver
    assert ended == Ended("LogisticRegression", "budget_spent")
    assert [e.sweeps for e in told if isinstance(e, Swept)] == list(range(1, est.n_sweeps_ + 1))
    iterated = [e for e in told if isinstance(e, Iterated)]
    assert [e.row for e in iterated] == list(est.history_)
    assert np.array_equal(iterated[-1].model().coef_, est.coef_)
    with pytest.raises(TypeError, match="watch: expected callables"):
        descent().fit(X, Y, watch=["x"])


def test_a_watcher_stops_a_fit_now_or_where_it_was() -> None:
    two = descent(max_iter=2).fit(X, Y)
    now = descent().fit(X, Y, watch=lambda e: isinstance(e, Iterated) and e.row["iteration"] == 2)
    assert (now.n_iter_, now.outcome_, len(now.history_)) == (2, "stopped", 2)
    assert np.array_equal(now.coef_, two.coef_)

    seen: list[Iterated] = []

    def back(event: Any) -> Any:
        if isinstance(event, Iterated):
            seen.append(event)
        return seen[1] if len(seen) == 3 else None

    earlier = descent().fit(X, Y, watch=[back])
    assert np.array_equal(earlier.coef_, two.coef_)
    assert (earlier.n_iter_, len(earlier.history_)) == (3, 3)  # those that were run


def test_watchers_see_every_fit_that_shares_sweeps() -> None:
    told: list[Any] = []
    daskgd.together([descent(C=C) for C in (1.0, 0.1)], X, Y, watch=told.append)
    names = {"LogisticRegression-0", "LogisticRegression-1"}
    for kind in (Began, Swept, Iterated, Ended):
        assert {e.fit for e in told if isinstance(e, kind)} == names


def test_a_watcher_that_fails_loses_nothing() -> None:
    def fail(event: Any) -> None:
        if isinstance(event, Swept) and event.sweeps == 5:
            raise OSError("full")

    est = descent(engine="serial")
    with pytest.raises(OSError, match="full"):
        est.fit(X, Y, watch=fail)
    assert est.outcome_ == "interrupted"
    assert est.n_iter_ > 0


# -- early stopping -----------------------------------------------------------------------------


def stopping(patience: int = 2) -> daskgd.EarlyStopping:
    """On rows for which training longer is worse."""
    return daskgd.EarlyStopping(X[:40], 1 - Y[:40], patience=patience)


def test_early_stopping_keeps_the_best() -> None:
    est = descent(max_iter=50).fit(X, Y, watch=stopping())
    scores = est.history_.column("validation_score")
    assert est.outcome_ == "stopped"
    assert est.n_iter_ == len(est.history_) == 1 + int(np.argmax(scores)) + 2  # those that were run
    assert est.score(X[:40], 1 - Y[:40]) == max(scores)
    whole = descent(max_iter=3).fit(X, Y, watch=stopping(patience=40))
    assert whole.outcome_ == "budget_spent"
    assert whole.score(X[:40], 1 - Y[:40]) == max(whole.history_.column("validation_score"))


def test_early_stopping_is_resumed(tmp_path: Path) -> None:
    whole = descent(max_iter=50).fit(X, Y, watch=stopping(4))
    for sweeps in range(1, whole.n_sweeps_):
        folder = tmp_path / str(sweeps)
        with pytest.raises(Killed):
            descent(max_iter=50, engine=dying(sweeps)).fit(X, Y, watch=stopping(4), checkpoint=folder)
        again = descent(max_iter=50).fit(X, Y, watch=stopping(4), checkpoint=folder)
        assert again.history_.column("validation_score") == whole.history_.column("validation_score")
        assert np.array_equal(again.coef_, whole.coef_)
        assert (again.n_iter_, again.n_sweeps_, again.outcome_) == (whole.n_iter_, whole.n_sweeps_, "stopped")
    at_once = descent(max_iter=50, engine=dying(0)).fit(X, Y, watch=stopping(4), checkpoint=folder)
    assert np.array_equal(at_once.coef_, whole.coef_)


@pytest.mark.parametrize(
    "settings", [{"patience": 0}, {"patience": 1.5}, {"min_delta": -1}, {"min_delta": "a"}]
)
def test_early_stopping_refuses(settings: Any) -> None:
    with pytest.raises(ValueError, match="EarlyStopping: expected"):
        daskgd.EarlyStopping(X, Y, **settings)


# -- logs ---------------------------------------------------------------------------------------


def test_json_lines_and_csv_hold_the_history(tmp_path: Path) -> None:
    watch = [daskgd.JSONLines(tmp_path / "fit.jsonl"), daskgd.CSVLog(tmp_path / "fit.csv")]
    est = descent().fit(X, Y, watch=watch)
    lines = [json.loads(line) for line in (tmp_path / "fit.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines if line["event"] != "swept"] == [
        "began",
        *["iterated"] * 6,
        "ended",
    ]
    assert lines[-1]["outcome"] == est.outcome_
    losses = [line["loss"] for line in lines if line["event"] == "iterated"]
    assert losses == est.history_.column("loss")
    with (tmp_path / "fit.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["fit", *KEYS, "step"]
    assert [float(row["loss"]) for row in rows] == losses


def test_a_resumed_fit_has_all_rows_in_csv(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        descent(engine=dying(4)).fit(
            X, Y, checkpoint=tmp_path / "ck", watch=daskgd.CSVLog(tmp_path / "fit.csv")
        )
    est = descent().fit(X, Y, checkpoint=tmp_path / "ck", watch=daskgd.CSVLog(tmp_path / "fit.csv"))
    with (tmp_path / "fit.csv").open(newline="") as file:
        assert [int(row["iteration"]) for row in csv.DictReader(file)] == est.history_.column("iteration")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_in_a_terminal_lines_elsewhere(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    screen, log = Terminal(), io.StringIO()
    est = descent(tol=1e-3, max_iter=100).fit(
        X, Y, watch=[daskgd.ProgressBar(screen), daskgd.ProgressBar(log)]
    )
    shown = screen.getvalue()
    for words in ("LogisticRegression", f"sweep {est.n_sweeps_}", "loss", "gap", "GB/s", "left"):
        assert words in shown
    assert len(log.getvalue().splitlines()) == est.n_iter_
    monkeypatch.setenv("FORCE_COLOR", "1")  # asks for colours, where there are any
    descent().fit(X, Y, watch=daskgd.ProgressBar(log := io.StringIO()))
    assert len(log.getvalue().splitlines()) == 6
    monkeypatch.delenv("FORCE_COLOR")
    with pytest.raises(Killed):
        descent(engine=dying(3)).fit(X, Y, watch=daskgd.ProgressBar(screen))  # gives the terminal back
    with pytest.raises(ValueError, match="expected a current client"):  # before it begins
        descent(engine="distributed").fit(X, Y, watch=daskgd.ProgressBar(screen))
    daskgd.together([descent(), descent(C=2.0)], X, Y, watch=daskgd.ProgressBar(screen))
    assert "LogisticRegression-1" in screen.getvalue()
    assert capsys.readouterr() == ("", "")


def test_a_sweep_that_takes_a_while_is_told_of(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr("daskgd.engines.graph.REPORT_SECONDS", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    daskgd.write_dataset(tmp_path / "d.zarr", X, Y, chunk_bytes=320)
    data = daskgd.open_dataset(tmp_path / "d.zarr", block_bytes=320)
    told: list[Any] = []
    screen = Terminal()
    est = descent(max_iter=1, engine="threads").fit(data, watch=[told.append, daskgd.ProgressBar(screen)])
    for sweep in range(1, est.n_sweeps_ + 1):
        shares = [e.share for e in told if isinstance(e, Sweeping) and e.sweeps == sweep]
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
    assert "reading" in screen.getvalue()


def test_verbose(capsys: Any) -> None:
    descent(verbose=1).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert all(line.startswith(f"LogisticRegression: iteration    {i}") for i, line in enumerate(lines, 1))
    est = descent(verbose=2).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("LogisticRegression: GradientDescent(")
    assert sum(" sweep " in line for line in lines) == est.n_sweeps_
    assert lines[-1] == "LogisticRegression: budget_spent"


# -- the history --------------------------------------------------------------------------------


def test_history_as_frame_page_and_plot() -> None:
    history = descent(max_iter=30).fit(X, Y).history_
    frame = history.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert frame["loss"].tolist() == history.column("loss")
    page = history._repr_html_()
    assert "<svg" in page
    assert page.count("<tr>") == 1 + 3 + 1 + 8
    assert "empty" in History()._repr_html_()
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    figure = history.plot()
    above, below = figure.axes
    assert above.lines[0].get_ydata().tolist() == history.column("loss")
    assert below.get_yscale() == "log"
    pyplot.close(figure)


def test_history_shows_no_markup_of_others() -> None:
    history = History()
    history.solver = "<script>"
    history({"iteration": 1, "loss": 0.5, "<b>": 1.0})
    assert "<script>" not in history._repr_html_()
    assert "<b>" not in history._repr_html_()
