"""scikit-learn's SGDClassifier, ``partial_fit`` chunk by chunk over zarr: averaged, with a constant rate."""

import numpy as np
import zarr
from report import Clock, Recorder, arguments
from sklearn.linear_model import SGDClassifier

if __name__ == "__main__":
    asked, report = arguments()
    clock = Clock()
    record = Recorder(report, clock)
    group = zarr.open_group(asked.store, mode="r")
    X, y = group["X"], group["y"]
    n, rows = X.shape[0], X.chunks[0]
    model = SGDClassifier("log_loss", alpha=asked.penalty, average=True, learning_rate="constant", eta0=0.005)
    while True:  # until it is killed
        for start in range(0, n, rows):
            part = slice(start, start + rows)
            model.partial_fit(X[part], y[part], classes=np.array([0, 1]))
            sweeps = round(model.t_ / n, 2)
            record(lambda: (model.coef_, model.intercept_[0]), sweeps=sweeps)
