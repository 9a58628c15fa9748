"""Linear models: margins, their adjoint, and parameters in and out."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest

from daskgd.losses import Huber, Softmax, Squared
from daskgd.models import Linear, LinearWithScale
from daskgd.penalties import L2
from daskgd.problems import Problem
from daskgd.rows.dtypes import compute_dtype
from daskgd.rows.features import Dense, prepare, tile_rows
from daskgd.rows.sparse import Sparse
from daskgd.rows.stacked import Stacked
from daskgd.rows.tiles import Rows

CENTER, SCALE = np.array([1.0, -2.0, 30.0]), np.array([0.5, 2.0, 10.0])
MODELS = [Linear(3, k, b) for k, b in itertools.product((1, 2), (True, False))]
MODELS += [Linear(3, k, center=CENTER, scale=SCALE) for k in (1, 2)]
MODELS += [Linear(3, 2, False, scale=SCALE), Linear(3, 1, True, scale=SCALE)]
WITH_SCALE = [LinearWithScale(3, 1, b) for b in (True, False)]
WITH_SCALE += [LinearWithScale(3, center=CENTER, scale=SCALE), LinearWithScale(3, 1, False, scale=SCALE)]


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_adjoint(model: Linear, rng: np.random.Generator) -> None:
    """``<r, margins(v)> = <adjoint(r), v>`` for all r and v: the definition of the adjoint."""
    X = rng.standard_normal((20, 3))
    v = rng.standard_normal(model.size)
    r = rng.standard_normal(20 if model.outputs == 1 else (20, model.outputs))
    z = model.margins(v, X)
    assert z.shape == r.shape
    assert np.isclose(np.sum(r * z), model.adjoint(X, r) @ v, rtol=1e-13)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_margins_and_coefficients(model: Linear, rng: np.random.Generator) -> None:
    X, w = rng.standard_normal((20, 3)), rng.standard_normal(model.size)
    coef, b = model.coefficients(w), model.intercepts(w)
    assert coef.shape == (model.outputs, 3)
    assert b.shape == (model.outputs,)
    assert bool(b.any()) == model.intercept
    assert np.allclose(model.margins(w, X).reshape(20, -1), X @ coef.T + b, rtol=1e-13)
    assert np.allclose(model.parameters(coef, b), w, rtol=1e-13)
    assert model.penalised.sum() == coef.size
    W = w.reshape(-1, model.outputs)[:3].T
    assert np.allclose(coef, W if model.scale is None else W / SCALE, rtol=1e-13)
    # A penalty per output on the coefficients in the units of X, from whatever parameters.
    strength = np.array([2.0, 7.0])[: model.outputs]
    penalty = L2(model.per_parameter(strength))
    assert np.isclose(penalty.value(w), strength @ (coef**2).sum(axis=1) / 2, rtol=1e-13)


def test_a_standardised_model_is_that_of_standardised_rows(rng: np.random.Generator) -> None:
    X, w, r = rng.standard_normal((20, 3)) * SCALE + CENTER, rng.standard_normal(4), rng.standard_normal(20)
    model, plain, Z = Linear(3, center=CENTER, scale=SCALE), Linear(3), (X - CENTER) / SCALE
    assert np.allclose(model.margins(w, X), plain.margins(w, Z), rtol=1e-12, atol=1e-12)
    assert np.allclose(model.adjoint(X, r), plain.adjoint(Z, r), rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="expected center=None without an intercept"):
        Linear(3, 1, False, center=CENTER)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_float32_stays(model: Linear, rng: np.random.Generator) -> None:
    X = rng.standard_normal((20, 3)).astype(np.float32)
    z = model.margins(rng.standard_normal(model.size), X)
    assert z.dtype == np.float32
    assert model.adjoint(X, z).dtype == np.float64
    assert model.margins(np.zeros(model.size), X[:0]).shape == z[:0].shape
    assert not model.adjoint(X[:0], z[:0]).any()


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_a_penalty_is_of_the_coefficients_in_the_units_of_X(
    model: Linear, power: int, rng: np.random.Generator
) -> None:
    w, strength = rng.standard_normal(model.size), np.array([2.0, 7.0])[: model.outputs]
    expected = strength @ (np.abs(model.coefficients(w)) ** power).sum(axis=1)
    assert np.isclose(model.per_parameter(strength, power) @ np.abs(w) ** power, expected, rtol=1e-13)
    # The default is that of squares.
    assert np.array_equal(model.per_parameter(strength), model.per_parameter(strength, 2))


def hessian(model: Linear, X: np.ndarray, c: np.ndarray) -> np.ndarray:
    """By definition: a row of derivatives of the margins per row and margin."""
    k = model.outputs + model.scales
    J = np.stack([model.margins(e, X).reshape(len(X), k) for e in np.eye(model.size)], axis=2)
    if c.ndim < 3:
        c = c.reshape(len(X), k, 1) * np.eye(k)
    return np.einsum("nad,nab,nbe->de", J, c, J)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("model", MODELS + WITH_SCALE, ids=repr)
def test_curvature(model: Linear, dtype: str, rng: np.random.Generator) -> None:
    X = rng.standard_normal((40, 3)).astype(dtype)
    k = model.outputs + model.scales
    if model.scales:
        z = np.stack([rng.standard_normal(40), rng.uniform(0.5, 2, 40)], axis=1)
        curves = [Huber().hessian(z, rng.standard_normal(40))]
    elif k > 1:
        curves = [
            Softmax().hessian(rng.standard_normal((40, k)), rng.integers(0, k, 40)),
            rng.random((40, k)),
        ]
    else:
        curves = [rng.random(40), rng.standard_normal(40)]  # of losses that are not convex too
    for c in curves:
        H = model.curvature(model.design_matrix(X), c.astype(dtype))
        expected = hessian(model, X.astype(float), c)
        assert H.dtype == np.float64
        assert np.abs(H - expected).max() <= {"f4": 1e-5, "f8": 1e-13}[dtype] * np.abs(expected).max()
        for other in (Sparse.of_dense(X), Stacked.of(Dense(X[:, :2]), Sparse.of_dense(X[:, 2:]))):
            H = model.hessian(other, c.astype(dtype))
            assert np.abs(H - expected).max() <= {"f4": 1e-5, "f8": 1e-12}[dtype] * np.abs(expected).max()


@pytest.mark.parametrize("model", WITH_SCALE, ids=repr)
def test_a_scale_is_one_more_parameter(model: LinearWithScale, rng: np.random.Generator) -> None:
    X, w, r = rng.standard_normal((20, 3)), rng.standard_normal(model.size), rng.standard_normal((20, 2))
    line = model.line
    z = model.margins(w, X)
    assert np.array_equal(z, np.stack([line.margins(w[:-1], X), np.full(20, w[-1])], axis=1))
    assert np.isclose(np.sum(r * z), model.adjoint(X, r) @ w, rtol=1e-13)
    assert model.size == len(w) == line.size + 1
    assert (line.scales, model.scales, model.outputs) == (0, 1, 1)
    assert np.flatnonzero(model.penalised).tolist() == [0, 1, 2]
    coef, b = model.coefficients(w), model.intercepts(w)
    assert coef.shape == (1, 3)
    assert b.shape == (1,)
    assert np.allclose(z[:, 0], X @ coef[0] + b, rtol=1e-12)
    assert np.allclose(model.parameters(coef, b, w[-1]), w, rtol=1e-13)
    assert model.parameters(coef, b)[-1] == 1
    for power in (1, 2):
        strength = model.per_parameter(np.array([2.0]), power)
        assert np.array_equal(strength, np.append(line.per_parameter(np.array([2.0]), power), 0))
    single = X.astype(np.float32)
    assert model.margins(w, single).dtype == np.float32
    assert model.adjoint(single, r.astype(np.float32)).dtype == np.float64
    assert model.margins(w, X[:0]).shape == (0, 2)
    assert not model.adjoint(X[:0], r[:0]).any()
    assert not model.curvature(model.design_matrix(X[:0]), np.zeros((0, 2, 2))).any()
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.margins(w, X), z)


def test_a_model_with_scale_has_one_output() -> None:
    with pytest.raises(ValueError, match="expected outputs=1, got 2"):
        LinearWithScale(3, 2)
    with pytest.raises(ValueError, match="expected center=None without an intercept"):
        LinearWithScale(3, 1, False, center=CENTER)


def test_curvature_keeps_its_digits_far_from_zero(rng: np.random.Generator) -> None:
    """float32 features with a mean of 1,000 deviations: products of the raw ones would hold no digit."""
    p, n = 3, 2000
    X = (rng.standard_normal((n, p)) + 1000).astype("f4")
    center, scale = X.mean(axis=0, dtype=float), X.std(axis=0, dtype=float)
    z = np.stack([rng.standard_normal(n), rng.uniform(0.5, 2, n)], axis=1)
    c = Huber().hessian(z, rng.standard_normal(n))
    plain, model = LinearWithScale(p), LinearWithScale(p, center=center, scale=scale)
    expected = plain.curvature(plain.design_matrix((X - center) / scale), c)
    got = model.curvature(model.design_matrix(X), c.astype("f4"))
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()


def test_misaligned_arrays_give_the_same_bits(rng: np.random.Generator) -> None:
    """As they arrive from a network: parameters and rows at odd addresses."""
    X, w = rng.standard_normal((501, 7)), rng.standard_normal(8)

    def shifted(a: np.ndarray) -> np.ndarray:
        room = np.empty(a.nbytes + 1, dtype=np.uint8)
        out = room[1:].view(a.dtype).reshape(a.shape)
        out[...] = a
        assert not out.flags.aligned
        return out

    model = Linear(7)
    z = model.margins(w, X)
    assert np.array_equal(model.margins(shifted(w), prepare(shifted(X))), z)
    y = rng.standard_normal(501)
    tile = next(Rows(X, y, y, 0).tiles())
    odd = next(Rows(shifted(X), shifted(y), shifted(y), 0).tiles())
    for a, b in (
        (tile.X.toarray(), odd.X.toarray()),
        (tile.y, odd.y),
        (tile.sample_weight, odd.sample_weight),
    ):
        assert a is not None
        assert b is not None
        assert np.array_equal(a, b)
        assert b.flags.aligned
        assert b.flags.c_contiguous


def test_compute_dtypes() -> None:
    single = "float32 float16 bool int8 uint8 int16 uint16"
    for name in single.split():
        assert compute_dtype(np.dtype(name)) == np.float32, name
        if name != "float32" and name != "float16" and name != "bool":
            top = np.iinfo(name).max
            assert int(np.float32(top)) == top
    for name in ["float64", "int32", "uint32", "int64", "uint64"]:
        assert compute_dtype(np.dtype(name)) == np.float64, name
    wide = np.zeros((3, 4), "f4")[:, ::2]
    assert prepare(wide).flags.c_contiguous


def test_tiles_cover_the_rows_once_at_a_height_of_width_and_dtype_only() -> None:
    assert tile_rows(128, np.dtype("f4")) == 2 * tile_rows(128, np.dtype("f8"))
    assert tile_rows(100, np.dtype("f4")) == tile_rows(100, np.dtype("u1"))
    assert tile_rows(10**9, np.dtype("f8")) > 0
    p = 2**17  # 16 rows to a tile
    rows = Rows(np.broadcast_to(np.arange(50.0)[:, None], (50, p)), np.arange(50), None, 1000)
    tiles = list(rows.tiles())
    assert [len(t.X) for t in tiles] == [16, 16, 16, 2]
    assert [t.numbers for t in tiles] == [1000, 1016, 1032, 1048]
    assert np.array_equal(np.concatenate([t.y for t in tiles if t.y is not None]), rows.y)
    assert [len(t.X) for t in Rows(np.zeros((0, 3)), None, None, 7).tiles()] == [0]


@pytest.mark.parametrize(
    ("labels", "y", "codes"),
    [
        ([3, 7], [7, 3, 7], [1, 0, 1]),
        ([0, 1, 2], [2, 0, 1], [2, 0, 1]),
        ([-1, 5, 10], [10, -1, 5], [2, 0, 1]),
        (["a", "b", "c"], ["c", "a", "b"], [2, 0, 1]),
        ([0.0, 1.0, 2.5], [2.5, 0.0, 1.0], [2, 0, 1]),
    ],
)
def test_labels_to_codes(labels: list, y: list, codes: list) -> None:
    problem = Problem(Squared(), Linear(1), L2(), np.array(labels))
    assert problem.codes(np.array(y)).tolist() == codes
    assert problem.codes(np.array(y)[:, None]).tolist() == codes
