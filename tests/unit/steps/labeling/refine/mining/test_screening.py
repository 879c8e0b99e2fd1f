"""Screening of proposals: precision, copies, correlation, coverage, and gain."""

import numpy as np
import pytest

from kommuna.spec.rules import Rule
from kommuna.steps.labeling.refine.evaluation import evaluate
from kommuna.steps.labeling.refine.mining.screening import beta_prior, candidate_of, screen
from kommuna.steps.labeling.refine.proposal import Proposal


def screened(data, *rules, present=(), unseen=None, least_precision=0.0):
    everywhere = np.ones(data.dev.height, dtype=bool) if unseen is None else unseen
    dev, sample = data.votes(data.dev, present), data.votes(data.sample, present)
    on_dev, on_sample = data.votes(data.dev, rules) >= 0, data.votes(data.sample, rules) >= 0
    proposals = [
        Proposal(rule, on_dev[:, j] & everywhere, on_sample[:, j], "test", rule.name, "test")
        for j, rule in enumerate(rules)
    ]
    tried = [candidate_of(data, proposal) for proposal in proposals]
    return screen(data, tried, dev, sample, evaluate(data, dev, sample, seed=0), least_precision=least_precision)


def rule(name, tag, *words, **fields):
    return Rule(name=name, tag=tag, **({"any": words} if words else {}), **fields)


def test_a_good_rule_passes_with_its_figures(data, dev):
    (passed,) = screened(data, rule("good", "card", "card")).passed
    hits = dev.filter(dev["text"].str.contains(r"\bcard\b"))
    assert (passed.right, passed.cast) == (int((hits["tag"] == "card").sum()), hits.height)
    assert 0.9 < passed.low < 1
    assert passed.gain > 0.1


@pytest.mark.parametrize(
    ("tried", "reason"),
    [
        (rule("all", "card", regex="."), "votes on nearly every message"),
        (rule("all", "card", regex="(card)?"), "votes on nearly every message"),
        (rule("never", "card", "zebra"), "no vote on a message"),
        (rule("chance", "card", "hello"), "not surely precise"),
        (rule("wrong", "card", "loan"), "not surely precise"),
        (rule("same", "card", "CARD"), "the same votes as a present rule"),
        (rule("near", "card", "card", "hello thanks, zebra"), "the same votes as a present rule"),
        (rule("part", "card", "lost my card", "card stolen", "block the card", "card is gone"), "a present rule"),
    ],
)
def test_a_bad_rule_is_refused_with_its_reason(data, tried, reason):
    found = screened(data, tried, present=(rule("card", "card", "card"),))
    assert found.passed == []
    ((why, count),) = found.refused.items()
    assert reason in why
    assert count == 1


def test_only_one_of_two_equal_proposals_passes(data):
    found = screened(data, rule("one", "card", "card"), rule("two", "card", "Card"))
    assert len(found.passed) == 1
    assert found.refused == {"the same votes as a present rule": 1}


def test_a_rule_is_evaluated_on_rows_that_it_was_not_written_from(data):
    hit = data.dev["text"].str.contains(r"\bcard\b").to_numpy()
    written_from = hit & (np.cumsum(hit) > 5)
    (passed,) = screened(data, rule("r", "card", "card"), unseen=~written_from).passed
    assert passed.cast == 5
    assert ((passed.dev >= 0) <= ~written_from).all()


def test_the_required_precision_applies_to_the_lower_bound(data):
    hit = data.dev["text"].str.contains(r"\bcard\b").to_numpy()
    few = ~hit | (np.cumsum(hit) <= 5)  # 5 of 5 right: at least 56 %
    assert screened(data, rule("r", "card", "card"), unseen=few, least_precision=0.55).passed
    refused = screened(data, rule("r", "card", "card"), unseen=few, least_precision=0.6)
    assert refused.refused == {"not surely precise": 1}


def test_a_precise_rule_without_a_gain_on_dev_passes(data):
    present = (rule("card", "card", "card"),)
    (passed,) = screened(data, rule("stolen", "card", "stolen"), present=present).passed
    assert passed.gain == 0


def test_a_rule_against_a_tag_is_evaluated_where_the_tag_was_assigned(data):
    loose = rule("loose", "card", "card", "loan", "mortgage")
    strict = rule("loan", "loan", "zebra")
    found = screened(data, rule("not", "card", "loan", "mortgage", against=True), present=(loose, strict))
    against = [c for c in found.passed if c.proposal.rule.against]
    total = sum(found.refused.values()) + len(found.passed)
    assert total == 1
    for candidate in against:
        assert candidate.right == candidate.cast > 0


def test_a_lucky_rule_among_many_is_refused(data):
    """A rule with 8 right votes of 9 passes alone, but not among forty rules that are right by chance."""
    hit = np.flatnonzero(data.truth[:, 0])[:8].tolist() + np.flatnonzero(~data.truth[:, 0])[:1].tolist()
    lucky = np.isin(np.arange(data.dev.height), hit)
    random = np.random.default_rng(0)
    sample = np.arange(data.sample.height) < 10
    many = [random.permutation(data.dev.height) for _ in range(40)]
    votes = [lucky, *(np.isin(np.arange(data.dev.height), own[:9]) for own in many)]
    tried = [
        candidate_of(data, Proposal(rule(f"r{j}", data.tags[0], f"w{j}"), on_dev, sample, "test", f"r{j}", "test"))
        for j, on_dev in enumerate(votes)
    ]
    evaluation = evaluate(data, *(data.votes(rows, ()) for rows in (data.dev, data.sample)), seed=0)
    none = data.votes(data.dev, ()), data.votes(data.sample, ())
    alone, among = (screen(data, some, *none, evaluation, least_precision=0.0) for some in (tried[:1], tried))
    assert not any(passed.proposal.rule.name == "r0" for passed in among.passed)
    assert among.refused["not surely precise"] == len(tried)
    assert [passed.proposal.rule.name for passed in alone.passed] == ["r0"]


def tried_by(data, votes, *, rewritten):
    """Screens one rule per line of votes on dev, all for the first tag and of one kind."""
    sample = np.arange(data.sample.height)
    tried = [
        Proposal(
            rule(f"r{j}", data.tags[0], f"w{j}"),
            on_dev,
            sample % 50 == j,
            "test",
            f"r{j}",
            "test",
            rewritten=rewritten,
        )
        for j, on_dev in enumerate(votes)
    ]
    none = data.votes(data.dev, ()), data.votes(data.sample, ())
    evaluation = evaluate(data, *none, seed=0)
    return screen(data, [candidate_of(data, one) for one in tried], *none, evaluation, least_precision=0.0)


def right_and_wrong(data, right, wrong, *, after=0):
    rows = np.flatnonzero(data.truth[:, 0])[after : after + right], np.flatnonzero(~data.truth[:, 0])[:wrong]
    return np.isin(np.arange(data.dev.height), np.concatenate(rows))


def test_a_rewritten_rule_without_dev_votes_has_the_precision_of_its_kind(data):
    judged = [right_and_wrong(data, 4, 0, after=4 * j) for j in range(8)]
    no_votes = np.zeros(data.dev.height, dtype=bool)
    passed = {one.proposal.rule.name for one in tried_by(data, [*judged, no_votes], rewritten=True).passed}
    assert passed == {f"r{j}" for j in range(9)}
    own = tried_by(data, [*judged, no_votes], rewritten=False)
    assert own.refused == {"no vote on a dev row that it was not written from": 1}


def test_votes_of_rules_written_without_the_row_count_less(data):
    poor = [right_and_wrong(data, 2, 4, after=2 * j) for j in range(6)]
    good = right_and_wrong(data, 9, 0, after=20)
    assert [one.proposal.rule.name for one in tried_by(data, [*poor, good], rewritten=False).passed] == ["r6"]
    assert tried_by(data, [*poor, good], rewritten=True).passed == []


def test_few_votes_per_rule_do_not_show_that_all_rules_are_equally_precise():
    a, b = beta_prior(np.full(200, 3), np.full(200, 4))
    assert a / (a + b) == pytest.approx(0.75, abs=0.05)
    assert a + b <= 10


def test_the_distribution_of_precisions_is_recovered_from_counts():
    random = np.random.default_rng(0)
    cast = random.integers(1, 12, 3_000)
    right = random.binomial(cast, random.beta(6, 4, 3_000))
    a, b = beta_prior(right, cast)
    assert a / (a + b) == pytest.approx(0.6, abs=0.02)
    assert a + b == pytest.approx(10, rel=0.35)
