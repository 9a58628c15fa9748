"""One file that holds a tree of values: header, arrays, checksum; no pickle, and nothing in it is run.

    magic (8 bytes) | format, length of the header (two uint32) | header (JSON) | arrays, at multiples of 64 |
    SHA-256 of all before

Numbers are little-endian. The header has the tree, in which arrays stand as positions in a list of their
dtypes, shapes and offsets. Dataclasses come back as instances of the types that the reader names, never of
any that the file names. Floats, and arrays with their order in memory, come back bit for bit. Knows numpy
only.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.rows.categorical import Categorical
from daskgd.rows.features import Dense, Features
from daskgd.rows.sparse import Sparse
from daskgd.rows.stacked import Stacked

Array = NDArray[Any]
Types = Mapping[str, type]

MAGIC = b"\x89DGD\r\n\x1a\n"
"""The first bytes of a record: as in PNG's, line ends and an eighth bit show what a transfer has changed."""

FORMAT = 1
ALIGNED = 64
DIGEST = hashlib.sha256().digest_size
KINDS = "fiubUS"
"""Kinds of dtypes that are stored: numbers, bool, text and bytes of fixed length."""

APART_BYTES = 1 << 20
"""From this size on an array may be stored in a file of its own."""


class RecordError(ValueError):
    """Bytes that are no record, a damaged one, one of a later format, or one with values not known here."""


def types_of(classes: Iterable[type]) -> Types:
    """Dataclasses by name.

    Raises
    ------
    ValueError : two have the same name.
    """
    found: dict[str, type] = {}
    for kind in classes:
        if found.setdefault(kind.__name__, kind) is not kind:
            raise ValueError(f"types: expected distinct names, got {kind.__name__} twice")
    return found


# -- writing --------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Writer:
    """Turns values into a tree for JSON and a list of arrays; an array that is met twice is stored once."""

    types: Types
    apart: Callable[[Array], str | None]
    arrays: list[Array] = field(default_factory=list)
    known: dict[int, tuple[Array, dict[str, Any]]] = field(default_factory=dict)

    def tree(self, value: Any) -> Any:
        match value:
            case np.ndarray():
                return self.array(value)
            case np.generic():
                return {"scalar": self.array(np.asarray(value))}
            case Dense():
                return self.array(value.values)
            case Sparse():
                return {"sparse": [self.array(a) for a in value.arrays], "columns": value.n_columns}
            case Categorical():
                indices, offsets = self.array(value.indices), self.array(value.offsets)
                return {"categorical": [indices, offsets], "numbers": value.dtype.str}
            case Stacked():
                return {"stacked": [self.features(part) for part in value.parts]}
            case None | bool() | int() | str():
                return value
            case float():
                return value if math.isfinite(value) else {"float": repr(value)}
            case list():
                return [self.tree(item) for item in value]
            case tuple():
                return {"tuple": [self.tree(item) for item in value]}
            case np.dtype():
                return {"dtype": value.str}
            case Mapping():
                return {"dict": [[self.tree(key), self.tree(item)] for key, item in value.items()]}
        kind = type(value)
        if is_dataclass(kind) and self.types.get(kind.__name__) is kind:
            of = {f.name: self.tree(getattr(value, f.name)) for f in fields(kind) if f.init}
            return {"is": kind.__name__, "of": of}
        raise TypeError(
            f"expected numbers, text, arrays, lists, mappings or one of {', '.join(sorted(self.types))} to "
            f"store, got {value!r:.80} of type {kind.__qualname__}"
        )

    def features(self, part: Features) -> dict[str, Any]:
        """A part of others, which is always read as features."""
        return {"dense": self.array(part.values)} if isinstance(part, Dense) else self.tree(part)

    def array(self, value: Array) -> dict[str, Any]:
        if id(value) not in self.known:
            self.known[id(value)] = value, self._array(value)  # with the array, so that its id stays its own
        return self.known[id(value)][1]

    def _array(self, value: Array) -> dict[str, Any]:
        if value.dtype == object:
            return {"objects": [self.tree(item) for item in value.flat], "shape": list(value.shape)}
        if value.dtype.kind not in KINDS:
            raise TypeError(f"expected an array of numbers or text to store, got dtype {value.dtype}")
        if value.nbytes >= APART_BYTES and (name := self.apart(value)) is not None:
            return {"apart": name}
        self.arrays.append(value)
        return {"array": len(self.arrays) - 1}


def pack(
    value: Any, types: Types | None = None, apart: Callable[[Array], str | None] = lambda _: None
) -> bytes:
    """A record of a tree of values: None, numbers, text, arrays, lists, tuples, mappings, dtypes, and
    dataclasses of `types`.

    `apart` is shown large arrays, and may return a name under which it keeps one: it is then left out here.

    Raises
    ------
    TypeError : a value that cannot be stored.

    >>> unpack(pack({"w": np.array([1.0, np.nan]), "n": (1, 2.5, None)}))
    {'w': array([ 1., nan]), 'n': (1, 2.5, None)}
    """
    writer = _Writer(types or {}, apart)
    tree = writer.tree(value)
    listed, parts, at = [], [], 0
    for array in writer.arrays:
        order = "C" if array.flags.c_contiguous or not array.flags.f_contiguous else "F"
        body = array.tobytes(order)  # type: ignore[arg-type]
        listed.append([array.dtype.str, list(array.shape), order, at])
        parts.append(body + bytes(-len(body) % ALIGNED))
        at += len(parts[-1])
    header = json.dumps({"tree": tree, "arrays": listed, "bytes": at}, allow_nan=False).encode()
    header += b" " * (-(len(MAGIC) + 8 + len(header)) % ALIGNED)
    out = b"".join([MAGIC, struct.pack("<II", FORMAT, len(header)), header, *parts])
    return out + hashlib.sha256(out).digest()


# -- reading --------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Reader:
    """Turns a tree and the arrays of a record back into values."""

    types: Types
    fetch: Callable[[str], Array]
    renamed: Mapping[str, str]
    body: memoryview
    listed: list[Any]
    found: dict[Any, Array] = field(default_factory=dict)

    def value(self, tree: Any) -> Any:
        if isinstance(tree, list):
            return [self.value(item) for item in tree]
        if not isinstance(tree, dict):
            return tree
        match tree:
            case {"array": int(at)}:
                return self._once(at, lambda: self._array(*self.listed[at]))
            case {"apart": str(name)}:
                return self._once(name, lambda: self.fetch(name))
            case {"objects": list(items), "shape": list(shape)}:
                out = np.empty(len(items), dtype=object)
                out[:] = [self.value(item) for item in items]
                return out.reshape(shape)
            case {"scalar": inner}:
                return self.value(inner)[()]
            case {"float": ("nan" | "inf" | "-inf") as text}:
                return float(text)
            case {"tuple": list(items)}:
                return tuple(self.value(item) for item in items)
            case {"dict": list(items)}:
                return {self.value(key): self.value(item) for key, item in items}
            case {"sparse": [values, indices, indptr], "columns": int(n)}:
                return Sparse(self.value(values), self.value(indices), self.value(indptr), n)
            case {"categorical": [indices, offsets], "numbers": str(text)}:
                return Categorical(self.value(indices), self.value(offsets), _dtype(text))
            case {"stacked": list(parts)}:
                return Stacked(tuple(map(self.value, parts)))
            case {"dense": inner}:
                return Dense(self.value(inner))
            case {"dtype": "|O"}:
                return np.dtype(object)  # by itself: no array has it
            case {"dtype": str(text)}:
                return _dtype(text)
            case {"is": str(name), "of": dict(of)} if name in self.types:
                return self.types[name](
                    **{self.renamed.get(key, key): self.value(item) for key, item in of.items()}
                )
            case {"is": str(name)}:
                raise RecordError(f"it holds a {name!r:.80}, which is not known here")
        raise RecordError(f"it holds what no record holds: {tree!s:.80}")

    def _once(self, key: Any, make: Callable[[], Array]) -> Array:
        if key not in self.found:
            self.found[key] = make()
        return self.found[key]

    def _array(self, dtype: str, shape: list[int], order: str, at: int) -> Array:
        kind = _dtype(dtype)
        if not all(isinstance(n, int) and n >= 0 for n in shape) or order not in ("C", "F"):
            raise RecordError(f"it holds an array of shape {shape!s:.80}, order {order!r:.20}")
        size = math.prod(shape)
        if not isinstance(at, int) or at < 0 or at + size * kind.itemsize > len(self.body):
            raise RecordError(f"an array of {size} {kind} does not fit into it")
        flat = np.frombuffer(self.body, kind, size, at) if size else np.zeros(0, kind)
        return flat.reshape(shape, order=order).copy(order="K")  # type: ignore[call-overload]


def _dtype(text: str) -> np.dtype[Any]:
    kind = np.dtype(text)
    if kind.kind not in KINDS or kind.subdtype is not None:
        raise RecordError(f"it holds an array of dtype {text!r:.40}")
    return kind


def _refuse(name: str) -> Array:
    raise RecordError(f"it refers to an array {name!r:.80} elsewhere")


def unpack(
    data: bytes,
    types: Types | None = None,
    fetch: Callable[[str], Array] = _refuse,
    renamed: Mapping[str, str] | None = None,
) -> Any:
    """The values of a record.

    Arrays that are kept apart come from ``fetch(name)``; fields of dataclasses that a file has by a name in
    `renamed` now have the name that it maps to.

    Raises
    ------
    RecordError : bytes that are no record, or were cut or altered; a later format; types that are not in
        `types`. Nothing is allocated beyond the size of `data`.
    """
    start = len(MAGIC) + 8
    if len(data) < start + DIGEST or data[: len(MAGIC)] != MAGIC:
        raise RecordError("it is no file of daskgd's, or was cut short")
    if hashlib.sha256(memoryview(data)[:-DIGEST]).digest() != data[-DIGEST:]:
        raise RecordError("the checksum does not match: it was cut short or altered")
    version, length = struct.unpack_from("<II", data, len(MAGIC))
    if version != FORMAT:
        raise RecordError(f"expected format {FORMAT}, got {version}: update daskgd to read it")
    try:
        header = json.loads(data[start : start + length])
        body = memoryview(data)[start + length : -DIGEST]
        return _Reader(types or {}, fetch, renamed or {}, body, header["arrays"]).value(header["tree"])
    except RecordError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as cause:
        raise RecordError(f"its content is not understood: {type(cause).__name__}: {cause!s:.200}") from cause
