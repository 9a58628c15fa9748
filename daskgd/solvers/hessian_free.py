"""The Hessian over rows in memory without a matrix: products with it, a preconditioner, conjugate gradients.

For many parameters. A dense Hessian costs n p^2 K^2 operations and d^3 for its factors; a product with it
costs 4 n p K, and a good preconditioner leaves some dozen of them. Everything is made by tiles, and nothing
of size n K^2 or d^2 is formed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigvalsh_tridiagonal

from daskgd.problems import Problem
from daskgd.queries import Hessian
from daskgd.queries.base import weighted
from daskgd.queries.sums import Sums
from daskgd.rows.dtypes import compute_dtype
from daskgd.rows.features import Dense, Features
from daskgd.rows.tiles import Rows
from daskgd.solvers.sampled_hessian import draw_by_curvature

Array = NDArray[Any]

BLOCKS = 64
"""Most blocks into which rows are cut for threads: a function of the rows alone, as bits depend on it."""

FACTOR_BYTES = 256 << 20
"""Bytes up to which the second derivatives of all rows are kept; beyond, each product makes them anew."""

THREADED, WIDE = 100, 500
"""Outputs, and features, from which on threads are used."""

HIDDEN = 0.5
"""Share of ``q'H^-1 q`` that the residual may hide, by the least Ritz value, where a system is solved."""

GRAM_ROWS, FEW_GRAM_ROWS, MOST_GRAM_ROWS, GRAM_SHARE = 8, 4, 200, 4
"""Rows for each feature from which second moments for a preconditioner are taken: at least the first, or the
second where these are too much work; at most the third, where they cost no more than `GRAM_SHARE` passes over
all rows."""

GRAM_WORK = 100
"""How many times the work of a product, counted in operations, a preconditioner of second moments may take:
it spares some tens of products, whose operations are several times slower than those of moments."""


# -- products -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Curved:
    """Some rows as a tile, the factors of their second derivatives, and their weights ``(n,)`` or None."""

    rows: Rows
    factor: Array
    weights: Array | None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def X(self) -> Features:
        """The features as kernels need them."""
        return self.rows.X.prepared(self.rows.dtype)


class HessianOperator:
    """The Hessian of a problem over rows in memory at parameters w, as products with it.

    Products run in the dtype that suits X, float32 for float32 and losses without kinks: their rounding moves
    directions by some 1e-6, where conjugate gradients ask for 1e-3 at most.

    Parameters
    ----------
    problem : Problem
        With a linear model.
    rows : Rows
    w : (d,)
    threads : int
        They change no bits.
    Attributes
    ----------
    weight : float
        The total weight of the rows.
    mean_diagonal : (k,)
        The second derivatives of the loss by each margin, averaged over rows.
    curvature : (n,)
        The same of each row, averaged over margins, times its weight.
    """

    def __init__(self, problem: Problem, rows: Rows, w: Array, threads: int = 1) -> None:
        model = problem.linear
        # The curvature of smoothed kinks is that of the few rows near them: float32 would not say of which.
        exact = model.needs_float64 or problem.loss.nonsmooth
        dtype = np.dtype(np.float64) if exact else compute_dtype(rows.X.dtype)
        # A tile of few columns and margins is a few operations, for which threads only wait for one another.
        wide = model.outputs >= THREADED or model.n_features >= WIDE
        self.problem, self.w, self.threads = problem, w, threads if wide else 1
        self.rows, self.dtype = replace(rows, dtype=dtype), dtype
        self._height = rows.X.tile_rows(dtype, model.outputs)
        blocks = min(BLOCKS, -(-len(rows) // self._height))
        self._block = self._height * max(-(-len(rows) // (self._height * max(blocks, 1))), 1)
        self._keep = len(rows) * model.outputs * dtype.itemsize <= FACTOR_BYTES
        self._kept: dict[int, list[_Curved]] = {}
        self.penalty = problem.penalty_hessian(w)
        self.curvature = np.empty(len(rows))
        self.weight, self.mean_diagonal = self._first_pass()

    def _tiles(self, start: int) -> Iterator[_Curved]:
        """The tiles of a block, with their second derivatives."""
        if start in self._kept:
            yield from self._kept[start]
            return
        for a in range(start, min(start + self._block, len(self.rows)), self._height):
            rows = self.rows.slice(a, min(a + self._height, start + self._block))
            tile = rows.tile()
            y, s = tile.targets(self.problem)
            factor = self.problem.loss.hessian_factor(self.problem.margins(self.w, tile.X), y)
            yield _Curved(rows, factor, s)

    def _sum(self, work: Callable[[int], Any]) -> Any:
        """The sum of `work` over all blocks, in their order."""
        return _total(work, range(0, max(len(self.rows), 1), self._block), self.threads)

    def _first_pass(self) -> tuple[float, Array]:
        loss = self.problem.loss

        def work(start: int) -> Array:
            parts, tiles = [], []
            for tile in self._tiles(start):
                each = np.abs(loss.hessian_diagonal(tile.factor)).reshape(len(tile), -1).astype(np.float64)
                weights = np.ones(len(tile)) if tile.weights is None else tile.weights
                parts.append(np.append(weights @ each, weights.sum()))
                first = tile.rows.start - self.rows.start
                self.curvature[first : first + len(tile)] = each.mean(axis=1) * weights
                tiles.append(tile)
            if self._keep:
                self._kept[start] = tiles
            return np.add.reduce(parts)

        sums = self._sum(work)
        weight = float(sums[-1])
        return weight, sums[:-1] / weight if weight > 0 else sums[:-1]

    def _adjoint(self, of_tile: Callable[[_Curved], Array]) -> Array:
        """The adjoint ``(d,)`` of what `of_tile` makes of each tile, in the shape of its margins, summed over
        all rows."""
        model = self.problem.linear
        p, k = model.n_features, model.outputs

        def work(start: int) -> Array:
            if model.scales:
                return np.add.reduce([model.adjoint(tile.X, of_tile(tile)) for tile in self._tiles(start)])
            # What is done once for all rows is not done for each tile.
            cross, total = np.zeros((p, k)), np.zeros(k)
            for tile in self._tiles(start):
                part, sums = model.cross(tile.X, of_tile(tile))
                cross += part
                total += sums
            return np.append(cross, total)

        out: Array = self._sum(work)
        return out if model.scales else model.from_units_of_X(out[: p * k].reshape(p, k), out[p * k :])

    def product(self, v: Array) -> Array:
        """The product of the Hessian with v, both ``(d,)``."""
        loss, model = self.problem.loss, self.problem.linear
        W = None if model.scales else model.factors(v, self.dtype)

        def of_tile(tile: _Curved) -> Array:
            X = tile.X
            z = model.margins(v, X) if W is None else model.margins_of(W, X)
            return weighted(loss.hessian_product(tile.factor, z), tile.weights)

        out: Array = self._adjoint(of_tile) / self.weight + self.penalty * v
        return out

    def diagonal(self) -> Array:
        """The diagonal ``(d,)`` of the Hessian, second derivatives of the loss made absolute."""
        problem, model = self.problem, self.problem.linear
        k, scales = model.outputs, model.scales

        def work(start: int) -> Array:
            out = np.zeros(model.size)
            for tile in self._tiles(start):
                curve = np.abs(problem.loss.hessian_diagonal(tile.factor)).reshape(len(tile), -1)
                curve = weighted(curve.astype(np.float64), tile.weights)
                out[len(out) - scales :] += curve[:, k:].sum(axis=0)
                out[: len(out) - scales] += model.squares_adjoint(tile.X, curve[:, :k]).ravel()
            return out

        out: Array = self._sum(work) / self.weight + self.penalty
        return out

    def matrix(self, features: Array) -> Array:
        """The Hessian by the parameters of these features, intercepts included, as a matrix."""
        problem, loss = self.problem, self.problem.loss
        few, query = problem.on_features(features), Hessian(self.w[problem.parameters_of(features)])

        def work(start: int) -> Array:
            out = np.zeros((few.model.size, few.model.size))
            for tile in self._tiles(start):
                X = tile.X.columns(features)
                if loss.separate:
                    curve = weighted(loss.hessian_diagonal(tile.factor), tile.weights)
                    if isinstance(X, Dense):
                        out += few.linear.curvature(few.linear.design_matrix(X), curve)
                    else:
                        out += few.linear.hessian(X, curve)
                else:
                    z = problem.margins(self.w, tile.X)
                    out += query.at(z, few, replace(tile.rows, X=X).tile())
            return out

        return query.answer(few, Sums(curvature=self._sum(work), weight=self.weight))

    def sandwich(self, features: Array, most: int) -> Array:
        """The second moments ``(h, h)`` of these features and the intercept, weighted by the curvature of
        each row, over the total weight; from about `most` of the rows, drawn in proportion to it."""
        few, c, X = self.problem.on_features(features).linear, self.curvature, self.rows.X
        if len(c) > most:
            at, share = draw_by_curvature(c, most)
            c, X = c[at] / share, X.select(at)
        out: Array = few.sandwich(X.columns(features).astype(np.float64), c) / self.weight
        return out

    def draw(self, seed: int) -> Array:
        """A random vector ``(d,)`` whose covariance is the Hessian: from one random
        number for each margin and one for each parameter."""
        loss = self.problem.loss

        def of_tile(tile: _Curved) -> Array:
            rng = np.random.Generator(np.random.Philox(key=[seed, tile.rows.start]))
            shape = loss.hessian_diagonal(tile.factor).shape
            e = rng.standard_normal(shape, np.float32).astype(tile.factor.dtype, copy=False)
            s = None if tile.weights is None else np.sqrt(tile.weights)
            return weighted(loss.hessian_root_product(tile.factor, e), s)

        rng = np.random.Generator(np.random.Philox(key=[seed, 2**63]))
        prior = np.sqrt(np.maximum(self.penalty, 0.0)) * rng.standard_normal(len(self.w))
        out: Array = self._adjoint(of_tile) / np.sqrt(self.weight) + prior
        return out


def _total(work: Callable[[int], Array], starts: range, threads: int) -> Array:
    """The sum of the arrays that `work` makes from each start, in their order, in so many threads."""
    with ExitStack() as stack:
        parts: Iterator[Array] = map(work, starts)
        if threads > 1 and len(starts) > 1:
            pool = ThreadPoolExecutor(min(threads, len(starts)), "daskgd-local")
            parts = stack.enter_context(pool).map(work, starts)
        total = next(parts)
        for part in parts:
            total = total + part
        return total


# -- preconditioners ----------------------------------------------------------------------------


class Preconditioner(Protocol):
    """An approximate inverse of the Hessian, positive definite."""

    @property
    def sees_all(self) -> bool:
        """Whether it is of about the size of the inverse in all directions."""
        ...

    def __call__(self, r: Array) -> Array:
        """The product ``M^-1 r`` ``(d,)``."""
        ...


@dataclass(frozen=True, slots=True)
class Diagonal:
    """The diagonal of the Hessian ``(d,)`` as its preconditioner."""

    diagonal: Array
    sees_all: ClassVar[bool] = False

    def __call__(self, r: Array) -> Array:
        return r / self.diagonal


@dataclass(frozen=True, slots=True)
class SharedMoments:
    """Second moments of the features, shared by all outputs, as a preconditioner:

        M_k = (c_k / c) A' diag(h) A / W + diag(l2),

    h being the second derivatives of the loss averaged over outputs, and c_k and c their averages over rows
    for output k and for all. For softmax it has the structure of Böhning's bound (1992) with the curvature
    that is there in place of the largest that there can be. Outputs of about the same c_k share a factor.

    Attributes
    ----------
    groups : tuple of (outputs, factor)
    outputs : int
    sees_all : bool
        Whether it is of enough rows.
    """

    groups: tuple[tuple[Array, Any], ...]
    outputs: int
    sees_all: bool = True

    def __call__(self, r: Array) -> Array:
        R = r.reshape(-1, self.outputs)
        out = np.empty_like(R)
        for columns, factor in self.groups:
            out[:, columns] = cho_solve(factor, R[:, columns], check_finite=False)
        return out.ravel()


@dataclass(frozen=True, slots=True)
class ShiftApart:
    """A preconditioner for losses that do not see a common shift of the outputs, as softmax's: along it the
    Hessian is the penalty alone, which is the same for all outputs, and across it `inner` stands for it.

    Attributes
    ----------
    inner : Preconditioner
    penalty : (p + 1, 1)
        Of one output.
    outputs : int
    """

    inner: Preconditioner
    penalty: Array
    outputs: int

    @property
    def sees_all(self) -> bool:
        return self.inner.sees_all

    def __call__(self, r: Array) -> Array:
        R = r.reshape(-1, self.outputs)
        shift = R.mean(axis=1, keepdims=True)
        out = self.inner((R - shift).ravel()).reshape(R.shape)
        out = out - out.mean(axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            out += np.where(self.penalty > 0, shift / self.penalty, 0.0)
        return out.ravel()


def precondition(operator: HessianOperator) -> Preconditioner:
    """A preconditioner for the operator: second moments where they are cheap beside products, otherwise the
    diagonal."""
    inner, k = _moments_or_diagonal(operator), operator.problem.linear.outputs
    penalties = operator.penalty.reshape(-1, k) if operator.problem.loss.common_shift else None
    if penalties is None or np.any(penalties != penalties[:, :1]):
        return inner
    return ShiftApart(inner, penalties[:, :1], k)


def _moments_or_diagonal(operator: HessianOperator) -> Preconditioner:
    if not operator.problem.linear.scales:
        columns = _groups(operator)
        rows = _gram_rows(operator, len(columns))
        found = _shared_moments(operator, columns, rows) if rows else None
        if found is not None:
            return found
    diagonal = operator.diagonal()
    least = 1e-10 * float(diagonal.max(initial=0.0))
    return Diagonal(np.maximum(diagonal, least) if least > 0 else np.ones_like(diagonal))


def _gram_rows(operator: HessianOperator, factors: int) -> int:
    """How many rows to take second moments from, for so many factors of them; 0 where that is too much
    work."""
    model, n = operator.problem.linear, len(operator.rows)
    p = model.n_features + model.intercept
    # A row takes p**2 operations, and an entry of a product four for each output. Entries that are stored and
    # 0 do not count, so that dense rows are solved as the same rows are where they are sparse.
    entries = int(operator.rows.X.counts().sum())
    affordable = GRAM_WORK * 4 * entries * model.outputs / p**2 - factors * p / 3
    for least in (GRAM_ROWS, FEW_GRAM_ROWS):
        rows = min(n, int(np.clip(GRAM_SHARE * n / p, least * p, MOST_GRAM_ROWS * p)))
        if rows <= (affordable / 4 if least == GRAM_ROWS else affordable):
            return rows
    return int(affordable) if affordable > 2 * p and n > 2 * p else 0


def _groups(operator: HessianOperator) -> list[Array]:
    """Outputs that share a factor: those whose curvatures are within a factor of two, where the penalties of
    all are the same; otherwise each is by itself."""
    k = operator.problem.linear.outputs
    penalties = operator.penalty.reshape(-1, k)
    if np.any(penalties != penalties[:, :1]):
        return [np.array([i]) for i in range(k)]
    octave = np.round(np.log2(np.maximum(operator.mean_diagonal, np.finfo(float).tiny)))
    return [np.flatnonzero(octave == value) for value in np.unique(octave)]


def _shared_moments(operator: HessianOperator, columns: Sequence[Array], most: int) -> SharedMoments | None:
    """The preconditioner of second moments from about `most` of the rows, drawn in proportion to their
    curvature, as those of which the model is sure add nothing; None where they are not definite."""
    model, h = operator.problem.linear, operator.curvature
    p, k = model.n_features + model.intercept, model.outputs
    total = float(h.sum())
    if not (total > 0 and np.isfinite(total)):
        return None
    at, share = draw_by_curvature(h, most) if len(h) > most else (np.arange(len(h)), np.ones(len(h)))
    roots = np.sqrt(h[at] / share / total)
    height = max(p, 256)

    def moments(start: int) -> Array:
        B = model.design_matrix(operator.rows.X.select(at[start : start + height]))
        B *= roots[start : start + height, None]
        return B.T @ B

    G = _total(moments, range(0, len(at), height), operator.threads)
    if not np.isfinite(G).all():
        return None
    # Few rows for each feature see some directions as flat.
    typical = float(np.diagonal(G).mean())
    G[np.diag_indices(p)] += typical * (1e-14 if len(at) > 2 * p else 0.02)
    penalties = operator.penalty.reshape(-1, k)
    groups = []
    for group in columns:
        M = G * float(operator.mean_diagonal[group].mean())
        M[np.diag_indices(p)] += penalties[:, group[0]]
        try:
            groups.append((group, cho_factor(M, lower=True, check_finite=False)))
        except LinAlgError:
            return None
    return SharedMoments(tuple(groups), k, len(at) > 2 * p)


# -- conjugate gradients ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LinearSolution:
    """The solution x ``(d,)`` of ``H x = q`` by conjugate gradients, and what is known of it.

    Attributes
    ----------
    x : (d,)
    squared : float
        ``q'H^-1 q``, an estimate that counts what the residual leaves open.
    products : int
        With H.
    least : float
        The least Ritz value of ``M^-1 H``; infinity before any product.
    """

    x: Array
    squared: float
    products: int
    least: float = np.inf


def conjugate_gradients(
    product: Callable[[Array], Array],
    precondition: Callable[[Array], Array],
    q: Array,
    rtol: float,
    most: int,
    hidden: float = 0.0,
    least: float = np.inf,
    value: float = np.inf,
    far: float = np.inf,
) -> LinearSolution:
    """Solve ``H x = q`` by preconditioned conjugate gradients (Golub & Van Loan 2013, section 11.5), until
    the residual, in the metric of the preconditioner, is `rtol` of the first, or after `most` products.

    After each product ``q'x`` is what ``q'H^-1 q`` amounts to in the directions walked so far. The residual r
    hides ``r'H^-1 r`` more, which is at most ``r'M^-1 r`` over the least eigenvalue of ``M^-1 H``; of that
    the process itself finds an estimate from above, its least Ritz value; `least` may be one that is known
    already. Where `hidden` is given, that is how much the residual may hide, and `rtol` does not matter: so
    much for each `value` of the quadratic at 0, which falls by ``q'x / 2``. Once ``q'x`` exceeds `far`,
    `rtol` alone matters: that the gap is large is known, and by how much need not be.
    """
    x, r = np.zeros_like(q), q
    z = precondition(r)
    p, rz = z, float(r @ z)
    first = rz
    steps: list[float] = []
    ratios: list[float] = []
    while len(steps) < most and np.isfinite(rz) and rz > 0:
        # The residual may be small along directions in which it hides much.
        if hidden or rz <= rtol * rtol * first:
            found = float(q @ x)
            allowed = HIDDEN * found if found <= far else np.inf
            if hidden:
                allowed = hidden * (max(1 - found / (2 * value), 1e-3) if value > 0 else 1.0)
            if steps and allowed < np.inf and rz <= allowed * least:  # which only falls
                least = min(least, _least_ritz_value(steps, ratios))
            if not (hidden or steps) or allowed == np.inf or rz <= allowed * least < np.inf:
                break
        Hp = product(p)
        curvature = float(p @ Hp)
        if not curvature > 1e-14 * float(np.linalg.norm(p) * np.linalg.norm(Hp)):
            break  # flat, or rounding: what was found so far is a way down
        step = rz / curvature
        x += step * p
        r = r - step * Hp  # a copy: a preconditioner may return what it was given
        z = precondition(r)
        new = float(r @ z)
        steps.append(step)
        ratios.append(new / rz)
        p, rz = z + (new / rz) * p, new
    if not steps:
        return LinearSolution(z, max(first, 0.0) / min(least, 1.0), 1, least)
    least = min(least, _least_ritz_value(steps, ratios))
    squared = float(q @ x) + max(rz, 0.0) / least
    return LinearSolution(x, max(squared, 0.0), len(steps), least)


def _least_ritz_value(steps: Sequence[float], ratios: Sequence[float]) -> float:
    """The least eigenvalue of the tridiagonal matrix that conjugate gradients make (Golub & Van Loan 2013,
    section 11.3), from their step lengths and the ratios of successive residuals, squared."""
    a, b = np.array(steps), np.array(ratios[:-1])
    diagonal = 1 / a
    diagonal[1:] += b / a[:-1]
    beside = np.sqrt(np.maximum(b, 0.0)) / a[:-1]
    values = eigvalsh_tridiagonal(diagonal, beside, check_finite=False)
    return float(max(values[0], 1e-12 * values[-1]))


def solve_cg(product: Callable[[Array], Array], q: Array, rtol: float = 0.01, most: int = 100) -> Array:
    """The product ``H^-1 q`` ``(d,)`` by conjugate gradients without a preconditioner."""
    return conjugate_gradients(product, lambda r: r, q, rtol, most).x
