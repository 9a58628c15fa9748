"""What queues send before they kill: SIGTERM, SIGUSR1."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Terminated(BaseException):
    """A signal asked to stop; raised between two sweeps, or in one that takes too long."""


class Stop:
    """A watcher that ends the fit when a signal has come.

    The first signal lets the sweep end, for `grace` seconds; then the sweep is abandoned, once a second until
    that is heard, as exceptions in destructors are not. A second signal leaves at once.
    """

    def __init__(self, grace: float) -> None:
        self.grace, self.caught = grace, 0

    def __call__(self, event: Any) -> None:
        if self.caught and type(event).__name__ in ("Began", "Swept"):  # what was swept is kept by then
            raise Terminated

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.caught:
            os._exit(128 + signal.SIGTERM)
        self.caught = number
        signal.setitimer(signal.ITIMER_REAL, max(self.grace, 1e-3), 1.0)

    def on_alarm(self, number: int, frame: FrameType | None) -> None:
        raise Terminated


@contextmanager
def stoppable(grace: float) -> Iterator[Stop]:
    """A watcher that hears SIGTERM and SIGUSR1 while the context lasts; in the main thread, on POSIX."""
    stop = Stop(grace)
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield stop
        return
    numbers = {signal.SIGTERM: stop.on_signal, signal.SIGUSR1: stop.on_signal, signal.SIGALRM: stop.on_alarm}
    before = {number: signal.signal(number, handler) for number, handler in numbers.items()}
    try:
        yield stop
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
