"""The choice of a solver, the reason for it, and the sweeps to expect, all before a row is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from daskgd.losses import Loss, Squared
from daskgd.penalties import Penalty
from daskgd.queries.sample import Sample
from daskgd.rows.layout import Shape
from daskgd.solvers import (
    ADMM,
    FISTA,
    GIANT,
    LBFGS,
    NAMES,
    Gram,
    LocalSGD,
    ProximalNewton,
    Solver,
    SubsampledNewton,
)
from daskgd.solvers.subsampled_newton import DENSE

GRAM_FEATURES = 2000
"""Most features for which second moments are collected: 32 MB of sums at each level of the merge tree."""

WIDE = 1000
"""Parameters beyond which sub-sampled Newton needs more sweeps: a sample says less of each direction."""

THIN = 100
"""Rows of the sample per parameter below which the same is so."""

GIVEN = "as given"
"""The reason for a solver that the user chose."""


@dataclass(frozen=True, slots=True)
class SolverChoice:
    """A solver, and the reason for it in words."""

    solver: Solver
    reason: str


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
    kind = "convex" if loss.convex else "smooth"
    return SolverChoice(
        SubsampledNewton(), f"{kind} loss, smooth penalty: Newton steps from a sample, checked on all rows"
    )


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


def sweeps_of(
    solver: Solver, shape: Shape, *, loss: Loss | None = None, parameters: int | None = None
) -> str:
    """Reads of the data to expect; of a wide or nonsmooth problem more, where these are given."""
    if isinstance(solver, Gram):
        return "1"
    if isinstance(solver, SubsampledNewton) and sample_share(solver, shape) >= 1:
        return "1"
    if isinstance(solver, GIANT | ADMM):
        return "3 to 12" if solver.sample_bytes else "6 to 30"
    if isinstance(solver, SubsampledNewton):
        if loss is not None and loss.nonsmooth:
            return "3 to 10"
        d = parameters or 0
        return "4 to 8" if d > WIDE or sample_share(solver, shape) * shape.n_rows < THIN * d else "2 to 5"
    if isinstance(solver, FISTA | LBFGS):
        return "tens to hundreds"
    return "up to max_iter" if solver.approximate else "depends on the data"


def sample_share(solver: Solver, shape: Shape) -> float:
    """The share of the rows in the sample that the solver draws in the first sweep."""
    return max([q.share for q in solver.first_sweep_queries(shape) if isinstance(q, Sample)], default=0.0)


def revise_choice(choice: SolverChoice, shape: Shape, parameters: int) -> SolverChoice:
    """Revise a choice once the number of parameters is known."""
    wide = isinstance(choice.solver, ProximalNewton) and parameters > DENSE
    if wide and choice.reason != GIVEN and sample_share(choice.solver, shape) < 1:
        return SolverChoice(
            FISTA(), f"a penalty with L1, and {parameters} parameters: too many for quadratic models"
        )
    return choice
