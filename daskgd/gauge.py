"""How fast rows are read where they will be read: a fraction of a second of reading, in any process.

A worker process imports this room, so that it imports no more than the tasks of a sweep do. Nothing here
knows what the rows are for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from daskgd.columns import Source

SECONDS = 0.25
"""About how long to read for; a block that was begun is read to its end."""


def read_speed(source: Source, blocks: Sequence[int], threads: int, seconds: float = SECONDS) -> float:
    """Decoded bytes per second at which so many threads of this process read `blocks` of a source.

    The first block opens what has to be opened and is left out, unless it takes all of the time. Each thread
    reads blocks of its own, so that none comes from a cache that this filled.
    """
    columns = [c for c in (source.X, source.y, source.sample_weight) if c is not None]
    row_bytes = sum(int(np.prod(c.shape[1:])) * c.dtype.itemsize for c in columns)

    def read(mine: Sequence[int]) -> float:
        began, n_rows = time.perf_counter(), 0
        for block in mine:
            start, stop = source.layout.rows(block, block + 1)
            source.read(start, stop)
            n_rows += stop - start
            if time.perf_counter() - began > seconds - spent:
                break
        return n_rows * row_bytes / max(time.perf_counter() - began, 1e-9)

    spent, began = 0.0, time.perf_counter()
    speed = read(blocks[:1])
    spent = time.perf_counter() - began
    rest = [blocks[1:][i::threads] for i in range(threads)]
    rest = [mine for mine in rest if mine]
    if not rest or spent > seconds:
        return speed
    with ThreadPoolExecutor(len(rest), "daskgd-gauge") as pool:
        return sum(pool.map(read, rest))
