"""Walking a span of blocks: rows are read block by block, and every query sees each tile while it is hot.

All engines compute with these functions, so that the order of additions, hence the bits, is the same in each.
The file knows rows, queries and the merge tree; it must not know dask, zarr, caches, nor who calls it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.engines.base import Partial, PartitionMemory, Wanted, wants_partitions
from daskgd.queries import Ask
from daskgd.queries.sums import Sums
from daskgd.rows.features import Room
from daskgd.rows.merge_tree import tree
from daskgd.rows.tiles import BlockSource, Rows, Tile
from daskgd.rows.views import View

Array = NDArray[Any]


def walk(
    source: BlockSource,
    asks: Sequence[Ask],
    lo: int,
    hi: int,
    memory: PartitionMemory,
    tiles: Callable[[Rows], Iterable[Tile]] = Rows.tiles,
) -> Partial:
    """What blocks lo..hi-1 add to the sums of the asks, read one at a time and merged in the tree's order.

    If a query wants whole partitions, they are read one at a time, and the blocks within are views of them.
    Blocks that nobody wants are not read. `tiles` cuts the rows of a block, for engines that keep its tiles.
    """
    wanted, size = Wanted(asks, source.layout), source.layout.partition_blocks

    def of_block(block: int) -> Partial:
        return walk_block(source, asks, wanted, block, tiles)

    def of_partition(index: int) -> Partial:
        return walk_partition(source, asks, wanted, index, memory)

    with np.errstate(over="ignore", invalid="ignore"):  # a lost objective is infinite, not a warning per tile
        if wants_partitions(asks):
            return tree(lo // size, -(-hi // size), of_partition, operator.add)
        return tree(lo, hi, of_block, operator.add)


def walk_block(
    source: BlockSource,
    asks: Sequence[Ask],
    wanted: Wanted,
    block: int,
    tiles: Callable[[Rows], Iterable[Tile]] = Rows.tiles,
) -> Partial:
    """What one block adds to the sums of the asks that want it; it is not read where none does."""
    sums: list[Sums | None] = [None] * len(asks)
    if block in wanted:
        rows = source.read(*source.layout.rows(block, block + 1))
        positions = wanted.positions(block)
        found = _sums([asks[i] for i in positions], rows, tiles)
        for position, its in zip(positions, found, strict=True):
            sums[position] = its
    return Partial(sums, {})


def walk_partition(
    source: BlockSource, asks: Sequence[Ask], wanted: Wanted, index: int, memory: PartitionMemory
) -> Partial:
    """What one partition adds to the sums of the asks, and what its partition queries remember.

    Asks that want the same blocks see the same copy of them: a partition query all of it at once, the others
    block by block, merged in the tree's order.
    """
    sums: list[Sums | None] = [None] * len(asks)
    remembered: PartitionMemory = {}
    first = index * source.layout.partition_blocks
    last = min(first + source.layout.partition_blocks, source.layout.n_blocks)
    for blocks, positions in wanted.groups(first, last):
        whole, views = gather(source, blocks)
        by_block = [i for i in positions if asks[i].query.scope != "partition"]
        known = {
            block: Partial(_sums([asks[i] for i in by_block], view), {})
            for block, view in zip(blocks, views, strict=True)
        }
        nothing = Partial([None] * len(by_block), {})
        parts = [known.get(block, nothing) for block in range(first, last)]
        merged = tree(0, len(parts), parts.__getitem__, operator.add)
        for position, found in zip(by_block, merged.sums, strict=True):
            sums[position] = found
        for position in positions:
            ask = asks[position]
            if ask.query.scope == "partition":
                key = (ask.run, ask.query.memory or "", index)
                seen = whole if ask.view is None else ask.view.of(whole)
                sums[position], new = ask.query.partition(ask.problem, seen, memory.get(key))
                if ask.query.memory is not None and new is not None:
                    remembered[key] = new
    return Partial(sums, remembered)


def _sums(
    asks: Sequence[Ask], rows: Rows, tiles: Callable[[Rows], Iterable[Tile]] = Rows.tiles
) -> list[Sums | None]:
    """What the rows of a block add to the sums of each ask.

    Views of the rows are made one after the other, each once for all asks that see it. Queries of scope
    "block" see all of its rows at once, those of scope "tile" one tile after the other: each tile is seen by
    every ask while it is hot.
    """
    by_view: dict[View | None, list[int]] = {}
    for position, ask in enumerate(asks):
        by_view.setdefault(ask.view, []).append(position)
    if by_view.keys() <= {None}:
        return _sums_of(asks, rows, tiles)
    sums: list[Sums | None] = [None] * len(asks)
    for view, positions in by_view.items():
        some = [asks[i] for i in positions]
        found = _sums_of(some, rows, tiles) if view is None else _sums_of(some, view.of(rows), Rows.tiles)
        for position, its in zip(positions, found, strict=True):
            sums[position] = its
    return sums


def _sums_of(
    asks: Sequence[Ask], rows: Rows, tiles: Callable[[Rows], Iterable[Tile]] = Rows.tiles
) -> list[Sums | None]:
    """The same of asks that see these rows as they are."""
    sums = [ask.query.block(ask.problem, rows) if ask.query.scope == "block" else None for ask in asks]
    by_tile = [i for i, ask in enumerate(asks) if ask.query.scope == "tile"]
    for tile in tiles(rows) if by_tile else ():
        for i in by_tile:
            new, known = asks[i].query.of_tile(asks[i].problem, tile), sums[i]
            sums[i] = new if known is None else known + new
    return [*sums]


def gather(source: BlockSource, blocks: Sequence[int]) -> tuple[Rows, list[Rows]]:
    """Read blocks into one run of rows, in order: the run, and each block as a view of it.

    They are read block by block into place, so that little more than one copy of the rows is ever held.
    """
    ranges = [source.layout.rows(block, block + 1) for block in blocks]
    n = sum(b - a for a, b in ranges)
    contiguous = ranges[-1][1] - ranges[0][0] == n
    room: Room | None = None
    others: list[Array | None] = []
    bounds = [0]
    for a, b in ranges:
        part = source.read(a, b)
        if len(ranges) == 1:
            return part, [part]
        kept = part.kept if contiguous or part.kept is not None else part.start + np.arange(len(part))
        columns = (part.y, part.sample_weight, kept)
        if room is None:
            room = part.X.room(n)
            others = [None if c is None else np.empty((n, *c.shape[1:]), c.dtype) for c in columns]
        at = slice(bounds[-1], bounds[-1] + len(part))
        room.put(at.start, part.X)
        for target, column in zip(others, columns, strict=True):
            if target is not None:
                target[at] = column
        bounds.append(at.stop)
    assert room is not None
    X = room.features()

    def rows(a: int, b: int) -> Rows:
        y, s, kept = (None if c is None else c[a:b] for c in others)
        return Rows(X.slice(a, b), y, s, ranges[0][0] + a, kept)

    return rows(0, bounds[-1]), [rows(a, b) for a, b in pairwise(bounds)]
