"""Warnings that name the line of the user's code that led to them, however deep in daskgd they arise."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path

PACKAGE = str(Path(__file__).parents[1])


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the nearest caller outside daskgd.

    Python 3.12 has ``skip_file_prefixes`` for it, 3.11 only a number of calls, which is counted here.
    """
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
