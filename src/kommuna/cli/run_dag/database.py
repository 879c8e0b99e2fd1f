"""The database of a process that runs a DAG by itself: made once per version of Airflow, then copied.

`python -m kommuna.cli.run_dag.database FILE` makes an empty one.
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

_made: set[Path] = set()  # in this process


def make_database(installation: Installation) -> None:
    """Makes the database that this process's settings name, with the platform's teams and pools; once in a process."""
    path = database_file()
    if path in _made:
        return
    path.unlink(missing_ok=True)  # SQLite makes a file for whoever only looks
    shutil.copy(_template(state_folder(installation) / "run-dag"), path)
    synchronise(installation.platform.teams, installation.platform.pool_slots())
    _made.add(path)


def _template(folder: Path) -> Path:
    """An empty database of this version of Airflow.

    Raises:
        PlatformFault: it cannot be made.
    """
    path = folder / f"airflow-{version('apache-airflow')}.db"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    print("preparing a database for runs of this kind, once", file=sys.stderr, flush=True)
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
            said = (done.stdout + done.stderr).strip().splitlines()
            raise PlatformFault(
                f"no database can be made: {said[-1] if said else f'exit code {done.returncode}'}", where=str(folder)
            )
        partial.replace(path)
    return path


if __name__ == "__main__":
    from airflow.utils.db import initdb

    initdb()
