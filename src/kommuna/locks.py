"""A lock between processes, which is released when the process that holds it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def one_at_a_time(file: Path, waiting: Callable[[], None], *, remove: bool = False) -> Iterator[None]:
    """Holds the lock of a file, which is created if it does not exist.

    Args:
        file: the lock file.
        waiting: called before waiting, if another process holds the lock.
        remove: whether to delete the file with the lock; for locks with many names.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with file.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_that_of(lock.fileno(), file):  # the previous holder has removed it meanwhile
                continue
            try:
                yield
            finally:
                if remove:
                    file.unlink(missing_ok=True)
            return


def _is_that_of(descriptor: int, file: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), file.stat())
    return False


def is_held(file: Path) -> bool:
    """Whether a process holds the lock of a file."""
    with contextlib.suppress(FileNotFoundError), file.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
