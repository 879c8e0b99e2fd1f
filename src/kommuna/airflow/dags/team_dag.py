"""`TeamDag`: a DAG with its team's id prefix, pool, owner, tags and retries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from kommuna.airflow.dags.callers import calling_file
from kommuna.airflow.dags.seam import with_team_defaults
from kommuna.spec.installation import place_of


class TeamDag(DAG):
    """A team's DAG: Airflow's `DAG` with the defaults of the team's description filled in.

    Args:
        dag_id: a bare id; the platform adds the team's prefix.
        tags: added to the team's name and the team's own tags.
        default_args: override the team's defaults (owner, pool, retries).
        file: the DAG file, where it is not the calling file.
        options: everything that Airflow's `DAG` takes.

    Raises:
        SpecError: the file is not in any team's bundle, or the id has another team's prefix.

    >>> with TeamDag("topics") as dag:  # doctest: +SKIP
    ...     ReadTableOperator(task_id="read", source="store://inbox/messages.csv", columns={"id": "String"})
    """

    def __init__(
        self,
        dag_id: str,
        *,
        tags: Sequence[str] = (),
        default_args: dict[str, Any] | None = None,
        file: str | None = None,
        **options: Any,
    ) -> None:
        file = file or calling_file()[0]
        place = place_of(file)
        team = place.spec
        options.setdefault("catchup", False)
        options.setdefault("schedule", None)
        options.setdefault("max_active_runs", 1)
        options["tags"] = tags
        options["default_args"] = {
            "pool": place.installation.platform.pool(place.team),
            "retries": team.retries,
            "retry_delay": timedelta(seconds=5),
            "max_retry_delay": timedelta(minutes=10),
            "retry_exponential_backoff": True,
            **(default_args or {}),
        }
        arguments, options = with_team_defaults(place, (dag_id,), options)
        super().__init__(*arguments, **options)
        self.fileloc = file
