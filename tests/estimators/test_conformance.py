"""Every estimator as scikit-learn wants it: its checks and tools, export, callbacks; and summaries."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.linalg import LinAlgWarning
from sklearn import linear_model, neural_network, svm
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, SkipTestWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator

import daskgd
from daskgd import estimators
from daskgd.estimators.base import FITTED
from daskgd.testing import EXPECTED_FAILURES
from daskgd.testing.estimators import FAILED_THERE
from tests.tiers import slow_but

ESTIMATORS = [name for name in estimators.__all__ if name != "together"]
CLASSIFIERS = [name for name in ESTIMATORS if hasattr(getattr(estimators, name), "decision_function")]

RNG = np.random.default_rng(11)
X = RNG.normal(size=(200, 3)) * [1.0, 10.0, 0.1] + [0.0, 5.0, 1.0]
MEAN = np.exp((X - [0, 5, 1]) @ [0.4, 0.03, 4.0])
COUNTS = RNG.poisson(MEAN).astype(float)
AMOUNTS = RNG.gamma(2.0, MEAN / 2)
LABELS = np.array(["a", "b", "c"])[np.digitize(MEAN * RNG.uniform(0.5, 2, 200), [0.7, 1.5])]
BINARY = np.where(MEAN * RNG.uniform(0.3, 3, 200) > 1, "yes", "no")
S = RNG.integers(0, 4, 200).astype(float)


def target(name: str) -> np.ndarray:
    return LABELS if name in CLASSIFIERS else AMOUNTS


def made(name: str, **params: Any) -> Any:
    return getattr(estimators, name)(**params)


def fitted(name: str, y: Any = None, **params: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return made(name, **params).fit(X, target(name) if y is None else y)


# -- scikit-learn's checks ------------------------------------------------------------------------


MANY_STEPS = (
    "MLPClassifier",
    "MLPRegressor",
    "Perceptron",
    "LinearSVR",
    "QuantileRegressor",
    "SGDClassifier",
    "SGDRegressor",
)


@pytest.mark.parametrize("name", slow_but(ESTIMATORS, *(set(ESTIMATORS) - set(MANY_STEPS))))
def test_scikit_learns_checks(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = check_estimator(
            made(name), expected_failed_checks=EXPECTED_FAILURES.get(name, {}), on_fail=None, on_skip=None
        )
    failed = {r["check_name"]: r["exception"] for r in found if r["status"] == "failed"}
    assert not failed
    assert set(EXPECTED_FAILURES.get(name, {})) <= {r["check_name"] for r in found}


def test_expected_failures_are_of_estimators_there_are():
    assert set(EXPECTED_FAILURES) <= set(ESTIMATORS)
    claimed = {(name, check) for name, checks in EXPECTED_FAILURES.items() for check in checks}
    assert {(name, check) for name, _, check in FAILED_THERE} <= claimed


def run_check(check: str, estimator: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(estimator_checks, check)(type(estimator).__name__, estimator)


@pytest.mark.parametrize(("name", "params", "check"), FAILED_THERE)
def test_what_scikit_learns_own_fail_too(name, params, check):
    theirs = getattr(neural_network if name.startswith("MLP") else linear_model, name)
    with pytest.raises(AssertionError):
        run_check(check, theirs(**params))


def test_a_regressor_without_standardised_features_keeps_to_weights():
    for estimator in (daskgd.MLPRegressor(scale=False), neural_network.MLPRegressor(solver="lbfgs")):
        run_check("check_sample_weight_equivalence_on_dense_data", estimator)
        run_check("check_sample_weight_equivalence_on_sparse_data", estimator)


# -- its tools ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ESTIMATORS)
def test_pipelines_clones_and_pickles(name):
    pipe = make_pipeline(StandardScaler(), made(name, max_iter=7))
    pipe.set_params(**{f"{name.lower()}__solver": daskgd.GradientDescent(step=0.5)})
    pipe.set_params(**{f"{name.lower()}__solver__step": 0.25})
    assert clone(pipe)[-1].get_params()["solver__step"] == 0.25
    pipe = make_pipeline(StandardScaler(), made(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        pipe.fit(X, target(name))
    again = pickle.loads(pickle.dumps(pipe))
    assert (again.predict(X) == pipe.predict(X)).all()
    assert again.score(X, target(name)) == pipe.score(X, target(name))


def test_grid_search():
    search = GridSearchCV(daskgd.LogisticRegression(), {"C": [1e-4, 1.0], "l1_ratio": [0.0, 1.0]}, cv=3)
    assert search.fit(X, BINARY).best_params_["C"] == 1.0
    assert search.best_score_ > 0.6


# -- random numbers, and what is left of an earlier fit ----------------------------------------------


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_fits_set_is_known(name):
    """So that a refit leaves nothing of an earlier fit, and what a subclass has set."""
    est = made(name)
    est.mine_ = "set by a subclass before the fit"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        est.fit(X, target(name))
        if hasattr(est, "partial_fit"):
            est.partial_fit(X, target(name))
        found = {key for key in vars(est) if key.endswith("_") and key[0] != "_"}
        assert found - {"n_features_in_", "feature_names_in_", "mine_"} <= FITTED
        assert est.fit(X, target(name)).mine_ == "set by a subclass before the fit"


def drawing(name: str, seed: Any) -> Any:
    """An estimator whose fit depends on its seed."""
    params = {} if name.startswith("MLP") else {"solver": daskgd.SGD(step=1e-3, steps=2)}
    return made(name, random_state=seed, max_iter=2, tol=0, **params)


@pytest.mark.parametrize("name", ["LogisticRegression", "Ridge", "MLPClassifier", "MLPRegressor"])
def test_a_generator_of_random_numbers_gives_each_fit_one(name):
    """The fits of a RandomState are those of the whole numbers that it draws, one after the other."""
    rows = daskgd.as_dataset(X, target(name)).replace(block_bytes=600)
    source, twin = np.random.RandomState(5), np.random.RandomState(5)
    numbers = [twin.randint(2**31 - 1) for _ in range(2)]
    drawn = [parameters(drawing(name, source).fit(rows)) for _ in numbers]
    given = [parameters(drawing(name, number).fit(rows)) for number in numbers]
    assert all(map(np.array_equal, drawn, given))
    assert not np.array_equal(*drawn)
    pair = daskgd.together([drawing(name, np.random.RandomState(5)), drawing(name, numbers[0])], rows)
    assert np.array_equal(*map(parameters, pair))


def parameters(est: Any) -> Any:
    return np.concatenate([np.ravel(W) for W in getattr(est, "coefs_", getattr(est, "coef_", None))])


def test_a_fit_with_a_generator_is_resumed(tmp_path):
    def made_anew(**params: Any) -> Any:
        return daskgd.MLPClassifier((3,), random_state=np.random.RandomState(1), **params)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole = made_anew(max_iter=4).fit(X, LABELS)
        made_anew(max_iter=2).fit(X, LABELS, checkpoint=tmp_path)
        again = made_anew(max_iter=4).fit(X, LABELS, checkpoint=tmp_path)
    assert np.array_equal(parameters(again), parameters(whole))
    with pytest.raises(daskgd.CheckpointError, match="random_state was a RandomState with digest"):
        daskgd.MLPClassifier((3,), random_state=np.random.RandomState(2)).fit(X, LABELS, checkpoint=tmp_path)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_no_attribute_of_an_earlier_fit_survives(name):
    est = fitted(name, max_iter=2)
    names = set(vars(est))
    for left_over in FITTED - names:
        if not hasattr(type(est), left_over):
            setattr(est, left_over, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert set(vars(est.fit(X, target(name)))) == names


# -- export -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_exports_predict_the_same(name, intercept):
    if not intercept and "fit_intercept" not in made(name).get_params():
        pytest.skip("its intercepts are not optional")
    params = {} if intercept else {"fit_intercept": False}
    targets = [LABELS, BINARY] if name in CLASSIFIERS else [AMOUNTS]
    if name in ("LinearRegression", "Ridge", "MLPRegressor"):
        targets.append(np.column_stack([AMOUNTS, COUNTS]))
    for y in targets:
        ours = fitted(name, y, **params)
        theirs = ours.to_sklearn()
        assert type(theirs).__module__.startswith("sklearn.")
        assert type(theirs).__name__ == name
        for method in ("predict", "decision_function", "predict_proba"):
            if hasattr(theirs, method):
                got, expected = getattr(theirs, method)(X), getattr(ours, method)(X)
                assert got.shape == expected.shape
                if got.dtype.kind == "f":
                    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)
                else:
                    assert (got == expected).all()
        assert theirs.score(X, y) == pytest.approx(ours.score(X, y), rel=1e-9, abs=1e-12)
        there = next(getattr(m, name) for m in (linear_model, neural_network, svm) if hasattr(m, name))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            native = there(**params).fit(X, y)
            clone(theirs).fit(X, y)
        for attribute in ("coef_", "intercept_", "n_iter_", "n_layers_", "classes_", "n_features_in_"):
            a, b = (getattr(est, attribute, "none") for est in (native, theirs))
            assert np.shape(a) == np.shape(b), attribute
            assert np.asarray(a).dtype == np.asarray(b).dtype, attribute


def test_exports_need_no_daskgd(tmp_path):
    (tmp_path / "m").write_bytes(pickle.dumps([fitted(name).to_sklearn() for name in ESTIMATORS]))
    code = (
        "import sys, pickle; sys.modules['daskgd'] = None; print(len(pickle.load(open(sys.argv[1], 'rb'))))"
    )
    run = [sys.executable, "-c", code, str(tmp_path / "m")]
    out = subprocess.run(run, capture_output=True, text=True, check=True)
    assert int(out.stdout) == len(ESTIMATORS)


def test_exports_keep_names_and_penalties():
    frame = pd.DataFrame(X, columns=["u", "v", "w"])
    est = daskgd.LogisticRegression(l1_ratio=1, C=0.5).fit(frame, BINARY).to_sklearn()
    assert est.feature_names_in_.tolist() == ["u", "v", "w"]
    assert (est.l1_ratio, est.C, est.solver) == (1.0, 0.5, "saga")
    assert fitted("HuberRegressor").to_sklearn().scale_ > 0


# -- callbacks ----------------------------------------------------------------------------------------

try:
    from sklearn import callback
except ImportError:
    callback = None
needs_callbacks = pytest.mark.skipif(callback is None, reason="scikit-learn before 1.9 has no callbacks")


class Recorder:
    """A callback that keeps what it is told, and asks to stop after an iteration."""

    def __init__(self, last: int | None = None) -> None:
        self.last, self.events, self.scores = last, [], []

    def setup(self, estimator: Any, context: Any) -> None:
        self.events.append("setup")

    def teardown(self, estimator: Any, context: Any) -> None:
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        self.events.append(f"begin {context.task_name} {context.task_id}")

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, X: Any = None, y: Any = None, fitted_estimator: Any = None
    ) -> bool:
        self.events.append(f"end {context.task_name} {context.task_id}")
        if context.task_name != "iteration":
            return False
        self.scores.append(fitted_estimator.score(X, y))
        return context.task_id == self.last


SLOW: dict[str, Any] = {"solver": daskgd.GradientDescent(step=0.01), "tol": 0, "max_iter": 5}


@needs_callbacks
def test_a_task_for_each_iteration():
    seen = Recorder()
    est = daskgd.LogisticRegression(**SLOW).set_callbacks(seen).fit(X, LABELS)
    tasks = [f"{what} iteration {i}" for i in range(est.n_iter_[0]) for what in ("begin", "end")]
    assert seen.events == ["setup", "begin fit 0", *tasks, "end fit 0", "teardown"]
    assert len(seen.scores) == est.n_iter_ == 5
    assert seen.scores[-1] == est.score(X, LABELS)


@needs_callbacks
def test_a_callback_stops_a_fit():
    seen = Recorder(last=1)
    est = daskgd.LogisticRegression(**SLOW).set_callbacks(seen).fit(X, LABELS)
    assert (est.outcome_, est.n_iter_, len(est.history_)) == ("stopped", 2, 2)
    a, b = daskgd.together(
        [
            daskgd.LogisticRegression(**SLOW).set_callbacks(Recorder(last=1)),
            daskgd.LogisticRegression(**SLOW),
        ],
        X,
        LABELS,
    )
    assert (a.n_iter_, b.n_iter_) == (2, 5)
    assert (a.coef_ == est.coef_).all()


@needs_callbacks
def test_callbacks_clean_up_after_failures():
    seen = Recorder()
    with pytest.raises(ValueError, match="NaN"):
        daskgd.LogisticRegression().set_callbacks(seen).fit(np.full_like(X, np.nan), LABELS)
    assert seen.events[-1] == "teardown"


WITH_CALLBACKS = ("Ridge", "LogisticRegression", "MLPClassifier", "Perceptron")


@needs_callbacks
@pytest.mark.parametrize("name", slow_but(ESTIMATORS, *WITH_CALLBACKS))
def test_scikit_learns_own_callbacks(name, tmp_path, client):
    assert callback is not None
    monitor = callback.ScoringMonitor(scoring="accuracy" if name in CLASSIFIERS else "r2")
    daskgd.write_dataset(tmp_path / "d.zarr", X, target(name))
    for data in ((X, target(name)), (tmp_path / "d.zarr",)):
        est = made(name, max_iter=3).set_callbacks(monitor, callback.ProgressBar())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            est.fit(*data)
        data_rows = [row for row in monitor.get_logs().data if row["task_name"] == "iteration"]
        assert len(data_rows) == est.n_iter_


# -- summaries ------------------------------------------------------------------------------------------


def raw(y: np.ndarray, mean: np.ndarray, curve: np.ndarray, s: np.ndarray, phi: Any) -> tuple[Any, float]:
    """Standard errors of intercept and coefficients, from the curvature of each row's loss."""
    A = np.column_stack([np.ones(len(X)), X])
    dispersion = phi(y, mean, s.sum() - A.shape[1])
    return np.sqrt(dispersion * np.diag(np.linalg.inv((A * (s * curve)[:, None]).T @ A))), dispersion


SUMMARIES: dict[str, Any] = {
    "LinearRegression": ({}, AMOUNTS + 1e6, lambda y, m: np.ones_like(m), 0.0),
    "LogisticRegression": ({"C": np.inf}, BINARY, lambda y, m: m * (1 - m), None),
    "PoissonRegressor": ({"alpha": 0}, COUNTS, lambda y, m: m, None),
    "GammaRegressor": ({"alpha": 0}, AMOUNTS, lambda y, m: y / m, 2.0),
    "TweedieRegressor": (
        {"alpha": 0, "power": 1.5},
        AMOUNTS,
        lambda y, m: 0.5 * m**0.5 + 0.5 * y * m**-0.5,
        1.5,
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", SUMMARIES)
def test_standard_errors_are_the_textbooks(name, weighted, dtype):
    params, y, curve, power = SUMMARIES[name]
    s = S if weighted else np.ones(len(X))
    data = (X.astype(dtype), y, s)
    tol = 1e-12 if dtype == "float64" else 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        est = made(name, tol=tol, **params).fit(*data)
    got = est.summary(*data)
    mean = est.predict_proba(X)[:, 1] if name in CLASSIFIERS else est.predict(X)
    numbers = (y == "yes").astype(float) if name in CLASSIFIERS else y

    def phi(y: Any, m: Any, degrees: float) -> float:
        return 1.0 if power is None else float(s @ ((y - m) ** 2 / m**power)) / degrees

    errors, dispersion = raw(numbers, mean, curve(numbers, mean), s, phi)
    close = 1e-7 if dtype == "float64" else 1e-3
    np.testing.assert_allclose(got.standard_errors, errors, rtol=close)
    assert got.dispersion == pytest.approx(dispersion, rel=close)
    values = np.append(np.ravel(est.intercept_), np.ravel(est.coef_))
    np.testing.assert_allclose(got.coefficients, values)
    np.testing.assert_allclose(got.statistics, values / got.standard_errors)
    law: Any = stats.t(s.sum() - 4) if name == "LinearRegression" else stats.norm
    np.testing.assert_allclose(got.p_values, 2 * law.sf(np.abs(got.statistics)))
    np.testing.assert_allclose(law.cdf((got.intervals[:, 1] - values) / got.standard_errors), 0.975)
    assert got.names == ("intercept", "x0", "x1", "x2")


@pytest.mark.parametrize("name", ["PoissonRegressor", "GammaRegressor"])
def test_summaries_know_offsets(name):
    o = np.random.default_rng(2).normal(size=len(X))
    y = AMOUNTS * np.exp(o)
    est = made(name, alpha=0, tol=1e-12).fit(X, y, offset=o)
    got = est.summary(X, y, offset=o)
    m = est.predict(X, offset=o)
    A = np.column_stack([np.ones(len(X)), X])
    H = (A * (m if name == "PoissonRegressor" else y / m)[:, None]).T @ A
    phi = 1.0 if name == "PoissonRegressor" else np.sum((y - m) ** 2 / m**2) / (len(X) - 4)
    np.testing.assert_allclose(got.standard_errors, np.sqrt(phi * np.diag(np.linalg.inv(H))), rtol=1e-6)
    with pytest.raises(ValueError, match="expected an offset"):
        est.summary(X, y)


def test_summaries_without_an_intercept_and_by_other_confidence():
    est = daskgd.LinearRegression(fit_intercept=False).fit(X, AMOUNTS)
    got = est.summary(X, AMOUNTS, confidence=0.5)
    r = AMOUNTS - X @ est.coef_
    expected = np.sqrt(np.diag(np.linalg.inv(X.T @ X)) * (r @ r) / (len(X) - 3))
    np.testing.assert_allclose(got.standard_errors, expected)
    np.testing.assert_allclose(
        got.intervals[:, 1] - est.coef_, stats.t(len(X) - 3).ppf(0.75) * got.standard_errors
    )


def test_summaries_read_stored_rows_again(tmp_path):
    daskgd.write_dataset(tmp_path / "d.zarr", X, BINARY, S, chunk_bytes=1000)
    dataset = daskgd.open_dataset(tmp_path / "d.zarr", block_bytes=1000)
    est = daskgd.LogisticRegression(C=np.inf).fit(dataset)
    a = pickle.loads(pickle.dumps(est)).summary()
    b = est.summary(X, BINARY, S)
    np.testing.assert_allclose(a.standard_errors, b.standard_errors)
    half, _ = dataset.train_test_split(0.5)
    assert est.fit(half).summary().weight < 0.7 * a.weight
    daskgd.write_dataset(tmp_path / "d.zarr", X, LABELS, overwrite=True)
    with pytest.raises(ValueError, match="written again"):
        est.summary()


def test_summaries_of_what_the_data_do_not_determine():
    twice = np.column_stack([X, X[:, 0], np.ones(len(X))])
    est = daskgd.LinearRegression().fit(twice, AMOUNTS)
    with pytest.warns(LinAlgWarning, match="do not determine intercept, x0, x3, x4"):
        got = est.summary(twice, AMOUNTS)
    assert np.isinf(got.standard_errors).tolist() == [True, True, False, False, True, True]
    assert (got.p_values[[0, 1, 4, 5]] == 1).all()
    plain = daskgd.LinearRegression().fit(X, AMOUNTS).summary(X, AMOUNTS)
    np.testing.assert_allclose(got.standard_errors[2:4], plain.standard_errors[2:])


def test_summaries_show_themselves():
    frame = pd.DataFrame(X, columns=["age", "<b>", "height"])
    got = daskgd.LinearRegression().fit(frame, AMOUNTS).summary(frame, AMOUNTS)
    assert repr(got).splitlines()[1].startswith("intercept ")
    assert "&lt;b&gt;" in got._repr_html_()
    table = got.to_pandas()
    assert table.index.tolist() == ["intercept", "age", "<b>", "height"]
    assert table.loc["age", "coefficient"] == got.coefficients[1]


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("Ridge", {}, "without a penalty"),
        ("LogisticRegression", {}, "without a penalty"),
        ("LogisticRegression", {"C": np.inf}, "two classes"),
        ("LogisticRegression", {"C": np.inf, "class_weight": "balanced"}, "class_weight=None"),
        ("LinearSVC", {}, "likelihood"),
        ("PoissonRegressor", {"alpha": 0}, "expected the rows.* pass X, y, sample_weight and offset again"),
        ("LinearRegression", {}, "pass X, y and sample_weight again"),
    ],
)
def test_summaries_that_are_refused(name, params, message):
    est = fitted(name, **params)
    with pytest.raises(ValueError, match=message):
        est.summary()
