"""A file system on disk whose URLs and options hold secrets, which all of its errors repeat.

It lies on disk so that the workers of a cluster see it. A file ``.broken`` in a folder names the operations
that fail below it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

SECRETS = "hunter2", "correct horse"
OPTIONS = {"key": "correct horse", "deep": {"er": ["correct horse battery"]}}


class Vault(LocalFileSystem):
    protocol = "vault"

    def __init__(self, key: str = "", deep: Any = None, **options: Any) -> None:
        super().__init__(auto_mkdir=True, **options)
        self.key = key

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        path = str(path).rpartition("://")[2].partition("?")[0].rpartition("@")[2]
        return super()._strip_protocol(path)

    def unstrip_protocol(self, name: str) -> str:
        return f"vault://me:hunter2@{self._strip_protocol(name)}?sig=hunter2"

    def info(self, path: Any, **kwargs: Any) -> Any:
        self._check("info", path)
        return super().info(path, **kwargs)

    def find(self, path: str, *args: Any, **kwargs: Any) -> Any:
        self._check("find", path)
        return super().find(path, *args, **kwargs)

    def _open(self, path: str, mode: str = "rb", *args: Any, **kwargs: Any) -> Any:
        self._check("open" if mode == "rb" else "write", path)
        if mode != "rb" and "/c/" in path:
            self._check("chunk", path)
        file = super()._open(path, mode, *args, **kwargs)
        file.f = _Breakable(file.f, self, path)
        return file

    def _check(self, what: str, path: Any) -> None:
        place = Path(self._strip_protocol(getattr(path, "path", path)))
        for folder in place.parents:
            if (folder / ".broken").exists() and what in (folder / ".broken").read_text().split():
                url = self.unstrip_protocol(str(place))
                raise PermissionError(f"{url}: may not {what} with {self.storage_options}")


class _Breakable:
    """An open file, reading of which may fail."""

    def __init__(self, file: Any, fs: Vault, path: str) -> None:
        self._file, self._fs, self._path = file, fs, path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, *args: Any) -> Any:
        self._fs._check("read", self._path)
        return self._file.read(*args)


def vault_at(folder: Path) -> str:
    """The URL of a folder in the vault."""
    fsspec.register_implementation("vault", Vault, clobber=True)
    return f"vault://me:hunter2@{folder.as_posix()}?sig=hunter2"


def break_vault(folder: Path, *what: str) -> None:
    """Let operations below a folder fail: "info", "find", "open", "read", "write", "chunk" (to write one)."""
    (folder / ".broken").write_text(" ".join(what))
