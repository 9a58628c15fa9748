"""Out of core: rows that the workers together have no memory for, written block by block and trained on.

The rows exist only one block at a time, here and in the workers: each task streams its share of the dataset,
and what travels is sums. The split into train and test is a view, chosen by a hash of the row's number.
"""

import tempfile
import time

import numpy as np
from distributed import Client, LocalCluster

import daskgd

FEATURES = 64
BLOCK_ROWS = 50_000
WORKERS, LIMIT = 2, 360_000_000  # bytes, of which a worker that trains takes about 110 MB


def blocks(rows, seed=0):
    """Blocks of rows X, y: two classes that overlap, the same for the same seed."""
    w = np.random.default_rng(seed).standard_normal(FEATURES, dtype=np.float32)
    for i, start in enumerate(range(0, rows, BLOCK_ROWS)):
        random = np.random.default_rng([seed, i])
        X = random.standard_normal((min(BLOCK_ROWS, rows - start), FEATURES), dtype=np.float32)
        y = X @ w / 4 + random.logistic(size=len(X)) > 0
        yield X, np.where(y, "yes", "no")


def main(rows=3_000_000):
    """Write, split, train, score; the fitted model and its score."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/rows.zarr"
        began = time.perf_counter()
        daskgd.write_dataset(path, blocks(rows), chunk_bytes=4_000_000)
        dataset = daskgd.open_dataset(path)
        print(dataset)
        print(f"written in {time.perf_counter() - began:.1f} s")
        share = dataset.nbytes / (WORKERS * LIMIT)
        print(
            f"{WORKERS} workers with {LIMIT / 1e6:.0f} MB each: the rows are {share:.1f} times their memory"
        )

        with (
            LocalCluster(
                n_workers=WORKERS, threads_per_worker=1, memory_limit=LIMIT, dashboard_address=":0"
            ) as cluster,
            Client(cluster),  # estimators use the current client
        ):
            train, test = dataset.train_test_split(0.1, random_state=1)
            model = daskgd.LogisticRegression().fit(train)
            score = model.score(test)

    for row in model.history_:
        print("iteration {iteration}  sweeps {sweeps}  loss {loss:.8f}  gap {gap:.1e}".format(**row))
    seconds, read = model.history_[-1]["seconds"], model.history_[-1]["bytes"]
    rate = read / seconds / 1e9
    print(f"{model.n_sweeps_} sweeps and the work between them in {seconds:.1f} s: {rate:.2f} GB/s")
    print(f"accuracy {score:.4f} on {test.n_rows:,} rows that were not trained on")
    return model, score


if __name__ == "__main__":  # workers are new processes, and import this file
    main()
