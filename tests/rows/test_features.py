"""Features of every kind are the dense array that they stand for, and lose no digits."""

from __future__ import annotations

import numpy as np
import pytest

from daskgd.rows.sparse import Sparse
from daskgd.testing import FEATURES, check_features


@pytest.mark.parametrize("name", FEATURES)
def test_features(name: str) -> None:
    check_features(FEATURES[name], name)


@pytest.mark.parametrize("weighted", [False, True])
def test_columns_far_from_0_lose_no_digits_beside_sparse_ones(weighted: bool) -> None:
    rng = np.random.default_rng(3)
    far = 1e8 + rng.normal(size=(400, 2))
    few = rng.normal(size=(400, 5)) * (rng.random((400, 5)) < 0.1)
    X = np.column_stack([few[:, :2], far[:, :1], few[:, 2:], far[:, 1:], np.full(400, 0.1), np.zeros(400)])
    s = rng.random(400) if weighted else None
    found = Sparse.of_dense(X).moments(s)
    each = np.ones(400) if s is None else s
    mean = (each / each.sum()) @ X
    away = X - mean
    np.testing.assert_allclose(found.mean, mean, rtol=1e-13, atol=1e-16)
    np.testing.assert_allclose(found.deviation, each @ (away * away), rtol=1e-9, atol=1e-20)
    assert found.deviation[-2:].tolist() == [0.0, 0.0]
    V = np.column_stack([each, rng.normal(size=400)])
    squares = Sparse.of_dense(X).squares_t_dot(V, mean)
    scale = np.abs(away * away).T @ np.abs(V) + 1e-300
    np.testing.assert_array_less(np.abs(squares - (away * away).T @ V) / scale, 1e-8)
