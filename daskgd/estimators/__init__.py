"""scikit-learn-style estimators: constructor arguments in, attributes out; no maths."""

from daskgd.estimators.classifiers import LinearSVC, LogisticRegression, Perceptron
from daskgd.estimators.fitting.together import together
from daskgd.estimators.glm import GammaRegressor, PoissonRegressor, TweedieRegressor
from daskgd.estimators.neural import MLPClassifier, MLPRegressor
from daskgd.estimators.regressors import ElasticNet, Lasso, LinearRegression, Ridge
from daskgd.estimators.robust import HuberRegressor, LinearSVR, QuantileRegressor
from daskgd.estimators.sgd import SGDClassifier, SGDRegressor

__all__ = [
    "ElasticNet",
    "GammaRegressor",
    "HuberRegressor",
    "Lasso",
    "LinearRegression",
    "LinearSVC",
    "LinearSVR",
    "LogisticRegression",
    "MLPClassifier",
    "MLPRegressor",
    "Perceptron",
    "PoissonRegressor",
    "QuantileRegressor",
    "Ridge",
    "SGDClassifier",
    "SGDRegressor",
    "TweedieRegressor",
    "together",
]
