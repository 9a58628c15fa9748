"""Blocks of rows as they come: converted, checked to be alike, and regrouped into whole chunks.

Knows no zarr, and not where rows go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from daskgd.rows.dictionaries import Dictionaries
from daskgd.storage.categorical_writing import sparse_numbers
from daskgd.storage.conversion import (
    column_names,
    convert_offset,
    convert_sample_weight,
    convert_X,
    convert_y,
    dictionaries_of,
    frame_names,
    is_categorical,
)
from daskgd.storage.dictionaries import check_dictionaries
from daskgd.storage.members import NAMES
from daskgd.storage.opening import open_column
from daskgd.storage.packing import check_unpacked

Block = dict[str, Any]
"""Rows of each array by its name: arrays, of X perhaps features that are sparse or categorical."""

SHOWN_NAMES = 8
"""Names of columns that are shown of a block."""

Labels = list[str] | Dictionaries | None
"""What features stand for: names; of categorical rows dictionaries."""

CONVERTERS: dict[str, Callable[..., Any]] = {
    "X": convert_X,
    "y": convert_y,
    "sample_weight": convert_sample_weight,
    "offset": convert_offset,
}


def labels_of(X: Any) -> Labels:
    """What the features of rows in memory stand for, as far as they say it."""
    return dictionaries_of(X) if is_categorical(X) else column_names(X)


def choose_labels(given: Labels, own: Labels) -> Labels:
    """The names that were given, if any, else those that rows have; ValueError for names beside
    dictionaries."""
    if not isinstance(own, Dictionaries):
        return own if given is None else given
    if isinstance(given, list):
        raise ValueError(
            "feature_names: expected None beside categories, which are named after their columns, got "
            f"{given!r:.80}; pass OneHot(..., columns=) instead"
        )
    check_dictionaries(own)
    return own if given is None else given


def check_shapes(arrays: dict[str, Any], labels: Labels, where: str = "") -> None:
    names = labels if isinstance(labels, list) else None
    n, p = arrays["X"].shape
    for name, array in arrays.items():
        if len(array) != n:
            raise ValueError(f"{name} has {len(array)} rows, X has {n}{where}; they must be equal")
    if n == 0 or p == 0:
        raise ValueError(f"X: expected at least one row and at least one column, got shape {(n, p)}")
    if names is not None and not all(isinstance(name, str) for name in names):
        raise TypeError(f"feature_names: expected a sequence of str, got {names!s:.80}")
    if names is not None and len(names) != p:
        raise ValueError(f"feature_names: expected {p} names, one per column, got {len(names)}")
    if names is not None and len(set(names)) < p:
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(
            f"X, feature_names: expected columns of different names, got {twice!r} twice; rename one"
        )


def check_blocks(items: Iterable[Any]) -> Iterator[tuple[Block, Labels]]:
    """Blocks that have rows, with what their features stand for: checked to have the same arrays, names and
    dtypes."""
    first: Block = {}
    first_labels: Labels = None
    named: dict[str, tuple[int, list[Any]]] = {}
    for number, item in enumerate(items):
        parts = item if isinstance(item, tuple) else (item,)
        if not 1 <= len(parts) <= len(NAMES) or parts[0] is None:
            got = "no X" if len(parts) <= len(NAMES) else f"{len(parts)} parts"
            raise ValueError(
                f"block {number}: expected X, (X, y), (X, y, sample_weight) or "
                f"(X, y, sample_weight, offset), got {got}"
            )
        block = {
            name: _convert(part, name, f"block {number} of {name}")
            for name, part in zip(NAMES, parts, strict=False)
            if part is not None
        }
        if not any(map(len, block.values())):
            continue
        check_shapes(block, None, f" in block {number}")
        labels = labels_of(parts[0])
        if not first:
            first = {name: _rows(array, 0, 0, copy=True) for name, array in block.items()}
            first_labels = labels
        if set(block) != set(first):
            raise ValueError(
                f"block {number}: expected {', '.join(first)}, as in block 0, got {', '.join(block)}"
            )
        if len({sparse_numbers(rows["X"]) is None for rows in (first, block)}) > 1:
            raise ValueError(f"block {number} of X: expected all blocks sparse, or none")
        if Dictionaries in (type(labels), type(first_labels)) and labels != first_labels:
            raise ValueError(
                f"block {number} of X: expected the columns and categories of block 0; make all blocks "
                "daskgd.OneHot with the same ones"
            )
        for name, part in zip(NAMES, parts, strict=False):
            if names := [] if is_categorical(part) else frame_names(part):
                _check_names(name, number, names, *named.setdefault(name, (number, names)))
        for name, array in block.items():
            if (array.shape[1:], array.dtype) != (first[name].shape[1:], first[name].dtype):
                raise ValueError(
                    f"block {number} of {name}: expected rows of shape {first[name].shape[1:]} and dtype "
                    f"{first[name].dtype}, as in block 0, got {array.shape[1:]} and {array.dtype}; make all "
                    "blocks alike"
                )
        yield block, labels


def _check_names(name: str, number: int, names: list[Any], first: int, expected: list[Any]) -> None:
    """Raise ValueError for a block whose columns are not those of the first that has names, in their
    order."""
    if names == expected:
        return
    at = next((i for i, (a, b) in enumerate(zip(expected, names, strict=False)) if a != b), len(names))
    start = 0 if max(len(names), len(expected)) <= SHOWN_NAMES else min(at, len(names), len(expected))
    words = f"from column {start} on " * (start > 0)
    raise ValueError(
        f"block {number} of {name}: expected {words}the columns {_in_words(expected, start)}, as in block "
        f"{first}, got {_in_words(names, start)}; give all blocks the same columns in the same order"
    )


def _in_words(names: list[Any], start: int) -> str:
    """Some of the names of columns, from one on."""
    shown = ", ".join(map(str, names[start : start + SHOWN_NAMES]))
    return f"{shown or 'none'}{', ...' if len(names) > start + SHOWN_NAMES else ''}"


def _convert(part: Any, name: str, where: str) -> Any:
    """What a block holds of one of the arrays, to be stored."""
    part = without_attributes(part, where)
    if hasattr(part, "store_path"):  # zarr
        part = open_column(part).read(0, part.shape[0])
    return CONVERTERS[name](part, where)


def without_attributes(value: Any, name: str) -> Any:
    """The array that an array of xarray holds; others as they are. Raises ValueError for packed numbers."""
    check_unpacked(value, name)
    return value.data if hasattr(value, "dims") and hasattr(value, "data") else value


def regroup(blocks: Iterable[Block], unit: int) -> Iterator[Block]:
    """The same rows in blocks of a multiple of `unit` rows; the last block may have any number."""
    pending: list[Block] = []
    for block in blocks:
        pending.append(block)
        waiting = sum(len(part["X"]) for part in pending)
        if waiting >= unit:
            whole, stop = concatenate(pending), waiting - waiting % unit
            yield {name: _rows(array, 0, stop) for name, array in whole.items()}
            # a copy, so that a remainder does not keep its whole block alive
            left = {name: _rows(array, stop, waiting, copy=True) for name, array in whole.items()}
            pending = [left] if waiting > stop else []
    if pending:
        yield concatenate(pending)


def _rows(array: Any, start: int, stop: int, copy: bool = False) -> Any:
    if not isinstance(array, np.ndarray):
        part = array.slice(start, stop)
        return part.with_arrays(tuple(a.copy() for a in part.arrays)) if copy else part
    return array[start:stop].copy() if copy else array[start:stop]


def concatenate(parts: list[Block]) -> Block:
    """One block of the rows of all, in order."""
    if len(parts) == 1:
        return parts[0]
    first, *others = parts
    return {
        name: np.concatenate([part[name] for part in parts])
        if isinstance(one, np.ndarray)
        else one.concat(*(part[name] for part in others))
        for name, one in first.items()
    }
