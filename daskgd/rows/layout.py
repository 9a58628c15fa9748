"""The layout of a dataset: how its rows are numbered, and its shape, known before it is read. Knows no
rows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of a dataset: its rows as blocks and partitions, a function of the dataset alone.

    Attributes
    ----------
    n_rows : int
    block_rows : int
        Rows per block, the leaf of the merge tree; the last may be shorter.
    partition_blocks : int
        Blocks per partition, a power of two, so that partitions are nodes of the merge tree.
    """

    n_rows: int
    block_rows: int
    partition_blocks: int

    @property
    def n_blocks(self) -> int:
        return -(-self.n_rows // self.block_rows)

    @property
    def n_partitions(self) -> int:
        return -(-self.n_blocks // self.partition_blocks)

    def rows(self, lo: int, hi: int) -> tuple[int, int]:
        """The range ``(start, stop)`` of the rows in blocks `lo` to ``hi - 1``."""
        return lo * self.block_rows, min(hi * self.block_rows, self.n_rows)


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a dataset, known before it is read.

    Attributes
    ----------
    n_rows, n_features : int
    itemsize : int
        Bytes of a number of X, as stored.
    classification : bool
        Whether the targets are labels.
    at_hand : bool
        Whether all rows lie in this process as kernels need them, so that a sample of all takes no memory.
    nonsmooth : bool
        Whether the loss has kinks, near which few rows of a sample lie.
    sparse_row_bytes : float, optional
        Bytes of X in an average row, where not all entries are stored.
    exclusive : int
        The most features of which a row has at most one that is not 0, as far as is known: the categories of
        the largest column.
    sample_rows : float
        Rows in the sample that the store carries, 0 where there is none.
    """

    n_rows: int
    n_features: int
    itemsize: int = 8
    classification: bool = False
    at_hand: bool = False
    nonsmooth: bool = False
    sparse_row_bytes: float | None = None
    exclusive: int = 0
    sample_rows: float = 0.0

    @property
    def row_bytes(self) -> float:
        """The bytes of X in a row, on average."""
        return self.sparse_row_bytes or max(self.n_features * self.itemsize, 1)
