"""The README and the pages in docs/: what they show runs, what they link to and name exists."""

from __future__ import annotations

import ast
import doctest
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import sklearn
import yaml
from click.testing import CliRunner

import daskgd
from daskgd.cli import main
from tests.project.test_layers import ORDER

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
}
CALM = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
BLOCK = re.compile(
    r"(?P<before>[^\n]*)\n?^```(?P<kind>[\w{}-]*)(?P<needs>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    kind: str
    text: str
    line: int
    shown: bool  # it is not run: the line above it says why, or a library it needs is not there


def blocks(path: Path) -> Iterator[Block]:
    page = path.read_text()
    for found in BLOCK.finditer(page):
        shown = found["before"].startswith("<!-- not run: ")
        needs = found["needs"].strip() if found["kind"] == "python" else ""
        shown = shown or bool(needs and find_spec(needs) is None)
        line = page.count("\n", 0, found.start("text"))
        yield Block(found["kind"], found["text"], line, shown)


RUN = {"pycon", "python", "console"}
SHOWN = {"sh", "toml", "yaml", "text", "", "{toctree}", "{eval-rst}", "{literalinclude}"}
"""Kinds of blocks that are run, in the order of the page; and others, which are parsed where that can be."""


# -- what runs ----------------------------------------------------------------------------------


@pytest.mark.timeout(240)
@pytest.mark.parametrize("page", [name for name in PAGES if any(b.kind in RUN for b in blocks(PAGES[name]))])
def test_what_a_page_shows_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page, one after the other, in one folder that holds ``data/``."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    module = ModuleType("page")  # what is defined on a page pickles, as it does where a reader puts it
    monkeypatch.setitem(sys.modules, "page", module)
    names = vars(module)
    for block in blocks(PAGES[page]):
        if block.shown:
            continue
        where = f"{page}, line {block.line}"
        if block.kind == "pycon":
            told = interpreted(block.text, names, where)
        elif block.kind == "console":
            told = commanded(block.text)
        elif block.kind == "python":
            exec(compile(block.text, where, "exec", dont_inherit=True), names)
            continue
        else:
            continue
        assert not told, f"{where}:\n{told}"


def interpreted(text: str, names: dict[str, Any], where: str) -> str:
    """What a session says that differs from what is shown; names last from block to block."""
    test = doctest.DocTestParser().get_doctest(text, {}, where, where, 0)
    test.globs = names
    said: list[str] = []
    doctest.DocTestRunner(optionflags=CALM).run(test, out=said.append, clear_globs=False)
    return "".join(said)


def commanded(text: str) -> str:
    """What commands of daskgd say that differs from what is shown; ``$ echo $?`` is the last exit code."""
    code = 0
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, _, expected = part.replace("\\\n", "").partition("\n")
        if command == "echo $?":
            got = f"{code}\n"
        else:
            word, *arguments = shlex.split(command)
            assert word == "daskgd", f"expected a command of daskgd, got {command!r}"
            result = CliRunner().invoke(main, arguments)
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                raise result.exception
            code, got = result.exit_code, result.output
        if not doctest.OutputChecker().check_output(expected, got, CALM):
            return f"$ {command}\nexpected:\n{expected}got:\n{got}"
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_can_be_read(page: str) -> None:
    for block in blocks(PAGES[page]):
        where = f"{page}, line {block.line}"
        assert block.kind in RUN | SHOWN, f"{where}: {block.kind!r}"
        if block.kind == "python":
            ast.parse(block.text, where)
        elif block.kind == "toml":
            tomllib.loads(block.text)
        elif block.kind == "yaml":
            list(yaml.safe_load_all(block.text))
        elif block.kind == "sh":
            subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)


# -- what is named ------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """Of the headings of a page, as GitHub and MyST make them."""
    bare = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.M | re.S)
    heads = re.findall(r"^#+ (.*)$", bare, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", PAGES[page].read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = target.partition("#")
        path = (PAGES[page].parent / place).resolve() if place else PAGES[page]
        assert path.exists(), f"{page}: there is no {target}"
        if anchor:
            assert anchor in anchors(path), f"{page}: there is no {target}; there are {anchors(path)}"


@pytest.mark.parametrize("page", PAGES)
def test_names_exist(page: str) -> None:
    text = PAGES[page].read_text()
    for name in set(re.findall(r"daskgd\.([A-Za-z_]\w*)(?![\w-])", text)):
        if name in ("yaml", "zarr", "dgd"):
            continue
        known = hasattr(daskgd, name) or (ROOT / "daskgd" / name).is_dir()
        known = known or (ROOT / "daskgd" / f"{name}.py").exists() or name.replace("_", "-") in settings()
        assert known, f"{page}: there is no daskgd.{name}"
    for name in set(re.findall(r"daskgd\.([a-z]+(?:-[a-z]+)+)", text)):
        assert name in settings(), f"{page}: there is no setting daskgd.{name}"
    for file in set(re.findall(r"[\w/]*\btest_\w+\.py", text)):
        known = any((root / file).is_file() for root in (ROOT, Path(sklearn.__file__).parent))
        assert known, f"{page}: there is no {file}"
    for file, test in set(re.findall(r"([\w/]*\btest_\w+\.py)::(test_\w+)", text)):
        code = (ROOT / file).read_text()
        assert re.search(rf"\bdef {test}\(", code), f"{page}: there is no {test} in {file}"


def settings() -> set[str]:
    defaults: dict[str, Any] = yaml.safe_load((ROOT / "daskgd" / "config" / "daskgd.yaml").read_text())[
        "daskgd"
    ]
    return set(defaults)


def test_every_public_name_is_in_the_reference() -> None:
    reference = PAGES["docs/api.md"].read_text()
    listed = set(re.findall(r"^\.\. auto\w+:: daskgd\.(\w+)$", reference, flags=re.M)) - {"watch", "testing"}
    assert listed == set(daskgd.__all__), "docs/api.md and daskgd.__all__ differ"


def test_every_estimator_and_solver_has_its_row() -> None:
    from daskgd import estimators, solvers

    page = PAGES["docs/solvers.md"].read_text()
    rows = re.findall(r"^\| (.*?) \| ", PAGES["README.md"].read_text(), flags=re.M)
    for name in estimators.__all__:
        if name[0].isupper():
            assert any(f"`{name}`" in row for row in rows), f"README.md has no row for {name}"
    for name, kind in solvers.NAMES.items():
        assert f'`"{name}"`' in page, f"docs/solvers.md has no {name!r}"
        assert f"`{kind.__name__}" in page, f"docs/solvers.md has no {kind.__name__}"


def test_every_file_has_its_room() -> None:
    """The picture has all rooms in their order, and the tables have their files, or a folder of them."""
    page = PAGES["CONTRIBUTING.md"]
    text, picture = page.read_text(), next(block.text for block in blocks(page) if block.kind == "text")
    drawn = re.findall(r"^.{11}(\w+)", picture, flags=re.M)
    assert tuple(drawn) == ORDER, "CONTRIBUTING.md draws the rooms in another order"
    for path in sorted((ROOT / "daskgd").rglob("*.py")):
        name = path.relative_to(ROOT / "daskgd")
        if not name.name.startswith("__"):
            named = (f"`{name}`", f"`{name.name}`", f"`{name.parent}/`", f"`{name.parent.name}/{name.name}`")
            assert any(n in text for n in named), f"CONTRIBUTING.md has no {name}"


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/glossary.md"])
def test_files_of_the_package_exist(page: str) -> None:
    """Files that are named by their rooms, such as `engines/walk.py`."""
    for file in set(re.findall(r"`(\w+/[\w/]*\.py)`", PAGES[page].read_text())):
        places = (ROOT, ROOT / "daskgd", ROOT / "daskgd" / "estimators")
        assert any((place / file).is_file() for place in places), f"{page}: there is no {file}"


def test_every_page_is_in_the_table_of_contents() -> None:
    index = PAGES["docs/index.md"].read_text()
    listed = {
        line.strip()
        for block in blocks(PAGES["docs/index.md"])
        if block.kind == "{toctree}"
        for line in block.text.splitlines()
        if line.strip() and not line.startswith(":")
    }
    for path in (ROOT / "docs").glob("*.md"):
        if path.stem != "index":
            assert any(re.fullmatch(p.replace("*", ".*"), path.stem) for p in listed), path.stem
    assert "{toctree}" in index


# -- the command line ---------------------------------------------------------------------------


def test_every_command_and_option_is_on_its_page() -> None:
    """Each command has a section; its options are those that click knows, no more and no less."""
    page = PAGES["docs/cli.md"].read_text()
    sections = dict(re.findall(r"^## daskgd (\w+)\n(.*?)(?=^## |\Z)", page, flags=re.M | re.S))
    assert set(sections) == set(main.commands)
    (where,) = re.findall(r"^## Where a command runs\n(.*?)(?=^## )", page, flags=re.M | re.S)
    shared = set(re.findall(r"^\| `(--[\w-]+)", where, flags=re.M))
    for name, command in main.commands.items():
        known = {
            option
            for parameter in command.params
            if isinstance(parameter, click.Option)
            for option in parameter.opts
            if option.startswith("--") and option != "--help"
        }
        anywhere = "[where it runs](#where-a-command-runs)" in sections[name]
        assert anywhere == (shared <= known), f"{name}: say where it runs"
        listed = set(re.findall(r"^\| `(--[\w-]+)", sections[name], flags=re.M))
        listed |= shared if anywhere else set()
        assert listed == known, f"{name}: the page has {listed ^ known} otherwise"
        codes = set(re.findall(r"\b(2|3|65|69|75|130|143)\b", command.help or ""))
        for code in codes:
            assert re.search(rf"\b{code}\b", sections[name]), f"{name}: no exit code {code}"
