"""Metrics with the names, parameters and values of scikit-learn's, of arrays that need not fit in memory.

Of arrays in memory they are scikit-learn's own. Where one of the arguments is a dask array (or a series or
frame of dask), chunks of targets and predictions are read together, once, each becomes a statistic, and these
are added in a tree: no array is gathered. Sums agree with scikit-learn to rounding; what scores and errors
that are ranked lose by it is said by each function.

>>> import dask.array as da
>>> y = da.from_array(np.tile([0, 1, 1, 0], 1000), chunks=500)
>>> p = da.from_array(np.tile([0.2, 0.9, 0.4, 0.5], 1000), chunks=500)
>>> log_loss(y, p), roc_auc_score(y, p), f1_score(y, p > 0.45)
(0.484..., 0.75, 0.5)
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import dask
import dask.array as da
import numpy as np
from numpy.typing import NDArray

from daskgd.metrics.kinds.base import Metric, key_of, statistic_of
from daskgd.metrics.kinds.scores import Bounds
from daskgd.metrics.statistics import Predicted, Targets
from daskgd.metrics.table import TABLE, Entry, metric
from daskgd.rows.invalid_rows import InvalidRows

Array = NDArray[Any]


def is_lazy(value: Any) -> bool:
    """Whether values are computed by dask."""
    return isinstance(value, da.Array) or hasattr(value, "to_dask_array")


def _as_lazy(value: Any) -> Any:
    """A dask array of a dask array, series or frame; an array of what is in memory."""
    if isinstance(value, da.Array):
        return value
    if hasattr(value, "to_dask_array"):
        found = value.to_dask_array()
        return found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found
    return np.asarray(value)


def _delayed_chunks(arrays: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The chunks of rows of arrays in memory and of dask, aligned: of each chunk the parts, or None for what
    is not there."""
    given = {name: _as_lazy(value) for name, value in arrays.items() if value is not None}
    lazy = {name: value for name, value in given.items() if isinstance(value, da.Array)}
    unknown = [name for name, value in lazy.items() if np.isnan(value.shape[0])]
    counts = {value.numblocks[0] for value in lazy.values()}
    if unknown and (len(unknown) < len(given) or len(counts) > 1):
        for name in unknown:
            given[name] = lazy[name] = lazy[name].compute_chunk_sizes()
        unknown = []
    if not unknown:
        rows = {name: value.shape[0] for name, value in given.items()}
        if len(set(rows.values())) > 1:
            raise ValueError(f"Found input variables with inconsistent numbers of samples: {rows}")
        chunks = next(value.chunks[0] for value in lazy.values())
        bounds = np.cumsum((0, *chunks))
    parts: dict[str, list[Any]] = {}
    for name, value in given.items():
        if isinstance(value, da.Array):
            value = value.rechunk({j: -1 for j in range(1, value.ndim)})
            value = value if unknown else value.rechunk({0: chunks})
            parts[name] = list(value.to_delayed().reshape(-1))
        else:
            parts[name] = [value[a:b] for a, b in pairwise(bounds)]
    n = len(next(iter(parts.values())))
    return [tuple(parts[name][i] if name in parts else None for name in arrays) for i in range(n)]


def statistics(metrics: list[Metric], y: Any, p: Any, s: Any = None) -> list[Any]:
    """The statistics of metrics of the same targets, predictions and weights, in one read of them."""
    pending = [
        dask.delayed(_of_chunk)(metrics, i, *chunk)
        for i, chunk in enumerate(_delayed_chunks({"y_true": y, "y_pred": p, "sample_weight": s}))
    ]
    while len(pending) > 1:
        rest = pending[2 * (len(pending) // 2) :]
        pairs = zip(pending[::2], pending[1::2], strict=False)
        pending = [*(dask.delayed(_added)(a, b) for a, b in pairs), *rest]
    (found,) = dask.compute(pending[0])
    if found is None:
        raise ValueError("y_true: expected at least one row of positive weight, got none")
    return list(found)


def _of_chunk(metrics: list[Metric], chunk: int, y: Array, p: Array, s: Array | None) -> list[Any] | None:
    """The statistics of a chunk; None without rows."""
    y, p = np.asarray(y), np.asarray(p)
    s = None if s is None else np.asarray(s, dtype=np.float64).reshape(len(s))
    lengths = {len(part) for part in (y, p, s) if part is not None}
    if len(lengths) > 1:
        raise ValueError(
            "expected chunks of y_true, y_pred and sample_weight of equal length, got "
            f"{sorted(lengths)} rows in chunk {chunk}"
        )
    for name, values in (("y_true", y), ("y_pred", p), ("sample_weight", s)):
        if values is not None:
            bad = InvalidRows.nonfinite(values, 0).first
            if bad is not None:
                what = "NaN" if np.isnan(bad.value) else "infinity"
                raise ValueError(
                    f"Input {name} contains {what}: got {bad.value} in row {bad.row} of chunk {chunk}"
                )
    if s is not None:
        if (s < 0).any():
            raise ValueError(f"sample_weight: expected weights >= 0, got {s.min()} in chunk {chunk}")
        if not s.all():
            y, p, s = y[s > 0], p[s > 0], s[s > 0]
    if not len(y):
        return None
    y = y.reshape(len(y)) if y.ndim == 2 and y.shape[1] == 1 and p.ndim == 1 else y
    rows, found = Predicted(Targets(y, s), p), {}
    for one in metrics:
        if key_of(one) not in found:
            found[key_of(one)] = statistic_of(one, rows)
    return [found[key_of(one)] for one in metrics]


def _added(a: list[Any] | None, b: list[Any] | None) -> list[Any] | None:
    if a is None or b is None:
        return b if a is None else a
    return [x + y for x, y in zip(a, b, strict=True)]


def _define(name: str) -> Callable[..., Any]:
    """The function of an entry of the table."""
    entry: Entry = TABLE[name]
    signature = inspect.signature(entry.function)
    first, second = list(signature.parameters)[:2]

    def function(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs).arguments
        if not any(is_lazy(value) for value in bound.values()):
            return entry.function(*args, **kwargs)
        settings = {k: v for k, v in bound.items() if k not in (first, second, "sample_weight")}
        y, p, s = bound.get(first), bound.get(second), bound.get("sample_weight")
        if p is None:
            raise TypeError(f"{name}: expected {second}, got None")
        made = metric(name, settings)
        return made.value(statistics([made], y, p, s)[0])

    function.__name__ = function.__qualname__ = name
    function.__doc__ = _docstring(name, entry, list(signature.parameters))
    function.__signature__ = signature  # type: ignore[attr-defined]
    return function


def _docstring(name: str, entry: Entry, parameters: list[str]) -> str:
    """The docstring of an entry of the table, whose function has these parameters."""
    package = entry.function.__module__.split(".")[1]
    what = (
        f"scikit-learn's :func:`sklearn.{package}.{name}`, with its parameters, of arrays in memory or of "
        f"dask, which are read once, chunk by chunk. What is summed up: {entry.by}."
    )
    first, second, *others = parameters
    rest = f"{', '.join(others)} :\n    As in scikit-learn. Rows of weight 0 are absent.\n" if others else ""
    return f"""{entry.about}

{textwrap.fill(what, 100, break_on_hyphens=False, break_long_words=False)}

Parameters
----------
{first}, {second} : array of numpy or dask, or what scikit-learn takes
    Chunks need not be the same.
{rest}
Returns
-------
As in scikit-learn.

Raises
------
ValueError
    For what scikit-learn refuses, NaN and infinity, with the chunk.
"""


accuracy_score = _define("accuracy_score")
balanced_accuracy_score = _define("balanced_accuracy_score")
precision_score = _define("precision_score")
recall_score = _define("recall_score")
f1_score = _define("f1_score")
fbeta_score = _define("fbeta_score")
jaccard_score = _define("jaccard_score")
precision_recall_fscore_support = _define("precision_recall_fscore_support")
confusion_matrix = _define("confusion_matrix")
classification_report = _define("classification_report")
class_likelihood_ratios = _define("class_likelihood_ratios")
cohen_kappa_score = _define("cohen_kappa_score")
matthews_corrcoef = _define("matthews_corrcoef")
zero_one_loss = _define("zero_one_loss")
hamming_loss = _define("hamming_loss")
log_loss = _define("log_loss")
brier_score_loss = _define("brier_score_loss")
hinge_loss = _define("hinge_loss")
d2_log_loss_score = _define("d2_log_loss_score")
d2_brier_score = _define("d2_brier_score")
roc_auc_score = _define("roc_auc_score")
average_precision_score = _define("average_precision_score")
roc_curve = _define("roc_curve")
precision_recall_curve = _define("precision_recall_curve")
det_curve = _define("det_curve")
calibration_curve = _define("calibration_curve")
top_k_accuracy_score = _define("top_k_accuracy_score")
r2_score = _define("r2_score")
explained_variance_score = _define("explained_variance_score")
mean_squared_error = _define("mean_squared_error")
root_mean_squared_error = _define("root_mean_squared_error")
mean_absolute_error = _define("mean_absolute_error")
median_absolute_error = _define("median_absolute_error")
mean_absolute_percentage_error = _define("mean_absolute_percentage_error")
mean_squared_log_error = _define("mean_squared_log_error")
root_mean_squared_log_error = _define("root_mean_squared_log_error")
max_error = _define("max_error")
mean_pinball_loss = _define("mean_pinball_loss")
mean_poisson_deviance = _define("mean_poisson_deviance")
mean_gamma_deviance = _define("mean_gamma_deviance")
mean_tweedie_deviance = _define("mean_tweedie_deviance")
d2_absolute_error_score = _define("d2_absolute_error_score")
d2_pinball_score = _define("d2_pinball_score")
d2_tweedie_score = _define("d2_tweedie_score")


def roc_auc_bounds(y_true: Any, y_score: Any, *, sample_weight: Any = None) -> tuple[float, float]:
    """Bounds of the area under the ROC curve, between which it lies where scores are rounded.

    :func:`roc_auc_score` of dask arrays knows more than 4,096 distinct scores to a relative step of 2**-10.
    Of two rows of different labels in the same cell it cannot tell the order, and counts a half; the bounds
    are those of all such pairs in either order: ``roc_auc_score -+ sum_c P_c N_c / (2 P N)``, ``P_c`` and
    ``N_c`` being the weights of the labels in cell c, P and N those in all.

    Parameters
    ----------
    y_true, y_score, sample_weight :
        As of :func:`roc_auc_score`, of two labels.

    Returns
    -------
    (low, high) : floats
        The same where nothing was rounded.

    Examples
    --------
    >>> import dask.array as da
    >>> y, p = da.arange(8, chunks=4) % 2, da.arange(8, chunks=4) / 8
    >>> roc_auc_bounds(y, p)
    (0.625, 0.625)
    """
    made = Bounds()
    if not any(map(is_lazy, (y_true, y_score, sample_weight))):
        y_true = da.from_array(np.asarray(y_true), chunks=-1)
    low, high = made.value(statistics([made], y_true, y_score, sample_weight)[0])
    return low, high
