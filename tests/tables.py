"""Tables with text, numbers of several types, gaps, rare categories and a constant, for tests of encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import daskgd

NUMBERS = ["miles", "temp", "month", "flag"]
FULL = ["miles", "month"]
TEXT = ["carrier", "origin"]


class Table(NamedTuple):
    """A table in a store of several blocks, the same as pandas reads it, and its target."""

    dataset: daskgd.Dataset
    frame: pd.DataFrame
    y: pd.Series

    @property
    def path(self) -> str:
        assert self.dataset.path is not None
        return self.dataset.path


def make_frame(seed: int, n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "carrier": rng.choice(["AA", "UA", "DL", "é x", "ZZ"], n, p=[0.4, 0.3, 0.2, 0.08, 0.02]),
            "miles": rng.gamma(2, 300, n).round(1) + 1e4,
            "temp": rng.normal(10, 5, n).round(2),
            "origin": rng.choice(["x", "y"], n),
            "month": rng.integers(1, 13, n),
            "flag": rng.random(n) < 0.3,
            "same": np.full(n, 2.5),
        }
    )
    frame.loc[rng.random(n) < 0.1, "temp"] = np.nan
    frame.loc[rng.random(n) < 0.05, "carrier"] = None
    return frame


def make_table(folder: Path, seed: int, n: int = 400, block_bytes: int = 4000) -> Table:
    frame = make_frame(seed, n)
    z = (frame.miles - 10500) / 500 + (frame.carrier == "AA") - frame.flag
    noise = np.random.default_rng(seed).logistic(size=len(frame))
    frame["late"] = np.where(z + noise > 0, "yes", "no")
    place = folder / f"{seed}.csv"
    frame.to_csv(place, index=False)
    daskgd.ingest(place, folder / f"{seed}.zarr", target="late")
    read: Any = pd.read_csv(place)
    y = read.pop("late")
    return Table(daskgd.open_dataset(folder / f"{seed}.zarr", block_bytes=block_bytes), read, y)
