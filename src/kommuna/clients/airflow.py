"""A client of Airflow's REST API, with the calls that the platform needs."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import requests

from kommuna.clients import http
from kommuna.clients.http import Bearer, Server
from kommuna.errors import Outage, PlatformFault, StepNotFound, nearest
from kommuna.outages import RetryPolicy, is_outage_status, wait_out
from kommuna.spec.names import owner_of
from kommuna.waiting import wait_until

RESTART_SECONDS = 120.0  # how long `watch` waits for a server that restarts
PAGE = 100  # items: the maximum of one response of Airflow's server
FINISHED = ("success", "failed", "skipped", "upstream_failed", "removed")


@dataclass
class Run:
    """One DAG run, with its state and those of its tasks. A task of a mapped task is named `task[index]`."""

    dag_id: str
    run_id: str
    state: str = "queued"
    tasks: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether the run has ended."""
        return self.state in ("success", "failed")

    @property
    def done(self) -> int:
        """The number of tasks that have ended."""
        return sum(state in FINISHED for state in self.tasks.values())


class AirflowApi:
    """A client of Airflow's REST API.

    Args:
        url: the server's address.
        token: the user's token.
        policy: how an unreachable server is retried; no retries if absent.
    """

    def __init__(self, url: str, token: str, *, policy: RetryPolicy | None = None) -> None:
        self._server = Server(url, auth=Bearer(token))
        self._policy = policy

    def dag_ids(self) -> list[str]:
        """Returns the ids of all DAGs that the user may see."""
        return [dag["dag_id"] for dag in self.items("/dags", "dags")]

    def import_errors(self, teams: Collection[str | None]) -> list[tuple[str, str]]:
        """Returns the name and the error of each DAG file of some teams that could not be imported."""
        return [
            (error["filename"], error["stack_trace"])
            for error in self.items("/importErrors", "import_errors")
            if error["bundle_name"] in teams
        ]

    def wait_for_dags(self, dag_ids: list[str], *, seconds: float = 120) -> None:
        """Waits until each DAG exists.

        Args:
            dag_ids: the ids, with the teams' prefixes.
            seconds: the longest wait.

        Raises:
            PlatformFault: one does not; the error contains the import errors of the DAGs' teams, if there are any.
        """
        teams = {owner_of(dag_id) for dag_id in dag_ids}

        def absent(why: str) -> PlatformFault:
            known = self.dag_ids()
            missing = next((dag_id for dag_id in dag_ids if dag_id not in known), dag_ids[0])
            return PlatformFault(
                f"no DAG '{missing}': {why}{nearest(missing, known)}", fix="run `kommuna check` on the bundle"
            )

        def exist() -> bool:
            if set(dag_ids) <= set(self.dag_ids()):
                return True
            if errors := self.import_errors(teams):
                raise absent("; ".join(f"{file}: {text.strip().splitlines()[-1]}" for file, text in errors))
            return False

        wait_until("the DAGs exist", exist, seconds=seconds, late=lambda: absent("it did not appear"))

    def params(self, dag_id: str) -> list[Any]:
        """Returns the names of the params that a DAG declares.

        Raises:
            StepNotFound: there is no such DAG.
        """
        self._require(dag_id)
        return list(self._call("GET", f"/dags/{dag_id}/details").get("params") or ())

    def trigger(self, dag_id: str, conf: dict[str, Any], *, date: datetime | None = None) -> Run:
        """Starts a run.

        Args:
            dag_id: the DAG's id, with the team's prefix.
            conf: the run's parameters.
            date: the logical date, which `{{ ds }}` is derived from; None for a run without one.

        Raises:
            StepNotFound: there is no such DAG, a parameter is invalid, or a run with that date exists.
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
                f"no DAG '{dag_id}'{nearest(dag_id, known)}", fix=f"the DAGs are: {', '.join(known) or 'none'}"
            )

    def watch(self, runs: list[Run], *, every: float = 0.5) -> Iterator[None]:
        """Refreshes the runs until all have ended, and yields after each refresh. It waits for a restarting server.

        Args:
            runs: the runs; their states are refreshed in place.
            every: seconds between two refreshes.
        """
        silent_since = 0.0
        while True:
            try:
                for run in runs:
                    if not run.ended:
                        self.refresh(run)
                silent_since = 0.0
            except PlatformFault:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > RESTART_SECONDS:
                    raise
            yield
            if all(run.ended for run in runs):
                return
            time.sleep(every)

    def refresh(self, run: Run) -> None:
        """Reads the state of a run and of its tasks."""
        answer = self._call("GET", _path(run))
        run.tasks = {_label(task): task["state"] or "waiting" for task in self.task_instances(run)}
        run.state = answer["state"]
        run.seconds = float(answer.get("duration") or 0.0)

    def task_instances(self, run: Run) -> list[dict[str, Any]]:
        """Returns the task instances of a run, as Airflow describes them."""
        return self.items(f"{_path(run)}/taskInstances", "task_instances")

    def results(self, run: Run) -> dict[str, Any]:
        """Returns the return value of each task of a run that succeeded and has one, by task."""
        found = {}
        for task, state in run.tasks.items():
            if state == "success":
                with contextlib.suppress(StepNotFound):
                    found[task] = self.result(run, task)
        return found

    def result(self, run: Run, task: str) -> Any:
        """Returns the return value of a task. For one task of a mapped task give `task[index]`.

        Raises:
            StepNotFound: the task has none.
        """
        task_id, map_index = _parts(task)
        path = f"{_path(run)}/taskInstances/{task_id}/xcomEntries/return_value"
        value = self._call("GET", path, params={"map_index": map_index})["value"]
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError:
            return value  # a text

    def log(self, run: Run, task: str) -> list[str]:
        """Returns the lines of a task's last log. For one task of a mapped task give `task[index]`."""
        task_id, map_index = _parts(task)
        base = f"{_path(run)}/taskInstances/{task_id}"
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
        return found

    def items(self, path: str, name: str) -> list[dict[str, Any]]:
        """Returns all items of a list, page by page: Airflow's server limits the size of a response.

        Args:
            path: the list's path below `/api/v2`.
            name: the key of the items in a response.
        """
        found: list[dict[str, Any]] = []
        while True:
            answer = self._call("GET", path, params={"limit": PAGE, "offset": len(found)})
            found += answer[name]
            if not answer[name] or len(found) >= answer["total_entries"]:
                return found

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        where = f"{method} {path}"
        answer = _require_up(self.request(method, path, **options), where)
        if answer.status_code in (400, 404, 409, 422):
            raise StepNotFound(f"Airflow refuses: {_detail(answer)}", where=where, fix="check the names and values")
        if not answer.ok:
            raise PlatformFault(f"Airflow refuses: {answer.status_code} {_detail(answer)}", where=where)
        return dict(answer.json())

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Sends a request below `/api/v2`, and returns the answer whatever its status.

        With a policy it is sent again while the server is unreachable or answers that it has failed.

        Raises:
            Outage: there is no answer, or with a policy the outage lasts too long.
        """
        if self._policy is None:
            return self._send(method, path, **options)
        return wait_out(lambda: _require_up(self._send(method, path, **options), f"{method} {path}"), self._policy)

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        try:
            return self._server.request(method, f"/api/v2{path}", **options)
        except requests.ReadTimeout:
            fix = "try again" if method == "GET" else "check in Airflow whether it was done before you try again"
            seconds = options.get("timeout", http.TIMEOUT_SECONDS)
            raise Outage(
                f"Airflow at {self._server.url} is up, but did not answer within {seconds} s", fix=fix
            ) from None
        except requests.RequestException as error:
            raise Outage(
                f"Airflow at {self._server.url} is unreachable: {type(error).__name__}", fix="run `kommuna up`"
            ) from None


def login(url: str, user: str, password: str) -> str:
    """Logs a user in and returns the token.

    Args:
        url: the server's address.
        user: the login's name.
        password: its password.

    Raises:
        Outage: Airflow does not answer.
        PlatformFault: Airflow refuses the login.
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
            fix="restart the platform: kommuna down, then kommuna up",
        )
    return str(answer.json()["access_token"])


def _path(run: Run) -> str:
    return f"/dags/{run.dag_id}/dagRuns/{run.run_id}"


def _require_up(answer: requests.Response, where: str) -> requests.Response:
    if is_outage_status(answer.status_code):
        raise Outage(f"Airflow refuses: {answer.status_code} {_detail(answer)}", where=where)
    return answer


def _label(task: Mapping[str, Any]) -> str:
    """Returns the name of a task, or `task[index]` for one of a mapped task."""
    map_index = task.get("map_index", -1)
    return str(task["task_id"]) if map_index < 0 else f"{task['task_id']}[{map_index}]"


def _parts(label: str) -> tuple[str, int]:
    """Splits a name into the task's id and the map index, which is -1 if the task is not mapped."""
    task_id, bracket, index = label.removesuffix("]").partition("[")
    return task_id, int(index) if bracket else -1


def _detail(answer: requests.Response) -> str:
    return http.error_message(answer, key="detail")
