"""What is kept after a team's entry is removed from the values, and the quotas of a team."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.chart.conftest import one, pods, team, values

Render = Callable[..., list[dict[str, Any]]]
KEPT = {"helm.sh/resource-policy": "keep"}


def test_a_teams_namespace_is_kept_after_its_entry_is_removed_unless_the_values_disable_it(render: Render) -> None:
    given = values(2)
    given["teams"]["team01"]["keep_namespace"] = False
    objects = render(given)
    assert one(objects, "Namespace", "kommuna-team00")["metadata"]["annotations"] == KEPT
    assert not one(objects, "Namespace", "kommuna-team01")["metadata"].get("annotations")
    for number in range(2):
        walls = one(objects, "NetworkPolicy", "default-deny", f"kommuna-team{number:02}")
        assert walls["metadata"]["annotations"] == KEPT


def test_a_renamed_team_can_keep_its_namespace(render: Render) -> None:
    objects = render(values(0) | {"teams": {"renamed": team(0, namespace="kommuna-team00")}})
    assert one(objects, "Namespace", "kommuna-team00")["metadata"]["labels"]["kommuna/team"] == "renamed"


def quota(objects: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return one(objects, "ResourceQuota", name, "kommuna-team00")["spec"]


@pytest.mark.parametrize("parser", [{}, {"cpu": "300m", "memory": "2Gi", "processes": 4}])
def test_the_parser_has_a_quota_that_is_exactly_what_it_uses(render: Render, parser: dict[str, Any]) -> None:
    objects = render(values(1, parser=parser))
    spec = one(objects, "Deployment", "parser", "kommuna-team00")["spec"]["template"]["spec"]
    assert "activeDeadlineSeconds" not in spec
    (container,) = spec["containers"]
    resources = container["resources"]
    assert quota(objects, "parser") == {
        "scopes": ["NotTerminating"],
        "hard": {
            "requests.cpu": resources["requests"]["cpu"], "requests.memory": resources["requests"]["memory"],
            "limits.cpu": resources["limits"]["cpu"], "limits.memory": resources["limits"]["memory"], "pods": "1",
        },
    }  # fmt: skip


def test_a_teams_tasks_have_its_whole_quota_and_every_pod_is_in_one_of_the_two_quotas(render: Render) -> None:
    given = values(1)
    given["teams"]["team00"]["quota"] = {"cpu": "3", "memory": "8Gi", "pods": 5}
    objects = render(given)
    tasks = quota(objects, "tasks")
    assert tasks["hard"] == {
        "requests.cpu": "3", "limits.cpu": "3", "requests.memory": "8Gi", "limits.memory": "8Gi", "pods": "5",
    }  # fmt: skip
    # A pod is of one scope or of the other, and each of the two limits all that it may use.
    assert tasks["scopes"] + quota(objects, "parser")["scopes"] == ["Terminating", "NotTerminating"]
    assert tasks["hard"].keys() == quota(objects, "parser")["hard"].keys()
    assert quota(objects, "services") == {"hard": {"services.nodeports": "0", "services.loadbalancers": "0"}}


def test_pods_with_own_images_pull_with_their_service_account(render: Render) -> None:
    given = values(1, images={"pull_secrets": ["registry-login"]})
    given["teams"]["team00"]["own_images"] = True
    objects = render(given)
    for account in ("worker", "launcher"):
        found = one(objects, "ServiceAccount", account, "kommuna-team00")
        assert found["imagePullSecrets"] == [{"name": "registry-login"}]
    for owner, spec in pods(objects):
        assert spec["imagePullSecrets"] == [{"name": "registry-login"}], owner["metadata"]["name"]
