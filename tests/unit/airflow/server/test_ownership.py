"""The name of a variable, connection or pool decides which team owns it."""

from typing import Any

import pytest

from kommuna.airflow.server.ownership import NameRefused, assigned
from kommuna.airflow.server.people.persons import Person

TEAMS, OWN = frozenset({"support", "fraud"}), frozenset({"support"})
SUE = Person("sue", OWN, OWN, TEAMS, platform=False)
ADMIN = Person("admin", TEAMS, TEAMS, TEAMS, platform=True)


def test_a_prefixed_name_gets_its_team() -> None:
    posted = {"key": "support__limit", "value": "1"}
    assert assigned("variables", "POST", "", posted, SUE) == posted | {"team_name": "support"}
    assert assigned("variables", "POST", "", posted, ADMIN) == posted | {"team_name": "support"}
    connection = {"connection_id": "fraud__db", "conn_type": "http", "team_name": ""}
    assert assigned("connections", "POST", "", connection, ADMIN)["team_name"] == "fraud"
    assert assigned("variables", "PATCH", "support__limit", {"key": "support__limit", "value": "2"}, SUE) == {
        "key": "support__limit", "value": "2", "team_name": "support",
    }  # fmt: skip
    assert assigned("variables", "DELETE", "support__limit", None, SUE) is None


@pytest.mark.parametrize(
    ("kind", "method", "path", "body", "said"),
    [
        ("variables", "POST", "", {"key": "limit", "value": "1"}, "name it 'support__limit'"),
        ("variables", "POST", "", {"key": "fraud__limit", "value": "1"}, "prefix of team 'fraud'"),
        ("variables", "POST", "", {"key": "limit", "team_name": "support"}, "name it 'support__limit'"),
        ("variables", "POST", "", {"key": "support__limit", "team_name": "fraud"}, "is assigned to team 'fraud'"),
        ("variables", "POST", "", {"key": "support__limit", "team_name": 5}, "not a text"),
        ("variables", "POST", "", {"value": "1"}, "'key' is missing"),
        ("variables", "POST", "", [], "'key' is missing"),
        ("variables", "PATCH", "everybodys", {"key": "everybodys", "value": "1"}, "belong to everybody"),
        ("variables", "PATCH", "support__x", [], "not a JSON object"),
        ("variables", "DELETE", "everybodys", None, "belong to everybody"),
        ("variables", "DELETE", "fraud__x", None, "prefix of team 'fraud'"),
        ("connections", "POST", "enqueue-test", {"connection_id": "db"}, "name it 'support__db'"),
        ("connections", "POST", "defaults", None, "only the platform's operators"),
        ("variables", "PATCH", "", {"actions": [{"action": "delete", "entities": ["fraud__x"]}]}, "team 'fraud'"),
        ("variables", "PATCH", "", {"actions": [{"action": "create", "entities": [{"key": "x"}]}]}, "support__x"),
        ("variables", "PATCH", "", {"actions": [{"action": "delete", "entities": [{"key": "x"}]}]}, "support__x"),
        ("variables", "PATCH", "", {}, "no list 'actions'"),
    ],
)
def test_a_caller_may_not_write_names_of_others(kind: str, method: str, path: str, body: Any, said: str) -> None:
    with pytest.raises(NameRefused, match=said.replace("(", r"\(")):
        assigned(kind, method, path, body, SUE)


def test_a_bulk_request_gets_an_owner_for_each_entity() -> None:
    body = {
        "actions": [
            {"action": "create", "entities": [{"key": "support__a", "value": 1}, {"key": "fraud__b", "value": 2}]},
            {"action": "delete", "entities": ["support__c", {"key": "old"}]},
        ]
    }
    create, delete = assigned("variables", "PATCH", "", body, ADMIN)["actions"]
    assert [entity["team_name"] for entity in create["entities"]] == ["support", "fraud"]
    assert delete["entities"] == ["support__c", {"key": "old"}]


def test_the_platforms_operators_may_make_what_is_everybodys() -> None:
    assert assigned("variables", "POST", "", {"key": "limit", "value": "1"}, ADMIN) == {"key": "limit", "value": "1"}
    assert assigned("pools", "POST", "", {"name": "slow", "slots": 2}, ADMIN) == {"name": "slow", "slots": 2}
