"""What a query is, and what those over rows share."""

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

Array = NDArray[Any]


class Query:
    """A question to the data; frozen dataclasses all."""

    scope: ClassVar[str] = "tile"
    """Which of the next three it answers: tile, block or partition."""

    name: ClassVar[str] = "query"
    """How tasks that answer it are called on the Dask dashboard: ``daskgd-<name>``."""

    memory: ClassVar[str | None] = None
    """For partition scope: under which name to keep what `partition` returns, if anything."""

    compute_bound: ClassVar[bool] = False
    """Whether a tile takes as many multiplications for each number of X as there are features."""

    by_row_number: ClassVar[bool] = False
    """Whether the answer depends on the numbers of rows, as that of a random choice of rows does: a row of
    weight 2 is then not the same as two rows."""

    @property
    def row_payload_nbytes(self) -> int:
        """Bytes of the grand total, about, where sums hold rows and grow as they merge; else 0."""
        return 0

    def blocks(self, n_blocks: int, partition_blocks: int) -> Array | None:
        """Which blocks it wants to see, ``(n_blocks,)`` of bool; None for all. An engine reads no block that
        nobody wants; the answer is None where it wants none at all."""
        return None

    def result_nbytes(self, problem: Problem | None, n_features: int) -> int:
        """Bytes of its sums, about, for X of so many features; leaving rows out."""
        arrays = (np.size(getattr(self, f.name)) for f in fields(self))  # type: ignore[arg-type]
        return 8 * max(8 * n_features, *arrays, 0)

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        """The contribution of some rows."""
        raise NotImplementedError

    def block(self, problem: Problem, rows: Rows) -> Sums:
        """The contribution of a block, as stored: for what has little to do with most rows."""
        raise NotImplementedError

    def partition(self, problem: Problem, rows: Rows, memory: Any) -> tuple[Sums, Any]:
        """The contribution of a whole partition, and what to remember of it."""
        raise NotImplementedError

    def answer(self, problem: Problem, sums: Sums) -> Any:
        """From the grand total to the answer."""
        raise NotImplementedError


class Ask(NamedTuple):
    """One question of one fit: `run` names the fit, so that partition memories do not mix."""

    problem: Any
    query: Query
    run: str = ""


# -- for queries over rows -----------------------------------------------------------------------


def weighted(values: Array, s: Array | None) -> Array:
    """values times weights, in the dtype of `values`."""
    if s is None:
        return values
    s = s.astype(values.dtype)
    out: Array = values * s.reshape(-1, *[1] * (values.ndim - 1))
    return out


def summed(values: Array, s: Array | None) -> Any:
    """Weighted sum over rows, in float64."""
    if s is not None:
        return s @ values.astype(np.float64)
    return np.add.reduce(values, axis=0, dtype=np.float64)


def check_finite(tile: Tile, *sums: Any) -> None:
    """Raise ValueError for NaN and infinity in rows that may be why `sums` are not finite: sound rows pay
    nothing. Sums of sound rows may overflow, which is for stop rules to judge.

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
    return float(len(tile)) if s is None else float(s.sum())


def columns(y: Array) -> Array:
    """Targets as ``(n, k)``, where there are none of them too."""
    return y[:, None] if y.ndim == 1 else y


def one_column(y: Array) -> Array:
    if y.ndim == 2 and y.shape[1] != 1:
        raise ValueError(
            f"y: expected one label per row for classification, got shape (n, {y.shape[1]}); "
            "multi-label targets are not supported"
        )
    return y.reshape(len(y))


def on(rows: Rows, problem: Problem, query: Query) -> Any:
    """The answer of a query of tiles from rows in memory, here and now: no sweep."""
    return query.answer(problem, total(query.tile(problem, tile) for tile in rows.tiles()))


def total(parts: Iterator[Sums]) -> Sums:
    """The sum of one or more, in order."""
    out = next(parts)
    for part in parts:
        out = out + part
    return out
