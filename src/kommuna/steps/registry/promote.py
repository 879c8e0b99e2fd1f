"""Step: promotes a model version to champion if it passes the gate."""

from __future__ import annotations

from typing import NamedTuple

import structlog
from pydantic import Field

from kommuna.spec.base import Spec
from kommuna.spec.caching import step
from kommuna.spec.gate import Gate, GateExpression
from kommuna.steps.registry.client import CHAMPION, ModelVersion, Registry
from kommuna.steps.training.evaluation.scores import Scores

log = structlog.get_logger()


class Promotion(Spec):
    """The gate's decision on a version."""

    promoted: bool = Field(description="Whether the version is now the champion.")
    reason: str = Field(description="One line that explains the decision.")
    missed: tuple[str, ...] = Field((), description="Each comparison that failed, with its numbers.")
    gate: str = ""
    name: str = ""
    version: str = ""
    before: str = Field("", description="The previous champion's version; empty if there was none.")
    url: str = ""


class Promoted(NamedTuple):
    """Outputs of `promote`."""

    promotion: Promotion
    links: dict[str, str]
    metrics: dict[str, float]


@step(cacheable=False)
def promote(version: ModelVersion, scores: Scores, *, gate: GateExpression, registry: Registry) -> Promoted:
    """Gives a version the alias `champion` if the gate holds; a version that has the alias keeps it.

    Args:
        version: the registered version.
        scores: its evaluation, with the champion of that time as a baseline.
        gate: an expression over the metrics, see `kommuna.spec.gate`.
        registry: the team's registry.

    Returns:
        promotion: whether the version is now the champion, and why.
        links: `MLflow model`.
        metrics: promoted, missed (number of failed comparisons).

    Raises:
        GateError: the gate cannot be read, or names an unknown metric.
        RegistryError: MLflow is unreachable or refuses the request.
    """
    verdict = Gate(gate).judge(scores.metrics)
    champion = registry.by_alias(version.name, CHAMPION)
    before = champion.version if champion else ""
    if before == version.version:
        reason, promoted = f"version {before} is the champion already", True
    else:
        reason, promoted = verdict.reason, verdict.holds
        if promoted:
            registry.set_alias(version, CHAMPION)
    missed = verdict.missed if not promoted else ()
    log.info(
        "model.promoted" if promoted else "model.refused", name=version.name, version=version.version, reason=reason
    )
    result = Promotion(
        promoted=promoted,
        reason=reason,
        missed=missed,
        gate=gate,
        name=version.name,
        version=version.version,
        before=before,
        url=version.url,
    )
    return Promoted(result, {"MLflow model": version.url}, {"promoted": float(promoted), "missed": float(len(missed))})
