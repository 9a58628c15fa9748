"""Distributions: exact while there is room, the same bits in any order, and bounds that hold."""

from __future__ import annotations

from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskgd.rows import sketches
from daskgd.rows.sketches import Distribution, floats, ordered

FLOATS = st.floats(allow_nan=False)


@given(st.lists(FLOATS, max_size=30))
def test_keys_are_in_the_order_of_floats(values: list[float]) -> None:
    x = np.sort(np.array(values, dtype=float))
    keys = ordered(x)
    assert (np.diff(keys.astype(object)) >= 0).all() if len(keys) > 1 else True
    assert np.array_equal(floats(keys), x + 0.0)
    distinct = np.unique(x + 0.0)
    assert len(np.unique(keys)) == len(distinct)


@given(
    st.lists(st.tuples(FLOATS, st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60),
    st.lists(st.integers(0, 60), max_size=5),
    st.randoms(use_true_random=False),
    st.sampled_from([(4, 6, 11), (7, 7, 1), (4, 1 << 16, 3), (1 << 16, 1 << 16, 11)]),
)
def test_any_order_gives_the_same_bits(rows, cuts, random, limits) -> None:
    exact, most, bits = limits
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("EXACT", exact), ("MOST", most), ("BITS", bits)):
            patch.setattr(sketches, name, value)
        x = np.array([r[0] for r in rows])
        s = np.array([r[1:] for r in rows], dtype=float)
        whole = Distribution.of(x, s)
        parts = [
            Distribution.of(a, b)
            for a, b in zip(np.split(x, sorted(cuts)), np.split(s, sorted(cuts)), strict=True)
        ]
        random.shuffle(parts)
        found = reduce(add, parts)
        assert found.dropped == whole.dropped
        assert np.array_equal(found.keys, whole.keys)
        assert np.array_equal(found.weights, whole.weights)
        assert len(whole.keys) <= most
        there = s.any(axis=1)
        keys = ordered(x[there])
        assert whole.is_exact == (len(np.unique(keys)) <= exact)
        coarser = whole.dropped > 52 - bits
        assert not coarser or len(np.unique(keys >> np.uint64(whole.dropped - 1))) > most
        assert np.array_equal(whole.weights.sum(axis=0), s.sum(axis=0))
        low, high = whole.low, whole.high
        assert (low <= high).all()
        at = np.searchsorted(whole.keys, keys >> np.uint64(whole.dropped))
        assert np.array_equal(whole.keys[at], keys >> np.uint64(whole.dropped))
        assert ((low[at] <= x[there]) & (x[there] <= high[at])).all()


def test_quantiles_are_within_their_bounds(rng: np.random.Generator) -> None:
    x = rng.lognormal(sigma=3, size=300_000)
    found = Distribution.of(x, np.ones((len(x), 1)))
    assert not found.is_exact
    for q in (0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0):
        at, exact = found.quantile(q), np.quantile(x, q, method="inverted_cdf")
        assert at <= exact <= at * (1 + 2e-3)
    few = Distribution.of(x[:1000], np.ones((1000, 1)))
    assert few.is_exact
    assert few.quantile(0.5) == np.quantile(x[:1000], 0.5, method="inverted_cdf")


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda rng, n: rng.normal(size=n),
        lambda rng, n: rng.normal(size=n) * (rng.random(n) < 0.7),
        lambda rng, n: rng.random(n) * 0.01 + 0.5,
        lambda rng, n: -rng.random(n),
        lambda rng, n: rng.lognormal(sigma=20, size=n).clip(1e-30, 1e30),
        lambda rng, n: np.where(rng.random(n) < 0.5, -0.0, rng.normal(size=n)),
        lambda rng, n: rng.integers(0, 5, n) / 4,
        lambda rng, n: rng.normal(size=n) * 1e-40,
    ],
)
def test_tables_and_sorting_give_the_same(make, dtype, weighted, rng: np.random.Generator) -> None:
    n = 20_000
    x, kinds = make(rng, n).astype(dtype), rng.integers(0, 3, n)
    s = rng.integers(1, 4, n).astype(float) if weighted else None
    whole = Distribution.of_kinds(x, kinds, 3, s)
    weights = np.zeros((n, 3))
    weights[np.arange(n), kinds] = 1.0 if s is None else s
    parts = [Distribution.of(a, b) for a, b in zip(np.split(x, 40), np.split(weights, 40), strict=True)]
    for other in (Distribution.of(x, weights), reduce(add, parts), reduce(add, parts[::-1])):
        assert other.dropped == whole.dropped
        assert np.array_equal(other.keys, whole.keys)
        assert np.array_equal(other.weights, whole.weights)
    assert whole.is_exact == (len(np.unique(x)) <= sketches.EXACT)
