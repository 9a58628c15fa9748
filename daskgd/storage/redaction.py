"""What messages may say of places and errors: URLs without passwords and signatures, options not at all.

Knows text and exceptions only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

MOST_CHARACTERS = 500
"""Most characters of an error of a library that are repeated: some quote all of what they could not read."""

_USER = re.compile(r"(?<=://)(?:[^\s/?#'\"<>]*@|[^\s/?#@'\"<>]*:(?!\d+[/?#])[^\s@?#'\"<>]*@)")
_QUERY = re.compile(r"(://[^\s?#'\"<>]*)[?#][^\s'\"<>]*?(?=[:,;.)\]]*(?:\s|$)|::[A-Za-z]|['\"<>])")


def redacted(url: str) -> str:
    """A URL without user, password, query string and fragment, which may grant access; text that holds URLs
    likewise. Paths stay as they are.

    >>> redacted("https://me:secret@host:81/a.zarr?sig=abc#x"), redacted("/data/what?.zarr")
    ('https://host:81/a.zarr', '/data/what?.zarr')
    """
    return _QUERY.sub(r"\1", _USER.sub("", url)) if "://" in url else url


def redacted_message(error: BaseException, options: Any = None) -> str:
    """An error in words, without secrets: those of URLs in it, and whatever text is among `options`."""
    text = redacted(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    for secret in sorted(_texts(options), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "..."


def redacted_error(error: BaseException, options: Any = None, where: str = "") -> BaseException:
    """An error of the same type whose words are those of `redacted_message`, and its causes likewise; after
    the name of a place, `where`, if there is one.

    Tracebacks print causes; and whether an error is transient is told by its type.
    """
    kind, text = type(error), redacted_message(error, options).removeprefix(f"{type(error).__name__}: ")
    text = f"{where}: {text}" if where else text
    other = _with_words(kind, text)
    if error.__cause__ is not None:
        other.__cause__ = redacted_error(error.__cause__, options)
    return other


def _with_words(kind: type[BaseException], text: str) -> BaseException:
    """An error of a type, which may want any arguments, that says `text` and nothing else."""
    names = {
        "__module__": kind.__module__,
        "__str__": lambda self: text,
        "__repr__": lambda self: text,
        "__reduce__": lambda self: (_with_words, (kind, text)),
    }
    other: BaseException = kind.__new__(type(kind.__name__, (kind,), names))
    other.args = (text,)
    return other


def _texts(options: Any) -> Iterator[str]:
    """The texts among options, however deep, that are long enough to be secrets."""
    if isinstance(options, dict):
        for value in options.values():
            yield from _texts(value)
    elif isinstance(options, list | tuple):
        for value in options:
            yield from _texts(value)
    elif isinstance(options, str) and len(options) > 3:  # shorter ones are words like "us" and "0"
        yield options
