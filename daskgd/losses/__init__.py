"""Losses, pointwise in margin space, by the kind of target. See :mod:`daskgd.losses.base` for conventions."""

from daskgd.losses.base import Loss, TargetSummary
from daskgd.losses.classification import (
    Hinge,
    Logistic,
    LogisticOneVsRest,
    ModifiedHuber,
    MultilabelLogistic,
    Perceptron,
    Softmax,
)
from daskgd.losses.glm import Gamma, IdentityLink, Poisson, Shifted, Tweedie, tweedie
from daskgd.losses.regression import EpsilonInsensitive, Huber, HuberAt, HuberResidual, Quantile, Squared

__all__ = [
    "EpsilonInsensitive",
    "Gamma",
    "Hinge",
    "Huber",
    "HuberAt",
    "HuberResidual",
    "IdentityLink",
    "Logistic",
    "LogisticOneVsRest",
    "Loss",
    "ModifiedHuber",
    "MultilabelLogistic",
    "Perceptron",
    "Poisson",
    "Quantile",
    "Shifted",
    "Softmax",
    "Squared",
    "TargetSummary",
    "Tweedie",
    "tweedie",
]
