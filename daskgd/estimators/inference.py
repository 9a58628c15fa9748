"""Standard errors, tests and confidence intervals of generalised linear models without a penalty.

The maximum of the likelihood is normally distributed about the truth, for many rows, with the covariance

    phi (W H)^-1,

where H is the Hessian of the mean half deviance at the solution (the observed information; with a link that
is not canonical, R and others take the expected one), W the sum of the sample weights, which count as
frequencies, and phi the dispersion: 1 for logistic and Poisson regression, elsewhere Pearson's
``sum_i s_i (y_i - m_i)**2 / m_i**power`` over ``W - d``, for d parameters (McCullagh & Nelder 1989, sections
2.5 and 4.5.2). For least squares that is the residual variance, and tests are Student's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgWarning
from scipy.stats import norm, t

from daskgd._compat.caller import warn
from daskgd.data.columns import Selection
from daskgd.data.dataset import Dataset, open_dataset
from daskgd.data.html import html_table
from daskgd.engines.select import open_engine
from daskgd.estimators.prediction import dense
from daskgd.losses import Loss, Shifted
from daskgd.models import Linear
from daskgd.penalties import L2
from daskgd.problems import Problem
from daskgd.queries import Ask, Curvature, Survey, SurveyAnswer
from daskgd.queries.pearson import Pearson
from daskgd.rows.dtypes import compute_dtype
from daskgd.storage.redaction import redacted

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """Estimates, standard errors and tests of each parameter, the intercept first if there is one.

    Attributes
    ----------
    names : tuple of str, d of them
    coefficients, standard_errors : ``(d,)``
    statistics, p_values : ``(d,)``
        ``coefficient / standard error``, and how likely one as far from 0 is if the parameter is 0.
    intervals : ``(d, 2)``
        Bounds that hold the parameter with the probability `confidence`.
    covariance : ``(d, d)``
        Of the parameters; infinite where they are not determined.
    confidence, dispersion, weight : float
        `weight` is the sum of the sample weights.
    degrees : float
        `weight` less the number of parameters that the data determine.
    statistic : "t" or "z"
    """

    names: tuple[str, ...]
    coefficients: Array
    standard_errors: Array
    statistics: Array
    p_values: Array
    intervals: Array
    covariance: Array
    confidence: float
    dispersion: float
    weight: float
    degrees: float
    statistic: str

    @property
    def columns(self) -> dict[str, Array]:
        """The table by column."""
        share = f"{100 * self.confidence:g}%"
        return {
            "coefficient": self.coefficients,
            "standard error": self.standard_errors,
            self.statistic: self.statistics,
            f"P>|{self.statistic}|": self.p_values,
            f"{share} from": self.intervals[:, 0],
            f"{share} to": self.intervals[:, 1],
        }

    def to_pandas(self) -> Any:
        """The table as a data frame, a row per parameter; needs pandas."""
        import pandas as pd

        return pd.DataFrame(self.columns, index=list(self.names))

    def _cells(self) -> list[list[str]]:
        rows = [["", *self.columns]]
        values = np.column_stack(list(self.columns.values()))
        return rows + [
            [name, *(f"{v:.4g}" for v in row)] for name, row in zip(self.names, values, strict=True)
        ]

    def _foot(self) -> str:
        weight, degrees = f"total weight {self.weight:g}", f"degrees of freedom {self.degrees:g}"
        return f"{weight}, {degrees}, dispersion {self.dispersion:.4g}"

    def __repr__(self) -> str:
        cells = self._cells()
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            )
            for row in cells
        ]
        return "\n".join([*lines, self._foot()])

    def _repr_html_(self) -> str:
        header, *rows = self._cells()
        return html_table(self._foot(), rows, header)


@dataclass(frozen=True, slots=True)
class FitData:
    """The place of the rows of a fit, to open them again. Options of the storage are not kept: they may be
    secret, and models are passed on."""

    path: str
    fingerprint: str | None
    block_bytes: int
    partition_bytes: int
    selections: tuple[Selection, ...]

    @classmethod
    def of(cls, dataset: Dataset) -> FitData | None:
        """None for rows that are not stored, or only reached with options or a URL that holds secrets."""
        if dataset.path is None or dataset.storage_options or redacted(dataset.path) != dataset.path:
            return None
        return cls(
            dataset.path,
            dataset.fingerprint,
            dataset.block_bytes,
            dataset.partition_bytes,
            dataset.selections,
        )

    def open(self) -> Dataset:
        """The dataset; ValueError if it is another by now."""
        dataset = open_dataset(self.path, block_bytes=self.block_bytes, partition_bytes=self.partition_bytes)
        if dataset.fingerprint != self.fingerprint:
            raise ValueError(
                f"{self.path}: expected fingerprint {self.fingerprint}, got {dataset.fingerprint}: it was "
                "written again after the fit; fit again"
            )
        return dataset.replace(selections=self.selections)


def check_summary(estimator: Any, confidence: float) -> None:
    """Raise ValueError for an estimator whose standard errors are not defined."""
    name, loss = type(estimator).__name__, estimator._loss(2)
    if not loss.deviance:
        raise ValueError(f"{name}.summary: expected a generalised linear model, whose loss is a likelihood")
    if any(np.any(strength) for strength in estimator._strengths(1.0, 1)) or getattr(
        estimator, "positive", False
    ):
        raise ValueError(
            f"{name}.summary: expected a model without a penalty or constraint, which bias the "
            "coefficients by design; fit with C=np.inf or alpha=0"
        )
    if getattr(estimator, "class_weight", None) is not None:
        raise ValueError(
            f"{name}.summary: expected class_weight=None, got {estimator.class_weight!r}: such weights are "
            "no frequencies"
        )
    rows = len(np.atleast_2d(dense(estimator.coef_)))
    if rows != 1 or len(getattr(estimator, "classes_", ())) > 2:
        raise ValueError(f"{name}.summary: expected one target or two classes, got coef_ with {rows} rows")
    if not 0 < confidence < 1:
        raise ValueError(f"{name}.summary: expected confidence in (0, 1), got {confidence!r}")


def summarise(estimator: Any, dataset: Dataset, confidence: float) -> Summary:
    """Compute the summary of a fitted estimator on these rows, in one sweep."""
    coef, b = np.atleast_2d(dense(estimator.coef_)), np.ravel(estimator.intercept_)
    center, scale = getattr(estimator, "_units", (None, None))
    model = Linear(coef.shape[1], 1, bool(estimator.fit_intercept), center, scale)
    with open_engine(dataset, estimator.engine) as (engine, materialised):
        labels = estimator._scoring_problem(materialised)[0].labels if estimator._classification else None
        problem = Problem(_loss(estimator, materialised), model, L2(), labels)
        loss = problem.loss
        w = model.parameters(coef, b)
        if loss.shift_invariant and model.intercept:  # taken from the targets, which may be far from 0
            problem = replace(problem, offset=w[-1:].copy())
            w[-1] = 0.0
        asks = [
            Ask(None, Survey(estimator._classification, loss.low, loss.low_included)),
            Ask(problem, Curvature(w)),
        ]
        if loss.variance_power is not None:
            asks.append(Ask(problem, Pearson(w, loss.variance_power)))
        survey, (_, _, H), *pearson = engine.sweep(asks)
    if estimator._classification:
        _check_labels(estimator, survey, dataset)
    W, d = survey.weight, model.size
    fitted = getattr(estimator, "_weight", W)
    if not np.isclose(W, fitted, rtol=1e-9, atol=0):
        raise ValueError(
            f"{type(estimator).__name__}.summary: expected the rows of the fit, total weight {fitted:.12g}, "
            f"got {W:.12g}; pass the X, y and sample_weight of the fit"
        )
    root, null = _inverse(H, 4 * d * np.finfo(compute_dtype(dataset.columns.X.dtype)).eps)
    degrees = W - (d - null.shape[1])
    if degrees <= 0:
        raise ValueError(f"summary: expected more rows than the {d} parameters, got a total weight of {W:g}")
    phi = pearson[0] / degrees if pearson else 1.0
    T = _units_of_X(model)
    undetermined = _touches(T, null)
    root = T @ root * np.sqrt(phi / W)
    covariance = root @ root.T
    covariance[undetermined] = covariance[:, undetermined] = np.inf
    values = np.append(coef[0], b) if model.intercept else coef[0].copy()
    names = [str(n) for n in getattr(estimator, "feature_names_in_", [f"x{j}" for j in range(coef.shape[1])])]
    if model.intercept:
        names = ["intercept", *names]
        values = np.roll(values, 1)
        covariance = np.roll(covariance, 1, axis=(0, 1))
    if undetermined.any():
        which = [n for n, v in zip(names, np.diag(covariance), strict=True) if not np.isfinite(v)]
        warn(
            f"{type(estimator).__name__}.summary: the data do not determine {', '.join(which[:5])}"
            f"{', ...' if len(which) > 5 else ''}: features are constant or depend on each other. Their "
            "standard errors are infinite; drop some",
            LinAlgWarning,
        )
    errors = np.sqrt(np.diag(covariance))
    normal = loss.variance_power == 0  # of normal targets the statistics are Student's for any number of rows
    law: Any = t(degrees) if normal else norm
    z = values / errors
    reach = law.ppf((1 + confidence) / 2) * errors
    return Summary(
        names=tuple(names),
        coefficients=values,
        standard_errors=errors,
        statistics=z,
        p_values=2 * law.sf(np.abs(z)),
        intervals=np.column_stack([values - reach, values + reach]),
        covariance=covariance,
        confidence=confidence,
        dispersion=phi,
        weight=W,
        degrees=degrees,
        statistic="t" if normal else "z",
    )


def _loss(estimator: Any, dataset: Dataset) -> Loss:
    """The estimator's loss, shifted if the targets have an offset beside them."""
    loss: Loss = estimator._loss(2)
    y = dataset.columns.y
    if estimator._classification or y is None or len(y.shape) == 1 or y.shape[1] == 1:
        return loss
    return Shifted(loss)


def _check_labels(estimator: Any, survey: SurveyAnswer, dataset: Dataset) -> None:
    assert survey.labels is not None
    seen = survey.labels.values if dataset.classes is None else dataset.classes[survey.labels.values]
    unknown = [label for label in seen.tolist() if label not in estimator.classes_.tolist()]
    if unknown:
        raise ValueError(f"y: expected labels among {estimator.classes_.tolist()}, got {unknown}")


def _units_of_X(model: Linear) -> Array:
    """The matrix ``(d, d)`` from parameters to coefficients and intercept in the units of X."""
    out = np.eye(model.size)
    if model.scale is not None:
        out[np.arange(model.n_features), np.arange(model.n_features)] = 1 / model.scale
    if model.center is not None:
        out[-1, :-1] = -model.center * np.diag(out)[:-1]
    return out


def _inverse(H: Array, small: float) -> tuple[Array, Array]:
    """Factor the pseudo-inverse of H as ``S S'``, and find a basis ``(d, m)`` of the null space of H."""
    diagonal = np.diag(H)
    D = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    values, V = np.linalg.eigh(D[:, None] * H * D)
    null = values <= small
    return D[:, None] * V[:, ~null] / np.sqrt(values[~null]), D[:, None] * V[:, null]


def _touches(T: Array, null: Array) -> Array:
    """A mask ``(d,)`` of the rows of T that are not orthogonal, beyond rounding, to the columns of `null`."""
    unit = np.linalg.norm(null, axis=0)
    seen = np.abs(T @ null) / unit if null.size else np.zeros((len(T), 1))
    most = np.linalg.norm(T, axis=1)
    return np.asarray(seen.max(axis=1) > 1e-6 * most)
