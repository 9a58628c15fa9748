"""The queries of the objective and its derivatives: at a point, along a line, times a vector, of many
problems at once. Knows problems; no solver."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.models import VJP
from daskgd.problems import Problem
from daskgd.queries.base import Query, check_finite, summed, total_weight, weighted
from daskgd.queries.sums import Sums
from daskgd.rows.arrowhead import Arrowhead
from daskgd.rows.dtypes import compute_dtype
from daskgd.rows.features import Dense, Features, align
from daskgd.rows.tiles import Rows, Tile

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Gradient(Query):
    """Objective and gradient at `w` ``(d,)``: answers ``(f, g)``, a float and ``(d,)``."""

    name: ClassVar[str] = "gradient"
    w: Array

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        return self.at(*problem.forward(self.w, tile.X), problem, tile)

    def at(self, z: Array, vjp: VJP, problem: Problem, tile: Tile) -> Sums:
        """The sums of a tile at known margins z ``(n,)`` or ``(n, k)``; `vjp` leads from their gradient back
        to that of the parameters."""
        y, s = tile.targets(problem)
        value, slope = problem.loss.value_and_gradient(z, y)
        total, gradient = summed(value, s), vjp(weighted(slope, s))
        check_finite(tile, total, gradient)
        return Sums(value=total, gradient=gradient, weight=total_weight(tile, s))

    def answer(self, problem: Problem, sums: Sums) -> tuple[float, Array]:
        W = sums["weight"]
        f = float(sums["value"]) / W + problem.penalty_value(self.w)
        return f, sums["gradient"] / W + problem.penalty_gradient(self.w)


@dataclass(frozen=True, slots=True, eq=False)
class GradientOnly(Gradient):
    """The gradient at `w` ``(d,)`` and nothing else: answers ``(d,)``. Half the loss's work, about."""

    def at(self, z: Array, vjp: VJP, problem: Problem, tile: Tile) -> Sums:
        y, s = tile.targets(problem)
        slope = problem.loss.gradient(z, y)
        gradient = vjp(weighted(slope, s))
        check_finite(tile, gradient)
        return Sums(gradient=gradient, weight=total_weight(tile, s))

    def answer(self, problem: Problem, sums: Sums) -> Any:
        return sums["gradient"] / sums["weight"] + problem.penalty_gradient(self.w)


def _sum_rows(values: Array, s: Array | None) -> Any:
    """The weighted sums ``(m,)`` over n rows of values ``(m, n)``, in float64."""
    if s is None:
        return np.add.reduce(values, axis=1, dtype=np.float64)
    return [summed(one, s) for one in values]


LANES = 16
"""The number of columns, lanes, in the one product of :class:`Gradients`."""


@dataclass(frozen=True, slots=True, eq=False)
class Gradients(Query):
    """The :class:`Gradient` or the :class:`GradientOnly` of many problems over the same rows at once: answers
    a list of ``(f, g)``, or of g.

    One product of X with LANES columns stands for one product a problem, and is several times faster. Each
    problem has a column of its own, its lane, so that its bits do not depend on who is in the others.

    Attributes
    ----------
    problems : (m,) of Problem
        Whose models have one column, all of them :attr:`~daskgd.models.Linear.needs_float64` or none.
    queries : (m,) of Gradient
        Where each looks; all of one type.
    lanes : (m,) of int
        From 0 to LANES - 1, distinct.
    target_groups : tuple of tuples
        Positions of problems that see the same targets.
    W : (p + 1, LANES)
        Coefficients over intercepts as they multiply X, a column for each lane.
    """

    name: ClassVar[str] = "gradient"
    problems: tuple[Problem, ...]
    queries: tuple[Gradient, ...]
    lanes: tuple[int, ...]
    target_groups: tuple[tuple[int, ...], ...]
    W: Array

    @classmethod
    def of(cls, asked: Mapping[int, tuple[Problem, Gradient]]) -> Gradients:
        """The query for problems and their queries by lane."""
        problems = tuple(problem for problem, _ in asked.values())
        queries = tuple(query for _, query in asked.values())
        W = np.zeros((problems[0].model.n_features + 1, LANES))
        target_groups: list[list[int]] = []
        for i, (lane, problem, query) in enumerate(zip(asked, problems, queries, strict=True)):
            column = problem.linear.in_units_of_X(query.w)[:, 0]
            W[: len(column), lane] = column
            group = next((known for known in target_groups if problem.same_targets(problems[known[0]])), None)
            if group is None:
                target_groups.append(group := [])
            group.append(i)
        return cls(problems, queries, tuple(asked), tuple(map(tuple, target_groups)), W)

    def result_nbytes(self, problem: Problem | None, n_features: int) -> int:
        return 8 * LANES * (n_features + 3)

    def tile(self, problem: Problem | None, tile: Tile) -> Sums:
        if all(one.leaves_out(tile) for one in {id(one.subset): one for one in self.problems}.values()):
            tile = tile.nothing()
        X = tile.X.astype(np.float64) if self.problems[0].linear.needs_float64 else tile.X
        slopes, losses, weight = self._losses(self._margins(X, tile.X.dtype), tile)
        cross = self._adjoint(X, slopes)
        check_finite(tile, cross, *losses.values())
        return Sums(**losses, cross=cross, weight=weight)

    def _margins(self, X: Features, dtype: np.dtype[Any]) -> Array:
        """The margins of all lanes ``(LANES, n)``, by one product."""
        W = align(self.W, X.dtype)
        Z = X.dot(W[:-1])
        Z += W[-1]
        return np.ascontiguousarray(Z.T, dtype=dtype)

    def _losses(self, Z: Array, tile: Tile) -> tuple[Array, dict[str, Array], Array]:
        """The weighted slopes of the losses at the margins Z, both ``(LANES, n)``; and for each problem the
        sums of losses, if they are asked for, and of slopes, and the total weight, ``(m,)`` each."""
        m = len(self.lanes)
        slopes = np.zeros(Z.shape, Z.dtype)
        value, total, weight = np.empty(m), np.empty(m), np.empty(m)
        valued = type(self.queries[0]) is not GradientOnly
        for group in self.target_groups:
            at, lanes = list(group), [self.lanes[i] for i in group]
            loss = self.problems[group[0]].loss
            y, s = tile.targets(self.problems[group[0]])
            # Losses are pointwise: all margins of the group as if they were the rows of one.
            z, y = Z[lanes].ravel(), np.concatenate([y] * len(at))
            if valued:
                values, found = (v.reshape(len(at), -1) for v in loss.value_and_gradient(z, y))
                value[at] = _sum_rows(values, s)
            else:
                found = loss.gradient(z, y).reshape(len(at), -1)
            slopes[lanes] = found = weighted(found.T, s).T
            total[at] = np.add.reduce(found, axis=1, dtype=np.float64)
            weight[at] = total_weight(tile, s)
        return slopes, {"value": value, "total": total} if valued else {"total": total}, weight

    def _adjoint(self, X: Features, slopes: Array) -> Array:
        """``X' slopes`` of each problem ``(m, p)``, by one product of all lanes."""
        cross = X.t_dot(slopes.astype(X.dtype, copy=False).T).T[list(self.lanes)]
        out: Array = cross.astype(np.float64)
        return out

    def answer(self, problem: Problem | None, sums: Sums) -> list[Any]:
        return [
            query.answer(
                one,
                Sums(
                    value=sums["value"][i] if "value" in sums else 0.0,
                    gradient=one.linear.from_units_of_X(sums["cross"][i][:, None], sums["total"][i]),
                    weight=sums["weight"][i],
                ),
            )
            for i, (one, query) in enumerate(zip(self.problems, self.queries, strict=True))
        ]


HESSIANS = 1 << 22
"""Most numbers of the second derivatives of rows that are formed at a time: 32 MB of float64."""


@dataclass(frozen=True, slots=True, eq=False)
class Hessian(Query):
    """The Hessian at `w` ``(d,)`` and nothing else: answers ``(d, d)``."""

    name: ClassVar[str] = "hessian"
    compute_bound: ClassVar[bool] = True
    w: Array

    def result_nbytes(self, problem: Problem | None, n_features: int) -> int:
        return 8 * len(self.w) ** 2

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        s = tile.targets(problem)[1]
        z = problem.margins(self.w, tile.X)
        return Sums(curvature=self.at(z, problem, tile), weight=total_weight(tile, s))

    def at(self, z: Array, problem: Problem, tile: Tile) -> Array:
        """The Hessian summed over the rows of a tile ``(d, d)``, at known margins z."""
        y, s = tile.targets(problem)
        model, loss = problem.linear, problem.loss
        # Where margins interact there are k**2 numbers for each row: of some rows at a time.
        height = len(z) if loss.separate or z.ndim == 1 else max(HESSIANS // z.shape[1] ** 2, 16)
        out: Array | None = None
        designs: Iterable[tuple[slice, Array | None]] = [(slice(0, len(z)), None)]
        if isinstance(tile.X, Dense):
            designs = tile.designs(model)
        for piece, A in designs:
            for a in range(piece.start, max(piece.stop, piece.start + 1), max(height, 1)):
                at = slice(a, min(a + height, piece.stop))
                curve = weighted(loss.hessian(z[at], y[at]), None if s is None else s[at])
                if A is None:
                    part = model.hessian(tile.X.slice(at.start, at.stop), curve)
                else:
                    part = model.curvature(A[at.start - piece.start : at.stop - piece.start], curve)
                out = part if out is None else out + part
        assert out is not None
        return out

    def answer(self, problem: Problem, sums: Sums) -> Array:
        H: Array = sums["curvature"] / sums["weight"]
        H[np.diag_indices_from(H)] += problem.penalty_hessian(self.w)
        return H


@dataclass(frozen=True, slots=True, eq=False)
class HessianDiagonal(Query):
    """The diagonal of the Hessian of a linear model, the mean of those at `points`, ``(d,)`` each: answers
    ``(d,)``."""

    name: ClassVar[str] = "hessian-diagonal"
    points: tuple[Array, ...]

    def result_nbytes(self, problem: Problem | None, n_features: int) -> int:
        return 8 * len(self.points[0])

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        model = problem.linear
        y, s = tile.targets(problem)
        curve = np.zeros((len(tile), model.outputs + model.scales))
        for w in self.points:
            factor = problem.loss.hessian_factor(problem.margins(w, tile.X), y)
            each = np.abs(problem.loss.hessian_diagonal(factor)).astype(np.float64)
            curve += weighted(each.reshape(curve.shape), s)
        curve /= len(self.points)
        found = model.squares_adjoint(tile.X, np.ascontiguousarray(curve[:, : model.outputs])).ravel()
        diagonal = np.append(found, curve[:, model.outputs :].sum(axis=0))
        check_finite(tile, diagonal)
        return Sums(diagonal=diagonal, weight=total_weight(tile, s))

    def answer(self, problem: Problem, sums: Sums) -> Array:
        penalty = np.mean([problem.penalty_hessian(w) for w in self.points], axis=0)
        out: Array = sums["diagonal"] / sums["weight"] + penalty
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Curvature(Query):
    """Objective, gradient and Hessian at `w` ``(d,)``: answers ``(f, g, H)``, H ``(d, d)``."""

    name: ClassVar[str] = "curvature"
    compute_bound: ClassVar[bool] = True
    w: Array

    def result_nbytes(self, problem: Problem | None, n_features: int) -> int:
        return 8 * len(self.w) ** 2

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        z, vjp = problem.forward(self.w, tile.X)
        curvature = Hessian(self.w).at(z, problem, tile)
        return Sums(curvature=curvature, **Gradient(self.w).at(z, vjp, problem, tile))

    def answer(self, problem: Problem, sums: Sums) -> tuple[float, Array, Array]:
        return *Gradient(self.w).answer(problem, sums), Hessian(self.w).answer(problem, sums)


@dataclass(frozen=True, slots=True, eq=False)
class CurvatureArrowhead(Query):
    """Objective, gradient and Hessian at `w` ``(d,)``, of a linear model with one output over features of
    which some exclude one another: answers ``(f, g, H)``, H an :class:`~daskgd.rows.arrowhead.Arrowhead`.

    H is by parameters of which those of the exclusive columns multiply these as they are, not centred; see
    :meth:`daskgd.models.Linear.hessian_of_arrowhead`.

    Attributes
    ----------
    w : (d,)
    numbers : int
        How many numbers H has.
    """

    name: ClassVar[str] = "curvature"
    scope: ClassVar[str] = "block"  # a tile has hardly more rows than pairs of categories
    w: Array
    numbers: int = 0

    def result_nbytes(self, problem: Problem | None, n_features: int) -> int:
        return 8 * (len(self.w) + self.numbers)

    def block(self, problem: Problem, rows: Rows) -> Sums:
        found: Sums | None = None
        curves = []
        for tile in rows.tiles():
            z, vjp = problem.forward(self.w, tile.X)
            part = Gradient(self.w).at(z, vjp, problem, tile)
            found = part if found is None else found + part
            y, s = tile.targets(problem)
            curves.append(weighted(problem.loss.hessian(z, y).astype(np.float64), s))
        assert found is not None
        H = problem.linear.arrowhead(rows.X.prepared(rows.dtype), np.concatenate(curves))
        return Sums(curvature=H, **found)

    def answer(self, problem: Problem, sums: Sums) -> tuple[float, Array, Arrowhead]:
        moments: Arrowhead = sums["curvature"].scaled(sums["weight"] ** -0.5)
        H = problem.linear.hessian_of_arrowhead(moments)
        return *Gradient(self.w).answer(problem, sums), H.plus_diagonal(problem.penalty_hessian(self.w))


BASIS_ROWS = 10_000
"""The number of rows, about, from which the basis of :class:`Hessians` is made."""


@dataclass(frozen=True, slots=True, eq=False)
class Hessians(Query):
    """The :class:`Hessian` of many problems over the same rows of float32, by products in float32: answers a
    list of ``(d, d)``.

    Such products lose what tells collinear features apart, but not in a basis R in which the second moments
    of the features A are about the identity. With D = A R, in float64, rounded to float32,

        H = R^-T (D' diag(c) D) R^-1,

    where sums over tiles are in float64: relative to H the error is that of float32 products of well
    conditioned columns, some 1e-7. The product with R is made once for all problems, and pays from a few on.

    Attributes
    ----------
    problems : (m,) of Problem
        Whose models have one column, and the same design matrix.
    points : (m,) of (d,)
        Where to look.
    basis, inverse : (d, d)
        R and its inverse.
    """

    name: ClassVar[str] = "hessian"
    compute_bound: ClassVar[bool] = True
    problems: tuple[Problem, ...]
    points: tuple[Array, ...]
    basis: Array
    inverse: Array

    @staticmethod
    def suit(problem: Problem, rows: Rows) -> bool:
        """Whether the Hessian of a problem over these rows may be asked along with others."""
        return problem.model.one_column and compute_dtype(rows.X.dtype) == np.float32

    @classmethod
    def of(cls, problems: tuple[Problem, ...], points: tuple[Array, ...], rows: Rows) -> Hessians:
        """The query for problems at their points, with a basis that suits the rows."""
        every = max(len(rows) // BASIS_ROWS, 1)
        some = rows.X.select(np.arange(0, len(rows), every))
        moments = sum(A.T @ A for _, A in problems[0].linear.designs(some))
        values, vectors = np.linalg.eigh(moments / max(len(some), 1))
        root = np.sqrt(np.maximum(values, 1e-12 * max(values[-1], np.finfo(float).tiny)))
        return cls(problems, points, vectors / root, (vectors * root).T)

    def result_nbytes(self, problem: Problem | None, n_features: int) -> int:
        return 8 * len(self.points) * len(self.basis) ** 2

    def tile(self, problem: Problem | None, tile: Tile) -> Sums:
        curves, weight = [], np.empty(len(self.points))
        for i, (one, w) in enumerate(zip(self.problems, self.points, strict=True)):
            y, s = tile.targets(one)
            curve = weighted(one.loss.hessian(one.margins(w, tile.X), y), s)
            curves.append(curve.astype(np.float32))
            weight[i] = total_weight(tile, s)
        found = np.zeros((len(self.points), *self.basis.shape))
        for at, A in self.problems[0].linear.designs(tile.X):
            D = (A @ self.basis).astype(np.float32)
            for i, (one, curve) in enumerate(zip(self.problems, curves, strict=True)):
                found[i] += one.linear.curvature(D, curve[at])
        return Sums(curvature=found, weight=weight)

    def answer(self, problem: Problem | None, sums: Sums) -> list[Array]:
        return [
            Hessian(w).answer(one, Sums(curvature=self.inverse.T @ found @ self.inverse, weight=weight))
            for one, w, found, weight in zip(
                self.problems, self.points, sums["curvature"], sums["weight"], strict=True
            )
        ]


@dataclass(frozen=True, slots=True, eq=False)
class Product(Query):
    """The product of the Hessian at `w` ``(d,)`` with `v` ``(d,)``, without forming the Hessian: answers
    ``(d,)``."""

    name: ClassVar[str] = "product"
    w: Array
    v: Array

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        y, s = tile.targets(problem)
        model = problem.linear
        factor = problem.loss.hessian_factor(model.margins(self.w, tile.X), y)
        bent = problem.loss.hessian_product(factor, model.margins(self.v, tile.X))
        product = model.adjoint(tile.X, weighted(bent, s))
        check_finite(tile, product)
        return Sums(product=product, weight=total_weight(tile, s))

    def answer(self, problem: Problem, sums: Sums) -> Array:
        out: Array = sums["product"] / sums["weight"] + problem.penalty_hessian(self.w) * self.v
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Line(Query):
    """The objective along ``w + t d`` for all t in `steps` ``(m,)``: a whole line search in one sweep.

    Answers ``(values, slopes)``, both ``(m,)``: f and its derivative by t. Where margins are linear in t, any
    number of steps costs two products with X; other models go forward and back for each.
    """

    name: ClassVar[str] = "line"
    w: Array
    d: Array
    steps: Array

    def result_nbytes(self, problem: Problem | None, n_features: int) -> int:
        return 16 * len(self.steps)

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        if not problem.model.linear:
            return self._by_gradients(problem, tile)
        y, s = tile.targets(problem)
        z = problem.margins(self.w, tile.X)
        dz = problem.margins(self.d, tile.X)
        values, slopes = np.empty(len(self.steps)), np.empty(len(self.steps))
        for j, t in enumerate(self.steps):
            value, slope = problem.loss.value_and_gradient(z + z.dtype.type(t) * dz, y)
            slope *= dz
            values[j] = summed(value, s)
            slopes[j] = np.sum(summed(slope, s))
        check_finite(tile, values, slopes)
        return Sums(values=values, slopes=slopes, weight=total_weight(tile, s))

    def _by_gradients(self, problem: Problem, tile: Tile) -> Sums:
        found = [Gradient(self.w + t * self.d).tile(problem, tile) for t in self.steps]
        values = np.array([one["value"] for one in found], dtype=float)
        slopes = np.array([one["gradient"] @ self.d for one in found], dtype=float)
        return Sums(values=values, slopes=slopes, weight=total_weight(tile, tile.targets(problem)[1]))

    def answer(self, problem: Problem, sums: Sums) -> tuple[Array, Array]:
        W = sums["weight"]
        at = [self.w + t * self.d for t in self.steps]
        values = sums["values"] / W + [problem.penalty_value(w) for w in at]
        slopes = sums["slopes"] / W + [
            problem.penalty_gradient(w) @ align(self.d, np.dtype(float)) for w in at
        ]
        return values, slopes
