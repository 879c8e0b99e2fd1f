"""Explains an error in a DAG file: its line, its meaning and how to fix it."""

from __future__ import annotations

import ast
import re
import sys
import traceback
from pathlib import Path

from kommuna.cli.check.arguments import misspelt
from kommuna.cli.check.process.jobs import EndedJob
from kommuna.cli.check.process.limits import Limits
from kommuna.cli.check.process.loading import ImportTooSlow
from kommuna.errors import KommunaError, nearest

_STANDARD = "airflow.providers.standard"
# Where Airflow 3 has what removed import paths of Airflow 2 named.
_MOVED = {
    "airflow.operators.bash_operator": f"{_STANDARD}.operators.bash",
    "airflow.operators.python_operator": f"{_STANDARD}.operators.python",
    "airflow.operators.dummy_operator": f"{_STANDARD}.operators.empty (EmptyOperator)",
    "airflow.operators.dummy": f"{_STANDARD}.operators.empty (EmptyOperator)",
    "airflow.operators.email_operator": "airflow.providers.smtp.operators.smtp",
    "airflow.operators.branch_operator": f"{_STANDARD}.operators.branch",
    "airflow.operators.latest_only_operator": f"{_STANDARD}.operators.latest_only",
    "airflow.operators.dagrun_operator": f"{_STANDARD}.operators.trigger_dagrun",
    "airflow.operators.subdag": "airflow.sdk (TaskGroup)",
    "airflow.operators.subdag_operator": "airflow.sdk (TaskGroup)",
    "airflow.sensors.base_sensor_operator": "airflow.sdk (BaseSensorOperator)",
    "airflow.sensors.external_task_sensor": f"{_STANDARD}.sensors.external_task",
    "airflow.hooks.base_hook": "airflow.sdk (BaseHook)",
    "airflow.datasets": "airflow.sdk (Asset)",
    "airflow.contrib": "the provider packages, airflow.providers.…",
}
_MOVED_NAMES = {
    "days_ago": "write a fixed start_date: pendulum.datetime(2026, 1, 1)",
    "chain": "from airflow.sdk import chain",
    "cross_downstream": "from airflow.sdk import cross_downstream",
}
_MOVED_ARGUMENTS = {
    "schedule_interval": "write schedule=…",
    "timetable": "write schedule=…",
    "concurrency": "write max_active_tasks=…",
    "provide_context": "leave it out: Airflow 3 passes the context by name",
    "task_concurrency": "write max_active_tis_per_dag=…",
    "default_view": "leave it out: Airflow 3 has one view",
    "orientation": "leave it out: Airflow 3 has one view",
    "sla": "write dagrun_timeout=… at the DAG, or execution_timeout=… at the task",
}
_ALTERNATIVE = {"variable": "give `Variable.get` a default", "connection": "read it in a task"}
_SEE_TRACEBACK = "fix the line; `python FILE` shows the whole traceback"


def explain(error: BaseException, path: Path, bundle: Path, limits: Limits) -> tuple[int, str, str]:
    """Returns the line, the message and the fix for an error that the import of a DAG file raised.

    Args:
        error: what the import raised.
        path: the DAG file.
        bundle: the team's folder; paths in it are shown relative to it.
        limits: the limits that the import had.
    """
    line = _line_in(error, path)
    kind = f"{type(error).__name__}: {error}"
    if isinstance(error, KommunaError):
        return line, error.what, error.fix or _SEE_TRACEBACK
    if isinstance(error, ImportTooSlow):
        what = f"the import takes longer than {limits.seconds:g} s"
        return line, what, "move slow work (queries, requests, sleeps) from the top of the file into a task"
    if isinstance(error, MemoryError):
        what = f"the import takes more memory than {limits.memory >> 20} MiB"
        return line, what, "move large data from the top of the file into a task"
    if isinstance(error, SyntaxError):
        own = error.filename == str(path)
        place = "" if own or not error.filename else f" ({_relative(error.filename, bundle)}, line {error.lineno})"
        return (error.lineno or 1) if own else line, f"not valid Python: {error.msg}{place}", "fix the syntax"
    if isinstance(error, ModuleNotFoundError):
        return line, kind, _missing_module(error.name or "", path, bundle)
    if isinstance(error, ImportError):
        return line, kind + _similar(error), _missing_name(error)
    if isinstance(error, SystemExit):
        return line, kind, "remove it: it ends the process that reads the file"
    if secret := re.search(r"Variable (\S+) not found|conn_id `([^`]+)` isn't defined", str(error)):
        kind, name = ("variable", secret[1]) if secret[1] else ("connection", secret[2])
        what = f"the {kind} '{name}' does not exist"
        return (
            line,
            what,
            f"create it on the platform, which must be up for this check to find it; or {_ALTERNATIVE[kind]}",
        )
    named = re.search(r"unexpected keyword argument '(\w+)'|Invalid arguments were passed.*?'(\w+)'", str(error), re.S)
    moved = next(filter(None, named.groups()), "") if named else ""
    if isinstance(error, TypeError) and moved not in _MOVED_ARGUMENTS and (argument := misspelt(error, path)):
        return line, argument, "fix the name"
    return line, kind, _MOVED_ARGUMENTS.get(moved, _SEE_TRACEBACK)


def explain_end(ended: EndedJob, source: bytes, limits: Limits) -> tuple[int, str, str]:
    """Returns the line, the message and the fix for a file whose process left no result.

    Args:
        ended: how the process ended, and what it printed last.
        source: the file's content, in which a call of `os._exit` is looked for.
        limits: the limits that the import had.
    """
    printed = f"; it printed {ended.printed >> 20} MiB meanwhile" if ended.printed > 1 << 20 else ""
    if ended.reason == "time" or ended.code == -24:  # SIGXCPU
        what = f"the file was stopped after {2 * limits.seconds:g} s{printed}"
        return 1, what, "move slow work from the top of the file into a task"
    if ended.reason == "processes":
        return 1, "the file keeps starting processes", "start none at the top of the file: do it in a task"
    if ended.reason == "memory" or ended.code == -9:
        what = f"the file takes more memory than {limits.memory >> 20} MiB{printed}"
        return 1, what, "move large data from the top of the file into a task"
    if ended.code == -25:  # SIGXFSZ
        return 1, "the file writes more than 64 MiB to disk", "write files in a task"
    line = _line_of_exit(source)
    if line:
        return line, f"os._exit ends the process that reads the file (exit code {ended.code})", "remove it"
    how = f"signal {-ended.code}" if ended.code < 0 else f"exit code {ended.code}"
    last = ended.last.splitlines()[-1][:300] if ended.last else "it printed nothing"
    return 1, f"the file ends the process that reads it ({how}): {last}", "run the file with python"


def _line_in(error: BaseException, path: Path) -> int:
    """Returns the innermost line of the file in an error's traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno or 1 for frame in reversed(frames) if frame.filename == str(path)), 1)


def _missing_module(name: str, path: Path, bundle: Path) -> str:
    for old, new in _MOVED.items():
        if name == old or name.startswith(f"{old}."):
            return f"Airflow 3 has it in {new}"
    head = name.partition(".")[0]
    beside = path.parent / head
    if path.parent != bundle and (beside.with_suffix(".py").is_file() or beside.is_dir()):
        package = ".".join(path.parent.relative_to(bundle).parts)
        return f"imports start at the bundle's folder: write `from {package} import {head}`"
    if name.startswith("airflow.providers."):
        package = "-".join(name.split(".")[2:3])
        return f"the provider is not installed: ask MLOps to add apache-airflow-providers-{package} to the image"
    if name.startswith("airflow."):
        return "Airflow 3 has no such module: see its guide to upgrading from Airflow 2"
    similar = nearest(name, [p.stem for p in bundle.glob("*.py")] + list(sys.stdlib_module_names))
    return (
        f"the library '{head}' is not installed{similar}: a team's own module must be in its bundle; for a library ask"
        " MLOps to add it to the image, or run the step in your own image (ImageOperator)"
    )


def _missing_name(error: ImportError) -> str:
    wanted = re.search(r"cannot import name '(\w+)'", str(error))
    if wanted and wanted[1] in _MOVED_NAMES and (error.name or "").startswith("airflow"):
        return f"Airflow 3: {_MOVED_NAMES[wanted[1]]}"
    return _SEE_TRACEBACK


def _similar(error: ImportError) -> str:
    wanted = re.search(r"cannot import name '(\w+)'", str(error))
    module = sys.modules.get(error.name or "")
    return nearest(wanted[1], dir(module)) if wanted and module else ""


def _line_of_exit(source: bytes) -> int:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return 0
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    names = (call for call in calls if getattr(call.func, "attr", getattr(call.func, "id", "")) in ("_exit", "abort"))
    return min((call.lineno for call in names), default=0)


def _relative(file: str, bundle: Path) -> str:
    return str(Path(file).relative_to(bundle)) if Path(file).is_relative_to(bundle) else file
