"""Checks of queries: that what they return adds, and that their answers know nothing of blocks and tiles."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.engines.serial import Serial
from daskgd.losses import Hinge, Poisson
from daskgd.penalties import L2
from daskgd.problems import Problem
from daskgd.queries import (
    Ask,
    Curvature,
    CurvatureArrowhead,
    Gradient,
    GradientOnly,
    Gradients,
    Hessian,
    HessianDiagonal,
    Hessians,
    Line,
    Local,
    Part,
    Product,
    Query,
    Residuals,
    Score,
    SecondMoments,
    SecondMomentsAnswer,
    Share,
    Spread,
    Survey,
)
from daskgd.queries.by_cell import ByCell
from daskgd.queries.columns import ColumnStatistics
from daskgd.queries.excess import Excess
from daskgd.queries.leave_one_out import LeaveOneOut
from daskgd.queries.pearson import Pearson
from daskgd.queries.recession import Recession
from daskgd.queries.sample import Sample
from daskgd.queries.stored_survey import SurveyToStore
from daskgd.queries.sums import Sums
from daskgd.queries.targets import TargetMoments, TargetValues
from daskgd.rows.features import Features
from daskgd.rows.subsets import HashedCells
from daskgd.rows.tiles import Rows
from daskgd.solvers.local_gd import LocalSteps
from daskgd.testing.laws import (
    ArraySource,
    close,
    examples,
    hard_examples,
    other_kinds,
    require,
    same,
    select_rows,
    sparse_rows,
    thin_rows,
)
from daskgd.training.journal import digest

Array = NDArray[Any]


def _by_sign(X: Features) -> Array:
    """A category for each row: whether its first number is positive."""
    return (X.columns(np.array([0])).toarray()[:, 0] > 0).astype(np.intp)


def _leave_one_out(rows: Rows) -> Query:
    X, y = rows.X.toarray().astype(float), np.asarray(rows.y, dtype=float).reshape(len(rows), -1)
    both = np.hstack([X, y])
    mean = both.mean(axis=0)
    moments = SecondMomentsAnswer(len(X), float(len(X)), mean, (both - mean).T @ (both - mean))
    return LeaveOneOut.of(moments, X.shape[1], np.array([0.1, 10.0]), intercept=True)


def _examples() -> tuple[tuple[Query, Problem | None, Rows], ...]:
    out: list[tuple[Query, Problem | None, Rows]] = []
    for name, problem, rows in examples():
        rng = np.random.default_rng(3)
        w, d = rng.standard_normal((2, problem.model.size))
        out += [(Gradient(w), problem, rows), (Line(w, d, np.array([0.0, 0.5, 1.0, 2.0])), problem, rows)]
        out += [(Curvature(w), problem, rows), (Hessian(w), problem, rows), (GradientOnly(w), problem, rows)]
        out += [(Product(w, d), problem, rows), (Score(w), problem, rows), (Sample(0.5), None, rows)]
        if rows.y is None or rows.y.dtype.kind != "U":
            out.append((SurveyToStore(7, Sample(0.5)), None, rows))  # a pruner is of one dataset
        survey = Survey(classification=problem.labels is not None)
        out += [(survey, None, rows), (ByCell(survey, HashedCells(2)), None, rows)]
        out.append((ColumnStatistics(numbers=(0, 2), distinct=(1,), weighted=True), None, rows))
        if rows.y is not None and rows.y.ndim == 1 and rows.y.dtype.kind != "U":
            moments = TargetMoments(((_by_sign, 2),), folds=3, weighted=True)
            out += [(TargetValues(weighted=True), None, rows), (moments, None, rows)]
        if problem.loss.kind == "regression":
            centre = rows.X.toarray().mean(axis=0)
            W = rng.standard_normal((3, problem.model.outputs))
            residuals = Residuals(W, centre, rng.standard_normal(problem.model.outputs))
            out += [(SecondMoments(), None, rows), (residuals, None, rows)]
            out.append((_leave_one_out(rows), None, rows))
        if problem.loss.smooth and problem.model.linear:
            out.append((HessianDiagonal((w, d)), problem, rows))
            out.append((Recession(w, rng.standard_normal((problem.model.size, 3))), problem, rows))
        out.append((Part(Gradient(w), Share(0, 0, 0, 1)), problem, rows))
        if "weighted" not in name:
            work = LocalSteps(step=0.1, steps=3, batch_size=None, seed=0, round=0)
            out += [(Local(w, work), problem, rows), (Spread(w), problem, rows)]
        if problem.model.one_column and problem.loss.smooth:
            out.append((CurvatureArrowhead(w), problem, rows))
        if problem.model.one_column:
            other = replace(problem, penalty=L2(0.3))
            stack = {11: (problem, Gradient(w)), 2: (other, Gradient(d)), 3: (problem, Gradient(-w))}
            out.append((Gradients.of(stack), None, rows))
            out.append(
                (Gradients.of({at: (one, GradientOnly(q.w)) for at, (one, q) in stack.items()}), None, rows)
            )
            out.append((Hessians.of((problem, other), (w, d), rows), None, rows))
        if isinstance(problem.loss, Hinge) and problem.model.outputs == 1 and not problem.loss.squared:
            out.append((Excess(w), replace(problem, loss=Hinge(width=0.5)), rows))
    for _, problem, rows in hard_examples():
        if isinstance(problem.loss, Poisson):
            out.append((Pearson(np.full(problem.model.size, 0.1), 1.0), problem, rows))
    return tuple(out)


QUERIES: tuple[tuple[Query, Problem | None, Rows], ...] = _examples()
"""Every query of daskgd that is asked of data, with a problem and rows to ask it about."""

RTOL: dict[type[Query], float] = {Hessians: 1e-5}
"""Agreement asked of queries that compute in float32 whatever the rows."""


def check_query(
    query: Query, problem: Problem | None, rows: Rows, rtol: float | None = None, sparse: bool = True
) -> None:
    """Check that a query keeps its contract on some rows.

    However the rows are cut into blocks (for partition scope: the blocks within a partition), the answer is
    the same to rounding; sums merge in any order; no rows contribute the zero; a weight of 2 is a row twice
    (unless the query is `by_row_number`), a weight of 0 a row absent; features that are not dense give the
    same answer; query and sums pickle; rows and query are left alone.

    Parameters
    ----------
    query : Query
    problem : Problem or None
    rows : Rows
        At least a dozen. Labels should occur often.
    rtol : float, optional
        Agreement asked for, relative to the largest number of each array; by default 1e-9, and 1e-5 of
        queries that compute in float32.
    sparse : bool
        Whether the same rows, with zeros among them, are to be asked about as sparse ones too.

    Examples
    --------
    >>> from daskgd.testing import toy_rows
    >>> check_query(Survey(classification=True), None, toy_rows())
    """
    name = type(query).__name__
    rtol = RTOL.get(type(query), 1e-9) if rtol is None else rtol
    require(
        query.scope in ("tile", "block", "partition"),
        f"{name}: expected scope tile, block or partition, got {query.scope!r}",
    )
    before, kept = digest([query]), pickle.dumps(rows)
    whole = _answer(query, problem, rows, len(rows))
    for block_rows in (len(rows) // 2 + 1, 7, 1):
        cut = _answer(query, problem, rows, block_rows)
        require(close(whole, cut, rtol), f"{name}: blocks of {block_rows} rows give {cut}, one block {whole}")
    for X in other_kinds(rows.X):
        other = _answer(query, problem, replace(rows, X=X), 7)
        kind = type(X).__name__.lower()
        require(close(whole, other, rtol), f"{name}: {kind} features give {other}, dense ones {whole}")
    _check_sums(query, problem, rows, rtol)
    _check_weights(query, problem, rows, rtol)
    again = pickle.loads(pickle.dumps(query))
    require(digest([again]) == before, f"{name}: pickled, it is another query")
    require(
        same(_answer(again, problem, rows, 7), _answer(query, problem, rows, 7)), f"{name}: does not pickle"
    )
    require(digest([query]) == before and pickle.dumps(rows) == kept, f"{name}: changes the rows or itself")
    if sparse:
        _check_sparse(query, problem, rows, rtol)


def _check_sparse(query: Query, problem: Problem | None, rows: Rows, rtol: float) -> None:
    """The rows with zeros in most places have the same answers as dense and as sparse ones, in any blocks."""
    name, thin = type(query).__name__, thin_rows(rows)
    few, near = sparse_rows(thin), 1e-10 if rtol <= 1e-9 else rtol
    expected = _answer(query, problem, thin, 7)
    for block_rows in (len(rows), 7):
        found = _answer(query, problem, few, block_rows)
        require(close(expected, found, near), f"{name}: of sparse rows {found}, of dense ones {expected}")
    _check_sums(query, problem, few, rtol)
    _check_weights(query, problem, few, rtol)


def _answer(query: Query, problem: Problem | None, rows: Rows, block_rows: int) -> Any:
    blocks = 1
    while query.scope == "partition" and blocks * block_rows < len(rows):
        blocks *= 2
    return Serial(ArraySource.of(rows, block_rows, blocks)).sweep([Ask(problem, query)])[0]


def sums_of(query: Query, problem: Any, rows: Rows) -> Sums:
    """What a query makes of these rows, as one block or partition."""
    if query.scope == "partition":
        return query.partition(problem, rows, None)[0]
    if query.scope == "block":
        return query.block(problem, rows)
    return reduce(add, [query.tile(problem, tile) for tile in rows.tiles()])


def _check_sums(query: Query, problem: Any, rows: Rows, rtol: float) -> None:
    name, rng = type(query).__name__, np.random.default_rng(0)
    cuts = np.linspace(0, len(rows), 10).astype(int)
    parts = [sums_of(query, problem, rows.slice(int(a), int(b))) for a, b in pairwise(cuts)]
    left = query.answer(problem, reduce(add, parts))
    right = query.answer(problem, reduce(lambda a, b: b + a, reversed(parts)))
    require(close(left, right, rtol), f"{name}: merging is not associative: {left} or {right}")
    heap = list(parts)
    while len(heap) > 1:
        i = int(rng.integers(len(heap) - 1))
        heap[i : i + 2] = [heap[i] + heap[i + 1]]
    require(close(left, query.answer(problem, heap[0]), rtol), f"{name}: merging is not associative")
    zero, some = sums_of(query, problem, rows.slice(0, 0)), parts[0]
    require(same(zero + some, some) and same(some + zero, some), f"{name}: no rows are not the zero: {zero}")
    require(same(pickle.loads(pickle.dumps(some)), some), f"{name}: its sums do not pickle")


def _check_weights(query: Query, problem: Any, rows: Rows, rtol: float) -> None:
    name, n = type(query).__name__, len(rows)
    times = np.ones(n, dtype=int)
    times[1::3], times[n // 2 :: 5] = 2, 0
    s = np.ones(n) if rows.sample_weight is None else rows.sample_weight
    weighted = Rows(rows.X, rows.y, s * times, 0)
    if query.by_row_number:
        left, right = (
            query.answer(problem, sums_of(query, problem, some))
            for some in (weighted, weighted.select(times > 0))
        )
        ok = close(left, right, rtol, counts=False)
        require(ok, f"{name}: weights of 0 give {left}, rows left out {right}")
        return
    repeated = select_rows(rows, np.repeat(np.arange(n), times))
    # Numbers of rows may differ, and are integers.
    a, b = _answer(query, problem, weighted, 7), _answer(query, problem, repeated, 7)
    require(
        close(a, b, rtol, counts=False),
        f"{name}: weights of 0 and 2 give {a}, rows left out and rows twice {b}",
    )
