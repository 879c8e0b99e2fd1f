"""Rules that cast votes for several tags, weighed by how often they agree with the others."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from kommuna.steps.labeling.models.base import shares, softmax
from kommuna.steps.labeling.models.lift import Floats
from kommuna.steps.labeling.models.naive_bayes import Linear
from kommuna.steps.labeling.models.outcomes import Outcomes

_ROUNDS = 5
_TAG_ROWS = 10.0  # added to each tag: of a small table its shares are not known
_PRIOR_ROWS, _DEFAULT_ACCURACY = 10.0, 0.7  # of a rule whose votes others have not judged


def with_iterated_majority(
    found: Outcomes, one_sided: Floats, happened: sparse.csr_array, counts: Floats, discount: Floats
) -> Linear:
    """The weights given for one-sided outcomes, and those of the iterative weighted majority for the others.

    A rule that casts votes for several tags meets the other rules' views of every tag, so how often it agrees tells how
    often it is right. Its vote counts by the log-odds of its accuracy, which is found in turn with the beliefs (Li & Yu
    2014, "Error rate bounds and iterative weighted majority voting for crowdsourcing").

    A class prior is learned with them, and told only where every rule casts votes for several tags: else it would be
    guessed from the rules' coverage, which is the rules' writer's choice.

    Args:
        found: f outcomes of k tags.
        one_sided: f x k; lines of other outcomes are not read.
        happened: P x f, on the distinct patterns.
        counts: P, rows with the pattern; 0 where it has no vote.
        discount: f, what each outcome counts for, 0 to 1: copies of a rule agree with each other for nothing.
    """
    k = found.owners.shape[1]
    if found.one_sided.all():
        return Linear(one_sided, np.zeros(k))
    owned = found.owners.sum(axis=1, keepdims=True)
    judged = np.bincount(found.rule, weights=happened.T @ counts)
    weight = found.owners / owned * discount[:, None]
    belief = shares(np.asarray(happened @ weight))
    for _ in range(_ROUNDS):
        supported = (happened.T @ (belief * counts[:, None]) * found.owners).sum(axis=1)
        right = np.bincount(found.rule, weights=supported)
        accuracy = ((right + _PRIOR_ROWS * _DEFAULT_ACCURACY) / (judged + _PRIOR_ROWS))[found.rule, None]
        lift = np.log(accuracy / owned) - np.log((1 - accuracy) / np.maximum(k - owned, 1))
        weight = found.owners * np.maximum(lift, 0) * discount[:, None]
        tags = belief.T @ counts
        log_prior = np.log((tags + _TAG_ROWS) / (tags.sum() + k * _TAG_ROWS))
        belief = softmax(happened @ weight + log_prior)
    return Linear(
        np.where(found.one_sided[:, None], one_sided, weight), np.zeros(k) if found.one_sided.any() else log_prior
    )
