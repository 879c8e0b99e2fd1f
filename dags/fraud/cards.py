"""Card fraud: transactions joined with each customer's last event, SQL rules, a gradient-boosted tree, alerts."""

from airflow.sdk import Param, TaskGroup

from kommuna.airflow import (
    ApplyRulesOperator,
    AsofJoinOperator,
    EvaluateOperator,
    LabelOperator,
    Model,
    PredictOperator,
    PromoteOperator,
    QueryOperator,
    ReadTableOperator,
    RefusalOperator,
    RegisterOperator,
    RuleReportOperator,
    StepOperator,
    TeamDag,
    TrainClassifierOperator,
)

TEXTS = ("id", "customer_id", "currency", "merchant_category", "country", "home_country", "channel")
TRANSACTION = dict.fromkeys(TEXTS, "String") | {
    "at": "Datetime",
    "amount": "Float64",
    "usual_amount": "Float64",
    "card_present": "Boolean",
}
LABELED = TRANSACTION | {"tag": "String"}
EVENT = {
    "customer_id": "String",
    "at": "Datetime",
    "event": "String",
    "event_country": "String",
    "event_at": "Datetime",
}
FEATURES = [
    "amount", "usual_amount", "amount_over_usual", "abroad", "announced", "access_changed", "hours_since_event",
    "risky_category", "hour", "night", "card_present", "merchant_category", "channel", "event",
]  # fmt: skip
RULES = "rules.yaml"

with TeamDag(
    "cards",
    params={
        "least_confidence": Param(
            0.8, type="number", minimum=0, maximum=1, title="Least confidence", description="Surer ones become alerts."
        ),
        "gate": Param(
            "f1_macro >= 0.6 and f1_macro >= champion.f1_macro - 0.01",
            type="string",
            title="Gate",
            description="When the new version becomes the champion.",
        ),
    },
) as dag:
    events = ReadTableOperator(task_id="read_events", source="store://inbox/events.csv", columns=EVENT)

    def transactions(name: str, columns: dict[str, str]) -> QueryOperator:
        """Transactions of one file with their features."""
        with TaskGroup(name):
            read = ReadTableOperator(task_id="read", source=f"store://inbox/{name}.csv", columns=columns)
            joined = AsofJoinOperator(
                task_id="join", left=read["table"], right=events["table"], on="at", by=["customer_id"]
            )
            return QueryOperator(task_id="features", tables={"transactions": joined["table"]}, sql="features.sql")

    month = transactions("transactions", TRANSACTION)
    dev = transactions("tx_dev", LABELED)
    gold = transactions("tx_gold", LABELED)
    new = transactions("new_transactions", TRANSACTION)

    votes, dev_votes, gold_votes = (
        ApplyRulesOperator(task_id=task_id, messages=rows["table"], rules=RULES, text="merchant_category")
        for task_id, rows in (("vote", month), ("vote_dev", dev), ("vote_gold", gold))
    )
    labels = LabelOperator(
        task_id="label",
        votes=votes["votes"],
        rules=RULES,
        dev_votes=dev_votes["votes"],
        dev=dev["table"],
        gold_votes=gold_votes["votes"],
    )
    RuleReportOperator(
        task_id="report_rules",
        votes=votes["votes"],
        rules=RULES,
        labels=labels["labels"],
        dev_votes=dev_votes["votes"],
        dev=dev["table"],
    )
    trained = TrainClassifierOperator(
        task_id="train",
        messages=month["table"],
        labels=labels["labels"],
        dev=dev["table"],
        cross_fitted=labels["cross_fitted"],
        classifier="boosted_trees",
        features=FEATURES,
    )
    scores = EvaluateOperator(
        task_id="evaluate",
        model=trained["model"],
        gold=gold["table"],
        dev=dev["table"],
        messages=month["table"],
        dev_only=trained["dev_only"],
        gold_labels=labels["gold_labels"],
        champion=Model("cards", optional=True, unless=trained["model"]),
    )
    version = RegisterOperator(
        task_id="register", model=trained["model"], scores=scores["scores"], sample=dev["table"], name="cards"
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
        task_id="predict", messages=new["table"], model=Model("cards"), trigger_rule="none_failed"
    )
    StepOperator(
        task_id="alerts",
        function="fraud_alerts:alerts",
        inputs={"predictions": predicted["predictions"], "transactions": new["table"]},
        parameters={"least_confidence": "{{ params.least_confidence }}"},
    )
    promoted >> predicted
