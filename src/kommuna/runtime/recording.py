"""Makes a step's uses of what its process opened, imported, connected to and asked for."""

from __future__ import annotations

import ast
import contextlib
import os
import re
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
from kommuna.runtime import files
from kommuna.runtime.environment import stays
from kommuna.runtime.opens import Blinded, Call, Changed, Connected, Listening, Looked, Opened
from kommuna.runtime.peers import Peers
from kommuna.runtime.places import Place, Places, followed
from kommuna.spec.base import Spec
from kommuna.spec.caching import TOLD_BELOW, UNCACHEABLE, duration
from kommuna.spec.step import StepSpec
from kommuna.spec.versions import VERSIONS
from kommuna.store.analyses import Analyses
from kommuna.store.distributions import SHARED_STEPS, distributions_of, installed
from kommuna.store.inputs import Inputs
from kommuna.store.searches import link_target
from kommuna.store.uses import MISSING, Reached, Uses, path_state, setting, variable

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
# Of Python's own folder: what it is started with. Programs that are installed there count as any file.
_PYTHON = re.compile(rf"(?:{'|'.join(map(re.escape, _PREFIXES))})(?:pyvenv\.cfg|bin/python[\d.]*|.*\.so[\d.]*)")
_KERNEL = ("/proc/", "/sys/", "/dev/")
# The machine, what identifies it, and the operating system's own libraries: the table in docs/steps.md says so.
_SYSTEM = (*_KERNEL, "/run/", "/var/run/", "/usr/", "/lib/", "/lib64/", "/bin/", "/sbin/", "/etc/")
_MEMORY = "/dev/shm"


class Told(Spec):
    """What the step's process itself tells of its uses, beside what it was seen to open."""

    modules: dict[str, str] = Field(default_factory=dict, description="Module of no library to its path.")
    searches: dict[str, dict[str, str]] = Field(default_factory=dict)
    libraries: tuple[str, ...] = Field((), description="Top-level names of installed libraries that were loaded.")
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
    _with_content: set[str] = field(default_factory=set)
    _with_mode: set[str] = field(default_factory=set)
    _links: dict[str, str] = field(default_factory=dict)
    _made: set[str] = field(default_factory=set)
    _may_write: set[str] = field(default_factory=set)
    _called: set[str] = field(default_factory=set)
    _variables: set[str] = field(default_factory=set)
    _libraries: set[str] = field(default_factory=set)
    _unknown: dict[str, None] = field(default_factory=dict)
    _places: Places = field(default_factory=Places)
    _of_no_account: set[tuple[type, str]] = field(default_factory=set)  # kinds of calls, and paths as asked for

    def __post_init__(self) -> None:
        bundle = self.spec.bundle
        self._peers = Peers(self.spec)
        self._bundle = f"{os.path.abspath(bundle)}/" if bundle else "\0"  # noqa: PTH100
        self._real_bundle = f"{os.path.realpath(bundle)}/" if bundle else "\0"
        self._own = _folders(self.own)
        self._temporary = _folders((tempfile.gettempdir(), "/tmp", "/var/tmp", _MEMORY))
        self._caches = _folders(f"{Path.home()}/{name}" for name in (".cache", ".config", ".local"))

    def belongs_to(self, process: int) -> None:
        """Says which process's calls are heard, with those of its children."""
        self._peers.process = process

    def heard(self, call: Call) -> None:
        """Notes a call, while it waits."""
        if isinstance(call, Connected):
            self._peers.heard(call)
        elif isinstance(call, Blinded):
            self._unknown[f"what it opens cannot be seen: it uses {call.call}"] = None
        elif isinstance(call, Listening):
            self._unknown[f"it opens port {call.at}, where others can speak to it"] = None
        elif isinstance(call, Changed):
            self._heard_change(call)
        elif call.path.startswith(TOLD_BELOW):
            self._called.add(call.path.removeprefix(TOLD_BELOW))
        elif call.path.startswith(READ_BELOW):
            self._variables.add(call.path.removeprefix(READ_BELOW))
        elif (type(call), call.path) not in self._of_no_account:
            self._heard_use(call)

    def _heard_change(self, call: Changed) -> None:
        place = self._placed(call.path, call.process, follows=call.follows)
        self._places.forget()
        self._of_no_account.clear()
        if call.makes and os.path.lexists(place.name):  # `os.makedirs(exist_ok=True)` asks for each folder on the way
            return
        if self._is_own(place.real) or self._is_elsewhere(place.real):
            if not os.path.lexists(place.real):
                self._made.add(place.real)
            elif call.follows and not self._is_own(place.real):  # its time of change will no longer say whose it is
                self._note_open(place.real, os.O_RDONLY)
        elif "/__pycache__" not in place.real and not place.real.startswith(_KERNEL):
            self._unknown[f"it changes {self._name(place.real)}, which a kept result would not do again"] = None

    def _heard_use(self, call: Opened | Looked) -> None:
        path = files.source_of(call.path)
        if isinstance(call, Opened) and call.flags is None and (interpreter := files.interpreter_of(path)):
            self._heard_use(Opened(interpreter, os.O_RDONLY, call.process))
        follows = call.follows if isinstance(call, Looked) else not (call.flags or 0) & os.O_NOFOLLOW
        place = self._placed(path, call.process, follows=follows)
        for link, target in place.crossed:
            self._note_link(self._in_bundle(link), target)
        if self._is_no_use(call, place):
            if not place.crossed and not path.startswith(_KERNEL) and (isinstance(call, Looked) or _is_system(path)):
                self._of_no_account.add((type(call), call.path))
            return
        name = self._recorded_name(place)
        if not follows:
            self._note_link(name, link_target(name))
        if isinstance(call, Looked):
            self._note_look(call, name)
        else:
            self._note_open(name, call.flags)
        is_entered = isinstance(call, Opened) or call.tells == "folder"
        if is_entered and len(self._seen.get(name) or ()) == 1:
            for link, target in place.links:  # what is asked for below the folder is told by where they lead
                self._note_link(self._in_bundle(link), target)

    def _is_no_use(self, call: Opened | Looked, place: Place) -> bool:
        """Whether a path is the step's own, the system's, or a library's, which is counted by its version."""
        if self._is_python_or_kommuna(place.name):
            if isinstance(call, Opened) and not _PYTHON.fullmatch(place.name):
                self._libraries.add(SHARED_STEPS if self._is_kommuna(place.name) else place.name)
            return True
        if isinstance(call, Looked) and (place.name.startswith(_PREFIXES) or "/__pycache__/" in f"{place.name}/"):
            return True
        if _is_system(place.name) and _is_system(place.real):
            return True
        return self._is_own(place.real) and (self._is_own(place.name) or self._is_elsewhere(place.name))

    def _recorded_name(self, place: Place) -> str:
        """The name that a path is recorded by: where it leads, if the name is the step's own, or of its process."""
        if self._is_own(place.name) or place.name.startswith(_KERNEL):
            return place.real
        return place.real if self._is_elsewhere(place.name) and not self._is_elsewhere(place.real) else place.name

    def _note_link(self, path: str, target: str) -> None:
        """Notes where a link leads, or that a path is none."""
        if path in self._links or _is_system(path):
            return
        if target or not (self._is_on_the_way(path) or self._is_elsewhere(path)):
            self._links[path] = target

    def _note_look(self, call: Looked, path: str) -> None:
        signature = files.signature(path)
        if self._is_on_the_way(path) or (signature is None and link_target(path) and not call.follows):
            return
        if call.tells == "size" and (signature is None or len(signature) > 1):
            self._with_content.add(path)
            if path.startswith(self._bundle) and not self._is_the_steps(call.process):
                self._times[path] = self._times.get(path, 0) + 1
        self._with_mode.add(path)
        self._note(path, signature)

    def _note_open(self, path: str, given_flags: int | None) -> None:
        signature = files.signature(path)
        flags = given_flags or 0
        if flags & _TEMPORARY_FILE == _TEMPORARY_FILE:  # it has no name
            return
        if flags & _WRITING and (flags & _WRITING != os.O_CREAT or signature is None):
            if "/__pycache__/" in path:
                return
            if signature is None or flags & (os.O_TRUNC | os.O_WRONLY):
                if self._is_elsewhere(path):
                    self._made.add(path)
                else:
                    self._writes(path)
                return
            self._may_write.add(path)  # such as a database that is only read: told by whether it has changed
        if given_flags is None:
            self._with_mode.add(path)
        self._with_content.add(path)
        self._times[path] = self._times.get(path, 0) + 1
        self._note(path, signature)

    def _note(self, path: str, signature: tuple[int, ...] | None) -> None:
        """Notes what is at a path now."""
        elsewhere = self._is_elsewhere(path)
        if signature is None and elsewhere and f"{path}/".startswith(self._temporary):
            return
        if (
            elsewhere and signature is not None and files.changed_at(path) >= self._began
        ):  # the step's own, by whatever call
            return
        if path not in self._seen:
            self._seen[path] = signature
        elif self._seen[path] != signature:
            self._changed(path)
        is_young = signature is not None and (len(signature) == 1 or time.time_ns() - signature[-1] < _YOUNG_NS)
        if is_young and path in self._with_content and path not in self._states:
            self._states[path] = path_state(path)

    def _placed(self, path: str, process: int, *, follows: bool) -> Place:
        """Where a path leads, by the bundle's own name."""
        place = self._places.of(path, process=process, follows=follows)
        return place._replace(name=self._in_bundle(place.name), real=self._in_bundle(place.real))

    def _is_own(self, path: str) -> bool:
        """Whether the runtime gave a path to the step, or the step made it itself."""
        return f"{path}/".startswith(self._own) or path in self._made

    def _is_the_steps(self, process: int) -> bool:
        """Whether it is the step's own process, and not one that it started, that asks.

        Python asks so for each module's path that it resolves: the size, which it is told too, means nothing to it.
        """
        return process == self._peers.process or os.path.exists(f"/proc/{self._peers.process}/task/{process}")  # noqa: PTH110

    def _is_kommuna(self, path: str) -> bool:
        return path == str(Path(_KOMMUNA).parent) or f"{path}/".startswith(f"{_KOMMUNA}/")

    def _is_python_or_kommuna(self, path: str) -> bool:
        if path.startswith(self._bundle):
            return False
        return self._is_kommuna(path) or f"{path}/".startswith(PYTHON_FOLDERS) or _PYTHON.fullmatch(path) is not None

    def _is_on_the_way(self, path: str) -> bool:
        """Whether it is a folder that is there as what counts by itself is below it."""
        inner = path.rstrip("/") + "/"
        return inner == "/" or any(
            part.startswith(inner) and part != inner
            for part in (self._bundle, self._real_bundle, *PYTHON_FOLDERS, *self._own, *self._temporary, *self._caches)
        )

    def _is_elsewhere(self, path: str) -> bool:
        """Whether a path is in a folder for temporary files or for libraries' own caches."""
        inner = f"{path}/"
        return not inner.startswith(self._bundle) and inner.startswith((*self._temporary, *self._caches))

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

    def uses(
        self, told: Told, inputs: Inputs, context: Mapping[str, Any], analyses: Analyses, *, missing: str = ""
    ) -> Uses:
        """What the step used, once its last process has ended.

        Args:
            told: by the step's own process.
            context: the fields of its StepContext.
            analyses: of the team's bundle.
            missing: why its calls were not heard, if so.
        """
        if missing:
            self._unknown[f"what the step opens cannot be seen here: {missing}"] = None
        for peer in self._peers.foreign(told.hosts, has_clients=told.has_clients):
            self._unknown[f"it asks {peer}, which is no service of the platform"] = None
        versions = self._versions(told)
        states = {self._name(path): state for path, state in self._files()}
        modules = {self._named(path) for path in told.modules.values()}
        services = self.spec.services.model_dump(mode="json")
        return Uses(
            files=states,
            links={self._name(path): target for path, target in self._links.items()},
            absent_libraries=told.absent,
            searches={
                self._named(folder): {name: self._named(path) if path else "" for name, path in names.items()}
                for folder, names in told.searches.items()
            },
            libraries=versions,
            services={name: setting(services, name) for name in told.services},
            context={name: context[name] for name in told.context},
            variables={name: variable(name) for name in sorted(self._variables) if stays(name, self.spec)},
            bytes={name: found.bytes for name, found in inputs.flat().items() if name.split(".")[0] in told.bytes},
            reached=self._reached(told, modules, analyses),
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
            if before is None and path in self._made:
                continue
            content = path in self._with_content
            state = path_state(path, content=content, mode=path in self._with_mode)
            if files.signature(path) != before or (
                content and path in self._states and path_state(path) != self._states[path]
            ):
                (self._writes if path in self._may_write else self._changed)(path)
            yield path, state if before is not None else MISSING
        for path, target in self._links.items():
            if link_target(path) != target:
                self._changed(path)

    def _changed(self, path: str) -> None:
        self._unknown[f"{self._name(path)} changed while the step ran"] = None

    def _named(self, path: str) -> str:
        """The recorded name of a path that the step's process noted."""
        return self._name(self._in_bundle(followed(path)))

    def _name(self, path: str) -> str:
        return path.removeprefix(self._bundle) if path != self._bundle.rstrip("/") else "."

    def _versions(self, told: Told) -> dict[str, str]:
        """Installed distributions that the step loaded, and those that its own modules name."""
        versions = installed()
        opened = {path for path in self._libraries if path != SHARED_STEPS}
        named = {name for path in told.modules.values() for name in _imported(path)}
        found, unclaimed = distributions_of(opened, named)
        for path in unclaimed:
            self._with_content.add(path)
            self._seen.setdefault(path, files.signature(path))
        out = {name: versions.get(name, "") for name in (*ALWAYS, *found)}
        if SHARED_STEPS in self._libraries and self.spec.function not in VERSIONS:
            out[SHARED_STEPS] = versions[SHARED_STEPS]
        return dict(sorted(out.items()))

    def _reached(self, told: Told, modules: set[str], analyses: Analyses) -> Reached | None:
        """The definitions that the step reached, where source tells; modules that it also read as text are left out."""
        bundle = self.spec.bundle
        if not bundle or not modules:
            return None
        points = tuple(point for point in told.entry_points if point.partition(":")[0] in told.modules)
        found = analyses.definitions(points, told.libraries, Path(bundle))
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


def _folders(paths: Iterable[str]) -> tuple[str, ...]:
    """Beginnings of what is below folders, also where links lead that they are called by."""
    given = [path.rstrip("/") for path in paths]
    return tuple(dict.fromkeys(f"{path}/" for path in (*given, *map(os.path.realpath, given))))


def _is_system(path: str) -> bool:
    """Whether a path is the kernel's or the operating system's."""
    inner = path.rstrip("/") + "/"
    return inner == "/" or (inner.startswith(_SYSTEM) and not inner.startswith(f"{_MEMORY}/"))


def _imported(path: str) -> Iterable[str]:
    """Top-level names that a module's source imports, wherever in it."""
    with contextlib.suppress(OSError, SyntaxError, ValueError):
        for node in ast.walk(ast.parse(Path(path).read_bytes())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]
