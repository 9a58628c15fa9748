"""Rows that tasks make become the dataset that the same rows become in one piece."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import daskgd
from daskgd.storage import parallel_writing
from daskgd.storage.parallel_writing import MadeRows, write_parts
from daskgd.storage.vocabulary import Labels
from daskgd.storage.writing import Chunking

LABELS = ["a", "b", "c", "d"]


def make(start: int, stop: int, labels: bool) -> Any:
    """The rows from `start` to `stop`, and what their labels stand for, as they come."""
    X = np.arange(2.0 * start, 2.0 * stop).reshape(-1, 2)
    y = (np.arange(start, stop) * 7 // 3) % 4
    if not labels:
        return MadeRows({"X": X, "y": y, "sample_weight": X[:, 0]})
    found = list(dict.fromkeys(y.tolist()))
    codes = np.array([found.index(i) for i in y.tolist()], np.int32)
    of_y = Labels([LABELS[i] for i in found], np.bincount(codes))
    return MadeRows({"X": X, "y": codes, "sample_weight": X[:, 0]}, {"y": [of_y]})


def like(labels: bool) -> dict[str, np.ndarray]:
    return {name: array[:0] for name, array in make(0, 1, labels).arrays.items()}


def write(path: Path, bounds: list[int], labels: bool, progress: Any = None, **options: Any) -> None:
    settings = {"chunk_bytes": 64, "codec": "lz4", "shards": None, **options}
    parts = [partial(make, a, b, labels) for a, b in pairwise(bounds)]
    n_rows = [b - a for a, b in pairwise(bounds)]
    write_parts(
        path, parts, n_rows, like(labels), feature_names=["u", "v"], chunking=Chunking(**settings),
        overwrite=True, progress=progress,
    )  # fmt: skip


@given(
    cuts=st.lists(st.integers(0, 30), max_size=6),
    n=st.integers(1, 30),
    shards=st.sampled_from([None, 1, 3]),
    codec=st.sampled_from(["lz4", "zstd", "none"]),
    labels=st.booleans(),
)
def test_parts_of_any_size_make_the_same_dataset(
    cuts: list[int], n: int, shards: int | None, codec: str, labels: bool, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    bounds = [0, *sorted(min(cut, n) for cut in cuts), n]
    with dask.config.set(scheduler="sync"):
        write(tmp_path / "parts", bounds, labels, lambda *a: seen.append(a), shards=shards, codec=codec)
    rows = make(0, n, False).arrays
    y = np.array(LABELS)[rows["y"]] if labels else rows["y"]
    daskgd.write_dataset(
        tmp_path / "whole", rows["X"], y, rows["sample_weight"], feature_names=["u", "v"], chunk_bytes=64,
        codec=codec, shards=shards, overwrite=True,
    )  # fmt: skip
    found, expected = (daskgd.open_dataset(tmp_path / name) for name in ("parts", "whole"))
    assert found.fingerprint == expected.fingerprint
    assert seen[-1] == (n, n)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize("scheduler", ["threads", "client"])
def test_schedulers_make_the_same_dataset(scheduler: str, client: Any, tmp_path: Path) -> None:
    bounds = [0, 3, 3, 50, 51, 52, 99, 100]
    with dask.config.set(scheduler="sync"):
        write(tmp_path / "a", bounds, True)
    with dask.config.set({"scheduler": scheduler} if scheduler == "threads" else {}):
        write(tmp_path / "b", bounds, True)
    assert daskgd.open_dataset(tmp_path / "a").fingerprint == daskgd.open_dataset(tmp_path / "b").fingerprint


def fail() -> Any:
    raise ValueError("a part that cannot be made")


@pytest.mark.parametrize("scheduler", ["threads", "client"])
def test_an_error_leaves_what_was_there(scheduler: str, client: Any, tmp_path: Path) -> None:
    write(tmp_path / "a", [0, 10], True)
    before = daskgd.open_dataset(tmp_path / "a").fingerprint
    parts = [partial(make, 0, 100, True), fail, partial(make, 100, 200, True)]
    with (
        dask.config.set({"scheduler": scheduler} if scheduler == "threads" else {}),
        pytest.raises(ValueError, match="a part that cannot be made"),
    ):
        write_parts(
            tmp_path / "a", parts, [100, 1, 100], like(True), feature_names=None,
            chunking=Chunking(64, "lz4", None), overwrite=True,
        )  # fmt: skip
    assert daskgd.open_dataset(tmp_path / "a").fingerprint == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_few_parts_wait_for_those_beside_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else memory would grow with the number of parts."""
    waiting, most = 0, 0
    write_part, join = parallel_writing._write_part, parallel_writing._join_edges

    def count_write(*arguments: Any) -> Any:
        nonlocal waiting, most
        written = write_part(*arguments)
        waiting += sum(len(next(iter(edge.values()))) > 0 for edge in (written.head, written.tail))
        most = max(most, waiting)
        return written

    def count_join(targets: Any, start: int, pieces: Any, codec: str) -> int:
        nonlocal waiting
        waiting -= len(pieces)
        return join(targets, start, pieces, codec)

    monkeypatch.setattr(parallel_writing, "_write_part", count_write)
    monkeypatch.setattr(parallel_writing, "_join_edges", count_join)
    with dask.config.set(scheduler="sync"):
        write(tmp_path / "a", [5 * i for i in range(120)], False)
    assert waiting == 0
    assert most < 40
