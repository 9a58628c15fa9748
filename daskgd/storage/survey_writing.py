"""Writing the survey and the sample that a dataset carries: see `surveys`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr

from daskgd._compat.zarr import wait_for
from daskgd.queries.stored_survey import StoredSample, StoredSurvey
from daskgd.storage.checksums import ZarrArray, array_digest
from daskgd.storage.commit import create_array, write_rows
from daskgd.storage.paths import is_url
from daskgd.storage.records import pack
from daskgd.storage.remote import open_remote
from daskgd.storage.surveys import GROUP, SAMPLE, SURVEY, TYPES

CODEC = "lz4"
CHUNK_BYTES = 8_000_000
"""How the larger arrays of a sample are stored."""


def write_survey(
    location: str,
    options: Mapping[str, Any] | None,
    fingerprint: str,
    checksums: dict[str, bytes],
    survey: StoredSurvey | None,
    sample: StoredSample | None,
) -> None:
    """Write the survey of the dataset at a path or URL, in the place of an earlier one."""
    group = _open_to_write(location, options).create_group(GROUP, overwrite=True)

    def apart(array: np.ndarray) -> str:
        name = f"array-{len(list(group.array_keys()))}"
        made = _write_array(group, name, array, CODEC)
        return f"{name}:{array_digest(made, complete=True)}"

    share = 0.0
    if sample is not None:
        share = sample.drawn.share
        data = pack({"of": fingerprint, "sample": sample}, TYPES, apart)
        _write_array(group, SAMPLE, np.frombuffer(data, np.uint8), "none", whole=True)
    said = {
        "of": fingerprint,
        "checksums": {name: np.frombuffer(sums, np.uint8) for name, sums in checksums.items()},
        "survey": survey,
        "sample_share": share,
        "sample_per_class": 0 if sample is None else sample.drawn.per_class,
    }
    # Last: a survey that was not finished is none.
    _write_array(group, SURVEY, np.frombuffer(pack(said, TYPES), np.uint8), "none", whole=True)


def remove_survey(location: str, options: Mapping[str, Any] | None) -> None:
    """Remove the survey of the dataset at a path or URL, if it has one, in whatever state it is."""
    place = _open_to_write(location, options).store_path / GROUP
    wait_for((place / SURVEY / "c/0").delete())  # first: what is half removed is none
    wait_for(place.delete_dir())


def _open_to_write(location: str, options: Mapping[str, Any] | None) -> zarr.Group:
    place = open_remote(location, options) if is_url(location) else location
    return zarr.open_group(place, mode="r+", use_consolidated=False)


def _write_array(
    group: zarr.Group, name: str, values: np.ndarray, codec: str, whole: bool = False
) -> ZarrArray:
    each = max(values.nbytes // max(len(values), 1), 1)
    rows = len(values) if whole else min(max(CHUNK_BYTES // each, 1), len(values))
    made = create_array(group, name, values.shape, values.dtype, chunk_rows=rows, shards=None, codec=codec)
    write_rows(made, 0, np.ascontiguousarray(values), codec)
    return made
