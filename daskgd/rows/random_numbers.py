"""Random numbers by row: a function of (seed, purpose, row) alone, so that they repeat on any engine.

Knows no rows, only their numbers. A split, a sample and a fold of the same data use different purposes and
are independent of each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SPLIT = 0x73706C6974
SAMPLE = 0x73616D706C65
PROBE = 0x70726F6265
HALF = 0x68616C66
FOLD = 0x666F6C64
"""Purposes: splits of a dataset, samples of rows, probing steps, halves of a partition, and folds."""


def row_random_numbers(rows: Array, seed: int, purpose: int) -> Array:
    """A uniform random number in [0, 1) for each of the row numbers ``(n,)``.

    The mixing function of SplitMix64 (Steele, Lea & Flood 2014), applied twice.

    >>> row_random_numbers(np.arange(3), seed=0, purpose=SPLIT).round(3)
    array([0.028, 0.093, 0.213])
    """
    with np.errstate(over="ignore"):
        key = np.array([purpose], dtype=np.uint64)
        _mix(key)
        key ^= np.uint64(seed)
        _mix(key)
        h = rows.astype(np.uint64)
        h *= np.uint64(0x9E3779B97F4A7C15)
        h += key
        _mix(h)
        h ^= key
        _mix(h)
        h >>= np.uint64(11)
    u = h.astype(np.float64)
    u *= 2.0**-53
    return u


def row_folds(rows: Array, n_folds: int, seed: int) -> Array:
    """The fold of each of the row numbers ``(n,)``, from 0 to ``n_folds - 1``, all of about the same size.

    >>> row_folds(np.arange(8), 2, seed=0)
    array([0, 1, 1, 1, 0, 0, 0, 1])
    """
    return (row_random_numbers(rows, seed, FOLD) * n_folds).astype(np.intp)


def _mix(x: Array) -> None:
    """Mix the bits of each number, in place."""
    half = np.empty_like(x)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, None)):
        np.right_shift(x, np.uint64(shift), out=half)
        x ^= half
        if factor is not None:
            x *= np.uint64(factor)
