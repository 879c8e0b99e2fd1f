"""A client of Airflow's REST API, as far as the platform needs it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import requests

from kommuna.clients import http
from kommuna.clients.http import Bearer, Server
from kommuna.errors import Outage, PlatformFault, StepNotFound, nearest
from kommuna.outages import RetryPolicy, is_outage_status, wait_out
from kommuna.waiting import wait_until

PATIENCE_SECONDS = 120.0
PAGE = 100  # items; the most that Airflow's server gives at one time
FINISHED = ("success", "failed", "skipped", "upstream_failed", "removed")


@dataclass
class Run:
    """One DAG run: its state, and each task's; a mapped task's is kept as `task[index]`."""

    dag_id: str
    run_id: str
    state: str = "queued"
    tasks: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self.state in ("success", "failed")

    @property
    def done(self) -> int:
        """Tasks that are over."""
        return sum(state in FINISHED for state in self.tasks.values())


class AirflowApi:
    """Airflow's REST API.

    Args:
        url: the server.
        token: of the user in whose name it is called.
        policy: how long a server that does not answer is waited for; not at all if absent.
    """

    def __init__(self, url: str, token: str, *, policy: RetryPolicy | None = None) -> None:
        self._server = Server(url, auth=Bearer(token))
        self._policy = policy

    def dag_ids(self) -> list[str]:
        """Every DAG that the user may see."""
        return [dag["dag_id"] for dag in self._all("/dags", "dags")]

    def import_errors(self) -> list[tuple[str, str]]:
        """File and error of each DAG file that could not be read."""
        return [(error["filename"], error["stack_trace"]) for error in self._all("/importErrors", "import_errors")]

    def wait_for_dags(self, dag_ids: list[str], *, seconds: float = 120) -> None:
        """Waits until each DAG is there.

        Raises:
            PlatformFault: one is not, with the error of its file if it has one.
        """

        def absent(why: str) -> PlatformFault:
            known = self.dag_ids()
            missing = next((dag_id for dag_id in dag_ids if dag_id not in known), dag_ids[0])
            return PlatformFault(
                f"no DAG '{missing}': {why}{nearest(missing, known)}", fix="run `kommuna check` on the bundle"
            )

        def are_there() -> bool:
            if set(dag_ids) <= set(self.dag_ids()):
                return True
            if errors := self.import_errors():
                raise absent("; ".join(f"{file}: {text.strip().splitlines()[-1]}" for file, text in errors))
            return False

        wait_until("the DAGs are there", are_there, seconds=seconds, late=lambda: absent("it did not turn up"))

    def params(self, dag_id: str) -> list[Any]:
        """The params that a DAG declares, as Airflow has them.

        Raises:
            StepNotFound: there is no such DAG.
        """
        self._require(dag_id)
        return list(self._call("GET", f"/dags/{dag_id}/details").get("params") or ())

    def trigger(self, dag_id: str, conf: dict[str, Any], *, date: datetime | None = None) -> Run:
        """Starts a run.

        Args:
            dag_id: with the team's prefix.
            conf: the run's parameters.
            date: the logical date, which `{{ ds }}` is made of; None for a run without one.

        Raises:
            StepNotFound: there is no such DAG, a parameter does not fit its form, or there is a run of that date.
        """
        self._require(dag_id)
        answer = self._call(
            "POST", f"/dags/{dag_id}/dagRuns", json={"logical_date": date and date.isoformat(), "conf": conf}
        )
        return Run(dag_id, answer["dag_run_id"])

    def _require(self, dag_id: str) -> None:
        known = self.dag_ids()
        if dag_id not in known:
            raise StepNotFound(
                f"no DAG '{dag_id}'{nearest(dag_id, known)}", fix=f"there are: {', '.join(known) or 'none'}"
            )

    def watch(self, runs: list[Run], *, every: float = 0.5) -> Iterator[None]:
        """Refreshes the runs until all are over; yields after each look. A server that restarts is waited for."""
        silent_since = 0.0
        while True:
            try:
                for run in runs:
                    if not run.ended:
                        self.refresh(run)
                silent_since = 0.0
            except PlatformFault:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > PATIENCE_SECONDS:
                    raise
            yield
            if all(run.ended for run in runs):
                return
            time.sleep(every)

    def refresh(self, run: Run) -> None:
        """Reads a run's state and its tasks'."""
        base = f"/dags/{run.dag_id}/dagRuns/{run.run_id}"
        answer = self._call("GET", base)
        tasks = self._all(f"{base}/taskInstances", "task_instances")
        run.tasks = {_label(task): task["state"] or "waiting" for task in tasks}
        run.state = answer["state"]
        run.seconds = float(answer.get("duration") or 0.0)

    def results(self, run: Run) -> dict[str, dict[str, Any]]:
        """What each step of a run left, by task."""
        found = {}
        for task, state in run.tasks.items():
            if state != "success":
                continue
            task_id, map_index = _parts(task)
            path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}/xcomEntries/return_value"
            answer = self.request("GET", path, params={"map_index": map_index})
            if answer.ok:
                value = answer.json()["value"]
                found[task] = json.loads(value) if isinstance(value, str) else value
        return found

    def last_lines(self, run: Run, task: str, *, lines: int = 12) -> list[str]:
        """The end of a task's last log; of a mapped task it is `task[index]`."""
        task_id, map_index = _parts(task)
        base = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}"
        one = base if map_index < 0 else f"{base}/{map_index}"
        tries = self.request("GET", one).json().get("try_number", 1)
        options = {"full_content": "true", "map_index": str(map_index)}
        answer = self.request("GET", f"{base}/logs/{tries}", params=options)
        content = answer.json().get("content", []) if answer.ok else []
        found: list[str] = []
        for entry in content:
            if not isinstance(entry, dict):
                found.append(str(entry))
                continue
            found += str(entry.get("event", "")).splitlines()
            for detail in entry.get("error_detail") or ():
                found += str(detail.get("exc_value", "")).splitlines()
        return found[-lines:]

    def _all(self, path: str, items: str) -> list[dict[str, Any]]:
        """Every item of a list, page by page: Airflow's server cuts what asks for more than a page."""
        found: list[dict[str, Any]] = []
        while True:
            answer = self._call("GET", path, params={"limit": PAGE, "offset": len(found)})
            found += answer[items]
            if not answer[items] or len(found) >= answer["total_entries"]:
                return found

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        def answered() -> requests.Response:
            answer = self.request(method, path, **options)
            if is_outage_status(answer.status_code):
                raise Outage(f"Airflow refuses: {answer.status_code} {_detail(answer)}", where=f"{method} {path}")
            return answer

        answer = answered() if self._policy is None else wait_out(answered, self._policy)
        if answer.status_code in (400, 404, 409, 422):
            raise StepNotFound(
                f"Airflow refuses: {_detail(answer)}", where=f"{method} {path}", fix="check the names and values"
            )
        if not answer.ok:
            raise PlatformFault(f"Airflow refuses: {answer.status_code} {_detail(answer)}", where=f"{method} {path}")
        return dict(answer.json())

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """An answer below `/api/v2`, whatever its status.

        Raises:
            Outage: there is none.
        """
        try:
            return self._server.request(method, f"/api/v2{path}", **options)
        except requests.ReadTimeout:
            fix = "try again" if method == "GET" else "see in Airflow whether it was done before you try again"
            seconds = options.get("timeout", http.TIMEOUT_SECONDS)
            raise Outage(f"Airflow at {self._server.url} is up, and has not answered in {seconds} s", fix=fix) from None
        except requests.RequestException as error:
            raise Outage(
                f"Airflow at {self._server.url} is unreachable: {type(error).__name__}", fix="run `kommuna up`"
            ) from None


def login(url: str, user: str, password: str) -> str:
    """A token for a user.

    Raises:
        Outage: Airflow does not answer.
        PlatformFault: it refuses.
    """
    path = "/auth/token"
    try:
        answer = Server(url).request("POST", path, json={"username": user, "password": password})
    except requests.RequestException:
        raise Outage("Airflow does not answer", where=url, fix="start the platform: kommuna up") from None
    if not answer.ok:
        kind = Outage if is_outage_status(answer.status_code) else PlatformFault
        raise kind(
            f"Airflow refuses the login '{user}': {answer.status_code} {_detail(answer)}",
            where=f"{url}{path}",
            fix="start anew",
        )
    return str(answer.json()["access_token"])


def _label(task: Mapping[str, Any]) -> str:
    """A task, or one of a mapped task's."""
    map_index = task.get("map_index", -1)
    return str(task["task_id"]) if map_index < 0 else f"{task['task_id']}[{map_index}]"


def _parts(label: str) -> tuple[str, int]:
    """The task's id and the map index, -1 where it is not mapped."""
    task_id, bracket, index = label.removesuffix("]").partition("[")
    return task_id, int(index) if bracket else -1


def _detail(answer: requests.Response) -> str:
    return http.said(answer, key="detail")
