"""One team walks all routes of the MLflow server with its login, and finds nothing of another team's workspace."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.rigs.registry import Registry, jobs, password, registry
from tests.rigs.walk import walk

pytestmark = pytest.mark.timeout(600)
SECRET, METRIC = "walked_secret", 1234567
TRACE = "tr-" + "a" * 32
API2, API3 = "/api/2.0/mlflow", "/api/3.0/mlflow"
# What answers a team's login: about the server, or about its own workspace.
OPEN = {
    "/", "/health", "/version", "/graphql", "/api/2.0/mlflow-artifacts/artifacts", "experiments/search",
    "logged-models/search", "mcp-servers", "mcp-servers/endpoints", "model-versions/search", "roles/get", "roles/permissions/list", "runs/search", "server-info", "users/current", "users/current/permissions", "users/list",
    "workspaces",
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry"), free_port(), ("support", "fraud")) as running:
        yield running


@pytest.fixture(scope="module")
def ids(server: Registry) -> dict[str, Any]:
    """Makes fraud's rows of every kind; returns values for the fields of requests."""
    tags = [{"key": "k", "value": SECRET}]
    experiment = server.make("fraud", f"{API2}/experiments/create", {"name": "fexp", "tags": tags})["experiment_id"]
    run = server.make("fraud", f"{API2}/runs/create", {"experiment_id": experiment, "tags": tags})["run"]["info"]
    uri = run["artifact_uri"]
    server.make("fraud", f"{API2}/runs/log-parameter", {"run_id": run["run_id"], "key": "k", "value": SECRET})
    metric = {"run_id": run["run_id"], "key": "k", "value": METRIC, "timestamp": 1, "step": 0}
    server.make("fraud", f"{API2}/runs/log-metric", metric)
    path = uri.partition("mlflow-artifacts:/")[2].lstrip("/")
    artifact = f"/api/2.0/mlflow-artifacts/artifacts/{path}/a.txt"
    assert server.call("fraud", "PUT", artifact, data=SECRET).ok
    logged = server.make("fraud", f"{API2}/logged-models", {"experiment_id": experiment, "name": "lm", "tags": tags})
    model = logged["model"]["info"]["model_id"]
    server.make("fraud", f"{API2}/registered-models/create", {"name": "fmodel", "description": SECRET})
    version = {"name": "fmodel", "source": uri, "run_id": run["run_id"], "description": SECRET}
    server.make("fraud", f"{API2}/model-versions/create", version)
    alias = {"name": "fmodel", "alias": "champion", "version": "1"}
    server.make("fraud", f"{API2}/registered-models/alias", alias)
    body: dict[str, Any] = {"name": "fds", "experiment_ids": [experiment], "tags": json.dumps({"k": SECRET})}
    data = server.make("fraud", f"{API3}/datasets/create", body)["dataset"]["dataset_id"]
    place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}
    trace = {
        "trace_id": TRACE, "trace_location": place, "request_time": "2026-01-01T00:00:00Z", "state": "OK",
        "request_preview": SECRET, "tags": {"k": SECRET},
    }  # fmt: skip
    server.make("fraud", f"{API3}/traces", {"trace": {"trace_info": trace}})
    scorer = {"experiment_id": experiment, "name": "fscorer", "serialized_scorer": json.dumps({"name": SECRET})}
    server.make("fraud", f"{API3}/scorers/register", scorer)
    issue = {"experiment_id": experiment, "name": SECRET, "description": SECRET, "severity": "low", "status": "pending"}
    made = server.make("fraud", f"{API3}/issues", issue)["issue"]["issue_id"]
    queue = {"experiment_id": experiment, "name": "frq", "queue_type": "CUSTOM"}
    queued = server.make("fraud", f"{API3}/review-queues/create", queue)["review_queue"]["queue_id"]
    return {
        "experiment_id": experiment, "experiment_ids": [experiment], "target_experiment_id": experiment,
        "resource_id": experiment, "resource_type": "experiment", "experiment_name": "fexp", "run_id": run["run_id"],
        "run_uuid": run["run_id"], "run_ids": [run["run_id"]], "model_id": model, "model_ids": [model],
        "models": [{"model_id": model, "step": 0}], "name": "fmodel", "model_name": "fmodel", "version": "1",
        "alias": "champion", "dataset_id": data, "dataset_ids": [data], "trace_id": TRACE, "request_id": TRACE,
        "trace_ids": [TRACE], "request_ids": [TRACE], "locations": [place], "path": "a.txt", "artifact_path": f"{path}/a.txt",
        "artifact_uri": uri, "artifact_location": uri, "source": uri, "issue_id": made, "queue_id": queued, "key": "k",
        "tag_key": "k", "metric_key": "k", "value": "changed", "new_name": "taken", "description": "changed",
        "username": "fraud", "user_id": "fraud", "workspace_name": "fraud", "stage": "Archived", "status": "FAILED",
        "lifecycle_stage": "deleted", "tags": [{"key": "k", "value": "changed"}], "metrics": [],
        "params": [{"key": "k2", "value": "changed"}], "permission": "MANAGE", "password": "a-password-of-support",
        "is_admin": True, "role_id": 1, "job_id": "1", "max_results": 100, "view_type": "ALL", "run_view_type": "ALL",
        "query": f'{{mlflowGetRun(input:{{runId:"{run["run_id"]}"}}){{run{{data{{tags{{key value}}}}}}}}}}', "url": "http://x/",
    }  # fmt: skip


def _state(server: Registry, ids: dict[str, Any]) -> dict[str, str]:
    """Returns what fraud has, as the administrator sees it, and what its own login still sees."""
    experiment = {"experiment_id": ids["experiment_id"]}
    folder = ids["artifact_path"].removesuffix("/a.txt")
    asked = (
        (f"{API2}/experiments/get", experiment), (f"{API2}/experiments/search", {"max_results": 100}),
        (f"{API2}/runs/get", {"run_id": ids["run_id"]}), (f"{API2}/registered-models/get", {"name": "fmodel"}),
        (f"{API2}/registered-models/search", {}), (f"{API2}/model-versions/get", {"name": "fmodel", "version": "1"}),
        (f"{API3}/datasets/{ids['dataset_id']}", {}), (f"{API3}/traces/{TRACE}", {}),
        (f"{API2}/logged-models/{ids['model_id']}", {}), (f"{API3}/scorers/list", experiment),
        (f"{API3}/review-queues/list", experiment), (f"{API3}/workspaces/fraud", {}),
        ("/api/2.0/mlflow-artifacts/artifacts", {"path": folder}), (f"{API2}/users/get", {"username": "fraud"}),
        (f"/api/2.0/mlflow-artifacts/artifacts/{folder}/a.txt", {}),
    )  # fmt: skip
    found = {path: server.call("admin", "GET", path, workspace="fraud", params=sent).text for path, sent in asked}
    return found | {"login": server.call("fraud", "GET", f"{API2}/runs/get", params={"run_id": ids["run_id"]}).text}


def _short(template: str) -> str:
    for start in ("/api/2.0/mlflow/", "/api/3.0/mlflow/", "/ajax-api/2.0/mlflow/", "/ajax-api/3.0/mlflow/"):
        template = template.removeprefix(start)
    return template


def test_a_walk_finds_and_changes_nothing_of_another_workspace(server: Registry, ids: dict[str, Any]) -> None:
    routes, before, started = server.routes(), _state(server, ids), time.monotonic()
    calls = walk(server.url, jobs(routes, ids, ("support", "fraud")), auth=("support", password("support")))
    reached = {(call.template, call.method) for call in calls}
    statuses = Counter(call.status for call in calls)
    print(
        f"{len(reached)} routes of {len(routes)}, {len(calls)} calls, {time.monotonic() - started:.0f} s, "
        f"answers by status: {dict(sorted(statuses.items()))}"
    )
    assert reached == set(routes)
    leaks = [
        (one.method, one.template, one.text[:300]) for one in calls if SECRET in one.text or str(METRIC) in one.text
    ]
    assert leaks == []
    # In its own workspace the walk makes, renames and deletes a model of the same name.
    answered = {
        _short(call.template) for call in calls if call.status < 300 and "/registered-models/" not in call.template
    }
    assert answered - OPEN == set(), "a route that answers a foreign team's request: look at it, then name it in OPEN"
    assert _state(server, ids) == before


def test_examples_are_not_made_by_a_team(server: Registry) -> None:
    for workspace in ("support", "fraud", ""):
        answer = server.call("support", "POST", "/ajax-api/3.0/mlflow/demo/generate", workspace=workspace, json={})
        assert answer.status_code == 403, workspace


def test_the_server_sends_nothing_out_for_a_team(server: Registry) -> None:
    """A gateway's endpoint would be a door to the internet for tasks that have none."""
    base = {"auth_config": {"api_base": "https://8.8.8.8/v1"}, "provider": "openai", "secret_value": {"api_key": "x"}}
    asked = [{"role": "user", "content": "data"}]
    for path, body in (
        (f"{API3}/gateway/secrets/create", {"secret_name": "door"} | base),
        ("/ajax-api/3.0/mlflow/gateway/secrets/create", {"secret_name": "door"} | base),
        ("/gateway/door/mlflow/invocations", {"messages": asked}),
        ("/gateway/mlflow/v1/chat/completions", {"model": "door", "messages": asked}),
        ("/ajax-api/3.0/mlflow/assistant/message", {"message": "data"}),
    ):
        answer = server.call("support", "POST", path, json=body)
        assert answer.status_code == 403, f"{path}: {answer.status_code} {answer.text}"


def test_a_model_version_has_no_source_outside_its_workspace(server: Registry, ids: dict[str, Any]) -> None:
    """No address of fraud's artifact makes it readable as a version of one's own model."""
    server.make("support", f"{API2}/registered-models/create", {"name": "smodel"})
    run, path = ids["run_id"], ids["artifact_path"].removesuffix("/a.txt")
    inner = path.partition("fraud/")[2]
    sources = (
        ids["source"], f"runs:/{run}/", f"runs:/{run}/a.txt", f"models:/{ids['model_id']}", "models:/fmodel/1",
        f"mlflow-artifacts:/workspaces/support/../fraud/{inner}", f"mlflow-artifacts:/workspaces/support/%2e%2e/fraud/{inner}",
        f"mlflow-artifacts:/workspaces/support/%252e%252e/fraud/{inner}", f"mlflow-artifacts://127.0.0.1/{path}",
        f"mlflow-artifacts:/{path.removeprefix('workspaces/')}", f"file:///{path}", f"s3://kommuna/mlflow/{path}",
    )  # fmt: skip
    for source in sources:
        for extra in ({}, {"run_id": run}, {"model_id": ids["model_id"]}):
            made = server.call(
                "support", "POST", f"{API2}/model-versions/create", json={"name": "smodel", "source": source, **extra}
            )
            if made.ok:  # what is registered must not be readable
                version = made.json()["model_version"]["version"]
                asked = {"name": "smodel", "version": version, "path": "a.txt"}
                assert SECRET not in server.call("support", "GET", "/model-versions/get-artifact", params=asked).text, (
                    source
                )
