"""Files of other formats become a dataset, some rows at a time.

Which formats there are, and how each is read, is in :mod:`daskgd.data.formats`. Knows what a block of rows is
to :mod:`daskgd.storage.writing`; no estimators, no engines.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from daskgd.data.formats import FORMATS
from daskgd.data.formats.base import ColumnRoles, Format, Progress
from daskgd.data.formats.files import File, find_files
from daskgd.data.formats.tables import ingest_tables
from daskgd.data.formats.text_options import TextOptions
from daskgd.data.schema import Schema
from daskgd.data.surveying import survey, survey_where_written
from daskgd.storage.parallel_writing import write_parts
from daskgd.storage.paths import is_url, locate
from daskgd.storage.replacing import refuse_existing
from daskgd.storage.writing import Chunking, write_arrays

logger = logging.getLogger("daskgd")


def ingest(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    target: str | None = None,
    weight: str | None = None,
    drop: Sequence[str] = (),
    dtype: str | None = None,
    format: str | None = None,
    missing_target: str = "refuse",
    sep: str | None = None,
    decimal: str = ".",
    thousands: str | None = None,
    encoding: str = "utf-8",
    header: bool = True,
    names: Sequence[str] | None = None,
    na_values: Sequence[str] = (),
    keep_default_na: bool = True,
    quotechar: str = '"',
    skip_rows: int = 0,
    dtypes: Mapping[str, str] | None = None,
    dates: Mapping[str, str] | None = None,
    n_features: int | None = None,
    zero_based: bool | None = None,
    chunk_bytes: int | str = 8_000_000,
    codec: str = "auto",
    shards: int | None = None,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    progress: Progress = None,
    counting: Progress = None,
    report: Callable[[Schema], None] | None = None,
    dry_run: bool = False,
) -> None:
    """Write the rows of files to a dataset, piece by piece, so that memory stays small.

    Columns of tables keep their types: numbers, of which missing ones are NaN; bool; dates, times and
    durations, as numbers of their unit; text as categories, as codes with a dictionary of those that occur,
    sorted, so that features are those of scikit-learn's ``OneHotEncoder``. ``Dataset.schema`` tells of them,
    ``Dataset.frame`` gives them back.

    Tables are read and written in parallel, on the workers of the current Dask cluster, which need to reach
    the files and `out`, else on the threads of this process; text is parsed once. The types of columns are
    found before anything is written, and where a later piece of a file needs a wider one, as a column of
    integers in which a fraction comes, the writing begins anew.

    Parameters
    ----------
    paths : path or URL, or sequence of them
        Files of one format, folders of them with all below, or patterns such as ``"*.csv"``. By their
        endings: .csv, .tsv, .jsonl, .ndjson (also compressed: .gz, .bz2, .xz, .zst), .parquet, .pq, .feather,
        .arrow, .ipc, .npy, .npz, .libsvm, .svm, .svmlight (also compressed: .gz, .bz2, .xz), whose rows stay
        sparse. Folders such as ``year=2013`` are columns.
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
        "csv", "parquet", "feather", "jsonl", "npy", "npz" or "libsvm", where endings do not tell.
    missing_target : "refuse" or "drop"
        Whether a row of a table without a target is an error, or left out and counted in the log.
    sep : str, optional
        Of CSV, as all that follow: what separates fields, by default a comma, in .tsv files a tab.
    decimal, thousands : str
        Marks in numbers; by default there are none of thousands. Between these come three digits, before the
        last of them also two, as in India; ``1.2.2020`` is no number.
    encoding : str
        Of text.
    header : bool
        Whether the first line holds the names of the columns.
    names : sequence of str, optional
        Names of the columns, in place of those in the file; without a header by default ``"0"``, ``"1"``,
        and so on.
    na_values : sequence of str
        More of what stands for a missing value, in columns of all types; ``-9`` is so for ``-9.0``, too.
    keep_default_na : bool
        Whether what pandas takes for missing is so in columns of numbers, as ``NA`` is, and in those of text
        what is empty. Text such as ``NA`` is kept.
    quotechar : str
        What fields with separators or line ends in them are between; ``""`` where there are no quotes.
    skip_rows : int
        Lines before the header.
    dtypes : mapping of str to str
        Types of columns in place of those that are found, such as ``{"zip": "string"}``, or "datetime64[s]".
    dates : mapping of str to str
        Formats of columns of dates that are not written as in 2013-01-31 or 2013-01-31 18:30:00, which are
        found: ``{"day": "%d.%m.%Y"}``, as of :meth:`datetime.datetime.strptime`.
    n_features : int, optional
        Of libsvm files, which may lack the last features; by default the greatest number there is.
    zero_based : bool, optional
        Whether libsvm files count features from 0. By default from 1, unless there is a 0.
    chunk_bytes, codec, shards, overwrite :
        As for :func:`daskgd.write_dataset`.
    storage_options : mapping, optional
        For fsspec, of `paths` and `out` where they are URLs.
    progress : callable, optional
        Called as ``progress(done, total)`` after each block, in rows.
    counting : callable, optional
        Called as ``counting(done, total)``, in bytes, while the rows of text are counted, before any is
        written.
    report : callable, optional
        Of tables, called with a :class:`daskgd.data.schema.Schema`: the columns as they are found at the
        start of all files, before anything is written.
    dry_run : bool
        Whether to end there, without writing anything.

    Raises
    ------
    ValueError : a format or a column that is not known, columns of other types, text among numbers, files
        that do not match; named.
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
    given_paths = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    options_of_out = storage_options if is_url(locate(out)) else None
    is_remote = any(is_url(locate(path, "paths")) for path in given_paths)
    if storage_options and not is_remote and options_of_out is None:
        raise ValueError("storage_options: expected none, as neither paths nor out are URLs")
    found = find_files(given_paths, _endings(format), storage_options if is_remote else None)
    chosen = _choose_format(found, format)
    roles = _roles(chosen, target, weight, drop, dtype, n_features, zero_based)
    if missing_target not in ("refuse", "drop"):
        raise ValueError(f"missing_target: expected 'refuse' or 'drop', got {missing_target!r}")
    if missing_target == "drop" and target is None:
        raise ValueError(
            "missing_target: expected 'refuse' without a target, got 'drop'; name it with target="
        )
    given = {
        "sep": sep, "decimal": decimal, "thousands": thousands, "encoding": encoding, "header": header,
        "names": names, "na_values": na_values, "keep_default_na": keep_default_na, "quotechar": quotechar,
        "skip_rows": skip_rows, "dtypes": dtypes, "dates": dates,
    }  # fmt: skip
    options = _text_options(chosen, given)
    if found.skipped:
        logger.info("skipped %s", ", ".join(f"{n} {what} files" for what, n in found.skipped.items()))
    if chosen.table is not None:
        chunking = Chunking.of(chunk_bytes, codec, shards)
        write = partial(
            write_parts,
            out,
            chunking=chunking,
            overwrite=overwrite,
            storage_options=options_of_out,
            finish=survey,
        )
        if not dry_run:
            refuse_existing(out, overwrite, options_of_out)
        drops = missing_target == "drop"
        ingest_tables(
            chosen, found, roles, options, drops, None if dry_run else write, progress, counting, report
        )
        return
    if report is not None or dry_run:
        raise ValueError(
            f"{'dry_run' if dry_run else 'report'}: expected none for {chosen.name} files, which are no "
            "tables"
        )
    if missing_target != "refuse":
        raise ValueError(f"missing_target: expected 'refuse' for {chosen.name} files, got 'drop'")
    if is_remote:
        raise ValueError(f"paths: expected {chosen.name} files on disk, got {found[0]}; copy them first")
    assert chosen.read is not None
    feature_names, blocks = chosen.read([Path(file.path) for file in found], roles, progress)
    write_arrays(
        out,
        blocks,
        feature_names=feature_names,
        chunk_bytes=chunk_bytes,
        codec=codec,
        shards=shards,
        overwrite=overwrite,
        storage_options=options_of_out,
        finish=survey_where_written,
    )


def _endings(name: str | None) -> tuple[str, ...]:
    """Endings of the files of a format, of all without its name. Raises ValueError for one that is not
    known."""
    if name is not None and name not in FORMATS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {name!r}")
    chosen = FORMATS.values() if name is None else [FORMATS[name]]
    return tuple(ending for format in chosen for ending in format.endings)


def _choose_format(files: Sequence[File], name: str | None) -> Format:
    """The format of that name, or by the endings of all files. Raises ValueError for none, or several."""
    if name is not None:
        return FORMATS[name]
    found = {format.name: format for format in map(_recognise, files)}
    if len(found) > 1:
        raise ValueError(f"paths: expected files of one format, got {', '.join(sorted(found))}; say format=")
    return found.popitem()[1]


def _recognise(file: File) -> Format:
    """The format of a file by the ending of its name. Raises ValueError where it is none of them."""
    for format in FORMATS.values():
        if format.matches(file.name):
            return format
    endings = ", ".join(suffix for format in FORMATS.values() for suffix in format.suffixes)
    raise ValueError(
        f"{file}: expected one of {endings}, or format= to say which, got "
        f"{''.join(Path(file.name).suffixes) or 'no ending'!r}; convert it to one of them"
    )


def _roles(
    format: Format,
    target: str | None,
    weight: str | None,
    drop: Sequence[str],
    dtype: str | None,
    n_features: int | None,
    zero_based: bool | None,
) -> ColumnRoles:
    """What columns are for. Raises ValueError for what is none, or not for the format."""
    for name, value in (("n_features", n_features), ("zero_based", zero_based)):
        if value is not None and not format.numbered:
            raise ValueError(f"{name}: expected None for {format.name} files, got {value!r}")
    if n_features is not None and (isinstance(n_features, bool) or not 1 <= n_features < 2**63):
        raise ValueError(f"n_features: expected a whole number >= 1, got {n_features!r}")
    if isinstance(drop, str):
        raise ValueError(f"drop: expected a sequence of names, got {drop!r}; pass [{drop!r}]")
    try:
        kind = None if dtype is None else np.dtype(dtype)
        roles = ColumnRoles(target, weight, tuple(drop), kind, n_features, zero_based)
    except TypeError as cause:
        raise ValueError(f"dtype: expected that of numbers, such as 'float32', got {dtype!r}") from cause
    if roles.dtype is not None and roles.dtype.kind not in "fiu":
        raise ValueError(f"dtype: expected that of numbers, such as 'float32', got {dtype!r}")
    return roles


def _text_options(format: Format, given: Mapping[str, Any]) -> TextOptions:
    """How text is to be read. Raises ValueError for options that the format has not."""
    defaults = {field.name: field.default for field in fields(TextOptions)}
    defaults |= {"dtypes": None, "dates": None}
    values = {
        name: tuple(value) if name in ("names", "na_values") and value is not None else value
        for name, value in given.items()
    }
    for name in ("names", "na_values"):
        if isinstance(given[name], str):
            raise ValueError(
                f"{name}: expected a sequence of str, got {given[name]!r}; pass [{given[name]!r}]"
            )
    other = [name for name, value in values.items() if value != defaults[name]]
    if other and not format.text:
        raise ValueError(f"{other[0]}: expected none for {format.name} files, got {given[other[0]]!r}")
    return TextOptions(**(values | {name: values[name] or {} for name in ("dtypes", "dates")}))
