"""What the step's process notes of its own uses: imports, looks at files, and what it took of context and services."""

from __future__ import annotations

import importlib.metadata
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import kommuna
from kommuna.runtime.binding import Signature
from kommuna.runtime.bundle_imports import Imports
from kommuna.runtime.codecs import reads_document
from kommuna.runtime.recording import PYTHON_FOLDERS, Told
from kommuna.spec.caching import caching_of
from kommuna.spec.step import Services, StepContext, StepSpec
from kommuna.store.searches import is_a
from kommuna.store.uses import FILE, FOLDER, MISSING

_UNCOUNTED = ("shared",)  # where clients keep what they have asked already: the answers are the same


class Watched:
    """Notes what this process does from `install` on."""

    def __init__(self) -> None:
        self._imports = Imports([*PYTHON_FOLDERS, str(Path(kommuna.__file__).parent.parent)])
        self._paths: dict[str, str] = {}
        self._hosts: dict[str, None] = {}
        self._unpickled: dict[str, None] = {}
        self._fields: set[str] = set()

    def install(self, bundle: str) -> None:
        """Begins.

        Args:
            bundle: the team's folder; installed distributions are not looked for in it, which would list its files.
        """
        self._imports.install()
        sys.addaudithook(self._hear)
        finder: Any = importlib.metadata.MetadataPathFinder
        search = finder._search_paths
        bundles = {bundle, os.path.abspath(bundle)} if bundle else set()  # noqa: PTH100
        finder._search_paths = lambda name, paths: search(name, [path for path in paths if path not in bundles])
        for name in ("stat", "lstat", "access"):
            function = getattr(os, name)
            noting = self._noting(function)
            setattr(os, name, noting)
            for able in (os.supports_dir_fd, os.supports_effective_ids, os.supports_fd, os.supports_follow_symlinks):
                if function in able:  # `shutil` looks its functions up in there
                    able.add(noting)

    def context(self, context: StepContext) -> StepContext:
        """The context, which notes the fields that are read."""
        read = self._fields

        class Noted(StepContext):
            def __getattribute__(self, name: str) -> Any:
                if name in StepContext.model_fields:
                    read.add(name)
                elif name in ("__dict__", "__iter__") or name.startswith(("model_", "copy", "dict", "json", "__repr")):
                    read.update(StepContext.model_fields)
                return super().__getattribute__(name)

        noted = Noted.model_construct(**dict(context))
        read.clear()
        return noted

    def told(self, spec: StepSpec, signature: Signature, arguments: Mapping[str, Any]) -> Told:
        """All that was noted."""
        fields = set(self._fields)
        caching = caching_of(signature.function)
        bundle = f"{os.path.abspath(spec.bundle)}/" if spec.bundle else ""  # noqa: PTH100
        return Told(
            modules=self._imports.modules,
            searches=self._imports.searches,
            paths={path: kind for path, kind in self._paths.items() if bundle and path.startswith(bundle)},
            libraries=tuple(sorted(_loaded_libraries())),
            entry_points=(spec.function, *_functions(arguments.values()), *self._unpickled),
            services=tuple(_settings(arguments[name] for name in signature.injected)),
            context=tuple(sorted(fields)),
            bytes=tuple(name for name, input_ in signature.inputs.items() if not reads_document(input_.annotation)),
            hosts=tuple(self._hosts),
            cacheable=caching.cacheable,
            expires=caching.expires,
        )

    # --- below ---------------------------------------------------------------------------------------------------

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.getaddrinfo" and isinstance(arguments[0], str):
            self._hosts[arguments[0]] = None
        elif event == "pickle.find_class":
            module, name = arguments
            self._unpickled[f"{module}:{str(name).partition('.')[0]}"] = None

    def _noting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of `os` that looks at a path, which notes what was there."""

        def noting(path: Any, *rest: Any, **options: Any) -> Any:
            if isinstance(path, str | os.PathLike) and not options.get("dir_fd"):
                name = os.path.abspath(os.fspath(path))  # noqa: PTH100
                if isinstance(name, str) and name not in self._paths:
                    self._paths[name] = _kind(name)
            return function(path, *rest, **options)

        return noting


def _kind(path: str) -> str:
    """What stands at a path, without asking for its content."""
    return FOLDER if is_a(path, stat.S_ISDIR) else FILE if is_a(path, lambda _: True) else MISSING


def _loaded_libraries() -> Iterator[str]:
    """Top-level names of installed libraries that this process has loaded."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), "")
        if "." not in name and "-packages/" in str(file):
            yield name


def _functions(values: Iterable[Any]) -> Iterator[str]:
    """Functions of the bundle that an input names, as the Python rules of a rule set do."""
    for value in values:
        yield from getattr(value, "python_functions", ())


def _settings(clients: Iterable[Any]) -> Iterator[str]:
    """Dotted names of the settings that clients used; all where a client does not say."""
    for client in clients:
        if isinstance(client, StepContext):
            continue
        used = getattr(client, "settings_used", None)
        yield from used() if used is not None else (name for name in Services.model_fields if name not in _UNCOUNTED)
