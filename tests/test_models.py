"""Linear models: margins, their adjoint, and parameters in and out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from daskgd.losses import Squared
from daskgd.models import Linear
from daskgd.penalties import L2
from daskgd.problems import Problem, Rows, compute_dtype, prepare, tile_rows

CENTER, SCALE = np.array([1.0, -2.0, 30.0]), np.array([0.5, 2.0, 10.0])
MODELS = [Linear(3, k, b) for k, b in itertools.product((1, 2), (True, False))]
MODELS += [Linear(3, k, center=CENTER, scale=SCALE) for k in (1, 2)]
MODELS += [Linear(3, 2, False, scale=SCALE), Linear(3, 1, True, scale=SCALE)]


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
    for a, b in ((tile.X, odd.X), (tile.y, odd.y), (tile.sample_weight, odd.sample_weight)):
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
    assert tile_rows(100, np.dtype("f4")) == 2 * tile_rows(100, np.dtype("f8"))
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
