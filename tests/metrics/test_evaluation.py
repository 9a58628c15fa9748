"""Evaluation: scikit-learn's scores of daskgd's models, many in one sweep."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from sklearn import linear_model
from sklearn import metrics as of_sklearn
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import daskgd
from daskgd import metrics
from daskgd.engines.serial import Serial
from daskgd.metrics import evaluate, get_scorer, get_scorer_names, make_scorer
from daskgd.metrics.evaluation import Item, _Plan, evaluate_items
from daskgd.metrics.scorers import scorers_of
from daskgd.rows.subsets import HashedCells, ListedCells, Subset
from daskgd.rows.tiles import Rows
from daskgd.testing import check_query

N, P = 400, 4

CLASSIFICATION = [
    "accuracy",
    "average_precision",
    "balanced_accuracy",
    "d2_brier_score",
    "d2_log_loss_score",
    "f1",
    "f1_macro",
    "f1_micro",
    "f1_weighted",
    "jaccard",
    "jaccard_macro",
    "jaccard_micro",
    "jaccard_weighted",
    "matthews_corrcoef",
    "neg_brier_score",
    "neg_log_loss",
    "neg_negative_likelihood_ratio",
    "positive_likelihood_ratio",
    "precision",
    "precision_macro",
    "precision_micro",
    "precision_weighted",
    "recall",
    "recall_macro",
    "recall_micro",
    "recall_weighted",
    "roc_auc",
    "roc_auc_ovo",
    "roc_auc_ovo_weighted",
    "roc_auc_ovr",
    "roc_auc_ovr_weighted",
    "top_k_accuracy",
]
REGRESSION = [
    "d2_absolute_error_score",
    "explained_variance",
    "neg_max_error",
    "neg_mean_absolute_error",
    "neg_mean_absolute_percentage_error",
    "neg_mean_gamma_deviance",
    "neg_mean_poisson_deviance",
    "neg_mean_squared_error",
    "neg_mean_squared_log_error",
    "neg_median_absolute_error",
    "neg_root_mean_squared_error",
    "neg_root_mean_squared_log_error",
    "r2",
]
BINARY = {
    "f1",
    "jaccard",
    "precision",
    "recall",
    "positive_likelihood_ratio",
    "neg_negative_likelihood_ratio",
}
"""Metrics of two labels."""


def rows(rng: np.random.Generator, k: int = 2, kind: str = "f8") -> tuple[Any, Any]:
    X = rng.normal(size=(N, P))
    z = X @ rng.normal(size=(P, k)) + rng.gumbel(size=(N, k))
    return X.astype(kind), z.argmax(axis=1)


def expected(names: Any, est: Any, X: Any, y: Any, s: Any = None) -> dict[str, Any]:
    """What scikit-learn's scorers say."""
    out = {}
    for name in names:
        scorer = of_sklearn.get_scorer(name) if isinstance(name, str) else name
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                out[name] = scorer(est, X, y, **({} if s is None else {"sample_weight": s}))
        except TypeError:  # it takes no weights
            assert s is not None
        except (ValueError, AttributeError) as error:
            out[name] = error
    return out


def check(est: Any, X: Any, y: Any, names: Any, s: Any = None, rtol: float = 1e-11) -> None:
    dataset = daskgd.as_dataset(da.from_array(X, chunks=(100, P)), y, s)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (found,) = evaluate_items(dataset, [Item(est, scorers_of(names, est))])
    for name, value in expected(names, est, X, y, s).items():
        if isinstance(value, Exception):
            # It knows no weights of pairs; 1.8 asks for a positive label of three text labels.
            if name.startswith("roc_auc_ovo") or "pos_label=1" in str(value):
                assert len(np.unique(y)) > 2 or isinstance(found[name], Exception)
            else:
                assert isinstance(found[name], Exception), (name, found[name], value)
        else:
            np.testing.assert_allclose(found[name], value, rtol=rtol, err_msg=name)


def test_the_names_are_those_of_classification_and_regression() -> None:
    assert set(get_scorer_names()) == {*CLASSIFICATION, *REGRESSION}


@pytest.mark.parametrize("kind", ["f8", "f4"])
@pytest.mark.parametrize("k", [2, 3])
def test_classifiers_as_scikit_learn_scores_them(k: int, kind: str, rng: np.random.Generator) -> None:
    X, y = rows(rng, k, kind)
    rtol = 1e-11 if kind == "f8" else 2e-5
    names = [name for name in CLASSIFICATION if k == 2 or name not in BINARY]
    for est in (daskgd.LogisticRegression(), daskgd.LinearSVC(), daskgd.SGDClassifier(loss="modified_huber")):
        est.fit(X, y)
        for s in (None, rng.random(N)):
            check(est, X, y, names, s, rtol)
    words = np.array(["no", "so so", "yes"])[y]
    est = daskgd.LogisticRegression().fit(X, words)
    check(est, X, words, names, None, rtol)


def test_regressors_as_scikit_learn_scores_them(rng: np.random.Generator) -> None:
    X, _ = rows(rng)
    y = np.exp(X @ rng.normal(size=P) / 3 + 1)
    for est in (
        daskgd.LinearRegression(),
        daskgd.PoissonRegressor(),
        daskgd.MLPRegressor(hidden_layer_sizes=(4,), max_iter=20),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            est.fit(X, y)
        for s in (None, rng.random(N)):
            check(est, X, y, REGRESSION, s)
    many = daskgd.Ridge().fit(X, np.stack([y, -y], axis=1))
    check(many, X, np.stack([y, -y], axis=1), ["r2", "neg_mean_squared_error", "neg_median_absolute_error"])


def test_other_kinds_of_models(rng: np.random.Generator) -> None:
    X, y = rows(rng, 3)
    perceptron = daskgd.MLPClassifier(hidden_layer_sizes=(5,), max_iter=30)
    plain = linear_model.LogisticRegression().fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        perceptron.fit(X, y)
    for est in (perceptron, plain):
        check(est, X, y, [name for name in CLASSIFICATION if name not in BINARY])
    several = np.stack([y == 0, y > 0], axis=1).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        perceptron.fit(X, several)
    assert evaluate(perceptron, X, several)["score"] == perceptron.score(X, several)
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcd"))
    named = linear_model.LogisticRegression().fit(frame, y)
    assert evaluate(named, frame, y)["score"] == named.score(frame, y)
    assert evaluate(named, da.from_array(X, chunks=(70, P)), y)["score"] == named.score(frame, y)


def test_the_default_is_what_score_is(rng: np.random.Generator) -> None:
    X, y = rows(rng)
    amounts = np.exp(X[:, 0])
    s = rng.random(N)
    for est, target in (
        (daskgd.LogisticRegression(), y),
        (daskgd.Ridge(), amounts),
        (daskgd.PoissonRegressor(), amounts),
        (daskgd.GammaRegressor(), amounts),
        (daskgd.TweedieRegressor(power=1.5), amounts),
        (linear_model.PoissonRegressor(), amounts),
    ):
        est.fit(X, target)
        found = evaluate(est, X, target, sample_weight=s)["score"]
        np.testing.assert_allclose(found, est.score(X, target, s), rtol=1e-10)


def test_offsets(tmp_path: Path, rng: np.random.Generator) -> None:
    X, _ = rows(rng)
    days = rng.integers(1, 30, N).astype(float)
    y = rng.poisson(days * np.exp(X[:, 0] / 2)).astype(float)
    daskgd.write_dataset(tmp_path / "a.zarr", X, y, offset=np.log(days))
    est = daskgd.PoissonRegressor().fit(tmp_path / "a.zarr")
    found = evaluate(est, tmp_path / "a.zarr", scoring=["neg_mean_poisson_deviance", "r2"])
    p = est.predict(X, offset=np.log(days))
    np.testing.assert_allclose(-found["neg_mean_poisson_deviance"], of_sklearn.mean_poisson_deviance(y, p))
    np.testing.assert_allclose(found["r2"], of_sklearn.r2_score(y, p))
    default = evaluate(est, tmp_path / "a.zarr")["score"]
    np.testing.assert_allclose(default, est.score(tmp_path / "a.zarr"), rtol=1e-10)
    with pytest.raises(ValueError, match="expected rows without an offset"):
        evaluate(daskgd.Ridge().fit(X, y), tmp_path / "a.zarr")


def test_labels_that_are_stored_as_codes(tmp_path: Path, rng: np.random.Generator) -> None:
    X, y = rows(rng, 3)
    words = np.array(["b", "a", "c"])[y]
    daskgd.write_dataset(tmp_path / "a.zarr", X, words)
    est = daskgd.LogisticRegression().fit(tmp_path / "a.zarr")
    names = ["accuracy", "f1_macro", "neg_log_loss", "roc_auc_ovr"]
    found = evaluate(est, tmp_path / "a.zarr", scoring=names)
    for name, value in expected(names, est, X, words).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12)
    few = X[words != "c"], words[words != "c"]
    daskgd.write_dataset(tmp_path / "b.zarr", *few)
    assert evaluate(est, tmp_path / "b.zarr")["score"] == est.score(*few)


def test_many_models_metrics_and_subsets_in_one_sweep(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    X, y = rows(rng)
    s = rng.random(N)
    sweeps = []
    sweep = Serial.sweep
    monkeypatch.setattr(Serial, "sweep", lambda self, asks: sweeps.append(1) or sweep(self, asks))
    models = [daskgd.LogisticRegression(C=C, engine="serial").fit(X, y) for C in (1e-4, 1.0)]
    sweeps.clear()
    cells = HashedCells(3, seed=1)
    listed = ListedCells.from_codes(np.arange(N) % 2, 2)
    subsets = [
        None,
        Subset(cells, (True, False, False)),
        Subset(cells, (False, True, True)),
        Subset(listed, (True, False)),
    ]
    names = ["accuracy", "roc_auc", "neg_log_loss", "f1"]
    items = [Item(est, scorers_of(names, est), subset) for est in models for subset in subsets]
    dataset = daskgd.as_dataset(X, y, s).replace(block_bytes=3000)
    assert dataset.layout.n_blocks > 2
    found = evaluate_items(dataset, items)
    assert len(sweeps) == 1
    for item, values in zip(items, found, strict=True):
        mask = np.ones(N, bool) if item.subset is None else item.subset.mask(np.arange(N))
        for name, value in expected(names, item.estimator, X[mask], y[mask], s[mask]).items():
            np.testing.assert_allclose(values[name], value, rtol=1e-12)
    # A subset of a split: numbers are those of all rows.
    train, _ = daskgd.as_dataset(X, y).train_test_split(0.3)
    (values,) = evaluate_items(train, [Item(models[1], scorers_of("accuracy", None), subsets[3])])
    there = np.zeros(N, bool)
    kept = [train.source.read(*train.layout.rows(b, b + 1)).numbers for b in range(train.layout.n_blocks)]
    there[np.concatenate(kept)] = True
    there &= subsets[3].mask(np.arange(N))  # type: ignore[union-attr]
    assert values["accuracy"] == np.mean(models[1].predict(X[there]) == y[there])


def test_an_error_of_one_metric_spoils_no_other(rng: np.random.Generator) -> None:
    X, y = rows(rng)
    est = daskgd.LogisticRegression().fit(X, y)
    ones = X[y == 1], y[y == 1]
    names = ["accuracy", "neg_log_loss", "roc_auc"]
    dataset = daskgd.as_dataset(*ones)
    (found,) = evaluate_items(dataset, [Item(est, scorers_of(names, est))])
    assert found["accuracy"] == est.score(*ones)
    assert isinstance(found["neg_log_loss"], ValueError)
    assert isinstance(found["roc_auc"], Exception)
    none = Subset(ListedCells.from_codes(np.zeros(len(ones[0]), int), 2), (False, True))
    (found,) = evaluate_items(dataset, [Item(est, scorers_of("accuracy", est), none)])
    assert "expected rows in the subset" in str(found["accuracy"])
    with pytest.raises(ValueError, match="only one label"):
        evaluate(est, *ones, scoring="neg_log_loss")
    svm = daskgd.LinearSVC().fit(X, y)
    with pytest.raises(AttributeError, match="has none of predict_proba"):
        evaluate(svm, X, y, scoring="neg_log_loss")
    words = np.array(["a", "b"])[y]
    named = daskgd.LogisticRegression().fit(X, words)
    with pytest.raises(ValueError, match="pos_label=1 is not a valid label"):
        evaluate(named, X, words, scoring="f1")
    mine = {"f1 of a": of_sklearn.make_scorer(of_sklearn.f1_score, pos_label="a")}
    found = evaluate(named, X, words, scoring=mine)
    assert found == {"f1 of a": of_sklearn.f1_score(words, named.predict(X), pos_label="a")}
    auc = {"auc": of_sklearn.make_scorer(of_sklearn.average_precision_score, pos_label="a",
                                         response_method="decision_function")}  # fmt: skip
    found = evaluate(named, X, words, scoring=auc)["auc"]
    np.testing.assert_allclose(found, next(iter(auc.values()))(named, X, words), rtol=1e-12)


@pytest.mark.parametrize("labels", [["no", "yes"], [1, 3], [False, True]], ids=str)
@pytest.mark.parametrize("name", ["brier_score_loss", "d2_brier_score"])
@pytest.mark.parametrize("second", [False, True])
def test_brier_scores_of_either_label_are_scikit_learns(
    tmp_path: Path, rng: np.random.Generator, labels: list[Any], name: str, second: bool
) -> None:
    """Targets of stored datasets are codes of their labels."""
    X = rng.normal(size=(300, 2))
    y = np.array(labels)[(X[:, 0] + rng.normal(size=300) > 0).astype(int)]
    s = rng.integers(0, 3, 300).astype(float)
    daskgd.write_dataset(tmp_path / "a.zarr", X, y, s)
    model = daskgd.LogisticRegression().fit(tmp_path / "a.zarr")
    settings = {"response_method": "predict_proba", "pos_label": labels[second]}
    scorer = of_sklearn.make_scorer(getattr(of_sklearn, name), **settings)
    found = evaluate(model, tmp_path / "a.zarr", scoring={"mine": scorer})["mine"]
    assert found == pytest.approx(scorer(model, X, y, sample_weight=s), rel=1e-12)


def test_rows_of_weight_0_are_absent_and_bad_ones_refused(rng: np.random.Generator) -> None:
    X, y = rows(rng)
    est = daskgd.LogisticRegression().fit(X, y)
    s = rng.integers(0, 3, N).astype(float)
    names = ["accuracy", "roc_auc", "neg_log_loss", "neg_brier_score", "matthews_corrcoef"]
    spoilt = X.copy()
    spoilt[s == 0] = np.nan
    found = evaluate(est, da.from_array(spoilt, chunks=(90, P)), y, scoring=names, sample_weight=s)
    times = s.astype(int)
    twice = evaluate(est, np.repeat(X, times, axis=0), np.repeat(y, times), scoring=names)
    for name in names:
        np.testing.assert_allclose(found[name], twice[name], rtol=1e-12)
    for place in ("X", "y", "s"):
        bad = {"X": X.copy(), "y": y.astype(float), "s": np.ones(N)}
        bad[place][(7, 1) if place == "X" else 7] = np.nan
        lazy = [da.from_array(v, chunks=(90, P)[: v.ndim]) for v in bad.values()]
        with pytest.raises(ValueError, match="got nan in row 7"):
            evaluate(est, lazy[0], lazy[1], sample_weight=lazy[2])
        other = linear_model.LogisticRegression().fit(X, y)
        with pytest.raises(ValueError, match="got nan in row 7"):
            evaluate(other, lazy[0], lazy[1], sample_weight=lazy[2])
    with pytest.raises(ValueError, match="X has 3 features"):
        evaluate(est, X[:, :3], y)
    with pytest.raises(ValueError, match="expected targets"):
        evaluate(est, X)


def test_pipelines(tmp_path: Path, rng: np.random.Generator) -> None:
    pd = pytest.importorskip("pandas")
    n = 300
    frame = pd.DataFrame({"from": rng.choice(["EWR", "JFK", "LGA"], n), "miles": rng.gamma(2, 300, n)})
    late = np.where((frame["from"] == "EWR") + frame.miles / 900 + rng.normal(size=n) > 1, "yes", "no")
    daskgd.write_dataset(tmp_path / "a.zarr", frame, late)
    encode = make_column_transformer((OneHotEncoder(), ["from"]), (StandardScaler(), ["miles"]))
    few = make_column_transformer((StandardScaler(), ["miles"]))
    models = {
        "all": daskgd.make_pipeline(encode, daskgd.LogisticRegression()),
        "strong": daskgd.make_pipeline(encode, daskgd.LogisticRegression(C=1e-3)),
        "miles": daskgd.make_pipeline(few, daskgd.LogisticRegression()),
    }
    for one in models.values():
        one.fit(tmp_path / "a.zarr")
    names = ["accuracy", "roc_auc"]
    found = evaluate(models, tmp_path / "a.zarr", scoring=names)
    assert list(found) == list(models)
    for key, one in models.items():
        for name, value in expected(names, one, frame, late).items():
            np.testing.assert_allclose(found[key][name], value, rtol=1e-12)
    assert evaluate(models["all"], frame, late, scoring=names) == found["all"]


def test_engines_give_the_same_bits(client, rng: np.random.Generator) -> None:
    X, y = rows(rng)
    models = [daskgd.LogisticRegression(C=C, engine="serial").fit(X, y) for C in (1e-3, 1.0)]
    names = ["accuracy", "roc_auc", "neg_log_loss", "average_precision", "d2_brier_score"]
    items = [Item(est, scorers_of(names, est)) for est in models]
    dataset = daskgd.as_dataset(X, y).replace(block_bytes=2000)
    found = [evaluate_items(dataset, items, engine) for engine in ("serial", "threads", "distributed")]
    assert found[0] == found[1] == found[2]


def test_what_is_returned(rng: np.random.Generator) -> None:
    X, y = rows(rng)
    est = daskgd.LogisticRegression().fit(X, y)
    assert list(evaluate(est, X, y)) == ["score"]
    assert list(evaluate(est, X, y, scoring="accuracy")) == ["accuracy"]
    assert list(evaluate(est, X, y, scoring=("f1", "recall"))) == ["f1", "recall"]
    assert [list(one) for one in evaluate([est, est], X, y, scoring=get_scorer("f1"))] == [["score"]] * 2
    with pytest.raises(ValueError, match="at least one fitted model"):
        evaluate([], X, y)


class Within:
    """The share of rows that are off by less than 1."""

    def of(self, y: Any, p: Any, s: Any) -> Any:
        hit = np.abs(y - p) < 1
        return np.array([hit.sum(), len(y)] if s is None else [s @ hit, s.sum()])

    def value(self, sums: Any) -> float:
        return float(sums[0] / sums[1])


class Broken(Within):
    def of(self, y: Any, p: Any, s: Any) -> Any:
        raise RuntimeError("no")


def test_metrics_of_ones_own(rng: np.random.Generator) -> None:
    X, _ = rows(rng)
    y = X[:, 0] + rng.normal(size=N)
    est = daskgd.Ridge().fit(X, y)
    own = {"within": make_scorer(Within()), "not": make_scorer(Within(), greater_is_better=False)}
    found = evaluate(est, da.from_array(X, chunks=(70, P)), y, scoring=own)
    share = np.mean(np.abs(y - est.predict(X)) < 1)
    np.testing.assert_allclose([found["within"], found["not"]], [share, -share], rtol=1e-14)
    with pytest.raises(RuntimeError, match="no"):
        evaluate(est, X, y, scoring={"broken": make_scorer(Broken())})
    for function in (of_sklearn.mean_pinball_loss, daskgd.metrics.mean_pinball_loss):
        scorer = make_scorer(function, greater_is_better=False, alpha=0.2)
        value = evaluate(est, X, y, scoring={"loss": scorer})["loss"]
        np.testing.assert_allclose(-value, of_sklearn.mean_pinball_loss(y, est.predict(X), alpha=0.2))


def unknown(y: Any, p: Any) -> float:
    return 0.0


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scoring: expected one of .*roc_auc.*, got 'rand_score'"):
        get_scorer("rand_score")
    with pytest.raises(ValueError, match="got 'f1_samples'"):
        get_scorer("f1_samples")
    with pytest.raises(ValueError, match="got 'acuracy'"):
        get_scorer("acuracy")
    with pytest.raises(TypeError, match="called with all rows at once"):
        get_scorer(lambda est, X, y: 1.0)
    with pytest.raises(ValueError, match=r"which can be summed up, got unknown.*make an object"):
        get_scorer(of_sklearn.make_scorer(unknown))
    with pytest.raises(TypeError, match="has no parameter 'alfa'"):
        make_scorer(of_sklearn.mean_pinball_loss, alfa=1)
    with pytest.raises(TypeError, match="expected a function"):
        make_scorer("accuracy")
    with pytest.raises(ValueError, match="no settings"):
        make_scorer(Within(), alpha=1)
    with pytest.raises(TypeError, match="expected names of metrics in a list"):
        scorers_of([get_scorer("f1")], None)
    with pytest.raises(ValueError, match="each once"):
        scorers_of(["f1", "f1"], None)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_query_keeps_its_contract(k: int, rng: np.random.Generator) -> None:
    n = 60
    X = rng.normal(size=(n, 3))
    s = rng.integers(1, 3, n).astype(float)
    names: Any = ["r2", "neg_median_absolute_error", "d2_absolute_error_score", "neg_max_error"]
    y: Any = X[:, 0] + rng.normal(size=n)
    models = [daskgd.Ridge().fit(X, y), linear_model.Ridge().fit(X, y)]
    if k > 1:
        y = rng.permutation(np.arange(n) % k)
        models = [daskgd.LogisticRegression(C=C).fit(X, y) for C in (0.1, 1.0)]
        names = ["accuracy", "neg_log_loss", "neg_brier_score", "f1_macro", "top_k_accuracy"]
        names += ["roc_auc_ovr", "roc_auc_ovo"] if k > 2 else ["roc_auc", "average_precision"]
    plan = _Plan(np.dtype(float), np.dtype(float))
    for one in models:
        plan.add(Item(one, scorers_of(names, one)), one)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two labels of one row each, in small parts
        check_query(plan.query(None, False), None, Rows(X, y, s, 0))


def test_displays(rng: np.random.Generator) -> None:
    X, y = rows(rng)
    words = np.array(["no", "yes"])[y]
    est = daskgd.LogisticRegression().fit(X, words)
    p = est.predict_proba(X)[:, 1]
    lazy = da.from_array(X, chunks=(100, P)), da.from_array(words, chunks=100)
    curves = {
        metrics.RocCurveDisplay: ("fpr", "tpr", "roc_auc"),
        metrics.PrecisionRecallDisplay: ("precision", "recall", "average_precision", "prevalence_pos_label"),
        metrics.DetCurveDisplay: ("fpr", "fnr"),
        metrics.CalibrationDisplay: ("prob_true", "prob_pred"),
    }
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of what old releases of it import
        import matplotlib.pyplot as plt

    for kind, attributes in curves.items():
        expected = kind.__mro__[1].from_estimator(est, X, words)
        again = kind.from_predictions(lazy[1], da.from_array(p, chunks=50), pos_label="yes", plot=False)
        for found in (kind.from_estimator(est, *lazy), again):
            for name in attributes:
                np.testing.assert_allclose(getattr(found, name), getattr(expected, name), 1e-10, 1e-14)
    found = metrics.ConfusionMatrixDisplay.from_estimator(est, *lazy)
    assert np.array_equal(found.confusion_matrix, of_sklearn.confusion_matrix(words, est.predict(X)))
    assert found.display_labels.tolist() == ["no", "yes"]
    found = metrics.ConfusionMatrixDisplay.from_predictions(words, est.predict(X), plot=False)
    assert found.display_labels.tolist() == ["no", "yes"]
    plt.close("all")
    with pytest.raises(ValueError, match="a fitted classifier of two classes"):
        metrics.RocCurveDisplay.from_estimator(daskgd.Ridge().fit(X, y), X, y)
