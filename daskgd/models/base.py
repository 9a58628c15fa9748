"""The base of all models: a forward pass with its vector-Jacobian product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from daskgd.rows.features import Dense, Features

Array = NDArray[Any]

VJP = Callable[[Array], Array]
"""Vector-Jacobian product: from gradients r by the margins, in their shape, to the gradient ``(d,)`` by w in
float64: the derivative of ``sum(r * margins)`` at the w and the rows of the forward pass."""


class Model:
    """Base of all models. Subclasses are frozen dataclasses; their fields are the model's settings.

    To add one: subclass, write `size` and `forward`, and what else differs from here, and list an instance in
    ``daskgd.testing.MODELS``, which tests it (or call ``daskgd.testing.check_model``). Instances travel to
    workers by pickle, and must not change.

    Attributes
    ----------
    n_features : int
        Columns p of X.
    outputs : int
        Margins k of a row: 1 gives ``(n,)``, more ``(n, k)``. See :meth:`daskgd.losses.Loss.outputs`.

    Examples
    --------
    Rows as squares of distances from a centre that is fitted, ``z_i = b - |x_i - c|**2``:

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Bump(Model):
    ...     n_features: int
    ...     outputs: int = 1
    ...
    ...     @property
    ...     def size(self):
    ...         return self.n_features + 1
    ...
    ...     def forward(self, w, X):
    ...         D = X - w[:-1].astype(X.dtype)
    ...         z = w[-1].astype(X.dtype) - np.einsum("ij,ij->i", D, D)
    ...         return z, lambda r: np.append(2 * (r @ D), r.sum()).astype(np.float64)
    >>> z, back = Bump(2).forward(np.array([1.0, 0.0, 5.0]), np.array([[2.0, 0.0], [1.0, 3.0]]))
    >>> z, back(np.array([1.0, 1.0]))
    (array([ 4., -4.]), array([2., 6., 2.]))
    """

    __slots__ = ()

    linear: ClassVar[bool] = False
    """Whether margins are linear in w, and the model has the methods of :class:`~daskgd.models.Linear`."""

    scales: ClassVar[int] = 0
    """Number of margins, after those of the outputs, that have no features."""

    takes_features: ClassVar[bool] = False
    """Whether `forward` takes features of any kind (:class:`~daskgd.rows.features.Features`), not only dense
    arrays."""

    n_features: int
    outputs: int

    @property
    def size(self) -> int:
        """Number of parameters d."""
        raise NotImplementedError

    @property
    def penalised(self) -> Array:
        """A mask ``(d,)`` of bool of the parameters that a penalty sees; by default all."""
        return np.ones(self.size, dtype=bool)

    @property
    def one_column(self) -> bool:
        """Whether margins are one column of ``X W + b``, so that many fits can share one product."""
        return False

    def forward(self, w: Array, X: Array) -> tuple[Array, VJP]:
        """Margins of the rows of X ``(n, p)``, ``(n,)`` or ``(n, k)`` in the dtype of X, and their VJP.

        X is float32 or float64, C-contiguous, and at most some megabytes; n may be 0. `w` is float64, and
        may lie at odd addresses: cast it to the dtype of X with ``np.require(w, X.dtype, ["C", "A"])``. The
        same w and X must give the same bits, on any machine of a kind.
        """
        raise NotImplementedError

    def margins(self, w: Array, X: Array) -> Array:
        """Margins of the rows of X, as those of `forward`."""
        return self.forward(w, X)[0]

    def initial(self, seed: int) -> Array:
        """Parameters to start from ``(d,)``, a function of the seed alone. By default all zero."""
        return np.zeros(self.size)


DENSE_NUMBERS = 1 << 18
"""Numbers of a dense piece of features that are not dense, for a model that takes dense arrays alone."""


def forward(model: Model, w: Array, X: Features) -> tuple[Array, VJP]:
    """Margins of the rows of X, and their VJP: see :meth:`Model.forward`.

    A model that takes dense arrays alone gets sparse rows as such some at a time, and once more for the VJP.
    """
    if model.takes_features or isinstance(X, Dense):
        return model.forward(w, X if model.takes_features else X.toarray())  # type: ignore[arg-type]
    pieces = _pieces(X)

    def vjp(r: Array) -> Array:
        parts = [model.forward(w, X.slice(a, b).toarray())[1](r[a:b]) for a, b in pieces]
        total: Array = np.add.reduce(parts)
        return total

    return margins(model, w, X), vjp


def margins(model: Model, w: Array, X: Features) -> Array:
    """Margins of the rows of X: see :func:`forward`."""
    if model.takes_features or isinstance(X, Dense):
        return model.margins(w, X if model.takes_features else X.toarray())  # type: ignore[arg-type]
    return np.concatenate([model.margins(w, X.slice(a, b).toarray()) for a, b in _pieces(X)])


def _pieces(X: Features) -> list[tuple[int, int]]:
    height = max(DENSE_NUMBERS // X.shape[1], 16)
    return [(a, min(a + height, len(X))) for a in range(0, max(len(X), 1), height)]


class Maker(Protocol):
    """A callable that makes the model, once the shape of the data is known."""

    def __call__(self, n_features: int, outputs: int) -> Model: ...
