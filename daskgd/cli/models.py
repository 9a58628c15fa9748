"""Commands about fitted models: predict, score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from daskgd.cli.common import DATAERR, USAGE, Refusal, bad_data, bar, cluster, line, on_a_cluster

BLOCKS_AT_A_TIME = 32


def load_model_file(model: str) -> Any:
    """Load the model in a file, and refuse a file that holds none."""
    import daskgd

    try:
        return daskgd.load_model(model)
    except FileNotFoundError:
        raise Refusal(f"MODEL: {model}: no such file", USAGE) from None
    except daskgd.ModelError as cause:
        raise Refusal(line(cause), DATAERR) from None


@click.command(
    epilog="Example: daskgd predict model.dgd new.zarr --out predictions.npy --method predict_proba"
)
@click.argument("model")
@click.argument("data")
@click.option(
    "--out", required=True, metavar="PATH", help="A file to write, .npy or .csv, or a new .zarr group."
)
@click.option(
    "--method",
    type=click.Choice(["predict", "predict_proba", "decision_function"]),
    default="predict",
    show_default=True,
)
@on_a_cluster
def predict(model: str, data: str, out: str, method: str, **where: Any) -> None:
    """Predict the rows of the dataset DATA with the model in the file MODEL, some blocks at a time.

    Exits with 2 for names that are wrong, 65 for files and rows that are.
    """
    import dask

    import daskgd

    kind = Path(out).suffix
    if kind not in WRITERS:
        raise Refusal(f"--out: expected a path that ends with {', '.join(WRITERS)}, got {out!r}", USAGE)
    if Path(out).exists():
        raise Refusal(f"--out: {out} exists; choose another path, or remove it", USAGE)
    est = load_model_file(model)
    if not hasattr(est, method):
        raise Refusal(f"--method: {type(est).__name__} has no {method}", USAGE)
    with bad_data(data):
        dataset = daskgd.open_dataset(data)
        predictions = getattr(est, method)(dataset)
    with cluster(**where), bar("predicting", "blocks") as progress, bad_data(data):
        blocks = (
            list(predictions.blocks.ravel())
            if predictions.ndim == 1
            else [predictions.blocks[i] for i in range(predictions.numblocks[0])]
        )

        def parts() -> Any:
            for i in range(0, len(blocks), BLOCKS_AT_A_TIME):
                yield from dask.compute(*blocks[i : i + BLOCKS_AT_A_TIME])
                if progress is not None:
                    progress(min(i + BLOCKS_AT_A_TIME, len(blocks)), len(blocks))

        WRITERS[kind](Path(out), predictions, parts())
    click.echo(f"{out}: {dataset.n_rows:,} predictions")


def _npy(out: Path, like: Any, parts: Any) -> None:
    import numpy as np

    array, at = np.lib.format.open_memmap(out, "w+", like.dtype, like.shape), 0
    for part in parts:
        array[at : at + len(part)] = part
        at += len(part)
    array.flush()


def _csv(out: Path, like: Any, parts: Any) -> None:
    import csv

    with out.open("w", newline="") as file:
        writer = csv.writer(file)
        for part in parts:
            writer.writerows(part.reshape(len(part), -1).tolist())


def _zarr(out: Path, like: Any, parts: Any) -> None:
    from daskgd import write_dataset

    write_dataset(out, (part.reshape(len(part), -1) for part in parts))


WRITERS = {".npy": _npy, ".csv": _csv, ".zarr": _zarr}


@click.command(epilog="Example: daskgd score model.dgd held-out.zarr --local")
@click.argument("model")
@click.argument("data")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@on_a_cluster
def score(model: str, data: str, as_json: bool, **where: Any) -> None:
    """Score the model in the file MODEL on the dataset DATA: accuracy, R2 or D2, in one read.

    Exits with 2 for names that are wrong, 65 for files and rows that are.
    """
    import daskgd
    from daskgd.storage.redaction import redacted

    est = load_model_file(model)
    with cluster(**where), bad_data(data):
        dataset = daskgd.open_dataset(data)
        value = est.score(dataset)
    said = {"model": model, "data": redacted(data), "rows": dataset.n_rows, "score": value}
    click.echo(json.dumps(said) if as_json else f"{value:.6g}")
