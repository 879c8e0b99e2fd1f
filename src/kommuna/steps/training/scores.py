"""`Scores`: how well a tagger does on gold, as data; and the formulas behind it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kommuna.spec.base import Spec
from kommuna.steps.training.soft_logistic import Matrix

Chosen = NDArray[np.bool_]
BINS = 10
Z95 = 1.959964  # two-sided 95 % of the normal distribution


class TagScore(Spec):
    """One tag on gold."""

    tag: str
    rows: int = Field(description="Gold rows that have the tag.")
    precision: float
    recall: float
    f1: float
    never_seen: bool = Field(False, description="True where no training row had the tag.")


class Confusion(Spec):
    """Gold rows with one tag that were given another."""

    truth: str
    given: str
    rows: int


class Bin(Spec):
    """Predictions of like confidence."""

    confidence: float = Field(description="Mean confidence.")
    right: float = Field(description="Share that was right.")
    rows: int


class Mistake(Spec):
    """A gold row that the model is sure about and wrong."""

    key: str
    text: str
    truth: str = Field(description="Several tags are separated by `|`; empty where the row has none.")
    given: str
    confidence: float
    words: tuple[tuple[str, float], ...] = Field(description="What spoke for the given tag, the strongest first.")
    rules: tuple[tuple[str, str], ...] = Field((), description="The rules that spoke, and what they said.")


class Scores(Spec):
    """How well a tagger does on gold."""

    rows: int
    several_tags: bool
    metrics: dict[str, float] = Field(description="Flat, with dotted names: what gates are written over.")
    per_tag: tuple[TagScore, ...]
    confusions: tuple[Confusion, ...] = Field(description="Most frequent first.")
    reliability: tuple[Bin, ...]


def quality(truth: Chosen, chosen: Chosen, *, several: bool) -> dict[str, float]:
    """Accuracy and F1 of predictions.

    Macro figures are means over the tags that occur in gold, so that models are compared over the same tags.

    Args:
        truth: `n x k`.
        chosen: `n x k`; a row without a tag is wrong unless gold has none either.
        several: whether a row may have several tags; adds f1_micro (accuracy is then that of the whole set of tags).
    """
    per_tag = tag_figures(truth, chosen)
    present = truth.any(axis=0)
    mean = per_tag[:, present].mean(axis=1) if present.any() else np.zeros(3)
    found = {
        "accuracy": float((truth == chosen).all(axis=1).mean()),
        "precision_macro": float(mean[0]),
        "recall_macro": float(mean[1]),
        "f1_macro": float(mean[2]),
    }
    if several:
        found["f1_micro"] = float(2 * (truth & chosen).sum() / max(1, truth.sum() + chosen.sum()))
    return found


def tag_figures(truth: Chosen, chosen: Chosen) -> NDArray[np.float64]:
    """Precision, recall and F1 of each tag, `3 x k`; 0 where nothing was given or nothing is true."""
    right = (truth & chosen).sum(axis=0)
    given, true = chosen.sum(axis=0), truth.sum(axis=0)
    return np.stack(
        [right / np.maximum(given, 1), right / np.maximum(true, 1), 2 * right / np.maximum(given + true, 1)]
    )


def wilson(right: int, rows: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927).

    >>> tuple(round(x, 4) for x in wilson(81, 263))
    (0.2553, 0.3662)
    """
    if rows == 0:
        return 0.0, 1.0
    p, z2 = right / rows, Z95**2
    middle = (p + z2 / (2 * rows)) / (1 + z2 / rows)
    half = Z95 / (1 + z2 / rows) * math.sqrt(p * (1 - p) / rows + z2 / (4 * rows**2))
    # The bounds enclose the share itself; at 0 and 1 rounding would let it slip out.
    return max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half))


def reliability(truth: Chosen, p: Matrix, *, several: bool) -> tuple[Bin, ...]:
    """Ten bins of equal width of confidence, empty ones left out.

    Args:
        truth: `n x k`.
        p: `n x k` probabilities.
        several: every probability counts; else that of the row's likeliest tag.
    """
    if several:
        confidence, right = p.ravel(), truth.ravel()
    else:
        best = p.argmax(axis=1)
        confidence, right = p[np.arange(len(p)), best], truth[np.arange(len(p)), best]
    which = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return tuple(
        Bin(confidence=float(confidence[inside].mean()), right=float(right[inside].mean()), rows=int(inside.sum()))
        for inside in (which == b for b in range(BINS))
        if inside.any()
    )


def expected_calibration_error(bins: tuple[Bin, ...]) -> float:
    """Mean gap between confidence and accuracy over bins (Guo et al. 2017, arXiv:1706.04599, eq. 3)."""
    rows = sum(b.rows for b in bins)
    return sum(b.rows * abs(b.confidence - b.right) for b in bins) / max(1, rows)


def confusions(truth: Chosen, chosen: Chosen, tags: tuple[str, ...], *, most: int = 200) -> tuple[Confusion, ...]:
    """Pairs of a missed tag and one given in its place, by rows."""
    missed, wrong = (truth & ~chosen).astype(np.float32), (chosen & ~truth).astype(np.float32)
    counts = (missed.T @ wrong).astype(int)
    pairs = sorted(zip(*np.nonzero(counts), strict=True), key=lambda ij: (-counts[ij], ij))
    return tuple(Confusion(truth=tags[i], given=tags[j], rows=int(counts[i, j])) for i, j in pairs[:most])
