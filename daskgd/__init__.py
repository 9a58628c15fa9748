"""daskgd: train on data that does not fit, in Python.

Public names are imported when they are first used: a worker that computes a gradient needs numpy and the
maths, no estimators.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from daskgd._compat.renamed import alias_module

if (
    TYPE_CHECKING
):  # for editors and type checkers: the same names as in the table below, which a test compares
    from daskgd.data.convert import as_dataset
    from daskgd.data.dataset import Dataset, open_dataset
    from daskgd.data.ingest import ingest
    from daskgd.data.one_hot import OneHot
    from daskgd.data.surveying import survey_dataset
    from daskgd.data.writing import write_dataset
    from daskgd.engines.cluster import ClusterLost
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
        SGDClassifier,
        SGDRegressor,
        TweedieRegressor,
        together,
    )
    from daskgd.estimators.adapters import from_jax, from_torch
    from daskgd.estimators.custom import CustomClassifier, CustomRegressor
    from daskgd.estimators.files import ModelError, load_model
    from daskgd.estimators.pipeline import Pipeline, make_pipeline
    from daskgd.models import MLP, Model
    from daskgd.monitoring.watchers import CSVLog, EarlyStopping, JSONLines, Lines, Plateau, ProgressBar
    from daskgd.preprocessing.default import default_encoder
    from daskgd.solvers import (
        ADMM,
        FISTA,
        GIANT,
        LBFGS,
        SGD,
        Adam,
        AveragedSGD,
        GradientDescent,
        Gram,
        LocalGD,
        LocalSGD,
        Newton,
        NewtonCG,
        NewtonSchur,
        PreconditionedLBFGS,
        ProximalNewton,
        SubsampledNewton,
    )
    from daskgd.storage.checksums import StoreError
    from daskgd.storage.reading import ChunkError
    from daskgd.training.checkpoint import Checkpoint, CheckpointError
    from daskgd.training.loop import PartitionsDiffer

__version__ = "0.1.0"

_NAMES = {
    "daskgd.data.convert": "as_dataset",
    "daskgd.data.dataset": "Dataset open_dataset",
    "daskgd.data.ingest": "ingest",
    "daskgd.data.one_hot": "OneHot",
    "daskgd.data.surveying": "survey_dataset",
    "daskgd.preprocessing.default": "default_encoder",
    "daskgd.engines.cluster": "ClusterLost",
    "daskgd.estimators": "ElasticNet GammaRegressor HuberRegressor Lasso LinearRegression LinearSVC "
    "LinearSVR LogisticRegression MLPClassifier MLPRegressor Perceptron "
    "PoissonRegressor QuantileRegressor Ridge SGDClassifier SGDRegressor TweedieRegressor together",
    "daskgd.estimators.adapters": "from_jax from_torch",
    "daskgd.estimators.custom": "CustomClassifier CustomRegressor",
    "daskgd.estimators.files": "ModelError load_model",
    "daskgd.estimators.pipeline": "Pipeline make_pipeline",
    "daskgd.models": "MLP Model",
    "daskgd.monitoring.watchers": "CSVLog EarlyStopping JSONLines Lines Plateau ProgressBar",
    "daskgd.solvers": "ADMM Adam AveragedSGD FISTA GIANT GradientDescent Gram LBFGS "
    "LocalGD LocalSGD Newton NewtonCG NewtonSchur PreconditionedLBFGS ProximalNewton SGD SubsampledNewton",
    "daskgd.storage.checksums": "StoreError",
    "daskgd.storage.reading": "ChunkError",
    "daskgd.data.writing": "write_dataset",
    "daskgd.training.checkpoint": "Checkpoint CheckpointError",
    "daskgd.training.loop": "PartitionsDiffer",
}
"""Public names by the module that defines them."""

_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = sorted(_MODULE_OF)

watch = alias_module("daskgd.watch", "daskgd.monitoring.events", "daskgd.monitoring.history")


if not TYPE_CHECKING:  # for which it would make any name one of ours

    def __getattr__(name: str) -> Any:
        if name not in _MODULE_OF:
            raise AttributeError(f"module 'daskgd' has no attribute {name!r}")
        module = _MODULE_OF[name]
        if module.startswith("daskgd.estimators") and "distributed" in sys.modules:
            # Workers that are there by now import meanwhile: estimators take this process longer.
            import_module("daskgd.engines.preflight").start_imports()
        value = getattr(import_module(module), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
