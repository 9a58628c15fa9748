"""What dask does not promise: tasks of a graph, what a graph reads, which scheduler is set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import getitem
from typing import Any
from uuid import uuid4

import distributed
import numpy as np
from dask._task_spec import Alias, DataNode, List, Task, TaskRef, convert_legacy_graph
from dask.base import get_scheduler
from dask.utils import key_split

__all__ = [
    "List",
    "Task",
    "TaskRef",
    "configured_scheduler",
    "example_rows",
    "is_only_read",
    "meta_of",
    "plain_reads",
    "unchanged_sources",
    "with_new_keys",
]

# Task, TaskRef, List: graphs of tuples are public, but dask hashes and rewrites those again for every sweep.


def configured_scheduler() -> Any:
    """What dask would compute with now: a client, a ``get`` of this machine, or None.

    `dask.config` alone does not say it: a string there is a name, an executor there is wrapped, and where
    nothing is set the current client counts.
    """
    found = get_scheduler()
    owner = getattr(found, "__self__", None)  # the `get` of a client is one of its methods
    return owner if isinstance(owner, distributed.Client) else found


def example_rows(frame: Any) -> Any:
    """Some rows of the types of a frame of dask, of none that it has."""
    return frame._meta_nonempty


def uses_cluster() -> bool:
    """Whether dask would compute on a cluster now."""
    return isinstance(configured_scheduler(), distributed.Client)


def meta_of(value: Any) -> Any:
    """An empty array of the kind that the chunks of a dask array are of; any other value itself."""
    return getattr(value, "_meta", value)


def plain_reads(x: Any) -> Iterator[tuple[Any, tuple[slice, ...], tuple[slice, ...]]] | None:
    """For each chunk of a dask array of known shape what it is read from, which part, and the chunk's place.

    None where chunks are more than such reads. Dask does not say publicly what a graph does, hence the names
    of its functions that read; a graph that is not recognised is only read more slowly.
    """
    from dask.array.core import getter, getter_inline, getter_nofancy, slices_from_chunks
    from dask.core import flatten

    graph: Any = getattr(x, "dask", {})
    # One layer of reads, before it perhaps one that holds what they read.
    if not 1 <= len(getattr(graph, "layers", ())) <= 2 or np.isnan(x.shape).any():
        return None
    found = []
    for key, place in zip(flatten(x.__dask_keys__()), slices_from_chunks(x.chunks), strict=True):
        task = graph[key]
        if getattr(task, "func", None) not in (getter, getter_inline, getter_nofancy):
            return None
        held, part = (getattr(argument, "value", argument) for argument in task.args[:2])
        held = graph.get(getattr(held, "key", None), held)
        found.append((getattr(held, "value", held), part, place))
    return iter(found)


def is_only_read(x: Any) -> bool:
    """Whether the first chunk of a dask array is read, or at hand, and not computed by any function."""
    from dask.array.core import getter, getter_inline, getter_nofancy
    from dask.core import flatten

    first = x.blocks[(0,) * x.ndim]
    tasks = convert_legacy_graph(dict(first.dask.cull(set(flatten(first.__dask_keys__())))))
    reads = (getter, getter_inline, getter_nofancy, getitem)
    return all(
        isinstance(task, Alias | DataNode) or getattr(task, "func", None) in reads for task in tasks.values()
    )


MOVES = {
    *("getitem", "getitem_variadic", "take", "rechunk-merge", "rechunk-split", "concatenate", "stack"),
    *("reshape", "transpose", "astype", "asarray", "array", "blocks", "shuffle"),
}
"""Beginnings of the names of layers that keep the numbers that they are given."""


def unchanged_sources(x: Any) -> Iterator[Any]:
    """What a dask array reads from and passes on with its numbers unchanged: in slices, in other chunks or
    dtypes, beside others. Where a graph is not recognised, nothing."""
    from dask.array.core import Array, getter, getter_inline, getter_nofancy

    if not isinstance(x, Array):
        return
    graph: Any = x.dask
    layers, dependencies = getattr(graph, "layers", {}), getattr(graph, "dependencies", {})
    waiting = [*x.__dask_layers__()]
    seen: set[Any] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in layers:
            continue
        seen.add(name)
        layer = layers[name]
        if getattr(getattr(layer, "task", None), "func", None) in (getter, getter_inline, getter_nofancy):
            held = getattr(layer.indices[0][0], "value", layer.indices[0][0])
            key = getattr(held, "key", None)
            yield layers[key][key] if key in layers else held
        elif key_split(name) in MOVES:
            waiting.extend(dependencies.get(name, ()))


def with_new_keys(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The same dask arrays by keys that no other graph has; what they share they still share.

    :func:`dask.graph_manipulation.clone` is to do this, and loses tasks of slices (2026.8).
    """
    from dask.array import Array

    token = uuid4().hex
    graph = convert_legacy_graph({key: task for a in arrays.values() for key, task in dict(a.dask).items()})
    names = {key: _with_token(key, token) for key in graph}
    tasks = {names[key]: task.substitute(names, key=names[key]) for key, task in graph.items()}
    return {
        name: Array(tasks, _with_token(array.name, token), array.chunks, meta=meta_of(array))
        for name, array in arrays.items()
    }


def _with_token(key: Any, token: str) -> Any:
    """A key of dask, the place of a chunk kept."""
    if isinstance(key, tuple):
        return (_with_token(key[0], token), *key[1:])
    return f"{key}-{token}"
