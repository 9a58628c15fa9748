"""Metrics as sums: scikit-learn's, of rows that do not fit in memory.

Names are imported when they are first used: a worker that sums up for a metric needs none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daskgd.metrics.displays import (
        CalibrationDisplay,
        ConfusionMatrixDisplay,
        DetCurveDisplay,
        PrecisionRecallDisplay,
        RocCurveDisplay,
    )
    from daskgd.metrics.evaluation import evaluate
    from daskgd.metrics.functions import (
        accuracy_score,
        average_precision_score,
        balanced_accuracy_score,
        brier_score_loss,
        calibration_curve,
        class_likelihood_ratios,
        classification_report,
        cohen_kappa_score,
        confusion_matrix,
        d2_absolute_error_score,
        d2_brier_score,
        d2_log_loss_score,
        d2_pinball_score,
        d2_tweedie_score,
        det_curve,
        explained_variance_score,
        f1_score,
        fbeta_score,
        hamming_loss,
        hinge_loss,
        jaccard_score,
        log_loss,
        matthews_corrcoef,
        max_error,
        mean_absolute_error,
        mean_absolute_percentage_error,
        mean_gamma_deviance,
        mean_pinball_loss,
        mean_poisson_deviance,
        mean_squared_error,
        mean_squared_log_error,
        mean_tweedie_deviance,
        median_absolute_error,
        precision_recall_curve,
        precision_recall_fscore_support,
        precision_score,
        r2_score,
        recall_score,
        roc_auc_bounds,
        roc_auc_score,
        roc_curve,
        root_mean_squared_error,
        root_mean_squared_log_error,
        top_k_accuracy_score,
        zero_one_loss,
    )
    from daskgd.metrics.scorers import get_scorer, get_scorer_names, make_scorer

__all__ = [
    "CalibrationDisplay",
    "ConfusionMatrixDisplay",
    "DetCurveDisplay",
    "PrecisionRecallDisplay",
    "RocCurveDisplay",
    "accuracy_score",
    "average_precision_score",
    "balanced_accuracy_score",
    "brier_score_loss",
    "calibration_curve",
    "class_likelihood_ratios",
    "classification_report",
    "cohen_kappa_score",
    "confusion_matrix",
    "d2_absolute_error_score",
    "d2_brier_score",
    "d2_log_loss_score",
    "d2_pinball_score",
    "d2_tweedie_score",
    "det_curve",
    "evaluate",
    "explained_variance_score",
    "f1_score",
    "fbeta_score",
    "get_scorer",
    "get_scorer_names",
    "hamming_loss",
    "hinge_loss",
    "jaccard_score",
    "log_loss",
    "make_scorer",
    "matthews_corrcoef",
    "max_error",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_gamma_deviance",
    "mean_pinball_loss",
    "mean_poisson_deviance",
    "mean_squared_error",
    "mean_squared_log_error",
    "mean_tweedie_deviance",
    "median_absolute_error",
    "precision_recall_curve",
    "precision_recall_fscore_support",
    "precision_score",
    "r2_score",
    "recall_score",
    "roc_auc_bounds",
    "roc_auc_score",
    "roc_curve",
    "root_mean_squared_error",
    "root_mean_squared_log_error",
    "top_k_accuracy_score",
    "zero_one_loss",
]

_MODULE_OF = {
    "evaluate": "evaluation",
    **dict.fromkeys(("get_scorer", "get_scorer_names", "make_scorer"), "scorers"),
}
"""The module that defines a name, where that is not `displays` or `functions`."""


if not TYPE_CHECKING:  # for which it would make any name one of ours

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = _MODULE_OF.get(name, "displays" if name.endswith("Display") else "functions")
        value = getattr(import_module(f"{__name__}.{module}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
