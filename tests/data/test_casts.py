"""Casts keep numbers, or are refused by row, column and value."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from daskgd.data.formats.casts import cast_exactly, changed_by_cast

NAMES = ["bool", "int8", "uint8", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"]
DTYPES = [np.dtype(name) for name in NAMES]

HARD = [0, 1, -1, 2, 44, 127, 128, 255, 256, 300, 2**11, 2**11 + 1, 2**24, 2**24 + 1, 2**31, 2**53, 2**53 + 1]
HARD += [
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
    -(2**7),
    -(2**31) - 1,
    -(2**63),
    1.7,
    -0.5,
    0.1,
    1e5,
    1e30,
    1e300,
]
HARD += [np.nan, np.inf, -np.inf, 5e-324]


def hard(dtype: np.dtype[Any]) -> Any:
    """The hard numbers that a dtype holds."""
    with np.errstate(all="ignore"):
        if dtype.kind == "f":
            return np.unique(np.array([float(v) for v in HARD]).astype(dtype))
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        return np.unique(np.array([v for v in HARD if isinstance(v, int) and low <= v <= high], dtype=dtype))


def is_kept(before: Any, after: Any, source: np.dtype[Any], to: np.dtype[Any]) -> bool:
    """By exact fractions, whether a number is the same, or rounded as it may be."""
    a, b = before.item(), after.item()
    if a != a or b != b or abs(a) == np.inf or abs(b) == np.inf:
        return (a != a and b != b) or a == b
    if to.kind == "f" and source.kind == "f":
        return True
    return Fraction(a) == Fraction(b)


@pytest.mark.parametrize(("source", "to"), list(itertools.product(DTYPES, DTYPES)), ids=str)
def test_each_hard_number_is_kept_or_refused(source: np.dtype[Any], to: np.dtype[Any]) -> None:
    values = hard(source)
    with np.errstate(all="ignore"):
        kept = [is_kept(v, v.astype(to), source, to) for v in values]
    changed = changed_by_cast(values, to)
    found = np.zeros(len(values), bool) if changed is None else changed
    assert (~found).tolist() == kept, values[found == kept]
    for value, same in zip(values, kept, strict=True):
        if same:
            out = cast_exactly(np.array([[value]]), to, "a")
            assert out.dtype == to
            assert is_kept(value, out[0, 0], source, to)
        else:
            with pytest.raises(
                ValueError, match=r"^a: expected numbers that .*, got .* in row 7, column 0; "
            ):
                cast_exactly(np.array([[value]]), to, "a", 7)


def test_rows_columns_and_ways_out_are_named() -> None:
    X = np.array([[1.0, 2.0], [1.0, np.nan], [1.7, 2.0]])
    with pytest.raises(
        ValueError, match=r"f: .* got nan in row 11, column 'b'; take dtype='float64', or fill"
    ):
        cast_exactly(X, np.dtype("uint8"), "f", 10, ["a", "b"])
    with pytest.raises(
        ValueError, match=r"0 to 255, got 1\.7 in row 2, column 'a'; take dtype='float64', or l"
    ):
        cast_exactly(X[:, 0], np.dtype("uint8"), "f", names=["a"])
    with pytest.raises(
        ValueError, match=r"of integers all to 16777216, got 16777217 in row 0; take dtype='int64'"
    ):
        cast_exactly(np.array([2**24 + 1]), np.dtype("float32"), "f")
    with pytest.raises(
        ValueError,
        match=r"all to 9007199254740992, got 9007199254740993 in row 1; .* \(drop\), or make it text",
    ):
        cast_exactly(np.array([2**53, 2**53 + 1]), np.dtype("float64"), "f")
    with pytest.raises(
        ValueError, match=r"got 18446744073709551615 in row 0; take dtype='uint64' if all col"
    ):
        cast_exactly(np.array([2**64 - 1], "u8"), np.dtype("float64"), "f")
    with pytest.raises(ValueError, match="f: expected numbers, got dtype complex128"):
        cast_exactly(np.array([1j]), np.dtype("float32"), "f")


def test_what_needs_no_cast_is_not_copied() -> None:
    X = np.zeros((3, 2), np.float32)
    assert cast_exactly(X, None, "f") is X
    assert cast_exactly(X, np.dtype("float32"), "f") is X
    assert cast_exactly(X.T, np.dtype("float64"), "f").flags.c_contiguous
