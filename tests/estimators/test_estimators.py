"""The estimators against scikit-learn, textbooks, and everything users may pass."""

from __future__ import annotations

import pickle
import re
import warnings
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn import linear_model, svm
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, make_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.preprocessing import StandardScaler

import daskgd
from daskgd.engines.serial import Serial
from tests.tiers import slow_but

X4 = [[1, 2], [2, 3], [3, 4], [4, 5]]
TEXTBOOK = np.array([0.35586883869354, 0.65796218545220, 0.30209334675866])
TIGHT = {"tol": 1e-15, "max_iter": 5000}


NEWTON = {"solver": "newton-cholesky", "tol": 1e-14, "max_iter": 1000}  # lbfgs there stops short of 1e-4


def parameters(est: Any) -> np.ndarray:
    return np.concatenate([np.ravel(est.coef_), np.ravel(est.intercept_)])


def relative(got: Any, expected: Any) -> float:
    expected = np.asarray(expected)
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def standardised(load: Any) -> tuple[np.ndarray, np.ndarray]:
    X, y = load(return_X_y=True)
    return StandardScaler().fit_transform(X), y


# -- textbooks ----------------------------------------------------------------------------------


@pytest.fixture
def four_blocks(tmp_path):
    """The textbook's four rows, one per chunk, block and partition."""
    daskgd.write_dataset(tmp_path / "four.zarr", np.array(X4, float), [2.0, 3.0, 4.0, 5.0], chunk_bytes=16)
    return daskgd.open_dataset(tmp_path / "four.zarr", block_bytes=1, partition_bytes=1)


@pytest.mark.parametrize("engine", slow_but(["serial", "threads", None], "serial", "threads"))
def test_textbook_gradient_descent(four_blocks, engine):
    est = daskgd.LinearRegression(
        solver=daskgd.GradientDescent(step=0.01), max_iter=1000, tol=0, engine=engine
    )
    for data in ((X4, [2, 3, 4, 5]), (four_blocks,)):
        np.testing.assert_allclose(parameters(est.fit(*data)), TEXTBOOK, atol=1e-12, rtol=0)
        assert est.n_iter_ == 1000


def test_textbook_on_a_cluster_has_the_same_bits(four_blocks, client):
    solver = daskgd.GradientDescent(step=0.01)
    est = daskgd.LinearRegression(solver=solver, max_iter=30, tol=0)
    on_cluster = parameters(est.fit(four_blocks))
    serial = parameters(clone(est).set_params(engine="serial").fit(four_blocks))
    assert (on_cluster == serial).all()


def test_local_gd_with_one_step_is_gradient_descent(four_blocks):
    est = daskgd.LinearRegression(
        solver=daskgd.LocalGD(step=0.01, local_steps=1), max_iter=1000, tol=0, engine="serial"
    )
    np.testing.assert_allclose(parameters(est.fit(four_blocks)), TEXTBOOK, atol=1e-10, rtol=0)


def test_ten_local_steps_do_no_worse_than_as_many_sweeps(four_blocks):
    def loss(solver):
        est = daskgd.LinearRegression(solver=solver, max_iter=50, tol=0, engine="serial").fit(four_blocks)
        return np.mean((est.predict(np.array(X4, float)) - [2, 3, 4, 5]) ** 2) / 2

    assert loss(daskgd.LocalGD(step=0.01, local_steps=10)) <= loss(daskgd.GradientDescent(step=0.01))


def test_textbook_perceptron():
    y = np.array([1, 1, -1, -1])
    assert (daskgd.Perceptron().fit(X4, y).predict(X4) == y).all()


@pytest.mark.parametrize("offset", [0.0, 10.0, 1000.0])
def test_perceptron_separates_separable_data(rng, offset):
    w = np.array([0.6, 0.0, -0.8])
    X = rng.normal(size=(2000, 3))
    X = X[np.abs(X @ w + 0.3) > 0.02]
    y = np.where(X @ w + 0.3 > 0, "up", "down")
    est = daskgd.Perceptron().fit(X + offset, y)
    assert est.score(X + offset, y) == 1.0
    assert est.outcome_ == "converged"


# -- scikit-learn's answers ---------------------------------------------------------------------

TARGET = np.column_stack([np.arange(442) % 7, np.arange(442) % 5]).astype(float)

REFERENCES = {
    "logistic, binary": (
        daskgd.LogisticRegression(**TIGHT),
        linear_model.LogisticRegression(**NEWTON),
        load_breast_cancer,
    ),
    "logistic, binary, balanced, C=0.01": (
        daskgd.LogisticRegression(C=0.01, class_weight="balanced", **TIGHT),
        linear_model.LogisticRegression(C=0.01, class_weight="balanced", **NEWTON),
        load_breast_cancer,
    ),
    "logistic, binary, weighted class, no intercept": (
        daskgd.LogisticRegression(class_weight={0: 3.0}, fit_intercept=False, **TIGHT),
        linear_model.LogisticRegression(class_weight={0: 3.0}, fit_intercept=False, **NEWTON),
        load_breast_cancer,
    ),
    "logistic, multinomial": (
        daskgd.LogisticRegression(**TIGHT),
        linear_model.LogisticRegression(tol=1e-12, max_iter=10000),
        load_digits,
    ),
    "least squares": (daskgd.LinearRegression(**TIGHT), linear_model.LinearRegression(), load_diabetes),
    "least squares, no intercept": (
        daskgd.LinearRegression(fit_intercept=False, **TIGHT),
        linear_model.LinearRegression(fit_intercept=False),
        load_diabetes,
    ),
    "ridge": (daskgd.Ridge(**TIGHT), linear_model.Ridge(), load_diabetes),
    "ridge, alpha=100": (daskgd.Ridge(100.0, **TIGHT), linear_model.Ridge(100.0), load_diabetes),
    "svc": (
        daskgd.LinearSVC(**TIGHT),
        svm.LinearSVC(intercept_scaling=1000, tol=1e-10, max_iter=100000, dual=False),
        load_breast_cancer,
    ),
}


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", REFERENCES)
def test_coefficients_are_scikit_learns(name, weighted):
    ours, theirs, load = REFERENCES[name]
    X, y = standardised(load)
    weight = np.random.default_rng(1).integers(0, 4, len(y)).astype(float) if weighted else None
    ours, theirs = clone(ours), clone(theirs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # whoever stops early is caught by the tolerance
        ours.fit(X, y, weight)
        theirs.fit(X, y, weight)
    assert relative(ours.coef_, theirs.coef_) < 1e-4
    if ours.fit_intercept:
        assert relative(ours.intercept_, theirs.intercept_) < 1e-4
    assert ours.coef_.shape == theirs.coef_.shape
    assert np.shape(ours.intercept_) == np.shape(theirs.intercept_)


@pytest.mark.parametrize("alpha", [2.0, np.array([0.5, 20.0])])
def test_many_targets_at_once(alpha):
    X, _ = standardised(load_diabetes)
    ours = daskgd.Ridge(alpha, **TIGHT).fit(X, TARGET)
    theirs = linear_model.Ridge(alpha).fit(X, TARGET)
    assert relative(ours.coef_, theirs.coef_) < 1e-4
    assert relative(ours.intercept_, theirs.intercept_) < 1e-4
    assert ours.predict(X).shape == TARGET.shape
    assert ours.score(X, TARGET) == pytest.approx(theirs.score(X, TARGET), abs=1e-6)


@pytest.mark.parametrize("solver", ["gradient_descent", daskgd.LBFGS(memory=3)])
def test_any_solver_finds_the_same_minimum(solver):
    X, y = standardised(load_breast_cancer)
    ours = daskgd.LogisticRegression(C=0.1, solver=solver, tol=1e-12, max_iter=3000).fit(X, y)
    theirs = linear_model.LogisticRegression(C=0.1, tol=1e-12, max_iter=10000).fit(X, y)
    assert relative(ours.coef_, theirs.coef_) < 1e-4


def test_standardisation_changes_the_path_and_not_the_minimum(rng):
    Z = rng.normal(size=(500, 6))
    y = Z.sum(axis=1) + rng.normal(size=500) > 0
    X = Z * 10.0 ** np.arange(-3, 3) + [0, 100, 0, -5, 0, 0]
    theirs = linear_model.LogisticRegression(solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(X, y)
    ours = daskgd.LogisticRegression(solver="lbfgs", **TIGHT).fit(X, y)
    assert relative(ours.coef_, theirs.coef_) < 1e-4
    assert relative(ours.intercept_, theirs.intercept_) < 1e-4
    with pytest.warns(ConvergenceWarning):  # unscaled, the same sweeps get nowhere near
        plain = daskgd.LogisticRegression(solver="lbfgs", scale=False, max_iter=int(ours.n_iter_[0])).fit(
            X, y
        )
    assert relative(plain.coef_, theirs.coef_) > 1e-4


def test_tol_is_the_relative_gap():
    X, y = standardised(load_breast_cancer)
    best = daskgd.LogisticRegression(tol=1e-13, max_iter=5000).fit(X, y).history_[-1]["loss"]
    for tol in (1e-3, 1e-5, 1e-7):
        est = daskgd.LogisticRegression(tol=tol).fit(X, y)
        reached = est.history_[-1]["loss"]
        assert (reached - best) / reached < 3 * tol
        assert est.gap_ <= tol


@pytest.mark.parametrize("C", [1.0, 1e4])
@pytest.mark.parametrize("seed", range(4))
def test_converged_is_true_on_collinear_features_of_any_size(seed, C):
    """Flat directions, where a gap that knows only the directions walked would call a plateau the end."""
    X, y = make_classification(600, 25, n_informative=8, n_redundant=12, random_state=seed)
    X = X * 10 ** np.random.default_rng(seed).uniform(-2, 2, 25)

    def objective(est):
        margin = est.decision_function(X) * np.where(y == 1, 1, -1)
        return np.logaddexp(0, -margin).mean() + (est.coef_**2).sum() / (2 * C * len(y))

    best = objective(linear_model.LogisticRegression(C=C, **NEWTON).fit(X, y))
    est = daskgd.LogisticRegression(C=C).fit(X, y)
    assert est.n_sweeps_ <= 12
    assert (objective(est) - best) / best <= 1.2 * est.gap_ + 1e-12
    assert est.gap_ <= 1e-6


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.0, 3e-4, 1e-3])
def test_a_step_that_no_sweep_has_confirmed_is_judged_on_all_rows(share, seed):
    """Two sweeps where the sample is like the data; where a few rows of another kind, 30 times as large,
    hold what the sample does not know, as many as it takes."""
    rng = np.random.default_rng(seed)
    n = 60_000
    X = rng.standard_normal((n, 4))
    other = rng.random(n) < share
    X[other] *= 30
    w = np.where(other[:, None], -1 / 30, 1) * rng.standard_normal(4)
    y = (rng.random(n) < 1 / (1 + np.exp(-np.sum(X * w, axis=1)))).astype(int)

    def objective(est):
        margin = est.decision_function(X) * np.where(y == 1, 1, -1)
        return np.logaddexp(0, -margin).mean() + (est.coef_**2).sum() / (2 * est.C * n)

    best = objective(daskgd.LogisticRegression(C=1e6 / n, tol=1e-12).fit(X, y))
    sampled = daskgd.SubsampledNewton(sample_bytes=1, rows_per_parameter=600)
    est = daskgd.LogisticRegression(C=1e6 / n, tol=2e-4, solver=sampled).fit(X, y)
    assert (objective(est) - best) / best <= est.gap_ <= 2e-4
    assert share or est.n_sweeps_ == 2


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_targets_far_from_zero_keep_their_digits(rng, dtype):
    X = rng.integers(0, 200, size=(1000, 3)).astype(dtype)
    y = X @ [1.0, 2.0, 3.0] + 1.7e9 + rng.normal(size=1000)
    ours = daskgd.LinearRegression().fit(X, y)
    theirs = linear_model.LinearRegression().fit(X.astype(float), y)
    assert relative(ours.coef_, theirs.coef_) < 1e-5
    assert np.abs(ours.predict(X) - theirs.predict(X.astype(float))).max() < 0.01
    assert ours.score(X, y) == pytest.approx(theirs.score(X.astype(float), y), abs=1e-6)


@pytest.mark.parametrize("kind", [daskgd.LinearRegression, daskgd.Ridge])
def test_a_constant_target_is_done_at_once(kind):
    est = kind().fit(XP, np.full(200, 3.3))
    assert est.outcome_ == "converged"
    assert est.n_sweeps_ <= 4
    np.testing.assert_allclose(est.predict(XP), 3.3, rtol=1e-12)


def test_tol_zero_runs_exactly_max_iter():
    X, y = standardised(load_diabetes)
    for solver in ("lbfgs", "gradient_descent", daskgd.GradientDescent(step=0.1), "local_gd"):
        est = daskgd.LinearRegression(solver=solver, tol=0, max_iter=37).fit(X, y)
        assert est.n_iter_ == len(est.history_) == 37


# -- what comes in and out ------------------------------------------------------------------------

PROBLEM = np.random.default_rng(3)
XP = PROBLEM.normal(size=(200, 4))
YP = np.where(XP @ [1, -2, 0.5, 0] + PROBLEM.normal(size=200) > 0, "yes", "no")
FRAME = pd.DataFrame(XP, columns=list("abcd"))

INPUTS = {
    "numpy": lambda: (XP, YP),
    "lists": lambda: (XP.tolist(), YP.tolist()),
    "fortran order": lambda: (np.asfortranarray(XP), YP),
    "pandas": lambda: (FRAME, pd.Series(YP)),
    "dask, rows": lambda: (da.from_array(XP, chunks=(33, 4)), da.from_array(YP, chunks=50)),
    "dask, columns": lambda: (da.from_array(XP, chunks=(200, 3)), da.from_array(YP, chunks=200)),
    "dask, both": lambda: (da.from_array(XP, chunks=(33, 3)), da.from_array(YP, chunks=7)),
    "dask, computed": lambda: (da.from_array(XP / 2, chunks=(33, 3)) * 2, da.from_array(YP, chunks=7)),
    "dask and numpy": lambda: (da.from_array(XP, chunks=(33, 4)), YP),
    "dask frame": lambda: (
        dd.from_pandas(FRAME, npartitions=3),
        dd.from_pandas(pd.Series(YP), npartitions=3),
    ),
    "xarray": lambda: (xr.DataArray(XP, dims=("r", "c")), xr.DataArray(YP, dims="r")),
    "xarray of dask": lambda: (xr.DataArray(XP, dims=("r", "c")).chunk(r=30), xr.DataArray(YP, dims="r")),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_any_input_gives_the_same_model(kind):
    X, y = INPUTS[kind]()
    est = daskgd.LogisticRegression(tol=1e-10).fit(X, y)
    reference = daskgd.LogisticRegression(tol=1e-10).fit(XP, YP)
    np.testing.assert_allclose(parameters(est), parameters(reference), rtol=1e-9)
    assert est.classes_.tolist() == ["no", "yes"]
    assert est.score(X, y) == reference.score(XP, YP)
    assert est.n_sweeps_ - reference.n_sweeps_ == (kind == "dask frame")  # lengths cost one, counted
    if kind in ("pandas", "dask frame"):
        assert est.feature_names_in_.tolist() == list("abcd")
    expected = reference.predict(XP)
    got = est.predict(X)
    assert isinstance(got, da.Array) == (kind.startswith("dask") or kind == "xarray of dask")
    assert (np.asarray(got) == expected).all()


@pytest.mark.parametrize("kind", ["numpy", "dask, both", "dataset", "path"])
def test_predictions_are_scikit_learns_and_lazy_where_the_input_is(kind, tmp_path):
    classes = np.array(["a", "b", "c"])[np.digitize(XP[:, 0], [-0.5, 0.5])]
    ours = daskgd.LogisticRegression(tol=1e-12).fit(XP, classes)
    theirs = linear_model.LogisticRegression(tol=1e-12, max_iter=1000).fit(XP, classes)
    daskgd.write_dataset(tmp_path / "p.zarr", XP, classes, chunk_bytes=1000)
    X = {
        "numpy": XP,
        "dask, both": da.from_array(XP, chunks=(33, 3)),
        "dataset": daskgd.open_dataset(tmp_path / "p.zarr"),
        "path": str(tmp_path / "p.zarr"),
    }[kind]
    for method in ("decision_function", "predict_proba", "predict_log_proba", "predict"):
        got, expected = getattr(ours, method)(X), getattr(theirs, method)(XP)
        assert isinstance(got, np.ndarray) == (kind == "numpy")
        assert got.shape == expected.shape
        assert got.dtype == expected.dtype
        got = np.asarray(got)
        if method == "predict":
            assert (got == expected).all()
        else:
            np.testing.assert_allclose(got, expected, atol=1e-4)


def test_datasets_with_labels_weights_and_splits(tmp_path):
    weight = PROBLEM.random(200)
    daskgd.write_dataset(tmp_path / "d.zarr", XP, YP, weight, chunk_bytes=1000)
    dataset = daskgd.open_dataset(tmp_path / "d.zarr", block_bytes=1000)
    est = daskgd.LogisticRegression(tol=1e-10).fit(dataset)
    reference = daskgd.LogisticRegression(tol=1e-10).fit(XP, YP, weight)
    np.testing.assert_allclose(parameters(est), parameters(reference), rtol=1e-9)
    assert est.score(dataset) == pytest.approx(reference.score(XP, YP, weight), rel=1e-12)

    train, test = dataset.train_test_split(0.3, random_state=5)
    est.fit(train)
    reference.fit(*map(np.asarray, (train.X, dataset.classes[train.y], train.sample_weight)))
    np.testing.assert_allclose(parameters(est), parameters(reference), rtol=1e-9)
    assert est.score(test) == pytest.approx(
        reference.score(*map(np.asarray, (test.X, dataset.classes[test.y], test.sample_weight)))
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8", "int8", "int16", "int64", "bool"])
def test_dtypes(rng, dtype):
    X = rng.integers(0, 2 if dtype == "bool" else 50, size=(300, 3)).astype(dtype)
    y = X.astype(float) @ [1.0, -2.0, 0.5] + 3
    est = daskgd.Ridge(1e-3, tol=1e-12).fit(X, y)
    theirs = linear_model.Ridge(1e-3).fit(X.astype(float), y)
    np.testing.assert_allclose(est.coef_, theirs.coef_, rtol=1e-4)


# -- settings -----------------------------------------------------------------------------------


def test_nested_parameters_clone_and_pickle():
    est = daskgd.LinearRegression(solver=daskgd.GradientDescent(step=0.1))
    est.set_params(solver__step=0.5, max_iter=3, tol=0)
    assert est.get_params()["solver__step"] == 0.5
    with pytest.raises(ValueError, match="no setting 'pace'"):
        est.set_params(solver__pace=1)
    for solver in ("auto", "fista"):
        with pytest.raises(ValueError, match=rf"expected solver to be an object.* got '{solver}'; pass one"):
            daskgd.Ridge(solver=solver).set_params(solver__step=0.5)
    assert daskgd.Ridge().set_params(solver=daskgd.FISTA(), solver__step=0.5).solver.step == 0.5
    twin = clone(est)
    assert twin.solver is not est.solver
    assert twin.solver == est.solver
    est.fit(XP, XP[:, 0])
    again = pickle.loads(pickle.dumps(est))
    assert (again.predict(XP) == est.predict(XP)).all()


def test_warm_start_goes_on_where_it_stopped():
    X, y = standardised(load_breast_cancer)
    est = daskgd.LogisticRegression(tol=1e-8, warm_start=True, solver="lbfgs").fit(X, y)
    first = est.n_iter_
    assert est.fit(X, y).n_iter_ < first / 4
    with pytest.raises(ValueError, match="warm_start: expected data like"):
        est.fit(X[:, :3], y)


def test_random_state_chooses_the_batches():
    def fit(state):
        solver = daskgd.LocalGD(step=0.1, local_steps=5, batch_size=10)
        est = daskgd.LogisticRegression(solver=solver, random_state=state, max_iter=3, tol=0)
        return parameters(est.fit(XP, YP))

    assert (fit(None) == fit(0)).all()
    assert (fit(1) == fit(1)).all()
    assert (fit(0) != fit(1)).any()


def test_verbose_prints_a_line_per_iteration(capsys):
    daskgd.LogisticRegression(verbose=1, max_iter=3, tol=0).fit(XP, YP)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("LogisticRegression: iteration") for line in lines)


def test_history_counts_what_it_cost(tmp_path):
    daskgd.write_dataset(tmp_path / "h.zarr", XP, YP)
    dataset = daskgd.open_dataset(tmp_path / "h.zarr")
    est = daskgd.LogisticRegression(solver="lbfgs").fit(dataset)
    keys = {"iteration", "loss", "gradient_norm", "gap", "seconds", "bytes", "sweeps", "wire_bytes"}
    assert all(keys <= set(row) for row in est.history_)
    assert est.history_.column("iteration") == list(range(1, est.n_iter_[0] + 1))
    assert est.history_[-1]["sweeps"] == est.n_sweeps_
    assert est.history_[-1]["bytes"] == est.n_sweeps_ * dataset.nbytes
    assert np.diff(est.history_.column("seconds")).min() > 0
    assert np.diff(est.history_.column("loss")).max() < 1e-9


def test_together_is_each_alone_and_reads_once():
    grid = [daskgd.LogisticRegression(C=C) for C in (0.01, 1.0, 100.0)]
    members = [*grid, daskgd.LinearSVC(), daskgd.Perceptron(max_iter=4, tol=0)]
    alone = [clone(est).fit(XP, YP) for est in members]
    shared = daskgd.together(members, XP, YP)
    for a, b in zip(alone, shared, strict=True):
        assert (parameters(a) == parameters(b)).all()
        assert a.n_sweeps_ == b.n_sweeps_


# -- what is refused ----------------------------------------------------------------------------


def unreadable() -> None:
    raise AssertionError("this should not be read")


CLASSIFIER, REGRESSOR = daskgd.LogisticRegression, daskgd.LinearRegression
REFUSED_PARAMETERS = [
    (CLASSIFIER, {"C": -1.0}),
    (CLASSIFIER, {"C": "1"}),
    (CLASSIFIER, {"C": np.nan}),
    (CLASSIFIER, {"tol": -1}),
    (CLASSIFIER, {"max_iter": -1}),
    (CLASSIFIER, {"max_iter": 1.5}),
    (CLASSIFIER, {"solver": "liblinear"}),
    (CLASSIFIER, {"memory": 1.5}),
    (CLASSIFIER, {"engine": "spark"}),
    (CLASSIFIER, {"random_state": "a"}),
    (CLASSIFIER, {"random_state": np.random.Generator}),
    (CLASSIFIER, {"random_state": True}),
    (CLASSIFIER, {"verbose": -1}),
    (CLASSIFIER, {"verbose": 1.5}),
    (CLASSIFIER, {"fit_intercept": "yes"}),
    (CLASSIFIER, {"scale": 2}),
    (CLASSIFIER, {"warm_start": 3}),
    (CLASSIFIER, {"class_weight": "even"}),
    (CLASSIFIER, {"dual": "auto"}),
    (CLASSIFIER, {"intercept_scaling": 0}),
    (REGRESSOR, {"n_jobs": 2}),
    (daskgd.Ridge, {"alpha": -1.0}),
    (daskgd.LinearSVC, {"loss": "log"}),
    (daskgd.LinearSVC, {"multi_class": "crammer_singer"}),
    (daskgd.Perceptron, {"eta0": 0}),
    (daskgd.Perceptron, {"early_stopping": True}),
]


@pytest.mark.parametrize(
    ("kind", "bad"), REFUSED_PARAMETERS, ids=lambda v: str(v) if isinstance(v, dict) else ""
)
def test_bad_parameters_are_named_before_anything_is_read(kind, bad):
    (name,) = bad
    unread = da.from_delayed(dask.delayed(unreadable)(), shape=(10, 2), dtype=float)
    with pytest.raises(ValueError, match=name):
        kind(**bad).fit(unread, unread[:, 0])


def test_a_loss_that_a_solver_cannot_do_is_refused_with_what_can():
    unread = da.from_delayed(dask.delayed(unreadable)(), shape=(10, 2), dtype=float)
    for est, what in (
        (daskgd.LinearSVC(loss="hinge", solver="lbfgs"), r"Hinge\(.* and a smooth penalty"),
        (daskgd.Perceptron(solver="lbfgs"), r"Perceptron.* and a smooth penalty"),
        (daskgd.QuantileRegressor(solver="lbfgs"), r"Quantile\(.* and a penalty with L1"),
        (daskgd.Ridge(solver=daskgd.LBFGS(), positive=True), r"Squared\(\) and positive=True"),
    ):
        with pytest.raises(ValueError, match=rf"one for {what}, got LBFGS.*; use 'auto' or ") as caught:
            est.fit(unread, unread[:, 0])
        for solver in re.findall(r"'(\w+)'", str(caught.value)):
            est.set_params(solver=solver)._check_parameters()
    est = daskgd.LinearSVC(loss="hinge", solver=daskgd.GradientDescent(step=0.1), max_iter=200, tol=0)
    assert est.fit(XP, YP).score(XP, YP) > 0.8


def spoiled(array: Any, row: int, value: Any) -> Any:
    out = np.array(array, dtype=float)
    out[row] = value
    return out


NUMBERS = (YP == "yes").astype(int)
REFUSED_DATA = {
    "lengths": (CLASSIFIER, lambda: (XP, YP[:-1]), "y: expected 200 rows.* got 199"),
    "weights' length": (CLASSIFIER, lambda: (XP, YP, np.ones(3)), "sample_weight: expected 200 rows.* got 3"),
    "no rows": (CLASSIFIER, lambda: (da.from_array(XP[:0]), da.from_array(YP[:0])), "at least one row"),
    "no features": (CLASSIFIER, lambda: (da.from_array(XP)[:, :0], da.from_array(YP)), "one feature"),
    "NaN": (CLASSIFIER, lambda: (spoiled(XP, 57, np.nan), YP), "X contains NaN.* row 57, column 0"),
    "infinity": (
        CLASSIFIER,
        lambda: (da.from_array(spoiled(XP, 99, -np.inf), chunks=(7, 2)), YP),
        "X contains infinity.* row 99, column 0",
    ),
    "NaN in y": (REGRESSOR, lambda: (XP, spoiled(XP[:, 0], 3, np.nan)), "y contains NaN.* row 3"),
    "NaN label": (CLASSIFIER, lambda: (XP, spoiled(NUMBERS, 3, np.nan)), "y contains NaN.* row 3"),
    "one class": (CLASSIFIER, lambda: (XP, np.full(200, "spam")), "only one class: 'spam'"),
    "one class, lazily": (CLASSIFIER, lambda: (XP, da.zeros(200, dtype=int)), "only one class: 0"),
    "numbers for labels": (CLASSIFIER, lambda: (XP, XP[:, 0]), "Unknown label type: continuous"),
    "numbers for labels, lazily": (
        CLASSIFIER,
        lambda: (XP, da.from_array(XP[:, 0])),
        "class labels, got .* row 0",
    ),
    "labels for numbers": (REGRESSOR, lambda: (XP, YP), "y: expected numbers"),
    "negative weight": (
        CLASSIFIER,
        lambda: (XP, YP, spoiled(np.ones(200), 9, -1)),
        "weights >= 0, got -1.0 in row 9",
    ),
    "weights all zero": (CLASSIFIER, lambda: (XP, YP, np.zeros(200)), "all zero"),
    "weight of text": (CLASSIFIER, lambda: (XP, YP, "2"), "sample_weight: expected an array"),
    "no target": (CLASSIFIER, lambda: (XP,), "requires y"),
    "one dimension": (CLASSIFIER, lambda: (XP[:, 0], YP), "Expected 2D array"),
    "complex": (REGRESSOR, lambda: (da.from_array(XP + 1j), XP[:, 0]), "real numbers"),
    "strings": (REGRESSOR, lambda: (da.from_array(np.full((9, 2), "a")), np.ones(9)), "real numbers"),
    "path": (CLASSIFIER, lambda: ("/nowhere/at/all.zarr",), "/nowhere/at/all.zarr"),
    "class_weight": (
        lambda: CLASSIFIER(class_weight={"maybe": 2}),
        lambda: (XP, YP),
        "class_weight.*'maybe'",
    ),
}


@pytest.mark.parametrize("name", REFUSED_DATA)
def test_bad_data_is_named_and_nothing_is_lost(name):
    kind, data, message = REFUSED_DATA[name]
    est = kind()
    with pytest.raises(ValueError, match=message):
        est.fit(*data())
    assert not hasattr(est, "coef_")


def test_a_failed_refit_keeps_the_model():
    est = CLASSIFIER().fit(XP, YP)
    before = est.coef_.copy()
    with pytest.raises(ValueError, match="contains NaN"):
        est.fit(spoiled(XP, 0, np.nan), YP)
    assert (est.coef_ == before).all()


def test_scores_of_bad_rows_are_refused():
    est = daskgd.Ridge().fit(XP, XP[:, 0])
    for data, message in (
        ((XP, spoiled(XP[:, 0], 3, np.nan)), "y contains NaN.* row 3"),
        ((spoiled(XP, 5, np.nan), XP[:, 0]), "X contains NaN.* row 5"),
        ((da.from_array(spoiled(XP, 5, np.inf), chunks=9), XP[:, 0]), "X contains infinity.* row 5"),
        ((XP, XP[:, 0], np.zeros(200)), "all zero"),
        ((XP, XP[:, 0], -np.ones(200)), "got -1.0 in row 0"),
        ((XP, XP[:, :2]), "expected 1 targets, as in the fit, got 2"),
    ):
        with pytest.raises(ValueError, match=message):
            est.score(*data)
    _, nobody = daskgd.as_dataset(XP, XP[:, 0]).train_test_split(1e-9)
    with pytest.raises(ValueError, match="at least one row"):
        est.score(nobody)


def test_lazy_predictions_of_bad_rows_are_refused():
    est = CLASSIFIER().fit(XP, YP)
    lazy = est.predict(da.from_array(spoiled(XP, 5, np.nan), chunks=50))
    with pytest.raises(ValueError, match=r"contains NaN.* row 5 of block 0, column 0"):
        lazy.compute()


def test_features_by_other_names_are_refused(tmp_path):
    est = CLASSIFIER().fit(FRAME, YP)
    other = FRAME[list("dcba")]
    daskgd.write_dataset(tmp_path / "other.zarr", other, YP)
    for data in (other, dd.from_pandas(other, npartitions=2), str(tmp_path / "other.zarr")):
        with pytest.raises(ValueError, match="feature names should match"):
            est.predict(data)
    with pytest.raises(ValueError, match="feature names should match"):
        est.score(tmp_path / "other.zarr")


def test_together_does_not_depend_on_the_order():
    y = NUMBERS[:, None].astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's advice on column vectors
        a, _ = daskgd.together([daskgd.Ridge(), CLASSIFIER()], XP, y)
        _, b = daskgd.together([CLASSIFIER(), daskgd.Ridge()], XP, y)
    assert a.coef_.shape == b.coef_.shape == (4,)
    assert np.shape(a.intercept_) == np.shape(b.intercept_) == (1,)


def test_prediction_refuses_what_does_not_fit():
    with pytest.raises(NotFittedError):
        CLASSIFIER().predict(XP)
    est = CLASSIFIER().fit(XP, YP)
    for wrong in (XP[:, :2], da.from_array(XP[:, :2])):
        with pytest.raises(ValueError, match="X has 2 features, but LogisticRegression is expecting 4"):
            est.predict(wrong)


@pytest.mark.parametrize("step", [5.0, 1e6, 1e200])
def test_divergence_with_tol_0_warns_and_keeps_the_best(step):
    with pytest.warns(ConvergenceWarning, match="diverged"):
        est = daskgd.LinearRegression(solver=daskgd.GradientDescent(step=step), tol=0, max_iter=300).fit(
            XP, XP[:, 0]
        )
    assert est.outcome_ == "diverged"
    assert np.isfinite(est.coef_).all()
    assert est.score(XP, XP[:, 0]) >= -1e-3  # no worse than the mean, where it began


@pytest.mark.parametrize("step", [5.0, 1e6, 1e200])
def test_a_step_too_long_is_halved_and_the_warning_says_to_what(step):
    with pytest.warns(
        ConvergenceWarning, match=r"without bound with step=.*halved \d+ times?, and a step of"
    ):
        est = daskgd.LinearRegression(solver=daskgd.GradientDescent(step=step), max_iter=5000).fit(
            XP, XP[:, 0]
        )
    assert est.outcome_ == "converged"
    worked = est.history_[-1]["step"]
    assert worked == step / 2.0 ** round(np.log2(step / worked))
    again = daskgd.LinearRegression(solver=daskgd.GradientDescent(step=worked), max_iter=5000).fit(
        XP, XP[:, 0]
    )
    np.testing.assert_allclose(again.coef_, est.coef_, atol=1e-5)  # from the start, without a warning


def test_not_converged_says_so_with_the_gap():
    with pytest.warns(ConvergenceWarning, match=r"lbfgs failed to converge in max_iter=6 .* gap \d"):
        CLASSIFIER(max_iter=6, solver="lbfgs").fit(XP, YP)


def test_an_interrupt_keeps_the_best_so_far():
    class Interrupted:
        def __init__(self, dataset):
            self.inner, self.nbytes, self.sweeps = Serial(dataset.source), 0, 0

        def sweep(self, asks):
            self.sweeps += 1
            if self.sweeps == 6:
                raise KeyboardInterrupt
            return self.inner.sweep(asks)

    est = CLASSIFIER(engine=Interrupted, tol=0, solver="lbfgs")
    with pytest.raises(KeyboardInterrupt):
        est.fit(XP, YP)
    assert est.outcome_ == "interrupted"
    assert est.n_iter_ == len(est.history_) > 0
    assert est.score(XP, YP) > 0.7


def test_an_early_interrupt_of_a_refit_keeps_the_whole_model():
    class Interrupted:
        nbytes = 0

        def __init__(self, dataset):
            self.inner, self.sweeps = Serial(dataset.source), 0

        def sweep(self, asks):
            self.sweeps += 1
            if self.sweeps == 2:
                raise KeyboardInterrupt
            return self.inner.sweep(asks)

    est = CLASSIFIER().fit(XP, YP)
    before = est.predict(XP)
    with pytest.raises(KeyboardInterrupt):
        est.set_params(engine=Interrupted, solver="lbfgs").fit(XP, np.where(YP == "yes", "apple", "pear"))
    assert (est.predict(XP) == before).all()


# -- regimes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("est", "regime", "solver"),
    [
        (daskgd.LogisticRegression(), "auto", "SubsampledNewton"),
        (daskgd.LogisticRegression(), "parallel", "SubsampledNewton"),
        (daskgd.LogisticRegression(), "distributed", "GIANT"),
        (daskgd.LogisticRegression(l1_ratio=1.0), "distributed", "ADMM"),
        (daskgd.Ridge(), "distributed", "GIANT"),
        (daskgd.LinearSVR(max_iter=3), "distributed", "LocalSGD"),
        (daskgd.Perceptron(max_iter=3), "auto", "Pocket"),
        (daskgd.MLPClassifier((3,), max_iter=3), "parallel", "LBFGS"),
        (daskgd.MLPClassifier((3,), max_iter=3), "distributed", "LocalSGD"),
    ],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_regime_chooses_a_solver_and_says_so(est, regime, solver):
    est, y = clone(est).set_params(regime=regime), (YP[0] == YP).astype(float)
    plan = str(est.plan(XP, y))
    est.fit(XP, y)
    assert est.history_.solver.startswith(f"{solver}(")
    assert est.history_.regime == (
        "distributed" if solver in ("GIANT", "ADMM", "LocalGD", "LocalSGD", "Pocket") else "parallel"
    )
    assert f"({est.history_.regime})" in plan


@pytest.mark.parametrize(
    ("est", "regime", "words"),
    [
        (
            daskgd.LogisticRegression(solver="lbfgs"),
            "distributed",
            r"is distributed, as regime says, got LBFGS",
        ),
        (daskgd.LogisticRegression(solver="giant"), "parallel", r"is parallel, as regime says, got GIANT"),
        (daskgd.Perceptron(), "parallel", r"got Pocket"),
        (daskgd.Ridge(), "both", r"expected regime to be 'auto' or 'parallel' or 'distributed', got 'both'"),
    ],
)
def test_a_solver_of_the_other_regime_is_refused(est, regime, words):
    with pytest.raises(ValueError, match=words):
        clone(est).set_params(regime=regime).fit(XP, YP[0] == YP)


@pytest.mark.parametrize(
    "kind",
    [k for k in vars(daskgd.estimators).values() if isinstance(k, type)],
    ids=lambda kind: kind.__name__,
)
def test_constructors_keep_what_they_are_given(kind):
    names = kind._get_param_names()
    given = {name: object() for name in names}
    est = kind(**given)
    assert all(getattr(est, name) is given[name] for name in names)


def test_a_generator_is_no_random_state() -> None:
    with pytest.raises(ValueError, match="expected random_state to be None, a whole number"):
        daskgd.LogisticRegression(random_state=np.random.default_rng(0)).fit(XP, YP)
