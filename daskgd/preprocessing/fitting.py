"""Fitting a specification of scikit-learn's by sums: what all its parts have to know is asked in shared
sweeps.

Containers are walked through here; single transformers are fitted by their kinds. Everything is a generator
of :class:`~daskgd.preprocessing.facts.Needs`, as solvers are of queries, so that branches advance side by
side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from sklearn import compose, frozen, pipeline, preprocessing
from sklearn.base import clone

from daskgd._compat.sklearn import check_parameters, input_indices
from daskgd.data.columns import Columns
from daskgd.data.dataset import Dataset
from daskgd.engines.select import Choice, open_engine
from daskgd.preprocessing.columns import Category, Column, Made, Program, TableRows, of_schema
from daskgd.preprocessing.facts import Asking, Facts, Needs
from daskgd.preprocessing.kinds.base import Input
from daskgd.preprocessing.kinds.table import KINDS, kind_of
from daskgd.queries import Ask
from daskgd.queries.by_cell import ByCell
from daskgd.queries.sample import Sample, SampleAnswer
from daskgd.queries.targets import TargetValues
from daskgd.rows.layout import Shape
from daskgd.rows.random_numbers import SAMPLE, row_random_numbers
from daskgd.rows.subsets import Subset
from daskgd.rows.tiles import Rows
from daskgd.rows.views import SubsetView, View

SAMPLE_BYTES = 64 << 20
"""Bytes of the sample of rows by which medians, quantiles and the like are found."""

SAMPLE_SEED = 0
"""The seed of that sample."""

SUMS_BYTES = 1 << 30
"""Bytes of the sums of one sweep, about, beyond which another one is made for the rest."""

OBJECTS = {"object", "O", "<class 'object'>", "<class 'numpy.object_'>"}
"""The words for the type object, as selectors of columns have it."""


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
    fit = EncoderFit(encoder, facts=facts)
    fit_encoders([fit], dataset, engine)
    if fit.error is not None:
        raise fit.error
    return fit.fitted


@dataclass(slots=True, eq=False)
class EncoderFit:
    """One of many encoders that are fitted in the same sweeps.

    Attributes
    ----------
    encoder : transformer of scikit-learn, or a container of them
        It is left as it is.
    subset : Subset or None
        The rows to fit it to; None for all.
    facts : Facts or None
        What was learnt; made anew where it is None.
    fitted : transformer of scikit-learn, fitted
    error : Exception or None
        With which the fit failed.
    """

    encoder: Any
    subset: Subset | None = None
    facts: Facts | None = None
    fitted: Any = None
    error: Exception | None = None
    _asking: Asking | None = None

    def advance(self, rows: Dataset) -> Needs | None:
        """Begin with the rows of the fit, as a view, or go on with what the facts have by now: what it needs
        to know next; None where it has ended."""
        try:
            if self._asking is None:
                self._asking = self._begin(rows)
            return next(self._asking)
        except StopIteration as done:
            self.fitted = done.value
        except Exception as error:
            self.error = error
        return None

    def _begin(self, rows: Dataset) -> Asking:
        schema = rows.schema
        self.facts = Facts.of(schema) if self.facts is None else self.facts
        self.facts.classes = rows.classes
        columns = of_schema(schema)
        head = TableRows(rows.first_rows, schema).frame(columns, schema_names(rows))
        return _fit(self.encoder, Input(columns, head, self.facts))


def fit_encoders(fits: Sequence[EncoderFit], dataset: Dataset, engine: Choice = None) -> None:
    """Fit transformers to subsets of the rows of a table, all of them in the same sweeps: what is asked of
    stored columns is summed up once in each cell of the rows, and those of a subset are sums of its cells'.

    Each keeps what it found, or the error with which it failed. Moments and means that are sums of cells
    differ by rounding, 1e-15 of their size, from those of the subset alone; counts and samples do not.

    Raises
    ------
    ValueError
        For tables without a row, or that cannot be read.
    """
    views = {subset: dataset.of_subset(subset) for subset in {fit.subset: None for fit in fits}}

    def advance(some: Iterable[EncoderFit]) -> list[tuple[EncoderFit, Needs]]:
        return [(fit, needs) for fit in some if (needs := fit.advance(views[fit.subset])) is not None]

    asking = advance(fits)
    if not asking:
        return
    # Each row counts once, whatever its weight: that is not read, and the target only where encoders see it.
    y = dataset.columns.y if any(sees_target(fit.encoder) for fit in fits) else None
    features = dataset.replace(
        Columns(dataset.columns.X, y), offset=None, classes=None, layout=dataset.layout
    )
    fewest = min(view.n_rows for view in views.values())
    payload = min(SAMPLE_BYTES * dataset.n_rows // max(fewest, 1), dataset.columns.X.nbytes)
    with open_engine(features, engine, row_payload_nbytes=max(payload, SAMPLE_BYTES)) as (made, ready):
        while asking:
            n_sweeps = _ask(made, ready, asking, views)
            for fit, _ in asking:
                assert fit.facts is not None
                fit.facts.n_sweeps += n_sweeps
            asking = advance([fit for fit, _ in asking])


def _ask(
    engine: Any,
    dataset: Dataset,
    asking: Sequence[tuple[EncoderFit, Needs]],
    views: Mapping[Subset | None, Dataset],
) -> int:
    """Ask for what is needed in one sweep, or in some where the sums are large: how many."""
    questions = [*_about_columns(asking), *_about_one(asking)]
    if sampled := [fit for fit, needs in asking if needs.sample]:
        questions.append(_about_samples(sampled, dataset, views))
    sweeps = 0
    while questions:
        sweeps += 1
        size, n = 0, 0
        for ask, _ in questions:
            size += ask.result_nbytes(dataset.n_features)
            if n and size > SUMS_BYTES:
                break
            n += 1
        now, questions = questions[:n], questions[n:]
        for (_, learn), answer in zip(now, engine.sweep([ask for ask, _ in now]), strict=True):
            learn(answer)
    return sweeps


Question = tuple[Ask, Callable[[Any], None]]
"""What is asked, and what takes the answer."""


def _about_columns(asking: Sequence[tuple[EncoderFit, Needs]]) -> Iterator[Question]:
    """The questions about columns as they are stored, which fits to the same cells of the rows share."""
    groups: dict[Any, list[tuple[EncoderFit, Needs]]] = defaultdict(list)
    for fit, needs in asking:
        groups[None if fit.subset is None else fit.subset.cells].append((fit, needs))
    for cells, group in groups.items():
        needs = Needs()
        for _, its in group:
            needs.add(its)
        queries = [query for query in (needs.of_columns(), TargetValues() if needs.labels else None) if query]
        subsets = {fit.subset for fit, _ in group}
        for query in queries:
            if len(subsets) == 1:
                ask = Ask(None, query, view=_view(group[0][0].subset))
            else:
                ask = Ask(None, ByCell(query, cells))

            def learn(answer: Any, group: Any = group, several: bool = len(subsets) > 1) -> None:
                for fit, _ in group:
                    fit.facts.learn(answer.of(fit.subset) if several else answer)

            yield ask, learn


def _about_one(asking: Sequence[tuple[EncoderFit, Needs]]) -> Iterator[Question]:
    """The questions about what a fit has made of columns by now, which are its own."""
    for fit, needs in asking:
        facts, view = fit.facts, _view(fit.subset)
        assert facts is not None
        if needs.views:
            query = needs.of_views(facts.schema)
            yield Ask(None, query, view=view), partial(facts.learn_views, needs)
        for target in needs.targets:
            yield Ask(None, target, view=view), partial(facts.targets.__setitem__, id(target))


def _about_samples(
    fits: Sequence[EncoderFit], dataset: Dataset, views: Mapping[Subset | None, Dataset]
) -> Question:
    """The question for a sample of the rows of each fit, which is what it would be of these rows alone: the
    same of all rows, of the largest share of them, and each takes those of its own."""
    each = {subset: _sample(views[subset]) for subset in {fit.subset for fit in fits}}
    largest = max(each.values(), key=lambda sample: sample.share)

    def learn(answer: SampleAnswer) -> None:
        rows = answer.rows
        found = {subset: _part(rows, subset, sample.share) for subset, sample in each.items()}
        for fit in fits:
            assert fit.facts is not None
            fit.facts.sample = found[fit.subset]

    whole = round(largest.share * dataset.columns.X.nbytes)
    return Ask(None, replace(largest, nbytes=whole)), learn


def _part(rows: Rows, subset: Subset | None, share: float) -> Rows:
    """The rows of a sample that a smaller one of a subset has."""
    inside = np.ones(len(rows), dtype=bool) if subset is None else subset.mask(rows.numbers)
    if share < 1:
        inside &= row_random_numbers(rows.numbers, SAMPLE_SEED, SAMPLE) < share
    return rows if inside.all() else rows.select(inside)


def _view(subset: Subset | None) -> View | None:
    return None if subset is None else SubsetView(subset)


def _sample(dataset: Dataset) -> Sample:
    X = dataset.columns.X
    each = max(X.nbytes // max(X.shape[0], 1), 1)
    shape = Shape(dataset.n_rows, dataset.n_features, sparse_row_bytes=None if X.is_dense else each)
    return Sample.of(shape, SAMPLE_BYTES / each, 0, SAMPLE_SEED)


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


def _fit(transformer: Any, given: Input) -> Asking:
    """Fit a transformer or a container of them."""
    container = CONTAINERS.get(type(transformer))
    if container is not None:
        return (yield from container(transformer, given))
    if isinstance(transformer, frozen.FrozenEstimator):
        return transformer
    kind = kind_of(transformer)
    check_parameters(transformer)
    return (yield from kind.fit(transformer, given))


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
    """Columns of a ColumnTransformer; by name those that a selector of the type "category" or object chooses,
    either of which text is."""
    types = [getattr(columns, name, None) for name in ("dtype_include", "dtype_exclude")]
    words = {
        str(one) for some in types if some is not None for one in (some if isinstance(some, list) else [some])
    }
    kind = "category" if "category" in words else object if words & OBJECTS else None
    if kind is None or not hasattr(given.head, "iloc"):
        return columns
    text = [c.name for c in given.columns if isinstance(c, Category) and not c.is_numeric]
    return columns(given.head.astype(dict.fromkeys(text, kind)))


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
    rows = TableRows(dataset.first_rows, schema)
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
