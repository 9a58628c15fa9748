"""What the programs of this folder have in common: their arguments, and one JSON line per event.

A program that is killed leaves what it reported until then. Times are told by the program itself, so that the
start of its process, its imports and its cluster do not count. Needs numpy only: every program runs in an
environment of its own.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


class Clock:
    """Seconds since it was made, less those spent in ``paused``."""

    def __init__(self) -> None:
        self.began, self.lost = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began - self.lost

    @contextmanager
    def paused(self) -> Iterator[None]:
        at = time.perf_counter()
        yield
        self.lost += time.perf_counter() - at


WIDE = 10_000
"""More parameters than this are written to a file of their own."""


class Report:
    """Appends events to a file."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, path.open("a")

    def event(self, kind: str, **facts: Any) -> None:
        self.file.write(json.dumps({"event": kind, **facts}) + "\n")
        self.file.flush()

    def point(self, label: Any, seconds: float, w: Any, b: float, **cost: int) -> None:
        """Parameters ``w (p,)`` and intercept found after `seconds`; `cost` in sweeps or iterations.

        Points of one label are repeats of one another.
        """
        w = np.ravel(w)
        written: Any = w.tolist() if w.size <= WIDE else str(self.path.with_suffix(f".{label}.npy"))
        if w.size > WIDE:
            np.save(written, w)
        self.event("point", label=str(label), seconds=seconds, w=written, b=float(b), **cost)


class Recorder:
    """Reports some of many iterates, each about a tenth later than the one before, off the clock."""

    def __init__(self, report: Report, clock: Clock) -> None:
        self.report, self.clock = report, clock
        self.calls, self.next = 0, 1

    def __call__(self, parameters: Callable[[], tuple[Any, float]], **cost: int) -> None:
        """`parameters` gives w and the intercept, if asked."""
        self.calls += 1
        if self.calls >= self.next:
            self.next = max(self.calls + 1, int(1.15 * self.calls))
            seconds = self.clock.seconds
            with self.clock.paused():
                self.report.point(self.calls, seconds, *parameters(), **cost)


def arguments() -> tuple[argparse.Namespace, Report]:
    """What the program was asked to do, and where to report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path, help="Group of zarr arrays X and y; X may be sparse.")
    parser.add_argument("report", type=Path)
    parser.add_argument("--variant", default="")
    parser.add_argument("--penalty", type=float, required=True, help="L2, in the mean objective.")
    parser.add_argument("--scratch", type=Path, required=True, help="For converted data.")
    parser.add_argument("--limit", type=float, required=True, help="Seconds until it is killed.")
    parser.add_argument("--prepare", action="store_true", help="Only convert the data.")
    found = parser.parse_args()
    return found, Report(found.report)


def load(store: Path, report: Report) -> tuple[Any, Any]:
    """All rows in memory, timed."""
    import zarr

    clock = Clock()
    group = zarr.open_group(store, mode="r")
    X, y = read(group["X"]), group["y"][:]
    report.event("load", seconds=clock.seconds)
    return X, y


def read(X: Any) -> Any:
    """A stored array, or sparse rows, which are a group of the three arrays of ``scipy.sparse.csr_array``."""
    if not hasattr(X, "members"):
        return X[:]
    from scipy.sparse import csr_array

    bounds = X["indptr"][:]
    if bounds[-1] < 2**31:  # what scipy, and liblinear after it, would take it for in rows made in memory
        bounds = bounds.astype(np.int32)
    return csr_array((X["data"][:], X["indices"][:], bounds), shape=tuple(X.attrs["shape"]))
