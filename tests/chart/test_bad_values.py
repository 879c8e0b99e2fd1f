"""Invalid values are refused before anything changes, with an error that names the key."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.chart.conftest import KEYCLOAK, NETWORK, Refused, team, values


def changed(**change: Any) -> dict[str, Any]:
    return values(1) | change


CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown key": (changed(sheduler={"replicas": 2}), ["sheduler"]),
    "unknown key of a team": (changed(teams={"team00": team(0, quotas={})}), ["team00", "quotas"]),
    "bad team name": (changed(teams={"Team-A": team(0)}), ["Team-A"]),
    "bad role": (changed(teams={"team00": team(0, people={"ann": "boss"})}), ["people", "ann"]),
    "bad quantity": (changed(teams={"team00": team(0, quota={"memory": "8 gigs"})}), ["quota", "memory"]),
    "two teams, one namespace": (
        changed(teams={"team00": team(0, namespace="ml"), "team01": team(1, namespace="ml")}),
        ["teams.team01.namespace", "'ml'", "team00"],
    ),
    "the control plane's namespace": (
        changed(teams={"team00": team(0, namespace="kommuna")}), ["teams.team00.namespace", "control plane"],
    ),
    "quota of memory below a task's": (
        changed(teams={"team00": team(0, quota={"memory": "512Mi"})}),
        ["teams.team00.quota.memory", "512Mi", "no room for one task (1Gi)"],
    ),
    "quota of cores below a task's": (
        changed(teams={"team00": team(0, quota={"cpu": "500m"})}), ["teams.team00.quota.cpu", "500m", "(1 core)"],
    ),
    "quota of disk below a task's": (
        changed(teams={"team00": team(0, quota={"disk": "1Gi"})}), ["teams.team00.quota.disk", "1Gi", "(4Gi)"],
    ),
    "a door to everywhere": (
        changed(network=NETWORK | {"kubernetes": {"ports": [{"protocol": "TCP", "port": 443}]}}),
        ["network", "kubernetes"],
    ),
    "a door to an empty peer": (
        changed(network=NETWORK | {"store": {"to": [{}], "ports": [{"protocol": "TCP", "port": 443}]}}),
        ["network", "store"],
    ),
    "a team's door to everywhere": (
        changed(teams={"team00": team(0, egress=[{"ports": [{"protocol": "TCP", "port": 443}]}])}),
        ["team00", "egress", "to"],
    ),
    "no door to the store": (changed(network={}), ["network.store", "object store"]),
    "no door to Kubernetes": (
        changed(network={"store": NETWORK["store"]}), ["network.kubernetes", "logs of running tasks"],
    ),
    "no door to an external database": (
        changed(
            database_secret="bank", postgresql={"enabled": False},
            network={name: NETWORK[name] for name in ("store", "kubernetes")},
        ),
        ["network.database", "PostgreSQL"],
    ),
    "no door to Keycloak": (
        changed(auth=KEYCLOAK, network={name: NETWORK[name] for name in ("store", "kubernetes")}),
        ["network.keycloak", "addresses of Keycloak"],
    ),
    "a pull secret with the name of the platform's own": (
        changed(images={"pull_secrets": ["worker"]}), ["images.pull_secrets", "'worker'"],
    ),
    "no repository": (changed(repository=None), ["teams.team00.repository"]),
    "no database": (changed(postgresql={"enabled": False}), ["database_secret", "postgresql.enabled"]),
    "two databases": (changed(database_secret="bank"), ["postgresql.enabled", "database_secret"]),
    "an Ingress for nobody": (changed(ingress={"enabled": True}), ["ingress.host"]),
    "Keycloak without its address": (changed(auth=KEYCLOAK | {"url": ""}), ["auth.url"]),
    "Keycloak without the administrator's Secret": (
        changed(auth=KEYCLOAK | {"admin_secret": ""}), ["auth.admin_secret"],
    ),
    "people named beside Keycloak": (
        changed(auth=KEYCLOAK, teams={"team00": team(0, people={"ann": "op"})}),
        ["teams.team00.people", "/kommuna/team00/ROLE", "teams.team00.groups"],
    ),
    "groups without Keycloak": (
        changed(teams={"team00": team(0, groups={"op": ["/bank/ml"]})}), ["teams.team00.groups", "auth.kind"],
    ),
    "an unknown auth manager": (changed(auth={"kind": "ldap"}), ["auth", "kind"]),
    "one login, two roles": (
        changed(teams={"team00": team(0, people={"ann": "op"}), "team01": team(1, people={"ann": "viewer"})}),
        ["teams.team01.people.ann", "'op'"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_refused_by_name(render: Callable[..., Any], case: str) -> None:
    given, words = CASES[case]
    with pytest.raises(Refused) as refusal:
        render(given)
    for word in words:
        assert word in str(refusal.value), str(refusal.value)
