"""Phrases and pairs: the same as a plain count, and what they look for is what the rule finds."""

import polars as pl

from kommuna.spec.rules import Rule
from kommuna.steps.labeling.fold import tokens
from kommuna.steps.labeling.refine.phrases import find_phrases


def test_counts_are_those_of_a_plain_loop(dev, unlabeled):
    found = find_phrases(dev["text"], unlabeled, "text")
    texts = unlabeled.collect()["text"].to_list()
    held = [[set(tokens(text)), f" {' '.join(tokens(text))} "] for text in texts]
    assert found.messages == len(texts)
    assert "lost my card" in found.conditions
    assert {"monthly", "fee"} in [set(c) for c in found.conditions if not isinstance(c, str)]
    for condition, seen in zip(found.conditions, found.seen, strict=True):
        if isinstance(condition, str):
            assert seen == sum(f" {condition} " in line for _, line in held)
        else:
            assert seen == sum(set(condition) <= words for words, _ in held)


def test_every_condition_holds_where_its_rule_fires(dev, unlabeled, field):
    found = find_phrases(dev["text"], unlabeled, "text")
    columns = range(0, len(found), 7)
    rules = []
    for j in columns:
        looked_for = found.looked_for(j)
        kind = {"any": (looked_for,)} if isinstance(found.conditions[j], str) else {"regex": looked_for}
        rules.append(Rule(name=f"r{j}", tag="card", **kind))
    fired = field.votes(field.dev, rules) >= 0
    assert (fired == (found.dev[:, list(columns)].toarray() > 0)).all()


def test_no_phrase_reaches_over_a_comma_and_numbers_alone_are_none():
    dev = pl.Series(["fee, again 12 34"] * 5)
    found = find_phrases(dev, pl.LazyFrame({"text": ["fee again"]}), "text")
    phrases = {condition for condition in found.conditions if isinstance(condition, str)}
    assert "fee again" not in phrases
    assert "12 34" not in phrases
    assert "again 12" in phrases


def test_a_word_that_clients_spell_with_yo_is_found_in_both_spellings():
    dev = pl.Series(["где мой счёт сегодня", "счет сегодня", "счёт не виден сегодня"] + ["привет"] * 12)
    found = find_phrases(dev, pl.LazyFrame({"text": dev}), "text")
    (pair,) = [j for j, c in enumerate(found.conditions) if not isinstance(c, str) and "счет" in c]
    rule = Rule(name="r", tag="t", regex=found.looked_for(pair))
    hits = dev.str.contains(f"(?i){rule.regex}")
    assert hits.to_list() == [True] * 3 + [False] * 12
    assert found.seen[pair] == 3


def test_pairs_of_no_words_are_no_trouble():
    found = find_phrases(pl.Series(["a", "b", "c", None]), pl.LazyFrame({"text": ["a", None]}), "text")
    assert len(found) == 0
    assert found.dev.shape == (4, 0)


def test_messages_are_counted_over_batches_of_any_size(monkeypatch, dev, unlabeled):
    from kommuna.steps.labeling.refine import phrases

    whole = find_phrases(dev["text"], unlabeled, "text").seen
    monkeypatch.setattr(phrases, "_BATCH", 77)
    assert (find_phrases(dev["text"], unlabeled, "text").seen == whole).all()
