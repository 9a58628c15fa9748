"""scikit-learn-style estimators: constructor arguments in, attributes out; no maths."""

from daskgd.estimators.base import together
from daskgd.estimators.classifiers import LinearSVC, LogisticRegression, Perceptron
from daskgd.estimators.regressors import LinearRegression, Ridge

__all__ = ["LinearRegression", "LinearSVC", "LogisticRegression", "Perceptron", "Ridge", "together"]
