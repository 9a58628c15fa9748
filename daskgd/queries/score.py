"""The query of how well a model predicts. Knows problems; no estimator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.losses import TargetSummary
from daskgd.problems import Problem
from daskgd.queries.base import Query, columns, one_column, summed, total_weight
from daskgd.queries.sums import Sums
from daskgd.queries.survey import no_label, refuse, same_kind
from daskgd.rows.invalid_rows import InvalidRows
from daskgd.rows.statistics import Moments
from daskgd.rows.tiles import Tile

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Score(Query):
    """The score of the predictions at `w` ``(d,)``: answers the weighted accuracy, of several labels a row
    the share of rows in which all are right; for numeric targets R2, averaged over them; or with `deviance`
    D2, the share of the null model's deviance that is explained.

    The null model predicts the mean target m at every row, by the best constant margin z(m). As
    ``value(z, y) - value(z(1), y)`` is linear in y, its deviance needs no second sweep:
    ``sum_i s_i value(z(1), y_i) + W (value(z(m), m) - value(z(1), m))``.
    """

    name: ClassVar[str] = "score"
    w: Array
    deviance: bool = False

    def tile(self, problem: Problem, tile: Tile) -> Sums:
        assert tile.y is not None
        z, y, s = problem.margins(self.w, tile.X), tile.y, tile.sample_weight
        bad_X = InvalidRows()
        if not np.isfinite(z).all():  # float32 may have overflowed
            z = problem.margins(self.w, tile.X.astype(np.float64))
            bad_X = tile.X.nonfinite(tile.numbers)
        elif not problem.model.linear:  # units saturate: margins may be finite where X is not
            bad_X = tile.X.nonfinite(tile.numbers)
        bad_y, bad_s = InvalidRows.nonfinite(y, tile.numbers), InvalidRows.weights(s, tile.numbers)
        found = {"n_rows": len(z), "bad_X": bad_X, "bad_y": bad_y, "bad_s": bad_s}
        if bad_s.rows:
            s = None
        if problem.labels is not None:
            y = one_column(y)
            found["bad_y"] = InvalidRows.of(no_label(y), y, tile.numbers)
            same_kind(problem.labels, y)
            codes = z > 0 if z.ndim == 1 else z.argmax(axis=1)
            hit = problem.labels[np.minimum(codes.astype(np.intp), len(problem.labels) - 1)] == y
            if problem.class_weight is not None:
                c = problem.class_weight[np.searchsorted(problem.labels, y).clip(0, len(problem.labels) - 1)]
                s = c if s is None else s * c
            return Sums(hit=summed(hit, s), weight=total_weight(tile, s), **found)
        if problem.loss.indicator:
            y = columns(y)
            hit = ((z.reshape(y.shape) > 0) == (y == 1)).all(axis=1)
            return Sums(hit=summed(hit, s), weight=total_weight(tile, s), **found)
        y = columns(y).astype(np.float64)
        offset = 0.0 if problem.offset is None else problem.offset
        if self.deviance:
            z = z.reshape(y.shape).astype(np.float64) + offset
            value, plain = (_deviance(problem, at, y) for at in (z, _of_mean_1(problem, y)))
            return Sums(
                value=summed(value, s),
                plain=summed(plain, s),
                y=Moments.of(y, s),
                weight=total_weight(tile, s),
                **found,
            )
        y = y - offset
        with np.errstate(over="ignore"):
            miss = (z.reshape(y.shape) - y) ** 2
        return Sums(miss=summed(miss, s), y=Moments.of(y, s), weight=total_weight(tile, s), **found)

    def answer(self, problem: Problem, sums: Sums) -> float:
        refuse(sums)
        weight = float(sums["weight"])
        if "hit" in sums:
            return float(sums["hit"]) / weight
        if sums["n_rows"] < 2:
            return float("nan")  # the mean of one row leaves nothing to explain
        # scikit-learn's convention for a constant target: 1 if predicted perfectly, else 0.
        if "plain" in sums:
            mean = sums["y"].mean[None, :]
            best = problem.loss.constant(TargetSummary(mean=sums["y"].mean))[None, :]
            gain = _deviance(problem, best, mean) - _deviance(problem, _of_mean_1(problem, mean), mean)
            miss, total = sums["value"], sums["plain"] + weight * float(gain[0])
            rounding = 64 * np.finfo(float).eps * (abs(sums["plain"]) + weight)
            total, miss = (0.0 if abs(v) <= rounding else v for v in (total, miss))
        else:
            miss, total = sums["miss"], sums["y"].deviation
        r2 = np.where(total > 0, 1 - miss / np.where(total > 0, total, 1), np.where(miss > 0, 0.0, 1.0))
        return float(np.mean(r2))


def _of_mean_1(problem: Problem, y: Array) -> Array:
    """The margins of the best constant model of targets whose mean is 1, in the shape of y ``(n, k)``."""
    constant = problem.loss.constant(TargetSummary(mean=np.ones(y.shape[1])))
    return np.broadcast_to(constant, y.shape)


def _deviance(problem: Problem, z: Array, y: Array) -> Array:
    """Half the deviance of each row ``(n,)``, of margins and targets ``(n, k)`` in float64."""
    k = z.shape[1]
    y = problem.loss.targets(y, k, np.dtype(float))
    out: Array = problem.loss.value(z if k > 1 else z[:, 0], y)
    return out
