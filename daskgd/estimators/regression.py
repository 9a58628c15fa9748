"""The bases of regressors: targets, their offset, predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, column_or_1d

from daskgd.data.convert import in_floats
from daskgd.data.dataset import Dataset
from daskgd.estimators.base import Estimator
from daskgd.estimators.incremental import Incremental
from daskgd.losses import Shifted
from daskgd.models import Linear, LinearWithScale
from daskgd.models.responses import RegressorResponse
from daskgd.penalties import L2
from daskgd.problems import Problem
from daskgd.queries import SurveyAnswer

Array = NDArray[Any]


class NumberRegressor(RegressorMixin, Estimator):
    """Base of all regressors: a loss of numbers, one target or, where `_many_targets`, several."""

    _many_targets: ClassVar[bool] = False

    score = Estimator.score

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = self._many_targets
        return tags

    def _validate(self, X: Any, y: Any, *, reset: bool) -> Any:
        column = isinstance(y, np.ndarray | list | tuple) and np.ndim(y) == 2 and np.shape(y)[1] == 1
        if column and reset and not self._many_targets:
            column_or_1d(y, warn=True)  # in the words of scikit-learn
        return super()._validate(X, y, reset=reset)

    def _dataset(self, X: Any, y: Any, sample_weight: Any, *, reset: bool = True) -> Dataset:
        y = in_floats(y) if hasattr(y, "to_dask_array") else y
        return super()._dataset(X, y, sample_weight, reset=reset)

    def _admit(self, dataset: Dataset, X: Any, *, reset: bool) -> None:
        super()._admit(dataset, X, reset=reset)
        k = targets_of(dataset)
        if k > 1 and not self._many_targets:
            raise ValueError(
                f"y: expected one target per row for {type(self).__name__}, shape (n,), got {k} columns; fit "
                "one estimator for each, with daskgd.together to share the sweeps"
            )

    def predict(self, X: Any) -> Any:
        """Predicted targets ``(n,)`` or ``(n, k)``: numpy for numpy, a lazy dask array for anything lazy."""
        check_is_fitted(self)
        return self._map_margins(X, None)

    def _map_margins(self, X: Any, of_margins: Callable[[Array], Array] | None) -> Any:
        """Map a function over the margins of the rows of X; None gives the margins themselves."""
        raise NotImplementedError


class Regressor(NumberRegressor, Incremental):
    """Base of the regressors with a linear model."""

    _keeps_column: ClassVar[bool] = False
    """Whether a target ``(n, 1)`` makes `coef_` ``(1, p)``; else it is ``(p,)``, each as in scikit-learn."""

    @available_if(Incremental._takes_parts)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn from these rows: one pass in mini-batches, from where the last call ended.

        As :meth:`LogisticRegression.partial_fit` does: a pass of averaged stochastic gradient descent
        (:class:`AveragedSGD`) over the objective of ``fit``.

        Parameters
        ----------
        X, y, sample_weight :
            As for ``fit``.

        Returns
        -------
        self

        Raises
        ------
        AttributeError
            For :class:`HuberRegressor`, whose scale is fitted with all rows in view.
        ValueError
            As there.

        Examples
        --------
        >>> import daskgd
        >>> X = np.linspace(-1, 1, 1000)[:, None]
        >>> y = 3 * X[:, 0] + 1
        >>> est = daskgd.LinearRegression()
        >>> for part in range(0, 1000, 100):
        ...     est = est.partial_fit(X[part::100], y[part::100])
        >>> est.coef_.round(1)
        array([3.])
        """
        return self._go_on(X, y, sample_weight)

    def _problem(self, survey: SurveyAnswer, dataset: Dataset) -> tuple[Problem, dict[str, Any]]:
        y = dataset.columns.y
        assert y is not None
        assert survey.y is not None
        outputs, loss = targets_of(dataset), self._loss(0)
        if outputs > 1 and not self._many_targets:  # the second is an offset on the margins
            outputs, loss = 1, Shifted(loss)
        model = self._linear(survey, outputs, LinearWithScale if loss.scales else Linear)
        penalty = self._strength(model, survey.weight)
        offset = survey.y.mean if model.center is not None and loss.shift_invariant else None
        return Problem(loss, model, penalty, offset=offset), {"_y_ndim": len(y.shape)}

    def _scoring_problem(self, dataset: Dataset) -> tuple[Problem, Array]:
        coef = np.atleast_2d(self.coef_)
        outputs = targets_of(dataset)
        if outputs != len(coef):
            raise ValueError(f"y: expected {len(coef)} targets, as in the fit, got {outputs}")
        # The intercept is taken from the targets instead: in float64, whatever the dtype of X.
        offset = np.zeros(len(coef)) + np.ravel(self.intercept_)
        model = Linear(coef.shape[1], len(coef), intercept=False)
        return Problem(self._loss(0), model, L2(), offset=offset), model.parameters(coef, offset)

    def _shape_coefficients(self, coefficients: Array, intercepts: Array) -> tuple[Array, Any]:
        if self._y_ndim == 1 or not self._many_targets:
            return coefficients[0], intercepts[0]
        column = len(coefficients) == 1 and not self._keeps_column
        return coefficients[0] if column else coefficients, intercepts if self.fit_intercept else 0.0

    def _map_margins(self, X: Any, of_margins: Callable[[Array], Array] | None) -> Any:
        check_is_fitted(self)
        many = np.shape(self.coef_)[0] if np.ndim(self.coef_) == 2 else None
        coef = np.atleast_2d(self.coef_)
        model = Linear(coef.shape[1], len(coef), intercept=False)
        w = model.parameters(coef, np.zeros(len(coef)))
        rowwise = RegressorResponse(model, w, self.intercept_, many, of_margins)
        return self._map_rows(X, rowwise, np.dtype(float), many)


def targets_of(dataset: Dataset) -> int:
    """The number of columns of the target."""
    y = dataset.columns.y
    assert y is not None
    return 1 if len(y.shape) == 1 else y.shape[1]
