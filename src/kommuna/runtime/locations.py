"""Locations on a machine: Python, Kommuna, the operating system, and folders that links lead to."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import kommuna

PYTHON_FOLDERS = tuple(
    dict.fromkeys(
        f"{os.path.realpath(path) if real else path}/"
        for path in (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
        for real in (False, True)
    )
)
PYTHON_PREFIXES = tuple({f"{sys.prefix}/", f"{sys.base_prefix}/", f"{os.path.realpath(sys.base_prefix)}/"})
_KOMMUNA = str(Path(kommuna.__file__).parent)
# The files that start Python. Other programs in its folder count as ordinary files.
PYTHON_FILES = re.compile(
    rf"(?:{'|'.join(map(re.escape, PYTHON_PREFIXES))})(?:pyvenv\.cfg|bin/python[\d.]*|.*\.so[\d.]*)"
)
KERNEL = ("/proc/", "/sys/", "/dev/")
# The machine, its identity, and the operating system's libraries do not count: see the table in docs/steps.md.
_SYSTEM = (*KERNEL, "/run/", "/var/run/", "/usr/", "/lib/", "/lib64/", "/bin/", "/sbin/", "/etc/")
MEMORY = "/dev/shm"


def is_kommuna(path: str) -> bool:
    """Whether a path is in Kommuna's own package."""
    return path == str(Path(_KOMMUNA).parent) or f"{path}/".startswith(f"{_KOMMUNA}/")


def is_python_or_kommuna(path: str) -> bool:
    """Whether a path is in Kommuna's package or in Python's folders, or is a file that starts Python."""
    return is_kommuna(path) or f"{path}/".startswith(PYTHON_FOLDERS) or PYTHON_FILES.fullmatch(path) is not None


def is_system(path: str) -> bool:
    """Whether a path is the kernel's or the operating system's."""
    inner = path.rstrip("/") + "/"
    return inner == "/" or (inner.startswith(_SYSTEM) and not inner.startswith(f"{MEMORY}/"))


def folders_of(paths: Iterable[str]) -> tuple[str, ...]:
    """Returns path prefixes of folders, by their names and by the targets of links."""
    given = [path.rstrip("/") for path in paths]
    return tuple(dict.fromkeys(f"{path}/" for path in (*given, *map(os.path.realpath, given))))
