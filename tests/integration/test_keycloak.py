"""People of two teams log in by a real Keycloak: lists come filtered, and nobody reaches the other team."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from tests.rigs.keycloak import (
    CLIENT_SECRET,
    Airflow,
    Keycloak,
    Unavailable,
    airflow,
    distribution,
    keycloak,
    keycloak_settings,
    teams_of,
)

from kommuna.airflow.server.keycloak import KEPT_SECONDS
from kommuna.errors import PlatformFault, SpecError
from kommuna.spec.team import Team
from kommuna.waiting import wait_until

pytest.importorskip("airflow.providers.keycloak", reason="the extra `keycloak` is not installed")
pytestmark = pytest.mark.timeout(900)  # the first test waits for Keycloak, which is downloaded once per machine
TEAMS = ("support", "fraud")
ROLES = ("viewer", "user", "op", "admin")
FILL = """
from kommuna.airflow.database import migrate
migrate()
from airflow._shared.timezones import timezone
from airflow.models.asset import AssetActive, AssetAliasModel, AssetEvent, AssetModel
from airflow.models.connection import Connection
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.errors import ParseImportError
from airflow.models.log import Log
from airflow.models.pool import Pool
from airflow.models.team import Team
from airflow.models.variable import Variable
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunType
with create_session() as s:
    for t in ("support", "fraud"):
        b = DagBundleModel(name=t); b.teams.append(Team(name=t)); s.add(b); s.flush()
        s.add(DagModel(dag_id=f"{t}__a", bundle_name=t, fileloc=f"{t}.py", relative_fileloc=f"{t}.py", timetable_type="x",
                       is_stale=False))
        s.flush()
        s.add(DagRun(dag_id=f"{t}__a", run_id="r", run_after=timezone.utcnow(), run_type=DagRunType.MANUAL,
                     state=DagRunState.SUCCESS))
        s.add(Pool(pool=f"{t}__default", slots=4, include_deferred=False, team_name=t))
        s.add(Variable(key=f"{t}__limit", val="1", team_name=t))
        s.add(Connection(conn_id=f"{t}__db", conn_type="http", team_name=t))
        s.add(ParseImportError(bundle_name=t, filename=f"{t}.py", stacktrace="boom", timestamp=timezone.utcnow()))
        a = AssetModel(name=f"{t}__sales", uri=f"s3://{t}/sales", group="asset"); s.add(a); s.flush()
        s.add(AssetActive.for_asset(a))
        s.add(AssetAliasModel(name=f"{t}__alias", group="asset"))
        s.add(AssetEvent(asset_id=1 if t == "support" else 2, source_dag_id=f"{t}__a", extra={}))
        s.add(Log(event="paused", dag_id=f"{t}__a", owner="somebody"))
    s.add(Log(event="paused", owner="somebody"))
"""
LISTS = {
    "dags": "dag_id", "dags/~/dagRuns": "dag_id", "pools": "name", "variables": "key", "connections": "connection_id",
    "importErrors": "bundle_name", "assets": "name", "assets/aliases": "name", "assets/events": "source_dag_id",
    "eventLogs?event=paused": "dag_id",
}  # fmt: skip
# The first role that sees a team's rows.
SEEN_FROM = {"variables": "op", "connections": "op"}


@dataclass
class Site:
    keycloak: Keycloak
    airflow: Airflow
    people: dict[str, requests.Session]

    def call(self, login: str, method: str, path: str, **options: Any) -> requests.Response:
        return self.people[login].request(method, f"{self.airflow.url}/api/v2/{path}", timeout=60, **options)

    def rows(self, login: str, path: str) -> set[str] | int:
        answer = self.call(login, "GET", path)
        if not answer.ok:
            return answer.status_code
        (rows,) = (value for value in answer.json().values() if isinstance(value, list))
        assert answer.json()["total_entries"] == len(rows)
        return {row[LISTS[path]] for row in rows}

    def refused(self, login: str, method: str, path: str, body: Any = None) -> tuple[int, str]:
        answer = self.call(login, method, path, json=body)
        return answer.status_code, "" if answer.ok else str(answer.json()["detail"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Site]:
    try:
        distribution()
    except Unavailable as error:
        pytest.skip(f"no Keycloak: {error}")
    folder = tmp_path_factory.mktemp("keycloak")
    (folder / "kommuna.yaml").write_text("teams:\n  support: {bundle: dags/support}\n  fraud: {bundle: dags/fraud}\n")
    port = free_port()
    with keycloak(folder, free_port()) as server:
        server.realm().write(teams_of(*TEAMS), url=f"http://127.0.0.1:{port}", secret=CLIENT_SECRET)
        for team in TEAMS:
            for role in ROLES:
                server.make_person(f"{team}-{role}", f"/kommuna/{team}/{role}")
        server.make_person("both", "/kommuna/support/op", "/kommuna/fraud/viewer")
        server.make_person("platform", "/kommuna-admins")
        server.make_person("nobody")
        with airflow(folder, port, keycloak_settings(server.auth()), FILL) as api:
            logins = [*(f"{team}-{role}" for team in TEAMS for role in ROLES), "both", "platform", "nobody"]
            yield Site(server, api, {login: api.login(login) for login in logins})


@pytest.mark.parametrize("path", LISTS)
def test_every_role_sees_its_own_teams_rows(site: Site, path: str) -> None:
    everything = site.rows("platform", path)
    assert isinstance(everything, set)
    assert {str(row).partition("__")[0] for row in everything} >= set(TEAMS)
    for team in TEAMS:
        for role in ROLES:
            seen = site.rows(f"{team}-{role}", path)
            sees = ROLES.index(role) >= ROLES.index(SEEN_FROM.get(path, "viewer"))
            expected = {row for row in everything if str(row).startswith(team)} if sees else set()
            assert seen == expected, (team, role)


@pytest.mark.parametrize("path", LISTS)
def test_nobody_sees_nothing(site: Site, path: str) -> None:
    assert site.rows("nobody", path) == 403


@pytest.mark.parametrize("role", ROLES)
def test_the_other_teams_things_are_refused(site: Site, role: str) -> None:
    login = f"support-{role}"
    assert site.call(login, "GET", "dags/support__a/dagRuns/r").status_code == 200
    for method, path, body, status in (
        ("GET", "dags/fraud__a", None, 404),
        ("PATCH", "dags/fraud__a", {"is_paused": True}, 404),
        ("POST", "dags/fraud__a/dagRuns", {"logical_date": None}, 404),
        ("GET", "dags/fraud__a/dagRuns/r", None, 404),
        ("DELETE", "dags/fraud__a/dagRuns/r", None, 404),
        ("GET", "pools/fraud__default", None, 403),
        ("GET", "variables/fraud__limit", None, 403),
        ("DELETE", "variables/fraud__limit", None, 403),
        ("GET", "connections/fraud__db", None, 403),
    ):
        answer = site.call(login, method, path, json=body)
        assert answer.status_code == status, (method, path, answer.text)


OF_THE_PLATFORM = "only platform admins may do this"


@pytest.mark.parametrize("role", ROLES)
def test_the_guard_refuses_what_airflow_does_not_ask_keycloak(site: Site, role: str) -> None:
    login = f"support-{role}"
    squat, slots = (
        {"key": "fraud__squat", "value": "1"},
        {"name": "support__wide", "slots": 9, "include_deferred": False},
    )
    connection = {"connection_id": "fraud__squat", "conn_type": "http"}
    for method, path, body, expected in (
        ("GET", "dags/fraud__a", None, (404, "no DAG 'fraud__a' in your teams")),
        ("GET", "dags/fraud__nosuch", None, (404, "no DAG 'fraud__nosuch' in your teams")),
        ("POST", "backfills", {"dag_id": "fraud__a"}, (404, "no DAG 'fraud__a' in your teams")),
        ("GET", "assets/2", None, (404, "no such asset of your teams")),
        ("POST", "assets/events", {"asset_id": 2, "extra": {}}, (404, "no such asset of your teams")),
        ("POST", "assets/2/materialize", None, (404, "no such asset of your teams")),
        ("POST", "pools", slots, (403, OF_THE_PLATFORM)),
        ("PATCH", "pools/support__default", {"slots": 1000}, (403, OF_THE_PLATFORM)),
        ("GET", "jobs", None, (403, OF_THE_PLATFORM)),
        ("GET", "config", None, (403, OF_THE_PLATFORM)),
        (
            "POST",
            "variables",
            squat,
            (403, "'fraud__squat' has the prefix of team 'fraud': you may not write variables"),
        ),
        ("POST", "connections", connection, (403, "'fraud__squat' has the prefix of team 'fraud': you may not write")),
        ("GET", "importErrors/2", None, (404, "")),
        ("GET", "eventLogs/2", None, (404, "")),
    ):
        code, detail = site.refused(login, method, path, body)
        assert (code, detail[: len(expected[1])]) == expected, (method, path, detail)


def test_a_platform_admin_may_do_what_the_guard_refuses_to_teams(site: Site) -> None:
    slots = {"pool": "support__default", "slots": 5, "include_deferred": False}
    assert site.refused("platform", "PATCH", "pools/support__default", slots) == (200, "")
    assert site.refused("platform", "GET", "jobs") == (200, "")
    assert site.refused("platform", "GET", "dags/fraud__nosuch")[0] == 404
    assert site.refused("platform", "POST", "connections/defaults")[0] == 403
    assert site.refused("platform", "GET", "assets/2") == (200, "")


def test_nobody_is_told_what_there_is(site: Site) -> None:
    for path in (
        "dags/support__a",
        "assets/1",
        "eventLogs/1",
        "pools/support__default",
        "jobs",
        "variables/support__limit",
    ):
        assert site.refused("nobody", "GET", path)[0] in (403, 404), path


def test_each_role_may_what_the_table_says(site: Site) -> None:
    for role, may_pause, may_set, may_connect in (
        ("viewer", 403, 403, 403), ("user", 200, 403, 403), ("op", 200, 200, 403), ("admin", 200, 200, 200),
    ):  # fmt: skip
        login = f"support-{role}"
        assert site.call(login, "PATCH", "dags/support__a", json={"is_paused": False}).status_code == may_pause, role
        variable = {"key": "support__limit", "value": "2"}
        assert site.call(login, "PATCH", "variables/support__limit", json=variable).status_code == may_set, role
        connection = {"connection_id": "support__db", "conn_type": "http"}
        assert site.call(login, "PATCH", "connections/support__db", json=connection).status_code == may_connect, role
    assert (
        site.call("support-viewer", "POST", "dags/support__a/dagRuns", json={"logical_date": None}).status_code == 403
    )
    assert site.call("platform", "PATCH", "dags/fraud__a", json={"is_paused": False}).status_code == 200


VIEWED = "you may read what team 'fraud' has, and not change it"


def test_a_role_in_one_team_is_none_in_another(site: Site) -> None:
    assert site.rows("both", "dags") == {"support__a", "fraud__a"}
    assert site.call("both", "PATCH", "dags/support__a", json={"is_paused": False}).status_code == 200
    assert site.call("both", "PATCH", "dags/fraud__a", json={"is_paused": False}).status_code == 403
    assert site.rows("both", "variables") == {"support__limit"}
    assert site.rows("both", "assets") == {"support__sales", "fraud__sales"}
    assert site.rows("both", "importErrors") == {"support", "fraud"}
    for path, body in (("assets/events", {"asset_id": 2, "extra": {}}), ("assets/2/materialize", None)):
        assert site.refused("both", "POST", path, body) == (403, VIEWED)
    assert site.refused("both", "DELETE", "dags/fraud__a/assets/queuedEvents") == (403, VIEWED)
    assert site.refused("both", "POST", "assets/events", {"asset_id": 1, "extra": {}})[0] == 200
    assert site.refused("both", "POST", "variables", {"key": "fraud__mine", "value": "1"})[0] == 403
    assert site.refused("both", "POST", "variables", {"key": "support__mine", "value": "1"})[0] == 201


def test_the_audit_log_shows_a_person_their_own_rows_by_name(site: Site) -> None:
    assert site.refused("support-op", "GET", "jobs")[0] == 403
    rows = site.call("support-op", "GET", "eventLogs?event=person_request_refused").json()["event_logs"]
    assert {row["owner"] for row in rows} == {"support-op"}


def test_a_page_outlives_keycloaks_token(site: Site) -> None:
    site.keycloak.call("PUT", "/bank", json={"accessTokenLifespan": 2})
    try:
        session = site.airflow.login("support-user")
        time.sleep(3)
        for path in ("dags/support__a/dagRuns/r", "dags"):
            answer = session.get(f"{site.airflow.url}/api/v2/{path}", timeout=60)
            assert (answer.status_code, "support__a" in answer.text) == (200, True), answer.text
    finally:
        site.keycloak.call("PUT", "/bank", json={"accessTokenLifespan": 300})


def test_scripts_log_in_by_password_and_a_wrong_password_does_not(site: Site) -> None:
    headers = {"Authorization": f"Bearer {site.airflow.token('support-user')}"}
    found = requests.get(f"{site.airflow.url}/api/v2/dags", headers=headers, timeout=60)
    assert [dag["dag_id"] for dag in found.json()["dags"]] == ["support__a"]
    refused = site.airflow.login("support-user", "wrong")
    assert refused.get(f"{site.airflow.url}/api/v2/dags", timeout=60).status_code == 401


def test_the_job_writes_the_same_again_and_a_removed_teams_rights_are_gone(site: Site) -> None:
    url = site.airflow.url
    site.keycloak.realm().write(teams_of(*TEAMS), url=url, secret=CLIENT_SECRET)
    assert site.call("support-op", "GET", "dags/support__a/dagRuns/r").status_code == 200
    site.keycloak.realm().write(teams_of("support"), url=url, secret=CLIENT_SECRET)
    wait_until(
        "fraud's rights are gone",
        lambda: site.call("fraud-op", "GET", "dags/fraud__a/dagRuns/r").status_code in (403, 404),
        seconds=KEPT_SECONDS + 20,
    )
    assert site.call("support-op", "GET", "dags/support__a/dagRuns/r").status_code == 200
    assert site.call("platform", "GET", "dags/support__a/dagRuns/r").status_code == 200


def test_a_removed_members_rights_die_within_a_minute(site: Site) -> None:
    assert site.call("support-viewer", "GET", "dags/support__a/dagRuns/r").status_code == 200
    site.keycloak.leave("support-viewer", "/kommuna/support/viewer")
    wait_until(
        "the rights are gone",
        lambda: site.call("support-viewer", "GET", "dags/support__a/dagRuns/r").status_code in (403, 404),
        seconds=60,
    )


def test_groups_of_the_directory_hold_a_role_and_an_unknown_one_is_refused(site: Site) -> None:
    site.keycloak.call("POST", "/bank/groups", json={"name": "ml-support"})
    site.keycloak.make_person("carol", "/ml-support")
    known = {"support": Team(bundle="x", groups={"op": ("/ml-support",)})}
    site.keycloak.realm().write(known, url=site.airflow.url, secret=CLIENT_SECRET)
    carol = site.airflow.login("carol")
    assert carol.get(f"{site.airflow.url}/api/v2/dags/support__a/dagRuns/r", timeout=60).status_code == 200
    unknown = {"support": Team(bundle="x", groups={"op": ("/ml-suport",)})}
    with pytest.raises(SpecError, match=r"teams\.support\.groups\.op: realm 'bank' has no group '/ml-suport'"):
        site.keycloak.realm().write(unknown, url=site.airflow.url, secret=CLIENT_SECRET)


def test_a_realm_without_a_limit_of_sign_ins_is_refused(site: Site) -> None:
    site.keycloak.call("PUT", "/bank", json={"bruteForceProtected": False})
    with pytest.raises(PlatformFault, match="does not limit the rate of failed sign-ins"):
        site.keycloak.realm().write(teams_of("support"), url=site.airflow.url, secret=CLIENT_SECRET)
    site.keycloak.call("PUT", "/bank", json={"bruteForceProtected": True})
