"""From the stored bytes of a chunk to rows: checksum, Blosc, and nothing between. Knows no zarr, no files.

Zarr's pipeline takes twice the processor time for the same chunks: it copies, allocates, changes threads.
What daskgd wrote has one of two codecs, little-endian values then crc32c, with or without Blosc between, so
its bytes go to Blosc from here. This also checks every checksum whatever pipeline zarr.config names: zarrs
0.2.3 lets flipped bits pass where it decodes part of a chunk.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

try:
    from google_crc32c import value as crc32c
except ImportError:  # earlier releases of zarr bring this one
    from crc32c import crc32c  # type: ignore[import-not-found, no-redef]

Array = NDArray[Any]


def decode(
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
    ValueError : a chunk was truncated or altered.
    """
    stop = first + len(out)
    spans = index(sound(stored[-index_bytes(per_shard) :])) if per_shard else [(0, len(stored))]
    for k in range(first // chunk_rows, -(-stop // chunk_rows)):
        offset, size = spans[k]
        body = sound(stored[offset : offset + size])
        a, b = max(first, k * chunk_rows), min(stop, (k + 1) * chunk_rows)
        part = out[a - first : b - first]
        # Zarr stores whole chunks: the array's last one, and any that is read in part, needs room of its own.
        chunk = part if b - a == chunk_rows else np.empty((chunk_rows, *out.shape[1:]), out.dtype)
        if plain:
            chunk.reshape(-1).view(np.uint8)[:] = body
        elif (found := int.from_bytes(body[4:8].tobytes(), "little")) != chunk.nbytes:  # from Blosc's header
            raise ValueError(f"the chunk decodes to {found} bytes, expected {chunk.nbytes}")
        else:
            blosc.decompress(body, chunk)
        if chunk is not part:
            part[...] = chunk[a - k * chunk_rows : b - k * chunk_rows]


def sound(stored: Array) -> Array:
    """`stored` without the crc32c at its end. Raises ValueError if that does not match."""
    body = stored[:-4]
    if len(stored) < 4 or crc32c(body) != int.from_bytes(stored[-4:].tobytes(), "little"):
        raise ValueError("the checksum does not match: the chunk was truncated or altered")
    return body


def index_bytes(per_shard: int) -> int:
    """Size of the index that ends a shard: offset and size of each chunk, and a crc32c; 0 if unsharded."""
    return 16 * per_shard + 4 if per_shard else 0


def index(body: Array) -> list[tuple[int, int]]:
    """Offset and size of each chunk of a shard (zarr v3, sharding codec)."""
    return [(offset, size) for offset, size in body.view("<u8").reshape(-1, 2).tolist()]
