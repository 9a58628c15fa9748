"""Engines equal Serial with ``==``; the merge tree; tasks follow the cluster, not the chunks."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import dask
import dask.array as da
import distributed
import numpy as np
import pytest
import threadpoolctl

import daskgd
from daskgd.data.dataset import Dataset
from daskgd.engines.base import Engine, Partial
from daskgd.engines.graph import Graph
from daskgd.engines.runs import tidy
from daskgd.engines.select import open_engine
from daskgd.engines.serial import Serial
from daskgd.engines.task_spans import MERGE_WIDTH
from daskgd.engines.tasks import Merge
from daskgd.engines.walk import walk
from daskgd.problems import Problem
from daskgd.queries import Ask, Gradient, Query
from daskgd.queries.sums import Sums
from daskgd.rows.layout import Layout
from daskgd.rows.merge_tree import cover, spans, split, tree
from daskgd.rows.tiles import Rows, Tile
from daskgd.solvers import ADMM, GIANT, LBFGS, SGD, Adam, GradientDescent, LocalGD, LocalSGD, Solver
from daskgd.testing import ENGINES, ArraySource, Calls, Fails, check_engine, examples, toy_rows
from tests.tiers import slow_but

# -- the contract -------------------------------------------------------------------------------


def test_contract_in_some_numbers_of_blocks() -> None:
    """Fits below have 70 blocks."""
    check_engine(ENGINES["threads"], blocks=(5, 23))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ENGINES if name != "distributed"])
def test_contract(name: str) -> None:
    check_engine(ENGINES[name])


@pytest.mark.slow
def test_contract_on_a_cluster(client: distributed.Client) -> None:
    check_engine(ENGINES["distributed"])


@contextmanager
def _current(dataset: Dataset) -> Iterator[Any]:
    with open_engine(dataset) as (engine, _):
        yield engine


def test_contract_on_the_synchronous_scheduler() -> None:
    with dask.config.set(scheduler="synchronous"):
        check_engine(_current, blocks=(5,))


@dataclass
class Broken:
    """An engine over Serial with one defect."""

    inner: Serial
    defect: str
    nbytes: int = 0

    def sweep(self, asks: Sequence[Ask]) -> list[Any]:
        if self.defect == "arrival order":
            n = self.inner.source.layout.n_blocks
            parts = [walk(self.inner.source, asks, b, b + 1, {}) for b in range(n)]
            if not any(ask.query.scope == "partition" for ask in asks):
                total = parts[-1]
                for part in parts[-2::-1]:
                    total = part + total
                return [ask.query.answer(ask.problem, s) for ask, s in zip(asks, total.sums, strict=True)]
        if self.defect == "one memory":
            asks = [ask._replace(run="") for ask in asks]
        if self.defect == "early commit":
            try:
                return self.inner.sweep(asks)
            except ValueError:
                self.inner.sweep([ask for ask in asks if not isinstance(ask.query, Fails)])
                raise
        if self.defect == "swallows errors":
            asks = [
                ask if not isinstance(ask.query, Fails) else ask._replace(query=Fails(-1)) for ask in asks
            ]
        return self.inner.sweep(asks)


@pytest.mark.parametrize(
    ("defect", "sentence"),
    [
        ("arrival order", "expected Serial's"),
        ("one memory", "expected memories to count"),
        ("early commit", "expected memories to count"),
        ("swallows errors", "a query raised, and the sweep returned"),
    ],
)
def test_check_notices(defect: str, sentence: str) -> None:
    def make(dataset: Dataset) -> Engine:
        return Broken(Serial(dataset.source), defect)

    with pytest.raises(AssertionError, match=sentence):
        check_engine(make, blocks=(5,))


# -- the merge tree -----------------------------------------------------------------------------


def nodes(n: int) -> set[tuple[int, int]]:
    """All nodes (lo, hi) of the merge tree over n leaves."""
    found = set()

    def note(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
        assert a[1] == b[0]  # consecutive runs only, in order
        found.add((a[0], b[1]))
        return a[0], b[1]

    def leaf(i: int) -> tuple[int, int]:
        found.add((i, i + 1))
        return i, i + 1

    assert tree(0, n, leaf, note) == (0, n)
    return found


def test_spans_are_nodes_of_the_tree_for_every_number_of_blocks() -> None:
    for n in range(1, 201):
        tops = nodes(n)
        assert len(tops) == 2 * n - 1
        for size in (1, 2, 4, 16):
            layout = Layout(n * 3 - 1, 3, size)
            assert layout.n_blocks == n
            for most in (1, 2, 3, 5, 8, 64, 1000):
                for whole in (False, True):
                    cut = spans(layout, most, whole)
                    assert [a for a, _ in cut] == [0, *[b for _, b in cut[:-1]]]
                    assert cut[-1][1] == n
                    assert set(cut) <= tops, (n, size, most, whole)
                    assert len(cut) <= most
                    assert 2 * len(cut) > min(most, layout.n_partitions if whole else n), (n, most)
                    assert not whole or all(a % size == 0 for a, _ in cut)


class Term(str):
    """Adds by writing down how."""

    def __add__(self, other: str) -> Term:
        return Term(f"({self!s}{other!s})")

    def by(self, worker: str, spent: Any) -> Term:
        return self


def test_the_tree_does_not_depend_on_who_walks_what() -> None:
    """Any blocks to any task, merged by eight or in another order, write the same term as one walk."""
    rng = np.random.default_rng(0)

    def term(lo: int, hi: int) -> Any:
        return tree(lo, hi, lambda i: Term(f"{i},"), operator.add)

    for n in range(1, 201):
        for tasks in (1, 2, 3, 7, 16, 64):
            owners = np.sort(rng.integers(tasks, size=n)) if tasks % 2 else rng.integers(tasks, size=n)
            task_spans = [
                tidy([(int(i), int(i) + 1) for i in np.flatnonzero(owners == t)]) for t in range(tasks)
            ]
            parts = [{node: term(*node) for node in cover(runs, n)} for runs in task_spans]
            for runs, part in zip(task_spans, parts, strict=True):
                assert set(part) <= nodes(n)
                assert tidy(list(part)) == runs
            while len(parts) > 1:
                rng.shuffle(parts)
                parts = [
                    Merge((), n)(parts[i : i + MERGE_WIDTH])  # type: ignore[arg-type]
                    for i in range(0, len(parts), MERGE_WIDTH)
                ]
            assert parts[0] == {(0, n): term(0, n)}, (n, tasks)


def test_the_tree_is_flat_and_its_split_a_power_of_two() -> None:
    for n in range(2, 300):
        k = split(n)
        assert n / 2 <= k < n
        assert k & (k - 1) == 0
    depth = tree(0, 1000, lambda i: 0, lambda a, b: max(a, b) + 1)
    assert depth == 10


# -- a sweep ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counted(ArraySource):
    """Notes what is read."""

    reads: list[tuple[int, int]] = field(default_factory=list)

    def read(self, start: int, stop: int) -> Rows:
        self.reads.append((start, stop))
        return ArraySource.read(self, start, stop)


@pytest.mark.parametrize("partitions", [False, True])
def test_a_sweep_reads_every_block_once_and_in_order(partitions: bool) -> None:
    rows = toy_rows(23)
    source = Counted(Layout(23, 4, 2), rows.X.toarray(), rows.y)
    problem = examples()[0].problem
    asks = [Ask(problem, Gradient(np.ones(4))), Ask(problem, Gradient(np.zeros(4)))]
    if partitions:
        asks.insert(1, Ask(None, Calls(23)))
    answers = Serial(source).sweep(asks)
    assert source.reads == [(0, 4), (4, 8), (8, 12), (12, 16), (16, 20), (20, 23)]
    alone = [Serial(source).sweep([ask])[0] for ask in asks]
    for got, expected in zip(answers, alone, strict=True):
        for a, b in zip(got, expected, strict=True):
            assert np.array_equal(a, b)


def test_a_partition_holds_its_blocks_less_what_a_selection_leaves_out() -> None:
    @dataclass(frozen=True, slots=True)
    class Ids(Query):
        scope: ClassVar[str] = "partition"

        def partition(self, problem: Problem, rows: Rows, memory: Any) -> tuple[Sums, Any]:
            return Sums(ids=_Parts([(rows.start, rows.X.toarray()[:, 0].astype(int).tolist())])), None

        def answer(self, problem: Problem, sums: Sums) -> Any:
            return sums["ids"].parts

    @dataclass
    class _Parts:
        parts: list[Any]

        def __add__(self, other: _Parts) -> _Parts:
            return _Parts(self.parts + other.parts)

    keep = np.ones(22, dtype=bool)
    keep[[0, 5, 8, 9, 10, 11, 12, 13, 14, 15, 21]] = False
    source = ArraySource(Layout(22, 4, 2), np.arange(22.0)[:, None], keep=keep)
    (got,) = Serial(source).sweep([Ask(None, Ids())])
    assert got == [(0, [1, 2, 3, 4, 6, 7]), (8, []), (16, [16, 17, 18, 19, 20])]


@dataclass(frozen=True, slots=True)
class BlasThreads(Query):
    """How many threads BLAS has while tiles are seen."""

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        return Sums(most=_Most(max(info["num_threads"] for info in threadpoolctl.threadpool_info())))

    def answer(self, problem: Problem, sums: Sums) -> int:
        return int(sums["most"].n)


@dataclass
class _Most:
    n: int

    def __add__(self, other: _Most) -> _Most:
        return _Most(max(self.n, other.n))


@pytest.mark.parametrize("name", ["serial", "threads"])
def test_one_blas_thread_within_a_sweep_and_as_before_after_it(name: str) -> None:
    def most() -> int:
        return max(info["num_threads"] for info in threadpoolctl.threadpool_info())

    dataset = daskgd.as_dataset(np.ones((40, 2)))
    with threadpoolctl.threadpool_limits(2):
        if most() < 2:
            pytest.skip("this BLAS has one thread only")
        with open_engine(dataset, name) as (engine, _):
            assert engine.sweep([Ask(None, BlasThreads())]) == [1]
        assert most() == 2


def test_partials_merge_query_by_query_and_gather_memories() -> None:
    a = Partial([Sums(n=1), Sums(n=10)], {("run", "m", 0): "a"})
    b = Partial([Sums(n=2), Sums(n=20)], {("run", "m", 1): "b"})
    total = a + b
    assert [dict(sums) for sums in total.sums] == [{"n": 3}, {"n": 30}]
    assert total.memory == {("run", "m", 0): "a", ("run", "m", 1): "b"}


# -- fits ---------------------------------------------------------------------------------------

FITS = [
    GradientDescent(step=0.5, momentum=0.5),
    GradientDescent(),
    LBFGS(),
    LocalGD(step=0.3, local_steps=4, batch_size=7),
    LocalSGD(step=0.3, batch_size=7, control=True),
    LocalSGD(step=0.1, batch_size=5, sync_every=0.5, outer="nesterov", wire="int8", sample_bytes=0),
    ADMM(sample_bytes=1),
    GIANT(sample_bytes=1),
    GIANT(sample_bytes=0),
    SGD(step=0.1, steps=5),
    Adam(step=0.1, steps=24, accumulate=2, wire="int8"),
]
N, P = 700, 6


def data(dtype: str = "f4") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, P))
    return X.astype(dtype), (X[:, 0] + 0.5 * rng.standard_normal(N) > 0).astype(int)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engines") / "data.zarr"
    X, y = data()
    daskgd.write_dataset(path, X, y, chunk_bytes=10 * P * 4)  # 70 chunks
    return path


def fit(solver: Solver, X: Any, y: Any = None, engine: Any = None, max_iter: int = 6) -> Any:
    est = daskgd.LogisticRegression(solver=solver, tol=0, max_iter=max_iter, engine=engine)
    return est.fit(X, y)


def opened_small(path: Path) -> Dataset:
    """70 blocks in 18 partitions."""
    return daskgd.open_dataset(path, block_bytes=1, partition_bytes=4 * 10 * P * 4)


def assert_same(a: Any, b: Any) -> None:
    assert np.array_equal(a.coef_, b.coef_)
    assert np.array_equal(a.intercept_, b.intercept_)
    for key in ("loss", "gap", "bytes", "wire_bytes"):
        assert a.history_.column(key) == b.history_.column(key)
    assert a.n_sweeps_ == b.n_sweeps_


@pytest.mark.parametrize("solver", slow_but(FITS, FITS[2], FITS[4]), ids=repr)
def test_fits_have_the_same_bits_on_every_engine(
    solver: Solver, stored: Path, client: distributed.Client
) -> None:
    """Serial, threads and a cluster; in 1, 5 and 64 tasks per sweep; from disk."""
    dataset = opened_small(stored)
    assert (dataset.layout.n_blocks, dataset.layout.n_partitions) == (70, 18)
    expected = fit(solver, dataset, engine="serial")
    made: list[Graph] = []

    def in_tasks(tasks: int, get: Any) -> Any:
        def make(dataset: Dataset) -> Graph:
            made.append(Graph(dataset, get, tasks=tasks))
            return made[-1]

        return make

    for engine in (
        "threads",
        "distributed",
        in_tasks(1, dask.threaded.get),
        in_tasks(64, dask.threaded.get),
        in_tasks(1, client),
        in_tasks(5, client),
        in_tasks(64, client),
    ):
        assert_same(fit(solver, dataset, engine=engine), expected)
    if isinstance(solver, SGD):  # sweeps of shares
        return
    last = [graph.tasks_per_sweep[-1] for graph in made]
    assert last[0] == 1
    assert last[2] == 1
    assert 18 < last[4] < 90  # 18 partitions or 70 blocks, and merges: not one span after all


@pytest.mark.parametrize("dtype", ["f8", "u1"])
def test_arrays_and_dask_arrays_travel_to_the_cluster(client: distributed.Client, dtype: str) -> None:
    X, y = data()
    X = np.clip(X * 20 + 100, 0, 255).astype(dtype)
    with dask.config.set(
        {"daskgd.block-bytes": 10 * X[0].nbytes, "daskgd.partition-bytes": 50 * X[0].nbytes}
    ):
        solver = LBFGS()
        expected = fit(solver, X, y, engine="serial")
        assert_same(fit(solver, X, y, engine="distributed"), expected)
        lazy = da.from_array(X, chunks=(90, 4)), da.from_array(y, chunks=130)
        assert_same(fit(solver, *lazy, engine="distributed"), expected)
        assert_same(fit(solver, *lazy, engine="threads"), expected)
        before = client.run(lambda dask_worker: len(dask_worker.data))
        assert not any(before.values()), "something of a fit was left on the workers"


def test_a_second_fit_is_not_answered_from_the_first(client: distributed.Client, stored: Path) -> None:
    """Same shapes, same sweeps, other data: a key used twice would return the old result."""
    X, y = data()
    fit(LBFGS(), X, y)
    assert_same(fit(LBFGS(), X[::-1].copy(), y), fit(LBFGS(), X[::-1].copy(), y, engine="serial"))


def test_tasks_follow_the_cluster_not_the_chunks(tmp_path: Path, client: distributed.Client) -> None:
    X, y = data()
    counts = []
    for rows in (20, 2):
        path = tmp_path / f"{rows}.zarr"
        daskgd.write_dataset(path, X, y, chunk_bytes=rows * P * 4)
        dataset = daskgd.open_dataset(path, block_bytes=1)
        with open_engine(dataset, "distributed") as (engine, _):
            assert isinstance(engine, Graph)
            asks = [Ask(None, Fails(-1))]
            assert engine.sweep(asks) == [N]
            assert dataset.layout.n_blocks == N / rows
            counts.append(engine.tasks_per_sweep[-1])
    assert max(counts) <= 2 * min(counts), counts
    assert max(counts) <= 4 * 2 * 2, counts  # four per thread of two, merges and the questions included


def test_engines_are_chosen(client: distributed.Client) -> None:
    dataset = daskgd.as_dataset(np.ones((40, 2)))

    def kind(choice: Any = None) -> Any:
        with open_engine(dataset, choice) as (engine, _):
            return engine.client if isinstance(engine, Graph) else type(engine)

    assert kind() is client
    assert kind("distributed") is client
    assert kind("threads") is None
    assert kind("serial") is Serial
    with dask.config.set(scheduler="threads"):
        assert kind() is None


def test_engines_without_a_cluster() -> None:
    dataset = daskgd.as_dataset(np.ones((40, 2)))
    with open_engine(dataset) as (engine, _):
        assert isinstance(engine, Graph)
        assert engine.client is None
    with (
        pytest.raises(ValueError, match="expected a current client, found none"),
        open_engine(dataset, "distributed"),
    ):
        pass
    with pytest.raises(ValueError, match='engine: expected None, "serial"'), open_engine(dataset, "spark"):
        pass
