"""The accuracy of rules estimated from their agreement with the other rules."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tests.rigs.vote_patterns import patterns

from kommuna.steps.labeling.models.naive_bayes import Floats, LinearLogits
from kommuna.steps.labeling.models.outcomes import Outcomes, outcomes
from kommuna.steps.labeling.models.pooled.leave_one_out_agreement import leave_one_out_agreement
from kommuna.steps.labeling.votes.patterns import CastVotes, Codes


def judged(matrix: Codes, k: int) -> tuple[Outcomes, LinearLogits]:
    votes = patterns(matrix, k)
    found = outcomes(votes.votes, k, counts=votes.counts)
    covered = np.asarray(votes.counts * votes.covered, dtype=np.float64)
    indicators = found.indicators(CastVotes.of(votes.votes))
    return found, leave_one_out_agreement(found, indicators, covered, found.rows / len(matrix))


def by_the_plain_formulas(matrix: Codes, k: int) -> Floats:
    """f x k weights of rules that each vote for one tag, row by row and rule by rule."""

    def probability(weights: list[Floats]) -> Floats:
        logs = np.sum(weights, axis=0) if weights else np.zeros(k)
        return np.asarray(np.exp(logs) / np.exp(logs).sum())

    fires = [np.flatnonzero(column >= 0) for column in matrix.T]
    owner = [matrix[rows[0], j] for j, rows in enumerate(fires)]
    speakers = [np.flatnonzero(row >= 0) for row in matrix]
    covered = [row for row in speakers if len(row)]
    a_tag = len(covered) / k + 1
    prior = np.empty((len(fires), k))
    for j, rows in enumerate(fires):
        accuracy = min(0.7, 0.97 / k / (len(rows) / len(matrix)))
        prior[j] = np.where(np.arange(k) == owner[j], accuracy, (1 - accuracy) / (k - 1))
    weight = np.log(prior) - np.log(prior).mean(axis=1, keepdims=True)
    for _ in range(2):
        tags = (np.sum([probability([weight[i] for i in row]) for row in covered], axis=0) + 1) / (len(covered) + k)
        new = np.empty_like(weight)
        for j, rows in enumerate(fires):
            others = [[weight[i] for i in speakers[row] if i != j] for row in rows]
            opinions = [probability(words) for words in others if words]
            share = (np.sum(opinions, axis=0) + a_tag * prior[j]) / (len(opinions) + a_tag)
            new[j] = np.log(share / tags) - np.log(share / tags).mean()
        weight = (weight + new) / 2
    return np.minimum(weight, weight[np.arange(len(fires)), owner][:, None])


def one_sided(rows: int, k: int, coverage: list[float], accuracy: list[float], *, seed: int) -> tuple[Codes, Floats]:
    """Rule j fires for the tag j mod k, on so many rows and so often rightly; and the truth."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, k, rows)
    votes = np.full((rows, len(coverage)), -1, dtype=np.int16)
    for j, (share, right) in enumerate(zip(coverage, accuracy, strict=True)):
        mine = truth == j % k
        chance = np.where(mine, share * right * k, share * (1 - right) * k / (k - 1))
        votes[random.random(rows) < chance, j] = j % k
    return votes, truth


def test_the_result_equals_that_of_the_formulas() -> None:
    matrix, _ = one_sided(200, 3, [0.2, 0.15, 0.25, 0.1, 0.3], [0.9, 0.5, 0.7, 0.8, 0.4], seed=1)
    _, opinion = judged(matrix, 3)
    assert np.allclose(opinion.weight, by_the_plain_formulas(matrix, 3), atol=1e-9)


def test_in_a_conflict_the_rule_that_agrees_with_the_others_wins() -> None:
    coverage, accuracy = [0.25, 0.25, 0.2, 0.2, 0.2, 0.2], [0.95, 0.55, 0.9, 0.9, 0.9, 0.9]
    matrix, truth = one_sided(4000, 2, coverage, accuracy, seed=2)
    found, opinion = judged(matrix, 2)
    conflict = (matrix[:, 0] == 0) & (matrix[:, 1] == 1) & (matrix[:, 2:] < 0).all(axis=1)
    predicted = opinion.logits(found.indicators(CastVotes.of(matrix[conflict]))).argmax(axis=1)
    assert conflict.sum() > 20
    assert (predicted == 0).all()
    assert (truth[conflict] == 0).mean() > 0.8


def test_a_rule_that_fires_more_often_than_its_tag_can_occur_has_a_small_weight() -> None:
    matrix, _ = one_sided(4000, 10, [0.6, *[0.06] * 9], [0.12, *[0.7] * 9], seed=3)
    _, opinion = judged(matrix, 10)
    own = opinion.weight[np.arange(10), np.arange(10)]
    assert own[0] < 0.5 * own[1:].min()


@given(
    arrays.arrays(np.int16, st.tuples(st.integers(1, 30), st.integers(1, 6)), elements=st.integers(-1, 5)),
)
def test_a_vote_raises_its_own_tag_most(matrix: Codes) -> None:
    found, opinion = judged(matrix, 3)
    if not len(found):
        return
    least_own = np.where(found.owners, opinion.weight, np.inf).min(axis=1)
    greatest_other = np.where(found.owners, -np.inf, opinion.weight).max(axis=1)
    assert np.isfinite(opinion.weight).all()
    assert (greatest_other <= least_own).all()
