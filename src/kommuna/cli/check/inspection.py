"""The part of `kommuna check` that imports a team's code: `python -m kommuna.cli.check.inspection FOLDER RESULT`."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow.sdk import DAG
from airflow.sdk.definitions._internal.contextmanager import DagContext

from kommuna.airflow.gate import judge
from kommuna.cli.check.finding import Collector, Findings, line_of
from kommuna.cli.check.steps import StepJudge
from kommuna.errors import KommunaError
from kommuna.spec.installation import Place, place_of


class Inspector:
    """Collects the findings of one bundle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dags: dict[str, Path] = {}
        self.steps = 0
        self._found = Collector(folder)
        self._judge = StepJudge(folder, self._found)

    def run(self) -> Findings:
        """Looks at every Python file of the bundle."""
        files = sorted(path for path in self.folder.rglob("*.py") if "__pycache__" not in path.parts)
        sys.path.insert(0, str(self.folder))
        try:
            place = place_of(self.folder / "x.py")
        except KommunaError as error:
            self._found.add(self.folder, 1, error.what, error.mend)
            place = None
        for path in files:
            self._file(path, place)
        return Findings(findings=self._found.findings, files=len(files), dags=len(self.dags), steps=self.steps)

    def _file(self, path: Path, place: Place | None) -> None:
        try:
            source = path.read_text(encoding="utf-8")
            compile(source, str(path), "exec")
        except (SyntaxError, UnicodeDecodeError) as error:
            self._found.add(path, getattr(error, "lineno", None) or 1, f"not valid Python: {error}", "mend the syntax")
            return
        if place is None or not ("dag" in source.lower() and ("airflow" in source or "kommuna" in source)):
            return
        module = self._import(path)
        for dag in _dags(module):
            if Path(dag.fileloc) != path:
                continue
            if dag.dag_id in self.dags:
                self._found.add(
                    path,
                    line_of(source, dag.dag_id),
                    f"two DAGs have the id '{dag.dag_id}': the other is in {self.dags[dag.dag_id].name}",
                    "give one another id",
                )
                continue
            self.dags[dag.dag_id] = path
            self._dag(dag, path, source, place)

    def _import(self, path: Path) -> Any:
        name = f"kommuna_check_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        DagContext.current_autoregister_module_name = name  # as Airflow's own loader does
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
            what, mend = f"{type(error).__name__}: {error}", "mend the line; `python FILE` shows the whole traceback"
            if isinstance(error, KommunaError):
                what, mend = error.what, error.mend or mend
            self._found.add(path, (lines[-1] if lines else None) or 1, what, mend)
        return module

    def _dag(self, dag: Any, path: Path, source: str, place: Place) -> None:
        from kommuna.airflow.policies import facts

        lines = {task.task_id: getattr(task, "defined_at", 1) for task in dag.tasks}
        for violation in judge(facts(dag), team=place.team, platform=place.installation.platform):
            line = lines.get(violation.task_id) or line_of(source, dag.dag_id)
            self._found.add(path, line, violation.what, violation.mend)
        self._schedule(dag, path, source)
        for task in dag.tasks:
            if hasattr(task, "step_spec"):
                self.steps += 1
                self._judge.step(task, path)

    def _schedule(self, dag: Any, path: Path, source: str) -> None:
        from airflow.serialization.serialized_objects import DagSerialization

        try:
            DagSerialization.to_dict(dag)
            expression = getattr(dag, "schedule", None)
            if isinstance(expression, str) and not expression.startswith("@"):
                from croniter import croniter

                croniter(expression)
        except Exception as error:
            self._found.add(
                path, line_of(source, dag.dag_id), f"DAG '{dag.dag_id}': {error}", "see its schedule and arguments"
            )


def _dags(module: Any) -> Iterator[Any]:
    """DAGs that a file defines: module globals, and those that a template made and nobody kept."""
    seen: set[int] = set()
    kept = [value for value in vars(module).values() if isinstance(value, DAG)]
    registered = [dag for dag, made_by in DagContext.autoregistered_dags if made_by is module]
    for dag in (*kept, *registered):
        if id(dag) not in seen:
            seen.add(id(dag))
            yield dag


def main() -> None:
    """Writes the findings of a bundle."""
    Path(sys.argv[2]).write_text(Inspector(Path(sys.argv[1])).run().model_dump_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
