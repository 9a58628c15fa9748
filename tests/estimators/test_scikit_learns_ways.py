"""What users of scikit-learn's estimators take for granted: parameters, attributes, dtypes, exactness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import issparse
from sklearn import linear_model, neural_network, svm
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, UndefinedMetricWarning
from sklearn.model_selection import GridSearchCV, LeaveOneOut

import daskgd
from daskgd import losses, models, penalties
from daskgd.problems import Problem
from daskgd.queries import Gradient, on
from daskgd.rows.features import as_features
from daskgd.rows.tiles import Rows
from daskgd.solvers import LBFGS
from daskgd.testing import Example, run
from daskgd.training.loop import Stop
from tests.tiers import slow_but
from tests.training.test_checkpoint import dying, killed_and_resumed, same

RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 4)) + 1
Y = X @ [1.0, -2.0, 0.0, 0.5] + 0.3 * RNG.standard_normal(300)
LABELS = (X[:, 0] + RNG.logistic(size=300) > 1).astype(int)
COUNTS = RNG.poisson(np.exp(0.3 * X[:, 0])) + 1.0

SHARED = {
    name: (getattr(module, name), getattr(daskgd, name))
    for module in (linear_model, svm, neural_network)
    for name in module.__all__
    if hasattr(daskgd, name)
}


def targets(name: str) -> np.ndarray:
    if name in ("LogisticRegression", "LinearSVC", "Perceptron", "SGDClassifier", "MLPClassifier"):
        return LABELS
    return COUNTS if name in ("PoissonRegressor", "GammaRegressor", "TweedieRegressor") else Y


# -- parameters ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", SHARED)
def test_what_scikit_learn_has_for_parameters_is_taken(name: str) -> None:
    theirs, ours = SHARED[name]
    fitted = ours(**theirs().get_params()).fit(X, targets(name))
    assert np.isfinite(fitted.predict(X)).all()
    known = theirs().get_params()
    mine = {key: value for key, value in fitted.get_params().items() if key in known}
    theirs(**mine).fit(X, targets(name))


@pytest.mark.parametrize(
    ("estimator", "solvers"),
    [
        (daskgd.LogisticRegression(), ["newton-cg", "newton-cholesky", "sag", "saga"]),
        (daskgd.Ridge(), ["cholesky", "lsqr", "sag", "saga", "sparse_cg", "svd"]),
        (daskgd.QuantileRegressor(), ["highs", "highs-ds", "highs-ipm"]),
        (daskgd.PoissonRegressor(), ["newton-cholesky"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_names_of_ways_to_the_same_minimum(estimator: Any, solvers: list[str]) -> None:
    y = targets(type(estimator).__name__)
    auto = clone(estimator).fit(X, y)
    for solver in solvers:
        named = clone(estimator).set_params(solver=solver).fit(X, y)
        np.testing.assert_array_equal(named.coef_, auto.coef_)
        assert solver in str(named.plan(X, y))


def test_scikit_learns_solver_for_coefficients_that_are_not_negative() -> None:
    est = daskgd.Ridge(solver="lbfgs", positive=True).fit(X, Y)
    theirs = linear_model.Ridge(solver="lbfgs", positive=True, tol=1e-10).fit(X, Y)
    np.testing.assert_allclose(est.coef_, theirs.coef_, atol=1e-5)


@pytest.mark.parametrize("estimator", [daskgd.Lasso(alpha=0.1), daskgd.ElasticNet(alpha=0.1)])
def test_input_that_is_not_to_be_checked_is_the_same(estimator: Any) -> None:
    once, again = clone(estimator).fit(X, Y), clone(estimator).fit(X, Y, None, False)
    np.testing.assert_array_equal(once.coef_, again.coef_)
    with pytest.raises(ValueError, match="NaN"):
        estimator.fit(np.full_like(X, np.nan), Y, check_input=False)


@pytest.mark.parametrize("name", ["LogisticRegression", "LinearSVC", "LinearSVR"])
def test_what_is_of_liblinear_alone_changes_nothing(name: str) -> None:
    y, est = targets(name), SHARED[name][1]()
    plain = clone(est).fit(X, y)
    named = est.set_params(dual=True, intercept_scaling=3.0).fit(X, y)
    np.testing.assert_array_equal(named.coef_, plain.coef_)
    there = named.to_sklearn()
    if name == "LogisticRegression":
        np.testing.assert_allclose(clone(there).fit(X, y).coef_, named.coef_, atol=1e-3)
    else:
        assert there.intercept_scaling == 100


def test_a_solver_that_penalises_the_intercept_is_refused() -> None:
    with pytest.raises(ValueError, match="liblinear', which penalises it: use 'auto'"):
        daskgd.LogisticRegression(solver="liblinear").fit(X, LABELS)


def test_no_iterations_and_as_many_as_it_takes() -> None:
    with pytest.warns(ConvergenceWarning, match="max_iter=0"):
        none = daskgd.LogisticRegression(max_iter=0).fit(X, LABELS)
    assert not none.coef_.any()
    assert none.n_iter_.tolist() == [0]
    np.testing.assert_allclose(none.predict_proba(X), 0.5)
    many = daskgd.Ridge(max_iter=None, solver="newton").fit(X, Y)
    np.testing.assert_allclose(many.coef_, daskgd.Ridge().fit(X, Y).coef_, rtol=1e-6)


@pytest.mark.parametrize("kind", ["numpy", "dask", "stored"])
def test_a_number_is_the_weight_of_every_row(kind: str, tmp_path: Path) -> None:
    data: Any = (X, Y)
    if kind == "dask":
        data = (da.from_array(X, chunks=(70, 4)), da.from_array(Y, chunks=70))
    elif kind == "stored":
        daskgd.write_dataset(tmp_path / "d.zarr", X, Y, chunk_bytes=3000)
        data = (tmp_path / "d.zarr", None)
    by_number = daskgd.Ridge(alpha=20.0).fit(*data, sample_weight=3)
    by_rows = daskgd.Ridge(alpha=20.0).fit(X, Y, sample_weight=np.full(300, 3.0))
    np.testing.assert_allclose(by_number.coef_, by_rows.coef_, rtol=1e-12)
    assert np.abs(by_number.coef_ - daskgd.Ridge(alpha=20.0).fit(X, Y).coef_).max() > 1e-4
    with pytest.raises(ValueError, match="expected an array"):
        daskgd.Ridge().fit(*data, sample_weight="3")


def test_a_warm_start_from_coefficients_set_by_hand() -> None:
    est = daskgd.LogisticRegression(warm_start=True, solver="lbfgs")
    est.coef_ = np.zeros((1, 4))
    np.testing.assert_allclose(
        est.fit(X, LABELS).coef_, daskgd.LogisticRegression().fit(X, LABELS).coef_, 1e-4
    )
    huber = daskgd.HuberRegressor(warm_start=True)
    huber.coef_ = np.zeros(4)
    assert huber.fit(X, Y).outcome_ == "converged"


@pytest.mark.parametrize("name", ["HuberRegressor", "PoissonRegressor", "LogisticRegression", "Lasso"])
def test_a_warm_start_at_the_minimum_takes_no_iteration(name: str) -> None:
    est = SHARED[name][1](warm_start=True).fit(X, targets(name))
    before, n_iter = est.coef_, np.max(est.n_iter_)
    again = est.fit(X, targets(name))
    np.testing.assert_array_equal(again.coef_, before)
    assert (n_iter, np.max(again.n_iter_)) == (1, 0)
    assert np.max(est.fit(X + X**2, targets(name)).n_iter_) == 1


# -- attributes ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", [n for n in SHARED if not n.startswith("MLP")])
def test_dtypes_are_scikit_learns(name: str) -> None:
    theirs, ours = SHARED[name]
    X32, y = X.astype("f4"), targets(name)
    y = y if y is LABELS else y.astype("f4")
    a, b = ours().fit(X32, y), theirs().fit(X32, y)
    assert a.coef_.dtype == b.coef_.dtype
    for rows in (X32, X):
        assert a.predict(rows).dtype == b.predict(rows).dtype
        lazy = a.predict(da.from_array(rows, chunks=(100, 4)))
        assert lazy.dtype == lazy.compute().dtype == a.predict(rows).dtype
    assert np.shape(a.intercept_) == np.shape(b.intercept_) or name == "LinearSVR"
    assert isinstance(a.intercept_, np.ndarray | np.generic)
    assert ours().fit(X, targets(name)).coef_.dtype == np.float64


def test_finer_targets_keep_their_digits() -> None:
    """scikit-learn rounds them to float32."""
    far = Y + 1e9
    est = daskgd.LinearRegression().fit(X.astype("f4"), far)
    assert est.predict(X.astype("f4")).dtype == np.float64
    assert np.abs(est.predict(X.astype("f4")) - far).max() < 2


def test_coefficients_as_a_sparse_matrix() -> None:
    est = daskgd.LogisticRegression(C=0.05, l1_ratio=1.0).fit(X, LABELS)
    before, proba = est.coef_.copy(), est.predict_proba(X)
    assert issparse(est.sparsify().coef_)
    np.testing.assert_array_equal(est.predict_proba(X), proba)
    np.testing.assert_array_equal(est.densify().coef_, before)
    lasso = daskgd.Lasso(alpha=0.5).fit(X, Y)
    np.testing.assert_array_equal(lasso.sparse_coef_.toarray()[0], lasso.coef_)


def test_attributes_of_some() -> None:
    assert daskgd.Ridge().fit(X, Y).solver_ == "gram"
    two = np.stack([Y, -Y], axis=1)
    assert np.shape(daskgd.Lasso(alpha=0.1).fit(X, two).dual_gap_) == (2,)
    assert 0 <= daskgd.Lasso(alpha=0.1).fit(X, Y).dual_gap_ < 1e-6
    outlying = Y.copy()
    outlying[[3, 77]] += 1000
    huber = daskgd.HuberRegressor().fit(X, outlying)
    beyond = np.abs(outlying - huber.predict(X)) > huber.epsilon * huber.scale_
    np.testing.assert_array_equal(huber.outliers_, beyond)
    assert huber.outliers_[[3, 77]].all()
    huber.fit(da.from_array(X, chunks=(100, 4)), da.from_array(Y, chunks=100))
    assert not hasattr(huber, "outliers_")


def test_the_score_of_one_row_is_not_defined() -> None:
    est = daskgd.Ridge().fit(X, Y)
    for model in (est, daskgd.PoissonRegressor().fit(X, COUNTS)):
        with pytest.warns(UndefinedMetricWarning, match="less than two samples"):
            assert np.isnan(model.score(X[:1], COUNTS[:1]))
    assert daskgd.LogisticRegression().fit(X, LABELS).score(X[:1], LABELS[:1]) in (0.0, 1.0)
    rows, y = X[:12], Y[:12]
    picks = []
    for ridge in (daskgd.Ridge(), linear_model.Ridge()):
        search = GridSearchCV(
            ridge, {"alpha": [1e3, 1e-3]}, cv=LeaveOneOut(), scoring="neg_mean_squared_error"
        )
        picks.append(search.fit(rows, y).best_params_)
    assert picks[0] == picks[1]


# -- labels and columns --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "y",
    [
        ["a", "b", np.nan, "a"],
        np.array(["a", "b", None, "a"], object),
        pd.Series(["a", "b", None, "a"]),
        pd.Series(["a", "b", pd.NA, "a"], dtype="string"),
        ["a", "b", 3, "a"],
    ],
    ids=["list", "objects", "series", "strings", "number"],
)
def test_text_among_which_something_else_stands_is_named_by_its_row(y: Any) -> None:
    """numpy would make a class "nan" of it."""
    with pytest.raises(ValueError, match="in row 2"):
        daskgd.LogisticRegression().fit(X[:4], y)


def test_nullable_and_bool_columns_of_a_dask_frame() -> None:
    n = 60
    frame = pd.DataFrame(
        {
            "a": np.arange(n, dtype=float),
            "b": np.arange(n) % 3 == 0,
            "c": pd.array(np.arange(n) % 5, dtype="Int64"),
            "d": pd.array(np.arange(n) % 2 == 0, dtype="boolean"),
        }
    )
    y = pd.Series(pd.array(np.arange(n) * 2 + np.arange(n) % 5, dtype="Int64"))
    ours = daskgd.LinearRegression().fit(
        dd.from_pandas(frame, npartitions=3), dd.from_pandas(y, npartitions=3)
    )
    np.testing.assert_allclose(ours.coef_, daskgd.LinearRegression().fit(frame, y).coef_, atol=1e-9)
    np.testing.assert_allclose(ours.coef_, [2, 0, 1, 0], atol=1e-9)
    frame.loc[7, "c"] = pd.NA
    with pytest.raises(ValueError, match="row 7, column 2"):
        daskgd.LinearRegression().fit(dd.from_pandas(frame, npartitions=3), dd.from_pandas(y, npartitions=3))


# -- Huber's scale --------------------------------------------------------------------------------


def huber_objective(model: Any, rows: np.ndarray, y: np.ndarray) -> float:
    u = np.abs(y - model.predict(rows)) / model.scale_
    inside = np.where(u <= model.epsilon, u**2, 2 * model.epsilon * u - model.epsilon**2)
    return float((model.scale_ * (1 + inside)).sum() + model.alpha * model.coef_ @ model.coef_)


@pytest.mark.parametrize("epsilon", [1.0001, 1.001, 1.01, 1.05, 1.1, 1.35])
@pytest.mark.parametrize("seed", slow_but(range(20), 0, 1))
def test_hubers_minimum_where_the_scale_is_small(epsilon: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, p = [(200, 2), (100, 20), (500, 5), (60, 4), (300, 10)][seed % 5]
    rows = rng.standard_normal((n, p))
    y = rows @ rng.uniform(0, 100, p) + rng.choice([0.1, 1.0, 10.0]) * rng.standard_normal(n)
    settings = {"epsilon": epsilon, "alpha": 1e-4}
    theirs = linear_model.HuberRegressor(**settings, tol=1e-10, max_iter=100_000).fit(rows, y)
    ours = daskgd.HuberRegressor(**settings).fit(rows, y)
    assert huber_objective(ours, rows, y) <= huber_objective(theirs, rows, y) * (1 + 1e-6)
    assert ours.outcome_ == "converged"


@pytest.mark.parametrize(
    "y", [np.zeros(80), np.full(80, 5.0), X[:80] @ [1.0, 2.0, 3.0, 4.0]], ids=["0", "5", "exact"]
)
@pytest.mark.parametrize("epsilon", [1.0, 1.01])
def test_hubers_scale_of_rows_without_noise(y: np.ndarray, epsilon: float) -> None:
    model = daskgd.HuberRegressor(epsilon=epsilon).fit(X[:80], y)
    assert model.outcome_ == "converged"
    np.testing.assert_allclose(model.predict(X[:80]), y, atol=1e-5)


def test_hubers_scale_of_more_rows_than_the_sample() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((20_000, 3))
    y = rows.sum(axis=1) + rng.standard_t(2, 20_000)
    small = daskgd.SubsampledNewton(sample_bytes=1, rows_per_parameter=100)
    whole, part = (daskgd.HuberRegressor(epsilon=1.01, solver=s).fit(rows, y) for s in ("auto", small))
    assert part.outcome_ == whole.outcome_ == "converged"
    assert huber_objective(part, rows, y) == pytest.approx(huber_objective(whole, rows, y), rel=2e-6)


# -- first-order solvers ----------------------------------------------------------------------------


def hard_problem(seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Features of many sizes, some nearly the same, labels of two to five classes, and a penalty."""
    rng = np.random.default_rng(seed)
    n, p, k = int(rng.integers(50, 800)), int(rng.integers(2, 20)), int(rng.choice([2, 3, 5]))
    Z = rng.standard_normal((n, p))
    if rng.random() < 0.3:
        Z[:, 0] = 0.999 * Z[:, -1] + 1e-3 * Z[:, 0]
    y = (Z @ rng.standard_normal((p, k)) * rng.choice([0.1, 1, 5]) + rng.gumbel(size=(n, k))).argmax(axis=1)
    return Z * 10 ** rng.uniform(-2, 2, p) + 3, y, float(10 ** rng.uniform(-3, 4))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("solver", ["lbfgs", "gradient_descent", "fista"])
@pytest.mark.parametrize("part", slow_but(range(40), 0))
def test_converged_is_what_the_minimum_says(solver: str, part: int) -> None:
    """Two hundred problems for each solver; the extrapolations of some were too small by a factor of 7."""
    for seed in range(5 * part, 5 * part + 5):
        rows, y, C = hard_problem(seed)
        if len(np.unique(y)) < 2:
            continue
        found = daskgd.LogisticRegression(C=C, solver=solver, max_iter=500).fit(rows, y)
        least = daskgd.LogisticRegression(C=C, tol=1e-12).fit(rows, y).history_[-1]["loss"]
        loss = found.history_[-1]["loss"]
        gap = (loss - least) / max(loss, 1e-3 * found._baseline)
        assert found.outcome_ != "converged" or gap <= 2e-6, seed


def test_the_gap_of_very_many_parameters_is_measured_by_products() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((200, 1600)) * np.linspace(0.01, 1, 1600)
    y = (rows @ rng.standard_normal(1600) > 0).astype(int)
    problem = Problem(losses.Logistic(), models.Linear(1600), penalties.L2(1e-2), np.array([0, 1]))
    example = Example("wide", problem, Rows(rows, y, None, 0))
    least = on(example.rows, problem, Gradient(run(LBFGS(), example, Stop(1e-12, 5000))[0].w))[0]
    result, _ = run(LBFGS(), example, Stop(1e-5, 1000))
    f = on(example.rows, problem, Gradient(result.w))[0]
    assert result.outcome == "converged"
    assert f - least <= 2e-5 * f


# -- separation -------------------------------------------------------------------------------------


def dummy_rows(n: int = 1500) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Three features, and one that is 1 in a twentieth of the rows, 0 elsewhere; and which rows these are."""
    rng = np.random.default_rng(5)
    dummy = rng.random(n) < 0.05
    return np.c_[rng.standard_normal((n, 3)), dummy], dummy, rng


QUASI = {
    "two classes": (daskgd.LogisticRegression(C=np.inf), lambda z, dummy, rng: (z > 0) | dummy),
    "three classes": (
        daskgd.LogisticRegression(C=np.inf),
        lambda z, dummy, rng: np.where(dummy, 2, np.digitize(z, [-1, 1])),
    ),
    "first order": (
        daskgd.LogisticRegression(C=np.inf, solver="lbfgs", tol=1e-8),
        lambda z, dummy, rng: (z > 0) | dummy,
    ),
    "counts": (daskgd.PoissonRegressor(alpha=0), lambda z, dummy, rng: rng.poisson(np.exp(z / 3)) * ~dummy),
}


@pytest.mark.parametrize("case", QUASI)
@pytest.mark.parametrize("frame", [False, True])
def test_a_direction_without_a_minimum_is_said(case: str, frame: bool) -> None:
    estimator, make = QUASI[case]
    rows, dummy, rng = dummy_rows()
    z = rows[:, 0] + rng.logistic(size=len(rows))
    data: Any = pd.DataFrame(rows, columns=["a", "b", "c", "rare"]) if frame else rows
    with pytest.warns(ConvergenceWarning, match="'rare' grow" if frame else "column 3 grow"):
        clone(estimator).fit(data, make(z, dummy, rng))
    clone(estimator).fit(data.iloc[:, :3] if frame else rows[:, :3], make(z, dummy, rng))
    if case != "counts":
        clone(estimator).set_params(C=1.0).fit(data, make(z, dummy, rng))


def test_rare_events_are_no_separation() -> None:
    """One row of another class is enough for a minimum; and coefficients may be large."""
    rows, dummy, rng = dummy_rows()
    y = (rows[:, 0] + rng.logistic(size=len(rows)) > 0) | dummy
    y[np.flatnonzero(dummy)[0]] = False
    assert daskgd.LogisticRegression(C=np.inf).fit(rows, y).outcome_ == "converged"
    steep = 8 * rows[:, 0] + rng.logistic(size=len(rows)) > 0
    assert daskgd.LogisticRegression(C=np.inf).fit(rows[:, :3], steep).outcome_ == "converged"
    twice = np.c_[rows[:, :3], rows[:, 0], np.ones(len(rows))]  # collinear, and constant
    assert daskgd.LogisticRegression(C=np.inf).fit(twice, steep).outcome_ == "converged"


SAMPLED = daskgd.SubsampledNewton(rows_per_parameter=40, sample_bytes=1)


def stored(path: Path, rows: np.ndarray, y: np.ndarray) -> Any:
    daskgd.write_dataset(path, rows, y, chunk_bytes=8000)
    return daskgd.open_dataset(path, block_bytes=8000, partition_bytes=32000)


def looked(est: Any) -> bool:
    """Whether the fit has read its data once more when it had ended."""
    return bool(est.n_sweeps_ > est.history_[-1]["sweeps"])


@pytest.mark.parametrize("case", [case for case in QUASI if case != "first order"])
def test_a_direction_without_a_minimum_of_stored_rows(case: str, tmp_path: Path) -> None:
    rows, dummy, rng = dummy_rows()
    z = rows[:, 0] + rng.logistic(size=len(rows))
    y = np.asarray(QUASI[case][1](z, dummy, rng)).astype(int)
    data, without = stored(tmp_path / "all.zarr", rows, y), stored(tmp_path / "some.zarr", rows[:, :3], y)
    est = clone(QUASI[case][0]).set_params(solver=SAMPLED, engine="serial")
    with pytest.warns(ConvergenceWarning, match="column 3 grow"):
        assert looked(clone(est).fit(data))
    assert not looked(clone(est).fit(without))
    finite = {"alpha": 1e-3} if case == "counts" else {"C": 1.0}
    assert not looked(clone(est).set_params(**finite).fit(data))
    with pytest.warns(ConvergenceWarning, match="column 3 grow"):
        daskgd.together([several := clone(est), clone(est).set_params(**finite)], data)
    assert looked(several)


@pytest.mark.parametrize("separated", [True, False])
def test_a_category_that_the_sample_has_not_seen(separated: bool, tmp_path: Path) -> None:
    rows, _, rng = dummy_rows(3000)
    rows[:, 3], rare = 0, [11, 1000, 2000, 2999]
    rows[rare, 3] = 1
    y = (rows[:, 0] + rng.logistic(size=len(rows)) > 0).astype(int)
    y[rare] = [1, 1, 1, 1] if separated else [1, 0, 0, 1]
    est = daskgd.LogisticRegression(C=np.inf, solver=SAMPLED, engine="serial")
    data = stored(tmp_path / "data.zarr", rows, y)
    (sample,) = SAMPLED.first_sweep_queries(est._shape(data))
    drawn = sample.answer(None, sample.block(None, Rows(as_features(rows), y, None, 0))).rows
    assert not drawn.X.toarray()[:, 3].any()
    if separated:
        with pytest.warns(ConvergenceWarning, match="column 3 grow"):
            est.fit(data)
    assert separated or looked(est.fit(data))


def test_a_look_at_all_rows_is_resumed(tmp_path: Path) -> None:
    """Killed before it, or started again after it: the same fit, and no sweep is repeated."""
    rows, dummy, rng = dummy_rows()
    y = ((rows[:, 0] + rng.logistic(size=len(rows)) > 0) | dummy).astype(int)
    data = stored(tmp_path / "data.zarr", rows, y)
    est = daskgd.LogisticRegression(C=np.inf, solver=SAMPLED, engine="serial")
    grows = pytest.warns(ConvergenceWarning, match="column 3 grow")
    with grows:
        whole = clone(est).fit(data, checkpoint=tmp_path / "whole")
    with grows:
        same(whole, clone(est).set_params(engine=dying(0)).fit(data, checkpoint=tmp_path / "whole"))
    with grows:
        last = killed_and_resumed(est, (data,), whole.n_sweeps_ - 1, tmp_path / "killed", dying(1))
    same(whole, last)
    with grows:  # goes on from where the fit had ended, and looks again there
        assert (
            clone(est).set_params(tol=1e-9).fit(data, checkpoint=tmp_path / "whole").n_iter_ > whole.n_iter_
        )


def trial(seed: int) -> tuple[str, np.ndarray, np.ndarray, bool, set[int]]:
    """Rows that have a minimum or none: kind, X, y, whether y are labels, and the features that separate."""
    kinds = ["one event", "one count", "steep", "collinear", "constant", "unbalanced", "categories"]
    kinds += ["dummy", "reference", "two dummies", "no counts", "three classes"]
    kind, rng = kinds[seed % len(kinds)], np.random.default_rng(seed)
    n, p = int(rng.choice([400, 1500, 6000])), int(rng.integers(1, 8))
    Z, w = rng.standard_normal((n, p)), rng.standard_normal(p)
    level = rng.choice(5, n, p=np.array([4, 4, 4, 1, 1]) / 14)
    dummies, mixed = np.eye(5)[level], [np.flatnonzero(level == j)[:2] for j in range(5)]
    noisy = Z @ w + rng.logistic(size=n)
    y: np.ndarray = (noisy > 0).astype(int)
    counts = rng.poisson(np.exp(np.clip(Z @ w / 2, -3, 3) - 1))
    rare, other = level == 4, level == 3
    X, truth = np.c_[Z, rare], set[int]()
    y[np.flatnonzero(~rare)[:2]] = [0, 1]
    match kind:
        case "one event":
            y[rare], y[mixed[4][0]] = 1, 0
        case "one count":
            counts[rare], counts[mixed[4][0]] = 0, 1
        case "steep":
            X, y = Z, (30 * Z @ w + rng.logistic(size=n) > 0).astype(int)
            y[rng.choice(n, 3, replace=False)] ^= 1
        case "collinear":
            X = np.c_[Z, Z.sum(axis=1), rare, ~rare]
            y[mixed[4]] = [0, 1]
        case "constant":
            X = np.c_[Z, np.full(n, 0.1), np.full(n, 5e6)]
        case "unbalanced":
            X, y = Z, np.zeros(n, dtype=int)
            y[rng.choice(n, 3 + p, replace=False)] = 1
        case "categories":
            X = np.c_[Z, dummies[:, 1:]]
            y[np.concatenate(mixed)] = [0, 1] * 5
        case "dummy":
            y[rare], truth = 1, {p}
        case "reference":
            X, truth = np.c_[Z, np.delete(dummies, 4, axis=1)], set(range(p, p + 4))
            y[rare], y[np.concatenate(mixed[:4])] = 1, [0, 1] * 4
        case "two dummies":
            X, truth = np.c_[Z, rare, other], {p, p + 1}
            y[rare], y[other] = 1, 0
        case "no counts":
            counts[rare], truth = 0, {p}
        case "three classes":
            y, truth = np.where(rare, 2, np.digitize(noisy, [-1, 1])), {p}
    labels = "count" not in kind
    return kind, X, y if labels else counts, labels, truth


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("where", ["memory", "store"])
@pytest.mark.parametrize("block", slow_but(range(10)))
def test_separation_by_random_trials(where: str, block: int, tmp_path: Path) -> None:
    for seed in range(24 * block, 24 * block + 24):
        kind, rows, y, labels, truth = trial(seed)
        est: Any = daskgd.LogisticRegression(C=np.inf) if labels else daskgd.PoissonRegressor(alpha=0)
        if where == "memory":
            est.fit(rows, y)
        else:
            est.set_params(solver=SAMPLED, engine="serial").fit(stored(tmp_path / str(seed), rows, y))
        assert est.outcome_ == "converged", (seed, kind)
        assert set(est._separating.tolist()) == truth, (seed, kind)


# -- what a second look found -------------------------------------------------------------------------


def badly_scaled(collinear: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((1500, 12))
    y = (rng.random(1500) < 1 / (1 + np.exp(-Z @ rng.standard_normal(12)))).astype(int)
    rows = Z * 10.0 ** np.linspace(-3, 3, 12)
    if collinear:
        rows[:, 1] = rows[:, 0] + 1e-2 * rows[:, 1]
    return rows, y


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("solver", ["auto", "newton", "newton_cg", "lbfgs"])
@pytest.mark.parametrize("collinear", [False, True])
def test_units_of_their_own_do_not_hide_a_gap(solver: str, collinear: bool) -> None:
    rows, y = badly_scaled(collinear)
    least = daskgd.LogisticRegression(C=np.inf).fit(rows, y).history_[-1]["loss"]
    found = daskgd.LogisticRegression(C=np.inf, solver=solver, scale=False).fit(rows, y)
    assert found.outcome_ != "converged" or found.history_[-1]["loss"] <= least * (1 + 2e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("solver", ["newton", "fista", "gradient_descent", "lbfgs"])
def test_a_scale_that_fell_to_nothing_is_no_minimum(solver: str) -> None:
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((200, 23))
    y = rows.sum(axis=1) + rng.standard_t(2, size=200)
    least = daskgd.HuberRegressor(epsilon=1.01).fit(rows, y).history_[-1]["loss"]
    found = daskgd.HuberRegressor(epsilon=1.01, solver=solver, scale=True).fit(rows, y)
    assert found.outcome_ != "converged" or found.history_[-1]["loss"] <= least * (1 + 2e-6)


def test_a_warm_start_from_a_fit_without_noise() -> None:
    est = daskgd.HuberRegressor(warm_start=True).fit(X, X.sum(axis=1))
    cold = daskgd.HuberRegressor().fit(X, Y)
    assert est.fit(X, Y).outcome_ == "converged"
    assert est.scale_ == pytest.approx(cold.scale_, rel=1e-3)


def test_sparse_coefficients_are_saved(tmp_path: Path) -> None:
    est = daskgd.LogisticRegression(C=0.1).fit(X, LABELS).sparsify()
    est.save(tmp_path / "m.dgd")
    np.testing.assert_array_equal(daskgd.load_model(tmp_path / "m.dgd").coef_, est.coef_.toarray())


def test_outliers_of_frames_and_of_fits_together() -> None:
    frame = pd.DataFrame({f"c{j}": X[:, j] for j in range(4)})
    one, two = daskgd.HuberRegressor(), daskgd.HuberRegressor(epsilon=2.0)
    daskgd.together([one, two], frame, Y)
    for est in (one, two, daskgd.HuberRegressor().fit(np.asfortranarray(X), Y)):
        np.testing.assert_array_equal(
            est.outliers_, np.abs(Y - X @ est.coef_ - est.intercept_) > est.epsilon * est.scale_
        )


def test_class_weights_of_a_call_that_lacks_a_class() -> None:
    est = daskgd.Perceptron(class_weight={"a": 2.0})
    est.partial_fit(X[:50], np.where(LABELS[:50], "a", "b"), classes=["a", "b", "c"])
    assert set(est.partial_fit(X[50:90], np.where(LABELS[50:90], "c", "b")).predict(X)) <= {"a", "b", "c"}
