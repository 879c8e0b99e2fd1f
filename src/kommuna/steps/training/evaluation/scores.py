"""`Scores`: the metrics of a tagger on gold, and their formulas."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kommuna.spec.base import Spec
from kommuna.steps.statistics import TagCounts, bootstrap, calibration_bins, interval, wilson
from kommuna.steps.training.confidence import Acceptance

Chosen = NDArray[np.bool_]
TARGET = 0.95  # precision at which predictions are accepted without review
ENOUGH_ROWS = 20  # gold rows of a tag from which its fall below the champion is judged
_DRAWS = 1000  # of the bootstrap
_POINTS = 100  # of the curve of operating points, at most


class TagScore(Spec):
    """The metrics of one tag on gold."""

    tag: str
    rows: int = Field(description="Gold rows that have the tag.")
    precision: float
    recall: float
    f1: float
    f1_low: float | None = Field(None, description="Lower end of the 95 % interval of F1, by the bootstrap.")
    f1_high: float | None = None
    champion_f1: float | None = Field(None, description="The champion's F1; None if it lacks the tag or is absent.")
    fall_low: float | None = Field(
        None,
        description="Lower end of the interval of the champion's F1 minus this one; all judged tags are within theirs "
        "in 95 % of samples. None with too few gold rows.",
    )
    fall_high: float | None = None
    never_seen: bool = Field(False, description="True where no training row had the tag.")
    automatic: float | None = Field(
        None,
        description=f"Share of the rows given the tag that can be accepted without review at {TARGET:.0%} precision.",
    )

    @property
    def has_fallen(self) -> bool:
        """Whether the tag is certainly worse than with the champion."""
        return self.fall_low is not None and self.fall_low > 0

    @property
    def fall(self) -> str:
        """The fall below the champion, in words."""
        return (
            f"tag '{self.tag}' falls from {self.champion_f1:.3f} to {self.f1:.3f} on {self.rows} gold rows "
            f"(by {self.fall_low:.3f} to {self.fall_high:.3f})"
        )


class Confusion(Spec):
    """Gold rows with one tag that were given another."""

    truth: str
    given: str
    rows: int


class Bin(Spec):
    """A bin of predictions with similar confidence."""

    confidence: float = Field(description="Mean confidence.")
    right: float = Field(description="Share of right predictions.")
    rows: int


class Mistake(Spec):
    """A gold row with a wrong prediction of high confidence."""

    key: str
    text: str = Field(description="The message, or the row's features for a model of tables.")
    truth: str = Field(description="Several tags are separated by `|`; empty if the row has none.")
    given: str
    confidence: float
    words: tuple[tuple[str, float], ...] = Field(
        description="What each word adds to the given tag, the strongest first."
    )
    rules: tuple[tuple[str, str], ...] = Field((), description="The rules that voted, with their votes.")


class Comparison(Spec):
    """The model minus another on the same gold rows: differences with 95 % intervals, by the paired bootstrap."""

    name: str = Field(description="As in the metrics: `champion`, `baseline.label_model`, …")
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    f1_macro: float
    f1_macro_low: float
    f1_macro_high: float
    without: tuple[str, ...] = Field(
        (), description="Tags of gold that the other lacks: they and their rows are left out."
    )
    rows: int | None = Field(None, description="Compared rows, if some are left out.")


class Operating(Spec):
    """An operating point: predictions from a confidence on are accepted; their share and precision."""

    confidence: float = Field(description="The lowest accepted confidence.")
    coverage: float = Field(description="Accepted share of rows, or of predicted tags if rows have several.")
    precision: float


class SliceScore(Spec):
    """The metrics of a slice of gold: the rows for which a condition is true."""

    name: str
    condition: str
    rows: int
    accuracy: float | None = Field(description="None if no gold row is in the slice.")
    low: float = Field(description="Lower end of the 95 % interval of accuracy (Wilson).")
    high: float
    f1_macro: float | None
    champion_accuracy: float | None = Field(None, description="The champion's on the same rows.")

    @property
    def judged(self) -> bool:
        """Whether it has enough gold rows to be the worst slice."""
        return self.rows >= ENOUGH_ROWS


class Promise(Spec):
    """Tags that the model accepts without review: the precision wanted when it was trained, and that on gold."""

    wanted: float = Field(
        description="The share of right tags among those accepted that the threshold was learned for."
    )
    min_confidence: float | None = Field(description="Tags of this probability are accepted; None if none had it.")
    dev_coverage: float = Field(description="Accepted share of the tags predicted for held-out dev rows.")
    coverage: float = Field(description="Accepted share on gold: of rows, or of predicted tags if rows have several.")
    accepted: int = Field(description="Accepted tags on gold.")
    precision: float | None = Field(description="Share of them that is right; None if none is accepted.")
    low: float | None = Field(description="Lower end of its 95 % interval (Wilson).")
    high: float | None

    @property
    def kept(self) -> bool:
        """Whether gold does not contradict the promise."""
        return self.high is None or self.high >= self.wanted


class Compared(Spec):
    """What was evaluated, by content: a promotion holds only for these."""

    model: str = Field(description="Digest of the model.")
    gold: str = Field(description="Digest of the gold rows.")
    dev: str = Field("", description="Digest of the dev rows.")
    messages: str = Field("", description="Digest of the rows that trained the model.")
    champion: str = Field("", description="The champion's, as `identity_of`; empty without one, or if it is the model.")


class Scores(Spec):
    """The evaluation of a tagger on gold."""

    rows: int
    multi_label: bool
    metrics: dict[str, float] = Field(description="Flat, with dotted names; gates refer to them.")
    per_tag: tuple[TagScore, ...]
    confusions: tuple[Confusion, ...] = Field(description="Most frequent first.")
    reliability: tuple[Bin, ...]
    reliability_before: tuple[Bin, ...] = Field(
        (), description="Without the model's calibration; empty if it has none."
    )
    comparisons: tuple[Comparison, ...] = ()
    operating: tuple[Operating, ...] = Field((), description="From the most confident rows to all rows.")
    compared: Compared | None = Field(None, description="None where nothing knows it, as in a notebook.")
    automatic: Operating | None = Field(None, description=f"The most coverage at {TARGET:.0%} precision.")
    promise: Promise | None = Field(None, description="None if the model has learned no threshold.")
    slices: tuple[SliceScore, ...] = ()

    @property
    def fallen(self) -> tuple[TagScore, ...]:
        """Tags that are certainly worse than with the champion."""
        return tuple(tag for tag in self.per_tag if tag.has_fallen)

    def figures(self) -> dict[str, float]:
        """Returns everything that a gate may name: the metrics, and the figures of each tag and slice.

        A tag that gold lacks has no figures: they are NaN.
        """
        found = dict(self.metrics)
        for tag in self.per_tag:
            for name in ("f1", "precision", "recall"):
                found[f"{name}.{tag.tag}"] = getattr(tag, name) if tag.rows else math.nan
            if tag.champion_f1 is not None:
                found[f"champion.f1.{tag.tag}"] = tag.champion_f1
        for part in self.slices:
            found[f"accuracy.{part.name}"] = math.nan if part.accuracy is None else part.accuracy
            if part.champion_accuracy is not None:
                found[f"champion.accuracy.{part.name}"] = part.champion_accuracy
        for name in ("accepted_precision", "worst_slice.accuracy"):  # so that a gate over them does not hold
            found.setdefault(name, math.nan)
        return found


def quality(truth: Chosen, chosen: Chosen, *, several: bool) -> dict[str, float]:
    """Returns accuracy, precision, recall and F1 of predictions.

    Macro averages are over the tags that gold has or the model predicts (`TagCounts.macro`).

    Args:
        truth: `n x k`.
        chosen: `n x k`; a row without a tag is wrong unless gold has none either.
        several: whether a row may have several tags; accuracy is then of the whole set of tags, and f1_micro is added.
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
        seed: seed of the draws.
    """
    right = (truth == chosen).all(axis=1)
    accuracy, f1_macro, f1 = [], [], []
    for drawn in bootstrap(len(truth), draws=_DRAWS, seed=seed):
        counts = TagCounts.of(chosen, truth, drawn)
        accuracy.append(drawn @ right / np.maximum(drawn.sum(axis=1), 1))
        f1_macro.append(counts.macro(counts.f1))
        f1.append(counts.f1)
    return Resampled(np.concatenate(accuracy), np.concatenate(f1_macro), np.concatenate(f1))


def comparison(
    name: str, ours: Resampled, theirs: Resampled, own: Mapping[str, float], other: Mapping[str, float]
) -> Comparison:
    """Compares the model with another by their qualities on the same rows.

    Args:
        name: the other model's name, the prefix of its metrics.
        ours: the model's figures in each bootstrap draw.
        theirs: the other model's figures in the same draws.
        own: the model's qualities.
        other: the other model's.
    """
    accuracy, f1 = interval(ours.accuracy - theirs.accuracy), interval(ours.f1_macro - theirs.f1_macro)
    return Comparison(
        name=name,
        accuracy=own["accuracy"] - other["accuracy"],
        accuracy_low=accuracy[0],
        accuracy_high=accuracy[1],
        f1_macro=own["f1_macro"] - other["f1_macro"],
        f1_macro_low=f1[0],
        f1_macro_high=f1[1],
    )


def falls(
    ours: Resampled, theirs: Resampled, fall: NDArray[np.float64], judged: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns intervals of the tags' falls that hold all true falls in 95 % of samples.

    Among 50 tags that did not change, two or three separate intervals of 95 % would miss 0. So the level is divided by
    the number of tags (Bonferroni; Dunn 1961, "Multiple comparisons among means", J. Am. Stat. Assoc. 56). Such a level
    lies beyond the quantiles of 1,000 draws: they give the standard error, and the normal distribution the rest.

    Args:
        ours: the model's figures.
        theirs: the champion's, on the same draws.
        fall: `k`, the champion's F1 minus the model's.
        judged: `k`, the tags that both know and that have enough gold rows.
    """
    z = NormalDist().inv_cdf(1 - 0.025 / max(1, int(judged.sum())))
    half = z * (theirs.f1 - ours.f1).std(axis=0)
    return fall - half, fall + half


def operating_points(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> tuple[Operating, ...]:
    """Returns the operating point of each confidence, the highest first; equal confidences are accepted together.

    Args:
        confidence: n confidences of predicted tags.
        right: n, whether each tag is right.
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
    """Returns the operating point with the most coverage at a precision of `TARGET` or more."""
    return max((p for p in points if p.precision >= TARGET), key=lambda p: p.coverage, default=None)


def promise(
    acceptance: Acceptance | None, confidence: NDArray[np.floating], right: NDArray[np.bool_]
) -> Promise | None:
    """Returns what a model's threshold accepts of the tags predicted for gold rows.

    Args:
        acceptance: what the model learned.
        confidence: n probabilities of predicted tags.
        right: n, whether each tag is right.
    """
    if acceptance is None:
        return None
    least = acceptance.min_confidence
    kept = np.zeros(len(confidence), dtype=np.bool_) if least is None else confidence >= np.float32(least)
    accepted, rights = int(kept.sum()), int(right[kept].sum())
    low, high = wilson(rights, accepted) if accepted else (None, None)
    return Promise(
        wanted=acceptance.precision,
        min_confidence=least,
        dev_coverage=acceptance.coverage,
        coverage=accepted / max(len(confidence), 1),
        accepted=accepted,
        precision=rights / accepted if accepted else None,
        low=low,
        high=high,
    )


def thinned(points: tuple[Operating, ...]) -> tuple[Operating, ...]:
    """Returns about `_POINTS` of the operating points, including the last."""
    step = max(1, len(points) // _POINTS)
    return points[::-1][::step][::-1]


def reliability(confidence: NDArray[np.floating], right: Chosen) -> tuple[Bin, ...]:
    """Returns the bins of `calibration_bins`.

    Args:
        confidence: n confidences of predicted tags.
        right: n, whether each tag is right.
    """
    bins = zip(*calibration_bins(confidence, right), strict=True)
    return tuple(Bin(confidence=float(sure), right=float(share), rows=int(rows)) for sure, share, rows in bins)


def confusions(truth: Chosen, chosen: Chosen, tags: tuple[str, ...], *, most: int = 200) -> tuple[Confusion, ...]:
    """Returns pairs of a missed tag and a wrong tag in the same row, the most frequent first.

    Args:
        truth: `n x k`.
        chosen: `n x k`.
        tags: k names.
        most: the maximum number of pairs.
    """
    missed, wrong = (truth & ~chosen).astype(np.float32), (chosen & ~truth).astype(np.float32)
    counts = (missed.T @ wrong).astype(int)
    pairs = sorted(zip(*np.nonzero(counts), strict=True), key=lambda ij: (-counts[ij], ij))
    return tuple(Confusion(truth=tags[i], given=tags[j], rows=int(counts[i, j])) for i, j in pairs[:most])
