"""Imports a DAG file as Airflow does, and records the lines that create its DAGs and tasks."""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from airflow.sdk.definitions._internal.contextmanager import DagContext
from airflow.sdk.definitions.dag import DAG
from airflow.utils.file import get_unique_dag_module_name


class ImportTooSlow(BaseException):
    """The import takes longer than the limit. A `BaseException`, so that the file's `except Exception` misses it."""


@dataclass
class Lines:
    """The lines of a DAG file that create its DAGs and tasks."""

    file: str
    _made: dict[int, int] = field(default_factory=dict)

    def of(self, thing: Any, default: int = 1) -> int:
        """Returns the line that creates a DAG or a task."""
        return self._made.get(id(thing), default)

    def note(self, thing: Any) -> None:
        """Records the innermost line of the file that is running now."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename != self.file:
            frame = frame.f_back
        if frame is not None:
            self._made.setdefault(id(thing), frame.f_lineno)


@dataclass(frozen=True)
class Loaded:
    """The DAGs of a file, or the error of its import."""

    dags: tuple[Any, ...]
    lines: Lines
    error: BaseException | None = None


def load(path: Path, seconds: float) -> Loaded:
    """Imports a DAG file.

    Args:
        path: the file.
        seconds: the time limit of the import; 0 means none.
    """
    name = get_unique_dag_module_name(str(path))
    lines = Lines(str(path))
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    DagContext.autoregistered_dags.clear()
    DagContext.current_autoregister_module_name = name
    try:
        with _noted(lines), _at_most(seconds):
            loader.exec_module(module)
    except BaseException as error:
        return Loaded((), lines, error)
    finally:
        DagContext.current_autoregister_module_name = None
    dags = [value for value in vars(module).values() if isinstance(value, DAG)]
    dags += [dag for dag, made_by in DagContext.autoregistered_dags if made_by is module]
    unique = tuple({id(dag): dag for dag in dags}.values())
    for dag in unique:
        dag.fileloc = str(path)  # as Airflow's own importer does
    return Loaded(unique, lines)


@contextlib.contextmanager
def _noted(lines: Lines) -> Iterator[None]:
    """Records the line of each DAG and task that is created in the block."""
    make_dag, add_task = DAG.__init__, DAG.add_task

    def noting_dag(dag: Any, *arguments: Any, **options: Any) -> None:
        lines.note(dag)
        make_dag(dag, *arguments, **options)

    def noting_task(dag: Any, task: Any) -> None:
        lines.note(task)
        add_task(dag, task)

    with contextlib.ExitStack() as stack:
        for name, noting, original in (("__init__", noting_dag, make_dag), ("add_task", noting_task, add_task)):
            setattr(DAG, name, noting)
            stack.callback(setattr, DAG, name, original)
        yield


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    def too_slow(_number: int, _frame: object) -> None:
        raise ImportTooSlow

    before = signal.signal(signal.SIGALRM, too_slow)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
