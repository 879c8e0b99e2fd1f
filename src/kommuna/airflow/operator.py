"""`StepOperator`: runs any step by name, in the runtime's own process, beside the Airflow task."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from kommuna.airflow.links import ManifestLink, MlflowLink, ReportLink
from kommuna.errors import EXIT_DONE, EXIT_FAULT, KommunaError, SpecError, TeamMistake, nearest
from kommuna.outages import wait_out
from kommuna.spec.installation import place_of
from kommuna.spec.names import qualified
from kommuna.spec.resources import Resources
from kommuna.spec.step import ArtifactInput, FileInput, Input, InputTree, ModelInput, StepResult, StepSpec
from kommuna.store import Store
from kommuna.store.lookup import bounded, look_up, result_of

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

_STEP, _OUTPUT, _MODEL = "kommuna_step", "kommuna_output", "kommuna_model"


@dataclass(frozen=True)
class StepOutput:
    """One named output of a step: `train["model"]`."""

    operator: StepOperator
    output: str


@dataclass(frozen=True)
class Model:
    """A registered model as an input.

    Args:
        name: the model's name in the team's registry workspace.
        alias: which version: `champion` or `challenger`.
        optional: the input is None where there is no such version.
        unless: the input is None where the version is this very model: nothing to compare it with.
    """

    name: str
    alias: str = "champion"
    optional: bool = False
    unless: StepOutput | None = None


Source = "StepOperator | StepOutput | Model | str | None"


class StepOperator(BaseOperator):
    """Runs one step.

    Args:
        function: `module:function` of a shared step or of one in the team's bundle.
        inputs: by the step's argument names: another operator (its only output), one of its outputs
            (`operator["votes"]`), a `Model`, or a file: relative to the bundle, `store://inbox/…`, or any URL.
        parameters: the step's keyword arguments, as JSON; templates are rendered.
        resources: limits of the step.
        cache: False runs the step even where it has run before on the same inputs, code and parameters.

    The XCom is the step's manifest key, its outputs' file names and its metrics: under 4 KB.
    """

    template_fields: Sequence[str] = ("inputs", "parameters")
    template_fields_renderers: ClassVar[dict[str, str]] = {"inputs": "json", "parameters": "json"}
    operator_extra_links = (ReportLink(), ManifestLink(), MlflowLink())
    ui_color = "#e8f0fa"

    def __init__(
        self,
        *,
        function: str,
        inputs: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        step_resources: Resources | Mapping[str, Any] | None = None,
        cache: bool = True,
        **options: Any,
    ) -> None:
        resources = (
            step_resources
            if isinstance(step_resources, Resources)
            else Resources.read(step_resources or {}, where=f"task {options.get('task_id')}")
        )
        # Plain data: the team's executor makes the pod's part of it. Other executors do not look at it.
        options.setdefault("executor_config", {"resources": {"cpu": resources.cpu, "memory": resources.memory}})
        super().__init__(**options)
        self.function = function
        self.inputs = {name: _reference(source) for name, source in (inputs or {}).items()}
        self.parameters = dict(parameters or {})
        self.step_resources = resources
        self.cache = cache
        self.defined_at = _defining_line()
        self.result: StepResult | None = None
        self._process: subprocess.Popen[str] | None = None

    def __getitem__(self, output: str) -> StepOutput:
        """One named output, as an input of another step."""
        return StepOutput(self, output)

    def step_spec(self, *, run_id: str = "") -> StepSpec:
        """The step as the runtime gets it; the inputs must be rendered."""
        place = place_of(self.dag.fileloc)
        fields = {
            "function": self.function,
            "team": place.team,
            "store": place.installation.store(),
            "inputs": {name: self._qualified(_input(name, value)) for name, value in self.inputs.items()},
            "params": self.parameters,
            "resources": self.step_resources,
            "services": place.installation.services(place.team),
            "bundle": str(place.bundle),
            "dag_id": self.dag.dag_id,
            "run_id": run_id,
            "task_id": self.task_id,
            "cache": self.cache,
        }
        return StepSpec.read(fields, where=f"task {self.task_id}")

    def _qualified(self, tree: InputTree) -> InputTree:
        """The input, with the team's prefix on a registered model's name."""
        if isinstance(tree, ModelInput):
            return tree.model_copy(update={"model": model_name(self.dag.dag_id, tree.model)})
        return tree

    def execute(self, context: Context) -> dict[str, Any]:
        """Runs the step and waits for it.

        Raises:
            AirflowFailException: the team's mistake, or a limit: no retry.
            AirflowException: anything else: retried.
        """
        try:
            spec = self.step_spec(run_id=context["run_id"])
        except TeamMistake as mistake:
            raise AirflowFailException(str(mistake)) from None
        self.result = self._found(spec) or self._run(spec)
        if self.result.exit_code != EXIT_DONE:
            error = AirflowException if self.result.exit_code == EXIT_FAULT else AirflowFailException
            raise error(self.result.message)
        self.after(spec, self.result)
        return self.result.model_dump(exclude={"exit_code", "message"}) | {"team": spec.team}

    def after(self, spec: StepSpec, result: StepResult) -> None:
        """What is left to do in the task once the step ended well; for subclasses."""

    def on_kill(self) -> None:
        """Airflow ends the task: the runtime passes the signal on to the step."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def _found(self, spec: StepSpec) -> StepResult | None:
        """What an earlier run left, without starting a process; the runtime says what is wrong with the inputs."""
        if not spec.cache:
            return None
        try:
            store = Store(spec.store, spec.team)
            with store.scratch() as folder:
                manifest = look_up(spec, store, folder).manifest
        except KommunaError:
            return None
        if manifest is None:
            return None
        self.log.info("step.cached step=%s key=%s rows=%s", spec.function, manifest.key[:12], manifest.rows)
        return bounded(result_of(manifest, cached=True))

    def _run(self, spec: StepSpec) -> StepResult:
        with tempfile.TemporaryDirectory(prefix="kommuna-task-") as folder:
            spec_file, result_file = Path(folder, "spec.json"), Path(folder, "result.json")
            spec_file.write_text(spec.model_dump_json(), encoding="utf-8")
            command = [sys.executable, "-m", "kommuna.runtime", "--die-with-parent"]
            self._process = subprocess.Popen(
                [*command, "--spec", str(spec_file), "--result", str(result_file)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=_environment(),
            )
            assert self._process.stdout is not None
            for line in self._process.stdout:
                self.log.info("%s", line.rstrip("\n"))
            code = self._process.wait()
            if not result_file.exists():
                return StepResult(
                    exit_code=EXIT_FAULT,
                    message=f"the step's runtime ended with code {code} and left no result\n  where: {spec.function}"
                    "\n  mend: see the lines above; the task is retried",
                )
            return StepResult.model_validate_json(result_file.read_bytes())

    def read_json(self, spec: StepSpec, output: str) -> dict[str, Any]:
        """A JSON output of the step that has just run."""
        import json

        store = Store(spec.store, spec.team)
        manifest = wait_out(lambda: store.manifest(self.result.key if self.result else ""))
        if manifest is None:
            raise AirflowException(f"the manifest of {self.task_id} is gone from the store")
        return dict(json.loads(wait_out(lambda: store.read(manifest.outputs[output]))))


def _defining_line() -> int:
    """The line of the DAG file that makes the task: the nearest caller that is neither Kommuna nor Airflow."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(("kommuna.", "airflow.")):
        frame = frame.f_back
    return frame.f_lineno


def _environment() -> dict[str, str]:
    """The step's environment: without Airflow's settings, which hold secrets and are none of a step's business."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))}


def _reference(source: Any) -> Any:
    """An input as a template field: plain data, in which Airflow finds and resolves the upstream's XCom."""
    if isinstance(source, StepOutput):
        return {_STEP: source.operator.output, _OUTPUT: source.output}
    if isinstance(source, StepOperator):
        return {_STEP: source.output, _OUTPUT: None}
    if isinstance(source, Model):
        unless = {"unless": _reference(source.unless)} if source.unless else {}
        return {_MODEL: source.name, "alias": source.alias, "optional": source.optional, **unless}
    if isinstance(source, Mapping):
        return {name: _reference(item) for name, item in source.items()}
    if isinstance(source, list | tuple):
        return [_reference(item) for item in source]
    return source


def _input(name: str, value: Any) -> InputTree:
    if isinstance(value, list):
        return [_one(name, item) for item in value]
    if isinstance(value, Mapping) and not {_STEP, _MODEL} & set(value):
        return {str(part): _one(f"{name}.{part}", item) for part, item in value.items()}
    return None if value is None else _one(name, value)


def _one(name: str, value: Any) -> Input:
    if isinstance(value, str):
        return FileInput.read({"url": value}, where=f"input '{name}'")
    if isinstance(value, Mapping) and _MODEL in value:
        unless = _one(name, value["unless"]) if value.get("unless") else None
        assert unless is None or isinstance(unless, ArtifactInput)
        return ModelInput(model=value[_MODEL], alias=value["alias"], optional=value["optional"], unless=unless)
    if isinstance(value, Mapping) and isinstance(value.get(_STEP), Mapping):
        step, output = value[_STEP], value[_OUTPUT]
        outputs = step["outputs"]
        if output is None:
            if len(outputs) != 1:
                what = f"input '{name}': the upstream step has the outputs {', '.join(outputs)}"
                raise AirflowFailException(f'{what}\n  mend: say which: task["{next(iter(outputs), "name")}"]')
            output = next(iter(outputs))
        if output not in outputs:
            what = f"input '{name}': the upstream step left no '{output}'{nearest(output, outputs)}"
            raise AirflowFailException(f"{what}\n  mend: it left {', '.join(outputs)}")
        return ArtifactInput(manifest=step["key"], output=output)
    raise AirflowFailException(
        f"input '{name}': the upstream task left nothing\n  mend: look at its log; it was skipped or is no step"
    )


def model_name(dag_id: str, name: str) -> str:
    """The registered name of a team's model: with the team's prefix, as the DAG's id has it."""
    try:
        return qualified(dag_id.partition("__")[0], name)
    except SpecError as error:
        raise AirflowFailException(str(error)) from None
