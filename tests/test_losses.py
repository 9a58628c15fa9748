"""Losses keep their contract, and the check notices those that do not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.metrics import hinge_loss, log_loss

from daskgd.losses import Hinge, Logistic, Loss, Softmax, Squared
from daskgd.testing import LOSSES, check_loss


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_contract(loss: Loss) -> None:
    check_loss(loss)


def test_values_are_scikit_learns(rng: np.random.Generator) -> None:
    z, y = rng.standard_normal((50, 3)) * 4, rng.integers(0, 3, 50)
    y[:3] = 0, 1, 2
    e = np.exp(z)
    assert np.isclose(Softmax().value(z, y).mean(), log_loss(y, e / e.sum(axis=1, keepdims=True)), rtol=1e-12)
    two, z1 = y == 1, z[:, 0]
    loss = Logistic()
    got = loss.value(z1, loss.targets(two.astype(int), 1, z1.dtype)).mean()
    assert np.isclose(got, log_loss(two, 1 / (1 + np.exp(-z1))), rtol=1e-12)
    hinge = Hinge()
    got = hinge.value(z1, hinge.targets(two.astype(int), 1, z1.dtype)).mean()
    assert np.isclose(got, hinge_loss(two, z1), rtol=1e-12)


def test_logistic_takes_two_classes_only() -> None:
    with pytest.raises(ValueError, match="two classes, got 3; use Softmax"):
        Logistic().outputs(3)


# -- the check notices --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Broken(Squared):
    """The squared loss with one defect."""

    defect: str = ""

    def value(self, z, y):
        if self.defect == "upcast":
            return Squared.value(self, z, y).astype(float)
        if self.defect == "not convex":
            return np.atleast_2d(np.cos(z - y).T).T.reshape(len(z), -1).sum(axis=1)
        return Squared.value(self, z, y)

    def slope(self, z, y):
        if self.defect == "not convex":
            return -np.sin(z - y)
        if self.defect == "alias":
            np.subtract(z, y, out=z)
            return z
        return (z - y) * (1.001 if self.defect == "slope" else 1)

    def curve(self, z, y):
        return np.full_like(z, 2 if self.defect == "curve" else 1)

    def value_and_slope(self, z, y):
        if self.defect == "both":
            return self.value(z, y), 1.01 * self.slope(z, y)
        return self.value(z, y), self.slope(z, y)

    def baseline(self, summary):
        return Squared.baseline(self, summary) * (2 if self.defect == "baseline" else 1)


class Overflowing(Logistic):
    def value(self, z, y):
        return np.log(1 + np.exp(z)) - y * z


@pytest.mark.parametrize(
    ("defect", "sentence"),
    [
        ("slope", "slope is not the derivative"),
        ("curve", "curve is not the derivative"),
        ("not convex", "not convex"),
        ("upcast", "value turns float32 into float64"),
        ("both", "value_and_slope disagrees"),
        ("alias", "slope"),
        ("baseline", "expected a baseline"),
    ],
)
def test_check_notices(defect: str, sentence: str) -> None:
    check_loss(Broken())
    with pytest.raises(AssertionError, match=sentence):
        check_loss(Broken(defect))


def test_check_notices_overflow() -> None:
    with pytest.raises(AssertionError, match="overflow"):
        check_loss(Overflowing())


def test_check_takes_targets_of_losses_that_need_positive_ones() -> None:
    """With a fixed y, a loss that is defined for positive targets only can be checked."""

    class Positive(Squared):
        def targets(self, y, outputs, dtype):
            if (y <= 0).any():
                raise ValueError("y: expected y > 0")
            return Squared.targets(self, y, outputs, dtype)

    check_loss(Positive(), y=np.linspace(0.1, 3, 40))
    with pytest.raises(ValueError, match="y > 0"):
        check_loss(Positive())
