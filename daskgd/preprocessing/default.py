"""The encoder of a table for which none is given."""

from __future__ import annotations

import os
from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from daskgd.data.convert import as_dataset
from daskgd.data.dataset import Dataset
from daskgd.data.schema import TEMPORAL
from daskgd.preprocessing.dates import calendar, calendar_names, days, days_names

IDENTIFIERS = 0.5
"""Categories for each row from which on a column tells rows apart, not kinds of them."""

SHOWN = 12
"""Names of columns that are shown."""


def default_encoder(
    data: Dataset | str | os.PathLike[str], *, min_frequency: int = 10, max_categories: int = 1000
) -> ColumnTransformer:
    """Make an encoder of scikit-learn's, unfitted, that suits the columns of a table.

    Categories become zeros and ones, the rare ones together; numbers and bools are standardised, with the
    mean and an indicator in the place of what is missing; dates become the days since 1970, standardised, and
    their month, day of the week and hour, as categories. Columns most of whose rows have a category of their
    own, such as identifiers, are left out. Nothing is read but the schema.

    Parameters
    ----------
    data : Dataset or path
    min_frequency : int
        Rows below which a category is rare.
    max_categories : int
        Columns that a categorical column becomes at most: beyond, the rarest categories are taken together.

    Returns
    -------
    sklearn.compose.ColumnTransformer
        Print it, change it, pass it to :func:`daskgd.make_pipeline`.

    Raises
    ------
    ValueError
        If no column is left.

    Examples
    --------
    >>> import daskgd, tempfile
    >>> path = tempfile.mkdtemp() + "/colours.zarr"
    >>> rows = daskgd.OneHot([[0], [1], [-1]], [["blue", "red"]], [[1.0], [2.0], [4.0]], columns=["colour"])
    >>> daskgd.write_dataset(path, rows, [1.0, 2.0, 3.0])
    >>> encoder = daskgd.default_encoder(path)
    >>> [(name, columns) for name, _, columns in encoder.transformers]
    [('numbers', ['x0']), ('categories', ['colour'])]
    """
    dataset = as_dataset(data)
    numbers, categories, dates = [], [], []
    for name, column in dataset.schema.items():
        if column.kind == "category":
            if (column.n_categories or 0) <= max(IDENTIFIERS * dataset.n_rows, 2):
                categories.append(name)
        elif column.kind in TEMPORAL:
            dates.append(name)
        else:
            numbers.append(name)
    scaled = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    grouped = OneHotEncoder(
        handle_unknown="infrequent_if_exist", min_frequency=min_frequency, max_categories=max_categories
    )
    parts: list[tuple[str, Any, list[str]]] = []
    # What is dense side by side, then all zeros and ones: products are fastest so.
    if numbers:
        parts.append(("numbers", scaled, numbers))
    if dates:
        trend = FunctionTransformer(days, feature_names_out=days_names)
        parts.append(("days", make_pipeline(trend, SimpleImputer(), StandardScaler()), dates))
    if categories:
        parts.append(("categories", grouped, categories))
    kinds = [name for name in dates if dataset.schema[name].kind == "date"]
    if kinds:
        cycles = FunctionTransformer(calendar, feature_names_out=calendar_names)
        parts.append(("calendar", make_pipeline(cycles, OneHotEncoder(handle_unknown="ignore")), kinds))
    if not parts:
        raise ValueError(
            "default_encoder: expected a column that is not an identifier, got "
            f"{', '.join(dataset.schema)}; give an encoder of your own to daskgd.make_pipeline"
        )
    return ColumnTransformer(parts, verbose_feature_names_out=False)


def describe(encoder: ColumnTransformer, dataset: Dataset) -> list[str]:
    """What an encoder does with the columns of a table, in lines of text."""
    words = {
        "numbers": "gaps filled with the mean and indicated, standardised",
        "categories": "zeros and ones, rare categories together",
        "days": "days since 1970, standardised",
        "calendar": "month, day of the week and hour as zeros and ones",
    }
    said = [f"encoder: {words[name]}: {_shortened(columns)}" for name, _, columns in encoder.transformers]
    used = {name for _, _, columns in encoder.transformers for name in columns}
    left = [name for name in dataset.schema if name not in used]
    return said + (
        [f"encoder: left out, as most rows have a value of their own: {_shortened(left)}"] if left else []
    )


def _shortened(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def needs_encoder(dataset: Dataset) -> bool:
    """Whether a table has columns that an estimator does not take as they are: text, dates, gaps."""
    return dataset.feature_names is not None and any(
        column.kind == "category" or column.kind in TEMPORAL or bool(column.n_missing)
        for column in dataset.schema.values()
    )
