"""The laws, at the estimators: chunks do not matter, a weight of 2 is a row twice, one of 0 a row absent."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import daskgd
from daskgd.solvers import LBFGS, GradientDescent

N, P = 40, 3
RTOL = 1e-9
FEW = settings(max_examples=5)

ESTIMATORS = {
    "LinearRegression": lambda: daskgd.LinearRegression(),
    "Ridge": lambda: daskgd.Ridge(alpha=2.0),
    "LogisticRegression": lambda: daskgd.LogisticRegression(C=0.5),
    "LinearSVC": lambda: daskgd.LinearSVC(C=0.5),
}
each = pytest.mark.parametrize("name", ESTIMATORS)


def data(name: str, n: int, k: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Rows from a fixed stream, every class among the first."""
    rng = np.random.default_rng(7)
    X = rng.standard_normal((n, P))
    z = X @ np.array([1.0, -1.0, 0.5]) + rng.standard_normal(n)
    if name in ("LinearRegression", "Ridge"):
        return X, z
    y = np.digitize(z, [0.0] if k == 2 else [-0.7, 0.7])
    y[:k] = np.arange(k)
    return X, y


def coefficients(
    name: str, X: Any, y: Any = None, s: Any = None, *, block_rows: int = 10**6, iterations: int = 30
) -> np.ndarray:
    """Coefficients and intercepts, to the last digits there are."""
    est = ESTIMATORS[name]().set_params(tol=0, max_iter=iterations, engine="serial")
    with dask.config.set({"daskgd.block-bytes": block_rows * P * 8}):
        est.fit(X, y, s)
    return np.append(np.ravel(est.coef_), np.ravel(est.intercept_))


@cache
def plain(name: str) -> np.ndarray:
    """Of two classes, in one block."""
    return coefficients(name, *data(name, N))


def assert_close(a: np.ndarray, b: np.ndarray) -> None:
    """Relative to the largest coefficient."""
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= RTOL * np.abs(b).max()


def chunks(n: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Any way to cut n rows into chunks."""
    cuts = st.lists(st.integers(1, n - 1), max_size=6, unique=True).map(sorted)
    return cuts.map(lambda edges: tuple(np.diff([0, *edges, n]).tolist()))


# -- chunks -------------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("block_rows", [1, 7, N - 1])
def test_any_blocks_of_arrays(name: str, block_rows: int) -> None:
    X, y = data(name, N)
    assert_close(coefficients(name, X, y, block_rows=block_rows), plain(name))


@each
@FEW
@given(
    rows=chunks(N),
    target_rows=chunks(N),
    columns=st.sampled_from([(3,), (2, 1), (1, 1, 1)]),
    block_rows=st.integers(1, N),
)
def test_any_chunks_of_dask_arrays(
    name: str, rows: tuple[int, ...], target_rows: tuple[int, ...], columns: tuple[int, ...], block_rows: int
) -> None:
    """Columns in chunks too, and X and y chunked differently."""
    X, y = data(name, N)
    lazy = da.from_array(X, chunks=(rows, columns)), da.from_array(y, chunks=target_rows)
    assert_close(coefficients(name, *lazy, block_rows=block_rows), plain(name))


@each
@FEW
@given(chunk_rows=st.integers(1, N), block_rows=st.integers(1, N))
def test_any_chunks_of_datasets(name: str, chunk_rows: int, block_rows: int) -> None:
    X, y = data(name, N)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "data.zarr"
        daskgd.write_dataset(path, X, y, chunk_bytes=chunk_rows * P * 8)
        assert_close(coefficients(name, path, block_rows=block_rows), plain(name))


# -- weights ------------------------------------------------------------------------------------

weights = st.lists(st.sampled_from([0, 1, 2]), min_size=N - 6, max_size=N - 6).map(lambda s: [1] * 6 + s)


@each
@pytest.mark.parametrize("k", [2, 3])
@FEW
@given(s=weights, block_rows=st.integers(1, N))
def test_a_weight_is_a_number_of_rows(name: str, k: int, s: list[int], block_rows: int) -> None:
    """2 is a row twice, 0 a row absent; the first rows hold every class and weigh 1."""
    X, y = data(name, N, k)
    at = np.repeat(np.arange(N), s)
    weighted = coefficients(name, X, y, np.array(s, dtype=float), block_rows=block_rows)
    assert_close(weighted, coefficients(name, X[at], y[at]))


@each
@pytest.mark.parametrize("factor", [0.125, 3.0])
def test_weights_that_are_all_alike(name: str, factor: float) -> None:
    """Least squares does not notice; elsewhere a weight of c is a C of c times (an alpha of 1/c)."""
    X, y = data(name, N)
    est = ESTIMATORS[name]().set_params(tol=0, max_iter=30)
    if name == "Ridge":
        est.set_params(alpha=est.alpha / factor)
    elif name != "LinearRegression":
        est.set_params(C=est.C * factor)
    est.fit(X, y)
    weighted = coefficients(name, X, y, np.full(N, factor))
    assert_close(weighted, np.append(np.ravel(est.coef_), np.ravel(est.intercept_)))


@pytest.mark.parametrize("name", ["LogisticRegression", "LinearSVC"])
def test_a_class_weight_is_a_weight_of_its_rows(name: str) -> None:
    X, y = data(name, N, 3)
    est = ESTIMATORS[name]().set_params(tol=0, max_iter=30, class_weight={0: 2.0, 2: 0.5})
    est.fit(X, y)
    s = np.array([2.0, 1.0, 0.5])[y]
    expected = coefficients(name, X, y, s)
    assert_close(np.append(np.ravel(est.coef_), np.ravel(est.intercept_)), expected)


# -- symmetries ---------------------------------------------------------------------------------


@each
@FEW
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_rows_and_columns_does_not_matter(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    X, y = data(name, N)
    rows, columns = rng.permutation(N), rng.permutation(P)
    got = coefficients(name, X[rows][:, columns], y[rows], block_rows=7)
    assert_close(got, plain(name)[[*columns, P]])


@pytest.mark.parametrize("name", ["LogisticRegression", "LinearSVC"])
@pytest.mark.parametrize("labels", [[-5, 8], ["no", "yes"], [False, True], [0.0, 1.0]])
def test_the_names_of_classes_do_not_matter(name: str, labels: list[Any]) -> None:
    X, y = data(name, N)
    est = ESTIMATORS[name]().set_params(tol=0, max_iter=30).fit(X, np.array(labels)[y])
    assert est.classes_.tolist() == labels
    assert_close(np.append(np.ravel(est.coef_), np.ravel(est.intercept_)), plain(name))
    assert est.predict(X).tolist() == np.array(labels)[(X @ est.coef_[0] + est.intercept_ > 0) * 1].tolist()


@pytest.mark.parametrize("solver", [LBFGS(), GradientDescent()], ids=repr)
@pytest.mark.parametrize("name", ["Ridge", "LogisticRegression", "LinearSVC"])
def test_every_solver_finds_the_same_minimum(name: str, solver: Any) -> None:
    X, y = data(name, N)
    est = ESTIMATORS[name]().set_params(solver=solver, tol=1e-14, max_iter=3000).fit(X, y)
    got = np.append(np.ravel(est.coef_), np.ravel(est.intercept_))
    expected = plain(name)
    assert np.abs(got - expected).max() <= 1e-6 * np.abs(expected).max()
