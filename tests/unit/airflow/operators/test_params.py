"""The first step validates a run's params and names each wrong field, before any work is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from airflow.exceptions import AirflowClusterPolicyViolation
from airflow.sdk.exceptions import AirflowFailException

from kommuna.airflow.admission.policies import dag_policy
from kommuna.airflow.operators.failures import StepFailed

Load = Callable[..., ModuleType]
CHAIN = """
from kommuna.airflow import weak_supervision_dag
dag = weak_supervision_dag("c", model="m", columns={"id": "String", "text": "String"}, rules="r.yaml" OPTIONS)
"""
FORM: dict[str, Any] = {
    "messages": "store://m.csv", "rules": "r.yaml", "since": None, "label_model": "kommuna",
    "classifier": "tfidf_logreg", "encoder": "auto", "min_confidence": 0.0, "gate": "f1_macro >= 0.7",
}  # fmt: skip


class Ran(Exception):
    """The step was about to be run."""


@pytest.fixture
def begin(load: Load, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def begin(task_id: str, **params: Any) -> None:
        task = load(CHAIN.replace("OPTIONS", "")).dag.get_task(task_id)

        def ran(*_: object, **__: object) -> None:
            raise Ran

        monkeypatch.setattr(type(task), "step_spec", ran)
        task.execute({"params": FORM | params, "run_id": "r"})

    return begin


@pytest.mark.parametrize(
    ("params", "what"),
    [
        ({"gate": "f1_macr >= 0.7 and"}, r"params\.gate = 'f1_macr >= 0\.7 and': the gate cannot be read .*'promote'"),
        ({"gate": "f1_macr >= 0.7"}, r"params\.gate = .*unknown metric 'f1_macr' \(did you mean 'f1_macro'\?\)"),
        ({"min_confidence": 7}, r"params\.min_confidence = 7: expected a number of at most 1.*'train'"),
        ({"label_model": "komuna"}, r"params\.label_model = 'komuna': expected one of 'kommuna', .*'label'"),
        ({"since": "yesterday"}, r"params\.since = 'yesterday': expected a date, as in"),
    ],
)
def test_a_params_mistake_fails_the_first_step_and_names_the_field(
    begin: Callable[..., None], params: dict[str, Any], what: str
) -> None:
    with pytest.raises(AirflowFailException, match=what):
        begin("read_messages", **params)


def test_all_mistakes_are_reported_at_once(begin: Callable[..., None]) -> None:
    with pytest.raises(StepFailed) as caught:
        begin("read_dev", gate="x", min_confidence=-1)
    assert [type(error).__name__ for error in caught.value.errors] == ["SpecError", "SpecError"]
    assert [line.partition(" = ")[0] for line in str(caught.value).splitlines()[::2]] == [
        "params.min_confidence", "params.gate",
    ]  # fmt: skip


def test_later_steps_do_not_validate_again_and_valid_params_pass(begin: Callable[..., None]) -> None:
    with pytest.raises(Ran):
        begin("vote", gate="x")
    with pytest.raises(Ran):
        begin("read_messages", since="2026-09-01", gate="f1_macro >= 0.7 and f1_macro >= champion.f1_macro")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (', gate="f1_macro >= 0.7 and"', "params.gate = 'f1_macro >= 0.7 and': the gate cannot be read"),
        (', label_model="komuna"', "params.label_model: the default does not fit its schema: 'komuna' is not one of"),
        (", min_confidence=7", "params.min_confidence: the default does not fit its schema: 7 is greater than"),
    ],
)
def test_a_default_that_would_fail_a_run_is_an_import_error(load: Load, options: str, what: str) -> None:
    dag = load(CHAIN.replace("OPTIONS", options)).dag
    with pytest.raises(AirflowClusterPolicyViolation) as caught:
        dag_policy(dag)
    assert str(caught.value).startswith(what)


def test_a_default_that_the_form_fills_in_is_not_an_import_error(load: Load, platform: Path) -> None:
    assert platform.is_dir()
    source = (
        "from airflow.sdk import Param\nfrom kommuna.airflow import *\n"
        "with TeamDag('d', params={'day': Param(None, type='string'), 'n': Param(type='integer')}) as dag:\n"
        "    StepOperator(task_id='s', function='a:b', parameters={'day': '{{ params.day }}'})\n"
    )
    dag_policy(load(source).dag)
