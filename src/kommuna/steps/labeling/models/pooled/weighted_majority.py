"""Weights of rules that vote for several tags, by how often they agree with the others."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from kommuna.steps.labeling.models.base import normalize_rows, softmax
from kommuna.steps.labeling.models.lift import Floats
from kommuna.steps.labeling.models.naive_bayes import LinearLogits
from kommuna.steps.labeling.models.outcomes import Outcomes

_ROUNDS = 5
_TAG_ROWS = 10.0  # added to each tag: a small table says little about the tags' shares
_PRIOR_ROWS, _DEFAULT_ACCURACY = 10.0, 0.7  # prior accuracy of a rule, and its weight


def with_weighted_majority(
    found: Outcomes, one_sided: Floats, indicators: sparse.csr_array, counts: Floats, discount: Floats
) -> LinearLogits:
    """Adds the weights of the iterative weighted majority vote for outcomes that are not one-sided.

    A rule that votes for several tags overlaps with rules of every tag, so its agreement with them estimates its
    accuracy. Its vote is weighted by the log-odds of its accuracy, which is estimated in turns with the posterior (Li &
    Yu 2014, "Error rate bounds and iterative weighted majority voting for crowdsourcing").

    The class prior is estimated too, but returned only where every rule votes for several tags: otherwise it would
    reflect the rules' coverage, which is their author's choice.

    Args:
        found: f outcomes of k tags.
        one_sided: f x k, weights of one-sided outcomes; other rows are ignored.
        indicators: P x f, on the distinct patterns.
        counts: P, rows with the pattern; 0 where it has no vote.
        discount: f, the weight of each outcome, 0 to 1, so that copies of a rule do not support each other.
    """
    k = found.owners.shape[1]
    if found.one_sided.all():
        return LinearLogits(one_sided, np.zeros(k))
    owned = found.owners.sum(axis=1, keepdims=True)
    judged = np.bincount(found.rule, weights=indicators.T @ counts)
    weight = found.owners / owned * discount[:, None]
    posterior = normalize_rows(np.asarray(indicators @ weight))
    for _ in range(_ROUNDS):
        supported = (indicators.T @ (posterior * counts[:, None]) * found.owners).sum(axis=1)
        right = np.bincount(found.rule, weights=supported)
        accuracy = ((right + _PRIOR_ROWS * _DEFAULT_ACCURACY) / (judged + _PRIOR_ROWS))[found.rule, None]
        lift = np.log(accuracy / owned) - np.log((1 - accuracy) / np.maximum(k - owned, 1))
        weight = found.owners * np.maximum(lift, 0) * discount[:, None]
        tags = posterior.T @ counts
        log_prior = np.log((tags + _TAG_ROWS) / (tags.sum() + k * _TAG_ROWS))
        posterior = softmax(indicators @ weight + log_prior)
    return LinearLogits(
        np.where(found.one_sided[:, None], one_sided, weight), np.zeros(k) if found.one_sided.any() else log_prior
    )
