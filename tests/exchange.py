"""What one environment writes and another reads: ``python exchange.py write|read FOLDER``.

Run by test_exchange.py, each time by the Python of one environment; it needs nothing but daskgd. ``write``
leaves datasets, a model, the checkpoint of a fit that was stopped half way and facts.json; ``read`` compares.
"""

from __future__ import annotations

import json
import platform
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg  # whose BLAS counts too
import threadpoolctl
import zarr

import daskgd

N, P = 5_000, 6
CODECS = {"plain.zarr": {"codec": "none"}, "lz4.zarr": {}, "sharded.zarr": {"codec": "zstd", "shards": 3}}


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Numbers by a formula of integers, the same wherever they are made."""
    i = np.arange(N * P, dtype=np.int64).reshape(N, P)
    X = ((i * 7919 + i % 13 * 104729) % 1000).astype("float32") / 500 - 1
    return X, np.where((i[:, 0] * 31) % 97 < 40 + 20 * X[:, 1], "yes", "no")


def numerics() -> list[Any]:
    """What the last bits of a fit depend on."""
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    blas = sorted(f"{pool['internal_api']} {pool['version']} {pool.get('architecture')}" for pool in pools)
    return [np.__version__, scipy.__version__, blas]


def fitted(folder: Path, **settings: Any) -> daskgd.LogisticRegression:
    est = daskgd.LogisticRegression(solver="lbfgs", C=1e-2, tol=0, engine="serial", **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it does not converge: by intent
        return est.fit(daskgd.open_dataset(folder / "lz4.zarr", block_bytes=1), checkpoint=folder / "run")


def told(est: daskgd.LogisticRegression) -> list[str]:
    return [float(x).hex() for x in (*est.coef_.ravel(), *est.intercept_, *est.history_.column("loss"))]


def close(a: list[str], b: list[str]) -> bool:
    return np.allclose([float.fromhex(x) for x in a], [float.fromhex(x) for x in b], rtol=1e-6, atol=1e-8)


def write(folder: Path) -> None:
    X, y = rows()
    for name, options in CODECS.items():
        daskgd.write_dataset(folder / name, X, y, chunk_bytes=20_000, **options)
    whole = fitted(folder, max_iter=8)
    for file in (folder / "run").iterdir():
        file.unlink()
    fitted(folder, max_iter=4)
    whole.save(folder / "model.dgd")
    facts = {
        "by": [platform.python_version(), zarr.__version__],
        "numerics": numerics(),
        "fingerprints": {name: daskgd.open_dataset(folder / name).fingerprint for name in CODECS},
        "fit": told(whole),
        "sweeps": whole.n_sweeps_,
        "margins": [float(x).hex() for x in whole.decision_function(X[:50])],
    }
    (folder / "facts.json").write_text(json.dumps(facts))


def read(folder: Path) -> None:
    X, y = rows()
    facts = json.loads((folder / "facts.json").read_text())
    same = (lambda a, b: a == b) if facts["numerics"] == json.loads(json.dumps(numerics())) else close
    for name, fingerprint in facts["fingerprints"].items():
        dataset = daskgd.open_dataset(folder / name)
        assert dataset.fingerprint == fingerprint, name
        dataset.verify()
        assert np.array_equal(dataset.X.compute(), X), name
        assert np.array_equal(dataset.classes[dataset.y.compute()], y), name
    model = daskgd.load_model(folder / "model.dgd")
    assert told(model) == facts["fit"], "the model file holds other numbers"
    assert np.array_equal(model.predict(X), fitted_classes(model, X))
    margins = [float(x).hex() for x in model.decision_function(X[:50])]
    assert same(margins, facts["margins"]), "a model that was read predicts otherwise"
    resumed = fitted(folder, max_iter=8)
    assert resumed.n_sweeps_ == facts["sweeps"]
    assert same(told(resumed), facts["fit"]), "a fit that went on ends elsewhere"
    for file in (folder / "run").iterdir():
        file.unlink()
    assert same(told(fitted(folder, max_iter=8)), facts["fit"]), "a fit of the same rows ends elsewhere"
    how = "the same bits" if same is not close else "equal to 1e-6, as numpy or BLAS differ"
    print(
        f"Python {facts['by'][0]} with zarr {facts['by'][1]}, read by {platform.python_version()} with "
        f"{zarr.__version__}: {how}"
    )


def fitted_classes(model: Any, X: np.ndarray) -> np.ndarray:
    """What the margins say."""
    return model.classes_[(model.decision_function(X) > 0).astype(int)]


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]))
