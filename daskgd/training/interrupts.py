"""Ctrl-C ends a fit, also where Python loses it.

Python raises KeyboardInterrupt wherever its main thread happens to be. In a destructor, or in what a weak
reference calls when its object dies, exceptions are printed and dropped: the fit would go on as if nothing
had been pressed. In notebooks on Python 3.11, one interrupt in ten met such a place.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """A handler of SIGINT that raises KeyboardInterrupt as Python's own does, and remembers that it did."""

    def __init__(self) -> None:
        self.came = False

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        signal.default_int_handler(number, frame)

    def check(self) -> None:
        """Raise KeyboardInterrupt if one was raised before: whoever is still here did not hear it."""
        if self.came:
            raise KeyboardInterrupt


@contextmanager
def hearing_interrupts() -> Iterator[Callable[[], None]]:
    """A context in which a lost Ctrl-C is raised again by the function that it gives.

    Where Python's own handler is not in charge (another thread, or a program with its own handler) nothing is
    changed, and the function does nothing. A fit inside a fit uses the handler of the outer one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = signal.getsignal(signal.SIGINT)
    outer = getattr(before, "__self__", None)
    if isinstance(outer, Interrupts):
        yield outer.check
    elif before is not signal.default_int_handler:
        yield lambda: None
    else:
        interrupts = Interrupts()
        signal.signal(signal.SIGINT, interrupts.on_signal)
        try:
            yield interrupts.check
        finally:
            signal.signal(signal.SIGINT, before)
