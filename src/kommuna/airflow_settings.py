"""Airflow's and MLflow's settings that are the same on one machine and on Kubernetes: constants and pure functions.

The embedded platform's environment and the chart's templates (`kommuna.cluster.chart`) are made from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kommuna.errors import SpecError
from kommuna.spec.team import Platform

ADMIN = "admin"

# The classes of Airflow that a stored value may construct, besides plain values, dates and tables: the API server and
# the scheduler read values that tasks have written.
DESERIALIZED = (
    "airflow.sdk.definitions.asset.*",
    "airflow.sdk.definitions.param.*",
    "airflow.sdk.io.path.ObjectStoragePath",
)

# Settings of every process, wherever it runs.
SHARED = {
    "CORE__ALLOWED_DESERIALIZATION_CLASSES": " ".join(DESERIALIZED),
    "CORE__MULTI_TEAM": "True",
    # An id that is asked for before its DAG exists would be remembered as everybody's.
    "CORE__TEAM_NAME_CACHE_TTL": "0",
    "CORE__ASSET_MANAGER_CLASS": "kommuna.airflow.admission.publishing.PublishingAssetManager",
    "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    "DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
    "API__WORKERS": "1",
    "API__INSTANCE_NAME": "Kommuna",
    "USAGE_DATA_COLLECTION__ENABLED": "False",
}

# A task waits some fifteen minutes for an unreachable API server, instead of failing before it has begun. On average
# each pause is half of the maximum.
WAITING = {"WORKERS__EXECUTION_API_RETRIES": "65", "WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "30"}


# Environment variables of MLflow's server. A model version's files must be artifacts that MLflow keeps, which it checks
# against the workspace: with its own credentials it would read any other address for whoever registers it. A route
# that its authorization does not know is refused.
REGISTRY = {
    "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX": "^(models|runs|mlflow-artifacts):",
    "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


# The settings of its users. The database's address is filled in at the start.
REGISTRY_USERS = """
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = @DATABASE@
authorization_function = kommuna.cluster.registry_access:authenticate
grant_default_workspace_access = false
"""


def variables(settings: Mapping[str, object]) -> dict[str, str]:
    """Turns settings by `SECTION__NAME` into Airflow's environment variables."""
    return {f"AIRFLOW__{name}": str(value) for name, value in settings.items()}


def team_settings(
    team: str, *, parallelism: object, execution_api: str, executor: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Returns a team's own environment variables. A team inherits nothing from the global section.

    Args:
        team: the team's name in upper case.
        parallelism: the maximum number of its tasks that run at the same time.
        execution_api: the address of the Execution API for its tasks.
        executor: further settings for its executor.
    """
    settings = {
        "CORE__PARALLELISM": parallelism,
        "CORE__EXECUTION_API_SERVER_URL": execution_api,
        **(executor or {}),
    }
    return {f"AIRFLOW__{team}___{name}": str(value) for name, value in settings.items()}


def executors(teams: Iterable[str], executor: str) -> str:
    """Returns Airflow's setting `executor`: the platform's own executor, and one per team."""
    return ";".join(["LocalExecutor", *(f"{team}={executor}" for team in teams)])


def people(platform: Platform) -> dict[str, tuple[str, list[str]]]:
    """Returns the role and the teams of each login: the admin (without a team), one login per team, the teams' people.

    Raises:
        SpecError: a login is used twice, with different roles.
    """
    found: dict[str, tuple[str, list[str]]] = {ADMIN: ("admin", [])}
    for name, team in platform.teams.items():
        for login, role in ((name, "op"), *team.people.items()):
            known, teams = found.setdefault(login, (role, []))
            if known != role:
                raise SpecError(
                    f"the login '{login}' of team '{name}' is taken, with the role '{known}' instead of '{role}'",
                    where=f"kommuna.yaml: teams.{name}.people.{login}",
                    fix="a login has one role on the embedded platform, and each team's name is a login: rename it",
                )
            if name not in teams:
                teams.append(name)
    return found


def users(platform: Platform) -> str:
    """Returns the people in the format of SimpleAuthManager's users: LOGIN:ROLE:TEAM|TEAM."""
    return ",".join(
        ":".join(filter(None, (login, role, "|".join(teams)))) for login, (role, teams) in people(platform).items()
    )
