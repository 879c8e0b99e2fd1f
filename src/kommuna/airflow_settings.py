"""Airflow's settings that follow from the teams, on one machine and on Kubernetes alike: pure functions.

The embedded platform's environment is made of them, and so are the chart's templates (`kommuna.cluster.chart`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kommuna.errors import SpecError
from kommuna.spec.team import Platform

ADMIN = "admin"

# Of every process, wherever it runs.
SHARED = {
    "CORE__MULTI_TEAM": "True",
    "CORE__ASSET_MANAGER_CLASS": "kommuna.airflow.admission.publishing.PublishingAssetManager",
    "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    "DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
    "API__WORKERS": "1",
    "API__INSTANCE_NAME": "Kommuna",
    "USAGE_DATA_COLLECTION__ENABLED": "False",
}

# A task waits for an API server that is away, instead of failing before it has begun: some fifteen minutes, half of
# these pauses on average.
WAITING = {"WORKERS__EXECUTION_API_RETRIES": "65", "WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "30"}


def variables(settings: Mapping[str, object]) -> dict[str, str]:
    """Settings by `SECTION__NAME` as Airflow's environment variables."""
    return {f"AIRFLOW__{name}": str(value) for name, value in settings.items()}


def team_settings(
    team: str, *, parallelism: object, execution_api: str, executor: Mapping[str, str] | None = None
) -> dict[str, str]:
    """A team's own environment variables: it inherits nothing from the global section.

    Args:
        team: its name in capitals.
        parallelism: the most tasks of it that run at one time.
        execution_api: where its tasks reach the Execution API.
        executor: further settings, of its executor.
    """
    settings = {
        "CORE__PARALLELISM": parallelism,
        "CORE__EXECUTION_API_SERVER_URL": execution_api,
        **(executor or {}),
    }
    return {f"AIRFLOW__{team}___{name}": str(value) for name, value in settings.items()}


def executors(teams: Iterable[str], executor: str) -> str:
    """Airflow's `executor`: the platform's own, and one for each team."""
    return ";".join(["LocalExecutor", *(f"{team}={executor}" for team in teams)])


def people(platform: Platform) -> dict[str, tuple[str, list[str]]]:
    """Login to role and teams: the admin (no team), one login for each team, and each team's people.

    Raises:
        SpecError: a login is taken twice, with different roles.
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
    """The people as SimpleAuthManager has its users: LOGIN:ROLE:TEAM|TEAM, by login."""
    return ",".join(
        ":".join(filter(None, (login, role, "|".join(teams)))) for login, (role, teams) in people(platform).items()
    )
