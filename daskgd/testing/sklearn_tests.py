"""scikit-learn's own tests, as they are installed, run on daskgd's classes; and which of them fail, and why.

::

    python -m daskgd.testing.sklearn_tests                                        # all, in some minutes
    python -m daskgd.testing.sklearn_tests linear_model/tests/test_ridge.py       # one module
    python -m daskgd.testing.sklearn_tests linear_model/tests/test_ridge.py -k positive --errors

A run is a process of pytest with the plugin :mod:`daskgd.testing.substitution`. A test counts if it makes or
fits an estimator of daskgd. A solver's name that only scikit-learn has means "auto" in it: most tests ask for
the answer, not for the way to it. ``sklearn_failures.toml`` has the failures that are expected, by their
reason and with their number; :func:`differences` tells of failures that are not in that list, and of those in
it that do not fail any more. The list is of one version of scikit-learn, which it names. With others the
differences are to be read, not to be mended: tests come, go and change with versions.

A reason that begins with "to mend" is a fault of daskgd: "wrong" is a number or an attribute, "missing" a
parameter, an attribute or a kind of data that scikit-learn has, "digits" are of a number that is right to too
few of them. The other reasons say why daskgd is right to differ.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LIST = Path(__file__).with_name("sklearn_failures.toml")

MODULES: dict[str, tuple[str, ...]] = {
    "linear": (
        "linear_model/tests/test_base.py",
        "linear_model/tests/test_bayes.py",
        "linear_model/tests/test_common.py",
        "linear_model/tests/test_coordinate_descent.py",
        "linear_model/tests/test_huber.py",
        "linear_model/tests/test_logistic.py",
        "linear_model/tests/test_perceptron.py",
        "linear_model/tests/test_quantile.py",
        "linear_model/tests/test_ransac.py",
        "linear_model/tests/test_ridge.py",
        "linear_model/tests/test_sag.py",
        "linear_model/tests/test_sgd.py",
        "linear_model/tests/test_sparse_coordinate_descent.py",
        "linear_model/tests/test_theil_sen.py",
    ),
    "glm, neural, svm": (
        "linear_model/_glm/tests/test_glm.py",
        "neural_network/tests/test_mlp.py",
        "svm/tests/test_bounds.py",
        "svm/tests/test_svm.py",
    ),
    "ensembles": (
        "ensemble/tests/test_bagging.py",
        "ensemble/tests/test_base.py",
        "ensemble/tests/test_common.py",
        "ensemble/tests/test_stacking.py",
        "ensemble/tests/test_voting.py",
        "ensemble/tests/test_weight_boosting.py",
        "semi_supervised/tests/test_self_training.py",
        "tests/test_multiclass.py",
        "tests/test_multioutput.py",
    ),
    "calibration": ("tests/test_calibration.py",),
    "selection": (
        "feature_extraction/tests/test_text.py",
        "feature_selection/tests/test_from_model.py",
        "feature_selection/tests/test_rfe.py",
        "feature_selection/tests/test_sequential.py",
        "model_selection/tests/test_classification_threshold.py",
        "model_selection/tests/test_search.py",
        "model_selection/tests/test_validation.py",
    ),
    "tools": (
        "compose/tests/test_target.py",
        "decomposition/tests/test_kernel_pca.py",
        "frozen/tests/test_frozen.py",
        "inspection/tests/test_permutation_importance.py",
        "metrics/tests/test_ranking.py",
        "metrics/tests/test_score_objects.py",
        "preprocessing/tests/test_polynomial.py",
        "preprocessing/tests/test_target_encoder.py",
        "tests/test_kernel_ridge.py",
        "tests/test_metaestimators.py",
        "tests/test_pipeline.py",
        "utils/_repr_html/tests/test_estimator.py",
        "utils/tests/test_estimator_checks.py",
        "utils/tests/test_response.py",
    ),
    "plots": (
        "inspection/_plot/tests/test_boundary_decision_display.py",
        "inspection/_plot/tests/test_plot_partial_dependence.py",
        "inspection/tests/test_partial_dependence.py",
        "metrics/_plot/tests/test_common_curve_display.py",
        "metrics/_plot/tests/test_confusion_matrix_display.py",
        "metrics/_plot/tests/test_det_curve_display.py",
        "metrics/_plot/tests/test_precision_recall_display.py",
        "metrics/_plot/tests/test_predict_error_display.py",
        "metrics/_plot/tests/test_roc_curve_display.py",
    ),
}
"""Test modules of scikit-learn that use classes of daskgd's names, by group: two minutes at most for each."""

TEST_SECONDS = 150
"""What a single test may take."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a test ended.

    Attributes
    ----------
    test : str
        Its id, from below ``sklearn/``.
    outcome : str
        "passed", "failed", or "skipped", as those are that scikit-learn expects to fail.
    used : bool
        Whether it made or fitted an estimator of daskgd.
    error : str
        The type and message of what it failed with.
    refused : bool
        Whether it was daskgd that raised that.
    seconds : float
    """

    test: str
    outcome: str
    used: bool
    error: str = ""
    refused: bool = False
    seconds: float = 0.0

    @property
    def module(self) -> str:
        return self.test.split("::")[0]


def run_modules(modules: Sequence[str], keyword: str = "") -> list[Outcome]:
    """Run test modules of scikit-learn on daskgd's classes, in a process of their own.

    Parameters
    ----------
    modules : sequence of str
        Paths below ``sklearn/``, as in :data:`MODULES`.
    keyword : str
        What pytest's ``-k`` takes.

    Returns
    -------
    list of Outcome
        Of all tests, in the order in which they ran; of a module that cannot be imported, one that failed.

    Raises
    ------
    RuntimeError
        Where pytest itself fails, with the end of what it said.
    """
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise RuntimeError("expected scikit-learn to be installed")
    with tempfile.TemporaryDirectory() as folder:
        settings, outcomes = Path(folder, "pytest.ini"), Path(folder, "outcomes.jsonl")
        settings.write_text("[pytest]\n")
        command = [sys.executable, "-m", "pytest", f"--config-file={settings}", "--pyargs", "-q", "--tb=no"]
        command += [f"--rootdir={Path(spec.origin).parents[1]}", "-p", "no:cacheprovider", "-p", "no:xdist"]
        command += ["-p", "daskgd.testing.substitution", f"--daskgd-outcomes={outcomes}", "-k", keyword]
        command += [f"--timeout={TEST_SECONDS}"]
        command += [f"sklearn.{module.removesuffix('.py').replace('/', '.')}" for module in modules]
        # Settings of pytest and of scikit-learn's tests, such as other seeds, are not for this run.
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "SKLEARN_"))}
        here = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [env.get("PYTHONPATH")])])
        env |= {"PYTHONPATH": here, "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        if done.returncode not in (0, 1, 2, 5):  # 2: a module cannot be imported, 5: no test has the keyword
            raise RuntimeError(
                f"pytest ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        return [Outcome(**json.loads(line)) for line in outcomes.read_text().splitlines()]


# -- what is expected -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reason:
    """Why some tests fail.

    Attributes
    ----------
    reason : str
    failures : mapping
        The number of failures by what their ids begin with: a module, a function in it, or one case.
    error : str
        A regular expression that is found in their errors.
    """

    reason: str
    failures: Mapping[str, int]
    error: str = ""

    def place(self, outcome: Outcome) -> str | None:
        """Which of `failures` a failure is of, if any."""
        if not re.search(self.error, outcome.error):
            return None
        function = outcome.test.split("[")[0]
        return next((p for p in (outcome.test, function, outcome.module) if p in self.failures), None)


@dataclass(frozen=True, slots=True)
class Expected:
    """The failures that are expected of one version of scikit-learn; the first reason that fits counts."""

    version: str
    reasons: tuple[Reason, ...]

    @classmethod
    def read(cls, path: Path = LIST) -> Expected:
        """Read a list such as ``sklearn_failures.toml``."""
        table = tomllib.loads(path.read_text())
        return cls(table["scikit-learn"], tuple(Reason(**entry) for entry in table["reasons"]))

    @property
    def applies(self) -> bool:
        """Whether it is of the version that is installed."""
        return version("scikit-learn") == self.version

    def places(self, outcomes: Iterable[Outcome]) -> dict[tuple[str, str], list[Outcome]]:
        """Failures of daskgd by reason and place; by "" and their own function where there is none."""
        found: dict[tuple[str, str], list[Outcome]] = {}
        for outcome in outcomes:
            if outcome.used and outcome.outcome == "failed":
                places = ((reason.reason, reason.place(outcome)) for reason in self.reasons)
                known = ((reason, place) for reason, place in places if place is not None)
                key = next(known, ("", outcome.test.split("[")[0]))
                found.setdefault(key, []).append(outcome)
        return found


def differences(outcomes: Sequence[Outcome], expected: Expected, modules: Sequence[str]) -> list[str]:
    """How outcomes of whole modules differ from what is expected of these, in a sentence each."""
    found, said = expected.places(outcomes), []
    for (reason, _), failed in found.items():
        if not reason:
            said += [f"{one.test}: expected to pass, got {one.error[:300]}" for one in failed]
    for entry in expected.reasons:
        for place, n in entry.failures.items():
            if place.split("::")[0] not in modules:
                continue
            failed = found.get((entry.reason, place), [])
            if len(failed) != n:
                more = f", such as {failed[-1].test}: {failed[-1].error[:300]}" if len(failed) > n else ""
                said.append(f"{place}: expected {n} to fail ({entry.reason}), got {len(failed)}{more}")
    return said


# -- tables ---------------------------------------------------------------------------------------


def table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Lines of a table: per module how many tests use daskgd, and how they end."""
    kinds = ("passed", "failed", "skipped")
    yield f"{'module':60} {'use it':>8}" + "".join(f"{kind:>8}" for kind in kinds) + f"{'seconds':>9}"
    modules = list(dict.fromkeys(one.module for one in outcomes))
    for name, chosen in [*((m, {m}) for m in modules), ("all", set(modules))]:
        ran = [one for one in outcomes if one.module in chosen]
        n = Counter(one.outcome for one in ran if one.used)
        counts = "".join(f"{n[kind]:8}" for kind in kinds)
        yield f"{name:60} {n.total():8}{counts}{sum(one.seconds for one in ran):9.1f}"


def reasons(outcomes: Sequence[Outcome], expected: Expected, errors: bool) -> Iterator[str]:
    """Lines on the failures, by reason: the most frequent first, with errors all that fail."""
    groups: dict[str, list[Outcome]] = {}
    for (reason, _), failed in expected.places(outcomes).items():
        groups.setdefault(reason, []).extend(failed)
    mend = sum(len(failed) for reason, failed in groups.items() if reason.startswith("to mend"))
    yield f"{sum(map(len, groups.values()))} fail, {mend} of them for a fault of daskgd that is to be mended:"
    for reason, failed in sorted(groups.items(), key=lambda group: -len(group[1])):
        yield f"{len(failed):5} {reason or 'NOT EXPECTED'}"
        for one in failed if errors or not reason else ():
            yield f"      {one.test}\n          {one.error[:300]}"


def renewed(outcomes: Sequence[Outcome], expected: Expected) -> Iterator[str]:
    """Lines of the list with the numbers of these outcomes for their modules; last, what has no reason."""
    found, ran = expected.places(outcomes), {one.module for one in outcomes}
    yield "# scikit-learn's own tests that fail on daskgd's classes: how many, and why. The numbers"
    yield "# are written by python -m daskgd.testing.sklearn_tests --renew"
    yield f"\nscikit-learn = {json.dumps(version('scikit-learn'))}"
    for entry in [*expected.reasons, Reason("", {})]:
        counts = {place: n for place, n in entry.failures.items() if place.split("::")[0] not in ran}
        counts |= {place: len(failed) for (reason, place), failed in found.items() if reason == entry.reason}
        if not counts:
            continue
        yield f"\n[[reasons]]\nreason = {json.dumps(entry.reason)}"
        if entry.error:
            yield f"error = {json.dumps(entry.error)}"
        yield "[reasons.failures]"
        yield from (f"{json.dumps(place)} = {n}" for place, n in sorted(counts.items()))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: run, print, and say by the exit code whether anything differs from what is expected."""
    parser = argparse.ArgumentParser(
        prog="python -m daskgd.testing.sklearn_tests",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = parser.add_argument
    option("module", nargs="*", help="paths below sklearn/; all that there are, if none is given")
    option("-k", default="", metavar="EXPRESSION", help="only tests whose names match, as in pytest")
    option("--errors", action="store_true", help="show the error of every failure")
    option("--renew", action="store_true", help="write the numbers that are found into the list")
    given: Any = parser.parse_args(arguments)
    if given.renew and given.k:
        parser.error("--renew counts the failures of whole modules: leave out -k")
    expected = Expected.read()
    groups = [tuple(given.module)] if given.module else [*MODULES.values()]
    outcomes = [one for group in groups for one in run_modules(group, given.k)]
    print(*table(outcomes), "", *reasons(outcomes, expected, given.errors), sep="\n")
    if given.renew:
        LIST.write_text("\n".join(renewed(outcomes, expected)) + "\n")
    if given.renew or given.k:
        return 0
    said = differences(outcomes, expected, [module for group in groups for module in group])
    print("", *(said or ["All is as expected."]), sep="\n")
    if said and not expected.applies:
        print(f"The list is of scikit-learn {expected.version}, here is {version('scikit-learn')}.")
    return int(bool(said) and expected.applies)


if __name__ == "__main__":
    sys.exit(main())
