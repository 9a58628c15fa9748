"""Progress bars in notebooks: one output of a cell shows all fits that run in it, and is updated in place.

It needs IPython's ``display`` alone, which is there where a kernel runs, and no widgets. Frontends show it
as HTML, those that cannot as text.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from html import escape
from threading import RLock
from typing import Any

from daskgd.monitoring.events import Began, Event
from daskgd.monitoring.progress import ShownFit

MOST_FITS = 10
"""Fits that a cell shows, a row each; others are counted."""

UPDATE_SECONDS = 0.1
"""Seconds between two updates while fits run, at least: each is a message to the browser."""

CELL = (
    "text-align: left; border: none; padding: 0 1em 0 0; white-space: pre; font-variant-numeric: tabular-nums"
)

COLOURS = {None: "#1976d2", "converged": "#388e3c", "interrupted": "#d32f2f", "diverged": "#d32f2f"}
"""Of the bars, by outcome; the outcome stands beside them in words too."""


def kernel_shell() -> Any:
    """The shell of IPython if it runs in a kernel, as for notebooks; None in terminals and elsewhere."""
    IPython = sys.modules.get("IPython")
    shell = IPython.get_ipython() if IPython is not None else None
    return shell if getattr(shell, "kernel", None) is not None else None


class CellOutput:
    """What a cell shows of its fits: those that run, and the last of those that are done."""

    def __init__(self) -> None:
        self._fits: list[ShownFit] = []
        self._dropped: Counter[str] = Counter()  # by outcome
        self._lock = RLock()  # fits of one cell may run in several threads
        self._handle: Any = None
        self._updated_at = 0.0

    def add(self, fit: ShownFit) -> None:
        """Show another fit."""
        with self._lock:
            done = [one for one in self._fits if one.outcome]
            if len(done) == len(self._fits):
                self._updated_at = 0.0  # the next update comes at once: there may be no other for long
            for one in done[: max(len(self._fits) + 1 - MOST_FITS, 0)]:
                self._fits.remove(one)
                self._dropped[str(one.outcome)] += 1
            self._fits.append(fit)

    def show(self) -> None:
        """Update the output, unless that was done just now and there will be another time."""
        from IPython.display import display

        with self._lock:
            now = time.monotonic()
            if now - self._updated_at < UPDATE_SECONDS and not all(fit.outcome for fit in self._fits):
                return
            self._updated_at = now
            if self._handle is None:
                self._handle = display(self, display_id=True)
            else:
                self._handle.update(self)

    # -- as IPython asks for it ---------------------------------------------------------------------

    def __repr__(self) -> str:
        rows, others = self._rows()
        lines, width = [], max((len(name) for name, *_ in rows), default=0)
        for name, share, _, *texts in rows:
            bar = ("#" * round(20 * (share or 0))).ljust(20, "-")
            lines.append("  ".join([name.ljust(width), f"[{bar}]", *filter(None, texts)]))
        return "\n".join([*lines, *([others] if others else [])])

    def _repr_html_(self) -> str:
        rows, others = self._rows()
        lines = []
        for name, share, colour, *texts in rows:
            value = "" if share is None else f' value="{share:.3f}"'
            style = f"width: 14em; vertical-align: middle; accent-color: {colour}"
            bar = f'<progress max="1"{value} style="{style}" aria-label="{escape(name)}"></progress>'
            cells = [escape(name), bar, *map(escape, texts)]
            lines.append("".join(f'<td style="{CELL}">{cell}</td>' for cell in cells))
        if others:
            lines.append(f'<td style="{CELL}" colspan="5">{escape(others)}</td>')
        body = "".join(f'<tr style="background: none">{line}</tr>' for line in lines)
        return f'<table style="border: none; margin: 0">{body}</table>'

    def _rows(self) -> tuple[list[tuple[Any, ...]], str]:
        """For each row its name, share, colour and texts; and a sentence on fits that have no row."""
        with self._lock:
            running = [fit for fit in self._fits if not fit.outcome]
            done = [fit for fit in self._fits if fit.outcome]
            hidden = [*running, *reversed(done)][MOST_FITS:]
            rows = [
                (fit.name, fit.share, COLOURS.get(fit.outcome, "#757575"), fit.at, fit.said, _time(fit))
                for fit in self._fits
                if fit not in hidden
            ]
            counts = self._dropped + Counter(fit.outcome or "running" for fit in hidden)
        others = ", ".join(f"{n:,} {outcome.replace('_', ' ')}" for outcome, n in counts.items())
        return rows, f"and {sum(counts.values()):,} more fits: {others}" if others else ""


def _time(fit: ShownFit) -> str:
    """How long a fit has taken, and will take or how it ended.

    >>> from daskgd.monitoring.events import Ended
    >>> fit = ShownFit(Began("Ridge", "", "", 10, 0.0, 0))
    >>> _time(fit)
    '0:00'
    >>> fit(Ended("Ridge", "budget_spent"))
    >>> _time(fit)
    'budget spent, 0:00'
    """
    if fit.outcome:
        return f"{fit.outcome.replace('_', ' ')}, {_clock(fit.elapsed())}"
    left = fit.left()
    return _clock(fit.elapsed()) + ("" if left is None else f", left {_clock(left)}")


def _clock(seconds: float) -> str:
    """Minutes and seconds, and hours where there are any.

    >>> _clock(65.2), _clock(3600)
    ('1:05', '1:00:00')
    """
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"


class _Cell:
    """The output of the cell that is being executed."""

    def __init__(self) -> None:
        self._output: CellOutput | None = None
        self._lock = RLock()

    def output(self, shell: Any) -> CellOutput:
        """The output that all fits of a cell share; the next cell has another one."""
        with self._lock:
            if self._output is None:
                self._output = CellOutput()
                shell.events.register("post_execute", self._end)
            return self._output

    def _end(self) -> None:
        with self._lock:
            kernel_shell().events.unregister("post_execute", self._end)
            self._output = None


_cell = _Cell()


class NotebookBars:
    """The bars of fits that run at the same time, in the output of the cell that runs them."""

    def __init__(self, shell: Any) -> None:
        self._output = _cell.output(shell)
        self._fits: dict[str, ShownFit] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, Began):
            self._fits[event.fit] = fit = ShownFit(event)
            self._output.add(fit)
        elif event.fit in self._fits:  # others failed before they began
            self._fits[event.fit](event)
        else:
            return
        self._output.show()
