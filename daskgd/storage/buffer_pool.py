"""Buffers that each thread keeps for its next block: reading then costs no page faults and leaves no holes.

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

LARGE_BYTES = 1 << 20
"""Bytes from which on memory is kept for the next array; smaller arrays are the allocator's."""

MAX_BUFFERS = 4
"""Most buffers that a thread keeps: a block to work on, one to read ahead into, and what they are decoded
from. Of more that are in use at a time, the older ones are left to those who use them."""


class _Buffers:
    """The buffers of one thread, in the order of their last use."""

    def __init__(self) -> None:
        self.arrays: list[Array] = []


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.buffers = _Buffers()
        with _lock:
            _all_buffers.add(self.buffers)


_lock = threading.Lock()
_all_buffers: weakref.WeakSet[_Buffers] = weakref.WeakSet()
_local = _PerThread()


def empty_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An uninitialised array, in memory that this thread has used before where some is free.

    The array is a view of a buffer, as are all views of it: the buffer is free when they are gone.

    >>> a = empty_array((1000, 200), np.dtype(np.float64))
    >>> where, row = a.ctypes.data, a[5]
    >>> del a
    >>> b = empty_array((1000, 200), np.dtype(np.float64))  # not there: `row` still looks at it
    >>> b.ctypes.data == where
    False
    >>> del row
    >>> empty_array((500, 400), np.dtype(np.float64)).ctypes.data == where
    True
    """
    nbytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if nbytes < LARGE_BYTES:
        return np.empty(shape, dtype)
    return _take_buffer(nbytes)[:nbytes].view(dtype).reshape(shape)


def release_buffers() -> None:
    """Let go of the buffers of all threads of this process; arrays that are in use keep theirs."""
    with _lock:
        known = list(_all_buffers)
    for buffers in known:
        buffers.arrays = []  # not cleared: its thread may be looking through it


def _take_buffer(nbytes: int) -> Array:
    """A buffer of at least `nbytes` bytes, a free one of this thread if one fits."""
    arrays = _local.buffers.arrays
    fitting = (i for i, known in enumerate(map(len, arrays)) if nbytes <= known <= 2 * nbytes)
    free = next((i for i in fitting if _references(arrays, i) == _UNUSED), None)
    # Some room, as chunks are compressed to sizes that differ a little.
    arrays.append(np.empty(nbytes + nbytes // 8, np.uint8) if free is None else arrays.pop(free))
    del arrays[:-MAX_BUFFERS]
    return arrays[-1]


def _references(arrays: list[Array], i: int) -> int:
    return sys.getrefcount(arrays[i])


_UNUSED = _references([np.empty(1)], 0)
"""References to a buffer that has no views: that of the list, and what it takes to count them."""
