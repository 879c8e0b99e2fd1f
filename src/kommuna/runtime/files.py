"""The state of single files, as the supervisor finds it when a step opens or inspects them."""

from __future__ import annotations

import contextlib
import os
import stat

from kommuna.store.searches import is_a


def source_of(path: str) -> str:
    """Returns the source path of a compiled module, and any other path unchanged."""
    folder, name = os.path.split(path)
    if name.endswith(".pyc") and folder.endswith("/__pycache__"):
        source = os.path.join(os.path.dirname(folder), f"{name.partition('.')[0]}.py")  # noqa: PTH118, PTH120
        return source if os.path.exists(source) else path  # noqa: PTH110
    return path


def interpreter_of(path: str) -> str:
    """Returns the interpreter that the kernel opens to run a script; empty where there is none."""
    if not is_a(path, stat.S_ISREG):
        return ""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        words = file.readline(256).removeprefix(b"#!").split() if file.peek(2).startswith(b"#!") else []
        return os.fsdecode(words[0]) if words and words[0].startswith(b"/") else ""
    return ""


def signature(path: str) -> tuple[int, ...] | None:
    """Returns inode, size and times of a file, which change with it; None where there is no file."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    if stat.S_ISDIR(found.st_mode):  # its names are compared
        return (found.st_ino,)
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def changed_at(path: str) -> int:
    """Returns when a file or folder last changed, in nanoseconds; 0 where it is missing."""
    with contextlib.suppress(OSError):
        return os.stat(path).st_ctime_ns  # noqa: PTH116
    return 0
