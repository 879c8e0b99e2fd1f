"""`weak_supervision_dag`: the whole chain from raw messages to tagged messages, as one function call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from airflow.sdk import Param, TaskGroup

from kommuna.airflow.dags.team_dag import TeamDag
from kommuna.airflow.operators.labeling import ApplyRulesOperator, LabelOperator, RuleReportOperator
from kommuna.airflow.operators.references import Model
from kommuna.airflow.operators.registry import PromoteOperator, RefusalOperator, RegisterOperator
from kommuna.airflow.operators.tables import PrepareMessagesOperator
from kommuna.airflow.operators.training import EvaluateOperator, PredictOperator, TrainClassifierOperator
from kommuna.spec.choices import EncoderChoice, LabelModelName, TextClassifier
from kommuna.spec.texts import text_list

DEFAULT_GATE = "f1_macro >= 0.5 and f1_macro >= champion.f1_macro - 0.01"


def weak_supervision_dag(
    dag_id: str,
    *,
    model: str,
    columns: Mapping[str, str],
    rules: str = "rules.yaml",
    messages: str = "store://inbox/messages.csv",
    dev: str = "store://inbox/dev.csv",
    gold: str = "store://inbox/gold.csv",
    new_messages: str = "store://inbox/new_messages.csv",
    key: str = "id",
    text: str = "text",
    label: str = "tag",
    names: Sequence[str] = (),
    region: str = "RU",
    label_model: LabelModelName = "kommuna",
    classifier: TextClassifier = "tfidf_logreg",
    encoder: EncoderChoice = "auto",
    min_confidence: float = 0.0,
    asking: Mapping[str, Any] | None = None,
    gate: str = DEFAULT_GATE,
    slices: Mapping[str, str] | None = None,
    **options: Any,
) -> TeamDag:
    """Makes a DAG that tags unlabeled texts: rules vote, a label model weighs, a classifier learns, a gate decides.

    Args:
        dag_id: a bare id; the platform adds the team's prefix.
        model: the registered model's name.
        columns: the declared columns of the messages and their types; dev and gold also have `label`.
        rules: the rules file, relative to the bundle.
        messages: unlabeled messages to learn from.
        dev: labeled messages that rules are weighed by and the classifier is trained on.
        gold: labeled messages to report on; read once per run, by the evaluation.
        new_messages: messages that the champion tags at the end.
        key: the column that names a row.
        text: the column with the message.
        label: the column with the tag in dev and gold.
        names: people's names to mask.
        region: the country of phone numbers without a country code.
        label_model: the label model that turns votes into labels.
        classifier: the classifier that learns from the labels.
        encoder: the encoder of a classifier over embeddings; `auto` chooses by the script of the messages.
        min_confidence: labels below this probability are not used for training.
        asking: how `ask` rules call the LLM: the budget of each of the three steps that vote, the share that may fail.
        gate: the condition on which a new version becomes the champion.
        slices: named parts of gold that the evaluation reports on: `{"chat": "channel = 'chat'"}`.
        options: everything that `TeamDag` takes.

    The form in the Airflow UI offers each of the choices for one run.
    """
    labeled = {**columns, label: "String"}
    prepare: dict[str, Any] = {"names": text_list("names", names), "region": region}
    column_names = {"key": key, "text": text, "label": label}
    with TeamDag(
        dag_id,
        params=_form(messages, rules, label_model, classifier, encoder, min_confidence, gate),
        doc_md=weak_supervision_dag.__doc__ if "doc_md" not in options else options.pop("doc_md"),
        default_args={**(options.pop("default_args", None) or {}), **column_names},
        **options,
    ) as dag:
        chosen_rules = "{{ params.rules }}"
        with TaskGroup("read", prefix_group_id=False):
            learn = PrepareMessagesOperator(
                task_id="read_messages",
                source="{{ params.messages }}",
                columns=columns,
                since="{{ params.since }}",
                **prepare,
            )
            dev_rows = PrepareMessagesOperator(task_id="read_dev", source=dev, columns=labeled, **prepare)
            gold_rows = PrepareMessagesOperator(task_id="read_gold", source=gold, columns=labeled, **prepare)
            new_rows = PrepareMessagesOperator(
                task_id="read_new", source=new_messages, columns={key: columns[key], text: columns[text]}, **prepare
            )
        with TaskGroup("votes", prefix_group_id=False):
            votes, dev_votes, gold_votes = (
                ApplyRulesOperator(task_id=task_id, messages=rows["table"], rules=chosen_rules, asking=asking)
                for task_id, rows in (("vote", learn), ("vote_dev", dev_rows), ("vote_gold", gold_rows))
            )
        labels = LabelOperator(
            task_id="label",
            votes=votes["votes"],
            rules=chosen_rules,
            dev_votes=dev_votes["votes"],
            dev=dev_rows["table"],
            gold_votes=gold_votes["votes"],
            model="{{ params.label_model }}",
        )
        RuleReportOperator(
            task_id="report_rules",
            votes=votes["votes"],
            rules=chosen_rules,
            labels=labels["labels"],
            dev_votes=dev_votes["votes"],
            dev=dev_rows["table"],
            questions=votes["questions"],
        )
        trained = TrainClassifierOperator(
            task_id="train",
            messages=learn["table"],
            labels=labels["labels"],
            dev=dev_rows["table"],
            cross_fitted=labels["cross_fitted"],
            classifier="{{ params.classifier }}",
            encoder="{{ params.encoder }}",
            min_confidence="{{ params.min_confidence }}",
        )
        scores = EvaluateOperator(
            task_id="evaluate",
            model=trained["model"],
            gold=gold_rows["table"],
            dev=dev_rows["table"],
            messages=learn["table"],
            dev_only=trained["dev_only"],
            gold_labels=labels["gold_labels"],
            champion=Model(model, optional=True, unless=trained["model"]),
            gold_votes=gold_votes["votes"],
            slices=slices,
        )
        version = RegisterOperator(
            task_id="register",
            model=trained["model"],
            scores=scores["scores"],
            sample=dev_rows["table"],
            preparation=learn["preparation"],
            name=model,
        )
        promoted = PromoteOperator(
            task_id="promote",
            version=version["version"],
            scores=scores["scores"],
            gate="{{ params.gate }}",
            fail_when_refused=False,
        )
        RefusalOperator(task_id="refused", promotion=promoted)
        predicted = PredictOperator(
            task_id="predict",
            messages=new_rows["table"],
            model=Model(model),
            trigger_rule="none_failed",  # where the gate refuses, the old champion goes on tagging
        )
        promoted >> predicted
    return dag


def _form(
    messages: str, rules: str, label_model: str, classifier: str, encoder: str, min_confidence: float, gate: str
) -> dict[str, Param]:
    """Returns the params of the form behind Airflow's trigger button."""
    return {
        "messages": Param(messages, type="string", title="Messages", description="The file of messages to learn from."),
        "rules": Param(rules, type="string", title="Rules", description="The rules file: in the bundle, or store://…"),
        "since": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Since",
            description="Learn only from messages created on or after this day (their column created_at).",
        ),
        "label_model": Param(
            label_model,
            enum=list(get_args(LabelModelName)),
            title="Label model",
            description="Turns votes into labels.",
        ),
        "classifier": Param(
            classifier,
            enum=list(get_args(TextClassifier)),
            title="Classifier",
            description="The classifier that learns from the labels.",
        ),
        "encoder": Param(
            encoder,
            enum=list(get_args(EncoderChoice)),
            title="Encoder",
            description="The encoder of a classifier over embeddings.",
        ),
        "min_confidence": Param(
            min_confidence,
            type="number",
            minimum=0,
            maximum=1,
            title="Minimum confidence",
            description="Labels below this probability are not used for training.",
        ),
        "gate": Param(gate, type="string", title="Gate", description="When the new version becomes the champion."),
    }
