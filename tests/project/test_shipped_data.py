"""The committed datasets are what data/make.py makes of scikit-learn's copies now."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import daskgd

FOLDER = Path(__file__).parents[2] / "data"


def load_make():
    spec = importlib.util.spec_from_file_location("daskgd_data_make", FOLDER / "make.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # NamedTuple looks its annotations up there
    spec.loader.exec_module(module)
    return module


make = load_make()

SHAPES = {
    "digits": ((1797, 64), "uint8", "uint8", None),
    "breast_cancer": ((569, 30), "float64", "int32", ["benign", "malignant"]),
    "diabetes": ((442, 10), "float64", "float64", None),
}


@pytest.mark.parametrize("name", SHAPES)
def test_stores_have_the_stated_shapes(name):
    stored = daskgd.open_dataset(FOLDER / f"{name}.zarr", block_bytes=1)
    shape, dtype, y_dtype, classes = SHAPES[name]
    assert stored.X.shape == shape
    assert stored.X.dtype == dtype
    assert stored.y.shape == shape[:1]
    assert stored.y.dtype == y_dtype
    assert (None if stored.classes is None else stored.classes.tolist()) == classes
    assert stored.layout.n_blocks == 5


@pytest.mark.parametrize("name", SHAPES)
def test_stores_hold_what_make_makes(name):
    expected, stored = make.DATASETS[name](), daskgd.open_dataset(FOLDER / f"{name}.zarr")
    y = stored.y.compute()
    # scikit-learn scales the diabetes features as it loads them: the last bits are numpy's affair.
    np.testing.assert_allclose(stored.X.compute(), expected.X, rtol=1e-13, atol=1e-15)
    np.testing.assert_array_equal(y if stored.classes is None else stored.classes[y], expected.y)
    assert list(stored.feature_names) == expected.feature_names


@pytest.mark.parametrize("name", ["digits", "breast_cancer"])
def test_fingerprints_are_those_of_a_fresh_run(name, tmp_path):
    """The fingerprint covers metadata and the checksums of all chunks; if it differs, run data/make.py."""
    fresh = daskgd.open_dataset(make.write(name, tmp_path)).fingerprint
    assert fresh is not None
    assert daskgd.open_dataset(FOLDER / f"{name}.zarr").fingerprint == fresh


def test_stores_are_small():
    files = [file for name in SHAPES for file in (FOLDER / f"{name}.zarr").rglob("*") if file.is_file()]
    assert len(files) < 50
    assert sum(file.stat().st_size for file in files) < 1_000_000


def test_every_maker_is_listed_here():
    assert set(make.DATASETS) == set(SHAPES)
