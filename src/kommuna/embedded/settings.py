"""Airflow's and MLflow's settings, as environment variables: a pure function of the platform's description."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from kommuna.airflow_settings import ADMIN as ADMIN
from kommuna.airflow_settings import REGISTRY, SHARED, WAITING, executors, people, team_settings, users, variables
from kommuna.embedded.database import databases
from kommuna.embedded.database.server import PROGRAM as POSTGRES
from kommuna.embedded.database.server import command as postgres_command
from kommuna.embedded.leftovers import STATE_VARIABLE
from kommuna.spec.installation import PLATFORM_VARIABLE, Installation

PARALLEL_TASKS = 6  # each step uses all of its cores, so fewer already keep two cores busy
# In the package, so that isolation does not depend on the contents of the folder with kommuna.yaml.
_PLUGINS = Path(__file__).resolve().parents[1] / "airflow" / "plugins"
_LOOPBACK = "127.0.0.1,localhost"
_CLEARED = ("AIRFLOW__", "AIRFLOW_HOME", "AIRFLOW_CONFIG", "MLFLOW_", "_MLFLOW_", "KOMMUNA_", "no_proxy", "NO_PROXY")


def airflow_settings(installation: Installation, secrets: Mapping[str, str]) -> dict[str, str]:
    """Returns every `AIRFLOW__…` variable of the embedded platform.

    Args:
        installation: the platform.
        secrets: `jwt`, `fernet` and `api`.
    """
    platform, state = installation.platform, state_folder(installation)
    home = state / "airflow"
    url = airflow_url(installation)
    teams = platform.teams
    settings: dict[str, dict[str, object]] = {
        "CORE": {
            "DAGS_FOLDER": home / "dags",
            "PLUGINS_FOLDER": _PLUGINS,
            "LOAD_EXAMPLES": False,
            "MIGHT_CONTAIN_DAG_CALLABLE": "kommuna.airflow.isolation.listing.airflow_may_read",
            "EXECUTOR": executors(teams, "LocalExecutor"),
            # The limit of the scheduler over all executors, and the number of workers of each executor.
            "PARALLELISM": parallel_tasks(installation),
            "MAX_ACTIVE_TASKS_PER_DAG": PARALLEL_TASKS,
            "EXECUTION_API_SERVER_URL": f"{url}/execution/",
            "FERNET_KEY": secrets["fernet"],
            "SIMPLE_AUTH_MANAGER_USERS": users(platform),
            "SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": passwords_file(installation),
        },
        "DATABASE": {
            "SQL_ALCHEMY_CONN": databases.url(state, "airflow"),
            "SQL_ALCHEMY_CONN_ASYNC": databases.url(state, "airflow", driver="asyncpg"),
            # A request may need a second connection. With the usual limit of 15, waiting requests can hold all of them,
            # and the server hangs for half a minute. Its 40 threads are the limit instead.
            "SQL_ALCHEMY_MAX_OVERFLOW": -1,
        },
        "DAG_PROCESSOR": {
            "DAG_BUNDLE_CONFIG_LIST": json.dumps([_bundle(installation, team) for team in teams]),
            "DAG_BUNDLE_STORAGE_PATH": home / "bundles",
            "MIN_FILE_PROCESS_INTERVAL": 10,
            "REFRESH_INTERVAL": 5,
            "PARSING_PROCESSES": 1,
        },
        "SCHEDULER": {
            "SCHEDULER_IDLE_SLEEP_TIME": 0.1,
            # Tasks of a killed scheduler are found and rerun within half a minute.
            "SCHEDULER_HEALTH_CHECK_THRESHOLD": 15,
            "ORPHANED_TASKS_CHECK_INTERVAL": 10,
            "TASK_INSTANCE_HEARTBEAT_TIMEOUT": 60,
            "TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": 10,
        },
        "API": {
            "HOST": "127.0.0.1",
            "PORT": platform.ports.airflow,
            "BASE_URL": url,
            "SECRET_KEY": secrets["api"],
        },
        "API_AUTH": {"JWT_SECRET": secrets["jwt"]},
        "LOGGING": {
            "BASE_LOG_FOLDER": state / "logs" / "tasks",
            "LOGGING_CONFIG_CLASS": "kommuna.airflow.server.local_logs.LOGGING_CONFIG",
            "DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": state / "logs" / "parsing",
        },
    }
    flat = variables(
        SHARED
        | WAITING
        | {f"{section}__{name}": value for section, names in settings.items() for name, value in names.items()}
    )
    share = max(1, PARALLEL_TASKS // max(1, len(teams)))
    for name, team in teams.items():
        flat |= team_settings(name.upper(), parallelism=min(team.parallelism, share), execution_api=f"{url}/execution/")
    return {"AIRFLOW_HOME": str(home), **flat}


def process_environment(
    installation: Installation, secrets: Mapping[str, str], inherited: Mapping[str, str]
) -> dict[str, str]:
    """Returns the whole environment of the platform's processes.

    Args:
        installation: the platform.
        secrets: `jwt`, `fernet` and `api`.
        inherited: the user's environment. Variables that configure another Airflow or MLflow are left out.
    """
    kept = {name: value for name, value in inherited.items() if not name.startswith(_CLEARED)}
    around_proxies = ",".join(filter(None, (inherited.get("NO_PROXY") or inherited.get("no_proxy"), _LOOPBACK)))
    return {
        **kept,
        **airflow_settings(installation, secrets),
        PLATFORM_VARIABLE: str(installation.root / "kommuna.yaml"),
        STATE_VARIABLE: str(state_folder(installation)),
        "NO_PROXY": around_proxies,
        "no_proxy": around_proxies,
        # Otherwise setproctitle overwrites the environment, and with it the variable that marks our processes.
        "SPT_NOENV": "1",
        **REGISTRY,
        "DO_NOT_TRACK": "true",
        "PYTHONUNBUFFERED": "1",
    }


def commands(installation: Installation, bin_folder: Path) -> dict[str, list[str]]:
    """Returns the commands of the platform's long-running processes by name, the slowest to start first."""
    ports = installation.platform.ports
    airflow = str(bin_folder / "airflow")
    found = {
        POSTGRES: postgres_command(state_folder(installation)),
        "api-server": [airflow, "api-server", "--host", "127.0.0.1", "--port", str(ports.airflow), "--workers", "1"],
        # Without its log server, which would need port 8793 on every platform: task logs are read from the files.
        "scheduler": [airflow, "scheduler", "--skip-serve-logs"],
        "dag-processor": [str(bin_folder / "python"), "-m", "kommuna.airflow.dag_processor"],
        "triggerer": [
            str(bin_folder / "python"), "-m", "kommuna.airflow.triggers.process", "--skip-serve-logs",
            *installation.platform.teams,
        ],
    }  # fmt: skip
    if not installation.platform.mlflow:
        found["mlflow"] = [
            str(bin_folder / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(ports.mlflow), "--workers", "1",
            "--enable-workspaces", "--backend-store-uri", databases.url(state_folder(installation), "mlflow"),
            "--serve-artifacts", "--artifacts-destination", str(state_folder(installation) / "mlflow" / "artifacts"),
        ]  # fmt: skip
    found["watch"] = [str(bin_folder / "python"), "-m", "kommuna.embedded.watch"]
    return found


def program_names(installation: Installation) -> list[str]:
    """Returns the names of the platform's processes, in the order in which they depend on each other."""
    own = [] if installation.platform.mlflow else ["mlflow"]
    return [POSTGRES, "api-server", "scheduler", "dag-processor", "triggerer", *own, "watch"]


def ports_needed(installation: Installation) -> dict[str, int]:
    """Returns the ports of the platform's servers, by their name in kommuna.yaml."""
    ports = installation.platform.ports
    return {"airflow": ports.airflow} | ({} if installation.platform.mlflow else {"mlflow": ports.mlflow})


def parallel_tasks(installation: Installation) -> int:
    """Returns the maximum number of tasks that run at the same time over all teams."""
    return min(PARALLEL_TASKS, max(1, sum(team.parallelism for team in installation.platform.teams.values())))


def state_folder(installation: Installation) -> Path:
    """Returns the folder of all state of the embedded platform."""
    return (installation.root / installation.platform.state).resolve()


def airflow_url(installation: Installation) -> str:
    """Returns Airflow's address."""
    return f"http://127.0.0.1:{installation.platform.ports.airflow}"


def mlflow_url(installation: Installation) -> str:
    """Returns MLflow's address."""
    return installation.services("").mlflow


def passwords_file(installation: Installation) -> Path:
    """Returns the file of the passwords by login."""
    return state_folder(installation) / "secrets" / "passwords.json"


def logins(installation: Installation) -> dict[str, str]:
    """Returns the teams of each login: one login per team, each team's people, and the admin (without a team).

    Raises:
        SpecError: a login is used twice, with different roles.
    """
    return {login: ", ".join(teams) for login, (_, teams) in people(installation.platform).items()}


def _bundle(installation: Installation, team: str) -> dict[str, object]:
    return {
        "name": team,
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(installation.bundle(team)), "refresh_interval": 5},
        "team_name": team,
    }
