"""Watching a fit: the history every estimator keeps, and the line printed per iteration.

A watcher is a callable that takes a row of the history, a mapping of plain numbers. Knows no data.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO, overload

KEYS = ("iteration", "loss", "gradient_norm", "gap", "seconds", "bytes", "sweeps", "wire_bytes")
"""Of every row, in order."""


class History(Sequence[Mapping[str, Any]]):
    """One row per iteration, each a mapping with the keys

    ``iteration``, from 1; ``loss``, the objective with its penalty; ``gradient_norm``; ``gap``, the
    estimated gap relative to the objective; and, all since the fit began, ``seconds``, decoded ``bytes``
    read, ``sweeps`` and ``wire_bytes``, those of the sums, were each partition a machine that sends its own.
    `solver` is the solver with its settings, and `reason` why it was chosen.

    Examples
    --------
    >>> history = History()
    >>> history({"iteration": 1, "loss": 0.5})
    >>> history[-1]["loss"], len(history), history.column("loss")
    (0.5, 1, [0.5])
    """

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self.solver = ""
        self.reason = ""

    def __call__(self, row: Mapping[str, Any]) -> None:
        self._rows.append(dict(row))

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def column(self, key: str) -> list[Any]:
        """The values under one key, a row each."""
        return [row[key] for row in self._rows]

    def __repr__(self) -> str:
        if not self._rows:
            return "<History: empty>"
        last = self._rows[-1]
        return f"<History: {len(self)} iterations, loss {last['loss']:.6g}, {last.get('sweeps')} sweeps>"


class Printer:
    """Prints a line per iteration: quiet enough for a batch log."""

    def __init__(self, name: str, stream: TextIO | None = None) -> None:
        self.name = name
        self.stream = stream

    def __call__(self, row: Mapping[str, Any]) -> None:
        rate = row["bytes"] / max(row["seconds"], 1e-9) / 1e9
        print(
            f"{self.name}: iteration {row['iteration']:>4}  sweeps {row['sweeps']:>4}  "
            f"loss {row['loss']:.8g}  gap {row['gap']:.1e}  {row['seconds']:.1f} s  {rate:.2f} GB/s",
            file=self.stream or sys.stdout,
            flush=True,
        )
