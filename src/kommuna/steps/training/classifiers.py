"""The classifiers of `train_classifier`: each is fitted on weak and dev rows, and on the dev rows alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.errors import DataError
from kommuna.spec.choices import EncoderChoice
from kommuna.steps.training.features.embeddings import TextEmbeddings, chosen
from kommuna.steps.training.features.tabular import TableFeatures
from kommuna.steps.training.features.tfidf import PIECES_ROWS, TextFeatures
from kommuna.steps.training.fit import semantic_prior, weak_prior, weighted_rows
from kommuna.steps.training.fit.boosted_trees import BoostedTrees
from kommuna.steps.training.fit.folds import Folds
from kommuna.steps.training.fit.soft_logistic import Link, Matrix
from kommuna.steps.training.fit.training_data import TrainingData
from kommuna.steps.training.fit.weak_prior import best_sharpness
from kommuna.steps.training.tagger import EnsembleTables, EnsembleTexts, LinearTexts, MixedTexts, Scorer, texts

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # weight of the embeddings against TF-IDF


@dataclass(frozen=True)
class TrainingRows:
    """The labeled tables and parameters that a classifier is trained with.

    Attributes:
        weak: `n` rows with the feature columns.
        weak_labels: `n x k` probabilities.
        dev: `d` rows with the feature columns.
        dev_labels: `d x k` zeros and ones.
        folds: folds of the dev rows.
        columns: the feature columns; of a text classifier the text column alone.
        link: softmax for one tag per row, sigmoid for several.
        dev_weight: weight of a dev row.
        seed: seed of all random numbers.
        tags: `k` names.
        encoder: encoder of the embeddings.
    """

    weak: pl.DataFrame
    weak_labels: Matrix
    dev: pl.DataFrame
    dev_labels: Matrix
    folds: Folds
    columns: tuple[str, ...]
    link: Link
    dev_weight: float
    seed: int
    tags: tuple[str, ...]
    encoder: EncoderChoice = "auto"

    def with_features(self, weak: Any, dev: Any) -> TrainingData:
        """Returns the data with the features of weak and dev rows.

        Args:
            weak: `n x p` features of the weak rows.
            dev: `d x p` features of the dev rows.
        """
        return TrainingData(weak, self.weak_labels, dev, self.dev_labels, self.link, self.dev_weight)


class TrainedScorers(NamedTuple):
    """Two scorers, their `d x k` scores of held-out dev rows (None if rows are too few), and the chosen parameters.

    `as_final` has the dev rows whose held-out scores are as extreme as the model's; None means all.
    """

    model: Scorer
    dev_only: Scorer
    held_out: Matrix | None
    held_out_dev_only: Matrix | None
    chosen: dict[str, float]
    as_final: NDArray[np.bool_] | None = None


def fit_linear(rows: TrainingRows) -> TrainedScorers:
    """Fits TF-IDF and logistic regression on soft labels, see `weak_prior`."""
    features, weak, dev = _text_features(rows)
    fitted = weak_prior.fit(rows.with_features(weak, dev), rows.folds, seed=rows.seed)
    choice = fitted.choice
    return TrainedScorers(
        LinearTexts(rows.columns[0], features, fitted.model, rows.link),
        LinearTexts(rows.columns[0], features, fitted.dev_only, rows.link),
        _times(choice.held_out, choice.sharpness),
        _times(choice.held_out_dev_only, choice.dev_sharpness),
        {"weak_strength": choice.strength, "inverse_penalty": choice.inverse_penalty, "sharpness": choice.sharpness},
        choice.as_final,
    )


def fit_bayes(rows: TrainingRows) -> TrainedScorers:
    """Fits TF-IDF and complement naive Bayes (Rennie et al. 2003), see `weighted_rows`."""
    from scipy.sparse import vstack
    from sklearn.naive_bayes import ComplementNB

    features, weak, dev = _text_features(rows)
    fitted = weighted_rows.fit(
        lambda: ComplementNB(alpha=0.3),
        lambda a, b: vstack([a, b], format="csr"),
        rows.with_features(weak, dev),
        rows.folds,
    )
    text = rows.columns[0]
    return _weighted(
        fitted, EnsembleTexts(text, features, fitted.model), EnsembleTexts(text, features, fitted.dev_only)
    )


def fit_embeddings(rows: TrainingRows) -> TrainedScorers:
    """Fits a linear model of sentence embeddings, tag names, weak labels and dev rows, see `semantic_prior`.

    Raises:
        SpecError: there is no such encoder, or the extra is not installed.
    """
    text = rows.columns[0]
    some = rows.folds.rows  # at most 20,000: encoding takes minutes, and the means of tags need no more
    weak_texts, dev_texts = texts(rows.weak[some.tolist()], text), texts(rows.dev, text)
    encoder = chosen(rows.encoder, [*dev_texts, *weak_texts])
    features = TextEmbeddings(encoder).centred([*weak_texts, *dev_texts])
    weak, dev = features.transform(weak_texts), features.transform(dev_texts)
    names = features.transform([tag.replace("_", " ").replace("-", " ").lower() for tag in rows.tags])
    data = replace(rows.with_features(weak, dev), weak_labels=rows.weak_labels[some])
    fitted = semantic_prior.fit(data, names, rows.folds)
    choice = fitted.choice
    return TrainedScorers(
        LinearTexts(text, features, fitted.model, rows.link),
        LinearTexts(text, features, fitted.dev_only, rows.link),
        _times(choice.held_out, choice.sharpness),
        _times(choice.held_out_dev_only, choice.alone_sharpness),
        {"name_weight": choice.name_weight, "embeddings_strength": choice.strength, "embeddings_trust": choice.trust},
    )


def fit_both(rows: TrainingRows) -> TrainedScorers:
    """Fits TF-IDF and embeddings separately, and mixes them by the shares that suit held-out dev rows best.

    A share may be 0. Scores are added (a product of experts, Hinton 2002).
    """
    linear, embedded = fit_linear(rows), fit_embeddings(rows)
    share = _share(linear.held_out, embedded.held_out, rows)

    def mixed(
        a: Scorer, b: Scorer, a_held: Matrix | None, b_held: Matrix | None, some: Any = slice(None)
    ) -> tuple[Scorer, Matrix | None]:
        held_out, sharpness = None, 1.0
        if a_held is not None and b_held is not None:
            held_out = np.float32(1 - share) * a_held + np.float32(share) * b_held
            sharpness, _ = best_sharpness(held_out[some], rows.dev_labels[some], rows.link)
        weighed = ((a, sharpness * (1 - share)), (b, sharpness * share))
        parts, weights = zip(*[(part, weight) for part, weight in weighed if weight], strict=True)
        return MixedTexts(parts, weights, rows.link), _times(held_out, sharpness)

    as_final = linear.as_final if share < 1 else None
    some = slice(None) if as_final is None else as_final
    model, held_out = mixed(linear.model, embedded.model, linear.held_out, embedded.held_out, some)
    alone, held_alone = mixed(linear.dev_only, embedded.dev_only, linear.held_out_dev_only, embedded.held_out_dev_only)
    found = linear.chosen | embedded.chosen | {"embeddings_share": share}
    return TrainedScorers(model, alone, held_out, held_alone, found, as_final)


def _share(linear: Matrix | None, embedded: Matrix | None, rows: TrainingRows) -> float:
    """Returns the embeddings' share that suits held-out dev rows best; one half if there are too few."""
    if linear is None or embedded is None:
        return 0.5
    sums = {share: np.float32(1 - share) * linear + np.float32(share) * embedded for share in SHARES}
    return min(SHARES, key=lambda share: best_sharpness(sums[share], rows.dev_labels, rows.link)[1])


def fit_trees(rows: TrainingRows) -> TrainedScorers:
    """Fits histogram gradient boosting with native categories, see `weighted_rows`."""
    for name in rows.columns:
        if rows.weak.schema[name] != rows.dev.schema[name]:
            raise DataError(
                f"feature '{name}' is {rows.weak.schema[name]} in messages and {rows.dev.schema[name]} in dev",
                fix="read both with the same declared schema",
            )
    columns = list(rows.columns)
    features = TableFeatures(columns).fit(pl.concat([rows.dev.select(columns), rows.weak.select(columns)]))

    fitted = weighted_rows.fit(
        lambda: BoostedTrees(features.is_category, rows.seed),
        lambda a, b: np.vstack([a, b]),
        rows.with_features(features.transform(rows.weak), features.transform(rows.dev)),
        rows.folds,
    )
    return _weighted(fitted, EnsembleTables(features, fitted.model), EnsembleTables(features, fitted.dev_only))


def _text_features(rows: TrainingRows) -> tuple[TextFeatures, Any, Any]:
    weak_texts, dev_texts = texts(rows.weak, rows.columns[0]), texts(rows.dev, rows.columns[0])
    features = TextFeatures(pieces=len(weak_texts) <= PIECES_ROWS)
    try:
        found = features.fit_transform([*dev_texts, *weak_texts])
    except ValueError:
        raise DataError(
            f"column '{rows.columns[0]}' has no words", fix="check the text column and the output of the masking step"
        ) from None
    return features, found[len(dev_texts) :], found[: len(dev_texts)]


def _weighted(fitted: weighted_rows.FittedEnsembles, model: Scorer, dev_only: Scorer) -> TrainedScorers:
    return TrainedScorers(
        model,
        dev_only,
        fitted.held_out,
        fitted.held_out_dev_only,
        {"weak_weight": fitted.weak_weight, "sharpness": fitted.model.scaling.factor},
    )


def _times(scores: Matrix | None, factor: float) -> Matrix | None:
    return None if scores is None else np.float32(factor) * scores
