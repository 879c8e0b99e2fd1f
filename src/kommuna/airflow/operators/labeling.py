"""Operators over the steps of weak labeling: apply rules, label messages, refine rules, report on rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kommuna.airflow.operators.base import Input, SharedStepOperator, texts_or_template
from kommuna.airflow.operators.rendering import is_templated
from kommuna.spec.installation import place_of
from kommuna.spec.llm import Asking, Budget
from kommuna.spec.step import StepSpec


class ApplyRulesOperator(SharedStepOperator):
    """Applies labeling rules. Outputs: `votes`; `questions`, with the price of each question to an LLM.

    Args:
        asking: how `ask` rules call the LLM, the fields of `Asking`: `{"budget": {"money": 5}, "max_failed": 0.05}`.
            The endpoint is the platform's light LLM. The name of its model is part of the step's cache key.
    """

    step = "kommuna.steps:apply_rules"

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
        parameters = {"key": key, "text": text} | ({"asking": asking} if asking else {})
        inputs = {"messages": messages, "rules": rules}
        super().__init__(**self.options_of(options, inputs=inputs, parameters=parameters))
        if asking and not is_templated(asking):
            Asking.read(dict(asking), where=f"task {self.task_id}")  # refused at parse time

    def step_spec(self, *, run_id: str = "") -> StepSpec:
        """Returns the step with the platform's light LLM filled in: another model gives another result."""
        light = place_of(self.dag.fileloc).llms.light
        if light is not None:
            self.parameters["asking"] = {"model": light.model} | self.parameters.get("asking", {})
        return super().step_spec(run_id=run_id)


class LabelOperator(SharedStepOperator):
    """Turns votes into probabilistic labels with a label model.

    Outputs: `labels`; with dev rows also `cross_fitted`, for `TrainClassifierOperator`; with `gold_votes` also
    `gold_labels`.
    """

    step = "kommuna.steps:label_messages"

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
        seed: int | str = 0,
        iterations: int | str = 50,
        epochs: int | str = 500,
        memory: str = "4Gi",
        **options: Any,
    ) -> None:
        parameters = {
            "model": model,
            "key": key,
            "label": label,
            "seed": seed,
            "iterations": iterations,
            "epochs": epochs,
            "memory": memory,
        }
        inputs = {"votes": votes, "rules": rules, "dev_votes": dev_votes, "dev": dev, "gold_votes": gold_votes}
        super().__init__(**self.options_of(options, inputs=inputs, parameters=parameters))


class RefineRulesOperator(SharedStepOperator):
    """Writes better rules from the label model's errors on dev. Outputs: `rules`, `report`, `rounds`, `dev_votes`.

    `dev_votes` are the rules' votes on dev, each cast by rules that were written without that row. Give them to
    `LabelOperator` and `RuleReportOperator`. Votes of `ApplyRulesOperator` on the same dev rows overrate the rules.

    Args:
        rules: rules to start from; they are kept. Without them refinement starts from nothing.
        gold: labeled rows to report on, none of them in dev; nothing is chosen by them.
        proposers: what proposes rules: `miner`, `llm` or both.
        rounds: the maximum number of rounds.
        budget: the limit for the platform's heavy LLM: `{"money": 5}` or `{"tokens": 200000}`. The name of the model is
            part of the step's cache key.
    """

    step = "kommuna.steps:refine_rules"

    def __init__(
        self,
        *,
        messages: Input,
        dev: Input,
        rules: Input | None = None,
        gold: Input | None = None,
        proposers: Sequence[str] = ("miner",),
        rounds: int | str = 10,
        least_precision: float | str = 0.0,
        budget: Mapping[str, Any] | None = None,
        multi_label: bool | str = False,
        key: str = "id",
        text: str = "text",
        label: str = "tag",
        seed: int | str = 0,
        **options: Any,
    ) -> None:
        parameters = {
            "proposers": texts_or_template("proposers", proposers),
            "rounds": rounds,
            "least_precision": least_precision,
            "budget": budget or {},
            "multi_label": multi_label,
            "key": key,
            "text": text,
            "label": label,
            "seed": seed,
        }
        inputs = {"messages": messages, "dev": dev, "rules": rules, "gold": gold}
        super().__init__(**self.options_of(options, inputs=inputs, parameters=parameters))
        if not is_templated(budget):
            Budget.read(dict(budget or {}), where=f"task {self.task_id}")  # refused at parse time

    def step_spec(self, *, run_id: str = "") -> StepSpec:
        """Returns the step with the platform's heavy LLM filled in where it is used: another model, another result."""
        heavy = place_of(self.dag.fileloc).llms.heavy
        if heavy is not None and "llm" in self.parameters["proposers"]:
            self.parameters["model"] = heavy.model
        return super().step_spec(run_id=run_id)


class RuleReportOperator(SharedStepOperator):
    """Reports each rule's figures, errors on dev and contribution, the worst first. Outputs: `report`, `table`."""

    step = "kommuna.steps:rule_report"

    def __init__(
        self,
        *,
        votes: Input,
        rules: Input,
        labels: Input | None = None,
        dev_votes: Input | None = None,
        dev: Input | None = None,
        questions: Input | None = None,
        key: str = "id",
        text: str = "text",
        label: str = "tag",
        **options: Any,
    ) -> None:
        inputs = {"votes": votes, "rules": rules, "labels": labels, "dev_votes": dev_votes, "dev": dev}
        inputs["questions"] = questions
        parameters = {"key": key, "text": text, "label": label}
        super().__init__(**self.options_of(options, inputs=inputs, parameters=parameters))
