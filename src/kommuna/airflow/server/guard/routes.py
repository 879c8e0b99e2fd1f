"""The table of the Execution API's routes, in the order in which Airflow matches them, each with its check.

A test compares it with the routes of the real application. A request to a route that is not in the table is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from kommuna.airflow.server.asgi import Template


class Check(Enum):
    """What a route requires. All but the first four require a task instance that exists and has a team."""

    UNKNOWN = auto()  # the table does not have the route: no token opens it
    PUBLIC = auto()  # nothing: it is about the server
    CONNECTION_TEST = auto()  # the token of the connection test in the path
    NEVER = auto()  # no task may do this
    START = auto()  # the token that the executor got when this instance was queued
    HEARTBEAT = auto()  # the own instance; Airflow answers whether it still runs, and does nothing else
    STATE = auto()  # the own instance, and what the body says
    INSTANCE = auto()  # the own instance
    TEAM = auto()  # nothing more: Airflow filters by the team
    DAG = auto()  # a DAG of the own team: `dag_id` in the path or the query
    TRIGGER = auto()  # the same, and what the body says
    READ_NAME = auto()  # a name with the own prefix, or one that belongs to everybody
    WRITE_NAME = auto()  # a name with the own prefix
    READ_ASSET = auto()  # an asset of the own team, or one that is published to it
    OWN_ASSET = auto()  # an asset of the own team


JUDGED_BODIES = frozenset({Check.STATE, Check.TRIGGER})


@dataclass(frozen=True)
class Route(Template):
    """A route of the Execution API.

    Attributes:
        check: what it requires.
        while_running: whether it requires that the instance runs. The others are open for some seconds longer, since a
            task's process runs its callbacks after it has reported its end.
    """

    check: Check
    while_running: bool = False


def _own(method: str, path: str, check: Check = Check.INSTANCE, **options: Any) -> Route:
    return Route(method, path.replace("{ti}", "{task_instance_id}"), check, **options)


_XCOM = "/xcoms/{dag_id}/{run_id}/{task_id}/{key:path}"
TABLE: tuple[Route, ...] = (
    Route("GET", "/docs", Check.PUBLIC),
    Route("HEAD", "/docs", Check.PUBLIC),
    Route("GET", "/docs/oauth2-redirect", Check.PUBLIC),
    Route("HEAD", "/docs/oauth2-redirect", Check.PUBLIC),
    Route("GET", "/redoc", Check.PUBLIC),
    Route("HEAD", "/redoc", Check.PUBLIC),
    Route("GET", "/changelog", Check.PUBLIC),
    Route("GET", "/openapi.json", Check.PUBLIC),
    Route("HEAD", "/openapi.json", Check.PUBLIC),
    Route("GET", "/health", Check.PUBLIC),
    Route("GET", "/health/ping", Check.PUBLIC),
    Route("GET", "/assets/by-name", Check.READ_ASSET),
    Route("GET", "/assets/by-uri", Check.READ_ASSET),
    Route("GET", "/assets/by-alias", Check.READ_ASSET),
    Route("GET", "/asset-events/by-asset", Check.READ_ASSET),
    Route("GET", "/asset-events/by-asset-alias", Check.READ_ASSET),
    Route("GET", "/connection-tests/{connection_test_id}/connection", Check.CONNECTION_TEST),
    Route("PATCH", "/connection-tests/{connection_test_id}", Check.CONNECTION_TEST),
    Route("GET", "/connections/{connection_id}", Check.READ_NAME),
    Route("GET", "/dag-runs/{dag_id}/previous", Check.DAG),
    Route("GET", "/dag-runs/{dag_id}/{run_id}", Check.DAG),
    Route("POST", "/dag-runs/{dag_id}/{run_id}", Check.TRIGGER),
    Route("POST", "/dag-runs/{dag_id}/{run_id}/clear", Check.DAG),
    Route("GET", "/dag-runs/{dag_id}/{run_id}/state", Check.DAG),
    Route("GET", "/dag-runs/count", Check.DAG),
    Route("GET", "/dag-runs/previous", Check.DAG),
    Route("GET", "/dags/{dag_id}", Check.DAG),
    Route("GET", "/task-instances/count", Check.DAG),
    Route("GET", "/task-instances/previous/{dag_id}/{task_id}", Check.DAG),
    Route("GET", "/task-instances/states", Check.DAG),
    Route("GET", "/task-instances/breadcrumbs", Check.DAG),
    _own("PATCH", "/task-instances/{ti}/run", Check.START),
    _own("PATCH", "/task-instances/{ti}/state", Check.STATE),
    _own("PATCH", "/task-instances/{ti}/skip-downstream"),
    _own("PUT", "/task-instances/{ti}/heartbeat", Check.HEARTBEAT),
    _own("PUT", "/task-instances/{ti}/rtif"),
    # It changes the instance's row, and so would prolong the seconds after the end.
    _own("PATCH", "/task-instances/{ti}/rendered-map-index", while_running=True),
    _own("GET", "/task-instances/{ti}/previous-successful-dagrun"),
    _own("GET", "/task-instances/{ti}/validate-inlets-and-outlets"),
    _own("GET", "/task-reschedules/{ti}/start_date"),
    Route("GET", "/variables/keys", Check.TEAM),
    Route("GET", "/variables/{variable_key:path}", Check.READ_NAME),
    Route("PUT", "/variables/{variable_key:path}", Check.WRITE_NAME),
    Route("DELETE", "/variables/{variable_key:path}", Check.WRITE_NAME),
    Route("GET", f"{_XCOM}/item/{{offset}}", Check.DAG),
    Route("GET", f"{_XCOM}/slice", Check.DAG),
    Route("HEAD", _XCOM, Check.DAG),
    Route("GET", _XCOM, Check.DAG),
    Route("POST", _XCOM, Check.DAG),
    Route("DELETE", _XCOM, Check.DAG),
    _own("POST", "/hitlDetails/{ti}", while_running=True),
    _own("PATCH", "/hitlDetails/{ti}", Check.NEVER),  # a person answers, through the REST API
    _own("GET", "/hitlDetails/{ti}"),
    _own("GET", "/store/ti/{ti}/{key:path}"),
    _own("PUT", "/store/ti/{ti}/{key:path}"),
    _own("DELETE", "/store/ti/{ti}/{key:path}"),
    _own("DELETE", "/store/ti/{ti}"),
    Route("GET", "/store/asset/by-name/value", Check.OWN_ASSET),
    Route("PUT", "/store/asset/by-name/value", Check.OWN_ASSET),
    Route("DELETE", "/store/asset/by-name/value", Check.OWN_ASSET),
    Route("DELETE", "/store/asset/by-name/clear", Check.OWN_ASSET),
    Route("GET", "/store/asset/by-uri/value", Check.OWN_ASSET),
    Route("PUT", "/store/asset/by-uri/value", Check.OWN_ASSET),
    Route("DELETE", "/store/asset/by-uri/value", Check.OWN_ASSET),
    Route("DELETE", "/store/asset/by-uri/clear", Check.OWN_ASSET),
)


def find(method: str, path: str) -> tuple[Route, Mapping[str, str]] | None:
    """Returns the route of a request and the values in its path; None if the table has no such route."""
    for route in TABLE:
        values = route.match(method, path)
        if values is not None:
            return route, values
    return None
