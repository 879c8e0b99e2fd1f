"""A disk that is full or cannot be written, in words."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from kommuna.errors import PlatformFault

LEAST_FREE = 200 << 20  # bytes: PostgreSQL's first files are 80 MB, and logs want some
_FULL = {errno.ENOSPC, errno.EDQUOT}
_CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextlib.contextmanager
def disk_errors_told(state: Path) -> Iterator[None]:
    """Turns what the system says of a full or closed disk into an error for people.

    Args:
        state: the state folder, which is named where the system names no file.

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
    """Checks that a start has the space it needs.

    Args:
        least: bytes.

    Raises:
        PlatformFault: there is less.
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
    return f"make room there (`kommuna gc` removes what no run uses; {state}/logs holds old logs), then start again"
