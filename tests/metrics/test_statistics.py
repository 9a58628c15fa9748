"""Statistics of metrics: scikit-learn's values, however rows are cut and weighted."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from daskgd.metrics.statistics import (
    ExplainedShare,
    LargestError,
    MeanOf,
    MedianError,
    OfLabels,
    OfOwnLabel,
    OfScores,
    brier_losses,
    hits_of_top,
    log_losses,
)

LABELS = {
    "accuracy": (metrics.accuracy_score, {}),
    "balanced": (metrics.balanced_accuracy_score, {}),
    "precision": (metrics.precision_score, {"average": "macro", "zero_division": 0}),
    "f1": (metrics.f1_score, {"average": "weighted"}),
    "matthews": (metrics.matthews_corrcoef, {}),
    "kappa": (metrics.cohen_kappa_score, {}),
    "jaccard": (metrics.jaccard_score, {"average": None}),
    "confusion": (metrics.confusion_matrix, {}),
}
SCORES = {
    "roc auc": (metrics.roc_auc_score, {}),
    "average precision": (metrics.average_precision_score, {}),
    "roc": (metrics.roc_curve, {}),
}
MEANS = {
    "mse": (metrics.mean_squared_error, {}),
    "mae": (metrics.mean_absolute_error, {}),
    "mape": (metrics.mean_absolute_percentage_error, {}),
    "poisson": (metrics.mean_poisson_deviance, {}),
    "pinball": (metrics.mean_pinball_loss, {"alpha": 0.2}),
}


def check(metric: Any, function: Any, settings: Any, y: Any, p: Any, s: Any) -> None:
    rng = np.random.default_rng(0)
    cuts = np.sort(rng.integers(0, len(y), 5))
    parts = [np.split(one, cuts) for one in (y, p, s)]
    total = reduce(add, [metric.of(*part) for part in zip(*parts, strict=True) if len(part[0])])
    found, expected = metric.value(total), function(y, p, sample_weight=s, **settings)
    for a, b in (
        zip(np.atleast_1d(found), np.atleast_1d(expected), strict=True)
        if not isinstance(found, tuple)
        else zip(found, expected, strict=True)
    ):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("name", LABELS)
def test_of_labels(name: str, words: bool, rng: np.random.Generator) -> None:
    y, p = rng.integers(0, 4, (2, 400))
    p[:200] = y[:200]
    if words:
        y, p = (np.array(["no", "so so", "yes", "é"])[v] for v in (y, p))
    function, settings = LABELS[name]
    check(OfLabels(function, settings), function, settings, y, p, rng.random(400))


@pytest.mark.parametrize("name", SCORES)
def test_of_scores(name: str, rng: np.random.Generator) -> None:
    y = rng.integers(0, 2, 400)
    p = (rng.normal(size=400) + y).round(1)
    function, settings = SCORES[name]
    check(OfScores(function, settings), function, settings, y, p, rng.random(400))


@pytest.mark.parametrize("name", MEANS)
def test_of_means(name: str, rng: np.random.Generator) -> None:
    y, p = rng.poisson(3, 400) + 1.0, rng.random(400) * 5 + 0.1
    function, settings = MEANS[name]
    check(MeanOf(function, settings), function, settings, y, p, rng.random(400))


def test_of_probabilities(rng: np.random.Generator) -> None:
    n, s = 500, rng.random(500)
    y = rng.integers(0, 4, n)
    p = rng.dirichlet(np.ones(4), n)
    one, y2 = rng.random(n), rng.integers(0, 2, n)
    check(OfOwnLabel(log_losses), metrics.log_loss, {}, y, p, s)
    check(OfOwnLabel(log_losses), metrics.log_loss, {}, y2, one, s)
    check(OfOwnLabel(brier_losses, lambda mean, _: mean / 2), metrics.brier_score_loss, {}, y2, one, s)
    check(OfOwnLabel(hits_of_top(2)), metrics.top_k_accuracy_score, {"k": 2}, y, p.round(1), s)


def test_of_numbers(rng: np.random.Generator) -> None:
    y, s = 1e6 + rng.normal(size=(500, 2)), rng.random(500)
    p = y + rng.normal(0.1, 0.3, y.shape)
    for how in ("raw_values", "uniform_average", "variance_weighted", [0.3, 0.7]):
        check(ExplainedShare(multioutput=how), metrics.r2_score, {"multioutput": how}, y, p, s)
        settings = {"multioutput": how}
        check(ExplainedShare(True, how), metrics.explained_variance_score, settings, y, p, s)
    one, two = y[:, 0], p[:, 0]
    assert LargestError().value(LargestError().of(one, two, None)) == metrics.max_error(one, two)
    for n in (500, 499):
        found = MedianError().value(MedianError().of(one[:n], two[:n], None))
        np.testing.assert_allclose(found, metrics.median_absolute_error(one[:n], two[:n]), rtol=1e-12)
