"""The documentation site: ``sphinx-build -W docs build/site``."""

from __future__ import annotations

from typing import Any

import daskgd

project = "daskgd"
author = "The daskgd developers"
copyright = "The daskgd developers, BSD-3-Clause"
version = release = daskgd.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
myst_enable_extensions = ["deflist", "fieldlist"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
html_theme = "furo"
html_title = "daskgd"
nitpicky = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say what things are, with shapes and units
autodoc_default_options = {"members": True, "inherited-members": False}
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True


def _formulas(app: Any, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Indented blocks of docstrings are formulas: to be shown as they are."""

    def indent(line: str) -> int:
        return len(line) - len(line.lstrip())

    out: list[str] = []
    last = ""
    for before, line in zip(["", *lines], lines, strict=False):
        starts = bool(line.strip()) and not before.strip() and bool(last.strip())
        if starts and indent(line) > indent(last) and not last.rstrip().endswith("::"):
            out += [" " * indent(last) + "::", ""]
        out.append(line)
        last = line if line.strip() else last
    lines[:] = out


def _skip(app: Any, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """Methods that scikit-learn makes for its routing of metadata: they say nothing of ours."""
    return True if name.startswith("set_") and name.endswith("_request") else None


def setup(app: Any) -> None:
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-docstring", _formulas, priority=400)  # before napoleon
