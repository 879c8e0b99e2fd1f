"""`python -m tests.rigs.thread_digests`: digests of trained models and labels, made with the threads of this process."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl
import scipy.linalg  # noqa: F401
from threadpoolctl import threadpool_limits

from kommuna.spec.choices import LabelModelName
from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.label import label_messages
from kommuna.steps.training.fit.boosted_trees import ONE_THREAD_ROWS, BoostedTrees
from kommuna.steps.training.train import train_classifier

TAGS = tuple(f"tag_{i:02}" for i in range(12))
DEV = 700  # BLAS splits sums of more than some 500 terms by threads
MESSAGES = 2_000
LABEL_MODELS = [name for name in get_args(LabelModelName) if name != "snorkel"]  # which needs torch


def table(rows: int, *, first: int = 0, texts: int | None = None) -> pl.DataFrame:
    """Draws rows with a tag, and a text and three columns that depend on it.

    Args:
        rows: the number of rows.
        first: the first row's number; it is the seed, too.
        texts: the number of distinct texts; one per row if absent.
    """
    random = np.random.default_rng(first)
    tag = random.integers(0, len(TAGS), texts or rows)
    words = [[f"own{t}x{w}" for w in random.integers(0, 9, 2)] for t in tag]
    common = random.zipf(1.3, (len(tag), 8)) % 3000
    text = [" ".join([*own, *(f"word{w}" for w in line)]) for own, line in zip(words, common, strict=True)]
    line = np.arange(rows) % len(tag)
    tag = tag[line]
    return pl.DataFrame(
        {
            "id": np.arange(first, first + rows),
            "text": [text[i] for i in line],
            "tag": [TAGS[t] for t in tag],
            "amount": random.normal(0, 1, rows) + tag % 4,
            "hour": random.normal(0, 1, rows) + tag // 4,
            "channel": [f"channel_{t % 3}" for t in tag],
        }
    )


def weak_labels(rows: pl.DataFrame, *, several: bool = False) -> pl.DataFrame:
    """Returns labels as of a label model that is right three times in four."""
    random = np.random.default_rng(1)
    tag = np.array([TAGS.index(t) for t in rows["tag"]])
    given = np.where(random.random(rows.height) < 0.75, tag, random.integers(0, len(TAGS), rows.height))
    p = np.full((rows.height, len(TAGS)), 0.3 / (len(TAGS) - 1), np.float32)
    p[np.arange(rows.height), given] = 0.7
    kind = pl.Enum(TAGS)
    tags = pl.Series("tag", [TAGS[g] for g in given], dtype=kind)
    return pl.DataFrame(
        {
            "id": rows["id"],
            **({"tags": pl.Series([[t] for t in tags], dtype=pl.List(kind))} if several else {"tag": tags}),
            "confidence": pl.Series(np.full(rows.height, 0.7), dtype=pl.Float32),
            "probabilities": pl.Series(p, dtype=pl.Array(pl.Float32, len(TAGS))),
        }
    )


def trained(classifier: str, *, dev_rows: int = DEV, several: bool = False, texts: int | None = None) -> str:
    """Trains a classifier of texts; returns a digest of its file, its figures and its probabilities of other rows."""
    messages, dev = table(MESSAGES, texts=texts), table(dev_rows, first=MESSAGES)
    if several:
        dev = dev.select("id", "text", tags=pl.concat_list("tag"))
    found = train_classifier(
        messages.drop("tag").lazy(),
        weak_labels(messages, several=several).lazy(),
        dev.lazy(),
        classifier=classifier,  # type: ignore[arg-type]
        label="tags" if several else "tag",
    )
    with tempfile.TemporaryDirectory() as folder:
        found.model.save(Path(folder, "model"))
        saved = Path(folder, "model").read_bytes()
    predicted = found.model.probabilities(messages.head(1_000)).tobytes()
    return hashlib.sha256(saved + predicted + repr(found.metrics).encode()).hexdigest()


def boosted() -> str:
    """Fits boosted trees on as many rows as use several threads; returns a digest of their probabilities."""
    rows = table(ONE_THREAD_ROWS + 1)
    features = rows.select("amount", "hour", pl.col("channel").str.tail(1).cast(pl.Float64)).to_numpy()
    classes = rows["tag"].is_in(TAGS[:4]).to_numpy().astype(int)
    model = BoostedTrees([False, False, True], 0).fit(features, classes, sample_weight=np.linspace(0.5, 1, len(rows)))
    return hashlib.sha256(model.predict_proba(features).tobytes()).hexdigest()


def labeled(model: str, *, several: bool = False) -> str:
    """Labels messages by votes of chance accuracies; returns a digest of all that the step returns."""
    rules = RuleSet.model_validate(
        {
            "tags": list(TAGS),
            "multi_label": several,
            "rules": [{"name": f"rule_{i}", "tag": TAGS[i % len(TAGS)], "any": [f"x{i}"]} for i in range(36)],
        }
    )

    def votes(rows: pl.DataFrame) -> pl.LazyFrame:
        random = np.random.default_rng(rows["id"][0])
        tag = np.array([TAGS.index(t) for t in rows["tag"]])
        columns = {"id": rows["id"]}
        for i, rule in enumerate(rules.rules):
            own = i % len(TAGS)
            fires = random.random(rows.height) < np.where(tag == own, 0.5, 0.02)
            vote = pl.Series([1 if several else rule.tag] * rows.height)
            columns[rule.name] = vote.set(pl.Series(~fires), None).cast(pl.Int8 if several else pl.Enum(TAGS))
        return pl.DataFrame(columns).lazy()

    messages, dev, gold = table(MESSAGES), table(DEV, first=MESSAGES), table(200, first=MESSAGES + DEV)
    truth = dev.select("id", tags=pl.concat_list("tag")) if several else dev.select("id", "tag")
    found = label_messages(
        votes(messages),
        rules,
        votes(dev),
        truth.lazy(),
        votes(gold),
        model=model,  # type: ignore[arg-type]
        label="tags" if several else "tag",
    )
    parts = [found.labels, found.gold_labels, found.cross_fitted]
    tables = [part.collect().write_ndjson() for part in parts if part is not None]
    return hashlib.sha256("".join([*tables, repr(found.metrics)]).encode()).hexdigest()


CASES: dict[str, Callable[[], str]] = {
    "tfidf_logreg": lambda: trained("tfidf_logreg"),
    "tfidf_logreg, several tags": lambda: trained("tfidf_logreg", several=True),
    "tfidf_cnb": lambda: trained("tfidf_cnb"),
    "embeddings": lambda: trained("embeddings", dev_rows=25, texts=60),
    "boosted_trees": boosted,
    **{name: lambda name=name: labeled(name) for name in LABEL_MODELS},  # type: ignore[misc]
    "kommuna, several tags": lambda: labeled("kommuna", several=True),
}


def digests(threads: int) -> Iterator[tuple[str, str]]:
    """Yields the digest of each case."""
    assert pl.thread_pool_size() == threads
    with threadpool_limits(threads):  # also more of them than this machine has cores
        for name, case in CASES.items():
            yield name, case()


if __name__ == "__main__":
    print(json.dumps(dict(digests(int(os.environ["POLARS_MAX_THREADS"])))))
