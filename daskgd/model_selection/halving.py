"""Searches by successive halving: scikit-learn's, whose rounds train on more and more of the rows of the same
reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import model_selection
from sklearn.base import is_classifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401

from daskgd.estimators.parameters import draw_seed
from daskgd.model_selection.search import SearchRun, SharedSearch
from daskgd.model_selection.splitters import Split, row_numbers, targets
from daskgd.rows.random_numbers import HALF, row_random_numbers
from daskgd.rows.subsets import Cells, Subset

Array = NDArray[Any]


@dataclass(frozen=True)
class ThinnedCells:
    """The cells of others, each divided into its rows whose hash of (seed, row number) is below a first
    threshold, those below the next, and so on; so that shares of all cells are unions of cells.

    Attributes
    ----------
    cells : Cells
    thresholds : tuple of tuples of float
        Of each cell, ascending.
    seed : int

    >>> from daskgd.rows.subsets import HashedCells
    >>> ThinnedCells(HashedCells(1), ((0.25, 1.0),), seed=0).of(np.arange(8))
    array([0, 0, 1, 1, 1, 1, 0, 1])
    """

    cells: Cells
    thresholds: tuple[tuple[float, ...], ...]
    seed: int

    @classmethod
    def by_shares(cls, cells: Cells, shares: Sequence[float], seed: int, rows: Array | None) -> ThinnedCells:
        """Cells of which these shares of the rows can be taken: to a row where the numbers of the `rows` are
        given, else as nearly as hashes are uniform."""
        thresholds = [tuple(shares)] * cells.n_cells
        if rows is not None:
            codes, u = cells.of(rows), row_random_numbers(rows, seed, HALF)
            for cell in range(cells.n_cells):
                mine = np.append(np.sort(u[codes == cell]), 1.0)
                n = len(mine) - 1
                thresholds[cell] = tuple(float(mine[int(share * n + 1e-9)]) for share in shares)
        return cls(cells, tuple(thresholds), seed)

    @property
    def n_cells(self) -> int:
        return self.cells.n_cells * (len(self.thresholds[0]) + 1)

    def of(self, numbers: Array) -> Array:
        cells, u = self.cells.of(numbers), row_random_numbers(numbers, self.seed, HALF)
        level = np.zeros(len(cells), dtype=np.intp)
        for threshold in np.array(self.thresholds).T:
            level += u >= threshold[cells]
        return cells * (len(self.thresholds[0]) + 1) + level

    def subset(self, members: Sequence[bool], level: int) -> Subset:
        """The rows below one of the thresholds of some of the cells."""
        below = tuple(i <= level for i in range(len(self.thresholds[0]) + 1))
        return Subset(self, tuple(there and low for there in members for low in below))

    def __str__(self) -> str:
        return f"thresholds {self.thresholds} with seed {self.seed} of {self.cells}"


EXACT_ROWS = 1 << 22
"""Rows up to which the shares of halving are taken to a row; beyond, hashes are near enough."""


class _Halving(SharedSearch):
    factor: float
    resource: str
    max_resources: int | str
    min_resources: int | str
    aggressive_elimination: bool
    random_state: Any
    min_resources_: int
    max_resources_: int

    def _candidates_of(self, work: SearchRun) -> list[Mapping[str, Any]]:
        raise NotImplementedError

    def _search(self, work: SearchRun) -> None:
        self._set_resources(work)
        params = self._candidates_of(work)
        if self.resource != "n_samples" and any(self.resource in one for one in params):
            raise ValueError(
                f"Cannot use parameter {self.resource} as the resource since it is part of the searched "
                "parameters."
            )
        required = 1 + floor(log(len(params), self.factor))
        if self.min_resources == "exhaust":
            self.min_resources_ = max(
                self.min_resources_, int(self.max_resources_ // self.factor ** (required - 1))
            )
        possible = 1 + floor(log(self.max_resources_ // self.min_resources_, self.factor))
        n_rounds = required if self.aggressive_elimination else min(possible, required)
        powers = [
            max(0, i - required + possible) if self.aggressive_elimination else i for i in range(n_rounds)
        ]
        self.n_resources_ = [
            min(int(self.factor**power * self.min_resources_), self.max_resources_) for power in powers
        ]
        self.n_candidates_ = []
        splits = self._rounds(work)
        for i, n in enumerate(self.n_resources_):
            self.n_candidates_.append(len(params))
            if self.resource != "n_samples":
                params = [{**one, self.resource: n} for one in params]
            if self.verbose:
                print(f"iter: {i}, n_candidates: {len(params)}, n_resources: {n}")
            more = {"iter": [i] * len(params), "n_resources": [n] * len(params)}
            trials = work.evaluate(params, splits[i], more)
            means = np.array([np.mean([trial.test["score"] for trial in row]) for row in trials])
            order = np.roll(np.argsort(means, kind="stable"), np.count_nonzero(np.isnan(means)))
            params = [params[at] for at in order[-ceil(len(params) / self.factor) :]]
        self.n_remaining_candidates_ = len(params)
        self.n_required_iterations_, self.n_possible_iterations_ = required, possible
        self.n_iterations_ = n_rounds

    def _set_resources(self, work: SearchRun) -> None:
        """Set the least and the most of the resource."""
        if not self.factor > 1:
            raise ValueError(f"factor: expected a number > 1, got {self.factor!r}")
        by_rows, n_rows = self.resource == "n_samples", work.dataset.n_rows
        if not by_rows and self.resource not in self.estimator.get_params():
            raise ValueError(
                f"Cannot use resource={self.resource} which is not supported by estimator "
                f"{type(self.estimator).__name__}"
            )
        least, most = self.min_resources, self.max_resources
        if least in ("smallest", "exhaust"):
            least = len(work.splits) * 2 if by_rows else 1
            if by_rows and is_classifier(self.estimator):
                classes = work.dataset.classes
                least *= len(np.unique(_labels(work)) if classes is None else classes)
        if most == "auto":
            if not by_rows:
                raise ValueError("resource can only be 'n_samples' when max_resources='auto'")
            most = n_rows
        for name, value in (("min_resources", least), ("max_resources", most)):
            if not (isinstance(value, Integral) and value >= 1):
                raise ValueError(f"{name}: expected a whole number >= 1, got {value!r}")
        self.min_resources_, self.max_resources_ = int(least), int(most)
        if self.min_resources_ > self.max_resources_:
            raise ValueError(
                f"min_resources_={self.min_resources_} is greater than max_resources_={self.max_resources_}."
            )

    def _rounds(self, work: SearchRun) -> list[Sequence[Split]]:
        """The splits of each round: with rows for the resource, those below its share of them."""
        if self.resource != "n_samples":
            return [work.splits] * len(self.n_resources_)
        shares = tuple(sorted({min(n / work.dataset.n_rows, 1.0) for n in self.n_resources_}))
        seed = self.random_state
        seed = draw_seed(seed) if isinstance(seed, np.random.RandomState) else int(seed or 0)
        rows = row_numbers(work.dataset) if work.dataset.layout.n_rows <= EXACT_ROWS else None
        thinned: dict[int, ThinnedCells] = {}
        out: list[Sequence[Split]] = []
        for n in self.n_resources_:
            level = shares.index(min(n / work.dataset.n_rows, 1.0))
            row = []
            for split in work.splits:
                cells = split.train.cells
                if id(cells) not in thinned:
                    thinned[id(cells)] = ThinnedCells.by_shares(cells, shares, seed, rows)
                thin = thinned[id(cells)]
                row.append(Split(*(thin.subset(side.members, level) for side in split)))
            out.append(row)
        return out

    def _choose(self, metric: str) -> None:
        """The best of the last round."""
        results: Any = self.cv_results_
        last = np.flatnonzero(results["iter"] == np.max(results["iter"]))
        means = results["mean_test_score"][last]
        self.best_index_ = int(last[0 if np.isnan(means).all() else int(np.nanargmax(means))])
        self.best_score_ = float(results["mean_test_score"][self.best_index_])
        self.best_params_ = results["params"][self.best_index_]

    def _check_search(self) -> None:
        super()._check_search()
        if isinstance(self.scoring, Iterable) and not isinstance(self.scoring, str):
            raise ValueError(f"{type(self).__name__}: expected one scorer, got scoring={self.scoring!r}")


def _labels(work: SearchRun) -> Array:
    y = targets(work.dataset)
    assert y is not None
    return y


class HalvingGridSearchCV(_Halving, model_selection.HalvingGridSearchCV):
    """Search of a grid of parameters by successive halving, scikit-learn's, in shared reads of the data.

    All candidates are tried on few rows, the best of them on more, and so on. The rows of a round are those
    whose hash of (random_state, row number) lies below its share: those of the round before and others. What
    the data alone determine of all rounds is summed in the first read.

    Parameters
    ----------
    estimator, param_grid, scoring, refit, cv, error_score, return_train_score, n_jobs, verbose :
        As of :class:`GridSearchCV`; one scorer.
    factor : float
        The share of candidates that go on is one over it.
    resource : str
        "n_samples", or a parameter of the estimator such as "max_iter".
    max_resources, min_resources : int or str
        As scikit-learn's.
    aggressive_elimination : bool
    random_state : int, RandomState or None

    Attributes
    ----------
    cv_results_, best_estimator_, best_score_, best_params_, best_index_ :
        As scikit-learn's.
    n_resources_, n_candidates_, n_iterations_, n_remaining_candidates_ :
        As scikit-learn's.
    n_required_iterations_, n_possible_iterations_, min_resources_, max_resources_ :
        As scikit-learn's.

    Examples
    --------
    >>> import daskgd
    >>> from daskgd.model_selection import HalvingGridSearchCV
    >>> X = np.arange(400.0).reshape(200, 2) % 7
    >>> search = HalvingGridSearchCV(daskgd.Ridge(), {"alpha": [0.01, 1.0, 100.0]}, random_state=0)
    >>> search.fit(X, X @ [1.0, -2.0]).best_params_, search.n_resources_
    ({'alpha': 0.01}, [66, 198])
    """

    def _candidates(self) -> Iterable[Mapping[str, Any]]:
        return model_selection.ParameterGrid(self.param_grid)

    def _candidates_of(self, work: SearchRun) -> list[Mapping[str, Any]]:
        return list(self._candidates())


class HalvingRandomSearchCV(_Halving, model_selection.HalvingRandomSearchCV):
    """Search of random parameters by successive halving, scikit-learn's, in shared reads of the data.

    See :class:`HalvingGridSearchCV`.

    Parameters
    ----------
    param_distributions : dict, or list of them
    n_candidates : int or "exhaust"
    estimator, factor, resource, max_resources, min_resources, aggressive_elimination :
        As of :class:`HalvingGridSearchCV`.
    cv, scoring, refit, error_score, return_train_score, random_state, n_jobs, verbose :
        As of :class:`HalvingGridSearchCV`.

    Examples
    --------
    >>> import daskgd
    >>> from daskgd.model_selection import HalvingRandomSearchCV
    >>> X = np.arange(400.0).reshape(200, 2) % 7
    >>> grid = {"alpha": [0.01, 1.0, 100.0]}
    >>> search = HalvingRandomSearchCV(daskgd.Ridge(), grid, random_state=0, n_candidates=3)
    >>> search.fit(X, X @ [1.0, -2.0]).n_candidates_
    [3, 1]
    """

    def _candidates_of(self, work: SearchRun) -> list[Mapping[str, Any]]:
        n = self.n_candidates
        if n == "exhaust":
            if self.min_resources == "exhaust":
                raise ValueError("n_candidates and min_resources cannot be both set to 'exhaust'.")
            n = self.max_resources_ // self.min_resources_
        return list(
            model_selection.ParameterSampler(self.param_distributions, int(n), random_state=self.random_state)
        )
