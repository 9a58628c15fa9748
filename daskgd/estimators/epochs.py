"""Training by epochs as scikit-learn does it: when it stops, when steps become shorter, and what a network
that was trained so far remembers, to go on with more rows. Knows datasets and events; no estimator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.data.dataset import Dataset
from daskgd.monitoring.events import Iterated, Slower
from daskgd.monitoring.history import History
from daskgd.monitoring.watchers import EarlyStopping, Plateau
from daskgd.solvers import LocalSGD
from daskgd.solvers.local_sgd import LocalSGDState

Array = NDArray[Any]

DIVISOR, LEAST_STEP = 5.0, 1e-6
"""By how much ``learning_rate="adaptive"`` shortens steps, and the length at which it ends instead."""


class _Patience:
    """Counts as scikit-learn does: an iteration is one without improvement unless its score is `min_delta`
    above the best so far, however that came about. With `adaptive` the end of patience shortens steps until
    they are as short as they may be."""

    adaptive = False

    def _counts(self: Any, fit: str, score: float) -> bool:
        return fit not in self._best or score >= self._score(self._best[fit].row) + self.min_delta

    def _end(self: Any, event: Iterated) -> Iterated | Slower:
        best: Iterated = self._best[event.fit]
        if not (self.adaptive and event.row["step"] > LEAST_STEP):
            return best
        self._waited[event.fit] = 0
        return Slower(DIVISOR)


class LossStalls(_Patience, Plateau):
    """Stops when the loss no longer falls."""


class ScoreStalls(_Patience, EarlyStopping):
    """Stops when the score on rows that are set aside no longer rises."""


def rows_and_stop(
    name: str,
    dataset: Dataset,
    *,
    tol: float,
    patience: float,
    validation_fraction: float | None,
    seed: int,
    stratify: bool,
    adaptive: bool,
    by_loss: bool = True,
) -> tuple[Dataset, list[LossStalls | ScoreStalls]]:
    """The rows that an estimator of this `name` trains on, and what stops it.

    With a `validation_fraction` that share of the rows, of every label alike with `stratify`, is set aside,
    and the score on them has to rise by `tol`; otherwise, where the solver goes `by_loss`, the loss to fall.
    """
    watcher: LossStalls | ScoreStalls
    if validation_fraction is not None:
        dataset, rest = dataset.train_test_split(validation_fraction, seed, stratify=stratify)
        if min(dataset.n_rows, rest.n_rows) < 2:
            raise ValueError(
                f"{name}: expected at least two rows to train on and two to validate, got "
                f"{dataset.n_rows} and {rest.n_rows}; pass more rows, another validation_fraction, or "
                "early_stopping=False"
            )
        watcher = ScoreStalls(rest, patience=patience, min_delta=tol)
    elif by_loss:
        watcher = LossStalls(patience=patience, min_delta=tol)
    else:
        return dataset, []
    watcher.adaptive = adaptive
    return dataset, [watcher]


# -- going on -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Training:
    """What a network that was trained so far remembers, besides its attributes, to go on.

    Attributes
    ----------
    center, scale : (p,) or None
        The units of its first layer.
    offset : (k,) or None
        What is subtracted from the targets.
    rule : str
        What made the steps; empty where they were not by mini-batches.
    w : (d,)
        The parameters in these units.
    moments : (m, d)
    made, shrink : float
    round : int
        Of a :class:`~daskgd.solvers.local_sgd.LocalSGDState`.
    waited : int
        Calls in a row that did not lower the loss, for ``learning_rate="adaptive"``.
    """

    center: Array | None = None
    scale: Array | None = None
    offset: Array | None = None
    rule: str = ""
    w: Array = field(default_factory=lambda: np.zeros(0))
    moments: Array = field(default_factory=lambda: np.zeros((0, 0)))
    made: float = 0.0
    round: int = 0
    shrink: float = 1.0
    waited: int = 0

    @classmethod
    def of(cls, problem: Any, state: Any, rule: str) -> Training:
        """What is left of a fit that ended at this State of a LocalSGD; of other solvers the units."""
        model = problem.model
        units = model.center, model.scale, problem.offset
        if not isinstance(state, LocalSGDState) or not np.isfinite(state.w).all():
            return cls(*units)
        return cls(*units, rule, state.w, state.moments, state.made, state.round, state.shrink)

    def begin(self, solver: LocalSGD, w: Array) -> LocalSGDState:
        """The State of a solver from which it goes on at these parameters: with what is remembered where the
        rule is still the same, else anew."""
        zero, moments = np.zeros_like(w), solver.rule.begin(len(w))
        same = self.rule == solver.inner and self.moments.shape == moments.shape
        shrink = self.shrink if same else 1.0
        return LocalSGDState(
            w,
            np.inf,
            zero,
            at=w,
            round=self.round,
            buffer=zero,
            known=zero,
            shrink=shrink,
            step=solver.step * shrink,
            best=w,
            moments=self.moments if same else moments,
            made=self.made if same else 0.0,
        )


@dataclass(frozen=True, slots=True)
class Earlier:
    """What the attributes of an estimator say of its training before a call that goes on."""

    history: History = field(default_factory=History)
    losses: tuple[float, ...] = ()
    best: float = np.inf
    n_iter: int = 0
    n_sweeps: float = 0
    rows: float = 0
    waited: int = 0

    @classmethod
    def of(cls, estimator: Any) -> Earlier:
        """Those of an estimator, trained or not."""
        known = vars(estimator)
        best, training = known.get("best_loss_"), known.get("_training")
        return cls(
            known.get("history_") or History(),
            tuple(known.get("loss_curve_", ())),
            np.inf if best is None else best,
            int(np.max(known.get("n_iter_", 0))),
            known.get("n_sweeps_", 0),
            known.get("t_", 0),
            0 if training is None else training.waited,
        )

    def extended(self, history: History) -> History:
        """The history with the rows of another after its own, whose counts go on."""
        out = History()
        out.solver, out.reason, out.regime = history.solver, history.reason, history.regime
        out.speculated = self.history.speculated + history.speculated
        last = self.history[-1] if len(self.history) else {}
        for row in self.history:
            out(row)
        for row in history:
            sums = ("iteration", "seconds", "bytes", "sweeps", "wire_bytes")
            out({name: v + last.get(name, 0) if name in sums else v for name, v in row.items()})
        return out
