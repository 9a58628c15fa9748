"""What commands share: exit codes, refusals in one line, estimators by name, clusters, a bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from daskgd.cli.local import local_cluster
from daskgd.storage.paths import locate

UNCONVERGED, USAGE, DATAERR, UNAVAILABLE, TEMPFAIL = 3, 2, 65, 69, 75
"""Exit codes, those of sysexits.h from 64 on."""


class Refusal(click.ClickException):
    """One line on standard error, and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]


def line(cause: BaseException) -> str:
    """An exception in one line."""
    return " ".join(str(cause).split()) or type(cause).__name__


def about(path: str, cause: BaseException) -> str:
    """An error about the data at a path or URL in one line, without secrets, with the place named once."""
    from daskgd.storage.redaction import redacted

    path, said = redacted(path), redacted(line(cause))
    return said if path in said else f"{path}: {said}"


@contextmanager
def bad_data(path: str) -> Iterator[None]:
    """Turn whatever storage and workers raise in the block into a refusal that names the data."""
    try:
        yield
    except click.ClickException:
        raise
    except Exception as cause:
        raise Refusal(about(path, cause), DATAERR) from None


def say(text: str) -> None:
    """A line for people, on standard error: standard output is for results."""
    click.echo(text, err=True)


class Location(click.Path):
    """An argument that is a path, made absolute, or a URL, which stays as it is.

    Nothing is asked of what is there, unless `exists` is.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(readable=bool(settings.get("exists")), **settings)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(locate(value), param, ctx)
        except (TypeError, ValueError) as cause:
            self.fail(line(cause).removeprefix("path: "), param, ctx)


# -- names and values ---------------------------------------------------------------------------


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """Parse ``NAME=VALUE`` settings: values as in Python, else text."""
    import ast

    values: dict[str, Any] = {}
    for setting in settings:
        parameter, equals, text = setting.partition("=")
        if not equals or not parameter:
            raise Refusal(f"--set: expected NAME=VALUE, got {setting!r}", USAGE)
        try:
            values[parameter] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[parameter] = float(text) if text in ("inf", "-inf") else text
    return values


def estimator(name: str, values: Mapping[str, Any]) -> Any:
    """The estimator of that name, its parameters set and checked."""
    from daskgd import estimators

    known = [n for n in estimators.__all__ if n[0].isupper()]
    short = {n.lower().removesuffix("regression").removesuffix("regressor"): n for n in known}
    kind = ({n.lower(): n for n in known} | short).get(name.lower())
    if kind is None:
        raise Refusal(f"ESTIMATOR: expected one of {', '.join(known)}, got {name!r}", USAGE)
    model = getattr(estimators, kind)()
    for parameter in values:
        if parameter.partition("__")[0] not in model.get_params(deep=False):
            names = ", ".join(model.get_params(deep=False))
            raise Refusal(f"--set: {kind} has no parameter {parameter!r}; it has {names}", USAGE)
    try:
        model.set_params(**values)
        model._check_parameters()
    except (ValueError, TypeError) as cause:
        raise Refusal(f"--set: {line(cause)}", USAGE) from cause
    return model


# -- clusters -----------------------------------------------------------------------------------


def on_a_cluster(command: Any) -> Any:
    """Add the options of a command that runs on a cluster."""
    options = [
        click.option("--scheduler", metavar="ADDRESS", help="Run on the cluster with this scheduler."),
        click.option(
            "--scheduler-file",
            type=Location(path_type=Path),
            metavar="FILE",
            help="The same, from the file that a scheduler writes; it is waited for.",
        ),
        click.option("--local", is_flag=True, help="Run on worker processes on this machine."),
        click.option(
            "--workers", type=click.IntRange(1), help="How many, with --local; by default one a core."
        ),
        click.option("--memory-limit", metavar="BYTES", help='Of each of them, such as "2 GB".'),
        click.option(
            "--wait",
            type=click.FloatRange(0),
            default=60.0,
            show_default=True,
            metavar="SECONDS",
            help="For the scheduler, its file, and a first worker.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@contextmanager
def cluster(
    scheduler: str | None,
    scheduler_file: Path | None,
    local: bool,
    workers: int | None,
    memory_limit: str | None,
    wait: float,
) -> Iterator[str]:
    """Make a client of the requested cluster the current one in the block; yield the place in words.

    Without any of these, a scheduler that Dask's configuration names, else the threads of this process.
    """
    given = [name for name, v in [("--scheduler", scheduler), ("--scheduler-file", scheduler_file)] if v]
    given += ["--local"] if local else []
    if len(given) > 1:
        raise Refusal(f"{', '.join(given)}: expected one of them, got {len(given)}", USAGE)
    if not local and (workers is not None or memory_limit is not None):
        raise Refusal("--workers, --memory-limit: expected --local beside them, got none", USAGE)
    import dask

    address = scheduler or dask.config.get("scheduler-address", None)
    if not given and not address:
        yield f"{threads()} threads of this process"
        return
    with _client(address, scheduler_file, local, workers, memory_limit, wait) as client, client.as_current():
        found = client.scheduler_info(n_workers=-1)["workers"]
        yield f"{len(found)} workers of {'this machine' if local else client.scheduler.address}"


def threads() -> int:
    """The number of threads that compute where there is no cluster."""
    from daskgd.engines.cluster import n_threads

    return n_threads(None)


@contextmanager
def _client(
    address: str | None,
    file: Path | None,
    local: bool,
    workers: int | None,
    memory_limit: str | None,
    wait: float,
) -> Iterator[Any]:
    import distributed
    from dask.utils import parse_bytes

    if local:
        try:
            limit = "auto" if memory_limit is None else parse_bytes(memory_limit)
        except ValueError as cause:
            raise Refusal(f'--memory-limit: expected bytes such as "2 GB": {line(cause)}', USAGE) from None
        with (
            local_cluster(n_workers=workers or threads(), memory_limit=limit, dashboard_address=":0") as made,
            distributed.Client(made, set_as_default=False) as client,
        ):
            yield client
        return
    address = _address(file, wait) if file is not None else address
    from distributed.comm import get_address_host

    from daskgd.engines.cluster import demand

    try:
        get_address_host(str(address))  # a client that was never well-formed would complain again as it goes
    except (ValueError, KeyError, TypeError) as cause:
        text = f"expected an address such as tcp://host:8786, got {file or address}: {line(cause)}"
        raise Refusal(f"--scheduler: {text}", USAGE) from cause
    try:
        client = distributed.Client(address, set_as_default=False, timeout=max(wait, 0.1))
    except (OSError, TimeoutError) as cause:
        raise Refusal(f"no scheduler answers at {address}: {line(cause)}", UNAVAILABLE) from cause
    with client:
        try:
            with demand(client):
                client.wait_for_workers(1, timeout=max(wait, 0.1))
        except TimeoutError as cause:
            raise Refusal(
                f"the scheduler at {address} has no workers after {wait:g} s; start some with "
                f"dask worker {address}, or give those that are on their way longer, by --wait",
                UNAVAILABLE,
            ) from cause
        yield client


def _address(file: Path, wait: float) -> str:
    """Read the address in a scheduler's file, and wait for the file if it is not there yet."""
    import json
    import time

    until = time.monotonic() + wait
    while not file.is_file():
        if time.monotonic() >= until:
            raise Refusal(
                f"--scheduler-file: no scheduler has written {file} after {wait:g} s (--wait)", UNAVAILABLE
            )
        time.sleep(min(0.2, wait))
    try:
        return str(json.loads(file.read_text())["address"])
    except (ValueError, KeyError, TypeError, OSError) as cause:
        text = f"expected the file of a scheduler, got {file}: {line(cause)}"
        raise Refusal(f"--scheduler-file: {text}", USAGE) from cause


# -- telling ------------------------------------------------------------------------------------


Advance = Callable[[int, int], None] | None
"""Called with (done, total)."""


@contextmanager
def bar(what: str, unit: str) -> Iterator[Advance]:
    """A function to call with (done, total), drawn on standard error if that is a terminal."""
    with bars((what, unit)) as (advance,):
        yield advance


@contextmanager
def bars(*steps: tuple[str, str]) -> Iterator[list[Advance]]:
    """Functions as of :func:`bar`, one for each step, by what is done in it and the unit: "MB" are called
    with bytes. A bar appears once its function is called."""
    if not sys.stderr.isatty():
        yield [None for _ in steps]
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn

    class Speed(TextColumn):
        """Units per second."""

        def render(self, task: Task) -> Any:
            speed = task.finished_speed or task.speed
            self.text_format = "" if speed is None else f"{speed:,.0f} {task.fields['unit']}/s"
            return super().render(task)

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        Speed(""),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        tasks = [shown.add_task(what, total=None, visible=False, unit=unit) for what, unit in steps]

        def advance(i: int, done: int, total: int) -> None:
            size = 1_000_000 if steps[i][1] == "MB" else 1
            shown.update(tasks[i], completed=-(-done // size), total=-(-total // size), visible=True)

        yield [partial(advance, i) for i in range(len(steps))]


def fact(value: Any) -> str:
    """A fact about a dataset, for people."""
    if isinstance(value, dict):
        value = [f"{key}: {n:,}" for key, n in value.items()]
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
