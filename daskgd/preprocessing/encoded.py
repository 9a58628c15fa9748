"""An encoded table as a column of features: blocks are encoded as they are read, and nothing is stored.

Workers import this file; how a dataset becomes an encoded one is in `encoding`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskgd.data.columns import Column, WorkerPieces, row_bytes
from daskgd.preprocessing.columns import Program
from daskgd.rows.features import Features, as_features
from daskgd.rows.subsets import Subset
from daskgd.rows.tiles import Rows
from daskgd.rows.views import SubsetView

if TYPE_CHECKING:
    import dask.array as da

    from daskgd.data.dataset import Dataset

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class EncodedColumn:
    """The features that a program makes of those of another column: it keeps
    :class:`daskgd.data.columns.Column`."""

    source: Column
    program: Program
    digest: str = field(default="")

    @property
    def shape(self) -> tuple[int, int]:
        return self.source.shape[0], self.program.width

    @property
    def ndim(self) -> int:
        return 2

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.program.dtype

    @property
    def nbytes(self) -> int:
        return self.shape[0] * self.program.row_bytes

    @property
    def passing_row_bytes(self) -> int:
        """The bytes of a row that a task takes beside those of the encoded one: as it is stored, and what
        transformers are given."""
        return row_bytes(self.source) + self.program.passing_row_bytes

    @property
    def sparse_nbytes(self) -> int | None:
        return None if self.is_dense else self.nbytes

    @property
    def is_dense(self) -> bool:
        return self.program.is_dense

    @property
    def n_exclusive(self) -> int:
        """The most columns of which a row has at most one that is not 0."""
        return self.program.n_exclusive

    @property
    def chunk_rows(self) -> int:
        return self.source.chunk_rows

    @property
    def path(self) -> str | None:
        return self.source.path

    @property
    def on_workers(self) -> WorkerPieces | None:
        return None

    def in_place(self, cluster: bool) -> bool:
        return self.source.in_place(cluster)

    def read(self, start: int, stop: int) -> Any:
        encoded = self.program(as_features(self.source.read(start, stop)), np.arange(start, stop))
        return encoded.values if self.is_dense else encoded  # type: ignore[attr-defined]

    def check_access(self) -> None:
        """As of the source."""
        check = getattr(self.source, "check_access", None)
        if check is not None:
            check()

    def to_dask(self, chunks: tuple[int, ...], name: str, token: object = None) -> da.Array:
        return self._mapped(chunks[0], name, token, _plain)

    def to_pieces(self, piece_rows: int, name: str, token: object = None) -> da.Array:
        """The rows as a dask array of pieces that are features, as kernels see them."""
        then = _plain if self.is_dense else _as_they_are
        return self._mapped(piece_rows, f"{name}-pieces", token, then)

    def _mapped(self, rows: int, name: str, token: object, then: Any) -> da.Array:
        source: Any = self.source
        if hasattr(source, "to_pieces"):
            blocks = source.to_pieces(rows, name, token)
        else:
            blocks = source.to_dask((rows, *source.shape[1:]), name, token)
        meta = np.empty((0, 0), self.dtype)
        if not self.is_dense and self.in_place(False):
            meta = self.program(as_features(source.read(0, 0))).tocsr()
        return blocks.map_blocks(
            _encode_numbered if self.program.sees_row_numbers else _encode,
            program=self.program,
            then=then,
            dtype=self.dtype,
            chunks=(blocks.chunks[0], (self.shape[1],)),
            meta=meta,
            token=f"{name}-encoded-{self.digest}",
        )

    def identity(self) -> str:
        return f"{self.source.identity()}; encoder {self.digest}"

    def info(self) -> Mapping[str, Any]:
        return self.source.info()


def _encode(block: Any, program: Program, then: Any) -> Any:
    return then(program(as_features(block)))


def _encode_numbered(block: Any, program: Program, then: Any, block_info: Any = None) -> Any:
    numbers = np.arange(*block_info[0]["array-location"][0])
    return then(program(as_features(block), numbers))


def _plain(X: Features) -> Any:
    return X.values if hasattr(X, "values") and getattr(X.values, "ndim", 1) == 2 else X.tocsr()


def _as_they_are(X: Features) -> Any:
    return X


@dataclass(frozen=True, slots=True, eq=False)
class EncodedView:
    """Rows of a table, encoded: what queries see where several encoders share a read, a
    :class:`~daskgd.rows.views.View`.

    Attributes
    ----------
    program : Program
    digest : str
        Of the program.
    names : list of str or None
        Of the features.
    subset : Subset or None
        The rows; None for all.
    """

    program: Program
    digest: str
    names: list[str] | None = None
    subset: Subset | None = None

    @property
    def n_features(self) -> int:
        return self.program.width

    @property
    def row_bytes(self) -> int:
        """The bytes of an encoded row, and of what it passes through, about."""
        return self.program.row_bytes + self.program.passing_row_bytes

    def of(self, rows: Rows) -> Rows:
        if self.subset is not None:
            rows = SubsetView(self.subset).of(rows)
        return replace(rows, X=self.program(rows.X, rows.numbers))

    def dataset(self, table: Dataset) -> Dataset:
        """The rows of the view, encoded, as a dataset of its own."""
        return self.encode(table.of_subset(self.subset))

    def encode(self, dataset: Dataset) -> Dataset:
        """A table whose rows are selected already, encoded."""
        return dataset.replace(
            dataset.columns._replace(X=EncodedColumn(dataset.columns.X, self.program, self.digest)),
            feature_names=self.names,
            dictionaries=None,
            schema=None,
            layout=dataset.layout,
        )

    def identity(self) -> dict[str, str]:
        """What tells the view from others, for checkpoints."""
        rows = {} if self.subset is None else {"rows": str(self.subset)}
        return {**rows, "encoder": self.digest}
