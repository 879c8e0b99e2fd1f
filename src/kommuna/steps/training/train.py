"""Step: trains a classifier on weak labels and dev rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import polars as pl
import structlog
from numpy.typing import NDArray

from kommuna.errors import SpecError, nearest
from kommuna.spec.choices import Classifier, Count, EncoderChoice, Seed, Share, Weight
from kommuna.spec.texts import distinct_texts
from kommuna.steps.columns import require_text
from kommuna.steps.cores import one_blas_thread
from kommuna.steps.frames import takes_frames
from kommuna.steps.statistics import calibration_error
from kommuna.steps.training.classifiers import (
    TrainingRows,
    fit_bayes,
    fit_both,
    fit_embeddings,
    fit_linear,
    fit_trees,
)
from kommuna.steps.training.confidence import (
    LEAST_ROWS,
    acceptance_of,
    calibration_of,
    cross_fitted_error,
    predictions,
)
from kommuna.steps.training.fit.folds import random_folds, read_folds
from kommuna.steps.training.fit.soft_logistic import Link, Matrix, probabilities
from kommuna.steps.training.fit.thresholds import thresholds
from kommuna.steps.training.tables import TagSet, Weak, read_labeled, read_weak, tag_set
from kommuna.steps.training.tagger import Scorer, Tagger

log = structlog.get_logger()

_FITS = {
    "tfidf_logreg": fit_linear,
    "tfidf_cnb": fit_bayes,
    "embeddings": fit_embeddings,
    "tfidf_embeddings": fit_both,
    "boosted_trees": fit_trees,
}


class Trained(NamedTuple):
    """Outputs of `train_classifier`."""

    model: Tagger
    dev_only: Tagger
    metrics: dict[str, float]


@takes_frames
def train_classifier(
    messages: pl.LazyFrame,
    labels: pl.LazyFrame,
    dev: pl.LazyFrame,
    cross_fitted: pl.LazyFrame | None = None,
    *,
    classifier: Classifier = "tfidf_logreg",
    encoder: EncoderChoice = "auto",
    features: Sequence[str] = (),
    text: str = "text",
    key: str = "id",
    label: str = "tag",
    min_confidence: Share = 0.0,
    dev_weight: Weight = 1.0,
    max_rows: Count | None = None,
    at_least_one: bool = False,
    accept_precision: Share = 0.95,
    seed: Seed = 0,
) -> Trained:
    """Trains a tagger on soft labels and dev rows, and the same classifier on the dev rows alone.

    The weight of weak labels is chosen on held-out dev rows: see `weak_prior`, `semantic_prior`, `weighted_rows`.

    Args:
        messages: one row per message, with `key` and the features.
        labels: their labels by `label_messages`; its tags are the model's.
        dev: hand-labeled rows.
        cross_fitted: the table `cross_fitted` of `label_messages`, if the label model learned from these dev rows: each
            fold is then evaluated with labels that were not learned from it. If absent, labels are assumed to be
            independent of the dev rows; if they are not, their weight is chosen too high.
        classifier: `tfidf_logreg`, `tfidf_cnb`, `embeddings` and `tfidf_embeddings` read the column `text`; the last
            mixes TF-IDF and embeddings by shares chosen on held-out dev rows. `boosted_trees` reads `features`.
        encoder: encoder of the embeddings. `minilm` reads English; `multilingual_e5` reads Russian, English and 92
            other languages at less than half the speed; `auto` chooses `minilm` if 99 % of the letters are English.
        features: numeric and category columns for `boosted_trees`.
        text: the text column.
        key: the column that names a row.
        label: the label's column in `dev`.
        min_confidence: weak labels with a lower confidence are left out, 0 to 1.
        dev_weight: weight of a dev row.
        max_rows: the most weak rows to train on, drawn at random.
        at_least_one: if rows may have several tags: whether a row below all thresholds gets the tag whose threshold is
            nearest. For messages that all have a tag.
        accept_precision: the share of right tags among those that the model accepts without review, 0 to 1; it learns
            from which probability on, on held-out dev rows.
        seed: seed of all random numbers.

    Returns:
        model: the tagger.
        dev_only: the same classifier, trained on the dev rows alone: a baseline for the evaluation.
        metrics: rows, weak_rows, coverage, dev_rows, tags, tags_without_weak_rows, tags_without_dev_rows,
            held_out_accuracy and held_out_dev_only_accuracy (by cross-validation on dev; absent with fewer than 30 dev
            rows), the parameters chosen on held-out rows, and with several tags per row held_out_without_tag and
            held_out_dev_only_without_tag (share of rows that get no tag). With 100 dev rows or more held_out_ece_before
            and held_out_ece (the calibration error without and with calibration, cross-fitted) and held_out_accepted
            (share of predicted tags).

    Raises:
        MissingColumn, DataError, DuplicateKeys: the tables do not match; there is no dev row or no weak label.
        SpecError: `boosted_trees` without features, embeddings without the extra, an unknown classifier or encoder, or
            a parameter is out of range.
    """
    started = time.perf_counter()
    if classifier not in _FITS:
        raise SpecError(
            f"there is no classifier '{classifier}'{nearest(classifier, _FITS)}", fix=f"use one of {', '.join(_FITS)}"
        )
    columns = _feature_columns(classifier, features, text, roles={key: "key", label: "label"})
    if classifier != "boosted_trees":
        require_text(messages, text, what="messages")
        require_text(dev, text, what="dev")
    tags = tag_set(labels)
    dev_frame, dev_labels = read_labeled(dev, tags, what="dev", key=key, label=label, columns=columns)
    weak = read_weak(
        messages,
        labels,
        tags,
        key=key,
        columns=columns,
        min_confidence=min_confidence,
        max_rows=max_rows,
        seed=seed,
        first=cross_fitted,
    )
    metrics, never_seen = _describe(weak, dev_labels, tags)
    link: Link = "sigmoid" if tags.several else "softmax"
    if cross_fitted is None:
        folds = random_folds(len(dev_labels), weak.labels, seed=seed)
    else:
        folds = read_folds(cross_fitted, weak.frame[key], dev_frame[key], tags, seed=seed)
    rows = TrainingRows(
        weak.frame, weak.labels, dev_frame, dev_labels, folds, columns, link, dev_weight, seed, tags.tags, encoder
    )
    with one_blas_thread():
        fit = _FITS[classifier](rows)
    metrics |= fit.chosen

    truth = dev_labels > 0.5
    as_final = np.ones(len(truth), dtype=np.bool_) if fit.as_final is None else fit.as_final

    def tagger(scorer: Scorer, scores: Matrix | None, share: Matrix, judged: NDArray[np.bool_]) -> Tagger:
        cuts = thresholds(scores, dev_labels, share) if tags.several else ()
        model = Tagger(
            classifier, tags.tags, tags.several, columns, scorer, cuts, never_seen, at_least_one=at_least_one
        )
        if scores is None:
            return model
        return _calibrated(model, probabilities(scores[judged], link), truth[judged], accept_precision)

    share = (weak.labels.sum(axis=0) + dev_labels.sum(axis=0)) / (len(weak.labels) + len(dev_labels))
    model = tagger(fit.model, fit.held_out, share, as_final)
    dev_only = tagger(fit.dev_only, fit.held_out_dev_only, dev_labels.mean(axis=0), np.ones_like(as_final))
    held_out = {"held_out": (model, fit.held_out), "held_out_dev_only": (dev_only, fit.held_out_dev_only)}
    for name, (one, scores) in held_out.items():
        if scores is not None:
            given = one.chosen(one.calibrated(probabilities(scores, link)))
            metrics[f"{name}_accuracy"] = float(np.mean((given == truth).all(axis=1)))
            if tags.several:
                metrics[f"{name}_without_tag"] = float(np.mean(~given.any(axis=1)))
    if fit.held_out is not None and model.calibration is not None:
        p, fold = probabilities(fit.held_out[as_final], link), folds.of[as_final]
        metrics |= _calibration_figures(model, p, truth[as_final], fold)
    else:
        log.warning("train.not_calibrated", dev_rows=int(as_final.sum()), fix=f"label {LEAST_ROWS} dev rows or more")
    model, dev_only = replace(model, trained_on=dict(metrics)), replace(dev_only, trained_on=dict(metrics))
    log.info("classifier.trained", classifier=classifier, seconds=round(time.perf_counter() - started, 2), **metrics)
    return Trained(model, dev_only, metrics)


def _calibrated(model: Tagger, p: Matrix, truth: NDArray[np.bool_], precision: float) -> Tagger:
    """Returns a tagger that is calibrated on held-out dev rows, and knows from which probability on to accept tags.

    Args:
        model: the tagger.
        p: `n x k` probabilities of held-out rows, by its scorer's like.
        truth: `n x k`.
        precision: the wanted share of right tags among those accepted.
    """
    calibration = calibration_of(p, truth, several=model.multi_label)
    if calibration is None:
        return model
    cuts = np.asarray(model.thresholds, dtype=np.float32)
    model = replace(model, calibration=calibration, thresholds=tuple(calibration(cuts, 1 - cuts).tolist()))
    p = model.calibrated(p)
    chosen = model.chosen(p)
    return replace(model, acceptance=acceptance_of(p[chosen], truth[chosen], precision=precision))


def _calibration_figures(
    model: Tagger, p: Matrix, truth: NDArray[np.bool_], fold: NDArray[np.int64]
) -> dict[str, float]:
    """Returns the calibration errors of held-out rows, and the share of tags that are accepted."""
    several = model.multi_label
    return {
        "held_out_ece_before": calibration_error(*predictions(p, truth, several=several)),
        "held_out_ece": cross_fitted_error(p, truth, fold, several=several),
        "held_out_accepted": model.acceptance.coverage if model.acceptance else 0.0,
    }


def _feature_columns(
    classifier: Classifier, features: Sequence[str], text: str, *, roles: Mapping[str, str]
) -> tuple[str, ...]:
    """Returns the columns that the classifier reads; columns with one of the `roles` cannot be features."""
    if classifier != "boosted_trees":
        if features:
            raise SpecError(
                f"{classifier} reads only the text, but features are given",
                fix="leave features out, or use classifier='boosted_trees'",
            )
        return (text,)
    for column in features:
        if column in roles:
            raise SpecError(f"column '{column}' is the {roles[column]}, not a feature", fix="remove it from features")
    if not features:
        raise SpecError(
            "boosted_trees needs features", fix="list numeric and category columns: features=['amount', 'country']"
        )
    return tuple(distinct_texts("features", features))


def _describe(weak: Weak, dev_labels: Matrix, tags: TagSet) -> tuple[dict[str, float], tuple[str, ...]]:
    """Returns counts and the tags without any training row; logs warnings about both."""
    rows, k = dev_labels.shape
    if rows < k:
        log.warning("train.few_dev_rows", dev_rows=rows, tags=k, fix=f"label {k - rows} more rows: one per tag or more")
    likely = (weak.labels >= 0.5) if tags.several else weak.labels == weak.labels.max(axis=1, keepdims=True)
    no_weak = [tag for tag, n in zip(tags.tags, likely.sum(axis=0), strict=True) if not n]
    no_dev = [tag for tag, n in zip(tags.tags, dev_labels.sum(axis=0), strict=True) if not n]
    if no_weak:
        log.warning(
            "train.tags_without_weak_rows",
            tags=no_weak,
            fix="no message gets them from the rules: write rules for them",
        )
    neither = tuple(tag for tag in no_weak if tag in set(no_dev))
    if neither:
        log.warning(
            "train.tags_never_seen", tags=neither, fix="the model never predicts them: label rows or write rules"
        )
    metrics = {
        "rows": float(weak.rows),
        "weak_rows": float(weak.frame.height),
        "coverage": weak.coverage,
        "dev_rows": float(rows),
        "tags": float(k),
        "tags_without_weak_rows": float(len(no_weak)),
        "tags_without_dev_rows": float(len(no_dev)),
        "tags_never_seen": float(len(neither)),
    }
    return metrics, neither
