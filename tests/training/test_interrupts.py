"""Interrupts that Python drops, as it does in destructors, end a fit all the same."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import daskgd
from daskgd.monitoring.events import Iterated
from daskgd.training.interrupts import hearing_interrupts


@contextmanager
def pythons_own_handler() -> Iterator[list[Any]]:
    """A context in which Python's own handler is in charge; the exceptions that are dropped."""
    dropped: list[Any] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by jobs in the background
    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: dropped.append(unraisable.exc_type)
    try:
        yield dropped
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGINT, before)


class Pressed:
    """Whose destructor meets a Ctrl-C."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


X = np.random.default_rng(1).normal(size=(60, 3))
Y = (X[:, 0] + np.random.default_rng(2).normal(size=60) > 0).astype(int)


def descent() -> daskgd.LogisticRegression:
    return daskgd.LogisticRegression(solver="gradient_descent", max_iter=20, tol=0)


@pytest.mark.parametrize("nested", [False, True])
def test_a_lost_interrupt_ends_the_fit_at_its_next_sweep(nested: bool) -> None:
    def press(event: Any) -> None:
        if isinstance(event, Iterated) and event.row["iteration"] == 5:
            if nested:
                descent().fit(X, Y, watch=press_inside)
            else:
                Pressed()

    def press_inside(event: Any) -> None:
        if isinstance(event, Iterated) and event.row["iteration"] == 3:
            Pressed()

    est = descent()
    with pythons_own_handler() as dropped:
        with pytest.raises(KeyboardInterrupt):
            est.fit(X, Y, watch=press)
        assert dropped == [KeyboardInterrupt]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        descent().fit(X, Y)  # which hears nothing of it
    assert (est.outcome_, est.n_iter_) == ("interrupted", 5)


def test_other_handlers_and_other_threads_are_left_alone() -> None:
    heard: list[int] = []

    def own(number: int, frame: Any) -> None:
        heard.append(number)

    def elsewhere() -> None:
        with hearing_interrupts() as check:
            check()
            heard.append(0)

    with pythons_own_handler() as dropped:
        signal.signal(signal.SIGINT, own)
        with hearing_interrupts() as check:
            assert signal.getsignal(signal.SIGINT) is own
            Pressed()
            check()
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert heard == [signal.SIGINT, 0]
    assert not dropped
