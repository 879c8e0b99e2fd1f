"""Thresholds of tags maximize the expected F1."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.label import label_messages
from kommuna.steps.labeling.models.tag_thresholds import f1_thresholds, voted_for


def test_the_threshold_of_a_tag_is_half_of_the_largest_expected_f1() -> None:
    """Of rows at .9, .6, .35 and .1 the first three give 2 (.9 + .6 + .35) / (3 + 1.95) = .747, half of which is .37."""
    probabilities = np.array([[0.9], [0.6], [0.45], [0.1]])
    voted = np.ones((4, 1), dtype=np.bool_)
    (least,) = f1_thresholds(probabilities, voted, np.ones(4, dtype=np.int64))
    assert least == pytest.approx(0.45)
    expected = [2 * probabilities[:n].sum() / (n + probabilities.sum()) for n in range(1, 5)]
    assert int(np.argmax(expected)) + 1 == 3
    assert probabilities[3, 0] < max(expected) / 2 <= probabilities[2, 0]


def test_patterns_are_weighted_by_their_counts_and_without_votes_the_threshold_is_one_half() -> None:
    probabilities, counts = np.array([[0.9, 0.4], [0.42, 0.3]]), np.array([10, 1_000])
    voted = np.array([[True, False], [True, False]])
    assert f1_thresholds(probabilities, voted, counts).tolist() == [0.42, 0.5]
    assert f1_thresholds(probabilities, voted, np.array([1_000, 10])).tolist() == [0.5, 0.5]


def test_votes_against_a_tag_are_not_for_it() -> None:
    votes = np.array([[0, -1], [3, 1], [2, -1]], dtype=np.int16)  # of two tags: 2 and 3 are against
    assert voted_for(votes, 2).tolist() == [[True, False], [False, True], [False, False]]


def test_a_rare_tag_whose_only_rule_is_right_in_a_sixth_of_its_votes_is_assigned() -> None:
    rules = RuleSet.read(
        {"tags": ["usual", "rare"], "multi_label": True,
         "rules": [{"name": "u", "tag": "usual", "any": ["u"]}, {"name": "r", "tag": "rare", "any": ["r"]}]},
        where="test",
    )  # fmt: skip
    rows = 600
    rare_vote, usual_vote = np.arange(rows) % 10 == 0, np.arange(rows) % 2 == 0
    votes = pl.DataFrame(
        {
            "id": np.arange(rows),
            "u": pl.Series([1 if v else None for v in usual_vote], dtype=pl.Int8),
            "r": pl.Series([1 if v else None for v in rare_vote], dtype=pl.Int8),
        }
    )
    rare = np.arange(rows) % 60 == 0
    tags = [["usual"] * bool(u) + ["rare"] * bool(r) for u, r in zip(usual_vote, rare, strict=True)]
    dev = pl.DataFrame({"id": np.arange(rows), "tags": tags}).head(300)
    made = label_messages(votes, rules, votes.head(300), dev, label="tags")
    predicted = made.labels.collect()
    given = [("rare" in (tags or [])) for tags in predicted["tags"].to_list()]
    assert given == rare_vote.tolist()
    assert predicted["probabilities"].to_numpy()[rare_vote, 1].max() < 0.5
