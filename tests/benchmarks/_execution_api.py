"""Runs in the environment of `execution_api`: makes a database with running tasks, and times requests of two servers."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
import uuid
from typing import Any

ROUNDS = 2  # the first one warms up
TASKS = 100  # one round over them takes longer than the guard remembers an instance
BEAT = {"hostname": "h", "pid": 1}


def main() -> None:
    """Prints a line for each kind of request."""
    from airflow.api_fastapi.app import create_app

    from kommuna.airflow.database import migrate
    from kommuna.airflow.server.plugin import KommunaPlugin

    migrate()
    tasks = _tasks()
    guarded = create_app()
    import airflow.plugins_manager as plugins

    others = [one for one in KommunaPlugin.fastapi_root_middlewares if one["name"] != "Kommuna guard"]
    assert len(others) < len(KommunaPlugin.fastapi_root_middlewares)
    apps, _ = plugins.get_fastapi_plugins()
    plugins.get_fastapi_plugins = lambda: (apps, others)
    bare = create_app()
    asyncio.run(_compare(guarded, bare, tasks))


def _tasks() -> list[tuple[uuid.UUID, str]]:
    """Makes running task instances; returns the id and the token of each."""
    import jwt
    from airflow._shared.timezones import timezone
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.team import Team
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunType
    from sqlalchemy import Table, insert

    now, ids = timezone.utcnow(), [uuid.uuid4() for _ in range(TASKS)]
    with create_session() as session:
        for team in ("support", "fraud"):
            bundle = DagBundleModel(name=team)
            bundle.teams.append(Team(name=team))
            session.add(bundle)
            session.flush()
            session.add(DagModel(dag_id=f"{team}__a", bundle_name=team, fileloc="x", timetable_type="x"))
        session.add(Variable(key="support__x", val="1", team_name="support"))
        kind, state = DagRunType.MANUAL, DagRunState.RUNNING
        session.add(DagRun(dag_id="support__a", run_id="r", run_after=now, run_type=kind, state=state))
        session.flush()
        table: Any = TaskInstance.__table__
        assert isinstance(table, Table)
        common = {
            "dag_id": "support__a", "run_id": "r", "map_index": -1, "state": "running", "queued_dttm": now, "updated_at": now,
            "try_number": 1, "max_tries": 0, "pool": "p", "pool_slots": 1, "queue": "q", "priority_weight": 1, "operator": "x",
            "unixname": "u", "span_status": "x", **BEAT,
        }  # fmt: skip
        session.execute(insert(table), [{**common, "id": one, "task_id": f"t{at}"} for at, one in enumerate(ids)])
    at = int(time.time())
    claims = {"scope": "execution", "aud": "urn:airflow.apache.org:task", "iat": at, "nbf": at, "exp": at + 3600}
    return [(one, jwt.encode({**claims, "sub": str(one)}, "s" * 64, algorithm="HS512")) for one in ids]


async def _compare(guarded: Any, bare: Any, tasks: list[tuple[uuid.UUID, str]]) -> None:
    import httpx

    async with guarded.router.lifespan_context(guarded), bare.router.lifespan_context(bare):
        clients = [
            httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://bench/execution")
            for app in (guarded, bare)
        ]
        for name, method, path, body in (
            ("heartbeat", "PUT", "/task-instances/{id}/heartbeat", BEAT),
            ("read a variable", "GET", "/variables/support__x", None),
            ("write an XCom", "POST", "/xcoms/support__a/r/t0/k", {"a": 1}),
        ):
            for how, chosen in (("", tasks), (" in a burst", tasks[:1] * TASKS)):
                seconds: tuple[list[float], list[float]] = ([], [])
                for turn in range(ROUNDS * TASKS):
                    one, token = chosen[turn % TASKS]
                    for at in (turn % 2, 1 - turn % 2):
                        request = clients[at].build_request(
                            method, path.format(id=one), json=body, headers={"Authorization": f"Bearer {token}"}
                        )
                        began = time.perf_counter()
                        answer = await clients[at].send(request)
                        seconds[at].append(time.perf_counter() - began)
                        assert answer.is_success, answer.text
                ours, peer = (statistics.median(values[TASKS:]) for values in seconds)
                print(json.dumps({"name": name + how, "ours": round(ours, 5), "peer": round(peer, 5), "ratio": round(ours / peer, 3)}))  # fmt: skip


if __name__ == "__main__":
    main()
