"""A torch module as a model. Torch is imported only where one is used."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.models.base import VJP, Model

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class TorchModel(Model):
    """A ``torch.nn.Module`` from rows ``(n, p)`` to ``(n, k)``, or for one output ``(n,)`` or ``(n, 1)``.

    It runs as in ``module.eval()``, in the dtype of X, in one thread, on the CPU: dropout is off, batch
    normalisation uses the statistics that it has, and the same rows give the same bits. The flat parameters
    are those that require a gradient, in the order of ``module.named_parameters()``.

    Attributes
    ----------
    module : torch.nn.Module
        A copy is kept.
    n_features, outputs : int
    """

    module: Any
    n_features: int
    outputs: int = 1
    _names: tuple[str, ...] = field(default=(), init=False, repr=False)

    def __post_init__(self) -> None:
        import torch

        if not isinstance(self.module, torch.nn.Module):
            raise TypeError(f"TorchModel: expected module to be a torch.nn.Module, got {self.module!r:.80}")
        module = copy.deepcopy(self.module).cpu().eval()
        object.__setattr__(self, "module", module)
        names = tuple(name for name, p in module.named_parameters() if p.requires_grad)
        if not names:
            raise ValueError(
                "TorchModel: expected a module with parameters that require a gradient, got none"
            )
        object.__setattr__(self, "_names", names)

    @property
    def size(self) -> int:
        return sum(p.numel() for p in self._parameters())

    @property
    def penalised(self) -> Array:
        """A mask of all parameters but those whose name ends in "bias"."""
        return np.concatenate(
            [
                np.full(p.numel(), not name.endswith("bias"))
                for name, p in zip(self._names, self._parameters(), strict=True)
            ]
        )

    def _parameters(self) -> Iterator[Any]:
        known = dict(self.module.named_parameters())
        return (known[name] for name in self._names)

    def initial(self, seed: int) -> Array:
        """The parameters of the module, whatever the seed."""
        return np.concatenate([p.detach().numpy().ravel().astype(np.float64) for p in self._parameters()])

    def forward(self, w: Array, X: Array) -> tuple[Array, VJP]:
        import torch

        torch.set_num_threads(1)  # sums over more would depend on how many there are
        flat = torch.from_numpy(np.array(w, X.dtype)).requires_grad_()
        given, at = self._rest(flat.dtype), 0
        for name, p in zip(self._names, self._parameters(), strict=True):
            given[name] = flat[at : at + p.numel()].view(p.shape)
            at += p.numel()
        rows = torch.from_numpy(X) if X.flags.writeable else torch.from_numpy(X.copy())
        with torch.enable_grad():
            z = torch.func.functional_call(self.module, given, (rows,))
        shape = (len(X),) if self.outputs == 1 else (len(X), self.outputs)
        if z.numel() != np.prod(shape, dtype=int):
            raise ValueError(
                f"TorchModel: expected the module to give {shape} for rows {X.shape}, got {tuple(z.shape)}"
            )
        z = z.reshape(shape)

        def vjp(r: Array) -> Array:
            (g,) = torch.autograd.grad(z, flat, torch.from_numpy(np.ascontiguousarray(r, X.dtype)))
            return g.numpy().astype(np.float64)

        return z.detach().numpy().astype(X.dtype, copy=False), vjp

    def _rest(self, dtype: Any) -> dict[str, Any]:
        """Copies of what is not trained, in the dtype of the rows: changes to them are lost."""
        frozen = [(name, p.detach()) for name, p in self.module.named_parameters() if name not in self._names]
        return {
            name: value.to(dtype, copy=True) if value.is_floating_point() else value.clone()
            for name, value in (*frozen, *self.module.named_buffers())
        }

    def with_weights(self, w: Array) -> Any:
        """A copy of the module with these parameters ``(d,)``."""
        import torch

        module = copy.deepcopy(self.module)
        known, at = dict(module.named_parameters()), 0
        with torch.no_grad():
            for name in self._names:
                p = known[name]
                p.copy_(torch.from_numpy(np.array(w[at : at + p.numel()])).view(p.shape))
                at += p.numel()
        return module
