"""Pipelines of tables: as scikit-learn's in memory, the same bits on all engines, and as files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from sklearn import linear_model
from sklearn import pipeline as theirs
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

import daskgd
from daskgd.preprocessing.records import from_record
from tests.tables import NUMBERS, TEXT, Table


def encoder() -> Any:
    return make_column_transformer(
        (OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=30), TEXT),
        (theirs.make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), NUMBERS),
    )


def new_rows(table: Table) -> pd.DataFrame:
    """Rows with categories that no fit has seen, and gaps."""
    frame = table.frame.head(6).copy()
    frame.loc[1, "carrier"], frame.loc[2, "temp"], frame.loc[3, "carrier"] = "new", np.nan, np.nan
    return frame


@pytest.fixture
def table(tables: Any) -> Table:
    found: Table = tables(1)
    return found


# -- as scikit-learn's ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_pipeline_of_a_table_is_scikit_learns_in_memory(seed: int, tables: Any) -> None:
    table = tables(seed)
    ours = daskgd.make_pipeline(encoder(), daskgd.LogisticRegression(tol=1e-10)).fit(table.path)
    expected = theirs.make_pipeline(encoder(), linear_model.LogisticRegression(tol=1e-10, max_iter=10_000))
    expected.fit(table.frame, table.y)
    np.testing.assert_allclose(ours[-1].coef_, expected[-1].coef_, atol=1e-4)
    np.testing.assert_array_equal(ours.get_feature_names_out(), expected[:-1].get_feature_names_out())
    np.testing.assert_array_equal(ours.classes_, expected.classes_)
    np.testing.assert_array_equal(ours.feature_names_in_, expected.feature_names_in_)
    of_rows = expected.predict_proba(table.frame)
    np.testing.assert_allclose(ours.predict_proba(table.dataset).compute(), of_rows, atol=1e-4)
    assert ours.score(table.path) == expected.score(table.frame, table.y)
    exported, new = ours.to_sklearn(), new_rows(table)
    assert type(exported) is theirs.Pipeline
    np.testing.assert_allclose(exported.predict_proba(new), expected.predict_proba(new), atol=1e-4)
    np.testing.assert_array_equal(exported.predict(new), ours.predict(new))
    margins = ours.decision_function(table.path).compute()
    np.testing.assert_allclose(exported.decision_function(table.frame), margins, atol=1e-10)


def test_rows_in_memory_go_scikit_learns_way(table: Table) -> None:
    ours = daskgd.make_pipeline(encoder(), daskgd.LogisticRegression()).fit(table.frame, table.y)
    stored = daskgd.make_pipeline(encoder(), daskgd.LogisticRegression()).fit(table.path)
    np.testing.assert_allclose(ours[-1].coef_, stored[-1].coef_, atol=1e-7)
    assert not hasattr(stored[-1], "feature_names_in_")
    search = GridSearchCV(ours, {"logisticregression__C": [0.1, 1.0]}, cv=2).fit(table.frame, table.y)
    assert search.best_score_ > 0.6


def test_text_of_pandas_with_na_is_what_is_missing(table: Table) -> None:
    ours = daskgd.make_pipeline(encoder(), daskgd.LogisticRegression()).fit(table.path)
    frame = table.frame.astype({"carrier": "string"})
    assert frame.carrier.isna().any()
    np.testing.assert_array_equal(ours.predict_proba(frame), ours.predict_proba(table.frame))


def test_numbers_and_several_classes(table: Table, tmp_path: Path) -> None:
    frame = table.frame.drop(columns="flag")
    daskgd.write_dataset(tmp_path / "a.zarr", frame, frame.month.to_numpy() % 3)
    made = make_column_transformer((OneHotEncoder(), TEXT), (OneHotEncoder(), ["month"]))
    ours = daskgd.make_pipeline(made, daskgd.LogisticRegression()).fit(tmp_path / "a.zarr")
    assert ours.score(tmp_path / "a.zarr") > 0.99
    ridge = daskgd.make_pipeline(made, daskgd.Ridge()).fit(tmp_path / "a.zarr")
    expected = theirs.make_pipeline(clone(made), linear_model.Ridge()).fit(frame, frame.month % 3)
    np.testing.assert_allclose(ridge[-1].coef_, expected[-1].coef_, atol=1e-4)
    np.testing.assert_allclose(
        ridge.predict(tmp_path / "a.zarr").compute(), expected.predict(frame), atol=1e-4
    )


@pytest.mark.parametrize("where", ["threads", "distributed"])
def test_arrays_of_dask_without_names(where: str, client: Any) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(5, 3, (500, 4)), rng.random(500) < 0.5
    X[rng.random(X.shape) < 0.1] = np.nan
    made = theirs.make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    ours = daskgd.make_pipeline(made, daskgd.LogisticRegression(engine=where)).fit(
        da.from_array(X, (70, 4)), da.from_array(y, 70)
    )
    expected = theirs.make_pipeline(clone(made), linear_model.LogisticRegression(tol=1e-10)).fit(X, y)
    np.testing.assert_allclose(ours[-1].coef_, expected[-1].coef_, atol=1e-5)
    assert ours.n_features_in_ == 4


def test_frames_of_dask(table: Table) -> None:
    frame = dd.from_pandas(table.frame.assign(late=table.y), npartitions=3)
    ours = daskgd.make_pipeline(encoder(), daskgd.LogisticRegression(tol=1e-10)).fit(frame, "late")
    stored = daskgd.make_pipeline(encoder(), daskgd.LogisticRegression(tol=1e-10)).fit(table.path)
    np.testing.assert_allclose(ours[-1].coef_, stored[-1].coef_, atol=1e-7)
    rows = frame.drop(columns="late")
    np.testing.assert_array_equal(ours.predict(rows).compute(), stored.predict(table.frame))
    assert ours.score(frame, "late") == stored.score(table.path)


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_frames_of_dask_need_no_categories_but_those_of_the_fit(method: str, table: Table) -> None:
    """Encoders that refuse others are shown none but those of the rows."""
    rows = table.frame[["origin"]]
    ours = daskgd.make_pipeline(OneHotEncoder(), daskgd.LogisticRegression()).fit(rows, table.y)
    found, expected = getattr(ours, method)(dd.from_pandas(rows, npartitions=3)), getattr(ours, method)(rows)
    assert (found.dtype, found.ndim) == (expected.dtype, expected.ndim)
    np.testing.assert_array_equal(found.compute(), expected)


def test_other_tables_may_have_their_columns_and_categories_in_another_order(
    table: Table, tmp_path: Path
) -> None:
    ours = daskgd.make_pipeline(encoder(), daskgd.LogisticRegression()).fit(table.path)
    rows = new_rows(table)
    other = rows[[*reversed(rows.columns)]].assign(more=1.0)
    daskgd.write_dataset(tmp_path / "new.zarr", other)
    found = ours.predict_proba(tmp_path / "new.zarr").compute()
    np.testing.assert_allclose(found, ours.predict_proba(rows), atol=1e-12)
    daskgd.write_dataset(tmp_path / "few.zarr", other.drop(columns="temp"))
    with pytest.raises(ValueError, match=r"columns of the fit, among them 'temp', got same, flag"):
        ours.predict(tmp_path / "few.zarr")


def test_a_category_that_is_refused_names_its_column(table: Table, tmp_path: Path) -> None:
    made = make_column_transformer((OneHotEncoder(), TEXT))
    ours = daskgd.make_pipeline(made, daskgd.LogisticRegression()).fit(table.path)
    daskgd.write_dataset(tmp_path / "new.zarr", table.frame.assign(origin=["x"] * 300 + ["z"] * 100))
    with pytest.raises(ValueError, match=r"unknown categories \['z'\] in column 'origin'"):
        ours.predict(tmp_path / "new.zarr").compute()


# -- the promises ---------------------------------------------------------------------------------


def test_bits_are_the_same_on_all_engines(table: Table, client: Any) -> None:
    found = []
    for engine in ("serial", "threads", "distributed"):
        est = daskgd.LogisticRegression(engine=engine, solver=daskgd.SubsampledNewton(sample_bytes=20_000))
        ours = daskgd.make_pipeline(encoder(), est).fit(table.dataset)
        scaler = ours[0].transformers_[1][1][-1]
        found.append((est.coef_.tobytes(), scaler.mean_.tobytes(), scaler.var_.tobytes()))
    assert found[0] == found[1] == found[2]


def test_splits_know_their_own_rows_alone(table: Table) -> None:
    train, test = table.dataset.train_test_split(0.3, random_state=1)
    ours = daskgd.make_pipeline(encoder(), daskgd.LogisticRegression()).fit(train)
    rows = train.frame.compute()
    expected = clone(encoder()).fit(rows.drop(columns="late").astype(dict.fromkeys(TEXT, object)))
    for one, other in zip(
        ours[0].transformers_[0][1].categories_, expected.transformers_[0][1].categories_, strict=True
    ):
        assert one.tolist()[:-1] == other.tolist()[:-1]  # the last may be missing
    scaler, others = ours[0].transformers_[1][1][-1], expected.transformers_[1][1][-1]
    assert scaler.n_samples_seen_ == train.n_rows == len(rows) < 400
    np.testing.assert_allclose(scaler.mean_, others.mean_, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(scaler.var_, others.var_, rtol=1e-12)
    assert 0.5 < ours.score(test) < 1


def test_a_fit_is_resumed_to_the_same_bits(table: Table, tmp_path: Path) -> None:
    def new(max_iter: int) -> Any:
        solver = daskgd.GradientDescent()
        return daskgd.make_pipeline(
            encoder(), daskgd.LogisticRegression(solver=solver, max_iter=max_iter, tol=0)
        )

    whole = new(6).fit(table.dataset)
    new(3).fit(table.dataset, checkpoint=tmp_path / "ck")
    rest = new(6).fit(table.dataset, checkpoint=tmp_path / "ck")
    assert rest[-1].coef_.tobytes() == whole[-1].coef_.tobytes()
    other = make_column_transformer((OneHotEncoder(), ["origin"]), (StandardScaler(), ["miles"]))
    last = daskgd.LogisticRegression(solver=daskgd.GradientDescent(), max_iter=6, tol=0)
    with pytest.raises(daskgd.CheckpointError):
        daskgd.make_pipeline(other, last).fit(table.dataset, checkpoint=tmp_path / "ck")


def test_weights_and_watchers_are_those_of_the_estimator(table: Table) -> None:
    weights, events = np.arange(400) % 3, []
    ours = daskgd.make_pipeline(encoder(), daskgd.LogisticRegression())
    ours.fit(table.dataset, sample_weight=weights, watch=events.append)
    expected = clone(ours).fit(table.frame, table.y, logisticregression__sample_weight=weights)
    np.testing.assert_allclose(ours[-1].coef_, expected[-1].coef_, atol=1e-6)
    named = clone(ours).fit(table.dataset, logisticregression__sample_weight=weights)
    assert named[-1].coef_.tobytes() == ours[-1].coef_.tobytes()
    assert events
    assert ours.score(table.dataset, sample_weight=weights) == expected.score(table.frame, table.y, weights)


def test_rows_without_weight_count_in_encoders_as_in_scikit_learn(table: Table) -> None:
    weights = (np.arange(400) < 100).astype(float)
    made = make_column_transformer(
        (theirs.make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), NUMBERS)
    )
    ours = daskgd.make_pipeline(made, daskgd.LogisticRegression()).fit(table.dataset, sample_weight=weights)
    expected = clone(made).fit(table.frame).transformers_[0][1]
    np.testing.assert_allclose(ours[0].transformers_[0][1][0].statistics_, expected[0].statistics_)
    np.testing.assert_allclose(ours[0].transformers_[0][1][1].mean_, expected[1].mean_)


def test_pipelines_are_fitted_together(table: Table) -> None:
    both = [daskgd.make_pipeline(encoder(), daskgd.LogisticRegression(C=C)) for C in (0.1, 1.0)]
    alone = [clone(one).fit(table.dataset) for one in both]
    found = daskgd.together(both, table.path)
    assert found[0] is both[0]
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_allclose(one[-1].coef_, other[-1].coef_, atol=1e-6)
        assert one.score(table.path) == other.score(table.path)
    one = daskgd.make_pipeline(OrdinalEncoder(), daskgd.LogisticRegression())
    with pytest.raises(ValueError, match="the same encoders in all pipelines"):
        daskgd.together([both[0], one], table.path)
    with pytest.raises(TypeError, match="got a Ridge among pipelines"):
        daskgd.together([both[0], daskgd.Ridge()], table.path)
    with pytest.raises(ValueError, match="expected a table for pipelines"):
        daskgd.together(both, table.frame, table.y)


def test_the_specification_stays_as_it_is(table: Table) -> None:
    made = encoder()
    before = repr(made)
    ours = daskgd.make_pipeline(made, daskgd.LogisticRegression(C=3.0))
    ours.fit(table.path)
    assert repr(made) == before
    assert not hasattr(made, "transformers_")
    assert ours.set_params(logisticregression__C=0.5)[-1].C == 0.5
    again = clone(ours)
    with pytest.raises(NotFittedError):
        again.predict(table.path)
    assert again.fit(table.path)[-1].coef_.shape == (1, 12)


def test_a_plan_is_of_the_encoded_table(table: Table) -> None:
    ours = daskgd.make_pipeline(encoder(), daskgd.LogisticRegression())
    plan = ours.plan(table.path)
    assert plan.n_features == 12
    assert not hasattr(ours[0], "transformers_")


def test_what_fits_says_how_long_it_took(table: Table, capsys: pytest.CaptureFixture[str]) -> None:
    daskgd.make_pipeline(encoder(), daskgd.LogisticRegression(), verbose=True).fit(table.path)
    assert capsys.readouterr().out.count("[Pipeline]") == 2


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([SelectKBest(), daskgd.Ridge()], r"sums can fit.*got SelectKBest; .*FrozenEstimator\(SelectKBest"),
        ([make_column_transformer((KMeans(), ["miles"])), daskgd.Ridge()], "got KMeans"),
        ([encoder(), linear_model.Ridge()], "an estimator of daskgd as the last step.*got Ridge"),
    ],
)
def test_other_steps_are_refused(steps: list[Any], message: str, table: Table) -> None:
    with pytest.raises(TypeError, match=message):
        daskgd.make_pipeline(*steps).fit(table.path)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (StandardScaler(), "StandardScaler: expected numbers, got text in column 'carrier'"),
        (make_column_transformer(("passthrough", TEXT)), "got text in column 'carrier'"),
        (make_column_transformer((SimpleImputer(), TEXT)), "strategy='mean', got text in column 'carrier'"),
        (
            make_column_transformer((SimpleImputer(missing_values=-1), NUMBERS)),
            "missing_values=nan.*got -1; .*na_values",
        ),
        (
            make_column_transformer((OrdinalEncoder(dtype=int), TEXT)),
            "OrdinalEncoder: expected a dtype of floats",
        ),
    ],
)
def test_columns_that_do_not_suit_are_refused(made: Any, message: str, table: Table) -> None:
    with pytest.raises(ValueError, match=message):
        daskgd.make_pipeline(made, daskgd.LogisticRegression()).fit(table.path)


def test_arguments_of_other_steps_and_caches_are_refused(table: Table) -> None:
    ours = daskgd.make_pipeline(encoder(), daskgd.LogisticRegression())
    with pytest.raises(ValueError, match="arguments of the last step"):
        ours.fit(table.path, columntransformer__sample_weight=np.ones(400))
    with pytest.raises(ValueError, match="memory=None"):
        daskgd.make_pipeline(encoder(), daskgd.LogisticRegression(), memory="cache").fit(table.path)


def test_infinite_numbers_are_refused_by_name(table: Table, tmp_path: Path) -> None:
    daskgd.write_dataset(tmp_path / "a.zarr", table.frame.assign(miles=np.inf), table.y)
    with pytest.raises(ValueError, match=r"contains infinity.*in column 'miles'"):
        daskgd.make_pipeline(encoder(), daskgd.LogisticRegression()).fit(tmp_path / "a.zarr")


# -- files ----------------------------------------------------------------------------------------


def test_a_pipeline_comes_back_from_its_file(table: Table, tmp_path: Path) -> None:
    ours = daskgd.make_pipeline(encoder(), daskgd.LogisticRegression()).fit(table.path)
    ours.save(tmp_path / "model.dgd")
    back = daskgd.load_model(tmp_path / "model.dgd")
    assert type(back) is daskgd.Pipeline
    new = new_rows(table)
    np.testing.assert_array_equal(back.predict_proba(new), ours.predict_proba(new))
    np.testing.assert_array_equal(back.predict(table.path).compute(), ours.predict(table.path).compute())
    np.testing.assert_array_equal(back.get_feature_names_out(), ours.get_feature_names_out())
    assert repr(clone(back)) == repr(clone(ours))
    kept = pickle.loads(pickle.dumps(ours))
    np.testing.assert_array_equal(kept.predict_proba(new), ours.predict_proba(new))


def test_functions_of_ones_own_are_in_no_file(table: Table, tmp_path: Path) -> None:
    made = make_column_transformer((FunctionTransformer(lambda frame: frame * 2), ["miles"]))
    ours = daskgd.make_pipeline(made, daskgd.LogisticRegression()).fit(table.path)
    with pytest.raises(TypeError, match=r"no model file holds.*pickle it"):
        ours.save(tmp_path / "model.dgd")


@pytest.mark.parametrize(
    "tree",
    [
        1,
        {"class": "Popen", "state": []},
        {"function": "os.system"},
        {"function": "numpy.load"},
        {"type": "object_"},
        {"nothing": 1},
    ],
)
def test_a_record_of_anything_else_is_refused(tree: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a record of an encoder|which is not known"):
        from_record(tree)


def test_whole_numbers_that_floats_do_not_tell_apart_are_no_categories(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": 2**53 + 2 * (np.arange(40) % 4), "x": ["a", "b"] * 20})
    daskgd.write_dataset(tmp_path / "a.zarr", frame, np.arange(40) % 2)
    made = make_column_transformer((OneHotEncoder(), ["id"]))
    with pytest.raises(ValueError, match=r"column 'id' to have numbers of up to 2\*\*53"):
        daskgd.make_pipeline(made, daskgd.LogisticRegression()).fit(tmp_path / "a.zarr")


def test_an_exported_imputer_fills_whole_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame({"n": np.arange(40, dtype="int8") % 5, "x": ["a", "b"] * 20})
    daskgd.write_dataset(tmp_path / "a.zarr", frame, np.arange(40) % 2)
    made = make_column_transformer((SimpleImputer(strategy="most_frequent"), ["n"]))
    ours = daskgd.make_pipeline(made, daskgd.Ridge()).fit(tmp_path / "a.zarr")
    np.testing.assert_allclose(ours.to_sklearn().predict(frame), ours.predict(tmp_path / "a.zarr").compute())
