"""Operators over the steps of the model registry: register, promote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, get_current_context
from airflow.sdk.configuration import conf
from airflow.sdk.definitions.xcom_arg import PlainXComArg
from airflow.sdk.exceptions import AirflowSkipException

from kommuna.airflow.operators.base import Input, SharedStepOperator
from kommuna.airflow.operators.failures import StepFailed
from kommuna.airflow.operators.references import StepOutput
from kommuna.airflow.operators.rendering import is_templated
from kommuna.airflow.operators.step import model_name
from kommuna.airflow.operators.training import EvaluateOperator
from kommuna.errors import PromotionRefused
from kommuna.spec.gate import EVALUATION_METRICS, Gate
from kommuna.spec.step import StepResult, StepSpec

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

PROMOTION = "promotion"  # the XCom of the decision
_FIXES = {
    "refused": "the old champion goes on; see the evaluation's report, or change the gate",
    "stale": "the old champion goes on until the two are compared",
    "pinned": "the pinned champion goes on; `kommuna models list` shows the pins",
}


class _RegistryOperator(SharedStepOperator):
    """A step that changes the registry. It always runs, and is idempotent: it detects its own earlier changes."""

    template_fields: Sequence[str] = (*SharedStepOperator.template_fields, "name")

    def __init__(self, *, name: str = "", **options: Any) -> None:
        super().__init__(cache=False, **options)
        self.name = name

    def step_spec(self, *, run_id: str = "") -> StepSpec:
        """Returns the step with the address of Airflow, for the links to the run and the report."""
        spec = super().step_spec(run_id=run_id)
        pages = conf.get("api", "base_url", fallback="")
        return spec.model_copy(update={"services": spec.services.model_copy(update={"airflow_pages": pages})})


class RegisterOperator(_RegistryOperator):
    """Registers a model version in MLflow, alias `challenger`. Output: `version`.

    Args:
        preparation: the output of that name of the `PrepareMessagesOperator` whose messages the model learned from; the
            version then takes raw texts.
        name: the model's name; the platform adds the team's prefix.
    """

    step = "kommuna.steps:register"

    def __init__(
        self,
        *,
        model: Input,
        scores: Input,
        sample: Input,
        preparation: Input | None = None,
        name: str,
        **options: Any,
    ) -> None:
        inputs = {"model": model, "scores": scores, "sample": sample, "preparation": preparation}
        super().__init__(name=name, **self.options_of(options, inputs=inputs, parameters={}))

    def step_spec(self, *, run_id: str = "") -> StepSpec:
        """Returns the step with the team's prefix on the model's name."""
        self.parameters["name"] = model_name(self.dag.dag_id, self.name)
        return super().step_spec(run_id=run_id)


class PromoteOperator(_RegistryOperator):
    """Makes a version the champion if the gate holds. Otherwise the task fails (or is skipped) and says why.

    The decision is in the log, in the XCom `promotion`, and in the version's tags in MLflow.

    Args:
        gate: an expression over metrics: `f1_macro >= 0.7 and f1_macro >= champion.f1_macro - 0.01`.
        fail_when_refused: if false, the task is skipped where the version does not become the champion, so that tasks
            after it go on with the old one. A `RefusalOperator` then shows the refusal as a failure of the run.
    """

    step = "kommuna.steps:promote"

    def __init__(
        self, *, version: Input, scores: Input, gate: str, fail_when_refused: bool = True, **options: Any
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
            gate.check_names((*EVALUATION_METRICS, *gate.tag_figures, *gate.slice_figures))

    def after(self, spec: StepSpec, result: StepResult) -> None:
        """Fails or skips the task if the version was refused, which registry and manifest have recorded already."""
        promotion = self.read_json(spec, "promotion")
        get_current_context()["ti"].xcom_push(key=PROMOTION, value=promotion)
        if promotion["promoted"]:
            return
        error = _refusal(promotion)
        raise StepFailed(error) if self.fail_when_refused else AirflowSkipException(str(error))


class RefusalOperator(BaseOperator):
    """Fails where a `PromoteOperator` was skipped, so that a refused version is visible in the run's state.

    An Airflow run is as good as its last tasks. Where the tasks after the promotion go on with the old champion, they
    would make the run of a refused version green. This one runs only if the promotion was skipped.

    Args:
        promotion: the promotion, with `fail_when_refused=False`.
    """

    ui_color = "#fbe4e4"

    def __init__(self, *, promotion: PromoteOperator, **options: Any) -> None:
        super().__init__(trigger_rule="all_skipped", **options)
        self.promotion = promotion.task_id
        promotion >> self

    def execute(self, context: Context) -> None:
        """Raises the refusal.

        Raises:
            StepFailed: the refusal; not retried.
        """
        found = context["ti"].xcom_pull(task_ids=self.promotion, key=PROMOTION)
        if not found:
            raise StepFailed(PromotionRefused(f"the promotion was skipped: see the log of {self.promotion}"))
        raise StepFailed(_refusal(found))


def _refusal(promotion: Mapping[str, Any]) -> PromotionRefused:
    name, version = promotion["name"], promotion["version"]
    return PromotionRefused(
        f"version {version} of '{name}' does not become the champion: {promotion['reason']}",
        where=promotion["url"],
        fix=_FIXES.get(promotion["outcome"], ""),
    )


def _upstream_task(source: Input) -> Any:
    """Returns the task that produces an input."""
    return source.operator if isinstance(source, StepOutput | PlainXComArg) else source
