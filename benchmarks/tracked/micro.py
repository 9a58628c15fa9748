"""What a sweep is made of, each piece alone, in milliseconds on one thread.

Airspeed velocity (asv) times every method that begins with ``time_``, in a process of its own. Data are made
from fixed seeds and lie in memory or in a warm page cache, so that a change of the figure is one of the code.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy is loaded

import shutil
import tempfile

import numpy as np

import daskgd
from daskgd.engines.serial import Serial
from daskgd.losses import Logistic
from daskgd.models import Linear
from daskgd.penalties import L2
from daskgd.problems import Problem
from daskgd.queries import Ask, Gradient, Survey
from daskgd.rows.layout import Layout
from daskgd.testing.laws import ArraySource

N_ROWS, N_FEATURES = 200_000, 50


def rows(n: int = N_ROWS, p: int = N_FEATURES) -> tuple[np.ndarray, np.ndarray]:
    """float32 features of unit variance, and labels of a logistic model."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p), dtype=np.float32)
    return X, (X @ rng.standard_normal(p, dtype=np.float32) + rng.logistic(size=n) > 0).astype(np.int8)


class Read:
    """Reading and decoding a dataset in the default codec: 40 MB of rows in ten chunks."""

    def setup(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="daskgd-tracked-")
        X, y = rows()
        daskgd.write_dataset(f"{self.folder}/data.zarr", X.round(2), y, chunk_bytes=4_000_000)
        self.source = daskgd.open_dataset(f"{self.folder}/data.zarr").source

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def time_blocks(self) -> None:
        layout = self.source.layout
        for block in range(layout.n_blocks):
            self.source.read(*layout.rows(block, block + 1))


class Sweep:
    """One sweep of the serial engine over rows in memory: the kernels, without storage."""

    def setup(self) -> None:
        X, y = rows()
        self.engine = Serial(ArraySource(Layout(len(X), 20_000, 1), X, y))
        problem = Problem(Logistic(), Linear(N_FEATURES), L2(1e-3), np.array([0, 1]))
        self.gradient = [Ask(problem, Gradient(np.full(N_FEATURES + 1, 0.1)))]
        self.survey = [Ask(None, Survey(classification=True))]

    def time_gradient(self) -> None:
        self.engine.sweep(self.gradient)

    def time_survey(self) -> None:
        self.engine.sweep(self.survey)


class Fit:
    """Whole fits in this process: the solver on a sample that is all rows, and a graph for every sweep."""

    def setup(self) -> None:
        self.X, self.y = rows(5_000, 20)

    def time_logistic_regression(self) -> None:
        daskgd.LogisticRegression(engine="serial").fit(self.X, self.y)

    def time_twenty_small_sweeps(self) -> None:
        solver = daskgd.GradientDescent(step=1e-3)
        daskgd.LogisticRegression(solver=solver, max_iter=20, tol=0, engine="threads").fit(self.X, self.y)
