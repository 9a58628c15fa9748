"""Scorers: a metric, its sign, and which predictions of a model it is of. Knows metrics; no estimator but by
what it can do."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sklearn import linear_model
from sklearn import metrics as of_sklearn
from sklearn.base import is_classifier

from daskgd._compat.sklearn import parts_of_scorer
from daskgd.metrics import functions
from daskgd.metrics.kinds.base import Metric
from daskgd.metrics.kinds.labels import LikelihoodRatio
from daskgd.metrics.table import TABLE, metric


@dataclass(frozen=True)
class Scorer:
    """A metric of a model: greater is better.

    Attributes
    ----------
    metric : Metric
    sign : int
        1, or -1 for losses.
    methods : tuple of str
        The methods of an estimator whose predictions it is of: the first that there is.
    pos_label : optional
        The label that scores of two labels are of; None for the greater.
    """

    metric: Metric
    sign: int = 1
    methods: tuple[str, ...] = ("predict",)
    pos_label: Any = None


RATIOS = {"positive_likelihood_ratio": 0, "negative_likelihood_ratio": 1}


def make_scorer(
    metric: Any, *, response_method: Any = "predict", greater_is_better: bool = True, **settings: Any
) -> Scorer:
    """Make a scorer of a metric, for ``scoring``.

    Parameters
    ----------
    metric : callable or Metric
        A function of :mod:`daskgd.metrics` or ``sklearn.metrics``; or an object of your own with two methods:
        ``of(y, p, s)``, of targets, predictions and weights of some rows (or None), gives what adds with
        ``+``; ``value`` gives the metric by the sum of that.
    response_method : str or sequence of str
        Of ``"predict"``, ``"predict_proba"`` and ``"decision_function"``: the first that a model has.
    greater_is_better : bool
        If False, its sign is turned.
    **settings :
        Of the function, such as ``beta=2``.

    Returns
    -------
    Scorer

    Raises
    ------
    ValueError
        For functions that are not known.

    Examples
    --------
    >>> import daskgd.metrics, numpy as np
    >>> class Within:  # the share of rows that are off by less than 1
    ...     def of(self, y, p, s):
    ...         hit = abs(y - p) < 1
    ...         return np.array([hit.sum(), len(y)] if s is None else [s @ hit, s.sum()])
    ...     def value(self, sums):
    ...         return float(sums[0] / sums[1])
    >>> est = daskgd.LinearRegression().fit([[0.0], [1.0], [2.0]], [0.0, 4.0, 2.0])
    >>> daskgd.metrics.evaluate(est, [[0.0], [1.0]], [1.5, 7.0], scoring={"within": make_scorer(Within())})
    {'within': 0.5}
    """
    methods = (response_method,) if isinstance(response_method, str) else tuple(response_method)
    sign = 1 if greater_is_better else -1
    if not (callable(metric) or (hasattr(metric, "of") and hasattr(metric, "value"))):
        raise TypeError(
            "make_scorer: expected a function of daskgd.metrics, or an object with `of` and `value`, got "
            f"{metric!r}"
        )
    if hasattr(metric, "of") and hasattr(metric, "value"):
        if settings:
            raise ValueError(f"make_scorer: expected no settings beside a metric of your own, got {settings}")
        return Scorer(metric, sign, methods)
    return _scorer(metric, sign, settings, methods, "make_scorer")


def _scorer(
    function: Callable[..., Any], sign: int, settings: dict[str, Any], methods: tuple[str, ...], who: str
) -> Scorer:
    """The scorer of a function of scikit-learn or of ours."""
    name = getattr(function, "__name__", repr(function))
    if name in RATIOS and function.__module__.startswith("sklearn."):
        return Scorer(LikelihoodRatio(settings=settings, which=RATIOS[name]), sign, methods)
    entry = TABLE.get(name)
    if entry is None or function not in (entry.function, getattr(functions, name)):
        raise ValueError(
            f"{who}: expected a function of daskgd.metrics, which can be summed up, got {name}; there are "
            f"{', '.join(TABLE)}; of others make an object with the methods `of` and `value`, see "
            "daskgd.metrics.make_scorer"
        )
    parameters = inspect.signature(entry.function).parameters
    unknown = [key for key in settings if key not in parameters]
    if unknown:
        raise TypeError(f"{who}: {name} has no parameter {unknown[0]!r}; it has {', '.join(parameters)}")
    if settings.get("average") == "samples":
        raise ValueError(
            f"{who}: {name} with average='samples' is of several labels a row, which are not known"
        )
    default = parameters["pos_label"].default if "pos_label" in parameters else None
    return Scorer(metric(name, settings), sign, methods, settings.get("pos_label", default))


def _known(scorer: Any) -> bool:
    try:
        _taken_apart("", scorer)
    except (ValueError, TypeError):
        return False
    return True


def _taken_apart(who: str, scorer: Any) -> Scorer:
    parts = parts_of_scorer(scorer)
    if parts is None:
        raise TypeError(
            f"{who}: expected the name of a metric, or what make_scorer of sklearn.metrics or daskgd.metrics "
            f"gives, got {scorer!r}, which would be called with all rows at once"
        )
    function, sign, settings, methods = parts
    return _scorer(function, sign, settings, methods, who)


def get_scorer_names() -> list[str]:
    """The names of scorers, as ``scoring`` takes them: those of scikit-learn for classification and
    regression.

    >>> "neg_log_loss" in get_scorer_names(), "rand_score" in get_scorer_names()
    (True, False)
    """
    return [name for name in of_sklearn.get_scorer_names() if _known(of_sklearn.get_scorer(name))]


def get_scorer(scoring: Any) -> Scorer:
    """The scorer of a name, of a scorer that scikit-learn's ``make_scorer`` has made, or one of ours.

    Raises ValueError for names and functions that are not known, with those that are.
    """
    if isinstance(scoring, Scorer):
        return scoring
    if not isinstance(scoring, str):
        return _taken_apart("scoring", scoring)
    if scoring not in of_sklearn.get_scorer_names() or not _known(of_sklearn.get_scorer(scoring)):
        raise ValueError(f"scoring: expected one of {', '.join(get_scorer_names())}, got {scoring!r}")
    return _taken_apart(f"scoring={scoring!r}", of_sklearn.get_scorer(scoring))


def default_scorer(estimator: Any) -> Scorer:
    """What an estimator's ``score`` is: the accuracy, R2, or of generalised linear models D2."""
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    if is_classifier(last):
        return Scorer(metric("accuracy_score"))
    power = getattr(last, "_power", None)
    for kind, its in ((linear_model.PoissonRegressor, 1), (linear_model.GammaRegressor, 2)):
        power = its if isinstance(last, kind) else power
    if isinstance(last, linear_model.TweedieRegressor):
        power = last.power
    if power is not None:
        return Scorer(metric("d2_tweedie_score", {"power": power}))
    return Scorer(metric("r2_score"))


def scorers_of(scoring: Any, estimator: Any) -> dict[str, Scorer]:
    """The scorers that are meant by `scoring`, by name: None (``"score"``), one or several.

    >>> list(scorers_of(["roc_auc", "accuracy"], None))
    ['roc_auc', 'accuracy']
    """
    if scoring is None:
        return {"score": default_scorer(estimator)}
    if isinstance(scoring, str):
        return {scoring: get_scorer(scoring)}
    if isinstance(scoring, Mapping):
        return {str(name): get_scorer(one) for name, one in scoring.items()}
    if isinstance(scoring, Iterable):
        names = list(scoring)
        wrong = [one for one in names if not isinstance(one, str)]
        if wrong:
            raise TypeError(
                f"scoring: expected names of metrics in a list, got {wrong[0]!r}; name it, as in "
                "{'mine': make_scorer(...)}"
            )
        if not names or len(set(names)) < len(names):
            raise ValueError(f"scoring: expected names of metrics, each once, got {names}")
        return {name: get_scorer(name) for name in names}
    return {"score": get_scorer(scoring)}
