"""TODO engines.walk."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.engines.base import Partial, PartitionMemory, Wanted, wants_partitions
from daskgd.engines.merge_tree import tree
from daskgd.queries import Ask
from daskgd.queries.sums import Sums
from daskgd.rows.features import Features
from daskgd.rows.tiles import BlockSource, Rows

Array = NDArray[Any]


def walk(source: BlockSource, asks: Sequence[Ask], lo: int, hi: int, memory: PartitionMemory) -> Partial:
    """The contribution of blocks lo..hi-1, read one at a time and merged in the tree's order.

    If a query wants whole partitions, they are
    read one at a time, and the blocks within are views of them. Blocks that nobody wants are not read.
    """
    layout, wanted = source.layout, Wanted(asks, source.layout)

    def spread(found: Mapping[int, Sums], new: PartitionMemory) -> Partial:
        return Partial([found.get(id(ask)) for ask in asks], new)

    def from_block(block: int) -> Partial:
        if not wanted.apart:
            return _block(asks, source.read(*layout.rows(block, block + 1)))
        if block not in wanted:
            return spread({}, {})
        mine = [ask for _, group in wanted.groups(block, block + 1) for ask in group]
        sums = _block(mine, source.read(*layout.rows(block, block + 1))).sums
        return spread(dict(zip(map(id, mine), sums, strict=True)), {})  # type: ignore[arg-type]

    def from_partition(index: int) -> Partial:
        first = index * layout.partition_blocks
        last = min(first + layout.partition_blocks, layout.n_blocks)
        found: dict[int, Sums] = {}
        new: PartitionMemory = {}
        for blocks, group in wanted.groups(first, last):
            whole, views = gather(source, blocks)
            by_block = [ask for ask in group if ask.query.scope != "partition"]
            known = {block: _block(by_block, view) for block, view in zip(blocks, views, strict=True)}
            parts = [known.get(block, Partial([None] * len(by_block), {})) for block in range(first, last)]
            merged = tree(0, len(parts), parts.__getitem__, operator.add)
            found.update(zip(map(id, by_block), merged.sums, strict=True))
            by_partition, remembered = _partition(group, whole, memory, index)
            found.update(by_partition)
            new.update(remembered)
        return spread(found, new)

    size = layout.partition_blocks
    with np.errstate(over="ignore", invalid="ignore"):  # a lost objective is infinite, not a warning per tile
        if wants_partitions(asks):
            return tree(lo // size, -(-hi // size), from_partition, operator.add)
        return tree(lo, hi, from_block, operator.add)


def _block(asks: Sequence[Ask], rows: Rows) -> Partial:
    """What one block adds: all of it, or its tiles in order, each seen by every ask while it is hot."""
    sums = [ask.query.block(ask.problem, rows) if ask.query.scope == "block" else None for ask in asks]
    by_tile = [i for i, ask in enumerate(asks) if ask.query.scope == "tile"]
    for tile in rows.tiles() if by_tile else ():
        for i in by_tile:
            new, known = asks[i].query.tile(asks[i].problem, tile), sums[i]
            sums[i] = new if known is None else known + new
    return Partial([*sums], {})


def _partition(
    asks: Sequence[Ask], whole: Rows, memory: PartitionMemory, index: int
) -> tuple[dict[int, Sums], PartitionMemory]:
    """Answers of partition queries by the ask's identity, and what they remember."""
    sums: dict[int, Sums] = {}
    new: PartitionMemory = {}
    for ask in asks:
        if ask.query.scope == "partition":
            key = (ask.run, ask.query.memory or "", index)
            sums[id(ask)], remembered = ask.query.partition(ask.problem, whole, memory.get(key))
            if ask.query.memory is not None and remembered is not None:
                new[key] = remembered
    return sums, new


def gather(source: BlockSource, blocks: Sequence[int]) -> tuple[Rows, list[Rows]]:
    """Some blocks, in order, as one run of rows, and each of them as a view of it.

    Read block by block into place, so that little more than one copy of the rows is ever held.
    """
    cuts = [source.layout.rows(block, block + 1) for block in blocks]
    together = cuts[-1][1] - cuts[0][0] == sum(b - a for a, b in cuts)
    X: Features | None = None
    others: list[Array | None] = []
    bounds = [0]
    for a, b in cuts:
        part = source.read(a, b)
        if len(cuts) == 1:
            return part, [part]
        kept = part.kept if together or part.kept is not None else part.start + np.arange(len(part))
        columns = (part.y, part.sample_weight, kept)
        if X is None:
            n = sum(b - a for a, b in cuts)
            X = part.X.empty(n)
            others = [None if c is None else np.empty((n, *c.shape[1:]), c.dtype) for c in columns]
        at = slice(bounds[-1], bounds[-1] + len(part))
        X.put(at.start, part.X)
        for target, column in zip(others, columns, strict=True):
            if target is not None:
                target[at] = column
        bounds.append(at.stop)

    def rows(a: int, b: int) -> Rows:
        y, s, kept = (None if c is None else c[a:b] for c in others)
        assert X is not None
        return Rows(X.slice(a, b), y, s, cuts[0][0] + a, kept)

    return rows(0, bounds[-1]), [rows(a, b) for a, b in pairwise(bounds)]
