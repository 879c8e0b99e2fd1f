"""The DAG files of a bundle, found without running anything in it, and without following a link."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pathspec

MAX_SOURCE = 1024 * 1024  # bytes of a DAG file
MAX_IGNORE = 64 * 1024
MAX_DAG_FILES = 2000
IGNORE_FILE = ".airflowignore"


def dag_files(bundle: Path) -> list[Path]:
    """Relative paths of the Python files that may define a DAG.

    Links are left out: one to /proc/self/environ would be read, and shown as a DAG's code. So are archives. The
    bundle's own `.airflowignore` counts, those in sub-folders do not.
    """
    ignored = _ignored(bundle)
    found = [path for path in _python_files(bundle) if not ignored.match_file(path) and _may_define_dag(bundle / path)]
    return found[:MAX_DAG_FILES]


def is_plain(bundle: Path, relative: str | Path) -> bool:
    """Whether a path of a bundle is a file, and is where it seems to be."""
    path = bundle.resolve() / relative
    return path.is_file() and path.resolve() == path


def _python_files(bundle: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(bundle):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        for name in sorted(names):
            path = Path(here, name)
            if name.endswith(".py") and not path.is_symlink() and path.is_file():
                yield path.relative_to(bundle)


def _may_define_dag(path: Path) -> bool:
    """Airflow's own guess: the file speaks of Airflow and of a DAG. A file too large is listed, to be refused."""
    with path.open("rb") as file:
        content = file.read(MAX_SOURCE + 1).lower()
    return len(content) > MAX_SOURCE or (b"airflow" in content and (b"dag" in content or b"asset" in content))


def _ignored(bundle: Path) -> pathspec.PathSpec[Any]:
    path = bundle / IGNORE_FILE
    lines: list[str] = []
    if is_plain(bundle, IGNORE_FILE) and path.stat().st_size <= MAX_IGNORE:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return pathspec.PathSpec.from_lines("gitwildmatch", lines)
