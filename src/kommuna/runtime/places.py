"""Resolves paths as the kernel does, to the names by which files are recorded."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from kommuna.store.searches import is_a, link_target

_MAX_LINKS = 40  # the kernel's limit
_PER_PROCESS = ("/proc/", "/dev/")  # links in these differ from process to process


class ResolvedPath(NamedTuple):
    """A resolved path.

    Args:
        name: the absolute path, with everything up to the last `..` resolved.
        real: the path with all links resolved.
        links: links after the last `..` and their targets.
        crossed: links before it and their targets; they are not part of the name.
    """

    name: str
    real: str
    links: tuple[tuple[str, str], ...] = ()
    crossed: tuple[tuple[str, str], ...] = ()


class Places:
    """Resolves paths, and caches the resolved folders until `forget` is called."""

    def __init__(self) -> None:
        self._folders: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {}

    def forget(self) -> None:
        """Clears the cache, because links may have changed."""
        self._folders.clear()

    def of(self, path: str, *, process: int = 0, follows: bool = True) -> ResolvedPath:
        """Resolves a path.

        Args:
            path: an absolute path.
            process: id of the process that uses it; 0 for this one.
            follows: whether a link at the end is followed.

        Raises:
            OSError: a link cannot be read.
        """
        parts = [part for part in path.split("/") if part not in ("", ".")]
        crossed: tuple[tuple[str, str], ...] = ()
        start = ""
        if ".." in parts:
            after = len(parts) - parts[::-1].index("..")
            start, crossed = _walk("", parts[:after], process)
            # Nothing exists below a file.
            parts = parts[after:] if is_a(start or "/", stat.S_ISDIR) else []
        if not parts:
            return ResolvedPath(start or "/", start or "/", (), crossed)
        folder = "/".join((start, *parts[:-1]))
        name = f"{folder}/{parts[-1]}"
        if folder.startswith(_PER_PROCESS):
            real, links = _walk(start, parts[:-1], process)
        elif folder in self._folders:
            real, links = self._folders[folder]
        else:
            real, links = self._folders[folder] = _walk(start, parts[:-1], process)
        if follows or path.endswith("/"):
            real, last = _walk(real, parts[-1:], process)
            links += last
        else:
            real = f"{real}/{parts[-1]}"
        return ResolvedPath(name, real, links, crossed)


def followed(path: str) -> str:
    """Returns the recorded name of a path of this process."""
    return Places().of(path if path.startswith("/") else f"{os.getcwd()}/{path}").name  # noqa: PTH109


def _walk(start: str, parts: list[str], process: int) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Resolves names from a real folder on (the root is empty). Returns the resolved path and the links on the way."""
    left = parts[::-1]
    here = start
    links: list[tuple[str, str]] = []
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not is_a(here or "/", stat.S_ISDIR):
                return here, tuple(links)
            here = here.rpartition("/")[0]
            continue
        at = f"{here}/{part}"
        if process and at in ("/proc/self", "/proc/thread-self"):
            here = f"/proc/{process}"
            continue
        target = link_target(at)
        if not target:
            here = at
            continue
        links.append((at, target))
        if len(links) > _MAX_LINKS:
            return at, tuple(links)
        if target.startswith("/"):
            here = ""
        left += target.split("/")[::-1]
    return here, tuple(links)
