"""What every engine shares: the order of the rows, the merge tree, and how a span is walked.

Knows numpy and how to ask for rows; no dask, no zarr. The promise of the same bits from every engine
rests on this file: which rows are a block, in which order sums merge, and that one BLAS thread computes.
"""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from daskgd.engines.clock import Ledger, Spent, added
from daskgd.problems import Rows
from daskgd.queries import Ask
from daskgd.sums import Sums

Array = NDArray[Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of a dataset are numbered into blocks and partitions: a function of it alone.

    Attributes
    ----------
    n_rows : int
    block_rows : int
        Rows per block, the leaf of the merge tree; the last may be shorter.
    partition_blocks : int
        Blocks per partition, a power of two, so that partitions are nodes of the merge tree.
    """

    n_rows: int
    block_rows: int
    partition_blocks: int

    @property
    def n_blocks(self) -> int:
        return -(-self.n_rows // self.block_rows)

    @property
    def n_partitions(self) -> int:
        return -(-self.n_blocks // self.partition_blocks)

    def rows(self, lo: int, hi: int) -> tuple[int, int]:
        """First row of block `lo` and the end of block ``hi - 1``."""
        return lo * self.block_rows, min(hi * self.block_rows, self.n_rows)


class Source(Protocol):
    """Where rows come from."""

    @property
    def layout(self) -> Layout: ...

    def read(self, start: int, stop: int) -> Rows:
        """The rows from `start` to `stop`, less those a selection leaves out."""
        ...


# -- the merge tree -----------------------------------------------------------------------------


def split(n: int) -> int:
    """Where the merge tree parts `n` > 1 leaves: at the largest power of two below n.

    Hence any aligned run of 2**j leaves, the last and shorter one included, is a node of the tree, and
    the tree over runs has the shape of the tree over leaves.

    >>> [split(n) for n in (2, 3, 4, 5, 9)]
    [1, 2, 2, 4, 8]
    """
    return 1 << (n - 1).bit_length() - 1


def tree(lo: int, hi: int, leaf: Callable[[int], T], merge: Callable[[T, T], T]) -> T:
    """Merge leaves lo..hi-1 up the tree, holding one partial result per level.

    >>> tree(0, 5, str, lambda a, b: f"({a}{b})")
    '(((01)(23))4)'
    """
    if hi - lo == 1:
        return leaf(lo)
    middle = lo + split(hi - lo)
    return merge(tree(lo, middle, leaf, merge), tree(middle, hi, leaf, merge))


def spans(layout: Layout, most: int, whole_partitions: bool) -> list[tuple[int, int]]:
    """Cut the blocks into at most `most` aligned runs ``(lo, hi)``, each a node of the merge tree.

    Spans follow the cluster; blocks, hence results, do not.

    >>> spans(Layout(n_rows=100, block_rows=10, partition_blocks=2), 4, False)
    [(0, 4), (4, 8), (8, 10)]
    """
    size = layout.partition_blocks if whole_partitions else 1
    n = layout.n_blocks
    while -(-n // size) > max(most, 1):
        size *= 2
    return [(lo, min(lo + size, n)) for lo in range(0, n, size)]


Node = tuple[int, int]
"""A node of the merge tree, by the blocks under it: from `lo` to `hi`, excluded."""


def cover(runs: Sequence[Node], n: int) -> list[Node]:
    """The fewest nodes of the tree over `n` leaves that make up some runs of leaves.

    >>> cover([(1, 6)], 8)
    [(1, 2), (2, 4), (4, 6)]
    """
    out: list[Node] = []

    def within(a: int, b: int, lo: int, hi: int) -> None:
        if lo <= a and b <= hi:
            out.append((a, b))
        elif lo < b and a < hi:
            middle = a + split(b - a)
            within(a, middle, lo, hi)
            within(middle, b, lo, hi)

    for lo, hi in runs:
        within(0, n, lo, hi)
    return out


def join(parts: Mapping[Node, T], n: int, merge: Callable[[T, T], T] = operator.add) -> dict[Node, T]:
    """Merge what are children of one node of the tree over `n` leaves, as far as that goes.

    >>> join({(0, 2): "ab", (2, 3): "c", (4, 5): "e"}, 5)
    {(0, 2): 'ab', (2, 3): 'c', (4, 5): 'e'}
    >>> join({(0, 2): "ab", (2, 3): "c", (3, 4): "d", (4, 5): "e"}, 5)
    {(0, 5): 'abcde'}
    """
    out: dict[Node, T] = {}
    starts = sorted(lo for lo, _ in parts)

    def whole(a: int, b: int) -> bool:
        """Whether node (a, b) is made of parts; the largest such nodes below it go to `out`."""
        if (a, b) in parts:
            out[a, b] = parts[a, b]
            return True
        at = bisect_left(starts, a)
        if b - a == 1 or at == len(starts) or starts[at] >= b:
            return False
        middle = a + split(b - a)
        left, right = whole(a, middle), whole(middle, b)
        if left and right:
            out[a, b] = merge(out.pop((a, middle)), out.pop((middle, b)))
        return left and right

    whole(0, n)
    return out


# -- walking a span -----------------------------------------------------------------------------

Memory = dict[tuple[str, str, int], Any]
"""What partition queries remember, by (run, name, partition)."""


@dataclass(frozen=True, slots=True)
class Partial:
    """What a span, or several, contribute: Sums for each ask, and new partition memories; and who spent what
    on it.


    Sums are None where no block of the span was wanted: the zero, so that the tree is the same for a share of
    the blocks as for all.
    """

    sums: list[Sums | None]
    memory: Memory
    spent: Ledger = field(default_factory=dict)

    def __add__(self, other: Partial) -> Partial:
        sums = [
            b if a is None else a if b is None else a + b for a, b in zip(self.sums, other.sums, strict=True)
        ]
        return Partial(sums, {**self.memory, **other.memory}, added(self.spent, other.spent))

    def by(self, worker: str, spent: Spent) -> Partial:
        """The same, for which a worker spent so much more."""
        return Partial(self.sums, self.memory, added(self.spent, {worker: spent}))

    def answers(self, asks: Sequence[Ask]) -> list[Any]:
        """Of a whole sweep; None for an ask that wanted no block."""
        return [
            None if sums is None else ask.query.answer(ask.problem, sums)
            for ask, sums in zip(asks, self.sums, strict=True)
        ]


def wants_partitions(asks: Sequence[Ask]) -> bool:
    """Whether any of the asks needs whole partitions in memory."""
    return any(ask.query.scope == "partition" for ask in asks)


def names(asks: Sequence[Ask]) -> tuple[str, ...]:
    """What kinds of questions they are, each once."""
    return tuple(dict.fromkeys(ask.query.name for ask in asks))


class Wanted:
    """Which blocks some asks want: all, unless every one of them is content with a share.

    Attributes
    ----------
    each : list of (n_blocks,) of bool, or None for all
        By ask.
    blocks : (n_blocks,) of bool, or None for all
        Those that are to be read.
    apart : bool
        Whether any wants a share only.
    """

    def __init__(self, asks: Sequence[Ask], layout: Layout) -> None:
        self.each = [ask.query.blocks(layout.n_blocks, layout.partition_blocks) for ask in asks]
        shares = [mask for mask in self.each if mask is not None]
        self.apart = bool(shares)
        self.blocks = np.logical_or.reduce(shares) if shares and len(shares) == len(asks) else None
        self._groups: dict[bytes, list[Ask]] = {}
        for ask, mask in zip(asks, self.each, strict=True):
            self._groups.setdefault(b"" if mask is None else mask.tobytes(), []).append(ask)

    def __contains__(self, block: int) -> bool:
        return self.blocks is None or bool(self.blocks[block])

    @property
    def share(self) -> float:
        """Blocks that are read, of all."""
        return 1.0 if self.blocks is None else float(self.blocks.mean())

    def groups(self, first: int, last: int) -> list[tuple[list[int], list[Ask]]]:
        """Blocks of first..last-1 that are wanted, and the asks that want just these; none without blocks."""
        found = []
        for key, asks in self._groups.items():
            mask = np.frombuffer(key, bool)[first:last] if key else np.ones(last - first, bool)
            if mask.any():
                found.append(((first + np.flatnonzero(mask)).tolist(), asks))
        return found


def walk(source: Source, asks: Sequence[Ask], lo: int, hi: int, memory: Memory) -> Partial:
    """The contribution of blocks lo..hi-1, read one at a time and merged in the tree's order.

    If a query wants whole partitions, they are
    read one at a time, and the blocks within are views of them. Blocks that nobody wants are not read.
    """
    layout, wanted = source.layout, Wanted(asks, source.layout)

    def spread(found: Mapping[int, Sums], new: Memory) -> Partial:
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
        new: Memory = {}
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
    asks: Sequence[Ask], whole: Rows, memory: Memory, index: int
) -> tuple[dict[int, Sums], Memory]:
    """Answers of partition queries by the ask's identity, and what they remember."""
    sums: dict[int, Sums] = {}
    new: Memory = {}
    for ask in asks:
        if ask.query.scope == "partition":
            key = (ask.run, ask.query.memory or "", index)
            sums[id(ask)], remembered = ask.query.partition(ask.problem, whole, memory.get(key))
            if ask.query.memory is not None and remembered is not None:
                new[key] = remembered
    return sums, new


def wire_bytes(asks: Sequence[Ask], sums: Sequence[Sums | None], layout: Layout) -> int:
    """Bytes of the sums of a sweep, were each partition a machine that sends its own; a function of the data
    and the questions, not of the cluster. Sums that hold rows grow as they merge and count once."""
    sizes = (
        (0 if part is None else part.nbytes) * (1 if ask.query.bulk else layout.n_partitions)
        for ask, part in zip(asks, sums, strict=True)
    )
    return sum(sizes)


def gather(source: Source, blocks: Sequence[int]) -> tuple[Rows, list[Rows]]:
    """Some blocks, in order, as one run of rows, and each of them as a view of it.

    Read block by block into place, so that little more than one copy of the rows is ever held.
    """
    cuts = [source.layout.rows(block, block + 1) for block in blocks]
    together = cuts[-1][1] - cuts[0][0] == sum(b - a for a, b in cuts)
    whole: list[Array | None] = []
    bounds = [0]
    for a, b in cuts:
        part = source.read(a, b)
        if len(cuts) == 1:
            return part, [part]
        kept = part.kept if together or part.kept is not None else part.start + np.arange(len(part))
        columns = (part.X, part.y, part.sample_weight, kept)
        if not whole:
            n = sum(b - a for a, b in cuts)
            whole = [None if c is None else np.empty((n, *c.shape[1:]), c.dtype) for c in columns]
        at = slice(bounds[-1], bounds[-1] + len(part))
        for target, column in zip(whole, columns, strict=True):
            if target is not None:
                target[at] = column
        bounds.append(at.stop)

    def rows(a: int, b: int) -> Rows:
        X, y, s, kept = (None if c is None else c[a:b] for c in whole)
        assert X is not None
        return Rows(X, y, s, cuts[0][0] + a, kept)

    return rows(0, bounds[-1]), [rows(a, b) for a, b in pairwise(bounds)]


@cache
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_blas_thread() -> AbstractContextManager[Any]:
    """Within this context BLAS computes with one thread: more would change bits, and fight the engine's.

    The setting is of the whole process, so it is made once around a sweep, never in a task.
    """
    return _blas().limit(limits=1)
