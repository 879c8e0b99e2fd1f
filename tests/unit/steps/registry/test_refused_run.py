"""A refused version in a run of Airflow itself, without a platform, against a real MLflow server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.rigs.promotion import add, champion_of

from kommuna.steps.registry.client import Registry

NAME = "support__refusal"
DAG = """
from kommuna.airflow import PromoteOperator, RefusalOperator, StepOperator, TeamDag

with TeamDag("refusal") as dag:
    made = StepOperator(task_id="made", function="team_steps:made", parameters={"f1_macro": F1}, cache=False)
    promoted = PromoteOperator(
        task_id="promote", version=made["version"], scores=made["scores"], gate="f1_macro >= 0.7",
        fail_when_refused=False,
    )
    RefusalOperator(task_id="refused", promotion=promoted)
    tagged = StepOperator(task_id="tag", function="team_steps:tag", trigger_rule="none_failed", cache=False)
    promoted >> tagged
"""
STEPS = """
from typing import NamedTuple

class Made(NamedTuple):
    version: dict
    scores: dict

def made(*, f1_macro: float) -> Made:
    scores = {"rows": 9, "multi_label": False, "metrics": {"f1_macro": f1_macro}, "per_tag": [], "confusions": [],
              "reliability": []}
    return Made({"name": "support__refusal", "version": "1"}, scores)

class Tagged(NamedTuple):
    done: dict

def tag() -> Tagged:
    print("THE OLD CHAMPION TAGS")
    return Tagged({"rows": 1})
"""


def run(site: Path, f1_macro: float) -> subprocess.CompletedProcess[str]:
    (site / "dags" / "refusal.py").write_text(DAG.replace("F1", str(f1_macro)))
    kommuna = str(Path(sys.executable).with_name("kommuna"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MLFLOW"))}
    return subprocess.run(
        [kommuna, "run-dag", "dags/refusal.py"], cwd=site, env=kept, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_refused_version_makes_the_run_fail_after_the_old_champion_has_tagged(
    mlflow_server: str, tmp_path: Path
) -> None:
    (tmp_path / "kommuna.yaml").write_text(f"mlflow: {mlflow_server}\nteams:\n  support: {{bundle: dags}}\n")
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "team_steps.py").write_text(STEPS)
    registry = Registry(mlflow_server, "support")
    add(registry, NAME, "1" * 64)

    refused = run(tmp_path, 0.6)
    said = refused.stdout + refused.stderr
    assert refused.returncode != 0, said
    assert (
        "version 1 of 'support__refusal' does not become the champion: the gate does not hold: f1_macro 0.6 < 0.7"
        in said
    )
    assert "THE OLD CHAMPION TAGS" in said
    assert champion_of(registry, NAME) == ""

    promoted = run(tmp_path, 0.8)
    assert promoted.returncode == 0, promoted.stdout + promoted.stderr
    assert champion_of(registry, NAME) == "1"
    version = registry.version(NAME, "1")
    assert version is not None
    assert version.tags["kommuna.decided_by"].startswith("the gate of support__refusal, run ")
    assert "/kommuna/dags/support__refusal/manifests/" in version.tags["kommuna.report"]
