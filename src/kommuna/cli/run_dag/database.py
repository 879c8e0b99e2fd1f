"""The database of a process that runs a DAG by itself: created once per version of Airflow, then copied.

`python -m kommuna.cli.run_dag.database` creates an empty one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from kommuna.airflow.database import synchronise
from kommuna.cli.run_dag.settings import database_file
from kommuna.embedded.settings import state_folder
from kommuna.errors import PlatformFault
from kommuna.spec.installation import Installation

_made: set[Path] = set()  # created in this process


def make_database(installation: Installation) -> None:
    """Creates this process's database, with the platform's teams and pools. Later calls do nothing."""
    path = database_file()
    if path in _made:
        return
    path.unlink(missing_ok=True)  # SQLite creates a file even for a reader
    shutil.copy(_template(state_folder(installation) / "run-dag"), path)
    synchronise(installation.platform.teams, installation.platform.pool_slots())
    _made.add(path)


def _template(folder: Path) -> Path:
    """Returns an empty database of this version of Airflow.

    Raises:
        PlatformFault: it cannot be created.
    """
    path = folder / f"airflow-{version('apache-airflow')}.db"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    print("preparing a database for local runs (once)", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        partial = Path(scratch, "airflow.db")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__")}
        environment |= {"AIRFLOW_HOME": scratch, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{partial}"}
        environment |= {"AIRFLOW__CORE__MULTI_TEAM": "True", "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False"}
        done = subprocess.run(
            [sys.executable, "-m", "kommuna.cli.run_dag.database"],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            output = (done.stdout + done.stderr).strip().splitlines()
            raise PlatformFault(
                f"cannot create a database: {output[-1] if output else f'exit code {done.returncode}'}",
                where=str(folder),
            )
        partial.replace(path)
    return path


if __name__ == "__main__":
    from airflow.utils.db import initdb

    initdb()
