"""Seconds and sweeps to a true relative gap, beside other programs: ``python -m benchmarks peers``.

All minimise the mean logistic loss of the same store plus lam / 2 times the squared coefficients, the
intercept free. Every program runs in a process and an environment of its own, tells the parameters that it
has after so many seconds, and is killed at the limit: what it had told until then counts. The gap
(f - f*) / f* of all of them is evaluated here, in float64, by one read of the store; f* is where two Newton
steps lead from daskgd's fit, or the least value that anyone found.

Seconds are from the start of reading the store to those parameters: loading included, the start of processes
and clusters, imports, and the conversion to another format (told apart) not. Programs that need less than the
limit are run again, up to ``--repeats`` times as long as these fit into the limit together, in rounds of all
programs, and seconds are medians. Memory is the most that the process and its children had resident together,
shared pages counted for each.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil

import daskgd
from benchmarks.common import Bench, cluster, command
from benchmarks.sweeps import chunks, minimum, parameters

HERE = Path(__file__).parent
GAPS = tuple(10.0**-k for k in range(2, 9))


@dataclass(frozen=True)
class Program:
    """A script of this folder, what it needs, and how many threads its linear algebra may use."""

    script: str
    variant: str = ""
    needs: str | None = None
    threads: int = 2
    converts: bool = False


PROGRAMS = {
    "daskgd, streamed": Program("fit_daskgd", "0", threads=1),
    "daskgd, memory=auto": Program("fit_daskgd", "auto", threads=1),
    "dask-ml, lbfgs": Program("fit_dask_ml", "lbfgs", "dask-ml", threads=1),
    "dask-ml, newton": Program("fit_dask_ml", "newton", "dask-ml", threads=1),
    "dask-ml, admm": Program("fit_dask_ml", "admm", "dask-ml", threads=1),
    "scikit-learn, lbfgs": Program("fit_sklearn", "lbfgs", "scikit-learn"),
    "scikit-learn, newton-cholesky": Program("fit_sklearn", "newton-cholesky", "scikit-learn"),
    "glum, irls": Program("fit_glum", needs="glum"),
    "SGDClassifier.partial_fit": Program("fit_sgd", needs="scikit-learn"),
    "Spark MLlib": Program("fit_spark", needs="spark", converts=True),
    "Vowpal Wabbit, bfgs": Program("fit_vw", "bfgs", "vowpalwabbit", converts=True),
    "Vowpal Wabbit, online": Program("fit_vw", "sgd", "vowpalwabbit", converts=True),
}


@dataclass
class Outcome:
    """What became of a program: its status, and the events it told."""

    status: str = "done"
    events: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    peak: int = 0
    runs: int = 0

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]

    def median(self, kind: str) -> float | None:
        """Seconds of an event, over the runs."""
        found = [event["seconds"] for event in self.told(kind)]
        return statistics.median(found) if found else None

    def points(self) -> list[dict[str, Any]]:
        """The parameters it found, in order; seconds are medians over the runs, loading included."""
        groups: dict[str, list[dict[str, Any]]] = {}
        for event in self.told("point"):
            groups.setdefault(event["label"], []).append(event)
        loaded = self.median("load") or 0.0
        seconds = {label: statistics.median(e["seconds"] for e in group) for label, group in groups.items()}
        return [{**group[0], "seconds": loaded + seconds[label]} for label, group in groups.items()]


def environment(folder: Path, needs: str | None) -> str:
    """The interpreter of an environment with what a program needs, made if it is not there yet."""
    if needs is None:
        return sys.executable
    requirements = HERE / f"requirements-{needs}.txt"
    place = folder / f"{needs}-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:8]}"
    python, ready = place / "bin" / "python", place / "ready"
    if not ready.exists():
        venv.create(place, with_pip=True, clear=True)
        install = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
            requirements,
        ]
        done = subprocess.run(install, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"no environment: {last_line(done.stderr)}")
        ready.touch()
    return str(python)


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:160] if lines else "it said nothing"


def tree(process: psutil.Process) -> list[psutil.Process]:
    """The process and all below it."""
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def resident(processes: list[psutil.Process]) -> int:
    """Bytes they have resident together."""
    total = 0
    for process in processes:
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def run(arguments: list[str], threads: int, limit: float, outcome: Outcome) -> None:
    """Run a program until its end or the limit; what it told is read by the caller."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    variables = {**os.environ, **dict.fromkeys(names, str(threads))}
    if arguments[0] == sys.executable:  # the daskgd beside this folder, whatever is installed
        variables["PYTHONPATH"] = str(HERE.parents[1])
    with tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        running = subprocess.Popen(
            arguments,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        root = psutil.Process(running.pid)
        try:
            while running.poll() is None:
                outcome.peak = max(outcome.peak, resident(tree(root)))
                if time.perf_counter() - began > limit:
                    outcome.status = f"stopped at {limit:.0f} s"
                    break
                time.sleep(0.1)
        finally:
            for process in tree(root):  # workers may have left the group
                with suppress(psutil.Error):
                    process.kill()
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
        outcome.seconds = time.perf_counter() - began
        if running.returncode and outcome.status == "done":
            errors.seek(0)
            outcome.status = f"failed: {last_line(errors.read())}"


@dataclass
class Trial:
    """A program that is run once in every round, until its repeats no longer fit into the limit together."""

    program: Program
    limit: float
    report: Path
    converted: Path
    script: list[str] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)
    spent: float = 0.0

    def prepare(self, settings: list[str], environments: Path) -> None:
        """Make its environment, and the data as it wants them."""
        self.report.touch()
        try:
            python = environment(environments, self.program.needs)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            self.outcome.status = str(error)
            return
        self.script = [python, str(HERE / f"{self.program.script}.py"), *settings]
        if self.program.converts and not self.converted.exists():
            run([*self.script, "--prepare"], self.program.threads, self.limit, self.outcome)
            if self.outcome.status != "done":
                self.outcome.status = f"conversion {self.outcome.status}"
                return
            self.converted.write_text(self.report.read_text())
            self.report.write_text("")
            self.outcome.peak = 0

    def once(self) -> None:
        """Run it, if it may run again."""
        outcome = self.outcome
        if outcome.status == "done" and self.spent + outcome.seconds <= self.limit:
            run(self.script, self.program.threads, self.limit, outcome)
            outcome.runs += 1
            self.spent += outcome.seconds

    def told(self) -> Outcome:
        """What became of it."""
        told = self.report.read_text() + (self.converted.read_text() if self.converted.exists() else "")
        self.outcome.events = [json.loads(line) for line in told.splitlines()]
        if self.outcome.told("stopped") and self.outcome.status == "done":
            self.outcome.status = f"stopped at {self.limit:.0f} s"
        return self.outcome


def race(
    bench: Bench,
    programs: dict[str, Program],
    dataset: Any,
    penalty: float,
    limit: float,
    environments: Path | None,
    folder: Path,
) -> dict[str, Outcome]:
    """Run the programs on a stored dataset; what they tell is in the folder, large parameters too."""
    scratch = bench.scratch / f"peers-{dataset.n_rows}"
    scratch.mkdir(exist_ok=True)
    environments = (environments or bench.scratch / "environments").resolve()
    trials = {}
    for i, (name, program) in enumerate(programs.items()):
        report, converted = folder / f"{i}.jsonl", f"{Path(dataset.path).stem}-{program.script}.json"
        trials[name] = Trial(program, limit, report, scratch / converted)
        settings = [str(dataset.path), str(report), "--penalty", repr(penalty), "--limit", str(limit)]
        settings += ["--scratch", str(scratch), "--variant", program.variant]
        trials[name].prepare(settings, environments)
    # In rounds: what a noisy neighbour takes, it takes from all.
    for _ in range(bench.repeats):
        for trial in trials.values():
            trial.once()
    outcomes = {}
    for name, trial in trials.items():
        found = outcomes[name] = trial.told()
        click.echo(f"{name}: {found.status}, {found.runs} runs, {len(found.told('point'))} points")
    return outcomes


def objectives(dataset: Any, W: Any, lam: float) -> Any:
    """The objective ``(k,)`` in float64 at each column of W ``(p + 1, k)``, intercepts last."""
    total = np.zeros(W.shape[1])
    for A, y in chunks(dataset):
        for a in range(0, len(A), 5_000):  # margins that stay in the cache
            z = A[a : a + 5_000] @ W
            z[y[a : a + 5_000] == 1] *= -1
            total += np.maximum(z, 0).sum(axis=0) + np.log1p(np.exp(-np.abs(z))).sum(axis=0)
    return total / dataset.n_rows + lam / 2 * np.sum(W[:-1] ** 2, axis=0)


def judge(dataset: Any, lam: float, outcomes: dict[str, Outcome]) -> tuple[dict[str, list[Any]], float]:
    """The points of every program with their true gaps, in order of time; and the least objective."""
    with cluster():
        est = daskgd.LogisticRegression(C=1 / (lam * dataset.n_rows), tol=1e-8).fit(dataset)
    best = minimum(est, dataset, lambda: est)[1]
    points = {name: outcome.points() for name, outcome in outcomes.items()}
    every = [point for found in points.values() for point in found]
    W = np.array([[*point["w"], point["b"]] for point in every]).T.reshape(dataset.n_features + 1, -1)
    W = np.hstack([W, parameters(est)])
    f = objectives(dataset, W, lam)
    best = min(best, float(np.nanmin(f)))
    for point, value in zip(every, f[:-1], strict=True):
        point["gap"] = float((value - best) / best)
    for found in points.values():
        found.sort(key=lambda point: point["seconds"])
    return points, best


def first(points: list[dict[str, Any]], gap: float) -> dict[str, Any] | None:
    """The first that is as good."""
    return next((point for point in points if point["gap"] <= gap), None)


def cost(point: dict[str, Any]) -> str | int | float | None:
    """Sweeps where they are known, else iterations."""
    if "iterations" in point:
        return f"{point['iterations']} it."
    return point.get("sweeps")


def tables(
    outcomes: dict[str, Outcome], points: dict[str, list[Any]], gaps: Iterable[float] = GAPS
) -> dict[str, list[dict[str, Any]]]:
    """Seconds to each gap, sweeps to each gap, and what else there is to say."""
    made: dict[str, list[dict[str, Any]]] = {"Seconds to a gap": [], "Sweeps to a gap": [], "Programs": []}
    for name, outcome in outcomes.items():
        reached = {f"{gap:.0e}": first(points[name], gap) for gap in gaps}
        seconds = {gap: point and float(point["seconds"]) for gap, point in reached.items()}
        sweeps = {gap: point and cost(point) for gap, point in reached.items()}
        least = min((point["gap"] for point in points[name]), default=None)
        made["Seconds to a gap"].append({"program": name, **seconds, "best gap": least})
        made["Sweeps to a gap"].append({"program": name, **sweeps})
        made["Programs"].append(
            {
                "program": name,
                "status": outcome.status,
                "runs": outcome.runs,
                "load, s": outcome.median("load") or "in the fit",
                "conversion, s": outcome.median("convert"),
                "peak memory, GB": outcome.peak / 1e9,
            }
        )
    return made


def curves(axes: Any, points: dict[str, list[Any]]) -> None:
    """The best relative gap so far against seconds, one line for each program; none below 1e-10."""
    styles: Iterator[str] = iter(
        ("o-", "s-", "^--", "v--", "D--", "x-.", "+-.", "*-.", "1:", "2:", "3:", "4:")
    )
    for (name, found), style in zip(points.items(), styles, strict=False):
        if found:
            gaps = np.minimum.accumulate(np.maximum([point["gap"] for point in found], 1e-10))
            axes.loglog([point["seconds"] for point in found], gaps, style, label=name, markersize=4)
    axes.set(xlabel="seconds", ylabel="relative gap", ylim=(5e-11, 1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


@command
@click.option("--rows", default=10_000_000, show_default=True, help="Before --scale.")
@click.option("--penalty", default=1e-6, show_default=True, help="In the mean objective.")
@click.option("--limit", default=900, show_default=True, help="Seconds for each program.")
@click.option("--environments", type=click.Path(path_type=Path), help="Keep the peers' environments here.")
@click.option("--only", multiple=True, type=click.Choice(list(PROGRAMS)), help="Only these.")
def main(
    bench: Bench,
    rows: int,
    penalty: float,
    limit: int,
    environments: Path | None,
    only: tuple[str, ...],
) -> None:
    """Seconds and sweeps to a true relative gap, beside other programs."""
    dataset = bench.store("correlated", bench.rows(rows))
    programs = {name: PROGRAMS[name] for name in only or PROGRAMS}
    with tempfile.TemporaryDirectory() as folder:
        outcomes = race(bench, programs, dataset, penalty, limit, environments, Path(folder))
    points, best = judge(dataset, penalty, outcomes)
    about = (
        f"Logistic regression, {dataset.n_rows:,} x 50 float32, condition 1e3, L2 penalty {penalty:g} in the "
        f"mean objective; at most {limit} s for each program on {os.cpu_count()} cores. Seconds include "
        "loading; a dash is a gap not reached. dask-ml penalises its intercept too, and its newton nothing; "
        "gaps are of the common objective all the same. *it.*: iterations, where sweeps are not known."
    )
    page = tables(outcomes, points)
    bench.publish("peers", about, page, lambda axes: curves(axes, points), points=points, best=best)
