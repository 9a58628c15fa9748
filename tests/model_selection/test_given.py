"""What searches and validations are given: frames whose columns have types, weights, scorers of any kind."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from sklearn import linear_model, model_selection
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, PowerTransformer, StandardScaler

import daskgd
from daskgd import metrics
from daskgd.metrics import make_scorer
from daskgd.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    LassoCV,
    LogisticRegressionCV,
    RidgeCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    validation_curve,
)
from tests.model_selection.test_search import assert_equal_results

N = 150
C = "logisticregression__C"
GRID = {C: [0.1, 10.0]}
LOSS = "neg_log_loss"


def days(frame: Any) -> Any:
    return frame.apply(lambda column: column.dt.day_of_year.astype(float))


def make_rows() -> Any:
    """Text, dates, numbers with gaps, and the target."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "from": rng.choice(["EWR", "JFK", "LGA"], N),
            "miles": rng.normal(size=N),
            "day": pd.Timestamp("2030-01-01") + pd.to_timedelta(rng.integers(0, 300, N), "D"),
            "seats": pd.array(rng.integers(0, 5, N), dtype="Int64"),
        }
    )
    z = frame["miles"] + (frame["from"] == "EWR") + rng.logistic(size=N)
    return frame.assign(late=np.where(z > 0, "yes", "no"))


@pytest.fixture(params=["pandas", "dask", "name"])
def given(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Rows and targets as a test passes them; no store of them is left behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rows = make_rows()
    lazy = dd.from_pandas(rows, npartitions=3)
    yield {
        "pandas": (rows.drop(columns="late"), rows["late"]),
        "dask": (lazy.drop(columns="late"), lazy["late"]),
        "name": (lazy, "late"),
    }[request.param]
    assert not list(tmp_path.glob("daskgd-*"))


def models() -> tuple[Any, Any]:
    """A pipeline of ours, and of scikit-learn."""
    encode = make_column_transformer(
        (OneHotEncoder(), ["from"]),
        (StandardScaler(), ["miles", "seats"]),
        (make_pipeline(FunctionTransformer(days), StandardScaler()), ["day"]),
    )
    last = linear_model.LogisticRegression(solver="newton-cholesky", tol=1e-12)
    return daskgd.make_pipeline(encode, daskgd.LogisticRegression(tol=1e-14)), make_pipeline(encode, last)


def assert_close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


# -- frames ---------------------------------------------------------------------------------------


def test_searches_of_frames_are_scikit_learns(given: Any) -> None:
    rows = make_rows()
    X, y = rows.drop(columns="late"), rows["late"]
    ours, theirs = models()
    a = GridSearchCV(ours, GRID, cv=3, scoring=LOSS).fit(*given)
    b = model_selection.GridSearchCV(theirs, GRID, cv=3, scoring=LOSS).fit(X, y)
    assert_equal_results(a, b, 1e-8)
    assert a.feature_names_in_.tolist() == X.columns.tolist()
    assert_close(a.predict_proba(given[0]), b.predict_proba(X))
    assert a.plan(*given).n_fits == 7


def test_validations_of_frames_are_scikit_learns(given: Any) -> None:
    rows = make_rows()
    X, y = rows.drop(columns="late"), rows["late"]
    ours, theirs = models()
    options: dict[str, Any] = {"cv": 3, "scoring": LOSS, "return_train_score": True}
    expected = model_selection.cross_validate(theirs, X, y, **options)
    found = cross_validate(ours, *given, **options)
    for name in ("test_score", "train_score"):
        assert_close(found[name], expected[name])


def test_learning_curves_of_frames_are_scikit_learns(given: Any) -> None:
    rows = make_rows()
    ours, theirs = models()
    options: dict[str, Any] = {"cv": 2, "train_sizes": [60], "shuffle": True, "random_state": 0}
    found = learning_curve(ours, *given, scoring=LOSS, **options)
    expected = model_selection.learning_curve(
        theirs, rows.drop(columns="late"), rows["late"], scoring=LOSS, **options
    )
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other)


def test_validation_curves_of_frames_are_scikit_learns(given: Any) -> None:
    rows = make_rows()
    ours, theirs = models()
    options: dict[str, Any] = {"cv": 2, "param_name": C, "param_range": [0.1, 10.0]}
    found = validation_curve(ours, *given, scoring=LOSS, **options)
    expected = model_selection.validation_curve(
        theirs, rows.drop(columns="late"), rows["late"], scoring=LOSS, **options
    )
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_predictions_of_frames_are_scikit_learns(method: str, given: Any) -> None:
    """Those for frames of dask are lazy, and know their rows."""
    rows = make_rows()
    ours, theirs = models()
    found = cross_val_predict(ours, *given, cv=3, method=method)
    expected = model_selection.cross_val_predict(
        theirs, rows.drop(columns="late"), rows["late"], cv=3, method=method
    )
    assert isinstance(found, np.ndarray if isinstance(given[0], pd.DataFrame) else da.Array)
    assert found.shape == expected.shape
    found = np.asarray(found)
    assert (found == expected).all() if method == "predict" else np.abs(found - expected).max() < 1e-8


def test_searches_are_validated_on_frames(given: Any) -> None:
    rows = make_rows()
    ours, theirs = models()
    found = cross_val_score(GridSearchCV(ours, {C: [0.1]}, cv=2), *given, cv=2, scoring=LOSS)
    search = model_selection.GridSearchCV(theirs, {C: [0.1]}, cv=2)
    X, y = rows.drop(columns="late"), rows["late"]
    assert_close(found, model_selection.cross_val_score(search, X, y, cv=2, scoring=LOSS))


def test_a_search_of_a_frame_is_resumed(tmp_path: Path) -> None:
    """Though each time its rows are in another store."""
    lazy = dd.from_pandas(make_rows(), npartitions=3)
    search = GridSearchCV(models()[0], GRID, cv=2, scoring=LOSS)
    a = search.fit(lazy, "late", checkpoint=tmp_path / "kept").cv_results_["mean_test_score"]
    b = search.fit(lazy, "late", checkpoint=tmp_path / "kept").cv_results_["mean_test_score"]
    assert (a == b).all()


def test_text_is_refused_without_a_pipeline() -> None:
    rows = make_rows()
    with pytest.raises(ValueError, match="expected numbers, got objects"):
        cross_val_score(daskgd.LogisticRegression(), rows[["from"]], rows["late"])


# -- weights --------------------------------------------------------------------------------------


def test_weights_of_the_last_step_are_scikit_learns(given: Any) -> None:
    rows, ours, theirs = make_rows(), *models()
    weights = np.arange(N) % 3 + 1.0
    of_rows = weights if isinstance(given[0], pd.DataFrame) else dd.from_pandas(pd.Series(weights), 3)
    name, options = "logisticregression__sample_weight", {"cv": 3, "scoring": LOSS}
    expected = model_selection.cross_val_score(
        theirs, rows.drop(columns="late"), rows["late"], params={name: weights}, **options
    )
    assert_close(cross_val_score(ours, *given, params={name: of_rows}, **options), expected)
    assert_close(cross_val_score(ours, *given, params={"sample_weight": of_rows}, **options), expected)


def test_other_weights_are_refused() -> None:
    rows, (model, _) = make_rows(), models()
    X, y, weights = rows.drop(columns="late"), rows["late"], np.ones(N)
    with pytest.raises(ValueError, match=r"or logisticregression__sample_weight, as encoders count each row"):
        cross_val_score(model, X, y, params={"columntransformer__sample_weight": weights})
    twice = dict.fromkeys(("sample_weight", "logisticregression__sample_weight"), weights)
    with pytest.raises(ValueError, match="expected sample weights once"):
        cross_val_score(model, X, y, params=twice)
    with pytest.raises(ValueError, match=r"sample_weight alone, got \['ridge__sample_weight'\]"):
        cross_val_score(daskgd.Ridge(), X[["miles"]], X["miles"], params={"ridge__sample_weight": weights})


# -- estimators that search -----------------------------------------------------------------------

SEARCHES = {
    "Ridge": RidgeCV(),
    "Lasso": LassoCV(),
    "LogisticRegression": LogisticRegressionCV(Cs=2, use_legacy_attributes=False),
    "SGDClassifier": GridSearchCV(daskgd.SGDClassifier(), {"alpha": [0.1]}),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_what_searches_is_refused_where_it_cannot_be(name: str) -> None:
    """With what to do instead."""
    rows = dd.from_pandas(make_rows(), npartitions=2)
    model = daskgd.make_pipeline(models()[0][0], SEARCHES[name])
    with pytest.raises(TypeError, match=f"take {name} as the last step and search over the pipeline"):
        model.fit(rows, "late")
    search = GridSearchCV(SEARCHES[name], {})
    for call in (search.fit, search.plan):
        with pytest.raises(TypeError, match=f"search over {name}, with all parameters in one search"):
            call(rows[["miles"]], rows["late"])


def test_estimators_of_other_libraries_are_refused_by_name() -> None:
    rows = dd.from_pandas(make_rows(), npartitions=2)
    with pytest.raises(TypeError, match="got Ridge; take daskgd's of the same name"):
        daskgd.make_pipeline(models()[0][0], linear_model.Ridge()).fit(rows, "late")
    with pytest.raises(TypeError, match="got RidgeCV; take daskgd's of the same name"):
        GridSearchCV(linear_model.RidgeCV(), {}).fit(rows[["miles"]], rows["miles"])


@pytest.mark.parametrize("scoring", ["r2", "neg_mean_absolute_error"])
def test_estimators_that_choose_their_penalty_are_validated(scoring: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 3))
    y = X @ [1.0, -2.0, 0.0] + rng.normal(size=N)
    expected = model_selection.cross_val_score(linear_model.RidgeCV(), X, y, cv=3, scoring=scoring)
    for rows in ((X, y), (da.from_array(X, chunks=(50, 3)), da.from_array(y, chunks=50))):
        assert_close(cross_val_score(RidgeCV(), *rows, cv=3, scoring=scoring), expected)


# -- scorers --------------------------------------------------------------------------------------


class Hits:
    """The share of rows that are predicted."""

    def of(self, y: Any, p: Any, s: Any) -> Any:
        return np.array([np.sum(y == p), len(y)])

    def value(self, sums: Any) -> Any:
        return sums[0] / sums[1]


def test_scorers_of_ours_score_pipelines_in_memory() -> None:
    """Also behind encoders that sums cannot fit."""
    rows = make_rows()[["miles", "from", "late"]].astype({"from": "string"})
    rows.loc[rows["miles"] > 1, "from"] = None
    X, y = rows[["miles", "from"]], rows["late"]
    encode = make_column_transformer((PowerTransformer(), ["miles"]), (OneHotEncoder(), ["from"]))
    ours = daskgd.make_pipeline(encode, daskgd.LogisticRegression(tol=1e-14))
    scoring = {
        LOSS: make_scorer(metrics.log_loss, response_method="predict_proba", greater_is_better=False),
        "roc_auc": make_scorer(metrics.roc_auc_score, response_method="predict_proba"),
        "accuracy": make_scorer(Hits()),
    }
    options: dict[str, Any] = {"cv": 3, "refit": "roc_auc", "return_train_score": True}
    a = GridSearchCV(ours, GRID, scoring=scoring, **options).fit(X, y)
    b = GridSearchCV(ours, GRID, scoring=list(scoring), **options).fit(X, y)
    assert_equal_results(a, b, 1e-8)
    assert a.scoring is scoring
    one = GridSearchCV(ours, GRID, scoring=scoring[LOSS], cv=3).fit(X, y)
    assert_close(one.cv_results_["mean_test_score"], b.cv_results_[f"mean_test_{LOSS}"])


def test_one_scorer_of_ours_is_one_scorer() -> None:
    rows = make_rows()
    X, y, hits = rows[["miles"]].to_numpy(), rows["late"].to_numpy(), make_scorer(Hits())
    model = daskgd.LogisticRegression()
    assert_close(cross_val_score(model, X, y, scoring=hits), cross_val_score(model, X, y))
    halving = HalvingGridSearchCV(model, {"C": [0.1, 1.0]}, scoring=hits, cv=3).fit(X, y)
    assert 0 < halving.best_score_ < 1
