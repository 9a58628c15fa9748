"""Estimators that choose their penalty: scikit-learn's choices, scores and paths."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import linear_model, model_selection
from sklearn.datasets import load_diabetes, load_iris
from sklearn.preprocessing import scale

import daskgd
from daskgd.model_selection import (
    ElasticNetCV,
    KFold,
    LassoCV,
    LogisticRegressionCV,
    RidgeCV,
    enet_path,
    lasso_path,
)

X, Y = load_diabetes(return_X_y=True)
WEIGHTS = np.random.default_rng(0).random(len(Y)) + 0.2
FLOWERS, KINDS = load_iris(return_X_y=True)
FLOWERS = scale(FLOWERS)
FLOWER_WEIGHTS = np.random.default_rng(1).random(len(KINDS)) + 0.2


def assert_same(ours: Any, theirs: Any, **tolerances: float) -> None:
    for name, atol in tolerances.items():
        a, b = (np.asarray(getattr(one, name)) for one in (ours, theirs))
        assert a.shape == b.shape, name
        np.testing.assert_allclose(a, b, rtol=0, atol=atol * max(1.0, np.abs(b).max()), err_msg=name)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("positive", [True, False])
def test_paths_are_scikit_learns(weighted: bool, fit_intercept: bool, positive: bool) -> None:
    s = WEIGHTS if weighted else None
    options = {"fit_intercept": fit_intercept, "positive": positive}
    exact = {"tol": 1e-13, "max_iter": 1_000_000}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's own, of what it does not reach
        a = LassoCV(**options).fit(X, Y, s)
        b = linear_model.LassoCV(**options, **exact).fit(X, Y, s)
        assert_same(a, b, alpha_=1e-10, alphas_=1e-10, mse_path_=1e-8, coef_=1e-6, intercept_=1e-8)
        assert a.n_sweeps_ == 1
        ratios = {"l1_ratio": [0.3, 0.9], "cv": 3, "alphas": 20}
        a, b = (kind(**options, **ratios) for kind in (ElasticNetCV, linear_model.ElasticNetCV))
        a.fit(X, Y, s)
        b.set_params(**exact).fit(X, Y, s)
    assert_same(a, b, alpha_=1e-10, alphas_=1e-10, mse_path_=1e-8, coef_=1e-6, l1_ratio_=0.0)


def test_given_penalties_and_folds_and_wide_rows() -> None:
    """More columns than rows: moments cannot vouch for the fits, which take sweeps of their own."""
    rng = np.random.default_rng(0)
    wide, y = rng.normal(size=(60, 100)), rng.normal(size=60)
    for cv in (4, model_selection.ShuffleSplit(3, random_state=0)):
        a = LassoCV(alphas=[0.1, 0.5, 0.2], cv=cv, tol=1e-12).fit(wide, y)
        b = linear_model.LassoCV(alphas=[0.1, 0.5, 0.2], cv=cv, tol=1e-12, max_iter=100_000).fit(wide, y)
        assert_same(a, b, alpha_=0.0, alphas_=0.0, mse_path_=1e-7, coef_=1e-6)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(
    ("cv", "scoring"),
    [
        (None, None),
        (None, "r2"),
        (None, "explained_variance"),
        (None, "neg_root_mean_squared_error"),
        (4, None),
        (4, "neg_mean_squared_error"),
        (4, "neg_mean_absolute_error"),
    ],
)
def test_ridge_is_scikit_learns(cv: Any, scoring: Any, fit_intercept: bool, weighted: bool) -> None:
    s = WEIGHTS if weighted else None
    options = {"alphas": np.logspace(-4, 2, 13), "cv": cv, "scoring": scoring, "fit_intercept": fit_intercept}
    a, b = RidgeCV(**options).fit(X, Y, s), linear_model.RidgeCV(**options).fit(X, Y, s)
    assert_same(a, b, alpha_=0.0, best_score_=1e-10, coef_=1e-8, intercept_=1e-8)
    assert a.n_sweeps_ == (1 if scoring in (None, "neg_mean_squared_error") and cv else 2)


@pytest.mark.parametrize("alpha_per_target", [True, False])
def test_ridge_of_several_targets(alpha_per_target: bool) -> None:
    targets = np.c_[Y, np.sqrt(Y) * 10 + X[:, 0] * 50]
    options = {"alphas": np.logspace(-4, 2, 13), "alpha_per_target": alpha_per_target}
    a, b = RidgeCV(**options).fit(X, targets), linear_model.RidgeCV(**options).fit(X, targets)
    assert_same(a, b, alpha_=0.0, best_score_=1e-10, coef_=1e-8, intercept_=1e-8)


@pytest.mark.parametrize("n", [12, 40])
def test_leave_one_out_is_leaving_each_out(n: int) -> None:
    """The law: each residual is that of a fit without the row."""
    A, b, s = X[:n, :3], Y[:n], WEIGHTS[:n]
    est = RidgeCV([0.01, 1.0], scoring="neg_mean_squared_error").fit(A, b)
    scores = []
    for alpha in (0.01, 1.0):
        left = []
        for i in range(n):
            others = np.arange(n) != i
            fit = linear_model.Ridge(alpha).fit(A[others], b[others])
            left.append((b[i] - fit.predict(A[i : i + 1])[0]) ** 2)
        scores.append(-np.mean(left))
    assert est.best_score_ == pytest.approx(max(scores), rel=1e-9)
    assert RidgeCV([0.5]).fit(A, b, s).best_score_ == pytest.approx(
        linear_model.RidgeCV([0.5]).fit(A, b, s).best_score_, rel=1e-9
    )


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("two", [False, True], ids=["classes", "binary"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scoring": "neg_log_loss", "use_legacy_attributes": False},
        {"scoring": "neg_log_loss", "l1_ratios": [0.0, 0.5], "solver": "saga", "Cs": [0.1, 1.0]},
        {"class_weight": "balanced", "cv": 3},
        {"refit": False},
        {"fit_intercept": False},
    ],
    ids=str,
)
def test_logistic_is_scikit_learns(options: dict[str, Any], two: bool, weighted: bool) -> None:
    A, y, s = FLOWERS, KINDS, FLOWER_WEIGHTS
    if two:
        A, y, s = A[50:], np.where(y[50:] == 1, "a", "b"), s[50:]
    s = s if weighted else None
    sklearn_options = {"solver": "newton-cholesky", "Cs": [0.01, 0.1, 1.0], **options}
    known = linear_model.LogisticRegressionCV().get_params()
    if "use_legacy_attributes" not in known and "use_legacy_attributes" in options:
        pytest.skip("of scikit-learn 1.8 and later")
    if "l1_ratios" in options and "use_legacy_attributes" not in known:
        sklearn_options["penalty"] = "elasticnet"
    ours = {k: v for k, v in options.items() if k != "solver"}
    a = LogisticRegressionCV(**{"Cs": [0.01, 0.1, 1.0], **ours}, tol=1e-14).fit(A, y, s)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of defaults that will change
        b = linear_model.LogisticRegressionCV(**sklearn_options, tol=1e-10, max_iter=20_000).fit(A, y, s)
    atol = 1e-6 if "l1_ratios" in options else 1e-8
    assert_same(a, b, C_=1e-12, coef_=atol, Cs_=0.0)
    # What is added to the intercepts of all classes changes nothing.
    mine, its = (one.intercept_ - (0 if two else np.mean(one.intercept_)) for one in (a, b))
    np.testing.assert_allclose(mine, its, atol=10 * atol)
    names = {"scores_": 1e-8, "coefs_paths_": atol}
    if "l1_ratios" in options:
        del names["coefs_paths_"]
    for name, tol in names.items():
        mine, its = getattr(a, name), getattr(b, name)
        if isinstance(its, dict):
            assert list(mine) == list(its)
            mine, its = np.array(list(mine.values())), np.array(list(its.values()))
        assert mine.shape == its.shape
        np.testing.assert_allclose(mine, its, atol=tol)
    assert np.shape(a.n_iter_) == np.shape(b.n_iter_)
    assert np.array_equal(a.predict(A), b.predict(A))
    assert a.score(A, y, s) == pytest.approx(b.score(A, y, sample_weight=s), abs=1e-7)
    np.testing.assert_allclose(a.predict_proba(A), b.predict_proba(A), atol=1e-6)


def test_stored_rows_take_few_reads(tmp_path: Path) -> None:
    daskgd.write_dataset(tmp_path / "a.zarr", X, Y, chunk_bytes=4000)
    rows = daskgd.open_dataset(tmp_path / "a.zarr", block_bytes=4000)
    assert LassoCV().fit(rows).n_sweeps_ == 1
    assert ElasticNetCV(cv=KFold(4, shuffle=True)).fit(rows).n_sweeps_ == 1
    assert RidgeCV(cv=5).fit(rows).n_sweeps_ == 1
    assert RidgeCV().fit(rows).n_sweeps_ == 2
    np.testing.assert_allclose(LassoCV().fit(rows).coef_, LassoCV().fit(X, Y).coef_, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", [RidgeCV, LassoCV, ElasticNetCV])
def test_they_export_and_save(kind: Any, tmp_path: Path) -> None:
    est = kind().fit(X, Y)
    est.save(tmp_path / "model.dgd")
    again = daskgd.load_model(tmp_path / "model.dgd")
    for other in (again, est.to_sklearn()):
        np.testing.assert_allclose(other.predict(X), est.predict(X), rtol=1e-12)
    assert est.score(X, Y) == pytest.approx(est.to_sklearn().score(X, Y))


@pytest.mark.parametrize(
    ("est", "match"),
    [
        (RidgeCV(alphas=[0.0]), "alphas: expected penalties > 0"),
        (RidgeCV(store_cv_results=True), "store_cv_results"),
        (RidgeCV(cv=3, alpha_per_target=True), "alpha_per_target"),
        (RidgeCV(scoring="neg_mean_absolute_error"), "pass cv=5 for others"),
        (RidgeCV(gcv_mode="fast"), "gcv_mode"),
        (LassoCV(alphas=[-1.0]), "alphas: expected"),
        (LassoCV(n_jobs=3), "n_jobs"),
        (ElasticNetCV(l1_ratio=0.0), "not supported for l1_ratio=0"),
        (LogisticRegressionCV(Cs=[-1.0]), "Cs: expected"),
        (LogisticRegressionCV(l1_ratios=[2.0]), "l1_ratios must be"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(est: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        est.fit(X, (Y > 100) if isinstance(est, LogisticRegressionCV) else Y)


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("ratio", [1.0, 0.4])
def test_bare_paths_are_scikit_learns(ratio: float, positive: bool) -> None:
    A, b = X - X.mean(axis=0), Y - Y.mean()
    a, coefs, gaps, n_iters = enet_path(
        A, b, l1_ratio=ratio, positive=positive, tol=1e-12, return_n_iter=True
    )
    expected = linear_model.enet_path(A, b, l1_ratio=ratio, positive=positive, tol=1e-12, max_iter=100_000)
    np.testing.assert_allclose(a, expected[0], rtol=1e-10)
    np.testing.assert_allclose(coefs, expected[1], atol=1e-5)
    assert (gaps <= 1e-6 * np.square(b).mean()).all()
    assert len(n_iters) == 100
    if ratio == 1:
        assert np.array_equal(lasso_path(A, b, positive=positive, tol=1e-12)[1], coefs)


def test_bare_paths_refuse_what_they_do_not_take() -> None:
    with pytest.raises(ValueError, match="Xy to be left out"):
        enet_path(X, Y, Xy=X.T @ Y)
    with pytest.raises(ValueError, match="one target"):
        enet_path(X, np.c_[Y, Y])


def test_several_targets_are_refused() -> None:
    for est in (LassoCV(), ElasticNetCV()):
        with pytest.raises(ValueError, match="expected one target"):
            est.fit(X, np.c_[Y, Y])


def test_a_class_that_a_split_lacks_is_refused_by_name() -> None:
    order = np.argsort(KINDS, kind="stable")
    with pytest.raises(ValueError, match=r"got \[1, 2\] in split 0; take StratifiedKFold"):
        LogisticRegressionCV(cv=model_selection.KFold(3)).fit(FLOWERS[order], KINDS[order])


def test_they_say_how_many_fits_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    LassoCV(cv=3, alphas=7, verbose=1).fit(X, Y)
    LogisticRegressionCV(cv=3, Cs=2, verbose=1).fit(FLOWERS, KINDS)
    assert capsys.readouterr().out.splitlines() == [
        "Fitting 3 folds for each of 7 penalties",
        "Fitting 3 folds for each of 2 penalties",
    ]
