"""Reads that fail and may succeed a moment later: which those are, and how long to wait between attempts.

Knows no arrays and no storage: only exceptions and the clock.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

logger = logging.getLogger("daskgd")

FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
"""Seconds to wait before the second attempt; they double with each one, up to the longest."""

PERMANENT = (
    ValueError,
    FileNotFoundError,
    NotADirectoryError,
    IsADirectoryError,
    FileExistsError,
    PermissionError,
)
"""Errors that come back at every attempt: data that are wrong, not there, or not to be read by this user."""

NETWORK = frozenset(
    ("aiohttp", "azure", "botocore", "gcsfs", "google", "httpcore", "httpx", "obstore", "urllib3")
)
"""Packages whose errors are of the network, though not always an OSError."""


def is_denied(error: BaseException | None) -> bool:
    """Whether an error says that this user may not read, or is not known; by the names that the libraries of
    object stores have for it, too.

    >>> class NoCredentialsError(Exception): ...
    >>> is_denied(PermissionError("Access Denied")), is_denied(NoCredentialsError()), is_denied(OSError())
    (True, True, False)
    """
    while error is not None:
        name = type(error).__name__
        if isinstance(error, PermissionError) or "Credential" in name or "Authentication" in name:
            return True
        error = error.__cause__
    return False


def is_transient(error: BaseException | None) -> bool:
    """Whether an error may be gone at the next attempt: it is one of the system or network, or caused by one.

    >>> is_transient(OSError(5, "Input/output error")), is_transient(TimeoutError())
    (True, True)
    >>> is_transient(FileNotFoundError("c/0 is missing")), is_transient(ValueError("checksums differ"))
    (False, False)
    """
    if is_denied(error):
        return False
    while error is not None:
        if isinstance(error, PERMANENT):
            return False
        if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in NETWORK:
            return "checksum" not in str(error)  # of which some codecs complain with an OSError
        error = error.__cause__
    return False


def with_retries(read: Callable[[], T], retries: int, what: str) -> T:
    """Return what `read` returns; it is called again after a transient error, up to `retries` times.

    Waits 0.2 s, 0.4 s and so on up to 5 s, each less a random part of up to a half, so that tasks which a
    store turned away together do not come back together. `what` is said in the log, without the error's own
    words: these may hold a signed URL.
    """
    for attempt in range(retries):
        try:
            return read()
        except Exception as error:
            if not is_transient(error):
                raise
            seconds = min(FIRST_WAIT * 2**attempt, LONGEST_WAIT) * random.uniform(0.5, 1)
            cause = error.__cause__ or error
            logger.warning(
                "%s: %s; read again in %.1f s (%d of %d)",
                what,
                type(cause).__name__,
                seconds,
                attempt + 1,
                retries,
            )
        time.sleep(seconds)
    return read()
