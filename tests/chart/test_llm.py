"""An LLM's key and the way to it are for the workers of the teams that its endpoint names."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from tests.chart.conftest import Refused, one, pods, values

from kommuna.spec.team import Platform

Render = Callable[..., list[dict[str, Any]]]
LIGHT_DOOR = {
    "to": [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "models"}},
            "podSelector": {"matchLabels": {"app": "vllm"}},
        }
    ],
    "ports": [{"protocol": "TCP", "port": 8000}],
}
PROXY_DOOR = {"to": [{"ipBlock": {"cidr": "192.0.2.9/32"}}], "ports": [{"protocol": "TCP", "port": 3128}]}
LLM: dict[str, Any] = {
    "light": {
        "url": "http://vllm.models.svc:8000/v1", "model": "small", "teams": ["team00", "team01"], "door": LIGHT_DOOR,
        "key_variable": "LIGHT_KEY", "secret": {"name": "models", "key": "light"},
    },
    "heavy": {
        "url": "https://llm.example/v1", "model": "large", "teams": ["team00"], "proxy": "http://192.0.2.9:3128",
        "door": PROXY_DOOR, "key_variable": "HEAVY_KEY", "secret": {"name": "provider", "key": "token"},
    },
}  # fmt: skip
MAY = {"team00": ["HEAVY_KEY", "LIGHT_KEY"], "team01": ["LIGHT_KEY"], "team02": []}


def given(**change: Any) -> dict[str, Any]:
    """Values of three teams, of which the third may use no LLM; `light_x=…` changes an endpoint's value."""
    found = copy.deepcopy(values(3, llm=LLM))
    for name, value in change.items():
        endpoint, _, key = name.partition("_")
        found["llm"][endpoint][key] = value
    return found


def test_only_workers_of_the_named_teams_get_the_keys(render: Render) -> None:
    holders: dict[str, list[str]] = {}
    for owner, spec in pods(render(given())):
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            assert "models" not in json.dumps(container.get("envFrom", [])), owner["metadata"]["name"]
            for entry in container.get("env", []):
                if entry["name"].endswith("_KEY") and "secretKeyRef" in entry.get("valueFrom", {}):
                    reference = entry["valueFrom"]["secretKeyRef"]
                    if reference["name"] != "llm":
                        continue
                    assert owner["metadata"]["name"] == "kommuna-pods"
                    assert reference == {"name": "llm", "key": entry["name"]}
                    team = next(e["value"] for e in container["env"] if e["name"] == "KOMMUNA_TEAM")
                    holders.setdefault(team, []).append(entry["name"])
    assert holders == {team: keys for team, keys in MAY.items() if keys}


def test_a_worker_and_a_step_in_its_own_image_get_the_same_keys(render: Render) -> None:
    from kommuna.airflow.operators.image import pod_of
    from kommuna.spec.resources import Resources

    objects = render(given())
    for team, keys in MAY.items():
        text = one(objects, "ConfigMap", "platform", f"kommuna-{team}")["data"]["kommuna.yaml"]
        llms = Platform.read(yaml.safe_load(text), where="chart").llm.of(team)
        (mine,) = yaml.safe_load(one(objects, "ConfigMap", "kommuna-pods")["data"][f"{team}.yaml"])["spec"][
            "containers"
        ]
        (step,) = pod_of(team, Resources(), llms)["spec"]["containers"]
        both = [[entry for entry in container["env"] if "valueFrom" in entry] for container in (mine, step)]
        assert both[0] == both[1]
        assert [entry["name"] for entry in both[0]] == keys


def test_a_team_that_is_not_named_does_not_know_the_endpoint(render: Render) -> None:
    objects = render(given())
    for team, keys in MAY.items():
        text = one(objects, "ConfigMap", "platform", f"kommuna-{team}")["data"]["kommuna.yaml"]
        known = Platform.read(yaml.safe_load(text), where="chart").llm
        assert sorted(known.secrets) == keys
        assert all(endpoint.teams == (team,) for endpoint in known.endpoints.values())
        assert ("llm.example" in text) is ("HEAVY_KEY" in keys)
    everything = yaml.safe_load(one(objects, "ConfigMap", "kommuna-platform")["data"]["kommuna.yaml"])
    assert everything["llm"] == LLM


def test_only_workers_of_the_named_teams_get_the_way(render: Render) -> None:
    objects = render(given())
    doors = {"team00": [PROXY_DOOR, LIGHT_DOOR], "team01": [LIGHT_DOOR]}
    found = {o["metadata"]["namespace"]: o["spec"] for o in objects if o["kind"] == "NetworkPolicy" and o["metadata"]["name"] == "llm"}  # fmt: skip
    assert found == {
        f"kommuna-{team}": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/component": "worker"}},
            "policyTypes": ["Egress"],
            "egress": egress,
        }
        for team, egress in doors.items()
    }
    one_way = render(given(heavy_door=LIGHT_DOOR))
    assert one(one_way, "NetworkPolicy", "llm", "kommuna-team00")["spec"]["egress"] == [LIGHT_DOOR]
    assert not [o for o in render(values(2)) if o["metadata"]["name"] == "llm"]


def test_the_jobs_read_the_named_secrets_and_write_the_teams_own(render: Render) -> None:
    from tests.chart.test_credentials import job_settings, reachable

    from kommuna.cluster.credentials import Wanted

    objects = render(given())
    first, second = job_settings(objects)
    assert first == second
    wanted = Wanted.read(first)
    named = {key: (name, entries) for key, name, entries in wanted.named() if key.startswith("llm")}
    assert named == {"llm.light.secret": ("models", ("light",)), "llm.heavy.secret": ("provider", ("token",))}
    assert {team: sorted(spec.llm) for team, spec in wanted.teams.items()} == MAY
    assert reachable(objects, "kommuna-credentials-platform")[None, "models"] == {"get"}
    teams = reachable(objects, "kommuna-credentials-teams")
    assert teams[None, "provider"] == {"get"}
    assert all(teams[f"kommuna-{team}", "llm"] == {"get", "update"} for team in MAY)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"light_teams": None}, ["llm.light.teams", "name the teams"]),
        ({"light_teams": ["team09"]}, ["llm.light.teams", "no team 'team09'"]),
        ({"light_door": None}, ["llm.light.door", "addresses"]),
        ({"light_door": {"to": [], "ports": []}}, ["llm", "door"]),
        ({"light_secret": None}, ["llm.light.secret", "LIGHT_KEY"]),
        ({"heavy_key_variable": ""}, ["llm.heavy.key_variable", "'provider'"]),
        ({"heavy_key_variable": "LIGHT_KEY"}, ["key_variable", "'LIGHT_KEY' holds another endpoint's key"]),
        ({"light_key": "sk-abc"}, ["llm", "light"]),
    ],
)
def test_an_endpoint_that_would_not_work_is_refused_by_its_key(
    render: Render, change: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(Refused) as refusal:
        render(given(**change))
    for word in words:
        assert word in str(refusal.value), str(refusal.value)


def test_an_endpoint_without_teams_or_without_a_key_is_allowed(render: Render) -> None:
    render(given(light_teams=[], light_door=None))
    render(given(light_key_variable="", light_secret=None))
