"""``python -m benchmarks.screenshot PATH``: the training page during a fit that loses a worker.

A scheduler and two workers are processes of their own, as on a cluster. The page is open from before the fit,
so that what the picture shows has arrived there live.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
from distributed import Client

import daskgd
from benchmarks.browser import opened
from benchmarks.common import correlated

SWEEPS = "window.Bokeh?.documents[0]?.get_model_by_name('daskgd-sweeps')?.data.sweep.length"
POINTS = "window.Bokeh?.documents[0]?.get_model_by_name('daskgd-curve-0')?.data.loss.length"


@contextmanager
def processes(folder: Path, workers: int, memory: str) -> Iterator[Client]:
    """A client of `dask scheduler` and so many `dask worker`."""
    file = folder / "scheduler.json"
    with ExitStack() as stack:

        def start(*words: str) -> None:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *words, "--scheduler-file", str(file)],
                stderr=subprocess.DEVNULL,
                cwd=folder,
            )
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)

        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0")
        for i in range(workers):
            start("worker", "--nthreads", "1", "--memory-limit", memory, "--name", str(i))
        client = stack.enter_context(Client(scheduler_file=str(file)))
        client.wait_for_workers(workers)
        yield client


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--rows", default=1_500_000, show_default=True)
@click.option("--scratch", type=click.Path(path_type=Path), help="Keep the dataset in this folder.")
def main(path: Path, rows: int, scratch: Path | None) -> None:
    """Write what the page looks like to PATH, as PNG."""
    with tempfile.TemporaryDirectory(prefix="daskgd-screenshot-") as temporary:
        data = (scratch or Path(temporary)).resolve() / f"screenshot-{rows}.zarr"
        if not data.exists():
            daskgd.write_dataset(data, correlated(rows, 50), chunk_bytes=2_000_000)
        with processes(Path(temporary), 2, "480 MB") as client:
            solver = daskgd.LBFGS()
            daskgd.LogisticRegression(solver=solver, max_iter=1, tol=0).fit(data)
            fit = daskgd.LogisticRegression(solver=solver, max_iter=100, tol=2e-5)
            with opened(client.dashboard_link.replace("/status", "/daskgd"), height=970) as tab:
                first = tab.until(SWEEPS)
                thread = threading.Thread(target=fit.fit, args=(data,))
                thread.start()
                tab.until(f"{SWEEPS} >= 9")
                victim = next(iter(client.run(os.getpid).values()))
                os.kill(victim, signal.SIGKILL)
                thread.join()
                tab.until(f"{SWEEPS} == {fit.n_sweeps_}")
                time.sleep(1)  # for the browser to draw
                tab.picture(path)
                found = tab.run(POINTS)
        click.echo(
            f"{path}: {first} sweeps when the page opened, {fit.n_sweeps_} and {found} points at the end"
        )


if __name__ == "__main__":
    main()
