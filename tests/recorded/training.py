"""Cases of the steps that train, evaluate and use classifiers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tests.recorded.tables import TAGS, cross_fitted, labels, messages, respelled, rule_set, several, votes

from kommuna.steps.log_odds_calibration import LogOddsCalibration
from kommuna.steps.training.confidence import Acceptance
from kommuna.steps.training.evaluate import evaluate
from kommuna.steps.training.features.tabular import TableFeatures
from kommuna.steps.training.features.tfidf import TextFeatures
from kommuna.steps.training.fit.soft_logistic import Linear
from kommuna.steps.training.predict import predict
from kommuna.steps.training.tagger import EnsembleTables, LinearTexts, Tagger
from kommuna.steps.training.train import train_classifier

LABELED, DEV, GOLD = messages(240), messages(60, first=500), messages(40, first=900)
UNLABELED = LABELED.drop("tag")
NEW = pl.DataFrame(
    {
        "id": ["a", "b", "c", "d", "e"],
        "text": ["lost my card, please", "ставка по кредиту", None, "", "open a deposit, loan?"],
        "amount": [10.0, None, float("nan"), 499.0, 0.0],
        "channel": ["chat", "почта", None, "never seen", "chat"],
    }
)


WEIGHTS = {"card": 4.0, "карта": 3.0, "lost": 1.0, "loan": 4.0, "кредиту": 3.5, "deposit": 5.0, "вклада": 2.5}
OF = {"card": 0, "карта": 0, "lost": 0, "loan": 1, "кредиту": 1, "deposit": 2, "вклада": 2}


def linear_model(*, multi_label: bool = False, flip: float = 1.0) -> Tagger:
    """Returns a TF-IDF tagger with fixed weights."""
    features = TextFeatures(pieces=True).fit(UNLABELED["text"].to_list())
    coef = np.zeros((len(features.terms), len(TAGS)), np.float32)
    for i, term in enumerate(features.terms):
        coef[i, OF.get(term, i % 3)] = flip * WEIGHTS.get(term, 0.01 * (i % 7))
    linear = Linear(coef, np.array([-0.2, 0.1, -0.4], np.float32))
    scorer = LinearTexts("text", features, linear, "sigmoid" if multi_label else "softmax")
    given_from = (0.6, 0.7, 0.5) if multi_label else ()
    return Tagger("tfidf_logreg", tuple(TAGS), multi_label, ("text",), scorer, given_from, at_least_one=multi_label)


def calibrated_model() -> Tagger:
    """The same tagger, calibrated and with a threshold of acceptance."""
    calibration, acceptance = LogOddsCalibration(0.6, 0.3), Acceptance(0.9, 0.8, 0.5, 200)
    return replace(linear_model(), calibration=calibration, acceptance=acceptance)


class Summed:
    """A substitute for an ensemble: its probabilities depend on the codes and missing values of the features."""

    def probabilities(self, rows: Any) -> Any:
        raw = np.stack([np.nan_to_num(rows).sum(axis=1) % 7, np.isnan(rows).sum(axis=1), np.ones(len(rows))], axis=1)
        return np.asarray((raw + 1) / (raw + 1).sum(axis=1, keepdims=True), np.float32)


def table_model() -> Tagger:
    """A tagger of columns."""
    columns = ("amount", "channel")
    scorer = EnsembleTables(TableFeatures(columns).fit(UNLABELED), Summed())  # type: ignore[arg-type]
    return Tagger("boosted_trees", tuple(TAGS), False, columns, scorer)


def trained(
    *,
    multi_label: bool = False,
    with_cross_fitted: bool = True,
    rows: int = 240,
    dev_rows: int = 60,
    labeled: pl.DataFrame = LABELED,
    labeled_dev: pl.DataFrame = DEV,
    **parameters: Any,
) -> dict[str, Any]:
    """Describes models by their predictions, since their files depend on library versions."""
    table, dev = labeled.head(rows), labeled_dev.head(dev_rows)
    cross_fitted_labels = cross_fitted(table, dev, multi_label=multi_label).lazy() if with_cross_fitted else None
    given = labels(table, multi_label=multi_label).lazy()
    dev = several(dev) if multi_label else dev
    made = train_classifier(table.drop("tag").lazy(), given, dev.lazy(), cross_fitted_labels, **parameters)
    return {"model": _model(made.model), "dev_only": _model(made.dev_only), "metrics": made.metrics}


def _model(model: Tagger) -> dict[str, Any]:
    about = {name: getattr(model, name) for name in model.__dataclass_fields__ if name != "scorer"}
    return about | {"tags given": model.predict_table(NEW)}


def train_words(_: Path) -> Any:
    return trained()


def train_words_without_cross_fitted(_: Path) -> Any:
    return trained(with_cross_fitted=False, min_confidence=0.5, dev_weight=3.0, max_rows=100, seed=1)


def train_calibrated_words(_: Path) -> Any:
    return trained(rows=60, dev_rows=120, labeled_dev=messages(120, first=500), accept_precision=0.7)


def train_respelled_words(_: Path) -> Any:
    return trained(labeled=respelled(LABELED), rows=60, dev_rows=30)


def train_words_of_multi_label(_: Path) -> Any:
    return trained(multi_label=True, at_least_one=True)


def train_bayes(_: Path) -> Any:
    return trained(classifier="tfidf_cnb")


def train_embeddings(_: Path) -> Any:
    return trained(classifier="embeddings", encoder="minilm", rows=60, dev_rows=30)


def train_words_and_embeddings(_: Path) -> Any:
    return trained(
        classifier="tfidf_embeddings", encoder="multilingual_e5", with_cross_fitted=False, rows=30, dev_rows=30
    )


def train_trees(_: Path) -> Any:
    return trained(classifier="boosted_trees", features=("amount", "channel"), rows=80, dev_rows=30)


def evaluate_against_all(_: Path) -> Any:
    return evaluate(
        linear_model(), GOLD.lazy(), DEV.lazy(), UNLABELED.lazy(), linear_model(flip=-1.0), labels(GOLD).lazy(),
        champion=linear_model(flip=0.1), gold_votes=votes(GOLD, rule_set()), max_text_overlap=1.0,
    )  # fmt: skip


def evaluate_multi_label(_: Path) -> Any:
    gold, dev = several(GOLD).lazy(), several(DEV).lazy()
    model = linear_model(multi_label=True)
    return evaluate(model, gold, dev, UNLABELED.lazy(), max_text_overlap=1.0, title="Несколько тем")


def evaluate_a_calibrated_model(_: Path) -> Any:
    return evaluate(calibrated_model(), GOLD.lazy(), DEV.lazy(), UNLABELED.lazy(), max_text_overlap=1.0)


def evaluate_tables(_: Path) -> Any:
    return evaluate(table_model(), GOLD.lazy(), DEV.lazy(), UNLABELED.lazy(), max_text_overlap=1.0)


class Fixed:
    """A scorer whose probabilities are written in the text, so that every metric can be computed by hand."""

    def probabilities(self, frame: pl.DataFrame) -> Any:
        return np.array([[float(part) for part in text.split()] for text in frame["text"]], dtype=np.float32)

    def words(self, text: str, column: int) -> dict[str, float]:
        return {text.split()[column]: 1.0}


def evaluate_known_probabilities(_: Path) -> Any:
    model = Tagger("tfidf_logreg", tuple(TAGS), False, ("text",), Fixed(), never_seen=("вклад",))  # type: ignore[arg-type]
    texts_of_rows = [
        "0.9 0.05 0.05",
        "0.8 0.1 0.1",
        "0.1 0.7 0.2",
        "0.4 0.4 0.2",
        "0.3 0.6 0.1",
        "0.5 0.3 0.2",
        "0.2 0.2 0.6",
    ]
    truth = ["card", "loan", "loan", "loan", "вклад", "card", "card"]
    gold = pl.DataFrame({"id": range(7), "text": texts_of_rows, "tag": truth})
    dev = pl.DataFrame({"id": [10, 11, 12], "text": ["0 0 1", "0 1 0", "1 0 0"], "tag": ["loan", "card", "loan"]})
    return evaluate(model, gold.lazy(), dev.lazy(), pl.LazyFrame({"id": [20, 21]}), max_text_overlap=0.0)


def evaluate_a_long_mistake(_: Path) -> Any:
    model = Tagger("tfidf_logreg", tuple(TAGS), False, ("text",), Fixed())  # type: ignore[arg-type]
    gold = pl.DataFrame({"id": [1, 2], "text": [f"0.1{'0' * 400} 0.7 0.2", "0.6 0.4 0"], "tag": ["card", "card"]})
    dev = pl.DataFrame({"id": [3], "text": ["0.6 0.4 0"], "tag": ["loan"]})
    return evaluate(model, gold.lazy(), dev.lazy(), pl.LazyFrame({"id": [4]}), max_text_overlap=0.5)


def evaluate_a_tag_that_gold_has_not(_: Path) -> Any:
    """Truth card, card; predicted card, loan: the macro F1 is a third."""
    model = Tagger("tfidf_logreg", tuple(TAGS), False, ("text",), Fixed())  # type: ignore[arg-type]
    gold = pl.DataFrame({"id": [1, 2], "text": ["0.6 0.4 0", "0.3 0.7 0"], "tag": ["card", "card"]})
    dev = pl.DataFrame({"id": [3], "text": ["1 0 0"], "tag": ["loan"]})
    return evaluate(model, gold.lazy(), dev.lazy(), pl.LazyFrame({"id": [4]}))


def evaluate_gold_rows_without_a_label(_: Path) -> Any:
    """Unlabeled gold rows that are also messages or dev rows: they are not evaluated, so they are not leakage."""
    left_out = pl.concat([UNLABELED.head(3), DEV.drop("tag").head(2)]).with_columns(tag=pl.lit(None, pl.String))
    gold = pl.concat([GOLD, left_out.select(GOLD.columns)])
    return evaluate(linear_model(), gold.lazy(), DEV.lazy(), UNLABELED.lazy(), max_text_overlap=1.0)


def evaluate_respelled_texts(_: Path) -> Any:
    dev = respelled(DEV.head(5).with_columns(text=GOLD["text"].head(5)))
    return evaluate(linear_model(), respelled(GOLD).lazy(), dev.lazy(), UNLABELED.lazy(), max_text_overlap=1.0)


def predict_texts(_: Path) -> Any:
    return predict(NEW.rename({"text": "said"}).lazy(), linear_model(), text="said", batch_rows=2)


def predict_respelled_texts(_: Path) -> Any:
    return predict(respelled(GOLD).lazy(), linear_model())


def predict_with_a_calibrated_model(_: Path) -> Any:
    return predict(NEW.lazy(), calibrated_model())


def predict_multi_label(_: Path) -> Any:
    return predict(NEW.lazy(), linear_model(multi_label=True))


def predict_tables(_: Path) -> Any:
    return predict(NEW.lazy(), table_model())


CASES = {
    "kommuna.steps:train_classifier": [
        train_words,
        train_words_without_cross_fitted,
        train_calibrated_words,
        train_respelled_words,
        train_words_of_multi_label,
        train_bayes,
        train_embeddings,
        train_words_and_embeddings,
        train_trees,
    ],
    "kommuna.steps:evaluate": [
        evaluate_against_all,
        evaluate_multi_label,
        evaluate_a_calibrated_model,
        evaluate_tables,
        evaluate_known_probabilities,
        evaluate_a_long_mistake,
        evaluate_a_tag_that_gold_has_not,
        evaluate_gold_rows_without_a_label,
        evaluate_respelled_texts,
    ],
    "kommuna.steps:predict": [
        predict_texts,
        predict_respelled_texts,
        predict_with_a_calibrated_model,
        predict_multi_label,
        predict_tables,
    ],
}
