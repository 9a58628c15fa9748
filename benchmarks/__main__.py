"""``python -m benchmarks COMMAND``: see README.md beside this file."""

from __future__ import annotations

import importlib
import traceback
from pathlib import Path
from typing import Any

import click

COMMANDS = (
    "sweep",
    "peers",
    "sparse",
    "shapes",
    "sweeps",
    "penalties",
    "selection",
    "memory",
    "scaling",
    "workers",
    "chunks",
    "codecs",
    "objects",
    "ingest",
    "tables",
    "monitoring",
    "local",
    "neural",
)


class Commands(click.Group):
    """Imports a benchmark when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["all", *COMMANDS]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in COMMANDS:
            return importlib.import_module(f"benchmarks.{name}").main
        return super().get_command(ctx, name)


@click.group(cls=Commands)
def main() -> None:
    """Measure daskgd against floors and peers."""


@main.command(name="all")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for all results.")
@click.option("--scratch", type=click.Path(path_type=Path), help="Keep datasets in this folder.")
@click.option("--scale", default=1.0, show_default=True, help="Of the rows of every dataset.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--environments", type=click.Path(path_type=Path), help="Keep the peers' environments here.")
@click.option("--limit", type=int, help="Seconds for each program of `peers`.")
def everything(out: Path, environments: Path | None, limit: int | None, **shared: Any) -> None:
    """All of them, one after the other, and one page of all tables: DIR/results.md."""
    failed = []
    page = "# Results\n"
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        raced = {"environments": environments, "limit": limit}
        options = {"peers": raced, "sparse": raced, "selection": raced, "shapes": {"quick": True}}
        given = {k: v for k, v in {**shared, **options.get(name, {})}.items() if v is not None}
        try:
            with command.make_context(name, ["--out", str(out)]) as context:
                context.params.update(given)
                command.invoke(context)
            page += "\n" + (out / f"{name}.md").read_text()
        except Exception as error:
            traceback.print_exc()
            failed.append(name)
            page += f"\n## {name}\n\nFailed: {type(error).__name__}: {error}\n"
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.md").write_text(page)
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
