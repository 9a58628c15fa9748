"""Local solvers: shares of the blocks, coded sums, partitions that differ, and the solvers themselves."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import daskgd
from daskgd.engines.serial import Serial
from daskgd.losses import Logistic
from daskgd.models import Linear
from daskgd.penalties import L2
from daskgd.problems import Problem
from daskgd.queries import Ask, Dispersion, Gradient, Local, Part, Share, Spread
from daskgd.queries.compression import CompressedArray, compress, decompress
from daskgd.queries.sums import Sums
from daskgd.rows.layout import Layout
from daskgd.rows.tiles import Rows
from daskgd.solvers import ADMM, GIANT, SGD, Adam, GradientDescent, LocalSGD, Solver
from daskgd.solvers.local_sgd import Epochs
from daskgd.solvers.sampled_start import definite, some
from daskgd.solvers.schedules import Rule, Schedule
from daskgd.testing import ArraySource, examples, run, toy_rows
from daskgd.testing.solvers import reference
from daskgd.training.loop import PartitionsDiffer, Stop
from tests.tiers import slow_but_every

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def rows_of(n: int, p: int = 8, seed: int = 0, order: str = "shuffled") -> tuple[Any, Any]:
    """Correlated features, labels of a logistic model, in some order."""
    rng = np.random.default_rng(seed)
    X = (rng.standard_normal((n, p)) @ (np.eye(p) + 0.3 * rng.standard_normal((p, p)))).astype(np.float32)
    y = (rng.random(n) < 1 / (1 + np.exp(-X @ rng.standard_normal(p) / 2))).astype(np.int8)
    by = {
        "shuffled": np.arange(n),
        "by label": np.argsort(y, kind="stable"),
        "by feature": np.argsort(X[:, 0]),
    }
    return X[by[order]], y[by[order]]


def dataset_of(path: Any, n: int, order: str = "shuffled", partitions: int = 8, p: int = 8) -> Any:
    """In 32 blocks and so many partitions."""
    X, y = rows_of(n, p, order=order)
    daskgd.write_dataset(path, X, y, chunk_bytes=n // 32 * p * 4)
    return daskgd.open_dataset(path, block_bytes=1, partition_bytes=n // partitions * (p * 4 + 1))


def fit(data: Any, solver: Any, **settings: Any) -> Any:
    settings = {"tol": 0, "engine": "serial", "C": 1e-3, "scale": True, **settings}
    return daskgd.LogisticRegression(solver=solver, **settings).fit(data)


# -- shares of the blocks -------------------------------------------------------------------------


@given(st.integers(0, 60), st.integers(1, 9), st.sampled_from([1, 2, 4]), st.booleans(), st.integers(0, 3))
def test_the_parts_of_an_epoch_are_all_blocks_once(
    n: int, parts: int, size: int, within: bool, epoch: int
) -> None:
    masks = [Share(5, epoch, part, parts, within).blocks(n, size) for part in range(parts)]
    if parts == 1:
        assert masks == [None]
        return
    counts = np.sum(masks, axis=0)  # type: ignore[arg-type]
    assert (counts == 1).all() if n else counts.size == 0
    if not within:
        sizes = [int(mask.sum()) for mask in masks if mask is not None]
        assert max(sizes) - min(sizes) <= 1


def test_each_epoch_and_seed_has_an_order_of_its_own() -> None:
    first = Share(0, 0, 0, 2).blocks(64, 4)
    assert first is not None
    for other in (Share(0, 1, 0, 2), Share(1, 0, 0, 2), Share(0, 0, 1, 2)):
        assert (other.blocks(64, 4) != first).any()
    within = Share(0, 0, 0, 4, within=True).blocks(64, 4)
    assert within is not None
    assert (within.reshape(-1, 4).sum(axis=1) == 1).all()


@dataclass(frozen=True)
class Counted(ArraySource):
    """Notes what is read."""

    reads: list[int] = field(default_factory=list)

    def read(self, start: int, stop: int) -> Rows:
        self.reads.append(start // self.layout.block_rows)
        return ArraySource.read(self, start, stop)


@pytest.mark.parametrize("wire", ["float64", "float32"])
def test_a_share_reads_its_blocks_and_no_other(wire: str) -> None:
    rows, problem = toy_rows(46), examples()[2].problem
    source = Counted(Layout(46, 4, 2), rows.X.toarray(), (np.asarray(rows.y) == 1).astype(int))
    engine, w = Serial(source), np.full(4, 0.3)
    answers, weights = [], []
    for part in range(5):
        share = Share(1, 0, part, 5)
        source.reads.clear()
        (answer,) = engine.sweep([Ask(problem, Part(Gradient(w), share, wire, part))])
        mask = share.blocks(12, 2)
        assert mask is not None
        assert source.reads == np.flatnonzero(mask).tolist()
        assert engine.share == mask.mean()
        answers.append(answer[0][1])
        weights.append(answer[1])
    assert sum(weights) == 46
    ((_, whole),) = engine.sweep([Ask(problem, Gradient(w))])
    assert engine.share == 1
    assert np.allclose(np.average(answers, axis=0, weights=weights), whole, rtol=1e-12)


def test_an_ask_for_all_rows_is_not_shortened_by_a_share_beside_it() -> None:
    rows, problem = toy_rows(46), examples()[2].problem
    source = Counted(Layout(46, 4, 2), rows.X.toarray(), (np.asarray(rows.y) == 1).astype(int))
    engine, w = Serial(source), np.ones(4)
    alone = [
        engine.sweep([Ask(problem, query)])[0]
        for query in (Gradient(w), Part(Gradient(w), Share(0, 0, 1, 3)), Local(w, Epochs(*WORK)))
    ]
    source.reads.clear()
    both = engine.sweep(
        [
            Ask(problem, Gradient(w)),
            Ask(problem, Part(Gradient(w), Share(0, 0, 1, 3))),
            Ask(problem, Local(w, Epochs(*WORK))),
        ]
    )
    assert set(source.reads) == set(range(12))
    assert engine.share == 1
    for a, b in zip(alone, both, strict=True):
        assert pickle.dumps(a) == pickle.dumps(b)


WORK = (Rule("sgd"), Schedule("constant", 0.1), 8, 1, 0, 0, 0.0)


def test_a_share_without_blocks_answers_none() -> None:
    rows, problem = toy_rows(8), examples()[2].problem
    source = ArraySource(Layout(8, 4, 1), rows.X.toarray(), (np.asarray(rows.y) == 1).astype(int))
    found = [
        Serial(source).sweep([Ask(problem, Part(Gradient(np.ones(4)), Share(0, 0, part, 5)))])
        for part in range(5)
    ]
    assert sum(answer == [None] for answer in found) == 3


def test_sweeps_of_shares_add_up(tmp_path: Any) -> None:
    data = dataset_of(tmp_path / "a.zarr", 3200)
    est = fit(data, SGD(step=0.1, steps=10), max_iter=3)
    assert est.history_.column("sweeps") == [2, 3, 4]
    assert all(isinstance(n, int) for n in est.history_.column("sweeps"))
    assert est.history_[-1]["bytes"] == pytest.approx(4 * data.nbytes, rel=1e-3)


# -- coded sums -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("wire", "error"), [("float32", 2e-7), ("float16", 2e-3), ("int8", 1.6e-2)])
def test_coding_is_right_on_average(wire: str, error: float) -> None:
    rng = np.random.default_rng(0)
    v = rng.standard_normal(700) * 10.0 ** rng.integers(-9, 9, 700)[:, None].mean(axis=1)
    v[300:] = rng.standard_normal(400)
    scale = np.repeat([np.abs(v[a : a + 256]).max() for a in range(0, 700, 256)], 256)[:700]
    many = np.stack([CompressedArray.of(v, wire, key).decompress() for key in range(400)])
    assert (np.abs(many - v) <= error * scale).all()
    spread = np.maximum(many.std(axis=0), error * scale * 1e-2)
    assert (np.abs(many.mean(axis=0) - v) < 6 * spread / np.sqrt(400)).all()
    assert np.array_equal(
        CompressedArray.of(v, wire, 3).decompress(), CompressedArray.of(v, wire, 3).decompress()
    )
    assert (CompressedArray.of(v, wire, 3).decompress() != CompressedArray.of(v, wire, 4).decompress()).any()


@pytest.mark.parametrize("wire", ["float32", "float16", "int8"])
def test_coded_sums_add(wire: str) -> None:
    v = np.linspace(-2, 1, 500)
    some, nothing = CompressedArray.of(v, wire, 1), CompressedArray.of(np.zeros(500), wire, 2)
    for total in (some + nothing, nothing + some):
        assert np.array_equal(total.decompress(), some.decompress())
    assert np.abs((some + CompressedArray.of(v, wire, 3)).decompress() - 2 * v).max() < 4 * 3 / 127
    lost = CompressedArray.of(np.where(v > 0.9, np.inf, v), wire, 5)
    assert np.isnan(lost.decompress()).any()
    assert np.isnan((lost + some).decompress()).any()
    sums = Sums(gradient=v, weight=3.0, few=np.ones(3))
    vjp = decompress(compress(sums, wire, 0))
    assert vjp["weight"] == 3.0
    assert np.array_equal(vjp["few"], np.ones(3))
    assert compress(sums, "float64", 0) is sums


def test_int8_takes_a_seventh_of_the_bytes() -> None:
    sums = Sums(value=1.0, gradient=np.ones(5000), vector=np.ones(5000), weight=2.0)
    assert sums.nbytes == 8 * 10_002
    assert sums.nbytes / compress(sums, "int8", 0).nbytes > 7


def test_wide_models_end_where_they_would_with_all_digits(tmp_path: Any) -> None:
    """Softmax with 650 parameters, in 16 partitions: a seventh of the bytes, the same loss."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    at = rng.integers(0, len(X), 8000)
    X = ((X[at] + 2 * rng.standard_normal((8000, 64))) / 16).astype(np.float32)
    daskgd.write_dataset(tmp_path / "d.zarr", X, y[at], chunk_bytes=64_000)
    data = daskgd.open_dataset(tmp_path / "d.zarr", block_bytes=1, partition_bytes=132_000)
    for make in (
        lambda wire: LocalSGD(step=0.1, inner="adam", batch_size=64, sample_bytes=0, wire=wire),
        lambda wire: Adam(step=0.05, steps=8, wire=wire),
    ):
        exact, short = (fit(data, make(wire), max_iter=8, C=0.1) for wire in ("float64", "int8"))
        problem_loss = [est.history_[-1]["loss"] for est in (exact, short)]
        assert problem_loss[1] == pytest.approx(problem_loss[0], rel=1e-3)
        spent = [est.history_[-1]["wire_bytes"] - est.history_[0]["wire_bytes"] for est in (exact, short)]
        assert spent[0] > 7 * spent[1]


# -- how far partitions differ --------------------------------------------------------------------


def spread(X: Any, y: Any, partitions: int, s: Any = None) -> Dispersion:
    problem = Problem(Logistic(), Linear(X.shape[1]), L2(0.01), np.array([0, 1]))
    source = ArraySource.of(Rows(X, y, s, 0), -(-len(X) // partitions))
    (found,) = Serial(source).sweep([Ask(problem, Spread(np.zeros(X.shape[1] + 1)))])
    return found


def test_chance_explains_what_shuffled_partitions_differ_by() -> None:
    ratios = [spread(*rows_of(4000, seed=seed), 16).ratio for seed in range(20)]
    assert 0.8 < np.mean(ratios) < 1.2
    assert max(ratios) < 2
    weights = np.random.default_rng(0).random(4000) ** 4
    assert 0.5 < spread(*rows_of(4000), 16, weights).ratio < 2


def test_chance_does_not_explain_sorted_rows() -> None:
    for order, n in (("by label", 4000), ("by feature", 100_000)):
        found = spread(*rows_of(n, order=order), 16)
        assert found.differ
        assert found.ratio > 12
        assert "partitions differ" in str(found)
    assert not spread(*rows_of(4000), 16).differ
    assert not spread(*rows_of(100), 1).differ
    empty = np.zeros(4000)
    empty[:200] = 1.0
    assert spread(*rows_of(4000), 20, empty).partitions == 1


@pytest.mark.parametrize(
    "solver",
    [
        LocalSGD(step=0.5, sample_bytes=0, control=False, schedule="constant"),
        LocalSGD(step=0.5, sample_bytes=0, batch_size=16),
        LocalSGD(sample_bytes=2000),
        GIANT(sample_bytes=0),
        GIANT(sample_bytes=2000),
    ],
    ids=repr,
)
def test_sorted_rows_are_told_and_do_no_harm(solver: Solver, tmp_path: Any) -> None:
    data = dataset_of(tmp_path / "a.zarr", 3200, "by label")
    with pytest.warns(PartitionsDiffer, match=r"partitions differ: .* times what chance explains"):
        est = fit(data, solver, max_iter=8)
    losses = np.array(est.history_.column("loss"))
    assert losses.max() <= 1.1 * losses[0] or losses.max() <= 1.1 * losses.min()
    fit(dataset_of(tmp_path / "b.zarr", 3200), solver, max_iter=2)  # and no warning


@pytest.mark.filterwarnings("ignore::daskgd.PartitionsDiffer")
@pytest.mark.parametrize(
    ("order", "solver_and_sweeps"),
    slow_but_every(
        2,
        ["shuffled", "by label", "by feature"],
        [
            (GIANT(sample_bytes=8000), 12),
            (ADMM(sample_bytes=8000), 16),
            (GIANT(sample_bytes=0), 24),
            (LocalSGD(sample_bytes=8000, batch_size=64), 14),
        ],
    ),
    ids=repr,
)
def test_any_order_of_rows_leads_to_the_minimum(
    solver_and_sweeps: tuple[Solver, int], order: str, tmp_path: Any
) -> None:
    """To 1e-6, and local SGD to 1e-3: its steps are small, but they end."""
    data = dataset_of(tmp_path / "a.zarr", 6400, order)
    least = fit(data, daskgd.Newton(), max_iter=12).history_[-1]["loss"]
    solver, sweeps = solver_and_sweeps
    est = fit(data, solver, max_iter=12)
    rows = [row for row in est.history_ if row["sweeps"] <= sweeps]
    gap = min(row["loss"] for row in rows) / least - 1
    assert gap <= (1e-3 if isinstance(solver, LocalSGD) else 1e-6)


def test_giant_asks_one_sweep_an_iteration_while_bets_pay(tmp_path: Any) -> None:
    est = fit(dataset_of(tmp_path / "a.zarr", 32_000), GIANT(sample_bytes=0), max_iter=7)
    assert np.diff(est.history_.column("sweeps")).max() <= 2
    assert est.n_sweeps_ <= 10
    direct = fit(dataset_of(tmp_path / "b.zarr", 32_000), GIANT(), max_iter=4)
    assert direct.history_.column("sweeps")[:2] == [2, 3]


@pytest.mark.parametrize("solver", [GIANT(), GIANT(sample_bytes=1), ADMM(), ADMM(sample_bytes=1)], ids=repr)
def test_many_parameters_need_no_matrix(solver: Solver, monkeypatch: pytest.MonkeyPatch) -> None:
    for room in ("giant", "admm", "sampled_start"):
        monkeypatch.setattr(f"daskgd.solvers.{room}.DENSE", 3)
        if room != "sampled_start":
            monkeypatch.setattr(f"daskgd.solvers.{room}.hessian", None)
    for example in examples():
        if not example.problem.loss.smooth or example.problem.model.size < 4:
            continue
        result, sweeps = run(solver, example, Stop(1e-8, 200))
        least, _ = reference(example.problem, example.rows)
        engine = Serial(ArraySource.of(example.rows, 90))
        f, _ = engine.sweep([Ask(example.problem, Gradient(result.w))])[0]
        assert result.outcome == "converged"
        assert f - least <= 1e-6 * least, example.name
        assert sweeps < 80


def test_gaps_of_local_newton_methods_are_honest(tmp_path: Any) -> None:
    data = dataset_of(tmp_path / "a.zarr", 6400)
    least = fit(data, daskgd.Newton(), max_iter=12).history_[-1]["loss"]
    for solver in (GIANT(), ADMM(), ADMM(sample_bytes=0), GIANT(sample_bytes=0)):
        est = fit(data, solver, tol=1e-4, max_iter=40)
        assert est.outcome_ == "converged"
        assert est.history_[-1]["loss"] / least - 1 <= 1.5 * est.gap_ + 1e-8  # losses of float32 rows


# -- the parts of solvers -------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 4])
def test_sgd_whose_steps_see_all_rows_is_gradient_descent(accumulate: int) -> None:
    example, stop = examples()[2], Stop(0, 6)
    whole = SGD(step=0.3, steps=accumulate, accumulate=accumulate, momentum=0.0)
    plain = GradientDescent(step=0.3)
    got, expected = (run(solver, example, stop)[0].w for solver in (whole, plain))
    assert np.allclose(got, expected, rtol=1e-12)


@pytest.mark.filterwarnings("ignore::daskgd.PartitionsDiffer")
def test_control_variates_reach_what_averages_miss() -> None:
    """Two kinds of partitions of ridge regression: with variates local SGD ends at the minimum."""
    rng = np.random.default_rng(0)
    scales = [1, 3, 1], [3, 1, 1]
    X = np.concatenate([rng.standard_normal((200, 3)) * scale for scale in scales])
    y = np.concatenate([X[:200] @ [1.0, 2.0, 1.0], X[200:] @ [-2.0, 0.5, 1.0] + 1])
    example = examples()[0]._replace(rows=Rows(X, y, None, 0))
    least, _ = reference(example.problem, example.rows)

    def gap(**settings: Any) -> float:
        solver = LocalSGD(step=0.02, batch_size=200, sample_bytes=0, schedule="constant", **settings)
        result, _ = run(solver, example, Stop(0, 200), blocks=2)
        f, _ = Serial(ArraySource.of(example.rows, 400)).sweep([Ask(example.problem, Gradient(result.w))])[0]
        return f / least - 1

    assert gap(control=True, sync_every=8) < 1e-8
    with pytest.warns(PartitionsDiffer, match="lean"):
        plain = gap(control=False, sync_every=8)
    assert plain > 1e-4
    assert gap(control=False, sync_every=8, proximal=5.0) < plain


def test_nesterovs_outer_step_is_its_formula() -> None:
    """Against the recurrence, from one round's average move to the next."""
    example = examples()[2]
    settings = {"step": 0.1, "batch_size": 90, "sample_bytes": 0, "schedule": "constant"}
    solver = LocalSGD(outer="nesterov", outer_step=0.7, outer_momentum=0.9, **settings)
    problem, rows = example.problem, example.rows
    w, b = np.zeros(4), np.zeros(4)
    source = ArraySource.of(rows, 23)
    for _ in range(5):
        _, g = Serial(source).sweep([Ask(problem, Gradient(w))])[0]
        D = -0.1 * g
        b = 0.9 * b + D
        w = w + 0.7 * (D + 0.9 * b)
    assert np.allclose(run(solver, example, Stop(0, 5))[0].w, w, rtol=1e-10)


def test_rules_are_the_papers() -> None:
    gradients = np.random.default_rng(0).standard_normal((5, 3))
    adam, momentum, adagrad = Rule("adam", 0.9, 0.99), Rule("momentum", 0.8), Rule("adagrad")
    known = {rule.kind: rule.begin(3) for rule in (adam, momentum, adagrad)}
    m = v = u = total = np.zeros(3)
    for i, g in enumerate(gradients):
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        u, total = 0.8 * u + g, total + g * g
        expected = {
            "adam": m / (1 - 0.9 ** (i + 1)) / (np.sqrt(v / (1 - 0.99 ** (i + 1))) + 1e-8),
            "momentum": u,
            "adagrad": g / (np.sqrt(total) + 1e-8),
        }
        for rule in (adam, momentum, adagrad):
            d, known[rule.kind] = rule.move(g, known[rule.kind], i)
            assert np.allclose(d, expected[rule.kind], rtol=1e-12)


def test_schedules() -> None:
    assert [Schedule("constant", 2.0).rate(t) for t in (0, 9)] == [2.0, 2.0]
    assert [Schedule("invscaling", 2.0, decay=1.0).rate(t) for t in (0, 1, 3)] == [2.0, 1.0, 0.5]
    assert Schedule("cosine", 2.0, period=6).rate(3) == pytest.approx(1.0)
    assert Schedule("cosine", 2.0, period=6).rate(60) == pytest.approx(0.02)


def test_a_part_of_the_rows_is_spread_evenly() -> None:
    rows = toy_rows(90)
    assert some(rows, 90) is rows
    part = some(rows, 30)
    assert np.array_equal(part.X, rows.X.toarray()[::3])
    s = np.zeros(90)
    s[1::3] = 2.0  # every third row, which the even spread would miss
    assert np.array_equal(some(replace(rows, sample_weight=s), 10).X, rows.X.toarray()[1::9])
    assert np.linalg.eigvalsh(definite(np.diag([3.0, -1.0, 0.0]))).min() > 0


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: LocalSGD(inner="sgdm"), "expected inner one of sgd, momentum, adam, adagrad"),
        (lambda: LocalSGD(sync_every=0.3), "expected sync_every a whole number or one over"),
        (lambda: LocalSGD(sync_every=0), "expected sync_every"),
        (lambda: LocalSGD(sync_every=0.5, control=True), "control variates are of whole partitions"),
        (lambda: LocalSGD(outer="mean"), "expected outer average or nesterov"),
        (lambda: LocalSGD(wire="int4"), "expected wire one of float64, float32, float16, int8"),
        (lambda: LocalSGD(control="yes"), "expected control auto, True or False"),
        (lambda: LocalSGD(proximal=-1.0), "expected proximal >= 0"),
        (lambda: SGD(steps=0), "expected steps a whole number >= 1"),
        (lambda: SGD(schedule="linear"), "expected schedule one of constant"),
        (lambda: Adam(second=1.0), r"expected second in \[0, 1\)"),
        (lambda: ADMM(rho=0.0), "expected rho > 0 or None"),
        (lambda: ADMM(newton_steps=0), "expected newton_steps"),
        (lambda: GIANT(sample_bytes=-1), "expected sample_bytes a whole number in"),
        (lambda: GIANT(seed=-1), "expected seed None or a whole number"),
    ],
)
def test_settings_are_checked(make: Callable[[], Solver], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()
