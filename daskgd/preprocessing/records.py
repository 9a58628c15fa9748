"""Fitted encoders as trees of plain values, for model files: no pickle, so that loading one runs no code.

An object of scikit-learn is its class, one of those known here, and its attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import sklearn
from sklearn import compose, frozen, pipeline

from daskgd._compat.caller import warn
from daskgd.preprocessing import dates
from daskgd.preprocessing.kinds.table import KINDS

CLASSES = {
    kind.__name__: kind
    for kind in (
        *KINDS,
        compose.ColumnTransformer,
        compose.make_column_selector,
        pipeline.Pipeline,
        pipeline.FeatureUnion,
        frozen.FrozenEstimator,
    )
}
"""Classes of objects that are stored, by name."""

FUNCTIONS = {f"dates.{name}": getattr(dates, name) for name in dates.__all__}
"""Functions that are stored, by name, besides those of numpy."""

NUMBERS = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool_")
"""Types of numpy that are stored by name."""


def to_record(value: Any) -> Any:
    """The value as a tree.

    Raises TypeError for what is none of scikit-learn's known objects, nor made of plain values.
    """
    kind = type(value)
    if CLASSES.get(kind.__name__) is kind:
        state = {k: v for k, v in vars(value).items() if not k.startswith(("_skl_", "_parent_"))}
        return {"class": kind.__name__, "state": _pairs(state)}
    if isinstance(value, np.ndarray) and value.dtype == object:
        return {"objects": [to_record(one) for one in value.ravel().tolist()], "shape": list(value.shape)}
    if isinstance(value, np.ndarray | np.generic | np.dtype | str | bool | int | float | None.__class__):
        return {"value": value}
    if isinstance(value, list | tuple | set | frozenset):
        return {"sequence": [to_record(one) for one in value], "of": kind.__name__}
    if isinstance(value, slice):
        return {"slice": [to_record(one) for one in (value.start, value.stop, value.step)]}
    if isinstance(value, Mapping):
        return {"mapping": _pairs(value)}
    if isinstance(value, type) and value.__name__ in (*NUMBERS, "float", "int", "bool", "object"):
        return {"type": value.__name__}
    if isinstance(value, np.random.RandomState):
        return {"value": None}  # was used in the fit
    name = _function_name(value)
    if name is not None:
        return {"function": name}
    if kind.__name__ == "BSpline":
        return {"spline": [to_record(value.t), to_record(value.c), value.k, value.extrapolate]}
    raise TypeError(
        f"expected encoders of scikit-learn and plain values, got {value!r:.60} of type {kind.__qualname__}"
    )


def _pairs(values: Mapping[Any, Any]) -> list[Any]:
    return [[to_record(key), to_record(one)] for key, one in values.items()]


def _function_name(value: Any) -> str | None:
    for name, function in FUNCTIONS.items():
        if value is function:
            return name
    name = getattr(value, "__name__", "")
    return f"numpy.{name}" if isinstance(value, np.ufunc) and getattr(np, name, None) is value else None


def from_record(tree: Any) -> Any:
    """The value of a tree. Raises ValueError for one that :func:`to_record` did not make."""
    if not isinstance(tree, dict):
        raise ValueError(f"expected a record of an encoder, got {tree!r:.60}")
    match tree:
        case {"class": name, "state": state}:
            if name not in CLASSES:
                raise ValueError(f"it names an encoder {name!r:.60}, which is not known")
            out = object.__new__(CLASSES[name])
            out.__dict__.update(_mapping(state))
            return out
        case {"objects": values, "shape": shape}:
            found = np.empty(len(values), dtype=object)
            found[:] = [from_record(one) for one in values]
            return found.reshape([int(n) for n in shape])
        case {"value": value}:
            return value
        case {"sequence": values, "of": kind}:
            made = [from_record(one) for one in values]
            kinds: dict[str, Any] = {"tuple": tuple, "set": set, "frozenset": frozenset}
            return kinds.get(kind, list)(made)
        case {"slice": ends}:
            return slice(*map(from_record, ends))
        case {"mapping": pairs}:
            return _mapping(pairs)
        case {"type": name} if name in NUMBERS:
            return getattr(np, name)
        case {"type": name} if name in ("float", "int", "bool", "object"):
            return {"float": float, "int": int, "bool": bool, "object": object}[name]
        case {"function": name}:
            return _function(str(name))
        case {"spline": [t, c, k, extrapolate]}:
            import scipy

            return scipy.interpolate.BSpline(from_record(t), from_record(c), int(k), extrapolate)
    raise ValueError(f"expected a record of an encoder, got {', '.join(map(str, tree))[:60]}")


def _mapping(pairs: Any) -> dict[Any, Any]:
    return {from_record(key): from_record(one) for key, one in pairs}


def _function(name: str) -> Any:
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    module, _, own = name.partition(".")
    found = getattr(np, own, None) if module == "numpy" and own.isidentifier() else None
    if not isinstance(found, np.ufunc):
        raise ValueError(f"it names a function {name!r:.60}, which is not known")
    return found


def check_version(stored: str) -> None:
    """Warn where encoders were fitted with another release of scikit-learn: attributes may be others."""
    here = sklearn.__version__
    if stored.split(".")[:2] != here.split(".")[:2]:
        warn(
            f"the encoders of this model were fitted with scikit-learn {stored}, here is {here}: they may "
            "give other numbers, or none; fit again, or use that release"
        )
