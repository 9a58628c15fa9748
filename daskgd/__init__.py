"""daskgd: train on data that does not fit, in Python.

Public names, loaded when first used: a worker that runs a gradient needs numpy and the maths, no estimators.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daskgd.checkpoint import Checkpoint, CheckpointError
    from daskgd.datasets import Dataset, open_dataset
    from daskgd.estimators import (
        ElasticNet,
        GammaRegressor,
        HuberRegressor,
        Lasso,
        LinearRegression,
        LinearSVC,
        LinearSVR,
        LogisticRegression,
        MLPClassifier,
        MLPRegressor,
        Perceptron,
        PoissonRegressor,
        QuantileRegressor,
        Ridge,
        TweedieRegressor,
        together,
    )
    from daskgd.estimators.adapters import from_jax, from_torch
    from daskgd.estimators.custom import CustomClassifier, CustomRegressor
    from daskgd.estimators.files import ModelError, load_model
    from daskgd.intake import as_dataset
    from daskgd.models import MLP, Model
    from daskgd.readers import ingest
    from daskgd.solvers import (
        ADMM,
        FISTA,
        GIANT,
        LBFGS,
        SGD,
        Adam,
        GradientDescent,
        Gram,
        LocalGD,
        LocalSGD,
        Newton,
        NewtonCG,
        ProximalNewton,
        SubsampledNewton,
    )
    from daskgd.store import ChunkError, StoreError
    from daskgd.training import PartitionsDiffer
    from daskgd.watchers import CSVLog, EarlyStopping, JSONLines, Lines, Plateau, ProgressBar
    from daskgd.writing import write_dataset

__version__ = "0.1.0"

_HOMES = {
    "daskgd.checkpoint": ("Checkpoint", "CheckpointError"),
    "daskgd.datasets": ("Dataset", "open_dataset"),
    "daskgd.engines.cluster": ("ClusterLost",),
    "daskgd.intake": ("as_dataset",),
    "daskgd.estimators": (
        "ElasticNet",
        "GammaRegressor",
        "HuberRegressor",
        "Lasso",
        "LinearRegression",
        "LinearSVC",
        "LinearSVR",
        "LogisticRegression",
        "MLPClassifier",
        "MLPRegressor",
        "Perceptron",
        "PoissonRegressor",
        "QuantileRegressor",
        "Ridge",
        "TweedieRegressor",
        "together",
    ),
    "daskgd.estimators.adapters": ("from_jax", "from_torch"),
    "daskgd.estimators.custom": ("CustomClassifier", "CustomRegressor"),
    "daskgd.estimators.files": ("ModelError", "load_model"),
    "daskgd.models": ("MLP", "Model"),
    "daskgd.readers": ("ingest",),
    "daskgd.solvers": (
        "ADMM",
        "Adam",
        "FISTA",
        "GIANT",
        "Gram",
        "LBFGS",
        "GradientDescent",
        "LocalGD",
        "LocalSGD",
        "Newton",
        "NewtonCG",
        "ProximalNewton",
        "SGD",
        "SubsampledNewton",
    ),
    "daskgd.store": ("ChunkError", "StoreError"),
    "daskgd.training": ("PartitionsDiffer",),
    "daskgd.watchers": ("CSVLog", "EarlyStopping", "JSONLines", "Lines", "Plateau", "ProgressBar"),
    "daskgd.writing": ("write_dataset",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ADMM",
    "FISTA",
    "GIANT",
    "LBFGS",
    "MLP",
    "SGD",
    "Adam",
    "CSVLog",
    "Checkpoint",
    "CheckpointError",
    "ChunkError",
    "ClusterLost",
    "CustomClassifier",
    "CustomRegressor",
    "Dataset",
    "EarlyStopping",
    "ElasticNet",
    "GammaRegressor",
    "GradientDescent",
    "Gram",
    "HuberRegressor",
    "JSONLines",
    "Lasso",
    "LinearRegression",
    "LinearSVC",
    "LinearSVR",
    "Lines",
    "LocalGD",
    "LocalSGD",
    "LogisticRegression",
    "MLPClassifier",
    "MLPRegressor",
    "Model",
    "ModelError",
    "Newton",
    "NewtonCG",
    "PartitionsDiffer",
    "Perceptron",
    "Plateau",
    "PoissonRegressor",
    "ProgressBar",
    "ProximalNewton",
    "QuantileRegressor",
    "Ridge",
    "StoreError",
    "SubsampledNewton",
    "TweedieRegressor",
    "as_dataset",
    "from_jax",
    "from_torch",
    "ingest",
    "load_model",
    "open_dataset",
    "together",
    "write_dataset",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'daskgd' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
