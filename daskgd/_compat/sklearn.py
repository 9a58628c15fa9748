"""What scikit-learn does not promise: hooks of callbacks, private attributes of fitted estimators."""

from __future__ import annotations

from typing import Any

from sklearn import get_config

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in for scikit-learn's: there is nothing to set."""

    def with_callbacks(method: Any) -> Any:
        return method


__all__ = [
    "CallbackSupportMixin",
    "callback_context",
    "check_parameters",
    "check_steps",
    "complete_linear",
    "complete_perceptron",
    "has_callbacks",
    "input_indices",
    "owns_callbacks",
    "parts_of_scorer",
    "with_callbacks",
]


def owns_callbacks(estimator: Any) -> bool:
    """Whether callbacks were set on an estimator itself."""
    return hasattr(estimator, "_skl_callbacks")


def has_callbacks(estimator: Any) -> bool:
    """Whether callbacks listen to the fit of an estimator: its own, or those of what it is part of."""
    listening = owns_callbacks(estimator) or hasattr(estimator, "_parent_callback_ctx")
    return listening and hasattr(estimator, "_init_callback_context")


def callback_context(estimator: Any, max_subtasks: int) -> Any:
    """The context of a fit that callbacks are told of, with at most so many subtasks."""
    return estimator._init_callback_context(max_subtasks=max_subtasks)


def complete_linear(estimator: Any) -> None:
    """Set what a linear estimator of scikit-learn that was given its coefficients needs to score."""
    if hasattr(estimator, "_get_loss"):  # generalised linear models
        estimator._base_loss = estimator._get_loss()


def complete_perceptron(estimator: Any) -> None:
    """Set what a perceptron of scikit-learn that was given its coefficients and classes needs to predict."""
    import numpy as np
    from sklearn.preprocessing import LabelBinarizer

    if hasattr(estimator, "classes_"):
        several = estimator.out_activation_ == "logistic" and estimator.n_outputs_ > 1
        labels = np.eye(len(estimator.classes_), dtype=int) if several else estimator.classes_
        estimator._label_binarizer = LabelBinarizer().fit(labels)


def check_parameters(transformer: Any) -> None:
    """Check the parameters of a transformer as scikit-learn does before a fit, unless it is set to leave that
    out. Raises ValueError for one that is not valid."""
    if not get_config()["skip_parameter_validation"]:
        transformer._validate_params()


def check_steps(pipeline: Any) -> None:
    """Check the steps of a pipeline, as scikit-learn does before it fits them."""
    pipeline._validate_steps()


def input_indices(transformer: Any) -> dict[str, list[int]]:
    """The positions of the columns that each part of a fitted ColumnTransformer is given, by its name."""
    found = transformer._transformer_to_input_indices
    return {name: [int(j) for j in at] for name, at in found.items()}


def parts_of_scorer(scorer: Any) -> tuple[Any, int, dict[str, Any], tuple[str, ...]] | None:
    """The function of a scorer, its sign, its settings, and the methods whose predictions it takes, the first
    that there is; None for what ``make_scorer`` has not made."""
    names = ("_score_func", "_sign", "_kwargs", "_response_method")
    if not all(hasattr(scorer, name) for name in names):
        return None
    function, sign, settings, methods = (getattr(scorer, name) for name in names)
    methods = (methods,) if isinstance(methods, str) else tuple(methods)
    return function, int(sign), dict(settings), methods
