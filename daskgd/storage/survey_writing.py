"""Writing the survey and the sample that a dataset carries: see `surveys`."""

from __future__ import annotations

import numpy as np
import zarr

from daskgd.queries.stored_survey import StoredSample, StoredSurvey
from daskgd.storage.checksums import ZarrArray, array_digest
from daskgd.storage.commit import create_array, write_rows
from daskgd.storage.records import pack
from daskgd.storage.surveys import GROUP, SAMPLE, SURVEY, TYPES, VERSION

CODEC = "lz4"
CHUNK_BYTES = 8_000_000
"""How the larger arrays of a sample are stored."""


def write_survey(
    dataset: zarr.Group,
    fingerprint: str,
    checksums: dict[str, bytes],
    survey: StoredSurvey | None,
    sample: StoredSample | None,
) -> None:
    """Write the survey of a dataset, in the place of an earlier one."""
    group = dataset.create_group(GROUP, overwrite=True)

    def apart(array: np.ndarray) -> str:
        name = f"array-{len(list(group.array_keys()))}"
        made = _write_array(group, name, array, CODEC)
        return f"{name}:{array_digest(made, complete=True)}"

    share = 0.0
    if sample is not None:
        share = sample.drawn.share
        data = pack({"version": VERSION, "of": fingerprint, "sample": sample}, TYPES, apart)
        _write_array(group, SAMPLE, np.frombuffer(data, np.uint8), "none", whole=True)
    said = {
        "version": VERSION,
        "of": fingerprint,
        "checksums": {name: np.frombuffer(sums, np.uint8) for name, sums in checksums.items()},
        "survey": survey,
        "sample_share": share,
    }
    # Last: a survey that was not finished is none.
    _write_array(group, SURVEY, np.frombuffer(pack(said, TYPES), np.uint8), "none", whole=True)


def remove_survey(dataset: zarr.Group) -> None:
    """Remove the survey of a dataset, if it has one."""
    if GROUP in dataset:
        del dataset[GROUP]


def _write_array(
    group: zarr.Group, name: str, values: np.ndarray, codec: str, whole: bool = False
) -> ZarrArray:
    each = max(values.nbytes // max(len(values), 1), 1)
    rows = len(values) if whole else min(max(CHUNK_BYTES // each, 1), len(values))
    made = create_array(group, name, values.shape, values.dtype, chunk_rows=rows, shards=None, codec=codec)
    write_rows(made, 0, np.ascontiguousarray(values), codec)
    return made
