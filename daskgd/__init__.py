"""daskgd: train on data that does not fit, in Python.

Public names are imported when they are first used: a worker that computes a gradient needs numpy and the
maths, no estimators. They stand in one list, the imports of ``__init__.pyi``, which type checkers read too.
"""

import ast
from importlib import import_module
from pkgutil import get_data
from typing import Any

from daskgd._compat.renamed import alias_module

__version__ = "0.1.0"

_MODULE_OF = {
    alias.name: line.module
    for line in ast.parse(get_data("daskgd", "__init__.pyi")).body
    if isinstance(line, ast.ImportFrom) and line.module and line.module.startswith("daskgd.")
    for alias in line.names
}

__all__ = sorted(_MODULE_OF)

watch = alias_module("daskgd.watch", "daskgd.monitoring.events", "daskgd.monitoring.history")


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'daskgd' has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
