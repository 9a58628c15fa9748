"""glum on a table in Parquet, in memory: categories stay codes, as tabmat has them, and iterated least
squares use that structure. What is told as loading is reading, filling of gaps and scaling."""

import warnings

import numpy as np
import pyarrow.parquet as pq
from fit_glum import fit
from report import Clock, arguments
from table_columns import CATEGORIES, NUMBERS, POSITIVE, TARGET

if __name__ == "__main__":
    asked, report = arguments()
    warnings.simplefilter("ignore")
    clock = Clock()
    table = pq.read_table(
        asked.store, columns=[*NUMBERS, *CATEGORIES, TARGET], read_dictionary=[*CATEGORIES, TARGET]
    )
    frame = table.to_pandas()
    del table
    y = (frame.pop(TARGET) == POSITIVE).to_numpy().astype(float)
    for name in NUMBERS:
        values = frame[name].to_numpy(np.float64)
        values = np.where(np.isnan(values), np.nanmean(values), values)
        frame[name] = (values - values.mean()) / values.std()
    for name in CATEGORIES:
        found = frame[name].astype("category").cat
        frame[name] = found.set_categories(sorted(found.categories))
    report.event("load", seconds=clock.seconds)
    fit(frame, y, asked, report)
