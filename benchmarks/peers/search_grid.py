"""What all searches of ``benchmarks.selection`` try, so that they try the same. Needs numpy only."""

import numpy as np

FOLDS, STRENGTHS, ALPHAS = 5, 16, 100
WEAKEST, STRONGEST = 1e-6, 1e-1


def penalties(number):
    """Strengths in the mean objective, the weakest first."""
    return np.geomspace(WEAKEST, STRONGEST, number)


def inverse_penalties(n):
    """The C of logistic regressions of n rows, whose penalty is ``1 / (n C)`` in the mean objective."""
    return 1 / (n * penalties(STRENGTHS))


def ridge_penalties(n):
    """The alpha of ridge regressions of n rows, a penalty of ``alpha / n`` in the mean objective."""
    return n * penalties(ALPHAS)


def lasso_penalties():
    """The alpha of lasso and elastic net, whose objective is a mean."""
    return penalties(ALPHAS)
