"""Fits one linear model from weak labels and dev rows: weak rows set the prior, dev rows correct it.

1. A model of the dev rows alone, its scores calibrated on held-out folds.
2. Each weak label is combined with that model: q(y) ~ label_model(y) * dev_model(y) / prior(y), a product of two
   experts with different evidence (rules; words of dev rows), smoothed if dev rows are few.
3. A model of all messages under q.
4. A model of the dev rows whose penalty pulls towards `strength` times the weak model instead of towards zero
   (Chelba and Acero 2004, "Adaptation of maximum entropy capitalizer").

`strength` and the penalty are chosen on held-out dev rows (`Folds`); strength 0 is the dev rows alone, so weak labels
that harm are not used. On Banking77 (GPT-4o keyword rules, 1,000 dev rows) mixing weak and dev rows by weights,
whatever the weights, ends below the dev rows alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.training.fit import soft_logistic
from kommuna.steps.training.fit.folds import MIN_ROWS, Folds
from kommuna.steps.training.fit.soft_logistic import Linear, Link, Matrix, RowSpace, log_losses, probabilities
from kommuna.steps.training.fit.training_data import TrainingData

PENALTIES = (10.0, 50.0, 250.0)
STRENGTHS = (0.0, 0.5, 1.0, 2.0)
TEMPERATURES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
WEAK_PENALTY: dict[Link, float] = {"softmax": 3.0, "sigmoid": 100.0}  # with several tags, each has few rows
WEAK_ITERATIONS = 15  # early stopping: with 9,000 messages, 40 iterations gave no better tagger
SEVERAL_ITERATIONS = 60  # with several tags per row: .72 macro F1 on NLU++ after 60, .66 after 15
MANY_ROWS = 20_000  # with more, the model of the messages is fitted in batches
DEV_ITERATIONS = 30
FOLD_WEAK_ROWS = 2000  # messages per fold: enough to compare strengths
_BLOCK = 20_000  # messages whose labels are combined at once
FINAL_ROWS = 300  # dev rows that are also held out from models of all messages: enough to learn a calibration
FLOOR = 1e-3  # lower bound of a label model's probability, so that no rule excludes all other tags


@dataclass(frozen=True)
class WeakPriorChoice:
    """The parameters chosen on held-out dev rows; the defaults if there are too few.

    Attributes:
        inverse_penalty: of the dev rows' model.
        dev_sharpness: factor on the scores of the model of the dev rows alone.
        strength: of the weak model.
        sharpness: factor on the model's scores.
        held_out: `d x k` scores of held-out dev rows, before the factor.
        held_out_dev_only: the same of the model of the dev rows alone.
        as_final: `d`, the dev rows whose held-out scores are as extreme as the final model's: the models of the other
            rows saw fewer messages. None means all rows.
    """

    inverse_penalty: float = PENALTIES[1]
    dev_sharpness: float = 1.0
    strength: float = STRENGTHS[-1]
    sharpness: float = 1.0
    held_out: Matrix | None = None
    held_out_dev_only: Matrix | None = None
    as_final: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class FittedWeakPrior:
    """The model, the model of the dev rows alone, and the chosen parameters."""

    model: Linear
    dev_only: Linear
    choice: WeakPriorChoice


def fit(data: TrainingData, folds: Folds, *, seed: int) -> FittedWeakPrior:
    """Fits the model described above.

    Args:
        data: sparse features; `dev_weight` is the weight of a dev row against the prior.
        folds: folds of the dev rows.
        seed: seed of the sample of messages on which parameters are chosen.
    """
    space = RowSpace(data.dev)
    some = folds.some(FOLD_WEAK_ROWS, seed=seed)
    choice = _choose(data, some, space)
    if choice.held_out is not None and choice.strength > 0 and len(some.rows) < len(folds.rows):
        choice = _with_final_scores(data, folds, space, choice)
    labels, link, weight = data.dev_labels, data.link, data.dev_weight
    dev_only = space.lift(_dev_model(space.coordinates, labels, choice.inverse_penalty, link, weight))
    model = dev_only
    if choice.strength > 0 and data.weak.shape[0]:
        prior = _weak_model(data.weak, data.weak_labels, dev_only, labels, choice.dev_sharpness, link, seed=seed)
        pull = np.float32(choice.strength) * prior.scores(data.dev)
        correction = _dev_model(space.coordinates, labels, choice.inverse_penalty, link, weight, offset=pull)
        model = space.lift(correction).plus(prior, times=choice.strength)
    return FittedWeakPrior(scaled(model, choice.sharpness), scaled(dev_only, choice.dev_sharpness), choice)


def _choose(data: TrainingData, folds: Folds, space: RowSpace) -> WeakPriorChoice:
    weak, labels, link, dev_weight = data.weak[folds.rows], data.dev_labels, data.link, data.dev_weight
    rows, k = labels.shape
    if rows < MIN_ROWS:
        return WeakPriorChoice()
    weak_space = RowSpace(weak) if weak.shape[0] else None

    alone = {penalty: np.zeros((rows, k), np.float32) for penalty in PENALTIES}
    models: dict[tuple[float, int], Linear] = {}
    for fold, train, held in folds:
        for penalty in PENALTIES:
            model = _dev_model(space.coordinates[train], labels[train], penalty, link, dev_weight)
            alone[penalty][held] = model.scores(space.coordinates[held])
            models[penalty, fold] = model
    penalty = min(PENALTIES, key=lambda c: best_sharpness(alone[c], labels, link)[1])
    dev_sharpness, _ = best_sharpness(alone[penalty], labels, link)

    scores = {0.0: alone[penalty]} | {s: np.zeros((rows, k), np.float32) for s in STRENGTHS if s and weak_space}
    for fold, train, held in folds if len(scores) > 1 else ():
        dev_only = space.lift(models[penalty, fold])
        prior = _weak_model(weak, folds.labels[fold], dev_only, labels[train], dev_sharpness, link, space=weak_space)
        pull = prior.scores(data.dev)
        for strength in scores:
            if strength:
                offset = np.float32(strength) * pull
                model = _dev_model(
                    space.coordinates[train], labels[train], penalty, link, dev_weight, offset=offset[train]
                )
                scores[strength][held] = model.scores(space.coordinates[held]) + offset[held]
    found = {strength: best_sharpness(z, labels, link) for strength, z in scores.items()}
    strength = min(found, key=lambda s: found[s][1])
    return WeakPriorChoice(penalty, dev_sharpness, strength, found[strength][0], scores[strength], scores[0.0])


def _with_final_scores(data: TrainingData, folds: Folds, space: RowSpace, choice: WeakPriorChoice) -> WeakPriorChoice:
    """Scores some folds anew by models of all messages of the folds, and chooses the sharpness on them.

    Models of `FOLD_WEAK_ROWS` messages rank strengths like the final one, but are less confident: on Banking77 with
    1,000 dev rows .80 on average, where the final model had .87 and .78 of the rows were right.
    """
    labels, link = data.dev_labels, data.link
    held_out, of_final = choice.held_out, np.zeros(len(labels), dtype=np.bool_)
    assert held_out is not None
    scores, weak = held_out.copy(), data.weak[folds.rows]
    for fold, train, held in folds:
        if of_final.sum() >= FINAL_ROWS:
            break
        fitted = _dev_model(space.coordinates[train], labels[train], choice.inverse_penalty, link, data.dev_weight)
        dev_only = space.lift(fitted)
        prior = _weak_model(
            weak, folds.labels[fold], dev_only, labels[train], choice.dev_sharpness, link, of=data.weak.shape[0]
        )
        pull = np.float32(choice.strength) * prior.scores(data.dev)
        model = _dev_model(
            space.coordinates[train],
            labels[train],
            choice.inverse_penalty,
            link,
            data.dev_weight,
            offset=pull[train],
        )
        scores[held] = model.scores(space.coordinates[held]) + pull[held]
        of_final[held] = True
    sharpness, _ = best_sharpness(scores[of_final], labels[of_final], link)
    scores[~of_final] *= np.float32(choice.sharpness / sharpness)
    return replace(choice, sharpness=sharpness, held_out=scores, as_final=of_final)


def _dev_model(
    rows: Any, labels: Matrix, penalty: float, link: Link, dev_weight: float, *, offset: Matrix | None = None
) -> Linear:
    return soft_logistic.fit(
        rows, labels, link=link, inverse_penalty=penalty * dev_weight, offset=offset, iterations=30
    )


def _weak_model(
    weak: Any,
    weak_labels: Matrix,
    dev_only: Linear,
    dev_labels: Matrix,
    sharpness: float,
    link: Link,
    *,
    seed: int = 0,
    space: RowSpace | None = None,
    of: int | None = None,
) -> Linear:
    """Fits step 3; `of` is the number of messages that decides how, if it is not that of `weak`."""
    agreed = np.empty_like(weak_labels)
    for start in range(0, len(agreed), _BLOCK):
        part = slice(start, start + _BLOCK)
        scores = np.float32(sharpness) * dev_only.scores(weak[part])
        agreed[part] = product_with_dev_model(weak_labels[part], probabilities(scores, link), dev_labels, link)
    if (of or len(agreed)) > MANY_ROWS:
        return soft_logistic.fit_in_batches(weak, agreed, link=link, seed=seed)
    rows = weak if space is None else space.coordinates
    iterations = WEAK_ITERATIONS if link == "softmax" else SEVERAL_ITERATIONS
    model = soft_logistic.fit(rows, agreed, link=link, inverse_penalty=WEAK_PENALTY[link], iterations=iterations)
    return model if space is None else space.lift(model)


def product_with_dev_model(weak_labels: Matrix, dev_probabilities: Matrix, dev_labels: Matrix, link: Link) -> Matrix:
    """Returns the product of the label model and the dev model over the prior, `n x k`.

    Args:
        weak_labels: `n x k`, the label model's probabilities.
        dev_probabilities: `n x k`, the calibrated dev model's probabilities of the same rows.
        dev_labels: `d x k`; they give the prior and the smoothing.
        link: softmax for one tag per row, sigmoid for several.
    """
    rows, k = dev_labels.shape
    pseudo = k if link == "softmax" else 2
    even = 1 / k if link == "softmax" else 0.5
    prior = ((dev_labels.sum(axis=0) + pseudo * even) / (rows + pseudo)).astype(np.float32)
    smoothing = np.float32(pseudo / (rows + pseudo))
    dev_probabilities = (1 - smoothing) * dev_probabilities + smoothing * prior
    if link == "softmax":
        product = np.maximum(weak_labels, FLOOR) * dev_probabilities / prior
        return np.asarray(product / product.sum(axis=1, keepdims=True), dtype=np.float32)
    clipped = np.clip(weak_labels, FLOOR, 1 - FLOOR)
    yes = clipped * dev_probabilities / prior
    no = (1 - clipped) * (1 - dev_probabilities) / (1 - prior)
    return np.asarray(yes / (yes + no), dtype=np.float32)


def best_sharpness(scores: Matrix, labels: Matrix, link: Link) -> tuple[float, float]:
    """Returns the factor on scores of least mean log loss, and that loss.

    Args:
        scores: `n x k` logits.
        labels: `n x k` true tags, or probabilities.
        link: softmax for one tag per row, sigmoid for several.
    """
    losses = {t: float(log_losses(np.float32(t) * scores, labels, link).sum(axis=1).mean()) for t in TEMPERATURES}
    best = min(losses, key=lambda t: losses[t])
    return best, losses[best]


def scaled(model: Linear, factor: float) -> Linear:
    """Returns a model whose scores are multiplied by a factor."""
    return Linear(np.float32(factor) * model.coef, np.float32(factor) * model.intercept)
