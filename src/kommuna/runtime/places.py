"""Where a path leads, as the kernel follows it: the one way in which a path becomes the name that is recorded."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from kommuna.store.searches import is_a, link_target

_MOST_LINKS = 40  # that the kernel follows
_OF_A_PROCESS = ("/proc/", "/dev/")  # where links lead differs from process to process


class Place(NamedTuple):
    """Where a path leads.

    Args:
        name: the path itself, absolute; of what stands before a `..`, where it leads.
        real: where it leads through all links.
        links: those on the way from the last `..` on, to their targets.
        crossed: those before it, which are part of no name.
    """

    name: str
    real: str
    links: tuple[tuple[str, str], ...] = ()
    crossed: tuple[tuple[str, str], ...] = ()


class Places:
    """Follows paths; keeps what it knows of folders until it is told that names change."""

    def __init__(self) -> None:
        self._folders: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {}

    def forget(self) -> None:
        """Says that links may have come or gone."""
        self._folders.clear()

    def of(self, path: str, *, process: int = 0, follows: bool = True) -> Place:
        """Where a path leads.

        Args:
            path: absolute.
            process: the one that asks; 0 for this one.
            follows: whether a link at its end is followed.
        Raises:
            OSError: it cannot be told.
        """
        parts = [part for part in path.split("/") if part not in ("", ".")]
        crossed: tuple[tuple[str, str], ...] = ()
        start = ""
        if ".." in parts:
            after = len(parts) - parts[::-1].index("..")
            start, crossed = _walk("", parts[:after], process)
            # Nothing is found below what is no folder.
            parts = parts[after:] if is_a(start or "/", stat.S_ISDIR) else []
        if not parts:
            return Place(start or "/", start or "/", (), crossed)
        folder = "/".join((start, *parts[:-1]))
        name = f"{folder}/{parts[-1]}"
        if folder.startswith(_OF_A_PROCESS):
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
        return Place(name, real, links, crossed)


def followed(path: str) -> str:
    """The name of a path of this process."""
    return Places().of(path if path.startswith("/") else f"{os.getcwd()}/{path}").name  # noqa: PTH109


def _walk(start: str, parts: list[str], process: int) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Follows names from a real folder on; the root is empty. Returns where they lead, and the links on the way."""
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
        if len(links) > _MOST_LINKS:
            return at, tuple(links)
        if target.startswith("/"):
            here = ""
        left += target.split("/")[::-1]
    return here, tuple(links)
