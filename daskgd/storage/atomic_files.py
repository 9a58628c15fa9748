"""Files in a folder, on disk or in an object store, each of them written whole or not at all.

Fsspec does the work, but for what makes a local file safe: a name of its own until it has reached the disk.
Knows nothing of what is in them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import fsspec

from daskgd.storage.paths import check_options, is_url, locate
from daskgd.storage.redaction import redacted, redacted_error

UNFINISHED = ".daskgd-", ".tmp"
"""How the names of files begin and end that are being written, or were when a process was killed."""


class AtomicFiles:
    """Files by name, each written whole or not at all: in a directory, or below a URL."""

    def __init__(
        self, path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None
    ) -> None:
        self.location, self.options = locate(path), storage_options
        check_options(self.location, storage_options)
        self.local = not is_url(self.location)
        with self._redacted_errors():
            self.fs, self.root = fsspec.core.url_to_fs(self.location, **(storage_options or {}))

    def names(self) -> list[str]:
        """The names of the files that are there; none where there is no folder."""
        self.fs.invalidate_cache()
        try:
            with self._redacted_errors():
                return [name.rpartition("/")[2] for name in self.fs.ls(self.root, detail=False)]
        except FileNotFoundError:
            return []

    def read(self, name: str) -> bytes:
        """The bytes of a file. Raises FileNotFoundError."""
        with self._redacted_errors(name):
            return self.fs.cat_file(f"{self.root}/{name}")

    def write(self, name: str, data: bytes) -> None:
        """Write a file: by one request to an object store; on disk, by renaming one that has reached it."""
        if not self.local:
            with self._redacted_errors(name):
                self.fs.pipe_file(f"{self.root}/{name}", data)
            return
        os.makedirs(self.root, exist_ok=True)
        unfinished = f"{self.root}/{UNFINISHED[0]}{uuid4().hex}{UNFINISHED[1]}"
        try:
            with open(unfinished, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, f"{self.root}/{name}")
        except BaseException:
            with suppress(OSError):
                os.unlink(unfinished)
            raise
        if hasattr(os, "O_DIRECTORY"):
            folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files as far as possible: what cannot be removed stays."""
        for name in names:
            with suppress(Exception):
                self.fs.rm_file(f"{self.root}/{name}")

    @contextmanager
    def _redacted_errors(self, name: str = "") -> Iterator[None]:
        """What is raised at a URL names the file, and has none of the secrets of the URL and its options."""
        try:
            yield
        except Exception as error:
            if self.local:
                raise
            where = redacted("/".join(filter(None, (self.location, name))))
            raise redacted_error(error, self.options, where) from None
