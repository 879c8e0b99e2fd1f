"""Makes a step's uses of what its process opened, imported, connected to and asked for."""

from __future__ import annotations

import ast
import contextlib
import os
import socket
import stat
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

import kommuna
from kommuna.runtime.opens import Call, Connected, Opened
from kommuna.spec.base import Spec
from kommuna.spec.step import StepSpec
from kommuna.spec.versions import VERSIONS
from kommuna.store.definitions import definitions
from kommuna.store.distributions import SHARED_STEPS, distributions_of, installed
from kommuna.store.inputs import Inputs
from kommuna.store.uses import FILE, MISSING, Reached, Uses, path_state, setting

ALWAYS = ("pydantic", "pydantic-core", "pyyaml")  # they read parameters and documents before a step sees them
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_YOUNG_NS = 20_000_000  # a file that has just changed may change again at the same tick of the file system's clock
PYTHON_FOLDERS = tuple(
    dict.fromkeys(
        f"{os.path.realpath(path) if real else path}/"
        for path in (sys.prefix, sys.base_prefix, sys.exec_prefix, sysconfig.get_path("stdlib"))
        for real in (False, True)
    )
)
_KOMMUNA = str(Path(kommuna.__file__).parent)
# The machine, what identifies it, and the operating system's own libraries: the table in docs/steps.md says so.
_SYSTEM = ("/proc/", "/sys/", "/dev/", "/run/", "/var/run/", "/usr/", "/lib/", "/lib64/", "/bin/", "/sbin/", "/etc/")
_SYSTEM_FILES = ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/")


class Told(Spec):
    """What the step's process itself tells of its uses, beside what it was seen to open."""

    modules: dict[str, str] = Field(default_factory=dict, description="Module of no library to its path.")
    searches: dict[str, dict[str, str]] = Field(default_factory=dict)
    paths: dict[str, str] = Field(default_factory=dict, description="Path that was only looked at to what was there.")
    libraries: tuple[str, ...] = Field((), description="Top-level names of installed libraries that were loaded.")
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
    process: int = 0
    _began: int = field(default_factory=time.time_ns)
    _seen: dict[str, tuple[int, ...] | None] = field(default_factory=dict)
    _times: dict[str, int] = field(default_factory=dict)
    _states: dict[str, str] = field(default_factory=dict)
    _made: set[str] = field(default_factory=set)
    _libraries: set[str] = field(default_factory=set)
    _peers: set[Connected] = field(default_factory=set)
    _unknown: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bundle = self.spec.bundle
        self._bundle = f"{os.path.abspath(bundle)}/" if bundle else "\0"  # noqa: PTH100
        self._temporary = tuple({f"{tempfile.gettempdir()}/", "/tmp/", "/var/tmp/", "/dev/shm/"})
        self._caches = tuple(f"{Path.home()}/{name}/" for name in (".cache", ".config", ".local"))

    def heard(self, call: Call) -> None:
        """Notes a call, while it waits."""
        if isinstance(call, Connected):
            if not (_is_loopback(call.host) and _listens(self.process, call.port)):
                self._peers.add(call)
            return
        path = _source(call.path)
        if path.startswith(self.own) or path in self._made:
            return
        if not path.startswith(self._bundle):
            if path.startswith(_KOMMUNA):
                self._libraries.add(SHARED_STEPS)
                return
            if path.startswith(PYTHON_FOLDERS):
                self._libraries.add(path)
                return
            if path.startswith(_SYSTEM) or path in _SYSTEM_FILES:
                return
        self._note(call, path)

    def _note(self, call: Opened, path: str) -> None:
        signature = _signature(path)
        flags = call.flags or 0
        elsewhere = path.startswith((*self._temporary, *self._caches)) and not path.startswith(self._bundle)
        if flags & _WRITING and (flags & _WRITING != os.O_CREAT or signature is None):
            if "/__pycache__/" in path:
                return
            if not elsewhere:
                self._unknown[f"it writes {self._name(path)}, which a kept result would not write again"] = None
                return
            if signature is None or flags & os.O_TRUNC:
                self._made.add(path)
                return
        if signature is None and (elsewhere or call.flags is None):  # a program is looked for all along PATH
            return
        if (
            elsewhere and signature is not None and _changed_at(path) >= self._began
        ):  # the step made it, by whatever call
            return
        self._times[path] = self._times.get(path, 0) + 1
        if path not in self._seen:
            self._seen[path] = signature
            if signature is not None and (len(signature) == 1 or time.time_ns() - signature[-1] < _YOUNG_NS):
                self._states[path] = path_state(path)
        elif self._seen[path] != signature:
            self._changed(path)

    def uses(self, told: Told, inputs: Inputs, context: Mapping[str, Any], *, missing: str = "") -> Uses:
        """What the step used, once its last process has ended.

        Args:
            told: by the step's own process.
            context: the fields of its StepContext.
            missing: why its calls were not heard, if so.
        """
        if missing:
            self._unknown[f"what the step opens cannot be seen here: {missing}"] = None
        if not told.cacheable:
            self._unknown["the step says cacheable=False"] = None
        for peer in self._foreign_peers(told):
            self._unknown[f"it asks {peer}, which is no service of the platform"] = None
        files = {self._name(path): state for path, state in self._files()}
        for path, kind in told.paths.items():  # what was looked at may be a file's size
            files.setdefault(self._name(path), path_state(path) if kind == FILE else kind)
        modules = {self._name(path) for path in told.modules.values()}
        return Uses(
            files=files,
            searches={
                self._name(folder): {name: self._name(path) if path else "" for name, path in names.items()}
                for folder, names in told.searches.items()
            },
            libraries=self._versions(told),
            services={name: setting(self.spec.services.model_dump(mode="json"), name) for name in told.services},
            context={name: context[name] for name in told.context},
            bytes={name: found.bytes for name, found in inputs.flat().items() if name.split(".")[0] in told.bytes},
            reached=self._reached(told, modules),
            unknown=tuple(self._unknown),
        )

    # --- below ---------------------------------------------------------------------------------------------------

    def _files(self) -> Iterator[tuple[str, str]]:
        for path, before in self._seen.items():
            state = path_state(path)
            if _signature(path) != before or self._states.get(path, state) != state:
                self._changed(path)
            yield path, state if before is not None else MISSING

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
        )

    def _foreign_peers(self, told: Told) -> list[str]:
        """Peers that are no service of the platform, by the names that the step asked for."""
        if not self._peers:
            return []
        allowed = {(address, port) for host, port in _service_addresses(self.spec) for address in _addresses(host)}
        foreign = [peer for peer in self._peers if (peer.host, peer.port) not in allowed]
        names = {address: host for host in told.hosts for address in _addresses(host)} if foreign else {}
        return sorted({f"{names.get(peer.host, peer.host)}:{peer.port}" for peer in foreign})


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


def _service_addresses(spec: StepSpec) -> Iterator[tuple[str, int]]:
    """Host and port of everything that the step's clients may ask."""
    services = spec.services
    urls = [services.mlflow, *(endpoint.url for endpoint in (services.llm.light, services.llm.heavy) if endpoint)]
    urls += [str(value) for value in _texts(spec.store.options) if "://" in value]
    urls += [value for name, value in os.environ.items() if name.lower().endswith("_proxy") and "://" in value]
    for url in urls:
        parts = urlsplit(url)
        if parts.hostname:
            yield parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _addresses(host: str) -> Iterator[str]:
    """The IP addresses of a name."""
    with contextlib.suppress(OSError):
        yield from {str(address[0]) for *_, address in socket.getaddrinfo(host, None)}


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host == "::1"


def _listens(process: int, port: int) -> bool:
    """Whether one of a process's family listens on a port of this machine: Spark's gateway, a pool of workers."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == "0A" and int(columns[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{columns[9]}]")
    return any(_descriptors(pid) & inodes for pid in _family(process)) if inodes else False


def _descriptors(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/{pid}/fd/{name}"))  # noqa: PTH115
    return found


def _family(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found
