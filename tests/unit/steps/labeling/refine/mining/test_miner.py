"""The miner: it finds words that are typical of tags, and its votes on dev are cross-fitted."""

from dataclasses import replace

import numpy as np
import polars as pl

from kommuna.spec.rules import KeywordRule
from kommuna.steps.labeling.refine.mining.miner import Miner
from kommuna.steps.labeling.refine.mining.phrases import find_phrases
from kommuna.steps.labeling.refine.mining.stop_words import only_stop_words
from kommuna.steps.labeling.refine.proposal import LoopState


def mined(data, assigned=None, rules=()):
    assigned = np.zeros_like(data.truth) if assigned is None else assigned
    return miner_of(data).propose(LoopState(data, tuple(rules), assigned, 1, np.zeros(len(assigned), dtype=bool))).rules


def keywords(rule):
    return rule.any if isinstance(rule, KeywordRule) else ()


def miner_of(data):
    return Miner(data, find_phrases(data.dev["text"], data.sample["text"], data.messages, "text"))


def test_each_tag_gets_rules_with_its_own_words(data):
    by_tag = {tag: set() for tag in data.tags}
    for proposal in mined(data):
        by_tag[proposal.rule.tag] |= set(keywords(proposal.rule))
    assert "card" in by_tag["card"]
    assert {"loan"} <= by_tag["loan"]
    assert "fee" in by_tag["fees"]
    assert "hello" not in set().union(*by_tag.values())


def test_tags_without_errors_get_no_rules(data):
    assigned = data.truth.copy()
    assigned[:, data.tags.index("loan")] = False
    assert {proposal.rule.tag for proposal in mined(data, assigned)} == {"loan"}


def test_a_tag_that_is_wrongly_assigned_gets_rules_against_it(data):
    assigned = data.truth.copy()
    card, loan = data.tags.index("card"), data.tags.index("loan")
    assigned[data.truth[:, loan], card] = True
    against = [proposal.rule for proposal in mined(data, assigned) if proposal.rule.against]
    assert {rule.tag for rule in against} == {"card"}
    assert any("loan" in keywords(rule) for rule in against)


def test_present_rules_are_not_proposed_again(data):
    first = mined(data)
    again = mined(data, rules=[proposal.rule for proposal in first])
    words = {(p.rule.tag, word) for p in first for word in keywords(p.rule)}
    assert not words & {(p.rule.tag, word) for p in again for word in keywords(p.rule)}
    assert not {p.rule.name for p in first} & {p.rule.name for p in again}


def planted(data, make_refine_data, unlabeled, rows):
    """Adds a word to some dev rows, and to a few messages."""
    dev = data.dev.with_columns(text=data.dev["text"].to_numpy() + np.where(rows, " zebra", ""))
    often = pl.when(pl.int_range(pl.len()) % 200 == 0).then(pl.lit(" zebra")).otherwise(pl.lit(""))
    return make_refine_data(unlabeled.with_columns(text=pl.col("text") + often), dev)


def test_a_word_of_a_single_fold_never_votes_on_that_fold(data, make_refine_data, unlabeled):
    """Rules that are written without the fold cannot contain the word."""
    here = (data.fold == 0) & data.truth[:, 0]
    rows = planted(data, make_refine_data, unlabeled, here)
    assert (rows.fold == data.fold).all()
    proposals = [proposal for proposal in mined(rows) if "zebra" in str(proposal.rule)]
    without = ~rows.dev["text"].str.replace(" zebra", "").str.contains(r"\b(card|loan|fee|mortgage|credit)").to_numpy()
    assert not any((proposal.dev & here & without).any() for proposal in proposals)


def test_the_votes_on_a_fold_are_those_of_rules_written_without_it(data, make_refine_data, unlabeled):
    """The word is in all folds, so it is found without each of them."""
    chosen = np.zeros(data.dev.height, dtype=bool)
    for f in range(10):
        chosen[np.flatnonzero((data.fold == f) & data.truth[:, 0])[:3]] = True
    rows = planted(data, make_refine_data, unlabeled, chosen)
    proposals = [proposal for proposal in mined(rows) if "zebra" in keywords(proposal.rule)]
    assert proposals
    assert (np.any([proposal.dev for proposal in proposals], axis=0) & chosen).sum() >= 0.9 * chosen.sum()


def test_rows_outside_the_state_are_not_used(data):
    """If the tags of the other rows are shuffled, the rules are the same; they vote on all rows."""
    half = np.arange(data.dev.height) % 2 == 0
    assigned = np.zeros_like(data.truth)
    other = data.truth.copy()
    other[~half] = np.random.default_rng(0).permutation(other[~half])
    one, again = (
        miner_of(rows)
        .propose(LoopState(rows.only(half), (), assigned[half], 1, np.zeros(int(half.sum()), dtype=bool)))
        .rules
        for rows in (data, replace(data, truth=other))
    )
    assert one
    assert [proposal.rule for proposal in one] == [proposal.rule for proposal in again]
    for proposal, its in zip(one, again, strict=True):
        assert (proposal.dev == its.dev).all()
        fires = data.votes(data.dev, [proposal.rule])[:, 0] >= 0
        assert (proposal.dev == fires)[~half].all()
        assert (proposal.sample == (data.votes(data.sample, [proposal.rule])[:, 0] >= 0)).all()


def test_words_of_the_name_of_a_tag_are_proposed_independently_of_the_rows(data, make_refine_data, unlabeled, dev):
    """Tags whose names are words of clients: such a rule votes with its own votes on every row."""
    names = {"card": "card_stolen", "loan": "loan_rate", "fees": "monthly_fee"}
    rows = make_refine_data(unlabeled, dev.with_columns(pl.col("tag").replace_strict(names)))
    named = {proposal.rule.tag: [] for proposal in mined(rows)}
    for proposal in mined(rows):
        if proposal.origin == "miner: the tag's name":
            named[proposal.rule.tag].append(proposal)
    assert "stolen" in {word for proposal in named["card_stolen"] for word in keywords(proposal.rule)}
    for proposal in named["monthly_fee"]:
        assert (proposal.dev == (rows.votes(rows.dev, [proposal.rule])[:, 0] >= 0)).all()


def test_no_keyword_consists_of_stop_words(data):
    for proposal in mined(data):
        assert not any(only_stop_words(keyword) for keyword in keywords(proposal.rule))
