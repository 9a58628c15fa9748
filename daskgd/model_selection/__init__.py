"""Choosing a model: search and cross-validation in shared reads, by scikit-learn's names."""

from daskgd.model_selection.search import GridSearchCV, RandomizedSearchCV
from daskgd.model_selection.splitters import GroupKFold, KFold, StratifiedKFold, TimeSeriesSplit

__all__ = [
    "GridSearchCV",
    "GroupKFold",
    "KFold",
    "RandomizedSearchCV",
    "StratifiedKFold",
    "TimeSeriesSplit",
]
