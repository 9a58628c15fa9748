"""Mini-batches: the rows of a partition, some at a time, in an order drawn from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.rows.features import Features
from daskgd.rows.tiles import Rows, Tile

Array = NDArray[Any]

BATCH_ROWS, BATCHES = 64, 64
"""Rows of a batch, at most, and batches that a pass has where there are rows for them."""


def batch_rows(n_rows: int, batch_size: int | None, most: int = BATCH_ROWS) -> int:
    """The rows of a batch, of so many in a partition: `batch_size`, or where that is None a 64th of them,
    between 1 and `most`.

    >>> batch_rows(100, None), batch_rows(1000, None), batch_rows(10**6, None), batch_rows(100, 32)
    (1, 15, 64, 32)
    """
    return batch_size or min(max(n_rows // BATCHES, 1), most)


def targets_and_weight(problem: Problem, rows: Rows) -> tuple[Array, float]:
    """The targets of all rows for the loss, and the mean of their weights, those of classes included."""
    assert rows.y is not None
    y, s = problem.make_targets(Tile(rows.X, rows.y, rows.sample_weight, rows.numbers))
    return y, 1.0 if s is None else float(s.sum()) / len(s)


def mini_batches(
    problem: Problem, rows: Rows, size: int, seed: int, round: int, number: int = 0, shuffle: bool = True
) -> Iterator[tuple[Features, Array, Array | None]]:
    """The features, targets and weights of every batch of a pass, of `size` rows each.

    Tiles, and rows within them, are in an order drawn from (seed, first row, round, number of the pass), or
    without `shuffle` in their own.
    """
    height = rows.X.tile_rows(rows.dtype or rows.X.dtype)
    draw = np.random.Philox(key=[seed, rows.start], counter=[0, 0, round, number])
    random = np.random.Generator(draw)
    starts = np.arange(0, len(rows), height)
    for start in (random.permutation(starts) if shuffle else starts).tolist():
        tile = rows.slice(start, start + height).tile()
        X, (y, s) = tile.X, tile.targets(problem)
        if shuffle:
            order = random.permutation(len(tile))
            X, y, s = X.select(order), y[order], None if s is None else s[order]
        for a in range(0, len(tile), size):
            b = a + size
            yield X.slice(a, b), y[a:b], None if s is None else s[a:b]
