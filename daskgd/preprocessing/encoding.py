"""Encoding tables: a dataset becomes one whose blocks are encoded as they are read; digests of encoders."""

from __future__ import annotations

import hashlib
from typing import Any

import cloudpickle
import numpy as np

from daskgd.data.dataset import Dataset
from daskgd.preprocessing.columns import Category, Indicators, Lookup, Made, Program, TargetMeans
from daskgd.preprocessing.encoded import EncodedView
from daskgd.preprocessing.facts import Facts
from daskgd.preprocessing.fitting import program
from daskgd.preprocessing.records import to_record
from daskgd.rows.subsets import Subset


def encode(dataset: Dataset, fitted: Any, named: bool = False, facts: Facts | None = None) -> Dataset:
    """The table, encoded by a fitted transformer: a dataset whose blocks are encoded as they are read.

    Parameters
    ----------
    dataset : Dataset
    fitted : transformer of scikit-learn, fitted
    named : bool
        Whether the features have names; those of scikit-learn's encoders have none, as they are arrays.
    facts : Facts, optional
        What was learnt in the fit, where these are its rows: encoders of targets tell each what other rows
        have taught.

    Returns
    -------
    Dataset
        With the targets, weights and offset of the table.
    """
    return encoded_view(fitted, dataset, named, facts).encode(dataset)


def encoded_view(
    fitted: Any,
    dataset: Dataset,
    named: bool = False,
    facts: Facts | None = None,
    subset: Subset | None = None,
) -> EncodedView:
    """The rows of a table as a fitted transformer encodes them; those that are selected are the rows of the
    subset. `named` and `facts` as for :func:`encode`."""
    made = program(fitted, dataset, facts)
    return EncodedView(made, digest_of(made), feature_names_out(fitted, dataset) if named else None, subset)


def digest_of(program: Program) -> str:
    """A text that differs where programs do, and is the same in any process."""
    sha = hashlib.sha256(program.dtype.str.encode())
    _update(sha, program.columns)
    return sha.hexdigest()[:16]


def digest_of_encoder(transformer: Any) -> str:
    """A text that differs where transformers do."""
    sha = hashlib.sha256()
    _update(sha, Made(transformer, (), None, 0))
    return sha.hexdigest()[:16]


def _update(sha: Any, value: Any) -> None:
    match value:
        case Category():
            _update(sha, ["category", value.column, value.name, value.values.tolist()])
        case Indicators():
            _update(sha, ["indicators", value.of, value.places, value.width, value.known])
        case TargetMeans():
            _update(sha, ["target", value.of, value.values, value.seed])
        case Lookup():
            made = value.made
            _update(sha, ["lookup", value.of, made.shape, made.data, made.indices, made.indptr])
        case Made():
            try:
                transformer: Any = to_record(value.transformer)
            except TypeError:  # with functions of users
                transformer = cloudpickle.dumps(value.transformer)
            _update(sha, ["made", transformer, value.of, value.names, value.width])
        case np.ndarray():
            sha.update(f"{value.dtype.str}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
        case list() | tuple():
            sha.update(b"[")
            for one in value:
                _update(sha, one)
            sha.update(b"]")
        case dict():
            _update(sha, [*value.items()])
        case bytes():
            sha.update(value)
        case _:
            sha.update(f"{value!r};".encode())


def feature_names_out(fitted: Any, dataset: Dataset) -> list[str] | None:
    """The names of the features that a fitted transformer makes of a table, None where there are none."""
    if dataset.dictionaries is None and dataset.feature_names is None:
        return None
    try:
        return [str(name) for name in fitted.get_feature_names_out()]
    except (AttributeError, ValueError):  # as of functions that say none
        return None
