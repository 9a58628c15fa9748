"""Arrays of numpy: npy files, mapped into memory, and npz archives, read past their index."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from daskgd.data.formats.base import (
    Array,
    Block,
    ColumnRoles,
    Format,
    NamedBlocks,
    Progress,
    make_block,
    rows_per_block,
)
from daskgd.data.formats.casts import cast_exactly
from daskgd.storage.paths import locate


def _map_file(place: Path) -> Array:
    """The array of an npy file, mapped into memory. Raises ValueError for what is none."""
    try:
        array: Array = np.load(place, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as cause:
        raise ValueError(f"{place}: expected an npy file of numbers: {cause}") from cause
    return array


def _check_matrix(array: Any, where: object) -> None:
    """Raise ValueError unless an array is ``(n, p)`` and of numbers or bool."""
    if len(array.shape) != 2 or array.dtype.kind not in "fiub":
        raise ValueError(f"{where}: expected numbers (n, p), got {array.dtype} of shape {tuple(array.shape)}")


def _find_column(text: str, n: int, name: str, where: object) -> int | None:
    """The position, in text, of one of n columns; None for the name of an npy file."""
    try:
        at = int(text)
    except ValueError:
        if text.endswith(".npy"):
            return None
        raise ValueError(
            f"{name}: expected the number of a column of {where} or an npy file, got {text!r}"
        ) from None
    if not -n <= at < n:
        raise ValueError(f"{name}: expected a column from {-n} to {n - 1} of {where}, got {at}")
    return at % n


def read_npy(places: Sequence[Path], roles: ColumnRoles, progress: Progress) -> NamedBlocks:
    """Rows of matrices; target and weights are columns by number, or npy files of their own."""
    arrays = [_map_file(place) for place in places]
    for array, place in zip(arrays, places, strict=True):
        _check_matrix(array, place)
        if array.shape[1] != arrays[0].shape[1]:
            raise ValueError(
                f"{place}: expected {arrays[0].shape[1]} columns, as {places[0]} has, got {array.shape[1]}"
            )
    n = arrays[0].shape[1]
    asked = {"target": roles.target, "weight": roles.weight}
    inside: dict[str, int | None] = {}
    apart: dict[str, Array] = {}
    total = sum(len(array) for array in arrays)
    for name, text in asked.items():
        if text is None:
            continue
        inside[name] = _find_column(text, n, name, places[0])
        if inside[name] is None:
            apart[name] = _map_file(Path(locate(text, name)))
            if len(apart[name]) != total:
                raise ValueError(f"{text}: expected {total} rows, as {places[0]} has, got {len(apart[name])}")
    dropped = {_find_column(text, n, "drop", places[0]) for text in roles.drop}
    gone = {at for at in (*inside.values(), *dropped) if at is not None}
    keep = [at for at in range(n) if at not in gone]

    def blocks() -> Iterator[Block]:
        done = 0
        for array, place in zip(arrays, places, strict=True):
            step = rows_per_block(array.dtype.itemsize * n)
            for a in range(0, len(array), step):
                rows = array[a : a + step]
                parts: dict[str, Array | None] = {"target": None, "weight": None}
                for name, at in inside.items():
                    parts[name] = rows[:, at] if at is not None else apart[name][done : done + len(rows)]
                X = rows[:, keep] if gone else np.asarray(rows)
                X = cast_exactly(X, roles.dtype, place, a, keep)
                yield make_block(X, parts["target"], parts["weight"], place)
                done += len(rows)
                if progress is not None:
                    progress(done, total)

    return None, blocks()


def read_npz(places: Sequence[Path], roles: ColumnRoles, progress: Progress) -> NamedBlocks:
    """Rows of the arrays X, y and sample_weight, or as named, each read row after row from its archive."""
    total = done = 0
    members: list[dict[str, str]] = []
    for place in places:
        names = _list_members(place)
        target = roles.target or ("y" if "y" in names else None)
        weight = roles.weight or ("sample_weight" if "sample_weight" in names else None)
        wanted = {"X": "X", "target": target, "weight": weight}
        for role, name in wanted.items():
            if name is not None and name not in names:
                raise ValueError(f"{place}: expected an array {name!r} ({role}), found {', '.join(names)}")
        members.append({role: name for role, name in wanted.items() if name is not None})
        with zipfile.ZipFile(place) as archive, _Member(archive, "X", place) as X:
            _check_matrix(X, f"{place}, X")
            total += X.shape[0]
    if roles.drop:
        raise ValueError("drop: expected none for npz files, whose columns have no names")

    def blocks() -> Iterator[Block]:
        nonlocal done
        for place, names in zip(places, members, strict=True):
            with zipfile.ZipFile(place) as archive, ExitStack() as stack:
                parts = {
                    role: stack.enter_context(_Member(archive, name, place)) for role, name in names.items()
                }
                n = parts["X"].shape[0]
                for part in parts.values():
                    if part.shape[0] != n:
                        raise ValueError(
                            f"{place}: X has {n} rows, {part.name} has {part.shape[0]}; they must be equal"
                        )
                step = rows_per_block(parts["X"].row_bytes)
                for a in range(0, n, step):
                    rows = {role: part.read(min(step, n - a)) for role, part in parts.items()}
                    features = cast_exactly(rows["X"], roles.dtype, f"{place}, X", a)
                    yield make_block(features, rows.get("target"), rows.get("weight"), place)
                    done += len(rows["X"])
                    if progress is not None:
                        progress(done, total)

    return None, blocks()


def _list_members(place: Path) -> list[str]:
    try:
        with zipfile.ZipFile(place) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError) as cause:
        raise ValueError(f"{place}: expected an npz file: {cause}") from cause


class _Member:
    """An array in an npz file that is read row after row, or whole where it is in Fortran order."""

    def __init__(self, archive: zipfile.ZipFile, name: str, place: Path) -> None:
        self.name, self.place = name, place
        self._file = archive.open(f"{name}.npy")
        try:
            version = np.lib.format.read_magic(self._file)
            read = np.lib.format.read_array_header_1_0
            if version != (1, 0):
                read = np.lib.format.read_array_header_2_0
            self.shape, fortran, self.dtype = read(self._file)
        except ValueError as cause:
            raise ValueError(f"{place}, {name}: {cause}") from cause
        if self.dtype.hasobject:
            raise ValueError(f"{place}, {name}: expected numbers or text, got objects")
        self._whole: Array | None = None
        if fortran and len(self.shape) > 1:
            data = np.frombuffer(self._file.read(), self.dtype)
            self._whole = data.reshape(self.shape, order="F")
        self._at = 0

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape[1:])) * self.dtype.itemsize

    def read(self, n: int) -> Array:
        """The next n rows."""
        start, self._at = self._at, self._at + n
        if self._whole is not None:
            return self._whole[start : self._at]
        data = self._file.read(n * self.row_bytes)
        if len(data) < n * self.row_bytes:
            raise ValueError(f"{self.place}, {self.name}: ends in row {start + len(data) // self.row_bytes}")
        return np.frombuffer(data, self.dtype).reshape(n, *self.shape[1:])

    def __enter__(self) -> _Member:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


NPY = Format("npy", (".npy",), read_npy)
NPZ = Format("npz", (".npz",), read_npz)
