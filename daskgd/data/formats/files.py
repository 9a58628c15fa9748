"""Files that hold rows, on disk or at URLs: found by paths, folders and patterns, and opened anywhere.

Fsspec lists and opens what is at URLs. Knows nothing of what is in files.
"""

from __future__ import annotations

import glob
import io
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any, BinaryIO, TypeAlias, cast
from urllib.parse import unquote

from dask.utils import natural_sort_key
from fsspec import url_to_fs

from daskgd.storage.paths import is_url, locate
from daskgd.storage.redaction import redacted, redacted_message

Paths: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

MISSING_PARTITION = "__HIVE_DEFAULT_PARTITION__"
"""What stands for a missing value in the names of folders."""

REQUEST_BYTES = 8 << 20
"""Bytes of a file at a URL that are asked for at a time: fsspec holds one or two such blocks."""

READ_BYTES = 1 << 18
"""Bytes that are copied from there at a time."""

FOLDER = -1
"""Stands for the size of a folder."""

_MAGIC = re.compile(r"[*?[]")


@dataclass(frozen=True, slots=True, repr=False)
class File:
    """A file on disk or at a URL, which any process that has it can open.

    `str` of it is the path for messages, without secrets, and so is `repr`.

    Attributes
    ----------
    path : str
        An absolute path, or a URL, which may hold secrets.
    size : int
        Bytes; of a URL 0 where the server does not say.
    partitions : dict of str to str or None
        Columns that the names of folders hold, as ``year=2013`` does, and their value in this file as text;
        None where it is missing.
    """

    path: str
    size: int
    partitions: dict[str, str | None] = field(default_factory=dict)
    fs: Any = None
    key: str = ""

    @property
    def name(self) -> str:
        """The last part of the path, by whose ending the format is known; without what follows a ``?``."""
        return str(self).replace(os.sep, "/").rpartition("/")[2]

    def open(self) -> BinaryIO:
        """The file, open to be read. What it raises has no secrets and names the file."""
        if self.fs is None:
            return open(self.path, "rb")
        with _redacted_errors(self.path, self.fs.storage_options):
            file = self.fs.open(self.key, "rb", block_size=REQUEST_BYTES)
        return cast("BinaryIO", io.BufferedReader(_RemoteFile(file, self), READ_BYTES))

    def __str__(self) -> str:
        return redacted(self.path)

    def __repr__(self) -> str:
        partitions = f", {self.partitions}" if self.partitions else ""
        return f"File({str(self)!r}, {self.size} bytes{partitions})"


class Files(list[File]):
    """Files in order, and how many others of their folders were skipped: "hidden", "empty", "other"."""

    def __init__(self, files: Sequence[File], skipped: Counter[str]) -> None:
        super().__init__(files)
        self.skipped = skipped


def find_files(
    paths: Paths, suffixes: Sequence[str], storage_options: Mapping[str, Any] | None = None
) -> Files:
    """The files that paths, folders, patterns and URLs name, in their order.

    Within a folder, which is read with all below it, or a pattern the order is the natural one, that of dask:
    ``part.2`` before ``part.10``. Skipped there are files and folders whose names begin with ``_`` or ``.``,
    unless the pattern has such a name, files of no bytes, and those with other endings. The names of folders
    such as ``year=2013`` are columns, as Hive writes them, where they lie below the deepest folder that holds
    all that was named: the year is one in ``"sales"``, ``"sales/*/*.csv"`` and
    ``["sales/year=2013/a.csv", "sales/year=2014/a.csv"]``, but not in ``"sales/year=2013"``.

    Parameters
    ----------
    paths : path or URL, or sequence of them
        ``~`` is the home directory. ``*``, ``?`` and ``[abc]`` stand for characters of a name, ``**`` for any
        folders, unless a file has that very name. Servers of ``http`` list nothing: they take URLs of files.
    suffixes : sequence of str
        Endings of the files that are wanted in folders and patterns, such as ``".csv"`` and ``".csv.gz"``,
        in lower case; none for all files.
    storage_options : mapping, optional
        For fsspec, of paths that are URLs.

    Returns
    -------
    Files : a list of :class:`File` with the attribute `skipped`, a Counter

    Raises
    ------
    FileNotFoundError : nothing is there, or nothing with one of the endings; with those that were found.
    ValueError : a file that is named by itself has no bytes; folders such as ``year=2013`` are not alike.
    OSError, ImportError : what is at a URL cannot be listed, or the library for it is missing.

    >>> import tempfile
    >>> from pathlib import Path
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("part.10.csv", "part.2.csv", "_SUCCESS"):
    ...     _ = (folder / name).write_text("x")
    >>> files = find_files(folder, [".csv"])
    >>> [file.name for file in files], files.skipped["hidden"]
    (['part.2.csv', 'part.10.csv'], 1)
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not given:
        raise ValueError("paths: expected at least one file, got none")
    found: list[File] = []
    roots: list[list[str]] = []
    skipped: Counter[str] = Counter()
    for path in given:
        search = _Search(locate(path, "paths"), suffixes, storage_options)
        found += search.run()
        skipped.update(search.skipped)
        roots.append(_split(search.place.file(search.root, 0)))
    depth = len(list(takewhile(lambda names: len(set(names)) == 1, zip(*roots, strict=False))))
    return Files(_with_partitions(found, depth), skipped)


# -- looking --------------------------------------------------------------------------------------


class _Search:
    """What one path stands for: `run` returns the files; `root` is the folder in which it has looked."""

    def __init__(self, location: str, suffixes: Sequence[str], options: Mapping[str, Any] | None) -> None:
        self.place: _Disk | _Remote = _Remote(location, options) if is_url(location) else _Disk(location)
        self.shown, self.suffixes = redacted(location), tuple(suffixes)
        self.skipped: Counter[str] = Counter()
        self.root = ""

    def run(self) -> list[File]:
        place, key = self.place, self.place.key
        size = place.size(key)
        if size == FOLDER:
            self.root = key
            return self._choose(place.below(key), with_hidden=False)
        if size is not None:
            self.root = os.path.dirname(key)
            if size == 0 and place.lists:
                raise ValueError(f"{self.shown}: expected rows, got an empty file; leave it out")
            return [place.file(key, size)]
        if not place.lists or not _MAGIC.search(key):
            more = "" if place.lists else "; name every file, folders and patterns are not looked up"
            raise FileNotFoundError(f"{self.shown}: no such file or directory{more}")
        self.root = place.fixed()
        with_hidden = any(map(_is_hidden, _parts(key[len(self.root) :])))
        return self._choose(self._matches(), with_hidden)

    def _matches(self) -> Iterator[tuple[str, int]]:
        """The files that match the pattern, and all below folders that do."""
        for key, size in self.place.match(self.root):
            if size == FOLDER:
                yield from self.place.below(key)
            else:
                yield key, size

    def _choose(self, entries: Iterable[tuple[str, int]], with_hidden: bool) -> list[File]:
        """Those of the files in folders that are wanted. Raises FileNotFoundError where none is."""
        wanted: dict[str, int] = {}
        endings: Counter[str] = Counter()
        for key, size in dict(entries).items():
            parts = _parts(key[len(self.root) :])
            name = parts[-1].lower()
            if not with_hidden and any(map(_is_hidden, parts)):
                self.skipped["hidden"] += 1
            elif size == 0:
                self.skipped["empty"] += 1
            elif self.suffixes and not name.endswith(self.suffixes):
                self.skipped["other"] += 1
                endings[os.path.splitext(name)[1] or "none"] += 1
            else:
                wanted[key] = size
        if not wanted:
            raise FileNotFoundError(self._describe_nothing(endings))
        return [self.place.file(key, wanted[key]) for key in sorted(wanted, key=natural_sort_key)]

    def _describe_nothing(self, endings: Counter[str]) -> str:
        """What an error says where no file is wanted."""
        looked = f"files that end in {', '.join(self.suffixes)}" if self.suffixes else "files with rows"
        if endings:
            found = ", ".join(f"{ending} ({n})" for ending, n in endings.most_common(5))
            return f"{self.shown}: expected {looked}, found only other endings: {found}"
        skipped = ", ".join(f"{n} {what}" for what, n in self.skipped.items())
        return f"{self.shown}: expected {looked}, found none{skipped and f' but {skipped}, all skipped'}"


def _is_hidden(name: str) -> bool:
    """Whether a name is that of a hidden, a temporary or a side file; ``_year=2013`` holds a column."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _parts(path: str) -> list[str]:
    return path.replace(os.sep, "/").split("/")


class _Disk:
    """What lies on disk, by its absolute path."""

    lists = True

    def __init__(self, key: str) -> None:
        self.key = key

    def size(self, key: str) -> int | None:
        """Bytes, `FOLDER`, or None for what is not there."""
        try:
            found = os.stat(key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISDIR(found.st_mode):
            return FOLDER
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{key}: expected a file or a folder, got a pipe or a device")
        return found.st_size

    def below(self, folder: str) -> Iterator[tuple[str, int]]:
        """All files below a folder; links are followed, hidden folders are not looked into."""

        def fail(error: OSError) -> None:
            raise error

        for above, folders, names in os.walk(folder, onerror=fail, followlinks=True):
            yield from ((os.path.join(above, name), 0) for name in folders if _is_hidden(name))
            folders[:] = [name for name in folders if not _is_hidden(name) and not _leads_up(above, name)]
            for name in names:
                path = os.path.join(above, name)
                yield path, 0 if _is_hidden(name) else os.stat(path).st_size

    def fixed(self) -> str:
        """The deepest folder that is there by the very name with which the pattern begins."""
        parts = self.key.split(os.sep)
        n = 1
        while n < len(parts) - 1 and os.path.isdir(os.sep.join(parts[: n + 1])):
            n += 1
        return os.path.join(os.sep.join(parts[:n]), "")

    def match(self, root: str) -> Iterator[tuple[str, int]]:
        pattern = self.key[len(root) :]
        for found in glob.iglob(pattern, root_dir=root, recursive=True, include_hidden=True):
            path = os.path.join(root, found)
            yield path, FOLDER if os.path.isdir(path) else os.stat(path).st_size

    def file(self, key: str, size: int) -> File:
        return File(key, size)


def _leads_up(above: str, name: str) -> bool:
    """Whether a folder is a link to one that holds it: walking into it would never end."""
    below = os.path.realpath(os.path.join(above, name))
    return os.path.join(os.path.realpath(above), "").startswith(os.path.join(below, ""))


class _Remote:
    """What lies in a file system of fsspec's, by its key there."""

    def __init__(self, location: str, options: Mapping[str, Any] | None) -> None:
        self.location, self.options = location, options
        with _redacted_errors(location, options):
            self.fs, self.key = url_to_fs(location, **(options or {}))
            self.fs.invalidate_cache()
        self.lists = "https" not in self.fs.protocol

    def size(self, key: str) -> int | None:
        """Bytes, 0 where the server does not say, `FOLDER`, or None for what is not there."""
        with _redacted_errors(self.location, self.options):
            try:
                return self._size(self.fs.info(key))
            except FileNotFoundError:
                return None

    def _size(self, info: Mapping[str, Any]) -> int:
        return FOLDER if info["type"] == "directory" and self.lists else info.get("size") or 0

    def below(self, folder: str) -> list[tuple[str, int]]:
        """All files below a folder."""
        with _redacted_errors(self.location, self.options):
            found = self.fs.find(folder, detail=True)
            return [(key, self._size(info)) for key, info in found.items()]

    def fixed(self) -> str:
        """The deepest folder whose name the pattern says."""
        start = _MAGIC.split(self.key, maxsplit=1)[0]
        return start[: start.rfind("/") + 1]

    def match(self, root: str) -> list[tuple[str, int]]:
        with _redacted_errors(self.location, self.options):
            found = self.fs.glob(self.key, detail=True)
            return [(key, self._size(info)) for key, info in found.items()]

    def file(self, key: str, size: int) -> File:
        return File(self.fs.unstrip_protocol(key), size, fs=self.fs, key=key)


# -- folders that hold a column -------------------------------------------------------------------


def _split(file: File) -> list[str]:
    return _parts(str(file).rstrip("/"))


def _with_partitions(files: Sequence[File], depth: int) -> list[File]:
    """The files with the columns of their folders from the `depth`-th on.

    Raises ValueError unless all have the same columns, once each.
    """
    out: list[File] = []
    for file in files:
        folders = [folder.partition("=") for folder in _split(file)[depth:-1]]
        pairs = [(unquote(name), unquote(value)) for name, equals, value in folders if name and equals]
        columns = {name: None if value == MISSING_PARTITION else value for name, value in pairs}
        if len(columns) < len(pairs):
            raise ValueError(f"{file}: expected each column once among the folders, got {pairs}")
        if out and columns.keys() != out[0].partitions.keys():
            raise ValueError(
                f"{file}: expected the columns that the folders of {out[0]} hold, "
                f"{', '.join(out[0].partitions) or 'none'}, got {', '.join(columns) or 'none'}; leave "
                "one out, or move it"
            )
        out.append(replace(file, partitions=columns))
    return out


# -- reading --------------------------------------------------------------------------------------


@contextmanager
def _redacted_errors(location: str, options: Any) -> Iterator[None]:
    """What file systems raise becomes an error that names the URL and has no secrets."""
    try:
        yield
    except Exception as error:
        kinds = (FileNotFoundError, PermissionError, ImportError, ValueError)
        kind = next((kind for kind in kinds if isinstance(error, kind)), OSError)
        raise kind(f"{redacted(location)}: cannot be read: {redacted_message(error, options)}") from None


class _RemoteFile(io.RawIOBase):
    """A file of fsspec's whose errors name it and have no secrets."""

    def __init__(self, file: Any, of: File) -> None:
        super().__init__()
        self._file, self._of = file, of

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def readinto(self, buffer: Any) -> int:
        with _redacted_errors(self._of.path, self._of.fs.storage_options):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        with _redacted_errors(self._of.path, self._of.fs.storage_options):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
