"""What fsspec does not promise: file systems that are asynchronous, and where they keep their session."""

from __future__ import annotations

from typing import Any

from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.utils import tokenize


def bare(fs: Any) -> Any:
    """A file system without the wrapper that makes a synchronous one asynchronous."""
    return fs.sync_fs if isinstance(fs, AsyncFileSystemWrapper) else fs


def kind_of(fs: Any) -> tuple[type, tuple[Any, ...]]:
    """The class of a file system and its arguments, as they are known in other processes.

    Classes that obstore registers are made while a process runs; the one below them takes the protocol.
    """
    kind, base = type(fs), type(fs).__base__
    if base is not None and kind.__module__ == base.__module__ == "obstore.fsspec":
        return base, (fs.protocol, *fs.storage_args)
    return kind, fs.storage_args


def make_file_system(kind: type, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """A new asynchronous file system, whatever fsspec has cached; a synchronous one comes wrapped."""
    fs = kind(*args, skip_instance_cache=True, **options)
    return fs if fs.async_impl else AsyncFileSystemWrapper(fs, asynchronous=True)


def name_of(kind: type, args: tuple[Any, ...], options: dict[str, Any]) -> str:
    """A digest that is the same for the same file system with the same options.

    >>> from fsspec.implementations.memory import MemoryFileSystem as Memory
    >>> name_of(Memory, (), {"key": 1}) == name_of(Memory, (), {"key": 1}) != name_of(Memory, (), {"key": 2})
    True
    """
    return str(tokenize(f"{kind.__module__}.{kind.__qualname__}", *args, **options))


async def close_session(fs: Any) -> None:
    """Close the session of an asynchronous file system, if it has begun one.

    Fsspec leaves that to whoever has made it, without a method that they have in common: those of HTTP, S3
    and Google Cloud Storage keep it under one of two names.
    """
    for name in ("_s3", "_session"):
        session = getattr(fs, name, None)
        if session is not None:
            await session.close()
