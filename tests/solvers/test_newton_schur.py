"""Newton's method by the Schur complement of a column of categories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn import linear_model
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

import daskgd
from daskgd.engines.serial import Serial
from daskgd.losses import Logistic
from daskgd.models import Linear
from daskgd.penalties import L2
from daskgd.problems import Problem
from daskgd.queries import Ask, Curvature, CurvatureArrowhead
from daskgd.rows.categorical import Categorical
from daskgd.rows.features import Dense
from daskgd.rows.stacked import Stacked
from daskgd.rows.tiles import Rows
from daskgd.solvers.newton import decrement
from daskgd.solvers.newton_schur import schur_step
from daskgd.testing import ArraySource


def table(rng: np.random.Generator, n: int, sizes: tuple[int, ...] = (3, 40, 5)) -> tuple[np.ndarray, ...]:
    """Codes of which some are missing, numbers, labels and counts."""
    codes = np.column_stack([rng.integers(-1, size, n) for size in sizes])
    numbers = rng.normal(100.0, 3.0, (n, 2))
    z = (numbers - 100) @ [0.3, -0.2] + sum(
        rng.normal(size=size)[codes[:, j]] for j, size in enumerate(sizes)
    )
    return codes, numbers, (rng.random(n) < 1 / (1 + np.exp(-z))).astype(int), rng.poisson(np.exp(0.3 * z))


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("standardised", [True, False])
def test_a_step_is_that_of_the_whole_hessian(
    intercept: bool, standardised: bool, rng: np.random.Generator
) -> None:
    codes, numbers, y, _ = table(rng, 400)
    X = Stacked.of(Dense(numbers), Categorical.of(codes, [3, 40, 5]))
    dense = X.toarray()
    center = dense.mean(axis=0) if standardised and intercept else None
    scale = dense.std(axis=0) if standardised else None
    model = Linear(X.shape[1], 1, intercept, center, scale)
    problem = Problem(Logistic(), model, L2(rng.random(model.size)), np.array([0, 1]))
    w, weights = 0.1 * rng.normal(size=model.size), rng.integers(0, 3, 400).astype(float)
    if not standardised:
        w[:2] /= 100
    rows = Rows(X, y, weights, 0)
    engine = Serial(ArraySource.of(rows, 64))
    (f, g, H), (f0, g0, H0) = engine.sweep([Ask(problem, CurvatureArrowhead(w)), Ask(problem, Curvature(w))])
    assert f == pytest.approx(f0, rel=1e-14)
    np.testing.assert_allclose(g, g0, rtol=1e-10, atol=1e-14)
    d, gap = schur_step(problem, H, g)
    d0, gap0 = decrement(H0, g0)
    np.testing.assert_allclose(d, d0, rtol=1e-6, atol=1e-8)
    assert gap == pytest.approx(gap0, rel=1e-9)


FITS = {
    "logistic": (
        daskgd.LogisticRegression(C=2.0),
        linear_model.LogisticRegression(C=2.0, solver="newton-cholesky", tol=1e-10, max_iter=1000),
        "labels",
    ),
    "poisson": (
        daskgd.PoissonRegressor(alpha=1e-3),
        linear_model.PoissonRegressor(alpha=1e-3, solver="newton-cholesky", tol=1e-10, max_iter=1000),
        "counts",
    ),
    "ridge": (
        daskgd.Ridge(alpha=2.0),
        linear_model.Ridge(alpha=2.0, solver="sparse_cg", tol=1e-13),
        "counts",
    ),
    "no penalty": (
        daskgd.PoissonRegressor(alpha=0.0),
        linear_model.PoissonRegressor(alpha=1e-9, solver="newton-cholesky", tol=1e-10, max_iter=1000),
        "counts",
    ),
}


@pytest.mark.parametrize("sample_bytes", [64_000_000, 1])
@pytest.mark.parametrize("name", FITS)
def test_a_table_has_scikit_learns_answer(
    name: str, sample_bytes: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    ours, theirs, target = FITS[name]
    codes, numbers, labels, counts = table(rng, 6000)
    y = labels if target == "labels" else counts
    X, weights = daskgd.OneHot(codes, [3, 40, 5], numbers), rng.integers(0, 3, 6000).astype(float)
    daskgd.write_dataset(tmp_path / "t.zarr", X, y, sample_weight=weights, chunk_bytes=20_000)
    solver = daskgd.NewtonSchur(sample_bytes=sample_bytes, rows_per_parameter=4)
    ours = clone(ours).set_params(solver=solver, tol=1e-11).fit(tmp_path / "t.zarr")
    theirs = clone(theirs).fit(X.tocsr(), y, sample_weight=weights)
    assert ours.outcome_ == "converged"
    assert ours.n_sweeps_ == 1 if sample_bytes > 1 else 2 < ours.n_sweeps_ < 9
    method = "decision_function" if target == "labels" else "predict"
    found, like = getattr(ours, method)(X), getattr(theirs, method)(X.tocsr())
    np.testing.assert_allclose(found, like, rtol=1e-5, atol=1e-5)


def test_bits_are_the_same_on_any_engine_and_after_a_resume(tmp_path: Path, rng: np.random.Generator) -> None:
    codes, numbers, y, _ = table(rng, 6000, (4, 200, 9))
    path = tmp_path / "t.zarr"
    daskgd.write_dataset(path, daskgd.OneHot(codes, [4, 200, 9], numbers), y, chunk_bytes=20_000)
    solver = daskgd.NewtonSchur(sample_bytes=1, rows_per_parameter=2)
    one, two = (
        daskgd.LogisticRegression(C=100.0, solver=solver, engine=engine).fit(path)
        for engine in ("serial", "threads")
    )
    assert np.array_equal(one.coef_, two.coef_)
    checkpoint = tmp_path / "fit"
    with pytest.warns(ConvergenceWarning):
        daskgd.LogisticRegression(C=100.0, solver=solver, max_iter=1).fit(path, checkpoint=checkpoint)
    resumed = daskgd.LogisticRegression(C=100.0, solver=solver).fit(path, checkpoint=checkpoint)
    assert np.array_equal(resumed.coef_, one.coef_)


def test_a_warm_start(tmp_path: Path, rng: np.random.Generator) -> None:
    codes, numbers, y, _ = table(rng, 6000, (4, 200, 9))
    path = tmp_path / "t.zarr"
    daskgd.write_dataset(path, daskgd.OneHot(codes, [4, 200, 9], numbers), y, chunk_bytes=20_000)
    solver = daskgd.NewtonSchur(sample_bytes=1, rows_per_parameter=2)
    cold = daskgd.LogisticRegression(C=100.0, solver=solver, tol=1e-12).fit(path)
    warm = daskgd.LogisticRegression(C=99.0, solver=solver, tol=1e-12, warm_start=True).fit(path)
    warm.set_params(C=100.0).fit(path)
    np.testing.assert_allclose(warm.coef_, cold.coef_, atol=1e-5)
    assert warm.n_sweeps_ <= cold.n_sweeps_


def test_categories_that_part_the_labels(tmp_path: Path, rng: np.random.Generator) -> None:
    # Most categories have a label of their own, as rare ones do: full steps overshoot.
    codes = np.column_stack([rng.integers(0, 500, 4000), rng.integers(0, 5, 4000)])
    y = np.where(rng.random(4000) < 0.05, rng.random(4000) < 0.5, codes[:, 0] % 2 == 0).astype(int)
    X = daskgd.OneHot(codes, [500, 5])
    daskgd.write_dataset(tmp_path / "t.zarr", X, y, chunk_bytes=20_000)
    solver = daskgd.NewtonSchur(sample_bytes=1, rows_per_parameter=2)
    ours = daskgd.LogisticRegression(C=1e4, solver=solver).fit(tmp_path / "t.zarr")
    theirs = linear_model.LogisticRegression(C=1e4, solver="newton-cholesky", tol=1e-10, max_iter=1000)
    theirs.fit(X.tocsr(), y)

    def loss(model: object) -> float:
        coef = model.coef_[0]  # type: ignore[attr-defined]
        z = X.tocsr() @ coef + model.intercept_  # type: ignore[attr-defined]
        return float(np.logaddexp(0, np.where(y == 1, -z, z)).sum() + coef @ coef / 2e4)

    assert loss(ours) <= loss(theirs) * (1 + 2e-6)
    assert ours.outcome_ == "converged"


def test_three_classes_are_solved_as_by_subsampled_newton(tmp_path: Path, rng: np.random.Generator) -> None:
    codes, numbers, y, _ = table(rng, 1000)
    X = daskgd.OneHot(codes, [3, 40, 5], numbers)
    y = y + (numbers[:, 0] > 101)
    ours = daskgd.LogisticRegression(solver="newton_schur", tol=1e-10).fit(X, y)
    like = daskgd.LogisticRegression(solver="subsampled_newton", tol=1e-10).fit(X, y)
    np.testing.assert_allclose(ours.coef_, like.coef_, atol=1e-5)


def test_auto_takes_it_for_tables_alone(tmp_path: Path, rng: np.random.Generator) -> None:
    def solver(estimator: object, X: object) -> str:
        daskgd.write_dataset(tmp_path / "t.zarr", X, rng.integers(0, 2, 50), overwrite=True)
        return repr(estimator.plan(tmp_path / "t.zarr").solver)  # type: ignore[attr-defined]

    def codes(*sizes: int) -> daskgd.OneHot:
        return daskgd.OneHot(np.column_stack([rng.integers(0, size, 50) for size in sizes]), sizes)

    logistic = daskgd.LogisticRegression()
    assert solver(logistic, codes(200, 10)).startswith("NewtonSchur")
    assert solver(logistic, codes(20, 10)).startswith("SubsampledNewton")
    assert not solver(logistic, codes(100_000, 50_000)).startswith("NewtonSchur")
    assert solver(daskgd.LogisticRegression(l1_ratio=1.0), codes(200, 10)).startswith("ProximalNewton")
    assert solver(daskgd.LinearSVC(loss="hinge"), codes(200, 10)).startswith("SubsampledNewton")
    assert solver(logistic, rng.normal(size=(50, 200))).startswith("SubsampledNewton")
    assert solver(daskgd.Ridge(), codes(200, 10)).startswith("Gram")
