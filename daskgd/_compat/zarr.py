"""What zarr does not promise: its event loop, the pipeline of an array, keys of chunks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import zarr
from zarr.core.sync import _get_loop, sync
from zarr.storage import StorePath

T = TypeVar("T")


def wait_for(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine of a zarr store, run in zarr's event loop.

    Public methods of stores are coroutines, and zarr has no public way to await one from synchronous code. A
    loop of our own would not do: the connections of a remote store belong to zarr's.
    """
    return sync(coroutine)


def begin(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """The result that a coroutine will have, run in the same event loop."""
    return asyncio.run_coroutine_threadsafe(coroutine, _get_loop())


def pipeline_name(array: zarr.Array[Any]) -> str:
    """The module and class of the codec pipeline that decodes an array, as zarr's configuration writes it.

    >>> pipeline_name(zarr.zeros(3)) == default_pipeline_name()
    True
    """
    kind = type(array.async_array.codec_pipeline)
    return f"{kind.__module__}.{kind.__qualname__}"


def default_pipeline_name() -> str:
    """The codec pipeline that zarr has of itself, whatever its configuration says now."""
    return str(zarr.config.defaults[0]["codec_pipeline"]["path"])


def reopen(array: zarr.Array[Any], place: StorePath | None = None) -> zarr.Array[Any]:
    """The same array, by default at the same place, with the codec pipeline that zarr's configuration names
    at this moment.

    zarr knows a pipeline of an array only as what its configuration says while the array is made, and opening
    it again by its path would read its metadata again.
    """
    inner: Any = array.async_array
    config = inner.config if hasattr(inner, "config") else inner._config  # its name until zarr 3.1.5
    return zarr.Array(zarr.AsyncArray(array.metadata, place or array.store_path, config))


def chunk_key(array: zarr.Array[Any], index: tuple[int, ...]) -> str:
    """The name of a stored chunk (of a shard, if sharded) below its array.

    >>> chunk_key(zarr.zeros((4, 2), chunks=(2, 2)), (1, 0))
    'c/1/0'
    """
    return array.metadata.encode_chunk_key(index)
