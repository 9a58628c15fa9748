"""Cross-validation and curves: scikit-learn's numbers."""

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
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    KFold,
    LassoCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    validation_curve,
)

X, Y = load_diabetes(return_X_y=True)
FLOWERS, KINDS = load_iris(return_X_y=True)
FLOWERS = scale(FLOWERS)
ORDER = np.random.default_rng(0).permutation(len(KINDS))
FLOWERS, NAMES = FLOWERS[ORDER], np.array(["a", "b", "c"])[KINDS[ORDER]]
LOGISTIC = daskgd.LogisticRegression(tol=1e-14)
THEIRS = linear_model.LogisticRegression(solver="newton-cholesky", tol=1e-12)


def stored(tmp_path: Path, A: Any, y: Any) -> Any:
    daskgd.write_dataset(tmp_path / "a.zarr", A, y, chunk_bytes=2000)
    return daskgd.open_dataset(tmp_path / "a.zarr", block_bytes=2000)


def test_cross_validate_is_scikit_learns(tmp_path: Path) -> None:
    options = {"scoring": ["accuracy", "neg_log_loss"], "return_train_score": True, "return_indices": True}
    a = cross_validate(LOGISTIC, stored(tmp_path, FLOWERS, NAMES), return_estimator=True, **options)
    b = model_selection.cross_validate(THEIRS, FLOWERS, NAMES, return_estimator=True, **options)
    assert a.keys() == b.keys()
    for name in ("test_accuracy", "test_neg_log_loss", "train_accuracy", "train_neg_log_loss"):
        np.testing.assert_allclose(a[name], b[name], atol=1e-8)
    for side in ("train", "test"):
        assert all(map(np.array_equal, a["indices"][side], b["indices"][side]))
    for mine, its in zip(a["estimator"], b["estimator"], strict=True):
        np.testing.assert_allclose(mine.coef_, its.coef_, atol=1e-6)


def test_cross_val_score_with_weights() -> None:
    s = np.random.default_rng(1).random(len(Y)) + 0.5
    a = cross_val_score(daskgd.Ridge(), X, Y, params={"sample_weight": s}, cv=4)
    expected = []
    for train, test in model_selection.KFold(4).split(X):
        est = linear_model.Ridge().fit(X[train], Y[train], s[train])
        expected.append(est.score(X[test], Y[test]))
    np.testing.assert_allclose(a, expected, atol=1e-10)
    b = cross_val_score(LassoCV(), X, Y, cv=3)  # an estimator that searches itself
    np.testing.assert_allclose(
        b, model_selection.cross_val_score(linear_model.LassoCV(), X, Y, cv=3), atol=1e-3
    )
    with pytest.raises(ValueError, match="one scorer"):
        cross_val_score(daskgd.Ridge(), X, Y, scoring=["r2"])
    with pytest.raises(TypeError, match=r"sklearn\.model_selection\.cross_val_score|cross_validate"):
        cross_val_score(linear_model.Ridge(), X, Y)
    with pytest.raises(ValueError, match="params of sample_weight alone"):
        cross_val_score(daskgd.Ridge(), X, Y, params={"groups": s})


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function", "predict_log_proba"])
def test_cross_val_predict_is_scikit_learns(method: str, tmp_path: Path) -> None:
    expected = model_selection.cross_val_predict(THEIRS, FLOWERS, NAMES, method=method)
    found = cross_val_predict(LOGISTIC, FLOWERS, NAMES, method=method)
    lazy = cross_val_predict(LOGISTIC, stored(tmp_path, FLOWERS, NAMES), method=method)
    for one in (found, lazy.compute()):
        assert one.shape == expected.shape
        if method == "predict":
            assert np.array_equal(one, expected)
        else:
            np.testing.assert_allclose(one, expected, atol=1e-6)


def test_cross_val_predict_needs_each_row_once() -> None:
    with pytest.raises(ValueError, match="only works for partitions"):
        cross_val_predict(daskgd.Ridge(), X, Y, cv=model_selection.ShuffleSplit(3, random_state=0))


def test_learning_curves_are_scikit_learns() -> None:
    for sizes in ([0.2, 0.6, 1.0], [30, 70, 119]):
        options = {"train_sizes": sizes, "scoring": "neg_log_loss"}
        a = learning_curve(LOGISTIC, FLOWERS, NAMES, **options)
        b = model_selection.learning_curve(THEIRS, FLOWERS, NAMES, **options)
        for mine, its in zip(a, b, strict=True):
            np.testing.assert_allclose(mine, its, atol=1e-8)
    shuffled = learning_curve(LOGISTIC, FLOWERS, NAMES, shuffle=True, random_state=3, return_times=True)
    its = model_selection.learning_curve(THEIRS, FLOWERS, NAMES, shuffle=True, random_state=3)
    np.testing.assert_allclose(shuffled[2], its[2], atol=1e-8)
    assert len(shuffled) == 5


def test_validation_curves_are_scikit_learns() -> None:
    options: dict[str, Any] = {"param_name": "C", "param_range": [0.01, 1.0], "scoring": "neg_log_loss"}
    a = validation_curve(LOGISTIC, FLOWERS, NAMES, **options)
    b = model_selection.validation_curve(THEIRS, FLOWERS, NAMES, **options)
    for mine, its in zip(a, b, strict=True):
        np.testing.assert_allclose(mine, its, atol=1e-8)


# -- halving --------------------------------------------------------------------------------------


def test_halving_keeps_the_best() -> None:
    rng = np.random.default_rng(0)
    A = rng.normal(size=(3000, 8))
    y = A @ rng.normal(size=8) + rng.normal(size=3000)
    grid = {"alpha": np.logspace(-2, 6, 27)}
    search = HalvingGridSearchCV(daskgd.Ridge(), grid, random_state=0, cv=KFold(4, shuffle=True)).fit(A, y)
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401

    theirs = model_selection.HalvingGridSearchCV(linear_model.Ridge(), grid, random_state=0, cv=4).fit(A, y)
    for name in (
        "n_candidates_", "n_resources_", "n_iterations_", "n_remaining_candidates_", "n_required_iterations_",
        "n_possible_iterations_", "min_resources_", "max_resources_",
    ):  # fmt: skip
        assert getattr(search, name) == getattr(theirs, name), name
    assert search.cv_results_["iter"].tolist() == theirs.cv_results_["iter"].tolist()
    assert search.best_params_["alpha"] < 100
    rounds = search.cv_results_["iter"]
    last = search.cv_results_["mean_test_score"][rounds == rounds.max()]
    assert search.best_score_ == last.max()


def test_halving_trains_on_so_many_rows() -> None:
    """The rows of a round are the share of each fold to a row, those of the round before among them."""
    seen: list[Any] = []

    class Watched(daskgd.Ridge):
        def _prepare(self, dataset: Any, choice: Any, answers: Any, *others: Any) -> Any:
            seen.append((self._subset, answers[0].n_rows))
            return super()._prepare(dataset, choice, answers, *others)

    HalvingGridSearchCV(
        Watched(), {"alpha": [0.1, 1.0, 10.0, 100.0]}, factor=2, cv=4, refit=False, min_resources=100
    ).fit(X[:400], Y[:400])
    rows = np.arange(400)
    assert sorted({n for _, n in seen}) == [75, 150, 300]
    masks = {n: subset.mask(rows) for subset, n in reversed(seen)}  # each time of the first fold
    assert (masks[75] <= masks[150]).all()
    assert (masks[150] <= masks[300]).all()


def test_halving_by_a_parameter() -> None:
    est = daskgd.LogisticRegression(solver="lbfgs", tol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search = HalvingRandomSearchCV(
            est,
            {"C": [0.01, 0.1, 1.0, 10.0]},
            resource="max_iter",
            max_resources=27,
            n_candidates=4,
            random_state=0,
            min_resources="exhaust",
        ).fit(FLOWERS, NAMES)
    assert search.n_resources_ == [9, 27]
    assert search.cv_results_["param_max_iter"].tolist() == [9, 9, 9, 9, 27, 27]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"factor": 1}, "factor: expected"),
        ({"resource": "rows"}, "not supported by estimator"),
        ({"resource": "max_iter"}, "max_resources='auto'"),
        ({"min_resources": 500}, "is greater than"),
        ({"scoring": ["r2"]}, "one scorer"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        HalvingGridSearchCV(daskgd.Ridge(), {"alpha": [1.0]}, **options).fit(X, Y)
