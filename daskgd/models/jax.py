"""A function of JAX as a model. JAX is imported only where one is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.models.base import VJP, Model

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class JaxModel(Model):
    """``apply(params, X)`` gives ``(n, k)``, or for one output ``(n,)`` or ``(n, 1)``; compiled once a shape.

    JAX computes in float32, unless it was told ``jax.config.update("jax_enable_x64", True)``, on workers too.

    Attributes
    ----------
    apply : callable
        A pure function of JAX; that of a Flax module, say.
    params : pytree of arrays
        Where to begin.
    n_features, outputs : int
    """

    apply: Callable[[Any, Any], Any]
    params: Any
    n_features: int
    outputs: int = 1
    _made: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not callable(self.apply):
            raise TypeError(f"JaxModel: expected apply(params, X), got {self.apply!r:.80}")
        import jax

        object.__setattr__(self, "params", jax.tree.map(np.asarray, self.params))

    def __getstate__(self) -> tuple[Any, ...]:
        return self.apply, self.params, self.n_features, self.outputs

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        for name, value in zip(("apply", "params", "n_features", "outputs"), state, strict=True):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_made", {})

    @property
    def size(self) -> int:
        import jax

        return sum(np.size(leaf) for leaf in jax.tree.leaves(self.params))

    def initial(self, seed: int) -> Array:
        """`params`, whatever the seed."""
        from jax.flatten_util import ravel_pytree

        return np.asarray(ravel_pytree(self.params)[0], np.float64)

    def _compile(self) -> tuple[Any, Any]:
        if "forward" not in self._made:
            import jax
            from jax.flatten_util import ravel_pytree

            flat, unravel = ravel_pytree(self.params)

            def margins(w: Any, X: Any) -> Any:
                z = self.apply(unravel(w.astype(flat.dtype)), X)
                return z.reshape((len(X),) if self.outputs == 1 else (len(X), self.outputs))

            def gradient(w: Any, X: Any, r: Any) -> Any:
                z, vjp = jax.vjp(lambda v: margins(v, X), w)
                return vjp(r.astype(z.dtype))[0]

            self._made["forward"], self._made["back"] = jax.jit(margins), jax.jit(gradient)
        return self._made["forward"], self._made["back"]

    def forward(self, w: Array, X: Array) -> tuple[Array, VJP]:
        forward, backward = self._compile()
        w = np.array(w, X.dtype)

        def vjp(r: Array) -> Array:
            return np.asarray(backward(w, X, r), np.float64)

        return np.array(forward(w, X), X.dtype), vjp

    def with_weights(self, w: Array) -> Any:
        """A pytree like `params`, of these parameters ``(d,)``."""
        import jax
        from jax.flatten_util import ravel_pytree

        flat, unravel = ravel_pytree(self.params)
        return jax.tree.map(np.asarray, unravel(np.asarray(w, flat.dtype)))
