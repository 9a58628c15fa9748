"""Sparse rows: every estimator on scipy.sparse equals itself on the dense twin, and scikit-learn."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import linear_model, svm
from sklearn.exceptions import ConvergenceWarning

import daskgd
from tests.sparse_rows import sparse_array
from tests.tiers import slow_but

N = 400
ESTIMATORS: dict[str, tuple[Any, str]] = {
    "logistic": (daskgd.LogisticRegression(), "labels"),
    "softmax": (daskgd.LogisticRegression(), "classes"),
    "lasso logistic": (daskgd.LogisticRegression(l1_ratio=1), "labels"),
    "weak penalty": (daskgd.LogisticRegression(C=10), "noisy labels"),
    "ridge": (daskgd.Ridge(), "numbers"),
    "ridge of two targets": (daskgd.Ridge(), "two numbers"),
    "linear": (daskgd.LinearRegression(), "numbers"),
    "lasso": (daskgd.Lasso(alpha=1e-3), "numbers"),
    "elastic net": (daskgd.ElasticNet(alpha=1e-3, positive=True), "numbers"),
    "svc": (daskgd.LinearSVC(), "labels"),
    "hinge": (daskgd.LinearSVC(loss="hinge"), "labels"),
    "svr": (daskgd.LinearSVR(), "numbers"),
    "huber": (daskgd.HuberRegressor(), "numbers"),
    "quantile": (daskgd.QuantileRegressor(alpha=1e-3), "numbers"),
    "poisson": (daskgd.PoissonRegressor(), "counts"),
    "gamma": (daskgd.GammaRegressor(), "amounts"),
    "tweedie": (daskgd.TweedieRegressor(power=1.5), "counts"),
    "sgd": (daskgd.SGDClassifier(max_iter=5, tol=None), "labels"),
    "sgd regressor": (daskgd.SGDRegressor(max_iter=5, tol=None), "numbers"),
    "perceptron": (daskgd.Perceptron(max_iter=5, tol=None), "noisy labels"),
    "net": (daskgd.MLPClassifier(hidden_layer_sizes=(4,), max_iter=4), "labels"),
    "net of numbers": (daskgd.MLPRegressor(hidden_layer_sizes=(4,), max_iter=4), "numbers"),
    "preconditioned": (daskgd.LogisticRegression(solver="preconditioned_lbfgs"), "labels"),
    "distributed": (daskgd.LogisticRegression(regime="distributed"), "labels"),
}


KINKS = {"huber", "quantile", "hinge", "svr"}
"""Those whose fits take seconds."""


@pytest.fixture(scope="module", params=[(30, 0.2), (300, 0.02)], ids=["few columns", "many columns"])
def data(request) -> tuple[sp.csr_array, dict[str, np.ndarray]]:
    """Rows, some of them empty, a column of zeros and one that is nowhere 0; and targets of all kinds."""
    p, density = request.param
    rng = np.random.default_rng(p)
    X = sparse_array(N, p, density, rng).tolil()
    X[::50] = 0
    X[:, 3] = 0
    X[:, 0] = 1 + rng.random((N, 1))
    X = sp.csr_array(X)
    z = X @ rng.normal(size=p) + 0.1 * rng.normal(size=N)
    noisy = (z + 2 * rng.logistic(size=N) > np.median(z)).astype(int)
    return X, {
        "numbers": z,
        "two numbers": np.stack([z, rng.normal(size=N)], axis=1),
        "labels": np.where(z > np.median(z), "up", "down"),
        "noisy labels": noisy,
        "classes": np.digitize(z, np.quantile(z, [0.3, 0.6])),
        "counts": rng.poisson(np.exp(np.clip(z, -2, 2))).astype(float),
        "amounts": np.exp(np.clip(z, -2, 2)) * rng.gamma(2.0, size=N) + 1e-3,
    }


def parameters(est: Any) -> np.ndarray:
    parts = [*est.coefs_, *est.intercepts_] if hasattr(est, "coefs_") else [est.coef_, est.intercept_]
    return np.concatenate([np.ravel(part) for part in parts])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", slow_but(ESTIMATORS, *(set(ESTIMATORS) - KINKS)))
def test_an_estimator_equals_itself_on_dense_rows(data, name):
    X, targets = data
    est, kind = ESTIMATORS[name]
    y, s = targets[kind], np.random.default_rng(0).random(N) + 0.5
    weights = {} if name.startswith("net") else {"sample_weight": s}
    a = type(est)(**est.get_params(deep=False)).fit(X, y, **weights)
    b = type(est)(**est.get_params(deep=False)).fit(X.toarray(), y, **weights)
    near = 1e-6 if name in ("hinge", "svr", "quantile", "huber", "lasso logistic", "weak penalty") else 1e-9
    np.testing.assert_allclose(parameters(a), parameters(b), atol=near * np.abs(parameters(b)).max())
    assert a.score(X, y) == pytest.approx(b.score(X.toarray(), y), abs=1e-9)
    for method in ("predict", "decision_function", "predict_proba"):
        if hasattr(a, method):
            found, expected = getattr(a, method)(X), getattr(a, method)(X.toarray())
            assert found.dtype == expected.dtype
            if found.dtype.kind == "f":
                np.testing.assert_allclose(found, expected, atol=1e-12 * (1 + np.abs(expected).max()))
            else:
                np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("ours", "theirs", "kind"),
    [
        (daskgd.LogisticRegression(), linear_model.LogisticRegression(tol=1e-10, max_iter=10_000), "labels"),
        (daskgd.Ridge(), linear_model.Ridge(tol=1e-12), "numbers"),
        (daskgd.Lasso(alpha=1e-3), linear_model.Lasso(alpha=1e-3, tol=1e-10, max_iter=100_000), "numbers"),
        (daskgd.LinearSVC(), svm.LinearSVC(tol=1e-10, intercept_scaling=1e3, max_iter=10**6), "labels"),
        (daskgd.PoissonRegressor(), linear_model.PoissonRegressor(tol=1e-10, max_iter=10_000), "counts"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_estimator_equals_scikit_learns_on_sparse_rows(data, ours, theirs, kind):
    X, targets = data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # liblinear's, of its last digits
        expected = theirs.fit(sp.csr_matrix(X), targets[kind])
    found = ours.set_params(tol=1e-10).fit(X, targets[kind])
    np.testing.assert_allclose(found.coef_, expected.coef_, atol=1e-4 * np.abs(expected.coef_).max())


KINDS = ["csr_matrix", "csc_array", "coo_array", "lil_array", "bool", "int8", "float32"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_sparse_rows_is_taken(data, kind):
    X, targets = data
    given: Any = X
    if kind in ("bool", "int8"):
        given = sp.csr_array(X != 0).astype(kind)
    else:
        given = X.astype(np.float32) if kind == "float32" else getattr(sp, kind)(X)
    est = daskgd.LogisticRegression().fit(given, targets["labels"])
    dense = daskgd.LogisticRegression().fit(given.toarray(), targets["labels"])
    np.testing.assert_allclose(est.coef_, dense.coef_, rtol=1e-5, atol=1e-5 if kind == "float32" else 1e-8)
    assert est.coef_.dtype == (np.float32 if kind == "float32" else np.float64)
    assert est.predict_proba(given).dtype == dense.predict_proba(given.toarray()).dtype


def test_frames_whose_columns_are_sparse_keep_their_names(data):
    pd = pytest.importorskip("pandas")
    X, targets = data
    names = [f"x{j}" for j in range(X.shape[1])]
    frame = pd.DataFrame.sparse.from_spmatrix(sp.csr_matrix(X), columns=names)
    est = daskgd.Ridge().fit(frame, targets["numbers"])
    assert est.feature_names_in_.tolist() == names
    np.testing.assert_allclose(est.predict(frame), frame.to_numpy() @ est.coef_ + est.intercept_, atol=1e-9)


def bad(X: sp.csr_array, value: float) -> sp.csr_array:
    out = X.copy()
    out.data[out.indptr[7] + 1] = value
    return out


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_with_its_row_and_column(data, value):
    X, targets = data
    wrong = bad(X, value)
    column = wrong.indices[wrong.indptr[7] + 1]
    with pytest.raises(ValueError, match=f"row 7, column {column}"):
        daskgd.LogisticRegression().fit(wrong, targets["labels"])
    est = daskgd.Ridge().fit(X, targets["numbers"])
    with pytest.raises(ValueError, match=f"row 7.*column {column}"):
        est.predict(wrong)


def test_refusals(data):
    X, targets = data
    est = daskgd.LogisticRegression()
    with pytest.raises(ValueError, match="Complex data not supported"):
        est.fit(X * 1j, targets["labels"])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        est.fit(X[:-1], targets["labels"])
    with pytest.raises(ValueError, match=f"X has {X.shape[1] - 1} features"):
        est.fit(X, targets["labels"]).predict(X[:, 1:])


@pytest.mark.parametrize("column", [-1, 30_000])
def test_columns_that_are_none_are_refused(data, column):
    """Where scipy's products would read and write memory of others."""
    X, targets = data
    wrong = sp.csr_array((X.data, X.indices.copy(), X.indptr), shape=X.shape)
    wrong.indices[wrong.indptr[8]] = column
    message = f"expected columns from 0 to {X.shape[1] - 1}, got {column} in row 8"
    with pytest.raises(ValueError, match=message):
        daskgd.Ridge().fit(wrong, targets["numbers"])
    est = daskgd.Ridge().fit(X, targets["numbers"])
    with pytest.raises(ValueError, match=message):
        est.predict(wrong)


def test_entries_that_come_twice_are_added_and_the_given_matrix_stays_as_it_is():
    arrays = np.array([1.0, 2.0, 4.0, 1.0]), np.array([1, 1, 0, 1]), np.array([0, 2, 3, 4])
    given, added = sp.csr_array(arrays, shape=(3, 2)), np.array([[0.0, 3.0], [4.0, 0.0], [0.0, 1.0]])
    before = given.data.copy(), given.indices.copy()
    est = daskgd.Ridge().fit(given, [3.0, 1.0, 2.0])
    np.testing.assert_allclose(est.coef_, daskgd.Ridge().fit(added, [3.0, 1.0, 2.0]).coef_)
    np.testing.assert_array_equal(given.data, before[0])
    np.testing.assert_array_equal(given.indices, before[1])


def test_partial_fit_goes_on_in_sparse_parts(data):
    X, targets = data
    a, b = daskgd.SGDRegressor(), daskgd.SGDRegressor()
    for part in (slice(0, 150), slice(150, N)):
        a.partial_fit(X[part], targets["numbers"][part])
        b.partial_fit(X[part].toarray(), targets["numbers"][part])
    np.testing.assert_allclose(a.coef_, b.coef_, atol=1e-10 * np.abs(b.coef_).max())


def test_a_wide_fit_makes_nothing_dense():
    """A dense copy of these rows would take 8 GB, one block of the Hessian 80 GB."""
    import tracemalloc

    n, d, each = 2_000, 500_000, 20
    rng = np.random.default_rng(0)
    columns = np.minimum(rng.zipf(1.2, size=(n, each)), d) - 1
    X = sp.csr_array((np.ones(n * each), (np.repeat(np.arange(n), each), columns.ravel())), shape=(n, d))
    y = np.asarray(X[:, :50].sum(axis=1) + 2 * rng.normal(size=n) > 12)
    tracemalloc.start()
    est = daskgd.LogisticRegression(C=0.1, engine="serial").fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert est.outcome_ == "converged"
    assert peak < 600e6


def many_rare_features(
    n: int = 3000, p: int = 2000, each: int = 10, seed: int = 1
) -> tuple[sp.csr_array, np.ndarray]:
    """Rows of features whose frequencies fall as Zipf's, and a linear function of them."""
    rng = np.random.default_rng(seed)
    columns = np.minimum(rng.zipf(1.3, size=(n, each)), p) - 1
    X = sp.csr_array((rng.random(n * each), (np.repeat(np.arange(n), each), columns.ravel())), shape=(n, p))
    z = X @ (2 * rng.normal(size=p) * (rng.random(p) < 0.3))
    return X, z - np.median(z)


def test_a_sample_fitted_too_well_does_not_mislead_the_preconditioner():
    """A weak penalty: curvature at the sample's solution alone is too small, and 88 iterations are taken."""
    X, z = many_rare_features()
    y = z + np.random.default_rng(0).logistic(size=len(z)) > 0
    solver = daskgd.PreconditionedLBFGS(sample_bytes=20_000)
    est = daskgd.LogisticRegression(C=1e3, tol=1e-3, max_iter=100, solver=solver).fit(X, y)
    assert est.outcome_ == "converged"
    assert est.n_iter_[0] <= 50


@pytest.mark.parametrize(
    ("seed", "penalty", "tol"), [(0, 1e-6, 1e-2), (4, 1e-7, 1e-3), (8, 1e-6, 1e-2), (11, 1e-7, 1e-3)]
)
def test_converged_says_what_the_gap_is_though_classes_can_be_separated(seed, penalty, tol):
    """Under weak penalties: the gap was 1.5 to 2.1 times `tol` in all of these."""
    X, z = many_rare_features(1500, 1200, seed=seed)
    y, C = z > 0, 1 / (penalty * len(z))

    def objective(est):
        margins = X @ est.coef_.ravel() + est.intercept_[0]
        squares = float(np.sum(est.coef_**2))
        return np.logaddexp(0, np.where(y, -margins, margins)).mean() + penalty / 2 * squares

    solver = daskgd.PreconditionedLBFGS(sample_bytes=20_000)
    est = daskgd.LogisticRegression(C=C, tol=tol, max_iter=300, solver=solver).fit(X, y)
    best = objective(daskgd.LogisticRegression(C=C, tol=1e-9).fit(X, y))
    assert est.outcome_ == "converged"
    assert objective(est) - best <= tol * max(objective(est), 1e-3 * np.log(2))


def test_a_fit_begins_at_the_solution_of_a_sample_only_where_that_is_better():
    """Predictions grow with the exponential of what a sample has wrong: deviances of 1e8, here."""
    X, z = many_rare_features()
    y = np.random.default_rng(0).poisson(50 * np.exp(np.clip(z, -3, 3))).astype(float)
    solver = daskgd.PreconditionedLBFGS(sample_bytes=20_000)
    est = daskgd.PoissonRegressor(alpha=1e-3 / len(y), max_iter=3, solver=solver)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        est.fit(X, y)
    assert est.history_.column("loss")[0] < 50
