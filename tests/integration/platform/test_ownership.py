"""Variables and connections through the REST API of the running platform: their owners, and who may change them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests
from sqlalchemy import create_engine, text

from kommuna.embedded.database import databases
from kommuna.embedded.settings import state_folder

if TYPE_CHECKING:
    from tests.integration.platform.conftest import Site


def _ask(site: Site, method: str, path: str, login: str, body: Any = None) -> requests.Response:
    return site.api(login).request(method, f"/{path}", json=body)


@pytest.fixture
def everybodys(site: Site) -> str:
    """A variable that the platform's operators created for everybody."""
    made = _ask(site, "POST", "variables", "admin", {"key": "everybodys", "value": "1"})
    assert made.status_code in (201, 409), made.text
    return "everybodys"


def test_a_variable_belongs_to_the_team_of_its_prefix(site: Site) -> None:
    made = _ask(site, "POST", "variables", "support", {"key": "support__limit", "value": "5"})
    assert (made.status_code, made.json()["team_name"]) == (201, "support")
    assert _ask(site, "GET", "variables/support__limit", "fraud").status_code == 403
    for method, body in (("PATCH", {"key": "support__limit", "value": "6"}), ("DELETE", None)):
        assert _ask(site, method, "variables/support__limit", "fraud", body).status_code == 403
    assert "support__limit" not in _ask(site, "GET", "variables", "fraud").text
    changed = _ask(site, "PATCH", "variables/support__limit", "support", {"key": "support__limit", "value": "6"})
    assert (changed.status_code, changed.json()["value"]) == (200, "6")
    assert _ask(site, "DELETE", "variables/support__limit", "support").status_code == 204


def test_a_name_that_airflows_commands_wrote_without_a_team_belongs_to_its_prefix(site: Site) -> None:
    """`airflow variables import` gives names no team, and Airflow shows them to everybody."""
    for kind, body in (
        ("variables", {"key": "fraud__written", "value": "5"}),
        ("connections", {"connection_id": "fraud__written", "conn_type": "http", "host": "bank"}),
    ):
        assert _ask(site, "POST", kind, "admin", body).status_code == 201
    engine = create_engine(databases.url(state_folder(site.embedded.installation), "airflow"))
    with engine.begin() as connection:
        for table, name in (("variable", "key"), ("connection", "conn_id")):
            connection.execute(text(f"update {table} set team_name = null where {name} = 'fraud__written'"))
    engine.dispose()
    for kind in ("variables", "connections"):
        assert "fraud__written" in _ask(site, "GET", kind, "fraud").text
        assert "fraud__written" not in _ask(site, "GET", kind, "support").text
        assert _ask(site, "DELETE", f"{kind}/fraud__written", "fraud").status_code == 204


def test_a_name_without_prefix_is_refused_with_the_right_name(site: Site) -> None:
    for kind, body in (
        ("variables", {"key": "limit", "value": "5"}),
        ("connections", {"connection_id": "limit", "conn_type": "http"}),
    ):
        refused = _ask(site, "POST", kind, "support", body)
        assert (refused.status_code, "name it 'support__limit'" in refused.json()["detail"]) == (403, True)


def test_a_team_cannot_change_shared_variables(site: Site, everybodys: str) -> None:
    assert _ask(site, "GET", f"variables/{everybodys}", "support").json()["value"] == "1"
    for method, body in (("PATCH", {"key": everybodys, "value": "2"}), ("DELETE", None)):
        assert _ask(site, method, f"variables/{everybodys}", "support", body).status_code == 403
    bulk = {"actions": [{"action": "delete", "entities": [everybodys]}]}
    assert _ask(site, "PATCH", "variables", "support", bulk).status_code == 403
    assert _ask(site, "GET", f"variables/{everybodys}", "support").json()["value"] == "1"


def test_a_team_cannot_enlarge_its_own_pool(site: Site) -> None:
    pool = _ask(site, "GET", "pools", "support").json()["pools"][0]["name"]
    wider = {"name": pool, "slots": 1000, "include_deferred": False}
    assert _ask(site, "PATCH", f"pools/{pool}", "support", wider).status_code == 403


def test_without_a_login_nothing_is_shown(site: Site) -> None:
    url = f"{site.embedded.access.airflow}/api/v2/variables"
    assert requests.post(url, json={"key": "x", "value": "1"}, timeout=30).status_code == 401
