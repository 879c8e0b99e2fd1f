"""`python -m kommuna.cluster.check`: runs each team's check, a DAG of one step, and waits for it; for `helm test`."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import requests

from kommuna.errors import KommunaError, PlatformFault
from kommuna.spec.installation import find_installation
from kommuna.spec.names import qualified

PATIENCE_SECONDS = 600.0
DAG = "platform_check"


def main() -> int:
    """Runs the checks of all teams side by side; the exit code says whether all ended well."""
    teams = find_installation(Path.cwd()).platform.teams
    passwords = json.loads(Path(os.environ["KOMMUNA_PASSWORDS"]).read_text())
    airflow = _Airflow(os.environ["KOMMUNA_AIRFLOW"], passwords["admin"])
    deadline = time.monotonic() + PATIENCE_SECONDS
    runs = {qualified(team, DAG): "" for team in teams}
    states: dict[str, str] = {}
    while len(states) < len(runs) and time.monotonic() < deadline:
        for dag, run in runs.items():
            if not run:
                runs[dag] = airflow.start(dag)
            elif dag not in states:
                state = airflow.state(dag, run)
                if state in ("success", "failed"):
                    states[dag] = state
                    print(f"{dag} {run}: {state}", flush=True)  # noqa: T201
        time.sleep(2)
    for dag in runs:
        if dag not in states:
            print(f"{dag}: {'it did not end' if runs[dag] else 'it did not turn up'} in time", flush=True)  # noqa: T201
    return 0 if [*states.values()] == ["success"] * len(runs) else 1


class _Airflow:
    """The part of Airflow's REST API that the check needs."""

    def __init__(self, url: str, password: str) -> None:
        self._url = url
        self._session = requests.Session()
        answer = self._session.post(f"{url}/auth/token", json={"username": "admin", "password": password}, timeout=60)
        if not answer.ok:
            raise PlatformFault(f"Airflow refuses the admin's password: {answer.status_code}", where=url)
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def start(self, dag: str) -> str:
        """Starts a run and returns its id; nothing where the DAG is not there yet."""
        answer = self._call("POST", f"/dags/{dag}/dagRuns", json={"logical_date": None})
        return str(answer["dag_run_id"]) if answer else ""

    def state(self, dag: str, run: str) -> str:
        """The state of a run."""
        return str(self._call("GET", f"/dags/{dag}/dagRuns/{run}").get("state", ""))

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = self._session.request(method, f"{self._url}/api/v2{path}", timeout=60, **options)
        if answer.status_code == 404:
            return {}
        if not answer.ok:
            raise PlatformFault(f"Airflow refuses: {answer.status_code} {answer.text[:300]}", where=path)
        return dict(answer.json())


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KommunaError as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
