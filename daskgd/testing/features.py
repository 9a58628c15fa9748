"""Checks of features: whatever their kind, they are the dense array that they stand for."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.rows.categorical import Categorical
from daskgd.rows.features import Dense, Features, compute_dtype
from daskgd.rows.invalid_rows import InvalidRows
from daskgd.rows.sparse import Sparse
from daskgd.rows.stacked import Stacked
from daskgd.rows.statistics import Comoments, Moments
from daskgd.storage.records import pack, unpack
from daskgd.testing.laws import require
from daskgd.training.journal import digest

Array = NDArray[Any]

NEAR: dict[np.dtype[Any], float] = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-12}
"""How near products come to those of the dense array, of the largest number there is."""


def _numbers(seed: int, n: int, p: int, share: float = 0.4) -> Array:
    """Numbers of which many are 0: rows of zeros, a column of zeros, and one that is the same everywhere."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) * (rng.random((n, p)) < share)
    X[1::4] = 0.0
    X[:, 1] = 0.0
    X[:, -1] = 3.7
    return X


def _codes(seed: int, n: int, sizes: tuple[int, ...], missing: float = 0.0) -> Categorical:
    """Codes with a category that never comes, and one column that has one category."""
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, max(size - 1, 1), n) for size in sizes], axis=1)
    codes[:, -1] = sizes[-1] - 1
    codes[rng.random(codes.shape) < missing] = -1
    return Categorical.of(codes.astype(np.int16), sizes)


_DENSE, _SPARSE = Dense(_numbers(0, 40, 4)), Sparse.of_dense(_numbers(1, 40, 6))

FEATURES: dict[str, Features] = {
    "dense": _DENSE,
    "dense, float32": _DENSE.astype(np.float32),
    "dense, far from 0": Dense(_numbers(2, 40, 3) + 1e4),
    "dense, bytes": Dense(np.arange(60, dtype=np.uint8).reshape(20, 3) % 7),
    "dense, in columns": Dense(np.asfortranarray(_numbers(3, 30, 5))),
    "dense, no rows": Dense(np.zeros((0, 3))),
    "sparse": _SPARSE,
    "sparse, float32": _SPARSE.astype(np.float32),
    "sparse, far from 0": Sparse.of_dense(_numbers(4, 60, 30, 0.05) + np.where(np.arange(30) == 2, 1e4, 0)),
    "sparse, wide": Sparse.of_dense(_numbers(5, 30, 90, 0.03)),
    "sparse, whole numbers": Sparse.of_dense(np.round(3 * _numbers(6, 30, 5)).astype(np.int32)),
    "sparse, zeros stored": Sparse(
        _SPARSE.values * (np.arange(_SPARSE.n_stored) % 3 > 0), _SPARSE.indices, _SPARSE.indptr, 6
    ),
    "sparse, no rows": _SPARSE.slice(0, 0),
    "categorical": _codes(7, 40, (3, 5, 2)),
    "categorical, float32": _codes(8, 40, (4, 2), 0.2).astype(np.float32),
    "categorical, missing": _codes(9, 40, (4, 1, 3), 0.3),
    "categorical, all missing": Categorical.of(np.full((5, 2), -1), [2, 3]),
    "categorical, wide": _codes(10, 3, (50, 40), 0.1),
    "categorical, a column of no categories": Categorical.of(np.array([[-1, 0], [-1, 1]]), [0, 2]),
    "categorical, no rows": _codes(7, 40, (3, 5, 2)).slice(0, 0),
    "numbers and categories": Stacked.of(_DENSE, _codes(11, 40, (3, 4), 0.1)),
    "numbers and categories, float32": Stacked.of(
        _DENSE.astype(np.float32), _codes(12, 40, (3, 4)).astype(np.float32)
    ),
    "all kinds": Stacked.of(
        _codes(13, 40, (3, 2), 0.2), _SPARSE, Dense(_numbers(2, 40, 3) + 1e4), _codes(14, 40, (5,))
    ),
    "numbers, and a column of no categories": Stacked.of(
        _DENSE, Categorical.of(np.full((len(_DENSE), 1), -1), [0])
    ),
    "numbers and categories, no rows": Stacked.of(_DENSE, _codes(11, 40, (3, 4))).slice(0, 0),
}
"""Specimens of every kind of features of daskgd, by name."""


def check_features(X: Features, name: str | None = None) -> None:
    """Check that features do what their dense array does, by every method.

    Products with vectors and matrices, in float32 and float64, plain and standardised; moments, second
    moments and sums of squares, with and without weights, of which one of 2 is a row twice and one of 0 a row
    absent, and exact for columns that do not change; slices, selections, columns, and what is put together
    again; rows that are not finite; copies that were pickled, or written to a record, to the same bits, and
    a digest by which checkpoints tell them from others. Nothing is written to.

    Raises
    ------
    AssertionError
        With what is wrong.

    Examples
    --------
    >>> from daskgd.rows.features import Dense
    >>> check_features(Dense(np.eye(3)))
    """
    name = name or f"{type(X).__name__} {X.shape}"
    kept = [array.copy() for array in X.arrays]
    twin = np.array(X.toarray())
    _check_shape(X, twin, name)
    _check_rows(X, twin, name)
    _check_columns(X, twin, name)
    for dtype in NEAR:
        _check_products(X, twin, dtype, name)
        _check_standardised(X, twin, dtype, name)
    for weights in _weights(twin):
        _check_sums(X, twin, weights, name)
    _check_finite(X, twin, name)
    _check_copies(X, name)
    require(all(map(np.array_equal, kept, X.arrays)), f"{name}: writes to its own arrays")


def _require_near(got: Any, expected: Any, near: float, what: str) -> None:
    """Raise AssertionError unless arrays agree to `near` of the largest number, or of 1."""
    got, expected = np.asarray(got), np.asarray(expected)
    require(got.shape == expected.shape, f"{what}: expected shape {expected.shape}, got {got.shape}")
    off = float(np.abs(got.astype(float) - expected).max(initial=0.0))
    size = max(1.0, float(np.abs(expected).max(initial=0.0)))
    require(
        off <= near * size, f"{what}: {off / size:.1e} off what the dense array gives, more than {near:g}"
    )


def _require_twin(X: Features, twin: Array, what: str) -> None:
    """Raise AssertionError unless features are these numbers."""
    require(X.shape == twin.shape, f"{what}: expected shape {twin.shape}, got {X.shape}")
    require(np.array_equal(X.toarray(), twin), f"{what}: expected other numbers")


def _check_shape(X: Features, twin: Array, name: str) -> None:
    _require_twin(X, twin, name)
    require(len(X) == len(twin), f"{name}: expected a length of {len(twin)}, got {len(X)}")
    require(X.dtype == twin.dtype, f"{name}: expected dtype {twin.dtype}, got {X.dtype}")
    _require_near(X.tocsr().toarray(), twin, 0.0, f"{name}.tocsr")
    nbytes = sum(array.nbytes for array in X.arrays)
    require(nbytes == X.nbytes, f"{name}: expected nbytes to be {nbytes}, of its arrays, got {X.nbytes}")
    require(
        np.count_nonzero(twin) <= X.n_stored <= twin.size or X.n_stored == sum(a.size for a in X.arrays),
        f"{name}: expected n_stored to count entries that are not 0, of {twin.size}, got {X.n_stored}",
    )
    for outputs in (1, 10):
        height = X.tile_rows(X.dtype, outputs)
        require(isinstance(height, int) and height > 0, f"{name}: expected a height of tiles, got {height!r}")


def _check_rows(X: Features, twin: Array, name: str) -> None:
    n = len(X)
    for a, b in ((0, n), (0, n // 2), (n // 3, n - 1), (n, n + 5), (n // 2, n // 2)):
        _require_twin(X.slice(a, b), twin[a:b], f"{name}.slice({a}, {b})")
    rng = np.random.default_rng(n)
    masks = rng.random(n) < 0.5, np.zeros(n, dtype=bool), np.ones(n, dtype=bool)
    twice = rng.integers(0, n, 2 * n) if n else np.zeros(0, np.intp)
    for at in (*masks, rng.permutation(n), np.zeros(0, np.intp), twice):
        _require_twin(X.select(at), twin[at], f"{name}.select")
        for dtype in NEAR:
            some = X.select(at, dtype)
            require(some.dtype == dtype, f"{name}.select: expected {dtype}, got {some.dtype}")
            _require_twin(some, twin[at].astype(dtype), f"{name}.select in {dtype}")
    parts = [X.slice(0, n // 3), X.slice(n // 3, n // 2), X.slice(n // 2, n)]
    _require_twin(parts[0].concat(*parts[1:]), twin, f"{name}.concat")
    _require_twin(parts[0].concat(), twin[: n // 3], f"{name}.concat of nothing")
    more = np.round(rng.standard_normal((3, X.shape[1])), 1).astype(X.dtype)
    _require_twin(X.concat(X.of_array(more)), np.vstack([twin, more]), f"{name}.concat with of_array")
    room, start = X.room(n), 0
    for part in parts:
        room.put(start, part)
        start += len(part)
    _require_twin(room.features(), twin, f"{name}.room")


def _check_columns(X: Features, twin: Array, name: str) -> None:
    p = X.shape[1]
    rng = np.random.default_rng(p)
    for at in (np.arange(p), np.flatnonzero(rng.random(p) < 0.5), np.array([p - 1, 0]), np.zeros(0, np.intp)):
        some = X.columns(at)
        _require_twin(some, twin[:, at], f"{name}.columns({at.tolist()})")
        require(some.dtype == X.dtype, f"{name}.columns: expected {X.dtype}, got {some.dtype}")


def _check_products(X: Features, twin: Array, dtype: np.dtype[Any], name: str) -> None:
    n, p = twin.shape
    rng, near = np.random.default_rng(1), NEAR[dtype]
    exact = twin.astype(np.float64)
    _require_twin(X.astype(dtype), twin.astype(dtype), f"{name}.astype({dtype})")
    require(X.astype(X.dtype) is X, f"{name}.astype: expected no copy in its own dtype")
    ready = X.prepared(dtype)
    require(ready.dtype == dtype, f"{name}.prepared: expected {dtype}, got {ready.dtype}")
    require(X.prepared().dtype == compute_dtype(X.dtype), f"{name}.prepared: expected the compute dtype")
    for Z in (X, ready):
        for shape in ((), (1,), (3,)):
            W = rng.standard_normal((p, *shape)).astype(dtype)
            V = rng.standard_normal((n, *shape)).astype(dtype)
            for what, got, expected in (("dot", Z.dot(W), exact @ W), ("t_dot", Z.t_dot(V), exact.T @ V)):
                require(got.dtype == dtype, f"{name}.{what}: expected {dtype}, got {got.dtype}")
                _require_near(got, expected, near, f"{name}.{what} in {dtype} with {shape}")
            if len(shape):
                _require_near(Z.dot(np.asfortranarray(W)), exact @ W, near, f"{name}.dot, by columns")
                _require_near(Z.t_dot(np.asfortranarray(V)), exact.T @ V, near, f"{name}.t_dot, by columns")


def _check_standardised(X: Features, twin: Array, dtype: np.dtype[Any], name: str) -> None:
    n, p = twin.shape
    rng = np.random.default_rng(2)
    W, V = (rng.standard_normal((m, 2)).astype(dtype) for m in (p, n))
    center = rng.standard_normal((p,))
    scale = rng.uniform(0.5, 2.0, (p,))
    pairs: tuple[tuple[Array | None, Array | None], ...] = (
        (None, None),
        (center, None),
        (None, scale),
        (center, scale),
    )
    size = max(1.0, float(np.abs(twin).max(initial=0.0)))  # what is shifted may lose digits of X
    for m, s in pairs:
        Z = (twin.astype(np.float64) - (0.0 if m is None else m)) / (1.0 if s is None else s)
        found = X.standardised(m, s, dtype)
        require(len(found) == n, f"{name}.standardised: expected a length of {n}, got {len(found)}")
        what = f"{name}.standardised in {dtype}"
        _require_near(found.dot(W), Z @ W, NEAR[dtype] * size, f"{what}, dot")
        _require_near(found.dot(W[:, 0]), Z @ W[:, 0], NEAR[dtype] * size, f"{what}, dot")
        _require_near(found.t_dot(V), Z.T @ V, NEAR[dtype] * size, f"{what}, t_dot")
    shifts: tuple[Array | float, ...] = (0.0, 0.5, center)
    for shift in shifts:
        exact = twin.astype(np.float64) - shift
        for a, b in ((0, n), (n // 3, n + 2)):
            _require_near(X.minus(shift, a, b), exact[a:b], 0.0, f"{name}.minus")
            out = np.empty((len(exact[a:b]), p + 1))[:, :p]
            require(X.minus(shift, a, b, out=out) is out, f"{name}.minus: expected out itself")
            _require_near(out, exact[a:b], 0.0, f"{name}.minus(out=)")
        V = V.astype(np.float64)
        for C in (V, abs(V)):
            _require_near(X.squares_t_dot(C, shift), (exact**2).T @ C, 1e-11, f"{name}.squares_t_dot")
            for c in (C[:, 0], C[:, 0].astype(dtype)):
                product = exact.T @ (exact * c[:, None])
                _require_near(X.sandwich(c, shift), product, 1e-11, f"{name}.sandwich")


def _weights(twin: Array) -> Iterator[Array | None]:
    """None, weights, some that are whole numbers, zeros, and some of rows alone in which a column is the
    same, and not 0."""
    n = len(twin)
    rng = np.random.default_rng(3)
    yield None
    yield rng.uniform(0.5, 2.0, n)
    yield rng.integers(0, 3, n).astype(float)
    yield np.zeros(n)
    rows, columns = np.nonzero(twin)
    for i in {0, len(rows) // 2, len(rows) - 1} if len(rows) else ():
        yield np.where(twin[:, columns[i]] == twin[rows[i], columns[i]], rng.uniform(0.5, 2.0, n), 0.0)


def _check_sums(X: Features, twin: Array, s: Array | None, name: str) -> None:
    n, p = twin.shape
    rng = np.random.default_rng(4)
    exact = twin.astype(np.float64)
    name += "" if s is None else ", weighted"
    times = np.ones(n, int) if s is None else s.astype(int)
    rows = np.repeat(np.arange(n), times)
    whole = s is None or np.array_equal(times, s)
    for found in (X.moments(s), X.finite_moments(s)):
        expected = Moments.of(exact, s)
        require(found.weight == expected.weight, f"{name}.moments: expected a weight of {expected.weight}")
        _require_near(found.mean, expected.mean, 1e-13, f"{name}.moments, mean")
        _require_near(found.deviation, expected.deviation, 1e-11, f"{name}.moments, deviation")
        if whole and s is not None:
            _require_near(found.mean, X.select(rows).moments(None).mean, 1e-13, f"{name}.moments, mean")
    counted = exact if s is None else exact[s > 0]
    constant = np.ptp(counted, axis=0) == 0 if found.weight else np.zeros(p, dtype=bool)
    require(not found.deviation[constant].any(), f"{name}.moments: a column that does not change deviates")
    require(
        np.array_equal(found.mean[constant], counted[:1].ravel()[constant] if constant.any() else []),
        f"{name}.moments: the mean of a column that does not change is another",
    )
    targets: tuple[Array | None, ...] = (
        None,
        rng.standard_normal((n,)),
        rng.standard_normal((n, 2)).astype(np.float32) + 100,
    )
    for y in targets:
        both = X.comoments(y, s)
        like = Comoments.of(exact, y, s)
        require(both.weight == like.weight, f"{name}.comoments: expected a weight of {like.weight}")
        _require_near(both.mean, like.mean, 1e-12, f"{name}.comoments, mean")
        require(not np.triu(both.matrix, 1).any(), f"{name}.comoments: the upper triangle is not 0")
        require(both.matrix.flags.f_contiguous, f"{name}.comoments: expected a matrix in Fortran's order")
        _require_near(both.matrix, like.matrix, 1e-10, f"{name}.comoments")
        require(
            not both.full[:p][constant].any(), f"{name}.comoments: a column that does not change deviates"
        )
        halves = (slice(0, n // 3), slice(n // 3, n))
        one, other = (
            X.slice(h.start, h.stop).comoments(None if y is None else y[h], None if s is None else s[h])
            for h in halves
        )
        _require_near((one + other).full, like.full, 1e-10, f"{name}.comoments, added")


def _check_finite(X: Features, twin: Array, name: str) -> None:
    require(X.nonfinite(7) == InvalidRows(), f"{name}.nonfinite: finds some among finite numbers")
    at = [i for i, a in enumerate(X.arrays) if a.dtype.kind == "f" and a.size > 4]
    for chosen in (*([i] for i in at), at):
        arrays = [a.copy() for a in X.arrays]
        for i in chosen:
            flat = arrays[i].reshape(-1, order="A")
            flat[[2, flat.size // 2, -1]] = np.nan, np.inf, -np.inf
        bad = X.with_arrays(tuple(arrays))
        wrong = bad.toarray()
        for numbers in (7, 100 + 3 * np.arange(len(X))):
            found, expected = bad.nonfinite(numbers), InvalidRows.nonfinite(wrong, numbers)
            require(
                (found.rows, str(found.first)) == (expected.rows, str(expected.first)),
                f"{name}.nonfinite: expected {expected}, got {found}",
            )
        like = Moments.of(np.where(np.isfinite(wrong), wrong, 0).astype(np.float64), None)
        moments = bad.finite_moments(None)
        _require_near(moments.mean, like.mean, 1e-12, f"{name}.finite_moments")
        with np.errstate(invalid="ignore", over="ignore"):
            there = np.isfinite(bad.moments(None).mean)
            means = np.isfinite(wrong).all(axis=0)
        require(np.array_equal(there, means), f"{name}.moments: expected numbers where the column has them")


def _check_copies(X: Features, name: str) -> None:
    found = X.with_arrays(tuple(array.copy() for array in X.arrays))
    odd = X.with_arrays(tuple(map(_misaligned, X.arrays))).prepared()
    copies = {
        "with_arrays": found,
        "pickle": pickle.loads(pickle.dumps(X)),
        "record": unpack(pack({"X": X}))["X"],
        "prepared": odd,
    }
    for what, copy in copies.items():
        copy = Dense(copy) if isinstance(copy, np.ndarray) else copy  # as records hold it
        ready, w = X.prepared(), np.linspace(-1, 1, X.shape[1])
        require(type(copy) is type(X), f"{name}: {what} gives a {type(copy).__name__}")
        for a, b in zip(copy.prepared().arrays, ready.arrays, strict=True):
            require(a.flags.aligned and np.array_equal(a, b), f"{name}: {what} gives other arrays")
        _require_twin(copy.prepared(), ready.toarray(), f"{name}, {what}")
        require(np.array_equal(copy.prepared().dot(w), ready.dot(w)), f"{name}: {what} gives other bits")
    require(digest([found]) == digest([X]), f"{name}: a copy has another digest")  # type: ignore[list-item]
    if len(X):
        fewer = X.slice(0, len(X) - 1)
        require(digest([fewer]) != digest([X]), f"{name}: fewer rows have the same digest")  # type: ignore[list-item]


def _misaligned(array: Array) -> Array:
    """A copy at an odd address."""
    room = np.empty(array.nbytes + 1, np.uint8)[1:]
    copy = room.view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
