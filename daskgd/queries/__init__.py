"""Queries: what one sweep over the data may answer.

A query has two halves. One runs on a worker, is pure numpy, and returns :class:`Sums`, which add; the
other, ``answer``, runs on the driver and turns the grand total into what the solver asked for, dividing
by the total weight and adding the penalty there, once. Queries know no engine, no dask and no storage.

A query's scope says which of three worker halves it has. ``"tile"``: ``tile(problem, tile)`` sees cache-sized
tiles one after the other while they are hot. ``"block"``: ``block(problem, rows)`` sees each block once, as
stored.
``"partition"``: ``partition(problem, rows, memory)`` needs a whole partition in memory for a while, and
may keep something about it from one sweep to the next: it *returns* that memory, and never mutates it.

To add a query: write both halves, in the file of its kind, and list it in ``daskgd.testing.QUERIES``.
"""

from daskgd.queries.base import Ask, Query, on, total
from daskgd.queries.local import BLOCKS, UNLIKE, Dispersion, Local, Part, Share, Spread, Work
from daskgd.queries.moments import Residuals, SecondMoments, SecondMomentsAnswer
from daskgd.queries.objective import (
    BASIS_ROWS,
    LANES,
    Curvature,
    CurvatureArrowhead,
    Gradient,
    GradientOnly,
    Gradients,
    Hessian,
    HessianDiagonal,
    Hessians,
    Line,
    Product,
)
from daskgd.queries.score import Score
from daskgd.queries.survey import WEIGHT_RANGE, Survey, SurveyAnswer

__all__ = [
    "BASIS_ROWS",
    "BLOCKS",
    "LANES",
    "UNLIKE",
    "WEIGHT_RANGE",
    "Ask",
    "Curvature",
    "CurvatureArrowhead",
    "Dispersion",
    "Gradient",
    "GradientOnly",
    "Gradients",
    "Hessian",
    "HessianDiagonal",
    "Hessians",
    "Line",
    "Local",
    "Part",
    "Product",
    "Query",
    "Residuals",
    "Score",
    "SecondMoments",
    "SecondMomentsAnswer",
    "Share",
    "Spread",
    "Survey",
    "SurveyAnswer",
    "Work",
    "on",
    "total",
]
