"""Every regressor against scikit-learn: objectives by the formulas of its documentation, in float64."""

from __future__ import annotations

import pickle
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from scipy.special import xlogy
from sklearn import linear_model, svm
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning

import daskgd
from tests.tiers import slow_but_every

# -- objectives: residuals r, margins z, coefficients w, total weight W --------------------------


def half_squares(est: Any, z: Any, y: Any) -> Any:
    return (y - z) ** 2 / 2


def half_deviance(est: Any, z: Any, y: Any) -> Any:
    p = {"PoissonRegressor": 1, "GammaRegressor": 2}.get(type(est).__name__) or est.power
    m = np.exp(z)
    if p == 0:
        return half_squares(est, z, y)
    if p == 1:
        return xlogy(y, y / m) - y + m
    if p == 2:
        return y / m - 1 + np.log(m / y)
    return y ** (2 - p) / ((1 - p) * (2 - p)) - y * m ** (1 - p) / (1 - p) + m ** (2 - p) / (2 - p)


def huber(est: Any, z: Any, y: Any) -> Any:
    u = np.abs(y - z) / est.scale_
    h = np.where(u <= est.epsilon, u**2, 2 * est.epsilon * u - est.epsilon**2)
    return est.scale_ + h * est.scale_


def pinball(est: Any, z: Any, y: Any) -> Any:
    return np.maximum(est.quantile * (y - z), (est.quantile - 1) * (y - z))


def insensitive(est: Any, z: Any, y: Any) -> Any:
    beyond = np.maximum(np.abs(y - z) - est.epsilon, 0)
    return beyond**2 if est.loss.startswith("squared") else beyond


def elastic(est: Any, w: Any, W: float) -> float:
    ratio = getattr(est, "l1_ratio", 1.0)
    return est.alpha * (ratio * np.abs(w).sum() + (1 - ratio) / 2 * np.sum(w**2))


PENALTIES: dict[str, Callable[..., float]] = {
    "LinearRegression": lambda est, w, W: 0.0,
    "Ridge": lambda est, w, W: est.alpha / 2 / W * np.sum(w**2),
    "Lasso": elastic,
    "ElasticNet": elastic,
    "PoissonRegressor": lambda est, w, W: est.alpha / 2 * np.sum(w**2),
    "GammaRegressor": lambda est, w, W: est.alpha / 2 * np.sum(w**2),
    "TweedieRegressor": lambda est, w, W: est.alpha / 2 * np.sum(w**2),
    "HuberRegressor": lambda est, w, W: est.alpha / W * np.sum(w**2),
    "QuantileRegressor": elastic,
    "LinearSVR": lambda est, w, W: np.sum(w**2) / (2 * est.C * W),
}


def objective(case: Case, est: Any, X: Any, y: Any, s: Any) -> float:
    X, s = np.asarray(X, dtype=float), np.ones(len(y)) if s is None else s
    z = X @ np.atleast_2d(est.coef_).T + np.ravel(est.intercept_)
    loss = case.loss(est, z.reshape(np.shape(y)), y)
    W = s.sum()
    return float(np.sum(s @ loss) / W + PENALTIES[type(est).__name__](est, est.coef_, W))


# -- cases --------------------------------------------------------------------------------------


def numbers(rng: Any, z: Any) -> Any:
    return 10 * z + 3 + rng.normal(size=len(z))


def with_outliers(rng: Any, z: Any) -> Any:
    return numbers(rng, z) + 30 * (rng.random(len(z)) < 0.1)


def pairs(rng: Any, z: Any) -> Any:
    return np.column_stack([numbers(rng, z), numbers(rng, -z) ** 2 / 50])


def counts(rng: Any, z: Any) -> Any:
    return rng.poisson(np.exp(z + 1)).astype(float)


def amounts(rng: Any, z: Any) -> Any:
    return np.exp(z / 2) * rng.gamma(2.0, size=len(z)) + 1e-3


def claims(rng: Any, z: Any) -> Any:
    return amounts(rng, z) * (rng.random(len(z)) < 0.6)


@dataclass
class Case:
    kind: str
    target: Callable[[Any, Any], Any]
    loss: Callable[..., Any]
    settings: dict[str, Any]
    theirs: dict[str, Any]
    value: float = 1e-8
    coefficients: float = 1e-4
    wide: bool = True
    """Whether there is one minimum where n < p."""

    def pair(self, **settings: Any) -> tuple[Any, Any]:
        ours = getattr(daskgd, self.kind)(**self.settings, **settings)
        home = svm if self.kind == "LinearSVR" else linear_model
        return ours, getattr(home, self.kind)(**self.settings, **self.theirs, **settings)


TIGHT = {"tol": 1e-14, "max_iter": 200_000}
GLM = {"solver": "newton-cholesky", "tol": 1e-12, "max_iter": 1000}
LBFGS = {"tol": 1e-12, "max_iter": 20_000}
LIBLINEAR = {"intercept_scaling": 100, "tol": 1e-12, "max_iter": 20_000}
SQUARED = "squared_epsilon_insensitive"
CASES = {
    "least squares": Case("LinearRegression", numbers, half_squares, {}, {}, wide=False),
    "least squares, positive": Case(
        "LinearRegression", numbers, half_squares, {"positive": True}, {}, wide=False
    ),
    "ridge": Case("Ridge", numbers, half_squares, {"alpha": 3.0}, {"solver": "svd"}),
    "ridge, positive": Case("Ridge", numbers, half_squares, {"alpha": 3.0, "positive": True}, TIGHT),
    "lasso": Case("Lasso", numbers, half_squares, {"alpha": 0.3}, TIGHT),
    "lasso, positive": Case("Lasso", numbers, half_squares, {"alpha": 0.3, "positive": True}, TIGHT),
    "lasso, two targets": Case("Lasso", pairs, half_squares, {"alpha": 0.3}, TIGHT),
    "elastic net": Case("ElasticNet", numbers, half_squares, {"alpha": 0.3, "l1_ratio": 0.7}, TIGHT),
    "elastic net, positive": Case(
        "ElasticNet", numbers, half_squares, {"alpha": 0.1, "positive": True}, TIGHT
    ),
    "elastic net, two targets": Case("ElasticNet", pairs, half_squares, {"alpha": 0.3}, TIGHT),
    "poisson": Case("PoissonRegressor", counts, half_deviance, {"alpha": 1e-2}, GLM),
    "poisson, plain": Case("PoissonRegressor", counts, half_deviance, {"alpha": 0}, GLM, wide=False),
    "gamma": Case("GammaRegressor", amounts, half_deviance, {"alpha": 1e-2}, GLM),
    "tweedie, 0": Case("TweedieRegressor", numbers, half_deviance, {"power": 0, "alpha": 0.1}, GLM),
    "tweedie, 1.5": Case("TweedieRegressor", claims, half_deviance, {"power": 1.5, "alpha": 1e-2}, GLM),
    "tweedie, 2.5": Case("TweedieRegressor", amounts, half_deviance, {"power": 2.5, "alpha": 0.1}, GLM),
    "huber": Case("HuberRegressor", with_outliers, huber, {"alpha": 0.1}, LBFGS, wide=False),
    "huber, 1.1": Case(
        "HuberRegressor", with_outliers, huber, {"epsilon": 1.1, "alpha": 1.0}, LBFGS, wide=False
    ),
    "quantile": Case("QuantileRegressor", with_outliers, pinball, {"alpha": 0.05}, {}, 1e-8, 1e-5),
    "quantile, 0.9": Case(
        "QuantileRegressor", with_outliers, pinball, {"alpha": 0.02, "quantile": 0.9}, {}, 1e-8, 1e-5
    ),
    "quantile, plain": Case(
        "QuantileRegressor", with_outliers, pinball, {"alpha": 0}, {}, 1e-8, 1e-5, wide=False
    ),
    "svr": Case("LinearSVR", with_outliers, insensitive, {"epsilon": 0.5, "C": 0.1}, LIBLINEAR, 1e-8, 1e-2),
    "svr, squared": Case(
        "LinearSVR",
        with_outliers,
        insensitive,
        {"loss": SQUARED, "C": 0.1},
        {**LIBLINEAR, "dual": False},
        1e-8,
        1e-2,
    ),
}


def data(kind: str, case: Case) -> tuple[Any, Any, Any, dict[str, Any]]:
    """X, y, weights or None, and settings."""
    rng = np.random.default_rng(7)
    n, p = (40, 60) if kind == "n < p" else (300, 6)
    X = rng.normal(size=(n, p))
    X[:, 1] += X[:, 0]
    if kind == "diabetes":
        X = load_diabetes().data * 20
    z = X[:, :3] @ [0.5, -0.3, 0.1]
    y = case.target(rng, z)
    if kind == "scales":
        X = X * np.logspace(-3, 4, p) + [0, 1, 0, 100, 0, 1e5]
    if kind == "float32":
        X = X.astype(np.float32)
    weights = rng.integers(0, 4, n).astype(float) if kind == "weights" else None
    return X, y, weights, {"fit_intercept": False} if kind == "no intercept" else {}


KINDS = ["plain", "weights", "float32", "scales", "n < p", "no intercept", "diabetes"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_answers_are_scikit_learns(name, kind):
    case = CASES[name]
    if kind == "n < p" and not case.wide:
        pytest.skip("no single minimum")
    X, y, s, settings = data(kind, case)
    ours, theirs = case.pair(**settings)
    start = time.perf_counter()
    ours.fit(X, y, s)
    assert time.perf_counter() - start < 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whoever is not converged is judged by the objective
        theirs.fit(np.asarray(X, dtype=float), y, s)
    f, reference = (objective(case, est, X, y, s) for est in (ours, theirs))
    assert ours.outcome_ == "converged"
    assert f <= reference * (1 + case.value)
    assert np.shape(ours.coef_) == np.shape(theirs.coef_)
    assert np.shape(ours.intercept_) == np.shape(np.squeeze(theirs.intercept_))
    if reference > f * (1 + case.value):
        return  # theirs is not converged, or penalises its intercept
    spread = np.asarray(X, dtype=float).std(axis=0)
    a, b = ours.coef_ * spread, theirs.coef_ * spread
    assert np.abs(a - b).max() <= case.coefficients * np.abs(b).max() + 1e-9
    if case.kind == "HuberRegressor":
        assert ours.scale_ == pytest.approx(theirs.scale_, rel=1e-4)


LINKS = [
    (link, power, fit_intercept)
    for link in ("auto", "identity", "log")
    for power in (-1.5, 0, 0.5, 1, 1.5, 2, 3)
    for fit_intercept in (True, False)
    if fit_intercept or power == 0 or not (link == "identity" or (link == "auto" and power < 0))
]


@pytest.mark.parametrize(("link", "power", "fit_intercept"), LINKS)
def test_every_power_and_link_is_scikit_learns(link, power, fit_intercept):
    rng = np.random.default_rng(0)
    X, s = np.abs(rng.normal(size=(500, 3))), rng.integers(0, 4, 500)
    y = rng.gamma(5, (1 + X @ [1, 0.5, 2]) / 5)
    if 1 <= power < 2:
        y[::10] = 0.0
    shared = {"link": link, "power": power, "alpha": 0.01, "fit_intercept": fit_intercept}
    ours = daskgd.TweedieRegressor(**shared, tol=1e-12).fit(X, y, s)
    theirs = linear_model.TweedieRegressor(**shared, solver="newton-cholesky", tol=1e-10, max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pointwise curvature below 0, for which it takes another solver
        theirs.fit(X, y, s)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6, atol=1e-7)
    assert ours.intercept_ == pytest.approx(theirs.intercept_, rel=1e-6)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-6)
    assert ours.score(X, y, s) == pytest.approx(theirs.score(X, y, s), rel=1e-7)


@pytest.mark.parametrize("power", [1, 1.5])
def test_means_that_would_not_be_positive_are_warned_of(power):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 2))
    y = rng.poisson(np.maximum(1 + X @ [1.0, 0.5], 0)).astype(float)
    est = daskgd.TweedieRegressor(link="identity", power=power, alpha=0)
    with pytest.warns(ConvergenceWarning, match="every mean has to be positive"):
        est.fit(X, y)
    assert est.outcome_ == "stalled"


# -- what all of them do ------------------------------------------------------------------------

ONCE = ["least squares", "lasso", "elastic net", "poisson", "gamma", "huber", "quantile", "svr"]
FAMILY = ["poisson", "gamma", "tweedie, 0", "tweedie, 1.5", "tweedie, 2.5"]


@pytest.mark.parametrize("name", ONCE)
def test_any_input_gives_the_same_model(name, tmp_path):
    case = CASES[name]
    X, y, s, _ = data("weights", case)
    est, _ = case.pair()
    reference = clone(est).fit(X, y, s)
    daskgd.write_dataset(tmp_path / "d.zarr", X, y, s, chunk_bytes=2000)
    stored = daskgd.open_dataset(tmp_path / "d.zarr", block_bytes=2000)
    frame = pd.DataFrame(X, columns=list("abcdef"))
    series = [dd.from_pandas(pd.Series(v), npartitions=3) for v in (y, s)]
    for inputs in (
        (stored,),
        (da.from_array(X, chunks=(77, 4)), da.from_array(y, chunks=50), da.from_array(s, chunks=300)),
        (
            dd.from_pandas(frame, npartitions=3),
            *series,
        ),
        (X.tolist(), y.tolist(), s.tolist()),
    ):
        again = clone(est).fit(*inputs)
        np.testing.assert_allclose(again.coef_, reference.coef_, rtol=1e-5, atol=1e-8)
        assert again.score(*inputs) == pytest.approx(reference.score(X, y, s), rel=1e-6)
    lazy = reference.predict(da.from_array(X, chunks=(77, 4)))
    assert isinstance(lazy, da.Array)
    np.testing.assert_allclose(lazy, reference.predict(X), rtol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_clone_pickle_warm_start_and_whole_numbers(name):
    case = CASES[name]
    X, y, _, _ = data("plain", case)
    est, theirs = case.pair()
    assert set(theirs.get_params()) <= set(est.get_params())
    est = pickle.loads(pickle.dumps(clone(est).set_params(warm_start=True).fit(X, y)))
    before = np.array(est.coef_)
    np.testing.assert_allclose(est.fit(X, y).coef_, before, rtol=1e-4, atol=1e-7)
    whole = np.round(10 * X).astype(np.int16)
    one, other = clone(est).fit(whole, y), clone(est).fit(whole.astype(float), y)
    np.testing.assert_allclose(one.coef_, other.coef_, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", [*FAMILY, "huber", "svr, squared"])
def test_scores_are_scikit_learns(name):
    case = CASES[name]
    X, y, s, _ = data("weights", case)
    ours, theirs = case.pair()
    ours.fit(X, y, s)
    theirs.fit(X, y, s)
    theirs.coef_, theirs.intercept_ = ours.coef_, ours.intercept_
    for weights in (s, None):
        assert ours.score(X, y, weights) == pytest.approx(theirs.score(X, y, weights), rel=1e-9)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-9)
    assert ours.score(X.astype(np.float32), y) == pytest.approx(ours.score(X, y), rel=1e-5)


def test_the_score_of_a_constant_target():
    X = np.arange(10.0)[:, None]
    assert daskgd.PoissonRegressor().fit(X, np.full(10, 3.0)).score(X, np.full(10, 3.0)) == 1.0
    assert daskgd.PoissonRegressor().fit(X, np.arange(10.0)).score(X, np.full(10, 3.0)) == 0.0


@pytest.mark.parametrize("name", ["LinearRegression", "Ridge", "Lasso", "ElasticNet"])
@pytest.mark.parametrize("intercept", [True, False])
def test_shapes_are_scikit_learns(name, intercept):
    for columns in (1, 2):
        y = np.column_stack([Y9, Y9[::-1]])[:, :columns]
        ours, theirs = (
            getattr(module, name)(fit_intercept=intercept).fit(X9, y) for module in (daskgd, linear_model)
        )
        for shape in (lambda est: est.coef_, lambda est: est.intercept_, lambda est: est.predict(X9)):
            assert np.shape(shape(ours)) == np.shape(shape(theirs))


# -- offsets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILY)
def test_an_offset_is_a_feature_whose_coefficient_is_one(name):
    case = CASES[name]
    X, y, s, _ = data("weights", case)
    offset = 2 + X[:, 4] + 0.1 * X[:, 0] ** 2
    est, _ = case.pair()
    est.fit(X, y, s, offset=offset)
    assert est.outcome_ == "converged"
    z = X @ est.coef_ + est.intercept_ + offset

    # The gradient vanishes: by differences of the objective along every coefficient and the intercept.
    def f(j, t):
        w = est.coef_ + t * (np.arange(6) == j)
        rows = case.loss(est, z + t * (X[:, j] if j < 6 else 1), y)
        return s @ rows / s.sum() + est.alpha / 2 * np.sum(w**2)

    slopes = [(f(j, 1e-5) - f(j, -1e-5)) / 2e-5 for j in range(7)]
    np.testing.assert_allclose(slopes, 0, atol=1e-6)
    log = name != "tweedie, 0"
    plain, shifted = est.predict(X), est.predict(X, offset=offset)
    np.testing.assert_allclose(shifted, plain * np.exp(offset) if log else plain + offset, rtol=1e-12)

    # The score is that of these predictions, against the mean target at every row.
    mean = s @ y / s.sum()
    miss, total = (s @ case.loss(est, at, y) for at in (z, np.full(len(y), np.log(mean) if log else mean)))
    assert est.score(X, y, s, offset=offset) == pytest.approx(1 - miss / total, rel=1e-9)


def test_offsets_of_any_kind_align(tmp_path):
    X, y, s, _ = data("weights", CASES["poisson"])
    offset = X[:, 4]
    est = daskgd.PoissonRegressor(alpha=1e-2)
    reference = clone(est).fit(X, y, s, offset)
    daskgd.write_dataset(tmp_path / "d.zarr", X, y, s, chunk_bytes=2000)
    frame = pd.DataFrame(X, columns=list("abcdef"))
    series = [dd.from_pandas(pd.Series(v), npartitions=3) for v in (y, s, offset)]
    inputs = {
        "dataset, numpy": (daskgd.open_dataset(tmp_path / "d.zarr", block_bytes=2000), None, None, offset),
        "path, dask": (str(tmp_path / "d.zarr"), None, None, da.from_array(offset, chunks=33)),
        "dask": tuple(da.from_array(v, chunks=77) for v in (X, y, s, offset)),
        "frames": (dd.from_pandas(frame, npartitions=3), *series),
        "pandas": (frame, pd.Series(y), pd.Series(s), pd.Series(offset)),
    }
    for X_, y_, s_, offset_ in inputs.values():
        again = clone(est).fit(X_, y_, s_, offset=offset_)
        np.testing.assert_allclose(again.coef_, reference.coef_, rtol=1e-6)
        got = again.predict(X_, offset=offset_)
        np.testing.assert_allclose(np.asarray(got), reference.predict(X, offset=offset), rtol=1e-5)


OFFSETS = {
    "memory": lambda X, y, s, o: (X, y, s, {"offset": o}),
    "dask": lambda X, y, s, o: (
        *(da.from_array(v, chunks=50) for v in (X, y, s)),
        {"offset": da.from_array(o)},
    ),
    "blocks": lambda X, y, s, o: ([(X[:99], y[:99], s[:99], o[:99]), (X[99:], y[99:], s[99:], o[99:])], {}),
}


@pytest.mark.parametrize(
    ("kind", "written"),
    slow_but_every(2, [daskgd.PoissonRegressor, daskgd.TweedieRegressor], list(OFFSETS)),
)
def test_an_offset_that_is_stored_is_that_of_its_rows(kind, written, tmp_path):
    """Of splits too; the offset is subtracted for the loss of the second, and put beside y for the first."""
    X, y, s, _ = data("weights", CASES["poisson"])
    offset = X[:, 4]
    *arrays, options = OFFSETS[written](X, y, s, offset)
    daskgd.write_dataset(tmp_path / "d.zarr", *arrays, **options, chunk_bytes=2000)
    dataset = daskgd.open_dataset(tmp_path / "d.zarr", block_bytes=2000)
    dataset.verify()
    assert np.array_equal(dataset.offset.compute(), offset)
    assert "with an offset" in repr(dataset)
    assert dataset.info()["offset"] == "float64"
    est = kind(alpha=1e-2)
    train, test = dataset.train_test_split(0.3, random_state=1)
    daskgd.write_dataset(tmp_path / "train.zarr", train)
    for rows in (dataset, train, test, daskgd.open_dataset(tmp_path / "train.zarr")):
        parts = [np.asarray(part) for part in (rows.X, rows.y, rows.sample_weight, rows.offset)]
        expected = clone(est).fit(*parts)
        found = clone(est).fit(rows)
        np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-6)
        plain = clone(est).fit(*parts[:3])
        assert not np.allclose(found.coef_, plain.coef_, rtol=1e-3)
        assert found.score(rows) == pytest.approx(found.score(*parts), rel=1e-9)
        np.testing.assert_allclose(
            np.asarray(found.predict(rows)), found.predict(parts[0], offset=parts[3]), rtol=1e-9
        )
        exact = clone(est).set_params(alpha=0).fit(rows)
        errors = [exact.summary(*given).standard_errors for given in ((rows,), parts)]
        np.testing.assert_allclose(*errors, rtol=1e-6)
    by_path = clone(est).fit(str(tmp_path / "d.zarr"))
    np.testing.assert_allclose(by_path.coef_, clone(est).fit(X, y, s, offset).coef_, rtol=1e-6)
    given = clone(est).fit(dataset, offset=np.zeros(len(y)))
    np.testing.assert_allclose(given.coef_, clone(est).fit(X, y, s).coef_, rtol=1e-5, atol=1e-7)
    est.plan(dataset)


def test_an_offset_is_used_or_refused(tmp_path):
    X, y, s, _ = data("weights", CASES["poisson"])
    daskgd.write_dataset(tmp_path / "d.zarr", X, y, s, offset=X[:, 0])
    dataset = daskgd.open_dataset(tmp_path / "d.zarr")
    poisson = daskgd.PoissonRegressor()
    asks = (daskgd.Ridge().fit, daskgd.Ridge().plan, daskgd.LogisticRegression().fit, poisson.partial_fit)
    for ask in (*asks, daskgd.Ridge().fit(X, y).score, lambda rows: daskgd.together([poisson], rows)):
        with pytest.raises(ValueError, match=r"rows without an offset, .*dataset\.replace\(offset=None\)"):
            ask(dataset)
    without = dataset.replace(offset=None)
    assert without.offset is None
    np.testing.assert_allclose(
        daskgd.Ridge().fit(without).coef_, daskgd.Ridge().fit(X, y, s).coef_, rtol=1e-6
    )
    assert without.identity() != dataset.identity()
    for bad, words in ((np.full(len(y), np.inf), "got inf at row 0"), (X, "1 dimension"), (y[:3], "3 rows")):
        with pytest.raises(ValueError, match=f"offset.*{words}"):
            daskgd.write_dataset(tmp_path / "e.zarr", X, y, offset=bad)


def test_large_offsets_are_no_harder():
    X, y, _, _ = data("plain", CASES["poisson"])
    reference = daskgd.PoissonRegressor(alpha=0).fit(X, y, offset=X[:, 4])
    for shift in (-600.0, 40.0, 600.0):
        est = daskgd.PoissonRegressor(alpha=0).fit(X, y, offset=X[:, 4] + shift)
        np.testing.assert_allclose(est.coef_, reference.coef_, rtol=1e-6)
        assert est.intercept_ + shift == pytest.approx(reference.intercept_, abs=1e-6)


# -- what is refused ----------------------------------------------------------------------------

X9, Y9 = np.arange(18.0).reshape(9, 2) % 5, np.arange(9.0) + 1
REFUSED = [
    (daskgd.Lasso, {"precompute": np.eye(3)}, "precompute to be True or False"),
    (daskgd.Lasso, {"selection": "greedy"}, "selection to be 'cyclic' or 'random'"),
    (daskgd.Lasso, {"alpha": -1}, "alpha"),
    (daskgd.Lasso, {"solver": "lbfgs"}, "'proximal_newton'"),
    (daskgd.ElasticNet, {"l1_ratio": 1.5}, "l1_ratio"),
    (daskgd.LinearRegression, {"positive": "yes"}, "positive"),
    (daskgd.PoissonRegressor, {"solver": "newton-lsmr"}, "'subsampled_newton'"),
    (daskgd.PoissonRegressor, {"solver": "gram"}, r"one for Poisson\(\).* got Gram\(\)"),
    (daskgd.TweedieRegressor, {"power": np.inf}, "power to be a finite number"),
    (daskgd.TweedieRegressor, {"power": 1, "link": "identity", "fit_intercept": False}, "use link='log'"),
    (daskgd.TweedieRegressor, {"link": "logit"}, "link"),
    (daskgd.HuberRegressor, {"epsilon": 0.5}, "epsilon"),
    (daskgd.QuantileRegressor, {"quantile": 1.0}, "quantile"),
    (daskgd.QuantileRegressor, {"solver": "interior-point"}, "'proximal_newton'"),
    (daskgd.QuantileRegressor, {"solver_options": {"presolve": False}}, "solver_options"),
    (daskgd.LinearSVR, {"loss": "huber"}, "loss"),
    (daskgd.LinearSVR, {"dual": None}, "dual"),
    (daskgd.LinearSVR, {"intercept_scaling": -2.0}, "intercept_scaling"),
    (daskgd.LinearSVR, {"C": 0}, "C"),
]


@pytest.mark.parametrize(("kind", "settings", "message"), REFUSED)
def test_bad_parameters_are_named(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(**settings).fit(X9, Y9)


def test_targets_that_a_loss_cannot_have_are_named_with_their_row():
    for kind, bad in ((daskgd.PoissonRegressor, -2.0), (daskgd.GammaRegressor, 0.0)):
        y = Y9.copy()
        est = kind().fit(X9, y)
        y[5] = bad
        for again in (lambda est, y: est.fit(X9, y), lambda est, y: est.score(X9, y)):
            with pytest.raises(
                ValueError, match=rf"values?.* of y .* expected targets .* got {bad} in row 5"
            ):
                again(est, y)
    daskgd.PoissonRegressor().fit(X9, Y9 - 1)


def test_summaries_of_other_rows_than_the_fits_are_refused():
    est = daskgd.LinearRegression().fit(X9, Y9)
    for rows in ((X9[1:], Y9[1:]), (X9, Y9, np.full(9, 2.0))):
        with pytest.raises(ValueError, match=r"expected the rows of the fit, total weight 9, got (8|18)"):
            est.summary(*rows)
    twice = est.fit(X9, Y9, np.arange(9.0)).summary(X9.repeat(range(9), 0), Y9.repeat(range(9)))
    assert twice.weight == 36


def test_bad_offsets_and_targets_are_named():
    est = daskgd.PoissonRegressor()
    with pytest.raises(ValueError, match=r"offset: expected 9 rows.* got 3"):
        est.fit(X9, Y9, offset=np.ones(3))
    with pytest.raises(ValueError, match=r"offset: expected shape \(n,\)"):
        est.fit(X9, Y9, offset=np.ones((9, 2)))
    train, _ = daskgd.as_dataset(X9, Y9).train_test_split(0.3)
    with pytest.raises(ValueError, match="offset: expected None beside a split"):
        est.fit(train, offset=np.ones(9))
    with pytest.raises(ValueError, match=r"offset: expected shape \(9,\)"):
        est.fit(X9, Y9).predict(X9, offset=np.ones(4))
    bad = np.where(np.arange(9) == 7, np.nan, 0.0)
    for given in (bad, da.from_array(bad, chunks=3)):
        for ask in (est.fit, est.score):
            with pytest.raises(ValueError, match=r"Input offset contains NaN.* got nan in row 7 \("):
                ask(X9, Y9, offset=given)
        with pytest.raises(ValueError, match="Input y - offset contains NaN"):
            daskgd.TweedieRegressor().fit(X9, Y9, offset=given)
    with pytest.raises(ValueError, match=r"Input y contains NaN.* got nan in row 7 \("):
        est.fit(X9, Y9 + bad, offset=np.zeros(9))
    for kind in (daskgd.PoissonRegressor, daskgd.HuberRegressor, daskgd.QuantileRegressor, daskgd.LinearSVR):
        with pytest.raises(ValueError, match=rf"one target per row for {kind.__name__}"):
            kind().fit(X9, np.column_stack([Y9, Y9]))
        with pytest.warns(DataConversionWarning):
            assert kind().fit(X9, Y9[:, None]).predict(X9).shape == (9,)
