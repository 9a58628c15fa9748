"""The bases of classifiers: labels and their weights, predictions, probabilities."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_is_fitted, column_or_1d

from daskgd.data.convert import is_in_memory, target_at_hand
from daskgd.data.dataset import Dataset
from daskgd.estimators.base import Estimator
from daskgd.estimators.incremental import Incremental
from daskgd.estimators.prediction import dense
from daskgd.models import Linear, Model
from daskgd.models.responses import (
    ClassifierResponse,
    decisions,
    log_probabilities,
    predicted_labels,
    probabilities,
)
from daskgd.penalties import L2, Penalty
from daskgd.problems import Problem
from daskgd.queries import SurveyAnswer
from daskgd.solvers import Solver

Array = NDArray[Any]


class Classifier(ClassifierMixin, Estimator):
    """Base of the classifiers: labels, their weights, and predictions from margins."""

    _classification = True
    _classes: Array | None = None
    """The labels there are, sorted, where the data need not show them all."""

    _one_class: ClassVar[bool] = False
    """Whether data of a single class can be fitted."""

    def _validate(self, X: Any, y: Any, *, reset: bool) -> Any:
        if y is not None and is_in_memory(y):
            y = target_at_hand(y)
        if isinstance(y, np.ndarray | list | tuple) and reset and _looks_like_labels(y):
            try:
                check_classification_targets(y)  # in the words of scikit-learn; the survey finds the rest
            except TypeError as cause:
                types = " and ".join(sorted({type(v).__name__ for v in np.ravel(np.asarray(y, object))}))
                raise TypeError(
                    f"y: expected labels of one type that can be sorted, got {types}: {cause}"
                ) from None
            if np.ndim(y) == 2 and np.shape(y)[1] == 1:
                column_or_1d(y, warn=True)
        return super()._validate(X, y, reset=reset)

    def _problem(self, survey: SurveyAnswer, dataset: Dataset) -> tuple[Problem, dict[str, Any]]:
        found = survey.labels
        assert found is not None
        name = type(self).__name__
        seen = found.values if dataset.classes is None else dataset.classes[found.values]
        classes, labels, weights = seen, found.values, found.weights
        if self._classes is not None:
            classes, labels = self._classes, _positions(self._classes, dataset.classes)
            at = _known(classes, seen)
            weights = np.zeros(len(classes))
            weights[at] = found.weights
        elif np.count_nonzero(weights) < 2 and not self._one_class:
            raise ValueError(
                f"{name} needs samples of at least 2 classes in the data, but the data contains only one "
                f"class{'' if len(seen) == 1 else ' of positive weight'}: {seen[weights > 0].tolist()[0]!r}"
            )
        loss = self._loss(len(classes))
        model = self._form(survey, loss.outputs(len(classes)) if len(classes) > 1 else 1)
        class_weight = self._class_weight(classes, weights)
        weight = weights.sum() if class_weight is None else weights @ class_weight
        if not weight > 0:
            given = getattr(self, "class_weight", None)
            raise ValueError(f"{name}: expected positive weights in all, got class_weight={given!r}")
        penalty = self._penalty(model, float(weight), self._choice(self._shape(dataset)).solver)
        return Problem(loss, model, penalty, labels, class_weight), {"classes_": classes}

    def _form(self, survey: SurveyAnswer, outputs: int) -> Model:
        """The model for data with this survey."""
        raise NotImplementedError

    def _penalty(self, model: Any, weight: float, solver: Solver) -> Penalty:
        """The penalty on its parameters, for data of this total weight and the solver of the fit."""
        raise NotImplementedError

    def _scoring_problem(self, dataset: Dataset) -> tuple[Problem, Array]:
        model, w = self._model()
        labels = _positions(self.classes_, dataset.classes)
        return Problem(self._loss(len(self.classes_)), model, L2(), labels), w

    def _class_weight(self, classes: Array, weights: Array) -> Array | None:
        """The factor of each class, ``(k,)``; scikit-learn's "balanced" is ``W / (k W_c)``."""
        given = getattr(self, "class_weight", None)
        if given is None:
            return None
        if isinstance(given, str):
            present = weights > 0
            return np.where(present, weights.sum() / (len(weights) * np.where(present, weights, 1)), 1.0)
        labels = classes.tolist()
        unknown = [label for label in given if label not in labels]
        if unknown:
            raise ValueError(f"class_weight: expected labels among {labels}, got {unknown}")
        try:
            factors = np.array([float(given.get(label, 1.0)) for label in labels])
        except (TypeError, ValueError):
            factors = np.array([np.nan])
        if not (np.isfinite(factors).all() and (factors >= 0).all()):
            raise ValueError(f"class_weight: expected finite weights >= 0, got {given!r}")
        return factors

    # -- predicting ---------------------------------------------------------------------------

    score = Estimator.score

    def decision_function(self, X: Any) -> Any:
        """Margins, ``(n,)`` for two classes (positive is ``classes_[1]``), else ``(n, k)``."""
        return self._map_margins(X, decisions, np.dtype(float), self._outputs())

    def predict(self, X: Any) -> Any:
        """Predicted labels ``(n,)``: numpy for numpy, a lazy dask array for anything lazy."""
        self._outputs()
        return self._map_margins(X, predicted_labels, self.classes_.dtype, None)

    def _outputs(self) -> int | None:
        """Columns of the margins; None for a vector."""
        k = self._model()[0].outputs
        return None if k == 1 else k

    def _map_margins(self, X: Any, of_margins: Any, dtype: Any, columns: int | None) -> Any:
        model, w = self._model()
        return self._map_rows(X, ClassifierResponse(model, w, of_margins, self.classes_), dtype, columns)


class Probable(Classifier):
    """Base of the classifiers whose margins are logarithms of odds, and give probabilities."""

    def predict_proba(self, X: Any) -> Any:
        """Probability of each class, ``(n, k)``: numpy for numpy, lazy dask for anything lazy."""
        return self._map_margins(X, probabilities, np.dtype(float), self._n_classes())

    def predict_log_proba(self, X: Any) -> Any:
        """Logarithm of the probability of each class, ``(n, k)``."""
        return self._map_margins(X, log_probabilities, np.dtype(float), self._n_classes())

    def _n_classes(self) -> int:
        self._outputs()
        return len(self.classes_)


class _Classifier(Classifier, Incremental):
    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None) -> Self:
        """Learn from these rows: one pass in mini-batches, from where the last call ended.

        A pass of averaged stochastic gradient descent (:class:`AveragedSGD`) over the objective of ``fit``,
        features standardised by the moments of all rows so far, the penalty divided by their weight: after
        calls with all parts of the data the coefficients are within the noise of the rows of those of
        ``fit`` with all of it. More calls with the same rows come nearer, though the penalty counts for less,
        as if there were more rows. After ``fit`` it goes on from its coefficients.

        `max_iter`, `tol`, `warm_start`, and a `solver` given by name, have no effect here. Rows are read
        twice: they are checked before they change anything. Where a call fails, the model stays as it was.

        Parameters
        ----------
        X, y, sample_weight :
            As for ``fit``.
        classes : array ``(k,)``
            All labels there are, of which one call's rows may lack some. Needed in the first call; later ones
            may leave it out.

        Returns
        -------
        self
            With `t_`, the rows seen, beside the attributes of ``fit``; `n_iter_`, `n_sweeps_` and `history_`
            go on. There is no `gap_` but inf.

        Raises
        ------
        ValueError
            For what ``fit`` raises it for, labels that are not among the classes, other solver objects than
            AveragedSGD, and ``class_weight="balanced"``, which means the shares of labels in all rows.

        Examples
        --------
        >>> import daskgd
        >>> est = daskgd.LogisticRegression()
        >>> for x, label in ([2.0], "up"), ([-3.0], "down"), ([1.0], "up"):
        ...     est = est.partial_fit([x], [label], classes=["down", "up"])
        >>> est.predict([[4.0], [-4.0]])
        array(['up', 'down'], dtype='<U4')
        """
        return self._go_on(X, y, sample_weight, self._classes_of_all_parts(classes))

    def _classes_of_all_parts(self, classes: Any) -> Array:
        """The labels that a call of `partial_fit` goes by."""
        name, known = f"{type(self).__name__}.partial_fit", vars(self).get("classes_")
        if known is None and classes is None:
            raise ValueError(
                f"{name}: classes must be passed on the first call to partial_fit. They are all labels that "
                "there will be"
            )
        labels: Any = known if classes is None else unique_labels(classes)
        if known is not None and not np.array_equal(labels, known):
            raise ValueError(
                f"{name}: expected classes as at the first call, {known.tolist()}, got {labels.tolist()}"
            )
        if len(labels) < 2:
            raise ValueError(f"{name}: expected at least 2 classes, got {labels.tolist()}")
        return np.asarray(labels)

    def sparsify(self) -> Self:
        """Make `coef_` a sparse matrix in rows (CSR), which takes less memory where most of it is zero.

        Predictions and warm starts go on as before.
        """
        check_is_fitted(self)
        self.coef_ = csr_matrix(self.coef_)
        return self

    def densify(self) -> Self:
        """Make `coef_` an array again."""
        check_is_fitted(self)
        self.coef_ = dense(self.coef_)
        return self

    def _form(self, survey: SurveyAnswer, outputs: int) -> Linear:
        return self._linear(survey, outputs)

    def _penalty(self, model: Linear, weight: float, solver: Solver) -> Penalty:
        return self._strength(model, weight)


def _looks_like_labels(y: Any) -> bool:
    array = np.asarray(y)
    return (
        array.ndim < 3
        and array.dtype.kind != "c"
        and bool(array.dtype.kind != "f" or np.isfinite(array).all())
    )


def _positions(classes: Array, within: Array | None) -> Array:
    """The codes by which a dataset with the classes `within` stores each of `classes`, both sorted: for a
    class that it does not have, a number between two codes."""
    if within is None:
        return classes
    at = np.searchsorted(within, classes)
    there = np.append(within, within[-1:])[at] == classes
    there &= at < len(within)
    return at if there.all() else np.where(there, at, at - 0.5)


def _known(classes: Array, seen: Array) -> Array:
    """The position of each label among `classes`, sorted; ValueError for one that is not there."""
    try:
        at = np.minimum(np.searchsorted(classes, seen), len(classes) - 1)
    except TypeError:  # of another kind altogether
        at = np.zeros(len(seen), dtype=np.intp)
    new = seen[classes[at] != seen]
    if len(new):
        raise ValueError(f"y: expected labels among {classes.tolist()}, got {new.tolist()}")
    return at
