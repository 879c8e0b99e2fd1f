"""Settings of a process that runs a team's DAG by itself; they must stand before anything of Airflow is imported."""

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

# A process that has one of these was set up by somebody: by the platform, by a test, or by hand.
_SET_UP = ("AIRFLOW_HOME", "AIRFLOW_CONFIG", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", TEAM_VARIABLE)

# What Airflow's servers say for themselves, and a run in one process need not: people look for their own words.
_QUIET = {
    "airflow.api_fastapi": "WARNING",
    "airflow.models": "WARNING",
    "airflow.serialization": "WARNING",
    "airflow.sdk.api.client": "CRITICAL",  # "XCom not found" at the end of each list of a mapped task's results
    "airflow.dag_processing": "WARNING",
    "task": "WARNING",  # a task's frame; its own words have other names
}
_DATABASE = "airflow.db"


def is_set_up() -> bool:
    """Whether this process has Airflow settings of its own, or of the platform."""
    return any(name in os.environ for name in _SET_UP)


def is_at_hand() -> bool:
    """Whether this process has the settings that `set_up` gives."""
    return AT_HAND_VARIABLE in os.environ


def set_up(place: Place) -> None:
    """Gives this process the settings for one team's DAG; its folder goes with the process."""
    folder = Path(tempfile.mkdtemp(prefix="kommuna-run-dag-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in [name for name in os.environ if name.startswith("AIRFLOW__")]:
        del os.environ[name]
    os.environ.update(settings(place, folder))
    if str(place.bundle) not in sys.path:
        sys.path.append(str(place.bundle))  # behind the rest, as in Airflow's own processes


def settings(place: Place, folder: Path) -> dict[str, str]:
    """The embedded platform's settings, with this team's bundle alone and nothing of Airflow's that is shared.

    Args:
        folder: of this process, for Airflow's database and logs.
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
        # A pooled asynchronous connection cannot be closed at the process's end, and Airflow says so in 20 lines.
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
    """What lets a process read a team's variables and connections from the embedded platform, while it is up."""
    installation = place.installation
    platform = airflow_settings(installation, load_or_create_secrets(state_folder(installation) / "secrets"))
    options = {"team": place.team, "platform": platform["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]}
    return {
        "AIRFLOW__CORE__FERNET_KEY": platform["AIRFLOW__CORE__FERNET_KEY"],
        "AIRFLOW__SECRETS__BACKEND": "kommuna.cli.run_dag.secrets.TeamSecrets",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(options),
    }


def database_file() -> Path:
    """The database of this process, once `set_up` has named it."""
    return Path(os.environ["AIRFLOW_HOME"]) / _DATABASE
