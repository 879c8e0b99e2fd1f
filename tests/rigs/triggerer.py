"""Defers tasks as a worker does, by the Execution API's route into a real database; run as a script.

`python -m tests.rigs.triggerer '[{"dag_id": …, "classpath": …, "trigger_kwargs": …}, …]'` tells the run of each.
"""

from __future__ import annotations

import json
import sys
import uuid
from typing import Any


def defer(request: dict[str, Any]) -> str:
    """Makes a run of a DAG, whose first task then defers; returns the run's id."""
    import httpx
    from airflow._shared.timezones import timezone
    from airflow.jobs.triggerer_job_runner import in_process_api_server
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType
    from sqlalchemy import select

    run_id: str = request.get("run_id") or f"run-{uuid.uuid4().hex[:8]}"
    with create_session() as session:
        written = select(SerializedDagModel).where(SerializedDagModel.dag_id == request["dag_id"])
        session.scalars(written).one().dag.create_dagrun(
            run_id=run_id, run_after=timezone.utcnow(), run_type=DagRunType.MANUAL, state=DagRunState.RUNNING,
            triggered_by=DagRunTriggeredByType.TEST, session=session,
        )  # fmt: skip
        tasks = select(TaskInstance).where(TaskInstance.run_id == run_id).order_by(TaskInstance.task_id)
        waiting = session.scalars(tasks).first()
        assert waiting is not None
        waiting.state, waiting.try_number = TaskInstanceState.RUNNING, 1
        task_id = waiting.id
    transport = in_process_api_server().transport
    with httpx.Client(transport=transport, base_url="http://in-process.invalid") as client:
        body = {
            "state": "deferred", "classpath": request["classpath"], "trigger_kwargs": request["trigger_kwargs"],
            "next_method": "execute_complete", "next_kwargs": request.get("next_kwargs", {}),
        }  # fmt: skip
        client.patch(f"/task-instances/{task_id}/state", json=body).raise_for_status()
    return run_id


def watch(request: dict[str, Any]) -> str:
    """Gives an asset a watcher, as Airflow's DAG processor does; returns the asset's name."""
    from airflow.models.asset import AssetModel, AssetWatcherModel
    from airflow.models.trigger import Trigger
    from airflow.utils.session import create_session

    with create_session() as session:
        trigger = Trigger(request["classpath"], {}, team_name="support")
        asset = AssetModel(name=request["watch"], uri=request["watch"])
        session.add_all([trigger, asset])
        session.flush()
        session.add(AssetWatcherModel(name="watcher", asset_id=asset.id, trigger_id=trigger.id))
    return str(request["watch"])


if __name__ == "__main__":
    for one in json.loads(sys.argv[1]):
        print("RUN", (watch if "watch" in one else defer)(one), flush=True)
