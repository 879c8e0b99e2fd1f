"""Rows with several tags: each tag is predicted separately."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from kommuna.steps.labeling.label import label_messages
from kommuna.steps.labeling.report.ablation import gains
from kommuna.steps.labeling.votes.labeled_votes import LabeledVotes

MODELS = ["kommuna", "majority", "weighted", "dawid_skene"]


def voted(rule_set: Any, tags: list[str], cast: dict[str, Any], rows: int) -> tuple[Any, pl.LazyFrame]:
    rules = rule_set(*({"name": tag, "tag": tag, "any": ["x"]} for tag in cast), tags=tags, multi_label=True)
    columns = {tag: pl.Series([1 if i in of else None for i in range(rows)], dtype=pl.Int8) for tag, of in cast.items()}
    return rules, pl.LazyFrame({"id": range(rows), **columns})


@pytest.mark.parametrize("model", MODELS)
def test_a_rare_tag_whose_rules_abstain_has_its_share_of_dev_rows(model: Any, rule_set: Any) -> None:
    """Ten of 1,000 messages are `refund`; of the 100 dev rows one, which its rule misses."""
    rules, votes = voted(rule_set, ["card", "refund"], {"card": range(0, 1000), "refund": range(1, 1000, 100)}, 1000)
    dev = pl.LazyFrame({"id": range(100), "tags": ["card|refund" if i in (1, 50) else "card" for i in range(100)]})
    predicted = label_messages(votes, rules, votes.head(100), dev, model=model, label="tags").labels.collect()
    p = predicted["probabilities"].to_numpy()[:, 1]
    silent = np.arange(1000) % 100 != 1
    assert np.ptp(p[silent]) == 0
    assert 0.005 < p[2] < 0.02
    assert predicted["confidence"].to_numpy()[2] > 0.5


@pytest.mark.parametrize("model", MODELS)
def test_without_dev_rows_a_tag_without_votes_has_the_probability_0(model: Any, rule_set: Any) -> None:
    rules, votes = voted(rule_set, ["card", "refund", "loan"], {"card": range(50), "refund": range(40, 90)}, 100)
    predicted = label_messages(votes, rules, model=model).labels.collect()["probabilities"].to_numpy()
    assert (predicted[:40, 1] == 0).all()
    assert (predicted[:90, 2] == 0).all()


def test_a_tag_without_dev_rows_is_never_assigned_where_its_rules_abstain(rule_set: Any) -> None:
    rules, votes = voted(rule_set, ["card", "refund", "loan"], {"card": range(50), "refund": range(25, 75)}, 100)
    dev = pl.LazyFrame({"id": range(60), "tags": ["refund" if i >= 20 else "card" for i in range(60)]})
    predicted = label_messages(votes, rules, votes.head(60), dev, label="tags").labels.collect()
    p = predicted["probabilities"].to_numpy()
    assert 0 < p[0, 2] < 0.05
    assert all("loan" not in tags for tags in predicted["tags"].drop_nulls())


def rare(tags: int = 12, rows: int = 120) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """One rule a tag, right in nine votes of ten; each tag is on some rows in a hundred."""
    random = np.random.default_rng(0)
    truth = random.random((rows, tags)) < 0.06
    votes = np.where(
        (truth & (random.random(truth.shape) < 0.8)) | (random.random(truth.shape) < 0.005), np.arange(tags), -1
    )
    return votes.astype(np.int16), truth


@pytest.mark.parametrize("model", ["weighted", "dawid_skene"])
def test_rules_with_few_votes_are_as_reliable_as_rules_are_on_average(model: Any, rule_set: Any) -> None:
    """A tag's own dev rows are too few to say so, those of all tags together are not."""
    votes, truth = rare()
    names = [f"t{j}" for j in range(truth.shape[1])]
    cast = {name: set(np.flatnonzero(votes[:, j] >= 0).tolist()) for j, name in enumerate(names)}
    rules, table = voted(rule_set, names, cast, len(truth))
    dev = pl.LazyFrame(
        {"id": range(len(truth)), "tags": [[n for n, y in zip(names, row, strict=True) if y] for row in truth]}
    )
    metrics = label_messages(table, rules, table, dev, model=model, label="tags").metrics
    assert metrics["dev_f1_micro"] > 0.75


def test_rules_that_vote_have_a_gain_where_rows_may_have_multi_label() -> None:
    votes, truth = rare()
    names = tuple(f"t{j}" for j in range(truth.shape[1]))
    found = gains(LabeledVotes(votes, truth), [[j] for j in range(len(names))], tags=names, multi_label=True)
    assert (found.gain > -0.01).all()
    assert (found.gain > 0).sum() >= 10
