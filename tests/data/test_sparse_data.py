"""Sparse rows as users pass them: the same dataset of every kind of matrix, array and frame, or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

import daskgd
from daskgd.data.columns import FeaturesColumn, PiecesColumn
from daskgd.data.convert import as_dataset
from daskgd.engines.placement import materialise
from tests.sparse_rows import sparse_array
from tests.tiers import slow_but

N, P = 200, 12


def matrix(dtype: Any = np.float32) -> sp.csr_array:
    """Random rows, some of them empty, and a column of zeros."""
    X = sparse_array(N, P, 0.2, np.random.default_rng(0)).tolil()
    X[:, 3] = 0
    X[10:15] = 0
    return sp.csr_array(X).astype(dtype)


X = matrix()
Y = (X[:, [0]].toarray()[:, 0] + np.random.default_rng(1).standard_normal(N) > 0.1).astype(int)


def coo(m: Any) -> Any:
    return pytest.importorskip("sparse").COO.from_scipy_sparse(sp.csr_array(m))


def gcxs(m: Any) -> Any:
    return pytest.importorskip("sparse").GCXS.from_scipy_sparse(sp.csr_array(m))


# dask slices what its blocks are like, as arrays of coordinates can be from some release of scipy's on.
COORDINATES = {"coo_array": sp.coo_array} if hasattr(sp.coo_array, "__getitem__") else {}
KINDS: dict[str, Callable[[Any], Any]] = {
    "csr_matrix": sp.csr_matrix,
    "csr_array": sp.csr_array,
    "csc_array": sp.csc_array,
    **COORDINATES,
    "sparse.COO": coo,
    "sparse.GCXS": gcxs,
}


def lazy(kind: str = "csr_array", chunks: Any = (70, P)) -> da.Array:
    """The rows as a dask array of blocks of a kind."""
    return da.from_array(X.toarray(), chunks=chunks).map_blocks(KINDS[kind], meta=KINDS[kind](X[:0]))


def rows_of(dataset: daskgd.Dataset) -> np.ndarray:
    """All rows as engines read them, block by block."""
    with materialise(dataset, dask.get, 4) as ready:
        assert isinstance(ready.columns.X, FeaturesColumn | PiecesColumn)
        layout = ready.layout
        blocks = [ready.source.read(*layout.rows(i, i + 1)) for i in range(layout.n_blocks)]
    return np.concatenate([block.X.toarray() for block in blocks])


@pytest.mark.parametrize("kind", slow_but(KINDS, *list(KINDS)[:-1]))
def test_every_kind_is_the_same_dataset(kind: str) -> None:
    here = as_dataset(X, Y)
    assert here.nbytes == 8 * X.nnz + 4 * (N + 1) + Y.nbytes
    for given_, extra in ((KINDS[kind](X), 0), (lazy(kind), 1), (lazy(kind, (60, 5)), 1)):
        there = as_dataset(given_, Y)
        assert (there.layout, there.nbytes) == (here.layout, here.nbytes)
        assert there.extra_sweeps == extra
        assert not there.columns.X.is_dense
        assert np.array_equal(rows_of(there), X.toarray())


@given(cuts=st.lists(st.integers(0, N), max_size=8), blocks=st.integers(1, 40))
def test_any_chunks_are_the_same_rows(cuts: list[int], blocks: int) -> None:
    """Also empty ones, and whatever the blocks are that are read."""
    ends = sorted({*cuts, 0, N})
    parts = [da.from_array(X[a:b].toarray(), chunks=-1) for a, b in pairwise(ends)]
    array = da.concatenate(parts).map_blocks(sp.csr_array, meta=X[:0])
    with dask.config.set({"daskgd.block-bytes": -(-as_dataset(X).nbytes // blocks)}):
        there, here = as_dataset(array, Y), as_dataset(X, Y)
    assert there.layout == here.layout
    assert np.array_equal(rows_of(there), X.toarray())


OTHER_SHAPES: dict[str, Callable[[Any], Any]] = {
    "a row less": lambda block: block[1:],
    "a row more": lambda block: sp.vstack([block, block[:1]]).tocsr(),
    "a column less": lambda block: block[:, 1:],
    "a column more": lambda block: sp.hstack([block, block[:, :1]]).tocsr(),
}


@pytest.mark.parametrize("name", OTHER_SHAPES)
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_blocks_of_another_shape_than_the_array_says_are_refused(kind: str, name: str) -> None:
    """Rows would go with the targets of others."""

    def block(i: int) -> Any:
        found = OTHER_SHAPES[name](X[i * 50 : i * 50 + 50])
        return found if kind == "sparse" else found.toarray()

    meta = X[:0] if kind == "sparse" else X[:0].toarray()
    parts = [da.from_delayed(dask.delayed(block)(i), (50, P), meta=meta) for i in range(N // 50)]
    with pytest.raises(ValueError, match=r"blocks of shape \(200, 12\), got"):
        daskgd.Ridge().fit(da.concatenate(parts), Y)


def test_dense_blocks_said_to_be_sparse_are_refused() -> None:
    array = da.from_array(X.toarray(), chunks=(70, P)).map_blocks(lambda block: block, meta=X[:0])
    with pytest.raises(TypeError, match=r"expected sparse rows, got a numpy\.ndarray"):
        daskgd.Ridge().fit(array, Y)


def test_rows_and_entries_are_counted_in_one_read() -> None:
    read: list[int] = []

    def block(i: int) -> Any:
        read.append(i)
        return X[i * 50 : i * 50 + 50]

    parts = [
        da.from_delayed(dask.delayed(block, pure=False)(i), (np.nan, P), meta=X[:0]) for i in range(N // 50)
    ]
    array = da.concatenate(parts, allow_unknown_chunksizes=True)
    with dask.config.set(scheduler="sync"):
        y = da.from_array(Y, chunks=30)
        dataset = as_dataset(array, y[y >= 0])
        assert sorted(read) == [0, 1, 2, 3]
        assert (dataset.n_rows, dataset.extra_sweeps) == (N, 1)
        assert as_dataset(dataset, Y).nbytes == dataset.nbytes
        assert sorted(read) == [0, 1, 2, 3]  # another target needs no other count
        assert np.array_equal(rows_of(dataset), X.toarray())


def test_a_dask_frame_of_sparse_columns() -> None:
    names = [f"x{j}" for j in range(P)]
    frame = pd.DataFrame.sparse.from_spmatrix(X, columns=names)
    dataset = as_dataset(dd.from_pandas(frame, npartitions=3), dd.from_pandas(pd.Series(Y), npartitions=3))
    assert dataset.nbytes == as_dataset(X, Y).nbytes
    assert dataset.feature_names == tuple(names)
    assert dataset.extra_sweeps == 1
    assert np.array_equal(rows_of(dataset), X.toarray())


def test_a_split_has_the_same_rows() -> None:
    for here, there in zip(*(as_dataset(a, Y).train_test_split(0.3) for a in (X, lazy())), strict=True):
        assert here.n_rows == there.n_rows
        assert np.array_equal(rows_of(here), rows_of(there))
        assert np.array_equal(here.X.compute().toarray(), there.X.compute().toarray())


def test_what_is_no_sparse_rows_is_refused() -> None:
    says_dense = lazy().map_blocks(lambda block: block, meta=np.empty((0, 0), np.float32))
    with pytest.raises(ValueError, match=r"its meta says that they are not; .*meta=scipy.sparse.csr_array"):
        daskgd.LogisticRegression().fit(says_dense, Y)
    with pytest.raises(ValueError, match="expected real numbers or bool, got dtype complex"):
        as_dataset(lazy().map_blocks(lambda b: b.astype(complex), meta=X[:0].astype(complex)))
    sparse = pytest.importorskip("sparse")
    ones = sparse.COO.from_numpy(np.ones((N, P)), fill_value=1.0)
    with pytest.raises(ValueError, match=r"expected a fill value of 0, got 1.0"):
        as_dataset(ones)
    with pytest.raises(ValueError, match=r"expected a fill value of 0, got 1.0"):
        as_dataset(da.from_array(ones, chunks=(70, P)))
    with pytest.raises(ValueError, match=r"expected shape \(n, p\), got \(200,\)"):
        as_dataset(da.from_array(ones[0:N, 0], chunks=70))


# -- predictions --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", slow_but(KINDS, *list(KINDS)[:-1]))
def test_predictions_are_lazy_and_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = daskgd.LogisticRegression().fit(X, Y)
    network = daskgd.MLPRegressor(hidden_layer_sizes=(4,), max_iter=2, tol=0).fit(X, Y * 1.0)
    count = daskgd.PoissonRegressor().fit(X, Y)
    methods = [(classifier, name) for name in ("predict", "predict_proba", "decision_function")]
    methods += [(network, "predict"), (count, "predict")]
    out_of_order = lazy(kind, ((70, 0, 130), (5, 7)))[:, list(range(5, P)) + list(range(5))]
    back = out_of_order[:, list(range(7, P)) + list(range(7))]
    for large in (1, 1 << 17):  # whether the parameters are sent by themselves
        monkeypatch.setattr("daskgd.estimators.base.LARGE", large)
        for est, name in methods:
            expected = getattr(est, name)(X)
            for array in (lazy(kind), back) if kind.startswith("cs") else (lazy(kind),):
                found = getattr(est, name)(array)
                assert isinstance(found, da.Array)
                assert isinstance(found._meta, np.ndarray)
                computed = found.compute(scheduler="sync")
                assert type(computed) is np.ndarray
                assert (
                    (found.shape, found.dtype)
                    == (expected.shape, expected.dtype)
                    == (
                        computed.shape,
                        computed.dtype,
                    )
                )
                assert np.allclose(computed, expected, rtol=1e-6 if est is network else 1e-13)
    for est in (classifier, count):
        assert est.score(lazy(kind), Y) == est.score(X, Y)
    with pytest.raises(ValueError, match="X has 11 features, but LogisticRegression is expecting 12"):
        classifier.predict(lazy(kind)[:, :11])


def test_a_row_that_is_not_finite_is_named() -> None:
    wrong = X.copy()
    wrong.data[wrong.indptr[150]] = np.nan
    array = da.from_array(wrong.toarray(), chunks=(70, P)).map_blocks(sp.csr_array, meta=X[:0])
    with pytest.raises(ValueError, match=r"contains NaN.*in row 10 of block 2"):
        daskgd.LogisticRegression().fit(X, Y).predict(array).compute(scheduler="sync")
    with pytest.raises(ValueError, match="row 150"):
        daskgd.LogisticRegression().fit(array, Y)
