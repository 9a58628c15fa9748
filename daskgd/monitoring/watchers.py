"""Watchers: a progress bar, a line per iteration, logs in JSON lines and CSV, early stopping.

Each is a callable that takes the events of :mod:`daskgd.monitoring.events`, to be passed as
``fit(..., watch=...)``. They run where ``fit`` was called, so that nothing is decided on workers.
"""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TextIO

import numpy as np
from dask.utils import format_bytes
from rich.console import Console

from daskgd.monitoring.events import Began, Ended, Event, Iterated, Slower, Sweeping, Swept
from daskgd.monitoring.notebook import NotebookBars, kernel_shell
from daskgd.monitoring.progress import TerminalBars, rate
from daskgd.storage.paths import locate_on_disk


class Lines:
    """A line per iteration: quiet enough for a batch log.

    Parameters
    ----------
    stream : text file, optional
        By default standard output.
    sweeps : bool
        Whether to print a line for the solver, for every sweep and for the outcome too.
    """

    def __init__(self, stream: TextIO | None = None, sweeps: bool = False) -> None:
        self.stream, self.sweeps = stream, sweeps

    def __call__(self, event: Event) -> None:
        if isinstance(event, Iterated):
            row = event.row
            self._print(
                f"{event.fit}: iteration {row['iteration']:>4}  sweeps {row['sweeps']:>4}  "
                f"loss {row['loss']:.8g}  gap {row['gap']:.1e}  {row['seconds']:.1f} s  {rate(row):.2f} GB/s"
            )
        elif not self.sweeps:
            return
        elif isinstance(event, Began):
            self._print(f"{event.fit}: {event.solver}, {event.reason}; {format_bytes(event.nbytes)} a sweep")
        elif isinstance(event, Sweeping):
            return
        elif isinstance(event, Swept):
            speed = event.nbytes / max(event.seconds, 1e-9) / 1e9
            self._print(f"{event.fit}: sweep {event.sweeps:>4}  {event.seconds:.2f} s  {speed:.2f} GB/s")
        else:
            self._print(f"{event.fit}: {event.outcome}")

    def _print(self, text: str) -> None:
        print(text, file=self.stream or sys.stdout, flush=True)


class ProgressBar:
    """A bar for each fit, in terminals and notebooks: sweeps, loss, gap, speed, time left; and how far the
    sweep is that is under way, if that takes a while. Elsewhere it prints :class:`Lines`.

    The length of a bar is computed from the gap, on a logarithmic scale down to `tol`, or from the number of
    iterations where `tol` is 0. In a notebook, all fits of a cell share one output, which is updated in
    place; it needs no widgets.

    Parameters
    ----------
    stream : text file, optional
        By default standard output, or the notebook's cell.

    Examples
    --------
    >>> import daskgd
    >>> est = daskgd.Ridge().fit([[0.0], [1.0]], [0.0, 1.0], watch=daskgd.ProgressBar())  # no terminal here
    Ridge: iteration    1  sweeps    1  loss 0.08333...
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream
        self._running: set[str] = set()
        self._shown: Callable[[Event], None] | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Began):
            self._running.add(event.fit)
            self._shown = self._shown or self._choose()
        if self._shown is not None:  # there is nothing to show of fits that fail before they begin
            self._shown(event)
        if isinstance(event, Ended):
            self._running.discard(event.fit)
            if not self._running:
                self._shown = None

    def _choose(self) -> Callable[[Event], None]:
        """What shows events where the fit runs."""
        shell = kernel_shell()
        if shell is not None:
            in_cell = self.stream in (None, sys.stdout, sys.stderr)
            return NotebookBars(shell) if in_cell else Lines(self.stream)
        stream = self.stream or sys.stdout
        console = Console(file=stream)
        # rich also takes FORCE_COLOR for a terminal, which kernels set for the processes that they start.
        is_terminal = console.is_terminal and getattr(stream, "isatty", bool)()
        return TerminalBars(console) if is_terminal else Lines(self.stream)


class AsOneFit:
    """Shows a watcher many fits that share sweeps as one: the sweeps of all, and the iterations of the fit
    that has the largest gap.

    Parameters
    ----------
    watcher : callable
    name : str
        Of the one fit.
    """

    def __init__(self, watcher: Any, name: str) -> None:
        self.watcher, self.name = watcher, name
        self._running: dict[str, dict[str, Any] | None] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, Began):
            if not self._running:
                self.watcher(replace(event, fit=self.name, rows=()))
            self._running[event.fit] = None
        elif isinstance(event, Iterated):
            self._running[event.fit] = event.row
        elif isinstance(event, Ended):
            self._running.pop(event.fit, None)
            if not self._running:
                self.watcher(Ended(self.name, event.outcome))
        elif event.fit == next(iter(self._running), None):
            rows = [row for row in self._running.values() if row is not None]
            if isinstance(event, Swept) and rows:
                self.watcher(Iterated(self.name, max(rows, key=lambda row: row["gap"]), np.empty(0), _none))
            self.watcher(replace(event, fit=self.name))


def _none() -> None:
    """The model of many fits: there is none."""


class JSONLines:
    """A JSON object per event, a line each, appended to a file: for dashboards and scripts.

    Parameters
    ----------
    path : str or PathLike

    Examples
    --------
    >>> import daskgd, tempfile
    >>> from pathlib import Path
    >>> path = tempfile.mkdtemp() + "/fit.jsonl"
    >>> est = daskgd.Ridge().fit([[0.0], [1.0]], [0.0, 1.0], watch=daskgd.JSONLines(path))
    >>> [json.loads(line)["event"] for line in Path(path).read_text().splitlines()]
    ['began', 'iterated', 'swept', 'ended']
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = locate_on_disk(path)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Sweeping):
            return
        said: dict[str, Any] = {"event": type(event).__name__.lower(), "fit": event.fit}
        if isinstance(event, Iterated):
            said |= event.row
        else:
            names = (name for name in event.__slots__ if name not in ("fit", "rows"))
            said |= {name: getattr(event, name) for name in names}
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in said.items()}
        with self.path.open("a") as file:
            file.write(json.dumps(plain, allow_nan=False, default=float) + "\n")


class CSVLog:
    """The history as comma-separated values, a row per iteration, written as they come.

    A fit that begins anew starts the file anew; one that is resumed writes the rows so far once more.

    Parameters
    ----------
    path : str or PathLike

    Examples
    --------
    >>> import daskgd, tempfile
    >>> from pathlib import Path
    >>> path = tempfile.mkdtemp() + "/fit.csv"
    >>> est = daskgd.Ridge().fit([[0.0], [1.0]], [0.0, 1.0], watch=daskgd.CSVLog(path))
    >>> Path(path).read_text().splitlines()[0]
    'fit,iteration,loss,gradient_norm,gap,seconds,bytes,sweeps,wire_bytes'
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = locate_on_disk(path)
        self._names: list[str] = []
        self._fits: set[str] = set()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Began):
            if not self._fits:
                self.path.write_text("")
                self._names = []
            self._fits.add(event.fit)
            for row in event.rows:
                self._write(event.fit, row)
        elif isinstance(event, Iterated):
            self._write(event.fit, event.row)
        elif isinstance(event, Ended):
            self._fits.discard(event.fit)

    def _write(self, fit: str, row: Any) -> None:
        with self.path.open("a", newline="") as file:
            if not self._names:
                self._names = ["fit", *row]
                csv.writer(file).writerow(self._names)
            csv.DictWriter(file, self._names, extrasaction="ignore").writerow({"fit": fit, **row})


class _ProgressWatcher:
    """Stop when a score no longer rises, with the model that had the best, also across checkpoints.

    A score counts as better where it exceeds the last one that did by more than `min_delta`. Iterations that
    say nothing new, as a step was taken back, do not count.
    """

    def __init__(self, patience: float, min_delta: float) -> None:
        name = type(self).__name__
        whole = isinstance(patience, int) and not isinstance(patience, bool) and patience >= 1
        if not whole and patience != math.inf:
            raise ValueError(f"{name}: expected patience to be a whole number >= 1, or inf, got {patience!r}")
        if not (isinstance(min_delta, float | int) and math.isfinite(min_delta) and min_delta >= 0):
            raise ValueError(f"{name}: expected min_delta to be a number >= 0, got {min_delta!r}")
        self.patience, self.min_delta = patience, min_delta
        self._best: dict[str, Iterated] = {}
        self._mark: dict[str, float] = {}
        self._waited: dict[str, int] = {}

    def _score(self, row: Any) -> float:
        """The score of an iteration, from its row of the history; higher is better."""
        raise NotImplementedError

    def spent(self, fit: str) -> bool:
        """Whether a fit has gone `patience` iterations without a better score."""
        return self._waited.get(fit, 0) >= self.patience

    def __call__(self, event: Event) -> Iterated | Slower | None:
        fit = event.fit
        if isinstance(event, Began):
            if not event.rows:
                self._best.pop(fit, None)
                self._mark.pop(fit, None)
                self._waited[fit] = 0
            elif self.spent(fit):  # it had stopped when it was kept
                return self._best[fit]
        elif isinstance(event, Iterated) and not event.row.get("repeated"):
            score, best = self._score(event.row), self._best.get(fit)
            if self._counts(fit, score):
                self._mark[fit], self._waited[fit] = score, 0
            else:
                self._waited[fit] += 1
            if best is None or score > self._score(best.row):
                self._best[fit] = event
            if self.spent(fit):
                return self._end(event)
        return None

    def _counts(self, fit: str, score: float) -> bool:
        """Whether a score is enough of a rise to wait anew."""
        return fit not in self._mark or score > self._mark[fit] + self.min_delta

    def _end(self, event: Iterated) -> Iterated | Slower:
        """What to answer once the patience is spent."""
        return self._best[event.fit]

    @property
    def memory(self) -> list[Any]:
        """For each fit its name, how long it has waited, the row and parameters of its best, and the score
        that another has to exceed."""
        return [
            (fit, self._waited[fit], dict(best.row), best.w, self._mark[fit])
            for fit, best in self._best.items()
        ]

    @memory.setter
    def memory(self, memory: list[Any]) -> None:
        for fit, waited, row, w, *mark in memory:
            self._waited[fit], self._best[fit] = waited, Iterated(fit, row, w, lambda: None)
            self._mark[fit] = mark[0] if mark else self._score(row)  # 0.1.0 kept none: its best was the mark


class Plateau(_ProgressWatcher):
    """Stop when the loss no longer falls: when `patience` iterations in a row did not lower it so.

    For solvers that estimate no gap, such as those that step by mini-batches.

    Parameters
    ----------
    patience : int
    min_delta : float
        By how much a loss must be lower to count.

    Examples
    --------
    >>> import daskgd
    >>> est = daskgd.Ridge(solver=daskgd.GradientDescent(step=0.1), tol=0, max_iter=1000)
    >>> stop = daskgd.Plateau(patience=3, min_delta=1e-6)
    >>> est = est.fit([[0.0], [1.0], [3.0]], [0.0, 1.0, 3.0], watch=stop)
    >>> est.outcome_, est.n_iter_ < 1000
    ('stopped', True)
    """

    def __init__(self, *, patience: float = 10, min_delta: float = 1e-4) -> None:
        super().__init__(patience, min_delta)

    def _score(self, row: Any) -> float:
        loss = float(row["loss"])
        return -loss if math.isfinite(loss) else -math.inf


class EarlyStopping(_ProgressWatcher):
    """Stop when the score on rows that are set aside no longer rises, with the model that had the best.

    After each iteration the model is scored, in a sweep over those rows; the score stands in the history as
    ``validation_score``. One that is resumed from a checkpoint goes on as if nothing had happened.

    Parameters
    ----------
    X : Dataset or whatever ``score`` takes
        The validation rows.
    y, sample_weight : optional
        As for ``score``.
    patience : int
        Iterations without a better score, after which the fit stops.
    min_delta : float
        By how much a score must be better to count.

    Examples
    --------
    >>> import daskgd, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> y = X @ np.ones(3) > 0
    >>> est = daskgd.LogisticRegression(solver="gradient_descent", C=np.inf, max_iter=500)
    >>> stop = daskgd.EarlyStopping(X[150:], y[150:], patience=5)
    >>> est.fit(X[:150], y[:150], watch=stop).outcome_
    'stopped'
    """

    def __init__(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        patience: float = 3,
        min_delta: float = 0.0,
    ) -> None:
        super().__init__(patience, min_delta)
        self.rows = (X, y, sample_weight)

    def _score(self, row: Any) -> float:
        score = float(row["validation_score"])
        return score if score == score else -math.inf

    def __call__(self, event: Event) -> Iterated | Slower | None:
        if isinstance(event, Iterated):
            event.row["validation_score"] = float(event.model().score(*self.rows))
        elif isinstance(event, Ended) and event.outcome != "interrupted":
            return self._best.get(event.fit)
        return super().__call__(event)
