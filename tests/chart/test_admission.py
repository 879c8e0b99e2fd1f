"""The policy that judges pods of the teams' namespaces, their quotas, and the keys of the control plane's pods."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.chart.conftest import one, pods, values

from kommuna.errors import SpecError
from kommuna.spec.chart import ChartValues

Render = Callable[..., list[dict[str, Any]]]


def policy(objects: list[dict[str, Any]]) -> dict[str, Any]:
    return one(objects, "ValidatingAdmissionPolicy", "kommuna-team-pods")["spec"]


def test_one_policy_denies_in_every_teams_namespace_and_fails_closed(render: Render) -> None:
    objects = render(values(2))
    binding = one(objects, "ValidatingAdmissionPolicyBinding", "kommuna-team-pods")["spec"]
    assert binding["policyName"] == "kommuna-team-pods"
    assert "Deny" in binding["validationActions"]
    assert policy(objects)["failurePolicy"] == "Fail"
    (rule,) = policy(objects)["matchConstraints"]["resourceRules"]
    assert (rule["operations"], rule["resources"]) == (["CREATE", "UPDATE"], ["pods"])
    chosen = binding["matchResources"]["namespaceSelector"]
    for number in range(2):
        labels = one(objects, "Namespace", f"kommuna-team{number:02}")["metadata"]["labels"]
        assert chosen["matchLabels"].items() <= labels.items()
        assert labels["kommuna/team"] == f"team{number:02}"


def test_images_come_from_the_folder_of_the_platforms_own_or_from_those_that_the_values_name(render: Render) -> None:
    given = {"images": {"steps": "registry.example/ml/steps:1"}}
    assert "['registry.example/ml/']" in json.dumps(policy(render(values(1, **given))))
    named = json.dumps(policy(render(values(1, **given, team_pods={"images": ["registry.example/teams"]}))))
    assert "['registry.example/teams/']" in named
    assert "one.image == 'registry.example/ml/steps:1'" in named
    assert "[].exists" in json.dumps(policy(render(values(1, images={"steps": "steps:1"}))))


def test_the_chart_gives_nobody_a_right_on_policies(render: Render) -> None:
    given = values(2)
    given["teams"]["team01"]["own_images"] = True
    groups = {
        group
        for role in render(given)
        if role["kind"] in ("Role", "ClusterRole")
        for rule in role["rules"]
        for group in rule["apiGroups"]
    }
    assert groups == {""}


def test_a_team_has_no_pod_of_a_system_class_and_a_bound_of_disk(render: Render) -> None:
    objects = render(values(1))
    quota = one(objects, "ResourceQuota", "system-priority", "kommuna-team00")["spec"]
    assert quota["hard"] == {"pods": "0"}
    (scope,) = quota["scopeSelector"]["matchExpressions"]
    assert scope["values"] == ["system-cluster-critical", "system-node-critical"]
    hard = one(objects, "ResourceQuota", "disk", "kommuna-team00")["spec"]["hard"]
    assert set(hard.values()) == {str(80 * 2**30 + 1280 * 2**20)}
    (limits,) = one(objects, "LimitRange", "team", "kommuna-team00")["spec"]["limits"]
    assert limits["default"]["ephemeral-storage"] == "4Gi"


def test_a_part_of_the_control_plane_has_the_keys_that_it_uses(render: Render) -> None:
    held: dict[str, set[str]] = {}
    for owner, spec in pods(render(values(1))):
        names = {
            item["valueFrom"]["secretKeyRef"]["key"]
            for container in spec["containers"]
            for item in container.get("env", [])
            if item.get("valueFrom", {}).get("secretKeyRef", {}).get("name") == "kommuna-keys"
        }
        held[owner["metadata"]["name"]] = names
    assert held["kommuna-api-server"] == {"fernet", "jwt", "api"}
    assert held["kommuna-scheduler"] == {"fernet", "jwt"}
    assert held["kommuna-dag-processor-team00"] == {"fernet"}
    assert held["kommuna-triggerer-team00"] == {"fernet", "api"}


@pytest.mark.parametrize("door", [{"ports": [{"port": 443}]}, {"to": [], "ports": [{"port": 443}]}, {"to": [{}]}])
def test_a_door_without_an_address_is_refused_by_its_key(door: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"network\.kubernetes\.to|network\.kubernetes\.ports"):
        ChartValues.read({"network": {"kubernetes": door}})
