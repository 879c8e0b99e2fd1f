"""The main job on the running platform: both teams' DAGs, from raw data to registered models and tagged messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
import requests

from kommuna.store import Store

if TYPE_CHECKING:
    from tests.integration.platform.conftest import Site

MESSAGES = "6000"


def document(site: Site) -> dict[str, Any]:
    return dict(json.loads((site.root / "build/demo.json").read_text()))


pytestmark = pytest.mark.timeout(900)  # the first test waits for the demo


@pytest.fixture(scope="module")
def first(site: Site) -> dict[str, Any]:
    done = site.kommuna("demo", "--messages", MESSAGES)
    assert done.returncode == 0, done.stdout + done.stderr
    return document(site)


@pytest.fixture(scope="module")
def second(site: Site, first: dict[str, Any]) -> dict[str, Any]:
    done = site.kommuna("demo", "--messages", MESSAGES)
    assert done.returncode == 0, done.stdout + done.stderr
    return document(site)


def test_both_teams_run_every_step_and_register_a_model(first: dict[str, Any]) -> None:
    assert first["succeeded"]
    by_dag = {run["dag"]: run for run in first["runs"]}
    assert set(by_dag) == {"support__topics", "fraud__cards"}
    for run in by_dag.values():
        assert (run["state"], run["cached"]) == ("success", 0)
        assert len(run["tasks"]) == run["steps"]
        assert run["version"] == "1"
        assert run["model"] == run["dag"]
        assert 0.5 < run["coverage"] <= 1
    assert by_dag["support__topics"]["rows"] == int(MESSAGES)


def test_the_models_beat_their_baselines(first: dict[str, Any]) -> None:
    by_dag = {run["dag"]: run for run in first["runs"]}
    for run in by_dag.values():
        assert run["f1_macro"] > run["baselines"]["baseline.majority_class.f1_macro"]
        assert run["f1_macro"] > run["baselines"]["baseline.label_model.f1_macro"]
    topics = by_dag["support__topics"]
    assert topics["f1_macro"] > topics["baselines"]["baseline.dev_only.f1_macro"]


def test_mlflows_own_api_agrees(site: Site, first: dict[str, Any]) -> None:
    for run in first["runs"]:
        answer = requests.get(
            f"{site.embedded.access.mlflow}/api/2.0/mlflow/registered-models/alias",
            params={"name": run["model"], "alias": "champion"},
            headers={"X-MLFLOW-WORKSPACE": run["team"]},
            timeout=20,
        )
        version = answer.json()["model_version"]
        tags = {tag["key"]: tag["value"] for tag in version["tags"]}
        assert version["version"] == run["version"]
        assert tags["kommuna.manifest"] == run["tasks"]["train"]["key"]
        other = requests.get(
            answer.url, headers={"X-MLFLOW-WORKSPACE": "fraud" if run["team"] == "support" else "support"}, timeout=20
        )
        assert other.json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"


@pytest.mark.parametrize(
    "source",
    [
        "s3://bucket/fraud/model",
        "https://elsewhere.example/model",
        "mlflow-artifacts:/workspaces/fraud/0/models",
        "mlflow-artifacts:/workspaces/support/../fraud/0/models",
        "file:///etc",
        "/etc",
        "models:/m-0123456789abcdef0123456789abcdef",
    ],
)
def test_a_model_version_of_files_from_elsewhere_is_refused(site: Site, first: dict[str, Any], source: str) -> None:
    name = next(run["model"] for run in first["runs"] if run["team"] == "support")
    answer = requests.post(
        f"{site.embedded.access.mlflow}/api/2.0/mlflow/model-versions/create",
        json={"name": name, "source": source},
        headers={"X-MLFLOW-WORKSPACE": "support"},
        timeout=20,
    )
    assert answer.status_code == 400, answer.text
    assert answer.json()["message"].startswith("Invalid model version source")


def test_new_messages_are_tagged_by_the_champion(site: Site, first: dict[str, Any], tmp_path: Path) -> None:
    run = next(run for run in first["runs"] if run["dag"] == "support__topics")
    store = Store(site.embedded.installation.store(), "support")
    manifest = store.manifest(run["tasks"]["predict"]["key"])
    assert manifest is not None
    predictions = pl.read_parquet(store.fetch(manifest.outputs["predictions"], tmp_path))
    new = pl.read_csv(site.root / ".kommuna/store/support/inbox/new_messages.csv")
    assert predictions["id"].to_list() == new["id"].to_list()
    assert predictions["confidence"].is_between(0, 1).all()
    assert predictions["tag"].n_unique() > 10
    lineage = {line.input: line for line in manifest.lineage}
    assert lineage["model"].source == "support__topics v1 (champion)"


def test_no_personal_data_of_the_demo_reaches_a_later_step(site: Site, first: dict[str, Any], tmp_path: Path) -> None:
    run = next(run for run in first["runs"] if run["dag"] == "support__topics")
    store = Store(site.embedded.installation.store(), "support")
    manifest = store.manifest(run["tasks"]["read_messages"]["key"])
    assert manifest is not None
    texts = pl.read_parquet(store.fetch(manifest.outputs["table"], tmp_path))["text"]
    assert texts.str.contains(r"\[PHONE\]").any()
    assert not texts.str.contains(r"[\w.]+@[\w.]+\.\w+").any()


@pytest.mark.parametrize("team", ["support", "fraud"])
def test_a_champion_is_rebuilt_from_its_record(site: Site, first: dict[str, Any], team: str) -> None:
    run = next(run for run in first["runs"] if run["team"] == team)
    done = site.kommuna("models", "rebuild", run["model"], run["version"], "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    print(found["sentence"])
    assert found["equal"]
    assert found["changes"] == []
    assert found["steps"][-1]["key"] == run["tasks"]["train"]["key"]
    assert {step["verdict"] for step in found["steps"]} == {"equal"}, done.stderr
    assert all(one["recorded"] == one["rebuilt"] for one in found["outputs"])


def test_the_second_run_reuses_unchanged_steps(first: dict[str, Any], second: dict[str, Any]) -> None:
    for before, after in zip(first["runs"], second["runs"], strict=True):
        rerun = {task for task, result in after["tasks"].items() if not result["cached"]}
        # The champion is new since the first run, so the evaluation compares with it; the registry always answers.
        assert rerun <= {"evaluate", "register", "promote"}
        assert after["version"] == before["version"]


def test_a_team_only_sees_its_own_dags_and_reports(site: Site, first: dict[str, Any]) -> None:
    ids = {dag["dag_id"] for dag in site.get("/api/v2/dags", "support").json()["dags"]}
    assert ids == {"support__topics", "support__own_messages"}
    run = next(run for run in first["runs"] if run["dag"] == "support__topics")
    task = f"/api/v2/dags/support__topics/dagRuns/{run['run_id']}/taskInstances/evaluate"
    links = site.get(f"{task}/links", "support").json()["extra_links"]
    assert links["Report"].startswith("/kommuna/dags/support__topics/manifests/")
    page = site.get(links["Report"], "support")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "sandbox" in page.headers["content-security-policy"]
    assert "<svg" in page.text
    assert "team <b>support</b> · DAG <b>support__topics</b> · task <b>evaluate</b> · run <b>" in page.text
    assert site.get(links["Manifest"], "support").json()["key"] == run["tasks"]["evaluate"]["key"]
    assert site.get(links["Report"], "fraud").status_code == 404
    assert requests.get(f"{site.embedded.access.airflow}{links['Report']}", timeout=20).status_code == 401
    # The right team with another team's DAG in the path finds nothing of the first team's.
    assert site.get(links["Report"].replace("support__topics", "fraud__cards"), "fraud").status_code == 404
    # Airflow lets anybody read a DAG that it does not know: such an id opens no team's store.
    assert site.get(links["Report"].replace("support__topics", "support__nosuch"), "fraud").status_code == 404
    register = site.get(task.replace("evaluate", "register") + "/links", "support").json()["extra_links"]
    assert register["MLflow run"].startswith(site.embedded.access.mlflow)
    assert "/#/models/support__topics/versions/1" in register["MLflow model"]


def test_a_refused_version_makes_the_run_red_while_the_old_champion_tags_on(site: Site, first: dict[str, Any]) -> None:
    done = site.kommuna(
        "trigger", "support__topics", "--wait", "-p", "classifier=tfidf_cnb", "-p", "gate=f1_macro >= 0.999"
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "promote: skipped" in done.stdout
    why = " ".join(done.stdout.split("refused failed:")[1].split())
    assert "does not become the champion" in why
    assert "< 0.999" in why
    runs = site.get("/api/v2/dags/support__topics/dagRuns", params={"order_by": "-start_date", "limit": 1}).json()
    run_id = runs["dag_runs"][0]["dag_run_id"]
    tasks = f"/api/v2/dags/support__topics/dagRuns/{run_id}/taskInstances"
    assert "< 0.999" in site.get(f"{tasks}/promote/logs/1").text
    decision = site.get(f"{tasks}/promote/xcomEntries/promotion").json()["value"]
    assert "refused" in str(decision)
    assert site.get(f"{tasks}/predict").json()["state"] == "success"


def test_a_failed_steps_message_is_at_the_end_of_its_log(site: Site, first: dict[str, Any]) -> None:
    done = site.kommuna("trigger", "support__topics", "--wait", "-p", "messages=store://inbox/absent.csv")
    assert done.returncode == 1
    tail = done.stdout.split("read_messages failed:")[1]
    assert "input 'source': store://inbox/absent.csv does not exist" in tail
    assert "fix: a plain path is relative to the team's bundle" in tail
    runs = site.get("/api/v2/dags/support__topics/dagRuns", params={"order_by": "-start_date", "limit": 1}).json()
    run_id = runs["dag_runs"][0]["dag_run_id"]
    task = site.get(f"/api/v2/dags/support__topics/dagRuns/{run_id}/taskInstances/read_messages").json()
    assert task["try_number"] == 1  # the team's mistake is not tried again


def test_a_wrong_value_in_the_form_is_refused(site: Site, first: dict[str, Any]) -> None:
    done = site.kommuna("trigger", "support__topics", "-p", "min_confidence=7")
    assert done.returncode == 2
    assert "min_confidence" in done.stderr
    done = site.kommuna("trigger", "support__topic")
    assert "no DAG 'support__topic' (did you mean 'support__topics'?)" in done.stderr


def test_show_draws_the_lineage_down_to_the_files(site: Site, first: dict[str, Any]) -> None:
    run = next(run for run in first["runs"] if run["dag"] == "support__topics")
    done = site.kommuna("show", run["tasks"]["evaluate"]["key"][:16])
    assert done.returncode == 0, done.stderr
    for piece in (
        "kommuna.steps:evaluate",
        "kommuna.steps:train_classifier",
        "kommuna.steps:label_messages",
        "store://inbox/messages.csv",
        "rules.yaml",
    ):
        assert piece in done.stdout


def test_gc_keeps_everything_that_manifests_and_models_refer_to(site: Site, first: dict[str, Any]) -> None:
    store = Store(site.embedded.installation.store(), "support")
    before = sorted(manifest.key for manifest in store.manifests())
    done = site.kommuna("gc")
    assert done.returncode == 0, done.stderr
    assert sorted(manifest.key for manifest in store.manifests()) == before


def test_banking77_beats_the_label_model_and_the_dev_rows_alone(site: Site, shared_data: Path) -> None:
    done = site.kommuna("demo", "--data", str(shared_data / "banking77"))
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = document(site)["runs"]
    print(json.dumps({"banking77": {"accuracy": run["accuracy"], **run["baselines"]}}))
    assert run["accuracy"] > run["baselines"]["baseline.label_model.accuracy"]
    assert run["accuracy"] > run["baselines"]["baseline.dev_only.accuracy"]
    assert run["rows"] == 9_003
