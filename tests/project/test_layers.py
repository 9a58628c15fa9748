"""Imports point one way: every room of daskgd has its place in one order; the maths loads no dask."""

from __future__ import annotations

import ast
import functools
import itertools
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import daskgd
from daskgd.engines.preflight import TASK_MODULES

ROOT = Path(daskgd.__file__).parent

ORDER = (
    "_compat",
    "config",
    "losses",
    "penalties",
    "rows",
    "models",
    "problems",
    "queries",
    "solvers",
    "storage",
    "data",
    "engines",
    "training",
    "monitoring",
    "preprocessing",
    "metrics",
    "estimators",
    "model_selection",
    "testing",
    "cli",
    "preload",
)
"""All rooms, lowest first: each imports only from those before its own. ``preload`` and the package's own
``__init__`` stand on top."""

MATHS = ("losses", "penalties", "rows", "models", "problems", "queries", "solvers", "testing")
MATHS_FILES = (
    "engines.base",
    "rows.merge_tree",
    "engines.walk",
    "engines.serial",
    "storage.records",
    "storage.atomic_files",
    "training.loop",
    "training.journal",
    "training.together",
)
FORBIDDEN = {"dask", "distributed", "zarr", "sklearn", "pandas", "xarray"}

OF_WORKERS = ("metrics.queries", "models.responses", "preprocessing.encoded", "storage.sparse_reading")
"""Files from which tasks are sent to workers, beside those that all of these import."""

SLOW_TO_IMPORT = {"sklearn", "pandas", "dask.array", "dask.dataframe", "scipy.stats", "daskgd.estimators"}
"""What tasks of fits and evaluations do without; also asked of a worker that has run some, in
`tests/engines/test_cluster.py`."""

OWNERS: dict[str, set[str]] = {
    "zarr": {"_compat", "storage"},
    "distributed": {"_compat", "engines", "monitoring", "cli", "estimators"},
    "dask": {
        "_compat",
        "config",
        "storage",
        "data",
        "engines",
        "training",
        "monitoring",
        "preprocessing",
        "metrics",
        "estimators",
        "model_selection",
        "cli",
    },
    "sklearn": {"_compat", "data", "preprocessing", "metrics", "estimators", "model_selection", "cli"},
}
"""Rooms that may import a library at all."""


@functools.cache
def modules() -> dict[str, Path]:
    """File by module, dotted and without the package's name; the package's own ``__init__`` is left out."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """Every module that is imported anywhere in a file, in functions and for type checking too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def ours(path: Path) -> set[str]:
    """The modules of ours that a file imports."""
    known = modules()
    names = {name.removeprefix("daskgd.") for name in imports(path) if name.startswith("daskgd.")}
    return {name for name in names if name in known}


def room(module: str) -> str:
    return module.split(".")[0]


def back_arrows(arrows: Mapping[str, set[str]]) -> Iterator[str]:
    """What imports of modules point back, or out of the order, in words."""
    for module, others in arrows.items():
        for other in others:
            a, b = room(module), room(other)
            if a != b and not (a in ORDER and b in ORDER and ORDER.index(b) < ORDER.index(a)):
                yield f"{module} imports {other}, which is not below it"


def test_every_room_is_in_the_order() -> None:
    assert {room(module) for module in modules()} == set(ORDER)


def test_no_arrow_points_back() -> None:
    assert not list(back_arrows({module: ours(path) for module, path in modules().items()}))


@pytest.mark.parametrize(("low", "high"), list(itertools.combinations(ORDER, 2)))
def test_an_arrow_that_is_planted_is_found(low: str, high: str) -> None:
    assert list(back_arrows({f"{low}.planted": {f"{high}.planted"}}))
    assert not list(back_arrows({f"{high}.planted": {f"{low}.planted"}}))


def test_there_are_no_circles() -> None:
    graph = {module: ours(path) for module, path in modules().items()}
    for module, others in graph.items():
        others -= {parent for parent in graph if module.startswith(parent + ".")}  # loaded by then
    assert list(TopologicalSorter(graph).static_order())


def test_the_package_is_a_table_of_contents() -> None:
    entries = {path.name for path in ROOT.iterdir() if path.name != "__pycache__"}
    assert len(entries) <= 24, sorted(entries)


@pytest.mark.parametrize("library", OWNERS)
def test_each_library_has_its_rooms(library: str) -> None:
    users = {
        module for module, path in modules().items() if library in {i.split(".")[0] for i in imports(path)}
    }
    strangers = {module for module in users if room(module) not in OWNERS[library]}
    assert not strangers, f"{library} is imported by {strangers}"


def test_only_the_graph_engine_builds_graphs() -> None:
    users = {
        module
        for module, path in modules().items()
        if any(name in ("daskgd._compat.dask.Task", "dask.highlevelgraph") for name in imports(path))
    }
    assert users == {"engines.graph", "engines.speculation"}


def test_sums_by_group_have_one_place() -> None:
    """``np.bincount`` of no values gives integers, weights or not: ``rows.group_sums`` floats."""
    users = set()
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.bincount":
                weighted = len(node.args) > 1 or any(k.arg == "weights" for k in node.keywords)
                users |= {module} if weighted else set()
    assert users == {"rows.group_sums", "rows.sketches", "model_selection.logistic_cv", "testing.pointwise"}


def test_the_maths_loads_no_dask() -> None:
    """One process for all: what one of them loads stays loaded."""
    names = [*MATHS, *MATHS_FILES]
    code = (
        "import sys\nfrom importlib import import_module\n"
        f"for name in {names}:\n"
        "    import_module(f'daskgd.{name}')\n"
        f"    found = {{m.split('.')[0] for m in sys.modules}} & {FORBIDDEN}\n"
        "    assert not found, f'daskgd.{name} loads {found}'\n"
        "assert 'numpy' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, check=True)


def test_what_workers_import_loads_nothing_that_is_slow() -> None:
    """That would take a bare worker seconds, and double its memory. One process for all."""
    names = (*TASK_MODULES, *(f"daskgd.{name}" for name in OF_WORKERS))
    code = (
        "import sys, distributed\nfrom importlib import import_module\n"
        f"for name in {names}:\n"
        "    import_module(name)\n"
        f"    found = set(sys.modules) & {SLOW_TO_IMPORT}\n"
        "    assert not found, f'{name} loads {found}'\n"
        "assert 'zarr' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, check=True)
