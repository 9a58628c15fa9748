"""Choosing a model: search and cross-validation in shared reads, by scikit-learn's names."""

from daskgd.model_selection.halving import HalvingGridSearchCV, HalvingRandomSearchCV
from daskgd.model_selection.logistic_cv import LogisticRegressionCV
from daskgd.model_selection.path_cv import ElasticNetCV, LassoCV
from daskgd.model_selection.paths import enet_path, lasso_path
from daskgd.model_selection.ridge_cv import RidgeCV
from daskgd.model_selection.search import GridSearchCV, RandomizedSearchCV
from daskgd.model_selection.splitters import GroupKFold, KFold, StratifiedKFold, TimeSeriesSplit
from daskgd.model_selection.validation import (
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    validation_curve,
)

__all__ = [
    "ElasticNetCV",
    "GridSearchCV",
    "GroupKFold",
    "HalvingGridSearchCV",
    "HalvingRandomSearchCV",
    "KFold",
    "LassoCV",
    "LogisticRegressionCV",
    "RandomizedSearchCV",
    "RidgeCV",
    "StratifiedKFold",
    "TimeSeriesSplit",
    "cross_val_predict",
    "cross_val_score",
    "cross_validate",
    "enet_path",
    "lasso_path",
    "learning_curve",
    "validation_curve",
]
