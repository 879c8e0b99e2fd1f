"""What `kommuna check` finds."""

from __future__ import annotations

from pathlib import Path

from kommuna.spec.base import Spec

_ANY_TASK = "task ?"


class Finding(Spec):
    """One thing to fix in a bundle."""

    file: str
    line: int
    what: str
    fix: str = ""


class FileReport(Spec):
    """What one file's process found.

    Attributes:
        dags: the ids of its DAGs, each with the line that makes it.
        steps: how many tasks run a step.
    """

    findings: tuple[Finding, ...] = ()
    dags: tuple[tuple[str, int], ...] = ()
    steps: int = 0


class Findings(Spec):
    """All of a bundle's."""

    findings: tuple[Finding, ...]
    files: int
    dags: int
    steps: int


class Collector:
    """Takes down findings, each once, with the file's name relative to the bundle.

    What is said of several tasks in the same words is one finding, at the first of them: it mostly has one cause.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._findings: dict[Finding, list[tuple[str, int]]] = {}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found so far."""
        return tuple(_of_tasks(finding, tasks) for finding, tasks in self._findings.items())

    def add(self, file: Path, line: int, what: str, fix: str = "", *, task: str = "") -> None:
        """Takes down one finding.

        Args:
            task: the task that it is about, where its words begin with `task 'NAME'`.
        """
        inside = file.is_relative_to(self.folder) and file != self.folder
        name = str(file.relative_to(self.folder)) if inside else str(file)
        if task:
            what, at = what.replace(f"task '{task}'", _ANY_TASK), 0
        else:
            at = line
        finding = Finding(file=name, line=at, what=_printable(what), fix=_printable(fix))
        tasks = self._findings.setdefault(finding, [])
        if task and (task, line) not in tasks:
            tasks.append((task, line))

    def take(self, report: FileReport) -> None:
        """Takes over the findings of one file."""
        self._findings.update((finding, []) for finding in report.findings)


def _of_tasks(finding: Finding, tasks: list[tuple[str, int]]) -> Finding:
    """The finding with its task named, and after it the others of which the same is said."""
    if not tasks:
        return finding
    (task, line), *others = tasks
    what = finding.what.replace(_ANY_TASK, f"task '{task}'")
    if others:
        shown = [f"'{name}'" if at == line else f"'{name}' (line {at})" for name, at in others[:8]]
        what += f"; the same of {', '.join(shown)}{' …' if len(others) > 8 else ''}"
    return finding.model_copy(update={"line": line, "what": what})


def line_of(text: str, name: str) -> int:
    """The first line that has a name, with or without the team's prefix; 1 where none has."""
    bare = name.partition("__")[2] or name
    return next((i for i, line in enumerate(text.splitlines(), 1) if name in line or f'"{bare}"' in line), 1)


def _printable(text: str) -> str:
    """Text that JSON and a terminal take, of bounded length."""
    plain = text.encode("utf-8", "backslashreplace").decode()
    return plain if len(plain) <= 2000 else f"{plain[:2000]}…"
