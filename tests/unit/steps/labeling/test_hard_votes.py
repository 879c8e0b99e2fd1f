"""The default label model on votes that are hard to read: without dev rows, and with a few."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.benchmarks._label_model_scores import scores
from tests.benchmarks._weak_data import Split
from tests.rigs.hard_votes import few_rows_per_tag, hard_votes, one_sided
from tests.rigs.vote_patterns import patterns

from kommuna.steps.labeling.models.base import DevRows
from kommuna.steps.labeling.models.pooled.model import Kommuna

CASES = hard_votes()
MARGIN = 0.02
WORSE_THAN_CHANCE = 0.08  # with many such rules, which votes alone do not tell from others


@pytest.mark.parametrize("name", CASES)
def test_without_dev_rows_the_default_is_not_below_counting_votes(name: str) -> None:
    """Ties are broken at random for both. One that takes sides is .02 to .29 below, or as much above, by chance."""
    case, found = CASES[name], []
    for seed in range(4):
        votes, truth = case.draw(np.random.default_rng(seed), case.rows)
        scored = scores(votes, case.tags, Split(votes, truth), None, ("kommuna", "majority"))
        found.append(scored["kommuna"].accuracy - scored["majority"].accuracy)
    assert np.mean(found) >= -(WORSE_THAN_CHANCE if "adversarial" in name else MARGIN)


@pytest.mark.parametrize(("tags", "dev"), [(20, 20), (50, 50), (100, 50), (100, 100)])
def test_a_few_dev_rows_for_many_tags_do_not_make_the_default_worse(tags: int, dev: int) -> None:
    case, found = few_rows_per_tag(tags), []
    for seed in range(4):
        votes, truth = case.draw(np.random.default_rng(seed), case.rows + dev)
        rows = Split(votes[dev:], truth[dev:])
        with_dev, without = (
            scores(votes[dev:], tags, rows, known, ("kommuna",))["kommuna"].accuracy
            for known in (DevRows(votes[:dev], truth[:dev]), None)
        )
        found.append(with_dev - without)
    assert np.mean(found) >= -MARGIN


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), tags=st.sampled_from([3, 5, 10]), copies=st.sampled_from([0, 5]))
def test_a_further_vote_does_not_lower_its_tag_where_tags_have_several_rules(seed: int, tags: int, copies: int) -> None:
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.ones(tags))
    votes, _ = one_sided(random, 60, shares, random.integers(1, 6, tags).tolist(), recall=(0.05, 0.6))
    copied = votes[:, random.integers(0, votes.shape[1], copies)]
    votes = np.hstack([votes, np.where(random.random(copied.shape) < 0.05, -1, copied)])
    tag_of = votes.max(axis=0)
    fewer = votes[random.integers(0, 60, 200)]
    rule = random.integers(0, votes.shape[1], 200)
    asked = (fewer[np.arange(200), rule] < 0) & (tag_of[rule] >= 0) & (fewer >= 0).any(axis=1)
    fewer, rule = fewer[asked], rule[asked]
    more = fewer.copy()
    more[np.arange(len(more)), rule] = tag_of[rule]
    predict = Kommuna().fit(patterns(votes, tags)).predict
    row = np.arange(len(more))
    assert (predict(more)[row, tag_of[rule]] >= predict(fewer)[row, tag_of[rule]] - 1e-9).all()
