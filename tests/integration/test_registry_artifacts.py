"""MLflow's server reaches artifacts in S3 by workspace: the last step refuses another's, and uses the workspace's key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository
from mlflow.utils.workspace_context import ServerWorkspaceContext
from tests.rigs.registry import Registry, registry

from kommuna.cluster.registry_artifacts import KEYS, WorkspaceArtifacts

TEAMS = ("support", "fraud")
ROOT = "s3://artifacts/mlflow"
OWN = "/api/2.0/mlflow-artifacts/artifacts"
LARGE = b"m" * 9_000_000  # boto3 sends it in parts, by threads of its own


@pytest.fixture(scope="module")
def environment(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The server's settings: support has a key of its own."""
    keys = tmp_path_factory.mktemp("keys")
    (keys / "support").mkdir()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        (keys / "support" / name).write_text("supports-key\n")
    return {
        KEYS: str(keys), "MLFLOW_S3_ENDPOINT_URL": s3["endpoint_url"], "AWS_DEFAULT_REGION": s3["region_name"],
        "AWS_ACCESS_KEY_ID": "platforms-key", "AWS_SECRET_ACCESS_KEY": "x", "_MLFLOW_SERVER_ARTIFACT_DESTINATION": ROOT,
    }  # fmt: skip


@pytest.fixture(scope="module")
def server(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("registry")
    with registry(folder, free_port(), TEAMS, artifacts=ROOT, environment=environment) as running:
        yield running


@pytest.fixture
def inside(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """This process reaches artifacts as the server does."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_a_team_keeps_reads_lists_and_deletes_artifacts(server: Registry) -> None:
    for team in TEAMS:
        experiment = server.make(team, "/api/2.0/mlflow/experiments/create", {"name": "e"})["experiment_id"]
        run = server.make(team, "/api/2.0/mlflow/runs/create", {"experiment_id": experiment})["run"]["info"]
        path = run["artifact_uri"].partition("mlflow-artifacts:/")[2].lstrip("/")
        for name, content in (("a.txt", team.encode()), ("large", LARGE)):
            assert server.call(team, "PUT", f"{OWN}/{path}/{name}", data=content).ok
            assert server.call(team, "GET", f"{OWN}/{path}/{name}").content == content
        listed = server.call(team, "GET", "/api/2.0/mlflow/artifacts/list", params={"run_id": run["run_id"]}).json()
        assert [one["path"] for one in listed["files"]] == ["a.txt", "large"], json.dumps(listed)
        assert server.call(team, "DELETE", f"{OWN}/{path}/a.txt").ok
        assert server.call(team, "GET", f"{OWN}/{path}/a.txt").status_code >= 400


@pytest.mark.usefixtures("inside", "server")
def test_the_last_step_refuses_another_workspaces_artifacts(tmp_path: Path) -> None:
    """As if MLflow had been tricked into opening the address."""
    (tmp_path / "model").write_text("m")
    theirs = get_artifact_repository(f"{ROOT}/workspaces/fraud/1/r/artifacts")
    with ServerWorkspaceContext("fraud"):
        theirs.log_artifact(str(tmp_path / "model"))
        assert Path(theirs.download_artifacts("model", str(tmp_path))).read_text() == "m"
    for workspace in ("support", "frau", None):
        with ServerWorkspaceContext(workspace):
            for reached in (
                lambda: theirs.download_artifacts("model", str(tmp_path)),
                lambda: theirs.log_artifact(str(tmp_path / "model")),
                lambda: theirs.list_artifacts(),
                lambda: theirs.delete_artifacts("model"),
                lambda: theirs.get_download_presigned_url("model"),
                lambda: theirs.create_presigned_upload_url("model"),
                lambda: theirs.create_multipart_upload("model", 1),
            ):
                with pytest.raises(MlflowException, match=r"not one of workspace|in a workspace only"):
                    reached()


@pytest.mark.usefixtures("inside")
def test_each_workspace_has_its_own_key_or_the_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    for workspace, expected in (("support", "supports-key"), ("fraud", "platforms-key")):
        with ServerWorkspaceContext(workspace):
            found = get_artifact_repository(f"{ROOT}/workspaces/{workspace}/1")
            assert isinstance(found, WorkspaceArtifacts)
            assert f"{expected}%2F" in found.create_presigned_upload_url("a.txt").presigned_url
    monkeypatch.delenv(KEYS)
    assert type(get_artifact_repository(f"{ROOT}/workspaces/fraud/1")) is S3ArtifactRepository
