"""Surveying a dataset: one read of its rows, of which the survey and a sample are stored beside them.

The blocks and the merge tree are those of a fit's own survey, and so are the bits. Knows the store, queries
and dask; no engine: surveys are made where rows are written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import dask

from daskgd._compat.blas import one_blas_thread
from daskgd._compat.distributed import compute_each
from daskgd.data.columns import ColumnSource, row_bytes
from daskgd.data.dataset import Dataset, open_dataset
from daskgd.queries.sample import ENOUGH_PER_FEATURE, STORED_SEED, Sample, sample_size
from daskgd.queries.stored_survey import SurveyToStore
from daskgd.queries.sums import Sums
from daskgd.rows.dtypes import compute_dtype
from daskgd.rows.layout import Shape
from daskgd.rows.merge_tree import tree
from daskgd.storage.checksums import StoreError, digest_of, read_all_checksums
from daskgd.storage.opening import fingerprint_of, open_store
from daskgd.storage.paths import check_options, locate
from daskgd.storage.redaction import redacted
from daskgd.storage.replacing import Finish
from daskgd.storage.survey_writing import remove_survey, write_survey

MOST_SHARE = 0.05
"""Of the rows in the sample at most."""

TASK_BYTES = 64_000_000
"""Decoded bytes that a task reads, about."""

SUMS_BYTES, MOST_SUMS_BYTES = 16, 1_000_000_000
"""Bytes of the sums of a task for each feature, and of those of all tasks at most: where features are so many
that one task has more, no survey is stored."""


def survey_dataset(
    path: str | os.PathLike[str],
    *,
    storage_options: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Store the survey of a dataset beside its rows, so that fits need no sweep to make their own.

    A survey holds what every fit asks first: the number of rows, their weight, mean and variance of each
    feature and of the target, labels and how many rows have each; and a sample of the rows, those with the
    smallest hashes: 64 MB of X or 200 rows for each feature, at most 5 % of the rows.
    :func:`daskgd.write_dataset` and :func:`daskgd.ingest` store one; this does for datasets that were written
    before, in one read of the rows, by the threads of this process or the current cluster. The dataset and
    its fingerprint stay as they are. Each chunk that is read from then on is compared with the checksum that
    it had.

    Parameters
    ----------
    path : local path, or a URL that fsspec knows
    storage_options : mapping, optional
        Of the file system at a URL.
    progress : callable, optional
        Called as ``progress(done, total)`` in rows.

    Raises
    ------
    StoreError : `path` holds no dataset, or one that daskgd did not write, as without checksums nothing would
        tell whether the survey still is of these rows; or rows that are not those that were written.

    Examples
    --------
    >>> import daskgd, tempfile
    >>> path = tempfile.mkdtemp() + "/ones.zarr"
    >>> daskgd.write_dataset(path, [[0.0], [1.0]], [0, 1])
    >>> daskgd.survey_dataset(path)
    >>> daskgd.open_dataset(path).surveyed
    True
    """
    location = locate(path)
    check_options(location, storage_options)
    survey(location, storage_options, progress)


def survey_where_written(by_tasks: bool) -> Finish:
    """What surveys a new dataset: tasks of dask where these have written it, else threads of this process, as
    the workers of a cluster need not see what it wrote."""

    def in_this_process(location: str, storage_options: Mapping[str, Any] | None) -> None:
        with dask.config.set(scheduler="threads"):
            survey(location, storage_options)

    return survey if by_tasks else in_this_process


def survey(
    location: str,
    storage_options: Mapping[str, Any] | None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """The same for an absolute path, or a URL."""
    options = None if storage_options is None else dict(storage_options)
    fingerprint = fingerprint_of(location, options)
    if fingerprint is None:
        open_store(location, storage_options=options)  # which refuses what is half-written
        raise StoreError(
            f"{redacted(location)}: expected a dataset that daskgd wrote, got a group without checksums, by "
            "which to tell whether a survey still is of these rows; write it with daskgd.write_dataset"
        )
    parts = open_store(location, storage_options=options, survey=False).parts
    checksums = {name: read_all_checksums(part.array) for name, (_, part) in parts.items()}
    if digest_of(checksums.values()) != fingerprint[16:]:
        raise StoreError(
            f"{redacted(location)}: some chunks are not those that were written; restore them, or write the "
            "dataset again"
        )
    remove_survey(location, options)  # by which the rows that are read now would be judged
    dataset = open_dataset(location, storage_options=options)
    if SUMS_BYTES * dataset.n_features > MOST_SUMS_BYTES:
        return
    query = _query(dataset)
    with one_blas_thread():
        survey, sample = query.answer(None, _sums(dataset, query, progress))
    write_survey(location, options, fingerprint, checksums, survey, sample)


def _query(dataset: Dataset) -> SurveyToStore:
    X = dataset.columns.X
    shape = Shape(
        dataset.n_rows,
        dataset.n_features,
        itemsize=compute_dtype(X.dtype).itemsize,
        sparse_row_bytes=None if X.is_dense else row_bytes(X),
    )
    rows, per_class = sample_size(shape)
    share = min(MOST_SHARE, rows / shape.n_rows)
    if share * shape.n_rows < ENOUGH_PER_FEATURE * (shape.n_features + 1):  # then it would be of no use
        share, per_class = 0.0, 0
    return SurveyToStore(
        dataset.layout.block_rows,
        Sample(share, per_class, STORED_SEED, int(share * shape.n_rows * shape.row_bytes)),
    )


def _sums(dataset: Dataset, query: SurveyToStore, progress: Callable[[int, int], None] | None) -> Sums:
    """The sums of the query over all rows, by tasks that are nodes of the merge tree over blocks."""
    layout = dataset.layout
    each = max(layout.block_rows * row_bytes(dataset.columns.X), 1)
    most_tasks = max(MOST_SUMS_BYTES // (SUMS_BYTES * dataset.n_features), 1)
    width = max(
        1 << max(TASK_BYTES // each, 1).bit_length() - 1,
        1 << (-(-layout.n_blocks // most_tasks) - 1).bit_length(),
    )
    tasks = range(0, layout.n_blocks, width)
    done = 0

    def note(found: Sums) -> None:
        nonlocal done
        done += found["survey"]["n_rows"]
        if progress is not None:
            progress(done, layout.n_rows)

    if len(tasks) == 1:
        parts = [_of_blocks(dataset.source, query, 0, layout.n_blocks)]
        note(parts[0])
    else:
        read = dask.delayed(_of_blocks, pure=False)
        source = dask.delayed(dataset.source)
        parts = compute_each(
            [read(source, query, lo, min(lo + width, layout.n_blocks)) for lo in tasks], note
        )
    return tree(0, len(parts), parts.__getitem__, Sums.__add__)


def _of_blocks(source: ColumnSource, query: SurveyToStore, lo: int, hi: int) -> Sums:
    def leaf(block: int) -> Sums:
        return query.block(None, source.read(*source.layout.rows(block, block + 1)))

    return tree(lo, hi, leaf, Sums.__add__)
