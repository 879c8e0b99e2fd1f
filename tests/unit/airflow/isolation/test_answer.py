"""Validation of a parser's answer: what Airflow's own parsing gives passes, anything but plain data is refused."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kommuna.airflow.admission.policies import facts
from kommuna.airflow.isolation.answer import Malformed, RequestedFile, checked_result, import_error
from kommuna.spec.team import Platform

PLATFORM = Platform.model_validate(
    {"teams": {"support": {"bundle": "a", "pools": {"default": 4, "gpu": 1}}, "fraud": {"bundle": "b"}}}
)
REQUESTED = RequestedFile("support", PLATFORM, "/bundle/d.py", "d.py", "/parser/v1")
SOURCE = """
from datetime import datetime, timedelta
from airflow.sdk import DAG, Asset, Param, task
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import CronTriggerTimetable, TaskGroup
with DAG(
    "support__all", schedule=CronTriggerTimetable("0 3 * * *", timezone="UTC"), start_date=datetime(2025, 1, 1),
    default_args={"pool": "support__default", "retries": 2, "retry_delay": timedelta(seconds=5),
                  "weight_rule": "absolute"}, tags=["x"],
    params={"p": 1, "q": Param("a", type="string", enum=["a"])}, dagrun_timeout=timedelta(hours=1), on_failure_callback=lambda context: None,
    owner_links={"airflow": "https://example.org"}, catchup=False,
) as dag:
    first = EmptyOperator(task_id="first", executor_config={"resources": {"cpu": "1"}}, outlets=[Asset("support__table")])
    with TaskGroup("group"):
        many = BashOperator.partial(task_id="many", pool="support__gpu", priority_weight=3).expand(bash_command=["a", "b"])

    @task(execution_timeout=timedelta(minutes=5))
    def last(x: int = 1) -> int:
        return x

    first >> many >> last()
"""


@pytest.fixture
def serialised(load: Callable[..., ModuleType]) -> tuple[Any, dict[str, Any]]:
    """A DAG of many parts, and its serialised form as it comes off the wire."""
    import msgspec
    from airflow.sdk.execution_time.comms import _msgpack_enc_hook
    from airflow.serialization.serialized_objects import DagSerialization

    dag = load(SOURCE).dag
    packed = msgspec.msgpack.encode(DagSerialization.to_dict(dag), enc_hook=_msgpack_enc_hook)
    return dag, msgspec.msgpack.decode(packed)


def body(*dags: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"serialized_dags": [{"data": dag} for dag in dags], "import_errors": {}} | fields


def put(data: Any, place: tuple[Any, ...], value: Any) -> None:
    """Sets a value inside nested objects and lists."""
    for part in place[:-1]:
        data = data[part]
    data[place[-1]] = value


def test_a_dag_serialised_by_airflow_passes_unchanged_except_for_its_file(
    serialised: tuple[Any, dict[str, Any]],
) -> None:
    _, data = serialised
    (stored,) = checked_result(body(copy.deepcopy(data)), REQUESTED).serialized_dags
    assert stored.data["dag"].pop("fileloc") == "/bundle/d.py"
    assert stored.data["dag"].pop("relative_fileloc") == "d.py"
    for name in ("fileloc", "relative_fileloc"):
        data["dag"].pop(name, None)
    assert stored.data == data


def test_admission_sees_the_same_in_a_dag_and_in_its_serialised_form(serialised: tuple[Any, dict[str, Any]]) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    dag, data = serialised
    live, read_back = facts(dag), facts(DagSerialization.from_dict(data))
    by_id = [sorted(one.tasks, key=lambda task: task.task_id) for one in (live, read_back)]
    assert by_id[0] == by_id[1]
    for name in ("dag_id", "interval", "cron", "deadlines", "assets", "links", "tags", "roles", "timeout", "params"):
        assert getattr(live, name) == getattr(read_back, name), name
    assert [path.rpartition(".")[2] for path in live.timetables] == [
        path.rpartition(".")[2] for path in read_back.timetables
    ]


def test_import_errors_name_the_requested_file_and_hide_the_parsers_paths() -> None:
    result = checked_result(body(import_errors={"other.py": 'File "/parser/v1/d.py", line 1'}), REQUESTED)
    assert result.import_errors == {"d.py": 'File "d.py", line 1'}
    assert result.serialized_dags == []


def test_a_warning_is_kept_only_about_the_files_own_dags(serialised: tuple[Any, dict[str, Any]]) -> None:
    _, data = serialised
    warning = {"dag_id": "support__all", "warning_type": "runtime varying value", "message": "now()"}
    warnings = [warning, {**warning, "dag_id": "fraud__x"}, {**warning, "warning_type": "other"}, "noise"]
    assert checked_result(body(data, warnings=warnings), REQUESTED).warnings == [warning]


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("dag", "timetable", "__type"), "os.system", "names the type 'os.system'"),
        (("dag", "timetable", "__type"), "airflow.timetables.base.import_string", "cannot be deserialised"),
        (("dag", "default_args"), {"__type": "airflow_exc_ser", "__var": {}}, "names the type 'airflow_exc_ser'"),
        (("dag", "default_args"), {"__type": "deadline_alert", "__var": {}}, "names the type 'deadline_alert'"),
        (("dag", "params"), [["p", {"__classname__": "airflow.sdk.Asset"}]], "names the class 'airflow.sdk.Asset'"),
        (("dag", "tasks", 0, "__var", "weight_rule"), "os.system", "cannot be deserialised"),
        (("dag", "tasks", 0, "__var", "trigger_rule"), "whenever", "cannot be deserialised"),
        (("dag", "tasks", 0, "__var", "downstream_task_ids"), ["nowhere"], "cannot be deserialised"),
        (("dag", "max_active_runs"), "many", "cannot be deserialised"),
        (("__version",), 1, "serial version 1"),
        (("dag",), [], "has no 'dag'"),
        (("dag", "doc_md"), b"bytes", "a value of the type bytes"),
        (("dag", "edge_info"), {1: {}}, "a key that is not a text"),
    ],
)
def test_an_answer_that_airflow_cannot_or_should_not_deserialise_is_malformed(
    serialised: tuple[Any, dict[str, Any]], place: tuple[Any, ...], value: Any, words: str
) -> None:
    _, data = serialised
    put(data, place, value)
    with pytest.raises(Malformed) as error:
        checked_result(body(data), REQUESTED)
    assert words in str(error.value)


def _params(schema: dict[str, Any]) -> list[Any]:
    """A param 'p' as Airflow serialises it."""
    given = {"__type": "dict", "__var": schema}
    return [["p", {"__class": "airflow.sdk.definitions.param.Param", "default": "x", "schema": given}]]


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("dag", "dag_id"), "support__x/../../fraud", "has other characters than letters"),
        (("dag", "tasks", 0, "__var", "weight_rule"), "downstream", "has the weight_rule 'downstream'"),
        (("dag", "tasks", 0, "__var", "priority_weight"), 400, "has the priority_weight 400"),
        (("dag", "max_active_runs"), 100_000, "has max_active_runs=100000"),
        (("dag", "max_active_tasks"), 100_000, "has max_active_tasks=100000"),
        (("dag", "deadline"), [{"__type": "deadline_alert", "__var": {"callback": "os.system"}}], "has a deadline"),
        (("dag", "params"), _params({"$ref": "file:///x.json"}), "the param 'p' of DAG 'support__all' uses $ref"),
        (
            ("dag", "tasks", 0, "__var", "params"),
            _params({"$ref": "http://x"}),
            "the param 'p' of task 'first' uses $ref",
        ),
        (("dag", "tasks", 1, "__var", "params"), _params({"pattern": "^(a+)+$"}), "of task 'group.many' uses pattern"),
        (
            ("dag", "tasks", 0, "__var", "outlets"),
            [{"__type": "asset_ref", "__var": {"name": "fraud__scores"}}],
            "an outlet of DAG 'support__all' refers to 'fraud__scores'",
        ),
    ],
)
def test_an_answer_that_reaches_beyond_the_team_is_refused(
    serialised: tuple[Any, dict[str, Any]], place: tuple[Any, ...], value: Any, words: str
) -> None:
    _, data = serialised
    put(data, place, value)
    result = checked_result(body(data), REQUESTED)
    assert words in (result.import_errors or {})["d.py"]
    assert result.serialized_dags == []


def test_two_dags_of_one_id_are_refused(serialised: tuple[Any, dict[str, Any]]) -> None:
    _, data = serialised
    result = checked_result(body(data, copy.deepcopy(data)), REQUESTED)
    assert result.import_errors == {"d.py": "two DAGs of the file have the id 'support__all'"}


def test_a_refusal_can_be_stored_whatever_is_in_it() -> None:
    (text,) = (import_error(REQUESTED, "a\0b\ud800" + "x" * 50_000).import_errors or {}).values()
    assert "\0" not in text
    assert len(text) == 20_000
    text.encode()


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(path=st.lists(st.integers(0, 30), min_size=1, max_size=6), value=json_like)
def test_any_change_to_an_answer_is_stored_refused_or_malformed(
    serialised: tuple[Any, dict[str, Any]], path: list[int], value: Any
) -> None:
    """A value of an honest answer, replaced by anything: no other exception leaves the judgement."""
    data: Any = copy.deepcopy(serialised[1])
    inner = data
    for number, step in enumerate(path):
        keys = list(inner) if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else []
        if not keys:
            break
        key = keys[step % len(keys)]
        if number == len(path) - 1 or not isinstance(inner[key], dict | list):
            inner[key] = value
            break
        inner = inner[key]
    with contextlib.suppress(Malformed):
        checked_result(body(data), REQUESTED)
