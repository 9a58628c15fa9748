"""Paths as they hold in every process: absolute, or URLs as they are.

A worker, a checkpoint or a model that is opened again has another working directory than the process in which
a path was passed. Hence `locate` is called where paths come in, and nowhere is a relative one kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

_FILE_URL = re.compile(r"(?:file|local)://(?:localhost(?=/))?(.+)|file:(/.*)", re.DOTALL)

_URL_IN_PATH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/[^/]")
"""What is left of a URL in a pathlib.Path: the scheme, which for drives is one letter, and one slash."""


def locate(path: str | os.PathLike[str], name: str = "path") -> str:
    """The absolute path of a local file or folder, or a URL as it is; `name` is that of the argument.

    ``~`` is the home directory, and a URL of a file (``file:///data/a%20b``) a local path. Symbolic links and
    ``..`` are left to the file system. URLs of other kinds, and of several (``simplecache::s3://...``), are
    not touched.

    Raises TypeError for what is no path, ValueError for an empty one and for a URL in a pathlib.Path.

    >>> locate("s3://bucket/rows.zarr"), locate("/data/./rows.zarr/"), locate("file:///data/a%20b.zarr")
    ('s3://bucket/rows.zarr', '/data/rows.zarr', '/data/a b.zarr')
    """
    location = os.fspath(path)
    if not isinstance(location, str):
        raise TypeError(f"{name}: expected str or PathLike of str, got {type(location).__name__}")
    if not location:
        raise ValueError(f"{name}: expected a path or a URL, got ''")
    if isinstance(path, Path) and _URL_IN_PATH.match(location):
        raise ValueError(
            f"{name}: expected a URL as text, got {path!r}: pathlib drops one of its slashes; pass a str"
        )
    file = _FILE_URL.fullmatch(location)
    if file is not None:
        location = url2pathname(file[1] or file[2])
    return location if is_url(location) else str(Path(os.path.expanduser(location)).absolute())


def locate_on_disk(path: str | os.PathLike[str], name: str = "path") -> Path:
    """The absolute path of a file that grows line by line. Raises ValueError for a URL: object stores have
    whole objects only.

    >>> locate_on_disk("s3://bucket/fit.csv")
    Traceback (most recent call last):
    ValueError: path: expected a path on disk, as lines are added to the file, got a URL; ...
    """
    location = locate(path, name)
    if is_url(location):
        raise ValueError(
            f"{name}: expected a path on disk, as lines are added to the file, got a URL; write it to disk "
            "and copy it there, or take history_, which a model file has"
        )
    return Path(location)


def shorten(location: str) -> str:
    """A located path as it is shown: relative to the working directory where it lies below it."""
    try:
        return location if is_url(location) else str(Path(location).relative_to(Path.cwd()))
    except (ValueError, OSError):  # elsewhere, or there is no working directory any more
        return location


def is_url(location: str) -> bool:
    """Whether a located path is a URL, such as that of an object store."""
    return "://" in location


def check_options(location: str, storage_options: Mapping[str, Any] | None) -> None:
    """Raise ValueError for options of an object store where a located path is on disk."""
    if storage_options and not is_url(location):
        raise ValueError(
            f"storage_options: expected None for a path on disk, {location}, got options for "
            f"{', '.join(map(str, storage_options))}; pass a URL such as 's3://bucket/rows.zarr', or none"
        )
