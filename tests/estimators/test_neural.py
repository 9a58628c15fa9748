"""Models that are not linear: perceptrons against scikit-learn, models of one's own, torch and JAX."""

from __future__ import annotations

import importlib.util
import pickle
import re
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor

import daskgd
from daskgd.cli.demo_fit import Digits, Expansion
from daskgd.engines.serial import Serial
from daskgd.losses import Logistic, Softmax, Squared
from daskgd.models import MLP, Linear, Model
from daskgd.penalties import L2
from daskgd.problems import Problem
from daskgd.queries import Ask, Gradient, GradientOnly, Line
from daskgd.rows.tiles import Rows
from daskgd.solvers import Solver
from daskgd.testing import MODELS, SOLVERS, check_model, check_query, toy_rows
from daskgd.testing.laws import ArraySource
from daskgd.training.loop import Stop, loop
from daskgd.training.together import together
from tests.tiers import slow_but

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

PIXELS, DIGITS = load_digits(return_X_y=True)


# -- the contract -----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_contract(model: Model) -> None:
    check_model(model)


@dataclass(frozen=True)
class Broken(Model):
    """A model with one defect."""

    defect: str
    n_features: int = 3
    outputs: int = 1

    @property
    def size(self) -> int:
        return 3

    @property
    def penalised(self) -> Any:
        return np.ones(2 if self.defect == "mask" else 3, bool)

    def initial(self, seed: int) -> Any:
        return np.random.default_rng(None if self.defect == "seed" else seed).standard_normal(3)

    def forward(self, w: Any, X: Any) -> Any:
        v = w.astype(X.dtype)
        z = np.tanh(X @ v)
        if self.defect == "rows":
            z = z - z.mean() if len(z) else z
        if self.defect == "dtype":
            z = z.astype(float)
        if self.defect == "writes":
            X *= 2

        def back(r: Any) -> Any:
            if self.defect == "slope":
                return (X.T @ r).astype(float)
            g = X.T @ (r * (1 - z * z))
            return g if self.defect == "single" else g.astype(float)

        return z, back


@pytest.mark.parametrize(
    ("defect", "sentence"),
    [
        ("mask", "penalised"),
        ("seed", "not the same twice"),
        ("rows", "derivative|depend on other rows"),
        ("dtype", "margins of float32"),
        ("writes", "writes|derivative|differ"),
        ("slope", "derivative by parameter"),
        ("single", "gradients of float64"),
    ],
)
def test_the_check_notices(defect: str, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_model(Broken(defect))
    check_model(Broken(""))


def problems() -> list[tuple[Problem, Rows]]:
    rows, center, scale = toy_rows(90, weights=True), np.full(3, 0.2), np.array([1.0, 2.0, 0.5])
    assert rows.y is not None
    three = MLP(3, 3, (4,), "tanh", center, scale)
    one = MLP(3, 1, (4, 3), "logistic")
    return [
        (Problem(Softmax(), three, L2(three.per_parameter(0.1)), np.arange(3)), rows),
        (
            Problem(Logistic(), one, L2(0.01), np.array([0, 1])),
            replace(rows, y=(rows.y == 1).astype(int), sample_weight=None),
        ),
        (Problem(Squared(), one, L2(0.01)), replace(rows, y=rows.y.astype(float))),
    ]


@pytest.mark.parametrize("which", range(3))
def test_queries_keep_their_laws(which: int) -> None:
    problem, rows = problems()[which]
    w = problem.model.initial(1)
    d = problem.model.initial(2)
    for query in (Gradient(w), GradientOnly(w), Line(w, d, np.array([0.0, 0.5, 2.0]))):
        check_query(query, problem, rows)


def test_a_line_is_the_objective_along_it() -> None:
    problem, rows = problems()[0]
    w, d = problem.model.initial(1), problem.model.initial(2)
    engine = Serial(ArraySource.of(rows, 30))
    values, slopes = engine.sweep([Ask(problem, Line(w, d, np.array([0.0, 0.3])))])[0]
    for t, value, slope in zip((0.0, 0.3), values, slopes, strict=True):
        f, g = engine.sweep([Ask(problem, Gradient(w + t * d))])[0]
        assert value == pytest.approx(f, rel=1e-12)
        assert slope == pytest.approx(g @ d, rel=1e-9)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_solvers_say_whether_they_need_a_linear_model(solver: Solver) -> None:
    problem, rows = problems()[0]
    w = problem.model.initial(0)
    if solver.needs_linear:
        problem = problems()[2][0]  # of squared loss, as Gram needs
        with pytest.raises(ValueError, match=r"needs a linear model; MLP is not. Use LBFGS\(\), Gradient"):
            solver.check(problem)
        return
    engine = Serial(ArraySource.of(rows, 23))
    f, _ = engine.sweep([Ask(problem, Gradient(w))])[0]
    (result,) = together([loop(solver, problem, w, Stop(0.0, 20))], [daskgd_meter()], engine)
    assert engine.sweep([Ask(problem, Gradient(result.w))])[0][0] < f


def daskgd_meter() -> Any:
    from daskgd.training.loop import Meter

    return Meter()


# -- scikit-learn's answers -------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("kind", ["binary", "classes", "numbers", "pair"])
def test_the_objective_and_its_slope_are_scikit_learns(kind: str, activation: str) -> None:
    """At the same weights: what `alpha` means, and that intercepts are not penalised."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3)) * [1, 5, 0.2] + [0, 3, 1]
    y: Any = {
        "binary": X[:, 0] > 0,
        "classes": rng.integers(0, 3, 60),
        "numbers": X[:, 0] - 2.0,
        "pair": X[:, :2] - 2.0,
    }[kind]
    settings: Any = {
        "hidden_layer_sizes": (5, 4),
        "activation": activation,
        "alpha": 3.0,
        "solver": "lbfgs",
        "max_iter": 2,
    }
    there = (MLPRegressor if kind in ("numbers", "pair") else MLPClassifier)(**settings, random_state=1)
    theirs = there.fit(X, y)
    name = type(theirs).__name__
    ours = getattr(daskgd, name)(**settings, warm_start=True, scale=kind != "classes", engine="serial")
    ours.fit(X, y)  # for its attributes
    ours.coefs_, ours.intercepts_ = theirs.coefs_, theirs.intercepts_
    dataset = daskgd.as_dataset(X, y)
    seen: list[Any] = []

    def stop(event: Any) -> None:
        seen.append(event)

    class Asked(Serial):
        first: Any = None

        def sweep(self, asks: Any) -> Any:
            answers = super().sweep(asks)
            if isinstance(asks[0].query, Gradient) and Asked.first is None:
                Asked.first = asks[0], answers[0]
            return answers

    ours.set_params(engine=lambda data: Asked(data.source, data.nbytes), max_iter=1).fit(dataset)
    ask, (f, g) = Asked.first
    loss = theirs.loss_ if kind != "pair" else None
    model = ask.problem.model
    weights = sum(float(np.sum(W**2)) for W in theirs.coefs_)
    if kind in ("binary", "classes"):
        P = theirs.predict_proba(X)
        loss = -np.mean(np.log(P[np.arange(60), np.searchsorted(theirs.classes_, y)]))
    else:
        miss = theirs.predict(X) - y
        loss = np.sum(miss**2) / 2 / 60
    assert f == pytest.approx(loss + 3.0 * weights / 2 / 60, rel=1e-9)
    assert np.linalg.norm(g) > 0
    # The same function of the features, whatever the units of the parameters.
    z = model.margins(model.parameters(theirs.coefs_, theirs.intercepts_), X)
    assert np.allclose(z, MLP(3, model.outputs, (5, 4), activation).margins(_flat(theirs), X), rtol=1e-9)


def _flat(theirs: Any) -> Any:
    layers = zip(theirs.coefs_, theirs.intercepts_, strict=True)
    return np.concatenate([np.concatenate([W.ravel(), b]) for W, b in layers])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("solver", slow_but(["auto", "adam"], "auto"))
def test_digits_as_well_as_scikit_learn(solver: str) -> None:
    """Mean accuracy of five seeds, on a quarter that is set aside: at most half a point below."""
    ours, theirs = [], []
    for seed in range(5):
        split = train_test_split(PIXELS, DIGITS, test_size=0.25, random_state=seed, stratify=DIGITS)
        X, X_test, y, y_test = split
        ours.append(daskgd.MLPClassifier(solver=solver, random_state=seed).fit(X, y).score(X_test, y_test))
        theirs.append(MLPClassifier(random_state=seed).fit(X, y).score(X_test, y_test))
    assert np.mean(ours) >= np.mean(theirs) - 0.005


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_expanded_digits_out_of_core(tmp_path: Path) -> None:
    """Ten sweeps over rows made of three quarters of the digits; the last quarter, as it is, judges."""
    digits = Digits.load()
    blocks = Expansion(digits.X, digits.y).blocks(200_000)
    daskgd.write_dataset(tmp_path / "d.zarr", blocks, chunk_bytes=1_000_000)
    dataset = daskgd.open_dataset(tmp_path / "d.zarr", partition_bytes=6_000_000)
    est = daskgd.MLPClassifier(max_iter=9).fit(dataset)
    assert est.n_sweeps_ <= 10
    assert est.score(digits.X_test, digits.y_test) >= 0.98
    assert est.history_.solver.startswith("LocalSGD(step=0.001, inner='adam'")


def test_initial_weights_are_glorots() -> None:
    model = MLP(300, 4, (200,), "relu")
    (W, b), _ = model.layers(model.initial(5))
    bound = np.sqrt(6 / 500)
    assert np.abs(W).max() <= bound
    assert W.std() == pytest.approx(bound / np.sqrt(3), rel=0.01)
    assert 0 < np.abs(b).max() <= bound
    assert not np.array_equal(model.initial(5), model.initial(6))
    (W, _), _ = replace(model, activation="logistic").layers(model.initial(5))
    logistic = replace(model, activation="logistic")
    assert np.abs(logistic.layers(logistic.initial(5))[0][0]).max() <= np.sqrt(2 / 500)
    with pytest.raises(ValueError, match="expected activation to be 'identity', 'logistic', 'tanh', 'relu'"):
        MLP(3, activation="gelu")


# -- engines, faults and files ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The digits in float32, in blocks and partitions of a few rows."""
    path = tmp_path_factory.mktemp("neural") / "digits.zarr"
    daskgd.write_dataset(path, PIXELS.astype(np.float32), DIGITS, chunk_bytes=20_000)
    return daskgd.open_dataset(path, block_bytes=30_000, partition_bytes=90_000)


FITS = [
    daskgd.MLPClassifier((12,), solver="adam", max_iter=4, random_state=1),
    daskgd.MLPClassifier((8, 6), "tanh", solver="sgd", learning_rate="invscaling", max_iter=3),
    daskgd.MLPRegressor(hidden_layer_sizes=(5,), solver="sgd", shuffle=False, batch_size=9, max_iter=3),
    daskgd.MLPClassifier(9, "logistic", solver="lbfgs", max_iter=4, tol=1e-12),
    daskgd.MLPClassifier((), solver=daskgd.Adam(step=0.01, steps=3), max_iter=3),
    daskgd.MLPRegressor(hidden_layer_sizes=(7,), solver=daskgd.LocalGD(step=0.01, local_steps=2), max_iter=3),
    daskgd.CustomClassifier(MLP(64, 10, (6,)), solver="adam", max_iter=3),
]
NAMES = [f"{type(e).__name__}-{e.solver}" for e in FITS]


def parameters(est: Any) -> Any:
    return est.w_ if hasattr(est, "w_") else _flat(est)


@pytest.mark.parametrize("est", FITS, ids=NAMES)
def test_engines_give_the_same_bits(est: Any, stored: Any, client: Any) -> None:
    serial = clone(est).set_params(engine="serial").fit(stored)
    for engine in ("threads", "distributed"):
        other = clone(est).set_params(engine=engine).fit(stored)
        assert np.array_equal(parameters(other), parameters(serial))
        assert other.loss_curve_ == serial.loss_curve_


class Killed(BaseException):
    """As by ^C, but nobody else raises it."""


def dying(sweeps: int) -> Callable[[Any], Serial]:
    def make(dataset: Any) -> Serial:
        class Dying(Serial):
            left = sweeps

            def sweep(self, asks: Any) -> Any:
                if not Dying.left:
                    raise Killed
                Dying.left -= 1
                return super().sweep(asks)

        return Dying(dataset.source, dataset.nbytes)

    return make


@pytest.mark.parametrize("step", slow_but([1, 3], 3))
@pytest.mark.parametrize("est", FITS, ids=NAMES)
def test_killed_at_every_sweep_and_resumed(est: Any, step: int, stored: Any, tmp_path: Path) -> None:
    whole = clone(est).set_params(engine="serial").fit(stored)
    asked = round(whole.n_sweeps_) if "Adam" not in repr(est.solver) else 1 + 3 * est.max_iter
    for sweeps in range(step - 1, asked, step):
        folder = tmp_path / str(sweeps)
        with pytest.raises(Killed):
            clone(est).set_params(engine=dying(sweeps)).fit(stored, checkpoint=folder)
        again = clone(est).set_params(engine=dying(asked - sweeps)).fit(stored, checkpoint=folder)
        assert np.array_equal(parameters(again), parameters(whole))
        assert again.loss_curve_ == whole.loss_curve_
        assert (again.n_iter_, again.outcome_) == (whole.n_iter_, whole.outcome_)


def test_a_fit_that_reached_a_plateau_is_resumed_as_such(stored: Any, tmp_path: Path) -> None:
    est = daskgd.MLPClassifier(
        (12,),
        solver="adam",
        learning_rate_init=0.02,
        tol=0.5,
        n_iter_no_change=2,
        max_iter=50,
        engine="serial",
    )
    whole = clone(est).fit(stored, checkpoint=tmp_path)
    assert whole.outcome_ == "converged"
    assert whole.n_iter_ < 20
    again = clone(est).set_params(engine=dying(0)).fit(stored, checkpoint=tmp_path)
    assert np.array_equal(parameters(again), parameters(whole))
    assert again.outcome_ == "converged"


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_files_pickles_and_export(kind: str, stored: Any, tmp_path: Path) -> None:
    est = getattr(daskgd, kind)(hidden_layer_sizes=(12, 5), max_iter=30, random_state=3).fit(PIXELS, DIGITS)
    est.save(tmp_path / "m.dgd")
    for back in (daskgd.load_model(tmp_path / "m.dgd"), pickle.loads(pickle.dumps(est))):
        assert np.array_equal(back.predict(PIXELS), est.predict(PIXELS))
        assert back.score(PIXELS, DIGITS) == est.score(PIXELS, DIGITS)
    theirs = est.to_sklearn()
    assert theirs.score(PIXELS, DIGITS) == pytest.approx(est.score(PIXELS, DIGITS), rel=1e-9)
    lazily = est.predict(stored.X).compute()
    assert np.allclose(lazily, est.predict(PIXELS), rtol=1e-3)


# -- settings ---------------------------------------------------------------------------------------


def test_a_network_of_no_hidden_layer_is_logistic_regression() -> None:
    X, y = PIXELS[:300], DIGITS[:300]
    linear = daskgd.LogisticRegression(C=1 / 2.0, tol=1e-10).fit(X, y)
    net = daskgd.MLPClassifier((), alpha=2.0, tol=1e-10, max_iter=2000).fit(X, y)
    assert np.abs(net.coefs_[0].T - linear.coef_).max() < 1e-3 * np.abs(linear.coef_).max()
    assert np.allclose(net.predict_proba(X), linear.predict_proba(X), atol=1e-3)


def test_early_stopping_sets_rows_aside_and_keeps_the_best(stored: Any) -> None:
    est = daskgd.MLPClassifier(
        (20,), solver="adam", learning_rate_init=0.01, early_stopping=True, validation_fraction=0.2
    )
    est.set_params(n_iter_no_change=3, max_iter=60, random_state=4).fit(stored)
    assert est.outcome_ == "stopped"
    _, rest = stored.train_test_split(0.2, 4, stratify=True)
    assert est.score(rest) == est.best_validation_score_ == max(est.validation_scores_)
    assert est.validation_scores_ == est.history_.column("validation_score")
    assert len(est.validation_scores_) < 60
    with pytest.raises(ValueError, match="together: expected early_stopping=False"):
        daskgd.together([clone(est)], stored)


def test_fits_together_share_sweeps(stored: Any) -> None:
    grid = [daskgd.MLPClassifier((6,), solver="adam", alpha=a, max_iter=3) for a in (1e-4, 10.0)]
    alone = [clone(e).fit(stored) for e in grid]
    both = daskgd.together(grid, stored)
    for a, b in zip(alone, both, strict=True):
        assert np.array_equal(parameters(a), parameters(b))
        assert b.n_sweeps_ == 4
    assert np.linalg.norm(both[0].coefs_[0]) > np.linalg.norm(both[1].coefs_[0])


def test_a_warm_start_goes_on_from_there() -> None:
    est = daskgd.MLPClassifier((8,), solver="adam", warm_start=True, max_iter=5, tol=0).fit(PIXELS, DIGITS)
    before, coefs = est.loss_, [W.copy() for W in est.coefs_]
    assert est.fit(PIXELS, DIGITS).loss_curve_[0] < before
    est.coefs_ = coefs
    with pytest.raises(ValueError, match="warm_start: expected layers and data like those of the last fit"):
        est.set_params(hidden_layer_sizes=(9,)).fit(PIXELS, DIGITS)


def test_tol_ends_a_fit_and_a_budget_that_is_spent_is_told() -> None:
    X, y = PIXELS[:500], DIGITS[:500]
    est = daskgd.MLPClassifier(solver="adam", tol=1e-3).fit(X, y)
    assert est.outcome_ == "converged"
    assert 10 < est.n_iter_ < 200
    assert est.best_loss_ == min(est.loss_curve_) == pytest.approx(est.loss_, abs=0.02)
    with pytest.warns(ConvergenceWarning, match="did not converge in max_iter=3 iterations: the loss still"):
        est.set_params(max_iter=3).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert est.set_params(tol=0).fit(X, y).n_iter_ == 3


def test_numbers_far_from_zero_several_targets_and_counts(rng: np.random.Generator) -> None:
    X = rng.standard_normal((400, 2)).astype(np.float32)
    y = np.tanh(X[:, 0]) + 1e6
    est = daskgd.MLPRegressor(hidden_layer_sizes=(20,), max_iter=500).fit(X, y)
    assert est.score(X, y) > 0.99
    assert np.abs(est.predict(X) - y).max() < 0.5
    pair = np.stack([y, X[:, 1] ** 2], axis=1)
    est = daskgd.MLPRegressor(hidden_layer_sizes=(20,), max_iter=500).fit(X, pair)
    assert est.predict(X).shape == (400, 2)
    assert est.score(X, pair) > 0.98
    counts = rng.poisson(np.exp(np.sin(2 * X[:, 0])))
    est = daskgd.MLPRegressor("poisson", (10,), "tanh", max_iter=300).fit(X, counts)
    assert (est.predict(X) > 0).all()
    assert est.score(X, counts) > 0.2
    assert est.to_sklearn().out_activation_ == est.out_activation_ == "exp"
    with pytest.raises(ValueError, match="expected targets >= 0"):
        est.fit(X, counts - 1)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"hidden_layer_sizes": (0,)}, "expected hidden_layer_sizes to be a number of units"),
        ({"activation": "gelu"}, "expected activation to be 'identity' or"),
        ({"solver": "sgd", "learning_rate": "cosine"}, "expected learning_rate to be 'constant' or"),
        ({"solver": "adam", "learning_rate": "invscaling"}, 'expected learning_rate="constant" unless'),
        ({"shuffle": "no"}, "expected shuffle to be True or False"),
        ({"max_fun": 0}, "expected max_fun to be a whole number >= 1"),
        ({"n_iter_no_change": 0}, "expected n_iter_no_change to be a whole number >= 1, or inf"),
        (
            {"early_stopping": True, "validation_fraction": 0},
            r"expected validation_fraction to be a share in",
        ),
        ({"batch_size": 0}, 'expected batch_size to be "auto" or a whole number'),
        ({"validation_fraction": 1.0}, "expected validation_fraction to be a share"),
        ({"beta_1": 1.0}, "expected beta_1 to be in"),
        (
            {"solver": "newton"},
            "expected solver to be one for .* and a model that is not linear.*use 'auto' or",
        ),
        ({"solver": daskgd.GIANT()}, "a model that is not linear"),
        ({"solver": daskgd.LocalSGD()}, "a model that is not linear"),
        ({"solver": "nonsense"}, "expected solver to be 'auto'"),
        ({"alpha": -1}, "expected alpha to be a number >= 0"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        daskgd.MLPClassifier(**settings).fit(PIXELS, DIGITS)


def test_settings_reach_the_solver() -> None:
    est = daskgd.MLPClassifier(
        solver="adam",
        learning_rate_init=0.02,
        beta_1=0.8,
        beta_2=0.99,
        epsilon=1e-6,
        batch_size=50,
        max_iter=1,
    )
    said = est.fit(PIXELS, DIGITS).history_.solver
    for setting in ("step=0.02", "momentum=0.8", "second=0.99", "epsilon=1e-06", "batch_size=50", "'adam'"):
        assert setting in said
    said = daskgd.MLPClassifier(solver="sgd", max_iter=1).fit(PIXELS, DIGITS).history_.solver
    assert "inner='nesterov'" in said
    plain = daskgd.MLPClassifier(solver="sgd", nesterovs_momentum=False, power_t=0.3, max_iter=1)
    said = plain.set_params(learning_rate="invscaling").fit(PIXELS, DIGITS).history_.solver
    assert "inner='momentum'" in said
    assert "decay=0.3" in said


def test_a_plan_knows_the_size_of_the_network(stored: Any) -> None:
    plan = daskgd.MLPClassifier((50,), solver="adam").plan(stored)
    assert type(plan.solver) is daskgd.LocalSGD
    assert plan.sweeps == "up to max_iter"


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_units_that_saturate_hide_no_bad_numbers(activation: str, bad: float) -> None:
    est = daskgd.MLPClassifier((4,), activation, max_iter=3).fit(PIXELS, DIGITS)
    X = PIXELS[:20].copy()
    X[7, 3] = bad
    for work in (lambda: est.predict(X), lambda: est.score(X, DIGITS[:20]), lambda: est.fit(X, DIGITS[:20])):
        with pytest.raises(ValueError, match="row 7"):
            work()


# -- models of one's own ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Squares(Model):
    """``z = b + X w + X**2 v``."""

    n_features: int
    outputs: int = 1

    @property
    def size(self) -> int:
        return 2 * self.n_features + 1

    def forward(self, w: Any, X: Any) -> Any:
        A = np.hstack([X, X * X, np.ones((len(X), 1), X.dtype)])
        return A @ np.require(w, X.dtype, ["C", "A"]), lambda r: (A.T @ r).astype(np.float64)


def test_a_model_of_ones_own_finds_what_a_linear_one_finds(rng: np.random.Generator) -> None:
    check_model(Squares(4))
    X = rng.standard_normal((500, 2))
    y = rng.random(500) < 1 / (1 + np.exp(1 - (X**2).sum(axis=1)))
    ours = daskgd.CustomClassifier(Squares, tol=1e-10).fit(X, y)
    theirs = daskgd.LogisticRegression(C=np.inf, tol=1e-12).fit(np.hstack([X, X * X]), y)
    assert np.allclose(ours.w_, [*theirs.coef_[0], theirs.intercept_[0]], atol=1e-4)
    assert np.allclose(ours.predict_proba(X), theirs.predict_proba(np.hstack([X, X * X])), atol=1e-4)
    number = daskgd.CustomRegressor(Squares(2), tol=1e-10).fit(X, X[:, 0] ** 2 - 3)
    assert np.allclose(number.w_, [0, 0, 1, 0, -3], atol=1e-4)
    number_of_steps = number.n_iter_
    again = number.set_params(warm_start=True).fit(X, X[:, 0] ** 2 - 3)
    assert again.n_iter_ < number_of_steps


def test_what_is_no_model_is_refused(rng: np.random.Generator) -> None:
    X, y = rng.standard_normal((50, 2)), np.arange(50) % 2
    with pytest.raises(ValueError, match=r"expected model to be a daskgd.Model, or a callable"):
        daskgd.CustomClassifier("forest").fit(X, y)
    with pytest.raises(
        ValueError, match=r"expected loss to be None or one for classification.*CustomRegressor"
    ):
        daskgd.CustomClassifier(Squares, Squared()).fit(X, y)
    with pytest.raises(ValueError, match=r"a model of 2 features and 1 outputs.*got one of 3 and 1"):
        daskgd.CustomClassifier(Squares(3)).fit(X, y)
    with pytest.raises(TypeError, match=r"to be a daskgd.Model, got"):
        daskgd.CustomClassifier(lambda n_features, outputs: None).fit(X, y)
    with pytest.raises(TypeError, match="no model file holds"):
        daskgd.CustomClassifier(Squares).fit(X, y).save("never.dgd")
    assert Linear(2).linear
    assert not Squares(2).linear


# -- torch and JAX ----------------------------------------------------------------------------------


def network(torch: Any, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    layers = torch.nn.Linear(64, 12), torch.nn.Tanh(), torch.nn.Dropout(0.4), torch.nn.Linear(12, 10)
    return torch.nn.Sequential(*layers)


def test_torch_gradients_are_ours() -> None:
    torch = pytest.importorskip("torch")
    from daskgd.models.torch import TorchModel

    net = network(torch)
    theirs, ours = TorchModel(net, 64, 10), MLP(64, 10, (12,), "tanh")
    check_model(theirs)
    W1, b1, W2, b2 = (p.detach().numpy().astype(float) for p in net.parameters())
    w = ours.parameters([W1.T, W2.T], [b1, b2])
    X, r = PIXELS[:40], np.random.default_rng(0).standard_normal((40, 10))
    (z, back), (z_there, back_there) = ours.forward(w, X), theirs.forward(theirs.initial(0), X)
    assert np.allclose(z, z_there, rtol=1e-12)
    g, there = ours.layers(back(r)), back_there(r)
    flat = np.concatenate([g[0][0].T.ravel(), g[0][1], g[1][0].T.ravel(), g[1][1]])
    assert np.allclose(flat, there, rtol=1e-10)
    assert theirs.penalised.sum() == W1.size + W2.size


@pytest.mark.parametrize("activation", ["Identity", "Sigmoid", "Tanh", "ReLU"])
def test_objectives_against_autograd(activation: str) -> None:
    torch = pytest.importorskip("torch")
    names = {"Identity": "identity", "Sigmoid": "logistic", "Tanh": "tanh", "ReLU": "relu"}
    model = MLP(64, 10, (11, 7), names[activation])
    w = model.initial(2)
    problem = Problem(Softmax(), model, L2(model.per_parameter(0.3)), np.arange(10))
    rows = Rows(PIXELS[:50], DIGITS[:50], None, 0)
    f, g = Serial(ArraySource.of(rows, 20)).sweep([Ask(problem, Gradient(w))])[0]
    leaves = [
        (torch.tensor(W, requires_grad=True), torch.tensor(b, requires_grad=True)) for W, b in model.layers(w)
    ]
    h, act = torch.tensor(PIXELS[:50]), getattr(torch.nn, activation)()
    for i, (W, b) in enumerate(leaves):
        h = h @ W + b if i == 2 else act(h @ W + b)
    loss = torch.nn.functional.cross_entropy(h, torch.tensor(DIGITS[:50]))
    loss = loss + 0.15 * sum((W**2).sum() for W, _ in leaves)
    loss.backward()
    assert f == pytest.approx(loss.item(), rel=1e-12)
    there = np.concatenate([np.concatenate([W.grad.numpy().ravel(), b.grad.numpy()]) for W, b in leaves])
    assert np.allclose(g, there, rtol=1e-9, atol=1e-12)


def test_a_torch_module_is_trained_and_comes_back(stored: Any, client: Any, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    net = network(torch)
    before = [p.detach().clone() for p in net.parameters()]
    est = daskgd.from_torch(net, Softmax()).set_params(solver="adam", step=0.01, max_iter=8, tol=0)
    serial = clone(est).set_params(engine="serial").fit(stored)
    assert serial.score(stored) > 0.7  # from a tenth, in 56 steps
    on_cluster = clone(est).set_params(engine="distributed").fit(stored)
    assert np.array_equal(on_cluster.w_, serial.w_)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
    margins = serial.module_(torch.from_numpy(PIXELS.astype(np.float32)))
    assert np.array_equal(margins.argmax(dim=1).numpy(), serial.predict(PIXELS.astype(np.float32)))
    with pytest.raises(Killed):
        clone(est).set_params(engine=dying(4)).fit(stored, checkpoint=tmp_path)
    resumed = clone(est).set_params(engine=dying(5)).fit(stored, checkpoint=tmp_path)
    assert np.array_equal(resumed.w_, serial.w_)
    with pytest.raises(TypeError, match=r"expected module to be a torch.nn.Module"):
        daskgd.from_torch(print, Softmax())
    with pytest.raises(TypeError, match=r"expected loss to be one of daskgd.losses"):
        daskgd.from_torch(net, torch.nn.CrossEntropyLoss())


def test_a_function_of_jax_is_trained() -> None:
    jax = pytest.importorskip("jax")
    from daskgd.models.jax import JaxModel

    rng = np.random.default_rng(0)
    params = {"W": rng.normal(size=(64, 8)) / 8, "b": np.zeros(8), "v": rng.normal(size=(8, 10)) / 3}
    params = {name: value.astype(np.float32) for name, value in params.items()}

    def apply(params: Any, X: Any) -> Any:
        return jax.numpy.tanh(X @ params["W"] + params["b"]) @ params["v"]

    model = JaxModel(apply, params, 64, 10)
    w, X = model.initial(0), (PIXELS[:50] / 16).astype(np.float32)
    ours = MLP(64, 10, (8,), "tanh")
    flat = ours.parameters([params["W"], params["v"]], [params["b"], np.zeros(10)])
    r = rng.standard_normal((50, 10)).astype(np.float32)
    (z, back), (expected, way) = model.forward(w, X), ours.forward(flat, X)
    assert np.allclose(z, expected, atol=1e-5)
    got = model.with_weights(back(r))
    assert np.allclose(got["W"], ours.layers(way(r))[0][0], atol=1e-4)
    est = daskgd.from_jax(apply, params, Softmax()).set_params(max_iter=60).fit(PIXELS / 16, DIGITS)
    assert est.score(PIXELS / 16, DIGITS) > 0.97
    assert est.module_["W"].shape == (64, 8)
    assert "FromJax(" in repr(est)


# -- the tutorial -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python *(\w*)\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 7
    module = types.ModuleType("tutorial")
    monkeypatch.setitem(sys.modules, "tutorial", module)  # where its classes are found again
    for library, code in blocks:
        if not library or importlib.util.find_spec(library):
            exec(code, vars(module))


@pytest.mark.slow
def test_few_bits_on_the_wire_cost_next_to_nothing(tmp_path: Path) -> None:
    """A network of 5,000 parameters in four partitions: a seventh of the bytes, a thousandth of the loss."""
    X, y = load_digits(return_X_y=True)
    daskgd.write_dataset(tmp_path / "d.zarr", X.astype(np.float32), y, chunk_bytes=29_000)
    data = daskgd.open_dataset(tmp_path / "d.zarr", block_bytes=29_000, partition_bytes=116_000)
    whole, few = (
        daskgd.MLPClassifier(
            (64,),
            solver=daskgd.LocalSGD(
                step=0.002, inner="adam", batch_size=16, sample_bytes=0, control=False, wire=wire
            ),
            max_iter=60,
            tol=0,
        ).fit(data)
        for wire in ("float64", "int8")
    )
    assert whole.loss_ < 0.3  # of 2.3 at the start
    assert abs(few.loss_ / whole.loss_ - 1) < 1e-3
    assert few.history_[-1]["wire_bytes"] * 7 < whole.history_[-1]["wire_bytes"]
