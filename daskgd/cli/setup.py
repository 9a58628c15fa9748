"""Commands about daskgd itself: demo, config."""

from __future__ import annotations

from pathlib import Path

import click

from daskgd.cli.common import Location


@click.command(epilog="Example: daskgd demo --rows 1000000")
@click.option(
    "--rows",
    type=click.IntRange(min=1000),
    default=8_000_000,
    show_default=True,
    help="Rows to make, 64 bytes each.",
)
@click.option(
    "--data",
    type=Location(path_type=Path),
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
    from daskgd.cli.demo_fit import Refused, run

    try:
        run(rows, data=data, keep=keep, seed=seed)
    except Refused as refusal:
        raise click.ClickException(str(refusal)) from None


@click.command(epilog="Example: daskgd config --write")
@click.option(
    "--write", is_flag=True, help="Write the defaults, commented out, where Dask looks for settings."
)
def config(write: bool) -> None:
    """Print the settings of daskgd as they are now: Dask's files, environment, and defaults."""
    import dask
    import yaml

    from daskgd.config import DEFAULTS, setting

    if write:
        source = Path(__file__).parents[1] / "config" / "daskgd.yaml"
        dask.config.ensure_file(source=str(source), comment=True)
        click.echo(f"{dask.config.PATH}/{source.name}")
        return
    names = DEFAULTS["daskgd"]
    now = {name: dask.config.get(f"daskgd.{name}", names[name]) for name in names}
    for name in names:
        setting(name)  # sizes that are none are refused here
    click.echo(yaml.safe_dump({"daskgd": now}, sort_keys=False).rstrip())
