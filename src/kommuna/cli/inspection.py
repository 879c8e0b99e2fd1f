"""The part of `kommuna check` that imports a team's code: `python -m kommuna.cli.inspection FOLDER RESULT`."""

from __future__ import annotations

import importlib.util
import sys
import traceback
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from airflow.sdk import DAG
from airflow.sdk.definitions._internal.contextmanager import DagContext

from kommuna.airflow.gate import judge
from kommuna.cli.finding import Finding, Findings
from kommuna.errors import KommunaError, nearest
from kommuna.runtime.binding import Signature, find_function, find_step
from kommuna.spec.installation import Place, place_of
from kommuna.spec.rules import RuleSet

_STEP, _OUTPUT, _MODEL = "kommuna_step", "kommuna_output", "kommuna_model"


class Inspector:
    """Collects the findings of one bundle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.findings: list[Finding] = []
        self.dags: dict[str, Path] = {}
        self.steps = 0
        self._rules: dict[str, RuleSet | None] = {}

    def run(self) -> Findings:
        """Looks at every Python file of the bundle."""
        files = sorted(path for path in self.folder.rglob("*.py") if "__pycache__" not in path.parts)
        sys.path.insert(0, str(self.folder))
        try:
            place = place_of(self.folder / "x.py")
        except KommunaError as error:
            self._add(self.folder, 1, error.what, error.mend)
            place = None
        for path in files:
            self._file(path, place)
        unique = list(dict.fromkeys(self.findings))
        return Findings(findings=tuple(unique), files=len(files), dags=len(self.dags), steps=self.steps)

    def _add(self, file: Path, line: int, what: str, mend: str = "") -> None:
        name = (
            str(file.relative_to(self.folder))
            if file.is_relative_to(self.folder) and file != self.folder
            else str(file)
        )
        self.findings.append(Finding(file=name, line=line, what=what, mend=mend))

    def _file(self, path: Path, place: Place | None) -> None:
        try:
            source = path.read_text(encoding="utf-8")
            compile(source, str(path), "exec")
        except (SyntaxError, UnicodeDecodeError) as error:
            self._add(path, getattr(error, "lineno", None) or 1, f"not valid Python: {error}", "mend the syntax")
            return
        if place is None or not ("dag" in source.lower() and ("airflow" in source or "kommuna" in source)):
            return
        module = self._import(path)
        for dag in _dags(module):
            if Path(dag.fileloc) != path:
                continue
            if dag.dag_id in self.dags:
                self._add(
                    path,
                    _line_of(source, dag.dag_id),
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
            self._add(path, (lines[-1] if lines else None) or 1, what, mend)
        return module

    def _dag(self, dag: Any, path: Path, source: str, place: Place) -> None:
        from kommuna.airflow.policies import facts

        lines = {task.task_id: getattr(task, "defined_at", 1) for task in dag.tasks}
        for violation in judge(facts(dag), team=place.team, platform=place.installation.platform):
            line = lines.get(violation.task_id) or _line_of(source, dag.dag_id)
            self._add(path, line, violation.what, violation.mend)
        self._schedule(dag, path, source)
        for task in dag.tasks:
            if hasattr(task, "step_spec"):
                self.steps += 1
                self._step(task, path, place)

    def _schedule(self, dag: Any, path: Path, source: str) -> None:
        from airflow.serialization.serialized_objects import DagSerialization

        try:
            DagSerialization.to_dict(dag)
            expression = getattr(dag, "schedule", None)
            if isinstance(expression, str) and not expression.startswith("@"):
                from croniter import croniter

                croniter(expression)
        except Exception as error:
            self._add(
                path, _line_of(source, dag.dag_id), f"DAG '{dag.dag_id}': {error}", "see its schedule and arguments"
            )

    def _step(self, task: Any, path: Path, place: Place) -> None:
        """A task's step: the function, its inputs and parameters, its rules file, its columns."""
        where = task.defined_at
        try:
            signature = find_step(task.function, bundle=self.folder)
            parameters = {**task.parameters, **({"name": task.name} if "name" in _params(task.function) else {})}
            signature.check_names(task.inputs, parameters)
            signature.check_params({name: value for name, value in parameters.items() if not _templated(value)})
        except KommunaError as error:
            self._add(path, where, f"task '{task.task_id}': {error.what}", error.mend)
            return
        for name, source in _flat(task.inputs):
            self._input(task, name, source, signature, path, place)
        self._columns(task, path)

    def _input(self, task: Any, name: str, source: Any, signature: Signature, path: Path, place: Place) -> None:
        if isinstance(source, Mapping) and _STEP in source:
            upstream = source[_STEP].operator
            outputs = _outputs(upstream.function, self.folder)
            wanted = source[_OUTPUT]
            if wanted is None and outputs and len(outputs) > 1:
                self._add(
                    path,
                    task.defined_at,
                    f"task '{task.task_id}': input '{name}' does not say which output of '{upstream.task_id}' it takes",
                    f'write {upstream.task_id}["{outputs[0]}"]; there are {", ".join(outputs)}',
                )
            elif wanted is not None and outputs and wanted not in outputs:
                self._add(
                    path,
                    task.defined_at,
                    f"task '{task.task_id}': '{upstream.task_id}' has no output '{wanted}'{nearest(wanted, outputs)}",
                    f"its outputs are: {', '.join(outputs)}",
                )
        elif isinstance(source, str) and "://" not in source:
            text = _default(task, source)
            if text is None or "://" in text:
                return
            file = self.folder / text
            if not file.is_file():
                self._add(
                    path,
                    task.defined_at,
                    f"task '{task.task_id}': input '{name}' names the file '{text}', which is not in the bundle",
                    "a plain path is relative to the bundle; store://… to the team's prefix",
                )
            elif signature.inputs[name.partition(".")[0]].annotation is RuleSet:
                self._rule_file(file)

    def _rule_file(self, file: Path) -> RuleSet | None:
        """A rules file, judged once."""
        if str(file) in self._rules:
            return self._rules[str(file)]
        self._rules[str(file)] = None
        try:
            rules = RuleSet.from_yaml(file)
        except KommunaError as error:
            line = error.where.rpartition(":")[2]
            self._add(file, int(line) if line.isdigit() else 1, error.what, error.mend or "mend the line")
            return None
        text = file.read_text(encoding="utf-8")
        for rule in rules.rules:
            if rule.python:
                try:
                    find_function(rule.python, bundle=self.folder)
                except KommunaError as error:
                    self._add(file, _line_of(text, rule.name), f"rule '{rule.name}': {error.what}", error.mend)
        self._rules[str(file)] = rules
        return rules

    def _columns(self, task: Any, path: Path) -> None:
        """Columns that a step or a SQL rule names, against the schema that its table was declared with."""
        declared = self._declared(task)
        if declared is None:
            return
        for parameter in ("key", "text", "label"):
            column = task.parameters.get(parameter)
            if (
                isinstance(column, str)
                and "{{" not in column
                and column not in declared
                and parameter in _params(task.function)
                and task.function.rpartition(":")[2] in ("apply_rules", "prepare_messages", "predict")
            ):
                self._add(
                    path,
                    task.defined_at,
                    f"task '{task.task_id}': {parameter}='{column}' is no declared column{nearest(column, declared)}",
                    f"declared are: {', '.join(declared)}",
                )
        rules_file = _default(task, task.inputs.get("rules"))
        if not isinstance(rules_file, str) or "://" in rules_file or not (self.folder / rules_file).is_file():
            return
        rules = self._rule_file(self.folder / rules_file)
        text = (self.folder / rules_file).read_text(encoding="utf-8")
        for rule in rules.rules if rules else ():
            for column in _sql_columns(rule.sql):
                if column not in declared:
                    what = f"rule '{rule.name}' uses the column '{column}', which task '{task.task_id}' does not have"
                    self._add(
                        self.folder / rules_file,
                        _line_of(text, rule.name),
                        what + nearest(column, declared),
                        f"declared are: {', '.join(declared)}",
                    )

    def _declared(self, task: Any) -> list[str] | None:
        """The columns of the task's table, where a reading step declares them and no step between changes them."""
        schema = task.parameters.get("table_schema")
        if isinstance(schema, Mapping):
            return list(schema["columns"])
        for name in ("messages", "table"):
            source = task.inputs.get(name)
            if isinstance(source, Mapping) and _STEP in source:
                upstream = source[_STEP].operator
                same = upstream.function.rpartition(":")[2] in ("read_table", "prepare_messages", "clean", "mask_pii")
                return self._declared(upstream) if same else None
        return None


def _dags(module: Any) -> Iterator[Any]:
    """DAGs that a file defines: module globals, and those that a template made and nobody kept."""
    seen: set[int] = set()
    kept = [value for value in vars(module).values() if isinstance(value, DAG)]
    registered = [dag for dag, made_by in DagContext.autoregistered_dags if made_by is module]
    for dag in (*kept, *registered):
        if id(dag) not in seen:
            seen.add(id(dag))
            yield dag


def _outputs(function: str, folder: Path) -> list[str]:
    """Names of a step's outputs, from its return annotation; empty where they cannot be told."""
    try:
        returned = typing.get_type_hints(find_step(function, bundle=folder).function).get("return")
    except (KommunaError, NameError):
        return []
    fields = getattr(returned, "_fields", None)
    return [name for name in fields if name not in ("metrics", "links")] if fields else ["result"]


def _params(function: str) -> dict[str, Any]:
    try:
        return dict(find_step(function).params)
    except KommunaError:
        return {}


def _flat(inputs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, source in inputs.items():
        if isinstance(source, Mapping) and not {_STEP, _MODEL} & set(source):
            yield from ((f"{name}.{part}", item) for part, item in source.items())
        elif isinstance(source, list):
            yield from ((f"{name}.{i}", item) for i, item in enumerate(source))
        else:
            yield name, source


def _default(task: Any, source: Any) -> str | None:
    """A plain string, or the default of the one Param that a template names; None where it cannot be told."""
    if not isinstance(source, str) or "{{" not in source:
        return source if isinstance(source, str) else None
    name = source.strip("{} ").removeprefix("params.")
    value = task.dag.params.get(name) if name.isidentifier() and name in task.dag.params else None
    return value if isinstance(value, str) else None


def _templated(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_templated(item) for item in value.values())
    return isinstance(value, str) and ("{{" in value or value.endswith(".sql"))


def _sql_columns(sql: str | None) -> list[str]:
    if sql is None:
        return []
    import polars as pl

    try:
        return pl.sql_expr(sql).meta.root_names()
    except Exception:  # apply_rules says what is wrong with it
        return []


def _line_of(text: str, name: str) -> int:
    """The first line that has a name, with or without the team's prefix."""
    bare = name.partition("__")[2] or name
    return next((i for i, line in enumerate(text.splitlines(), 1) if name in line or f'"{bare}"' in line), 1)


def main() -> None:
    """Writes the findings of a bundle."""
    Path(sys.argv[2]).write_text(Inspector(Path(sys.argv[1])).run().model_dump_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
