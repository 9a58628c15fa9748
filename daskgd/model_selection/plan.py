"""The plan of a search: how many fits, how many reads of the data, and how long these take. Knows plans of
fits."""

from __future__ import annotations

from dataclasses import dataclass

from dask.utils import format_bytes

from daskgd.estimators.fitting.plan import Plan
from daskgd.training.together import cores

DESIGNS = 3
"""Copies of the design matrix of a sample that a solve in memory holds at most, about."""


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """The plan of a search; print it, or take its numbers.

    Attributes
    ----------
    search : str
    n_candidates, n_splits, n_fits : int
        The fit to all rows counts as one of the fits.
    shared : bool
        Whether the fits share the reads of the data; else they are made one after the other.
    fit : Plan
        Of one fit to all rows.
    sweep_range : (int, int) or None
        Reads of the data to expect, those that score and those of the fit to all rows included; None where it
        is no range.
    seconds : (float, float) or None
        To read what the search reads, without arithmetic.
    driver_bytes : int
        Bytes of this process that samples and coefficients take, about.
    """

    search: str
    n_candidates: int
    n_splits: int
    n_fits: int
    shared: bool
    fit: Plan
    sweep_range: tuple[int, int] | None
    seconds: tuple[float, float] | None
    driver_bytes: int

    @classmethod
    def of(
        cls,
        search: str,
        n_candidates: int,
        n_splits: int,
        refit: bool,
        shared: bool,
        scored: bool,
        fit: Plan,
        *,
        encoder_sweeps: int | None = None,
        n_views: int = 1,
    ) -> SearchPlan:
        """The plan of a search with so many candidates and splits, whose fits are shared or not, and `scored`
        by a read of the data or by what is known. Of pipelines in how many sweeps the encoders of all splits
        are fitted, and to how many views of the rows the fits are."""
        n_fits = n_candidates * n_splits + refit
        sweeps = fit.sweep_range
        found = None
        if sweeps is not None:
            times = 1 if shared else n_candidates * n_splits
            before = encoder_sweeps or 0
            # The fit to all rows knows the first sweep of the others, where its features are theirs, and
            # where it is not the store that all of them know it from.
            known = shared and encoder_sweeps is None and (sweeps == (1, 1) or not fit.surveyed)
            last = tuple(before + n - known for n in sweeps) if refit else (0, 0)
            found = tuple(before + times * n + scored + more for n, more in zip(sweeps, last, strict=True))
        each = fit.seconds_per_sweep
        seconds = None if found is None or each is None else tuple(n * each for n in found)
        driver = fit.driver_bytes + 8 * n_fits * (fit.n_features + 1)
        if shared:  # a sample for each view, and designs in float64 in every thread that solves on one
            design = 8 * fit.sample_rows * (fit.n_features + 1)
            driver += n_views * fit.driver_bytes + DESIGNS * min(cores(), n_views) * design
        return cls(search, n_candidates, n_splits, n_fits, shared, fit, found, seconds, driver)  # type: ignore[arg-type]

    def __str__(self) -> str:
        how = "in shared reads" if self.shared else "one after the other, each on a view of its rows"
        reads = "as many as its fits take"
        if self.sweep_range is not None:
            low, high = self.sweep_range
            reads = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        lines = {
            "search": f"{self.search}: {self.n_candidates:,} candidates, {self.n_splits:,} splits: "
            f"{self.n_fits:,} fits {how}",
            "sweeps": f"{reads} in all",
            "driver": f"{format_bytes(self.driver_bytes)} in this process",
        }
        if self.seconds is not None:
            low_s, high_s = self.seconds
            lines["reads"] = f"{low_s:.1f} to {high_s:.1f} s in all, without arithmetic"
        own = "\n".join(f"{name:<6} {text}" for name, text in lines.items())
        return f"{own}\n\none fit to all rows:\n{self.fit}"
