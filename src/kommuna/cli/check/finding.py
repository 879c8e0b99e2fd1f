"""The findings of `kommuna check`, as data."""

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
    """The result of one file's process.

    Attributes:
        findings: what to fix in the file.
        dags: the ids of its DAGs, each with the line that creates it.
        steps: the number of tasks that run a step.
    """

    findings: tuple[Finding, ...] = ()
    dags: tuple[tuple[str, int], ...] = ()
    steps: int = 0


class BundleFindings(Spec):
    """The findings of a bundle, with the numbers of its files, DAGs and steps."""

    findings: tuple[Finding, ...]
    files: int
    dags: int
    steps: int


class Collector:
    """Collects findings without duplicates, with file names relative to the bundle.

    The same finding about several tasks is reported once, at the first of them, since it mostly has one cause.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._findings: dict[Finding, list[tuple[str, int]]] = {}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings so far."""
        return tuple(_of_tasks(finding, tasks) for finding, tasks in self._findings.items())

    def add(self, file: Path, line: int, what: str, fix: str = "", *, task: str = "") -> None:
        """Adds a finding.

        Args:
            file: the file, absolute.
            line: the line in the file.
            what: what is wrong.
            fix: how to fix it.
            task: the task that it is about, if its message begins with `task 'NAME'`.
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
        """Adds the findings of one file."""
        self._findings.update((finding, []) for finding in report.findings)


def _of_tasks(finding: Finding, tasks: list[tuple[str, int]]) -> Finding:
    """Returns the finding with its first task named, followed by the other tasks with the same finding."""
    if not tasks:
        return finding
    (task, line), *others = tasks
    what = finding.what.replace(_ANY_TASK, f"task '{task}'")
    if others:
        shown = [f"'{name}'" if at == line else f"'{name}' (line {at})" for name, at in others[:8]]
        what += f"; the same for {', '.join(shown)}{' …' if len(others) > 8 else ''}"
    return finding.model_copy(update={"line": line, "what": what})


def line_of(text: str, name: str) -> int:
    """Returns the first line that contains a name, with or without the team's prefix; 1 if there is none.

    Args:
        text: the source.
        name: the id of a DAG or of a task.
    """
    bare = name.partition("__")[2] or name
    return next((i for i, line in enumerate(text.splitlines(), 1) if name in line or f'"{bare}"' in line), 1)


def _printable(text: str) -> str:
    """Returns a text of bounded length that JSON and a terminal accept."""
    plain = text.encode("utf-8", "backslashreplace").decode()
    return plain if len(plain) <= 2000 else f"{plain[:2000]}…"
