"""Linear estimators that learn from rows as they come, against a fit of all rows."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

import daskgd
from tests.tiers import slow_but_rows

RNG = np.random.default_rng(5)
N, P = 6000, 8
X = RNG.normal(size=(N, P)) * 10.0 ** RNG.integers(-4, 5, P) + RNG.normal(size=P)
Z = ((X - X.mean(axis=0)) / X.std(axis=0)) @ RNG.normal(size=P) / np.sqrt(P)
NOISE = RNG.logistic(size=N)
NUMBERS = 1e3 * (2 * Z + NOISE) + 1e5
COUNTS = RNG.poisson(np.exp(Z)).astype(float)
AMOUNTS = RNG.gamma(2.0, np.exp(Z)) + 1e-3
BINARY = np.where(2 * Z + NOISE > 0, "up", "down")
LEVELS = np.array(["low", "mid", "top"])[np.digitize(2 * Z + NOISE, [-1.0, 1.0])]

LOG_LINK = ("PoissonRegressor", "GammaRegressor", "TweedieRegressor")

CASES: list[tuple[Any, Any]] = [
    (daskgd.LinearRegression(), NUMBERS),
    (daskgd.LinearRegression(), np.column_stack([NUMBERS, Z])),
    (daskgd.LinearRegression(positive=True), NUMBERS),
    (daskgd.Ridge(alpha=100.0), NUMBERS),
    (daskgd.Lasso(alpha=100.0), NUMBERS),
    (daskgd.ElasticNet(alpha=10.0), NUMBERS),
    (daskgd.QuantileRegressor(quantile=0.3, alpha=0.0), NUMBERS),
    (daskgd.LinearSVR(epsilon=100.0), NUMBERS),
    (daskgd.PoissonRegressor(alpha=0.0), COUNTS),
    (daskgd.GammaRegressor(alpha=0.0), AMOUNTS),
    (daskgd.TweedieRegressor(power=1.5, alpha=0.0), COUNTS),
    (daskgd.LogisticRegression(), BINARY),
    (daskgd.LogisticRegression(C=0.05, l1_ratio=1.0), BINARY),
    (daskgd.LogisticRegression(), LEVELS),
    (daskgd.LinearSVC(), LEVELS),
    (daskgd.LinearSVC(loss="hinge"), BINARY),
    (daskgd.SGDClassifier(loss="log_loss", average=True), LEVELS),
    (daskgd.SGDRegressor(learning_rate="optimal", average=True), NUMBERS),
]


def name_of(case: Any) -> str:
    est, y = case
    return f"{type(est).__name__}-{'-'.join(map(str, np.shape(y)[1:])) or np.asarray(y).dtype.kind}"


def parts_of(size: int, n: int = N) -> Iterator[slice]:
    return (slice(first, first + size) for first in range(0, n, size))


def learn(est: Any, y: Any, size: int, rows: Any = X, **settings: Any) -> Any:
    known = {"classes": np.unique(y)} if est._classification else {}
    for part in parts_of(size, len(y)):
        est.partial_fit(rows[part], y[part], **known, **settings)
    return est


def loss_of(est: Any, y: Any) -> float:
    """The objective of the fit of all rows at these parameters."""
    at = clone(est).set_params(warm_start=True, max_iter=1, solver=daskgd.AveragedSGD(), engine="serial")
    at.set_params(tol=None if "SGD" in type(est).__name__ else 0)
    for attribute in ("coef_", "intercept_", "classes_"):
        if hasattr(est, attribute):
            setattr(at, attribute, getattr(est, attribute))
    at.fit(X, y)
    return float(at.history_[0]["loss"])


def constant(est: Any, y: Any) -> Any:
    """The model that predicts the mean, or no class rather than another."""
    at = clone(est).fit(X[:100], y[:100])
    at.coef_ = np.zeros_like(at.coef_)
    mean = np.zeros(np.shape(at.intercept_)) if est._classification else np.mean(y, axis=0)
    at.intercept_ = np.log(mean) if type(est).__name__ in LOG_LINK else mean
    return at


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_one_pass_comes_near_the_fit(case: Any) -> None:
    """Features of sizes from 1e-4 to 1e4, targets far from 0, and nothing tuned."""
    est, y = case
    whole = loss_of(clone(est).fit(X, y), y)
    gained = loss_of(constant(est, y), y) - whole
    for size in (250, N):
        excess = loss_of(learn(clone(est), y, size), y) - whole
        assert excess < 0.05 * gained, (
            f"in parts of {size}: {excess / gained:.3f} of what a fit gains is left"
        )


@pytest.mark.parametrize("case", [CASES[0], CASES[3], CASES[13]], ids=name_of)
def test_more_passes_come_nearer(case: Any) -> None:
    est, y = clone(case[0]), case[1]
    least = loss_of(clone(est).fit(X, y), y)
    excess = [loss_of(learn(est, y, 2000), y) - least for _ in range(8)]
    assert excess[-1] < 0.2 * excess[0]


def test_rows_may_come_one_by_one() -> None:
    est = daskgd.LinearRegression()
    for i in range(400):
        est.partial_fit(X[i : i + 1], NUMBERS[i : i + 1])
    assert est.score(X, NUMBERS) > 0.9 * daskgd.LinearRegression().fit(X[:400], NUMBERS[:400]).score(
        X, NUMBERS
    )
    assert (est.t_, est.n_iter_, est.n_sweeps_) == (400, 400, 800)


OUTLIERS: list[tuple[Any, Any]] = [
    (daskgd.PoissonRegressor(alpha=0.0), COUNTS),
    (daskgd.GammaRegressor(alpha=0.0), AMOUNTS),
    (daskgd.QuantileRegressor(alpha=0.0), NUMBERS),
]


@pytest.mark.parametrize("case", OUTLIERS, ids=name_of)
def test_one_target_that_is_far_out_is_forgotten(case: Any) -> None:
    """A count of 1e6 among ones, or a number a million spreads away: other rows lead back."""
    est, y = clone(case[0]), case[1].copy()
    whole = loss_of(clone(est).fit(X, y), y)
    gained = loss_of(constant(est, y), y) - whole
    y[3100] += 1e6 * y.std()
    for part in parts_of(100):
        est.partial_fit(X[part], y[part])
    for _ in range(4):
        learn(est, case[1], 500)
    assert loss_of(est, case[1]) - whole < 0.05 * gained


def test_one_row_that_is_far_out_does_not_end_learning() -> None:
    rows = RNG.normal(size=(4000, 3))
    y = rows @ [1.0, -2.0, 3.0]
    far = rows[:100].copy()
    far[7, 0] = 1e6
    est = daskgd.LinearRegression().partial_fit(rows[:500], y[:500]).partial_fit(far, y[:100])
    assert np.abs(est.coef_[1:] - [-2, 3]).max() > 100
    for _ in range(8):
        learn(est, y, 500, rows)
    np.testing.assert_allclose(est.coef_[1:], [-2, 3], atol=0.2)


def test_softmax_comes_back_from_far() -> None:
    """Where margins are so wrong that the loss has no curvature."""
    est = daskgd.LogisticRegression().partial_fit(X[:100], LEVELS[:100], classes=np.unique(LEVELS))
    est.coef_ = -100 * est.coef_
    for _ in range(3):
        learn(est, LEVELS, 500)
    assert est.score(X, LEVELS) > 0.95 * daskgd.LogisticRegression().fit(X, LEVELS).score(X, LEVELS)


def test_attributes_go_on() -> None:
    est = daskgd.LogisticRegression()
    est.partial_fit(X[:500], BINARY[:500], classes=["down", "up"])
    est.partial_fit(X[500:700], BINARY[500:700])
    assert est.classes_.tolist() == ["down", "up"]
    assert (est.t_, est.n_iter_.tolist(), est.n_sweeps_) == (700, [2], 4)
    assert [row["iteration"] for row in est.history_] == [1, 2]
    assert est.history_.solver.startswith("AveragedSGD(")
    assert est.gap_ == np.inf


@pytest.mark.parametrize("case", [CASES[1], CASES[5], CASES[13]], ids=name_of)
def test_bits_are_the_same_on_every_engine(case: Any, tmp_path: Path) -> None:
    est, y = case
    path = tmp_path / "rows.zarr"
    daskgd.write_dataset(path, X, y)
    rows = daskgd.open_dataset(path, block_bytes=1000 * 8 * P, partition_bytes=2000 * 8 * P)
    known = {"classes": np.unique(y)} if est._classification else {}
    found = []
    for engine in ("serial", "threads"):
        stream = clone(est).set_params(engine=engine)
        for _ in range(2):
            stream.partial_fit(rows, **known)
        found.append(np.append(stream.coef_, stream.intercept_).tobytes())
    assert found[0] == found[1]


@pytest.mark.cluster
def test_bits_are_the_same_on_a_cluster(client: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.zarr"
    daskgd.write_dataset(path, X, NUMBERS)
    rows = daskgd.open_dataset(path, block_bytes=1000 * 8 * P, partition_bytes=2000 * 8 * P)
    here = daskgd.Ridge(engine="serial").partial_fit(rows).partial_fit(rows)
    there = daskgd.Ridge().partial_fit(rows).partial_fit(rows)
    assert here.coef_.tobytes() == there.coef_.tobytes()


AGAIN: list[Callable[[Any, Path], Any]] = [
    lambda est, path: pickle.loads(pickle.dumps(est)),
    lambda est, path: (est.save(path / "model.dgd"), daskgd.load_model(path / "model.dgd"))[1],
]


@pytest.mark.parametrize("again", AGAIN, ids=["pickled", "saved"])
@pytest.mark.parametrize("fitted", [False, True], ids=["in parts", "fitted before"])
def test_it_goes_on_in_another_process(again: Any, fitted: bool, tmp_path: Path) -> None:
    def begun() -> Any:
        est = daskgd.LogisticRegression(class_weight={"low": 3.0}, C=0.01)
        return est.fit(X[:3000], LEVELS[:3000]) if fitted else learn(est, LEVELS[:3000], 1000)

    straight = learn(begun(), LEVELS[3000:], 500, X[3000:])
    moved = learn(again(begun(), tmp_path), LEVELS[3000:], 500, X[3000:])
    assert straight.coef_.tobytes() == moved.coef_.tobytes()
    assert straight.t_ == moved.t_


def test_it_goes_on_from_a_fit() -> None:
    """A few rows more do not lead away from what many have said."""
    est = daskgd.Ridge().fit(X[:5000], NUMBERS[:5000])
    before = est.score(X, NUMBERS)
    est.partial_fit(X[5000:5100], NUMBERS[5000:5100])
    assert est.score(X, NUMBERS) > before - 0.01
    assert est.t_ == 100


def test_a_fit_begins_anew() -> None:
    est = learn(daskgd.Ridge(), NUMBERS, 1000)
    assert np.array_equal(est.fit(X, NUMBERS).coef_, daskgd.Ridge().fit(X, NUMBERS).coef_)
    assert not hasattr(est, "_path")
    assert not hasattr(est, "t_")


def test_coefficients_of_the_user_are_where_it_goes_on() -> None:
    est = daskgd.LinearRegression().partial_fit(X[:100], NUMBERS[:100])
    exact = daskgd.LinearRegression().fit(X, NUMBERS)
    est.coef_, est.intercept_ = exact.coef_.copy(), exact.intercept_
    est.partial_fit(X[100:110], NUMBERS[100:110])
    assert est.score(X, NUMBERS) > exact.score(X, NUMBERS) - 0.05


def test_penalties_are_divided_by_the_weight_of_all_rows_so_far() -> None:
    """A strong penalty for few rows is a weak one for many."""
    rows = (X - X.mean(axis=0)) / X.std(axis=0)
    few = daskgd.Ridge(alpha=1000.0).partial_fit(rows[:100], NUMBERS[:100])
    many = learn(daskgd.Ridge(alpha=1000.0), NUMBERS, 100, rows)
    assert few.score(rows, NUMBERS) < 0.3
    whole = daskgd.Ridge(alpha=1000.0).fit(rows, NUMBERS).score(rows, NUMBERS)
    assert abs(many.score(rows, NUMBERS) - whole) < 0.02


@pytest.mark.parametrize("weighted", ["rows", "classes"])
def test_weights_count(weighted: str) -> None:
    s = np.where(BINARY == "up", 5.0, 1.0)
    weights = {"sample_weight": s} if weighted == "rows" else {}
    est = daskgd.LogisticRegression(class_weight=None if weights else {"up": 5.0})
    whole = clone(est).fit(X, BINARY, **weights)
    for part in parts_of(500):
        rows = {"sample_weight": s[part]} if weights else {}
        est.partial_fit(X[part], BINARY[part], classes=["down", "up"], **rows)
    ours, theirs = (np.mean(e.predict(X) == "up") for e in (est, whole))
    plain = np.mean(daskgd.LogisticRegression().fit(X, BINARY).predict(X) == "up")
    assert abs(ours - theirs) < 0.2 * abs(theirs - plain)


def test_the_size_of_weights_means_nothing_without_a_penalty() -> None:
    s = RNG.random(N) + 0.5
    one = daskgd.LinearRegression().partial_fit(X, NUMBERS, sample_weight=s)
    other = daskgd.LinearRegression().partial_fit(X, NUMBERS, sample_weight=1000 * s)
    np.testing.assert_allclose(other.coef_, one.coef_, rtol=1e-6)


def test_l1_at_the_end_of_the_path_gives_zeros() -> None:
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(4000, 60))
    y = wide[:, 0] - 2 * wide[:, 1] + 0.1 * rng.normal(size=4000)
    est = learn(daskgd.Lasso(alpha=0.2, solver=daskgd.AveragedSGD(average=False)), y, 400, wide)
    assert np.count_nonzero(est.coef_) < 10
    assert np.argsort(-np.abs(est.coef_))[:2].tolist() == [1, 0]


SHAPES = [(60, 3000, 2), (500, 1, 2), (2000, 40, 30), (3, 1, 2)]
CASES_OF_SHAPES = [(dtype, shape) for dtype in (np.float32, np.float64) for shape in SHAPES]


@pytest.mark.parametrize(
    ("dtype", "shape"),
    slow_but_rows(CASES_OF_SHAPES, *(case for case in CASES_OF_SHAPES if case != (np.float64, SHAPES[2]))),
    ids=str,
)
def test_shapes(shape: tuple[int, int, int], dtype: Any) -> None:
    n, p, k = shape
    rng = np.random.default_rng(1)
    centers = 3 * rng.normal(size=(k, p))
    y = np.arange(n) % k
    rows = (centers[y] + rng.normal(size=(n, p))).astype(dtype)
    for est in (daskgd.LogisticRegression(), daskgd.LinearSVC(), daskgd.SGDClassifier()):
        for _ in range(3):
            est.partial_fit(rows, y, classes=range(k))
        assert est.coef_.dtype == (dtype if not isinstance(est, daskgd.LinearSVC) else np.float64)
        assert np.isfinite(est.coef_).all()
        assert n < 50 or est.score(rows, y) > 0.95 * clone(est).fit(rows, y).score(rows, y)


def test_frames_keep_their_names() -> None:
    frame = pd.DataFrame(X, columns=[f"c{j}" for j in range(P)])
    est = daskgd.Ridge().partial_fit(frame[:1000], NUMBERS[:1000])
    assert est.feature_names_in_.tolist() == list(frame.columns)
    with pytest.raises(ValueError, match="feature names should match"):
        est.partial_fit(frame[frame.columns[::-1]], NUMBERS)


def test_a_solver_is_honoured() -> None:
    def coefficients(**settings: Any) -> bytes:
        return daskgd.Ridge(**settings).partial_fit(X, NUMBERS).coef_.tobytes()  # type: ignore[no-any-return]

    plain = coefficients()
    assert coefficients(solver=daskgd.AveragedSGD(batch_size=7)) != plain
    assert coefficients(random_state=3) != plain
    assert coefficients(solver="svd") == plain
    assert coefficients(scale=False, solver=daskgd.AveragedSGD(shuffle=False)) != plain


REFUSED: list[tuple[Any, tuple[Any, ...], dict[str, Any], str]] = [
    (daskgd.LogisticRegression(), (X, BINARY), {}, "classes must be passed on the first call"),
    (daskgd.LogisticRegression(), (X, BINARY), {"classes": ["up"]}, "at least 2 classes"),
    (
        daskgd.LogisticRegression(),
        (X, LEVELS),
        {"classes": ["low", "mid"]},
        "among .'low', 'mid'., got .'top'",
    ),
    (
        daskgd.LinearSVC(class_weight="balanced"),
        (X, BINARY),
        {"classes": ["down", "up"]},
        'partial_fit: expected class_weight to be None or a mapping, got "balanced"',
    ),
    (daskgd.Ridge(solver=daskgd.Gram()), (X, NUMBERS), {}, "expected solver to be a name or AveragedSGD"),
    (daskgd.Ridge(regime="parallel"), (X, NUMBERS), {}, "regime to be 'auto' or 'distributed'"),
    (daskgd.Ridge(alpha=-1), (X, NUMBERS), {}, "alpha"),
    (daskgd.SGDRegressor(early_stopping=True), (X, NUMBERS), {}, "early_stopping should be False"),
    (daskgd.PoissonRegressor(), (X, -COUNTS - 1), {}, "targets >= 0"),
]


@pytest.mark.parametrize(("est", "rows", "known", "words"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_is_refused(est: Any, rows: Any, known: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        clone(est).partial_fit(*rows, **known)


def test_other_classes_later_are_refused() -> None:
    est = daskgd.LinearSVC().partial_fit(X, BINARY, classes=["down", "up"])
    with pytest.raises(ValueError, match="expected classes as at the first call"):
        est.partial_fit(X, BINARY, classes=["down", "sideways", "up"])


def test_huber_has_none() -> None:
    assert not hasattr(daskgd.HuberRegressor(), "partial_fit")
    with pytest.raises(AttributeError, match="partial_fit") as caught:
        _ = daskgd.HuberRegressor().partial_fit
    assert "SGDRegressor" in str(caught.value.__cause__)


def test_a_call_that_fails_changes_nothing() -> None:
    est = learn(daskgd.LogisticRegression(), BINARY, 3000)
    before = pickle.dumps(vars(est))
    bad = X[:100].copy()
    bad[7, 2] = np.nan
    for rows in ((bad, BINARY[:100]), (X[:10], np.repeat("sideways", 10)), (X[:, :3], BINARY)):
        with pytest.raises(ValueError, match=r"row 7|sideways|features"):
            est.partial_fit(*rows)
    assert pickle.dumps(vars(est)) == before


def test_positive_holds_from_where_it_is_asked_for() -> None:
    est = learn(daskgd.Ridge(), NUMBERS, 1000)
    assert (est.coef_ < 0).any()
    est.set_params(positive=True).partial_fit(X[:1000], NUMBERS[:1000])
    assert (est.coef_ >= 0).all()


def test_offsets_are_not_forgotten() -> None:
    est = daskgd.PoissonRegressor().fit(X, COUNTS, offset=Z)
    with pytest.raises(ValueError, match="fitted without an offset"):
        est.partial_fit(X, COUNTS)


def test_no_warning_of_convergence() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        learn(daskgd.Lasso(), NUMBERS, 3000)
