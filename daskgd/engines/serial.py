"""The serial engine, the executable specification: one read of the data in a for loop. All others equal it.

The same in threads, over rows in memory, is what local queries use. The file knows rows and queries; it must
not know dask, zarr or data sets.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from daskgd._compat.blas import one_blas_thread
from daskgd.engines.base import Partial, PartitionMemory, Wanted, names, wire_bytes
from daskgd.engines.timing import Clock, Timed, Timing, walked
from daskgd.engines.walk import walk
from daskgd.queries import Ask
from daskgd.rows.merge_tree import Node, join, spans
from daskgd.rows.tiles import BlockSource, Rows, Tile


class Serial:
    """Answers asks by walking all blocks in this thread.

    Parameters
    ----------
    source :
        Where rows come from.
    nbytes : int
        Decoded bytes of one read.
    cached : optional
        The source with a cache before it, of which rows come after the first `streamed_sweeps`.
    """

    def __init__(
        self,
        source: BlockSource,
        nbytes: int = 0,
        cached: BlockSource | None = None,
        streamed_sweeps: int = 0,
    ) -> None:
        self.source = source
        self.nbytes = nbytes
        self._cached = source if cached is None else cached
        self._left_to_stream = streamed_sweeps
        self.share = 1.0
        self.wire_bytes = 0
        self.memory: PartitionMemory = {}
        self.last: Timing | None = None
        self._clock = Clock()

    def sweep(self, asks: Sequence[Ask]) -> list[Any]:
        """One read of the data; the answers in the order of the asks."""
        self._clock.start()
        rows = Timed(self.source if self._left_to_stream > 0 else self._cached)
        self._left_to_stream -= 1
        n_blocks = self.source.layout.n_blocks
        with one_blas_thread():
            began = time.perf_counter()
            partial = walk(rows, asks, 0, n_blocks, self.memory)
            spent = walked(rows, rows, time.perf_counter() - began)
        self._clock.gathered()
        answers = partial.answers(asks)
        self.share = Wanted(asks, self.source.layout).share
        self.wire_bytes = wire_bytes(asks, partial.sums, self.source.layout)
        self.memory.update(partial.memory)
        self.last = self._clock.stop(names(asks), {"": spent}, self.nbytes, n_blocks, 1)
        return answers


class Threaded:
    """Answers asks about rows in memory, in some threads where that is faster, without a graph.

    Threads only wait for one another with small operations (the interpreter's lock), so they are used if one
    of the queries is :attr:`~daskgd.queries.Query.compute_bound`.

    Parameters
    ----------
    source :
        Where rows come from.
    threads : int
    keeps_tiles : bool
        Whether tiles are kept from sweep to sweep, with what they have become as targets and as design
        matrix.
    """

    def __init__(self, source: BlockSource, threads: int, keeps_tiles: bool = False) -> None:
        self.source = source
        self.threads = threads
        self._known: dict[int, list[Tile]] | None = {} if keeps_tiles else None
        self.nbytes = 0
        self.memory: PartitionMemory = {}

    def sweep(self, asks: Sequence[Ask]) -> list[Any]:
        """One read of the data; the answers in the order of the asks."""
        layout = self.source.layout
        threads = self.threads if any(ask.query.compute_bound for ask in asks) else 1
        nodes = spans(layout, 2 * threads if threads > 1 else 1, False)

        def work(node: Node) -> Partial:
            return walk(self.source, asks, *node, self.memory, self._tiles)

        with one_blas_thread():
            if len(nodes) == 1:
                partial = work(nodes[0])
            else:
                with ThreadPoolExecutor(threads, "daskgd-local") as pool:
                    parts = dict(zip(nodes, pool.map(work, nodes), strict=True))
                (partial,) = join(parts, layout.n_blocks).values()
        return partial.answers(asks)

    def _tiles(self, rows: Rows) -> Iterable[Tile]:
        """The tiles of a block."""
        if self._known is None:
            return rows.tiles()
        if rows.start not in self._known:
            self._known[rows.start] = list(rows.tiles())
        return self._known[rows.start]
