"""Events of a fit, which are shown to watchers as they happen.

A watcher is a callable that takes an event. It runs where ``fit`` was called, between sweeps; those that ship
with daskgd are in :mod:`daskgd.monitoring.watchers`. Events know no data and no engines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from numpy.typing import NDArray

Array = NDArray[Any]


# -- events -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Began:
    """A fit begins, or goes on from a checkpoint. A watcher may answer it as it may :class:`Iterated`.

    Attributes
    ----------
    fit : str
        Its name; of fits that share sweeps each has its own.
    solver, reason : str
        The solver with its settings, and why this one.
    max_iter : int
    tol : float
    nbytes : int
        Decoded bytes that a sweep reads.
    rows : sequence of mappings
        Rows of the history so far, if the fit goes on from a checkpoint.
    """

    fit: str
    solver: str
    reason: str
    max_iter: int
    tol: float
    nbytes: int
    rows: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Swept:
    """A sweep over the data is done; shown after the iterations that it ended.

    Attributes
    ----------
    fit : str
    sweeps : int or float
        Since the fit began, this one included; a sweep over a share of the blocks counts as that share.
    seconds : float
        Time of the sweep and of the solver's work on its answers.
    nbytes : int
        Decoded bytes that the sweep read.
    speculated : int
        Tasks that were given to another worker as well, as they were late.
    """

    fit: str
    sweeps: float
    seconds: float
    nbytes: int
    speculated: int = 0


@dataclass(frozen=True, slots=True)
class Sweeping:
    """A sweep over the data that takes a while is under way; shown a few times a second at most.

    Attributes
    ----------
    fit : str
    sweeps : int
        Which sweep it is, from 1.
    share : float
        Share of its tasks that are done, from 0 to 1.
    """

    fit: str
    sweeps: int
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Iterated:
    """An iteration is done.

    A watcher that answers it with True stops the fit; one that answers with this event, or an earlier one,
    stops it with the model as it was then; with :class:`Slower` it goes on with shorter steps.

    Attributes
    ----------
    fit : str
    row : dict
        The iteration's row of the history: see :class:`~daskgd.monitoring.history.History`. A watcher may add
        keys to it.
    w : (d,)
        The best parameters so far, in the units of the solver; of sparse rows in memory perhaps without those
        of features that have no entry.
    model : callable
        Makes a fitted copy of the estimator as it is now.
    """

    fit: str
    row: dict[str, Any]
    w: Array
    model: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Slower:
    """What a watcher answers to :class:`Iterated` for the fit to go on with steps shorter by a factor; of
    solvers whose steps have no given length it changes nothing.

    Attributes
    ----------
    factor : float
    """

    factor: float


@dataclass(frozen=True, slots=True)
class Ended:
    """A fit ended. A watcher that answers with an :class:`Iterated` ends it with the model as it was then.

    Attributes
    ----------
    fit : str
    outcome : str
        ``"converged"``, ``"budget_spent"``, ``"stalled"``, ``"diverged"``, ``"stopped"`` (by a watcher), or
        ``"interrupted"`` (by an exception).
    """

    fit: str
    outcome: str


Event: TypeAlias = Began | Sweeping | Swept | Iterated | Ended

Watcher: TypeAlias = Callable[[Event], "bool | Iterated | Slower | None"]
"""Takes every event of a fit. If it has an attribute `memory`, of numbers and arrays, a checkpoint holds it,
and it is set where the fit is resumed, before :class:`Began` is told."""


def watchers_of(given: Any) -> list[Watcher]:
    """One watcher or several, as a list.

    Raises
    ------
    TypeError : something that cannot be called.
    """
    several = list(given) if isinstance(given, Sequence) else [] if given is None else [given]
    for one in several:
        if not callable(one):
            raise TypeError(f"watch: expected callables that take an event, got {one!r:.80}")
    return several
