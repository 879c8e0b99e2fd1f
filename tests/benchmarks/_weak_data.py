"""Votes and truth of the public data sets on which label models are compared."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.labeling.models.base import DevRows
from kommuna.steps.labeling.votes.patterns import Codes

DATA = Path(__file__).resolve().parent.parent.parent.parent / "shared" / "data"
Probabilities = NDArray[np.float64]
Truth = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """The n x m votes, and n class indices."""

    votes: Codes
    truth: Truth

    def __len__(self) -> int:
        return len(self.truth)

    def dev(self, rows: NDArray[np.intp]) -> DevRows:
        return DevRows(self.votes[rows], self.truth[rows])


def wrench(name: str) -> tuple[dict[str, Split], int]:
    """Returns the splits of a WRENCH folder, and its number of classes.

    The stored votes of SMS' valid and test rows belong to other texts: they are cast anew by the folder's own rules.
    """
    folder = DATA / f"wrench_{name}"
    splits = {}
    for part in ("train", "valid", "test"):
        rows = list(json.loads((folder / f"{part}.json").read_text()).values())
        votes = np.array([row["weak_labels"] for row in rows], dtype=np.int16)
        texts = [row["data"]["text"] for row in rows]
        if name == "sms" and part != "train":
            votes = _cast(texts, json.loads((folder / "rules.json").read_text()))
        splits[part] = Split(votes, np.array([row["label"] for row in rows]))
    return splits, len(json.loads((folder / "label.json").read_text()))


def predicted(probabilities: Probabilities, votes: Codes) -> Truth:
    """The class told of each row by WRENCH's protocol: of tied classes, and of all where a row has no vote, the one
    at the place that the sha1 of the row's index gives."""
    probabilities = np.where((votes >= 0).any(axis=1)[:, None], probabilities, 0.0)
    tied = np.isclose(probabilities, probabilities.max(axis=1, keepdims=True), rtol=0, atol=1e-9)
    place = [int(hashlib.sha1(str(i).encode()).hexdigest(), 16) for i in range(len(probabilities))]
    return np.array([np.flatnonzero(line)[p % int(line.sum())] for line, p in zip(tied, place, strict=True)])


def accuracy(probabilities: Probabilities, split: Split) -> float:
    return float((predicted(probabilities, split.votes) == split.truth).mean())


def f1(probabilities: Probabilities, split: Split, *, positive: int = 1) -> float:
    positives = predicted(probabilities, split.votes) == positive
    truth = split.truth == positive
    return float(2 * (positives & truth).sum() / max(positives.sum() + truth.sum(), 1))


def _cast(texts: list[str], rules: list[dict[str, Any]]) -> Codes:
    compiled = [(re.compile(rule["regex"]), rule["label"]) for rule in rules]
    return np.array(
        [[label if pattern.search(text) else -1 for pattern, label in compiled] for text in texts], dtype=np.int16
    )


def banking77() -> tuple[dict[str, Split], int]:
    """Returns Banking77's train and test rows with the votes of GPT-4o's keyword rules, one rule per keyword."""
    import polars as pl

    from kommuna.spec.rules import RuleSet
    from kommuna.steps.labeling.apply import apply_rules
    from kommuna.steps.labeling.votes.patterns import vote_patterns

    folder = DATA / "banking77"
    tags = json.loads((folder / "categories.json").read_text())
    name_of = {tag.lower().strip("?"): tag for tag in tags}
    words = json.loads((folder / "gpt4o_keywords.json").read_text())
    rules = RuleSet.read(
        {
            "tags": tags,
            "rules": [
                {"name": f"r{i}_{j}", "tag": name_of[tag.lower().strip("?")], "any": [word]}
                for i, (tag, keywords) in enumerate(words.items())
                for j, word in enumerate(dict.fromkeys(keywords))
            ],
        },
        where="gpt4o_keywords.json",
    )
    splits = {}
    for part in ("train", "test"):
        table = pl.read_csv(folder / f"{part}.csv").with_row_index("id")
        votes = apply_rules(table.lazy(), rules).votes.collect()
        truth = np.array([tags.index(tag) for tag in table["category"]])
        splits[part] = Split(vote_patterns(votes, rules).row_votes(), truth)
    return splits, len(tags)
