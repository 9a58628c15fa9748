"""The functions of ``sklearn.metrics``, each imported when it is called.

A metric travels to workers with the function whose value it is in the end; those that only sum up for it do
without scikit-learn, which takes a process some seconds to import.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class SklearnMetric:
    """A function of ``sklearn.metrics``, known by its name.

    >>> SklearnMetric("accuracy_score")([1, 2], [1, 3])
    0.5
    """

    name: str

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        return getattr(import_module("sklearn.metrics"), self.name)(*arguments, **settings)


class SklearnMetrics:
    """A stand-in for the module ``sklearn.metrics``: its functions are its attributes."""

    def __getattr__(self, name: str) -> SklearnMetric:
        if name.startswith("_"):
            raise AttributeError(name)
        return SklearnMetric(name)


metrics = SklearnMetrics()


def named(function: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for a function: of one of ``sklearn.metrics`` its name, else the function itself.

    >>> from sklearn import metrics
    >>> named(metrics.log_loss), named(len)
    (SklearnMetric(name='log_loss'), <built-in function len>)
    """
    name = getattr(function, "__name__", "")
    there = getattr(import_module("sklearn.metrics"), name, None)
    return SklearnMetric(name) if there is function else function


def undefined_metric_warning() -> type[Warning]:
    """The class of scikit-learn's warnings of metrics that are not defined."""
    found: type[Warning] = import_module("sklearn.exceptions").UndefinedMetricWarning
    return found
