"""Choosing a penalty: 60 logistic fits, of 12 strengths on 5 folds, in a few reads of the data.

The rows are written to disk block by block. Folds are made of a hash of the row's number, so that none is
copied; the fits of all strengths and folds share every read, and one more read scores them all.
"""

import tempfile

import numpy as np

import daskgd
from daskgd.model_selection import KFold, LogisticRegressionCV

FEATURES = 30
BLOCK_ROWS = 2_000
STRENGTHS = np.logspace(-6, 1, 12)


def blocks(rows, seed=0):
    """Blocks of rows X, y: of the features, one in ten matters, and most of y is chance."""
    w = np.zeros(FEATURES)
    w[::10] = 0.5
    for i, start in enumerate(range(0, rows, BLOCK_ROWS)):
        random = np.random.default_rng([seed, i])
        X = random.standard_normal((min(BLOCK_ROWS, rows - start), FEATURES), dtype=np.float32)
        yield X, np.where(X @ w + random.logistic(size=len(X)) > 0, "yes", "no")


def main(rows=10_000):
    """The fitted model, and its score on rows that it has not seen."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/rows.zarr"
        daskgd.write_dataset(path, blocks(rows))
        train, test = daskgd.open_dataset(path).train_test_split(0.2)
        model = LogisticRegressionCV(
            Cs=STRENGTHS, cv=KFold(5, shuffle=True), scoring="neg_log_loss", use_legacy_attributes=False
        ).fit(train)
        score = model.score(test)

    print("         C   log loss held out, mean and spread of 5 folds")
    losses = -model.scores_[:, 0]  # folds, strengths
    for C, mean, spread in zip(model.Cs_, losses.mean(axis=0), losses.std(axis=0), strict=True):
        print(f"{C:10.2g}   {mean:.4f} +- {spread:.4f}{'   chosen' if model.C_ == C else ''}")
    print(f"{losses.size} fits, their scores and the fit to all rows: {model.n_sweeps_} reads of the data")
    print(f"log loss {-score:.4f} on {test.n_rows:,} rows that were not trained on")
    return model, score


if __name__ == "__main__":
    main()
