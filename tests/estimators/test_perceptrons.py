"""Multilayer perceptrons against scikit-learn's: the steps they make, how they go on, when they end."""

from __future__ import annotations

import inspect
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from sklearn import neural_network
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

import daskgd

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(7)
X = RNG.normal(size=(200, 4))
NUMBERS = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + 3.0
CLASSES = np.array(["low", "mid", "top"])[np.digitize(NUMBERS, [2.5, 3.5])]
BINARY = (NUMBERS > 3).astype(int)
TARGETS = {
    "classes": CLASSES,
    "binary": BINARY,
    "numbers": NUMBERS,
    "pair": np.column_stack([NUMBERS, X[:, 3]]),
}


def kind(target: str) -> str:
    return "MLPClassifier" if target in ("classes", "binary") else "MLPRegressor"


def ours(target: str, **params: Any) -> Any:
    return getattr(daskgd, kind(target))(**{"hidden_layer_sizes": (6, 5), **params})


def flat(est: Any) -> Any:
    return np.concatenate([np.ravel(W) for W in (*est.coefs_, *est.intercepts_)])


def rows_of(target: str) -> Any:
    """The rows in blocks of 25 and partitions of 50."""
    dataset = daskgd.as_dataset(X, TARGETS[target])
    return dataset.replace(block_bytes=25 * 32, partition_bytes=50 * 32)


# -- scikit-learn's steps ---------------------------------------------------------------------------


RULES: list[dict[str, Any]] = [
    {"solver": "adam"},
    {"solver": "adam", "beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3},
    {"solver": "sgd"},
    {"solver": "sgd", "nesterovs_momentum": False, "momentum": 0.5},
    {"solver": "sgd", "momentum": 0.0, "activation": "relu"},
]


def both(target: str, **params: Any) -> tuple[Any, Any]:
    """An estimator of scikit-learn's and one of ours that begin with the same weights, and take batches in
    order."""
    settings = {"hidden_layer_sizes": (6, 5), "activation": "tanh", "shuffle": False, "batch_size": 20}
    settings |= {"learning_rate_init": 0.01, "alpha": 0.1, **params}
    there = getattr(neural_network, kind(target))(**settings, random_state=1)
    first = clone(there).set_params(learning_rate_init=1e-300, max_iter=1).fit(X, TARGETS[target])
    here = ours(target, **settings, scale=False)
    here.coefs_, here.intercepts_, here.n_features_in_ = first.coefs_, first.intercepts_, 4
    return there, here


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: "-".join(map(str, rule.values())))
@pytest.mark.parametrize("target", TARGETS)
def test_a_call_makes_scikit_learns_steps(target: str, rule: dict[str, Any]) -> None:
    """From the same weights, over rows in parts and again: moments go on from call to call."""
    y = TARGETS[target]
    there, here = both(target, **rule)
    known = {"classes": np.unique(y)} if kind(target) == "MLPClassifier" else {}
    for part in (slice(0, 100), slice(100, 200), slice(40, 140)) * 3:
        there.partial_fit(X[part], y[part], **known)
        here.partial_fit(X[part], y[part], **known)
        known = {}
    assert np.abs(flat(here) - flat(there)).max() < 1e-12
    assert len(here.loss_curve_) == len(there.loss_curve_) == here.n_iter_ == 9
    assert here.t_ == there.t_ == 900
    if kind(target) == "MLPRegressor":
        assert np.allclose(here.predict(X), there.predict(X))


@pytest.mark.parametrize("target", ["classes", "numbers"])
def test_weights_and_large_batches_mean_what_they_do_in_scikit_learn(target: str) -> None:
    """The penalty is divided by a batch's weight, and a batch has no more rows than there are."""
    y = TARGETS[target]
    known = {"classes": np.unique(y)} if kind(target) == "MLPClassifier" else {}
    for s, batch_size in ((np.full(200, 3.0), 20), (np.tile([0.5, 2.5, 0.0, 3.0], 50), 8), (None, 1000)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that scikit-learn clips the batch
            there, here = both(target, solver="sgd", batch_size=batch_size)
            for _ in range(4):
                there.partial_fit(X, y, s, **known)
        for _ in range(4):
            here.partial_fit(X, y, s, **known)
        assert np.abs(flat(here) - flat(there)).max() < 1e-12


@pytest.mark.parametrize("target", ["binary", "numbers"])
def test_a_fit_makes_scikit_learns_steps(target: str) -> None:
    there, here = both(target, solver="adam", max_iter=15)
    start, intercepts = here.coefs_, here.intercepts_
    here.set_params(warm_start=True).fit(X, TARGETS[target])  # for what else a fit leaves
    here.coefs_, here.intercepts_ = start, intercepts
    here.fit(X, TARGETS[target])
    there.fit(X, TARGETS[target])
    assert np.abs(flat(here) - flat(there)).max() < 1e-12
    assert (here.n_iter_, here.t_) == (there.n_iter_, there.t_) == (15, 3000)


# -- going on ---------------------------------------------------------------------------------------


def calls(est: Any, rows: Any, n: int) -> Any:
    """`est` after so many calls with the rows."""
    y = () if isinstance(rows, daskgd.Dataset) else (rows[1],)
    X = rows if isinstance(rows, daskgd.Dataset) else rows[0]
    for _ in range(n):
        if type(est).__name__ == "MLPClassifier":
            est.partial_fit(X, *y, classes=CLASSES if est.get_params()["alpha"] < 1 else None)
        else:
            est.partial_fit(X, *y)
    return est


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("target", ["classes", "numbers"])
def test_calls_on_the_same_rows_are_iterations_of_a_fit(target: str, solver: str) -> None:
    """To the same bits: in memory, lazily, and in several partitions."""
    y = TARGETS[target]
    lazy = da.from_array(X, chunks=(40, 4)), da.from_array(y, chunks=40)
    for rows in ((X, y), lazy, rows_of(target)):
        est = ours(target, solver=solver, learning_rate_init=0.01, batch_size=16, random_state=3)
        whole = clone(est).set_params(max_iter=5, tol=0)
        whole = whole.fit(rows) if isinstance(rows, daskgd.Dataset) else whole.fit(*rows)
        once = calls(est, rows, 5)
        assert np.array_equal(flat(once), flat(whole))
        assert once.loss_curve_ == whole.loss_curve_ == once.history_.column("loss")
        assert once.history_.column("iteration") == [1, 2, 3, 4, 5]
        for name in ("n_iter_", "t_", "loss_", "best_loss_", "n_features_in_", "validation_scores_"):
            assert getattr(once, name) == getattr(whole, name), name
        further = calls(whole, rows, 3)  # after a fit, too
        assert np.array_equal(flat(further), flat(calls(once, rows, 3)))
        assert further.n_iter_ == 8


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("target", ["classes", "numbers"])
def test_going_on_gives_the_same_bits_on_any_engine(target: str, solver: str, client: Any) -> None:
    found = [
        calls(ours(target, solver=solver, batch_size=10, engine=engine), rows_of(target), 3)
        for engine in ("serial", "threads", "distributed")
    ]
    for est in found[1:]:
        assert np.array_equal(flat(est), flat(found[0]))
        assert est.loss_curve_ == found[0].loss_curve_


def through_a_file(est: Any, folder: Path) -> Any:
    est.save(folder / "m.dgd")
    return daskgd.load_model(folder / "m.dgd")


@pytest.mark.parametrize("carried", [lambda est, _: pickle.loads(pickle.dumps(est)), through_a_file])
def test_training_goes_on_elsewhere(carried: Callable[[Any, Path], Any], tmp_path: Path) -> None:
    stayed = calls(ours("numbers", solver="adam"), (X, NUMBERS), 4)
    went = calls(ours("numbers", solver="adam"), (X, NUMBERS), 2)
    went = calls(carried(went, tmp_path), (X, NUMBERS), 2)
    assert np.array_equal(flat(went), flat(stayed))
    assert went.loss_curve_ == stayed.loss_curve_


def test_coefficients_that_were_changed_are_gone_on_from() -> None:
    est = calls(ours("numbers", solver="sgd", momentum=0.0), (X, NUMBERS), 2)
    est.coefs_ = [np.zeros_like(W) for W in est.coefs_]
    est.intercepts_ = [*(np.zeros_like(b) for b in est.intercepts_[:-1]), np.array([5.0])]
    est.partial_fit(X, NUMBERS)
    assert not np.any(est.coefs_[0])  # no slope leads through zeros
    assert est.loss_ == pytest.approx(np.mean((NUMBERS - 5) ** 2) / 2)


def test_training_goes_on_after_any_fit() -> None:
    """L-BFGS leaves no moments, but the units of the first layer; other steps leave none of theirs."""
    est = ours("numbers", solver="lbfgs", max_iter=30, learning_rate_init=1e-4).fit(X * 1e3 + 1e6, NUMBERS)
    before = est.loss_
    est.set_params(solver="adam").partial_fit(X[:10] * 1e3 + 1e6, NUMBERS[:10])
    assert est.loss_ < 4 * before
    assert est.loss_curve_[-2] == before
    est.set_params(solver="sgd").partial_fit(X[:10] * 1e3 + 1e6, NUMBERS[:10])
    assert est.n_iter_ == len(est.loss_curve_)


def test_a_generator_of_random_numbers_is_asked_once() -> None:
    source, twin = np.random.RandomState(4), np.random.RandomState(4)
    est = calls(ours("numbers", solver="adam", random_state=source), (X, NUMBERS), 3)
    number = twin.randint(2**31 - 1)
    again = calls(ours("numbers", solver="adam", random_state=number), (X, NUMBERS), 3)
    assert np.array_equal(flat(est), flat(again))
    assert source.randint(100) == twin.randint(100)


def test_labels_come_in_parts() -> None:
    est = ours("classes", learning_rate_init=0.02)
    order = np.argsort(CLASSES, kind="stable")
    for part in np.array_split(order, 4) * 40:
        est.partial_fit(X[part], CLASSES[part], classes=["top", "low", "mid"])
    assert est.classes_.tolist() == ["low", "mid", "top"]
    assert set(est.predict(X)) == {"low", "mid", "top"}
    assert est.predict_proba(X).shape == (200, 3)


SGD = {"solver": "sgd", "learning_rate_init": 1e200, "batch_size": 20}
WRONG: list[tuple[dict[str, Any], tuple[Any, ...], dict[str, Any], str]] = [
    ({}, (X, CLASSES), {"classes": ["low", "mid"]}, "expected classes to be those of the calls before"),
    ({}, (X, np.full(200, "new")), {}, r"expected labels among \['low', 'mid', 'top'\], got \['new'\]"),
    ({}, (np.where(X > 2, np.nan, X), CLASSES), {}, "Input X contains NaN"),
    ({}, (X[:, :3], CLASSES), {}, "X has 3 features, but MLPClassifier is expecting 4"),
    ({"hidden_layer_sizes": (3,)}, (X, CLASSES), {}, "partial_fit: expected layers and data like those"),
    ({"early_stopping": True}, (X, CLASSES), {}, "partial_fit does not support early_stopping=True"),
    ({"alpha": -1}, (X, CLASSES), {}, "expected alpha"),
    (SGD, (X, CLASSES), {}, "parameters that are not finite; the model is as it was"),
]


@pytest.mark.parametrize(("params", "rows", "known", "sentence"), WRONG, ids=lambda v: str(v)[:30])
def test_a_call_that_fails_changes_nothing(params: Any, rows: Any, known: Any, sentence: str) -> None:
    est = calls(ours("classes", solver="sgd"), (X, CLASSES), 2)
    before = {name: pickle.dumps(value) for name, value in vars(est).items()}
    est.set_params(**params)
    with pytest.raises(ValueError, match=sentence):
        est.partial_fit(*rows, **known)
    after = {name: pickle.dumps(value) for name, value in vars(est).items()}
    assert {name for name in before if before[name] != after[name]} <= set(params)
    assert set(before) == set(after)


def test_the_first_call_needs_all_labels() -> None:
    with pytest.raises(
        ValueError, match="expected classes, all labels that there will be, in the first call"
    ):
        daskgd.MLPClassifier().partial_fit(X, CLASSES)
    with pytest.raises(ValueError, match=r"expected labels among \['low'\], got \['mid', 'top'\]"):
        daskgd.MLPClassifier().partial_fit(X, CLASSES, classes=["low"])


@pytest.mark.parametrize("solver", ["lbfgs", daskgd.LBFGS(), daskgd.Adam(step=0.01)])
def test_only_mini_batches_go_on(solver: Any) -> None:
    for est in (daskgd.MLPClassifier(solver=solver), daskgd.MLPRegressor(solver=solver)):
        assert not hasattr(est, "partial_fit")
        with pytest.raises(AttributeError, match="partial_fit") as caught:
            _ = est.partial_fit
        assert 'expected solver to be "adam" or "sgd"' in str(caught.value.__cause__)
    assert hasattr(daskgd.MLPClassifier(), "partial_fit")


# -- when it ends -----------------------------------------------------------------------------------


def test_adaptive_steps_are_divided_by_five() -> None:
    """Where no iteration counts as an improvement, after as many as in scikit-learn."""
    params: dict[str, Any] = {"solver": "sgd", "learning_rate": "adaptive", "tol": 1e9, "n_iter_no_change": 3}
    there = neural_network.MLPClassifier(**params, max_iter=300).fit(X, BINARY)
    for est in (ours("binary", **params), ours("binary", **params, early_stopping=True)):
        est.set_params(max_iter=300).fit(X, BINARY)
        steps = np.array(est.history_.column("step"))
        ratios = steps[1:] / steps[:-1]
        assert set(ratios.round(6)) == {1.0, 0.2}
        assert there._optimizer.learning_rate <= 1e-6
        assert steps[-1] == pytest.approx(there._optimizer.learning_rate)
        assert est.n_iter_ == there.n_iter_
    part = ours("binary", **params)
    for _ in range(6):
        part.partial_fit(X, BINARY, classes=[0, 1])
    assert part.history_.column("step")[-1] == pytest.approx(0.001 / 5)


def test_an_adaptive_fit_is_resumed(tmp_path: Path) -> None:
    est = ours("binary", solver="sgd", learning_rate="adaptive", tol=1e9, n_iter_no_change=2)
    whole = clone(est).set_params(max_iter=20).fit(X, BINARY)
    for first in (3, 7, 11):
        folder = tmp_path / str(first)
        clone(est).set_params(max_iter=first).fit(X, BINARY, checkpoint=folder)
        again = clone(est).set_params(max_iter=20).fit(X, BINARY, checkpoint=folder)
        assert np.array_equal(flat(again), flat(whole))
        assert again.history_.column("step") == whole.history_.column("step")


def test_early_stopping_leaves_its_attributes_and_no_others() -> None:
    est = ours("classes", solver="adam", learning_rate_init=0.02, early_stopping=True, n_iter_no_change=5)
    est.fit(X, CLASSES)
    assert est.outcome_ == "stopped"
    assert est.n_iter_ == len(est.validation_scores_) == len(est.loss_curve_) == len(est.history_)
    assert est.best_validation_score_ == max(est.validation_scores_)
    assert int(np.argmax(est.validation_scores_)) < est.n_iter_ - 5
    assert est.best_loss_ is None
    est.set_params(early_stopping=False).fit(X, CLASSES)
    assert est.validation_scores_ is est.best_validation_score_ is None
    assert est.best_loss_ == min(est.loss_curve_)
    with pytest.raises(ValueError, match="at least two rows to train on and two to validate"):
        est.set_params(early_stopping=True).fit(X[:3], ["low"] * 3)


def test_rows_are_set_aside_by_label() -> None:
    y = np.r_[np.zeros(190, int), np.ones(10, int)]
    seen: list[Any] = []
    est = ours("binary", solver="sgd", early_stopping=True, max_iter=1, random_state=2)
    est.fit(X, y, watch=seen.append)
    rest = daskgd.as_dataset(X, y).train_test_split(0.1, 2, stratify=True)[1]
    assert np.bincount(np.asarray(rest.y)).tolist() == [19, 1]
    assert est.score(rest) == est.best_validation_score_
    assert est.t_ == 180
    with pytest.raises(ValueError, match="expected at least two rows of every label"):
        est.fit(X[:4], [0, 0, 0, 1])


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_patience_without_end_runs_every_iteration(solver: str) -> None:
    est = ours("classes", solver=solver, n_iter_no_change=np.inf, tol=1e-9 if solver == "lbfgs" else 1e9)
    with pytest.warns(ConvergenceWarning, match=r"(did not|failed to) converge in max_iter=12"):
        est.set_params(max_iter=12).fit(X, CLASSES)
    assert (est.n_iter_, est.outcome_) == (12, "budget_spent")


@pytest.mark.parametrize("tol", [0.0, 1e-9])
def test_evaluations_of_the_loss_are_limited(tol: float) -> None:
    est = ours("numbers", solver="lbfgs", max_fun=10, tol=tol)
    with pytest.warns(ConvergenceWarning, match="did not converge in max_fun=10 evaluations of the loss"):
        est.fit(X, NUMBERS)
    assert est.outcome_ == "budget_spent"
    assert est.n_iter_ <= 10
    assert 10 < est.n_sweeps_ <= 13  # the survey, and a line search that was under way
    whole = ours("numbers", solver="lbfgs", max_iter=est.n_iter_, tol=0).fit(X, NUMBERS)
    assert np.array_equal(flat(est), flat(whole))


def test_batches_in_order_need_no_seed() -> None:
    found = [
        ours("numbers", solver="sgd", shuffle=shuffle, max_iter=1, batch_size=7, random_state=0)
        .set_params(solver=solver)
        .fit(X, NUMBERS)
        for shuffle in (True, False)
        for solver in ("sgd", "adam")
    ]
    assert not np.array_equal(flat(found[0]), flat(found[2]))
    assert not np.array_equal(flat(found[1]), flat(found[3]))
    assert "shuffle=False" in found[3].history_.solver
    constant = ours("numbers", solver="sgd", max_iter=3, learning_rate="invscaling", power_t=0.0)
    plain = ours("numbers", solver="sgd", max_iter=3)
    assert np.array_equal(flat(constant.fit(X, NUMBERS)), flat(plain.fit(X, NUMBERS)))


# -- networks that learn nothing ----------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_steps_that_are_too_long_are_told_and_shortened(solver: str) -> None:
    """What was said to have converged, at the weights that it began with."""
    est = ours("numbers", hidden_layer_sizes=(40,), solver=solver, learning_rate_init=1e5, max_iter=400)
    with pytest.warns(
        ConvergenceWarning, match=r"steps of learning_rate_init=100000 raised the loss from the"
    ):
        est.fit(X, NUMBERS)
    assert est.outcome_ in ("converged", "budget_spent")
    assert est.score(X, NUMBERS) > 0.8
    assert est.history_[-1]["step"] < 10


def test_large_targets_are_learnt_or_told() -> None:
    est = ours("numbers", solver="sgd", learning_rate_init=10.0, max_iter=300)
    with pytest.warns(ConvergenceWarning, match="standardise targets"):
        est.fit(X, NUMBERS * 1e8)
    assert est.outcome_ != "converged"
    assert est.score(X, NUMBERS * 1e8) > 0.5


def dead(target: str, solver: str, activation: str) -> Any:
    """A network whose hidden units are all dead, or saturated, whatever the row."""
    est = ours(
        target, hidden_layer_sizes=(5,), solver=solver, activation=activation, warm_start=True, alpha=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        est.set_params(max_iter=2, learning_rate_init=0.05).fit(X, TARGETS[target])
    est.intercepts_[0] = np.full(5, -1e4)
    return est.set_params(max_iter=300)


@pytest.mark.parametrize("activation", ["relu", "logistic", "tanh"])
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("target", ["binary", "numbers"])
def test_dead_and_saturated_units_are_no_convergence(target: str, solver: str, activation: str) -> None:
    est = dead(target, solver, activation)
    with pytest.warns(ConvergenceWarning, match="no better than that of a constant prediction"):
        est.fit(X, TARGETS[target])
    assert est.outcome_ == "stalled"
    assert len(np.unique(est.predict(X))) == 1


def test_a_constant_that_is_right_is_convergence() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        est = ours("numbers", solver="adam", learning_rate_init=0.01, max_iter=2000).fit(X, np.full(200, 5.0))
        one = ours("binary", solver="adam", learning_rate_init=0.01, max_iter=2000).fit(X, np.full(200, 5))
        linear = daskgd.MLPClassifier((), max_iter=2000).fit(X[:4] * 0 + [[0.0], [1], [0], [1]], [0, 0, 1, 1])
    assert est.outcome_ == one.outcome_ == linear.outcome_ == "converged"
    assert np.abs(est.predict(X) - 5.0).mean() < 0.1


# -- what goes in and comes out -----------------------------------------------------------------------


@pytest.mark.parametrize("target", ["numbers", "binary"])
def test_one_target_or_class_as_in_scikit_learn(target: str) -> None:
    y = np.full(200, 7)
    here = ours(target, max_iter=20).fit(X, y)
    there = getattr(neural_network, kind(target))(hidden_layer_sizes=(6, 5), max_iter=20).fit(X, y)
    assert (here.n_outputs_, here.out_activation_) == (there.n_outputs_, there.out_activation_)
    assert here.predict(X).shape == there.predict(X).shape
    if target == "binary":
        assert here.classes_.tolist() == there.classes_.tolist() == [7]
        assert (here.predict(X) == 7).all()
        assert here.score(X, y) == 1.0
        assert here.predict_proba(X).shape == there.predict_proba(X).shape == (200, 2)
        assert here.predict_proba(da.from_array(X, chunks=50)).compute().shape == (200, 2)
        here.intercepts_[-1] += 1e3  # a margin for a class that there is not
        assert (here.predict(X) == 7).all()
        assert here.score(X, y) == 1.0


@pytest.mark.parametrize("target", ["classes", "binary", "numbers", "pair"])
def test_float32_goes_in_and_comes_out(target: str) -> None:
    single, y = X.astype(np.float32), TARGETS[target]
    est = ours(target, max_iter=20).fit(single, y)
    there = getattr(neural_network, kind(target))(hidden_layer_sizes=(6, 5), max_iter=20).fit(single, y)
    assert {a.dtype for a in (*est.coefs_, *est.intercepts_)} == {np.dtype(np.float32)}
    numbers = ["predict_proba", "predict_log_proba"] if kind(target) == "MLPClassifier" else ["predict"]
    for name in numbers:
        for rows in (single, X, X.astype(int)):
            got, expected = getattr(est, name)(rows), getattr(there, name)(rows)
            assert got.dtype == expected.dtype
            lazily = getattr(est, name)(da.from_array(rows, chunks=(60, 4)))
            assert lazily.dtype == lazily.compute().dtype == got.dtype
            assert np.allclose(lazily, got, rtol=1e-6)
        assert getattr(est, name)(pd.DataFrame(single)).dtype == np.float32
    assert {a.dtype for a in est.to_sklearn().coefs_} == {np.dtype(np.float32)}
    assert {a.dtype for a in ours(target, max_iter=2).fit(X, y).coefs_} == {np.dtype(np.float64)}


def test_targets_far_from_zero_keep_their_digits() -> None:
    est = ours("numbers", max_iter=100).fit(X.astype(np.float32), NUMBERS + 1e7)
    assert est.intercepts_[-1].dtype == np.float64
    assert est.score(X, NUMBERS + 1e7) > 0.9
    assert np.abs(est.predict(X.astype(np.float32)) - NUMBERS - 1e7).mean() < 0.3


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_parameters_go_to_scikit_learn_and_back(name: str) -> None:
    there, here = getattr(neural_network, name), getattr(daskgd, name)
    shared = set(inspect.signature(there).parameters)
    assert shared <= set(inspect.signature(here).parameters)
    y = BINARY if name == "MLPClassifier" else NUMBERS
    changes: list[dict[str, Any]] = [
        {},
        {"random_state": np.random.RandomState(0), "verbose": False, "n_iter_no_change": np.inf},
        {"solver": "sgd", "learning_rate": "adaptive", "shuffle": False, "power_t": 0, "max_fun": 3},
        {"solver": "lbfgs", "hidden_layer_sizes": [3, 2], "validation_fraction": 0},
    ]
    for change in changes:
        params = there(max_iter=2, **change).get_params()
        est = here(**params).fit(X, y)
        assert est.n_iter_ == 2
        back = {key: value for key, value in est.get_params().items() if key in shared}
        assert back == params
        there(**back).fit(X, y)


def test_a_warm_start_with_other_classes_is_refused() -> None:
    est = ours("classes", warm_start=True, max_iter=3).fit(X, CLASSES)
    other = np.where(CLASSES == "top", "tip", CLASSES)
    with pytest.raises(ValueError, match="warm_start: expected y with the classes of the last fit"):
        est.fit(X, other)
    est.set_params(warm_start=False).fit(X, other)


def test_verbose_beyond_two_prints_lines(capsys: Any) -> None:
    ours("binary", solver="sgd", max_iter=2, verbose=10).fit(X, BINARY)
    assert capsys.readouterr().out.count("MLPClassifier: iteration") == 2


# -- several labels a row -----------------------------------------------------------------------------

LABELS = np.column_stack([NUMBERS > 3, X[:, 3] > 0, X[:, 0] * X[:, 1] > -0.5]).astype(int)


def test_several_labels_as_in_scikit_learn() -> None:
    """From the same weights: steps, shapes, scores, and what is exported."""
    settings: dict[str, Any] = {
        "hidden_layer_sizes": (6, 5),
        "solver": "adam",
        "shuffle": False,
        "alpha": 0.1,
    }
    settings |= {"batch_size": 20, "learning_rate_init": 0.01, "random_state": 1}
    there = neural_network.MLPClassifier(**settings)
    first = clone(there).set_params(learning_rate_init=1e-300, max_iter=1).fit(X, LABELS)
    here = daskgd.MLPClassifier(**settings, scale=False)
    here.coefs_, here.intercepts_, here.n_features_in_ = first.coefs_, first.intercepts_, 4
    for _ in range(30):
        here.partial_fit(X, LABELS, classes=[0, 1, 2])
        there.partial_fit(X, LABELS, classes=[0, 1, 2])
    assert np.abs(flat(here) - flat(there)).max() < 1e-11
    assert (here.n_outputs_, here.out_activation_) == (there.n_outputs_, there.out_activation_)
    assert np.array_equal(here.classes_, there.classes_)
    for est in (here, here.to_sklearn()):
        assert np.array_equal(est.predict(X), there.predict(X))
        assert np.allclose(est.predict_proba(X), there.predict_proba(X), rtol=1e-9)
        assert np.allclose(est.predict_log_proba(X), there.predict_log_proba(X), rtol=1e-6)
        assert est.score(X, LABELS) == pytest.approx(there.score(X, LABELS))
        s = np.arange(200.0)
        assert est.score(X, LABELS, s) == pytest.approx(there.score(X, LABELS, s))
    assert here.predict(X).dtype.kind == there.predict(X).dtype.kind == "i"


@pytest.mark.slow
def test_several_labels_out_of_core(tmp_path: Path, client: Any) -> None:
    daskgd.write_dataset(tmp_path / "l.zarr", X, LABELS, chunk_bytes=800)
    rows = daskgd.open_dataset(tmp_path / "l.zarr", block_bytes=800, partition_bytes=1600)
    est = daskgd.MLPClassifier((8,), solver="adam", learning_rate_init=0.03, max_iter=40, random_state=2)
    found = [
        clone(est).set_params(engine=engine).fit(rows) for engine in ("serial", "threads", "distributed")
    ]
    for other in found[1:]:
        assert np.array_equal(flat(other), flat(found[0]))
    assert found[0].score(rows) == found[0].score(X, LABELS) > 0.5
    lazily = found[0].predict_proba(rows.X)
    assert lazily.shape == (200, 3)
    assert np.array_equal(lazily.compute(), found[0].predict_proba(X))
    assert np.array_equal(found[0].predict(rows.X).compute(), found[0].predict(X))
    through_a_file(found[0], tmp_path).score(rows)
    early = clone(est).set_params(early_stopping=True).fit(rows)
    assert len(early.validation_scores_) == early.n_iter_


def test_several_labels_of_bool_and_by_lbfgs() -> None:
    est = daskgd.MLPClassifier((10,), alpha=1e-3, max_iter=500).fit(X, LABELS.astype(bool))
    assert est.score(X, LABELS) > 0.9
    one = est.fit(X, CLASSES)  # nothing of the labels is left
    assert one.predict(X).shape == (200,)
    assert one.score(X, CLASSES) > 0.9


def test_what_are_not_several_labels_is_refused() -> None:
    est = daskgd.MLPClassifier((4,), max_iter=2)
    wrong = LABELS.copy()
    wrong[17, 1] = 2
    with pytest.raises(ValueError, match=r"expected 0 or 1 in each column, .* got 2 in row 17"):
        est.fit(X, wrong)
    with pytest.raises(ValueError, match="3 columns of 0 and 1 for as many labels, got <U5"):
        est.fit(X, LABELS.astype(str).astype("<U5"))
    est.fit(X, LABELS)
    with pytest.raises(ValueError, match="expected 3 columns, as in the fit, got 1"):
        est.score(X, BINARY)
    with pytest.raises(ValueError, match="expected 3 columns, as in the fit, got 2"):
        est.set_params(solver="adam").partial_fit(X, LABELS[:, :2])
    with pytest.raises(ValueError, match=r"columns for the labels \[0, 1\], got 3; pass classes=range\(3\)"):
        daskgd.MLPClassifier().partial_fit(X, LABELS, classes=[0, 1])
    assert est.predict(X).shape == (200, 3)  # also where a fit to other targets fails
    with pytest.raises(ValueError, match="Input X contains NaN"):
        est.fit(np.where(X > 2, np.nan, X), CLASSES)
    assert est.predict(X).shape == (200, 3)
    with pytest.raises(ValueError, match="multi-label targets are not supported: fit one estimator"):
        daskgd.LogisticRegression().fit(X, LABELS)
