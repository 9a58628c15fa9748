"""Missing text in memory is what it is in a table, whatever says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn import pipeline as theirs
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, TargetEncoder

import daskgd
from daskgd.preprocessing.encoding import encode
from daskgd.preprocessing.fitting import fit_encoder
from daskgd.preprocessing.missing import with_nan

RNG = np.random.default_rng(0)
TEXT = RNG.choice(["a", "b", None], 200)
X = RNG.normal(size=200)
Y = np.where((TEXT == "a") | (X > 0.5), "no", "yes")


def frame(missing: Any = None, dtype: Any = object) -> pd.DataFrame:
    values = [missing if value is None else value for value in TEXT]
    return pd.DataFrame({"c": pd.Series(values, dtype=dtype), "x": X})


def rows_of_arrow() -> pd.DataFrame:
    return frame(dtype=pd.ArrowDtype(pa.string()))


FORMS: dict[str, Callable[[], Any]] = {
    "None": frame,
    "NaN": lambda: frame(np.nan),
    "NA": lambda: frame(pd.NA),
    "NaT": lambda: frame(pd.NaT),
    "of several": lambda: frame().assign(c=np.where(X > 0, frame().c, frame(pd.NA).c)),
    "str": lambda: frame(dtype="str"),
    "string": lambda: frame(dtype="string"),
    "string of arrow": rows_of_arrow,
    "dictionary of arrow": lambda: frame(dtype=pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string()))),
    "category": lambda: frame(dtype="category"),
    "table of arrow": lambda: pa.table(frame()),
    "dask": lambda: dd.from_pandas(frame(), npartitions=2),
}
ENCODERS: dict[str, Any] = {
    "one hot": OneHotEncoder(),
    "one hot, ignoring": OneHotEncoder(handle_unknown="ignore"),
    "ordinal": OrdinalEncoder(encoded_missing_value=-1),
    "target": TargetEncoder(),
    "imputed": theirs.make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
    "constant": theirs.make_pipeline(SimpleImputer(strategy="constant", fill_value="-"), OneHotEncoder()),
}


def dense(made: Any) -> np.ndarray:
    return np.asarray(made.toarray() if hasattr(made, "toarray") else made).astype(float)


def model(encoder: Any, columns: Any = ("c",)) -> Any:
    made = make_column_transformer((encoder, list(columns)), remainder="passthrough")
    return daskgd.make_pipeline(made, daskgd.LogisticRegression())


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = str(tmp_path_factory.mktemp("missing") / "a.zarr")
    daskgd.write_dataset(found, frame(), Y)
    return found


@pytest.mark.parametrize("case", ENCODERS)
def test_rows_in_memory_are_predicted_as_those_of_a_table(case: str, path: str) -> None:
    ours = model(ENCODERS[case]).fit(path)
    expected = ours.predict_proba(path).compute()
    for form, make in FORMS.items():
        np.testing.assert_allclose(ours.predict_proba(make()), expected, atol=1e-12, err_msg=form)


@pytest.mark.parametrize("form", ["None", "NA", "dask"])
def test_whatever_is_asked_of_them(form: str, path: str) -> None:
    ours, rows = model(OneHotEncoder()).fit(path), FORMS[form]()
    np.testing.assert_array_equal(np.asarray(ours.predict(rows)), ours.predict(path).compute())
    for name in ("predict_log_proba", "decision_function"):
        expected = getattr(ours, name)(path).compute()
        np.testing.assert_allclose(np.asarray(getattr(ours, name)(rows)), expected, atol=1e-12)
    y = dd.from_pandas(pd.Series(Y), npartitions=2) if form == "dask" else Y
    assert ours.score(rows, y) == ours.score(path)


def test_arrays_and_lists_of_objects_too(path: str) -> None:
    ours = model(OneHotEncoder(), [0]).fit(path)
    expected = ours.predict_proba(path).compute()
    for rows in (frame().to_numpy(), frame(pd.NA).to_numpy(), frame().to_numpy().tolist()):
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            found = ours.predict_proba(rows)
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_table_of_arrow_without_a_gap_too(path: str) -> None:
    ours = model(OneHotEncoder()).fit(path)
    whole = frame().dropna()
    np.testing.assert_array_equal(ours.predict_proba(pa.table(whole)), ours.predict_proba(whole))


@pytest.mark.parametrize("form", ["None", "NA", "string", "table of arrow"])
def test_a_fit_in_memory_is_that_of_the_table(form: str, path: str) -> None:
    rows = FORMS[form]()
    ours, stored = model(OneHotEncoder()).fit(rows, Y), model(OneHotEncoder()).fit(path)
    np.testing.assert_array_equal(ours.get_feature_names_out(), stored.get_feature_names_out())
    np.testing.assert_allclose(ours[-1].coef_, stored[-1].coef_, atol=1e-6)
    np.testing.assert_allclose(ours.predict_proba(path).compute(), ours.predict_proba(rows), atol=1e-12)


def test_encoders_alone_transform_rows(path: str) -> None:
    ours = model(OneHotEncoder()).fit(path)
    expected = ours[:-1].transform(frame(np.nan))
    assert expected[:, :3].sum() == 200
    for missing in (None, pd.NA, pd.NaT):
        np.testing.assert_array_equal(ours[:-1].transform(frame(missing)), expected)
    assert not hasattr(ours, "transform")
    passed = daskgd.Pipeline([("it", "passthrough")]).fit(frame(), Y).transform(frame())
    pd.testing.assert_frame_equal(passed, frame(np.nan))


@pytest.mark.parametrize("strategy", ["most_frequent", "constant"])
@pytest.mark.parametrize("add_indicator", [False, True])
def test_an_imputer_may_say_none_of_text(strategy: str, add_indicator: bool, path: str) -> None:
    imputer = SimpleImputer(
        missing_values=None, strategy=strategy, fill_value="-", add_indicator=add_indicator
    )
    made = make_column_transformer((theirs.make_pipeline(imputer, OneHotEncoder()), ["c"]))
    ours = daskgd.make_pipeline(made, daskgd.LogisticRegression()).fit(path)
    expected = clone(made).fit_transform(frame())
    encoded = encode(daskgd.open_dataset(path), ours[0]).X.compute()
    np.testing.assert_array_equal(dense(encoded), dense(expected))
    assert imputer.missing_values is None
    for missing in (None, np.nan, pd.NA):
        np.testing.assert_array_equal(ours.predict(frame(missing)), ours.predict(path).compute())
    np.testing.assert_array_equal(ours.to_sklearn().predict(frame(np.nan)), ours.predict(path).compute())


@pytest.mark.parametrize("features", ["all", "missing-only"])
def test_an_indicator_may_say_none_of_text(features: str, path: str) -> None:
    made = make_column_transformer((MissingIndicator(missing_values=None, features=features), ["c"]))
    encoded = encode(daskgd.open_dataset(path), fit_encoder(made, daskgd.open_dataset(path))).X.compute()
    np.testing.assert_array_equal(encoded, clone(made).fit_transform(frame()).astype(float))


@pytest.mark.parametrize(
    "encoder",
    [
        OneHotEncoder(categories=[["a", "b", None]]),
        theirs.make_pipeline(
            SimpleImputer(missing_values=None, strategy="constant", fill_value="-"), OneHotEncoder()
        ),
        FrozenEstimator(OneHotEncoder().fit(frame()[["c"]])),
    ],
    ids=["category", "imputer", "frozen"],
)
def test_encoders_that_say_none_themselves_are_given_it_in_memory(encoder: Any) -> None:
    ours = model(encoder).fit(frame(), Y)
    made = make_column_transformer((encoder, ["c"]), remainder="passthrough")
    expected = theirs.make_pipeline(made, LogisticRegression(tol=1e-10)).fit(frame(), Y)
    np.testing.assert_allclose(ours.predict_proba(frame()), expected.predict_proba(frame()), atol=1e-5)


@pytest.mark.parametrize(
    "encoder",
    [
        OneHotEncoder(categories=[["a", "b", None]], handle_unknown="ignore"),
        OrdinalEncoder(categories=[["b", "a", None]], encoded_missing_value=5),
        TargetEncoder(categories=[["a", "b", None]]),
        theirs.make_pipeline(SimpleImputer(missing_values=None, strategy="most_frequent"), OneHotEncoder()),
    ],
    ids=["one hot", "ordinal", "target", "imputer"],
)
def test_encoders_of_tables_that_say_none_are_fitted_with_nan(encoder: Any, path: str) -> None:
    rest = make_column_transformer(("passthrough", ["x"]), remainder=encoder)
    for made in (make_column_transformer((encoder, ["c"]), remainder="passthrough"), rest):
        ours = daskgd.make_pipeline(made, daskgd.LogisticRegression()).fit(path)
        expected = ours.predict_proba(path).compute()
        assert len(np.unique(expected[TEXT == None, 0])) > 1  # noqa: E711
        for missing in (None, np.nan, pd.NA):
            np.testing.assert_allclose(ours.predict_proba(frame(missing)), expected, atol=1e-12)
        if isinstance(encoder, OneHotEncoder | theirs.Pipeline):  # to others None is a category like others
            other = theirs.make_pipeline(clone(made), LogisticRegression(tol=1e-10)).fit(frame(), Y)
            np.testing.assert_allclose(other.predict_proba(frame()), expected, atol=1e-4)


def test_rows_with_nothing_to_change_stay_as_they_are() -> None:
    for rows in (
        frame(np.nan),
        frame(dtype="category"),
        frame().dropna().astype({"c": "string"}),
        frame().c,
        frame().dropna().to_numpy(),
        [["a", 1.0], ["b", 2.0]],
        [[1.0], [2.0, 3.0]],
        ["a", None],
        X[:, None],
    ):
        assert with_nan(rows) is rows


def test_other_columns_labels_and_the_index_stay(path: str) -> None:
    rows = frame().assign(n=pd.Series([1, None] * 100, dtype="Int64")).set_index(np.arange(200) * 2)
    twice = rows.set_axis(["c", "x", "x"], axis=1)
    found = with_nan(twice)
    assert list(found.columns) == ["c", "x", "x"]
    assert found.dtypes.tolist() == twice.dtypes.tolist()
    assert found.index.equals(rows.index)
    assert rows.c.isna().sum() == sum(value is None for value in rows.c)
