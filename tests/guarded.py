"""A file system that lets in only processes with a key in their environment, as object stores do."""

from __future__ import annotations

import os
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

KEY = "GUARDED_KEY"


class NoCredentialsError(Exception):
    """What botocore raises where it finds none."""


class GuardedFileSystem(LocalFileSystem):
    """Local files, at ``guarded://``."""

    protocol = "guarded"
    error: type[Exception] = PermissionError

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return LocalFileSystem._strip_protocol(str(path).removeprefix("guarded://"))

    def unstrip_protocol(self, name: str) -> str:
        return f"guarded://{self._strip_protocol(name)}"

    def cat_file(self, path: str, *args: Any, **kwargs: Any) -> Any:
        if KEY not in os.environ:
            raise self.error(f"Access Denied: {path}")
        return super().cat_file(path, *args, **kwargs)


class UnknownUserFileSystem(GuardedFileSystem):
    """The same, where the client finds no credentials at all."""

    protocol = "unknown-user"
    error = NoCredentialsError

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return LocalFileSystem._strip_protocol(str(path).removeprefix("unknown-user://"))

    def unstrip_protocol(self, name: str) -> str:
        return f"unknown-user://{self._strip_protocol(name)}"


for kind in (GuardedFileSystem, UnknownUserFileSystem):
    fsspec.register_implementation(str(kind.protocol), kind, clobber=True)
