"""How text is to be read: what users say of files of separated values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from daskgd.data.formats.base import import_library
from daskgd.data.formats.table_format import Type, is_number


@dataclass(frozen=True, slots=True)
class TextOptions:
    """How text is to be read: see :func:`daskgd.ingest`."""

    sep: str | None = None
    decimal: str = "."
    thousands: str | None = None
    encoding: str = "utf-8"
    header: bool = True
    names: tuple[str, ...] | None = None
    na_values: tuple[str, ...] = ()
    keep_default_na: bool = True
    quotechar: str = '"'
    skip_rows: int = 0
    dtypes: Mapping[str, str] = field(default_factory=dict)
    dates: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        marks = {"sep": self.sep, "decimal": self.decimal, "thousands": self.thousands}
        for name, mark in (*marks.items(), ("quotechar", self.quotechar or None)):
            if mark is not None and (len(mark) != 1 or not mark.isascii()):
                raise ValueError(f"{name}: expected one ASCII character, got {mark!r}")
        given = [mark for mark in (*marks.values(), self.quotechar) if mark]
        if len(set(given)) < len(given):
            raise ValueError(f"sep, decimal, thousands, quotechar: expected different ones, got {given}")
        try:
            "".encode(self.encoding)
        except LookupError:
            raise ValueError(f"encoding: expected one that Python knows, got {self.encoding!r}") from None
        for name, flag in (("header", self.header), ("keep_default_na", self.keep_default_na)):
            if not isinstance(flag, bool):
                raise ValueError(f"{name}: expected True or False, got {flag!r}")
        if isinstance(self.skip_rows, bool) or not isinstance(self.skip_rows, int) or self.skip_rows < 0:
            raise ValueError(f"skip_rows: expected lines to skip, >= 0, got {self.skip_rows}")
        if self.names is not None and len(set(self.names)) < len(self.names):
            raise ValueError(f"names: expected different ones, got {', '.join(self.names)}")
        for name, text in self.dates.items():
            if not isinstance(text, str) or "%" not in text:
                raise ValueError(f"dates: expected a format such as '%d.%m.%Y' for {name!r}, got {text!r}")
            if name in self.dtypes:
                raise ValueError(f"dates: expected no column of dtypes, got {name!r}")


def type_named(name: str, kind: str) -> Type:
    """The type of pyarrow that a user calls by a numpy or pandas dtype."""
    pa = import_library("pyarrow", "CSV")
    if kind in ("string", "str", "text", "object", "category"):
        return pa.large_string()
    try:
        dtype = np.dtype(kind)
        found = pa.timestamp("s") if dtype == np.dtype("datetime64") else pa.from_numpy_dtype(dtype)
    except (TypeError, pa.ArrowException):
        found = pa.null()
    if (
        not (is_number(found) or pa.types.is_timestamp(found) or pa.types.is_date(found))
        or found == pa.float16()
    ):
        raise ValueError(
            f"dtypes: expected one such as 'int64', 'bool', 'datetime64[s]' or 'string' for {name!r}, got "
            f"{kind!r}"
        )
    return found
