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

SPARE = 2
"""Buffers that a thread keeps while nobody uses them."""


class _Kept(threading.local):
    def __init__(self) -> None:
        self.buffers: list[Array] = []


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
    # Referred to by the list, and in each round by `i`'s expression alone.
    free = [i for i in range(len(buffers)) if sys.getrefcount(buffers[i]) == _UNUSED]
    fitting = [i for i in free if nbytes <= len(buffers[i]) <= 2 * nbytes]
    if fitting:
        buffers.append(buffers.pop(fitting[-1]))
        return buffers[-1]
    for i in reversed(free[: len(free) - SPARE + 1]):  # the ones longest unused
        del buffers[i]
    buffers.append(np.empty(nbytes, np.uint8))
    return buffers[-1]


def _references() -> int:
    """What is counted for an array that a list alone refers to."""
    only = [np.empty(1)]
    return sys.getrefcount(only[0])


_UNUSED = _references()
