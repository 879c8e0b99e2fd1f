"""The public data sets as label models are judged on them: what they learn from, dev rows to draw from, test rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tests.benchmarks._weak_data import DATA, Split, banking77, wrench

from kommuna.steps.labeling.models.base import DevRows
from kommuna.steps.labeling.votes.patterns import Codes

MOST_DEV = 1000  # what one expert labels


@dataclass(frozen=True)
class WeakSet:
    """Votes to fit models on, labeled rows to draw dev rows from, and test rows."""

    name: str
    tags: int
    votes: Codes
    labeled: Split
    test: Split

    def dev(self, rows: int, *, seed: int) -> DevRows | None:
        """Draws labeled rows at random; None for 0."""
        if not rows:
            return None
        return self.labeled.dev(np.random.default_rng(seed).permutation(len(self.labeled))[:rows])

    @property
    def most_dev(self) -> int:
        return min(len(self.labeled), MOST_DEV)


def weak_sets() -> Iterator[WeakSet]:
    """WRENCH's dev rows are its valid rows; Banking77's are drawn from train; of the crowd's items, all of which are
    voted on, each second is labeled and the rest are test."""
    splits, tags = banking77()
    yield WeakSet("banking77", tags, splits["train"].votes, splits["train"], splits["test"])
    for name in ("youtube", "sms", "trec"):
        splits, tags = wrench(name)
        yield WeakSet(f"wrench_{name}", tags, splits["train"].votes, splits["valid"], splits["test"])
    crowd = _crowd_barzan()
    labeled, test = (Split(crowd.votes[start::2], crowd.truth[start::2]) for start in (0, 1))
    yield WeakSet("crowd_barzan", 2, crowd.votes, labeled, test)


def _crowd_barzan() -> Split:
    """Returns the items in the order of their gold labels, one column per worker."""
    folder = DATA / "crowd_barzan"
    gold = dict(line.split() for line in (folder / "evaluation.txt").read_text().splitlines())
    cast = [line.split() for line in (folder / "labels.txt").read_text().splitlines()]
    items = {item: i for i, item in enumerate(gold)}
    workers = {worker: j for j, worker in enumerate(dict.fromkeys(worker for worker, _, _ in cast))}
    votes = np.full((len(items), len(workers)), -1, dtype=np.int16)
    for worker, item, label in cast:
        votes[items[item], workers[worker]] = int(label)
    return Split(votes, np.array([int(tag) for tag in gold.values()]))
