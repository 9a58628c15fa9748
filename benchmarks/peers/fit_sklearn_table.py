"""scikit-learn's pipeline on a table in Parquet, in memory: read by pandas, encoded, and fitted by the solver
that is the variant, as in `fit_sklearn`. What is told as loading is reading and encoding."""

import warnings

import pandas as pd
from fit_sklearn import fit
from report import Clock, arguments
from table_columns import CATEGORIES, NUMBERS, POSITIVE, TARGET, encoder

if __name__ == "__main__":
    asked, report = arguments()
    warnings.simplefilter("ignore")
    clock = Clock()
    frame = pd.read_parquet(asked.store, columns=[*NUMBERS, *CATEGORIES, TARGET])
    y = (frame.pop(TARGET) == POSITIVE).to_numpy().astype(int)
    X = encoder().fit_transform(frame)
    del frame
    report.event("load", seconds=clock.seconds)
    fit(X, y, asked, report)
