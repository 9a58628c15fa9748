"""What a metric is: which statistic it needs of some rows, and its value by that of all. Means over rows are
weighted sums of scikit-learn's values by block.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from daskgd.metrics.statistics import Predicted, Targets, WeightedSum

Array = NDArray[Any]
Settings = Mapping[str, Any]


@runtime_checkable
class Metric(Protocol):
    """A metric: which statistic it needs of some rows, and what it is by that of all.

    Statistics have a ``+``, and can be pickled. A metric of your own is an object with these two methods; see
    :func:`daskgd.metrics.make_scorer`.
    """

    def of(self, y: Array, p: Array, s: Array | None) -> Any:
        """The statistic of rows with targets y, predictions p and positive weights s, or None."""
        ...

    def value(self, statistic: Any) -> Any:
        """The metric."""
        ...


class Kind:
    """The base of the metrics of scikit-learn."""

    @property
    def key(self) -> Hashable:
        """What metrics with the same statistic of the same rows have in common."""
        return id(self)

    def of(self, y: Array, p: Array, s: Array | None) -> Any:
        return self.of_rows(Predicted(Targets(y, s), p))

    def of_rows(self, rows: Predicted) -> Any:
        """The statistic of some rows."""
        raise NotImplementedError

    def value(self, statistic: Any) -> Any:
        raise NotImplementedError


def statistic_of(metric: Metric, rows: Predicted) -> Any:
    """The statistic that a metric needs of some rows."""
    if isinstance(metric, Kind):
        return metric.of_rows(rows)
    return metric.of(rows.targets.y, rows.values, rows.targets.s)


def key_of(metric: Metric) -> Hashable:
    """What metrics with the same statistic of the same rows have in common."""
    return metric.key if isinstance(metric, Kind) else id(metric)


def averaged(found: Any, multioutput: Any) -> Any:
    """Values of outputs ``(q,)`` as `multioutput` says."""
    if isinstance(multioutput, str):
        if multioutput == "raw_values":
            return found
        if multioutput == "uniform_average":
            return float(np.mean(found))
        raise ValueError(
            f"multioutput: expected 'raw_values', 'uniform_average' or weights, got {multioutput!r}"
        )
    return float(np.average(found, weights=multioutput))


@dataclass(frozen=True)
class MeanOf(Kind):
    """A metric that is a weighted mean over rows, and what is made of the mean at the end.

    `by_output`: whether there is one for each output, which `multioutput` averages.
    """

    function: Callable[..., Any]
    settings: Settings = field(default_factory=dict)
    finish: Callable[[Any], Any] | None = None
    by_output: bool = False

    @property
    def key(self) -> Hashable:
        settings = {name: value for name, value in self.settings.items() if name != "multioutput"}
        return "mean", self.function, repr(settings)

    def of_rows(self, rows: Predicted) -> WeightedSum:
        weight = rows.targets.weight
        if not weight > 0:
            return WeightedSum(0.0, 0.0)
        settings = {**self.settings, **({"multioutput": "raw_values"} if self.by_output else {})}
        y = rows.targets.numbers if self.by_output or rows.targets.y.dtype.kind == "f" else rows.targets.y
        p = rows.values.astype(np.float64) if rows.values.dtype == np.float32 else rows.values
        found = self.function(y, p, sample_weight=rows.targets.s, **settings)
        return WeightedSum(weight * found, weight)

    def value(self, statistic: WeightedSum) -> Any:
        mean = statistic.mean if self.finish is None else self.finish(statistic.mean)
        if not self.by_output:
            return float(mean)
        return averaged(mean, self.settings.get("multioutput", "uniform_average"))
