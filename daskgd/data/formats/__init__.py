"""Formats of files that :func:`daskgd.ingest` reads, a file per library: each declares its formats.

To add one, write a module with a :class:`~daskgd.data.formats.base.Format`, and list that here.
"""

from daskgd.data.formats.arrays import NPY, NPZ
from daskgd.data.formats.base import Format
from daskgd.data.formats.libsvm import LIBSVM
from daskgd.data.formats.tables import CSV, FEATHER, JSONL, PARQUET

FORMATS: dict[str, Format] = {
    format.name: format for format in (NPY, NPZ, CSV, PARQUET, FEATHER, JSONL, LIBSVM)
}
"""The formats by name."""
