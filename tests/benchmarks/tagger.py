"""The tagger on Banking77 by the number of clean rows; and how fast and how large training is at 500,000 rows.

Clean rows are drawn from train at random, the rest of train is unlabeled; rules are GPT-4o's keywords. Everything is
chosen by cross-validation on the clean rows; test is read once a figure.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.apply import apply_rules
from kommuna.steps.labeling.label import label_messages
from kommuna.steps.training.tagger import Tagger
from kommuna.steps.training.train import train_classifier

FOLDER = Path(__file__).resolve().parents[3] / "shared/data/banking77"
PUBLISHED = {62: 0.565, 125: 0.667, 250: 0.752, 500: 0.822, 1000: 0.865}  # BoxWRENCH, table 4: a fine-tuned encoder
SEEDS = (0, 1, 2)


def results() -> Iterator[dict[str, Any]]:
    """Yields test accuracies, means over draws of the clean rows; then seconds and peak MiB of training."""
    if FOLDER.is_dir():
        yield from _banking77()


def _banking77() -> Iterator[dict[str, Any]]:
    train, test = _read("train", 0), _read("test", 100_000)
    rules = _rules()
    votes = apply_rules(train.lazy(), rules).votes.collect()
    for classifier in ("tfidf_logreg", "embeddings", "tfidf_embeddings"):
        for rows, published in PUBLISHED.items():
            ours, alone = [], []
            for seed in SEEDS:
                order = np.random.default_rng(seed).permutation(train.height)
                clean, rest = order[:rows].tolist(), np.sort(order[rows:]).tolist()
                dev = train[clean]
                labels = label_messages(votes[rest].lazy(), rules, votes[clean].lazy(), dev.lazy()).labels
                messages = train[rest].drop("tag")
                found = train_classifier(messages.lazy(), labels.lazy(), dev.lazy(), classifier=classifier)
                ours.append(_accuracy(found.model, test))
                alone.append(_accuracy(found.dev_only, test))
            yield {
                "name": f"Banking77 test accuracy, {classifier}, {rows} clean rows, {len(SEEDS)} draws",
                "ours": round(statistics.mean(ours), 4),
                "lowest": round(min(ours), 4),
                "highest": round(max(ours), 4),
                "clean rows alone": round(statistics.mean(alone), 4),
                "peer": published,
                "ratio": round(statistics.mean(ours) / published, 3),
            }


def _accuracy(model: Tagger, test: pl.DataFrame) -> float:
    return float((model.predict_table(test)["tag"].cast(pl.String) == test["tag"]).mean())


def _read(name: str, first: int) -> pl.DataFrame:
    table = pl.read_csv(FOLDER / f"{name}.csv").rename({"category": "tag"})
    return table.insert_column(0, pl.Series("id", np.arange(table.height) + first))


def _rules() -> RuleSet:
    words: dict[str, list[str]] = json.loads((FOLDER / "gpt4o_keywords.json").read_text())
    named = enumerate((tag, word) for tag, found in words.items() for word in found)
    rules = [{"name": f"r{n}", "tag": tag, "any": [word]} for n, (tag, word) in named]
    return RuleSet.model_validate({"tags": json.loads((FOLDER / "categories.json").read_text()), "rules": rules})
