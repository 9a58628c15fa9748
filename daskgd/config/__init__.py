"""Settings of daskgd in dask.config, with their defaults in ``daskgd.yaml`` beside this file."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import dask
import yaml
from dask.utils import parse_bytes

DEFAULTS: dict[str, Any] = yaml.safe_load(files("daskgd.config").joinpath("daskgd.yaml").read_text())
dask.config.update_defaults(DEFAULTS)


def setting(name: str) -> Any:
    """The value of a setting under ``daskgd`` in dask.config; sizes in bytes.

    >>> setting("block-bytes")
    1000000
    """
    # A dask.config.set(...) block that was open when the defaults were loaded takes them away as it ends.
    value = dask.config.get(f"daskgd.{name}", DEFAULTS["daskgd"][name])
    return int(parse_bytes(value)) if name.endswith("-bytes") else value
