"""What all formats of files have in common: how they are declared, roles of columns, blocks of rows.

Knows no library that reads files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Block = tuple[Array, ...]
"""Rows: X ``(n, p)``, an array or of scipy.sparse, perhaps y, perhaps weights, as
:func:`daskgd.write_dataset` takes them."""

Progress = Callable[[int, int], None] | None
"""Called as ``progress(done, total)`` after each block, in rows, or bytes where rows are not known."""

NamedBlocks = tuple[list[str] | None, Iterator[Block]]
"""Names of the features, None where there are none, and all blocks of rows in order."""

COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}
"""Compressions by the endings that they add to the names of files."""

BLOCK_BYTES = 16 << 20
"""Decoded bytes of the features in a block of rows, about."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format of files: how it is called, recognised and read.

    Attributes
    ----------
    name : str
    suffixes : tuple of str
        Endings of its files, the usual one first.
    read : callable, optional
        ``read(places, roles, progress)`` checks the files and returns the names of their features and the
        blocks of their rows. It imports the library that it reads with. Raises ValueError for files that are
        not of the format, that do not match, or that lack a column; ImportError without the library.
    table : callable, optional
        In place of `read`, for tables whose columns have names: ``table(options)``, with
        :class:`~daskgd.data.formats.text_options.TextOptions`, is a
        :class:`~daskgd.data.formats.table_format.TableFormat`.
    compressed : bool
        Whether files may be compressed, with an ending of `COMPRESSED` after their own.
    numbered : bool
        Whether features have numbers only, of which `n_features` and `zero_based` tell.
    text : bool
        Whether there are options of text, such as `sep`.
    typed : bool
        Whether files say the types of their columns; else features are float64 by default.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Sequence[Path], ColumnRoles, Progress], NamedBlocks] | None = None
    table: Callable[[Any], Any] | None = None
    compressed: bool = False
    numbered: bool = False
    text: bool = False
    typed: bool = False

    @property
    def endings(self) -> tuple[str, ...]:
        """Endings of names, those of compressed files among them."""
        packed = tuple(f"{suffix}{ending}" for suffix in self.suffixes for ending in COMPRESSED)
        return self.suffixes + (packed if self.compressed else ())

    def matches(self, name: str) -> bool:
        """Whether the name of a file is one of this format, by its ending."""
        return name.lower().endswith(self.endings)


@dataclass(frozen=True, slots=True)
class ColumnRoles:
    """Which columns of a table are the target and the weights, and which are left out.

    Attributes
    ----------
    target, weight : str or None
        Names, or for arrays without names positions or files.
    drop : tuple of str
        Left out.
    dtype : numpy dtype or None
        Dtype of the features; None keeps that of the file.
    n_features : int or None
        Of files that do not say it; None counts them.
    zero_based : bool or None
        Whether such files count features from 0; None finds out.
    """

    target: str | None = None
    weight: str | None = None
    drop: tuple[str, ...] = ()
    dtype: np.dtype[Any] | None = None
    n_features: int | None = None
    zero_based: bool | None = None


def rows_per_block(row_bytes: int) -> int:
    """Rows in a block of about `BLOCK_BYTES`, at least one."""
    return max(BLOCK_BYTES // max(row_bytes, 1), 1)


def make_block(X: Array, y: Array | None, s: Array | None, where: object) -> Block:
    """A block of what there is. Raises ValueError for weights without a target."""
    if y is None and s is not None:
        raise ValueError(f"{where}: expected a target beside the weights, got none; name it with target=")
    return tuple(part for part in (X, y, s) if part is not None)


def import_library(library: str, what: str) -> Any:
    """Import the library that reads a format; an ImportError says how to install it."""
    try:
        return import_module(library)
    except ImportError as cause:
        package = library.partition(".")[0]
        raise ImportError(
            f'{what} files are read with {package}, which is not installed: pip install "daskgd[ingest]"'
        ) from cause
