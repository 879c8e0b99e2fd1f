"""`StepOperator`: runs any step by name, in a runtime process started by the Airflow task."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import jinja2
from airflow.sdk import BaseOperator
from airflow.sdk.bases.operator import get_merged_defaults

from kommuna.airflow.operators.failures import StepFailed, StepToRetry, task_failure
from kommuna.airflow.operators.links import ManifestLink, MlflowModelLink, MlflowRunLink, ReportLink
from kommuna.airflow.operators.mapped import StepPartial, partial_of
from kommuna.airflow.operators.params import is_first_step, value_mistakes
from kommuna.airflow.operators.references import StepOutput, input_tree, reference
from kommuna.airflow.operators.rendering import StepEnvironment, cast, evaluate, explain_undefined, step_environment
from kommuna.errors import KommunaError, PlatformFault, SpecError, StoreError, TeamMistake
from kommuna.outages import wait_out
from kommuna.processes import adopt_orphans, kill_descendants, tree_of
from kommuna.spec.caching import INTERPRETER
from kommuna.spec.installation import AT_HAND_VARIABLE, place_of
from kommuna.spec.names import qualified
from kommuna.spec.resources import Resources
from kommuna.spec.step import InputTree, ModelInput, StepResult, StepSpec
from kommuna.store import Store
from kommuna.store.inputs import FoundFile
from kommuna.store.lookup import bounded, look_up, result_of
from kommuna.store.parameters import parameter_types
from kommuna.store.results import Results

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context


class StepOperator(BaseOperator):
    """Runs one step.

    Args:
        function: `module:function` of a shared step, or of a step in the team's bundle.
        inputs: by argument name of the step: another operator (its only output), one of its outputs
            (`operator["votes"]`), a `Model`, or a file: relative to the bundle, `store://inbox/…`, or any URL. The
            results of a mapped step are a list.
        parameters: the step's keyword arguments, as JSON. The value of a template or of another task is cast to the
            type that the step declares. Other values are passed as they are.
        step_resources: limits of the step: `{"cpu": "2", "memory": "4Gi", "seconds": 600}`.
        cache: if false, the step always runs, and no other run uses its result.
        expires: how long other runs may use the result: `12h`, `1d`. For a step that reads data which changes by
            itself, such as a service of the bank.
        options: everything that Airflow's `BaseOperator` takes.

    The XCom is the step's manifest key, its outputs' file names and its metrics: under 4 KB.
    """

    template_fields: Sequence[str] = ("inputs", "parameters")
    template_fields_renderers: ClassVar[dict[str, str]] = {"inputs": "json", "parameters": "json"}
    operator_extra_links = (ReportLink(), ManifestLink(), MlflowRunLink(), MlflowModelLink())
    ui_color = "#e8f0fa"

    def __init__(
        self,
        *,
        function: str,
        inputs: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        step_resources: Resources | Mapping[str, Any] | None = None,
        cache: bool = True,
        expires: str | None = None,
        **options: Any,
    ) -> None:
        resources = _resources(step_resources, options.get("task_id"))
        options.setdefault("executor_config", self.executor_config_of(resources))
        super().__init__(**options)
        self.function = function
        # Where another task returns all of them, they become mappings when they are rendered.
        self.inputs: Any = reference(inputs or {})
        self.parameters: Any = dict(parameters or {}) if isinstance(parameters, Mapping | None) else parameters
        self.step_resources = resources
        self.cache = cache
        self.expires = expires
        self.result: StepResult | None = None
        self._process: subprocess.Popen[str] | None = None
        self._known: list[FoundFile] = []

    @classmethod
    def partial(cls, **options: Any) -> StepPartial:
        """Prepares the step for `expand()`. All its tasks have the same resources."""
        made = super().partial(**options)
        task_id, dag, group = (made.kwargs[name] for name in ("task_id", "dag", "task_group"))
        defaults, _ = get_merged_defaults(dag, group, None, options.get("default_args"))
        given = {**defaults, **options}
        resources = _resources(given.get("step_resources"), task_id)
        made.kwargs["step_resources"] = resources.model_dump()
        made.kwargs["executor_config"] = given.get("executor_config") or cls.executor_config_of(resources)
        return partial_of(cls, made)

    @classmethod
    def executor_config_of(cls, resources: Resources) -> dict[str, Any]:
        """Returns the resources of the task's pod as plain data, from which the team's executor builds the override."""
        return {"resources": {"cpu": resources.cpu, "memory": resources.memory}}

    def __getitem__(self, output: str) -> StepOutput:
        """Returns one named output, as an input of another step."""
        return StepOutput(self, output)

    def step_spec(self, *, run_id: str = "") -> StepSpec:
        """Returns the spec that the runtime gets. The inputs must be rendered."""
        place = place_of(self.dag.fileloc)
        fields = {
            "function": self.function,
            "team": place.team,
            "store": place.installation.store(),
            "inputs": {name: self._qualified(input_tree(name, value)) for name, value in self.inputs.items()},
            "params": self.parameters,
            "resources": self.step_resources,
            "services": place.installation.services(place.team),
            "bundle": str(place.bundle),
            "dag_id": self.dag.dag_id,
            "run_id": run_id,
            "task_id": self.task_id,
            "cache": self.cache,
            "expires": self.expires,
        }
        return StepSpec.read(fields, where=f"task {self.task_id}")

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        """Renders `inputs` and `parameters` to values of the declared types, and other fields as Airflow does."""
        own = [name for name in template_fields if parent is self and name in ("inputs", "parameters")]
        rest = [name for name in template_fields if name not in own]
        given = self.parameters
        try:
            super()._do_render_template_fields(parent, rest, context, jinja_env, seen_oids)
            super()._do_render_template_fields(parent, own, context, step_environment(jinja_env), seen_oids)
        except jinja2.UndefinedError as error:  # a retry does not help
            raise StepFailed(explain_undefined(error, context)) from None
        if "parameters" in own:
            self.parameters = cast(given, self.parameters, parameter_types(self.function, bundle=self._bundle()))

    def _render(self, template: Any, context: Context, dag: Any = None) -> Any:
        if isinstance(template.environment, StepEnvironment):
            return evaluate(template, context)
        return super()._render(template, context, dag)

    def _bundle(self) -> Path:
        return place_of(self.dag.fileloc).bundle

    def _qualified(self, tree: InputTree) -> InputTree:
        """Returns the input with the team's prefix on the name of a registered model."""
        if isinstance(tree, ModelInput):
            return tree.model_copy(update={"model": model_name(self.dag.dag_id, tree.model)})
        return tree

    def execute(self, context: Context) -> dict[str, Any]:
        """Runs the step and waits for it.

        Raises:
            StepFailed: the team's mistake, or a limit; not retried.
            StepToRetry: anything else; retried.
        """
        if is_first_step(self):
            mistakes = value_mistakes(self.dag, context["params"], self._bundle())
            if mistakes:
                raise StepFailed(*mistakes.values())
        try:
            spec = self.step_spec(run_id=context["run_id"])
        except TeamMistake as mistake:
            raise StepFailed(mistake) from None
        with contextlib.ExitStack() as until_the_end:
            self.result = self._cached_result(spec, until_the_end) or self._run(spec)
        if self.result.failure is not None:
            raise task_failure(self.result.failure.error())
        self.after(spec, self.result)
        return self.result.model_dump(exclude={"exit_code", "failure"}) | {"team": spec.team}

    def judge_values(self, parameters: Mapping[str, Any]) -> None:
        """Checks parameter values beyond their types. Subclasses override it.

        Raises:
            TeamMistake: the step would refuse the value.
        """

    def after(self, spec: StepSpec, result: StepResult) -> None:
        """Runs in the task after the step succeeded. Subclasses override it.

        Args:
            spec: the step, as the runtime received it.
            result: its result, new or reused.
        """

    def on_kill(self) -> None:
        """Stops the runtime when Airflow kills the task. The runtime passes the signal on to the step."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def _cached_result(self, spec: StepSpec, until_the_end: contextlib.ExitStack) -> StepResult | None:
        """Returns an earlier result without starting a process. Errors in the inputs are left to the runtime.

        Args:
            spec: the step.
            until_the_end: keeps what was downloaded until the runtime has taken it.
        """
        if not spec.cache:
            return None
        try:
            store = Store(spec.store, spec.team)
            looked_up = look_up(spec, store, until_the_end.enter_context(store.scratch()))
            manifest = looked_up.manifest
            if manifest is None:
                self._known = looked_up.inputs.files()
                return None
            Results(store).remember(spec.dag_id, spec.task_id, spec.function, manifest.key)
        except KommunaError:
            return None
        self.log.info("step.cached step=%s key=%s rows=%s", spec.function, manifest.key[:12], manifest.rows)
        return bounded(result_of(manifest, cached=True))

    def _run(self, spec: StepSpec) -> StepResult:
        with tempfile.TemporaryDirectory(prefix="kommuna-task-") as folder:
            spec_file, result_file = Path(folder, "spec.json"), Path(folder, "result.json")
            spec_file.write_text(spec.model_dump_json(), encoding="utf-8")
            command = [sys.executable, "-m", "kommuna.runtime", "--die-with-parent"]
            command += ["--spec", str(spec_file), "--result", str(result_file)]
            if self._known:
                known_file = Path(folder, "known.json")
                known_file.write_text(json.dumps([file.model_dump(mode="json") for file in self._known]))
                command += ["--known", str(known_file)]
            code = _run_at_hand(command) if AT_HAND_VARIABLE in os.environ else self._run_logged(command)
            if not result_file.exists():
                return StepResult.failed(
                    PlatformFault(
                        f"the step's runtime ended with code {code} and left no result",
                        where=spec.function,
                        fix="see the lines above; the task is retried",
                    )
                )
            return StepResult.model_validate_json(result_file.read_bytes())

    def _run_logged(self, command: list[str]) -> int:
        """Runs the step's runtime and copies its output to the task's log."""
        others = tree_of(os.getpid())
        adopt_orphans()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=_environment(),
        )
        assert self._process.stdout is not None
        sweeper = threading.Thread(target=_sweep_up_after, args=(self._process, others), daemon=True)
        sweeper.start()
        for line in self._process.stdout:
            self.log.info("%s", line.rstrip("\n"))
        sweeper.join()
        return self._process.wait()

    def read_json(self, spec: StepSpec, output: str) -> dict[str, Any]:
        """Reads a JSON output of the step that has just run.

        Args:
            spec: the step, as the runtime received it.
            output: the output's name.
        """
        store = Store(spec.store, spec.team)
        manifest = wait_out(lambda: store.manifest(self.result.key if self.result else ""))
        if manifest is None:
            raise StepToRetry(StoreError(f"the manifest of {self.task_id} is gone from the store"))
        return dict(json.loads(wait_out(lambda: store.read(manifest.outputs[output]))))


def _sweep_up_after(runtime: subprocess.Popen[str], others: Sequence[int]) -> None:
    """Waits for the runtime, and kills what its step left if the runtime was killed before it could do so.

    Such processes also hold the runtime's output open, so the task would wait for them.
    """
    if runtime.wait() < 0:
        kill_descendants(spare=others)


def _run_at_hand(command: list[str]) -> int:
    """Runs the step inside the runtime process, attached to this terminal, so that a breakpoint works."""
    return subprocess.run([*command, "--here"], env=_environment(), check=False).returncode


def _resources(given: Resources | Mapping[str, Any] | None, task_id: Any) -> Resources:
    return given if isinstance(given, Resources) else Resources.read(given or {}, where=f"task {task_id}")


def _environment() -> dict[str, str]:
    """Returns the step's environment, without Airflow's settings, which contain secrets."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))}
    return inherited | INTERPRETER | {"PYTHONSAFEPATH": "1"}  # no imports from the task's working directory


def model_name(dag_id: str, name: str) -> str:
    """Returns the registered name of a model: the name with the team prefix of the DAG's id."""
    try:
        return qualified(dag_id.partition("__")[0], name)
    except SpecError as error:
        raise StepFailed(error) from None
