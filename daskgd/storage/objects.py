"""What arrays of objects hold: numbers of any kind, decimals among them, text, or bool.

numpy makes text of mixtures, "nan" and "None" among it, where it is left to choose. Here what is missing, and
what is of another kind than the rest, is refused by its row.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np

NUMBERS = {"numbers", "bool", "missing"}
"""Kinds of objects of which numbers can be made."""

EXACT = 2**53
"""Up to here all whole numbers are numbers of float64."""


def objects_of(value: Any) -> np.ndarray | None:
    """What numpy would have to choose a dtype for: arrays and series of objects, and lists in which something
    else stands beside text or bool; None for anything else."""
    if isinstance(value, list | tuple):
        types = set(map(type, value))
        text_or_bool = any(issubclass(t, str | bool | np.bool_) for t in types)
        if len(types) < 2 or not text_or_bool:
            return _as_objects(np.asarray(value))
        found = np.empty(len(value), object)
        found[:] = value
        return found
    dtype = getattr(value, "dtype", None)
    if dtype is None or (isinstance(dtype, np.dtype) and dtype.kind not in "OT"):
        return None
    return _as_objects(np.asarray(value))


def _as_objects(array: np.ndarray) -> np.ndarray | None:
    return array.astype(object, copy=False) if array.dtype.kind in "OT" else None


def convert_objects(objects: np.ndarray, name: str, first_row: int = 0) -> np.ndarray:
    """Objects as what all of them are: text as it is, bool, integers of 64 bits, other numbers as float64.

    Raises ValueError for one that is missing, of another kind than the first, no number of 64 bits, or an
    integer that float64 rounds, by its row; `first_row` is the number of the first.

    >>> convert_objects(np.array([Decimal("0.5"), 2], object), "y")
    array([0.5, 2. ])
    """
    kinds = _kinds(objects)
    if kinds <= {"text"}:
        return objects
    if kinds == {"bool"}:
        return objects.astype(bool)
    if kinds == {"numbers"}:
        whole = all(isinstance(v, numbers.Integral) for v in objects.flat)
        found = _to_numbers(objects, np.dtype(np.int64 if whole else np.float64), name, first_row)
        if not whole and np.isnan(found).any():
            _refuse_missing(objects, name, first_row)
        return found
    _refuse_missing(objects, name, first_row)
    first = _kind_of_type(type(objects.flat[0]))
    known = first in ("text", "bool", "numbers")
    row, other = _find(objects, lambda v: not known or _kind_of_type(type(v)) != first)
    raise ValueError(
        f"{name}: expected labels that are all numbers, all bool or all str, got "
        + (f"{first} in row {first_row} and " if known else "")
        + f"{type(other).__name__} in row {first_row + row}; convert them, as in y.astype(str)"
    )


def convert_numbers(objects: np.ndarray, name: str, first_row: int = 0) -> np.ndarray:
    """Objects that are numbers as float64, NaN for those that are missing. Raises TypeError for one that is
    no number, ValueError for one beyond 64 bits and for an integer that float64 rounds, by its row."""
    if not holds_numbers(objects):
        row, value = _find(objects, lambda v: _kind_of_type(type(v)) not in NUMBERS)
        raise TypeError(
            f"{name}: expected real numbers of at most 64 bits or bool, got dtype object, and in row "
            f"{first_row + row} {value!r:.80}; convert or encode it first"
        )
    if "missing" in _kinds(objects):
        values = [np.nan if is_missing(v) else v for v in objects.flat]
        objects = np.array(values, object).reshape(objects.shape)
    return _to_numbers(objects, np.dtype(np.float64), name, first_row)


def holds_numbers(objects: np.ndarray) -> bool:
    """Whether objects are numbers, bool or missing."""
    return _kinds(objects) <= NUMBERS


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: None, NaN, pandas' NA, or NaT."""
    if isinstance(value, Decimal):
        return value.is_nan()
    return _kind_of_type(type(value)) == "missing" or (
        isinstance(value, float | np.floating | np.datetime64 | np.timedelta64) and bool(value != value)
    )


def _kinds(objects: np.ndarray) -> set[str]:
    return set(map(_kind_of_type, set(map(type, objects.ravel().tolist()))))


def _kind_of_type(kind: type) -> str:
    if issubclass(kind, str):
        return "text"
    if issubclass(kind, bool | np.bool_):
        return "bool"
    if issubclass(kind, numbers.Real | Decimal):
        return "numbers"
    return "missing" if kind.__name__ in ("NoneType", "NAType", "NaTType") else kind.__name__


def _to_numbers(objects: np.ndarray, dtype: np.dtype[Any], name: str, first_row: int) -> np.ndarray:
    try:
        found = objects.astype(dtype)
    except OverflowError:
        row, value = _find(objects, lambda v: _overflows(v, dtype))
        raise ValueError(
            f"{name}: expected numbers of at most 64 bits, got {value!r:.40} in row {first_row + row}; "
            "rescale or convert them"
        ) from None
    if dtype.kind == "f":
        for at in np.argwhere((np.abs(found) >= EXACT) & np.isfinite(found)).tolist():
            value = objects[tuple(at)]
            if _is_whole(value) and int(value) != int(found[tuple(at)]):
                raise _rounded(value, name, first_row + at[0])
    return found


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) or (isinstance(value, Decimal) and value % 1 == 0)


def refuse_rounded(values: np.ndarray, name: str, first_row: int = 0, column: str = "") -> None:
    """Raise ValueError for the first of some integers of 64 bits that is no number of float64.

    >>> refuse_rounded(np.array([1, 2**53]), "X")
    """
    floats = values.astype(np.float64)
    inside = floats < float(np.iinfo(values.dtype).max) + 1
    changed = ~inside | (np.where(inside, floats, 0).astype(values.dtype) != values)
    if changed.any():
        at = tuple(np.argwhere(changed)[0].tolist())
        raise _rounded(values[at], name, first_row + at[0], column)


def _rounded(value: Any, name: str, row: int, column: str = "") -> ValueError:
    """An error about an integer that float64 would make another."""
    return ValueError(
        f"{name}: expected numbers that float64 holds, of integers all to {EXACT}, got {value} in row {row}"
        f"{column}; leave the column out, or make it text or a category"
    )


def _overflows(value: Any, dtype: np.dtype[Any]) -> bool:
    try:
        np.array([value], object).astype(dtype)
    except OverflowError:
        return True
    return False


def _refuse_missing(objects: np.ndarray, name: str, first_row: int) -> None:
    row, value = _find(objects, is_missing)
    if row >= 0:
        raise ValueError(
            f"{name}: expected labels of one type, or numbers, got none ({value!r}) in row "
            f"{first_row + row}; drop rows without one, or give them a label of their own"
        )


def _find(objects: np.ndarray, wrong: Callable[[Any], bool]) -> tuple[int, Any]:
    """The row and the value of the first of some objects; -1 and None if there is none."""
    return next(((at[0], value) for at, value in np.ndenumerate(objects) if wrong(value)), (-1, None))
