"""Models: how parameters and rows make margins, and the adjoint that brings slopes back.

A model knows the shape of its parameters and the products with X. It knows no loss, no weights and
no data. Parameters are one flat float64 vector ``w (d,)``, whatever their shape inside, so that
solvers need not know it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
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

    n_features: int
    outputs: int = 1
    intercept: bool = True
    center: Array | None = None
    scale: Array | None = None

    def __post_init__(self) -> None:
        if self.center is not None and not self.intercept:
            raise ValueError(
                "Linear: expected center=None without an intercept, which would take up the shift"
            )

    @property
    def size(self) -> int:
        """Number of parameters d."""
        return (self.n_features + self.intercept) * self.outputs

    @property
    def penalised(self) -> Array:
        """``(d,)`` of bool: True for coefficients, False for intercepts."""
        mask = np.ones(self.size, dtype=bool)
        if self.intercept:
            mask[-self.outputs :] = False
        return mask

    def margins(self, w: Array, X: Array) -> Array:
        """Margins of the rows of X ``(n, p)``: ``(n,)`` or ``(n, k)`` in the dtype of X."""
        # Parameters that crossed a network arrive at odd addresses, where BLAS takes another path and
        # gives other bits; here is where the kernel receives them, so here they are aligned.
        W = np.require(self._in_units_of_X(w), dtype=X.dtype, requirements=["C", "A"])
        if self.outputs == 1:
            W = W[:, 0]
        z: Array = X @ W[: self.n_features]
        if self.intercept:
            z += W[-1]
        return z

    def adjoint(self, X: Array, r: Array) -> Array:
        """``(d,)`` float64: the derivative by w of ``sum(r * margins)``."""
        out = np.empty((self.n_features + self.intercept, self.outputs))
        g = out[: self.n_features]
        g[:] = (X.T @ r).reshape(g.shape)
        total = np.ones(len(r)) @ r.astype(np.float64)
        if self.center is not None:
            g -= np.outer(self.center, total)
        if self.scale is not None:
            g /= self.scale[:, None]
        if self.intercept:
            out[-1] = total
        return out.ravel()

    def curvature(self, X: Array, c: Array) -> Array:
        """``(d, d)`` float64: the Hessian by w of a loss with second derivative `c` by the margins.

        c is ``(n,)``, ``(n, k)`` where outputs do not interact, or ``(n, k, k)``. Features are centred and
        scaled tile by tile, where products of the raw ones would lose the digits that matter.
        """
        k, p = self.outputs, self.n_features
        A = np.ones((len(X), p + self.intercept), X.dtype)
        features = A[:, :p]
        np.subtract(X, 0 if self.center is None else self.center.astype(X.dtype), out=features)
        if self.scale is not None:
            features *= (1 / self.scale).astype(X.dtype)
        if c.ndim == 1 and not (c < 0).any():  # A' C A as a product with itself: half the work
            A *= np.sqrt(c)[:, None]
            return (A.T @ A).astype(np.float64)
        H = np.zeros((A.shape[1], k, A.shape[1], k))
        c = c.reshape(len(X), k, k if c.ndim == 3 else 1)
        for a in range(k):
            for b in range(a + 1 if c.shape[2] == k else 1):
                across = b if c.shape[2] == k and k > 1 else a
                block = (A * c[:, a, b, None]).T @ A
                H[:, a, :, across] = block
                H[:, across, :, a] = block.T
        return H.reshape(self.size, self.size)

    def coefficients(self, w: Array) -> Array:
        """``(k, p)`` in the units of X: W transposed, as scikit-learn's ``coef_``."""
        return self._in_units_of_X(w)[: self.n_features].T.copy()

    def intercepts(self, w: Array) -> Array:
        """``(k,)`` in the units of X, zeros without intercept."""
        return self._in_units_of_X(w)[-1].copy() if self.intercept else np.zeros(self.outputs)

    def parameters(self, coefficients: Array, intercepts: Array) -> Array:
        """The flat vector of ``(k, p)`` coefficients and ``(k,)`` intercepts in the units of X."""
        W = np.asarray(coefficients, dtype=np.float64).reshape(self.outputs, self.n_features).T
        b = np.zeros(self.outputs) + intercepts
        if self.center is not None:
            b = b + self.center @ W
        if self.scale is not None:
            W = W * self.scale[:, None]
        return np.vstack([W, b]).ravel() if self.intercept else W.ravel().copy()

    def per_parameter(self, strength: Array) -> Array:
        """A quadratic penalty's strength per output ``(k,)``, on W, as one per parameter ``(d,)``."""
        rows = np.broadcast_to(strength, (self.n_features, self.outputs))
        if self.scale is not None:
            rows = rows / self.scale[:, None] ** 2
        return np.vstack([rows, np.zeros((int(self.intercept), self.outputs))]).ravel()

    def _in_units_of_X(self, w: Array) -> Array:
        """W over b, ``(p + 1, k)`` or without b ``(p, k)``."""
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
