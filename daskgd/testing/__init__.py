"""Public conformance suites: what a new loss, penalty, model, solver, query, engine or kind of features must
obey to be one.

Each ``check_*`` raises AssertionError with a sentence; each table lists what daskgd itself ships, and is what
its own tests run through. Authors of other packages call the same checks::

    from daskgd.testing import check_loss
    check_loss(MyLoss())

Needs numpy and scipy; dask is imported only where an engine is checked.
"""

from daskgd.testing.engines import ENGINES, Calls, Fails, check_engine
from daskgd.testing.estimators import EXPECTED_FAILURES
from daskgd.testing.features import FEATURES, check_features
from daskgd.testing.laws import ArraySource, Example, examples, toy_rows
from daskgd.testing.models import MODELS, check_model
from daskgd.testing.pointwise import LOSSES, PENALTIES, check_loss, check_penalty
from daskgd.testing.queries import QUERIES, check_query
from daskgd.testing.solvers import SOLVERS, check_solver, reference, run

__all__ = [
    "ENGINES",
    "EXPECTED_FAILURES",
    "FEATURES",
    "LOSSES",
    "MODELS",
    "PENALTIES",
    "QUERIES",
    "SOLVERS",
    "ArraySource",
    "Calls",
    "Example",
    "Fails",
    "check_engine",
    "check_features",
    "check_loss",
    "check_model",
    "check_penalty",
    "check_query",
    "check_solver",
    "examples",
    "reference",
    "run",
    "toy_rows",
]
