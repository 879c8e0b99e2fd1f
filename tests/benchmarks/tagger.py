"""The tagger on Banking77 by the number of clean rows; and how fast and how large training is at 500,000 rows.

Clean rows are drawn from train at random, the rest of train is unlabeled; rules are GPT-4o's keywords. Training chooses
on the clean rows alone, with labels that do not know the fold that it chooses by; some defaults of `semantic_prior` were
chosen on 2,000 training rows beforehand, see docs/tagger.md.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tests.benchmarks._memory import peak_mib

from kommuna.demo.messages import message_blocks
from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.apply import apply_rules
from kommuna.steps.labeling.label import label_messages
from kommuna.steps.training.features.tfidf import TextFeatures
from kommuna.steps.training.tagger import Tagger
from kommuna.steps.training.train import train_classifier

FOLDER = Path(__file__).resolve().parents[3] / "shared/data/banking77"
PUBLISHED = {62: 0.565, 125: 0.667, 250: 0.752, 500: 0.822, 1000: 0.865}  # BoxWRENCH, table 4: a fine-tuned encoder
DRAWS = {"embeddings": 3, "tfidf_logreg": 3, "tfidf_embeddings": 1}  # of the clean rows


def results() -> Iterator[dict[str, Any]]:
    """Yields test accuracies, means over draws of the clean rows; then seconds and peak MiB of training."""
    if FOLDER.is_dir():
        yield from _banking77()
    yield _size()


def _banking77() -> Iterator[dict[str, Any]]:
    train, test = _read("train", 0), _read("test", 100_000)
    rules = _rules()
    votes = apply_rules(train.lazy(), rules).votes.collect()
    for classifier, draws in DRAWS.items():
        for rows, published in PUBLISHED.items():
            ours, alone = [], []
            for seed in range(draws):
                order = np.random.default_rng(seed).permutation(train.height)
                clean, rest = order[:rows].tolist(), np.sort(order[rows:]).tolist()
                dev = train[clean]
                labeled = label_messages(votes[rest].lazy(), rules, votes[clean].lazy(), dev.lazy())
                messages = train[rest].drop("tag")
                found = train_classifier(
                    messages.lazy(), labeled.labels, dev.lazy(), labeled.cross_fitted, classifier=classifier
                )
                ours.append(_accuracy(found.model, test))
                alone.append(_accuracy(found.dev_only, test))
            yield {
                "name": f"Banking77 test accuracy, {classifier}, {rows} clean rows, {draws} draws",
                "ours": round(statistics.mean(ours), 4),
                "lowest": round(min(ours), 4),
                "highest": round(max(ours), 4),
                "clean rows alone": round(statistics.mean(alone), 4),
                "peer": published,
                "ratio": round(statistics.mean(ours) / published, 3),
            }


def _size() -> dict[str, Any]:
    """Compares training on operators' tags as soft labels with scikit-learn on the same texts and hard tags."""
    rows, sample = 500_000, 100_000
    ours_seconds, ours_mib = _in_a_process(_train, rows)
    peer_seconds, peer_mib = _in_a_process(_train_peer, sample)
    return {
        "name": f"training on {rows} rows x 51 tags, TF-IDF; peer: LogisticRegression on {sample} rows, scaled",
        "ours": round(ours_seconds, 1),
        "peer": round(peer_seconds * rows / sample, 1),
        "ratio": round(ours_seconds / (peer_seconds * rows / sample), 3),
        "peak MiB": round(ours_mib),
        "peer's peak MiB on its rows": round(peer_mib),
    }


def _in_a_process(work: Callable[[pl.DataFrame, pl.DataFrame], None], rows: int) -> tuple[float, float]:
    """Returns the seconds of the work and the peak MiB of a new process that does it."""
    context = multiprocessing.get_context("spawn")
    labeled: Any = context.SimpleQueue()
    process = context.Process(target=_measured, args=(work, rows, labeled))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{work.__name__} on {rows} rows ended with exit code {process.exitcode}")
    seconds, mib = labeled.get()
    return float(seconds), float(mib)


def _measured(work: Callable[[pl.DataFrame, pl.DataFrame], None], rows: int, labeled: Any) -> None:
    # The demo has 17 tags: each in three parts makes as many as a bank has.
    part = pl.format("{} {}", "tag", pl.col("id").hash(0) % 3)
    blocks = message_blocks(rows, seed=0, stream=1, first_id=0)
    messages = pl.concat(blocks).select("id", "text", tag=pl.col("operator_tag").fill_null(pl.col("tag")))
    messages = messages.with_columns(tag=part)
    blocks = message_blocks(1_000, seed=0, stream=2, first_id=rows)
    dev = pl.concat(blocks).select("id", "text", "tag").with_columns(tag=part)
    began = time.perf_counter()
    work(messages, dev)
    labeled.put((time.perf_counter() - began, peak_mib()))


def _train(messages: pl.DataFrame, dev: pl.DataFrame) -> None:
    tags = sorted(set(messages["tag"].unique()) | set(dev["tag"].unique()))
    given = messages["tag"].cast(pl.Enum(tags))
    p = np.full((messages.height, len(tags)), 0.2 / (len(tags) - 1), np.float32)
    p[np.arange(messages.height), given.to_physical().to_numpy()] = 0.8
    labels = pl.DataFrame({"id": messages["id"], "tag": given, "confidence": np.full(messages.height, 0.8, np.float32)})
    labels = labels.with_columns(probabilities=pl.Series(p, dtype=pl.Array(pl.Float32, len(tags))))
    train_classifier(messages.select("id", "text").lazy(), labels.lazy(), dev.lazy())


def _train_peer(messages: pl.DataFrame, dev: pl.DataFrame) -> None:
    from sklearn.linear_model import LogisticRegression

    texts = [*messages["text"].to_list(), *dev["text"].to_list()]
    features = TextFeatures(pieces=False).fit(texts).transform(texts)
    LogisticRegression(C=3.0, max_iter=100).fit(features, [*messages["tag"], *dev["tag"]])


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
