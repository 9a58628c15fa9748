"""The command line: a thin skin of click over functions that do the work, imported when they are called.

Worker processes that dask spawns import the main module again, so that nothing heavy may be imported here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


@main.command(
    epilog="Example: daskgd plan logistic clicks.zarr --set C=0.1 --set l1_ratio=1.0 --scheduler tcp://host:8786"
)
@click.argument("estimator")
@click.argument("data")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the estimator; may be repeated. Values as in Python, else text.",
)
@click.option("--scheduler", metavar="ADDRESS", help="Plan for the cluster with this scheduler.")
@click.option(
    "--scheduler-file", type=click.Path(path_type=Path), metavar="FILE", help="The same, from its file."
)
def plan(
    estimator: str, data: str, settings: tuple[str, ...], scheduler: str | None, scheduler_file: Path | None
) -> None:
    """Say what a fit of ESTIMATOR to the dataset DATA would do, and how long it would read.

    ESTIMATOR is the name of a class, in any case, such as LogisticRegression, logistic or ridge. DATA is the
    path or URL of a dataset. Reads some blocks for a fraction of a second, and trains nothing. Without a
    scheduler the plan is for the threads of this process.

    Exits with 2 for names and values that are wrong, 65 for data that is bad or cannot be planned, 69 for a
    cluster that does not answer.
    """
    if scheduler is not None and scheduler_file is not None:
        raise Refusal("--scheduler, --scheduler-file: expected one of them, got both", USAGE)
    model = _estimator(estimator, settings)
    try:
        with _cluster(scheduler, scheduler_file):
            text = _planned(model, data)
    except click.ClickException:
        raise
    except Exception as cause:  # whatever storage and workers raise
        raise Refusal(_about(data, cause), DATAERR) from None
    click.echo(text)


@main.command(epilog="Example: daskgd verify clicks.zarr")
@click.argument("path")
def verify(path: str) -> None:
    """Read every chunk of the dataset at PATH, a path or URL, and compare all checksums.

    Exits with 0 if all are those that were written, else with 65 and one line that names the array, the chunk
    and the rows.
    """
    from daskgd import open_dataset

    try:
        dataset = open_dataset(path)
        with _bar("verifying") as progress:
            dataset.verify(progress)
        facts = dataset.info()
    except Exception as cause:  # whatever storage raises
        raise Refusal(_about(path, cause), DATAERR) from None
    if dataset.fingerprint is None:
        said = "every chunk that is stored can be read, but there is no mark of daskgd's to compare it with"
    else:
        said = f"every chunk is as it was written, fingerprint {dataset.fingerprint}"
    click.echo(f"{facts['path']}: {facts['n_rows']:,} rows, {facts['nbytes']:,} bytes decoded: {said}")


@main.command(epilog="Example: daskgd info clicks.zarr --json")
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def info(path: str, as_json: bool) -> None:
    """Say what the dataset at PATH, a path or URL, holds; only metadata are read.

    Exits with 65 for data that is bad.
    """
    from daskgd import open_dataset

    try:
        facts = open_dataset(path).info()
    except Exception as cause:  # whatever storage raises
        raise Refusal(_about(path, cause), DATAERR) from None
    if as_json:
        import json

        click.echo(json.dumps(facts))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        if value is not None:
            click.echo(f"{name:<{width}} {_fact(value)}")


# -- names, values, clusters --------------------------------------------------------------------

USAGE, DATAERR, UNAVAILABLE = 2, 65, 69
"""Exit codes, those of sysexits.h from 64 on."""


class Refusal(click.ClickException):
    """One line on standard error, and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]


def _line(cause: BaseException) -> str:
    """An exception in one line."""
    return " ".join(str(cause).split()) or type(cause).__name__


def _about(path: str, cause: BaseException) -> str:
    """What is wrong with the data at a path or URL, in one line, without secrets; the place is named once."""
    from daskgd.store import redacted

    path, line = redacted(path), redacted(_line(cause))
    return line if path in line else f"{path}: {line}"


def _fact(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A function to call with (done, total), drawn on standard error if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("chunks"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _estimator(name: str, settings: tuple[str, ...]) -> Any:
    """The estimator of that name, its parameters set and checked."""
    import ast

    from daskgd import estimators

    known = [n for n in estimators.__all__ if n[0].isupper()]
    short = {n.lower().removesuffix("regression").removesuffix("regressor"): n for n in known}
    kind = ({n.lower(): n for n in known} | short).get(name.lower())
    if kind is None:
        raise Refusal(f"ESTIMATOR: expected one of {', '.join(known)}, got {name!r}", USAGE)
    model, values = getattr(estimators, kind)(), {}
    for setting in settings:
        parameter, equals, text = setting.partition("=")
        if not equals or not parameter:
            raise Refusal(f"--set: expected NAME=VALUE, got {setting!r}", USAGE)
        try:
            values[parameter] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[parameter] = text
    for parameter in values:
        if parameter.partition("__")[0] not in model.get_params(deep=False):
            names = ", ".join(model.get_params(deep=False))
            raise Refusal(f"--set: {kind} has no parameter {parameter!r}; it has {names}", USAGE)
    try:
        model.set_params(**values)
        model._check_parameters()
    except (ValueError, TypeError) as cause:
        raise Refusal(f"--set: {_line(cause)}", USAGE) from cause
    return model


@contextmanager
def _cluster(address: str | None, file: Path | None) -> Iterator[None]:
    """Within it, a client of the cluster that was asked for is the current one; nothing if none was."""
    if address is None and file is None:
        yield
        return
    if file is not None and not file.is_file():
        raise Refusal(f"--scheduler-file: expected the file of a scheduler, found none at {file}", USAGE)
    import json

    import distributed
    from distributed.comm import get_address_host

    try:
        if file is not None:
            address = str(json.loads(file.read_text())["address"])
        get_address_host(str(address))  # a client that was never well-formed would complain again as it goes
    except (ValueError, KeyError, TypeError, OSError) as cause:
        text = f"expected an address such as tcp://host:8786, got {file or address}: {_line(cause)}"
        raise Refusal(f"--scheduler: {text}", USAGE) from cause
    try:
        client = distributed.Client(address, set_as_default=False)
    except (OSError, TimeoutError) as cause:
        raise Refusal(f"no scheduler answers at {address}: {_line(cause)}", UNAVAILABLE) from cause
    with client, client.as_current():
        yield


def _planned(model: Any, data: str) -> str:
    from daskgd import open_dataset

    dataset = open_dataset(data)
    if dataset.info()["y"] is None:
        raise ValueError("expected a dataset with a target y, got one without; write it with y")
    return str(model.plan(dataset))


if __name__ == "__main__":
    main()
