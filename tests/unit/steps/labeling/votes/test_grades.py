"""Confidences of votes: less sure votes are weighed apart by the dev rows, and by nothing else."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.label import Labeled, label_messages
from kommuna.steps.labeling.label_model import LabelModel
from kommuna.steps.labeling.votes.grades import Grades, confidence_column, is_confidence

TAGS = [f"tag{t}" for t in range(6)]
RULES = RuleSet.read(
    {
        "tags": TAGS,
        "rules": [
            {"name": f"{who}{t}", "tag": f"tag{t}", "ask": f"{who} {t}?"} for t in range(6) for who in ("a", "b")
        ],
    },
    where="test",
)
DEV, MESSAGES = 400, 3_000


def votes_of(truth: NDArray[np.int64], rng: np.random.Generator, *, telling: bool) -> pl.DataFrame:
    """Votes that are right nine times of ten where the model is sure, and less than half of the time where it is not.

    A confidence that tells nothing has the same values in another order.
    """
    columns: dict[str, pl.Series] = {"id": pl.Series(range(len(truth)))}
    confidences: dict[str, pl.Series] = {}
    for rule in RULES.rules:
        tag = int(rule.tag[-1]) if rule.tag else 0
        sure = rng.random(len(truth)) < 0.7
        fires = np.where(truth == tag, np.where(sure, 0.8, 0.5), np.where(sure, 0.02, 0.15)) > rng.random(len(truth))
        shown = np.where(sure, rng.uniform(0.9, 1.0, len(truth)), rng.uniform(0.4, 0.9, len(truth)))
        shown = shown if telling else rng.permutation(shown)
        voted = pl.Series(fires)
        columns[rule.name] = pl.Series([rule.tag if fired else None for fired in fires], dtype=pl.Enum(TAGS))
        confidences[confidence_column(rule.name)] = pl.Series(shown, dtype=pl.Float32).set(~voted, None)
    return pl.DataFrame(columns | confidences)


def right(*, telling: bool, with_confidence: bool, seed: int) -> float:
    """Returns the share of gold rows that are labeled right."""
    rng = np.random.default_rng(seed)
    truths = [rng.integers(0, 6, rows) for rows in (MESSAGES, DEV, MESSAGES)]
    tables = [votes_of(truth, rng, telling=telling) for truth in truths]
    if not with_confidence:
        tables = [table.select(name for name in table.columns if not is_confidence(name)) for table in tables]
    dev = pl.DataFrame({"id": range(DEV), "tag": [TAGS[t] for t in truths[1]]})
    votes, dev_votes, gold_votes = (table.lazy() for table in tables)
    labeled: Labeled = label_messages(votes, RULES, dev_votes, dev.lazy(), gold_votes)
    assert labeled.gold_labels is not None
    tags = labeled.gold_labels.collect()["tag"].cast(pl.String).to_list()
    return float(np.mean([tag == TAGS[t] for tag, t in zip(tags, truths[2], strict=True)]))


def test_a_confidence_that_tells_right_from_wrong_makes_labels_better() -> None:
    gains = [
        right(telling=True, with_confidence=True, seed=seed) - right(telling=True, with_confidence=False, seed=seed)
        for seed in range(2)
    ]
    print("gains", gains)
    assert min(gains) > 0.01


def test_a_confidence_that_tells_nothing_does_little_harm() -> None:
    gain = right(telling=False, with_confidence=True, seed=0) - right(telling=False, with_confidence=False, seed=0)
    print("gain", gain)
    assert gain > -0.02


def test_without_dev_rows_a_confidence_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    votes = votes_of(rng.integers(0, 6, 500), rng, telling=True)
    bare = votes.select(name for name in votes.columns if not is_confidence(name))
    labels = [label_messages(table.lazy(), RULES).labels.collect() for table in (votes, bare)]
    assert labels[0].equals(labels[1])


def test_the_cut_is_of_the_rows_to_label_and_holds_for_other_tables() -> None:
    enum = pl.Enum(TAGS)
    name = RULES.rules[0].name
    others = {rule.name: pl.Series([None] * 4, dtype=enum) for rule in RULES.rules[1:]}
    votes = pl.DataFrame({"id": range(4), name: pl.Series(["tag0"] * 3 + [None], dtype=enum), **others,
                          confidence_column(name): [0.5, 0.8, 0.9, 0.1]})  # fmt: skip
    grades = Grades.of(votes.lazy(), RULES)
    assert grades.cuts == {name: 0.8}
    assert [rule.name for rule in grades.rules.rules[len(RULES.rules) :]] == [f"{name}:unsure"]
    split = grades.split(votes.lazy()).collect()
    assert split[name].to_list() == [None, "tag0", "tag0", None]
    assert split[f"{name}:unsure"].to_list() == ["tag0", None, None, None]
    cached = votes.drop(confidence_column(name))  # answers without a confidence
    split = grades.split(cached.lazy()).collect()
    assert split[name].to_list() == ["tag0", "tag0", "tag0", None]
    assert split[f"{name}:unsure"].null_count() == 4


@pytest.mark.parametrize("sure", [[1.0, 1.0, 1.0], [None, None, None]])
def test_a_rule_that_is_always_as_sure_has_one_grade(sure: list[float | None]) -> None:
    name = RULES.rules[0].name
    votes = pl.DataFrame({"id": range(3), name: pl.Series(["tag0"] * 3, dtype=pl.Enum(TAGS)),
                          confidence_column(name): pl.Series(sure, dtype=pl.Float32)})  # fmt: skip
    assert Grades.of(votes.lazy(), RULES) == Grades(RULES, {})


def test_a_label_model_of_a_notebook_reads_votes_alone() -> None:
    rng = np.random.default_rng(0)
    votes = votes_of(rng.integers(0, 6, 100), rng, telling=True)
    assert LabelModel("majority").fit(votes).rules_ == tuple(rule.name for rule in RULES.rules)
