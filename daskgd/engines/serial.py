"""The executable specification: one read of the data in a for loop. Every other engine must equal it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from daskgd.engines.base import Memory, Source, one_blas_thread, walk
from daskgd.queries import Ask


class Serial:
    """Answers asks by walking all blocks in this thread.

    Parameters
    ----------
    source :
        Where rows come from.
    nbytes : int
        Decoded bytes of one read, for the records.
    """

    def __init__(self, source: Source, nbytes: int = 0) -> None:
        self.source = source
        self.nbytes = nbytes
        self._memory: Memory = {}

    def sweep(self, asks: Sequence[Ask]) -> list[Any]:
        """One read of the data; the answers in the order of the asks."""
        with one_blas_thread():
            partial = walk(self.source, asks, 0, self.source.layout.n_blocks, self._memory)
        answers = [ask.query.answer(ask.problem, sums) for ask, sums in zip(asks, partial.sums, strict=True)]
        self._memory.update(partial.memory)
        return answers
