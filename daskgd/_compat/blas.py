"""How many threads BLAS computes with."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any


@cache
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_blas_thread() -> AbstractContextManager[Any]:
    """A context in which BLAS computes with one thread: more would change bits, and fight the engine's.

    The setting is of the whole process, so it is made once around a sweep, never in a task.
    """
    return _blas().limit(limits=1)
