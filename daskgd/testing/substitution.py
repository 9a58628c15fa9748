"""A pytest plugin by which scikit-learn's own test modules run with daskgd's classes in place of its own.

While a test module is imported, daskgd's classes stand wherever scikit-learn has a class of the same name:
what it imports, and the instances in its parametrisations, are of daskgd, and so is what it later takes from
a package that it imports. Afterwards every name is what it
was, so that scikit-learn itself goes on with its own classes, such as the default estimator of a
meta-estimator. The plugin is for a process of its own, which :func:`daskgd.testing.sklearn_tests.run_modules`
starts, and must not know which failures are expected.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from daskgd import estimators
from daskgd.estimators.base import Estimator

PACKAGES = ("sklearn.linear_model", "sklearn.neural_network", "sklearn.svm")
"""Where scikit-learn has estimators by the names of daskgd's."""

_GLM = ("GammaRegressor", "PoissonRegressor", "TweedieRegressor")

SOLVERS: dict[str, tuple[str, ...]] = {"LogisticRegression": ("liblinear",)}
"""Solvers of scikit-learn that daskgd refuses, as they penalise the intercept. A fit takes them for "auto":
most tests that name one ask for what does not depend on it."""

LENT: dict[str, tuple[str, ...]] = {"_get_loss": _GLM}
"""Private methods of scikit-learn's classes that tests need to make their data: daskgd's borrow them."""

LONGEST = 2000
"""Characters of an error that are kept."""

ROOT = str(Path(estimators.__file__).parents[1])


def namesakes() -> dict[str, tuple[Any, Any]]:
    """scikit-learn's class and daskgd's, by the name that they share."""
    return {
        name: (getattr(package, name), getattr(estimators, name))
        for package in map(import_module, PACKAGES)
        for name in sorted(set(estimators.__all__) & set(package.__all__))
    }


@contextmanager
def substituted() -> Iterator[None]:
    """Have daskgd's classes wherever scikit-learn, as far as it is loaded, has those of the same names."""
    changed = []
    for name, (theirs, ours) in namesakes().items():
        for path, module in list(sys.modules.items()):
            if path.split(".")[0] == "sklearn" and vars(module).get(name) is theirs:
                setattr(module, name, ours)
                changed.append((module, name, theirs))
    try:
        yield
    finally:
        for module, name, theirs in changed:
            setattr(module, name, theirs)


def stand_in(package: ModuleType) -> ModuleType:
    """A module with all that a package of scikit-learn's has, but daskgd's classes."""
    out = ModuleType(package.__name__)
    vars(out).update(vars(package))
    for name, (theirs, ours) in namesakes().items():
        if vars(package).get(name) is theirs:
            setattr(out, name, ours)
    return out


def replace_packages(module: ModuleType) -> None:
    """Have stand-ins wherever a test module holds a package itself, as after ``from sklearn import svm``."""
    packages = [import_module(path) for path in PACKAGES]
    for name, value in list(vars(module).items()):
        if any(value is package for package in packages):
            setattr(module, name, stand_in(value))


class Uses:
    """Counts how often an estimator of daskgd is made or fitted, in this process and until it ends.

    The fits that it counts take :data:`SOLVERS` for "auto".
    """

    def __init__(self) -> None:
        self.n = 0
        pairs = namesakes()
        for attribute, names in LENT.items():
            for name in names:
                theirs, ours = pairs[name]
                setattr(ours, attribute, vars(theirs)[attribute])

        def make(cls: Any, *args: Any, **kwargs: Any) -> Any:
            self.n += 1
            return object.__new__(cls)

        Estimator.__new__ = make  # type: ignore[method-assign]
        for kind in {kind for _, ours in pairs.values() for kind in ours.__mro__}:
            if "fit" in vars(kind) and issubclass(kind, Estimator):
                kind.fit = self._counted(kind.fit)

    def _counted(self, fit: Any) -> Any:
        @wraps(fit)
        def counted(estimator: Any, *args: Any, **kwargs: Any) -> Any:
            self.n += 1
            given = estimator.solver
            if isinstance(given, str) and any(
                given in SOLVERS.get(k.__name__, ()) for k in type(estimator).mro()
            ):
                estimator.solver = "auto"
            try:
                return fit(estimator, *args, **kwargs)
            finally:
                estimator.solver = given

        return counted


def described(error: BaseException | None) -> str:
    """The types and messages of an error and of those that it hides, such as that a warning did not come."""
    seen = []
    while error is not None:
        seen.append(f"{type(error).__name__}: {error}")
        error = error.__cause__ or error.__context__
    return one_line(" | after ".join(seen))


def one_line(text: str) -> str:
    """The text without line breaks, colours and addresses in memory, and no longer than what is kept."""
    text = re.sub(r"0x[0-9a-fA-F]{6,}", "0x...", re.sub(r"\x1b\[[0-9;]*m", "", text))
    return " ".join(text.split())[:LONGEST]


class Recorder:
    """Writes a line of JSON per test: the fields of :class:`daskgd.testing.sklearn_tests.Outcome`."""

    def __init__(self, path: Path) -> None:
        path.write_text("")
        self.path = path
        import_module("sklearn.utils.discovery").all_estimators()  # loads what holds names of its own
        self.uses = Uses()

    def _write(self, test: str, line: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            print(json.dumps({"test": test.removeprefix("sklearn/"), **line}), file=file)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Any:
        if not isinstance(collector, pytest.Module):
            return (yield)
        with substituted():
            report = yield
        if not report.failed:
            replace_packages(collector.obj)
        else:
            error = one_line(str(report.longrepr)[-LONGEST:])
            self._write(collector.nodeid, {"outcome": "failed", "used": True, "error": error})
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        np.random.seed(0)  # for tests that draw without a seed of their own
        before = self.uses.n
        self.line: dict[str, Any] = {"outcome": "passed", "seconds": 0.0}
        result = yield
        self._write(item.nodeid, {"used": self.uses.n > before, **self.line})
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> Any:
        report = yield
        self.line["seconds"] += report.duration
        if report.failed and call.excinfo is not None:
            refused = str(call.excinfo.traceback[-1].path).startswith(ROOT)
            self.line |= {"outcome": "failed", "error": described(call.excinfo.value), "refused": refused}
        elif report.failed:  # a test that was expected to fail, and must
            self.line |= {"outcome": "failed", "error": one_line(str(report.longrepr))}
        elif report.skipped and self.line["outcome"] == "passed":
            self.line["outcome"] = "skipped"
        return report


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--daskgd-outcomes", type=Path, help="file for a line of JSON per test")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Recorder(config.getoption("--daskgd-outcomes")))
