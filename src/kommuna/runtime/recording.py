"""Makes a step's uses of what its process opened, imported, connected to and asked for."""

from __future__ import annotations

import ast
import contextlib
import os
import stat
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field

import kommuna
from kommuna.runtime.environment import stays
from kommuna.runtime.opens import Call, Changed, Connected, Opened
from kommuna.runtime.peers import Peers
from kommuna.spec.base import Spec
from kommuna.spec.caching import TOLD_BELOW, UNCACHEABLE, duration
from kommuna.spec.step import StepSpec
from kommuna.spec.versions import VERSIONS
from kommuna.store.definitions import definitions
from kommuna.store.distributions import SHARED_STEPS, distributions_of, installed
from kommuna.store.inputs import Inputs
from kommuna.store.uses import FILE, MISSING, Reached, Uses, path_state, setting, variable

ALWAYS = ("pydantic", "pydantic-core", "pyyaml")  # they read parameters and documents before a step sees them
READ_BELOW = "/proc/kommuna/read/"  # where no file can be: what a step opens there are variables that it reads
_TEMPORARY_FILE = os.O_TMPFILE
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_YOUNG_NS = 20_000_000  # a file that has just changed may change again at the same tick of the file system's clock
PYTHON_FOLDERS = tuple(
    dict.fromkeys(
        f"{os.path.realpath(path) if real else path}/"
        for path in (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
        for real in (False, True)
    )
)
_PREFIXES = tuple({f"{sys.prefix}/", f"{sys.base_prefix}/", f"{os.path.realpath(sys.base_prefix)}/"})
_KOMMUNA = str(Path(kommuna.__file__).parent)
# The machine, what identifies it, and the operating system's own libraries: the table in docs/steps.md says so.
_KERNEL = ("/proc/", "/sys/", "/dev/")
_SYSTEM = ("/proc/", "/sys/", "/dev/", "/run/", "/var/run/", "/usr/", "/lib/", "/lib64/", "/bin/", "/sbin/", "/etc/")
_SYSTEM_FILES = ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/")
# Programs that libraries ask for the machine and its compilers; what they look at is the system's.
_SYSTEM_PROGRAMS = frozenset({"ldconfig", "uname", "lscpu", "nvidia-smi", "gcc", "cc", "ld", "objdump", "file"})


class Told(Spec):
    """What the step's process itself tells of its uses, beside what it was seen to open."""

    modules: dict[str, str] = Field(default_factory=dict, description="Module of no library to its path.")
    searches: dict[str, dict[str, str]] = Field(default_factory=dict)
    paths: dict[str, str] = Field(default_factory=dict, description="Path that was only looked at to what was there.")
    libraries: tuple[str, ...] = Field((), description="Top-level names of installed libraries that were loaded.")
    links: dict[str, str] = Field(default_factory=dict, description="Link on the way to such a path to its target.")
    absent: tuple[str, ...] = Field((), description="Top-level modules that were looked for and found nowhere.")
    has_clients: bool = Field(False, description="Whether the step was given a client of the platform's services.")
    entry_points: tuple[str, ...] = ()
    services: tuple[str, ...] = Field((), description="Dotted names of settings that the step's clients used.")
    context: tuple[str, ...] = Field((), description="Fields of the StepContext that were read.")
    bytes: tuple[str, ...] = Field((), description="Inputs that the step read by itself.")
    hosts: tuple[str, ...] = Field((), description="Names that were looked up.")
    cacheable: bool = True
    expires: str | None = None


@dataclass
class Recorder:
    """Hears of a step's calls (see `Opens`), and makes its uses of them.

    Args:
        own: folders and files that the runtime itself gave to the step.
    """

    spec: StepSpec
    own: tuple[str, ...]
    _began: int = field(default_factory=time.time_ns)
    _seen: dict[str, tuple[int, ...] | None] = field(default_factory=dict)
    _times: dict[str, int] = field(default_factory=dict)
    _states: dict[str, str] = field(default_factory=dict)
    _made: set[str] = field(default_factory=set)
    _may_write: set[str] = field(default_factory=set)
    _started: bool = False
    _called: set[str] = field(default_factory=set)
    _variables: set[str] = field(default_factory=set)
    _libraries: set[str] = field(default_factory=set)
    _unknown: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bundle = self.spec.bundle
        self._peers = Peers(self.spec)
        self._bundle = f"{os.path.abspath(bundle)}/" if bundle else "\0"  # noqa: PTH100
        self._real_bundle = f"{os.path.realpath(bundle)}/" if bundle else "\0"
        self._temporary = tuple({f"{tempfile.gettempdir()}/", "/tmp/", "/var/tmp/", "/dev/shm/"})
        self._caches = tuple(f"{Path.home()}/{name}/" for name in (".cache", ".config", ".local"))

    def belongs_to(self, process: int) -> None:
        """Says which process's calls are heard, with those of its children."""
        self._peers.process = process

    def heard(self, call: Call) -> None:
        """Notes a call, while it waits."""
        if isinstance(call, Connected):
            self._peers.heard(call)
            return
        if call.path.startswith(TOLD_BELOW):
            self._called.add(call.path.removeprefix(TOLD_BELOW))
            return
        if call.path.startswith(READ_BELOW):
            self._variables.add(call.path.removeprefix(READ_BELOW))
            return
        path = self._in_bundle(call.path if isinstance(call, Changed) else _source(call.path))
        if path.startswith(self.own) or path in self._made:
            return
        if isinstance(call, Changed):
            if call.makes and os.path.lexists(path):  # as `os.makedirs(exist_ok=True)` asks for each folder on the way
                return
            if not self._is_elsewhere(path) and "/__pycache__" not in path and not path.startswith(_KERNEL):
                self._unknown[f"it changes {self._name(path)}, which a kept result would not do again"] = None
            return
        if call.flags is None and os.path.basename(path) not in _SYSTEM_PROGRAMS and os.path.exists(path):  # noqa: PTH119, PTH110
            self._started = True
        if not path.startswith(self._bundle):
            if path.startswith(_KOMMUNA) or path == str(Path(_KOMMUNA).parent):
                self._libraries.add(SHARED_STEPS)
                return
            if path.startswith(PYTHON_FOLDERS):
                self._libraries.add(path)
                return
            if path.startswith(_SYSTEM) or path in _SYSTEM_FILES:
                return
            if path.startswith(_PREFIXES) and (".so" in path or path.endswith("pyvenv.cfg") or "/bin/" in path):
                return
        self._note(call, path)

    def _note(self, call: Opened, path: str) -> None:
        signature = _signature(path)
        flags = call.flags or 0
        elsewhere = self._is_elsewhere(path)
        if flags & _TEMPORARY_FILE == _TEMPORARY_FILE:  # it has no name
            return
        if flags & _WRITING and (flags & _WRITING != os.O_CREAT or signature is None):
            if "/__pycache__/" in path:
                return
            if signature is None or flags & (os.O_TRUNC | os.O_WRONLY):
                if elsewhere:
                    self._made.add(path)
                else:
                    self._writes(path)
                return
            self._may_write.add(path)  # such as a database that is only read: told by whether it has changed
        if signature is None and (elsewhere or call.flags is None):  # a program is looked for all along PATH
            return
        if elsewhere and signature is not None and _changed_at(path) >= self._began:  # the step's own, by whatever call
            return
        self._times[path] = self._times.get(path, 0) + 1
        if path not in self._seen:
            self._seen[path] = signature
            if signature is not None and (len(signature) == 1 or time.time_ns() - signature[-1] < _YOUNG_NS):
                self._states[path] = path_state(path, self.spec.bundle)
        elif self._seen[path] != signature:
            self._changed(path)

    def _is_elsewhere(self, path: str) -> bool:
        """Whether a path is in a folder for temporary files or for libraries' own caches."""
        return not path.startswith(self._bundle) and f"{path}/".startswith((*self._temporary, *self._caches))

    def _in_bundle(self, path: str) -> str:
        """A path as the bundle's folder is called, where it is below the folder that this is a link to."""
        if path.startswith(self._real_bundle):
            return self._bundle + path[len(self._real_bundle) :]
        return self._bundle.rstrip("/") if path == self._real_bundle.rstrip("/") else path

    def _writes(self, path: str) -> None:
        self._unknown[f"it writes {self._name(path)}, which a kept result would not write again"] = None

    @property
    def is_cacheable(self) -> bool:
        """Whether nothing that the step called says that every run has to do it."""
        return UNCACHEABLE not in self._called

    def uses(self, told: Told, inputs: Inputs, context: Mapping[str, Any], *, missing: str = "") -> Uses:
        """What the step used, once its last process has ended.

        Args:
            told: by the step's own process.
            context: the fields of its StepContext.
            missing: why its calls were not heard, if so.
        """
        if missing:
            self._unknown[f"what the step opens cannot be seen here: {missing}"] = None
        for peer in self._peers.foreign(told.hosts, has_clients=told.has_clients):
            self._unknown[f"it asks {peer}, which is no service of the platform"] = None
        if self._started and self.spec.bundle:  # what a program looks at without opening it is not told
            self._count_bundle()
        files = {self._name(path): state for path, state in self._files()}
        files = {**dict(self._looks(told)), **files}
        modules = {self._name(path) for path in told.modules.values()}
        services = self.spec.services.model_dump(mode="json")
        return Uses(
            files=files,
            links={self._name(path): target for path, target in told.links.items() if self._counts(path)},
            absent_libraries=told.absent,
            searches={
                self._name(folder): {name: self._name(path) if path else "" for name, path in names.items()}
                for folder, names in told.searches.items()
            },
            libraries=self._versions(told),
            services={name: setting(services, name) for name in told.services},
            context={name: context[name] for name in told.context},
            variables={name: variable(name) for name in sorted(self._variables) if stays(name, self.spec)},
            bytes={name: found.bytes for name, found in inputs.flat().items() if name.split(".")[0] in told.bytes},
            reached=self._reached(told, modules),
            until=self._until(),
            unknown=tuple(self._unknown),
        )

    # --- below ---------------------------------------------------------------------------------------------------

    def _until(self) -> datetime | None:
        """When the first of what the step called expires."""
        limits = [duration(said) for said in self._called - {UNCACHEABLE}]
        return datetime.fromtimestamp(self._began / 1e9, UTC) + min(limits) if limits else None

    def _files(self) -> Iterator[tuple[str, str]]:
        for path, before in self._seen.items():
            state = path_state(path, self.spec.bundle)
            if _signature(path) != before or self._states.get(path, state) != state:
                (self._writes if path in self._may_write else self._changed)(path)
            yield path, state if before is not None else MISSING

    def _looks(self, told: Told) -> Iterator[tuple[str, str]]:
        """Paths that the step looked at without opening them. Of a file all of its content counts, for its size may."""
        for given, kind in told.paths.items():
            path = self._in_bundle(given)
            if self._counts(path):
                dangling = kind == FILE and not os.path.exists(path)  # noqa: PTH110  # its link counts by itself
                if not dangling:
                    yield self._name(path), path_state(path, self.spec.bundle) if kind == FILE else kind

    def _counts(self, path: str) -> bool:
        """Whether a path that the step looked at is neither its own nor Python's nor the system's."""
        if path.startswith(self._bundle) or path == self._bundle.rstrip("/"):
            return True
        inner = f"{path}/"
        if inner.startswith((*self.own, _KOMMUNA, *PYTHON_FOLDERS, *_PREFIXES, *_SYSTEM)) or path in _SYSTEM_FILES:
            return False
        if any(part.startswith(inner) for part in (self._bundle, self._real_bundle, *PYTHON_FOLDERS, *self.own)):
            return os.path.islink(path)  # on the way to what counts by itself  # noqa: PTH114
        return not self._is_elsewhere(path)

    def _count_bundle(self) -> None:
        """Every file of the bundle counts."""
        for folder, folders, names in os.walk(self._bundle.rstrip("/")):
            folders[:] = [name for name in folders if name not in ("__pycache__", ".git")]
            for path in (folder, *(f"{folder}/{name}" for name in names)):
                self._seen.setdefault(path, _signature(path))

    def _changed(self, path: str) -> None:
        self._unknown[f"{self._name(path)} changed while the step ran"] = None

    def _name(self, path: str) -> str:
        return path.removeprefix(self._bundle) if path != self._bundle.rstrip("/") else "."

    def _versions(self, told: Told) -> dict[str, str]:
        """Installed distributions that the step loaded, and those that its own modules name."""
        versions = installed()
        opened = {path for path in self._libraries if path != SHARED_STEPS}
        named = {name for path in told.modules.values() for name in _imported(path)}
        found, unclaimed = distributions_of(opened, named)
        for path in unclaimed:
            self._seen.setdefault(path, _signature(path))
        out = {name: versions.get(name, "") for name in (*ALWAYS, *found)}
        if SHARED_STEPS in self._libraries and self.spec.function not in VERSIONS:
            out[SHARED_STEPS] = versions[SHARED_STEPS]
        return dict(sorted(out.items()))

    def _reached(self, told: Told, modules: set[str]) -> Reached | None:
        """The definitions that the step reached, where source tells; modules that it also read as text are left out."""
        bundle = self.spec.bundle
        if not bundle or not modules:
            return None
        points = tuple(point for point in told.entry_points if point.partition(":")[0] in told.modules)
        found = definitions(points, Path(bundle), libraries=told.libraries)
        if found.unclear or not set(told.modules) <= set(found.modules):
            return None
        once = {path for path, times in self._times.items() if times == 1}
        return Reached(
            digest=found.digest,
            entry_points=points,
            libraries=told.libraries,
            modules=tuple(sorted(modules & {self._name(path) for path in once})),
            parts=dict(sorted(found.parts.items())),
        )


def _source(path: str) -> str:
    """The source of a compiled module; any other path as it is."""
    folder, name = os.path.split(path)
    if name.endswith(".pyc") and folder.endswith("/__pycache__"):
        source = os.path.join(os.path.dirname(folder), f"{name.partition('.')[0]}.py")  # noqa: PTH118, PTH120
        return source if os.path.exists(source) else path  # noqa: PTH110
    return path


def _signature(path: str) -> tuple[int, ...] | None:
    """What changes with a file; None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    if stat.S_ISDIR(found.st_mode):  # its names are compared
        return (found.st_ino,)
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _changed_at(path: str) -> int:
    """When a file or folder changed last, in nanoseconds; 0 where it is gone."""
    with contextlib.suppress(OSError):
        return os.stat(path).st_ctime_ns  # noqa: PTH116
    return 0


def _imported(path: str) -> Iterable[str]:
    """Top-level names that a module's source imports, wherever in it."""
    with contextlib.suppress(OSError, SyntaxError, ValueError):
        for node in ast.walk(ast.parse(Path(path).read_bytes())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]
