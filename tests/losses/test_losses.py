"""Losses keep their contract, and the check notices those that do not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import xlogy
from sklearn._loss import (
    HalfGammaLoss,
    HalfPoissonLoss,
    HalfTweedieLoss,
    HalfTweedieLossIdentity,
    PinballLoss,
)
from sklearn.linear_model import HuberRegressor
from sklearn.linear_model._huber import _huber_loss_and_gradient
from sklearn.metrics import hinge_loss, log_loss

from daskgd.losses import (
    EpsilonInsensitive,
    Gamma,
    Hinge,
    Huber,
    IdentityLink,
    Logistic,
    Loss,
    Perceptron,
    Poisson,
    Quantile,
    Shifted,
    Softmax,
    Squared,
    TargetSummary,
    Tweedie,
    tweedie,
)
from daskgd.models import LinearWithScale
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


# -- log links -----------------------------------------------------------------------------------


def saturated(power: float, y: np.ndarray) -> np.ndarray:
    """What scikit-learn leaves out of half a deviance: its terms in y alone."""
    if power == 1:
        return xlogy(y, y) - y
    if power == 2:
        return -np.log(y) - 1
    if power == 0:
        return 0 * y
    return np.maximum(y, 0) ** (2 - power) / ((1 - power) * (2 - power))


@pytest.mark.parametrize("power", [-1.5, 0, 0.5, 1, 1.2, 1.5, 1.9, 2, 2.5, 3])
def test_half_deviances_are_scikit_learns(power: float, rng: np.random.Generator) -> None:
    loss = tweedie(power, "log")
    theirs = {1: HalfPoissonLoss(), 2: HalfGammaLoss()}.get(power) or HalfTweedieLoss(power=power)
    z, y = rng.standard_normal(500) * 2, rng.gamma(1.0, 5.0, 500)
    if power < 2:
        y[::7] = 0.0
        assert loss.low_included
    if power <= 0:
        y[::5] *= -1
    expected = theirs.loss(y, z) + saturated(power, y)
    assert np.allclose(loss.value(z, y), expected, rtol=1e-10, atol=1e-10)
    gradient, hessian = theirs.gradient_hessian(y, z)
    assert np.allclose(loss.gradient(z, y), gradient, rtol=1e-10, atol=1e-10)
    assert np.allclose(loss.hessian(z, y), hessian, rtol=1e-10, atol=1e-10)
    assert np.array_equal(loss.mean(z), np.exp(z))
    # A fit that is perfect loses nothing, to the last digit.
    y = y[y > 0]
    assert np.abs(loss.value(np.log(y), y)).max() < 1e-14 * (1 + y ** abs(2 - power)).max()


@pytest.mark.parametrize("power", [-1.5, 0, 0.5, 1, 1.2, 2, 2.5, 3])
def test_identity_links_are_scikit_learns(power: float, rng: np.random.Generator) -> None:
    loss, theirs = tweedie(power, "identity"), HalfTweedieLossIdentity(power=power)
    z, y = rng.gamma(1.0, 5.0, 500) + 1e-2, rng.gamma(1.0, 5.0, 500) + 1e-2
    if power < 2:
        y[::7] = 0.0
    assert np.allclose(loss.value(z, y), theirs.loss(y, z), rtol=1e-10, atol=1e-10)
    gradient, hessian = theirs.gradient_hessian(y, z)
    assert np.allclose(loss.gradient(z, y), gradient, rtol=1e-9, atol=1e-9)
    assert np.allclose(loss.hessian(z, y), hessian, rtol=1e-9, atol=1e-9)
    assert np.array_equal(loss.mean(z), z)
    assert loss.convex == (power in (0, 1))
    assert np.all((loss.value(-z, y) == np.inf) == (power != 0))


@pytest.mark.parametrize("power", [1, 1.5, 2])
def test_half_deviances_keep_their_digits_in_float32(power: float, rng: np.random.Generator) -> None:
    """Large counts, well fitted: in the textbook form their terms cancel and leave 1 digit of 7 or none."""
    y = np.rint(rng.uniform(1e4, 1e5, 1000)).astype("f4")
    z = np.log(y) + (0.003 * rng.standard_normal(1000)).astype("f4")
    loss = tweedie(power)
    got, exact = loss.value(z, y), loss.value(z.astype(float), y.astype(float))
    assert got.dtype == np.float32
    assert np.abs(got - exact).mean() < 2e-3 * exact.mean()
    if power == 1:
        textbook = np.exp(z) - y * z + (y * np.log(y) - y)
        assert np.abs(textbook - exact).mean() > 2e-2 * exact.mean()


@pytest.mark.parametrize("power", [1, 2])
def test_tweedies_limits(power: int, rng: np.random.Generator) -> None:
    z, y = rng.standard_normal(100), rng.gamma(2.0, 1.0, 100)
    limit, summary = tweedie(power), TargetSummary(variance=2.0, mean=2.0)
    for near in (power - 1e-7, power + 1e-7):
        if near > 1:
            loss = Tweedie(near)
            assert np.allclose(loss.value(z, y), limit.value(z, y), rtol=1e-5, atol=1e-5)
            assert np.allclose(loss.gradient(z, y), limit.gradient(z, y), rtol=1e-5, atol=1e-5)
            assert np.allclose(loss.hessian(z, y), limit.hessian(z, y), rtol=1e-5, atol=1e-5)
            assert np.isclose(loss.baseline(summary), limit.baseline(summary), rtol=1e-5)


def test_tweedie_by_power() -> None:
    assert [tweedie(p) for p in (0, 1, 2, 1.0, 2.5)] == [
        Squared(),
        Poisson(),
        Gamma(),
        Poisson(),
        Tweedie(2.5),
    ]
    assert tweedie(-1) == IdentityLink(Tweedie(-1)) == tweedie(-1, "identity")
    assert [tweedie(p, "log") for p in (0, 0.5, 1)] == [Tweedie(0), Tweedie(0.5), Poisson()]
    with pytest.raises(ValueError, match="expected link to be"):
        tweedie(1, "logit")
    for power in (1.0, 2.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="use tweedie"):
            Tweedie(power)
    with pytest.raises(ValueError, match=r"mean is exp\(z\), got Squared"):
        IdentityLink(Squared())
    domains = {
        p: (tweedie(p).low, tweedie(p).low_included, tweedie(p).convex) for p in (0, 0.5, 1, 1.5, 2, 3)
    }
    assert domains == {
        0: (-np.inf, True, True),
        0.5: (0, True, False),
        1: (0, True, True),
        1.5: (0, True, True),
        2: (0, False, True),
        3: (0, False, False),
    }


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("loss", [Poisson(), Gamma(), Tweedie(1.5), Tweedie(2.5)], ids=repr)
def test_far_margins_of_log_links(loss: Loss, dtype: str) -> None:
    """Exact as far as the dtype allows, then straight and finite, and never decreasing outwards."""
    y = np.array([1e-3, 1.0, 50.0], dtype)
    out = {"f4": 40, "f8": 300}[dtype]
    for sign in (1, -1):
        z = np.full(3, sign * out, dtype)
        m, t = np.exp(z.astype(float)), y.astype(float)
        p = getattr(loss, "power", 1 if loss == Poisson() else 2)
        rise = z.astype(float) if p == 2 else m ** (2 - p) / (2 - p)
        fall = -t * z.astype(float) if p == 1 else -t * m ** (1 - p) / (1 - p)
        assert np.allclose(loss.value(z, y), rise + fall + saturated(p, t), rtol=1e-4)
        far = np.outer(sign * np.array([2e3, 5e3, 1e4], dtype), np.ones(3, dtype))
        values = np.stack([loss.value(row, y) for row in far])
        slopes = np.stack([loss.gradient(row, y) for row in far])
        assert np.isfinite(values).all()
        assert (np.diff(values, axis=0) >= 0).all()
        if loss.convex:
            assert (sign * slopes > 0).all()
        with np.errstate(over="raise"):
            loss.mean(z)
    assert np.isposinf(loss.mean(np.array([1e5]))).all()


# -- kinks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantile", [0.05, 0.5, 0.8])
def test_pinball_is_scikit_learns(quantile: float, rng: np.random.Generator) -> None:
    z, y = rng.standard_normal((2, 100)) * 3
    theirs = PinballLoss(quantile=quantile)
    loss = Quantile(quantile)
    assert np.allclose(loss.value(z, y), theirs.loss(y, z), rtol=1e-13, atol=1e-13)
    assert np.allclose(loss.gradient(z, y), theirs.gradient(y, z), rtol=1e-13, atol=1e-13)


def test_epsilon_insensitive(rng: np.random.Generator) -> None:
    z, y = rng.standard_normal((2, 100)) * 3
    beyond = np.maximum(np.abs(y - z) - 0.5, 0)
    assert np.allclose(EpsilonInsensitive(0.5).value(z, y), beyond, rtol=1e-13)
    assert np.allclose(EpsilonInsensitive(0.5, squared=True).value(z, y), beyond**2, rtol=1e-13)
    sign = np.sign(z - y) * (beyond > 0)
    assert np.array_equal(EpsilonInsensitive(0.5).gradient(z, y), sign)
    assert np.allclose(EpsilonInsensitive(0.5, squared=True).gradient(z, y), 2 * beyond * sign, rtol=1e-13)


@pytest.mark.parametrize(
    "loss", [Quantile(0.3), EpsilonInsensitive(0.1), EpsilonInsensitive(), Hinge()], ids=repr
)
@pytest.mark.parametrize("width", [1e-6, 0.2, 3.0])
def test_softened(loss: Loss, width: float, rng: np.random.Generator) -> None:
    """Smoothing adds something between nothing and half the width a kink, and less away from it."""
    z, y = rng.standard_normal((2, 400))
    y = np.sign(y) if loss.kind == "classification" else y
    z[:20] = y[:20]
    soft = loss.smoothed(width)
    assert loss.nonsmooth
    assert soft.nonsmooth
    assert not loss.smooth
    assert soft.smooth
    assert soft == replace(loss, width=width)
    assert soft.smoothed(0.0) == loss
    added = soft.excess(z, y)
    assert np.allclose(added, soft.value(z, y) - loss.value(z, y), rtol=1e-9, atol=1e-14)
    assert added.min() >= 0
    kinks = 2 if isinstance(loss, EpsilonInsensitive) else 1
    assert added.max() <= kinks * width / 2
    away = np.abs(loss.gradient(z + 10 * width, y) - loss.gradient(z - 10 * width, y)) == 0
    assert (added[away] <= kinks * width / 40).all()
    assert not loss.excess(z, y).any()
    single = soft.excess(z.astype("f4"), y.astype("f4"))
    assert single.dtype == np.float32


def test_losses_without_kinks_are_their_own_softening() -> None:
    for loss in (
        Squared(),
        Hinge(squared=True),
        EpsilonInsensitive(0.1, squared=True),
        Huber(),
        Perceptron(),
    ):
        assert loss.smoothed(0.5) is loss
        assert not loss.nonsmooth
        assert loss.excess(np.zeros((3, 2)), np.zeros((3, 2))).shape == (3,)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Hinge(squared=True, width=0.1), "expected width=0 with squared=True"),
        (lambda: EpsilonInsensitive(0.1, squared=True, width=0.1), "expected width=0 with squared=True"),
        (lambda: Quantile(0.5, width=-1.0), "width >= 0, got width=-1.0"),
        (lambda: Quantile(1.0), "expected 0 < quantile < 1, got quantile=1.0"),
        (lambda: EpsilonInsensitive(-0.1), "epsilon >= 0, got epsilon=-0.1"),
        (lambda: Huber(0.9), "epsilon >= 1, got epsilon=0.9"),
        (lambda: Shifted(Huber()), "a loss of one margin without offset, got Huber"),
        (lambda: Shifted(Shifted(Squared())), "a loss of one margin without offset, got Shifted"),
        (lambda: Shifted(Softmax()).outputs(3), "one output, got 3"),
        (
            lambda: Shifted(Poisson()).targets(np.zeros(3), 1, np.dtype("f8")),
            r"an offset per row, got shape \(3,",
        ),
        (lambda: Huber().targets(np.zeros((3, 2)), 2, np.dtype("f8")), "one target per row, got 2"),
    ],
)
def test_settings_are_refused_with_a_sentence(make, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


# -- Huber ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [1.0, 1.35, 3.0])
def test_huber_is_scikit_learns(epsilon: float, rng: np.random.Generator) -> None:
    X, w = rng.standard_normal((80, 3)), np.append(rng.standard_normal(4), 0.7)
    y, s = rng.standard_t(2, 80), rng.uniform(0.5, 2, 80)
    expected, gradient = _huber_loss_and_gradient(w[[0, 1, 2, 3, 4]], X, y, epsilon, 0.0, s)
    loss, model = Huber(epsilon), LinearWithScale(3)
    z = model.margins(w, X)
    value, slope = loss.value_and_gradient(z, loss.targets(y, 1, z.dtype))
    assert np.isclose(s @ value, expected, rtol=1e-12)
    assert np.allclose(model.adjoint(X, slope * s[:, None]), gradient, rtol=1e-10, atol=1e-12)
    assert np.array_equal(loss.mean(z), z[:, 0])


def test_a_minimum_of_huber_is_a_huber_regression(rng: np.random.Generator) -> None:
    X = rng.standard_normal((200, 3))
    y = X @ [1.0, -2.0, 0.5] + 0.3 * rng.standard_t(1.5, 200) + 4
    loss, model = Huber(1.35), LinearWithScale(3)

    def f(w: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = loss.value_and_gradient(model.margins(w, X), y)
        return value.sum(), model.adjoint(X, slope)

    start = np.append(np.zeros(3), loss.constant(TargetSummary(variance=float(y.var()), mean=y.mean())))
    bounds = [(None, None)] * 4 + [(1e-9, None)]
    options = {"gtol": 1e-9, "ftol": 1e-15, "maxiter": 1000}
    w = minimize(f, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    theirs = HuberRegressor(alpha=0.0, tol=1e-9, max_iter=1000).fit(X, y)
    assert np.allclose(w, [*theirs.coef_, theirs.intercept_, theirs.scale_], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_huber_is_infinite_without_a_scale(dtype: str) -> None:
    z = np.array([[0.0, 0.0], [0.0, -1.0], [0.0, -1e30], [2.0, 0.0], [2.0, 1e-30], [0.0, 1e30]], dtype)
    y = np.full(6, 2.0, dtype)
    loss = Huber()
    value, slope = loss.value_and_gradient(z, y)
    assert np.isposinf(value[:4]).all()
    assert np.isfinite(value[4:]).all()
    assert np.isfinite(slope).all()
    assert np.isfinite(loss.hessian(z, y)[[0, 1, 2, 3, 5]]).all()
    assert (slope[:3, 1] < 0).all()  # the way out is up


# -- offsets -------------------------------------------------------------------------------------


def test_shifted_is_the_loss_of_moved_margins(rng: np.random.Generator) -> None:
    z, offset = rng.standard_normal((2, 50))
    y = rng.poisson(2.0, 50).astype(float)
    loss = Shifted(Poisson())
    for dtype in ("f4", "f8"):
        t = loss.targets(np.stack([y, offset], axis=1), 1, np.dtype(dtype))
        at, moved = z.astype(dtype), z.astype(dtype) + offset.astype(dtype)
        yy = y.astype(dtype)
        assert np.array_equal(loss.value(at, t), Poisson().value(moved, yy))
        assert np.array_equal(loss.gradient(at, t), Poisson().gradient(moved, yy))
        assert np.array_equal(loss.hessian(at, t), Poisson().hessian(moved, yy))
        assert loss.value(at, t).dtype == dtype
    assert np.array_equal(loss.mean(z), np.exp(z))
    # A logarithm of exposure as offset: a model of rates, weighted with the exposure.
    u = np.exp(offset)
    t = np.stack([y, offset], axis=1)
    assert np.allclose(loss.gradient(z, t), u * Poisson().gradient(z, y / u), rtol=1e-12, atol=1e-12)


def test_shifted_is_what_its_loss_is() -> None:
    loss = Shifted(Quantile(0.3))
    assert (loss.low, loss.kind, loss.smooth, loss.nonsmooth) == (-np.inf, "regression", False, True)
    assert loss.smoothed(0.1) == Shifted(Quantile(0.3, width=0.1))
    assert loss.smoothed(0.1).smooth
    gamma, logistic = Shifted(Gamma()), Shifted(Logistic())
    assert (gamma.low, gamma.low_included, gamma.deviance, gamma.convex) == (0, False, True, True)
    assert (gamma.offsets, gamma.loss.offsets) == (1, 0)
    assert (logistic.kind, logistic.outputs(2)) == ("classification", 1)
    assert not Shifted(Tweedie(3.0)).convex
    both = TargetSummary(variance=2.0, mean=np.array([3.0, 7.0]))
    assert gamma.constant(both).tolist() == [np.log(3.0)]
    assert gamma.baseline(both) == Gamma().baseline(TargetSummary(variance=2.0, mean=3.0))


# -- constants -----------------------------------------------------------------------------------


def test_constants() -> None:
    moments = TargetSummary(variance=4.0, mean=3.0)
    several = TargetSummary(variance=4.0, mean=np.array([3.0, 5.0]))
    assert Squared().constant(moments).tolist() == [3]
    assert Squared().constant(several).tolist() == [3, 5]
    assert Poisson().constant(several).tolist() == np.log([3, 5]).tolist()
    assert Huber().constant(moments).tolist() == [3, 2]
    assert Huber().constant(TargetSummary(variance=0.0, mean=3.0)).tolist() == [3, 1]
    assert EpsilonInsensitive(0.1).constant(several).tolist() == [3, 5]
    assert Quantile(0.5).constant(moments).tolist() == [3]
    assert np.allclose(Quantile(0.975).constant(moments), 3 + 2 * 1.959964)
    shares = np.array([0.25, 0.75])
    assert np.allclose(Logistic().constant(TargetSummary(shares)), np.log(3))
    assert np.allclose(Softmax().constant(TargetSummary(shares)), np.log(3) * np.array([-0.5, 0.5]))
    for loss in (Hinge(), Hinge(squared=True), Perceptron()):
        assert loss.constant(TargetSummary(shares)).tolist() == [0]
        assert loss.constant(TargetSummary(np.full(3, 1 / 3))).tolist() == [0, 0, 0]
    # Classes without weight, targets that are all zero.
    for loss in (Logistic(), Softmax()):
        assert np.isfinite(loss.constant(TargetSummary(np.array([1.0, 0.0])))).all()
    for loss in (Poisson(), Tweedie(1.5)):
        nothing = TargetSummary(variance=0.0, mean=0.0)
        assert np.isfinite(loss.constant(nothing)).all()
        assert loss.baseline(nothing) == 0
    fresh = moments.mean, Squared().constant(moments)
    fresh[1][0] = 9
    assert moments.mean == 3


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

    def gradient(self, z, y):
        if self.defect == "not convex":
            return -np.sin(z - y)
        if self.defect == "alias":
            np.subtract(z, y, out=z)
            return z
        return (z - y) * (1.001 if self.defect == "gradient" else 1)

    def hessian(self, z, y):
        return np.full_like(z, 2 if self.defect == "hessian" else 1)

    def value_and_gradient(self, z, y):
        if self.defect == "both":
            return self.value(z, y), 1.01 * self.gradient(z, y)
        return self.value(z, y), self.gradient(z, y)

    def baseline(self, summary):
        return Squared.baseline(self, summary) * (2 if self.defect == "baseline" else 1)

    def constant(self, summary):
        if self.defect == "shape":
            return np.zeros(7)
        return Squared.constant(self, summary) + (self.defect == "constant")

    def excess(self, z, y):
        return Squared.excess(self, z, y) - (self.defect == "excess")


class Overflowing(Logistic):
    def value(self, z, y):
        return np.log(1 + np.exp(z)) - y * z


@pytest.mark.parametrize(
    ("defect", "sentence"),
    [
        ("gradient", "gradient is not the derivative"),
        ("hessian", "hessian is not the derivative"),
        ("not convex", "not convex"),
        ("upcast", "value turns float32 into float64"),
        ("both", "value_and_gradient disagrees"),
        ("alias", "gradient"),
        ("baseline", "expected a baseline"),
        ("constant", "expected the constant"),
        ("shape", "finite margins as constant"),
        ("excess", "expected an excess"),
    ],
)
def test_check_notices(defect: str, sentence: str) -> None:
    check_loss(Broken())
    with pytest.raises(AssertionError, match=sentence):
        check_loss(Broken(defect))


def test_check_notices_overflow() -> None:
    with pytest.raises(AssertionError, match="overflow"):
        check_loss(Overflowing())


def test_check_notices_false_declarations() -> None:
    @dataclass(frozen=True, slots=True)
    class NoDeviance(Quantile):
        deviance: ClassVar[bool] = True

    @dataclass(frozen=True, slots=True)
    class OutOfDomain(Gamma):
        low_included: ClassVar[bool] = True

    @dataclass(frozen=True, slots=True)
    class Soft(Hinge):
        def smoothed(self, width):
            return self

    with pytest.raises(AssertionError, match=r"expected the constant|not linear in the targets"):
        check_loss(NoDeviance(0.3))
    with pytest.raises(AssertionError, match=r"not finite|overflow|not linear|inexact|expected the constant"):
        check_loss(OutOfDomain())
    with pytest.raises(AssertionError, match="expected smoothed to smooth kinks"):
        check_loss(Soft())


@pytest.mark.parametrize(
    ("loss", "declared", "sentence"),
    [
        (Poisson, {"inverse_link": "identity"}, "mean is another function"),
        (Logistic, {"inverse_link": "exp"}, "expected inverse_link identity, logistic or softmax"),
        (Hinge, {"inverse_link": "logistic"}, "those probabilities are not its least"),
        (Gamma, {"variance_power": 1.5}, "its variance is not the mean to the power 1.5"),
        (Poisson, {"shift_invariant": True}, "declared shift_invariant"),
    ],
)
def test_check_notices_false_declarations_of_what_is_predicted(
    loss: type[Loss], declared: dict[str, object], sentence: str
) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_loss(type(f"False{loss.__name__}", (loss,), declared)())


def test_what_estimators_ask_of_losses_is_declared() -> None:
    asked = {
        Squared(): (0.0, "identity", True),
        Gamma(): (2.0, "exp", False),
        Tweedie(1.5): (1.5, "exp", False),
        Poisson(): (None, "exp", False),
        Shifted(Gamma()): (2.0, "exp", False),
        IdentityLink(Gamma()): (2.0, "identity", False),
        Tweedie(-1): (-1, "exp", False),
        Logistic(): (None, "logistic", False),
        Softmax(): (None, "softmax", False),
        Huber(): (None, "identity", True),
    }
    for loss, expected in asked.items():
        assert (loss.variance_power, loss.inverse_link, loss.shift_invariant) == expected


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
