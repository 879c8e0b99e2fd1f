"""Uses: what a step's process used in addition to the question, as it is recorded.

Uses are recorded while the step runs (`kommuna.runtime.recording`), stored in the manifest, and compared with the
present (`kommuna.store.present`) before a result is reused. A use that cannot be compared makes the result uncacheable.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import stat
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from kommuna.spec.base import Spec
from kommuna.store.digests import file_digest

_ROUNDS = 200_000  # a tenth of a second
MISSING, FOLDER, FILE = "missing", "folder", "file"
EXECUTABLE, PLAIN = " executable", " plain"


class Reached(Spec):
    """The definitions that a step reached, so that changes elsewhere in their modules do not count."""

    digest: str
    entry_points: tuple[str, ...]
    libraries: tuple[str, ...]
    modules: tuple[str, ...] = Field(description="Paths of modules that were read only to be imported.")
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
        description="Path to its state: SHA-256 of the content, or `file` if only its existence matters, and whether "
        "it is executable if that was checked; `folder`, with a digest of its names if it was listed; or `missing`.",
    )
    links: dict[str, str] = Field(
        default_factory=dict, description="Link to its target; a path that was not a link to the empty text."
    )
    searches: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="Folder to module name to the path that an import found, or empty."
    )
    libraries: dict[str, str] = Field(default_factory=dict, description="Distribution to version.")
    absent_libraries: tuple[str, ...] = Field((), description="Modules that were imported but not found.")
    services: dict[str, Any] = Field(default_factory=dict, description="Dotted name of a service's setting to value.")
    context: dict[str, Any] = Field(default_factory=dict, description="Field of the StepContext to value.")
    variables: dict[str, str] = Field(
        default_factory=dict, description="Environment variable that its own code read to a digest; empty if not set."
    )
    bytes: dict[str, str] = Field(
        default_factory=dict, description="Input whose document is in the question, to SHA-256 of its bytes."
    )
    reached: Reached | None = Field(None, description="None if it cannot be determined from the source.")
    until: datetime | None = Field(
        None, description="When a function that it called and that declares `expires` expires."
    )
    unknown: tuple[str, ...] = Field(
        (), description="Uses that cannot be compared with the present, so the result is not cacheable."
    )


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
    return state + (EXECUTABLE if found.st_mode & 0o111 else PLAIN) if mode else state


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


def setting(document: Mapping[str, Any], dotted: str) -> Any:
    """Returns a value in nested mappings by its dotted name; None where it is not set.

    Args:
        document: the nested mappings.
        dotted: keys joined by dots.
    """
    value: Any = document
    for part in dotted.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
