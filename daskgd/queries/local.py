"""Queries about a share of the blocks, and queries that let partitions work on their own rows. Knows no
solver: the work is a callable that it hands over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.queries.base import Query, total
from daskgd.queries.compression import compress, decompress, mix_keys
from daskgd.queries.objective import Gradient
from daskgd.queries.sums import Sums
from daskgd.rows.random_numbers import HALF, row_random_numbers
from daskgd.rows.tiles import Rows, Tile

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Share:
    """A share of the blocks: part `part` of `parts` about equal ones, in an order drawn from (seed, epoch).
    The parts of an epoch hold every block once.

    Attributes
    ----------
    seed, epoch, part, parts : int
    within : bool
        Whether every partition is cut into parts by itself, so that all of them have work in each.
    """

    seed: int
    epoch: int
    part: int
    parts: int
    within: bool = False

    def blocks(self, n_blocks: int, partition_blocks: int) -> Array | None:
        """The blocks of the share, ``(n_blocks,)`` of bool; None where it holds all."""
        if self.parts == 1:
            return None
        out = np.zeros(n_blocks, dtype=bool)
        size = partition_blocks if self.within else max(n_blocks, 1)
        for first in range(0, n_blocks, size):
            draw = np.random.Philox(key=[self.seed, first], counter=[0, 0, self.epoch, BLOCKS])
            order = np.random.Generator(draw).permutation(min(size, n_blocks - first))
            out[first + order[self.part :: self.parts]] = True
        return out


BLOCKS = 0x626C6F636B73
"""The counter that keeps random orders of blocks apart from those of rows."""


@dataclass(frozen=True, slots=True, eq=False)
class Part(Query):
    """A tile query asked of a share of the blocks only: answers ``(its answer, the total weight of the rows
    seen)``, or None where the share holds no block.

    With a `wire` other than float64 the sums of a partition travel compressed, by random numbers of `key`;
    the rows of a partition are then in memory together.
    """

    query: Query
    share: Share
    wire: str = "float64"
    key: int = 0

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.query.name

    @property
    def scope(self) -> str:  # type: ignore[override]
        return "tile" if self.wire == "float64" else "partition"

    @property
    def compute_bound(self) -> bool:  # type: ignore[override]
        return self.query.compute_bound

    def result_nbytes(self, problem: Problem | None, n_features: int) -> int:
        return self.query.result_nbytes(problem, n_features)

    def blocks(self, n_blocks: int, partition_blocks: int) -> Array | None:
        return self.share.blocks(n_blocks, partition_blocks)

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        return self.query.tile(problem, tile)

    def partition(self, problem: Problem, rows: Rows, memory: Any) -> tuple[Sums, Any]:
        sums = total(self.query.of_tile(problem, tile) for tile in rows.tiles())
        return compress(sums, self.wire, mix_keys(self.key, rows.start)), None

    def answer(self, problem: Problem, sums: Sums) -> tuple[Any, float]:
        sums = decompress(sums)
        return self.query.answer(problem, sums), float(sums["weight"])


# -- local work ----------------------------------------------------------------------------------

Work = Callable[[Problem, Rows, Array, Array, Any], tuple[Array, Any]]
"""``work(problem, rows, w, g, memory) -> (vector (k,), memory)``, picklable and pure; g is the gradient at w
of the objective over the partition's own rows, penalty included, and memory what the last round returned."""


@dataclass(frozen=True, slots=True, eq=False)
class Local(Query):
    """Local work: each partition starts from `w`, works on its own rows and returns a vector, such as how far
    it went.

    Answers ``(f, g, v)``: the objective and gradient at `w`, and the average of the vectors, each weighted
    with the weight of its rows. A partition's memory is kept for `w`'s next round.

    Attributes
    ----------
    w : (d,)
    work : Work
    size : int or None
        Length k of the vectors; None is d.
    share : Share or None
        Of the blocks of every partition.
    wire : str
        The dtype in which sums of a partition travel, compressed by random numbers of `key`.
    """

    name: ClassVar[str] = "local"
    scope: ClassVar[str] = "partition"
    memory: ClassVar[str | None] = "local"
    w: Array
    work: Work
    size: int | None = None
    share: Share | None = None
    wire: str = "float64"
    key: int = 0

    def result_nbytes(self, problem: Problem | None, n_features: int) -> int:
        return max(Query.result_nbytes(self, problem, n_features), 8 * (self.size or 0))

    def blocks(self, n_blocks: int, partition_blocks: int) -> Array | None:
        return None if self.share is None else self.share.blocks(n_blocks, partition_blocks)

    def partition(self, problem: Problem, rows: Rows, memory: Any) -> tuple[Sums, Any]:
        gradient = Gradient(self.w)
        sums = total(gradient.of_tile(problem, tile) for tile in rows.tiles())
        v = np.zeros(self.size or len(self.w))
        if sums["weight"] > 0:
            _, g = gradient.answer(problem, sums)
            v, memory = self.work(problem, rows, self.w, g, memory)
        key = mix_keys(self.key, rows.start)
        return compress(Sums(vector=v * sums["weight"], **sums), self.wire, key), memory

    def answer(self, problem: Problem, sums: Sums) -> tuple[float, Array, Array]:
        sums = decompress(sums)
        f, g = Gradient(self.w).answer(problem, sums)
        return f, g, sums["vector"] / sums["weight"]


@dataclass(frozen=True, slots=True)
class Dispersion:
    """The dispersion of the partitions' own gradients at one point.

    Attributes
    ----------
    partitions : int
        Those with rows.
    between : float
        ``sum_i (W_i / W) |g_i - g|**2``.
    expected : float
        What the sampling of rows alone would make of it.
    """

    partitions: int
    between: float
    expected: float

    @property
    def ratio(self) -> float:
        """The dispersion relative to what chance explains; 1 where there is nothing to compare."""
        return self.between / self.expected if self.expected > 0 else 1.0

    @property
    def differ(self) -> bool:
        """Whether the partitions' rows differ beyond chance.

        Between few partitions chance reaches far: the ratio is about one of F's, with a degree of freedom or
        more for each partition.
        """
        return self.partitions > 1 and self.ratio > UNLIKE * (1 + 4 / self.partitions)

    def __str__(self) -> str:
        return (
            f"partitions differ: the squared distance of their gradients from the mean is {self.ratio:.3g} "
            f"times what chance explains (the rows of {self.partitions} partitions seem to be sorted)"
        )


UNLIKE = 10.0
"""The dispersion, relative to what chance explains, beyond which partitions are said to differ."""


@dataclass(frozen=True, slots=True, eq=False)
class Spread(Query):
    """The :class:`Dispersion` of the partitions' own gradients at `w` ``(d,)``.

    Each partition's rows are halved at random. With weights A and B, gradients a and b of the halves differ
    by chance alone, and ``|a - b|**2 A B / (A + B)**2`` is on average the squared error of the whole's,
    whatever the model.
    """

    name: ClassVar[str] = "spread"
    scope: ClassVar[str] = "partition"
    by_row_number: ClassVar[bool] = True
    w: Array
    share: Share | None = None

    def blocks(self, n_blocks: int, partition_blocks: int) -> Array | None:
        return None if self.share is None else self.share.blocks(n_blocks, partition_blocks)

    def partition(self, problem: Problem, rows: Rows, memory: Any) -> tuple[Sums, Any]:
        gradient, halves = Gradient(self.w), []
        first = row_random_numbers(rows.numbers, 0, HALF) < 0.5
        for half in (first, ~first):
            at = np.array_split(np.flatnonzero(half), max(len(rows) // 10_000, 1))
            halves.append(total(gradient.tile(problem, rows.select(some).tile()) for some in at))
        A, B = (half["weight"] for half in halves)
        W = A + B
        square = noise = 0.0
        g = halves[0]["gradient"] + halves[1]["gradient"]
        if A > 0 and B > 0:
            apart = halves[0]["gradient"] / A - halves[1]["gradient"] / B
            square, noise = float(g @ g) / W, float(apart @ apart) * A * B / W
        return Sums(square=square, noise=noise, gradient=g, weight=W, heavy=W * W, n=int(W > 0)), None

    def answer(self, problem: Problem, sums: Sums) -> Dispersion:
        W = sums["weight"]
        g = sums["gradient"] / W
        between = max(sums["square"] / W - float(g @ g), 0.0)
        return Dispersion(sums["n"], between, sums["noise"] / W * (1 - sums["heavy"] / W**2))
