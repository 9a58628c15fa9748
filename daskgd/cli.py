"""The command line: a thin skin of click over functions that do the work, imported when they are called.

Worker processes that dask spawns import the main module again, so that nothing heavy may be imported here.
"""

from __future__ import annotations

from pathlib import Path

import click

from daskgd import __version__


@click.group()
@click.version_option(__version__, prog_name="daskgd")
def main() -> None:
    """Train on data that does not fit: out-of-core gradient descent on Dask."""


@main.command()
@click.option(
    "--rows",
    type=click.IntRange(min=1000),
    default=8_000_000,
    show_default=True,
    help="Rows to make, 64 bytes each.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Where to write the dataset, or an earlier one to use again. Default: a scratch folder.",
)
@click.option(
    "--keep", is_flag=True, help="Keep the dataset that was written; else it is removed at the end."
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**64 - 1),
    default=0,
    show_default=True,
    help="Of the rows that are made.",
)
def demo(rows: int, data: Path | None, keep: bool, seed: int) -> None:
    """Make millions of digits on disk and train on them in workers with little memory."""
    from daskgd.demo import Refused, run

    try:
        run(rows, data=data, keep=keep, seed=seed)
    except Refused as refusal:
        raise click.ClickException(str(refusal)) from None


if __name__ == "__main__":
    main()
