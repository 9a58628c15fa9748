"""Public names: one table, from which they load when first used; and old names of modules."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import daskgd


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_every_public_name_loads_from_its_module() -> None:
    for name in daskgd.__all__:
        value = getattr(daskgd, name)
        assert value.__name__ == name
    assert {"Ridge", "ClusterLost", "open_dataset", "together"} <= set(daskgd.__all__) <= set(dir(daskgd))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'daskgd' has no attribute 'Rigde'"):
        _ = daskgd.Rigde


def test_importing_the_package_loads_no_library() -> None:
    code = "import sys, daskgd; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    assert not {"numpy", "scipy", "sklearn", "dask", "distributed", "zarr"} & set(eval(run(code)))


@pytest.mark.slow  # by default, that both tables are the same
def test_type_checkers_see_every_public_name(tmp_path) -> None:
    api = pytest.importorskip("mypy.api")
    user = tmp_path / "user.py"
    user.write_text("import daskgd\n" + "".join(f"daskgd.{name}\n" for name in [*daskgd.__all__, "Rigde"]))
    said, _, _ = api.run([str(user), "--follow-imports=silent", "--cache-dir", str(tmp_path)])
    assert said.count("error:") == 1, said
    assert 'Module has no attribute "Rigde"' in said


def test_watch_is_the_old_name_of_events_and_history() -> None:
    import daskgd.watch
    from daskgd.watch import History, Iterated

    from daskgd.monitoring import events, history

    assert (Iterated, History) == (events.Iterated, history.History)
    assert sys.modules["daskgd.watch"] is daskgd.watch
    with pytest.raises(AttributeError, match=r"it is now daskgd\.monitoring\.events"):
        _ = daskgd.watch.Iterate
    assert run("import sys, daskgd.watch; print('daskgd.monitoring' in sys.modules)") == "False"


def test_both_tables_of_names_are_the_same() -> None:
    tree = ast.parse(Path(daskgd.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: line.module
        for line in block.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }
    assert seen == daskgd._MODULE_OF
