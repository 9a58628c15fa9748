"""The survey and the sample that a dataset carries, beside its rows, sealed like them.

In the group ``survey`` of a dataset: one record (see `records`) with the survey, and the checksums of the
chunks that it is about; one with the sample, whose larger arrays are arrays of zarr. Each is found to be what
was written, and of the data that are there, or refused. The fingerprint of the dataset does not depend on
them. What a survey is, is in :mod:`daskgd.queries.stored_survey`; how it is written in `survey_writing`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.storage import StorePath

from daskgd.queries.sample import HashedRows, PartialSample, Stratum
from daskgd.queries.stored_survey import StoredSample, StoredSurvey
from daskgd.queries.survey import Labels
from daskgd.rows.statistics import Moments
from daskgd.rows.tiles import Rows
from daskgd.storage.checksums import (
    StoreError,
    ZarrArray,
    array_digest,
    chunks_per_shard,
    digest_of,
    location_of,
    read_object,
)
from daskgd.storage.codec import strip_checksum
from daskgd.storage.reading import ChunkError, StoredColumn
from daskgd.storage.records import RecordError, types_of, unpack

GROUP = "survey"
"""The name of the group."""

SURVEY, SAMPLE = "record-1", "sample-1"
"""The names of the arrays of bytes that are the two records, with the version of what they hold: where there
are those of another version, there is no survey."""

TYPES = types_of([StoredSurvey, StoredSample, PartialSample, HashedRows, Rows, Stratum, Moments, Labels])
"""What records may hold beside numbers, text and arrays."""

AGAIN = "make it anew with `daskgd survey PATH`, or remove the group"


@dataclass(frozen=True, slots=True, eq=False)
class SurveyRecord:
    """What the first record holds.

    Attributes
    ----------
    place : StorePath
        Of the group.
    fingerprint : str
        Of the dataset.
    checksums : dict of str to array of bytes
        Those of all chunks of each array, as of :func:`~daskgd.storage.checksums.read_all_checksums`.
    survey : StoredSurvey or None
        None of rows that are invalid.
    sample_share : float
        Of the rows that the sample holds; 0 where there is none.
    sample_per_class : int
        Rows of each class that it was to hold at least.
    """

    place: StorePath
    fingerprint: str
    checksums: dict[str, np.ndarray]
    survey: StoredSurvey | None
    sample_share: float
    sample_per_class: int

    def read_sample(self) -> StoredSample:
        """The sample. Raises StoreError where it is not what was written."""
        try:
            said = _read(self.place, SAMPLE)
        except FileNotFoundError:
            raise StoreError(f"{location_of(self.place)}: {SAMPLE} is missing; {AGAIN}") from None
        if said.get("of") != self.fingerprint or not isinstance(said.get("sample"), StoredSample):
            raise StoreError(f"{location_of(self.place)}: the sample is of other rows; {AGAIN}")
        sample: StoredSample = said["sample"]
        return sample

    def checksums_of(self, name: str, array: ZarrArray) -> StoredChecksums:
        """What chunks of an array are to have, wherever they are read."""
        return StoredChecksums(self.place, self.fingerprint, name, chunks_per_shard(array))


# -- reading --------------------------------------------------------------------------------------


def read_survey(place: StorePath, fingerprint: str) -> SurveyRecord:
    """The survey in a group, of the dataset with a fingerprint.

    Raises
    ------
    FileNotFoundError : there is none.
    StoreError : it is not what was written, or of other rows.
    """
    said = _read(place, SURVEY)
    share, per_class = said["sample_share"], said.get("sample_per_class", 0)
    record = SurveyRecord(place, said["of"], said["checksums"], said["survey"], share, per_class)
    digest = digest_of(sums.tobytes() for sums in record.checksums.values())
    if record.fingerprint != fingerprint or digest != fingerprint[16:]:
        raise StoreError(
            f"{location_of(place)}: expected the survey of the dataset {fingerprint}, got that of "
            f"{record.fingerprint}, as the rows were written anew; {AGAIN}"
        )
    _tables[place.path, fingerprint] = record.checksums
    return record


def _read(place: StorePath, name: str) -> dict[str, Any]:
    """The content of a record. Raises FileNotFoundError where there is none."""
    data = read_object(place / f"{name}/c/0")

    def fetch(apart: str) -> np.ndarray:
        array_name, _, digest = apart.partition(":")
        array = zarr.open_array(place / array_name, mode="r")
        if array_digest(array, complete=True) != digest:
            raise RecordError(f"array {array_name} is not the one that was written")
        found = StoredColumn(array, complete=True).read(0, array.shape[0])
        return found

    try:
        said = unpack(strip_checksum(np.frombuffer(data, np.uint8)).tobytes(), TYPES, fetch)
        if not isinstance(said, dict) or "of" not in said:
            raise RecordError("it is no survey")
        return said
    except (ValueError, ChunkError, OSError) as cause:
        raise StoreError(f"{location_of(place)}: {name} cannot be read: {cause}; {AGAIN}") from cause


# -- the chunks that it is of -----------------------------------------------------------------------

_tables: dict[tuple[str, str], dict[str, np.ndarray]] = {}
"""The checksums of the chunks of each array, of surveys that this process has read, by place and
fingerprint."""


@dataclass(frozen=True, slots=True)
class StoredChecksums:
    """The checksums that the chunks of one array of a dataset had when it was surveyed; they pickle as the
    place where they are stored, and are read once in each process.

    Attributes
    ----------
    place : StorePath
        Of the group of the survey.
    fingerprint : str
    name : str
        Of the array.
    per_shard : int
        Its chunks per shard, 0 if unsharded.
    """

    place: StorePath
    fingerprint: str
    name: str
    per_shard: int

    def are(self, i: int, found: bytes) -> bool:
        """Whether these are the checksums of stored object i."""
        key = self.place.path, self.fingerprint
        if key not in _tables:
            read_survey(self.place, self.fingerprint)
        size = 4 * (self.per_shard + 1)
        return _tables[key][self.name][i * size : (i + 1) * size].tobytes() == found
