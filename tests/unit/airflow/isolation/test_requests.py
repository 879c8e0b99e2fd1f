"""Requests that team code may send while it is parsed."""

from __future__ import annotations

from typing import Any

import pytest

from kommuna.airflow.isolation.requests import TEAM_REQUESTS, refusal

XCOM = {"key": "fraud__k", "run_id": "r", "task_id": "t"}


@pytest.mark.parametrize(
    ("message", "own"),
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
def test_only_requests_for_the_teams_own_things_are_answered(message: dict[str, Any], own: bool) -> None:
    error = refusal(TEAM_REQUESTS.validate_python(message), "support")
    assert (error is None) == own
    if error is not None:
        assert error.detail is not None
        assert "may read 'support__…' only" in error.detail["message"]


def test_messages_that_only_a_task_sends_are_refused() -> None:
    with pytest.raises(ValueError, match="union_tag_invalid"):
        TEAM_REQUESTS.validate_python({"type": "SetXCom", "key": "k", "value": 1})
