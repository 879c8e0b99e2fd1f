"""Finds the file, and so the team, on whose behalf an object of Airflow is made."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import kommuna
from kommuna.errors import KommunaError
from kommuna.spec.installation import Place, place_of

PATCHED = "_kommuna_patched"  # marks functions of Airflow that fill in the team
_KOMMUNA = str(Path(kommuna.__file__).parent)
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")})

parsed: Place | None = None  # the place of the DAG that this process accepted last; a task's process has one DAG


def remember(place: Place) -> None:
    """Keeps the place of a DAG file for templates, which are rendered when no code of the file is running."""
    global parsed
    parsed = place


def calling_file() -> tuple[str, Place | None]:
    """Finds the file that creates a DAG, and its team: the nearest caller in a bundle, even through a library."""
    nearest = ""
    for file in _callers(sys._getframe(1)):
        nearest = nearest or file
        if file.startswith(_LIBRARIES):
            continue
        try:
            return file, place_of(file)
        except KommunaError:
            continue
    return nearest, None


def _callers(frame: FrameType | None) -> Iterator[str]:
    """Yields the files of the callers, the nearest first, without Kommuna's own and code that is in no file."""
    before = ""
    while frame is not None:
        file = frame.f_code.co_filename
        if file != before and not file.startswith((_KOMMUNA, "<")):
            yield file
        before, frame = file, frame.f_back
