"""Where an import finds a module below a folder: one function for the step's process and for who asks afterwards."""

from __future__ import annotations

import posix
import stat
from collections.abc import Callable, Iterator
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES, SOURCE_SUFFIXES

ABSENT = ""
_SUFFIXES = (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES, *BYTECODE_SUFFIXES)


def module_in(folder: str, name: str) -> str:
    """The path of a module in a folder, by Python's own order; empty where there is none.

    A package is given by its `__init__` file, a namespace package by its folder. Asks for single files and lists no
    folder, so that a step which does can be told apart.

    Args:
        folder: an entry of `sys.path`, or of a package's `__path__`.
        name: the last part of the module's dotted name.
    """
    stem = f"{folder}/{name}"
    is_folder = is_a(stem, stat.S_ISDIR)
    found = next((path for path in _candidates(stem, is_folder=is_folder) if is_a(path, stat.S_ISREG)), ABSENT)
    return found or (stem if is_folder else ABSENT)


def is_a(path: str, kind: Callable[[int], bool]) -> bool:
    """Whether a path is of a kind, such as `stat.S_ISDIR`. Goes round `os.stat`, which a step's process watches."""
    try:
        return kind(posix.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def _candidates(stem: str, *, is_folder: bool) -> Iterator[str]:
    if is_folder:
        yield from (f"{stem}/__init__{suffix}" for suffix in _SUFFIXES)
    yield from (f"{stem}{suffix}" for suffix in _SUFFIXES)
