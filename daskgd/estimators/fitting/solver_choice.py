"""Which solver a fit takes, and why: decided before it reads a row.

A function of loss, penalty and shape of the data. The file knows all solvers; it must not know data sets,
engines or estimators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from daskgd.losses import Loss, Squared
from daskgd.penalties import Penalty
from daskgd.rows.layout import Shape
from daskgd.solvers import (
    ADMM,
    GIANT,
    NAMES,
    Gram,
    LocalSGD,
    NewtonSchur,
    PreconditionedLBFGS,
    ProximalNewton,
    Solver,
    SubsampledNewton,
)
from daskgd.solvers.newton_schur import suits
from daskgd.solvers.subsampled_newton import FEW

GRAM_FEATURES = 2000
"""Most features for which second moments are collected: 32 MB of sums at each level of the merge tree."""

SCHUR_FEATURES, SCHUR_NUMBERS = 100, 64
"""Features from which on the Hessian of categories is formed in every sweep, and numbers of a row, as it is
stored, up to which that is cheap beside the gradient."""

GIVEN = "as given"
"""The reason for a solver that the user chose."""


@dataclass(frozen=True, slots=True)
class SolverChoice:
    """A solver, and in words why a fit takes it."""

    solver: Solver
    reason: str


def name_of(solver: str) -> str:
    """The name by which a solver is chosen, from its repr; that of its class where it has none.

    >>> name_of("SubsampledNewton(seed=0)")
    'subsampled_newton'
    """
    kind = solver.split("(")[0]
    return next((name for name, known in NAMES.items() if known.__name__ == kind), kind)


def choose(loss: Loss, penalty: Penalty, shape: Shape | None) -> SolverChoice:
    """Choose the solver for a loss, a penalty of any strength, and data of a shape: ``solver="auto"``.

    Gram is for squared loss alone, as second moments determine no other.
    """
    p = 0 if shape is None else shape.n_features
    if isinstance(loss, Squared) and p <= GRAM_FEATURES:
        return SolverChoice(Gram(), f"squared loss, {p} features: second moments from one sweep are exact")
    if not penalty.smooth:
        return SolverChoice(
            ProximalNewton(), "a penalty with L1: quadratic models from a sample, checked on all rows"
        )
    if shape is not None and loss.smooth and loss.convex and has_many_categories(shape):
        return SolverChoice(
            NewtonSchur(),
            f"{p:,} features, {shape.exclusive:,} of them the categories of one column: exact Newton steps "
            "for one output",
        )
    if shape is not None and loss.smooth and loss.convex and too_many_for_sample(shape):
        return SolverChoice(
            PreconditionedLBFGS(),
            f"{p:,} sparse features, of which a sample tells too little: L-BFGS from its solution, "
            "preconditioned by the most frequent ones",
        )
    kind = "convex" if loss.convex else "smooth"
    return SolverChoice(
        SubsampledNewton(), f"{kind} loss, smooth penalty: Newton steps from a sample, checked on all rows"
    )


def has_many_categories(shape: Shape) -> bool:
    """Whether features are so many that a Hessian with the structure of categories is worth its while, and
    can be formed."""
    light = shape.row_bytes <= SCHUR_NUMBERS * shape.itemsize
    many = shape.n_features > SCHUR_FEATURES and shape.exclusive > 0
    return many and light and not shape.nonsmooth and suits(shape.n_features, shape.exclusive)


def too_many_for_sample(shape: Shape) -> bool:
    """Whether features are sparse, and so many that a sample that is not all rows has few rows for each."""
    share = SubsampledNewton().sample_share(shape)
    sparse = shape.sparse_row_bytes is not None
    return sparse and share < 1 and share * shape.n_rows < FEW * shape.n_features


def choose_local(loss: Loss, penalty: Penalty) -> SolverChoice:
    """Choose the solver for a linear model with ``regime="distributed"``."""
    if not penalty.smooth:
        return SolverChoice(ADMM(), "asked to train apart, a penalty with L1: copies that come to agree")
    if loss.smooth:
        return SolverChoice(GIANT(), "asked to train apart, a smooth loss: averages of local Newton steps")
    return SolverChoice(LocalSGD(), "asked to train apart, a loss with kinks: averages of local steps")


def find_solver(estimator: str, solver: Any) -> SolverChoice:
    """Find the solver that a user gave by name or as an object; ValueError for anything else."""
    if isinstance(solver, str) and solver in NAMES:
        return SolverChoice(NAMES[solver](), GIVEN)
    if not isinstance(solver, Solver):
        raise ValueError(
            f"{estimator}: expected solver to be 'auto', {', '.join(map(repr, NAMES))} or a solver object "
            f"such as daskgd.GradientDescent(step=0.1), got {solver!r}"
        )
    return SolverChoice(type(solver)(**solver.get_params()), GIVEN)
