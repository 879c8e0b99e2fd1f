"""Phrases and pairs: their counts equal those of a simple loop, and their rules fire where the conditions hold."""

import polars as pl

from kommuna.spec.rules import Rule
from kommuna.steps.labeling.refine.mining.phrases import find_phrases
from kommuna.steps.labeling.rules.text.stems import stem, stem_keyword
from kommuna.steps.labeling.rules.text.tokens import tokens


def holds(condition, language, line):
    """Returns whether a token line contains a phrase (by words or stems), or a form of each word of a pair."""
    words = [stem(language, word) for word in line] if language else line
    if not isinstance(condition, str):
        return all(set(forms) & set(line) for forms in condition)
    return f" {' '.join(stem_keyword(language, condition))} " in f" {' '.join(words)} "


def test_counts_equal_those_of_a_simple_loop(dev, unlabeled):
    found = find_phrases(dev["text"], unlabeled.collect()["text"], unlabeled, "text")
    lines = [tokens(text) for text in unlabeled.collect()["text"]]
    assert found.messages == len(lines)
    assert found.language == "english"
    assert "lost my card" in found.conditions
    assert {"monthly", "fee"} in [{forms[0] for forms in c} for c in found.conditions if not isinstance(c, str)]
    in_sample = found.sample.sum(axis=0)
    for column in range(0, len(found), 5):
        count = sum(holds(found.conditions[column], found.language, line) for line in lines)
        assert found.seen[column] == in_sample[column] == count


def test_every_condition_holds_where_its_rule_fires(dev, unlabeled, data):
    found = find_phrases(dev["text"], data.sample["text"], unlabeled, "text")
    columns = range(0, len(found), 7)
    rules = []
    for j in columns:
        looked_for = found.looked_for(j)
        kind = {"regex": looked_for}
        if isinstance(found.conditions[j], str):
            kind = {"any": (looked_for,), "stem": found.language}
        rules.append(Rule(name=f"r{j}", tag="card", **kind))
    for rows, conditions in ((data.dev, found.dev), (data.sample, found.sample)):
        fired = data.votes(rows, rules) >= 0
        assert (fired == (conditions[:, list(columns)].toarray() > 0)).all()


def test_phrases_and_pairs_of_stop_words_are_ignored():
    dev = pl.Series(["what is it that i have to pay for", "why do they have this fee"] * 3 + ["hello"] * 18)
    found = find_phrases(dev, dev, pl.LazyFrame({"text": dev}), "text")
    assert {"pay", "have to pay", "fee"} <= set(found.conditions)
    assert not {"have to", "i have to", "for", "why"} & set(found.conditions)
    pairs = [{word for forms in c for word in forms} for c in found.conditions if not isinstance(c, str)]
    assert {"what", "pay"} in pairs
    assert {"what", "that"} not in pairs


def test_russian_words_are_found_in_all_forms():
    dev = pl.Series(["я потерял карту", "у меня нет карты", "где моя карта", "мне не дали кредит"] * 3)
    found = find_phrases(dev, dev, pl.LazyFrame({"text": dev}), "text")
    assert found.language == "russian"
    (card,) = [
        j for j, c in enumerate(found.conditions) if isinstance(c, str) and c.startswith("карт") and " " not in c
    ]
    assert found.seen[card] == 9
    assert not {"у меня нет", "мне не", "где моя"} & set(found.conditions)


def test_phrases_do_not_cross_a_comma_and_do_not_consist_of_numbers():
    dev = pl.Series(["fee, again 12 34"] * 5)
    found = find_phrases(dev, pl.Series(["fee again"]), pl.LazyFrame({"text": ["fee again"]}), "text")
    phrases = {condition for condition in found.conditions if isinstance(condition, str)}
    assert "fee again" not in phrases
    assert "12 34" not in phrases
    assert "again 12" in phrases


def test_a_word_that_is_spelt_with_yo_is_found_in_both_spellings():
    dev = pl.Series(["где мой счёт сегодня", "счет сегодня", "счёт не виден сегодня"] + ["привет"] * 12)
    found = find_phrases(dev, dev, pl.LazyFrame({"text": dev}), "text")
    (pair,) = [
        j for j, c in enumerate(found.conditions) if not isinstance(c, str) and any("счет" in forms for forms in c)
    ]
    rule = Rule(name="r", tag="t", regex=found.looked_for(pair))
    hits = dev.str.contains(f"(?i){rule.regex}")
    assert hits.to_list() == [True] * 3 + [False] * 12
    assert found.seen[pair] == 3


def test_texts_without_words_have_no_conditions():
    found = find_phrases(
        pl.Series(["a", "I", "the", None]), pl.Series(["a", None]), pl.LazyFrame({"text": ["a", None]}), "text"
    )
    assert len(found) == 0
    assert found.dev.shape == (4, 0)


def test_counts_do_not_depend_on_the_batch_size(monkeypatch, dev, unlabeled):
    from kommuna.steps.labeling.refine.mining import phrases

    whole = find_phrases(dev["text"], unlabeled.collect()["text"], unlabeled, "text").seen
    monkeypatch.setattr(phrases, "_BATCH", 77)
    assert (find_phrases(dev["text"], unlabeled.collect()["text"], unlabeled, "text").seen == whole).all()
