"""What constructor parameters may be: a test of each, and what it expects in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any, TypeVar

import numpy as np

from daskgd.engines.cache_manager import is_memory
from daskgd.solvers.base import is_count, is_positive

Rule = tuple[Callable[[Any], bool], str]
"""A test of a parameter, and what it expects in words."""


def is_one_of(*values: Any) -> Rule:
    """One of some plain values."""
    return (
        lambda value: any(value is v or (type(value) is type(v) and value == v) for v in values),
        " or ".join(map(repr, values)),
    )


def is_flag(value: Any) -> bool:
    """True or False, numpy's included."""
    return isinstance(value, bool | np.bool_)


def is_whole(value: Any) -> bool:
    """A whole number >= 0, and no bool."""
    return is_count(value) or (
        isinstance(value, int | np.integer) and not is_flag(value) and bool(value == 0)
    )


def is_nonnegative(value: Any) -> bool:
    """A finite real number >= 0."""
    return is_positive(value) or (not isinstance(value, bool) and np.isscalar(value) and value == 0)


def is_finite(value: Any) -> bool:
    """A finite real number."""
    return is_nonnegative(value) or is_positive(-value)


FLAG: Rule = (is_flag, "True or False")
NONNEGATIVE: Rule = (is_nonnegative, "a number >= 0")
POSITIVE: Rule = (is_positive, "a number > 0")
POSITIVE_C: Rule = (
    lambda value: is_positive(value) or value == np.inf,
    "a number > 0 (inf for no penalty)",
)
UNIT: Rule = (
    lambda value: is_nonnegative(value) and value <= 1,
    "a number from 0 to 1",
)
CLASS_WEIGHT: Rule = (
    lambda value: (
        value is None or isinstance(value, Mapping) or (isinstance(value, str) and value == "balanced")
    ),
    'None, "balanced" or a mapping of labels to weights',
)
N_JOBS: Rule = (lambda value: value is None or isinstance(value, int), "None or a whole number")

SCALE: Rule = (
    lambda value: (isinstance(value, str) and value == "auto") or is_flag(value),
    '"auto", True or False',
)

MAX_ITER: Rule = (is_whole, "a whole number >= 0")

DEFAULT_MAX_ITER = 1000
"""Iterations of ``max_iter=None``."""

COMMON: dict[str, Rule] = {
    "regime": is_one_of("auto", "parallel", "distributed"),
    "max_iter": MAX_ITER,
    "tol": (is_nonnegative, "a number >= 0 (0 runs exactly max_iter iterations)"),
    "memory": (
        is_memory,
        '"auto", 0, a share of memory such as 0.3, or bytes such as 2_000_000_000 or "2 GB"',
    ),
    "random_state": (
        lambda value: value is None or isinstance(value, np.random.RandomState) or is_whole(value),
        "None, a whole number >= 0, or a numpy.random.RandomState, from which fit draws one",
    ),
    "verbose": (
        lambda value: is_flag(value) or is_whole(value),
        "a whole number: 0 is silent, 1 shows a bar, 2 and more print a line for every iteration and sweep",
    ),
    "warm_start": FLAG,
}
"""Of the parameters that every estimator has."""


Init = TypeVar("Init", bound=Callable[..., None])


def with_parameters_of(base: Callable[..., None]) -> Callable[[Init], Init]:
    """Show the parameters of the `base` constructor, after its own, as those of one that passes them on; of
    two of one name its own.

    scikit-learn reads the parameters of an estimator from the signature of its constructor.

    >>> def base(self, alpha=1.0): ...
    >>> @with_parameters_of(base)
    ... def init(self, loss="squared", **settings): ...
    >>> str(signature(init))
    "(self, loss='squared', alpha=1.0)"
    """

    def extend(init: Init) -> Init:
        shown, passed_on = signature(init), (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        own = [p for p in shown.parameters.values() if p.kind not in passed_on]
        names = {p.name for p in own}
        others = [p for p in list(signature(base).parameters.values())[1:] if p.name not in names]
        parameters = sorted([*own, *others], key=lambda p: p.kind)
        init.__signature__ = shown.replace(parameters=parameters)  # type: ignore[attr-defined]
        return init

    return extend


def draw_seed(random_state: np.random.RandomState) -> int:
    """Draw the one number that all random choices of a fit follow from.

    >>> draw_seed(np.random.RandomState(0)) == draw_seed(np.random.RandomState(0))
    True
    """
    return int(random_state.randint(np.iinfo(np.int32).max))


def check_parameters(estimator: Any, rules: Mapping[str, Rule]) -> None:
    """Raise ValueError for the first parameter that breaks its rule."""
    for parameter, (ok, expected) in rules.items():
        value = getattr(estimator, parameter)
        try:
            good = bool(ok(value))
        except (TypeError, ValueError):
            good = False
        if not good:
            raise ValueError(
                f"{type(estimator).__name__}: expected {parameter} to be {expected}, got {value!r}"
            )
