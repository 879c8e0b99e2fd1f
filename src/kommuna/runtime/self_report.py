"""Records uses within the step's process: imports, host names, and fields of the context and services."""

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
from kommuna.runtime.locations import PYTHON_FOLDERS
from kommuna.runtime.notes import HOSTS, NAMED, Notes
from kommuna.runtime.recording import VARIABLE_MARKERS, ReportedUses
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
_UNCOUNTED = ("shared", "work", "run", "llm_budgets")  # no result of a step depends on them


class _NotedContext(StepContext):
    """A context that records which fields are read. It pickles as a plain one."""

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


class SelfReport:
    """Records the uses of this process and its forks from `install` on.

    Args:
        folder: the step's work folder.
    """

    def __init__(self, folder: Path) -> None:
        self._notes = Notes(folder / "notes")
        self._imports = Imports([*PYTHON_FOLDERS, str(Path(kommuna.__file__).parent.parent)], self._notes)
        self._forked = False
        self._fields: set[str] = set()

    def install(self, bundle: str) -> None:
        """Starts recording.

        Args:
            bundle: the team's folder. It is not searched for installed distributions, which would list its files.
        """
        self._imports.install()
        sys.addaudithook(self._on_audit_event)
        finder: Any = importlib.metadata.MetadataPathFinder
        search = finder._search_paths
        bundles = {bundle, os.path.abspath(bundle)} if bundle else set()  # noqa: PTH100
        finder._search_paths = lambda name, paths: search(name, [path for path in paths if path not in bundles])
        self._note_variables()

    def context(self, context: StepContext) -> StepContext:
        """Wraps the context, so that the fields that are read are recorded."""
        noted = _NotedContext.model_construct(**dict(context))
        noted._read = self._fields
        return noted

    def reported_uses(self, spec: StepSpec, signature: Signature, arguments: Mapping[str, Any]) -> ReportedUses:
        """Returns all recorded uses.

        Args:
            spec: the step.
            signature: the signature of its function.
            arguments: what the function was called with, by name.
        """
        if self._forked and any(isinstance(arguments[name], StepContext) for name in signature.injected):
            self._fields.update(StepContext.model_fields)  # a worker's reads are not recorded here
        caching = caching_of(signature.function)
        for folder in sys.path:
            if folder and not is_a(folder, lambda _: True):
                os.path.exists(folder)  # noqa: PTH110  # records the use: the folder may be created later, with modules
        return ReportedUses(
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

    def _on_audit_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _LOOK_UPS and isinstance(arguments[0], str | bytes):
            self._look_up(arguments[0])
        elif event in ("os.fork", "os.forkpty"):
            self._forked = True
        elif event == "pickle.find_class":
            module, name = arguments
            self._notes.note(NAMED, f"{module}:{str(name).partition('.')[0]}")

    def _note_variables(self) -> None:
        """Announces to the supervisor which environment variables are read by code outside the libraries."""
        environ: Any = type(os.environ)
        read = environ.__getitem__
        reported: set[str] = set()

        def noting(variables: Any, name: Any) -> Any:
            if isinstance(name, str | bytes) and name not in reported and _is_read_by_no_library():
                reported.add(os.fsdecode(name))
                with contextlib.suppress(OSError, ValueError):
                    os.close(os.open(f"{VARIABLE_MARKERS}{os.fsdecode(name)}", os.O_RDONLY))
            return read(variables, name)

        environ.__getitem__ = noting

    def _look_up(self, host: str | bytes) -> None:
        """Records a host name that is looked up, unless it is an IP address."""
        name = host if isinstance(host, str) else host.decode(errors="replace")
        try:
            ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            self._notes.note(HOSTS, name.lower())

    def _absent(self) -> Iterator[str]:
        """Top-level modules that were searched for and not found."""
        for names in self._imports.searches.values():
            for name, path in names.items():
                if not path and name not in sys.modules and not any(module_in(at, name) for at in library_folders()):
                    yield name


def _is_read_by_no_library() -> bool:
    """Whether a variable is read by code outside Python, the installed libraries and Kommuna."""
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
    """Dotted names of the settings that clients used; all settings for a client without `settings_used`."""
    for client in clients:
        if isinstance(client, StepContext):
            continue
        used = getattr(client, "settings_used", None)
        yield from used() if used is not None else (name for name in Services.model_fields if name not in _UNCOUNTED)
