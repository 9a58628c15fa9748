"""The objective: a loss, a model and a penalty, as one function of the parameters.

:class:`Problem` joins a loss, a model and a penalty into

    f(w) = (1 / W) sum_i s_i loss(z_i(w), y_i) + penalty(w),    W = sum_i s_i,

and turns stored labels into the targets of the loss. Knows rows as far as their targets and weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.losses import Loss
from daskgd.models import VJP, Linear, Model
from daskgd.models.base import forward, margins
from daskgd.penalties import Penalty
from daskgd.rows.features import Features
from daskgd.rows.subsets import Subset
from daskgd.rows.tiles import Rows, Tile

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """An objective: the weighted mean of a loss of a model's margins, plus a penalty on its parameters.

    Attributes
    ----------
    loss, model, penalty :
        The three parts.
    labels : (k,) or None
        For classification: the stored labels in sorted order; a label's position is its code.
    class_weight : (k,) or None
        Factor on the weight of the rows of each class.
    offset : (k,) or None
        For regression: subtracted from the targets in float64, before they are cast to the dtype of X;
        intercepts are relative to it. So targets far from 0 keep the digits in which they differ.
    subset : Subset or None
        The rows of the data that count, by their numbers: others have no weight, whatever their labels. Of
        problems in sweeps only; solvers see what a problem is on rows in memory, which have other numbers.
    """

    loss: Loss
    model: Model
    penalty: Penalty
    labels: Array | None = None
    class_weight: Array | None = None
    offset: Array | None = None
    subset: Subset | None = None

    @property
    def linear(self) -> Linear:
        """The model, for solvers that declare that they need a linear one."""
        assert isinstance(self.model, Linear)
        return self.model

    def same_targets(self, other: Problem) -> bool:
        """Whether both problems make the same targets and weights of the rows, for the same loss."""
        same = (
            np.array_equal(getattr(self, name), getattr(other, name))
            if getattr(self, name) is not None and getattr(other, name) is not None
            else getattr(self, name) is getattr(other, name)
            for name in ("labels", "class_weight", "offset")
        )
        return (
            self.loss == other.loss
            and self.model.outputs == other.model.outputs
            and self.subset == other.subset
            and all(same)
        )

    def codes(self, y: Array, numbers: int | Array = 0) -> Array:
        """Turn stored labels into codes 0..k-1; ValueError with the row for one that is not among `labels`.

        `numbers` as those of a :class:`Tile`.
        """
        labels = self.labels
        assert labels is not None
        y = y.reshape(len(y))
        if len(labels) == 2:
            hit = y == labels[1]
            out = hit.view(np.int8)
            known = np.count_nonzero(hit) + np.count_nonzero(y == labels[0]) == len(y)
        elif labels.dtype.kind in "iu" and np.array_equal(labels, np.arange(len(labels))):
            out = y.astype(np.intp)
            known = not len(out) or bool(out.min() >= 0 and out.max() < len(labels))
        else:
            out = np.minimum(np.searchsorted(labels, y), len(labels) - 1)
            known = bool((labels[out] == y).all())
        if not known:
            i = int(np.argmin(np.isin(y, labels)))
            row = numbers[i] if isinstance(numbers, np.ndarray) else numbers + i
            raise ValueError(
                f"y: expected labels among {labels.tolist()[:20]}, as the first sweep found them, got "
                f"{y[i : i + 1].tolist()[0]!r} in row {row}; the data must not change while it is fitted"
            )
        return out

    def forward(self, w: Array, X: Features) -> tuple[Array, VJP]:
        """The model's margins of these rows, and their vector-Jacobian product: see ``Model.forward``."""
        return forward(self.model, w, X)

    def margins(self, w: Array, X: Features) -> Array:
        """The model's margins of these rows."""
        return margins(self.model, w, X)

    def make_targets(self, tile: Tile) -> tuple[Array, Array | None]:
        """Make the targets of a tile for the loss, and its float64 weights ``(n,)`` or None."""
        assert tile.y is not None
        y, s = tile.y, tile.sample_weight
        if self.subset is not None:
            y, s = self._within(self.subset.among(tile.cells(self.subset.cells)), y, s)
        if self.labels is not None:
            y = self.codes(y, tile.numbers)
            if self.class_weight is not None:
                c = self.class_weight[y]
                s = c if s is None else s * c
        elif self.offset is not None:
            y = y.reshape(len(y), len(self.offset)) - self.offset
        return self.loss.targets(y, self.model.outputs, tile.X.dtype), s

    def leaves_out(self, tile: Tile) -> bool:
        """Whether none of the rows of a tile counts, by the subset."""
        return self.subset is not None and not self.subset.among(tile.cells(self.subset.cells)).any()

    def _within(self, inside: Array, y: Array, s: Array | None) -> tuple[Array, Array | None]:
        """Targets and weights of rows ``(n,)``, of which those that are not `inside` have no weight, and a
        label that is known."""
        if inside.all():
            return y, s
        if self.labels is not None:
            y = np.where(inside, y.reshape(len(y)), self.labels[0])
        return y, inside.astype(np.float64) if s is None else s * inside

    def output(self, j: int, rows: Rows) -> tuple[Problem, Rows]:
        """Make a problem of output j alone, and rows with its targets; for losses with separate outputs."""
        at = np.arange(self.model.size).reshape(-1, self.model.outputs)[:, j]
        model, penalty = replace(self.linear, outputs=1), self.penalty.restrict(at)
        y, s = rows.y, rows.sample_weight
        assert y is not None
        if self.labels is None:
            offset = None if self.offset is None else self.offset[j : j + 1]
            return replace(self, model=model, penalty=penalty, offset=offset), replace(rows, y=y[:, j])
        codes = self.codes(y, rows.start if rows.kept is None else rows.kept)
        if self.class_weight is not None:
            c = self.class_weight[codes]
            s = c if s is None else s * c
        one = Problem(self.loss, model, penalty, np.array([0, 1]))
        return one, replace(rows, y=(codes == j).astype(np.int8), sample_weight=s)

    def on_features(self, positions: Array) -> Problem:
        """The problem in which only the features at these positions have coefficients: its parameters are
        those at :meth:`parameters_of` of these."""
        model = self.linear
        center, scale = (None if a is None else a[positions] for a in (model.center, model.scale))
        model = replace(model, n_features=len(positions), center=center, scale=scale)
        return replace(self, model=model, penalty=self.penalty.restrict(self.parameters_of(positions)))

    def parameters_of(self, positions: Array) -> Array:
        """The positions among the flat parameters of the coefficients of these features, intercepts and
        scales after them."""
        model = self.linear
        coefficients = positions[:, None] * model.outputs + np.arange(model.outputs)
        return np.append(coefficients.ravel(), np.arange(model.n_features * model.outputs, model.size))

    def penalty_value(self, w: Array) -> float:
        """The value of the penalty, which leaves out intercepts."""
        return self.penalty.value(np.where(self.model.penalised, w, 0.0))

    def penalty_gradient(self, w: Array) -> Array:
        """The gradient of the penalty's smooth part, ``(d,)``, zero at intercepts."""
        mask = self.model.penalised
        return np.where(mask, self.penalty.gradient(np.where(mask, w, 0.0)), 0.0)

    def penalty_hessian(self, w: Array) -> Array:
        """The diagonal of the penalty's Hessian, ``(d,)``, zero at intercepts."""
        mask = self.model.penalised
        return np.where(mask, self.penalty.hessian(np.where(mask, w, 0.0)), 0.0)

    def penalty_l1(self, w: Array) -> Array:
        """The strengths of ``|w_j|`` in the penalty, ``(d,)``, zero at intercepts."""
        mask = self.model.penalised
        return np.where(mask, self.penalty.l1(np.where(mask, w, 0.0)), 0.0)

    def lipschitz_bounds(self, mean: Array, variance: Array, shares: Array | None = None) -> Array | None:
        """Lipschitz constants of the gradient of the smooth part, each along one parameter, ``(d,)``.

        Each is the loss's own constant times the mean square of what the parameter multiplies, from the
        `mean` and `variance` of the features ``(p,)``, plus the penalty's second derivative. `shares`
        ``(k,)`` are those of the classes in the total weight, for class weights. None where the loss has no
        such constant, or the model is not plainly linear.
        """
        model = self.model
        if type(model) is not Linear or not np.isfinite(self.loss.lipschitz):
            return None
        squares = variance + (mean - (0.0 if model.center is None else model.center)) ** 2
        if model.scale is not None:
            squares = squares / model.scale**2
        each = np.append(squares, 1.0) if model.intercept else squares
        most = self.loss.lipschitz
        if self.class_weight is not None and shares is not None:
            most *= float(self.class_weight.max() / (self.class_weight @ shares))
        lipschitz = most * np.repeat(each, model.outputs)
        return lipschitz + self.penalty_hessian(np.zeros(model.size))

    @property
    def positive(self) -> Array:
        """A mask ``(d,)`` of bool of the parameters that must not be negative."""
        return self.model.penalised & self.penalty.positive
