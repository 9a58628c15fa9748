"""Model files: what was fitted comes back, earlier files stay readable, and nothing else gets in."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mutations import mutated
from sklearn.exceptions import ConvergenceWarning, NotFittedError

import daskgd
from daskgd import ModelError, estimators
from daskgd.storage.records import pack, unpack
from daskgd.testing.laws import same

GOLDEN = Path(__file__).parents[1] / "golden"

KINDS = [getattr(estimators, name) for name in estimators.__all__ if name[0].isupper()]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_estimator_comes_back(kind: Any, tmp_path: Path, rng: np.random.Generator) -> None:
    X = pd.DataFrame(rng.normal(size=(60, 3)), columns=["a", "b", "c"])
    y = 1.0 + (X["a"] > 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        est = kind(max_iter=50).fit(X, y)
    est.save(tmp_path / "model.dgd")
    back = daskgd.load_model(str(tmp_path / "model.dgd"))
    assert type(back) is kind
    assert repr(back.get_params()) == repr(est.get_params())
    assert np.array_equal(back.predict(X), est.predict(X))
    for name in (n for n in vars(est) if n.endswith("_") and n != "history_"):
        assert same(getattr(back, name), getattr(est, name)), name
    assert list(back.history_) == list(est.history_)
    assert back.history_.reason == est.history_.reason
    assert back.score(X, y) == est.score(X, y)


def test_labels_settings_and_warm_starts(tmp_path: Path, rng: np.random.Generator) -> None:
    X, y = rng.normal(size=(60, 3)), np.array(["no", "maybe", "yes"])[rng.integers(0, 3, 60)]
    est = daskgd.LogisticRegression(
        C=np.float64(2.0), class_weight={"no": 2, "yes": 1.5}, solver=daskgd.LBFGS(memory=4), warm_start=True
    )
    est.fit(X, y).save(tmp_path / "model.dgd")
    back = daskgd.load_model(tmp_path / "model.dgd")
    assert back.classes_.tolist() == ["maybe", "no", "yes"]
    assert back.solver == daskgd.LBFGS(memory=4)
    assert back.class_weight == {"no": 2, "yes": 1.5}
    assert np.array_equal(back.fit(X, y).coef_, est.fit(X, y).coef_)  # both from where they stood
    back.to_sklearn().predict(X)


def test_a_file_is_replaced_whole_and_relative_paths_and_urls_work(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    est = daskgd.Ridge().fit([[0.0], [1.0]], [0.0, 1.0])
    for path in ("model.dgd", "model.dgd", "new/folder/model.dgd", "memory://models/one.dgd"):
        est.save(path)
        assert daskgd.load_model(path).coef_ == est.coef_
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["model.dgd"]
    with pytest.raises(ValueError, match="path: expected that of a file"):
        est.save("folder/")
    with pytest.raises(FileNotFoundError):
        daskgd.load_model("absent.dgd")


def test_what_no_file_holds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        daskgd.Ridge().save(tmp_path / "model.dgd")

    class Mine(daskgd.Ridge):
        pass

    with pytest.raises(TypeError, match="daskgd's own estimators, got Mine"):
        Mine().fit([[0.0], [1.0]], [0.0, 1.0]).save(tmp_path / "model.dgd")
    est = daskgd.Ridge().fit([[0.0], [1.0]], [0.0, 1.0])
    est.set_params(engine=lambda dataset: None)
    with pytest.raises(TypeError, match="such as engine=None"):
        est.save(tmp_path / "model.dgd")
    assert not list(tmp_path.iterdir())


def test_where_the_rows_are_is_not_told(tmp_path: Path) -> None:
    daskgd.write_dataset(tmp_path / "secret-place.zarr", np.eye(3), np.arange(3.0))
    daskgd.Ridge().fit(tmp_path / "secret-place.zarr").save(tmp_path / "model.dgd")
    assert b"secret-place" not in (tmp_path / "model.dgd").read_bytes()


def changed(said: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return {**said, **parts}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: [s], "holds something else"),
        (lambda s: changed(s, kind="checkpoint"), "holds something else"),
        (lambda s: changed(s, format=2), "its format is 2, of daskgd"),
        (lambda s: changed(s, estimator="Dataset"), "an estimator 'Dataset', which there is not"),
        (lambda s: changed(s, estimator="together"), "which there is not"),
        (lambda s: changed(s, estimator=["x"]), "expected a model"),
        (lambda s: changed(s, parameters={"beta": 1}), "beta"),
        (lambda s: changed(s, parameters=3), "expected a model"),
        (lambda s: changed(s, attributes={}), "expected a model"),
        (lambda s: changed(s, attributes={"predict": 1.0}), "attribute 'predict'"),
        (lambda s: changed(s, attributes={"__class__": 1.0}), "attribute '__class__'"),
        (lambda s: changed(s, attributes={"a b": 1.0}), "attribute 'a b'"),
        (lambda s: {k: v for k, v in s.items() if k != "history"}, "history"),
    ],
)
def test_files_that_say_something_else_are_refused(change: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "model.dgd"
    daskgd.Ridge().fit([[0.0], [1.0]], [0.0, 1.0]).save(path)
    path.write_bytes(pack(change(unpack(path.read_bytes()))))
    with pytest.raises(ModelError, match=words):
        daskgd.load_model(path)


def test_cuts_flips_and_other_files_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "model.dgd"
    daskgd.Ridge().fit([[0.0], [1.0]], [0.0, 1.0]).save(path)
    data = path.read_bytes()
    for _ in range(200):
        bad = bytearray(data)
        bad[rng.integers(len(bad))] ^= 1 << rng.integers(8)
        path.write_bytes(bad)
        with pytest.raises(ModelError, match=r"model\.dgd: expected a model of daskgd's, but"):
            daskgd.load_model(path)
    for other in (b"", data[:100], b"\x80\x04."):
        path.write_bytes(other)
        with pytest.raises(ModelError):
            daskgd.load_model(path)


def test_models_of_earlier_versions_can_be_read() -> None:
    """Files that were written once and stay here: a later version has to read them."""
    X = np.array([[0.0, 1.0], [2.0, -1.0], [1.0, 1.0]])
    logistic = daskgd.load_model(GOLDEN / "logistic-1.dgd")
    assert logistic.predict(X).tolist() == ["b", "c", "b"]
    assert np.allclose(logistic.coef_, [[-1.018, 0.236], [0.079, 0.603], [0.939, -0.838]], atol=1e-3)
    ridge = daskgd.load_model(GOLDEN / "ridge-1.dgd")
    assert np.allclose(
        ridge.predict(pd.DataFrame(X, columns=["x", "y"])), [1.0008, 3.0013, 2.0011], atol=1e-4
    )
    assert ridge.feature_names_in_.tolist() == ["x", "y"]


def test_mutated_headers_give_our_error_or_a_model(tmp_path: Path, rng: np.random.Generator) -> None:
    """With a checksum that is right: whoever writes such a file, nothing of it is run, and nothing hangs."""
    path = tmp_path / "model.dgd"
    X = rng.normal(size=(20, 2))
    daskgd.LogisticRegression(solver=daskgd.LBFGS()).fit(X, X[:, 0] > 0).save(path)
    data = path.read_bytes()
    length = int.from_bytes(data[12:16], "little")
    header, body = json.loads(data[16 : 16 + length]), data[16 + length : -32]
    refused = 0
    for _ in range(400):
        text = json.dumps(mutated(header, rng)).encode()
        whole = data[:12] + len(text).to_bytes(4, "little") + text + body
        path.write_bytes(whole + hashlib.sha256(whole).digest())
        try:
            daskgd.load_model(path)
        except ModelError:
            refused += 1
    assert refused > 100
