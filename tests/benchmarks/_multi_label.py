"""NLU++ (several intents a message) by keyword rules that are written from the ontology and some training folds.

Rules are written from the tags' names and folds 0 to 3; dev rows are drawn from folds 4 to 13, whose other rows are the
messages; figures are of folds 14 to 19. What was chosen, was chosen on folds 11 to 13 with dev rows of folds 4 to 10.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import polars as pl
from tests.benchmarks._weak_data import DATA

from kommuna.spec.rules import KeywordRule, RuleSet
from kommuna.steps.labeling.apply import apply_rules
from kommuna.steps.labeling.label import label_messages
from kommuna.steps.training.train import train_classifier

WRITE, DEV, TEST = range(4), range(4, 14), range(14, 20)  # folds: rules are written, weighed, reported on
WORDS = 6  # rules a tag, at most, that are found in the writing folds
LEAST_PRECISION, LEAST_ROWS = 0.5, 3
DRAWS = int(os.environ.get("SEEDS", "3"))  # of the dev rows
LABELS = ("kommuna", "weighted", "dawid_skene")
TOO_COMMON = {"the", "a", "to", "i", "my", "is", "and", "of", "you", "me", "it", "in", "for", "on", "not", "with", "or"}


def nlupp(model: Any) -> dict[str, float]:
    """Micro and macro F1 on test folds, of labels by a model that saw their votes but no labels."""
    messages, rules, votes = _cast()
    parts = {name: messages.filter(pl.col("fold").is_in(list(folds))) for name, folds in (("dev", DEV), ("test", TEST))}
    of = {name: votes.filter(pl.col("id").is_in(rows["id"].implode())) for name, rows in parts.items()}
    start = time.perf_counter()
    done = label_messages(
        votes.lazy(), rules, of["dev"].lazy(), parts["dev"].lazy(), of["test"].lazy(), model=model, label="tags"
    )
    assert done.gold_labels is not None
    labels_found = done.gold_labels.collect()
    seconds = time.perf_counter() - start
    macro, micro = _f1(_predicted(labels_found, rules), _table(parts["test"]["tags"].to_list(), rules))
    return {"f1_micro": micro, "f1_macro": macro, "seconds": seconds}


def beside(dev_rows: int) -> Iterator[dict[str, Any]]:
    """Labels of each model and taggers trained on them, compared with counted votes and logistic regression on those.

    Yields for each kind of rules the macro and micro F1 on test folds, means over draws of the dev rows.
    """
    for kind, rules, votes in _kinds():
        found: dict[str, list[tuple[float, float]]] = {}
        for seed in range(DRAWS):
            for name, figures in _draw(rules, votes, dev_rows, seed).items():
                found.setdefault(name, []).append(figures)
        mean = {name: np.mean(figures, axis=0).round(4).tolist() for name, figures in found.items()}
        peers = {
            name: mean.pop(name) for name in ("votes counted", "logistic regression on counted votes and dev rows")
        }
        yield {
            "name": f"NLU++ banking, {kind}, {dev_rows} dev rows: macro and micro F1 on test folds, {DRAWS} draws",
            "ours": mean["tagger"],
            "all": mean,
            "labels_less_votes_counted": _less(found["labels of kommuna"], found["votes counted"]),
            "tagger_less_votes_counted": _less(found["tagger"], found["votes counted"]),
            "peer": peers["votes counted"],
            "peers": peers,
        }


def _less(ours: list[tuple[float, float]], peer: list[tuple[float, float]]) -> list[str]:
    """Returns macro and micro F1 minus the peer's on the same draws, with the paired standard error."""
    by = np.subtract(ours, peer)
    error = by.std(axis=0, ddof=1) / np.sqrt(len(by)) if len(by) > 1 else np.full(2, np.nan)
    return [f"{mean:+.4f} ± {one:.4f}" for mean, one in zip(by.mean(axis=0), error, strict=True)]


def _draw(rules: RuleSet, votes: pl.DataFrame, dev_rows: int, seed: int) -> dict[str, tuple[float, float]]:
    messages, _, _ = _cast()
    fold = messages["fold"].to_numpy()
    drawn = np.random.default_rng(seed).permutation(np.flatnonzero(np.isin(fold, DEV)))
    parts = {"dev": np.sort(drawn[:dev_rows]), "rest": np.sort(drawn[dev_rows:]), "test": np.flatnonzero(fold >= 14)}
    rows = {name: messages[part.tolist()] for name, part in parts.items()}
    of = {name: votes[part.tolist()].lazy() for name, part in parts.items()}
    truth = _table(rows["test"]["tags"].to_list(), rules)
    found: dict[str, tuple[float, float]] = {}
    for model in LABELS:
        labels_found = label_messages(
            of["rest"], rules, of["dev"], rows["dev"].lazy(), of["test"], model=model, label="tags"  # type: ignore[arg-type]
        )  # fmt: skip
        assert labels_found.gold_labels is not None
        found[f"labels of {model}"] = _f1(_predicted(labels_found.gold_labels.collect(), rules), truth)
        if model == "kommuna":
            trained = train_classifier(
                rows["rest"].drop("tags").lazy(),
                labels_found.labels,
                rows["dev"].lazy(),
                labels_found.cross_fitted,
                label="tags",
            )
            for name, tagger in (("tagger", trained.model), ("tagger of dev rows alone", trained.dev_only)):
                found[name] = _f1(tagger.chosen(tagger.probabilities(rows["test"])), truth)
    counted = label_messages(of["rest"], rules, None, None, of["test"], model="majority")
    assert counted.gold_labels is not None
    found["labels of kommuna without dev rows"] = _without_dev(of, rules, truth)
    found["votes counted"] = _f1(_predicted(counted.gold_labels.collect(), rules), truth)
    labels = counted.labels.collect()
    known = labels["tags"].is_not_null()
    texts = [*rows["rest"]["text"].filter(known), *rows["dev"]["text"]]
    training_labels = np.vstack(
        [_predicted(labels, rules)[known.to_numpy()], _table(rows["dev"]["tags"].to_list(), rules)]
    )
    predicted = _logistic_regression(texts, training_labels, rows["test"]["text"].to_list())
    found["logistic regression on counted votes and dev rows"] = _f1(predicted, truth)
    return found


def _without_dev(of: dict[str, pl.LazyFrame], rules: RuleSet, truth: Any) -> tuple[float, float]:
    labels_found = label_messages(of["rest"], rules, None, None, of["test"]).gold_labels
    assert labels_found is not None
    return _f1(_predicted(labels_found.collect(), rules), truth)


def _logistic_regression(texts: list[str], labels: Any, test_texts: list[str]) -> Any:
    """Fits scikit-learn, one against the rest, with balanced classes, which is far better here than unbalanced ones."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    rows, predicted = words.fit_transform(texts), np.zeros((len(test_texts), labels.shape[1]), dtype=bool)
    for j in np.flatnonzero(labels.any(axis=0)):
        model = LogisticRegression(C=10.0, class_weight="balanced", solver="liblinear").fit(rows, labels[:, j])
        predicted[:, j] = model.predict(words.transform(test_texts))
    return predicted


def _kinds() -> Iterator[tuple[str, RuleSet, pl.DataFrame]]:
    messages, rules, votes = _cast()
    yield f"{len(rules.rules)} rules, one for each word", rules, votes
    words: dict[str, list[str]] = {}
    for rule in rules.rules:
        words.setdefault(rule.tag or "", []).extend(rule.any if isinstance(rule, KeywordRule) else ())
    merged = [{"name": tag, "tag": tag, "any": own} for tag, own in words.items()]
    one = RuleSet.read({"tags": list(rules.tags), "multi_label": True, "rules": merged}, where="nlupp")
    yield f"{len(merged)} rules, one for each tag", one, apply_rules(messages.lazy(), one).votes.collect()


def _predicted(labels: pl.DataFrame, rules: RuleSet) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return _table(labels["tags"].cast(pl.List(pl.String)).to_list(), rules)


def _f1(predicted: Any, truth: Any) -> tuple[float, float]:
    """Returns macro F1 over the present tags, and micro F1."""
    right, both = (predicted & truth).sum(axis=0), predicted.sum(axis=0) + truth.sum(axis=0)
    there = truth.any(axis=0)
    return float((2 * right[there] / both[there]).mean()), float(2 * right.sum() / both.sum())


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
    """Makes a rule for each word of a tag's name, and for each word that is specific to the tag in the writing folds."""
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
    return RuleSet.read({"tags": tags, "multi_label": True, "rules": rules}, where="nlupp")


def _table(lists: list[list[str] | None], rules: RuleSet) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.array([[tag in (tags or []) for tag in rules.tags] for tags in lists])
