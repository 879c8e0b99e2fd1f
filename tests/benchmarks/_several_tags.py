"""NLU++ (several intents a message) by keyword rules that are written from the ontology and some training folds."""

from __future__ import annotations

import json
import time
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import polars as pl
from tests.benchmarks._weak_data import DATA

from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.apply import apply_rules
from kommuna.steps.labeling.label import label_messages

WRITE, DEV, TEST = range(4), range(4, 14), range(14, 20)  # folds: rules are written, weighed, reported on
WORDS = 6  # rules a tag, at most, that are found in the writing folds
LEAST_PRECISION, LEAST_ROWS = 0.5, 3
TOO_COMMON = {"the", "a", "to", "i", "my", "is", "and", "of", "you", "me", "it", "in", "for", "on", "not", "with", "or"}


def nlupp(model: Any) -> dict[str, float]:
    """Micro and macro F1 over the tags on test folds, of labels by a model that saw their votes and no label."""
    messages, rules, votes = _cast()
    parts = {name: messages.filter(pl.col("fold").is_in(list(folds))) for name, folds in (("dev", DEV), ("test", TEST))}
    of = {name: votes.filter(pl.col("id").is_in(rows["id"].implode())) for name, rows in parts.items()}
    start = time.perf_counter()
    done = label_messages(
        votes.lazy(), rules, of["dev"].lazy(), parts["dev"].lazy(), of["test"].lazy(), model=model, label="tags"
    )
    assert done.gold_labels is not None
    told = done.gold_labels.collect()
    seconds = time.perf_counter() - start
    said = _table(told["tags"].cast(pl.List(pl.String)).to_list(), rules)
    truth = _table(parts["test"]["tags"].to_list(), rules)
    right, both = (said & truth).sum(axis=0), said.sum(axis=0) + truth.sum(axis=0)
    there = truth.any(axis=0)
    return {
        "f1_micro": float(2 * right.sum() / both.sum()),
        "f1_macro": float((2 * right[there] / both[there]).mean()),
        "seconds": seconds,
    }


@cache
def _cast() -> tuple[pl.DataFrame, RuleSet, pl.DataFrame]:
    folder = DATA / "nlupp_banking"
    rows = [
        {"fold": fold, "text": row["text"], "tags": row.get("intents", [])}
        for fold in range(20)
        for row in json.loads((folder / f"fold{fold}.json").read_text())
    ]
    messages = pl.DataFrame(rows).with_row_index("id")
    ontology = json.loads((folder / "ontology.json").read_text())["intents"]
    rules = _rules(messages.filter(pl.col("fold").is_in(list(WRITE))), list(ontology))
    return messages, rules, apply_rules(messages.lazy(), rules).votes.collect()


def _rules(written_from: pl.DataFrame, tags: list[str]) -> RuleSet:
    """A rule for each word of a tag's own name, and for each word that is mostly the tag's in the writing folds."""
    texts = [set(text.lower().replace("?", " ").replace(",", " ").split()) for text in written_from["text"]]
    total = Counter(word for words in texts for word in words)
    rules = []
    for tag in tags:
        own = Counter(
            word
            for words, has in zip(texts, written_from["tags"].to_list(), strict=True)
            if tag in has
            for word in words
        )
        good = [w for w, n in own.items() if n >= LEAST_ROWS and n / total[w] >= LEAST_PRECISION and w.isalpha()]
        good.sort(key=lambda w: (-own[w] / (total[w] + 2), w))
        named = [word for word in tag.split("_") if word not in TOO_COMMON]
        for word in dict.fromkeys([*named, *good[:WORDS]]):
            rules.append({"name": f"{tag}.{word}", "tag": tag, "any": [word]})
    return RuleSet.read({"tags": tags, "several_tags": True, "rules": rules}, where="nlupp")


def _table(lists: list[list[str] | None], rules: RuleSet) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.array([[tag in (tags or []) for tag in rules.tags] for tags in lists])
