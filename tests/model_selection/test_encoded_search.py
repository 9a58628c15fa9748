"""Searches of pipelines: encoders of all splits, fits and scores share the reads of the table."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest
from sklearn import linear_model, model_selection, pipeline, preprocessing
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder

import daskgd
from daskgd import metrics
from daskgd.engines.graph import Graph
from daskgd.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_validate, fits
from daskgd.model_selection.splitters import splits_of
from daskgd.monitoring.events import Swept
from daskgd.preprocessing import fitting
from daskgd.preprocessing.encoding import encoded_view
from daskgd.preprocessing.fitting import EncoderFit, fit_encoder, fit_encoders
from daskgd.queries.sums import Largest
from daskgd.rows.subsets import Subset
from tests.model_selection.test_search import assert_equal_results, without_times
from tests.tables import FULL, TEXT, Table, make_table

IMPUTER = "columntransformer__pipeline__simpleimputer__strategy"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """A table in a store of several blocks."""
    folder = tmp_path_factory.mktemp("table")
    made = make_table(folder, 0)
    daskgd.ingest(folder / "0.csv", folder / "blocks.zarr", target="late", chunk_bytes=2000)
    found = made._replace(dataset=daskgd.open_dataset(folder / "blocks.zarr", block_bytes=2000))
    assert found.dataset.layout.n_blocks > 3
    return found


def encoder(scaler: Any = None) -> Any:
    numbers = make_pipeline(SimpleImputer(), scaler or StandardScaler())
    return make_column_transformer(
        (numbers, ["miles", "temp", "month"]), (OneHotEncoder(handle_unknown="ignore"), TEXT)
    )


def small_sample(**params: Any) -> Any:
    """A logistic regression that takes several sweeps."""
    solver = daskgd.SubsampledNewton(sample_bytes=1000, rows_per_parameter=5)
    return daskgd.LogisticRegression(solver=solver, **params)


def warned(fit: Callable[[], Any]) -> tuple[Any, str]:
    """What a fit returns, and the warnings that it gives."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = fit()
    return found, "; ".join(str(one.message) for one in said)


def count_sweeps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []
    sweep = Graph.sweep

    def counted(self: Graph, asks: Any) -> Any:
        seen.append(len(asks))
        return sweep(self, asks)

    monkeypatch.setattr(Graph, "sweep", counted)
    return seen


# -- encoders -------------------------------------------------------------------------------------

SPECIFICATIONS = {
    "scaled": encoder(),
    "medians": make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), preprocessing.RobustScaler()), ["miles", "temp"]),
        (preprocessing.KBinsDiscretizer(3, quantile_method="averaged_inverted_cdf"), ["month"]),
    ),
    "ranges": make_column_transformer(
        (preprocessing.MinMaxScaler(), FULL), (preprocessing.OrdinalEncoder(), TEXT)
    ),
    "made": make_column_transformer(
        (make_pipeline(preprocessing.PolynomialFeatures(), StandardScaler()), FULL),
    ),
    "targets": make_column_transformer((TargetEncoder(cv=3), TEXT), (StandardScaler(), FULL)),
}


def assert_same_state(a: Any, b: Any, exact: bool) -> None:
    """Numbers of two fitted encoders agree to 1e-12, or to the bit; whatever else they hold is equal."""
    if hasattr(a, "get_params") and not isinstance(a, type):
        assert type(a) is type(b)
        assert_same_state(vars(a), vars(b), exact)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            assert_same_state(a[name], b[name], exact)
    elif isinstance(a, list | tuple) or (isinstance(a, np.ndarray) and a.dtype == object):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same_state(one, other, exact)
    elif isinstance(a, np.ndarray) and a.dtype.kind == "f" and not exact:
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, float):
        assert a == pytest.approx(b, rel=0 if exact else 1e-12, abs=0, nan_ok=True)
    elif isinstance(a, str | int):
        assert a == b


@pytest.mark.parametrize("cv", [KFold(3), StratifiedKFold(3, shuffle=True)], ids=["runs", "hashed"])
def test_encoders_fitted_by_cells_are_those_of_each_subset(cv: Any, table: Table) -> None:
    """All specifications, on all splits, in two sweeps: what is stored, then what is made of it."""
    splits = splits_of(cv, table.dataset, True)
    asked = [
        (name, EncoderFit(clone(spec), split.train))
        for name, spec in SPECIFICATIONS.items()
        for split in splits
    ]
    fit_encoders([fit for _, fit in asked], table.dataset)
    assert max(fit.facts.n_sweeps for _, fit in asked if fit.facts is not None) == 2
    for name, fit in asked:
        rows = table.dataset.of_subset(fit.subset)
        alone = fit_encoder(fit.encoder, rows)
        assert fit.error is None
        # Counts, samples, minima and what is asked of a subset alone are the same bits.
        assert_same_state(fit.fitted, alone, exact=name == "ranges")


def test_encoders_of_a_single_split_have_the_bits_of_its_rows(table: Table) -> None:
    (split,) = splits_of(list(KFold(3).split(np.empty((table.dataset.n_rows, 0))))[:1], table.dataset)
    for spec in SPECIFICATIONS.values():
        fit = EncoderFit(clone(spec), split.train)
        fit_encoders([fit], table.dataset)
        assert_same_state(fit.fitted, fit_encoder(spec, table.dataset.of_subset(split.train)), exact=True)


def test_samples_of_subsets_are_those_of_their_rows(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "SAMPLE_BYTES", 4000)
    splits = splits_of(KFold(3, shuffle=True), table.dataset)
    few = Subset(splits[0].train.cells, (True, False, False))
    asked = [EncoderFit(SPECIFICATIONS["medians"], one) for one in (splits[0].train, few)]
    fit_encoders(asked, table.dataset)
    for fit in asked:
        rows = table.dataset.of_subset(fit.subset)
        facts = fitting.Facts.of(rows.schema)
        alone = fit_encoder(fit.encoder, rows, facts=facts)
        assert fit.facts is not None
        assert fit.facts.sample is not None
        assert facts.sample is not None
        assert 0 < len(facts.sample) < rows.n_rows
        assert np.array_equal(fit.facts.sample.numbers, facts.sample.numbers)
        assert_same_state(fit.fitted, alone, exact=False)


def test_large_sums_are_made_in_several_sweeps(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = splits_of(KFold(3), table.dataset)
    whole, cut = ([EncoderFit(SPECIFICATIONS["targets"], split.train) for split in splits] for _ in range(2))
    fit_encoders(whole, table.dataset)
    monkeypatch.setattr(fitting, "SUMS_BYTES", 1)
    fit_encoders(cut, table.dataset)
    for a, b in zip(whole, cut, strict=True):
        assert a.facts is not None
        assert b.facts is not None
        assert (a.facts.n_sweeps, b.facts.n_sweeps) == (2, 4)
        assert_same_state(a.fitted, b.fitted, exact=True)


# -- searches -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("cv", [3, model_selection.KFold(3, shuffle=True, random_state=0)], ids=str)
def test_scores_are_scikit_learns(cv: Any, table: Table) -> None:
    ours = daskgd.make_pipeline(encoder(), daskgd.LogisticRegression(tol=1e-14))
    last = linear_model.LogisticRegression(solver="newton-cholesky", tol=1e-12)
    theirs = make_pipeline(encoder(), last)
    grid = {"logisticregression__C": [0.1, 10.0], IMPUTER: ["mean", "most_frequent"]}
    options: dict[str, Any] = {"scoring": ["neg_log_loss", "roc_auc"], "refit": "roc_auc", "cv": cv}
    a = GridSearchCV(ours, grid, return_train_score=True, **options).fit(table.dataset)
    b = model_selection.GridSearchCV(theirs, grid, return_train_score=True, **options)
    assert_equal_results(a, b.fit(table.frame, table.y), 1e-8)


def test_scores_of_least_squares_are_scikit_learns(tmp_path: Path, table: Table) -> None:
    y = table.frame.pop("temp").fillna(0.0) if "temp" in table.frame else None
    assert y is not None
    frame = table.frame
    try:
        daskgd.write_dataset(tmp_path / "a.zarr", frame, y.to_numpy())
        encode = make_column_transformer((StandardScaler(), FULL), (OneHotEncoder(drop="first"), ["origin"]))
        grid = {"ridge__alpha": [0.1, 100.0]}
        a = GridSearchCV(daskgd.make_pipeline(encode, daskgd.Ridge()), grid).fit(tmp_path / "a.zarr")
        b = model_selection.GridSearchCV(make_pipeline(encode, linear_model.Ridge()), grid).fit(frame, y)
        assert_equal_results(a, b, 1e-10)
    finally:
        frame["temp"] = y


@pytest.mark.parametrize("n_candidates", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_all_splits_and_encoders_share_the_reads(
    n_candidates: int, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One read fits the encoders, one the models, whose sample is all rows, and one scores them."""
    strengths = np.logspace(-2, 2, n_candidates).tolist()
    variants = [StandardScaler(), preprocessing.MinMaxScaler()]
    grid = {"logisticregression__C": strengths, "columntransformer__pipeline__standardscaler": variants}
    model = daskgd.make_pipeline(encoder(), daskgd.LogisticRegression())
    search = GridSearchCV(model, grid, scoring="neg_log_loss")
    plan, seen = clone(search).set_params(refit=False).plan(table.dataset), count_sweeps(monkeypatch)
    search.fit(table.dataset)
    assert len(seen) == 3 + 2
    assert plan.shared
    assert plan.sweep_range == (3, 3)


def test_a_fit_to_one_split_has_the_bits_of_that_to_its_view(table: Table) -> None:
    """Also where it takes several sweeps beside fits to other rows, encoded in other ways."""
    pairs = list(KFold(2).split(np.empty((table.dataset.n_rows, 0))))
    for pair in pairs:
        (split,) = splits_of([pair], table.dataset)
        for last in (small_sample(), daskgd.LogisticRegression(solver="giant", max_iter=5, tol=0)):
            model = daskgd.make_pipeline(encoder(), last)
            member = fits.Member(clone(model), split.train)
            other = fits.Member(
                daskgd.make_pipeline(encoder(preprocessing.MinMaxScaler()), clone(last)), None
            )
            fits.fit_members([member, other], table.dataset)
            alone = clone(model).fit(table.dataset.of_subset(split.train))
            assert member.error is None
            assert member.estimator[-1].n_sweeps_ == alone[-1].n_sweeps_ > 1
            assert np.array_equal(member.estimator[-1].coef_, alone[-1].coef_)
            assert np.array_equal(member.estimator[-1].intercept_, alone[-1].intercept_)


def test_views_that_have_no_room_together_are_fitted_in_turn(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = daskgd.make_pipeline(encoder(), small_sample())
    search = GridSearchCV(model, {"logisticregression__C": [0.1, 1.0]}, cv=3, scoring="neg_log_loss")
    whole = clone(search).fit(table.dataset)
    groups: list[int] = []
    fit = fits._fit_to_encoded_views
    monkeypatch.setattr(fits, "MOST_SAMPLE_BYTES", 4000)

    def counted(some: Any, *others: Any) -> None:
        groups.append(len(some))
        fit(some, *others)

    monkeypatch.setattr(fits, "_fit_to_encoded_views", counted)
    cut = clone(search).fit(table.dataset)
    assert groups == [4, 2]
    a, b = without_times(whole.cv_results_), without_times(cut.cv_results_)
    assert all(np.array_equal(a[name], b[name]) for name in a)


def interrupt_after(sweeps: int) -> Callable[[Any], None]:
    seen = [0]

    def watch(event: Any) -> None:
        if isinstance(event, Swept) and event.fit.endswith("split 0"):
            seen[0] += 1
            if seen[0] == 2 * sweeps:  # two fits to that split
                raise KeyboardInterrupt

    return watch


@pytest.mark.parametrize("sweeps", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_search_that_is_resumed_ends_with_the_same_bits(sweeps: int, table: Table, tmp_path: Path) -> None:
    model = daskgd.make_pipeline(encoder(), small_sample())
    search = GridSearchCV(model, {"logisticregression__C": [0.1, 1.0]}, cv=3, scoring="neg_log_loss")
    whole = clone(search).fit(table.dataset)
    with pytest.raises(KeyboardInterrupt):
        clone(search).fit(table.dataset, checkpoint=tmp_path / "kept", watch=interrupt_after(sweeps))
    again = clone(search).fit(table.dataset, checkpoint=tmp_path / "kept")
    a, b = without_times(whole.cv_results_), without_times(again.cv_results_)
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert np.array_equal(whole.best_estimator_[-1].coef_, again.best_estimator_[-1].coef_)


def test_a_checkpoint_of_other_encoders_is_refused(table: Table, tmp_path: Path) -> None:
    grid = {"logisticregression__C": [1.0]}
    for spec, cv, match in (
        (encoder(), 3, None),
        (encoder(preprocessing.MinMaxScaler()), 3, "encoder of estimator 0 was"),
        (encoder(), KFold(3, shuffle=True), "rows of estimator 0 was"),
    ):
        search = GridSearchCV(daskgd.make_pipeline(spec, daskgd.LogisticRegression()), grid, cv=cv)
        if match is None:
            search.fit(table.dataset, checkpoint=tmp_path / "kept")
        else:
            with pytest.raises(daskgd.CheckpointError, match=match):
                search.fit(table.dataset, checkpoint=tmp_path / "kept")


def test_bits_are_the_same_on_any_engine(table: Table, client: distributed.Client) -> None:
    found = []
    for engine in ("serial", "threads", "distributed"):
        model = daskgd.make_pipeline(SPECIFICATIONS["targets"], small_sample(engine=engine))
        grid = {"logisticregression__C": [0.1, 1.0]}
        search = GridSearchCV(model, grid, scoring="roc_auc", refit=False, cv=KFold(2, shuffle=True))
        found.append(without_times(search.fit(table.dataset).cv_results_))
    for other in found[1:]:
        assert all(np.array_equal(found[0][name], other[name]) for name in other)


# -- what fails -----------------------------------------------------------------------------------


def test_a_category_that_only_the_test_rows_have_fails_its_score_alone(tmp_path: Path) -> None:
    """As in scikit-learn."""
    import pandas as pd

    kinds = np.array(["a", "b"])[np.arange(60) % 2].astype(object)
    kinds[3] = "c"
    frame, y = pd.DataFrame({"kind": kinds, "x": np.arange(60.0) % 7}), np.arange(60) % 3 == 0
    daskgd.write_dataset(tmp_path / "a.zarr", frame, y)
    encode = make_column_transformer((OneHotEncoder(), ["kind"]), (StandardScaler(), ["x"]))
    model, grid = daskgd.make_pipeline(encode, daskgd.LogisticRegression()), {"logisticregression__C": [1.0]}
    search = GridSearchCV(model, grid, cv=KFold(3), refit=False)
    found, said = warned(lambda: search.fit(tmp_path / "a.zarr"))
    assert "Scoring failed 1 times" in said
    assert "Found unknown categories ['c'] in column 'kind'" in said
    scores = [found.cv_results_[f"split{i}_test_score"][0] for i in range(3)]
    assert np.isnan(scores).tolist() == [True, False, False]


def scores_of_both(model: Any, theirs: Any, path: Path, frame: Any, y: Any, cv: Any) -> tuple[Any, Any]:
    """Test and train scores of all splits, ours and scikit-learn's."""
    options: dict[str, Any] = {"cv": cv, "scoring": "neg_log_loss", "return_train_score": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        a, b = (
            cross_validate(model, path, **options),
            model_selection.cross_validate(theirs, frame, y, **options),
        )
    return tuple(np.array([found["test_score"], found["train_score"]]) for found in (a, b))


@pytest.mark.parametrize(("first", "cv"), [(350, model_selection.TimeSeriesSplit(3)), (0, 4)], ids=str)
@pytest.mark.parametrize("kind", [OneHotEncoder, preprocessing.OrdinalEncoder])
def test_rows_that_cannot_be_encoded_fail_the_scores_of_their_split_alone(
    kind: Any, first: int, cv: Any, tmp_path: Path
) -> None:
    """Also where encoders of several splits do the same, and where these are the first rows of the table."""
    import pandas as pd

    rng = np.random.default_rng(0)
    kinds = rng.choice(["a", "b", "d"], 400).astype(object)
    kinds[first : first + 10] = "z"
    frame = pd.DataFrame({"kind": kinds, "x": rng.normal(size=400)})
    y = np.where((kinds == "a") + frame["x"] + rng.normal(size=400) > 0, "yes", "no")
    daskgd.write_dataset(tmp_path / "a.zarr", frame, y)
    encode = make_column_transformer((kind(), ["kind"]), ("passthrough", ["x"]))
    ours = daskgd.make_pipeline(encode, daskgd.LogisticRegression(tol=1e-14))
    theirs = make_pipeline(encode, linear_model.LogisticRegression(solver="newton-cholesky", tol=1e-12))
    a, b = scores_of_both(ours, theirs, tmp_path / "a.zarr", frame, y, cv)
    assert 0 < np.isnan(b).sum() < 3
    np.testing.assert_allclose(a, b, rtol=1e-8)


def test_rows_that_are_in_no_split_need_not_be_encoded(tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame({"kind": np.array(["z", *"ab" * 100], dtype=object), "x": np.arange(201.0) % 7})
    daskgd.write_dataset(tmp_path / "a.zarr", frame, np.arange(201) % 3 == 0)
    encode = make_column_transformer((OneHotEncoder(), ["kind"]), ("passthrough", ["x"]))
    model = daskgd.make_pipeline(encode, daskgd.LogisticRegression())
    found = cross_validate(model, tmp_path / "a.zarr", cv=[(np.arange(1, 150), np.arange(150, 201))])
    assert np.isfinite(found["test_score"]).all()


def test_steps_that_are_left_out_are_candidates(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 2)) * [1.0, 100.0]
    y = X[:, 0] + rng.normal(size=600) > 0
    daskgd.write_dataset(tmp_path / "a.zarr", X, y)
    steps = [("scale", StandardScaler()), ("model", daskgd.LogisticRegression(tol=1e-14))]
    grid = {"scale": ["passthrough", StandardScaler(), None]}
    theirs = model_selection.GridSearchCV(
        pipeline.Pipeline([steps[0], ("model", linear_model.LogisticRegression(tol=1e-12))]),
        grid, cv=3, scoring="neg_log_loss",
    ).fit(X, y)  # fmt: skip
    found = GridSearchCV(daskgd.Pipeline(steps), grid, cv=3, scoring="neg_log_loss").fit(tmp_path / "a.zarr")
    for name in ("mean_test_score", "std_test_score"):
        np.testing.assert_allclose(found.cv_results_[name], theirs.cv_results_[name], rtol=1e-5)
    alone = daskgd.Pipeline([("scale", "passthrough"), steps[1]])
    scores = cross_validate(alone, tmp_path / "a.zarr", cv=3, scoring="neg_log_loss")["test_score"]
    assert scores.mean() == pytest.approx(found.cv_results_["mean_test_score"][0], rel=1e-12)


def test_pipelines_are_scored_on_their_engine(table: Table, client: distributed.Client) -> None:
    class Process:
        """The process in which rows are scored."""

        def of(self, y: Any, p: Any, s: Any) -> Any:
            return Largest(np.array([float(os.getpid())]))

        def value(self, found: Any) -> float:
            return float(found.value[0])

    for engine in ("serial", "distributed"):
        model = daskgd.make_pipeline(encoder(), daskgd.LogisticRegression(engine=engine))
        scoring = {"process": metrics.make_scorer(Process())}
        found = cross_validate(model, table.dataset, cv=2, scoring=scoring)["test_process"]
        assert (set(found) == {os.getpid()}) == (engine == "serial")


@pytest.mark.parametrize("encoded", [False, True])
def test_rows_with_an_offset_are_searched(encoded: bool, tmp_path: Path) -> None:
    """Scores are those of fits to the rows of each split."""
    rng = np.random.default_rng(0)
    X, offset = rng.normal(size=(600, 2)), rng.normal(size=600)
    daskgd.write_dataset(tmp_path / "a.zarr", X, rng.poisson(np.exp(offset + X[:, 0] / 3)), offset=offset)
    dataset, model = daskgd.open_dataset(tmp_path / "a.zarr"), daskgd.PoissonRegressor()
    model = daskgd.make_pipeline(StandardScaler(), model) if encoded else model
    name = "poissonregressor__alpha" if encoded else "alpha"
    search = GridSearchCV(model, {name: [0.1, 10.0]}, cv=KFold(3)).fit(dataset)
    assert search.best_params_ == {name: 0.1}
    for i, split in enumerate(splits_of(KFold(3), dataset)):
        fitted = clone(model).set_params(**{name: 0.1}).fit(dataset.of_subset(split.train))
        expected = fitted.score(dataset.of_subset(split.test))
        assert search.cv_results_[f"split{i}_test_score"][0] == pytest.approx(expected, rel=1e-12)


def test_encoders_and_fits_that_fail_leave_the_others_alone(table: Table) -> None:
    bad, good = preprocessing.PowerTransformer(method="no"), StandardScaler()
    model = daskgd.make_pipeline(make_column_transformer((good, FULL)), daskgd.LogisticRegression())
    grid = {"columntransformer__standardscaler": [good, bad], "logisticregression__C": [1.0, -1.0]}
    search = GridSearchCV(model, grid, cv=3, refit=False)
    found, said = warned(lambda: search.fit(table.dataset))
    assert "9 fits failed out of a total of 12" in said
    assert np.isnan(found.cv_results_["mean_test_score"]).tolist() == [False, True, True, True]


def test_rows_that_a_model_cannot_take_fail_by_name(table: Table) -> None:
    """Gaps that no encoder fills are refused in the sweep of all: each fit is then made alone."""
    each = [make_column_transformer((one, ["temp"])) for one in (SimpleImputer(), StandardScaler())]
    model = daskgd.make_pipeline(each[0], daskgd.LogisticRegression())
    search = GridSearchCV(model, {"columntransformer": each}, cv=3, refit=False)
    found, said = warned(lambda: search.fit(table.dataset))
    assert "3 fits failed out of a total of 6" in said
    assert "Input X contains NaN: expected finite numbers, got nan in row 2, column 0" in said
    assert np.isnan(found.cv_results_["mean_test_score"]).tolist() == [False, True]


def test_a_view_plans_for_what_it_makes(table: Table) -> None:
    fitted = fit_encoder(encoder(), table.dataset)
    view = encoded_view(fitted, table.dataset)
    assert view.row_bytes >= 3 * 8 + 2 * 4
    assert view.n_features == view.encode(table.dataset).n_features
