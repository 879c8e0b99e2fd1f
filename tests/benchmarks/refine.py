"""The loop by the miner alone, from no rules and 1,000 dev rows: macro F1 on gold by round, and rules that are wrong more
often than right there; and mining's speed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from kommuna.demo.banking77 import write_banking_data
from kommuna.demo.write import write_demo_data
from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.apply import apply_rules
from kommuna.steps.labeling.refine.mining.phrases import find_phrases
from kommuna.steps.labeling.refine.step import refine_rules

ROOT = Path(__file__).resolve().parent.parent.parent
BANKING = ROOT.parent / "shared" / "data" / "banking77"
MINED = 500_000


def results() -> Iterator[dict[str, Any]]:
    """Yields, for each data set, macro F1 on gold at the end (ours), at the start (peer), and by round."""
    with tempfile.TemporaryDirectory(prefix="kommuna-bench-") as name:
        demo = write_demo_data(Path(name, "demo"), transactions=1).folder
        if BANKING.is_dir():
            yield _loop("Banking77", write_banking_data(BANKING, Path(name, "banking")).folder)
        yield _loop("demo data", demo)
        yield _mining(demo)


def _loop(name: str, folder: Path) -> dict[str, Any]:
    messages, dev, gold = (pl.scan_csv(folder / file) for file in ("messages.csv", "dev.csv", "gold.csv"))
    began = time.perf_counter()
    made = refine_rules(messages.select("id", "text"), dev, None, gold)
    seconds = time.perf_counter() - began
    scores = [round(score, 4) for score in made.rounds["gold_f1"]]
    return {
        "name": f"refine_rules by the miner, no rules, 1,000 dev rows: macro F1 on gold of {name}",
        "ours": scores[-1],
        "peer": scores[0],
        "never_below_start": min(scores) >= scores[0],
        "gold_by_round": scores,
        "dev_by_round": [round(score, 4) for score in made.rounds["dev_f1"]],
        "rules": int(made.metrics["rules"]),
        "wrong_more_often_than_right": round(_wrong(made.rules.rules, gold), 4),
        "coverage": round(made.metrics["coverage"], 4),
        "seconds": round(seconds, 2),
    }


def _wrong(rules: RuleSet, gold: pl.LazyFrame) -> float:
    """Returns the share of rules for a tag that are wrong on more gold rows than they are right."""
    votes = apply_rules(gold, rules).votes.collect().join(gold.select("id", truth="tag").collect(), on="id")
    own = [rule for rule in rules.rules if not rule.against]
    right = [votes[rule.name].cast(pl.String) == votes["truth"] for rule in own]
    return sum(2 * (r.sum() or 0) < r.count() for r in right) / len(own)


def _mining(folder: Path) -> dict[str, Any]:
    """Compares with scikit-learn's CountVectorizer on a tenth of the rows, scaled."""
    from sklearn.feature_extraction.text import CountVectorizer

    once = pl.read_csv(folder / "messages.csv", columns=["text"])["text"]
    texts = pl.concat([once] * -(-MINED // len(once))).head(MINED)
    dev = pl.read_csv(folder / "dev.csv")["text"]
    began = time.perf_counter()
    found = find_phrases(dev, texts.head(20_000), texts.to_frame("text").lazy(), "text")
    ours = time.perf_counter() - began
    words = [phrase for phrase in found.conditions if isinstance(phrase, str)]
    began = time.perf_counter()
    CountVectorizer(vocabulary=words, ngram_range=(1, 3)).transform(texts.head(MINED // 10).to_list())
    peer = 10 * (time.perf_counter() - began)
    return {
        "name": f"phrases and pairs counted in {MINED:,} messages, beside CountVectorizer (phrases only, a tenth of the rows scaled)",
        "ours": round(ours, 2),
        "peer": round(peer, 2),
        "ratio": round(ours / peer, 3),
        "conditions": len(found),
    }
