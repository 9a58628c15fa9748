"""Linear models: margins are products with X, and gradients products with its adjoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.models.base import VJP, Model
from daskgd.rows.arrowhead import Arrowhead, arrowhead
from daskgd.rows.features import Features, align, as_features
from daskgd.rows.statistics import weighted_gram

Array = NDArray[Any]


DENSE_SHARE = 0.8
"""Share of entries that are stored, from which on features count as dense."""

DESIGN_NUMBERS, LEAST_DESIGN_ROWS = 1 << 20, 64
"""Numbers of a design matrix of features that are not dense, at most, and its rows, at least."""

FLOAT64_RATIO = 30.0
"""Mean over standard deviation of a feature beyond which products with float32 features run in float64."""


HUGE = 1e15
"""Standard deviation of a feature beyond which, or below its inverse, they do: products overflow float32."""


@dataclass(frozen=True, slots=True, eq=False)
class Linear(Model):
    """``z = X W + b``: W is ``(p, k)``, b is ``(k,)`` or absent; `outputs` k of 1 gives z ``(n,)``.

    The flat parameters are the rows of W, then b: ``w.reshape(p + 1, k)`` with intercept. Parameters are cast
    to the dtype of X for the product; what comes back from the adjoint is float64.

    Standardisation is algebra, never a copy of X: with `center` m and `scale` s, both ``(p,)``, the
    parameters are those of ``(X - m) / s``, so that

        z = X (V / s) + (c - m (V / s)),    and the adjoint is  ((X' r - m sum r) / s, sum r).

    `coefficients` and `intercepts` are in the units of X all the same.

    >>> model = Linear(n_features=2)
    >>> model.margins(np.array([1.0, 10.0, 0.5]), np.array([[1.0, 2.0]]))
    array([21.5])
    >>> model.adjoint(np.array([[1.0, 2.0]]), np.array([3.0]))
    array([3., 6., 3.])
    """

    linear: ClassVar[bool] = True
    takes_features: ClassVar[bool] = True

    n_features: int
    outputs: int = 1
    intercept: bool = True
    center: Array | None = None
    scale: Array | None = None
    _needs_float64: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.center is not None and not self.intercept:
            raise ValueError(
                "Linear: expected center=None without an intercept, which would take up the shift"
            )
        if self.center is not None:
            scale = 1.0 if self.scale is None else self.scale
            object.__setattr__(
                self, "_needs_float64", bool(np.any(np.abs(self.center) > FLOAT64_RATIO * scale))
            )
        if self.scale is not None and (np.any(self.scale > HUGE) or np.any(self.scale < 1 / HUGE)):
            object.__setattr__(self, "_needs_float64", True)

    @property
    def size(self) -> int:
        """Number of parameters d."""
        return (self.n_features + self.intercept) * self.outputs

    @property
    def penalised(self) -> Array:
        """A mask ``(d,)`` of bool: True for coefficients, False for intercepts."""
        mask = np.ones(self.size, dtype=bool)
        if self.intercept:
            mask[-self.outputs :] = False
        return mask

    @property
    def needs_float64(self) -> bool:
        """Whether a feature is so far from 0 that rows differ in digits which float32 loses, or has a size
        whose products float32 cannot hold."""
        return self._needs_float64

    @property
    def one_column(self) -> bool:
        """Whether margins are one column of ``X W + b``."""
        return self.outputs == 1

    def forward(self, w: Array, X: Features | Array) -> tuple[Array, VJP]:
        return self.margins(w, X), lambda r: self.adjoint(X, r)

    def margins(self, w: Array, X: Features | Array) -> Array:
        """Margins of the rows of X ``(n, p)``: ``(n,)`` or ``(n, k)`` in the dtype of X."""
        features = as_features(X)
        return self.margins_of(self.factors(w, features.dtype), features)

    def factors(self, w: Array, dtype: np.dtype[Any]) -> Array:
        """What rows in this dtype are multiplied with: coefficients over intercepts in the units of X,
        ``(p + 1,)`` or ``(p + 1, k)``, or without intercepts p of them."""
        # Parameters that crossed a network arrive at odd addresses, where BLAS takes another path and
        # gives other bits; here is where the kernel receives them, so here they are aligned.
        W = align(self.in_units_of_X(w), self._exact(dtype))
        return W[:, 0] if self.outputs == 1 else W

    def margins_of(self, W: Array, X: Features) -> Array:
        """Margins of the rows of X, by the :meth:`factors` for its dtype."""
        z: Array = X.dot(W[: self.n_features])
        if self.intercept:
            z += W[-1]
        return z.astype(X.dtype, copy=False)

    def adjoint(self, X: Features | Array, r: Array) -> Array:
        """The derivative by w of ``sum(r * margins)``, ``(d,)`` float64."""
        return self.from_units_of_X(*self.cross(as_features(X), r))

    def cross(self, X: Features, r: Array) -> tuple[Array, Any]:
        """``X' r`` ``(p, k)`` and the sum of r over rows ``(k,)``, of which :meth:`from_units_of_X` makes the
        adjoint: sums, which add over tiles."""
        cross = X.t_dot(r.astype(self._exact(X.dtype), copy=False))
        return cross.reshape(self.n_features, self.outputs), _sum(r)

    def from_units_of_X(self, cross: Array, total: Any) -> Array:
        """Make the adjoint ``(d,)`` of ``X' r`` ``(p, k)`` and the sum of r over rows ``(k,)``."""
        out = np.empty((self.n_features + self.intercept, self.outputs))
        g = out[: self.n_features]
        g[:] = cross
        if self.center is not None:
            g -= self.center[:, None] * total
        if self.scale is not None:
            g /= self.scale[:, None]
        if self.intercept:
            out[-1] = total
        return out.ravel()

    def curvature(self, A: Array, c: Array) -> Array:
        """The Hessian by w, ``(d, d)`` float64, of a loss with second derivative `c` by the margins.

        A is the :meth:`design_matrix` of the rows; c is ``(n,)``, ``(n, k)`` where outputs do not interact,
        or ``(n, k, k)``.
        """
        if c.ndim == 1:
            return weighted_gram(A, c)
        return self._by_outputs(c, lambda v: (A * v[:, None]).T @ A)

    def hessian(self, X: Features, c: Array) -> Array:
        """The same of features that are not dense, which need no design matrix."""
        if c.ndim == 1:
            return self.sandwich(X, c)
        return self._by_outputs(c, lambda v: self.sandwich(X, v))

    def _by_outputs(self, c: Array, block: Callable[[Array], Array]) -> Array:
        """The Hessian of several outputs from that of each pair, by its weights ``(n,)``."""
        k, width = self.outputs, self.n_features + self.intercept
        H = np.zeros((width, k, width, k))
        c = c.reshape(len(c), k, k if c.ndim == 3 else 1)
        for a in range(k):
            for b in range(a + 1 if c.shape[2] == k else 1):
                across = b if c.shape[2] == k and k > 1 else a
                found = block(c[:, a, b])
                H[:, a, :, across] = found
                H[:, across, :, a] = found.T
        return H.reshape(self.size, self.size)

    def sandwich(self, X: Features, c: Array) -> Array:
        """``A' diag(c) A`` with c ``(n,)``, the Hessian of one output, A being the design matrix of features
        that do not make it."""
        p, c = self.n_features, c.astype(np.float64)
        out = np.empty((p + self.intercept, p + self.intercept))
        shift = 0.0 if self.center is None else self.center
        out[:p, :p] = X.sandwich(c, shift)
        total = c.sum()
        if self.intercept:
            out[p, :p] = X.t_dot(c) - shift * total
        if self.scale is not None:
            out[:, :p] /= self.scale
            out[:p, :p] /= self.scale[:, None]
        if self.intercept:
            out[:p, p], out[p, p] = out[p, :p], total
        return out

    def arrowhead(self, X: Features, c: Array) -> Arrowhead:
        """The second moments of some rows, weighted by c ``(n,)``, of which sums over all rows make the
        :meth:`hessian_of_arrowhead`."""
        return arrowhead(X, c, 0.0 if self.center is None else self.center)

    def hessian_of_arrowhead(self, moments: Arrowhead) -> Arrowhead:
        """The Hessian of one output as :meth:`sandwich`, but for the run of columns that exclude one another:
        its parameters multiply features that are scaled and not centred."""
        if self.center is not None:
            moments = moments.about(np.append(self.center, 0.0))
        if self.scale is not None:
            moments = moments.scaled(np.append(1 / self.scale, 1.0))
        return moments if self.intercept else moments.without_last()

    def coefficients(self, w: Array) -> Array:
        """``(k, p)`` in the units of X: W transposed, as scikit-learn's ``coef_``."""
        return self.in_units_of_X(w)[: self.n_features].T.copy()

    def intercepts(self, w: Array) -> Array:
        """``(k,)`` in the units of X, zeros without intercept."""
        return self.in_units_of_X(w)[-1].copy() if self.intercept else np.zeros(self.outputs)

    def parameters(self, coefficients: Array, intercepts: Array) -> Array:
        """The flat vector of ``(k, p)`` coefficients and ``(k,)`` intercepts in the units of X."""
        W = np.asarray(coefficients, dtype=np.float64).reshape(self.outputs, self.n_features).T
        b = np.zeros(self.outputs) + intercepts
        if self.center is not None:
            b = b + self.center @ W
        if self.scale is not None:
            W = W * self.scale[:, None]
        return np.vstack([W, b]).ravel() if self.intercept else W.ravel().copy()

    def per_parameter(self, strength: Array, power: int = 2) -> Array:
        """A penalty's strength per output ``(k,)``, on W in the units of X, as one per parameter ``(d,)``.

        `power` 2 is for a penalty of squares, 1 for one of absolute values.
        """
        rows = np.broadcast_to(strength, (self.n_features, self.outputs))
        if self.scale is not None:
            rows = rows / self.scale[:, None] ** power
        return np.vstack([rows, np.zeros((int(self.intercept), self.outputs))]).ravel()

    def _exact(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """The dtype of products with X of this dtype: float64 where :attr:`needs_float64`."""
        return np.dtype(np.float64) if self._needs_float64 else dtype

    def design_matrix(self, X: Features | Array) -> Array:
        """The features as the parameters see them, a column of ones after them: a copy, in float64, as second
        moments of collinear features are lost in float32, and centred and scaled, as products of the raw ones
        would lose the digits that matter."""
        A = np.ones((len(X), self.n_features + self.intercept))
        features = A[:, : self.n_features]
        shift = 0.0 if self.center is None else self.center
        as_features(X).minus(shift, 0, len(X), out=features)
        if self.scale is not None:
            features *= 1 / self.scale
        return A

    def designs(self, X: Features | Array) -> Iterator[tuple[slice, Array]]:
        """The :meth:`design_matrix` of the rows of X, piece by piece: which rows, and theirs. All at once of
        features that are dense already; of others a few megabytes at a time."""
        features = as_features(X)
        width = self.n_features + self.intercept
        height = len(features)
        if features.n_stored < DENSE_SHARE * height * width:
            height = max(DESIGN_NUMBERS // width, LEAST_DESIGN_ROWS)
        for a in range(0, max(len(features), 1), max(height, 1)):
            piece = features if height >= len(features) else features.slice(a, a + height)
            yield slice(a, a + len(piece)), self.design_matrix(piece)

    def squares_adjoint(self, X: Features, c: Array) -> Array:
        """The sums over rows of ``c_ik a_ij**2``, ``(p + 1, k)`` or without intercept p of them, where A is
        the :meth:`design_matrix` of the rows and c is ``(n, k)``: the diagonal of :meth:`curvature`."""
        squares = X.squares_t_dot(c, 0.0 if self.center is None else self.center)
        if self.scale is not None:
            squares /= self.scale[:, None] ** 2
        return np.vstack([squares, c.sum(axis=0)]) if self.intercept else squares

    def same_design(self, other: Linear) -> bool:
        """Whether both models make the same :meth:`design_matrix` of the same rows."""
        return self.intercept == other.intercept and all(
            a is b or (a is not None and b is not None and np.array_equal(a, b))
            for a, b in ((self.center, other.center), (self.scale, other.scale))
        )

    def in_units_of_X(self, w: Array) -> Array:
        """W and below it b in the units of X, ``(p + 1, k)``, or without intercept W alone ``(p, k)``."""
        V = w.reshape(-1, self.outputs)
        if self.scale is None and self.center is None:
            return V
        V = V.astype(np.float64)
        W = V[: self.n_features]
        if self.scale is not None:
            W /= self.scale[:, None]
        if self.center is not None:
            V[-1] -= self.center @ W
        return V


def _sum(r: Array) -> Array:
    """The sum over rows of ``(n,)`` or ``(n, k)``, in float64."""
    if r.ndim == 1:
        return np.add.reduce(r, dtype=np.float64)
    out: Array = np.ones(len(r)) @ r.astype(np.float64)
    return out


@dataclass(frozen=True, slots=True, eq=False)
class LinearWithScale(Linear):
    """A linear model of one output, and a scale that is fitted with it and has no features.

    Margins are ``(n, 2)``: ``X w + b``, and the scale, the same for all rows. The flat parameters are those
    of :class:`Linear`, then the scale, which is never penalised. (`scale` is that of the features, as there.)

    >>> model = LinearWithScale(n_features=2)
    >>> model.margins(np.array([1.0, 10.0, 0.5, 3.0]), np.array([[1.0, 2.0]]))
    array([[21.5,  3. ]])
    >>> model.adjoint(np.array([[1.0, 2.0]]), np.array([[3.0, 7.0]]))
    array([3., 6., 3., 7.])
    """

    scales: ClassVar[int] = 1

    def __post_init__(self) -> None:
        Linear.__post_init__(self)  # super() does not find its way in a dataclass with slots
        if self.outputs != 1:
            raise ValueError(f"LinearWithScale: expected outputs=1, got {self.outputs}")

    @property
    def one_column(self) -> bool:
        return False

    @property
    def line(self) -> Linear:
        """The model of the first margin alone."""
        return Linear(self.n_features, 1, self.intercept, self.center, self.scale)

    @property
    def size(self) -> int:
        return self.n_features + self.intercept + 1

    @property
    def penalised(self) -> Array:
        return np.append(self.line.penalised, False)

    def margins(self, w: Array, X: Features | Array) -> Array:
        z = np.empty((len(X), 2), X.dtype)
        z[:, 0], z[:, 1] = self.line.margins(w[:-1], X), w[-1]
        return z

    def adjoint(self, X: Features | Array, r: Array) -> Array:
        first = np.ascontiguousarray(r[:, 0])
        return np.append(self.line.adjoint(X, first), _sum(r[:, 1]))

    def curvature(self, A: Array, c: Array) -> Array:
        """The Hessian by w, ``(d, d)`` float64, of a loss with second derivative c ``(n, 2, 2)``."""
        first, cross = (np.ascontiguousarray(c[:, 0, b]) for b in (0, 1))
        return self._with_scale(weighted_gram(A, first), A.T @ cross, c)

    def hessian(self, X: Features, c: Array) -> Array:
        first, cross = (np.ascontiguousarray(c[:, 0, b]) for b in (0, 1))
        return self._with_scale(self.sandwich(X, first), self.line.adjoint(X, cross), c)

    def _with_scale(self, H: Array, cross: Array, c: Array) -> Array:
        """The Hessian from that of the first margin, and the derivatives of its gradient by the scale."""
        out = np.empty((self.size, self.size))
        out[:-1, -1] = out[-1, :-1] = cross
        out[-1, -1] = _sum(c[:, 1, 1])
        out[:-1, :-1] = H
        return out

    def coefficients(self, w: Array) -> Array:
        return self.line.coefficients(w[:-1])

    def intercepts(self, w: Array) -> Array:
        return self.line.intercepts(w[:-1])

    def parameters(self, coefficients: Array, intercepts: Array, fitted: float = 1.0) -> Array:
        """The flat vector of ``(1, p)`` coefficients and an intercept in the units of X, and the scale that
        was `fitted`."""
        return np.append(self.line.parameters(coefficients, intercepts), fitted)

    def per_parameter(self, strength: Array, power: int = 2) -> Array:
        return np.append(self.line.per_parameter(strength, power), 0.0)
