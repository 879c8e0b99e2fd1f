"""Proposals are screened: precision's lower bound, copies, correlation, coverage, gain."""

import numpy as np
import pytest

from kommuna.spec.rules import Rule
from kommuna.steps.labeling.refine.judge import judge
from kommuna.steps.labeling.refine.proposal import Proposal
from kommuna.steps.labeling.refine.screening import Votes, screen


def screened(field, *rules, present=(), unseen=None, least_precision=0.0):
    everywhere = np.ones(field.dev.height, dtype=bool) if unseen is None else unseen
    dev, sample = field.votes(field.dev, present), field.votes(field.sample, present)
    tried = Votes(field).candidates([Proposal(rule, everywhere, "test") for rule in rules])
    return screen(field, tried, dev, sample, judge(field, dev, sample, seed=0), least_precision=least_precision)


def rule(name, tag, *words, **fields):
    return Rule(name=name, tag=tag, **({"any": words} if words else {}), **fields)


def test_a_good_rule_passes_with_its_figures(field, dev):
    (passed,) = screened(field, rule("good", "card", "card")).passed
    hits = dev.filter(dev["text"].str.contains(r"\bcard\b"))
    assert (passed.right, passed.cast) == (int((hits["tag"] == "card").sum()), hits.height)
    assert 0.9 < passed.low < 1
    assert passed.gain > 0.1


@pytest.mark.parametrize(
    ("tried", "reason"),
    [
        (rule("all", "card", regex="."), "votes on nearly every message"),
        (rule("all", "card", regex="(card)?"), "votes on nearly every message"),
        (rule("never", "card", "zebra"), "no vote on a dev row that it was not written from"),
        (rule("chance", "card", "hello"), "not surely precise"),
        (rule("wrong", "card", "loan"), "not surely precise"),
        (rule("same", "card", "CARD"), "the same votes as a present rule"),
        (rule("near", "card", "card", "hello thanks, zebra"), "the same votes as a present rule"),
        (rule("part", "card", "lost my card", "card stolen", "block the card", "card is gone"), "a present rule"),
    ],
)
def test_a_bad_rule_is_refused_with_its_reason(field, tried, reason):
    found = screened(field, tried, present=(rule("card", "card", "card"),))
    assert found.passed == []
    ((why, count),) = found.refused.items()
    assert reason in why
    assert count == 1


def test_of_two_equal_proposals_one_passes(field):
    found = screened(field, rule("one", "card", "card"), rule("two", "card", "Card"))
    assert len(found.passed) == 1
    assert found.refused == {"the same votes as a present rule": 1}


def test_a_rule_is_judged_only_on_rows_that_it_was_not_written_from(field):
    hit = field.dev["text"].str.contains(r"\bcard\b").to_numpy()
    written_from = hit & (np.cumsum(hit) > 5)
    (passed,) = screened(field, rule("r", "card", "card"), unseen=~written_from).passed
    assert passed.cast == 5
    assert ((passed.dev >= 0) <= ~written_from).all()


def test_the_bar_on_precision_is_its_lower_bound_not_its_value(field):
    hit = field.dev["text"].str.contains(r"\bcard\b").to_numpy()
    few = ~hit | (np.cumsum(hit) <= 5)  # 5 of 5 right: at least 56 %
    assert screened(field, rule("r", "card", "card"), unseen=few, least_precision=0.55).passed
    refused = screened(field, rule("r", "card", "card"), unseen=few, least_precision=0.6)
    assert refused.refused == {"not surely precise": 1}


def test_a_rule_that_adds_nothing_to_what_is_told_right_is_refused(field):
    present = (rule("card", "card", "card"),)
    found = screened(field, rule("stolen", "card", "stolen"), present=present)
    assert found.refused == {"no gain in macro F1": 1}


def test_a_rule_against_a_tag_is_judged_where_the_tag_was_told(field):
    loose = rule("loose", "card", "card", "loan", "mortgage")
    strict = rule("loan", "loan", "zebra")
    found = screened(field, rule("not", "card", "loan", "mortgage", against=True), present=(loose, strict))
    against = [c for c in found.passed if c.proposal.rule.against]
    total = sum(found.refused.values()) + len(found.passed)
    assert total == 1
    for candidate in against:
        assert candidate.right == candidate.cast > 0
