"""``daskgd demo``: more rows than the workers have memory for, made on the spot, trained on, and judged.

The 8 x 8 digits that ship inside scikit-learn are split; three quarters are expanded to millions of rows by
turning, shifting and noise, streamed to a dataset on disk, and a multinomial logistic regression is trained
on them out of core, on a local cluster whose workers together could not hold them. The quarter that was set
aside, untouched, judges it. Knows the public names of daskgd, a cluster and a console; no command line, no
engine.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import Any

import dask
import distributed
import numpy as np
from dask.system import CPU_COUNT
from dask.utils import format_bytes
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as InMemory
from sklearn.model_selection import train_test_split

import daskgd
from daskgd.cli.local import local_cluster
from daskgd.config import setting
from daskgd.storage.paths import locate

Array = NDArray[Any]

PIXELS = 64
LARGEST = 16
"""Pixels are whole numbers 0..16."""

ANGLES = (-8, -4, 0, 4, 8)
"""Degrees; at 8 the outermost pixels move by half a pixel, as between two hands."""

SHIFTS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
SHIFTED, OF = len(SHIFTS), 160
"""One row in twenty is shifted, each way alike. Digits fill the image, and a model that is linear in pixels
has no notion of place: with all nine places alike it gets 70 % of the held-out digits, not 96 %."""

NOISE = np.rint([2 * NormalDist().inv_cdf((k + 0.5) / 256) for k in range(256)]).astype(np.int8)
"""Grey values added to a pixel, by a random byte: normal, standard deviation 2 of 16, rounded."""

BLOCK_ROWS = 62_500
"""Rows made at a time, two chunks: 4 MB, within the cache when they are compressed."""

CHUNK_BYTES = 2_000_000
"""Bytes per chunk, each a block: 256 of them by default, so that workers share them evenly."""

MEMORY_LIMIT = 512_000_000
"""Bytes per worker. One that trains takes about 110 MB, far below the 60 % at which dask begins to spill; two
workers have half of the 2.05 GB that the default rows are as float32."""

C = 1.0
"""For the images unexpanded, scikit-learn's default. C weighs the sum over rows, so that it is divided by the
rows that each image became: the penalty is as strong beside the mean loss, and the two models compare."""

MAX_ITER, TOL = 100, 1e-4
"""At a gap of 1e-4, three sweeps, the accuracy no longer moves. Pixels 0..16 as they are will do: the
estimator standardises within its model, and no copy of the data is scaled."""

SPLIT_SEED = 0
"""Fixed, so that every ``--seed`` is judged by the same digits, and none of them was trained on."""


class Refused(ValueError):
    """The demo cannot be run as asked; the message is for whoever asked."""


# -- the rows ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Digits:
    """scikit-learn's digits, X ``(n, 64)`` of uint8 and y ``(n,)``: a part to train on, one to judge by."""

    X: Array
    y: Array
    X_test: Array
    y_test: Array

    @classmethod
    def load(cls) -> Digits:
        bunch = load_digits()
        X, X_test, y, y_test = train_test_split(
            bunch.data.astype(np.uint8),
            bunch.target.astype(np.uint8),
            test_size=0.25,
            stratify=bunch.target,
            random_state=SPLIT_SEED,
        )
        return cls(X, y, X_test, y_test)


@dataclass(frozen=True)
class Expansion:
    """Endless rows made of a few images: each is one of them turned, sometimes shifted, and with noise.

    Row i is a function of (seed, i) alone: it takes the numbers 12 i to 12 i + 11 of the Philox generator
    (Salmon et al. 2011), which can be set to any place. They are taken raw, as numpy promises the same stream
    for ever of its bit generators, but not of what is drawn from them.

    Attributes
    ----------
    X, y : ``(n, 64)`` of uint8, ``(n,)``
        The images and their labels.
    seed : int
        In [0, 2**64).
    """

    X: Array
    y: Array
    seed: int = 0

    @cached_property
    def variants(self) -> Array:
        """Every image at every place and angle, ``(9, angles * n, 64)`` of uint8; the last place is 0, 0."""
        images = self.X.reshape(-1, 8, 8).astype(np.float32)
        turned = [ndimage.rotate(images, angle, axes=(2, 1), reshape=False, order=1) for angle in ANGLES]
        centred = np.rint(np.concatenate(turned)).clip(0, LARGEST).astype(np.uint8)
        places = [ndimage.shift(centred, (0, *by), order=0) for by in SHIFTS]
        return np.stack([*places, centred]).reshape(len(SHIFTS) + 1, -1, PIXELS)

    def rows(self, start: int, stop: int) -> tuple[Array, Array]:
        """Rows `start` to `stop`: X ``(n, 64)`` of uint8 in 0..16, and y ``(n,)``."""
        bits = np.random.Philox(key=self.seed, counter=3 * start)  # a step of the counter is four numbers
        raw = bits.random_raw(12 * (stop - start)).reshape(-1, 12).astype("<u8", copy=False)
        # bytes.translate takes 1 ns a byte; indexing by bytes would make 8-byte indices of them first
        noise = np.frombuffer(raw[:, :8].tobytes().translate(NOISE.tobytes()), np.int8).reshape(-1, PIXELS)
        which = (raw[:, 8] % np.uint64(self.variants.shape[1])).astype(np.intp)
        place = np.minimum(raw[:, 9] % np.uint64(OF), np.uint64(SHIFTED)).astype(np.intp)
        X = self.variants[place, which].view(np.int8)
        X += noise
        return X.clip(0, LARGEST, out=X).view(np.uint8), self.y[which % len(self.y)]

    def blocks(self, rows: int) -> Iterator[tuple[Array, Array]]:
        """All of the first `rows` rows, block by block."""
        for start in range(0, rows, BLOCK_ROWS):
            yield self.rows(start, min(start + BLOCK_ROWS, rows))


# -- the dataset ------------------------------------------------------------------------------------


@contextmanager
def dataset_at(
    data: Path | None, rows: int, expansion: Expansion, keep: bool, console: Console
) -> Iterator[tuple[daskgd.Dataset, float | None]]:
    """The dataset, and the seconds it took to write or None if it was there; what was written is removed."""
    if data is not None and os.path.lexists(data):
        found = reusable(data, rows, expansion)
        console.print(f"Using the dataset at {data}: {rows:,} rows")
        yield found, None
        return
    if data is not None and not data.absolute().parent.is_dir():
        raise Refused(f"--data: expected a path within an existing folder, got {data}; make the folder first")
    parent = Path(scratch_root() if data is None else data.absolute().parent)
    check_room(parent, rows)
    folder = Path(tempfile.mkdtemp(prefix="daskgd-demo-", dir=parent)) if data is None else None
    path = parent / data.name if data is not None else Path(folder or "", "digits.zarr")
    written = False
    try:
        began = time.perf_counter()
        write(path, rows, expansion, console)
        seconds, written = time.perf_counter() - began, True
        yield daskgd.open_dataset(path), seconds
    finally:
        if keep and written:
            console.print(f"Kept: {path}", soft_wrap=True)
        elif folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        elif written:
            shutil.rmtree(path, ignore_errors=True)


def reusable(path: Path, rows: int, expansion: Expansion) -> daskgd.Dataset:
    """The dataset at the path, if it is complete and of these rows; else Refused."""
    try:
        found = daskgd.open_dataset(path)
    except daskgd.StoreError as error:
        raise Refused(
            f"--data: expected a path that is free, or a complete dataset of the demo: {error}"
        ) from None
    if found.fingerprint is None or found.n_features != PIXELS or found.y is None:
        raise Refused(f"--data: expected a dataset that the demo wrote, got {found!r}; choose another path")
    if found.n_rows != rows:
        raise Refused(
            f"--data: expected {rows:,} rows, {path} holds {found.n_rows:,}; pass --rows {found.n_rows} "
            "to use it, or choose another path"
        )
    n = min(rows, 1000)
    X, y = expansion.rows(0, n)
    stored = dask.compute(found.X[:n], found.y[:n], scheduler="synchronous")
    if not (np.array_equal(stored[0], X) and np.array_equal(stored[1], y)):
        raise Refused(
            f"--data: expected the rows of --seed {expansion.seed}, {path} holds others; pass the seed "
            "it was written with, or choose another path"
        )
    return found


def scratch_root() -> str:
    """Where scratch goes: what dask.config says, else the system's temporary folder."""
    configured = setting("temporary-directory") or dask.config.get("temporary-directory", None)
    return locate(configured or tempfile.gettempdir())


def check_room(folder: Path, rows: int) -> None:
    """Refuse rows that would not fit on the disk even if they did not compress."""
    need, free = rows * (PIXELS + 1), shutil.disk_usage(folder).free
    if need > free:
        raise Refused(
            f"--rows: expected at most {free // (PIXELS + 1):,} for the {format_bytes(free)} free in "
            f"{folder}, got {rows:,}; pass fewer, or --data on a larger disk"
        )


def write(path: Path, rows: int, expansion: Expansion, console: Console) -> None:
    """Stream the rows to a dataset, with a progress bar."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows  {task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
    )
    with progress:
        bar = progress.add_task("Writing", total=rows, rate="")
        began = time.perf_counter()

        def count() -> Iterator[tuple[Array, Array]]:
            done = 0
            for X, y in expansion.blocks(rows):
                yield X, y  # resumed once the block has been taken
                done += len(y)
                rate = done * (PIXELS + 1) / (time.perf_counter() - began) / 1e6
                progress.update(bar, completed=done, rate=f"{rate:.0f} MB/s")

        daskgd.write_dataset(path, count(), chunk_bytes=CHUNK_BYTES)


def stored_bytes(path: str) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())


# -- the cluster ------------------------------------------------------------------------------------


@contextmanager
def small_cluster() -> Iterator[Any]:
    """Two workers of one thread each, whose scratch is removed at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="daskgd-demo-", dir=scratch_root()) as scratch,
        dask.config.set({"temporary-directory": scratch}),
        local_cluster(n_workers=min(2, CPU_COUNT), memory_limit=MEMORY_LIMIT) as cluster,
        distributed.Client(cluster),
    ):
        yield cluster


@dataclass
class MemoryWatch:
    """Samples what workers report to the scheduler, twice as often as they do (every half second at most)."""

    cluster: Any
    peak: int = 0
    spilled: int = 0
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> MemoryWatch:
        self._thread = threading.Thread(target=self._sample, name="daskgd-demo-memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(0.25):
            for worker in list(self.cluster.scheduler.workers.values()):
                self.peak = max(self.peak, int(worker.metrics.get("memory", 0)))
                spilled = worker.metrics.get("spilled_bytes", {})
                self.spilled = max(self.spilled, int(spilled.get("disk", 0)))


# -- the demo ---------------------------------------------------------------------------------------


def run(
    rows: int, *, data: Path | None = None, keep: bool = False, seed: int = 0, console: Console | None = None
) -> dict[str, str]:
    """Run the demo: write or reuse the rows, train, judge, print a table.

    Parameters
    ----------
    rows : int
        At least 1000.
    data : Path, optional
        Where to write the dataset, or a complete one of as many rows of the same seed; None is scratch.
    keep : bool
        Whether to leave the dataset that was written.
    seed : int
        Of the rows that are made.
    console : Console, optional
        To print to; standard output by default.

    Returns
    -------
    dict
        The lines of the table, in order.

    Raises
    ------
    Refused
        Before anything is written.
    """
    console = console or Console(highlight=False)
    digits = Digits.load()
    expansion = Expansion(digits.X, digits.y, seed)
    with dataset_at(data, rows, expansion, keep, console) as (dataset, writing):
        with small_cluster() as cluster:
            console.print(f"Dashboard: {cluster.dashboard_link}", soft_wrap=True)
            workers = len(cluster.workers)
            with MemoryWatch(cluster) as memory:
                began = time.perf_counter()
                model = train(dataset, digits.X)
                training = time.perf_counter() - began
        lines = table_lines(dataset, writing, model, training, workers, memory, digits)
    table = Table(title="daskgd demo", show_header=False)
    for name, value in lines.items():
        table.add_row(name, value)
    console.print(table)
    return lines


def train(dataset: daskgd.Dataset, images: Array) -> daskgd.LogisticRegression:
    """Fit out of core, on the current client, with a line per iteration."""
    model = daskgd.LogisticRegression(
        C=C * len(images) / dataset.n_rows, max_iter=MAX_ITER, tol=TOL, verbose=1
    )
    with warnings.catch_warnings():
        # The table says how it ended, in the same words.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(dataset)


def table_lines(
    dataset: daskgd.Dataset,
    writing: float | None,
    model: daskgd.LogisticRegression,
    training: float,
    workers: int,
    memory: MemoryWatch,
    digits: Digits,
) -> dict[str, str]:
    """What happened, as lines of a table."""
    as_float32 = dataset.n_rows * PIXELS * 4
    limits = workers * MEMORY_LIMIT
    sweep = training / model.n_sweeps_
    rate = dataset.n_rows / sweep
    in_memory = InMemory(C=C, max_iter=10_000).fit(digits.X, digits.y)
    assert dataset.path is not None
    return {
        "rows": f"{dataset.n_rows:,} of {PIXELS} pixels; blocks: {dataset.layout.n_blocks}",
        "on disk": f"{_mb(stored_bytes(dataset.path))}, decoded {_mb(dataset.nbytes)} as uint8",
        "as float32": f"{_mb(as_float32)}, as the training computes",
        "worker memory": f"{workers} x {_mb(MEMORY_LIMIT)}; float32 rows: {as_float32 / limits:.2g} x that",
        "peak memory": f"{memory.peak / MEMORY_LIMIT:.0%} of a worker's limit, {_mb(memory.spilled)} spilled",
        "writing": "none, the dataset was there" if writing is None else f"{writing:.1f} s",
        "training": f"{training:.1f} s, {model.n_sweeps_} sweeps over the data, "
        f"{len(model.history_)} iterations",
        "per sweep": f"{sweep:.2f} s, {rate / 1e6:.1f} M rows/s: solving on a sample in memory included",
        "ended": _ending(model),
        "accuracy": f"{_accuracy(model, digits):.1%} of the {len(digits.y_test)} digits held out, untouched",
        "scikit-learn": f"{_accuracy(in_memory, digits):.1%}, trained on {len(digits.y):,} digits unexpanded",
    }


def _ending(model: daskgd.LogisticRegression) -> str:
    gap = f"estimated gap {model.gap_:.1e}, tol {TOL:g}"
    if model.outcome_ == "budget_spent":
        return f"after {MAX_ITER} iterations, all that the demo allows: {gap}"
    return f"{model.outcome_}: {gap}"


def _accuracy(model: Any, digits: Digits) -> float:
    return float(np.mean(model.predict(digits.X_test) == digits.y_test))


def _mb(nbytes: int) -> str:
    return f"{nbytes / 1e6:,.0f} MB"
