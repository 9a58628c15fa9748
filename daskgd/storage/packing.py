"""Numbers that stand for others, by the attributes with which xarray and netCDF pack them: read as they are
meant, or refused.

The attributes are those of the CF conventions, https://cfconventions.org, and what they mean is what
`xarray.open_zarr` makes of them: ``scale_factor`` and ``add_offset``, missing numbers (``_FillValue``,
``missing_value``), and ``_Unsigned``. Numbers outside ``valid_min``, ``valid_max`` or ``valid_range`` are
refused where they are read, dates where they are opened.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from daskgd._compat.dask import unchanged_sources
from daskgd.storage.checksums import StoreError, ZarrArray, location_of
from daskgd.storage.reading import Checksums, StoredColumn

ATTRIBUTES = ("scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned")
BOUNDS = ("valid_min", "valid_max", "valid_range")


@dataclass(frozen=True, slots=True)
class Packing:
    """How numbers are packed.

    Attributes
    ----------
    stored : numpy dtype
        As which they are stored, signed or not as they are meant.
    missing : tuple of numbers
        Which of them stand for NaN.
    scale, offset : float or None
        ``scale * stored + offset`` is what the others stand for.
    low, high : number or None
        The least and the greatest valid number, stored or meant as `bounds_stored` says.
    names : tuple of str
        The attributes that say so.
    """

    stored: np.dtype[Any]
    missing: tuple[Any, ...] = ()
    scale: float | None = None
    offset: float | None = None
    low: Any = None
    high: Any = None
    bounds_stored: bool = True
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, attributes: Mapping[str, Any], dtype: np.dtype[Any], where: object) -> Packing | None:
        """The packing of an array of a dtype; None for numbers that stand for themselves.

        Raises ValueError for dates, and for attributes that cannot be understood.

        >>> Packing.of({"scale_factor": 0.5, "_FillValue": -1}, np.dtype("int16"), "X").dtype
        dtype('float64')
        >>> Packing.of({"_FillValue": float("nan"), "units": "m"}, np.dtype("float32"), "X")
        """
        _refuse_dates(attributes, where)
        if dtype.kind not in "iuf":
            return None
        dtype = dtype.newbyteorder("=")
        stored = _signed_as_said(attributes.get("_Unsigned"), dtype, where)
        missing: list[Any] = []
        for name in ("_FillValue", "missing_value"):
            values = _numbers(attributes, name, where)
            missing += [_as_stored(value, dtype, stored) for value in values if value == value]
        scale, offset = (_number(attributes, name, where) for name in ("scale_factor", "add_offset"))
        bounds = _numbers(attributes, "valid_range", where)
        if bounds and len(bounds) != 2:
            raise ValueError(f"{where}: expected valid_range as two numbers, got {bounds}")
        low, high = bounds or [_number(attributes, name, where) for name in ("valid_min", "valid_max")]
        bounds_stored = dtype.kind in "iu" and all(isinstance(v, int | None) for v in (low, high))
        if bounds_stored:
            low, high = (None if v is None else _as_stored(v, dtype, stored) for v in (low, high))
        found = cls(
            stored,
            tuple(dict.fromkeys(missing)),
            scale,
            offset,
            low,
            high,
            bounds_stored,
            tuple(name for name in (*ATTRIBUTES, *BOUNDS) if name in attributes),
        )
        return None if found == cls(dtype, bounds_stored=bounds_stored, names=found.names) else found

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of what is meant: that which xarray takes."""
        if self.scale is not None or self.offset is not None:
            return np.dtype(np.float64)
        if not self.missing or self.stored.kind == "f":
            return self.stored
        return np.dtype(np.float32 if self.stored.itemsize <= 2 else np.float64)

    def decode(self, values: np.ndarray) -> np.ndarray:
        """What some stored numbers mean, NaN where they are missing."""
        return self._decode(*self._find_missing(values))

    def decode_valid(self, values: np.ndarray, first_row: int, where: object) -> np.ndarray:
        """The same; ValueError for one that is not valid, by its row."""
        stored, missing = self._find_missing(values)
        out = self._decode(stored, missing)
        compared = stored if self.bounds_stored else out
        wrong = np.zeros(compared.shape, bool)
        if self.low is not None:
            wrong |= compared < self.low
        if self.high is not None:
            wrong |= compared > self.high
        if missing is not None:
            wrong &= ~missing
        if wrong.any():
            at = tuple(np.argwhere(wrong)[0].tolist())
            low, high = ("" if bound is None else bound for bound in (self.low, self.high))
            column = f", column {at[1]}" if len(at) > 1 else ""
            raise ValueError(
                f"{where}: expected valid numbers, {low} to {high} as {self._bounds} say, got "
                f"{compared[at].item()!r} in row {first_row + at[0]}{column}; drop such rows, or remove the "
                "attributes if the numbers are right"
            )
        return out

    @property
    def _bounds(self) -> str:
        return " and ".join(name for name in self.names if name in BOUNDS)

    def _find_missing(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        stored = values.astype(values.dtype.newbyteorder("="), copy=False).view(self.stored)
        if not self.missing:
            return stored, None
        return stored, np.logical_or.reduce([stored == value for value in self.missing])

    def _decode(self, stored: np.ndarray, missing: np.ndarray | None) -> np.ndarray:
        out = stored.astype(self.dtype)
        if self.scale is not None:
            out *= self.scale
        if self.offset is not None:
            out += self.offset
        if missing is not None:
            out[missing] = np.nan
        return out


def _refuse_dates(attributes: Mapping[str, Any], where: object) -> None:
    units, kind = str(attributes.get("units", "")), str(attributes.get("dtype", ""))
    since = re.match(r"\w+ since \S", units)
    if since or kind.startswith(("datetime64", "timedelta64")):
        what = f"dates, {units}" if since else f"{kind.partition('[')[0]} in {units or 'unknown units'}"
        named = [name for name in ("units", "calendar", "dtype") if name in attributes]
        raise ValueError(
            f"{where}: expected numbers, got {what}; write them as numbers, as in "
            "(t - t[0]) / numpy.timedelta64(1, 'D'), or remove the attributes "
            f"{', '.join(named)} if what is stored is meant"
        )


def _signed_as_said(said: Any, dtype: np.dtype[Any], where: object) -> np.dtype[Any]:
    """An integer dtype with or without sign, as ``_Unsigned`` says; others as they are."""
    if said is None or dtype.kind == "f":
        return dtype
    kind = {"true": "u", "false": "i"}.get(str(said).lower())
    if kind is None:
        raise ValueError(f"{where}: expected _Unsigned as 'true' or 'false', got {said!r}")
    return np.dtype(f"{kind}{dtype.itemsize}")


def _as_stored(value: Any, dtype: np.dtype[Any], stored: np.dtype[Any]) -> Any:
    """A number of an attribute as what is stored compares to, be it said with a sign or without."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return dtype.type(value).item()
    if stored != dtype and float(value).is_integer():
        unsigned = np.array(int(value) % 2 ** (8 * dtype.itemsize), f"u{dtype.itemsize}")
        return unsigned.view(stored).item()
    return value


def _number(attributes: Mapping[str, Any], name: str, where: object) -> Any:
    """A number among the attributes, None if it is not there."""
    found = _numbers(attributes, name, where)
    if len(found) > 1:
        raise ValueError(f"{where}: expected {name} as a number, got {attributes[name]!r:.80}")
    return found[0] if found else None


def _numbers(attributes: Mapping[str, Any], name: str, where: object) -> list[Any]:
    """The numbers of an attribute; those that zarr's version 3 stores as text are eight bytes in base64."""
    found = attributes.get(name)
    if found is None:
        return []
    try:
        each = [_parse(v) if isinstance(v, str | bytes) else v for v in np.ravel(found).tolist()]
    except ValueError:
        each = [None]
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in each):
        raise ValueError(f"{where}: expected the attribute {name} as a number, got {found!r:.80}")
    return each


def _parse(text: str | bytes) -> float:
    try:
        return float(text)
    except ValueError:
        (value,) = struct.unpack("<d", base64.b64decode(text, validate=True))
        return float(value)
    except struct.error as cause:
        raise ValueError(str(cause)) from None


# -- where they are met ---------------------------------------------------------------------------


def packing_of(array: ZarrArray) -> Packing | None:
    """How the numbers of a zarr array are packed; None for those that stand for themselves.

    Raises StoreError for dates, and for attributes that cannot be understood.
    """
    attributes = array.attrs.asdict()
    masks = array.metadata.zarr_format == 2 and (
        "_ARRAY_DIMENSIONS" in attributes or any(name in attributes for name in ATTRIBUTES)
    )
    if masks and array.fill_value is not None:  # xarray's way to keep _FillValue in version 2
        attributes = {"_FillValue": np.asarray(array.fill_value).item(), **attributes}
    try:
        return Packing.of(attributes, array.dtype, location_of(array.store_path))
    except ValueError as cause:
        raise StoreError(str(cause)) from None


@dataclass(frozen=True, slots=True, eq=False)
class PackedColumn(StoredColumn):
    """Rows of a zarr array of packed numbers, as they are meant.

    >>> import zarr
    >>> array = zarr.array(np.array([3, -1, 4], "i2"), attributes={"scale_factor": 0.5, "_FillValue": -1})
    >>> PackedColumn(array, packing=packing_of(array)).read(0, 3)
    array([1.5, nan, 2. ])
    """

    packing: Packing = field(default_factory=lambda: Packing(np.dtype(np.float64)))

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (StoredColumn(self.array, self.complete, self.mark), self.packing)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.packing.dtype

    @property
    def fill_value(self) -> Any:
        return self.packing.decode(np.atleast_1d(np.asarray(self.array.fill_value, self.array.dtype)))[0]

    def identity(self) -> str:
        return f"{StoredColumn.identity(self)}, {self.packing}"

    def info(self) -> dict[str, Any]:
        return {**StoredColumn.info(self), "decoded": list(self.packing.names)}

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows start:stop. Raises ValueError for numbers that are not valid; else as of what is stored."""
        stored = StoredColumn.read(self, start, stop)
        return self.packing.decode_valid(stored, start, self.path) if len(stored) else stored


def _arrive(stored: StoredColumn, packing: Packing) -> PackedColumn:
    """A column that comes from another process."""
    column = PackedColumn(stored.array, stored.complete, stored.mark, packing=packing)
    object.__setattr__(column, "_to_check", True)
    return column


def open_array(
    array: ZarrArray, complete: bool = False, mark: str | None = None, checksums: Checksums | None = None
) -> StoredColumn:
    """The column of a zarr array, decoded if it is packed, as nothing is that daskgd wrote (`complete`)."""
    packing = None if complete else packing_of(array)
    if packing is None:
        return StoredColumn(array, complete, mark, checksums)
    return PackedColumn(array, complete, mark, packing=packing)


def check_unpacked(value: Any, name: str) -> None:
    """Raise ValueError for an array whose numbers are packed, as its attributes say, and which nobody has
    decoded: xarray's, and dask's that read what is packed past its attributes."""
    if hasattr(value, "dims") and hasattr(value, "attrs"):  # xarray
        packing = Packing.of(value.attrs, np.dtype(value.dtype), name)
        if packing is not None:
            raise ValueError(
                f"{name}: expected numbers as they are meant, got an array of xarray that is packed "
                f"({', '.join(packing.names)}); decode it, as in xarray.decode_cf(dataset)"
            )
    for source in unchanged_sources(value):
        attributes, place = getattr(source, "attrs", None), getattr(source, "store_path", None)
        if not isinstance(attributes, Mapping):
            continue
        if place is not None:
            packing = packing_of(source)
        else:
            packing = Packing.of(attributes, np.dtype(source.dtype), name)
        if packing is not None:
            where = "an array" if place is None else location_of(place)
            raise ValueError(
                f"{name}: expected numbers as they are meant, got a dask array that reads {where} past its "
                f"attributes {', '.join(packing.names) or '_FillValue'}; pass the zarr array itself, or what "
                "xarray.open_zarr makes of it"
            )
