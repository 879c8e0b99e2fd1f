"""Checks a DAG: the admission rules, whether Airflow can store it, its params, templates and steps."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from kommuna.airflow.admission.policies import complete, facts
from kommuna.airflow.admission.rules import judge
from kommuna.airflow.operators.mapped import samples
from kommuna.airflow.operators.params import default_mistakes
from kommuna.airflow.operators.references import is_step
from kommuna.cli.check.finding import Collector, line_of
from kommuna.cli.check.judges.steps import StepJudge
from kommuna.cli.check.judges.templates import template_mistakes
from kommuna.cli.check.process.loading import Lines
from kommuna.errors import KommunaError, nearest
from kommuna.spec.installation import Place

_PRESETS = ("@once", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
_WRONG_TYPE = "an argument has a value of the wrong type: "


class DagJudge:
    """Checks the DAGs of one file.

    Args:
        path: the file.
        source: the file's text.
        lines: the lines that create its DAGs and tasks.
        place: the file's team and bundle.
        found: collects the findings.
    """

    def __init__(self, path: Path, source: str, lines: Lines, place: Place, found: Collector) -> None:
        self._path = path
        self._source = source
        self._lines = lines
        self._place = place
        self._found = found
        self._steps = StepJudge(place.bundle, path, lines, found)
        self.steps = 0

    def line(self, dag: Any) -> int:
        """Returns the line that creates a DAG."""
        return self._lines.of(dag, line_of(self._source, dag.dag_id))

    def judge(self, dag: Any) -> None:
        """Adds findings about everything that is wrong with a DAG."""
        try:
            self._judge(dag)
        except (TypeError, ValueError, AttributeError) as error:  # Airflow accepts arguments of any type
            self._add(dag, _WRONG_TYPE + _first_line(error), "correct the argument")
        except KommunaError as error:
            self._add(dag, error.what, error.fix or "correct the argument")

    def _judge(self, dag: Any) -> None:
        if self._has_cycle(dag):
            return
        complete(dag, self._place)
        tasks = {task.task_id: self._lines.of(task, self.line(dag)) for task in dag.tasks}
        for violation in judge(facts(dag), team=self._place.team, platform=self._place.installation.platform):
            line = tasks.get(violation.task_id, self.line(dag))
            self._found.add(self._path, line, violation.what, violation.fix, task=violation.task_id)
        self._storing(dag)
        for mistake in default_mistakes(dag, self._place.bundle).values():
            self._add(dag, mistake.what, mistake.fix)
        dag.resolve_template_files()
        for task in dag.tasks:
            line = self._lines.of(task, self.line(dag))
            for what, fix in template_mistakes(task):
                self._found.add(self._path, line, f"task '{task.task_id}': {what}", fix, task=task.task_id)
            if is_step(task):
                self.steps += 1
                for sample in samples(task, partial(self._refused, task, line)):
                    self._steps.judge(sample, line)

    def _refused(self, task: Any, line: int, error: Exception) -> None:
        """Adds a finding about a mapped step whose task cannot be made from the mapped values."""
        what, fix = f"{type(error).__name__}: {' '.join(str(error).split())}", ""
        if isinstance(error, KommunaError):
            what, fix = error.what, error.fix
        what = f"task '{task.task_id}': {what}"
        self._found.add(self._path, line, what, fix or "correct the values that it is mapped over", task=task.task_id)

    def _has_cycle(self, dag: Any) -> bool:
        cycle = _cycle(dag)
        if cycle:
            self._found.add(
                self._path,
                max(self._lines.of(dag.get_task(task_id), self.line(dag)) for task_id in cycle),
                f"DAG '{dag.dag_id}' has a cycle: {' >> '.join((*cycle, cycle[0]))}",
                "drop one of these dependencies",
            )
        return bool(cycle)

    def _storing(self, dag: Any) -> None:
        """Stores a DAG and plans its first run as the platform does, and reports errors."""
        from airflow.exceptions import AirflowTimetableInvalid
        from airflow.serialization.serialized_objects import DagSerialization, LazyDeserializedDAG

        schedule = getattr(dag, "schedule", None)
        fix = f"write five fields ('0 3 * * *') or one of {', '.join(_PRESETS)}"
        try:
            dag.validate()
            data = DagSerialization.to_dict(dag)
            stored = LazyDeserializedDAG.model_construct(data=data, last_loaded=None)
            planned = stored.next_dagrun_info(last_automated_run_info=None)
            if planned is None and isinstance(schedule, str) and schedule != "@once" and dag.end_date is None:
                self._add(dag, f"the schedule '{schedule}' never occurs", fix)
        except AirflowTimetableInvalid as error:
            hint = nearest(schedule, _PRESETS) if isinstance(schedule, str) else ""
            self._add(dag, f"the schedule '{schedule}' cannot be read{hint}: {_first_line(error)}", fix)
        except Exception as error:
            self._add(dag, _first_line(error.__cause__ or error), "fix the argument that it names")

    def _add(self, dag: Any, what: str, fix: str) -> None:
        self._found.add(self._path, self.line(dag), f"DAG '{dag.dag_id}': {what}", fix)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _cycle(dag: Any) -> list[str]:
    """Returns the tasks of a cycle in their order; empty if there is none."""
    done: set[str] = set()
    for start in dag.task_dict:
        path: list[str] = []
        todo = [(start, iter(sorted(dag.task_dict[start].downstream_task_ids)))]
        if start in done:
            continue
        path.append(start)
        while todo:
            task_id, below = todo[-1]
            following = next((name for name in below if name not in done), None)
            if following is None:
                done.add(task_id)
                todo.pop()
                path.pop()
            elif following in path:
                return path[path.index(following) :]
            elif following in dag.task_dict:
                path.append(following)
                todo.append((following, iter(sorted(dag.task_dict[following].downstream_task_ids))))
    return []
