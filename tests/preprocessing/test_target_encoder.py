"""Categories encoded by their targets: scikit-learn's encodings, and each row without its own fold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import linear_model
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler, TargetEncoder

import daskgd
from daskgd.preprocessing.encoding import encode
from daskgd.preprocessing.facts import Facts
from daskgd.preprocessing.fitting import fit_encoder
from daskgd.rows.random_numbers import row_folds
from daskgd.rows.summaries import GroupMoments
from tests.tables import make_frame
from tests.tiers import slow_but

CATEGORIES = ["carrier", "origin", "month"]


def targets(frame: pd.DataFrame, kind: str) -> Any:
    rng = np.random.default_rng(7)
    z = frame.carrier.map({"AA": 1.0, "UA": -0.5, "DL": 2.0}).fillna(0.3) + frame.month / 12
    z += rng.normal(size=len(frame))
    return {
        "continuous": (1e6 + z).round(3),
        "counts": np.floor(np.abs(z)).astype(int).clip(0, 3),
        "binary": (z > 1).astype(int),
        "words": np.where(z > 1.5, "late", np.where(z > 0.5, "so so", "early")),
    }[kind]


def table(folder: Path, kind: str, n: int = 600) -> tuple[daskgd.Dataset, pd.DataFrame, Any]:
    frame = make_frame(3, n)
    y = targets(frame, kind)
    frame.assign(y=y).to_csv(folder / "t.csv", index=False)
    daskgd.ingest(folder / "t.csv", folder / "t.zarr", target="y")
    read: Any = pd.read_csv(folder / "t.csv")
    y = read.pop("y")
    return daskgd.open_dataset(folder / "t.zarr", block_bytes=4000), read, y


def encoded(encoder: Any, dataset: daskgd.Dataset) -> tuple[Any, np.ndarray]:
    """The fitted encoder, and the rows of the fit as a model sees them."""
    facts = Facts.of(dataset.schema)
    fitted = fit_encoder(encoder, dataset, facts=facts)
    return fitted, np.asarray(encode(dataset, fitted, facts=facts).X.compute())


def cross_fitted(encoder: Any, X: Any, y: Any, numbers: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The same by scikit-learn's encoder, fitted to the rows of all other folds."""
    known = TargetEncoder().fit(X, y).categories_
    fold = row_folds(numbers, folds, seed)
    out: Any = None
    for i in range(folds):
        own = TargetEncoder(categories=list(known), smooth=encoder.smooth, target_type=encoder.target_type)
        found = own.fit(X[fold != i], y[fold != i]).transform(X[fold == i])
        out = np.empty((len(X), found.shape[1])) if out is None else out
        out[fold == i] = found
    return out


@pytest.mark.parametrize("kind", ["continuous", "counts", "binary", "words"])
@pytest.mark.parametrize("smooth", slow_but(["auto", 0.0, 20.0], "auto"))
def test_encodings_are_scikit_learns(kind: str, smooth: Any, tmp_path: Path) -> None:
    dataset, frame, y = table(tmp_path, kind)
    X, encoder = frame[CATEGORIES], TargetEncoder(smooth=smooth, cv=4)
    alone = make_column_transformer((encoder, CATEGORIES), verbose_feature_names_out=False)
    fitted, found = encoded(alone, dataset)
    (_, ours, _), *_ = fitted.transformers_
    expected = TargetEncoder(smooth=smooth).fit(X, y)
    assert ours.target_type_ == expected.target_type_
    if expected.classes_ is not None:
        np.testing.assert_array_equal(ours.classes_, expected.classes_)
    np.testing.assert_allclose(ours.target_mean_, expected.target_mean_, rtol=1e-12)
    for a, b in zip(ours.categories_, expected.categories_, strict=True):
        assert [str(v) for v in a] == [str(v) for v in b]
    for a, b in zip(ours.encodings_, expected.encodings_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)
    names = list(fitted.get_feature_names_out())
    assert names == list(expected.get_feature_names_out())
    new = frame.head(5).copy()
    new.loc[0, "carrier"], new.loc[1, "month"] = "new", 99
    np.testing.assert_allclose(fitted.transform(new), expected.transform(new[CATEGORIES]), rtol=1e-10)
    # Rows that are predicted for are encoded by all rows of the fit, those of the fit by other folds.
    np.testing.assert_allclose(encode(dataset, fitted).X.compute(), expected.transform(X), rtol=1e-10)
    like = cross_fitted(encoder, X, y, np.arange(len(X)), 4, 0)
    np.testing.assert_allclose(found, like, rtol=1e-10)


def test_folds_are_of_row_numbers_whatever_the_view(tmp_path: Path) -> None:
    dataset, frame, y = table(tmp_path, "continuous")
    part, _ = dataset.train_test_split(0.4, random_state=3)
    encoder = make_column_transformer((TargetEncoder(cv=3, random_state=5), CATEGORIES))
    _, found = encoded(encoder, part)
    numbers = np.flatnonzero(np.isin(np.arange(len(frame)), rows_of(part)))
    like = cross_fitted(TargetEncoder(), frame[CATEGORIES].iloc[numbers], y.iloc[numbers], numbers, 3, 5)
    np.testing.assert_allclose(found, like, rtol=1e-10)
    again = daskgd.open_dataset(tmp_path / "t.zarr", block_bytes=900)
    other, _ = again.train_test_split(0.4, random_state=3)
    np.testing.assert_allclose(encoded(encoder, other)[1], found, rtol=1e-12)


def rows_of(dataset: daskgd.Dataset) -> np.ndarray:
    """The numbers of the rows of a view, by a column that tells them apart."""
    whole = daskgd.open_dataset(dataset.path)
    frame, part = (d.frame.compute() for d in (whole, dataset))
    at = {tuple(map(str, row)): i for i, row in enumerate(frame.itertuples(index=False))}
    return np.array([at[tuple(map(str, row))] for row in part.itertuples(index=False)])


def test_a_pipeline_fits_what_scikit_learns_model_fits_to_cross_fitted_rows(tmp_path: Path) -> None:
    dataset, frame, y = table(tmp_path, "binary")
    encoder = make_column_transformer(
        (make_pipeline(TargetEncoder(), PolynomialFeatures(2), StandardScaler()), CATEGORIES),
        (OneHotEncoder(), ["origin"]),
    )
    fits = [
        daskgd.make_pipeline(encoder, daskgd.LogisticRegression(tol=1e-12, engine=engine)).fit(dataset)
        for engine in ("serial", "threads")
    ]
    assert np.array_equal(fits[0][-1].coef_, fits[1][-1].coef_)
    rows = cross_fitted(TargetEncoder(), frame[CATEGORIES], y, np.arange(len(frame)), 5, 0)
    rest = make_pipeline(PolynomialFeatures(2), StandardScaler())
    A = np.column_stack([rest.fit_transform(rows), frame.origin == "x", frame.origin == "y"])
    expected = linear_model.LogisticRegression(tol=1e-12, max_iter=10_000).fit(A, y)
    np.testing.assert_allclose(fits[0][-1].coef_, expected.coef_, atol=1e-5)
    # As a file, exported, resumed.
    fits[0].save(tmp_path / "m.dgd")
    loaded, exported = daskgd.load_model(tmp_path / "m.dgd"), fits[0].to_sklearn()
    found = fits[0].predict_proba(dataset)
    assert isinstance(found, da.Array)
    np.testing.assert_allclose(exported.predict_proba(frame), found.compute(), rtol=1e-9)
    np.testing.assert_array_equal(loaded.predict_proba(dataset).compute(), found.compute())
    short = daskgd.make_pipeline(encoder, daskgd.LogisticRegression(tol=1e-12, max_iter=1, solver="lbfgs"))
    with pytest.warns(ConvergenceWarning):
        short.fit(dataset, checkpoint=tmp_path / "c")
    long = daskgd.make_pipeline(encoder, daskgd.LogisticRegression(tol=1e-8, solver="lbfgs", max_iter=300))
    resumed = long.fit(dataset, checkpoint=tmp_path / "c")[-1].coef_
    whole = daskgd.make_pipeline(encoder, daskgd.LogisticRegression(tol=1e-8, solver="lbfgs", max_iter=300))
    assert np.array_equal(resumed, whole.fit(dataset)[-1].coef_)


REFUSED = {
    "cv": (TargetEncoder(cv=None), "cv"),
    "shuffle": (TargetEncoder(shuffle=False), "shuffle=True"),
    "state": (TargetEncoder(random_state=-1), "random_state"),
    "type": (TargetEncoder(target_type="continuous"), "leave target_type out"),
    "two": (TargetEncoder(target_type="binary"), "two labels"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str, tmp_path: Path) -> None:
    dataset, _, _ = table(tmp_path, "words", 100)
    encoder, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        fit_encoder(make_column_transformer((encoder, CATEGORIES)), dataset)


def test_rows_of_a_fit_are_never_told_their_own_targets(tmp_path: Path) -> None:
    dataset, _, _ = table(tmp_path, "binary", 100)
    weighted = ColumnTransformer([("it", TargetEncoder(), CATEGORIES)], transformer_weights={"it": 2.0})
    for spec in (weighted, FeatureUnion([("a", weighted)]), make_pipeline(weighted, StandardScaler())):
        with pytest.raises(ValueError, match="without transformer_weights"):
            daskgd.make_pipeline(spec, daskgd.LogisticRegression()).fit(dataset)
    # Of what is fitted already nothing is learnt.
    frozen = FrozenEstimator(TargetEncoder().fit(dataset.frame.compute()[["month"]], dataset.y.compute()))
    spec = make_column_transformer((frozen, ["month"]), (TargetEncoder(), ["origin"]))
    fitted, found = encoded(spec, dataset)
    np.testing.assert_allclose(found[:, 0], frozen.transform(dataset.frame.compute()[["month"]])[:, 0])
    assert not np.allclose(found, fitted.transform(dataset.frame.compute()))


def test_a_table_without_a_target_is_refused(tmp_path: Path) -> None:
    make_frame(1, 50).to_csv(tmp_path / "t.csv", index=False)
    daskgd.ingest(tmp_path / "t.csv", tmp_path / "t.zarr")
    encoder = make_column_transformer((TargetEncoder(), ["origin"]))
    with pytest.raises(ValueError, match="expected a table with one target per row, got none"):
        fit_encoder(encoder, daskgd.open_dataset(tmp_path / "t.zarr"))


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-1e6, 1e6)), max_size=30), st.integers(0, 30))
def test_moments_of_groups_merge(rows: list[tuple[int, float]], cut: int) -> None:
    groups = np.array([g for g, _ in rows], dtype=int)
    values = 1e9 + np.array([v for _, v in rows], dtype=float)
    whole = GroupMoments.of(values, groups, 4)
    both = GroupMoments.of(values[:cut], groups[:cut], 4) + GroupMoments.of(values[cut:], groups[cut:], 4)
    for g in range(4):
        own = values[groups == g]
        assert whole.weight[g] == both.weight[g] == len(own)
        if len(own):
            for found in (whole, both):
                np.testing.assert_allclose(found.mean[g], own.mean(), rtol=1e-12)
                np.testing.assert_allclose(
                    found.deviation[g], ((own - own.mean()) ** 2).sum(), rtol=1e-6, atol=1
                )
