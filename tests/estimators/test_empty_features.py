"""Features without entries are left out of fits to sparse rows in memory: coefficients of 0, else alike."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn import linear_model
from sklearn.base import clone

import daskgd
from daskgd.estimators.fitting import empty_features
from daskgd.estimators.fitting.empty_features import Occurring
from daskgd.testing import SOLVERS

N, P = 300, 60
PLACES = np.sort(np.random.default_rng(5).choice(P, 12, replace=False))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few features are worth a look."""
    monkeypatch.setattr(empty_features, "LEAST_FEATURES", 1)


def data() -> tuple[sp.csr_array, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    dense = np.zeros((N, P))
    dense[:, PLACES] = np.where(rng.random((N, len(PLACES))) < 0.3, rng.normal(size=(N, len(PLACES))), 0)
    z = dense @ rng.normal(size=P)
    return sp.csr_array(dense), {
        "labels": (z + rng.normal(size=N) > 0).astype(int),
        "classes": np.digitize(z + rng.normal(size=N), [-1, 1]),
        "numbers": z + 0.1 * rng.normal(size=N),
        "two numbers": np.stack([z, -z], axis=1) + rng.normal(size=(N, 2)),
        "counts": rng.poisson(np.exp(0.3 * z)),
    }


def fitted(est: Any, *args: Any, **settings: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return clone(est).fit(*args, **settings)


LOSSES = [s for s in SOLVERS if s.needs_smooth_penalty and not isinstance(s, daskgd.Gram)]
SMOOTH = [s for s in LOSSES if not (isinstance(s, daskgd.LocalSGD) and s.sample_bytes)]
"""Solvers whose path does not depend on how many parameters there are: what a sample controls does."""

ESTIMATORS: list[tuple[Any, str]] = [
    (daskgd.LogisticRegression(), "classes"),
    (daskgd.LogisticRegression(C=np.inf), "labels"),
    (daskgd.LogisticRegression(l1_ratio=1, C=0.1), "labels"),
    (daskgd.LogisticRegression(fit_intercept=False), "labels"),
    (daskgd.LogisticRegression(regime="distributed"), "labels"),
    (daskgd.LinearRegression(), "numbers"),
    (daskgd.Ridge(), "two numbers"),
    (daskgd.Lasso(alpha=1e-2), "numbers"),
    (daskgd.ElasticNet(alpha=1e-2, positive=True), "numbers"),
    (daskgd.LinearSVC(), "labels"),
    (daskgd.LinearSVC(loss="hinge"), "labels"),
    (daskgd.HuberRegressor(), "numbers"),
    (daskgd.QuantileRegressor(alpha=1e-2), "numbers"),
    (daskgd.PoissonRegressor(), "counts"),
    (daskgd.SGDClassifier(max_iter=5, tol=None), "labels"),
    (daskgd.SGDClassifier(penalty="l1", alpha=1e-2, average=True), "labels"),
    (daskgd.SGDRegressor(max_iter=5, tol=None), "numbers"),
    (daskgd.Perceptron(max_iter=5, tol=None), "labels"),
]
BY_SOLVER = [
    pytest.param(
        daskgd.LogisticRegression(solver=s, max_iter=8), "labels", marks=pytest.mark.slow if i % 3 else ()
    )
    for i, s in enumerate(SMOOTH)
]


@pytest.mark.parametrize(("est", "target"), [*ESTIMATORS, *BY_SOLVER], ids=lambda value: str(value)[:60])
def test_the_fit_is_that_of_all_features(
    est: Any, target: str, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = data()
    est = clone(est).set_params(engine="serial")
    few = fitted(est, X, y[target])
    monkeypatch.setattr(empty_features, "LEAST_FEATURES", P + 1)
    full = fitted(est, X, y[target])
    assert few.coef_.shape == full.coef_.shape
    beside = np.setdiff1d(np.arange(P), PLACES)
    assert not few.coef_[..., beside].any()
    scale = np.abs(full.coef_).max()
    assert np.abs(full.coef_[..., beside]).max() < 1e-12 * scale  # so does every solver leave them
    np.testing.assert_allclose(few.coef_, full.coef_, atol=1e-3 * scale)
    np.testing.assert_allclose(few.intercept_, full.intercept_, atol=1e-3 * scale)
    assert few.n_features_in_ == P
    np.testing.assert_array_equal(few.predict(X).shape, full.predict(X).shape)
    assert "_occurring" not in vars(few)


def test_every_engine_has_the_same_bits(small: None, client: Any, tmp_path: Path) -> None:
    X, y = data()
    for solver in ("auto", "lbfgs"):
        alone = daskgd.LogisticRegression(engine="serial", solver=solver).fit(X, y["labels"])
        assert (
            fitted(alone.set_params(engine="threads"), X, y["labels"]).coef_.tobytes()
            == alone.coef_.tobytes()
        )
        for travel_bytes in ("64 MB", 0):
            with dask.config.set({"daskgd.travel-bytes": travel_bytes}):
                found = fitted(alone.set_params(engine=None), X, y["labels"])
            np.testing.assert_array_equal(found.coef_, alone.coef_)


def test_together_and_planned(small: None) -> None:
    X, y = data()
    estimators = [daskgd.LogisticRegression(C=c, engine="serial") for c in (0.1, 1.0)]
    alone = [fitted(est, X, y["labels"]) for est in estimators]
    for a, b in zip(daskgd.together(estimators, X, y["labels"]), alone, strict=True):
        np.testing.assert_allclose(a.coef_, b.coef_, rtol=1e-6, atol=1e-9)
        assert "_occurring" not in vars(a)
    plan = daskgd.LogisticRegression(engine="serial").plan(X, y["labels"])
    few = daskgd.LogisticRegression(engine="serial").plan(X[:, PLACES], y["labels"])
    assert (plan.n_features, few.n_features) == (P, len(PLACES))
    assert (plan.driver_bytes, plan.sweep_bytes) == (few.driver_bytes, few.sweep_bytes)


def test_warm_starts(small: None) -> None:
    """Where a coefficient begins elsewhere than at 0, its feature is not left out."""
    X, y = data()
    beside = int(np.setdiff1d(np.arange(P), PLACES)[0])
    for C in (1.0, np.inf):
        est = daskgd.LogisticRegression(C=C, warm_start=True, engine="serial").fit(X, y["labels"])
        expected, first = est.coef_.copy(), est._begins_at_zero_beside(Occurring(PLACES, P))
        assert first
        est.fit(X, y["labels"])
        np.testing.assert_allclose(est.coef_, expected, rtol=1e-6)
        assert est.n_iter_[0] <= 1
        est.coef_[0, beside] = 0.5
        est.fit(X, y["labels"])
        assert est.coef_.shape == (1, P)
        kept = 0.0 if np.isfinite(C) else 0.5  # without a penalty nothing moves it, as in scikit-learn
        np.testing.assert_allclose(est.coef_[0, beside], kept, atol=1e-3)
    sgd = daskgd.SGDRegressor(engine="serial", max_iter=2, tol=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sgd.fit(X, y["numbers"], coef_init=np.full(P, 0.25))
    assert 0 < sgd.coef_[beside] <= 0.25


def test_learning_goes_on_with_rows_that_have_other_features(small: None) -> None:
    X, y = data()
    shifted = sp.csr_array(np.roll(X.toarray(), 1, axis=1))
    est = daskgd.SGDClassifier(engine="serial", max_iter=3, tol=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        est.fit(X, y["labels"])
    assert est.partial_fit(shifted, y["labels"]).coef_.shape == (1, P)
    assert est.coef_[0, (PLACES + 1) % P].all()


def test_watchers_and_checkpoints_see_all_features(small: None, tmp_path: Path) -> None:
    X, y = data()
    seen: list[Any] = []

    def watch(event: Any) -> None:
        if hasattr(event, "model"):
            seen.append(event.model())

    est = daskgd.LogisticRegression(solver="lbfgs", engine="serial", tol=1e-8)
    expected = fitted(est, X, y["labels"], watch=watch)
    assert {one.coef_.shape for one in seen} == {(1, P)}
    assert not any("_occurring" in vars(one) for one in seen)
    fitted(clone(est).set_params(max_iter=3), X, y["labels"], checkpoint=tmp_path)
    again = fitted(est, X, y["labels"], checkpoint=tmp_path)
    np.testing.assert_array_equal(again.coef_, expected.coef_)


def test_features_are_named_as_they_were_given(small: None) -> None:
    X, y = data()
    frame = pd.DataFrame.sparse.from_spmatrix(X, columns=[f"f{j}" for j in range(P)])
    est = daskgd.LogisticRegression(engine="serial").fit(frame, y["labels"])
    assert est.feature_names_in_.tolist() == list(frame.columns)
    np.testing.assert_array_equal(est.coef_, fitted(est, X, y["labels"]).coef_)
    place = PLACES[3]
    sure = X.copy()
    sure.data[sure.indices == place] = 1.0
    counts = np.where(np.asarray(sure[:, [place]].todense()).ravel() != 0, 0, y["counts"])
    with pytest.warns(match=f"coefficients of column {place} grow"):
        daskgd.PoissonRegressor(alpha=0, engine="serial").fit(sure, counts)
    for wrong in (np.nan, 1e200):
        bad = X.copy()
        bad.data[7] = wrong
        with pytest.raises(ValueError, match=rf"column {bad.indices[7]}\b"):
            daskgd.Ridge(engine="serial").fit(bad, y["numbers"])


def test_which_features_are_left_out(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    X, _ = data()
    found = Occurring.in_rows(daskgd.as_dataset(X))
    assert found is not None
    np.testing.assert_array_equal(found.positions, PLACES)
    assert found.of(daskgd.as_dataset(X)).n_features == len(PLACES)
    assert Occurring.in_rows(daskgd.as_dataset(X[:, PLACES])) is None
    assert Occurring.in_rows(daskgd.as_dataset(X.toarray())) is None
    assert Occurring.in_rows(daskgd.as_dataset(sp.csr_array((5, P)))) is None
    monkeypatch.setattr(empty_features, "LEAST_FEATURES", P + 1)
    assert Occurring.in_rows(daskgd.as_dataset(X)) is None


def test_hashed_features_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    n, p = 400, 100_000
    X = sp.csr_array(
        (np.ones(n * 8), (np.repeat(np.arange(n), 8), rng.choice(500, n * 8) * 199)), shape=(n, p)
    )
    y = rng.integers(0, 2, n)
    found = daskgd.LogisticRegression(engine="serial", tol=1e-10).fit(X, y)
    expected = linear_model.LogisticRegression(tol=1e-10, max_iter=10_000).fit(X, y)
    np.testing.assert_allclose(found.coef_, expected.coef_, atol=1e-4)
