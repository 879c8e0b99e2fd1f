"""Votes on which label models have lost to counting: overlaps, few rules for a frequent tag, one-sided errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.labeling.votes.patterns import Codes

Truth = NDArray[np.int64]
Floats = NDArray[np.float64]
Range = tuple[float, float]


@dataclass(frozen=True)
class HardVotes:
    """A construction: `draw(random, rows)` returns n x m votes and the n true tags."""

    tags: int
    rows: int
    draw: Callable[[np.random.Generator, int], tuple[Codes, Truth]]


def hard_votes() -> dict[str, HardVotes]:
    """Returns the constructions by name; without dev rows, votes alone do not tell their ties."""
    made = {}
    for share in (0.9, 0.5, 0.2):
        made[f"rules of one tag fire on {share} of the rows of the frequent tag's"] = HardVotes(
            10, 2000, lambda random, rows, share=share: _overlapping(random, rows, share)
        )
    for tags, frequent in ((2, 0.9), (5, 0.9), (20, 0.6)):
        made[f"2 rules for the frequent tag of {tags}, 30 for each other"] = HardVotes(
            tags,
            1000,
            lambda random, rows, k=tags, p=frequent: one_sided(random, rows, _shares(k, p), [2] + [30] * (k - 1)),
        )
    for tags, rules in ((10, 3), (10, 5), (50, 5)):
        made[f"errors of {rules} rules go to one of {tags} tags"] = HardVotes(
            tags, 2000, lambda random, rows, k=tags, m=rules: _common_error(random, rows, k, m)
        )
    made["40 % of the rules are adversarial"] = HardVotes(
        2, 2000, lambda random, rows: one_sided(random, rows, _shares(2, 0.9), [10, 10], adversarial=0.4)
    )
    return made


def few_rows_per_tag(tags: int) -> HardVotes:
    """Three rules per tag, one tag of 60 %, and messages of different length: few dev rows know few tags."""
    return HardVotes(
        tags,
        1000,
        lambda random, rows: one_sided(
            random, rows, _shares(tags, 0.6), [3] * tags, recall=(0.3, 0.9), precision=(0.5, 0.95), length=1.0
        ),
    )


def one_sided(
    random: np.random.Generator,
    rows: int,
    shares: Floats,
    rules: Sequence[int],
    *,
    precision: Range = (0.5, 0.95),
    recall: Range = (0.1, 0.5),
    adversarial: float = 0.0,
    length: float = 0.0,
) -> tuple[Codes, Truth]:
    """Rules for one tag each, with a precision and a recall; an adversarial rule has a precision of .05 to .3.

    Args:
        random: the generator.
        rows: n.
        shares: k, the tags' shares.
        rules: k, the number of rules for each tag.
        precision: the range of precisions, where a tag is frequent enough.
        recall: the range of recalls.
        adversarial: the share of adversarial rules.
        length: how much messages differ in length, the standard deviation of its logarithm.
    """
    truth = random.choice(len(shares), rows, p=shares)
    tag = np.repeat(np.arange(len(shares)), rules)
    right = np.where(
        random.random(len(tag)) < adversarial, random.uniform(0.05, 0.3, len(tag)), random.uniform(*precision, len(tag))
    )
    own = random.uniform(*recall, len(tag))
    other = np.minimum(own * shares[tag] * (1 - right) / right / (1 - shares[tag]), 0.9)
    rate = np.where(truth[:, None] == tag, own, other) * np.exp(random.normal(0, length, (rows, 1)))
    fires = random.random(rate.shape) < np.minimum(rate, 0.98)
    return np.where(fires, tag, -1).astype(np.int16), truth


def _shares(tags: int, frequent: float) -> Floats:
    return np.append(frequent, np.full(tags - 1, (1 - frequent) / (tags - 1)))


def _overlapping(random: np.random.Generator, rows: int, share: float) -> tuple[Codes, Truth]:
    votes, truth = one_sided(random, rows, _shares(10, 0.9), [10] * 10, precision=(0.6, 0.9), recall=(0.1, 0.4))
    also = (votes[:, :10] >= 0) & (random.random((rows, 10)) < share)
    votes[:, 10:20][also] = 1
    return votes, truth


def _common_error(random: np.random.Generator, rows: int, tags: int, rules: int) -> tuple[Codes, Truth]:
    """Rules for any tag; wrong votes are for the first tag, or for any where the first is right."""
    truth = random.integers(0, tags, rows)
    wrong = np.where(truth[:, None] == 0, random.integers(1, tags, (rows, rules)), 0)
    votes = np.where(random.random((rows, rules)) < random.uniform(0.6, 0.8, rules), truth[:, None], wrong)
    return np.where(random.random(votes.shape) < random.uniform(0.2, 1, rules), votes, -1).astype(np.int16), truth
