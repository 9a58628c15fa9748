"""Solvers, one algorithm a file, and their names for ``solver="..."``."""

from daskgd.solvers.base import Solver, State
from daskgd.solvers.gradient_descent import GradientDescent
from daskgd.solvers.lbfgs import LBFGS
from daskgd.solvers.local_gd import LocalGD
from daskgd.solvers.newton import Newton

NAMES: dict[str, type[Solver]] = {
    "gradient_descent": GradientDescent,
    "lbfgs": LBFGS,
    "local_gd": LocalGD,
    "newton": Newton,
}

__all__ = ["LBFGS", "NAMES", "GradientDescent", "LocalGD", "Newton", "Solver", "State"]
