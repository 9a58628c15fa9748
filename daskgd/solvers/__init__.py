"""Solvers: one algorithm a file, each a generator of queries; and their names for ``solver="..."``."""

from daskgd.solvers.adam import Adam
from daskgd.solvers.admm import ADMM
from daskgd.solvers.averaged_sgd import AveragedSGD
from daskgd.solvers.base import Solver, State
from daskgd.solvers.fista import FISTA
from daskgd.solvers.giant import GIANT
from daskgd.solvers.gradient_descent import GradientDescent
from daskgd.solvers.gram import Gram
from daskgd.solvers.lbfgs import LBFGS
from daskgd.solvers.local_gd import LocalGD
from daskgd.solvers.local_sgd import LocalSGD
from daskgd.solvers.newton import Newton
from daskgd.solvers.newton_cg import NewtonCG
from daskgd.solvers.newton_schur import NewtonSchur
from daskgd.solvers.preconditioned_lbfgs import PreconditionedLBFGS
from daskgd.solvers.proximal_newton import ProximalNewton
from daskgd.solvers.sgd import SGD
from daskgd.solvers.subsampled_newton import SubsampledNewton

NAMES: dict[str, type[Solver]] = {
    "adam": Adam,
    "admm": ADMM,
    "averaged_sgd": AveragedSGD,
    "fista": FISTA,
    "giant": GIANT,
    "gradient_descent": GradientDescent,
    "gram": Gram,
    "lbfgs": LBFGS,
    "local_gd": LocalGD,
    "local_sgd": LocalSGD,
    "newton": Newton,
    "newton_cg": NewtonCG,
    "newton_schur": NewtonSchur,
    "preconditioned_lbfgs": PreconditionedLBFGS,
    "proximal_newton": ProximalNewton,
    "sgd": SGD,
    "subsampled_newton": SubsampledNewton,
}

__all__ = [
    "ADMM",
    "FISTA",
    "GIANT",
    "LBFGS",
    "NAMES",
    "SGD",
    "Adam",
    "AveragedSGD",
    "GradientDescent",
    "Gram",
    "LocalGD",
    "LocalSGD",
    "Newton",
    "NewtonCG",
    "NewtonSchur",
    "PreconditionedLBFGS",
    "ProximalNewton",
    "Solver",
    "State",
    "SubsampledNewton",
]
