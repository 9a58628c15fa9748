"""Fitted models as files: a header and arrays, no pickle, so that loading one runs no code of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import sklearn
from scipy.sparse import issparse
from sklearn.utils.validation import check_is_fitted

import daskgd
from daskgd.estimators.epochs import Training
from daskgd.estimators.path import Path, Seen
from daskgd.estimators.prediction import dense
from daskgd.monitoring.history import History
from daskgd.preprocessing.records import check_version, from_record, to_record
from daskgd.rows.statistics import Moments
from daskgd.solvers import NAMES
from daskgd.storage.atomic_files import AtomicFiles
from daskgd.storage.paths import locate
from daskgd.storage.records import RecordError, pack, types_of, unpack
from daskgd.storage.redaction import redacted

FORMAT = 1
TYPES = types_of([*NAMES.values(), Training, Path, Seen, Moments])

Options = Mapping[str, Any] | None

WORDS = ("solver", "reason", "regime")
"""What a history says beside its rows."""

LEFT_OUT = {"_stored"}
"""Attributes that are of this machine: where the rows of the fit are."""


def save_model(estimator: Any, path: str | os.PathLike[str], storage_options: Options) -> None:
    """Write a fitted estimator: see :meth:`Estimator.save`."""
    _write(
        {"kind": "model", "format": FORMAT, "daskgd": daskgd.__version__, **_said(estimator)},
        path,
        type(estimator).__name__,
        storage_options,
    )


def save_pipeline(pipeline: Any, path: str | os.PathLike[str], storage_options: Options) -> None:
    """Write a fitted pipeline: see :meth:`daskgd.Pipeline.save`."""
    check_is_fitted(pipeline)
    *before, (name, estimator) = pipeline.steps
    try:
        steps = [[step, to_record(encoder)] for step, encoder in before]
    except TypeError as cause:
        raise TypeError(f"save: Pipeline has a step that no model file holds: {cause}; pickle it") from cause
    said = {
        "kind": "model",
        "format": FORMAT,
        "daskgd": daskgd.__version__,
        "estimator": "Pipeline",
        "sklearn": sklearn.__version__,
        "steps": steps,
        "last": [name, _said(estimator)],
        "verbose": bool(pipeline.verbose),
    }
    _write(said, path, type(estimator).__name__, storage_options)


def _said(estimator: Any) -> dict[str, Any]:
    """What a file says of a fitted estimator."""
    check_is_fitted(estimator)
    name = type(estimator).__name__
    if getattr(daskgd, name, None) is not type(estimator):
        raise TypeError(f"save: expected one of daskgd's own estimators, got {name}; pickle it")
    parameters = estimator.get_params(deep=False)
    attributes = {
        key: value
        for key, value in vars(estimator).items()
        if key not in parameters and key not in LEFT_OUT and not key.startswith(("_sk", "_parent"))
    }
    history = attributes.pop("history_")
    if issparse(attributes.get("coef_")):
        attributes["coef_"] = dense(attributes["coef_"])
    return {
        "estimator": name,
        "parameters": parameters,
        "attributes": attributes,
        "history": {
            "rows": [dict(r) for r in history],
            "solver": history.solver,
            "reason": history.reason,
            "regime": history.regime,
        },
    }


def _write(said: dict[str, Any], path: str | os.PathLike[str], name: str, storage_options: Options) -> None:
    try:
        data = pack(said, TYPES)
    except TypeError as cause:
        raise TypeError(
            f"save: {name} has a parameter or attribute that no model file holds: {cause}. Set it to what "
            "can be written, such as engine=None, or pickle the estimator"
        ) from cause
    folder, file = _place(path, storage_options)
    folder.write(file, data)


def load_model(path: str | os.PathLike[str], *, storage_options: Options = None) -> Any:
    """The estimator that was written with ``save``, fitted.

    The file is checked as a whole, and nothing in it is run: it names one of daskgd's estimators, its
    parameters and its attributes.

    Parameters
    ----------
    path : str or PathLike
        Or a URL that fsspec knows.
    storage_options : mapping, optional
        For fsspec.

    Returns
    -------
    estimator

    Raises
    ------
    FileNotFoundError
        There is no such file.
    daskgd.ModelError
        It is no model of daskgd's, was cut short or altered, or is of a later format.

    Examples
    --------
    >>> import daskgd, tempfile
    >>> path = tempfile.mkdtemp() + "/ridge.dgd"
    >>> daskgd.Ridge(alpha=2.0).fit([[-1.0], [0.0], [1.0]], [-2.0, 0.0, 2.0]).save(path)
    >>> daskgd.load_model(path).predict([[2.0]])
    array([2.])
    """
    folder, file = _place(path, storage_options)
    try:
        return _model(unpack(folder.read(file), TYPES))
    except (RecordError, ValueError, TypeError, LookupError, AttributeError) as cause:
        raise ModelError(f"{redacted(locate(path))}: expected a model of daskgd's, but {cause}") from cause


class ModelError(ValueError):
    """A file is no model of daskgd's, was cut short or altered, or is of a later format."""


def _model(said: Any) -> Any:
    if not isinstance(said, dict) or said.get("kind") != "model":
        raise RecordError("it holds something else")
    if said["format"] != FORMAT:
        raise RecordError(
            f"its format is {said['format']!r}, of daskgd {said['daskgd']!s:.20}, and {FORMAT} is expected: "
            "update daskgd to read it"
        )
    return _pipeline(said) if said["estimator"] == "Pipeline" else _estimator(said)


def _pipeline(said: Any) -> Any:
    check_version(str(said["sklearn"]))
    before = [(str(name), from_record(tree)) for name, tree in said["steps"]]
    name, last = said["last"]
    return daskgd.Pipeline([*before, (str(name), _estimator(last))], verbose=bool(said["verbose"]))


def _estimator(said: Any) -> Any:
    name = said["estimator"]
    kind = getattr(daskgd.estimators, name) if name in daskgd.estimators.__all__ else None
    if not isinstance(kind, type):
        raise RecordError(f"it names an estimator {name!r:.80}, which there is not")
    estimator = kind(**said["parameters"])
    for key, value in said["attributes"].items():
        if not key.isidentifier() or key.startswith("__") or hasattr(kind, key):
            raise RecordError(f"it sets an attribute {key!r:.80}, which is not one of a fit")
        setattr(estimator, key, value)
    check_is_fitted(estimator, "n_iter_")
    history = History()
    for row in said["history"]["rows"]:
        history(row)
    for name in WORDS:
        setattr(history, name, str(said["history"].get(name, "")))
    estimator.history_ = history
    return estimator


def _place(path: str | os.PathLike[str], storage_options: Options) -> tuple[AtomicFiles, str]:
    if os.fspath(path).endswith(("/", os.sep)):
        raise ValueError(f"path: expected that of a file, got {os.fspath(path)!r}")
    above, _, file = locate(path).replace(os.sep, "/").rpartition("/")
    return AtomicFiles(above or "/", storage_options), file
