"""Things that add: what travels from workers to the driver.

Sums travel, means never do. A record of sums, :class:`Sums`, may hold anything with a ``+`` that is
associative up to rounding: arrays and numbers, and the parts below, which merge moments, labels and findings.
Knows no queries, no problems and no data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Sums(Mapping[str, Any]):
    """A record of things that add: arrays add element by element, the rest by its own ``+``.

    >>> (Sums(a=np.array([1.0, 2.0])) + Sums(a=np.array([3.0, 4.0])))["a"]
    array([4., 6.])
    """

    __slots__ = ("_parts",)

    def __init__(self, **parts: Any) -> None:
        self._parts = parts

    def __getitem__(self, name: str) -> Any:
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __add__(self, other: Sums) -> Sums:
        return Sums(**{name: part + other._parts[name] for name, part in self._parts.items()})

    def __reduce__(self) -> tuple[Any, ...]:
        return _sums, (self._parts,)

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return sum(map(_nbytes, self._parts.values()))


def _sums(parts: dict[str, Any]) -> Sums:
    return Sums(**parts)


def _nbytes(part: Any) -> int:
    if isinstance(part, np.ndarray):
        return part.nbytes
    if is_dataclass(part):
        return sum(_nbytes(getattr(part, f.name)) for f in fields(part))
    if isinstance(part, Mapping):
        return sum(map(_nbytes, part.values()))
    if isinstance(part, list | tuple):
        return sum(map(_nbytes, part))
    return 0 if part is None else 8


@dataclass(frozen=True, slots=True)
class Maybe:
    """Something that adds, or nothing yet."""

    value: Any = None

    def __add__(self, other: Maybe) -> Maybe:
        if self.value is None or other.value is None:
            return other if self.value is None else self
        return Maybe(self.value + other.value)


CUT = 1 << 16
"""Elements converted to float64 at a time: half a megabyte."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Weight, mean and sum of squared deviations per column, in float64.

    Two add by the pairwise update of Chan, Golub & LeVeque (1979), which never subtracts large
    numbers: exact where plain sums of squares lose all digits (mean / std of 1e4 and beyond).
    """

    weight: float
    mean: Array
    deviation: Array

    @classmethod
    def of(cls, X: Array, s: Array | None) -> Moments:
        """The moments of the columns of X ``(n, p)`` with weights ``(n,)`` or None."""
        weight = float(len(X) if s is None else s.sum())
        if not weight > 0:
            zero = np.zeros(X.shape[1])
            return cls(0.0, zero, zero)
        with np.errstate(invalid="ignore", over="ignore"):
            first, second = _two_sums(X, s, None)
            deviation = second - first * first / weight
            if (second <= FAR * deviation).all():
                return cls(weight, first / weight, deviation)
            # About a row of the tile itself, so that the sums are of the size of the spread. A row of weight
            # 0 may be anything.
            shift = X[0 if s is None else int(np.argmax(s))].astype(np.float64)
            first, second = _two_sums(X, s, shift)
            offset = first / weight
            return cls(weight, shift + offset, np.maximum(second - offset * first, 0.0))

    def __add__(self, other: Moments) -> Moments:
        if self.weight == 0 or other.weight == 0:
            return self if other.weight == 0 else other
        weight = self.weight + other.weight
        with np.errstate(invalid="ignore", over="ignore"):
            delta = other.mean - self.mean
            return Moments(
                weight,
                self.mean + delta * (other.weight / weight),
                self.deviation + other.deviation + delta * delta * (self.weight * other.weight / weight),
            )

    @property
    def variance(self) -> Array:
        """Population variance per column, ``(p,)``."""
        return self.deviation / self.weight if self.weight else self.deviation


FAR = 1e3
"""Mean square of a column, in its variances, beyond which it is summed about one of its values: three of
sixteen digits are given away at most."""


def _two_sums(X: Array, s: Array | None, shift: Array | None) -> tuple[Array, Array]:
    """Weighted sums ``(p,)`` of the columns of X less `shift`, and of their squares, in cuts that stay in the
    cache while they are converted, summed and squared."""
    height = max(16, CUT // X.shape[1])
    D = np.empty((min(height, len(X)), X.shape[1]))
    ones = np.ones(len(D))
    first, second = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for a in range(0, len(X), height):
        cut = X[a : a + height]
        D = D[: len(cut)]
        np.copyto(D, cut)
        if shift is not None:
            D -= shift
        v = ones[: len(cut)] if s is None else s[a : a + height]
        first += v @ D
        np.multiply(D, D, out=D)
        second += v @ D
    return first, second


@cache
def _blas() -> Any:
    """Products that numpy does not offer; loaded when first used, as they cost a worker 18 MB."""
    from scipy.linalg import blas

    return blas


@dataclass(frozen=True, slots=True)
class Comoments:
    """Weight, mean ``(q,)`` and sums of products of deviations ``(q, q)``, in float64, of columns Z.

        matrix = sum_i s_i (z_i - mean) (z_i - mean)'

    Two add by the pairwise update of Chan, Golub & LeVeque (1979, eq. 2.1b, for products):

        matrix_a + matrix_b + (W_a W_b / (W_a + W_b)) delta delta',    delta = mean_b - mean_a.

    Only the lower triangle is kept, zeros above, in Fortran order, as BLAS does half the work then: `full` is
    the symmetric matrix. A column that is constant has exact zeros.
    """

    weight: float
    mean: Array
    matrix: Array

    @classmethod
    def of(cls, X: Array, y: Array | None, s: Array | None) -> Comoments:
        """Of the columns of ``[X | y]``: X ``(n, p)``, y ``(n,)`` or ``(n, m)`` or None, weights or None.

        >>> Comoments.of(np.array([[1.0], [3.0]]), np.array([10.0, 20.0]), None).full
        array([[ 2., 10.],
               [10., 50.]])
        """
        p = X.shape[1]
        parts = [X] if y is None else [X, y.reshape(len(X), -1 if len(X) else int(np.prod(y.shape[1:])))]
        q = p if y is None else p + parts[1].shape[1]
        weight = float(len(X) if s is None else s.sum())
        matrix = np.zeros((q, q), order="F")
        if not weight > 0:
            return cls(0.0, np.zeros(q), matrix)
        # About a row of the tile itself: with the largest weight none lies further than sqrt(n) standard
        # deviations from the mean, so that what is taken off at the end costs no digits that matter.
        at = 0 if s is None else int(np.argmax(s))
        first = np.zeros(q)
        height = max(128, CUT // max(q, 1))
        D = np.empty((min(height, len(X)), q))
        with np.errstate(invalid="ignore", over="ignore"):
            shift = np.concatenate([part[at].astype(np.float64) for part in parts])
            for a in range(0, len(X), height):
                cut = slice(a, min(a + height, len(X)))
                D = D[: cut.stop - a]
                np.subtract(X[cut], shift[:p], out=D[:, :p])
                if y is not None:
                    np.subtract(parts[1][cut], shift[p:], out=D[:, p:])
                if s is None:
                    first += np.ones(len(D)) @ D
                else:
                    first += s[cut] @ D
                    D *= np.sqrt(s[cut])[:, None]
                matrix = _blas().dsyrk(1.0, D.T, 1.0, matrix, lower=1, overwrite_c=1)
            offset = first / weight
            matrix = _blas().dsyr(-weight, offset, lower=1, a=matrix, overwrite_a=1)
            return cls(weight, shift + offset, matrix)

    def __add__(self, other: Comoments) -> Comoments:
        if self.weight == 0 or other.weight == 0:
            return self if other.weight == 0 else other
        weight = self.weight + other.weight
        share = other.weight / weight
        with np.errstate(invalid="ignore", over="ignore"):
            delta = other.mean - self.mean
            matrix = np.asfortranarray(self.matrix + other.matrix)
            matrix = _blas().dsyr(self.weight * share, delta, lower=1, a=matrix, overwrite_a=1)
            return Comoments(weight, self.mean + delta * share, matrix)

    @property
    def full(self) -> Array:
        """The symmetric matrix, ``(q, q)``."""
        out = np.tril(self.matrix)
        out += np.tril(self.matrix, -1).T
        return out


MAX_LABELS = 10_000


@dataclass(frozen=True, slots=True)
class Labels:
    """Distinct labels, sorted, with the number and the weight of their rows."""

    values: Array
    counts: Array
    weights: Array

    def __post_init__(self) -> None:
        if len(self.values) > MAX_LABELS:
            raise ValueError(
                f"y: expected class labels, got more than {MAX_LABELS} distinct values; "
                "for a continuous target use a regressor"
            )

    @classmethod
    def of(cls, values: Array, codes: Array, s: Array | None) -> Labels:
        """From distinct labels, the position of each row's among them ``(n,)``, and weights or None."""
        counts = np.bincount(codes, minlength=len(values))
        weights = counts.astype(float) if s is None else np.bincount(codes, s, len(values))
        return cls(values, counts, weights)

    def __add__(self, other: Labels) -> Labels:
        if np.array_equal(self.values, other.values):
            return Labels(self.values, self.counts + other.counts, self.weights + other.weights)
        both = np.concatenate([self.values, other.values])
        try:
            values, at = np.unique(both, return_inverse=True)
        except TypeError:  # they cannot be sorted
            types = " and ".join(sorted({type(v).__name__ for v in both}))
            raise ValueError(
                f"y: expected labels of one type, got {types}; convert them, as in y.astype(str)"
            ) from None
        counts = np.zeros(len(values), dtype=np.int64)
        weights = np.zeros(len(values))
        for part, where in ((self, at[: len(self.values)]), (other, at[len(self.values) :])):
            counts[where] += part.counts
            weights[where] += part.weights
        return Labels(values, counts, weights)


class Place(NamedTuple):
    """A row, a column (-1 where there is none) and what stands there."""

    row: int
    column: int
    value: Any


@dataclass(frozen=True, slots=True)
class Bad:
    """How many rows break a rule, and the first of them."""

    rows: int = 0
    first: Place | None = None

    def __add__(self, other: Bad) -> Bad:
        firsts = [place for place in (self.first, other.first) if place is not None]
        return Bad(self.rows + other.rows, min(firsts, key=lambda place: place.row, default=None))

    @classmethod
    def of(cls, wrong: Array, values: Array, numbers: int | Array) -> Bad:
        """From a mask of the wrong entries of `values`, ``(n,)`` or ``(n, p)``, and the rows' numbers."""
        rows = wrong.any(axis=1) if wrong.ndim == 2 else wrong
        if not rows.any():
            return cls()
        row = int(np.argmax(rows))
        column = int(np.argmax(wrong[row])) if wrong.ndim == 2 else -1
        value = values[row, column] if wrong.ndim == 2 else values[row]
        number = numbers[row] if isinstance(numbers, np.ndarray) else numbers + row
        return cls(int(rows.sum()), Place(int(number), column, value))

    @classmethod
    def weights(cls, s: Array | None, numbers: int | Array) -> Bad:
        """Sample weights that are negative or not finite."""
        return cls() if s is None else cls.of(~np.isfinite(s) | (s < 0), s, numbers)

    @classmethod
    def nonfinite(cls, values: Array, numbers: int | Array) -> Bad:
        """NaN and infinity, at the price of one sum where there are none."""
        with np.errstate(invalid="ignore", over="ignore"):  # infinities that cancel; a sum that overflows
            if values.dtype.kind != "f" or np.isfinite(values.sum(dtype=np.float64)):
                return cls()
        return cls.of(~np.isfinite(values), values, numbers)


# -- coded for the wire --------------------------------------------------------------------------

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
