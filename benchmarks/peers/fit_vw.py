"""Vowpal Wabbit's command line, from its binary cache, which ``--prepare`` makes by way of its text format.

The variant is ``bfgs``, or ``sgd``, its default online update. It writes a model at the end of every pass;
the time of that file is the time of the pass. Its parameters are float32.
"""

import subprocess
import sys
import time

import zarr
from report import Clock, arguments

VW = [sys.executable, "-m", "vowpalwabbit"]


def prepare(store, text, cache):
    """Numbers in text by way of CSV, features named by their position; then the cache."""
    import pyarrow as pa
    from pyarrow import csv

    group = zarr.open_group(store, mode="r")
    (n, p), rows = group["X"].shape, group["X"].chunks[0]
    options = csv.WriteOptions(include_header=False, quoting_style="none")
    with text.open("wb") as out:
        for start in range(0, n, rows):
            X, y = group["X"][start : start + rows], group["y"][start : start + rows]
            label = pa.array(["1 |" if positive else "-1 |" for positive in y])
            sink = pa.BufferOutputStream()
            table = pa.table([label, *map(pa.array, X.T.copy())], [str(i) for i in range(p + 1)])
            csv.write_csv(table, sink, options)
            out.write(sink.getvalue().to_pybytes().replace(b",", b" :"))
    command = [*VW, "-d", str(text), "--cache_file", str(cache), "-k", "--noop", "--quiet"]
    subprocess.run(command, check=True)
    text.unlink()


def parameters(model, p):
    """Weights and intercept of a saved model, by way of the readable one."""
    readable = model.with_name("readable.txt")
    command = [
        *VW,
        "--predict_only_model",
        "-t",
        "-i",
        str(model),
        "--readable_model",
        str(readable),
        "--quiet",
    ]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    lines = readable.read_text().splitlines()
    pairs = [line.split(":") for line in lines[next(i for i, s in enumerate(lines) if s == ":0") + 1 :]]
    weights = {int(at): float(value) for at, value in pairs}
    return [weights.pop(j, 0.0) for j in range(p)], sum(weights.values())


if __name__ == "__main__":
    began = time.time()
    asked, report = arguments()
    cache = asked.scratch / f"{asked.store.stem}.cache"
    if asked.prepare:
        clock = Clock()
        prepare(asked.store, asked.scratch / f"{asked.store.stem}.vw", cache)
        report.event("convert", seconds=clock.seconds)
        raise SystemExit
    X = zarr.open_group(asked.store, mode="r")["X"]
    n, p = X.shape
    folder = asked.scratch / f"vw-{asked.variant}-{time.time_ns()}"
    folder.mkdir()
    model = folder / "model"
    options = ["--loss_function", "logistic", "--holdout_off", "--no_bias_regularization", "--quiet"]
    options += ["--passes", "1000", "--save_per_pass", "--predict_only_model", "-f", str(model)]
    if asked.variant == "bfgs":  # its penalty is on the sum of losses, the online one on their mean
        options += ["--bfgs", "--termination", "0", "--l2", repr(asked.penalty * n)]
    else:
        options += ["--l2", repr(asked.penalty)]
    started = time.time()
    program = subprocess.Popen([*VW, "--cache_file", str(cache), *options], stdin=subprocess.DEVNULL)
    try:
        program.wait(0.85 * asked.limit - (time.time() - began))
    except subprocess.TimeoutExpired:
        program.kill()
        report.event("stopped")
    saved = sorted(folder.glob("model.*"), key=lambda path: int(path.suffix[1:]))
    shown = 0
    for path in saved:
        sweeps = int(path.suffix[1:])
        if sweeps >= min(1.15 * shown, shown + 10) or path is saved[-1]:
            shown = sweeps
            seconds = path.stat().st_mtime - started
            report.point(sweeps, seconds, *parameters(path, p), sweeps=sweeps)
