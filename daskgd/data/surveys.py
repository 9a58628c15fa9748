"""The survey that a stored dataset carries, as fits ask it. How it is made is in `surveying`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from daskgd.data.columns import Columns
from daskgd.queries.base import Query
from daskgd.queries.sample import Sample
from daskgd.queries.stored_survey import StoredSample, holds
from daskgd.queries.survey import Survey
from daskgd.storage.surveys import SurveyRecord


@dataclass(slots=True, eq=False)
class CarriedSurvey:
    """The survey in a store, and the columns that it is of. The sample is read when it is asked for, and not
    kept.

    Attributes
    ----------
    record : SurveyRecord
    columns : Columns
    """

    record: SurveyRecord
    columns: Columns

    def is_of(self, columns: Columns) -> bool:
        """Whether columns are those that were surveyed."""
        return all(a is b for a, b in zip(columns, self.columns, strict=True))

    @property
    def sample(self) -> StoredSample | None:
        """The sample; None where the store has none. Raises StoreError if it is not what was written."""
        return self.record.read_sample() if self.record.sample_share else None

    def tells(self, query: Query, block_rows: int) -> bool:
        """Whether `answer` has an answer; no sample is read for it."""
        if isinstance(query, Sample):
            share, per_class = self.record.sample_share, self.record.sample_per_class
            return bool(share) and holds(share, per_class, query)
        return self.answer(query, block_rows) is not None

    def answer(self, query: Query, block_rows: int) -> Any:
        """The answer to a query about the data alone, asked of blocks of so many rows; None where the store
        does not tell it.

        Raises
        ------
        StoreError : the sample is not what was written.
        """
        survey = self.record.survey
        if isinstance(query, Survey) and survey is not None and survey.block_rows == block_rows:
            return survey.answer(query)
        if isinstance(query, Sample) and self.tells(query, block_rows):
            return self.record.read_sample().answer(query)
        return None
