"""Memory that is used again, so that reading a block costs no page faults and leaves no holes.

The allocator takes a page fault for every 4 KiB of fresh memory; and where what a block leaves behind, some
drawn rows or sums, falls into the place that the block has just left, the next block does not fit there any
more, and a process grows with the rows that it has read. Knows numpy only.
"""

from __future__ import annotations

import sys
import threading
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LARGE = 1 << 20
"""Bytes from which memory is kept; less is for the allocator."""

MOST = 4
"""Buffers that a thread keeps: a block to work on, one to read ahead into, and what they are decoded from. Of
more that are in use at a time, the older ones are left to those who use them."""


class _Buffers:
    """Those of one thread, the last one used last."""

    def __init__(self) -> None:
        self.arrays: list[Array] = []


class _Mine(threading.local):
    def __init__(self) -> None:
        self.buffers = _Buffers()
        with _listing:
            _everyones.add(self.buffers)


_listing = threading.Lock()
_everyones: weakref.WeakSet[_Buffers] = weakref.WeakSet()
_mine = _Mine()


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """What numpy.empty gives, of memory that this thread has used before, if nobody looks at that any more.

    The array is a view of a buffer, as are all views of it: the buffer is free when they have gone.

    >>> a = empty((1000, 200), np.dtype(np.float64))
    >>> where, row = a.ctypes.data, a[5]
    >>> del a
    >>> b = empty((1000, 200), np.dtype(np.float64))  # not there: `row` still looks at it
    >>> b.ctypes.data == where
    False
    >>> del row
    >>> empty((500, 400), np.dtype(np.float64)).ctypes.data == where
    True
    """
    nbytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if nbytes < LARGE:
        return np.empty(shape, dtype)
    return _buffer(nbytes)[:nbytes].view(dtype).reshape(shape)


def forget() -> None:
    """Keep nothing, in no thread of this process; what is in use stays with those who use it."""
    with _listing:
        everyones = list(_everyones)
    for buffers in everyones:
        buffers.arrays = []  # not cleared: its thread may be looking through it


def _buffer(nbytes: int) -> Array:
    arrays = _mine.buffers.arrays
    fitting = (i for i, known in enumerate(map(len, arrays)) if nbytes <= known <= 2 * nbytes)
    free = next((i for i in fitting if _references(arrays, i) == _UNUSED), None)
    # Some room, as chunks are compressed to sizes that differ a little.
    arrays.append(np.empty(nbytes + nbytes // 8, np.uint8) if free is None else arrays.pop(free))
    del arrays[:-MOST]
    return arrays[-1]


def _references(arrays: list[Array], i: int) -> int:
    return sys.getrefcount(arrays[i])


_UNUSED = _references([np.empty(1)], 0)
"""References to a buffer that has no views: that of the list, and what it takes to count them."""
