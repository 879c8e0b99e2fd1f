"""Consistency of the steps: the same unusual input has the same outcome in each of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest

import kommuna.steps.labeled_rows
from kommuna.errors import KommunaError
from kommuna.spec.rules import Rule, RuleSet
from kommuna.steps.etl.mask import mask_pii
from kommuna.steps.labeling.apply import apply_rules
from kommuna.steps.labeling.label import label_messages
from kommuna.steps.labeling.refine.mining.phrases import find_phrases
from kommuna.steps.labeling.refine.step import refine_rules
from kommuna.steps.labeling.refine.teacher import Teacher
from kommuna.steps.labeling.report.rule_text import highlighted
from kommuna.steps.labeling.rule_report import rule_report
from kommuna.steps.training.evaluate import evaluate
from kommuna.steps.training.features.tfidf import TextFeatures
from kommuna.steps.training.predict import predict
from kommuna.steps.training.train import Trained, train_classifier

TAGS = ("card", "loan")
TEXTS = ("my card", "a loan", "card and loan", "hello card")
Change = Callable[[pl.DataFrame], pl.DataFrame]


def rules(*, multi_label: bool) -> RuleSet:
    words = [{"name": f"{tag}_words", "tag": tag, "any": [tag]} for tag in TAGS]
    return RuleSet.read({"tags": list(TAGS), "multi_label": multi_label, "rules": words}, where="test")


def table(first: int, *, multi_label: bool, rows: int = 60) -> pl.DataFrame:
    """Returns labeled messages; `first` is the first number."""
    tags = ("card", "loan", "card|loan" if multi_label else "loan", "card")
    texts = [f"{TEXTS[i % 4]} w{i + first}" for i in range(rows)]
    return pl.DataFrame({"id": range(first, first + rows), "text": texts, "tag": [tags[i % 4] for i in range(rows)]})


MESSAGES = table(1000, multi_label=False).drop("tag")


def message_of(call: Callable[[], Any]) -> str:
    """Returns an error's message without the table's name; empty without an error."""
    try:
        call()
    except KommunaError as error:
        return f"{type(error).__name__}: {error.what}".replace("gold", "dev")
    return ""


# --- labels of dev and gold ---------------------------------------------------------------------------------------


class Read(Exception):
    """Stops a step after it has read the labels; carries each row's tags."""


def label_outcome(step: Callable[..., Any], what: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Returns the outcome of reading labels in a step: an error, or each row's tags."""
    real = kommuna.steps.labeled_rows.truth_matrix

    def stop(labels: pl.Series, keys: pl.Series, tags: Any, **options: Any) -> Any:
        truth = real(labels, keys, tags, **options)
        if options["what"] == what:
            raise Read([(key, [tags[j] for j in np.flatnonzero(row)]) for key, row in zip(keys, truth, strict=True)])
        return truth

    for module in ("labeling.votes.labeled_votes", "labeling.refine.data", "labeling.refine.gold", "training.tables"):
        monkeypatch.setattr(f"kommuna.steps.{module}.truth_matrix", stop)
    try:
        return message_of(step) or "the labels were not read"
    except Read as read:
        return str(read)


def readers(odd: pl.DataFrame, *, multi_label: bool) -> dict[str, tuple[str, Callable[[], Any]]]:
    """Returns each step that reads labels, with its name for them."""
    rule_set, good = rules(multi_label=multi_label), table(5000, multi_label=multi_label)
    votes = apply_rules(MESSAGES.lazy(), rule_set).votes
    keyed = odd if "id" in odd.columns else good
    rows = keyed.select(pl.col("id").drop_nulls().unique(maintain_order=True)).with_columns(text=pl.lit("my card"))
    odd_votes = apply_rules(rows.lazy(), rule_set).votes
    messages, dev, other = MESSAGES.lazy(), odd.lazy(), good.lazy()
    labels = label_messages(votes, rule_set).labels
    model = train_classifier(messages, labels, table(9000, multi_label=multi_label).lazy()).model
    return {
        "label": ("dev", lambda: label_messages(votes, rule_set, odd_votes, dev)),
        "rule_report": ("dev", lambda: rule_report(votes, rule_set, None, odd_votes, dev)),
        "refine, dev": ("dev", lambda: refine_rules(messages, dev, rule_set)),
        "refine, gold": ("gold", lambda: refine_rules(messages, other, rule_set, dev)),
        "train": ("dev", lambda: train_classifier(messages, labels, dev)),
        "evaluate, gold": ("gold", lambda: evaluate(model, dev, other, messages, max_text_overlap=1.0)),
        "evaluate, dev": ("dev", lambda: evaluate(model, other, dev, messages, max_text_overlap=1.0)),
    }


def cell(value: Any) -> Change:
    """Returns the rows with another label in the third."""
    return lambda t: t.with_columns(tag=pl.when(pl.col("id") == 2).then(pl.lit(value, pl.String)).otherwise("tag"))


def as_lists(t: pl.DataFrame, third: list[str | None] | None) -> pl.DataFrame:
    third_row = pl.lit(pl.Series([third], dtype=pl.List(pl.String)))
    return t.with_columns(tag=pl.when(pl.col("id") == 2).then(third_row).otherwise(pl.col("tag").str.split("|")))


ODD_LABELS: dict[str, tuple[Change, str, str]] = {  # a change, and what holds of the outcome: of one tag, of several
    "two in a cell": (cell("card | loan"), "label 'card | loan', which is not one", "(2, ['card', 'loan'])"),
    "null": (cell(None), "(1, ['loan']), (3, ['card'])", "(2, [])"),
    "blank": (cell("  "), "(1, ['loan']), (3, ['card'])", "(2, [])"),
    "a bar": (cell("|"), "label '|', which is not one", "(2, [])"),
    "spaces around": (cell(" card "), "(2, ['card'])", "(2, ['card'])"),
    "twice": (cell("card|card"), "label 'card|card', which is not one", "(2, ['card'])"),
    "unseen": (cell("laon"), "label 'laon', which is not one of the tags (did you mean 'loan'?); 1", "label 'laon'"),
    "another case": (cell("CARD"), "label 'CARD', which is not one", "label 'CARD', which is not one"),
    "lists": (lambda t: as_lists(t, ["card ", "loan"]), "expected a tag, found List(String)", "(2, ['card', 'loan'])"),
    "a null list": (lambda t: as_lists(t, None), "expected a tag, found List(String)", "(2, [])"),
    "blanks in a list": (lambda t: as_lists(t, ["", None]), "expected a tag, found List(String)", "(2, [])"),
    "an empty list": (lambda t: as_lists(t, []), "expected a tag, found List(String)", "(2, [])"),
    "numbers": (lambda t: t.with_columns(tag=pl.lit(1)), "expected a tag, found Int32", "found Int32"),
    "categories": (lambda t: t.with_columns(pl.col("tag").cast(pl.Categorical)), "(0, ['card'])", "(0, ['card'])"),
    "no label": (lambda t: t.with_columns(tag=pl.lit(None)), "DataError: dev has no labeled rows", "(0, [])"),
    "no row": (lambda t: t.head(0), "DataError: dev has no labeled rows", "DataError: dev has no labeled rows"),
    "no column": (lambda t: t.drop("tag"), "MissingColumn: dev has no column 'tag'", "dev has no column 'tag'"),
    "no key": (lambda t: t.drop("id"), "MissingColumn: dev has no column 'id'", "dev has no column 'id'"),
    "tags": (lambda t: t.rename({"tag": "tags"}), "no column 'tag' (did you mean 'tags'?)", "(0, ['card'])"),
    "a null key": (lambda t: t.with_columns(pl.col("id").replace(2, None)), "(1, ['loan']), (3,", "(1, ['loan']), (3,"),
    "a key twice": (
        lambda t: t.with_columns(pl.col("id").replace(2, 3)),
        "'id': 3 names 2 rows",
        "'id': 3 names 2 rows",
    ),
    "an unlabeled row with a key again": (
        lambda t: pl.concat([t, t.head(1).with_columns(tag=pl.lit(None, pl.String))]),
        "(0, ['card'])",
        "DuplicateKeys: column 'id': 0 names 2 rows",
    ),
}


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("odd", ODD_LABELS)
def test_all_steps_read_labels_alike(odd: str, multi_label: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    change, *expected = ODD_LABELS[odd]
    steps = readers(change(table(0, multi_label=multi_label)), multi_label=multi_label)
    outcomes = {name: label_outcome(step, what, monkeypatch) for name, (what, step) in steps.items()}
    assert set(outcomes.values()) == {outcomes["label"]}, outcomes
    assert expected[multi_label] in outcomes["label"]


# --- the votes' keys -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([1, None, 3], "DataError: column 'id': 1 of 3 keys are null"),
        ([1, 1, 3], "DuplicateKeys: column 'id': 1 names 2 rows (2 rows share a key)"),
    ],
)
def test_all_steps_refuse_wrong_keys_alike(keys: list[int | None], expected: str) -> None:
    rule_set, dev = rules(multi_label=False), table(0, multi_label=False)
    odd = MESSAGES.head(3).with_columns(id=pl.Series(keys, dtype=MESSAGES.schema["id"]))
    good = apply_rules(MESSAGES.head(3).lazy(), rule_set).votes
    votes = good.with_columns(id=odd["id"]).lazy()
    outcomes = {
        "apply": message_of(lambda: apply_rules(odd.lazy(), rule_set)),
        "label": message_of(lambda: label_messages(votes, rule_set)).replace("votes", "messages"),
        "label, dev": message_of(
            lambda: label_messages(good.lazy(), rule_set, dev_votes=votes, dev=dev.lazy())
        ).replace("dev_votes", "messages"),
    }
    assert set(outcomes.values()) == {outcomes["apply"]}, outcomes
    assert expected in outcomes["apply"]


# --- the messages' text -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained() -> Trained:
    votes = apply_rules(MESSAGES.lazy(), rules(multi_label=False)).votes
    labels = label_messages(votes, rules(multi_label=False)).labels
    return train_classifier(MESSAGES.lazy(), labels, table(0, multi_label=False).lazy())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.drop("text"), "MissingColumn: messages has no column 'text'"),
        (lambda t: t.rename({"text": "txet"}), "messages has no column 'text' (did you mean 'txet'?)"),
        (lambda t: t.with_columns(text=pl.lit(5)), "SchemaDrift: column 'text': expected String, found Int32"),
        (lambda t: t.drop("id"), "MissingColumn: messages has no column 'id'"),
    ],
)
def test_all_steps_refuse_a_wrong_text_column_alike(change: Change, expected: str, trained: Trained) -> None:
    rule_set, dev = rules(multi_label=False), table(0, multi_label=False)
    labels = pl.LazyFrame({"id": [1], "tag": ["card"]}, schema_overrides={"tag": pl.Enum(TAGS)})
    labels = labels.with_columns(confidence=1.0, probabilities=pl.lit([1.0, 0.0], pl.Array(pl.Float32, 2)))
    odd, odd_gold = change(MESSAGES).lazy(), change(table(5000, multi_label=False)).lazy()
    gold = message_of(lambda: evaluate(trained.model, odd_gold, dev.lazy(), MESSAGES.lazy()))
    outcomes = {
        "apply": message_of(lambda: apply_rules(odd, rule_set)),
        "refine": message_of(lambda: refine_rules(odd, dev.lazy(), rule_set)),
        "train": message_of(lambda: train_classifier(odd, labels, dev.lazy())),
        "predict": message_of(lambda: predict(odd, trained.model)),
        "evaluate": gold.replace("dev", "messages"),
    }
    assert set(outcomes.values()) == {outcomes["apply"]}, outcomes
    assert expected in outcomes["apply"]


# --- the normal form of a text ------------------------------------------------------------------------------------

SPELLINGS = [
    ("замок", "за\u0301мок"),
    ("card", "ＣＡＲＤ"),
    ("счет", "СЧЁТ"),
    ("счёт", "сче\u0308т"),
    ("strasse", "Straße"),
    ("кредит", "кре\u00adдит"),
    ("карта", "кар\u200eта"),
    ("вклад", "в\u0302клад"),
    ("fine", "ﬁne"),
]


@pytest.mark.parametrize(("word", "other"), SPELLINGS)
def test_all_steps_treat_spellings_of_a_word_alike(word: str, other: str, trained: Trained) -> None:
    """All spellings are the same word to every step, except the one whose mark is not a stress mark."""
    text, odd = f"hello {word}, bye", f"hello {other}, bye"
    outcomes = {name: alike(word, text, odd) for name, alike in steps_that_compare(trained, other).items()}
    assert outcomes == dict.fromkeys(outcomes, "\u0302" not in other)


def steps_that_compare(trained: Trained, other: str) -> dict[str, Callable[[str, str, str], bool]]:
    """Returns a check for each step: whether it treats a text alike with another spelling of the word."""

    def by_rules(word: str, text: str, odd: str, stem: str | None = None) -> bool:
        rule = {"name": "r", "tag": "card", "any": [word], "stem": stem}
        rule_set = RuleSet.read({"tags": list(TAGS), "rules": [rule]}, where="test")
        votes = apply_rules(pl.LazyFrame({"id": [0, 1], "text": [text, odd]}), rule_set).votes.collect()
        return votes["r"].to_list() == ["card", "card"]

    def by_the_report(word: str, _: str, odd: str) -> bool:
        return f"<mark>{other}</mark>" in highlighted(Rule(name="r", tag="card", any=(word,)), odd)

    def by_the_miner(word: str, text: str, odd: str) -> bool:
        both = pl.Series("text", [text, odd])
        found = find_phrases(both, both, both.to_frame().lazy(), "text")
        return all(len(set(column)) == 1 for column in found.dev.toarray().T)

    def by_the_teacher(word: str, text: str, odd: str) -> bool:
        rows = Teacher(pl.Series([text, odd, "bye"]), pl.Series([text]))._dev.toarray()
        return np.array_equal(rows[0], rows[1])

    def by_the_features(word: str, text: str, odd: str) -> bool:
        rows = TextFeatures(pieces=True).fit([text, odd, "bye"]).transform([text, odd]).toarray()
        return np.array_equal(rows[0], rows[1])

    def by_the_leak_check(word: str, text: str, odd: str) -> bool:
        gold = pl.LazyFrame({"id": [1], "text": [text], "tag": ["card"]})
        dev = pl.LazyFrame({"id": [2], "text": [odd], "tag": ["card"]})
        return evaluate(trained.model, gold, dev, MESSAGES.lazy(), max_text_overlap=1.0).metrics["text_overlap"] == 1

    def by_masking(word: str, _: str, odd: str) -> bool:
        masked = mask_pii(pl.LazyFrame({"text": [odd]}), names=[word]).table.collect()["text"][0]
        many = [*(f"name{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(400)), word]
        assert mask_pii(pl.LazyFrame({"text": [odd]}), names=many).table.collect()["text"][0] == masked
        assert masked in ("hello [NAME], bye", odd)
        return masked != odd

    return {
        "apply": by_rules, "apply, stems": partial(by_rules, stem="russian"), "rule_report": by_the_report, "refine, miner": by_the_miner,
        "refine, teacher": by_the_teacher, "train and predict": by_the_features, "evaluate": by_the_leak_check,
        "mask": by_masking,
    }  # fmt: skip
