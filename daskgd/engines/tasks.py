"""What runs inside the tasks of a sweep's graph: the questions, a span, a merge; and how a worker settles.

A worker process imports this room and what it reads with, but not dask.array, scikit-learn or the estimators:
that would double its memory before the first row.
"""

from __future__ import annotations

import ctypes
import operator
import os
import platform
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from daskgd.columns import Source
from daskgd.engines.base import Memory, Partial, one_blas_thread, tree, walk
from daskgd.queries import Ask


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A callable of a graph. Its key is unique, so dask need not hash what it carries to tell it apart."""

    key: tuple[Any, ...]

    def __dask_tokenize__(self) -> Any:
        return self.key


@dataclass(frozen=True, slots=True, eq=False)
class Questions(Work):
    """The questions of a sweep as a task, so that they are sent once and recomputed if lost."""

    asks: list[Ask]

    def __call__(self) -> list[Ask]:
        return self.asks


@dataclass(frozen=True, slots=True, eq=False)
class Span(Work):
    """The work of one span task: walk its blocks, reading them from the source."""

    source: Source
    blocks: tuple[int, int]
    memory: Memory
    where: list[tuple[str, int]]
    driver: int

    def __call__(self, asks: list[Ask], pieces: list[Any]) -> Partial:
        if os.getpid() != self.driver:
            settle_process()
        source = self.source
        if self.where:
            held: dict[str, dict[int, Any]] = {}
            for (name, i), piece in zip(self.where, pieces, strict=True):
                held.setdefault(name, {})[i] = piece
            columns: dict[str, Any] = {
                name: replace(getattr(source, name), pieces=found) for name, found in held.items()
            }
            source = replace(source, **columns)
        return walk(source, asks, *self.blocks, self.memory)


def merge(partials: list[Partial]) -> Partial:
    """Merge consecutive nodes in the order of the tree."""
    return tree(0, len(partials), partials.__getitem__, operator.add)


@cache
def settle_process() -> None:
    """Once in a worker process: one BLAS thread for good, and an allocator that keeps the memory of a block.

    Dask's nanny exports a setting that makes glibc map and fault in every large array afresh, thousands of
    page faults per block. Undone here, a sweep reuses the same few megabytes; what is kept is what one task
    needed, and up to 256 MB.
    """
    one_blas_thread().__enter__()
    if platform.libc_ver()[0] == "glibc":
        M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(M_TRIM_THRESHOLD, 256 << 20)
