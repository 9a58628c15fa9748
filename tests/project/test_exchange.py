"""Datasets, models and checkpoints of one environment are good in another.

``DASKGD_OTHER_PYTHONS`` names the interpreters of other environments that have daskgd, separated as in PATH;
without it, two processes of this one exchange theirs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "exchange.py"
OTHERS = [path for path in os.environ.get("DASKGD_OTHER_PYTHONS", "").split(os.pathsep) if path]


def run(python: str, what: str, folder: Path) -> str:
    command = [python, str(SCRIPT), what, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("other", OTHERS or [sys.executable])
@pytest.mark.parametrize("direction", ["to", "from"])
def test_what_is_written_there_is_good_here(other: str, direction: str, tmp_path: Path) -> None:
    writer, reader = (sys.executable, other) if direction == "to" else (other, sys.executable)
    run(writer, "write", tmp_path)
    said = run(reader, "read", tmp_path)
    if writer == reader:
        assert "the same bits" in said
    print(said)
