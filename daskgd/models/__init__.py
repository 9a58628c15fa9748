"""Models: margins as a function of parameters and rows, and its vector-Jacobian product for gradients.

A model knows the shape of its parameters and the products with X. It knows no loss, no weights and
no data. Parameters are one flat float64 vector ``w (d,)``, whatever their shape inside, so that
solvers need not know it.
"""

from daskgd.models.base import VJP, Model
from daskgd.models.linear import FLOAT64_RATIO, Linear, LinearWithScale
from daskgd.models.mlp import ACTIVATIONS, MLP

__all__ = ["ACTIVATIONS", "FLOAT64_RATIO", "MLP", "VJP", "Linear", "LinearWithScale", "Model"]
