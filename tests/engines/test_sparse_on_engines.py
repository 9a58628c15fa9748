"""Sparse rows on every engine: the same bits, whether they travel from this process or workers made them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np
import pytest
import scipy.sparse as sp

import daskgd
from daskgd.data.dataset import open_dataset
from daskgd.engines import placement
from daskgd.engines.graph import Graph
from daskgd.engines.worker_memory import Worker
from daskgd.monitoring.events import Swept
from daskgd.storage.categorical_reading import StoredCategoricalColumn
from tests.sparse_rows import sparse_array
from tests.tiers import slow_but

pytestmark = pytest.mark.cluster

N, P = 3000, 40
SMALL_SAMPLE = {"rows_per_parameter": 10, "sample_bytes": 1}
SOLVERS = {
    "GradientDescent": daskgd.GradientDescent(step=0.5),
    "LBFGS": daskgd.LBFGS(),
    "Newton": daskgd.Newton(),
    "NewtonCG": daskgd.NewtonCG(),
    "SubsampledNewton": daskgd.SubsampledNewton(**SMALL_SAMPLE),
    "LocalGD": daskgd.LocalGD(step=0.5, local_steps=3, batch_size=32),
    "LocalSGD": daskgd.LocalSGD(step=0.5, batch_size=32, control=True, wire="int8"),
    "ADMM": daskgd.ADMM(sample_bytes=1),
    "GIANT": daskgd.GIANT(sample_bytes=0),
    "SGD": daskgd.SGD(step=0.1, steps=4),
}
FITS = {name: (lambda s=solver: logistic(s)) for name, solver in SOLVERS.items()} | {
    "auto": daskgd.LogisticRegression,
    "three classes": lambda: daskgd.LogisticRegression(solver=SOLVERS["SubsampledNewton"]),
    "L1": lambda: daskgd.LogisticRegression(
        C=0.1, l1_ratio=1.0, solver=daskgd.ProximalNewton(**SMALL_SAMPLE)
    ),
    "gram": daskgd.Ridge,
    "lasso": lambda: daskgd.Lasso(alpha=0.001),
    "counts": lambda: daskgd.PoissonRegressor(solver=SOLVERS["SubsampledNewton"]),
    "hinge": lambda: daskgd.LinearSVC(max_iter=5, tol=0),
    "huber": daskgd.HuberRegressor,
}


def logistic(solver: Any, **settings: Any) -> daskgd.LogisticRegression:
    return daskgd.LogisticRegression(solver=solver, max_iter=4, tol=0, **settings)


def blocks_of(block_bytes: int) -> Any:
    return dask.config.set({"daskgd.block-bytes": block_bytes, "daskgd.partition-bytes": 4 * block_bytes})


@pytest.fixture(scope="module")
def data() -> tuple[sp.csr_array, np.ndarray]:
    """Sparse rows, some of them empty, and counts that also serve as labels."""
    rng = np.random.default_rng(0)
    X = sparse_array(N, P, 0.1, rng, np.float32)
    return X, np.minimum(rng.poisson(np.exp(0.5 * (X @ rng.standard_normal(P)))), 2)


def target(name: str, y: np.ndarray) -> np.ndarray:
    return y if name in ("three classes", "gram", "lasso", "counts", "huber") else np.minimum(y, 1)


def told(est: Any) -> tuple[bytes, int, list[float]]:
    found = np.concatenate([np.ravel(est.coef_), np.ravel(est.intercept_)])
    return found.tobytes(), est.n_iter_, [row["loss"] for row in est.history_]


def lazy(X: sp.csr_array, rows: int) -> da.Array:
    """The rows as a dask array of sparse blocks, none of them as engines want them."""
    starts = range(0, X.shape[0], rows)
    parts = [da.from_array(X[a : a + rows].tocsc(), chunks=-1, asarray=False) for a in starts]
    return da.concatenate(parts)


@pytest.mark.parametrize("name", slow_but(FITS, "SubsampledNewton", "gram"))
def test_sparse_rows_have_the_same_bits_everywhere(name: str, data: Any, client: Any) -> None:
    X, y = data[0], target(name, data[1])
    for block_bytes, tasks in ((3_000, 50), (20_000, 3)):
        with blocks_of(block_bytes):
            expected = told(FITS[name]().set_params(engine="serial").fit(X, y))
            assert told(FITS[name]().set_params(engine="threads").fit(X, y)) == expected
            held = lazy(X, 700), da.from_array(y, chunks=400)
            assert told(FITS[name]().fit(*held)) == expected
            travels = FITS[name]().set_params(engine=lambda dataset, n=tasks: Graph(dataset, client, n))
            assert told(travels.fit(X, y)) == expected


@pytest.mark.parametrize("engine", slow_but(["threads", "distributed"], "distributed"))
def test_sparse_rows_that_do_not_fit_are_spooled(engine: str, data: Any, client: Any, tmp_path: Path) -> None:
    X, y = data[0], np.minimum(data[1], 1)
    config = {"daskgd.travel-bytes": 1000, "daskgd.hold-fraction": 0.0, "temporary-directory": str(tmp_path)}
    with blocks_of(6_000), dask.config.set(config):
        expected = told(logistic(SOLVERS["ADMM"], engine="serial").fit(X, y))
        for rows in ((X, y), (lazy(X, 700), da.from_array(y, chunks=400))):
            assert told(logistic(SOLVERS["ADMM"], engine=engine).fit(*rows)) == expected
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def categories(data: Any) -> daskgd.OneHot:
    codes = np.random.default_rng(2).integers(-1, 9, (N, 4))
    return daskgd.OneHot(codes, [9, [*"abcdefghi"], 9, 10], data[0][:, :2].toarray(), columns=[*"uvwx"])


def test_categories_travel_as_they_are(categories: daskgd.OneHot, data: Any, client: Any) -> None:
    X, y = categories, np.minimum(data[1], 1)
    with blocks_of(3_000):
        for solver in ("SubsampledNewton", "ADMM"):
            expected = told(logistic(SOLVERS[solver], engine="serial").fit(X, y))
            assert told(logistic(SOLVERS[solver]).fit(X, y)) == expected


@pytest.mark.parametrize("kind", slow_but(["dense", "sparse"], "dense"))
def test_categories_that_do_not_fit_are_spooled_as_codes(
    kind: str, categories: daskgd.OneHot, data: Any, client: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    X, y = categories, np.minimum(data[1], 1)
    if kind == "sparse":
        X = daskgd.OneHot(X.features.parts[1].codes, [9, 9, 9, 10], data[0])  # type: ignore[attr-defined]
    spooled: list[Any] = []
    monkeypatch.setattr(
        placement, "open_dataset", lambda p: (spooled.append(open_dataset(p)), spooled[-1])[1]
    )
    config = {"daskgd.travel-bytes": 1000, "daskgd.hold-fraction": 0.0, "temporary-directory": str(tmp_path)}
    with blocks_of(6_000), dask.config.set(config):
        for solver in ("SubsampledNewton", "ADMM"):
            expected = told(logistic(SOLVERS[solver], engine="serial").fit(X, y))
            assert told(logistic(SOLVERS[solver]).fit(X, y)) == expected
    assert [type(dataset.columns.X) for dataset in spooled] == [StoredCategoricalColumn] * 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", slow_but(FITS, "SubsampledNewton"))
def test_stored_categories_have_the_bits_of_those_in_memory(
    name: str, categories: daskgd.OneHot, data: Any, client: Any, tmp_path: Path
) -> None:
    X, y = categories, target(name, data[1])
    daskgd.write_dataset(tmp_path / "d", X, y, chunk_bytes=1500)
    for block_bytes, tasks in ((3_000, 50), (20_000, 3)):
        with blocks_of(block_bytes):
            stored = daskgd.open_dataset(tmp_path / "d")
            in_memory = daskgd.as_dataset(X, y).replace(layout=stored.layout)
            assert stored.layout.n_blocks > 3
            expected = told(FITS[name]().set_params(engine="serial").fit(in_memory))
            engines = ["serial", "threads", None, lambda dataset, n=tasks: Graph(dataset, client, n)]
            for engine in engines:
                est = FITS[name]().set_params(engine=engine).fit(stored)
                assert told(est) == expected
                assert est.feature_names_in_.tolist() == X.feature_names


def test_fits_on_sparse_rows_share_sweeps(data: Any, client: Any) -> None:
    X, y = data[0], np.minimum(data[1], 1)
    with blocks_of(3_000):
        fits = {
            engine: daskgd.together(
                [
                    daskgd.LogisticRegression(C=C, solver="lbfgs", max_iter=4, tol=0, engine=engine)
                    for C in (0.01, 0.1, 1.0)
                ],
                X,
                y,
            )
            for engine in ("serial", "threads", "distributed")
        }
    for found in zip(*fits.values(), strict=True):
        assert len({told(est)[0] for est in found}) == 1
        assert found[0].n_sweeps_ == fits["serial"][0].n_sweeps_


@pytest.mark.parametrize("solver", slow_but(["LBFGS", "ADMM"], "ADMM"))
def test_a_fit_on_sparse_rows_is_resumed(solver: str, data: Any, client: Any, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    X, y = data[0], np.minimum(data[1], 1)

    def kill(event: Any) -> None:
        if isinstance(event, Swept) and event.sweeps == 4:
            raise Killed

    with blocks_of(3_000):
        expected = told(logistic(SOLVERS[solver], engine="serial").fit(X, y))
        for i, rows in enumerate([(X, y), (lazy(X, 700), da.from_array(y, chunks=400))]):
            with pytest.raises(Killed):
                logistic(SOLVERS[solver]).fit(*rows, checkpoint=tmp_path / str(i), watch=kill)
            assert told(logistic(SOLVERS[solver]).fit(*rows, checkpoint=tmp_path / str(i))) == expected


def test_pieces_weigh_what_they_are(data: Any, client: Any) -> None:
    """Dask counts the bytes of what workers hold, by which it spills."""
    X, y = data[0], np.minimum(data[1], 1)
    held: list[int] = []

    def watch(event: Any) -> None:
        if isinstance(event, Swept):
            held.append(sum(client.run(lambda dask_worker: dask_worker.data.fast.total_weight).values()))

    logistic(SOLVERS["LBFGS"]).fit(X, y, watch=watch)
    assert max(held) >= daskgd.as_dataset(X, y).nbytes


def test_rows_are_counted_beside_those_that_a_cluster_holds(data: Any, client: Any) -> None:
    """Dask gives optimised and other graphs of the same array the same keys with other dependencies; the
    `client` fixture looks at what is left on the scheduler."""
    X, y = lazy(data[0], 700), np.minimum(data[1], 1)
    held = client.persist(X)
    distributed.wait(held)
    assert daskgd.as_dataset(X, y).nbytes == daskgd.as_dataset(data[0], y).nbytes
    client.cancel(held)


@pytest.mark.parametrize("call", slow_but(["fit", "plan"], "fit"))
def test_wide_sums_that_do_not_fit_are_refused_before_a_sweep(
    call: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of a few kilobytes, and ten million parameters; a dask array does not say which of them occur."""
    monkeypatch.setattr(Graph, "sweep", lambda self, asks: pytest.fail("there was a sweep"))
    X = sp.csr_array((np.ones(300), (np.arange(300), np.arange(300) * 1000)), shape=(300, 10_000_000))
    y = np.arange(300) % 2
    held = da.from_array(X, chunks=-1, asarray=False)
    workers = {address: Worker(1_000_000_000, 0, 1) for address in ("a", "b")}
    monkeypatch.setattr("daskgd.engines.worker_memory.workers_of", lambda client: workers)
    est = daskgd.LogisticRegression(solver="lbfgs")
    refused = r"X: a task needs .* 10,000,001 parameters and the sums of 20,000,000 .* workers ([\d.]+) GiB"
    with pytest.raises(ValueError, match=refused) as raised:
        getattr(est, call)(held, y)
    enough = re.search(refused, str(raised.value))
    assert enough is not None
    limit = round((float(enough[1]) + 0.01) * 2**30)
    workers |= {address: Worker(limit, 0, 1) for address in workers}
    plan = est.plan(held, y)
    assert 8 * 10_000_000 * 10 < plan.task_bytes < plan.task_room
    assert (plan.first_spans, plan.sweep_bytes) == (1, X.nnz * 12 + 4 * 301 + y.nbytes)


def some_rows(seed: int, n_rows: int, n_features: int, entries: int) -> sp.csr_array:
    places = np.random.default_rng(seed).integers(0, n_features, n_rows * entries, dtype=np.int32)
    ends = np.arange(0, n_rows * entries + 1, entries, dtype=np.int32)
    return sp.csr_array((np.ones(len(places), np.float32), places, ends), shape=(n_rows, n_features))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("solver", ["LBFGS", "SubsampledNewton", "ADMM"])
def test_a_wide_fit_stays_within_its_plan(solver: str, high_water: Any) -> None:
    n, p, rows = 200_000, 1_000_000, 25_000
    parts = [dask.delayed(some_rows)(i, rows, p, 20) for i in range(n // rows)]
    X = da.concatenate([da.from_delayed(part, (rows, p), meta=some_rows(0, 0, 1, 1)) for part in parts])
    y = da.from_array(np.random.default_rng(0).integers(0, 2, n), chunks=rows)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=2_000_000_000, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        dataset = daskgd.as_dataset(X, y)
        logistic("lbfgs").fit(*(a[:1000, :50] if a is X else a[:1000] for a in (X, y)))  # all is imported
        before = max(client.run(high_water).values())
        est = daskgd.LogisticRegression(solver=SOLVERS[solver], max_iter=3, tol=0)
        plan = est.plan(dataset)
        est.fit(dataset)
        grown = max(client.run(high_water).values()) - before
    held = dataset.nbytes
    assert 0.3 * plan.task_bytes < grown < plan.task_bytes + held
