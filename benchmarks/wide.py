"""Sparse rows of many columns, the same ones every time and a block at a time: a click log, and hashed text.

The click log has 13 numbers, of which a fifth is missing (and 0), and 26 categories, from 3 values in the
first to 400,000 in the last, as frequent as Zipf's law has it. Columns are correlated: two thirds of the
categories, and four of the numbers, follow one of two hidden traits of the row. Some 3 % are positive.

The text is bags of words by Zipf's law, half of them from a list of the row's topic, hashed to 2 ** 18
columns; values are frequencies, rows have norm 1, and half are positive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array

BLOCK = 100_000
NUMBERS, SIZES = 13, np.geomspace(3, 400_000, 26).astype(int)
WORDS, TOPICS, BUCKETS = 1_000_000, 20, 1 << 18


class Clicks(NamedTuple):
    """Rows of the click log before they are encoded."""

    numbers: Any
    codes: Any
    y: Any

    @property
    def X(self) -> csr_array:
        """One-hot encoded, numbers first, without the zeros."""
        m, k = len(self.y), NUMBERS + len(SIZES)
        columns, values = np.empty((m, k), np.int32), np.ones((m, k), np.float32)
        columns[:, :NUMBERS], values[:, :NUMBERS] = np.arange(NUMBERS), self.numbers
        columns[:, NUMBERS:] = self.codes + NUMBERS + np.concatenate([[0], np.cumsum(SIZES[:-1])])
        bounds = np.arange(0, k * m + 1, k, dtype=np.int32)
        X = csr_array((values.ravel(), columns.ravel(), bounds), shape=(m, NUMBERS + int(SIZES.sum())))
        X.eliminate_zeros()
        return X


def zipf(n: int, exponent: float = 1.1) -> Any:
    """The distribution function of ranks 0 to n - 1."""
    sums = np.cumsum(1 / np.arange(1.0, n + 1) ** exponent)
    return sums / sums[-1]


def clicks(n: int, stream: int = 0) -> Iterator[Clicks]:
    """Blocks of n rows. Rows of another `stream` are others of the same model, to be held out."""
    model = np.random.default_rng(0)
    weights = [0.6 * model.standard_normal(size) for size in SIZES]
    of_numbers = 0.3 * model.standard_normal(NUMBERS)
    ranks = [zipf(size) for size in SIZES]
    for block, start in enumerate(range(0, n, BLOCK)):
        m, rng = min(BLOCK, n - start), np.random.default_rng([stream, block])
        traits = rng.random((m, 3))
        numbers = np.log1p(rng.lognormal(size=(m, NUMBERS)))
        numbers[:, :4] *= 0.5 + traits[:, 1:2]
        numbers = np.where(rng.random((m, NUMBERS)) < 0.2, 0, numbers).astype(np.float32)
        codes, z = np.empty((m, len(SIZES)), np.int32), numbers @ of_numbers - 6.0
        for j, size in enumerate(SIZES):
            u = rng.random(m)
            if j % 3:
                u = 0.3 * u + 0.7 * traits[:, j % 3]
            codes[:, j] = np.minimum(np.searchsorted(ranks[j], u), size - 1)
            z += weights[j][codes[:, j]]
        yield Clicks(numbers, codes, (z + rng.logistic(size=m) > 0).astype(np.int8))


def encoded_clicks(n: int, stream: int = 0) -> Iterator[tuple[csr_array, Any]]:
    """The same, one-hot encoded."""
    for rows in clicks(n, stream):
        yield rows.X, rows.y


def text(n: int, stream: int = 0) -> Iterator[tuple[csr_array, Any]]:
    """Blocks of n rows of hashed words."""
    model = np.random.default_rng(1)
    hashed = model.integers(0, BUCKETS, WORDS, dtype=np.int32)
    lists = model.integers(0, WORDS, TOPICS)
    weights = 6 * model.standard_normal(BUCKETS)
    ranks = zipf(WORDS)
    for block, start in enumerate(range(0, n, BLOCK)):
        m, rng = min(BLOCK, n - start), np.random.default_rng([stream, block, 1])
        lengths = 5 + rng.lognormal(4, 0.7, m).astype(int)
        words = np.searchsorted(ranks, rng.random(int(lengths.sum())))
        topics = np.repeat(lists[rng.integers(0, TOPICS, m)], lengths)
        words = np.where(rng.random(len(words)) < 0.5, (words + topics) % WORDS, words) % WORDS
        bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        X = csr_array((np.ones(len(words), np.float32), hashed[words], bounds), shape=(m, BUCKETS))
        X.sum_duplicates()
        norms = np.sqrt(np.add.reduceat(X.data**2, X.indptr[:-1]))
        X.data /= np.repeat(norms, np.diff(X.indptr))
        yield X, (X @ weights + rng.logistic(size=m) > 0).astype(np.int8)


DATA: dict[str, Callable[..., Iterator[tuple[csr_array, Any]]]] = {"clicks": encoded_clicks, "text": text}
