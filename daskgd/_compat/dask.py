"""What dask does not promise: tasks of a graph, what a graph reads, which scheduler is set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import distributed
import numpy as np
from dask._task_spec import List, Task, TaskRef
from dask.base import get_scheduler

__all__ = ["List", "Task", "TaskRef", "configured_scheduler", "meta_of", "plain_reads"]

# Task, TaskRef, List: graphs of tuples are public, but dask hashes and rewrites those again for every sweep.


def configured_scheduler() -> Any:
    """What dask would compute with now: a client, a ``get`` of this machine, or None.

    `dask.config` alone does not say it: a string there is a name, an executor there is wrapped, and where
    nothing is set the current client counts.
    """
    found = get_scheduler()
    owner = getattr(found, "__self__", None)  # the `get` of a client is one of its methods
    return owner if isinstance(owner, distributed.Client) else found


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
