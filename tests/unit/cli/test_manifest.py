"""`kommuna models manifest` prints what serves a version, pinned, as the policy of a team's namespace wants it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from kommuna.cli.main import app
from kommuna.cli.manifest import Kind, Served
from kommuna.errors import SpecError
from kommuna.steps.registry.client import Registry
from kommuna.steps.registry.model_version import MODEL_DIGEST, ModelVersion

IMAGE = f"registry.example/ml/topics@sha256:{'0a' * 32}"
VERSION = ModelVersion(name="support__Client_topics", version="3", tags={MODEL_DIGEST: "1" * 64})


def objects(kind: Kind) -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in Served(VERSION, IMAGE).objects(kind)}


@pytest.mark.parametrize("kind", Kind)
def test_its_pod_is_one_that_a_teams_namespace_lets_in(kind: Kind) -> None:
    found = objects(kind)
    if kind is Kind.kserve:
        pod, labels = (
            found["InferenceService"]["spec"]["predictor"],
            found["InferenceService"]["spec"]["predictor"]["labels"],
        )
    else:
        template = found["Deployment"]["spec"]["template"]
        pod, labels = template["spec"], template["metadata"]["labels"]
    assert labels["kommuna/team"] == "support"
    assert "app.kubernetes.io/component" not in labels
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("worker", False)
    assert not {"nodeName", "nodeSelector", "affinity", "schedulerName", "tolerations", "priorityClassName"} & set(pod)
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    for part in ("requests", "limits"):
        assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"][part])
    assert all(volume.keys() == {"name", "emptyDir"} and "sizeLimit" in volume["emptyDir"] for volume in pod["volumes"])
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["securityContext"]["runAsNonRoot"]


def test_the_service_and_the_policy_choose_the_pods() -> None:
    found = objects(Kind.deployment)
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        found["Deployment"]["spec"]["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
        found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    assert {one["metadata"]["name"] for one in found.values()} == {"model-client-topics"}
    about = found["Deployment"]["metadata"]["annotations"]
    assert about == {"kommuna/model": "support__Client_topics/3", "kommuna/model-digest": "1" * 64}


@pytest.mark.parametrize("image", ["topics", "registry.example/topics:3", "registry.example/topics@sha256:0a", ""])
def test_an_image_without_a_digest_is_refused(image: str) -> None:
    with pytest.raises(SpecError, match="not named by its digest"):
        Served(VERSION, image)


def test_the_command_prints_the_champion_or_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kommuna.yaml").write_text("teams: {support: {bundle: a}}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Registry, "by_alias", lambda _, name, alias: VERSION if alias == "champion" else None)
    monkeypatch.setattr(Registry, "version", lambda _, name, version: None)
    asked = ["models", "manifest", "support__Client_topics", "--image", IMAGE]
    found = CliRunner().invoke(app, asked)
    assert found.exit_code == 0, found.output
    assert list(yaml.safe_load_all(found.stdout)) == Served(VERSION, IMAGE).objects(Kind.deployment)
    absent = CliRunner().invoke(app, [*asked, "--version", "9"])
    assert isinstance(absent.exception, SpecError)
    assert "has no version 9" in str(absent.exception)
