"""What users write: frames whose columns have types go as tables do, all else as arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from daskgd.data.frames import frame_of, write_frame
from daskgd.data.surveying import survey_where_written
from daskgd.storage.writing import Chunking, write_arrays


def write_dataset(
    path: str | os.PathLike[str],
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    offset: Any = None,
    feature_names: Iterable[str] | None = None,
    chunk_bytes: int | float | str = 8_000_000,
    codec: str = "auto",
    shards: int | None = None,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Write a dataset as one zarr v3 group; it becomes valid last.

    Parameters
    ----------
    path : local path, or a URL that fsspec knows, such as ``s3://bucket/rows.zarr``. A local dataset is
        written beside `path`, in a hidden directory ``.NAME.*.partial``, and renamed at the end, so that a
        failure, be it a full disk, leaves nothing behind and what was at `path` whole. A process that is
        killed leaves that directory; as another may be writing there, later writes do not remove it, but log
        a warning. At a URL a failure, or a process that is killed, leaves what :func:`daskgd.open_dataset`
        refuses.
    X : (n, p) numpy, dask, xarray or zarr array, pandas DataFrame or list of rows; or an iterable of blocks
        of rows, which is streamed: memory stays a few chunks. A block is `X_block`, or a tuple of it and
        those of y, sample_weight and offset, as far as there are such; None for one that is left out. A list
        or tuple holds blocks if its items are arrays or tuples of them. Blocks that are frames have the same
        columns in the same order.
        Real numbers of at most 64 bits, stored in their dtype; bool is stored as uint8. Unknown chunk sizes
        of dask arrays are computed first, which reads them all once more. Or a :class:`daskgd.Dataset`, or a
        split of one, by itself: its rows, weights, feature names and classes, streamed; also one that is
        stored by columns, AnnData's csc_matrix. Sparse rows stay
        sparse: of scipy.sparse, pydata's sparse, a DataFrame all of whose columns are, as blocks of an
        iterable and as chunks of a dask array, which are computed a few at a time and written by this
        process. Categories stay codes: :class:`daskgd.OneHot`, also as blocks of an iterable, which all have
        the same categories; those are text, numbers or bool.
        Columns of a frame with text, dates, categories or types of pandas with gaps keep their types, as of
        :func:`daskgd.ingest`: of pandas, and of polars, pyarrow and others that have
        ``__arrow_c_stream__``. Frames of dask are written partition by partition by their workers, and read
        twice, as types and rows are found first. Indexes are left out.
    y : (n,) or (n, k), or of a frame the name of a column. Numbers are stored as they are; bool and str,
        (n,), as int32 codes of sorted classes.
    sample_weight : (n,), finite, >= 0, or of a frame the name of a column.
    offset : (n,), finite. What :class:`daskgd.PoissonRegressor` and its like add to the margins, such as the
        logarithm of an exposure.
    feature_names : p strings; by default the columns of a DataFrame, if they are strings. None for
        :class:`daskgd.OneHot`, which has names of its own.
    chunk_bytes : bytes, or a size like "8 MB", per chunk of X before compression; sets the rows per chunk of
        all arrays. Of sparse X, whose chunks end within rows, a chunk takes an eighth of it, so that a block
        of rows decodes little beside its own; rows per chunk of the others are those that first fill it. Of
        categories the codes count, with the numbers beside them, in the bytes that they take in memory.
    codec : "auto", "lz4" or "zstd" (Blosc; with bitshuffle, or the shuffle that suits sparse rows), or
        "none". "auto" is "none" for floats that lz4 makes smaller by less than 15 %, as their first rows
        show: they are read at nearly three times the speed. It is "lz4" for all else, for sparse rows and
        frames, and for dask arrays that are computed and not only read. Each chunk ends with a crc32c in
        any case.
    shards : chunks per stored object, None for one.
    overwrite : replace an existing zarr group, once the new one is complete (at a URL: at once).
    storage_options : of the file system at a URL, such as credentials. Workers that write get them, and they
        are shown nowhere.

    Raises
    ------
    FileExistsError : `path` exists and `overwrite` is false, or it holds something that is no zarr group.
    TypeError, ValueError : a dtype, shape or value that cannot be stored; names the argument and the block.

    >>> import daskgd, tempfile, numpy as np, pandas as pd
    >>> folder = tempfile.mkdtemp()
    >>> blocks = ((np.full((3, 2), i), np.full(3, i % 2 == 0)) for i in range(4))
    >>> daskgd.write_dataset(f"{folder}/a.zarr", blocks, feature_names=["a", "b"])
    >>> daskgd.open_dataset(f"{folder}/a.zarr").classes.tolist()
    [False, True]
    >>> frame = pd.DataFrame({"from": ["JFK", "EWR"], "miles": [94, 1400], "late": ["no", "yes"]})
    >>> daskgd.write_dataset(f"{folder}/b.zarr", frame, "late")
    >>> daskgd.open_dataset(f"{folder}/b.zarr").schema
    column  kind      type   missing  values
    from    category  str    0        2 categories: EWR 1, JFK 1
    miles   number    int64  0        94 to 1,400
    target: late
    """
    frame = frame_of(X, y, sample_weight, offset, feature_names)
    if frame is not None:
        chunking = Chunking.of(chunk_bytes, codec, shards)
        write_frame(path, frame, chunking, overwrite, storage_options)
        return
    write_arrays(
        path,
        X,
        y,
        sample_weight,
        offset=offset,
        feature_names=feature_names,
        chunk_bytes=chunk_bytes,
        codec=codec,
        shards=shards,
        overwrite=overwrite,
        storage_options=storage_options,
        finish=survey_where_written,
    )
