"""Step: votes to labels, by a label model."""

from __future__ import annotations

import time
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
import structlog
from numpy.typing import NDArray

from kommuna.errors import DataError, DuplicateKeys, MissingColumn
from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.dev import Dev, read_dev
from kommuna.steps.labeling.models.base import LabelModel
from kommuna.steps.labeling.models.dawid_skene import DawidSkene
from kommuna.steps.labeling.models.majority import Majority
from kommuna.steps.labeling.models.snorkel_model import SnorkelModel
from kommuna.steps.labeling.one_tag import fitted_beliefs, honest_dev_beliefs
from kommuna.steps.labeling.patterns import VotePatterns, vote_patterns

log = structlog.get_logger()

ModelName = Literal["majority", "dawid_skene", "snorkel"]


class Labeled(NamedTuple):
    """What `label_messages` leaves."""

    labels: pl.LazyFrame
    gold_labels: pl.LazyFrame | None
    metrics: dict[str, float]


def label_messages(
    votes: pl.LazyFrame,
    rules: RuleSet,
    dev_votes: pl.LazyFrame | None = None,
    dev: pl.LazyFrame | None = None,
    gold_votes: pl.LazyFrame | None = None,
    *,
    model: ModelName = "dawid_skene",
    key: str = "id",
    label: str = "tag",
    seed: int = 0,
    iterations: int = 5,
    epochs: int = 500,
    memory: str = "4Gi",
) -> Labeled:
    """Turns votes into one belief a row.

    Args:
        votes: what `apply_rules` returned for the rows to label.
        rules: the rule set that was applied.
        dev_votes: votes of the same rules on the dev rows.
        dev: the dev rows: `key` and `label`.
        gold_votes: votes of the same rules on the gold rows, which the fitted model labels without learning from
            them: what the label model alone would say.
        model: `majority`, `dawid_skene` or `snorkel` (needs torch).
        key: the column that names a row.
        label: the column of `dev` with the true tag; where rows have several tags, a list or a String with `|` between.
        seed: of what is random: the folds of dev rows, and Snorkel's initial values.
        iterations: EM steps of `dawid_skene`.
        epochs: training epochs of `snorkel`.
        memory: the most that `snorkel` may take.
    Returns:
        labels: `key`; `tag`, an Enum of the tags (where rows have several tags: `tags`, a list, each with a
            probability of one half or more); `confidence`, Float32, the tag's probability (several tags: that of the
            least certain yes or no); `probabilities`, an Array of k in the tags' order. A row without a vote is
            unknown: null in all three.
        gold_labels: the same for the gold rows; None without `gold_votes`.
        metrics: rows, labeled (share of rows), confidence (mean), patterns, tags_without_votes; with dev rows:
            dev_rows, dev_too_few (1 if there are fewer than tags), dev_coverage, and dev_accuracy (an unknown row
            counts as wrong) and dev_accuracy_labeled, or dev_f1_micro and dev_f1_macro. These are cross-fitted: no
            dev row is judged by a model that saw its label.
    Raises:
        RulesError, DataError, LimitExceeded, SpecError: see `read_dev`, `vote_patterns` and the models.
    """
    started = time.perf_counter()
    table = _table(votes, key, "votes")
    patterns = vote_patterns(table, rules, key=key)
    dev_rows = read_dev(dev_votes, dev, rules, key=key, label=label)
    metrics = {"rows": float(patterns.rows), "patterns": float(len(patterns.counts))}
    metrics["tags_without_votes"] = float(_warn_of_silent_tags(patterns))

    def new_model() -> LabelModel:
        if model == "majority":
            return Majority()
        if model == "snorkel":
            return SnorkelModel(epochs=epochs, seed=seed, memory=memory)
        return DawidSkene(iterations=iterations)

    gold = None if gold_votes is None else _table(gold_votes, key, "gold_votes")
    gold_patterns = None if gold is None else vote_patterns(gold, rules, key=key)
    asked = patterns.votes if gold_patterns is None else np.vstack([patterns.votes, gold_patterns.votes])
    beliefs = fitted_beliefs(new_model, patterns, dev_rows, asked)
    labels, confidence = _labels(table[key], patterns, beliefs[: len(patterns.counts)], rules)
    gold_labels = None
    if gold is not None and gold_patterns is not None:
        gold_labels, _ = _labels(gold[key], gold_patterns, beliefs[len(patterns.counts) :], rules)
    known = patterns.counts[patterns.covered].sum()
    metrics["labeled"] = float(known / patterns.rows)
    metrics["confidence"] = float(patterns.counts @ np.where(patterns.covered, confidence, 0) / max(known, 1))
    if dev_rows is not None:
        if len(dev_rows) < len(rules.tags):
            log.warning(
                "label.few_dev_rows",
                dev_rows=len(dev_rows),
                tags=len(rules.tags),
                hint="they do not set the class prior",
            )
        metrics |= {"dev_rows": float(len(dev_rows)), "dev_too_few": float(len(dev_rows) < len(rules.tags))}
        metrics |= _dev_metrics(honest_dev_beliefs(new_model, patterns, dev_rows, seed=seed), dev_rows, rules)
    log.info(
        "messages.labeled",
        model=model,
        rows=patterns.rows,
        patterns=len(patterns.counts),
        labeled=round(metrics["labeled"], 4),
        seconds=round(time.perf_counter() - started, 3),
    )
    return Labeled(labels, gold_labels, metrics)


def _table(votes: pl.LazyFrame, key: str, where: str) -> pl.DataFrame:
    """A votes table in memory, its key checked."""
    table = votes.collect(engine="streaming")
    if key not in table.columns:
        raise MissingColumn(f"the votes have no column '{key}'", where=f"{where}: {', '.join(table.columns[:5])} …")
    if table[key].n_unique() < table.height:
        raise DuplicateKeys(
            f"column '{key}': {table[key].filter(table[key].is_duplicated())[0]!r} names several rows", where=where
        )
    if table.is_empty():
        raise DataError("the votes have no rows: there is nothing to learn from", where=where)
    return table


def _labels(
    keys: pl.Series, patterns: VotePatterns, beliefs: NDArray[np.float64], rules: RuleSet
) -> tuple[pl.LazyFrame, NDArray[np.float64]]:
    """The labels of all rows, lazily, and the confidence of each pattern."""
    enum = pl.Enum(rules.tags)
    tags = pl.Series(rules.tags, dtype=enum)
    if rules.several_tags:
        confidence = np.maximum(beliefs, 1 - beliefs).min(axis=1)
        lists = [np.flatnonzero(line >= 0.5).tolist() for line in beliefs]
        named = pl.Series("tags", [tags.gather(line).to_list() for line in lists], dtype=pl.List(enum))
    else:
        confidence = beliefs.max(axis=1)
        named = tags.gather(beliefs.argmax(axis=1)).rename("tag")
    by_pattern = pl.DataFrame(
        {
            "_pattern": pl.Series(range(len(beliefs)), dtype=pl.Int32),
            named.name: named,
            "confidence": pl.Series(confidence, dtype=pl.Float32),
            "probabilities": pl.Series(beliefs.astype(np.float32), dtype=pl.Array(pl.Float32, len(rules.tags))),
        }
    ).filter(pl.Series(patterns.covered))
    rows = pl.LazyFrame({keys.name: keys, "_pattern": patterns.row_pattern})
    return rows.join(by_pattern.lazy(), on="_pattern", how="left", maintain_order="left").drop("_pattern"), confidence


def _warn_of_silent_tags(patterns: VotePatterns) -> int:
    voted = set(np.unique(patterns.votes).tolist())
    silent = [tag for i, tag in enumerate(patterns.tags) if i not in voted]
    if silent:
        log.warning("label.tags_without_votes", tags=silent, hint="no rule ever votes for them")
    return len(silent)


def _dev_metrics(beliefs: NDArray[np.float64], dev: Dev, rules: RuleSet) -> dict[str, float]:
    covered = np.asarray((dev.votes >= 0).any(axis=1))
    shares = {"dev_coverage": float(covered.mean())}
    if rules.several_tags:
        said = (beliefs >= 0.5) & covered[:, None]
        right: NDArray[np.int64] = (said & dev.truth).sum(axis=0)
        both: NDArray[np.int64] = said.sum(axis=0) + dev.truth.sum(axis=0)
        there = np.flatnonzero(both)
        return shares | {
            "dev_f1_micro": float(2 * right.sum() / max(both.sum(), 1)),
            "dev_f1_macro": float((2 * right[there] / both[there]).mean()) if len(there) else 0.0,
        }
    right_rows = (beliefs.argmax(axis=1) == dev.tag) & covered
    return shares | {
        "dev_accuracy": float(right_rows.mean()),
        "dev_accuracy_labeled": float(right_rows.sum() / max(covered.sum(), 1)),
    }
