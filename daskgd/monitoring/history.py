"""The history that every estimator keeps of its fit, a row per iteration: as a sequence, frame or plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from daskgd.data.html import html_table

Array = NDArray[Any]


KEYS = ("iteration", "loss", "gradient_norm", "gap", "seconds", "bytes", "sweeps", "wire_bytes")
"""Keys of every row of a history, in order; after them ``step``, for solvers that have one."""


class History(Sequence[Mapping[str, Any]]):
    """What a fit did, a mapping per iteration.

    The keys of a row are ``iteration``, from 1; ``loss``, the objective with its penalty; ``gradient_norm``;
    ``gap``, the estimated gap relative to the objective; for solvers that have one the length of the next
    ``step``; and, all since the fit began, ``seconds``, decoded ``bytes`` read, ``sweeps`` over the data, and
    ``wire_bytes``: the bytes of sums that would be sent if each partition were a machine of its own.

    Attributes
    ----------
    solver : str
        The solver with its settings.
    reason : str
        Why it was chosen.
    regime : "parallel" or "distributed"
        How it trains.
    speculated : int
        Tasks that were given to another worker as well, as they were late, since this process began the fit.

    Examples
    --------
    >>> history = History()
    >>> history({"iteration": 1, "loss": 0.5})
    >>> history[-1]["loss"], len(history), history.column("loss")
    (0.5, 1, [0.5])
    """

    speculated: int = 0

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self.solver = ""
        self.reason = ""
        self.regime = ""

    def __call__(self, row: Mapping[str, Any]) -> None:
        self._rows.append(dict(row))

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def column(self, key: str) -> list[Any]:
        """The values under one key, a row each."""
        return [row[key] for row in self._rows]

    def to_pandas(self) -> Any:
        """A frame with a row per iteration (needs pandas).

        Examples
        --------
        >>> history = History()
        >>> history({"iteration": 1, "loss": 0.5})
        >>> history.to_pandas().loc[0, "loss"]
        np.float64(0.5)
        """
        import pandas

        return pandas.DataFrame(self._rows)

    def plot(self, ax: Any = None) -> Any:
        """The loss, and below it the estimated gap, by sweeps (needs matplotlib).

        Parameters
        ----------
        ax : pair of matplotlib axes, optional
            By default those of a new figure.

        Returns
        -------
        matplotlib figure
        """
        if ax is None:
            from matplotlib import pyplot

            _, ax = pyplot.subplots(2, 1, sharex=True, layout="constrained", figsize=(6, 5))
        above, below = ax
        sweeps, gap = self.column("sweeps"), np.array(self.column("gap"), dtype=float)
        above.plot(sweeps, self.column("loss"), marker=".")
        above.set(ylabel="objective")
        shown = np.isfinite(gap) & (gap > 0)
        below.semilogy(np.array(sweeps)[shown], gap[shown], marker=".")
        below.set(xlabel="sweeps (reads of the data)", ylabel="estimated relative gap")
        return above.figure

    def __repr__(self) -> str:
        if not self._rows:
            return "<History: empty>"
        last = self._rows[-1]
        return f"<History: {len(self)} iterations, loss {last['loss']:.6g}, {last.get('sweeps')} sweeps>"

    def _repr_html_(self) -> str:
        if not self._rows:
            return "<p>History: empty</p>"
        shown = self._rows if len(self) <= 12 else [*self._rows[:3], None, *self._rows[-8:]]
        names = list(self._rows[-1])
        rows = (None if row is None else [_text(row.get(name)) for name in names] for row in shown)
        return html_table(f"{self!r} {self.solver}".strip(), rows, names) + _plot(self.column("loss"))


def _text(value: Any) -> str:
    """A value of a history, for people."""
    return f"{value:.6g}" if isinstance(value, float) else f"{value:,}" if value else str(value)


def _plot(losses: Sequence[float], width: int = 320, height: int = 80) -> str:
    """An SVG line of the objective by iteration; empty for fewer than two numbers."""
    f = np.array(losses, dtype=float)
    f = f[np.isfinite(f)]
    if len(f) < 2:
        return ""
    x = np.linspace(2, width - 2, len(f))
    y = 2 + (height - 4) * (f.max() - f) / max(float(np.ptp(f)), 1e-300)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return (
        f"<svg width='{width}' height='{height}' role='img'><title>objective by iteration</title>"
        f"<polyline points='{points}' fill='none' stroke='#1f77b4' stroke-width='1.5'/></svg>"
    )
