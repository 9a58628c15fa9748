"""Tables in HTML, as notebooks show datasets, histories and summaries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def html_table(
    caption: str, rows: Iterable[Sequence[str] | None], header: Sequence[str] = (), *, align: str = "right"
) -> str:
    """A table of texts, which are escaped: the first of a row is its name; None stands for rows left out.

    >>> html_table("sizes", [("X", "3 < 4")])  # doctest: +ELLIPSIS
    "<table><caption>sizes</caption><tr><th ...>X</th><td ...>3 &lt; 4</td></tr></table>"
    """
    lines = ["".join(f"<th>{escape(name)}</th>" for name in header)] if header else []
    for row in rows:
        if row is None:
            lines.append(f"<td colspan='{len(header)}'>...</td>")
            continue
        name, *cells = map(escape, row)
        values = "".join(f"<td style='text-align:{align}'>{cell}</td>" for cell in cells)
        lines.append(f"<th style='text-align:left'>{name}</th>{values}")
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><caption>{escape(caption)}</caption>{body}</table>"
