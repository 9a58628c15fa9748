"""TODO queries.compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.queries.sums import Sums

Array = NDArray[Any]


WIRES = ("float64", "float32", "float16", "int8")
"""How numbers may travel."""

RUN = 256
"""Numbers that share a scale."""

LONG = 16
"""Arrays shorter than this travel as they are."""

MANTISSA = {"float32": (23, -126), "float16": (10, -14)}
"""Bits after the leading one, and the exponent of the least normal number."""


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """A vector in fewer bits: runs of numbers relative to the largest of each, rounded up or down at random
    so that the mean is right (QSGD: Alistarh et al. 2017).

    Two add by decoding and coding anew, so that what travels is coded at every level of the merge tree. The
    draws are a function of `key`, which names the node of the tree: sums have the same bits whoever computes
    them; and adding zeros changes nothing.

    >>> v = np.linspace(-1, 1, 1000)
    >>> coded = Coded.of(v, "int8", key=7)
    >>> bool(np.abs(coded.decoded - v).max() < 1 / 127)
    True
    """

    codes: Array
    scales: Array
    shape: tuple[int, ...]
    key: int

    @classmethod
    def of(cls, values: Array, wire: str, key: int) -> Coded:
        """Code an array; one that is not finite decodes to NaN."""
        flat = values.ravel()
        padded: Array = np.zeros((-(-len(flat) // RUN), RUN))
        padded.ravel()[: len(flat)] = flat
        scales = np.abs(padded).max(axis=1, initial=0.0)
        if not np.isfinite(scales).all():
            scales = np.full(len(scales), np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            x = np.where(scales[:, None] > 0, padded / scales[:, None], 0.0).ravel()[: len(flat)]
        u = np.random.Generator(np.random.Philox(key=key)).random(len(x))
        if wire == "int8":
            codes: Array = np.floor(127 * x + u).astype(np.int8)
        else:
            bits, least = MANTISSA[wire]
            exponent = np.maximum(np.frexp(x)[1] - 1, least) - bits
            codes = np.ldexp(np.floor(np.ldexp(x, -exponent) + u), exponent).astype(wire)
        return cls(codes, scales, values.shape, key)

    @property
    def decoded(self) -> Array:
        """In float64."""
        scales = self.scales / 127 if self.codes.dtype == np.int8 else self.scales
        out: Array = self.codes.astype(np.float64) * np.repeat(scales, RUN)[: len(self.codes)]
        return out.reshape(self.shape)

    def __add__(self, other: Coded) -> Coded:
        if not (self.scales.any() and other.scales.any()):
            return self if self.scales.any() else other
        wire = self.codes.dtype.name
        return Coded.of(self.decoded + other.decoded, wire, mixed(self.key, other.key))


def mixed(a: int, b: int) -> int:
    """A key of two; order matters."""
    return (a * 6364136223846793005 + b * 1442695040888963407 + 0x9E3779B97F4A7C15) % 2**64


def coded(sums: Sums, wire: str, key: int) -> Sums:
    """Sums with their long arrays coded."""
    if wire == "float64":
        return sums

    def part(i: int, value: Any) -> Any:
        long = isinstance(value, np.ndarray) and value.size >= LONG and value.dtype.kind == "f"
        return Coded.of(value, wire, mixed(key, i)) if long else value

    return Sums(**{name: part(i, value) for i, (name, value) in enumerate(sums.items())})


def decoded(sums: Sums) -> Sums:
    """The sums that were coded."""
    return Sums(**{name: v.decoded if isinstance(v, Coded) else v for name, v in sums.items()})
