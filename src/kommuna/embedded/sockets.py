"""The private folder of a platform's Unix sockets. Its path is short: a socket's path has at most 103 bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path

from kommuna.errors import PlatformFault

_TEMPORARY = Path("/tmp")  # not $TMPDIR, which is long on macOS and may differ between shells


def sockets_folder(state: Path) -> Path:
    """Returns the folder of the sockets for a state folder. It may not exist yet."""
    return _TEMPORARY / f"kommuna-{os.geteuid()}-{hashlib.sha256(str(state).encode()).hexdigest()[:12]}"


def make_sockets_folder(state: Path) -> Path:
    """Creates the folder of the sockets, which only this user can enter.

    Raises:
        PlatformFault: something else exists under its name.
    """
    folder = sockets_folder(state)
    folder.mkdir(mode=0o700, exist_ok=True)
    if not is_private(folder):
        raise PlatformFault(
            f"{folder} is not a folder that only this user can enter",
            where=str(folder),
            fix="remove it: another user could control the platform's sockets there",
        )
    return folder


def remove_sockets_folder(state: Path) -> None:
    """Removes the folder with its contents, if it belongs to this user."""
    if is_private(sockets_folder(state)):
        shutil.rmtree(sockets_folder(state), ignore_errors=True)


def is_private(folder: Path) -> bool:
    """Whether a path is a folder, not a link, that belongs to this user and is closed to others."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
