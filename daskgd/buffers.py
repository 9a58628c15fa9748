"""Memory that is used again, so that reading a block costs no page faults and leaves no holes.

The allocator takes a page fault for every 4 KiB of fresh memory; and where what a block leaves behind, some
drawn rows or sums, falls into the place that the block has just left, the next block does not fit there any
more, and a process grows with the rows that it has read. Knows numpy only.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LARGE = 1 << 20
"""Bytes from which memory is kept; less is for the allocator."""

MOST = 2
"""Buffers that a thread keeps: one to work on, one to read ahead into. Of more that are in use at a time, the
older ones are left to those who use them."""


class _Kept(threading.local):
    def __init__(self) -> None:
        self.buffers: list[Array] = []  # the last one used last


_kept = _Kept()


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
    if nbytes < LARGE or dtype.hasobject:
        return np.empty(shape, dtype)
    return _buffer(nbytes)[:nbytes].view(dtype).reshape(shape)


def _buffer(nbytes: int) -> Array:
    buffers = _kept.buffers
    fitting = (i for i, known in enumerate(map(len, buffers)) if nbytes <= known <= 2 * nbytes)
    free = next((i for i in fitting if _references(buffers, i) == _UNUSED), None)
    buffers.append(np.empty(nbytes, np.uint8) if free is None else buffers.pop(free))
    del buffers[:-MOST]
    return buffers[-1]


def _references(buffers: list[Array], i: int) -> int:
    return sys.getrefcount(buffers[i])


_UNUSED = _references([np.empty(1)], 0)
"""References to a buffer that has no views: that of the list, and what it takes to count them."""
