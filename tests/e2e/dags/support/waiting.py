"""Tasks that wait without a pod: by triggers that the platform runs, and by their own class, which it refuses."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.sdk import BaseOperator

from kommuna.airflow import TeamDag

LONGEST = timedelta(minutes=30)


class OwnTrigger:
    """Serialises itself, like any trigger."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "waiting.OwnTrigger", {}


class Sleep(BaseOperator):
    """Waits two seconds with Airflow's trigger, and returns its `kwargs`."""

    def execute(self, context: Any) -> None:
        from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

        print("before the wait")
        self.defer(
            trigger=TimeDeltaTrigger(timedelta(seconds=2)),
            method_name="resume",
            kwargs={"carried": [1, 2]},
            timeout=LONGEST,
        )

    def resume(self, context: Any, event: Any, carried: list[int]) -> list[int]:
        print("after the wait")
        return carried


class Own(BaseOperator):
    """Waits with a trigger class of the bundle."""

    def execute(self, context: Any) -> None:
        self.defer(trigger=OwnTrigger(), method_name="resume", timeout=LONGEST)  # type: ignore[arg-type]

    def resume(self, context: Any, event: Any) -> None:
        raise AssertionError("the platform ran a team's trigger")


with TeamDag("sleeps"):
    Sleep(task_id="sleep")
    TimeDeltaSensor(task_id="sensor", delta=timedelta(seconds=30), deferrable=True)

with TeamDag("own_trigger", default_args={"retries": 0}):
    Own(task_id="own")
