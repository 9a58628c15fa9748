"""Features of every kind are the dense array that they stand for."""

from __future__ import annotations

import pytest

from daskgd.testing import FEATURES, check_features


@pytest.mark.parametrize("name", FEATURES)
def test_features(name: str) -> None:
    check_features(FEATURES[name], name)
