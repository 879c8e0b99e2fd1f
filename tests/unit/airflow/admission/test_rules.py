"""Admission: what a team's DAG may not do, and that Airflow's policy applies the same rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from kommuna.airflow.admission.rules import AssetFacts, DagFacts, ParamFacts, TaskFacts, judge
from kommuna.spec.team import Platform

PLATFORM = Platform.model_validate(
    {"teams": {"support": {"bundle": "a", "pools": {"default": 4, "gpu": 1}}, "fraud": {"bundle": "b"}}}
)


def words(dag_id: str = "support__d", **task: object) -> list[str]:
    fields = {"task_id": "t", "pool": "support__default"} | task
    return [v.what for v in judge(DagFacts(dag_id, [TaskFacts(**fields)]), team="support", platform=PLATFORM)]  # type: ignore[arg-type]


def test_a_dag_that_stays_within_its_team_is_admitted() -> None:
    assert words() == []
    assert words(pool="support__gpu", priority_weight=10) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dag_id": "support__"}, "DAG 'support__' lacks the prefix of team 'support'"),
        ({"dag_id": "daily__d"}, "DAG 'daily__d' lacks the prefix of team 'support'"),
        ({"dag_id": "d"}, "DAG 'd' lacks the prefix of team 'support'"),
        ({"dag_id": "support__fraud__d"}, "DAG 'fraud__d' has the prefix of team 'fraud', but belongs to team 'support'"),
        ({"dag_id": "fraud__d"}, "DAG 'fraud__d' has the prefix of team 'fraud', but belongs to team 'support'"),
        ({"pool": "fraud__default"}, "task 't' uses the pool 'fraud__default', which does not belong to team 'support'"),
        ({"pool": "default_pool"}, "task 't' uses the pool 'default_pool', which does not belong to team 'support'"),
        ({"executor": "LocalExecutor"}, "task 't' names the executor 'LocalExecutor'"),
        ({"priority_weight": 1000}, "task 't' has the priority_weight 1000"),
        ({"weight_rule": "upstream"}, "task 't' has the weight_rule 'upstream'"),
        ({"dag_id": "support__x/../../fraud"}, "the DAG id 'support__x/../../fraud' has other characters"),
        ({"dag_id": "support__x\n"}, "the DAG id 'support__x\\n' has other characters"),
        ({"task_id": "a/b"}, "the task id 'a/b' has other characters"),
        ({"executor_config": {"pod_override": 1}}, "task 't' sets executor_config (pod_override)"),
    ],
)  # fmt: skip
def test_a_dag_may_not_affect_other_teams(fields: dict[str, object], message: str) -> None:
    (found,) = words(**fields)  # type: ignore[arg-type]
    assert found.startswith(message)


def of_dag(**fields: object) -> list[str]:
    facts = DagFacts("support__d", [TaskFacts("t", "support__default")], **fields)  # type: ignore[arg-type]
    return [v.what for v in judge(facts, team="support", platform=PLATFORM)]


@pytest.mark.parametrize("module", ["airflow.timetables.simple", "airflow.sdk.definitions.timetables.simple"])
def test_a_dag_that_would_run_without_a_pause_is_refused(module: str) -> None:
    (found,) = of_dag(timetables=[f"{module}.ContinuousTimetable"])
    assert found == "DAG 'support__d' runs again as soon as it ends (@continuous)"


def test_a_steps_resources_within_the_teams_quota_pass() -> None:
    assert words(executor_config={"resources": {"cpu": "2", "memory": "16Gi"}}) == []


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"pod_override": {"spec": {"hostNetwork": True}}}, "sets executor_config (pod_override)"),
        ({"resources": {"cpu": "1"}, "pod_override": 1}, "sets executor_config (resources, pod_override)"),
        ({"pod_template_file": "x"}, "sets executor_config (pod_template_file)"),
        ({"KubernetesExecutor": {"image": "x"}}, "sets executor_config (KubernetesExecutor)"),
        ({"resources": {"gpu": "1"}}, "sets executor_config (resources)"),
        ({"resources": {"cpu": "-1"}}, "sets executor_config (resources)"),
        ({"resources": [1]}, "sets executor_config (resources)"),
        (
            {"resources": {"memory": "17Gi"}},
            "requests 1 cores and 17Gi, more than the team's quota of 8 cores and 16Gi",
        ),
        ({"resources": {"cpu": "8500m"}}, "requests 8500m cores and 4Gi, more than the team's quota"),
    ],
)
def test_anything_else_in_an_executor_config_is_refused(config: dict[str, object], found: str) -> None:
    (what,) = words(executor_config=config)
    assert what.startswith("task 't' ")
    assert found in what


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pool_slots": 0}, "task 't' takes 0 slots of the pool 'support__default'"),
        ({"pool_slots": 5}, "task 't' takes 5 slots of the pool 'support__default'"),
        ({"retries": 11}, "task 't' has 11 retries"),
        ({"trigger": "subprocess.Popen"}, "task 't' starts from a trigger (subprocess.Popen)"),
        ({"names": ["x" * 251]}, "the name 'xxx"),
        ({"delays": [60.0, 1e12]}, "task 't' has a timeout or a retry delay of 1e+12 s"),
        ({"delays": [-1.0]}, "task 't' has a timeout or a retry delay of -1 s"),
    ],
)
def test_a_task_may_not_exceed_the_limits(fields: dict[str, object], message: str) -> None:
    (found,) = words(**fields)  # type: ignore[arg-type]
    assert found.startswith(message)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"timetables": ["dags.mine.Timetable"]}, "DAG 'support__d' has the timetable dags.mine.Timetable"),
        ({"timetables": ["airflow.timetables.base.import_string"]}, "DAG 'support__d' has the timetable"),
        ({"cron": ["* * * * * *"]}, "DAG 'support__d' is scheduled by the second"),
        ({"interval": 1.0}, "DAG 'support__d' runs every 1 s"),
        ({"interval": 0.0}, "DAG 'support__d' runs every 0 s"),
        ({"deadlines": 1}, "DAG 'support__d' has a deadline"),
        ({"max_active_runs": 101}, "DAG 'support__d' has max_active_runs=101"),
        ({"max_active_runs": 0}, "DAG 'support__d' has max_active_runs=0"),
        ({"max_active_tasks": 501}, "DAG 'support__d' has max_active_tasks=501"),
        ({"written": ["fraud__t"]}, "an outlet of DAG 'support__d' refers to 'fraud__t'"),
        ({"written": ["fraud__t/support"]}, "an outlet of DAG 'support__d' refers to 'fraud__t/support'"),
        ({"written": ["s3://b/fraud/t"]}, "an outlet of DAG 'support__d' refers to 's3://b/fraud/t'"),
        ({"timeout": 1e12}, "DAG 'support__d' has a dagrun_timeout of 1e+12 s"),
        (
            {"params": [ParamFacts("p", {"$ref": "file:///x.json"})]},
            "the schema of the param 'p' of DAG 'support__d' uses $ref",
        ),
        ({"params": [ParamFacts("p", {"items": [{"not": {"$ref": "http://x"}}]})]}, "the schema of the param 'p'"),
        (
            {"params": [ParamFacts("p", {"pattern": "^(a+)+$"})]},
            "the schema of the param 'p' of DAG 'support__d' uses pattern",
        ),
        (
            {"params": [ParamFacts("p", {"enum": [1] * 4000}, [1] * 2000)]},
            "the params of DAG 'support__d' have 6,003 values",
        ),
        ({"roles": ["Admin"]}, "DAG 'support__d' grants rights to Admin"),
        ({"links": {"a": "javascript:alert(1)"}}, "DAG 'support__d' links its owner 'a'"),
        ({"tags": ["x" * 101]}, "the tag"),
        ({"assets": [AssetFacts("table", "table")]}, "asset 'table' lacks the prefix of team 'support'"),
        ({"assets": [AssetFacts("fraud__t", "x")]}, "asset 'fraud__t' lacks the prefix of team 'support'"),
        ({"assets": [AssetFacts("support__t", "s3://b/fraud/t")]}, "asset 'support__t' has the address"),
        ({"assets": [AssetFacts("support__t", "support__t", watchers=1)]}, "asset 'support__t' has a watcher"),
    ],
)
def test_a_dag_outside_the_limits_is_refused(fields: dict[str, object], message: str) -> None:
    (found,) = of_dag(**fields)
    assert found.startswith(message)


def test_a_param_of_a_task_is_judged_like_the_dags() -> None:
    (found,) = words(params=[ParamFacts("p", {"$ref": "file:///x.json"})])
    assert found == "the schema of the param 'p' of task 't' uses $ref"


def test_a_usual_dag_is_admitted() -> None:
    assert (
        of_dag(
            timetables=["airflow.sdk.definitions.timetables.trigger.CronTriggerTimetable"],
            cron=["0 3 * * *"],
            interval=3600.0,
            assets=[AssetFacts("support__t", "s3://bucket/support/t"), AssetFacts("support__alias")],
            links={"a": "https://example.org", "b": "mailto:b@example.org"},
            written=["support__t", "s3://bucket/support/t"],
            max_active_runs=16,
            max_active_tasks=16,
            params=[ParamFacts("p", {"type": "string", "enum": ["a", "b"], "title": "$ref"}, "a")],
        )
        == []
    )


def test_a_live_dag_with_what_the_control_plane_would_run_is_refused(load: Callable[..., ModuleType]) -> None:
    from airflow.exceptions import AirflowClusterPolicyViolation

    from kommuna.airflow.admission.policies import dag_policy

    dag = load(
        """
from datetime import datetime, timedelta
from airflow.sdk import Asset, AssetAlias, AssetWatcher, DAG
from airflow.sdk import DeltaTriggerTimetable
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.triggers.file import FileDeleteTrigger
from kubernetes.client import V1HostPathVolumeSource, V1Pod, V1PodSpec, V1Volume, V1Container

watched = Asset("support__w", watchers=[AssetWatcher(name="w", trigger=FileDeleteTrigger(filepath="/x"))])
volume = V1Volume(name="host", host_path=V1HostPathVolumeSource(path="/"))
pod = V1Pod(spec=V1PodSpec(containers=[V1Container(name="base")], volumes=[volume]))
with DAG("support__d", schedule=DeltaTriggerTimetable(timedelta(seconds=1)), start_date=datetime(2025, 1, 1)) as dag:
    EmptyOperator(task_id="t", pool="support__default", outlets=[watched], inlets=[Asset("fraud__x"), AssetAlias("loose")],
                  executor_config={"pod_override": pod}, retries=99)
"""
    ).dag
    with pytest.raises(AirflowClusterPolicyViolation) as error:
        dag_policy(dag)
    for words_ in (
        "runs every 1 s",
        "asset 'support__w' has a watcher",
        "asset 'fraud__x' lacks the prefix",
        "sets executor_config (pod_override)",
        "has 99 retries",
    ):
        assert words_ in str(error.value)


def test_a_dag_of_too_many_tasks_is_refused() -> None:
    tasks = [TaskFacts(f"t{i}", "support__default") for i in range(501)]
    (found,) = judge(DagFacts("support__d", tasks), team="support", platform=PLATFORM)
    assert found.what == "DAG 'support__d' has 501 tasks"


def test_airflows_policy_refuses_the_same_with_the_same_message(
    load: Callable[..., ModuleType], platform: Path
) -> None:
    from airflow.exceptions import AirflowClusterPolicyViolation

    from kommuna.airflow.admission.policies import dag_policy

    dag = load(
        'from airflow.sdk import DAG\nfrom airflow.providers.standard.operators.empty import EmptyOperator\nwith DAG("plain") as dag:\n    EmptyOperator(task_id="t", pool="fraud__default", retries=99)\n'
    ).dag
    with pytest.raises(AirflowClusterPolicyViolation) as error:
        dag_policy(dag)
    assert "task 't' has 99 retries" in str(error.value)
    assert "task 't' uses the pool 'fraud__default'" in str(error.value)


def test_airflows_default_weight_rule_becomes_absolute_also_for_mapped_tasks(load: Callable[..., ModuleType]) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    from kommuna.airflow.admission.policies import dag_policy, facts

    dag = load(
        """
from airflow.sdk import DAG
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
with DAG("plain") as dag:
    EmptyOperator(task_id="a") >> BashOperator.partial(task_id="b").expand(bash_command=["true"]) >> EmptyOperator(task_id="c")
"""
    ).dag
    dag_policy(dag)
    read_back = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert {task.task_id: task.weight_rule for task in facts(read_back).tasks} == dict.fromkeys("abc", "absolute")


def test_an_outlet_that_refers_to_another_teams_asset_is_refused(load: Callable[..., ModuleType]) -> None:
    from airflow.exceptions import AirflowClusterPolicyViolation

    from kommuna.airflow.admission.policies import dag_policy

    source = """
from airflow.sdk import DAG, Asset
from airflow.providers.standard.operators.empty import EmptyOperator
with DAG("plain") as dag:
    EmptyOperator(task_id="t", inlets=[Asset.ref(name="fraud__in")], outlets=[Asset.ref({})])
"""
    for reference in ('name="fraud__scores"', 'uri="s3://bucket/fraud/scores"'):
        with pytest.raises(AirflowClusterPolicyViolation, match="an outlet of DAG 'support__plain' refers to"):
            dag_policy(load(source.format(reference)).dag)
    dag_policy(load(source.format('name="scores"')).dag)


def test_a_param_without_a_default_is_admitted_and_its_schema_judged(load: Callable[..., ModuleType]) -> None:
    from airflow.exceptions import AirflowClusterPolicyViolation

    from kommuna.airflow.admission.policies import dag_policy

    source = """
from airflow.sdk import DAG, Param
from airflow.providers.standard.operators.empty import EmptyOperator
with DAG("support__asks", schedule=None, params={"x": Param(type="string"%s)}) as dag:
    EmptyOperator(task_id="t", pool="support__default")
"""
    dag_policy(load(source % "").dag)
    with pytest.raises(
        AirflowClusterPolicyViolation, match="the schema of the param 'x' of DAG 'support__asks' uses pattern"
    ):
        dag_policy(load(source % ", pattern='a'").dag)
