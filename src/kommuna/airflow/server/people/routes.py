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
    PLATFORM = auto()  # a platform admin


@dataclass(frozen=True)
class Row(Template):
    """A route.

    Attributes:
        need: what it requires.
    """

    need: Need


_INSTANCES = "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances"
_NO_PAGES = ("/api/v2/", "/ui/", "/kommuna/", "/execution/", "/pluginsv2/")  # what Airflow answers there is in a row
TABLE: tuple[Row, ...] = (
    Row("GET", "/static/{path:path}", Need.PUBLIC),
    Row("HEAD", "/static/{path:path}", Need.PUBLIC),
    Row("GET", "/kommuna/dags/{dag_id}/manifests/{key}/outputs/{output}", Need.DAG),
    Row("GET", "/kommuna/dags/{dag_id}/manifests/{key}", Need.DAG),
    Row("GET", "/openapi.json", Need.PUBLIC),
    Row("HEAD", "/openapi.json", Need.PUBLIC),
    Row("GET", "/docs", Need.PUBLIC),
    Row("HEAD", "/docs", Need.PUBLIC),
    Row("GET", "/docs/oauth2-redirect", Need.PUBLIC),
    Row("HEAD", "/docs/oauth2-redirect", Need.PUBLIC),
    Row("GET", "/redoc", Need.PUBLIC),
    Row("HEAD", "/redoc", Need.PUBLIC),
    Row("GET", "/ui/auth/menus", Need.PERSON),
    Row("GET", "/ui/auth/me", Need.PERSON),
    Row("POST", "/ui/auth/token", Need.PERSON),
    Row("GET", "/ui/next_run_assets/{dag_id}", Need.DAG),
    Row("GET", "/ui/dags/{dag_id}/dagRuns/{dag_run_id}/stats", Need.DAG),
    Row("GET", "/ui/partitioned_dag_runs", Need.PERSON),
    Row("GET", "/ui/pending_partitioned_dag_run/{dag_id}", Need.DAG),
    Row("GET", "/ui/config", Need.PERSON),
    Row("GET", "/ui/connections/hook_meta", Need.PERSON),
    Row("GET", "/ui/dags", Need.PERSON),
    Row("GET", "/ui/dags/{dag_id}/latest_run", Need.DAG),
    Row("GET", "/ui/dependencies", Need.PERSON),
    Row("GET", "/ui/dashboard/historical_metrics_data", Need.PERSON),
    Row("GET", "/ui/dashboard/dag_stats", Need.PERSON),
    Row("GET", "/ui/dags/{dag_id}/dagRuns/{dag_run_id}/deadlines", Need.DAGS),
    Row("GET", "/ui/dags/{dag_id}/deadlineAlerts", Need.DAG),
    Row("GET", "/ui/structure/structure_data", Need.PERSON),
    Row("GET", "/ui/backfills", Need.PERSON),
    Row("GET", "/ui/grid/structure/{dag_id}", Need.DAG),
    Row("GET", "/ui/grid/runs/{dag_id}", Need.DAG),
    Row("GET", "/ui/grid/ti_summaries/{dag_id}", Need.DAG),
    Row("GET", "/ui/gantt/{dag_id}/{run_id}", Need.DAG),
    Row("GET", "/ui/calendar/{dag_id}", Need.DAG),
    Row("GET", "/ui/teams", Need.PERSON),
    Row("GET", "/api/v2/assets", Need.PERSON),
    Row("GET", "/api/v2/assets/aliases", Need.PERSON),
    Row("GET", "/api/v2/assets/aliases/{asset_alias_id}", Need.PERSON),
    Row("GET", "/api/v2/assets/events", Need.PERSON),
    Row("POST", "/api/v2/assets/events", Need.OPERATED_ASSET),
    Row("POST", "/api/v2/assets/{asset_id}/materialize", Need.OPERATED_ASSET),
    Row("GET", "/api/v2/assets/{asset_id}/queuedEvents", Need.ASSET),
    Row("GET", "/api/v2/assets/{asset_id}", Need.ASSET),
    Row("GET", "/api/v2/dags/{dag_id}/assets/queuedEvents", Need.DAGS),
    Row("GET", "/api/v2/dags/{dag_id}/assets/{asset_id}/queuedEvents", Need.ASSET),
    Row("DELETE", "/api/v2/assets/{asset_id}/queuedEvents", Need.OPERATED_ASSET),
    Row("DELETE", "/api/v2/dags/{dag_id}/assets/queuedEvents", Need.OPERATED_DAG),
    Row("DELETE", "/api/v2/dags/{dag_id}/assets/{asset_id}/queuedEvents", Need.OPERATED_ASSET),
    Row("GET", "/api/v2/backfills", Need.PERSON),
    Row("GET", "/api/v2/backfills/{backfill_id}", Need.PERSON),
    Row("PUT", "/api/v2/backfills/{backfill_id}/pause", Need.PERSON),
    Row("PUT", "/api/v2/backfills/{backfill_id}/unpause", Need.PERSON),
    Row("PUT", "/api/v2/backfills/{backfill_id}/cancel", Need.PERSON),
    Row("POST", "/api/v2/backfills", Need.PERSON),
    Row("POST", "/api/v2/backfills/dry_run", Need.PERSON),
    Row("DELETE", "/api/v2/connections/{connection_id}", Need.PERSON),
    Row("GET", "/api/v2/connections/enqueue-test", Need.PERSON),
    Row("GET", "/api/v2/connections/{connection_id}", Need.PERSON),
    Row("GET", "/api/v2/connections", Need.PERSON),
    Row("POST", "/api/v2/connections", Need.PERSON),
    Row("PATCH", "/api/v2/connections", Need.PERSON),
    Row("PATCH", "/api/v2/connections/{connection_id}", Need.PERSON),
    Row("POST", "/api/v2/connections/test", Need.PERSON),
    Row("POST", "/api/v2/connections/enqueue-test", Need.PERSON),
    Row("POST", "/api/v2/connections/defaults", Need.NEVER),
    Row("GET", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}", Need.DAG),
    Row("DELETE", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}", Need.DAG),
    Row("PATCH", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}", Need.DAG),
    Row("PATCH", "/api/v2/dags/{dag_id}/dagRuns", Need.DAGS),
    Row("GET", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/upstreamAssetEvents", Need.DAG),
    Row("POST", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/clear", Need.DAG),
    Row("GET", "/api/v2/dags/{dag_id}/dagRuns", Need.DAGS),
    Row("POST", "/api/v2/dags/{dag_id}/dagRuns", Need.DAG),
    Row("GET", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/wait", Need.DAG),
    Row("POST", "/api/v2/dags/{dag_id}/dagRuns/list", Need.DAGS),
    Row("POST", "/api/v2/dags/{dag_id}/clearDagRuns", Need.DAGS),
    Row("POST", "/api/v2/dags/{dag_id}/clearPartitions", Need.DAG),
    Row("GET", "/api/v2/dagSources/{dag_id}", Need.DAG),
    Row("GET", "/api/v2/dagStats", Need.PERSON),
    Row("GET", "/api/v2/config", Need.PLATFORM),
    Row("GET", "/api/v2/config/section/{section}/option/{option}", Need.PLATFORM),
    Row("GET", "/api/v2/dagWarnings", Need.PERSON),
    Row("GET", "/api/v2/dags", Need.PERSON),
    Row("GET", "/api/v2/dags/{dag_id}", Need.DAG),
    Row("GET", "/api/v2/dags/{dag_id}/details", Need.DAG),
    Row("PATCH", "/api/v2/dags/{dag_id}", Need.DAG),
    Row("PATCH", "/api/v2/dags", Need.PERSON),
    Row("POST", "/api/v2/dags/{dag_id}/favorite", Need.DAG),
    Row("POST", "/api/v2/dags/{dag_id}/unfavorite", Need.DAG),
    Row("DELETE", "/api/v2/dags/{dag_id}", Need.DAG),
    Row("GET", "/api/v2/eventLogs/{event_log_id}", Need.PERSON),
    Row("GET", "/api/v2/eventLogs", Need.PERSON),
    Row("GET", f"{_INSTANCES}/{{task_id}}/links", Need.DAG),
    Row("GET", "/api/v2/importErrors/{import_error_id}", Need.PERSON),
    Row("GET", "/api/v2/importErrors", Need.PERSON),
    Row("GET", "/api/v2/jobs", Need.PLATFORM),
    Row("GET", "/api/v2/plugins", Need.PERSON),
    Row("GET", "/api/v2/plugins/importErrors", Need.PLATFORM),
    Row("DELETE", "/api/v2/pools/{pool_name:path}", Need.PLATFORM),
    Row("GET", "/api/v2/pools/{pool_name:path}", Need.PERSON),
    Row("GET", "/api/v2/pools", Need.PERSON),
    Row("PATCH", "/api/v2/pools/{pool_name:path}", Need.PLATFORM),
    Row("POST", "/api/v2/pools", Need.PLATFORM),
    Row("PATCH", "/api/v2/pools", Need.PLATFORM),
    Row("GET", "/api/v2/providers", Need.PLATFORM),
    Row("GET", "/api/v2/assets/{asset_id}/state-store", Need.ASSET),
    Row("GET", "/api/v2/assets/{asset_id}/state-store/{key:path}", Need.ASSET),
    Row("PUT", "/api/v2/assets/{asset_id}/state-store/{key:path}", Need.OPERATED_ASSET),
    Row("DELETE", "/api/v2/assets/{asset_id}/state-store/{key:path}", Need.OPERATED_ASSET),
    Row("DELETE", "/api/v2/assets/{asset_id}/state-store", Need.OPERATED_ASSET),
    Row("GET", f"{_INSTANCES}/{{task_id}}/state-store", Need.DAG),
    Row("GET", f"{_INSTANCES}/{{task_id}}/state-store/{{key:path}}", Need.DAG),
    Row("PUT", f"{_INSTANCES}/{{task_id}}/state-store/{{key:path}}", Need.DAG),
    Row("PATCH", f"{_INSTANCES}/{{task_id}}/state-store/{{key:path}}", Need.DAG),
    Row("DELETE", f"{_INSTANCES}/{{task_id}}/state-store/{{key:path}}", Need.DAG),
    Row("DELETE", f"{_INSTANCES}/{{task_id}}/state-store", Need.DAG),
    Row("GET", f"{_INSTANCES}/{{task_id}}/xcomEntries/{{xcom_key:path}}", Need.DAG),
    Row("GET", f"{_INSTANCES}/{{task_id}}/xcomEntries", Need.DAGS),
    Row("POST", f"{_INSTANCES}/{{task_id}}/xcomEntries", Need.DAG),
    Row("PATCH", f"{_INSTANCES}/{{task_id}}/xcomEntries/{{xcom_key:path}}", Need.DAG),
    Row("DELETE", f"{_INSTANCES}/{{task_id}}/xcomEntries/{{xcom_key:path}}", Need.DAG),
    Row("GET", f"{_INSTANCES}/{{task_id}}", Need.DAG),
    Row("GET", f"{_INSTANCES}/{{task_id}}/listMapped", Need.DAG),
    Row("GET", f"{_INSTANCES}/{{task_id}}/{{map_index}}/dependencies", Need.DAG),
    Row("GET", f"{_INSTANCES}/{{task_id}}/dependencies", Need.DAG),
    Row("GET", f"{_INSTANCES}/{{task_id}}/tries", Need.DAG),
    Row("GET", f"{_INSTANCES}/{{task_id}}/{{map_index}}/tries", Need.DAG),
    Row("GET", f"{_INSTANCES}/{{task_id}}/{{map_index}}", Need.DAG),
    Row("GET", _INSTANCES, Need.DAGS),
    Row("POST", f"{_INSTANCES}/list", Need.DAGS),
    Row("GET", f"{_INSTANCES}/{{task_id}}/tries/{{task_try_number}}", Need.DAG),
    Row("GET", f"{_INSTANCES}/{{task_id}}/{{map_index}}/tries/{{task_try_number}}", Need.DAG),
    Row("POST", "/api/v2/dags/{dag_id}/clearTaskInstances", Need.DAG),
    Row("PATCH", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskGroupInstances/{group_id}", Need.DAG),
    Row("PATCH", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskGroupInstances/{group_id}/dry_run", Need.DAG),
    Row("PATCH", f"{_INSTANCES}/{{task_id}}/{{map_index}}/dry_run", Need.DAG),
    Row("PATCH", f"{_INSTANCES}/{{task_id}}/dry_run", Need.DAG),
    Row("PATCH", _INSTANCES, Need.DAGS),
    Row("PATCH", f"{_INSTANCES}/{{task_id}}/{{map_index}}", Need.DAG),
    Row("PATCH", f"{_INSTANCES}/{{task_id}}", Need.DAG),
    Row("DELETE", f"{_INSTANCES}/{{task_id}}", Need.DAG),
    Row("GET", "/api/v2/dags/{dag_id}/tasks", Need.DAG),
    Row("GET", "/api/v2/dags/{dag_id}/tasks/{task_id}", Need.DAG),
    Row("DELETE", "/api/v2/variables/{variable_key:path}", Need.PERSON),
    Row("GET", "/api/v2/variables/{variable_key:path}", Need.PERSON),
    Row("GET", "/api/v2/variables", Need.PERSON),
    Row("PATCH", "/api/v2/variables/{variable_key:path}", Need.PERSON),
    Row("POST", "/api/v2/variables", Need.PERSON),
    Row("PATCH", "/api/v2/variables", Need.PERSON),
    Row("GET", f"{_INSTANCES}/{{task_id}}/logs/{{try_number}}", Need.DAG),
    Row("GET", f"{_INSTANCES}/{{task_id}}/externalLogUrl/{{try_number}}", Need.DAG),
    Row("PUT", "/api/v2/parseDagFile/{file_token}", Need.PERSON),
    Row("GET", "/api/v2/dagTags", Need.PERSON),
    Row("GET", "/api/v2/dags/{dag_id}/dagVersions/{version_number}", Need.DAG),
    Row("GET", "/api/v2/dags/{dag_id}/dagVersions", Need.DAGS),
    Row("PATCH", f"{_INSTANCES}/{{task_id}}/{{map_index}}/hitlDetails", Need.DAG),
    Row("GET", f"{_INSTANCES}/{{task_id}}/{{map_index}}/hitlDetails", Need.DAG),
    Row("GET", f"{_INSTANCES}/{{task_id}}/{{map_index}}/hitlDetails/tries/{{try_number}}", Need.DAG),
    Row("GET", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/hitlDetails", Need.DAGS),
    Row("GET", "/api/v2/monitor/health", Need.PUBLIC),
    Row("GET", "/api/v2/version", Need.PUBLIC),
    Row("GET", "/api/v2/auth/login", Need.PUBLIC),
    Row("GET", "/api/v2/auth/logout", Need.PUBLIC),
    Row("GET", "/health", Need.PUBLIC),
    Row("GET", "/api/v1/{_:path}", Need.PUBLIC),
    Row("GET", "/api/{_:path}", Need.PUBLIC),
    # The auth manager's own application: the simple one's, and Keycloak's.
    Row("GET", "/auth/static/{path:path}", Need.PUBLIC),
    Row("HEAD", "/auth/static/{path:path}", Need.PUBLIC),
    Row("GET", "/auth/openapi.json", Need.PUBLIC),
    Row("HEAD", "/auth/openapi.json", Need.PUBLIC),
    Row("GET", "/auth/docs", Need.PUBLIC),
    Row("HEAD", "/auth/docs", Need.PUBLIC),
    Row("GET", "/auth/docs/oauth2-redirect", Need.PUBLIC),
    Row("HEAD", "/auth/docs/oauth2-redirect", Need.PUBLIC),
    Row("GET", "/auth/redoc", Need.PUBLIC),
    Row("HEAD", "/auth/redoc", Need.PUBLIC),
    Row("POST", "/auth/token", Need.SIGN_IN),
    Row("GET", "/auth/token", Need.PUBLIC),
    Row("GET", "/auth/token/login", Need.PUBLIC),
    Row("POST", "/auth/token/cli", Need.SIGN_IN),
    Row("GET", "/auth/login", Need.PUBLIC),
    Row("GET", "/auth/login_callback", Need.PUBLIC),
    Row("GET", "/auth/logout", Need.PUBLIC),
    Row("GET", "/auth/logout_callback", Need.PUBLIC),
    Row("GET", "/auth/{rest_of_path:path}", Need.PUBLIC),
    Row("GET", "/{rest_of_path:path}", Need.PUBLIC),
)


def find(method: str, path: str) -> tuple[Row, Mapping[str, str]] | None:
    """Returns the route of a request and the values in its path; None if the table has no such route."""
    for row in TABLE:
        values = row.match(method, path)
        if values is not None and not (row.path.endswith(("{_:path}", "{rest_of_path:path}")) and _no_page(path)):
            return row, values
    return None


def _no_page(path: str) -> bool:
    return f"{path}/".startswith(_NO_PAGES)
