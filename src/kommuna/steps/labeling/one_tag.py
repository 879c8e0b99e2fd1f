"""Fits label models: once where a row has one tag, once a tag where it may have several."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import structlog
from numpy.typing import NDArray

from kommuna.steps.labeling.dev import Dev
from kommuna.steps.labeling.models.base import DevRows, LabelModel
from kommuna.steps.labeling.models.majority import Majority
from kommuna.steps.labeling.models.snorkel_model import SnorkelModel
from kommuna.steps.labeling.patterns import ABSTAIN, Codes, VotePatterns, distinct

log = structlog.get_logger()

NewModel = Callable[[], LabelModel]
_FOLDS = 5


def fitted_beliefs(new_model: NewModel, patterns: VotePatterns, dev: Dev | None, asked: Codes) -> NDArray[np.float64]:
    """Probabilities (a line each of `asked`, k columns) of a model fitted on the patterns and the dev rows."""
    return _beliefs(new_model, patterns, dev, asked)


def honest_dev_beliefs(new_model: NewModel, patterns: VotePatterns, dev: Dev, *, seed: int) -> NDArray[np.float64]:
    """d x k probabilities of the dev rows, each by a model that did not see its label (five folds)."""
    if not new_model().learns_from_dev or len(dev) < 2:
        return _beliefs(new_model, patterns, None if len(dev) < 2 else dev, dev.votes)
    fold = np.random.default_rng(seed).permutation(len(dev)) % min(_FOLDS, len(dev))
    beliefs = np.zeros(dev.truth.shape)
    for f in range(fold.max() + 1):
        held = fold == f
        rest = Dev(dev.votes[~held], dev.truth[~held])
        beliefs[held] = _beliefs(new_model, patterns, rest, dev.votes[held])
    return beliefs


def _beliefs(new_model: NewModel, patterns: VotePatterns, dev: Dev | None, asked: Codes) -> NDArray[np.float64]:
    if not patterns.several_tags:
        rows = DevRows(dev.votes, dev.tag) if dev is not None else None
        return new_model().fit(patterns, rows).predict(asked)
    k = len(patterns.tags)
    beliefs = np.zeros((len(asked), k))
    few: list[str] = []
    for tag in range(k):
        own = np.flatnonzero(((patterns.votes == tag) | (patterns.votes == k + tag)).any(axis=0))
        if not len(own):
            continue  # nobody speaks for the tag: no row is said to have it
        codes = _yes_no(patterns.votes[:, own], tag)
        votes, counts, line = _again(codes, patterns)
        problem = VotePatterns(votes, counts, line, ("no", patterns.tags[tag]), tuple(patterns.rules[j] for j in own))
        rows = DevRows(_yes_no(dev.votes[:, own], tag), dev.truth[:, tag].astype(np.int64)) if dev is not None else None
        model = new_model()
        if isinstance(model, SnorkelModel) and len(own) < 3:
            few.append(patterns.tags[tag])
            model = Majority()
        answers = _yes_no(asked[:, own], tag)
        spoken = np.ones(len(asked), dtype=bool) if model.learns_from_dev else (answers != ABSTAIN).any(axis=1)
        beliefs[:, tag] = np.where(spoken, model.fit(problem, rows).predict(answers)[:, 1], 0.0)
    if few:
        log.warning("label.majority_instead", tags=few, hint="snorkel needs three rules for each tag")
    return beliefs


def _yes_no(votes: Codes, tag: int) -> Codes:
    return np.where(votes < 0, ABSTAIN, (votes == tag).astype(np.int16)).astype(np.int16)


def _again(codes: Codes, patterns: VotePatterns) -> tuple[Codes, NDArray[np.int64], NDArray[np.int32]]:
    """Distinct patterns of some rules' votes, out of the distinct patterns of all."""
    votes, _, line = distinct([np.ascontiguousarray(column) for column in codes.T])
    counts = np.bincount(line, weights=patterns.counts, minlength=len(votes)).astype(np.int64)
    return votes, counts, line[patterns.row_pattern]
