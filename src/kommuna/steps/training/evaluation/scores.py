"""`Scores`: the metrics of a tagger on gold, and their formulas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kommuna.spec.base import Spec
from kommuna.steps.statistics import TagCounts, bootstrap, calibration_bins, interval
from kommuna.steps.training.fit.soft_logistic import Matrix

Chosen = NDArray[np.bool_]
TARGET = 0.95  # precision at which tags are accepted unseen
_DRAWS = 1000  # of the bootstrap
_POINTS = 100  # of the curve of operating points, at most


class TagScore(Spec):
    """One tag on gold."""

    tag: str
    rows: int = Field(description="Gold rows that have the tag.")
    precision: float
    recall: float
    f1: float
    f1_low: float | None = Field(None, description="Lower end of the 95 % interval of F1, by the bootstrap.")
    f1_high: float | None = None
    never_seen: bool = Field(False, description="True where no training row had the tag.")
    automatic: float | None = Field(
        None, description=f"Share of the rows given the tag that can be accepted unseen at {TARGET:.0%} precision."
    )


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
    text: str = Field(description="The message, or of a table the row's features.")
    truth: str = Field(description="Several tags are separated by `|`; empty where the row has none.")
    given: str
    confidence: float
    words: tuple[tuple[str, float], ...] = Field(
        description="What each word adds to the given tag, the strongest first."
    )
    rules: tuple[tuple[str, str], ...] = Field((), description="The rules that voted, with their votes.")


class Comparison(Spec):
    """The model less another on the same gold rows: differences with their 95 % intervals, by the paired bootstrap."""

    name: str = Field(description="As in the metrics: `champion`, `baseline.label_model`, …")
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    f1_macro: float
    f1_macro_low: float
    f1_macro_high: float


class Operating(Spec):
    """Accepting what the model is surest of: how much that is, and how often it is right."""

    confidence: float = Field(description="The least confidence that is accepted.")
    coverage: float = Field(description="Share of all rows, or where rows have several tags of all tags given.")
    precision: float


class Scores(Spec):
    """How well a tagger does on gold."""

    rows: int
    several_tags: bool
    metrics: dict[str, float] = Field(description="Flat, with dotted names: what gates are written over.")
    per_tag: tuple[TagScore, ...]
    confusions: tuple[Confusion, ...] = Field(description="Most frequent first.")
    reliability: tuple[Bin, ...]
    comparisons: tuple[Comparison, ...] = ()
    operating: tuple[Operating, ...] = Field((), description="From the surest rows alone to all of them.")
    automatic: Operating | None = Field(None, description=f"The most coverage at {TARGET:.0%} precision.")


def quality(truth: Chosen, chosen: Chosen, *, several: bool) -> dict[str, float]:
    """Accuracy and F1 of predictions.

    Macro figures are means over the tags that gold has or the model gives (`TagCounts.macro`).

    Args:
        truth: `n x k`.
        chosen: `n x k`; a row without a tag is wrong unless gold has none either.
        several: whether a row may have several tags; adds f1_micro (accuracy is then that of the whole set of tags).
    """
    counts = TagCounts.of(chosen, truth)
    found = {
        "accuracy": float((truth == chosen).all(axis=1).mean()),
        "precision_macro": float(counts.macro(counts.precision)),
        "recall_macro": float(counts.macro(counts.recall)),
        "f1_macro": float(counts.macro(counts.f1)),
    }
    if several:
        found["f1_micro"] = counts.micro_f1
    return found


@dataclass(frozen=True)
class Resampled:
    """Figures in each of b bootstrap draws of the gold rows; draws of two models on the same rows are paired.

    Attributes:
        accuracy: b.
        f1_macro: b.
        f1: b x k.
    """

    accuracy: NDArray[np.float64]
    f1_macro: NDArray[np.float64]
    f1: NDArray[np.float64]


def resampled(truth: Chosen, chosen: Chosen, *, seed: int = 0) -> Resampled:
    """Draws bootstrap samples of the gold rows.

    Args:
        truth: `n x k`.
        chosen: `n x k`.
        seed: of the draws.
    """
    right = (truth == chosen).all(axis=1)
    accuracy, f1_macro, f1 = [], [], []
    for drawn in bootstrap(len(truth), draws=_DRAWS, seed=seed):
        counts = TagCounts.of(chosen, truth, drawn)
        accuracy.append(drawn @ right / np.maximum(drawn.sum(axis=1), 1))
        f1_macro.append(counts.macro(counts.f1))
        f1.append(counts.f1)
    return Resampled(np.concatenate(accuracy), np.concatenate(f1_macro), np.concatenate(f1))


def comparison(name: str, ours: Resampled, theirs: Resampled, metrics: dict[str, float]) -> Comparison:
    """Compares the model with another, whose metrics have its name as a prefix."""
    accuracy, f1 = interval(ours.accuracy - theirs.accuracy), interval(ours.f1_macro - theirs.f1_macro)
    return Comparison(
        name=name,
        accuracy=metrics["accuracy"] - metrics[f"{name}.accuracy"],
        accuracy_low=accuracy[0],
        accuracy_high=accuracy[1],
        f1_macro=metrics["f1_macro"] - metrics[f"{name}.f1_macro"],
        f1_macro_low=f1[0],
        f1_macro_high=f1[1],
    )


def operating_points(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> tuple[Operating, ...]:
    """What is accepted from each confidence on, the surest first; equal confidences are accepted together.

    Args:
        confidence: n, of a tag that is given.
        right: n, whether it is right.
    """
    order = np.argsort(-confidence, kind="stable")
    sure = confidence[order]
    last = np.flatnonzero(np.diff(sure, append=-1.0))  # the last of each run of equals
    rights = np.cumsum(right[order])[last]
    return tuple(
        Operating(confidence=float(sure[i]), coverage=float((i + 1) / len(sure)), precision=float(r / (i + 1)))
        for i, r in zip(last, rights, strict=True)
    )


def automatic(points: tuple[Operating, ...]) -> Operating | None:
    """The operating point of most coverage whose precision is `TARGET` or more."""
    return max((p for p in points if p.precision >= TARGET), key=lambda p: p.coverage, default=None)


def thinned(points: tuple[Operating, ...]) -> tuple[Operating, ...]:
    """Some `_POINTS` of them, the last among them."""
    step = max(1, len(points) // _POINTS)
    return points[::-1][::step][::-1]


def answers(truth: Chosen, p: Matrix, *, several: bool) -> tuple[NDArray[np.float32], Chosen]:
    """What was answered with which confidence, and whether it was right.

    Args:
        truth: `n x k`.
        p: `n x k` probabilities.
        several: every probability is an answer; else that of the row's likeliest tag.
    """
    if several:
        return p.ravel(), truth.ravel()
    best = p.argmax(axis=1)
    return p[np.arange(len(p)), best], truth[np.arange(len(p)), best]


def reliability(confidence: NDArray[np.floating], right: Chosen) -> tuple[Bin, ...]:
    """The bins of `calibration_bins`."""
    bins = zip(*calibration_bins(confidence, right), strict=True)
    return tuple(Bin(confidence=float(sure), right=float(share), rows=int(rows)) for sure, share, rows in bins)


def confusions(truth: Chosen, chosen: Chosen, tags: tuple[str, ...], *, most: int = 200) -> tuple[Confusion, ...]:
    """Pairs of a missed tag and one given in its place, by rows."""
    missed, wrong = (truth & ~chosen).astype(np.float32), (chosen & ~truth).astype(np.float32)
    counts = (missed.T @ wrong).astype(int)
    pairs = sorted(zip(*np.nonzero(counts), strict=True), key=lambda ij: (-counts[ij], ij))
    return tuple(Confusion(truth=tags[i], given=tags[j], rows=int(counts[i, j])) for i, j in pairs[:most])
