"""SGDClassifier and SGDRegressor against scikit-learn's: the same steps, and nearer to the minimum."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn import linear_model
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

import daskgd

RNG = np.random.default_rng(11)
X = StandardScaler().fit_transform(RNG.normal(size=(3000, 12)) @ RNG.normal(size=(12, 12)))
Z = X @ RNG.normal(size=12)
BINARY = (Z + RNG.logistic(size=3000) > 0).astype(int)
LEVELS = np.array(["a", "b", "c", "d"])[np.digitize(Z + RNG.logistic(size=3000), [-2, 0, 2])]
NUMBERS = 3 * Z + RNG.normal(size=3000)

CLASSIFIERS = ["hinge", "squared_hinge", "log_loss", "modified_huber", "perceptron"]
REGRESSORS = ["squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"]


def both(loss: str, **settings: Any) -> tuple[Any, Any, Any]:
    """Ours, scikit-learn's, and targets."""
    kind = "SGDClassifier" if loss in CLASSIFIERS else "SGDRegressor"
    here, there = (getattr(module, kind)(loss=loss, **settings) for module in (daskgd, linear_model))
    return here, there, BINARY if loss in CLASSIFIERS else NUMBERS


def objective(est: Any, y: Any) -> float:
    """The objective of an estimator, of a single margin, with the L2 penalty."""
    z = X @ np.ravel(est.coef_) + est.intercept_[0]
    m, r, e = z * (2 * y - 1), y - z, est.epsilon
    each = {
        "hinge": lambda: np.maximum(0, 1 - m),
        "squared_hinge": lambda: np.maximum(0, 1 - m) ** 2,
        "log_loss": lambda: np.logaddexp(0, -m),
        "modified_huber": lambda: np.where(m >= -1, np.maximum(0, 1 - m) ** 2, -4 * m),
        "perceptron": lambda: np.maximum(0, -m),
        "squared_error": lambda: r**2 / 2,
        "huber": lambda: np.where(np.abs(r) <= e, r**2 / 2, e * np.abs(r) - e**2 / 2),
        "epsilon_insensitive": lambda: np.maximum(0, np.abs(r) - e),
        "squared_epsilon_insensitive": lambda: np.maximum(0, np.abs(r) - e) ** 2,
    }
    return float(np.mean(each[est.loss]()) + est.alpha / 2 * np.sum(np.square(est.coef_)))


@pytest.mark.parametrize("loss", CLASSIFIERS + REGRESSORS)
def test_row_by_row_its_steps_are_those_of_scikit_learn(loss: str) -> None:
    """One row a batch, in order, and steps short enough to be taken as they are given."""
    for steps in ({"learning_rate": "constant"}, {"learning_rate": "invscaling", "power_t": 0.4}):
        same = {
            "penalty": None,
            "shuffle": False,
            "fit_intercept": False,
            "tol": None,
            "max_iter": 3,
            **steps,
        }
        here, there, y = both(loss, eta0=0.001, **same)
        here.set_params(batch_size=1, scale=False).fit(X[:200], y[:200])
        there.fit(X[:200], y[:200])
        np.testing.assert_allclose(here.coef_, there.coef_, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Maximum number of iteration:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("loss", CLASSIFIERS + REGRESSORS)
def test_it_is_as_near_to_the_minimum(loss: str, average: bool) -> None:
    here, there, y = both(loss, average=average, random_state=0)
    if average:
        here.set_params(learning_rate="optimal")
    assert objective(here.fit(X, y), y) <= objective(there.fit(X, y), y) * 1.02 + 1e-3
    assert here.outcome_ == "converged"


@pytest.mark.parametrize("penalty", ["l1", "elasticnet", "l2"])
def test_penalties(penalty: str) -> None:
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(2000, 50))
    y = (wide[:, 0] + 0.3 * rng.normal(size=2000) > 0).astype(int)
    est = daskgd.SGDClassifier("log_loss", penalty=penalty, alpha=0.05, l1_ratio=0.7, tol=1e-5).fit(wide, y)
    assert np.count_nonzero(est.coef_) < 30 or penalty == "l2"
    exact = daskgd.LogisticRegression(
        C=1 / (0.05 * 2000), l1_ratio={"l1": 1.0, "l2": 0.0}.get(penalty, 0.7)
    ).fit(wide, y)
    np.testing.assert_allclose(est.coef_, exact.coef_, atol=0.1 * np.abs(exact.coef_).max())


@pytest.mark.parametrize("kind", ["SGDClassifier", "SGDRegressor"])
def test_parameters_go_both_ways(kind: str) -> None:
    ours, theirs = getattr(daskgd, kind), getattr(linear_model, kind)
    assert {
        k: v for k, v in ours().get_params().items() if k in theirs().get_params()
    } == theirs().get_params()
    ours(**theirs().get_params()).fit(X[:50], BINARY[:50])


@pytest.mark.parametrize("loss", ["log_loss", "modified_huber"])
@pytest.mark.parametrize("y", [BINARY, LEVELS], ids=["two", "four"])
def test_probabilities_are_those_of_scikit_learn(loss: str, y: Any) -> None:
    est = daskgd.SGDClassifier(loss).fit(X, y)
    there = est.to_sklearn()
    np.testing.assert_allclose(est.predict_proba(X), there.predict_proba(X), atol=1e-12)
    assert np.array_equal(est.predict(X), there.predict(X))
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(est.predict_log_proba(X), np.log(there.predict_proba(X)), atol=1e-9)


def test_others_have_no_probabilities() -> None:
    est = daskgd.SGDClassifier().fit(X, BINARY)
    assert not hasattr(est, "predict_proba")


def test_when_it_stops() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        est = daskgd.SGDClassifier("log_loss", tol=None, max_iter=7).fit(X, BINARY)
    assert (est.n_iter_, est.t_, est.outcome_) == (7, 21_000, "budget_spent")
    with pytest.warns(ConvergenceWarning, match="maximum number of iterations reached, max_iter=2"):
        daskgd.SGDClassifier("log_loss", max_iter=2).fit(X, BINARY)
    soon = daskgd.SGDClassifier("log_loss", tol=0.1, n_iter_no_change=2).fit(X, BINARY).n_iter_
    late = daskgd.SGDClassifier("log_loss", tol=1e-6, n_iter_no_change=9).fit(X, BINARY).n_iter_
    assert soon < late


@pytest.mark.parametrize("average", [False, True])
def test_the_perceptron_does_not_stay_at_zero(average: bool) -> None:
    """Where its criterion is least: 0."""
    for y in (BINARY, LEVELS):
        here, there = (
            module.SGDClassifier("perceptron", average=average, random_state=0).fit(X, y).score(X, y)
            for module in (daskgd, linear_model)
        )
        assert here > there - 0.05  # at 0 it is that of a coin


def test_no_tolerance_runs_all_passes_and_none_is_zero() -> None:
    for settings in ({"early_stopping": True}, {"learning_rate": "adaptive"}):
        est = daskgd.SGDClassifier(tol=None, max_iter=9, **settings).fit(X, BINARY)
        assert (est.n_iter_, est.outcome_) == (9, "budget_spent")
    assert daskgd.SGDClassifier("log_loss", tol=0.0, max_iter=500).fit(X, BINARY).n_iter_ < 500


def test_steps_that_adapt_go_below_a_constant_one() -> None:
    rates = ("constant", "adaptive")
    constant, adaptive = (
        daskgd.SGDRegressor(learning_rate=rate, eta0=0.05, tol=1e-5).fit(X, NUMBERS) for rate in rates
    )
    assert objective(adaptive, NUMBERS) < objective(constant, NUMBERS)
    assert adaptive.history_[-1]["step"] < 0.05 / 5


def test_steps_that_would_diverge_do_not() -> None:
    est = daskgd.SGDRegressor(learning_rate="constant", eta0=1e6, scale=False).fit(1e4 * X, NUMBERS)
    assert est.score(1e4 * X, NUMBERS) > 0.5


def test_early_stopping_keeps_the_best_of_other_rows() -> None:
    settings: dict[str, Any] = {"loss": "log_loss", "early_stopping": True, "validation_fraction": 0.2}
    est = daskgd.SGDClassifier(**settings).fit(X, BINARY)
    scores = [row["validation_score"] for row in est.history_]
    assert est.outcome_ == "stopped"
    assert len(scores) == est.n_iter_
    train, rest = daskgd.as_dataset(X, BINARY).train_test_split(0.2, 0, stratify=True)
    assert est.score(rest) == max(scores)
    assert train.n_rows == 2400


def test_rows_before_the_average_do_not_count() -> None:
    def coefficients(average: Any) -> Any:
        return daskgd.SGDRegressor(average=average, tol=None, max_iter=1, batch_size=10).fit(X, NUMBERS).coef_

    end, whole = coefficients(False), coefficients(True)
    assert np.array_equal(coefficients(10**9), end)
    assert not np.array_equal(coefficients(1000), whole)
    assert np.allclose(coefficients(1), whole, rtol=0.05)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"loss": "squared_error"}, "loss to be 'hinge' or 'log_loss'"),
        ({"learning_rate": "pa1"}, "learning_rate"),
        ({"eta0": 0.0}, "eta0"),
        ({"average": -1}, "average"),
        ({"penalty": "l3"}, "penalty"),
        ({"alpha": -1.0}, "alpha"),
        ({"early_stopping": True, "validation_fraction": 0.0}, "validation_fraction"),
        ({"batch_size": 0}, "batch_size"),
    ],
    ids=str,
)
def test_what_is_refused(settings: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        daskgd.SGDClassifier(**settings).fit(X, BINARY)


def test_fits_repeat_and_begin_where_they_are_told_to() -> None:
    est = daskgd.SGDClassifier("log_loss", random_state=3)
    first = est.fit(X, LEVELS).coef_.copy()
    assert np.array_equal(clone(est).fit(X, LEVELS).coef_, first)
    assert not np.array_equal(clone(est).set_params(random_state=4).fit(X, LEVELS).coef_, first)
    again = est.set_params(warm_start=True, max_iter=1, tol=None).fit(X, LEVELS)
    assert again.history_[0]["loss"] < np.log(2) * 4
    assert again.history_[0]["loss"] < clone(est).fit(X, LEVELS).history_[0]["loss"]
