"""Records: values come back as they were, and bytes that are no record are refused."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from daskgd.storage.records import MAGIC, RecordError, pack, types_of, unpack


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    tag: Any = None


TYPES = types_of([Point])

plain = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.floats(allow_nan=False)
    | st.just(math.nan)
)
trees = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | st.text(max_size=3), inner, max_size=3)
        | st.builds(Point, st.floats(), inner)
    ),
    max_leaves=8,
)


def alike(a: Any, b: Any) -> bool:
    """Equal with types and bits, NaN and signs of zero included."""
    if isinstance(a, float):
        return type(a) is type(b) and struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, Point):
        return isinstance(b, Point) and alike(a.x, b.x) and alike(a.tag, b.tag)
    return type(a) is type(b) and a == b


@given(trees)
def test_trees_come_back(tree: Any) -> None:
    assert alike(tree, unpack(pack(tree, TYPES), TYPES))


@given(
    hnp.arrays(
        hnp.scalar_dtypes().filter(lambda d: d.kind in "fiubU" and d.itemsize > 0),
        hnp.array_shapes(min_dims=0, min_side=0, max_side=4),
    ),
    st.booleans(),
)
def test_arrays_come_back_bit_for_bit(array: Any, fortran: bool) -> None:
    array = np.asfortranarray(array) if fortran else array
    back = unpack(pack(array))
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()
    assert back.flags.f_contiguous == array.flags.f_contiguous
    assert back.flags.c_contiguous == array.flags.c_contiguous
    assert back.flags.aligned
    assert back.flags.writeable


def test_what_is_shared_is_stored_once_and_stays_shared() -> None:
    w = np.arange(1000.0)
    data = pack([w, (w, {"w": w})])
    assert len(data) < 2 * w.nbytes
    a, (b, c) = unpack(data)
    assert a is b is c["w"]


def test_scalars_of_numpy_labels_and_dtypes() -> None:
    value = [
        np.float32(0.1),
        np.int8(-3),
        np.bool_(True),
        np.dtype(">f4"),
        np.array(["a", 1, None], dtype=object),
    ]
    back = unpack(pack(value))
    assert [type(v) for v in back] == [type(v) for v in value]
    assert back[:4] == value[:4]
    assert back[4].tolist() == ["a", 1, None]


def test_large_arrays_may_lie_apart() -> None:
    big, kept = np.arange(200_000.0), {}

    def keep(array: Any) -> str:
        kept["one"] = array
        return "one"

    data = pack({"big": big, "small": np.ones(3)}, apart=keep)
    assert len(data) < 2000
    assert unpack(data, fetch=kept.__getitem__)["big"] is big
    with pytest.raises(RecordError, match="elsewhere"):
        unpack(data)


@pytest.mark.parametrize("value", [object(), {1, 2}, 1j, np.array([1j]), np.array([object()]), Point(1.0)])
def test_what_cannot_be_stored_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="to store, got"):
        pack([value])


def test_every_cut_and_every_flip_is_noticed() -> None:
    data = pack({"w": np.arange(5.0), "point": Point(1.0)}, TYPES)
    for cut in range(0, len(data), 7):
        with pytest.raises(RecordError):
            unpack(data[:cut], TYPES)
    for at in range(len(data)):
        bad = bytearray(data)
        bad[at] ^= 1 << at % 8
        with pytest.raises(RecordError):
            unpack(bytes(bad), TYPES)


def forged(header: Any, body: bytes = b"", version: int = 1) -> bytes:
    """A record whose checksum is right, whatever it holds."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    data = MAGIC + struct.pack("<II", version, len(text)) + text + body
    return data + hashlib.sha256(data).digest()


def array(*entry: Any) -> dict[str, Any]:
    return {"tree": {"array": 0}, "arrays": [list(entry)]}


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"\xff",
        b"[" * 100_000,
        [],
        {"tree": 1},
        {"tree": {"is": "Popen", "of": {"args": "true"}}, "arrays": []},
        {"tree": {"is": "Point", "of": {"y": 1}}, "arrays": []},
        {"tree": {"eval": "1"}, "arrays": []},
        {"tree": {"array": 5}, "arrays": []},
        {"tree": {"array": -1}, "arrays": []},
        {"tree": {"dict": [[[1], 2]]}, "arrays": []},
        {"tree": {"dtype": "O"}, "arrays": []},
        {"tree": {"objects": [1, 2], "shape": [3]}, "arrays": []},
        array("<f8", [10**15], "C", 0),
        array("<f8", [10**30, 10**30], "C", 0),
        array("<f8", [-1], "C", 0),
        array("<f8", [2], "C", -8),
        array("<f8", [2], "K", 0),
        array("O", [1], "C", 0),
        array("(3,)f8", [1], "C", 0),
        array("V8", [1], "C", 0),
        array("<f8", "11", "C", 0),
        array("<f8", [1], "C"),
        array(8, [1], "C", 0),
    ],
    ids=str,
)
def test_forged_headers_are_refused(header: Any) -> None:
    with pytest.raises(RecordError):
        unpack(forged(header, bytes(64)), TYPES)


def test_a_later_format_is_refused_by_its_number() -> None:
    with pytest.raises(RecordError, match="expected format 1, got 2: update daskgd"):
        unpack(forged({"tree": 1, "arrays": []}, version=2))


def test_two_types_of_one_name_are_refused() -> None:
    other = dataclass(type("Point", (), {}))
    with pytest.raises(ValueError, match="Point twice"):
        types_of([Point, other])
