"""Readable errors for a disk that is full or cannot be written."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from kommuna.errors import PlatformFault

LEAST_FREE = 200 << 20  # bytes: PostgreSQL's first files take 80 MB, and logs need some space
_FULL = {errno.ENOSPC, errno.EDQUOT}
_CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextlib.contextmanager
def explained_disk_errors(state: Path) -> Iterator[None]:
    """Turns the system's errors about a full or read-only disk into a `PlatformFault`.

    Args:
        state: the state folder, which the error names if the system names no file.

    Raises:
        PlatformFault: the disk is full, or the state folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        where = str(error.filename or state)
        if error.errno in _FULL:
            raise PlatformFault("the disk is full", where=where, fix=_make_room(state)) from None
        if error.errno in _CLOSED:
            raise PlatformFault(
                f"the state folder cannot be written: {(error.strerror or '').lower()}",
                where=where,
                fix="make it writable for this user, or set `state:` in kommuna.yaml to a folder that is",
            ) from None
        raise


def require_space(state: Path, *, least: int = LEAST_FREE) -> None:
    """Checks that the disk has the space that a start needs.

    Args:
        state: the state folder.
        least: the required free space, in bytes.

    Raises:
        PlatformFault: there is less free space.
    """
    there = next(path for path in (state, *state.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < least:
        raise PlatformFault(
            f"the disk is full: {free >> 20} MiB are free, and the platform needs {least >> 20} MiB to start",
            where=str(state),
            fix=_make_room(state),
        )


def _make_room(state: Path) -> str:
    return f"free some space (`kommuna gc` removes what no run uses; {state}/logs contains old logs) and start again"
