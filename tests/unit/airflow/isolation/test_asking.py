"""What a team's code may ask for while it is parsed."""

from __future__ import annotations

from typing import Any

import pytest

from kommuna.airflow.isolation.asking import ASKS, refusal

XCOM = {"key": "fraud__k", "run_id": "r", "task_id": "t"}


@pytest.mark.parametrize(
    ("ask", "own"),
    [
        ({"type": "GetVariable", "key": "support__x"}, True),
        ({"type": "GetVariable", "key": "fraud__x"}, False),
        ({"type": "GetVariable", "key": "plain"}, False),
        ({"type": "GetVariable", "key": "support__"}, False),
        ({"type": "GetVariable", "key": "supporters__x"}, False),
        ({"type": "PutVariable", "key": "fraud__x", "value": "1", "description": None}, False),
        ({"type": "DeleteVariable", "key": "fraud__x"}, False),
        ({"type": "GetConnection", "conn_id": "support__db"}, True),
        ({"type": "GetConnection", "conn_id": "git_default"}, False),
        ({"type": "GetXCom", "dag_id": "support__d", **XCOM}, True),
        ({"type": "GetXCom", "dag_id": "fraud__d", **XCOM, "key": "support__k"}, False),
        ({"type": "GetTICount", "dag_id": "fraud__d"}, False),
        ({"type": "GetVariableKeys", "prefix": "support__"}, True),
        ({"type": "GetVariableKeys", "prefix": None}, False),
        ({"type": "GetVariableKeys", "prefix": "s"}, False),
    ],
)
def test_what_is_the_teams_own_is_answered_and_nothing_else(ask: dict[str, Any], own: bool) -> None:
    refused = refusal(ASKS.validate_python(ask), "support")
    assert (refused is None) == own
    if refused is not None:
        assert refused.detail is not None
        assert "may ask for 'support__…' only" in refused.detail["message"]


def test_messages_that_only_a_task_sends_are_not_understood() -> None:
    with pytest.raises(ValueError, match="union_tag_invalid"):
        ASKS.validate_python({"type": "SetXCom", "key": "k", "value": 1})
