"""Names of version 0.1.0 that users may still use: of methods and attributes of their classes, of modules."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from daskgd._compat.caller import warn


def accept_old_names(cls: type[Any], renamed: Mapping[str, str]) -> None:
    """Give what a class defines by an old name its new one, with a DeprecationWarning that says so.

    >>> import warnings
    >>> class Squared:
    ...     def slope(self, z, y):
    ...         return z - y
    >>> with warnings.catch_warnings(action="ignore"):
    ...     accept_old_names(Squared, {"slope": "gradient"})
    >>> Squared().gradient(3, 1)
    2
    """
    for old, new in renamed.items():
        if old in vars(cls) and new not in vars(cls):
            setattr(cls, new, vars(cls)[old])
            warn(f"{cls.__name__}: {old!r} is now called {new!r}; please rename it", DeprecationWarning)


def alias_module(old: str, *new: str) -> ModuleType:
    """Make `old` the name of a module, with whatever is in the modules `new`, which are imported when used.

    >>> import daskgd
    >>> from daskgd.watch import History
    >>> History
    <class 'daskgd.monitoring.history.History'>
    """

    def find(name: str) -> Any:
        for module in map(import_module, new):
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"module {old!r} has no attribute {name!r}; it is now {' and '.join(new)}")

    alias = ModuleType(old, f"The old name of {' and '.join(new)}.")
    alias.__getattr__ = find  # type: ignore[method-assign]
    sys.modules[old] = alias
    return alias
