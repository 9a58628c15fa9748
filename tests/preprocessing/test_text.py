"""Text as hashed words: scikit-learn's features, made once for each distinct text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import linear_model
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import MaxAbsScaler, OneHotEncoder, StandardScaler

import daskgd
from daskgd.preprocessing.encoding import encode
from daskgd.preprocessing.fitting import fit_encoder
from daskgd.preprocessing.records import from_record, to_record
from tests.tiers import slow_but


def dense(X: Any) -> np.ndarray:
    return np.asarray(X.toarray() if hasattr(X, "toarray") else X)


WORDS = ["cheap", "late", "seat", "window", "crew", "bag", "lost", "free", "drink", "no"]


def make(folder: Path, n: int = 500, gaps: bool = False) -> tuple[daskgd.Dataset, pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(4)
    said = [" ".join(rng.choice(WORDS, rng.integers(0, 6))) + " ." for _ in range(150)]
    frame = pd.DataFrame(
        {
            "miles": rng.normal(500, 100, n).round(1),
            "comment": rng.choice(said, n),
            "carrier": rng.choice(["AA", "UA"], n),
        }
    )
    if gaps:
        frame.loc[3, "comment"] = None
    angry = frame.comment.fillna("").str.contains("lost|late") ^ (rng.random(n) < 0.1)
    y = angry.map({True: "angry", False: "calm"})
    frame.assign(angry=y).to_csv(folder / "t.csv", index=False)
    daskgd.ingest(folder / "t.csv", folder / "t.zarr", target="angry", chunk_bytes=4000)
    return daskgd.open_dataset(folder / "t.zarr", block_bytes=4000), frame, y


def encoder(**settings: Any) -> Any:
    return make_column_transformer(
        (StandardScaler(), ["miles"]),
        (HashingVectorizer(n_features=64, **settings), "comment"),
        (OneHotEncoder(), ["carrier"]),
    )


SETTINGS: dict[str, dict[str, Any]] = {
    "words": {},
    "pairs": {"ngram_range": (1, 2), "norm": "l1"},
    "characters": {"analyzer": "char", "binary": True},
}


@pytest.mark.parametrize("kind", slow_but([*SETTINGS], "pairs"))
def test_features_and_models_are_scikit_learns(kind: str, tmp_path: Path) -> None:
    settings = SETTINGS[kind]
    dataset, frame, y = make(tmp_path)
    fitted, expected = fit_encoder(encoder(**settings), dataset), encoder(**settings).fit(frame)
    found = encode(dataset, fitted)
    assert not found.columns.X.is_dense
    want = dense(expected.transform(frame))
    np.testing.assert_allclose(dense(found.X.compute()), want, atol=1e-12)
    np.testing.assert_allclose(dense(from_record(to_record(fitted)).transform(frame)), want, atol=1e-12)
    fits = [
        daskgd.make_pipeline(encoder(**settings), daskgd.LogisticRegression(tol=1e-10, engine=engine))
        for engine in ("serial", "threads")
    ]
    one, two = (model.fit(dataset) for model in fits)
    assert np.array_equal(one[-1].coef_, two[-1].coef_)
    theirs = make_pipeline(encoder(**settings), linear_model.LogisticRegression(tol=1e-10, max_iter=10_000))
    np.testing.assert_allclose(one[-1].coef_, theirs.fit(frame, y)[-1].coef_, atol=1e-4)
    new = frame.head(4).copy()
    new.loc[0, "comment"] = "words that no fit has seen"
    np.testing.assert_array_equal(one.to_sklearn().predict(new), theirs.predict(new))
    one.save(tmp_path / "m.dgd")
    loaded = daskgd.load_model(tmp_path / "m.dgd")
    assert loaded.score(dataset) == one.score(dataset) > 0.8


def test_text_in_unions_and_by_position(tmp_path: Path) -> None:
    dataset, frame, _ = make(tmp_path)
    both = make_union(HashingVectorizer(n_features=32), HashingVectorizer(n_features=16, analyzer="char"))
    for column in ("comment", 1):
        spec = make_column_transformer((both, column), (StandardScaler(), ["miles"]))
        found = encode(dataset, fit_encoder(spec, dataset)).X.compute()
        np.testing.assert_allclose(dense(found), dense(spec.fit_transform(frame)), atol=1e-12)


@pytest.mark.slow
def test_a_million_features(tmp_path: Path) -> None:
    dataset, frame, y = make(tmp_path)
    spec = make_column_transformer((HashingVectorizer(), "comment"))
    model = daskgd.make_pipeline(spec, daskgd.LogisticRegression(C=10.0, tol=1e-8)).fit(dataset)
    theirs = make_pipeline(spec, linear_model.LogisticRegression(C=10.0, tol=1e-8, max_iter=1000)).fit(
        frame, y
    )
    margins = theirs.decision_function(frame)
    np.testing.assert_allclose(model.decision_function(dataset).compute(), margins, atol=1e-3)


def test_what_is_refused(tmp_path: Path) -> None:
    dataset, _, _ = make(tmp_path, gaps=True)
    cases = [
        ((HashingVectorizer(), "comment"), "missing values"),
        ((HashingVectorizer(), ["comment"]), "name it alone"),
        ((HashingVectorizer(), "miles"), "got numbers"),
        ((make_pipeline(HashingVectorizer(), MaxAbsScaler()), "comment"), "missing values"),
    ]
    for case, words in cases:
        with pytest.raises(ValueError, match=words):
            fit_encoder(make_column_transformer(case), dataset)


def test_scalers_of_text_are_refused(tmp_path: Path) -> None:
    dataset, _, _ = make(tmp_path)
    spec = make_column_transformer((make_pipeline(HashingVectorizer(), MaxAbsScaler()), "comment"))
    with pytest.raises(ValueError, match="made of text in column 'comment'"):
        fit_encoder(spec, dataset)
