"""What may happen to files: flips, truncations, JSON that is not what it was. Seeded, so that it repeats."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 7, 10**12, 10**18, 2**63, 2**64, -(2**63), 10**400),
    *(
        0.5,
        1e308,
        -0.0,
        float("nan"),
        float("inf"),
        "",
        "NaN",
        "Infinity",
        "0",
        "X",
        "a" * 10_000,
        "\x00",
        "é",
    ),
    *(
        [],
        {},
        [0],
        [-1],
        [10**18],
        [10**18, 10**18],
        [1, 1, 1, 1],
        [[]],
        [None],
        {"name": "gzip"},
        {"name": 1},
    ),
    {"name": "regular", "configuration": {"chunk_shape": [0, 0]}},
    {"name": "regular", "configuration": {"chunk_shape": [10**12, 10**12]}},
    {"name": "gzip", "configuration": {"level": 5}},
    {"name": "zstd", "configuration": {"level": 0, "checksum": False}},
    {"name": "crc32c"},
    {"name": "bytes", "configuration": {"endian": "big"}},
    {"name": "transpose", "configuration": {"order": [1, 0]}},
    {"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 1], "codecs": [], "index_codecs": []}},
    *("float64", "int32", "bool", "complex128", "string", "r99999999999", "<f8", "|O", "group", "array"),
    {"name": "fixed_length_utf32", "configuration": {"length_bytes": 10**12}},
    {"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": 1}},
]
"""Wrong types, huge, negative and empty sizes, other codecs and kinds of data."""


def nested(depth: int) -> bytes:
    """JSON of lists within lists."""
    return b"[" * depth + b"]" * depth


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Each (container, key) in a JSON document."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(items):
        yield document, key
        if isinstance(value, dict | list):
            yield from places(value)


def mutated(document: Any, rng: np.random.Generator) -> Any:
    """A copy of a JSON document with one to three values replaced, removed, renamed, repeated or wrapped."""
    document = copy.deepcopy(document)
    for _ in range(rng.integers(1, 4)):
        found = list(places(document)) if isinstance(document, dict | list) else []
        if not found:
            break
        container, key = found[rng.integers(len(found))]
        match rng.integers(7):
            case 0:
                del container[key]
            case 1 if isinstance(container, dict):
                container[str(key) + "x"] = container.pop(key)
            case 2 if isinstance(container, list):
                container.append(copy.deepcopy(container[key]))
            case 3:
                container[key] = [container[key]]
            case 4 if type(container[key]) is int:
                container[key] = int(container[key]) * int(rng.choice([-1, 0, 2, 10, 10**6])) + 1
            case 5:
                other, name = found[rng.integers(len(found))]
                container[key] = copy.deepcopy(other[name])
            case _:
                container[key] = copy.deepcopy(VALUES[rng.integers(len(VALUES))])
    return document


def files(root: Path) -> list[Path]:
    """All files that are read, in an order that does not depend on the disk: of the records of a survey
    nobody asks zarr."""
    unread = {"survey/zarr.json", "survey/record-1/zarr.json", "survey/sample-1/zarr.json"}
    found = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    return [path for path in found if "/".join(path.parts[-3:]).removeprefix(f"{root.name}/") not in unread]


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    """One byte changed, by one bit or to any other value."""
    out = bytearray(content)
    out[rng.integers(len(out))] ^= (
        1 << int(rng.integers(8)) if rng.random() < 0.5 else int(rng.integers(1, 256))
    )
    return bytes(out)


@contextmanager
def restored(file: Path) -> Iterator[bytes]:
    """The content of a file, which is there again at the end."""
    content = file.read_bytes()
    try:
        yield content
    finally:
        if file.is_dir():
            shutil.rmtree(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


@contextmanager
def damaged(root: Path, rng: np.random.Generator, *, is_json: Callable[[Path], bool]) -> Iterator[str]:
    """A file below `root`, or `root` itself, damaged in one of many ways; in words. Whole at the end."""
    found = files(root)
    documents = [file for file in found if is_json(file)]
    among = documents if documents and rng.random() < 0.7 else found
    file = among[rng.integers(len(among))]
    with restored(file) as content:
        how = "json" if is_json(file) and rng.random() < 0.8 else str(rng.choice([*FILE_DAMAGE]))
        if how == "json":
            file.write_text(json.dumps(mutated(json.loads(content), rng)))
        else:
            FILE_DAMAGE[how](file, content, rng)
        yield f"{how} of {file.relative_to(root)}: {file.read_text()[:2000] if how == 'json' else ''}"


def _directory(file: Path, content: bytes, rng: np.random.Generator) -> None:
    file.unlink()
    file.mkdir()


FILE_DAMAGE: dict[str, Callable[[Path, bytes, np.random.Generator], Any]] = {
    "flip": lambda file, content, rng: file.write_bytes(flipped(content, rng) if content else b"x"),
    "truncation": lambda file, content, rng: file.write_bytes(content[: rng.integers(len(content) + 1)]),
    "extension": lambda file, content, rng: file.write_bytes(content + rng.bytes(rng.integers(1, 100))),
    "noise": lambda file, content, rng: file.write_bytes(rng.bytes(len(content))),
    "zeros": lambda file, content, rng: file.write_bytes(bytes(len(content))),
    "nesting": lambda file, content, rng: file.write_bytes(nested(int(rng.choice([500, 100_000])))),
    "loss": lambda file, content, rng: file.unlink(),
    "directory": _directory,
}
