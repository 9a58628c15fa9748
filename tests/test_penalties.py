"""Penalties keep their contract, and the check notices those that do not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from daskgd.losses import Squared
from daskgd.models import Linear
from daskgd.penalties import L2, Penalty
from daskgd.problems import Problem
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


@pytest.mark.parametrize("strength", [-1.0, np.nan, np.inf, np.array([1.0, -0.1])])
def test_strength_is_checked(strength: float) -> None:
    with pytest.raises(ValueError, match="L2: expected a finite strength >= 0"):
        L2(strength)


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
    """Ridge with one defect."""

    defect: str = ""

    def value(self, w):
        return float(w @ w / 2) - (self.defect == "value")

    def gradient(self, w):
        return w * (1.01 if self.defect == "gradient" else 1)

    def prox(self, w, step):
        if self.defect == "step 0":
            return w / (1.001 + step)
        if self.defect == "identity":  # dask-glm's elastic net
            return w.copy()
        return w / (1 + step * (1.01 if self.defect == "prox" else 1))


@pytest.mark.parametrize(
    ("defect", "sentence"),
    [
        ("value", ">= 0"),
        ("gradient", "gradient is not that"),
        ("step 0", "step 0 moves"),
        ("identity", "prox at step"),
        ("prox", "prox at step"),
    ],
)
def test_check_notices(defect: str, sentence: str) -> None:
    check_penalty(Broken())
    with pytest.raises(AssertionError, match=sentence):
        check_penalty(Broken(defect))
