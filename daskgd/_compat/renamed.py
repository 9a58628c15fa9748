"""Methods and attributes that classes of users define by the names of version 0.1.0."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any


def accept_old_names(cls: type[Any], renamed: Mapping[str, str]) -> None:
    """Give what a class defines by an old name its new one, with a DeprecationWarning that says so.

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
            warnings.warn(
                f"{cls.__name__}: {old!r} is now called {new!r}; please rename it",
                DeprecationWarning,
                stacklevel=3,
            )
