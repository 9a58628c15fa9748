"""Seconds to a true gap over problems of many shapes, beside scikit-learn: ``python -m benchmarks shapes``.

The problems (:mod:`benchmarks.problems`) are of every linear estimator that scikit-learn has too, from 6,000
to 10 M rows, 5 to 10,000 features and 2 to 500 classes; with correlated and badly scaled features and nearly
separable classes among them. Each is solved by daskgd and by every solver that scikit-learn has for its
objective, but for SGDClassifier and SGDRegressor, whose steps are to be tuned: `peers` has one.

The gap is not the programs' own but ``(f - f*) / f``: f is scikit-learn's objective at the fitted
coefficients, computed in float64 over all rows, and f* the least that anybody found. Newton's method in
`problems` is one of them: from a tight fit of daskgd it goes on until half its squared decrement is below
1e-11 f. The perceptron has the share of mistakes for f.

Seconds to a gap are those of the fastest fit that reaches it. Every program is fitted with tolerances from
loose to tight (the perceptron of scikit-learn with rising limits of epochs), those of scikit-learn until the
gap is below 1e-6, all until a fit runs longer than ``--limit``. Every pair of problem and program has a
process of its own, in which a fit to a few rows comes first, so that imports do not count. Fits below a
second are repeated, and seconds are medians. All have one BLAS thread; daskgd's blocks run on the threads of
its process, as they do by default, or with ``--engine serial`` on one.

Memory is the peak of the process less what it had before. Where the rows are in memory, they are there
before, and do not count. Where they are *stored*, in zarr, daskgd streams them and scikit-learn loads them
first, which counts in its seconds and in its memory. liblinear penalises the intercept: its
`intercept_scaling` is 10, with L1 100, which makes that small.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import signal
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
import zarr
from sklearn import linear_model, svm
from sklearn.base import clone
from threadpoolctl import threadpool_limits

import daskgd
from benchmarks.common import Bench, bars, command, shown
from benchmarks.problems import NONSMOOTH, PROBLEMS, QUICK, Problem

GAPS = (1e-4, 1e-6)
SURE = 1e-7
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 1e-10)


# -- programs -----------------------------------------------------------------------------------


def by_solver(*names: str) -> dict[str, dict[str, Any]]:
    """The arguments that choose them, by name."""
    return {name: {"solver": name} for name in names}


DESCENT: dict[str, dict[str, Any]] = {
    "coordinate descent": {},
    "coordinate descent, Gram": {"precompute": True},
    "coordinate descent, random": {"selection": "random"},
}
WAYS: dict[str, dict[str, dict[str, Any]]] = {
    "LinearRegression": {"lstsq": {}},
    "Ridge": by_solver("cholesky", "svd", "lsqr", "sparse_cg", "sag", "saga"),
    "Lasso": {**DESCENT, "LARS": {}},
    "ElasticNet": DESCENT,
    "HuberRegressor": {"lbfgs": {}},
    "PoissonRegressor": by_solver("lbfgs", "newton-cholesky"),
    "GammaRegressor": by_solver("lbfgs", "newton-cholesky"),
    "TweedieRegressor": by_solver("lbfgs", "newton-cholesky"),
    "QuantileRegressor": by_solver("highs", "highs-ds", "highs-ipm"),
    "Perceptron": {"online": {}},
}
EXACT = {"lstsq", "cholesky", "svd", "LARS", "highs", "highs-ds", "highs-ipm"}
"""Solvers without a tolerance, or for which it is rounding: one fit."""


def ways(problem: Problem) -> dict[str, dict[str, Any]]:
    """scikit-learn's solvers of that objective, and the arguments that choose them."""
    primal = {"dual": False, "intercept_scaling": 100 if problem.l1 else 10}
    dual = {**primal, "dual": True}
    match problem.estimator:
        case "LogisticRegression":
            if problem.l1:
                found = by_solver("saga")
            else:
                found = by_solver("lbfgs", "newton-cg", "newton-cholesky", "sag", "saga")
            if problem.classes == 2 and bool(problem.l1) != bool(problem.l2):
                found["liblinear"] = {"solver": "liblinear", **primal}
                if problem.l2:
                    found["liblinear, dual"] = {"solver": "liblinear", **dual}
            return found
        case "LinearSVC" | "LinearSVR":
            found = {} if problem.kind in NONSMOOTH else {"liblinear": primal}
            return found if problem.l1 else {**found, "liblinear, dual": dual}
    return WAYS[problem.estimator]


def ladder(problem: Problem, n: int, program: str, engine: str) -> list[Any]:
    """Unfitted estimators, from loose to tight."""
    ours = program == "daskgd"
    module = daskgd if ours else svm if hasattr(svm, problem.estimator) else linear_model
    make = getattr(module, "LassoLars" if program == "LARS" else problem.estimator)
    settings = problem.parameters(n) | ({"engine": engine} if ours else ways(problem)[program])
    taken = make().get_params()
    settings |= {"random_state": 0} if "random_state" in taken else {}
    if program == "online":
        return [make(**settings, tol=None, max_iter=limit) for limit in (5, 20, 100, 500, 2_500, 12_500)]
    settings |= {"max_iter": 1_000_000} if "max_iter" in taken and not ours else {}
    if program in EXACT:
        return [make(**settings)]
    return [make(**settings, tol=tol) for tol in (TOLERANCES[2:-1] if ours else TOLERANCES)]


def parameters_of(est: Any) -> Any:
    """``(p + 1, outputs)``, the intercepts last."""
    return np.vstack([np.atleast_2d(est.coef_).T, np.ravel(est.intercept_)]).astype(float)


def value_of(problem: Problem, est: Any, X: Any, y: Any) -> float:
    """The objective at a fit."""
    objective = problem.objective(X, y)
    objective.scale = getattr(est, "scale_", 1.0)
    return objective.value(parameters_of(est))


# -- a process of its own -----------------------------------------------------------------------


def peak_memory() -> float:
    """The most MB that this process had resident; `ru_maxrss` would be no less than its parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def memory_now() -> float:
    """The MB it has now, from which `peak_memory` begins anew; on Linux, with what is free given back."""
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def seconds_of(est: Any, data: Callable[[], tuple[Any, ...]], limit: float) -> float:
    """Seconds of a fit; the process ends by SIGALRM if they are more than the limit."""
    memory_now()
    signal.setitimer(signal.ITIMER_REAL, limit)
    began = time.perf_counter()
    est.fit(*data())
    seconds = time.perf_counter() - began
    signal.setitimer(signal.ITIMER_REAL, 0)
    return seconds


def report(task: dict[str, Any], **facts: Any) -> None:
    """Append facts to the file of a task."""
    with open(task["report"], "a") as file:
        file.write(json.dumps(facts, default=float) + "\n")


def work(task: dict[str, Any]) -> None:
    """Find the minimum of a problem, or fit a program to it, and append what was found to a file."""
    problem, folder, program = PROBLEMS[task["problem"]], Path(task["rows"]), task["program"]
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    warnings.simplefilter("ignore")
    most = int(0.8 * psutil.virtual_memory().total)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))  # a MemoryError, rather than another's end
    streams = problem.stored and program == "daskgd"

    def arrays(mode: Any = None) -> tuple[Any, Any]:
        return np.load(folder / "X.npy", mmap_mode=mode), np.load(folder / "y.npy", mmap_mode=mode)

    def given() -> tuple[Any, ...]:
        return (daskgd.open_dataset(folder / "rows.zarr"),) if streams else (X, y)

    if not program:
        X, y = arrays()
        W = np.zeros((problem.p + 1, problem.outputs))
        if task["start"]:
            est = ladder(problem, task["n"], "daskgd", task["engine"])[0].set_params(tol=1e-9)
            seconds_of(est, given, 10 * task["limit"])
            W = parameters_of(est)
        signal.setitimer(signal.ITIMER_REAL, 10 * task["limit"])
        objective = problem.objective(X, y)
        objective.fit_scale(W)
        report(task, objective=objective.value(W), gap=1.0)
        with threadpool_limits(os.cpu_count()):
            least, gap = objective.minimum(W)
        return report(task, objective=least, gap=gap)
    estimators = ladder(problem, task["n"], program, task["engine"])
    X, y = next(problem.blocks(max(300, 2 * problem.classes)))
    X = X[:, :5]
    clone(estimators[0]).fit(X, y)
    if not problem.stored:
        X, y = arrays()
    before, began, loading = memory_now(), time.perf_counter(), 0.0
    if problem.stored and not streams:
        group: Any = zarr.open_group(folder / "rows.zarr", mode="r")
        X, y = group["X"][:], group["y"][:]
        loading = time.perf_counter() - began
    loaded = peak_memory()
    for est in estimators:
        seconds: list[float] = []
        with warnings.catch_warnings(record=True, action="always") as said:
            while len(seconds) < task["repeats"] and sum(seconds) < 1:
                est = clone(est)
                seconds.append(seconds_of(est, given, max(task["limit"] - loading, 0.1)))
        memory = max(peak_memory(), loaded) - before
        f = value_of(problem, est, *(arrays("r") if streams else (X, y)))
        claims = {
            name: getattr(est, name, None) for name in ("tol", "max_iter", "gap_", "outcome_", "n_sweeps_")
        }
        if program == "daskgd":
            claims |= {"solver": str(est.history_.solver), "said": [str(w.message)[:300] for w in said]}
        report(task, seconds=loading + statistics.median(seconds), memory=memory, objective=f, **claims)
        if program != "daskgd" and task["best"] is not None and gap_of(f, task["best"]) <= GAPS[-1]:
            break


def attempt(task: dict[str, Any]) -> None:
    """Work, and tell of a failure."""
    try:
        work(task)
    except Exception as error:
        report(task, failed=f"{type(error).__name__}: {error}"[:300])


def run(task: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """What a process of its own reports of a task, and how it ended.

    It is forked from one that has imported what it needs and holds no rows.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([f"benchmarks.{Path(__file__).stem}"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "report.jsonl")
        path.touch()
        process = context.Process(target=attempt, args=({**task, "report": str(path)},))
        process.start()
        process.join()
        told = [json.loads(line) for line in path.read_text().splitlines()]
    failed = [facts["failed"] for facts in told if "failed" in facts]
    ends = {0: "done", -signal.SIGALRM: "over the limit"}
    status = failed[0] if failed else ends.get(process.exitcode or 0, f"exit code {process.exitcode}")
    return [facts for facts in told if "failed" not in facts], status


# -- the table ----------------------------------------------------------------------------------


def gap_of(f: float, least: float) -> float:
    """How far f is above the least, relative to f."""
    return 0.0 if f == least else (f - least) / f if np.isfinite(f) else np.inf


def rows_of(bench: Bench, name: str, n: int) -> Path:
    """The folder with the rows in npy files, and as a dataset if they are stored; written if not there."""
    path, problem = bench.scratch / f"shapes-{name}-{n}", PROBLEMS[name]
    if path.exists():
        return path
    half = Path(tempfile.mkdtemp(dir=bench.scratch))
    X: Any = None
    parts, at = [], 0
    for block, y in problem.blocks(n):
        if X is None:
            X = np.lib.format.open_memmap(half / "X.npy", "w+", block.dtype, (n, problem.p))
        X[at : at + len(y)] = block
        at += len(y)
        parts.append(y)
    X.flush()
    np.save(half / "y.npy", np.concatenate(parts))
    if problem.stored:
        daskgd.write_dataset(half / "rows.zarr", problem.blocks(n))
    return half.rename(path)


def solve(bench: Bench, name: str, limit: float, engine: str) -> dict[str, Any]:
    """All programs on one problem, judged by the least objective of them and of Newton's method."""
    problem = PROBLEMS[name]
    fewest = 1_000 if problem.l1 or problem.l2 else 2 * problem.p  # with fewer the minimum may be 0
    n = max(int(problem.n * bench.scale), min(problem.n, max(1_000, fewest)))
    task = {"problem": name, "n": n, "limit": limit, "engine": engine, "repeats": bench.repeats}
    task["rows"] = str(rows_of(bench, name, n))
    newton = [{"objective": 0.0, "gap": 0.0}] if problem.kind == "mistakes" else []
    for start in () if newton else (True, False):
        newton, status = run({**task, "program": "", "start": start})
        if newton:
            break
        click.echo(f"{name}, Newton's method: {status}", err=True)
    best = newton[-1]["objective"] if newton and newton[-1]["gap"] <= SURE else None
    outcomes: list[dict[str, Any]] = []
    for program in ("daskgd", *ways(problem)):
        fits, status = run({**task, "program": program, "best": best})
        outcomes.append({"program": program, "status": status, "fits": fits})
        click.echo(f"{name}, {program}: {status}, {len(fits)} fits")
    found = [fit["objective"] for outcome in outcomes for fit in outcome["fits"]]
    least = min([*filter(np.isfinite, found), *(one["objective"] for one in newton)], default=0.0)
    for outcome in outcomes:
        for fit in outcome["fits"]:
            fit["gap"] = gap_of(fit["objective"], least)
    sure = best is not None and gap_of(best, least) <= SURE
    return {"name": name, "n": n, "least": least, "sure": sure, "newton": newton, "outcomes": outcomes}


def fastest(outcomes: list[dict[str, Any]], gap: float) -> dict[str, Any] | None:
    """The fastest fit of any of them to a gap, and its program."""
    fits = [{**fit, "program": o["program"]} for o in outcomes for fit in o["fits"] if fit["gap"] <= gap]
    return min(fits, key=lambda fit: fit["seconds"], default=None)


def cell(outcomes: list[dict[str, Any]], gap: float) -> str:
    """Seconds of the fastest of them to a gap and which it was, or why none was."""
    if fit := fastest(outcomes, gap):
        return shown(fit["seconds"]) + (f" ({fit['program']})" if fit["program"] != "daskgd" else "")
    if any(outcome["status"] == "over the limit" for outcome in outcomes):
        return "over the limit"
    gaps = [fit["gap"] for outcome in outcomes for fit in outcome["fits"]]
    return f"least gap {shortly(min(gaps))}" if gaps else outcomes[0]["status"]


def shortly(gap: float) -> str:
    return f"{gap:.0e}".replace("e-0", "e-")


def line(solved: dict[str, Any]) -> dict[str, Any]:
    """A problem's line of the table."""
    problem, ours, theirs = PROBLEMS[solved["name"]], solved["outcomes"][:1], solved["outcomes"][1:]
    made: dict[str, Any] = {
        "problem": solved["name"] + " *" * problem.stored,
        "n": solved["n"],
        "p": problem.p,
        "K": problem.classes or None,
    }
    for who, outcomes in (("daskgd", ours), ("scikit-learn", theirs)):
        memory = fastest(outcomes, GAPS[1]) or fastest(outcomes, GAPS[0])
        made |= {f"{who}, s to {shortly(gap)}": cell(outcomes, gap) for gap in GAPS}
        made[f"{who}, peak MB"] = memory and float(memory["memory"])
    mine, other = fastest(ours, GAPS[1]), fastest(theirs, GAPS[0])
    return {**made, "ratio": other["seconds"] / mine["seconds"] if mine and other else None}


def summary(table: list[dict[str, Any]], every: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The ratios together, and the problems that have none or are not sure."""
    ratios = {row["problem"]: row["ratio"] for row in table if row["ratio"]}
    found = {}
    if ratios:
        worst = min(ratios, key=lambda name: ratios[name])
        found["geometric mean of the ratios"] = f"{statistics.geometric_mean(ratios.values()):.3g}"
        found["problems in it"] = f"{len(ratios)} of {len(table)}"
        found["the worst ratio"] = f"{ratios[worst]:.3g}, {worst}"
    without: dict[str, Callable[[dict[str, Any]], bool]] = {
        "daskgd did not reach 1e-6": lambda s: not fastest(s["outcomes"][:1], GAPS[1]),
        "scikit-learn did not reach 1e-4": lambda s: not fastest(s["outcomes"][1:], GAPS[0]),
        "the minimum is not sure to 1e-7": lambda s: not s["sure"],
    }
    for what, lacking in without.items():
        found[what] = ", ".join(s["name"] for s in every if lacking(s)) or "none"
    found["fits of daskgd that claim to have converged, and did not"] = str(len(claims(every, True)))
    return [{"over all problems": what, "": value} for what, value in found.items()]


def claims(every: list[dict[str, Any]], converged: bool) -> list[dict[str, Any]]:
    """daskgd's fits that ended as converged farther from the minimum than they say, or those that did not."""
    found = []
    for solved in every:
        for fit in solved["outcomes"][0]["fits"]:
            said, far = fit["outcome_"] == "converged", fit["gap"] > 2 * (fit["gap_"] or 0) + fit["tol"]
            if said == converged and (far or not converged):
                facts = {name: shortly(fit[name] or 0) for name in ("tol", "gap_", "gap")}
                facts |= {"outcome": fit["outcome_"], "solver": fit["solver"].partition("(")[0]}
                found.append({"problem": solved["name"], **facts, "said": "; ".join(fit["said"])})
    return found


@command
@click.option("--only", multiple=True, type=click.Choice(list(PROBLEMS)), metavar="NAME", help="Only these.")
@click.option("--quick", is_flag=True, help="Only the small half of the problems.")
@click.option("--limit", type=float, help="Seconds for one fit: 60 if not given, with --quick 10.")
@click.option("--engine", type=click.Choice(["threads", "serial"]), default="threads", show_default=True)
def main(bench: Bench, only: tuple[str, ...], quick: bool, limit: float | None, engine: str) -> None:
    """Seconds to a true gap and peak memory over problems of many shapes, beside scikit-learn."""
    limit = limit or (10.0 if quick else 60.0)
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    every = [solve(bench, name, limit, engine) for name in only or (QUICK if quick else PROBLEMS)]
    table = [line(solved) for solved in every]
    about = (
        f"Seconds of the fastest fit to a true gap, at most {limit:g} for a fit, and the peak memory of the "
        "process beyond what it had before. Rows are in memory and do not count there, but for problems with "
        "a *: theirs are stored, and scikit-learn loads them first, which counts in both. One BLAS thread; "
        f'daskgd\'s engine is "{engine}". The ratio is that of the seconds of the fastest solver of '
        "scikit-learn to 1e-4 to those of daskgd to 1e-6."
    )
    tables = {"": table, "In all": summary(table, every)}
    for title, found in {
        "Fits of daskgd that claim to have converged, with a gap above twice gap_ plus tol": claims(
            every, True
        ),
        "Fits of daskgd that did not converge": claims(every, False),
    }.items():
        tables |= {title: found} if found else {}
    plotted = [row for row in table if row["ratio"]]
    bench.publish("shapes", about, tables, lambda axes: bars(axes, plotted, "problem", "ratio"), runs=every)
