"""Tables that all tests of encoders share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.tables import Table, make_table


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Table]:
    """Tables by seed."""
    folder = tmp_path_factory.mktemp("tables")
    made: dict[int, Table] = {}

    def get(seed: int) -> Table:
        if seed not in made:
            made[seed] = make_table(folder, seed)
        return made[seed]

    return get
