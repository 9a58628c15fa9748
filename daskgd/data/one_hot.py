"""Rows of integer codes, one-hot encoded without being expanded: what users pass as X."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.rows.categorical import Categorical
from daskgd.rows.dictionaries import Dictionaries, Dictionary
from daskgd.rows.features import Dense, Features, is_scipy_sparse
from daskgd.rows.sparse import Sparse
from daskgd.rows.stacked import Stacked

Array = NDArray[Any]


class OneHot:
    """Rows of categories as integer codes, one-hot encoded, and never expanded: for every X of an estimator.

    A model sees a column for each category, as of scikit-learn's ``OneHotEncoder(handle_unknown="ignore")``
    and in its order, so that ``coef_`` is the same; memory and time are those of the codes. Rows can be
    indexed, as in cross-validation. :func:`daskgd.write_dataset` stores them as they are.

    Parameters
    ----------
    codes : array or frame of integers ``(n, k)``
        The category of each row by its position, from 0 on; -1 where it is missing, or not known: all columns
        of its categories are 0 then. Other codes are refused.
    categories : sequence of int, or of arrays, one for each column of codes
        How many categories there are, or which, as in ``OneHotEncoder.categories_``. Give those of the fit
        wherever the model is used.
    numeric : array, frame or sparse array ``(n, q)``, optional
        Columns of numbers, which stand before the categories.
    columns : sequence of str, optional
        Names of the columns of codes. Features are named ``column_category``, and a model that was fitted
        with names refuses others. By default the names of a frame; else "x0", "x1", ..., counted with the
        numeric columns, where categories are given by their values, and none where by their number.
    dtype : optional
        In which the zeros and ones count: that of `numeric` if it holds floats, else float64.

    Examples
    --------
    >>> import daskgd
    >>> X = daskgd.OneHot([[0], [1], [1], [-1]], [["blue", "red"]], columns=["colour"])
    >>> X
    <OneHot: 4 rows of 1 categorical column, 2 features of float64>
    >>> model = daskgd.Ridge(alpha=1e-9, fit_intercept=False).fit(X, [1.0, 3.0, 5.0, 0.0])
    >>> dict(zip(model.feature_names_in_.tolist(), model.coef_.round(6).tolist()))
    {'colour_blue': 1.0, 'colour_red': 4.0}

    From a frame of pandas with columns of the type "category"::

        some = frame[["colour", "size"]]
        X = daskgd.OneHot(some.apply(lambda column: column.cat.codes), [some[c].cat.categories for c in some])
    """

    def __init__(
        self,
        codes: Any,
        categories: Sequence[Any],
        numeric: Any = None,
        *,
        columns: Sequence[str] | None = None,
        dtype: Any = None,
    ) -> None:
        own = _names(codes)
        codes = np.asarray(codes)
        k = codes.shape[1] if codes.ndim == 2 else 0
        if codes.ndim == 2 and not k:
            raise ValueError(
                f"codes: expected at least one column, got shape {codes.shape}; pass numeric by itself"
            )
        if len(categories) != k and codes.ndim == 2:
            raise ValueError(
                f"categories: expected a number or an array for each of {k} columns of codes, got "
                f"{len(categories)}"
            )
        if columns is not None and (len(columns) != k or not all(isinstance(c, str) for c in columns)):
            raise ValueError(f"columns: expected {k} names, one for each column of codes, got {columns!r}")
        known = [_categories(given, j) for j, given in enumerate(categories)]
        numbers, before = _numbers(numeric, codes)
        if dtype is None:
            dtype = np.float64 if numbers is None or numbers.dtype.kind != "f" else numbers.dtype
        _check_dtype(np.dtype(dtype), numbers)
        categorical = Categorical.of(codes, [*map(len, known)], dtype)
        self._features: Features = (
            categorical if numbers is None else Stacked.of(numbers.astype(dtype), categorical)
        )
        q = 0 if numbers is None else numbers.shape[1]
        names = list(columns or own or (f"x{q + j}" for j in range(k)))
        self._dictionaries = Dictionaries(
            columns=tuple(map(Dictionary, names, known)),
            numeric=tuple(before or (f"x{j}" for j in range(q))),
            named=bool(columns or own) or any(isinstance(given, list) for given in known),
        )

    @property
    def features(self) -> Features:
        """The rows as kernels see them."""
        return self._features

    @property
    def dictionaries(self) -> Dictionaries:
        """What the features stand for."""
        return self._dictionaries

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and features: numbers, and a column for each category."""
        return self._features.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._features.dtype

    @property
    def feature_names(self) -> list[str] | None:
        """The names that a model remembers; None where neither columns nor categories are named."""
        return self.dictionaries.feature_names() if self.dictionaries.named else None

    def get_feature_names_out(self) -> Array:
        """The names of all features: those of numeric columns, then ``column_category``."""
        return np.array(self.dictionaries.feature_names(), dtype=object)

    def tocsr(self) -> Any:
        """The rows as a ``scipy.sparse.csr_array``, for other libraries: several times as large."""
        return self._features.tocsr()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        raise TypeError(
            "OneHot: expected an estimator of daskgd, got an attempt to make a dense array of it; pass "
            "X.tocsr() where sparse arrays are taken"
        )

    def __len__(self) -> int:
        return len(self._features)

    def __getitem__(self, rows: Any) -> OneHot:
        """Some of the rows: a slice, positions or a mask."""
        if isinstance(rows, tuple):  # as scikit-learn asks: X[rows, ...]
            rows, *rest = rows
            if rest not in ([], [Ellipsis], [slice(None)]):
                raise IndexError("OneHot: expected an index of rows alone, as X[rows]; columns go together")
        if np.ndim(rows) == 0 and not isinstance(rows, slice):
            raise IndexError(f"OneHot: expected a slice, positions or a mask of rows, got {rows!r}")
        new = object.__new__(OneHot)
        new.__dict__.update(self.__dict__)
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                new._features = self._features.slice(start, max(start, stop))
                return new
            rows = np.arange(start, stop, step)
        rows = np.asarray(rows)
        new._features = self._features.select(rows if rows.size else rows.astype(np.intp))
        return new

    def __repr__(self) -> str:
        n, p = self.shape
        k, q = len(self.dictionaries.columns), len(self.dictionaries.numeric)
        of = f"{k} categorical column{'' if k == 1 else 's'}" + (f" and {q} of numbers" if q else "")
        return f"<OneHot: {n:,} rows of {of}, {p:,} features of {self.dtype}>"


def _check_dtype(dtype: np.dtype[Any], numbers: Features | None) -> None:
    """Raise ValueError for a dtype that is not of real numbers, or in which numbers would be others."""
    if dtype.kind not in "fiub":
        raise ValueError(f"dtype: expected one of real numbers or bool, got {dtype}")
    if numbers is not None and dtype.kind != "f" and not np.can_cast(numbers.dtype, dtype):
        raise ValueError(
            f"dtype: expected one that holds what numeric holds, {numbers.dtype}, got {dtype}; leave it "
            "out, or convert numeric first"
        )


def _names(X: Any) -> list[str] | None:
    """The names of the columns of a frame, if all are strings."""
    names = list(X.columns) if hasattr(X, "columns") else []
    return names if names and all(isinstance(name, str) for name in names) else None


def _categories(given: Any, j: int) -> range | list[Any]:
    """The categories of a column, by their values if they are known, else by number."""
    if isinstance(given, int | np.integer) and not isinstance(given, bool):
        if given < 0:
            raise ValueError(f"categories: expected 0 or more for column {j}, got {given}")
        return range(given)
    if np.ndim(given) != 1 or isinstance(given, str):
        raise ValueError(
            f"categories: expected a number of categories, or an array of them, for column {j}, got {given!r}"
        )
    found = list(given)
    if len(set(found)) < len(found):
        twice = next(value for value in found if found.count(value) > 1)
        raise ValueError(f"categories: expected each once in column {j}, got {twice!r} twice")
    return found


def _numbers(numeric: Any, codes: Array) -> tuple[Dense | Sparse | None, list[str] | None]:
    """The columns of numbers as features, and their names if they have any."""
    if numeric is None or 0 in np.shape(numeric)[1:]:
        return None, None
    found: Dense | Sparse
    if is_scipy_sparse(numeric):
        found = Sparse.of(numeric)
    else:
        array = np.asarray(numeric)
        if array.ndim != 2:
            raise ValueError(f"numeric: expected shape (n, q), got {array.shape}")
        found = Dense(np.ascontiguousarray(array))
    if found.dtype.kind not in "fiub":
        raise ValueError(f"numeric: expected real numbers or bool, got dtype {found.dtype}; convert it first")
    if len(found) != len(codes):
        raise ValueError(f"numeric: expected {len(codes)} rows, as codes have, got {len(found)}")
    return found, _names(numeric)
