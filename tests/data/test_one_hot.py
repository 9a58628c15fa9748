"""Codes with categories: what they are, what is refused, and which rows."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.preprocessing import OneHotEncoder

import daskgd
from daskgd.data.convert import as_column
from daskgd.rows.categorical import Categorical
from daskgd.rows.stacked import Stacked

CODES = np.array([[0, 2], [1, -1], [-1, 0], [1, 1]], dtype=np.int8)
NUMBERS = np.arange(8.0).reshape(4, 2)


def test_columns_and_names_are_those_of_scikit_learns_encoder() -> None:
    frame = pd.DataFrame({"colour": ["red", "blue", "red", "green"], "size": ["s", "m", "m", "l"]})
    some = frame.astype("category")
    encoder = OneHotEncoder().fit(frame)
    codes = some.apply(lambda column: column.cat.codes)
    X = daskgd.OneHot(codes, [some[c].cat.categories for c in some])
    assert np.array_equal(X.tocsr().toarray(), encoder.transform(frame).toarray())
    assert X.get_feature_names_out().tolist() == encoder.get_feature_names_out().tolist()
    assert X.feature_names == X.get_feature_names_out().tolist()
    assert daskgd.as_dataset(X).feature_names == tuple(X.feature_names)


def test_numbers_stand_first() -> None:
    X = daskgd.OneHot(CODES, [2, 3], numeric=NUMBERS)
    expected = [[0, 1, 1, 0, 0, 0, 1], [2, 3, 0, 1, 0, 0, 0], [4, 5, 0, 0, 1, 0, 0], [6, 7, 0, 1, 0, 1, 0]]
    assert X.tocsr().toarray().tolist() == expected
    assert X.get_feature_names_out().tolist() == ["x0", "x1", "x2_0", "x2_1", "x3_0", "x3_1", "x3_2"]
    assert X.feature_names is None
    assert (X.shape, len(X), X.dtype) == ((4, 7), 4, np.float64)
    frame = pd.DataFrame(NUMBERS, columns=["a", "b"])
    named = daskgd.OneHot(CODES, [["u", "v"], 3], numeric=frame, columns=["c", "d"])
    assert named.feature_names == ["a", "b", "c_u", "c_v", "d_0", "d_1", "d_2"]
    sparse = daskgd.OneHot(CODES, [2, 3], numeric=sp.csr_array(NUMBERS))
    assert sparse.tocsr().toarray().tolist() == expected


@pytest.mark.parametrize("kind", ["i1", "i4", "u2", "i8", "u8"])
@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 200])
def test_codes_are_the_columns_of_their_categories(n: int, kind: str) -> None:
    """However many rows are looked at together."""
    sizes = [3, 100, 7]
    low = -1 if kind.startswith("i") else 0
    codes = np.stack([np.random.default_rng(n).integers(low, m, n) for m in sizes], axis=1).astype(kind)
    starts = np.cumsum([0, *sizes[:-1]])
    expected = np.where(codes.astype("i8") < 0, -1, codes.astype("i8") + starts)
    for given in (codes, np.asfortranarray(codes), codes.repeat(2, axis=0)[::2]):
        found = Categorical.of(given, sizes)
        assert np.array_equal(found.indices, expected)
        assert np.array_equal(found.codes, np.where(expected < 0, -1, expected - starts))
    for row in {0, n // 2, n - 1} if n else ():
        wrong = codes.copy()
        wrong[row, 2] = 7
        with pytest.raises(ValueError, match=f"0 <= code < 7 in column 2, .* got 7 in row {row}$"):
            Categorical.of(wrong, sizes)
    in_place = codes.astype("i4")
    assert Categorical.of(in_place, sizes, out=lambda *_: in_place).indices is in_place
    assert np.array_equal(in_place, expected)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_dtype_is_that_of_the_numbers(dtype: str) -> None:
    assert daskgd.OneHot(CODES, [2, 3], numeric=NUMBERS.astype(dtype)).dtype == dtype
    assert daskgd.OneHot(CODES, [2, 3], numeric=NUMBERS.astype(int)).dtype == np.float64
    assert daskgd.OneHot(CODES, [2, 3], dtype=dtype).dtype == dtype


def test_nothing_is_expanded() -> None:
    column = as_column(daskgd.OneHot(CODES, [2, 10**6]).features)
    assert column.nbytes == 4 * CODES.size
    assert not column.is_dense
    assert isinstance(column.read(1, 3), Categorical)
    assert isinstance(daskgd.OneHot(CODES, [2, 3], NUMBERS).features, Stacked)


@pytest.mark.parametrize(
    "rows", [slice(1, 3), slice(3, 1), slice(None, None, -2), [2, 0], np.array([True, False, True, True]), []]
)
def test_rows_are_indexed(rows: object) -> None:
    X = daskgd.OneHot(CODES, [["u", "v"], 3], NUMBERS)
    dense = X.tocsr().toarray()
    for some in (X[rows], X[rows, ...], X[rows, :]):
        assert np.array_equal(some.tocsr().toarray(), dense[rows])
        assert some.feature_names == X.feature_names
    assert np.array_equal(pickle.loads(pickle.dumps(X[rows])).tocsr().toarray(), dense[rows])


def test_as_a_dask_array_it_has_sparse_chunks() -> None:
    with_small_blocks = daskgd.as_dataset(daskgd.OneHot(CODES, [2, 3], NUMBERS))
    lazy = with_small_blocks.X
    dense = daskgd.OneHot(CODES, [2, 3], NUMBERS).tocsr().toarray()
    for index in (np.s_[:], np.s_[1:3], np.s_[:, 1:4], np.s_[::2, 3:]):
        found = lazy[index].compute()
        assert sp.issparse(found)
        assert np.array_equal(found.toarray(), dense[index])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([[0.5]], [2]), "codes: expected integers of shape"),
        (([0, 1], [2]), "codes: expected integers of shape"),
        ((np.zeros((2, 0), int), []), "codes: expected at least one column, got shape"),
        (([[0], [2]], [2]), "0 <= code < 2 in column 0, or -1 for a missing one, got 2 in row 1"),
        (
            ([[0, 0], [0, -2]], [1, 1]),
            "0 <= code < 1 in column 1, or -1 for a missing one, got -2 in row 1",
        ),
        (([[0]], [0]), "0 <= code < 0 in column 0, or -1 for a missing one, got 0 in row 0"),
        ((np.array([[2**40]]), [2]), f"got {2**40} in row 0"),
        (([[0]], [2, 3]), "categories: expected a number or an array for each of 1 columns of codes, got 2"),
        (([[0]], ["ab"]), "categories: expected a number of categories, or an array of them, for column 0"),
        (([[0]], [-1]), "categories: expected 0 or more for column 0, got -1"),
        (([[0]], [["a", "b", "a"]]), "categories: expected each once in column 0, got 'a' twice"),
        (([[0]], [1], [[1.0], [2.0]]), "numeric: expected 1 rows, as codes have, got 2"),
        (([[0]], [1], [1.0]), "numeric: expected shape"),
        (([[0]], [1], [["a"]]), "numeric: expected real numbers or bool, got dtype <U1"),
    ],
)
def test_what_is_refused(arguments: tuple, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(")):
        daskgd.OneHot(*arguments)


def test_other_things_that_are_refused() -> None:
    with pytest.raises(ValueError, match="columns: expected 2 names, one for each column of codes"):
        daskgd.OneHot(CODES, [2, 3], columns=["a"])
    with pytest.raises(
        ValueError, match="dtype: expected one that holds what numeric holds, int64, got int8"
    ):
        daskgd.OneHot(CODES, [2, 3], np.full((4, 1), 300), dtype=np.int8)
    with pytest.raises(ValueError, match="dtype: expected one of real numbers or bool, got complex128"):
        daskgd.OneHot(CODES, [2, 3], dtype=complex)
    X = daskgd.OneHot(CODES, [2, 3])
    for index in (1, (slice(None), 1)):
        with pytest.raises(IndexError, match="OneHot: expected"):
            X[index]
    with pytest.raises(TypeError, match="y: expected a dense array"):
        daskgd.as_dataset(NUMBERS, X)
    with pytest.raises(TypeError, match=r"pass X\.tocsr\(\)"):
        np.asarray(X)
