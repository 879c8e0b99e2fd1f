"""Lists the DAG files of a bundle, without running its code and without following links."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pathspec

MAX_SOURCE = 1024 * 1024  # bytes of a DAG file
MAX_IGNORE = 64 * 1024
MAX_DAG_FILES = 2000
IGNORE_FILE = ".airflowignore"


def dag_files(bundle: Path) -> list[Path]:
    """Returns the relative paths of the Python files that may define a DAG.

    Links are left out: a link to /proc/self/environ would be read and shown as a DAG's code. So are archives. As in
    Airflow, an `.airflowignore` applies to its own folder and those below.
    """
    return [path for path in python_files(bundle) if _may_define_dag(bundle / path)][:MAX_DAG_FILES]


def python_files(bundle: Path) -> list[Path]:
    """Returns the relative paths of the bundle's Python files, without links and ignored files."""
    found: list[Path] = []
    ignoring: dict[Path, pathspec.PathSpec[Any]] = {}
    for name, folders, names in os.walk(bundle):
        here = Path(name)
        ignoring[here] = _ignored(bundle, here)
        folders[:] = sorted(
            folder
            for folder in folders
            if not folder.startswith(".") and folder != "__pycache__" and not _is_ignored(here / folder, True, ignoring)
        )
        for file in sorted(names):
            path = here / file
            plain = file.endswith(".py") and not path.is_symlink() and path.is_file()
            if plain and not _is_ignored(path, False, ignoring):
                found.append(path.relative_to(bundle))
    return found


def is_plain(bundle: Path, relative: str | Path) -> bool:
    """Whether a path of a bundle is a regular file that is reached without a link."""
    path = bundle.resolve() / relative
    return path.is_file() and path.resolve() == path


def airflow_may_read(file_path: str, zip_file: object = None) -> bool:
    """Serves as Airflow's `[core] might_contain_dag_callable`, with the same choice of files as `dag_files`.

    Args:
        file_path: the path of a file in a bundle or in an archive.
        zip_file: the archive, if any; files of archives are never read.
    """
    path = Path(file_path)
    if zip_file is not None or path.suffix != ".py" or path.stat().st_size > MAX_SOURCE:
        return False
    within = next((path.relative_to(root) for root in _bundle_folders() if path.is_relative_to(root)), Path(path.name))
    links = any(path.parents[depth].is_symlink() for depth in range(len(within.parts) - 1)) or path.is_symlink()
    return not links and _may_define_dag(path)


@functools.cache
def _bundle_folders() -> tuple[Path, ...]:
    from airflow.configuration import conf

    bundles = conf.getjson("dag_processor", "dag_bundle_config_list", fallback=[])
    assert isinstance(bundles, list)
    return tuple(Path(bundle["kwargs"]["path"]) for bundle in bundles if "path" in bundle.get("kwargs", {}))


def _may_define_dag(path: Path) -> bool:
    """Whether a file mentions Airflow and a DAG: Airflow's heuristic. Too large files pass, to be refused later."""
    with path.open("rb") as file:
        content = file.read(MAX_SOURCE + 1).lower()
    return len(content) > MAX_SOURCE or (b"airflow" in content and (b"dag" in content or b"asset" in content))


def _is_ignored(path: Path, folder: bool, ignoring: Mapping[Path, pathspec.PathSpec[Any]]) -> bool:
    """Whether an ignore file of a parent folder matches a path."""
    return any(
        ignoring[above].match_file(f"{path.relative_to(above)}{'/' if folder else ''}")
        for above in path.parents
        if above in ignoring
    )


def _ignored(bundle: Path, folder: Path) -> pathspec.PathSpec[Any]:
    path = folder / IGNORE_FILE
    lines: list[str] = []
    if is_plain(bundle, path.relative_to(bundle)) and path.stat().st_size <= MAX_IGNORE:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return pathspec.PathSpec.from_lines("gitwildmatch", lines)
