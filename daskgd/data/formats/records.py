"""Where the records of a text file end: a file is cut at any byte, and read from record to record.

A newline ends a record unless an odd number of quotes comes before it. A range of bytes counts for both
cases, as what comes before is not known where it is read; put together, the ranges of a file tell which case
holds. Knows bytes and nothing else: no columns, no library that parses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

NEWLINE, RETURN = 10, 13


@dataclass(frozen=True, slots=True)
class RangeCount:
    """What a range of bytes says of records; pairs are for a range that begins outside quotes, and inside.

    Attributes
    ----------
    size : int
        Bytes.
    records : (int, int)
        Records that end in the range; lines that are blank are none.
    stops : (int, int)
        Where the last of them ends, in bytes from the start of the range; 0 for none.
    quotes : int
        Quotes in the range.
    strays : (int, int)
        Where first a quote opens in the middle of a field, or a field goes on after one that closes, in bytes
        from the start; -1 for none.
    """

    size: int
    records: tuple[int, int]
    stops: tuple[int, int]
    quotes: int
    strays: tuple[int, int]


def count_records(
    text: bytes, before: bytes = b"", quote: bytes = b'"', separator: bytes = b","
) -> RangeCount:
    """Count the records that end in a range of bytes.

    `before` are the two bytes before the range, fewer at the start of the records; `quote` is b"" where
    quotes mean nothing.

    >>> text = b'a,"b' + bytes([10]) + b'c"' + bytes([10])
    >>> count_records(text).records, count_records(text[4:], b'"b').records
    ((1, 1), (1, 1))
    """
    whole, n_before = np.frombuffer(before + text, np.uint8), len(before)
    newlines = np.flatnonzero(whole == NEWLINE)
    between = np.diff(newlines, prepend=-1) - 1
    returned = whole[newlines - 1] == RETURN
    ends = ~((between == 0) | ((between == 1) & returned))
    own = newlines >= n_before
    newlines, ends = newlines[own], ends[own]
    first_after = n_before > 0 and len(text) > 0 and before[-1:] == quote
    if not quote or not (quote in text or first_after):
        n, stop = int(ends.sum()), int(newlines[-1]) + 1 - n_before if len(newlines) else 0
        return RangeCount(len(text), (n, 0), (stop, 0), 0, (-1, -1))  # inside quotes nothing ends
    quotes = n_before + np.flatnonzero(whole[n_before:] == quote[0])
    inside = np.searchsorted(quotes, newlines) % 2
    fits = np.zeros(256, bool)  # what may be beside a quote, outside
    fits[np.frombuffer(separator + quote + b"\r\n", np.uint8)] = True
    records, stops, strays = [], [], []
    for begins_inside in (0, 1):
        mine = inside == begins_inside
        records.append(int(ends[mine].sum()))
        stops.append(int(newlines[mine][-1]) + 1 - n_before if mine.any() else 0)
        opening = quotes[begins_inside::2]
        opening = opening[opening > 0]
        after = quotes[1 - begins_inside :: 2] + 1
        after = after[after < len(whole)]
        odd = [opening[~fits[whole[opening - 1]]], after[~fits[whole[after]]]]
        if first_after and not begins_inside and not fits[whole[n_before]]:
            odd.append(np.array([n_before]))
        strays.append(min((int(one[0]) - n_before for one in odd if len(one)), default=-1))
    pairs = ((a[0], a[1]) for a in (records, stops, strays))
    found, last, stray = pairs
    return RangeCount(len(text), found, last, len(quotes), stray)


@dataclass(frozen=True, slots=True)
class RecordRange:
    """The bytes `start` to `stop` of a file, which are so many whole records."""

    start: int
    stop: int
    n_records: int
    has_quotes: bool


class StrayQuote(ValueError):
    """A quote that opens in the middle of a field, or after one that closes more of it, at a byte of the
    file."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at


class UnclosedQuote(ValueError):
    """A quote that the file ends without closing, in the record that begins at a byte of the file."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at


def record_ranges(counts: Iterable[RangeCount], start: int) -> Iterator[RecordRange]:
    """The records of a file by its ranges, which follow each other from byte `start` on.

    Raises StrayQuote and UnclosedQuote where records cannot be told apart.
    """
    inside, begin, at, quotes = 0, start, start, 0
    for count in counts:
        if count.strays[inside] >= 0:
            raise StrayQuote(at + count.strays[inside])
        quotes += count.quotes
        if count.stops[inside]:
            stop = at + count.stops[inside]
            yield RecordRange(begin, stop, count.records[inside], quotes > 0)
            begin, quotes = stop, count.quotes
        inside, at = (inside + count.quotes) % 2, at + count.size
    if inside:
        raise UnclosedQuote(begin)
    if begin < at:  # the last record has no newline
        yield RecordRange(begin, at, 1, quotes > 0)
