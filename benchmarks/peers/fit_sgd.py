"""scikit-learn's SGDClassifier, averaged, with a constant rate: ``partial_fit`` chunk by chunk over zarr.

Sparse rows are in memory, in parts of a tenth, and the rate falls with the fourth root of the steps: of six
settings that were tried on the click log it came lowest in four passes. The default rate, made for larger
penalties, is far above the minimum after as many.
"""

import numpy as np
import zarr
from report import Clock, Recorder, arguments, load
from sklearn.linear_model import SGDClassifier

if __name__ == "__main__":
    asked, report = arguments()
    clock = Clock()
    group = zarr.open_group(asked.store, mode="r")
    if sparse := isinstance(group["X"], zarr.Group):
        X, y = load(asked.store, report)
        clock = Clock()
    else:
        X, y = group["X"], group["y"]
    record = Recorder(report, clock)
    n, rows = X.shape[0], -(-X.shape[0] // 10) if sparse else X.chunks[0]
    rate = {"learning_rate": "constant", "eta0": 0.005, "average": True}
    if sparse:
        rate = {"learning_rate": "invscaling", "eta0": 2.0, "power_t": 0.25}
    model = SGDClassifier("log_loss", alpha=asked.penalty, **rate)
    while True:  # until it is killed
        for start in range(0, n, rows):
            part = slice(start, start + rows)
            model.partial_fit(X[part], y[part], classes=np.array([0, 1]))
            sweeps = round(model.t_ / n, 2)
            record(lambda: (model.coef_, model.intercept_[0]), sweeps=sweeps)
