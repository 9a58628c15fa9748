"""What happens in the midst of an ingest: killed processes, killed workers, full disks; and its memory."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask
import distributed
import numpy as np
import pytest

import daskgd
from daskgd.data.formats import csv, table_rows
from daskgd.storage import parallel_writing

posix = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of POSIX")

KILLED = """
import os, signal, sys, dask, daskgd
from daskgd.data.formats import csv
csv.PIECE_BYTES = 2000
dask.config.set(scheduler="sync")
def progress(done, total):
    if done > total / 2:
        os.kill(os.getpid(), signal.SIGKILL)
daskgd.ingest(sys.argv[1], sys.argv[2], target="y", chunk_bytes=800, progress=progress, overwrite=True)
"""


def table(path: Path, n: int = 3000) -> Path:
    rng = np.random.default_rng(0)
    words = rng.integers(0, 50, n)
    rows = (f"{i},word {j},{'ab'[i % 2]}\n" for i, j in enumerate(words.tolist()))
    path.write_text("x,w,y\n" + "".join(rows))
    return path


@posix
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_killed_ingest_leaves_nothing_that_can_be_read(tmp_path: Path, overwrite: bool) -> None:
    place, out = table(tmp_path / "a.csv"), tmp_path / "out"
    before = None
    if overwrite:
        daskgd.write_dataset(out, np.eye(3))
        before = daskgd.open_dataset(out).fingerprint
    ended = subprocess.run([sys.executable, "-c", KILLED, str(place), str(out)], check=False, timeout=100)
    assert ended.returncode == -signal.SIGKILL
    if overwrite:
        assert daskgd.open_dataset(out).fingerprint == before
    else:
        with pytest.raises(daskgd.StoreError, match="no such file"):
            daskgd.open_dataset(out)
    (left,) = (one for one in tmp_path.iterdir() if one.name.startswith("."))
    with pytest.raises(daskgd.StoreError, match="half-written"):
        daskgd.open_dataset(left)
    daskgd.ingest(place, out, target="y", overwrite=True)
    assert daskgd.open_dataset(out).n_rows == 3000


@pytest.mark.parametrize("where", ["rows", "codes"])
def test_a_full_disk_costs_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """While rows are written, and while codes are written anew."""
    place, write, calls = table(tmp_path / "a.csv"), parallel_writing.write_rows, []

    def full(array: Any, *arguments: Any) -> None:
        calls.append(array.name)
        if len(calls) > 5 if where == "rows" else array.name == "/codes":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(array, *arguments)

    monkeypatch.setattr(csv, "PIECE_BYTES", 2000)
    monkeypatch.setattr(parallel_writing, "write_rows", full)
    with pytest.raises(OSError, match="No space") as raised, dask.config.set(scheduler="sync"):
        daskgd.ingest(place, tmp_path / "out", target="y", chunk_bytes=800)
    assert "no room to write the dataset" in "".join(raised.value.__notes__)
    assert [one.name for one in tmp_path.iterdir()] == ["a.csv"]


def die_once(path: str, number: int) -> None:
    """End this process at the first call for part 2."""
    mark = Path(path).with_suffix(".killed")
    if number == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


@posix
@pytest.mark.cluster
@pytest.mark.slow
def test_a_worker_killed_in_mid_ingest_changes_no_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = table(tmp_path / "a.csv", 30_000)
    monkeypatch.setattr(csv, "PIECE_BYTES", 20_000)
    with dask.config.set(scheduler="sync"):
        daskgd.ingest(place, tmp_path / "expected", target="y", chunk_bytes=4000)
    expected = daskgd.open_dataset(tmp_path / "expected").fingerprint
    read = table_rows.TableRows.read

    def deadly(self: Any, format: Any, piece: Any) -> Any:
        die_once(str(place), piece.first_row // 2000)
        return read(self, format, piece)

    for n_workers in (1, 3):
        place.with_suffix(".killed").unlink(missing_ok=True)
        with (
            distributed.LocalCluster(
                n_workers=n_workers, threads_per_worker=1, dashboard_address=":0"
            ) as own,
            distributed.Client(own) as client,
        ):
            client.run(setattr, table_rows.TableRows, "read", deadly)
            out = tmp_path / f"out-{n_workers}"
            daskgd.ingest(place, out, target="y", chunk_bytes=4000)
        assert place.with_suffix(".killed").exists()
        assert daskgd.open_dataset(out).fingerprint == expected
