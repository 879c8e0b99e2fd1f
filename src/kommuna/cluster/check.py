"""Runs each team's check, a DAG of one step, for `helm test`: `python -m kommuna.cluster.check`."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from kommuna.clients.airflow import AirflowApi, Run, login
from kommuna.cluster.program import exit_with
from kommuna.errors import PlatformFault, StepNotFound
from kommuna.outages import RetryPolicy, wait_out
from kommuna.spec.installation import find_installation
from kommuna.spec.names import qualified
from kommuna.waiting import wait_until

WAIT_SECONDS = 600.0
RESTART = RetryPolicy(first=1, longest=5, total=120)  # while Airflow's server restarts
DAG = "platform_check"


def main() -> int:
    """Runs the checks of all teams in parallel. Returns 0 if all of them succeeded, else 1."""
    teams = find_installation(Path.cwd()).platform.teams
    password = json.loads(Path(os.environ["KOMMUNA_PASSWORDS"]).read_text())["admin"]
    url = os.environ["KOMMUNA_AIRFLOW"]
    api = AirflowApi(url, wait_out(lambda: login(url, "admin", password), RESTART), policy=RESTART)
    runs: dict[str, Run | None] = dict.fromkeys(qualified(team, DAG) for team in teams)
    with contextlib.suppress(PlatformFault):
        wait_until("every check ended", lambda: all(_ended(api, runs)), seconds=WAIT_SECONDS, every=2)
    for dag, run in runs.items():
        how = "the DAG did not appear in time" if run is None else run.state if run.ended else "did not end in time"
        print(f"{dag}: {how}", flush=True)  # noqa: T201
    return 0 if all(run is not None and run.state == "success" for run in runs.values()) else 1


def _ended(api: AirflowApi, runs: dict[str, Run | None]) -> Iterator[bool]:
    """Starts the checks whose DAGs have appeared, and yields for each whether it has ended."""
    for dag, run in runs.items():
        if run is None:
            with contextlib.suppress(StepNotFound):  # the DAG is not there yet
                runs[dag] = api.trigger(dag, {})
        elif not run.ended:
            api.refresh(run)
        yield run is not None and run.ended


if __name__ == "__main__":
    exit_with(main)
