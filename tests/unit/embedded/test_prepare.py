"""The note of an up-to-date database: it changes with everything that a prepared database depends on."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

from kommuna.embedded.prepare import wanted
from kommuna.spec.installation import Installation
from kommuna.spec.team import Platform


def installation(slots: int) -> Installation:
    teams = {"support": {"bundle": "dags", "pools": {"default": slots}, "parallelism": 9}}
    return Installation(Platform.model_validate({"teams": teams}), Path("/site"))


def test_the_note_of_airflows_database_has_the_version_the_teams_and_the_pools() -> None:
    known = json.loads(wanted(installation(3), "airflow"))
    assert known["schema"] == version("apache-airflow")
    assert known["content"] == {"teams": ["support"], "pools": [["support__default", "support", 3]]}
    assert (
        wanted(installation(3), "airflow") == wanted(installation(3), "airflow") != wanted(installation(4), "airflow")
    )


def test_the_note_of_mlflows_database_has_only_the_version() -> None:
    assert wanted(installation(3), "mlflow") == wanted(installation(4), "mlflow")
    assert json.loads(wanted(installation(3), "mlflow")) == {"schema": version("mlflow")}
