"""Bounds the runs of a backfill: Airflow answers for its whole range of dates at once, with queries for each run."""

from __future__ import annotations

from itertools import islice
from typing import Any

from pydantic import ValidationError

from kommuna.airflow.server.guard.facts import Refusal

MAX_RUNS = 500  # of one backfill: a dry run of so many takes some five seconds of a server that all teams share


def too_many_runs(body: Any) -> Refusal | None:
    """Returns the refusal of a backfill that has more than `MAX_RUNS` runs.

    Args:
        body: the request to make the backfill, or to try it. What Airflow itself refuses is left to it.
    """
    from airflow._shared.timezones import timezone
    from airflow.api_fastapi.core_api.datamodels.backfills import BackfillPostBody
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session

    try:
        asked = BackfillPostBody.model_validate(body)
    except ValidationError:
        return None
    with create_session() as session:
        latest = SerializedDagModel.latest_item_select_object(asked.dag_id)  # type: ignore[no-untyped-call]
        stored = session.scalar(latest)
        if stored is None or not stored.dag.timetable.periodic:
            return None
        first, last = (timezone.coerce_datetime(one) for one in (asked.from_date, asked.to_date))
        runs = sum(1 for _ in islice(stored.dag.iter_dagrun_infos_between(first, last), MAX_RUNS + 1))
    if runs <= MAX_RUNS:
        return None
    return Refusal(f"the backfill has more than {MAX_RUNS} runs: choose a shorter range of dates", 422)
