"""Where a dataset is written: beside its path, and renamed to it once it is whole.

Knows groups, and nothing of what is in them.
"""

from __future__ import annotations

import errno
import glob
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from daskgd.storage.commit import abandon, create_group, holds_group
from daskgd.storage.opening import KEY
from daskgd.storage.paths import check_options, is_url, locate
from daskgd.storage.redaction import redacted

logger = logging.getLogger(KEY)


def refuse_existing(
    path: str | os.PathLike[str], overwrite: bool, storage_options: Mapping[str, Any] | None = None
) -> None:
    """Raise FileExistsError where a dataset is at a path or URL, unless it is to be replaced."""
    location = locate(path)
    target = location if is_url(location) else os.path.realpath(location)
    if holds_group(target, storage_options) and not overwrite:
        raise FileExistsError(
            f"{redacted(location)} exists; pass overwrite=True to replace it, or choose another path"
        )


Finish = Callable[[str, "Mapping[str, Any] | None"], None]
"""What is done to a dataset once it is whole, before it is at its place: called with where it is, and the
options of the file system."""


@contextmanager
def new_group(
    path: str | os.PathLike[str],
    overwrite: bool,
    storage_options: Mapping[str, Any] | None = None,
    finish: Finish | None = None,
) -> Iterator[Any]:
    """A new group, which is renamed to `path` only if the body, and then `finish`, succeed; at a URL it is
    there at once."""
    location = locate(path)
    check_options(location, storage_options)
    remote = is_url(location)
    target = location if remote else os.path.realpath(location)
    refuse_existing(path, overwrite, storage_options)
    if remote:
        yield create_group(target, storage_options)
        if finish is not None:
            finish(target, storage_options)
        return
    parent, name = os.path.split(target)
    made = _make_folders(parent)
    left = glob.glob(f".{glob.escape(name)}.*.partial*", root_dir=parent, include_hidden=True)
    if left:
        logger.warning(
            f"{target}: beside it lies what earlier writes left as they were killed, or what others are "
            f"writing now: {', '.join(sorted(left)[:5])}; remove it if nobody is"
        )
    partial = os.path.join(parent, f".{name}.{uuid.uuid4().hex}.partial")
    group = None
    try:
        group = create_group(partial)
        yield group
        if finish is not None:
            finish(partial, None)
        _rename_into_place(partial, target)
    except BaseException as error:
        if group is not None:
            abandon(group)
        _remove(partial)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            error.add_note(f"{location}: no room to write the dataset; what was written is removed")
        with suppress(OSError):  # not empty: another has put something there
            for folder in made:
                os.rmdir(folder)
        raise


def _remove(folder: str, seconds: float = 5.0) -> None:
    """Remove a folder in which tasks on workers may still be writing: they learn that it is over from what is
    gone."""
    end = time.monotonic() + seconds
    while os.path.lexists(folder) and time.monotonic() < end:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.01)


def _make_folders(folder: str) -> list[str]:
    """Make a folder and those above it, and return the new ones, the deepest first."""
    made, above = [], folder
    while not os.path.exists(above):
        made.append(above)
        above = os.path.dirname(above)
    os.makedirs(folder, exist_ok=True)
    return made


def _rename_into_place(partial: str, target: str) -> None:
    """Rename `partial` to `target`; what was there before is there again if that fails."""
    old = f"{partial}.old"
    try:
        if os.path.lexists(target):
            os.rename(target, old)
        os.rename(partial, target)
    finally:
        if os.path.lexists(target):
            shutil.rmtree(old, ignore_errors=True)
        elif os.path.lexists(old):
            os.rename(old, target)
