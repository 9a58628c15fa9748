"""Commands that fit: plan, train, resume."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from daskgd.cli.common import (
    DATAERR,
    TEMPFAIL,
    UNCONVERGED,
    USAGE,
    Location,
    Refusal,
    about,
    bad_data,
    cluster,
    estimator,
    line,
    on_a_cluster,
    parse_settings,
    say,
)
from daskgd.cli.signals import Terminated, stoppable

JOB = "job.json"
"""In the folder of a checkpoint: what was asked, for `resume`."""

with_encoder = click.option(
    "--encoder",
    type=click.Choice(["auto", "none"]),
    default="auto",
    show_default=True,
    help="Encode a table with text, dates or gaps by daskgd.default_encoder, or none: categories as zeros "
    "and ones, gaps refused.",
)

with_settings = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the estimator; may be repeated. Values as in Python, else text.",
)


@click.command(
    epilog="Example: daskgd plan logistic clicks.zarr --set C=0.1 --set l1_ratio=1.0 --scheduler tcp://host:8786"
)
@click.argument("name", metavar="ESTIMATOR")
@click.argument("data", type=Location())
@with_settings
@with_encoder
@on_a_cluster
def plan(name: str, data: str, settings: tuple[str, ...], encoder: str, **where: Any) -> None:
    """Say what a fit of ESTIMATOR to the dataset DATA would do, and how long it would read.

    ESTIMATOR is the name of a class, in any case, such as LogisticRegression, logistic or ridge. DATA is the
    path or URL of a dataset. Reads some blocks for a fraction of a second, and trains nothing. Without a
    scheduler the plan is for the threads of this process.

    Exits with 2 for names and values that are wrong, 65 for data that is bad or cannot be planned, 69 for a
    cluster that does not answer.
    """
    model = estimator(name, parse_settings(settings))
    with cluster(**where), bad_data(data):
        dataset = open_with_target(data)
        model = with_default_encoder(model, dataset, encoder)
        text = str(model.plan(dataset))
    click.echo(text)


def with_default_encoder(model: Any, dataset: Any, encoder: str) -> Any:
    """The estimator, after the default encoder where a table needs one, which is said."""
    from daskgd import default_encoder, make_pipeline
    from daskgd.preprocessing.default import describe, needs_encoder

    if encoder == "none" or not needs_encoder(dataset):
        return model
    made = default_encoder(dataset)
    for text in describe(made, dataset):
        say(text)
    return make_pipeline(made, model)


def open_with_target(data: str) -> Any:
    """Open a dataset, and refuse one without a target."""
    from daskgd import open_dataset

    dataset = open_dataset(data)
    if dataset.info()["y"] is None:
        raise ValueError("expected a dataset with a target y, got one without; write it with y")
    return dataset


@click.command(
    epilog="Examples: daskgd train logistic clicks.zarr --set C=0.1 --checkpoint ck/ --out model.dgd; "
    "daskgd train --job job.toml --scheduler-file sched.json"
)
@click.argument("name", metavar="[ESTIMATOR]", required=False)
@click.argument("data", metavar="[DATA]", required=False, type=Location())
@click.option(
    "--job",
    type=Location(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="TOML with any of these: estimator, data, options by their names, a table `set`. What is given here "
    "wins.",
)
@with_settings
@with_encoder
@click.option("--out", type=Location(), metavar="FILE", help="Where to write the model: a path or URL.")
@click.option(
    "--checkpoint", type=Location(), metavar="FOLDER", help="Where to keep what was done: a path or URL."
)
@click.option("--every", default="1", show_default=True, help='Sweeps between checkpoints, or "30 s".')
@click.option(
    "--resume",
    "how",
    type=click.Choice(["auto", "never", "must"]),
    default="auto",
    show_default=True,
    help="Go on from the checkpoint: if there is one, not even then (it is refused), or only then.",
)
@click.option(
    "--test-size",
    type=click.FloatRange(0, 1, True, True),
    help="Share of the rows to set aside and score on.",
)
@click.option("--log", type=Location(), metavar="FILE", help="Events as lines of JSON, appended.")
@click.option(
    "--report", type=Location(), metavar="FILE", help="Dask's performance report, HTML; needs a cluster."
)
@click.option("--strict", is_flag=True, help="Exit with 3 if the fit did not converge.")
@click.option("--json", "as_json", is_flag=True, help="End with one line of JSON on standard output.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option(
    "--grace",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="For the sweep to end after SIGTERM or SIGUSR1, before it is abandoned.",
)
@on_a_cluster
@click.pass_context
def train(
    context: click.Context, /, name: str | None, data: str | None, job: Path | None, **options: Any
) -> None:
    """Fit ESTIMATOR to the dataset DATA, here or on a cluster, and write the model.

    With a checkpoint a job that was stopped, or whose cluster was lost, goes on where it was when it is run
    again: to the same bits, without repeating a sweep. SIGTERM and SIGUSR1 let the sweep end, and leave with
    143; a second one leaves at once.

    Exits with 0; 2 for wrong names and values; 3 with --strict; 65 for bad data; 69 where no cluster answers;
    75 where it was lost; 130 and 143 after signals.
    """
    given = {
        key: value
        for key, value in options.items()
        if context.get_parameter_source(key) is not ParameterSource.DEFAULT
    }
    asked = _job(job) if job is not None else {}
    named = {"estimator": name, "data": data}
    values = {**asked.pop("set", {}), **parse_settings(options.pop("settings"))}
    given.pop("settings", None)
    asked |= {key: value for key, value in named.items() if value is not None}
    for key in named:
        if key not in asked:
            raise Refusal(f"{key.upper()}: expected one, as an argument or in --job, got none", USAGE)
    _train({**options, **asked, **given, "set": values})


def _job(file: Path) -> dict[str, Any]:
    """What a TOML file asks for, by the names of arguments and options."""
    try:
        asked = tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
        raise Refusal(f"--job: {file}: expected TOML: {line(cause)}", USAGE) from None
    asked = {key.replace("-", "_"): value for key, value in asked.items()}
    renamed = {"resume": "how", "json": "as_json"}
    kinds = {param.name: param for param in train.params}
    for key in list(asked):
        known = renamed.get(key, key)
        if key == "estimator" or (key == "data" and not isinstance(asked[key], str)):
            ok = isinstance(asked[key], str)
        elif key == "set":
            ok = isinstance(asked[key], dict)
        elif known in kinds and known not in ("job", "name", "settings"):
            try:
                asked[known] = kinds[known].type_cast_value(click.Context(train), asked[key])
                ok = True
            except click.ClickException as cause:
                raise Refusal(f"--job: {file}: {key}: {cause.format_message()}", USAGE) from None
            if known != key:
                del asked[key]
        else:
            names = ["estimator", "data", "set", *(n for n in kinds if n not in ("job", "name", "settings"))]
            raise Refusal(
                f"--job: {file}: there is no {key!r}; there are {', '.join(map(str, names))}", USAGE
            )
        if not ok:
            raise Refusal(f"--job: {file}: expected {key} to be text or a table, got {asked[key]!r}", USAGE)
    return asked


@click.command("resume", epilog="Example: daskgd resume ck/ --scheduler-file sched.json")
@click.argument("folder", type=Location(), metavar="CHECKPOINT")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="End with one line of JSON on standard output.")
@on_a_cluster
def resume(folder: str, **options: Any) -> None:
    """Go on with the job whose checkpoint is in the folder CHECKPOINT, as `train` was asked to.

    Where it runs is asked anew. Exits as `train` does.
    """
    from daskgd.storage.atomic_files import AtomicFiles

    try:
        asked = json.loads(AtomicFiles(folder).read(JOB))
    except (OSError, ValueError) as cause:
        raise Refusal(
            f"CHECKPOINT: expected the folder of a job of train, with a {JOB}: {about(folder, cause)}", USAGE
        ) from None
    if "data" not in asked:
        raise Refusal(
            "CHECKPOINT: the URL of its data has secrets, which are not kept; run train again", USAGE
        )
    _train({**asked, **options, "checkpoint": folder, "how": "must"})


# -- the work -----------------------------------------------------------------------------------

WHERE = ("scheduler", "scheduler_file", "local", "workers", "memory_limit", "wait")


def _train(asked: dict[str, Any]) -> None:
    import daskgd
    from daskgd.storage.paths import shorten
    from daskgd.storage.redaction import redacted

    model = estimator(asked["estimator"], asked["set"])
    every = int(asked["every"]) if str(asked["every"]).isdigit() else asked["every"]
    data = str(asked["data"])
    checkpoint = None
    if asked["checkpoint"] is not None:
        try:
            checkpoint = daskgd.Checkpoint(asked["checkpoint"], every)
        except (TypeError, ValueError) as cause:
            raise Refusal(f"--{line(cause)}", USAGE) from None
    elif asked["how"] == "must" or str(asked["every"]) != "1":
        raise Refusal("--checkpoint: expected a folder beside --resume must or --every, got none", USAGE)
    watch: list[Any] = [] if asked["quiet"] else [daskgd.ProgressBar(sys.stderr)]
    if checkpoint is not None:
        _check_resume(checkpoint, asked["how"])
        watch.append(_keep_job(checkpoint, asked))
    if asked["log"] is not None:
        watch.append(daskgd.JSONLines(asked["log"]))
    with ExitStack() as stack:
        stack.enter_context(print_warnings())
        where = stack.enter_context(cluster(**{key: asked[key] for key in WHERE}))
        say(f"daskgd {daskgd.__version__} on {where}: {type(model).__name__} to {shorten(redacted(data))}")
        with bad_data(data):
            dataset = open_with_target(data)
            model = with_default_encoder(model, dataset, asked.get("encoder", "none"))
        last = model[-1] if hasattr(model, "steps") else model
        rows = test = dataset
        if asked["test_size"] is not None:
            rows, test = dataset.train_test_split(asked["test_size"])
        if asked["report"] is not None:
            stack.enter_context(_report(asked["report"]))
        stop = stack.enter_context(stoppable(asked["grace"]))
        _fit(model, rows, data, checkpoint, [*watch, stop])
        said: dict[str, Any] = {
            "estimator": type(last).__name__,
            "model": None if asked["out"] is None else shorten(redacted(str(asked["out"]))),
            "outcome": last.outcome_,
            "iterations": len(last.history_),
            "sweeps": last.n_sweeps_,
            "loss": last.history_[-1]["loss"] if len(last.history_) else None,
            "gap": last.gap_ if last.gap_ < float("inf") else None,
            "seconds": last.history_[-1]["seconds"] if len(last.history_) else None,
        }
        if asked["out"] is not None:
            try:
                model.save(asked["out"])
            except Exception as cause:  # whatever storage raises
                raise Refusal(f"--out: {about(str(asked['out']), cause)}", DATAERR) from None
        if asked["test_size"] is not None:
            with bad_data(data):
                said["score"] = model.score(test)
    if asked["as_json"]:
        click.echo(json.dumps(said))
    else:
        say(
            ", ".join(
                f"{key} {value:.6g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in said.items()
            )
        )
    if asked["strict"] and last.outcome_ != "converged":
        raise Refusal(f"--strict: the fit ended {last.outcome_}, not converged", UNCONVERGED)


def _check_resume(checkpoint: Any, how: str) -> None:
    """Refuse a checkpoint that is there and must not be, or must be and is not."""
    from daskgd.storage.atomic_files import AtomicFiles
    from daskgd.storage.redaction import redacted
    from daskgd.training.checkpoint import PREFIX

    shown = redacted(checkpoint.path)
    there = any(name.startswith(PREFIX) for name in AtomicFiles(checkpoint.path).names())
    if how == "must" and not there:
        raise Refusal(f"--resume must: expected a checkpoint in {shown}, found none", USAGE)
    if how == "never" and there:
        raise Refusal(f"--resume never: {shown} holds a checkpoint; remove it, or take --resume auto", USAGE)


def _keep_job(checkpoint: Any, asked: dict[str, Any]) -> Any:
    """Make a watcher that writes the job beside the checkpoint, once that is known to be of this fit."""
    from daskgd.monitoring.events import Began
    from daskgd.storage.atomic_files import AtomicFiles
    from daskgd.storage.redaction import redacted

    plain = {key: value for key, value in asked.items() if key not in ("how", "job", *WHERE)}
    kept = {key: value for key, value in plain.items() if redacted(str(value)) == str(value)}

    def note(event: Any) -> None:
        if isinstance(event, Began):
            try:
                AtomicFiles(checkpoint.path).write(JOB, json.dumps(kept).encode())
            except Exception as cause:  # a full disk, say: the fit goes on, and warns of its own files
                say(f"warning: {JOB} was not written: {line(cause)}")

    return note


def _fit(model: Any, rows: Any, data: str, checkpoint: Any, watch: list[Any]) -> None:
    import asyncio

    import daskgd
    from daskgd.storage.redaction import redacted

    kept = "" if checkpoint is None else f"; run again with --checkpoint {redacted(checkpoint.path)}"
    try:
        model.fit(rows, checkpoint=checkpoint, watch=watch)
    except Terminated:
        say(f"stopped by a signal{kept or '; without --checkpoint nothing was kept'}")
        raise SystemExit(143) from None
    except KeyboardInterrupt:
        say(f"stopped{kept or '; without --checkpoint nothing was kept'}")
        raise SystemExit(130) from None
    except daskgd.CheckpointError as cause:
        raise Refusal(line(cause), USAGE) from None
    except (daskgd.ClusterLost, asyncio.CancelledError) as cause:
        raise Refusal(f"{line(cause)}{kept}", TEMPFAIL) from None
    except Exception as cause:  # bad rows, lost chunks, whatever workers raise
        raise Refusal(about(data, cause), DATAERR) from None


@contextmanager
def print_warnings() -> Iterator[None]:
    """Print warnings and log records of daskgd as lines on standard error in the block."""
    import logging
    import warnings

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger = logging.getLogger("daskgd")
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("default")
            warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
            yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def _report(file: str) -> Iterator[None]:
    import distributed

    try:
        client = distributed.default_client()
    except ValueError:
        raise Refusal("--report: expected a cluster (--scheduler, --local), got threads", USAGE) from None
    with client.as_current(), distributed.performance_report(filename=file):
        yield
