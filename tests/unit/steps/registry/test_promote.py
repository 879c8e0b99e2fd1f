"""Promotion: the version that passes the gate becomes the champion."""

from __future__ import annotations

import polars as pl
import pytest

from kommuna.errors import GateError
from kommuna.spec.step import StepContext
from kommuna.steps.registry.client import ModelVersion, Registry
from kommuna.steps.registry.promote import promote
from kommuna.steps.registry.register import register
from kommuna.steps.training.evaluation.scores import Scores
from kommuna.steps.training.tagger import Tagger

GATE = "f1_macro >= 0.7 and f1_macro >= champion.f1_macro - 0.01"


@pytest.fixture
def registry(mlflow_server: str) -> Registry:
    return Registry(mlflow_server, "support")


@pytest.fixture
def versions(registry: Registry, tagger: Tagger, scores: Scores, messages: pl.DataFrame, request) -> list[ModelVersion]:
    """Two versions of a model that only this test uses."""
    name = request.node.name[:60]
    found = []
    for digest in ("1" * 64, "2" * 64):
        context = StepContext(team="support", key="c" * 64, inputs={"model": digest}, manifests={"model": "b" * 64})
        found.append(register(tagger, scores, messages.lazy(), name=name, context=context, registry=registry).version)
    return found


def with_metrics(scores: Scores, **metrics: float) -> Scores:
    named = {name.replace("__", "."): value for name, value in metrics.items()}
    return scores.model_copy(update={"metrics": scores.metrics | named})


def test_the_first_model_that_passes_the_gate_is_the_champion(
    versions: list[ModelVersion], scores: Scores, registry: Registry
) -> None:
    found = promote(versions[0], scores, gate=GATE, registry=registry)
    assert found.promotion.promoted
    assert found.promotion.before == ""
    assert "no champion yet" in found.promotion.reason
    champion = registry.by_alias(versions[0].name, "champion")
    assert champion is not None
    assert champion.version == versions[0].version


def test_a_refused_version_keeps_the_champion_and_names_the_failed_comparison(
    versions: list[ModelVersion], scores: Scores, registry: Registry
) -> None:
    promote(versions[0], scores, gate=GATE, registry=registry)
    found = promote(versions[1], with_metrics(scores, champion__f1_macro=0.8), gate=GATE, registry=registry)
    assert not found.promotion.promoted
    assert found.promotion.missed == ("f1_macro 0.75 < champion.f1_macro - 0.01 0.79",)
    assert "f1_macro 0.75 <" in found.promotion.reason
    assert found.metrics == {"promoted": 0.0, "missed": 1.0}
    champion = registry.by_alias(versions[0].name, "champion")
    assert champion is not None
    assert champion.version == versions[0].version


def test_a_better_version_replaces_the_champion(
    versions: list[ModelVersion], scores: Scores, registry: Registry
) -> None:
    promote(versions[0], scores, gate=GATE, registry=registry)
    found = promote(versions[1], with_metrics(scores, champion__f1_macro=0.7), gate=GATE, registry=registry)
    assert found.promotion.before == versions[0].version
    champion = registry.by_alias(versions[1].name, "champion")
    assert champion is not None
    assert champion.version == versions[1].version


def test_a_champion_stays_the_champion(versions: list[ModelVersion], scores: Scores, registry: Registry) -> None:
    promote(versions[0], scores, gate=GATE, registry=registry)
    found = promote(versions[0], with_metrics(scores, f1_macro=0.1), gate=GATE, registry=registry)
    assert found.promotion.promoted
    assert "is the champion already" in found.promotion.reason


def test_a_bad_gate_promotes_nobody(versions: list[ModelVersion], scores: Scores, registry: Registry) -> None:
    for gate, message in (("f1_macro >=", "cannot be read"), ("f1_marco > 0", "did you mean 'f1_macro'")):
        with pytest.raises(GateError, match=message):
            promote(versions[0], scores, gate=gate, registry=registry)
    assert registry.by_alias(versions[0].name, "champion") is None
