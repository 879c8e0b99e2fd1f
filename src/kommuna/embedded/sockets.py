"""The folder of a platform's Unix sockets: short, because a socket's path may be 103 bytes long, and the user's own."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path

from kommuna.errors import PlatformFault

_TEMPORARY = Path("/tmp")  # not $TMPDIR, which is long on a Mac and another in another shell


def sockets_folder(state: Path) -> Path:
    """Where the sockets of the platform with this state folder are; it may not exist yet."""
    return _TEMPORARY / f"kommuna-{os.geteuid()}-{hashlib.sha256(str(state).encode()).hexdigest()[:12]}"


def make_sockets_folder(state: Path) -> Path:
    """Makes the folder of the sockets, which nobody but this user can enter.

    Raises:
        PlatformFault: its name is taken by something that is not such a folder.
    """
    folder = sockets_folder(state)
    folder.mkdir(mode=0o700, exist_ok=True)
    if not is_private(folder):
        raise PlatformFault(
            f"{folder} is not a folder that only this user can enter",
            where=str(folder),
            fix="remove it: the platform's sockets would be in somebody else's hands there",
        )
    return folder


def remove_sockets_folder(state: Path) -> None:
    """Removes the folder with all that is left in it, where it is this user's."""
    if is_private(sockets_folder(state)):
        shutil.rmtree(sockets_folder(state), ignore_errors=True)


def is_private(folder: Path) -> bool:
    """Whether this is a folder (no link to one) of this user's, closed to others."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
