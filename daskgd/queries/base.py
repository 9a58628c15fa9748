"""The base of all queries, and helpers of those that sum over rows. Knows problems and rows; no engine, no
solver and no storage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.queries.sums import Sums
from daskgd.rows.invalid_rows import InvalidRows
from daskgd.rows.tiles import Rows, Tile
from daskgd.rows.views import View

Array = NDArray[Any]


MARGINS = 1 << 20
"""Most margins of a tile that are computed at a time: 8 MB of float64."""


class Query:
    """The base of all queries: a question that one sweep over the data answers. Subclasses are frozen
    dataclasses."""

    scope: ClassVar[str] = "tile"
    """What the query sees of the data at a time: "tile", "block" or "partition"."""

    name: ClassVar[str] = "query"
    """The name of tasks that answer it, on the Dask dashboard: ``daskgd-<name>``."""

    memory: ClassVar[str | None] = None
    """The name under which engines keep what `partition` remembers; None where it remembers nothing."""

    compute_bound: ClassVar[bool] = False
    """Whether a tile costs about p multiplications for each number of X ``(n, p)``, so that computing, not
    reading, takes the time."""

    by_row_number: ClassVar[bool] = False
    """Whether the answer depends on the numbers of rows, as that of a random choice of rows does: a row of
    weight 2 is then not the same as two rows."""

    @property
    def row_payload_nbytes(self) -> int:
        """The bytes of rows in the grand total, about, for queries whose sums hold rows and grow as they
        merge; 0 for others."""
        return 0

    def blocks(self, n_blocks: int, partition_blocks: int) -> Array | None:
        """The blocks that the query wants to see, ``(n_blocks,)`` of bool; None for all. An engine reads no
        block that no query wants; the answer is None where a query wants none."""
        return None

    def result_nbytes(self, problem: Problem | None, n_features: int) -> int:
        """The bytes of the sums, about, for X of `n_features` columns; rows that they hold are not
        counted."""
        arrays = (np.size(getattr(self, f.name)) for f in fields(self))  # type: ignore[arg-type]
        return 8 * max(8 * n_features, *arrays, 0)

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        """The sums of one tile, for the scope "tile"."""
        raise NotImplementedError

    def of_tile(self, problem: Problem | None, tile: Tile) -> Sums:
        """The sums of one tile, in pieces where its rows have so many margins that they would fill caches."""
        if problem is not None and problem.leaves_out(tile):
            tile = tile.nothing()
        height = max(MARGINS // (1 if problem is None else problem.model.outputs), 16)
        if len(tile) <= height:
            return self.tile(problem, tile)  # type: ignore[arg-type]
        return total(self.tile(problem, piece) for piece in tile.pieces(height))  # type: ignore[arg-type]

    def block(self, problem: Problem, rows: Rows) -> Sums:
        """The sums of one block as it is stored, for the scope "block": for queries that have little to do
        with most rows."""
        raise NotImplementedError

    def partition(self, problem: Problem, rows: Rows, memory: Any) -> tuple[Sums, Any]:
        """The sums of one whole partition, for the scope "partition", and what to remember of it until the
        next sweep."""
        raise NotImplementedError

    def answer(self, problem: Problem, sums: Sums) -> Any:
        """The answer that the solver gets, from the sums of all rows; runs on the driver."""
        raise NotImplementedError


class Ask(NamedTuple):
    """A query with the problem it is about; `run` names the fit that asks, so that memories of partitions do
    not mix. `view` is what the query sees of the rows; None for all of them as they are stored."""

    problem: Any
    query: Query
    run: str = ""
    view: View | None = None

    def result_nbytes(self, n_features: int) -> int:
        """The bytes of the sums, about, over data of which so many features are stored."""
        seen = None if self.view is None else self.view.n_features
        return self.query.result_nbytes(self.problem, n_features if seen is None else seen)


# -- for queries over rows -----------------------------------------------------------------------


def weighted(values: Array, s: Array | None) -> Array:
    """The values ``(n, ...)`` times the weights ``(n,)`` of their rows, in the dtype of `values`."""
    if s is None:
        return values
    s = s.astype(values.dtype).reshape(-1, *[1] * (values.ndim - 1))
    out: Array = values * s
    if not np.isfinite(np.add.reduce(out, axis=None)):  # a row without weight is absent, whatever it holds
        out[np.broadcast_to(s == 0, out.shape)] = 0
    return out


def summed(values: Array, s: Array | None) -> Any:
    """The weighted sum of values ``(n, ...)`` over rows, in float64."""
    if s is not None:
        out = s @ values.astype(np.float64)
        return out if np.isfinite(out).all() else s[s != 0] @ values[s != 0].astype(np.float64)
    return np.add.reduce(values, axis=0, dtype=np.float64)


def check_finite(tile: Tile, *sums: Any) -> None:
    """Raise ValueError if `sums` are not finite because rows of the tile hold NaN or infinity. Sound rows pay
    nothing; where their sums overflow, that is for stop rules to judge.

    The survey has refused such rows before: here they are those that have changed since, and those of
    questions asked without one.
    """
    if all(np.isfinite(part).all() for part in sums):
        return
    assert tile.y is not None
    bads = {
        "X": tile.X.nonfinite(tile.numbers),
        "y": InvalidRows.nonfinite(tile.y, tile.numbers),
        "sample_weight": InvalidRows.weights(tile.sample_weight, tile.numbers),
    }
    for name, bad in bads.items():
        if bad.first is not None:
            row, column, value = bad.first
            where = f"row {row}" + (f", column {column}" if column >= 0 else "")
            raise ValueError(
                f"Input {name} contains {'NaN' if np.isnan(value) else 'infinity'}: expected finite numbers, "
                f"got {value} in {where}; impute or drop such rows, and if an earlier sweep let them pass, "
                "do not change the data while it is fitted"
            )


def total_weight(tile: Tile, s: Array | None) -> float:
    """The total weight of a tile: the sum of s ``(n,)``, or the number of its rows where s is None."""
    return float(len(tile)) if s is None else float(s.sum())


def columns(y: Array) -> Array:
    """The targets as columns ``(n, k)``, of ``(n,)`` or ``(n, k)``, even where n is 0."""
    return y[:, None] if y.ndim == 1 else y


def one_column(y: Array) -> Array:
    """The labels as ``(n,)``, of ``(n,)`` or ``(n, 1)``; ValueError for several columns."""
    if y.ndim == 2 and y.shape[1] != 1:
        raise ValueError(
            f"y: expected one label per row for classification, got shape (n, {y.shape[1]}); "
            "multi-label targets are not supported"
        )
    return y.reshape(len(y))


def on(rows: Rows, problem: Problem, query: Query) -> Any:
    """The answer of a tile query from rows in memory, without a sweep."""
    return query.answer(problem, total(query.of_tile(problem, tile) for tile in rows.tiles()))


def total(parts: Iterator[Sums]) -> Sums:
    """The sum of one or more Sums, added in order."""
    out = next(parts)
    for part in parts:
        out = out + part
    return out
