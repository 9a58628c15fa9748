"""The merge tree: in which order the partial sums of blocks are added, whoever computes them.

A binary tree over the numbers of the blocks, whose shape is a function of their count alone: hence the same
bits from any number of workers, in any order of arrival. The file knows integers and an associative
operation; it must not know rows, queries or workers.
"""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from numpy.typing import NDArray

from daskgd.rows.layout import Layout

Array = NDArray[Any]


T = TypeVar("T")


def split(n: int) -> int:
    """The number of leaves left of the root of a tree over `n` > 1: the largest power of two below n.

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
    """Divide the blocks into at most `most` aligned runs ``(lo, hi)``, each a node of the merge tree.

    Spans follow the cluster; blocks, hence results, do not.

    >>> spans(Layout(n_rows=100, block_rows=10, partition_blocks=2), 4, False)
    [(0, 4), (4, 8), (8, 10)]
    """
    size = layout.partition_blocks if whole_partitions else 1
    n = layout.n_blocks
    while -(-n // size) > max(most, 1):
        size *= 2
    return [(lo, min(lo + size, n)) for lo in range(0, n, size)]


def small_at_the_end(nodes: Sequence[Node], most: int, unit: int = 1) -> list[Node]:
    """The same nodes, the last ones divided until there are `most`: who works through them in order is not
    left with a large one at the end. None of at most `unit` leaves is divided.

    >>> small_at_the_end([(0, 8), (8, 16), (16, 24), (24, 25)], 6)
    [(0, 8), (8, 16), (16, 20), (20, 22), (22, 24), (24, 25)]
    """
    out = list(nodes)
    for i in reversed(range(len(out))):
        while len(out) < most and out[i][1] - out[i][0] > unit:
            lo, hi = out[i]
            middle = lo + split(hi - lo)
            out[i : i + 1] = (lo, middle), (middle, hi)
            i += 1
    return out


Node = tuple[int, int]
"""A node of the merge tree, by the blocks under it: from `lo` to `hi`, excluded."""


def cover(runs: Sequence[Node], n: int) -> list[Node]:
    """The fewest nodes of the tree over `n` leaves that together are some runs of leaves.

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
    """Merge parts that are the two children of a node of the tree over `n` leaves, as often as there are any.

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
