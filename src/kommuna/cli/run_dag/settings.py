"""Settings of a process that runs a team's DAG by itself. They must be set before Airflow is imported."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from kommuna.embedded.secrets import load_or_create_secrets
from kommuna.embedded.settings import airflow_settings, state_folder
from kommuna.spec.installation import AT_HAND_VARIABLE, PLATFORM_VARIABLE, TEAM_VARIABLE, Place

# A process that has one of these was set up already: by the platform, by a test, or by hand.
_SET_UP = ("AIRFLOW_HOME", "AIRFLOW_CONFIG", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", TEAM_VARIABLE)

# Loggers of Airflow's servers, which are noise in a run in one process.
_QUIET = {
    "airflow.api_fastapi": "WARNING",
    "airflow.models": "WARNING",
    "airflow.serialization": "WARNING",
    "airflow.sdk.api.client": "CRITICAL",  # "XCom not found" at the end of each list of a mapped task's results
    "airflow.dag_processing": "WARNING",
    "task": "WARNING",  # start and end of a task; its own log lines have other names
}
_DATABASE = "airflow.db"


def is_set_up() -> bool:
    """Whether this process already has Airflow settings."""
    return any(name in os.environ for name in _SET_UP)


def is_at_hand() -> bool:
    """Whether this process has the settings of `set_up`."""
    return AT_HAND_VARIABLE in os.environ


def set_up(place: Place) -> None:
    """Sets this process up for one team's DAG. Its temporary folder is removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="kommuna-run-dag-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in [name for name in os.environ if name.startswith("AIRFLOW__")]:
        del os.environ[name]
    os.environ.update(settings(place, folder))
    if str(place.bundle) not in sys.path:
        sys.path.append(str(place.bundle))  # behind the rest, as in Airflow's own processes


def settings(place: Place, folder: Path) -> dict[str, str]:
    """Returns the embedded platform's settings, with this team's bundle only and a separate database.

    Args:
        place: the team and its bundle.
        folder: the process's folder, for Airflow's database and logs.
    """
    installation = place.installation
    platform = airflow_settings(installation, load_or_create_secrets(state_folder(installation) / "secrets"))
    bundles = json.loads(platform["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
    database = folder / _DATABASE
    own = {name: value for name, value in platform.items() if not name.startswith("AIRFLOW__DATABASE__")}
    return {
        **own,
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(place.bundle),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}?timeout=60",
        # A pooled asynchronous connection cannot be closed at exit, and Airflow logs 20 lines about it.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_ENABLED": "False",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([b for b in bundles if b["name"] == place.team]),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(folder / "bundles"),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(folder / "logs"),
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": " ".join(f"{name}={level}" for name, level in _QUIET.items()),
        **secrets_settings(place),
        PLATFORM_VARIABLE: str(installation.root / "kommuna.yaml"),
        AT_HAND_VARIABLE: "1",
    }


def secrets_settings(place: Place) -> dict[str, str]:
    """Returns the settings that let a process read a team's secrets from the embedded platform, while it is up."""
    installation = place.installation
    platform = airflow_settings(installation, load_or_create_secrets(state_folder(installation) / "secrets"))
    options = {"team": place.team, "platform": platform["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]}
    return {
        "AIRFLOW__CORE__FERNET_KEY": platform["AIRFLOW__CORE__FERNET_KEY"],
        "AIRFLOW__SECRETS__BACKEND": "kommuna.cli.run_dag.secrets.TeamSecrets",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(options),
    }


def database_file() -> Path:
    """Returns the database file of this process, after `set_up`."""
    return Path(os.environ["AIRFLOW_HOME"]) / _DATABASE
