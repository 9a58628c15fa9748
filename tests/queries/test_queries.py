"""Queries and the things that add: contracts, closed forms, and the sentences about bad data."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, r2_score

import daskgd.queries
from daskgd.engines.serial import Serial
from daskgd.losses import Hinge, Logistic, Softmax, Squared
from daskgd.models import Linear
from daskgd.penalties import L2
from daskgd.problems import Problem
from daskgd.queries import (
    LANES,
    Ask,
    Curvature,
    Gradient,
    GradientOnly,
    Gradients,
    Hessian,
    HessianDiagonal,
    Hessians,
    Line,
    Query,
    Score,
    Survey,
)
from daskgd.queries.sample import Sample
from daskgd.queries.survey import MAX_LABELS, Labels
from daskgd.rows.invalid_rows import InvalidRows
from daskgd.rows.statistics import Moments
from daskgd.rows.tiles import Rows
from daskgd.solvers.base import DriverQuery
from daskgd.testing import QUERIES, ArraySource, check_query, examples, reference, toy_rows


def sweep(rows: Rows, *asks: tuple[Any, Query], block_rows: int = 7) -> list[Any]:
    return Serial(ArraySource.of(rows, block_rows)).sweep([Ask(*ask) for ask in asks])


NAMES = [f"{type(q).__name__}-{type(p.loss).__name__ if p else i}" for i, (q, p, _) in enumerate(QUERIES)]


@pytest.mark.parametrize(("query", "problem", "rows"), QUERIES, ids=NAMES)
def test_contract(query: Query, problem: Problem | None, rows: Rows) -> None:
    check_query(query, problem, rows)


@pytest.mark.parametrize("per_class", [3, 20])
def test_contract_of_a_sample_with_classes(per_class: int) -> None:
    check_query(Sample(0.3, per_class), None, toy_rows(90, weights=True))


def test_every_query_is_in_the_table() -> None:
    """All but questions to the driver, which are not asked of data, and what the checks themselves ask."""
    for module in pkgutil.walk_packages(daskgd.queries.__path__, "daskgd.queries."):
        importlib.import_module(module.name)
    ours = {name for name in subclasses(Query) if name.startswith("daskgd.")}
    checks = {name for name in ours if name.startswith("daskgd.testing.")}
    # Metrics need scikit-learn, which the table must not: tests/metrics checks their query.
    checks |= {name for name in ours if name.startswith("daskgd.metrics.")}
    listed = {full_name(type(query)) for query, _, _ in QUERIES}
    assert ours - checks - subclasses(DriverQuery) - {full_name(DriverQuery)} == listed


def full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def subclasses(kind: type) -> set[str]:
    """By name: a dataclass with slots replaces the class that was written, which may linger."""
    return {name for sub in kind.__subclasses__() for name in {full_name(sub)} | subclasses(sub)}


@pytest.mark.parametrize("kind", [Gradient, GradientOnly, Hessian, Survey], ids=lambda kind: kind.__name__)
def test_contract_in_float32(kind: type[Query]) -> None:
    q, problem, rows = next(known for known in QUERIES if type(known[0]) is kind)
    check_query(q, problem, Rows(rows.X.astype("f4"), rows.y, rows.sample_weight, 0), rtol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_contract_of_hessians_in_float32(weighted: bool, rng: np.random.Generator) -> None:
    problem, rows = collinear(rng, 60)
    s = rng.uniform(0.5, 2, len(rows)) if weighted else None
    rows = Rows(rows.X, rows.y, s, 0)
    w, v = rng.standard_normal((2, problem.model.size))
    query = Hessians.of((problem, replace(problem, penalty=L2(0.3))), (w, v), rows)
    check_query(query, None, rows, rtol=1e-5)


# -- against formulas of their own --------------------------------------------------------------


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_gradient_and_line_are_derivatives(example: Any, rng: np.random.Generator) -> None:
    problem, rows = example.problem, example.rows
    w, d = rng.standard_normal((2, problem.model.size))
    t = np.array([-1.0, 0.0, 0.3])
    (f, g), (values, slopes) = sweep(rows, (problem, Gradient(w)), (problem, Line(w, d, t)))
    h = 1e-6
    (up, _), (down, _) = sweep(rows, (problem, Gradient(w + h * d)), (problem, Gradient(w - h * d)))
    assert np.isclose(g @ d, (up - down) / (2 * h), rtol=1e-6)
    assert np.isclose(values[1], f, rtol=1e-13)
    assert np.isclose(slopes[1], g @ d, rtol=1e-12)
    for i, step in enumerate(t):
        ((f, g),) = sweep(rows, (problem, Gradient(w + step * d)))
        assert np.isclose(values[i], f, rtol=1e-12)
        assert np.isclose(slopes[i], g @ d, rtol=1e-12)


@pytest.mark.parametrize(
    "example", [e for e in examples() if e.problem.loss.smooth], ids=lambda example: example.name
)
def test_gradient_vanishes_at_scipys_minimum(example: Any) -> None:
    """Value and gradient against an objective written without daskgd's queries, weights and all."""
    f, w = reference(example.problem, example.rows)
    ((value, g),) = sweep(example.rows, (example.problem, Gradient(w)))
    assert np.isclose(value, f, rtol=1e-12)
    assert np.abs(g).max() < 1e-7


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("weights", [False, True])
def test_a_gradient_in_a_stack_is_the_gradient(weights: bool, dtype: str, rng: np.random.Generator) -> None:
    """Problems of unlike targets, centres and penalties; and its bits know nothing of the others'."""
    n, p = 333, 5
    X, y = rng.standard_normal((n, p)).astype(dtype), rng.integers(0, 2, n)
    rows = Rows(X, y, rng.random(n) if weights else None, 0)
    centred = Linear(p, center=rng.standard_normal(p), scale=rng.random(p) + 1)
    asked = {}
    for lane in map(int, rng.permutation(LANES)[:11]):
        model = centred if lane % 2 else Linear(p, intercept=False)
        heavy = np.array([1.0, 3.0]) if lane % 3 else None
        problem = Problem(
            Logistic(), model, L2(float(rng.random())), labels=np.array([0, 1]), class_weight=heavy
        )
        asked[lane] = problem, Gradient(rng.standard_normal(model.size))
    (stack,) = sweep(rows, (None, Gradients.of(asked)), block_rows=100)
    tight = 1e-12 if dtype == "f8" else 2e-6
    for (problem, query), (f, g) in zip(asked.values(), stack, strict=True):
        ((alone_f, alone_g),) = sweep(rows, (problem, query), block_rows=100)
        assert np.isclose(f, alone_f, rtol=tight)
        np.testing.assert_allclose(g, alone_g, rtol=tight, atol=tight)
    few = dict(list(asked.items())[4:7])
    (part,) = sweep(rows, (None, Gradients.of(few)), block_rows=100)
    for (f, g), (few_f, few_g) in zip(stack[4:7], part, strict=True):
        assert f == few_f
        assert np.array_equal(g, few_g)


@pytest.mark.parametrize("weights", [False, True])
def test_scores_are_scikit_learns(weights: bool, rng: np.random.Generator) -> None:
    X, s = rng.standard_normal((60, 3)), rng.random(60) if weights else None
    labels = np.array([-3, 5, 9])
    y = labels[rng.integers(0, 3, 60)]
    w = rng.standard_normal(12)
    softmax = Problem(Softmax(), Linear(3, 3), L2(), labels)
    (accuracy,) = sweep(Rows(X, y, s, 0), (softmax, Score(w)))
    predicted = labels[(X @ w.reshape(4, 3)[:3] + w[-3:]).argmax(axis=1)]
    assert np.isclose(accuracy, accuracy_score(y, predicted, sample_weight=s), rtol=1e-12)
    v = rng.standard_normal(4)
    binary = Problem(Logistic(), Linear(3), L2(), labels[:2])
    (accuracy,) = sweep(Rows(X, y, s, 0), (binary, Score(v)))
    predicted = labels[(X @ v[:3] + v[3] > 0).astype(int)]
    assert np.isclose(accuracy, accuracy_score(y, predicted, sample_weight=s), rtol=1e-12)
    Y = 1e6 + rng.standard_normal((60, 2))
    squared = Problem(Squared(), Linear(3, 2, False), L2())
    (r2,) = sweep(Rows(X, Y, s, 0), (squared, Score(w[:6])))
    assert np.isclose(r2, r2_score(Y, X @ w[:6].reshape(3, 2), sample_weight=s), rtol=1e-9)


def test_score_of_a_constant_target() -> None:
    X, y = np.ones((9, 1)), np.full(9, 5.0)
    problem = Problem(Squared(), Linear(1, 1, False), L2())
    right, wrong = sweep(
        Rows(X, y, None, 0), (problem, Score(np.array([5.0]))), (problem, Score(np.array([4.0])))
    )
    assert (right, wrong) == (1.0, 0.0)


# -- things that add ----------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.sampled_from([0.0, 1e8]),
)
def test_moments_are_exact_far_from_zero(sizes: list[int], seed: int, weights: bool, mean: float) -> None:
    """At mean / std = 1e8 plain sums of squares have no digit left."""
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    X = mean + rng.standard_normal((n, 2))
    s = rng.integers(0, 3, n).astype(float) if weights else None
    edges = np.cumsum([0, *sizes])
    parts = [Moments.of(X[a:b], None if s is None else s[a:b]) for a, b in pairwise(edges)]
    total = reduce(add, parts)
    heavy = np.ones(n) if s is None else s
    assert total.weight == heavy.sum()
    if total.weight == 0:
        assert not total.variance.any()
        return
    D = X - mean  # exact
    centre = heavy @ D / heavy.sum()
    variance = heavy @ (D - centre) ** 2 / heavy.sum()
    assert np.allclose(total.mean - mean, centre, rtol=0, atol=1e-15 * mean * 4 + 1e-14)
    assert np.allclose(total.variance, variance, rtol=1e-6, atol=1e-12)


def test_moments_of_float32_are_taken_in_float64(rng: np.random.Generator) -> None:
    X = (1000 + rng.standard_normal((5000, 2))).astype("f4")
    got = reduce(add, [Moments.of(part, None) for part in np.array_split(X, 11)])
    assert np.allclose(got.mean, X.astype("f8").mean(axis=0), rtol=1e-13)
    assert np.allclose(got.variance, X.astype("f8").var(axis=0), rtol=1e-10)


@given(st.lists(st.lists(st.sampled_from("abcde")), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_labels_count_and_weigh(parts: list[list[str]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = [np.array(part, dtype="U1") for part in parts]
    weights = [rng.integers(0, 4, len(part)).astype(float) for part in parts]

    def labels(y: np.ndarray, s: np.ndarray | None) -> Labels:
        return Labels.of(*np.unique(y, return_inverse=True), s)

    got = reduce(add, [labels(y, s) for y, s in zip(arrays, weights, strict=True)])
    y, s = np.concatenate(arrays), np.concatenate(weights)
    assert got.values.tolist() == sorted(set(y))
    assert got.counts.tolist() == [int((y == label).sum()) for label in got.values]
    assert got.weights.tolist() == [s[y == label].sum() for label in got.values]
    plain = reduce(add, [labels(y, None) for y in arrays])
    assert plain.weights.tolist() == plain.counts.tolist() == got.counts.tolist()


@pytest.mark.parametrize("block_rows", [100, MAX_LABELS + 1])
def test_too_many_labels_are_refused_in_whatever_blocks(block_rows: int) -> None:
    n = MAX_LABELS + 1
    with pytest.raises(ValueError, match=f"more than {MAX_LABELS} distinct values.*use a regressor"):
        sweep(Rows(np.zeros((n, 1)), np.arange(n), None, 0), (None, Survey(True)), block_rows=block_rows)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=5, unique=True), st.integers(1, 9))
def test_bad_names_the_first_row_in_any_order(rows: list[int], block_rows: int) -> None:
    X = np.ones((41, 3))
    X[rows, 1] = np.nan
    parts = [InvalidRows.nonfinite(X[a : a + block_rows], a) for a in range(0, 41, block_rows)]
    for bad in (reduce(add, parts), reduce(add, parts[::-1])):
        assert bad.first is not None
        assert (bad.rows, bad.first.row, bad.first.column) == (len(rows), min(rows), 1)
        assert np.isnan(bad.first.value)
    assert InvalidRows.nonfinite(np.ones((3, 2)), 0) == InvalidRows()
    assert InvalidRows() + InvalidRows() == InvalidRows()


def test_bad_finds_infinities_that_cancel_and_sums_that_overflow() -> None:
    assert InvalidRows.nonfinite(np.array([1.0, np.inf, -np.inf]), 10).first == (11, -1, np.inf)
    assert InvalidRows.nonfinite(np.array([1e308, 1e308, 1e308]), 0) == InvalidRows()
    assert InvalidRows.nonfinite(np.array([1, 2]), 0) == InvalidRows()


# -- the survey ---------------------------------------------------------------------------------


def survey(X: Any, y: Any = None, s: Any = None, *, classification: bool = False) -> Any:
    rows = Rows(np.asarray(X), None if y is None else np.asarray(y), s, 0)
    return sweep(rows, (None, Survey(classification)), block_rows=4)[0]


def test_survey(rng: np.random.Generator) -> None:
    X, y, s = rng.standard_normal((30, 2)), rng.standard_normal((30, 2)), rng.random(30)
    found = survey(X, y, s)
    assert found.n_rows == 30
    assert np.isclose(found.weight, s.sum(), rtol=1e-14)
    assert np.allclose(found.X.mean, np.average(X, axis=0, weights=s), rtol=1e-12)
    variance = np.average((y - np.average(y, axis=0, weights=s)) ** 2, axis=0, weights=s)
    assert np.isclose(found.target_summary().variance, variance.sum(), rtol=1e-12)
    labels = rng.integers(5, 8, 30)
    found = survey(X, labels, s, classification=True)
    assert found.labels.values.tolist() == [5, 6, 7]
    shares = np.array([s[labels == k].sum() for k in (5, 6, 7)]) * [1, 2, 0]
    assert np.allclose(found.target_summary(np.array([1.0, 2, 0])).shares, shares / shares.sum(), rtol=1e-12)


def bad(at: int, value: float, n: int = 10) -> np.ndarray:
    out = np.arange(float(n))
    out[at:] = value
    return out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"X": bad(6, np.nan)[:, None]}, r"Input X contains NaN.*row 6, column 0 \(4 of 10 rows"),
        ({"X": bad(9, -np.inf)[:, None]}, r"Input X contains infinity.*-inf in row 9, column 0 \(1 of 10"),
        ({"y": bad(5, np.nan)}, r"Input y contains NaN.*row 5 \(5 of 10 rows"),
        (
            {"y": bad(5, 1.5), "classification": True},
            r"Unknown label type: continuous.*1\.5 in row 5 \(5 of 10",
        ),
        ({"y": bad(5, np.nan), "classification": True}, r"Input y contains NaN.*row 5"),
        ({"s": bad(7, -1.0)}, r"sample_weight: expected finite weights >= 0, got -1\.0 in row 7 \(3 such"),
        ({"s": bad(7, np.nan)}, r"sample_weight: expected finite weights >= 0, got nan in row 7"),
        ({"s": np.zeros(10)}, r"sample_weight: expected a positive total"),
        ({"X": np.zeros((10, 1))[:0], "y": np.zeros(0)}, None),
    ],
)
def test_survey_refuses(arguments: dict[str, Any], sentence: str | None) -> None:
    if sentence is None:  # every row left out by a selection
        source = ArraySource.of(Rows(np.ones((4, 1)), np.ones(4), None, 0), 2)
        none = ArraySource(source.layout, source.X, source.y, None, np.zeros(4, bool))
        with pytest.raises(ValueError, match="at least one row, got 0"):
            Serial(none).sweep([Ask(None, Survey())])
        return
    with pytest.raises(ValueError, match=sentence):
        survey(**{"X": np.ones((10, 1)), "y": np.arange(10.0), **arguments})


@pytest.mark.parametrize("block_rows", [1, 3, 10])
@pytest.mark.parametrize("column", ["X", "y"])
def test_a_row_of_weight_0_must_be_finite_in_whatever_blocks(block_rows: int, column: str) -> None:
    """Zero times NaN is NaN: a block that weighs nothing would spoil every gradient."""
    X, y, s = np.ones((10, 2)), np.arange(10.0), np.ones(10)
    (X if column == "X" else y)[4], s[4] = np.nan, 0.0
    with pytest.raises(ValueError, match=f"Input {column} contains NaN.*row 4"):
        sweep(Rows(X, y, s, 0), (None, Survey()), block_rows=block_rows)


def test_survey_of_empty_blocks_in_between(rng: np.random.Generator) -> None:
    """A selection may leave a block without rows: survey and score of either kind go on."""
    rows = Rows(rng.standard_normal((12, 2)), np.arange(12) % 2, None, 0)
    source = ArraySource.of(rows, 3)
    holes = ArraySource(source.layout, rows.X.toarray(), rows.y, None, (np.arange(12) // 3 % 2).astype(bool))
    left = replace(rows.select(holes.keep), kept=None)
    squared = Problem(Squared(), Linear(2), L2())
    logistic = Problem(Logistic(), Linear(2), L2(), np.array([0, 1]))
    w = np.array([1.0, -1.0, 0.1])
    asks = [(None, Survey()), (None, Survey(True)), (squared, Score(w)), (logistic, Score(w))]
    got = Serial(holes).sweep([Ask(*ask) for ask in asks])
    expected = sweep(left, *asks)
    assert got[0].n_rows == expected[0].n_rows == 6
    assert np.allclose(got[0].X.mean, left.X.toarray().mean(axis=0), rtol=1e-14)
    assert np.isclose(got[0].y.variance[0], 2 / 9, rtol=1e-14)
    assert got[1].labels.counts.tolist() == [2, 4]
    assert np.allclose(got[2:], expected[2:], rtol=1e-12)


# -- the check notices --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Broken(Gradient):
    defect: str = ""

    def tile(self, problem: Problem, tile: Any) -> Any:
        sums = Gradient.tile(self, problem, tile)
        parts = dict(sums)
        if self.defect == "mean":  # means travel
            parts["value"] = parts["value"] / max(parts["weight"], 1)
        if self.defect == "rows":  # weights ignored in the total
            parts["weight"] = float(len(tile.X))
        if self.defect == "not zero" and len(tile.X) == 0:
            parts["value"] = parts["value"] + 1.0
        if self.defect == "changes rows":
            tile.X.toarray()[:] = tile.X.toarray()[::-1]
        return type(sums)(**parts)


@pytest.mark.parametrize(
    ("defect", "sentence"),
    [
        ("mean", "blocks of"),
        ("rows", "weights of 0 and 2"),
        ("not zero", "not the zero"),
        ("changes rows", "changes the rows|blocks of"),
    ],
)
def test_check_notices(defect: str, sentence: str) -> None:
    _, problem, rows = examples()[0]
    w = np.arange(4.0)
    check_query(Broken(w), problem, rows)
    with pytest.raises(AssertionError, match=sentence):
        check_query(Broken(w, defect), problem, Rows(rows.X.toarray().copy(), rows.y, None, 0))


def collinear(rng: np.random.Generator, n: int) -> tuple[Problem, Rows]:
    """A logistic problem and rows of float32, whose Hessians have eigenvalues in a ratio of some 1e7."""
    X = rng.standard_normal((n, 5)) @ (
        np.linalg.qr(rng.standard_normal((5, 5)))[0] * np.geomspace(1, 3e-4, 5)
    )
    X = (X @ np.linalg.qr(rng.standard_normal((5, 5)))[0] + 1).astype("f4")
    model = Linear(5, center=X.mean(axis=0, dtype=float), scale=X.std(axis=0, dtype=float))
    y = (rng.random(n) < 0.5).astype("i1")
    return Problem(Logistic(), model, L2(0.0), np.array([0, 1])), Rows(X, y, None, 0)


def apart(H: np.ndarray, exact: np.ndarray) -> float:
    """The largest error of a quadratic form, relative to itself."""
    values, vectors = np.linalg.eigh(exact)
    root = vectors / np.sqrt(values)
    return float(np.abs(np.linalg.eigvalsh(root.T @ (H - exact) @ root)).max())


def test_hessians_in_float32_keep_what_tells_features_apart(rng: np.random.Generator) -> None:
    problem, rows = collinear(rng, 30_000)
    w, v = 0.3 * rng.standard_normal((2, problem.model.size))
    exact = [sweep(rows, (problem, Hessian(at)), block_rows=5000)[0] for at in (w, v)]
    query = Hessians.of((problem, problem), (w, v), rows)
    (found,) = sweep(rows, (None, query), block_rows=5000)
    assert max(map(apart, found, exact)) < 1e-5
    # That is owed to the basis: the same products without it know nothing of the least eigenvalues.
    eye = np.eye(len(query.basis))
    (plain,) = sweep(rows, (None, replace(query, basis=eye, inverse=eye)), block_rows=5000)
    assert max(map(apart, plain, exact)) > 1e-3


def test_hessians_do_not_depend_on_one_another(rng: np.random.Generator) -> None:
    problem, rows = collinear(rng, 1000)
    points = tuple(rng.standard_normal((4, problem.model.size)))
    (many,) = sweep(rows, (None, Hessians.of((problem,) * 4, points, rows)))
    for one, w in zip(many, points, strict=True):
        (alone,) = sweep(rows, (None, Hessians.of((problem,), (w,), rows)))
        assert np.array_equal(alone[0], one)


def test_hessians_of_features_that_do_not_vary(rng: np.random.Generator) -> None:
    X = np.zeros((50, 3), "f4")
    X[:, 0] = rng.standard_normal(50)
    problem = Problem(Logistic(), Linear(3), L2(0.1), np.array([0, 1]))
    rows, w = Rows(X, (X[:, 0] > 0).astype("i1"), None, 0), rng.standard_normal(4)
    ((H,),) = sweep(rows, (None, Hessians.of((problem,), (w,), rows)))
    assert np.allclose(H, sweep(rows, (problem, Hessian(w)))[0], atol=1e-6)


def test_one_column_of_float32_suits_hessians() -> None:
    problem, rows = collinear(np.random.default_rng(0), 10)
    assert Hessians.suit(problem, Rows(rows.X, rows.y, None, 0, dtype=np.dtype(float)))
    assert not Hessians.suit(problem, Rows(rows.X.astype(float), rows.y, None, 0))
    assert not Hessians.suit(Problem(Softmax(), Linear(5, 3), L2()), rows)


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_the_parts_of_a_curvature(example: Any, rng: np.random.Generator) -> None:
    problem, rows = example.problem, example.rows
    w = rng.standard_normal(problem.model.size)
    (f, g, H), (f0, g0), slope, hessian = sweep(
        rows,
        (problem, Curvature(w)),
        (problem, Gradient(w)),
        (problem, GradientOnly(w)),
        (problem, Hessian(w)),
    )
    assert f == f0
    assert np.array_equal(g, g0)
    assert np.allclose(slope, g, rtol=1e-13, atol=1e-15)
    assert np.array_equal(hessian, H)


CONVEX = [e for e in examples() if e.problem.model.linear and e.problem.loss.smooth and e.problem.loss.convex]


@pytest.mark.parametrize("example", CONVEX, ids=lambda example: example.name)
def test_the_diagonal_of_the_hessian_is_the_mean_over_points(example, rng: np.random.Generator) -> None:
    problem, rows = example.problem, example.rows
    points = tuple(rng.standard_normal((2, problem.model.size)))
    asked = HessianDiagonal(points), *map(Hessian, points)
    found, *each = sweep(rows, *((problem, query) for query in asked))
    np.testing.assert_allclose(found, np.mean([np.diag(H) for H in each], axis=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_curvature_is_the_derivative_of_the_gradient(example, rng: np.random.Generator) -> None:
    problem, rows = example.problem, example.rows
    d = problem.model.size
    w = rng.standard_normal(d)
    ((f, g, H),) = sweep(rows, (problem, Curvature(w)))
    ((f0, g0),) = sweep(rows, (problem, Gradient(w)))
    assert (f, g.tolist()) == (f0, g0.tolist())
    assert np.allclose(H, H.T)
    h = 1e-6
    for v in rng.standard_normal((3, d)):
        ((_, up),) = sweep(rows, (problem, Gradient(w + h * v)))
        ((_, down),) = sweep(rows, (problem, Gradient(w - h * v)))
        kinks = 0.02 if isinstance(problem.loss, Hinge) else 0.0  # a step may cross one
        np.testing.assert_allclose(H @ v, (up - down) / (2 * h), rtol=1e-4 + kinks, atol=1e-6 + kinks)
