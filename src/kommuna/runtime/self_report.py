"""What the step's process notes of its own uses: imports, looks at files, and what it took of context and services."""

from __future__ import annotations

import contextlib
import importlib.metadata
import ipaddress
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr

import kommuna
from kommuna.runtime.binding import Signature
from kommuna.runtime.bundle_imports import Imports
from kommuna.runtime.codecs import reads_document
from kommuna.runtime.notes import HOSTS, NAMED, Notes
from kommuna.runtime.recording import PYTHON_FOLDERS, READ_BELOW, Told
from kommuna.spec.caching import caching_of
from kommuna.spec.step import Services, StepContext, StepSpec
from kommuna.store.distributions import library_folders
from kommuna.store.searches import is_a, module_in

_LOOK_UPS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
# Where `os.getenv`, `os.environ.get` and `os.path.expandvars` are.
_READERS = frozenset(
    f"{quote}{name}{end}"
    for name in ("os", "_collections_abc", "posixpath")
    for quote, end in (("", ".py"), ("<frozen ", ">"))
)
_UNCOUNTED = ("shared",)  # where clients keep what they have asked already: the answers are the same


class _NotedContext(StepContext):
    """A context that notes which fields are read; as a whole it is a plain one."""

    _read: set[str] = PrivateAttr(default_factory=set)

    def __getattribute__(self, name: str) -> Any:
        read = (super().__getattribute__("__pydantic_private__") or {}).get("_read", set())
        if name in StepContext.model_fields:
            read.add(name)
        elif name in ("__dict__", "__iter__") or name.startswith(("model_", "copy", "dict", "json", "__repr")):
            read.update(StepContext.model_fields)
        return super().__getattribute__(name)

    def __reduce__(self) -> tuple[Any, ...]:
        return StepContext.model_validate, (dict(self),)


class Watched:
    """Notes what this process does from `install` on, and what those do that it forks.

    Args:
        folder: the step's work folder.
    """

    def __init__(self, folder: Path) -> None:
        self._notes = Notes(folder / "notes")
        self._imports = Imports([*PYTHON_FOLDERS, str(Path(kommuna.__file__).parent.parent)], self._notes)
        self._forked = False
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
        self._note_variables()

    def context(self, context: StepContext) -> StepContext:
        """The context, which notes the fields that are read."""
        noted = _NotedContext.model_construct(**dict(context))
        noted._read = self._fields
        return noted

    def told(self, spec: StepSpec, signature: Signature, arguments: Mapping[str, Any]) -> Told:
        """All that was noted."""
        if self._forked and any(isinstance(arguments[name], StepContext) for name in signature.injected):
            self._fields.update(StepContext.model_fields)  # what a worker reads is not noted here
        caching = caching_of(signature.function)
        for folder in sys.path:
            if folder and not is_a(folder, lambda _: True):
                os.path.exists(folder)  # noqa: PTH110  # a look that is told: it may come, with modules in it
        return Told(
            modules=self._imports.modules,
            searches=self._imports.searches,
            absent=tuple(sorted(set(self._absent()))),
            has_clients=any(not isinstance(arguments[name], StepContext) for name in signature.injected),
            libraries=tuple(sorted(_loaded_libraries())),
            entry_points=(spec.function, *_functions(arguments.values()), *self._notes.of(NAMED)),
            services=tuple(_settings(arguments[name] for name in signature.injected)),
            context=tuple(sorted(self._fields)),
            bytes=tuple(name for name, input_ in signature.inputs.items() if not reads_document(input_.annotation)),
            hosts=tuple(self._notes.of(HOSTS)),
            cacheable=caching.cacheable,
            expires=caching.expires,
        )

    # --- below ---------------------------------------------------------------------------------------------------

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _LOOK_UPS and isinstance(arguments[0], str | bytes):
            self._look_up(arguments[0])
        elif event in ("os.fork", "os.forkpty"):
            self._forked = True
        elif event == "pickle.find_class":
            module, name = arguments
            self._notes.note(NAMED, f"{module}:{str(name).partition('.')[0]}")

    def _note_variables(self) -> None:
        """Tells whoever hears what this process and its workers open which variables code of no library reads."""
        environ: Any = type(os.environ)
        read = environ.__getitem__
        told: set[str] = set()

        def noting(variables: Any, name: Any) -> Any:
            if isinstance(name, str | bytes) and name not in told and _is_read_by_no_library():
                told.add(os.fsdecode(name))
                with contextlib.suppress(OSError, ValueError):
                    os.close(os.open(f"{READ_BELOW}{os.fsdecode(name)}", os.O_RDONLY))
            return read(variables, name)

        environ.__getitem__ = noting

    def _look_up(self, host: str | bytes) -> None:
        """Notes a name that is looked up; an address stands for itself."""
        name = host if isinstance(host, str) else host.decode(errors="replace")
        try:
            ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            self._notes.note(HOSTS, name.lower())

    def _absent(self) -> Iterator[str]:
        """Top-level modules that were looked for and found nowhere."""
        for names in self._imports.searches.values():
            for name, path in names.items():
                if not path and name not in sys.modules and not any(module_in(at, name) for at in library_folders()):
                    yield name


def _is_read_by_no_library() -> bool:
    """Whether a variable is read by code that is neither Python's, nor an installed library's, nor Kommuna's."""
    frame = sys._getframe(2)
    while frame.f_back is not None and os.path.basename(frame.f_code.co_filename) in _READERS:  # noqa: PTH119
        frame = frame.f_back
    return not frame.f_code.co_filename.startswith((*PYTHON_FOLDERS, f"{Path(kommuna.__file__).parent}/", "<frozen "))


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
