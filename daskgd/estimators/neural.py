"""Multilayer perceptrons with scikit-learn's names, on data that need not fit in memory."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.metaestimators import available_if

from daskgd.estimators.multilabel import MultilabelProbable
from daskgd.estimators.networks import Perceptrons
from daskgd.estimators.nonlinear import Regression
from daskgd.estimators.parameters import Rule, is_one_of, with_parameters_of
from daskgd.losses import Logistic, Loss, Poisson, Softmax, Squared
from daskgd.models import Model
from daskgd.queries import SurveyAnswer

Array = NDArray[Any]


class MLPClassifier(Perceptrons, MultilabelProbable):
    """A multilayer perceptron for labels, trained out of core.

    Minimises the mean log-loss and ``alpha / (2 m) |W|**2`` over all weights but intercepts, with m the
    weight of all rows for solvers that step with all of them, and that of `batch_size` rows for "adam" and
    "sgd": as scikit-learn does. A target ``(n, k)`` of 0 and 1 is k labels, each of which a row has or has
    not: the loss is the sum of theirs, the score the share of rows in which all are right.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Units of each hidden layer.
    activation : "identity", "logistic", "tanh" or "relu"
    solver : "auto", "lbfgs", "adam", "sgd", another name, or a Solver
        "adam" and "sgd" step by mini-batches in every partition and average (:class:`LocalSGD`): an iteration
        is one read of the data and one pass over each partition's rows. "auto" is "lbfgs" for up to 10,000
        rows, unless `batch_size` is given, else "adam".
    regime : "auto", "parallel" or "distributed"
        As in :class:`LinearRegression`.
    alpha : float
        Strength of the penalty.
    batch_size : int or "auto"
        Rows of a step; "auto" is 200.
    learning_rate : "constant", "invscaling" or "adaptive"
        For "sgd". "invscaling" divides steps by ``(1 + t)**power_t``, t in passes over the data, where
        scikit-learn counts rows. "adaptive" divides them by 5 where others would end, and ends below 1e-6.
    learning_rate_init, power_t, momentum, nesterovs_momentum, beta_1, beta_2, epsilon :
        As in scikit-learn.
    max_iter : int
        Most iterations.
    shuffle : bool
        Whether batches are drawn anew in every pass; else they are `batch_size` rows in order.
    max_fun : int
        Most sweeps in which "lbfgs" evaluates the loss.
    random_state : int or numpy.random.RandomState, optional
        Of initial weights, batches and validation rows; None is 0, from a RandomState a fit draws one number.
    tol : float
        "adam" and "sgd" stop when the loss did not fall by it in more than `n_iter_no_change` iterations in a
        row, others at this estimated relative gap; 0 runs `max_iter` iterations.
    early_stopping : bool
        Set aside `validation_fraction` of the rows, of every label alike, and stop when the score on
        them did not rise by `tol` in more than `n_iter_no_change` iterations, with the model that had the
        best.
    validation_fraction, n_iter_no_change :
        See `early_stopping`; ``n_iter_no_change=np.inf`` runs `max_iter` iterations.
    scale : "auto", True or False
        Whether the first layer sees standardised features, by the moments of the first read, without a copy
        of X; "auto" is True. `coefs_` and the penalty are in the units of X in any case.
    verbose, warm_start, memory, engine :
        As in :class:`LinearRegression`.

    Attributes
    ----------
    classes_ : ``(k,)``
    coefs_, intercepts_ : lists of ``(fan_in, fan_out)`` and ``(fan_out,)``
        In float32 where X is, and so are predictions; but not the last intercepts where targets lie so far
        from 0 that float32 would lose in what they differ.
    n_layers_, n_outputs_, out_activation_ :
        As in scikit-learn.
    n_iter_, t_ : int
        Iterations that were run, and rows that they saw; `partial_fit` adds to both.
    loss_, best_loss_, loss_curve_ :
        The objective in the last iteration, the least, and all; where mini-batches step, at each one's start.
        `best_loss_` is None with `early_stopping`.
    validation_scores_, best_validation_score_ :
        With `early_stopping` the score after each iteration, and the best; else None.
    n_sweeps_, history_, gap_, outcome_ :
        As in :class:`LinearRegression`; `gap_` is inf where mini-batches step. A fit whose loss no longer
        improves is "converged" only if it is below that of the best constant prediction, else "stalled".

    Examples
    --------
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> est = MLPClassifier(hidden_layer_sizes=8, random_state=1).fit(X, [0, 1, 1, 0])
    >>> est.predict(X)
    array([0, 1, 1, 0])
    """

    _one_class = True

    def _loss(self, n_classes: int) -> Loss:
        return Logistic() if n_classes <= 2 else Softmax()

    @available_if(Perceptrons._takes_part)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train on with these rows: one pass in mini-batches, from where the last call ended.

        Twice on the same rows is an iteration of ``fit`` each: moments of the solver, the order of batches
        and the units of the first layer go on, those of the first call's rows if nothing was fitted before.
        `n_iter_`, `t_`, `loss_curve_`, `history_` and `n_sweeps_` go on as well. Rows are read twice: they
        are checked before they change anything. Where a call fails, the model stays as it was.

        Parameters
        ----------
        X, y, sample_weight :
            As for ``fit``.
        classes : array ``(k,)``
            All labels that there will be. Needed in the first call; later ones may leave it out.

        Returns
        -------
        self

        Raises
        ------
        AttributeError
            For a solver that needs all rows: only "adam", "sgd" and "auto", here "adam", go on.
        ValueError
            For ``early_stopping=True``, other classes than before, labels that are not among them, and steps
            to parameters that are not finite.

        Examples
        --------
        >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        >>> est = MLPClassifier(8, learning_rate_init=0.1)
        >>> for _ in range(50):
        ...     est = est.partial_fit(X, [0, 1, 1, 0], classes=[0, 1])
        >>> est.predict(X), est.n_iter_
        (array([0, 1, 1, 0]), 50)
        """
        known = vars(self).get("classes_")
        if classes is not None:
            classes = np.unique(np.asarray(classes))
            if known is not None and not np.array_equal(known, classes):
                raise ValueError(
                    f"{type(self).__name__}.partial_fit: expected classes to be those of the calls before, "
                    f"{known.tolist()}, got {classes.tolist()}"
                )
        elif known is None:
            raise ValueError(
                f"{type(self).__name__}.partial_fit: expected classes, all labels that there will be, in the "
                "first call, got None"
            )
        return self._go_on(X, y, sample_weight, known if classes is None else classes)


class MLPRegressor(Perceptrons, Regression):
    """A multilayer perceptron for numbers, trained out of core.

    Minimises half the mean squared error, summed over targets, and ``alpha / (2 m) |W|**2``; the rest is as
    in :class:`MLPClassifier`. (scikit-learn reports the mean over targets, and follows the gradient of the
    sum.) The mean of the targets is taken out first, and stands in the last intercepts.

    Parameters
    ----------
    loss : "squared_error" or "poisson"
        "poisson" is for counts: the prediction is the exponential of the last layer, the score D2.
    hidden_layer_sizes, activation, solver, alpha, scale, tol, max_iter, max_fun, random_state, warm_start :
        As in :class:`MLPClassifier`, and so are the next three lines.
    batch_size, learning_rate, learning_rate_init, power_t, shuffle, momentum, nesterovs_momentum :
        Of steps by mini-batches.
    beta_1, beta_2, epsilon, early_stopping, validation_fraction, n_iter_no_change :
        Of Adam, and of when to stop.
    verbose, memory, engine :
        As in :class:`LinearRegression`.

    Attributes
    ----------
    coefs_, intercepts_, n_layers_, n_outputs_, out_activation_, loss_, best_loss_, loss_curve_ :
        As in :class:`MLPClassifier`.
    validation_scores_, best_validation_score_, n_iter_, t_, n_sweeps_, history_, gap_, outcome_ :
        As there.

    Examples
    --------
    >>> X = np.linspace(-1, 1, 50)[:, None]
    >>> est = MLPRegressor(hidden_layer_sizes=(10,), max_iter=500).fit(X, X[:, 0] ** 2)
    >>> est.score(X, X[:, 0] ** 2) > 0.99
    True
    """

    _rules: ClassVar[dict[str, Rule]] = {
        "loss": is_one_of("squared_error", "poisson"),
        **Perceptrons._rules,
    }

    @with_parameters_of(Perceptrons.__init__)
    def __init__(self, loss: str = "squared_error", *layers: Any, **settings: Any) -> None:
        super().__init__(*layers, **settings)
        self.loss = loss

    @property
    def _deviance(self) -> bool:  # type: ignore[override]
        return self.loss == "poisson"

    def _loss(self, n_classes: int) -> Loss:
        return Poisson() if self.loss == "poisson" else Squared()

    def _offset(self, survey: SurveyAnswer, loss: Loss) -> Array | None:
        assert survey.y is not None
        if (units := self._units_to_keep()) is not None:
            return units.offset
        return survey.y.mean if loss.shift_invariant else None

    @available_if(Perceptrons._takes_part)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Train on with these rows, as :meth:`MLPClassifier.partial_fit` does.

        Parameters
        ----------
        X, y, sample_weight :
            As for ``fit``.

        Returns
        -------
        self

        Raises
        ------
        AttributeError, ValueError
            As there.

        Examples
        --------
        >>> X = np.linspace(-1, 1, 50)[:, None]
        >>> est = MLPRegressor(hidden_layer_sizes=(10,), learning_rate_init=0.05)
        >>> for _ in range(200):
        ...     est = est.partial_fit(X, X[:, 0] ** 2)
        >>> est.score(X, X[:, 0] ** 2) > 0.9
        True
        """
        return self._go_on(X, y, sample_weight, None)

    def _split(self) -> tuple[Model, Array, Array | None]:
        model, w = self._model()
        if self.loss == "poisson":
            return model, w, None
        model.layers(w)[-1][1][:] = 0.0
        return model, w, self.intercepts_[-1]
