"""Summaries of columns: however rows are cut, and a row of weight 2 is two rows, one of weight 0 none."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from daskgd.rows.summaries import DistinctValues, NumberSummary

NUMBERS = arrays(
    float,
    st.tuples(st.integers(0, 25), st.just(2)),
    elements=st.one_of(st.just(np.nan), st.floats(-1e9, 1e9), st.integers(-3, 3).map(float)),
)
WORDS = st.lists(st.sampled_from(["a", "b", "é", "", None, float("nan")]), max_size=25)
CUTS, SEEDS = st.lists(st.integers(0, 25), max_size=4), st.integers(0, 2**31)


def pieces(n: int, cuts: list[int]) -> list[slice]:
    return [slice(a, b) for a, b in pairwise([0, *sorted(min(cut, n) for cut in cuts), n])]


def agree(a: NumberSummary, b: NumberSummary) -> None:
    for name in NumberSummary.__slots__:
        x, y = getattr(a, name), getattr(b, name)
        scale = 1e12 if name == "deviation" else 1.0  # of squares of numbers up to 1e9
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-9 * scale, err_msg=name)


@given(NUMBERS, CUTS, SEEDS)
def test_numbers_however_they_are_cut_and_weighted(X: Any, cuts: list[int], seed: int) -> None:
    s = np.random.default_rng(seed).integers(0, 3, len(X)).astype(float)
    whole = NumberSummary.of(X, s)
    agree(whole, reduce(add, [NumberSummary.of(X[at], s[at]) for at in pieces(len(X), cuts)]))
    agree(whole, NumberSummary.of(np.repeat(X, s.astype(int), axis=0), None))
    own = [column[~np.isnan(column)] for column in np.repeat(X, s.astype(int), axis=0).T]
    np.testing.assert_array_equal(whole.weight, [len(v) for v in own])
    for j, v in enumerate(own):
        if len(v):
            np.testing.assert_allclose(whole.mean[j], v.mean(), rtol=1e-9, atol=1e-6)
            np.testing.assert_allclose(
                whole.variance[j], v.var(), rtol=1e-6, atol=1e-6 + 1e-12 * np.max(v**2)
            )
            assert (whole.minimum[j], whole.maximum[j]) == (v.min(), v.max())


@given(NUMBERS, st.floats(-5, 5), st.sampled_from([0.5, -2.0, 3.0]))
def test_a_summary_of_changed_numbers(X: Any, shift: float, factor: float) -> None:
    whole = NumberSummary.of(X, None)
    agree(whole.filled(shift), NumberSummary.of(np.where(np.isnan(X), shift, X), None))
    agree(whole.gaps(), NumberSummary.of(np.isnan(X).astype(float), None))
    agree(whole.scaled(factor), NumberSummary.of(X * factor, None))


@given(st.one_of(WORDS, st.lists(st.sampled_from([0.0, 1.5, np.nan, 7.0]), max_size=25)), CUTS, SEEDS)
def test_distinct_values_however_they_are_cut_and_weighted(
    some: list[Any], cuts: list[int], seed: int
) -> None:
    text = any(v is None or isinstance(v, str) for v in some)
    values = np.empty(len(some), dtype=object if text else float)
    values[:] = some
    s = np.random.default_rng(seed).integers(0, 3, len(values)).astype(float)
    whole = DistinctValues.of(values, s)
    cut = [DistinctValues.of(values[at], s[at]) for at in pieces(len(values), cuts)]
    again = DistinctValues.of(np.repeat(values, s.astype(int)), None)
    for other in (reduce(add, cut), again):
        assert other.values is not None
        assert whole.values is not None
        assert list(map(repr, other.values.tolist())) == list(map(repr, whole.values.tolist()))
        np.testing.assert_array_equal(other.weights, whole.weights)
    assert whole.weights.sum() == s.sum()
