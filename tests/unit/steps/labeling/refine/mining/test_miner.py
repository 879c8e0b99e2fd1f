"""The miner finds the words that tell tags apart, and knows which rows it has seen."""

from dataclasses import replace

import numpy as np
import polars as pl

from kommuna.spec.rules import KeywordRule
from kommuna.steps.labeling.refine.mining.miner import Miner
from kommuna.steps.labeling.refine.mining.phrases import find_phrases
from kommuna.steps.labeling.refine.mining.stop_words import stop_words_alone
from kommuna.steps.labeling.refine.proposal import Standing


def mined(data, told=None, rules=()):
    told = np.zeros_like(data.truth) if told is None else told
    return miner_of(data).propose(Standing(data, tuple(rules), told, 1)).rules


def keywords(rule):
    return rule.any if isinstance(rule, KeywordRule) else ()


def miner_of(data):
    return Miner(data, find_phrases(data.dev["text"], data.sample["text"], data.messages, "text"))


def test_it_writes_rules_for_each_tag_from_its_own_words(data):
    by_tag = {tag: set() for tag in data.tags}
    for proposal in mined(data):
        by_tag[proposal.rule.tag] |= set(keywords(proposal.rule))
    assert "card" in by_tag["card"]
    assert {"loan"} <= by_tag["loan"]
    assert "fee" in by_tag["fees"]
    assert "hello" not in set().union(*by_tag.values())


def test_what_is_told_right_already_is_not_mined_for(data):
    told = data.truth.copy()
    told[:, data.tags.index("loan")] = False
    assert {proposal.rule.tag for proposal in mined(data, told)} == {"loan"}


def test_a_tag_that_is_told_wrongly_gets_rules_against_it(data):
    told = data.truth.copy()
    card, loan = data.tags.index("card"), data.tags.index("loan")
    told[data.truth[:, loan], card] = True
    against = [proposal.rule for proposal in mined(data, told) if proposal.rule.against]
    assert {rule.tag for rule in against} == {"card"}
    assert any("loan" in keywords(rule) for rule in against)


def test_present_rules_are_not_proposed_again(data):
    first = mined(data)
    again = mined(data, rules=[proposal.rule for proposal in first])
    words = {(p.rule.tag, word) for p in first for word in keywords(p.rule)}
    assert not words & {(p.rule.tag, word) for p in again for word in keywords(p.rule)}
    assert not {p.rule.name for p in first} & {p.rule.name for p in again}


def planted(data, make_field, unlabeled, rows):
    """A word in some dev rows, and in a few messages."""
    dev = data.dev.with_columns(text=data.dev["text"].to_numpy() + np.where(rows, " zebra", ""))
    often = pl.when(pl.int_range(pl.len()) % 200 == 0).then(pl.lit(" zebra")).otherwise(pl.lit(""))
    return make_field(unlabeled.with_columns(text=pl.col("text") + often), dev)


def test_a_word_of_one_fold_alone_never_votes_on_that_fold(data, make_field, unlabeled):
    """Without the fold nobody can know the word."""
    here = (data.fold == 0) & data.truth[:, 0]
    rows = planted(data, make_field, unlabeled, here)
    assert (rows.fold == data.fold).all()
    proposals = [proposal for proposal in mined(rows) if "zebra" in str(proposal.rule)]
    without = ~rows.dev["text"].str.replace(" zebra", "").str.contains(r"\b(card|loan|fee|mortgage|credit)").to_numpy()
    assert not any((proposal.dev & here & without).any() for proposal in proposals)


def test_on_rows_that_wrote_a_rule_votes_what_is_written_without_them(data, make_field, unlabeled):
    """A word in rows of every fold: it is found without any of them."""
    chosen = np.zeros(data.dev.height, dtype=bool)
    for f in range(10):
        chosen[np.flatnonzero((data.fold == f) & data.truth[:, 0])[:3]] = True
    rows = planted(data, make_field, unlabeled, chosen)
    proposals = [proposal for proposal in mined(rows) if "zebra" in keywords(proposal.rule)]
    assert proposals
    assert (np.any([proposal.dev for proposal in proposals], axis=0) & chosen).sum() >= 0.9 * chosen.sum()


def test_what_it_is_not_asked_about_it_does_not_look_at(data):
    """Half of the rows, while the other half has its tags shuffled: the same rules, which vote on all rows."""
    half = np.arange(data.dev.height) % 2 == 0
    told = np.zeros_like(data.truth)
    other = data.truth.copy()
    other[~half] = np.random.default_rng(0).permutation(other[~half])
    one, again = (
        miner_of(rows).propose(Standing(rows.only(half), (), told[half], 1)).rules
        for rows in (data, replace(data, truth=other))
    )
    assert one
    assert [proposal.rule for proposal in one] == [proposal.rule for proposal in again]
    for proposal, its in zip(one, again, strict=True):
        assert (proposal.dev == its.dev).all()
        fires = data.votes(data.dev, [proposal.rule])[:, 0] >= 0
        assert (proposal.dev == fires)[~half].all()
        assert (proposal.sample == (data.votes(data.sample, [proposal.rule])[:, 0] >= 0)).all()


def test_the_words_of_a_tags_name_are_tried_and_written_from_no_row(data, make_field, unlabeled, dev):
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


def test_no_rule_looks_for_stop_words_alone(data):
    for proposal in mined(data):
        assert not any(stop_words_alone(keyword) for keyword in keywords(proposal.rule))
