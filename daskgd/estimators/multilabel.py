"""The base of classifiers that take several labels a row: a target ``(n, k)`` of 0 and 1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from daskgd.data.dataset import Dataset
from daskgd.estimators.classification import Probable
from daskgd.estimators.regression import targets_of
from daskgd.losses import MultilabelLogistic
from daskgd.models.responses import (
    label_probabilities,
    log_label_probabilities,
    log_of_probabilities,
    present_labels,
)
from daskgd.penalties import L2
from daskgd.problems import Problem
from daskgd.queries import Survey, SurveyAnswer

Array = NDArray[Any]


class MultilabelProbable(Probable):
    """Base of classifiers with probabilities, of one label per row out of several, or of k labels each of
    which a row has or has not."""

    _multilabel = True

    @property
    def _labels_per_row(self) -> int | None:
        """The number k of columns of the target of the fit that runs; None for one label per row."""
        k: int = vars(self).get("_y_columns", 1)
        return None if k == 1 else k

    @property
    def _labels_of_model(self) -> int | None:
        """The same of the model that was fitted."""
        known = vars(self)
        several = known.get("out_activation_") == "logistic" and known["n_outputs_"] > 1
        return int(known["n_outputs_"]) if several else None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _admit(self, dataset: Dataset, X: Any, *, reset: bool) -> None:
        super()._admit(dataset, X, reset=reset)
        k = targets_of(dataset)
        y = dataset.columns.y
        assert y is not None
        if k > 1 and y.dtype.kind not in "fiub":
            raise ValueError(
                f"y: expected one label per row, or {k} columns of 0 and 1 for as many labels, got {y.dtype} "
                f"of shape {y.shape}; make them of labels with sklearn.preprocessing.MultiLabelBinarizer"
            )
        seen = self._labels_of_model or 1
        if reset or "out_activation_" not in vars(self):  # nothing was fitted yet
            self._y_columns = k
            return
        if seen != k:
            raise ValueError(f"y: expected {seen} column{'s' * (seen > 1)}, as in the fit, got {k}")

    def _survey(self) -> Survey:
        return super()._survey() if self._labels_per_row is None else Survey(indicator=True)

    def _problem(self, survey: SurveyAnswer, dataset: Dataset) -> tuple[Problem, dict[str, Any]]:
        k = self._labels_per_row
        if k is None:
            return super()._problem(survey, dataset)
        labels = np.arange(k)
        if self._classes is not None and not np.isin(labels, self._classes).all():
            raise ValueError(
                f"y: expected columns for the labels {self._classes.tolist()}, got {k}; pass "
                f"classes=range({k})"
            )
        model = self._form(survey, k)
        penalty = self._penalty(model, survey.weight, self._choice(self._shape(dataset)).solver)
        return Problem(MultilabelLogistic(), model, penalty), {"classes_": labels}

    def _scoring_problem(self, dataset: Dataset) -> tuple[Problem, Array]:
        if self._labels_of_model is None:
            return super()._scoring_problem(dataset)
        model, w = self._model()
        return Problem(MultilabelLogistic(), model, L2()), w

    def _n_classes(self) -> int:
        return max(super()._n_classes(), 2)  # scikit-learn's two columns, of one class, too

    def predict(self, X: Any) -> Any:
        """Predicted labels ``(n,)``, or ``(n, k)`` of 0 and 1 for several a row: numpy for numpy, a lazy dask
        array for anything lazy."""
        check_is_fitted(self)
        if self._labels_of_model is None:
            return super().predict(X)
        return self._map_margins(X, present_labels, np.dtype(int), self._labels_of_model)

    def predict_proba(self, X: Any) -> Any:
        """Probability of each class, or of each label by itself, ``(n, k)``: numpy for numpy, lazy dask for
        anything lazy."""
        check_is_fitted(self)
        if self._labels_of_model is None:
            return super().predict_proba(X)
        return self._map_margins(X, label_probabilities, np.dtype(float), self._labels_of_model)

    def predict_log_proba(self, X: Any) -> Any:
        """Logarithm of `predict_proba`, ``(n, k)``; as in scikit-learn, -inf where that is 0."""
        check_is_fitted(self)
        if self._labels_of_model is None:
            return self._map_margins(X, log_of_probabilities, np.dtype(float), self._n_classes())
        return self._map_margins(X, log_label_probabilities, np.dtype(float), self._labels_of_model)
