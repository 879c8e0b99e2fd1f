"""Step: promotes a model version to champion if it passes the gate."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import structlog
from pydantic import Field

from kommuna.errors import SpecError
from kommuna.spec.base import Spec
from kommuna.spec.caching import step
from kommuna.spec.gate import COMPARED, Gate, GateExpression, Verdict
from kommuna.spec.step import ALONE, StepContext
from kommuna.steps.registry import model_version as tags
from kommuna.steps.registry.client import Registry
from kommuna.steps.registry.model_version import ModelVersion
from kommuna.steps.registry.moving import Mover, only_mover
from kommuna.steps.registry.standing import Standing
from kommuna.steps.training.evaluation.scores import Scores

log = structlog.get_logger()

Outcome = Literal["promoted", "champion already", "refused", "pinned", "stale"]


class Promotion(Spec):
    """The decision on a version."""

    promoted: bool = Field(description="Whether the version is now the champion.")
    outcome: Outcome = Field(
        "refused",
        description="`refused`: by the gate. `pinned`: a person decided. `stale`: the scores are not about the version "
        "and today's champion.",
    )
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
def promote(
    version: ModelVersion,
    scores: Scores,
    *,
    gate: GateExpression,
    context: StepContext = ALONE,
    registry: Registry,
) -> Promoted:
    """Gives a version the alias `champion` if the gate holds; a version that has the alias keeps it.

    The alias moves only if today's champion is the one that the scores compare with, and if no person has pinned or
    moved it. The decision is written to the version's tags. Over all DAGs one change happens at a time.

    Args:
        version: the registered version.
        scores: its evaluation, with the champion of that time as a baseline.
        gate: an expression over the metrics, see `kommuna.spec.gate`.
        context: the run of the step; the version's tags name it and the evaluation.
        registry: the team's registry.

    Returns:
        promotion: whether the version is now the champion, and why.
        links: `MLflow model`.
        metrics: promoted, missed (number of failed comparisons).

    Raises:
        GateError: the gate cannot be read, or names an unknown metric.
        SpecError: the version does not exist any more.
        RegistryError: MLflow is unreachable or refuses the request, or another change takes too long.
    """
    verdict = verdict_of(gate, scores)
    by = f"the gate of {context.dag_id or context.team}" + (f", run {context.run_id}" if context.run_id else "")
    with only_mover(registry, version.name, by=by) as mover:
        present = registry.version(version.name, version.version)
        if present is None:
            raise SpecError(
                f"version {version.version} of '{version.name}' is not in the registry any more",
                fix="clear the task that registers it, so that it is registered again",
            )
        before = mover.standing.version
        outcome, reason = _decision(present, scores, mover.standing, verdict, registry)
        if outcome == "promoted":
            mover.move(present, by=by, action="promoted", reason=reason)
        if outcome != "champion already":
            registry.set_version_tags(present, _about(outcome, reason, gate, scores, context, registry, by))
            _unmark_former(registry, mover, outcome)
    promoted = outcome in ("promoted", "champion already")
    missed = verdict.missed if outcome == "refused" else ()
    log.info(
        "model.promoted" if promoted else "model.refused", name=version.name, version=version.version, reason=reason
    )
    result = Promotion(
        promoted=promoted,
        outcome=outcome,
        reason=reason,
        missed=missed,
        gate=gate,
        name=version.name,
        version=version.version,
        before=before,
        url=version.url,
    )
    return Promoted(result, {"MLflow model": version.url}, {"promoted": float(promoted), "missed": float(len(missed))})


def verdict_of(gate: str, scores: Scores) -> Verdict:
    """Returns the verdict of a gate and of its guard: no tag may certainly fall below the champion.

    A gate that says itself how far tags may fall (`f1.fees`, `max_drop(f1.*)`, `tags_fallen`) is judged alone.
    """
    parsed = Gate(gate)
    verdict = parsed.judge(scores.figures())
    falls = () if parsed.names_tags else tuple(tag.fall for tag in scores.fallen)
    return Verdict(holds=False, missed=(*falls, *verdict.missed)) if falls else verdict


def _decision(
    version: ModelVersion, scores: Scores, standing: Standing, verdict: Verdict, registry: Registry
) -> tuple[Outcome, str]:
    """Returns the decision on a version and its reason, from what the registry says now."""
    if standing.version == version.version:
        return "champion already", f"version {version.version} is the champion already"
    if held := standing.held():
        return "pinned", held
    if stale := _stale(version, scores, standing) or _on_former_gold(version, scores, registry):
        return "stale", stale
    return ("promoted" if verdict.holds else "refused"), verdict.reason


def _stale(version: ModelVersion, scores: Scores, standing: Standing) -> str:
    """Why the scores decide nothing about a version and today's champion, in words; empty if they do."""
    again = "clear the evaluation and what follows it, so that the two are compared"
    if version.stage == "Archived":
        return f"version {version.version} is archived in MLflow; take it out of the archive, then clear this task"
    champion, of = standing.champion, scores.compared
    if of is not None and version.model_digest and of.model != version.model_digest:
        return f"the scores are of another model than version {version.version}; evaluate the model that is registered"
    if champion is None:
        if of is None or not of.champion:
            return ""
        return f"the scores compare with a champion, and '{standing.name}' has none any more; {again}"
    if of is None:
        return f"the scores do not say which champion they compare with, and version {champion.version} is it; {again}"
    if not of.champion:
        return f"the scores compare with no champion, and version {champion.version} is it now; {again}"
    if of.champion != champion.identity:
        return f"the scores compare with another champion than version {champion.version}, which it is now; {again}"
    return ""


def _on_former_gold(version: ModelVersion, scores: Scores, registry: Registry) -> str:
    """Why an old run's scores are about former gold rows, in words; empty if no later version was judged on others."""
    gold = scores.compared.gold if scores.compared else ""
    later = {n: found[tags.GOLD] for n, found in registry.newer_tags(version).items() if tags.GOLD in found}
    if not gold or not later or later[max(later)] == gold:
        return ""
    return f"version {max(later)} was judged on other gold rows since; clear the tasks from reading gold on"


def _about(
    outcome: str, reason: str, gate: str, scores: Scores, context: StepContext, registry: Registry, by: str
) -> dict[str, str]:
    """Returns the tags that a version gets with the decision."""
    named = {name: scores.metrics.get(name) for one in COMPARED for name in (one, f"champion.{one}")}
    named["worst_tag.f1"] = scores.metrics.get("worst_tag.f1")
    figures = {name: round(value, 4) for name, value in named.items() if value is not None}
    evaluation, of = context.manifests.get("scores", ""), scores.compared
    return {
        tags.VERDICT: outcome,
        tags.REASON: reason,
        tags.GATE: gate,
        tags.FIGURES: json.dumps(figures),
        tags.GOLD: of.gold if of else "",
        tags.DEV: of.dev if of else "",
        tags.MESSAGES: of.messages if of else "",
        tags.EVALUATION: evaluation,
        tags.REPORT: registry.report_url(context.dag_id, evaluation) if evaluation else "",
        tags.DECIDED_BY: by,
        tags.DECIDED_AT: f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
    }


def _unmark_former(registry: Registry, mover: Mover, outcome: str) -> None:
    """Changes the former champion's verdict, so that only one version of a model reads as promoted."""
    former = mover.standing.champion
    if outcome == "promoted" and former is not None:
        registry.set_version_tags(former, {tags.VERDICT: "replaced"})
