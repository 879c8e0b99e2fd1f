"""Names and the prefix that keeps teams' ids apart."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from kommuna.errors import SpecError
from kommuna.spec.names import owner_of, qualified
from kommuna.spec.team import Platform


def test_a_bare_id_gets_the_teams_prefix_once() -> None:
    assert qualified("support", "topics") == "support__topics"
    assert qualified("support", qualified("support", "topics")) == "support__topics"


def test_another_teams_prefix_is_refused_with_the_fix() -> None:
    with pytest.raises(
        SpecError, match="'fraud__topics' has the prefix of team 'fraud', but belongs to team 'support'"
    ) as error:
        qualified("support", "fraud__topics", teams=["support", "fraud"])
    assert error.value.fix.startswith("name it 'topics'")


def test_a_prefix_that_is_no_team_is_part_of_the_name() -> None:
    assert qualified("support", "daily__topics", teams=["support", "fraud"]) == "support__daily__topics"


@pytest.mark.parametrize(
    ("name", "owner"), [("a__b", None), ("abc__d", "abc"), ("abc", None), ("__abc", None), ("Abc__d", None)]
)
def test_the_owner_is_a_team_name_before_two_underscores(name: str, owner: str | None) -> None:
    assert owner_of(name) == owner


@pytest.mark.parametrize("name", ["ab", "Support", "1team", "my-team", "my_team", "команда", "a" * 41])
def test_a_team_name_that_breaks_the_rule_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        Platform.model_validate({"teams": {name: {"bundle": "dags/x"}}})
