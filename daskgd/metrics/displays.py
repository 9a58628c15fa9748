"""Curves and matrices to plot: scikit-learn's displays, of rows that need not fit in memory.

They are computed by the functions of this package, from estimators in one sweep; only ``plot`` needs
matplotlib (the extra ``plot``)."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn import calibration
from sklearn import metrics as of_sklearn
from sklearn.base import is_classifier

from daskgd.metrics import functions
from daskgd.metrics.evaluation import evaluate
from daskgd.metrics.kinds.base import Metric
from daskgd.metrics.kinds.probabilities import Calibration
from daskgd.metrics.scorers import Scorer
from daskgd.metrics.table import metric as metric_of

SCORING = ("predict_proba", "decision_function")


def _of_estimator(
    estimator: Any,
    rows: tuple[Any, Any, Any],
    metric: Metric,
    methods: str | tuple[str, ...],
    pos_label: Any = None,
) -> Any:
    """A metric of the predictions of an estimator."""
    methods = SCORING if methods == "auto" else (methods,) if isinstance(methods, str) else methods
    X, y, s = rows
    scorer = Scorer(metric, 1, methods, pos_label)
    return evaluate(estimator, X, y, scoring={"display": scorer}, sample_weight=s)["display"]


def _positive(estimator: Any, pos_label: Any) -> Any:
    """The label that scores are of. Raises ValueError for what is not a classifier of two."""
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    classes: Any = getattr(last, "classes_", ())
    if not is_classifier(last) or len(classes) != 2:
        raise ValueError(
            "estimator: expected a fitted classifier of two classes, got "
            f"{type(last).__name__} of {len(classes)}"
        )
    return classes[-1] if pos_label is None else pos_label


def _name(estimator: Any, name: str | None) -> str:
    return type(estimator).__name__ if name is None else name


class RocCurveDisplay(of_sklearn.RocCurveDisplay):
    """The ROC curve, computed by sums: scikit-learn's display.

    Examples
    --------
    >>> import daskgd
    >>> X, y = np.array([[1.0], [2.0], [3.0], [4.0]]), np.array(["no", "yes", "no", "yes"])
    >>> display = RocCurveDisplay.from_estimator(daskgd.LogisticRegression().fit(X, y), X, y, plot=False)
    >>> display.roc_auc, display.tpr
    (0.75, array([0. , 0.5, 0.5, 1. , 1. ]))
    """

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        drop_intermediate: bool = True,
        response_method: str = "auto",
        pos_label: Any = None,
        name: str | None = None,
        ax: Any = None,
        plot: bool = True,
        **kwargs: Any,
    ) -> Self:
        """The curve of a fitted classifier of two classes, in one sweep over whatever `fit` takes.

        Parameters are scikit-learn's; without `plot` nothing is drawn, and ``display.plot()`` does it later.
        """
        positive = _positive(estimator, pos_label)
        metric = metric_of("roc_curve", {"pos_label": positive, "drop_intermediate": drop_intermediate})
        rows = X, y, sample_weight
        curve = _of_estimator(estimator, rows, metric, response_method, positive)
        return cls._of(curve, positive, _name(estimator, name), ax, plot, kwargs)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_score: Any,
        *,
        sample_weight: Any = None,
        drop_intermediate: bool = True,
        pos_label: Any = None,
        name: str | None = None,
        ax: Any = None,
        plot: bool = True,
        **kwargs: Any,
    ) -> Self:
        """The curve of labels and scores, of numpy or dask. Parameters are scikit-learn's, and `plot`."""
        curve = functions.roc_curve(
            y_true,
            y_score,
            pos_label=pos_label,
            sample_weight=sample_weight,
            drop_intermediate=drop_intermediate,
        )
        return cls._of(curve, pos_label, name, ax, plot, kwargs)

    @classmethod
    def _of(cls, curve: Any, positive: Any, name: Any, ax: Any, plot: bool, kwargs: Any) -> Self:
        fpr, tpr, _ = curve
        display = cls(fpr=fpr, tpr=tpr, roc_auc=of_sklearn.auc(fpr, tpr), pos_label=positive)
        return display.plot(ax=ax, name=name, **kwargs) if plot else display


class PrecisionRecallDisplay(of_sklearn.PrecisionRecallDisplay):
    """Precision by recall, computed by sums: scikit-learn's display."""

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        drop_intermediate: bool = False,
        response_method: str = "auto",
        pos_label: Any = None,
        name: str | None = None,
        ax: Any = None,
        plot: bool = True,
        **kwargs: Any,
    ) -> Self:
        """As :meth:`RocCurveDisplay.from_estimator`."""
        positive = _positive(estimator, pos_label)
        settings = {"pos_label": positive, "drop_intermediate": drop_intermediate}
        metric = metric_of("precision_recall_curve", settings)
        rows = X, y, sample_weight
        curve = _of_estimator(estimator, rows, metric, response_method, positive)
        return cls._of(curve, positive, _name(estimator, name), ax, plot, kwargs)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_score: Any,
        *,
        sample_weight: Any = None,
        drop_intermediate: bool = False,
        pos_label: Any = None,
        name: str | None = None,
        ax: Any = None,
        plot: bool = True,
        **kwargs: Any,
    ) -> Self:
        """As :meth:`RocCurveDisplay.from_predictions`."""
        curve = functions.precision_recall_curve(
            y_true,
            y_score,
            pos_label=pos_label,
            sample_weight=sample_weight,
            drop_intermediate=drop_intermediate,
        )
        return cls._of(curve, pos_label, name, ax, plot, kwargs)

    @classmethod
    def _of(cls, curve: Any, positive: Any, name: Any, ax: Any, plot: bool, kwargs: Any) -> Self:
        precision, recall, _ = curve
        display = cls(
            precision=precision,
            recall=recall,
            average_precision=float(-np.sum(np.diff(recall) * precision[:-1])),
            pos_label=positive,
            prevalence_pos_label=precision[0],  # all rows are predicted there
        )
        return display.plot(ax=ax, name=name, **kwargs) if plot else display


class DetCurveDisplay(of_sklearn.DetCurveDisplay):
    """The detection error tradeoff, computed by sums: scikit-learn's display."""

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        response_method: str = "auto",
        pos_label: Any = None,
        name: str | None = None,
        ax: Any = None,
        plot: bool = True,
        **kwargs: Any,
    ) -> Self:
        """As :meth:`RocCurveDisplay.from_estimator`."""
        positive = _positive(estimator, pos_label)
        metric = metric_of("det_curve", {"pos_label": positive, "drop_intermediate": True})
        rows = X, y, sample_weight
        curve = _of_estimator(estimator, rows, metric, response_method, positive)
        return cls._of(curve, positive, _name(estimator, name), ax, plot, kwargs)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_score: Any,
        *,
        sample_weight: Any = None,
        pos_label: Any = None,
        name: str | None = None,
        ax: Any = None,
        plot: bool = True,
        **kwargs: Any,
    ) -> Self:
        """As :meth:`RocCurveDisplay.from_predictions`."""
        curve = functions.det_curve(
            y_true, y_score, pos_label=pos_label, sample_weight=sample_weight, drop_intermediate=True
        )
        return cls._of(curve, pos_label, name, ax, plot, kwargs)

    @classmethod
    def _of(cls, curve: Any, positive: Any, name: Any, ax: Any, plot: bool, kwargs: Any) -> Self:
        display = cls(fpr=curve[0], fnr=curve[1], pos_label=positive)
        return display.plot(ax=ax, name=name, **kwargs) if plot else display


class ConfusionMatrixDisplay(of_sklearn.ConfusionMatrixDisplay):
    """The confusion matrix, computed by sums: scikit-learn's display."""

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        labels: Any = None,
        sample_weight: Any = None,
        normalize: str | None = None,
        display_labels: Any = None,
        plot: bool = True,
        **kwargs: Any,
    ) -> Self:
        """The matrix of a fitted classifier, in one sweep over whatever `fit` takes: of `labels`, by default
        its classes. Other parameters are scikit-learn's, and `plot`."""
        last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
        labels = last.classes_ if labels is None else labels
        metric = metric_of("confusion_matrix", {"labels": labels, "normalize": normalize})
        matrix = _of_estimator(estimator, (X, y, sample_weight), metric, "predict")
        return cls._of(matrix, labels if display_labels is None else display_labels, plot, kwargs)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        labels: Any = None,
        sample_weight: Any = None,
        normalize: str | None = None,
        display_labels: Any = None,
        plot: bool = True,
        **kwargs: Any,
    ) -> Self:
        """The matrix of true and predicted labels, of numpy or dask. `labels` are by default numbered from 0
        where the arrays are lazy. Other parameters are scikit-learn's, and `plot`."""
        matrix = functions.confusion_matrix(
            y_true, y_pred, labels=labels, sample_weight=sample_weight, normalize=normalize
        )
        if labels is None and not (functions.is_lazy(y_true) or functions.is_lazy(y_pred)):
            labels = np.union1d(np.asarray(y_true), np.asarray(y_pred))
        return cls._of(matrix, labels if display_labels is None else display_labels, plot, kwargs)

    @classmethod
    def _of(cls, matrix: Any, labels: Any, plot: bool, kwargs: Any) -> Self:
        display = cls(confusion_matrix=matrix, display_labels=labels)
        return display.plot(**kwargs) if plot else display


class CalibrationDisplay(calibration.CalibrationDisplay):
    """The calibration curve, computed by sums: scikit-learn's display, without its `y_prob`."""

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        n_bins: int = 5,
        strategy: str = "uniform",
        pos_label: Any = None,
        name: str | None = None,
        ref_line: bool = True,
        ax: Any = None,
        plot: bool = True,
        **kwargs: Any,
    ) -> Self:
        """As :meth:`RocCurveDisplay.from_estimator`; rows count by their weights, if they have any."""
        positive = _positive(estimator, pos_label)
        metric = Calibration({"n_bins": n_bins, "strategy": strategy, "pos_label": positive})
        found = _of_estimator(estimator, (X, y, None), metric, "predict_proba", positive)
        return cls._of(
            found, positive, plot, {"name": _name(estimator, name), "ref_line": ref_line, "ax": ax, **kwargs}
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_prob: Any,
        *,
        n_bins: int = 5,
        strategy: str = "uniform",
        pos_label: Any = None,
        name: str | None = None,
        ref_line: bool = True,
        ax: Any = None,
        plot: bool = True,
        **kwargs: Any,
    ) -> Self:
        """As :meth:`RocCurveDisplay.from_predictions`."""
        found = functions.calibration_curve(
            y_true, y_prob, n_bins=n_bins, strategy=strategy, pos_label=pos_label
        )
        return cls._of(found, pos_label, plot, {"name": name, "ref_line": ref_line, "ax": ax, **kwargs})

    @classmethod
    def _of(cls, found: Any, positive: Any, plot: bool, kwargs: Any) -> Self:
        display = cls(prob_true=found[0], prob_pred=found[1], y_prob=None, pos_label=positive)
        return display.plot(**kwargs) if plot else display
