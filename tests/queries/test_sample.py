"""The sample: the same rows on any engine and in any order, uniform, and enough of every class."""

from __future__ import annotations

import pickle
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskgd.engines.serial import Serial
from daskgd.queries import Ask
from daskgd.queries.sample import Sample, SampleAnswer
from daskgd.rows.layout import Shape
from daskgd.rows.random_numbers import SAMPLE, row_random_numbers
from daskgd.rows.tiles import Rows
from daskgd.testing import ArraySource
from daskgd.testing.laws import close, select_rows
from daskgd.testing.queries import sums_of


def rows(n: int, rare: float = 0.5, weights: bool = False, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < rare).astype(int)
    s = np.where(rng.random(n) < 0.2, 0.0, rng.random(n)) if weights else None
    return Rows(np.arange(2.0 * n).reshape(n, 2), y, s, 0)


def ask(query: Sample, data: Rows, block_rows: int) -> SampleAnswer:
    answer = Serial(ArraySource.of(data, block_rows)).sweep([Ask(None, query)])[0]
    assert isinstance(answer, SampleAnswer)
    return answer


def test_the_rows_of_smallest_hash_are_drawn() -> None:
    data = rows(5000)
    got = ask(Sample(0.1, seed=7), data, 100)
    expected = np.flatnonzero(row_random_numbers(np.arange(5000), 7, SAMPLE) < 0.1)
    assert not got.complete
    assert got.rows.kept is not None
    assert np.array_equal(got.rows.kept, expected)
    assert np.array_equal(got.rows.X, data.X.toarray()[expected])
    assert np.allclose(got.rows.sample_weight, 10.0)  # type: ignore[arg-type]


def test_all_rows_are_the_data_itself_less_those_without_weight() -> None:
    data = rows(300, weights=True)
    got = ask(Sample(1.0), data, 50)
    assert data.sample_weight is not None
    kept = data.sample_weight > 0
    assert got.complete
    assert np.array_equal(got.rows.X, data.X.toarray()[kept])
    assert np.array_equal(got.rows.sample_weight, data.sample_weight[kept])  # type: ignore[arg-type]


@given(st.integers(1, 6), st.sampled_from([0.0, 0.003, 0.05, 0.5]), st.booleans(), st.integers(0, 40))
def test_blocks_do_not_matter(cut: int, rare: float, weights: bool, per_class: int) -> None:
    data = rows(1500, rare, weights, seed=cut)
    query = Sample(0.03, per_class, seed=1)
    whole = ask(Sample(0.03, per_class, seed=1), data, 1500)
    assert agree(whole, ask(query, data, 17 * cut))
    assert agree(whole, ask(query, data, 400)), "what was seen before may prune, but not change the answer"
    parts = [sums_of(Sample(0.03, per_class, seed=1), None, part) for part in split(data, 5)]
    backwards = query.answer(None, reduce(lambda a, b: b + a, reversed(parts)))
    assert agree(whole, backwards)
    assert agree(whole, query.answer(None, reduce(add, parts)))


def agree(a: SampleAnswer, b: SampleAnswer) -> bool:
    """The same rows; weights to the rounding of the classes' totals."""
    return np.array_equal(a.rows.kept, b.rows.kept) and all(  # type: ignore[arg-type]
        p is q is None or close(p, q, 1e-12)
        for p, q in ((a.rows.X, b.rows.X), (a.rows.y, b.rows.y), (a.rows.sample_weight, b.rows.sample_weight))
    )


def split(data: Rows, n: int) -> list[Rows]:
    out = []
    for at in np.array_split(np.arange(len(data)), n):
        part = select_rows(data, at)
        out.append(Rows(part.X, part.y, part.sample_weight, int(at[0])))
    return out


@pytest.mark.parametrize("order", ["mixed", "sorted"])
def test_a_rare_class_is_drawn_in_full_and_weighs_what_it_weighs(order: str) -> None:
    n = 40_000
    rng = np.random.default_rng(3)
    y = (rng.random(n) < 0.002).astype(int)
    if order == "sorted":
        y = np.sort(y)
    data = Rows(rng.standard_normal((n, 2)), y, None, 0)
    got = ask(Sample(0.02, per_class=30, seed=5), data, 900).rows
    assert got.y is not None
    assert got.sample_weight is not None
    rare = got.y == 1
    assert 30 <= rare.sum() <= 60
    assert 0.9 * 0.02 * n < (~rare).sum() < 1.1 * 0.02 * n
    for label in (0, 1):
        assert np.isclose(got.sample_weight[got.y == label].sum(), (y == label).sum())
    few = ask(Sample(0.02, per_class=500, seed=5), data, 900).rows
    assert few.y is not None
    assert (few.y == 1).sum() == (y == 1).sum(), "all of a class that has no more than were wanted"


def test_the_sample_is_uniform() -> None:
    data = Rows(np.arange(60_000.0)[:, None], None, None, 0)
    got = ask(Sample(0.05, seed=11), data, 5000).rows.X.toarray()[:, 0]
    counts = np.histogram(got, bins=20, range=(0, 60_000))[0]
    assert abs(len(got) - 3000) < 5 * np.sqrt(3000)
    assert np.sum((counts - len(got) / 20) ** 2 / (len(got) / 20)) < 50  # chi square, 19 degrees


def test_the_query_pickles_without_what_it_has_seen() -> None:
    query = Sample.of(Shape(10_000, 2, 8, True), 500, 20, 0)
    assert (query.share, query.per_class) == (0.05, 20)
    ask(query, rows(1000), 100)
    again = pickle.loads(pickle.dumps(query))
    assert again == query
    assert query.pruner.level(0) > 0 == again.pruner.level(0)
    everything = Sample.of(Shape(100, 2, 8, True), 500, 20, 0)
    assert (everything.share, everything.per_class) == (1.0, 0)


def test_many_classes_or_no_labels_are_no_obstacle() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((9000, 1))
    for y in (np.arange(9000) % 1500, rng.standard_normal(9000)):
        got: Any = ask(Sample(0.1, per_class=3), Rows(X, y, None, 0), 1000)
        assert 700 < len(got.rows) < 1100
