"""Topics of client messages: rules and operators' tags vote, a classifier learns, the champion tags new messages."""

from pathlib import Path

from kommuna.airflow import weak_supervision_dag

weak_supervision_dag(
    "topics",
    model="topics",
    columns=dict.fromkeys(("id", "created_at", "channel", "text", "operator", "operator_tag"), "String"),
    names=Path(__file__).with_name("names.txt").read_text(encoding="utf-8").split(),
    gate="f1_macro >= 0.7 and f1_macro >= champion.f1_macro - 0.01",
)
