"""Small messages with known tags, and weak labels of known quality."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

TAGS = ("card", "credit", "вклад")
WORDS = {
    "card": ["card", "pin", "lost", "block", "plastic", "карта", "заблокировать"],
    "credit": ["credit", "loan", "rate", "debt", "repay", "кредит", "ставка"],
    "вклад": ["deposit", "savings", "interest", "term", "вклад", "счёт", "проценты"],
}
FILLER = ["please", "help", "my", "the", "today", "hello", "пожалуйста", "добрый", "день", "bank", "app", "why"]


@dataclass
class Task:
    """The tables of a synthetic task; `truth` has the tag of every message."""

    messages: pl.DataFrame
    labels: pl.DataFrame
    dev: pl.DataFrame
    gold: pl.DataFrame
    gold_labels: pl.DataFrame
    truth: pl.Series


def texts_of(random: np.random.Generator, tags: list[list[str]]) -> list[str]:
    """Draws a text for each set of tags: two words per tag, and filler words."""
    out = []
    for found in tags:
        words = [str(random.choice(WORDS[tag])) for tag in found for _ in range(2)]
        words += [str(w) for w in random.choice(FILLER, 4)]
        random.shuffle(words)
        out.append(" ".join(words))
    return out


def soft(
    truth: list[str], random: np.random.Generator, *, ids: pl.Series, accuracy: float, unknown: float = 0.1
) -> pl.DataFrame:
    """Returns labels as of a label model with that accuracy; `unknown` is the share of rows without a label."""
    n, k = len(truth), len(TAGS)
    right = np.array([TAGS.index(tag) for tag in truth])
    wrong = (right + random.integers(1, k, n)) % k
    given = np.where(random.random(n) < accuracy, right, wrong)
    p = np.full((n, k), (1 - 0.8) / (k - 1), np.float32)
    p[np.arange(n), given] = 0.8
    known = pl.Series(random.random(n) >= unknown)
    table = pl.DataFrame(
        {
            "id": ids,
            "tag": pl.Series([TAGS[g] for g in given], dtype=pl.Enum(TAGS)),
            "confidence": pl.Series([0.8] * n, dtype=pl.Float32),
            "probabilities": pl.Series(p, dtype=pl.Array(pl.Float32, k)),
        }
    )
    return table.with_columns(pl.when(known).then(pl.col(c)).alias(c) for c in ("tag", "confidence", "probabilities"))


@pytest.fixture(scope="session")
def make_task() -> Callable[..., Task]:
    """Draws a task: `n` messages, `dev` dev rows, 200 gold rows."""

    def make(n: int = 600, dev: int = 60, *, accuracy: float = 0.85, unknown: float = 0.1, seed: int = 0) -> Task:
        random = np.random.default_rng(seed)
        tags = [str(t) for t in random.choice(TAGS, n + dev + 200, p=[0.5, 0.3, 0.2])]
        table = pl.DataFrame({"id": np.arange(len(tags)), "text": texts_of(random, [[t] for t in tags]), "tag": tags})
        messages, dev_rows, gold = table.head(n), table.slice(n, dev), table.slice(n + dev)
        labels = soft(tags[:n], random, ids=messages["id"], accuracy=accuracy, unknown=unknown)
        gold_labels = soft(tags[n + dev :], random, ids=gold["id"], accuracy=accuracy, unknown=unknown)
        return Task(messages.drop("tag"), labels, dev_rows, gold, gold_labels, messages["tag"])

    return make


@pytest.fixture(scope="session")
def task(make_task: Callable[..., Task]) -> Task:
    """The default task."""
    return make_task()


@pytest.fixture(scope="session")
def several_task() -> Task:
    """A task with several tags per row, or none; the weak marginals are right nine times in ten."""
    random = np.random.default_rng(1)
    truth = random.random((900, 3)) < np.array([0.5, 0.3, 0.2])
    tags = [[TAGS[j] for j in np.flatnonzero(row)] for row in truth]
    table = pl.DataFrame(
        {"id": np.arange(900), "text": texts_of(random, tags), "tags": pl.Series(tags, dtype=pl.List(pl.String))}
    )
    p = np.where(truth ^ (random.random(truth.shape) < 0.1), 0.85, 0.1).astype(np.float32)
    labels = pl.DataFrame(
        {
            "id": table["id"],
            "tags": pl.Series([[TAGS[j] for j in np.flatnonzero(r >= 0.5)] for r in p], dtype=pl.List(pl.Enum(TAGS))),
            "confidence": pl.Series(np.maximum(p, 1 - p).min(axis=1), dtype=pl.Float32),
            "probabilities": pl.Series(p, dtype=pl.Array(pl.Float32, 3)),
        }
    )
    messages = table.head(600).drop("tags")
    return Task(messages, labels.head(600), table.slice(600, 100), table.slice(700), labels.slice(700), table["tags"])


@pytest.fixture(scope="session")
def banking77() -> Callable[..., tuple[pl.DataFrame, ...]]:
    """Banking77: messages, dev, test, the label model's labels of messages and of test by GPT-4o's keyword rules, and its
    cross-fitted ones."""
    import json
    from pathlib import Path

    from kommuna.spec.rules import RuleSet
    from kommuna.steps.labeling.apply import apply_rules
    from kommuna.steps.labeling.label import label_messages

    def make(folder: Path, *, dev_rows: int, seed: int = 0) -> tuple[pl.DataFrame, ...]:
        def read(name: str, first: int) -> pl.DataFrame:
            table = pl.read_csv(folder / f"{name}.csv").rename({"category": "tag"})
            return table.insert_column(0, pl.Series("id", np.arange(table.height) + first))

        train, test = read("train", 0), read("test", 100_000)
        words: dict[str, list[str]] = json.loads((folder / "gpt4o_keywords.json").read_text())
        rules = [
            {"name": f"r{n}", "tag": tag, "any": [word]}
            for n, (tag, word) in enumerate((t, w) for t, found in words.items() for w in found)
        ]
        rule_set = RuleSet.model_validate(
            {"tags": json.loads((folder / "categories.json").read_text()), "rules": rules}
        )
        order = np.random.default_rng(seed).permutation(train.height)
        dev = train[order[:dev_rows].tolist()]
        messages = train[np.sort(order[dev_rows:]).tolist()].drop("tag")
        votes, dev_votes, test_votes = (apply_rules(t.lazy(), rule_set).votes for t in (messages, dev, test))
        labeled = label_messages(votes, rule_set, dev_votes, dev.lazy(), test_votes)
        assert labeled.gold_labels is not None
        assert labeled.cross_fitted is not None
        labels = [table.collect() for table in (labeled.labels, labeled.gold_labels, labeled.cross_fitted)]
        return messages, dev, test, *labels

    return make
