"""Memory that is used again is nobody's at that moment."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import daskgd
from daskgd.storage import buffer_pool
from daskgd.storage.buffer_pool import LARGE_BYTES, MAX_BUFFERS, empty_array

BYTES = np.dtype(np.uint8)


@pytest.fixture(autouse=True)
def _fresh():
    buffer_pool.release_buffers()


def kept() -> list[Any]:
    return buffer_pool._local.buffers.arrays


def address(x: Any) -> int:
    return x.__array_interface__["data"][0]


@given(st.lists(st.tuples(st.sampled_from(["new", "drop", "slice"]), st.integers(0, 9)), max_size=60))
def test_what_somebody_looks_at_is_never_written_over(steps):
    held: list[tuple[int, np.ndarray]] = []
    for i, (what, k) in enumerate(steps):
        if what == "new":
            x = empty_array((LARGE_BYTES + 1000 * k,), BYTES)
            x[:] = i % 251
            held.append((i % 251, x))
            del x
        elif held:
            value, x = held.pop(k % len(held))
            if what == "slice":
                held.append((value, x[k : len(x) - k].view(np.int8)[::2]))
            del x
        assert all((x.view(np.uint8) == value).all() for value, x in held)
        assert len(kept()) <= MAX_BUFFERS


def test_a_loop_reads_into_one_place():
    where = set()
    for i in range(20):
        x = empty_array((1000, 300), np.dtype(np.float32))
        x[:] = i
        where.add(address(x))
        del x
    assert len(where) == 1


def test_reading_ahead_takes_turns_between_two_places():
    where, before = set(), empty_array((LARGE_BYTES,), BYTES)
    for _ in range(20):
        after = empty_array((LARGE_BYTES,), BYTES)
        where |= {address(before), address(after)}
        before = after
        del after
    assert len(where) == 2


def test_what_many_hold_is_theirs():
    """A thread that collects all rows does not keep them for good."""
    several = [empty_array((LARGE_BYTES,), BYTES) for _ in range(MAX_BUFFERS + 4)]
    assert len({address(x) for x in several}) == MAX_BUFFERS + 4
    bases = [weakref.ref(x.base) for x in several]
    several.clear()
    assert [base() is not None for base in bases] == [False] * 4 + [True] * MAX_BUFFERS


def test_chunks_of_about_a_size_take_one_place():
    where = set()
    for size in (1_500_000, 1_510_000, 1_490_000, 1_600_000):
        x = empty_array((size,), BYTES)
        assert x.shape == (size,)
        where.add(address(x))
        del x
    assert len(where) == 1


def test_threads_have_their_own():
    mine = address(empty_array((LARGE_BYTES,), BYTES))
    found = []
    thread = threading.Thread(target=lambda: found.append(address(empty_array((LARGE_BYTES,), BYTES))))
    thread.start()
    thread.join()
    assert found != [mine]
    assert address(empty_array((LARGE_BYTES,), BYTES)) == mine


def test_what_is_forgotten_is_kept_in_no_thread():
    """A fit that ends leaves no blocks in the threads of dask's pool, which stay."""
    done, again = threading.Event(), threading.Event()
    found: list[Any] = []

    def work() -> None:
        x = empty_array((LARGE_BYTES,), BYTES)
        found.append(weakref.ref(x.base))
        del x
        done.set()
        assert again.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    assert done.wait(10)
    assert found[0]() is not None
    buffer_pool.release_buffers()
    assert found[0]() is None
    again.set()
    thread.join()


def test_a_fit_in_this_process_leaves_no_blocks(tmp_path):
    daskgd.write_dataset(tmp_path / "d.zarr", np.eye(4000, 300), np.arange(4000) % 2, chunk_bytes=2_400_000)
    for engine in ("serial", "threads"):
        daskgd.LogisticRegression(solver="lbfgs", max_iter=2, tol=0, memory=0, engine=engine).fit(
            tmp_path / "d.zarr"
        )
        assert not any(one.arrays for one in buffer_pool._all_buffers)


def test_little_is_the_allocators():
    x = empty_array((10, 3), np.dtype(np.float64))
    assert x.base is None
    assert x.shape == (10, 3)
    assert not kept()


def test_rows_that_are_kept_stay_as_they_are(tmp_path):
    """What one has read is one's own, whatever is read after it."""
    X = np.arange(4 * 300_000, dtype=np.float32).reshape(-1, 1)
    daskgd.write_dataset(tmp_path / "d.zarr", X, chunk_bytes=1_200_000)
    column = daskgd.open_dataset(tmp_path / "d.zarr").columns.X
    first, row = column.read(0, 300_000), column.read(300_000, 600_000)[7:9]
    for start in (600_000, 900_000, 600_000):
        column.read(start, start + 300_000)
    np.testing.assert_array_equal(first, X[:300_000])
    np.testing.assert_array_equal(row, X[300_007:300_009])
    assert first.flags.c_contiguous
    assert first.flags.aligned
