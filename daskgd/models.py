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


@dataclass(frozen=True, slots=True)
class Linear:
    """``z = X W + b``: W is ``(p, k)``, b is ``(k,)`` or absent; `outputs` k of 1 gives z ``(n,)``.

    The flat parameters are the rows of W, then b: ``w.reshape(p + 1, k)`` with intercept. The adjoint
    of the margins is ``(X' r, sum r)``. Parameters are cast to the dtype of X for the product, and
    what comes back is float64.

    >>> model = Linear(n_features=2)
    >>> model.margins(np.array([1.0, 10.0, 0.5]), np.array([[1.0, 2.0]]))
    array([21.5])
    >>> model.adjoint(np.array([[1.0, 2.0]]), np.array([3.0]))
    array([3., 6., 3.])
    """

    n_features: int
    outputs: int = 1
    intercept: bool = True

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
        W = self._matrix(w, X.dtype)
        z: Array = X @ W[: self.n_features]
        if self.intercept:
            z += W[-1]
        return z

    def adjoint(self, X: Array, r: Array) -> Array:
        """``(d,)`` float64: the derivative by w of ``sum(r * margins)``."""
        out = np.empty((self.n_features + self.intercept, self.outputs))
        out[: self.n_features] = (X.T @ r).reshape(self.n_features, self.outputs)
        if self.intercept:
            out[-1] = r.sum(axis=0, dtype=np.float64)
        return out.ravel()

    def coefficients(self, w: Array) -> Array:
        """``(k, p)``: W transposed, as scikit-learn's ``coef_``."""
        return self._matrix(w, w.dtype)[: self.n_features].reshape(-1, self.outputs).T.copy()

    def intercepts(self, w: Array) -> Array:
        """``(k,)``, zeros without intercept."""
        if not self.intercept:
            return np.zeros(self.outputs)
        return w[-self.outputs :].copy()

    def parameters(self, coefficients: Array, intercepts: Array) -> Array:
        """The flat vector of ``(k, p)`` coefficients and ``(k,)`` intercepts."""
        W = np.asarray(coefficients, dtype=np.float64).reshape(self.outputs, self.n_features).T
        if not self.intercept:
            return W.ravel().copy()
        b = np.broadcast_to(np.asarray(intercepts, dtype=np.float64), (self.outputs,))
        return np.concatenate([W.ravel(), b])

    def _matrix(self, w: Array, dtype: np.dtype[Any]) -> Array:
        """W over b, ``(p + 1, k)``, or ``(p + 1,)`` for one output.

        Parameters that crossed a network arrive at odd addresses, where BLAS takes another path
        and gives other bits; here is where the kernel receives them, so here they are aligned.
        """
        w = np.require(w, dtype=dtype, requirements=["C", "A"])
        return w if self.outputs == 1 else w.reshape(-1, self.outputs)
