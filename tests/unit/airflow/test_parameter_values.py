"""A parameter of any type: the step sees the same value from a DAG file, a template and another task, and it is cached."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from pydantic import BaseModel

from kommuna.airflow.operators.rendering import cast
from kommuna.errors import SpecError
from kommuna.runtime.supervise import run_step
from kommuna.spec.step import StepResult, StepSpec
from kommuna.spec.table import TableSchema
from kommuna.store import Store
from kommuna.store.lookup import look_up

Load = Callable[..., ModuleType]
STEP = """
from __future__ import annotations
import datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID
from pydantic import BaseModel
from kommuna.spec.table import TableSchema

class Colour(Enum):
    RED = "red"

class Options(BaseModel):
    day: datetime.date
    tags: set[str] = set()

class Point(NamedTuple):
    x: int
    y: float

def show(*, value: ANNOTATION) -> dict[str, str]:
    shown = sorted(value) if isinstance(value, set | frozenset) else value
    return {"type": type(value).__name__, "value": repr(shown)}
"""
DAG = """
from airflow.sdk import task
from kommuna.airflow import StepOperator, TeamDag
from value_of_test import VALUE

with TeamDag("d", params={}) as dag:
    StepOperator(task_id="literal", function="STEP:show", parameters={"value": VALUE})
    StepOperator(task_id="template", function="STEP:show", parameters={"value": "{{ given }}"})
    StepOperator.partial(task_id="mapped", function="STEP:show").expand(parameters=[{"value": VALUE}])
"""


class Colour(Enum):
    RED = "red"


class Options(BaseModel):
    day: date
    tags: set[str] = set()


CASES: list[tuple[Any, str, str]] = [
    (date(2026, 1, 2), "datetime.date", "datetime.date(2026, 1, 2)"),
    (datetime(2026, 1, 2, 3), "datetime.datetime", "datetime.datetime(2026, 1, 2, 3, 0)"),
    (datetime(2026, 1, 2, tzinfo=UTC), "datetime.datetime", "datetime.datetime(2026, 1, 2, 0, 0, tzinfo=TzInfo(0))"),
    (time(3, 4), "datetime.time", "datetime.time(3, 4)"),
    (timedelta(hours=25, microseconds=1), "datetime.timedelta", "datetime.timedelta(days=1, seconds=3600, microseconds=1)"),
    ({"b", "a"}, "set[str]", "['a', 'b']"),
    (frozenset({2, 1}), "frozenset[int]", "[1, 2]"),
    ({"b", "a"}, "list[str]", "['a', 'b']"),
    ((1, "x"), "tuple[int, str]", "(1, 'x')"),
    ((1, 2), "Point", "Point(x=1, y=2.0)"),
    (Path("a/b"), "Path", "PosixPath('a/b')"),
    (Colour.RED, "Colour", "<Colour.RED: 'red'>"),
    (Decimal("1.10"), "Decimal", "Decimal('1.10')"),
    (Decimal("0.5"), "float", "0.5"),
    (UUID(int=1), "UUID", "UUID('00000000-0000-0000-0000-000000000001')"),
    (b"\xc3\xa9", "bytes", r"b'\xc3\xa9'"),
    (np.float64(0.1), "float", "0.1"),
    (np.float32(0.1), "float", "0.10000000149011612"),
    (np.int64(7), "int", "7"),
    (np.bool_(True), "bool", "True"),
    (Options(day=date(2026, 1, 2), tags={"b"}), "Options", "Options(day=datetime.date(2026, 1, 2), tags={'b'})"),
    (TableSchema(columns={"b": "String", "a": "String"}), "TableSchema", "TableSchema(columns={'b': 'String', 'a': 'String'}, required=(), non_finite='refuse')"),
    ({2: 0.5, 1: 1}, "dict[int, float]", "{2: 0.5, 1: 1.0}"),
    ({True: 1, False: 2}, "dict[bool, int]", "{True: 1, False: 2}"),
    ({date(2026, 1, 2): None}, "dict[datetime.date, Any]", "{datetime.date(2026, 1, 2): None}"),
    ({"b": 1, "a": [1.0, 2]}, "dict[str, Any]", "{'b': 1, 'a': [1.0, 2]}"),
    (1e-7, "float", "1e-07"),
    (1e22, "float", "1e+22"),
    (1e-7, "Any", "1e-07"),
    (2**70, "int", "1180591620717411303424"),
    ("a\x85b\u2028c", "str", r"'a\x85b\u2028c'"),
    ("1e-7", "str", "'1e-7'"),
    (None, "int | None = 5", "None"),
    (date(2026, 1, 2), "str", "'2026-01-02'"),
]  # fmt: skip


@pytest.fixture
def show(load: Load, platform: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """Runs the step in the runtime on what one of three tasks gives it."""

    def show(value: Any, annotation: str, way: str) -> tuple[StepSpec, Callable[[StepSpec], StepResult]]:
        folder = platform / "dags/support"
        name = f"shows_{abs(hash(request.node.nodeid))}"
        (folder / f"{name}.py").write_text(STEP.replace("ANNOTATION", annotation))
        module = ModuleType("value_of_test")
        module.VALUE = value  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "value_of_test", module)
        dag = load(DAG.replace("STEP", name)).dag
        task = dag.get_task(way)
        if way == "mapped":
            task = task.unmap({"parameters": {"value": value}})
        task.render_template_fields({"given": value}, dag.get_template_env())

        def run(spec: StepSpec) -> StepResult:
            written = platform / "spec.json"
            written.write_text(spec.model_dump_json(), encoding="utf-8")
            return run_step(StepSpec.from_yaml(written))

        return task.step_spec(), run

    return show


@pytest.mark.parametrize(("value", "annotation", "seen"), CASES)
def test_a_step_gets_the_given_value_and_its_operator_finds_the_cached_result(
    show: Any, tmp_path: Path, value: Any, annotation: str, seen: str
) -> None:
    results = []
    for way in ("literal", "template", "mapped"):
        spec, run = show(value, annotation, way)
        result = run(spec)
        assert result.exit_code == 0, result.message
        store = Store(spec.store, spec.team)
        manifest = store.manifest(result.key)
        assert manifest is not None
        shown = json.loads(store.read(manifest.outputs["result"]))["value"]
        if not (way == "template" and annotation == "str" and isinstance(value, date)):  # a template makes text of it
            assert shown == seen, way
            results.append(result)
        assert look_up(spec, store, tmp_path).manifest is not None
    assert [result.cached for result in results] == [False, True, True][: len(results)]


@pytest.mark.parametrize("way", ["literal", "template", "mapped"])
@pytest.mark.parametrize(
    ("value", "what"),
    [
        (float("nan"), "parameter 'value' of step .*:show is nan, which JSON does not have"),
        ({"a": [float("inf")]}, r"parameter 'value\.a\[0\]' of step .*:show is inf"),
        (b"\xff", "parameter 'value' of step .*:show is .*, which is not"),
        (object(), "parameter 'value' of step .*:show is a object"),
        ({1: 1, "1": 2}, "parameter 'value' of step .*:show has two keys that JSON writes as '1'"),
    ],
)
def test_a_value_that_json_cannot_represent_fails_without_a_retry(show: Any, way: str, value: Any, what: str) -> None:
    with pytest.raises(SpecError, match=what):
        show(value, "Any", way)


@pytest.mark.parametrize("given", [[1], None, "x"])
def test_parameters_from_another_task_must_be_a_mapping(load: Load, platform: Path, given: Any) -> None:
    (platform / "dags/support/shows.py").write_text(STEP.replace("ANNOTATION", "int"))
    source = DAG.partition("from value_of_test")[0] + (
        "@task\ndef gives(): ...\n"
        "with TeamDag('d') as dag:\n    StepOperator(task_id='s', function='shows:show', parameters=gives())\n"
    )
    task = load(source).dag.get_task("s")
    task.parameters = cast(task.parameters, given, {"value": int})
    with pytest.raises(SpecError, match="params: expected a mapping of names to values"):
        task.step_spec()
