"""Uses: what a step's process used in addition to the question, and whether it is unchanged.

Uses are recorded while the step runs (`kommuna.runtime.recording`), stored in the manifest, and compared with the
present before a result is reused. A use that cannot be compared makes the result uncacheable.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from kommuna.spec.base import Spec
from kommuna.spec.step import StepSpec
from kommuna.spec.words import shown
from kommuna.store.analyses import Analyses
from kommuna.store.definitions import Definitions
from kommuna.store.digests import NONE, file_digest
from kommuna.store.distributions import installed, library_folders
from kommuna.store.searches import ABSENT, link_target, module_in

if TYPE_CHECKING:
    from kommuna.store.inputs import Inputs

_ROUNDS = 200_000  # a tenth of a second
MISSING, FOLDER, FILE = "missing", "folder", "file"
_EXECUTABLE, _PLAIN = " executable", " plain"


class Reached(Spec):
    """The definitions that a step reached, so that changes elsewhere in their modules do not count."""

    digest: str
    entry_points: tuple[str, ...]
    libraries: tuple[str, ...]
    modules: tuple[str, ...] = Field(description="Paths of modules that were read for nothing but their import.")
    parts: dict[str, str] = Field(default_factory=dict, description="Path of a module to a digest of its definitions.")

    def which_count(self, changed: Collection[str], digest: str, parts: Mapping[str, str]) -> list[str]:
        """Returns the changed files that may change the step's result.

        Args:
            changed: paths of changed files.
            digest: digest of the definitions that are reached now.
            parts: digests of those definitions by module.
        """
        modules = set(changed) & set(self.modules)
        if digest == self.digest:
            return [path for path in changed if path not in modules]
        same = {path for path in modules if path in self.parts and self.parts[path] == parts.get(path)}
        # The definitions differ, so at least one of the modules counts.
        return [path for path in changed if path not in same or same == modules]


class Uses(Spec):
    """What a step's process used. Paths in the bundle are relative to it, others absolute."""

    files: dict[str, str] = Field(
        default_factory=dict,
        description="Path to SHA-256 of the content, or `file` where that does not count, and whether it is executable "
        "where it was looked at; `folder`, and a digest of the names in it where it was listed; `missing`.",
    )
    links: dict[str, str] = Field(
        default_factory=dict, description="Link to its target; a path that was no link to nothing."
    )
    searches: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="Folder to module name to the path that an import found, or empty."
    )
    libraries: dict[str, str] = Field(default_factory=dict, description="Distribution to version.")
    absent_libraries: tuple[str, ...] = Field((), description="Modules that it looked for and found nowhere.")
    services: dict[str, Any] = Field(default_factory=dict, description="Dotted name of a service's setting to value.")
    context: dict[str, Any] = Field(default_factory=dict, description="Field of the StepContext to value.")
    variables: dict[str, str] = Field(
        default_factory=dict, description="Environment variable that its own code read to a digest; empty if not set."
    )
    bytes: dict[str, str] = Field(
        default_factory=dict, description="Input, of which the question has the document, to SHA-256 of its bytes."
    )
    reached: Reached | None = Field(None, description="None where source alone does not tell.")
    until: datetime | None = Field(None, description="When what it called, and says `expires`, is no longer as it was.")
    unknown: tuple[str, ...] = Field((), description="What cannot be held against the present: nothing is cacheable.")


@dataclass(frozen=True)
class Present:
    """The present state that recorded uses are compared with."""

    bundle: str
    services: Mapping[str, Any]
    context: Mapping[str, Any]
    inputs: Inputs
    analyses: Analyses
    _states: dict[tuple[str, bool, bool], str] = field(default_factory=dict)
    _definitions: dict[tuple[Any, ...], Definitions] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: StepSpec, inputs: Inputs, context: Mapping[str, Any], analyses: Analyses) -> Present:
        """Creates the present state for a step that is about to run."""
        return cls(spec.bundle, spec.services.model_dump(mode="json"), context, inputs, analyses)

    def path(self, name: str) -> str:
        """Returns the absolute path of a recorded one."""
        return os.path.normpath(os.path.join(self.bundle, name))  # noqa: PTH118  # an absolute one stays

    def state(self, name: str, was: str) -> str:
        """Returns the present state of a path in the detail of its recorded state. It is cached."""
        content = was not in (MISSING, FOLDER) and not was.startswith(FILE)
        mode = was.endswith((_EXECUTABLE, _PLAIN))
        key = name, content, mode
        if key not in self._states:
            self._states[key] = path_state(self.path(name), content=content, mode=mode)
        return self._states[key]

    def definitions(self, reached: Reached) -> Definitions:
        """Returns the definitions that the recorded entry points reach now. They are cached."""
        key = reached.entry_points, reached.libraries
        if key not in self._definitions:
            self._definitions[key] = self.analyses.definitions(*key, Path(self.bundle), self._digest)
        return self._definitions[key]

    def _digest(self, name: str) -> str:
        """Returns the SHA-256 of a file, from the cached state if there is one."""
        with_mode = self._states.get((name, True, True))
        return with_mode.partition(" ")[0] if with_mode else self.state(name, "")


def changes(uses: Uses, present: Present) -> Iterator[str]:
    """Describes the uses that have changed. Ignores `unknown`."""
    files = {name: present.state(name, was) for name, was in uses.files.items()}
    changed = [name for name, now in files.items() if now != uses.files[name]]
    reached = uses.reached
    if reached is not None and not set(changed).isdisjoint(reached.modules):
        now = present.definitions(reached)
        changed = changed if now.unclear else reached.which_count(changed, now.digest, now.parts)
    for name in changed:
        yield _file_change(name, uses.files[name], files[name])
    for name, target in uses.links.items():
        if (now_target := link_target(present.path(name))) != target:
            yield _link_change(name, target, now_target)
    for folder, names in uses.searches.items():
        for name, was in names.items():
            now_found = module_in(present.path(folder), name)
            if now_found != (present.path(was) if was != ABSENT else ABSENT):
                found = os.path.relpath(now_found, present.bundle or "/") if now_found else "nothing"
                yield f"`import {name}` finds {found} instead of {was or 'nothing in the bundle'}"
    versions = installed()
    for name, was in uses.libraries.items():
        if versions.get(name) != was:
            yield f"{name} {was or '?'} → {versions.get(name) or 'not installed'}"
    for name in uses.absent_libraries:
        if any(module_in(folder, name) for folder in library_folders()):
            yield f"{name} is installed now"
    for name, was in uses.services.items():
        now_value = setting(present.services, name)
        if now_value != was:
            yield f"services.{name}: {shown(was)} → {shown(now_value)}"
    for name, was in uses.context.items():
        if present.context.get(name) != was:
            yield f"the step reads context.{name}: {shown(was)} → {shown(present.context.get(name))}"
    for name, was in uses.variables.items():
        if variable(name) != was:
            yield f"the environment variable {name}, which the step reads"
    flat = present.inputs.flat()
    for name, was in uses.bytes.items():
        if (flat[name].bytes if name in flat else NONE) != was:
            yield f"the bytes of input '{name}', which the step reads by itself"


def path_state(path: str, *, content: bool = True, mode: bool = False) -> str:
    """Describes what is at a path, with links resolved: a file, a folder, or `missing`.

    Args:
        path: an absolute path.
        content: whether to include the SHA-256 of a file's content, or a digest of the names in a folder.
        mode: whether to include that a file can be executed.
    """
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return MISSING
    try:
        if stat.S_ISDIR(found.st_mode):
            return f"{FOLDER} {_folder_digest(path)}" if content else FOLDER
        state = file_digest(Path(path)) if content and stat.S_ISREG(found.st_mode) else FILE
    except OSError as error:
        return f"unreadable: {error.strerror}"
    return state + (_EXECUTABLE if found.st_mode & 0o111 else _PLAIN) if mode else state


def variable(name: str) -> str:
    """Returns a digest of an environment variable, slow so that no secret can be guessed; empty if it is not set."""
    value = os.environ.get(name)
    return "" if value is None else _slow_digest(name, value)


@functools.cache
def _slow_digest(name: str, value: str) -> str:
    raw = value.encode("utf-8", "surrogateescape")
    return hashlib.pbkdf2_hmac("sha256", raw, f"kommuna {name}".encode(), _ROUNDS).hex()


def _folder_digest(folder: str) -> str:
    """Returns a digest of the names and types in a folder, without `__pycache__`."""
    with os.scandir(folder) as entries:
        found = sorted(
            (entry.name, "@" if entry.is_symlink() else "/" if entry.is_dir() else "")
            for entry in entries
            if entry.name != "__pycache__"
        )
    return hashlib.sha256(json.dumps(found).encode("utf-8", "surrogateescape")).hexdigest()


def _link_change(name: str, was: str, now: str) -> str:
    if not was:
        return f"{name} is a link now"
    return f"the link {name} leads to {now} instead of {was}" if now else f"{name} is no longer a link"


def _file_change(name: str, was: str, now: str) -> str:
    if was == MISSING:
        return f"{name} is there now"
    if now == MISSING:
        return f"{name} is gone"
    if was.startswith(FOLDER) and now.startswith(FOLDER):
        return f"names or sizes changed in {'the bundle' if name == '.' else name}, which the step lists"
    return f"{name} changed" if not now.startswith("unreadable") else f"{name} is {now}"


def setting(document: Mapping[str, Any], dotted: str) -> Any:
    """Returns a value in nested mappings by its dotted name; None where it is not set."""
    value: Any = document
    for part in dotted.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
