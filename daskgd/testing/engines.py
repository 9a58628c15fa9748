"""Checks of engines: the same bits as the for loop, and memories that are committed whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.engines.base import Engine
from daskgd.engines.serial import Serial
from daskgd.problems import Problem
from daskgd.queries import Ask, Gradient, Part, Query, Share
from daskgd.queries.sums import Sums
from daskgd.rows.layout import Layout
from daskgd.rows.sparse import Sparse
from daskgd.rows.tiles import Rows, Tile
from daskgd.testing.laws import examples, require, same, sparse_rows, thin_rows, toy_rows
from daskgd.testing.queries import QUERIES

if TYPE_CHECKING:
    from daskgd.data.dataset import Dataset

Array = NDArray[Any]

Made = Engine | AbstractContextManager[Engine]
MakeEngine = Callable[["Dataset"], Made]
"""Makes an engine of a Dataset, or a context manager that yields one."""


def _opened(choice: str) -> MakeEngine:
    @contextmanager
    def make(dataset: Dataset) -> Iterator[Engine]:
        from daskgd.engines.select import open_engine

        with open_engine(dataset, choice, whole_partitions=True) as (engine, _):
            yield engine

    return make


def _threads(tasks: int) -> MakeEngine:
    def make(dataset: Dataset) -> Made:
        from daskgd.engines.graph import Graph

        return Graph(dataset, tasks=tasks)

    return make


ENGINES: dict[str, MakeEngine] = {
    "serial": _opened("serial"),
    "threads": _opened("threads"),
    "threads, 3 tasks": _threads(3),
    "threads, 64 tasks": _threads(64),
    "distributed": _opened("distributed"),
}
"""Ways to make each engine of daskgd; "distributed" needs a current client."""


@dataclass(frozen=True, slots=True)
class Calls(Query):
    """Counts in each partition's memory the sweeps that asked it; answers the counts by partition."""

    name: ClassVar[str] = "calls"
    scope: ClassVar[str] = "partition"
    memory: ClassVar[str | None] = "calls"
    n_rows: int

    def partition(self, problem: Problem, rows: Rows, memory: Any) -> tuple[Sums, Any]:
        counts = np.zeros(self.n_rows)
        counts[rows.start] = calls = 1 if memory is None else memory + 1
        return Sums(counts=counts), calls

    def answer(self, problem: Problem, sums: Sums) -> list[int]:
        return [int(count) for count in sums["counts"] if count]


@dataclass(frozen=True, slots=True)
class Fails(Query):
    """Raises ValueError at the tile that starts at row `start`."""

    name: ClassVar[str] = "fails"
    start: int

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        if tile.numbers == self.start:
            raise ValueError(f"row {self.start} was asked for")
        return Sums(n=len(tile.X))

    def answer(self, problem: Problem, sums: Sums) -> int:
        return int(sums["n"])


def check_engine(make_engine: MakeEngine, blocks: tuple[int, ...] = (1, 2, 3, 5, 64, 71)) -> None:
    """Check that an engine equals :class:`daskgd.engines.serial.Serial` with ``==``.

    All queries of the table in one sweep, shares of the blocks by themselves and beside them, on data of
    float32, float64 and uint8, with and without weights, in odd numbers of blocks (many blocks: one of the
    types), and on sparse rows; partition queries have a memory per run, kept only if the sweep completes; an
    error in a query reaches the caller, and the engine goes on afterwards.

    Parameters
    ----------
    make_engine : callable
        Makes an engine of a :class:`daskgd.data.dataset.Dataset`, or a context manager that yields one.
    blocks : tuple of int
        Numbers of blocks to try.

    Examples
    --------
    >>> from daskgd.testing import ENGINES
    >>> check_engine(ENGINES["threads"], blocks=(1, 5))
    """
    for i, n_blocks in enumerate(blocks):
        for j, dtype in enumerate((np.float32, np.float64, np.uint8)):
            if n_blocks > 8 and j != i % 3:
                continue
            height = 2 + i % 3  # rows per block; the last has one fewer
            rows = toy_rows(n_blocks * height - 1, dtype, weights=(i + j) % 2 == 0)
            assert rows.y is not None
            rows = replace(rows, y=np.minimum(rows.y, 1))  # labels that every problem of the table knows
            layout = Layout(len(rows), height, (1, 4, 2)[j])
            where = f"{n_blocks} blocks of {np.dtype(dtype)}"
            with _made(make_engine, rows, layout) as (engine, serial):
                _check_answers(engine, serial, where)
                _check_memory(engine, layout, where)
        if n_blocks != max([b for b in blocks if b <= 8], default=blocks[0]):
            continue
        few = replace(sparse_rows(thin_rows(rows)), sample_weight=None)
        with _made(make_engine, few, layout) as (engine, serial):
            _check_answers(engine, serial, f"{n_blocks} blocks of sparse rows")


@contextmanager
def _made(make_engine: MakeEngine, rows: Rows, layout: Layout) -> Iterator[tuple[Engine, Engine]]:
    from daskgd.data.columns import FeaturesColumn, MemoryColumn
    from daskgd.data.dataset import Dataset

    y, s = [None if a is None else MemoryColumn(a) for a in (rows.y, rows.sample_weight)]
    X = FeaturesColumn(rows.X) if isinstance(rows.X, Sparse) else MemoryColumn(rows.X.toarray())
    dataset = Dataset(X, y, s, layout=layout)
    made = make_engine(dataset)
    serial = Serial(dataset.source, dataset.nbytes)
    if isinstance(made, AbstractContextManager):
        with made as engine:
            yield engine, serial
    else:
        yield made, serial


def _check_answers(engine: Engine, serial: Engine, where: str) -> None:
    names = {id(example.problem): example.name for example in examples()}
    usable = [(q, p) for q, p, rows in QUERIES if rows.y is not None and rows.y.ndim == 1]
    tiles = [Ask(problem, query) for query, problem in usable if query.scope != "partition"]
    every = [Ask(problem, query) for query, problem in usable]
    shares = [
        Ask(problem, Part(query, Share(1, 0, i % 3, 3), wire))
        for i, (query, problem) in enumerate(usable)
        if isinstance(query, Gradient)
        for wire in ("float64", "int8")
    ]
    for asks in (tiles, every, tiles[:1], shares[:1], shares, shares + tiles[:1]):
        for ask, got, expected in zip(asks, engine.sweep(asks), serial.sweep(asks), strict=True):
            if not same(got, expected):  # what they are takes longer to write than to compute
                name = f"{type(ask.query).__name__} {names.get(id(ask.problem), '')}".strip()
                require(False, f"{where}: {name}: expected Serial's {expected}, got {got}")


def _check_memory(engine: Engine, layout: Layout, where: str) -> None:
    n, calls = layout.n_partitions, Calls(layout.n_rows)
    first, second = Ask(None, calls, "first"), Ask(None, calls, "second")

    def expect(asks: list[Ask], *counts: int) -> None:
        got = engine.sweep(asks)
        require(
            got == [[count] * n for count in counts],
            f"{where}: expected memories to count {counts}, the sweeps that completed in this run, got {got}",
        )

    expect([first], 1)
    expect([first, second], 2, 1)
    last = layout.rows(layout.n_blocks - 1, layout.n_blocks)[0]
    try:
        engine.sweep([first, second, Ask(None, Fails(last))])
    except ValueError as error:
        require(f"row {last} was asked for" in str(error), f"{where}: a query's error arrives as {error!r}")
    else:
        raise AssertionError(f"{where}: a query raised, and the sweep returned")
    expect([second, first], 2, 3)
    require(
        engine.sweep([Ask(None, Fails(-1))]) == [layout.n_rows],
        f"{where}: a sweep does not see each row once",
    )
