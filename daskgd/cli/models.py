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
    help="A column of DATA to write before the predictions; the model need not know it.",
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
        ids, rows = _split_off(dataset, est, id_name, kind)
        takes_offset = rows is not dataset and getattr(est, "_takes_offset", False)
        shift = {"offset": dataset.offset} if takes_offset else {}
        predictions = getattr(est, method)(rows, **shift)
    what = _describe(est, method, predictions, id_name, _dtype_of_ids(dataset, id_name, ids))

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


def _split_off(dataset: Any, est: Any, name: str | None, kind: str) -> tuple[Any, Any]:
    """The column of that name, and the rows that the model is to predict: without it, unless the model has
    it among its features. `kind` is the ending of the file that ids go to."""
    from daskgd.data.frame import to_objects

    if name is None:
        return None, dataset
    schema, names = dataset.schema, dataset.feature_names
    if names is None or name not in schema:
        there = "without names" if names is None else f"named {', '.join(schema)}"
        raise Refusal(f"--id: expected a column of the dataset, which are {there:.300}, got {name!r}", USAGE)
    if kind == ".zarr" and schema[name].kind not in ("number", "bool"):
        raise Refusal(
            f"--id: expected numbers for .zarr, got the {schema[name].kind} {name!r}; write .csv or .parquet",
            USAGE,
        )
    X, is_dense, of_column = dataset.X, dataset.columns.X.is_dense, _features_of(dataset, name)
    if schema[name].kind != "number":
        ids = to_objects(dataset, name)
    elif is_dense:
        ids = X[:, of_column[0]]
    else:
        ids = X.map_blocks(lambda rows: rows[:, of_column].toarray()[:, 0], dtype=X.dtype, drop_axis=1)
    if hasattr(est, "steps"):  # pipelines take the columns that they know
        return ids, dataset
    known = getattr(est, "feature_names_in_", None)
    if len(names) == est.n_features_in_ if known is None else {names[j] for j in of_column} & {*known}:
        return ids, dataset
    keep = [j for j in range(len(names)) if j not in of_column]
    est._check_features(len(keep), [names[j] for j in keep], reset=False)
    if is_dense:
        return ids, X[:, keep]
    return ids, X.map_blocks(lambda rows: rows[:, keep], dtype=X.dtype, chunks=(X.chunks[0], (len(keep),)))


def _features_of(dataset: Any, name: str) -> range:
    """The features that a column of a dataset is: one, or one for each of its categories."""
    if dataset.dictionaries is None or name in dataset.dictionaries.numeric:
        at = dataset.feature_names.index(name)
        return range(at, at + 1)
    stop = len(dataset.dictionaries.numeric)
    found = range(0)
    for column in dataset.dictionaries.columns:
        start, stop = stop, stop + len(column)
        if column.name == name:
            found = range(start, stop)
    return found


def _dtype_of_ids(dataset: Any, name: str | None, ids: Any) -> Any:
    """The dtype of ids: objects where they are text, else as they were before they were stored."""
    import numpy as np

    if name is None or ids.dtype != object:
        return None if name is None else ids.dtype
    return np.dtype(object if dataset.schema[name].dtype == "str" else dataset.schema[name].dtype)


def _describe(est: Any, method: str, predictions: Any, id_name: str | None, of_ids: Any) -> Predictions:
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
    return Predictions(names, predictions.shape, dtype, method == "predict", id_name, of_ids)


@click.command(epilog="Example: daskgd score model.dgd held-out.zarr --local")
@click.argument("model", type=Location())
@click.argument("data", type=Location())
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="A metric by scikit-learn's name, such as roc_auc or neg_log_loss; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@on_a_cluster
def score(model: str, data: str, metrics: tuple[str, ...], as_json: bool, **where: Any) -> None:
    """Score the model in the file MODEL on the dataset DATA in one read: accuracy, R2 or D2, or the metrics
    that are named, of which greater is better.

    Exits with 2 for names that are wrong, 65 for files and rows that are.
    """
    import daskgd
    from daskgd.metrics import evaluate, get_scorer
    from daskgd.storage.paths import shorten
    from daskgd.storage.redaction import redacted

    metrics = tuple(dict.fromkeys(metrics))
    for name in metrics:
        try:
            get_scorer(name)
        except ValueError as cause:
            raise Refusal(f"--metric: {line(cause).removeprefix('scoring: ')}", USAGE) from None
    est = load_model_file(model)
    with cluster(**where), bad_data(data):
        dataset = daskgd.open_dataset(data)
        try:
            found = (
                evaluate(est, dataset, scoring=list(metrics)) if metrics else {"score": est.score(dataset)}
            )
        except AttributeError as cause:
            raise Refusal(f"--metric: {line(cause)}", USAGE) from None
    said = {"model": shorten(model), "data": shorten(redacted(data)), "rows": dataset.n_rows, **found}
    if as_json:
        click.echo(json.dumps(said))
    elif not metrics:
        click.echo(f"{found['score']:.6g}")
    else:
        for name, value in found.items():
            click.echo(f"{name} {value:.6g}")
