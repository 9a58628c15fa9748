"""Files of other formats become a dataset, a block of rows at a time.

Which formats there are, and how each is read, is in :mod:`daskgd.data.formats`. Knows what a block of rows is
to :mod:`daskgd.storage.writing`; no estimators, no engines.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from daskgd.data.formats import FORMATS
from daskgd.data.formats.base import ColumnRoles, Format, Progress
from daskgd.storage.writing import write_dataset


def ingest(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    target: str | None = None,
    weight: str | None = None,
    drop: Sequence[str] = (),
    dtype: str | None = None,
    format: str | None = None,
    chunk_bytes: int | str = 8_000_000,
    codec: str = "lz4",
    shards: int | None = None,
    overwrite: bool = False,
    progress: Progress = None,
) -> None:
    """Write the rows of files to a dataset, a block at a time, so that memory stays small.

    Parameters
    ----------
    paths : path, or sequence of them
        One or more files of one format; for Parquet also folders. By their endings: .npy, .npz, .csv, .tsv
        (also compressed: .gz, .bz2, .xz, .zst), .parquet, .pq, .libsvm, .svm, .svmlight.
    out : path or URL
        Where to write: see :func:`daskgd.write_dataset`.
    target : str, optional
        Of a table the name of a column; of an npz file that of an array, ``"y"`` if there is one; of an npy
        file the number of a column, from 0 or from the end (``"-1"``), or another npy file. libsvm files have
        their own.
    weight : str, optional
        The same for sample weights; of an npz file ``"sample_weight"`` if there is one.
    drop : sequence of str
        Columns to leave out.
    dtype : str, optional
        Of the features, such as ``"float32"``. By default what the files have; float64 from CSV and libsvm.
    format : str, optional
        "npy", "npz", "csv", "parquet" or "libsvm", where endings do not tell.
    chunk_bytes, codec, shards, overwrite :
        As for :func:`daskgd.write_dataset`.
    progress : callable, optional
        Called as ``progress(done, total)`` after each block, in rows, or bytes where rows are not known.

    Raises
    ------
    ValueError : a format or a column that is not known, columns that are not numbers, files that do not
        match; named.
    ImportError : the library for a format is missing; which.

    Examples
    --------
    >>> import daskgd, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> rows = ["age,fare,survived", "22,7.25,no", "38,71.3,yes"]
    >>> _ = Path(folder, "rows.csv").write_text(chr(10).join(rows))
    >>> daskgd.ingest(f"{folder}/rows.csv", f"{folder}/rows.zarr", target="survived")
    >>> daskgd.open_dataset(f"{folder}/rows.zarr").feature_names
    ('age', 'fare')
    """
    files = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not files:
        raise ValueError("paths: expected at least one file, got none")
    places = [Path(os.fspath(path)) for path in files]
    for place in places:
        if not place.exists():
            raise FileNotFoundError(f"{place}: no such file or directory")
    chosen = _choose_format(places, format)
    try:
        roles = ColumnRoles(target, weight, tuple(drop), None if dtype is None else np.dtype(dtype))
    except TypeError as cause:
        raise ValueError(f"dtype: expected that of numbers, such as 'float32', got {dtype!r}") from cause
    if roles.dtype is not None and roles.dtype.kind not in "fiu":
        raise ValueError(f"dtype: expected that of numbers, such as 'float32', got {dtype!r}")
    names, blocks = chosen.read(places, roles, progress)
    write_dataset(
        out,
        blocks,
        feature_names=names,
        chunk_bytes=chunk_bytes,
        codec=codec,
        shards=shards,
        overwrite=overwrite,
    )


def _choose_format(places: Sequence[Path], name: str | None) -> Format:
    """The format of that name, or by the endings of all files. Raises ValueError for none, or several."""
    if name is not None:
        if name not in FORMATS:
            raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {name!r}")
        return FORMATS[name]
    found = {format.name: format for format in map(_recognise, places)}
    if len(found) > 1:
        raise ValueError(f"paths: expected files of one format, got {', '.join(sorted(found))}")
    return found.popitem()[1]


def _recognise(place: Path) -> Format:
    """The format of a file or folder by the endings of names. Raises ValueError where it is none of them."""
    for format in FORMATS.values():
        if format.matches(place):
            return format
    endings = ", ".join(suffix for format in FORMATS.values() for suffix in format.suffixes)
    raise ValueError(
        f"{place}: expected one of {endings}, or format= to say which, got "
        f"{''.join(place.suffixes) or 'no ending'!r}; convert it to one of them"
    )
