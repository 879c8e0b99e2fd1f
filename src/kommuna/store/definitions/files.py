"""Finds and parses the modules of a bundle as Python's import system finds them there."""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from collections.abc import Collection
from pathlib import Path

_BINARY = (".so", ".pyd")


class Unclear(Exception):
    """The definitions cannot be determined from source; the message says why."""


class BundleFiles:
    """The modules of a bundle by dotted name.

    Args:
        bundle: the team's folder, the first entry of `sys.path`.
        libraries: top-level names of installed libraries that are loaded anyway.
    """

    def __init__(self, bundle: Path, libraries: Collection[str]) -> None:
        self.bundle = bundle
        self._known = frozenset(libraries) | sys.stdlib_module_names | {"kommuna"}
        # These are loaded before the bundle is on the path, or found before it.
        self._never_here = frozenset(sys.builtin_module_names) | {"kommuna"}
        self._listings: dict[str, dict[str, bool]] = {}
        self._binaries: dict[str, dict[str, str]] = {}
        self.found: dict[str, str | None] = {}
        """Each module that was searched for, and its path."""
        self.trees: dict[str, ast.Module] = {}
        self.digests: dict[str, str] = {}
        """SHA-256 of each file that was parsed."""

    def is_known_library(self, name: str) -> bool:
        """Whether a module belongs to the standard library or to a library that is loaded anyway."""
        return name.partition(".")[0] in self._known

    def shadows_library(self, name: str) -> bool:
        """Whether a bundle module has a library's name, so that libraries may import it too."""
        return self.is_known_library(name)

    def find(self, name: str) -> str | None:
        """Returns the path of a module in the bundle, "folder/" for a namespace package, None if it is not there.

        Raises:
            Unclear: the bundle has it only as a binary or compiled file.
        """
        if name not in self.found:
            self.found[name] = self._find(name)
        return self.found[name]

    def parse(self, path: str) -> ast.Module:
        """Returns the syntax tree of a module; each file is read once.

        Raises:
            Unclear: the file cannot be read, or is not valid Python.
        """
        if path in self.trees:
            return self.trees[path]
        try:
            source = (self.bundle / path).read_bytes()
        except OSError as error:
            raise Unclear(f"{path} cannot be read: {error.strerror}") from None
        self.digests[path] = hashlib.sha256(source).hexdigest()
        try:
            tree = self.trees[path] = ast.parse(source, filename=path)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
            raise Unclear(f"{path}{line} is not valid Python") from None
        return tree

    def _find(self, name: str) -> str | None:
        top = name.partition(".")[0]
        if top in self._never_here:
            return None
        parent, _, last = name.rpartition(".")
        folder = ""
        if parent:
            package = self.find(parent)
            if package is None or not package.endswith(("/", "/__init__.py")):
                return None
            folder = package.removesuffix("__init__.py")
        entries = self._list(folder)
        if entries.get(last):  # a folder
            initial = self._source(f"{folder}{last}/", "__init__")
            if initial:
                return initial
        source = self._source(folder, last)
        if source:
            return source
        namespace = entries.get(last) and not (not parent and self.is_known_library(name))
        return f"{folder}{last}/" if namespace else None

    def _source(self, folder: str, stem: str) -> str | None:
        entries = self._list(folder)
        if stem in self._binaries[folder]:
            raise Unclear(f"{folder}{self._binaries[folder][stem]} is compiled code")
        if entries.get(f"{stem}.py") is False:
            return f"{folder}{stem}.py"
        if f"{stem}.pyc" in entries:
            raise Unclear(f"{folder}{stem}.pyc has no source beside it")
        return None

    def _list(self, folder: str) -> dict[str, bool]:
        if folder not in self._listings:
            try:
                with os.scandir(self.bundle / folder) as entries:
                    self._listings[folder] = {entry.name: entry.is_dir() for entry in entries}
            except OSError:
                self._listings[folder] = {}
            self._binaries[folder] = {
                entry.partition(".")[0]: entry
                for entry, is_folder in self._listings[folder].items()
                if not is_folder and entry.endswith(_BINARY)
            }
        return self._listings[folder]
