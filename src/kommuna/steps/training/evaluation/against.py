"""Compares a model with the champion: on the tags that both know, and tag by tag."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kommuna.spec.gate import SHARED
from kommuna.steps.statistics import TagCounts
from kommuna.steps.training.evaluation.scores import (
    ENOUGH_ROWS,
    Chosen,
    Comparison,
    Resampled,
    TagScore,
    comparison,
    falls,
    quality,
    resampled,
)


@dataclass(frozen=True)
class Against:
    """The comparison with the champion.

    Attributes:
        metrics: `champion.*`; where the champion lacks a tag of gold, also `shared.*`, the model's own metrics on the
            tags and rows that are compared.
        comparisons: one, or none if the champion knows no tag of gold.
    """

    metrics: dict[str, float]
    comparisons: tuple[Comparison, ...]


def champion(
    truth: Chosen, chosen: Chosen, predicted: Chosen, *, tags: tuple[str, ...], known: Collection[str], several: bool
) -> Against:
    """Compares a model with the champion.

    A champion cannot give a tag that it was not trained on. Where gold has such tags, it is compared without them: the
    rows of one tag without the rows of that tag, the rows of several tags without that tag.

    Args:
        truth: `n x k`.
        chosen: `n x k`, the model's tags.
        predicted: `n x k`, the champion's.
        tags: k names.
        known: the champion's tags.
        several: whether a row may have several tags.
    """
    knows = np.array([tag in known for tag in tags])
    lacking = tuple(tag for j, tag in enumerate(tags) if not knows[j] and truth[:, j].any())
    rows: NDArray[np.bool_] = np.ones(len(truth), dtype=np.bool_)
    if lacking:
        rows = rows if several else np.logical_not(truth[:, ~knows].max(axis=1))
        truth, chosen, predicted = (one[rows][:, knows] for one in (truth, chosen, predicted))
    if not truth.any():
        return Against({}, ())
    own, other = (quality(truth, one, several=several) for one in (chosen, predicted))
    found = comparison("champion", resampled(truth, chosen), resampled(truth, predicted), own, other)
    metrics = {f"champion.{name}": value for name, value in other.items()}
    if lacking:
        metrics |= {f"{SHARED}{name}": value for name, value in own.items()}
        found = found.model_copy(update={"without": lacking, "rows": int(rows.sum())})
    return Against(metrics, (found,))


def with_champion(
    per_tag: tuple[TagScore, ...], truth: Chosen, predicted: Chosen, drawn: Resampled, *, known: Collection[str]
) -> tuple[TagScore, ...]:
    """Adds the champion's F1 to each tag that both know, and the interval of the fall where gold has enough rows.

    Args:
        per_tag: k scores of the model.
        truth: `n x k`.
        predicted: `n x k`, the champion's tags.
        drawn: the model's figures in the draws.
        known: the champion's tags.
    """
    f1 = TagCounts.of(predicted, truth).f1
    compared = np.array([tag.tag in known and tag.rows > 0 for tag in per_tag])
    judged = compared & np.array([tag.rows >= ENOUGH_ROWS for tag in per_tag])
    low, high = falls(drawn, resampled(truth, predicted), f1 - np.array([tag.f1 for tag in per_tag]), judged)
    return tuple(
        tag.model_copy(
            update={
                "champion_f1": float(f1[j]) if compared[j] else None,
                "fall_low": float(low[j]) if judged[j] else None,
                "fall_high": float(high[j]) if judged[j] else None,
            }
        )
        for j, tag in enumerate(per_tag)
    )
