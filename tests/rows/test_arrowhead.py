"""Arrowhead matrices: the algebra, and second moments of features against those of the dense array."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from daskgd.rows.arrowhead import Arrowhead, arrowhead, exclusive_columns
from daskgd.rows.categorical import Categorical
from daskgd.rows.features import Dense, Features
from daskgd.rows.sparse import Sparse
from daskgd.rows.stacked import Stacked


def categories(rng: np.random.Generator, n: int, sizes: list[int]) -> Categorical:
    codes = np.column_stack([rng.integers(-1, size, n) for size in sizes]).reshape(n, len(sizes))
    return Categorical.of(codes, sizes)


def numbers(rng: np.random.Generator, n: int, p: int) -> Dense:
    return Dense(rng.normal(3.0, 2.0, (n, p)))


def entries(rng: np.random.Generator, n: int, p: int) -> Sparse:
    return Sparse.of(sparse.csr_array(rng.normal(size=(n, p)) * (rng.random((n, p)) < 0.3)))


KINDS: dict[str, Any] = {
    "a table": lambda rng, n: Stacked.of(numbers(rng, n, 3), categories(rng, n, [4, 30, 5])),
    "two tables": lambda rng, n: Stacked.of(
        categories(rng, n, [5, 2]), numbers(rng, n, 1), categories(rng, n, [7]), numbers(rng, n, 2)
    ),
    "sparse beside categories": lambda rng, n: Stacked.of(
        entries(rng, n, 6), categories(rng, n, [4, 9]), entries(rng, n, 3), numbers(rng, n, 2)
    ),
    "categories": lambda rng, n: categories(rng, n, [3, 1, 12]),
    "one column": lambda rng, n: categories(rng, n, [6]),
    "numbers": lambda rng, n: numbers(rng, n, 4),
    "sparse": lambda rng, n: entries(rng, n, 5),
}
RUNS = {
    "a table": (7, 37),
    "two tables": (8, 15),
    "sparse beside categories": (10, 19),
    "categories": (4, 16),
}


def moments(X: Features, c: np.ndarray, shift: np.ndarray) -> np.ndarray:
    run = exclusive_columns(X)
    away = shift.copy()
    away[run] = 0.0
    A = np.column_stack([X.toarray() - away, np.ones(len(X))])
    return (A * c[:, None]).T @ A


@pytest.mark.parametrize("kind", KINDS)
def test_second_moments_are_those_of_the_dense_array(kind: str, rng: np.random.Generator) -> None:
    X = KINDS[kind](rng, 300)
    c, shift = rng.random(300), rng.normal(size=X.shape[1])
    run = exclusive_columns(X)
    assert (run.start, run.stop) == RUNS.get(kind, (0, 6 if kind == "one column" else 0))
    found = arrowhead(X, c, shift).about(np.append(shift, 0.0))
    np.testing.assert_allclose(found.toarray(), moments(X, c, shift), atol=1e-10)


@given(st.lists(st.integers(0, 40), max_size=4), st.integers(0, 2**31))
def test_sums_over_blocks_are_the_sum(ends: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    X = KINDS[rng.choice([*KINDS])](rng, 40)
    c, shift = rng.integers(0, 3, 40).astype(float), rng.normal(size=X.shape[1])
    bounds = [0, *sorted(ends), 40]
    parts = [arrowhead(X.slice(a, b), c[a:b], shift) for a, b in pairwise(bounds)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    np.testing.assert_allclose(total.toarray(), arrowhead(X, c, shift).toarray(), atol=1e-10)
    # A row of weight 2 is two rows.
    twice = arrowhead(X.select(np.repeat(np.arange(40), c.astype(int))), np.ones(int(c.sum())), shift)
    np.testing.assert_allclose(total.toarray(), twice.toarray(), atol=1e-10)


def test_numbers_far_from_0_keep_their_digits(rng: np.random.Generator) -> None:
    n = 500
    far = 1e9 + rng.normal(size=(n, 2))
    X = Stacked.of(Dense(far), categories(rng, n, [8, 3]))
    shift = np.append(far.mean(axis=0), np.zeros(11))
    found = arrowhead(X, np.ones(n), shift).about(np.append(shift, 0.0)).toarray()
    away = far - far.mean(axis=0)
    np.testing.assert_allclose(found[:2, :2], away.T @ away, rtol=1e-12)


def test_the_algebra_of_an_arrowhead(rng: np.random.Generator) -> None:
    border, core = rng.normal(size=(4, 3)), rng.normal(size=(3, 3))
    A = Arrowhead(1, rng.random(4), border, core + core.T, np.zeros(7))
    dense, v, d = A.toarray(), rng.normal(size=7), rng.random(7)
    assert np.array_equal(dense, dense.T)
    np.testing.assert_allclose(A.dot(v), dense @ v)
    np.testing.assert_allclose(A.plus_diagonal(d).toarray(), dense + np.diag(d))
    np.testing.assert_allclose(A.scaled(d).toarray(), d[:, None] * dense * d)
    np.testing.assert_allclose((A + A).toarray(), 2 * dense)
    np.testing.assert_allclose(A.without_last().toarray(), dense[:-1, :-1])
    assert np.array_equal(A.join(*A.split(v)), v)
