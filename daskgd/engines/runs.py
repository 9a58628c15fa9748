"""Runs of blocks: which blocks a worker keeps or a task walks, as half-open intervals in order and apart.

Arithmetic on pairs of integers; it must not know rows, workers or tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Runs = tuple[tuple[int, int], ...]
"""Runs of blocks ``(lo, hi)``, hi excluded, in order and apart."""


def length(runs: Runs) -> int:
    """The number of blocks in some runs."""
    return sum(hi - lo for lo, hi in runs)


def split_off(runs: Runs, n: int) -> tuple[Runs, Runs]:
    """Split runs into their first `n` blocks and the others."""
    first: list[tuple[int, int]] = []
    rest: list[tuple[int, int]] = []
    for lo, hi in runs:
        middle = min(hi, lo + n)
        n -= middle - lo
        first += [(lo, middle)] if lo < middle else []
        rest += [(middle, hi)] if middle < hi else []
    return tuple(first), tuple(rest)


def slices(runs: Runs, parts: int) -> list[Runs]:
    """Split runs into at most `parts` parts of about as many blocks, in order.

    >>> slices(((0, 3), (5, 7)), 2)
    [((0, 3),), ((5, 7),)]
    """
    out, left = [], length(runs)
    for part in range(min(parts, left), 0, -1):
        run, runs = split_off(runs, -(-left // part))
        left -= length(run)
        out.append(run)
    return out


def without(n: int, kept: Iterable[Runs]) -> Runs:
    """The runs of those of `n` blocks that are in none of the runs `kept`."""
    free, at = [], 0
    for lo, hi in sorted(run for runs in kept for run in runs):
        free += [(at, lo)] if at < lo else []
        at = hi
    return tuple(free + ([(at, n)] if at < n else []))


def tidy(runs: Sequence[tuple[int, int]]) -> Runs:
    """Put runs in order, and join those that touch."""
    out: list[tuple[int, int]] = []
    for lo, hi in sorted(runs):
        if out and out[-1][1] == lo:
            out[-1] = (out[-1][0], hi)
        else:
            out.append((lo, hi))
    return tuple(out)
