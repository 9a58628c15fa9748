"""daskgd on a table in Parquet: ingested, encoded and fitted, at tolerances from 1e-3 to 1e-6, on two threads
of this process. The variant is `memory`."""

import warnings

from report import Clock, arguments
from table_columns import TARGET, encoder

if __name__ == "__main__":
    import dask
    import numpy as np

    import daskgd

    asked, report = arguments()
    warnings.simplefilter("ignore")
    dask.config.set(num_workers=2)
    daskgd.LogisticRegression().fit(np.arange(8.0).reshape(4, 2), [0, 1, 0, 1])  # imports
    store = asked.scratch / f"{asked.store.stem}.zarr"
    clock = Clock()
    daskgd.ingest(asked.store, store, target=TARGET, overwrite=True)
    report.event("load", seconds=clock.seconds)
    n = daskgd.open_dataset(store).n_rows
    memory = asked.variant if asked.variant in ("auto", "1GB") else 0
    for exponent in range(3, 7):
        estimator = daskgd.LogisticRegression(C=1 / (asked.penalty * n), tol=10.0**-exponent, memory=memory)
        clock = Clock()
        model = daskgd.make_pipeline(encoder(), estimator).fit(store)[-1]
        seconds = clock.seconds
        report.point(f"1e-{exponent}", seconds, model.coef_, model.intercept_[0], sweeps=model.n_sweeps_)
