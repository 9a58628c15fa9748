"""What every engine shares: the order of the rows, the merge tree, and how a span is walked.

Knows numpy and how to ask for rows; no dask, no zarr. The promise of the same bits from every engine
rests on this file: which rows are a block, in which order sums merge, and that one BLAS thread computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from daskgd.engines.timing import Ledger, Spent, added
from daskgd.queries import Ask
from daskgd.queries.sums import Sums
from daskgd.rows.layout import Layout

Array = NDArray[Any]


# -- walking a span -----------------------------------------------------------------------------

PartitionMemory = dict[tuple[str, str, int], Any]
"""What partition queries remember, by (run, name, partition)."""


@dataclass(frozen=True, slots=True)
class Partial:
    """What a span, or several, contribute: Sums for each ask, and new partition memories; and who spent what
    on it.


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
        """The same, for which a worker spent so much more."""
        return Partial(self.sums, self.memory, added(self.spent, {worker: spent}))

    def answers(self, asks: Sequence[Ask]) -> list[Any]:
        """Of a whole sweep; None for an ask that wanted no block."""
        return [
            None if sums is None else ask.query.answer(ask.problem, sums)
            for ask, sums in zip(asks, self.sums, strict=True)
        ]


def wants_partitions(asks: Sequence[Ask]) -> bool:
    """Whether any of the asks needs whole partitions in memory."""
    return any(ask.query.scope == "partition" for ask in asks)


def names(asks: Sequence[Ask]) -> tuple[str, ...]:
    """What kinds of questions they are, each once."""
    return tuple(dict.fromkeys(ask.query.name for ask in asks))


class Wanted:
    """Which blocks some asks want: all, unless every one of them is content with a share.

    Attributes
    ----------
    each : list of (n_blocks,) of bool, or None for all
        By ask.
    blocks : (n_blocks,) of bool, or None for all
        Those that are to be read.
    apart : bool
        Whether any wants a share only.
    """

    def __init__(self, asks: Sequence[Ask], layout: Layout) -> None:
        self.each = [ask.query.blocks(layout.n_blocks, layout.partition_blocks) for ask in asks]
        shares = [mask for mask in self.each if mask is not None]
        self.apart = bool(shares)
        self.blocks = np.logical_or.reduce(shares) if shares and len(shares) == len(asks) else None
        self._groups: dict[bytes, list[Ask]] = {}
        for ask, mask in zip(asks, self.each, strict=True):
            self._groups.setdefault(b"" if mask is None else mask.tobytes(), []).append(ask)

    def __contains__(self, block: int) -> bool:
        return self.blocks is None or bool(self.blocks[block])

    @property
    def share(self) -> float:
        """Blocks that are read, of all."""
        return 1.0 if self.blocks is None else float(self.blocks.mean())

    def groups(self, first: int, last: int) -> list[tuple[list[int], list[Ask]]]:
        """Blocks of first..last-1 that are wanted, and the asks that want just these; none without blocks."""
        found = []
        for key, asks in self._groups.items():
            mask = np.frombuffer(key, bool)[first:last] if key else np.ones(last - first, bool)
            if mask.any():
                found.append(((first + np.flatnonzero(mask)).tolist(), asks))
        return found


def wire_bytes(asks: Sequence[Ask], sums: Sequence[Sums | None], layout: Layout) -> int:
    """Bytes of the sums of a sweep, were each partition a machine that sends its own; a function of the data
    and the questions, not of the cluster. Sums that hold rows grow as they merge and count once."""
    sizes = (
        (0 if part is None else part.nbytes) * (1 if ask.query.row_payload_nbytes else layout.n_partitions)
        for ask, part in zip(asks, sums, strict=True)
    )
    return sum(sizes)


@cache
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_blas_thread() -> AbstractContextManager[Any]:
    """Within this context BLAS computes with one thread: more would change bits, and fight the engine's.

    The setting is of the whole process, so it is made once around a sweep, never in a task.
    """
    return _blas().limit(limits=1)


class Engine(Protocol):
    """Whatever answers asks by reading the data once."""

    nbytes: int
    """Bytes one sweep reads, decoded."""

    memory: PartitionMemory
    """What partition queries remember; set where a fit is resumed."""

    # An engine that knows what it read and what travels says so of its last sweep: `share`, of the blocks,
    # and `wire_bytes`. Without them sweeps count as whole, and bytes of sums not at all.

    def sweep(self, asks: Sequence[Ask]) -> list[Any]:
        """One read of the data; the answers in the order of the asks."""
        ...
