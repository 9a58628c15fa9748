"""Commands about datasets: ingest, info, verify."""

from __future__ import annotations

import json
from typing import Any

import click

from daskgd.cli.common import DATAERR, USAGE, Refusal, about, bad_data, bar, fact, line


@click.command(
    epilog="Example: daskgd ingest january.csv february.csv --out rides.zarr --target fare --drop driver"
)
@click.argument("paths", nargs=-1, required=True)
@click.option("--out", required=True, metavar="PATH", help="Where to write the dataset: a path or URL.")
@click.option("--target", help="The column of the target: its name; of npy files its number, or an npy file.")
@click.option("--weight", help="The column of the sample weights, likewise.")
@click.option("--drop", multiple=True, metavar="COLUMN", help="Leave a column out; may be repeated.")
@click.option("--dtype", help="Of the features, such as float32.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["npy", "npz", "csv", "parquet", "libsvm"]),
    help="Where the endings of the files do not tell.",
)
@click.option("--chunk-bytes", default="8 MB", show_default=True, help="Decoded bytes of a chunk.")
@click.option("--codec", type=click.Choice(["lz4", "zstd", "none"]), default="lz4", show_default=True)
@click.option("--shards", type=click.IntRange(1), metavar="N", help="Chunks per stored object.")
@click.option(
    "--overwrite", is_flag=True, help="Replace a dataset that is there, once the new one is complete."
)
def ingest(
    paths: tuple[str, ...],
    out: str,
    target: str | None,
    weight: str | None,
    drop: tuple[str, ...],
    dtype: str | None,
    kind: str | None,
    chunk_bytes: str,
    codec: str,
    shards: int | None,
    overwrite: bool,
) -> None:
    """Make a dataset of files: npy, npz, CSV, Parquet or libsvm, block by block.

    PATHS are one or more files of one format, for Parquet also folders. Labels may be text. Exits with 2 for
    names and formats that are wrong, 65 for content that is.
    """
    import daskgd

    try:
        with bar("reading", "of it") as progress:
            daskgd.ingest(
                paths,
                out,
                target=target,
                weight=weight,
                drop=drop,
                dtype=dtype,
                format=kind,
                chunk_bytes=chunk_bytes,
                codec=codec,
                shards=shards,
                overwrite=overwrite,
                progress=progress,
            )
    except (FileNotFoundError, FileExistsError, ImportError) as cause:
        raise Refusal(line(cause), USAGE) from None
    except ValueError as cause:
        asked = ("format:", "dtype:", "target:", "weight:", "drop:", "paths:", "chunk_bytes:")
        wrong = line(cause).startswith(asked) or "or format= to say which" in line(cause)
        raise Refusal(line(cause), USAGE if wrong else DATAERR) from None
    except Exception as cause:  # whatever storage raises
        raise Refusal(about(out, cause), DATAERR) from None
    with bad_data(out):
        click.echo(repr(daskgd.open_dataset(out)))


@click.command(epilog="Example: daskgd verify clicks.zarr")
@click.argument("path")
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


@click.command(epilog="Example: daskgd info clicks.zarr --json")
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def info(path: str, as_json: bool) -> None:
    """Say what the dataset at PATH, a path or URL, holds; only metadata are read.

    Exits with 65 for data that is bad.
    """
    from daskgd import open_dataset

    with bad_data(path):
        facts: dict[str, Any] = open_dataset(path).info()
    if as_json:
        click.echo(json.dumps(facts))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        if value is not None:
            click.echo(f"{name:<{width}} {fact(value)}")
