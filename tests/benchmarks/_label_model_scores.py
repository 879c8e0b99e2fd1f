"""Accuracy of label models on the same rows: ours, Snorkel's if torch is installed, and crowd-kit's Dawid-Skene."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from tests.benchmarks._weak_data import Split
from tests.rigs.dawid_skene import DawidSkeneReference
from tests.rigs.vote_patterns import patterns

from kommuna.errors import KommunaError
from kommuna.steps.labeling.models.base import DevRows
from kommuna.steps.labeling.models.registry import MODELS, Settings
from kommuna.steps.labeling.votes.patterns import Codes, VotePatterns

DEFAULT, MAJORITY, NO_DEV = "kommuna", "majority", 0
OURS = (DEFAULT, MAJORITY, "weighted", "dawid_skene", "snorkel_fast")
CROWD_KIT = "crowd-kit's dawid_skene"
SNORKEL = "snorkel"
LIBRARY = (SNORKEL,) if find_spec("torch") else ()
_TIED = 1e-9

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """Shares of right answers on covered rows; macro F1 over the tags that these have. No number where the model
    refuses the votes or gives none."""

    accuracy: float
    macro_f1: float


def scores(train: Codes, tags: int, judged: Split, dev: DevRows | None, models: tuple[str, ...]) -> dict[str, Score]:
    """Models fitted on n x m votes and dev rows, on the covered rows of a split.

    Ties are broken at random, by the same chances for every model.
    """
    distinct, evaluated = patterns(train, tags), patterns(judged.votes, tags)
    covered = evaluated.covered[evaluated.row_pattern]
    chance = np.random.default_rng(0).random((len(judged), tags))
    found = {}
    for model in models:
        probabilities = _probabilities(model, distinct, evaluated, dev)[evaluated.row_pattern]
        most = np.where(probabilities >= probabilities.max(axis=1, keepdims=True) - _TIED, chance, -1.0).argmax(axis=1)
        found[model] = _score(most[covered], probabilities[covered], judged.truth[covered])
    return found


def _probabilities(model: str, distinct: VotePatterns, evaluated: VotePatterns, dev: DevRows | None) -> Floats:
    """P x k probabilities of the patterns asked about, not a number where the model fails."""
    if model == CROWD_KIT:
        return _crowd_kit(distinct.row_votes(), len(distinct.tags), dev).predict(evaluated.votes)
    try:
        return MODELS[model](Settings()).fit(distinct, dev).predict(evaluated.votes)  # type: ignore[index]
    except KommunaError:
        return np.full((len(evaluated.votes), len(evaluated.tags)), np.nan)


def _crowd_kit(votes: Codes, tags: int, dev: DevRows | None) -> DawidSkeneReference:
    if dev is None:
        return DawidSkeneReference().fit(votes, tags)
    gold = {len(votes) + i: int(tag) for i, tag in enumerate(dev.truth)}
    return DawidSkeneReference().fit(np.vstack([votes, dev.votes]), tags, gold)


def _score(most: NDArray[np.intp], probabilities: Floats, truth: NDArray[np.int64]) -> Score:
    if not np.isfinite(probabilities).all():
        return Score(np.nan, np.nan)
    macro = f1_score(truth, most, labels=np.unique(truth), average="macro", zero_division=0)
    return Score(float((most == truth).mean()), float(macro))
