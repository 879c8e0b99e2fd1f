"""A grid of synthetic votes on which no label model should do worse than counting the votes.

A point says how rare the rarest tag is, how many rules there are, whom they vote for and whether they copy one another;
a seed draws the rules' rates and the rows.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from itertools import product
from typing import Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.labeling.models.base import DevRows
from kommuna.steps.labeling.votes.patterns import ABSTAIN, Codes

DEV_ROWS = (0, 5, 20, 100, 1000)
COPIED = 0.9  # share of rows on which a copy votes as its original does
_LARGE = 4000  # rules x tags

Side = Literal["one-sided", "two-sided"]
Share = Literal["proportional", "equal", "adverse", "any tag"]


@dataclass(frozen=True)
class Point:
    """A point of the grid.

    Attributes:
        tags: k; the last is the rarest, the others' shares fall as 1, 1/2, 1/3, …
        rarest: the share of the rarest tag among rows.
        side: one-sided rules vote for one tag and fire, less often, on rows of others; two-sided rules vote for any.
        share: how one-sided rules are dealt to the tags: by the tags' shares, alike, or ten times as many for the most
            frequent tag as for each other one.
        rules: m.
        copies: whether each third rule copies another.
        rows: n.
    """

    tags: int
    rarest: float
    side: Side
    share: Share
    rules: int
    copies: bool
    rows: int

    def __str__(self) -> str:
        copies = ", copies" if self.copies else ""
        return f"{self.side}, {self.share}, {self.rules} rules, {self.tags} tags, rarest {self.rarest:g}{copies}"

    def seeds(self, wanted: int) -> int:
        """Returns the number of draws: fewer than wanted if a fit takes many seconds."""
        return min(wanted, 3) if self.rules * self.tags >= _LARGE else wanted

    @property
    def tag_shares(self) -> NDArray[np.float64]:
        """Returns k shares in falling order, except for the given last one."""
        others = 1 / np.arange(1.0, self.tags)
        return np.append(others / others.sum() * (1 - self.rarest), self.rarest)

    @property
    def rule_tags(self) -> NDArray[np.int16]:
        """Returns m, the tag of each one-sided rule; each tag has a rule if there are enough."""
        weights = {"proportional": self.tag_shares, "adverse": np.array([10.0] + [1.0] * (self.tags - 1))}
        weight = weights.get(self.share, np.ones(self.tags))
        dealt = np.full(self.tags, int(self.rules >= self.tags))
        for _ in range(self.rules - dealt.sum()):
            dealt[np.argmax(weight / weight.sum() * self.rules - dealt)] += 1
        return np.repeat(np.arange(self.tags, dtype=np.int16), dealt)


@dataclass(frozen=True)
class Drawn:
    """Votes and truth of n rows, and of separate dev rows."""

    votes: Codes
    truth: NDArray[np.int64]
    all_dev: DevRows

    def dev(self, rows: int) -> DevRows | None:
        """Returns the first dev rows; None for 0."""
        return DevRows(self.all_dev.votes[:rows], self.all_dev.truth[:rows]) if rows else None


def whole_grid() -> list[Point]:
    """Two tags at every rarity, number of rules and way to deal them; five, twenty and fifty tags, and 2,000 rules, at
    fewer."""
    two = _points(2, (0.02, 0.05, 0.1, 0.3, 0.5), (3, 5, 33, 200), (False, True))
    more_tags = _points(5, (0.02, 0.1), (5, 33, 200), (False,)) + _points(20, (0.005, 0.02), (33, 200), (False,))
    more_tags += _points(50, (0.002,), (100, 200), (False,))
    many = _points(2, (0.02, 0.1), (2000,), (False,)) + _points(2, (0.1,), (2000,), (True,))
    # Votes of 2,000 two-sided rules leave no doubt, and take minutes: one point of them.
    return two + more_tags + [p for p in many if p.side == "one-sided" or (p.rarest == 0.1 and not p.copies)]


def quick_grid() -> list[Point]:
    """Returns a few points that cover the whole grid."""
    two = _points(2, (0.02, 0.1, 0.5), (3, 33), (False,)) + _points(2, (0.1,), (33, 200), (True,))
    return two + _points(5, (0.02,), (33,), (False,))


def draw(point: Point, *, seed: int, dev_rows: int = max(DEV_ROWS)) -> Drawn:
    """Draws votes that depend only on the point and the seed."""
    random = np.random.default_rng([seed, crc32(repr(astuple(point)).encode())])
    rows = point.rows + dev_rows
    truth = random.choice(point.tags, rows, p=point.tag_shares).astype(np.int16)
    tags = point.rule_tags if point.side == "one-sided" else np.full(point.rules, ABSTAIN, dtype=np.int16)
    votes = np.empty((rows, point.rules), dtype=np.int16, order="F")
    for j, tag in enumerate(tags):
        votes[:, j] = _for_any(truth, point.tags, random) if tag == ABSTAIN else _for_one(truth, tag, random)
    if point.copies:
        _copy(votes, tags, random)
    dev = DevRows(votes[point.rows :], truth[point.rows :].astype(np.int64))
    return Drawn(votes[: point.rows], truth[: point.rows].astype(np.int64), dev)


def _points(tags: int, rarest: tuple[float, ...], rules: tuple[int, ...], copies: tuple[bool, ...]) -> list[Point]:
    found: list[Point] = []
    for share_of_rarest, m, copy in product(rarest, rules, copies):
        rows = 4000 if m < 100 else 2000 if m < 1000 else 1000
        seen: set[tuple[int, ...]] = set()
        for share in ("proportional", "equal", "adverse"):
            point = Point(tags, share_of_rarest, "one-sided", share, m, copy, rows)  # type: ignore[arg-type]
            dealt = tuple(np.bincount(point.rule_tags, minlength=tags))
            if dealt not in seen:  # few rules are dealt alike by several names
                found.append(point)
            seen.add(dealt)
        found.append(Point(tags, share_of_rarest, "two-sided", "any tag", m, copy, rows))
    return found


def _for_one(truth: Codes, tag: np.int16, random: np.random.Generator) -> Codes:
    """A rule that fires on a share of its own tag's rows and on a lower one of the others': where it votes, its tag is
    more frequent than among all rows."""
    own = random.uniform(0.05, 0.4)
    false = own * random.uniform(0.02, 0.5)
    fires = random.random(len(truth)) < np.where(truth == tag, own, false)
    return np.where(fires, tag, np.int16(ABSTAIN))


def _for_any(truth: Codes, tags: int, random: np.random.Generator) -> Codes:
    """Draws a rule that is right with the same probability for every tag, and otherwise votes for any other."""
    accuracy, coverage = random.uniform(0.55, 0.9), random.uniform(0.1, 0.9)
    other = (truth + random.integers(1, tags, len(truth), dtype=np.int16)) % tags
    votes_cast = np.where(random.random(len(truth)) < accuracy, truth, other)
    return np.where(random.random(len(truth)) < coverage, votes_cast, np.int16(ABSTAIN)).astype(np.int16)


def _copy(votes: Codes, tags: Codes, random: np.random.Generator) -> None:
    """Makes every third rule a copy of another rule for the same tag, if there is one."""
    originals = np.arange(len(tags)) % 3 != 2
    for j in np.flatnonzero(~originals):
        alike = np.flatnonzero(originals & (tags == tags[j]))
        if len(alike):
            same = random.random(len(votes)) < COPIED
            votes[same, j] = votes[same, random.choice(alike)]
