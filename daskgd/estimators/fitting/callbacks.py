"""scikit-learn's callbacks, where it has them (from version 1.9): a task for the fit, one for each iteration.

They run where ``fit`` was called, between sweeps; nothing of them is sent to workers. Knows no maths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from daskgd._compat.sklearn import (
    CallbackSupportMixin,
    callback_context,
    has_callbacks,
    owns_callbacks,
    with_callbacks,
)
from daskgd.monitoring.events import Iterated
from daskgd.training.loop import Fit

__all__ = ["CallbackSupportMixin", "Callbacks", "Stopped", "run_with_callbacks", "with_callbacks"]


class Stopped(Exception):
    """A callback or watcher asked to stop, perhaps where the fit was earlier. Raised into the loop, and
    caught where the fit is."""

    def __init__(self, at: Iterated | None = None) -> None:
        super().__init__()
        self.at = at


class Callbacks:
    """The callbacks of one estimator during one fit: a task ``"fit"`` and, within, ``"iteration"`` tasks.

    Parameters
    ----------
    run : Run
    given : (X, y, sample_weight)
        As passed to ``fit``; where y is None they are taken from `dataset`.
    dataset : Dataset
    """

    def __init__(self, run: Any, given: tuple[Any, Any, Any], dataset: Any) -> None:
        self.run, self.estimator = run, run.estimator
        self.root = callback_context(self.estimator, int(self.estimator.max_iter))
        self.task: Any = None
        X, y, s = given
        if y is None:
            X, y, s = dataset.X, _labels(dataset), dataset.sample_weight if s is None else s
        metadata = {} if s is None else {"sample_weight": s}
        self.data: dict[str, Any] = {"X": X, "y": y, "metadata": metadata}
        self.root.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    @classmethod
    def of(cls, run: Any, given: tuple[Any, Any, Any], dataset: Any) -> Callbacks | None:
        """Those of the run's estimator, set on it or handed down by the estimator it is part of; or None."""
        return cls(run, given, dataset) if has_callbacks(run.estimator) else None

    def around(self, fit: Fit) -> Fit:
        """The same fit, in which each iteration's task begins with what it asks first."""
        answers: Any = None
        while True:
            try:
                asks = fit.send(answers)
            except StopIteration as end:
                self._end(asked=False)
                return end.value
            self._begin()
            answers = yield asks

    def __call__(self, row: Any) -> None:
        """An iteration is done."""
        self._begin()
        if self._end(asked=True):
            raise Stopped

    def finish(self) -> None:
        """The fit is done, and the estimator fitted."""
        self.root.call_on_fit_task_end(estimator=self.estimator, **self.data, reconstruction_attributes={})

    def _begin(self) -> None:
        if self.task is None:
            self.task = self.root.subcontext(task_name="iteration")
            self.task.call_on_fit_task_begin(
                estimator=self.estimator, **self.data, reconstruction_attributes=self._attributes
            )

    def _end(self, asked: bool) -> bool:
        """Whether a callback wants the fit to stop; an iteration that ran is told with its data."""
        task, self.task = self.task, None
        if task is None:
            return False
        data = {**self.data, "reconstruction_attributes": self._attributes} if asked else {}
        return bool(task.call_on_fit_task_end(estimator=self.estimator, **data))

    def _attributes(self) -> dict[str, Any]:
        """Of the estimator as if the fit had stopped now."""
        return vars(self.run.model())


def run_with_callbacks(estimators: Sequence[Any], work: Callable[[], None]) -> None:
    """Do `work`, and whatever becomes of it have the callbacks of the estimators clean up after it."""
    for i, estimator in enumerate(estimators):
        if owns_callbacks(estimator):
            with_callbacks(lambda _, rest=estimators[i + 1 :]: run_with_callbacks(rest, work))(estimator)
            return
    work()


def _labels(dataset: Any) -> Any:
    """The target as users see it."""
    y, classes = dataset.y, dataset.classes
    return (
        y if classes is None or y is None else y.map_blocks(lambda codes: classes[codes], dtype=classes.dtype)
    )
