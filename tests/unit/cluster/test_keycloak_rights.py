"""The table of roles as Keycloak's authorization settings: who holds which right."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kommuna.airflow_settings import ADMIN
from kommuna.cluster.keycloak.rights import named_groups, own_groups, settings
from kommuna.spec.auth import Auth
from kommuna.spec.team import Team

AUTH = Auth(kind="keycloak", url="https://sso", realm="bank")
TEAMS = {"support": Team(bundle="a", groups={"op": ("/directory/ml",)}), "fraud": Team(bundle="b")}


def rights_of(group: str, made: dict[str, Any]) -> set[tuple[str, str]]:
    """Evaluates the settings as Keycloak does: one positive permission is enough."""
    config = {one["name"]: {key: json.loads(value) for key, value in one["config"].items()} for one in made["policies"]}
    holds = {name for name, given in config.items() if any(one["path"] == group for one in given.get("groups", ()))}
    return {
        (resource, scope)
        for given in config.values()
        if holds & {*given.get("applyPolicies", ())}
        for resource in given["resources"]
        for scope in given["scopes"]
    }


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("viewer", ("Dag:support", "GET"), ("Dag:support", "POST")),
        ("user", ("Dag:support", "POST"), ("Variable:support", "GET")),
        ("op", ("Variable:support", "PUT"), ("Connection:support", "PUT")),
        ("admin", ("Connection:support", "PUT"), ("Pool:support", "PUT")),
    ],
)
def test_a_role_may_what_the_table_says_and_nothing_of_another_team(
    role: str, may: tuple[str, str], may_not: tuple[str, str]
) -> None:
    rights = rights_of(f"/kommuna/support/{role}", settings(AUTH, TEAMS))
    assert may in rights
    assert ("Dag:support", "GET") in rights
    assert may_not not in rights
    assert not any(resource.endswith(":fraud") for resource, _ in rights)
    assert not any(resource == "Dag" and scope != "LIST" for resource, scope in rights), (
        "a DAG without a team is nobody's"
    )
    assert ("AdminView", "GET") not in rights


def test_groups_of_the_directory_hold_the_roles_rights() -> None:
    made = settings(AUTH, TEAMS)
    assert rights_of("/directory/ml", made) == rights_of("/kommuna/support/op", made)
    assert named_groups(AUTH, TEAMS) == {"/directory/ml": "teams.support.groups.op"}


def test_the_platforms_administrators_hold_every_right_and_no_team_group_does() -> None:
    made = settings(AUTH, TEAMS)
    every = {(one["name"], scope["name"]) for one in made["resources"] for scope in one["scopes"]}
    assert rights_of("/kommuna-admins", made) == every
    assert f"/kommuna-{ADMIN}s" in own_groups(AUTH, TEAMS)


def test_names_are_unique_since_the_import_finds_by_name() -> None:
    made = settings(AUTH, {f"t{number}": Team(bundle=f"b{number}") for number in range(100)})
    for key in ("policies", "resources"):
        names = [one["name"] for one in made[key]]
        assert len(names) == len(set(names))
