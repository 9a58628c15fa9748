"""Which solver a fit takes, and why: decided before any row is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dask.utils import format_bytes

from daskgd.losses import Loss, Squared
from daskgd.penalties import Penalty
from daskgd.problems import Shape
from daskgd.sampling import Sample
from daskgd.solvers import FISTA, LBFGS, NAMES, Gram, LocalGD, ProximalNewton, Solver, SubsampledNewton

GRAM_FEATURES = 2000
"""Most features for which second moments are collected: 32 MB of sums at each level of the merge tree."""


@dataclass(frozen=True, slots=True)
class SolverChoice:
    """A solver, and why it."""

    solver: Solver
    reason: str


def choose(loss: Loss, penalty: Penalty, shape: Shape | None) -> SolverChoice:
    """What ``solver="auto"`` means for a loss, a penalty (of any strength) and data of a shape."""
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


def solver_named(estimator: str, solver: Any) -> SolverChoice:
    """The solver that a user gave, by name or as an object; ValueError for anything else."""
    if isinstance(solver, str) and solver in NAMES:
        return SolverChoice(NAMES[solver](), "as given")
    if not isinstance(solver, Solver):
        raise ValueError(
            f"{estimator}: expected solver to be 'auto', {', '.join(map(repr, NAMES))} or a solver object "
            f"such as daskgd.GradientDescent(step=0.1), got {solver!r}"
        )
    return SolverChoice(type(solver)(**solver.get_params()), "as given")


def sweeps_of(solver: Solver, shape: Shape) -> str:
    """Reads of the data to expect."""
    if isinstance(solver, Gram) or _share(solver, shape) >= 1:
        return "1"
    if isinstance(solver, SubsampledNewton):
        return "3 to 5"
    if isinstance(solver, FISTA | LBFGS):
        return "tens to hundreds"
    return "up to max_iter" if isinstance(solver, LocalGD) else "depends on the data"


def _share(solver: Solver, shape: Shape) -> float:
    """The share of the rows in the sample that rides on the survey."""
    return max([q.share for q in solver.rides(shape) if isinstance(q, Sample)], default=0.0)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a fit is going to do.

    Attributes
    ----------
    estimator : str
    solver : Solver
    reason : str
        Why this solver.
    n_rows, n_features : int
    sweep_bytes : int
        Decoded bytes of one read of the data.
    sample_rows : int
        Rows of the sample that the solver wants, about; all of them where it is as many as `n_rows`, 0 if
        none.
    sweeps : str
        Reads of the data to expect at the default tolerance.
    """

    estimator: str
    solver: Solver
    reason: str
    n_rows: int
    n_features: int
    sweep_bytes: int
    sample_rows: int
    sweeps: str

    @classmethod
    def of(cls, estimator: str, choice: SolverChoice, shape: Shape, sweep_bytes: int) -> Plan:
        """The plan for a choice and data of a shape."""
        solver = choice.solver
        share = _share(solver, shape)
        sweeps = sweeps_of(solver, shape)
        rows = round(share * shape.n_rows)
        return cls(
            estimator, solver, choice.reason, shape.n_rows, shape.n_features, sweep_bytes, rows, sweeps
        )

    def __str__(self) -> str:
        sample = "no sample"
        if self.sample_rows:
            whole = self.sample_rows >= self.n_rows
            sample = "all rows at once in memory" if whole else f"a sample of {self.sample_rows:,} rows"
        return "\n".join(
            [
                f"{self.estimator}: {self.n_rows:,} rows x {self.n_features} features, "
                f"{format_bytes(self.sweep_bytes)} a sweep",
                f"solver {self.solver!r}, {sample}",
                f"because: {self.reason}",
                f"sweeps to expect: {self.sweeps}",
            ]
        )
