"""DAG files on a running platform: written into a team's bundle, awaited, run, and inspected."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from kommuna.clients.airflow import AirflowApi, Run
from kommuna.errors import PlatformFault
from kommuna.waiting import wait_until

if TYPE_CHECKING:
    from tests.integration.platform.conftest import Site


class BusyAirflow(AirflowApi):
    """Airflow's REST API on a machine so busy that an answer may take three minutes."""

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        return super().request(method, path, **{"timeout": 180, **options})


class DagRuns:
    """Runs DAGs of one team's bundle through Airflow's REST API."""

    def __init__(self, site: Site, team: str = "support") -> None:
        self.site = site
        self.team = team
        self.bundle: Path = site.root / "dags" / team

    def write(self, name: str, source: str) -> Path:
        """Puts a file into the bundle."""
        path = self.bundle / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        return path

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """Sends a request to Airflow's REST API as the administrator."""
        return self.site.api().request(method, path, **options)

    def await_dags(self, dag_ids: set[str], seconds: float = 90) -> set[str]:
        """Waits until DAGs are known; returns the known ones."""
        known: set[str] = set()

        def are_there() -> bool:
            known.update(self.site.api().dag_ids())
            return dag_ids <= known

        with contextlib.suppress(PlatformFault):
            wait_until("the DAGs are there", are_there, seconds=seconds, every=1)
        return known & dag_ids

    def pages(self, path: str, items: str) -> list[dict[str, Any]]:
        """Returns every item of a paginated list."""
        return self.site.api().items(path, items)

    def import_errors(self) -> dict[str, str]:
        """Returns the import error of each file."""
        return {error["filename"]: error["stack_trace"] for error in self.pages("/importErrors", "import_errors")}

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None, logical_date: str | None = None) -> str:
        """Starts a run; returns its id."""
        answer = self._triggered(dag_id, conf, logical_date)
        assert answer.ok, answer.text
        return str(answer.json()["dag_run_id"])

    def _triggered(self, dag_id: str, conf: dict[str, Any] | None, logical_date: str | None) -> requests.Response:
        body = {"logical_date": logical_date, "conf": conf or {}}
        return self.call("POST", f"/dags/{dag_id}/dagRuns", json=body)

    def wait(self, dag_id: str, run_id: str, seconds: float = 120) -> dict[str, str]:
        """Waits for a run's end; returns the state of each task, and of the run as `""`."""
        api, run = self.site.api(), Run(dag_id, run_id)

        def ended() -> bool:
            api.refresh(run)
            return run.ended

        with contextlib.suppress(PlatformFault):
            wait_until("the run ended", ended, seconds=seconds)
        return {**run.tasks, "": run.state}

    def ends(
        self, names: list[str], seconds: float, logical_date: str, conf: Mapping[str, dict[str, Any]] | None = None
    ) -> dict[str, dict[str, str]]:
        """Runs DAGs of the team side by side: the states of each one's tasks, and of its run as `""`.

        A run that is not over in time is `running`, and is ended; one that Airflow does not start is `refused: …`.

        Args:
            names: their ids without the team's prefix.
            conf: a run's parameters, by DAG.
        """
        answers = {
            name: self._triggered(f"{self.team}__{name}", (conf or {}).get(name), logical_date) for name in names
        }
        deadline = time.monotonic() + seconds
        found = {}
        for name, answer in answers.items():
            if not answer.ok:
                found[name] = {"": f"refused: {answer.text}"}
                continue
            dag_id, run_id = f"{self.team}__{name}", answer.json()["dag_run_id"]
            found[name] = self.wait(dag_id, run_id, max(1, deadline - time.monotonic()))
            if found[name][""] not in ("success", "failed"):
                self.call("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}", json={"state": "failed"})
        return found

    def xcom(self, dag_id: str, run_id: str, task: str) -> Any:
        """Returns the return value of a task."""
        return self.site.api().result(Run(dag_id, run_id), task)

    def log(self, dag_id: str, run_id: str, task: str) -> str:
        """Returns the log of a task's last try."""
        return "\n".join(self.site.api().log(Run(dag_id, run_id), task))
