"""Fits of codes with categories are those of what scikit-learn's encoder makes of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import dask
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn.linear_model
import sklearn.svm
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_transformer
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import OneHotEncoder

import daskgd
from daskgd.monitoring.events import Iterated

SIZES = [4, 7, 30]


class Data(NamedTuple):
    X: daskgd.OneHot
    encoded: sp.csr_array
    labels: np.ndarray
    numbers: np.ndarray
    counts: np.ndarray


@pytest.fixture(scope="module")
def data() -> Data:
    rng = np.random.default_rng(0)
    n = 900
    codes = np.stack([(m * rng.random(n) ** 2).astype(int) for m in SIZES], axis=1)
    codes[: max(SIZES)] = np.arange(max(SIZES))[:, None] % SIZES  # every category comes
    numbers = rng.standard_normal((n, 2)) * [1.0, 3.0]
    both = np.hstack([numbers, codes])
    encode = make_column_transformer(
        ("passthrough", [0, 1]), (OneHotEncoder(handle_unknown="ignore"), [2, 3, 4]), sparse_threshold=1.0
    ).fit(both)
    both[:, 2:][rng.random((n, 3)) < 0.1] = -1  # which the encoder does not know
    encoded = sp.csr_array(encode.transform(both))
    X = daskgd.OneHot(both[:, 2:].astype(np.int8), SIZES, numeric=numbers)
    z = encoded @ rng.standard_normal(encoded.shape[1])
    labels = (z + rng.logistic(size=n) > 0).astype(int)
    return Data(X, encoded, labels, z + rng.standard_normal(n), rng.poisson(np.exp(np.clip(z / 3, -3, 3))))


def coefficients(model: Any) -> np.ndarray:
    found = model.coefs_ if hasattr(model, "coefs_") else [model.coef_]
    return np.concatenate([*map(np.ravel, found), *map(np.ravel, getattr(model, "intercepts_", []))])


def off(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


FITS: dict[str, tuple[Any, BaseEstimator | None, str]] = {
    "logistic": (
        daskgd.LogisticRegression(tol=1e-10),
        sklearn.linear_model.LogisticRegression(solver="newton-cholesky", tol=1e-10),
        "labels",
    ),
    "logistic, l1": (daskgd.LogisticRegression(l1_ratio=1.0, C=0.1, tol=1e-8), None, "labels"),
    "ridge": (daskgd.Ridge(), sklearn.linear_model.Ridge(solver="sparse_cg", tol=1e-12), "numbers"),
    "lasso": (
        daskgd.Lasso(alpha=0.01, tol=1e-12),
        sklearn.linear_model.Lasso(alpha=0.01, tol=1e-12, max_iter=10000),
        "numbers",
    ),
    "svc": (
        daskgd.LinearSVC(tol=1e-10),
        sklearn.svm.LinearSVC(tol=1e-10, intercept_scaling=1e4, max_iter=10**6),
        "labels",
    ),
    "poisson": (
        daskgd.PoissonRegressor(tol=1e-12),
        sklearn.linear_model.PoissonRegressor(solver="newton-cholesky", tol=1e-12),
        "counts",
    ),
    "least squares": (daskgd.LinearRegression(), None, "numbers"),
    "huber": (daskgd.HuberRegressor(), None, "numbers"),
    "perceptron": (daskgd.MLPClassifier((5,), random_state=0, max_iter=20, tol=0), None, "labels"),
    "sgd": (daskgd.SGDClassifier(random_state=0), None, "labels"),
}


@pytest.mark.parametrize("engine", ["serial", "threads"])
@pytest.mark.parametrize("name", FITS)
def test_a_fit_is_that_of_the_encoded_rows(name: str, engine: str, data: Data) -> None:
    estimator, theirs, target = FITS[name]
    y = getattr(data, target)
    estimator = type(estimator)(**{**estimator.get_params(), "engine": engine})
    model = type(estimator)(**estimator.get_params()).fit(data.X, y)
    sparse = type(estimator)(**estimator.get_params()).fit(data.encoded, y)
    assert off(coefficients(model), coefficients(sparse)) < 1e-10
    assert np.allclose(model.predict(data.X), sparse.predict(data.encoded), rtol=1e-10)
    assert np.isclose(model.score(data.X, y), sparse.score(data.encoded, y), rtol=1e-12)
    assert np.array_equal(model.predict(data.X), model.predict(data.encoded)) or target != "labels"
    if theirs is not None:
        assert off(coefficients(model), coefficients(theirs.fit(data.encoded, y))) < 1e-6


@pytest.mark.parametrize("solver", ["lbfgs", "newton", "newton_cg", "giant", "admm", "fista"])
def test_blocks_and_solvers(solver: str, data: Data) -> None:
    dense = data.encoded.toarray()
    with dask.config.set({"daskgd.block-bytes": 4000}):
        dataset = daskgd.as_dataset(data.X, data.labels)
        like = daskgd.as_dataset(dense, data.labels)
        assert dataset.layout.n_blocks > 3
        model = daskgd.LogisticRegression(C=0.1, solver=solver, tol=1e-10, max_iter=500)
        found = coefficients(model.fit(dataset))
        assert off(found, coefficients(model.fit(like))) < 1e-5


def test_a_split_has_the_rows_of_any_other_kind(data: Data) -> None:
    found = []
    for X in (data.X, data.encoded.toarray()):
        train, test = daskgd.as_dataset(X, data.labels).train_test_split(0.3, random_state=1)
        model = daskgd.LogisticRegression(tol=1e-10).fit(train)
        found.append((coefficients(model), model.score(test)))
    assert off(found[0][0], found[1][0]) < 1e-6
    assert found[0][1] == found[1][1]


def test_weights_are_rows(data: Data) -> None:
    s = np.random.default_rng(0).integers(0, 3, len(data.labels))
    model = daskgd.LogisticRegression(tol=1e-10).fit(data.X, data.labels, s)
    rows = np.repeat(np.arange(len(s)), s)
    twice = daskgd.LogisticRegression(tol=1e-10).fit(data.X[rows], data.labels[rows])
    assert off(coefficients(model), coefficients(twice)) < 1e-8
    like = daskgd.LogisticRegression(tol=1e-10).fit(data.encoded, data.labels, s)
    assert off(coefficients(model), coefficients(like)) < 1e-10
    one, two = (daskgd.Ridge(alpha=a).fit(data.X, data.numbers, w) for a, w in ((1.0, None), (2.0, 2.0)))
    assert off(two.coef_, one.coef_) < 1e-10


def test_float32_stays(data: Data) -> None:
    codes = data.X.features.parts[1].codes
    X = daskgd.OneHot(codes, SIZES, dtype="float32")
    model = daskgd.LogisticRegression().fit(X, data.labels)
    assert model.coef_.dtype == np.float32
    assert model.predict_proba(X).dtype == np.float32
    double = daskgd.LogisticRegression().fit(daskgd.OneHot(codes, SIZES), data.labels)
    assert off(model.coef_, double.coef_) < 1e-3


def test_a_fit_that_was_interrupted_goes_on_to_the_same_bits(data: Data, tmp_path: Any) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(event: object) -> None:
        if isinstance(event, Iterated):
            raise Interrupted

    def fit(**checkpoint: Any) -> daskgd.LogisticRegression:
        solver = daskgd.SubsampledNewton(rows_per_parameter=5, sample_bytes=1)  # which lies in the checkpoint
        return daskgd.LogisticRegression(tol=1e-10, solver=solver).fit(train, **checkpoint)

    with dask.config.set({"daskgd.block-bytes": 4000}):
        train, _ = daskgd.as_dataset(data.X, data.labels).train_test_split(0.3, random_state=1)
    whole = fit()
    assert whole.n_sweeps_ > 2
    with pytest.raises(Interrupted):
        fit(checkpoint=tmp_path / "c", watch=interrupt)
    assert b'"stacked"' in b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    model = fit(checkpoint=tmp_path / "c")
    assert np.array_equal(model.coef_, whole.coef_)
    assert model.n_sweeps_ == whole.n_sweeps_


def test_cross_validation(data: Data) -> None:
    found = cross_val_score(daskgd.LogisticRegression(), data.X, data.labels, cv=3)
    assert np.allclose(found, cross_val_score(daskgd.LogisticRegression(), data.encoded, data.labels, cv=3))


def test_names_are_remembered_and_compared() -> None:
    codes, y = np.array([[0, 0], [1, 1], [1, 0], [0, 1]]), [0.0, 1.0, 2.0, 3.0]
    X = daskgd.OneHot(codes, [["a", "b"], 2], columns=["u", "v"])
    model = daskgd.Ridge().fit(X, y)
    assert model.feature_names_in_.tolist() == ["u_a", "u_b", "v_0", "v_1"]
    assert model.predict(X[:1]).shape == (1,)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(daskgd.OneHot(codes, [["b", "a"], 2], columns=["u", "v"]))
    with pytest.raises(ValueError, match="X has 3 features, but Ridge is expecting 4"):
        model.predict(daskgd.OneHot(codes[:, :1], [3]))
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        model.predict(X[:0])
    model.fit(daskgd.OneHot(codes, [2, 2]), y)
    assert not hasattr(model, "feature_names_in_")


def test_partial_fit(data: Data) -> None:
    one, other = (
        daskgd.SGDClassifier(random_state=0).partial_fit(X, data.labels, classes=[0, 1])
        for X in (data.X, data.encoded)
    )
    assert off(one.coef_, other.coef_) < 1e-10


class Table(NamedTuple):
    """A table with text, of which some is missing, and a category that never occurs."""

    frame: pd.DataFrame
    y: np.ndarray
    s: np.ndarray

    @property
    def X(self) -> daskgd.OneHot:
        codes = self.frame[["u", "v"]].apply(lambda column: column.cat.codes)
        categories = [self.frame[name].cat.categories for name in ("u", "v")]
        return daskgd.OneHot(codes, categories, self.frame[["a"]])

    @property
    def encoded(self) -> Any:
        """What scikit-learn makes of it."""
        categories = [list(self.frame[name].cat.categories) for name in ("u", "v")]
        encoder = OneHotEncoder(categories=categories, handle_unknown="ignore")
        both = encoder.fit_transform(self.frame[["u", "v"]].astype(object).fillna("unknown"))
        return sp.csr_array(sp.hstack([self.frame[["a"]].to_numpy(), both]))

    def rows(self, at: Any) -> Table:
        return Table(self.frame.iloc[at], self.y[at], self.s[at])


@pytest.fixture(scope="module")
def table() -> Table:
    rng = np.random.default_rng(3)
    n = 600
    u = pd.Categorical(rng.choice(["red", "blue", None], n, p=[0.5, 0.4, 0.1]), ["blue", "never", "red"])
    v = pd.Categorical.from_codes(rng.integers(-1, 20, n), [f"w{i}" for i in range(20)])
    frame = pd.DataFrame({"a": rng.standard_normal(n), "u": u, "v": v})
    y = (frame.a + (u == "red") + v.codes / 10 + rng.logistic(size=n) > 2).to_numpy().astype(int)
    return Table(frame, y, rng.integers(0, 3, n).astype(float))


def stored(path: Any, table: Table, weighted: bool = True) -> daskgd.Dataset:
    s = table.s if weighted else None
    daskgd.write_dataset(path, table.X, table.y, s, chunk_bytes=1000, overwrite=True)
    return daskgd.open_dataset(path, block_bytes=1)


@pytest.mark.parametrize("weighted", [False, True])
def test_stored_categories_are_fitted_as_by_scikit_learn(table: Table, weighted: bool, tmp_path: Any) -> None:
    dataset = stored(tmp_path / "d", table, weighted)
    assert dataset.layout.n_blocks > 3
    s = table.s if weighted else None
    for ours, theirs in [
        (daskgd.LogisticRegression(), sklearn.linear_model.LogisticRegression(tol=1e-10, max_iter=1000)),
        (daskgd.Ridge(), sklearn.linear_model.Ridge(solver="sparse_cg", tol=1e-12)),
        (daskgd.PoissonRegressor(), sklearn.linear_model.PoissonRegressor(tol=1e-10, max_iter=1000)),
    ]:
        ours.fit(dataset)
        theirs.fit(table.encoded, table.y, s)
        assert off(ours.coef_, theirs.coef_) < 1e-4
        predicted = np.asarray(ours.predict(dataset))
        assert np.allclose(predicted, theirs.predict(table.encoded), rtol=1e-3)
        assert np.isclose(ours.score(dataset), theirs.score(table.encoded, table.y, s), rtol=1e-4)
        names = ours.feature_names_in_.tolist()
        assert names[:4] == ["a", "u_blue", "u_never", "u_red"]
        assert abs(np.ravel(ours.coef_)[2]) < 1e-8  # of a category that never occurs


def test_stored_weights_are_rows(table: Table, tmp_path: Any) -> None:
    def fit(some: Table, weighted: bool) -> np.ndarray:
        dataset = stored(tmp_path / "d", some, weighted)
        return coefficients(daskgd.LogisticRegression(tol=1e-10).fit(dataset))

    expected = fit(table, True)
    assert off(fit(table.rows(np.repeat(np.arange(600), table.s.astype(int))), False), expected) < 1e-7
    assert off(fit(table.rows(table.s > 0), True), expected) < 1e-7  # a weight of 0 is no row
