"""Several penalties from one read: what least squares asks of the data is the same for every strength.

One sweep collects the products of the columns, and every Lasso and Ridge is solved from them in memory.
"""

import tempfile

import numpy as np

import daskgd

FEATURES = 40
BLOCK_ROWS = 20_000
STRENGTHS = (0.001, 0.01, 0.1, 1.0)


def blocks(rows, seed=0):
    """Blocks of rows X, y: of the features, one in five matters."""
    w = np.zeros(FEATURES)
    w[::5] = np.random.default_rng(seed).standard_normal(len(w[::5]))
    for i, start in enumerate(range(0, rows, BLOCK_ROWS)):
        random = np.random.default_rng([seed, i])
        X = random.standard_normal((min(BLOCK_ROWS, rows - start), FEATURES), dtype=np.float32)
        yield X, X @ w + 2 * random.standard_normal(len(X))


def main(rows=200_000):
    """The fitted models: a Lasso of each strength, then a Ridge of each."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/rows.zarr"
        daskgd.write_dataset(path, blocks(rows))
        train, test = daskgd.open_dataset(path).train_test_split(0.2)
        print(daskgd.Lasso().plan(train))  # a short look

        lassos = [daskgd.Lasso(alpha=alpha) for alpha in STRENGTHS]
        ridges = [daskgd.Ridge(alpha=alpha * train.n_rows) for alpha in STRENGTHS]  # the penalty on the sum
        models = daskgd.together(lassos + ridges, train)
        for model in models:
            name, used = type(model).__name__, np.count_nonzero(model.coef_)
            print(f"{name} alpha={model.alpha:<9g} {used:2} features, R2 {model.score(test):.4f} held out")
    print(f"sweeps for all {len(models)}: {models[0].n_sweeps_}")
    return models


if __name__ == "__main__":
    main()
