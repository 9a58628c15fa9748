"""Checkpoints: killed at any sweep or moment, a fit ends with the bits of one that was not."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

import daskgd
from daskgd import Checkpoint, CheckpointError
from daskgd.engines.serial import Serial
from daskgd.problems import Problem
from daskgd.queries import Gradient
from daskgd.solvers import Solver, State
from daskgd.solvers.base import Steps
from daskgd.testing import SOLVERS, Calls
from tests.tiers import nightly, slow_but

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


ROOT = Path(__file__).parents[2]


class Killed(BaseException):
    """As by ^C, but nobody else raises it."""


def dying(sweeps: int) -> Callable[[Any], Serial]:
    """An engine that answers so many sweeps."""

    def make(dataset: Any) -> Serial:
        class Dying(Serial):
            left = sweeps

            def sweep(self, asks: Any) -> Any:
                if not Dying.left:
                    raise Killed
                Dying.left -= 1
                return super().sweep(asks)

        return Dying(dataset.source, dataset.nbytes)

    return make


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Three classes, positive targets by another name, in blocks of a few rows."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 4)).astype(np.float32)
    y = (X @ rng.normal(size=4) + rng.normal(size=600) > 0) + (X[:, 0] > 1).astype(np.int64)
    path = tmp_path_factory.mktemp("checkpoint") / "data.zarr"
    daskgd.write_dataset(path, X, y, rng.uniform(0.5, 2, 600), chunk_bytes=640)
    return daskgd.open_dataset(path, block_bytes=1000, partition_bytes=4000)


def same(a: Any, b: Any) -> None:
    """The same fit, to the bit."""
    assert np.array_equal(a.coef_, b.coef_)
    assert np.array_equal(a.intercept_, b.intercept_)
    assert (a.n_iter_, a.n_sweeps_, a.gap_, a.outcome_) == (b.n_iter_, b.n_sweeps_, b.gap_, b.outcome_)
    for key in ("loss", "gap", "gradient_norm", "sweeps", "bytes", "wire_bytes"):
        assert a.history_.column(key) == b.history_.column(key)


def killed_and_resumed(est: Any, data: Any, sweeps: int, folder: Path, engine: Any = "serial") -> Any:
    """The same fit, killed after so many sweeps and fitted again."""
    with pytest.raises(Killed):
        clone(est).set_params(engine=dying(sweeps)).fit(*data, checkpoint=folder)
    return clone(est).set_params(engine=engine).fit(*data, checkpoint=folder)


SAMPLED = {"rows_per_parameter": 8, "sample_bytes": 1}

ESTIMATORS = [
    *(daskgd.LogisticRegression(solver=s, max_iter=6, tol=1e-12) for s in SOLVERS if s.needs_smooth_penalty),
    daskgd.LogisticRegression(l1_ratio=1.0, solver=daskgd.ProximalNewton(**SAMPLED), max_iter=5),
    daskgd.LogisticRegression(l1_ratio=0.5, solver="fista", max_iter=5),
    daskgd.Ridge(),
    daskgd.Ridge(solver=daskgd.SubsampledNewton(**SAMPLED), max_iter=5),
    daskgd.Lasso(alpha=0.01),
    daskgd.LinearSVC(loss="hinge", solver=daskgd.SubsampledNewton(**SAMPLED), max_iter=5),
    daskgd.QuantileRegressor(alpha=0.01, solver=daskgd.ProximalNewton(**SAMPLED), max_iter=5),
    daskgd.HuberRegressor(solver=daskgd.SubsampledNewton(**SAMPLED), max_iter=5),
    daskgd.PoissonRegressor(solver=daskgd.SubsampledNewton(**SAMPLED), max_iter=5),
    daskgd.Perceptron(max_iter=4),
]


def early_and_halfway(n: int) -> list[int]:
    return sorted({min(1, n - 1), n // 2})


def in_every_quarter(n: int) -> list[int]:
    return list(range(0, n, max(n // 4, 1)))


@pytest.mark.parametrize("moments", slow_but([early_and_halfway, in_every_quarter], early_and_halfway))
@pytest.mark.parametrize("est", ESTIMATORS, ids=lambda e: f"{type(e).__name__}-{e.solver}")
def test_killed_at_every_sweep_and_resumed(est: Any, moments: Any, stored: Any, tmp_path: Path) -> None:
    if isinstance(est.solver, daskgd.Gram):
        pytest.skip("for least squares alone")
    asked = []

    class Counting(Serial):
        def sweep(self, asks: Any) -> Any:
            asked.append(len(asks))
            return super().sweep(asks)

    made = lambda dataset: Counting(dataset.source, dataset.nbytes)  # noqa: E731
    whole = clone(est).set_params(engine=made).fit(stored)
    n = len(asked)  # of which some read a share only
    for sweeps in moments(n):
        engine = "threads" if sweeps == 1 else dying(n - sweeps)  # no sweep is repeated
        same(whole, killed_and_resumed(est, (stored,), sweeps, tmp_path / str(sweeps), engine))


def test_what_is_finished_asks_nothing_and_a_larger_budget_goes_on(stored: Any, tmp_path: Path) -> None:
    est = daskgd.LogisticRegression(solver="lbfgs", max_iter=4, tol=0, engine="serial")
    est.fit(stored, checkpoint=tmp_path)
    same(est, clone(est).set_params(engine=dying(0), verbose=1, memory=0).fit(stored, checkpoint=tmp_path))
    longer = clone(est).set_params(max_iter=9)
    same(clone(longer).fit(stored), longer.fit(stored, checkpoint=tmp_path))


def test_fits_together_are_resumed_together(stored: Any, tmp_path: Path) -> None:
    def grid(engine: Any) -> list[Any]:
        solver = daskgd.SubsampledNewton(**SAMPLED)
        return [
            daskgd.LogisticRegression(C=C, solver=solver, max_iter=6, tol=1e-9, engine=engine)
            for C in (1, 9, 0.01)
        ]

    whole = daskgd.together(grid("serial"), stored)
    for sweeps in range(max(est.n_sweeps_ for est in whole)):
        with pytest.raises(Killed):
            daskgd.together(grid(dying(sweeps)), stored, checkpoint=tmp_path / str(sweeps))
        again = daskgd.together(grid("serial"), stored, checkpoint=tmp_path / str(sweeps))
        for a, b in zip(whole, again, strict=True):
            same(a, b)


def test_arrays_offsets_and_warm_starts(tmp_path: Path, rng: np.random.Generator) -> None:
    X, y = rng.normal(size=(300, 3)), rng.poisson(2.0, 300)
    est = daskgd.PoissonRegressor(solver=daskgd.SubsampledNewton(**SAMPLED), max_iter=5)
    data = (X, y, rng.uniform(size=300), rng.normal(size=300) / 9)
    same(
        clone(est).set_params(engine="serial").fit(*data),
        killed_and_resumed(est, data, 2, tmp_path / "offset"),
    )

    warm = daskgd.PoissonRegressor(solver="lbfgs", max_iter=5, warm_start=True, engine="serial").fit(X, y)
    whole = (
        daskgd.PoissonRegressor(solver="lbfgs", max_iter=5, warm_start=True, engine="serial")
        .fit(X, y)
        .fit(X, y)
    )
    for sweeps in (1, 3):
        with pytest.raises(Killed):
            warm.set_params(engine=dying(sweeps)).fit(X, y, checkpoint=tmp_path / str(sweeps))
        fresh = daskgd.PoissonRegressor(solver="lbfgs", max_iter=5, warm_start=True, engine="serial")
        same(whole, fresh.fit(X, y, checkpoint=tmp_path / str(sweeps)))
        warm = daskgd.PoissonRegressor(solver="lbfgs", max_iter=5, warm_start=True, engine="serial").fit(X, y)


# -- what partitions remember -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CountedState(State):
    calls: tuple[int, ...] = ()


@dataclass(slots=True)
class Counting(Solver):
    """Descent that asks every partition how often it was asked."""

    needs_partitions = True

    def start(self, problem: Problem, w: Any, *found: Any) -> Steps:
        ((f, g),) = yield (Gradient(w),)
        return CountedState(w, f, g)

    def iterate(self, problem: Problem, state: CountedState) -> Steps:
        w = state.w - 0.1 * state.g
        calls, (f, g) = yield Calls(600), Gradient(w)
        ((f, g),) = yield (Gradient(w),)  # so that it can be killed after the memory of a sweep was kept
        return replace(state, w=w * len(calls) / sum(calls), f=f, g=g, calls=tuple(calls))


@pytest.mark.parametrize("engine", ["serial", "threads"])
def test_memories_of_partitions_are_resumed(engine: str, stored: Any, tmp_path: Path) -> None:
    est = daskgd.LogisticRegression(solver=Counting(), max_iter=4, tol=0)
    whole = clone(est).set_params(engine=engine).fit(stored)
    for sweeps in range(whole.n_sweeps_):
        same(whole, killed_and_resumed(est, (stored,), sweeps, tmp_path / str(sweeps), engine))


# -- what a checkpoint belongs to ---------------------------------------------------------------


def test_other_settings_and_other_data_are_refused_with_what_differs(stored: Any, tmp_path: Path) -> None:
    est = daskgd.LogisticRegression(solver="lbfgs", max_iter=2, tol=0, engine="serial")
    est.fit(stored, checkpoint=tmp_path)
    train, _ = stored.train_test_split(0.5)
    for changed, data, words in [
        (clone(est).set_params(C=2.0), stored, r"C was 1\.0, now 2\.0\. Fit"),
        (clone(est).set_params(solver=daskgd.LBFGS(memory=3)), stored, "solver was 'lbfgs', now LBFGS"),
        (daskgd.LinearSVC(), stored, "estimator was LogisticRegression, now LinearSVC"),
        (est, train, "selection was absent"),
        (est, daskgd.open_dataset(stored.path, block_bytes=2000), "blocks was 80 rows"),
    ]:
        with pytest.raises(CheckpointError, match=words):
            changed.fit(data, checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match="1 estimators, now 2"):
        daskgd.together([est, clone(est)], stored, checkpoint=tmp_path)


def test_data_in_memory_is_known_by_its_content(tmp_path: Path, rng: np.random.Generator) -> None:
    X, y = rng.normal(size=(50, 2)), np.arange(50) % 2
    est = daskgd.LogisticRegression().fit(X, y, checkpoint=tmp_path)
    same(est, clone(est).fit(X.copy(), y, checkpoint=tmp_path))
    X[7, 1] += 1e-9
    with pytest.raises(CheckpointError, match=r"X was digest .* now digest"):
        clone(est).fit(X, y, checkpoint=tmp_path)


def test_other_versions_are_told(stored: Any, tmp_path: Path, monkeypatch: Any, caplog: Any) -> None:
    daskgd.Ridge(engine="serial").fit(stored, checkpoint=tmp_path)
    monkeypatch.setattr("daskgd.training.checkpoint.versions", lambda: {"numpy": "0.1"})
    with caplog.at_level(logging.WARNING, "daskgd"):
        daskgd.Ridge(engine="serial").fit(stored, checkpoint=tmp_path)
    assert "numpy was 2" in caplog.text
    assert "is 0.1" in caplog.text


# -- files --------------------------------------------------------------------------------------


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("checkpoint-"))


def test_the_newest_that_is_whole_is_taken(stored: Any, tmp_path: Path) -> None:
    est = daskgd.LogisticRegression(solver="lbfgs", max_iter=8, tol=0)
    whole = clone(est).set_params(engine="serial").fit(stored)
    for damage in ("cut", "flip", "empty"):
        folder = tmp_path / damage
        with pytest.raises(Killed):
            clone(est).set_params(engine=dying(5)).fit(stored, checkpoint=folder)
        assert files(folder) == [f"checkpoint-{n:08d}.dgd" for n in (3, 4, 5)]
        for name in files(folder)[1:]:
            data = bytearray((folder / name).read_bytes())
            data[len(data) // 2] ^= 16
            data = {"cut": data[: len(data) // 2], "flip": data, "empty": b""}[damage]
            (folder / name).write_bytes(data)
        (folder / ".daskgd-unfinished.tmp").write_bytes(b"half")
        resumed = clone(est).set_params(engine=dying(whole.n_sweeps_ - 3))
        with pytest.warns(UserWarning, match=r"damaged and passed over: checkpoint-0000000[45]"):
            same(whole, resumed.fit(stored, checkpoint=folder))
        assert files(folder) == [
            f"checkpoint-{n:08d}.dgd" for n in range(whole.n_sweeps_ - 2, whole.n_sweeps_ + 1)
        ]
        assert not (folder / ".daskgd-unfinished.tmp").exists()


def test_nothing_that_can_be_read_is_an_error_not_a_fresh_start(stored: Any, tmp_path: Path) -> None:
    est = daskgd.Ridge(engine="serial").fit(stored, checkpoint=tmp_path)
    for name in files(tmp_path):
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"can be read, found none: checkpoint-.*cut short"):
        est.fit(stored, checkpoint=tmp_path)


def test_the_sample_is_written_once_and_goes_with_its_checkpoints(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    X = rng.normal(size=(40_000, 8))
    y = X @ np.ones(8) + rng.normal(size=40_000) > 0
    solver = daskgd.SubsampledNewton(rows_per_parameter=2500, sample_bytes=1)
    est = daskgd.LogisticRegression(solver=solver, tol=1e-13, max_iter=8, engine="serial")
    whole = clone(est).fit(X, y)
    assert whole.n_sweeps_ > 3
    with pytest.raises(Killed):
        clone(est).set_params(engine=dying(3)).fit(X, y, checkpoint=tmp_path)
    apart = [p for p in tmp_path.iterdir() if p.name.startswith("array-")]
    assert len(apart) == 1
    assert apart[0].stat().st_size > 1_000_000
    assert all((tmp_path / name).stat().st_size < 1_000_000 for name in files(tmp_path))
    written = apart[0].stat().st_mtime_ns
    same(whole, clone(est).fit(X, y, checkpoint=tmp_path))
    assert apart[0].stat().st_mtime_ns == written
    apart[0].write_bytes(apart[0].read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="cut short or altered"):
        clone(est).fit(X, y, checkpoint=tmp_path)


def test_a_full_disk_costs_a_warning(stored: Any, tmp_path: Path, monkeypatch: Any) -> None:
    est = daskgd.LogisticRegression(solver="lbfgs", max_iter=6, tol=0, engine="serial")
    whole = clone(est).fit(stored)
    with pytest.raises(Killed):
        clone(est).set_params(engine=dying(3)).fit(stored, checkpoint=tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("daskgd.storage.atomic_files.os.fsync", full)
        with pytest.warns(RuntimeWarning, match=r"sweep \d was not saved .*No space left"):
            same(whole, clone(est).fit(stored, checkpoint=tmp_path))
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before
    assert len(list(tmp_path.iterdir())) == len(before)
    same(whole, clone(est).fit(stored, checkpoint=tmp_path))


def test_every_so_many_sweeps_or_seconds(stored: Any, tmp_path: Path, monkeypatch: Any) -> None:
    written: list[str] = []
    monkeypatch.setattr(
        "daskgd.storage.atomic_files.AtomicFiles.write", lambda self, name, data: written.append(name)
    )
    est = daskgd.LogisticRegression(solver="newton", max_iter=6, tol=0, engine="serial")
    est.fit(stored, checkpoint=tmp_path, every=3)
    assert written == [
        f"checkpoint-{n:08d}.dgd" for n in sorted({*range(3, est.n_sweeps_, 3), est.n_sweeps_})
    ]
    written.clear()
    est.fit(stored, checkpoint=tmp_path, every="1 h")
    assert written == [f"checkpoint-{est.n_sweeps_:08d}.dgd"]  # the end
    with pytest.raises(Killed):
        clone(est).set_params(engine=dying(4)).fit(stored, checkpoint=tmp_path, every=100)
    assert written[1:] == ["checkpoint-00000004.dgd"]  # what an exception ends is kept


def test_object_stores(stored: Any) -> None:
    est = daskgd.LogisticRegression(solver="lbfgs", max_iter=4, tol=0)
    whole = clone(est).set_params(engine="serial").fit(stored)
    with pytest.raises(Killed):
        clone(est).set_params(engine=dying(2)).fit(stored, checkpoint="memory://there/ck")
    there = Checkpoint("memory://there/ck", storage_options={"secret": "hidden"})
    assert "hidden" not in repr(there)
    same(whole, clone(est).set_params(engine=dying(whole.n_sweeps_ - 2)).fit(stored, checkpoint=there))


@pytest.mark.parametrize(
    ("given", "every", "words"),
    [
        (3, 1, "checkpoint: expected a path, a URL or a Checkpoint, got 3"),
        ("x", 0, "every: expected a number of sweeps >= 1, or seconds"),
        ("x", "soon", "every: expected"),
        ("x", "30", "every: expected"),
        ("x", 1.5, "every: expected"),
        (Checkpoint("x", every=2), 3, "which has its own"),
        (None, 3, "every: expected none beside checkpoint=None"),
    ],
)
def test_what_is_not_a_checkpoint_is_refused(given: Any, every: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        daskgd.Ridge().fit([[1.0], [2.0]], [1.0, 2.0], checkpoint=given, every=every)
    with pytest.raises(ValueError, match="keep: expected"):
        Checkpoint("x", keep=0)


# -- kill -9 ------------------------------------------------------------------------------------

DRIVER = """
    import sys, warnings
    import daskgd
    from daskgd.estimators import LogisticRegression
    from tests.training.test_checkpoint import driven
    warnings.simplefilter("ignore")
    est = driven(int(sys.argv[3]))
    data = daskgd.open_dataset(sys.argv[1], block_bytes=1000, partition_bytes=4000)
    print("ready", flush=True)
    est.fit(data, checkpoint=sys.argv[2])
"""


def driven(which: int) -> Any:
    """What the killed process fits: some hundred milliseconds of sweeps."""
    solver = [
        daskgd.GradientDescent(step=0.3),
        daskgd.LBFGS(),
        daskgd.SubsampledNewton(**SAMPLED),
        daskgd.LocalGD(step=0.1, local_steps=2),
    ][which]
    return daskgd.LogisticRegression(solver=solver, tol=0, max_iter=30, engine="serial")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of POSIX")
@pytest.mark.timeout(240)
@pytest.mark.parametrize("which", [*slow_but(range(2)), *nightly(range(2, 4))])
def test_the_driver_is_killed_at_random_moments(which: int, stored: Any, tmp_path: Path) -> None:
    whole = driven(which).fit(stored)
    rng = np.random.default_rng(which)
    interrupted = 0
    for i in range(5):
        folder = tmp_path / str(i)
        arguments = [textwrap.dedent(DRIVER), str(stored.path), str(folder), str(which)]
        with subprocess.Popen(
            [sys.executable, "-c", *arguments],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            try:
                process.wait(rng.uniform(0, 0.4))
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                interrupted += 1
        same(whole, driven(which).fit(stored, checkpoint=folder))
    assert interrupted
