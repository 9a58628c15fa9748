"""Splits that give every label its share of the rows."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import daskgd
from daskgd.data import dataset as module
from daskgd.data.convert import as_dataset
from daskgd.data.stratify import rows_to_move


def sides(y: Any, share: float, **settings: Any) -> tuple[Any, Any]:
    """The labels of both sides, and the numbers of their rows."""
    X = np.arange(len(y))[:, None].astype(float)
    train, test = as_dataset(X, y).train_test_split(share, stratify=True, **settings)
    rows = [np.asarray(part.X)[:, 0].astype(int) for part in (train, test)]
    assert sorted(np.concatenate(rows)) == list(range(len(y)))
    assert [train.n_rows, test.n_rows] == [len(r) for r in rows]
    for part, r in zip((train, test), rows, strict=True):
        assert np.array_equal(np.asarray(part.y), np.asarray(y)[r])
    return rows[0], rows[1]


@given(
    st.lists(st.integers(2, 60), min_size=1, max_size=5), st.floats(0.05, 0.95), st.integers(0, 3), st.data()
)
def test_every_label_has_its_share(counts: list[int], share: float, seed: int, data: Any) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    np.random.default_rng(seed).shuffle(y)
    _, test = sides(y, share, random_state=seed)
    got = np.bincount(y[test], minlength=len(counts))
    assert (np.abs(got - share * np.array(counts)) <= 1).all()
    assert (got < counts).all()
    assert abs(len(test) - share * len(y)) <= len(counts)
    again = sides(y, share, random_state=seed)
    assert np.array_equal(again[1], test)


def test_few_rows_change_sides() -> None:
    """Those of the plain split stay, but for about the square root of their number."""
    y = np.random.default_rng(0).choice(3, 30_000, p=[0.7, 0.299, 0.001])
    _, test = sides(y, 0.1)
    _, plain = as_dataset(np.arange(30_000.0)[:, None]).train_test_split(0.1)
    assert len(np.setxor1d(test, np.asarray(plain.X)[:, 0])) < 200
    assert np.bincount(y[test]).tolist() == pytest.approx(0.1 * np.bincount(y), abs=1)


def test_the_rows_do_not_depend_on_how_they_lie(tmp_path: Path, monkeypatch: Any) -> None:
    y = np.array(["a", "b", "c"])[np.random.default_rng(1).choice(3, 3000, p=[0.8, 0.15, 0.05])]
    X = np.arange(3000.0)[:, None]
    daskgd.write_dataset(tmp_path / "s.zarr", X, y, chunk_bytes=800)
    whole = as_dataset(X, y).train_test_split(0.2, 5, stratify=True)[1]
    monkeypatch.setattr(module, "LABEL_ROWS", 170)
    lazy = as_dataset(da.from_array(X, chunks=(500, 1)), da.from_array(y, chunks=500))
    for dataset in (as_dataset(X, y), daskgd.open_dataset(tmp_path / "s.zarr"), lazy):
        test = dataset.train_test_split(0.2, 5, stratify=True)[1]
        assert np.array_equal(np.asarray(test.X), np.asarray(whole.X))
        assert test.extra_sweeps == (dataset is lazy)
        assert np.array_equal(np.asarray(pickle.loads(pickle.dumps(test)).X), np.asarray(whole.X))


def test_splits_of_splits_are_of_fresh_hashes() -> None:
    y = np.arange(2000) % 4
    train, test = as_dataset(np.arange(2000.0)[:, None], y).train_test_split(0.25, stratify=True)
    inner = train.train_test_split(0.2, stratify=True)[1]
    rows = np.asarray(inner.X)[:, 0].astype(int)
    assert np.bincount(y[rows]).tolist() == [75] * 4
    assert not set(rows) & set(np.asarray(test.X)[:, 0].astype(int))
    assert "by label" in train.identity()["selection"]
    other = as_dataset(np.arange(2000.0)[:, None], np.sort(y)).train_test_split(0.25, stratify=True)[0]
    assert other.identity()["selection"] != train.identity()["selection"]


def test_what_is_refused() -> None:
    X = np.zeros((5, 1))
    with pytest.raises(
        ValueError, match=r"at least two rows of every label with stratify=True, got one of 'b'"
    ):
        as_dataset(X, list("aaaab")).train_test_split(stratify=True)
    with pytest.raises(ValueError, match="expected one label per row with stratify=True, got no target"):
        as_dataset(X).train_test_split(stratify=True)
    with pytest.raises(ValueError, match=r"got y of shape \(5, 2\)"):
        as_dataset(X, np.zeros((5, 2))).train_test_split(stratify=True)


def test_what_are_no_labels_is_left_to_the_fit() -> None:
    y = np.random.default_rng(0).normal(size=21_000)
    assert not len(rows_to_move([(y, np.arange(len(y)))], 0.2, 0, 0))
    est = daskgd.MLPClassifier(early_stopping=True, validation_fraction=0.5)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        est.fit(np.zeros((6, 1)), np.array([0, 1, 0, 1, 0, np.nan]))
