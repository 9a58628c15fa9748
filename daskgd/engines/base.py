"""What every engine shares: partial results, the blocks that are wanted, and the protocol.

The promise of the same bits from every engine rests on this file, :mod:`daskgd.rows.merge_tree` and
:mod:`daskgd.engines.walk`: in which order sums merge, and that one BLAS thread computes. It knows numpy and
queries; it must not know dask, zarr, nor where rows come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from daskgd.engines.timing import Ledger, Spent, added
from daskgd.queries import Ask
from daskgd.queries.sums import Sums
from daskgd.rows.layout import Layout

Array = NDArray[Any]


PartitionMemory = dict[tuple[str, str, int], Any]
"""What partition queries remember between sweeps, by (run, name, partition)."""


@dataclass(frozen=True, slots=True)
class Partial:
    """What a span, or several, add to a sweep: the Sums of each ask, new partition memories, and what each
    worker spent on it.

    Sums are None where no block of the span was wanted: the zero, so that the tree is the same for a share of
    the blocks as for all.
    """

    sums: list[Sums | None]
    memory: PartitionMemory
    spent: Ledger = field(default_factory=dict)

    def __add__(self, other: Partial) -> Partial:
        sums = [
            b if a is None else a if b is None else a + b for a, b in zip(self.sums, other.sums, strict=True)
        ]
        return Partial(sums, {**self.memory, **other.memory}, added(self.spent, other.spent))

    def by(self, worker: str, spent: Spent) -> Partial:
        """The same partial result, with what a worker spent added to the ledger."""
        return Partial(self.sums, self.memory, added(self.spent, {worker: spent}))

    def answers(self, asks: Sequence[Ask]) -> list[Any]:
        """The answers of a whole sweep; None for an ask that wanted no block."""
        return [
            None if sums is None else ask.query.answer(ask.problem, sums)
            for ask, sums in zip(asks, self.sums, strict=True)
        ]


def wants_partitions(asks: Sequence[Ask]) -> bool:
    """Whether any of the asks needs whole partitions in memory."""
    return any(ask.query.scope == "partition" for ask in asks)


def names(asks: Sequence[Ask]) -> tuple[str, ...]:
    """The names of the queries that are asked, each once."""
    return tuple(dict.fromkeys(ask.query.name for ask in asks))


class Wanted:
    """The blocks that the asks of a sweep want: all, unless every ask is content with a share of them.

    Attributes
    ----------
    masks : list of (n_blocks,) of bool, or None for all
        The blocks that each ask wants.
    blocks : (n_blocks,) of bool, or None for all
        The blocks that any ask wants: those that are read.
    """

    def __init__(self, asks: Sequence[Ask], layout: Layout) -> None:
        self.masks = [ask.query.blocks(layout.n_blocks, layout.partition_blocks) for ask in asks]
        shares = [mask for mask in self.masks if mask is not None]
        self.blocks = np.logical_or.reduce(shares) if shares and len(shares) == len(asks) else None
        self._groups: dict[bytes, list[int]] = {}
        for position, mask in enumerate(self.masks):
            self._groups.setdefault(b"" if mask is None else mask.tobytes(), []).append(position)

    def __contains__(self, block: int) -> bool:
        return self.blocks is None or bool(self.blocks[block])

    @property
    def share(self) -> float:
        """Blocks that are read, of all."""
        return 1.0 if self.blocks is None else float(self.blocks.mean())

    def positions(self, block: int) -> list[int]:
        """The positions, among the asks, of those that want a block."""
        return [i for i, mask in enumerate(self.masks) if mask is None or mask[block]]

    def groups(self, first: int, last: int) -> list[tuple[list[int], list[int]]]:
        """The asks that want the same of the blocks first..last-1: these blocks, and the positions of the
        asks; asks that want none of them are left out."""
        found = []
        for key, positions in self._groups.items():
            mask = np.frombuffer(key, bool)[first:last] if key else np.ones(last - first, bool)
            if mask.any():
                found.append(((first + np.flatnonzero(mask)).tolist(), positions))
        return found


def wire_bytes(asks: Sequence[Ask], sums: Sequence[Sums | None], layout: Layout) -> int:
    """The bytes of sums that a sweep would send over the wire, were each partition a machine of its own.

    A function of the data and the asks, not of the cluster. Sums that hold rows grow as they merge, and count
    once.
    """
    sizes = (
        (0 if part is None else part.nbytes) * (1 if ask.query.row_payload_nbytes else layout.n_partitions)
        for ask, part in zip(asks, sums, strict=True)
    )
    return sum(sizes)


class Engine(Protocol):
    """Answers asks by reading the data once.

    An engine may also have `share`, the share of the blocks that its last sweep read, and `wire_bytes`, the
    bytes of its sums. Without them sweeps count as whole, and bytes of sums not at all.
    """

    nbytes: int
    """Bytes one sweep reads, decoded."""

    memory: PartitionMemory
    """What partition queries remember; set where a fit is resumed."""

    def sweep(self, asks: Sequence[Ask]) -> list[Any]:
        """One read of the data; the answers in the order of the asks."""
        ...
