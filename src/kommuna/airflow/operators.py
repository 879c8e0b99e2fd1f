"""Named operators over the shared steps: typed signatures, the step's own argument names.

An input is another operator (its only output), one of its outputs (`labels["labels"]`), a `Model`, or a file:
relative to the bundle, `store://inbox/…`, or any URL. Every parameter may be a template.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow.sdk import XComArg
from airflow.sdk.definitions.xcom_arg import PlainXComArg
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from kommuna.airflow.operator import StepOperator, model_name
from kommuna.airflow.references import Model, StepOutput
from kommuna.airflow.rendering import is_templated
from kommuna.spec.gate import EVALUATION_METRICS, Gate
from kommuna.spec.installation import place_of
from kommuna.spec.llm import Asking, Budget
from kommuna.spec.step import StepResult, StepSpec
from kommuna.spec.texts import distinct_texts, text_list

Input = StepOperator | StepOutput | XComArg | Model | str


class ReadTableOperator(StepOperator):
    """Reads CSV, NDJSON or Parquet against a declared schema. Output: `table`."""

    step = "kommuna.steps.etl.read:read_table"

    def __init__(self, *, source: Input, columns: Mapping[str, Any], format: str = "auto", **options: Any) -> None:
        super().__init__(
            function=self.step,
            inputs={"source": source},
            parameters={"table_schema": _schema(columns), "format": format},
            **options,
        )


class CleanOperator(StepOperator):
    """Normalises texts, drops empty ones, and de-duplicates by key. Output: `table`."""

    step = "kommuna.steps.etl.clean:clean"

    def __init__(self, *, table: Input, key: str = "id", text: str = "text", **options: Any) -> None:
        super().__init__(
            function=self.step,
            inputs={"table": table},
            parameters={"key": key, "text": text},
            **options,
        )


class MaskPiiOperator(StepOperator):
    """Masks phones, cards, IBANs, INNs, SNILSs, e-mails and listed names. Output: `table`."""

    step = "kommuna.steps.etl.mask:mask_pii"

    def __init__(
        self, *, table: Input, text: str = "text", names: Sequence[str] = (), region: str = "RU", **options: Any
    ) -> None:
        super().__init__(
            function=self.step,
            inputs={"table": table},
            parameters={"text": text, "names": _texts("names", names), "region": region},
            **options,
        )


class PrepareMessagesOperator(StepOperator):
    """Reads, cleans and masks messages in one pass. Output: `table`."""

    step = "kommuna.steps.etl.prepare:prepare_messages"

    def __init__(
        self,
        *,
        source: Input,
        columns: Mapping[str, Any],
        key: str = "id",
        text: str = "text",
        parameters: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            function=self.step,
            inputs={"source": source},
            parameters={"table_schema": _schema(columns), "key": key, "text": text, **(parameters or {})},
            **options,
        )


class QueryOperator(StepOperator):
    """SQL over named tables. Output: `table`.

    Args:
        tables: the tables by the names that the SQL uses.
        sql: a SELECT, or the name of a `.sql` file in the bundle.
    """

    step = "kommuna.steps.etl.query:query"

    def __init__(self, *, tables: Mapping[str, Input], sql: str, **options: Any) -> None:
        super().__init__(
            function=self.step,
            inputs={"tables": tables},
            parameters={"sql": sql},
            **options,
        )

    def step_spec(self, *, run_id: str = "") -> StepSpec:
        """The step, with the SQL of its file."""
        sql = str(self.parameters["sql"])
        if sql.endswith(".sql"):
            path = place_of(self.dag.fileloc).bundle / sql
            if not path.is_file():
                raise AirflowFailException(f"no SQL file {sql}\n  where: {path}\n  mend: it is relative to the bundle")
            self.parameters["sql"] = path.read_text(encoding="utf-8")
        return super().step_spec(run_id=run_id)


class AsofJoinOperator(StepOperator):
    """Joins to each row the other table's nearest row: at or before it, at or after it, or either. Output: `table`.

    Args:
        tolerance: how far away it may be: `2h`, `30m`, `1d12h`; a number where `on` holds numbers.
        strategy: `backward`, `forward` or `nearest`.
        suffix: goes to the right columns whose names stand on the left too.
    """

    step = "kommuna.steps.etl.asof:asof_join"

    def __init__(
        self,
        *,
        left: Input,
        right: Input,
        on: str,
        by: Sequence[str] = (),
        tolerance: str | None = None,
        strategy: str = "backward",
        suffix: str = "_right",
        **options: Any,
    ) -> None:
        super().__init__(
            function=self.step,
            inputs={"left": left, "right": right},
            parameters={
                "on": on,
                "by": _texts("by", by, distinct_texts),
                "tolerance": tolerance,
                "strategy": strategy,
                "suffix": suffix,
            },
            **options,
        )


class ApplyRulesOperator(StepOperator):
    """Applies labeling rules. Output: `votes`.

    Args:
        asking: how `ask` rules are asked, as `Asking` has it: `{"budget": {"money": 5}, "max_failed": 0.05}`. The
            endpoint is the platform's light LLM; its model's name becomes part of the step's key.
    """

    step = "kommuna.steps.labeling.apply:apply_rules"

    def __init__(
        self,
        *,
        messages: Input,
        rules: Input,
        asking: Mapping[str, Any] | None = None,
        key: str = "id",
        text: str = "text",
        **options: Any,
    ) -> None:
        super().__init__(
            function=self.step,
            inputs={"messages": messages, "rules": rules},
            parameters={"key": key, "text": text} | ({"asking": asking} if asking else {}),
            **options,
        )
        if asking and not is_templated(asking):
            Asking.read(dict(asking), where=f"task {self.task_id}")  # what does not fit is refused at parse time

    def step_spec(self, *, run_id: str = "") -> StepSpec:
        """The step, with the platform's light model filled in: another model is another step."""
        light = place_of(self.dag.fileloc).installation.platform.llm.light
        if light is not None:
            self.parameters["asking"] = {"model": light.model} | self.parameters.get("asking", {})
        return super().step_spec(run_id=run_id)


class LabelOperator(StepOperator):
    """Turns votes into probabilistic labels by a label model.

    Outputs: `labels`, with dev rows `cross_fitted` for `TrainClassifierOperator`, and `gold_labels` where asked.
    """

    step = "kommuna.steps.labeling.label:label_messages"

    def __init__(
        self,
        *,
        votes: Input,
        rules: Input,
        dev_votes: Input | None = None,
        dev: Input | None = None,
        gold_votes: Input | None = None,
        model: str = "kommuna",
        key: str = "id",
        label: str = "tag",
        **options: Any,
    ) -> None:
        super().__init__(
            function=self.step,
            inputs={"votes": votes, "rules": rules, "dev_votes": dev_votes, "dev": dev, "gold_votes": gold_votes},
            parameters={"model": model, "key": key, "label": label},
            **options,
        )


class RefineRulesOperator(StepOperator):
    """Writes better rules from the label model's errors on dev. Outputs: `rules`, `report`, `rounds`, `dev_votes`.

    `dev_votes` is for `LabelOperator` and `RuleReportOperator`: the rules' votes on dev, none of them cast by a rule
    that knows the row. Votes of `ApplyRulesOperator` on the same dev rows would flatter the rules.

    Args:
        rules: rules to start from, which stay; none starts from nothing.
        gold: labeled rows to report on, none of them in dev; nothing is chosen by them.
        proposers: `miner`, `llm` or both.
        rounds: the most rounds.
        budget: the most that the platform's heavy LLM may use: `{"money": 5}` or `{"tokens": 200000}`. The model's name
            becomes part of the step's key.
    """

    step = "kommuna.steps.labeling.refine.step:refine_rules"

    def __init__(
        self,
        *,
        messages: Input,
        dev: Input,
        rules: Input | None = None,
        gold: Input | None = None,
        proposers: Sequence[str] = ("miner",),
        rounds: int | str = 10,
        budget: Mapping[str, Any] | None = None,
        key: str = "id",
        text: str = "text",
        label: str = "tag",
        **options: Any,
    ) -> None:
        super().__init__(
            function=self.step,
            inputs={"messages": messages, "dev": dev, "rules": rules, "gold": gold},
            parameters={
                "proposers": _texts("proposers", proposers),
                "rounds": rounds,
                "budget": budget or {},
                "key": key,
                "text": text,
                "label": label,
            },
            **options,
        )
        if not is_templated(budget):
            Budget.read(dict(budget or {}), where=f"task {self.task_id}")  # what does not fit is refused at parse time

    def step_spec(self, *, run_id: str = "") -> StepSpec:
        """The step, with the platform's heavy model filled in where it is asked: another model is another step."""
        heavy = place_of(self.dag.fileloc).installation.platform.llm.heavy
        if heavy is not None and "llm" in self.parameters["proposers"]:
            self.parameters["model"] = heavy.model
        return super().step_spec(run_id=run_id)


class RuleReportOperator(StepOperator):
    """Each rule's figures, errors on dev and worth to the others, the worst first. Outputs: `report`, `table`."""

    step = "kommuna.steps.labeling.rule_report:rule_report"

    def __init__(
        self,
        *,
        votes: Input,
        rules: Input,
        labels: Input | None = None,
        dev_votes: Input | None = None,
        dev: Input | None = None,
        key: str = "id",
        text: str = "text",
        label: str = "tag",
        **options: Any,
    ) -> None:
        super().__init__(
            function=self.step,
            inputs={"votes": votes, "rules": rules, "labels": labels, "dev_votes": dev_votes, "dev": dev},
            parameters={"key": key, "text": text, "label": label},
            **options,
        )


class TrainClassifierOperator(StepOperator):
    """Trains a classifier on soft labels and the dev rows. Outputs: `model`, `dev_only`.

    Args:
        cross_fitted: the label step's output of that name, where it learned from the same dev rows: without it what is
            chosen on dev trusts the labels too far.
    """

    step = "kommuna.steps.training.train:train_classifier"

    def __init__(
        self,
        *,
        messages: Input,
        labels: Input,
        dev: Input,
        cross_fitted: Input | None = None,
        classifier: str = "tfidf_logreg",
        encoder: str = "auto",
        features: Sequence[str] = (),
        key: str = "id",
        text: str = "text",
        label: str = "tag",
        min_confidence: float | str = 0.0,
        at_least_one: bool | str = False,
        **options: Any,
    ) -> None:
        super().__init__(
            function=self.step,
            inputs={"messages": messages, "labels": labels, "dev": dev, "cross_fitted": cross_fitted},
            parameters={
                "classifier": classifier,
                "encoder": encoder,
                "features": _texts("features", features, distinct_texts),
                "key": key,
                "text": text,
                "label": label,
                "min_confidence": min_confidence,
                "at_least_one": at_least_one,
            },
            **options,
        )


class EvaluateOperator(StepOperator):
    """Scores a model on gold beside the champion and plain baselines. Outputs: `report`, `scores`."""

    step = "kommuna.steps.training.evaluate:evaluate"

    def __init__(
        self,
        *,
        model: Input,
        gold: Input,
        dev: Input,
        messages: Input,
        dev_only: Input | None = None,
        gold_labels: Input | None = None,
        champion: Input | None = None,
        gold_votes: Input | None = None,
        key: str = "id",
        text: str = "text",
        label: str = "tag",
        **options: Any,
    ) -> None:
        super().__init__(
            function=self.step,
            inputs={
                "model": model,
                "gold": gold,
                "dev": dev,
                "messages": messages,
                "dev_only": dev_only,
                "gold_labels": gold_labels,
                "champion": champion,
                "gold_votes": gold_votes,
            },
            parameters={"key": key, "text": text, "label": label},
            **options,
        )


class _RegistryOperator(StepOperator):
    """A step that changes the registry: it always runs, and finds by itself what it did before."""

    template_fields: Sequence[str] = (*StepOperator.template_fields, "name")

    def __init__(self, *, name: str = "", **options: Any) -> None:
        super().__init__(cache=False, **options)
        self.name = name


class RegisterOperator(_RegistryOperator):
    """Registers a model version in MLflow, alias `challenger`. Output: `version`."""

    step = "kommuna.steps.registry.register:register"

    def __init__(self, *, model: Input, scores: Input, sample: Input, name: str, **options: Any) -> None:
        super().__init__(
            function=self.step,
            inputs={"model": model, "scores": scores, "sample": sample},
            name=name,
            **options,
        )

    def step_spec(self, *, run_id: str = "") -> StepSpec:
        """The step, with the team's prefix on the model's name."""
        self.parameters["name"] = model_name(self.dag.dag_id, self.name)
        return super().step_spec(run_id=run_id)


class PromoteOperator(_RegistryOperator):
    """Makes a version the champion when the gate holds; else the task is skipped (or fails) and says by how much.

    Args:
        gate: an expression over metrics: `f1_macro >= 0.7 and f1_macro >= champion.f1_macro - 0.01`.
        fail_when_refused: True fails the task where the gate refuses.
    """

    step = "kommuna.steps.registry.promote:promote"

    def __init__(
        self, *, version: Input, scores: Input, gate: str, fail_when_refused: bool = False, **options: Any
    ) -> None:
        super().__init__(
            function=self.step,
            inputs={"version": version, "scores": scores},
            parameters={"gate": gate},
            **options,
        )
        self.fail_when_refused = fail_when_refused
        self._evaluated = isinstance(_maker(scores), EvaluateOperator)
        if not is_templated(gate):
            self.judge_values({"gate": gate})  # a gate that cannot be read is refused at parse time

    def judge_values(self, parameters: Mapping[str, Any]) -> None:
        """Refuses a gate that cannot be read, or that names a figure which the evaluation does not leave."""
        gate = Gate(str(parameters["gate"]))
        if self._evaluated:
            gate.check_names(EVALUATION_METRICS)

    def after(self, spec: StepSpec, result: StepResult) -> None:
        """Raises where the gate refused: the registry and the manifest have it already."""
        promotion = self.read_json(spec, "promotion")
        if not promotion["promoted"]:
            error = AirflowException if self.fail_when_refused else AirflowSkipException
            raise error(f"the gate refused: {promotion['reason']}")


class PredictOperator(StepOperator):
    """Tags new messages by a model. Output: `predictions`."""

    step = "kommuna.steps.training.predict:predict"

    def __init__(self, *, messages: Input, model: Input, key: str = "id", text: str = "text", **options: Any) -> None:
        super().__init__(
            function=self.step,
            inputs={"messages": messages, "model": model},
            parameters={"key": key, "text": text},
            **options,
        )


def _maker(source: Input) -> Any:
    """The task that makes an input."""
    return source.operator if isinstance(source, StepOutput | PlainXComArg) else source


def _texts(name: str, value: Any, read: Callable[[str, Any], list[str]] = text_list) -> Any:
    """A list of texts, or what a template or another task makes one of: the step judges that."""
    if is_templated(value):
        return list(value) if isinstance(value, list | tuple) else value
    return read(name, value)


def _schema(columns: Any) -> Any:
    """A table's declared schema: `{"id": "String"}`, or all of `TableSchema`'s fields."""
    if not isinstance(columns, Mapping) or isinstance(columns.get("columns"), Mapping):
        return columns  # whole already, or what a template or another task gives
    return {"columns": dict(columns)}
