"""What datasets carry of themselves: fits are told what a sweep would tell, bit for bit, or nothing."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

import daskgd
from daskgd import model_selection
from daskgd.cli import main
from daskgd.data.dataset import Dataset
from daskgd.engines.graph import Graph
from daskgd.engines.select import open_engine
from daskgd.engines.serial import Serial
from daskgd.queries import Ask, Query, Survey, SurveyAnswer
from daskgd.queries.sample import Sample, SampleAnswer
from daskgd.solvers import subsampled_newton
from daskgd.storage.commit import create_group
from daskgd.storage.reading import StoredColumn
from daskgd.storage.records import pack, types_of
from daskgd.storage.surveys import SAMPLE, SURVEY, TYPES
from tests.mutations import flipped

SHAPES = {
    "two classes": (20_000, 7, "f4", 2),
    "rare classes": (30_000, 5, "f8", 40),
    "numbers": (20_000, 6, "f8", 0),
    "sparse": (30_000, 9, "f4", 3),
    "categories": (40_000, 6, "f8", 2),
    "weighted": (20_000, 5, "f4", 2),
}
BYTES = {**TYPES, **types_of([SurveyAnswer, SampleAnswer])}


def rows(kind: str) -> tuple[Any, np.ndarray, np.ndarray | None]:
    n, p, dtype, k = SHAPES[kind]
    rng = np.random.default_rng(p)
    X: Any = rng.normal(size=(n, p)).astype(dtype) * 3 + np.arange(p, dtype=dtype)
    y = np.minimum(rng.geometric(0.3, n) - 1, k - 1) if k else X @ rng.normal(size=p) + rng.normal(size=n)
    if k and kind != "rare classes":
        y = (X[:, 0] + 2 * rng.normal(size=n) > 3).astype(int) + (y == 2)
    s = rng.integers(0, 3, n).astype(float) if kind == "weighted" else None
    if kind == "sparse":
        X = sp.csr_array(np.where(rng.random((n, p)) < 0.2, X, 0).astype(dtype))
    if kind == "categories":
        X = daskgd.OneHot(rng.integers(-1, 4, (n, 3)), [4, 4, 4])
    return X, y, s


def write(path: Path, kind: str, **options: Any) -> Path:
    daskgd.write_dataset(path, *rows(kind), chunk_bytes=50_000, **options)
    return path


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("stores")
    with dask.config.set({"daskgd.block-bytes": 60_000}):
        return {kind: write(root / f"{i}.zarr", kind) for i, kind in enumerate(SHAPES)}


@pytest.fixture(autouse=True)
def blocks() -> Any:
    with dask.config.set({"daskgd.block-bytes": 60_000}):
        yield


def swept(dataset: Dataset, query: Query) -> Any:
    """The answer of a sweep."""
    with open_engine(dataset, "serial") as (engine, _):
        return engine.sweep([Ask(None, query)])[0]


def told(dataset: Dataset, query: Query) -> Any:
    """The answer of the store."""
    assert dataset.survey is not None
    return dataset.survey.answer(query, dataset.layout.block_rows)


def same(a: Any, b: Any) -> bool:
    return pack(a, BYTES) == pack(b, BYTES)


def without_survey(path: Path) -> Dataset:
    return daskgd.open_dataset(path).replace(survey=None)


# -- the same bits --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SHAPES)
def test_answers_are_those_of_a_sweep(stores: dict[str, Path], kind: str) -> None:
    dataset = daskgd.open_dataset(stores[kind])
    assert dataset.layout.n_blocks > 3
    for query in (Survey(), Survey(classification=SHAPES[kind][3] > 0), Survey(low=-1e9)):
        assert same(told(dataset, query), swept(dataset, query))
    for query in (Sample(0.05), Sample(0.01), Sample(0.02, per_class=60), Sample(0.05, per_class=3)):
        if not query.per_class or SHAPES[kind][3]:
            assert same(told(dataset, query), swept(dataset, query)), query


@given(share=st.floats(1e-4, 0.05), per_class=st.integers(0, 120))
@settings(max_examples=30, deadline=None)
def test_smaller_samples_are_selected(stores: dict[str, Path], share: float, per_class: int) -> None:
    dataset = daskgd.open_dataset(stores["rare classes"])
    query = Sample(share, per_class)
    assert same(told(dataset, query), swept(dataset, query))


def test_what_the_store_does_not_tell(stores: dict[str, Path]) -> None:
    numbers, classes = (daskgd.open_dataset(stores[kind]) for kind in ("numbers", "two classes"))
    assert told(numbers, Survey(classification=True)) is None  # which are no labels
    assert told(numbers, Survey(low=0.0)) is None  # some are below
    assert told(classes, Survey(indicator=True)) is not None
    assert told(numbers, Survey(indicator=True)) is None
    assert told(classes, Survey(low=0.0)) is not None
    assert told(classes, Survey(low=0.0, low_included=False)) is None
    for query in (Sample(0.06), Sample(1.0), Sample(0.01, seed=1)):
        assert told(numbers, query) is None
    other = daskgd.open_dataset(stores["numbers"], block_bytes=120_000)
    assert told(other, Survey()) is None  # sums of other blocks have other last bits
    assert told(other, Sample(0.01)) is not None


ESTIMATORS = {
    "two classes": daskgd.LogisticRegression,
    "rare classes": daskgd.LogisticRegression,
    "numbers": daskgd.HuberRegressor,
    "sparse": daskgd.LogisticRegression,
    "categories": daskgd.LogisticRegression,
    "weighted": daskgd.LogisticRegression,
}


ENGINES = [*(pytest.param(engine, marks=pytest.mark.slow) for engine in ("serial", "threads")), "distributed"]


def from_sample(**options: Any) -> Any:
    """A solver that takes less than all rows of such data."""
    return daskgd.SubsampledNewton(sample_bytes=15_000, rows_per_parameter=70, **options)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_fits_read_once_less_and_have_the_same_bits(stores: dict[str, Path], kind: str) -> None:
    fits = [
        ESTIMATORS[kind](solver=from_sample(), max_iter=100).fit(dataset)
        for dataset in (daskgd.open_dataset(stores[kind]), without_survey(stores[kind]))
    ]
    assert fits[0].n_sweeps_ == fits[1].n_sweeps_ - 1
    np.testing.assert_array_equal(fits[0].coef_, fits[1].coef_)
    np.testing.assert_array_equal(fits[0].intercept_, fits[1].intercept_)


@pytest.mark.parametrize("kind", ["two classes", "categories"])
def test_engines_and_resumed_fits_have_the_same_bits(
    client: distributed.Client, stores: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    def fit(engine: str, **options: Any) -> Any:
        est = daskgd.LogisticRegression(solver=from_sample(), engine=engine, **options)
        return est.fit(stores[kind], checkpoint=tmp_path / "progress" if options else None)

    serial = fit("serial")
    with pytest.warns(UserWarning, match="did not converge"):
        fit("threads", max_iter=1, tol=1e-12)
    others = [fit("threads"), fit("distributed"), fit("distributed", max_iter=50, tol=1e-12)]
    for est in others[:2]:
        np.testing.assert_array_equal(est.coef_, serial.coef_)
    again = daskgd.LogisticRegression(solver=from_sample(), engine="serial", max_iter=50, tol=1e-12)
    np.testing.assert_array_equal(others[2].coef_, again.fit(stores[kind]).coef_)


@pytest.mark.parametrize("engine", ["serial", "threads", "distributed"])
def test_rows_of_what_may_be_the_only_sweep_are_not_kept(
    client: distributed.Client, stores: dict[str, Path], monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """Where a second one follows, they are kept from that on; the bits are the same."""

    read: list[int] = []
    column_read = StoredColumn.read

    def noted(sweep: Any) -> Any:
        def answers(self: Any, asks: Any) -> Any:
            read.append(0)
            found = sweep(self, asks)
            if engine == "distributed":
                read[-1] = self.last.read_blocks
            return found

        return answers

    def counted(self: StoredColumn, start: int, stop: int) -> Any:
        read[-1] += self.ndim == 2
        return column_read(self, start, stop)

    monkeypatch.setattr(StoredColumn, "read", counted)
    for kind in (Graph, Serial):
        monkeypatch.setattr(kind, "sweep", noted(kind.sweep))
    found, n = [], daskgd.open_dataset(stores["two classes"]).layout.n_blocks
    for left, streamed in ((np.inf, 2), (0.0, 1)):
        monkeypatch.setattr(subsampled_newton, "LEFT", left)
        read[:] = []
        est = daskgd.LogisticRegression(solver=from_sample(), engine=engine, tol=1e-12)
        found.append(est.fit(stores["two classes"]))
        assert read == [n] * streamed + [0] * (len(read) - streamed)
        assert len(read) > 2
    np.testing.assert_array_equal(found[0].coef_, found[1].coef_)


def test_a_larger_sample_than_the_stored_one_is_drawn_where_it_spares_sweeps(tmp_path: Path) -> None:
    """Of losses with kinks, and for solvers that want more rows of each class."""
    path = write(tmp_path / "a.zarr", "rare classes")
    X, y, _ = rows("rare classes")
    daskgd.write_dataset(path, X, (y > 3).astype(int), overwrite=True, chunk_bytes=50_000)
    for make in (
        lambda: daskgd.LinearSVC(loss="hinge", C=0.01, solver=from_sample()),
        lambda: daskgd.LogisticRegression(solver=daskgd.PreconditionedLBFGS(sample_bytes=90_000)),
    ):
        found = [make().fit(dataset) for dataset in (daskgd.open_dataset(path), without_survey(path))]
        np.testing.assert_array_equal(found[0].coef_, found[1].coef_)
        assert found[0].n_sweeps_ <= found[1].n_sweeps_


def test_together_asks_nothing_of_the_data(stores: dict[str, Path]) -> None:
    path, found = stores["two classes"], []
    for dataset in (daskgd.open_dataset(path), without_survey(path)):
        several = [daskgd.LogisticRegression(C=C, solver=from_sample()) for C in (0.01, 1.0)]
        daskgd.together(several, dataset)
        found.append(several)
    for told_, asked in zip(*found, strict=True):
        np.testing.assert_array_equal(told_.coef_, asked.coef_)
        assert told_.n_sweeps_ == asked.n_sweeps_ - 1


def test_other_targets_weights_and_seeds_are_asked_of_the_rows(stores: dict[str, Path]) -> None:
    path = stores["two classes"]
    X, y, _ = rows("two classes")
    s = np.linspace(0, 1, len(y))
    for data, given_y, weights, state in (
        (daskgd.open_dataset(path).X, 1 - y, None, None),
        (daskgd.open_dataset(path), None, s, None),
        (daskgd.open_dataset(path), None, None, 7),
    ):
        make = daskgd.LogisticRegression(solver=from_sample(), random_state=state, tol=1e-10)
        found = make.fit(data, given_y, sample_weight=weights)
        expected = daskgd.LogisticRegression(tol=1e-10).fit(X, y if given_y is None else given_y, weights)
        np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-4, atol=1e-5)
        assert found.n_sweeps_ >= 2


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_fits_to_splits_read_once_less(
    client: distributed.Client, stores: dict[str, Path], kind: str, engine: str
) -> None:
    """They have the scale of all rows, so that other last bits are the same minimum."""
    found = []
    for dataset in (daskgd.open_dataset(stores[kind]), without_survey(stores[kind])):
        train, test = dataset.train_test_split(0.3, random_state=5)
        est = ESTIMATORS[kind](solver=from_sample(), max_iter=100, engine=engine).fit(train)
        assert 0.3 < est.score(test) <= 1
        found.append(est)
    assert found[0].n_sweeps_ <= found[1].n_sweeps_ - (kind != "rare classes")  # whose samples differ
    assert found[0].history_[-1]["loss"] == pytest.approx(found[1].history_[-1]["loss"], rel=2e-6)
    again = ESTIMATORS[kind](solver=from_sample(), max_iter=100, engine="serial")
    train = daskgd.open_dataset(stores[kind]).train_test_split(0.3, random_state=5)[0]
    np.testing.assert_array_equal(again.fit(train).coef_, found[0].coef_)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Rows of which those of a split that are tested on have an outlier in one feature, and all that is not 0
    in another; and the numbers of these rows."""
    path = tmp_path_factory.mktemp("odd") / "a.zarr"
    rng, n = np.random.default_rng(0), 40_000
    daskgd.write_dataset(path, np.arange(float(n))[:, None])
    tested = (
        daskgd.open_dataset(path).train_test_split(0.3, random_state=5)[1].X.compute().ravel().astype(int)
    )
    X = rng.normal(size=(n, 4))
    y = (X[:, 0] + 2 * X[:, 2] + rng.logistic(size=n) > 0).astype(int)
    X[:, 3] = 0
    X[tested[0], 2], X[tested[:50], 3] = 1e12, 1
    daskgd.write_dataset(path, X, y, overwrite=True, chunk_bytes=100_000)
    return path, tested


@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg", "newton", "sampled"])
def test_splits_that_are_spread_otherwise_have_a_scale_of_their_own(
    odd: tuple[Path, np.ndarray], solver: str
) -> None:
    given = from_sample() if solver == "sampled" else daskgd.Newton() if solver == "newton" else solver
    surveyed, asked = (
        daskgd.LogisticRegression(C=np.inf, solver=given, tol=1e-10).fit(
            dataset.train_test_split(0.3, random_state=5)[0]
        )
        for dataset in (daskgd.open_dataset(odd[0]), without_survey(odd[0]))
    )
    np.testing.assert_array_equal(surveyed.coef_, asked.coef_)
    assert 1.9 < surveyed.coef_[0, 2] < 2.1
    assert abs(surveyed.coef_[0, 3]) < 1e-12


def test_folds_that_are_spread_otherwise_have_a_scale_of_their_own(odd: tuple[Path, np.ndarray]) -> None:
    path, tested = odd
    trained = np.setdiff1d(np.arange(40_000), tested)
    found = [
        model_selection.cross_validate(
            daskgd.LogisticRegression(solver=from_sample(), tol=1e-12),
            dataset,
            cv=[(trained[:20_000], trained[20_000:]), (trained[5_000:], tested[50:])],
            scoring="neg_log_loss",
            return_estimator=True,
        )
        for dataset in (daskgd.open_dataset(path), without_survey(path))
    ]
    np.testing.assert_allclose(found[0]["test_score"], found[1]["test_score"], rtol=1e-9)
    assert all(1.9 < fit.coef_[0, 2] < 2.1 for fit in found[0]["estimator"])


@pytest.mark.parametrize("of_a_split", [False, True])
def test_searches_read_once_less(
    stores: dict[str, Path], monkeypatch: pytest.MonkeyPatch, of_a_split: bool
) -> None:
    """Folds have the labels and weights of their rows, from the targets alone."""
    read = [0]
    column_read = StoredColumn.read

    def counted(self: StoredColumn, start: int, stop: int) -> Any:
        read[0] += self.ndim == 2
        return column_read(self, start, stop)

    monkeypatch.setattr(StoredColumn, "read", counted)
    search = model_selection.GridSearchCV(
        daskgd.LogisticRegression(solver=from_sample(), tol=1e-12, memory=0, class_weight="balanced"),
        {"C": [0.01, 1.0]},
        cv=model_selection.StratifiedKFold(3, shuffle=True),
        scoring=["neg_log_loss", "roc_auc"],
        refit="roc_auc",
    )
    found, n_read = [], []
    for dataset in (daskgd.open_dataset(stores["two classes"]), without_survey(stores["two classes"])):
        dataset = dataset.train_test_split(0.3)[0] if of_a_split else dataset
        least, _ = search.plan(dataset).sweep_range
        read[0] = 0
        found.append(clone(search).fit(dataset))
        n_read.append(read[0] / dataset.layout.n_blocks)
        assert least <= n_read[-1]
    assert n_read[0] <= n_read[1] - 1
    for name, pairs in (("neg_log_loss", 1e-7), ("roc_auc", 1e-5)):  # some rows change places
        for i in range(3):
            a, b = (one.cv_results_[f"split{i}_test_{name}"] for one in found)
            np.testing.assert_allclose(a, b, rtol=pairs)
    np.testing.assert_allclose(found[0].best_estimator_.coef_, found[1].best_estimator_.coef_, rtol=1e-5)


@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg", "auto"])
@pytest.mark.parametrize("stratify", [False, True])
def test_splits_of_splits(stores: dict[str, Path], solver: str, stratify: bool) -> None:
    """All solvers come to the minimum over the rows of the split, and balanced classes are the split's."""
    train, _ = daskgd.open_dataset(stores["two classes"]).train_test_split(
        0.4, random_state=1, stratify=stratify
    )
    train, _ = train.train_test_split(0.5, random_state=2)
    X, y = train.X.compute(), np.asarray(train.y.compute())  # type: ignore[union-attr]
    expected = daskgd.LogisticRegression(class_weight="balanced", tol=1e-10).fit(X, y)
    tol = 1e-6 if solver == "lbfgs" else 1e-9
    est = daskgd.LogisticRegression(class_weight="balanced", solver=solver, tol=tol, max_iter=300).fit(train)
    np.testing.assert_allclose(est.coef_, expected.coef_, atol=5e-3 if solver == "lbfgs" else 2e-4)


def test_targets_of_a_split_are_checked(stores: dict[str, Path]) -> None:
    train, test = daskgd.open_dataset(stores["numbers"]).train_test_split()
    with pytest.raises(ValueError, match="out of the valid range of the loss: expected targets"):
        daskgd.PoissonRegressor().fit(train)
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        daskgd.LogisticRegression().fit(test)


# -- every writer ---------------------------------------------------------------------------------


def record(path: Path) -> bytes:
    """What two surveys of the same rows have alike, whoever wrote them."""
    return (path / "survey" / "record-1" / "c" / "0").read_bytes()


def test_all_routes_write_the_same_survey(client: distributed.Client, tmp_path: Path) -> None:
    X, y, _ = rows("two classes")
    options = {"chunk_bytes": 50_000}
    lazy = da.from_array(X, chunks=(3000, -1)), da.from_array(y, chunks=3000)
    daskgd.write_dataset(tmp_path / "arrays", X, y, **options)
    daskgd.write_dataset(
        tmp_path / "stream", ((X[a : a + 777], y[a : a + 777]) for a in range(0, len(y), 777))
    )
    daskgd.write_dataset(tmp_path / "dask", *lazy, **options)
    daskgd.write_dataset(tmp_path / "copy", daskgd.open_dataset(tmp_path / "arrays"), **options)
    with dask.config.set(scheduler="threads"):
        daskgd.write_dataset(tmp_path / "threads", *lazy, **options)
    first = record(tmp_path / "arrays")
    for name in ("dask", "copy", "threads"):
        assert record(tmp_path / name) == first, name
    for name in ("arrays", "stream"):
        before = record(tmp_path / name)
        daskgd.survey_dataset(tmp_path / name)
        assert record(tmp_path / name) == before


def test_frames_and_files_are_surveyed(tmp_path: Path) -> None:
    n = 5000
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "miles": rng.normal(800, 300, n),
            "from": rng.choice(["JFK", "EWR", "LGA"], n),
            "late": rng.choice(["no", "yes"], n),
        }
    )
    daskgd.write_dataset(tmp_path / "frame", frame, "late")
    frame.to_csv(tmp_path / "rows.csv", index=False)
    daskgd.ingest(tmp_path / "rows.csv", tmp_path / "files", target="late")
    for name in ("frame", "files"):
        dataset = daskgd.open_dataset(tmp_path / name)
        found: SurveyAnswer = told(dataset, Survey(classification=True))
        assert found.labels is not None
        assert found.labels.counts.tolist() == frame["late"].value_counts()[["no", "yes"]].tolist()
        means = dict(zip(dataset.feature_names or (), found.X.mean, strict=True))
        assert means["miles"] == pytest.approx(frame["miles"].mean(), rel=1e-12)
        assert means["from_JFK"] == pytest.approx((frame["from"] == "JFK").mean(), rel=1e-12)


def test_rows_that_cannot_be_fitted_have_no_survey(tmp_path: Path) -> None:
    X, y, _ = rows("two classes")
    X[17, 3] = np.nan
    daskgd.write_dataset(tmp_path / "d", X, y)
    assert told(daskgd.open_dataset(tmp_path / "d"), Survey()) is None
    with pytest.raises(ValueError, match="row 17, column 3"):
        daskgd.LogisticRegression().fit(tmp_path / "d")


# -- older, other and altered data ----------------------------------------------------------------


def test_older_datasets_get_one(tmp_path: Path) -> None:
    path = write(tmp_path / "d", "two classes")
    fingerprint = daskgd.open_dataset(path).fingerprint
    shutil.rmtree(path / "survey")
    assert not daskgd.open_dataset(path).surveyed
    done = CliRunner().invoke(main, ["survey", str(path)])
    assert done.exit_code == 0, done.output
    assert "20,000 rows surveyed, about 1,000 of them in the sample" in done.output
    dataset = daskgd.open_dataset(path)
    assert dataset.surveyed
    assert dataset.fingerprint == fingerprint
    dataset.verify()


def test_data_without_checksums_are_refused(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "d", mode="w")
    group["X"] = np.zeros((10, 2))
    group["y"] = np.arange(10.0)
    with pytest.raises(daskgd.StoreError, match="expected a dataset that daskgd wrote"):
        daskgd.survey_dataset(tmp_path / "d")
    done = CliRunner().invoke(main, ["survey", str(tmp_path / "d")])
    assert done.exit_code == 65
    with pytest.raises(daskgd.StoreError, match="no such file"):
        daskgd.survey_dataset(tmp_path / "none")


@pytest.mark.parametrize("name", ["record-1/c/0", "sample-1/c/0", "array-0/c/0/0", "array-0/zarr.json"])
def test_what_was_tampered_with_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("daskgd.storage.records.APART_BYTES", 1000)
    path = write(tmp_path / "d", "two classes")
    expected = daskgd.LogisticRegression(solver=from_sample()).fit(path)
    file = path / "survey" / name
    file.write_bytes(flipped(file.read_bytes(), np.random.default_rng(1)))
    with pytest.raises(daskgd.StoreError, match=r"cannot be read.*make it anew with `daskgd survey PATH`"):
        daskgd.LogisticRegression(solver=from_sample()).fit(path)
    daskgd.survey_dataset(path)
    again = daskgd.LogisticRegression(solver=from_sample()).fit(path)
    np.testing.assert_array_equal(again.coef_, expected.coef_)
    assert again.n_sweeps_ == expected.n_sweeps_


def test_the_survey_of_other_rows_is_refused(tmp_path: Path) -> None:
    for name, kind in (("a", "two classes"), ("b", "weighted")):
        write(tmp_path / name, kind)
    shutil.rmtree(tmp_path / "a" / "survey")
    shutil.copytree(tmp_path / "b" / "survey", tmp_path / "a" / "survey")
    with pytest.raises(daskgd.StoreError, match="expected the survey of the dataset"):
        daskgd.open_dataset(tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "survey")
    daskgd.survey_dataset(tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "survey" / "sample-1")
    shutil.copytree(tmp_path / "b" / "survey" / "sample-1", tmp_path / "a" / "survey" / "sample-1")
    with pytest.raises(daskgd.StoreError, match="the sample is of other rows"):
        daskgd.LogisticRegression(solver=from_sample()).fit(tmp_path / "a")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("array", "shards"), [("X", None), ("y", None), ("X", 3)])
def test_altered_rows_do_not_pass_with_an_old_survey(
    client: distributed.Client, tmp_path: Path, engine: str, array: str, shards: int | None
) -> None:
    """Written by another program, with sound checksums."""
    path = write(tmp_path / "d", "two classes", shards=shards)
    rows_: Any = zarr.open_group(path)[array]
    rows_[5000:5003] = rows_[7000:7003]
    with pytest.raises(daskgd.ChunkError, match=f"d/{array}, chunk .* not the one that was written"):
        daskgd.LogisticRegression(solver=from_sample(), engine=engine).fit(path)
    with pytest.raises(daskgd.StoreError, match="some chunks are not those that were written"):
        daskgd.survey_dataset(path)


def test_rows_that_were_appended_do_not_pass(tmp_path: Path) -> None:
    path = write(tmp_path / "d", "two classes")
    group: Any = zarr.open_group(path)
    for name in ("X", "y"):
        group[name].append(np.asarray(group[name][:10]))
    with pytest.raises(daskgd.StoreError, match="altered"):
        daskgd.open_dataset(path)


def test_a_refused_survey_leaves_the_one_that_is_there(tmp_path: Path) -> None:
    """It is what tells that the rows were altered."""
    path = write(tmp_path / "a.zarr", "two classes")
    y = zarr.open_array(path / "y", mode="r+")
    y[:5000] = 1 - y[:5000]
    for _ in range(2):
        with pytest.raises(daskgd.StoreError, match="some chunks are not those that were written"):
            daskgd.survey_dataset(path)
        with pytest.raises(daskgd.ChunkError):
            daskgd.LogisticRegression().fit(path)


@pytest.mark.parametrize("name", ["zarr.json", f"{SURVEY}/c/0", f"{SAMPLE}/c/0", f"{SAMPLE}/zarr.json"])
@pytest.mark.parametrize("left", [b"{", None], ids=["damaged", "missing"])
def test_whatever_is_left_of_a_survey_is_made_anew(
    tmp_path: Path, stores: dict[str, Path], name: str, left: bytes | None
) -> None:
    path = tmp_path / "a.zarr"
    shutil.copytree(stores["two classes"], path)
    place = path / "survey" / name
    place.unlink() if left is None else place.write_bytes(left)
    lost = name.endswith("c/0") and not (left is None and name.startswith(SURVEY))
    with pytest.raises(daskgd.StoreError, match="daskgd survey") if lost else nullcontext():
        daskgd.LogisticRegression(solver=from_sample()).fit(path)
    daskgd.survey_dataset(path)
    again = daskgd.LogisticRegression(solver=from_sample()).fit(path)
    expected = daskgd.LogisticRegression(solver=from_sample()).fit(stores["two classes"])
    np.testing.assert_array_equal(again.coef_, expected.coef_)
    daskgd.open_dataset(path).verify()


def test_a_survey_that_was_not_finished_is_none(tmp_path: Path) -> None:
    path = write(tmp_path / "d", "two classes")
    shutil.rmtree(path / "survey" / "record-1")
    dataset = daskgd.open_dataset(path)
    assert not dataset.surveyed
    dataset.verify()


def test_large_sums_are_those_of_few_tasks_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "d", "two classes")
    before = record(path)
    assert daskgd.open_dataset(path).layout.n_blocks > 3
    monkeypatch.setattr("daskgd.data.surveying.TASK_BYTES", 1)
    for most in (16 * 7 * 100, 16 * 7 * 2, 16 * 7):  # a task for each block, two, one
        monkeypatch.setattr("daskgd.data.surveying.MOST_SUMS_BYTES", most)
        daskgd.survey_dataset(path)
        assert record(path) == before
    monkeypatch.setattr("daskgd.data.surveying.MOST_SUMS_BYTES", 16 * 7 - 1)
    daskgd.survey_dataset(path)
    assert not daskgd.open_dataset(path).surveyed


def test_half_written_data_are_refused(tmp_path: Path) -> None:
    create_group(str(tmp_path / "d"))
    with pytest.raises(daskgd.StoreError, match="half-written"):
        daskgd.survey_dataset(tmp_path / "d")
