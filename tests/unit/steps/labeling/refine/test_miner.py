"""The miner finds the words that tell tags apart, and knows which rows it has seen."""

import numpy as np
import polars as pl

from kommuna.steps.labeling.refine.miner import Miner
from kommuna.steps.labeling.refine.phrases import find_phrases
from kommuna.steps.labeling.refine.proposal import Standing


def mined(field, told=None, rules=()):
    told = np.zeros_like(field.truth) if told is None else told
    miner = Miner(find_phrases(field.dev["text"], field.messages, "text"), field.dev["id"])
    return miner.propose(Standing(field, tuple(rules), told, 1)).rules


def test_it_writes_rules_for_each_tag_from_its_own_words(field):
    by_tag = {tag: set() for tag in field.tags}
    for proposal in mined(field):
        by_tag[proposal.rule.tag] |= set(proposal.rule.any or ())
    assert "card" in by_tag["card"]
    assert {"loan"} <= by_tag["loan"]
    assert "fee" in by_tag["fees"]
    assert "hello" not in set().union(*by_tag.values())


def test_what_is_told_right_already_is_not_mined_for(field):
    told = field.truth.copy()
    told[:, field.tags.index("loan")] = False
    assert {proposal.rule.tag for proposal in mined(field, told)} == {"loan"}


def test_a_tag_that_is_told_wrongly_gets_rules_against_it(field):
    told = field.truth.copy()
    card, loan = field.tags.index("card"), field.tags.index("loan")
    told[field.truth[:, loan], card] = True
    against = [proposal.rule for proposal in mined(field, told) if proposal.rule.against]
    assert {rule.tag for rule in against} == {"card"}
    assert any("loan" in (rule.any or ()) for rule in against)


def test_present_rules_are_not_proposed_again(field):
    first = mined(field)
    again = mined(field, rules=[proposal.rule for proposal in first])
    words = {(p.rule.tag, word) for p in first for word in p.rule.any or ()}
    assert not words & {(p.rule.tag, word) for p in again for word in p.rule.any or ()}
    assert not {p.rule.name for p in first} & {p.rule.name for p in again}


def test_a_word_of_one_fold_alone_never_votes_on_that_fold(field, make_field, unlabeled):
    """A word planted in one fold: no other fold can have found it, so nobody may propose it."""
    planted = field.dev.with_columns(
        text=field.dev["text"].to_numpy() + np.where((field.fold == 0) & field.truth[:, 0], " zebra", "")
    )
    rows = make_field(unlabeled, planted)
    assert (rows.fold == field.fold).all()
    assert not any("zebra" in str(proposal.rule) for proposal in mined(rows))


def test_rows_that_wrote_a_rule_do_not_judge_it(field, make_field, unlabeled):
    """A word in four rows of each of three folds: without a fold there are eight rows or more to write it from."""
    chosen = np.zeros(field.dev.height, dtype=bool)
    for f in (0, 1, 2):
        chosen[np.flatnonzero((field.fold == f) & field.truth[:, 0])[:4]] = True
    planted = field.dev.with_columns(text=field.dev["text"].to_numpy() + np.where(chosen, " zebra", ""))
    often = pl.when(pl.int_range(pl.len()) % 10 == 0).then(pl.lit(" zebra")).otherwise(pl.lit(""))
    rows = make_field(unlabeled.with_columns(text=pl.col("text") + often), planted)
    proposals = [p for p in mined(rows) if "zebra" in str(p.rule)]
    assert proposals
    for proposal in proposals:
        fires = rows.votes(rows.dev, [proposal.rule])[:, 0] >= 0
        assert proposal.unseen[~fires].all()
        assert proposal.unseen[fires].any()


def test_asked_about_some_rows_it_looks_at_no_others(field):
    """Half of the rows, alone or as a part of all: the same rules."""
    half = np.arange(field.dev.height) % 2 == 0
    told = np.zeros_like(field.truth)
    findings = find_phrases(field.dev["text"], field.messages, "text")
    part = Standing(field, (), told, 1).only(half)
    one = Miner(findings, field.dev["id"]).propose(part).rules
    alone = Miner(findings.of(np.flatnonzero(half)), field.dev["id"].filter(pl.Series(half))).propose(part).rules
    assert one
    assert [p.rule for p in one] == [p.rule for p in alone]
    assert all(len(p.unseen) == half.sum() for p in one)
