"""Rows that tasks make become a dataset: one graph of tasks, which make rows and write whole chunks of them.

The same bytes as by the routes of `writing`, whatever runs the tasks: threads of this process, or the workers
of a cluster. Labels are codes of their own in each part until all labels are known; then the codes, which are
small, are written anew.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import dask
import numpy as np

from daskgd._compat.distributed import compute_each
from daskgd.storage.checksums import ZarrArray
from daskgd.storage.commit import commit, write_rows
from daskgd.storage.replacing import new_group
from daskgd.storage.writing import Chunking

Rows = dict[str, np.ndarray]
"""Rows of each array by its name."""

Part = Callable[[], tuple[Rows, "list[Any] | None"]]
"""Makes rows, and what the codes in ``y`` stand for, None where they are no codes."""


def write_parts(
    path: str | os.PathLike[str],
    parts: Sequence[Part],
    n_rows: Sequence[int],
    like: Mapping[str, np.ndarray],
    *,
    feature_names: Sequence[str] | None,
    chunking: Chunking,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a dataset of rows that tasks make, each of a part of them.

    A task writes the chunks that lie in its part, and hands on the rows before and after these, which other
    tasks join: hardly anything travels between workers.

    Parameters
    ----------
    path : as for :func:`daskgd.write_dataset`.
    parts : sequence of callable
        In the order of the rows; pickled into tasks.
    n_rows : sequence of int
        The rows that each part makes.
    like : mapping of str to array
        Arrays of no rows with the dtype and the width of each.
    feature_names : sequence of str or None
    chunking : how rows are cut into chunks and stored.
    overwrite, storage_options : as for :func:`daskgd.write_dataset`.
    progress : callable, optional
        Called as ``progress(done, total)`` in rows, after each task.
    """
    bounds = [0, *accumulate(n_rows)]
    with new_group(path, overwrite, storage_options) as group:
        rows, unit = chunking.rows(like["X"])
        targets = {
            name: chunking.create(group, name, array, rows, bounds[-1]) for name, array in like.items()
        }
        for name, target in targets.items():
            target.resize((bounds[-1], *like[name].shape[1:]))
        labels = _write_all(targets, parts, bounds, unit, chunking.codec, progress)
        classes = None
        if any(one is not None for one in labels):
            classes = sorted(set().union(*labels))
            _write_codes(targets["y"], labels, bounds, classes, unit)
        commit(group, None if feature_names is None else list(feature_names), classes)


def _write_all(
    targets: Mapping[str, ZarrArray],
    parts: Sequence[Part],
    bounds: Sequence[int],
    unit: int,
    codec: str,
    progress: Callable[[int, int], None] | None,
) -> list[Any]:
    """Write all rows, in one graph of tasks, and return what the codes of each part stand for."""
    total, done = bounds[-1], 0
    write, join, get = (dask.delayed(f, pure=False) for f in (_write_part, _join_edges, getattr))
    edges = [_edges(start, stop, unit, total) for start, stop in pairwise(bounds)]
    written = [
        write(targets, part, start, edge, codec)
        for part, start, edge in zip(parts, bounds, edges, strict=False)
    ]
    pieces: defaultdict[int, list[Any]] = defaultdict(list)  # by the unit that they are joined to
    for one, start, stop, (first, last) in zip(written, bounds, bounds[1:], edges, strict=False):
        if start < first:
            pieces[start // unit].append(get(one, "head"))
        if last < stop:
            pieces[last // unit].append(get(one, "tail"))
    joined = [join(targets, i * unit, found, codec) for i, found in pieces.items()]

    def note(result: Any) -> None:
        nonlocal done
        n = result if isinstance(result, int) else result.n_written
        if progress is not None and n:
            done += n
            progress(done, total)

    counts = [dask.delayed(_without_edges, pure=False)(one) for one in written]
    return [found.labels for found in compute_each([*counts, *joined], note)[: len(counts)]]


@dataclass(frozen=True, slots=True)
class _Written:
    """What a task has done of its part: the rows that it wrote, those before and after, and its labels."""

    n_written: int
    labels: list[Any] | None
    head: Rows
    tail: Rows


def _edges(start: int, stop: int, unit: int, total: int) -> tuple[int, int]:
    """The first and last + 1 of the rows from `start` to `stop` that are whole units, or end with the array.

    >>> _edges(0, 10, 4, 30), _edges(10, 25, 4, 30), _edges(25, 27, 4, 30), _edges(27, 30, 4, 30)
    ((0, 8), (12, 24), (27, 27), (28, 30))
    """
    first = min(-(-start // unit) * unit, stop)
    last = stop if stop == total else stop // unit * unit
    return first, max(first, last)


def _write_part(
    targets: Mapping[str, ZarrArray], part: Part, start: int, edges: tuple[int, int], codec: str
) -> _Written:
    """Make the rows from `start` on, and write those between the edges."""
    rows, labels = part()
    first, last = edges[0] - start, edges[1] - start
    if first < last:
        for name, target in targets.items():
            write_rows(target, edges[0], rows[name][first:last], codec)
    head = {name: array[:first].copy() for name, array in rows.items()}
    tail = {name: array[last:].copy() for name, array in rows.items()}
    return _Written(last - first, labels, head, tail)


def _without_edges(written: _Written) -> _Written:
    return replace(written, head={}, tail={})


def _join_edges(targets: Mapping[str, ZarrArray], start: int, pieces: Sequence[Rows], codec: str) -> int:
    """Write the rows from `start` on, of several parts, and return how many these are."""
    for name, target in targets.items():
        write_rows(target, start, np.concatenate([piece[name] for piece in pieces]), codec)
    return sum(len(piece["X"]) for piece in pieces)


def _write_codes(
    target: ZarrArray,
    labels: Sequence[Sequence[Any]],
    bounds: Sequence[int],
    classes: Sequence[Any],
    unit: int,
) -> None:
    """Write codes of all classes in place of those that each part has of its own labels."""
    index = {label: i for i, label in enumerate(classes)}
    tables = [np.array([index[label] for label in one], np.int32) for one in labels]
    if all(np.array_equal(table, np.arange(len(table))) for table in tables):
        return
    of_part = np.asarray(bounds[1:])
    for start in range(0, bounds[-1], unit):
        stop = min(start + unit, bounds[-1])
        codes = np.asarray(target[start:stop])
        first, last = np.searchsorted(of_part, [start, stop - 1], side="right").tolist()
        for i in range(first, last + 1):
            a, b = max(bounds[i] - start, 0), min(bounds[i + 1], stop) - start
            codes[a:b] = tables[i][codes[a:b]]
        target[start:stop] = codes
