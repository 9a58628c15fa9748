"""Checks of models: that the way back is the derivative, and that rows stand for themselves."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.models import MLP, Linear, LinearWithScale, Model
from daskgd.models.base import forward, margins
from daskgd.rows.features import Dense, prepare
from daskgd.testing.laws import other_kinds, require

Array = NDArray[Any]

_CENTER, _SCALE = np.array([1.0, -2.0, 30.0]), np.array([0.5, 2.0, 10.0])

MODELS: tuple[Model, ...] = (
    Linear(3),
    Linear(3, 2, intercept=False),
    Linear(3, 2, center=_CENTER, scale=_SCALE),
    Linear(3, center=100 * _SCALE, scale=_SCALE),
    LinearWithScale(3),
    MLP(3),
    MLP(3, 4, (), "identity"),
    MLP(3, 1, (5,), "identity"),
    MLP(3, 1, (5,), "logistic", _CENTER, _SCALE),
    MLP(3, 2, (7, 4), "tanh", scale=_SCALE),
    MLP(3, 3, (6, 5, 4), "relu", 100 * _SCALE, _SCALE),
)
"""Every model of daskgd."""


def check_model(model: Model, rtol: float = 1e-6, n: int = 40) -> None:
    """Check that a model keeps its contract, on n random rows, around its initial parameters.

    The way back is the derivative of the margins, by central differences, to `rtol` of the largest; margins
    have the dtype of X, and gradients are float64, also in float32, where both agree to 1e-3; a row's margins
    do not depend on the other rows (to rounding), nor on whether they are dense, gradients add, no rows give
    no gradient; misaligned parameters and a copy that was pickled give the same bits; neither parameters nor
    rows are written to; initial parameters are a function of the seed.

    Raises
    ------
    AssertionError
        With what is wrong.

    Examples
    --------
    >>> from daskgd.models import MLP
    >>> check_model(MLP(5, 2, hidden=(4,), activation="tanh"))
    """
    name, rng = repr(model)[:80], np.random.default_rng(7)
    k = model.outputs + model.scales
    X = rng.standard_normal((n, model.n_features))
    center, scale = getattr(model, "center", None), getattr(model, "scale", None)
    X = X * (1 if scale is None else scale) + (0 if center is None else center)  # such as it was made for
    r = rng.standard_normal((n,) if k == 1 else (n, k))
    w = model.initial(3)
    require(w.shape == (model.size,) and w.dtype == np.float64, f"{name}: initial gives {w.dtype} {w.shape}")
    require(np.array_equal(w, model.initial(3)), f"{name}: initial(3) is not the same twice")
    mask = model.penalised
    require(
        mask.shape == w.shape and mask.dtype == bool,
        f"{name}: penalised is no mask of {model.size} parameters",
    )
    w = w + 0.1 * rng.standard_normal(model.size)
    _check_derivative(model, name, w, X, r, rtol)
    _check_rows(model, name, w, X, r)
    _check_kinds(model, name, w, X, r)
    _check_bits(model, name, w, X, r)
    single = X.astype(np.float32)
    z, vjp = model.forward(w, single)
    g = vjp(r.astype(np.float32))
    require(z.dtype == np.float32, f"{name}: expected margins of float32 for such rows, got {z.dtype}")
    require(g.dtype == np.float64, f"{name}: expected gradients of float64, got {g.dtype}")
    z64, back64 = model.forward(w, single.astype(float))
    for a, b, what in ((z, z64, "margins"), (g, back64(r), "gradients")):
        off = float(np.abs(a - b).max() / np.abs(b).max())
        require(off < 1e-3, f"{name}: {what} of float32 are {off:.1e} off those of float64")


def _check_derivative(model: Model, name: str, w: Array, X: Array, r: Array, rtol: float) -> None:
    z, vjp = model.forward(w, X)
    require(
        z.shape == r.shape and z.dtype == X.dtype,
        f"{name}: expected margins {r.shape}, got {z.shape} {z.dtype}",
    )
    require(np.array_equal(z, model.margins(w, X)), f"{name}: margins and forward differ")
    g = vjp(r)
    require(g.shape == w.shape, f"{name}: expected a gradient {w.shape}, got {g.shape}")
    rng = np.random.default_rng(1)
    for j in rng.permutation(len(w))[:50]:
        h = 1e-6 * max(1.0, abs(w[j]))
        d = np.zeros(len(w))
        d[j] = h
        slope = float(np.sum(r * (model.margins(w + d, X) - model.margins(w - d, X)))) / (2 * h)
        size = float(np.abs(g).max()) + 1.0
        require(
            abs(slope - g[j]) <= rtol * size,
            f"{name}: the derivative by parameter {j} is {slope} by differences, {g[j]} by the way back",
        )


def _check_rows(model: Model, name: str, w: Array, X: Array, r: Array) -> None:
    z, vjp = model.forward(w, X)
    g, cut = vjp(r), len(X) // 3
    first, before = model.forward(w, X[:cut])
    rest, after = model.forward(w, X[cut:])
    near = 1e-10 * (1 + np.abs(z).max())
    require(np.abs(np.concatenate([first, rest]) - z).max() <= near, f"{name}: rows depend on other rows")
    parts = before(r[:cut]) + after(r[cut:])
    require(np.abs(parts - g).max() <= 1e-10 * (1 + np.abs(g).max()), f"{name}: gradients do not add")
    none, nothing = model.forward(w, X[:0])
    require(none.shape == z[:0].shape, f"{name}: no rows have margins {none.shape}")
    require(not nothing(r[:0]).any(), f"{name}: no rows have a gradient")


def _check_kinds(model: Model, name: str, w: Array, X: Array, r: Array) -> None:
    z, vjp = model.forward(w, X)
    expected = {"margins": z, "the margins of forward": z, "a gradient": vjp(r)}
    for features in other_kinds(Dense(X)):
        same_z, way = forward(model, w, features)
        for (what, of_dense), found in zip(
            expected.items(), (margins(model, w, features), same_z, way(r)), strict=True
        ):
            off = float(np.abs(found - of_dense).max() / (1 + np.abs(of_dense).max()))
            kind = type(features).__name__.lower()
            require(off <= 1e-10, f"{name}: {kind} rows have {what} {off:.1e} off those of dense rows")


def _check_bits(model: Model, name: str, w: Array, X: Array, r: Array) -> None:
    kept = w.copy(), X.copy(), r.copy()
    z, vjp = model.forward(w, X)
    g = vjp(r)
    require(
        all(np.array_equal(a, b) for a, b in zip((w, X, r), kept, strict=True)),
        f"{name}: writes to what it is given",
    )
    odd = np.empty(w.nbytes + 1, np.uint8)[1:].view(w.dtype)
    odd[:] = w
    for other, what in (
        (model, "misaligned parameters"),
        (pickle.loads(pickle.dumps(model)), "a pickled copy"),
    ):
        again, way = other.forward(odd, prepare(X))
        require(
            np.array_equal(again, z) and np.array_equal(way(r), g),
            f"{name}: {what} give other bits than before",
        )
