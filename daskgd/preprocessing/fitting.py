"""Fitting a specification of scikit-learn's by sums: what all its parts have to know is asked in shared
sweeps.

Containers are walked through here; single transformers are fitted by their kinds. Everything is a generator
of :class:`~daskgd.preprocessing.facts.Needs`, as solvers are of queries, so that branches advance side by
side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn import compose, frozen, pipeline, preprocessing
from sklearn.base import clone

from daskgd._compat.sklearn import input_indices
from daskgd.data.columns import Columns
from daskgd.data.dataset import Dataset
from daskgd.engines.select import Choice, open_engine
from daskgd.preprocessing.columns import Category, Column, Made, Program, TableRows, of_schema
from daskgd.preprocessing.facts import Asking, Facts, Needs
from daskgd.preprocessing.kinds.base import Input
from daskgd.preprocessing.kinds.table import KINDS, kind_of
from daskgd.queries import Ask
from daskgd.queries.sample import Sample, SampleAnswer
from daskgd.queries.targets import TargetValues
from daskgd.rows.features import Features, as_features
from daskgd.rows.layout import Shape

SAMPLE_BYTES = 64 << 20
"""Bytes of the sample of rows by which medians, quantiles and the like are found."""

HEAD_ROWS = 2
"""Rows that show transformers what kind of columns they are given."""


# -- fitting --------------------------------------------------------------------------------------


def fit_encoder(encoder: Any, dataset: Dataset, engine: Choice = None, facts: Facts | None = None) -> Any:
    """Fit a transformer of scikit-learn's, or a container of them, to the rows of a table, by sums.

    Parameters
    ----------
    encoder : transformer of scikit-learn
        It is left as it is.
    dataset : Dataset
    engine : optional
        As of estimators.
    facts : Facts, optional
        Where to keep what was learnt, as :func:`~daskgd.preprocessing.encoding.encode` wants it for the rows
        of the fit; made anew by default.

    Returns
    -------
    transformer of scikit-learn, fitted

    Raises
    ------
    ValueError, TypeError
        For transformers that sums cannot fit, and for columns that they cannot take.

    Examples
    --------
    >>> import daskgd, tempfile
    >>> import numpy as np
    >>> from sklearn.preprocessing import StandardScaler
    >>> dataset = daskgd.as_dataset(np.arange(6.0).reshape(3, 2))
    >>> fit_encoder(StandardScaler(), dataset).mean_
    array([2., 3.])
    """
    schema = dataset.schema
    facts = Facts.of(schema) if facts is None else facts
    facts.classes = dataset.classes
    rows = TableRows(_first_rows(dataset), schema)
    columns = of_schema(schema)
    names = schema_names(dataset)
    asking = _fit(encoder, Input(columns, rows.frame(columns, names), facts))
    try:
        needs = next(asking)
    except StopIteration as done:
        return done.value
    # Each row counts once, whatever its weight: that is not read, and the target only where encoders see it.
    alone = Columns(dataset.columns.X, dataset.columns.y if sees_target(encoder) else None)
    features = dataset.replace(alone, offset=None, classes=None, layout=dataset.layout)
    with open_engine(features, engine, row_payload_nbytes=SAMPLE_BYTES) as (made, ready):
        while True:
            _ask(made, ready, facts, needs)
            try:
                needs = asking.send(None)
            except StopIteration as done:
                return done.value


def _ask(engine: Any, dataset: Dataset, facts: Facts, needs: Needs) -> None:
    """Ask for what is needed in one sweep."""
    query = needs.query(facts.schema)
    asks = [] if query is None else [Ask(None, query)]
    if needs.sample:
        asks.append(Ask(None, _sample(dataset)))
    if needs.labels:
        asks.append(Ask(None, TargetValues()))
    asks += [Ask(None, query) for query in needs.targets]
    answers = list(engine.sweep(asks))
    found = answers.pop(0) if query is not None else None
    sample: SampleAnswer | None = answers.pop(0) if needs.sample else None
    facts.learn(needs, found, None if sample is None else sample.rows)
    if needs.labels:
        facts.labels = answers.pop(0)
    facts.targets |= {id(query): answer for query, answer in zip(needs.targets, answers, strict=True)}


def _sample(dataset: Dataset) -> Sample:
    X = dataset.columns.X
    each = max(X.nbytes // max(X.shape[0], 1), 1)
    shape = Shape(dataset.n_rows, dataset.n_features, sparse_row_bytes=None if X.is_dense else each)
    return Sample.of(shape, SAMPLE_BYTES / each, 0, 0)


def sees_target(encoder: Any) -> bool:
    """Whether a transformer, or one in a container, is fitted with the target."""
    if isinstance(encoder, frozen.FrozenEstimator):
        return False
    inside = encoder.get_params().values() if hasattr(encoder, "get_params") else ()
    return isinstance(encoder, preprocessing.TargetEncoder) or any(
        isinstance(one, preprocessing.TargetEncoder) for one in inside
    )


def schema_names(dataset: Dataset) -> tuple[str, ...] | None:
    """The names of the columns of a table; None of rows that have none."""
    if dataset.dictionaries is None and dataset.feature_names is None:
        return None
    return tuple(dataset.schema)


def _first_rows(dataset: Dataset) -> Features:
    """The first rows that are selected."""
    blocks = dataset.feature_blocks
    for i in range(blocks.numblocks[0]):
        X = as_features(blocks.blocks[i].compute())
        if len(X):
            return X.slice(0, HEAD_ROWS)
    raise ValueError("X: expected at least one row, got none")


def _fit(transformer: Any, given: Input) -> Asking:
    """Fit a transformer or a container of them."""
    container = CONTAINERS.get(type(transformer))
    if container is not None:
        return (yield from container(transformer, given))
    if isinstance(transformer, frozen.FrozenEstimator):
        return transformer
    return (yield from kind_of(transformer).fit(transformer, given))


def _without_stand_ins(value: Any) -> Any:
    """A value of an attribute with the fitted transformers themselves in it."""
    if isinstance(value, _StandIn):
        return value.fitted
    if type(value) in (list, tuple):
        return type(value)(map(_without_stand_ins, value))
    return value


def _fit_pipeline(spec: Any, given: Input) -> Asking:
    steps = []
    for name, step in spec.steps:
        if step is None or step == "passthrough":
            steps.append((name, step))
            continue
        fitted = yield from _fit(step, given)
        steps.append((name, fitted))
        given = through(fitted, given)
    out = clone(spec)
    out.steps = steps
    return out


def _fit_union(spec: Any, given: Input) -> Asking:
    named = [(name, step) for name, step in spec.transformer_list if step not in ("drop", "passthrough")]
    fitted = yield from _side_by_side([(step, given) for _, step in named])
    by_name = dict(zip([name for name, _ in named], fitted, strict=True))
    out = clone(spec)
    out.transformer_list = [(name, by_name.get(name, step)) for name, step in spec.transformer_list]
    stand_ins = [(name, _StandIn(step) if name in by_name else step) for name, step in out.transformer_list]
    out.transformer_list, whole = stand_ins, out.transformer_list
    out.fit(given.head)
    rest = dict(out.transformer_list)
    out.transformer_list = [(name, step if name in by_name else rest[name]) for name, step in whole]
    return out


def _fit_columns(spec: Any, given: Input) -> Asking:
    probe = _with_parts(clone(spec), lambda part: preprocessing.FunctionTransformer())
    probe.set_params(sparse_threshold=0, transformer_weights=None)
    alone = {name for name, _, at in spec.transformers if _is_one(at)}
    probe.transformers = [
        (name, part, [at] if name in alone else _chosen(at, given)) for name, part, at in probe.transformers
    ]
    probe.fit(_as_read(given.head))
    indices = input_indices(probe)
    parts = [*spec.transformers, ("remainder", spec.remainder, None)]
    chosen = [
        (name, part, indices.get(name, []))
        for name, part, _ in parts
        if not isinstance(part, str) and len(indices.get(name, []))
    ]
    fitted = yield from _side_by_side(
        [(part, _select(given, at, name in alone)) for name, part, at in chosen]
    )
    by_name = {name: one for (name, _, _), one in zip(chosen, fitted, strict=True)}
    out = _with_parts(clone(spec), _StandIn, by_name)
    # The columns as they were found: selectors have seen text as text.
    own = [
        columns if name in alone else _given_columns(probe, name, columns)
        for name, _, columns in spec.transformers
    ]
    out.transformers = [(name, part, at) for (name, part, _), at in zip(out.transformers, own, strict=True)]
    out.fit(given.head)
    for name, value in vars(out).items():
        setattr(out, name, _without_stand_ins(value))
    plain = clone(spec)
    out.transformers, out.remainder = plain.transformers, plain.remainder
    return out


def _is_one(columns: Any) -> bool:
    """Whether columns are a single one, by name or position, which a transformer is given as one array."""
    return isinstance(columns, str | int | np.integer) and not isinstance(columns, bool)


def _given_columns(probe: Any, name: str, columns: Any) -> Any:
    return next((found for known, _, found in probe.transformers_ if known == name), columns)


def _as_read(head: Any) -> Any:
    """The head as selectors of columns see it: text with the type that pandas gives it in files."""
    if not hasattr(head, "iloc"):
        return head
    return type(head)({name: _inferred(head[name]) for name in head.columns})


def _inferred(column: Any) -> Any:
    if column.dtype != object:
        return column
    known = [value for value in column.tolist() if isinstance(value, str)]
    return type(column)([*known, *[known[0] if known else "text"] * (len(column) - len(known))])


def _chosen(columns: Any, given: Input) -> Any:
    """Columns of a ColumnTransformer; those that a selector of the type "category" chooses, by name."""
    types = [getattr(columns, name, None) for name in ("dtype_include", "dtype_exclude")]
    words = [
        str(one) for some in types if some is not None for one in (some if isinstance(some, list) else [some])
    ]
    if "category" not in words or not hasattr(given.head, "iloc"):
        return columns
    text = [c.name for c in given.columns if isinstance(c, Category) and not c.is_numeric]
    return columns(given.head.astype(dict.fromkeys(text, "category")))


def _with_parts(spec: Any, change: Callable[..., Any], by_name: dict[str, Any] | None = None) -> Any:
    """The ColumnTransformer with other transformers in the place of its own, of those that are named."""

    def other(name: str, part: Any) -> Any:
        if isinstance(part, str):
            return part
        if by_name is None:
            return change(part)
        return change(by_name[name]) if name in by_name else part

    spec.transformers = [(name, other(name, part), columns) for name, part, columns in spec.transformers]
    spec.remainder = other("remainder", spec.remainder)
    return spec


def _select(given: Input, at: Sequence[int], alone: bool = False) -> Input:
    """Some of the columns of what is given; one that is `alone` as one array ``(n,)``."""
    if alone:
        head = given.head.iloc[:, at[0]] if given.names is not None else given.head[:, at[0]]
        return Input(pick(given.columns, at), head, given.facts)
    head = given.head.iloc[:, list(at)] if given.names is not None else given.head[:, list(at)]
    return Input(pick(given.columns, at), head, given.facts)


def pick(columns: Sequence[Column], at: Sequence[int]) -> list[Column]:
    """Some of the columns of a table on its way, by their positions. Those that are made together are made
    again where only some of them are picked."""
    if all(column.width == 1 for column in columns):
        return [columns[j] for j in at]
    starts = np.cumsum([0, *(column.width for column in columns)])
    out: list[Column] = []
    for j in at:
        i = int(np.searchsorted(starts, j, side="right")) - 1
        inner = int(j - starts[i])
        column = columns[i]
        if column.width == 1:
            out.append(column)
            continue
        chooser = compose.ColumnTransformer([("one", "passthrough", [inner])])
        chooser.fit(np.zeros((1, column.width)))
        out.append(Made(chooser, (column,), None, 1))
    return out


def _side_by_side(parts: Sequence[tuple[Any, Input]]) -> Asking:
    """Fit several transformers, of which all ask in the same sweeps: a list of them, fitted."""
    running = {i: _fit(part, given) for i, (part, given) in enumerate(parts)}
    found: dict[int, Any] = {}
    while running:
        needs = Needs()
        for i, asking in list(running.items()):
            try:
                needs.add(next(asking))
            except StopIteration as done:
                found[i] = done.value
                del running[i]
        if running:
            yield needs
    return [found[i] for i in range(len(parts))]


class _StandIn:
    """A fitted transformer in the place of one that is to be fitted, which containers neither clone nor
    fit."""

    def __init__(self, fitted: Any) -> None:
        self.fitted = fitted

    def __sklearn_clone__(self) -> _StandIn:
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        return self.fitted.__sklearn_tags__()

    def fit(self, X: Any, y: Any = None) -> _StandIn:
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        return self.fitted.transform(X)

    def transform(self, X: Any) -> Any:
        return self.fitted.transform(X)

    def set_output(self, *, transform: str | None = None) -> _StandIn:
        return self

    def __getattr__(self, name: str) -> Any:
        if name == "fitted":
            raise AttributeError(name)
        return getattr(self.fitted, name)


CONTAINERS: dict[type, Callable[[Any, Input], Asking]] = {
    compose.ColumnTransformer: _fit_columns,
    pipeline.Pipeline: _fit_pipeline,
    pipeline.FeatureUnion: _fit_union,
}


# -- what they make -------------------------------------------------------------------------------


def through(fitted: Any, given: Input) -> Input:
    """What comes out of a fitted transformer or a container: its columns, and the head."""
    head = fitted.transform(given.head)
    head = head.toarray() if hasattr(head, "toarray") else head
    return Input(_columns(fitted, given, head.shape[1]), head, given.facts)


def _columns(fitted: Any, given: Input, n_out: int) -> list[Column]:
    """The columns that a fitted transformer, or a container, makes, of which there are `n_out`."""
    if id(fitted) in given.facts.cross_fitted:
        return given.facts.cross_fitted[id(fitted)][1]
    plain = type(fitted) is preprocessing.FunctionTransformer and fitted.func is None
    if plain or _passes(fitted):
        return list(given.columns)
    if type(fitted) is pipeline.Pipeline:
        for _, step in fitted.steps:
            given = given if _passes(step) else through(step, given)
        return given.columns
    if type(fitted) is pipeline.FeatureUnion and not fitted.transformer_weights:
        parts = [step for _, step in fitted.transformer_list if step != "drop"]
        return [c for step in parts for c in (given if _passes(step) else through(step, given)).columns]
    if type(fitted) is compose.ColumnTransformer and not fitted.transformer_weights:
        return _columns_of(fitted, given)
    if isinstance(fitted, frozen.FrozenEstimator):
        return _columns(fitted.estimator, given, n_out)
    columns = None
    if type(fitted) in KINDS and all(column.width == 1 for column in given.columns):
        columns = KINDS[type(fitted)].columns(fitted, given.columns, given.names)
    if columns is None and given.facts.cross_fitted and sees_target(fitted):
        # Called itself it would tell the rows of the fit their own targets.
        raise ValueError(
            f"encoder: expected TargetEncoder in containers without transformer_weights, got it in "
            f"{type(fitted).__name__}; leave them out, as a model has weights of its own"
        )
    return [Made(fitted, tuple(given.columns), given.names, n_out)] if columns is None else columns


def _passes(step: Any) -> bool:
    return step is None or (isinstance(step, str) and step == "passthrough")


def _columns_of(fitted: Any, given: Input) -> list[Column]:
    indices = input_indices(fitted)
    found: list[Column] = []
    for name, part, columns in fitted.transformers_:
        at = indices.get(name, [])
        if not len(at) or (isinstance(part, str) and part == "drop"):
            continue
        some = _select(given, at, _is_one(columns))
        found += (some if _passes(part) else through(part, some)).columns
    return found


def program(fitted: Any, dataset: Dataset, facts: Facts | None = None) -> Program:
    """How the rows of a table are encoded by a fitted transformer; with the `facts` of its fit, how those of
    the fit are.

    Raises ValueError where the table has not the columns that it was fitted with.
    """
    schema = dataset.schema
    columns, names = of_schema(schema), schema_names(dataset)
    seen = getattr(fitted, "feature_names_in_", None)
    if seen is not None and names is not None:
        lacking = [name for name in seen if name not in names]
        if lacking:
            raise ValueError(
                f"X: expected the columns of the fit, among them {lacking[0]!r}, got {', '.join(names)}"
            )
        columns = [columns[names.index(name)] for name in seen]
        names = tuple(seen)
    elif getattr(fitted, "n_features_in_", len(columns)) != len(columns):
        raise ValueError(
            f"X has {len(columns)} features, but {type(fitted).__name__} is expecting "
            f"{fitted.n_features_in_} features as input"
        )
    rows = TableRows(_first_rows(dataset), schema)
    given = Input(columns, rows.frame(columns, names), Facts(schema) if facts is None else facts)
    out = fitted.transform(given.head)
    made_ = through(fitted, given).columns
    text = [c.name for c in made_ if isinstance(c, Category) and not c.is_numeric]
    if text:
        raise ValueError(
            f"encoder: expected numbers to come out, got text in column {text[0]!r}; encode it, as with "
            "OneHotEncoder, or leave it out of remainder='passthrough'"
        )
    kinds = [np.dtype(d) for d in out.dtypes] if hasattr(out, "dtypes") else [np.dtype(out.dtype)]
    dtype = np.result_type(*kinds) if all(kind.kind in "fiub" for kind in kinds) else np.dtype(float)
    return Program(tuple(made_), schema, dtype if dtype.kind == "f" else np.dtype(float))
