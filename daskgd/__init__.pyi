"""The public names of daskgd: to add one, import it here. ``__init__.py`` reads these imports."""

# ruff: noqa: I001 (one import a module, not one a name)

from types import ModuleType

from daskgd.data.convert import (
    as_dataset as as_dataset,
)
from daskgd.data.dataset import (
    Dataset as Dataset,
    open_dataset as open_dataset,
)
from daskgd.data.ingest import (
    ingest as ingest,
)
from daskgd.engines.cluster import (
    ClusterLost as ClusterLost,
)
from daskgd.estimators import (
    ElasticNet as ElasticNet,
    GammaRegressor as GammaRegressor,
    HuberRegressor as HuberRegressor,
    Lasso as Lasso,
    LinearRegression as LinearRegression,
    LinearSVC as LinearSVC,
    LinearSVR as LinearSVR,
    LogisticRegression as LogisticRegression,
    MLPClassifier as MLPClassifier,
    MLPRegressor as MLPRegressor,
    Perceptron as Perceptron,
    PoissonRegressor as PoissonRegressor,
    QuantileRegressor as QuantileRegressor,
    Ridge as Ridge,
    TweedieRegressor as TweedieRegressor,
    together as together,
)
from daskgd.estimators.adapters import (
    from_jax as from_jax,
    from_torch as from_torch,
)
from daskgd.estimators.custom import (
    CustomClassifier as CustomClassifier,
    CustomRegressor as CustomRegressor,
)
from daskgd.estimators.files import (
    ModelError as ModelError,
    load_model as load_model,
)
from daskgd.models import (
    MLP as MLP,
    Model as Model,
)
from daskgd.monitoring.watchers import (
    CSVLog as CSVLog,
    EarlyStopping as EarlyStopping,
    JSONLines as JSONLines,
    Lines as Lines,
    Plateau as Plateau,
    ProgressBar as ProgressBar,
)
from daskgd.solvers import (
    ADMM as ADMM,
    FISTA as FISTA,
    GIANT as GIANT,
    LBFGS as LBFGS,
    SGD as SGD,
    Adam as Adam,
    GradientDescent as GradientDescent,
    Gram as Gram,
    LocalGD as LocalGD,
    LocalSGD as LocalSGD,
    Newton as Newton,
    NewtonCG as NewtonCG,
    ProximalNewton as ProximalNewton,
    SubsampledNewton as SubsampledNewton,
)
from daskgd.storage.checksums import (
    StoreError as StoreError,
)
from daskgd.storage.reading import (
    ChunkError as ChunkError,
)
from daskgd.storage.writing import (
    write_dataset as write_dataset,
)
from daskgd.training.checkpoint import (
    Checkpoint as Checkpoint,
    CheckpointError as CheckpointError,
)
from daskgd.training.loop import (
    PartitionsDiffer as PartitionsDiffer,
)

__version__: str
watch: ModuleType
