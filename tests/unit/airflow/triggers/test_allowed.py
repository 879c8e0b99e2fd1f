"""Triggers: three classes are allowed, with plain arguments; anything else is refused with a reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kommuna.airflow.triggers.allowed import ALLOWED, MAX_ARGUMENTS, judge_carried, judge_trigger
from kommuna.errors import TeamMistake

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TEMPORAL, WORKFLOW, DAG_STATE = ALLOWED
UTC_ZONE = {
    "__classname__": "builtins.tuple", "__version__": 1, "__data__": ["UTC", "pendulum.tz.timezone.Timezone", 1, True]
}  # fmt: skip


def moment(timestamp: Any, *, kind: Any = "pendulum.datetime.DateTime", tz: Any = UTC_ZONE) -> dict[str, Any]:
    return {"__classname__": kind, "__version__": 2, "__data__": {"timestamp": timestamp, "tz": tz}}


def judged(arguments: Any, classpath: str = TEMPORAL, team: str = "support") -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return judge_trigger(classpath, text, team=team, now=NOW)


def printable(text: str) -> None:
    """A text that every database takes."""
    assert "\0" not in text
    text.encode()


def old(kind: str, value: Any = None) -> dict[str, Any]:
    """A value of Airflow's BaseSerialization."""
    return {"__type": kind, "__var": value}


def test_a_trigger_serialised_by_airflow_is_read_into_plain_values() -> None:
    from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
    from airflow.sdk.serde import serialize

    trigger = TimeDeltaTrigger(timedelta(seconds=5), end_from_trigger=True)
    classpath, arguments = trigger.serialize()
    found = judge_trigger(classpath, json.dumps(serialize(arguments)), team="support", now=datetime.now(UTC))
    assert found == {"moment": trigger.moment, "end_from_trigger": True}
    assert type(found["moment"]) is datetime


def test_triggers_on_other_dags_serialised_by_airflow_are_read() -> None:
    from airflow.providers.standard.triggers.external_task import DagStateTrigger, WorkflowTrigger
    from airflow.sdk.serde import serialize
    from airflow.utils.state import DagRunState

    sensor = WorkflowTrigger(
        "support__raw", logical_dates=[NOW], external_task_ids={"load"}, allowed_states=["success"],
        failed_states=("failed",), poke_interval=60.0,
    )  # fmt: skip
    classpath, arguments = sensor.serialize()
    found = judged(serialize(arguments), classpath)
    assert found["logical_dates"] == [NOW]
    assert (found["external_task_ids"], found["failed_states"]) == (["load"], ["failed"])
    assert found.keys() == arguments.keys()
    run = DagStateTrigger("support__raw", states=[DagRunState.SUCCESS], run_ids=["manual__1+00:00"], poll_interval=60)
    classpath, arguments = run.serialize()
    assert judged(serialize(arguments), classpath)["states"] == ["success"]


@pytest.mark.parametrize(
    "classpath",
    [
        "subprocess.Popen", "os.system", "mine.Trigger", "", ".", " " + TEMPORAL, TEMPORAL + " ", TEMPORAL + "\n",
        TEMPORAL.upper(), TEMPORAL + ".run", TEMPORAL.replace("Date", "D\u0430te"), TEMPORAL.replace(".", "/"),
        "airflow.providers.standard.triggers.temporal.TimeDeltaTrigger",
        "airflow.providers.standard.triggers.temporal.datetime",
        "airflow.providers.standard.triggers.file.FileTrigger",
        "airflow.providers.standard.triggers.hitl.HITLTrigger",
        "airflow.providers.cncf.kubernetes.triggers.pod.KubernetesPodTrigger",
        "airflow.triggers.callback.CallbackTrigger", "airflow.triggers.temporal.DateTimeTrigger", "x" * 100_000, "\0\ud800",
    ],
)  # fmt: skip
def test_any_other_class_is_refused_whatever_its_arguments(classpath: str) -> None:
    with pytest.raises(TeamMistake) as refused:
        judged({"moment": moment(NOW.timestamp())}, classpath)
    assert "the platform does not run the trigger" in refused.value.what
    assert all(allowed in refused.value.fix for allowed in ALLOWED)
    assert "deferrable=False" in refused.value.fix
    assert len(str(refused.value)) < 2_000
    printable(str(refused.value))


@given(st.text())
def test_only_the_three_allowed_classes_run(text: str) -> None:
    with pytest.raises(TeamMistake):
        judged({"moment": moment(NOW.timestamp())}, text)


EXCEPTION = old("dict", {"exc_cls_name": "mine.Evil", "args": [], "kwargs": old("dict", {})})
OTHERS = [
    None, 1, 1.5, True, "2026-03-01", "2026-03-01T00:00:00+00:00", [], {}, [moment(1)],
    old("datetime", 1.0), old("airflow_exc_ser", EXCEPTION), old("base_exc_ser", EXCEPTION), old("operator", {}),
    old("dag", {}), old("timedelta", 1.0), old("timezone", "UTC"), old("relativedelta", {}), old("set", []),
    old("tuple", []), old("k8s.V1Pod", {}), old("param", {}), old("xcomref", {}), old("asset", {}), old("asset_all", []),
    old("connection", {"conn_id": "x"}), old("task_callback_request", "{}"), old("dag_callback_request", "{}"),
    old("task_instance_key", {}), old("mapped_argument", {}), old("arg_not_set"), old("asset_event_accessors", {}),
    old("deadline_alert", {"reference": {"__class_path": "mine.Evil"}, "interval": 1, "callback": None}),
    old("airflow.timetables.interval.CronDataIntervalTimetable", {}), old("mine.Timetable", {}),
    moment(1, kind="mine.Evil"), moment(1, kind="airflow.sdk.definitions.callback.AsyncCallback"),
    moment(1, kind=["datetime.datetime"]), moment(1, kind={}), moment(1, kind=None), moment(1, tz=None),
    moment("1"), moment(True), moment(None), moment([1]), moment({}), moment(1e300), moment(-1e300), moment(10**400),
    {**moment(1), "more": 1}, {"__classname__": "datetime.datetime", "__version__": 2},
    {"__classname__": "datetime.datetime", "__version__": 2, "__data__": 1.0},
]  # fmt: skip


@pytest.mark.parametrize("value", OTHERS, ids=lambda value: json.dumps(value)[:60])
def test_anything_but_a_date_and_time_is_refused_undecoded(value: Any) -> None:
    with pytest.raises(TeamMistake, match="are invalid"):
        judged({"moment": value})
    with pytest.raises(TeamMistake, match="are invalid"):
        judged({"external_dag_id": "support__raw", "poke_interval": 60, "logical_dates": [value]}, WORKFLOW)
    with pytest.raises(TeamMistake, match="are invalid"):
        judged({"moment": moment(1), "end_from_trigger": value if value is not True else 1})
    with pytest.raises(TeamMistake, match="are invalid"):
        judged({"moment": moment(1), "target_time": value})


def test_a_serialised_value_instead_of_the_arguments_is_refused() -> None:
    for value in (old("dict", {"moment": moment(1)}), moment(1), old("dag", {}), [], "x", 1, None):
        with pytest.raises(TeamMistake, match="are invalid"):
            judged(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gAAAAABn",
        "{",
        "[" * 10_000,
        '{"moment": NaN}',
        '{"moment": Infinity}',
        '{"moment": ' + "9" * 5_000 + "}",
        "\0",
    ],
    ids=lambda text: text[:15],
)
def test_invalid_json_is_refused(text: str) -> None:
    with pytest.raises(TeamMistake, match="they are not JSON"):
        judged(text)


def test_huge_arguments_are_refused_before_they_are_read() -> None:
    with pytest.raises(TeamMistake, match="they have 32,002 characters, more than 16,000"):
        judged('"' + "x" * 2 * MAX_ARGUMENTS + '"')
    with pytest.raises(TeamMistake) as refused:
        judged({"y" * 15_000: 1})
    assert len(str(refused.value)) < 2_000


def test_a_wait_is_at_most_a_year() -> None:
    assert judged({"moment": moment((NOW + timedelta(days=366)).timestamp())})
    with pytest.raises(TeamMistake, match="2027-03-03 is too far away"):
        judged({"moment": moment((NOW + timedelta(days=367)).timestamp())})
    with pytest.raises(TeamMistake, match="is too far away"):
        judged({"moment": moment(250_000_000_000)})


@given(st.floats(min_value=0, max_value=(NOW + timedelta(days=366)).timestamp()))
def test_a_moment_of_any_zone_is_the_same_moment(timestamp: float) -> None:
    expected = datetime.fromtimestamp(timestamp, UTC)
    for zone in (UTC_ZONE, {**UTC_ZONE, "__data__": ["no/such", "mine.Zone", 9, True]}):
        assert judged({"moment": moment(timestamp, tz=zone)}) == {"moment": expected}


PLAIN = (datetime, bool, str, float, list, type(None))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(OTHERS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["__type", "__var", "__classname__", "__version__", "__data__", "timestamp", "tz", "x"]), inner
    ),
    max_leaves=8,
)  # fmt: skip
NAMES = st.sampled_from([name for model in ALLOWED.values() for name in model.model_fields])


@given(st.sampled_from(list(ALLOWED)), st.dictionaries(NAMES, VALUES | st.just("support__x") | st.just(60)))
def test_arguments_are_plain_or_refused_and_nothing_else_happens(classpath: str, arguments: dict[str, Any]) -> None:
    try:
        found = judged(arguments, classpath)
    except TeamMistake as error:
        return printable(str(error))
    assert found.keys() == arguments.keys()
    for value in found.values():
        assert isinstance(value, PLAIN)
        assert all(isinstance(item, datetime | str | None) for item in (value if isinstance(value, list) else ()))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"external_dag_id": "fraud__x"}, "'fraud__x' is not a DAG of team 'support'"),
        ({"external_dag_id": "x"}, "name one that begins with 'support__'"),
        ({"external_dag_id": "support__x\n"}, "external_dag_id"),
        ({"external_dag_id": ["support__x"]}, "external_dag_id"),
        ({"external_dag_id": "support__" + "x" * 300}, "external_dag_id"),
        ({"poke_interval": 0.5}, "poke_interval"),
        ({"poke_interval": True}, "poke_interval"),
        ({"poke_interval": 1e400}, "not JSON"),
        ({"run_ids": ["x"] * 101}, "run_ids"),
        ({"run_ids": ["a\0b"]}, "run_ids"),
        ({"external_task_ids": ["a;b"]}, "external_task_ids"),
        ({"allowed_states": ["success'"]}, "allowed_states"),
        ({"execution_dates": None}, "unknown key 'execution_dates'"),
    ],
)
def test_polling_runs_is_bounded_and_limited_to_the_team(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(TeamMistake) as refused:
        judged({"external_dag_id": "support__x", "poke_interval": 60, **arguments}, WORKFLOW)
    assert words in str(refused.value)


def test_polling_a_run_is_limited_to_one_run_of_the_team() -> None:
    given = {
        "dag_id": "support__x",
        "states": ["success"],
        "run_ids": ["a"],
        "poll_interval": 60,
        "execution_dates": None,
    }
    assert judged(given, DAG_STATE)["run_ids"] == ["a"]
    for wrong in ({"dag_id": "fraud__x"}, {"run_ids": None}, {"run_ids": ["a", "b"]}, {"poll_interval": 1}):
        with pytest.raises(TeamMistake, match="are invalid"):
            judged({**given, **wrong}, DAG_STATE)


def test_plain_values_may_be_passed_to_defer() -> None:
    from decimal import Decimal

    from airflow.sdk.serde import serialize

    carried = {"a": 1, "b": [NOW, (1, {2}), {"c": Decimal("1.5")}], "d": timedelta(seconds=1), "e": None}
    judge_carried(serialize(carried))
    judge_carried(None)


@pytest.mark.parametrize(
    "value", [value for value in OTHERS if isinstance(value, dict) and ("__type" in value or "Evil" in str(value))]
    + [{"__classname__": name} for name in ("airflow.sdk.definitions.callback.AsyncCallback", None, [], "a.B", 1)]
)  # fmt: skip
def test_a_value_that_names_a_class_may_not_be_passed_to_defer_at_any_depth(value: Any) -> None:
    deep: Any = value
    for _ in range(5_000):
        deep = [deep]
    for carried in (value, {"x": value}, {"x": [{"y": value}]}, {"x": moment(1, tz=value)}, deep):
        with pytest.raises(TeamMistake, match="to `defer`") as refused:
            judge_carried(carried)
        assert "pass plain values" in refused.value.fix
