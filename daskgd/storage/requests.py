"""Requests to stores at URLs: sent again where an answer is late, and sent before the answer is needed.

Knows neither arrays nor URLs, only what is asked for and how long answers take. Coroutines run in zarr's
event loop, and so does whatever they change: no locks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from daskgd._compat.zarr import begin

T = TypeVar("T")

FIRST_SECONDS, LEAST_SECONDS = 3.0, 0.5
"""Seconds to wait for an answer before a request is sent again: while none has been timed, and the least."""

REQUEST_SECONDS = 300.0
"""Seconds after which a request has failed, however often it was sent."""

AGAIN, AGAIN_AT_FIRST, MOST_AGAIN = 0.1, 2.0, 10.0
"""For how many requests that were answered one may be sent again, as a share; and how many may be before any
was, and at once: where all are late, the line is slow, and to send more would make it slower."""


class Patience:
    """How long to wait for an answer of one store: TCP's retransmission timeout, the smoothed seconds of
    answers plus four times their smoothed deviation (Jacobson 1988; RFC 6298, section 2); and how many
    requests may be sent again.

    >>> patience = Patience()
    >>> for _ in range(100):
    ...     patience.note(0.2)
    >>> patience.seconds
    0.5
    >>> patience.note(4.0)
    >>> 2 < patience.seconds < 5
    True
    """

    def __init__(self) -> None:
        self.seconds = FIRST_SECONDS
        self._usual: float | None = None
        self._deviation = 0.0
        self._again = AGAIN_AT_FIRST

    def may_send_again(self) -> bool:
        """Whether a request may be sent again, which counts as done."""
        if self._again < 1:
            return False
        self._again -= 1
        return True

    def note(self, seconds: float) -> None:
        """Take the seconds of an answer into account, from when it was first asked for."""
        if self._usual is None:
            self._usual, self._deviation = seconds, seconds / 2
        else:
            self._deviation += (abs(seconds - self._usual) - self._deviation) / 4
            self._usual += (seconds - self._usual) / 8
        self.seconds = max(self._usual + 4 * self._deviation, LEAST_SECONDS)
        self._again = min(self._again + AGAIN, MOST_AGAIN)


async def answered(ask: Callable[[], Awaitable[T]], patience: Patience) -> T:
    """What `ask` returns. It is asked again while no answer has come, after twice the time each time, and the
    first answer counts: a request that hangs then costs little (Dean and Barroso 2013, hedged requests). So
    it is only where few are late.

    Raises TimeoutError after `REQUEST_SECONDS`, or what the first one to end has raised.
    """
    began, wait = time.perf_counter(), patience.seconds
    sent: set[asyncio.Future[T]] = set()
    try:
        while (left := began + REQUEST_SECONDS - time.perf_counter()) > 0:
            if not sent or patience.may_send_again():
                sent.add(_looked_after(asyncio.ensure_future(ask())))
            done, sent = await asyncio.wait(
                sent, timeout=min(wait, left), return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                found = done.pop().result()
                patience.note(time.perf_counter() - began)
                return found
            wait *= 2
        raise TimeoutError(f"no answer in {REQUEST_SECONDS:g} s")
    finally:
        for late in sent:
            late.cancel()


def _looked_after(task: asyncio.Future[T]) -> asyncio.Future[T]:
    """A task whose error is no news to asyncio, should nobody wait for it any more."""
    task.add_done_callback(lambda task: task.cancelled() or task.exception())
    return task


class Requests:
    """Objects that are asked for before they are read, by number. One that several want is asked for once.

    Parameters
    ----------
    ask : callable
        Makes a coroutine that returns the object of a number.
    """

    def __init__(self, ask: Callable[[int], Coroutine[Any, Any, Any]]) -> None:
        self._ask = ask
        self._held: dict[int, tuple[asyncio.Future[Any], set[Ahead]]] = {}

    async def get(self, i: int) -> Any:
        """An object, which may be on its way or here. One that could not be had is asked for again next
        time."""
        if i not in self._held:
            return await self._ask(i)
        try:
            return await asyncio.shield(self._held[i][0])
        except Exception:
            self._held.pop(i, None)
            raise

    def hold(self, i: int, ahead: Ahead) -> asyncio.Future[Any]:
        """Ask for an object, which stays until all that hold it let go of it."""
        if i not in self._held:
            self._held[i] = _looked_after(asyncio.ensure_future(self._ask(i))), set()
        task, holders = self._held[i]
        holders.add(ahead)
        return task

    def let_go(self, i: int, ahead: Ahead) -> None:
        task, holders = self._held.get(i, (None, {ahead}))
        holders.discard(ahead)
        if task is not None and not holders:
            del self._held[i]
            task.cancel()


class Ahead:
    """Objects of some rows, on their way or here until `end` is called.

    Parameters
    ----------
    fetches : iterable of callables
        Each makes a coroutine that has this hold what it wants, and waits until that is here.

    Attributes
    ----------
    seconds : float or None
        In which all had come; None while they have not.
    """

    def __init__(self, fetches: Iterable[Callable[[Ahead], Coroutine[Any, Any, None]]]) -> None:
        self.seconds: float | None = None
        self._objects: list[tuple[Requests, int]] = []
        self._running: Future[None] = begin(self._fetch(list(fetches)))

    async def _fetch(self, fetches: list[Callable[[Ahead], Coroutine[Any, Any, None]]]) -> None:
        began = time.perf_counter()
        with suppress(Exception):  # whoever reads the rows meets it again, and says where
            await asyncio.gather(*(fetch(self) for fetch in fetches))
            self.seconds = time.perf_counter() - began

    async def hold(self, requests: Requests, numbers: Iterable[int]) -> None:
        """Ask for objects and wait for them, whether or not they can be had."""
        numbers = list(numbers)
        self._objects += ((requests, i) for i in numbers)
        await asyncio.wait([requests.hold(i, self) for i in numbers])

    def end(self) -> None:
        """Let go of the objects, and cancel requests that nobody else waits for."""
        self._running.cancel()
        begin(self._let_go())

    async def _let_go(self) -> None:
        for requests, i in self._objects:
            requests.let_go(i, self)
