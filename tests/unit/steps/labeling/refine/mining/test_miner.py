"""The miner finds the words that tell tags apart, and knows which rows it has seen."""

from dataclasses import replace

import numpy as np
import polars as pl

from kommuna.spec.rules import KeywordRule
from kommuna.steps.labeling.refine.mining.miner import Miner
from kommuna.steps.labeling.refine.mining.phrases import find_phrases
from kommuna.steps.labeling.refine.mining.stop_words import stop_words_alone
from kommuna.steps.labeling.refine.proposal import Standing


def mined(field, told=None, rules=()):
    told = np.zeros_like(field.truth) if told is None else told
    return miner_of(field).propose(Standing(field, tuple(rules), told, 1)).rules


def keywords(rule):
    return rule.any if isinstance(rule, KeywordRule) else ()


def miner_of(field):
    return Miner(field, find_phrases(field.dev["text"], field.sample["text"], field.messages, "text"))


def test_it_writes_rules_for_each_tag_from_its_own_words(field):
    by_tag = {tag: set() for tag in field.tags}
    for proposal in mined(field):
        by_tag[proposal.rule.tag] |= set(keywords(proposal.rule))
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
    assert any("loan" in keywords(rule) for rule in against)


def test_present_rules_are_not_proposed_again(field):
    first = mined(field)
    again = mined(field, rules=[proposal.rule for proposal in first])
    words = {(p.rule.tag, word) for p in first for word in keywords(p.rule)}
    assert not words & {(p.rule.tag, word) for p in again for word in keywords(p.rule)}
    assert not {p.rule.name for p in first} & {p.rule.name for p in again}


def planted(field, make_field, unlabeled, rows):
    """A word in some dev rows, and in a few messages."""
    dev = field.dev.with_columns(text=field.dev["text"].to_numpy() + np.where(rows, " zebra", ""))
    often = pl.when(pl.int_range(pl.len()) % 200 == 0).then(pl.lit(" zebra")).otherwise(pl.lit(""))
    return make_field(unlabeled.with_columns(text=pl.col("text") + often), dev)


def test_a_word_of_one_fold_alone_never_votes_on_that_fold(field, make_field, unlabeled):
    """Without the fold nobody can know the word."""
    here = (field.fold == 0) & field.truth[:, 0]
    rows = planted(field, make_field, unlabeled, here)
    assert (rows.fold == field.fold).all()
    proposals = [proposal for proposal in mined(rows) if "zebra" in str(proposal.rule)]
    without = ~rows.dev["text"].str.replace(" zebra", "").str.contains(r"\b(card|loan|fee|mortgage|credit)").to_numpy()
    assert not any((proposal.dev & here & without).any() for proposal in proposals)


def test_on_rows_that_wrote_a_rule_votes_what_is_written_without_them(field, make_field, unlabeled):
    """A word in rows of every fold: it is found without any of them."""
    chosen = np.zeros(field.dev.height, dtype=bool)
    for f in range(10):
        chosen[np.flatnonzero((field.fold == f) & field.truth[:, 0])[:3]] = True
    rows = planted(field, make_field, unlabeled, chosen)
    proposals = [proposal for proposal in mined(rows) if "zebra" in keywords(proposal.rule)]
    assert proposals
    assert (np.any([proposal.dev for proposal in proposals], axis=0) & chosen).sum() >= 0.9 * chosen.sum()


def test_what_it_is_not_asked_about_it_does_not_look_at(field):
    """Half of the rows, while the other half has its tags shuffled: the same rules, which vote on all rows."""
    half = np.arange(field.dev.height) % 2 == 0
    told = np.zeros_like(field.truth)
    other = field.truth.copy()
    other[~half] = np.random.default_rng(0).permutation(other[~half])
    one, again = (
        miner_of(rows).propose(Standing(rows.only(half), (), told[half], 1)).rules
        for rows in (field, replace(field, truth=other))
    )
    assert one
    assert [proposal.rule for proposal in one] == [proposal.rule for proposal in again]
    for proposal, its in zip(one, again, strict=True):
        assert (proposal.dev == its.dev).all()
        fires = field.votes(field.dev, [proposal.rule])[:, 0] >= 0
        assert (proposal.dev == fires)[~half].all()
        assert (proposal.sample == (field.votes(field.sample, [proposal.rule])[:, 0] >= 0)).all()


def test_the_words_of_a_tags_name_are_tried_and_written_from_no_row(field, make_field, unlabeled, dev):
    """Tags that are named after what clients say: a rule on the name votes on every row, whoever is left out."""
    names = {"card": "card_stolen", "loan": "loan_rate", "fees": "monthly_fee"}
    rows = make_field(unlabeled, dev.with_columns(pl.col("tag").replace_strict(names)))
    named = {proposal.rule.tag: [] for proposal in mined(rows)}
    for proposal in mined(rows):
        if proposal.origin == "miner: the tag's name":
            named[proposal.rule.tag].append(proposal)
    assert "stolen" in {word for proposal in named["card_stolen"] for word in keywords(proposal.rule)}
    for proposal in named["monthly_fee"]:
        assert (proposal.dev == (rows.votes(rows.dev, [proposal.rule])[:, 0] >= 0)).all()


def test_no_rule_looks_for_stop_words_alone(field):
    for proposal in mined(field):
        assert not any(stop_words_alone(keyword) for keyword in keywords(proposal.rule))
