"""Commands about datasets: ingest, info, survey, verify."""

from __future__ import annotations

import json
from typing import Any

import click

from daskgd.cli.common import DATAERR, USAGE, Location, Refusal, about, bad_data, bar, bars, fact, line


@click.command(
    epilog="Example: daskgd ingest january.csv february.csv --out rides.zarr --target fare --drop driver"
)
@click.argument("paths", nargs=-1, required=True, type=Location())
@click.option(
    "--out", required=True, type=Location(), metavar="PATH", help="Where to write the dataset: a path or URL."
)
@click.option("--target", help="The column of the target: its name; of npy files its number, or an npy file.")
@click.option("--weight", help="The column of the sample weights, likewise.")
@click.option("--drop", multiple=True, metavar="COLUMN", help="Leave a column out; may be repeated.")
@click.option("--dtype", help="Of the features, such as float32.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "parquet", "feather", "jsonl", "npy", "npz", "libsvm"]),
    help="Where the endings of the files do not tell.",
)
@click.option(
    "--missing-target",
    type=click.Choice(["refuse", "drop"]),
    default="refuse",
    show_default=True,
    help="What becomes of rows of a table without a target.",
)
@click.option("--sep", metavar="CHARACTER", help="Of CSV: what separates fields, by default a comma or tab.")
@click.option("--decimal", default=".", metavar="CHARACTER", help="Of CSV: the mark of decimals.")
@click.option("--thousands", metavar="CHARACTER", help="Of CSV: the mark of thousands, by default none.")
@click.option("--encoding", default="utf-8", show_default=True, help="Of CSV.")
@click.option(
    "--header/--no-header", default=True, show_default=True, help="Whether CSV begins with a line of names."
)
@click.option(
    "--names", metavar="A,B,...", help="Names of the columns of CSV, in place of those in the file."
)
@click.option(
    "--na-value", "na_values", multiple=True, metavar="TEXT", help="Of CSV: what else is missing; repeatable."
)
@click.option(
    "--keep-default-na/--no-default-na",
    default=True,
    help="Whether empty fields, NA and the like are missing.",
)
@click.option(
    "--quotechar", default='"', metavar="CHARACTER", help="Of CSV; empty where there are no quotes."
)
@click.option("--skip-rows", type=click.IntRange(0), default=0, metavar="N", help="Lines before the header.")
@click.option(
    "--column-type",
    "dtypes",
    multiple=True,
    metavar="COLUMN=TYPE",
    help="The type of a column of CSV, such as zip=string; repeatable.",
)
@click.option(
    "--date",
    "dates",
    multiple=True,
    metavar="COLUMN=FORMAT",
    help="How dates are written, such as day=%d.%m.%Y; repeatable. 2013-01-31 is found.",
)
@click.option(
    "--n-features", type=click.IntRange(1), metavar="N", help="Of libsvm files, by default as many as occur."
)
@click.option(
    "--zero-based/--one-based",
    default=None,
    help="Whether libsvm files count features from 0; by default from 1, unless there is a 0.",
)
@click.option("--chunk-bytes", default="8 MB", show_default=True, help="Decoded bytes of a chunk.")
@click.option(
    "--codec", type=click.Choice(["auto", "lz4", "zstd", "none"]), default="auto", show_default=True
)
@click.option("--shards", type=click.IntRange(1), metavar="N", help="Chunks per stored object.")
@click.option(
    "--overwrite", is_flag=True, help="Replace a dataset that is there, once the new one is complete."
)
@click.option("--dry-run", is_flag=True, help="Only say what the columns of tables are; write nothing.")
def ingest(
    paths: tuple[str, ...],
    out: str,
    target: str | None,
    weight: str | None,
    drop: tuple[str, ...],
    dtype: str | None,
    kind: str | None,
    missing_target: str,
    sep: str | None,
    decimal: str,
    thousands: str | None,
    encoding: str,
    header: bool,
    names: str | None,
    na_values: tuple[str, ...],
    keep_default_na: bool,
    quotechar: str,
    skip_rows: int,
    dtypes: tuple[str, ...],
    dates: tuple[str, ...],
    n_features: int | None,
    zero_based: bool | None,
    chunk_bytes: str,
    codec: str,
    shards: int | None,
    overwrite: bool,
    dry_run: bool,
) -> None:
    """Make a dataset of files: CSV, Parquet, Feather, JSON lines, npy, npz or libsvm, piece by piece.

    PATHS are files of one format, folders of them, patterns in quotes, or URLs. Labels may be text. Says
    what was stored. Exits with 2 for names and formats that are wrong, 65 for content that is.
    """
    import daskgd

    types = _pairs("--column-type", "COLUMN=TYPE", dtypes)
    formats = _pairs("--date", "COLUMN=FORMAT", dates)
    try:
        with bars(("counting rows", "MB"), ("ingesting", "rows")) as (counting, progress):
            daskgd.ingest(
                paths,
                out,
                target=target,
                weight=weight,
                drop=drop,
                dtype=dtype,
                format=kind,
                missing_target=missing_target,
                sep="\t" if sep == "\\t" else sep,
                decimal=decimal,
                thousands=thousands,
                encoding=encoding,
                header=header,
                names=None if names is None else names.split(","),
                na_values=na_values,
                keep_default_na=keep_default_na,
                quotechar=quotechar,
                skip_rows=skip_rows,
                dtypes=types or None,
                dates=formats or None,
                n_features=n_features,
                zero_based=zero_based,
                chunk_bytes=chunk_bytes,
                codec=codec,
                shards=shards,
                overwrite=overwrite,
                progress=progress,
                counting=counting,
                report=(lambda schema: click.echo(repr(schema))) if dry_run else None,
                dry_run=dry_run,
            )
    except (FileNotFoundError, FileExistsError, ImportError) as cause:
        raise Refusal(line(cause), USAGE) from None
    except ValueError as cause:
        asked = {"format", "dtype", "target", "weight", "drop", "paths"}
        asked |= {"chunk_bytes", "n_features", "zero_based", "sep", "decimal", "thousands", "encoding"}
        asked |= {"dates", "dry_run"}
        asked |= {"names", "quotechar", "dtypes", "na_values", "sep, decimal, thousands, quotechar"}
        wrong = line(cause).partition(":")[0] in asked or "or format= to say which" in line(cause)
        raise Refusal(line(cause), USAGE if wrong else DATAERR) from None
    except Exception as cause:  # whatever storage raises
        raise Refusal(about(out, cause), DATAERR) from None
    if dry_run:
        return
    with bad_data(out):
        _show(daskgd.open_dataset(out))


def _pairs(option: str, form: str, given: tuple[str, ...]) -> dict[str, str]:
    """Columns and what an option says of each."""
    found = dict(text.partition("=")[::2] for text in given)
    if "" in found or "" in found.values():
        raise Refusal(f"{option}: expected {form}, got {', '.join(given)}", USAGE)
    return found


def _show(dataset: Any) -> None:
    """A dataset in a line, and the types of its columns, if they are more than numbers."""
    click.echo(repr(dataset))
    if dataset.stored_schema is not None:
        click.echo(repr(dataset.schema))


@click.command(epilog="Example: daskgd verify clicks.zarr")
@click.argument("path", type=Location())
def verify(path: str) -> None:
    """Read every chunk of the dataset at PATH, a path or URL, and compare all checksums.

    Exits with 0 if all are those that were written, else with 65 and one line that names the array, the chunk
    and the rows.
    """
    from daskgd import open_dataset

    with bad_data(path):
        dataset = open_dataset(path)
        with bar("verifying", "chunks") as progress:
            dataset.verify(progress)
        facts = dataset.info()
    if dataset.fingerprint is None:
        said = "every chunk that is stored can be read, but there is no mark of daskgd's to compare it with"
    else:
        said = f"every chunk is as it was written, fingerprint {dataset.fingerprint}"
    click.echo(f"{facts['path']}: {facts['n_rows']:,} rows, {facts['nbytes']:,} bytes decoded: {said}")


@click.command(epilog="Example: daskgd survey clicks.zarr")
@click.argument("path", type=Location())
def survey(path: str) -> None:
    """Store a survey of the dataset at PATH, a path or URL, beside its rows: fits then read these once less.

    New datasets have one: this is for those that were written before, or whose survey is damaged.
    """
    from daskgd import open_dataset, survey_dataset

    with bad_data(path):
        with bar("surveying", "rows") as progress:
            survey_dataset(path, progress=progress)
        dataset = open_dataset(path)
        facts = dataset.info()
    rows = round(dataset.sample_rows)
    click.echo(f"{facts['path']}: {facts['n_rows']:,} rows surveyed, about {rows:,} of them in the sample")


@click.command(epilog="Example: daskgd info clicks.zarr --json")
@click.argument("path", type=Location())
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def info(path: str, as_json: bool) -> None:
    """Say what the dataset at PATH, a path or URL, holds; only metadata are read.

    Exits with 65 for data that is bad.
    """
    from daskgd import open_dataset

    with bad_data(path):
        dataset = open_dataset(path)
        facts: dict[str, Any] = dataset.info()
    if as_json:
        click.echo(json.dumps(facts))
        return
    schema = facts.pop("schema", None)
    width = max(map(len, facts))
    for name, value in facts.items():
        if value is not None:
            click.echo(f"{name:<{width}} {fact(value)}")
    if schema is not None:
        click.echo(f"\n{dataset.schema!r}")
