"""Encoders that sums fit are those that scikit-learn fits in memory."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import FeatureUnion, make_pipeline, make_union
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.utils._param_validation import InvalidParameterError

import daskgd
from daskgd.preprocessing.encoding import encode
from daskgd.preprocessing.fitting import fit_encoder
from daskgd.preprocessing.kinds.table import KINDS
from daskgd.preprocessing.records import from_record, to_record
from daskgd.storage.records import pack, unpack
from tests.tables import FULL, NUMBERS, TEXT
from tests.tiers import slow_but

ENCODERS: dict[str, Any] = {
    "standard": (StandardScaler(), FULL),
    "standard, gaps": (StandardScaler(), [*NUMBERS, "same"]),
    "standard, no mean": (StandardScaler(with_mean=False), NUMBERS),
    "standard, no std": (StandardScaler(with_std=False), NUMBERS),
    "min max": (MinMaxScaler((-1, 2)), NUMBERS),
    "min max, clip": (MinMaxScaler(clip=True), FULL),
    "max abs": (MaxAbsScaler(), NUMBERS),
    "robust": (RobustScaler(), NUMBERS),
    "mean": (SimpleImputer(), NUMBERS),
    "median": (SimpleImputer(strategy="median", add_indicator=True), ["temp", "month"]),
    "most frequent number": (SimpleImputer(strategy="most_frequent"), ["month", "temp"]),
    "constant": (SimpleImputer(strategy="constant", fill_value=-1), ["temp", "month"]),
    "constant text": (
        make_pipeline(SimpleImputer(strategy="constant", fill_value="none"), OneHotEncoder()),
        TEXT,
    ),
    "gaps": (MissingIndicator(features="all"), NUMBERS),
    "gaps, some": (MissingIndicator(), NUMBERS),
    "impute, scale": (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), NUMBERS),
    "impute, encode": (make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), TEXT),
    "one hot": (OneHotEncoder(), TEXT),
    "one hot, dense": (OneHotEncoder(sparse_output=False), TEXT),
    "one hot of numbers": (OneHotEncoder(), ["month", "flag"]),
    "one hot of numbers with gaps": (OneHotEncoder(), ["month", "temp"]),
    "one hot, first dropped": (OneHotEncoder(drop="first"), [*TEXT, "month"]),
    "one hot, binary dropped": (OneHotEncoder(drop="if_binary"), [*TEXT, "flag"]),
    "one hot, dropped by name": (OneHotEncoder(drop=np.array(["UA", "x"], dtype=object)), TEXT),
    "one hot, rare": (OneHotEncoder(min_frequency=30), TEXT),
    "one hot, rare share": (OneHotEncoder(min_frequency=0.1, handle_unknown="infrequent_if_exist"), TEXT),
    "one hot, few": (OneHotEncoder(max_categories=3), [*TEXT, "month"]),
    "one hot, one": (OneHotEncoder(max_categories=1), TEXT),
    "one hot, all rare": (OneHotEncoder(min_frequency=100_000), ["origin"]),
    "one hot, rare and dropped": (OneHotEncoder(min_frequency=30, drop="first"), [*TEXT, "month"]),
    "one hot, given": (
        OneHotEncoder(categories=[["AA", "UA", "new"], ["y", "x"]], handle_unknown="ignore"),
        TEXT,
    ),
    "ordinal": (OrdinalEncoder(), TEXT),
    "ordinal, missing": (OrdinalEncoder(encoded_missing_value=-9), TEXT),
    "ordinal, unknown": (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-7), TEXT),
    "ordinal, unknown and rare": (
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=9, min_frequency=30),
        TEXT,
    ),
    "ordinal, all rare": (
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, min_frequency=100_000),
        ["origin"],
    ),
    "ordinal, rare": (OrdinalEncoder(min_frequency=30), TEXT),
    "ordinal, scaled": (make_pipeline(OrdinalEncoder(encoded_missing_value=-1), StandardScaler()), TEXT),
    "one hot, scaled": (make_pipeline(OneHotEncoder(), StandardScaler(with_mean=False)), TEXT),
    "one hot, max abs": (make_pipeline(OneHotEncoder(), MaxAbsScaler()), TEXT),
    "bins": (KBinsDiscretizer(4, strategy="uniform"), FULL),
    "bins by quantiles": (
        KBinsDiscretizer(4, encode="ordinal", quantile_method="averaged_inverted_cdf"),
        FULL,
    ),
    "splines": (SplineTransformer(), FULL),
    "splines at quantiles": (SplineTransformer(knots="quantile"), FULL),
    "quantiles": (QuantileTransformer(n_quantiles=50), FULL),
    "power": (PowerTransformer(), FULL),
    "polynomials": (PolynomialFeatures(), FULL),
    "polynomials, scaled": (make_pipeline(PolynomialFeatures(2), StandardScaler()), FULL),
    "function": (FunctionTransformer(np.log, feature_names_out="one-to-one"), FULL),
    "function, scaled": (make_pipeline(FunctionTransformer(np.log), StandardScaler()), FULL),
    "normal": (Normalizer(), FULL),
    "binary": (Binarizer(threshold=6), FULL),
    "union": (FeatureUnion([("a", StandardScaler()), ("b", MinMaxScaler()), ("c", "passthrough")]), FULL),
    "union of pipelines": (
        make_union(make_pipeline(SimpleImputer(), StandardScaler()), MissingIndicator()),
        ["temp", "month"],
    ),
    "nested": (
        make_column_transformer(
            (OneHotEncoder(), ["carrier"]),
            (make_pipeline(SimpleImputer(), StandardScaler()), ["temp"]),
            remainder="passthrough",
        ),
        ["carrier", "temp", "month"],
    ),
    "pandas": (make_pipeline(SimpleImputer(), StandardScaler()).set_output(transform="pandas"), NUMBERS),
}


def dense(X: Any) -> np.ndarray:
    return np.asarray(X.toarray() if hasattr(X, "toarray") else X)


def compare(encoder: Any, dataset: daskgd.Dataset, frame: pd.DataFrame) -> Any:
    """The encoder fitted by sums, after a comparison with scikit-learn's."""
    before = repr(encoder)
    fitted, expected = fit_encoder(encoder, dataset), deepcopy(encoder).fit(frame)
    assert repr(encoder) == before
    np.testing.assert_array_equal(_names(fitted), _names(expected))
    want, found = (dense(one.transform(frame)).astype(float) for one in (expected, fitted))
    np.testing.assert_allclose(found, want, rtol=1e-10, atol=1e-12)
    back = from_record(unpack(pack(to_record(fitted))))
    np.testing.assert_array_equal(dense(back.transform(frame)).astype(float), found)
    encoded = encode(dataset, fitted)
    np.testing.assert_allclose(dense(encoded.X.compute()), want, rtol=1e-10, atol=1e-12)
    return fitted


def _names(encoder: Any) -> Any:
    try:
        return encoder.get_feature_names_out()
    except AttributeError:  # as of functions
        return []


@pytest.mark.parametrize("case", ENCODERS)
def test_an_encoder_is_scikit_learns(case: str, tables: Any) -> None:
    dataset, frame, _ = tables(1)
    transformer, columns = ENCODERS[case]
    compare(ColumnTransformer([("it", transformer, columns)]), dataset, frame)


WHOLE: dict[str, Any] = {
    "several": make_column_transformer(
        (OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=30), TEXT),
        (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), ["temp", "miles"]),
        (OneHotEncoder(drop="first"), ["month"]),
        ("passthrough", ["flag"]),
    ),
    "remainder passes": make_column_transformer((OneHotEncoder(), TEXT), remainder="passthrough"),
    "remainder scaled": make_column_transformer((OneHotEncoder(), TEXT), remainder=StandardScaler()),
    "selectors": make_column_transformer(
        (OneHotEncoder(), make_column_selector(dtype_exclude=["number", "bool"])),
        (make_pipeline(SimpleImputer(), MinMaxScaler()), make_column_selector(dtype_include="number")),
        (OneHotEncoder(drop="if_binary"), make_column_selector(pattern="flag")),
    ),
    "by position": make_column_transformer(
        (OneHotEncoder(), [0, -4]), (StandardScaler(), slice(1, 3)), remainder="drop"
    ),
    "no prefixes": make_column_transformer(
        (OneHotEncoder(), ["carrier"]), (StandardScaler(), ["miles"]), verbose_feature_names_out=False
    ),
    "dropped": make_column_transformer(("drop", ["carrier", "origin"]), (StandardScaler(), NUMBERS)),
    "none selected": make_column_transformer((OneHotEncoder(), []), (StandardScaler(), FULL)),
    "after another": make_pipeline(
        make_column_transformer((OneHotEncoder(), TEXT), (SimpleImputer(), NUMBERS)),
        StandardScaler(with_mean=False),
    ),
    "of positions after another": make_pipeline(
        make_column_transformer((OrdinalEncoder(encoded_missing_value=-1), TEXT), (SimpleImputer(), NUMBERS)),
        make_column_transformer((OneHotEncoder(), [0]), (StandardScaler(), [2, 3, 1])),
    ),
    "of names after another": make_pipeline(
        make_column_transformer(
            (OrdinalEncoder(encoded_missing_value=-1), TEXT),
            (SimpleImputer(), NUMBERS),
            verbose_feature_names_out=False,
        ).set_output(transform="pandas"),
        make_column_transformer((OneHotEncoder(), ["carrier"]), (StandardScaler(), ["temp"])),
    ),
    "weighted": ColumnTransformer(
        [("a", OneHotEncoder(), TEXT), ("b", StandardScaler(), FULL)], transformer_weights={"a": 2.0}
    ),
}


@pytest.mark.parametrize("case", WHOLE)
@pytest.mark.parametrize("seed", slow_but([1, 2, 3], 1))
def test_an_encoder_of_a_table_is_scikit_learns(case: str, seed: int, tables: Any) -> None:
    dataset, frame, _ = tables(seed)
    compare(WHOLE[case], dataset, frame)


def test_a_frozen_encoder_stays_as_it_is(tables: Any) -> None:
    dataset, frame, _ = tables(1)
    known = OneHotEncoder(handle_unknown="ignore").fit(frame[TEXT][:50])
    fitted = compare(make_column_transformer((FrozenEstimator(known), TEXT)), dataset, frame)
    assert fitted.transformers_[0][1].estimator is known


def test_categories_are_selected_as_the_frame_of_a_dataset_has_them(tables: Any) -> None:
    dataset, _, _ = tables(1)
    encoder = make_column_transformer((OneHotEncoder(), make_column_selector(dtype_include="category")))
    fitted = fit_encoder(encoder, dataset)
    assert fitted.transformers_[0][2] == TEXT
    assert encode(dataset, fitted).n_features == 6 + 2


@pytest.mark.parametrize("kind", [object, "object", "O", np.object_, np.dtype(object), [object, "category"]])
def test_text_is_selected_as_objects_without_a_warning(kind: Any, tables: Any) -> None:
    dataset, _, _ = tables(1)
    fitted = fit_encoder(
        make_column_transformer(
            (OneHotEncoder(), make_column_selector(dtype_include=kind)),
            (MaxAbsScaler(), make_column_selector(dtype_exclude=kind)),
        ),
        dataset,
    )
    assert fitted.transformers_[0][2] == TEXT
    assert fitted.transformers_[1][2] == [name for name in dataset.schema if name not in TEXT]


# -- parameters -----------------------------------------------------------------------------------


BAD = (-3, 2.5, "bogus", ())


def columns_for(kind: type) -> Any:
    if kind is HashingVectorizer:
        return "origin"
    return ["origin"] if kind in (OneHotEncoder, OrdinalEncoder, TargetEncoder) else ["miles"]


def error_of(fit: Callable[[], Any]) -> Exception | None:
    try:
        fit()
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.filterwarnings("ignore")
def test_parameters_that_scikit_learn_refuses_are_refused_in_its_words(kind: type, tables: Any) -> None:
    dataset, frame, y = tables(1)
    few, y = frame[:40], y[:40]
    for name in kind().get_params():
        for bad in BAD:
            encoder = ColumnTransformer([("it", kind().set_params(**{name: bad}), columns_for(kind))])
            expected = error_of(lambda encoder=encoder: deepcopy(encoder).fit(few, y))
            if isinstance(expected, InvalidParameterError):
                found = error_of(lambda encoder=encoder: fit_encoder(encoder, dataset))
                assert type(found) is InvalidParameterError, (name, bad)
                assert str(found) == str(expected)


@pytest.mark.parametrize(
    ("encoder", "error", "message"),
    [
        (OneHotEncoder(min_frequency=-3), ValueError, "'min_frequency' parameter of OneHotEncoder"),
        (OrdinalEncoder(unknown_value=-1), TypeError, "unknown_value should only be set when"),
        (OrdinalEncoder(handle_unknown="use_encoded_value"), TypeError, "should be an integer or np.nan"),
        (
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=1),
            ValueError,
            "unknown_value 1 is one of the values already used",
        ),
    ],
)
def test_parameters_that_do_not_suit_are_refused(
    encoder: Any, error: type[Exception], message: str, tables: Any
) -> None:
    for fit in (lambda one: fit_encoder(one, tables(1).dataset), lambda one: one.fit(tables(1).frame)):
        with pytest.raises(error, match=message):
            fit(make_column_transformer((make_pipeline(deepcopy(encoder)), ["origin"])))


def test_parameters_are_not_checked_where_scikit_learn_does_not(tables: Any) -> None:
    dataset, frame, _ = tables(1)
    encoder = make_column_transformer((OneHotEncoder(sparse_output="no"), ["origin"]))
    with config_context(skip_parameter_validation=True):
        compare(encoder, dataset, frame)


@pytest.mark.filterwarnings("ignore:Found unknown categories")
@pytest.mark.parametrize("unknown", ["infrequent_if_exist", "warn", "ignore"])
def test_unknown_categories_of_other_rows_are_where_scikit_learn_has_them(
    unknown: Any, tables: Any, tmp_path: Path
) -> None:
    dataset, frame, _ = tables(1)
    encoder = make_column_transformer((OneHotEncoder(handle_unknown=unknown, min_frequency=30), TEXT))
    new = frame.assign(carrier="new")
    daskgd.write_dataset(tmp_path / "new.zarr", new)
    encoded = encode(daskgd.open_dataset(tmp_path / "new.zarr"), fit_encoder(encoder, dataset))
    np.testing.assert_array_equal(
        dense(encoded.X.compute()), dense(deepcopy(encoder).fit(frame).transform(new))
    )
