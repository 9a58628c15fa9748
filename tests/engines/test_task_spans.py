"""Task spans: every block once, kept blocks where they are, no task with too much to return; no cluster."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from daskgd.engines.base import Wanted
from daskgd.engines.cache_manager import assign_blocks
from daskgd.engines.task_spans import (
    MERGE_WIDTH,
    ONE_NODE_BYTES,
    ROW_PAYLOAD_BYTES,
    Payload,
    count_merge_tasks,
    drop_unwanted,
    graph_sizes,
    task_spans,
)
from daskgd.rows.layout import Layout
from daskgd.rows.merge_tree import cover

THREADS = {"a": 2, "b": 1, "c": 1}


def layout_of(n_blocks: int, partition_blocks: int = 1) -> Layout:
    return Layout(n_blocks * 10 - 3, 10, partition_blocks)


@given(
    n_blocks=st.integers(1, 200),
    partition_blocks=st.sampled_from([1, 4]),
    kept_blocks=st.integers(0, 60),
    max_tasks=st.integers(1, 40),
    heavy=st.booleans(),
    rows=st.integers(0, 20 * ROW_PAYLOAD_BYTES),
    whole=st.booleans(),
)
def test_every_block_is_walked_once_and_kept_ones_where_they_are(
    n_blocks: int,
    partition_blocks: int,
    kept_blocks: int,
    max_tasks: int,
    heavy: bool,
    rows: int,
    whole: bool,
) -> None:
    layout = layout_of(n_blocks, partition_blocks)
    unit = partition_blocks if whole else 1
    units = assign_blocks(-(-n_blocks // unit), {w: (t, kept_blocks) for w, t in THREADS.items()}, {})
    kept = {
        w: tuple((lo * unit, min(hi * unit, n_blocks)) for lo, hi in runs)
        for w, runs in units.items()
        if runs
    }
    payload = Payload(2 * ONE_NODE_BYTES if heavy else 8, rows)
    found = task_spans(layout, THREADS, kept, payload, max_tasks, whole)
    walked = [block for _, nodes in found for lo, hi in nodes for block in range(lo, hi)]
    assert sorted(walked) == list(range(n_blocks))
    for address, nodes in found:
        assert set(nodes) == set(cover(nodes, n_blocks)), "not nodes of the merge tree"
        assert len(nodes) == 1 or not heavy
        assert all(lo % unit == 0 for lo, _ in nodes), "a partition is divided"
        mine = kept.get(address, ())
        assert not address or all(any(a <= lo and hi <= b for a, b in mine) for lo, hi in nodes)
    streamed = [nodes for address, nodes in found if not address]
    if not rows and not heavy:
        assert len(streamed) <= max(max_tasks, 1)


@given(n_blocks=st.integers(1, 200), kept_blocks=st.integers(0, 60), min_tasks=st.integers(0, 40))
def test_there_are_as_many_tasks_as_a_cluster_is_to_see(
    n_blocks: int, kept_blocks: int, min_tasks: int
) -> None:
    kept = assign_blocks(n_blocks, {w: (t, kept_blocks) for w, t in THREADS.items()}, {})
    kept = {w: runs for w, runs in kept.items() if runs}
    found = task_spans(layout_of(n_blocks), THREADS, kept, Payload(), 4, min_tasks=min_tasks)
    assert len(found) >= min(min_tasks, n_blocks)
    assert len(found) <= max(len(task_spans(layout_of(n_blocks), THREADS, kept, Payload(), 4)), min_tasks + 4)
    walked = [block for _, nodes in found for lo, hi in nodes for block in range(lo, hi)]
    assert sorted(walked) == list(range(n_blocks))


def test_workers_take_turns_and_streamed_blocks_come_last() -> None:
    kept = {"a": ((0, 4),), "b": ((4, 6),)}
    found = task_spans(layout_of(10), THREADS, kept, Payload(), max_tasks=4)
    assert [address for address, _ in found] == ["a", "b", "a", "", "", "", ""][: len(found)]
    assert found[:3] == [("a", [(0, 2)]), ("b", [(4, 6)]), ("a", [(2, 4)])]


def test_sums_that_hold_rows_are_divided_among_more_tasks() -> None:
    few = task_spans(layout_of(64), THREADS, {}, Payload(), max_tasks=4)
    many = task_spans(layout_of(64), THREADS, {}, Payload(0, 30 * ROW_PAYLOAD_BYTES), max_tasks=4)
    assert (len(few), len(many)) == (4, 30)


def test_heavy_sums_are_one_node_for_each_task() -> None:
    heavy = Payload(2 * ONE_NODE_BYTES)
    assert task_spans(layout_of(10), THREADS, {}, heavy, 3) == [
        ("", [(0, 4)]),
        ("", [(4, 8)]),
        ("", [(8, 10)]),
    ]
    kept = {"a": ((0, 3),)}
    found = task_spans(layout_of(4), {"a": 1}, kept, heavy, 2)
    assert found == [("a", [(0, 2)]), ("a", [(2, 3)]), ("", [(3, 4)])]


def test_nodes_of_which_nothing_is_wanted_are_dropped() -> None:
    wanted = Wanted([], layout_of(8))
    spans = [("", [(0, 2), (2, 4)]), ("", [(4, 8)])]
    assert drop_unwanted(spans, wanted) == (spans, [])
    wanted.blocks = np.arange(8) == 3
    assert drop_unwanted(spans, wanted) == ([("", [(2, 4)])], [(0, 2), (4, 8)])


@given(
    n_spans=st.integers(1, 300),
    light=st.booleans(),
    rows=st.sampled_from([0, 1, ROW_PAYLOAD_BYTES, 40 * ROW_PAYLOAD_BYTES]),
    threads=st.integers(0, 9),
)
def test_graphs_and_merges_are_counted(n_spans: int, light: bool, rows: int, threads: int) -> None:
    payload = Payload(8 if light else ONE_NODE_BYTES, rows)
    assert graph_sizes(n_spans, payload, None) == [n_spans]
    sizes = graph_sizes(n_spans, payload, threads)
    assert sum(sizes) == n_spans
    assert max(sizes) <= max(threads, 1) or max(sizes) * rows <= ROW_PAYLOAD_BYTES * n_spans
    assert rows > ROW_PAYLOAD_BYTES or sizes == [n_spans]
    merges, parts = 0, n_spans
    while not rows and parts > (MERGE_WIDTH if light else 1):
        parts = len(range(0, parts, MERGE_WIDTH))
        merges += parts
    assert count_merge_tasks(n_spans, payload) == merges
