"""The journal of a fit: its last State and the answers received since, from which it can go on.

Between iterations a fit is its State; within one, the answers so far, which are replayed into a fresh
generator of the solver. A replay that asks other queries than the journal holds fails loudly. The file knows
queries and states as dataclasses of arrays; it must not know engines, data or files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.queries import Query
from daskgd.rows.features import Dense
from daskgd.solvers.base import State, Steps

Array = NDArray[Any]


class ReplayError(RuntimeError):
    """A solver asked other queries than the journal that it replays holds answers to."""


@dataclass(slots=True)
class Journal:
    """The last State of a fit and the answers received since; and, by which divergence is judged, the first
    objective and the best State.

    Replayed into a fresh generator the answers lead to the same place without reading any data: killed at any
    sweep and resumed, a fit goes on with the same bits. Where it is not `recorded`, as nobody will resume the
    fit, it keeps States but no answers.
    """

    state: Any = None
    iteration: int = 0
    entries: list[tuple[str, list[Any]]] = field(default_factory=list)
    first: float = np.inf
    best: State | None = None
    recorded: bool = True

    def play(self, steps: Steps) -> Generator[tuple[Query, ...], list[Any], Any]:
        """Run the generator `steps`: it is answered from the entries while there are any, then by asking."""
        if not self.recorded:
            return (yield from steps)
        known = iter(list(self.entries))
        try:
            queries = next(steps)
            while True:
                asked = digest(queries)
                entry = next(known, None)
                if entry is None:
                    entry = (asked, (yield queries))
                    self.entries.append(entry)
                elif entry[0] != asked:
                    names = ", ".join(type(query).__name__ for query in queries)
                    raise ReplayError(
                        f"the journal does not fit the solver: iteration {self.iteration + 1} now asks "
                        f"{names} with digest {asked}, the journal holds the answer to {entry[0]}. It was "
                        "written with other settings, data or another version: start the fit anew"
                    )
                queries = steps.send(entry[1])
        except StopIteration as end:
            return end.value

    def commit(self, state: State, iteration: int, least_at_zero: bool = False) -> None:
        """Complete an iteration: keep its State, and forget the answers that led to it. The objective of
        parameters of 0 does not count where the loss is `least_at_zero`."""
        state = _contiguous(state)
        self.state, self.iteration, self.entries = state, iteration, []
        if not np.isfinite(self.first):
            self.first = state.f
        empty = least_at_zero and self.best is not None and not self.best.point.any()
        finite = np.isfinite(state.f) and np.isfinite(state.point).all()
        if self.best is None or (finite and (empty or not state.f > self.best.f)):
            self.best = state


def _contiguous(state: State) -> State:
    """The State, strided views and arrays at odd addresses copied: read back they would give other bits."""
    strided: dict[str, Any] = {
        f.name: value.copy(order="A")
        for f in fields(state)
        if isinstance(value := getattr(state, f.name), np.ndarray)
        and (not (value.flags.c_contiguous or value.flags.f_contiguous) or value.ctypes.data % 16)
    }
    return replace(state, **strided) if strided else state


DIGESTED = {"EvaluateInMemory": "Here", "SolveInMemory": "Solve", "GradientOnly": "Slope"}
"""The names that digests have for queries, those of version 0.1.0: its checkpoints can still be resumed."""


def digest(queries: Sequence[Query]) -> str:
    """Sixteen hex digits that identify queries by type and content."""
    h = hashlib.sha256()

    def feed(value: Any) -> None:
        if isinstance(value, Dense):  # as the array that it is
            value = value.values
        if is_dataclass(value) and not isinstance(value, type):
            h.update(DIGESTED.get(type(value).__name__, type(value).__name__).encode())
            for f in fields(value):
                if f.compare:
                    feed(getattr(value, f.name))
        elif isinstance(value, np.ndarray):
            h.update(f"{value.dtype}{value.shape}".encode())
            h.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, tuple):
            h.update(f"{len(value)}".encode())
            for item in value:
                feed(item)
        else:
            h.update(repr(value).encode())

    for query in queries:
        feed(query)
    return h.hexdigest()[:16]
