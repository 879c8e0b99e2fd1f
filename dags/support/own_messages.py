"""Messages of any kind, with keyword rules of their own: `make demo DATA=DIR` puts both into the inbox."""

from kommuna.airflow import weak_supervision_dag

weak_supervision_dag(
    "own_messages",
    model="own_messages",
    columns={"id": "String", "text": "String"},
    rules="store://inbox/own/rules.yaml",
    messages="store://inbox/own/messages.csv",
    dev="store://inbox/own/dev.csv",
    gold="store://inbox/own/gold.csv",
    new_messages="store://inbox/own/new_messages.csv",
    region="GB",
)
