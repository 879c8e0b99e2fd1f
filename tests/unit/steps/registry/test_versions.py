"""The registry's steps write to MLflow what is recorded for their version."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.recorded.results import RecordedFile, plain
from tests.recorded.training import NEW, linear_model

from kommuna.spec.step import StepContext
from kommuna.spec.versions import VERSIONS
from kommuna.steps.registry.client import Registry
from kommuna.steps.registry.promote import promote
from kommuna.steps.registry.register import register
from kommuna.steps.training.evaluation.scores import Compared, Scores

DECIDED = {f"kommuna.{name}" for name in ("verdict", "reason", "gate", "figures", "gold", "decided_by")}
RECORDED = RecordedFile(Path(__file__).parent.with_name("recorded.json"))


@pytest.fixture
def registry(mlflow_server: str) -> Registry:
    return Registry(mlflow_server, "support")


def scores(f1_macro: float) -> Scores:
    metrics = {"accuracy": 0.8, "f1_macro": f1_macro, "champion.f1_macro": 0.75}
    return Scores(rows=100, multi_label=False, metrics=metrics, per_tag=(), confusions=(), reliability=())


def registered(
    registry: Registry, name: str, *, digest: str = "1", f1_macro: float = 0.75, several: bool = False
) -> Any:
    context = StepContext(
        team="support", dag_id="support__topics", run_id="manual__1", task_id="register", key="a" * 64,
        inputs={"model": digest * 64, "sample": "6" * 64}, manifests={"model": "b" * 64},
    )  # fmt: skip
    model = linear_model(multi_label=several)
    table = NEW.filter(pl.col("text").is_not_null())
    return register(model, scores(f1_macro), table.lazy(), name=name, context=context, registry=registry)


def without_chance(value: Any, registry: Registry) -> Any:
    """Replaces run ids, the server's port and library versions, which differ each time."""
    if isinstance(value, dict):
        return {name: without_chance(part, registry) for name, part in value.items()}
    if isinstance(value, list):
        return [without_chance(part, registry) for part in value]
    if isinstance(value, str):
        named = value.replace(registry.url, "<mlflow>")
        return re.sub(r"\b[0-9a-f]{32}\b|(?<=experiments/)\d+|(?<!\w)m-[0-9a-f]{32}", "<id>", named)
    return value


def in_mlflow(registry: Registry, found: Any) -> dict[str, Any]:
    """Returns what the step wrote to MLflow."""
    with registry.session() as client:
        run = client.get_run(found.version.run_id)
        version = client.get_model_version(found.version.name, found.version.version)
        files = sorted(file.path for file in client.list_artifacts(found.version.run_id))
    own = {name: value for name, value in run.data.tags.items() if name.startswith("kommuna.")}
    named = {"run": run.info.run_name, "aliases": sorted(version.aliases), "files": files}
    tags = {name: value for name, value in version.tags.items() if name != "kommuna.experiment"}
    return named | {"params": run.data.params, "metrics": run.data.metrics, "tags": own, "version's tags": tags}


def test_register_gives_the_results_recorded_for_its_version(registry: Registry, record: bool) -> None:
    cases = {}
    for name, several in (("recorded_one", False), ("recorded_several", True)):
        found = registered(registry, name, several=several)
        result = plain(found._asdict() | {"mlflow": in_mlflow(registry, found)})
        result["version"]["tags"].pop("kommuna.experiment", None)
        cases[name] = without_chance(_sorted(result), registry)
    _compare("kommuna.steps:register", cases, record=record)


def test_promote_gives_the_results_recorded_for_its_version(registry: Registry, record: bool) -> None:
    gate = "f1_macro >= 0.7 and f1_macro >= champion.f1_macro - 0.01"
    cases = {}
    for case, digest, f1_macro, beside in (
        ("first", "1", 0.75, ""),
        ("refused", "2", 0.69, "1"),
        ("again", "1", 0.1, "1"),
        ("stale", "2", 0.9, ""),
        ("next", "2", 0.9, "1"),
    ):
        version = registered(registry, "recorded_gate", digest=digest, f1_macro=f1_macro).version
        compared = Compared(model=digest * 64, gold="9" * 64, champion=beside * 64)
        beside_champion = scores(f1_macro).model_copy(update={"compared": compared})
        found = plain(promote(version, beside_champion, gate=gate, registry=registry))
        champion = registry.by_alias("recorded_gate", "champion")
        judged = registry.version("recorded_gate", version.version)
        assert judged is not None
        tags = {name: value for name, value in judged.tags.items() if name in DECIDED}
        state = {"champion": champion.version if champion else None, "tags": dict(sorted(tags.items()))}
        cases[case] = without_chance(found | state, registry)
    _compare("kommuna.steps:promote", cases, record=record)


def _sorted(value: Any) -> Any:
    """MLflow keeps no order of tags."""
    return {name: _sorted(value[name]) for name in sorted(value)} if isinstance(value, dict) else value


def _compare(step: str, cases: dict[str, Any], *, record: bool) -> None:
    problem = RECORDED.fault(step, VERSIONS[step], cases, constant=f"STEPS['{step}']", record=record)
    assert not problem, problem
