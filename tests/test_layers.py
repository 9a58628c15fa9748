"""Imports point one way, and the rooms of the maths load neither dask nor zarr."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import daskgd

ROOT = Path(daskgd.__file__).parent

ORDER = """
_compat
losses penalties models sums buffers chunks draws patience records folders
problems integrity engines.clock
queries store
sampling engines.base sealing
solvers columns engines.serial writing
training
engines.shelves
datasets watch engines.tasks
engines.cluster
engines.placement engines.preflight intake
engines.residency
engines.graph
"""
"""The rooms below the top, lowest first: each imports only from lines above its own. ``_compat``,
``losses``, ``models``, ``queries`` and ``solvers`` stand for their folders, whose files may use each other.
Rooms that are not listed sit on top."""

FOLDERS = ("_compat", "losses", "models", "queries", "solvers")

LEVEL = {room: level for level, line in enumerate(ORDER.strip().splitlines()) for room in line.split()}
TOP = len(LEVEL)

MATHS = [
    "losses",
    "penalties",
    "models",
    "sums",
    "records",
    "problems",
    "queries",
    "sampling",
    "solvers",
    "training",
    "engines.base",
    "engines.serial",
    "testing",
]
FORBIDDEN = {"dask", "distributed", "zarr", "sklearn", "pandas", "xarray"}

OWNERS: dict[str, set[str]] = {
    "zarr": {"_compat.zarr", "integrity", "sealing", "store"},
    "distributed": {
        "_compat.dask",
        "_compat.distributed",
        "engines.cluster",
        "engines.graph",
        "engines.placement",
        "engines.preflight",
        "engines.residency",
        "engines.tasks",
    },
    "sklearn": {"_compat.sklearn"},
}
"""Who alone may import what; rooms on top may import what they like, but zarr."""


def modules() -> dict[str, Path]:
    """Room, dotted and without the package's name, to file. The package's own ``__init__`` is no room."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


def imports(path: Path) -> set[str]:
    """Every module that is imported anywhere in a file, in functions and for type checking too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(path: Path) -> set[str]:
    """The rooms of ours that a file imports."""
    known = modules()
    names = {name.removeprefix("daskgd.") for name in imports(path) if name.startswith("daskgd.")}
    return {name for name in names if name in known}


def level(room: str) -> int:
    if room in LEVEL:
        return LEVEL[room]
    folder = room.split(".")[0]
    return LEVEL[folder] if folder in FOLDERS else TOP


@pytest.mark.parametrize("room", modules())
def test_no_arrow_points_back(room: str) -> None:
    for other in ours(modules()[room]):
        folder = room.split(".")[0]
        if level(room) == TOP or (folder in FOLDERS and other.split(".")[0] == folder):
            continue  # on top, and files of one folder: see the next test
        assert level(other) < level(room), f"{room} imports {other}, which is not below it"


def test_there_are_no_circles() -> None:
    graph = {room: ours(path) for room, path in modules().items()}
    for room, others in graph.items():
        others -= {parent for parent in graph if room.startswith(parent + ".")}  # loaded by then
    assert list(TopologicalSorter(graph).static_order())


def test_the_order_names_rooms_that_exist() -> None:
    assert not {room for room in LEVEL if room not in modules()}
    assert (ROOT / "engines" / "__init__.py").read_text().strip() == ""


@pytest.mark.parametrize("library", OWNERS)
def test_each_library_has_its_room(library: str) -> None:
    users = {room for room, path in modules().items() if library in {i.split(".")[0] for i in imports(path)}}
    users = {room for room in users if level(room) < TOP or library == "zarr"}
    strangers = users - OWNERS[library]
    assert not strangers, f"{library} is imported by {strangers}"


def test_only_one_room_builds_graphs() -> None:
    users = {
        room
        for room, path in modules().items()
        if any(name in ("daskgd._compat.dask.Task", "dask.highlevelgraph") for name in imports(path))
    }
    assert users == {"engines.graph"}


@pytest.mark.parametrize("room", MATHS)
def test_the_maths_loads_no_dask(room: str) -> None:
    code = f"import sys, daskgd.{room}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent, check=True
    )
    loaded = set(done.stdout.split())
    assert {"numpy", "daskgd"} <= loaded
    assert not loaded & FORBIDDEN


def test_a_worker_loads_no_dask_array() -> None:
    """With what it brings along, pandas and more, that would double the memory of a bare worker."""
    code = "import sys, distributed, daskgd.engines.tasks, daskgd.storage.opening; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent, check=True
    )
    assert not set(done.stdout.split()) & {"dask.array", "pandas", "sklearn", "daskgd.estimators"}
