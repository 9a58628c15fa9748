"""Lossy compression of the sums that travel: fewer bits a number, rounded at random. Knows sums; no queries,
no engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.queries.sums import Sums

Array = NDArray[Any]


COMPRESSIONS = ("float64", "float32", "float16", "int8")
"""The dtypes in which sums may travel."""

RUN = 256
"""The length of a run: numbers that share a scale."""

LONG = 16
"""Arrays shorter than this are not compressed."""

MANTISSA = {"float32": (23, -126), "float16": (10, -14)}
"""Of a dtype, the bits after the leading one, and the exponent of the least normal number."""


@dataclass(frozen=True, slots=True, eq=False)
class CompressedArray:
    """An array in fewer bits: numbers in runs, relative to the largest of each run, rounded up or down at
    random so that the mean is right (QSGD: Alistarh et al. 2017).

    Two add by decompressing and compressing anew, so that what travels is compressed at every level of the
    merge tree. The random numbers are a function of `key`, which names the node of the tree: sums have the
    same bits whoever computes them. Adding zeros changes nothing.

    >>> v = np.linspace(-1, 1, 1000)
    >>> compressed = CompressedArray.of(v, "int8", key=7)
    >>> bool(np.abs(compressed.decompress() - v).max() < 1 / 127)
    True
    """

    codes: Array
    scales: Array
    shape: tuple[int, ...]
    key: int

    @classmethod
    def of(cls, values: Array, compression: str, key: int) -> CompressedArray:
        """Compress an array of floats; one that is not finite decompresses to NaN."""
        flat = values.ravel()
        padded: Array = np.zeros((-(-len(flat) // RUN), RUN))
        padded.ravel()[: len(flat)] = flat
        scales = np.abs(padded).max(axis=1, initial=0.0)
        if not np.isfinite(scales).all():
            scales = np.full(len(scales), np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            x = np.where(scales[:, None] > 0, padded / scales[:, None], 0.0).ravel()[: len(flat)]
        u = np.random.Generator(np.random.Philox(key=key)).random(len(x))
        if compression == "int8":
            codes: Array = np.floor(127 * x + u).astype(np.int8)
        else:
            bits, least = MANTISSA[compression]
            exponent = np.maximum(np.frexp(x)[1] - 1, least) - bits
            codes = np.ldexp(np.floor(np.ldexp(x, -exponent) + u), exponent).astype(compression)
        return cls(codes, scales, values.shape, key)

    def decompress(self) -> Array:
        """The array, in float64."""
        scales = self.scales / 127 if self.codes.dtype == np.int8 else self.scales
        out: Array = self.codes.astype(np.float64) * np.repeat(scales, RUN)[: len(self.codes)]
        return out.reshape(self.shape)

    def __add__(self, other: CompressedArray) -> CompressedArray:
        if not (self.scales.any() and other.scales.any()):
            return self if self.scales.any() else other
        return CompressedArray.of(
            self.decompress() + other.decompress(), self.codes.dtype.name, mix_keys(self.key, other.key)
        )


def mix_keys(a: int, b: int) -> int:
    """A key for random numbers made of two others; their order matters."""
    return (a * 6364136223846793005 + b * 1442695040888963407 + 0x9E3779B97F4A7C15) % 2**64


def compress(sums: Sums, compression: str, key: int) -> Sums:
    """The sums with their long arrays compressed; as they are for "float64"."""
    if compression == "float64":
        return sums

    def part(i: int, value: Any) -> Any:
        long = isinstance(value, np.ndarray) and value.size >= LONG and value.dtype.kind == "f"
        return CompressedArray.of(value, compression, mix_keys(key, i)) if long else value

    return Sums(**{name: part(i, value) for i, (name, value) in enumerate(sums.items())})


def decompress(sums: Sums) -> Sums:
    """The sums with their compressed arrays as arrays again."""
    return Sums(**{name: v.decompress() if isinstance(v, CompressedArray) else v for name, v in sums.items()})
