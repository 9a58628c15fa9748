"""Records of text: whole, and counted right, wherever a file is cut; against a reader of a byte at a time."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from daskgd.data.formats.records import (
    RangeCount,
    RecordRange,
    StrayQuote,
    UnclosedQuote,
    count_records,
    record_ranges,
)

TEXT = st.text(st.sampled_from('a,"\n\r'), max_size=30).map(str.encode)
LINES = st.lists(
    st.sampled_from(["a", "a,a", '"a,\n"', '"""",a', "", "\r", 'a,"\r\n"', 'a,""'])
    .flatmap(lambda line: st.sampled_from(["\n", "\r\n"]).map(lambda end: line + end))
    .map(str.encode),
    max_size=8,
).map(b"".join)
"""Lines that are records, mostly: random letters seldom are."""

CUTS = st.lists(st.integers(0, 30), max_size=6) | st.integers(1, 5).map(lambda n: [*range(0, 60, n)])


def counts(text: bytes, cuts: list[int], quote: bytes = b'"', separator: bytes = b",") -> list[RangeCount]:
    at = [0, *sorted({cut for cut in cuts if 0 < cut < len(text)}), len(text)]
    return [
        count_records(text[a:b], text[max(a - 2, 0) : a], quote, separator)
        for a, b in itertools.pairwise(at)
        if a < b
    ]


def slow_ends(text: bytes, quote: bytes = b'"', separator: bytes = b",") -> list[int]:
    """Where records end, byte by byte. Raises as `record_ranges` does."""
    inside, start, ends = False, 0, []
    for i, byte in enumerate(text):
        this, last = bytes([byte]), text[max(i - 1, 0) : i]
        if quote and not inside and last == quote and this not in (separator, quote, b"\r", b"\n"):
            raise StrayQuote(i)
        if quote and this == quote:
            if not inside and i and last not in (separator, quote, b"\r", b"\n"):
                raise StrayQuote(i)
            inside = not inside
        elif this == b"\n" and not inside:
            if text[start:i] not in (b"", b"\r"):
                ends.append(i + 1)
            start = i + 1
    if inside:
        raise UnclosedQuote(0)
    return [*ends, len(text)] if start < len(text) else ends


def refusal(read: Callable[[], object]) -> StrayQuote | UnclosedQuote | None:
    try:
        read()
    except (StrayQuote, UnclosedQuote) as error:
        return error
    return None


def check(text: bytes, found: list[RecordRange], ends: list[int]) -> None:
    """The ranges follow each other; each ends where a record or a blank line does, and has its records."""
    assert [r.start for r in found] == [0, *(r.stop for r in found)][: len(found)]
    rest = text[found[-1].stop if found else 0 :]
    assert not rest.strip(b"\r\n"), f"{rest!r} is in no range"
    for part in found:
        assert part.n_records == sum(part.start < end <= part.stop for end in ends), part
        assert part.has_quotes or b'"' not in text[part.start : part.stop]
        assert slow_ends(text[: part.stop]) == [end for end in ends if end <= part.stop], "cut in a record"


@pytest.mark.parametrize("texts", [TEXT, LINES], ids=["any", "lines"])
def test_ranges_cut_anywhere_add_up_to_the_records_of_the_file(texts: st.SearchStrategy[bytes]) -> None:
    @settings(max_examples=200)
    @given(texts, CUTS)
    def law(text: bytes, cuts: list[int]) -> None:
        refused = refusal(lambda: slow_ends(text))
        found = refusal(lambda: list(record_ranges(counts(text, cuts), 0)))
        assert type(found) is type(refused)
        if refused is None:
            check(text, list(record_ranges(counts(text, cuts), 0)), slow_ends(text))
        elif isinstance(refused, StrayQuote):
            assert found is not None
            assert found.at == refused.at

    law()


@given(LINES, CUTS)
def test_records_are_those_of_the_csv_module(text: bytes, cuts: list[int]) -> None:
    assume(b"\r\r" not in text)  # where the first is no end of a line, here
    try:
        rows = list(csv.reader(io.StringIO(text.decode(), newline=""), strict=True))
    except csv.Error:
        assume(False)
    found = list(record_ranges(counts(text, cuts), 0))
    assert sum(part.n_records for part in found) == sum(map(bool, rows))
    parts = [text[part.start : part.stop].decode() for part in found]
    apart = [row for part in parts for row in csv.reader(io.StringIO(part, newline=""), strict=True)]
    assert [row for row in apart if row] == [row for row in rows if row]


@given(TEXT, CUTS)
def test_where_quotes_mean_nothing_lines_are_records(text: bytes, cuts: list[int]) -> None:
    found = list(record_ranges(counts(text, cuts, b""), 0))
    lines = [line for line in text.split(b"\n")[:-1] if line not in (b"", b"\r")]
    last = text.split(b"\n")[-1]
    assert sum(part.n_records for part in found) == len(lines) + bool(last)


@given(TEXT, CUTS)
def test_quotes_and_separators_may_be_others(text: bytes, cuts: list[int]) -> None:
    """What is said of one pair of marks is said of another in their places."""
    other = text.translate(bytes.maketrans(b',"', b";'"))

    def ranges(counted: list[RangeCount]) -> list[RecordRange] | tuple[type, int]:
        try:
            return list(record_ranges(counted, 0))
        except (StrayQuote, UnclosedQuote) as error:
            return type(error), error.at

    assert ranges(counts(text, cuts)) == ranges(counts(other, cuts, b"'", b";"))


def test_ranges_begin_where_the_rows_do() -> None:
    text = b'1,2\n"3\n",4\n5'
    found = list(record_ranges(counts(text, [5, 7]), 100))
    assert [(r.start, r.stop, r.n_records) for r in found] == [(100, 104, 1), (104, 111, 1), (111, 112, 1)]
    with pytest.raises(StrayQuote) as stray:
        list(record_ranges(counts(b'1,2\n3"\n', [5]), 100))
    with pytest.raises(UnclosedQuote) as unclosed:
        list(record_ranges(counts(b'1,2\n"3\n4\n', [5, 7]), 100))
    assert (stray.value.at, unclosed.value.at) == (105, 104)
