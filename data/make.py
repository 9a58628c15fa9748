"""Writes the small datasets of this folder from the copies inside scikit-learn: ``python data/make.py``.

Nothing is downloaded and nothing is drawn at random, so that the same stores come out every time. They are
stored uncompressed: together they are a third of a megabyte, and their bytes, hence fingerprints, then do not
depend on the version of a compressor.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn import datasets

import daskgd

FOLDER = Path(__file__).resolve().parent


class Data(NamedTuple):
    """What goes into one store."""

    X: np.ndarray
    y: np.ndarray
    feature_names: list[str]
    chunk_bytes: int
    """Of X; chosen so that each store has about five chunks: enough for several blocks, few files for git."""


def digits() -> Data:
    """1,797 images of 8 x 8 pixels 0..16 as uint8, and the digits 0..9 as integers."""
    bunch: Any = datasets.load_digits()
    X = bunch.data.astype(np.uint8)
    assert (bunch.data == X).all(), "expected whole numbers of at most 255 as pixels"
    return Data(X, bunch.target.astype(np.uint8), list(bunch.feature_names), 24_000)


def breast_cancer() -> Data:
    """569 biopsies with 30 measurements as float64, and the labels "malignant" and "benign"."""
    bunch: Any = datasets.load_breast_cancer()
    return Data(bunch.data, bunch.target_names.astype(str)[bunch.target], list(bunch.feature_names), 32_000)


def diabetes() -> Data:
    """442 patients with 10 centred and scaled measurements as float64, and the progression of the disease."""
    bunch: Any = datasets.load_diabetes()
    return Data(bunch.data, bunch.target, list(bunch.feature_names), 8_000)


DATASETS: dict[str, Callable[[], Data]] = {
    "digits": digits,
    "breast_cancer": breast_cancer,
    "diabetes": diabetes,
}


def write(name: str, folder: Path = FOLDER) -> Path:
    """Write one of them as ``<folder>/<name>.zarr``, in place of what is there; the path."""
    data, path = DATASETS[name](), folder / f"{name}.zarr"
    daskgd.write_dataset(
        path,
        data.X,
        data.y,
        feature_names=data.feature_names,
        chunk_bytes=data.chunk_bytes,
        codec="none",
        overwrite=True,
    )
    return path


if __name__ == "__main__":
    for name in DATASETS:
        print(daskgd.open_dataset(write(name)))
