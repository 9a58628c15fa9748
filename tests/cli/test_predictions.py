"""`daskgd predict`: every kind of prediction, read back from every kind of file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from click.testing import CliRunner

import daskgd
from daskgd.cli import main

N = 300
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3)).astype(np.float32)
IDS = RNG.permutation(N) + 1000
FEATURES = ["a", "b", "c"]
TARGETS: dict[str, Any] = {
    "text": np.where(X[:, 0] > 0, 'say "yes", twice', "né"),
    "three": np.array(["NA", "None", "b c"])[np.digitize(X[:, 1], [-0.5, 0.5])],
    "bool": X[:, 0] > 0,
    "integers": np.digitize(X[:, 1], [-0.5, 0.5]) * 2 - 1,
    "numbers": X @ [1.0, -2.0, 0.5],
}


def invoke(*arguments: Any) -> Any:
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows in 10 blocks, with an id that models do not know."""
    path = tmp_path_factory.mktemp("predict") / "rows.zarr"
    rows = np.column_stack([IDS, X])
    daskgd.write_dataset(path, rows, feature_names=["id", *FEATURES], chunk_bytes=30 * 4 * 8)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    frame = pd.DataFrame(X.astype(float), columns=FEATURES)
    for name, y in TARGETS.items():
        kind = daskgd.Ridge if name == "numbers" else daskgd.LogisticRegression
        kind().fit(frame, y).save(folder / f"{name}.dgd")
    return folder


METHODS = [(name, "predict") for name in TARGETS]
METHODS += [(name, "predict_proba") for name in TARGETS if name != "numbers"]
METHODS += [(name, "decision_function") for name in ("text", "three")]


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".npy", ".zarr"])
@pytest.mark.parametrize(("name", "method"), METHODS)
def test_predictions_are_read_back(
    name: str, method: str, ending: str, data: Path, models: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("daskgd.cli.models.BLOCKS_AT_A_TIME", 3)
    monkeypatch.setenv("DASK_DASKGD__BLOCK_BYTES", "1000")
    est = daskgd.load_model(models / f"{name}.dgd")
    expected = getattr(est, method)(pd.DataFrame(X.astype(float), columns=FEATURES))
    columns = ["prediction"] if method == "predict" else [str(c) for c in est.classes_]
    if expected.ndim == 1 and method == "decision_function":
        columns = ["decision"]
    out = tmp_path / f"p{ending}"
    with_id = ["--id", "id"] if ending != ".npy" else []
    source = data
    if not with_id:
        source = tmp_path / "plain.zarr"
        daskgd.write_dataset(source, X.astype(float), feature_names=FEATURES)
    done = invoke("predict", models / f"{name}.dgd", source, "--out", out, "--method", method, *with_id)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{out}: 300 predictions\n"
    assert sorted(path.name for path in tmp_path.iterdir() if path != source) == [out.name]
    if ending == ".npy":
        found = np.load(out)
        ids = IDS
    elif ending == ".zarr":
        dataset = daskgd.open_dataset(out)
        stored = dataset.X.compute()
        ids = stored[:, 0]
        if method == "predict":
            assert dataset.feature_names == ("id",)
            found = dataset.y.compute()
            found = found if dataset.classes is None else dataset.classes[found]
        else:
            assert dataset.feature_names == ("id", *columns)
            found = stored[:, 1:]
    else:
        reads: dict[str, Any] = {
            ".csv": lambda p: pd.read_csv(p, keep_default_na=False),
            ".parquet": pd.read_parquet,
        }
        table = reads[ending](out)
        assert list(table.columns) == ["id", *columns]
        ids, found = table["id"].to_numpy(), table[columns].to_numpy()
        if ending == ".csv":
            assert "1000.0" not in out.read_text()
    assert np.array_equal(ids, IDS)
    found = np.asarray(found).reshape(expected.shape)
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(found.astype(float), expected, rtol=1e-12, atol=1e-12)
    else:
        assert found.tolist() == expected.tolist()


def test_rows_have_numbers_where_no_id_is_asked_for(data: Path, models: Path, tmp_path: Path) -> None:
    daskgd.write_dataset(tmp_path / "plain.zarr", X.astype(float))
    out = tmp_path / "p.zarr"
    assert invoke("predict", models / "text.dgd", tmp_path / "plain.zarr", "--out", out).exit_code == 0
    dataset = daskgd.open_dataset(out)
    assert dataset.feature_names == ("row",)
    assert np.array_equal(dataset.X.compute().ravel(), np.arange(N))


def test_an_id_that_the_model_knows_stays_a_feature(models: Path, tmp_path: Path) -> None:
    daskgd.write_dataset(tmp_path / "plain.zarr", X.astype(float), feature_names=FEATURES)
    asked = ["predict", models / "numbers.dgd", tmp_path / "plain.zarr"]
    assert invoke(*asked, "--out", tmp_path / "a.csv").exit_code == 0
    assert invoke(*asked, "--out", tmp_path / "b.csv", "--id", "b").exit_code == 0
    a, b = pd.read_csv(tmp_path / "a.csv"), pd.read_csv(tmp_path / "b.csv")
    assert list(b.columns) == ["b", "prediction"]
    assert np.array_equal(a["prediction"], b["prediction"])
    np.testing.assert_allclose(b["b"], X[:, 1], rtol=1e-12)


PEOPLE = pd.DataFrame(
    {
        "number": np.arange(40) + 0.5,
        "name": [None if i == 3 else f"é, {i}" for i in range(40)],
        "born": pd.date_range("1970-02-03", periods=40).date,
        "member": np.arange(40) % 3 == 0,
        "age": np.arange(40) % 7,
        "colour": ["red", "blue"] * 20,
        "y": np.arange(40) % 5,
    }
)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
@pytest.mark.parametrize("name", ["number", "name", "born", "member", "colour"])
def test_an_id_is_any_column_of_a_typed_dataset(tmp_path: Path, name: str, ending: str) -> None:
    ids = ["number", "name", "born", "member"]
    daskgd.write_dataset(tmp_path / "train", PEOPLE.drop(columns=ids), y="y")
    model = daskgd.Ridge().fit(tmp_path / "train")
    model.save(tmp_path / "m.dgd")
    gone = [one for one in ids if one != name]
    daskgd.write_dataset(tmp_path / "new", PEOPLE.drop(columns=[*gone, "y"]), chunk_bytes=100)
    out = tmp_path / f"p{ending}"
    done = invoke("predict", tmp_path / "m.dgd", tmp_path / "new", "--out", out, "--id", name)
    assert done.exit_code == 0, done.stderr
    found = pd.read_csv(out) if ending == ".csv" else pd.read_parquet(out)
    assert list(found.columns) == [name, "prediction"]
    expected = model.predict(daskgd.open_dataset(tmp_path / "train"))
    np.testing.assert_allclose(found["prediction"], np.asarray(expected), rtol=1e-12)

    def plain(one: Any) -> Any:
        return None if pd.isna(one) else str(one)[:10] if name == "born" else one

    assert [plain(one) for one in found[name]] == [plain(one) for one in PEOPLE[name]]


def test_ids_of_zarr_are_numbers(tmp_path: Path, models: Path) -> None:
    daskgd.write_dataset(tmp_path / "new", PEOPLE[["name", "age"]])
    asked = ["predict", models / "numbers.dgd", tmp_path / "new", "--out", tmp_path / "p.zarr", "--id"]
    done = invoke(*asked, "name")
    assert (done.exit_code, "--id: expected numbers for .zarr, got the category" in done.stderr) == (2, True)


def test_an_id_is_a_column_of_sparse_rows(tmp_path: Path) -> None:
    rows = sp.random(50, 6, 0.4, format="csr", random_state=0)
    names = [*"abcde", "id"]
    daskgd.write_dataset(tmp_path / "new", rows, feature_names=names, chunk_bytes=400)
    model = daskgd.Ridge().fit(pd.DataFrame(rows[:, :5].toarray(), columns=names[:5]), np.arange(50.0))
    model.save(tmp_path / "m.dgd")
    out = tmp_path / "p.parquet"
    done = invoke("predict", tmp_path / "m.dgd", tmp_path / "new", "--out", out, "--id", "id")
    assert done.exit_code == 0, done.stderr
    found = pd.read_parquet(out)
    assert np.array_equal(found["id"], rows[:, 5].toarray().ravel())
    np.testing.assert_allclose(found["prediction"], rows[:, :5] @ model.coef_ + model.intercept_, atol=1e-9)


def test_an_offset_counts_beside_an_id(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows, shift = rng.normal(size=(50, 3)), rng.normal(size=50)
    y = rng.poisson(np.exp(shift))
    daskgd.PoissonRegressor().fit(rows[:, 1:], y, offset=shift).save(tmp_path / "m.dgd")
    daskgd.write_dataset(tmp_path / "new", rows, feature_names=["id", "a", "b"], offset=shift)
    out = tmp_path / "p.csv"
    done = invoke("predict", tmp_path / "m.dgd", tmp_path / "new", "--out", out, "--id", "id")
    assert done.exit_code == 0, done.stderr
    expected = daskgd.load_model(tmp_path / "m.dgd").predict(rows[:, 1:], offset=shift)
    np.testing.assert_allclose(pd.read_csv(out)["prediction"], expected, rtol=1e-9)


def test_what_fails_is_named_and_leaves_nothing(data: Path, models: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.zarr"
    rows = X.astype(float)
    rows[200, 1] = np.nan
    daskgd.write_dataset(bad, rows, feature_names=FEATURES, chunk_bytes=1000)
    for name in ("p.csv", "p.parquet", "p.npy", "p.zarr"):
        done = invoke("predict", models / "text.dgd", bad, "--out", tmp_path / "new" / name)
        if name != "p.zarr":  # which makes folders
            assert done.exit_code == 65
            assert str(tmp_path / "new") in done.stderr
            assert str(bad) not in done.stderr
        (tmp_path / "old").mkdir(exist_ok=True)
        done = invoke("predict", models / "text.dgd", bad, "--out", tmp_path / "old" / name)
        assert done.exit_code == 65
        assert done.stderr.startswith(f"Error: {bad}: Input X contains NaN")
        assert list((tmp_path / "old").iterdir()) == []
    cases = [
        (
            ["text.dgd", data, "--id", "z"],
            2,
            "--id: expected a column of the dataset, which are named id, a, b, c",
        ),
        (["text.dgd", data, "--id", "a"], 65, "X has 4 features"),
        (["text.dgd", data], 65, "X has 4 features"),
        (
            ["prediction.dgd", tmp_path / "named.zarr", "--id", "prediction"],
            2,
            "--id: expected another name than",
        ),
    ]
    daskgd.write_dataset(tmp_path / "named.zarr", rows, feature_names=["prediction", "b", "c"])
    daskgd.Ridge().fit(X, X[:, 0]).save(models / "prediction.dgd")
    for (model, *asked), code, words in cases:
        done = invoke("predict", models / str(model), *asked, "--out", tmp_path / "p.csv")
        assert done.exit_code == code, done.stderr
        assert words in done.stderr, done.stderr
