"""Penalties keep their contract, and the check notices those that do not."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskgd.losses import Squared
from daskgd.models import Linear
from daskgd.penalties import L1, L2, ElasticNet, Penalty
from daskgd.problems import Problem
from daskgd.solvers.quadratic import minimise
from daskgd.testing import PENALTIES, check_penalty


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_contract(penalty: Penalty) -> None:
    check_penalty(penalty)


def test_l2_in_closed_form() -> None:
    w = np.array([1.0, -2.0, 3.0])
    penalty = L2(np.array([1.0, 0.0, 2.0]))
    assert penalty.value(w) == 0.5 * (1 + 18)
    assert penalty.gradient(w).tolist() == [1.0, 0.0, 6.0]
    assert penalty.prox(w, 2.0).tolist() == [1 / 3, -2.0, 3 / 5]


def test_l1_in_closed_form() -> None:
    w = np.array([1.0, -2.0, 3.0])
    penalty = L1(np.array([1.0, 0.0, 2.0]))
    assert penalty.value(w) == 7.0
    assert penalty.l1(w).tolist() == [1.0, 0.0, 2.0]
    assert not penalty.gradient(w).any()
    assert penalty.prox(w, 2.0).tolist() == [0.0, -2.0, 0.0]
    assert penalty.prox(w, np.array([0.5, 1.0, 1.0])).tolist() == [0.5, -2.0, 1.0]
    assert L1(1.0, positive=True).prox(w, 1.5).tolist() == [0.0, 0.0, 1.5]
    assert not np.signbit(L1(1.0).prox(np.array([-0.5, 0.5]), 1.0)).any()  # no coefficients of -0.0


def test_elastic_net_is_the_sum_of_its_parts() -> None:
    w = np.array([1.0, -2.0, 3.0])
    a, b = np.array([1.0, 0.0, 2.0]), np.array([0.0, 3.0, 0.5])
    both = ElasticNet(a, b)
    assert both.value(w) == L1(a).value(w) + L2(b).value(w)
    assert both.l1(w).tolist() == a.tolist()
    assert both.hessian(w).tolist() == b.tolist()
    assert np.array_equal(both.gradient(w), L2(b).gradient(w))
    assert np.allclose(both.prox(w, 0.7), L2(b).prox(L1(a).prox(w, 0.7), 0.7), rtol=1e-15)


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_penalties_survive_a_pickle(penalty: Penalty) -> None:
    w = np.linspace(-2, 3, 5)
    twin = pickle.loads(pickle.dumps(penalty))
    assert twin.value(w) == penalty.value(w)
    assert (twin.smooth, twin.positive) == (penalty.smooth, penalty.positive)


def test_smooth_is_what_has_neither_l1_nor_sign() -> None:
    smooth = [L2(1.0), L1(), ElasticNet(0.0, 1.0), L1(np.zeros(3))]
    assert all(penalty.smooth for penalty in smooth)
    nonsmooth = [
        L1(1.0),
        L1(positive=True),
        ElasticNet(np.array([0.0, 1.0]), 1.0),
        ElasticNet(0, 1, positive=True),
    ]
    assert not any(penalty.smooth for penalty in nonsmooth)


@pytest.mark.parametrize("strength", [-1.0, np.nan, np.inf, np.array([1.0, -0.1])])
def test_strength_is_checked(strength: float) -> None:
    with pytest.raises(ValueError, match="L2: expected a finite strength >= 0"):
        L2(strength)
    with pytest.raises(ValueError, match="L1: expected a finite strength >= 0"):
        L1(strength)
    with pytest.raises(ValueError, match="ElasticNet: expected a finite l1_strength >= 0"):
        ElasticNet(strength)
    with pytest.raises(ValueError, match="ElasticNet: expected a finite l2_strength >= 0"):
        ElasticNet(1.0, strength)


# -- certificates -------------------------------------------------------------------------------


def test_gaps_in_closed_form() -> None:
    w, g = np.array([1.0, -2.0, 0.0]), np.array([-3.0, 0.5, 0.25])
    a = np.array([1.0, 2.0, 0.5])
    assert np.isclose(L2(a).gap(w, g, 50.0), np.sum((a * w + g) ** 2 / (2 * a)), rtol=1e-14)
    assert np.isclose(L1(a).gap(w, g, 50.0), L1(a).value(w) + g @ w + 50.0 * (3.0 - 1), rtol=1e-14)
    # Of the elastic net, coordinate 0 goes by its square, where one of the others may go by the bound.
    both = ElasticNet(a, np.array([1.0, 0.0, 0.0]))
    assert np.isclose(both.gap(w, g, 50.0), both.value(w) + g @ w + (3.0 - 1) ** 2 / 2, rtol=1e-14)
    steep = np.array([-3.0, 2.5, 0.25])
    expected = both.value(w) + steep @ w + (3.0 - 1) ** 2 / 2 + 50.0 * (2.5 / 2 - 1)
    assert np.isclose(both.gap(w, steep, 50.0), expected, rtol=1e-14)


def test_gaps_are_infinite_where_nothing_holds_a_coefficient() -> None:
    w, g = np.array([1.0, 1.0]), np.array([0.0, 0.1])
    for penalty in (L2(), L1(), L2(np.array([1.0, 0.0])), L1(np.array([1.0, 0.0])), ElasticNet()):
        assert penalty.gap(w, g, 1.0) == np.inf
    assert L1(positive=True).gap(w, g, 1.0) == 0.1  # down to 0 it goes, and no further
    assert L1(1.0, positive=True).gap(-w, g, 1.0) == np.inf
    assert L1(1.0).gap(w, np.array([np.nan, 0.0]), 1.0) == np.inf
    assert L2().gap(w, 0 * g, 1.0) == 0.0
    assert L1(1.0).gap(w[:0], g[:0], 0.0) == 0.0


def test_gaps_keep_their_digits(rng: np.random.Generator) -> None:
    """At the minimum, squares of rounding: where value and inner products would cancel to 1e-16 of them."""
    w, a = 1e3 * rng.standard_normal(50), 1 + rng.random(50)
    assert L2(a).gap(w, -a * w * (1 + 1e-14), 1e6) < 1e-20 * L2(a).value(w)
    assert ElasticNet(a, a).gap(w, -a * (w + np.sign(w)) * (1 + 1e-14), 1e6) < 1e-17 * L2(a).value(w)


@given(
    seed=st.integers(0, 10**6),
    zeros=st.sampled_from([0.0, 0.3, 1.0]),
    positive=st.booleans(),
)
def test_a_gap_is_at_least_the_supremum_it_bounds(seed: int, zeros: float, positive: bool) -> None:
    """Against points drawn from where it is taken."""
    rng = np.random.default_rng(seed)
    a = rng.exponential(size=4) * (rng.random(4) > zeros)
    b = rng.exponential(size=4) * (rng.random(4) > 0.5)
    penalty = ElasticNet(a, b, positive)
    w, g = rng.standard_normal((2, 4))
    w = np.abs(w) if positive else w
    bound = penalty.value(w) * 2
    gap = penalty.gap(w, g, bound)
    for _ in range(200):
        u = w * rng.random() + rng.standard_normal(4) * 10.0 ** rng.uniform(-3, 1)
        u = np.abs(u) if positive else u
        if penalty.value(u) <= bound:
            assert g @ (w - u) + penalty.value(w) - penalty.value(u) <= gap * (1 + 1e-12) + 1e-12


@pytest.mark.parametrize(
    "penalty",
    [
        L1(0.2),
        L1(0.2, positive=True),
        ElasticNet(0.2, 0.1),
        ElasticNet(0.2, np.array([0.0, 1, 0, 2, 0, 0.1])),
    ],
)
def test_gaps_are_finite_and_end_at_zero(penalty: Penalty, rng: np.random.Generator) -> None:
    A = rng.standard_normal((30, 6))
    H, b = A.T @ A / 30, A.T @ rng.standard_normal(30) / 30
    l2 = np.diag(penalty.hessian(b))
    w = minimise(H + l2, b, penalty.l1(b), positive=penalty.positive)
    f = float(w @ H @ w / 2 - b @ w) + 1 + penalty.value(w)
    assert 0 <= penalty.gap(w, H @ w - b, f) < 1e-13


def test_intercepts_are_never_penalised() -> None:
    """Not even where a strength per parameter has a number at their place."""
    for strength in (2.0, np.full(6, 2.0)):
        problem = Problem(Squared(), Linear(2, 2), L2(strength))
        w = np.array([1.0, 2.0, 3.0, 4.0, 100.0, 200.0])
        assert problem.penalty_value(w) == 30.0
        assert problem.penalty_gradient(w).tolist() == [2.0, 4.0, 6.0, 8.0, 0.0, 0.0]


# -- the check notices --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Broken(Penalty):
    """Elastic net of strengths 1 with one defect."""

    defect: str = ""
    smooth = False

    def value(self, w):
        if self.defect == "bare":
            return float(w @ w / 2)
        return float(np.abs(w).sum() + w @ w / 2) - (self.defect == "value")

    def gradient(self, w):
        return w * (1.01 if self.defect == "gradient" else 1)

    def hessian(self, w):
        return np.ones_like(w) * (1.01 if self.defect in ("hessian", "gradient") else 1)

    def l1(self, w):
        if self.defect == "shape":
            return np.ones(1)
        return np.ones_like(w) * (-1 if self.defect == "l1" else 0 if self.defect == "none" else 1)

    def prox(self, w, step):
        if self.defect == "step 0":
            return w / (1.001 + step)
        if self.defect == "identity":  # dask-glm's elastic net
            return w.copy()
        if self.defect == "array" and np.ndim(step):
            step = np.mean(step)
        return (w - np.clip(w, -step, step)) / (1 + step * (1.01 if self.defect == "prox" else 1))

    def gap(self, w, g, bound):
        if self.defect == "optimist":
            return 0.0
        gap = ElasticNet(1.0, 1.0).gap(w, g, bound)
        return gap + 0.1 if self.defect == "pessimist" else gap


@pytest.mark.parametrize(
    ("defect", "sentence"),
    [
        ("value", ">= 0"),
        ("shape", "of shape"),
        ("l1", "expected l1 and hessian >= 0"),
        ("none", "declared smooth=False"),
        ("bare", "gradient is not that"),
        ("gradient", "gradient is not that"),
        ("hessian", "hessian is not"),
        ("step 0", "step 0 moves"),
        ("identity", "prox at step"),
        ("prox", "prox at step"),
        ("array", "prox at step"),
        ("optimist", "expected a gap of at least"),
        ("pessimist", "expected a gap of 0"),
    ],
)
def test_check_notices(defect: str, sentence: str) -> None:
    check_penalty(Broken())
    with pytest.raises(AssertionError, match=sentence):
        check_penalty(Broken(defect))
