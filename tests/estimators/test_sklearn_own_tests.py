"""scikit-learn's own tests, on daskgd's classes: what fails of them is what is listed, and for its reason."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version

import pytest
from sklearn import linear_model, svm

import daskgd
from daskgd import estimators
from daskgd.testing import sklearn_tests
from daskgd.testing.sklearn_tests import (
    MODULES,
    Expected,
    Outcome,
    Reason,
    differences,
    renewed,
    run_modules,
    table,
)
from daskgd.testing.substitution import namesakes, substituted
from tests.tiers import nightly, slow_but

SLOW = "for_all_backends"
"""Tests that fit SGD to 20 classes twice, for half a minute each: left to a run of the module by itself."""

FEW = ("linear_model/tests/test_huber.py", "linear_model/tests/test_perceptron.py")
SOME = ("base", "coordinate_descent", "quantile", "ridge")
GROUPS = {"few": FEW, "some": tuple(f"linear_model/tests/test_{name}.py" for name in SOME), **MODULES}
LONG = ("linear", "selection", "plots", "ensembles")
"""Minutes each: left to the night."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("group", [*slow_but([g for g in GROUPS if g not in LONG]), *nightly(LONG)])
def test_failures_are_those_that_are_listed(group: str) -> None:
    expected, modules = Expected.read(), GROUPS[group]
    said = "\n".join(differences(run_modules(modules, f"not {SLOW}"), expected, modules))
    if said and not expected.applies:
        pytest.skip(f"the list is of scikit-learn {expected.version}, from which differs:\n{said}")
    assert not said, said


# -- the list -------------------------------------------------------------------------------------


def test_every_failure_that_is_listed_is_of_a_module_that_is_run() -> None:
    known = {module for group in MODULES.values() for module in group}
    for reason in Expected.read().reasons:
        assert {place.split("::")[0] for place in reason.failures} <= known, reason.reason
        assert all(n > 0 for n in reason.failures.values()), reason.reason


def test_reasons_are_told_apart() -> None:
    reasons = [reason.reason for reason in Expected.read().reasons]
    assert len(set(reasons)) == len(reasons)


# -- the comparison -------------------------------------------------------------------------------


SPARSE = Reason("sparse X", {"a.py": 2}, "dense.*sparse")
NAMED = Reason("another name", {"a.py::test_name": 1, "a.py::test_case[2]": 1, "b.py::test_b": 7})
EXPECTED = Expected("1.0", (SPARSE, NAMED))


def outcome(test: str, error: str = "", used: bool = True) -> Outcome:
    return Outcome(test, "failed" if error else "passed", used, error)


AS_EXPECTED = [
    outcome("a.py::test_x[1]", "TypeError: dense, not sparse"),
    outcome("a.py::test_name[1]", "TypeError: dense, not sparse"),
    outcome("a.py::test_name[2]", "AssertionError"),
    outcome("a.py::test_case[1]"),
    outcome("a.py::test_case[2]", "AssertionError"),
    outcome("a.py::test_theirs", "AssertionError", used=False),
]


def test_what_is_expected_is_no_difference() -> None:
    assert not differences(AS_EXPECTED, EXPECTED, ["a.py"])


def test_a_failure_without_a_reason_is_told() -> None:
    (said,) = differences([*AS_EXPECTED, outcome("a.py::test_y", "ValueError: no")], EXPECTED, ["a.py"])
    assert said == "a.py::test_y: expected to pass, got ValueError: no"
    (said,) = differences([*AS_EXPECTED, outcome("a.py", "ImportError: no")], EXPECTED, ["a.py"])
    assert said.startswith("a.py: expected to pass")


def test_one_failure_more_of_a_kind_that_is_listed_is_told() -> None:
    (said,) = differences([*AS_EXPECTED, outcome("a.py::test_name[3]", "KeyError: 3")], EXPECTED, ["a.py"])
    assert said.startswith(
        "a.py::test_name: expected 1 to fail (another name), got 2, such as a.py::test_name[3]"
    )


@pytest.mark.parametrize("i", [0, 2, 4])
def test_a_failure_that_passes_now_is_told(i: int) -> None:
    outcomes = [outcome(one.test) if one is AS_EXPECTED[i] else one for one in AS_EXPECTED]
    (said,) = differences(outcomes, EXPECTED, ["a.py"])
    assert "to fail" in said


def test_of_modules_that_did_not_run_nothing_is_told() -> None:
    assert len(differences(AS_EXPECTED, EXPECTED, ["a.py", "b.py"])) == 1


def test_numbers_can_be_renewed(tmp_path) -> None:
    outcomes = [
        *AS_EXPECTED,
        outcome("a.py::test_y[1]", "ValueError: no"),
        outcome("a.py::test_name[3]", "no"),
    ]
    path = tmp_path / "list.toml"
    path.write_text("\n".join(renewed(outcomes, EXPECTED)))
    again = Expected.read(path)
    assert [reason.error for reason in again.reasons] == [SPARSE.error, "", ""]
    assert again.reasons[1].failures == {**NAMED.failures, "a.py::test_name": 2}
    assert again.reasons[2] == Reason("", {"a.py::test_y": 1})
    path.write_text("\n".join(renewed(AS_EXPECTED, again)))
    assert [reason.reason for reason in Expected.read(path).reasons] == [SPARSE.reason, NAMED.reason]


def test_only_tests_that_use_daskgd_are_counted() -> None:
    lines = list(table(AS_EXPECTED))
    assert lines[-1].split() == ["all", "5", "1", "4", "0", "0.0"]


# -- the run --------------------------------------------------------------------------------------


def test_the_command_prints_tables_and_differences(capsys, monkeypatch) -> None:
    monkeypatch.setattr(sklearn_tests, "run_modules", lambda modules, keyword: AS_EXPECTED)
    monkeypatch.setattr(Expected, "read", lambda: replace(EXPECTED, version=version("scikit-learn")))
    assert sklearn_tests.main(["a.py", "--errors"]) == 0
    printed = capsys.readouterr().out
    assert "4 fail, 0 of them for a fault of daskgd" in printed
    assert "2 sparse X\n      a.py::test_x[1]\n          TypeError: dense, not sparse" in printed
    assert printed.endswith("All is as expected.\n")
    assert sklearn_tests.main(["a.py", "b.py"]) == 1
    assert "b.py::test_b: expected 7 to fail (another name), got 0" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        sklearn_tests.main(["--renew", "-k", "name"])


def test_with_another_scikit_learn_differences_are_no_error(capsys, monkeypatch) -> None:
    monkeypatch.setattr(sklearn_tests, "run_modules", lambda modules, keyword: AS_EXPECTED)
    monkeypatch.setattr(Expected, "read", lambda: EXPECTED)
    assert sklearn_tests.main(["a.py", "b.py"]) == 0
    assert "The list is of scikit-learn 1.0, here is" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_cannot_start_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="pytest ended with 4"):
        run_modules(["linear_model/tests/test_nothing.py"])


def test_names_are_substituted_only_for_a_while() -> None:
    theirs = {name: namesakes()[name][0] for name in namesakes()}
    with substituted():
        assert linear_model.Ridge is daskgd.Ridge
        assert svm.LinearSVC is daskgd.LinearSVC
        assert linear_model.RidgeCV.__module__.startswith("sklearn")
    assert {name: pair[0] for name, pair in namesakes().items()} == theirs
    assert linear_model.Ridge is theirs["Ridge"] is not daskgd.Ridge
    assert set(theirs) == set(estimators.__all__) - {"together"}
