"""Commands about fitted models: predict, score."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from daskgd.cli.common import DATAERR, USAGE, Location, Refusal, bad_data, bar, cluster, line, on_a_cluster
from daskgd.cli.outputs import WRITERS, Predictions

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
    epilog="Example: daskgd predict model.dgd new.zarr --out new.csv --method predict_proba --id customer"
)
@click.argument("model", type=Location())
@click.argument("data", type=Location())
@click.option(
    "--out",
    required=True,
    type=Location(),
    metavar="PATH",
    help="A file to write, .csv, .parquet or .npy, or a new .zarr group.",
)
@click.option(
    "--method",
    type=click.Choice(["predict", "predict_proba", "decision_function"]),
    default="predict",
    show_default=True,
)
@click.option(
    "--id",
    "id_name",
    metavar="COLUMN",
    help="A feature of DATA to write before the predictions; the model need not know it.",
)
@on_a_cluster
def predict(model: str, data: str, out: str, method: str, id_name: str | None, **where: Any) -> None:
    """Predict the rows of the dataset DATA with the model in the file MODEL, some blocks at a time.

    Columns are named: prediction, or the classes whose probabilities and margins they are. A .zarr group has
    predictions as its y, labels with their classes, and probabilities and margins as its X. Exits with 2 for
    names that are wrong, 65 for files and rows that are.
    """
    import dask

    import daskgd
    from daskgd.storage.paths import shorten

    kind = Path(out).suffix
    _check_output(out, kind, id_name)
    est = load_model_file(model)
    if not hasattr(est, method):
        raise Refusal(f"--method: {type(est).__name__} has no {method}", USAGE)
    with bad_data(data):
        dataset = daskgd.open_dataset(data)
        ids, rows = _split_off(dataset, est, id_name)
        predictions = getattr(est, method)(rows)
    what = _describe(est, method, predictions, id_name, ids)

    def parts() -> Iterator[Any]:
        n = predictions.numblocks[0]
        values = [predictions.blocks[i] for i in range(n)]
        of_ids = [None if ids is None else ids.blocks[i] for i in range(n)]
        for i in range(0, n, BLOCKS_AT_A_TIME):
            some = slice(i, i + BLOCKS_AT_A_TIME)
            with bad_data(data):
                (found,) = dask.compute([*zip(of_ids[some], values[some], strict=True)])
            yield from found
            if progress is not None:
                progress(min(i + BLOCKS_AT_A_TIME, n), n)

    with cluster(**where), bar("predicting", "blocks") as progress, bad_data(out):
        WRITERS[kind](out, what, parts())
    click.echo(f"{shorten(out)}: {dataset.n_rows:,} predictions")


def _check_output(out: str, kind: str, id_name: str | None) -> None:
    """Refuse a place that cannot be written to, before any data is read."""
    from daskgd.data.formats.base import import_library
    from daskgd.storage.paths import is_url

    if kind not in WRITERS:
        raise Refusal(f"--out: expected a path that ends with {', '.join(WRITERS)}, got {out!r}", USAGE)
    if is_url(out) and kind != ".zarr":
        raise Refusal(f"--out: expected a local path for {kind}, or a URL that ends with .zarr", USAGE)
    if not is_url(out) and Path(out).exists():
        raise Refusal(f"--out: {out} exists; choose another path, or remove it", USAGE)
    if id_name is not None and kind == ".npy":
        raise Refusal("--id: expected none for .npy, which has no columns; write .csv or .parquet", USAGE)
    if kind in (".parquet", ".pq"):
        try:
            import_library("pyarrow.parquet", "Parquet")
        except ImportError as cause:
            raise Refusal(f"--out: {line(cause)}", USAGE) from None


def _split_off(dataset: Any, est: Any, name: str | None) -> tuple[Any, Any]:
    """The column of that name, and the rows that the model is to predict: without it, unless the model has
    it among its features."""
    if name is None:
        return None, dataset
    if not dataset.columns.X.is_dense:
        raise Refusal(
            f"--id: expected a dataset of dense numbers alone, got sparse rows or categories for {name!r}; "
            "leave it out: predictions come in the order of the rows",
            USAGE,
        )
    names = dataset.feature_names
    if names is None or name not in names:
        there = "without names" if names is None else f"named {', '.join(names)}"
        raise Refusal(f"--id: expected a feature of the dataset, which are {there:.300}, got {name!r}", USAGE)
    X, at = dataset.X, names.index(name)
    known = getattr(est, "feature_names_in_", None)
    if len(names) == est.n_features_in_ if known is None else name in known:
        return X[:, at], dataset
    keep = [j for j in range(len(names)) if j != at]
    est._check_features(len(keep), [names[j] for j in keep], reset=False)
    return X[:, at], X[:, keep]


def _describe(est: Any, method: str, predictions: Any, id_name: str | None, ids: Any) -> Predictions:
    """What the predictions are, and how their columns are called."""
    k = 1 if predictions.ndim == 1 else predictions.shape[1]
    word = "prediction" if method == "predict" else "decision"
    names = [word] if k == 1 else [f"{word}_{j}" for j in range(k)]
    dtype, classes = predictions.dtype, getattr(est, "classes_", None)
    if method == "predict" and classes is not None and dtype.kind in "OT":
        dtype = classes.astype(str).dtype
    if method != "predict" and classes is not None and len(classes) == k:
        names = [str(c) for c in classes]
    if id_name in names:
        raise Refusal(f"--id: expected another name than {', '.join(names)}, got {id_name!r}", USAGE)
    of_ids = None if ids is None else ids.dtype
    return Predictions(names, predictions.shape, dtype, method == "predict", id_name, of_ids)


@click.command(epilog="Example: daskgd score model.dgd held-out.zarr --local")
@click.argument("model", type=Location())
@click.argument("data", type=Location())
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@on_a_cluster
def score(model: str, data: str, as_json: bool, **where: Any) -> None:
    """Score the model in the file MODEL on the dataset DATA: accuracy, R2 or D2, in one read.

    Exits with 2 for names that are wrong, 65 for files and rows that are.
    """
    import daskgd
    from daskgd.storage.paths import shorten
    from daskgd.storage.redaction import redacted

    est = load_model_file(model)
    with cluster(**where), bad_data(data):
        dataset = daskgd.open_dataset(data)
        value = est.score(dataset)
    said = {"model": shorten(model), "data": shorten(redacted(data)), "rows": dataset.n_rows, "score": value}
    click.echo(json.dumps(said) if as_json else f"{value:.6g}")
