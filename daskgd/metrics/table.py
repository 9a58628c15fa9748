"""The metrics that there are, by the names of scikit-learn: of each the kind, and what to say of it.

To add one that is a function of scikit-learn is to add an entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import calibration, metrics

from daskgd.metrics.kinds.base import MeanOf, Metric
from daskgd.metrics.kinds.labels import OfLabelRows, OfLabels, WithSupport
from daskgd.metrics.kinds.numbers import ExplainedShare, LargestError, MedianError, PinballShare, TweedieShare
from daskgd.metrics.kinds.probabilities import (
    Brier,
    BrierShare,
    Calibration,
    Hinge,
    LogLoss,
    LogLossShare,
    TopK,
)
from daskgd.metrics.kinds.scores import AveragePrecision, OfScores, RocAuc
from daskgd.metrics.of_sklearn import named

Make = Callable[[Callable[..., Any], Mapping[str, Any]], Metric]

PAIRS = "the weight of each pair of a true and a predicted label"
SCORES = (
    "the distribution of the scores among the rows of each label, exact up to 4,096 distinct scores; of more "
    "they are known to a relative step of 2**-10, and pairs of rows that fall together count half, which "
    ":func:`roc_auc_bounds` bounds"
)
MEAN = "a weighted sum over rows"


@dataclass(frozen=True)
class Entry:
    """A metric: scikit-learn's function, how its :class:`~daskgd.metrics.kinds.base.Metric` is made of it and
    of its settings, what it is in a sentence, and what is summed up for it."""

    function: Callable[..., Any]
    make: Make
    about: str
    by: str = MEAN


def _own(kind: Any) -> Make:
    return lambda function, settings: kind(function, settings)


def _alone(kind: Any, **more: Any) -> Make:
    return lambda function, settings: kind(settings, **more)


def _mean(finish: Any = None, by_output: bool = True) -> Make:
    return lambda function, settings: MeanOf(function, settings, finish, by_output)


def _rooted(base: Callable[..., Any]) -> Make:
    return lambda function, settings: MeanOf(named(base), settings, np.sqrt, True)


def _fixed(base: Callable[..., Any], **fixed: Any) -> Make:
    return lambda function, settings: PinballShare({**settings, **fixed})


_labels, _label_rows, _scores = _own(OfLabels), _own(OfLabelRows), _own(OfScores)

TABLE: dict[str, Entry] = {
    entry.function.__name__: entry
    for entry in (
        Entry(metrics.accuracy_score, _label_rows, "The share of rows whose label is predicted.", PAIRS),
        Entry(metrics.balanced_accuracy_score, _labels, "The mean of the recalls of all labels.", PAIRS),
        Entry(metrics.precision_score, _labels, "The precision, ``tp / (tp + fp)``.", PAIRS),
        Entry(metrics.recall_score, _labels, "The recall, ``tp / (tp + fn)``.", PAIRS),
        Entry(metrics.f1_score, _labels, "The harmonic mean of precision and recall.", PAIRS),
        Entry(
            metrics.fbeta_score,
            _labels,
            "The harmonic mean of precision and recall, recall weighted by ``beta**2``.",
            PAIRS,
        ),
        Entry(metrics.jaccard_score, _labels, "The Jaccard index, ``tp / (tp + fp + fn)``.", PAIRS),
        Entry(
            metrics.precision_recall_fscore_support,
            _own(WithSupport),
            "Precision, recall, F-score and support of each label, or averaged.",
            PAIRS,
        ),
        Entry(
            metrics.confusion_matrix,
            _labels,
            "The rows by true label (down) and predicted one (across).",
            PAIRS,
        ),
        Entry(
            metrics.classification_report,
            _own(WithSupport),
            "A table of the main metrics of each label.",
            PAIRS,
        ),
        Entry(
            metrics.class_likelihood_ratios, _labels, "The positive and the negative likelihood ratio.", PAIRS
        ),
        Entry(metrics.cohen_kappa_score, _labels, "Cohen's kappa, agreement beyond that of chance.", PAIRS),
        Entry(metrics.matthews_corrcoef, _labels, "Matthews' correlation coefficient.", PAIRS),
        Entry(metrics.zero_one_loss, _label_rows, "The share of rows whose label is not predicted.", PAIRS),
        Entry(metrics.hamming_loss, _label_rows, "The share of labels that are not predicted.", PAIRS),
        Entry(metrics.log_loss, _own(LogLoss), "The mean of ``-log p`` of the true label."),
        Entry(
            metrics.brier_score_loss,
            _own(Brier),
            "The mean squared distance of probabilities from the true label, of two labels half of it.",
        ),
        Entry(metrics.hinge_loss, _own(Hinge), "The mean of ``max(0, 1 - margin)``."),
        Entry(
            metrics.d2_log_loss_score,
            _own(LogLossShare),
            "The share of the log loss of the labels' shares that predictions save.",
        ),
        Entry(
            metrics.d2_brier_score,
            _own(BrierShare),
            "The share of the Brier score of the labels' shares that predictions save.",
        ),
        Entry(
            metrics.roc_auc_score,
            _alone(RocAuc),
            "The area under the ROC curve; of more than two labels averaged (Hand & Till 2001).",
            SCORES,
        ),
        Entry(
            metrics.average_precision_score,
            _own(AveragePrecision),
            "The average precision, ``sum_n (R_n - R_(n-1)) P_n``; of more than two labels averaged.",
            SCORES,
        ),
        Entry(
            metrics.roc_curve, _scores, "The ROC curve: false and true positive rates, thresholds.", SCORES
        ),
        Entry(
            metrics.precision_recall_curve,
            _scores,
            "Precision, recall and thresholds along the scores.",
            SCORES,
        ),
        Entry(metrics.det_curve, _scores, "False positive and false negative rates, and thresholds.", SCORES),
        Entry(
            calibration.calibration_curve,
            _alone(Calibration),
            "The share of positive rows, and the mean prediction, in bins of predictions.",
            "sums by bin; with strategy='quantile' bins and means are of predictions known to a relative "
            "step of 2**-10 beyond 4,096 distinct ones",
        ),
        Entry(
            metrics.top_k_accuracy_score,
            _own(TopK),
            "The share of rows whose label is among the k best scores.",
        ),
        Entry(metrics.r2_score, _alone(ExplainedShare), "The coefficient of determination R2.", "moments"),
        Entry(
            metrics.explained_variance_score,
            _alone(ExplainedShare, forgives_mean=True),
            "The share of the variance that predictions explain.",
            "moments",
        ),
        Entry(metrics.mean_squared_error, _mean(), "The mean of ``(y - p)**2``."),
        Entry(
            metrics.root_mean_squared_error,
            _rooted(metrics.mean_squared_error),
            "The root of the mean of ``(y - p)**2``.",
        ),
        Entry(metrics.mean_absolute_error, _mean(), "The mean of ``|y - p|``."),
        Entry(
            metrics.median_absolute_error,
            _alone(MedianError),
            "The median of ``|y - p|``.",
            "the distribution of the errors, exact up to 4,096 distinct ones; of more the median is at most "
            "2**-10 of itself too small",
        ),
        Entry(metrics.mean_absolute_percentage_error, _mean(), "The mean of ``|y - p| / |y|``."),
        Entry(metrics.mean_squared_log_error, _mean(), "The mean of ``(log(1 + y) - log(1 + p))**2``."),
        Entry(
            metrics.root_mean_squared_log_error,
            _rooted(metrics.mean_squared_log_error),
            "The root of the mean of ``(log(1 + y) - log(1 + p))**2``.",
        ),
        Entry(metrics.max_error, _alone(LargestError), "The largest ``|y - p|``.", "a maximum"),
        Entry(
            metrics.mean_pinball_loss,
            _mean(),
            "The mean of ``alpha max(y - p, 0) + (1 - alpha) max(p - y, 0)``.",
        ),
        Entry(metrics.mean_poisson_deviance, _mean(by_output=False), "The mean Poisson deviance."),
        Entry(metrics.mean_gamma_deviance, _mean(by_output=False), "The mean gamma deviance."),
        Entry(metrics.mean_tweedie_deviance, _mean(by_output=False), "The mean Tweedie deviance of a power."),
        Entry(
            metrics.d2_absolute_error_score,
            _fixed(metrics.d2_pinball_score, alpha=0.5),
            "The share of the absolute error of the median that predictions save.",
            "a weighted sum over rows, and the distribution of the targets, exact up to 4,096 distinct ones; "
            "of more the median is known to a relative step of 2**-10",
        ),
        Entry(
            metrics.d2_pinball_score,
            _alone(PinballShare),
            "The share of the pinball loss of the quantile that predictions save.",
            "a weighted sum over rows, and the distribution of the targets, exact up to 4,096 distinct ones; "
            "of more the quantile is known to a relative step of 2**-10",
        ),
        Entry(
            metrics.d2_tweedie_score,
            _alone(TweedieShare),
            "The share of the Tweedie deviance of the mean that predictions save.",
        ),
    )
}
"""Every metric by its name."""


def metric(name: str, settings: Mapping[str, Any] | None = None) -> Metric:
    """The metric of this name with these settings."""
    entry = TABLE[name]
    return entry.make(named(entry.function), dict(settings or {}))
