"""Dates and times as numbers, for encoders: what a model can use of them."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["calendar", "calendar_names", "days", "days_names"]

DAY = 86_400.0


def days(frame: Any) -> Any:
    """The days since 1970 of each column of dates, the days that durations and times of day are: a frame
    of floats, NaN where a value is missing.

    >>> import pandas as pd
    >>> days(pd.DataFrame({"at": pd.to_datetime(["1970-01-02 12:00", None])}))["at"].tolist()
    [1.5, nan]
    """
    return type(frame)({name: _days(frame[name]) for name in frame.columns}, index=frame.index)


def _days(column: Any) -> Any:
    if column.dtype.kind == "m":
        return column.dt.total_seconds() / DAY
    plain = column.dt.tz_convert(None) if getattr(column.dt, "tz", None) is not None else column
    seconds = plain.to_numpy(dtype="datetime64[us]").view(np.int64) / 1e6
    return np.where(plain.isna(), np.nan, seconds / DAY)


def calendar(frame: Any) -> Any:
    """The month, the day of the week, from 0 for Monday on, and the hour of each column of dates, the hour
    alone of times of day: a frame of floats, NaN where a value is missing.

    >>> import pandas as pd
    >>> calendar(pd.DataFrame({"at": pd.to_datetime(["1970-01-02 12:00"])})).to_dict("list")
    {'at_month': [1.0], 'at_day_of_week': [4.0], 'at_hour': [12.0]}
    """
    columns: dict[str, Any] = {}
    for name in frame.columns:
        column = frame[name]
        if column.dtype.kind == "m":
            columns[f"{name}_hour"] = np.floor(column.dt.total_seconds() / 3600)
            continue
        for part in ("month", "day_of_week", "hour"):
            columns[f"{name}_{part}"] = getattr(column.dt, part).astype(np.float64)
    return type(frame)(columns, index=frame.index)


def days_names(transformer: Any, names: Any) -> Any:
    """The names of what :func:`days` makes."""
    return np.array([f"{name}_days" for name in names], dtype=object)


def calendar_names(transformer: Any, names: Any) -> Any:
    """The names of what :func:`calendar` makes of columns of dates."""
    return np.array(
        [f"{name}_{part}" for name in names for part in ("month", "day_of_week", "hour")], dtype=object
    )
