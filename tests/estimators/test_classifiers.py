"""The classifiers against scikit-learn: penalties, labels, weights; the perceptron by batches."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import dask.array as da
import numpy as np
import pytest
from sklearn import linear_model, svm
from sklearn.exceptions import ConvergenceWarning

import daskgd

RNG = np.random.default_rng(5)
N, P = 300, 6
X = RNG.normal(size=(N, P)) @ (np.eye(P) + 0.3) * [1, 2, 0.5, 1, 3, 1] + [0, 1, 0, -2, 0, 0]
LATENT = (X - X.mean(axis=0)) @ [1.0, -0.5, 2.0, 0.0, 0.0, 0.3] + RNG.logistic(size=N)
LABELS = {
    "binary": np.where(LATENT > 0, 1, -1),
    "three": np.array(["low", "middle", "rare"])[np.digitize(LATENT, [0.0, np.quantile(LATENT, 0.95)])],
}
WEIGHTS = {"plain": None, "weighted": RNG.integers(0, 4, N).astype(float)}
PENALTIES = {"none": (0.0, np.inf), "l2": (0.0, 0.3), "l1": (1.0, 0.3), "elasticnet": (0.4, 0.3)}
TIGHT: dict[str, Any] = {"tol": 1e-13, "max_iter": 5000}


def quietly(est: Any, *data: Any) -> Any:
    """Fitted; whoever stops early is caught by the comparison."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return est.fit(*data)


def row_weights(est: Any, y: Any, s: Any) -> np.ndarray:
    s = np.ones(len(y)) if s is None else s
    if est.class_weight is None:
        return s
    classes, at = np.unique(y, return_inverse=True)
    totals = np.bincount(at, s)
    return s * (totals.sum() / (len(classes) * totals))[at]


def logistic_objective(est: Any, y: Any, s: Any, share: float, C: float) -> float:
    """C sum s loss + share |w|_1 + (1 - share) / 2 |w|^2, or without a penalty the sum of losses."""
    z = X @ est.coef_.T + est.intercept_
    if z.shape[1] == 1:
        z = np.column_stack([np.zeros(len(z)), z])
    top = z.max(axis=1)
    at = np.searchsorted(est.classes_, y)
    loss = top + np.log(np.exp(z - top[:, None]).sum(axis=1)) - z[np.arange(len(z)), at]
    total = float(row_weights(est, y, s) @ loss)
    w = est.coef_
    if np.isinf(C):
        return total
    return C * total + share * np.abs(w).sum() + (1 - share) / 2 * float((w**2).sum())


@pytest.mark.filterwarnings("ignore:Setting penalty=None:UserWarning")  # of scikit-learn 1.8 at C=inf
@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_logistic_regression_is_scikit_learns(penalty, labels, weights, class_weight):
    share, C = PENALTIES[penalty]
    y, s = LABELS[labels], WEIGHTS[weights]
    kind = {"C": C, "l1_ratio": share, "class_weight": class_weight}
    ours = quietly(daskgd.LogisticRegression(**kind, **TIGHT), X, y, s)
    how = {"solver": "newton-cholesky", "tol": 1e-12, "max_iter": 1000}
    if share:
        how = {"solver": "saga", "tol": 1e-12, "max_iter": 20_000}
    theirs = quietly(linear_model.LogisticRegression(**kind, **how), X, y, s)
    a, b = (logistic_objective(est, y, s, share, C) for est in (ours, theirs))
    assert a <= b * (1 + 1e-8)
    assert ours.coef_.shape == theirs.coef_.shape
    if theirs.n_iter_[0] == theirs.max_iter:  # not converged: ours need not agree
        return
    assert np.abs(ours.coef_ - theirs.coef_).max() <= 1e-4 * np.abs(theirs.coef_).max()
    if labels == "three":  # only differences between classes are determined
        ours.intercept_, theirs.intercept_ = (e.intercept_ - e.intercept_.mean() for e in (ours, theirs))
    assert np.abs(ours.intercept_ - theirs.intercept_).max() <= 1e-4 * max(np.abs(theirs.intercept_).max(), 1)
    if share == 1:
        assert ((ours.coef_ == 0) == (np.abs(theirs.coef_) < 1e-8)).all()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"penalty": "l1", "l1_ratio": 1}, {"l1_ratio": 1}),
        ({"penalty": "l2"}, {"l1_ratio": 0}),
        ({"penalty": "elasticnet", "l1_ratio": 0.5}, {"l1_ratio": 0.5}),
        ({"penalty": None}, {"C": np.inf}),
        ({"l1_ratio": None}, {"l1_ratio": 0}),
    ],
    ids=str,
)
def test_the_deprecated_penalty_means_what_it_did(old, new):
    y = LABELS["binary"]
    with pytest.warns(FutureWarning, match="deprecated"):
        a = daskgd.LogisticRegression(**old, tol=1e-10).fit(X, y)
    b = daskgd.LogisticRegression(**new, tol=1e-10).fit(X, y)
    assert (a.coef_ == b.coef_).all()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"penalty": "l1", "l1_ratio": 0.0}, "penalty=l1 with l1_ratio=0.0: penalty wins"),
        ({"penalty": "l2", "l1_ratio": 0.5}, "with l1_ratio=0.5: penalty wins"),
        ({"penalty": None, "C": 2.0}, "will ignore the C that is given, 2.0"),
        ({"penalty": None, "l1_ratio": 0.5}, "will ignore the l1_ratio that is given, 0.5"),
    ],
    ids=str,
)
def test_contradictions_are_warned_of(bad, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        with pytest.warns(UserWarning, match=message):
            daskgd.LogisticRegression(**bad).fit(X, LABELS["binary"])


def test_elastic_net_without_a_ratio_is_refused():
    with pytest.raises(ValueError, match="expected l1_ratio from 0 to 1"):
        daskgd.LogisticRegression(penalty="elasticnet", l1_ratio=None).fit(X, LABELS["binary"])
    for ratio in (-0.1, 1.5, "half", True):
        with pytest.raises(ValueError, match="l1_ratio"):
            daskgd.LogisticRegression(l1_ratio=ratio).fit(X, LABELS["binary"])


# -- support vectors ------------------------------------------------------------------------------


def svm_objective(est: Any, y: Any, s: Any) -> float:
    z = (X @ est.coef_.T + est.intercept_).reshape(len(X), -1)
    signs = np.where(y[:, None] == (est.classes_[1:] if z.shape[1] == 1 else est.classes_), 1, -1)
    loss = np.maximum(1 - signs * z, 0)
    loss = (loss**2 if est.loss == "squared_hinge" else loss).sum(axis=1)
    w = est.coef_
    penalty = np.abs(w).sum() if est.penalty == "l1" else (w**2).sum() / 2
    return float(est.C * (row_weights(est, y, s) @ loss) + penalty)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize(
    ("penalty", "loss"), [("l2", "squared_hinge"), ("l1", "squared_hinge"), ("l2", "hinge")]
)
def test_linear_svc_is_scikit_learns(penalty, loss, labels, weights):
    y, s = LABELS[labels], WEIGHTS[weights]
    kind = {"penalty": penalty, "loss": loss, "C": 0.05}
    tol = 1e-9 if loss == "hinge" else 1e-13
    ours = quietly(daskgd.LinearSVC(**kind, tol=tol, max_iter=5000), X, y, s)
    theirs = svm.LinearSVC(**kind, intercept_scaling=100, tol=1e-9, max_iter=200_000, random_state=0)
    theirs = quietly(theirs, X, y, s)
    a, b = svm_objective(ours, y, s), svm_objective(theirs, y, s)
    assert a <= b * (1 + (1e-6 if loss == "hinge" else 1e-8))
    if loss != "hinge":
        assert np.abs(ours.coef_ - theirs.coef_).max() <= 1e-2 * np.abs(theirs.coef_).max()


def test_two_kinks_are_refused():
    with pytest.raises(ValueError, match="expected loss='squared_hinge' with penalty='l1'"):
        daskgd.LinearSVC(penalty="l1", loss="hinge").fit(X, LABELS["binary"])


def test_a_class_without_weight_is_no_class():
    y = LABELS["binary"]
    with pytest.raises(ValueError, match="only one class of positive weight: 1"):
        daskgd.LogisticRegression().fit(X, y, (y > 0).astype(float))


# -- the perceptron, a batch at a time ------------------------------------------------------------


def test_partial_fit_is_one_sweep_of_fit():
    y = LABELS["three"]
    whole = quietly(daskgd.Perceptron(scale=False, max_iter=1, tol=0), X, y)
    parts = daskgd.Perceptron().partial_fit(X, y, classes=["rare", "low", "middle"])
    assert (parts.coef_ == whole.coef_).all()
    assert (parts.intercept_ == whole.intercept_).all()
    for _ in range(3):
        before = parts.coef_
        parts.partial_fit(X, y)
        assert (parts.coef_ != before).any()
    assert parts.get_params() == daskgd.Perceptron().get_params()
    assert parts.score(X, y) > 0.9 * quietly(daskgd.Perceptron(scale=False), X, y).score(X, y)


@pytest.mark.parametrize("kind", ["numpy", "dask", "stored"])
def test_partial_fit_of_rows_that_lack_classes(kind, tmp_path):
    y = LABELS["three"]
    est, reference = daskgd.Perceptron(), daskgd.Perceptron()
    for i, label in enumerate(("middle", "rare", "low")):
        some = np.isin(y, [label, "low"])
        data: Any = (X[some], y[some])
        reference.partial_fit(*data, classes=["low", "middle", "rare"])
        if kind == "dask":
            data = (da.from_array(X[some], chunks=1000), da.from_array(y[some], chunks=1000))
        elif kind == "stored":
            path = tmp_path / f"{i}.zarr"
            daskgd.write_dataset(path, X[some], y[some])
            data = (path, None)
        est.partial_fit(*data, classes=None if i else ["low", "middle", "rare"])
    np.testing.assert_allclose(est.coef_, reference.coef_, rtol=1e-12)
    assert est.classes_.tolist() == ["low", "middle", "rare"]


def test_partial_fit_learns():
    w = np.arange(1.0, P + 1)
    y = np.where(X @ w > 0, "up", "down")
    est = daskgd.Perceptron()
    for _ in range(20):
        for a in range(0, N, 50):
            est.partial_fit(X[a : a + 50], y[a : a + 50], classes=["up", "down"])
    assert est.score(X, y) > 0.95
    assert pickle.loads(pickle.dumps(est)).score(X, y) == est.score(X, y)


def test_partial_fit_refuses_what_it_cannot_do():
    y = LABELS["three"]
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        daskgd.Perceptron().partial_fit(X, y)
    est = daskgd.Perceptron().partial_fit(X, y, classes=["low", "middle", "rare"])
    before = est.coef_.copy()
    for bad, message in (
        ((X, y, ["low", "high"]), "classes as at the first call"),
        ((X[:, :2], y), "X has 2 features"),
        ((X, np.where(y == "low", "new", y)), "labels among .*'new'"),
        ((np.full_like(X, np.nan), y), "contains NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            est.partial_fit(*bad)
        assert (est.coef_ == before).all()
    with pytest.raises(ValueError, match="balanced"):
        daskgd.Perceptron(class_weight="balanced").partial_fit(X, y, ["low", "middle", "rare"])
    with pytest.raises(ValueError, match="scale"):
        daskgd.Perceptron(scale=True).partial_fit(X, y, ["low", "middle", "rare"])
