"""Damaged datasets: everything is noticed, where it is read, and nothing changes a model silently."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from mutations import files, flipped, restored
from zarr.core import codec_pipeline

import daskgd
from daskgd.storage.commit import verify_store
from daskgd.storage.opening import FOREIGN_NAMES, NAMES, open_store
from tests.tiers import slow_but, slow_but_every

N, P, ROWS = 70, 3, 10  # seven chunks
PIPELINES = ["zarr.core.codec_pipeline.BatchedCodecPipeline"]
PIPELINES += [f"zarr.core.codec_pipeline.{n}" for n in ("FusedCodecPipeline",) if hasattr(codec_pipeline, n)]
PIPELINES += ["zarrs.ZarrsCodecPipeline"] if find_spec("zarrs") else []


def data(dtype: str = "f4") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = (10 * rng.normal(size=(N, P))).astype(dtype)
    return X, X[:, 0] + rng.normal(size=N), rng.random(N)


def write(path: Path, dtype: str = "f4", **settings: Any) -> daskgd.Dataset:
    """Blocks of one stored object each."""
    itemsize = np.dtype(dtype).itemsize
    daskgd.write_dataset(path, *data(dtype), chunk_bytes=ROWS * P * itemsize, **settings)
    return daskgd.open_dataset(path, block_bytes=1)


def fit(dataset: daskgd.Dataset, engine: str | None = "serial") -> daskgd.Ridge:
    return daskgd.Ridge(engine=engine).fit(dataset)


def key(array: str, i: int) -> str:
    return f"c/{i}/0" if array == "X" else f"c/{i}"


# -- every fault, array, codec, layout and pipeline -------------------------------------------------

Fault = Callable[[Path, np.random.Generator], int | None]
"""Damages a file; the position of the damage, or None if it is everywhere."""


def lose(file: Path, rng: np.random.Generator) -> None:
    file.unlink()


def truncate(file: Path, rng: np.random.Generator) -> None:
    file.write_bytes(file.read_bytes()[: rng.integers(1, file.stat().st_size)])


def empty(file: Path, rng: np.random.Generator) -> None:
    file.write_bytes(b"")


def flip(file: Path, rng: np.random.Generator) -> int:
    content = bytearray(file.read_bytes())
    at = int(rng.integers(len(content)))
    content[at] ^= 1 << int(rng.integers(8))
    file.write_bytes(content)
    return at


def rows_of(content: bytes, i: int, per_shard: int | None, at: int | None) -> tuple[int, int]:
    """Rows that damage at a byte of stored object i takes, by the specification of the sharding codec."""
    start, stop = i * ROWS * (per_shard or 1), min((i + 1) * ROWS * (per_shard or 1), N)
    if per_shard and at is not None:
        size = 16 * per_shard + 4
        for k in range(per_shard):
            offset, length = struct.unpack_from("<QQ", content, len(content) - size + 16 * k)
            if offset <= at < offset + length:
                return start + k * ROWS, min(start + (k + 1) * ROWS, N)
    return start, stop


@pytest.mark.parametrize(
    ("fault", "codec", "shards", "pipeline"),
    slow_but_every(2, [lose, truncate, empty, flip], ["lz4", "zstd", "none"], [None, 2], PIPELINES),
)
def test_every_fault_is_found_and_named(
    tmp_path: Path, fault: Fault, codec: str, shards: int | None, pipeline: str
) -> None:
    rng = np.random.default_rng(0)
    with zarr.config.set({"codec_pipeline.path": pipeline}):
        dataset = write(tmp_path / "d", codec=codec, shards=shards)
        expected = fit(dataset).coef_
        columns = open_store(tmp_path / "d")
        for array in FOREIGN_NAMES:
            column = getattr(columns, array)
            for i in (0, -(-N // column.chunk_rows) - 1):
                file = tmp_path / "d" / array / key(array, i)
                with restored(file) as content:
                    a, b = rows_of(content, i, shards, fault(file, rng))
                    message = rf"{array}, chunk {key(array, i)}: rows {a}:{b} cannot be read: \w+"
                    with pytest.raises(daskgd.ChunkError, match=message):
                        column.read(0, N)
                    with pytest.raises(daskgd.ChunkError, match=message):
                        fit(dataset)
                    if fault is lose:
                        with pytest.raises(daskgd.StoreError, match=rf"{array}: 1 chunks .*{key(array, i)}"):
                            daskgd.open_dataset(tmp_path / "d")
                    else:
                        with pytest.raises(daskgd.ChunkError, match=message):
                            verify_store(tmp_path / "d")
        np.testing.assert_array_equal(fit(dataset).coef_, expected)
        verify_store(tmp_path / "d")


@pytest.mark.parametrize("shards", [None, 3])
@pytest.mark.parametrize("codec", ["lz4", "none"])
def test_every_bit_of_a_chunk_counts(tmp_path: Path, codec: str, shards: int | None) -> None:
    column = write(tmp_path / "d", codec=codec, shards=shards).columns.X
    file = tmp_path / "d" / "X" / "c" / "0" / "0"
    with restored(file) as content:
        for at in range(len(content)):
            damaged = bytearray(content)
            damaged[at] ^= 1 << at % 8
            file.write_bytes(damaged)
            a, b = rows_of(content, 0, shards, at)
            with pytest.raises(daskgd.ChunkError, match=rf"rows {a}:{b} cannot be read: .*checksum"):
                column.read(0, N)


# -- after opening, wherever rows are read --------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f4", "i4", "u1"])
@pytest.mark.parametrize("fault", [lose, flip])
def test_workers_notice(tmp_path: Path, client: Any, fault: Fault, dtype: str) -> None:
    """Also of integers, which have no value that cannot be data."""
    dataset = write(tmp_path / "d", dtype)
    alone, expected = fit(dataset), fit(dataset, None)
    np.testing.assert_array_equal(alone.coef_, expected.coef_)
    for engine in (None, "threads", "serial"):
        for array in FOREIGN_NAMES:
            file = tmp_path / "d" / array / key(array, 3)
            with restored(file):
                fault(file, np.random.default_rng(1))
                message = f"{tmp_path / 'd' / array}, chunk {key(array, 3)}: rows 30:40 cannot be read"
                with pytest.raises(daskgd.ChunkError, match=message):
                    fit(dataset, engine)
    np.testing.assert_array_equal(fit(dataset, None).coef_, expected.coef_)


def test_a_chunk_of_zeros_cannot_be_lost(tmp_path: Path) -> None:
    """What zarr would leave out is stored, and lost it is no zero."""
    daskgd.write_dataset(tmp_path / "d", np.zeros((40, 2), "i4"), np.zeros(40), chunk_bytes=80)
    dataset = daskgd.open_dataset(tmp_path / "d")
    (tmp_path / "d" / "X" / "c" / "2" / "0").unlink()
    with pytest.raises(daskgd.ChunkError, match=r"rows 20:30 cannot be read: .*missing"):
        dataset.X.compute(scheduler="synchronous")


@pytest.mark.parametrize("codec", ["lz4", "none"])
@pytest.mark.parametrize("body", [0, 1, 15, 16, 100, 121])
def test_a_sound_checksum_of_something_else(tmp_path: Path, codec: str, body: int) -> None:
    """A single byte would be repeated by numpy, and Blosc's header believed by Blosc."""
    from google_crc32c import value as crc32c

    column = write(tmp_path / "d", codec=codec).columns.X
    content = b"\x02\x01\x12\x04" + struct.pack("<III", ROWS * P * 4, ROWS * P * 4, 2**31 - 1) + bytes(200)
    content = content[:body]
    (tmp_path / "d" / "X" / "c" / "1" / "0").write_bytes(content + struct.pack("<I", crc32c(content)))
    with pytest.raises(daskgd.ChunkError, match=r"rows 10:20 cannot be read: the chunk (holds|says|decodes)"):
        column.read(0, N)


def test_a_shard_of_another_dataset(tmp_path: Path) -> None:
    column = write(tmp_path / "d", shards=3).columns.X
    write(tmp_path / "other", shards=2)
    write(tmp_path / "wide", shards=6)
    file = tmp_path / "d" / "X" / "c" / "0" / "0"
    for other in ("other", "wide"):
        with restored(file):
            file.write_bytes((tmp_path / other / "X" / "c" / "0" / "0").read_bytes())
            with pytest.raises(daskgd.ChunkError, match="rows 0:30 cannot be read: the index of the shard"):
                column.read(0, N)


def test_a_chunk_that_a_shard_leaves_out(tmp_path: Path) -> None:
    from google_crc32c import value as crc32c

    column = write(tmp_path / "d", shards=3).columns.X
    file = tmp_path / "d" / "X" / "c" / "1" / "0"
    content = bytearray(file.read_bytes())
    content[-52 + 16 : -52 + 32] = b"\xff" * 16
    content[-4:] = struct.pack("<I", crc32c(bytes(content[-52:-4])))
    file.write_bytes(content)
    with pytest.raises(daskgd.ChunkError, match=r"rows 40:50 cannot be read: inner chunk 1 .* is missing"):
        column.read(0, N)


# -- a thousand flips -----------------------------------------------------------------------------


def model(path: Path) -> list[Any]:
    """All that a fit takes from a dataset: bits, labels, names."""
    est = daskgd.LogisticRegression(engine="serial").fit(path)
    names = est.feature_names_in_.tolist()
    return [est.coef_.tobytes(), est.intercept_.tobytes(), est.classes_.tolist(), names, est.n_features_in_]


@pytest.mark.parametrize("shards", slow_but([None, 2]))
def test_no_flip_changes_a_model(tmp_path: Path, shards: int | None) -> None:
    rng = np.random.default_rng(7)
    X = rng.normal(size=(48, 2)).astype("f4")
    y = np.where(X[:, 0] + rng.normal(size=48) > 0, "yes", "no")
    daskgd.write_dataset(
        tmp_path / "d", X, y, 1 + rng.random(48), feature_names=["a", "b"], chunk_bytes=128, shards=shards
    )
    expected = model(tmp_path / "d")
    found = files(tmp_path / "d")
    metadata = [file for file in found if file.name == "zarr.json"]
    assert len(metadata) == 4
    caught = dict.fromkeys(found, 0)
    for _ in range(1000):
        file = found[rng.integers(len(found))] if rng.random() < 0.5 else metadata[rng.integers(4)]
        with restored(file) as content:
            file.write_bytes(flipped(content, rng))
            try:
                assert model(tmp_path / "d") == expected, (file, content, file.read_bytes())
            except (daskgd.StoreError, daskgd.ChunkError):
                caught[file] += 1
    assert all(caught.values()), caught  # each file is read
    assert model(tmp_path / "d") == expected


# -- metadata -------------------------------------------------------------------------------------


def test_a_lost_mark_is_missed(tmp_path: Path) -> None:
    """Without it labels would turn into codes."""
    write(tmp_path / "d")
    file = tmp_path / "d" / "zarr.json"
    with restored(file) as content:
        file.write_bytes(content.replace(b'"daskgd"', b'"daskge"'))
        with pytest.raises(daskgd.StoreError, match="the mark of their group is gone"):
            daskgd.open_dataset(tmp_path / "d")
    with restored(file) as content:
        file.write_bytes(content.replace(b'"format"', b'"f":3, "g"'))
        with pytest.raises(daskgd.StoreError, match="expected format 1 or 2, got None"):
            daskgd.open_dataset(tmp_path / "d")


@pytest.mark.parametrize("array", NAMES)
def test_a_lost_array_is_missed(tmp_path: Path, array: str) -> None:
    write(tmp_path / "d", offset=data()[2])
    (tmp_path / "d" / array / "zarr.json").unlink()
    with pytest.raises(daskgd.StoreError, match=f"array {array}: its metadata cannot be read"):
        daskgd.open_dataset(tmp_path / "d")
    (tmp_path / "d" / array).rename(tmp_path / "elsewhere")
    with pytest.raises(daskgd.StoreError, match=r"altered after|expected an array X"):
        daskgd.open_dataset(tmp_path / "d")


@pytest.mark.parametrize("fault", [lose, flip])
def test_an_offset_that_is_damaged_is_named(tmp_path: Path, fault: Fault) -> None:
    X, y, s = data()
    daskgd.write_dataset(tmp_path / "d", X, abs(y), s, offset=s, chunk_bytes=ROWS * P * 4)
    dataset = daskgd.open_dataset(tmp_path / "d", block_bytes=1)
    fault(tmp_path / "d" / "offset" / "c" / "3", np.random.default_rng(0))
    with pytest.raises(daskgd.ChunkError, match="offset, chunk c/3: rows 30:40 cannot be read"):
        daskgd.PoissonRegressor().fit(dataset)
    with pytest.raises((daskgd.ChunkError, daskgd.StoreError), match="offset"):
        dataset.verify()


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_copies_of_metadata_are_not_believed(tmp_path: Path) -> None:
    X = write(tmp_path / "d").X.compute()
    zarr.consolidate_metadata(tmp_path / "d")
    file = tmp_path / "d" / "zarr.json"
    file.write_bytes(file.read_bytes().replace(b'"float32"', b'"float16"'))
    dataset = daskgd.open_dataset(tmp_path / "d")
    np.testing.assert_array_equal(dataset.X.compute(), X)


# -- arrays of others -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fill_value", "lost", "warned"), [(0, True, True), (np.nan, True, False), (0, False, False)]
)
def test_zeros_that_could_hide_are_told(
    tmp_path: Path, fill_value: float, lost: bool, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    group = zarr.open_group(tmp_path / "g", mode="w")
    X = group.create_array("X", shape=(30, 2), chunks=(10, 2), dtype="f8", fill_value=fill_value)
    X[:20] = 1.0
    if not lost:
        X[20:] = 2.0
    for given in (tmp_path / "g", zarr.open_array(tmp_path / "g" / "X", mode="r")):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "daskgd"):
            daskgd.as_dataset(given)
        assert ("1 chunks are not stored (the first is c/2/0)" in caplog.text) is warned


def test_weights_that_cannot_be_read_are_not_left_out(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "g", mode="w")
    group.create_array("X", data=np.ones((30, 2)))
    weights = group.create_array("sample_weight", data=np.ones(30))
    file = tmp_path / "g" / "sample_weight" / "zarr.json"
    for change in [(b'"shape"', b'"shap"'), (b'"array"', b'"arrow"'), (b"{", b"{{")]:
        with restored(file) as content:
            file.write_bytes(content.replace(*change))
            with pytest.raises(daskgd.StoreError, match="array sample_weight: its metadata"):
                daskgd.open_dataset(tmp_path / "g")
    assert daskgd.open_dataset(tmp_path / "g").sample_weight.shape == weights.shape
    file.parent.rename(tmp_path / "elsewhere")
    group.create_group("sample_weight")
    with pytest.raises(daskgd.StoreError, match="sample_weight: expected an array, got a group"):
        daskgd.open_dataset(tmp_path / "g")


def test_chunks_of_others_are_named_too(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "g", mode="w")
    group.create_array("X", data=np.random.default_rng(0).normal(size=(30, 2)), chunks=(10, 2))
    dataset = daskgd.open_dataset(tmp_path / "g")
    truncate(tmp_path / "g" / "X" / "c" / "1" / "0", np.random.default_rng(0))
    with pytest.raises(daskgd.ChunkError, match=r"g/X, chunk c/1/0: rows 10:20 cannot be read: \w+"):
        dataset.columns.X.read(5, 25)
