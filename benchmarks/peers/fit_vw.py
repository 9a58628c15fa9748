"""Vowpal Wabbit's command line, from its binary cache, which ``--prepare`` makes by way of its text format.

Of sparse rows ``--prepare`` makes the text only: to parse it is part of the first pass, which makes the
cache.
The variant is ``bfgs``, or ``sgd``, its default online update. It writes a model at the end of every pass;
the time of that file is the time of the pass. Its parameters are float32.
"""

import subprocess
import sys
import time

import numpy as np
import zarr
from report import Clock, arguments

VW = [sys.executable, "-m", "vowpalwabbit"]
ROWS, BITS, CONSTANT = 100_000, 21, 11650396
"""Of sparse rows: how many to write at a time; bits of the position of a weight; the position of the
intercept, before it is cut to those bits."""


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


def prepare_sparse(store, text):
    """Entries in text, as column and value."""
    import pyarrow as pa
    from pyarrow import compute

    group = zarr.open_group(store, mode="r")
    y, bounds = group["y"][:], group["X"]["indptr"][:]
    with text.open("wb") as out:
        for start in range(0, len(y), ROWS):
            ends = bounds[start : start + ROWS + 1]
            part = slice(int(ends[0]), int(ends[-1]))
            columns = pa.array(group["X"]["indices"][part]).cast(pa.string())
            values = pa.array(group["X"]["data"][part]).cast(pa.string())
            entries = compute.binary_join_element_wise(columns, values, ":")
            rows = pa.ListArray.from_arrays((ends - ends[0]).astype("int32"), entries)
            label = pa.array(["1 |" if positive else "-1 |" for positive in y[start : start + ROWS]])
            lines = compute.binary_join_element_wise(label, compute.binary_join(rows, " "), " ")
            out.write("\n".join([*lines.to_pylist(), ""]).encode())


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
    numbers = " ".join(lines[lines.index(":0") + 1 :]).replace(":", " ").split()
    at, values = np.array(numbers[::2], dtype=int), np.array(numbers[1::2], dtype=float)
    w = np.zeros(p)
    w[at[at < p]] = values[at < p]
    return w, values[at >= p].sum()


if __name__ == "__main__":
    began = time.time()
    asked, report = arguments()
    cache = asked.scratch / f"{asked.store.stem}.cache"
    text = asked.scratch / f"{asked.store.stem}.vw"
    X = zarr.open_group(asked.store, mode="r")["X"]
    sparse = isinstance(X, zarr.Group)
    if asked.prepare:
        clock = Clock()
        if sparse:
            prepare_sparse(asked.store, text)
        else:
            prepare(asked.store, text, cache)
        report.event("convert", seconds=clock.seconds)
        raise SystemExit
    n, p = X.attrs["shape"] if sparse else X.shape
    folder = asked.scratch / f"vw-{asked.variant}-{time.time_ns()}"
    folder.mkdir()
    model = folder / "model"
    source = ["--cache_file", str(cache)]
    if sparse:
        if p > CONSTANT % (1 << BITS):
            raise SystemExit(f"expected at most {CONSTANT % (1 << BITS):,} features, got {p:,}: raise BITS")
        source = ["-d", str(text), "--cache_file", str(folder / "cache"), "-k", "-b", str(BITS)]
    options = ["--loss_function", "logistic", "--holdout_off", "--no_bias_regularization", "--quiet"]
    options += ["--passes", "1000", "--save_per_pass", "--predict_only_model", "-f", str(model)]
    if asked.variant == "bfgs":  # its penalty is on the sum of losses, the online one on their mean
        options += ["--bfgs", "--termination", "0", "--l2", repr(asked.penalty * n)]
    else:
        options += ["--l2", repr(asked.penalty)]
    started = time.time()
    program = subprocess.Popen([*VW, *source, *options], stdin=subprocess.DEVNULL)
    try:
        program.wait(0.85 * asked.limit - (time.time() - began))
    except subprocess.TimeoutExpired:
        program.kill()
        report.event("stopped")
    whole = [path for path in folder.glob("model.*") if path.suffix[1:].isdigit()]  # not model.1.writing
    saved = sorted(whole, key=lambda path: int(path.suffix[1:]))
    shown, chosen = 0, []
    for path in saved:
        sweeps = int(path.suffix[1:])
        if sweeps >= min(1.15 * shown, shown + 10) or path is saved[-1]:
            shown = sweeps
            chosen.append((sweeps, path))
    for sweeps, path in sorted(chosen, key=lambda one: one[1] is not saved[-1]):  # the last before time is up
        report.point(sweeps, path.stat().st_mtime - started, *parameters(path, p), sweeps=sweeps)
