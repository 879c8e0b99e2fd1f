"""Makes `dag.test()` work in a DAG file without settings: `python dags/support/topics.py`, a notebook, a test.

Airflow loads this module with its policies, before it opens its database. A process without Airflow settings gets them
here, if its program is a file in a team's bundle, or else when it calls `dag.test()`. A process that has Airflow
settings is left unchanged.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kommuna.airflow.dags import seam
from kommuna.cli.run_dag.settings import is_at_hand, is_set_up, set_up
from kommuna.errors import KommunaError
from kommuna.spec.installation import Place, place_of


def make_ready(dag: Any) -> None:
    """Prepares a DAG for its `test()`: settings, database, the team's defaults, no retries.

    Raises:
        AirflowClusterPolicyViolation: the platform refuses the DAG.
    """
    if not is_at_hand():
        if is_set_up():
            return
        try:
            place = place_of(dag.fileloc)
        except KommunaError:
            return
        set_up(place)
        _settle_again()
    from airflow import settings

    from kommuna.cli.run_dag.database import make_database

    make_database(place_of(dag.fileloc).installation)
    settings.dag_policy(dag)  # type: ignore[no-untyped-call]
    for task in dag.tasks:
        options = getattr(task, "partial_kwargs", None)  # of a mapped task
        if options is None:
            task.retries = 0
        else:
            options["retries"] = 0


def _settle_again() -> None:
    """Makes an Airflow that has already started read the settings again."""
    from airflow import settings

    settings.configure_vars()  # type: ignore[no-untyped-call]
    settings.reconfigure_orm()  # type: ignore[no-untyped-call]


def _place_of_program() -> Place | None:
    program = getattr(sys.modules.get("__main__"), "__file__", None)
    try:
        return place_of(Path(program).resolve()) if program else None
    except KommunaError:
        return None


def _at_start() -> None:
    if is_set_up():
        return
    place = _place_of_program()
    if place is not None:
        set_up(place)
        sys.modules["airflow.settings"].configure_vars()  # this module is being executed; it opens the database later


seam.before_test.append(make_ready)
_at_start()
