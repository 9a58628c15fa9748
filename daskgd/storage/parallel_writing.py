"""Rows that tasks make become a dataset: one graph of tasks, which make rows and write whole chunks of them.

The same bytes as by the routes of `writing`, whatever runs the tasks: threads of this process, or the workers
of a cluster. Labels and categories are codes of their own in each part until those of all parts are known,
which are then sorted; the codes, which are small, are written anew by a second round of tasks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate, pairwise
from typing import Any
from uuid import uuid4

import dask
import numpy as np
import zarr

from daskgd._compat.distributed import compute_each, n_threads
from daskgd._compat.zarr import wait_for
from daskgd.rows.dictionaries import Dictionaries
from daskgd.storage.categorical_writing import smallest_codes
from daskgd.storage.checksums import ZarrArray
from daskgd.storage.commit import commit, write_rows
from daskgd.storage.dictionaries import CODES, write_dictionaries
from daskgd.storage.members import CATEGORICAL_FORMAT, FORMAT
from daskgd.storage.replacing import Finish, new_group
from daskgd.storage.vocabulary import Labels, Vocabulary
from daskgd.storage.writing import Chunking

OWN_CODES = f"{CODES}.of-parts"
"""The array of the codes that parts have of their own categories, until all are known."""

RECODED_BYTES, TABLE_BYTES = 64 << 20, 8 << 20
"""Bytes of codes that a task writes anew, and of the tables by which a graph of such tasks does, about."""

WINDOW = 4
"""Parts that a thread may be ahead of those whose edges wait, about."""

Rows = dict[str, np.ndarray]
"""Rows of each array by its name."""


@dataclass(slots=True)
class MadeRows:
    """Rows that a part has made.

    Attributes
    ----------
    arrays : dict of str to array
        The rows of each array; ``y`` and ``codes`` may be codes, of ``codes`` -1 where one is missing.
    labels : dict of str to list of Labels
        What codes stand for, for each column of such an array.
    facts : object
        What else is known of these rows, for `describe` of :func:`write_parts`.
    """

    arrays: Rows
    labels: dict[str, list[Labels]] = field(default_factory=dict)
    facts: Any = None


Part = Any
"""Makes rows: a callable without arguments, or a task of dask.delayed that is :class:`MadeRows`."""


def write_parts(
    path: str | os.PathLike[str],
    parts: Sequence[Part],
    n_rows: Sequence[int],
    like: Mapping[str, np.ndarray],
    *,
    feature_names: Sequence[str] | None,
    categorical: Sequence[str] = (),
    describe: Callable[[Sequence[Any]], Any] | None = None,
    dtype: np.dtype[Any] | None = None,
    chunking: Chunking,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    finish: Finish | None = None,
) -> None:
    """Write a dataset of rows that tasks make, each of a part of them.

    A task writes the chunks that lie in its part, and hands on the rows before and after these, which other
    tasks join: hardly anything travels between workers.

    Parameters
    ----------
    path : as for :func:`daskgd.write_dataset`.
    parts : sequence of callable, or of dask.delayed
        Each makes :class:`MadeRows`, in the order of the rows; pickled into tasks.
    n_rows : sequence of int
        The rows that each part makes.
    like : mapping of str to array
        Arrays of no rows with the dtype and the width of each.
    feature_names, categorical : sequence of str
        Names of the columns of X and of those of codes.
    describe : callable, optional
        ``describe(facts)`` is the schema to be stored, as JSON, by what the parts know of their rows.
    dtype : numpy dtype, optional
        Of the features where some are categorical.
    chunking : how rows are cut into chunks and stored.
    overwrite, storage_options : as for :func:`daskgd.write_dataset`.
    progress : callable, optional
        Called as ``progress(done, total)`` in rows, after each task.
    finish : callable, optional
        See :func:`daskgd.storage.replacing.new_group`.
    """
    bounds = [0, *accumulate(n_rows)]
    with new_group(path, overwrite, storage_options, finish) as group:
        rows, unit = chunking.rows_of(sum(_row_bytes(like[name]) for name in ("X", CODES) if name in like))
        targets = {
            name: chunking.create(group, OWN_CODES if name == CODES else name, array, rows, bounds[-1])
            for name, array in like.items()
        }
        for name, target in targets.items():
            target.resize((bounds[-1], *like[name].shape[1:]))
        vocabularies = {
            name: [Vocabulary(column) for column in columns]
            for name, columns in (("y", ["y"]), (CODES, categorical))
        }
        facts = _write_all(targets, vocabularies, parts, bounds, unit, chunking.known_codec, progress)
        classes = None
        if any(vocabulary.is_used for vocabulary in vocabularies["y"]):
            classes = _write_labels(targets["y"], vocabularies["y"][0], bounds, unit, chunking.known_codec)
        schema = None if describe is None else describe(facts)
        names = None if feature_names is None else list(feature_names)
        if CODES not in targets:
            commit(group, names, classes, FORMAT, schema)
            return
        _write_categories(group, targets[CODES], vocabularies[CODES], bounds, (rows, unit), chunking)
        columns = tuple(vocabulary.dictionary() for vocabulary in vocabularies[CODES])
        kind = np.dtype(float) if dtype is None else dtype
        write_dictionaries(group, Dictionaries(columns, tuple(names or ())), kind, chunking.create_values)
        commit(group, names, classes, CATEGORICAL_FORMAT, schema)


def _row_bytes(array: np.ndarray) -> int:
    return array.itemsize * int(np.prod(array.shape[1:], dtype=int))


def _write_all(
    targets: Mapping[str, ZarrArray],
    vocabularies: Mapping[str, Sequence[Vocabulary]],
    parts: Sequence[Part],
    bounds: Sequence[int],
    unit: int,
    codec: str,
    progress: Callable[[int, int], None] | None,
) -> list[Any]:
    """Write all rows, in one graph of tasks, gather what their codes stand for, and return the facts of each
    part."""
    total, done = bounds[-1], 0
    write, join, get = (dask.delayed(f, pure=False) for f in (_write_part, _join_edges, getattr))
    edges = [_edges(start, stop, unit, total) for start, stop in pairwise(bounds)]
    run, window = uuid4().hex[:8], WINDOW * n_threads()
    written: list[Any] = []
    joined: list[Any] = []
    closed: list[int] = []  # how many units are joined that no part after each has rows of
    waiting: dict[int, list[Any]] = {}  # by the unit that they are joined to

    def join_all(below: int) -> None:
        for i in [i for i in waiting if i < below]:
            name = (f"daskgd-join-{run}", i)
            joined.append(join(targets, i * unit, waiting.pop(i), codec, dask_key_name=name))

    for i, (part, start, stop, (first, last)) in enumerate(
        zip(parts, bounds, bounds[1:], edges, strict=False)
    ):
        # Edges wait for those beside them: a part is made only once those some way before it are joined.
        before = closed[i - window] if i >= window else 0
        after = joined[before - 1] if before else None
        name = (f"daskgd-write-{run}", i)
        one = write(targets, part, i, (start, stop), (first, last), codec, after, dask_key_name=name)
        written.append(one)
        if start < first:
            waiting.setdefault(start // unit, []).append(get(one, "head"))
        if last < stop:
            waiting.setdefault(last // unit, []).append(get(one, "tail"))
        join_all(stop // unit if stop < total else total // unit + 1)
        closed.append(len(joined))

    def note(result: Any) -> None:
        nonlocal done
        n = result if isinstance(result, int) else result.n_written
        if isinstance(result, _Written):
            for name, columns in result.labels.items():
                for vocabulary, labels in zip(vocabularies[name], columns, strict=True):
                    vocabulary.add(result.part, labels)
            result.labels.clear()  # the vocabularies have them
        if progress is not None and n:
            done += n
            progress(done, total)

    without = dask.delayed(_without_edges, pure=False)
    counts = [without(one, dask_key_name=(f"daskgd-written-{run}", i)) for i, one in enumerate(written)]
    return [found.facts for found in compute_each([*counts, *joined], note)[: len(counts)]]


@dataclass(frozen=True, slots=True)
class _Written:
    """What a task has done of its part: the rows that it wrote, those before and after, and what it knows of
    them."""

    part: int
    n_written: int
    labels: dict[str, list[Labels]]
    facts: Any
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
    targets: Mapping[str, ZarrArray],
    part: Part,
    number: int,
    bounds: tuple[int, int],
    edges: tuple[int, int],
    codec: str,
    after: Any = None,
) -> _Written:
    """Make the rows of a part, and write those between the edges. `after` is what has to be done before.

    Raises ValueError for a part that makes another number of rows than was counted.
    """
    made: MadeRows = part() if callable(part) else part
    (start, stop), found = bounds, {len(array) for array in made.arrays.values()}
    if found != {stop - start}:
        raise ValueError(
            f"part {number}: expected {stop - start} rows, as were counted, got "
            f"{' and '.join(map(str, sorted(found)))}; the data must not change while they are written"
        )
    first, last = edges[0] - start, edges[1] - start
    if first < last:
        for name, target in targets.items():
            write_rows(target, edges[0], made.arrays[name][first:last], codec)
    head = {name: array[:first].copy() for name, array in made.arrays.items()}
    tail = {name: array[last:].copy() for name, array in made.arrays.items()}
    return _Written(number, last - first, made.labels, made.facts, head, tail)


def _without_edges(written: _Written) -> _Written:
    return replace(written, head={}, tail={})


def _join_edges(targets: Mapping[str, ZarrArray], start: int, pieces: Sequence[Rows], codec: str) -> int:
    """Write the rows from `start` on, of several parts, and return how many these are."""
    for name, target in targets.items():
        write_rows(target, start, np.concatenate([piece[name] for piece in pieces]), codec)
    return sum(len(next(iter(piece.values()))) for piece in pieces)


# -- codes of all parts ---------------------------------------------------------------------------


def _write_labels(
    target: ZarrArray, vocabulary: Vocabulary, bounds: Sequence[int], unit: int, codec: str
) -> list[Any]:
    """Write codes of all labels in place of those that each part has of its own, and return the labels.

    By this process: a task that is done twice, as its worker has died, would take new codes for old ones.
    """
    if not vocabulary.is_sorted:
        for recode, _ in _recodings(target, target, [vocabulary], bounds, unit, codec):
            recode()
    return vocabulary.labels


def _write_categories(
    group: zarr.Group,
    own: ZarrArray,
    vocabularies: Sequence[Vocabulary],
    bounds: Sequence[int],
    height: tuple[int, int],
    chunking: Chunking,
) -> None:
    """Write the array of codes, of all categories, in place of the codes that each part has of its own."""
    like = np.empty((0, len(vocabularies)), smallest_codes(max(len(v.labels) for v in vocabularies)))
    rows, unit = height
    codes = chunking.create(group, CODES, like, rows, bounds[-1])
    codes.resize(own.shape)
    tasks: list[Any] = []
    waiting = 0
    for recode, nbytes in _recodings(own, codes, vocabularies, bounds, unit, chunking.known_codec):
        tasks.append(dask.delayed(recode, pure=False)())
        waiting += nbytes
        if waiting > TABLE_BYTES:
            compute_each(tasks, lambda _: None)
            tasks, waiting = [], 0
    compute_each(tasks, lambda _: None)
    wait_for(own.store_path.delete_dir())


def _recodings(
    source: ZarrArray,
    target: ZarrArray,
    vocabularies: Sequence[Vocabulary],
    bounds: Sequence[int],
    unit: int,
    codec: str,
) -> Iterator[tuple[Callable[[], None], int]]:
    """Calls that write codes of all labels for those of parts, each of whole units, and the bytes of their
    tables."""
    height = max(RECODED_BYTES // (8 * len(vocabularies)) // unit, 1) * unit
    of_part = np.asarray(bounds[1:])
    for start in range(0, bounds[-1], height):
        stop = min(start + height, bounds[-1])
        first, last = np.searchsorted(of_part, [start, stop - 1], side="right").tolist()
        runs = [
            (max(bounds[i], start), min(bounds[i + 1], stop), [v.table(i) for v in vocabularies])
            for i in range(first, last + 1)
            if bounds[i] < bounds[i + 1]
        ]
        nbytes = sum(table.nbytes for _, _, tables in runs for table in tables)
        yield partial(_recode_rows, source, target, start, stop, runs, codec), nbytes


def _recode_rows(
    source: ZarrArray,
    target: ZarrArray,
    start: int,
    stop: int,
    runs: Sequence[tuple[int, int, Sequence[np.ndarray]]],
    codec: str,
) -> None:
    """Read the codes of some rows and write them anew; `runs` are rows of a part, with a table for each
    column, whose last place is that of a missing one."""
    codes = np.asarray(source[start:stop])
    columns = codes.reshape(len(codes), -1)
    out = np.empty(columns.shape, target.dtype)
    for a, b, tables in runs:
        for j, table in enumerate(tables):
            out[a - start : b - start, j] = table[columns[a - start : b - start, j]]
    write_rows(target, start, out.reshape(codes.shape), codec)
