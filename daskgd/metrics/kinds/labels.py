"""Metrics of labels and predicted labels: scikit-learn's own function is called with few weighted rows that
stand for all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from daskgd.metrics.kinds.base import Kind, MeanOf
from daskgd.metrics.of_sklearn import metrics
from daskgd.metrics.statistics import LabelPairs, Predicted, WeightedSum

Array = NDArray[Any]
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class OfLabels(Kind):
    """A metric of true and predicted labels."""

    function: Callable[..., Any]
    settings: Settings = field(default_factory=dict)

    @property
    def key(self) -> Hashable:
        return "pairs"

    def of_rows(self, rows: Predicted) -> LabelPairs:
        return rows.pairs

    def value(self, statistic: LabelPairs) -> Any:
        y, p, s = statistic.rows()
        return self.function(y, p, sample_weight=s, **self.settings)


@dataclass(frozen=True)
class WithSupport(OfLabels):
    """A metric that also tells how many rows have each label: a whole number where there are no weights."""

    def value(self, statistic: LabelPairs) -> Any:
        found = super().value(statistic)
        if not statistic.counts or isinstance(found, dict):
            return found
        if isinstance(found, str):
            return re.sub(r"(\d+)\.0$", r"  \1", found, flags=re.MULTILINE)
        *others, support = found
        return *others, None if support is None else support.astype(int)


@dataclass(frozen=True)
class OfLabelRows(OfLabels):
    """A metric of labels that is a mean over rows, also of several labels a row."""

    @property
    def key(self) -> Hashable:
        return "pairs", self.function, repr(self.settings)

    def of_rows(self, rows: Predicted) -> Any:
        y = rows.targets.y
        if y.ndim == 2 and y.shape[1] > 1:
            normalized = {**self.settings, "normalize": True}
            if self.function == metrics.hamming_loss:
                normalized.pop("normalize")
            return MeanOf(self.function, normalized).of_rows(rows)
        return super().of_rows(rows)

    def value(self, statistic: Any) -> Any:
        if isinstance(statistic, WeightedSum):
            normalize = self.settings.get("normalize", True)
            return float(statistic.mean if normalize else statistic.total)
        return super().value(statistic)


@dataclass(frozen=True)
class LikelihoodRatio(OfLabels):
    """The positive (0) or the negative (1) likelihood ratio."""

    function: Callable[..., Any] = metrics.class_likelihood_ratios
    which: int = 0

    def value(self, statistic: LabelPairs) -> Any:
        return super().value(statistic)[self.which]
