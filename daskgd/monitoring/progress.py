"""What a progress bar shows of a fit, and the bars of terminals; those of notebooks are in
:mod:`daskgd.monitoring.notebook`."""

from __future__ import annotations

import math
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from daskgd.monitoring.events import Began, Ended, Event, Iterated, Sweeping, Swept


def rate(row: Any) -> float:
    """Decoded gigabytes a second since the fit began."""
    return float(row["bytes"] / max(row["seconds"], 1e-9) / 1e9)


class ShownFit:
    """A fit as bars show it: how far it is, and what it says of itself.

    Attributes
    ----------
    name : str
    sweeps : int or float
    reading : float or None
        The share that is read of a sweep that takes a while.
    said : str
        Loss, gap and speed; empty before the first iteration.
    share : float or None
        The share that is done, from 0 to 1; None while there is no gap to estimate it from. It is computed
        from the gap, on a logarithmic scale down to `tol`, or from the iterations where `tol` is 0.
    outcome : str or None
        None while the fit runs.
    seconds : float
        How long it took, set at its end.
    """

    def __init__(self, began: Began) -> None:
        self.name, self.max_iter, self.tol = began.fit, began.max_iter, began.tol
        self.sweeps: float = began.rows[-1]["sweeps"] if began.rows else 0
        self.reading: float | None = None
        self.said = ""
        self.share: float | None = None
        self.outcome: str | None = None
        self.seconds = 0.0
        self._began_at = time.monotonic()
        self._first_gap: float | None = None
        self._first_share = self._share(began.rows[-1]) or 0.0 if began.rows else 0.0

    def __call__(self, event: Event) -> None:
        """Take in an event of this fit."""
        if isinstance(event, Sweeping):
            self.sweeps, self.reading = event.sweeps, event.share
            return
        self.reading = None
        if isinstance(event, Swept):
            self.sweeps = event.sweeps
        elif isinstance(event, Iterated):
            row = event.row
            self.sweeps = row["sweeps"]
            self.said = f"loss {row['loss']:.6g}  gap {row['gap']:.1e}  {rate(row):.2f} GB/s"
            if (share := self._share(row)) is not None:
                self.share = share
        elif isinstance(event, Ended):
            self.outcome, self.seconds = event.outcome, self.elapsed()
            self.share = 1.0 if event.outcome == "converged" else self.share or 0.0

    @property
    def at(self) -> str:
        """Which sweep it is at, and how far that is where it takes a while."""
        return f"sweep {self.sweeps:g}" + ("" if self.reading is None else f", {self.reading:.0%} read")

    def elapsed(self) -> float:
        """Seconds since the fit began, or those it took."""
        return self.seconds if self.outcome else time.monotonic() - self._began_at

    def left(self) -> float | None:
        """Seconds until the end if it goes on as so far; None while that cannot be told."""
        done = 0.0 if self.share is None else self.share - self._first_share
        return self.elapsed() * (1 - self.share) / done if self.share is not None and done > 0 else None

    def _share(self, row: Any) -> float | None:
        done, gap = row["iteration"] / self.max_iter, row["gap"]
        if not self.tol > 0:
            return float(done)
        if not math.isfinite(gap):
            return None
        first = self._first_gap = max(gap, 1.0) if self._first_gap is None else self._first_gap
        if gap <= self.tol:
            return 1.0
        return max(done, math.log(first / gap) / math.log(first / self.tol) if gap < first else 0.0)


class TerminalBars:
    """The bars of fits that run at the same time, in a terminal; below them one for the sweep under way."""

    def __init__(self, console: Console) -> None:
        self._fits: dict[str, tuple[ShownFit, TaskID]] = {}
        self._inner: TaskID | None = None
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("sweep {task.fields[sweeps]}  {task.fields[said]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )

    def __call__(self, event: Event) -> None:
        bars = self._bars
        if isinstance(event, Began):
            if not self._fits:
                bars.start()
            fit = ShownFit(event)
            self._fits[event.fit] = fit, bars.add_task(fit.name, total=None, sweeps=fit.sweeps, said="")
        elif event.fit not in self._fits:
            return  # it failed before it began
        elif isinstance(event, Sweeping):
            said = f"reading, {event.share:.0%}"
            if self._inner is None:
                self._inner = bars.add_task("", total=1.0, sweeps=event.sweeps, said=said)
            bars.update(self._inner, completed=event.share, sweeps=event.sweeps, said=said)
        else:
            fit, task = self._fits[event.fit]
            fit(event)
            if isinstance(event, Swept) and self._inner is not None:
                bars.remove_task(self._inner)
                self._inner = None
            bars.update(task, sweeps=fit.sweeps, said=fit.said)
            if fit.share is not None:
                bars.update(task, total=1.0, completed=fit.share)
            if all(fit.outcome for fit, _ in self._fits.values()):
                bars.stop()
