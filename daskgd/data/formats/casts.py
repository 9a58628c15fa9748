"""Numbers of one dtype as those of another, refused where one of them would become another number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from daskgd.data.formats.base import Array
from daskgd.data.schema import EXACT


def cast_exactly(
    values: Array,
    dtype: np.dtype[Any] | None,
    where: object,
    first_row: int | Array = 0,
    names: Sequence[str | int] | None = None,
) -> Array:
    """Numbers in a dtype, C-contiguous; the same array where it is so already.

    Allowed is what rounds to the precision of a float: float64 to float32, where what is too small becomes 0.
    Refused are numbers out of range, fractions and missing values in integers, and integers that floats would
    merge with others, as float64 does beyond 2**53.

    Parameters
    ----------
    values : array ``(n,)`` or ``(n, p)``
    dtype : numpy dtype or None
        None keeps that of the values.
    where : object
        What the rows are read from, for errors: the file, or the file and what in it.
    first_row : int, or array (n,)
        The number of the first row there, or those of all.
    names : sequence of str or int, optional
        What the columns are called; else their numbers are said. Of ``(n,)`` the name of the only one.

    Raises
    ------
    ValueError
        The first value that would change, by its row and column; or a dtype that holds no numbers.

    Examples
    --------
    >>> cast_exactly(np.array([[1.0], [2.0]]), np.dtype("uint8"), "a.npy")
    array([[1],
           [2]], dtype=uint8)
    >>> cast_exactly(np.array([[1], [300]]), np.dtype("uint8"), "a.npy", names=["age"])
    Traceback (most recent call last):
        ...
    ValueError: a.npy: expected numbers that uint8 holds, 0 to 255, got 300 in row 1, column 'age'; ...
    """
    if values.dtype.kind not in "fiub":
        raise ValueError(f"{where}: expected numbers, got dtype {values.dtype}; convert or encode them first")
    if dtype is None:
        return np.ascontiguousarray(values)
    changed = changed_by_cast(values, dtype)
    if changed is not None:
        row, *column = np.argwhere(changed)[0].tolist()
        at: int | str | None = column[0] if column else None
        if names is not None:
            at = names[column[0] if column else 0]
        raise cast_refusal(where, row_number(first_row, row), at, values[(row, *column)], dtype)
    with np.errstate(over="ignore", under="ignore"):  # infinities stay; what is small becomes 0
        return np.ascontiguousarray(values, dtype=dtype)


def row_number(first_row: int | Array, row: int) -> int:
    """The number of a row, by that of the first, or by those of all."""
    return first_row + row if isinstance(first_row, int) else int(first_row[row])


def changed_by_cast(values: Array, dtype: np.dtype[Any]) -> Array | None:
    """Which of the numbers a cast would make others, of the same shape; None where it is none of them."""
    if not values.size or _holds_all(dtype, values.dtype):
        return None
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if dtype.kind == "b":
            changed = (values != 0) & (values != 1)
        elif values.dtype.kind == "f" and dtype.kind == "f":
            changed = np.isinf(values.astype(dtype)) & np.isfinite(values)
        elif values.dtype.kind == "f":
            extremes = np.array([values.min(), values.max()])  # NaN if there is one
            inside = True if _in_range(extremes, dtype).all() else _in_range(values, dtype)
            changed = ~(inside & (values.astype(dtype) == values))
        elif dtype.kind == "f":
            if _within(values, 2 ** (np.finfo(dtype).nmant + 1)):
                return None
            rounded = values.astype(dtype)
            changed = ~_in_range(rounded, values.dtype) | (rounded.astype(values.dtype) != values)
        else:
            bounds = np.iinfo(dtype)
            if bounds.min <= int(values.min()) and int(values.max()) <= bounds.max:
                return None
            changed = values.astype(dtype) != values
            changed |= (values < 0) != (values.astype(dtype) < 0)
    return changed if changed.any() else None


def _holds_all(dtype: np.dtype[Any], other: np.dtype[Any]) -> bool:
    """Whether a dtype holds all numbers of another; numpy says so of float64 and integers of 64 bits, too."""
    is_long = other.kind in "iu" and other.itemsize == 8
    return np.can_cast(other, dtype, "safe") and not (is_long and dtype.kind == "f")


def _in_range(values: Array, dtype: np.dtype[Any]) -> Array:
    """Which of some floats are in the range of an integer dtype, whose bounds are powers of two; no NaN."""
    bounds = np.iinfo(dtype)
    wide = values.astype(np.float64, copy=False)
    inside: Array = (wide >= float(bounds.min)) & (wide < float(bounds.max) + 1)
    return inside


def _within(values: Array, bound: int) -> bool:
    return -bound <= int(values.min()) and int(values.max()) <= bound


def cast_refusal(
    where: object, row: int, column: int | str | None, value: Any, dtype: np.dtype[Any]
) -> ValueError:
    """An error about a value that a dtype does not hold: what it holds, what was found where, and what holds
    it."""
    is_stored = isinstance(value, np.generic)  # in 64 bits, not in text
    value = value.item() if is_stored else value
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        holds = f"{dtype} holds, {bounds.min} to {bounds.max}"
    elif dtype.kind == "b":
        holds = "bool holds, 0 and 1"
    elif isinstance(value, int):
        holds = f"{dtype} holds, of integers all to {2 ** (np.finfo(dtype).nmant + 1)}"
    else:
        holds = f"{dtype} holds, to {float(np.finfo(dtype).max):.3g}"
    at = f"row {row}" if column is None else f"row {row}, column {column!r}"
    if value != value:
        mend = "take dtype='float64', or fill or drop what is missing"
    elif dtype.kind == "f" and isinstance(value, int):
        wide = "int64" if value < 2**63 else "uint64"
        is_held = is_stored or -(2**63) <= value < 2**63
        mend = f"take dtype='{wide}' if all columns are integers, " * is_held
        mend += "leave the column out (drop), or make it text"
    elif isinstance(value, int):
        mend = f"take dtype='{'int64' if value < 2**63 else 'uint64'}', or leave the column out"
    else:
        mend = "take dtype='float64', or leave the column out"
    return ValueError(f"{where}: expected numbers that {holds}, got {value!r} in {at}; {mend}")


def refuse_rounded_text(
    values: Array, integers: Callable[[Array], Sequence[int | None]], where: object, first_row: int, name: str
) -> None:
    """Raise ValueError for the first integer of text that became another number among floats.

    An integer is the same if it has the shortest digits of its float, and zeros for others, as some programs
    write floats.

    Parameters
    ----------
    values : array (n,)
        Floats, as they were read.
    integers : callable
        Given row numbers, those that are large, tells which integers the text has there, None for fractions.
    where, first_row, name :
        As of :func:`cast_exactly`.
    """
    rows = np.flatnonzero((np.abs(values) >= EXACT) & np.isfinite(values))
    if not len(rows):
        return
    for row, whole in zip(rows.tolist(), integers(rows), strict=True):
        value = values[row].item()
        if whole is not None and whole not in (int(value), int(Decimal(repr(value)))):
            raise cast_refusal(where, first_row + row, name, whole, np.dtype(float))
