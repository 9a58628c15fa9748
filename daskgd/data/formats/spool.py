"""Text that cannot be cut where it lies, compressed or of wide characters, is unpacked once."""

from __future__ import annotations

import codecs
import logging
import lzma
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import dask
from dask.system import CPU_COUNT

from daskgd.config import setting
from daskgd.data.formats.base import COMPRESSED, Format, import_library
from daskgd.data.formats.files import File
from daskgd.storage.paths import locate

COPY_BYTES = 4 << 20

logger = logging.getLogger("daskgd")


@dataclass(frozen=True, slots=True, repr=False)
class Unpacked(File):
    """A temporary file in place of another, by whose path it is called."""

    original: str = ""

    def __str__(self) -> str:
        return self.original


@contextmanager
def spooled(files: Sequence[File], format: Format, encoding: str) -> Iterator[tuple[list[File], str]]:
    """The files, those that cannot be cut unpacked into temporary ones, and the encoding that they are in."""
    wide = format.text and _is_wide(encoding)
    # Of a file at a URL that has no size, nobody knows where to cut it.
    packed = [
        wide or (format.compressed and (_packing(file) is not None or file.size == 0)) for file in files
    ]
    if not any(packed):
        yield list(files), encoding
        return
    root = setting("temporary-directory") or dask.config.get("temporary-directory", None)
    folder = tempfile.mkdtemp(prefix="daskgd-", dir=root and locate(root))
    try:
        logger.info("unpacking %d files to %s, removed at the end", sum(packed), folder)
        numbered = enumerate(zip(files, packed, strict=True))
        with ThreadPoolExecutor(dask.config.get("num_workers", None) or CPU_COUNT) as pool:
            found = [
                pool.submit(_unpack, file, Path(folder, str(i)), encoding if wide else None)
                if is_packed
                else file
                for i, (file, is_packed) in numbered
            ]
        there = [one if isinstance(one, File) else one.result() for one in found]
        yield there, "utf-8" if wide else encoding
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _packing(file: File) -> str | None:
    """How a file is compressed, by its ending."""
    return next((kind for ending, kind in COMPRESSED.items() if file.name.lower().endswith(ending)), None)


def _is_wide(encoding: str) -> bool:
    """Whether an encoding has characters of which some byte is that of an ASCII one, as UTF-16 and Shift JIS
    do: newlines, separators and quotes cannot be told there by their bytes."""
    if codecs.lookup(encoding).name == "utf-8":
        return False
    ascii, text = bytes(range(128)), bytes(range(256)).decode(encoding, errors="replace")
    return (
        ascii.decode(encoding, errors="replace").encode() != ascii
        or len(text) != 256
        or any(byte < 128 for byte in "é漢".encode(encoding, errors="ignore"))
    )


def _unpack(file: File, place: Path, encoding: str | None) -> File:
    """Write what is in a file to a place, in UTF-8 where its encoding is given. Raises ValueError for a file
    that is damaged."""
    decoder = None if encoding is None else codecs.getincrementaldecoder(encoding)()
    with file.open() as source, place.open("wb") as out:
        try:
            unpacked: Any = _opened(file, source)
            while block := unpacked.read(COPY_BYTES):
                out.write(block if decoder is None else decoder.decode(block).encode())
            if decoder is not None:
                out.write(decoder.decode(b"", final=True).encode())
        except (OSError, EOFError, lzma.LZMAError, zlib.error, UnicodeDecodeError) as cause:
            if isinstance(cause, OSError) and cause.errno is not None:
                raise
            what = "text" if encoding is None else f"text in {encoding}"
            raise ValueError(f"{file}: expected {what}, compressed as its ending says: {cause}") from cause
    return Unpacked(str(place), place.stat().st_size, file.partitions, None, "", str(file))


def _opened(file: File, source: BinaryIO) -> Any:
    """What is in a file, decompressed as its ending says."""
    kind = _packing(file)
    if kind is None:
        return source
    if kind == "zstd":
        pa = import_library("pyarrow", file.name)
        return pa.CompressedInputStream(pa.PythonFile(source, "r"), "zstd")
    return import_library({"xz": "lzma"}.get(kind, kind), file.name).open(source, "rb")
