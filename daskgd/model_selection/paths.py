"""Paths of L1 penalties: scikit-learn's functions, in one read of the data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.estimators import ElasticNet
from daskgd.estimators.fitting.run import FirstSweepAnswers
from daskgd.model_selection.fits import Member, fit_members
from daskgd.model_selection.from_moments import largest_penalty
from daskgd.model_selection.given import dataset_of
from daskgd.model_selection.path_cv import largest_by_sweep, penalties
from daskgd.model_selection.searched import WHOLE
from daskgd.queries import SecondMoments

Array = NDArray[Any]


def enet_path(
    X: Any,
    y: Any = None,
    *,
    l1_ratio: float = 0.5,
    eps: float = 1e-3,
    alphas: Any = 100,
    precompute: Any = "auto",
    Xy: None = None,
    copy_X: bool = True,
    coef_init: None = None,
    verbose: int = 0,
    return_n_iter: bool = False,
    positive: bool = False,
    check_input: bool = True,
    max_iter: int = 1000,
    tol: float = 1e-6,
    engine: Any = None,
) -> tuple[Any, ...]:
    """Fit elastic nets without an intercept for many penalties, in one read of the data.

    Each minimises ``|y - X w|**2 / 2n + alpha (r |w|_1 + (1 - r) |w|**2 / 2)``, r the `l1_ratio`.

    Parameters
    ----------
    X, y :
        As of :meth:`daskgd.ElasticNet.fit`; one target.
    l1_ratio : float in (0, 1]
    eps : float
        The weakest of automatic penalties, relative to the strongest.
    alphas : int or sequence
        Penalties, or how many, in a geometric sequence below the least that leaves no coefficient.
    positive : bool
    return_n_iter : bool
    max_iter, tol, engine :
        As of :class:`daskgd.ElasticNet`.
    precompute, Xy, copy_X, coef_init, verbose, check_input :
        As scikit-learn's, to be left out: the solver decides what to collect, X is never written to, and
        nothing is printed.

    Returns
    -------
    (alphas, coefs, dual_gaps[, n_iters])
        ``(m,)``, ``(p, m)``, ``(m,)``, and a list of m.

    Examples
    --------
    >>> from daskgd.model_selection import enet_path
    >>> X = np.arange(60.0).reshape(20, 3) % 7 - 3
    >>> alphas, coefs, gaps = enet_path(X, X @ [1.0, -2.0, 0.0], alphas=[0.01, 1.0])
    >>> alphas, coefs.shape
    (array([1.  , 0.01]), (3, 2))
    """
    given: list[tuple[str, Any, Any]] = [
        *(("precompute", precompute, "auto"), ("Xy", Xy, None), ("coef_init", coef_init, None)),
        *(("copy_X", copy_X, True), ("check_input", check_input, True), ("verbose", verbose, 0)),
    ]
    for name, value, default in given:
        if isinstance(value, np.ndarray) or value != default:
            raise ValueError(f"enet_path: expected {name} to be left out, got {value!r:.80}")
    dataset, known = dataset_of(X, y, None, "enet_path"), FirstSweepAnswers()

    def fit(strengths: Any) -> list[Any]:
        settings: dict[str, Any] = {"l1_ratio": l1_ratio, "positive": positive, "fit_intercept": False}
        settings |= {"max_iter": max_iter, "tol": tol, "engine": engine}
        members = [Member(ElasticNet(float(alpha), **settings), WHOLE) for alpha in strengths]
        fit_members(members, dataset, known=known)
        for member in members:
            if member.error is not None:
                raise member.error
        return [member.estimator for member in members]

    (probe,) = fit([1.0])
    if probe.coef_.ndim > 1:
        raise ValueError("enet_path: expected one target; call it for each column of y")
    moments = known.of_kind(SecondMoments, WHOLE)
    largest = (
        largest_penalty(moments, False, positive)
        if moments is not None
        else largest_by_sweep(probe, dataset, False, positive)
    )
    path = penalties(alphas, eps, largest, l1_ratio)
    fits = fit(path)
    out = (path, np.array([est.coef_ for est in fits]).T, np.array([est.dual_gap_ for est in fits]))
    return (*out, [est.n_iter_ for est in fits]) if return_n_iter else out


def lasso_path(X: Any, y: Any = None, **options: Any) -> tuple[Any, ...]:
    """Fit lassos without an intercept for many penalties, in one read of the data.

    Parameters
    ----------
    X, y :
        As of :meth:`daskgd.Lasso.fit`; one target.
    **options :
        Of :func:`enet_path`, but for `l1_ratio`, which is 1.

    Returns
    -------
    (alphas, coefs, dual_gaps[, n_iters])

    Examples
    --------
    >>> from daskgd.model_selection import lasso_path
    >>> X = np.arange(60.0).reshape(20, 3) % 7 - 3
    >>> alphas, coefs, gaps = lasso_path(X, X @ [1.0, -2.0, 0.0])
    >>> bool((coefs[:, 0] == 0).all()), coefs.shape
    (True, (3, 100))
    """
    return enet_path(X, y, l1_ratio=1.0, **options)
