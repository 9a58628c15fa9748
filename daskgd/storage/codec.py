"""Decoding of stored chunks: their checksums are compared, and Blosc fills the rows; and the way back.

Knows no zarr, no files.

Zarr's pipeline takes twice the processor time for the same chunks: it copies, allocates, changes threads.
What daskgd wrote has one of two codecs, little-endian values then crc32c, with or without Blosc between, so
its bytes go to Blosc from here. This also checks every checksum whatever pipeline zarr.config names: zarrs
0.2.3 lets flipped bits pass where it decodes part of a chunk.
"""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
from google_crc32c import value as crc32c
from numcodecs import blosc
from numpy.typing import NDArray

Array = NDArray[Any]


ITEMS_COUNT = "typesize" in signature(blosc.Blosc).parameters
"""Whether zarr tells Blosc the bytes of an item: with numcodecs before 0.16 it cannot."""

ABSENT = (2**64 - 1, 2**64 - 1)
"""Offset and size that the index of a shard has for a chunk that is not in it (zarr v3, sharding codec)."""


RAW_SHARE = 0.85
"""Share of its bytes that a chunk takes at least, compressed by lz4, to be better stored as it is.
Decompressing takes a core 0.3 ns a byte, and reading what lz4 would have spared no more than that from any
disk that gives each core 0.5 GB a second."""

TRIED_BYTES = 1 << 20
"""Bytes of the first rows that are compressed to see how much there is to gain."""


def choose_codec(values: Array) -> str:
    """The codec for an array that begins with these values: "lz4", or "none" for floats that hardly compress.

    >>> rng = np.random.default_rng(0)
    >>> choose_codec(rng.normal(size=1000)), choose_codec(rng.integers(0, 9, 1000))
    ('none', 'lz4')
    """
    flat = np.ascontiguousarray(values).reshape(-1)[: max(TRIED_BYTES // values.dtype.itemsize, 1)]
    if not flat.size or flat.dtype.kind != "f":
        return "lz4"
    share = (len(encode_chunk(flat, "lz4")) - 4) / flat.nbytes
    return "none" if share > RAW_SHARE else "lz4"


class DamagedChunk(ValueError):
    """A chunk that is missing from its shard, truncated or altered.

    `args` are the cause, and the first and last + 1 of the rows that were asked for and are lost, counted
    within the stored object.
    """

    def __str__(self) -> str:
        return str(self.args[0])


def decode_rows(
    stored: Array, chunk_rows: int, first: int, out: Array, *, per_shard: int = 0, plain: bool = False
) -> None:
    """Fill `out` ``(n, ...)`` with the rows from `first` on of a stored chunk, or of a shard of chunks.

    Parameters
    ----------
    stored : bytes of the object.
    chunk_rows : rows per chunk.
    per_shard : chunks per shard; 0 for a chunk by itself.
    plain : stored without Blosc.

    Raises
    ------
    DamagedChunk : a chunk is missing from its shard, or was truncated or altered.
    """
    stop = first + len(out)
    try:
        extents = _extents(stored, per_shard)
    except ValueError as error:
        raise DamagedChunk(f"the index of the shard: {error}", first, stop) from None
    for k in range(first // chunk_rows, -(-stop // chunk_rows)):
        a, b = max(first, k * chunk_rows), min(stop, (k + 1) * chunk_rows)
        part = out[a - first : b - first]
        # Zarr stores whole chunks: the array's last one, and any that is read in part, needs room of its own.
        chunk = part if b - a == chunk_rows else np.empty((chunk_rows, *out.shape[1:]), out.dtype)
        try:
            if extents[k] == ABSENT:
                raise ValueError("the chunk is missing")
            offset, size = extents[k]
            _decompress(strip_checksum(stored[offset : offset + size]), chunk, plain)
        except (ValueError, RuntimeError) as error:  # RuntimeError: Blosc
            cause = f"inner chunk {k} of the shard: {error}" if per_shard else str(error)
            raise DamagedChunk(cause, a, b) from None
        if chunk is not part:
            part[...] = chunk[a - k * chunk_rows : b - k * chunk_rows]


def encode_chunk(chunk: Array, codec: str) -> bytes:
    """The bytes in which a chunk of rows is stored, the same as zarr's pipeline makes of it.

    `codec` is "lz4", "zstd" or "none".
    """
    values = np.ascontiguousarray(chunk, chunk.dtype.newbyteorder("<"))
    if codec == "none":
        body = values.tobytes()
    else:
        source = values if ITEMS_COUNT else values.reshape(-1).view(np.uint8)
        body = blosc.compress(source, codec.encode(), 5, blosc.BITSHUFFLE, 0)
    return b"".join((body, crc32c(body).to_bytes(4, "little")))


def _decompress(body: Array, chunk: Array, plain: bool) -> None:
    """Fill `chunk` with the values in `body`. Raises ValueError where sizes do not agree."""
    # Sizes are compared before anything is made or written: numpy would repeat a single byte, and Blosc
    # believes its header and reads past the end of its input.
    if plain:
        if len(body) != chunk.nbytes:
            raise ValueError(f"the chunk holds {len(body)} bytes, expected {chunk.nbytes}")
        chunk.reshape(-1).view(np.uint8)[:] = body
        return
    if len(body) < 16:
        raise ValueError(f"the chunk holds {len(body)} bytes, expected at least Blosc's header of 16")
    found, _, size = np.frombuffer(body[4:16].tobytes(), "<u4").tolist()
    if found != chunk.nbytes:
        raise ValueError(f"the chunk decodes to {found} bytes, expected {chunk.nbytes}")
    if size != len(body):
        raise ValueError(f"the chunk says that it holds {size} bytes, but holds {len(body)}")
    blosc.decompress(body, chunk)


def strip_checksum(stored: Array) -> Array:
    """Return `stored` without the crc32c at its end. Raises ValueError if that does not match."""
    body = stored[:-4]
    if len(stored) < 4 or crc32c(body) != int.from_bytes(stored[-4:].tobytes(), "little"):
        raise ValueError("the checksum does not match: the chunk was truncated or altered")
    return body


def checksums_in(stored: Array, per_shard: int) -> bytes:
    """The checksums in a stored object that was found undamaged, one after the other.

    A chunk has one, its last four bytes; a shard has that of its index, which covers sizes but no content,
    and that of each chunk in it.
    """
    ends = [sum(extent) for extent in _extents(stored, per_shard) if extent != ABSENT] if per_shard else []
    return b"".join(stored[end - 4 : end].tobytes() for end in (len(stored), *ends))


def shard_index_bytes(per_shard: int) -> int:
    """Bytes of the index that ends a shard: offset and size of each chunk, and a crc32c; 0 if unsharded."""
    return 16 * per_shard + 4 if per_shard else 0


def parse_shard_index(body: Array) -> list[tuple[int, int]]:
    """Offset and size of each chunk of a shard, from the bytes of its index (zarr v3, sharding codec)."""
    return [(offset, size) for offset, size in body.view("<u8").reshape(-1, 2).tolist()]


def _extents(stored: Array, per_shard: int) -> list[tuple[int, int]]:
    """Offset and size of each chunk in a stored object."""
    if not per_shard:
        return [(0, len(stored))]
    size = shard_index_bytes(per_shard)
    if len(stored) < size:
        raise ValueError(f"expected at least {size} bytes, got {len(stored)}: the shard was truncated")
    return parse_shard_index(strip_checksum(stored[-size:]))
