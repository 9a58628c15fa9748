"""Fits of any shape: many classes, many features, few rows; the answer is scikit-learn's or better."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as Theirs
from sklearn.svm import LinearSVC as TheirSVC

import daskgd
from daskgd import losses, models, penalties
from daskgd.estimators.fitting.smoothing import condensed
from daskgd.monitoring.events import Iterated, Swept
from daskgd.problems import Problem
from daskgd.queries import Gradient, on
from daskgd.rows.tiles import Rows
from daskgd.solvers.pocket import Pocket
from tests.tiers import slow_but, slow_but_every


def classes_apart(n: int, p: int, k: int, scale: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of k classes, correlated features of many sizes; the larger `scale` the farther apart."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) @ (rng.standard_normal((p, p)) / np.sqrt(p) * np.geomspace(1, 0.01, p))
    W = scale * rng.standard_normal((p, k))
    y = (X @ W + rng.gumbel(size=(n, k))).argmax(axis=1)
    y[:k] = np.arange(k)
    return X * rng.uniform(0.1, 10, p) + rng.uniform(-3, 3, p), y


def objective(model: daskgd.LogisticRegression, X: np.ndarray, y: np.ndarray) -> float:
    """The mean objective at the model's coefficients, in numpy."""
    z = X @ model.coef_.T + model.intercept_
    if z.shape[1] == 1:
        f = np.logaddexp(0, z[:, 0]) - y * z[:, 0]
    else:
        f = logsumexp(z, axis=1) - z[np.arange(len(y)), y]
    norm = np.abs(model.coef_).sum() if model.l1_ratio else 0.5 * (model.coef_**2).sum()
    return float(f.mean() + (norm / (model.C * len(y)) if np.isfinite(model.C) else 0.0))


FEW, MANY = (
    settings(max_examples=n, deadline=None, suppress_health_check=[HealthCheck.too_slow]) for n in (3, 10)
)
SHAPE = given(
    n=st.integers(30, 600),
    p=st.sampled_from([1, 2, 5, 20, 90, 300, 700]),
    k=st.sampled_from([2, 2, 3, 5, 12, 40, 150]),
    C=st.sampled_from([0.01, 1.0, 100.0]),
    l1=st.sampled_from([0.0, 0.0, 1.0]),
    scale=st.sampled_from([0.1, 1.0, 10.0]),
    seed=st.integers(0, 10**6),
)


@FEW
@SHAPE
def test_any_shape_ends_at_the_minimum(
    n: int, p: int, k: int, C: float, l1: float, scale: float, seed: int
) -> None:
    check_minimum(n, p, k, C, l1, scale, seed)


@pytest.mark.slow
@MANY
@SHAPE
def test_any_of_many_shapes_ends_at_the_minimum(
    n: int, p: int, k: int, C: float, l1: float, scale: float, seed: int
) -> None:
    check_minimum(n, p, k, C, l1, scale, seed)


def check_minimum(n: int, p: int, k: int, C: float, l1: float, scale: float, seed: int) -> None:
    X, y = classes_apart(n, p, min(k, n // 3), scale, seed)
    model = daskgd.LogisticRegression(C=C, l1_ratio=l1, tol=1e-5)
    model.fit(X, y)
    assert np.isfinite(model.coef_).all()
    assert np.isfinite(model.intercept_).all()
    assert model.outcome_ == "converged"
    better = daskgd.LogisticRegression(C=C, l1_ratio=l1, tol=1e-10, max_iter=3000, warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rounding may end it short of so small a tol
        better.coef_, better.intercept_ = model.coef_, model.intercept_
        better.fit(X, y)
    f, best = objective(model, X, y), objective(better, X, y)
    assert f - best <= (2 * model.gap_ + 1e-5) * max(f, 1e-3 * model._baseline)


SHAPES = [(600, 250, 5), (2000, 120, 10), (2000, 70, 20), (600, 20, 60), (700, 5, 200), (300, 1200, 2)]
QUICK = [(600, 250, 5, False), (700, 5, 200, True), (300, 1200, 2, False)]


@pytest.mark.parametrize(
    "shape_and_place",
    slow_but([(*shape, stored) for shape in SHAPES for stored in (False, True)], *QUICK),
)
def test_many_parameters_are_scikit_learns(shape_and_place: tuple[int, int, int, bool], tmp_path) -> None:
    n, p, k, stored = shape_and_place
    X, y = classes_apart(n, p, k, 1.0, 3)
    data = (X, y)
    if stored:
        daskgd.write_dataset(tmp_path / "rows.zarr", X, y)
        data = (tmp_path / "rows.zarr",)
    model = daskgd.LogisticRegression(tol=1e-8).fit(*data)
    theirs = Theirs(tol=1e-8, max_iter=20_000).fit(X, y)
    f, other = objective(model, X, y), _their_objective(theirs, X, y)
    assert model.n_sweeps_ == 1
    assert f <= other * (1 + 1e-7)
    np.testing.assert_allclose(
        model.predict_proba(X), theirs.predict_proba(X), atol=5e-3
    )  # scikit-learn's own tolerance


def _their_objective(theirs: Theirs, X: np.ndarray, y: np.ndarray) -> float:
    twin = daskgd.LogisticRegression()
    twin.coef_, twin.intercept_ = theirs.coef_, theirs.intercept_
    return objective(twin, X, y)


@pytest.mark.parametrize("l1_ratio", [0.0, 1.0])
def test_weights_are_rows_twice_with_many_classes(l1_ratio: float) -> None:
    X, y = classes_apart(400, 30, 12, 1.0, 4)
    s = np.random.default_rng(0).integers(0, 3, 400)
    s[:12] = 1
    weighted = daskgd.LogisticRegression(tol=1e-9, l1_ratio=l1_ratio).fit(X, y, sample_weight=s.astype(float))
    repeated = daskgd.LogisticRegression(tol=1e-9, l1_ratio=l1_ratio).fit(X.repeat(s, axis=0), y.repeat(s))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, atol=2e-4)


def test_many_fits_with_many_parameters_share_the_read() -> None:
    X, y = classes_apart(500, 40, 8, 1.0, 5)
    models = [daskgd.LogisticRegression(C=C) for C in (0.1, 1.0, 10.0)]
    daskgd.together(models, X, y)
    for model in models:
        alone = daskgd.LogisticRegression(C=model.C).fit(X, y)
        assert model.n_sweeps_ == 1
        np.testing.assert_allclose(model.coef_, alone.coef_, atol=1e-3 * np.abs(alone.coef_).max())


def test_a_sample_of_many_classes_needs_few_sweeps() -> None:
    X, y = classes_apart(40_000, 20, 15, 1.0, 6)
    solver = daskgd.SubsampledNewton(sample_bytes=20_000 * 160, rows_per_parameter=1)
    model = daskgd.LogisticRegression(solver=solver).fit(X.astype("f4"), y)
    exact = daskgd.LogisticRegression(tol=1e-9).fit(X.astype("f4"), y)
    f, best = objective(model, X, y), objective(exact, X, y)
    assert model.n_sweeps_ <= 6
    assert f - best <= 2 * model.gap_ * f + 1e-6


def test_least_squares_of_many_features() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 2100))
    y = X[:, :9] @ np.arange(9.0) + rng.standard_normal(600)
    ridge = daskgd.Ridge(alpha=5.0, tol=1e-10).fit(X, y)
    K = X - X.mean(axis=0)
    exact = K.T @ np.linalg.solve(K @ K.T + 5.0 * np.eye(600), y - y.mean())
    np.testing.assert_allclose(ridge.coef_, exact, atol=1e-4)


def test_the_perceptron_ends_where_it_no_longer_improves() -> None:
    rng = np.random.default_rng(1)
    X = rng.standard_normal((3000, 8))
    y = X @ rng.standard_normal(8) + 2 * rng.standard_normal(3000) > 0
    model = daskgd.Perceptron(n_iter_no_change=3, tol=0.01).fit(X, y)
    patient = daskgd.Perceptron(n_iter_no_change=10, tol=0.001).fit(X, y)
    assert model.outcome_ == "converged"
    assert model.n_iter_ <= 12
    assert model.n_iter_ < patient.n_iter_ < 1000
    assert patient.score(X, y) >= model.score(X, y) > 0.7


SAMPLED = 10_000 * 80


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> str:
    X, y = classes_apart(16_000, 20, 14, 1.0, 8)
    path = tmp_path_factory.mktemp("shapes") / "rows.zarr"
    daskgd.write_dataset(path, X.astype("f4"), y, chunk_bytes=200_000)
    return str(path)


def of_many_parameters(kind: str, **more: object) -> daskgd.LogisticRegression:
    """A fit of 294 parameters that asks for all rows at once, or for a sample of them."""
    l1 = 1.0 if "l1" in kind else 0.0
    solver = daskgd.ProximalNewton if l1 else daskgd.SubsampledNewton
    settings = {"sample_bytes": SAMPLED, "rows_per_parameter": 1} if "sampled" in kind else {}
    return daskgd.LogisticRegression(l1_ratio=l1, solver=solver(**settings), **more)


ALL = ["complete", "sampled", "complete l1", "sampled l1"]
KINDS = slow_but(ALL, "complete", "sampled l1")


@pytest.mark.parametrize("kind", slow_but(ALL, "complete", "sampled"))
def test_a_fit_of_many_parameters_resumes_to_the_same_bits(kind: str, stored: str, tmp_path) -> None:
    whole = of_many_parameters(kind).fit(stored)
    for kill in (1, 3, 5):
        seen = 0

        def interrupt(event: object, kill: int = kill) -> None:
            nonlocal seen
            seen += isinstance(event, Swept | Iterated)
            if seen == kill:
                raise KeyboardInterrupt

        kept = tmp_path / f"checkpoint-{kill}"
        with pytest.raises(KeyboardInterrupt):
            of_many_parameters(kind).fit(stored, checkpoint=kept, watch=interrupt)
        resumed = of_many_parameters(kind).fit(stored, checkpoint=kept)
        np.testing.assert_array_equal(resumed.coef_, whole.coef_)
        assert (resumed.n_sweeps_, resumed.n_iter_) == (whole.n_sweeps_, whole.n_iter_)


@pytest.mark.cluster
@pytest.mark.parametrize("kind", KINDS)
def test_fits_of_many_parameters_have_the_same_bits_on_any_engine(kind: str, stored: str, client) -> None:
    there = of_many_parameters(kind).fit(stored)
    here = of_many_parameters(kind, engine="serial").fit(stored)
    np.testing.assert_array_equal(there.coef_, here.coef_)
    assert there.n_sweeps_ == here.n_sweeps_


@pytest.mark.parametrize(
    ("estimator", "dtype"),
    slow_but_every(2, [daskgd.LinearSVR(), daskgd.QuantileRegressor(alpha=0.01)], ["f8", "f4"]),
)
def test_smoothed_kinks_of_many_features(estimator: daskgd.LinearSVR, dtype: str) -> None:
    """The curvature is that of the few rows near a kink, which float32 would not find."""
    rng = np.random.default_rng(2)
    X = rng.standard_normal((300, 260))
    y = X[:, :5].sum(axis=1) + rng.standard_normal(300)
    model = estimator.fit(X.astype(dtype), y, sample_weight=rng.random(300))
    assert model.outcome_ == "converged"
    assert model.gap_ < 1e-6


@pytest.mark.parametrize("l1_ratio", [0.0, 1.0])
def test_ill_conditioned_features_end_at_the_minimum(l1_ratio: float) -> None:
    """Powers of three numbers, whose standardised moments have eigenvalues far below those of float32."""
    rng = np.random.default_rng(1)
    U = rng.random((2000, 3))
    powers = [(i, j, k) for i in range(8) for j in range(8 - i) for k in range(8 - i - j)][1:]
    X = np.stack([U[:, 0] ** i * U[:, 1] ** j * U[:, 2] ** k for i, j, k in powers], axis=1)
    y = (np.sin(6 * U[:, 0]) + U[:, 1] * U[:, 2] + 0.3 * rng.logistic(size=2000) > 0.3).astype(int)
    model = daskgd.LogisticRegression(C=1e6, l1_ratio=l1_ratio).fit(X, y)
    exact = daskgd.LogisticRegression(C=1e6, l1_ratio=l1_ratio, solver="newton", tol=1e-10).fit(X, y)
    f, best = objective(model, X, y), objective(exact, X, y)
    assert f - best <= (2 * model.gap_ + 1e-6) * f


def test_the_pocket_counts_class_weights_and_one_round() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 3))
    y = X[:, 0] + rng.standard_normal(2000) > 2.2  # few
    model = daskgd.Perceptron(class_weight="balanced").fit(X, y)
    assert model.predict(X)[y].mean() > 0.6
    with pytest.warns(ConvergenceWarning, match="max_iter=1"):
        assert daskgd.Perceptron(max_iter=1).fit(X, y).coef_.any()


def test_large_features_that_are_not_scaled() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30_000, 101))
    y = X[:, 0] + rng.logistic(size=30_000) > 0
    assert daskgd.LogisticRegression(C=np.inf, scale=False).fit(X * 1e60, y).outcome_ == "converged"


# -- rows at hand, rows near kinks ------------------------------------------------------------------


def separable_rows(n: int, p: int, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows at least so far from the plane between their two classes."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p))
    z = X.sum(axis=1) / np.sqrt(p)
    far = np.abs(z) > margin
    return X[far], np.where(z[far] > 0, "up", "down")


def blobs(n: int, p: int, k: int, spread: float = 15.0) -> tuple[np.ndarray, np.ndarray]:
    X, y = make_blobs(n_samples=n, n_features=p, centers=k, random_state=42, cluster_std=spread)
    return X, y


def signed_excess(model: Any, X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row, and each class against the rest: the sign, and what is missing to the margin."""
    signs = np.where(y[:, None] == model.classes_, 1, -1) if len(model.coef_) > 1 else 2.0 * y[:, None] - 1
    return signs, np.maximum(0, 1 - signs * (X @ model.coef_.T + model.intercept_))


def svc_objective(model: Any, X: np.ndarray, y: np.ndarray) -> float:
    """What LinearSVC(C=1) minimises."""
    _, excess = signed_excess(model, X, y)
    return float((excess if model.loss == "hinge" else excess**2).sum() + (model.coef_**2).sum() / 2)


@pytest.mark.parametrize(
    ("n", "p", "k", "settings"),
    [
        (250, 100, 2, {}),
        pytest.param(500, 100, 10, {}, marks=pytest.mark.slow),
        (300, 60, 3, {"loss": "hinge"}),
        (400, 40, 3, {}),
    ],
)
def test_separable_classes_in_few_steps(n: int, p: int, k: int, settings: dict[str, Any]) -> None:
    """The squared hinge is flat for nearly all rows, and Newton's model knows of the others one by one."""
    X, y = blobs(n, p, k)
    model = daskgd.LinearSVC(**settings).fit(X, y)
    assert model.outcome_ == "converged"
    assert model.n_iter_ < 100
    theirs = {**settings, "dual": settings.get("loss") == "hinge"}
    exact = TheirSVC(**theirs, tol=1e-10, max_iter=1_000_000, intercept_scaling=1000).fit(X, y)
    f, best = svc_objective(model, X, y), svc_objective(exact, X, y)
    assert f <= best * (1 + 1e-5) + 1e-12


@pytest.mark.parametrize("k", slow_but([2, 3], 2))
def test_separable_classes_with_l1(k: int) -> None:
    X, y = blobs(300, 150, k)
    model = daskgd.LinearSVC(penalty="l1").fit(X, y)
    assert (model.outcome_, model.n_iter_ < 100) == ("converged", True)
    signs, excess = signed_excess(model, X, y)
    slopes = -2 * (signs * excess).T @ X
    np.testing.assert_allclose(slopes[model.coef_ != 0], -np.sign(model.coef_[model.coef_ != 0]), atol=1e-3)
    assert np.abs(slopes).max() < 1 + 1e-3


def test_squared_residuals_within_epsilon_are_solved() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((150, 300))  # a plane through all rows
    y = X[:, :5].sum(axis=1)
    model = daskgd.LinearSVR(loss="squared_epsilon_insensitive", epsilon=0.5).fit(X, y)
    assert (model.outcome_, model.n_iter_ < 100) == ("converged", True)
    assert np.abs(model.predict(X) - y).max() < 0.6


@pytest.mark.parametrize("batch_size", [None, 1, 1000])
def test_the_perceptron_finds_the_last_mistake(batch_size: int | None) -> None:
    X, y = separable_rows(20_000, 5, 0.01)
    solver = Pocket(min_delta=0.0, batch_size=batch_size)
    model = daskgd.Perceptron(solver=solver).fit(X, y)
    assert (model.outcome_, model.score(X, y)) == ("converged", 1.0)


def test_the_perceptron_runs_to_the_end_without_tol() -> None:
    X, y = separable_rows(500, 3, 0.1)
    model = daskgd.Perceptron(tol=0, max_iter=12).fit(X, y)
    assert (model.n_iter_, model.score(X, y)) == (12, 1.0)


def test_the_perceptron_leaves_rows_without_weight_alone() -> None:
    X, y = separable_rows(3_000, 3, 0.05)
    rng = np.random.default_rng(1)
    wrong = rng.random(len(y)) < 0.2
    labels = np.where(wrong, np.where(y == "up", "down", "up"), y)
    model = daskgd.Perceptron(scale=False).fit(X, labels, np.where(wrong, 0.0, 1.0))
    assert model.score(X[~wrong], y[~wrong]) == 1.0


@pytest.mark.parametrize(
    "estimator", [daskgd.LinearSVC(loss="hinge", tol=1e-6), daskgd.LinearSVR(epsilon=0.1, tol=1e-6)]
)
def test_kinks_of_all_rows_at_hand_are_solved(estimator: Any) -> None:
    """However large the sample would be: near the kinks of a sample there are few rows."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20_000, 6))
    y = X[:, 0] + rng.standard_normal(20_000)
    y = y > 0 if isinstance(estimator, daskgd.LinearSVC) else y
    small = daskgd.SubsampledNewton(sample_bytes=1, rows_per_parameter=20)
    model = clone(estimator).set_params(solver=small).fit(X, y)
    assert (model.outcome_, model.n_sweeps_) == ("converged", 1)
    assert model.gap_ < 1e-6


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.cluster
def test_labels_of_text_at_hand_end_in_the_same_bits_on_a_cluster(client: Any, weights: bool) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((4_000, 30))
    level = np.clip(np.round(X[:, 0] + rng.standard_normal(4_000)) + 1, 0, 2).astype(int)
    y = np.array(["no", "perhaps", "yes"])[level]
    s = rng.uniform(0.5, 2, 4_000) if weights else None
    here = daskgd.LogisticRegression(engine="serial").fit(X, y, s)
    there = daskgd.LogisticRegression().fit(X, y, s)
    assert np.array_equal(here.coef_, there.coef_)
    assert here.classes_.tolist() == there.classes_.tolist()


def test_a_limit_of_the_sample_is_honoured_in_memory_too() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20_000, 10))
    y = (X[:, 0] + rng.standard_normal(20_000) > 0).astype(int)
    limited = daskgd.SubsampledNewton(rows_per_parameter=10, sample_bytes=1, most_bytes=100_000)
    few = daskgd.LogisticRegression(solver=limited).fit(X, y)
    assert few.n_sweeps_ > 1
    assert daskgd.LogisticRegression(solver=daskgd.SubsampledNewton()).fit(X, y).n_sweeps_ == 1
    with pytest.raises(ValueError, match="most_bytes None or a whole number"):
        daskgd.SubsampledNewton(most_bytes=0)


@pytest.mark.parametrize("solver", ["auto", "fista", "proximal_newton"])
def test_a_warm_start_leaves_no_sign_that_is_not_allowed(solver: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 8))
    y = X @ np.array([1, -1, 2, -2, 0, 0, 0.5, -0.5]) + rng.standard_normal(500)
    est = daskgd.Lasso(alpha=0.01, warm_start=True, solver=solver).fit(X, y)
    assert est.coef_.min() < 0
    est.set_params(positive=True).fit(X, y)
    assert est.coef_.min() >= 0
    assert np.allclose(est.coef_, daskgd.Lasso(alpha=0.01, positive=True).fit(X, y).coef_, atol=1e-3)


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize(
    "loss", [losses.Hinge(), losses.Quantile(0.3), losses.EpsilonInsensitive(0.4)], ids=repr
)
def test_rows_near_kinks_stand_for_all(loss: Any, text: bool) -> None:
    rng = np.random.default_rng(0)
    X, w = rng.standard_normal((3_000, 4)), rng.standard_normal(5)
    classes = loss.kind == "classification"
    y = X @ w[:4] + w[4] + rng.standard_normal(3_000)
    names = np.array(["a", "b"]) if text else np.array([0, 1])
    labels = names if classes else None
    rows = Rows(X, names[(y > 0).astype(int)] if classes else y, rng.uniform(0, 2, 3_000), 0)
    problem = Problem(loss, models.Linear(4), penalties.L2(np.zeros(5)), labels)
    if classes:
        problem = replace(problem, class_weight=np.array([1.0, 5.0]))
    smooth = replace(problem, loss=loss.smoothed(1e-4))
    few = condensed(problem, smooth, rows, w)
    assert len(few) < 0.2 * len(rows)
    for at in (w, w + 1e-4 * rng.standard_normal(5)):
        (f, g), (whole_f, whole_g) = (on(some, smooth, Gradient(at)) for some in (few, rows))
        assert f == pytest.approx(whole_f, rel=1e-6)
        assert np.allclose(g, whole_g, atol=1e-5)


@pytest.mark.parametrize(("tol", "rows"), slow_but_every(2, [1e-2, 1e-6], [800, 1_500]))
def test_flat_directions_that_the_gradient_hardly_has_count_in_the_gap(rows: int, tol: float) -> None:
    """Features with a spectrum from 1 to 1/p, of which the targets need the flattest: the first gradient is
    along the steepest, whose step is no solution."""
    rng = np.random.default_rng(0)
    Q, _ = np.linalg.qr(rng.standard_normal((500, 500)))
    Z, c = rng.standard_normal((rows, 500)), rng.standard_normal(500)
    X, y = (Z / np.arange(1, 501)) @ Q.T, Z @ c + 0.01 * rng.standard_normal(rows)
    est = daskgd.LinearRegression(tol=tol, solver="subsampled_newton").fit(X, y)
    A = np.c_[X, np.ones(rows)]
    least = np.mean((A @ np.linalg.lstsq(A, y)[0] - y) ** 2) / 2
    f = np.mean((X @ est.coef_ + est.intercept_ - y) ** 2) / 2
    assert est.outcome_ == "converged"
    assert f - least <= (2 * est.gap_ + tol) * max(f, 1e-3 * y.var() / 2)


def test_features_that_tie_end_the_search() -> None:
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((400, 80))
    X, y = np.tile(Z, 20), Z[:, :8].sum(axis=1) + rng.standard_normal(400)
    est = daskgd.Lasso(alpha=0.1, solver="proximal_newton").fit(X, y)
    assert est.outcome_ == "converged"
    residual = y - X @ est.coef_ - est.intercept_
    f = np.mean(residual**2) / 2 + 0.1 * np.abs(est.coef_).sum()
    alone = daskgd.Lasso(alpha=0.1).fit(Z, y)
    best = np.mean((y - Z @ alone.coef_ - alone.intercept_) ** 2) / 2 + 0.1 * np.abs(alone.coef_).sum()
    assert f <= best * (1 + 2e-6)
