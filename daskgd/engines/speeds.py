"""How fast workers are, from what past sweeps took: how long a block takes, and who is slow for good.

The file knows what sweeps took; it must not know clusters, tasks or rows.
"""

from __future__ import annotations

import statistics
from collections import defaultdict, deque
from collections.abc import Mapping

from daskgd.engines.timing import Spent, Timing

SLOW, SWIFT = 1 / 3, 1 / 2
"""A worker is slow from the first of these speeds on, relative to others, until it has the second again."""

SWEEPS = 5
"""Sweeps that the speed of a worker is the median of; and for so many a slow one goes without work before it
is tried again."""

LEAST_SWEEPS, LEAST_SECONDS = 3, 0.25
"""A worker is not called slow after fewer sweeps, nor for less work in a sweep: that is noise, and costs
little."""


class Speeds:
    """What is known of the speed of workers in one fit.

    Attributes
    ----------
    slow : dict
        The workers that are slow for good, by address: their speed, of that of most others.

    Examples
    --------
    >>> speeds = Speeds()
    >>> for _ in range(3):
    ...     speeds._judge({"a": 1.0, "b": 0.1})
    >>> speeds.slow
    {'b': 0.1}
    """

    def __init__(self) -> None:
        self.slow: dict[str, float] = {}
        self._past: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=SWEEPS))
        self._block_seconds: dict[tuple[str, ...], float] = {}
        self._store_seconds = 0.0  # to read a block, when last one was
        self._rested: dict[str, int] = {}

    def block_seconds(self, asked: tuple[str, ...], read: bool = False) -> float | None:
        """Seconds that a block took in the last sweep of this kind; None before the first. With those that it
        takes to `read` it, where it may have been in memory then."""
        known = self._block_seconds.get(asked)
        return None if known is None else known + self._store_seconds * read

    def note(self, swept: Timing, late: Mapping[str, tuple[int, float]]) -> None:
        """Learn from a sweep. Workers that were `late` needed more than some seconds for some blocks."""
        worked = {address: s for address, s in swept.workers.items() if address and _blocks(s)}
        if not worked:
            return
        usual = statistics.median((s.read + s.compute) / _blocks(s) for s in worked.values())
        self._block_seconds[swept.asked] = usual
        compute = statistics.median_low(s.compute / _blocks(s) for s in worked.values())
        store = statistics.median_low(
            [s.store / s.read_blocks for s in worked.values() if s.read_blocks] or [0.0]
        )
        self._store_seconds = store or self._store_seconds
        speeds = {}
        for address, s in worked.items():
            took = s.compute + s.store
            if took >= LEAST_SECONDS or (took and address in self.slow):
                speeds[address] = (compute * _blocks(s) + store * s.read_blocks) / took
        for address, (blocks, seconds) in late.items():
            if seconds >= LEAST_SECONDS:
                speeds[address] = min(speeds.get(address, 1.0), blocks * usual / seconds)
        self._judge(speeds)

    def _judge(self, speeds: Mapping[str, float]) -> None:
        for address, speed in speeds.items():
            past = self._past[address]
            past.append(speed)
            now = statistics.median_high(past) if len(past) >= LEAST_SWEEPS else 1.0
            known = self.slow.get(address)
            if known is None and now < SLOW:
                self.slow[address] = now
            elif known is not None and now > SWIFT:
                del self.slow[address]
            elif known is not None and not known / 2 < now < 2 * known:  # else all would change all the time
                self.slow[address] = now
        for address in list(self.slow):
            self._rested[address] = 0 if address in speeds else self._rested.get(address, 0) + 1
            if self._rested[address] > SWEEPS:
                del self.slow[address], self._rested[address], self._past[address]


def _blocks(spent: Spent) -> int:
    return spent.read_blocks + spent.kept_blocks
