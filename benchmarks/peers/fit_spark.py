"""Spark MLlib on two threads of one machine, from Parquet, which ``--prepare`` writes from the store.

Every limit of iterations is a fit of its own that reads the files anew, and caches them as MLlib does. One
fit before the clock runs warms the compiler of the Java machine.
"""

import os
import shutil

import zarr
from report import Clock, arguments

BLOCK = 500_000


def prepare(store, folder):
    """Parquet files of a label and an array of floats."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    group = zarr.open_group(store, mode="r")
    n, p = group["X"].shape
    for start in range(0, n, BLOCK):
        X, y = group["X"][start : start + BLOCK], group["y"][start : start + BLOCK]
        values = pa.FixedSizeListArray.from_arrays(X.ravel(), p).cast(pa.list_(pa.float32()))
        table = pa.table({"label": y.astype(float), "values": values})
        pq.write_table(table, folder / f"{start:012}.parquet")


def session(scratch):
    from pyspark.sql import SparkSession

    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**21
    made = SparkSession.builder.master("local[2]").config("spark.driver.memory", f"{half}m")
    for name, value in {
        "ui.enabled": "false",
        "ui.showConsoleProgress": "false",
        "driver.host": "127.0.0.1",
        "driver.bindAddress": "127.0.0.1",
        "local.dir": str(scratch),
    }.items():
        made = made.config(f"spark.{name}", value)
    return made.getOrCreate()


if __name__ == "__main__":
    asked, report = arguments()
    folder = asked.scratch / f"{asked.store.stem}.parquet"
    if asked.prepare:
        clock = Clock()
        prepare(asked.store, folder)
        report.event("convert", seconds=clock.seconds)
        raise SystemExit
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.functions import array_to_vector

    spark = session(asked.scratch)
    spark.sparkContext.setLogLevel("ERROR")

    def fit(limit):
        rows = spark.read.parquet(str(folder)).select("label", array_to_vector("values").alias("features"))
        solver = LogisticRegression(regParam=asked.penalty, standardization=False, maxIter=limit, tol=1e-12)
        return solver.fit(rows)

    fit(1)
    for limit in (5, 10, 20, 40, 80, 160):
        clock = Clock()
        model = fit(limit)
        seconds = clock.seconds
        w, b = model.coefficients.toArray(), model.intercept
        iterations = model.summary.totalIterations
        report.point(limit, seconds, w, b, iterations=iterations)
        if iterations < limit:
            break
    spark.stop()
