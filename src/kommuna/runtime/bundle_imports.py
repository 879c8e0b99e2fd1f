"""Imports the team's own modules in the step's process, from source only, and records every search.

A cached bytecode file may not match its source, and a module that an import did not find in the bundle may be added
later. Both would make a cached result stale.
"""

from __future__ import annotations

import importlib
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import ExtensionFileLoader, ModuleSpec, SourceFileLoader, SourcelessFileLoader
from importlib.util import spec_from_file_location
from types import CodeType, ModuleType
from typing import Any

from kommuna.runtime.notes import MODULES, NAMED, SEARCHES, Notes
from kommuna.runtime.places import followed
from kommuna.store.searches import ABSENT, is_a, module_in

_IMPORT_SYSTEM = "<frozen importlib._bootstrap>"


class Imports:
    """Records what a process imports from folders outside the installed libraries.

    Args:
        installed: folders whose modules are those of Python and of installed distributions.
        notes: where modules and searches are noted.
    """

    def __init__(self, installed: Iterable[str], notes: Notes) -> None:
        self._installed = tuple(f"{folder.rstrip('/')}/" for folder in installed)
        self._notes = notes
        self._kind = _noting_module(notes)

    @property
    def modules(self) -> dict[str, str]:
        """The path of each imported module, by its name."""
        return self._notes.of(MODULES)

    @property
    def searches(self) -> dict[str, dict[str, str]]:
        """The names searched for in each folder, with the path that was found or an empty string."""
        found: dict[str, dict[str, str]] = {}
        for path, module in self._notes.of(SEARCHES).items():
            folder, _, name = path.rpartition("/")
            found.setdefault(folder, {})[name] = module
        return found

    def install(self) -> None:
        """Replaces Python's own finder from now on."""
        sys.dont_write_bytecode = True
        sys.path_hooks.insert(0, self._finder)
        for folder in list(sys.path_importer_cache):
            if self._is_ours(folder):
                del sys.path_importer_cache[folder]

    def _is_ours(self, folder: str) -> bool:
        return is_a(folder or ".", stat.S_ISDIR) and not f"{os.path.abspath(folder)}/".startswith(self._installed)  # noqa: PTH100

    def _finder(self, folder: str) -> _Finder:
        if not self._is_ours(folder):
            raise ImportError(folder)
        return _Finder(followed(folder), self._notes, self._kind)


class _Finder:
    """Finds modules in one folder; an entry of `sys.path` or of a package's `__path__`."""

    def __init__(self, folder: str, notes: Notes, kind: type[ModuleType]) -> None:
        self._folder = folder
        self._notes = notes
        self._kind = kind

    def find_spec(self, name: str, target: object = None) -> ModuleSpec | None:
        """Returns the spec of a module by its full name, if it is in this folder."""
        del target
        tail = name.rpartition(".")[2]
        path = module_in(self._folder, tail)
        self._notes.note(SEARCHES, f"{self._folder}/{tail}", path)
        if path == ABSENT:
            return None
        if is_a(path, stat.S_ISDIR):
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [path]
            return spec
        self._notes.note(MODULES, name, path)
        is_package = os.path.basename(path).startswith("__init__.") and tail != "__init__"  # noqa: PTH119
        return spec_from_file_location(
            name,
            path,
            loader=_loader(name, path, self._kind),
            submodule_search_locations=[os.path.dirname(path)] if is_package else None,  # noqa: PTH120
        )

    def invalidate_caches(self) -> None:
        """Does nothing: there is no cache."""

    def iter_modules(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """Lists the modules of the folder, for `pkgutil`. All names in the folder then count as used."""
        for name in sorted(os.listdir(self._folder)):  # noqa: PTH208
            stem = name.partition(".")[0]
            if stem.isidentifier() and stem not in ("__init__", "__pycache__") and module_in(self._folder, stem):
                path = os.path.join(self._folder, name)  # noqa: PTH118
                if name.endswith(".py") or is_a(f"{path}/__init__.py", stat.S_ISREG):
                    yield prefix + stem, is_a(path, stat.S_ISDIR)


class _SourceLoader(SourceFileLoader):
    """Always compiles the source, and ignores `__pycache__`."""

    def __init__(self, name: str, path: str, kind: type[ModuleType]) -> None:
        super().__init__(name, path)
        self._kind = kind

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._kind(spec.name)

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: Any = self.source_to_code(self.get_data(path), path)
        return code  # type: ignore[no-any-return]


def _noting_module(notes: Notes) -> type[ModuleType]:
    """Creates a module type that records which of its attributes are read by code outside the bundle.

    A library may know the name from a parameter or a file (`!!python/name:lib.a`), where no source code shows it.
    """
    modules = notes.of(MODULES)
    own = {_IMPORT_SYSTEM}  # files with the bundle's own code
    others: set[str] = set()

    read, frame = ModuleType.__getattribute__, sys._getframe

    def noting(module: ModuleType, name: str) -> Any:
        file = frame(1).f_code.co_filename
        if file not in own and not name.startswith("__"):
            if file not in others:
                (own if file in modules.values() else others).add(file)
            if file in others:
                notes.note(NAMED, f"{read(module, '__name__')}:{name}")
        return read(module, name)

    def reduced(module: ModuleType, _protocol: object) -> Any:
        return importlib.import_module, (module.__name__,)

    return type("module", (ModuleType,), {"__getattribute__": noting, "__reduce_ex__": reduced})


def _loader(name: str, path: str, kind: type[ModuleType]) -> Any:
    if path.endswith(".py"):
        return _SourceLoader(name, path, kind)
    return SourcelessFileLoader(name, path) if path.endswith(".pyc") else ExtensionFileLoader(name, path)
