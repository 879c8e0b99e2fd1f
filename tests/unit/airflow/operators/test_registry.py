"""A refused version is a failure that is seen: of the task, or of the run's last task."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from kommuna.airflow import RefusalOperator
from kommuna.airflow.operators import registry
from kommuna.airflow.operators.failures import StepFailed

SOURCE = """
from kommuna.airflow import *
with TeamDag("d") as dag:
    promoted = PromoteOperator(task_id="promote", version="v", scores="s", gate="f1_macro >= 0.7", fail_when_refused={})
    RefusalOperator(task_id="refused", promotion=promoted)
"""
REFUSED = {
    "promoted": False, "outcome": "refused", "name": "support__topics", "version": "4", "url": "http://mlflow/4",
    "reason": "the gate does not hold: f1_macro 0.68 < 0.7",
}  # fmt: skip
SAID = "version 4 of 'support__topics' does not become the champion: the gate does not hold: f1_macro 0.68 < 0.7"


class Xcoms:
    """The task's XComs. A stand-in: a task has them only while Airflow runs it."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.kept[key] = value

    def xcom_pull(self, *, task_ids: str, key: str) -> Any:
        return self.kept.get(key) if task_ids == "promote" else None


def decided(task: Any, promotion: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Xcoms:
    """Lets the task end with a decision."""
    xcoms = Xcoms()
    monkeypatch.setattr(registry, "get_current_context", lambda: {"ti": xcoms})
    monkeypatch.setattr(task, "read_json", lambda *_: promotion)
    try:
        task.after(None, None)
    finally:
        assert xcoms.kept == {"promotion": promotion}
    return xcoms


def test_a_refused_version_fails_the_task_without_a_retry(
    load: Callable[..., ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = load(SOURCE.format("True")).dag.get_task("promote")
    with pytest.raises(StepFailed) as error:
        decided(task, REFUSED, monkeypatch)
    assert str(error.value).splitlines()[0] == SAID
    assert error.value.errors[0].where == "http://mlflow/4"


def test_where_the_old_champion_goes_on_a_last_task_fails_with_the_refusal(
    load: Callable[..., ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    dag = load(SOURCE.format("False")).dag
    task, last = dag.get_task("promote"), dag.get_task("refused")
    with pytest.raises(AirflowSkipException, match=r"f1_macro 0\.68 < 0\.7"):
        decided(task, REFUSED, monkeypatch)
    assert isinstance(last, RefusalOperator)
    assert last.trigger_rule == "all_skipped"  # runs only where the promotion was skipped
    assert last.upstream_task_ids == {"promote"}
    xcoms = Xcoms()
    xcoms.kept["promotion"] = REFUSED
    with pytest.raises(StepFailed) as error:
        last.execute({"ti": xcoms})
    assert str(error.value).splitlines()[0] == SAID
    with pytest.raises(StepFailed, match="see the log of promote"):
        last.execute({"ti": SimpleNamespace(xcom_pull=lambda **_: None)})


def test_a_promoted_version_ends_the_task_well(
    load: Callable[..., ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = load(SOURCE.format("True")).dag.get_task("promote")
    decided(task, {**REFUSED, "promoted": True}, monkeypatch)


def test_the_template_shows_a_refusal_and_tags_on_with_the_old_champion(load: Callable[..., ModuleType]) -> None:
    source = (
        "from kommuna.airflow import weak_supervision_dag\n"
        "dag = weak_supervision_dag('topics', model='topics', columns={'id': 'Int64', 'text': 'String'})\n"
    )
    dag = load(source).dag
    assert not dag.get_task("promote").fail_when_refused
    assert dag.get_task("predict").trigger_rule == "none_failed"
    assert dag.get_task("refused").upstream_task_ids == {"promote"}
    assert dag.get_task("refused").downstream_task_ids == set()
