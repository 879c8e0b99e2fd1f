"""The present state of what an earlier run used, and what of it has changed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kommuna.spec.step import StepSpec
from kommuna.spec.words import shown
from kommuna.store.analyses import Analyses
from kommuna.store.definitions import Definitions
from kommuna.store.digests import NONE
from kommuna.store.distributions import installed, library_folders
from kommuna.store.inputs import Inputs
from kommuna.store.searches import ABSENT, link_target, module_in
from kommuna.store.uses import EXECUTABLE, FILE, FOLDER, MISSING, PLAIN, Reached, Uses, path_state, setting, variable


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
        """Creates the present state for a step that is about to run.

        Args:
            spec: the step.
            inputs: its inputs.
            context: the run's context as JSON.
            analyses: analyses the bundle's code, with the store's cache.
        """
        return cls(spec.bundle, spec.services.model_dump(mode="json"), context, inputs, analyses)

    def path(self, name: str) -> str:
        """Returns the absolute path of a recorded one."""
        return os.path.normpath(os.path.join(self.bundle, name))  # noqa: PTH118  # an absolute one stays

    def state(self, name: str, was: str) -> str:
        """Returns the present state of a path in the detail of its recorded state. It is cached.

        Args:
            name: the recorded path, relative to the bundle or absolute.
            was: its recorded state, which says whether content and mode count.
        """
        content = was not in (MISSING, FOLDER) and not was.startswith(FILE)
        mode = was.endswith((EXECUTABLE, PLAIN))
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
