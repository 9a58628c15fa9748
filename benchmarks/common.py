"""What every benchmark shares: data, clusters, bare processes, timing, and how results are written.

Data are deterministic, and written once per scratch folder. Ratios are measured in one run, seconds are
medians over repeats after one run to warm up: absolute figures are only as good as the machine was quiet.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np
from distributed import Client, LocalCluster, get_task_stream
from numcodecs import blosc
from rich.console import Console
from rich.markdown import Markdown
from scipy.special import expit

import daskgd

PROCESSES = 2
BLOCK = 50_000


# -- data ---------------------------------------------------------------------------------------


def rounded(n: int, p: int) -> Iterator[tuple[Any, Any]]:
    """Blocks of normal features rounded to two decimals, as measured data often is, and noisy labels."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal(p, dtype=np.float32)
    for start in range(0, n, BLOCK):
        X = np.round(rng.standard_normal((min(BLOCK, n - start), p), dtype=np.float32), 2)
        yield X, (X @ w + 3 * rng.standard_normal(len(X)) > 0).astype(np.int8)


def correlated(
    n: int,
    p: int,
    condition: float = 1e3,
    share: float = 0.5,
    used: float = 1.0,
    noise: bool = False,
) -> Iterator[tuple[Any, Any]]:
    """Rows with singular values from 1 down to 1 / condition, and labels of a logistic model of which a share
    is positive; or, with `noise`, a linear target."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((p, p)))[0] for _ in range(2))
    A = (left * np.geomspace(1, 1 / condition, p)) @ right * np.sqrt(p)
    w = rng.standard_normal(p) * (rng.random(p) < used)
    pilot = rng.standard_normal((100_000, p)) @ A @ w
    w *= 2 / pilot.std()
    pilot *= 2 / pilot.std()
    low, high = -30.0, 30.0
    for _ in range(60):  # the intercept that gives the share
        b = (low + high) / 2
        low, high = (low, b) if expit(pilot + b).mean() > share else (b, high)
    for start in range(0, n, BLOCK):
        X = (rng.standard_normal((min(BLOCK, n - start), p)) @ A).astype(np.float32)
        z = X @ w + b
        if noise:
            yield X, z + rng.standard_normal(len(X))
        else:
            yield X, (rng.random(len(X)) < expit(z)).astype(np.int8)


KINDS = {"rounded": rounded, "correlated": correlated, "linear": functools.partial(correlated, noise=True)}


# -- a run of benchmarks ------------------------------------------------------------------------


def timed(work: Callable[..., Any], *args: Any) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    work(*args)
    return time.perf_counter() - began


class Rounds(dict[str, list[float]]):
    """Seconds of what was measured in turn, by name."""

    def median(self, name: str) -> float:
        """Seconds of one."""
        return statistics.median(self[name])

    def share(self, name: str, of: str) -> float:
        """The median over rounds of the seconds of `of` to those of `name`: 1 if it is as fast."""
        return statistics.median(b / a for a, b in zip(self[name], self[of], strict=True))


@dataclass(frozen=True)
class Bench:
    """Where a benchmark finds its data and leaves its results.

    Attributes
    ----------
    out : folder for results, or None to only print them.
    scratch : folder for datasets, kept between commands.
    scale : factor on the rows of every dataset.
    repeats : of every measurement, after one to warm up.
    """

    out: Path | None
    scratch: Path
    scale: float
    repeats: int

    def rows(self, n: float) -> int:
        return max(int(n * self.scale), 10_000)

    def store(
        self, kind: str, rows: int, features: int = 50, *, chunk_bytes: int = 8_000_000, codec: str = "auto"
    ) -> daskgd.Dataset:
        """The dataset of that kind and size, written if it is not there yet."""
        path = self.scratch / f"{kind}-{rows}x{features}-{chunk_bytes}-{codec}.zarr"
        if not path.exists():
            blocks = KINDS[kind](rows, features)
            daskgd.write_dataset(path, blocks, chunk_bytes=chunk_bytes, codec=codec)
        return daskgd.open_dataset(path)

    def seconds(self, work: Callable[[], Any]) -> float:
        """Median seconds of `work`, after one run to warm up."""
        return self.median(lambda: timed(work))

    def median(self, measure: Callable[[], float]) -> float:
        """Median of what `measure` returns, after one run to warm up."""
        return statistics.median([measure() for _ in range(self.repeats + 1)][1:])

    def rounds(self, **measures: Callable[[], float]) -> Rounds:
        """What each returns, one after the other, then all of them again: what a noisy neighbour takes, it
        takes from all. A first round warms up."""
        rounds = [{name: measure() for name, measure in measures.items()} for _ in range(self.repeats + 1)]
        return Rounds({name: [one[name] for one in rounds[1:]] for name in measures})

    def publish(
        self,
        name: str,
        about: str,
        tables: dict[str, list[dict[str, Any]]],
        plot: Callable[[Any], None] | None = None,
        **more: Any,
    ) -> None:
        """Print the tables; write them as JSON and markdown, and the plot as PNG."""
        text = f"## {name}\n\n{about}\n"
        for title, rows in tables.items():
            text += f"\n{title}\n\n{markdown(rows)}\n"
        Console(width=180).print(Markdown(text))
        if self.out is None:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        if plot is not None and draw(plot, self.out / f"{name}.png"):
            text += f"\n![{name}]({name}.png)\n"
        settings = {"scale": self.scale, "repeats": self.repeats, **machine()}
        record = {"name": name, "about": about, "settings": settings, "tables": tables, **more}
        (self.out / f"{name}.json").write_text(json.dumps(record, indent=1, default=float) + "\n")
        (self.out / f"{name}.md").write_text(text)


def command(function: Callable[..., None]) -> click.Command:
    """A subcommand: its docstring is its help, and it takes the options that all share as a Bench."""

    @click.option("--out", type=click.Path(path_type=Path), help="Folder for JSON, markdown and PNG.")
    @click.option("--scratch", type=click.Path(path_type=Path), help="Keep datasets in this folder.")
    @click.option("--scale", default=1.0, show_default=True, help="Of the rows of every dataset.")
    @click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
    @functools.wraps(function)
    def run(out: Path | None, scratch: Path | None, scale: float, repeats: int, **options: Any) -> None:
        with tempfile.TemporaryDirectory(prefix="daskgd-benchmarks-") as temporary:
            folder = (scratch or Path(temporary)).resolve()
            folder.mkdir(parents=True, exist_ok=True)
            function(Bench(out, folder, scale, repeats), **options)

    name = function.__module__.rpartition(".")[2]
    return click.command(name=name, help=(function.__doc__ or "").split("\n\n")[0])(run)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    packages = ("daskgd", "dask", "numpy", "zarr", "scikit-learn")
    return {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.system(),
        **{package: version(package) for package in packages},
    }


def shown(value: Any) -> str:
    """A cell: three digits, thousands apart, and a dash for what is not known."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def markdown(rows: list[dict[str, Any]]) -> str:
    """Rows as a table; columns in order of appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[shown(row.get(column)).replace("|", "/") for column in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def draw(plot: Callable[[Any], None], path: Path) -> bool:
    """Whether the plot could be written: matplotlib is of the extra `bench`."""
    try:
        import matplotlib
    except ImportError:
        click.echo('no plots: matplotlib is missing, pip install "daskgd[bench]"', err=True)
        return False
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    plot(axes)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True


def bars(axes: Any, rows: list[dict[str, Any]], label: str, value: str) -> None:
    """One column of a table as horizontal bars, in its order."""
    axes.barh([str(row[label]) for row in rows], [row[value] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(value)


# -- clusters and sweeps ------------------------------------------------------------------------


@contextmanager
def cluster(workers: int = PROCESSES, memory_limit: str = "auto") -> Iterator[Client]:
    """Single-threaded workers on this machine."""
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, memory_limit=memory_limit, dashboard_address=":0"
        ) as made,
        Client(made) as client,
    ):
        yield client


def descent(sweeps: int, memory: Any = 0) -> Any:
    """An estimator whose every iteration is one sweep that asks for a gradient and nothing else."""
    solver = daskgd.GradientDescent(step=0.1)
    return daskgd.LogisticRegression(solver=solver, max_iter=sweeps + 1, tol=0, memory=memory)


def sweep_seconds(dataset: Any, sweeps: int = 5, memory: Any = 0) -> float:
    """Seconds of one sweep of gradients, the first sweeps of the fit left out."""
    at = descent(sweeps, memory).fit(dataset).history_.column("seconds")
    return (at[-1] - at[0]) / sweeps


def tasks_per_sweep(client: Client, dataset: Any, sweeps: int = 5) -> int:
    """Tasks that workers ran, per sweep."""
    with get_task_stream(client) as stream:
        fitted = descent(sweeps).fit(dataset)
    return round(len(stream.data) / fitted.n_sweeps_)


# -- bare processes -----------------------------------------------------------------------------


@contextmanager
def processes(n: int = PROCESSES) -> Iterator[Callable[..., list[Any]]]:
    """n processes without dask; ``each(function, shares)`` runs it in all at once, a share for each."""
    with ExitStack() as stack:
        context = get_context("spawn")
        pools = [stack.enter_context(ProcessPoolExecutor(1, mp_context=context)) for _ in range(n)]

        def each(function: Callable[..., Any], shares: list[tuple[Any, ...]]) -> list[Any]:
            running = [pool.submit(function, *share) for pool, share in zip(pools, shares, strict=True)]
            return [future.result() for future in running]

        yield each


@functools.cache
def two_buffers(chunk_bytes: int) -> tuple[bytearray, bytearray]:
    """Room for a chunk as it is stored, and decoded, in this process."""
    return bytearray(2 * chunk_bytes + 64), bytearray(chunk_bytes)


def decode_all(files: list[str], chunk_bytes: int, plain: bool) -> None:
    """Read and decompress chunk files into two reused buffers: the floor."""
    stored, decoded = two_buffers(chunk_bytes)
    for name in files:
        with open(name, "rb") as file:
            size = file.readinto(stored)
        if not plain:
            blosc.decompress(memoryview(stored)[: size - 4], decoded)  # the last four bytes are the checksum


def bare_read(each: Callable[..., list[Any]], dataset: Any, n: int = PROCESSES) -> Callable[[], Any]:
    """What reads and decompresses the chunks of X in n bare processes, and does nothing else."""
    info = dataset.info()
    chunk_bytes = int(info["chunk_rows"]) * dataset.n_features * 4
    files = [str(f) for f in sorted(Path(dataset.path, "X", "c").rglob("*")) if f.is_file()]
    shares = [(files[i::n], chunk_bytes, info["codec"] == "crc32c") for i in range(n)]
    return lambda: each(decode_all, shares)


def floor(bench: Bench, dataset: Any, n: int = PROCESSES) -> float:
    """Seconds of a bare read in n processes."""
    with processes(n) as each:
        return bench.seconds(bare_read(each, dataset, n))
