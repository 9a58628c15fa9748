"""The kind of each of scikit-learn's transformers."""

from __future__ import annotations

from typing import Any

from sklearn import impute, kernel_approximation, preprocessing
from sklearn.feature_extraction import text

from daskgd.preprocessing.kinds.base import BySample, ByShape, Kind
from daskgd.preprocessing.kinds.categories import OneHot, Ordinal
from daskgd.preprocessing.kinds.numbers import Ends, Gaps, Impute, MaxAbs, MinMax, Robust, Standard
from daskgd.preprocessing.kinds.targets import Target
from daskgd.preprocessing.kinds.text import Hashing

KINDS: dict[type, Kind] = {
    preprocessing.StandardScaler: Standard(),
    preprocessing.MinMaxScaler: MinMax(),
    preprocessing.MaxAbsScaler: MaxAbs(),
    preprocessing.RobustScaler: Robust(),
    impute.SimpleImputer: Impute(),
    impute.MissingIndicator: Gaps(),
    preprocessing.OneHotEncoder: OneHot(),
    preprocessing.OrdinalEncoder: Ordinal(),
    preprocessing.TargetEncoder: Target(),
    text.HashingVectorizer: Hashing(),
    preprocessing.KBinsDiscretizer: Ends("strategy"),
    preprocessing.SplineTransformer: Ends("knots"),
    preprocessing.QuantileTransformer: BySample(),
    preprocessing.PowerTransformer: BySample(),
    preprocessing.PolynomialFeatures: ByShape(),
    preprocessing.FunctionTransformer: ByShape(),
    preprocessing.Normalizer: ByShape(),
    preprocessing.Binarizer: ByShape(),
    kernel_approximation.RBFSampler: ByShape(),
    kernel_approximation.PolynomialCountSketch: ByShape(),
}
"""Transformers that are fitted here, by their classes; subclasses are others."""


def kind_of(transformer: Any) -> Kind:
    """The kind of a transformer.

    Raises TypeError for one that sums cannot fit.
    """
    kind = KINDS.get(type(transformer))
    if kind is None:
        name, known = type(transformer).__name__, ", ".join(sorted(k.__name__ for k in KINDS))
        raise TypeError(
            f"encoder: expected transformers that sums can fit, {known}, in ColumnTransformer, Pipeline and "
            f"FeatureUnion, got {name}; fit it on a sample in memory, and pass "
            f"sklearn.frozen.FrozenEstimator({name}(...).fit(sample))"
        )
    return kind
