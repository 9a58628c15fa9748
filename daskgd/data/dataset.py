"""Datasets: features, targets, weights and offsets of equal length, read by rows, and views of some rows.

The layout of a :class:`Dataset`, blocks and partitions, depends on nothing but the data and two settings.
What else users may pass becomes one in :mod:`daskgd.data.convert`. Knows dask arrays and the store; no
solvers, no engines.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import dask.array as da
import numpy as np
from dask.utils import format_bytes, parse_bytes
from numpy.typing import NDArray

from daskgd._compat.dask import meta_of
from daskgd.config import setting
from daskgd.data.by_columns import ColumnsFirst
from daskgd.data.columns import (
    Column,
    Columns,
    ColumnSource,
    LazyColumn,
    Selection,
    StratifiedSelection,
    SubsetSelection,
    check_columns,
    choose_layout,
    in_this_process,
    selection_mask,
)
from daskgd.data.html import html_table
from daskgd.data.schema import Schema
from daskgd.data.stratify import rows_to_move
from daskgd.data.surveys import CarriedSurvey
from daskgd.rows.dictionaries import Dictionaries
from daskgd.rows.dtypes import compute_dtype
from daskgd.rows.features import Features, as_features
from daskgd.rows.layout import Layout
from daskgd.rows.subsets import Subset
from daskgd.rows.tiles import Rows
from daskgd.storage.checksums import StoreError
from daskgd.storage.commit import verify_store
from daskgd.storage.csc_reading import StoredCsc
from daskgd.storage.opening import open_store
from daskgd.storage.paths import shorten
from daskgd.storage.redaction import redacted

Array = NDArray[Any]

FIRST_ROWS = 2
"""Rows that show what kind of columns there are."""

LABEL_ROWS = 1 << 20
"""Rows of which labels are read at a time, at least."""


class Dataset:
    """Features, targets and weights of equal length, out of core.

    Made by :func:`open_dataset`; estimators make one of whatever arrays they are given.

    Parameters
    ----------
    X : column ``(n, p)``
    y : column ``(n,)`` or ``(n, k)``, optional
    sample_weight : column ``(n,)``, optional
    offset : column ``(n,)``, optional
        What is added to margins: see :class:`daskgd.PoissonRegressor`.
    feature_names : sequence of str, optional
    classes : array, optional
        Labels for which y holds codes 0..k-1.
    dictionaries : :class:`daskgd.rows.dictionaries.Dictionaries`, optional
        What categorical features stand for, in the place of `feature_names`.
    schema : :class:`daskgd.data.schema.Schema`, optional
        What columns are, if more is known than the others say.
    path, fingerprint, codec : str, optional
        Where it is stored, its checksum, and how it is compressed.
    storage_options : dict, optional
        With which `path` was opened, if it is a URL. They are shown nowhere, nor is what a URL holds of
        passwords and signatures.
    block_bytes, partition_bytes : int or str, optional
        Least bytes of a block and most of a partition, decoded; by default from dask.config.

    origin : Dataset, optional
        The data as they were given, where the columns are copies of them that tasks can read.
    survey : :class:`daskgd.data.surveys.CarriedSurvey`, optional
        What the store says of its columns.

    Attributes
    ----------
    columns : :class:`daskgd.data.columns.Columns`
        X, y and sample_weight as they are stored, of all rows whichever are selected: what engines read.
    offset_column : :class:`daskgd.data.columns.Column` or None
        The offset, likewise: estimators that take one put it beside y.
    """

    def __init__(
        self,
        X: Column,
        y: Column | None = None,
        sample_weight: Column | None = None,
        *,
        offset: Column | None = None,
        feature_names: Sequence[str] | None = None,
        classes: Array | None = None,
        dictionaries: Dictionaries | None = None,
        schema: Schema | None = None,
        path: str | None = None,
        fingerprint: str | None = None,
        codec: str | None = None,
        storage_options: dict[str, Any] | None = None,
        block_bytes: int | str | None = None,
        partition_bytes: int | str | None = None,
        selections: tuple[Selection, ...] = (),
        extra_sweeps: int = 0,
        layout: Layout | None = None,
        origin: Dataset | None = None,
        survey: CarriedSurvey | None = None,
    ) -> None:
        self.columns = Columns(X, y, sample_weight)
        self.offset_column = offset
        check_columns(self.columns, offset)
        self._given_names = None if feature_names is None else tuple(feature_names)
        self.classes = classes
        if selections:  # what is known of all rows is not known of some
            dictionaries = None if dictionaries is None else dictionaries.without_counts()
            schema = None if schema is None else schema.without_facts()
        self.dictionaries = dictionaries
        self._given_schema = schema
        self.path = path
        self.fingerprint = fingerprint
        self.codec = codec
        self.storage_options = storage_options
        self.block_bytes = _parse_size(block_bytes, "block-bytes")
        self.partition_bytes = _parse_size(partition_bytes, "partition-bytes")
        self.selections = selections
        self.extra_sweeps = extra_sweeps
        self.origin = origin
        self._survey = survey
        self.layout = layout or choose_layout(X, self.block_bytes, self.partition_bytes)

    # -- what it holds ------------------------------------------------------------------------

    @property
    def source(self) -> ColumnSource:
        """What engines read from."""
        retries, ahead_bytes = int(setting("retries")), int(setting("read-ahead-bytes"))
        return ColumnSource(self.layout, self.columns, self.selections, retries, ahead_bytes)

    @cached_property
    def n_rows(self) -> int:
        """Number of rows (of a split: those that it selects)."""
        return int(sum(self._chunk_lengths)) if self.selections else self.layout.n_rows

    @property
    def n_features(self) -> int:
        return self.columns.X.shape[1]

    @cached_property
    def feature_names(self) -> tuple[str, ...] | None:
        """The names of the features, of categorical ones ``column_category``; None where they have none."""
        if self.dictionaries is None:
            return self._given_names
        return tuple(self.dictionaries.feature_names()) if self.dictionaries.named else None

    @property
    def categories(self) -> dict[str, int | list[Any]] | None:
        """The categories of each column of codes by its name, or how many they are, as
        :class:`daskgd.OneHot` takes them; None where there are no such columns.

        Examples
        --------
        >>> import daskgd, tempfile
        >>> path = tempfile.mkdtemp() + "/colours.zarr"
        >>> rows = daskgd.OneHot([[0], [1], [-1]], [["blue", "red"]], columns=["colour"])
        >>> daskgd.write_dataset(path, rows, [1.0, 2.0, 3.0])
        >>> stored = daskgd.open_dataset(path)
        >>> stored.feature_names, stored.categories
        (('colour_blue', 'colour_red'), {'colour': ['blue', 'red']})
        >>> new = daskgd.OneHot([[1]], list(stored.categories.values()), columns=list(stored.categories))
        """
        if self.dictionaries is None:
            return None
        return {column.name: column.given for column in self.dictionaries.columns}

    @cached_property
    def schema(self) -> Schema:
        """What the columns of the features are: kinds, types, missing values, ranges, categories, as far as
        they are known; see :class:`daskgd.data.schema.Schema`. Of a split no numbers of rows are known."""
        found = self._given_schema
        if found is None:
            numbers = self.n_features if self.dictionaries is None else len(self.dictionaries.numeric)
            found = Schema.of(numbers, self.columns.X.dtype, self._given_names, self.dictionaries)
        return found

    @property
    def stored_schema(self) -> Any:
        """The schema as a store holds it, None where the other attributes say it all."""
        return None if self._given_schema is None else self._given_schema.to_json()

    @property
    def frame(self) -> Any:
        """The rows as a dask frame of pandas, computed where it is asked for: the features with the types of
        :attr:`schema`, categories as such, then target, weights and offset, if there are any.

        A column that is whole numbers with gaps has floats. The target is called as it was in the files,
        ``"y"`` where that is not known. Raises ImportError without pandas and dask's frames.

        Examples
        --------
        >>> import daskgd, tempfile
        >>> path = tempfile.mkdtemp() + "/colours.zarr"
        >>> rows = daskgd.OneHot([[0], [1], [-1]], [["blue", "red"]], columns=["colour"])
        >>> daskgd.write_dataset(path, rows, [1.0, 2.0, 3.0])
        >>> daskgd.open_dataset(path).frame.compute()
          colour    y
        0   blue  1.0
        1    red  2.0
        2    NaN  3.0
        """
        from daskgd.data.frame import to_frame

        return to_frame(self)

    @property
    def nbytes(self) -> int:
        """Bytes of all columns, decoded: what one sweep reads."""
        return self.columns.nbytes

    @cached_property
    def at_hand(self) -> bool:
        """Whether all rows lie in this process, none without weight, and X in the dtype and order in which
        kernels need it; wherever tasks read them."""
        columns = (self.origin or self).columns
        if not self.in_this_process:
            return False
        X, s, n = columns.X, columns.sample_weight, self.layout.n_rows
        if s is not None and not (s.read(0, n) > 0).all():
            return False
        kept = X.dtype == compute_dtype(X.dtype)
        return kept and (not X.is_dense or bool(X.read(0, n).flags.c_contiguous))

    @property
    def in_this_process(self) -> bool:
        """Whether all rows lie in this process, in whatever order; wherever tasks read them."""
        columns = (self.origin or self).columns
        return not self.selections and all(map(in_this_process, columns.present.values()))

    def rows_at_hand(self) -> Rows:
        """All rows, X as a view, where they are :attr:`in_this_process`; targets as tasks read them."""
        origin, n = self.origin or self, self.layout.n_rows
        y, s = (None if c is None else c.read(0, n) for c in origin.columns[1:])
        if y is not None and self.classes is not None and origin.classes is None:
            y = np.searchsorted(self.classes, y.reshape(n))
        s = None if s is None else s.astype(np.float64, copy=False)
        return Rows(as_features(origin.columns.X.read(0, n)), y, s, 0)

    @property
    def X(self) -> da.Array:
        """The features as a dask array ``(n, p)``; where they are sparse or categorical its chunks are
        ``scipy.sparse.csr_array``."""
        return self._to_dask("X", self.columns.X)

    @property
    def feature_blocks(self) -> da.Array:
        """The same, but chunks of categorical features are those features, which nothing expands."""
        X = self.columns.X
        if not hasattr(X, "to_pieces"):
            return self.X
        return self._select(X.to_pieces(self.layout.block_rows, "X", self.fingerprint))

    @property
    def y(self) -> da.Array | None:
        """The target as a dask array, codes where there are `classes`; None if there is none."""
        y = self.columns.y
        return None if y is None else self._to_dask("y", y)

    @property
    def sample_weight(self) -> da.Array | None:
        """The weights as a dask array ``(n,)``, or None."""
        s = self.columns.sample_weight
        return None if s is None else self._to_dask("sample_weight", s)

    @property
    def offset(self) -> da.Array | None:
        """What is added to the margins of each row, as a dask array ``(n,)``, or None."""
        return None if self.offset_column is None else self._to_dask("offset", self.offset_column)

    @cached_property
    def _chunk_lengths(self) -> tuple[int, ...]:
        """Selected rows in each block."""
        runs = (self.layout.rows(block, block + 1) for block in range(self.layout.n_blocks))
        return tuple(int(selection_mask(self.selections, *run).sum()) for run in runs)

    def _to_dask(self, name: str, column: Column) -> da.Array:
        return self._select(
            column.to_dask((self.layout.block_rows, *column.shape[1:]), name, self.fingerprint)
        )

    def _select(self, array: Any) -> da.Array:
        """The selected rows of a dask array of all, with a chunk for each block."""
        if not self.selections:
            return array
        return array.map_blocks(
            _select_rows,
            selections=self.selections,
            dtype=array.dtype,
            chunks=(self._chunk_lengths, *array.chunks[1:]),
            meta=meta_of(array),
        )

    @cached_property
    def first_rows(self) -> Features:
        """The first of the selected rows, at most FIRST_ROWS of them: what kind of columns there are is seen
        by these. Raises ValueError where there are none."""
        blocks, lengths = self.feature_blocks, self._chunk_lengths if self.selections else None
        for i in range(blocks.numblocks[0]):
            if lengths is None or lengths[i]:
                X = as_features(blocks.blocks[i].compute())
                if len(X):
                    return X.select(np.arange(min(len(X), FIRST_ROWS)))
        raise ValueError("X: expected at least one row, got none")

    # -- views --------------------------------------------------------------------------------

    def of_subset(self, subset: Subset | None) -> Dataset:
        """The rows of a subset of all row numbers, as a view; None for all."""
        if subset is None:
            return self
        return self.replace(selections=(*self.selections, SubsetSelection(subset)), layout=self.layout)

    def train_test_split(
        self, test_size: float = 0.25, random_state: int | None = None, *, stratify: bool = False
    ) -> tuple[Dataset, Dataset]:
        """Two views, without a copy: each row goes to the test view with probability `test_size`.

        Which rows is a function of (random_state, row number) alone: the same every time, on any
        machine, whatever the chunks. Splitting a view splits its rows further.

        Parameters
        ----------
        test_size : float in (0, 1)
            Expected share of the rows.
        random_state : int, optional
            None is 0, so that results repeat.
        stratify : bool
            Whether every label has its share of the test rows, to a whole row: the labels are read once for
            it, here, and which rows is a function of them, too.

        Returns
        -------
        (train, test) : Dataset

        Examples
        --------
        >>> import daskgd
        >>> train, test = daskgd.as_dataset(np.zeros((1000, 2))).train_test_split(0.2, random_state=1)
        >>> train.n_rows + test.n_rows, 150 < test.n_rows < 250
        (1000, True)
        """
        if not isinstance(test_size, float | np.floating) or not 0 < test_size < 1:
            raise ValueError(
                f"train_test_split: expected test_size as a share in (0, 1), got {test_size!r}; rows are "
                "chosen by a hash of their number, so that a share is expected, not a count"
            )
        seed = 0 if random_state is None else random_state
        if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
            raise ValueError(
                f"train_test_split: expected random_state None or a whole number >= 0, got {seed!r}"
            )
        depth = len(self.selections)
        sides = ((int(seed), float(test_size), 1.0, depth), (int(seed), 0.0, float(test_size), depth))
        train, test = (Selection(*side) for side in sides)
        changes: dict[str, Any] = {}
        if stratify:
            moved = rows_to_move(self._labels(), float(test_size), int(seed), depth)
            train, test = (StratifiedSelection(*side, moved) for side in sides)
            if isinstance(self.columns.y, LazyColumn):
                changes["extra_sweeps"] = self.extra_sweeps + 1
        return (
            self.replace(selections=(*self.selections, train), **changes),
            self.replace(selections=(*self.selections, test), **changes),
        )

    def _labels(self) -> Iterator[tuple[Array, Array]]:
        """The labels and numbers of the selected rows, some at a time; of a lazy column they are computed."""
        y, n = self.columns.y, self.layout.n_rows
        if y is None or (len(y.shape) == 2 and y.shape[1] > 1):
            raise ValueError(
                "train_test_split: expected one label per row with stratify=True, got "
                f"{'no target' if y is None else f'y of shape {y.shape}'}"
            )
        height = -(-max(LABEL_ROWS, self.layout.block_rows) // y.chunk_rows) * y.chunk_rows
        for a in range(0, n, height):
            b = min(a + height, n)
            found = _read(y, a, b)
            numbers = np.arange(a, b)
            if self.selections:
                kept = selection_mask(self.selections, a, b)
                found, numbers = found[kept], numbers[kept]
            yield found.reshape(len(found)), numbers

    def transposed_blocks(self) -> Iterator[tuple[Any, ...]] | None:
        """The selected rows in order, in blocks ``(X, y, sample_weight, offset)``, where X is stored by
        columns and its rows have not been made; else None. Of a lazy column some rows are computed at a time.
        """
        X = self.columns.X
        return self._select_blocks(X.blocks()) if isinstance(X, ColumnsFirst) and not X.has_rows else None

    def _select_blocks(self, blocks: Iterator[Any]) -> Iterator[tuple[Any, ...]]:
        stop = 0
        for X in blocks:
            start, stop = stop, stop + len(X)
            columns = (*self.columns[1:], self.offset_column)
            others = [None if c is None else _read(c, start, stop) for c in columns]
            if self.selections:
                kept = selection_mask(self.selections, start, stop)
                X, others = X.select(kept), [None if part is None else part[kept] for part in others]
            yield X, *others

    def replace(self, columns: Columns | None = None, **changes: Any) -> Dataset:
        """The dataset with other columns, or other arguments of the constructor by name.

        The layout is made anew from the columns and settings, unless it is among the changes.
        """
        settings: dict[str, Any] = {
            "offset": self.offset_column,
            "feature_names": self._given_names,
            "classes": self.classes,
            "dictionaries": self.dictionaries,
            "schema": self._given_schema,
            "path": self.path,
            "fingerprint": self.fingerprint,
            "codec": self.codec,
            "storage_options": self.storage_options,
            "block_bytes": self.block_bytes,
            "partition_bytes": self.partition_bytes,
            "selections": self.selections,
            "extra_sweeps": self.extra_sweeps,
            "survey": self._survey,
        }
        return Dataset(*(columns or self.columns), **(settings | changes))

    # -- what is stored -----------------------------------------------------------------------

    @property
    def survey(self) -> CarriedSurvey | None:
        """What the store says of all rows, whichever are selected, where it carries a survey of them; None
        beside columns that are not stored there."""
        known = self._survey
        return known if known is not None and known.is_of(self.columns) else None

    @property
    def sample_rows(self) -> float:
        """About how many of the rows are in the sample that the store carries; 0 where there is none."""
        survey = self.survey
        return 0.0 if survey is None else survey.record.sample_share * self.n_rows

    @property
    def surveyed(self) -> bool:
        """Whether the dataset carries a survey of its rows: see :func:`daskgd.survey_dataset`."""
        return self.survey is not None

    def verify(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Read every stored chunk, on a few threads, and compare all checksums with those that were written.

        Of a split, all rows that are stored are verified, whichever it selects.

        Parameters
        ----------
        progress : callable, optional
            Called as ``progress(done, total)`` after each chunk; chunks of all arrays count.

        Raises
        ------
        daskgd.ChunkError
            The first chunk that is missing, truncated or altered, with its array and rows.
        daskgd.StoreError
            The survey is not what was written. Or every chunk is sound, but not all of them are those that
            were written, or not those of the dataset that was opened.
        ValueError
            The dataset is not stored.

        Examples
        --------
        >>> import daskgd, tempfile
        >>> path = tempfile.mkdtemp() + "/ones.zarr"
        >>> daskgd.write_dataset(path, np.ones((100, 3)), chunk_bytes=1200)
        >>> daskgd.open_dataset(path).verify(lambda done, total: print(f"{done}/{total}"))
        1/2
        2/2
        """
        if self.path is None:
            raise ValueError(
                "verify: expected a stored dataset, got one of arrays; write it with daskgd.write_dataset "
                "and open it with daskgd.open_dataset"
            )
        self.check_unchanged()
        verify_store(self.path, progress, storage_options=self.storage_options)

    def check_unchanged(self) -> None:
        """Raise StoreError if another dataset lies at `path` by now: rows read since may be those of either.

        Only metadata are read, and the chunks listed. Nothing to check where rows are not stored, or daskgd
        did not write them.
        """
        if self.path is None:
            return
        there = open_store(self.path, storage_options=self.storage_options).fingerprint
        if there != self.fingerprint:
            raise StoreError(
                f"{self.path}: expected fingerprint {self.fingerprint}, got {there}: it was written again "
                "after it was opened; open it again"
            )

    def identity(self) -> dict[str, str]:
        """What tells this data from other data: its columns, its blocks, and which rows are selected.

        A stored dataset is known by its fingerprint, arrays in memory by a digest of their content, lazy
        dask arrays by their names, and zarr arrays that daskgd did not write by their metadata alone.

        Examples
        --------
        >>> import daskgd
        >>> a, b = (daskgd.as_dataset(np.full((2, 2), i)).identity() for i in (0, 1))
        >>> sorted(name for name in a if a[name] != b[name])
        ['X']
        """
        out = {"rows": f"{self.layout.n_rows} x {self.n_features}"}
        for name, column in self.columns.present.items():
            places = ("X", "codes") if name == "X" else (name,)
            ours = self.path is not None and column.path in [f"{self.path}/{place}" for place in places]
            known = ours and self.fingerprint is not None
            out[name] = f"fingerprint {self.fingerprint}" if known else column.identity()
        if self.offset_column is not None:
            ours = self.path is not None and self.offset_column.path == f"{self.path}/offset"
            known = ours and self.fingerprint is not None
            out["offset"] = f"fingerprint {self.fingerprint}" if known else self.offset_column.identity()
        layout = self.layout
        out["blocks"] = f"{layout.block_rows} rows, {layout.partition_blocks} blocks a partition"
        if self.selections:
            out["selection"] = "; ".join(map(str, self.selections))
        return out

    # -- what it says of itself -----------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """Facts about the dataset: sizes in rows and bytes, types, blocks, storage.

        Examples
        --------
        >>> import daskgd
        >>> daskgd.as_dataset(np.zeros((10, 3), dtype="float32")).info()["nbytes"]
        120
        """
        X, y, s = self.columns
        layout = self.layout
        facts: dict[str, Any] = {
            "path": None if self.path is None else redacted(self.path),
            "n_rows": self.n_rows,
            "n_features": self.n_features,
            "dtype": str(X.dtype),
            "y": None if y is None else f"{y.dtype} {y.shape}",
            "sample_weight": None if s is None else str(s.dtype),
            "offset": None if self.offset_column is None else str(self.offset_column.dtype),
            "classes": None if self.classes is None else [str(c) for c in self.classes],
            "nbytes": self.nbytes,
            "block_rows": layout.block_rows,
            "n_blocks": layout.n_blocks,
            "n_partitions": layout.n_partitions,
            "codec": self.codec,
            "fingerprint": self.fingerprint,
            "surveyed": None if self.path is None else self.surveyed,
        }
        facts |= X.info()
        if self._given_schema is not None:
            facts["schema"] = [column.to_json() for column in self.schema.columns]
        if self.dictionaries is not None:
            facts["n_categories"] = {column.name: len(column) for column in self.dictionaries.columns}
        if self.selections:
            facts["selected_from"] = layout.n_rows
        return facts

    def __repr__(self) -> str:
        X, y, s = self.columns
        blocks = self.layout.n_blocks
        kind = "features" if X.is_dense or self.dictionaries else "sparse features"
        parts = [
            f"{self.n_rows:,} rows x {self.n_features} {kind} of {X.dtype}",
            f"{format_bytes(self.nbytes)} in {blocks:,} block{'s' if blocks > 1 else ''}",
        ]
        if self.dictionaries is not None:
            k = len(self.dictionaries.columns)
            parts.append(f"{k} categorical column{'s' if k > 1 else ''}")
        if y is not None:
            parts.append(f"y {y.dtype}" + ("" if len(y.shape) == 1 else f" x {y.shape[1]}"))
        if self.classes is not None:
            parts.append(f"{len(self.classes)} classes")
        if s is not None:
            parts.append("weighted")
        if self.offset_column is not None:
            parts.append("with an offset")
        if self.selections:
            parts.append(f"of {self.layout.n_rows:,} rows")
        where = f" at {shorten(redacted(self.path))}" if self.path else ""
        return f"<Dataset: {', '.join(parts)}{where}>"

    def _repr_html_(self) -> str:
        facts = {name: value for name, value in self.info().items() if value is not None and name != "schema"}
        rows = [(name, _in_words(name, value)) for name, value in facts.items()]
        columns = "" if self._given_schema is None else self.schema._repr_html_()
        return html_table("daskgd.Dataset", rows, align="left") + columns


def _in_words(name: str, value: Any) -> str:
    """A value of :meth:`Dataset.info` as text."""
    if name == "nbytes":
        return str(format_bytes(value))
    if isinstance(value, dict):
        value = [f"{key}: {n:,}" for key, n in value.items()]
    if isinstance(value, list):
        return ", ".join(map(str, value[:10])) + (", ..." if len(value) > 10 else "")
    return f"{value:,}" if isinstance(value, int) else str(value)


def _select_rows(block: Any, selections: tuple[Selection, ...], block_info: Any = None) -> Any:
    """The selected rows of a chunk of a dask array; `block_info`, which dask gives, tells where it lies."""
    if not block_info:
        return block[:0]
    start, stop = block_info[0]["array-location"][0]
    mask = selection_mask(selections, start, stop)
    return block.select(mask) if hasattr(block, "select") else block[mask]


def _read(column: Column, start: int, stop: int) -> Array:
    """Some rows of a target or of weights, computed where they are lazy."""
    if isinstance(column, LazyColumn):
        return np.asarray(column.array[start:stop].compute())
    found: Array = column.read(start, stop)
    return found


def _parse_size(value: int | str | None, name: str) -> int:
    """A size in bytes, by default that of the setting `name`. Raises ValueError below 1."""
    if value is None:
        return int(setting(name))
    asked = name.replace("-", "_")
    try:
        size = int(parse_bytes(value))
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise ValueError(f"{asked}: expected bytes, or a size such as '8 MB', got {value!r}") from None
    if size < 1:
        raise ValueError(f"{asked}: expected at least 1 byte, got {value!r}")
    return size


def open_dataset(
    path: str | os.PathLike[str],
    *,
    target: str | None = None,
    block_bytes: int | str | None = None,
    partition_bytes: int | str | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Dataset:
    """Open a dataset in zarr: only its metadata is read.

    Parameters
    ----------
    path : str or PathLike
        A directory, or a URL that fsspec knows, with `storage_options`. A zarr group that daskgd did not
        write is taken as it is, also one of AnnData's, X dense, csr_matrix or csc_matrix; of the
        last, rows are made once, in ``daskgd.transpose-bytes`` of memory, when they are first read. A warning
        is logged where chunks are not stored and read as a number.
    target : str, optional
        Of a store that AnnData wrote the column of `obs` that is the target: numbers, or categories.
    block_bytes, partition_bytes : int or str, optional
        Least bytes of a block, the unit of reading and merging, and most bytes of a partition, the unit of
        local training; decoded. Results depend on them, to rounding for the first. Default: dask.config's
        ``daskgd.block-bytes`` and ``daskgd.partition-bytes``.

    Returns
    -------
    Dataset
        Its `categories` say what codes stand for, where there are any.

    Raises
    ------
    daskgd.StoreError
        If the path holds no dataset, or one that is half-written or altered, or that cannot be opened.
    ValueError
        If X has no rows or no columns, or numbers of a kind that is not known.

    Examples
    --------
    >>> import daskgd, tempfile
    >>> path = tempfile.mkdtemp() + "/ones.zarr"
    >>> daskgd.write_dataset(path, np.ones((100, 3)), np.arange(100) % 2)
    >>> daskgd.open_dataset(path).n_rows
    100
    """
    stored = open_store(path, target=target, storage_options=storage_options)
    said = stored.schema
    X = ColumnsFirst(stored.X) if isinstance(stored.X, StoredCsc) else stored.X
    survey = stored.survey
    carried = None if survey is None else CarriedSurvey(survey, Columns(X, stored.y, stored.sample_weight))
    return Dataset(
        X,
        stored.y,
        stored.sample_weight,
        offset=stored.offset,
        feature_names=None if stored.dictionaries else stored.feature_names,
        classes=stored.classes,
        dictionaries=stored.dictionaries,
        schema=None if said is None else Schema.from_json(said, stored.dictionaries),
        path=stored.path,
        fingerprint=stored.fingerprint,
        codec=stored.codec,
        storage_options=storage_options,
        block_bytes=block_bytes,
        partition_bytes=partition_bytes,
        survey=carried,
    )
