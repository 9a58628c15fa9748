"""Which blocks each task of a sweep walks, and how many tasks there are.

Functions of the layout, of the threads that compute, of what is kept in memory and of what the sweep returns.
Task spans follow the cluster; blocks, hence results, do not. The file knows runs of blocks and the merge
tree; it must not know dask, data sets or the maths of queries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from types import MappingProxyType
from typing import TypeVar

from daskgd.engines.base import Wanted
from daskgd.engines.runs import Runs, length, slices, split_off, without
from daskgd.queries import Ask
from daskgd.rows.layout import Layout
from daskgd.rows.merge_tree import Node, cover, small_at_the_end, spans

MERGE_WIDTH = 8
"""Parts per merge task, unless they are large; the driver merges as many."""

ROW_PAYLOAD_BYTES = 4 << 20
"""Bytes of rows that one task of a sweep may return."""

LIGHT_BYTES = 32 << 10
"""Bytes of sums that may come to the driver in several parts."""

ONE_NODE_BYTES = 1 << 20
"""Bytes of sums of which a task returns no more than one node of the tree."""

WIDE_BYTES = 1 << 27
"""Bytes of sums of which few are made, and two merged at a time, so that workers hold few of them at once."""

DEMAND_BYTES = 64 << 20
"""Bytes of rows that take about half a second to read: as long as the scheduler supposes of tasks of a kind
that it has not seen."""

DEMAND_TASKS = 100
"""Most tasks that are made for an adaptive cluster to see."""

TaskSpan = tuple[str, list[Node]]
"""What one task walks: the address of the worker that keeps its blocks, "" where none does, and the nodes of
the tree."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Payload:
    """What the tasks of a sweep return.

    Attributes
    ----------
    result_nbytes : int
        Bytes of the sums of one task.
    row_payload_nbytes : int
        Bytes of rows in the sums of all tasks together.
    """

    result_nbytes: int = 0
    row_payload_nbytes: int = 0

    @classmethod
    def of(cls, asks: Sequence[Ask], n_features: int) -> Payload:
        """The payload of the asks of a sweep over data with so many features."""
        return cls(
            sum(ask.result_nbytes(n_features) for ask in asks),
            sum(ask.query.row_payload_nbytes for ask in asks),
        )

    @property
    def carries_rows(self) -> bool:
        """Whether the sums hold rows: they grow as they merge, and are merged on the driver only."""
        return self.row_payload_nbytes > 0

    @property
    def one_node_per_task(self) -> bool:
        """Whether a task may return the sums of no more than one node of the tree."""
        return self.result_nbytes > ONE_NODE_BYTES

    @property
    def min_tasks(self) -> int:
        """The fewest tasks of which none returns more than ``ROW_PAYLOAD_BYTES`` of rows."""
        return -(-self.row_payload_nbytes // ROW_PAYLOAD_BYTES)

    @property
    def wide(self) -> bool:
        """Whether the sums of one task take much memory."""
        return self.result_nbytes > WIDE_BYTES

    @property
    def merge_width(self) -> int:
        """Parts per merge task."""
        return 2 if self.wide else MERGE_WIDTH

    @property
    def driver_parts(self) -> int:
        """Most parts that the driver merges itself: several of light sums, which are not worth a task."""
        return MERGE_WIDTH if self.result_nbytes <= LIGHT_BYTES else 1


# -- cutting ------------------------------------------------------------------------------------


def task_spans(
    layout: Layout,
    threads: Mapping[str, int],
    kept: Mapping[str, Runs],
    payload: Payload,
    max_tasks: int,
    whole_partitions: bool = False,
    min_tasks: int = 0,
    slow: Mapping[str, float] = MappingProxyType({}),
) -> list[TaskSpan]:
    """Divide the blocks of a sweep among tasks: kept blocks go to where they are, the others to anybody.

    Parameters
    ----------
    layout : Layout
    threads : mapping
        Threads of each worker by address.
    kept : mapping
        Runs of blocks that each worker keeps in memory, by address.
    payload : Payload
    max_tasks : int
        Most tasks for all blocks, were they streamed: several for each thread, so that a slow one can leave
        its share to others. Only sums that hold rows may need more.
    whole_partitions : bool
        Whether a task needs all blocks of a partition.
    min_tasks : int
        Fewest tasks for all blocks, as far as there are as many: of kept blocks there is one for each thread
        else.
    slow : mapping
        Speeds of slow workers, by address, of that of others: of what is streamed they get a share of their
        own, by their speed, and the others share the rest.

    Returns
    -------
    list of TaskSpan
        Those of kept blocks first, one of each worker in turn, so that all have work from the start.

    Examples
    --------
    >>> layout = Layout(n_rows=80, block_rows=10, partition_blocks=1)
    >>> task_spans(layout, {"a": 1, "b": 1}, {"a": ((0, 2),), "b": ((2, 4),)}, Payload(), max_tasks=4)
    [('a', [(0, 2)]), ('b', [(2, 4)]), ('', [(4, 6)]), ('', [(6, 8)])]
    >>> task_spans(layout, {"a": 1, "b": 1}, {}, Payload(), max_tasks=2, slow={"b": 0.2})
    [('b', [(0, 1)]), ('', [(1, 2), (2, 4), (4, 5)]), ('', [(5, 6), (6, 8)])]
    """
    slow = {address: speed for address, speed in slow.items() if address in threads}
    unit = layout.partition_blocks if whole_partitions else 1
    if payload.one_node_per_task and not (kept or slow):
        most = max(max_tasks, payload.min_tasks, min_tasks)
        nodes = small_at_the_end(spans(layout, most, whole_partitions), most, unit)
        return [("", [node]) for node in nodes]
    n, T = layout.n_blocks, max(sum(threads.values()), 1)

    def divide(address: str, runs: Runs) -> list[TaskSpan]:
        share = length(runs) / n
        n_tasks = threads.get(address, 0) or max(math.ceil(max_tasks * share), min(T, max_tasks))
        n_tasks = max(n_tasks, math.ceil(max(payload.min_tasks, min_tasks) * share))
        parts = divide_runs(runs, n, n_tasks, unit)
        if payload.one_node_per_task:
            parts = [[node] for nodes in parts for node in nodes]
        return [(address, nodes) for nodes in parts]

    at_workers = take_turns([divide(address, runs) for address, runs in kept.items()])
    streamed = without(n, kept.values())
    strength = {address: t * slow.get(address, 1.0) for address, t in threads.items()}
    per_strength = length(streamed) / max(sum(strength.values()), 1e-9)
    for address in slow if len(slow) < len(threads) else ():
        if address not in kept:
            mine, streamed = split_off(streamed, int(per_strength * strength[address]) // unit * unit)
            at_workers += divide(address, mine)
    return at_workers + divide("", streamed)


def divide_runs(runs: Runs, n_blocks: int, n_tasks: int, unit: int = 1) -> list[list[Node]]:
    """Divide runs of blocks into at most `n_tasks` parts of about as many units of blocks, each part as nodes
    of the merge tree over all `n_blocks`.

    >>> divide_runs(((0, 3), (5, 7)), 8, n_tasks=2)
    [[(0, 2), (2, 3)], [(5, 6), (6, 7)]]
    """
    units = tuple((lo // unit, -(-hi // unit)) for lo, hi in runs)
    return [
        cover([(lo * unit, min(hi * unit, n_blocks)) for lo, hi in part], n_blocks)
        for part in slices(units, n_tasks)
    ]


def take_turns(sequences: Sequence[Sequence[T]]) -> list[T]:
    """The first item of each sequence, then the second of each, and so on.

    >>> take_turns([[1, 2, 3], [10], [100, 200]])
    [1, 10, 100, 2, 200, 3]
    """
    missing = object()
    turns = zip_longest(*sequences, fillvalue=missing)
    return [item for turn in turns for item in turn if item is not missing]  # type: ignore[misc]


def drop_unwanted(task_spans: list[TaskSpan], wanted: Wanted) -> tuple[list[TaskSpan], list[Node]]:
    """The task spans without the nodes of which no block is wanted, and these nodes."""
    if wanted.blocks is None:
        return task_spans, []
    unwanted = {node for _, nodes in task_spans for node in nodes if not wanted.blocks[slice(*node)].any()}
    left = [(address, [node for node in nodes if node not in unwanted]) for address, nodes in task_spans]
    return [(address, nodes) for address, nodes in left if nodes], sorted(unwanted)


def demand_tasks(nbytes: int) -> int:
    """Tasks by which an adaptive cluster sees how much work so many bytes of rows are.

    Its scheduler adds up what tasks take, by what others of their kind took, and asks for a worker for every
    five seconds of that (``distributed.adaptive.target-duration``), but never for more than there are tasks.

    >>> demand_tasks(1_000), demand_tasks(1 << 30), demand_tasks(1 << 40)
    (1, 16, 100)
    """
    return min(max(nbytes // DEMAND_BYTES, 1), DEMAND_TASKS)


# -- counting -----------------------------------------------------------------------------------


def graph_sizes(n_spans: int, payload: Payload, threads: int | None) -> list[int]:
    """Span tasks of each graph of a sweep: one graph, or several, one after the other, where sums hold rows.

    These come to the driver from a few tasks at a time, so that workers never hold many of them: from one for
    each thread, or from more that return no more than one task may. `threads` are those of a cluster, None
    without one.

    >>> graph_sizes(7, Payload(row_payload_nbytes=70_000_000), threads=3)
    [3, 3, 1]
    >>> graph_sizes(7, Payload(row_payload_nbytes=70_000), threads=3)
    [7]
    """
    size = max(n_spans, 1)
    if payload.carries_rows and threads is not None:
        size = max(threads, ROW_PAYLOAD_BYTES * size // payload.row_payload_nbytes, 1)
    return [min(size, n_spans - first) for first in range(0, n_spans, size)]


def count_merge_tasks(n_spans: int, payload: Payload) -> int:
    """Merge tasks of a graph with so many span tasks.

    >>> count_merge_tasks(64, Payload()), count_merge_tasks(65, Payload()), count_merge_tasks(8, Payload())
    (8, 11, 0)
    """
    total = 0
    while not payload.carries_rows and n_spans > payload.driver_parts:
        n_spans = -(-n_spans // payload.merge_width)
        total += n_spans
    return total
