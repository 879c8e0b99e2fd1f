"""Finds modules in folders as Python's import does, for the step's process and for later comparison."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES, SOURCE_SUFFIXES

ABSENT = ""
UNTRACED_FD = -0x6B6F6D  # an invalid descriptor: calls with it are the runtime's own, and not traced as the step's
_SUFFIXES = (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES, *BYTECODE_SUFFIXES)


def module_in(folder: str, name: str) -> str:
    """Returns the path of a module in a folder, by Python's own search order; empty where there is none.

    A package is identified by its `__init__` file, a namespace package by its folder. The search inspects single files
    and lists no folder, so that a step that lists one can be distinguished.

    Args:
        folder: an entry of `sys.path`, or of a package's `__path__`.
        name: the last part of the module's dotted name.
    """
    stem = f"{folder}/{name}"
    is_folder = is_a(stem, stat.S_ISDIR)
    found = next((path for path in _candidates(stem, is_folder=is_folder) if is_a(path, stat.S_ISREG)), ABSENT)
    return found or (stem if is_folder else ABSENT)


def is_a(path: str, kind: Callable[[int], bool]) -> bool:
    """Whether a path is of a kind, such as `stat.S_ISDIR`. In a step's process this does not count as a use.

    Args:
        path: the path, relative to the working directory or absolute.
        kind: judges a mode of `os.stat`.
    """
    try:
        absolute = path if path.startswith("/") else f"{os.getcwd()}/{path}"  # noqa: PTH109
        return kind(os.stat(absolute, dir_fd=UNTRACED_FD).st_mode)
    except (OSError, ValueError):
        return False


def link_target(path: str) -> str:
    """Returns the target of a link; empty if there is none. In a step's process this does not count as a use.

    Raises:
        OSError: it cannot be determined.
    """
    try:
        return os.readlink(path if path.startswith("/") else f"{os.getcwd()}/{path}", dir_fd=UNTRACED_FD)  # noqa: PTH109
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
            raise
        return ""


def _candidates(stem: str, *, is_folder: bool) -> Iterator[str]:
    if is_folder:
        yield from (f"{stem}/__init__{suffix}" for suffix in _SUFFIXES)
    yield from (f"{stem}{suffix}" for suffix in _SUFFIXES)
