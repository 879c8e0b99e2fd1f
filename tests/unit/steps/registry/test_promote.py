"""Promotion: the version that passes the gate becomes the champion, if the scores are about today's champion."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.rigs.promotion import GATE, GOLD, add, champion_of, judged, scored

from kommuna.errors import GateError, RegistryError
from kommuna.steps.registry.client import Registry
from kommuna.steps.registry.model_version import ModelVersion
from kommuna.steps.registry.moving import Claim, only_mover
from kommuna.steps.registry.promote import promote
from kommuna.steps.registry.standing import CLAIM


@pytest.fixture
def registry(mlflow_server: str) -> Registry:
    return Registry(mlflow_server, "support", airflow_pages="https://airflow")


@pytest.fixture
def versions(registry: Registry, request) -> list[ModelVersion]:
    """Two versions of a model that only this test uses."""
    return [add(registry, request.node.name[:60], digest * 64) for digest in "12"]


def test_the_first_model_that_passes_the_gate_is_the_champion(versions: list[ModelVersion], registry: Registry) -> None:
    found = judged(registry, versions[0], None)
    assert (found.promoted, found.outcome, found.before) == (True, "promoted", "")
    assert "no champion yet" in found.reason
    assert champion_of(registry, found.name) == "1"


def test_a_refused_version_keeps_the_champion_and_names_the_failed_comparison(
    versions: list[ModelVersion], registry: Registry
) -> None:
    judged(registry, versions[0], None)
    found = promote(versions[1], scored(versions[1], versions[0], champion__f1_macro=0.8), gate=GATE, registry=registry)
    assert not found.promotion.promoted
    assert found.promotion.missed == ("f1_macro 0.75 < champion.f1_macro - 0.01 0.79",)
    assert "f1_macro 0.75 <" in found.promotion.reason
    assert found.metrics == {"promoted": 0.0, "missed": 1.0}
    assert champion_of(registry, versions[0].name) == "1"


def test_the_versions_tags_in_mlflow_say_what_was_decided_and_why(
    versions: list[ModelVersion], registry: Registry
) -> None:
    judged(registry, versions[0], None)
    judged(registry, versions[1], versions[0])
    first, second = (registry.version(versions[0].name, number) for number in "12")
    assert first is not None
    assert second is not None
    assert first.tags["kommuna.verdict"] == "replaced"
    assert second.tags["kommuna.verdict"] == "promoted"
    assert second.tags["kommuna.reason"] == "the gate holds"
    assert second.tags["kommuna.gate"] == GATE
    assert second.tags["kommuna.gold"] == GOLD
    assert (second.tags["kommuna.dev"], second.tags["kommuna.messages"]) == ("d" * 64, "a" * 64)
    assert second.tags["kommuna.evaluation"] == "e" * 64
    assert second.tags["kommuna.report"] == (
        f"https://airflow/kommuna/dags/support__topics/manifests/{'e' * 64}/outputs/report"
    )
    assert second.tags["kommuna.decided_by"] == "the gate of support__topics, run manual__1"
    assert json.loads(second.tags["kommuna.figures"])["champion.f1_macro"] == 0.7


def test_two_runs_at_once_promote_one_version_and_the_other_is_stale(
    versions: list[ModelVersion], registry: Registry
) -> None:
    """Both were evaluated when there was no champion."""
    more = [*versions, *(add(registry, versions[0].name, digest * 64) for digest in "34")]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(_in_own_process, [(registry.url, one.model_dump(mode="json")) for one in more]))
    assert sorted(found) == ["promoted", "stale", "stale", "stale"]


def _in_own_process(given: tuple[str, dict]) -> str:
    """Promotes in a process: MLflow's client keeps its workspace in the environment."""
    program = (
        "import json, sys\n"
        "from tests.rigs.promotion import *\n"
        "url, version = json.loads(sys.stdin.read())\n"
        "print(judged(Registry(url, 'support'), ModelVersion.read(version), None).outcome)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(given), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def test_a_champion_stays_the_champion(versions: list[ModelVersion], registry: Registry) -> None:
    judged(registry, versions[0], None)
    found = judged(registry, versions[0], None, f1_macro=0.1)
    assert (found.promoted, found.outcome) == (True, "champion already")
    assert "is the champion already" in found.reason


def test_a_bad_gate_promotes_nobody(versions: list[ModelVersion], registry: Registry) -> None:
    for gate, message in (("f1_macro >=", "cannot be read"), ("f1_marco > 0", "did you mean 'f1_macro'")):
        with pytest.raises(GateError, match=message):
            promote(versions[0], scored(versions[0], None), gate=gate, registry=registry)
    assert champion_of(registry, versions[0].name) == ""


def test_a_second_change_waits_for_the_first_and_ends_with_a_fault_if_that_takes_too_long(
    versions: list[ModelVersion], registry: Registry
) -> None:
    name = versions[0].name
    with (
        only_mover(registry, name, by="anna"),
        pytest.raises(RegistryError, match="anna is changing the champion"),
        only_mover(registry, name, by="bob", patience=0.5),
    ):
        raise AssertionError
    assert registry.standing(name).claims == {}


def test_the_claim_of_a_killed_holder_ends_and_what_it_had_begun_is_completed(
    versions: list[ModelVersion], registry: Registry
) -> None:
    """It was killed between the move of the alias and its record: that is no move by hand."""
    name = versions[0].name
    judged(registry, versions[0], None)
    left = Claim(by="a killed task", until=time.time() - 1, to="2")
    registry.set_model_tag(name, f"{CLAIM}0", left.model_dump_json())
    registry.set_alias(versions[1], "champion")
    assert registry.standing(name).moved_by_hand
    third = add(registry, name, "3" * 64)
    found = judged(registry, third, versions[1])
    assert found.outcome == "promoted"
    assert registry.standing(name).claims == {}
