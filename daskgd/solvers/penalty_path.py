"""Losses that are flat where rows are right, solved in memory from a strong penalty to the one asked for.

The curvature of the squared hinge is that of the rows on the wrong side of their margin. Where classes can be
separated hardly any are left at the minimum: a Newton step knows nothing of all others, and steps find them
one by one. Under a strong penalty all rows count, and the solution for each penalty is near that for the next
weaker one: few rows change sides on the way (the path of Hastie, Rosset, Tibshirani & Zhu 2004, in a handful
of steps). The file knows problems and local queries; no data sets.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.penalties import L2, ElasticNet
from daskgd.problems import Problem
from daskgd.queries import Gradient, Query
from daskgd.rows.tiles import Rows
from daskgd.solvers.base import EvaluateInMemory, Solution, SolveInMemory
from daskgd.solvers.newton import DENSE, Newton

Array = NDArray[Any]

STRONGEST, WEAKER, WEAKEST = 1 / 30, 1 / 8, 1e-9
"""The first penalty, relative to the spread of the features; the factor from one to the next; and the last
one of a path without a penalty at its end."""

CLOSE = 1e-2
"""Relative gap of the solutions on the way."""

DIRECT, FOUND = 12, 1e-9
"""Steps straight to the minimum, after which the path is taken, and the relative gap at which it is not."""

PATH_WORK = 2e12
"""Multiplications for all Hessians of a path up to which it is taken: some ten seconds on one core."""

STEPS = 20
"""Steps of a path, about."""


def has_path(problem: Problem, n_rows: int) -> bool:
    """Whether a problem over so many rows in memory may be solved along a path of penalties."""
    width = problem.model.size // problem.model.outputs
    work = STEPS * problem.model.outputs * width**2 * (n_rows / 2 + width / 3)
    flat = problem.loss.flat and problem.loss.smooth and problem.loss.separate
    scales = problem.penalty.smooth or _strength(problem) > 0  # a penalty of signs alone does not
    return bool(flat and scales and width <= DENSE and work <= PATH_WORK)


def solve_along_path(
    parts: Sequence[tuple[Problem, Rows]], starts: Sequence[Array], tol: float
) -> Generator[tuple[Query, ...], Sequence[Any], list[Solution]]:
    """The solutions of problems of one output, each over its rows, to a relative gap of `tol`."""
    paths = [_strengths(problem, rows) for problem, rows in parts]
    at = list(starts)
    for stage in range(max(map(len, paths))):
        asked = [i for i, path in enumerate(paths) if stage < len(path)]
        answers = yield tuple(
            SolveInMemory(_under(parts[i][0], paths[i][stage]), parts[i][1], Newton(), at[i], CLOSE)
            for i in asked
        )
        for i, answer in zip(asked, answers, strict=True):
            at[i] = answer.w
    found = yield tuple(
        SolveInMemory(problem, rows, Newton(), w, tol) for (problem, rows), w in zip(parts, at, strict=True)
    )
    firsts = yield tuple(
        EvaluateInMemory(problem, rows, Gradient(w)) for (problem, rows), w in zip(parts, starts, strict=True)
    )
    return [replace(one, first=first) for one, (first, _) in zip(found, firsts, strict=True)]


def joined(solutions: Sequence[Solution]) -> Solution:
    """The solution of the problem whose outputs have these."""
    f, gap, first = (sum(getattr(a, name) for a in solutions) for name in ("f", "gap", "first"))
    w, g = (np.stack([getattr(a, name) for a in solutions], axis=1).ravel() for name in ("w", "g"))
    return Solution(w, f, g, gap, first)


def _strengths(problem: Problem, rows: Rows) -> list[float]:
    """The penalties on the way, the strongest first: relative to those of the problem where it has any."""
    model, size = problem.linear, 1.0
    if model.scale is None:
        size = float(rows.slice(0, 1000).X.moments(None).variance.mean()) or 1.0
    last = _strength(problem)
    strength, out = STRONGEST * (size if problem.penalty.smooth else np.sqrt(size)), []
    last = max(last, WEAKEST * size)
    while strength > last:
        out.append(strength)
        strength *= WEAKER
    return out


def _strength(problem: Problem) -> float:
    """The largest strength of the penalty on a coefficient: of L1 where there is one, otherwise of L2."""
    zero = np.zeros(problem.model.size)
    given = problem.penalty_hessian(zero) if problem.penalty.smooth else problem.penalty_l1(zero)
    return float(given.max(initial=0.0))


def _under(problem: Problem, strength: float) -> Problem:
    """The problem with a penalty as strong as this on every coefficient, or with L1 on one of them."""
    zero, positive = np.zeros(problem.model.size), bool(problem.positive.any())
    l2 = problem.penalty_hessian(zero)
    if problem.penalty.smooth:
        return replace(problem, penalty=L2(np.where(problem.model.penalised, np.maximum(l2, strength), l2)))
    factor = strength / _strength(problem)
    penalty = ElasticNet(factor * problem.penalty_l1(zero), factor * l2, positive)
    return replace(problem, penalty=penalty)
