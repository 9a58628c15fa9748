"""Print the oldest releases that pyproject.toml allows, as a constraints file for pip.

Of the dependencies and of the extras that are named: ``python .ci/lower_bounds.py test``.
"""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
lines = [*project["dependencies"]]
for extra in sys.argv[1:]:
    lines += project["optional-dependencies"][extra]
for line in lines:
    found = re.fullmatch(r"([\w.-]+)(?:\[[\w,-]+\])?>=([\w.]+)", line)
    if found is None:
        raise SystemExit(f"pyproject.toml: expected 'name>=version', got {line!r}")
    print(f"{found[1]}=={found[2]}")
