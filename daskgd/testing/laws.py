"""What the checks share: rows in memory, a table of small problems, and comparing answers of any shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from daskgd.losses import Hinge, Huber, Logistic, Poisson, Softmax, Squared
from daskgd.models import Linear, LinearWithScale
from daskgd.penalties import L1, L2, ElasticNet
from daskgd.problems import Problem
from daskgd.rows.features import Dense, Features, as_features
from daskgd.rows.layout import Layout
from daskgd.rows.sparse import Sparse
from daskgd.rows.stacked import Stacked
from daskgd.rows.tiles import Rows

Array = NDArray[Any]


def require(ok: Any, sentence: str) -> None:
    """Raise AssertionError with the sentence unless `ok`; unlike ``assert``, also under ``python -O``."""
    if not ok:
        raise AssertionError(sentence)


# -- rows ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class ArraySource:
    """A Source over arrays or features in memory, for tests: what engines read blocks from.

    Attributes
    ----------
    layout : Layout
    X : array or Features
    y, sample_weight : arrays, or None.
    keep : (n,) of bool, optional
        Rows that a selection leaves; whole blocks may be empty.

    Examples
    --------
    >>> source = ArraySource(Layout(n_rows=5, block_rows=2, partition_blocks=1), np.eye(5))
    >>> [len(source.read(*source.layout.rows(b, b + 1))) for b in range(source.layout.n_blocks)]
    [2, 2, 1]
    """

    layout: Layout
    X: Any
    y: Array | None = None
    sample_weight: Array | None = None
    keep: Array | None = None

    @classmethod
    def of(cls, rows: Rows, block_rows: int, partition_blocks: int = 1) -> ArraySource:
        """The rows, cut into blocks of `block_rows`."""
        return cls(Layout(len(rows), block_rows, partition_blocks), rows.X, rows.y, rows.sample_weight)

    def read(self, start: int, stop: int) -> Rows:
        """The kept rows between `start` and `stop`."""
        rows = Rows(as_features(self.X), self.y, self.sample_weight, 0)
        if self.keep is None:
            return rows.slice(start, stop)
        at = start + np.flatnonzero(self.keep[start:stop])
        return replace(rows.select(at), start=start, kept=None)


def select_rows(rows: Rows, at: Any) -> Rows:
    """The rows at these positions, as if they began a dataset."""
    return replace(rows.select(np.arange(len(rows))[at]), start=0, kept=None)


def other_kinds(X: Features) -> list[Features]:
    """The same features as other kinds of them."""
    dense, half = X.toarray(), X.shape[1] // 2
    parts = Sparse.of_dense(dense[:, :half]), Dense(np.ascontiguousarray(dense[:, half:]))
    return [Sparse.of_dense(dense), Stacked.of(*parts)]


def toy_rows(n: int = 90, dtype: Any = np.float64, weights: bool = False) -> Rows:
    """Random rows: X ``(n, 3)`` of `dtype` and well conditioned, y of classes 0, 1 and 2, which also serve as
    numbers, and optionally weights, some of them zero.

    >>> toy_rows(5, "uint8").X.dtype, toy_rows(5).y.tolist()
    (dtype('uint8'), [2, 1, 2, 2, 1])
    """
    rng = np.random.default_rng(n)
    Z = rng.standard_normal((n, 3))
    noise = rng.gumbel(size=(n, 3))
    y = (Z @ np.array([[1.0, -1.0, 0.5], [0.0, 1.0, -1.0], [0.5, 0.5, 0.0]]) + noise).argmax(axis=1)
    X = np.clip(np.rint(Z + 3), 0, 6) if np.dtype(dtype).kind in "iub" else Z
    s = np.where(rng.random(n) < 0.1, 0.0, rng.random(n) + 0.5) if weights else None
    return Rows(as_features(X.astype(dtype)), y, s, 0)


def thin_rows(rows: Rows) -> Rows:
    """The rows with zeros in most places: some rows, and the second column, hold nothing else.

    >>> X = thin_rows(toy_rows(90)).X.toarray()
    >>> bool(X[:, 1].any() or X[8].any()), round(float((X == 0).mean()), 1)
    (False, 0.8)
    """
    X = rows.X.toarray().copy()
    X[np.random.default_rng(5).random(X.shape) < 0.5] = 0
    X[::4], X[:, 1] = 0, 0
    return replace(rows, X=as_features(X))


def sparse_rows(rows: Rows) -> Rows:
    """The same rows as :class:`~daskgd.rows.sparse.Sparse` features.

    >>> sparse_rows(thin_rows(toy_rows(90))).X.n_stored
    67
    """
    from scipy.sparse import csr_array

    return replace(rows, X=as_features(csr_array(rows.X.toarray())))


# -- problems -----------------------------------------------------------------------------------


class Example(NamedTuple):
    """A small problem with a name and rows that suit it."""

    name: str
    problem: Problem
    rows: Rows


def examples(dtype: Any = np.float64) -> list[Example]:
    """A table of small problems, convex and well conditioned, with and without weights.

    >>> [example.name for example in examples()][:3]
    ['ridge', 'ridge, two outputs', 'logistic']
    """
    plain, weighted = toy_rows(90, dtype), toy_rows(90, dtype, weights=True)
    assert plain.y is not None
    X = plain.X.toarray()
    numbers = Rows(plain.X, X @ np.array([1.0, -2.0, 0.5]) + plain.y, None, 0)
    pair = Rows(plain.X, np.stack([plain.y, 1.0 - X[:, 0]], axis=1), weighted.sample_weight, 0)
    two, three = np.array([0, 1]), np.array([0, 1, 2])
    binary = Rows(plain.X, (plain.y == 1).astype(int), None, 0)
    heavy = np.array([1.0, 3.0])
    shifted = Rows(as_features(X * np.array([1, 2, 4], dtype) + 8), binary.y, None, 0)
    standard = Linear(3, center=np.full(3, 8.0), scale=np.array([1.0, 2.0, 4.0]))
    l2 = L2(0.1)
    return [
        Example("ridge", Problem(Squared(), Linear(3), l2), numbers),
        Example("ridge, two outputs", Problem(Squared(), Linear(3, 2), l2), pair),
        Example("logistic", Problem(Logistic(), Linear(3), l2, two), binary),
        Example(
            "logistic, weighted",
            Problem(Logistic(), Linear(3, 1, False), l2, two, heavy),
            select_rows(binary, slice(60)),
        ),
        Example("logistic, standardised", Problem(Logistic(), standard, l2, two), shifted),
        Example("softmax", Problem(Softmax(), Linear(3, 3), l2, three), weighted),
        Example("squared hinge", Problem(Hinge(squared=True), Linear(3), l2, two), binary),
        Example("squared hinge, three classes", Problem(Hinge(squared=True), Linear(3, 3), l2, three), plain),
        Example("hinge", Problem(Hinge(), Linear(3), l2, two), binary),
    ]


def hard_examples() -> list[Example]:
    """More small problems, for solvers: counts, a scale to fit, and penalties with kinks.

    >>> [example.name for example in hard_examples()][:2]
    ['counts', 'huber']
    """
    plain = toy_rows(90)
    assert plain.y is not None
    X = plain.X.toarray()
    numbers = Rows(plain.X, X @ np.array([1.0, -2.0, 0.5]) + plain.y, None, 0)
    binary = Rows(plain.X, (plain.y == 1).astype(int), None, 0)
    two, three, l2 = np.array([0, 1]), np.array([0, 1, 2]), L2(0.1)
    return [
        Example("counts", Problem(Poisson(), Linear(3), l2), plain),
        Example("huber", Problem(Huber(), LinearWithScale(3), l2), numbers),
        Example("lasso", Problem(Squared(), Linear(3), L1(0.3)), numbers),
        Example("elastic net, positive", Problem(Squared(), Linear(3), ElasticNet(0.1, 0.1, True)), numbers),
        Example("logistic, l1", Problem(Logistic(), Linear(3), L1(0.05), two), binary),
        Example(
            "softmax, elastic net", Problem(Softmax(), Linear(3, 3), ElasticNet(0.02, 0.1), three), plain
        ),
        Example("squared hinge, l1", Problem(Hinge(squared=True), Linear(3, 3), L1(0.05), three), plain),
    ]


def start(problem: Problem) -> Array:
    """Where to begin: zero, and a scale of 1 where one is fitted."""
    w = np.zeros(problem.model.size)
    if problem.model.scales:
        w[-1] = 1.0
    return w


# -- comparing ----------------------------------------------------------------------------------


def leaves(value: Any) -> list[Array]:
    """All arrays and numbers in a nest of mappings, dataclasses and sequences, in order; of features as a
    dense array."""
    if hasattr(value, "toarray"):
        return [value.toarray()]
    if isinstance(value, Mapping):
        parts: list[Any] = list(value.values())
    elif is_dataclass(value) and not isinstance(value, type):
        parts = [getattr(value, f.name) for f in fields(value)]
    elif isinstance(value, tuple | list):
        parts = list(value)
    else:
        return [np.asarray(value)]
    return [leaf for part in parts for leaf in leaves(part)]


def same(a: Any, b: Any) -> bool:
    """Whether two answers are equal, number by number, with ``==`` (NaN equals NaN)."""
    x, y = leaves(a), leaves(b)
    return len(x) == len(y) and all(
        p.shape == q.shape and np.array_equal(p, q, equal_nan=p.dtype.kind == "f" == q.dtype.kind)
        for p, q in zip(x, y, strict=True)
    )


def close(a: Any, b: Any, rtol: float, *, counts: bool = True) -> bool:
    """Whether two answers agree to `rtol` of the largest number of each array; integers exactly, or not at
    all without `counts`."""
    x, y = leaves(a), leaves(b)
    if len(x) != len(y):
        return False
    for p, q in zip(x, y, strict=True):
        if p.dtype.kind != "f":
            if counts and not np.array_equal(p, q):
                return False
        elif p.shape != q.shape or not np.allclose(
            p, q, rtol=0, atol=rtol * max(1.0, np.abs(p).max(initial=0))
        ):
            return False
    return True
