"""Notebooks: one output for the fits of a cell, with widgets and without; a cell that is stopped."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from daskgd.monitoring.events import Began, Ended, Iterated
from daskgd.monitoring.notebook import MOST_FITS, CellOutput, kernel_shell
from daskgd.monitoring.progress import ShownFit

# -- what an output holds -----------------------------------------------------------------------


def began(name: str = "Ridge", tol: float = 0.0, rows: Any = ()) -> Began:
    return Began(name, "", "", 10, tol, 0, rows)


def row(iteration: int, gap: float = 1.0) -> dict[str, Any]:
    return {"iteration": iteration, "sweeps": iteration, "loss": 0.5, "gap": gap, "bytes": 8, "seconds": 1.0}


def iterated(iteration: int, gap: float = 1.0) -> Any:
    return Iterated("Ridge", row(iteration, gap), None, lambda: None)  # type: ignore[arg-type]


def test_the_share_that_is_done() -> None:
    by_iterations = ShownFit(began())
    by_iterations(iterated(5))
    assert by_iterations.share == 0.5
    by_gap = ShownFit(began(tol=1e-4))
    by_gap(iterated(1, float("inf")))
    assert by_gap.share is None
    assert by_gap.left() is None
    for gap, share in ((1.0, 0.2), (1e-2, 0.5), (1e-4, 1.0)):
        by_gap(iterated(2, gap))
        assert by_gap.share == pytest.approx(share)
    resumed = ShownFit(began(rows=[row(4)]))
    assert (resumed.sweeps, resumed.share) == (4, None)
    resumed(iterated(4))
    assert resumed.left() is None  # no iteration of its own yet


def test_a_cell_shows_the_fits_that_run_and_counts_the_rest() -> None:
    output = CellOutput()
    fits = [ShownFit(began(f"<{i}>")) for i in range(2 * MOST_FITS)]
    for fit in fits[:MOST_FITS]:
        output.add(fit)
        fit(Ended(fit.name, "converged"))
    assert repr(output).count("converged") == MOST_FITS
    for fit in fits[MOST_FITS:]:
        output.add(fit)
    assert f"and {MOST_FITS} more fits: {MOST_FITS} converged" in repr(output)
    assert "<0>" not in repr(output)
    html = output._repr_html_()
    assert html.count("<progress") == MOST_FITS
    assert f"&lt;{MOST_FITS}&gt;" in html
    assert "<0>" not in html


def test_updates_are_few_but_the_first_and_last_of_a_fit_come_at_once(monkeypatch: Any) -> None:
    shown: list[str] = []
    handle = SimpleNamespace(update=lambda output: shown.append(repr(output)))
    display = SimpleNamespace(display=lambda output, display_id: handle.update(output) or handle)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr("daskgd.monitoring.notebook.UPDATE_SECONDS", 3600.0)
    output = CellOutput()
    for name in ("first", "second"):
        output.add(fit := ShownFit(began(name)))
        output.show()
        for i in range(1, 5):
            fit(iterated(i))
            output.show()
        fit(Ended(name, "converged"))
        output.show()
    assert [text.splitlines()[-1].split()[0] for text in shown] == ["first", "first", "second", "second"]
    assert ["converged" in text.splitlines()[-1] for text in shown] == [False, True, False, True]


def test_here_is_no_kernel() -> None:
    assert kernel_shell() is None


# -- a real kernel ------------------------------------------------------------------------------

SETUP = """
import sys
import numpy as np, daskgd
from daskgd.monitoring.events import Iterated
from sklearn.model_selection import GridSearchCV

X = np.random.default_rng(1).normal(size=(300, 4))
Y = (X @ [1.0, -1.0, 0.5, 0.0] + np.random.default_rng(2).normal(size=300) > 0).astype(int)

def descent(**settings):
    settings = {"solver": "gradient_descent", "max_iter": 30, "tol": 0, "verbose": 1, **settings}
    return daskgd.LogisticRegression(**settings)

def nested(event):
    if isinstance(event, Iterated) and event.row["iteration"] == 5:
        descent(max_iter=2).fit(X, Y)
"""

CELLS = {
    "setup": SETUP,
    "no widgets": "sys.modules['ipywidgets'] = None; descent().fit(X, Y);",
    "widgets": "sys.modules['ipywidgets'] = type(sys)('ipywidgets'); descent().fit(X, Y);",
    "together": "daskgd.together([descent(), descent(solver='auto', tol=1e-6)], X, Y);",
    "search": "GridSearchCV(descent(max_iter=3), {'C': [0.1, 1.0, 10.0]}, cv=4).fit(X, Y);",
    "nested": "descent().fit(X, Y, watch=nested);",
    "between": "print('before'); descent().fit(X, Y); print('after')",
    "fails": "descent().fit(X, Y, watch=lambda event: isinstance(event, Iterated) and 1 / 0)",
    "stream": "descent(verbose=0).fit(X, Y, watch=daskgd.ProgressBar(sys.stdout));",
    "file": """
import io
log = io.StringIO()
descent(verbose=0, max_iter=3).fit(X, Y, watch=daskgd.ProgressBar(log))
print(log.getvalue())
""",
    "asynchronous": """
import asyncio, distributed
async with distributed.Client(processes=False, dashboard_address=":0", asynchronous=True):
    est = await asyncio.to_thread(descent(max_iter=3).fit, X, Y)
""",
    "cluster": """
def tasks(dask_scheduler):
    return [str(key) for key in dask_scheduler.tasks]

client = distributed.Client(n_workers=1, threads_per_worker=1, dashboard_address=":0")
workers = client.run(__import__("os").getpid)
est = descent(max_iter=10**6)
""",
    "stopped": "est.fit(X, Y)",
    "left": "print(est.outcome_, len(est.history_) > 0, client.run(lambda: None).keys() == workers.keys())",
    "tasks": """
import time
deadline = time.monotonic() + 30
while (left := client.run_on_scheduler(tasks)) and time.monotonic() < deadline:
    time.sleep(0.01)
print(left)
""",
    "again": "descent(max_iter=3).fit(X, Y); client.shutdown()",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """The outputs of each cell; the one that runs for ever is interrupted at its fifth iteration."""
    pytest.importorskip("ipykernel")
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    folder, names = tmp_path_factory.mktemp("jupyter"), list(CELLS)
    (folder / "kernels" / "here").mkdir(parents=True)
    kernel = {"argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]}
    spec = {**kernel, "display_name": "here", "language": "python"}
    (folder / "kernels" / "here" / "kernel.json").write_text(json.dumps(spec))

    class Stopping(nbclient.NotebookClient):  # type: ignore[misc, name-defined]
        interrupt: Any = None

        def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
            if names[cell_index] == "stopped" and self.interrupt is None:
                shown = msg["content"].get("data", {}).get("text/plain", "")
                if (found := re.search(r"sweep (\d+)  loss", shown)) and int(found[1]) >= 5:
                    self.interrupt = asyncio.ensure_future(self.km.interrupt_kernel())
            return super().process_message(msg, cell, cell_index)

    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS.values()])
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Jupyter's own, on Pythons that are newer than it
        patch.setenv("JUPYTER_PATH", str(folder))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        Stopping(book, kernel_name="here", timeout=60, allow_errors=True).execute()
    return {name: cell.outputs for name, cell in zip(names, book.cells, strict=True)}


def bar(outputs: list[Any]) -> list[str]:
    """The lines of a cell's one output, which has the same words as HTML."""
    assert [output.output_type for output in outputs] == ["display_data"], outputs
    text, html = outputs[0].data["text/plain"], outputs[0].data["text/html"]
    words = [word for word in re.split(r"  +|\n", text) if word and not word.startswith("[")]
    assert all(word in html for word in words)
    assert html.count("<progress") == text.count("[")
    return str(text).splitlines()


@pytest.mark.cluster
@pytest.mark.posix
class TestInAKernel:
    """Each looks at cells of one notebook, which is executed once."""

    @pytest.mark.parametrize("cell", ["no widgets", "widgets"])
    def test_a_fit_has_one_bar(self, outputs: Any, cell: str) -> None:
        (line,) = bar(outputs[cell])
        assert line.startswith(f"LogisticRegression  [{'#' * 20}]  sweep 33  loss 0.")
        assert "  budget spent, 0:" in line

    @pytest.mark.slow
    def test_fits_that_share_sweeps_have_a_line_each(self, outputs: Any) -> None:
        first, second = bar(outputs["together"])
        assert re.match(r"LogisticRegression-0 .* budget spent", first)
        assert re.match(r"LogisticRegression-1 .* converged", second)

    def test_fits_one_after_the_other_share_the_output(self, outputs: Any) -> None:
        *lines, rest = bar(outputs["search"])
        assert len(lines) == MOST_FITS
        assert rest == "and 3 more fits: 3 budget spent"  # 3 x 4 + 1

    def test_a_fit_within_a_fit(self, outputs: Any) -> None:
        outer, inner = bar(outputs["nested"])
        assert "sweep 33" in outer
        assert "sweep 5" in inner

    def test_a_bar_between_prints(self, outputs: Any) -> None:
        before, shown, after = outputs["between"]
        assert (before.text, after.text) == ("before\n", "after\n")
        assert len(bar([shown])) == 1

    def test_a_fit_that_fails(self, outputs: Any) -> None:
        shown, error = outputs["fails"]
        assert error.ename == "ZeroDivisionError"
        assert "interrupted, 0:" in bar([shown])[0]

    def test_a_file_gets_lines(self, outputs: Any) -> None:
        assert len(bar(outputs["stream"])) == 1  # this is the cell itself
        (printed,) = outputs["file"]
        assert printed.text.count("LogisticRegression: iteration") == 3

    def test_a_fit_in_a_thread_beside_an_asynchronous_client(self, outputs: Any) -> None:
        (line,) = bar(outputs["asynchronous"])
        assert "budget spent" in line

    def test_a_cell_that_is_stopped(self, outputs: Any) -> None:
        shown, error = (output for output in outputs["stopped"] if output.output_type != "stream")
        assert error.ename == "KeyboardInterrupt"
        (line,) = bar([shown])
        assert re.search(r"sweep \d+  loss 0\.\S+ .* interrupted, 0:", line)
        assert outputs["left"][0].text == "interrupted True True\n"  # the worker that was there before
        assert outputs["tasks"][0].text == "[]\n"
        assert "budget spent" in bar([outputs["again"][0]])[0]
