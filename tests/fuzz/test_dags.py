"""DAG files with arguments of any kind: `kommuna check` reports everything that the platform refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import structlog
from hypothesis import strategies as st
from tests.fuzz.campaign import count_refusal, fuzzed

from kommuna.cli.check.advice import explain
from kommuna.cli.check.finding import Collector, Finding
from kommuna.cli.check.judges.dags import DagJudge
from kommuna.cli.check.process.limits import Limits
from kommuna.cli.check.process.loading import load
from kommuna.spec.installation import place_of

HEAD = """\
from datetime import datetime, timedelta, timezone
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, Asset, Param, dag, task, task_group
from kommuna.airflow import *
"""
VALUES = st.sampled_from(
    ["None", "True", "0", "1", "-1", "3", "10**400", "1.5", "float('nan')", "float('inf')", "''", "'x'", "'no'", "'a' * 300",
     "'support__x'", "'fraud__x'", "'карта'", "'\\ud83d'", "'\\0'", "'a/b'", "'{{ ds }}'", "'{{ params.a }}'", "'{{'", "'{% if %}'",
     "'{{ params.gone }}'", "'@daily'", "'@dayly'", "'* * * * *'", "'61 * * * *'", "[]", "['x']", "[1]", "[None]", "('x',)", "{'x'}", "{}",
     "{'a': 1}", "{'a': object()}", "{1: 2}", "{'a': float('nan')}", "{'a': Param(1, type='string')}", "{'a': Param(None, type='integer')}",
     "{'owner': 3}", "{'pool': 'slow'}", "{'retries': -1}", "{'cpu': '2'}", "{'memory': '1Ti'}", "{'cpu': 1}", "{'memori': '1Gi'}",
     "{'id': 'String', 'text': 'String'}", "{'id': 'Strng'}", "{'*': 'String'}", "timedelta(0)", "timedelta(seconds=5)", "timedelta(days=400)",
     "timedelta(minutes=-1)", "datetime(2026, 1, 1)", "datetime(2026, 1, 1, tzinfo=timezone.utc)", "datetime(1, 1, 1)", "datetime(9999, 12, 31)",
     "b'x'", "object()", "lambda: 1", "print", "int", "Exception()", "...", "2j", "range(3)", "Asset('x')", "Asset('fraud__x')",
     "[Asset('s3://b/support/x')]", "Model('m')", "Model('fraud__m')", "'kommuna.steps:clean'", "'mine:f'", "'x:y z'", "'os:system'",
     "'kommuna.cli.main:main'", "'rules.yaml'", "'../up.yaml'", "'store://inbox/m.csv'", "'file:///etc/hosts'", "'s3://x'", "''.join(['a'] * 5)",
     "'slow'", "'default_pool'", "'RU'", "'XX'", "'tfidf'", "'f1_macro >= 0.7'", "'f1_macr >= 0.7 and'", "'SELECT * FROM a'", "'DROP TABLE a'",
     "d", "made", "made.output", "made['x']", "made['table']", "[made]", "{'a': made}"]
)  # fmt: skip
DAG_OPTIONS = st.dictionaries(
    st.sampled_from(
        ["schedule", "tags", "params", "default_args", "start_date", "end_date", "catchup", "max_active_runs", "dagrun_timeout",
         "description", "owner_links", "access_control", "render_template_as_native_obj", "deadline", "doc_md", "file", "is_paused_upon_creation",
         "max_active_tasks", "template_searchpath", "dag_display_name", "on_failure_callback", "user_defined_macros", "nope"]
    ),
    VALUES, max_size=2,
)  # fmt: skip
TASK_OPTIONS = st.dictionaries(
    st.sampled_from(
        ["pool", "retries", "retry_delay", "priority_weight", "execution_timeout", "executor_config", "executor", "queue", "pool_slots", "owner",
         "trigger_rule", "depends_on_past", "inlets", "outlets", "doc_md", "task_display_name", "max_retry_delay", "weight_rule", "start_date",
         "on_success_callback", "params", "map_index_template", "email", "nope"]
    ),
    VALUES, max_size=2,
)  # fmt: skip
OPERATORS = {
    "EmptyOperator": {},
    "BashOperator": {"bash_command": "'true'", "env": "None", "cwd": "None"},
    "TriggerDagRunOperator": {"trigger_dag_id": "'x'", "conf": "None", "logical_date": "None"},
    "StepOperator": {"function": "'kommuna.steps:clean'", "inputs": "{'table': made}", "parameters": "{}", "step_resources": "None", "cache": "True"},
    "ReadTableOperator": {"source": "'store://inbox/m.csv'", "columns": "{'id': 'String'}", "format": "'auto'"},
    "CleanOperator": {"table": "made", "key": "'id'", "text": "'text'"},
    "MaskPiiOperator": {"table": "made", "names": "[]", "region": "'RU'", "text": "'text'"},
    "PrepareMessagesOperator": {"source": "'store://inbox/m.csv'", "columns": "{'id': 'String', 'text': 'String'}", "parameters": "None"},
    "QueryOperator": {"tables": "{'a': made}", "sql": "'SELECT * FROM a'"},
    "AsofJoinOperator": {"left": "made", "right": "made", "on": "'id'", "by": "[]"},
    "ApplyRulesOperator": {"messages": "made", "rules": "'rules.yaml'"},
    "PromoteOperator": {"version": "made", "scores": "made", "gate": "'f1_macro >= 0.7'"},
    "PredictOperator": {"messages": "made", "model": "Model('m')"},
    "LabelOperator": {"votes": "made", "rules": "'rules.yaml'"},
}  # fmt: skip


@st.composite
def files(draw: st.DrawFn) -> str:
    """Draws a DAG file with some unusual arguments."""
    dag_id = draw(st.one_of(st.just("'d'"), st.just("'d'"), st.just("'d'"), VALUES))
    how = draw(st.sampled_from(["TeamDag", "TeamDag", "DAG", "@dag", "weak"]))
    options = "".join(f", {name}={value}" for name, value in draw(DAG_OPTIONS).items())
    if how == "weak":
        given = {"rules": "'rules.yaml'", "source": "'store://inbox/m.csv'", **draw(st.dictionaries(st.sampled_from(
            ["gate", "label_model", "region", "names", "otherwise", "key", "text", "columns", "dev", "gold", "train", "test", "rules", "schedule", "params", "multi_label"]
        ), VALUES, max_size=3))}  # fmt: skip
        return f"{HEAD}d = made = None\nd = weak_supervision_dag({dag_id}, {', '.join(f'{k}={v}' for k, v in given.items())})\n"
    body = [
        "made = ReadTableOperator(task_id='made', source='store://inbox/m.csv', columns={'id': 'String', 'text': 'String'})"
    ]
    for i in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(sorted(OPERATORS)))
        given = dict(OPERATORS[name])
        for key in draw(st.lists(st.sampled_from(sorted(given)), max_size=2)) if given else []:
            given[key] = draw(VALUES)
        given |= draw(TASK_OPTIONS)
        task_id = draw(st.one_of(st.just(f"'t{i}'"), st.just(f"'t{i}'"), st.just(f"'t{i}'"), VALUES))
        arguments = ", ".join(f"{key}={value}" for key, value in given.items())
        if draw(st.integers(0, 5)) == 5:
            mapped = draw(st.sampled_from(sorted(given) or ["x"]))
            rest = ", ".join(f"{key}={value}" for key, value in given.items() if key != mapped)
            body.append(f"{name}.partial(task_id={task_id}, {rest}).expand({mapped}={draw(VALUES)})")
        else:
            body.append(f"{name}(task_id={task_id}, {arguments})")
    if draw(st.booleans()):
        body.append(
            f"@task({draw(st.sampled_from(['', 'retries=3', 'multiple_outputs=3', 'pool=4']))})\ndef f(x=None):\n    return x\nf({draw(VALUES)})"
        )
    inside = "\n".join(body).replace("\n", "\n    ")
    if how == "@dag":
        return f"{HEAD}d = None\n@dag({dag_id}{options})\ndef made_dag():\n    {inside}\nd = made_dag()\n"
    return f"{HEAD}d = None\nwith {how}({dag_id}{options}) as d:\n    {inside}\n"


def checked(path: Path, source: str) -> tuple[Finding, ...]:
    """Returns the findings of `kommuna check` in a file, in this process."""
    place = place_of(path)
    found = Collector(place.bundle)
    loaded = load(path, 30.0)
    if loaded.error is not None:
        found.add(path, *explain(loaded.error, path, place.bundle, Limits()))
        return found.findings
    judge = DagJudge(path, source, loaded.lines, place, found)
    for dag in loaded.dags:
        judge.judge(dag)
    return found.findings


def refused(path: Path) -> list[str]:
    """Returns the reason why the platform's parser refuses a file."""
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.dag_processing.processor import _serialize_dags

    bag = BundleDagBag(dag_folder=str(path), bundle_path=path.parent, bundle_name="support", load_op_links=False)
    dags, errors = _serialize_dags(bag, structlog.get_logger())
    for dag in dags:
        dag.next_dagrun_info(last_automated_run_info=None)
    return [*bag.import_errors.values(), *errors.values()]


RULES = "tags: [x]\nrules: [{name: r, tag: x, any: [x]}]\n"


@pytest.mark.filterwarnings("ignore")
@fuzzed(examples=60, source=files())
def test_check_finds_what_the_platform_refuses(folder: Path, source: str) -> None:
    bundle = folder / "dags"
    if not bundle.exists():
        bundle.mkdir()
        (folder / "kommuna.yaml").write_text(
            "teams:\n  support: {bundle: dags, pools: {default: 8, slow: 2}}\n  fraud: {bundle: other}\n"
        )
        (bundle / "rules.yaml").write_text(RULES)
    path = bundle / "made.py"
    path.write_text(source, encoding="utf-8")
    sys.modules.pop("made", None)
    findings = checked(path, source)
    if findings:
        count_refusal()
    lines = len(source.splitlines())
    for finding in findings:
        assert finding.what.strip()
        assert finding.fix.strip(), finding
        assert 1 <= finding.line <= lines, finding
    why = refused(path)
    assert findings or not why, f"the platform refuses what check does not see: {why}"
