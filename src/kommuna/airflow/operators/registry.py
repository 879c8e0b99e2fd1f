"""Operators over the steps of the model registry: register, promote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk.definitions.xcom_arg import PlainXComArg
from airflow.sdk.exceptions import AirflowException, AirflowSkipException

from kommuna.airflow.operators.base import Input, SharedStepOperator
from kommuna.airflow.operators.references import StepOutput
from kommuna.airflow.operators.rendering import is_templated
from kommuna.airflow.operators.step import model_name
from kommuna.airflow.operators.training import EvaluateOperator
from kommuna.spec.gate import EVALUATION_METRICS, Gate
from kommuna.spec.step import StepResult, StepSpec


class _RegistryOperator(SharedStepOperator):
    """A step that changes the registry. It always runs, and is idempotent: it detects its own earlier changes."""

    template_fields: Sequence[str] = (*SharedStepOperator.template_fields, "name")

    def __init__(self, *, name: str = "", **options: Any) -> None:
        super().__init__(cache=False, **options)
        self.name = name


class RegisterOperator(_RegistryOperator):
    """Registers a model version in MLflow, alias `challenger`. Output: `version`.

    Args:
        name: the model's name; the platform adds the team's prefix.
    """

    step = "kommuna.steps:register"

    def __init__(self, *, model: Input, scores: Input, sample: Input, name: str, **options: Any) -> None:
        inputs = {"model": model, "scores": scores, "sample": sample}
        super().__init__(name=name, **self.options_of(options, inputs=inputs, parameters={}))

    def step_spec(self, *, run_id: str = "") -> StepSpec:
        """Returns the step with the team's prefix on the model's name."""
        self.parameters["name"] = model_name(self.dag.dag_id, self.name)
        return super().step_spec(run_id=run_id)


class PromoteOperator(_RegistryOperator):
    """Makes a version the champion if the gate holds. Otherwise the task is skipped (or fails) and reports the gap.

    Args:
        gate: an expression over metrics: `f1_macro >= 0.7 and f1_macro >= champion.f1_macro - 0.01`.
        fail_when_refused: if true, the task fails instead of being skipped where the gate refuses.
    """

    step = "kommuna.steps:promote"

    def __init__(
        self, *, version: Input, scores: Input, gate: str, fail_when_refused: bool = False, **options: Any
    ) -> None:
        inputs = {"version": version, "scores": scores}
        super().__init__(**self.options_of(options, inputs=inputs, parameters={"gate": gate}))
        self.fail_when_refused = fail_when_refused
        self._evaluated = isinstance(_upstream_task(scores), EvaluateOperator)
        if not is_templated(gate):
            self.judge_values({"gate": gate})  # an invalid gate is refused at parse time

    def judge_values(self, parameters: Mapping[str, Any]) -> None:
        """Raises if a gate cannot be parsed, or names a metric that the evaluation does not report."""
        gate = Gate(str(parameters["gate"]))
        if self._evaluated:
            gate.check_names(EVALUATION_METRICS)

    def after(self, spec: StepSpec, result: StepResult) -> None:
        """Skips or fails the task if the gate refused. The registry and the manifest have recorded it already."""
        promotion = self.read_json(spec, "promotion")
        if not promotion["promoted"]:
            error = AirflowException if self.fail_when_refused else AirflowSkipException
            raise error(f"the gate refused: {promotion['reason']}")


def _upstream_task(source: Input) -> Any:
    """Returns the task that produces an input."""
    return source.operator if isinstance(source, StepOutput | PlainXComArg) else source
