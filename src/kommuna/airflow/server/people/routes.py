"""The table of the API server's routes for people, in the order in which Airflow matches them, each with its need.

A test compares it with the routes of the real application. A request to a route that is not in the table is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from kommuna.airflow.server.asgi import Template


class Need(Enum):
    """What a route requires. What the auth manager requires comes on top."""

    PUBLIC = auto()  # nothing: it shows nothing of a team
    SIGN_IN = auto()  # few failures before
    NEVER = auto()  # nobody may do this
    PERSON = auto()  # a person; lists are filtered by the auth manager and by `rows`
    DAG = auto()  # a DAG of the person's teams in the path
    DAGS = auto()  # the same, or `~`: Airflow filters by the DAGs that a person may read, or asks for each in the body
    ASSET = auto()  # an asset of the person's teams, or one that is published to them
    OPERATED_ASSET = auto()  # an asset of teams that the person operates, in the path or the body
    OPERATED_DAG = auto()  # a DAG of teams that the person operates, in the path: Airflow asks about reading it only
    BACKFILL = auto()  # a person, and not too many runs
    PLATFORM = auto()  # a platform admin


@dataclass(frozen=True)
class PeopleRoute(Template):
    """A route.

    Attributes:
        need: what it requires.
    """

    need: Need


_INSTANCES = "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances"
_NO_PAGES = ("/api/v2/", "/ui/", "/kommuna/", "/execution/", "/pluginsv2/")  # what Airflow answers there is in a row
TABLE: tuple[PeopleRoute, ...] = (
    PeopleRoute("GET", "/static/{path:path}", Need.PUBLIC),
    PeopleRoute("HEAD", "/static/{path:path}", Need.PUBLIC),
    PeopleRoute("GET", "/kommuna/dags/{dag_id}/manifests/{key}/outputs/{output}", Need.DAG),
    PeopleRoute("GET", "/kommuna/dags/{dag_id}/manifests/{key}", Need.DAG),
    PeopleRoute("GET", "/openapi.json", Need.PUBLIC),
    PeopleRoute("HEAD", "/openapi.json", Need.PUBLIC),
    PeopleRoute("GET", "/docs", Need.PUBLIC),
    PeopleRoute("HEAD", "/docs", Need.PUBLIC),
    PeopleRoute("GET", "/docs/oauth2-redirect", Need.PUBLIC),
    PeopleRoute("HEAD", "/docs/oauth2-redirect", Need.PUBLIC),
    PeopleRoute("GET", "/redoc", Need.PUBLIC),
    PeopleRoute("HEAD", "/redoc", Need.PUBLIC),
    PeopleRoute("GET", "/ui/auth/menus", Need.PERSON),
    PeopleRoute("GET", "/ui/auth/me", Need.PERSON),
    PeopleRoute("POST", "/ui/auth/token", Need.PERSON),
    PeopleRoute("GET", "/ui/next_run_assets/{dag_id}", Need.DAG),
    PeopleRoute("GET", "/ui/dags/{dag_id}/dagRuns/{dag_run_id}/stats", Need.DAG),
    PeopleRoute("GET", "/ui/partitioned_dag_runs", Need.PERSON),
    PeopleRoute("GET", "/ui/pending_partitioned_dag_run/{dag_id}", Need.DAG),
    PeopleRoute("GET", "/ui/config", Need.PERSON),
    PeopleRoute("GET", "/ui/connections/hook_meta", Need.PERSON),
    PeopleRoute("GET", "/ui/dags", Need.PERSON),
    PeopleRoute("GET", "/ui/dags/{dag_id}/latest_run", Need.DAG),
    PeopleRoute("GET", "/ui/dependencies", Need.PERSON),
    PeopleRoute("GET", "/ui/dashboard/historical_metrics_data", Need.PERSON),
    PeopleRoute("GET", "/ui/dashboard/dag_stats", Need.PERSON),
    PeopleRoute("GET", "/ui/dags/{dag_id}/dagRuns/{dag_run_id}/deadlines", Need.DAGS),
    PeopleRoute("GET", "/ui/dags/{dag_id}/deadlineAlerts", Need.DAG),
    PeopleRoute("GET", "/ui/structure/structure_data", Need.PERSON),
    PeopleRoute("GET", "/ui/backfills", Need.PERSON),
    PeopleRoute("GET", "/ui/grid/structure/{dag_id}", Need.DAG),
    PeopleRoute("GET", "/ui/grid/runs/{dag_id}", Need.DAG),
    PeopleRoute("GET", "/ui/grid/ti_summaries/{dag_id}", Need.DAG),
    PeopleRoute("GET", "/ui/gantt/{dag_id}/{run_id}", Need.DAG),
    PeopleRoute("GET", "/ui/calendar/{dag_id}", Need.DAG),
    PeopleRoute("GET", "/ui/teams", Need.PERSON),
    PeopleRoute("GET", "/api/v2/assets", Need.PERSON),
    PeopleRoute("GET", "/api/v2/assets/aliases", Need.PERSON),
    PeopleRoute("GET", "/api/v2/assets/aliases/{asset_alias_id}", Need.PERSON),
    PeopleRoute("GET", "/api/v2/assets/events", Need.PERSON),
    PeopleRoute("POST", "/api/v2/assets/events", Need.OPERATED_ASSET),
    PeopleRoute("POST", "/api/v2/assets/{asset_id}/materialize", Need.OPERATED_ASSET),
    PeopleRoute("GET", "/api/v2/assets/{asset_id}/queuedEvents", Need.ASSET),
    PeopleRoute("GET", "/api/v2/assets/{asset_id}", Need.ASSET),
    PeopleRoute("GET", "/api/v2/dags/{dag_id}/assets/queuedEvents", Need.DAGS),
    PeopleRoute("GET", "/api/v2/dags/{dag_id}/assets/{asset_id}/queuedEvents", Need.ASSET),
    PeopleRoute("DELETE", "/api/v2/assets/{asset_id}/queuedEvents", Need.OPERATED_ASSET),
    PeopleRoute("DELETE", "/api/v2/dags/{dag_id}/assets/queuedEvents", Need.OPERATED_DAG),
    PeopleRoute("DELETE", "/api/v2/dags/{dag_id}/assets/{asset_id}/queuedEvents", Need.OPERATED_ASSET),
    PeopleRoute("GET", "/api/v2/backfills", Need.PERSON),
    PeopleRoute("GET", "/api/v2/backfills/{backfill_id}", Need.PERSON),
    PeopleRoute("PUT", "/api/v2/backfills/{backfill_id}/pause", Need.PERSON),
    PeopleRoute("PUT", "/api/v2/backfills/{backfill_id}/unpause", Need.PERSON),
    PeopleRoute("PUT", "/api/v2/backfills/{backfill_id}/cancel", Need.PERSON),
    PeopleRoute("POST", "/api/v2/backfills", Need.BACKFILL),
    PeopleRoute("POST", "/api/v2/backfills/dry_run", Need.BACKFILL),
    PeopleRoute("DELETE", "/api/v2/connections/{connection_id}", Need.PERSON),
    PeopleRoute("GET", "/api/v2/connections/enqueue-test", Need.PERSON),
    PeopleRoute("GET", "/api/v2/connections/{connection_id}", Need.PERSON),
    PeopleRoute("GET", "/api/v2/connections", Need.PERSON),
    PeopleRoute("POST", "/api/v2/connections", Need.PERSON),
    PeopleRoute("PATCH", "/api/v2/connections", Need.PERSON),
    PeopleRoute("PATCH", "/api/v2/connections/{connection_id}", Need.PERSON),
    PeopleRoute("POST", "/api/v2/connections/test", Need.PERSON),
    PeopleRoute("POST", "/api/v2/connections/enqueue-test", Need.PERSON),
    PeopleRoute("POST", "/api/v2/connections/defaults", Need.NEVER),
    PeopleRoute("GET", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}", Need.DAG),
    PeopleRoute("DELETE", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}", Need.DAG),
    PeopleRoute("PATCH", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}", Need.DAG),
    PeopleRoute("PATCH", "/api/v2/dags/{dag_id}/dagRuns", Need.DAGS),
    PeopleRoute("GET", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/upstreamAssetEvents", Need.DAG),
    PeopleRoute("POST", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/clear", Need.DAG),
    PeopleRoute("GET", "/api/v2/dags/{dag_id}/dagRuns", Need.DAGS),
    PeopleRoute("POST", "/api/v2/dags/{dag_id}/dagRuns", Need.DAG),
    PeopleRoute("GET", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/wait", Need.DAG),
    PeopleRoute("POST", "/api/v2/dags/{dag_id}/dagRuns/list", Need.DAGS),
    PeopleRoute("POST", "/api/v2/dags/{dag_id}/clearDagRuns", Need.DAGS),
    PeopleRoute("POST", "/api/v2/dags/{dag_id}/clearPartitions", Need.DAG),
    PeopleRoute("GET", "/api/v2/dagSources/{dag_id}", Need.DAG),
    PeopleRoute("GET", "/api/v2/dagStats", Need.PERSON),
    PeopleRoute("GET", "/api/v2/config", Need.PLATFORM),
    PeopleRoute("GET", "/api/v2/config/section/{section}/option/{option}", Need.PLATFORM),
    PeopleRoute("GET", "/api/v2/dagWarnings", Need.PERSON),
    PeopleRoute("GET", "/api/v2/dags", Need.PERSON),
    PeopleRoute("GET", "/api/v2/dags/{dag_id}", Need.DAG),
    PeopleRoute("GET", "/api/v2/dags/{dag_id}/details", Need.DAG),
    PeopleRoute("PATCH", "/api/v2/dags/{dag_id}", Need.DAG),
    PeopleRoute("PATCH", "/api/v2/dags", Need.PERSON),
    PeopleRoute("POST", "/api/v2/dags/{dag_id}/favorite", Need.DAG),
    PeopleRoute("POST", "/api/v2/dags/{dag_id}/unfavorite", Need.DAG),
    PeopleRoute("DELETE", "/api/v2/dags/{dag_id}", Need.DAG),
    PeopleRoute("GET", "/api/v2/eventLogs/{event_log_id}", Need.PERSON),
    PeopleRoute("GET", "/api/v2/eventLogs", Need.PERSON),
    PeopleRoute("GET", f"{_INSTANCES}/{{task_id}}/links", Need.DAG),
    PeopleRoute("GET", "/api/v2/importErrors/{import_error_id}", Need.PERSON),
    PeopleRoute("GET", "/api/v2/importErrors", Need.PERSON),
    PeopleRoute("GET", "/api/v2/jobs", Need.PLATFORM),
    PeopleRoute("GET", "/api/v2/plugins", Need.PERSON),
    PeopleRoute("GET", "/api/v2/plugins/importErrors", Need.PLATFORM),
    PeopleRoute("DELETE", "/api/v2/pools/{pool_name:path}", Need.PLATFORM),
    PeopleRoute("GET", "/api/v2/pools/{pool_name:path}", Need.PERSON),
    PeopleRoute("GET", "/api/v2/pools", Need.PERSON),
    PeopleRoute("PATCH", "/api/v2/pools/{pool_name:path}", Need.PLATFORM),
    PeopleRoute("POST", "/api/v2/pools", Need.PLATFORM),
    PeopleRoute("PATCH", "/api/v2/pools", Need.PLATFORM),
    PeopleRoute("GET", "/api/v2/providers", Need.PLATFORM),
    PeopleRoute("GET", "/api/v2/assets/{asset_id}/state-store", Need.ASSET),
    PeopleRoute("GET", "/api/v2/assets/{asset_id}/state-store/{key:path}", Need.ASSET),
    PeopleRoute("PUT", "/api/v2/assets/{asset_id}/state-store/{key:path}", Need.OPERATED_ASSET),
    PeopleRoute("DELETE", "/api/v2/assets/{asset_id}/state-store/{key:path}", Need.OPERATED_ASSET),
    PeopleRoute("DELETE", "/api/v2/assets/{asset_id}/state-store", Need.OPERATED_ASSET),
    PeopleRoute("GET", f"{_INSTANCES}/{{task_id}}/state-store", Need.DAG),
    PeopleRoute("GET", f"{_INSTANCES}/{{task_id}}/state-store/{{key:path}}", Need.DAG),
    PeopleRoute("PUT", f"{_INSTANCES}/{{task_id}}/state-store/{{key:path}}", Need.DAG),
    PeopleRoute("PATCH", f"{_INSTANCES}/{{task_id}}/state-store/{{key:path}}", Need.DAG),
    PeopleRoute("DELETE", f"{_INSTANCES}/{{task_id}}/state-store/{{key:path}}", Need.DAG),
    PeopleRoute("DELETE", f"{_INSTANCES}/{{task_id}}/state-store", Need.DAG),
    PeopleRoute("GET", f"{_INSTANCES}/{{task_id}}/xcomEntries/{{xcom_key:path}}", Need.DAG),
    PeopleRoute("GET", f"{_INSTANCES}/{{task_id}}/xcomEntries", Need.DAGS),
    PeopleRoute("POST", f"{_INSTANCES}/{{task_id}}/xcomEntries", Need.DAG),
    PeopleRoute("PATCH", f"{_INSTANCES}/{{task_id}}/xcomEntries/{{xcom_key:path}}", Need.DAG),
    PeopleRoute("DELETE", f"{_INSTANCES}/{{task_id}}/xcomEntries/{{xcom_key:path}}", Need.DAG),
    PeopleRoute("GET", f"{_INSTANCES}/{{task_id}}", Need.DAG),
    PeopleRoute("GET", f"{_INSTANCES}/{{task_id}}/listMapped", Need.DAG),
    PeopleRoute("GET", f"{_INSTANCES}/{{task_id}}/{{map_index}}/dependencies", Need.DAG),
    PeopleRoute("GET", f"{_INSTANCES}/{{task_id}}/dependencies", Need.DAG),
    PeopleRoute("GET", f"{_INSTANCES}/{{task_id}}/tries", Need.DAG),
    PeopleRoute("GET", f"{_INSTANCES}/{{task_id}}/{{map_index}}/tries", Need.DAG),
    PeopleRoute("GET", f"{_INSTANCES}/{{task_id}}/{{map_index}}", Need.DAG),
    PeopleRoute("GET", _INSTANCES, Need.DAGS),
    PeopleRoute("POST", f"{_INSTANCES}/list", Need.DAGS),
    PeopleRoute("GET", f"{_INSTANCES}/{{task_id}}/tries/{{task_try_number}}", Need.DAG),
    PeopleRoute("GET", f"{_INSTANCES}/{{task_id}}/{{map_index}}/tries/{{task_try_number}}", Need.DAG),
    PeopleRoute("POST", "/api/v2/dags/{dag_id}/clearTaskInstances", Need.DAG),
    PeopleRoute("PATCH", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskGroupInstances/{group_id}", Need.DAG),
    PeopleRoute("PATCH", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskGroupInstances/{group_id}/dry_run", Need.DAG),
    PeopleRoute("PATCH", f"{_INSTANCES}/{{task_id}}/{{map_index}}/dry_run", Need.DAG),
    PeopleRoute("PATCH", f"{_INSTANCES}/{{task_id}}/dry_run", Need.DAG),
    PeopleRoute("PATCH", _INSTANCES, Need.DAGS),
    PeopleRoute("PATCH", f"{_INSTANCES}/{{task_id}}/{{map_index}}", Need.DAG),
    PeopleRoute("PATCH", f"{_INSTANCES}/{{task_id}}", Need.DAG),
    PeopleRoute("DELETE", f"{_INSTANCES}/{{task_id}}", Need.DAG),
    PeopleRoute("GET", "/api/v2/dags/{dag_id}/tasks", Need.DAG),
    PeopleRoute("GET", "/api/v2/dags/{dag_id}/tasks/{task_id}", Need.DAG),
    PeopleRoute("DELETE", "/api/v2/variables/{variable_key:path}", Need.PERSON),
    PeopleRoute("GET", "/api/v2/variables/{variable_key:path}", Need.PERSON),
    PeopleRoute("GET", "/api/v2/variables", Need.PERSON),
    PeopleRoute("PATCH", "/api/v2/variables/{variable_key:path}", Need.PERSON),
    PeopleRoute("POST", "/api/v2/variables", Need.PERSON),
    PeopleRoute("PATCH", "/api/v2/variables", Need.PERSON),
    PeopleRoute("GET", f"{_INSTANCES}/{{task_id}}/logs/{{try_number}}", Need.DAG),
    PeopleRoute("GET", f"{_INSTANCES}/{{task_id}}/externalLogUrl/{{try_number}}", Need.DAG),
    PeopleRoute("PUT", "/api/v2/parseDagFile/{file_token}", Need.PERSON),
    PeopleRoute("GET", "/api/v2/dagTags", Need.PERSON),
    PeopleRoute("GET", "/api/v2/dags/{dag_id}/dagVersions/{version_number}", Need.DAG),
    PeopleRoute("GET", "/api/v2/dags/{dag_id}/dagVersions", Need.DAGS),
    PeopleRoute("PATCH", f"{_INSTANCES}/{{task_id}}/{{map_index}}/hitlDetails", Need.DAG),
    PeopleRoute("GET", f"{_INSTANCES}/{{task_id}}/{{map_index}}/hitlDetails", Need.DAG),
    PeopleRoute("GET", f"{_INSTANCES}/{{task_id}}/{{map_index}}/hitlDetails/tries/{{try_number}}", Need.DAG),
    PeopleRoute("GET", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/hitlDetails", Need.DAGS),
    PeopleRoute("GET", "/api/v2/monitor/health", Need.PUBLIC),
    PeopleRoute("GET", "/api/v2/version", Need.PUBLIC),
    PeopleRoute("GET", "/api/v2/auth/login", Need.PUBLIC),
    PeopleRoute("GET", "/api/v2/auth/logout", Need.PUBLIC),
    PeopleRoute("GET", "/health", Need.PUBLIC),
    PeopleRoute("GET", "/api/v1/{_:path}", Need.PUBLIC),
    PeopleRoute("GET", "/api/{_:path}", Need.PUBLIC),
    # The auth manager's own application: the simple one's, and Keycloak's.
    PeopleRoute("GET", "/auth/static/{path:path}", Need.PUBLIC),
    PeopleRoute("HEAD", "/auth/static/{path:path}", Need.PUBLIC),
    PeopleRoute("GET", "/auth/openapi.json", Need.PUBLIC),
    PeopleRoute("HEAD", "/auth/openapi.json", Need.PUBLIC),
    PeopleRoute("GET", "/auth/docs", Need.PUBLIC),
    PeopleRoute("HEAD", "/auth/docs", Need.PUBLIC),
    PeopleRoute("GET", "/auth/docs/oauth2-redirect", Need.PUBLIC),
    PeopleRoute("HEAD", "/auth/docs/oauth2-redirect", Need.PUBLIC),
    PeopleRoute("GET", "/auth/redoc", Need.PUBLIC),
    PeopleRoute("HEAD", "/auth/redoc", Need.PUBLIC),
    PeopleRoute("POST", "/auth/token", Need.SIGN_IN),
    PeopleRoute("GET", "/auth/token", Need.PUBLIC),
    PeopleRoute("GET", "/auth/token/login", Need.PUBLIC),
    PeopleRoute("POST", "/auth/token/cli", Need.SIGN_IN),
    PeopleRoute("GET", "/auth/login", Need.PUBLIC),
    PeopleRoute("GET", "/auth/login_callback", Need.PUBLIC),
    PeopleRoute("GET", "/auth/logout", Need.PUBLIC),
    PeopleRoute("GET", "/auth/logout_callback", Need.PUBLIC),
    PeopleRoute("GET", "/auth/{rest_of_path:path}", Need.PUBLIC),
    PeopleRoute("GET", "/{rest_of_path:path}", Need.PUBLIC),
)


def find(method: str, path: str) -> tuple[PeopleRoute, Mapping[str, str]] | None:
    """Returns the route of a request and the values in its path; None if the table has no such route."""
    for row in TABLE:
        values = row.match(method, path)
        if values is not None and not (row.path.endswith(("{_:path}", "{rest_of_path:path}")) and _no_page(path)):
            return row, values
    return None


def _no_page(path: str) -> bool:
    return f"{path}/".startswith(_NO_PAGES)
