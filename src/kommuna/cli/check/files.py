"""Lists the files of a bundle that the platform reads, and those that it ignores although they look like DAG files."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from kommuna.airflow.isolation.listing import MAX_SOURCE, dag_files, python_files
from kommuna.cli.check.finding import Collector


def sources(bundle: Path) -> list[tuple[Path, bool]]:
    """Returns every Python file that the platform may read, and whether it may define a DAG."""
    may_define = set(dag_files(bundle))
    return [(bundle / path, path in may_define) for path in python_files(bundle)]


def find_unread(bundle: Path, found: Collector) -> None:
    """Reports files that Airflow reads elsewhere but the platform does not: archives, links, large files."""
    for name, folders, names in os.walk(bundle):
        here = Path(name)
        for entry in sorted((*folders, *names)):
            path = here / entry
            if path.is_symlink() and (path.is_dir() or path.suffix == ".py"):
                found.add(
                    path, 1, "a link: the platform does not follow links", "put the file itself there, or import it"
                )
            elif path.is_file() and path.suffix != ".py" and _holds_python(path):
                found.add(
                    path, 1, "an archive: the platform reads no DAGs from archives", "put the files themselves there"
                )
            elif path.suffix == ".py" and path.is_file() and path.stat().st_size > MAX_SOURCE:
                found.add(
                    path, 1, f"larger than {MAX_SOURCE // 1024} KiB: the platform reads no such file", "split the file"
                )
        folders[:] = [folder for folder in folders if not folder.startswith(".") and folder != "__pycache__"]


def _holds_python(path: Path) -> bool:
    """Whether Airflow would look for DAGs in a file: an archive with Python files at its top level."""
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".py") and "/" not in name for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False
