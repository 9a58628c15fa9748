"""Warnings name the line of the user's code, however deep in daskgd they arise."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import daskgd
from daskgd.losses import Squared
from daskgd.solvers import GradientDescent

X, Y = np.arange(8.0).reshape(4, 2) ** 2, np.array([0.0, 1.0, 0.0, 2.0])


@pytest.mark.parametrize(
    ("category", "fit"),
    [
        (ConvergenceWarning, lambda: daskgd.Ridge(solver=GradientDescent(step=1e-6), max_iter=1).fit(X, Y)),
        (ConvergenceWarning, lambda: daskgd.MLPRegressor(solver="adam", max_iter=1).fit(X, Y)),
        (ConvergenceWarning, lambda: daskgd.together([daskgd.Ridge(solver="fista", max_iter=1)], X, Y)),
        (FutureWarning, lambda: daskgd.LogisticRegression(penalty="l2").fit(X, Y > 0)),
    ],
)
def test_warnings_of_a_fit_are_at_its_call(category: type[Warning], fit: Callable[[], object]) -> None:
    with pytest.warns(category) as seen:
        fit()
    assert [one.filename for one in seen if one.category is category] == [__file__]


def test_the_old_name_of_a_method_is_warned_of_at_its_class() -> None:
    with pytest.warns(DeprecationWarning, match="'slope' is now called 'gradient'") as seen:

        class Old(Squared):
            def slope(self, z, y):
                return z - y

    line = inspect.currentframe().f_lineno
    assert seen[0].filename == __file__
    assert 0 < line - seen[0].lineno < 8
