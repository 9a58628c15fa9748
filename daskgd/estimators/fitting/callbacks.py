"""scikit-learn's callbacks, where it has them (from version 1.9): a task for the fit, one for each iteration.

They run where ``fit`` was called, between sweeps; nothing of them is sent to workers. The file knows
scikit-learn's protocol; it must not know solvers, engines or how a fit is run.
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
    """Ends the loop of a fit, as a callback or watcher asked for.

    `at` is the iteration whose model is to be taken, None for the last. Raised into the loop, and caught by
    the generator of the fit.
    """

    def __init__(self, at: Iterated | None = None) -> None:
        super().__init__()
        self.at = at


class Callbacks:
    """The callbacks of one estimator during one fit: a task ``"fit"`` and, within, ``"iteration"`` tasks.

    Parameters
    ----------
    estimator : estimator of scikit-learn's kind
    given : (X, y, sample_weight)
        As passed to ``fit``; where y is None they are taken from `dataset`.
    dataset : Dataset
    model : callable
        Makes a fitted copy of the estimator, as if the fit had ended now.
    """

    def __init__(
        self, estimator: Any, given: tuple[Any, Any, Any], dataset: Any, model: Callable[[], Any]
    ) -> None:
        self.estimator, self.model = estimator, model
        most = max(self.estimator._most_iterations(), 1)  # of which one may be said to run where none does
        self.root = callback_context(self.estimator, most)
        self.task: Any = None
        X, y, s = given
        if y is None:
            X, y, s = dataset.X, _labels(dataset), dataset.sample_weight if s is None else s
        metadata = {} if s is None else {"sample_weight": s}
        self.data: dict[str, Any] = {"X": X, "y": y, "metadata": metadata}
        self.root.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    @classmethod
    def of(
        cls, estimator: Any, given: tuple[Any, Any, Any], dataset: Any, model: Callable[[], Any]
    ) -> Callbacks | None:
        """Those set on an estimator, or handed down by one that it is part of; None if there are none."""
        return cls(estimator, given, dataset, model) if has_callbacks(estimator) else None

    def around(self, fit: Fit) -> Fit:
        """Wrap a fit, so that the task of each iteration begins with its first ask."""
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
        """End the task of an iteration; raises Stopped if a callback wants that."""
        self._begin()
        if self._end(asked=True):
            raise Stopped

    def finish(self) -> None:
        """End the task of the fit, once the estimator is fitted."""
        self.root.call_on_fit_task_end(estimator=self.estimator, **self.data, reconstruction_attributes={})

    def _begin(self) -> None:
        if self.task is None:
            self.task = self.root.subcontext(task_name="iteration")
            self.task.call_on_fit_task_begin(
                estimator=self.estimator, **self.data, reconstruction_attributes=self._attributes
            )

    def _end(self, asked: bool) -> bool:
        """End the task of an iteration, with its data if it `asked` anything; whether the fit is to stop."""
        task, self.task = self.task, None
        if task is None:
            return False
        data = {**self.data, "reconstruction_attributes": self._attributes} if asked else {}
        return bool(task.call_on_fit_task_end(estimator=self.estimator, **data))

    def _attributes(self) -> dict[str, Any]:
        """The attributes of the estimator as if the fit had ended now."""
        return vars(self.model())


def run_with_callbacks(estimators: Sequence[Any], work: Callable[[], None]) -> None:
    """Do `work`, and have the callbacks of the estimators clean up after it, even if it raises."""
    for i, estimator in enumerate(estimators):
        if owns_callbacks(estimator):
            with_callbacks(lambda _, rest=estimators[i + 1 :]: run_with_callbacks(rest, work))(estimator)
            return
    work()


def _labels(dataset: Any) -> Any:
    """The target with the labels that users see, not their codes."""
    y, classes = dataset.y, dataset.classes
    return (
        y if classes is None or y is None else y.map_blocks(lambda codes: classes[codes], dtype=classes.dtype)
    )
