"""Opening and reading what is damaged in any way: daskgd's own errors, at once, within bounded memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from mutations import damaged

import daskgd
from daskgd.storage.categorical_reading import StoredCategoricalColumn
from daskgd.storage.checksums import SPARSE_PARTS, StoreError
from daskgd.storage.opening import FOREIGN_NAMES
from daskgd.storage.reading import ChunkError, StoredColumn
from daskgd.storage.sparse_reading import StoredSparseColumn
from tests.sparse_rows import sparse_array
from tests.tiers import slow_but

N, P = 40, 3
SECONDS = 5.0
"""Longest that one case may take; an undamaged one takes some milliseconds."""

ROOM = 1_000_000_000
"""Bytes of address space that a test may take beyond what the process has."""


@pytest.fixture
def bounded() -> Iterator[None]:
    """Allocations of more than a gigabyte fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, P))
    return X, rng.integers(0, 2, N), rng.random(N)


def ours(path: Path, **settings: Any) -> None:
    X, y, w = data()
    labels = np.where(y, "yes", "no")
    daskgd.write_dataset(path, X, labels, w, feature_names=list("abc"), chunk_bytes=240, **settings)


def foreign(path: Path, zarr_format: Any = 3, **settings: Any) -> None:
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    for name, values in zip(FOREIGN_NAMES, data(), strict=True):
        shards = {"shards": (20, *values.shape[1:])} if settings.get("sharded") else {}
        group.create_array(name, data=values, chunks=(10, *values.shape[1:]), **shards)


def sparse_data() -> Any:
    return sparse_array(N, P, 0.5, np.random.default_rng(0))


def sparse(path: Path, **settings: Any) -> None:
    _, y, w = data()
    labels = np.where(y, "yes", "no")
    daskgd.write_dataset(path, sparse_data(), labels, w, chunk_bytes=240, **settings)


def foreign_sparse(path: Path, zarr_format: Any = 3) -> None:
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    X = group.create_group("X", attributes={"encoding-type": "csr_matrix", "shape": [N, P]})
    for name in SPARSE_PARTS:
        X.create_array(name, data=getattr(sparse_data(), name), chunks=(10,))


def categorical(path: Path, **settings: Any) -> None:
    X, y, w = data()
    codes = np.stack([y, np.arange(N) % 300], axis=1)
    words = [f"a long word, {i}" for i in range(300)]  # in an array of their own
    rows = daskgd.OneHot(codes, [["no", "yes"], words], X, columns=["u", "v"])
    daskgd.write_dataset(path, rows, np.where(y, "yes", "no"), w, chunk_bytes=320, **settings)


KINDS = {
    "ours": lambda path: ours(path),
    "ours in shards": lambda path: ours(path, shards=2),
    "ours uncompressed": lambda path: ours(path, codec="none"),
    "zarr 3": lambda path: foreign(path),
    "zarr 3 in shards": lambda path: foreign(path, sharded=True),
    "zarr 2": lambda path: foreign(path, 2),
    "ours sparse": lambda path: sparse(path),
    "ours sparse in shards": lambda path: sparse(path, shards=2),
    "ours categorical": lambda path: categorical(path),
    "ours categorical in shards": lambda path: categorical(path, shards=2),
    "zarr 3 sparse": lambda path: foreign_sparse(path),
    "zarr 2 sparse": lambda path: foreign_sparse(path, 2),
}

SLOW = {"ours sparse in shards", "ours categorical in shards", "zarr 2 sparse"}


def is_json(file: Path) -> bool:
    return file.name in ("zarr.json", ".zarray", ".zgroup", ".zattrs")


def reads(path: Path) -> list[Any]:
    """What is in a dataset: all that opening says, and first and last rows of every array."""
    dataset = daskgd.open_dataset(path)
    facts = [repr(dataset), dataset.info(), dataset._repr_html_(), dataset.feature_names]
    for column in dataset.columns:
        if column is not None:
            assert isinstance(column, StoredColumn | StoredSparseColumn | StoredCategoricalColumn)
            n = column.shape[0]
            for block in (column.read(0, min(n, 3)), column.read(max(n - 3, 0), n)):
                facts += [a.tolist() for a in getattr(block, "arrays", (block,))]
    return facts


def outcome(path: Path) -> list[Any] | Exception:
    try:
        return reads(path)
    except (StoreError, ChunkError) as error:
        return error
    except ValueError as error:
        if str(error).startswith(("X: expected", "Expected 2D", "sample_weight: expected")):
            return error
        raise


@pytest.mark.usefixtures("bounded")
@pytest.mark.filterwarnings("ignore")  # what zarr warns of is not ours
@pytest.mark.parametrize(
    "kind",
    slow_but(
        KINDS, *(KINDS.keys() - {"ours sparse in shards", "zarr 2 sparse", "ours categorical in shards"})
    ),
)
@pytest.mark.parametrize("seed", slow_but(range(3), 0))
def test_only_our_own_errors(tmp_path: Path, kind: str, seed: int) -> None:
    KINDS[kind](tmp_path / "d")
    expected = reads(tmp_path / "d")
    rng = np.random.default_rng([seed, *kind.encode()])
    refused = 0
    for _ in range(100):
        with damaged(tmp_path / "d", rng, is_json=is_json) as what:
            began = time.perf_counter()
            try:
                found = outcome(tmp_path / "d")
            except BaseException as error:
                error.add_note(what)
                raise
            assert time.perf_counter() - began < SECONDS, what
        if isinstance(found, StoreError | ChunkError):
            assert str(tmp_path / "d") in str(found), what
            assert len(str(found)) < 1500, what
            refused += 1
        elif isinstance(found, list) and kind.startswith("ours"):  # a fingerprint may be read altered
            assert found[:1] + found[3:] == expected[:1] + expected[3:], what
    assert refused > 30
    assert reads(tmp_path / "d") == expected
