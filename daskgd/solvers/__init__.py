"""Solvers, one algorithm a file, and their names for ``solver="..."``."""

from daskgd.solvers.base import Solver, State
from daskgd.solvers.fista import FISTA
from daskgd.solvers.gradient_descent import GradientDescent
from daskgd.solvers.gram import Gram
from daskgd.solvers.lbfgs import LBFGS
from daskgd.solvers.local_gd import LocalGD
from daskgd.solvers.newton import Newton
from daskgd.solvers.newton_cg import NewtonCG
from daskgd.solvers.proximal_newton import ProximalNewton
from daskgd.solvers.subsampled_newton import SubsampledNewton

NAMES: dict[str, type[Solver]] = {
    "fista": FISTA,
    "gradient_descent": GradientDescent,
    "gram": Gram,
    "lbfgs": LBFGS,
    "local_gd": LocalGD,
    "newton": Newton,
    "newton_cg": NewtonCG,
    "proximal_newton": ProximalNewton,
    "subsampled_newton": SubsampledNewton,
}

__all__ = [
    "FISTA",
    "LBFGS",
    "NAMES",
    "GradientDescent",
    "Gram",
    "LocalGD",
    "Newton",
    "NewtonCG",
    "ProximalNewton",
    "Solver",
    "State",
    "SubsampledNewton",
]
