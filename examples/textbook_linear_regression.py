"""Gradient descent by hand and in parallel: four rows, a thousand steps, the same numbers in every way.

The plane y = x w + b through four points, by ``w <- w - 0.01 g`` from zero. *Parallel*: the blocks add up one
gradient, and there is one step. *Distributed*: every partition takes its own step, and the results are
averaged. With one step per round and partitions of equal weight the two are the same method.
"""

import tempfile

import numpy as np

import daskgd

X = np.array([[1.0, 2.0], [2.0, 3.0], [3.0, 4.0], [4.0, 5.0]])
y = np.array([2.0, 3.0, 4.0, 5.0])


def by_hand(step=0.01, iterations=1000):
    """The textbook: no classes, no blocks."""
    w, b = np.zeros(2), 0.0
    for _ in range(iterations):
        r = X @ w + b - y
        w, b = w - step * X.T @ r / len(y), b - step * r.mean()
    return w, b


def main():
    """The coefficients and intercept of every way, by name."""
    results = {"by hand": by_hand()}

    def fit(name, data, solver, engine=None):
        model = daskgd.LinearRegression(solver=solver, max_iter=1000, tol=0, engine=engine).fit(*data)
        results[name] = (model.coef_, model.intercept_)

    descent = daskgd.GradientDescent(step=0.01)
    fit("parallel, arrays", (X, y), descent)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/rows.zarr"
        daskgd.write_dataset(path, X, y, chunk_bytes=16)  # two numbers of 8 bytes: a chunk per row
        rows = daskgd.open_dataset(path, block_bytes=1, partition_bytes=1)  # a partition per row
        for engine in ("serial", "threads"):
            fit(f"parallel, {engine}", (rows,), descent, engine)
            local = daskgd.LocalGD(step=0.01, local_steps=1)
            fit(f"distributed, {engine}", (rows,), local, engine)

    for name, (w, b) in results.items():
        print(f"{name:22} w = {w[0]:.14f} {w[1]:.14f}   b = {b:.14f}")
    return results


if __name__ == "__main__":
    main()
