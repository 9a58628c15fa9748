"""Models of torch and JAX as estimators; either library is imported only where it is used."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from daskgd.estimators.custom import CustomClassifier, CustomRegressor
from daskgd.losses import Loss
from daskgd.models import Model
from daskgd.models.base import Maker
from daskgd.models.jax import JaxModel
from daskgd.models.torch import TorchModel


@dataclass(frozen=True, eq=False)
class FromTorch:
    """Makes a model of a module."""

    module: Any

    def __call__(self, n_features: int, outputs: int) -> Model:
        return TorchModel(self.module, n_features, outputs)


@dataclass(frozen=True, eq=False, repr=False)
class FromJax:
    """Makes a model of a function and its parameters."""

    apply: Callable[[Any, Any], Any]
    params: Any = field(repr=False)

    def __call__(self, n_features: int, outputs: int) -> Model:
        return JaxModel(self.apply, self.params, n_features, outputs)

    def __repr__(self) -> str:  # the same in every process
        name = getattr(self.apply, "__qualname__", type(self.apply).__name__)
        return f"FromJax({name}, {JaxModel(self.apply, self.params, 1).size} parameters)"


def from_torch(module: Any, loss: Loss) -> CustomClassifier | CustomRegressor:
    """An estimator that trains a torch module out of core (needs torch, here and on workers).

    The module takes rows ``(n, p)`` and gives margins ``(n, k)``, or ``(n,)`` or ``(n, 1)`` for one: numbers
    that the loss takes, without a sigmoid or softmax. It runs in one thread of the CPU, in the dtype of X,
    with dropout off and batch statistics as they are, so that bits repeat. It is not changed; the one that
    was trained is the estimator's `module_`.

    Parameters
    ----------
    module : torch.nn.Module
        Its weights are where the fit begins.
    loss : Loss
        Of :mod:`daskgd.losses`: ``Logistic()`` takes one margin, ``Softmax()`` one for each class,
        ``Squared()`` one for each target.

    Returns
    -------
    CustomClassifier or CustomRegressor
        Settings go in by ``set_params``, such as ``from_torch(net, loss).set_params(solver="adam",
        step=0.01)``.

    Examples
    --------
    >>> import daskgd  # doctest: +SKIP
    >>> net = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    ... # doctest: +SKIP
    >>> est = daskgd.from_torch(net, daskgd.losses.Softmax()).fit(dataset)  # doctest: +SKIP
    >>> torch.save(est.module_.state_dict(), "net.pt")  # doctest: +SKIP
    """
    if not isinstance(loss, Loss):
        raise TypeError(f"from_torch: expected loss to be one of daskgd.losses, got {loss!r:.80}")
    TorchModel(module, 1)  # refuses what is none
    return _estimator(FromTorch(copy.deepcopy(module)), loss)


def from_jax(apply: Callable[[Any, Any], Any], params: Any, loss: Loss) -> CustomClassifier | CustomRegressor:
    """An estimator that trains a function of JAX out of core (needs jax, here and on workers).

    Parameters
    ----------
    apply : callable
        ``apply(params, X)``, pure, from rows ``(n, p)`` to margins ``(n, k)``, or ``(n,)`` or ``(n, 1)`` for
        one.
    params : pytree of arrays
        Where the fit begins; what it found is the estimator's `module_`.
    loss : Loss
        As for :func:`from_torch`.

    Returns
    -------
    CustomClassifier or CustomRegressor

    Examples
    --------
    >>> import daskgd  # doctest: +SKIP
    >>> apply = lambda params, X: jnp.tanh(X @ params["W"]) @ params["v"]  # doctest: +SKIP
    >>> est = daskgd.from_jax(apply, params, daskgd.losses.Squared()).fit(dataset)  # doctest: +SKIP
    """
    if not isinstance(loss, Loss):
        raise TypeError(f"from_jax: expected loss to be one of daskgd.losses, got {loss!r:.80}")
    JaxModel(apply, params, 1)  # refuses what is none
    return _estimator(FromJax(apply, params), loss)


def _estimator(model: Maker, loss: Loss) -> CustomClassifier | CustomRegressor:
    return CustomClassifier(model, loss) if loss.kind == "classification" else CustomRegressor(model, loss)
