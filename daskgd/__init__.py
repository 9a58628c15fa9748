"""daskgd: train on data that does not fit, in Python.

Public names, loaded when first used: a worker that runs a gradient needs numpy and the maths, no estimators.
"""

from importlib import import_module
from sys import modules
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daskgd.data.convert import as_dataset
    from daskgd.data.dataset import Dataset, open_dataset
    from daskgd.data.ingest import ingest
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
    from daskgd.models import MLP, Model
    from daskgd.monitoring.watchers import CSVLog, EarlyStopping, JSONLines, Lines, Plateau, ProgressBar
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
    from daskgd.storage.checksums import StoreError
    from daskgd.storage.reading import ChunkError
    from daskgd.storage.writing import write_dataset
    from daskgd.training.checkpoint import Checkpoint, CheckpointError
    from daskgd.training.loop import PartitionsDiffer

__version__ = "0.1.0"

_HOMES = {
    "daskgd.training.checkpoint": ("Checkpoint", "CheckpointError"),
    "daskgd.data.dataset": ("Dataset", "open_dataset"),
    "daskgd.engines.cluster": ("ClusterLost",),
    "daskgd.data.convert": ("as_dataset",),
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
    "daskgd.data.ingest": ("ingest",),
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
    "daskgd.storage.checksums": ("StoreError",),
    "daskgd.storage.reading": ("ChunkError",),
    "daskgd.training.loop": ("PartitionsDiffer",),
    "daskgd.monitoring.watchers": ("CSVLog", "EarlyStopping", "JSONLines", "Lines", "Plateau", "ProgressBar"),
    "daskgd.storage.writing": ("write_dataset",),
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


def _watch() -> ModuleType:
    """``daskgd.watch``: the events and the history of a fit, by the name under which users import them."""

    def find(name: str) -> Any:
        for place in ("daskgd.monitoring.events", "daskgd.monitoring.history"):
            if hasattr(import_module(place), name):
                return getattr(import_module(place), name)
        raise AttributeError(f"module 'daskgd.watch' has no attribute {name!r}")

    module = ModuleType("daskgd.watch", "Events and history of a fit: see daskgd.monitoring.")
    module.__getattr__ = find  # type: ignore[method-assign]
    return module


watch = modules["daskgd.watch"] = _watch()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'daskgd' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
