"""Records a step's uses from the calls of its processes and their own report."""

from __future__ import annotations

import ast
import contextlib
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from kommuna.runtime import files
from kommuna.runtime.call_listener import Call, Changed, Connected, Inspected, Listening, Opened, Untraceable
from kommuna.runtime.environment import is_kept
from kommuna.runtime.locations import (
    KERNEL,
    MEMORY,
    PYTHON_FILES,
    PYTHON_FOLDERS,
    PYTHON_PREFIXES,
    folders_of,
    is_kommuna,
    is_python_or_kommuna,
    is_system,
)
from kommuna.runtime.peers import Peers
from kommuna.runtime.places import Places, ResolvedPath, followed
from kommuna.spec.base import Spec
from kommuna.spec.caching import CALL_MARKERS, UNCACHEABLE, duration
from kommuna.spec.step import StepSpec
from kommuna.spec.versions import VERSIONS
from kommuna.store.analyses import Analyses
from kommuna.store.distributions import SHARED_STEPS, distributions_of, installed
from kommuna.store.inputs import Inputs
from kommuna.store.searches import link_target
from kommuna.store.uses import MISSING, Reached, Uses, path_state, setting, variable

ALWAYS = ("pydantic", "pydantic-core", "pyyaml")  # they parse parameters and documents for every step
VARIABLE_MARKERS = "/proc/kommuna/read/"  # opened for each variable that the step reads; it cannot exist
_TEMPORARY_FILE = os.O_TMPFILE
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_YOUNG_NS = 20_000_000  # a file that has just changed may change again at the same tick of the file system's clock


class ReportedUses(Spec):
    """The uses that the step's process itself reports, in addition to its observed calls."""

    modules: dict[str, str] = Field(default_factory=dict, description="Modules of no library, with their paths.")
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
    """Collects a step's calls (see `CallListener`) and derives its uses from them.

    Args:
        spec: the step.
        own: folders and files that the runtime itself provided to the step.
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
    _announced: set[str] = field(default_factory=set)
    _variables: set[str] = field(default_factory=set)
    _libraries: set[str] = field(default_factory=set)
    _unknown: dict[str, None] = field(default_factory=dict)
    _places: Places = field(default_factory=Places)
    _ignored: set[tuple[type, str]] = field(default_factory=set)  # kinds of calls, and paths as asked for

    def __post_init__(self) -> None:
        bundle = self.spec.bundle
        self._peers = Peers(self.spec)
        self._bundle = f"{os.path.abspath(bundle)}/" if bundle else "\0"  # noqa: PTH100
        self._real_bundle = f"{os.path.realpath(bundle)}/" if bundle else "\0"
        self._own = folders_of(self.own)
        self._temporary = folders_of((tempfile.gettempdir(), "/tmp", "/var/tmp", MEMORY))
        self._caches = folders_of(f"{Path.home()}/{name}" for name in (".cache", ".config", ".local"))

    def set_process(self, process: int) -> None:
        """Sets the process whose calls are recorded, with those of its children."""
        self._peers.process = process

    def record(self, call: Call) -> None:
        """Records a call while it waits."""
        if isinstance(call, Connected):
            self._peers.record(call)
        elif isinstance(call, Untraceable):
            self._unknown[f"what it opens cannot be seen: it uses {call.call}"] = None
        elif isinstance(call, Listening):
            self._unknown[f"it opens port {call.at}, where other processes can connect to it"] = None
        elif isinstance(call, Changed):
            self._record_change(call)
        elif call.path.startswith(CALL_MARKERS):
            self._announced.add(call.path.removeprefix(CALL_MARKERS))
        elif call.path.startswith(VARIABLE_MARKERS):
            self._variables.add(call.path.removeprefix(VARIABLE_MARKERS))
        elif (type(call), call.path) not in self._ignored:
            self._record_use(call)

    def _record_change(self, call: Changed) -> None:
        place = self._placed(call.path, call.process, follows=call.follows)
        self._places.forget()
        self._ignored.clear()
        if call.makes and os.path.lexists(place.name):  # as `os.makedirs(exist_ok=True)` does for each parent folder
            return
        if self._is_own(place.real) or self._is_elsewhere(place.real):
            if not os.path.lexists(place.real):
                self._made.add(place.real)
            elif call.follows and not self._is_own(place.real):  # its time of change will no longer say whose it is
                self._note_open(place.real, os.O_RDONLY)
        elif "/__pycache__" not in place.real and not place.real.startswith(KERNEL):
            self._unknown[f"it changes {self._name(place.real)}, which a cached result would not repeat"] = None

    def _record_use(self, call: Opened | Inspected) -> None:
        path = files.source_of(call.path)
        if isinstance(call, Opened) and call.flags is None and (interpreter := files.interpreter_of(path)):
            self._record_use(Opened(interpreter, os.O_RDONLY, call.process))
        follows = call.follows if isinstance(call, Inspected) else not (call.flags or 0) & os.O_NOFOLLOW
        place = self._placed(path, call.process, follows=follows)
        for link, target in place.crossed:
            self._note_link(self._in_bundle(link), target)
        if self._is_no_use(call, place):
            if not place.crossed and not path.startswith(KERNEL) and (isinstance(call, Inspected) or is_system(path)):
                self._ignored.add((type(call), call.path))
            return
        name = self._recorded_name(place)
        if not follows:
            self._note_link(name, link_target(name))
        if isinstance(call, Inspected):
            self._note_look(call, name)
        else:
            self._note_open(name, call.flags)
        is_entered = isinstance(call, Opened) or call.reveals == "folder"
        if is_entered and len(self._seen.get(name) or ()) == 1:
            for link, target in place.links:  # paths below the folder depend on their targets
                self._note_link(self._in_bundle(link), target)

    def _is_no_use(self, call: Opened | Inspected, place: ResolvedPath) -> bool:
        """Whether a path belongs to the step, the system, or a library, which counts by its version."""
        if self._is_python_or_kommuna(place.name):
            if isinstance(call, Opened) and not PYTHON_FILES.fullmatch(place.name):
                self._libraries.add(SHARED_STEPS if is_kommuna(place.name) else place.name)
            return True
        if isinstance(call, Inspected) and (
            place.name.startswith(PYTHON_PREFIXES) or "/__pycache__/" in f"{place.name}/"
        ):
            return True
        if is_system(place.name) and is_system(place.real):
            return True
        return self._is_own(place.real) and (self._is_own(place.name) or self._is_elsewhere(place.name))

    def _recorded_name(self, place: ResolvedPath) -> str:
        """Returns the name that a path is recorded by: its target, if the name is the step's own or in /proc."""
        if self._is_own(place.name) or place.name.startswith(KERNEL):
            return place.real
        return place.real if self._is_elsewhere(place.name) and not self._is_elsewhere(place.real) else place.name

    def _note_link(self, path: str, target: str) -> None:
        """Records the target of a link, or that a path is not a link."""
        if path in self._links or is_system(path):
            return
        if target or not (self._is_on_the_way(path) or self._is_elsewhere(path)):
            self._links[path] = target

    def _note_look(self, call: Inspected, path: str) -> None:
        signature = files.signature(path)
        if self._is_on_the_way(path) or (signature is None and link_target(path) and not call.follows):
            return
        if call.reveals == "size" and (signature is None or len(signature) > 1):
            self._with_content.add(path)
            if path.startswith(self._bundle) and not self._is_the_steps(call.process):
                self._times[path] = self._times.get(path, 0) + 1
        self._with_mode.add(path)
        self._note(path, signature)

    def _note_open(self, path: str, given_flags: int | None) -> None:
        signature = files.signature(path)
        flags = given_flags or 0
        if flags & _TEMPORARY_FILE == _TEMPORARY_FILE:  # unnamed
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
            self._may_write.add(path)  # such as a database opened for writing but only read: compared at the end
        if given_flags is None:
            self._with_mode.add(path)
        self._with_content.add(path)
        self._times[path] = self._times.get(path, 0) + 1
        self._note(path, signature)

    def _note(self, path: str, signature: tuple[int, ...] | None) -> None:
        """Records the current state of a path."""
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

    def _placed(self, path: str, process: int, *, follows: bool) -> ResolvedPath:
        """Resolves a path; paths in the bundle get the bundle's own name."""
        place = self._places.of(path, process=process, follows=follows)
        return place._replace(name=self._in_bundle(place.name), real=self._in_bundle(place.real))

    def _is_own(self, path: str) -> bool:
        """Whether the runtime provided a path to the step, or the step created it."""
        return f"{path}/".startswith(self._own) or path in self._made

    def _is_the_steps(self, process: int) -> bool:
        """Whether an id is that of the step's own process or thread, and not of a process that it started.

        Python calls `stat` for each module's path that it resolves, but does not use the size.
        """
        return process == self._peers.process or os.path.exists(f"/proc/{self._peers.process}/task/{process}")  # noqa: PTH110

    def _is_python_or_kommuna(self, path: str) -> bool:
        if path.startswith(self._bundle):
            return False
        return is_python_or_kommuna(path)

    def _is_on_the_way(self, path: str) -> bool:
        """Whether a path is a parent of a folder that is recorded separately."""
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
        """Replaces the real path of the bundle's folder, where that is a link, by its name."""
        if path.startswith(self._real_bundle):
            return self._bundle + path[len(self._real_bundle) :]
        return self._bundle.rstrip("/") if path == self._real_bundle.rstrip("/") else path

    def _writes(self, path: str) -> None:
        self._unknown[f"it writes {self._name(path)}, which a cached result would not write again"] = None

    @property
    def is_cacheable(self) -> bool:
        """Whether the step called no function that is declared `cacheable=False`."""
        return UNCACHEABLE not in self._announced

    def uses(
        self,
        reported: ReportedUses,
        inputs: Inputs,
        context: Mapping[str, Any],
        analyses: Analyses,
        *,
        listener_fault: str = "",
    ) -> Uses:
        """Returns the step's uses. Called after its last process has ended.

        Args:
            reported: the uses that the step's own process reported.
            inputs: the step's inputs.
            context: the fields of its StepContext.
            analyses: the analyses of the team's bundle.
            listener_fault: why its calls could not be received; empty if they were.
        """
        if listener_fault:
            self._unknown[f"what the step opens cannot be seen here: {listener_fault}"] = None
        for peer in self._peers.foreign(reported.hosts, has_clients=reported.has_clients):
            self._unknown[f"it asks {peer}, which is not a service of the platform"] = None
        versions = self._versions(reported)
        states = {self._name(path): state for path, state in self._files()}
        modules = {self._named(path) for path in reported.modules.values()}
        services = self.spec.services.model_dump(mode="json")
        return Uses(
            files=states,
            links={self._name(path): target for path, target in self._links.items()},
            absent_libraries=reported.absent,
            searches={
                self._named(folder): {name: self._named(path) if path else "" for name, path in names.items()}
                for folder, names in reported.searches.items()
            },
            libraries=versions,
            services={name: setting(services, name) for name in reported.services},
            context={name: context[name] for name in reported.context},
            variables={name: variable(name) for name in sorted(self._variables) if is_kept(name, self.spec)},
            bytes={name: found.bytes for name, found in inputs.flat().items() if name.split(".")[0] in reported.bytes},
            reached=self._reached(reported, modules, analyses),
            until=self._until(),
            unknown=tuple(self._unknown),
        )

    # --- below ---------------------------------------------------------------------------------------------------

    def _until(self) -> datetime | None:
        """Returns when the first of the called functions with `expires` expires."""
        limits = [duration(limit) for limit in self._announced - {UNCACHEABLE}]
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
        """Returns the recorded name of a path that the step's process reported."""
        return self._name(self._in_bundle(followed(path)))

    def _name(self, path: str) -> str:
        return path.removeprefix(self._bundle) if path != self._bundle.rstrip("/") else "."

    def _versions(self, reported: ReportedUses) -> dict[str, str]:
        """Returns the versions of installed distributions that the step loaded or that its own modules import."""
        versions = installed()
        opened = {path for path in self._libraries if path != SHARED_STEPS}
        named = {name for path in reported.modules.values() for name in _imported(path)}
        found, unclaimed = distributions_of(opened, named)
        for path in unclaimed:
            self._with_content.add(path)
            self._seen.setdefault(path, files.signature(path))
        out = {name: versions.get(name, "") for name in (*ALWAYS, *found)}
        if SHARED_STEPS in self._libraries and self.spec.function not in VERSIONS:
            out[SHARED_STEPS] = versions[SHARED_STEPS]
        return dict(sorted(out.items()))

    def _reached(self, reported: ReportedUses, modules: set[str], analyses: Analyses) -> Reached | None:
        """Returns the definitions that the step reached, if analysis is certain; without modules also read as text."""
        bundle = self.spec.bundle
        if not bundle or not modules:
            return None
        points = tuple(point for point in reported.entry_points if point.partition(":")[0] in reported.modules)
        found = analyses.definitions(points, reported.libraries, Path(bundle))
        if found.unclear or not set(reported.modules) <= set(found.modules):
            return None
        once = {path for path, times in self._times.items() if times == 1}
        return Reached(
            digest=found.digest,
            entry_points=points,
            libraries=reported.libraries,
            modules=tuple(sorted(modules & {self._name(path) for path in once})),
            parts=dict(sorted(found.parts.items())),
        )


def _imported(path: str) -> Iterable[str]:
    """Returns top-level names that a module's source imports anywhere."""
    with contextlib.suppress(OSError, SyntaxError, ValueError):
        for node in ast.walk(ast.parse(Path(path).read_bytes())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]
