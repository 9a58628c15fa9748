"""Fitted estimators of daskgd as fitted estimators of scikit-learn, for wherever only that is installed."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from sklearn import linear_model, neural_network, svm
from sklearn.utils.validation import check_is_fitted

from daskgd._compat.sklearn import complete_linear, complete_perceptron
from daskgd.estimators.prediction import dense

HERE_ALONE = {"solver", "tol", "verbose", "n_jobs", "memory", "engine", "scale", "regime"}
"""Parameters that say how to fit here: those of the same name there mean something else, or nothing."""


def export(estimator: Any) -> Any:
    """Make a fitted scikit-learn estimator of the same name, with the parameters that both have.

    Raises
    ------
    sklearn.exceptions.NotFittedError
    """
    check_is_fitted(estimator)
    kind = _kind(estimator)
    known = kind().get_params(deep=False)
    given = estimator.get_params(deep=False)
    params = {name: value for name, value in given.items() if name in known and name not in HERE_ALONE}
    out = kind(**_translate(kind.__name__, params))
    for name in ("classes_", "n_features_in_", "feature_names_in_"):
        if hasattr(estimator, name):
            setattr(out, name, getattr(estimator, name))
    if hasattr(estimator, "coefs_"):
        _set_perceptron(estimator, out)
        return out
    out.coef_ = dense(estimator.coef_).copy()
    out.intercept_ = copy(estimator.intercept_)
    _set_others(kind.__name__, estimator, out)
    return out


def _set_perceptron(ours: Any, theirs: Any) -> None:
    """Set the attributes of a multilayer perceptron."""
    for name in (
        "n_iter_",
        "n_layers_",
        "n_outputs_",
        "out_activation_",
        "loss_",
        "best_loss_",
        "loss_curve_",
        "t_",
        "validation_scores_",
        "best_validation_score_",
    ):
        if hasattr(ours, name):  # those of model files of 0.1.0 are fewer
            setattr(theirs, name, getattr(ours, name))
    theirs.coefs_ = [np.array(W) for W in ours.coefs_]
    theirs.intercepts_ = [np.array(b) for b in ours.intercepts_]
    complete_perceptron(theirs)


def _kind(estimator: Any) -> Any:
    """scikit-learn's class of the estimator's name, or of the nearest of its bases that has one there."""
    for base in type(estimator).__mro__:
        for module in (linear_model, neural_network, svm):
            if base.__name__ in module.__all__:
                return getattr(module, base.__name__)
    raise TypeError(f"to_sklearn: scikit-learn has no estimator named {type(estimator).__name__}")


def _translate(name: str, params: dict[str, Any]) -> dict[str, Any]:
    """Change parameters so that scikit-learn would fit the same objective."""
    if name == "LogisticRegression":
        penalty = params.pop("penalty", "deprecated")
        if penalty is None:
            params["C"] = np.inf
        ratio = {"l1": 1.0, "l2": 0.0}.get(penalty, params.get("l1_ratio")) or 0.0
        params["l1_ratio"] = ratio
        if ratio:
            params["solver"] = "saga"  # the others there know no L1
        params["dual"] = False  # only liblinear there has it, which would penalise the intercept
    if name in ("LinearSVC", "LinearSVR") and params.get("fit_intercept"):
        # The intercept is penalised there, the less the larger this is.
        params["intercept_scaling"] = max(float(params.get("intercept_scaling", 1)), 100.0)
    return params


def _set_others(name: str, ours: Any, theirs: Any) -> None:
    """Set the attributes that only some estimators have."""
    n_iter = int(np.max(ours.n_iter_))
    if name == "LogisticRegression":
        theirs.n_iter_ = np.array([n_iter], dtype=np.int32)
    elif name == "Ridge":
        theirs.n_iter_ = None  # as after its direct solvers
    elif name != "LinearRegression":
        theirs.n_iter_ = n_iter
    if name in ("LinearSVC", "LinearSVR"):
        theirs.intercept_ = np.reshape(theirs.intercept_, -1) if ours.fit_intercept else 0.0
    if hasattr(ours, "scale_"):
        theirs.scale_ = float(ours.scale_)
    complete_linear(theirs)
