"""The list of DAGs at 100 teams, as a member of one team: with Keycloak, and with Airflow's simple auth manager."""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from tests.rigs.keycloak import CLIENT_SECRET, airflow, keycloak, keycloak_settings, teams_of

TEAMS = [f"team{number:02}" for number in range(100)]
DAGS = 10  # of each team
REQUESTS = 200  # of each server, in turn
PATH = "/api/v2/dags?limit=50"
FILL = f"""
from kommuna.airflow.database import migrate
migrate()
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.team import Team
from airflow.utils.session import create_session
with create_session() as s:
    for t in {TEAMS!r}:
        b = DagBundleModel(name=t); b.teams.append(Team(name=t)); s.add(b); s.flush()
        for n in range({DAGS}):
            s.add(DagModel(dag_id=f"{{t}}__d{{n}}", bundle_name=t, fileloc="x", relative_fileloc="x", timetable_type="x",
                           is_stale=False))
"""


def results() -> Iterator[dict[str, Any]]:
    """Yields the 95th percentile of seconds with Keycloak (`ours`) and with the simple manager (`peer`)."""
    with contextlib.ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kommuna-bench-"))) for _ in range(2)]
        for folder in folders:
            teams = "".join(f"  {name}: {{bundle: dags/{name}}}\n" for name in TEAMS)
            (folder / "kommuna.yaml").write_text(f"teams:\n{teams}")
        server = stack.enter_context(keycloak(folders[0], _free_port()))
        port = _free_port()
        began = time.perf_counter()
        server.realm().write(teams_of(*TEAMS), url=f"http://127.0.0.1:{port}", secret=CLIENT_SECRET)
        yield {"name": "write the rights of 100 teams", "ours": round(time.perf_counter() - began, 2)}
        server.make_person("ann", "/kommuna/team00/op")
        ours = stack.enter_context(airflow(folders[0], port, keycloak_settings(server.auth()), FILL))
        passwords = folders[1] / "passwords.json"
        passwords.write_text(json.dumps({"ann": "ann"}))
        simple = {
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "ann:op:team00",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        }
        peer = stack.enter_context(airflow(folders[1], _free_port(), simple, FILL))
        sessions = []
        for one in (ours, peer):
            session = requests.Session()
            session.headers["Authorization"] = f"Bearer {one.token('ann')}"
            sessions.append((session, f"{one.url}{PATH}"))
        began = time.perf_counter()
        first = sessions[0][0].get(sessions[0][1], timeout=60)
        assert first.json()["total_entries"] == DAGS, first.text
        yield {"name": "the first list, which asks Keycloak", "ours": round(time.perf_counter() - began, 3)}
        seconds: tuple[list[float], list[float]] = ([], [])
        for turn in range(REQUESTS):
            for at in (turn % 2, 1 - turn % 2):
                session, url = sessions[at]
                began = time.perf_counter()
                answer = session.get(url, timeout=60)
                seconds[at].append(time.perf_counter() - began)
                assert answer.json()["total_entries"] == DAGS, answer.text
        mine, theirs = (statistics.quantiles(values, n=20)[-1] for values in seconds)
        yield {
            "name": "list of DAGs, p95", "teams": len(TEAMS), "ours": round(mine, 4), "peer": round(theirs, 4),
            "ratio": round(mine / theirs, 2),
        }  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
