"""Problems of many shapes for linear estimators: data, scikit-learn's objectives in numpy, and their minima.

An objective is the mean of a loss of margins ``Z = X W[:-1] + W[-1]`` plus
``l1 |W[:-1]|_1 + l2 / 2 |W[:-1]|**2``, in float64, over rows that are read some at a time. Nothing here is
daskgd's, so that it may judge daskgd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize_scalar
from scipy.signal import lfilter
from scipy.sparse.linalg import LinearOperator, cg
from scipy.special import expit, log_softmax, xlogy

EPSILON, QUANTILE, POWER, BEND = 0.5, 0.7, 1.5, 1.35
"""Of the epsilon-insensitive losses, the pinball loss, Tweedie's deviance and Huber's loss."""

NONSMOOTH = {"hinge", "epsilon_insensitive", "pinball"}
WIDTHS = tuple(np.geomspace(1e-1, 1e-5, 9).tolist())
"""To which kinks are smoothed, one after the other; what that adds goes with the square of the width."""

FORMED = 4_000
"""Most features for which a Hessian is formed."""

LOSSES = {
    "LogisticRegression": "log_loss",
    "LinearSVC": "squared_hinge",
    "LinearSVR": "epsilon_insensitive",
    "HuberRegressor": "huber",
    "PoissonRegressor": "poisson",
    "GammaRegressor": "gamma",
    "TweedieRegressor": "tweedie",
    "QuantileRegressor": "pinball",
    "Perceptron": "mistakes",
}
"""Of estimators, by scikit-learn's names where it has one; others have squares."""


# -- objectives ---------------------------------------------------------------------------------


def positive_part(t: Any, width: float) -> tuple[Any, Any, Any]:
    """``max(0, t)`` with its derivatives, or the smooth ``width log(1 + exp(t / width))`` with those."""
    if not width:
        return np.maximum(t, 0), (t > 0).astype(float), np.zeros_like(t)
    q = expit(t / width)
    return width * np.logaddexp(0, t / width), q, q * (1 - q) / width


def pointwise(kind: str, y: Any, Z: Any, width: float, scale: float) -> tuple[float, Any, Any]:
    """The sum of the losses at margins ``(n, k)``, and their first and second derivatives by the margins.

    The softmax has a matrix of second derivatives for each row: its probabilities are in their place.
    """
    several = Z.shape[1] > 1
    Y = (y[:, None] == np.arange(Z.shape[1])).astype(float) if several else y[:, None].astype(float)
    t, r = 2 * Y - 1, Z - Y
    value: Any
    match kind:
        case "softmax":
            L = log_softmax(Z, axis=1)
            P = np.exp(L)
            value, G, H = -L * Y, P - Y, P
        case "log_loss":
            q = expit(-t * Z)
            value, G, H = np.logaddexp(0, -t * Z), -t * q, q * (1 - q)
        case "squared_hinge":
            m = np.maximum(0, 1 - t * Z)
            value, G, H = m * m, -2 * t * m, 2.0 * (m > 0)
        case "hinge":
            value, d, H = positive_part(1 - t * Z, width)
            G = -t * d
        case "mistakes":
            value, G, H = t * Z <= 0, t, t
        case "squared_error":
            value, G, H = r * r / 2, r, np.ones_like(r)
        case "squared_epsilon_insensitive":
            m = np.maximum(0, np.abs(r) - EPSILON)
            value, G, H = m * m, 2 * m * np.sign(r), 2.0 * (m > 0)
        case "epsilon_insensitive":
            above, below = positive_part(r - EPSILON, width), positive_part(-r - EPSILON, width)
            value, G, H = above[0] + below[0], above[1] - below[1], above[2] + below[2]
        case "pinball":
            value, G, H = positive_part(r, width)
            value, G = value - QUANTILE * r, G - QUANTILE
        case "huber":
            u = r / scale
            far = np.abs(u) > BEND
            value = scale + scale * np.where(far, BEND * (2 * np.abs(u) - BEND), u * u)
            G, H = 2 * np.clip(u, -BEND, BEND), 2 / scale * ~far
        case "poisson":
            m = np.exp(Z)
            value, G, H = m - Y + xlogy(Y, Y) - Y * Z, m - Y, m
        case "gamma":
            m = Y * np.exp(-Z)
            value, G, H = m - 1 + Z - np.log(Y), 1 - m, m
        case _:  # "tweedie"
            a, b = 1 - POWER, 2 - POWER
            low, high = Y * np.exp(a * Z), np.exp(b * Z)
            value, G, H = Y**b / (a * b) - low / a + high / b, high - low, b * high - a * low
    return float(np.sum(value)), G, H


@dataclass
class Objective:
    """The objective of a loss and penalties over all rows of X ``(n, p)``, which may be mapped from a file.

    W ``(p + 1, outputs)`` has the intercepts last; `scale` is that of Huber's loss.
    """

    kind: str
    X: Any
    y: Any
    outputs: int = 1
    l1: float = 0.0
    l2: float = 0.0
    scale: float = 1.0
    H: Any = field(default=None, init=False)

    def rows(self) -> Iterator[tuple[slice, Any, Any]]:
        """Read some rows after the others, 8 MB with what is computed of them."""
        step = max(1, 1_000_000 // (self.X.shape[1] + 4 * self.outputs))
        for a in range(0, len(self.y), step):
            at = slice(a, a + step)
            yield at, np.asarray(self.X[at], float), np.asarray(self.y[at])

    def penalty(self, W: Any) -> float:
        return self.l1 * float(np.abs(W[:-1]).sum()) + self.l2 / 2 * float(np.sum(W[:-1] ** 2))

    def value(self, W: Any, width: float = 0.0) -> float:
        """The objective at W, kinks smoothed to that width."""
        total = 0.0
        for _, X, y in self.rows():
            total += pointwise(self.kind, y, X @ W[:-1] + W[-1], width, self.scale)[0]
        return total / len(self.y) + self.penalty(W)

    def derivatives(self, W: Any, width: float) -> tuple[float, Any]:
        """The objective, and the gradient of what is smooth in it; H keeps the losses' second derivatives."""
        f, G, self.H = 0.0, np.zeros_like(W), np.empty((len(self.y), self.outputs))
        for at, X, y in self.rows():
            value, R, self.H[at] = pointwise(self.kind, y, X @ W[:-1] + W[-1], width, self.scale)
            f, G = f + value, G + np.vstack([X.T @ R, R.sum(axis=0)])
        G /= len(self.y)
        G[:-1] += self.l2 * W[:-1]
        return f / len(self.y) + self.penalty(W), G

    def product(self, V: Any) -> Any:
        """The Hessian of what is smooth, times V."""
        G = np.zeros_like(V)
        for at, X, _ in self.rows():
            Q = self.H[at] * (X @ V[:-1] + V[-1])
            if self.kind == "softmax":
                Q -= self.H[at] * Q.sum(axis=1, keepdims=True)
            G += np.vstack([X.T @ Q, Q.sum(axis=0)])
        G /= len(self.y)
        G[:-1] += self.l2 * V[:-1]
        return G

    def preconditioner(self, keep: Any) -> Callable[[Any], Any]:
        """What divides by the Hessian of the features to keep.

        For several outputs it is that of their mean second derivatives, for very many features its diagonal.
        """
        c = (self.H * (1 - self.H) if self.kind == "softmax" else self.H).mean(axis=1, keepdims=True)
        kept = int(keep.sum())
        M = np.zeros((kept, kept if kept <= FORMED else 1))
        for at, X, _ in self.rows():
            A = np.hstack([X, np.ones((len(X), 1))])[:, keep]
            M += A.T @ (A * c[at]) if kept <= FORMED else (A * A).T @ c[at]
        M /= len(self.y)
        if kept > FORMED:
            return lambda R: R / (M + self.l2 + 1e-12 * M.max())
        diagonal = M.diagonal() + self.l2
        for ridge in (1e-14, 1e-11, 1e-8, 1e-5, 1e-2):
            np.fill_diagonal(M, diagonal + ridge * diagonal.max() + 1e-300)
            try:
                factor = cho_factor(M)
            except np.linalg.LinAlgError:
                continue
            return lambda R: cho_solve(factor, R)
        raise np.linalg.LinAlgError("expected a Hessian that is positive semidefinite, got another")

    def direction(self, g: Any, free: Any) -> Any:
        """Newton's direction in the free coefficients, by preconditioned conjugate gradients."""
        keep = free.any(axis=1)
        solve = self.preconditioner(keep)

        def spread(v: Any) -> Any:
            V = np.zeros_like(g)
            V[free] = v
            return V

        size = int(free.sum())
        hessian = LinearOperator((size, size), lambda v: self.product(spread(v.ravel()))[free])
        inverse = LinearOperator((size, size), lambda v: solve(spread(v.ravel())[keep])[free[keep]])
        return spread(cg(hessian, -g[free], rtol=1e-4, maxiter=300, M=inverse)[0])

    def fit_scale(self, W: Any) -> None:
        """Take the best scale of Huber's loss at these coefficients."""

        def at(log_scale: float) -> float:
            self.scale = float(np.exp(log_scale))
            return self.value(W)

        if self.kind == "huber":
            at(minimize_scalar(at, bounds=(-10, 10), method="bounded", options={"xatol": 1e-9}).x)

    def newton(self, W: Any, width: float = 0.0, tol: float = 1e-11) -> tuple[Any, float]:
        """Newton's method from W, until half the squared decrement relative to the objective is below `tol`.

        With L1 a step stays in the orthant of the signs of W, or where that is 0 of the steepest descent.
        Returns the last W, and that half of the decrement there: about its gap.
        """
        l1 = np.full((len(W), 1), self.l1)
        l1[-1] = 0
        for _ in range(50):
            self.fit_scale(W)
            f, G = self.derivatives(W, width)
            signs = np.where(W != 0, np.sign(W), -np.sign(G))
            free = (W != 0) | (np.abs(G) > l1) | (l1 == 0)
            g = np.where(free, G + l1 * signs, 0)
            d = self.direction(g, free)
            gap = -float(np.sum(g * d)) / 2 / f
            step = 1.0 if gap > tol else 0.0
            while step > 1e-6:
                trial = W + step * d
                trial[(l1 > 0) & (trial * signs < 0)] = 0
                if self.value(trial, width) <= f + 1e-4 * float(np.sum(g * (trial - W))):
                    break
                step /= 2
            else:
                return W, gap
            W = trial
        return W, gap

    def minimum(self, W: Any) -> tuple[float, float]:
        """The least value that Newton's method finds from W, and an estimate of the gap that is left.

        With kinks that is a ninth of what the last narrower width gained, as errors fall by ten each time.
        """
        self.fit_scale(W)
        least, gap, before = self.value(W), np.inf, np.inf
        for width in WIDTHS if self.kind in NONSMOOTH else (0.0,):
            found, left = self.newton(W, width)
            if width and left > 1e-8:  # too few rows are near the kinks
                break
            W, value = found, self.value(found)
            gap = max(left, abs(before - value) / value / 9 if width else 0)
            least, before = min(least, value), value
        return least, gap


# -- problems -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """An estimator, the shape and kind of its data, and penalties in the mean objective.

    `rho` is the correlation of neighbouring features, `signal` the standard deviation of margins (the noise
    has about 1), `used` the share of features that matter, `spread` the ratio of the largest scale of a
    feature to the smallest. `classes` of 0 is regression. Rows that are `stored` are float32, others float64.
    """

    estimator: str
    n: int
    p: int
    classes: int = 0
    l1: float = 0.0
    l2: float = 0.0
    loss: str = ""
    rho: float = 0.5
    signal: float = 2.0
    used: float = 1.0
    spread: float = 1.0
    stored: bool = False

    @property
    def outputs(self) -> int:
        return self.classes if self.classes > 2 else 1

    @property
    def kind(self) -> str:
        """The loss, by scikit-learn's name for it where it has one."""
        loss = self.loss or LOSSES.get(self.estimator, "squared_error")
        return "softmax" if loss == "log_loss" and self.outputs > 1 else loss

    def objective(self, X: Any, y: Any) -> Objective:
        return Objective(self.kind, X, y, self.outputs, self.l1, self.l2)

    def parameters(self, n: int) -> dict[str, Any]:
        """Constructor arguments of both programs that make this the objective, for n rows."""
        both = self.l1 + self.l2
        match self.estimator:
            case "LogisticRegression":
                return {"C": 1 / (both * n), "l1_ratio": self.l1 / both} if both else {"C": np.inf}
            case "LinearSVC":
                return {"C": 1 / (both * n), "penalty": "l1" if self.l1 else "l2", "loss": self.kind}
            case "LinearSVR":
                return {"C": 1 / (both * n), "epsilon": EPSILON, "loss": self.kind}
            case "Ridge":
                return {"alpha": self.l2 * n}
            case "HuberRegressor":
                return {"alpha": self.l2 * n / 2}
            case "ElasticNet":
                return {"alpha": both, "l1_ratio": self.l1 / both}
            case "QuantileRegressor":
                return {"alpha": self.l1, "quantile": QUANTILE}
            case "TweedieRegressor":
                return {"alpha": self.l2, "power": POWER}
            case "Lasso" | "PoissonRegressor" | "GammaRegressor":
                return {"alpha": both}
        return {}

    def blocks(self, n: int) -> Iterator[tuple[Any, Any]]:
        """Make n rows, the same ones every time."""
        rng = np.random.default_rng(0)
        w = rng.standard_normal((self.p, self.outputs)) * (rng.random((self.p, 1)) < self.used)
        scales = rng.permutation(np.geomspace(1, 1 / self.spread, self.p))
        rows = min(50_000, max(1_000, 4_000_000 // self.p))
        for start in range(0, n, rows):
            noise = rng.standard_normal((min(rows, n - start), self.p))
            noise[:, 1:] *= np.sqrt(1 - self.rho**2)
            X = lfilter([1.0], [1.0, -self.rho], noise, axis=1)
            if start == 0:
                w *= self.signal / (X @ w).std()
            if self.kind == "mistakes":  # away from the plane, so that it can be found
                X += np.sign(X @ w) * 0.1 * self.signal * w.T / np.sum(w**2)
            y = self.targets(X @ w + 0.3 * (self.kind != "mistakes"), rng)
            if start == 0 and self.outputs > 1:
                y[: self.classes] = np.arange(self.classes)
            yield (X * scales).astype(np.float32 if self.stored else np.float64), y

    def targets(self, z: Any, rng: np.random.Generator) -> Any:
        """Draw targets of the model for margins ``(n, k)``."""
        if self.kind == "mistakes":
            return (z[:, 0] > 0).astype(np.int64)
        if self.classes == 2:
            return (z[:, 0] + rng.logistic(size=len(z)) > 0).astype(np.int64)
        if self.classes:
            return np.argmax(z + rng.gumbel(size=z.shape), axis=1)
        z = z[:, 0]
        match self.kind:
            case "poisson":
                return rng.poisson(np.exp(z)).astype(float)
            case "gamma":
                return np.exp(z) * rng.gamma(2, 0.5, len(z))
            case "tweedie":
                return np.exp(z) * rng.gamma(rng.poisson(2, len(z)), 0.5)
            case "squared_error":
                return z + rng.standard_normal(len(z))
        return z + rng.standard_t(3, len(z))


def logistic(n: int, p: int, classes: int = 2, **more: Any) -> Problem:
    return Problem("LogisticRegression", n, p, classes, **more)


def deviance(name: str, n: int, p: int, **more: Any) -> Problem:
    return Problem(f"{name}Regressor", n, p, l2=1e-4, signal=0.5, **more)


QUICK = {
    "logistic-small": logistic(6_000, 5, l2=1e-4),
    "logistic-correlated": logistic(20_000, 100, l2=1e-5, rho=0.99),
    "logistic-unscaled": logistic(20_000, 50, l2=1e-6, spread=1e3),
    "logistic-separable": logistic(20_000, 30, l2=1e-6, signal=50),
    "logistic-unpenalised": logistic(50_000, 20),
    "logistic-l1": logistic(20_000, 200, l1=1e-3, rho=0.9, used=0.1),
    "logistic-elasticnet": logistic(20_000, 100, l1=1e-3, l2=1e-3, used=0.2),
    "softmax-10": logistic(20_000, 64, 10, l2=1e-4, rho=0.9),
    "softmax-100": logistic(20_000, 30, 100, l2=1e-4),
    "ridge": Problem("Ridge", 20_000, 100, l2=1e-3, rho=0.99),
    "least-squares": Problem("LinearRegression", 100_000, 50, rho=0.99),
    "lasso": Problem("Lasso", 20_000, 200, l1=1e-2, rho=0.9, used=0.1),
    "elasticnet": Problem("ElasticNet", 6_000, 1_000, l1=1e-2, l2=1e-2, rho=0.9, used=0.05),
    "svc": Problem("LinearSVC", 20_000, 50, 2, l2=1e-4),
    "svc-l1": Problem("LinearSVC", 20_000, 100, 2, l1=1e-3, rho=0.9, used=0.1),
    "svc-hinge": Problem("LinearSVC", 10_000, 20, 2, l2=1e-3, loss="hinge"),
    "svc-10": Problem("LinearSVC", 10_000, 64, 10, l2=1e-4),
    "svr": Problem("LinearSVR", 10_000, 20, l2=1e-3),
    "svr-squared": Problem("LinearSVR", 20_000, 50, l2=1e-4, loss="squared_epsilon_insensitive"),
    "huber": Problem("HuberRegressor", 50_000, 30, l2=1e-5),
    "poisson": deviance("Poisson", 50_000, 30),
    "gamma": deviance("Gamma", 50_000, 30, rho=0.95),
    "tweedie": deviance("Tweedie", 50_000, 30),
    "quantile": Problem("QuantileRegressor", 6_000, 10, l1=1e-3),
    "perceptron": Problem("Perceptron", 20_000, 20, 2),
}
PROBLEMS = QUICK | {
    "logistic-wide": logistic(6_000, 10_000, l2=1e-3, rho=0.9),
    "logistic-2000": logistic(50_000, 2_000, l2=1e-4, rho=0.9),
    "logistic-million": logistic(1_000_000, 100, l2=1e-6, rho=0.99),
    "logistic-separable-million": logistic(1_000_000, 30, l2=1e-7, signal=50),
    "logistic-10-million": logistic(10_000_000, 20, l2=1e-6, rho=0.9, stored=True),
    "logistic-l1-wide": logistic(6_000, 10_000, l1=1e-2, rho=0.9, used=0.005),
    "logistic-l1-million": logistic(1_000_000, 50, l1=1e-3, rho=0.9, used=0.2, stored=True),
    "logistic-elasticnet-million": logistic(1_000_000, 50, l1=1e-3, l2=1e-3, used=0.2, stored=True),
    "softmax-10-2000": logistic(20_000, 2_000, 10, l2=1e-3),
    "softmax-20-million": logistic(1_000_000, 50, 20, l2=1e-5, stored=True),
    "softmax-500": logistic(100_000, 50, 500, l2=1e-4),
    "ridge-wide": Problem("Ridge", 6_000, 10_000, l2=1e-2, rho=0.9),
    "ridge-5-million": Problem("Ridge", 5_000_000, 50, l2=1e-4, rho=0.99, stored=True),
    "least-squares-3000": Problem("LinearRegression", 20_000, 3_000, rho=0.9),
    "least-squares-10-million": Problem("LinearRegression", 10_000_000, 20, rho=0.99, stored=True),
    "lasso-wide": Problem("Lasso", 6_000, 10_000, l1=2e-2, rho=0.9, used=0.005),
    "lasso-million": Problem("Lasso", 1_000_000, 100, l1=1e-2, rho=0.99, used=0.1),
    "elasticnet-2-million": Problem("ElasticNet", 2_000_000, 50, l1=1e-2, l2=1e-2, used=0.2, stored=True),
    "svc-million": Problem("LinearSVC", 1_000_000, 50, 2, l2=1e-6, rho=0.9),
    "svc-50": Problem("LinearSVC", 100_000, 50, 50, l2=1e-5),
    "svc-l1-500000": Problem("LinearSVC", 500_000, 50, 2, l1=1e-3, rho=0.9, used=0.2),
    "svc-hinge-500000": Problem("LinearSVC", 500_000, 20, 2, l2=1e-5, loss="hinge"),
    "svr-500000": Problem("LinearSVR", 500_000, 20, l2=1e-5),
    "svr-squared-million": Problem("LinearSVR", 1_000_000, 20, l2=1e-6, loss="squared_epsilon_insensitive"),
    "huber-million": Problem("HuberRegressor", 1_000_000, 50, l2=1e-6, rho=0.9),
    "poisson-2-million": deviance("Poisson", 2_000_000, 30, stored=True),
    "gamma-million": deviance("Gamma", 1_000_000, 50, rho=0.95),
    "tweedie-500000": deviance("Tweedie", 500_000, 100),
    "quantile-100000": Problem("QuantileRegressor", 100_000, 20, l1=1e-3),
    "quantile-unpenalised": Problem("QuantileRegressor", 500_000, 10),
    "perceptron-million": Problem("Perceptron", 1_000_000, 20, 2),
}
