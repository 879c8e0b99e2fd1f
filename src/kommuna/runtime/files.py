"""Single files, as the supervisor finds them when a step asks for them."""

from __future__ import annotations

import contextlib
import os
import stat

from kommuna.store.searches import is_a


def source_of(path: str) -> str:
    """The source of a compiled module; any other path as it is."""
    folder, name = os.path.split(path)
    if name.endswith(".pyc") and folder.endswith("/__pycache__"):
        source = os.path.join(os.path.dirname(folder), f"{name.partition('.')[0]}.py")  # noqa: PTH118, PTH120
        return source if os.path.exists(source) else path  # noqa: PTH110
    return path


def interpreter_of(path: str) -> str:
    """The program that the kernel opens by itself to run a script; empty where there is none."""
    if not is_a(path, stat.S_ISREG):
        return ""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        words = file.readline(256).removeprefix(b"#!").split() if file.peek(2).startswith(b"#!") else []
        return os.fsdecode(words[0]) if words and words[0].startswith(b"/") else ""
    return ""


def signature(path: str) -> tuple[int, ...] | None:
    """What changes with a file; None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    if stat.S_ISDIR(found.st_mode):  # its names are compared
        return (found.st_ino,)
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def changed_at(path: str) -> int:
    """When a file or folder changed last, in nanoseconds; 0 where it is gone."""
    with contextlib.suppress(OSError):
        return os.stat(path).st_ctime_ns  # noqa: PTH116
    return 0
