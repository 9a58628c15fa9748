"""What other libraries do not promise stays in one room and still works; what is imported is required."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import dask
import dask.array as da
import distributed
import numpy as np
import pytest
import zarr

import daskgd
from daskgd._compat import dask as compat_dask
from daskgd._compat import distributed as compat_distributed
from daskgd._compat import zarr as compat_zarr

ROOT = Path(daskgd.__file__).parent
PYPROJECT = ROOT.parent / "pyproject.toml"

PUBLIC = {
    "IPython.display",
    "bokeh.layouts",
    "bokeh.models",
    "bokeh.plotting",
    "click.core",  # documented: ParameterSource
    "dask.array",
    "dask.base",  # documented: tokenize
    "dask.dataframe",
    "dask.system",
    "dask.utils",  # documented: format_bytes, parse_bytes, parse_timedelta
    "distributed.comm",  # documented: get_address_host, CommClosedError
    "distributed.diagnostics.plugin",
    "fsspec.implementations.local",
    "jax.flatten_util",
    "jax.numpy",
    "matplotlib.pyplot",
    "numpy.typing",
    "prometheus_client.core",
    "pyarrow.csv",
    "pyarrow.parquet",
    "rich.console",
    "rich.progress",
    "rich.table",
    "scipy.linalg",
    "scipy.linalg.blas",
    "scipy.linalg.lapack",
    "scipy.optimize",
    "scipy.sparse",
    "scipy.special",
    "scipy.stats",
    "sklearn.base",
    "sklearn.calibration",
    "sklearn.callback",
    "sklearn.compose",
    "sklearn.datasets",
    "sklearn.exceptions",
    "sklearn.experimental",
    "sklearn.feature_extraction",
    "sklearn.impute",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.model_selection",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "sklearn.utils",
    "sklearn.utils.metaestimators",  # documented: available_if
    "sklearn.utils.multiclass",
    "sklearn.utils.validation",
    "tornado.ioloop",
    "tornado.web",
    "zarr.abc.buffer",
    "zarr.abc.store",
    "zarr.buffer",
    "zarr.codecs",
    "zarr.storage",
}
"""Modules of others, below their tops, that are documented for use from outside."""

PRIVATE_NAMES = {"dask.base": {"get_scheduler"}, "dask.core": {"flatten"}}
"""What is not, in modules some of which is."""

COMPAT = ("_compat", "monitoring/dashboard/_compat.py")

DISTRIBUTIONS = {"sklearn": "scikit-learn", "yaml": "pyyaml", "IPython": "ipykernel"}
"""Of modules whose name is another; IPython is imported where a kernel runs alone."""


def files(compat: bool) -> list[Path]:
    paths = sorted(ROOT.rglob("*.py"))
    return [p for p in paths if str(p.relative_to(ROOT)).startswith(COMPAT) == compat]


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """Modules of others that a file imports, and the names from them; "" where it is the module itself."""
    for node in ast.walk(ast.parse(path.read_text())):
        found: list[tuple[str, str]] = []
        if isinstance(node, ast.Import):
            found = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [(node.module or "", alias.name) for alias in node.names]
        for module, name in found:
            if module.split(".")[0] not in {"daskgd", "benchmarks", *sys.stdlib_module_names}:
                yield module, name


@pytest.mark.parametrize("path", files(compat=False), ids=lambda p: str(p.relative_to(ROOT)))
def test_only_compat_imports_what_is_not_public(path: Path) -> None:
    for module, name in imported(path):
        assert "." not in module or module in PUBLIC, f"{path}: {module} is not known to be public"
        assert not name.startswith("_") or name == "__version__", f"{path}: {module}.{name} is private"
        assert name not in PRIVATE_NAMES.get(module, ()), f"{path}: {module}.{name} is not documented"


def test_only_compat_uses_private_attributes_of_others() -> None:
    """An attribute with an underscore that no file of ours defines is of another library."""
    trees = {path: ast.parse(path.read_text()) for path in files(compat=False)}
    own = {"_asdict", "_fields", "_make", "_replace", "_exit"}  # of named tuples, and os._exit
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                own.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                own.add(node.id)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                own.add(node.value)  # set by its name, as fitted attributes are
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                own |= {node.attr} if isinstance(node.value, ast.Name) and node.value.id == "self" else set()
    strange = {
        f"{path.relative_to(ROOT)}:{node.lineno}: .{node.attr}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr) and node.attr not in own
    }
    assert not strange


def test_what_is_imported_is_required() -> None:
    """A library that another one happens to bring may be gone with its next version."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *(line for lines in extras.values() for line in lines)]
    required = {re.split(r"[\[<>=!;~ ]", line)[0].lower().replace("-", "_") for line in asked}
    modules = {module.split(".")[0] for path in sorted(ROOT.rglob("*.py")) for module, _ in imported(path)}
    assert {DISTRIBUTIONS.get(module, module).replace("-", "_") for module in modules} <= required


def test_pythons_are_told_alike() -> None:
    """The classifiers are the Pythons that are tested; the oldest is what is required."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    told = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert project["requires-python"] == f">={told[0]}"
    readme = (ROOT.parent / "README.md").read_text()
    assert f"Python {told[0]} to {told[-1]}" in readme


# -- zarr -----------------------------------------------------------------------------------------


def test_pipelines_of_zarr_are_told_apart() -> None:
    array = zarr.array(np.arange(6.0), chunks=(2,))
    assert compat_zarr.pipeline_name(array) == compat_zarr.default_pipeline_name()
    other = "zarr.core.codec_pipeline.FusedCodecPipeline"
    if not hasattr(sys.modules["zarr.core.codec_pipeline"], "FusedCodecPipeline"):
        pytest.skip("this zarr has one pipeline only")
    with zarr.config.set({"codec_pipeline.path": other}):
        again = compat_zarr.reopen(array)
        assert compat_zarr.default_pipeline_name() != other
    assert compat_zarr.pipeline_name(again) == other
    np.testing.assert_array_equal(again[:], array[:])


def test_keys_of_chunks() -> None:
    for zarr_format, key in [(3, "c/1/0"), (2, "1.0")]:
        array = zarr.create_array({}, shape=(4, 2), chunks=(2, 2), dtype="f4", zarr_format=zarr_format)
        assert compat_zarr.chunk_key(array, (1, 0)) == key


# -- dask -----------------------------------------------------------------------------------------


def test_the_configured_scheduler() -> None:
    assert compat_dask.configured_scheduler() is None
    with dask.config.set(scheduler="sync"):
        assert compat_dask.configured_scheduler() is dask.local.get_sync

    class Mine:
        def get(self, graph, keys, **settings):
            return dask.local.get_sync(graph, keys)

    with dask.config.set(scheduler=(mine := Mine()).get):  # a method, though not a client's
        assert compat_dask.configured_scheduler() == mine.get


def test_a_setting_that_a_closed_client_left_is_refused_in_words() -> None:
    with (
        dask.config.set(scheduler="dask.distributed"),
        pytest.raises(ValueError, match=r"no current client .* dask.config.set\(scheduler=None\)"),
    ):
        daskgd.Ridge().fit([[0.0], [1.0]], [0.0, 1.0])


def test_plain_reads_are_recognised() -> None:
    z = zarr.array(np.arange(12.0).reshape(6, 2), chunks=(2, 2))
    for x in (da.from_zarr(z), da.from_array(z), da.from_array(z, chunks=(4, 2))):
        reads = list(compat_dask.plain_reads(x) or ())
        assert len(reads) == x.npartitions
        assert all(held is z and part == place for held, part, place in reads)
    assert compat_dask.plain_reads(da.from_zarr(z) + 1) is None
    assert compat_dask.plain_reads(da.ones((4, 2), chunks=2)) is None


# -- distributed ----------------------------------------------------------------------------------


def test_questions_to_a_scheduler(client: distributed.Client) -> None:
    def answered(question):
        async def ask():
            return await question(client)

        return client.sync(ask)

    addresses = set(client.nthreads())
    assert answered(compat_distributed.worker_threads) == client.nthreads()
    assert set(answered(compat_distributed.worker_processing)) == addresses
    info = answered(compat_distributed.workers_info)["workers"]
    assert set(info) == addresses
    assert all(worker["last_seen"] > 0 and worker["memory_limit"] > 0 for worker in info.values())
    assert compat_distributed.scheduler_address(client) == client.scheduler_info()["address"]


def test_what_is_sent_can_be_measured() -> None:
    assert len(compat_distributed.wire_pickle(lambda: None)) > 0  # by value, as pickle itself cannot
    with pytest.raises(TypeError, match="pickle"):
        compat_distributed.wire_pickle(part for part in ())
