"""Stores at URLs: a process has one file system of a kind and its options, and closes it as it ends.

Of its own, fsspec makes one for each thread, and closes none of those that zarr asks for. Errors and names
have no secrets, wherever they are raised: workers log them, too. What is in a store is for `reading`.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from fsspec import get_filesystem_class
from zarr.abc.buffer import Buffer
from zarr.abc.store import ByteRequest
from zarr.storage import FsspecStore, StorePath

from daskgd._compat.fsspec import bare, close_session, kind_of, make_file_system, name_of
from daskgd._compat.zarr import wait_for
from daskgd.storage.redaction import redacted, redacted_error
from daskgd.storage.requests import Patience, answered

CONNECTIONS = 64
"""Connections of a process to an S3 store, at most."""

CLOSING_SECONDS = 1.0
"""Most that a process waits at its end for a connection to close."""


class RemoteStore(FsspecStore):
    """A store at a URL. It pickles as its address and options, and shares connections where it arrives."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, _address_of(self)

    def __repr__(self) -> str:
        return f"<RemoteStore: {self.locate()}>"

    __str__ = __repr__

    def locate(self, key: str = "") -> str:
        """The URL of an object, or of the store, without secrets."""
        return redacted(str(bare(self.fs).unstrip_protocol("/".join(filter(None, (self.path, key))))))

    def redact(self, error: BaseException, where: str = "") -> BaseException:
        return redacted_error(error, bare(self.fs).storage_options, where)

    async def get(self, key: str, prototype: Any, byte_range: ByteRequest | None = None) -> Buffer | None:
        ask = partial(super().get, key, prototype, byte_range)
        try:
            return await answered(ask, _patience.setdefault(self.fs, Patience()))
        except Exception as error:
            raise self.redact(error) from None

    async def set(self, key: str, value: Buffer, byte_range: tuple[int, int] | None = None) -> None:
        try:
            await super().set(key, value, byte_range)
        except Exception as error:
            raise self.redact(error, self.locate(key)) from None


def _redacting(method: Callable[..., Any], named: bool) -> Callable[..., Any]:
    """A method of stores whose errors have no secrets, and name the store unless whoever reads will."""

    async def call(self: RemoteStore, *args: Any, **kwargs: Any) -> Any:
        try:
            return await method(self, *args, **kwargs)
        except Exception as error:
            raise self.redact(error, self.locate() if named else "") from None

    return call


def _redacting_all(method: Callable[..., Any]) -> Callable[..., Any]:
    """The same for one that yields."""

    async def call(self: RemoteStore, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        try:
            async for one in method(self, *args, **kwargs):
                yield one
        except Exception as error:
            raise self.redact(error, self.locate()) from None

    return call


RemoteStore.get_partial_values = _redacting(FsspecStore.get_partial_values, named=False)  # type: ignore[method-assign]
for _name in ("exists", "delete", "delete_dir", "clear", "getsize"):
    setattr(RemoteStore, _name, _redacting(getattr(FsspecStore, _name), named=True))
for _name in ("list", "list_dir", "list_prefix"):
    setattr(RemoteStore, _name, _redacting_all(getattr(FsspecStore, _name)))


def open_remote(url: str, options: Mapping[str, Any] | None = None, read_only: bool = False) -> RemoteStore:
    """The store at a URL that fsspec knows, with the connections of this process."""
    try:
        store = FsspecStore.from_url(url, _connected(url, options or {}), read_only=read_only)
        return _arrive(*_address_of(store))
    except Exception as error:  # the library is missing, or does not take the options
        raise redacted_error(error, options, redacted(url)) from None


def _connected(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with as many connections as there may be requests at once: botocore, of s3fs, has 10."""
    scheme = urlsplit(url).scheme
    if scheme not in ("s3", "s3a") or not get_filesystem_class(scheme).__module__.startswith("s3fs."):
        return dict(options)
    given = options.get("config_kwargs") or {}
    return {**options, "config_kwargs": {"max_pool_connections": CONNECTIONS, **given}}


def as_remote(store: FsspecStore) -> RemoteStore:
    """A store that others have opened, and will close, as one that shares connections where it arrives."""
    if isinstance(store, RemoteStore):
        return store
    return RemoteStore(store.fs, store.read_only, store.path, store.allowed_exceptions)


def as_plain(place: StorePath) -> StorePath:
    """The same place in a store of zarr's own class, by whose name zarrs knows it."""
    store = place.store
    if not isinstance(store, RemoteStore):
        return place
    return StorePath(FsspecStore(store.fs, store.read_only, store.path, store.allowed_exceptions), place.path)


def _address_of(store: FsspecStore) -> tuple[Any, ...]:
    """All that `_arrive` needs to open a store in another process."""
    fs = bare(store.fs)
    options = {**fs.storage_options, "asynchronous": True} if fs.async_impl else fs.storage_options
    return *kind_of(fs), options, store.path, store.read_only, store.allowed_exceptions


def _arrive(
    kind: type, args: tuple[Any, ...], options: dict[str, Any], path: str, read_only: bool, allowed: Any
) -> RemoteStore:
    return RemoteStore(_share_file_system(kind, args, options), read_only, path, allowed)


# -- file systems of this process -----------------------------------------------------------------

_patience: WeakKeyDictionary[Any, Patience] = WeakKeyDictionary()
"""By file system: how long its store takes to answer."""

_shared: dict[tuple[int, str], Any] = {}
"""File systems by process, as a fork inherits those of its parent, and by kind and options."""

_lock = threading.Lock()


def _share_file_system(kind: type, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    name = os.getpid(), name_of(kind, args, options)
    with _lock:
        if name not in _shared:
            if not _shared:
                atexit.register(close_connections)  # later than zarr has, and so before its event loop ends
            _shared[name] = make_file_system(kind, args, options)
        return _shared[name]


def close_connections() -> None:
    """Close what this process has opened: else aiohttp complains of it as the process ends."""
    with _lock:
        ours = [_shared.pop(name) for name in list(_shared) if name[0] == os.getpid()]
    for fs in ours:
        with suppress(Exception):  # the other side may be gone
            wait_for(asyncio.wait_for(close_session(fs), CLOSING_SECONDS))
