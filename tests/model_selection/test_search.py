"""Searches: scikit-learn's answers, in few shared reads."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import distributed
import numpy as np
import pandas as pd
import pytest
from sklearn import linear_model, model_selection, preprocessing
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning

import daskgd
from daskgd.engines.graph import Graph
from daskgd.metrics import make_scorer
from daskgd.model_selection import GridSearchCV, GroupKFold, KFold, RandomizedSearchCV, scores
from daskgd.model_selection.fits import shares_sweeps
from daskgd.model_selection.search import SearchRun
from daskgd.model_selection.splitters import splits_of
from daskgd.monitoring.events import Swept

N, P = 600, 5
TIMES = ("fit_time", "score_time")


def numbers(seed: int = 0, kind: str = "binary") -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(N, P)) * [1.0, 2.0, 0.5, 1.0, 3.0] + [0.0, 5.0, 0.0, -2.0, 1.0]
    z = X @ rng.normal(size=P)
    z = (z - z.mean()) / z.std() + rng.normal(size=N)
    match kind:
        case "binary":
            return X, np.where(z > 0.3, "yes", "no")
        case "classes":
            return X, np.digitize(z, [-1.0, 0.0, 1.0])
        case "counts":
            return X, rng.poisson(np.exp(z / 2))
    return X, z


def stored(tmp_path: Path, X: Any, y: Any, sample_weight: Any = None, **options: Any) -> Any:
    daskgd.write_dataset(tmp_path / "rows.zarr", X, y, sample_weight, chunk_bytes=4000)
    return daskgd.open_dataset(tmp_path / "rows.zarr", block_bytes=4000, **options)


def without_times(results: Any) -> dict[str, Any]:
    return {name: v for name, v in results.items() if not any(time in name for time in TIMES)}


def assert_equal_results(ours: Any, theirs: Any, atol: float) -> None:
    ours, theirs = without_times(ours.cv_results_), without_times(theirs.cv_results_)
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        found = ours[name]
        if name == "params" or name.startswith("param_"):
            assert list(found) == list(expected), name
            if name != "params":
                assert found.dtype == expected.dtype, name
        elif name.startswith("rank_"):
            assert found.dtype == expected.dtype
        else:
            np.testing.assert_allclose(found, expected, rtol=0, atol=atol, err_msg=name)


CASES = {
    "logistic": (
        daskgd.LogisticRegression(tol=1e-14),
        linear_model.LogisticRegression(solver="newton-cholesky", tol=1e-12),
        {"C": [0.01, 1.0, 100.0], "fit_intercept": [True, False]},
        ["neg_log_loss", "roc_auc", "accuracy"],
        "binary",
    ),
    "classes": (
        daskgd.LogisticRegression(tol=1e-14),
        linear_model.LogisticRegression(solver="newton-cholesky", tol=1e-12),
        {"C": [0.01, 1.0], "class_weight": [None, "balanced"]},
        ["neg_log_loss", "f1_macro", "roc_auc_ovr"],
        "classes",
    ),
    "ridge": (
        daskgd.Ridge(),
        linear_model.Ridge(),
        {"alpha": [0.01, 1.0, 100.0]},
        ["r2", "neg_mean_squared_error", "neg_root_mean_squared_error", "explained_variance"],
        "numbers",
    ),
    "lasso": (
        daskgd.Lasso(tol=1e-14),
        linear_model.Lasso(tol=1e-13, max_iter=100_000),
        {"alpha": [0.001, 0.1, 1.0]},
        ["neg_mean_absolute_error", "neg_median_absolute_error", "neg_max_error"],
        "numbers",
    ),
    "counts": (
        daskgd.PoissonRegressor(tol=1e-14),
        linear_model.PoissonRegressor(solver="newton-cholesky", tol=1e-12),
        {"alpha": [0.0, 0.1, 1.0]},
        ["neg_mean_poisson_deviance", "d2_absolute_error_score"],
        "counts",
    ),
}


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("case", CASES)
def test_scores_are_scikit_learns(case: str, weighted: bool, tmp_path: Path) -> None:
    ours, theirs, grid, scoring, kind = CASES[case]
    X, y = numbers(kind=kind)
    s = np.random.default_rng(1).integers(0, 3, N).astype(float) + 0.5 if weighted else None
    if weighted:
        scoring = [name for name in scoring if name != "neg_max_error"]  # which takes no weights there
    options = {"scoring": scoring, "refit": scoring[0], "return_train_score": True, "cv": 4}
    a = GridSearchCV(ours, grid, **options).fit(X, y, sample_weight=s)
    b = model_selection.GridSearchCV(theirs, grid, **options).fit(X, y, sample_weight=s)
    assert_equal_results(a, b, 1e-8)
    assert a.best_params_ == b.best_params_
    assert a.best_index_ == b.best_index_
    assert a.n_splits_ == b.n_splits_
    assert a.multimetric_ is b.multimetric_ is True
    np.testing.assert_allclose(a.best_estimator_.coef_, b.best_estimator_.coef_, atol=1e-6)
    assert np.array_equal(a.predict(X[:9]), b.predict(X[:9])) or kind not in ("binary", "classes")
    # A stored copy with weights of its own gives the same numbers.
    c = GridSearchCV(ours, grid, **options).fit(stored(tmp_path, X, y, s))
    assert_equal_results(c, b, 1e-8)
    assert c.best_params_ == b.best_params_


@pytest.mark.parametrize(
    "cv",
    [
        model_selection.ShuffleSplit(4, test_size=0.3, random_state=0),
        model_selection.TimeSeriesSplit(3),
        model_selection.StratifiedKFold(3, shuffle=True, random_state=1),
        model_selection.RepeatedKFold(n_splits=4, n_repeats=4, random_state=0),
        KFold(3, shuffle=True),
    ],
    ids=lambda cv: type(cv).__name__,
)
def test_any_splits_give_scikit_learns_scores(cv: Any) -> None:
    X, y = numbers()
    grid = {"C": [0.1, 1.0]}
    options = {"cv": cv, "scoring": "neg_log_loss"}
    a = GridSearchCV(daskgd.LogisticRegression(tol=1e-14), grid, **options).fit(X, y)
    theirs = linear_model.LogisticRegression(solver="newton-cholesky", tol=1e-12)
    assert_equal_results(a, model_selection.GridSearchCV(theirs, grid, **options).fit(X, y), 1e-8)


def count_sweeps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by one with each sweep over stored rows."""
    seen: list[int] = []
    sweep = Graph.sweep

    def counting(self: Any, asks: Any) -> Any:
        seen.append(len(asks))
        return sweep(self, asks)

    monkeypatch.setattr(Graph, "sweep", counting)
    return seen


def test_least_squares_read_the_data_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, seen = stored(tmp_path, *numbers(kind="numbers")), count_sweeps(monkeypatch)
    for est in (daskgd.Ridge(), daskgd.Lasso(), daskgd.ElasticNet()):
        seen.clear()
        search = GridSearchCV(est, {"alpha": np.logspace(-4, 0, 20)}, return_train_score=True).fit(rows)
        assert len(seen) == 1
        np.testing.assert_allclose(
            search.best_estimator_.coef_, clone(search.best_estimator_).fit(rows).coef_, rtol=1e-9
        )


def test_logistic_searches_share_few_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = numbers()
    rows, seen = stored(tmp_path, X, y), count_sweeps(monkeypatch)
    est = daskgd.LogisticRegression(solver=daskgd.SubsampledNewton(sample_bytes=1000, rows_per_parameter=20))
    GridSearchCV(est, {"C": np.logspace(-2, 2, 16)}, scoring="neg_log_loss").fit(rows)
    one = est.fit(rows).n_sweeps_
    assert len(seen) - one <= 3 * one + 1


@pytest.mark.parametrize(
    "est",
    [
        daskgd.LogisticRegression(),
        daskgd.LogisticRegression(l1_ratio=0.5),
        daskgd.LinearSVC(),
        daskgd.LinearSVC(loss="hinge", tol=1e-4),
        daskgd.LogisticRegression(solver="lbfgs"),
        daskgd.LogisticRegression(solver="newton"),
        daskgd.LogisticRegression(solver="fista", tol=1e-5),
        daskgd.LogisticRegression(solver=daskgd.GradientDescent(), tol=1e-4),
        daskgd.LogisticRegression(solver="newton_schur"),
        daskgd.LogisticRegression(solver="preconditioned_lbfgs"),
        daskgd.LogisticRegression(solver="newton_cg"),
        daskgd.LogisticRegression(solver="giant", tol=1e-5),
        daskgd.LogisticRegression(solver="local_gd", tol=1e-3, max_iter=30),
        daskgd.SGDClassifier(random_state=0, max_iter=5),
        daskgd.Perceptron(max_iter=3, tol=None),
        daskgd.MLPClassifier((4,), max_iter=3, random_state=0),
    ],
    ids=lambda est: f"{type(est).__name__}-{getattr(est, 'solver', '')}"[:50],
)
@pytest.mark.parametrize("kind", ["binary", "classes"])
def test_each_fit_is_that_of_its_rows(est: Any, kind: str, tmp_path: Path) -> None:
    """Whatever the solver, shared or not: the scores are those of a fit to the rows of the split alone."""
    X, y = numbers(kind=kind)
    rows = stored(tmp_path, X, y)
    cv = KFold(3, shuffle=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if getattr(est, "solver", "") in ("newton_schur", "fista") and kind == "classes":
            pytest.skip("as for two classes")
        search = GridSearchCV(est, {"verbose": [0]}, cv=cv, refit=False).fit(rows)
        shared = shares_sweeps(clone(est), rows)
        for i, split in enumerate(splits_of(cv, rows)):
            train, test = (rows.of_subset(side) for side in split)
            alone = clone(est).fit(train).score(test)
            # A fit to a view is that fit; in shared sweeps it ends where its own tolerance lets it.
            off = 0 if not shared else 1e-9 if 0 < float(est.tol) <= 1e-6 else 0.02
            assert search.cv_results_[f"split{i}_test_score"][0] == pytest.approx(alone, rel=0, abs=off)


def test_labels_that_a_fold_lacks() -> None:
    """A class that occurs in test rows alone is no error, as in scikit-learn."""
    X, y = numbers(kind="classes")
    y[:100], y[100:] = 7, y[100:]
    cv = [(np.arange(100, N), np.arange(100))]
    a = GridSearchCV(daskgd.LogisticRegression(tol=1e-14), {"C": [1.0]}, cv=cv, refit=False).fit(X, y)
    assert a.cv_results_["split0_test_score"][0] == 0


def test_candidates_that_fail_are_error_score() -> None:
    X, y = numbers()
    grid = {"C": [1.0, -1.0, 0.1]}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        search = GridSearchCV(daskgd.LogisticRegression(), grid).fit(X, y)
    (failed,) = (str(one.message) for one in seen if one.category is FitFailedWarning)
    assert "5 fits failed out of a total of 15" in failed
    assert "expected C" in failed
    means = search.cv_results_["mean_test_score"]
    assert np.isnan(means[1])
    assert not np.isnan(means[[0, 2]]).any()
    assert search.cv_results_["rank_test_score"][1] == 3
    with pytest.raises(ValueError, match="expected C"):
        GridSearchCV(daskgd.LogisticRegression(), grid, error_score="raise").fit(X, y)
    with pytest.raises(ValueError, match="All the 5 fits failed"):
        GridSearchCV(daskgd.LogisticRegression(), {"C": [-1.0]}).fit(X, y)


def test_a_fold_of_one_class_fails_alone() -> None:
    X, y = numbers()
    order = np.argsort(y, kind="stable")
    cv = [(order[:50], order[50:]), (np.arange(0, N, 2), np.arange(1, N, 2))]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One or more of the test scores")
        with pytest.warns(FitFailedWarning, match="only one class"):
            search = GridSearchCV(daskgd.LogisticRegression(), {"C": [1.0]}, cv=cv, error_score=0.5).fit(X, y)
    assert search.cv_results_["split0_test_score"][0] == 0.5
    assert search.cv_results_["split1_test_score"][0] > 0.5


def test_bad_rows_end_the_search_with_their_number(tmp_path: Path) -> None:
    X, y = numbers()
    X[431, 2] = np.nan
    for rows in ((X, y), (da.from_array(X, chunks=(100, -1)), da.from_array(y, chunks=100))):
        with pytest.raises(ValueError, match=r"row 431|NaN"):
            GridSearchCV(daskgd.LogisticRegression(), {"C": [1.0, 2.0]}).fit(*rows)


class Interrupt(Exception):
    pass


def interrupt_after(sweeps: int) -> Callable[[Any], None]:
    seen = [0]

    def watch(event: Any) -> None:
        if isinstance(event, Swept) and event.fit.startswith("C=0.01, split 0"):
            seen[0] += 1
            if seen[0] == sweeps:
                raise KeyboardInterrupt

    return watch


@pytest.mark.parametrize("sweeps", [1, 2, 3])
def test_a_search_that_is_resumed_ends_with_the_same_bits(sweeps: int, tmp_path: Path) -> None:
    rows = stored(tmp_path, *numbers())
    est = daskgd.LogisticRegression(solver=daskgd.SubsampledNewton(sample_bytes=1000, rows_per_parameter=20))
    search = GridSearchCV(est, {"C": [0.01, 1.0]}, scoring="neg_log_loss", cv=3)
    whole = clone(search).fit(rows)
    with pytest.raises(KeyboardInterrupt):
        clone(search).fit(rows, checkpoint=tmp_path / "kept", watch=interrupt_after(sweeps))
    again = clone(search).fit(rows, checkpoint=tmp_path / "kept")
    a, b = without_times(whole.cv_results_), without_times(again.cv_results_)
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert np.array_equal(whole.best_estimator_.coef_, again.best_estimator_.coef_)


def test_a_search_killed_while_it_scores_or_fits_the_best(tmp_path: Path, monkeypatch: Any) -> None:
    rows = stored(tmp_path, *numbers())
    search = GridSearchCV(daskgd.LogisticRegression(), {"C": [0.01, 1.0]}, scoring="neg_log_loss", cv=3)
    whole = clone(search).fit(rows)

    def broken(*_: Any, **__: Any) -> None:
        raise Interrupt

    for where, name in ((scores, "evaluate_items"), (SearchRun, "refit")):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, broken)
            with pytest.raises(Interrupt):
                clone(search).fit(rows, checkpoint=tmp_path / name)
        again = clone(search).fit(rows, checkpoint=tmp_path / name)
        a, b = without_times(whole.cv_results_), without_times(again.cv_results_)
        assert all(np.array_equal(a[key], b[key]) for key in a)
        assert np.array_equal(whole.best_estimator_.coef_, again.best_estimator_.coef_)


def test_a_checkpoint_of_other_folds_is_refused(tmp_path: Path) -> None:
    rows = stored(tmp_path, *numbers())
    GridSearchCV(daskgd.LogisticRegression(), {"C": [1.0]}, cv=3).fit(rows, checkpoint=tmp_path / "kept")
    with pytest.raises(daskgd.CheckpointError, match="rows of estimator 0 was"):
        GridSearchCV(daskgd.LogisticRegression(), {"C": [1.0]}, cv=KFold(3, shuffle=True)).fit(
            rows, checkpoint=tmp_path / "kept"
        )


def test_bits_are_the_same_on_any_engine(tmp_path: Path, client: distributed.Client) -> None:
    rows = stored(tmp_path, *numbers(kind="classes"))
    found = []
    for engine in ("serial", "threads", "distributed"):
        est = daskgd.LogisticRegression(engine=engine)
        found.append(
            GridSearchCV(est, {"C": [0.1, 1.0]}, scoring=["neg_log_loss", "roc_auc_ovr"], refit=False).fit(
                rows
            )
        )
    first, *others = (without_times(one.cv_results_) for one in found)
    for other in others:
        assert all(np.array_equal(first[name], other[name]) for name in first)


def test_pipelines_are_fitted_split_by_split(tmp_path: Path) -> None:
    """Encoders are fitted to the rows of each split, as in scikit-learn."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"kind": rng.choice(["a", "b", "c"], N), "size": rng.normal(size=N) * 7, "late": rng.random(N) > 0.5}
    )
    frame["late"] = np.where(frame["late"] | (frame["kind"] == "b"), "yes", "no")
    frame.to_csv(tmp_path / "a.csv", index=False)
    daskgd.ingest(tmp_path / "a.csv", tmp_path / "a.zarr", target="late")
    encode = make_column_transformer(
        (preprocessing.OneHotEncoder(), ["kind"]), (preprocessing.StandardScaler(), ["size"])
    )
    grid = {
        "logisticregression__C": [0.1, 1.0],
        "columntransformer__standardscaler__with_mean": [True, False],
    }
    ours = daskgd.make_pipeline(encode, daskgd.LogisticRegression(tol=1e-14))
    last = linear_model.LogisticRegression(solver="newton-cholesky", tol=1e-12)
    theirs = daskgd.make_pipeline(clone(encode), last)
    options: dict[str, Any] = {"scoring": "neg_log_loss", "cv": 3}
    a = GridSearchCV(ours, grid, **options).fit(tmp_path / "a.zarr")
    b = model_selection.GridSearchCV(theirs, grid, **options).fit(frame[["kind", "size"]], frame["late"])
    assert_equal_results(a, b, 1e-8)
    assert a.best_params_["logisticregression__C"] == b.best_params_["logisticregression__C"]
    assert a.predict(frame[["kind", "size"]][:5]).tolist() == b.predict(frame[["kind", "size"]][:5]).tolist()
    c = GridSearchCV(ours, grid, **options).fit(frame[["kind", "size"]], frame["late"])
    assert_equal_results(c, b, 1e-8)


def test_what_is_searched_can_be_anything(tmp_path: Path) -> None:
    X, y = numbers(kind="numbers")
    grid = [{"alpha": [0.1]}, {"alpha": [1.0], "fit_intercept": [False]}]
    options = {"scoring": make_scorer(daskgd.metrics.mean_absolute_error, greater_is_better=False), "cv": 3}
    a = GridSearchCV(daskgd.Ridge(), grid, **options).fit(X, y)
    b = model_selection.GridSearchCV(linear_model.Ridge(), grid, scoring="neg_mean_absolute_error", cv=3).fit(
        X, y
    )
    assert_equal_results(a, b, 1e-9)
    r = RandomizedSearchCV(daskgd.Ridge(), {"alpha": np.logspace(-2, 2, 30)}, n_iter=4, random_state=3).fit(
        X, y
    )
    s = model_selection.RandomizedSearchCV(
        linear_model.Ridge(), {"alpha": np.logspace(-2, 2, 30)}, n_iter=4, random_state=3
    ).fit(X, y)
    assert_equal_results(r, s, 1e-9)
    assert r.score(X, y) == pytest.approx(s.score(X, y), abs=1e-9)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_jobs": 4}, "expected n_jobs=None or -1"),
        ({"pre_dispatch": "all"}, "pre_dispatch"),
        ({"error_score": "zero"}, "error_score"),
        ({"scoring": "rand_score"}, "scoring"),
        ({"scoring": ["r2", "neg_max_error"]}, "refit"),
        ({"cv": "five"}, "cv: expected"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(options: dict[str, Any], match: str) -> None:
    X, y = numbers(kind="numbers")
    with pytest.raises(ValueError, match=match):
        GridSearchCV(daskgd.Ridge(), {"alpha": [1.0]}, **options).fit(X, y)


def test_refit_by_a_function_of_the_results() -> None:
    X, y = numbers(kind="numbers")
    search = GridSearchCV(daskgd.Ridge(), {"alpha": [1.0, 2.0, 3.0]}, refit=lambda results: 1).fit(X, y)
    assert search.best_params_ == {"alpha": 2.0}
    with pytest.raises(IndexError):
        GridSearchCV(daskgd.Ridge(), {"alpha": [1.0]}, refit=lambda results: 5).fit(X, y)


def test_networks_whose_solver_depends_on_the_rows_are_fitted_to_views(tmp_path: Path) -> None:
    """Of many rows ``solver="auto"`` of a network trains on whole partitions."""
    X, y = numbers()
    rows = stored(tmp_path, X, y, partition_bytes=8000)
    est = daskgd.MLPClassifier((3,), max_iter=3, tol=0, random_state=0)
    cv = KFold(2, shuffle=True)
    search = GridSearchCV(est, {"alpha": [1e-4]}, cv=cv, refit=False).fit(rows)
    for i, split in enumerate(splits_of(cv, rows)):
        alone = clone(est).fit(rows.of_subset(split.train))
        assert search.cv_results_[f"split{i}_test_score"][0] == alone.score(rows.of_subset(split.test))


@pytest.mark.parametrize(
    "est",
    [
        daskgd.MLPClassifier((3,), max_iter=2, tol=0, random_state=0),
        daskgd.SGDClassifier(random_state=0),
    ],
)
def test_the_best_is_fitted_to_all_rows_as_it_is(est: Any, tmp_path: Path) -> None:
    """Also where its solver trains on whole partitions, which know no subsets."""
    rows = stored(tmp_path, *numbers(), partition_bytes=8000)
    search = GridSearchCV(est, {"alpha": [1e-4, 1e-3]}, cv=2).fit(rows)
    alone = clone(est).set_params(**search.best_params_).fit(rows)
    assert np.array_equal(search.best_estimator_.predict(rows).compute(), alone.predict(rows).compute())


def test_bars_of_many_fits_are_one(capsys: pytest.CaptureFixture[str]) -> None:
    X, y = numbers()
    GridSearchCV(daskgd.LogisticRegression(), {"C": [0.1, 1.0]}, cv=5, refit=False).fit(
        X, y, watch=daskgd.Lines(sweeps=True)
    )
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("10 fits: ") for line in lines)
    assert lines[-1] == "10 fits: converged"


def test_plans_tell_fits_and_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = numbers(kind="numbers")
    rows = stored(tmp_path, X, y)
    search = GridSearchCV(daskgd.Ridge(), {"alpha": [0.1, 1.0, 10.0]}, cv=4)
    plan = search.plan(rows)
    assert (plan.n_candidates, plan.n_splits, plan.n_fits, plan.shared) == (3, 4, 13, True)
    assert plan.sweep_range == (1, 1)
    assert "3 candidates, 4 splits: 13 fits in shared reads" in str(plan)
    seen = count_sweeps(monkeypatch)
    search.fit(rows)
    assert len(seen) == 1
    (tmp_path / "other").mkdir()
    labels = stored(tmp_path / "other", *numbers())
    other = GridSearchCV(daskgd.LogisticRegression(), {"C": [1.0, 2.0]}, cv=3).plan(labels)
    assert other.sweep_range is not None
    assert other.sweep_range[0] >= 2


def test_plans_take_groups(tmp_path: Path) -> None:
    rows = stored(tmp_path, *numbers(kind="numbers"))
    groups = np.arange(N) % 7
    search = GridSearchCV(daskgd.Ridge(), {"alpha": [0.1, 10.0]}, cv=GroupKFold(3))
    assert search.plan(rows, groups=groups).n_fits == 7
    with pytest.raises(ValueError, match="groups"):
        search.plan(rows)


@pytest.mark.parametrize("encoded", [False, True])
def test_plans_are_of_a_candidate_that_can_be_fitted(encoded: bool, tmp_path: Path) -> None:
    """As fits go on with the others."""
    rows = stored(tmp_path, *numbers())
    model: Any = daskgd.LogisticRegression()
    model = daskgd.make_pipeline(preprocessing.StandardScaler(), model) if encoded else model
    name = "logisticregression__C" if encoded else "C"
    first, last = (GridSearchCV(model, {name: values}, cv=3).plan(rows) for values in ([-1, 1], [1, -1]))
    assert first.sweep_range == last.sweep_range
    assert (first.n_fits, repr(first.fit.solver)) == (7, repr(last.fit.solver))
    with pytest.raises(ValueError, match="expected C to be a number > 0"):
        GridSearchCV(model, {name: [-1, -2]}, cv=3).plan(rows)


def test_least_squares_that_is_resumed_at_the_end_scores_the_same_bits(tmp_path: Path) -> None:
    rows = stored(tmp_path, *numbers(kind="numbers"))
    search = GridSearchCV(daskgd.Ridge(), {"alpha": [0.1, 1.0]}, scoring="neg_mean_squared_error")
    a, b = (clone(search).fit(rows, checkpoint=tmp_path / "kept") for _ in range(2))
    assert np.array_equal(a.cv_results_["mean_test_score"], b.cv_results_["mean_test_score"])
    assert np.array_equal(a.best_estimator_.coef_, b.best_estimator_.coef_)


def test_estimators_of_others_are_refused_for_stored_rows(tmp_path: Path) -> None:
    rows = stored(tmp_path, *numbers(kind="numbers"))
    with pytest.raises(TypeError, match="expected an estimator of daskgd's"):
        GridSearchCV(linear_model.Ridge(), {"alpha": [1.0]}).fit(rows)
    X, y = numbers(kind="numbers")
    grid = {"alpha": [1.0, 200.0]}
    found = GridSearchCV(linear_model.Ridge(), grid).fit(X, y)
    assert_equal_results(found, model_selection.GridSearchCV(linear_model.Ridge(), grid).fit(X, y), 0)


def test_samples_that_have_no_room_are_refused_before_any_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, seen = stored(tmp_path, *numbers()), count_sweeps(monkeypatch)
    monkeypatch.setattr("daskgd.engines.worker_memory.free_memory", lambda client: 100_000)
    with pytest.raises(ValueError, match="samples of 5 subsets of the rows"):
        GridSearchCV(daskgd.LogisticRegression(), {"C": [1.0]}, error_score="raise").fit(rows)
    assert not seen


def test_what_cannot_be_read_ends_the_search_of_views_too(tmp_path: Path) -> None:
    """It is no error of a candidate: scores of NaN would hide it."""
    rows = stored(tmp_path, *numbers(), partition_bytes=8000)
    chunk = next(path for path in sorted((tmp_path / "rows.zarr" / "X").rglob("*")) if path.name == "1")
    chunk = chunk / "0" if chunk.is_dir() else chunk
    chunk.write_bytes(b"no block")
    with pytest.raises(daskgd.ChunkError):
        GridSearchCV(daskgd.SGDClassifier(random_state=0), {"alpha": [1e-4, 1e-3]}, cv=2).fit(rows)
