"""`kommuna run-dag` beside a running platform: it reads the team's variables, and writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.rigs.dag_runs import DagRuns

if TYPE_CHECKING:
    from tests.integration.platform.conftest import Site

READS = """
from airflow.sdk import BaseHook, DAG, Variable, task

at_parse = Variable.get("support__limit", default="none")

with DAG("reads_at_hand", schedule=None):
    @task
    def read():
        Variable.set("support__limit", "6")
        print("READ", at_parse, Variable.get("support__limit"), Variable.get("fraud__limit", default="none"),
              BaseHook.get_connection("support__bank").host)
    read()
"""


def test_with_a_running_platform_the_teams_variables_are_read_and_nothing_is_written(site: Site) -> None:
    runs = DagRuns(site)
    for team in ("support", "fraud"):
        runs.call("POST", "/variables", json={"key": f"{team}__limit", "value": "5"})
    runs.call(
        "POST", "/connections", json={"connection_id": "support__bank", "conn_type": "http", "host": "bank.example"}
    )
    path = runs.write("reads_at_hand.py", READS)
    try:
        done = site.kommuna("run-dag", str(path))
        assert done.returncode == 0, done.stderr
        assert "READ 5 6 none bank.example" in done.stderr
        assert runs.call("GET", "/variables/support__limit").json()["value"] == "5"
        assert runs.await_dags({"support__reads_at_hand"})
        assert runs.pages("/dags/support__reads_at_hand/dagRuns", "dag_runs") == []
    finally:
        path.unlink()
        for team in ("support", "fraud"):
            runs.call("DELETE", f"/variables/{team}__limit")
        runs.call("DELETE", "/connections/support__bank")
