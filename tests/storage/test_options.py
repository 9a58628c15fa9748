"""Options of file systems: whatever takes a path takes them, and hands them on."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem

import daskgd

PLACES = ("daskgd", "daskgd.metrics", "daskgd.model_selection")

NAMES = {"path", "paths", "out", "directory", "folder", "file", "url"}
"""Parameters that are paths or URLs. Others take what has options: a Dataset, a Checkpoint."""

WITHOUT = {
    "CSVLog": "grows line by line: refuses URLs",
    "JSONLines": "grows line by line: refuses URLs",
    "ChunkError": "says a path",
    "ClusterLost.with_checkpoint": "says a path",
}


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """All that may be called with a public name, by that name."""
    for place in PLACES:
        module = importlib.import_module(place)
        for name in module.__all__:
            one = getattr(module, name)
            if not callable(one):
                continue
            yield name, one
            if inspect.isclass(one):
                for method in dir(one):
                    if not method.startswith("_") and callable(getattr(one, method, None)):
                        yield f"{name}.{method}", getattr(one, method)


def parameters(one: Callable[..., Any]) -> set[str]:
    try:
        return set(inspect.signature(one).parameters)
    except (TypeError, ValueError):  # of classes written in C
        return set()


def test_whatever_takes_a_path_takes_options() -> None:
    found = {name: parameters(one) for name, one in public()}
    takes = {name for name, names in found.items() if names & NAMES}
    assert {"open_dataset", "write_dataset", "ingest", "load_model", "Ridge.save", "Checkpoint"} <= takes
    assert {name for name in takes if "storage_options" not in found[name]} == set(WITHOUT)


class Locked(LocalFileSystem):
    """Files on disk that are shown to who has the key."""

    protocol = "locked"

    def __init__(self, key: str, **options: Any) -> None:
        super().__init__(auto_mkdir=True, **options)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(str(path).removeprefix("locked://"))

    def unstrip_protocol(self, name: str) -> str:
        return f"locked://{name}"


OPTIONS = {"key": "k"}


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """The URL of a folder with a file, a dataset and a model."""
    fsspec.register_implementation("locked", Locked, clobber=True)
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n3,5\n")
    daskgd.write_dataset(tmp_path / "rows.zarr", np.eye(9), np.arange(9.0))
    daskgd.Ridge().fit(tmp_path / "rows.zarr").save(tmp_path / "model.dgd")
    return f"locked://{tmp_path.as_posix()}"


def fit(url: str, **options: Any) -> Any:
    checkpoint = daskgd.Checkpoint(f"{url}/run", every=1, **options)
    return daskgd.Ridge(solver="lbfgs").fit(np.eye(9), np.arange(9.0), checkpoint=checkpoint)


CALLS: dict[str, Callable[..., Any]] = {
    "write_dataset": lambda url, **options: daskgd.write_dataset(f"{url}/new.zarr", np.eye(3), **options),
    "open_dataset": lambda url, **options: daskgd.open_dataset(f"{url}/rows.zarr", **options),
    "ingest": lambda url, **options: daskgd.ingest(f"{url}/rows.csv", f"{url}/in.zarr", **options),
    "load_model": lambda url, **options: daskgd.load_model(f"{url}/model.dgd", **options),
    "save": lambda url, **options: daskgd.Ridge().fit(np.eye(3), [1, 2, 3]).save(f"{url}/new.dgd", **options),
    "Checkpoint": fit,
}


@pytest.mark.parametrize("name", CALLS)
def test_options_reach_the_files(folder: str, name: str) -> None:
    with pytest.raises((TypeError, OSError, daskgd.StoreError), match="key"):
        CALLS[name](folder)
    CALLS[name](folder, storage_options=OPTIONS)


def test_an_open_dataset_keeps_its_options(folder: str) -> None:
    """Whatever is asked of it later: each of these opens files, or gives the dataset to what does."""
    dataset = daskgd.open_dataset(f"{folder}/rows.zarr", storage_options=OPTIONS)
    dataset.verify()
    dataset.check_unchanged()
    train, test = dataset.train_test_split(0.3)
    model = daskgd.Ridge().fit(train)
    assert np.isfinite(model.score(test))
    assert len(model.predict(dataset).compute()) == 9
    assert daskgd.together([daskgd.Ridge()], dataset)[0].coef_.shape == (9,)
    daskgd.write_dataset(f"{folder}/part.zarr", train, storage_options=OPTIONS)


def test_options_from_the_environment_of_fsspec(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command line has, which takes no options: FSSPEC_LOCKED_KEY, or a file of fsspec's."""
    monkeypatch.setitem(fsspec.config.conf, "locked", OPTIONS)
    for call in CALLS.values():
        call(folder)


@pytest.mark.parametrize("log", [daskgd.CSVLog, daskgd.JSONLines])
def test_logs_that_grow_are_on_disk(log: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"^path: expected a path on disk, as lines are added .*, got a URL"):
        log("s3://bucket/fit.csv")
