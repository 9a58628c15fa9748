"""Metrics of dask arrays: scikit-learn's values, however rows are cut and weighted."""

from __future__ import annotations

import inspect
import warnings
from functools import reduce
from operator import add
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import calibration
from sklearn import metrics as of_sklearn

from daskgd import metrics
from daskgd.metrics.kinds.base import statistic_of
from daskgd.metrics.statistics import Predicted, Targets
from daskgd.metrics.table import TABLE, metric

N = 600
WORDS = np.array(["no", "so so", "yes", "é"])


@pytest.fixture(autouse=True)
def _serial():
    with dask.config.set(scheduler="synchronous"):
        yield


def close(found: Any, expected: Any, rtol: float = 1e-12) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name in expected:
            close(found[name], expected[name], rtol)
    elif isinstance(expected, tuple):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            close(a, b, rtol)
    elif isinstance(expected, str) or expected is None:
        assert found == expected
    else:
        a, b = np.asarray(found), np.asarray(expected)
        assert a.shape == b.shape
        assert a.dtype.kind == b.dtype.kind
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-14)


def check(name: str, y: Any, p: Any, s: Any = None, rtol: float = 1e-12, **settings: Any) -> None:
    """The function of dask arrays, in chunks one of which is empty, and of arrays in memory."""
    function = getattr(calibration if name == "calibration_curve" else of_sklearn, name)
    weights = {} if s is None else {"sample_weight": s}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = function(y, p, **weights, **settings)
        n = len(y)
        chunks = (100, 0, 7, n - 107)
        lazy = [da.from_array(np.asarray(v), chunks=(chunks, *np.shape(v)[1:])) for v in (y, p)]
        weights = {} if s is None else {"sample_weight": da.from_array(s, chunks=150)}
        close(getattr(metrics, name)(*lazy, **weights, **settings), expected, rtol)
        close(getattr(metrics, name)(y, lazy[1], **weights, **settings), expected, rtol)


def labels(rng: np.random.Generator, k: int, n: int = N) -> tuple[Any, Any]:
    y, p = rng.integers(0, k, (2, n))
    p[: n // 2] = y[: n // 2]
    return y, p


OF_LABELS = {
    "accuracy_score": [{}, {"normalize": False}],
    "balanced_accuracy_score": [{}, {"adjusted": True}],
    "precision_score": [{"average": "macro"}, {"average": "micro"}, {"average": None}],
    "recall_score": [{"average": "weighted"}],
    "f1_score": [{"average": "macro", "labels": [0, 2]}],
    "fbeta_score": [{"beta": 2.0, "average": "macro"}],
    "jaccard_score": [{"average": "macro"}],
    "precision_recall_fscore_support": [{}, {"average": "macro"}],
    "confusion_matrix": [{}, {"normalize": "true"}, {"labels": [2, 0]}],
    "classification_report": [{}, {"output_dict": True}],
    "cohen_kappa_score": [{}, {"weights": "quadratic"}],
    "matthews_corrcoef": [{}],
    "zero_one_loss": [{}, {"normalize": False}],
    "hamming_loss": [{}],
}


@pytest.mark.parametrize("name", OF_LABELS)
def test_of_labels(name: str, rng: np.random.Generator) -> None:
    s = rng.random(N)
    for settings in OF_LABELS[name]:
        for k in (3, 30):
            y, p = labels(rng, k)
            # Of weights a report shows all digits, the last of which are roundings.
            for weights in (None,) if name == "classification_report" else (None, s):
                check(name, y, p, weights, **settings)
        y, p = labels(rng, 4)
        if "labels" not in settings:
            check(name, WORDS[y], WORDS[p], weights, **settings)
            check(name, y.astype(float), p, **settings)


@pytest.mark.parametrize("name", ["f1_score", "precision_score", "recall_score", "jaccard_score"])
def test_of_two_labels(name: str, rng: np.random.Generator) -> None:
    y, p = labels(rng, 2)
    for s in (None, rng.random(N)):
        check(name, y, p, s)
        check(name, y, p, s, pos_label=0)
        check(name, y == 1, p == 1, s)
        check(name, WORDS[y], WORDS[p], s, pos_label="no")
        check("class_likelihood_ratios", y, p, s)
    check(name, np.zeros(N, int), p, zero_division=0)
    lazy = [da.from_array(WORDS[v], chunks=100) for v in (y, p)]
    with pytest.raises(ValueError, match="pos_label=1 is not a valid label"):
        getattr(metrics, name)(*lazy)


@pytest.mark.parametrize("digits", [1, 12])
@pytest.mark.parametrize("kind", ["f8", "f4"])
def test_of_scores(kind: str, digits: int, rng: np.random.Generator) -> None:
    y = rng.integers(0, 2, N)
    p = (rng.normal(size=N) + y).round(digits).astype(kind)
    for s in (None, rng.random(N)):
        check("roc_auc_score", y, p, s)
        check("roc_auc_score", WORDS[y], p, s, max_fpr=0.3)
        check("average_precision_score", y, p, s)
        check("roc_curve", y, p, s)
        check("roc_curve", y, p, s, drop_intermediate=False)
        check("precision_recall_curve", WORDS[y], p, s, pos_label="so so")
        check("det_curve", y, p, s)
        check("top_k_accuracy_score", y, p, s, k=1)


@pytest.mark.parametrize("k", [3, 30])
@pytest.mark.parametrize("words", [False, True])
def test_of_many_columns_of_scores(k: int, words: bool, rng: np.random.Generator) -> None:
    y = rng.permutation(np.append(np.arange(k), rng.integers(0, k, N - k)))
    p = rng.dirichlet(np.ones(k), N)
    p[np.arange(N), y] += 0.3
    p /= p.sum(axis=1, keepdims=True)
    y = np.array([f"{i:03}" for i in y]) if words else y
    for s in (None, rng.random(N)) if k == 3 else (rng.random(N),):
        for average in ("macro", "weighted", "micro", None) if k == 3 else ("weighted",):
            check("roc_auc_score", y, p, s, multi_class="ovr", average=average)
            check("average_precision_score", y, p, s, average=average)
        check("log_loss", y, p, s)
        check("log_loss", y, p, s, normalize=False)
        check("brier_score_loss", y, p, s)
        check("d2_log_loss_score", y, p, s)
        check("d2_brier_score", y, p, s)
        check("hinge_loss", y, p, s)
        check("top_k_accuracy_score", y, p.round(1), s, k=2)
    for average in ("macro", "weighted") if k == 3 else ("weighted",) * words:
        check("roc_auc_score", y, p, multi_class="ovo", average=average)
    known = np.unique(y)
    few = np.isin(y, known[:-1])
    for name in ("log_loss", "brier_score_loss", "hinge_loss", "top_k_accuracy_score"):
        check(name, y[few], p[few], labels=known)


@pytest.mark.parametrize("kind", ["f8", "f4"])
def test_of_probabilities(kind: str, rng: np.random.Generator) -> None:
    y, p = rng.integers(0, 2, N), rng.random(N).astype(kind)
    p[:3] = 0, 1, 0.5
    rtol = 1e-12 if kind == "f8" else 1e-5
    for s in (None, rng.random(N)):
        for name in ("log_loss", "brier_score_loss", "d2_log_loss_score", "d2_brier_score"):
            check(name, y, p, s, rtol)
            check(name, 2 * y - 1, p, s, rtol)
        check("log_loss", WORDS[y], p, s, rtol)
        check("log_loss", WORDS[y], np.stack([1 - p, p], axis=1), s, rtol)
        check("brier_score_loss", WORDS[y], p, s, rtol, pos_label="no")
        check("brier_score_loss", y, p, s, rtol, scale_by_half=False)
        check("brier_score_loss", np.zeros(N, int), p, s, rtol)
        check("brier_score_loss", np.ones(N, int), p, s, rtol)
        check("log_loss", np.ones(N, int), p, s, rtol, labels=[0, 1])
        check("hinge_loss", y, 4 * p - 2, s, rtol)
        check("hinge_loss", WORDS[y], 4 * p - 2, s, rtol)
    for strategy in ("uniform", "quantile"):
        check("calibration_curve", y, p, rtol=rtol, strategy=strategy, n_bins=7)
        check("calibration_curve", WORDS[y], p, rtol=rtol, strategy=strategy, pos_label="no")
    for name, what in (("log_loss", "contains only one label"), ("brier_score_loss", "pos_label")):
        lazy = da.from_array(np.array(["a"] * 5), chunks=2), da.from_array(p[:5], chunks=2)
        with pytest.raises(ValueError, match=what):
            getattr(metrics, name)(*lazy)
    with pytest.raises(ValueError, match="greater than 1"):
        metrics.log_loss(da.from_array(y, chunks=50), da.from_array(2 * p, chunks=50))


OF_NUMBERS: dict[str, Any] = {
    "r2_score": "multi",
    "explained_variance_score": "multi",
    "mean_squared_error": "multi",
    "root_mean_squared_error": "multi",
    "mean_absolute_error": "multi",
    "median_absolute_error": "multi",
    "mean_absolute_percentage_error": "multi",
    "mean_squared_log_error": "multi",
    "root_mean_squared_log_error": "multi",
    "d2_absolute_error_score": "multi",
    "max_error": [{}],
    "mean_pinball_loss": [{"alpha": 0.2}, {"multioutput": "raw_values"}],
    "d2_pinball_score": [{"alpha": 0.2}, {"alpha": 0.9, "multioutput": "raw_values"}],
    "mean_poisson_deviance": [{}],
    "mean_gamma_deviance": [{}],
    "mean_tweedie_deviance": [{"power": 1.5}, {"power": 0}, {"power": -1}],
    "d2_tweedie_score": [
        {"power": 1.5},
        {"power": 0},
        {"power": 1},
        {"power": 2},
        {"power": 3},
        {"power": -1},
    ],
}
ONE_COLUMN = {
    "max_error",
    "mean_poisson_deviance",
    "mean_gamma_deviance",
    "mean_tweedie_deviance",
    "d2_tweedie_score",
}


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_of_numbers(name: str, rng: np.random.Generator) -> None:
    y = rng.poisson(3, (N, 2)) + 0.5
    p = y * rng.lognormal(0.1, 0.3, y.shape)
    averages = ["raw_values", "uniform_average", [0.3, 0.7]]
    if name in ("r2_score", "explained_variance_score"):
        averages.append("variance_weighted")
    settings = OF_NUMBERS[name]
    settings = [{"multioutput": one} for one in averages] if settings == "multi" else settings
    weights = (None,) if name == "max_error" else (None, rng.random(N))
    for one in settings:
        for s in weights:
            if name not in ONE_COLUMN:
                check(name, y, p, s, **one)
            if not isinstance(one.get("multioutput"), list):
                check(name, y[:, 0], p[:, 0], s, **one)
                check(name, y[:, 0].astype("f4"), p[:, 0].astype("f4"), s, 1e-5, **one)
                check(name, np.full(N, 2.5), p[:, 0], s, **one) if name != "d2_tweedie_score" else None


def test_r2_far_from_zero(rng: np.random.Generator) -> None:
    y = 1e8 + rng.normal(size=N)
    p = y + 0.3 * rng.normal(size=N)
    check("r2_score", y, p, rtol=1e-7)
    counts = rng.poisson(1e6, N).astype(float)
    check("d2_tweedie_score", counts, counts + rng.normal(size=N) * 300, rtol=1e-8, power=1)


def test_every_function_is_here_with_scikit_learns_parameters() -> None:
    for name, entry in TABLE.items():
        found = getattr(metrics, name)
        assert str(inspect.signature(found)) == str(inspect.signature(entry.function))
        assert entry.about in found.__doc__
        assert "Parameters\n----------" in inspect.getdoc(found)
        assert name in metrics.__all__


def test_arrays_in_memory_are_scikit_learns(rng: np.random.Generator) -> None:
    y, p = labels(rng, 2)
    assert metrics.f1_score(y, p) == of_sklearn.f1_score(y, p)
    assert metrics.accuracy_score(y.tolist(), p.tolist()) == of_sklearn.accuracy_score(y, p)


def test_several_labels_a_row(rng: np.random.Generator) -> None:
    y, p = rng.integers(0, 2, (2, N, 3))
    for name in ("accuracy_score", "hamming_loss", "zero_one_loss"):
        check(name, y, p)
        check(name, y, p, rng.random(N))
    with pytest.raises(ValueError, match="one label per row"):
        metrics.f1_score(da.from_array(y), da.from_array(p), average="macro")


def test_bad_rows_are_refused() -> None:
    y, p = da.from_array(np.arange(6.0), chunks=2), da.from_array(np.arange(6.0), chunks=3)
    for bad, what in ((np.nan, "NaN"), (np.inf, "infinity")):
        wrong = da.from_array(np.array([0, 1, 2, 3, bad, 5]), chunks=2)
        with pytest.raises(ValueError, match=f"Input y_pred contains {what}: got .* in row 0 of chunk 2"):
            metrics.r2_score(y, wrong)
        with pytest.raises(ValueError, match=f"Input y_true contains {what}"):
            metrics.r2_score(wrong, p)
        with pytest.raises(ValueError, match=f"Input sample_weight contains {what}"):
            metrics.r2_score(y, p, sample_weight=wrong)
    with pytest.raises(ValueError, match="expected weights >= 0, got -"):
        metrics.r2_score(y, p, sample_weight=-y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        metrics.r2_score(y, p[:5])
    with pytest.raises(ValueError, match="can't handle continuous"):
        metrics.accuracy_score(y + 0.5, p)
    with pytest.raises(ValueError, match="of the same type"):
        metrics.accuracy_score(y, da.from_array(np.array(list("abcdef")), chunks=3))
    with pytest.raises(TypeError):
        metrics.r2_score(y, p, no_such=1)


def test_frames_of_dask_and_unknown_chunks(rng: np.random.Generator) -> None:
    pd = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    y, p = labels(rng, 3)
    frame = dd.from_pandas(pd.DataFrame({"y": y, "p": p}), npartitions=4)
    assert metrics.accuracy_score(frame.y, frame.p) == of_sklearn.accuracy_score(y, p)
    assert metrics.accuracy_score(y, frame.p) == of_sklearn.accuracy_score(y, p)
    some = da.from_array(y, chunks=50)
    p2 = da.from_array(p, chunks=50)
    assert metrics.accuracy_score(some[some > 0], p2[some > 0]) == of_sklearn.accuracy_score(
        y[y > 0], p[y > 0]
    )


def test_many_scores_are_rounded_within_bounds(rng: np.random.Generator) -> None:
    n = 40_000
    y = rng.integers(0, 2, n)
    for p in (rng.normal(size=n) + y, 0.5 + (rng.normal(size=n) + y) / 50):
        lazy = da.from_array(y, chunks=9000), da.from_array(p, chunks=9000)
        exact, found = of_sklearn.roc_auc_score(y, p), metrics.roc_auc_score(*lazy)
        low, high = metrics.roc_auc_bounds(*lazy)
        assert low <= exact <= high
        assert low < found < high
        assert high - low < 0.1
        assert abs(found - exact) < (high - low) / 20
        found = metrics.average_precision_score(*lazy)
        np.testing.assert_allclose(found, of_sklearn.average_precision_score(y, p), rtol=1e-2)
    for name in ("median_absolute_error", "d2_absolute_error_score"):
        z = rng.normal(size=n)
        lazy = da.from_array(z, chunks=9000), da.from_array(z * 2, chunks=9000)
        np.testing.assert_allclose(
            getattr(metrics, name)(*lazy), getattr(of_sklearn, name)(z, 2 * z), rtol=1e-3
        )
    assert metrics.roc_auc_bounds(y[:99], p[:99])[0] == metrics.roc_auc_bounds(y[:99], p[:99])[1]


LAWS = {
    "f1_score": {"average": "macro"},
    "roc_auc_score": {},
    "roc_curve": {},
    "median_absolute_error": {},
    "max_error": {},
    "log_loss": {},
    "brier_score_loss": {},
    "r2_score": {},
    "d2_tweedie_score": {"power": 0},
}
EXACT = ("f1_score", "roc_auc_score", "roc_curve", "median_absolute_error", "max_error")


@pytest.mark.parametrize("name", LAWS)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 8), st.integers(0, 3)), min_size=2, max_size=40
    ),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    random=st.randoms(use_true_random=False),
)
def test_laws(name: str, rows: Any, cuts: Any, random: Any) -> None:
    """Chunks and their order change no bit, or hardly one; a weight of 2 is a row twice, of 0 a row
    absent."""
    rows = [*rows, (0, 1, 1), (1, 7, 1)]
    y, p, times = (np.array(v) for v in zip(*rows, strict=True))
    p = (p > 4).astype(int) if name == "f1_score" else p / 8
    made = metric(name, LAWS[name])

    def statistic(y: Any, p: Any, s: Any) -> Any:
        return statistic_of(made, Predicted(Targets(y, s), p))

    there = times > 0
    whole = statistic(y[there], p[there], times[there].astype(float))
    parts = [
        statistic(a[w > 0], b[w > 0], w[w > 0].astype(float))
        for a, b, w in zip(*(np.split(v, sorted(cuts)) for v in (y, p, times)), strict=True)
        if w.any()
    ]
    random.shuffle(parts)
    values = [made.value(one) for one in (whole, reduce(add, parts))]
    if name != "max_error":
        values.append(made.value(statistic(np.repeat(y, times), np.repeat(p, times), None)))
    for other in values[1:]:
        if name in EXACT:
            assert all(map(np.array_equal, np.atleast_1d(values[0]), np.atleast_1d(other)))
        else:
            np.testing.assert_allclose(values[0], other, rtol=1e-12, atol=1e-14)


def test_on_a_cluster(client, rng: np.random.Generator) -> None:
    y, p = rng.integers(0, 2, 500), rng.random(500)
    lazy = da.from_array(y, chunks=100), da.from_array(p, chunks=70)
    expected = metrics.roc_auc_score(*lazy), metrics.log_loss(*lazy)
    with dask.config.set(scheduler=client):
        assert (metrics.roc_auc_score(*lazy), metrics.log_loss(*lazy)) == expected
