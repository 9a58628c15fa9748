"""Multilayer perceptrons: layers of products and cheap activations, forward and backward by tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.models.base import VJP, Model
from daskgd.rows.features import Features, as_features

Array = NDArray[Any]


def _identity(a: Array) -> None:
    pass


def _logistic(a: Array) -> None:
    half = a.dtype.type(0.5)  # (1 + tanh(a / 2)) / 2: a tenth of the time of expit
    a *= half
    np.tanh(a, out=a)
    a += 1
    a *= half


def _tanh(a: Array) -> None:
    np.tanh(a, out=a)


def _relu(a: Array) -> None:
    np.maximum(a, 0, out=a)


def _identity_vjp(h: Array, r: Array) -> None:
    pass


def _logistic_vjp(h: Array, r: Array) -> None:
    r *= h
    r *= 1 - h


def _tanh_vjp(h: Array, r: Array) -> None:
    r *= 1 - h * h


def _relu_vjp(h: Array, r: Array) -> None:
    r *= h > 0


Activation = tuple[Callable[[Array], None], Callable[[Array, Array], None]]
"""In place: a becomes ``h = act(a)``; r becomes ``r act'(a)``, given h."""

ACTIVATIONS: dict[str, Activation] = {
    "identity": (_identity, _identity_vjp),
    "logistic": (_logistic, _logistic_vjp),
    "tanh": (_tanh, _tanh_vjp),
    "relu": (_relu, _relu_vjp),
}


@dataclass(frozen=True, slots=True, eq=False)
class MLP(Model):
    """``z = act(... act(X W1 + b1) ...) Wm + bm``, with `hidden` units in the layers between.

    The flat parameters are W1 ``(p, h1)``, b1 ``(h1,)``, W2 ``(h1, h2)``, b2 and so on, row by row. They
    are cast to the dtype of X for the products; gradients are float64.

    With `center` m and `scale` s, both ``(p,)``, the parameters are those of ``(X - m) / s``, made tile by
    tile, never a copy of X; `coefficients` and `intercepts` are in the units of X all the same. The hidden
    layers of an ``activation="relu"`` are ``max(a, 0)``, of "logistic" ``1 / (1 + exp(-a))``.

    Parameters
    ----------
    n_features, outputs : int
    hidden : tuple of int
        Units of each hidden layer; () is a linear model.
    activation : "identity", "logistic", "tanh" or "relu"
    center, scale : (p,), optional

    Examples
    --------
    >>> model = MLP(2, 1, hidden=(2,))
    >>> w = np.array([1.0, -1.0, 0.0, 1.0, 0.0, 0.5, 2.0, 3.0, 1.0])
    >>> z, back = model.forward(w, np.array([[1.0, 2.0]]))
    >>> z, back(np.array([1.0]))
    (array([7.5]), array([2. , 3. , 4. , 6. , 2. , 3. , 1. , 1.5, 1. ]))
    >>> model.coefficients(w)[1].tolist(), model.intercepts(w)[1].tolist()
    ([[2.0], [3.0]], [1.0])
    """

    takes_features: ClassVar[bool] = True

    n_features: int
    outputs: int = 1
    hidden: tuple[int, ...] = (100,)
    activation: str = "relu"
    center: Array | None = None
    scale: Array | None = None
    _places: tuple[tuple[int, int, int], ...] = field(default=(), init=False, repr=False)

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"MLP: expected activation to be {', '.join(map(repr, ACTIVATIONS))}, got {self.activation!r}"
            )
        places, at = [], 0
        for a, b in zip(self.units, self.units[1:], strict=False):
            places.append((at, a, b))
            at += (a + 1) * b
        object.__setattr__(self, "_places", tuple(places))

    @property
    def units(self) -> tuple[int, ...]:
        """Units of all layers: features, hidden units, outputs."""
        return (self.n_features, *self.hidden, self.outputs)

    @property
    def size(self) -> int:
        at, a, b = self._places[-1]
        return at + (a + 1) * b

    @property
    def penalised(self) -> Array:
        mask = np.ones(self.size, dtype=bool)
        for _, b in self.layers(mask):
            b[:] = False
        return mask

    def layers(self, w: Array) -> list[tuple[Array, Array]]:
        """Views ``(W, b)`` of the layers' weights ``(fan_in, fan_out)`` and intercepts ``(fan_out,)``."""
        return [
            (w[at : at + a * b].reshape(a, b), w[at + a * b : at + (a + 1) * b]) for at, a, b in self._places
        ]

    def forward(self, w: Array, X: Features | Array) -> tuple[Array, VJP]:
        features = as_features(X)
        dtype = features.dtype
        layers = self.layers(np.require(w, dtype, ["C", "A"]))
        act, lipschitz = ACTIVATIONS[self.activation]
        # An element costs less than a hidden unit: dense rows are standardised here, tile by tile.
        first = features.standardised(self.center, self.scale, dtype)
        H: list[Array] = []
        for i, (W, b) in enumerate(layers):
            a = H[-1] @ W if i else first.dot(W)
            a += b
            if i < len(self.hidden):
                act(a)
            H.append(a)
        z = H.pop()

        def vjp(r: Array) -> Array:
            g = np.empty(self.size)
            one = np.ones(len(z), dtype)
            r = r.reshape(z.shape).astype(dtype, copy=False)
            parts = self.layers(g)
            for i in range(len(layers) - 1, -1, -1):
                into, total = parts[i]
                into[:] = H[i - 1].T @ r if i else first.t_dot(r)
                total[:] = one @ r
                if i:
                    r = r @ layers[i][0].T
                    lipschitz(H[i - 1], r)
            return g

        return z[:, 0] if self.outputs == 1 else z, vjp

    def initial(self, seed: int) -> Array:
        """Uniform in ``+-sqrt(6 / (fan_in + fan_out))`` (Glorot & Bengio 2010), for "logistic" with a 2 in
        place of the 6, as scikit-learn's; intercepts too. Numbers are the Philox generator's."""
        w = np.empty(self.size)
        factor = 2.0 if self.activation == "logistic" else 6.0
        for i, (W, b) in enumerate(self.layers(w)):
            draw = np.random.Generator(np.random.Philox(key=[seed, 0], counter=[0, 0, 0, i]))
            bound = np.sqrt(factor / max(sum(W.shape), 1))
            W[:] = draw.uniform(-bound, bound, W.shape)
            b[:] = draw.uniform(-bound, bound, b.shape)
        return w

    def coefficients(self, w: Array) -> list[Array]:
        """The weights of each layer ``(fan_in, fan_out)``, those of the first in the units of X."""
        out = [W.copy() for W, _ in self.layers(w)]
        if self.scale is not None:
            out[0] /= self.scale[:, None]
        return out

    def intercepts(self, w: Array) -> list[Array]:
        """The intercepts of each layer ``(fan_out,)``, those of the first in the units of X."""
        out = [b.copy() for _, b in self.layers(w)]
        if self.center is not None:
            out[0] -= self.center @ self.coefficients(w)[0]
        return out

    def parameters(self, coefficients: Sequence[Array], intercepts: Sequence[Array]) -> Array:
        """The flat vector of weights and intercepts in the units of X."""
        w = np.empty(self.size)
        for (W, b), given, shift in zip(self.layers(w), coefficients, intercepts, strict=True):
            W[:], b[:] = given, shift
        W, b = self.layers(w)[0]
        if self.center is not None:
            b += self.center @ W
        if self.scale is not None:
            W *= self.scale[:, None]
        return w

    def per_parameter(self, strength: float) -> Array:
        """A penalty's strength of squared weights, in the units of X, as one per parameter ``(d,)``."""
        out = np.zeros(self.size)
        for W, _ in self.layers(out):
            W[:] = strength
        if self.scale is not None:
            self.layers(out)[0][0][:] /= self.scale[:, None] ** 2
        return out
